//! The open files of one subtask: one per bucket, each on its way from in progress to finished.
//!
//! ```text
//!   .part-<uid>-<subtask>-<n>.csv.inprogress --sync, rename, sync the directory--> part-<uid>-<subtask>-<n>.csv
//! ```
//! Owns: [`Buckets`]. Lives on the sink's thread. Time comes in with each call.
//! Invariant: at most `open_max` files are open; a name is used once, so a finished file is never touched again; what
//! fails leaves hidden files behind, which readers skip.
//! Left out: when rows come, and who hears of it ([`super::thread`]).

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;

use crate::sink::file::block::Block;
use crate::sink::file::disk::{FileError, create_file, publish, write, write_marker};
use crate::sink::file::rolling::{PartAge, RollingPolicy};

/// Marks a partition that is complete, as Flink's `success-file` policy does.
const SUCCESS_FILE: &str = "_SUCCESS";

/// How files are named and when they roll.
#[derive(Debug, Clone)]
pub(super) struct PartNames {
    pub(super) directory: PathBuf,
    pub(super) prefix: String,
    pub(super) suffix: String,
    /// Different in every attempt of every subtask.
    pub(super) uid: u64,
    pub(super) subtask_index: u32,
}

impl PartNames {
    fn name(&self, number: u64) -> String {
        let Self {
            prefix,
            suffix,
            uid,
            subtask_index,
            ..
        } = self;
        format!("{prefix}-{uid:016x}-{subtask_index}-{number}{suffix}")
    }
}

#[derive(Debug)]
struct Part {
    file: File,
    in_progress: PathBuf,
    finished: PathBuf,
    age: PartAge,
}

/// All buckets that have an open file.
#[derive(Debug)]
pub(super) struct Buckets {
    names: PartNames,
    policy: RollingPolicy,
    open_max: usize,
    open: HashMap<String, Part>,
    /// Number of the next file.
    next: u64,
    scratch: Vec<u8>,
}

impl Buckets {
    pub(super) fn new(names: PartNames, policy: RollingPolicy, open_max: usize) -> Self {
        Self {
            names,
            policy,
            open_max: open_max.max(1),
            open: HashMap::new(),
            next: 0,
            scratch: Vec::new(),
        }
    }

    /// Writes a block of rows at the monotonic time `now_ns`.
    pub(super) fn write(&mut self, block: &Block, now_ns: u64) -> Result<(), FileError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let written = block.for_each_bucket(&mut scratch, |bucket, rows| {
            self.append(bucket, rows, now_ns)
        });
        self.scratch = scratch;
        written
    }

    fn append(&mut self, bucket: &str, rows: &[u8], now_ns: u64) -> Result<(), FileError> {
        if !self.open.contains_key(bucket) {
            self.make_room()?;
            let part = self.create(bucket, now_ns)?;
            self.open.insert(bucket.to_owned(), part);
        }
        let Some(part) = self.open.get_mut(bucket) else {
            return Ok(());
        };
        write(&mut part.file, &part.in_progress, rows)?;
        part.age.bytes += rows.len() as u64;
        part.age.written_ns = now_ns;
        if self.policy.is_full(&part.age) {
            self.finish(bucket)?;
        }
        Ok(())
    }

    fn create(&mut self, bucket: &str, now_ns: u64) -> Result<Part, FileError> {
        let name = self.names.name(self.next);
        self.next += 1;
        let directory = self.names.directory.join(bucket);
        let in_progress = directory.join(format!(".{name}.inprogress"));
        Ok(Part {
            file: create_file(&in_progress)?,
            in_progress,
            finished: directory.join(name),
            age: PartAge {
                bytes: 0,
                opened_ns: now_ns,
                written_ns: now_ns,
            },
        })
    }

    /// Finishes the file that was written least recently, where as many are open as may be.
    fn make_room(&mut self) -> Result<(), FileError> {
        if self.open.len() < self.open_max {
            return Ok(());
        }
        let oldest = self.open.iter().min_by_key(|(_, part)| part.age.written_ns);
        match oldest.map(|(bucket, _)| bucket.clone()) {
            Some(bucket) => self.finish(&bucket),
            None => Ok(()),
        }
    }

    /// Finishes the file of a bucket, if it has one open.
    pub(super) fn finish(&mut self, bucket: &str) -> Result<(), FileError> {
        match self.open.remove(bucket) {
            Some(part) => publish(&part.file, &part.in_progress, &part.finished),
            None => Ok(()),
        }
    }

    /// Finishes all open files.
    pub(super) fn finish_all(&mut self) -> Result<(), FileError> {
        let open = std::mem::take(&mut self.open);
        let mut parts: Vec<Part> = open.into_values().collect();
        parts.sort_by(|a, b| a.finished.cmp(&b.finished));
        parts
            .iter()
            .try_for_each(|part| publish(&part.file, &part.in_progress, &part.finished))
    }

    /// Finishes files that are due by time.
    pub(super) fn roll(&mut self, now_ns: u64) -> Result<(), FileError> {
        let due = |part: &Part| self.policy.due_ns(&part.age) <= now_ns;
        let due: Vec<String> = self
            .open
            .iter()
            .filter(|(_, part)| due(part))
            .map(|(bucket, _)| bucket.clone())
            .collect();
        due.iter().try_for_each(|bucket| self.finish(bucket))
    }

    /// When the next of them is due.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        let due = self.open.values();
        due.map(|part| self.policy.due_ns(&part.age)).min()
    }

    /// Marks a partition as complete.
    pub(super) fn commit(&self, bucket: &str) -> Result<(), FileError> {
        write_marker(&self.names.directory.join(bucket).join(SUCCESS_FILE))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sink::file::testing::{Directory, block};

    fn buckets(directory: &Directory, policy: RollingPolicy, open_max: usize) -> Buckets {
        let names = PartNames {
            directory: directory.path().to_owned(),
            prefix: "part".to_owned(),
            suffix: ".csv".to_owned(),
            uid: 0xabc,
            subtask_index: 3,
        };
        Buckets::new(names, policy, open_max)
    }

    #[test]
    fn a_file_is_hidden_until_it_is_finished() {
        let directory = Directory::new();
        let mut buckets = buckets(&directory, RollingPolicy::default(), 8);
        buckets
            .write(&block(&[("a/b", "1\n"), ("a/b", "2\n")]), 0)
            .unwrap();
        let name = "part-0000000000000abc-3-0.csv";
        assert_eq!(
            directory.files(),
            [(format!("a/b/.{name}.inprogress"), "1\n2\n".into())]
        );
        buckets.finish("never").unwrap();
        buckets.finish("a/b").unwrap();
        assert_eq!(
            directory.files(),
            [(format!("a/b/{name}"), "1\n2\n".into())]
        );
        // The next row begins another file.
        buckets
            .write(&block(&[("a/b", "3\n"), ("", "4\n")]), 0)
            .unwrap();
        buckets.finish_all().unwrap();
        let names: Vec<String> = directory
            .files()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            names
                .iter()
                .filter(|name| name.starts_with("a/b/part"))
                .count(),
            2
        );
        assert!(names.iter().all(|name| !name.ends_with("inprogress")) && names.len() == 3);
    }

    #[test]
    fn files_roll_by_size_and_by_time() {
        let directory = Directory::new();
        let policy = RollingPolicy::default()
            .with_max_part_size(4)
            .with_rollover_interval(Duration::from_nanos(100))
            .with_inactivity_interval(Duration::from_nanos(30));
        let mut buckets = buckets(&directory, policy, 8);
        assert_eq!(buckets.next_due_ns(), None);
        buckets.write(&block(&[("", "12")]), 10).unwrap();
        assert_eq!(buckets.next_due_ns(), Some(40));
        buckets.write(&block(&[("", "3")]), 35).unwrap();
        buckets.roll(40).unwrap();
        assert_eq!(directory.finished(), Vec::<String>::new());
        buckets.write(&block(&[("", "4")]), 36).unwrap();
        assert_eq!(
            (directory.finished(), buckets.next_due_ns()),
            (vec!["1234".into()], None)
        );
        // Written again and again, it is due by when it was opened.
        for now_ns in [40, 65, 90, 115] {
            buckets.write(&block(&[("other", "")]), now_ns).unwrap();
        }
        buckets.write(&block(&[("", "5")]), 120).unwrap();
        buckets.roll(139).unwrap();
        assert_eq!(directory.finished().len(), 1);
        buckets.roll(140).unwrap();
        assert_eq!(directory.finished().len(), 2);
        buckets.roll(150).unwrap();
        assert_eq!(
            (directory.finished().len(), buckets.next_due_ns()),
            (3, None)
        );
    }

    #[test]
    fn as_many_files_are_open_as_may_be() {
        let directory = Directory::new();
        let mut buckets = buckets(&directory, RollingPolicy::default(), 2);
        for (now_ns, bucket) in [(0, "a"), (1, "b"), (2, "a"), (3, "c")] {
            buckets.write(&block(&[(bucket, bucket)]), now_ns).unwrap();
            assert!(buckets.open.len() <= 2);
        }
        // `b` was written least recently.
        assert_eq!(directory.finished(), ["b"]);
        buckets.finish_all().unwrap();
        assert_eq!(directory.finished(), ["aa", "b", "c"]);
    }

    #[test]
    fn errors_name_path_and_cause() {
        let directory = Directory::new();
        std::fs::write(directory.path().join("file"), "x").unwrap();
        let mut buckets = buckets(&directory, RollingPolicy::default(), 2);
        let error = buckets
            .write(&block(&[("file/below", "1")]), 0)
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("file/below") && text.contains("a file is where a directory should be"),
            "{text}"
        );
        let error = buckets
            .write(&block(&[(&"x".repeat(300), "1")]), 0)
            .unwrap_err();
        assert!(
            error.to_string().contains("shorter bucket names"),
            "{error}"
        );
        let error = buckets.commit("missing").unwrap_err().to_string();
        assert!(
            error.contains("missing/_SUCCESS") && error.contains("share"),
            "{error}"
        );
    }
}
