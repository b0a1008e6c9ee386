//! Interval joins against all pairs.

use proptest::prelude::*;

use super::*;
use crate::operator::testing::{Table, Tested, Triple, fold};
use crate::record::RowKind;

fn tested(lower: i64, upper: i64) -> Tested {
    Tested::new(operator(lower, upper, LateOutputs::default()))
}

fn operator(lower: i64, upper: i64, late: LateOutputs<Triple, Triple>) -> impl Operator {
    IntervalJoin::new(
        Interval::new(lower, upper).expect("legal"),
        |left: Row<'_, Triple>| left.key(),
        |right: Row<'_, Triple>| right.key(),
        |left: Row<'_, Triple>,
         right: Row<'_, Triple>,
         context: &IntervalContext,
         out: &mut Collector<'_, Triple>| {
            assert_eq!(left.timestamp(), context.left_timestamp());
            assert_eq!(right.timestamp(), context.right_timestamp());
            out.collect(Triple::new(left.key(), left.a(), right.a()));
        },
        late,
    )
}

#[test]
fn what_joins_nothing_is_refused() {
    assert!(Interval::new(2, 1).is_err());
    assert!(Interval::new(i64::MIN, 0).is_err());
    let mut join = tested(0, 0);
    let row = Triple::new(1, 1, 1);
    let error = join.push(0, row, 0, RowKind::Delete).expect_err("refused");
    assert!(error.to_string().contains("interval join"), "{error}");
    let error = join
        .push(1, row, i64::MIN, RowKind::Insert)
        .expect_err("no time");
    assert!(error.to_string().contains("timestamp assigner"), "{error}");
}

#[test]
fn state_goes_when_nothing_can_meet_it_any_more() {
    let mut operator = IntervalJoin::new(
        Interval::new(-5, 10).expect("legal"),
        |left: Row<'_, Triple>| left.key(),
        |right: Row<'_, Triple>| right.key(),
        |_: Row<'_, Triple>,
         _: Row<'_, Triple>,
         _: &IntervalContext,
         _: &mut Collector<'_, Triple>| {},
        LateOutputs::default(),
    );
    let metrics = Rc::new(SubtaskMetrics::default());
    operator
        .open(&crate::operator::chain::test_context(metrics))
        .expect("opens");
    let mut output = Output::Capture(Vec::new());
    for (input, time) in [(0, 100), (1, 100), (0, 100), (0, 103)] {
        let row = Triple::new(1, 1, 1);
        let record = RecordRef {
            bytes: &row.0,
            timestamp: EventTime(time),
            key_hash: 5,
            kind: RowKind::Insert,
            origin_ns: 0,
        };
        operator
            .on_record_of(input, &record, &mut output)
            .expect("joins");
    }
    // Left records meet right ones until 10 later, right records left ones until 5 later.
    for (watermark, kept) in [(105, 4), (106, 3), (110, 3), (111, 1), (113, 1), (114, 0)] {
        let progress = operator.on_watermark(EventTime(watermark), 0, &mut output);
        assert_eq!(progress.expect("cleans"), Progress::Done);
        let keyed = &operator.state.as_ref().expect("open").keyed;
        assert_eq!(
            keyed.backend.entries().expect("in memory"),
            kept,
            "at {watermark}"
        );
        assert_eq!(keyed.timers.is_empty(), kept == 0);
    }
}

#[test]
fn late_records_go_to_their_side() {
    const LATE: OutputTag<Triple> = OutputTag::new("late");
    let mut join = operator(
        0,
        0,
        LateOutputs {
            left: Some(LATE),
            right: None,
        },
    );
    let metrics = Rc::new(SubtaskMetrics::default());
    join.open(&crate::operator::chain::test_context(Rc::clone(&metrics)))
        .expect("opens");
    let side = (LATE.id(), Output::Capture(Vec::new()));
    let mut output = Output::Sides(Box::new(Output::End), vec![side]);
    let progress = join.on_watermark(EventTime(50), 0, &mut output);
    assert_eq!(progress.expect("cleans"), Progress::Done);
    for (input, time) in [(0, 49), (1, 49), (0, 50), (1, 50)] {
        let row = Triple::new(1, 1, 1);
        let record = RecordRef {
            bytes: &row.0,
            timestamp: EventTime(time),
            key_hash: 5,
            kind: RowKind::Insert,
            origin_ns: 0,
        };
        join.on_record_of(input, &record, &mut output)
            .expect("joins");
    }
    let Output::Sides(_, sides) = &output else {
        panic!("made above")
    };
    assert!(matches!(&sides[0].1, Output::Capture(late) if late.len() == 1));
    assert_eq!(metrics.late_records_dropped.get(), 1);
}

proptest! {
    /// Each pair of records that were not late and are within the bounds comes out once, at the later of their times.
    #[test]
    fn pairs_within_the_bounds_come_out_once(
        bounds in (-6i64..6, 0i64..6),
        steps in prop::collection::vec((0u8..2, 0u64..2, -20i64..20, any::<bool>()), 0..120),
    ) {
        let (lower, upper) = (bounds.0, bounds.0 + bounds.1);
        let mut join = tested(lower, upper);
        let mut sides: [Vec<(u64, i64, i64)>; 2] = [Vec::new(), Vec::new()];
        let (mut now, mut late, mut expected) = (i64::MIN, 0, Table::new());
        for ((input, key, time, advances), number) in steps.into_iter().zip(0i64..) {
            if advances && number % 4 == 0 {
                now = now.max(time);
                join.watermark(now);
                continue;
            }
            join.push(input, Triple::new(key, number, 0), time, RowKind::Insert).expect("joins");
            if time < now {
                late += 1;
                continue;
            }
            for (_, other, other_time) in sides[usize::from(1 - input)].iter().filter(|(other, ..)| *other == key) {
                let (left, right) = if input == 0 { (time, *other_time) } else { (*other_time, time) };
                let (a, b) = if input == 0 { (number, *other) } else { (*other, number) };
                if (lower..=upper).contains(&(right - left)) {
                    expected.insert((Triple::new(key, a, b), left.max(right)), 1);
                }
            }
            sides[usize::from(input)].push((key, number, time));
        }
        let mut found = Table::new();
        fold(&mut found, join.changes().into_iter().map(|(kind, row, time)| (kind, (row, time))));
        prop_assert_eq!(found, expected);
        prop_assert_eq!(join.metrics.late_records_dropped.get(), late);
    }
}
