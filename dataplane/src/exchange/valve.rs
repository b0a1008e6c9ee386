//! One watermark out of many inputs'.
//!
//! Owns: [`WatermarkValve`]. Invariant: what it gives out only grows; it is the least watermark of the inputs that are
//! not idle; when all are idle it says so once, and a channel that wakes up behind the output does not pull it back.
//! Left out: records.
//!
//! Source: Flink `StatusWatermarkValve` and the semantics in its documentation of idleness.

use crate::element::Watermark;
use crate::record::EventTime;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Input {
    time: Option<EventTime>,
    idle: bool,
    /// Counts for the least: active, and not behind what was given out since it was idle.
    aligned: bool,
}

/// Combines the watermarks of a subtask's input channels.
#[derive(Debug)]
pub struct WatermarkValve {
    inputs: Vec<Input>,
    emitted: Option<EventTime>,
    idle: bool,
}

/// What the subtask should hear: a watermark, then idleness. Either may be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Updates {
    /// Event time moved, or the subtask is active again at this time.
    pub at: Option<EventTime>,
    /// All inputs are idle.
    pub idle: bool,
}

impl WatermarkValve {
    /// A valve over `inputs` channels, all active and without a watermark.
    #[must_use]
    pub fn new(inputs: usize) -> Self {
        let input = Input {
            time: None,
            idle: false,
            aligned: true,
        };
        Self {
            inputs: vec![input; inputs],
            emitted: None,
            idle: false,
        }
    }

    /// What is new when `input` has said `watermark`.
    pub fn on_watermark(&mut self, input: usize, watermark: Watermark) -> Updates {
        match watermark {
            Watermark::At(time) => self.on_time(input, time),
            Watermark::Idle => self.on_idle(input),
        }
    }

    fn on_time(&mut self, input: usize, time: EventTime) -> Updates {
        let emitted = self.emitted;
        let Some(slot) = self.inputs.get_mut(input) else {
            return Updates::default();
        };
        slot.idle = false;
        slot.time = slot.time.max(Some(time));
        // One that wakes up behind the others waits until it has caught up, and does not hold them back meanwhile.
        slot.aligned |= slot.time >= emitted;
        let woke = std::mem::replace(&mut self.idle, false);
        let least = self
            .inputs
            .iter()
            .filter(|input| input.aligned)
            .map(|input| input.time)
            .min()
            .flatten();
        Updates {
            at: self.advance(least).or(emitted.filter(|_| woke)),
            idle: false,
        }
    }

    fn on_idle(&mut self, input: usize) -> Updates {
        let emitted = self.emitted;
        let Some(slot) = self.inputs.get_mut(input) else {
            return Updates::default();
        };
        let was_least = !slot.idle && slot.time == emitted;
        slot.idle = true;
        slot.aligned = false;
        if self.inputs.iter().all(|input| input.idle) {
            // Nobody is left to wait for: what the others had reached counts.
            let greatest = self.inputs.iter().map(|input| input.time).max().flatten();
            let at = if was_least {
                self.advance(greatest)
            } else {
                None
            };
            return Updates {
                at,
                idle: !std::mem::replace(&mut self.idle, true),
            };
        }
        let least = self
            .inputs
            .iter()
            .filter(|input| input.aligned)
            .map(|input| input.time)
            .min()
            .flatten();
        Updates {
            at: self.advance(least),
            idle: false,
        }
    }

    fn advance(&mut self, time: Option<EventTime>) -> Option<EventTime> {
        let new = time.filter(|time| self.emitted < Some(*time))?;
        self.emitted = Some(new);
        Some(new)
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
    use proptest::prelude::*;

    const fn at(time: i64) -> Watermark {
        Watermark::At(EventTime(time))
    }

    const NOTHING: Updates = Updates {
        at: None,
        idle: false,
    };

    const fn moved(time: i64) -> Updates {
        Updates {
            at: Some(EventTime(time)),
            idle: false,
        }
    }

    #[test]
    fn g11_idle_inputs_do_not_hold_the_watermark_back_and_it_never_jumps_back() {
        let mut valve = WatermarkValve::new(2);
        assert_eq!(valve.on_watermark(0, at(10)), NOTHING);
        assert_eq!(valve.on_watermark(1, at(5)), moved(5));
        assert_eq!(valve.on_watermark(1, Watermark::Idle), moved(10));
        assert_eq!(
            valve.on_watermark(0, Watermark::Idle),
            Updates {
                at: None,
                idle: true
            }
        );
        assert_eq!(valve.on_watermark(0, Watermark::Idle), NOTHING);
        assert_eq!(
            valve.on_watermark(1, at(7)),
            moved(10),
            "awake again, behind what was given out"
        );
        assert_eq!(valve.on_watermark(1, at(12)), moved(12));
    }

    #[test]
    fn when_the_last_active_input_falls_idle_what_the_others_had_reached_counts() {
        let mut valve = WatermarkValve::new(2);
        assert_eq!(valve.on_watermark(0, at(100)), NOTHING);
        assert_eq!(valve.on_watermark(1, at(50)), moved(50));
        assert_eq!(valve.on_watermark(0, Watermark::Idle), NOTHING);
        let last = Updates {
            at: Some(EventTime(100)),
            idle: true,
        };
        assert_eq!(valve.on_watermark(1, Watermark::Idle), last);
    }

    #[test]
    fn an_input_that_wakes_up_behind_holds_nobody_back() {
        let mut valve = WatermarkValve::new(2);
        assert_eq!(valve.on_watermark(1, Watermark::Idle), NOTHING);
        assert_eq!(valve.on_watermark(0, at(100)), moved(100));
        assert_eq!(valve.on_watermark(1, at(50)), NOTHING);
        assert_eq!(valve.on_watermark(0, at(110)), moved(110));
        assert_eq!(valve.on_watermark(1, at(115)), NOTHING);
        assert_eq!(
            valve.on_watermark(0, at(130)),
            moved(115),
            "it has caught up and counts again"
        );
    }

    proptest! {
        #[test]
        fn never_goes_back_and_is_the_least_while_nobody_was_idle(
            steps in proptest::collection::vec((0usize..4, proptest::option::weighted(0.9, 0i64..100)), 0..200)
        ) {
            let mut valve = WatermarkValve::new(4);
            let mut times = [None::<i64>; 4];
            let mut idle = [false; 4];
            let mut ever_idle = false;
            let mut greatest = None;
            for (input, step) in steps {
                match step {
                    Some(time) => { times[input] = times[input].max(Some(time)); idle[input] = false; }
                    None => { idle[input] = true; ever_idle = true; }
                }
                let updates = valve.on_watermark(input, step.map_or(Watermark::Idle, at));
                if let Some(EventTime(time)) = updates.at {
                    prop_assert!(greatest <= Some(time), "back from {greatest:?} to {time}");
                    greatest = Some(time);
                }
                prop_assert!(greatest <= times.iter().max().copied().flatten());
                prop_assert!(!updates.idle || idle == [true; 4]);
                if !ever_idle {
                    prop_assert_eq!(greatest, times.iter().min().copied().flatten());
                }
            }
        }
    }
}
