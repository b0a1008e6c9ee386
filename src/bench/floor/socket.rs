//! Messages over a loopback TCP connection between two pinned threads that spin on it.
//!
//! Owns: [`connected`], [`one_way`] (an open loop), [`half_round_trip`]. Invariant: latency counts from when a message was
//! due, on the clock that both threads share; `TCP_NODELAY` is set.
//! Left out: batching, and sleeping in the kernel.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use ringflow_dataplane::runtime::clock::Clock;
use ringflow_dataplane::source::pace::Pace;

use crate::bench::cpus::{Cpus, Stop, on_two_cpus};
use crate::bench::figures::nanoseconds;

/// A message: when it was due, and padding to a cache line.
const MESSAGE_BYTES: usize = 64;

/// Two ends of a new connection.
///
/// # Errors
/// No socket can be had.
pub fn connected() -> crate::Result<(TcpStream, TcpStream)> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
    let here = TcpStream::connect(listener.local_addr()?).context("cannot connect on loopback")?;
    let (there, _) = listener.accept()?;
    for end in [&here, &there] {
        end.set_nodelay(true)?;
    }
    Ok((here, there))
}

/// An open loop.
#[derive(Debug, Clone, Copy)]
pub struct OpenLoop {
    /// Messages per second.
    pub rate: u64,
    /// Messages that are not measured.
    pub warm_up: u64,
    /// Messages that are.
    pub measured: u64,
}

/// Sends at the loop's rate from the first CPU to the second; one-way times in nanoseconds.
///
/// # Errors
/// No socket or thread, or interrupted.
pub fn one_way(cpus: &Cpus, load: OpenLoop, stop: &Stop<'_>) -> crate::Result<Histogram<u64>> {
    let (mut here, mut there) = connected()?;
    here.set_nonblocking(true)?;
    there.set_nonblocking(true)?;
    let total = load.warm_up + load.measured;
    let clock = Clock::system();
    let send = move || {
        let pace = Pace::new(Some(load.rate), clock.now_ns());
        for number in 0..total {
            let due_ns = pace.due_ns(number);
            while clock.now_ns() < due_ns {
                stop.check()?;
                std::hint::spin_loop();
            }
            send_all(&mut here, &message(due_ns), stop)?;
        }
        // Kept open until the receiver has everything: it ends by count.
        Ok(here)
    };
    let receive = move || {
        let mut times = nanoseconds();
        let mut inbox = Inbox::default();
        for number in 0..total {
            let due_ns = inbox.next(&mut there, stop)?;
            if number >= load.warm_up {
                times.saturating_record(clock.now_ns().saturating_sub(due_ns).max(1));
            }
        }
        Ok(times)
    };
    on_two_cpus(cpus.data, stop, send, receive).map(|(_, times)| times)
}

/// One message to and fro, as fast as it goes, for `duration_ns`; half the round trips in nanoseconds.
///
/// # Errors
/// No socket or thread, or interrupted.
pub fn half_round_trip(
    cpus: &Cpus,
    duration_ns: u64,
    stop: &Stop<'_>,
) -> crate::Result<Histogram<u64>> {
    let (mut here, mut there) = connected()?;
    here.set_nonblocking(true)?;
    there.set_nonblocking(true)?;
    let clock = Clock::system();
    let ping = move || {
        let mut times = nanoseconds();
        let mut inbox = Inbox::default();
        let start_ns = clock.now_ns();
        let mut last_ns = start_ns;
        while last_ns - start_ns < duration_ns {
            send_all(&mut here, &message(last_ns), stop)?;
            inbox.next(&mut here, stop)?;
            let now_ns = clock.now_ns();
            times.saturating_record(((now_ns - last_ns) / 2).max(1));
            last_ns = now_ns;
        }
        // Zero asks the other side to end.
        send_all(&mut here, &message(0), stop)?;
        Ok(times)
    };
    let pong = move || {
        let mut inbox = Inbox::default();
        loop {
            match inbox.next(&mut there, stop)? {
                0 => return Ok(()),
                sent_ns => send_all(&mut there, &message(sent_ns), stop)?,
            }
        }
    };
    on_two_cpus(cpus.data, stop, ping, pong).map(|(times, ())| times)
}

fn message(time_ns: u64) -> [u8; MESSAGE_BYTES] {
    let mut bytes = [0; MESSAGE_BYTES];
    bytes[..8].copy_from_slice(&time_ns.to_ne_bytes());
    bytes
}

fn send_all(socket: &mut TcpStream, mut bytes: &[u8], stop: &Stop<'_>) -> crate::Result<()> {
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => stop.check()?,
            Err(error) => return Err(error).context("loopback socket"),
        }
    }
    Ok(())
}

/// Cuts the byte stream into messages.
struct Inbox {
    bytes: Box<[u8; 64 * MESSAGE_BYTES]>,
    from: usize,
    to: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            bytes: Box::new([0; 64 * MESSAGE_BYTES]),
            from: 0,
            to: 0,
        }
    }
}

impl Inbox {
    /// The time in the next message; spins until there is one.
    fn next(&mut self, socket: &mut TcpStream, stop: &Stop<'_>) -> crate::Result<u64> {
        loop {
            let waiting = &self.bytes[self.from..self.to];
            if let (Some(_), Some(time)) = (waiting.get(..MESSAGE_BYTES), waiting.first_chunk()) {
                self.from += MESSAGE_BYTES;
                return Ok(u64::from_ne_bytes(*time));
            }
            self.bytes.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
            match socket.read(&mut self.bytes[self.to..]) {
                Ok(0) => bail!("the other side of the loopback socket is gone"),
                Ok(received) => self.to += received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => stop.check()?,
                Err(error) => return Err(error).context("loopback socket"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cpus::Sides;

    #[test]
    fn every_measured_message_counts_once() {
        let cpus = Cpus::decide(None, None, Sides::Two).unwrap();
        if cpus.distinct() < 2 {
            return;
        }
        let stop = Stop::new(None);
        let load = OpenLoop {
            rate: 5_000,
            warm_up: 50,
            measured: 500,
        };
        let times = one_way(&cpus, load, &stop).unwrap();
        assert_eq!(times.len(), 500);
        let times = half_round_trip(&cpus, 5_000_000, &stop).unwrap();
        assert!(!times.is_empty() && times.min() > 100, "{times:?}");
    }
}
