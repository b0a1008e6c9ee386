//! What records can be keyed by.
//!
//! Owns: [`Key`]. Invariant: equal keys have equal hash codes, the ones that Java gives such values, so that keys land in
//! the key groups that Flink puts them in.

use std::hash::Hash;

use ringflow_dataplane::state::value::PlainValue;
use ringflow_schemas::key_group::{hash_code_str, hash_code_u64};

/// A key of a stream. Its bytes ([`PlainValue`]) are what state is found by.
pub trait Key: PlainValue + Clone + Eq + Hash + Send + 'static {
    /// Java's hash code of the value.
    fn hash_code(&self) -> i32;
}

macro_rules! wide {
    ($($integer:ty => $unsigned:ty),*) => {
        $(impl Key for $integer {
            #[inline]
            fn hash_code(&self) -> i32 {
                #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "the bits are meant")]
                let bits = *self as $unsigned;
                hash_code_u64(bits)
            }
        })*
    };
}
wide!(u64 => u64, i64 => u64);

macro_rules! narrow {
    ($($integer:ty),*) => {
        $(impl Key for $integer {
            #[inline]
            fn hash_code(&self) -> i32 {
                #[allow(clippy::cast_possible_wrap, clippy::cast_lossless, clippy::unnecessary_cast, reason = "the bits are meant")]
                let code = *self as i32;
                code
            }
        })*
    };
}
narrow!(u8, i8, u16, i16, u32, i32);

impl Key for bool {
    fn hash_code(&self) -> i32 {
        if *self { 1231 } else { 1237 }
    }
}

impl Key for String {
    fn hash_code(&self) -> i32 {
        hash_code_str(self)
    }
}

/// The one key of a stream that is not keyed.
impl Key for () {
    fn hash_code(&self) -> i32 {
        0
    }
}

impl<A: Key, B: Key> Key for (A, B) {
    fn hash_code(&self) -> i32 {
        self.0
            .hash_code()
            .wrapping_mul(31)
            .wrapping_add(self.1.hash_code())
    }
}
