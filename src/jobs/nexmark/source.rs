//! The generator as a source.
//!
//! Owns: [`NexmarkSource`]. Invariant: the subtasks together emit each event once, in the order of the positions they share out.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use ringflow_dataplane::error::Result as DataResult;
use ringflow_dataplane::runtime::clock::Clock;
use ringflow_dataplane::runtime::context::PrepareContext;
use ringflow_dataplane::source::pace::Pace;
use ringflow_dataplane::source::{SourceFactory, SourceOutput, SourceProgress, SourceReader};

use crate::api::data_stream::Source;
use crate::nexmark::schema::Event;
use crate::nexmark::{EmissionOrder, EventWriter, NexmarkConfig, Numbers, event_time_ms, numbers};
use crate::prelude::*;

/// The generator as a source: each subtask makes the events of every p-th position.
#[derive(Debug, Clone, Copy)]
pub(super) struct NexmarkSource {
    pub(super) config: NexmarkConfig,
    pub(super) order: EmissionOrder,
    pub(super) total: u64,
    pub(super) rate: Option<u64>,
    /// Events due this early are not measured.
    pub(super) warm_up: Duration,
}

impl Source for NexmarkSource {
    type Record = Event<'static>;

    fn factory(&self) -> Arc<dyn SourceFactory> {
        Arc::new(*self)
    }
}

impl SourceFactory for NexmarkSource {
    fn prepare(&self, context: &PrepareContext) -> DataResult<Box<dyn SourceReader>> {
        Ok(Box::new(NexmarkReader {
            source: *self,
            writer: EventWriter::new(self.config),
            numbers: numbers(context.subtask_index, context.parallelism, self.total),
            pace: None,
            measured_from_ns: 0,
        }))
    }

    fn divides_itself(&self) -> bool {
        true
    }
}

struct NexmarkReader {
    source: NexmarkSource,
    writer: EventWriter,
    /// Positions in the order of emission.
    numbers: Numbers,
    /// Set on the core: the schedule starts when the reader does.
    pace: Option<Pace>,
    measured_from_ns: u64,
}

impl SourceReader for NexmarkReader {
    /// Events that are due and not made yet: how far a paced source is behind.
    fn pending_records(&self) -> Option<u64> {
        let (pace, rate) = (self.pace?, self.source.rate?);
        let since_ns = Clock::system().now_ns().saturating_sub(pace.due_ns(0));
        let due = u128::from(since_ns) * u128::from(rate) / 1_000_000_000;
        let due = u64::try_from(due)
            .unwrap_or(u64::MAX)
            .min(self.source.total);
        Some((due / self.numbers.parallelism()).saturating_sub(self.numbers.position()))
    }

    fn open(&mut self, _doorbell_fd: RawFd) -> DataResult<()> {
        let start_ns = Clock::system().now_ns();
        self.pace = Some(Pace::new(self.source.rate, start_ns));
        let warm_up_ns = u64::try_from(self.source.warm_up.as_nanos()).unwrap_or(u64::MAX);
        self.measured_from_ns = start_ns.saturating_add(warm_up_ns);
        Ok(())
    }

    fn poll(
        &mut self,
        records_max: usize,
        output: &mut SourceOutput<'_>,
    ) -> DataResult<SourceProgress> {
        let pace = self
            .pace
            .unwrap_or_else(|| Pace::new(None, output.now_ns()));
        let (now_ns, wall_ns) = (output.now_ns(), output.wall_ns());
        for emitted in 0..records_max {
            let made = self.numbers.position();
            let Some(position) = self.numbers.next() else {
                return Ok(SourceProgress::Finished);
            };
            let due_ns = pace.due_ns(position);
            let origin_ns = if pace.is_unlimited() {
                // Without a schedule only the wait inside the job can be measured: once per poll is enough.
                let measured = emitted == 0 && now_ns >= self.measured_from_ns;
                if measured { wall_ns } else { 0 }
            } else if due_ns > now_ns {
                self.numbers.seek(made);
                return Ok(SourceProgress::Idle {
                    until_ns: Some(due_ns),
                });
            } else if due_ns < self.measured_from_ns {
                0
            } else {
                wall_ns - (now_ns - due_ns)
            };
            let number = self.source.order.number_at(position);
            let time = EventTime(event_time_ms(&self.source.config, number));
            output.emit(0, self.writer.write(number), time, origin_ns)?;
            if output.is_blocked() {
                break;
            }
        }
        Ok(SourceProgress::More)
    }
}
