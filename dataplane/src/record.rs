//! Records: bytes with an event time, read in place through typed views.
//!
//! Owns: [`Record`] (how a type reads its bytes), [`StructRecord`] (types that are their own bytes), [`RecordRef`] (a
//! record on its way through a chain), [`Row`] (what user code sees), [`OwnedRecord`] (what it may keep) and [`RowKind`]
//! (what a record of a changelog means).
//! Invariant: bytes in a [`RecordRef`] have passed [`Record::verify`] of the edge's type once, where they entered the
//! process from outside, or were written by the engine; so views read them unchecked.
//! Left out: where the bytes live ([`crate::batch`]) and who verifies ([`crate::source`], the sockets).

use std::marker::PhantomData;
use std::ops::Deref;

mod owned;

pub use owned::{OwnedRecord, ResultRecord};

/// Milliseconds since 1970-01-01T00:00:00Z.
///
/// Shape: any `i64`. [`EventTime::NONE`] marks a record without a timestamp, as in Flink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTime(pub i64);

impl EventTime {
    /// A record that carries no timestamp.
    pub const NONE: Self = Self(i64::MIN);
    /// The end of time: the watermark behind the last record of a bounded stream.
    pub const MAX: Self = Self(i64::MAX);
}

/// What a record says about the table that a stream keeps up to date. A stream that is no changelog has insertions only.
///
/// Source: Flink `RowKind`, with its short names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum RowKind {
    /// `+I`: a new row.
    #[default]
    Insert = 0,
    /// `-U`: a row as it was before an update; `+U` of the same key follows.
    UpdateBefore = 1,
    /// `+U`: a row as it is after an update.
    UpdateAfter = 2,
    /// `-D`: a row that is no more.
    Delete = 3,
}

impl RowKind {
    /// The kind of number `number & 3`.
    #[inline]
    #[must_use]
    pub const fn of(number: u8) -> Self {
        match number & 3 {
            0 => Self::Insert,
            1 => Self::UpdateBefore,
            2 => Self::UpdateAfter,
            _ => Self::Delete,
        }
    }

    /// `+I`, `-U`, `+U` or `-D`.
    #[must_use]
    pub const fn short_name(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }

    /// The record adds a row; otherwise it takes one away.
    #[inline]
    #[must_use]
    pub const fn is_addition(self) -> bool {
        matches!(self, Self::Insert | Self::UpdateAfter)
    }
}

/// How a type of records reads its bytes. Implemented by `ringflow::record!`, never by hand in user code.
///
/// # Safety
/// `verify` must accept only bytes for which `view` and every accessor of the view are sound.
pub unsafe trait Record: 'static {
    /// What user code reads: a FlatBuffers table's view, or the struct itself.
    type View<'a>: Copy;
    /// Name in messages.
    const NAME: &'static str;

    /// Checks bytes from outside.
    ///
    /// # Errors
    /// What is wrong with the bytes, for the user.
    fn verify(bytes: &[u8]) -> Result<(), String>;

    /// The view over trusted bytes.
    ///
    /// # Safety
    /// `bytes` passed [`Record::verify`], or were written as this type by the engine.
    unsafe fn view(bytes: &[u8]) -> Self::View<'_>;
}

/// A record that is a plain value: FlatBuffers structs and the engine's own rows. It is its own view.
pub trait StructRecord: for<'a> Record<View<'a> = Self> + Copy + Send {
    /// Its bytes as they travel.
    fn as_bytes(&self) -> &[u8];
}

/// One record on its way through a chain: borrowed bytes and what travels beside them.
///
/// Layout: as declared. The two 64-bit fields are kept apart by the hash: side by side they would be written one by one
/// at the source and copied as one vector in `map`, a store that cannot be forwarded (measured: a third of the time of
/// a chain of source, map and sink).
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct RecordRef<'a> {
    /// The FlatBuffer.
    pub bytes: &'a [u8],
    /// Event time.
    pub timestamp: EventTime,
    /// [`ringflow_schemas::key_group::spread`] hash of the key on keyed edges, 0 elsewhere.
    pub key_hash: u32,
    /// What the record means in a changelog.
    pub kind: RowKind,
    /// When the record was due at its source, in nanoseconds since the epoch; 0: not measured.
    /// Latency at a sink counts from here.
    pub origin_ns: u64,
}

/// What user code gets: the view and the event time.
#[derive(Debug)]
pub struct Row<'a, R: Record> {
    view: R::View<'a>,
    bytes: &'a [u8],
    timestamp: EventTime,
    kind: RowKind,
    record: PhantomData<fn() -> R>,
}

impl<'a, R: Record> Row<'a, R> {
    /// Reads a record that travels as `R`.
    ///
    /// # Safety
    /// The bytes are an `R` (see [`Record::view`]).
    #[inline]
    #[must_use]
    pub unsafe fn read(record: &RecordRef<'a>) -> Self {
        // SAFETY: passed on to the caller.
        let view = unsafe { R::view(record.bytes) };
        Self {
            view,
            bytes: record.bytes,
            timestamp: record.timestamp,
            kind: record.kind,
            record: PhantomData,
        }
    }

    /// The record's event time.
    #[must_use]
    pub fn timestamp(&self) -> EventTime {
        self.timestamp
    }

    /// What the record means in a changelog.
    #[must_use]
    pub fn kind(&self) -> RowKind {
        self.kind
    }

    /// The record's bytes: an `R`.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The view, with the record's own lifetime.
    #[must_use]
    pub fn view(&self) -> R::View<'a> {
        self.view
    }
}

impl<R: Record> Clone for Row<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R: Record> Copy for Row<'_, R> {}

impl<'a, R: Record> Deref for Row<'a, R> {
    type Target = R::View<'a>;
    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.view
    }
}
