//! Names of buckets: directories below the sink's own one.
//!
//! Owns: [`check_bucket`], [`append_partition`]. Invariant: a checked bucket names a place inside the sink's directory,
//! and only one name leads to it.
//! Left out: what else the file system thinks of a name, which it says when a file is opened.
//!
//! Source: partition directories of Hive, as Flink's `PartitionPathUtils` writes them.

use std::fmt::Write;

/// A value that is empty, in a path: what Flink and Hive write.
const DEFAULT_PARTITION: &str = "__DEFAULT_PARTITION__";

/// Bytes of a component: what Linux's file systems take.
const COMPONENT_BYTES_MAX: usize = 255;

/// Bytes of a bucket. A writer sends its committer the name of each new one: it must be small beside a buffer.
const BUCKET_BYTES_MAX: usize = 1024;

/// Why a bucket is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// It begins with `/`.
    #[error("is an absolute path; a bucket is a path below the sink's directory")]
    Absolute,
    /// `a//b` or `a/`.
    #[error("has an empty component; write `key=value/key=value`, without `/` at the end")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("has a component `.` or `..`; a bucket stays below the sink's directory")]
    Dots,
    /// A component or the whole is longer than file systems take.
    #[error("is too long: a component has 255 bytes at most, a bucket 1024")]
    TooLong,
    /// A zero byte.
    #[error("has a zero byte, which no path may have")]
    ZeroByte,
}

/// Checks the name of a bucket: a relative path of components between `/`; empty for the sink's directory itself.
///
/// # Errors
/// It is none.
pub fn check_bucket(bucket: &str) -> Result<(), BucketError> {
    if bucket.is_empty() {
        return Ok(());
    }
    if bucket.starts_with('/') {
        return Err(BucketError::Absolute);
    }
    if bucket.len() > BUCKET_BYTES_MAX {
        return Err(BucketError::TooLong);
    }
    if bucket.contains('\0') {
        return Err(BucketError::ZeroByte);
    }
    bucket.split('/').try_for_each(|component| match component {
        "" => Err(BucketError::EmptyComponent),
        "." | ".." => Err(BucketError::Dots),
        component if component.len() > COMPONENT_BYTES_MAX => Err(BucketError::TooLong),
        _ => Ok(()),
    })
}

/// Appends `key=value` to a bucket, behind a `/` if there is something already, with what has a meaning in paths
/// written as `%` and two hexadecimal digits: the minute `00:01` becomes `00%3A01`, as in Flink SQL and Hive. An empty
/// value is written as `__DEFAULT_PARTITION__`.
///
/// ```
/// use ringflow_dataplane::sink::file::append_partition;
///
/// let mut bucket = String::new();
/// append_partition(&mut bucket, "dt", "2026-01-01");
/// append_partition(&mut bucket, "hm", "00:01");
/// assert_eq!(bucket, "dt=2026-01-01/hm=00%3A01");
/// ```
pub fn append_partition(bucket: &mut String, key: &str, value: &str) {
    if !bucket.is_empty() {
        bucket.push('/');
    }
    escape(bucket, key);
    bucket.push('=');
    match value {
        "" => bucket.push_str(DEFAULT_PARTITION),
        value => escape(bucket, value),
    }
}

fn escape(bucket: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"'
            | '#'
            | '%'
            | '\''
            | '*'
            | '/'
            | ':'
            | '='
            | '?'
            | '\\'
            | '{'
            | '['
            | ']'
            | '^'
            | '\0'..='\x1f'
            | '\x7f' => {
                write!(bucket, "%{:02X}", u32::from(character))
                    .expect("a string takes what is written");
            }
            character => bucket.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_stays_below_its_directory() {
        for (bucket, checked) in [
            ("", Ok(())),
            ("dt=2026-01-01/hm=00%3A01", Ok(())),
            ("..a/b..", Ok(())),
            ("/etc", Err(BucketError::Absolute)),
            ("a//b", Err(BucketError::EmptyComponent)),
            ("a/", Err(BucketError::EmptyComponent)),
            ("..", Err(BucketError::Dots)),
            ("a/../../b", Err(BucketError::Dots)),
            ("./a", Err(BucketError::Dots)),
            (&"a".repeat(255), Ok(())),
            (&"a".repeat(256), Err(BucketError::TooLong)),
            (&"abc/".repeat(256)[..1023], Ok(())),
            (&"abc/".repeat(257)[..1027], Err(BucketError::TooLong)),
            ("a\0b", Err(BucketError::ZeroByte)),
        ] {
            assert_eq!(check_bucket(bucket), checked, "{bucket:?}");
        }
    }

    #[test]
    fn whatever_the_values_are_a_partition_is_a_bucket() {
        for value in ["", "..", "/", "a/../b", "\0", "2026-01-01 00:00:00", "ü%"] {
            let mut bucket = String::new();
            append_partition(&mut bucket, "key", value);
            append_partition(&mut bucket, "k=/", value);
            assert_eq!(check_bucket(&bucket), Ok(()), "{bucket}");
            assert_eq!(bucket.split('/').count(), 2, "{bucket}");
        }
    }
}
