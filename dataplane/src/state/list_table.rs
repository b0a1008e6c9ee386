//! Lists of one key group: per key and namespace a chain of segments that elements are appended to.
//!
//! ```text
//!  entry (ByteTable)     value: | first segment | last segment | offset of the first element | length |
//!  segment (same arena)  | next segment, class | units in use | element | element | ...
//!  element               | bytes (8) | the bytes, 8-aligned |
//! ```
//! Owns: [`ListTable`]. Invariant: appending and taking from the front cost O(1); a list without elements has no entry, and no
//! segment but the only one is without elements.
//! Left out: access by position.

use bytemuck::{cast_slice, cast_slice_mut};

use crate::error::Result;
use crate::state::arena::{Ref, SizeClass, UNIT_BYTES, class_of, units_of};
use crate::state::backend::At;
use crate::state::byte_table::{ByteTable, EntryError, VALUE_BYTES_MAX, hash_in_namespace};
use crate::state::map_table::Visit;

/// Units before the first element of a segment.
const SEGMENT_HEAD_UNITS: usize = 2;

/// Units of the first segment of a list, and most of a later one; each is twice as large as the one before: 64 bytes to 4 KiB.
/// An element that needs more gets a segment of its size.
const SEGMENT_UNITS_MIN: usize = 8;
const SEGMENT_UNITS_MAX: usize = 512;

/// What an entry's value says of its list.
#[derive(Debug, Clone, Copy)]
struct Chain {
    first: Ref,
    last: Ref,
    /// Unit of the first element in the first segment.
    offset: u64,
    length: u64,
}

impl Chain {
    const BYTES: usize = 24;

    fn read(value: &[u8]) -> Self {
        let units: &[u64] = cast_slice(value);
        let (first, last) = halves(units[0]);
        Self {
            first,
            last,
            offset: units[1],
            length: units[2],
        }
    }

    fn write(self, value: &mut [u8]) {
        let units: &mut [u64] = cast_slice_mut(value);
        units[0] = u64::from(self.last) << 32 | u64::from(self.first);
        units[1] = self.offset;
        units[2] = self.length;
    }

    #[allow(clippy::cast_possible_truncation, reason = "below a segment's units")]
    fn offset(self) -> usize {
        self.offset as usize
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the two halves")]
const fn halves(unit: u64) -> (u32, u32) {
    (unit as u32, (unit >> 32) as u32)
}

/// Lists of bytes, found by key and namespace.
#[derive(Debug, Default, Clone)]
pub(crate) struct ListTable {
    lists: ByteTable,
    elements: usize,
}

impl ListTable {
    /// Number of elements of all lists.
    pub(crate) fn len(&self) -> usize {
        self.elements
    }

    pub(crate) fn bytes(&self) -> usize {
        self.lists.bytes()
    }

    pub(crate) fn table(&self) -> &ByteTable {
        &self.lists
    }

    fn find(&self, at: At<'_>) -> Option<Ref> {
        let hash = hash_in_namespace(at.key_hash, at.namespace);
        self.lists.find(hash, at.key, at.namespace)
    }

    pub(crate) fn contains(&self, at: At<'_>) -> bool {
        self.find(at).is_some()
    }

    /// Puts an element behind the others.
    ///
    /// Cost: one probe and a copy.
    pub(crate) fn append(&mut self, at: At<'_>, bytes: &[u8]) -> Result<(), EntryError> {
        if bytes.len() > VALUE_BYTES_MAX {
            return Err(EntryError::ValueTooLong(bytes.len()));
        }
        let needed = 1 + bytes.len().div_ceil(UNIT_BYTES);
        let Some(entry) = self.find(at) else {
            return self.begin(at, bytes, needed);
        };
        let mut chain = Chain::read(self.lists.value(entry));
        let (_, class, used) = self.segment(chain.last);
        if used + needed > units_of(class) {
            let size = (2 * units_of(class)).clamp(SEGMENT_UNITS_MIN, SEGMENT_UNITS_MAX);
            let fresh = self.add_segment(size, needed)?;
            self.lists.arena_mut().units_mut(chain.last, 1)[0] |= u64::from(fresh);
            chain.last = fresh;
        }
        self.write_element(chain.last, bytes, needed);
        chain.length += 1;
        chain.write(self.lists.value_mut(entry));
        Ok(())
    }

    /// A list of one element.
    fn begin(&mut self, at: At<'_>, bytes: &[u8], needed: usize) -> Result<(), EntryError> {
        let segment = self.add_segment(SEGMENT_UNITS_MIN, needed)?;
        let chain = Chain {
            first: segment,
            last: segment,
            offset: SEGMENT_HEAD_UNITS as u64,
            length: 1,
        };
        let (mut value, hash) = (
            [0u64; Chain::BYTES / UNIT_BYTES],
            hash_in_namespace(at.key_hash, at.namespace),
        );
        chain.write(cast_slice_mut(&mut value));
        let put = self
            .lists
            .put(hash, at.key, at.namespace, cast_slice(&value));
        if let Err(problem) = put {
            self.free_segment(segment);
            return Err(problem);
        }
        self.write_element(segment, bytes, needed);
        Ok(())
    }

    /// Calls `visit` with each element, in the order they were appended.
    pub(crate) fn for_each(
        &mut self,
        at: At<'_>,
        mut visit: impl FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let Some(entry) = self.find(at) else {
            return Ok(());
        };
        let chain = Chain::read(self.lists.value(entry));
        let (mut segment, mut offset) = (chain.first, chain.offset());
        while segment != 0 {
            let (next, _, used) = self.segment(segment);
            let units = self.lists.arena_mut().units_mut(segment, used);
            while offset < used {
                let bytes = element_bytes(units[offset]);
                let end = offset + 1 + bytes.div_ceil(UNIT_BYTES);
                visit(&mut cast_slice_mut(&mut units[offset + 1..end])[..bytes])?;
                offset = end;
            }
            (segment, offset) = (next, SEGMENT_HEAD_UNITS);
        }
        Ok(())
    }

    /// Calls `visit` with each element, in the order they were appended, and takes out those for which it says so.
    ///
    /// Cost: behind an element that goes, the rest of its segment (4 KiB, or one element) moves.
    pub(crate) fn visit(
        &mut self,
        at: At<'_>,
        mut visit: impl FnMut(&mut [u8]) -> Result<Visit>,
    ) -> Result<()> {
        let hash = hash_in_namespace(at.key_hash, at.namespace);
        let Some(entry) = self.lists.find(hash, at.key, at.namespace) else {
            return Ok(());
        };
        let before = Chain::read(self.lists.value(entry));
        let (mut chain, mut result, mut stopped) = (before, Ok(()), false);
        let (mut previous, mut segment, mut start) = (0, chain.first, chain.offset());
        while segment != 0 && !stopped {
            let (next, _, used) = self.segment(segment);
            let units = self.lists.arena_mut().units_mut(segment, used);
            let (mut from, mut to) = (start, start);
            while from < used {
                if stopped {
                    units.copy_within(from..used, to);
                    to += used - from;
                    break;
                }
                let bytes = element_bytes(units[from]);
                let end = from + 1 + bytes.div_ceil(UNIT_BYTES);
                let element = &mut cast_slice_mut(&mut units[from + 1..end])[..bytes];
                let verdict = visit(element).unwrap_or_else(|error| {
                    result = Err(error);
                    Visit::Stop
                });
                stopped = verdict == Visit::Stop;
                if verdict == Visit::Remove {
                    chain.length -= 1;
                } else {
                    if from != to {
                        units.copy_within(from..end, to);
                    }
                    to += end - from;
                }
                from = end;
            }
            units[1] = to as u64;
            if to == start {
                self.unlink(&mut chain, previous, segment, next);
            } else {
                previous = segment;
            }
            (segment, start) = (next, SEGMENT_HEAD_UNITS);
        }
        if chain.length != before.length {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "all elements are in memory"
            )]
            let removed = (before.length - chain.length) as usize;
            self.elements -= removed;
            if chain.length == 0 {
                self.lists.remove_entry(hash, entry);
            } else {
                chain.write(self.lists.value_mut(entry));
            }
        }
        result
    }

    /// Gives back a segment without elements that lies between `previous` and `next` (0: none).
    fn unlink(&mut self, chain: &mut Chain, previous: Ref, segment: Ref, next: Ref) {
        if previous == 0 {
            chain.first = next;
            chain.offset = SEGMENT_HEAD_UNITS as u64;
        } else {
            let head = &mut self.lists.arena_mut().units_mut(previous, 1)[0];
            let (_, class) = halves(*head);
            *head = u64::from(class) << 32 | u64::from(next);
        }
        if next == 0 {
            chain.last = previous;
        }
        self.free_segment(segment);
    }

    /// As [`ListTable::for_each`], of the list that lies at `entry`, without leave to change.
    pub(crate) fn read(&self, entry: Ref, mut visit: impl FnMut(&[u8])) {
        let chain = Chain::read(self.lists.value(entry));
        let (mut segment, mut offset) = (chain.first, chain.offset());
        while segment != 0 {
            let (next, _, used) = self.segment(segment);
            let units = self.lists.arena().units(segment, used);
            while offset < used {
                let bytes = element_bytes(units[offset]);
                let end = offset + 1 + bytes.div_ceil(UNIT_BYTES);
                visit(&cast_slice(&units[offset + 1..end])[..bytes]);
                offset = end;
            }
            (segment, offset) = (next, SEGMENT_HEAD_UNITS);
        }
    }

    /// Takes elements from the front while `goes` says so; says whether the list has gone with them.
    pub(crate) fn drop_while(&mut self, at: At<'_>, goes: impl FnMut(&[u8]) -> bool) -> bool {
        let hash = hash_in_namespace(at.key_hash, at.namespace);
        match self.lists.find(hash, at.key, at.namespace) {
            Some(entry) => self.drop_front(hash, entry, goes),
            None => false,
        }
    }

    /// As [`ListTable::drop_while`], of the list that lies at `entry` under `hash`.
    pub(crate) fn drop_front(
        &mut self,
        hash: u32,
        entry: Ref,
        mut goes: impl FnMut(&[u8]) -> bool,
    ) -> bool {
        let mut chain = Chain::read(self.lists.value(entry));
        while chain.length > 0 {
            let offset = chain.offset();
            let units = self.lists.arena().tail(chain.first);
            let bytes = element_bytes(units[offset]);
            if !goes(&cast_slice(&units[offset + 1..])[..bytes]) {
                chain.write(self.lists.value_mut(entry));
                return false;
            }
            chain.length -= 1;
            self.elements -= 1;
            chain.offset += 1 + bytes.div_ceil(UNIT_BYTES) as u64;
            let (next, _, used) = self.segment(chain.first);
            if chain.offset() == used && next != 0 {
                self.free_segment(chain.first);
                chain.first = next;
                chain.offset = SEGMENT_HEAD_UNITS as u64;
            }
        }
        self.free_segment(chain.first);
        self.lists.remove_entry(hash, entry)
    }

    /// Takes a list out.
    pub(crate) fn clear(&mut self, at: At<'_>) {
        let hash = hash_in_namespace(at.key_hash, at.namespace);
        let Some(entry) = self.lists.find(hash, at.key, at.namespace) else {
            return;
        };
        let chain = Chain::read(self.lists.value(entry));
        let mut segment = chain.first;
        while segment != 0 {
            let (next, _, _) = self.segment(segment);
            self.free_segment(segment);
            segment = next;
        }
        #[allow(
            clippy::cast_possible_truncation,
            reason = "all elements are in memory"
        )]
        let length = chain.length as usize;
        self.elements -= length;
        self.lists.remove_entry(hash, entry);
    }

    /// Next segment, class of the block and units in use.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "written from these types")]
    fn segment(&self, segment: Ref) -> (Ref, SizeClass, usize) {
        let units = self.lists.arena().tail(segment);
        let (next, class) = halves(units[0]);
        (next, class as SizeClass, units[1] as usize)
    }

    /// A segment of `size` units, or of what its first element needs.
    fn add_segment(&mut self, size: usize, needed: usize) -> Result<Ref, EntryError> {
        let class = class_of(size.max(SEGMENT_HEAD_UNITS + needed));
        let segment = self.lists.arena_mut().allocate(class)?;
        let head = self
            .lists
            .arena_mut()
            .units_mut(segment, SEGMENT_HEAD_UNITS);
        head[0] = u64::from(class) << 32;
        head[1] = SEGMENT_HEAD_UNITS as u64;
        Ok(segment)
    }

    fn free_segment(&mut self, segment: Ref) {
        let (_, class, _) = self.segment(segment);
        self.lists.arena_mut().free(segment, class);
    }

    /// Writes an element where there is room for it.
    fn write_element(&mut self, segment: Ref, bytes: &[u8], needed: usize) {
        let (_, _, used) = self.segment(segment);
        let units = self.lists.arena_mut().units_mut(segment, used + needed);
        units[1] = (used + needed) as u64;
        units[used] = bytes.len() as u64;
        cast_slice_mut(&mut units[used + 1..])[..bytes.len()].copy_from_slice(bytes);
        self.elements += 1;
    }
}

#[allow(clippy::cast_possible_truncation, reason = "written from a length")]
const fn element_bytes(unit: u64) -> usize {
    unit as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(key: &[u8]) -> At<'_> {
        At {
            key_hash: 7,
            key,
            namespace: &[],
        }
    }

    fn all(table: &mut ListTable) -> Vec<Vec<u8>> {
        let mut elements = Vec::new();
        let visited = table.visit(at(b"k"), |element| {
            elements.push(element.to_vec());
            Ok(Visit::Keep)
        });
        visited.expect("the visit above cannot fail");
        elements
    }

    proptest! {
        /// Elements of many sizes, so that lists have segments that empty in front, between and behind others.
        #[test]
        fn lists_that_lose_elements_do_what_vectors_do(
            steps in prop::collection::vec((0usize..3, 0usize..700, any::<u8>()), 0..120),
        ) {
            let (mut table, mut model) = (ListTable::default(), Vec::<Vec<u8>>::new());
            for (step, size, byte) in steps {
                if step < 2 || model.is_empty() {
                    let element = vec![byte; size];
                    table.append(at(b"k"), &element).expect("room");
                    model.push(element);
                } else {
                    // Takes elements out where their byte says so, and stops somewhere.
                    let (stop, mut seen) = (size % (model.len() + 1), 0);
                    let goes = |element: &[u8]| element.first().is_none_or(|first| first % 3 == byte % 3);
                    let visited = table.visit(at(b"k"), |element| {
                        if seen == stop {
                            return Ok(Visit::Stop);
                        }
                        seen += 1;
                        Ok(if goes(element) { Visit::Remove } else { Visit::Keep })
                    });
                    visited.expect("the visit above cannot fail");
                    let mut index = 0;
                    model.retain(|element| {
                        index += 1;
                        index > stop || !goes(element)
                    });
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.contains(at(b"k")), !model.is_empty());
                prop_assert_eq!(&all(&mut table), &model);
            }
        }
    }
}
