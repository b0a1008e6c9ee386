//! Accumulators of one piece of event time, as bytes.
//!
//! Owns: [`Pane`]. Invariant: a key is there once; what is stored under it is its accumulator's bytes.
//! Left out: which panes there are ([`super::pane_operator`]).

use crate::error::{Error, Result};
use crate::operator::window::AggregateFunction;
use crate::record::{Record, Row};
use crate::state::byte_table::{ByteTable, Change, EntryError, copy};
use crate::state::value::{PlainValue, decode_whole};

/// Accumulators by key of the records of some piece of event time. Keys carry their key hash, so that they can be sorted into
/// key groups.
#[derive(Debug, Clone, Default)]
pub(super) struct Pane {
    /// Its first millisecond.
    pub(super) start: i64,
    table: ByteTable,
}

/// An entry: key hash, key and accumulator.
type Entry<'a> = (u32, &'a [u8], &'a [u8]);

impl Pane {
    pub(super) fn new(start: i64) -> Self {
        Self {
            start,
            table: ByteTable::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Places that may hold an entry, for going through all of them in pieces.
    pub(super) fn slots(&self) -> usize {
        self.table.slots()
    }

    /// The entry in a place.
    #[inline]
    pub(super) fn slot(&self, slot: usize) -> Option<Entry<'_>> {
        let (hash, entry) = self.table.slot(slot)?;
        let (key, _) = self.table.address(entry);
        Some((hash, key, self.table.value(entry)))
    }

    /// The accumulator of a key.
    #[inline]
    pub(super) fn get(&self, hash: u32, key: &[u8]) -> Option<&[u8]> {
        self.table.get(hash, key, &[])
    }

    /// Takes a record in. `fresh` is memory to write in.
    #[inline]
    pub(super) fn add<R: Record, A: AggregateFunction<R>>(
        &mut self,
        (hash, key): (u32, &[u8]),
        row: Row<'_, R>,
        aggregate: &A,
        fresh: &mut Vec<u8>,
    ) -> Result<()> {
        if A::Accumulator::FIXED_BYTES.is_some()
            && let Some(bytes) = self.table.get_mut(hash, key, &[])
        {
            let mut accumulator: A::Accumulator = decode_whole(bytes)?;
            aggregate.add(row, &mut accumulator);
            fresh.clear();
            accumulator.encode(fresh);
            if fresh.len() == bytes.len() {
                copy(fresh, bytes);
                return Ok(());
            }
            return self.put((hash, key), fresh);
        }
        self.change::<A::Accumulator>((hash, key), fresh, |before| {
            let mut accumulator = match before {
                Some(before) => decode_whole(before)?,
                None => aggregate.create_accumulator(),
            };
            aggregate.add(row, &mut accumulator);
            Ok(accumulator)
        })
    }

    /// Takes an entry of another pane in.
    #[inline]
    pub(super) fn merge<R: Record, A: AggregateFunction<R>>(
        &mut self,
        (hash, key, other): Entry<'_>,
        aggregate: &A,
        fresh: &mut Vec<u8>,
    ) -> Result<()> {
        self.change::<A::Accumulator>((hash, key), fresh, |before| {
            let other = decode_whole(other)?;
            let Some(before) = before else {
                return Ok(other);
            };
            let mut accumulator = decode_whole(before)?;
            aggregate.merge(&mut accumulator, &other);
            Ok(accumulator)
        })
    }

    /// Writes the bytes of a key's accumulator.
    pub(super) fn put(&mut self, (hash, key): (u32, &[u8]), accumulator: &[u8]) -> Result<()> {
        match self.table.put(hash, key, &[], accumulator) {
            Ok(_) => Ok(()),
            Err(problem) => Err(refused(problem)),
        }
    }

    #[inline]
    fn change<T: PlainValue>(
        &mut self,
        (hash, key): (u32, &[u8]),
        fresh: &mut Vec<u8>,
        change: impl FnOnce(Option<&[u8]>) -> Result<T>,
    ) -> Result<()> {
        let mut failure = Ok(());
        let changed = self.table.update(hash, key, &[], fresh, |before, fresh| {
            match change(before) {
                Ok(accumulator) => {
                    accumulator.encode(fresh);
                    Change::Put
                }
                Err(error) => {
                    failure = Err(error);
                    Change::Keep
                }
            }
        });
        match changed {
            Ok(_) => failure,
            Err(problem) => Err(refused(problem)),
        }
    }
}

#[cold]
fn refused(problem: EntryError) -> Error {
    Error::operator(format!("window contents: {problem}"))
}
