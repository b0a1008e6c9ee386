//! What the sink asks of the file system, each with an error that names path and cause.
//!
//! Owns: [`FileError`], directories and files as the sink makes them. Invariant: nothing here runs on a data core; what
//! returned is on the disk, names too: a directory is synced after something in it was created or renamed.
//! Left out: which file when ([`super::buckets`]).

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}{}", path.display(), advice(source))]
pub(super) struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What to do about it, where that is known.
fn advice(error: &io::Error) -> &'static str {
    if error.raw_os_error() == Some(libc::EMFILE) {
        return "; raise the TaskManager's limit of open files (`ulimit -n`)";
    }
    match error.kind() {
        ErrorKind::PermissionDenied => {
            "; the user that the TaskManager runs as must be allowed to create files there"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; make room on that disk, then start the job again"
        }
        ErrorKind::ReadOnlyFilesystem => "; choose a directory that can be written",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "; a file is where a directory should be: remove it, or choose another directory"
        }
        ErrorKind::InvalidFilename => "; choose shorter bucket names",
        _ => "",
    }
}

/// Names what was done to which path in an error of the system.
fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Creates a directory and those above it, as far as they are missing.
pub(super) fn create_directories(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent()
        && !above.as_os_str().is_empty()
    {
        create_directories(above)?;
    }
    match fs::create_dir(path) {
        Ok(()) => {}
        // Another subtask was quicker.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(at("create the directory", path)(error)),
    }
    match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => sync_directory(above),
        _ => sync_directory(Path::new(".")),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), FileError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(at("sync the directory", path))
}

/// Creates a file that is not there yet, and its directory where that is missing.
pub(super) fn create_file(path: &Path) -> Result<File, FileError> {
    let created = match File::create_new(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create_directories(path.parent().unwrap_or(path))?;
            File::create_new(path)
        }
        created => created,
    };
    created.map_err(at("create", path))
}

/// Appends to a file.
pub(super) fn write(file: &mut File, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    io::Write::write_all(file, bytes).map_err(at("write", path))
}

/// Gives a file that is written its last name, all of it durable.
pub(super) fn publish(file: &File, from: &Path, to: &Path) -> Result<(), FileError> {
    file.sync_all().map_err(at("sync", from))?;
    fs::rename(from, to).map_err(at("rename to its last name", from))?;
    sync_directory(to.parent().unwrap_or(to))
}

/// Writes an empty file, over one that is there, durably. Its directory must be there.
pub(super) fn write_marker(path: &Path) -> Result<(), FileError> {
    let written = File::create(path).and_then(|file| file.sync_all());
    match written {
        Err(source) if source.kind() == ErrorKind::NotFound => Err(FileError {
            action: "commit the partition with",
            path: path.to_owned(),
            source: io::Error::other(
                "its directory is not there; with TaskManagers on several hosts, the sink's directory must be on a \
                 file system that all of them share",
            ),
        }),
        written => written.map_err(at("create", path)),
    }?;
    sync_directory(path.parent().unwrap_or(path))
}
