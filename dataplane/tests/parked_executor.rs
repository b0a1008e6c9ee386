//! glommio 0.9.0 can park an executor although a task is runnable. This provokes it and shows that the watchdog gets the
//! core going again, by how much later.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringflow_dataplane::Result;
use ringflow_dataplane::record::EventTime;
use ringflow_dataplane::runtime::clock::Clock;
use ringflow_dataplane::runtime::core::{CoreCommand, CoreConfig, SpinPolicy, start};
use ringflow_dataplane::runtime::placement::allowed_cpus;
use ringflow_dataplane::runtime::watchdog::{Watchdog, Watched};
use ringflow_dataplane::sink::discard::DiscardSink;
use ringflow_dataplane::source::watermark::WatermarkPolicy;
use ringflow_dataplane::source::{SourceOutput, SourceProgress, SourceReader};
use ringflow_dataplane::subtask::spec::{HeadSpec, OutputSpec, SubtaskSpec};
use ringflow_schemas::id::{ExecutionAttemptId, JobId};

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

#[test]
fn an_executor_that_parks_with_work_to_do_is_rescued() {
    let cpus = allowed_cpus().unwrap();
    let (events, _heard) = tokio::sync::mpsc::unbounded_channel();
    let config = CoreConfig {
        index: 0,
        cpu: *cpus.last().unwrap(),
        housekeeping: cpus.clone(),
        spin: SpinPolicy::For(0),
        // The fault needs the preemption timer to fire between two steps of the executor: the more often it fires, the
        // sooner that happens. At its default of 100 ms it is hardly ever seen.
        preempt_timer: Some(Duration::from_micros(100)),
        pool_buffers: 16,
    };
    let (core, thread) = start(config, events).unwrap();
    let watched = Watched {
        doorbell: Arc::clone(core.doorbell()),
        thread_id: core.thread_id(),
    };
    let watchdog = Watchdog::start(vec![watched]).unwrap();
    let discard = OutputSpec::Chained(
        "discard".into(),
        Box::new(DiscardSink::new()),
        Box::new(OutputSpec::End),
    );
    let attempt = ExecutionAttemptId {
        job: JobId(1),
        vertex: 0,
        subtask: 0,
        attempt: 0,
    };
    let subtask = SubtaskSpec {
        attempt,
        source_name: "endless".into(),
        parallelism: 1,
        max_parallelism: 128,
        head: HeadSpec::Source(Box::new(Endless), WatermarkPolicy::NONE, None, 1),
        output: discard,
    };
    core.send(CoreCommand::Deploy(vec![subtask])).unwrap();

    let clock = Clock::system();
    let counters = watchdog.counters();
    let parked = || counters.parked_with_work.load(Ordering::Relaxed);
    let deadline_ns = clock.now_ns() + 60_000_000_000;
    while parked() < 3 {
        assert!(
            clock.now_ns() < deadline_ns,
            "the fault was not provoked within 60 s: is the watchdog still needed?"
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
        "parked with work {} times, rescued each time, longest standstill {gap_ms} ms, {} sweeps",
        parked(),
        core.doorbell().sweeps()
    );
    assert!(
        gap_ms < 1_000,
        "a standstill of {gap_ms} ms, where the watchdog looks every millisecond"
    );
    core.send(CoreCommand::Shutdown).unwrap();
    thread.join().unwrap();
}
