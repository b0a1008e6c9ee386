//! Window co-groups against a map of all records.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::operator::testing::{Tested, Triple};

fn windows(size: u64, slide: u64) -> SlidingWindows {
    let (size, slide) = (Duration::from_millis(size), Duration::from_millis(slide));
    SlidingWindows::new(size, slide, 0).expect("legal")
}

/// For each key's window a record of its start and all numbers of both sides, each written behind the other in decimal.
fn tested(size: u64, slide: u64) -> Tested {
    Tested::new(CoGroup::new(
        windows(size, slide),
        |left: Row<'_, Triple>| left.key(),
        |right: Row<'_, Triple>| right.key(),
        |key: &u64,
         window: TimeWindow,
         left: Rows<'_, Triple>,
         right: Rows<'_, Triple>,
         out: &mut Collector<'_, Triple>| {
            assert_eq!(
                left.len() + right.len(),
                left.iter().count() + right.iter().count()
            );
            assert_eq!(left.is_empty(), left.iter().next().is_none());
            for row in left.iter() {
                out.collect(Triple::new(*key, window.start(), row.a()));
            }
            for row in right.iter() {
                assert!((window.start()..window.end()).contains(&row.timestamp().0));
                out.collect(Triple::new(*key, window.start(), -row.a()));
            }
            out.collect(Triple::new(*key, window.start(), 0));
        },
    ))
}

#[test]
fn what_it_cannot_take_is_refused_with_what_to_do() {
    let mut group = tested(10, 10);
    let row = Triple::new(1, 1, 0);
    let error = group.push(0, row, 0, RowKind::Delete).expect_err("refused");
    assert!(error.to_string().contains("without a window"), "{error}");
    let error = group
        .push(1, row, i64::MIN, RowKind::Insert)
        .expect_err("no time");
    assert!(error.to_string().contains("timestamp assigner"), "{error}");
}

#[test]
fn windows_wait_for_room_behind_them() {
    struct Full(bool);
    impl Operator for Full {
        fn on_record(&mut self, _: &RecordRef<'_>, _: &mut Output) -> Result<()> {
            assert!(!self.0, "it said that it is full");
            self.0 = true;
            Ok(())
        }
        fn wants_poll(&self) -> bool {
            true
        }
        fn poll(&mut self) -> Result<()> {
            self.0 = false;
            Ok(())
        }
        fn is_blocked(&self) -> bool {
            self.0
        }
    }
    use crate::element::{Control, Watermark};
    use crate::operator::chain::{Chain, ChainNode, Signal, test_context};
    let group = CoGroup::new(
        windows(10, 10),
        |left: Row<'_, Triple>| left.key(),
        |right: Row<'_, Triple>| right.key(),
        |key: &u64,
         _: TimeWindow,
         _: Rows<'_, Triple>,
         _: Rows<'_, Triple>,
         out: &mut Collector<'_, Triple>| {
            out.collect(Triple::new(*key, 0, 0));
        },
    );
    let full = Output::Chained(Box::new(ChainNode::new(
        "full",
        Box::new(Full(false)),
        Output::End,
    )));
    let node = ChainNode::new("group", Box::new(group), full);
    let mut chain = Chain::new(Output::Chained(Box::new(node)));
    chain
        .open(&test_context(Rc::new(SubtaskMetrics::default())))
        .expect("opens");
    for key in 0..3 {
        let row = Triple::new(key, 0, 0);
        let record = RecordRef {
            bytes: &row.0,
            timestamp: EventTime(5),
            key_hash: u32::try_from(key).expect("small"),
            kind: RowKind::Insert,
            origin_ns: 0,
        };
        chain.on_record_of(0, &record).expect("groups");
    }
    let signal = Signal::Control(Control::Watermark {
        watermark: Watermark::At(EventTime::MAX),
        origin_ns: 0,
    });
    let (mut progress, mut rounds) = (chain.on_signal(signal).expect("fires"), 0);
    while progress == Progress::Blocked {
        chain.poll().expect("polls");
        progress = chain.resume().expect("resumes");
        rounds += 1;
    }
    assert_eq!(rounds, 2, "one window at a time");
}

type Sides = [Vec<i64>; 2];

proptest! {
    /// Windows of random streams with late records are those of a naive model that keeps every record.
    #[test]
    fn windows_equal_a_naive_model(
        shape in prop::sample::select(vec![(10u64, 10u64), (10, 2), (10, 3), (5, 20)]),
        steps in prop::collection::vec((0u8..3, 0u64..3, -60i64..60), 0..120),
    ) {
        let (size, slide) = (i64::try_from(shape.0).expect("small"), i64::try_from(shape.1).expect("small"));
        let mut group = tested(shape.0, shape.1);
        let (mut open, mut late, mut now) = (BTreeMap::<(i64, u64), Sides>::new(), 0, i64::MIN);
        let mut expected = Vec::new();
        for ((step, key, time), number) in steps.into_iter().chain([(2, 0, 1_000)]).zip(1i64..) {
            if step < 2 {
                let mut taken = false;
                for start in (time - size + 1)..=time {
                    if start.rem_euclid(slide) == 0 && start + size - 1 > now {
                        open.entry((start, key)).or_default()[usize::from(step)].push(number);
                        taken = true;
                    }
                }
                late += u64::from(!taken && time <= now);
                group.push(step, Triple::new(key, number, 0), time, RowKind::Insert).expect("groups");
            } else {
                now = now.max(time);
                group.watermark(now);
                let ended: Vec<_> = open.extract_if(.., |(start, _), _| start + size - 1 <= now).collect();
                for ((start, key), [left, right]) in ended {
                    let numbers = left.into_iter().chain(right.into_iter().map(|number| -number)).chain([0]);
                    expected.extend(numbers.map(|number| (Triple::new(key, start, number), start + size - 1)));
                }
            }
        }
        let changes = group.changes().into_iter();
        let mut found: Vec<_> = changes.map(|(_, row, time)| (row, time)).collect();
        // Within a key's window the order is that of arrival; among windows that end at once it is free.
        found.sort_by_key(|(row, time)| (*time, row.key()));
        expected.sort_by_key(|(row, time)| (*time, row.key()));
        prop_assert_eq!(found, expected);
        prop_assert_eq!(group.metrics.late_records_dropped.get(), late);
    }
}
