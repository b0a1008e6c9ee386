//! `ringflow bench`, as a user runs it: tiny runs of each instrument, what they leave behind, and bad flags.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait for conditions with a deadline"
)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{BINARY, cpus, fails, wait_for};

#[path = "../support/mod.rs"]
mod support;

/// A file of this process's own, removed at the end.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("ringflow-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// A bench whose cluster's processes can be told by a mark in their environment.
struct Bench {
    child: Child,
    mark: String,
}

impl Bench {
    fn start(mark: &str, arguments: &[&str]) -> Self {
        let mark = format!("RINGFLOW_TEST_MARK={}-{mark}", std::process::id());
        let (name, value) = mark.split_once('=').unwrap();
        let mut command = Command::new(BINARY);
        command.arg("bench").args(arguments).env(name, value);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self {
            child: command.spawn().unwrap(),
            mark,
        }
    }

    /// Processes with the mark, but for the bench itself.
    fn roles(&self) -> Vec<u32> {
        let marked = |pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == self.mark.as_bytes())
        };
        let processes = std::fs::read_dir("/proc").unwrap();
        processes
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != self.child.id())
            .filter(marked)
            .collect()
    }

    fn wait_for_roles(&self, count: usize) -> Vec<u32> {
        wait_for("the cluster's processes", Duration::from_secs(30), || {
            let roles = self.roles();
            (roles.len() == count).then_some(roles)
        })
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs an instrument to its end, sees its cluster come and go, and reads its JSON.
fn bench(mark: &str, roles: usize, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--rounds", "1", "-o", "json"]].concat();
    let mut bench = Bench::start(mark, &arguments);
    let seen = bench.wait_for_roles(roles);
    // Its output is a few KiB: it fits the pipes.
    wait_for("the end of the bench", Duration::from_secs(120), || {
        bench.child.try_wait().unwrap()
    });
    assert_eq!(bench.roles(), [0u32; 0], "left behind");
    for pid in seen {
        assert!(
            !std::fs::exists(format!("/proc/{pid}")).unwrap(),
            "{pid} is left behind"
        );
    }
    let read = |stream: &mut dyn std::io::Read| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let error = read(bench.child.stderr.as_mut().unwrap());
    let text = read(bench.child.stdout.as_mut().unwrap());
    assert!(bench.child.wait().unwrap().success(), "{error}");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
}

fn positive(value: &Value, what: &str) -> f64 {
    let number = value
        .as_f64()
        .unwrap_or_else(|| panic!("no {what}: {value}"));
    assert!(number > 0.0, "{what} is {number}");
    number
}

/// Quantiles that grow, over `count` values.
fn is_times(times: &Value, count: Option<u64>) {
    let quantiles =
        ["p50", "p90", "p99", "p99_9", "p99_99", "max"].map(|name| positive(&times[name], name));
    assert!(quantiles.is_sorted(), "{times}");
    match count {
        Some(count) => assert_eq!(times["count"], count, "{times}"),
        None => drop(positive(&times["count"], "count")),
    }
}

fn is_work(side: &Value, records: u64) {
    assert_eq!(side["records"], records, "{side}");
    let seconds = positive(&side["seconds"], "seconds");
    let cpu_seconds = positive(&side["cpu_seconds"], "cpu_seconds");
    #[allow(clippy::cast_precision_loss, reason = "a small count")]
    for (rate, time) in [
        ("records_per_second", seconds),
        ("records_per_cpu_second", cpu_seconds),
    ] {
        let expected = records as f64 / time;
        assert!(
            (side[rate].as_f64().unwrap() / expected - 1.0).abs() < 1e-6,
            "{side}"
        );
    }
}

fn has_one_round(row: &Value) {
    assert_eq!(row["rounds"].as_array().unwrap().len(), 1);
    // The median of one round is that round.
    for name in ["records", "latency_us", "hand_off_ns", "floor", "hiccup_us"] {
        assert_eq!(row["rounds"][0][name], row[name], "{name}");
    }
    let hiccups =
        ["p50", "p99", "p99_9", "max"].map(|name| row["hiccup_us"][name].as_f64().unwrap());
    assert!(hiccups.is_sorted() && hiccups[3] > 0.0, "{hiccups:?}");
}

fn can_measure() -> bool {
    let enough = cpus().len() > 1;
    if !enough {
        eprintln!("skipped: there is one CPU");
    }
    enough
}

#[test]
fn latency_has_every_record_of_engine_and_floor() {
    if !can_measure() {
        return;
    }
    let (hdr, plot) = (File::new("latency.hgrm"), File::new("latency.svg"));
    let load = [
        "--rate",
        "2000",
        "--duration",
        "500ms",
        "--warm-up",
        "250ms",
        "--keys",
        "100",
    ];
    let files = ["--hdr", hdr.path(), "--plot", plot.path()];
    let report = bench("latency", 3, &[&["latency"], &load[..], &files].concat());
    is_work(&report, 1_500);
    is_times(&report["latency_us"], Some(1_000));
    is_times(&report["floor"]["latency_us"], Some(1_000));
    is_times(&report["floor"]["half_round_trip_us"], None);
    positive(&report["ratio_to_floor"]["latency_us_p50"], "ratio");
    assert_eq!(report["settings"]["rate"], 2_000);
    has_one_round(&report);
    let distribution = hdr.text();
    assert!(
        distribution.contains("Total count    =         1000]"),
        "{distribution}"
    );
    let picture = plot.text();
    assert!(
        picture.contains("</svg>") && picture.contains("ringflow") && picture.contains("floor")
    );
}

#[test]
fn a_sweep_has_a_row_for_each_value() {
    if !can_measure() {
        return;
    }
    let load = ["--rate", "1000", "--duration", "300ms", "--warm-up", "0s"];
    let report = bench(
        "sweep",
        3,
        &[
            &["latency", "--sweep", "slots-per-core=1,2"],
            &["--receive", "single", "--zero-copy-send"],
            &load[..],
        ]
        .concat(),
    );
    assert_eq!(report["settings"]["receive"], "single");
    assert_eq!(report["settings"]["zero_copy_send"], true);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(
        rows.iter()
            .map(|row| &row["slots_per_core"])
            .collect::<Vec<_>>(),
        [1, 2]
    );
    for row in rows {
        is_times(&row["latency_us"], Some(300));
        has_one_round(row);
    }
}

#[test]
fn throughput_counts_every_record_and_finds_a_sustainable_rate() {
    let search = [
        "--sustainable",
        "--duration",
        "200ms",
        "--latency-limit",
        "10s",
    ];
    let report = bench(
        "throughput",
        3,
        &[&["throughput", "--records", "300000"], &search[..]].concat(),
    );
    is_work(&report, 300_000);
    is_work(&report["floor"], 300_000);
    positive(&report["ratio_to_floor"]["records_per_second"], "ratio");
    assert!(
        report.get("latency_us").is_none(),
        "nothing was due: {report}"
    );
    has_one_round(&report);
    // Below a limit that nothing can miss in 300 ms every rate is sustained, so the search ends at its top.
    let probes = report["sustainable"]["probes"].as_array().unwrap();
    assert_eq!(probes.len(), 8);
    assert_eq!(report["sustainable"]["rate"], probes[7]["rate"]);
    positive(&report["sustainable"]["p99_us"], "p99");
}

#[test]
fn a_chain_is_measured_against_a_loop() {
    let report = bench(
        "chained",
        2,
        &["throughput", "--chained", "--records", "500000"],
    );
    is_work(&report, 500_000);
    is_work(&report["floor"], 500_000);
    assert_eq!(report["settings"]["chained"], true);
}

#[test]
fn exchange_has_a_row_for_each_road() {
    let report = bench(
        "exchange",
        2,
        &["exchange", "--records", "100000", "--duration", "100ms"],
    );
    let rows = report["rows"].as_array().unwrap();
    let roads: Vec<_> = rows
        .iter()
        .map(|row| row["road"].as_str().unwrap())
        .collect();
    match cpus().len() {
        1 => assert_eq!(roads, ["same_core"]),
        _ => assert_eq!(roads, ["same_core", "cross_core", "tcp"]),
    }
    for row in rows {
        is_work(row, 100_000);
        positive(&row["gib_per_second"], "GiB/s");
        is_times(&row["hand_off_ns"], None);
        is_times(&row["floor"]["hand_off_ns"], None);
        has_one_round(row);
    }
}

#[test]
fn nexmark_has_a_query_s_figures_beside_the_generator_s() {
    let load = ["--events", "200000", "--seconds", "1", "--warm-up", "200ms"];
    let report = bench(
        "nexmark",
        3,
        &[&["nexmark", "q7", "q0", "--task-managers", "2"], &load[..]].concat(),
    );
    let rows = report.as_array().unwrap();
    assert_eq!([&rows[0]["query"], &rows[1]["query"]], ["q0", "q7"]);
    for row in rows {
        for side in [row, &row["floor"]] {
            assert_eq!(side["events"], 200_000, "{side}");
            for figure in [
                "seconds",
                "events_per_second",
                "cpu_seconds",
                "events_per_cpu_second",
            ] {
                positive(&side[figure], figure);
            }
        }
        let ratio = positive(&row["ratio_to_floor"]["events_per_cpu_second"], "ratio");
        // A query cannot be cheaper than making its events; clocks and a shared machine leave some room.
        assert!((0.01..1.3).contains(&ratio), "{ratio}");
        let flink = &row["flink"];
        let by = positive(&row["events_per_cpu_second"], "rate")
            / positive(&flink["events_per_cpu_second"], "rate");
        assert!(
            (positive(&flink["ratio"], "ratio") / by - 1.0).abs() < 1e-6,
            "{row}"
        );
        let rate = positive(&row["latency_events_per_second"], "rate");
        let unpaced = row["rounds"][0]["events_per_second"].as_f64().unwrap();
        assert!((rate * 2.0 / unpaced - 1.0).abs() < 0.01, "{row}");
        assert_eq!(row["settings"]["slots"], 2);
    }
    is_times(&rows[0]["latency_us"], None);
    // All bids that were due in the measured second, and none from before.
    let count = rows[0]["latency_us"]["count"].as_f64().unwrap();
    let rate = rows[0]["latency_events_per_second"].as_f64().unwrap();
    assert!((count / (rate * 0.92) - 1.0).abs() < 0.01, "{}", rows[0]);
    assert_eq!(rows[0]["state_bytes"], 0.0);
    positive(&rows[1]["state_bytes"], "state");
}

/// Ends a bench by a signal, with what it says on standard error.
fn end(mut bench: Bench, signal: &str) -> String {
    bench.signal(signal);
    let status = wait_for("the end of the bench", Duration::from_secs(20), || {
        bench.child.try_wait().unwrap()
    });
    assert!(!status.success());
    wait_for("the end of its cluster", Duration::from_secs(10), || {
        bench.roles().is_empty().then_some(())
    });
    let mut error = String::new();
    std::io::Read::read_to_string(bench.child.stderr.as_mut().unwrap(), &mut error).unwrap();
    error
}

#[test]
fn an_interrupted_or_killed_bench_takes_its_cluster_with_it() {
    // Without --records the first thing to run is a trial of the engine.
    let plot = File::new("interrupted.svg");
    for (signal, says) in [("-INT", "error: interrupted"), ("-KILL", "")] {
        let arguments = ["throughput", "--rounds", "1", "--plot", plot.path()];
        let bench = Bench::start(signal, &arguments);
        bench.wait_for_roles(3);
        assert!(plot.0.exists(), "it can be written");
        let error = end(bench, signal);
        assert!(error.contains(says), "{error}");
        // Who is killed cannot tidy up.
        assert_eq!(plot.0.exists(), signal == "-KILL", "an empty file");
    }
}

#[test]
fn an_interrupt_ends_a_floor() {
    if !can_measure() {
        return;
    }
    let bench = Bench::start("floor", &["latency", "--rounds", "1", "--duration", "600s"]);
    wait_for("a measuring thread", Duration::from_secs(20), || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", bench.child.id())).unwrap();
        let name = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm"));
        let mut names = threads.filter_map(|thread| name(thread.ok()?).ok());
        names.any(|name| name.trim() == "rf-bench-0").then_some(())
    });
    let error = end(bench, "-INT");
    assert!(error.contains("error: interrupted"), "{error}");
}

#[test]
fn bad_flags_are_refused_with_what_to_do() {
    let one = cpus()[0].to_string();
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["latency", "--cores", &one],
            &["needs two CPUs", "--cores"],
        ),
        (
            &["latency", "--cores", "900"],
            &["--cores names CPU 900", "may only use"],
        ),
        (&["latency", "--rate", "0"], &["--rate"]),
        (
            &[
                "latency",
                "--rate",
                "1",
                "--duration",
                "10ms",
                "--warm-up",
                "100ms",
            ],
            &["no record is due", "raise either"],
        ),
        (
            &["latency", "--duration", "10"],
            &["a whole number and a unit"],
        ),
        (&["latency", "--sweep", "keys=1"], &["only slots-per-core"]),
        (
            &["latency", "--sweep", "slots-per-core=0"],
            &["slots-per-core=1,2,4"],
        ),
        (
            &["latency", "--hdr", "/nowhere/x.hgrm"],
            &["cannot write /nowhere/x.hgrm"],
        ),
        (
            &["throughput", "--plot", "/nowhere/x.svg"],
            &["cannot write /nowhere/x.svg"],
        ),
        (&["throughput", "--rounds", "0"], &["--rounds"]),
        (&["throughput", "--keys", "0"], &["--keys"]),
        (
            &["throughput", "--chained", "--sustainable"],
            &["cannot be used with"],
        ),
        (&["exchange", "--spin", "soon"], &["always, never, auto"]),
        (&["nexmark", "q99"], &["no such query", "q0, q1", "`all`"]),
        (
            &["nexmark", "q0", "--slots", "1", "--task-managers", "2"],
            &["--task-managers 2 with --slots 1", "raise --slots"],
        ),
        (&["nexmark", "--events", "0"], &["--events"]),
        (&["nothing"], &["unrecognized subcommand"]),
    ];
    for (arguments, expected) in cases {
        let error = fails(&[&["bench"], *arguments].concat());
        for words in *expected {
            assert!(error.contains(words), "{arguments:?}: {error}");
        }
    }
}
