//! Maps of one key group: all entries in one table, those of a key chained through their references.
//!
//! ```text
//!  maps (ByteTable)      key, namespace -> | first entry | last entry | length | key hash |
//!  entries (ByteTable)   reference of the map, map key -> | next entry | previous entry | value |
//! ```
//! Owns: [`MapTable`], [`Visit`]. An access probes twice; going through a map costs its entries only, in the order in which
//! their keys were first put.
//! Invariant: an entry's map exists and counts it; a map without entries does not exist. A map's record has one size, so it
//! never moves and its reference names it.
//! Left out: order by map key.

use bytemuck::{cast_slice, cast_slice_mut};

use crate::error::Result;
use crate::state::arena::Ref;
use crate::state::backend::At;
use crate::state::byte_table::{
    ByteTable, Change, Changed, EntryError, hash_bytes, hash_in_namespace,
};

/// Bytes kept free before a map key for the reference of its map.
pub(crate) const OWNER_BYTES: usize = 4;

/// Bytes of the links before a value.
const LINKS_BYTES: usize = 8;

/// Whether an entry stays, and whether the next one is visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    Keep,
    Remove,
    Stop,
}

/// What is kept of one map.
#[derive(Debug, Clone, Copy)]
struct Chain {
    first: Ref,
    last: Ref,
    length: u32,
    key_hash: u32,
}

impl Chain {
    fn read(value: &[u8]) -> Self {
        let words: &[u32] = cast_slice(value);
        Self {
            first: words[0],
            last: words[1],
            length: words[2],
            key_hash: words[3],
        }
    }

    fn words(self) -> [u32; 4] {
        [self.first, self.last, self.length, self.key_hash]
    }
}

/// Neighbours of an entry; 0: none.
#[derive(Debug, Clone, Copy, Default)]
struct Links {
    next: Ref,
    previous: Ref,
}

impl Links {
    fn read(value: &[u8]) -> Self {
        let words: &[u32] = cast_slice(&value[..LINKS_BYTES]);
        Self {
            next: words[0],
            previous: words[1],
        }
    }
}

/// Maps from bytes to bytes, found by key and namespace.
#[derive(Debug, Default, Clone)]
pub(crate) struct MapTable {
    maps: ByteTable,
    entries: ByteTable,
}

impl MapTable {
    /// Number of entries of all maps.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.maps.bytes() + self.entries.bytes()
    }

    pub(crate) fn maps(&self) -> &ByteTable {
        &self.maps
    }

    pub(crate) fn entries(&self) -> &ByteTable {
        &self.entries
    }

    fn find(&self, at: At<'_>) -> Option<Ref> {
        let hash = hash_in_namespace(at.key_hash, at.namespace);
        self.maps.find(hash, at.key, at.namespace)
    }

    pub(crate) fn contains(&self, at: At<'_>) -> bool {
        self.find(at).is_some()
    }

    /// The value of a map key, which begins with [`OWNER_BYTES`] that are free.
    pub(crate) fn get_mut(&mut self, at: At<'_>, map_key: &mut [u8]) -> Option<&mut [u8]> {
        let owner = self.find(at)?;
        own(map_key, owner);
        let value = self.entries.get_mut(hash_bytes(map_key), map_key, &[])?;
        Some(&mut value[LINKS_BYTES..])
    }

    /// [`ByteTable::update`] of a map key, which begins with [`OWNER_BYTES`] that are free. `change` appends to what is in its
    /// second argument.
    pub(crate) fn update(
        &mut self,
        at: At<'_>,
        map_key: &mut [u8],
        fresh: &mut Vec<u8>,
        change: impl FnOnce(Option<&[u8]>, &mut Vec<u8>) -> Change,
    ) -> Result<(), EntryError> {
        let Some(owner) = self.find(at) else {
            fresh.clear();
            fresh.extend_from_slice(&[0; LINKS_BYTES]);
            return match change(None, fresh) {
                Change::Put => self.begin(at, map_key, fresh),
                Change::Keep | Change::Remove => Ok(()),
            };
        };
        own(map_key, owner);
        let mut links = Links::default();
        let hash = hash_bytes(map_key);
        let changed = self
            .entries
            .update(hash, map_key, &[], fresh, |old, fresh| match old {
                Some(old) => {
                    links = Links::read(old);
                    let (old_links, old) = old.split_at(LINKS_BYTES);
                    fresh.extend_from_slice(old_links);
                    change(Some(old), fresh)
                }
                None => {
                    fresh.extend_from_slice(&[0; LINKS_BYTES]);
                    change(None, fresh)
                }
            })?;
        match changed {
            Changed::Put { before: None, now } => self.link(owner, now),
            Changed::Put {
                before: Some(before),
                now,
            } if before != now => self.point(owner, links, now, now),
            Changed::Put { .. } | Changed::Kept => {}
            Changed::Removed => self.unlink(owner, links),
        }
        Ok(())
    }

    /// A map of one entry.
    fn begin(&mut self, at: At<'_>, map_key: &mut [u8], value: &[u8]) -> Result<(), EntryError> {
        let hash = hash_in_namespace(at.key_hash, at.namespace);
        let empty = Chain {
            first: 0,
            last: 0,
            length: 0,
            key_hash: at.key_hash,
        };
        let words = empty.words();
        let put = self
            .maps
            .put(hash, at.key, at.namespace, cast_slice(&words))?;
        let Changed::Put { now: owner, .. } = put else {
            return Ok(());
        };
        own(map_key, owner);
        match self.entries.put(hash_bytes(map_key), map_key, &[], value) {
            Ok(Changed::Put { now, .. }) => self.link(owner, now),
            Ok(_) => {}
            Err(problem) => {
                self.maps.remove_entry(hash, owner);
                return Err(problem);
            }
        }
        Ok(())
    }

    /// Calls `visit` with each map key and value, and takes out those for which it says so.
    pub(crate) fn visit(
        &mut self,
        at: At<'_>,
        mut visit: impl FnMut(&[u8], &mut [u8]) -> Result<Visit>,
    ) -> Result<()> {
        let Some(owner) = self.find(at) else {
            return Ok(());
        };
        let mut entry = Chain::read(self.maps.value(owner)).first;
        while entry != 0 {
            let (key, value) = self.entries.parts_mut(entry);
            let links = Links::read(value);
            match visit(&key[OWNER_BYTES..], &mut value[LINKS_BYTES..])? {
                Visit::Keep => {}
                Visit::Remove => {
                    let hash = hash_bytes(key);
                    self.entries.remove_entry(hash, entry);
                    self.unlink(owner, links);
                }
                Visit::Stop => break,
            }
            entry = links.next;
        }
        Ok(())
    }

    /// Takes the entry out that lies at `entry` under `hash`.
    pub(crate) fn remove_entry(&mut self, hash: u32, entry: Ref) {
        let (key, value) = self.entries.parts_mut(entry);
        let (owner, links) = (owner_of(key), Links::read(value));
        self.entries.remove_entry(hash, entry);
        self.unlink(owner, links);
    }

    /// Map, map key and value of the entry that lies at `entry`.
    pub(crate) fn entry(&self, entry: Ref) -> (Ref, &[u8], &[u8]) {
        let (key, _) = self.entries.address(entry);
        let value = &self.entries.value(entry)[LINKS_BYTES..];
        (owner_of(key), &key[OWNER_BYTES..], value)
    }

    /// As [`MapTable::visit`], of the map that lies at `map`, without leave to change.
    pub(crate) fn read(&self, map: Ref, mut visit: impl FnMut(&[u8], &[u8])) {
        let mut entry = self.chain(map).first;
        while entry != 0 {
            let (_, map_key, value) = self.entry(entry);
            visit(map_key, value);
            entry = Links::read(self.entries.value(entry)).next;
        }
    }

    /// Puts a new entry behind the others of its map.
    fn link(&mut self, owner: Ref, entry: Ref) {
        let mut chain = self.chain(owner);
        self.set_links(
            entry,
            Links {
                next: 0,
                previous: chain.last,
            },
        );
        match chain.last {
            0 => chain.first = entry,
            last => self.set_next(last, entry),
        }
        chain.last = entry;
        chain.length += 1;
        self.set_chain(owner, chain);
    }

    /// Takes an entry out of the chain of its map, and the map with its last entry.
    fn unlink(&mut self, owner: Ref, links: Links) {
        self.point(owner, links, links.next, links.previous);
        let mut chain = self.chain(owner);
        chain.length -= 1;
        if chain.length > 0 {
            return self.set_chain(owner, chain);
        }
        let (_, namespace) = self.maps.address(owner);
        let hash = hash_in_namespace(chain.key_hash, namespace);
        self.maps.remove_entry(hash, owner);
    }

    /// Makes what is before a place in the chain point to `next`, and what is behind it to `previous`.
    fn point(&mut self, owner: Ref, place: Links, next: Ref, previous: Ref) {
        let mut chain = self.chain(owner);
        match place.previous {
            0 => chain.first = next,
            before => self.set_next(before, next),
        }
        match place.next {
            0 => chain.last = previous,
            behind => self.set_previous(behind, previous),
        }
        self.set_chain(owner, chain);
    }

    fn chain(&self, owner: Ref) -> Chain {
        Chain::read(self.maps.value(owner))
    }

    fn set_chain(&mut self, owner: Ref, chain: Chain) {
        cast_slice_mut(self.maps.value_mut(owner)).copy_from_slice(&chain.words());
    }

    fn set_links(&mut self, entry: Ref, links: Links) {
        self.set_next(entry, links.next);
        self.set_previous(entry, links.previous);
    }

    fn set_next(&mut self, entry: Ref, next: Ref) {
        self.entries.value_mut(entry)[..4].copy_from_slice(&next.to_ne_bytes());
    }

    fn set_previous(&mut self, entry: Ref, previous: Ref) {
        self.entries.value_mut(entry)[4..8].copy_from_slice(&previous.to_ne_bytes());
    }
}

fn own(map_key: &mut [u8], owner: Ref) {
    map_key[..OWNER_BYTES].copy_from_slice(&owner.to_ne_bytes());
}

fn owner_of(key: &[u8]) -> Ref {
    key.first_chunk()
        .map_or(0, |owner| Ref::from_ne_bytes(*owner))
}
