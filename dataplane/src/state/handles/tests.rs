//! Typed state against std's collections, under random operations, and time to live with an injected time: each in memory, on
//! disk, and on disk with so little memory that most of it is read back from there.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use ringflow_schemas::key_group::{hash_code_u64, spread};

use super::*;
use crate::error::Result;
use crate::operator::window::{TimeWindow, WindowResult};
use crate::record::{EventTime, RecordRef, RowKind};
use crate::state::backend::StoreId;
use crate::state::disk::tests::{In, Opened};
use crate::state::map_table::Visit;
use crate::state::value::{RecordOf, Stored};

fn at(key: &u64) -> At<'_> {
    At {
        key_hash: spread(hash_code_u64(*key)),
        key: bytemuck::bytes_of(key),
        namespace: &[],
    }
}

fn backend(place: In) -> Opened {
    place.open(0, 1, 128)
}

/// Two keys in different key groups, one that shares its hash with another, and a second namespace.
fn place() -> impl Strategy<Value = (u64, bool)> {
    (
        prop_oneof![Just(1u64), Just(2), Just(5 << 32 | 5), Just(6 << 32 | 6)],
        any::<bool>(),
    )
}

fn with<T>(
    backend: &mut KeyedStateBackend,
    (key, windowed): (u64, bool),
    now_ms: i64,
    then: impl FnOnce(&mut KeyedAccess<'_>) -> Result<T>,
) -> T {
    let mut access = KeyedAccess::new(backend, at(&key), now_ms);
    let result = match windowed {
        false => then(&mut access),
        true => then(&mut access.in_namespace(&[1; 16])),
    };
    result.expect("owned and undamaged")
}

#[derive(Debug, Clone)]
enum ListOp {
    Add(String),
    AddAll(Vec<String>),
    Update(Vec<String>),
    Clear,
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![8 => 0usize..60, 1 => 60usize..9_000].prop_map(|length| "x".repeat(length))
}

fn list_operations() -> impl Strategy<Value = Vec<((u64, bool), ListOp)>> {
    let operation = prop_oneof![
        8 => text().prop_map(ListOp::Add),
        2 => prop::collection::vec(text(), 0..20).prop_map(ListOp::AddAll),
        1 => prop::collection::vec(text(), 0..20).prop_map(ListOp::Update),
        1 => Just(ListOp::Clear),
    ];
    prop::collection::vec((place(), operation), 0..200)
}

/// Of a map, in the order in which keys were first put.
type Entries = Vec<(u16, Vec<u8>)>;

#[derive(Debug, Clone, Copy)]
enum MapOp {
    Put(u16, usize),
    Remove(u16),
    Append(u16),
    Clear,
}

fn map_operations() -> impl Strategy<Value = Vec<((u64, bool), MapOp)>> {
    let operation = prop_oneof![
        8 => (0u16..60, 0usize..200).prop_map(|(key, length)| MapOp::Put(key, length)),
        4 => (0u16..60).prop_map(MapOp::Remove),
        4 => (0u16..60).prop_map(MapOp::Append),
        1 => Just(MapOp::Clear),
    ];
    prop::collection::vec((place(), operation), 0..400)
}

proptest! {
    #[test]
    fn lists_do_what_vectors_do(on in In::any(), operations in list_operations()) {
        let mut backend = backend(on);
        let list = ListStateDescriptor::<String>::new("list").register(&mut backend).expect("fresh");
        let mut model: HashMap<(u64, bool), Vec<String>> = HashMap::new();
        for (place, operation) in operations {
            let expected = model.entry(place).or_default();
            with(&mut backend, place, 0, |access| match operation {
                ListOp::Add(text) => {
                    expected.push(text.clone());
                    list.add(access, &text)
                }
                ListOp::AddAll(texts) => {
                    expected.extend(texts.clone());
                    list.add_all(access, &texts)
                }
                ListOp::Update(texts) => {
                    expected.clone_from(&texts);
                    list.update(access, &texts)
                }
                ListOp::Clear => {
                    expected.clear();
                    list.clear(access)
                }
            });
            let found = with(&mut backend, place, 0, |access| list.get(access));
            prop_assert_eq!(&found, &*expected);
            let empty = with(&mut backend, place, 0, |access| list.is_empty(access));
            prop_assert_eq!(empty, expected.is_empty());
            prop_assert_eq!(backend.entries().expect("readable"), model.values().map(Vec::len).sum::<usize>());
        }
    }

    #[test]
    fn maps_do_what_maps_do(on in In::any(), operations in map_operations()) {
        let mut backend = backend(on);
        let map = MapStateDescriptor::<u16, Vec<u8>>::new("map").register(&mut backend).expect("fresh");
        let mut model: HashMap<(u64, bool), Entries> = HashMap::new();
        for (place, operation) in operations {
            let expected = model.entry(place).or_default();
            with(&mut backend, place, 0, |access| match operation {
                MapOp::Put(key, length) => {
                    let value = vec![7; length];
                    map.put(access, &key, &value)?;
                    match expected.iter_mut().find(|entry| entry.0 == key) {
                        Some(entry) => entry.1 = value,
                        None => expected.push((key, value)),
                    }
                    Ok(())
                }
                MapOp::Remove(key) => {
                    expected.retain(|entry| entry.0 != key);
                    map.remove(access, &key)
                }
                MapOp::Append(key) => {
                    let known = expected.iter_mut().find(|entry| entry.0 == key);
                    map.modify(access, &key, |old| {
                        assert_eq!(old.as_ref(), known.as_ref().map(|entry| &entry.1));
                        old.map(|mut bytes| {
                            bytes.extend_from_slice(&[1; 10]);
                            bytes
                        })
                    })?;
                    if let Some((_, bytes)) = known {
                        bytes.extend_from_slice(&[1; 10]);
                    }
                    Ok(())
                }
                MapOp::Clear => {
                    expected.clear();
                    map.clear(access)
                }
            });
            let (keys, values): (Vec<_>, Vec<_>) = expected.iter().cloned().unzip();
            prop_assert_eq!(with(&mut backend, place, 0, |access| map.keys(access)), keys);
            prop_assert_eq!(with(&mut backend, place, 0, |access| map.values(access)), values);
            let probe = expected.get(expected.len() / 2).map_or(999, |entry| entry.0);
            let found = with(&mut backend, place, 0, |access| map.get(access, &probe));
            prop_assert_eq!(found.as_ref(), expected.iter().find(|entry| entry.0 == probe).map(|entry| &entry.1));
            let contains = with(&mut backend, place, 0, |access| map.contains(access, &probe));
            prop_assert_eq!(contains, !expected.is_empty());
            let empty = with(&mut backend, place, 0, |access| map.is_empty(access));
            prop_assert_eq!(empty, expected.is_empty());
            prop_assert_eq!(backend.entries().expect("readable"), model.values().map(Vec::len).sum::<usize>());
        }
    }

    /// What expires is gone at its time, whoever looks and however the clean-up went on meanwhile.
    #[test]
    fn values_with_a_time_to_live_do_what_a_map_with_times_does(
        steps in prop::collection::vec((0u64..30, 0i64..40, 0u8..4), 0..400),
        on_read: bool,
        cleanup in 0usize..4,
        on in In::any(),
    ) {
        let update_type = if on_read { UpdateType::OnReadAndWrite } else { UpdateType::OnCreateAndWrite };
        let ttl = StateTtlConfig::of(Duration::from_millis(100)).update_type(update_type).cleanup_incrementally(cleanup);
        let mut backend = backend(on);
        let value = ValueStateDescriptor::<u64>::new("value").enable_time_to_live(ttl).register(&mut backend).expect("fresh");
        let list = ListStateDescriptor::<u64>::new("list").enable_time_to_live(ttl).register(&mut backend).expect("fresh");
        let map = MapStateDescriptor::<u64, u64>::new("map").enable_time_to_live(ttl).register(&mut backend).expect("fresh");
        let mut values: HashMap<u64, (i64, u64)> = HashMap::new();
        let mut lists: HashMap<u64, Vec<(i64, u64)>> = HashMap::new();
        let mut maps: HashMap<u64, Vec<(i64, u64, u64)>> = HashMap::new();
        let mut now = 1_000i64;
        for (key, pause, what) in steps {
            now += pause;
            let element = now.unsigned_abs();
            values.retain(|_, (last, _)| *last + 100 > now);
            let elements = lists.entry(key).or_default();
            elements.retain(|(last, _)| *last + 100 > now);
            let entries = maps.entry(key).or_default();
            entries.retain(|(last, _, _)| *last + 100 > now);
            with(&mut backend, (key, false), now, |access| match what {
                0 => {
                    values.insert(key, (now, element));
                    elements.push((now, element));
                    match entries.iter_mut().find(|entry| entry.1 == element % 3) {
                        Some(entry) => (entry.0, entry.2) = (now, element),
                        None => entries.push((now, element % 3, element)),
                    }
                    value.update(access, &element)?;
                    list.add(access, &element)?;
                    map.put(access, &(element % 3), &element)
                }
                1 => {
                    let known = values.get(&key).map(|entry| entry.1);
                    value.modify(access, |old| {
                        assert_eq!(old, known);
                        old.map(|old| old + 1)
                    })?;
                    if let Some(entry) = values.get_mut(&key) {
                        *entry = (now, entry.1 + 1);
                    }
                    Ok(())
                }
                2 => {
                    assert_eq!(value.value(access)?, values.get(&key).map(|entry| entry.1));
                    assert_eq!(list.get(access)?, elements.iter().map(|entry| entry.1).collect::<Vec<_>>());
                    // One that is put again after it has expired keeps its place where nobody has removed it.
                    let mut found = map.values(access)?;
                    found.sort_unstable();
                    let mut expected: Vec<_> = entries.iter().map(|entry| entry.2).collect();
                    expected.sort_unstable();
                    assert_eq!(found, expected);
                    if on_read {
                        if let Some(entry) = values.get_mut(&key) {
                            entry.0 = now;
                        }
                        elements.iter_mut().for_each(|entry| entry.0 = now);
                        entries.iter_mut().for_each(|entry| entry.0 = now);
                    }
                    Ok(())
                }
                _ => {
                    assert_eq!(list.is_empty(access)?, elements.is_empty());
                    let map_key = element % 3;
                    let known = entries.iter_mut().find(|entry| entry.1 == map_key);
                    assert_eq!(map.get(access, &map_key)?, known.as_ref().map(|entry| entry.2));
                    if let (true, Some(entry)) = (on_read, known) {
                        entry.0 = now;
                    }
                    Ok(())
                }
            });
        }
    }
}

#[test]
fn a_value_is_counted_up_per_key_and_window() {
    In::ALL
        .into_iter()
        .for_each(a_value_is_counted_up_per_key_and_window_in);
}

fn a_value_is_counted_up_per_key_and_window_in(on: In) {
    let mut backend = backend(on);
    let descriptor = ValueStateDescriptor::<u64>::new("count");
    let count = descriptor.register(&mut backend).expect("fresh");
    let mut expected = HashMap::new();
    let steps = if on == In::SmallDisk {
        20_000u64
    } else {
        100_000
    };
    for step in 0..steps {
        let place = (step * 48_271 % 1_009, step % 3 == 0);
        with(&mut backend, place, 0, |access| {
            count.modify(access, |count| Some(count.unwrap_or(0) + step))
        });
        *expected.entry(place).or_insert(0) += step;
    }
    assert_eq!(backend.entries().expect("readable"), expected.len());
    for (place, sum) in expected {
        assert_eq!(
            with(&mut backend, place, 0, |access| count.value(access)),
            Some(sum)
        );
        with(&mut backend, place, 0, |access| count.clear(access));
        assert_eq!(
            with(&mut backend, place, 0, |access| count.value(access)),
            None
        );
    }
    assert_eq!(backend.entries().expect("readable"), 0);
}

#[test]
fn modify_can_leave_make_and_remove() {
    In::ALL
        .into_iter()
        .for_each(modify_can_leave_make_and_remove_in);
}

fn modify_can_leave_make_and_remove_in(on: In) {
    let mut backend = backend(on);
    let state = ValueStateDescriptor::<String>::new("text")
        .register(&mut backend)
        .expect("fresh");
    let place = (1, false);
    for made in [
        None,
        Some("a"),
        Some("a longer text, of another size"),
        None,
        None,
    ] {
        with(&mut backend, place, 0, |access| {
            state.modify(access, |_| made.map(str::to_owned))
        });
        let found = with(&mut backend, place, 0, |access| state.value(access));
        assert_eq!(found.as_deref(), made);
    }
}

#[test]
fn reducing_and_aggregating_state_fold_what_is_added() {
    In::ALL
        .into_iter()
        .for_each(reducing_and_aggregating_state_fold_what_is_added_in);
}

fn reducing_and_aggregating_state_fold_what_is_added_in(on: In) {
    /// Mean of what was added.
    struct Mean;
    impl StateAggregate for Mean {
        type In = f64;
        type Accumulator = (f64, u64);
        type Out = f64;
        fn create_accumulator(&self) -> (f64, u64) {
            (0.0, 0)
        }
        fn add(&self, value: f64, (sum, count): &mut (f64, u64)) {
            *sum += value;
            *count += 1;
        }
        fn result(&self, (sum, count): (f64, u64)) -> f64 {
            sum / f64::from(u32::try_from(count).expect("few"))
        }
    }
    let mut backend = backend(on);
    let ttl = StateTtlConfig::of(Duration::from_secs(1));
    let greatest = ReducingStateDescriptor::new("greatest", u64::max);
    let greatest = greatest.register(&mut backend).expect("fresh");
    let mean = AggregatingStateDescriptor::new("mean", Mean).enable_time_to_live(ttl);
    let mean = mean.register(&mut backend).expect("fresh");
    let place = (7, false);
    assert_eq!(
        with(&mut backend, place, 0, |access| greatest.get(access)),
        None
    );
    assert_eq!(
        with(&mut backend, place, 0, |access| mean.get(access)),
        None
    );
    for value in [3u32, 9, 6] {
        with(&mut backend, place, 0, |access| {
            greatest.add(access, u64::from(value))?;
            mean.add(access, f64::from(value))
        });
    }
    assert_eq!(
        with(&mut backend, place, 0, |access| greatest.get(access)),
        Some(9)
    );
    assert_eq!(
        with(&mut backend, place, 999, |access| mean.get(access)),
        Some(6.0)
    );
    assert_eq!(
        with(&mut backend, place, 1_000, |access| mean.get(access)),
        None
    );
    with(&mut backend, place, 1_000, |access| mean.add(access, 5.0));
    assert_eq!(
        with(&mut backend, place, 1_001, |access| mean.get(access)),
        Some(5.0)
    );
    with(&mut backend, place, 1_001, |access| {
        mean.clear(access)?;
        greatest.clear(access)
    });
    assert_eq!(backend.entries().expect("readable"), 0);
}

#[test]
fn records_are_kept_and_read_in_place() {
    In::ALL
        .into_iter()
        .for_each(records_are_kept_and_read_in_place_in);
}

fn records_are_kept_and_read_in_place_in(on: In) {
    type Event = WindowResult<u64, u64>;
    let mut backend = backend(on);
    let list = ListStateDescriptor::<Stored<Event>>::new("left")
        .register(&mut backend)
        .expect("fresh");
    let map = MapStateDescriptor::<u64, Stored<Event>>::new("right")
        .register(&mut backend)
        .expect("fresh");
    let place = (3, true);
    for number in 0..50 {
        let mut bytes = Vec::new();
        Event::encode(&number, &(number * 2), TimeWindow::new(0, 9), &mut bytes);
        let record = RecordRef {
            bytes: &bytes,
            timestamp: EventTime(1_000),
            key_hash: 0,
            kind: RowKind::Insert,
            origin_ns: 0,
        };
        let record = RecordOf::verified(record).expect("an event");
        with(&mut backend, place, 0, |access| {
            list.add(access, &record)?;
            map.put(access, &number, &record)
        });
    }
    let mut sum = 0;
    with(&mut backend, place, 0, |access| {
        list.for_each(access, |row| {
            assert_eq!(row.timestamp(), EventTime(1_000));
            sum += *row.value();
            Ok(())
        })
    });
    assert_eq!(sum, (0..50).sum::<u64>() * 2);
    let found = with(&mut backend, place, 0, |access| {
        Ok(map.get(access, &20)?.map(|row| (*row.key(), *row.value())))
    });
    assert_eq!(found, Some((20, 40)));
}

#[test]
fn a_visitor_takes_records_out_anywhere_and_leaves_notes() {
    In::ALL
        .into_iter()
        .for_each(a_visitor_takes_records_out_anywhere_and_leaves_notes_in);
}

fn a_visitor_takes_records_out_anywhere_and_leaves_notes_in(on: In) {
    type Event = WindowResult<u64, u64>;
    let mut backend = backend(on);
    let list = ListStateDescriptor::<Stored<Event>>::new("rows")
        .register(&mut backend)
        .expect("fresh");
    let place = (3, true);
    let add = |backend: &mut Opened, number: u64| {
        let mut bytes = Vec::new();
        Event::encode(&number, &0, TimeWindow::new(0, 9), &mut bytes);
        let record = RecordRef {
            bytes: &bytes,
            timestamp: EventTime(1),
            key_hash: 0,
            kind: RowKind::Insert,
            origin_ns: 0,
        };
        let record = RecordOf::verified(record).expect("an event");
        with(backend, place, 0, |access| list.add(access, &record));
    };
    // What a round takes out, in the order it is met, and where it stops.
    let seen = |backend: &mut Opened, goes: fn(u64) -> bool, stops: u64| {
        let mut seen = Vec::new();
        with(backend, place, 0, |access| {
            list.visit(access, |row, note| {
                seen.push((*row.key(), *note));
                *note += 1;
                Ok(match *row.key() {
                    key if key == stops => Visit::Stop,
                    key if goes(key) => Visit::Remove,
                    _ => Visit::Keep,
                })
            })
        });
        seen
    };
    (0..9).for_each(|number| add(&mut backend, number));
    let all: Vec<(u64, u32)> = (0..9).map(|number| (number, 0)).collect();
    assert_eq!(seen(&mut backend, |key| key % 3 == 1, 99), all);
    add(&mut backend, 9);
    let left = [(0, 1), (2, 1), (3, 1), (5, 1), (6, 1), (8, 1), (9, 0)];
    assert_eq!(seen(&mut backend, |key| key == 2, 5), left[..4]);
    let left = [(0, 2), (3, 2), (5, 2), (6, 1), (8, 1), (9, 0)];
    assert_eq!(seen(&mut backend, |_| true, 99), left);
    assert_eq!(seen(&mut backend, |_| true, 99), []);
    assert_eq!(backend.entries().expect("readable"), 0);
}

#[test]
fn an_error_of_a_visitor_stops_it_and_comes_back() {
    In::ALL
        .into_iter()
        .for_each(an_error_of_a_visitor_stops_it_and_comes_back_in);
}

fn an_error_of_a_visitor_stops_it_and_comes_back_in(on: In) {
    let mut backend = backend(on);
    let list = ListStateDescriptor::<u64>::new("list")
        .register(&mut backend)
        .expect("fresh");
    let mut access = KeyedAccess::new(&mut backend, at(&1), 0);
    list.add_all(&mut access, &[1, 2, 3]).expect("owned");
    let mut seen = Vec::new();
    let result = list.for_each(&mut access, |element| {
        seen.push(element);
        match element {
            2 => Err(crate::Error::operator("the output said no")),
            _ => Ok(()),
        }
    });
    assert!(
        result
            .expect_err("passed on")
            .to_string()
            .contains("said no")
    );
    assert_eq!(seen, [1, 2]);
}

/// Keys that nobody touches again go as others are accessed: a full round takes about as many accesses as entries / 5.
#[test]
fn untouched_keys_go_with_the_accesses_of_others() {
    In::ALL
        .into_iter()
        .for_each(untouched_keys_go_with_the_accesses_of_others_in);
}

fn untouched_keys_go_with_the_accesses_of_others_in(on: In) {
    // On disk all of them are read to count them; and a round goes over more rows, of all three states.
    let (keys, accesses_max) = if on == In::Memory {
        (10_000u64, 10_000)
    } else {
        (600, 3_000)
    };
    let mut backend = backend(on);
    let ttl = StateTtlConfig::of(Duration::from_millis(50));
    let value = ValueStateDescriptor::<u64>::new("value").enable_time_to_live(ttl);
    let value = value.register(&mut backend).expect("fresh");
    let list = ListStateDescriptor::<u64>::new("list").enable_time_to_live(ttl);
    let list = list.register(&mut backend).expect("fresh");
    let map = MapStateDescriptor::<u64, u64>::new("map").enable_time_to_live(ttl);
    let map = map.register(&mut backend).expect("fresh");
    for key in 0..keys {
        with(&mut backend, (key, false), 0, |access| {
            value.update(access, &key)?;
            list.add_all(access, &[1, 2])?;
            map.put(access, &1, &1)?;
            map.put(access, &2, &2)
        });
    }
    assert_eq!(backend.entries().expect("readable") as u64, keys * 5);
    let mut accesses = 0;
    while backend.entries().expect("readable") > 0 {
        accesses += 1;
        assert!(
            accesses <= accesses_max,
            "{} entries left",
            backend.entries().expect("readable")
        );
        with(&mut backend, (keys, false), 50, |access| {
            value.value(access)?;
            list.get(access)?;
            map.get(access, &1)
        });
    }
}

#[test]
fn expired_values_are_seen_where_that_is_asked_for() {
    In::ALL
        .into_iter()
        .for_each(expired_values_are_seen_where_that_is_asked_for_in);
}

fn expired_values_are_seen_where_that_is_asked_for_in(on: In) {
    let mut backend = backend(on);
    let ttl = StateTtlConfig::of(Duration::from_millis(10))
        .state_visibility(StateVisibility::ReturnExpiredIfNotCleanedUp)
        .cleanup_incrementally(0);
    let value = ValueStateDescriptor::<u64>::new("value").enable_time_to_live(ttl);
    let value = value.register(&mut backend).expect("fresh");
    with(&mut backend, (1, false), 0, |access| {
        value.update(access, &5)
    });
    assert_eq!(
        with(&mut backend, (1, false), 99, |access| value.value(access)),
        Some(5)
    );
    let none = ValueStateDescriptor::<u64>::new("none")
        .enable_time_to_live(StateTtlConfig::of(Duration::from_micros(10)))
        .register(&mut backend);
    let message = none.expect_err("too short").to_string();
    assert!(
        message.contains("`none`") && message.contains("1 ms"),
        "{message}"
    );
}

/// Bytes of another type, as damaged storage may hold: an error that says so.
#[test]
fn damaged_values_are_errors() {
    In::ALL.into_iter().for_each(damaged_values_are_errors_in);
}

fn damaged_values_are_errors_in(on: In) {
    let mut backend = backend(on);
    let state = ValueStateDescriptor::<String>::new("text")
        .register(&mut backend)
        .expect("fresh");
    let ttl = StateTtlConfig::of(Duration::from_secs(1));
    let expiring = ValueStateDescriptor::<u64>::new("expiring").enable_time_to_live(ttl);
    let expiring = expiring.register(&mut backend).expect("fresh");
    let mut damage = |store: StoreId, bytes: &[u8]| {
        let put = backend.value_put(store, at(&1), |out| out.extend_from_slice(bytes));
        put.expect("owned");
    };
    damage(state.store.id, &[200, 0, 0, 0, b'x']);
    damage(expiring.store.id, &[1, 2, 3]);
    let mut access = KeyedAccess::new(&mut backend, at(&1), 0);
    let error = state.value(&mut access).expect_err("too short");
    assert!(error.to_string().contains("cannot be read"), "{error}");
    assert!(state.modify(&mut access, |text| text).is_err());
    assert!(expiring.value(&mut access).is_err());
    assert!(expiring.modify(&mut access, |text| text).is_err());
}
