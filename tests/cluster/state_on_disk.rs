//! State on disk: the same answers as in memory, and a directory that is gone afterwards, however the process ended.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::small_disk::ringflow_on_small_disk;
use crate::support::sums::keyed;
use crate::support::{Cluster, Process, fails, run_job, wait_for};

/// A directory for one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("rf-state-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn flags(&self) -> [&str; 4] {
        let path = self.0.to_str().unwrap();
        ["--state-backend", "disk", "--state-dir", path]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// 200 000 keys take some 16 MB, of which 16 MiB and less hold half: the rest is written and read back.
#[test]
fn sums_on_disk_are_those_in_memory() {
    let expected = keyed(600_007, 200_000, 5);
    for p in ["1", "2"] {
        let scratch = Scratch::new(p);
        let memory = ["--network-memory", "16MiB", "--memory", "128MiB", "-p", p];
        let job = [
            "sum",
            "--records",
            "600007",
            "--keys",
            "200000",
            "--seed",
            "5",
        ];
        let (_, summary) = run_job(&[&scratch.flags()[..], &memory, &job].concat());
        assert_eq!(summary["result"], expected, "-p {p}");
        assert_eq!(summary["records_out"], 600_007, "-p {p}");
        assert_eq!(entries(&scratch.0), Vec::<PathBuf>::new(), "-p {p}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let scratch = Scratch::new("bad");
    let file = scratch.0.join("file");
    std::fs::write(&file, "x").unwrap();
    let file = file.to_str().unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["--state-backend", "disk", "--state-dir", file],
            &[file, "choose a directory"],
        ),
        (&["--state-dir", "/tmp"], &["add --state-backend disk"]),
        (&["--state-backend", "rocksdb"], &["hashmap", "disk"]),
        (
            &["--state-backend", "disk", "--memory", "100MiB"],
            &[
                "--memory 100 MiB is too little",
                "32 MiB is the least for state",
            ],
        ),
        (
            &["--memory", "90MiB", "--network-memory", "80MiB"],
            &["--memory 90 MiB is too little"],
        ),
        (
            &["-m", "127.0.0.1:9", "--memory", "1GiB"],
            &["for the local environment"],
        ),
    ];
    for (flags, parts) in cases {
        let error = fails(&[&["run"], *flags, &["sum"]].concat());
        for part in *parts {
            assert!(error.contains(part), "{flags:?} says: {error}");
        }
    }
}

#[test]
fn a_full_disk_fails_the_job_with_what_to_do_and_leaves_nothing() {
    let scratch = Scratch::new("full");
    let memory = ["--network-memory", "16MiB", "--memory", "128MiB"];
    let job = ["sum", "--records", "4000000", "--keys", "2000000"];
    let arguments = [&["run"], &scratch.flags()[..], &memory, &job].concat();
    let Some(run) = ringflow_on_small_disk(&scratch.0, "16m", &arguments) else {
        return;
    };
    assert!(!run.succeeded, "{}", run.stderr);
    for part in [
        "state cannot be written to",
        scratch.0.to_str().unwrap(),
        "No space left on device",
        "choose another directory with --state-dir",
    ] {
        assert!(run.stderr.contains(part), "{}", run.stderr);
    }
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    assert!(run.left.is_empty(), "{:#?}", run.left);
}

fn task_manager(cluster: &Cluster, id: &str, scratch: &Scratch) -> Process {
    let flags = ["taskmanager", "-m", &cluster.rpc, "--id", id];
    Process::start(&[&flags[..], &scratch.flags()].concat())
}

#[test]
fn a_directory_of_a_killed_task_manager_goes_with_the_next_one() {
    let cluster = Cluster::start_job_manager(&[]);
    let scratch = Scratch::new("stale");
    let mut first = task_manager(&cluster, "first", &scratch);
    first.line("TaskManager ready: ");
    let [left] = <[PathBuf; 1]>::try_from(entries(&scratch.0)).unwrap();

    let mut second = task_manager(&cluster, "second", &scratch);
    assert!(!second.wait(Duration::from_secs(60)).success());
    let error = second.stderr.lock().unwrap().join("\n");
    let process = format!("another TaskManager (process {})", first.pid());
    assert!(error.contains(&process), "{error}");

    first.kill9();
    assert!(left.exists(), "nobody was left to remove it");
    let mut third = task_manager(&cluster, "third", &scratch);
    third.line("TaskManager ready: ");
    let [now] = <[PathBuf; 1]>::try_from(entries(&scratch.0)).unwrap();
    assert_ne!(now, left);
    third.signal("-TERM");
    assert!(third.wait(Duration::from_secs(60)).success());
    wait_for("an empty directory", Duration::from_secs(10), || {
        entries(&scratch.0).is_empty().then_some(())
    });
}
