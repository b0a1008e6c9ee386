//! Jobs against independent batch computations: Nexmark's queries over a million events on every shape of cluster, the
//! `sum` job, and programs.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::sync::OnceLock;
use std::time::Duration;

use ringflow::cli::execute::Summary;
use ringflow::nexmark::NexmarkConfig;
use ringflow::prelude::*;

use support::nexmark_batch::{Digest, Query, digest, first_events};
use support::{Cluster, Process, Tm, run_job, wait_for};

mod alignment;
mod async_io;
mod duckdb;
mod files;
mod joins;
mod process;
mod streams;
mod sum;
#[path = "../support/mod.rs"]
mod support;
mod windows;

const EVENTS: u64 = 1_000_000;
const QUERIES: [(&str, Query); 4] = [
    ("q0", Query::Q0),
    ("q1", Query::Q1),
    ("q2", Query::Q2),
    ("q5", Query::Q5),
];

fn expected(name: &str) -> Digest {
    static ANSWERS: OnceLock<Vec<(&str, Digest)>> = OnceLock::new();
    let answers = ANSWERS.get_or_init(|| {
        let answer = |query| digest(query, first_events(NexmarkConfig::default(), EVENTS));
        QUERIES
            .iter()
            .map(|(name, query)| (*name, answer(*query)))
            .collect()
    });
    answers.iter().find(|(known, _)| *known == name).unwrap().1
}

fn digest_of<'a>(rows: impl IntoIterator<Item = &'a String>) -> Digest {
    Digest::of(rows.into_iter().map(String::as_str))
}

#[test]
fn queries_in_one_process_equal_the_batch_answer_at_parallelism_1_2_4() {
    for (query, _) in QUERIES {
        for parallelism in ["1", "2", "4"] {
            let events = EVENTS.to_string();
            let (rows, summary) = run_job(&[
                "-p",
                parallelism,
                "nexmark",
                query,
                "--sink",
                "print",
                "--events",
                &events,
            ]);
            let answer = expected(query);
            assert_eq!(
                digest_of(&rows),
                answer,
                "{query} at parallelism {parallelism}"
            );
            assert_eq!(summary["records"], EVENTS);
            assert_eq!(summary["records_out"], answer.rows);
            eprintln!(
                "{query} -p {parallelism} in one process: {} rows equal the batch answer",
                answer.rows
            );
        }
    }
}

/// Runs every query on a cluster of two TaskManagers, whose printed rows together are the answer.
fn on_two_task_managers(slots: u32, parallelisms: &[&str]) {
    let cluster = Cluster::start(&[Tm { slots }, Tm { slots }]);
    let events = EVENTS.to_string();
    for (query, _) in QUERIES {
        for parallelism in parallelisms {
            let job = [
                "-m",
                &cluster.rest,
                "-p",
                parallelism,
                "nexmark",
                query,
                "--sink",
                "print",
                "--events",
                &events,
            ];
            let (_, summary) = run_job(&job);
            let answer = expected(query);
            let printed = |process: &Process| {
                process
                    .stdout
                    .lock()
                    .unwrap()
                    .iter()
                    .filter(|line| line.starts_with('{'))
                    .count()
            };
            wait_for("all rows to be printed", Duration::from_secs(30), || {
                let rows: usize = cluster.task_managers.iter().map(printed).sum();
                (rows as u64 >= answer.rows).then_some(())
            });
            let mut rows = Vec::new();
            for task_manager in &cluster.task_managers {
                let mut lines = task_manager.stdout.lock().unwrap();
                rows.extend(lines.extract_if(.., |line| line.starts_with('{')));
            }
            assert_eq!(
                digest_of(&rows),
                answer,
                "{query} at parallelism {parallelism} on 2 x {slots} slots"
            );
            assert_eq!(summary["records_out"], answer.rows);
            eprintln!(
                "{query} -p {parallelism} on 2 TaskManagers x {slots} slots: {} rows equal the batch answer",
                answer.rows
            );
        }
        cluster.wait_for_slots(2 * slots, 2 * slots);
    }
}

#[test]
fn queries_on_two_task_managers_with_one_slot_equal_the_batch_answer() {
    on_two_task_managers(1, &["1", "2"]);
}

#[test]
fn queries_on_two_task_managers_with_two_slots_equal_the_batch_answer() {
    on_two_task_managers(2, &["1", "2", "4"]);
}

#[test]
fn a_paced_job_reports_latency_from_the_scheduled_time() {
    let (_, summary) = run_job(&[
        "-p", "2", "nexmark", "q0", "--events", "20000", "--rate", "20000",
    ]);
    let seconds = summary["seconds"].as_f64().unwrap();
    assert!(
        (0.9..5.0).contains(&seconds),
        "20 000 events at 20 000/s took {seconds} s"
    );
    let latency = &summary["latency_us"];
    let quantiles =
        ["p50", "p90", "p99", "p99_9", "p99_99", "max"].map(|name| latency[name].as_u64().unwrap());
    assert!(quantiles[0] > 0 && quantiles.is_sorted(), "{latency}");
    for field in [
        "records_per_second",
        "cpu_seconds",
        "records_per_cpu_second",
    ] {
        assert!(summary[field].as_f64().unwrap() > 0.0, "{field}: {summary}");
    }
}

/// Heartbeats ask every core for its counters, which wakes it: with heartbeats out of the way a lost wake-up is a hang.
#[test]
fn no_core_sleeps_with_work_to_do() {
    let cpus = support::cpus();
    let all = cpus
        .iter()
        .take(2)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let rare = [
        "--heartbeat-interval-ms",
        "60000",
        "--heartbeat-timeout-ms",
        "600000",
    ];
    let mut cluster = Cluster::start_job_manager(&rare);
    // Cores of one process, cores of two processes, and slots that share a core; none spins.
    for _ in 0..2 {
        cluster.add_with(&["--cores", &all, "--slots", "4", "--spin", "never"]);
    }
    cluster.wait_for_slots(8, 8);
    for round in 0..12 {
        let (query, parallelism) = (
            ["q5", "q0", "q5", "q2"][round % 4],
            ["8", "2", "4", "3"][round / 3],
        );
        let rate = ["20000", "100000", "1000000"][round % 3];
        let job = [
            "-m",
            &cluster.rest,
            "-p",
            parallelism,
            "nexmark",
            query,
            "--events",
            "20000",
            "--rate",
            rate,
        ];
        let (_, summary) = run_job(&job);
        let seconds = summary["seconds"].as_f64().unwrap();
        let paced = 20_000.0 / rate.parse::<f64>().unwrap();
        assert!(
            seconds < paced + 5.0,
            "{query} -p {parallelism} at {rate}/s took {seconds} s"
        );
    }
}

/// Counts by last digit in windows of 100 s, with the ten greatest as the job's result.
fn count_by_last_digit(env: &StreamExecutionEnvironment) -> ringflow::Result<Summary> {
    env.from_source(
        SequenceSource::new(250_000),
        WatermarkStrategy::monotonous_timestamps(),
        "numbers",
    )
    .filter(|number| number.value() % 2 == 0)
    .key_by(|number| number.value() % 10)
    .window(TumblingEventTimeWindows::of(Duration::from_secs(100)))
    .aggregate(Count)
    .keep_top(
        "counts",
        100,
        |count| i64::try_from(*count.value()).unwrap(),
        |count, line| {
            line.extend(
                format!(
                    "[{},{},{}]",
                    count.window().start(),
                    count.key(),
                    count.value()
                )
                .bytes(),
            )
        },
    )
    .discard();
    env.execute("count by last digit")
}

#[test]
fn a_program_runs_in_a_local_environment_and_says_why_a_strange_cluster_cannot_run_it() {
    let mut env = StreamExecutionEnvironment::create_local_environment();
    env.set_parallelism(2);
    let summary = count_by_last_digit(&env).unwrap();
    assert_eq!(
        (summary.state.as_str(), summary.records, summary.records_out),
        ("FINISHED", 250_000, 15)
    );
    let mut rows: Vec<(u64, u64, u64)> = serde_json::from_value(summary.result.unwrap()).unwrap();
    rows.sort_unstable();
    let full = |start: u64| [0, 2, 4, 6, 8].map(|digit| (start, digit, 10_000));
    let last = [0, 2, 4, 6, 8].map(|digit| (200_000, digit, 5_000));
    assert_eq!(rows, [full(0), full(100_000), last].concat());

    let cluster = Cluster::start(&[Tm { slots: 1 }]);
    let (host, port) = cluster.rest.split_once(':').unwrap();
    let env = StreamExecutionEnvironment::create_remote_environment(host, port.parse().unwrap());
    let error = count_by_last_digit(&env).unwrap_err().to_string();
    assert!(
        error.contains("cannot run program `count by last digit`"),
        "{error}"
    );
}

#[test]
fn every_partitioner_and_chaining_strategy_delivers_each_record_as_often_as_it_should() {
    type Numbers = DataStream<Number>;
    type Shape = fn(Numbers) -> Numbers;
    let shapes: [(&str, Shape, u64); 7] = [
        ("forward", |numbers| numbers, 1),
        ("rebalance", Numbers::rebalance, 1),
        ("shuffle", Numbers::shuffle, 1),
        ("global", Numbers::global, 1),
        ("broadcast", Numbers::broadcast, 2),
        (
            "a new chain",
            |numbers| numbers.filter(|_| true).start_new_chain(),
            1,
        ),
        (
            "no chaining",
            |numbers| numbers.filter(|_| true).disable_chaining(),
            1,
        ),
    ];
    for (name, shape, times) in shapes {
        let mut env = StreamExecutionEnvironment::create_local_environment();
        env.set_parallelism(2);
        let numbers = env.from_source(
            SequenceSource::new(10_001),
            WatermarkStrategy::no_watermarks(),
            "numbers",
        );
        shape(numbers).filter(|_| true).discard();
        let summary = env.execute(name).unwrap();
        assert_eq!(
            (summary.records, summary.records_out),
            (10_001, 10_001 * times),
            "{name}"
        );
    }
}
