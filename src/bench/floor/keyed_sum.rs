//! The keyed running sum by hand: over a loopback socket between two threads, and as one loop.
//!
//! Owns: [`over_socket`], [`in_one_loop`]. Invariant: the records are those of the built-in job `sum`, made by the same
//! function; each output is given away, so that no compiler leaves the work out.
//! Left out: event time, watermarks, latency stamps, any second consumer.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, ensure};
use ringflow_dataplane::runtime::clock::Clock;

use super::socket::connected;
use super::{seconds_since, thread_cpu_seconds};
use crate::bench::cpus::{Cpus, Stop, on_cpu, on_two_cpus};
use crate::bench::figures::Work;
use crate::bench::job::Load;
use crate::jobs::reading::Reading;
use crate::jobs::sum::mapped;

/// Bytes of one write, and of one read: the engine's buffer size.
const BLOCK_BYTES: usize = 32 << 10;
/// Bytes of one record.
const RECORD_BYTES: usize = size_of::<Reading>();

/// Running sums in one open-addressing table of 16-byte slots, at most half full.
struct Sums {
    slots: Vec<(u64, u64)>,
    mask: usize,
}

/// No key: keys are below their number.
const FREE: u64 = u64::MAX;

impl Sums {
    fn new(keys: u64) -> crate::Result<Self> {
        let slots = usize::try_from(keys)
            .ok()
            .and_then(|keys| keys.checked_mul(2)?.checked_next_power_of_two())
            .context("too many keys")?;
        Ok(Self {
            slots: vec![(FREE, 0); slots],
            mask: slots - 1,
        })
    }

    /// Adds and returns the key's new sum.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "a hash, masked")]
    fn add(&mut self, key: u64, value: u64) -> u64 {
        // Fibonacci hashing: the high bits are well mixed.
        let mut index = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & self.mask;
        loop {
            let slot = &mut self.slots[index];
            if slot.0 == FREE {
                slot.0 = key;
            }
            if slot.0 == key {
                slot.1 = slot.1.wrapping_add(value);
                return slot.1;
            }
            index = (index + 1) & self.mask;
        }
    }
}

/// Makes the load's records on one CPU, sends them in blocks over a blocking socket, and sums them on the other: what it
/// cost, and the values of all outputs added up, wrapping.
///
/// # Errors
/// No socket or thread, or interrupted.
pub fn over_socket(cpus: &Cpus, load: Load, stop: &Stop<'_>) -> crate::Result<(Work, u64)> {
    let (here, there) = connected()?;
    let clock = Clock::system();
    let start_ns = clock.now_ns();
    let send = move || send(here, &load, stop);
    let receive = move || {
        let (cpu, total) = receive(there, &load, stop)?;
        Ok((cpu, total, seconds_since(&clock, start_ns)))
    };
    let (sent_cpu, (received_cpu, total, seconds)) = on_two_cpus(cpus.data, stop, send, receive)?;
    Ok((
        Work::new(load.records, seconds, sent_cpu + received_cpu),
        total,
    ))
}

fn send(mut socket: TcpStream, load: &Load, stop: &Stop<'_>) -> crate::Result<f64> {
    let readings = load.readings();
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    for number in 0..load.records {
        block.extend_from_slice(&readings.reading(number).0);
        if block.len() + RECORD_BYTES > BLOCK_BYTES {
            stop.check()?;
            socket.write_all(&block).context("loopback socket")?;
            block.clear();
        }
    }
    socket.write_all(&block).context("loopback socket")?;
    Ok(thread_cpu_seconds())
}

fn receive(mut socket: TcpStream, load: &Load, stop: &Stop<'_>) -> crate::Result<(f64, u64)> {
    let mut sums = Sums::new(load.keys)?;
    let mut block = vec![0; BLOCK_BYTES];
    let (mut filled, mut summed, mut total) = (0, 0, 0u64);
    loop {
        let received = socket
            .read(&mut block[filled..])
            .context("loopback socket")?;
        if received == 0 {
            break;
        }
        filled += received;
        let (records, rest) = block[..filled].as_chunks::<RECORD_BYTES>();
        for record in records {
            let reading = Reading(*record);
            let sum = sums.add(reading.key(), reading.value());
            let output = black_box(Reading::new(reading.key(), sum, reading.number()));
            total = total.wrapping_add(output.value());
            summed += 1;
        }
        let left = rest.len();
        block.copy_within(filled - left..filled, 0);
        filled = left;
    }
    stop.check()?;
    ensure!(
        summed == load.records,
        "the floor summed {summed} of {} records: its sender failed",
        load.records
    );
    Ok((thread_cpu_seconds(), total))
}

/// Makes and maps the load's records in one loop on the first data CPU: what it cost, and the values of all outputs added
/// up, wrapping.
///
/// # Errors
/// No thread, or interrupted.
pub fn in_one_loop(cpus: &Cpus, load: Load, stop: &Stop<'_>) -> crate::Result<(Work, u64)> {
    let work = || {
        let readings = load.readings();
        let clock = Clock::system();
        let start_ns = clock.now_ns();
        let mut total = 0u64;
        for number in 0..load.records {
            if number % 65_536 == 0 {
                stop.check()?;
            }
            let output = black_box(mapped(&readings.reading(number)));
            total = total.wrapping_add(output.value());
        }
        let seconds = seconds_since(&clock, start_ns);
        Ok((
            Work::new(load.records, seconds, thread_cpu_seconds()),
            total,
        ))
    };
    on_cpu(cpus.data[0], stop, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_equal_a_map_s() {
        let mut sums = Sums::new(100).unwrap();
        let mut expected = std::collections::BTreeMap::new();
        for number in 0..10_000u64 {
            let (key, value) = (number * 7919 % 100, number);
            let sum = expected.entry(key).or_insert(0u64);
            *sum += value;
            assert_eq!(sums.add(key, value), *sum);
        }
    }
}
