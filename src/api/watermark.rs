//! How a source's event times and watermarks come about.
//!
//! Owns: [`WatermarkStrategy`], [`WatermarkGenerator`]. Invariant: as Flink's: watermark = greatest timestamp of the split -
//! bound - 1 ms, unless a generator says otherwise.
//! Left out: nothing of Flink's `WatermarkStrategy` but generators that see the clock.

use std::sync::Arc;
use std::time::Duration;

use ringflow_dataplane::record::{EventTime, Record, RecordRef, Row, RowKind};
use ringflow_dataplane::source::TimestampAssigner;
use ringflow_dataplane::source::alignment::WatermarkAlignment;
use ringflow_dataplane::source::watermark::{
    Generation, WatermarkGenerator as ErasedGenerator, WatermarkOutput, WatermarkPolicy,
};

/// Makes the watermarks of one split from its records.
///
/// Source: Flink `WatermarkGenerator`.
pub trait WatermarkGenerator<R: Record>: Send + 'static {
    /// A record, with its event time.
    fn on_event(&mut self, row: Row<'_, R>, output: &mut WatermarkOutput);

    /// Called after each poll of the source (where Flink calls it every 200 ms), so that watermarks need not be made with
    /// every record.
    fn on_periodic_emit(&mut self, output: &mut WatermarkOutput) {
        let _ = output;
    }
}

/// A generator behind a source whose records are `R`.
struct Typed<R, G>(G, std::marker::PhantomData<fn(R)>);

impl<R: Record, G: WatermarkGenerator<R>> ErasedGenerator for Typed<R, G> {
    fn on_event(&mut self, record: &RecordRef<'_>, output: &mut WatermarkOutput) {
        // SAFETY: the source gives out verified records of `R` (the generator sits behind it).
        self.0.on_event(unsafe { Row::read(record) }, output);
    }

    fn on_periodic_emit(&mut self, output: &mut WatermarkOutput) {
        self.0.on_periodic_emit(output);
    }
}

/// Event times and watermarks of a source of `R`.
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct WatermarkStrategy<R> {
    pub(crate) policy: WatermarkPolicy,
    pub(crate) assigner: Option<TimestampAssigner>,
    record: std::marker::PhantomData<fn(R)>,
}

impl<R: Record> WatermarkStrategy<R> {
    fn with(policy: WatermarkPolicy) -> Self {
        Self {
            policy,
            assigner: None,
            record: std::marker::PhantomData,
        }
    }

    /// Records may be up to `bound` behind the newest of their split.
    #[must_use]
    pub fn bounded_out_of_orderness(bound: Duration) -> Self {
        let bound = i64::try_from(bound.as_millis()).unwrap_or(i64::MAX);
        Self::with(WatermarkPolicy::bounded(bound, None))
    }

    /// Timestamps only grow within a split.
    #[must_use]
    pub fn monotonous_timestamps() -> Self {
        Self::bounded_out_of_orderness(Duration::ZERO)
    }

    /// Watermarks by a generator of the user's; `make` makes one for each split.
    ///
    /// ```
    /// use ringflow::prelude::*;
    ///
    /// /// Every hundredth number says that all before it are there.
    /// struct Hundreds;
    ///
    /// impl WatermarkGenerator<Number> for Hundreds {
    ///     fn on_event(&mut self, number: Row<'_, Number>, output: &mut WatermarkOutput) {
    ///         if number.value() % 100 == 0 {
    ///             output.emit_watermark(number.timestamp());
    ///         }
    ///     }
    /// }
    ///
    /// let env = StreamExecutionEnvironment::create_local_environment();
    /// let strategy = WatermarkStrategy::for_generator(|| Hundreds);
    /// env.from_source(SequenceSource::new(1000), strategy, "numbers").discard();
    /// # assert_eq!(env.execute("punctuated")?.records_out, 1000);
    /// # Ok::<(), ringflow::Error>(())
    /// ```
    #[must_use]
    pub fn for_generator<G: WatermarkGenerator<R>>(
        make: impl Fn() -> G + Send + Sync + 'static,
    ) -> Self {
        Self::with(WatermarkPolicy {
            generation: Generation::Custom(Arc::new(move || {
                let typed = Typed(make(), std::marker::PhantomData);
                Box::new(typed) as Box<dyn ErasedGenerator>
            })),
            idle_after_ns: None,
            alignment: None,
        })
    }

    /// No watermark before the end of the stream.
    #[must_use]
    pub fn no_watermarks() -> Self {
        Self::with(WatermarkPolicy::NONE)
    }

    /// Takes the event time (milliseconds since the epoch) out of the record, in place of the source's own.
    #[must_use]
    pub fn timestamp(
        mut self,
        assigner: impl for<'a> Fn(Row<'a, R>) -> i64 + Send + Sync + 'static,
    ) -> Self {
        self.assigner = Some(Arc::new(move |bytes| {
            let record = RecordRef {
                bytes,
                timestamp: EventTime::NONE,
                key_hash: 0,
                kind: RowKind::Insert,
                origin_ns: 0,
            };
            // SAFETY: the source gives out verified records of `R` (the assigner sits behind it).
            EventTime(assigner(unsafe { Row::read(&record) }))
        }));
        self
    }

    /// Keeps this source near the others of `group` in the same job: while its watermark is more than `max_drift` ahead of the
    /// slowest of them, it is not read; of a source with several splits, those that are ahead are not. Compared every second.
    ///
    /// A source without any watermark yet holds all others up; one that is idle ([`WatermarkStrategy::idleness`]) or at its
    /// end, and one of [`WatermarkStrategy::no_watermarks`], holds up none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ringflow::prelude::*;
    ///
    /// let env = StreamExecutionEnvironment::create_local_environment();
    /// let aligned = || WatermarkStrategy::monotonous_timestamps().alignment("both", Duration::from_secs(20));
    /// let left = env.from_source(SequenceSource::new(1000), aligned(), "left");
    /// let right = env.from_source(SequenceSource::new(1000), aligned(), "right");
    /// left.union([right]).discard();
    /// # assert_eq!(env.execute("aligned")?.records_out, 2000);
    /// # Ok::<(), ringflow::Error>(())
    /// ```
    ///
    /// Source: Flink `WatermarkStrategy.withWatermarkAlignment`.
    #[must_use]
    pub fn alignment(self, group: &str, max_drift: Duration) -> Self {
        self.alignment_every(group, max_drift, Duration::from_secs(1))
    }

    /// [`WatermarkStrategy::alignment`], compared every `update_interval` (10 ms to 1 h, which the JobManager checks).
    #[must_use]
    pub fn alignment_every(
        mut self,
        group: &str,
        max_drift: Duration,
        update_interval: Duration,
    ) -> Self {
        self.policy.alignment = Some(WatermarkAlignment {
            group: Arc::from(group),
            max_drift_ms: i64::try_from(max_drift.as_millis()).unwrap_or(i64::MAX),
            update_interval,
        });
        self
    }

    /// A split without records for this long does not hold the others up.
    #[must_use]
    pub fn idleness(mut self, after: Duration) -> Self {
        self.policy.idle_after_ns = Some(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        self
    }
}
