//! Reduce as Flink does it, record by record.

use std::collections::HashMap;
use std::rc::Rc;

use proptest::prelude::*;
use ringflow_schemas::key_group::{hash_code_u64, spread};

use super::*;
use crate::metrics::SubtaskMetrics;
use crate::operator::chain::{Captured, Chain, ChainNode, test_context};
use crate::record::{Record, RowKind};
use crate::state::disk::tests::In;

/// A key and a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair([u8; 16]);

impl Pair {
    fn new(key: u64, value: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&key.to_le_bytes());
        bytes[8..].copy_from_slice(&value.to_le_bytes());
        Self(bytes)
    }
    fn key(&self) -> u64 {
        u64::from_le_bytes(self.0[..8].try_into().expect("8 bytes"))
    }
    fn value(&self) -> u64 {
        u64::from_le_bytes(self.0[8..].try_into().expect("8 bytes"))
    }
}

// SAFETY: `verify` accepts 16 bytes, of which every value is a pair.
unsafe impl Record for Pair {
    type View<'a> = Self;
    const NAME: &'static str = "Pair";
    fn verify(bytes: &[u8]) -> std::result::Result<(), String> {
        (bytes.len() == 16).then_some(()).ok_or_else(String::new)
    }
    unsafe fn view(bytes: &[u8]) -> Self {
        Self(bytes.try_into().expect("16 bytes"))
    }
}

impl StructRecord for Pair {
    fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn chain(function: impl Fn(Pair, Pair) -> Pair + Send + 'static) -> Chain {
    chain_in(&StateStorage::HashMap, function)
}

fn chain_in(state: &StateStorage, function: impl Fn(Pair, Pair) -> Pair + Send + 'static) -> Chain {
    let reduce = Reduce::new(|pair: Row<'_, Pair>| pair.key(), function);
    let node = ChainNode::new("reduce", Box::new(reduce), Output::Capture(Vec::new()));
    let mut chain = Chain::new(Output::Chained(Box::new(node)));
    let context = OpenContext {
        state: state.clone(),
        ..test_context(Rc::new(SubtaskMetrics::default()))
    };
    chain.open(&context).expect("opens");
    chain
}

fn push(chain: &mut Chain, key: u64, value: u64, time: i64) -> Result<()> {
    chain.on_record(&RecordRef {
        bytes: Pair::new(key, value).as_bytes(),
        timestamp: EventTime(time),
        key_hash: spread(hash_code_u64(key)),
        kind: RowKind::Insert,
        origin_ns: 0,
    })
}

fn out(pair: Pair, time: i64) -> Captured {
    Captured::Record(pair.0.to_vec(), EventTime(time))
}

#[test]
fn the_first_record_goes_on_as_it_is_and_later_ones_with_what_came_before() {
    let mut chain = chain(|a, b| Pair::new(a.key(), 10 * a.value() + b.value()));
    let records = [(1, 1, 50), (2, 7, 40), (1, 2, 30), (1, 3, 60), (2, 8, 10)];
    for (key, value, time) in records {
        push(&mut chain, key, value, time).expect("reduces");
    }
    // The function does not commute, so this is also the order of its arguments. Event times are the records' own.
    let expected = [
        (1, 1, 50),
        (2, 7, 40),
        (1, 12, 30),
        (1, 123, 60),
        (2, 78, 10),
    ];
    assert_eq!(
        chain.captured(),
        expected.map(|(key, value, time)| out(Pair::new(key, value), time))
    );
}

#[test]
fn a_result_of_another_key_is_refused_by_name() {
    In::ALL
        .into_iter()
        .for_each(a_result_of_another_key_is_refused_in);
}

fn a_result_of_another_key_is_refused_in(on: In) {
    let (state, _threads) = on.storage();
    let mut chain = chain_in(&state, |a, b| Pair::new(0, a.value() + b.value()));
    push(&mut chain, 5, 1, 0).expect("the first record is not reduced");
    let error = push(&mut chain, 5, 1, 0).expect_err("key 0").to_string();
    assert!(
        error.contains("`reduce`") && error.contains("another key"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn outputs_are_the_running_fold_of_each_key(on in In::any(), records in prop::collection::vec((0u64..50, any::<u64>()), 0..500)) {
        let (state, _threads) = on.storage();
        let mut chain = chain_in(&state, |a, b| Pair::new(a.key(), a.value().rotate_left(7) ^ b.value()));
        let mut folds: HashMap<u64, u64> = HashMap::new();
        let mut expected = Vec::new();
        for (key, value) in records {
            push(&mut chain, key, value, 0).expect("reduces");
            let fold = folds
                .entry(key)
                .and_modify(|fold| *fold = fold.rotate_left(7) ^ value)
                .or_insert(value);
            expected.push(out(Pair::new(key, *fold), 0));
        }
        prop_assert_eq!(chain.captured(), expected);
    }
}
