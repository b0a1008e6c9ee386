//! What tests of operators on changelogs share: a record, a chain of one operator, the fold of a changelog.

use std::collections::BTreeMap;
use std::rc::Rc;

use ringflow_schemas::key_group::{hash_code_u64, spread};

use crate::element::{Control, Watermark};
use crate::error::Result;
use crate::metrics::SubtaskMetrics;
use crate::operator::chain::{Captured, Chain, ChainNode, Output, Signal, test_context};
use crate::operator::{Operator, Progress};
use crate::record::{EventTime, Record, RecordRef, RowKind, StructRecord};
use crate::state::operator_state::OperatorStateStore;

/// A key and two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Triple(pub(crate) [u8; 24]);

impl Triple {
    pub(crate) fn new(key: u64, a: i64, b: i64) -> Self {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&key.to_le_bytes());
        bytes[8..16].copy_from_slice(&a.to_le_bytes());
        bytes[16..].copy_from_slice(&b.to_le_bytes());
        Self(bytes)
    }

    fn word(&self, at: usize) -> [u8; 8] {
        self.0[8 * at..8 * at + 8].try_into().expect("8 bytes")
    }

    pub(crate) fn key(&self) -> u64 {
        u64::from_le_bytes(self.word(0))
    }

    pub(crate) fn a(&self) -> i64 {
        i64::from_le_bytes(self.word(1))
    }

    pub(crate) fn b(&self) -> i64 {
        i64::from_le_bytes(self.word(2))
    }
}

// SAFETY: `verify` accepts 24 bytes, of which every value is a triple.
unsafe impl Record for Triple {
    type View<'a> = Self;
    const NAME: &'static str = "Triple";
    fn verify(bytes: &[u8]) -> std::result::Result<(), String> {
        (bytes.len() == 24).then_some(()).ok_or_else(String::new)
    }
    unsafe fn view(bytes: &[u8]) -> Self {
        Self(bytes.try_into().expect("24 bytes"))
    }
}

impl StructRecord for Triple {
    fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A chain of one operator, open.
pub(crate) struct Tested {
    pub(crate) chain: Chain,
    pub(crate) metrics: Rc<SubtaskMetrics>,
}

impl Tested {
    pub(crate) fn new(operator: impl Operator + 'static) -> Self {
        let node = ChainNode::new("tested", Box::new(operator), Output::Capture(Vec::new()));
        let mut chain = Chain::new(Output::Chained(Box::new(node)));
        let metrics = Rc::new(SubtaskMetrics::default());
        let context = test_context(Rc::clone(&metrics));
        chain.open(&context).expect("opens");
        Self { chain, metrics }
    }

    /// The operator's state that belongs to no key.
    pub(crate) fn operator_state(&mut self) -> &mut OperatorStateStore {
        self.chain.operator_state().expect("it keeps some")
    }

    /// One record of `input`.
    pub(crate) fn push(&mut self, input: u8, row: Triple, time: i64, kind: RowKind) -> Result<()> {
        let record = RecordRef {
            bytes: row.as_bytes(),
            timestamp: EventTime(time),
            key_hash: spread(hash_code_u64(row.key())),
            kind,
            origin_ns: 0,
        };
        self.chain.on_keys_ahead(&[record.key_hash]);
        self.chain.on_record_of(input, &record)
    }

    pub(crate) fn watermark(&mut self, time: i64) {
        let signal = Control::Watermark {
            watermark: Watermark::At(EventTime(time)),
            origin_ns: 0,
        };
        let mut progress = self
            .chain
            .on_signal(Signal::Control(signal))
            .expect("fires");
        while progress == Progress::Yielded {
            progress = self.chain.resume().expect("fires");
        }
        assert_eq!(progress, Progress::Done);
    }

    /// The records that came out.
    pub(crate) fn changes(&self) -> Vec<(RowKind, Triple, i64)> {
        self.changes_from(0)
    }

    /// The records among what came out, from the `from`-th element on.
    pub(crate) fn changes_from(&self, from: usize) -> Vec<(RowKind, Triple, i64)> {
        let triple = |bytes: &[u8]| Triple(bytes.try_into().expect("a triple"));
        let captured = self.chain.captured()[from..].iter();
        captured
            .filter_map(|captured| match captured {
                Captured::Record(bytes, time) => Some((RowKind::Insert, triple(bytes), time.0)),
                Captured::Change(bytes, time, kind) => Some((*kind, triple(bytes), time.0)),
                Captured::Signal(_) => None,
            })
            .collect()
    }

    /// Number of elements that came out.
    pub(crate) fn count(&self) -> usize {
        self.chain.captured().len()
    }
}

/// A table with duplicate rows.
pub(crate) type Table<R> = BTreeMap<R, i64>;

/// Applies changes to a table; a row that is taken out must be there.
pub(crate) fn fold<R: Ord + Copy + std::fmt::Debug>(
    table: &mut Table<R>,
    changes: impl IntoIterator<Item = (RowKind, R)>,
) {
    for (kind, row) in changes {
        let count = table.entry(row).or_insert(0);
        *count += if kind.is_addition() { 1 } else { -1 };
        assert!(*count >= 0, "{kind:?} of {row:?}, which is not there");
        if *count == 0 {
            table.remove(&row);
        }
    }
}
