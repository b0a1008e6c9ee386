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
}

/// Combines the watermarks of a subtask's input channels.
#[derive(Debug)]
pub struct WatermarkValve {
    inputs: Vec<Input>,
    emitted: Option<EventTime>,
    idle: bool,
}

impl WatermarkValve {
    /// A valve over `inputs` channels, all active and without a watermark.
    #[must_use]
    pub fn new(inputs: usize) -> Self {
        Self {
            inputs: vec![
                Input {
                    time: None,
                    idle: false
                };
                inputs
            ],
            emitted: None,
            idle: false,
        }
    }

    /// What the subtask should hear, if anything new, when `input` has said `watermark`.
    pub fn on_watermark(&mut self, input: usize, watermark: Watermark) -> Option<Watermark> {
        let slot = self.inputs.get_mut(input)?;
        match watermark {
            Watermark::At(time) => {
                slot.idle = false;
                slot.time = slot.time.max(Some(time));
            }
            Watermark::Idle => slot.idle = true,
        }
        if self.inputs.iter().all(|input| input.idle) {
            return (!std::mem::replace(&mut self.idle, true)).then_some(Watermark::Idle);
        }
        let least = self
            .inputs
            .iter()
            .filter(|input| !input.idle)
            .map(|input| input.time)
            .min()
            .flatten();
        let woke = std::mem::replace(&mut self.idle, false);
        match (least, self.emitted) {
            (Some(time), emitted) if emitted < Some(time) => {
                self.emitted = Some(time);
                Some(Watermark::At(time))
            }
            // Tell the next operator that it must wait for us again.
            (_, Some(emitted)) if woke => Some(Watermark::At(emitted)),
            _ => None,
        }
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

    #[test]
    fn g11_idle_inputs_do_not_hold_the_watermark_back_and_it_never_jumps_back() {
        let mut valve = WatermarkValve::new(2);
        assert_eq!(valve.on_watermark(0, at(10)), None);
        assert_eq!(valve.on_watermark(1, at(5)), Some(at(5)));
        assert_eq!(valve.on_watermark(1, Watermark::Idle), Some(at(10)));
        assert_eq!(
            valve.on_watermark(0, Watermark::Idle),
            Some(Watermark::Idle)
        );
        assert_eq!(valve.on_watermark(0, Watermark::Idle), None);
        assert_eq!(
            valve.on_watermark(1, at(7)),
            Some(at(10)),
            "awake again, behind what was given out"
        );
        assert_eq!(valve.on_watermark(1, at(12)), Some(at(12)));
    }

    proptest! {
        #[test]
        fn gives_the_least_of_the_active_inputs(steps in proptest::collection::vec((0usize..4, proptest::option::of(0i64..100)), 0..200)) {
            let mut valve = WatermarkValve::new(4);
            let mut model = [(None::<i64>, false); 4];
            let mut greatest = None;
            for (input, step) in steps {
                match step {
                    Some(time) => model[input] = (model[input].0.max(Some(time)), false),
                    None => model[input].1 = true,
                }
                let out = valve.on_watermark(input, step.map_or(Watermark::Idle, at));
                let least = model.iter().filter(|(_, idle)| !idle).map(|(time, _)| *time).min().flatten();
                if let Some(Watermark::At(EventTime(time))) = out {
                    prop_assert!(greatest <= Some(time));
                    greatest = Some(time);
                }
                if least > greatest { prop_assert!(false, "{least:?} was not given out, {greatest:?} was"); }
            }
        }
    }
}
