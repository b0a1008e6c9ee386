//! A subtask's output over one edge: one subpartition per consumer.
//!
//! Owns: [`ResultPartition`]. A record is copied once, into the open buffer of the subpartition that its partitioner
//! chose; a full buffer goes on its road, a partly filled one when the subtask runs out of input or, where the job has a
//! buffer timeout, when that has passed.
//! Invariant: a subpartition has at most one open buffer; filled buffers that its road does not take wait here in order and
//! make the partition blocked, and a blocked partition's producer starts no new record. So what waits here is bounded by
//! the output of one record or signal.
//! Left out: roads ([`crate::exchange::channel`]).

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::rc::Rc;

use crate::batch::{Buffer, BufferPool, Run};
use crate::element::Control;
use crate::error::{Error, Result};
use crate::exchange::channel::ChannelSender;
use crate::exchange::partitioner::{Partitioner, Target};
use crate::limits::RECORD_BYTES_MAX;
use crate::metrics::{SubtaskMetrics, add};
use crate::record::RecordRef;

/// How a subtask stands when it offers its partly filled buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// There may be more input at once.
    Busy,
    /// It has run out of input.
    Idle,
    /// No more input comes: nothing waits for company any more.
    End,
}

#[derive(Debug)]
struct Subpartition {
    open: Option<Buffer>,
    /// Turns that have ended since `open` got its first record.
    turns: u32,
    /// When the job's buffer timeout has passed for `open`; noted at the first flush that finds something in it.
    due_ns: Option<u64>,
    /// Filled buffers that the road did not take yet.
    waiting: VecDeque<Buffer>,
    road: ChannelSender,
    /// Who is at the other end, for messages.
    peer: String,
}

impl Subpartition {
    /// Something is in the open buffer.
    fn has_open(&self) -> bool {
        self.open.as_ref().is_some_and(|buffer| !buffer.is_empty())
    }

    /// Its road takes a buffer now. A consumer that is busy gets a partly filled one only from a producer that is not.
    fn takes(&self, flush: Flush) -> bool {
        self.waiting.is_empty()
            && match flush {
                Flush::Busy => self.road.is_drained(),
                Flush::Idle | Flush::End => self.road.has_room(),
            }
    }
}

/// One subtask's output over one edge.
#[allow(missing_debug_implementations, reason = "holds a key selector")]
pub struct ResultPartition {
    partitioner: Partitioner,
    subpartitions: Vec<Subpartition>,
    /// Subpartitions with waiting buffers.
    blocked: usize,
    /// Some open buffer is not empty.
    unflushed: bool,
    /// How long a partly filled buffer may wait for more; without it, until the subtask runs out of input.
    buffer_timeout_ns: Option<NonZeroU64>,
    /// When the next of the open buffers is due.
    flush_at_ns: Option<u64>,
    /// Key hashes of a run.
    hashes: Vec<u32>,
    pool: BufferPool,
    metrics: Rc<SubtaskMetrics>,
}

impl ResultPartition {
    /// A partition over `roads`, each with the name of its peer TaskManager. `buffer_timeout_ns`: how long a partly filled
    /// buffer is kept for more, from the turn in which something was first written into it; `None`: see [`Flush::Idle`].
    #[must_use]
    pub fn new(
        partitioner: Partitioner,
        roads: Vec<(ChannelSender, String)>,
        buffer_timeout_ns: Option<NonZeroU64>,
        pool: BufferPool,
        metrics: Rc<SubtaskMetrics>,
    ) -> Self {
        let subpartition = |(road, peer)| Subpartition {
            open: None,
            turns: 0,
            due_ns: None,
            waiting: VecDeque::new(),
            road,
            peer,
        };
        Self {
            partitioner,
            subpartitions: roads.into_iter().map(subpartition).collect(),
            blocked: 0,
            unflushed: false,
            buffer_timeout_ns,
            flush_at_ns: None,
            hashes: Vec::new(),
            pool,
            metrics,
        }
    }

    /// Writes one record. Never blocks: look at [`ResultPartition::is_blocked`] before the next input.
    ///
    /// # Errors
    /// The record is larger than [`RECORD_BYTES_MAX`]: the operator that made it is at fault.
    #[inline]
    pub fn push(&mut self, record: &RecordRef<'_>) -> Result<()> {
        if record.bytes.len() > RECORD_BYTES_MAX {
            return Err(oversized(record.bytes.len()));
        }
        match self.partitioner.select(record, self.subpartitions.len()) {
            Target::One(channel, key_hash) => self.push_to(channel, record, key_hash),
            Target::All => {
                for channel in 0..self.subpartitions.len() {
                    self.push_to(channel, record, record.key_hash);
                }
            }
            Target::Wrong(channel) => return Err(no_channel(channel, self.subpartitions.len())),
        }
        add(&self.metrics.records_out, 1);
        Ok(())
    }

    /// Writes the records of a run.
    ///
    /// # Errors
    /// As [`ResultPartition::push`].
    pub fn push_run(&mut self, run: &Run<'_>) -> Result<()> {
        let mut hashes = std::mem::take(&mut self.hashes);
        if run.size() > RECORD_BYTES_MAX || !self.partitioner.hash_run(run, &mut hashes) {
            self.hashes = hashes;
            return run.records().try_for_each(|record| self.push(&record));
        }
        let alone = self.subpartitions.len() == 1;
        for (record, hash) in run.records().zip(&hashes) {
            let channel = if alone {
                0
            } else {
                self.partitioner.owner(*hash)
            };
            self.push_to(channel, &record, *hash);
        }
        add(&self.metrics.records_out, run.len() as u64);
        self.hashes = hashes;
        Ok(())
    }

    #[inline(always)]
    fn push_to(&mut self, channel: usize, record: &RecordRef<'_>, key_hash: u32) {
        self.unflushed = true;
        let subpartition = &mut self.subpartitions[channel];
        if let Some(open) = &mut subpartition.open
            && open.push_record(record, key_hash)
        {
            return;
        }
        self.close_buffer(channel);
        let mut fresh = self
            .pool
            .take_or_heap(Buffer::record_bytes(record.bytes.len()));
        let fits = fresh.push_record(record, key_hash);
        debug_assert!(fits, "the buffer was made for this record");
        self.subpartitions[channel].open = Some(fresh);
    }

    /// Writes a control element to every subpartition, behind all records written so far.
    pub fn push_control(&mut self, control: Control) {
        for channel in 0..self.subpartitions.len() {
            let subpartition = &mut self.subpartitions[channel];
            if let Some(open) = &mut subpartition.open
                && open.push_control(control)
            {
                continue;
            }
            // A blocked road keeps only the newest watermark of those that would follow each other at its end.
            self.close_buffer(channel);
            let mut fresh = self.pool.take_or_heap(Buffer::CAPACITY);
            let fits = fresh.push_control(control);
            debug_assert!(fits, "a fresh buffer has room");
            self.subpartitions[channel].open = Some(fresh);
        }
        self.unflushed = true;
    }

    fn close_buffer(&mut self, channel: usize) {
        let subpartition = &mut self.subpartitions[channel];
        subpartition.turns = 0;
        subpartition.due_ns = None;
        let Some(buffer) = subpartition.open.take().filter(|buffer| !buffer.is_empty()) else {
            return;
        };
        add(&self.metrics.bytes_out, buffer.bytes() as u64);
        add(&self.metrics.bytes_copied, buffer.bytes() as u64);
        add(&self.metrics.buffers_out, 1);
        let was_waiting = !subpartition.waiting.is_empty();
        let back = if was_waiting {
            Some(buffer)
        } else {
            subpartition.road.send(buffer).err()
        };
        if let Some(buffer) = back {
            subpartition.waiting.push_back(buffer);
            self.blocked += usize::from(!was_waiting);
        }
    }

    /// Some road is full: start no new record.
    #[inline]
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.blocked > 0
    }

    /// Sends what waited, as far as the roads take it. True if anything moved.
    pub fn pump(&mut self) -> bool {
        if self.blocked == 0 {
            return false;
        }
        let mut moved = false;
        for subpartition in &mut self.subpartitions {
            while let Some(buffer) = subpartition.waiting.pop_front() {
                if let Err(back) = subpartition.road.send(buffer) {
                    subpartition.waiting.push_front(back);
                    break;
                }
                moved = true;
                self.blocked -= usize::from(subpartition.waiting.is_empty());
            }
        }
        moved
    }

    /// Sends partly filled buffers: to every consumer when the subtask has run out of input, else only to those
    /// that have nothing else to do and whose buffer did not fill within a turn, so that batches grow only where somebody is
    /// busy, and rare records do not wait for company. With a buffer timeout, those that are due instead, whoever is busy.
    /// A full road keeps its buffer. `now_ns` is the turn's monotonic time. True if anything left.
    pub fn flush(&mut self, flush: Flush, now_ns: u64) -> bool {
        self.flush_at_ns = None;
        if !self.unflushed {
            return false;
        }
        let (mut sent, mut left) = (false, false);
        for channel in 0..self.subpartitions.len() {
            let subpartition = &mut self.subpartitions[channel];
            if !subpartition.has_open() {
                continue;
            }
            let goes = match self.buffer_timeout_ns {
                Some(timeout_ns) if flush != Flush::End => {
                    let due_ns = *subpartition
                        .due_ns
                        .get_or_insert(now_ns.saturating_add(timeout_ns.get()));
                    if now_ns < due_ns {
                        let at_ns = self.flush_at_ns.get_or_insert(due_ns);
                        *at_ns = due_ns.min(*at_ns);
                    }
                    now_ns >= due_ns && subpartition.takes(Flush::Idle)
                }
                // One that the next turn will fill is worth waiting for while there is work.
                _ => (flush != Flush::Busy || subpartition.turns > 0) && subpartition.takes(flush),
            };
            if goes {
                self.close_buffer(channel);
                sent = true;
            } else {
                subpartition.turns = subpartition.turns.saturating_add(1);
                left = true;
            }
        }
        self.unflushed = left;
        sent
    }

    /// When the buffer timeout of the next open buffer passes, as the last [`ResultPartition::flush`] saw it. A buffer that
    /// is due and whose road is full waits for room, not for a time.
    #[inline]
    #[must_use]
    pub fn flush_at_ns(&self) -> Option<u64> {
        self.flush_at_ns
    }

    /// The next [`ResultPartition::pump`] or [`ResultPartition::flush`] would move something.
    #[must_use]
    pub fn can_move(&self, flush: Flush, now_ns: u64) -> bool {
        self.subpartitions.iter().any(|subpartition| {
            let goes = || match self.buffer_timeout_ns {
                Some(_) if flush != Flush::End => {
                    let due = subpartition.due_ns.is_none_or(|due_ns| now_ns >= due_ns);
                    due && subpartition.takes(Flush::Idle)
                }
                _ => subpartition.takes(flush),
            };
            (!subpartition.waiting.is_empty() && subpartition.road.has_room())
                || (subpartition.has_open() && goes())
        })
    }

    /// Everything written has been handed over: the producer may end.
    #[must_use]
    pub fn is_handed_over(&self) -> bool {
        !self.unflushed
            && self.blocked == 0
            && self.subpartitions.iter().all(|s| s.road.is_handed_over())
    }

    /// Fails when a road has ended under the producer.
    ///
    /// # Errors
    /// [`Error::peer_lost`] naming the TaskManager.
    pub fn check(&self) -> Result<()> {
        for subpartition in &self.subpartitions {
            if let Some(why) = subpartition.road.broken() {
                return Err(Error::peer_lost(&subpartition.peer, why.as_ref()));
            }
        }
        Ok(())
    }
}

#[cold]
fn no_channel(channel: usize, channels: usize) -> Error {
    Error::operator(format!(
        "the partitioner of `partition_custom` chose subtask {channel} of {channels}: it must return less than the number \
         it is given"
    ))
}

#[cold]
fn oversized(bytes: usize) -> Error {
    Error::operator(format!(
        "a record of {bytes} bytes is too large to leave the subtask: the limit is {RECORD_BYTES_MAX}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::layout;
    use crate::element::{Element, StopMode, Watermark};
    use crate::exchange::local::LocalQueue;
    use crate::limits::{BUFFER_BYTES, CHANNEL_BUFFERS};
    use crate::record::{EventTime, RowKind};

    fn partition() -> (ResultPartition, LocalQueue) {
        partition_with(None)
    }

    fn partition_with(buffer_timeout_ns: Option<u64>) -> (ResultPartition, LocalQueue) {
        let queue = LocalQueue::new(CHANNEL_BUFFERS);
        let roads = vec![(ChannelSender::Local(queue.clone()), "here".to_owned())];
        let metrics = Rc::new(SubtaskMetrics::default());
        (
            ResultPartition::new(
                Partitioner::Single,
                roads,
                buffer_timeout_ns.and_then(NonZeroU64::new),
                BufferPool::new(64),
                metrics,
            ),
            queue,
        )
    }

    fn record(bytes: &[u8]) -> RecordRef<'_> {
        RecordRef {
            bytes,
            timestamp: EventTime(1),
            key_hash: 0,
            kind: RowKind::Insert,
            origin_ns: 0,
        }
    }

    #[test]
    fn a_full_road_blocks_and_loses_nothing() {
        let (mut partition, queue) = partition();
        let payload = [7u8; BUFFER_BYTES - 128];
        let mut written = 0;
        while !partition.is_blocked() {
            partition.push(&record(&payload)).expect("small enough");
            written += 1;
        }
        assert_eq!(
            written,
            CHANNEL_BUFFERS + 2,
            "a full queue, one waiting, one open"
        );
        partition.push_control(Control::EndOfInput(StopMode::Drain));
        let (mut records, mut ended) = (0, false);
        while !partition.is_handed_over() || !queue.is_empty() {
            partition.flush(Flush::End, 0);
            partition.pump();
            while let Some(buffer) = queue.pop() {
                let mut offset = 0;
                while let Some(element) = layout::next_element(buffer.as_slice(), &mut offset) {
                    assert!(!ended);
                    match element {
                        Element::Record(read) => records += usize::from(read.bytes == payload),
                        Element::Control(control) => {
                            ended = control == Control::EndOfInput(StopMode::Drain)
                        }
                    }
                }
            }
        }
        assert_eq!((records, ended), (written, true));
    }

    #[test]
    fn an_oversized_record_travels_alone() {
        let (mut partition, queue) = partition();
        partition.push(&record(b"small")).expect("small enough");
        partition
            .push(&record(&vec![1u8; 3 * BUFFER_BYTES]))
            .expect("small enough");
        let error = partition
            .push(&record(&vec![1u8; RECORD_BYTES_MAX + 1]))
            .expect_err("too large")
            .to_string();
        assert!(error.contains(&RECORD_BYTES_MAX.to_string()), "{error}");
        let watermark = Control::Watermark {
            watermark: Watermark::At(EventTime(7)),
            origin_ns: 0,
        };
        partition.push_control(watermark);
        partition.flush(Flush::Idle, 0);
        let sizes: Vec<usize> = std::iter::from_fn(|| queue.pop())
            .map(|buffer| buffer.bytes())
            .collect();
        assert_eq!(sizes.len(), 3);
        assert_eq!(sizes[1], 8 + 8 + 3 * BUFFER_BYTES, "head, time, payload");
    }

    fn write(partition: &mut ResultPartition, bytes: &[u8]) {
        partition.push(&record(bytes)).expect("small enough");
    }

    #[test]
    fn a_partly_filled_buffer_is_kept_until_its_timeout_and_no_longer() {
        let (mut partition, queue) = partition_with(Some(100));
        write(&mut partition, b"first");
        assert!(!partition.flush(Flush::Idle, 1_000));
        assert_eq!(partition.flush_at_ns(), Some(1_100));
        write(&mut partition, b"second");
        // The time counts from the first record, whether the subtask is busy or not.
        for (flush, now_ns) in [(Flush::Busy, 1_040), (Flush::Idle, 1_099)] {
            assert!(!partition.can_move(flush, now_ns));
            assert!(!partition.flush(flush, now_ns) && queue.is_empty());
            assert_eq!(partition.flush_at_ns(), Some(1_100));
        }
        assert!(partition.can_move(Flush::Idle, 1_100));
        assert!(partition.flush(Flush::Idle, 1_100));
        let both = queue.pop().expect("due");
        assert_eq!((both.records(), partition.flush_at_ns()), (2, None));
        assert!(!partition.can_move(Flush::Idle, 1_100) && partition.is_handed_over());

        // The next buffer has a time of its own; a busy subtask sends it as well, though its consumer has work.
        write(&mut partition, b"third");
        assert!(!partition.flush(Flush::Busy, 1_250));
        queue.push(both).expect("room");
        assert!(partition.can_move(Flush::Busy, 1_350) && partition.flush(Flush::Busy, 1_350));
    }

    #[test]
    fn the_end_of_input_waits_for_no_timeout() {
        let (mut partition, queue) = partition_with(Some(u64::MAX));
        write(&mut partition, b"last");
        assert!(!partition.flush(Flush::Idle, 7));
        partition.push_control(Control::EndOfInput(StopMode::Drain));
        assert!(partition.can_move(Flush::End, 7) && partition.flush(Flush::End, 7));
        assert!(queue.pop().is_some_and(|buffer| buffer.records() == 1));
        assert!(partition.is_handed_over() && partition.flush_at_ns().is_none());
    }

    #[test]
    fn a_buffer_that_is_due_waits_for_room_and_not_for_a_time() {
        let (mut partition, queue) = partition_with(Some(100));
        let other = || Buffer::on_heap(64);
        while queue.push(other()).is_ok() {}
        write(&mut partition, b"due");
        partition.flush(Flush::Idle, 0);
        assert_eq!(partition.flush_at_ns(), Some(100));
        assert!(!partition.flush(Flush::Idle, 100) && !partition.can_move(Flush::Idle, 100));
        // A time in the past would keep its core from sleeping.
        assert_eq!(partition.flush_at_ns(), None);
        drop(queue.pop());
        assert!(partition.can_move(Flush::Idle, 101) && partition.flush(Flush::Idle, 101));
    }

    #[test]
    fn without_a_timeout_a_partly_filled_buffer_leaves_when_input_runs_out() {
        let (mut partition, queue) = partition();
        write(&mut partition, b"first");
        assert!(
            !partition.flush(Flush::Busy, 0),
            "a busy turn keeps it once"
        );
        assert!(partition.flush(Flush::Idle, 0) && partition.flush_at_ns().is_none());
        assert!(queue.pop().is_some());
    }
}
