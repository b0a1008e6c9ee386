//! Side outputs: records that leave an operator beside its main output.
//!
//! Owns: [`OutputTag`]. Invariant: a tag's number is made of its name and the type of its records, so records of one type
//! never reach a consumer that reads another, whatever the names.
//! Left out: where they go ([`crate::operator::chain::Output::Sides`]).

use std::any::{TypeId, type_name};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use crate::operator::chain::SideOutputId;
use crate::record::Record;

/// Names a side output of records of `T`.
///
/// Source: Flink `OutputTag`.
pub struct OutputTag<T> {
    name: &'static str,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> OutputTag<T> {
    /// The side output `name`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            record: PhantomData,
        }
    }

    /// Its number: the same in every process that runs this program.
    #[must_use]
    pub fn id(&self) -> SideOutputId {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        self.name.hash(&mut hash);
        type_name::<T>().hash(&mut hash);
        TypeId::of::<T>().hash(&mut hash);
        hash.finish()
    }
}

impl<T> Clone for OutputTag<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for OutputTag<T> {}

impl<T> fmt::Debug for OutputTag<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutputTag({})", self.name)
    }
}

impl<T> fmt::Display for OutputTag<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// FNV-1a: the standard library's hashers do not promise the same numbers in every process.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
