//! Both operators against one naive model that keeps every record.

use proptest::prelude::*;

use super::super::assigner::{SlidingEventTimeWindows, SlidingWindows};
use super::super::session::EventTimeSessionWindows;
use super::*;

/// Which windows there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Aligned { size: i64, slide: i64, offset: i64 },
    Session { gap: i64 },
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Bid {
        key: u64,
        value: u64,
        time: i64,
    },
    Watermark(i64),
    /// Nothing: an input that is idle says so, and time stands still.
    Idle,
}

/// A window of a key with all of its values.
#[derive(Debug, Clone)]
struct Open {
    key: u64,
    start: i64,
    end: i64,
    values: Vec<u64>,
}

impl Open {
    fn row(&self) -> ResultRow {
        (self.start, self.end, self.key, self.values.iter().sum())
    }
}

/// Windows as their definition says, one by one.
struct Model {
    shape: Shape,
    lateness: i64,
    watermark: i64,
    open: Vec<Open>,
    rows: Vec<ResultRow>,
    late: Vec<u64>,
}

impl Model {
    fn new(shape: Shape, lateness: i64) -> Self {
        Self {
            shape,
            lateness,
            watermark: i64::MIN,
            open: Vec::new(),
            rows: Vec::new(),
            late: Vec::new(),
        }
    }

    fn is_gone(&self, end: i64) -> bool {
        end - 1 + self.lateness <= self.watermark
    }

    fn bid(&mut self, key: u64, value: u64, time: i64) {
        let windows: Vec<(i64, i64)> = match self.shape {
            Shape::Aligned {
                size,
                slide,
                offset,
            } => ((time - size + 1)..=time)
                .filter(|start| (start - offset).rem_euclid(slide) == 0)
                .map(|start| (start, start + size))
                .collect(),
            Shape::Session { gap } => vec![(time, time + gap)],
        };
        let mut taken = false;
        for (start, end) in windows {
            taken |= self.put(key, value, start, end);
        }
        if !taken && time + self.lateness <= self.watermark {
            self.late.push(value);
        }
    }

    fn put(&mut self, key: u64, value: u64, start: i64, end: i64) -> bool {
        let merges = matches!(self.shape, Shape::Session { .. });
        let mut window = Open {
            key,
            start,
            end,
            values: vec![value],
        };
        let is_part = |open: &Open| {
            let touches = merges && open.start <= end && open.end >= start;
            open.key == key && (touches || (open.start, open.end) == (start, end))
        };
        let (parts, others): (Vec<Open>, Vec<Open>) =
            self.open.drain(..).partition(|open| is_part(open));
        self.open = others;
        for part in &parts {
            window.start = window.start.min(part.start);
            window.end = window.end.max(part.end);
            window.values.extend(&part.values);
        }
        if self.is_gone(window.end) {
            return false;
        }
        if window.end - 1 <= self.watermark {
            self.rows.push(window.row());
        }
        self.open.push(window);
        true
    }

    fn watermark(&mut self, watermark: i64) {
        let before = self.watermark;
        self.watermark = before.max(watermark);
        for open in &self.open {
            if open.end - 1 > before && open.end - 1 <= self.watermark {
                self.rows.push(open.row());
            }
        }
        let (lateness, watermark) = (self.lateness, self.watermark);
        self.open.retain(|open| open.end - 1 + lateness > watermark);
    }

    fn take_rows(&mut self) -> Vec<ResultRow> {
        self.rows.sort_unstable();
        std::mem::take(&mut self.rows)
    }
}

/// Runs an operator and the model through the same steps; they agree after each.
fn agree(
    operator: Box<dyn Operator>,
    shape: Shape,
    lateness: i64,
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let (mut harness, mut model) = (Harness::new(operator), Model::new(shape, lateness));
    for step in steps {
        match *step {
            Step::Bid { key, value, time } => {
                harness.send(key, value, time);
                model.bid(key, value, time);
            }
            Step::Watermark(time) => {
                let time = time.max(model.watermark);
                harness.watermark(time);
                model.watermark(time);
            }
            Step::Idle => harness.idle(),
        }
        prop_assert_eq!(harness.rows(), model.take_rows(), "after {:?}", step);
        prop_assert_eq!(
            harness.dropped(),
            model.late.len() as u64,
            "after {:?}",
            step
        );
    }
    harness.end();
    model.watermark(i64::MAX - 1_000);
    prop_assert_eq!(harness.rows(), model.take_rows(), "at the end");
    Ok(())
}

fn steps(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u64..4, 1u64..5, -60i64..60)
            .prop_map(|(key, value, time)| Step::Bid { key, value, time }),
        2 => (-60i64..60).prop_map(Step::Watermark),
        1 => Just(Step::Idle),
    ];
    prop::collection::vec(step, 0..longest)
}

fn aligned() -> impl Strategy<Value = (i64, i64, i64)> {
    prop_oneof![
        Just((10, 10, 0)),
        Just((10, 2, 0)),
        Just((10, 3, 1)),
        Just((5, 20, 0)),
        Just((7, 7, -3)),
        Just((24, 1, 0)),
    ]
}

proptest! {
    #[test]
    fn both_operators_equal_a_naive_model_in_aligned_windows((size, slide, offset) in aligned(), steps in steps(120)) {
        let shape = Shape::Aligned { size, slide, offset };
        let windows = SlidingWindows::new(ms(size), ms(slide), offset).expect("legal");
        agree(panes(windows), shape, 0, &steps)?;
        let assigner = || SlidingEventTimeWindows::of_with_offset(ms(size), ms(slide), offset);
        agree(accumulating(windowing(assigner())), shape, 0, &steps)?;
        agree(listing(windowing(assigner()), None), shape, 0, &steps)?;
        // The assigner's trigger, given: each record is shown to it.
        let given = with_trigger(assigner(), trigger::EventTimeTrigger);
        agree(accumulating(given), shape, 0, &steps)?;
    }

    #[test]
    fn late_records_fire_again_while_they_are_allowed(
        (size, slide, offset) in aligned(),
        lateness in 1i64..40,
        steps in steps(120),
    ) {
        let shape = Shape::Aligned { size, slide, offset };
        let assigner = SlidingEventTimeWindows::of_with_offset(ms(size), ms(slide), offset);
        let late = || Windowing { allowed_lateness: ms(lateness), ..windowing(assigner.clone()) };
        agree(accumulating(late()), shape, lateness, &steps)?;
        agree(listing(late(), None), shape, lateness, &steps)?;
    }

    #[test]
    fn sessions_equal_a_naive_model(gap in 1i64..20, lateness in prop_oneof![Just(0), 1i64..30], steps in steps(120)) {
        let sessions = || Windowing {
            allowed_lateness: ms(lateness),
            ..windowing(EventTimeSessionWindows::with_gap(ms(gap)))
        };
        agree(accumulating(sessions()), Shape::Session { gap }, lateness, &steps)?;
        agree(listing(sessions(), None), Shape::Session { gap }, lateness, &steps)?;
        let given = Windowing {
            trigger: Some(Box::new(trigger::EventTimeTrigger)),
            ..sessions()
        };
        agree(accumulating(given), Shape::Session { gap }, lateness, &steps)?;
    }

    /// Whatever the order in which records of the same time span come.
    #[test]
    fn sessions_do_not_depend_on_order(
        gap in 1i64..20,
        (bids, shuffled) in prop::collection::vec((0u64..3, 1u64..5, -60i64..60), 1..40)
            .prop_flat_map(|bids| (Just(bids.clone()), Just(bids).prop_shuffle())),
    ) {
        let results = |bids: &[(u64, u64, i64)]| {
            let sessions = windowing(EventTimeSessionWindows::with_gap(ms(gap)));
            let mut harness = Harness::new(accumulating(sessions));
            for (key, value, time) in bids {
                harness.send(*key, *value, *time);
            }
            harness.end();
            harness.rows()
        };
        prop_assert_eq!(results(&bids), results(&shuffled));
    }
}
