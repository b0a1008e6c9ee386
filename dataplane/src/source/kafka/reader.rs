//! One subtask's Kafka reader: partitions drained in turn, records given on as they lie in librdkafka's memory.
//!
//! Owns: [`KafkaReader`]. One queue per partition, drained in batches, in turn: so no partition gets ahead of another by
//! more than a batch while both have records (less state waits for the slower one's event time), each partition's
//! fetched bytes have their own bound, and a partition can be held back by leaving its queue alone.
//! Invariant: `poll` reports idle only after it found every queue empty in a row; the doorbell rings when a queue that
//! was found empty gets something ([`crate::kafka::ready`]), so no wake-up is lost. A batch that the output did not take in full is
//! gone on with before its queue is asked again, so order holds.
//! Left out: asking a cluster (`source::kafka`), what an offset means ([`super::split`]).
//!
//! `origin_ns` of a record is the wall time of the poll that gave it on: latency counts from when this process got to
//! it. Time spent in the broker, and fetched but unread, is not in it; Kafka's lag tells of that.

use std::fmt;
use std::os::fd::RawFd;
use std::sync::Arc;

use rdkafka::error::RDKafkaErrorCode;

use crate::error::{Error, Result};
use crate::kafka::client::{ClientErrors, NativeClient};
use crate::kafka::log::{ClientError, is_transient};
use crate::kafka::queue::{MessageBatch, PartitionQueue};
use crate::record::EventTime;
use crate::runtime::context::SplitAssignment;
use crate::runtime::doorbell::Bell;
use crate::runtime::housekeeping::OffCore;
use crate::source::kafka::bad_records::BadRecords;
use crate::source::kafka::split::{Admission, Split};
use crate::source::{SourceOutput, SourceProgress, SourceReader};

/// What a reader needs of its output: [`SourceOutput`], or a test's.
pub(crate) trait RecordOutput {
    fn emit(
        &mut self,
        split: usize,
        bytes: &[u8],
        timestamp: EventTime,
        origin_ns: u64,
    ) -> Result<()>;
    fn count_bad_record(&mut self);
    fn finish_split(&mut self, split: usize);
    fn is_blocked(&self) -> bool;
    fn may_read(&self, split: usize) -> bool;
    fn now_ns(&self) -> u64;
    fn wall_ns(&self) -> u64;
}

impl RecordOutput for SourceOutput<'_> {
    #[inline]
    fn emit(
        &mut self,
        split: usize,
        bytes: &[u8],
        timestamp: EventTime,
        origin_ns: u64,
    ) -> Result<()> {
        SourceOutput::emit(self, split, bytes, timestamp, origin_ns)
    }
    fn count_bad_record(&mut self) {
        SourceOutput::count_bad_record(self);
    }
    fn finish_split(&mut self, split: usize) {
        SourceOutput::finish_split(self, split);
    }
    #[inline]
    fn is_blocked(&self) -> bool {
        SourceOutput::is_blocked(self)
    }
    fn may_read(&self, split: usize) -> bool {
        SourceOutput::may_read(self, split)
    }
    fn now_ns(&self) -> u64 {
        SourceOutput::now_ns(self)
    }
    fn wall_ns(&self) -> u64 {
        SourceOutput::wall_ns(self)
    }
}

/// One partition's records: taken from its queue, and still in it. Dropped in this order.
#[derive(Debug)]
pub(crate) struct Lane {
    batch: MessageBatch,
    queue: PartitionQueue,
}

impl Lane {
    pub(crate) fn new(queue: PartitionQueue, client: Arc<NativeClient>) -> Self {
        Self {
            batch: MessageBatch::new(client),
            queue,
        }
    }
}

/// What a reader holds of librdkafka. Dropped on a housekeeping thread, in this order.
#[derive(Debug, Default)]
pub(crate) struct Fetching {
    /// By split.
    pub(crate) lanes: Vec<Lane>,
    /// `None` without a client, because there is nothing to read.
    pub(crate) errors: Option<ClientErrors>,
}

/// Reads the partitions of one subtask.
pub struct KafkaReader {
    /// By split, as `fetching.lanes`.
    splits: Vec<Split>,
    fetching: OffCore<Fetching>,
    bounded: bool,
    bad_records: BadRecords,
    /// Splits that are not over.
    open_splits: usize,
    /// Whether splits that were over from the start have been announced.
    announced: bool,
    /// The lane whose turn it is.
    turn: usize,
}

impl KafkaReader {
    pub(crate) fn new(
        splits: Vec<Split>,
        fetching: OffCore<Fetching>,
        bounded: bool,
        bad_records: BadRecords,
    ) -> Self {
        debug_assert_eq!(splits.len(), fetching.lanes.len(), "one lane per split");
        let open_splits = splits.iter().filter(|split| !split.is_over()).count();
        Self {
            splits,
            fetching,
            bounded,
            bad_records,
            open_splits,
            announced: false,
            turn: 0,
        }
    }

    /// Offset of the next record of each partition, in the order of the assignment: what a checkpoint keeps.
    pub fn positions(&self) -> impl Iterator<Item = (&SplitAssignment, i64)> {
        self.splits
            .iter()
            .map(|split| (split.assignment(), split.position()))
    }

    pub(crate) fn poll_into(
        &mut self,
        records_max: usize,
        output: &mut impl RecordOutput,
    ) -> Result<SourceProgress> {
        self.announce(output);
        self.fail_by_errors()?;
        let mut budget = records_max;
        let mut empty_in_a_row = 0;
        while empty_in_a_row < self.fetching.lanes.len() && self.open_splits > 0 {
            empty_in_a_row += 1;
            if !self.splits[self.turn].is_over() && output.may_read(self.turn) {
                let Lane { batch, queue } = &mut self.fetching.lanes[self.turn];
                if batch.is_empty() {
                    queue.drain(batch);
                }
                if !batch.is_empty() {
                    empty_in_a_row = 0;
                    if !self.give_on(&mut budget, output)? {
                        return Ok(SourceProgress::More);
                    }
                }
            }
            self.turn = (self.turn + 1) % self.fetching.lanes.len();
        }
        // Draining may have found some.
        self.fail_by_errors()?;
        Ok(match self.bounded && self.open_splits == 0 {
            true => SourceProgress::Finished,
            false => SourceProgress::Idle { until_ns: None },
        })
    }

    /// Errors that librdkafka does not recover from, unless nothing is left to read anyway.
    fn fail_by_errors(&self) -> Result<()> {
        let error = self.fetching.errors.as_ref().and_then(ClientErrors::take);
        match error {
            Some(ClientError { code, text }) if self.open_splits > 0 => {
                let advice = if is_gone(code) {
                    "; was the topic deleted?"
                } else {
                    ""
                };
                Err(Error::operator(format!(
                    "cannot go on reading from Kafka: {text}{advice}"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Gives on the batch of the lane whose turn it is. False: some is left, because the output or the budget is full.
    fn give_on(&mut self, budget: &mut usize, output: &mut impl RecordOutput) -> Result<bool> {
        let (index, origin_ns) = (self.turn, output.wall_ns());
        let split = &mut self.splits[index];
        let batch = &mut self.fetching.lanes[index].batch;
        while !batch.is_empty() {
            if *budget == 0 || output.is_blocked() {
                return Ok(false);
            }
            let Some(message) = batch.take_next() else {
                continue;
            };
            if let Some(code) = message.error() {
                on_news(split, code, &message.error_text(), message.offset())?;
            } else {
                let offset = message.offset();
                let admission = split.on_record(offset);
                if admission != Admission::Behind {
                    *budget -= 1;
                    let payload = message.payload();
                    match self.bad_records.check(payload) {
                        Ok(()) => output.emit(index, payload, message.timestamp(), origin_ns)?,
                        Err(reason) => {
                            output.count_bad_record();
                            let now_ns = output.now_ns();
                            self.bad_records.on_bad_record(
                                split.assignment(),
                                offset,
                                &reason,
                                now_ns,
                            )?;
                        }
                    }
                }
            }
            if split.is_over() {
                drop(message);
                batch.clear();
                self.open_splits -= 1;
                output.finish_split(index);
            }
        }
        Ok(true)
    }

    /// Splits that were over before anything was read hold no watermark back.
    fn announce(&mut self, output: &mut impl RecordOutput) {
        if !self.announced {
            self.announced = true;
            for (index, _) in self
                .splits
                .iter()
                .enumerate()
                .filter(|(_, split)| split.is_over())
            {
                output.finish_split(index);
            }
        }
    }
}

/// The partition does not exist any more.
fn is_gone(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition
    )
}

/// Something else than a record came over a partition's queue.
fn on_news(split: &mut Split, code: RDKafkaErrorCode, text: &str, offset: i64) -> Result<()> {
    use RDKafkaErrorCode as Code;
    if code == Code::PartitionEOF {
        split.on_partition_end(offset);
        return Ok(());
    }
    let position = split.position();
    if is_transient(code) {
        tracing::warn!(split = ?split.assignment(), position, "reading is interrupted: {text}");
        return Ok(());
    }
    let SplitAssignment {
        topic,
        kafka_partition,
    } = split.assignment();
    let partition = format!("partition {kafka_partition} of topic `{topic}`");
    Err(Error::operator(match code {
        Code::AutoOffsetReset | Code::OffsetOutOfRange => format!(
            "{partition} no longer has offset {position}: {text}; its records were deleted before they were read (is \
             retention shorter than this job's lag?) or the topic was created anew"
        ),
        code if is_gone(code) => {
            format!("{partition} is gone, at offset {position}: {text}; was the topic deleted?")
        }
        Code::TopicAuthorizationFailed => {
            format!("{partition} may not be read by this user: {text}")
        }
        _ => format!("{partition} cannot be read at offset {position}: {text} ({code:?})"),
    }))
}

impl SourceReader for KafkaReader {
    fn open(&mut self, doorbell_fd: RawFd) -> Result<()> {
        if let Some(errors) = &self.fetching.errors {
            let bell = Bell::new(doorbell_fd)?;
            errors.ring(bell.clone());
            self.fetching
                .lanes
                .iter()
                .for_each(|lane| lane.queue.ring(bell.clone()));
        }
        Ok(())
    }

    fn poll(
        &mut self,
        records_max: usize,
        output: &mut SourceOutput<'_>,
    ) -> Result<SourceProgress> {
        self.poll_into(records_max, output)
    }

    fn pending_records(&self) -> Option<u64> {
        let open = self
            .splits
            .iter()
            .zip(&self.fetching.lanes)
            .filter(|(split, _)| !split.is_over());
        let lag = |(split, lane): (&Split, &Lane)| {
            let lag = lane.queue.lag(split.position())?;
            let wanted = split
                .end()
                .map(|end| u64::try_from(end - split.position()).unwrap_or(0));
            Some(wanted.map_or(lag, |wanted| lag.min(wanted)))
        };
        open.map(lag).try_fold(0, |sum, lag| Some(sum + lag?))
    }
}

impl fmt::Debug for KafkaReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaReader")
            .field("splits", &self.splits)
            .field("turn", &self.turn)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtime::housekeeping::Housekeeping;
    use crate::source::kafka::OnBadRecord;

    #[derive(Default)]
    struct Counts {
        finished: Vec<usize>,
    }

    impl RecordOutput for Counts {
        fn emit(&mut self, _: usize, _: &[u8], _: EventTime, _: u64) -> Result<()> {
            Ok(())
        }
        fn count_bad_record(&mut self) {}
        fn finish_split(&mut self, split: usize) {
            self.finished.push(split);
        }
        fn is_blocked(&self) -> bool {
            false
        }
        fn may_read(&self, _: usize) -> bool {
            true
        }
        fn now_ns(&self) -> u64 {
            0
        }
        fn wall_ns(&self) -> u64 {
            0
        }
    }

    fn split(position: i64, end: Option<i64>) -> Split {
        Split::new(
            SplitAssignment {
                topic: "bids".to_owned(),
                kafka_partition: 3,
            },
            position,
            end,
        )
    }

    fn reader_of_nothing(bounded: bool) -> KafkaReader {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let housekeeping = Housekeeping::new(runtime.handle().clone());
        let fetching = OffCore::new(Fetching::default(), housekeeping);
        runtime.shutdown_timeout(Duration::from_secs(1));
        KafkaReader::new(
            Vec::new(),
            fetching,
            bounded,
            BadRecords::new(|_| Ok(()), OnBadRecord::Fail),
        )
    }

    #[test]
    fn without_splits_a_bounded_reader_is_finished_and_an_unbounded_one_idle() {
        let mut output = Counts::default();
        assert_eq!(
            reader_of_nothing(true).poll_into(10, &mut output).unwrap(),
            SourceProgress::Finished
        );
        let idle = SourceProgress::Idle { until_ns: None };
        assert_eq!(
            reader_of_nothing(false).poll_into(10, &mut output).unwrap(),
            idle
        );
        assert!(output.finished.is_empty());
    }

    #[test]
    fn errors_name_topic_partition_and_offset() {
        for code in [
            RDKafkaErrorCode::AutoOffsetReset,
            RDKafkaErrorCode::UnknownTopicOrPartition,
            RDKafkaErrorCode::TopicAuthorizationFailed,
            RDKafkaErrorCode::InvalidMessage,
        ] {
            let message = on_news(&mut split(41, None), code, "said the broker", 0)
                .unwrap_err()
                .to_string();
            assert!(message.contains("partition 3 of topic `bids`"), "{message}");
            assert!(message.contains("said the broker"), "{message}");
        }
        on_news(
            &mut split(41, None),
            RDKafkaErrorCode::BrokerTransportFailure,
            "gone",
            0,
        )
        .unwrap();
    }

    #[test]
    fn the_end_of_a_partition_ends_a_bounded_split() {
        let mut split = split(4, Some(9));
        on_news(&mut split, RDKafkaErrorCode::PartitionEOF, "", 9).unwrap();
        assert!(split.is_over());
    }
}
