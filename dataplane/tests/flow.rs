//! Flow control between two data cores over one shared connection, with a consumer that stops.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::net::{TcpListener, TcpStream};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ringflow_dataplane::Result;
use ringflow_dataplane::exchange::connection::Direction;
use ringflow_dataplane::exchange::frame::ChannelKey;
use ringflow_dataplane::exchange::network::NetworkOptions;
use ringflow_dataplane::exchange::partitioner::Partitioner;
use ringflow_dataplane::exchange::uring::Features;
use ringflow_dataplane::limits::{CHANNEL_BUFFERS, CHANNEL_CREDIT, IN_PLACE_MAX, RECEIVE_BUFFERS};
use ringflow_dataplane::operator::Operator;
use ringflow_dataplane::operator::chain::Output;
use ringflow_dataplane::record::{EventTime, RecordRef};
use ringflow_dataplane::runtime::clock::Clock;
use ringflow_dataplane::runtime::core::{
    CoreCommand, CoreConfig, CoreEvent, CoreHandle, SpinPolicy, start,
};
use ringflow_dataplane::runtime::placement::allowed_cpus;
use ringflow_dataplane::source::watermark::WatermarkPolicy;
use ringflow_dataplane::source::{SourceOutput, SourceProgress, SourceReader};
use ringflow_dataplane::state::disk::StateStorage;
use ringflow_dataplane::subtask::spec::{
    HeadSpec, OutputSpec, ReceiverSpec, SenderSpec, SubtaskSpec,
};
use ringflow_schemas::id::{ExecutionAttemptId, JobId};

/// Numbers from 0 on, so many per millisecond at most, until told to end.
struct Numbers {
    next: u64,
    per_ms: u64,
    start_ns: Option<u64>,
    end: Arc<AtomicBool>,
}

impl SourceReader for Numbers {
    fn open(&mut self, _doorbell_fd: RawFd) -> Result<()> {
        Ok(())
    }

    fn poll(
        &mut self,
        records_max: usize,
        output: &mut SourceOutput<'_>,
    ) -> Result<SourceProgress> {
        let now_ns = output.now_ns();
        let start_ns = *self.start_ns.get_or_insert(now_ns);
        let due = (now_ns - start_ns) / 1_000 * self.per_ms / 1_000;
        for _ in 0..records_max {
            if self.end.load(Ordering::Relaxed) {
                return Ok(SourceProgress::Finished);
            }
            if output.is_blocked() {
                return Ok(SourceProgress::More);
            }
            if self.next >= due {
                let until_ns = Some(start_ns + (self.next + 1) * 1_000_000 / self.per_ms);
                return Ok(SourceProgress::Idle { until_ns });
            }
            output.emit(0, &self.next.to_le_bytes(), EventTime::NONE, 0)?;
            self.next += 1;
        }
        Ok(SourceProgress::More)
    }
}

/// Checks that numbers come in order, counts them, and stops while told to.
struct Counter {
    next: u64,
    seen: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Operator for Counter {
    fn on_record(&mut self, record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        let number = u64::from_le_bytes(record.bytes.try_into().unwrap());
        assert_eq!(number, self.next, "lost, doubled or out of order");
        self.next += 1;
        self.seen.store(self.next, Ordering::Relaxed);
        Ok(())
    }
    fn wants_poll(&self) -> bool {
        true
    }
    fn is_blocked(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn core(
    index: usize,
    cpu: usize,
    events: &tokio::sync::mpsc::UnboundedSender<CoreEvent>,
) -> (CoreHandle, std::thread::JoinHandle<()>) {
    let config = CoreConfig {
        index,
        cpu,
        housekeeping: allowed_cpus().unwrap(),
        spin: SpinPolicy::For(20_000),
        preempt_timer: None,
        pool_buffers: 512,
        network: NetworkOptions {
            features: Features::probe().unwrap(),
            zero_copy: false,
        },
        state: StateStorage::HashMap,
    };
    start(config, events.clone()).unwrap()
}

fn attempt(vertex: u32, subtask: u32) -> ExecutionAttemptId {
    ExecutionAttemptId {
        job: JobId(1),
        vertex,
        subtask,
        attempt: 0,
    }
}

struct Pipeline {
    seen: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
}

impl Pipeline {
    fn deploy(number: u32, per_ms: u64, from: &CoreHandle, to: &CoreHandle) -> Self {
        let pipeline = Self {
            seen: Arc::default(),
            stop: Arc::default(),
            end: Arc::default(),
        };
        let (producer, consumer) = (attempt(0, number), attempt(1, number));
        let key = ChannelKey::new(number, &producer, &consumer);
        let subtask = |attempt, head, output| SubtaskSpec {
            attempt,
            source_name: "numbers".into(),
            parallelism: 2,
            max_parallelism: 128,
            buffer_timeout_ns: None,
            head,
            output,
        };
        let counter = Counter {
            next: 0,
            seen: Arc::clone(&pipeline.seen),
            stop: Arc::clone(&pipeline.stop),
        };
        let roads = vec![(ReceiverSpec::Remote(key, CHANNEL_CREDIT), "tm-1".into(), 0)];
        let counting =
            OutputSpec::Chained("count".into(), Box::new(counter), Box::new(OutputSpec::End));
        to.send(CoreCommand::Deploy(vec![subtask(
            consumer,
            HeadSpec::Gate(roads),
            counting,
        )]))
        .unwrap();
        let numbers = Numbers {
            next: 0,
            per_ms,
            start_ns: None,
            end: Arc::clone(&pipeline.end),
        };
        let head = HeadSpec::Source(Box::new(numbers), WatermarkPolicy::NONE, None, 1, None);
        let roads = vec![(SenderSpec::Remote(1, key, CHANNEL_BUFFERS), "tm-2".into())];
        let output = OutputSpec::Partition(Partitioner::Single, roads);
        from.send(CoreCommand::Deploy(vec![subtask(producer, head, output)]))
            .unwrap();
        pipeline
    }

    fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let clock = Clock::system();
    let deadline_ns = clock.now_ns() + 30_000_000_000;
    while !condition() {
        assert!(clock.now_ns() < deadline_ns, "{what}: not within 30 s");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Records per second of `pipeline` over so much time.
fn rate(pipeline: &Pipeline, over: Duration) -> f64 {
    let clock = Clock::system();
    let (from, from_ns) = (pipeline.seen(), clock.now_ns());
    let until_ns = from_ns + u64::try_from(over.as_nanos()).unwrap();
    wait_until("time passes", || clock.now_ns() >= until_ns);
    let (records, ns) = (pipeline.seen() - from, clock.now_ns() - from_ns);
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = records as f64 / ns as f64 * 1e9;
    rate
}

#[test]
fn a_consumer_that_stops_for_10_s_stops_its_producer_and_nobody_else() {
    let cpus = allowed_cpus().unwrap();
    let (events, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let (from, from_thread) = core(0, cpus[0], &events);
    let (to, to_thread) = core(1, *cpus.last().unwrap(), &events);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let out = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (into, _) = listener.accept().unwrap();
    for (core, socket, direction) in [
        (&from, out, Direction::Outgoing),
        (&to, into, Direction::Incoming),
    ] {
        socket.set_nodelay(true).unwrap();
        let peer = "the other".to_owned();
        core.send(CoreCommand::Attach {
            id: 1,
            socket,
            direction,
            peer,
        })
        .unwrap();
    }
    // Both flow at a rate that leaves the cores time, so that what is measured is the exchange and not the CPU.
    let stopping = Pipeline::deploy(0, 100, &from, &to);
    let flowing = Pipeline::deploy(1, 100, &from, &to);
    wait_until("both flow", || {
        stopping.seen() > 100_000 && flowing.seen() > 100_000
    });

    let before = rate(&flowing, Duration::from_secs(2));
    let memory_before = resident_bytes();
    stopping.stop.store(true, Ordering::Relaxed);
    // The stopped one's road fills up: credit, then its producer's buffers.
    let stood = rate(&flowing, Duration::from_secs(10));
    let stopped_at = stopping.seen();
    let memory_grown = resident_bytes().saturating_sub(memory_before);
    let (held_there, held_here) = (to.pool().used(), from.pool().used());
    eprintln!(
        "the neighbour: {before:.0} records/s before, {stood:.0} while the other stood for 10 s; \
         {held_here} + {held_there} buffers held, {} KiB more memory",
        memory_grown / 1024
    );
    assert!((stood / before - 1.0).abs() < 0.05, "{before} -> {stood}");
    let bound = usize::from(RECEIVE_BUFFERS) + 2 * (CHANNEL_CREDIT + IN_PLACE_MAX + 1) as usize;
    assert!(
        held_there <= bound,
        "{held_there} of at most {bound} buffers"
    );
    assert!(held_here <= usize::from(RECEIVE_BUFFERS) + 2 * (CHANNEL_BUFFERS + 3));
    assert!(memory_grown < 8 << 20, "{memory_grown} bytes more");

    stopping.stop.store(false, Ordering::Relaxed);
    wait_until("it goes on", || stopping.seen() > stopped_at + 500_000);
    // Each counter has checked that no number was lost, doubled or out of order; now to the last one.
    for pipeline in [&stopping, &flowing] {
        pipeline.end.store(true, Ordering::Relaxed);
    }
    let mut ended = 0;
    while ended < 4 {
        match heard.blocking_recv().unwrap() {
            CoreEvent::Ended { how, .. } => {
                assert!(
                    matches!(how, ringflow_dataplane::runtime::core::End::Finished),
                    "{how:?}"
                );
                ended += 1;
            }
            CoreEvent::Running(_) => {}
            other => panic!("{other:?}"),
        }
    }
    for (core, thread) in [(from, from_thread), (to, to_thread)] {
        core.send(CoreCommand::Shutdown).unwrap();
        thread.join().unwrap();
        assert_eq!(core.pool().used(), 0, "all buffers are back");
    }
}
