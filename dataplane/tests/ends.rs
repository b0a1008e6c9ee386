//! How streams end on a data core: stops with and without a drain, and subtasks that had finished before their job was
//! restored.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ringflow_dataplane::Result;
use ringflow_dataplane::element::StopMode;
use ringflow_dataplane::exchange::frame::ChannelKey;
use ringflow_dataplane::exchange::network::NetworkOptions;
use ringflow_dataplane::exchange::partitioner::Partitioner;
use ringflow_dataplane::exchange::uring::Features;
use ringflow_dataplane::limits::CHANNEL_BUFFERS;
use ringflow_dataplane::operator::chain::Output;
use ringflow_dataplane::operator::stateless::Collector;
use ringflow_dataplane::operator::window::assigner::SlidingWindows;
use ringflow_dataplane::operator::window::{Count, PaneOperator, TimeWindow, WindowResult};
use ringflow_dataplane::operator::{Operator, Progress};
use ringflow_dataplane::record::{EventTime, Record, RecordRef, Row};
use ringflow_dataplane::runtime::clock::Clock;
use ringflow_dataplane::runtime::core::{
    CoreCommand, CoreConfig, CoreEvent, CoreHandle, End, SpinPolicy, SubtaskSnapshot, start,
};
use ringflow_dataplane::runtime::placement::allowed_cpus;
use ringflow_dataplane::source::watermark::WatermarkPolicy;
use ringflow_dataplane::source::{SourceOutput, SourceProgress, SourceReader};
use ringflow_dataplane::state::disk::StateStorage;
use ringflow_dataplane::subtask::finished;
use ringflow_dataplane::subtask::spec::{
    HeadSpec, OutputSpec, ReceiverSpec, SenderSpec, SubtaskSpec,
};
use ringflow_schemas::id::{ExecutionAttemptId, JobId};
use tokio::sync::mpsc::UnboundedReceiver;

/// A number: 8 bytes, little endian.
struct Number;

// SAFETY: any 8 bytes are a number.
unsafe impl Record for Number {
    type View<'a> = u64;
    const NAME: &'static str = "Number";
    fn verify(bytes: &[u8]) -> std::result::Result<(), String> {
        (bytes.len() == 8)
            .then_some(())
            .ok_or_else(|| "8 bytes".to_owned())
    }
    unsafe fn view(bytes: &[u8]) -> u64 {
        u64::from_le_bytes(bytes.try_into().unwrap())
    }
}

/// Gives number n at event time n x `step_ms` modulo `round_ms`, up to `count` of them, and then nothing, but does not
/// end.
struct Unbounded {
    next: u64,
    count: u64,
    step_ms: u64,
    round_ms: u64,
}

impl SourceReader for Unbounded {
    fn open(&mut self, _doorbell_fd: RawFd) -> Result<()> {
        Ok(())
    }

    fn poll(
        &mut self,
        records_max: usize,
        output: &mut SourceOutput<'_>,
    ) -> Result<SourceProgress> {
        for _ in 0..records_max {
            if self.next == self.count {
                return Ok(SourceProgress::Idle { until_ns: None });
            }
            if output.is_blocked() {
                break;
            }
            let time = i64::try_from(self.next * self.step_ms % self.round_ms).unwrap();
            output.emit(0, &self.next.to_le_bytes(), EventTime(time), 0)?;
            self.next += 1;
        }
        Ok(SourceProgress::More)
    }
}

/// What a [`Tally`] has seen.
#[derive(Default)]
struct Seen {
    records: AtomicU64,
    /// Of the last 8 bytes of each record.
    sum: AtomicU64,
    /// Number of ends: of streams that were complete, of others.
    ends: [AtomicU64; 2],
}

impl Seen {
    fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// Complete ones, others.
    fn ends(&self) -> (u64, u64) {
        let [drained, others] = &self.ends;
        (
            drained.load(Ordering::Relaxed),
            others.load(Ordering::Relaxed),
        )
    }
}

/// A sink that counts.
struct Tally(Arc<Seen>);

impl Operator for Tally {
    fn on_record(&mut self, record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        let last = u64::from_le_bytes(*record.bytes.last_chunk().unwrap());
        self.0.sum.fetch_add(last, Ordering::Relaxed);
        self.0.records.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn on_end_of_input(&mut self, mode: StopMode, _output: &mut Output) -> Result<Progress> {
        self.0.ends[usize::from(!mode.drains())].fetch_add(1, Ordering::Relaxed);
        Ok(Progress::Done)
    }
}

type Counts = WindowResult<u64, u64>;

fn emit(key: &u64, count: u64, window: TimeWindow, out: &mut Collector<'_, Counts>) {
    out.collect_window_result(key, &count, window);
}

/// Counts records in windows of 10 s, into `seen`.
fn windows(seen: &Arc<Seen>) -> OutputSpec {
    let size = Duration::from_secs(10);
    let counts = PaneOperator::<Number, u64, _, Counts, _, _>::new(
        SlidingWindows::new(size, size, 0).unwrap(),
        |_: Row<'_, Number>| 0u64,
        Count,
        emit,
    );
    OutputSpec::Chained("counts".into(), Box::new(counts), Box::new(sink(seen)))
}

fn sink(seen: &Arc<Seen>) -> OutputSpec {
    let tally = Box::new(Tally(Arc::clone(seen)));
    OutputSpec::Chained("tally".into(), tally, Box::new(OutputSpec::End))
}

fn attempt(vertex: u32) -> ExecutionAttemptId {
    ExecutionAttemptId {
        job: JobId(1),
        vertex,
        subtask: 0,
        attempt: 0,
    }
}

/// The edge from vertex `from` to vertex `to`: one channel, on one core.
fn key(from: u32, to: u32) -> ChannelKey {
    ChannelKey::new(from * 16 + to, &attempt(from), &attempt(to))
}

fn to(from: u32, to: u32) -> OutputSpec {
    let sender = SenderSpec::Local(key(from, to), CHANNEL_BUFFERS);
    OutputSpec::Partition(Partitioner::Single, vec![(sender, "here".into())])
}

fn gate(producers: &[u32], own: u32) -> HeadSpec {
    let road = |from: &u32| {
        let receiver = ReceiverSpec::Local(key(*from, own), CHANNEL_BUFFERS);
        (receiver, "here".to_owned(), 0)
    };
    HeadSpec::Gate(producers.iter().map(road).collect())
}

fn source(reader: Unbounded) -> HeadSpec {
    let policy = WatermarkPolicy::bounded(0, None);
    HeadSpec::Source(Box::new(reader), policy, None, 1, None)
}

fn subtask(vertex: u32, head: HeadSpec, output: OutputSpec) -> SubtaskSpec {
    SubtaskSpec {
        attempt: attempt(vertex),
        source_name: "numbers".into(),
        parallelism: 1,
        max_parallelism: 128,
        buffer_timeout_ns: None,
        head,
        output,
    }
}

/// A core, and what it says.
struct TestCore {
    core: CoreHandle,
    thread: JoinHandle<()>,
    heard: UnboundedReceiver<CoreEvent>,
    /// Vertices that ran.
    ran: Vec<u32>,
}

impl TestCore {
    fn start() -> Self {
        let cpus = allowed_cpus().unwrap();
        let (events, heard) = tokio::sync::mpsc::unbounded_channel();
        let config = CoreConfig {
            index: 0,
            cpu: *cpus.last().unwrap(),
            housekeeping: cpus.clone(),
            spin: SpinPolicy::For(0),
            preempt_timer: None,
            pool_buffers: 128,
            network: NetworkOptions {
                features: Features::probe().unwrap(),
                zero_copy: false,
            },
            state: StateStorage::HashMap,
        };
        let (core, thread) = start(config, events).unwrap();
        Self {
            core,
            thread,
            heard,
            ran: Vec::new(),
        }
    }

    fn deploy(&self, subtasks: Vec<SubtaskSpec>) {
        self.core.send(CoreCommand::Deploy(subtasks)).unwrap();
    }

    /// Waits until so many more subtasks have ended, each after it ran; how they did, by vertex.
    fn ended(&mut self, count: usize) -> HashMap<u32, (End, Box<SubtaskSnapshot>)> {
        let mut ended = HashMap::new();
        while ended.len() < count {
            match self.heard.blocking_recv().unwrap() {
                CoreEvent::Running(attempt) => self.ran.push(attempt.vertex),
                CoreEvent::Ended { how, last } => {
                    let vertex = last.attempt.vertex;
                    assert!(self.ran.contains(&vertex), "{vertex} ended before it ran");
                    ended.insert(vertex, (how, last));
                }
                other => panic!("{other:?}"),
            }
        }
        ended
    }

    fn shut_down(self) {
        self.core.send(CoreCommand::Shutdown).unwrap();
        self.thread.join().unwrap();
        assert_eq!(self.core.pool().used(), 0, "all buffers are back");
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let clock = Clock::system();
    let deadline_ns = clock.now_ns() + 30_000_000_000;
    while !condition() {
        assert!(clock.now_ns() < deadline_ns, "{what}: not within 30 s");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// An endless source whose event time never leaves a window of 10 s feeds that window and, over an exchange of its own,
/// a sink that takes every record. Only a drain makes the window fire; in both modes every record that was read reaches
/// the sink.
#[test]
fn g17_only_a_drain_fires_what_is_open_and_a_plain_stop_loses_no_record_on_its_way() {
    for mode in [StopMode::Drain, StopMode::NoDrain] {
        let mut core = TestCore::start();
        let (passed, counted) = (Arc::<Seen>::default(), Arc::<Seen>::default());
        let endless = Unbounded {
            next: 0,
            count: u64::MAX,
            step_ms: 1,
            round_ms: 9_000,
        };
        let both = OutputSpec::Several(vec![to(0, 1), to(0, 2)]);
        core.deploy(vec![
            subtask(0, source(endless), both),
            subtask(1, gate(&[0], 1), sink(&passed)),
            subtask(2, gate(&[0], 2), windows(&counted)),
        ]);
        wait_until("records flow", || passed.records() > 100_000);
        // Told to all: those behind the source end with their input.
        let all = vec![attempt(0), attempt(1), attempt(2)];
        core.core.send(CoreCommand::Stop(all, mode)).unwrap();
        let ended = core.ended(3);
        assert!(
            ended.values().all(|(how, _)| matches!(how, End::Finished)),
            "{ended:?}"
        );
        let read = ended[&0].1.counters.source_records();
        assert_eq!(passed.records(), read, "{mode:?}");
        let fired = if mode.drains() { (1, read) } else { (0, 0) };
        assert_eq!((counted.records(), counted.sum()), fired, "{mode:?}");
        let last = ended[&2].1.watermark;
        assert_eq!(last == Some(EventTime::MAX), mode.drains(), "{last:?}");
        // Sinks hear of the end in both modes, so that they flush.
        let once = if mode.drains() { (1, 0) } else { (0, 1) };
        assert_eq!((passed.ends(), counted.ends()), (once, once));
        core.shut_down();
    }
}

/// A source that sleeps, having nothing to read, hears of its stop too.
#[test]
fn g17_an_idle_source_is_stopped() {
    let mut core = TestCore::start();
    let (passed, counted) = (Arc::<Seen>::default(), Arc::<Seen>::default());
    let few = Unbounded {
        next: 0,
        count: 10,
        step_ms: 1,
        round_ms: 9_000,
    };
    let both = OutputSpec::Several(vec![sink(&passed), to(0, 1)]);
    core.deploy(vec![
        subtask(0, source(few), both),
        subtask(1, gate(&[0], 1), windows(&counted)),
    ]);
    let sweeps = || core.core.doorbell().sweeps();
    wait_until("all is read and the core sleeps", || {
        let (read, before) = (passed.records(), sweeps());
        std::thread::park_timeout(Duration::from_millis(5));
        read == 10 && sweeps() == before
    });
    let stop = CoreCommand::Stop(vec![attempt(0)], StopMode::Drain);
    core.core.send(stop).unwrap();
    core.ended(2);
    assert_eq!((counted.records(), counted.sum()), (1, 10));
    core.shut_down();
}

/// Event time of an operator with a finished input goes by its other inputs: the finished source, and the finished
/// subtask behind it, run none of their operators again and read nothing, but the end of their event time comes
/// through. (That checkpoints go on while such subtasks are there can be shown once there are checkpoints.)
#[test]
fn g19_finished_subtasks_do_not_run_again_but_pass_on_the_end() {
    let mut core = TestCore::start();
    let counted = Arc::<Seen>::default();
    // Watermarks up to 14.985 s, and then silence: not the end of this source's event time.
    let live = Unbounded {
        next: 0,
        count: 1_000,
        step_ms: 15,
        round_ms: u64::MAX,
    };
    core.deploy(vec![
        subtask(
            0,
            finished::source(),
            finished::output("finished", vec![to(0, 1)]),
        ),
        subtask(
            1,
            gate(&[0], 1),
            finished::output("finished too", vec![to(1, 3)]),
        ),
        subtask(2, source(live), to(2, 3)),
        subtask(3, gate(&[1, 2], 3), windows(&counted)),
    ]);
    let ended = core.ended(2);
    for vertex in [0, 1] {
        let (how, last) = &ended[&vertex];
        assert!(matches!(how, End::Finished), "{how:?}");
        let counters = last.counters;
        let records = (
            counters.source_records(),
            counters.records_in(),
            counters.records_out(),
        );
        assert_eq!(records, (0, 0, 0), "vertex {vertex}");
    }
    // The window from 0 s to 10 s, of 667 records. Without the end of the finished input it would wait for ever.
    wait_until("the first window fires", || counted.records() == 1);
    assert_eq!(counted.sum(), 667);

    // The rest ends with the live source, with a drain: all of its inputs are complete.
    let stop = CoreCommand::Stop(vec![attempt(2)], StopMode::Drain);
    core.core.send(stop).unwrap();
    core.ended(2);
    assert_eq!((counted.records(), counted.sum()), (2, 1_000));
    assert_eq!(counted.ends(), (1, 0));
    core.shut_down();
}

/// One input that had finished and one that is stopped without a drain are no complete input.
#[test]
fn g17_a_complete_input_beside_one_that_is_cut_off_fires_nothing() {
    let mut core = TestCore::start();
    let counted = Arc::<Seen>::default();
    let live = Unbounded {
        next: 0,
        count: 10,
        step_ms: 1,
        round_ms: 9_000,
    };
    core.deploy(vec![
        subtask(0, finished::source(), finished::output("f", vec![to(0, 2)])),
        subtask(1, source(live), to(1, 2)),
        subtask(2, gate(&[0, 1], 2), windows(&counted)),
    ]);
    core.ended(1);
    let stop = CoreCommand::Stop(vec![attempt(1)], StopMode::NoDrain);
    core.core.send(stop).unwrap();
    let ended = core.ended(2);
    assert_eq!(counted.records(), 0);
    assert_eq!(counted.ends(), (0, 1));
    assert!(ended[&2].1.watermark < Some(EventTime::MAX));
    core.shut_down();
}

#[test]
fn g19_a_record_for_a_finished_subtask_fails_it_and_says_why() {
    let mut core = TestCore::start();
    let live = Unbounded {
        next: 0,
        count: 10,
        step_ms: 1,
        round_ms: 9_000,
    };
    core.deploy(vec![
        subtask(0, source(live), to(0, 1)),
        subtask(1, gate(&[0], 1), finished::output("counts", Vec::new())),
    ]);
    let ended = core.ended(1);
    let (End::Failed(error), _) = &ended[&1] else {
        panic!("{ended:?}");
    };
    let error = error.to_string();
    assert!(
        error.contains("counts") && error.contains("had finished before its job was restored"),
        "{error}"
    );
    core.core
        .send(CoreCommand::Cancel(vec![attempt(0)]))
        .unwrap();
    core.ended(1);
    core.shut_down();
}
