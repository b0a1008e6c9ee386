//! The file sink: q10's rows in partitions that are committed, rows of any query as lines, what a killed job leaves,
//! bad input.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringflow::nexmark::{Event, NexmarkConfig};
use serde_json::Value;

use crate::support::nexmark_batch::first_events;
use crate::support::small_disk::ringflow_on_small_disk;
use crate::support::{Cluster, Tm, fails, run_job, wait_for};

/// A directory that goes with its value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("ringflow-files-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Names of all files by directory below this one.
    fn files(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut directories = vec![self.0.clone()];
        while let Some(directory) = directories.pop() {
            let below = directory.strip_prefix(&self.0).unwrap().to_str().unwrap();
            for entry in std::fs::read_dir(&directory).unwrap() {
                let entry = entry.unwrap();
                if entry.path().is_dir() {
                    directories.push(entry.path());
                } else {
                    let name = entry.file_name().into_string().unwrap();
                    files.entry(below.to_owned()).or_default().insert(name);
                }
            }
        }
        files
    }

    /// Lines of the finished files of a directory below this one.
    fn lines(&self, below: &str, names: &BTreeSet<String>) -> Vec<String> {
        let finished = names.iter().filter(|name| name.starts_with("part-"));
        let text = finished.map(|name| {
            let text = std::fs::read_to_string(self.0.join(below).join(name)).unwrap();
            assert!(text.ends_with('\n'), "{below}/{name} ends within a row");
            text
        });
        let text: String = text.collect();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn is_committed(names: &BTreeSet<String>) -> bool {
    names.contains("_SUCCESS")
}

/// A row of q10 as another sink writes it, in the form of its partition and CSV; no text of Nexmark's has a quote.
fn filed(row: &str) -> String {
    let row: Value = serde_json::from_str(row).unwrap();
    let text = |name: &str| row[name].as_str().unwrap().to_owned();
    let extra = match text("extra") {
        extra if extra.contains(',') || extra.is_empty() => format!("\"{extra}\""),
        extra => extra,
    };
    let (dt, hm) = (text("dt"), text("hm").replace(':', "%3A"));
    let [auction, bidder, price, time] =
        ["auction", "bidder", "price", "dateTime"].map(|name| row[name].to_string());
    format!("dt={dt}/hm={hm}|{auction},{bidder},{price},{time},{extra}")
}

#[test]
fn q10_writes_every_row_to_its_partition_and_commits_them_all() {
    let directory = Directory::new("q10");
    let job = |sink: &[&'static str]| {
        let events = [
            "--events",
            "100000",
            "--event-rate",
            "400",
            "--shuffle-ms",
            "2000",
        ];
        [&["-p", "2", "nexmark", "q10"], &events[..], sink].concat()
    };
    let (printed, _) = run_job(&job(&["--sink", "print"]));
    let mut expected: Vec<String> = printed.iter().map(|row| filed(row)).collect();

    let mut arguments = job(&["--sink", "files", "--output-dir"]);
    let path = directory.text();
    arguments.push(path.to_owned().leak());
    let (_, summary) = run_job(&arguments);
    assert_eq!(summary["records_out"], expected.len());

    let files = directory.files();
    // 250 s of event time begin five minutes.
    assert_eq!(files.len(), 5, "{files:#?}");
    let mut rows = Vec::new();
    for (partition, names) in &files {
        assert!(is_committed(names), "{partition}: {names:?}");
        assert!(
            !names.iter().any(|name| name.ends_with(".inprogress")),
            "{partition}: {names:?}"
        );
        let lines = directory.lines(partition, names);
        rows.extend(lines.iter().map(|line| format!("{partition}|{line}")));
    }
    expected.sort_unstable();
    rows.sort_unstable();
    assert_eq!(rows.len(), expected.len());
    assert!(
        rows == expected,
        "rows differ, first: {:?}",
        rows.iter().zip(&expected).find(|(a, b)| a != b)
    );
}

#[test]
fn rows_of_any_query_go_to_files_as_lines() {
    let directory = Directory::new("lines");
    let arguments = ["-p", "2", "nexmark", "q2", "--events", "100000"];
    let (mut expected, _) = run_job(&[&arguments[..], &["--sink", "print"]].concat());
    let sink = ["--sink", "files", "--output-dir", directory.text()];
    run_job(&[&arguments[..], &sink].concat());
    let files = directory.files();
    let mut lines = directory.lines("", &files[""]);
    expected.sort_unstable();
    lines.sort_unstable();
    assert_eq!(lines, expected);
    assert!(!is_committed(&files[""]));

    // A changelog says in each row what it means.
    let directory = Directory::new("changelog");
    let sink = ["--sink", "files", "--output-dir", directory.text()];
    let arguments = ["-p", "2", "nexmark", "q4", "--events", "20000"];
    let (_, summary) = run_job(&[&arguments[..], &sink].concat());
    let lines = directory.lines("", &directory.files()[""]);
    assert_eq!(summary["records_out"], lines.len());
    assert!(lines.iter().any(|line| line.starts_with(r#"{"op":"+U""#)));
}

/// Bids of each minute of event time, by its partition.
fn bids_by_minute(config: NexmarkConfig, minutes: u64) -> Vec<u64> {
    let mut bids = vec![0; usize::try_from(minutes).unwrap()];
    for event in first_events(config, minutes * 60 * config.events_per_second) {
        if let Event::Bid(bid) = event {
            let minute = (bid.date_time - config.base_time_ms) / 60_000;
            bids[usize::try_from(minute).unwrap()] += 1;
        }
    }
    bids
}

#[test]
fn a_killed_job_leaves_hidden_files_and_finished_ones_and_commits_only_what_is_complete() {
    let directory = Directory::new("killed");
    let mut cluster = Cluster::start(&[Tm { slots: 2 }]);
    let config = NexmarkConfig {
        events_per_second: 1_000,
        ..NexmarkConfig::default()
    };
    // A minute of event time takes a second.
    let job = [
        "-p",
        "2",
        "nexmark",
        "q10",
        "--events",
        "0",
        "--rate",
        "60000",
        "--event-rate",
        "1000",
        "--sink",
        "files",
        "--output-dir",
        directory.text(),
    ];
    cluster.submit(&job);
    wait_for(
        "three partitions that are complete",
        Duration::from_secs(60),
        || {
            let files = directory.files();
            let committed = files.values().filter(|names| is_committed(names)).count();
            let open = |name: &String| name.ends_with(".inprogress");
            let one_is_open = files.values().flatten().any(open);
            (committed >= 3 && one_is_open).then_some(())
        },
    );
    cluster.task_managers[0].kill9();

    let files = directory.files();
    assert!(files.len() < 1_000);
    let bids = bids_by_minute(config, files.len() as u64);
    let (mut committed, mut hidden) = (0, 0);
    for (minute, (partition, names)) in files.iter().enumerate() {
        for name in names {
            let in_progress = name.starts_with(".part-") && name.ends_with(".csv.inprogress");
            let finished = name.starts_with("part-") && name.ends_with(".csv");
            assert!(
                in_progress || finished || name == "_SUCCESS",
                "{partition}/{name}"
            );
            hidden += u64::from(in_progress);
        }
        if is_committed(names) {
            let lines = directory.lines(partition, names).len() as u64;
            assert_eq!(lines, bids[minute], "{partition}: {names:?}");
            assert!(
                names.iter().all(|name| !name.starts_with('.')),
                "{partition}: {names:?}"
            );
            committed += 1;
        }
    }
    assert!(committed >= 3 && hidden > 0, "{files:#?}");
    assert!(
        !is_committed(files.last_key_value().unwrap().1),
        "{files:#?}"
    );
}

#[test]
fn a_full_disk_fails_the_job_and_commits_no_partition() {
    let directory = Directory::new("full");
    let path = directory.text();
    let job = ["run", "nexmark", "q10", "--events", "1000000"];
    let arguments = [&job[..], &["--sink", "files", "--output-dir", path]].concat();
    // A million bids are some 200 MB.
    let Some(run) = ringflow_on_small_disk(Path::new(path), "8m", &arguments) else {
        return;
    };
    assert!(!run.succeeded, "{}", run.stderr);
    for part in [
        "cannot write",
        path,
        "No space left on device",
        "make room on that disk",
    ] {
        assert!(run.stderr.contains(part), "{}", run.stderr);
    }
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    assert!(!run.left.is_empty());
    for name in &run.left {
        assert!(name.ends_with(".inprogress"), "{:#?}", run.left);
    }
}

#[test]
fn bad_directories_are_refused_with_a_reason() {
    let directory = Directory::new("bad");
    let run = |arguments: &[&str]| {
        fails(&[&["run", "nexmark", "q0", "--events", "10"], arguments].concat())
    };
    let error = run(&["--sink", "files"]);
    assert!(error.contains("--sink files needs --output-dir"), "{error}");
    let error = run(&["--output-dir", directory.text()]);
    assert!(
        error.contains("--output-dir is for --sink files"),
        "{error}"
    );
    let file = Path::new(directory.text()).join("file");
    std::fs::write(&file, "").unwrap();
    let error = run(&["--sink", "files", "--output-dir", file.to_str().unwrap()]);
    assert!(
        error.contains("a file is where a directory should be"),
        "{error}"
    );
    assert!(error.contains(file.to_str().unwrap()), "{error}");
}
