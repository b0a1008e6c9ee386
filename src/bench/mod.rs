//! `ringflow bench`: the instruments with which users measure ringflow on their machines.
//!
//! Owns: [`run`], [`Session`] (what all instruments share). In the order a measurement goes: [`args`], [`cpus`], then in each
//! round [`hiccup`], a [`floor`], and the engine ([`cluster`] and [`job`], or [`engine_channel`]); [`figures`], [`report`],
//! [`hgrm`], [`plot`], [`result_file`]. The instruments: [`latency`], [`throughput`], [`exchange`],
//! [`nexmark`].
//! Invariant: one thing runs at a time: each engine round has a cluster of its own, which has ended before anything else
//! is measured; rounds alternate which of engine and floor goes first.
//! Left out: comparisons with other engines, and figures of other machines.

use std::io::Write;

use anyhow::Context;
use ringflow_dataplane::runtime::clock::Clock;

pub mod args;
pub mod cluster;
pub mod cpus;
pub mod engine_channel;
pub mod exchange;
pub mod figures;
pub mod floor;
pub mod hgrm;
pub mod hiccup;
pub mod job;
pub mod latency;
pub mod nexmark;
pub mod plot;
pub mod report;
pub mod result_file;
pub mod throughput;

use crate::cli::memory::StateArgs;
use args::{Bench, BenchArgs, CommonArgs};
use cluster::{ClusterLayout, receive_text, spin_text};
use cpus::{Cpus, Sides, Stop, confine};
use figures::{Figures, Measured, Round};
use report::Report;
use result_file::ResultFile;

use crate::cli::args::OutputFormat;
use crate::cli::interrupt::Interrupts;

/// How long hiccups are measured in each round.
const HICCUP_NS: u64 = 1_000_000_000;

/// Measures what the command line asks for.
///
/// # Errors
/// CPUs are missing, a process or file cannot be had, or interrupted.
pub fn run(args: &BenchArgs) -> crate::Result<()> {
    match &args.bench {
        Bench::Exchange(args) => exchange::run(args),
        Bench::Latency(args) => latency::run(args),
        Bench::Nexmark(args) => nexmark::run(args),
        Bench::Throughput(args) => throughput::run(args),
    }
}

/// What the instruments share.
#[derive(Debug)]
pub struct Session<'a> {
    /// Where things run.
    pub cpus: Cpus,
    common: &'a CommonArgs,
    _plot: Option<ResultFile>,
    interrupts: Option<Interrupts>,
}

impl<'a> Session<'a> {
    /// Decides on CPUs, leaves the data CPUs free, and listens for Ctrl-C.
    ///
    /// # Errors
    /// A CPU that is not there.
    pub fn open(common: &'a CommonArgs, sides: Sides) -> crate::Result<Self> {
        let cpus = Cpus::decide(
            common.cores.as_ref(),
            common.housekeeping_cores.as_ref(),
            sides,
        )?;
        let plot = common
            .plot
            .as_deref()
            .map(ResultFile::promise)
            .transpose()?;
        if cpus
            .housekeeping
            .iter()
            .any(|cpu| cpus.engine.contains(cpu))
        {
            say(
                "warning: no CPU is left for the JobManager, the client and the kernel's threads: they interrupt what is \
                 measured, most of all its tail",
            );
        }
        confine(&cpus.housekeeping).context("cannot move to the housekeeping cores")?;
        Ok(Self {
            cpus,
            common,
            _plot: plot,
            interrupts: Interrupts::listen(),
        })
    }

    /// For the threads of one measurement.
    #[must_use]
    pub fn stop(&self) -> Stop<'_> {
        Stop::new(self.interrupts.as_ref())
    }

    /// Two TaskManagers of one data CPU each.
    #[must_use]
    pub fn two_task_managers(&self, slots_per_core: u32) -> ClusterLayout {
        let [first, second] = self.cpus.data;
        self.layout(vec![vec![first], vec![second]], slots_per_core)
    }

    /// TaskManagers with these data CPUs.
    #[must_use]
    pub fn layout(&self, task_managers: Vec<Vec<usize>>, slots_per_core: u32) -> ClusterLayout {
        ClusterLayout {
            task_managers,
            slots_per_core,
            spin: self.common.spin,
            network_memory_bytes: self.common.network_memory,
            receive: self.common.receive,
            zero_copy_send: self.common.zero_copy_send,
            state: StateArgs::default(),
        }
    }

    /// An instrument's settings, and those of the TaskManagers.
    #[must_use]
    pub fn settings(&self, mut settings: serde_json::Value) -> serde_json::Value {
        settings["spin"] = spin_text(self.common.spin).into();
        settings["receive"] = receive_text(self.common.receive).into();
        settings["zero_copy_send"] = self.common.zero_copy_send.into();
        settings
    }

    /// Measures hiccups, floor and engine in each round, floor and engine in turn first.
    ///
    /// # Errors
    /// What either says, or interrupted.
    pub fn alternate(
        &self,
        what: &str,
        mut engine: impl FnMut(&Stop<'_>) -> crate::Result<Figures>,
        mut floor: impl FnMut(&Stop<'_>) -> crate::Result<Figures>,
    ) -> crate::Result<Measured> {
        let clock = Clock::system();
        let mut rounds = Vec::new();
        for number in 0..self.common.rounds {
            let start_ns = clock.now_ns();
            let hiccup_us = hiccup::measure(&self.cpus, HICCUP_NS, &self.stop())?;
            let (engine, floor) = if number % 2 == 0 {
                let floor = floor(&self.stop())?;
                (engine(&self.stop())?, floor)
            } else {
                let engine = engine(&self.stop())?;
                (engine, floor(&self.stop())?)
            };
            rounds.push(Round {
                engine,
                floor,
                hiccup_us,
            });
            let took_ms = (clock.now_ns() - start_ns) / 1_000_000;
            say(&format!(
                "{what}: round {} of {} took {took_ms} ms",
                number + 1,
                self.common.rounds
            ));
        }
        self.stop().check()?;
        Ok(Measured::from(rounds))
    }

    /// Writes the report as asked for.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn print(&self, report: &Report) -> crate::Result<()> {
        let mut out = std::io::stdout().lock();
        match self.common.output {
            OutputFormat::Json => report.write_json(&mut out),
            OutputFormat::Text => Ok(report.write_text(&mut out)?),
        }
    }
}

/// Progress and warnings go to standard error.
fn say(text: &str) {
    // Nobody to tell when standard error is closed.
    drop(writeln!(std::io::stderr(), "{text}"));
}
