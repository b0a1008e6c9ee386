//! Where a row of state lies: the keys of the LSM tree.
//!
//! ```text
//!  | key group (16, big endian) | store (16) | key hash (32) | key bytes (16) | key | namespace bytes (8) | namespace | tail |
//!  tail: nothing           a value, or the head of a list or map
//!        0 | number (64)   an element of a list, or a link between the entries of a map, in the order in which they came
//!        1 | map key       an entry of a map
//! ```
//! Owns: [`RowKey`], [`Tail`], [`Row`]. Invariant: a key group is one contiguous range, and so is a store in it; no row key is a
//! prefix of one of another key, namespace or store, because lengths stand before what they are of.
//! Left out: what the values are ([`crate::state::disk::place`]).

use std::ops::Range;

use crate::state::backend::At;
use crate::state::byte_table::{
    EntryError, KEY_BYTES_MAX, NAMESPACE_BYTES_MAX, hash_bytes, hash_in_namespace,
};

const ELEMENT: u8 = 0;
const MAP_KEY: u8 = 1;

/// Bytes before the key.
const HEAD_BYTES: usize = 10;

/// Bytes of key group and store.
pub(super) const PREFIX_BYTES: usize = 4;

/// Spreads the stores of a key over a table.
const STORE_SPREAD: u32 = 0x9e37_79b1;

/// A row's key, as bytes, with what finds it in memory. Lives: one or two per backend, reused.
#[derive(Debug, Default)]
pub(super) struct RowKey {
    pub(super) bytes: Vec<u8>,
    /// Of key, namespace and store.
    hash: u32,
    /// Bytes before the tail.
    address: usize,
    /// Where the key group is among the owned ones.
    pub(super) group: usize,
}

impl RowKey {
    /// Points to the row of `at` without a tail.
    ///
    /// # Errors
    /// Key or namespace are longer than their length fields, or all is longer than a key in memory may be.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "checked before")]
    pub(super) fn set(
        &mut self,
        group: usize,
        key_group: u16,
        store: u16,
        at: At<'_>,
    ) -> Result<(), EntryError> {
        let (key, namespace) = (at.key, at.namespace);
        if key.len() > KEY_BYTES_MAX {
            return Err(EntryError::KeyTooLong(key.len()));
        }
        if namespace.len() > NAMESPACE_BYTES_MAX {
            return Err(EntryError::NamespaceTooLong(namespace.len()));
        }
        let mut head = [0; HEAD_BYTES];
        head[..2].copy_from_slice(&key_group.to_be_bytes());
        head[2..4].copy_from_slice(&store.to_be_bytes());
        head[4..8].copy_from_slice(&at.key_hash.to_be_bytes());
        head[8..].copy_from_slice(&(key.len() as u16).to_be_bytes());
        self.bytes.clear();
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(key);
        self.bytes.push(namespace.len() as u8);
        self.bytes.extend_from_slice(namespace);
        self.address = self.bytes.len();
        self.hash = value_hash(at.key_hash, namespace, store);
        self.group = group;
        Ok(())
    }

    /// Points to the head of the same key and store.
    pub(super) fn head(&mut self) -> &Self {
        self.bytes.truncate(self.address);
        self
    }

    /// Points to an element, or link, of the same key and store.
    pub(super) fn element(&mut self, number: u64) -> &Self {
        self.bytes.truncate(self.address);
        self.bytes.push(ELEMENT);
        self.bytes.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Points to the entry of a map key of the same key and store.
    pub(super) fn map_key(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> &Self {
        self.bytes.truncate(self.address);
        self.bytes.push(MAP_KEY);
        write(&mut self.bytes);
        self
    }

    /// The map key of an entry it points to.
    pub(super) fn map_key_bytes(&self) -> &[u8] {
        self.bytes.get(self.address + 1..).unwrap_or_default()
    }

    /// Finds the row in a table of its key group.
    #[inline]
    pub(super) fn hash(&self) -> u32 {
        match &self.bytes[self.address..] {
            [] => self.hash,
            tail => self.hash ^ hash_bytes(tail),
        }
    }
}

/// The hash of the row of a key without a tail.
#[inline]
pub(super) fn value_hash(key_hash: u32, namespace: &[u8], store: u16) -> u32 {
    hash_in_namespace(key_hash, namespace) ^ u32::from(store).wrapping_mul(STORE_SPREAD)
}

/// What a row is of its key and store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail<'a> {
    /// The value, or the head of a list or map.
    Head,
    /// An element of a list or a link of a map.
    Element(u64),
    /// An entry of a map.
    MapKey(&'a [u8]),
}

/// A row's key, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) store: u16,
    pub(super) at: At<'a>,
    pub(super) tail: Tail<'a>,
}

impl<'a> Row<'a> {
    /// Reads a row's key; `None`: no [`RowKey`] made these bytes.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let store = u16::from_be_bytes([head[2], head[3]]);
        let key_hash = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let key_bytes = usize::from(u16::from_be_bytes([head[8], head[9]]));
        let (key, rest) = rest.split_at_checked(key_bytes)?;
        let (namespace_bytes, rest) = rest.split_first()?;
        let (namespace, tail) = rest.split_at_checked(usize::from(*namespace_bytes))?;
        let tail = match tail.split_first() {
            None => Tail::Head,
            Some((&ELEMENT, number)) => Tail::Element(u64::from_be_bytes(number.try_into().ok()?)),
            Some((&MAP_KEY, map_key)) => Tail::MapKey(map_key),
            Some(_) => return None,
        };
        let at = At {
            key_hash,
            key,
            namespace,
        };
        Some(Self { store, at, tail })
    }
}

/// First bytes of all rows of a store in a key group.
pub(super) fn prefix(key_group: u16, store: u16) -> [u8; PREFIX_BYTES] {
    let ([a, b], [c, d]) = (key_group.to_be_bytes(), store.to_be_bytes());
    [a, b, c, d]
}

/// The rows of a store in a key group, as a range of keys: up to the prefix that follows.
pub(super) fn range_of(key_group: u16, store: u16) -> Range<Vec<u8>> {
    let prefix = u32::from_be_bytes(prefix(key_group, store));
    let end = match prefix.checked_add(1) {
        Some(next) => next.to_be_bytes().to_vec(),
        // No row key is longer.
        None => vec![u8::MAX; PREFIX_BYTES + KEY_BYTES_MAX + NAMESPACE_BYTES_MAX],
    };
    prefix.to_be_bytes().to_vec()..end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..most)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            group: u16, store: u16, key_hash: u32, key in bytes(300), namespace in bytes(256), number: u64, map_key in bytes(20),
        ) {
            let at = At { key_hash, key: &key, namespace: &namespace };
            let mut row = RowKey::default();
            row.set(0, group, store, at).expect("short enough");
            let range = range_of(group, store);
            for tail in [Tail::Head, Tail::Element(number), Tail::MapKey(&map_key)] {
                match tail {
                    Tail::Head => row.head(),
                    Tail::Element(number) => row.element(number),
                    Tail::MapKey(map_key) => row.map_key(|out| out.extend_from_slice(map_key)),
                };
                prop_assert_eq!(Row::read(&row.bytes), Some(Row { store, at, tail }));
                prop_assert!(range.contains(&row.bytes));
            }
        }

        #[test]
        fn no_bytes_do_harm(bytes in bytes(40)) {
            let _ = Row::read(&bytes);
        }
    }

    #[test]
    fn a_key_group_is_one_range() {
        let at = At {
            key_hash: u32::MAX,
            key: &[255; 9],
            namespace: &[255; 9],
        };
        let mut row = RowKey::default();
        row.set(0, 6, u16::MAX, at).expect("short");
        let last = row
            .map_key(|out| out.extend_from_slice(&[255; 9]))
            .bytes
            .clone();
        let at = At {
            key_hash: 0,
            key: &[],
            namespace: &[],
        };
        row.set(0, 7, 0, at).expect("short");
        assert!(last < row.bytes);
        let long = At {
            key: &[0; KEY_BYTES_MAX + 1],
            ..at
        };
        assert!(row.set(0, 7, 0, long).is_err());
    }
}
