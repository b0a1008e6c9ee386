//! Values of keyed state as bytes.
//!
//! Owns: [`PlainValue`] (types that are written field by field, little endian), [`StateValue`] (what a state may hold: plain
//! values, and [`Stored`] records read in place) and [`Corrupt`].
//! Invariant: bytes that are no value of a type give an error, never a panic; what `encode` wrote, `decode` reads back, and it
//! takes exactly those bytes.
//! Left out: schema evolution. The layout of a type is the order and the types of its fields.

use std::marker::PhantomData;

use crate::error::Error;
use crate::operator::window::TimeWindow;
use crate::record::{EventTime, Record, RecordRef, Row, RowKind};

/// Why bytes are no value of a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// They end before the value does.
    #[error("the bytes end {missing} bytes before the value does")]
    Short {
        /// Bytes that are not there, at least.
        missing: usize,
    },
    /// They go on behind the value.
    #[error("{rest} bytes follow the value")]
    Rest {
        /// How many.
        rest: usize,
    },
    /// They hold something the type does not have.
    #[error("the bytes hold {found}, which is no {expected}")]
    Invalid {
        /// What the type has.
        expected: &'static str,
        /// What is there.
        found: String,
    },
}

impl From<Corrupt> for Error {
    #[cold]
    fn from(corrupt: Corrupt) -> Self {
        Self::operator(format!(
            "a value in state cannot be read: {corrupt}; it was written as another type, or its storage is damaged"
        ))
    }
}

/// A value that is its fields: numbers, strings, and what is made of them. Written little endian, one field behind the other.
///
/// Implemented for structs by [`plain_value!`](crate::plain_value).
pub trait PlainValue: Sized + Send + 'static {
    /// Bytes of every value, where all values have the same number.
    const FIXED_BYTES: Option<usize>;

    /// Appends the value.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads a value, and moves `from` behind it.
    ///
    /// # Errors
    /// `from` does not begin with a value of this type.
    fn decode(from: &mut &[u8]) -> Result<Self, Corrupt>;

    /// Appends several values; types whose values are bytes do it in one copy.
    #[doc(hidden)]
    fn encode_all(values: &[Self], out: &mut Vec<u8>) {
        for value in values {
            value.encode(out);
        }
    }

    /// Reads `count` values.
    #[doc(hidden)]
    fn decode_all(count: usize, from: &mut &[u8]) -> Result<Vec<Self>, Corrupt> {
        // A damaged count must not reserve more than is there.
        let needed = count.saturating_mul(Self::FIXED_BYTES.unwrap_or(0));
        if needed > from.len() {
            return Err(short(needed - from.len()));
        }
        let mut values = Vec::with_capacity(count.min(from.len()));
        for _ in 0..count {
            values.push(Self::decode(from)?);
        }
        Ok(values)
    }
}

/// Reads a value that takes all of `bytes`.
///
/// # Errors
/// They are no such value, or there are more of them.
#[inline]
pub fn decode_whole<T: PlainValue>(mut bytes: &[u8]) -> Result<T, Corrupt> {
    let value = T::decode(&mut bytes)?;
    if bytes.is_empty() {
        Ok(value)
    } else {
        Err(Corrupt::Rest { rest: bytes.len() })
    }
}

#[cold]
fn short(missing: usize) -> Corrupt {
    Corrupt::Short { missing }
}

#[cold]
fn invalid(expected: &'static str, found: impl ToString) -> Corrupt {
    Corrupt::Invalid {
        expected,
        found: found.to_string(),
    }
}

#[inline]
fn take<'a>(from: &mut &'a [u8], count: usize) -> Result<&'a [u8], Corrupt> {
    match from.split_at_checked(count) {
        Some((taken, rest)) => {
            *from = rest;
            Ok(taken)
        }
        None => Err(short(count - from.len())),
    }
}

#[inline]
fn take_array<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], Corrupt> {
    match from.split_first_chunk() {
        Some((taken, rest)) => {
            *from = rest;
            Ok(*taken)
        }
        None => Err(short(N - from.len())),
    }
}

/// Number of elements, as written before them. More than fit are more bytes than a state takes, and are refused there.
fn encode_count(count: usize, out: &mut Vec<u8>) {
    u32::try_from(count).unwrap_or(u32::MAX).encode(out);
}

fn decode_count(from: &mut &[u8]) -> Result<usize, Corrupt> {
    Ok(u32::decode(from)? as usize)
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl PlainValue for $number {
            const FIXED_BYTES: Option<usize> = Some(size_of::<Self>());
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            #[inline]
            fn decode(from: &mut &[u8]) -> Result<Self, Corrupt> {
                take_array(from).map(Self::from_le_bytes)
            }
        }
    )*};
}

numbers!(u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64);

impl PlainValue for u8 {
    const FIXED_BYTES: Option<usize> = Some(1);
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }
    #[inline]
    fn decode(from: &mut &[u8]) -> Result<Self, Corrupt> {
        take_array(from).map(|[byte]| byte)
    }
    fn encode_all(values: &[Self], out: &mut Vec<u8>) {
        out.extend_from_slice(values);
    }
    fn decode_all(count: usize, from: &mut &[u8]) -> Result<Vec<Self>, Corrupt> {
        take(from, count).map(<[u8]>::to_vec)
    }
}

/// As a `u64`, so that state moves between machines.
impl PlainValue for usize {
    const FIXED_BYTES: Option<usize> = Some(8);
    fn encode(&self, out: &mut Vec<u8>) {
        (*self as u64).encode(out);
    }
    fn decode(from: &mut &[u8]) -> Result<Self, Corrupt> {
        let wide = u64::decode(from)?;
        Self::try_from(wide).map_err(|_| invalid("usize of this machine", wide))
    }
}

/// As an `i64`, so that state moves between machines.
impl PlainValue for isize {
    const FIXED_BYTES: Option<usize> = Some(8);
    fn encode(&self, out: &mut Vec<u8>) {
        (*self as i64).encode(out);
    }
    fn decode(from: &mut &[u8]) -> Result<Self, Corrupt> {
        let wide = i64::decode(from)?;
        Self::try_from(wide).map_err(|_| invalid("isize of this machine", wide))
    }
}

impl PlainValue for () {
    const FIXED_BYTES: Option<usize> = Some(0);
    fn encode(&self, _out: &mut Vec<u8>) {}
    fn decode(_from: &mut &[u8]) -> Result<Self, Corrupt> {
        Ok(())
    }
}

impl PlainValue for bool {
    const FIXED_BYTES: Option<usize> = Some(1);
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn decode(from: &mut &[u8]) -> Result<Self, Corrupt> {
        match u8::decode(from)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(invalid("bool", other)),
        }
    }
}

impl PlainValue for char {
    const FIXED_BYTES: Option<usize> = Some(4);
    fn encode(&self, out: &mut Vec<u8>) {
        u32::from(*self).encode(out);
    }
    fn decode(from: &mut &[u8]) -> Result<Self, Corrupt> {
        let code = u32::decode(from)?;
        Self::from_u32(code).ok_or_else(|| invalid("char", code))
    }
}

/// Its length in bytes, then UTF-8.
impl PlainValue for String {
    const FIXED_BYTES: Option<usize> = None;
    fn encode(&self, out: &mut Vec<u8>) {
        encode_count(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }
    fn decode(from: &mut &[u8]) -> Result<Self, Corrupt> {
        let count = decode_count(from)?;
        let bytes = take(from, count)?;
        let text = std::str::from_utf8(bytes);
        text.map(str::to_owned)
            .map_err(|error| invalid("UTF-8", error))
    }
}

/// The number of elements, then each.
impl<T: PlainValue> PlainValue for Vec<T> {
    const FIXED_BYTES: Option<usize> = None;
    fn encode(&self, out: &mut Vec<u8>) {
        encode_count(self.len(), out);
        T::encode_all(self, out);
    }
    fn decode(from: &mut &[u8]) -> Result<Self, Corrupt> {
        let count = decode_count(from)?;
        T::decode_all(count, from)
    }
}

/// As a `Vec<u8>`.
impl PlainValue for Box<[u8]> {
    const FIXED_BYTES: Option<usize> = None;
    fn encode(&self, out: &mut Vec<u8>) {
        encode_count(self.len(), out);
        out.extend_from_slice(self);
    }
    fn decode(from: &mut &[u8]) -> Result<Self, Corrupt> {
        Vec::decode(from).map(Vec::into_boxed_slice)
    }
}

/// A byte 0, or a byte 1 and the value.
impl<T: PlainValue> PlainValue for Option<T> {
    const FIXED_BYTES: Option<usize> = None;
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
    fn decode(from: &mut &[u8]) -> Result<Self, Corrupt> {
        bool::decode(from)?.then(|| T::decode(from)).transpose()
    }
}

impl<T: PlainValue, const N: usize> PlainValue for [T; N] {
    const FIXED_BYTES: Option<usize> = match T::FIXED_BYTES {
        Some(bytes) => Some(bytes * N),
        None => None,
    };
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode_all(self, out);
    }
    fn decode(from: &mut &[u8]) -> Result<Self, Corrupt> {
        let mut values = [const { None }; N];
        for value in &mut values {
            *value = Some(T::decode(from)?);
        }
        Ok(values.map(|value| value.expect("each was read")))
    }
}

/// Bytes of two fields, one behind the other.
#[doc(hidden)]
#[must_use]
pub const fn fixed_sum(left: Option<usize>, right: Option<usize>) -> Option<usize> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left + right),
        _ => None,
    }
}

/// [`PlainValue::FIXED_BYTES`] of the field that `_field` reads: what a macro knows of a field is its name.
#[doc(hidden)]
#[must_use]
pub const fn fixed_of<S, T: PlainValue>(_field: fn(&S) -> &T) -> Option<usize> {
    T::FIXED_BYTES
}

macro_rules! tuples {
    ($(($($name:ident . $index:tt),+))*) => {$(
        impl<$($name: PlainValue),+> PlainValue for ($($name,)+) {
            const FIXED_BYTES: Option<usize> = {
                let sum = Some(0);
                $(let sum = fixed_sum(sum, $name::FIXED_BYTES);)+
                sum
            };
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$index.encode(out);)+
            }
            #[inline]
            fn decode(from: &mut &[u8]) -> Result<Self, Corrupt> {
                Ok(($($name::decode(from)?,)+))
            }
        }
    )*};
}

tuples! {
    (A.0)
    (A.0, B.1)
    (A.0, B.1, C.2)
    (A.0, B.1, C.2, D.3)
    (A.0, B.1, C.2, D.3, E.4)
    (A.0, B.1, C.2, D.3, E.4, F.5)
}

/// Makes a struct a [`PlainValue`]: its fields one behind the other, in the order given.
///
/// All fields must be named. The order and the types are the layout of the state: change them and old state is not read.
///
/// ```
/// struct Average { sum: u64, count: u64, names: Vec<String> }
/// ringflow_dataplane::plain_value!(Average { sum, count, names });
/// ```
#[macro_export]
macro_rules! plain_value {
    ($type:ty { $($field:tt),* $(,)? }) => {
        impl $crate::state::value::PlainValue for $type {
            const FIXED_BYTES: ::core::option::Option<usize> = {
                let sum = ::core::option::Option::Some(0);
                $(let sum = $crate::state::value::fixed_sum(
                    sum,
                    $crate::state::value::fixed_of::<Self, _>(|value| &value.$field),
                );)*
                sum
            };
            #[inline]
            #[allow(unused_variables, reason = "a struct may have no fields")]
            fn encode(&self, out: &mut ::std::vec::Vec<u8>) {
                $($crate::state::value::PlainValue::encode(&self.$field, out);)*
            }
            #[inline]
            #[allow(unused_variables, reason = "a struct may have no fields")]
            fn decode(
                from: &mut &[u8],
            ) -> ::core::result::Result<Self, $crate::state::value::Corrupt> {
                ::core::result::Result::Ok(Self {
                    $($field: $crate::state::value::PlainValue::decode(from)?,)*
                })
            }
        }
    };
}

plain_value!(EventTime { 0 });

impl PlainValue for TimeWindow {
    const FIXED_BYTES: Option<usize> = Some(16);
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.start().encode(out);
        self.end().encode(out);
    }
    #[inline]
    fn decode(from: &mut &[u8]) -> Result<Self, Corrupt> {
        let (start, end) = PlainValue::decode(from)?;
        Ok(Self::new(start, end))
    }
}

/// What a state may hold: how it is written, and what is read of it.
pub trait StateValue: 'static {
    /// What reading gives: the value, or a view of its bytes where they lie.
    type View<'a>;
    /// What writing takes.
    type Given<'a>;

    /// Appends the bytes of `given`.
    fn write(given: &Self::Given<'_>, out: &mut Vec<u8>);

    /// Reads bytes from anywhere.
    ///
    /// # Errors
    /// They are no value of this type.
    fn view(bytes: &[u8]) -> Result<Self::View<'_>, Corrupt>;

    /// Reads bytes that this type wrote; may leave out checks.
    ///
    /// # Safety
    /// `bytes` came out of [`StateValue::write`] of this type, or [`StateValue::view`] has accepted them.
    ///
    /// # Errors
    /// As [`StateValue::view`].
    unsafe fn view_trusted(bytes: &[u8]) -> Result<Self::View<'_>, Corrupt> {
        Self::view(bytes)
    }
}

impl<T: PlainValue> StateValue for T {
    type View<'a> = Self;
    type Given<'a> = Self;

    #[inline]
    fn write(given: &Self, out: &mut Vec<u8>) {
        given.encode(out);
    }

    #[inline]
    fn view(bytes: &[u8]) -> Result<Self, Corrupt> {
        decode_whole(bytes)
    }
}

/// A record kept in state and read there: what joins hold.
///
/// ```text
///  0               8        9     12           16
///  | event time    | row    | 0   | note       | the record's bytes, 8-aligned where the value is
///  | (i64)         | kind   |     | (u32)      |
/// ```
#[derive(Debug)]
pub struct Stored<R>(PhantomData<fn() -> R>);

impl<R> Stored<R> {
    /// Bytes before the record.
    pub const HEAD_BYTES: usize = 16;
    /// Where the note is: what an operator keeps with the record, 0 unless it says otherwise.
    pub(crate) const NOTE: usize = 12;
}

/// A record whose bytes are known to be an `R`, on its way into state. Unlike a [`Row`], it may be taken for one that lives shorter.
#[derive(Debug)]
pub struct RecordOf<'a, R> {
    record: RecordRef<'a>,
    note: u32,
    of: PhantomData<fn() -> R>,
}

impl<'a, R: Record> From<Row<'a, R>> for RecordOf<'a, R> {
    #[inline]
    fn from(row: Row<'a, R>) -> Self {
        let record = RecordRef {
            bytes: row.bytes(),
            timestamp: row.timestamp(),
            key_hash: 0,
            kind: row.kind(),
            origin_ns: 0,
        };
        // SAFETY: a row's bytes are an `R`.
        unsafe { Self::trusted(record) }
    }
}

impl<R> Clone for RecordOf<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for RecordOf<'_, R> {}

impl<'a, R: Record> RecordOf<'a, R> {
    /// The record.
    #[inline]
    #[must_use]
    pub fn row(&self) -> Row<'a, R> {
        // SAFETY: its bytes are an `R`.
        unsafe { Row::read(&self.record) }
    }

    /// A record of an edge that carries `R`.
    ///
    /// # Safety
    /// The bytes are an `R` (see [`Record::view`]).
    #[inline]
    #[must_use]
    pub unsafe fn trusted(record: RecordRef<'a>) -> Self {
        Self {
            record,
            note: 0,
            of: PhantomData,
        }
    }

    /// The same record with a note of the operator's.
    #[inline]
    #[must_use]
    pub(crate) fn with_note(self, note: u32) -> Self {
        Self { note, ..self }
    }

    /// A record from anywhere.
    ///
    /// # Errors
    /// It is no `R`.
    pub fn verified(record: RecordRef<'a>) -> Result<Self, Corrupt> {
        verify::<R>(record.bytes)?;
        // SAFETY: verified.
        Ok(unsafe { Self::trusted(record) })
    }
}

fn verify<R: Record>(bytes: &[u8]) -> Result<(), Corrupt> {
    R::verify(bytes).map_err(|problem| invalid(R::NAME, problem))
}

impl<R: Record> Stored<R> {
    fn split(bytes: &[u8]) -> Result<(EventTime, RowKind, &[u8]), Corrupt> {
        let Some((head, record)) = bytes.split_at_checked(Self::HEAD_BYTES) else {
            return Err(short(Self::HEAD_BYTES - bytes.len()));
        };
        let (time, kind) = <(i64, u8)>::decode(&mut &*head)?;
        if kind > RowKind::Delete as u8 {
            return Err(invalid("row kind", kind));
        }
        Ok((EventTime(time), RowKind::of(kind), record))
    }

    /// # Safety
    /// `bytes` are a record of `R`.
    unsafe fn row(timestamp: EventTime, kind: RowKind, bytes: &[u8]) -> Row<'_, R> {
        let record = RecordRef {
            bytes,
            timestamp,
            key_hash: 0,
            kind,
            origin_ns: 0,
        };
        // SAFETY: passed on to the caller.
        unsafe { Row::read(&record) }
    }
}

impl<R: Record> StateValue for Stored<R> {
    type View<'a> = Row<'a, R>;
    type Given<'a> = RecordOf<'a, R>;

    #[inline]
    fn write(given: &RecordOf<'_, R>, out: &mut Vec<u8>) {
        let (note, given) = (given.note, &given.record);
        let mut head = [0; 16];
        head[..8].copy_from_slice(&given.timestamp.0.to_le_bytes());
        head[8] = given.kind as u8;
        head[Self::NOTE..].copy_from_slice(&note.to_le_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(given.bytes);
    }

    fn view(bytes: &[u8]) -> Result<Row<'_, R>, Corrupt> {
        let (time, kind, record) = Self::split(bytes)?;
        verify::<R>(record)?;
        // SAFETY: verified.
        Ok(unsafe { Self::row(time, kind, record) })
    }

    #[inline]
    unsafe fn view_trusted(bytes: &[u8]) -> Result<Row<'_, R>, Corrupt> {
        let (time, kind, record) = Self::split(bytes)?;
        // SAFETY: the caller's promise; `write` copied the bytes of a `RecordOf<R>`.
        Ok(unsafe { Self::row(time, kind, record) })
    }
}

#[cfg(test)]
mod tests;
