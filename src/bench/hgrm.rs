//! The percentile distribution of a histogram as text, as HdrHistogram's plotting tools read it (`.hgrm`).
//!
//! Owns: [`write()`]. Shape: columns value, percentile, total count, 1/(1-percentile), five steps per halving of the distance
//! to 100 %. Left out: the compressed log format.

use std::io::Write;

use hdrhistogram::Histogram;

/// Steps per halving of the distance to 100 %.
const STEPS: u32 = 5;

/// Writes `histogram`, with its values divided by `unit`.
///
/// # Errors
/// `out` does not take it.
#[allow(
    clippy::cast_precision_loss,
    reason = "times below an hour, shown with three digits"
)]
pub fn write(histogram: &Histogram<u64>, unit: f64, mut out: impl Write) -> std::io::Result<()> {
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut total = 0;
    for step in histogram.iter_quantiles(STEPS) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (
            step.value_iterated_to() as f64 / unit,
            step.quantile_iterated_to(),
        );
        write!(out, "{value:>12.3} {quantile:2.12} {total:>10}")?;
        if quantile < 1.0 {
            write!(out, " {:>14.2}", 1.0 / (1.0 - quantile))?;
        }
        writeln!(out)?;
    }
    writeln!(
        out,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]",
        histogram.mean() / unit,
        histogram.stdev() / unit
    )?;
    writeln!(
        out,
        "#[Max     = {:>12.3}, Total count    = {:>12}]",
        histogram.max() as f64 / unit,
        histogram.len()
    )?;
    // Each bucket tells 2 x 10^digits values apart, rounded up to a power of two.
    let sub_buckets = (2 * 10u64.pow(u32::from(histogram.sigfig()))).next_power_of_two();
    writeln!(
        out,
        "#[Buckets = {:>12}, SubBuckets     = {sub_buckets:>12}]",
        histogram.buckets()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_ends_at_all_values_and_the_maximum() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        for value in 1..=1000 {
            histogram.record(value).unwrap();
        }
        let mut text = Vec::new();
        write(&histogram, 1.0, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                line.split_whitespace()
                    .map(|word| word.parse().unwrap())
                    .collect()
            })
            .collect();
        assert_eq!(rows.last().unwrap(), &[1000.0, 1.0, 1000.0]);
        let half = rows.iter().find(|row| row[1] == 0.5).unwrap();
        assert_eq!(half[..], [500.0, 0.5, 500.0, 2.0]);
        assert!(
            rows.windows(2)
                .all(|two| two[0][0] <= two[1][0] && two[0][2] <= two[1][2])
        );
        assert!(
            text.contains("#[Max     =     1000.000, Total count    =         1000]"),
            "{text}"
        );
        assert!(text.contains("SubBuckets     =         2048]"), "{text}");
    }
}
