//! The directory that a TaskManager keeps state in while it lives.
//!
//! Owns: [`StateDirectory`]. Without a name it is `ringflow-state-PID-N` under the system's directory for temporary files, else a
//! directory of this name in the one given.
//! Invariant: a directory that is in use is locked (`flock`), which ends with the process however it ends; so what is not locked is
//! of a process that is dead, and is removed by the next one that starts.
//! Left out: what is in it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Directories of this name are ours to remove.
const NAME: &str = "ringflow-state-";

/// A directory of this process. Its lock is held as long as it lives.
#[derive(Debug)]
pub(super) struct StateDirectory {
    path: PathBuf,
    _lock: File,
}

impl StateDirectory {
    /// Makes a directory in `base`, which no other TaskManager may use, or among temporary files.
    ///
    /// # Errors
    /// It cannot be made or written to, or `base` is another TaskManager's.
    pub(super) fn take(base: Option<&Path>) -> Result<Self> {
        match base {
            Some(base) => Self::take_in(base),
            None => Self::take_temporary(&std::env::temp_dir()),
        }
    }

    fn take_in(base: &Path) -> Result<Self> {
        std::fs::create_dir_all(base).map_err(|error| unusable(base, &error))?;
        let lock = File::open(base).map_err(|error| unusable(base, &error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(in_use(base)),
            Err(error) => return Err(unusable(base, &error.into())),
        }
        for stale in ours_in(base) {
            remove_stale(&stale);
        }
        let path = base.join(fresh_name());
        std::fs::create_dir(&path).map_err(|error| unusable(base, &error))?;
        Ok(Self { path, _lock: lock })
    }

    /// Each has its own lock there, and has it before it has its name.
    pub(super) fn take_temporary(base: &Path) -> Result<Self> {
        for found in ours_in(base) {
            let lock = File::open(&found);
            if lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok())
            {
                remove_stale(&found);
            }
        }
        let name = fresh_name();
        let (nameless, path) = (base.join(format!(".{name}")), base.join(name));
        let take = || -> std::io::Result<File> {
            std::fs::create_dir(&nameless)?;
            let lock = File::open(&nameless)?;
            flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            std::fs::rename(&nameless, &path)?;
            Ok(lock)
        };
        match take() {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(error) => {
                drop(std::fs::remove_dir(&nameless));
                Err(unusable(base, &error))
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes all that is in it, and itself.
    pub(super) fn remove(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(
                "cannot remove {}: {error}; remove it by hand",
                self.path.display()
            );
        }
    }
}

fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{NAME}{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// Directories of our name and user; none where `base` cannot be read.
fn ours_in(base: &Path) -> Vec<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| {
        let named = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(NAME));
        // Of the link itself, where it is one.
        named
            && entry
                .metadata()
                .is_ok_and(|found| found.is_dir() && found.uid() == user)
    });
    ours.map(|entry| entry.path()).collect()
}

fn remove_stale(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Ok(()) => tracing::info!(
            "removed {}, which a process that is gone had left",
            path.display()
        ),
        Err(error) => tracing::warn!("cannot remove stale {}: {error}", path.display()),
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Error {
    Error::deployment(format!(
        "state cannot be kept in {}: {error}; choose a directory that can be written to with --state-dir",
        path.display()
    ))
}

fn in_use(base: &Path) -> Error {
    let holder = ours_in(base).into_iter().next();
    let holder = holder
        .as_deref()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str());
    let process = holder.and_then(|name| name.strip_prefix(NAME)?.split('-').next());
    Error::deployment(format!(
        "{} is the state directory of another TaskManager (process {}): give each its own with --state-dir",
        base.display(),
        process.unwrap_or("unknown")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory for one test, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir()
                .join(format!("rf-directory-test-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).expect("temporary files can be written");
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_directory_belongs_to_one() {
        let scratch = Scratch::new("one");
        let base = scratch.0.join("deeper/state");
        let first = StateDirectory::take(Some(&base)).expect("free");
        std::fs::write(first.path().join("file"), "x").expect("writable");
        let refused = StateDirectory::take(Some(&base))
            .expect_err("taken")
            .to_string();
        let process = std::process::id().to_string();
        assert!(
            refused.contains(&process) && refused.contains("--state-dir"),
            "{refused}"
        );
        let left = first.path().to_owned();
        drop(first);
        assert!(left.exists(), "nobody removed it");
        let second = StateDirectory::take(Some(&base)).expect("free again");
        assert!(!left.exists(), "stale");
        second.remove();
        assert_eq!(ours_in(&base), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_the_dead_leave_among_temporary_files_is_removed_and_nothing_else() {
        let scratch = Scratch::new("temporary");
        let others = ["ringflow-state", "something-else"].map(|name| scratch.0.join(name));
        for other in &others {
            std::fs::create_dir(other).expect("free");
        }
        let link = scratch.0.join(format!("{NAME}link"));
        std::os::unix::fs::symlink(&others[0], &link).expect("free");
        let first = StateDirectory::take_temporary(&scratch.0).expect("writable");
        let second = StateDirectory::take_temporary(&scratch.0).expect("writable");
        assert!(first.path().exists() && first.path() != second.path());
        let left = first.path().to_owned();
        drop(first);
        let third = StateDirectory::take_temporary(&scratch.0).expect("writable");
        assert!(!left.exists() && second.path().exists() && third.path().exists());
        assert!(others.iter().all(|other| other.exists()) && link.exists());
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_refused_by_name() {
        let scratch = Scratch::new("bad");
        let file = scratch.0.join("file");
        std::fs::write(&file, "x").expect("writable");
        let refused = StateDirectory::take(Some(&file))
            .expect_err("a file")
            .to_string();
        assert!(
            refused.contains("file") && refused.contains("--state-dir"),
            "{refused}"
        );
    }
}
