//! Running sums by key: the built-in job that benchmarks run.
//!
//! Owns: [`SumArgs`] and the job's graph:
//!
//! ```text
//! sum            readings -> key_by(key) -> reduce(sum of value) -> count and add up
//! sum --apart    the same, with the source in slots of its own
//! sum --chained  readings -> map -> count and add up, in one subtask: no exchange, no state
//! ```
//! Invariant: what comes out is known beforehand. A reading's value depends on its key alone, so a key's n-th running sum
//! is n x value in whatever order its records come, and the results `records` and `sum` do not depend on parallelism.
//! Left out: event time; readings carry none.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use ringflow_dataplane::source::SourceFactory;

use crate::api::data_stream::Source;
use crate::duration;
use crate::jobs::reading::Reading;
use crate::prelude::*;

pub mod readings;

use readings::Readings;

/// The job on the command line.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SumArgs {
    /// Number of readings to make; 0 makes them without end
    #[arg(long, default_value_t = 1_000_000)]
    pub records: u64,
    /// Number of keys
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    pub keys: u64,
    /// Readings per second, by an open loop; without it, as fast as possible
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// Readings due in this time after the start are not measured, such as 2s
    #[arg(long, default_value = "0s", value_name = "DURATION", value_parser = duration::parse)]
    pub warm_up: Duration,
    /// Seed: the same seed makes the same keys
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Put the source into slots of its own, apart from the sums
    #[arg(long)]
    pub apart: bool,
    /// No keys and no state: source, map and sink in one subtask
    #[arg(long)]
    pub chained: bool,
}

impl Default for SumArgs {
    fn default() -> Self {
        Self {
            records: 1_000_000,
            keys: 100_000,
            rate: None,
            warm_up: Duration::ZERO,
            seed: 0,
            apart: false,
            chained: false,
        }
    }
}

impl SumArgs {
    /// Arguments that make the same job.
    #[must_use]
    pub fn to_arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut put = |flag: &str, value: String| arguments.extend([format!("--{flag}"), value]);
        put("records", self.records.to_string());
        put("keys", self.keys.to_string());
        if let Some(rate) = self.rate {
            put("rate", rate.to_string());
        }
        put("warm-up", duration::text(self.warm_up));
        put("seed", self.seed.to_string());
        for (flag, given) in [("--apart", self.apart), ("--chained", self.chained)] {
            if given {
                arguments.push(flag.to_owned());
            }
        }
        arguments
    }

    /// Name of the job in lists.
    #[must_use]
    pub fn job_name(&self) -> &'static str {
        if self.chained { "sum-chained" } else { "sum" }
    }

    /// Puts the job into `env`.
    ///
    /// # Errors
    /// Flags that contradict each other.
    pub fn build(&self, env: &StreamExecutionEnvironment) -> crate::Result<()> {
        ensure!(
            !(self.apart && self.chained),
            "--apart and --chained contradict each other: a chain is one subtask"
        );
        let mut readings =
            env.from_source(self.clone(), WatermarkStrategy::no_watermarks(), "readings");
        if self.apart {
            readings = readings.slot_sharing_group("source");
        }
        let results = if self.chained {
            readings.map(|reading| mapped(&reading))
        } else {
            readings
                .key_by(|reading| reading.key())
                .reduce(|sum, reading| {
                    let value = sum.value().wrapping_add(reading.value());
                    Reading::new(sum.key(), value, reading.number())
                })
                .name("sum by key")
                .slot_sharing_group("default")
        };
        drop(results.discard_with_sum(|reading| reading.value()));
        Ok(())
    }
}

/// What the chained job's map makes of a reading.
#[inline]
#[must_use]
pub fn mapped(reading: &Reading) -> Reading {
    let value = reading
        .value()
        .wrapping_mul(2)
        .wrapping_add(reading.number());
    Reading::new(reading.key(), value, reading.number())
}

impl Source for SumArgs {
    type Record = Reading;

    fn factory(&self) -> Arc<dyn SourceFactory> {
        Arc::new(Readings::new(self))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::jobs::Arguments;

    #[test]
    fn arguments_make_the_same_job() {
        let all = SumArgs {
            records: 7,
            keys: 3,
            rate: Some(5),
            warm_up: Duration::from_millis(1_500),
            seed: 9,
            apart: true,
            chained: false,
        };
        let chained = SumArgs {
            chained: true,
            ..SumArgs::default()
        };
        for job in [SumArgs::default(), all, chained] {
            let parsed = Arguments::<SumArgs>::try_parse_from(job.to_arguments());
            assert_eq!(parsed.map(|parsed| parsed.job).unwrap(), job);
        }
        let defaults = Arguments::<SumArgs>::try_parse_from([""; 0]);
        assert_eq!(
            defaults.map(|parsed| parsed.job).unwrap(),
            SumArgs::default()
        );
    }

    #[test]
    fn flags_that_make_no_sense_are_refused() {
        for bad in [["--keys", "0"], ["--rate", "0"], ["--warm-up", "2"]] {
            assert!(
                Arguments::<SumArgs>::try_parse_from(bad).is_err(),
                "{bad:?}"
            );
        }
        let both = SumArgs {
            apart: true,
            chained: true,
            ..SumArgs::default()
        };
        let env = StreamExecutionEnvironment::for_plan();
        assert!(
            both.build(&env)
                .unwrap_err()
                .to_string()
                .contains("--apart")
        );
    }
}
