//! Hand-off through the engine's own channels inside a process: a buffer with one record, to and fro.
//!
//! Owns: [`cross_core`], [`same_core`]. The only file of the bench that knows the data plane's exchange.
//! Invariant: each hop takes a buffer from a pool, writes a record, sends, receives, and reads the record back: what a
//! subtask does for a lone record.
//! Left out: the poller around it; whole jobs are measured beside this.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use hdrhistogram::Histogram;
use ringflow_dataplane::batch::BufferPool;
use ringflow_dataplane::element::Element;
use ringflow_dataplane::exchange::channel::{ChannelReceiver, ChannelSender};
use ringflow_dataplane::exchange::local::LocalQueue;
use ringflow_dataplane::exchange::ring::ring;
use ringflow_dataplane::limits::CHANNEL_BUFFERS;
use ringflow_dataplane::record::{EventTime, RecordRef, RowKind};
use ringflow_dataplane::runtime::clock::Clock;
use ringflow_dataplane::runtime::doorbell::Doorbell;

use super::cpus::{Cpus, Stop, on_cpu, on_two_cpus};
use super::figures::nanoseconds;
use super::floor::hand_off::BATCH;

/// Asks the other side to end.
const END: u64 = u64::MAX;

/// One side's ends of two channels.
struct Side {
    pool: BufferPool,
    sender: ChannelSender,
    receiver: ChannelReceiver,
}

impl Side {
    fn send(&mut self, word: u64, stop: &Stop<'_>) -> crate::Result<()> {
        let mut buffer = self
            .pool
            .take()
            .context("the pool holds more buffers than the channel")?;
        let payload = [word, 0, 0];
        let record = RecordRef {
            bytes: bytemuck::bytes_of(&payload),
            timestamp: EventTime(0),
            key_hash: 0,
            kind: RowKind::Insert,
            origin_ns: 0,
        };
        if !buffer.push_record(&record, 0) {
            return Err(anyhow!("a record of 24 bytes fits a buffer"));
        }
        while let Err(back) = self.sender.send(buffer) {
            stop.check()?;
            buffer = back;
        }
        Ok(())
    }

    /// Spins until a record comes.
    fn receive(&mut self, stop: &Stop<'_>) -> crate::Result<u64> {
        loop {
            if let Some(buffer) = self.receiver.receive()
                && let Some(Element::Record(record)) = buffer.next_element(&mut 0)
                && let Some(word) = record.bytes.first_chunk()
            {
                return Ok(u64::from_ne_bytes(*word));
            }
            stop.check()?;
            std::hint::spin_loop();
        }
    }
}

/// Between the two data CPUs, both spinning, for `duration_ns`; half the round trips in nanoseconds.
///
/// # Errors
/// No thread or file descriptor, or interrupted.
pub fn cross_core(cpus: &Cpus, duration_ns: u64, stop: &Stop<'_>) -> crate::Result<Histogram<u64>> {
    let (there, here) = (ring(CHANNEL_BUFFERS), ring(CHANNEL_BUFFERS));
    let bells = [Arc::new(Doorbell::new()?), Arc::new(Doorbell::new()?)];
    let bell = Arc::clone(&bells[1]);
    let ping = move || {
        let mut side = Side {
            pool: BufferPool::new(2 * CHANNEL_BUFFERS),
            sender: ChannelSender::CrossCore(there.0, Arc::clone(&bell)),
            receiver: ChannelReceiver::CrossCore(here.1, bell),
        };
        let clock = Clock::system();
        let mut times = nanoseconds();
        let start_ns = clock.now_ns();
        let mut last_ns = start_ns;
        while last_ns - start_ns < duration_ns {
            side.send(last_ns, stop)?;
            side.receive(stop)?;
            let now_ns = clock.now_ns();
            times.saturating_record(((now_ns - last_ns) / 2).max(1));
            last_ns = now_ns;
        }
        side.send(END, stop)?;
        Ok(times)
    };
    let bell = Arc::clone(&bells[0]);
    let pong = move || {
        let mut side = Side {
            pool: BufferPool::new(2 * CHANNEL_BUFFERS),
            sender: ChannelSender::CrossCore(here.0, Arc::clone(&bell)),
            receiver: ChannelReceiver::CrossCore(there.1, bell),
        };
        loop {
            match side.receive(stop)? {
                END => return Ok(()),
                word => side.send(word, stop)?,
            }
        }
    };
    on_two_cpus(cpus.data, stop, ping, pong).map(|(times, ())| times)
}

/// Between two subtasks of one core, for `duration_ns`; nanoseconds, averaged over [`BATCH`].
///
/// # Errors
/// No thread, or interrupted.
pub fn same_core(cpus: &Cpus, duration_ns: u64, stop: &Stop<'_>) -> crate::Result<Histogram<u64>> {
    let work = || {
        let queue = LocalQueue::new(CHANNEL_BUFFERS);
        let mut side = Side {
            pool: BufferPool::new(2 * CHANNEL_BUFFERS),
            sender: ChannelSender::Local(queue.clone()),
            receiver: ChannelReceiver::Local(queue),
        };
        let clock = Clock::system();
        let mut times = nanoseconds();
        let start_ns = clock.now_ns();
        let mut last_ns = start_ns;
        while last_ns - start_ns < duration_ns {
            for word in 0..BATCH {
                side.send(word, stop)?;
                std::hint::black_box(side.receive(stop)?);
            }
            let now_ns = clock.now_ns();
            times.saturating_record(((now_ns - last_ns) / BATCH).max(1));
            last_ns = now_ns;
        }
        Ok(times)
    };
    on_cpu(cpus.data[0], stop, work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cpus::Sides;

    #[test]
    fn records_come_back_over_both_roads() {
        let cpus = Cpus::decide(None, None, Sides::Two).unwrap();
        let stop = Stop::new(None);
        assert!(!same_core(&cpus, 1_000_000, &stop).unwrap().is_empty());
        if cpus.distinct() == 2 {
            assert!(!cross_core(&cpus, 1_000_000, &stop).unwrap().is_empty());
        }
    }
}
