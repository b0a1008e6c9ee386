//! Records that own their bytes, for code that outlives a buffer: async functions.
//!
//! Owns: [`OwnedRecord`], [`ResultRecord`] (what such code may give back). Invariant: the bytes are an `R`, which only
//! the engine and the builders here can say. Left out: where records come from.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use flatbuffers::{FlatBufferBuilder, WIPOffset};

use super::{EventTime, Record, RecordRef, Row, RowKind, StructRecord};

/// A record that owns its bytes. A clone shares them.
pub struct OwnedRecord<R> {
    bytes: Arc<[u8]>,
    timestamp: EventTime,
    kind: RowKind,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> OwnedRecord<R> {
    /// # Safety
    /// The bytes are an `R` (see [`Record::view`]).
    pub(crate) unsafe fn from_bytes(bytes: Arc<[u8]>, timestamp: EventTime, kind: RowKind) -> Self {
        Self {
            bytes,
            timestamp,
            kind,
            record: PhantomData,
        }
    }

    /// A table that `write` builds, as in [`crate::operator::stateless::Collector::collect_table`]; without an event
    /// time.
    ///
    /// # Panics
    /// `write` returned an offset of something else, such as another builder's. In a function that is awaited this fails the job.
    #[must_use]
    pub fn table(
        write: impl FnOnce(&mut FlatBufferBuilder<'static>) -> WIPOffset<R::View<'static>>,
    ) -> Self {
        let mut builder = FlatBufferBuilder::new();
        let root = write(&mut builder);
        builder.finish_minimal(root);
        let bytes: Arc<[u8]> = Arc::from(builder.finished_data());
        // Offsets can be made of any number.
        if let Err(why) = R::verify(&bytes) {
            panic!(
                "`OwnedRecord::table` was not given the root of a {}: {why}",
                R::NAME
            );
        }
        // SAFETY: verified just now.
        unsafe { Self::from_bytes(bytes, EventTime::NONE, RowKind::Insert) }
    }

    /// The record as other user code sees it: fields, event time, kind.
    #[must_use]
    pub fn row(&self) -> Row<'_, R> {
        let record = RecordRef {
            bytes: &self.bytes,
            timestamp: self.timestamp,
            key_hash: 0,
            kind: self.kind,
            origin_ns: 0,
        };
        // SAFETY: the bytes are an `R` since this was made.
        unsafe { Row::read(&record) }
    }

    /// The view over its bytes.
    #[must_use]
    pub fn view(&self) -> R::View<'_> {
        self.row().view()
    }

    /// Its event time.
    #[must_use]
    pub fn timestamp(&self) -> EventTime {
        self.timestamp
    }
}

impl<R> Clone for OwnedRecord<R> {
    fn clone(&self) -> Self {
        Self {
            bytes: Arc::clone(&self.bytes),
            ..*self
        }
    }
}

impl<R: Record> fmt::Debug for OwnedRecord<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedRecord")
            .field("record", &R::NAME)
            .field("bytes", &self.bytes.len())
            .field("timestamp", &self.timestamp)
            .finish_non_exhaustive()
    }
}

/// What an async function gives back: a struct record as it is, or an [`OwnedRecord`] for tables.
///
/// # Safety
/// `bytes` is always a [`ResultRecord::Record`].
pub unsafe trait ResultRecord: Send + 'static {
    /// The record's type on the stream.
    type Record: Record;

    /// Its bytes.
    fn bytes(&self) -> &[u8];
}

// SAFETY: a struct record's bytes are its own type.
unsafe impl<R: StructRecord> ResultRecord for R {
    type Record = R;

    #[inline]
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

// SAFETY: the bytes are an `R` since the record was made.
unsafe impl<R: Record> ResultRecord for OwnedRecord<R> {
    type Record = R;

    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
