//! Payloads that are no valid record: found, counted, reported without flooding the log.
//!
//! Owns: [`BadRecords`] and the user's choice, [`OnBadRecord`]. Invariant: a payload that does not pass is never given
//! on; each is either counted or fails the subtask, with topic, partition and offset.
//! Left out: keeping them (a side output for bad records).

use crate::error::{Error, Result};
use crate::limits::RECORD_BYTES_MAX;
use crate::runtime::context::SplitAssignment;
use crate::source::kafka::VerifyRecord;

/// Bad records that are logged one by one, before the log becomes sparse.
const LOGGED_SINGLY: u64 = 5;

/// Then one line at most in this time.
const LOG_PERIOD_NS: u64 = 1_000_000_000;

/// What to do with a payload that is no valid record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnBadRecord {
    /// Count it, log it sparsely, go on.
    Skip,
    /// Fail the subtask.
    #[default]
    Fail,
}

/// Judges payloads and remembers what was logged about them.
#[derive(Debug)]
pub struct BadRecords {
    verify: VerifyRecord,
    policy: OnBadRecord,
    count: u64,
    logged_ns: u64,
    unlogged: u64,
}

impl BadRecords {
    /// Judges by `verify` and the engine's own limits.
    #[must_use]
    pub fn new(verify: VerifyRecord, policy: OnBadRecord) -> Self {
        Self {
            verify,
            policy,
            count: 0,
            logged_ns: 0,
            unlogged: 0,
        }
    }

    /// Checks one payload.
    ///
    /// # Errors
    /// Why it is no valid record.
    #[inline]
    pub fn check(&self, payload: &[u8]) -> Result<(), String> {
        if payload.is_empty() {
            return Err("it has no value (a tombstone)".to_owned());
        }
        if payload.len() > RECORD_BYTES_MAX {
            return Err(format!(
                "its {} bytes are more than the {RECORD_BYTES_MAX} of a record",
                payload.len()
            ));
        }
        (self.verify)(payload)
    }

    /// Takes note of a payload that did not pass: `Ok` when it is to be skipped.
    ///
    /// # Errors
    /// The user chose to fail.
    pub fn on_bad_record(
        &mut self,
        split: &SplitAssignment,
        offset: i64,
        reason: &str,
        now_ns: u64,
    ) -> Result<()> {
        let SplitAssignment {
            topic,
            kafka_partition,
        } = split;
        if self.policy == OnBadRecord::Fail {
            return Err(Error::operator(format!(
                "bad record at offset {offset} of partition {kafka_partition} of topic `{topic}`: {reason}; to go on \
                 without such records, choose to skip them"
            )));
        }
        if let Some(unlogged) = self.admit(now_ns) {
            let count = self.count;
            tracing::warn!(
                topic,
                kafka_partition,
                offset,
                count,
                unlogged,
                "skipped a bad record: {reason}"
            );
        }
        Ok(())
    }

    /// Whether to log this one; with how many went unlogged before it.
    fn admit(&mut self, now_ns: u64) -> Option<u64> {
        self.count += 1;
        if self.count > LOGGED_SINGLY && now_ns.saturating_sub(self.logged_ns) < LOG_PERIOD_NS {
            self.unlogged += 1;
            return None;
        }
        self.logged_ns = now_ns;
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(policy: OnBadRecord) -> BadRecords {
        BadRecords::new(
            |bytes| {
                if bytes == b"bad" {
                    Err("not a bid".to_owned())
                } else {
                    Ok(())
                }
            },
            policy,
        )
    }

    fn split() -> SplitAssignment {
        SplitAssignment {
            topic: "bids".to_owned(),
            kafka_partition: 3,
        }
    }

    #[test]
    fn tombstones_oversized_and_unverified_payloads_are_bad() {
        let judge = judge(OnBadRecord::Skip);
        assert!(judge.check(b"good").is_ok());
        assert_eq!(judge.check(b"bad").unwrap_err(), "not a bid");
        assert!(judge.check(b"").unwrap_err().contains("tombstone"));
        assert!(judge.check(&vec![1; RECORD_BYTES_MAX]).is_ok());
        assert!(
            judge
                .check(&vec![1; RECORD_BYTES_MAX + 1])
                .unwrap_err()
                .contains("are more than")
        );
    }

    #[test]
    fn failing_names_topic_partition_offset_and_reason() {
        let message = judge(OnBadRecord::Fail)
            .on_bad_record(&split(), 17, "not a bid", 0)
            .unwrap_err()
            .to_string();
        assert!(
            message
                .starts_with("bad record at offset 17 of partition 3 of topic `bids`: not a bid"),
            "{message}"
        );
    }

    #[test]
    fn the_log_gets_the_first_ones_then_one_a_second() {
        let mut judge = judge(OnBadRecord::Skip);
        let second = 1_000_000_000;
        // 100 a second for three seconds, from second 10 on.
        let logged: Vec<_> = (0..300)
            .filter_map(|i| {
                judge
                    .admit(10 * second + i * second / 100)
                    .map(|before| (i, before))
            })
            .collect();
        assert_eq!(
            logged,
            [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (104, 99), (204, 99)]
        );
    }
}
