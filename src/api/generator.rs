//! Sources that make their records from numbers: for trying things out, for tests, for load.
//!
//! Owns: [`DataGeneratorSource`], and the reader behind it and behind [`SequenceSource`](super::sequence::SequenceSource).
//! Invariant: subtask i of p makes the records of every p-th number, from i on; with a rate, record n is due n / rate seconds
//! after the start, whichever subtask makes it (an open loop: latency counts from then).
//!
//! Source: Flink `DataGeneratorSource`, `RateLimiterStrategy.perSecond`.

use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::sync::Arc;

use flatbuffers::{FlatBufferBuilder, WIPOffset};
use ringflow_dataplane::error::Result as DataResult;
use ringflow_dataplane::record::{EventTime, Record, StructRecord};
use ringflow_dataplane::runtime::clock::Clock;
use ringflow_dataplane::runtime::context::PrepareContext;
use ringflow_dataplane::source::pace::Pace;
use ringflow_dataplane::source::{SourceFactory, SourceOutput, SourceProgress, SourceReader};

use crate::api::data_stream::Source;

/// Where one record is made, reused for the next.
#[derive(Default)]
pub(crate) struct Making {
    builder: FlatBufferBuilder<'static>,
    bytes: Vec<u8>,
}

impl Making {
    pub(crate) fn plain(&mut self, record: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(record);
    }
}

/// Makes record n; says where it lies and its event time, if it has one by itself.
pub(crate) type Make = Arc<dyn Fn(u64, &mut Making) -> EventTime + Send + Sync>;

/// Makes `count` records, the n-th from the number n. They have no event time unless a watermark strategy gives them one.
///
/// ```
/// use ringflow::prelude::*;
///
/// let squares = DataGeneratorSource::structs(100, |n| Number::new(n * n));
/// let env = StreamExecutionEnvironment::create_local_environment();
/// env.from_source(squares, WatermarkStrategy::no_watermarks(), "squares").discard();
/// # assert_eq!(env.execute("squares")?.records_out, 100);
/// # Ok::<(), ringflow::Error>(())
/// ```
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct DataGeneratorSource<R> {
    numbered: Numbered,
    record: PhantomData<fn() -> R>,
}

impl<R: StructRecord> DataGeneratorSource<R> {
    /// Struct records; `make` gets the number.
    #[must_use]
    pub fn structs(count: u64, make: impl Fn(u64) -> R + Send + Sync + 'static) -> Self {
        Self::new(count, move |n, making| making.plain(make(n).as_bytes()))
    }
}

impl<R: Record> DataGeneratorSource<R> {
    fn new(count: u64, write: impl Fn(u64, &mut Making) + Send + Sync + 'static) -> Self {
        let make = move |n: u64, making: &mut Making| {
            write(n, making);
            EventTime::NONE
        };
        Self {
            numbered: Numbered {
                count,
                rate: None,
                make: Arc::new(make),
            },
            record: PhantomData,
        }
    }

    /// Table records; `make` gets the number and a builder, and returns the table it wrote there.
    #[must_use]
    pub fn tables<F>(count: u64, make: F) -> Self
    where
        F: Fn(u64, &mut FlatBufferBuilder<'static>) -> WIPOffset<R::View<'static>>
            + Send
            + Sync
            + 'static,
    {
        Self::new(count, move |n, making| {
            let builder = &mut making.builder;
            builder.reset();
            let root = make(n, builder);
            builder.finish_minimal(root);
            making.bytes.clear();
            making.bytes.extend_from_slice(builder.finished_data());
        })
    }

    /// So many records per second of wall time, from all subtasks together; at least 1.
    #[must_use]
    pub fn rate(mut self, per_second: u64) -> Self {
        self.numbered.rate = Some(per_second.max(1));
        self
    }
}

impl<R: Record> Source for DataGeneratorSource<R> {
    type Record = R;

    fn factory(&self) -> Arc<dyn SourceFactory> {
        Arc::new(self.numbered.clone())
    }
}

/// Records of numbers.
#[derive(Clone)]
pub(crate) struct Numbered {
    pub(crate) count: u64,
    pub(crate) rate: Option<u64>,
    pub(crate) make: Make,
}

impl SourceFactory for Numbered {
    fn prepare(&self, context: &PrepareContext) -> DataResult<Box<dyn SourceReader>> {
        Ok(Box::new(NumberedReader::new(self.clone(), context)))
    }

    fn divides_itself(&self) -> bool {
        true
    }
}

struct NumberedReader {
    numbered: Numbered,
    next: u64,
    step: u64,
    making: Making,
    /// Set on the core: the schedule starts when the reader does.
    pace: Option<Pace>,
}

impl NumberedReader {
    fn new(numbered: Numbered, context: &PrepareContext) -> Self {
        Self {
            numbered,
            next: u64::from(context.subtask_index),
            step: u64::from(context.parallelism),
            making: Making::default(),
            pace: None,
        }
    }
}

impl SourceReader for NumberedReader {
    fn open(&mut self, _doorbell_fd: RawFd) -> DataResult<()> {
        self.pace = Some(Pace::new(self.numbered.rate, Clock::system().now_ns()));
        Ok(())
    }

    fn poll(
        &mut self,
        records_max: usize,
        output: &mut SourceOutput<'_>,
    ) -> DataResult<SourceProgress> {
        let (now_ns, wall_ns) = (output.now_ns(), output.wall_ns());
        let pace = self.pace.unwrap_or_else(|| Pace::new(None, now_ns));
        for emitted in 0..records_max {
            if self.next >= self.numbered.count {
                return Ok(SourceProgress::Finished);
            }
            if output.is_blocked() {
                break;
            }
            let due_ns = pace.due_ns(self.next);
            let origin_ns = if pace.is_unlimited() {
                // There is no schedule to be late for: one sample per poll shows the wait inside the job.
                if emitted == 0 { wall_ns } else { 0 }
            } else if due_ns > now_ns {
                return Ok(SourceProgress::Idle {
                    until_ns: Some(due_ns),
                });
            } else {
                wall_ns - (now_ns - due_ns)
            };
            let time = (self.numbered.make)(self.next, &mut self.making);
            output.emit(0, &self.making.bytes, time, origin_ns)?;
            self.next = self.next.saturating_add(self.step);
        }
        Ok(SourceProgress::More)
    }
}
