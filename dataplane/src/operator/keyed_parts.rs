//! What operators with keyed state have in common: state, timers, the key at hand.
//!
//! Owns: [`Keyed`]. Invariant: state is accessed under the bytes of the record's key, in the key group of its hash.
//! Left out: what is stored (the handles of each operator), and when timers fire.

use crate::limits::KEYS_AHEAD;
use crate::runtime::clock::Clock;
use crate::runtime::context::OpenContext;
use crate::state::backend::{At, KeyedStateBackend};
use crate::state::handles::KeyedAccess;
use crate::state::timers::TimerService;
use crate::state::value::PlainValue;

/// Keyed state and timers of one operator in one subtask.
#[derive(Debug)]
pub(crate) struct Keyed {
    pub(crate) backend: KeyedStateBackend,
    pub(crate) timers: TimerService,
    /// Bytes of the key at hand.
    key: Vec<u8>,
    clock: Clock,
    /// Some state expires, so accesses need to know the time.
    reads_clock: bool,
    /// Hashes of the keys announced last.
    announced: [u32; KEYS_AHEAD],
    announced_count: usize,
}

impl Keyed {
    /// Empty state of the key groups of the context's subtask.
    pub(crate) fn open(context: &OpenContext) -> Self {
        let (index, count) = (context.subtask_index, context.parallelism);
        let max_parallelism = context.max_parallelism;
        Self {
            backend: KeyedStateBackend::new(index, count, max_parallelism),
            timers: TimerService::new(index, count, max_parallelism),
            key: Vec::new(),
            clock: *context.clock,
            reads_clock: false,
            announced: [0; KEYS_AHEAD],
            announced_count: 0,
        }
    }

    /// Has accesses know the time, where state expires. Without, they say it is the epoch, and cost no look at the clock.
    pub(crate) fn read_clock(&mut self, reads_clock: bool) {
        self.reads_clock = reads_clock;
    }

    /// Access to the state of a key without a namespace.
    #[inline]
    pub(crate) fn access<K: PlainValue>(&mut self, key_hash: u32, key: &K) -> KeyedAccess<'_> {
        self.access_in(key_hash, key, &[])
    }

    /// Access to the state of a key in a namespace.
    #[inline]
    pub(crate) fn access_in<'a, K: PlainValue>(
        &'a mut self,
        key_hash: u32,
        key: &K,
        namespace: &'a [u8],
    ) -> KeyedAccess<'a> {
        let now_ms = self.now_ms();
        self.key.clear();
        key.encode(&mut self.key);
        let at = At {
            key_hash,
            key: &self.key,
            namespace,
        };
        KeyedAccess::new(&mut self.backend, at, now_ms)
    }

    /// Has an event-time timer of the key of the last access fire.
    pub(crate) fn register_event_time_timer(
        &mut self,
        key_hash: u32,
        namespace: &[u8],
        timestamp: i64,
    ) -> crate::error::Result<()> {
        let at = At {
            key_hash,
            key: &self.key,
            namespace,
        };
        self.timers.register_event_time_timer(at, timestamp)
    }

    /// Keys of what comes behind the records that were announced last: their slots are fetched now, and the entries of those
    /// announced before, whose slots have come meanwhile.
    pub(crate) fn on_keys_ahead(&mut self, key_hashes: &[u32]) {
        let before = &self.announced[..self.announced_count];
        self.backend.prefetch_entries(before);
        self.backend.prefetch_slots(key_hashes);
        let count = key_hashes.len().min(KEYS_AHEAD);
        self.announced[..count].copy_from_slice(&key_hashes[..count]);
        self.announced_count = count;
    }

    fn now_ms(&self) -> i64 {
        if !self.reads_clock {
            return 0;
        }
        i64::try_from(self.clock.wall_ns() / 1_000_000).unwrap_or(i64::MAX)
    }
}
