//! The figures of a round, and their medians over rounds.
//!
//! Owns: [`Percentiles`], [`Work`], [`Figures`], [`Round`], [`Measured`]. Names are those of the run summary, so that the
//! same reader takes both. Invariant: a reported figure is the median of the rounds' figures, ratios included: what
//! disturbs one round disturbs neither.
//! Left out: how they look ([`super::report`]).

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest time told apart: one hour in nanoseconds.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// A histogram of nanoseconds with 3 digits.
///
/// # Panics
/// Never: the bounds are constants.
#[must_use]
pub fn nanoseconds() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("1 ns < 1 h, 3 digits: legal bounds")
}

/// Quantiles of a time.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[allow(missing_docs, reason = "named after the quantile")]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub p99_99: f64,
    pub max: f64,
    /// Values measured.
    pub count: u64,
}

#[allow(
    clippy::cast_precision_loss,
    reason = "times below an hour in nanoseconds, shown with three digits"
)]
impl Percentiles {
    /// Of a histogram whose values are `unit`ths of what is shown: 1000 for nanoseconds shown as microseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>, unit: f64) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / unit;
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: histogram.max() as f64 / unit,
            count: histogram.len(),
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count"
    )]
    fn median(all: &[Self]) -> Option<Self> {
        (!all.is_empty()).then(|| Self {
            p50: median(all, |one| one.p50),
            p90: median(all, |one| one.p90),
            p99: median(all, |one| one.p99),
            p99_9: median(all, |one| one.p99_9),
            p99_99: median(all, |one| one.p99_99),
            max: median(all, |one| one.max),
            count: median(all, |one| one.count as f64) as u64,
        })
    }
}

/// The middle one of a field's values; of an even number, the mean of the two in the middle. NaN-free by construction.
fn median<T>(all: &[T], field: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = all.iter().map(field).collect();
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (odd, middle) if odd % 2 == 1 => values[middle],
        (_, middle) => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Records and what they cost.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Work {
    /// Records.
    pub records: u64,
    /// Time they took.
    pub seconds: f64,
    /// Records per second of that time.
    pub records_per_second: f64,
    /// CPU time of everyone who handled them.
    pub cpu_seconds: f64,
    /// Records per second of CPU time.
    pub records_per_cpu_second: f64,
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
impl Work {
    /// Derives the rates.
    #[must_use]
    pub fn new(records: u64, seconds: f64, cpu_seconds: f64) -> Self {
        let per = |time: f64| {
            if time > 0.0 {
                records as f64 / time
            } else {
                0.0
            }
        };
        Self {
            records,
            seconds,
            records_per_second: per(seconds),
            cpu_seconds,
            records_per_cpu_second: per(cpu_seconds),
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count"
    )]
    fn median(all: &[Self]) -> Option<Self> {
        (!all.is_empty()).then(|| Self {
            records: median(all, |one| one.records as f64) as u64,
            seconds: median(all, |one| one.seconds),
            records_per_second: median(all, |one| one.records_per_second),
            cpu_seconds: median(all, |one| one.cpu_seconds),
            records_per_cpu_second: median(all, |one| one.records_per_cpu_second),
        })
    }
}

/// What one side, engine or floor, came to. Absent: not measured on this side.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Figures {
    /// Records and their cost.
    #[serde(flatten)]
    pub work: Option<Work>,
    /// Payload carried per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gib_per_second: Option<f64>,
    /// From when a record was due until it had arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<Percentiles>,
    /// Records per second of the run in which latency was measured, where that is a run of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_rate: Option<f64>,
    /// Bytes of state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_bytes: Option<f64>,
    /// From one side to the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hand_off_ns: Option<Percentiles>,
    /// Half of an unpaced round trip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half_round_trip_us: Option<Percentiles>,
}

impl Figures {
    fn median(all: &[Self]) -> Self {
        fn present<T>(all: &[Figures], field: impl Fn(&Figures) -> Option<T>) -> Vec<T> {
            all.iter().filter_map(field).collect()
        }
        let number = |field: fn(&Self) -> Option<f64>| {
            let values = present(all, field);
            (!values.is_empty()).then(|| median(&values, |value| *value))
        };
        Self {
            work: Work::median(&present(all, |one| one.work)),
            gib_per_second: number(|one| one.gib_per_second),
            latency_rate: number(|one| one.latency_rate),
            state_bytes: number(|one| one.state_bytes),
            latency_us: Percentiles::median(&present(all, |one| one.latency_us)),
            hand_off_ns: Percentiles::median(&present(all, |one| one.hand_off_ns)),
            half_round_trip_us: Percentiles::median(&present(all, |one| one.half_round_trip_us)),
        }
    }
}

/// Engine divided by floor. Absent: one of them has no such figure.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[allow(missing_docs, reason = "named after the figure")]
pub struct Ratio {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_per_cpu_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us_p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hand_off_ns_p50: Option<f64>,
}

impl Ratio {
    fn median(rounds: &[Round]) -> Self {
        let of = |field: fn(&Figures) -> Option<f64>| {
            let ratios: Vec<f64> = rounds
                .iter()
                .filter_map(|round| field(&round.engine).zip(field(&round.floor)))
                .filter(|(_, floor)| *floor > 0.0)
                .map(|(engine, floor)| engine / floor)
                .collect();
            (!ratios.is_empty()).then(|| median(&ratios, |ratio| *ratio))
        };
        Self {
            records_per_second: of(|side| side.work.map(|work| work.records_per_second)),
            records_per_cpu_second: of(|side| side.work.map(|work| work.records_per_cpu_second)),
            latency_us_p50: of(|side| side.latency_us.map(|latency| latency.p50)),
            hand_off_ns_p50: of(|side| side.hand_off_ns.map(|hand_off| hand_off.p50)),
        }
    }
}

/// One round: engine, floor and hiccups, one after the other.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Round {
    /// ringflow.
    #[serde(flatten)]
    pub engine: Figures,
    /// The bare program.
    pub floor: Figures,
    /// How long the CPUs were away while nothing of ours ran.
    pub hiccup_us: Percentiles,
}

/// Medians over rounds, and the rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// ringflow.
    #[serde(flatten)]
    pub engine: Figures,
    /// The bare program, in the same rounds.
    pub floor: Figures,
    /// Engine divided by floor, round by round.
    pub ratio_to_floor: Ratio,
    /// How long the CPUs were away while nothing of ours ran.
    pub hiccup_us: Percentiles,
    /// What was measured, in order.
    pub rounds: Vec<Round>,
}

impl From<Vec<Round>> for Measured {
    fn from(rounds: Vec<Round>) -> Self {
        let each = |field: fn(&Round) -> Figures| rounds.iter().map(field).collect::<Vec<_>>();
        let hiccups: Vec<_> = rounds.iter().map(|round| round.hiccup_us).collect();
        Self {
            engine: Figures::median(&each(|round| round.engine)),
            floor: Figures::median(&each(|round| round.floor)),
            ratio_to_floor: Ratio::median(&rounds),
            hiccup_us: Percentiles::median(&hiccups).unwrap_or_default(),
            rounds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(engine: f64, floor: f64) -> Round {
        let side = |seconds| Figures {
            work: Some(Work::new(100, seconds, 2.0 * seconds)),
            ..Figures::default()
        };
        Round {
            engine: side(engine),
            floor: side(floor),
            hiccup_us: Percentiles::default(),
        }
    }

    #[test]
    fn medians_are_taken_field_by_field_and_ratios_round_by_round() {
        let measured = Measured::from(vec![round(4.0, 2.0), round(1.0, 1.0), round(10.0, 1.0)]);
        let work = measured.engine.work.unwrap();
        assert_eq!(
            (work.records, work.seconds, work.cpu_seconds),
            (100, 4.0, 8.0)
        );
        assert_eq!(measured.ratio_to_floor.records_per_second, Some(0.5));
        assert!(measured.engine.latency_us.is_none());
        let even = Measured::from(vec![round(1.0, 1.0), round(3.0, 1.0)]);
        assert_eq!(even.engine.work.unwrap().seconds, 2.0);
    }

    #[test]
    fn percentiles_are_shown_in_their_unit() {
        let mut histogram = nanoseconds();
        for value in 1..=100 {
            histogram.record(value * 1000).unwrap();
        }
        let shown = Percentiles::of(&histogram, 1000.0);
        assert!(
            (shown.p50 - 50.0).abs() < 0.1 && (shown.max - 100.0).abs() < 0.1,
            "{shown:?}"
        );
        assert_eq!(shown.count, 100);
    }
}
