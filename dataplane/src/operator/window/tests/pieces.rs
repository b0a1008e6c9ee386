//! Assigners, triggers and evictors by table.

use super::super::assigner::{GlobalWindows, SlidingEventTimeWindows, TumblingEventTimeWindows};
use super::super::evictor::{CountEvictor, DeltaEvictor, TimeEvictor};
use super::super::session::EventTimeSessionWindows;
use super::super::trigger::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountTrigger, DeltaTrigger,
    EventTimeTrigger, ProcessingTimeTrigger, PurgingTrigger,
};
use super::*;

fn lines(kind: &str) -> Vec<Vec<&'static str>> {
    let lines = include_str!("../../../../tests/data/windows.csv").lines();
    let lines: Vec<Vec<&str>> = lines
        .map(|line| line.split(',').collect())
        .filter(|fields: &Vec<&str>| fields[0] == kind)
        .collect();
    assert!(!lines.is_empty(), "no line of {kind}");
    lines
}

fn number(text: &str) -> i64 {
    text.parse().expect(text)
}

/// The windows of one record.
fn assigned(assigner: &dyn WindowAssigner<Bid>, time: i64) -> Vec<(i64, i64)> {
    let bid = Bid::new(1, 1);
    let record = RecordRef {
        bytes: bid.as_bytes(),
        timestamp: EventTime(time),
        key_hash: 0,
        kind: RowKind::Insert,
        origin_ns: 0,
    };
    let mut windows = Vec::new();
    // SAFETY: it is a bid.
    assigner.assign_windows(unsafe { Row::read(&record) }, time, &mut windows);
    windows
        .iter()
        .map(|window| (window.start(), window.end()))
        .collect()
}

#[test]
fn assigners_agree_with_every_line_of_flink_2_2_0() {
    for line in lines("tumbling") {
        let (time, size, offset) = (number(line[1]), number(line[2]), number(line[3]));
        let expected = [(number(line[4]), number(line[5]))];
        let event_time = TumblingEventTimeWindows::of_with_offset(ms(size), offset);
        assert_eq!(assigned(&event_time, time), expected, "{line:?}");
        let processing_time =
            assigner::TumblingProcessingTimeWindows::of_with_offset(ms(size), offset);
        assert_eq!(assigned(&processing_time, time), expected, "{line:?}");
    }
    for line in lines("sliding") {
        let (time, size, slide, offset) = (
            number(line[1]),
            number(line[2]),
            number(line[3]),
            number(line[4]),
        );
        let starts = line[5].split(' ').map(number);
        let expected: Vec<(i64, i64)> = starts.map(|start| (start, start + size)).collect();
        let event_time = SlidingEventTimeWindows::of_with_offset(ms(size), ms(slide), offset);
        assert_eq!(
            assigned(&event_time, time),
            expected,
            "in Flink's order: {line:?}"
        );
        let processing_time =
            assigner::SlidingProcessingTimeWindows::of_with_offset(ms(size), ms(slide), offset);
        assert_eq!(assigned(&processing_time, time), expected, "{line:?}");
    }
}

#[test]
fn sessions_agree_with_every_line_of_flink_2_2_0() {
    for line in lines("session") {
        let gap = ms(number(line[1]));
        let times: Vec<i64> = line[2].split(' ').map(number).collect();
        let mut expected: Vec<(i64, i64)> = line[3]
            .split(' ')
            .map(|window| {
                let (start, end) = window.split_once('-').expect(window);
                (number(start), number(end))
            })
            .collect();
        expected.sort_unstable();
        let fixed = windowing(EventTimeSessionWindows::with_gap(gap));
        let dynamic = EventTimeSessionWindows::with_dynamic_gap(move |_: Row<'_, Bid>| gap);
        for operator in [accumulating(fixed), listing(windowing(dynamic), None)] {
            let mut harness = Harness::new(operator);
            for time in &times {
                harness.send(1, 1, *time);
            }
            harness.end();
            let rows = harness.rows();
            let windows: Vec<(i64, i64)> = rows.iter().map(|row| (row.0, row.1)).collect();
            assert_eq!(windows, expected, "{line:?}");
            let records: u64 = rows.iter().map(|row| row.3).sum();
            assert_eq!(records, times.len() as u64, "{line:?}");
        }
    }
}

#[test]
fn each_record_may_have_its_own_gap() {
    let by_value = |bid: Row<'_, Bid>| Duration::from_millis(bid.value());
    let dynamic = EventTimeSessionWindows::with_dynamic_gap(by_value);
    let mut harness = Harness::new(accumulating(windowing(dynamic)));
    harness.send(1, 50, 0);
    harness.send(1, 5, 20);
    harness.send(1, 5, 51);
    harness.end();
    assert_eq!(harness.rows(), [(0, 50, 1, 55), (51, 56, 1, 5)]);
}

#[test]
fn sizes_that_make_no_windows_are_refused() {
    fn problem(assigner: &impl WindowAssigner<Bid>) -> String {
        assigner.check().expect_err("no windows")
    }
    let zero = Duration::ZERO;
    let text = problem(&TumblingEventTimeWindows::of(zero));
    assert!(text.contains("size must be 1 ms or more"), "{text}");
    let text = problem(&SlidingEventTimeWindows::of(ms(10), zero));
    assert!(text.contains("slide must be 1 ms or more"), "{text}");
    let text = problem(&TumblingEventTimeWindows::of_with_offset(ms(10), 10));
    assert!(text.contains("offset must be less"), "{text}");
    let text = problem(&EventTimeSessionWindows::with_gap(zero));
    assert!(text.contains("gap of a session"), "{text}");
}

/// What happens to a trigger's window, and the sums that it then gives out.
enum Do {
    Bid(i64, u64),
    Watermark(i64),
    Clock(i64),
}
use Do::{Bid as Add, Clock as At, Watermark as Mark};

fn check_trigger(
    name: &str,
    assigner: impl WindowAssigner<Bid> + Clone,
    trigger: impl Trigger<Bid> + Clone,
    steps: &[(Do, &[u64])],
) {
    for listed in [false, true] {
        let windowing = with_trigger(assigner.clone(), trigger.clone());
        let mut harness = Harness::new(if listed {
            listing(windowing, None)
        } else {
            accumulating(windowing)
        });
        for (index, (step, expected)) in steps.iter().enumerate() {
            match *step {
                Add(time, value) => harness.send(1, value, time),
                Mark(time) => harness.watermark(time),
                At(now_ms) => harness.clock(now_ms),
            }
            let sums: Vec<u64> = harness.rows().iter().map(|row| row.3).collect();
            assert_eq!(sums, *expected, "{name}, step {index}");
        }
    }
}

#[test]
fn triggers_fire_when_flinks_do() {
    let ten = || TumblingEventTimeWindows::of(ms(10));
    let hundred = || TumblingEventTimeWindows::of(ms(100));
    let global = GlobalWindows::create;
    check_trigger(
        "event time",
        ten(),
        EventTimeTrigger,
        &[
            (Add(0, 1), &[]),
            (Mark(8), &[]),
            (Add(9, 2), &[]),
            (Mark(9), &[3]),
            (Mark(50), &[]),
        ],
    );
    check_trigger(
        "processing time in windows of event time",
        ten(),
        ProcessingTimeTrigger,
        &[
            (Add(0, 1), &[]),
            (At(8), &[]),
            (At(9), &[1]),
            (Add(1, 2), &[]),
            (At(10), &[3]),
            (Mark(9), &[]),
        ],
    );
    check_trigger(
        "count",
        global(),
        CountTrigger::of(2),
        &[
            (Add(0, 1), &[]),
            (Add(0, 2), &[3]),
            (Add(0, 3), &[]),
            (Add(0, 4), &[10]),
            (Mark(i64::MAX), &[]),
        ],
    );
    check_trigger(
        "purging count",
        global(),
        PurgingTrigger::of(CountTrigger::of(2)),
        &[
            (Add(0, 1), &[]),
            (Add(0, 2), &[3]),
            (Add(0, 3), &[]),
            (Add(0, 4), &[7]),
        ],
    );
    check_trigger(
        "count in windows of event time: their end fires nothing",
        ten(),
        CountTrigger::of(2),
        &[
            (Add(0, 1), &[]),
            (Mark(9), &[]),
            (Add(10, 2), &[]),
            (Add(11, 2), &[4]),
        ],
    );
    check_trigger(
        "purging event time",
        ten(),
        PurgingTrigger::of(EventTimeTrigger),
        &[(Add(0, 1), &[]), (Mark(9), &[1])],
    );
    check_trigger(
        "continuous event time",
        hundred(),
        ContinuousEventTimeTrigger::of(ms(20)),
        &[
            (Add(5, 1), &[]),
            (Mark(19), &[]),
            (Mark(20), &[1]),
            (Add(30, 2), &[]),
            (Mark(61), &[3, 3]),
            (Mark(200), &[3, 3]),
        ],
    );
    check_trigger(
        "continuous processing time in windows of event time",
        hundred(),
        ContinuousProcessingTimeTrigger::of(ms(20)),
        &[
            (At(7), &[]),
            (Add(5, 1), &[]),
            (At(20), &[1]),
            (Add(5, 2), &[]),
            (At(45), &[3]),
            // Behind the window's own end it goes on by the interval.
            (At(121), &[3, 3, 3, 3, 3]),
            (Mark(99), &[]),
            (At(400), &[]),
        ],
    );
    let distance = |last: Row<'_, Bid>, bid: Row<'_, Bid>| {
        f64::from(u32::try_from(bid.value().abs_diff(last.value())).expect("small"))
    };
    check_trigger(
        "delta",
        global(),
        DeltaTrigger::of(3.0, distance),
        &[
            (Add(0, 1), &[]),
            (Add(0, 4), &[]),
            (Add(0, 5), &[10]),
            (Add(0, 2), &[]),
            (Add(0, 1), &[13]),
        ],
    );
}

#[test]
fn triggers_of_sessions_merge_what_they_keep() {
    let sessions = || EventTimeSessionWindows::with_gap(ms(10));
    check_trigger(
        "count: two and one make three",
        sessions(),
        CountTrigger::of(4),
        &[
            (Add(0, 1), &[]),
            (Add(3, 1), &[]),
            (Add(20, 1), &[]),
            (Add(11, 1), &[4]),
            (Mark(99), &[]),
        ],
    );
    check_trigger(
        "continuous: the earliest time stays",
        sessions(),
        ContinuousEventTimeTrigger::of(ms(50)),
        &[
            (Add(0, 1), &[]),
            (Add(60, 1), &[]),
            (Mark(40), &[1]),
            (Add(68, 1), &[]),
            (Mark(77), &[2, 2]),
        ],
    );
    check_trigger(
        "purging",
        sessions(),
        PurgingTrigger::of(CountTrigger::of(2)),
        &[
            (Add(0, 1), &[]),
            (Add(20, 1), &[]),
            (Add(10, 1), &[3]),
            (Add(5, 1), &[]),
            (Add(5, 7), &[8]),
        ],
    );
}

#[test]
fn evictors_take_out_what_flinks_do() {
    fn sums(evictor: Box<dyn Evictor<Bid>>, bids: &[(i64, u64)]) -> Vec<u64> {
        let windowing = with_trigger(GlobalWindows::create(), CountTrigger::of(3));
        let mut harness = Harness::new(listing(windowing, Some(evictor)));
        let mut sums = Vec::new();
        for (time, value) in bids {
            harness.send(1, *value, *time);
            sums.extend(harness.rows().iter().map(|row| row.3));
        }
        sums
    }
    let six = [(0, 1), (10, 2), (20, 4), (30, 8), (40, 16), (50, 32)];
    assert_eq!(sums(Box::new(CountEvictor::of(2)), &six), [6, 48]);
    assert_eq!(sums(Box::new(CountEvictor::of(4)), &six), [7, 60]);
    assert_eq!(sums(Box::new(CountEvictor::of(2).after()), &six), [7, 62]);
    assert_eq!(sums(Box::new(CountEvictor::of(0)), &six), [0, 0]);
    // Those of the last 10 ms: at 10 ms before the newest they go.
    assert_eq!(sums(Box::new(TimeEvictor::of(ms(10))), &six), [4, 32]);
    assert_eq!(sums(Box::new(TimeEvictor::of(ms(11))), &six), [6, 48]);
    assert_eq!(
        sums(Box::new(TimeEvictor::of(ms(11)).after()), &six),
        [7, 62]
    );
    let untimed = [(EventTime::NONE.0, 1); 3];
    assert_eq!(sums(Box::new(TimeEvictor::of(ms(10))), &untimed), [3]);
    let distance = |bid: Row<'_, Bid>, last: Row<'_, Bid>| {
        f64::from(u32::try_from(bid.value().abs_diff(last.value())).expect("small"))
    };
    assert_eq!(
        sums(Box::new(DeltaEvictor::of(3.0, distance)), &six),
        [6, 32]
    );
    assert_eq!(
        sums(Box::new(DeltaEvictor::of(3.0, distance).after()), &six),
        [7, 62]
    );
}

#[test]
fn an_evicted_aggregate_sees_what_is_left() {
    let windowing = with_trigger(GlobalWindows::create(), CountTrigger::of(2));
    let contents = Listed::<Bid>::new(Some(Box::new(CountEvictor::of(3))));
    let folded = function::Folded::new(Sum, Emit(emit));
    let mut harness = Harness::new(general(windowing, contents, folded));
    for value in [1, 2, 4, 8, 16, 32] {
        harness.send(1, value, 0);
    }
    let sums: Vec<u64> = harness.rows().iter().map(|row| row.3).collect();
    assert_eq!(sums, [3, 14, 56]);
}
