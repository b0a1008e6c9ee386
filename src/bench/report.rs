//! How results look.
//!
//! Owns: [`Report`] and its two forms: one JSON object, or tables. Invariant: each figure stands beside its floor of the
//! same run and the hiccups of the same CPUs.
//! Left out: pictures ([`super::plot`]).

use std::io::Write;

use serde::Serialize;

use super::cpus::Cpus;
use super::figures::{Figures, Measured, Percentiles, Ratio};
use crate::cli::progress::grouped;

/// One table: what it is of, and its figures.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What tells it from the others: `road`, `slots_per_core`; nothing when there is one.
    #[serde(flatten)]
    pub of: serde_json::Map<String, serde_json::Value>,
    /// The figures.
    #[serde(flatten)]
    pub measured: Measured,
    /// The search for the highest sustainable rate, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sustainable: Option<Sustainable>,
}

impl Row {
    /// The only row.
    #[must_use]
    pub fn only(measured: Measured) -> Self {
        Self {
            of: serde_json::Map::new(),
            measured,
            sustainable: None,
        }
    }

    /// The row of `value`.
    #[must_use]
    pub fn of(name: &str, value: serde_json::Value, measured: Measured) -> Self {
        Self {
            of: [(name.to_owned(), value)].into_iter().collect(),
            ..Self::only(measured)
        }
    }
}

/// One rate that was tried.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Probe {
    /// Records per second.
    pub rate: u64,
    /// p99 latency there, in microseconds.
    pub p99_us: f64,
    /// It stayed under the limit.
    pub sustained: bool,
}

/// The highest rate whose p99 latency stayed under the limit.
#[derive(Debug, Clone, Serialize)]
pub struct Sustainable {
    /// Records per second; 0 when no rate that was tried was sustained.
    pub rate: u64,
    /// p99 latency at that rate, in microseconds.
    pub p99_us: Option<f64>,
    /// The limit, in microseconds.
    pub latency_limit_us: f64,
    /// What was tried, in order.
    pub probes: Vec<Probe>,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Which instrument.
    pub bench: &'static str,
    /// ringflow's version.
    pub version: &'static str,
    /// The data CPUs, one per side.
    pub data_cpus: [usize; 2],
    /// CPUs of everything else.
    pub housekeeping_cpus: Vec<usize>,
    /// The effective settings.
    pub settings: serde_json::Value,
    /// The figures, when there is one row of them.
    #[serde(flatten)]
    pub only: Option<Row>,
    /// The figures of several roads or settings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Row>,
}

impl Report {
    /// A report of `rows`.
    #[must_use]
    pub fn new(
        bench: &'static str,
        cpus: &Cpus,
        settings: serde_json::Value,
        rows: Vec<Row>,
    ) -> Self {
        let mut rows = rows;
        let single = rows.len() == 1 && rows.iter().all(|row| row.of.is_empty());
        Self {
            bench,
            version: crate::VERSION,
            data_cpus: cpus.data,
            housekeeping_cpus: cpus.housekeeping.clone(),
            settings,
            only: if single { rows.pop() } else { None },
            rows,
        }
    }

    /// Its rows, however many.
    pub fn all_rows(&self) -> impl Iterator<Item = &Row> {
        self.only.iter().chain(&self.rows)
    }

    /// As one JSON object on one line.
    ///
    /// # Errors
    /// `out` is closed.
    pub fn write_json(&self, mut out: impl Write) -> crate::Result<()> {
        serde_json::to_writer(&mut out, self)?;
        writeln!(out)?;
        Ok(())
    }

    /// As tables.
    ///
    /// # Errors
    /// `out` is closed.
    pub fn write_text(&self, out: &mut impl Write) -> std::io::Result<()> {
        let [first, second] = self.data_cpus;
        let data = if first == second {
            format!("data CPU {first}")
        } else {
            format!("data CPUs {first} and {second}")
        };
        write!(out, "bench {}: {data}", self.bench)?;
        if let serde_json::Value::Object(settings) = &self.settings {
            for (name, value) in settings {
                write!(out, ", {} {}", name.replace('_', " "), plain(value))?;
            }
        }
        writeln!(
            out,
            "\nmedians over rounds; the floor is a bare program on the same CPUs in the same rounds"
        )?;
        for row in self.all_rows() {
            for (name, value) in &row.of {
                writeln!(out, "\n{} {}", name.replace('_', " "), plain(value))?;
            }
            write_measured(out, &row.measured)?;
            if let Some(sustainable) = &row.sustainable {
                write_sustainable(out, sustainable)?;
            }
        }
        Ok(())
    }
}

pub(super) fn plain(value: &serde_json::Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

const LABEL: usize = 28;

fn write_measured(out: &mut impl Write, measured: &Measured) -> std::io::Result<()> {
    let sides = [("ringflow", &measured.engine), ("floor", &measured.floor)];
    if measured.engine.work.is_some() {
        writeln!(
            out,
            "\n{:LABEL$} {:>14} {:>18} {:>9} {:>12} {:>8} {:>8}",
            "work", "records/s", "records/CPU-second", "CPU-s", "records", "seconds", "GiB/s"
        )?;
    }
    for (name, side) in sides {
        write_work(out, name, side)?;
    }
    write_ratio(out, &measured.ratio_to_floor)?;
    writeln!(
        out,
        "\n{:LABEL$} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>11}",
        "times", "p50", "p90", "p99", "p99.9", "p99.99", "max", "samples"
    )?;
    for (name, side) in sides {
        for (what, times) in [
            ("latency, us", &side.latency_us),
            ("hand-off, ns", &side.hand_off_ns),
            ("half round trip, us", &side.half_round_trip_us),
        ] {
            if let Some(times) = times {
                write_times(out, &format!("{name} {what}"), times)?;
            }
        }
    }
    write_times(out, "hiccups of the CPUs, us", &measured.hiccup_us)
}

fn write_work(out: &mut impl Write, name: &str, side: &Figures) -> std::io::Result<()> {
    let Some(work) = side.work else {
        return Ok(());
    };
    let rate = side
        .gib_per_second
        .map_or_else(String::new, |rate| format!("{rate:.3}"));
    writeln!(
        out,
        "{name:LABEL$} {:>14} {:>18} {:>9.3} {:>12} {:>8.3} {rate:>8}",
        whole(work.records_per_second),
        whole(work.records_per_cpu_second),
        work.cpu_seconds,
        grouped(work.records),
        work.seconds,
    )
}

fn write_ratio(out: &mut impl Write, ratio: &Ratio) -> std::io::Result<()> {
    if let (Some(rate), Some(efficiency)) = (ratio.records_per_second, ratio.records_per_cpu_second)
    {
        writeln!(
            out,
            "{:LABEL$} {rate:>14.3} {efficiency:>18.3}",
            "ringflow / floor"
        )?;
    }
    Ok(())
}

fn write_times(out: &mut impl Write, name: &str, times: &Percentiles) -> std::io::Result<()> {
    // A quantile that fewer samples than its own rarity stand behind is only the maximum in disguise.
    let shown = |value: f64, samples: u64| {
        if times.count < samples {
            "-".to_owned()
        } else {
            time(value)
        }
    };
    writeln!(
        out,
        "{name:LABEL$} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>11}",
        time(times.p50),
        shown(times.p90, 10),
        shown(times.p99, 100),
        shown(times.p99_9, 1_000),
        shown(times.p99_99, 10_000),
        time(times.max),
        grouped(times.count)
    )
}

fn write_sustainable(out: &mut impl Write, found: &Sustainable) -> std::io::Result<()> {
    writeln!(
        out,
        "\nsustainable: {} records/s with p99 under {} us",
        grouped(found.rate),
        time(found.latency_limit_us)
    )?;
    for probe in &found.probes {
        let verdict = if probe.sustained {
            "sustained"
        } else {
            "too fast"
        };
        writeln!(
            out,
            "{:>16} records/s   p99 {:>10} us   {verdict}",
            grouped(probe.rate),
            time(probe.p99_us)
        )?;
    }
    Ok(())
}

/// Three digits are enough.
pub(super) fn time(value: f64) -> String {
    if value < 100.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are positive and far below 2^63"
)]
pub(super) fn whole(rate: f64) -> String {
    grouped(rate as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::{Round, Work};

    fn report(rows: Vec<Row>) -> Report {
        let cpus = Cpus {
            allowed: vec![0, 1, 2],
            data: [2, 1],
            engine: vec![2, 1],
            housekeeping: vec![0],
        };
        Report::new("latency", &cpus, serde_json::json!({ "rate": 7 }), rows)
    }

    fn measured() -> Measured {
        let times = |p50| {
            Some(Percentiles {
                p50,
                p99: 99.0,
                max: 1234.0,
                count: 100,
                ..Percentiles::default()
            })
        };
        let side = |seconds, p50| Figures {
            work: Some(Work::new(1_000_000, seconds, 0.5)),
            latency_us: times(p50),
            ..Figures::default()
        };
        Measured::from(vec![Round {
            engine: side(2.0, 7.25),
            floor: side(1.0, 2.5),
            hiccup_us: times(0.04).unwrap_or_default(),
        }])
    }

    fn text(report: &Report) -> String {
        let mut text = Vec::new();
        report.write_text(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn tables_show_engine_floor_and_hiccups_and_no_quantile_without_samples() {
        let text = text(&report(vec![Row::only(measured())]));
        let line = |start: &str| {
            let found = text.lines().find(|line| line.starts_with(start));
            found
                .unwrap_or_else(|| panic!("no {start} in {text}"))
                .split_whitespace()
                .collect::<Vec<_>>()
        };
        assert!(text.contains("data CPUs 2 and 1, rate 7"), "{text}");
        assert_eq!(line("ringflow / floor")[3..], ["0.500", "1.000"]);
        let latency = line("ringflow latency, us");
        assert_eq!(
            latency[3..],
            ["7.25", "0.00", "99.00", "-", "-", "1234", "100"]
        );
        assert_eq!(line("floor latency, us")[3], "2.50");
        assert_eq!(line("hiccups of the CPUs, us")[5], "0.04");
    }

    #[test]
    fn one_row_lies_flat_in_the_json_and_several_in_rows() {
        let one = serde_json::to_value(report(vec![Row::only(measured())])).unwrap();
        assert_eq!(one["latency_us"]["p50"], 7.25);
        assert_eq!(one["floor"]["latency_us"]["p50"], 2.5);
        assert_eq!(one["rounds"][0]["records"], 1_000_000);
        assert!(one.get("rows").is_none());
        let rows = [1, 2].map(|slots| Row::of("slots_per_core", slots.into(), measured()));
        let several = report(rows.into());
        assert!(text(&several).contains("\nslots per core 2\n"));
        let several = serde_json::to_value(several).unwrap();
        assert_eq!(several["rows"][1]["slots_per_core"], 2);
        assert!(several.get("floor").is_none());
    }
}
