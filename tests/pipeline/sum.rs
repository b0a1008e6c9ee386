//! The `sum` job and `reduce` against what they must come to.

use ringflow::jobs::reading::Reading;
use ringflow::prelude::*;
use serde_json::Value;

use crate::support::sums::{chained, keyed};
use crate::support::{Cluster, Tm, fails, ringflow, run_job};

fn check(flags: &[&str], expected: &Value) {
    let (_, summary) = run_job(flags);
    assert_eq!(&summary["result"], expected, "{flags:?}");
    assert_eq!(summary["records"], expected["records"], "{flags:?}");
    assert_eq!(summary["records_out"], expected["records"], "{flags:?}");
}

#[test]
fn sums_equal_an_independent_computation_at_parallelism_1_2_4() {
    const RECORDS: &str = "300007";
    for p in ["1", "2", "4"] {
        let job = ["-p", p, "sum", "--records", RECORDS, "--keys", "5000"];
        check(&job, &keyed(300_007, 5_000, 0));
        check(
            &[&job[..], &["--apart"]].concat(),
            &keyed(300_007, 5_000, 0),
        );
        let seeded = [&job[..], &["--chained", "--seed", "77"]].concat();
        check(&seeded, &chained(300_007, 5_000, 77));
    }
}

#[test]
fn a_source_apart_sits_in_another_process_than_its_sums() {
    let cluster = Cluster::start(&[Tm { slots: 1 }, Tm { slots: 1 }]);
    let job = ["-m", &cluster.rest, "sum", "--records", "200000", "--apart"];
    check(&job, &keyed(200_000, 100_000, 0));
    let overview = cluster.get("/jobs/overview");
    let id = overview["jobs"][0]["jid"].as_str().unwrap();
    let vertices = &cluster.get(&format!("/jobs/{id}"))["vertices"];
    assert_eq!(vertices.as_array().unwrap().len(), 2, "{vertices}");
    cluster.wait_for_slots(2, 2);
}

#[test]
fn state_bytes_are_those_of_the_sums() {
    let cluster = Cluster::start(&[Tm { slots: 2 }]);
    let run = |flags: &[&str]| {
        let job = [
            "-m",
            &cluster.rest,
            "sum",
            "--records",
            "100000",
            "--keys",
            "5000",
        ];
        run_job(&[&job[..], flags].concat()).1
    };
    let summary = run(&[]);
    let state = summary["state_bytes"].as_u64().unwrap();
    assert!((5_000 * 24..5_000 * 24 * 16).contains(&state), "{state}");
    let id = summary["job_id"].as_str().unwrap();
    let details = cluster.get(&format!("/jobs/{id}"));
    let metric = details["vertices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|vertex| {
            let vertex = vertex["id"].as_str().unwrap();
            let path = format!("/jobs/{id}/vertices/{vertex}/subtasks/metrics?get=stateBytes");
            cluster.get(&path)[0]["sum"].as_f64().unwrap()
        });
    // Sums stay to the end.
    #[allow(clippy::cast_precision_loss, reason = "a small count")]
    let expected = state as f64;
    assert_eq!(metric.sum::<f64>(), expected);
    assert_eq!(run(&["--chained"])["state_bytes"], 0);
}

/// Runs a paced job whose source is in another process than its sums: the source's buffers and records out, the median
/// latency in microseconds, and the job's configuration.
fn paced(cluster: &Cluster, flags: &[&str], rate: &str, records: &str) -> (f64, f64, u64, Value) {
    let job = ["-m", &cluster.rest, "sum", "--apart", "--keys", "10"];
    let pace = ["--rate", rate, "--records", records];
    let (_, summary) = run_job(&[&job[..], &pace, flags].concat());
    let all = records.parse().unwrap();
    assert_eq!(summary["result"], keyed(all, 10, 0), "{flags:?}");
    let id = summary["job_id"].as_str().unwrap();
    let details = cluster.get(&format!("/jobs/{id}"));
    let source = details["vertices"][0]["id"].as_str().unwrap();
    let subtasks = format!("/jobs/{id}/vertices/{source}/subtasks");
    let metric = |name: &str| {
        let metrics = cluster.get(&format!("{subtasks}/metrics?get={name}"));
        metrics[0]["sum"].as_f64().unwrap()
    };
    let p50_us = summary["latency_us"]["p50"].as_u64().unwrap();
    let config = cluster.get(&format!("/jobs/{id}/config"));
    eprintln!("{flags:?} at {rate}/s: p50 {p50_us} us");
    (
        metric("numBuffersOut"),
        metric("numRecordsOut"),
        p50_us,
        config["execution-config"]["user-config"].clone(),
    )
}

#[test]
fn a_buffer_timeout_buys_fuller_buffers_with_latency() {
    let cluster = Cluster::start(&[Tm { slots: 1 }, Tm { slots: 1 }]);
    for flags in [&[][..], &["--buffer-timeout", "0"]] {
        let (buffers, records, p50_us, config) = paced(&cluster, flags, "100", "200");
        assert!(
            buffers > records / 2.0,
            "{buffers} buffers, {records} records"
        );
        assert!(p50_us < 50_000, "{p50_us} us");
        assert_eq!(config, serde_json::json!({}));
    }
    // Records of 200 ms share a buffer and wait 100 ms for it on average.
    let flags = ["--buffer-timeout", "200ms"];
    let (buffers, records, p50_us, config) = paced(&cluster, &flags, "100", "400");
    assert!(
        buffers < records / 5.0,
        "{buffers} buffers, {records} records"
    );
    assert!((50_000..600_000).contains(&p50_us), "{p50_us} us");
    let interval = serde_json::json!({ "execution.buffer-timeout.interval": "200 ms" });
    assert_eq!(config, interval);
}

/// Each record is alone in its buffer, and nothing but the buffer's own time wakes the core before the next record.
#[test]
fn a_sleeping_core_wakes_when_a_buffer_is_due() {
    let cluster = Cluster::start(&[Tm { slots: 1 }, Tm { slots: 1 }]);
    let flags = ["--buffer-timeout", "50ms"];
    let (_, _, p50_us, _) = paced(&cluster, &flags, "3", "12");
    // A third of a second if it was the next record that woke it.
    assert!((50_000..250_000).contains(&p50_us), "{p50_us} us");
}

#[test]
fn readings_due_in_the_warm_up_are_not_measured() {
    let paced = [
        "sum",
        "--records",
        "6000",
        "--rate",
        "10000",
        "--keys",
        "10",
    ];
    let samples = |warm_up: &str| {
        let (_, summary) = run_job(&[&paced[..], &["--warm-up", warm_up]].concat());
        assert_eq!(summary["result"], keyed(6_000, 10, 0));
        summary["latency_us"]["count"].as_u64().unwrap_or(0)
    };
    assert_eq!(samples("0s"), 6_000);
    assert_eq!(samples("500ms"), 1_000, "due from 0.5 s to 0.6 s");
    assert_eq!(samples("2s"), 0);
}

#[test]
fn the_plan_shows_the_chain_and_bad_flags_are_refused() {
    let plan = |flags: &[&str]| {
        let output = ringflow(&[&["info", "sum"], flags].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(
        plan(&["--chained"]).contains("readings -> Map"),
        "{}",
        plan(&["--chained"])
    );
    let keyed = plan(&[]);
    assert!(
        keyed.contains("HASH") && keyed.contains("sum by key -> "),
        "{keyed}"
    );
    for (flags, why) in [
        (["--apart", "--chained"], "--apart and --chained"),
        (["--keys", "0"], "--keys"),
        (["--warm-up", "soon"], "such as 50us"),
    ] {
        let error = fails(&[&["run", "sum"][..], &flags].concat());
        assert!(error.contains(why), "{error}");
    }
}

/// Every output of a reduce over `0..1000` by last digit, as `(key, sum, number)`.
fn reduce_by_last_digit(parallelism: u32) -> Vec<(u64, u64, u64)> {
    let mut env = StreamExecutionEnvironment::create_local_environment();
    env.set_parallelism(parallelism);
    env.from_source(
        SequenceSource::new(1_000),
        WatermarkStrategy::no_watermarks(),
        "numbers",
    )
    .map(|number| Reading::new(number.value() % 10, number.value(), number.value()))
    .key_by(|reading| reading.key())
    .reduce(|sum, reading| {
        Reading::new(
            reading.key(),
            sum.value() + reading.value(),
            reading.number(),
        )
    })
    .keep_top(
        "sums",
        1_000,
        |sum| i64::try_from(sum.value()).unwrap(),
        |sum, line| {
            line.extend(format!("[{},{},{}]", sum.key(), sum.value(), sum.number()).bytes())
        },
    )
    .discard();
    let summary = env.execute("reduce by last digit").unwrap();
    assert_eq!((summary.records, summary.records_out), (1_000, 1_000));
    serde_json::from_value(summary.result.unwrap()).unwrap()
}

#[test]
fn reduce_gives_one_record_for_each_and_ends_at_each_keys_sum() {
    let mut expected = Vec::new();
    let mut sums = [0; 10];
    for number in 0..1_000u64 {
        let sum = &mut sums[usize::try_from(number % 10).unwrap()];
        *sum += number;
        expected.push((number % 10, *sum, number));
    }
    expected.sort_unstable();
    let mut found = reduce_by_last_digit(1);
    found.sort_unstable();
    assert_eq!(found, expected, "in order, so every running sum is known");

    // From several sources records of a key come in any order, but each once, and the last sum holds them all.
    for parallelism in [2, 4] {
        let found = reduce_by_last_digit(parallelism);
        let mut numbers: Vec<u64> = found.iter().map(|(_, _, number)| *number).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..1_000));
        for (key, sum) in sums.iter().enumerate() {
            let of_key = found.iter().filter(|(found, ..)| *found == key as u64);
            assert_eq!(of_key.map(|(_, sum, _)| sum).max(), Some(sum), "key {key}");
        }
    }
}
