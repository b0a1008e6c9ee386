//! Watermarks at a source: one per split, and the least of them out.
//!
//! Owns: [`WatermarkPolicy`] (what the user chose) and [`SplitWatermarks`] (a subtask's splits).
//! Invariant: the watermark of a split is its greatest timestamp - bound - 1 ms, as in Flink; what is given out never goes
//! back; a split without records for the idle time does not hold the others up; a subtask without splits is idle by itself.
//! Left out: reading the clock (time comes in with each call).

use crate::element::Watermark;
use crate::record::EventTime;

/// How watermarks are made at a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatermarkPolicy {
    /// How far a record may be behind the greatest timestamp, in ms; `None`: no watermarks but the final one.
    pub out_of_orderness_ms: Option<i64>,
    /// A split without records for this long is idle; `None`: never.
    pub idle_after_ns: Option<u64>,
}

impl WatermarkPolicy {
    /// No watermarks until the end of the stream.
    pub const NONE: Self = Self {
        out_of_orderness_ms: None,
        idle_after_ns: None,
    };
}

#[derive(Debug, Clone, Copy)]
struct Split {
    greatest: Option<EventTime>,
    active_ns: u64,
    finished: bool,
}

/// The splits of one source subtask.
#[derive(Debug)]
pub struct SplitWatermarks {
    policy: WatermarkPolicy,
    /// The policy looks at records.
    tracks_records: bool,
    splits: Vec<Split>,
    emitted: Option<EventTime>,
    idle: bool,
}

impl SplitWatermarks {
    /// `splits` splits, all active from `now_ns` on. No splits: idle from the start.
    #[must_use]
    pub fn new(policy: WatermarkPolicy, splits: usize, now_ns: u64) -> Self {
        let split = Split {
            greatest: None,
            active_ns: now_ns,
            finished: false,
        };
        Self {
            policy,
            tracks_records: policy != WatermarkPolicy::NONE,
            splits: vec![split; splits],
            emitted: None,
            idle: false,
        }
    }

    /// Records count: there is a watermark strategy.
    #[must_use]
    pub fn tracks_records(&self) -> bool {
        self.tracks_records
    }

    /// A record of `split`.
    #[inline]
    pub fn on_record(&mut self, split: usize, timestamp: EventTime, now_ns: u64) {
        if !self.tracks_records {
            return;
        }
        if let Some(split) = self.splits.get_mut(split) {
            split.active_ns = now_ns;
            if split.greatest < Some(timestamp) {
                split.greatest = Some(timestamp);
            }
        }
    }

    /// The split has given its last record.
    pub fn finish_split(&mut self, split: usize) {
        if let Some(split) = self.splits.get_mut(split) {
            split.finished = true;
        }
    }

    /// What the chain should hear at `now_ns`, if anything new.
    pub fn advance(&mut self, now_ns: u64) -> Option<Watermark> {
        let bound = self.policy.out_of_orderness_ms;
        let idle_after = self.policy.idle_after_ns;
        let waits = |split: &&Split| {
            !split.finished
                && idle_after.is_none_or(|limit| now_ns.saturating_sub(split.active_ns) < limit)
        };
        if !self.splits.iter().any(|split| waits(&split)) {
            // All finished: the final watermark follows with the end of input, so say nothing.
            let all_finished =
                !self.splits.is_empty() && self.splits.iter().all(|split| split.finished);
            if all_finished {
                return None;
            }
            return (!std::mem::replace(&mut self.idle, true)).then_some(Watermark::Idle);
        }
        let bound = bound?;
        let woke = std::mem::replace(&mut self.idle, false);
        let least = self
            .splits
            .iter()
            .filter(waits)
            .map(|split| split.greatest)
            .min()
            .flatten();
        // EventTime::NONE and other early times saturate: such records move nothing.
        let watermark = least.map(|time| EventTime(time.0.saturating_sub(bound).saturating_sub(1)));
        match (watermark, self.emitted) {
            // A record without a timestamp moves nothing.
            (Some(time), emitted) if time > EventTime::NONE && emitted < Some(time) => {
                self.emitted = Some(time);
                Some(Watermark::At(time))
            }
            (_, Some(emitted)) if woke => Some(Watermark::At(emitted)),
            _ => None,
        }
    }

    /// The source was not read for this long because its consumers were full: no split was idle meanwhile.
    pub fn on_paused(&mut self, paused_ns: u64) {
        for split in &mut self.splits {
            split.active_ns = split.active_ns.saturating_add(paused_ns);
        }
    }

    /// When a split that is not idle at `now_ns` may fall idle next.
    #[must_use]
    pub fn next_idle_ns(&self, now_ns: u64) -> Option<u64> {
        let limit = self.policy.idle_after_ns?;
        let deadlines = self
            .splits
            .iter()
            .filter(|split| !split.finished)
            .map(|split| split.active_ns + limit);
        deadlines.filter(|deadline| *deadline > now_ns).min()
    }

    /// The watermark given out last.
    #[must_use]
    pub fn current(&self) -> Option<EventTime> {
        self.emitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: i64) -> Option<Watermark> {
        Some(Watermark::At(EventTime(time)))
    }

    #[test]
    fn the_slowest_active_split_decides() {
        let policy = WatermarkPolicy {
            out_of_orderness_ms: Some(4),
            idle_after_ns: Some(100),
        };
        let mut splits = SplitWatermarks::new(policy, 2, 0);
        splits.on_record(0, EventTime(50), 1);
        assert_eq!(splits.advance(1), None, "split 1 has said nothing yet");
        splits.on_record(1, EventTime(20), 2);
        assert_eq!(splits.advance(2), at(15));
        splits.on_record(0, EventTime(60), 90);
        assert_eq!(splits.advance(103), at(55), "split 1 is idle");
        splits.on_record(1, EventTime(30), 104);
        assert_eq!(splits.advance(104), None, "never back");
        assert_eq!(splits.advance(300), Some(Watermark::Idle));
        assert_eq!(splits.advance(301), None);
        splits.on_record(1, EventTime(31), 302);
        assert_eq!(splits.advance(302), at(55), "awake again");
        splits.finish_split(1);
        splits.on_record(0, EventTime(100), 303);
        assert_eq!(splits.advance(303), at(95));
    }

    #[test]
    fn idle_splits_ask_for_no_wake_up_and_a_pause_makes_none_idle() {
        let policy = WatermarkPolicy {
            out_of_orderness_ms: Some(0),
            idle_after_ns: Some(100),
        };
        let mut splits = SplitWatermarks::new(policy, 2, 0);
        splits.on_record(0, EventTime(50), 90);
        assert_eq!(splits.next_idle_ns(90), Some(100));
        assert_eq!(
            splits.next_idle_ns(100),
            Some(190),
            "split 1 is idle already"
        );
        assert_eq!(splits.next_idle_ns(200), None);
        splits.on_record(0, EventTime(60), 200);
        splits.on_record(1, EventTime(10), 200);
        assert_eq!(splits.advance(200), at(9));
        splits.on_paused(5_000);
        splits.on_record(0, EventTime(70), 5_200);
        assert_eq!(
            splits.advance(5_200),
            None,
            "split 1 may have records that could not be read"
        );
    }

    #[test]
    fn without_a_strategy_records_move_nothing() {
        let mut splits = SplitWatermarks::new(WatermarkPolicy::NONE, 2, 0);
        for time in [5, 50] {
            splits.on_record(0, EventTime(time), 1);
            assert_eq!(splits.advance(1_000_000), None);
        }
        assert_eq!((splits.current(), splits.next_idle_ns(1)), (None, None));
    }

    #[test]
    fn a_subtask_without_splits_is_idle_by_itself() {
        let policy = WatermarkPolicy {
            out_of_orderness_ms: Some(0),
            idle_after_ns: None,
        };
        let mut splits = SplitWatermarks::new(policy, 0, 0);
        assert_eq!(splits.advance(0), Some(Watermark::Idle));
        assert_eq!(splits.advance(1), None);
    }
}
