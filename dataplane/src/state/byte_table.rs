//! The entries of one key group as bytes: open addressing over an arena.
//!
//! ```text
//!  slot (8 bytes)   | hash (32) | reference (32) |     0: empty
//!  entry            | head (8)  | key | namespace | 0..7 bytes | value, 8-aligned |
//!  head             | class (8) | namespace bytes (8) | key bytes (16) | value bytes (32) |
//! ```
//! Owns: `ByteTable`, [`Change`], [`EntryError`]. An access costs two cache misses where the table is larger than the cache
//! (slot, entry); `prefetch_slot` and `prefetch_entry` take them early. No access allocates; growth doubles this key group's
//! slots alone, and never moves an entry.
//! Invariant: between the home slot of an entry and its slot none is empty (removal moves later slots back, so there are no
//! tombstones); an entry stays where it is until it is removed or its value outgrows its block.
//! Left out: what the bytes mean, and who owns which key group ([`crate::state::backend`]).

use bytemuck::{cast_slice, cast_slice_mut};

use crate::state::arena::{Arena, ArenaFull, Ref, SizeClass, UNIT_BYTES, class_of};
use crate::state::table::prefetch;

/// Slots of the smallest table that holds anything.
const SLOTS_MIN: usize = 8;

/// A table grows before more than 3/4 of its slots are taken, where [`crate::state::table`] stops at half: eight slots lie on a
/// cache line, so longer searches cost little.
const LOAD_NUMERATOR: usize = 3;
const LOAD_DENOMINATOR: usize = 4;

/// 2^64 / golden ratio: takes every bit of a hash into the top bits of the product (Knuth, The Art of Computer Programming 3,
/// 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// As much of an entry is fetched early: head, a key of 8 bytes, a value of 16.
const SMALL_ENTRY_BYTES: usize = 32;

/// An arena larger than this is given back as a whole when the last entry goes.
const KEPT_BYTES: usize = 64 << 10;

/// A block is left for a smaller one when its value needs one so many classes below: a quarter of it.
const SHRINK_CLASSES: SizeClass = 8;

/// Longest key: its length is 16 bits of an entry's head.
pub const KEY_BYTES_MAX: usize = u16::MAX as usize;

/// Longest namespace: its length is 8 bits of an entry's head.
pub const NAMESPACE_BYTES_MAX: usize = u8::MAX as usize;

/// Longest value: its length is 32 bits of an entry's head.
pub const VALUE_BYTES_MAX: usize = u32::MAX as usize;

/// Why an entry cannot be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// A key longer than its length field.
    #[error(
        "a key of {0} bytes is longer than the {KEY_BYTES_MAX} that state takes: key by a hash of it"
    )]
    KeyTooLong(usize),
    /// A namespace longer than its length field.
    #[error("a namespace of {0} bytes is longer than the {NAMESPACE_BYTES_MAX} that state takes")]
    NamespaceTooLong(usize),
    /// A value longer than its length field.
    #[error(
        "a value of {0} bytes is longer than the {VALUE_BYTES_MAX} that state takes: keep it in list or map state"
    )]
    ValueTooLong(usize),
    /// Its references are used up.
    #[error(
        "the state of one key group has reached 32 GiB: raise the maximum parallelism, so that there are more key groups, or \
         find the key that holds most of it"
    )]
    Full,
}

impl From<ArenaFull> for EntryError {
    fn from(_: ArenaFull) -> Self {
        Self::Full
    }
}

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It stays as it is; where there is none, none is made.
    Keep,
    /// Its value is what was written.
    Put,
    /// It goes.
    Remove,
}

/// What became of an entry, for those who keep its reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Nothing.
    Kept,
    /// Its value was written; it may have moved from one place to another.
    Put { before: Option<Ref>, now: Ref },
    /// It has gone.
    Removed,
}

/// First unit of an entry: lengths and the class of its block.
#[derive(Debug, Clone, Copy)]
struct Head(u64);

#[allow(
    clippy::cast_possible_truncation,
    reason = "fields are cut out, and checked before"
)]
impl Head {
    /// Where the lengths of key and namespace are.
    const LENGTHS: u64 = 0x00ff_ffff_0000_0000;

    /// The lengths of key and namespace, as they are in a head; of longer ones than it takes, bits that no head has there.
    #[inline]
    const fn lengths(key: &[u8], namespace: &[u8]) -> u64 {
        if key.len() > KEY_BYTES_MAX || namespace.len() > NAMESPACE_BYTES_MAX {
            return u64::MAX;
        }
        (namespace.len() as u64) << 48 | (key.len() as u64) << 32
    }

    fn new(
        key: &[u8],
        namespace: &[u8],
        value_bytes: usize,
    ) -> Result<(Self, SizeClass), EntryError> {
        if key.len() > KEY_BYTES_MAX {
            return Err(EntryError::KeyTooLong(key.len()));
        }
        if namespace.len() > NAMESPACE_BYTES_MAX {
            return Err(EntryError::NamespaceTooLong(namespace.len()));
        }
        Self(Self::lengths(key, namespace)).with_value(value_bytes)
    }

    /// The same entry with a value of another length, in the block that is just large enough.
    #[inline]
    fn with_value(self, bytes: usize) -> Result<(Self, SizeClass), EntryError> {
        if bytes > VALUE_BYTES_MAX {
            return Err(EntryError::ValueTooLong(bytes));
        }
        let units = self.value_unit() + bytes.div_ceil(UNIT_BYTES);
        let class = class_of(units);
        let lengths = self.0 & Self::LENGTHS;
        Ok((Self(u64::from(class) << 56 | lengths | bytes as u64), class))
    }

    #[inline]
    const fn in_class(self, class: SizeClass) -> Self {
        Self((self.0 & !(0xff << 56)) | (class as u64) << 56)
    }

    #[inline]
    const fn class(self) -> SizeClass {
        (self.0 >> 56) as SizeClass
    }

    #[inline]
    const fn key_bytes(self) -> usize {
        (self.0 >> 32) as u16 as usize
    }

    #[inline]
    const fn namespace_bytes(self) -> usize {
        (self.0 >> 48) as u8 as usize
    }

    #[inline]
    const fn value_bytes(self) -> usize {
        self.0 as u32 as usize
    }

    /// Unit where the value begins.
    #[inline]
    const fn value_unit(self) -> usize {
        1 + (self.key_bytes() + self.namespace_bytes()).div_ceil(UNIT_BYTES)
    }

    /// Units up to the value's end.
    #[inline]
    const fn units(self) -> usize {
        self.value_unit() + self.value_bytes().div_ceil(UNIT_BYTES)
    }
}

/// Entries of bytes, found by hash, key and namespace. Lives: one per key group and store, on the subtask's core.
///
/// Layout: what an access reads (slots, shift, the arena's pages) is on one cache line.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(crate) struct ByteTable {
    slots: Box<[u64]>,
    taken: usize,
    /// 64 - log2(slots): the home slot is in the top bits of the mixed hash.
    shift: u32,
    arena: Arena,
}

impl Default for ByteTable {
    fn default() -> Self {
        Self {
            slots: Box::default(),
            taken: 0,
            shift: 63,
            arena: Arena::default(),
        }
    }
}

/// Where a search ended.
enum Probe {
    Found(usize, Ref),
    Free(usize),
}

impl ByteTable {
    pub(crate) fn len(&self) -> usize {
        self.taken
    }

    /// Bytes of slots and arena.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.slots) + self.arena.bytes()
    }

    /// The blocks beside the entries: what an entry's value refers to may lie there too.
    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    pub(crate) fn arena_mut(&mut self) -> &mut Arena {
        &mut self.arena
    }

    /// Has the home slot of `hash` fetched into the cache, without waiting.
    #[inline]
    pub(crate) fn prefetch_slot(&self, hash: u32) {
        if let Some(slot) = self.slots.get(self.home(hash)) {
            prefetch(std::ptr::from_ref(slot).cast());
        }
    }

    /// Has the entry of `hash` fetched into the cache, without waiting for it; waits for the slot.
    #[inline]
    pub(crate) fn prefetch_entry(&self, hash: u32) {
        if self.slots.is_empty() {
            return;
        }
        // One of two slots, chosen without a branch: where probing ends cannot be predicted, and a wrong guess costs more than
        // the entries that lie farther from home gain. An empty slot's entry is the arena's first unit, which does no harm.
        let (home, mask) = (self.home(hash), self.slots.len() - 1);
        let (first, second) = (self.slots[home], self.slots[(home + 1) & mask]);
        let slot = if hash_in(first) == hash {
            first
        } else {
            second
        };
        let entry = self.arena.address(ref_in(slot));
        prefetch(entry);
        // It may reach onto the next line.
        prefetch(entry.wrapping_add(SMALL_ENTRY_BYTES - 1));
    }

    #[inline]
    pub(crate) fn find(&self, hash: u32, key: &[u8], namespace: &[u8]) -> Option<Ref> {
        match self.probe(hash, key, namespace) {
            Probe::Found(_, entry) => Some(entry),
            Probe::Free(_) => None,
        }
    }

    #[inline]
    pub(crate) fn get(&self, hash: u32, key: &[u8], namespace: &[u8]) -> Option<&[u8]> {
        self.find(hash, key, namespace)
            .map(|entry| self.value(entry))
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, hash: u32, key: &[u8], namespace: &[u8]) -> Option<&mut [u8]> {
        let entry = self.find(hash, key, namespace)?;
        Some(self.value_mut(entry))
    }

    #[inline]
    fn head(&self, entry: Ref) -> Head {
        Head(self.arena.units(entry, 1)[0])
    }

    #[inline(always)]
    pub(crate) fn value(&self, entry: Ref) -> &[u8] {
        let units = self.arena.tail(entry);
        let head = Head(units[0]);
        &cast_slice(&units[head.value_unit()..])[..head.value_bytes()]
    }

    #[inline]
    pub(crate) fn value_mut(&mut self, entry: Ref) -> &mut [u8] {
        let head = self.head(entry);
        let units = self.arena.units_mut(entry, head.units());
        &mut cast_slice_mut(&mut units[head.value_unit()..])[..head.value_bytes()]
    }

    /// Key and namespace.
    pub(crate) fn address(&self, entry: Ref) -> (&[u8], &[u8]) {
        let head = self.head(entry);
        let bytes: &[u8] = cast_slice(&self.arena.units(entry, head.value_unit())[1..]);
        bytes[..head.key_bytes() + head.namespace_bytes()].split_at(head.key_bytes())
    }

    /// Key and value of an entry, the value to be changed in place.
    pub(crate) fn parts_mut(&mut self, entry: Ref) -> (&[u8], &mut [u8]) {
        let head = self.head(entry);
        let units = self.arena.units_mut(entry, head.units());
        let (address, value) = units.split_at_mut(head.value_unit());
        (
            &cast_slice(&address[1..])[..head.key_bytes()],
            &mut cast_slice_mut(value)[..head.value_bytes()],
        )
    }

    /// Looks an entry up once and lets `change` say what becomes of it.
    ///
    /// `change` sees the old value; what it appends to `fresh` (empty before) is the new one if it says [`Change::Put`].
    #[inline]
    pub(crate) fn update(
        &mut self,
        hash: u32,
        key: &[u8],
        namespace: &[u8],
        fresh: &mut Vec<u8>,
        change: impl FnOnce(Option<&[u8]>, &mut Vec<u8>) -> Change,
    ) -> Result<Changed, EntryError> {
        fresh.clear();
        match self.probe(hash, key, namespace) {
            Probe::Found(index, entry) => match change(Some(self.value(entry)), fresh) {
                Change::Keep => Ok(Changed::Kept),
                Change::Put => self.replace(index, entry, fresh),
                Change::Remove => {
                    self.remove_at(index);
                    Ok(Changed::Removed)
                }
            },
            Probe::Free(index) => match change(None, fresh) {
                Change::Put => self.insert(index, hash, key, namespace, fresh),
                Change::Keep | Change::Remove => Ok(Changed::Kept),
            },
        }
    }

    /// Writes a value, whether there was one or not.
    #[inline]
    pub(crate) fn put(
        &mut self,
        hash: u32,
        key: &[u8],
        namespace: &[u8],
        value: &[u8],
    ) -> Result<Changed, EntryError> {
        match self.probe(hash, key, namespace) {
            Probe::Found(index, entry) => self.replace(index, entry, value),
            Probe::Free(index) => self.insert(index, hash, key, namespace, value),
        }
    }

    /// Takes an entry out; says whether there was one.
    pub(crate) fn remove(&mut self, hash: u32, key: &[u8], namespace: &[u8]) -> bool {
        match self.probe(hash, key, namespace) {
            Probe::Found(index, _) => {
                self.remove_at(index);
                true
            }
            Probe::Free(_) => false,
        }
    }

    /// Takes the entry out that lies at `entry` under `hash`; says whether it did.
    pub(crate) fn remove_entry(&mut self, hash: u32, entry: Ref) -> bool {
        if self.slots.is_empty() {
            return false;
        }
        let (mask, sought) = (self.slots.len() - 1, slot_of(hash, entry));
        let mut index = self.home(hash);
        loop {
            let slot = self.slots[index & mask];
            if slot == sought {
                self.remove_at(index & mask);
                return true;
            }
            if slot == 0 {
                return false;
            }
            index += 1;
        }
    }

    /// All entries and their hashes, in the order of the slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, Ref)> {
        let taken = self.slots.iter().filter(|slot| **slot != 0);
        taken.map(|slot| (hash_in(*slot), ref_in(*slot)))
    }

    /// Number of slots.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The entry in a slot.
    pub(crate) fn slot(&self, index: usize) -> Option<(u32, Ref)> {
        let slot = *self.slots.get(index)?;
        (slot != 0).then(|| (hash_in(slot), ref_in(slot)))
    }

    /// All hashes of a key group are equal modulo the number of key groups: the product mixes them.
    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the shift leaves fewer bits than a table has slots"
    )]
    fn home(&self, hash: u32) -> usize {
        (u64::from(hash).wrapping_mul(GOLDEN) >> self.shift) as usize
    }

    #[inline]
    fn probe(&self, hash: u32, key: &[u8], namespace: &[u8]) -> Probe {
        if self.slots.is_empty() {
            return Probe::Free(0);
        }
        let mask = self.slots.len() - 1;
        let lengths = Head::lengths(key, namespace);
        let mut index = self.home(hash);
        loop {
            // Ends: at least a quarter of the slots is empty.
            let slot = self.slots[index & mask];
            if slot == 0 {
                return Probe::Free(index & mask);
            }
            if hash_in(slot) == hash && self.is_of(ref_in(slot), lengths, key, namespace) {
                return Probe::Found(index & mask, ref_in(slot));
            }
            index += 1;
        }
    }

    /// The entry is of this key and namespace; `lengths` are theirs ([`Head::lengths`]).
    #[inline]
    fn is_of(&self, entry: Ref, lengths: u64, key: &[u8], namespace: &[u8]) -> bool {
        let units = self.arena.tail(entry);
        if units[0] & Head::LENGTHS != lengths {
            return false;
        }
        let bytes: &[u8] = cast_slice(&units[1..]);
        let (stored_key, rest) = bytes.split_at(key.len());
        same(stored_key, key) && (namespace.is_empty() || same(&rest[..namespace.len()], namespace))
    }

    #[inline]
    fn replace(&mut self, index: usize, entry: Ref, value: &[u8]) -> Result<Changed, EntryError> {
        let old = self.head(entry);
        let (head, class) = old.with_value(value.len())?;
        if old.value_bytes() == value.len() || fits(class, old.class()) {
            let units = self.arena.units_mut(entry, head.units());
            units[0] = head.in_class(old.class()).0;
            copy(
                value,
                &mut cast_slice_mut(&mut units[head.value_unit()..])[..value.len()],
            );
            let before = Some(entry);
            return Ok(Changed::Put { before, now: entry });
        }
        self.relocate(index, entry, head, value)
    }

    #[cold]
    fn relocate(
        &mut self,
        index: usize,
        entry: Ref,
        head: Head,
        value: &[u8],
    ) -> Result<Changed, EntryError> {
        let now = self.arena.allocate(head.class())?;
        self.arena.copy(entry, now, head.value_unit());
        self.write(now, head, value);
        let old = self.head(entry);
        self.arena.free(entry, old.class());
        self.slots[index] = slot_of(hash_in(self.slots[index]), now);
        let before = Some(entry);
        Ok(Changed::Put { before, now })
    }

    fn insert(
        &mut self,
        mut index: usize,
        hash: u32,
        key: &[u8],
        namespace: &[u8],
        value: &[u8],
    ) -> Result<Changed, EntryError> {
        let (head, class) = Head::new(key, namespace, value.len())?;
        let now = self.arena.allocate(class)?;
        let units = self.arena.units_mut(now, head.value_unit());
        let bytes: &mut [u8] = cast_slice_mut(&mut units[1..]);
        let (to_key, rest) = bytes.split_at_mut(key.len());
        copy(key, to_key);
        rest[..namespace.len()].copy_from_slice(namespace);
        self.write(now, head, value);
        if (self.taken + 1) * LOAD_DENOMINATOR > self.slots.len() * LOAD_NUMERATOR {
            self.grow();
            index = self.free_slot(hash);
        }
        self.slots[index] = slot_of(hash, now);
        self.taken += 1;
        Ok(Changed::Put { before: None, now })
    }

    #[inline]
    fn write(&mut self, entry: Ref, head: Head, value: &[u8]) {
        let units = self.arena.units_mut(entry, head.units());
        units[0] = head.0;
        copy(
            value,
            &mut cast_slice_mut(&mut units[head.value_unit()..])[..value.len()],
        );
    }

    fn remove_at(&mut self, index: usize) {
        let entry = ref_in(self.slots[index]);
        let class = self.head(entry).class();
        self.arena.free(entry, class);
        self.taken -= 1;
        self.close(index);
        if self.taken == 0 && self.arena.bytes() > KEPT_BYTES {
            self.arena = Arena::default();
        }
    }

    /// Empties a slot, and moves those back that were probed past it.
    fn close(&mut self, mut hole: usize) {
        let mask = self.slots.len() - 1;
        let mut index = hole;
        loop {
            index = (index + 1) & mask;
            let slot = self.slots[index];
            if slot == 0 {
                break;
            }
            // A slot may move back to the hole unless its home lies behind it: home <= hole < index, on a ring.
            let home = self.home(hash_in(slot));
            if (index.wrapping_sub(home) & mask) >= (index.wrapping_sub(hole) & mask) {
                self.slots[hole] = slot;
                hole = index;
            }
        }
        self.slots[hole] = 0;
    }

    /// The slot for an entry of `hash` that is known not to be there.
    fn free_slot(&self, hash: u32) -> usize {
        let mask = self.slots.len() - 1;
        let mut index = self.home(hash);
        while self.slots[index] != 0 {
            index = (index + 1) & mask;
        }
        index
    }

    #[cold]
    fn grow(&mut self) {
        let slots = (2 * self.slots.len()).max(SLOTS_MIN);
        let old = std::mem::replace(&mut self.slots, vec![0; slots].into_boxed_slice());
        self.shift = 64 - slots.trailing_zeros();
        for slot in old.into_iter().filter(|slot| *slot != 0) {
            let index = self.free_slot(hash_in(slot));
            self.slots[index] = slot;
        }
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the upper half")]
const fn hash_in(slot: u64) -> u32 {
    (slot >> 32) as u32
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the lower half")]
const fn ref_in(slot: u64) -> Ref {
    slot as Ref
}

#[inline]
const fn slot_of(hash: u32, entry: Ref) -> u64 {
    (hash as u64) << 32 | entry as u64
}

/// A value that needs a block of `needed` stays in one of `has`.
#[inline]
const fn fits(needed: SizeClass, has: SizeClass) -> bool {
    needed <= has && has < needed + SHRINK_CLASSES
}

/// Bytes of equal length are equal. Not the general comparison: keys and windows are most often 8 or 16 bytes, for which a call
/// costs more than comparing, and for an empty slice (which points nowhere) a masked load of its own costs 50 ns.
#[inline]
fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() == 8
        && let (Some(left), Some(right)) = (left.first_chunk(), right.first_chunk())
    {
        return u64::from_ne_bytes(*left) == u64::from_ne_bytes(*right);
    }
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<8>(), right.as_chunks::<8>());
    let words = left.iter().zip(right);
    let rest = left_rest.iter().zip(right_rest);
    words
        .map(|(a, b)| u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b))
        .all(|other| other == 0)
        && rest.map(|(a, b)| a ^ b).all(|other| other == 0)
}

/// A number is written without a call.
#[inline]
pub(crate) fn copy(from: &[u8], to: &mut [u8]) {
    if from.len() == 8
        && let (Some(from), Some(to)) = (from.first_chunk::<8>(), to.first_chunk_mut::<8>())
    {
        *to = *from;
        return;
    }
    to.copy_from_slice(from);
}

/// A hash of bytes for slots, not for key groups.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the upper half of a u64")]
pub(crate) fn hash_bytes(bytes: &[u8]) -> u32 {
    let mut hash = 0u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(GOLDEN);
        hash ^= hash >> 29;
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        last[7] = rest.len() as u8;
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(GOLDEN);
    }
    (hash >> 32) as u32
}

/// The slot hash of a key in a namespace. The key's hash can be had back: it is this one, put through the same again.
#[inline]
pub(crate) fn hash_in_namespace(key_hash: u32, namespace: &[u8]) -> u32 {
    if namespace.is_empty() {
        key_hash
    } else {
        key_hash ^ hash_bytes(namespace)
    }
}

#[cfg(test)]
mod tests;
