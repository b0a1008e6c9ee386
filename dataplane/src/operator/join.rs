//! Regular join of two keyed changelogs: every record of a side meets all of its key that the other side holds.
//!
//! ```text
//!  +row of a side    meets the other side's rows    -> a result for each pair, of the row's kind     then it is kept
//!  -row of a side    one equal row is taken out     -> a retraction for each pair that it made
//! ```
//! Owns: [`Join`], [`JoinType`]. Both sides are lists in state; with an outer side, each of its rows carries how many rows of the
//! other side it meets, and results without a partner are taken back when the first partner comes.
//! Invariant: the fold of what came out is the join of the folds of what came in, at every record. Rows are equal when their
//! bytes are; a retraction of a row that is not there is dropped.
//! Left out: windows ([`crate::operator::co_group`]) and bounds in time ([`crate::operator::interval_join`]): without a time to
//! live, state grows with its inputs. With one, a row that has expired is joined with nothing and its retraction is dropped, so
//! results that it was part of stay.
//!
//! Source: Flink `StreamingJoinOperator`.

use std::marker::PhantomData;

use crate::error::Result;
use crate::operator::Operator;
use crate::operator::chain::Output;
use crate::operator::co::without_input;
use crate::operator::keyed::Keyed;
use crate::operator::stateless::{Collector, Scratch};
use crate::record::{Record, RecordRef, Row, RowKind};
use crate::runtime::context::OpenContext;
use crate::state::handles::{KeyedAccess, ListState, ListStateDescriptor, StateTtlConfig};
use crate::state::map_table::Visit;
use crate::state::value::{PlainValue, RecordOf, Stored};

/// Which rows come out without a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinType {
    /// None.
    Inner,
    /// Those of the left side.
    LeftOuter,
    /// Those of the right side.
    RightOuter,
    /// Those of both sides.
    FullOuter,
}

impl JoinType {
    const fn keeps_left(self) -> bool {
        matches!(self, Self::LeftOuter | Self::FullOuter)
    }

    const fn keeps_right(self) -> bool {
        matches!(self, Self::RightOuter | Self::FullOuter)
    }
}

/// Joins records of `A`, input 0 and the left side, with records of `B`, input 1 and the right side, of the same key.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct Join<A, B, K, O, KA, KB, F> {
    join_type: JoinType,
    left_key: KA,
    right_key: KB,
    function: F,
    ttl: Option<StateTtlConfig>,
    /// Empty until `open`.
    state: Option<Sides<A, B>>,
    scratch: Scratch,
    types: PhantomData<fn() -> (K, O)>,
}

struct Sides<A, B> {
    keyed: Keyed,
    left: Side<A>,
    right: Side<B>,
}

/// The rows of one side.
struct Side<R> {
    rows: ListState<Stored<R>>,
    /// They come out without a partner too. Each one's note is then how many partners it has.
    outer: bool,
}

impl<A, B, K, O, KA, KB, F> Join<A, B, K, O, KA, KB, F>
where
    A: Record,
    B: Record,
    K: PlainValue,
    O: Record,
    KA: for<'a> Fn(Row<'a, A>) -> K,
    KB: for<'b> Fn(Row<'b, B>) -> K,
    F: for<'a, 'b> Fn(Option<Row<'a, A>>, Option<Row<'b, B>>, &mut Collector<'_, O>),
{
    /// A join without state. `left_key` and `right_key` read keys; `function` makes any number of records of a pair, which lacks
    /// a side only where `join_type` says so. Rows leave state as `ttl` says.
    #[must_use]
    pub fn new(
        join_type: JoinType,
        left_key: KA,
        right_key: KB,
        function: F,
        ttl: Option<StateTtlConfig>,
    ) -> Self {
        Self {
            join_type,
            left_key,
            right_key,
            function,
            ttl,
            state: None,
            scratch: Scratch::default(),
            types: PhantomData,
        }
    }
}

impl<A, B, K, O, KA, KB, F> Operator for Join<A, B, K, O, KA, KB, F>
where
    A: Record,
    B: Record,
    K: PlainValue,
    O: Record,
    KA: for<'a> Fn(Row<'a, A>) -> K + Send,
    KB: for<'b> Fn(Row<'b, B>) -> K + Send,
    F: for<'a, 'b> Fn(Option<Row<'a, A>>, Option<Row<'b, B>>, &mut Collector<'_, O>) + Send,
{
    fn state_bytes(&self) -> usize {
        self.state.as_ref().map_or(0, |sides| sides.keyed.bytes())
    }

    fn open(&mut self, context: &OpenContext) -> Result<()> {
        let mut keyed = Keyed::open(context)?;
        keyed.read_clock(self.ttl.is_some());
        let left = Side {
            rows: rows("left", self.ttl, &mut keyed)?,
            outer: self.join_type.keeps_left(),
        };
        let right = Side {
            rows: rows("right", self.ttl, &mut keyed)?,
            outer: self.join_type.keeps_right(),
        };
        self.state = Some(Sides { keyed, left, right });
        Ok(())
    }

    fn wants_keys(&self) -> bool {
        true
    }

    fn on_keys_ahead(&mut self, key_hashes: &[u32]) {
        if let Some(state) = &mut self.state {
            state.keyed.on_keys_ahead(key_hashes);
        }
    }

    fn on_record(&mut self, _record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        Err(without_input())
    }

    #[inline]
    fn on_record_of(
        &mut self,
        input: u8,
        record: &RecordRef<'_>,
        output: &mut Output,
    ) -> Result<()> {
        let Sides { keyed, left, right } = self
            .state
            .as_mut()
            .expect("`open` is the first call and makes the state");
        let (function, scratch) = (&self.function, &mut self.scratch);
        let mut emit = |left: Option<Row<'_, A>>, right: Option<Row<'_, B>>, kind| {
            // A side that is not there has no say: `EventTime::NONE` is before all times.
            let times = [
                left.map(|row| row.timestamp()),
                right.map(|row| row.timestamp()),
            ];
            let timestamp = times
                .into_iter()
                .flatten()
                .max()
                .unwrap_or(record.timestamp);
            let mut collector = Collector::new(output, scratch, timestamp, record.origin_ns);
            collector.set_row_kind(kind);
            function(left, right, &mut collector);
            collector.finish()
        };
        if input == 0 {
            // SAFETY: edges to input 0 carry `A` (checked when the graph was built), and records on edges are verified.
            let row = unsafe { Row::<A>::read(record) };
            let mut access = keyed.access(record.key_hash, &(self.left_key)(row));
            meet(&mut access, row, left, right, emit)
        } else {
            // SAFETY: as above, and edges to input 1 carry `B`.
            let row = unsafe { Row::<B>::read(record) };
            let mut access = keyed.access(record.key_hash, &(self.right_key)(row));
            meet(&mut access, row, right, left, |right, left, kind| {
                emit(left, right, kind)
            })
        }
    }
}

fn rows<R: Record>(
    name: &str,
    ttl: Option<StateTtlConfig>,
    keyed: &mut Keyed,
) -> Result<ListState<Stored<R>>> {
    let mut rows = ListStateDescriptor::<Stored<R>>::new(name);
    if let Some(ttl) = ttl {
        rows = rows.enable_time_to_live(ttl);
    }
    rows.register(&mut keyed.backend)
}

/// A row of side `own` meets what `other` holds of its key. `emit` takes a row of `own`, one of `other`, and the kind of the
/// result.
#[inline]
fn meet<S: Record, T: Record>(
    access: &mut KeyedAccess<'_>,
    row: Row<'_, S>,
    own: &Side<S>,
    other: &Side<T>,
    mut emit: impl FnMut(Option<Row<'_, S>>, Option<Row<'_, T>>, RowKind) -> Result<()>,
) -> Result<()> {
    let adds = row.kind().is_addition();
    if !adds && !take_out(access, row, own)? {
        return Ok(());
    }
    let (lone, paired) = match (adds, own.outer || other.outer) {
        (true, true) => (RowKind::Delete, RowKind::Insert),
        (false, true) => (RowKind::Insert, RowKind::Delete),
        // Nothing comes out alone.
        (_, false) => (row.kind(), row.kind()),
    };
    let mut partners = 0u32;
    other.rows.visit(access, |theirs, their_partners| {
        partners = partners.saturating_add(1);
        if !other.outer {
            emit(Some(row), Some(theirs), paired)?;
        } else if adds {
            if *their_partners == 0 {
                emit(None, Some(theirs), lone)?;
            }
            *their_partners = their_partners.saturating_add(1);
            emit(Some(row), Some(theirs), paired)?;
        } else {
            emit(Some(row), Some(theirs), paired)?;
            *their_partners = their_partners.saturating_sub(1);
            if *their_partners == 0 {
                emit(None, Some(theirs), lone)?;
            }
        }
        Ok(Visit::Keep)
    })?;
    if partners == 0 && own.outer {
        emit(Some(row), None, paired)?;
    }
    if adds {
        let kept = RecordOf::from(row).with_note(partners);
        own.rows.add(access, &kept)?;
    }
    Ok(())
}

/// Takes the first row out that equals `row`; says whether there was one.
fn take_out<S: Record>(
    access: &mut KeyedAccess<'_>,
    row: Row<'_, S>,
    own: &Side<S>,
) -> Result<bool> {
    let mut found = false;
    own.rows.visit(access, |ours, _| {
        if found {
            return Ok(Visit::Stop);
        }
        found = ours.bytes() == row.bytes();
        Ok(if found { Visit::Remove } else { Visit::Keep })
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests;
