//! The first rows of a key, in order, as one value of state.
//!
//! ```text
//!  | rows (u32), 0 | place (u32), bytes (u32) of row 1 | .. of row 2 | ...  | row 1, 8-aligned | row 2 | ...
//! ```
//! Owns: [`Ranked`] (the rows, read where they lie) and [`RankedRows`] (the value's type). Places count from the value's
//! first byte; a row is what [`Stored`] writes.
//! Invariant: what [`write()`] wrote, [`Ranked`] reads; rows are in the order in which they were written.
//! Left out: which order that is.

use std::marker::PhantomData;

use crate::record::Record;
use crate::state::value::{Corrupt, RecordOf, StateValue, Stored};

/// Bytes before the places.
const HEAD_BYTES: usize = 8;
/// Bytes of one place.
const PLACE_BYTES: usize = 8;

/// Rows in order: a type of state.
#[derive(Debug)]
pub(super) struct RankedRows<R>(PhantomData<fn() -> R>);

/// Rows in order, in state.
#[derive(Debug)]
pub(super) struct Ranked<'a, R> {
    bytes: &'a [u8],
    rows: usize,
    record: PhantomData<fn() -> R>,
}

impl<R> Clone for Ranked<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Ranked<'_, R> {}

impl<'a, R: Record> Ranked<'a, R> {
    /// No rows.
    pub(super) const fn none() -> Self {
        Self {
            bytes: &[],
            rows: 0,
            record: PhantomData,
        }
    }

    fn of(bytes: &'a [u8]) -> Result<Self, Corrupt> {
        let rows = number(bytes, 0).ok_or_else(|| ends(bytes))?;
        let ranked = Self {
            bytes,
            rows,
            record: PhantomData,
        };
        if bytes.len() < HEAD_BYTES + rows.saturating_mul(PLACE_BYTES) {
            return Err(ends(bytes));
        }
        Ok(ranked)
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// The bytes of a row as stored.
    fn stored(&self, index: usize) -> Result<&'a [u8], Corrupt> {
        let at = HEAD_BYTES + index * PLACE_BYTES;
        let place = number(self.bytes, at).zip(number(self.bytes, at + 4));
        let row = place.and_then(|(from, bytes)| self.bytes.get(from..)?.get(..bytes));
        row.ok_or_else(|| ends(self.bytes))
    }

    /// Row `index`, from 0.
    pub(super) fn row(&self, index: usize) -> Result<RecordOf<'a, R>, Corrupt> {
        // SAFETY: rows were written by `write`, out of records of `R`; or `RankedRows::view` has looked at all of them.
        let row = unsafe { Stored::<R>::view_trusted(self.stored(index)?) }?;
        Ok(RecordOf::from(row))
    }

    /// Rows `range`.
    pub(super) fn rows(
        &self,
        range: std::ops::Range<usize>,
    ) -> impl Iterator<Item = Result<RecordOf<'a, R>, Corrupt>> {
        let ranked = *self;
        range.map(move |index| ranked.row(index))
    }
}

#[cold]
fn ends(bytes: &[u8]) -> Corrupt {
    Corrupt::Invalid {
        expected: "list of ranked rows",
        found: format!("{} bytes without the rows they speak of", bytes.len()),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}

/// Appends `count` rows as one value.
pub(super) fn write<'a, R: Record>(
    count: usize,
    rows: impl Iterator<Item = Result<RecordOf<'a, R>, Corrupt>>,
    out: &mut Vec<u8>,
) -> Result<(), Corrupt> {
    let start = out.len();
    out.resize(start + HEAD_BYTES + count * PLACE_BYTES, 0);
    let mut written = 0;
    for row in rows {
        out.resize(out.len().next_multiple_of(8), 0);
        let from = out.len();
        Stored::<R>::write(&row?, out);
        let (place, bytes) = (from - start, out.len() - from);
        let at = start + HEAD_BYTES + written * PLACE_BYTES;
        out[at..at + 4].copy_from_slice(&narrow(place).to_le_bytes());
        out[at + 4..at + 8].copy_from_slice(&narrow(bytes).to_le_bytes());
        written += 1;
    }
    debug_assert_eq!(written, count, "as announced");
    out[start..start + 4].copy_from_slice(&narrow(written).to_le_bytes());
    Ok(())
}

/// More than fits is more than a value may have, and is refused there.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl<R: Record> StateValue for RankedRows<R> {
    type View<'a> = Ranked<'a, R>;
    type Given<'a> = Ranked<'a, R>;

    fn write(given: &Ranked<'_, R>, out: &mut Vec<u8>) {
        out.extend_from_slice(given.bytes);
    }

    fn view(bytes: &[u8]) -> Result<Ranked<'_, R>, Corrupt> {
        let ranked = Ranked::of(bytes)?;
        for index in 0..ranked.len() {
            Stored::<R>::view(ranked.stored(index)?)?;
        }
        Ok(ranked)
    }

    unsafe fn view_trusted(bytes: &[u8]) -> Result<Ranked<'_, R>, Corrupt> {
        Ranked::of(bytes)
    }
}
