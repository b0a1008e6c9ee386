//! Running aggregation of keyed records.
//!
//! Owns: [`Reduce`]. The first record of a key goes on as it is and becomes the key's state; each later one is combined
//! with the state, and what comes of it is both the new state and the output, with the record's event time.
//! Invariant: one record out for each record in; the state of a key is the last record that went out for it.
//! Left out: a key beside the state in memory, where records are kept as they are; with state on disk they are values of a store. The
//! state is a record and the key selector reads its key, so a function whose result
//! has another key is refused (Flink keeps the key apart and would go on).
//!
//! Source: Flink `KeyedStream.reduce`, `StreamGroupedReduceOperator`.

use std::marker::PhantomData;

use crate::batch::Run;
use crate::error::{Error, Result};
use crate::limits::{KEYS_AHEAD, RUN_RECORDS};
use crate::operator::Operator;
use crate::operator::chain::Output;
use crate::operator::stateless::{collect_structs, is_small, struct_places};
use crate::record::{EventTime, RecordRef, Row, RowKind, StructRecord};
use crate::runtime::context::OpenContext;
use crate::state::backend::{At, KeyedStateBackend, StateKind, StoreDescriptor, StoreId};
use crate::state::byte_table::Change;
use crate::state::disk::StateStorage;
use crate::state::table::Entry;
use crate::state::value::PlainValue;
use crate::state::{KeyExtractor, KeyedState};

/// Reads the key out of a record that is kept as state.
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct KeyInRecord<R, K, KF> {
    select: KF,
    keys: PhantomData<fn(R) -> K>,
}

impl<R, K, KF: Clone> Clone for KeyInRecord<R, K, KF> {
    fn clone(&self) -> Self {
        Self {
            select: self.select.clone(),
            keys: PhantomData,
        }
    }
}

impl<R: StructRecord, K, KF: for<'a> Fn(Row<'a, R>) -> K> KeyInRecord<R, K, KF> {
    #[inline]
    fn key(&self, record: &R) -> K {
        let record = RecordRef {
            bytes: record.as_bytes(),
            // The partitioner's key selector sees no event time either.
            timestamp: EventTime::NONE,
            key_hash: 0,
            kind: RowKind::Insert,
            origin_ns: 0,
        };
        // SAFETY: these are the bytes of an `R`.
        (self.select)(unsafe { Row::<R>::read(&record) })
    }
}

impl<R, K, KF> KeyExtractor<R> for KeyInRecord<R, K, KF>
where
    R: StructRecord,
    K: Eq,
    KF: for<'a> Fn(Row<'a, R>) -> K,
{
    type Key = K;

    #[inline]
    fn is_of(&self, entry: &R, key: &K) -> bool {
        self.key(entry) == *key
    }
}

/// Reduces the records of each key, one by one. `key` reads the key, `function` combines the state with a record.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct Reduce<R, K, KF, F> {
    key: KeyInRecord<R, K, KF>,
    function: F,
    /// What a run made, on its way out.
    made: Vec<u8>,
    /// Empty until `open`.
    state: Option<Sums<R, KeyInRecord<R, K, KF>>>,
}

/// The last record of each key.
enum Sums<R, X> {
    /// As it is, in memory.
    Records(KeyedState<R, X>),
    /// As bytes, wherever state is.
    Bytes(Box<StoredSums>),
}

/// A store of records by the bytes of their key.
struct StoredSums {
    backend: KeyedStateBackend,
    store: StoreId,
    /// The key at hand.
    key: Vec<u8>,
}

impl StoredSums {
    /// The name is Flink's.
    fn open<R: 'static>(context: &OpenContext) -> Result<Self> {
        let OpenContext {
            subtask_index,
            parallelism,
            max_parallelism,
            ref state,
            ..
        } = *context;
        let mut backend =
            KeyedStateBackend::open(state, subtask_index, parallelism, max_parallelism)?;
        let store = backend.register(StoreDescriptor::new::<R>(
            "_op_state",
            StateKind::Value,
            false,
        ))?;
        Ok(Self {
            backend,
            store,
            key: Vec::new(),
        })
    }

    /// [`combine`] with state in bytes.
    #[inline(never)]
    fn combine<R, K, KF, F>(
        &mut self,
        key_in: &KeyInRecord<R, K, KF>,
        function: &F,
        record: &RecordRef<'_>,
        emit: impl FnOnce(R),
    ) -> Result<()>
    where
        R: StructRecord,
        K: PlainValue + Eq,
        KF: for<'a> Fn(Row<'a, R>) -> K,
        F: Fn(R, R) -> R,
    {
        // SAFETY: as in [`combine`].
        let value = unsafe { R::view(record.bytes) };
        let key = key_in.key(&value);
        self.key.clear();
        key.encode(&mut self.key);
        let at = At {
            key_hash: record.key_hash,
            key: &self.key,
            namespace: &[],
        };
        let mut made = value;
        self.backend.value_update(self.store, at, |old, fresh| {
            if let Some(old) = old {
                // SAFETY: this store's bytes are those of an `R`: nobody else has its id, and only records are written below.
                made = function(unsafe { R::view(old) }, value);
                if key_in.key(&made) != key {
                    return Err(changed_key());
                }
            }
            fresh.extend_from_slice(made.as_bytes());
            Ok(Change::Put)
        })?;
        emit(made);
        Ok(())
    }
}

impl<R, K, KF, F> Reduce<R, K, KF, F>
where
    R: StructRecord,
    K: Eq,
    KF: for<'a> Fn(Row<'a, R>) -> K + Clone,
{
    /// An operator without state.
    #[must_use]
    pub fn new(key: KF, function: F) -> Self {
        Self {
            key: KeyInRecord {
                select: key,
                keys: PhantomData,
            },
            function,
            made: Vec::new(),
            state: None,
        }
    }
}

impl<R, K, KF, F> Reduce<R, K, KF, F>
where
    R: StructRecord,
    K: PlainValue + Eq,
    KF: for<'a> Fn(Row<'a, R>) -> K + Clone,
    F: Fn(R, R) -> R,
{
    #[inline(always)]
    fn prefetch(&self, key_hashes: &[u32]) {
        match &self.state {
            Some(Sums::Records(state)) => state.prefetch(key_hashes),
            Some(Sums::Bytes(state)) => state.backend.prefetch_slots(key_hashes),
            None => {}
        }
    }

    /// Makes the new state of a record's key, and hands it to `emit` as well.
    #[inline(always)]
    fn reduce(&mut self, record: &RecordRef<'_>, emit: impl FnOnce(R)) -> Result<()> {
        let state = self
            .state
            .as_mut()
            .expect("`open` is the first call and makes the state");
        match state {
            Sums::Records(state) => combine(state, &self.key, &self.function, record, emit),
            Sums::Bytes(state) => state.combine(&self.key, &self.function, record, emit),
        }
    }
}

/// Makes the new state of a record's key, and hands it to `emit` as well.
///
/// Handed over rather than returned: records have no alignment, so in a `Result` they lie behind its tag at odd addresses, and what
/// was written there in fields stalls whoever reads it as a whole (10 ns of 35 per record, measured).
#[inline(always)]
fn combine<R, K, KF, F>(
    state: &mut KeyedState<R, KeyInRecord<R, K, KF>>,
    key_in: &KeyInRecord<R, K, KF>,
    function: &F,
    record: &RecordRef<'_>,
    emit: impl FnOnce(R),
) -> Result<()>
where
    R: StructRecord,
    K: Eq,
    KF: for<'a> Fn(Row<'a, R>) -> K,
    F: Fn(R, R) -> R,
{
    // SAFETY: the edge carries `R` (checked when the graph was built), and records on edges are verified.
    let value = unsafe { R::view(record.bytes) };
    let key = key_in.key(&value);
    match state.entry(record.key_hash, &key)? {
        Entry::Vacant(place) => {
            place.insert(value);
            emit(value);
        }
        Entry::Occupied(state) => {
            let reduced = function(*state, value);
            if key_in.key(&reduced) != key {
                return Err(changed_key());
            }
            *state = reduced;
            emit(reduced);
        }
    }
    Ok(())
}

impl<R, K, KF, F> Operator for Reduce<R, K, KF, F>
where
    R: StructRecord,
    K: PlainValue + Eq,
    KF: for<'a> Fn(Row<'a, R>) -> K + Clone + Send,
    F: Fn(R, R) -> R + Send,
{
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        self.state = Some(match context.state {
            StateStorage::HashMap => Sums::Records(KeyedState::new(
                context.subtask_index,
                context.parallelism,
                context.max_parallelism,
                self.key.clone(),
            )),
            StateStorage::Disk(_) => Sums::Bytes(Box::new(StoredSums::open::<R>(context)?)),
        });
        Ok(())
    }

    fn wants_keys(&self) -> bool {
        true
    }

    fn on_keys_ahead(&mut self, key_hashes: &[u32]) {
        self.prefetch(key_hashes);
    }

    #[inline]
    fn on_record(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        let mut collected = Ok(());
        self.reduce(record, |reduced| {
            collected = output.collect(&RecordRef {
                bytes: reduced.as_bytes(),
                timestamp: record.timestamp,
                key_hash: 0,
                kind: RowKind::Insert,
                origin_ns: record.origin_ns,
            });
        })?;
        collected
    }

    fn state_bytes(&self) -> usize {
        match &self.state {
            Some(Sums::Records(state)) => state.bytes(),
            Some(Sums::Bytes(state)) => state.backend.bytes(),
            None => 0,
        }
    }

    fn takes_runs(&self) -> bool {
        is_small::<R>()
    }

    fn on_run(&mut self, run: &Run<'_>, output: &mut Output) -> Result<()> {
        let Some(common) = run.in_common() else {
            return run
                .records()
                .try_for_each(|record| self.on_record(&record, output));
        };
        let mut bytes = std::mem::take(&mut self.made);
        let mut hashes = [0; RUN_RECORDS];
        for (place, hash) in hashes.iter_mut().zip(run.key_hashes()) {
            *place = hash;
        }
        let mut ahead = hashes[..run.len().min(RUN_RECORDS)].iter().skip(KEYS_AHEAD);
        let places = struct_places::<R>(&mut bytes);
        let mut length = 0;
        let mut result = Ok(());
        if let Some(Sums::Records(state)) = &mut self.state {
            for (place, record) in places.zip(run.records()) {
                if let Some(key_hash) = ahead.next() {
                    state.prefetch(&[*key_hash]);
                }
                result = combine(state, &self.key, &self.function, &record, |reduced| {
                    place.copy_from_slice(reduced.as_bytes());
                });
                if result.is_err() {
                    break;
                }
                length += size_of::<R>();
            }
        } else {
            for (place, record) in places.zip(run.records()) {
                if let Some(key_hash) = ahead.next() {
                    self.prefetch(&[*key_hash]);
                }
                result = self.reduce(&record, |reduced| {
                    place.copy_from_slice(reduced.as_bytes());
                });
                if result.is_err() {
                    break;
                }
                length += size_of::<R>();
            }
        }
        if result.is_ok() {
            result = collect_structs::<R>(&bytes[..length], common, output);
        }
        self.made = bytes;
        result
    }
}

#[cold]
fn changed_key() -> Error {
    Error::operator(
        "the function given to `reduce` returned a record of another key: its result must have the key of the two \
         records it was made of",
    )
}

#[cfg(test)]
mod tests;
