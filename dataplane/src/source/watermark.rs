//! Watermarks at a source: one per split, and the least of them out.
//!
//! Owns: [`WatermarkPolicy`] (what the user chose), [`WatermarkGenerator`] (a user's own way) and [`SplitWatermarks`] (a
//! subtask's splits).
//! Invariant: the watermark of a split is its greatest timestamp - bound - 1 ms, as in Flink, or what its generator said; what
//! is given out never goes back; a split without records for the idle time does not hold the others up; a subtask without
//! splits is idle by itself.
//! A split beyond the limit of its alignment group is held: it is not to be read, and not idle either.
//! Left out: reading the clock (time comes in with each call).

use std::fmt;
use std::sync::Arc;

use crate::element::Watermark;
use crate::record::{EventTime, RecordRef};
use crate::source::alignment::WatermarkAlignment;

/// How the watermark of a split comes about.
#[derive(Clone, Default)]
pub enum Generation {
    /// Not before the end of the stream.
    #[default]
    None,
    /// A record may be so many milliseconds behind the greatest timestamp.
    BoundedOutOfOrderness(i64),
    /// By a generator of the user's, one for each split.
    Custom(Arc<dyn Fn() -> Box<dyn WatermarkGenerator> + Send + Sync>),
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::BoundedOutOfOrderness(ms) => write!(f, "BoundedOutOfOrderness({ms} ms)"),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

/// How watermarks are made at a source.
#[derive(Debug, Clone, Default)]
pub struct WatermarkPolicy {
    /// How that of a split comes about.
    pub generation: Generation,
    /// A split without records for this long is idle; `None`: never.
    pub idle_after_ns: Option<u64>,
    /// The source waits for others.
    pub alignment: Option<WatermarkAlignment>,
}

impl WatermarkPolicy {
    /// No watermarks until the end of the stream.
    pub const NONE: Self = Self {
        generation: Generation::None,
        idle_after_ns: None,
        alignment: None,
    };

    /// Watermarks `out_of_orderness_ms` behind the greatest timestamp.
    #[must_use]
    pub const fn bounded(out_of_orderness_ms: i64, idle_after_ns: Option<u64>) -> Self {
        Self {
            generation: Generation::BoundedOutOfOrderness(out_of_orderness_ms),
            idle_after_ns,
            alignment: None,
        }
    }
}

/// Makes the watermarks of one split.
///
/// Source: Flink `WatermarkGenerator`.
pub trait WatermarkGenerator: Send {
    /// A record, with its event time.
    fn on_event(&mut self, record: &RecordRef<'_>, output: &mut WatermarkOutput);

    /// Called after each poll of the source, so that watermarks need not be made with every record.
    fn on_periodic_emit(&mut self, output: &mut WatermarkOutput) {
        let _ = output;
    }
}

/// What a generator says of its split.
#[derive(Debug, Clone, Copy, Default)]
pub struct WatermarkOutput {
    watermark: Option<EventTime>,
    idle: bool,
}

impl WatermarkOutput {
    /// No record with this or an earlier time will come, except late ones. Earlier ones than before are ignored.
    pub fn emit_watermark(&mut self, watermark: EventTime) {
        self.idle = false;
        self.watermark = self.watermark.max(Some(watermark));
    }

    /// The split does not hold others up until [`WatermarkOutput::mark_active`] or its next watermark.
    pub fn mark_idle(&mut self) {
        self.idle = true;
    }

    /// The split counts again.
    pub fn mark_active(&mut self) {
        self.idle = false;
    }
}

struct Split {
    greatest: Option<EventTime>,
    active_ns: u64,
    finished: bool,
    /// Beyond the limit of its alignment group.
    held: bool,
    custom: Option<(Box<dyn WatermarkGenerator>, WatermarkOutput)>,
}

impl Split {
    /// Its own watermark.
    fn watermark(&self, generation: &Generation) -> Option<EventTime> {
        match generation {
            Generation::None => None,
            Generation::BoundedOutOfOrderness(bound) => {
                // EventTime::NONE and other early times saturate: such records move nothing.
                let time = self.greatest?;
                Some(EventTime(time.0.saturating_sub(*bound).saturating_sub(1)))
            }
            Generation::Custom(_) => self
                .custom
                .as_ref()
                .and_then(|(_, output)| output.watermark),
        }
    }
}

impl fmt::Debug for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let output = self.custom.as_ref().map(|(_, output)| output);
        f.debug_struct("Split")
            .field("greatest", &self.greatest)
            .field("active_ns", &self.active_ns)
            .field("finished", &self.finished)
            .field("held", &self.held)
            .field("custom", &output)
            .finish()
    }
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
        let custom = || match &policy.generation {
            Generation::Custom(make) => Some((make(), WatermarkOutput::default())),
            _ => None,
        };
        let split = |_| Split {
            greatest: None,
            active_ns: now_ns,
            finished: false,
            held: false,
            custom: custom(),
        };
        let splits = (0..splits).map(split).collect();
        let waits = policy.idle_after_ns.is_some();
        Self {
            tracks_records: waits || !matches!(policy.generation, Generation::None),
            policy,
            splits,
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

    /// A generator of the user's wants to see records.
    #[inline]
    #[must_use]
    pub fn is_custom(&self) -> bool {
        matches!(self.policy.generation, Generation::Custom(_))
    }

    /// Shows a record to the generator of `split`.
    pub fn on_event(&mut self, split: usize, record: &RecordRef<'_>) {
        let split = self.splits.get_mut(split);
        if let Some((generator, output)) = split.and_then(|split| split.custom.as_mut()) {
            generator.on_event(record, output);
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
        for split in &mut self.splits {
            if let Some((generator, output)) = &mut split.custom {
                generator.on_periodic_emit(output);
            }
        }
        let idle_after = self.policy.idle_after_ns;
        let waits = |split: &&Split| {
            !split.finished
                && !split.custom.as_ref().is_some_and(|(_, output)| output.idle)
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
        let woke = std::mem::replace(&mut self.idle, false);
        if matches!(self.policy.generation, Generation::None) {
            return None;
        }
        let waiting = self.splits.iter().filter(waits);
        let watermark = waiting.map(|split| split.watermark(&self.policy.generation));
        let watermark = watermark.min().flatten();
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

    /// How far these splits are, for others of their alignment group: the watermark given out last; the end of time where they hold
    /// nobody up.
    #[must_use]
    pub fn position(&self) -> EventTime {
        if self.idle || matches!(self.policy.generation, Generation::None) {
            return EventTime::MAX;
        }
        self.emitted.unwrap_or(EventTime(i64::MIN))
    }

    /// Watermarks may go so far: holds splits that are beyond, and lets those go on that are not. True: all of them wait.
    pub fn hold_beyond(&mut self, limit: EventTime, now_ns: u64) -> bool {
        let mut reads = false;
        for split in &mut self.splits {
            let beyond = !split.finished && split.watermark(&self.policy.generation) > Some(limit);
            if beyond || split.held {
                // It has no records because nobody asked it for any.
                split.active_ns = split.active_ns.max(now_ns);
            }
            split.held = beyond;
            reads |= !split.held && !split.finished;
        }
        !reads && self.splits.iter().any(|split| split.held)
    }

    /// The split is not held.
    #[must_use]
    pub fn may_read(&self, split: usize) -> bool {
        self.splits.get(split).is_none_or(|split| !split.held)
    }

    /// Records of `split` came not before `now_ns`.
    pub fn touch(&mut self, split: usize, now_ns: u64) {
        if let Some(split) = self.splits.get_mut(split) {
            split.active_ns = split.active_ns.max(now_ns);
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
        let policy = WatermarkPolicy::bounded(4, Some(100));
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
        let policy = WatermarkPolicy::bounded(0, Some(100));
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

    /// Watermarks at records whose payload is not empty; idle while the payload is one byte.
    struct Punctuated;

    impl WatermarkGenerator for Punctuated {
        fn on_event(&mut self, record: &RecordRef<'_>, output: &mut WatermarkOutput) {
            match record.bytes.len() {
                0 => {}
                1 => output.mark_idle(),
                _ => output.emit_watermark(record.timestamp),
            }
        }
    }

    #[test]
    fn splits_beyond_the_limit_are_held_and_are_not_idle() {
        let policy = WatermarkPolicy::bounded(0, Some(100));
        let mut splits = SplitWatermarks::new(policy, 2, 0);
        assert_eq!(splits.position(), EventTime(i64::MIN), "nowhere yet");
        splits.on_record(0, EventTime(1000), 10);
        splits.on_record(1, EventTime(50), 10);
        assert_eq!(splits.advance(10), at(49));
        assert!(!splits.hold_beyond(EventTime(200), 11), "split 1 may read");
        assert!(!splits.may_read(0) && splits.may_read(1));
        splits.on_record(1, EventTime(300), 20);
        assert!(splits.hold_beyond(EventTime(200), 150));
        assert_eq!(splits.advance(151), at(299), "held is not idle");
        assert!(!splits.hold_beyond(EventTime(299), 160), "up to the limit");
        assert_eq!(splits.advance(300), Some(Watermark::Idle));
        assert_eq!(splits.position(), EventTime::MAX, "idle holds nobody up");
        assert!(!splits.hold_beyond(EventTime(2_000), 500), "all may read");
        assert_eq!(
            splits.advance(550),
            at(999),
            "split 0 is not idle so soon after a hold"
        );
        splits.finish_split(1);
        assert!(splits.hold_beyond(EventTime(299), 551), "the other is held");
        splits.finish_split(0);
        assert!(
            !splits.hold_beyond(EventTime(0), 552),
            "who is over waits for nobody"
        );
    }

    #[test]
    fn each_split_has_a_generator_of_its_own() {
        let policy = WatermarkPolicy {
            generation: Generation::Custom(Arc::new(|| Box::new(Punctuated))),
            idle_after_ns: None,
            alignment: None,
        };
        let mut splits = SplitWatermarks::new(policy, 2, 0);
        let mut on = |split, bytes, time| {
            let record = RecordRef {
                bytes,
                timestamp: EventTime(time),
                key_hash: 0,
                kind: crate::record::RowKind::Insert,
                origin_ns: 0,
            };
            splits.on_record(split, record.timestamp, 1);
            splits.on_event(split, &record);
            splits.advance(1)
        };
        assert_eq!(on(0, b"ab", 5), None, "split 1 has said nothing");
        assert_eq!(on(1, b"", 9), None);
        assert_eq!(on(1, b"ab", 9), at(5));
        assert_eq!(on(0, b"ab", 3), None, "never back");
        assert_eq!(on(0, b"a", 6), at(9), "split 0 holds nobody up");
        assert_eq!(on(1, b"a", 6), Some(Watermark::Idle));
        assert_eq!(on(0, b"ab", 12), at(12));
    }

    #[test]
    fn a_subtask_without_splits_is_idle_by_itself() {
        let policy = WatermarkPolicy::bounded(0, None);
        let mut splits = SplitWatermarks::new(policy, 0, 0);
        assert_eq!(splits.advance(0), Some(Watermark::Idle));
        assert_eq!(splits.advance(1), None);
    }
}
