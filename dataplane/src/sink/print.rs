//! Writes rows as lines of text to standard output.
//!
//! Owns: [`PrintSink`], and [`TopRows`], which keeps the greatest rows for the job's summary.
//! Invariant: lines are whole, also when several subtasks print; all lines are written when the job has finished.
//! Left out: files ([`super::file`]). Standard output that blocks (a pipe nobody reads) holds its core up, as in any program.

use std::io::Write;
use std::rc::Rc;

use crate::element::StopMode;
use crate::error::{Error, Result};
use crate::metrics::{Accumulator, AccumulatorValue, SubtaskMetrics};
use crate::operator::chain::Output;
use crate::operator::{Operator, Progress};
use crate::record::RecordRef;
use crate::runtime::clock::Clock;
use crate::runtime::context::OpenContext;
use crate::runtime::on_core::OnCore;
use crate::sink::discard::count_at_sink;

/// Lines are gathered up to this many bytes before they are written together.
const LINES_BYTES: usize = 64 << 10;

/// Renders a record as a line without its line end.
pub type Render = Box<dyn Fn(&RecordRef<'_>, &mut Vec<u8>) + Send>;

/// Prints records.
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct PrintSink {
    render: Render,
    lines: Vec<u8>,
    core: OnCore<(Rc<SubtaskMetrics>, Rc<Clock>)>,
}

impl PrintSink {
    /// A sink that prints what `render` makes of a record.
    #[must_use]
    pub fn new(render: Render) -> Self {
        Self {
            render,
            lines: Vec::with_capacity(LINES_BYTES),
            core: OnCore::empty(),
        }
    }

    fn write_out(&mut self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(&self.lines).and_then(|()| out.flush());
        self.lines.clear();
        written
            .map_err(|error| Error::operator(format!("cannot print to standard output: {error}")))
    }
}

impl Operator for PrintSink {
    fn open(&mut self, context: &OpenContext) -> Result<()> {
        self.core
            .set((Rc::clone(&context.metrics), Rc::clone(&context.clock)));
        Ok(())
    }

    fn on_record(&mut self, record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        (self.render)(record, &mut self.lines);
        self.lines.push(b'\n');
        if self.lines.len() >= LINES_BYTES {
            self.write_out()?;
        }
        let (metrics, clock) = self.core.get();
        count_at_sink(metrics, clock, record);
        Ok(())
    }

    /// Lines gathered in this turn leave at its end.
    fn wants_poll(&self) -> bool {
        true
    }

    fn poll(&mut self) -> Result<()> {
        if self.lines.is_empty() {
            Ok(())
        } else {
            self.write_out()
        }
    }

    fn on_end_of_input(&mut self, _mode: StopMode, _output: &mut Output) -> Result<Progress> {
        self.poll().map(|()| Progress::Done)
    }
}

/// Passes records on and keeps the greatest of them as rows of text, left as an accumulator.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct TopRows {
    name: String,
    limit: usize,
    order: Box<dyn Fn(&RecordRef<'_>) -> i64 + Send>,
    render: Render,
    rows: Vec<(i64, String)>,
    /// Order of the last row kept at the last shrink: what is below it cannot get in.
    threshold: i64,
}

impl TopRows {
    /// Keeps `limit` rows (at most [`crate::limits::ACCUMULATOR_ROWS_MAX`]) of greatest `order`.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        limit: u32,
        order: Box<dyn Fn(&RecordRef<'_>) -> i64 + Send>,
        render: Render,
    ) -> Self {
        let limit = limit.min(crate::limits::ACCUMULATOR_ROWS_MAX) as usize;
        Self {
            name: name.into(),
            limit,
            order,
            render,
            rows: Vec::new(),
            threshold: i64::MIN,
        }
    }

    fn shrink(&mut self) {
        self.rows
            .sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        self.rows.truncate(self.limit);
        if self.rows.len() == self.limit {
            self.threshold = self.rows.last().map_or(i64::MAX, |(order, _)| *order);
        }
    }
}

impl Operator for TopRows {
    fn on_record(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        let order = (self.order)(record);
        // Between shrinks the list may grow to twice its limit, so that sorting stays rare.
        if order >= self.threshold {
            let mut line = Vec::new();
            (self.render)(record, &mut line);
            self.rows
                .push((order, String::from_utf8_lossy(&line).into_owned()));
            if self.rows.len() >= 2 * self.limit {
                self.shrink();
            }
        }
        output.collect(record)
    }

    fn close(&mut self, accumulators: &mut Vec<Accumulator>) {
        self.shrink();
        let limit = u32::try_from(self.limit).expect("made of a u32");
        let rows = std::mem::take(&mut self.rows);
        accumulators.push(Accumulator {
            name: self.name.clone(),
            value: AccumulatorValue::TopRows { limit, rows },
        });
    }
}
