//! Watermark alignment: a fast source waits for a slow one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ringflow::api::sequence::Number;
use ringflow::prelude::*;

use crate::streams::environment;

/// Milliseconds of event time in the slow source, one record each.
const SPAN: u64 = 2_000;

/// How far the fast source was ahead of the slow one at most, in milliseconds of event time, once the slow one had begun.
fn greatest_lead(parallelism: u32, drift: Option<Duration>) -> (i64, u64) {
    let env = environment(parallelism);
    let slow_is_at = Arc::new(AtomicI64::new(-1));
    let lead = Arc::new(AtomicI64::new(0));
    let strategy = || {
        let strategy = WatermarkStrategy::<Number>::monotonous_timestamps()
            .timestamp(|number| i64::try_from(number.value()).unwrap());
        match drift {
            Some(drift) => strategy.alignment_every("both", drift, Duration::from_millis(20)),
            None => strategy,
        }
    };
    let source = |name, rate| {
        let source = DataGeneratorSource::structs(SPAN, Number::new).rate(rate);
        env.from_source(source, strategy(), name)
    };
    let reached = Arc::clone(&slow_is_at);
    let slow = source("slow", SPAN).map(move |number| {
        reached.fetch_max(i64::try_from(number.value()).unwrap(), Ordering::SeqCst);
        Number::new(number.value())
    });
    let (reached, greatest) = (Arc::clone(&slow_is_at), Arc::clone(&lead));
    let fast = source("fast", 100 * SPAN).map(move |number| {
        let slow = reached.load(Ordering::SeqCst);
        let ahead = i64::try_from(number.value()).unwrap() - slow;
        greatest.fetch_max(ahead, Ordering::SeqCst);
        Number::new(number.value())
    });
    slow.union([fast]).discard();
    let summary = env.execute("aligned").unwrap();
    (lead.load(Ordering::SeqCst), summary.records_out)
}

#[test]
fn a_fast_source_waits_for_a_slow_one_and_nothing_is_lost() {
    // Both read the numbers of one clock; the fast one would be through in 20 ms.
    let (unaligned, records) = greatest_lead(1, None);
    assert_eq!(records, 2 * SPAN);
    assert!(unaligned > 1_500, "led by {unaligned} ms");
    let (lead, records) = greatest_lead(1, Some(Duration::from_millis(100)));
    assert_eq!(records, 2 * SPAN);
    // The drift, and what one poll reads beyond it.
    assert!(lead <= 100 + 512, "led by {lead} ms");
    // The second half of both sources is another subtask's, so there is a lead by nature.
    let (_, records) = greatest_lead(2, Some(Duration::from_millis(100)));
    assert_eq!(records, 2 * SPAN);
}

#[test]
fn a_source_that_ends_or_never_has_watermarks_holds_nobody_up() {
    let env = environment(1);
    let aligned = || {
        WatermarkStrategy::monotonous_timestamps().alignment_every(
            "both",
            Duration::ZERO,
            Duration::from_millis(10),
        )
    };
    let short = env.from_source(SequenceSource::new(10), aligned(), "short");
    let long = env.from_source(SequenceSource::new(5_000), aligned(), "long");
    let silent = WatermarkStrategy::no_watermarks().alignment("both", Duration::ZERO);
    let silent = env.from_source(SequenceSource::new(100), silent, "silent");
    short.union([long, silent]).discard();
    assert_eq!(env.execute("ends").unwrap().records_out, 5_110);
}

#[test]
fn an_alignment_that_makes_no_sense_is_refused() {
    for (group, interval, why) in [
        ("", 1_000, "group of a watermark alignment"),
        ("g", 5, "choose 10 to 3600000"),
    ] {
        let env = environment(1);
        let strategy = WatermarkStrategy::monotonous_timestamps().alignment_every(
            group,
            Duration::from_secs(1),
            Duration::from_millis(interval),
        );
        env.from_source(SequenceSource::new(1), strategy, "numbers")
            .discard();
        let error = env.execute("refused").unwrap_err();
        assert!(format!("{error:#}").contains(why), "{error:#}");
    }
}
