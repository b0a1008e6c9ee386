//! The first rows of each key in an order, kept up to date.
//!
//! Owns: [`TopN`] (what is asked for), [`TopNOperator`]. The first rows of a key are one value in state, in order; where rows
//! may be taken back, all rows are kept in a list beside it, and a place that becomes free is filled from there.
//! Invariant: the fold of the output is the first rows of each key, of equal order the earlier ones, with their ranks if they are
//! asked for; only what moved is sent.
//! Left out: offsets (rows 11 to 20), and an order among the rows behind the first ones: filling a free place costs a look at all
//! rows of the key.
//!
//! Source: Flink `AppendOnlyTopNFunction`, `RetractableTopNFunction`, `FastTop1Function`.

use std::marker::PhantomData;

use crate::error::{Error, Result};
use crate::operator::Operator;
use crate::operator::chain::Output;
use crate::operator::changelog::{ChangelogOptions, cannot_retract};
use crate::operator::keyed::Keyed;
use crate::operator::stateless::{Collector, Scratch};
use crate::operator::top_n::ranked::{Ranked, RankedRows};
use crate::record::{Record, RecordRef, Row, RowKind};
use crate::runtime::context::OpenContext;
use crate::state::byte_table::Change;
use crate::state::handles::{
    KeyedAccess, ListState, ListStateDescriptor, ValueState, ValueStateDescriptor,
};
use crate::state::map_table::Visit;
use crate::state::value::{PlainValue, RecordOf, StateValue, Stored};

mod ranked;

/// How many rows of each key come out, and of what input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopN {
    count: usize,
    retractable: bool,
    options: ChangelogOptions,
}

impl TopN {
    /// The first `count` rows (1 or more) of an input of insertions. A record that gets among them costs a copy of them.
    #[must_use]
    pub const fn new(count: usize) -> Self {
        Self {
            count,
            retractable: false,
            options: ChangelogOptions::new(),
        }
    }

    /// Rows may be taken back: all of them are kept in state.
    #[must_use]
    pub const fn retractable(mut self) -> Self {
        self.retractable = true;
        self
    }

    /// How updates travel, and how long state lives.
    #[must_use]
    pub const fn options(mut self, options: ChangelogOptions) -> Self {
        self.options = options;
        self
    }

    /// # Errors
    /// It asks for no rows.
    pub fn checked(self) -> Result<Self, String> {
        if self.count == 0 {
            return Err("`top_n` of 0 rows has no output: ask for 1 or more".to_owned());
        }
        Ok(self)
    }
}

/// Of so many rows, in this type.
impl From<usize> for TopN {
    fn from(count: usize) -> Self {
        Self::new(count)
    }
}

/// Keeps the first rows of each key. `key` reads the key; `order` gives what rows are sorted by, least first; `emit` makes
/// records of a row and its rank, from 1.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct TopNOperator<R, K, S, O, KF, SF, EF> {
    top: TopN,
    /// Records say which rank a row has, so those whose rank changes are sent again.
    ranked: bool,
    key: KF,
    order: SF,
    emit: EF,
    /// Empty until `open`.
    state: Option<State<R>>,
    /// A row on its way into a free place, as stored.
    successor: Vec<u8>,
    scratch: Scratch,
    types: Types<K, S, O>,
}

/// Types of keys, of what rows are sorted by, and of output.
type Types<K, S, O> = PhantomData<fn() -> (K, S, O)>;

struct State<R> {
    keyed: Keyed,
    first: ValueState<RankedRows<R>>,
    /// All rows, where they may be taken back.
    all: Option<ListState<Stored<R>>>,
}

/// Sends what changes.
struct Emitter<'c, 'o, O, EF> {
    collector: &'c mut Collector<'o, O>,
    emit: &'c EF,
    says_before: bool,
}

impl<O: Record, EF> Emitter<'_, '_, O, EF> {
    /// The row at `index` (from 0) comes or goes.
    fn send<R: Record>(&mut self, kind: RowKind, row: RecordOf<'_, R>, index: usize)
    where
        EF: for<'a> Fn(Row<'a, R>, u64, &mut Collector<'_, O>),
    {
        self.collector.set_row_kind(kind);
        (self.emit)(row.row(), index as u64 + 1, self.collector);
    }

    /// Another row has the place `index`.
    fn replace<R: Record>(&mut self, before: RecordOf<'_, R>, after: RecordOf<'_, R>, index: usize)
    where
        EF: for<'a> Fn(Row<'a, R>, u64, &mut Collector<'_, O>),
    {
        if before.row().bytes() == after.row().bytes() {
            return;
        }
        if self.says_before {
            self.send(RowKind::UpdateBefore, before, index);
        }
        self.send(RowKind::UpdateAfter, after, index);
    }
}

impl<R, K, S, O, KF, SF, EF> TopNOperator<R, K, S, O, KF, SF, EF>
where
    R: Record,
    K: PlainValue,
    S: Ord,
    O: Record,
    KF: for<'a> Fn(Row<'a, R>) -> K,
    SF: for<'a> Fn(Row<'a, R>) -> S,
    EF: for<'a> Fn(Row<'a, R>, u64, &mut Collector<'_, O>),
{
    /// An operator without state. `ranked`: what `emit` makes depends on the rank.
    #[must_use]
    pub fn new(top: TopN, ranked: bool, key: KF, order: SF, emit: EF) -> Self {
        Self {
            top,
            ranked,
            key,
            order,
            emit,
            state: None,
            successor: Vec::new(),
            scratch: Scratch::default(),
            types: PhantomData,
        }
    }

    /// A row comes.
    #[inline]
    fn insert(
        &mut self,
        record: &RecordRef<'_>,
        row: Row<'_, R>,
        output: &mut Output,
    ) -> Result<()> {
        let (count, ranked, order) = (self.top.count, self.ranked, &self.order);
        let mut collector = Collector::of(output, &mut self.scratch, record);
        let mut emitter = Emitter {
            collector: &mut collector,
            emit: &self.emit,
            says_before: self.top.options.says_before(),
        };
        let State { keyed, first, all } = opened(&mut self.state);
        let mut access = keyed.access(record.key_hash, &(self.key)(row));
        let (row, sorted_by) = (RecordOf::from(row), order(row));
        if let Some(all) = all {
            all.add(&mut access, &row)?;
        }
        first.change(&mut access, |old, fresh| {
            let old = old.unwrap_or(Ranked::none());
            let (length, full) = (old.len(), old.len() >= count);
            let is_behind = |index| Ok::<_, Error>(order(old.row(index)?.row()) <= sorted_by);
            if full && is_behind(length - 1)? {
                return Ok(Change::Keep);
            }
            // Behind those of equal order.
            let stay = length - usize::from(full);
            let mut place = stay;
            while place > 0 && !is_behind(place - 1)? {
                place -= 1;
            }
            if ranked {
                let mut after = row;
                for index in place..length {
                    let before = old.row(index)?;
                    emitter.replace(before, after, index);
                    after = before;
                }
                if !full {
                    emitter.send(RowKind::Insert, after, length);
                }
            } else if !full {
                emitter.send(RowKind::Insert, row, place);
            } else if count == 1 {
                emitter.replace(old.row(0)?, row, 0);
            } else {
                emitter.send(RowKind::Delete, old.row(length - 1)?, length - 1);
                emitter.send(RowKind::Insert, row, place);
            }
            let rows = old
                .rows(0..place)
                .chain([Ok(row)])
                .chain(old.rows(place..stay));
            ranked::write(stay + 1, rows, fresh)?;
            Ok(Change::Put)
        })?;
        collector.finish()
    }

    /// A row is taken back.
    fn retract(
        &mut self,
        record: &RecordRef<'_>,
        row: Row<'_, R>,
        output: &mut Output,
    ) -> Result<()> {
        let (count, ranked, order) = (self.top.count, self.ranked, &self.order);
        let mut collector = Collector::of(output, &mut self.scratch, record);
        let mut emitter = Emitter {
            collector: &mut collector,
            emit: &self.emit,
            says_before: self.top.options.says_before(),
        };
        let State { keyed, first, all } = opened(&mut self.state);
        let Some(all) = all else {
            return Err(cannot_retract(
                "`top_n` of a stream of insertions",
                "ask for `TopN::new(n).retractable()`, which keeps all rows",
            ));
        };
        let mut access = keyed.access(record.key_hash, &(self.key)(row));
        if !take_out(&mut access, *all, row)? {
            return Ok(());
        }
        let Some(old) = first.value(&mut access)? else {
            return Ok(());
        };
        let Some(place) = position(old, row)? else {
            return Ok(());
        };
        let length = old.len();
        let has_successor = length >= count && {
            let last = order(old.row(length - 1)?.row());
            let mut tied = 0;
            for index in (0..length).filter(|index| *index != place) {
                tied += usize::from(order(old.row(index)?.row()) == last);
            }
            find_successor(&mut access, *all, order, &last, tied, &mut self.successor)?
        };
        let successor = has_successor.then_some(self.successor.as_slice());
        first.change(&mut access, |old, fresh| {
            let old = old.unwrap_or(Ranked::none());
            // SAFETY: `find_successor` wrote a record of `R`.
            let successor = successor.map(|stored| unsafe { Stored::<R>::view_trusted(stored) });
            let successor = successor.transpose()?.map(RecordOf::from);
            let end = length - 1;
            if ranked {
                for index in place..end {
                    emitter.replace(old.row(index)?, old.row(index + 1)?, index);
                }
                match successor {
                    Some(successor) => emitter.replace(old.row(end)?, successor, end),
                    None => emitter.send(RowKind::Delete, old.row(end)?, end),
                }
            } else {
                match successor {
                    Some(successor) if count == 1 => emitter.replace(old.row(0)?, successor, 0),
                    successor => {
                        emitter.send(RowKind::Delete, old.row(place)?, place);
                        if let Some(successor) = successor {
                            emitter.send(RowKind::Insert, successor, end);
                        }
                    }
                }
            }
            let left = end + usize::from(successor.is_some());
            if left == 0 {
                return Ok(Change::Remove);
            }
            let rows = old.rows(0..place).chain(old.rows(place + 1..length));
            ranked::write(left, rows.chain(successor.map(Ok)), fresh)?;
            Ok(Change::Put)
        })?;
        collector.finish()
    }
}

fn opened<R>(state: &mut Option<State<R>>) -> &mut State<R> {
    state
        .as_mut()
        .expect("`open` is the first call and makes the state")
}

/// Takes the first row out that equals `row`; says whether there was one.
fn take_out<R: Record>(
    access: &mut KeyedAccess<'_>,
    all: ListState<Stored<R>>,
    row: Row<'_, R>,
) -> Result<bool> {
    let mut found = false;
    all.visit(access, |there, _| {
        if found {
            return Ok(Visit::Stop);
        }
        found = there.bytes() == row.bytes();
        Ok(if found { Visit::Remove } else { Visit::Keep })
    })?;
    Ok(found)
}

/// Where the first row is that equals `row`.
fn position<R: Record>(rows: Ranked<'_, R>, row: Row<'_, R>) -> Result<Option<usize>> {
    for index in 0..rows.len() {
        if rows.row(index)?.row().bytes() == row.bytes() {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// Writes the next row behind the first ones, as stored; says whether there is one. `last` is what the last of the first rows
/// is, or was, sorted by; of the rows equal to it the `tied` oldest are first ones.
fn find_successor<R: Record, S: Ord>(
    access: &mut KeyedAccess<'_>,
    all: ListState<Stored<R>>,
    order: &impl for<'a> Fn(Row<'a, R>) -> S,
    last: &S,
    tied: usize,
    successor: &mut Vec<u8>,
) -> Result<bool> {
    let (mut best, mut passed) = (None, 0);
    all.visit(access, |row, _| {
        let sorted_by = order(row);
        if sorted_by < *last {
            return Ok(Visit::Keep);
        }
        if sorted_by == *last && passed < tied {
            passed += 1;
            return Ok(Visit::Keep);
        }
        if best.as_ref().is_none_or(|best| sorted_by < *best) {
            best = Some(sorted_by);
            successor.clear();
            Stored::<R>::write(&RecordOf::from(row), successor);
        }
        Ok(Visit::Keep)
    })?;
    Ok(best.is_some())
}

impl<R, K, S, O, KF, SF, EF> Operator for TopNOperator<R, K, S, O, KF, SF, EF>
where
    R: Record,
    K: PlainValue,
    S: Ord,
    O: Record,
    KF: for<'a> Fn(Row<'a, R>) -> K + Send,
    SF: for<'a> Fn(Row<'a, R>) -> S + Send,
    EF: for<'a> Fn(Row<'a, R>, u64, &mut Collector<'_, O>) + Send,
{
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        let mut keyed = Keyed::open(context)?;
        let (mut first, mut all) = (
            ValueStateDescriptor::new("first"),
            ListStateDescriptor::new("all"),
        );
        if let Some(ttl) = self.top.options.ttl() {
            first = first.enable_time_to_live(ttl);
            all = all.enable_time_to_live(ttl);
            keyed.read_clock(true);
        }
        let first = first.register(&mut keyed.backend)?;
        let all = self
            .top
            .retractable
            .then(|| all.register(&mut keyed.backend));
        let all = all.transpose()?;
        self.state = Some(State { keyed, first, all });
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.state.as_ref().map_or(0, |state| state.keyed.bytes())
    }

    fn wants_keys(&self) -> bool {
        true
    }

    fn on_keys_ahead(&mut self, key_hashes: &[u32]) {
        if let Some(state) = &mut self.state {
            state.keyed.on_keys_ahead(key_hashes);
        }
    }

    #[inline]
    fn on_record(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        // SAFETY: the edge carries `R` (checked when the graph was built), and records on edges are verified.
        let row = unsafe { Row::<R>::read(record) };
        if record.kind.is_addition() {
            self.insert(record, row, output)
        } else {
            self.retract(record, row, output)
        }
    }
}

#[cfg(test)]
mod tests;
