//! Source-to-sink latency of a job.
//!
//! Owns: the cumulative histogram and the last interval's, and reading what TaskManagers encode.
//! Invariant: whatever the bytes, [`decode`] neither panics nor allocates more than a histogram of
//! `limits::LATENCY_DIGITS` digits: the header is checked before the decoder sees it.
//! A terminal job keeps its percentiles and the encoded histogram (zero runs shrink it to a few KiB).
//! Left out: intervals of terminal jobs.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

use crate::limits;
use crate::time::Timestamp;

/// Cookie of the V2 encoding with word size 1, and the length of its header.
const V2_COOKIE: u32 = 0x1c84_9303 | 0x10;
const V2_HEADER_BYTES: usize = 40;

/// Bytes that are no histogram we read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a latency histogram: {0}")]
pub(crate) struct DecodeError(String);

/// Percentiles of a histogram, in us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LatencySummary {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p99_9: u64,
    pub(crate) p99_99: u64,
    pub(crate) max: u64,
    pub(crate) count: u64,
}

/// Latency of one job.
#[derive(Debug)]
pub(crate) enum JobLatency {
    Live(Box<LiveLatency>),
    Ended(Option<EndedLatency>),
}

/// What is left of a job that measured something: at most `limits::HISTOGRAM_BYTES_MAX`.
#[derive(Debug)]
pub(crate) struct EndedLatency {
    summary: LatencySummary,
    encoded: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct LiveLatency {
    /// Allocated with the first value: most jobs that wait have none.
    total: Option<Histogram<u64>>,
    current: Option<Histogram<u64>>,
    last: Option<LatencySummary>,
    rotated_at: Timestamp,
}

impl Default for JobLatency {
    fn default() -> Self {
        Self::Live(Box::default())
    }
}

impl JobLatency {
    /// Merges a report of one attempt.
    ///
    /// # Errors
    /// The bytes are no histogram: ignore them, log it.
    pub(crate) fn merge(&mut self, encoded: &[u8]) -> Result<(), DecodeError> {
        let Self::Live(live) = self else {
            return Ok(());
        };
        let reported = decode(encoded)?;
        for histogram in [&mut live.total, &mut live.current] {
            if histogram.is_none() {
                *histogram = Some(empty()?);
            }
            if let Some(histogram) = histogram {
                add(histogram, &reported);
            }
        }
        Ok(())
    }

    /// Ends the interval when it is old enough.
    pub(crate) fn on_tick(&mut self, now: Timestamp) {
        let Self::Live(live) = self else { return };
        if now >= live.rotated_at.after(limits::LATENCY_INTERVAL) {
            live.rotated_at = now;
            live.last = live.current.as_ref().and_then(summarize);
            if let Some(current) = &mut live.current {
                current.reset();
            }
        }
    }

    /// The job ended: keeps the percentiles and the encoded histogram, frees the rest.
    pub(crate) fn end(&mut self) {
        let ended = self.total().zip(self.encoded());
        *self = Self::Ended(ended.map(|(summary, encoded)| EndedLatency { summary, encoded }));
    }

    /// The whole histogram since the job's start, V2 encoded, in us; `None` when nothing was measured.
    pub(crate) fn encoded(&self) -> Option<Vec<u8>> {
        match self {
            Self::Live(live) => live.total.as_ref().and_then(encode),
            Self::Ended(ended) => ended.as_ref().map(|ended| ended.encoded.clone()),
        }
    }

    pub(crate) fn total(&self) -> Option<LatencySummary> {
        match self {
            Self::Live(live) => live.total.as_ref().and_then(summarize),
            Self::Ended(ended) => ended.as_ref().map(|ended| ended.summary),
        }
    }

    /// Of the last full interval.
    pub(crate) fn interval(&self) -> Option<LatencySummary> {
        match self {
            Self::Live(live) => live.last,
            Self::Ended(_) => None,
        }
    }
}

fn empty() -> Result<Histogram<u64>, DecodeError> {
    Histogram::new_with_bounds(
        limits::LATENCY_US_MIN,
        limits::LATENCY_US_MAX,
        limits::LATENCY_DIGITS,
    )
    .map_err(|error| DecodeError(error.to_string()))
}

/// Adds value by value where the bounds differ; what is beyond them counts at the bound.
fn add(histogram: &mut Histogram<u64>, reported: &Histogram<u64>) {
    let fits = reported.is_empty() || reported.max() <= limits::LATENCY_US_MAX;
    if fits && histogram.add(reported).is_ok() {
        return;
    }
    for step in reported.iter_recorded() {
        histogram.saturating_record_n(step.value_iterated_to(), step.count_at_value());
    }
}

/// Reads a V2 encoded histogram from outside.
pub(crate) fn decode(encoded: &[u8]) -> Result<Histogram<u64>, DecodeError> {
    let refuse = |why: &str| Err(DecodeError(why.to_owned()));
    if encoded.len() < V2_HEADER_BYTES || encoded.len() > limits::HISTOGRAM_BYTES_MAX {
        return refuse("length out of bounds");
    }
    let u32_at = |at: usize| {
        encoded
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u32::from_be_bytes)
    };
    let u64_at = |at: usize| (u64::from(u32_at(at)) << 32) | u64::from(u32_at(at + 4));
    if u32_at(0) != V2_COOKIE {
        return refuse("unknown encoding");
    }
    if u32_at(4) as usize != encoded.len() - V2_HEADER_BYTES {
        return refuse("payload length disagrees");
    }
    let digits = u32_at(12);
    let highest = u64_at(24);
    if digits > u32::from(limits::LATENCY_DIGITS)
        || highest > 2 * limits::LATENCY_US_MAX
        || u64_at(16) == 0
    {
        return refuse("bounds beyond ours");
    }
    let mut bytes = encoded;
    Deserializer::new()
        .deserialize(&mut bytes)
        .map_err(|error| DecodeError(error.to_string()))
}

fn encode(histogram: &Histogram<u64>) -> Option<Vec<u8>> {
    let mut encoded = Vec::new();
    V2Serializer::new()
        .serialize(histogram, &mut encoded)
        .ok()?;
    encoded.shrink_to_fit();
    (!histogram.is_empty() && encoded.len() <= limits::HISTOGRAM_BYTES_MAX).then_some(encoded)
}

fn summarize(histogram: &Histogram<u64>) -> Option<LatencySummary> {
    (!histogram.is_empty()).then(|| LatencySummary {
        p50: histogram.value_at_quantile(0.5),
        p90: histogram.value_at_quantile(0.9),
        p99: histogram.value_at_quantile(0.99),
        p99_9: histogram.value_at_quantile(0.999),
        p99_99: histogram.value_at_quantile(0.9999),
        max: histogram.max(),
        count: histogram.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(values: &[u64]) -> Vec<u8> {
        let mut histogram = empty().unwrap();
        for &value in values {
            histogram.record(value).unwrap();
        }
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(&histogram, &mut bytes)
            .unwrap();
        bytes
    }

    #[test]
    fn reports_add_up_and_the_interval_forgets() {
        let mut latency = JobLatency::default();
        latency.merge(&encode(&[100, 200])).unwrap();
        latency.merge(&encode(&[300])).unwrap();
        latency.on_tick(Timestamp(1000));
        assert_eq!(latency.interval().unwrap().count, 3);
        latency.merge(&encode(&[400])).unwrap();
        latency.on_tick(Timestamp(1500));
        assert_eq!(latency.interval().unwrap().count, 3);
        latency.on_tick(Timestamp(2000));
        assert_eq!(latency.interval().unwrap().count, 1);
        let live = latency.encoded();
        latency.end();
        let total = latency.total().unwrap();
        assert_eq!((total.count, total.max), (4, 400));
        assert_eq!(latency.encoded(), live);
        let whole = decode(&live.unwrap()).unwrap();
        assert_eq!((whole.len(), whole.min(), whole.max()), (4, 100, 400));
    }

    #[test]
    fn histograms_of_any_width_merge() {
        let mut wide = Histogram::<u64>::new(2).unwrap();
        wide.record(50).unwrap();
        wide.record(60_000_000).unwrap();
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&wide, &mut bytes).unwrap();
        let mut latency = JobLatency::default();
        latency.merge(&bytes).unwrap();
        assert_eq!(latency.total().unwrap().count, 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), honest in any::<bool>()) {
            if honest && bytes.len() >= V2_HEADER_BYTES {
                let header = encode(&[1]);
                let payload = u32::try_from(bytes.len() - V2_HEADER_BYTES).unwrap();
                bytes[..V2_HEADER_BYTES].copy_from_slice(&header[..V2_HEADER_BYTES]);
                bytes[4..8].copy_from_slice(&payload.to_be_bytes());
            }
            let mut latency = JobLatency::default();
            for _ in 0..3 {
                drop(latency.merge(&bytes));
                prop_assert_eq!(latency.merge(&encode(&[7, 3_000_000_000])), Ok(()));
            }
            latency.on_tick(Timestamp(5000));
            latency.end();
            prop_assert!(latency.total().is_some());
        }
    }
}
