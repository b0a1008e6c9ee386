//! Timers of one operator in one subtask, in event time and in processing time.
//!
//! ```text
//!  heap    (time, key group, reference) ...                    what is next
//!  tables  per key group: key, (time, namespace) -> key hash, is it deleted?        what is there
//! ```
//! Owns: [`TimerService`], [`DueTimer`]. Register and pop cost O(log n), delete O(1): a deleted timer is marked, and goes when it
//! would be due, or when more than half of the heap is deleted.
//! Invariant: a timer (time, key, namespace) is there once however often it was registered, and comes out once; timers come out
//! in order of time, then key group, then key, then namespace, so that runs repeat. Each heap entry is one table entry.
//! Left out: calling anybody. A timer registered at or before the current watermark comes out of the next pop, so one that is
//! registered while others are popped fires in the same round, as in Flink.

use std::cmp::Ordering;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::record::EventTime;
use crate::state::arena::Ref;
use crate::state::backend::At;
use crate::state::byte_table::{ByteTable, Changed, hash_in_namespace};
use crate::state::key_groups::OwnedKeyGroups;

/// Bytes of a timer's time, before its namespace.
const TIME_BYTES: usize = 8;

/// Bytes of what is kept of a timer: key hash and mark.
const KEPT_BYTES: usize = 8;

/// A heap with fewer timers is not worth cleaning.
const CLEANED_MIN: usize = 1024;

/// A timer that came out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DueTimer {
    /// When it was for, in milliseconds.
    pub timestamp: i64,
    /// Hash of its key.
    pub key_hash: u32,
    /// Its key.
    pub key: Vec<u8>,
    /// Its namespace.
    pub namespace: Vec<u8>,
}

impl DueTimer {
    /// Whose state goes with it.
    #[must_use]
    pub fn at(&self) -> At<'_> {
        At {
            key_hash: self.key_hash,
            key: &self.key,
            namespace: &self.namespace,
        }
    }
}

/// Which time a timer is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeDomain {
    /// It waits for a watermark.
    EventTime,
    /// It waits for the clock.
    ProcessingTime,
}

/// Timers of one operator in one subtask. Lives: on the subtask's core. Allocates nothing before the first timer.
#[derive(Debug)]
pub struct TimerService {
    event_time: TimerQueue,
    processing_time: TimerQueue,
}

impl TimerService {
    /// Without timers, of subtask `subtask_index` of `parallelism`, with `max_parallelism` key groups in all.
    #[must_use]
    pub fn new(subtask_index: u32, parallelism: u32, max_parallelism: u32) -> Self {
        let key_groups = OwnedKeyGroups::new(subtask_index, parallelism, max_parallelism);
        Self {
            event_time: TimerQueue::new(key_groups.clone()),
            processing_time: TimerQueue::new(key_groups),
        }
    }

    /// All timers, and none is left here.
    #[must_use]
    pub(crate) fn take(&mut self) -> Self {
        let take = |queue: &mut TimerQueue| {
            let fresh = TimerQueue::new(queue.key_groups.clone());
            std::mem::replace(queue, fresh)
        };
        Self {
            event_time: take(&mut self.event_time),
            processing_time: take(&mut self.processing_time),
        }
    }

    /// Has a timer fire when the watermark reaches `timestamp`. Registering it again changes nothing.
    ///
    /// # Errors
    /// The key is of another subtask, or key or namespace (247 bytes) are too long.
    pub fn register_event_time_timer(&mut self, at: At<'_>, timestamp: i64) -> Result<()> {
        self.event_time.register(at, timestamp)
    }

    /// Has a timer fire when the clock reaches `timestamp`, in milliseconds since the epoch. Registering it again changes
    /// nothing.
    ///
    /// # Errors
    /// As [`TimerService::register_event_time_timer`].
    pub fn register_processing_time_timer(&mut self, at: At<'_>, timestamp: i64) -> Result<()> {
        self.processing_time.register(at, timestamp)
    }

    /// Has a timer not fire. One that is not there is none the less.
    ///
    /// # Errors
    /// The key is of another subtask.
    pub fn delete_event_time_timer(&mut self, at: At<'_>, timestamp: i64) -> Result<()> {
        self.event_time.delete(at, timestamp)
    }

    /// Has a timer not fire. One that is not there is none the less.
    ///
    /// # Errors
    /// The key is of another subtask.
    pub fn delete_processing_time_timer(&mut self, at: At<'_>, timestamp: i64) -> Result<()> {
        self.processing_time.delete(at, timestamp)
    }

    /// Takes out the next timer that `watermark` has reached; says whether there was one.
    ///
    /// Shape: `due` is overwritten, so that its memory serves all timers of a round.
    pub fn pop_due_event_time(&mut self, watermark: EventTime, due: &mut DueTimer) -> bool {
        self.event_time.pop_due(watermark.0, due)
    }

    /// Takes out the next timer that the clock has reached; says whether there was one.
    ///
    /// Shape: as [`TimerService::pop_due_event_time`]; `now_ms` in milliseconds since the epoch.
    pub fn pop_due_processing_time(&mut self, now_ms: i64, due: &mut DueTimer) -> bool {
        self.processing_time.pop_due(now_ms, due)
    }

    /// When the clock has to be looked at next, in milliseconds since the epoch.
    pub fn next_processing_time(&mut self) -> Option<i64> {
        self.processing_time.next()
    }

    /// The time of the next event-time timer.
    pub fn next_event_time(&mut self) -> Option<EventTime> {
        self.event_time.next().map(EventTime)
    }

    /// Number of timers.
    #[must_use]
    pub fn len(&self, domain: TimeDomain) -> usize {
        self.queue(domain).live()
    }

    /// There are no timers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.event_time.live() + self.processing_time.live() == 0
    }

    /// Bytes of memory. Cost: a look at every key group.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.event_time.bytes() + self.processing_time.bytes()
    }

    /// The key groups that this subtask owns.
    #[must_use]
    pub fn key_groups(&self) -> Range<u32> {
        self.event_time.key_groups.range()
    }

    /// Calls `visit` with each timer of a key group and its time, in no order.
    ///
    /// # Errors
    /// The key group is not here.
    pub fn for_each_timer(
        &self,
        domain: TimeDomain,
        key_group: u32,
        visit: impl FnMut(At<'_>, i64),
    ) -> Result<()> {
        self.queue(domain).for_each(key_group, visit)
    }

    fn queue(&self, domain: TimeDomain) -> &TimerQueue {
        match domain {
            TimeDomain::EventTime => &self.event_time,
            TimeDomain::ProcessingTime => &self.processing_time,
        }
    }
}

/// What the heap knows of a timer.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    timestamp: i64,
    /// Index among the owned key groups.
    group: u32,
    timer: Ref,
}

/// Timers of one time domain.
#[derive(Debug)]
struct TimerQueue {
    key_groups: OwnedKeyGroups,
    tables: Box<[ByteTable]>,
    /// A binary heap: none comes before its parent at (index - 1) / 2.
    heap: Vec<Waiting>,
    /// How many of them are deleted.
    deleted: usize,
    /// Time and namespace of the timer at hand.
    namespace: Vec<u8>,
}

impl TimerQueue {
    fn new(key_groups: OwnedKeyGroups) -> Self {
        let tables = std::iter::repeat_with(ByteTable::default).take(key_groups.count());
        Self {
            tables: tables.collect(),
            key_groups,
            heap: Vec::new(),
            deleted: 0,
            namespace: Vec::new(),
        }
    }

    fn live(&self) -> usize {
        self.heap.len() - self.deleted
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.tables)
            + self.tables.iter().map(ByteTable::bytes).sum::<usize>()
            + self.heap.capacity() * size_of::<Waiting>()
            + self.namespace.capacity()
    }

    #[allow(clippy::cast_possible_truncation, reason = "key groups are u32")]
    fn register(&mut self, at: At<'_>, timestamp: i64) -> Result<()> {
        let group = self.key_groups.index(at.key_hash)?;
        let hash = self.address(at, timestamp);
        let table = &mut self.tables[group];
        if let Some(kept) = table.get_mut(hash, at.key, &self.namespace) {
            let kept = Kept::of(kept);
            if kept.is_deleted() {
                kept.set_deleted(false);
                self.deleted -= 1;
            }
            return Ok(());
        }
        let kept = Kept::fresh(at.key_hash);
        let put = table.put(hash, at.key, &self.namespace, &kept);
        match put.map_err(|problem| Error::operator(format!("a timer: {problem}")))? {
            Changed::Put { now, .. } => self.push(Waiting {
                timestamp,
                group: group as u32,
                timer: now,
            }),
            Changed::Kept | Changed::Removed => {}
        }
        Ok(())
    }

    fn delete(&mut self, at: At<'_>, timestamp: i64) -> Result<()> {
        let group = self.key_groups.index(at.key_hash)?;
        let hash = self.address(at, timestamp);
        if let Some(kept) = self.tables[group].get_mut(hash, at.key, &self.namespace) {
            let kept = Kept::of(kept);
            if !kept.is_deleted() {
                kept.set_deleted(true);
                self.deleted += 1;
            }
        }
        if self.heap.len() >= CLEANED_MIN && self.deleted > self.heap.len() / 2 {
            self.clean();
        }
        Ok(())
    }

    fn pop_due(&mut self, until: i64, due: &mut DueTimer) -> bool {
        while let Some(first) = self.heap.first().copied() {
            if first.timestamp > until {
                return false;
            }
            self.pop();
            let table = &mut self.tables[first.group as usize];
            let kept = *Kept::of(table.value_mut(first.timer));
            let (key, namespace) = table.address(first.timer);
            let hash = hash_in_namespace(kept.key_hash(), namespace);
            if !kept.is_deleted() {
                due.timestamp = first.timestamp;
                due.key_hash = kept.key_hash();
                due.key.clear();
                due.key.extend_from_slice(key);
                due.namespace.clear();
                due.namespace.extend_from_slice(&namespace[TIME_BYTES..]);
            }
            table.remove_entry(hash, first.timer);
            if !kept.is_deleted() {
                return true;
            }
            self.deleted -= 1;
        }
        false
    }

    /// The time of the first timer that is not deleted.
    fn next(&mut self) -> Option<i64> {
        loop {
            let first = *self.heap.first()?;
            if !self.is_deleted(first) {
                return Some(first.timestamp);
            }
            self.pop();
            self.forget(first);
        }
    }

    fn for_each(&self, key_group: u32, mut visit: impl FnMut(At<'_>, i64)) -> Result<()> {
        let Some(group) = self.key_groups.position(key_group) else {
            let owned = self.key_groups.range();
            return Err(Error::operator(format!(
                "key group {key_group} is not among this subtask's {owned:?}"
            )));
        };
        let table = &self.tables[group];
        for (_, timer) in table.iter() {
            let kept = Kept::read(table.value(timer));
            let (key, namespace) = table.address(timer);
            if let (false, Some((time, namespace))) =
                (kept.is_deleted(), namespace.split_first_chunk())
            {
                let at = At {
                    key_hash: kept.key_hash(),
                    key,
                    namespace,
                };
                visit(at, i64::from_le_bytes(*time));
            }
        }
        Ok(())
    }

    /// Writes the namespace that a timer has in its table, and gives the hash it has there.
    fn address(&mut self, at: At<'_>, timestamp: i64) -> u32 {
        self.namespace.clear();
        self.namespace.extend_from_slice(&timestamp.to_le_bytes());
        self.namespace.extend_from_slice(at.namespace);
        hash_in_namespace(at.key_hash, &self.namespace)
    }

    fn is_deleted(&self, waiting: Waiting) -> bool {
        let table = &self.tables[waiting.group as usize];
        Kept::read(table.value(waiting.timer)).is_deleted()
    }

    /// Takes a deleted timer out of its table.
    fn forget(&mut self, waiting: Waiting) {
        let table = &mut self.tables[waiting.group as usize];
        let key_hash = Kept::read(table.value(waiting.timer)).key_hash();
        let (_, namespace) = table.address(waiting.timer);
        let hash = hash_in_namespace(key_hash, namespace);
        table.remove_entry(hash, waiting.timer);
        self.deleted -= 1;
    }

    /// Takes all deleted timers out. Cost: O(n), after n / 2 deletions.
    #[cold]
    fn clean(&mut self) {
        let mut heap = std::mem::take(&mut self.heap);
        heap.retain(|waiting| {
            let deleted = self.is_deleted(*waiting);
            if deleted {
                self.forget(*waiting);
            }
            !deleted
        });
        heap.shrink_to(2 * heap.len());
        self.heap = heap;
        for index in (0..self.heap.len() / 2).rev() {
            self.sift_down(index);
        }
    }

    fn push(&mut self, waiting: Waiting) {
        self.heap.push(waiting);
        let mut index = self.heap.len() - 1;
        while index > 0 {
            let parent = (index - 1) / 2;
            if self.order(self.heap[parent], self.heap[index]) != Ordering::Greater {
                break;
            }
            self.heap.swap(parent, index);
            index = parent;
        }
    }

    /// Takes the first one off the heap.
    fn pop(&mut self) {
        self.heap.swap_remove(0);
        self.sift_down(0);
    }

    fn sift_down(&mut self, mut index: usize) {
        loop {
            let (left, right) = (2 * index + 1, 2 * index + 2);
            let Some(mut child) = self.heap.get(left).map(|_| left) else {
                return;
            };
            if right < self.heap.len()
                && self.order(self.heap[right], self.heap[left]) == Ordering::Less
            {
                child = right;
            }
            if self.order(self.heap[index], self.heap[child]) != Ordering::Greater {
                return;
            }
            self.heap.swap(index, child);
            index = child;
        }
    }

    /// By time, then by key group, key and namespace.
    #[inline]
    fn order(&self, left: Waiting, right: Waiting) -> Ordering {
        let quick = (left.timestamp, left.group).cmp(&(right.timestamp, right.group));
        quick.then_with(|| {
            let table = &self.tables[left.group as usize];
            table.address(left.timer).cmp(&table.address(right.timer))
        })
    }
}

/// What is kept of a timer: key hash (4 bytes), mark (1), 0 (3).
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
struct Kept([u8; KEPT_BYTES]);

impl Kept {
    const MARK: usize = 4;

    fn fresh(key_hash: u32) -> [u8; KEPT_BYTES] {
        let mut bytes = [0; KEPT_BYTES];
        bytes[..Self::MARK].copy_from_slice(&key_hash.to_le_bytes());
        bytes
    }

    fn of(value: &mut [u8]) -> &mut Self {
        bytemuck::from_bytes_mut(value)
    }

    fn read(value: &[u8]) -> Self {
        *bytemuck::from_bytes(value)
    }

    fn key_hash(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_le_bytes([a, b, c, d])
    }

    fn is_deleted(self) -> bool {
        self.0[Self::MARK] != 0
    }

    fn set_deleted(&mut self, deleted: bool) {
        self.0[Self::MARK] = u8::from(deleted);
    }
}

#[cfg(test)]
mod tests;
