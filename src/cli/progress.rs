//! What a person who waits sees: a line each second, and a summary.
//!
//! Owns: [`Observer`], [`Silent`], [`Terminal`], [`print_summary`]. Invariant: progress goes to standard error, results to
//! standard output, so that output can be piped.

use std::io::{IsTerminal, Write};

use ringflow_dataplane::runtime::clock::Clock;

use crate::cli::client::Progress;
use crate::cli::execute::Summary;
use crate::cli::interrupt::Interrupts;

/// Hears how a job goes.
pub trait Observer {
    /// It was accepted.
    fn submitted(&mut self, _job: &str) {}
    /// Something the user should know.
    fn warn(&mut self, warning: &str) {
        tracing::warn!("{warning}");
    }
    /// How it stands.
    fn progress(&mut self, _progress: &Progress) {}
    /// It has ended.
    fn ended(&mut self) {}
    /// The user asked for an end.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Says nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {}

/// Talks to a person, or to a log when standard error is no terminal.
#[derive(Debug)]
pub struct Terminal {
    clock: Clock,
    interactive: bool,
    last: Option<(u64, u64, u64)>,
    line_open: bool,
    interrupts: Option<Interrupts>,
}

impl Default for Terminal {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            interactive: std::io::stderr().is_terminal(),
            last: None,
            line_open: false,
            interrupts: None,
        }
    }
}

/// A count with thousands separated.
#[must_use]
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn say(text: &str) {
    // Nobody to tell when standard error is closed.
    drop(std::io::stderr().write_all(text.as_bytes()));
}

impl Observer for Terminal {
    fn interrupted(&self) -> bool {
        self.interrupts.as_ref().is_some_and(Interrupts::any)
    }

    fn submitted(&mut self, job: &str) {
        // Not earlier: a local environment has confined the process to its housekeeping cores by now.
        self.interrupts = Interrupts::listen();
        say(&format!("Job has been submitted with JobID {job}\n"));
    }

    fn warn(&mut self, warning: &str) {
        say(&format!("warning: {warning}\n"));
    }

    fn progress(&mut self, progress: &Progress) {
        let now_ns = self.clock.now_ns();
        let Some((then_ns, records_in, records_out)) = self.last else {
            self.last = Some((now_ns, progress.records_in, progress.records_out));
            return;
        };
        let elapsed_ns = now_ns.saturating_sub(then_ns);
        if !self.interactive || elapsed_ns < 1_000_000_000 {
            return;
        }
        let per_second = |now: u64, then: u64| {
            let rate =
                u128::from(now.saturating_sub(then)) * 1_000_000_000 / u128::from(elapsed_ns);
            grouped(u64::try_from(rate).unwrap_or(u64::MAX))
        };
        let latency = progress
            .latency_us_interval
            .map_or_else(String::new, |latency| {
                format!(
                    "  latency us p50 {} p99 {} p99.9 {}",
                    latency.p50, latency.p99, latency.p99_9
                )
            });
        say(&format!(
            "\r\x1b[K{}  in {}/s  out {}/s  lag {}{latency}",
            progress.state,
            per_second(progress.records_in, records_in),
            per_second(progress.records_out, records_out),
            grouped(progress.pending_records),
        ));
        self.line_open = true;
        self.last = Some((now_ns, progress.records_in, progress.records_out));
    }

    fn ended(&mut self) {
        if std::mem::take(&mut self.line_open) {
            say("\n");
        }
    }
}

/// Writes the summary for a person, or as one JSON object.
///
/// # Errors
/// Standard output is closed.
pub fn print_summary(summary: &Summary, json: bool) -> crate::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, summary)?;
        writeln!(out)?;
        return Ok(());
    }
    if let Some(serde_json::Value::Array(rows)) = &summary.result {
        writeln!(out, "\nresult ({} rows)", rows.len())?;
        for row in rows {
            writeln!(out, "  {row}")?;
        }
    }
    if let Some(serde_json::Value::Object(values)) = &summary.result {
        writeln!(out)?;
        for (name, value) in values {
            writeln!(out, "{name:<22} {value}")?;
        }
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates are positive and far below 2^63"
    )]
    let whole = |rate: f64| grouped(rate as u64);
    writeln!(
        out,
        "\njob                    {} {}",
        summary.job_id, summary.state
    )?;
    writeln!(
        out,
        "records                {} in, {} out",
        grouped(summary.records),
        grouped(summary.records_out)
    )?;
    writeln!(
        out,
        "time                   {:.3} s, {:.3} CPU-seconds",
        summary.seconds, summary.cpu_seconds
    )?;
    writeln!(
        out,
        "records per second     {}",
        whole(summary.records_per_second)
    )?;
    writeln!(
        out,
        "records per CPU-second {}",
        whole(summary.records_per_cpu_second)
    )?;
    if summary.late_records_dropped > 0 {
        writeln!(
            out,
            "late records dropped   {}",
            grouped(summary.late_records_dropped)
        )?;
    }
    if summary.bad_records > 0 {
        writeln!(
            out,
            "bad records skipped    {}",
            grouped(summary.bad_records)
        )?;
    }
    if summary.state_bytes > 0 {
        writeln!(
            out,
            "state at most          {} bytes",
            grouped(summary.state_bytes)
        )?;
    }
    if let Some(latency) = summary.latency_us {
        writeln!(
            out,
            "\nlatency, source to sink, microseconds ({} samples)",
            grouped(latency.count)
        )?;
        writeln!(
            out,
            "  {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "p50", "p90", "p99", "p99.9", "p99.99", "max"
        )?;
        // A quantile that fewer samples than its own rarity stand behind is only the maximum in disguise.
        let shown = |value: u64, samples: u64| {
            if latency.count >= samples {
                value.to_string()
            } else {
                "-".to_owned()
            }
        };
        let (p99, p99_9) = (shown(latency.p99, 100), shown(latency.p99_9, 1_000));
        writeln!(
            out,
            "  {:>10} {:>10} {p99:>10} {p99_9:>10} {:>10} {:>10}",
            latency.p50,
            shown(latency.p90, 10),
            shown(latency.p99_99, 10_000),
            latency.max
        )?;
    }
    Ok(())
}
