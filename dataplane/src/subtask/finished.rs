//! Subtasks that had finished before their job was restored.
//!
//! Owns: what such a subtask runs instead of its operators, which are not even built: [`source`] and [`output`].
//! Invariant: no record leaves it. It passes on that event time and its input have ended, as it did when it finished: a
//! source at once, another subtask when that has come over all of its channels, so that its producers get rid of what
//! they send.
//! Left out: which subtasks those are (the deployment says so).
//!
//! Source: Flink `FinishedOperatorChain`, `FinishedOnRestoreInput`, FLIP-147.

use std::os::fd::RawFd;

use crate::error::{Error, Result};
use crate::operator::Operator;
use crate::operator::chain::Output;
use crate::record::RecordRef;
use crate::source::watermark::WatermarkPolicy;
use crate::source::{SourceOutput, SourceProgress, SourceReader};
use crate::subtask::spec::{HeadSpec, OutputSpec};

/// A source that has nothing more to give.
struct FinishedSource;

impl SourceReader for FinishedSource {
    fn open(&mut self, _doorbell_fd: RawFd) -> Result<()> {
        Ok(())
    }

    fn poll(
        &mut self,
        _records_max: usize,
        _output: &mut SourceOutput<'_>,
    ) -> Result<SourceProgress> {
        Ok(SourceProgress::Finished)
    }
}

/// Stands for all operators of a chain: signals pass, records must not come.
struct FinishedOperator;

impl Operator for FinishedOperator {
    fn on_record(&mut self, _record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        Err(Error::operator(
            "a record reached a subtask that had finished before its job was restored, so one of its producers must run again: \
             restore the job from a checkpoint in which both have finished, or neither",
        ))
    }
}

/// The head of a finished source.
#[must_use]
pub fn source() -> HeadSpec {
    HeadSpec::Source(
        Box::new(FinishedSource),
        WatermarkPolicy::NONE,
        None,
        0,
        None,
    )
}

/// What stands for the finished chain of operator `name` with these result partitions, whatever operator wrote them.
#[must_use]
pub fn output(name: impl Into<String>, partitions: Vec<OutputSpec>) -> OutputSpec {
    let partitions = Box::new(OutputSpec::Several(partitions));
    OutputSpec::Chained(name.into(), Box::new(FinishedOperator), partitions)
}
