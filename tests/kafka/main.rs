//! From a real broker, to a real broker.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::time::Duration;

use ringflow::cli::topic_writer::TopicWriter;
use ringflow::nexmark::NexmarkConfig;

use support::kafka::{Broker, TIMEOUT, broker};
use support::nexmark_batch::{Digest, Query, first_events, lines};
use support::{Cluster, Tm, fails, ringflow, run_job};

#[path = "../support/mod.rs"]
mod support;

fn fill(broker: &Broker, topic: &str, events: &str) {
    let arguments = [
        "generate",
        "nexmark",
        "--events",
        events,
        "--topic",
        topic,
        "--bootstrap-servers",
        &broker.address,
    ];
    let output = ringflow(&arguments);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The topic holds exactly the rows of q5 over the first `events` events; returns how many.
fn assert_holds_the_answer_of_q5(broker: &Broker, topic: &str, events: u64) -> usize {
    let mut rows = broker.read(topic);
    let mut answer = lines(Query::Q5, first_events(NexmarkConfig::default(), events));
    rows.sort();
    answer.sort();
    assert_eq!(rows, answer);
    rows.len()
}

#[test]
fn q5_from_kafka_to_kafka_on_two_task_managers_equals_the_batch_answer() {
    let Some(broker) = broker() else { return };
    let (input, output) = (broker.topic("bids", 4), broker.topic("hot", 2));
    fill(&broker, &input, "1000000");
    let cluster = Cluster::start(&[Tm { slots: 1 }, Tm { slots: 1 }]);
    let (_, summary) = run_job(&[
        "-m",
        &cluster.rest,
        "nexmark",
        "q5",
        "--source",
        "kafka",
        "--topic",
        &input,
        "--sink",
        "kafka",
        "--output-topic",
        &output,
        "--bootstrap-servers",
        &broker.address,
    ]);
    assert_eq!(
        (&summary["records"], &summary["bad_records"]),
        (&1_000_000.into(), &0.into())
    );
    let rows = assert_holds_the_answer_of_q5(&broker, &output, 1_000_000);
    // Parallelism was not given: 4 partitions on 2 slots make 2 source subtasks of two partitions each.
    let job = cluster.get(&format!("/jobs/{}", summary["job_id"].as_str().unwrap()));
    let source = job["vertices"]
        .as_array()
        .unwrap()
        .iter()
        .find(|v| v["name"].as_str().unwrap().starts_with("Source"))
        .unwrap();
    assert_eq!(source["parallelism"], 2, "{job:#}");
    let vertex = cluster.get(&format!(
        "/jobs/{}/vertices/{}",
        job["jid"].as_str().unwrap(),
        source["id"].as_str().unwrap()
    ));
    let hosts: Vec<&str> = vertex["subtasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["taskmanager-id"].as_str().unwrap())
        .collect();
    assert!(
        hosts.contains(&"tm-1") && hosts.contains(&"tm-2"),
        "{vertex:#}"
    );
    // Each subtask passed on the bids of its two partitions: every fourth event is in one partition, 46 of 50 are bids.
    for subtask in vertex["subtasks"].as_array().unwrap() {
        assert_eq!(subtask["metrics"]["write-records"], 460_000, "{vertex:#}");
    }
    eprintln!(
        "{rows} rows in the output topic equal the batch answer; source subtasks on {hosts:?}"
    );
}

#[test]
fn rows_of_q0_and_q1_reach_the_topic_once_each() {
    let Some(broker) = broker() else { return };
    let input = broker.topic("bids", 3);
    fill(&broker, &input, "100000");
    for (name, query) in [("q0", Query::Q0), ("q1", Query::Q1)] {
        let output = broker.topic(name, 2);
        let (_, summary) = run_job(&[
            "nexmark",
            name,
            "--source",
            "kafka",
            "--topic",
            &input,
            "--sink",
            "kafka",
            "--output-topic",
            &output,
            "--bootstrap-servers",
            &broker.address,
        ]);
        let answer = lines(query, first_events(NexmarkConfig::default(), 100_000));
        let rows = broker.read(&output);
        assert_eq!(
            Digest::of(rows.iter().map(String::as_str)),
            Digest::of(answer.iter().map(String::as_str)),
            "{name}"
        );
        assert_eq!(summary["records_out"], rows.len() as u64);
    }
}

#[test]
fn payloads_that_are_no_record_are_counted_or_fatal_as_asked() {
    let Some(broker) = broker() else { return };
    let input = broker.topic("mixed", 2);
    fill(&broker, &input, "10000");
    let writer = TopicWriter::open(&broker.address, &input, TIMEOUT).unwrap();
    for (number, payload) in [
        &b"{\"json\": true}"[..],
        b"",
        &[0xff; 300],
        b"\x08\0\0\0\0\0\0\0",
    ]
    .iter()
    .enumerate()
    {
        writer
            .write(i32::try_from(number % 2).unwrap(), payload)
            .unwrap();
    }
    writer.finish().unwrap();
    let job = [
        "nexmark",
        "q2",
        "--source",
        "kafka",
        "--topic",
        &input,
        "--bootstrap-servers",
        &broker.address,
    ];
    let (_, summary) = run_job(&job);
    assert_eq!(
        (&summary["records"], &summary["bad_records"]),
        (&10_000.into(), &4.into()),
        "{summary:#}"
    );
    let error = fails(&[&["run"], &job[..], &["--on-bad-record", "fail"]].concat());
    for part in [&input, "offset", "partition", "nexmark events"] {
        assert!(error.contains(part), "{error}");
    }
    eprintln!("{error}");
}

#[test]
fn a_missing_topic_and_an_unreachable_broker_are_named() {
    let Some(broker) = broker() else { return };
    let source = [
        "run",
        "nexmark",
        "q0",
        "--source",
        "kafka",
        "--topic",
        "no-such-topic",
        "--bootstrap-servers",
    ];
    let error = fails(&[&source[..], &[&broker.address]].concat());
    assert!(
        error.contains("no-such-topic") && error.contains("does not exist"),
        "{error}"
    );
    let error = fails(&[&source[..], &["127.0.0.1:9"]].concat());
    assert!(
        error.contains("127.0.0.1:9") && error.contains("--bootstrap-servers"),
        "{error}"
    );
    let sink = [
        "run",
        "nexmark",
        "q0",
        "--events",
        "10",
        "--sink",
        "kafka",
        "--output-topic",
        "no-such-topic",
        "--bootstrap-servers",
    ];
    let error = fails(&[&sink[..], &[&broker.address]].concat());
    assert!(error.contains("no-such-topic"), "{error}");
}

#[test]
fn more_subtasks_than_partitions_are_warned_about_with_the_right_number_and_do_no_harm() {
    let Some(broker) = broker() else { return };
    let (input, output) = (broker.topic("few", 2), broker.topic("hot", 1));
    fill(&broker, &input, "200000");
    let mut process = support::Process::start(&[
        "run",
        "-p",
        "4",
        "nexmark",
        "q5",
        "--source",
        "kafka",
        "--topic",
        &input,
        "--sink",
        "kafka",
        "--output-topic",
        &output,
        "--bootstrap-servers",
        &broker.address,
    ]);
    assert!(
        process.wait(Duration::from_secs(60)).success(),
        "{:#?}",
        process.stderr.lock().unwrap()
    );
    let warnings = process.stderr.lock().unwrap().join("\n");
    assert!(
        warnings.contains("warning") && warnings.contains('4') && warnings.contains('2'),
        "{warnings}"
    );
    eprintln!("{warnings}");
    assert_holds_the_answer_of_q5(&broker, &output, 200_000);
}
