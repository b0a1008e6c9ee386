//! What tests of the file sink share: a directory of their own, blocks of rows.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sink::file::block::Block;

/// A directory that goes with its value.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringflow-file-sink-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Names below this one and contents of all files, sorted.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        let mut files = Vec::new();
        let mut directories = vec![self.0.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).expect("it is there") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    directories.push(path);
                    continue;
                }
                let name = path.strip_prefix(&self.0).expect("below").display();
                // A file may be renamed meanwhile.
                if let Ok(contents) = std::fs::read_to_string(&path) {
                    files.push((name.to_string(), contents));
                }
            }
        }
        files.sort();
        files
    }

    /// Contents of finished files, sorted.
    pub(super) fn finished(&self) -> Vec<String> {
        let files = self.files().into_iter();
        let mut contents: Vec<String> = files
            .filter(|(name, _)| !name.contains("/.") && !name.starts_with('.'))
            .filter(|(name, _)| !name.ends_with("_SUCCESS"))
            .map(|(_, contents)| contents)
            .collect();
        contents.sort();
        contents
    }

    /// Directories that are committed, sorted.
    pub(super) fn committed(&self) -> Vec<String> {
        let files = self.files().into_iter();
        files
            .filter_map(|(name, _)| Some(name.strip_suffix("/_SUCCESS")?.to_owned()))
            .collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A block of rows, each with its bucket.
pub(super) fn block(rows: &[(&str, &str)]) -> Block {
    let mut block = Block::default();
    for (bucket, row) in rows {
        if block.last_bucket() != Some(bucket) {
            block.begin(bucket);
        }
        block.rows_mut().extend_from_slice(row.as_bytes());
        block.count(0);
    }
    block
}
