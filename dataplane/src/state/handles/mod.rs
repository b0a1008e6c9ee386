//! Typed state of a keyed operator, with Flink's names.
//!
//! Owns: the descriptors (what an operator registers in `open`), the handles (what it keeps) and [`KeyedAccess`] (what it is
//! given with each record or timer: whose state it is, and what time it is). A file for each kind of state.
//! Invariant: a handle reads a store that only handles of the same type write; every access is to the state of the current
//! key and namespace. Handles borrow nothing, so an operator keeps them beside its state.
//! Left out: where the bytes are ([`crate::state::backend`]).
//!
//! ```
//! use ringflow_dataplane::state::backend::{At, KeyedStateBackend};
//! use ringflow_dataplane::state::handles::{KeyedAccess, ValueStateDescriptor};
//!
//! # fn main() -> ringflow_dataplane::Result<()> {
//! let mut backend = KeyedStateBackend::new(0, 1, 128);
//! let count = ValueStateDescriptor::<u64>::new("count").register(&mut backend)?;
//!
//! let at = At { key_hash: 7, key: b"a key", namespace: &[] };
//! let mut access = KeyedAccess::new(&mut backend, at, 0);
//! count.modify(&mut access, |count| Some(count.unwrap_or(0) + 1))?;
//! assert_eq!(count.value(&mut access)?, Some(1));
//! # Ok(())
//! # }
//! ```

use crate::state::backend::{At, KeyedStateBackend};

mod aggregating;
mod list;
mod macros;
mod map;
mod reducing;
mod store;
mod value;

pub use crate::state::ttl::{StateTtlConfig, StateVisibility, UpdateType};
pub use aggregating::{AggregatingState, AggregatingStateDescriptor, StateAggregate};
pub use list::{ListState, ListStateDescriptor};
pub use map::{MapState, MapStateDescriptor};
pub use reducing::{ReducingState, ReducingStateDescriptor};
pub use value::{ValueState, ValueStateDescriptor};

/// Leave to use the state of one key and namespace.
#[derive(Debug)]
pub struct KeyedAccess<'a> {
    backend: &'a mut KeyedStateBackend,
    at: At<'a>,
    now_ms: i64,
}

impl<'a> KeyedAccess<'a> {
    /// Access at `at`; `now_ms` is processing time, in milliseconds since the epoch.
    #[inline]
    #[must_use]
    pub fn new(backend: &'a mut KeyedStateBackend, at: At<'a>, now_ms: i64) -> Self {
        Self {
            backend,
            at,
            now_ms,
        }
    }

    /// Access to the state of the same key in another namespace.
    #[inline]
    #[must_use]
    pub fn in_namespace<'b>(&'b mut self, namespace: &'b [u8]) -> KeyedAccess<'b> {
        let at = At {
            namespace,
            ..self.at
        };
        KeyedAccess::new(self.backend, at, self.now_ms)
    }

    /// Whose state it is.
    #[inline]
    #[must_use]
    pub fn at(&self) -> At<'a> {
        self.at
    }

    /// Processing time, in milliseconds since the epoch.
    #[inline]
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }
}

#[cfg(test)]
mod tests;
