//! Files that results will be written to.
//!
//! Owns: [`ResultFile`]. Invariant: a run that fails leaves no empty file of its own behind; a file that was there before
//! stays as it is until results take its place.
//! Left out: writing; a bench that is killed has no time to tidy up.

use std::fs::{OpenOptions, metadata, remove_file};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A file that can be written, for as long as it is needed.
#[derive(Debug)]
pub struct ResultFile {
    path: PathBuf,
    /// It was not there before.
    made: bool,
}

impl ResultFile {
    /// Makes the file, so that a run fails now rather than after minutes of measuring.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn promise(path: &Path) -> crate::Result<Self> {
        let made = OpenOptions::new().write(true).create_new(true).open(path);
        let made = match made {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let there = OpenOptions::new().append(true).create(true).open(path);
                there.map(|_| false)
            }
            Err(error) => Err(error),
        };
        let made = made.with_context(|| format!("cannot write {}", path.display()))?;
        let path = path.to_owned();
        Ok(Self { path, made })
    }
}

impl Drop for ResultFile {
    fn drop(&mut self) {
        let empty = metadata(&self.path).is_ok_and(|metadata| metadata.len() == 0);
        if self.made
            && empty
            && let Err(error) = remove_file(&self.path)
        {
            tracing::debug!("cannot remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_and_never_written_goes_and_everything_else_stays() {
        let name = format!("ringflow-{}-result-file", std::process::id());
        let path = std::env::temp_dir().join(name);
        drop(remove_file(&path));
        drop(ResultFile::promise(&path).unwrap());
        assert!(!path.exists(), "made, not written");
        let file = ResultFile::promise(&path).unwrap();
        std::fs::write(&path, "results").unwrap();
        drop(file);
        drop(ResultFile::promise(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "results");
        // The user's own, though empty.
        std::fs::write(&path, "").unwrap();
        drop(ResultFile::promise(&path).unwrap());
        assert!(path.exists());
        remove_file(&path).unwrap();
        let error = ResultFile::promise(Path::new("/nowhere/x")).unwrap_err();
        assert_eq!(error.to_string(), "cannot write /nowhere/x");
    }
}
