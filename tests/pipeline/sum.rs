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
