//! Unbounded aggregation of a keyed changelog: one row per key, kept up to date.
//!
//! ```text
//!  first row of a key          +I new result
//!  later ones                  -U old result, +U new result        nothing, if they are equal and state does not expire
//!  the last row is taken back  -D old result
//! ```
//! Owns: [`GroupAggregate`], [`GroupAggregateFunction`]. The state of a key is its number of rows and the function's accumulator.
//! Invariant: the fold of the output has one row for each key that has rows, with the function's result of exactly those rows.
//! Left out: grouping several records before state is touched (Flink's mini-batch).
//!
//! Source: Flink `GroupAggFunction`, also that a retraction of a key without rows is dropped (its state may have expired).

use std::marker::PhantomData;

use crate::error::Result;
use crate::operator::Operator;
use crate::operator::chain::Output;
use crate::operator::changelog::{ChangelogOptions, cannot_retract};
use crate::operator::keyed::Keyed;
use crate::operator::stateless::{Collector, Scratch};
use crate::record::{Record, RecordRef, Row, RowKind};
use crate::runtime::context::OpenContext;
use crate::state::handles::{ValueState, ValueStateDescriptor};
use crate::state::value::PlainValue;

/// An aggregate function takes no row back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CannotRetract;

/// Aggregation whose rows may be taken back.
///
/// Source: Flink's table `AggregateFunction`.
pub trait GroupAggregateFunction<R: Record>: Clone + Send + 'static {
    /// What is kept per key.
    type Accumulator: PlainValue;
    /// The result. Equal results are not sent again.
    type Output: PartialEq;

    /// An empty accumulator.
    fn create_accumulator(&self) -> Self::Accumulator;

    /// Takes a row in.
    fn accumulate(&self, row: Row<'_, R>, accumulator: &mut Self::Accumulator);

    /// Takes a row back that was taken in before.
    ///
    /// # Errors
    /// The function cannot; that is what it says unless it is implemented.
    fn retract(
        &self,
        row: Row<'_, R>,
        accumulator: &mut Self::Accumulator,
    ) -> Result<(), CannotRetract> {
        let _ = (row, accumulator);
        Err(CannotRetract)
    }

    /// The result of the rows taken in.
    fn result(&self, accumulator: &Self::Accumulator) -> Self::Output;
}

/// Aggregates the rows of each key. `key` reads the key, `emit` makes any number of records of a key and its result.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct GroupAggregate<R, K, A, O, KF, EF>
where
    R: Record,
    A: GroupAggregateFunction<R>,
{
    key: KF,
    aggregate: A,
    emit: EF,
    options: ChangelogOptions,
    /// Empty until `open`.
    state: Option<(Keyed, ValueState<Group<A::Accumulator>>)>,
    scratch: Scratch,
    types: PhantomData<fn(R, K) -> O>,
}

/// Number of rows, and what was made of them.
type Group<A> = (u64, A);

/// What became of a key's result.
enum Changed<V> {
    Nothing,
    First(V),
    Other(V, V),
    Gone(V),
}

impl<R, K, A, O, KF, EF> GroupAggregate<R, K, A, O, KF, EF>
where
    R: Record,
    K: PlainValue,
    A: GroupAggregateFunction<R>,
    O: Record,
    KF: for<'a> Fn(Row<'a, R>) -> K,
    EF: Fn(&K, &A::Output, &mut Collector<'_, O>),
{
    /// An operator without state.
    #[must_use]
    pub fn new(key: KF, aggregate: A, emit: EF, options: ChangelogOptions) -> Self {
        Self {
            key,
            aggregate,
            emit,
            options,
            state: None,
            scratch: Scratch::default(),
            types: PhantomData,
        }
    }

    /// Takes a row into its group.
    #[inline]
    fn change(&mut self, key_hash: u32, key: &K, row: Row<'_, R>) -> Result<Changed<A::Output>> {
        let (keyed, groups) = self
            .state
            .as_mut()
            .expect("`open` is the first call and makes the state");
        let mut access = keyed.access(key_hash, key);
        let (aggregate, adds) = (&self.aggregate, row.kind().is_addition());
        let expires = self.options.ttl().is_some();
        let mut changed = Ok(Changed::Nothing);
        groups.modify(&mut access, |group| {
            let Some((rows, mut accumulator)) = group else {
                if !adds {
                    return None;
                }
                let mut accumulator = aggregate.create_accumulator();
                aggregate.accumulate(row, &mut accumulator);
                changed = Ok(Changed::First(aggregate.result(&accumulator)));
                return Some((1, accumulator));
            };
            let before = aggregate.result(&accumulator);
            if adds {
                aggregate.accumulate(row, &mut accumulator);
            } else if let Err(CannotRetract) = aggregate.retract(row, &mut accumulator) {
                changed = Err(cannot_retract(
                    "an aggregate function",
                    "implement its `retract`, or feed it a stream without updates",
                ));
                return Some((rows, accumulator));
            }
            let rows = if adds {
                rows + 1
            } else {
                rows.saturating_sub(1)
            };
            if rows == 0 {
                changed = Ok(Changed::Gone(before));
                return None;
            }
            let after = aggregate.result(&accumulator);
            // State that expires downstream has to be told that the group is alive.
            if expires || before != after {
                changed = Ok(Changed::Other(before, after));
            }
            Some((rows, accumulator))
        })?;
        changed
    }
}

impl<R, K, A, O, KF, EF> Operator for GroupAggregate<R, K, A, O, KF, EF>
where
    R: Record,
    K: PlainValue,
    A: GroupAggregateFunction<R>,
    O: Record,
    KF: for<'a> Fn(Row<'a, R>) -> K + Send,
    EF: Fn(&K, &A::Output, &mut Collector<'_, O>) + Send,
{
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        let mut keyed = Keyed::open(context)?;
        let mut groups = ValueStateDescriptor::new("groups");
        if let Some(ttl) = self.options.ttl() {
            groups = groups.enable_time_to_live(ttl);
            keyed.read_clock(true);
        }
        let groups = groups.register(&mut keyed.backend)?;
        self.state = Some((keyed, groups));
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.state.as_ref().map_or(0, |(keyed, _)| keyed.bytes())
    }

    fn wants_keys(&self) -> bool {
        true
    }

    fn on_keys_ahead(&mut self, key_hashes: &[u32]) {
        if let Some((keyed, _)) = &mut self.state {
            keyed.on_keys_ahead(key_hashes);
        }
    }

    #[inline]
    fn on_record(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        // SAFETY: the edge carries `R` (checked when the graph was built), and records on edges are verified.
        let row = unsafe { Row::<R>::read(record) };
        let key = (self.key)(row);
        let changed = self.change(record.key_hash, &key, row)?;
        let mut collector = Collector::of(output, &mut self.scratch, record);
        let mut emit = |kind, result: &A::Output| {
            collector.set_row_kind(kind);
            (self.emit)(&key, result, &mut collector);
        };
        match changed {
            Changed::Nothing => {}
            Changed::First(result) => emit(RowKind::Insert, &result),
            Changed::Other(before, after) => {
                if self.options.says_before() {
                    emit(RowKind::UpdateBefore, &before);
                }
                emit(RowKind::UpdateAfter, &after);
            }
            Changed::Gone(result) => emit(RowKind::Delete, &result),
        }
        collector.finish()
    }
}

#[cfg(test)]
mod tests;
