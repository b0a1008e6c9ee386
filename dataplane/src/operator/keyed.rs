//! What every operator on a keyed stream has: state, timers, and the key of the record at hand.
//!
//! Owns: [`Keyed`], [`Firing`] (timers that are being fired). Invariant: state and timers are reached through the key of the
//! record or timer at hand only; while timers are being fired nothing else happens to the operator.
//! Left out: what to do with a record or timer.

use crate::error::Result;
use crate::limits::KEYS_AHEAD;
use crate::operator::Progress;
use crate::operator::chain::Output;
use crate::record::EventTime;
use crate::runtime::clock::{Clock, NS_PER_MS};
use crate::runtime::context::OpenContext;
use crate::state::backend::{At, KeyedStateBackend};
use crate::state::handles::KeyedAccess;
use crate::state::timers::{DueTimer, TimeDomain, TimerService};
use crate::state::value::PlainValue;

/// State and timers of one operator in one subtask.
#[derive(Debug)]
pub struct Keyed {
    /// State by key.
    pub backend: KeyedStateBackend,
    /// Timers by key.
    pub timers: TimerService,
    clock: Clock,
    /// The key at hand.
    key: Vec<u8>,
    /// Some state expires, so accesses need the time.
    expires: bool,
    /// Hashes of the keys announced last.
    announced: [u32; KEYS_AHEAD],
    announced_count: usize,
}

impl Keyed {
    /// Without state and timers, which are kept in memory wherever state is.
    ///
    /// # Errors
    /// There is too little memory for one more operator with state on disk.
    pub fn open(context: &OpenContext) -> Result<Self> {
        let OpenContext {
            subtask_index,
            parallelism,
            max_parallelism,
            ref state,
            ..
        } = *context;
        Ok(Self {
            backend: KeyedStateBackend::open(state, subtask_index, parallelism, max_parallelism)?,
            timers: TimerService::new(subtask_index, parallelism, max_parallelism),
            clock: *context.clock,
            key: Vec::new(),
            expires: false,
            announced: [0; KEYS_AHEAD],
            announced_count: 0,
        })
    }

    /// All states are registered.
    pub fn registered(&mut self) {
        self.expires = self.backend.stores().any(|(_, store)| store.expires());
    }

    /// Has accesses know the time, where state expires: for those who know without asking the stores.
    pub fn read_clock(&mut self, reads: bool) {
        self.expires = reads;
    }

    /// Bytes of memory of state and timers. Cost: a look at every table.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.backend.bytes() + self.timers.bytes()
    }

    /// Processing time, in milliseconds since the epoch. Cost: a reading of the clock.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        processing_time(&self.clock)
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Access to the state of `key`, and the timers beside it.
    #[inline]
    pub fn of<K: PlainValue>(
        &mut self,
        key_hash: u32,
        key: &K,
    ) -> (KeyedAccess<'_>, &mut TimerService) {
        let now_ms = self.access_ms();
        self.key.clear();
        key.encode(&mut self.key);
        let at = At {
            key_hash,
            key: &self.key,
            namespace: &[],
        };
        (
            KeyedAccess::new(&mut self.backend, at, now_ms),
            &mut self.timers,
        )
    }

    /// Access to the state of `key`.
    #[inline]
    pub fn access<K: PlainValue>(&mut self, key_hash: u32, key: &K) -> KeyedAccess<'_> {
        self.of(key_hash, key).0
    }

    /// Access to the state of `key` in a namespace.
    #[inline]
    pub fn access_in<'a, K: PlainValue>(
        &'a mut self,
        key_hash: u32,
        key: &K,
        namespace: &'a [u8],
    ) -> KeyedAccess<'a> {
        let now_ms = self.access_ms();
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
    ///
    /// # Errors
    /// The key group's memory is full.
    pub fn register_event_time_timer(
        &mut self,
        key_hash: u32,
        namespace: &[u8],
        timestamp: i64,
    ) -> Result<()> {
        let at = At {
            key_hash,
            key: &self.key,
            namespace,
        };
        self.timers.register_event_time_timer(at, timestamp)
    }

    /// Keys of what comes behind the records that were announced last: their slots are fetched now, and the entries of those
    /// announced before, whose slots have come meanwhile.
    pub fn on_keys_ahead(&mut self, key_hashes: &[u32]) {
        let before = &self.announced[..self.announced_count];
        self.backend.prefetch_entries(before);
        self.backend.prefetch_slots(key_hashes);
        let count = key_hashes.len().min(KEYS_AHEAD);
        self.announced[..count].copy_from_slice(&key_hashes[..count]);
        self.announced_count = count;
    }

    /// Processing time for an access; without state that expires it says the epoch, and costs no look at the clock.
    #[inline]
    fn access_ms(&self) -> i64 {
        if self.expires {
            processing_time(&self.clock)
        } else {
            0
        }
    }

    /// Access to the state that a timer goes with, and the timers beside it.
    pub fn of_timer<'a>(
        &'a mut self,
        due: &'a DueTimer,
    ) -> (KeyedAccess<'a>, &'a mut TimerService) {
        let now_ms = self.access_ms();
        let access = KeyedAccess::new(&mut self.backend, due.at(), now_ms);
        (access, &mut self.timers)
    }
}

/// Milliseconds since the epoch.
pub(crate) fn processing_time(clock: &Clock) -> i64 {
    i64::try_from(clock.wall_ns() / NS_PER_MS).unwrap_or(i64::MAX)
}

/// Timers that are being fired, up to a time, while their output takes what they make.
#[derive(Debug, Default)]
pub struct Firing {
    /// Time domain, how far, and the origin of what made them due.
    upto: Option<(TimeDomain, i64, u64)>,
    due: DueTimer,
}

impl Firing {
    /// Begins with all timers of `domain` that are due at `upto`.
    pub fn begin(&mut self, domain: TimeDomain, upto: i64, origin_ns: u64) {
        self.upto = Some((domain, upto, origin_ns));
    }

    /// Fires timers in order until none is due or the output is full.
    ///
    /// Shape: `fire` gets the timer, its time domain, and the origin for what it emits.
    ///
    /// # Errors
    /// `fire` failed.
    pub fn go_on(
        &mut self,
        keyed: &mut Keyed,
        output: &mut Output,
        mut fire: impl FnMut(&mut Keyed, &DueTimer, TimeDomain, u64, &mut Output) -> Result<()>,
    ) -> Result<Progress> {
        let Some((domain, upto, origin_ns)) = self.upto else {
            return Ok(Progress::Done);
        };
        loop {
            if output.is_blocked() {
                return Ok(Progress::Blocked);
            }
            let due = match domain {
                TimeDomain::EventTime => keyed
                    .timers
                    .pop_due_event_time(EventTime(upto), &mut self.due),
                TimeDomain::ProcessingTime => {
                    keyed.timers.pop_due_processing_time(upto, &mut self.due)
                }
            };
            if !due {
                self.upto = None;
                return Ok(Progress::Done);
            }
            fire(keyed, &self.due, domain, origin_ns, output)?;
        }
    }
}
