//! Named stores of a backend, and where their entries are.
//!
//! Owns: [`At`], [`StateKind`], [`StoreDescriptor`], [`StoreId`], [`StoredEntry`], and the errors about stores.
//! Invariant: descriptors that are equal store the same type in the same form; an id opens no store of another backend.
//! Left out: the bytes, and who keeps names unique ([`KeyedStateBackend::register`]).
//!
//! [`KeyedStateBackend::register`]: crate::state::backend::KeyedStateBackend::register

use std::any::TypeId;

use crate::error::Error;

/// Where an access goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At<'a> {
    /// The record's key hash ([`crate::record::RecordRef::key_hash`]).
    pub key_hash: u32,
    /// The key's bytes.
    pub key: &'a [u8],
    /// What divides the key's state further: a window's bytes; empty for none.
    pub namespace: &'a [u8],
}

/// What a store is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateKind {
    /// One value per key.
    Value,
    /// Elements in the order they were added.
    List,
    /// Values by map key.
    Map,
    /// One value per key, which each new one is reduced into.
    Reducing,
    /// One accumulator per key.
    Aggregating,
}

/// A named store: what an operator registers when it opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreDescriptor {
    pub(super) name: String,
    pub(super) kind: StateKind,
    /// Type of what is stored, with the map key's.
    stored: TypeId,
    stored_name: &'static str,
    /// Each stored value begins with 8 bytes of last access.
    expires: bool,
}

impl StoreDescriptor {
    pub(crate) fn new<T: 'static>(name: &str, kind: StateKind, expires: bool) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            stored: TypeId::of::<T>(),
            stored_name: std::any::type_name::<T>(),
            expires,
        }
    }

    /// Its name: unique in the operator.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> StateKind {
        self.kind
    }

    /// Each stored value begins with 8 bytes of last access.
    #[must_use]
    pub fn expires(&self) -> bool {
        self.expires
    }
}

/// A registered store of one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId {
    /// Ids of backends are never given twice in a process, so an id opens no store of another one.
    pub(super) backend: u64,
    pub(super) index: usize,
}

impl StoreId {
    /// Of no backend.
    pub(crate) const NONE: Self = Self {
        backend: u64::MAX,
        index: 0,
    };
}

/// One entry of a store, for snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredEntry<'a> {
    /// Where it is.
    pub at: At<'a>,
    /// Map key of an entry of a map; empty in other stores.
    pub map_key: &'a [u8],
    /// The value, or one element of a list: those of a list come one after the other, in order.
    pub value: &'a [u8],
}

#[cold]
pub(super) fn foreign_handle() -> Error {
    Error::operator(
        "a state handle was used with the state of another operator or subtask: make handles in `open`, with the context given \
         there",
    )
}

#[cold]
pub(super) fn wrong_kind(store: &StoreDescriptor) -> Error {
    let StoreDescriptor { name, kind, .. } = store;
    Error::operator(format!("state `{name}` is {kind:?} state: use it as such"))
}

#[cold]
pub(super) fn taken_name(there: &StoreDescriptor, new: &StoreDescriptor) -> Error {
    let describe = |store: &StoreDescriptor| {
        let expiry = if store.expires {
            " with a time to live"
        } else {
            ""
        };
        format!("{:?} state of {}{expiry}", store.kind, store.stored_name)
    };
    Error::operator(format!(
        "state `{}` is registered twice, as {} and as {}: give each state of an operator a name of its own",
        there.name,
        describe(there),
        describe(new)
    ))
}
