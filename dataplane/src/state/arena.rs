//! Memory of one key group's entries: blocks in pages, found by a 32-bit reference.
//!
//! ```text
//!  reference = page << 11 | offset, in units of 8 bytes; 2^32 units = 32 GiB
//!  page 0: grows 1, 2, 4, 8, 16 KiB    page 1: 16 KiB    pages 2, 3, 4: one block of 40 KiB, all of it at page 2
//!  [ - | block | block | free ...  ]   [ block | ... ]   [ block                  ] [ ] [ ]
//! ```
//! Owns: [`Arena`], the size classes of blocks, free lists.
//! Invariant: a reference stays good until its block is freed, because blocks never move and only pages that hold nothing else
//! are given back; a block is in use or in one free list, of its class.
//! Left out: compaction. What was freed serves blocks of its class only, and pages of small blocks stay.

/// Bytes of a unit: what references count in, and what blocks are aligned to.
pub(crate) const UNIT_BYTES: usize = 8;

/// Units of a page: 16 KiB.
const PAGE_UNITS: usize = 1 << PAGE_SHIFT;
const PAGE_SHIFT: u32 = 11;

/// Units of the first page while there is little in it: 1 KiB, so that 128 key groups with an entry each take 128 KiB.
const FIRST_UNITS: usize = 128;

/// Pages that references reach: 32 GiB.
const PAGES_MAX: usize = 1 << (32 - PAGE_SHIFT);

/// Units of the smallest block: room for a free list's link and an entry's head.
const BLOCK_UNITS_MIN: usize = 2;

/// A block's place, in units. 0 is nowhere: the first unit is never given out.
pub(crate) type Ref = u32;

/// Which of the sizes a block has.
pub(crate) type SizeClass = u8;

/// The smallest class whose blocks have `units`: 2, 3, 4 .. 7 units, then four steps for each power of two: 8, 10, 12, 14,
/// 16, 20... A block is at most a quarter larger than what is in it.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "at most 6 + 4 * 62")]
pub(crate) const fn class_of(units: usize) -> SizeClass {
    if units < 8 {
        return units.saturating_sub(BLOCK_UNITS_MIN) as u8;
    }
    let exponent = units.ilog2();
    let quarter = (units - (1 << exponent)).div_ceil(1 << (exponent - 2));
    (6 + 4 * (exponent - 3)) as u8 + quarter as u8
}

/// Units of the blocks of a class.
#[inline]
pub(crate) const fn units_of(class: SizeClass) -> usize {
    let class = class as usize;
    if class < 6 {
        return class + BLOCK_UNITS_MIN;
    }
    let (exponent, quarter) = (3 + (class - 6) / 4, (class - 6) % 4);
    (1 << exponent) + (quarter << (exponent - 2))
}

/// The 32 GiB that references reach are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArenaFull;

/// The memory of one key group. Lives: on the subtask's core. Allocates nothing before the first block.
///
/// Layout: pages first, for [`crate::state::byte_table::ByteTable`].
#[derive(Debug, Default, Clone)]
#[repr(C)]
pub(crate) struct Arena {
    /// A page that belongs to the block of a page before it is empty, and so is one whose block was given back.
    pages: Vec<Box<[u64]>>,
    /// The page that blocks are cut from, and its first unit that was never given out.
    page: usize,
    next: usize,
    /// Of each class, the first free block; its first unit is the next one. Grows with the largest class freed.
    free: Vec<Ref>,
    /// Places of large blocks that were given back: class and reference.
    vacant: Vec<(SizeClass, Ref)>,
    bytes: usize,
}

impl Arena {
    /// Bytes of all pages and lists.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
            + self.pages.capacity() * size_of::<Box<[u64]>>()
            + self.free.capacity() * size_of::<Ref>()
            + self.vacant.capacity() * size_of::<(SizeClass, Ref)>()
    }

    /// A block of the class. What is in it is of no meaning.
    ///
    /// Cost: one list step; rarely a page from the allocator.
    #[inline]
    pub(crate) fn allocate(&mut self, class: SizeClass) -> Result<Ref, ArenaFull> {
        if let Some(first) = self.free.get(usize::from(class)).copied()
            && first != 0
        {
            self.free[usize::from(class)] = self.link(first);
            return Ok(first);
        }
        self.cut(units_of(class))
    }

    /// Takes a block back.
    #[inline]
    pub(crate) fn free(&mut self, block: Ref, class: SizeClass) {
        if units_of(class) > PAGE_UNITS {
            return self.vacate(block, class);
        }
        let index = usize::from(class);
        if index >= self.free.len() {
            self.free.resize(index + 1, 0);
        }
        let next = std::mem::replace(&mut self.free[index], block);
        self.units_mut(block, 1)[0] = u64::from(next);
    }

    /// The first units of a block.
    #[inline]
    pub(crate) fn units(&self, block: Ref, count: usize) -> &[u64] {
        let (page, offset) = place(block);
        &self.pages[page][offset..][..count]
    }

    /// The first units of a block.
    #[inline]
    pub(crate) fn units_mut(&mut self, block: Ref, count: usize) -> &mut [u64] {
        let (page, offset) = place(block);
        &mut self.pages[page][offset..][..count]
    }

    /// Copies the first units of a block into another.
    pub(crate) fn copy(&mut self, from: Ref, to: Ref, count: usize) {
        let ((from_page, from), (to_page, to)) = (place(from), place(to));
        match self.pages.get_disjoint_mut([from_page, to_page]) {
            Ok([source, target]) => {
                target[to..][..count].copy_from_slice(&source[from..][..count]);
            }
            Err(_) => self.pages[from_page].copy_within(from..from + count, to),
        }
    }

    /// The first unit of a block, and all that lies behind it in its page.
    #[inline]
    pub(crate) fn tail(&self, block: Ref) -> &[u64] {
        let (page, offset) = place(block);
        &self.pages[page][offset..]
    }

    /// Where the block is, for a prefetch; of no block, null.
    #[inline]
    pub(crate) fn address(&self, block: Ref) -> *const u8 {
        let (page, offset) = place(block);
        match self.pages.get(page) {
            Some(page) => page.as_ptr().wrapping_add(offset).cast(),
            None => std::ptr::null(),
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "a reference was written there"
    )]
    fn link(&self, free: Ref) -> Ref {
        self.units(free, 1)[0] as u32
    }

    /// A block out of what was never used.
    #[cold]
    fn cut(&mut self, units: usize) -> Result<Ref, ArenaFull> {
        if self.pages.is_empty() {
            self.next = 1; // Unit 0 is nowhere.
            self.page = self.add_page(FIRST_UNITS)?;
        }
        if units > PAGE_UNITS {
            return self.allocate_alone(units);
        }
        loop {
            let length = self.pages[self.page].len();
            if self.next + units <= length {
                let block = reference(self.page, self.next);
                self.next += units;
                return Ok(block);
            }
            if length < PAGE_UNITS {
                self.grow_page(2 * length);
                continue;
            }
            self.free_rest();
            self.page = self.add_page(PAGE_UNITS)?;
            self.next = 0;
        }
    }

    /// A block of its own pages.
    fn allocate_alone(&mut self, units: usize) -> Result<Ref, ArenaFull> {
        self.bytes += units * UNIT_BYTES;
        let fresh = vec![0; units].into_boxed_slice();
        let class = class_of(units);
        if let Some(index) = self.vacant.iter().position(|(vacant, _)| *vacant == class) {
            let (_, block) = self.vacant.swap_remove(index);
            self.pages[place(block).0] = fresh;
            return Ok(block);
        }
        let (first, count) = (self.pages.len(), units.div_ceil(PAGE_UNITS));
        if first + count > PAGES_MAX {
            self.bytes -= units * UNIT_BYTES;
            return Err(ArenaFull);
        }
        self.pages.push(fresh);
        self.pages.resize_with(first + count, Box::default);
        Ok(reference(first, 0))
    }

    /// Gives the memory of a large block back, and keeps its place for the next of its class.
    #[cold]
    fn vacate(&mut self, block: Ref, class: SizeClass) {
        self.bytes -= units_of(class) * UNIT_BYTES;
        self.pages[place(block).0] = Box::default();
        self.vacant.push((class, block));
    }

    fn add_page(&mut self, units: usize) -> Result<usize, ArenaFull> {
        let index = self.pages.len();
        if index >= PAGES_MAX {
            return Err(ArenaFull);
        }
        self.pages.push(vec![0; units].into_boxed_slice());
        self.bytes += units * UNIT_BYTES;
        Ok(index)
    }

    fn grow_page(&mut self, units: usize) {
        let page = &mut self.pages[self.page];
        self.bytes += (units - page.len()) * UNIT_BYTES;
        let mut grown = std::mem::take(page).into_vec();
        grown.resize(units, 0);
        *page = grown.into_boxed_slice();
    }

    /// Makes free blocks of the end of a page, which is too short for what comes.
    fn free_rest(&mut self) {
        let mut rest = PAGE_UNITS - self.next;
        while rest >= BLOCK_UNITS_MIN {
            let mut class = class_of(rest);
            if units_of(class) > rest {
                class -= 1;
            }
            self.free(reference(self.page, self.next), class);
            self.next += units_of(class);
            rest -= units_of(class);
        }
    }
}

#[inline]
const fn place(block: Ref) -> (usize, usize) {
    let block = block as usize;
    (block >> PAGE_SHIFT, block & (PAGE_UNITS - 1))
}

#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "pages are limited to PAGES_MAX"
)]
const fn reference(page: usize, offset: usize) -> Ref {
    ((page << PAGE_SHIFT) | offset) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn classes_hold_what_they_are_for() {
        for units in BLOCK_UNITS_MIN..100_000 {
            let class = class_of(units);
            assert!(units_of(class) >= units, "{units}");
            assert_eq!(class_of(units_of(class)), class, "{units}");
            let waste = units_of(class) - units;
            assert!(waste * 4 <= units, "{units} in {}", units_of(class));
            assert!(class == 0 || units_of(class - 1) < units, "{units}");
        }
        assert_eq!(units_of(class_of(1 << 32)), 1 << 32, "a class is a byte");
    }

    #[test]
    fn a_large_block_gives_its_memory_back() {
        let mut arena = Arena::default();
        let class = class_of(100_000);
        let small = arena.allocate(0).expect("room");
        let before = arena.bytes;
        let block = arena.allocate(class).expect("room");
        arena.units_mut(block, 100_000).fill(7);
        assert!(arena.bytes >= before + 800_000);
        arena.free(block, class);
        assert_eq!(arena.bytes, before);
        let behind = arena.allocate(class_of(5_000)).expect("room");
        assert_ne!(behind, block, "a place serves its own class");
        assert_eq!(arena.allocate(class), Ok(block), "again in its place");
        assert_ne!(small, behind);
    }

    proptest! {
        /// Blocks keep what was written into them, whatever is freed around them.
        #[test]
        fn blocks_do_not_touch(steps in prop::collection::vec((any::<bool>(), 2usize..3_000, any::<u64>()), 1..300)) {
            let mut arena = Arena::default();
            let mut live: Vec<(Ref, SizeClass, u64)> = Vec::new();
            for (free, units, pattern) in steps {
                if free && !live.is_empty() {
                    let index = units % live.len();
                    let (block, class, _) = live.swap_remove(index);
                    arena.free(block, class);
                } else {
                    let class = class_of(if units % 4 == 0 { units } else { 2 + units % 60 });
                    let block = arena.allocate(class).expect("far below 32 GiB");
                    prop_assert_ne!(block, 0);
                    arena.units_mut(block, units_of(class)).fill(pattern);
                    live.push((block, class, pattern));
                }
                for (block, class, pattern) in &live {
                    prop_assert!(arena.units(*block, units_of(*class)).iter().all(|unit| unit == pattern));
                }
            }
        }
    }
}
