//! Data cores by themselves: subtasks that panic, and executors that park with work to do.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use ringflow_dataplane::Result;
use ringflow_dataplane::exchange::network::NetworkOptions;
use ringflow_dataplane::exchange::uring::Features;
use ringflow_dataplane::record::EventTime;
use ringflow_dataplane::runtime::clock::Clock;
use ringflow_dataplane::runtime::core::{
    CoreCommand, CoreConfig, CoreEvent, CoreHandle, End, SpinPolicy, start,
};
use ringflow_dataplane::runtime::placement::allowed_cpus;
use ringflow_dataplane::runtime::watchdog::{Watchdog, Watched};
use ringflow_dataplane::sink::discard::DiscardSink;
use ringflow_dataplane::source::watermark::WatermarkPolicy;
use ringflow_dataplane::source::{SourceOutput, SourceProgress, SourceReader};
use ringflow_dataplane::state::disk::StateStorage;
use ringflow_dataplane::subtask::spec::{HeadSpec, OutputSpec, SubtaskSpec};
use ringflow_schemas::id::{ExecutionAttemptId, JobId};
use tokio::sync::mpsc::UnboundedReceiver;

/// Always has a record: its core never has a reason to sleep.
struct Endless;

impl SourceReader for Endless {
    fn open(&mut self, _doorbell_fd: RawFd) -> Result<()> {
        Ok(())
    }
    fn poll(
        &mut self,
        _records_max: usize,
        output: &mut SourceOutput<'_>,
    ) -> Result<SourceProgress> {
        output.emit(0, b"8 bytes!", EventTime(0), 0)?;
        Ok(SourceProgress::More)
    }
}

fn one_core(
    preempt_timer: Option<Duration>,
) -> (CoreHandle, JoinHandle<()>, UnboundedReceiver<CoreEvent>) {
    let cpus = allowed_cpus().unwrap();
    let (events, heard) = tokio::sync::mpsc::unbounded_channel();
    let config = CoreConfig {
        index: 0,
        cpu: *cpus.last().unwrap(),
        housekeeping: cpus.clone(),
        spin: SpinPolicy::For(0),
        preempt_timer,
        pool_buffers: 16,
        network: NetworkOptions {
            features: Features::probe().unwrap(),
            zero_copy: false,
        },
        state: StateStorage::HashMap,
    };
    let (core, thread) = start(config, events).unwrap();
    (core, thread, heard)
}

fn subtask(index: u32, reader: Box<dyn SourceReader>) -> SubtaskSpec {
    let discard = Box::new(DiscardSink::new());
    SubtaskSpec {
        attempt: ExecutionAttemptId {
            job: JobId(1),
            vertex: 0,
            subtask: index,
            attempt: 0,
        },
        source_name: "numbers".into(),
        parallelism: 2,
        max_parallelism: 128,
        buffer_timeout_ns: None,
        head: HeadSpec::Source(reader, WatermarkPolicy::NONE, None, 1, None),
        output: OutputSpec::Chained("discard".into(), discard, Box::new(OutputSpec::End)),
    }
}

/// Panics at its third record.
struct Panics(u32);

impl SourceReader for Panics {
    fn open(&mut self, _doorbell_fd: RawFd) -> Result<()> {
        Ok(())
    }
    fn poll(
        &mut self,
        _records_max: usize,
        _output: &mut SourceOutput<'_>,
    ) -> Result<SourceProgress> {
        self.0 += 1;
        assert!(self.0 < 3, "record {} is too much", self.0);
        Ok(SourceProgress::More)
    }
}

#[test]
fn a_panic_ends_its_subtask_with_its_text_and_leaves_the_others_running() {
    let (core, thread, mut heard) = one_core(None);
    core.send(CoreCommand::Deploy(vec![
        subtask(0, Box::new(Endless)),
        subtask(1, Box::new(Panics(0))),
    ]))
    .unwrap();
    let error = loop {
        match heard.blocking_recv().unwrap() {
            CoreEvent::Ended {
                how: End::Failed(error),
                last,
            } => {
                assert_eq!(last.attempt.subtask, 1);
                break error.to_string();
            }
            CoreEvent::Running(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(error.contains("panicked: record 3 is too much"), "{error}");
    let sweeps = core.doorbell().sweeps();
    let clock = Clock::system();
    let deadline_ns = clock.now_ns() + 10_000_000_000;
    while core.doorbell().sweeps() < sweeps + 1_000 {
        assert!(
            clock.now_ns() < deadline_ns,
            "the other subtask stands still"
        );
        std::thread::park_timeout(Duration::from_millis(1));
    }
    core.send(CoreCommand::Shutdown).unwrap();
    thread.join().unwrap();
}

#[test]
fn waking_a_sleeping_core_takes_time() {
    let (core, thread, _heard) = one_core(None);
    let median_ns = ringflow_dataplane::runtime::wakeup::median_ns(core.doorbell());
    eprintln!("waking a core takes {median_ns:?} ns");
    assert!((100..100_000_000).contains(&median_ns.unwrap()));
    core.send(CoreCommand::Shutdown).unwrap();
    thread.join().unwrap();
}

/// The fault needs glommio's preemption timer to fire between two steps of the executor: the more often it fires, the
/// sooner that happens. At its default of 100 ms it is hardly ever seen.
#[test]
fn an_executor_that_parks_with_work_to_do_is_rescued() {
    let (core, thread, _heard) = one_core(Some(Duration::from_micros(100)));
    let watched = Watched {
        doorbell: Arc::clone(core.doorbell()),
        thread_id: core.thread_id(),
    };
    let watchdog = Watchdog::start(vec![watched]).unwrap();
    let subtask = subtask(0, Box::new(Endless));
    core.send(CoreCommand::Deploy(vec![subtask])).unwrap();

    let clock = Clock::system();
    let counters = watchdog.counters();
    let parked = || counters.parked_with_work.load(Ordering::Relaxed);
    // Seconds on a machine of its own; a busy one runs the executor less.
    let deadline_ns = clock.now_ns() + 180_000_000_000;
    while parked() < 1 {
        assert!(
            clock.now_ns() < deadline_ns,
            "the fault was not provoked within 180 s: is the watchdog still needed?"
        );
        std::thread::park_timeout(Duration::from_millis(5));
    }
    // It goes on after each rescue: ten thousand more sweeps, whatever happens meanwhile.
    let sweeps = core.doorbell().sweeps();
    while core.doorbell().sweeps() < sweeps + 10_000 {
        assert!(clock.now_ns() < deadline_ns, "the core stands still");
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let gap_ms = counters.longest_gap_ns.load(Ordering::Relaxed) / 1_000_000;
    eprintln!(
        "parked with work {} times, rescued each time ({} times by a signal), longest standstill {gap_ms} ms, {} sweeps",
        parked(),
        counters.interrupts.load(Ordering::Relaxed),
        core.doorbell().sweeps()
    );
    assert!(
        gap_ms < 1_000,
        "a standstill of {gap_ms} ms, where the watchdog looks every millisecond"
    );
    core.send(CoreCommand::Shutdown).unwrap();
    thread.join().unwrap();
}
