//! Nexmark jobs against DuckDB's answers, with events in order and out of order; and those against the plain batch answers.

use ringflow::nexmark::NexmarkConfig;

use super::support::nexmark_batch::{Query, first_events, lines};
use super::support::nexmark_expected::Answers;
use super::support::{fails, run_job};

const EVENTS: u64 = 100_000;

/// Every query that is a built-in job.
const JOBS: [&str; 23] = [
    "q0", "q1", "q2", "q3", "q4", "q5", "q7", "q8", "q9", "q10", "q11", "q12", "q13", "q14", "q15",
    "q16", "q17", "q18", "q19", "q20", "q21", "q22", "q23",
];

/// Number of events that queries are checked over: `RINGFLOW_TEST_NEXMARK_EVENTS`, which `scripts/nexmark.sh` sets to a million.
fn events() -> u64 {
    std::env::var("RINGFLOW_TEST_NEXMARK_EVENTS").map_or(EVENTS, |events| events.parse().unwrap())
}

/// Rows of a query over the first `events` events.
fn rows_of(query: &str, events: u64, flags: &[&str]) -> Vec<String> {
    let events = events.to_string();
    let job = ["nexmark", query, "--sink", "print", "--events", &events];
    let (parallelism, flags) = flags.split_at(2);
    run_job(&[parallelism, &job, flags].concat()).0
}

/// 100 000 events at 1000 per second of event time are 100 seconds; so are a million at the usual rate.
fn config(events: u64) -> NexmarkConfig {
    NexmarkConfig {
        events_per_second: events / 100,
        ..NexmarkConfig::default()
    }
}

#[test]
fn jobs_agree_with_duckdb_whatever_the_order_of_events() {
    let events = events();
    let config = config(events);
    let Some(answers) = Answers::of(config, events) else {
        return;
    };
    let rate = config.events_per_second.to_string();
    let shuffled = ["--event-rate", &rate, "--shuffle-ms", "4000"];
    let in_order = &shuffled[..2];
    let mut runs = vec![("1", in_order), ("2", &shuffled), ("4", &shuffled)];
    if events > EVENTS {
        runs.extend([("1", &shuffled[..]), ("2", in_order), ("4", in_order)]);
    }
    for query in JOBS {
        for (parallelism, flags) in &runs {
            let flags = [&["-p", parallelism], *flags].concat();
            let printed = rows_of(query, events, &flags);
            let rows = answers
                .check(query, &printed)
                .unwrap_or_else(|why| panic!("with {flags:?}: {why}"));
            let order = if flags.len() > 4 {
                "shuffled"
            } else {
                "in order"
            };
            let lines = printed.len();
            eprintln!("{query} -p {parallelism} {order}: {lines} lines, {rows} rows as DuckDB's");
        }
    }
}

#[test]
fn events_that_come_too_late_are_missed() {
    let config = config(EVENTS);
    let Some(answers) = Answers::of(config, EVENTS) else {
        return;
    };
    let rate = config.events_per_second.to_string();
    let late = [
        "-p",
        "2",
        "--event-rate",
        &rate,
        "--shuffle-ms",
        "4000",
        "--out-of-orderness-ms",
        "0",
    ];
    let message = answers
        .check("q5", &rows_of("q5", EVENTS, &late))
        .expect_err("watermarks do not wait for the shuffled events");
    assert!(message.contains("missing"), "{message}");
}

/// A slow stream has more windows, minutes and hours than the usual one.
#[test]
fn both_batch_answers_agree() {
    let config = NexmarkConfig {
        seed: 9,
        events_per_second: 1,
        ..NexmarkConfig::default()
    };
    let Some(answers) = Answers::of(config, 50_000) else {
        return;
    };
    for (name, query) in [
        ("q0", Query::Q0),
        ("q1", Query::Q1),
        ("q2", Query::Q2),
        ("q5", Query::Q5),
    ] {
        let mut lines = lines(query, first_events(config, 50_000));
        let rows = answers
            .check(name, &lines)
            .unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(rows, lines.len() as u64);
        let removed = lines.swap_remove(lines.len() / 2);
        let message = answers.check(name, &lines).expect_err("a row is missing");
        assert!(
            message.contains("1 missing") && message.contains("0 unexpected"),
            "{message}"
        );
        lines.extend([removed.clone(), removed]);
        let message = answers
            .check(name, &lines)
            .expect_err("a row is there twice");
        assert!(
            message.contains("0 missing") && message.contains("1 unexpected"),
            "{message}"
        );
    }
    // All parts of a day come up: q14 tells three, q10 files by minute.
    let calculated = answers.expected("q14");
    for part in ["dayTime", "nightTime", "otherTime"] {
        assert!(calculated.contains(part), "{part}");
    }
    assert!(
        answers
            .expected("q10")
            .contains(r#""dt":"2015-07-15","hm":"06:59"}"#)
    );
}

#[test]
fn every_query_has_an_answer() {
    let Some(answers) = Answers::of(config(EVENTS), EVENTS) else {
        return;
    };
    for number in (0..=23).filter(|number| *number != 6) {
        let query = format!("q{number}");
        let expected = answers.expected(&query);
        assert!(!expected.is_empty(), "{query}");
        let row: serde_json::Value =
            serde_json::from_str(expected.lines().next().unwrap()).unwrap();
        assert!(row.is_object(), "{query}");
    }
}

#[test]
fn a_shuffle_that_cannot_be_is_refused() {
    let endless = "18446744073709551615";
    for command in [
        &["run", "nexmark", "q0", "--shuffle-ms", endless][..],
        &["generate", "nexmark", "--shuffle-ms", endless],
    ] {
        let error = fails(command);
        assert!(
            error.contains("--shuffle-ms") && error.contains("at most"),
            "{error}"
        );
    }
    let kafka = [
        "run",
        "nexmark",
        "q0",
        "--source",
        "kafka",
        "--shuffle-ms",
        "5",
        "--topic",
        "t",
        "--bootstrap-servers",
        "127.0.0.1:1",
    ];
    let error = fails(&kafka);
    assert!(
        error.contains("--shuffle-ms is for --source generator"),
        "{error}"
    );
}
