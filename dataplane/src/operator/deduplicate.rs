//! One row per key: the first or the last one, by arrival or by event time.
//!
//! Owns: [`Deduplicate`] (what is asked for), [`DeduplicateOperator`]. Keeping the first row by arrival, the state of a key is that
//! it was seen; otherwise it is the row.
//! Invariant: the fold of the output has one row for each key seen: the one asked for among those that have come. Of equal event
//! times the earlier is the first one, and the later the last one.
//! Left out: rows that are taken back ([`crate::operator::top_n`] of 1 row does that), and waiting for watermarks: a row is sent
//! when it comes, and updated.
//!
//! Source: Flink `ProcTimeDeduplicateKeepFirstRowFunction`, `ProcTimeDeduplicateKeepLastRowFunction`,
//! `RowTimeDeduplicateFunction` (`ROW_NUMBER() = 1`).

use std::marker::PhantomData;

use crate::error::{Error, Result};
use crate::operator::Operator;
use crate::operator::chain::Output;
use crate::operator::changelog::{ChangelogOptions, cannot_retract};
use crate::operator::keyed::Keyed;
use crate::operator::stateless::{Collector, Scratch};
use crate::record::{EventTime, Record, RecordRef, Row, RowKind};
use crate::runtime::context::OpenContext;
use crate::state::byte_table::Change;
use crate::state::handles::{KeyedAccess, ValueState, ValueStateDescriptor};
use crate::state::value::{PlainValue, RecordOf, StateValue, Stored};

/// Which row of a key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    First,
    Last,
}

/// Which row of each key is kept, and how updates travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deduplicate {
    keep: Keep,
    by_event_time: bool,
    options: ChangelogOptions,
}

impl Deduplicate {
    /// The row that comes first.
    #[must_use]
    pub const fn keep_first() -> Self {
        Self {
            keep: Keep::First,
            by_event_time: false,
            options: ChangelogOptions::new(),
        }
    }

    /// The row that came last.
    #[must_use]
    pub const fn keep_last() -> Self {
        Self {
            keep: Keep::Last,
            by_event_time: false,
            options: ChangelogOptions::new(),
        }
    }

    /// First and last are those of least and greatest event time, not of arrival.
    #[must_use]
    pub const fn by_event_time(mut self) -> Self {
        self.by_event_time = true;
        self
    }

    /// How updates travel, and how long state lives.
    #[must_use]
    pub const fn options(mut self, options: ChangelogOptions) -> Self {
        self.options = options;
        self
    }

    /// A row that came at `new` takes the place of one of `old`.
    fn replaces(&self, new: EventTime, old: EventTime) -> bool {
        match (self.keep, self.by_event_time) {
            (Keep::First, false) => false,
            (Keep::Last, false) => true,
            (Keep::First, true) => new < old,
            (Keep::Last, true) => new >= old,
        }
    }
}

/// Keeps one row of each key. `key` reads the key.
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct DeduplicateOperator<R, K, KF> {
    what: Deduplicate,
    key: KF,
    /// Empty until `open`.
    state: Option<(Keyed, Kept<R>)>,
    scratch: Scratch,
    keys: PhantomData<fn() -> K>,
}

/// What is kept of a key.
enum Kept<R> {
    /// That it was seen.
    Seen(ValueState<()>),
    /// Its row.
    Row(ValueState<Stored<R>>),
}

impl<R, K, KF> DeduplicateOperator<R, K, KF>
where
    R: Record,
    K: PlainValue,
    KF: for<'a> Fn(Row<'a, R>) -> K,
{
    /// An operator without state.
    #[must_use]
    pub fn new(what: Deduplicate, key: KF) -> Self {
        Self {
            what,
            key,
            state: None,
            scratch: Scratch::default(),
            keys: PhantomData,
        }
    }
}

impl<R, K, KF> Operator for DeduplicateOperator<R, K, KF>
where
    R: Record,
    K: PlainValue,
    KF: for<'a> Fn(Row<'a, R>) -> K + Send,
{
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        let mut keyed = Keyed::open(context)?;
        let (mut seen, mut row) = (
            ValueStateDescriptor::new("seen"),
            ValueStateDescriptor::new("row"),
        );
        if let Some(ttl) = self.what.options.ttl() {
            seen = seen.enable_time_to_live(ttl);
            row = row.enable_time_to_live(ttl);
            keyed.read_clock(true);
        }
        let kept = if (self.what.keep, self.what.by_event_time) == (Keep::First, false) {
            Kept::Seen(seen.register(&mut keyed.backend)?)
        } else {
            Kept::Row(row.register(&mut keyed.backend)?)
        };
        self.state = Some((keyed, kept));
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
        if !record.kind.is_addition() {
            return Err(cannot_retract(
                "`deduplicate`",
                "use `top_n(TopN::new(1).retractable(), ..)`",
            ));
        }
        if self.what.by_event_time && record.timestamp == EventTime::NONE {
            return Err(Error::operator(
                "a record without a timestamp reached `deduplicate` by event time: give the source a timestamp assigner",
            ));
        }
        // SAFETY: the edge carries `R` (checked when the graph was built), and records on edges are verified.
        let row = unsafe { Row::<R>::read(record) };
        let (keyed, kept) = self
            .state
            .as_mut()
            .expect("`open` is the first call and makes the state");
        let mut access = keyed.access(record.key_hash, &(self.key)(row));
        match kept {
            Kept::Seen(seen) => {
                let mut is_new = false;
                seen.modify(&mut access, |seen| {
                    is_new = seen.is_none();
                    Some(())
                })?;
                if !is_new {
                    return Ok(());
                }
                output.collect(&RecordRef {
                    key_hash: 0,
                    kind: RowKind::Insert,
                    ..*record
                })
            }
            Kept::Row(kept) => {
                let mut collector = Collector::of(output, &mut self.scratch, record);
                keep(self.what, &mut access, *kept, row, &mut collector)?;
                collector.finish()
            }
        }
    }
}

/// Keeps `row` if it is the one to keep, and says so.
fn keep<R: Record>(
    what: Deduplicate,
    access: &mut KeyedAccess<'_>,
    kept: ValueState<Stored<R>>,
    row: Row<'_, R>,
    collector: &mut Collector<'_, R>,
) -> Result<()> {
    kept.change(access, |old, fresh| {
        match old {
            None => {
                collector.set_row_kind(RowKind::Insert);
                collector.collect_row(row);
            }
            Some(old) if !what.replaces(row.timestamp(), old.timestamp()) => {
                return Ok(Change::Keep);
            }
            // State that expires downstream has to be told that the row is alive.
            Some(old) if old.bytes() == row.bytes() && what.options.ttl().is_none() => {}
            Some(old) => {
                if what.options.says_before() {
                    collector.set_row_kind(RowKind::UpdateBefore);
                    collector.collect_row(old);
                }
                collector.set_row_kind(RowKind::UpdateAfter);
                collector.collect_row(row);
            }
        }
        Stored::<R>::write(&RecordOf::from(row), fresh);
        Ok(Change::Put)
    })
}

#[cfg(test)]
mod tests;
