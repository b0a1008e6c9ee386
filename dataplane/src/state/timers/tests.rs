//! Timers against a sorted set.

use std::collections::BTreeSet;

use proptest::prelude::*;
use ringflow_schemas::key_group::{hash_code_u64, key_group, owner, spread};

use super::*;

const GROUPS: u32 = 8;

fn hash(key: u64) -> u32 {
    spread(hash_code_u64(key))
}

fn at<'a>(key: &'a u64, namespace: &'a [u8]) -> At<'a> {
    At {
        key_hash: hash(*key),
        key: bytemuck::bytes_of(key),
        namespace,
    }
}

/// What timers are sorted by.
type Model = BTreeSet<(i64, u32, Vec<u8>, Vec<u8>)>;

fn modelled(key: u64, namespace: &[u8], time: i64) -> (i64, u32, Vec<u8>, Vec<u8>) {
    let group = key_group(hash(key), GROUPS);
    (time, group, key.to_ne_bytes().to_vec(), namespace.to_vec())
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Register(u64, u8, i64),
    Delete(u64, u8, i64),
    /// Pops what is due, and registers one again that came out, later.
    Advance(i64),
}

fn operations() -> impl Strategy<Value = Vec<Op>> {
    let timer = (0u64..20, 0u8..3, -5i64..40);
    let operation = prop_oneof![
        6 => timer.clone().prop_map(|(key, namespace, time)| Op::Register(key, namespace, time)),
        4 => timer.prop_map(|(key, namespace, time)| Op::Delete(key, namespace, time)),
        1 => (-5i64..40).prop_map(Op::Advance),
    ];
    prop::collection::vec(operation, 0..500)
}

proptest! {
    #[test]
    fn timers_do_what_a_sorted_set_does(operations in operations()) {
        let mut timers = TimerService::new(0, 1, GROUPS);
        let mut model = Model::new();
        let mut due = DueTimer::default();
        for operation in operations {
            match operation {
                Op::Register(key, number, time) => {
                    let namespace = vec![number; usize::from(number) * 8];
                    timers.register_event_time_timer(at(&key, &namespace), time).expect("owned");
                    model.insert(modelled(key, &namespace, time));
                }
                Op::Delete(key, number, time) => {
                    let namespace = vec![number; usize::from(number) * 8];
                    timers.delete_event_time_timer(at(&key, &namespace), time).expect("owned");
                    model.remove(&modelled(key, &namespace, time));
                }
                Op::Advance(watermark) => {
                    let mut again = 3;
                    while timers.pop_due_event_time(EventTime(watermark), &mut due) {
                        let expected = model.pop_first();
                        let group = key_group(due.key_hash, GROUPS);
                        let found = (due.timestamp, group, due.key.clone(), due.namespace.clone());
                        prop_assert_eq!(Some(&found), expected.as_ref());
                        if again > 0 {
                            again -= 1;
                            // Sometimes due at once, sometimes later.
                            let time = due.timestamp + 5;
                            timers.register_event_time_timer(due.at(), time).expect("owned");
                            model.insert((time, found.1, found.2, found.3));
                        }
                    }
                    prop_assert!(model.first().is_none_or(|first| first.0 > watermark));
                }
            }
            prop_assert_eq!(timers.len(TimeDomain::EventTime), model.len());
            prop_assert_eq!(timers.next_event_time(), model.first().map(|first| EventTime(first.0)));
        }
        let mut found = Model::new();
        for group in timers.key_groups() {
            timers.for_each_timer(TimeDomain::EventTime, group, |at, time| {
                assert_eq!(key_group(at.key_hash, GROUPS), group);
                assert!(found.insert((time, group, at.key.to_vec(), at.namespace.to_vec())), "each once");
            }).expect("owned");
        }
        prop_assert_eq!(found, model);
    }
}

#[test]
fn the_two_times_do_not_touch() {
    let mut timers = TimerService::new(0, 1, GROUPS);
    timers
        .register_event_time_timer(at(&1, b""), 10)
        .expect("owned");
    timers
        .register_processing_time_timer(at(&1, b""), 20)
        .expect("owned");
    let mut due = DueTimer::default();
    assert!(!timers.pop_due_processing_time(19, &mut due));
    assert!(!timers.pop_due_event_time(EventTime(9), &mut due));
    assert_eq!(timers.next_processing_time(), Some(20));
    assert!(timers.pop_due_processing_time(20, &mut due));
    assert_eq!((due.timestamp, due.at()), (20, at(&1, b"")));
    assert_eq!(timers.next_processing_time(), None);
    assert_eq!(timers.next_event_time(), Some(EventTime(10)));
    timers
        .register_processing_time_timer(at(&1, b""), 30)
        .expect("owned");
    timers
        .delete_processing_time_timer(at(&1, b""), 30)
        .expect("owned");
    assert_eq!(
        timers.next_processing_time(),
        None,
        "a deleted timer wakes nobody"
    );
    assert!(!timers.is_empty());
    assert!(timers.pop_due_event_time(EventTime::MAX, &mut due));
    assert!(timers.is_empty());
}

/// A session window moves its timer with every record: what it leaves behind must not pile up until it is due.
#[test]
fn deleted_timers_do_not_pile_up() {
    let mut timers = TimerService::new(0, 1, 128);
    let mut most = 0;
    for time in 0..200_000 {
        for key in 0..2u64 {
            timers
                .register_event_time_timer(at(&key, b""), 1_000_000 + time)
                .expect("owned");
            timers
                .delete_event_time_timer(at(&key, b""), 999_999 + time)
                .expect("owned");
        }
        most = most.max(timers.bytes());
    }
    assert_eq!(timers.len(TimeDomain::EventTime), 2);
    assert!(most < 1 << 20, "{most} bytes for two timers");
}

#[test]
fn timers_of_another_subtask_are_refused() {
    let mut timers = TimerService::new(1, 2, 128);
    for key in 0..100 {
        let own = owner(key_group(hash(key), 128), 128, 2) == 1;
        for result in [
            timers.register_event_time_timer(at(&key, b""), 1),
            timers.delete_processing_time_timer(at(&key, b""), 1),
        ] {
            assert_eq!(result.is_ok(), own, "{key}");
        }
    }
    assert!(
        timers
            .for_each_timer(TimeDomain::EventTime, 0, |_, _| {})
            .is_err()
    );
    let long = [0; 300];
    let own = (0..100).find(|key| owner(key_group(hash(*key), 128), 128, 2) == 1);
    let refused = timers.register_event_time_timer(at(&own.expect("half of them"), &long), 1);
    assert!(
        refused
            .expect_err("too long")
            .to_string()
            .contains("namespace of 308 bytes")
    );
}
