//! A disk that runs full: the binary in a mount namespace of its own, with a small tmpfs over one directory.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{BINARY, Process};

/// How a command on a small disk ended.
pub struct OnSmallDisk {
    pub succeeded: bool,
    pub stderr: String,
    /// Files that it left on the disk, as paths from there.
    pub left: BTreeSet<String>,
}

/// Mounts `$2` with `$1` bytes, runs the rest, lists what is left, and ends as the rest did.
const SCRIPT: &str = r#"
mount -t tmpfs -o "size=$1" tmpfs "$2" || exit 125
disk=$2
shift 2
timeout -s KILL 100 "$@"
status=$?
cd "$disk" && find . -type f -printf 'left %P\n'
exit "$status"
"#;

/// Runs the binary where `directory` is a disk of `bytes` that no other process sees, to its end. `None`, with a word on standard
/// error, where that is not permitted.
pub fn ringflow_on_small_disk(
    directory: &Path,
    bytes: &str,
    arguments: &[&str],
) -> Option<OnSmallDisk> {
    let path = directory.to_str().unwrap();
    let shell = ["--mount", "sh", "-c", SCRIPT, "sh", bytes, path];
    let probe = Command::new("unshare").args(shell).arg("true").output();
    match probe {
        Ok(probe) if probe.status.success() => {}
        Ok(probe) => {
            let problem = String::from_utf8_lossy(&probe.stderr);
            eprintln!("SKIPPED: needs mount namespaces (root): {}", problem.trim());
            return None;
        }
        Err(error) => {
            eprintln!("SKIPPED: needs unshare (package util-linux): {error}");
            return None;
        }
    }
    let mut process =
        Process::start_program("unshare", &[&shell[..], &[BINARY], arguments].concat());
    let status = process.wait(Duration::from_secs(120));
    let stdout = process.stdout.lock().unwrap();
    let left = stdout.iter().filter_map(|line| line.strip_prefix("left "));
    Some(OnSmallDisk {
        succeeded: status.success(),
        stderr: process.stderr.lock().unwrap().join("\n"),
        left: left.map(str::to_owned).collect(),
    })
}
