use proptest::prelude::*;

use super::*;
use crate::record::EventTime;

const IDLE: Control = Control::Watermark {
    watermark: Watermark::Idle,
    origin_ns: 0,
};

const fn at(time: i64) -> Control {
    Control::Watermark {
        watermark: Watermark::At(EventTime(time)),
        origin_ns: 0,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Record(u32),
    Control(Control),
}

/// A queue whose records are numbered as they come.
struct Tested {
    queue: ElementQueue<u32>,
    places: Vec<SegmentNumber>,
}

impl Tested {
    fn new(mode: OutputMode) -> Self {
        Self {
            queue: ElementQueue::new(mode),
            places: Vec::new(),
        }
    }

    fn push(&mut self, count: usize) {
        for _ in 0..count {
            self.places.push(self.queue.push());
        }
    }

    fn complete(&mut self, number: u32) {
        self.queue.complete(self.places[number as usize], number);
    }

    /// All that leaves now.
    fn take(&mut self) -> Vec<Left> {
        let mut left = Vec::new();
        loop {
            let ready = self.queue.is_ready();
            let next = match self.queue.next() {
                None => {
                    assert!(!ready);
                    return left;
                }
                Some(Next::Ready(number)) => Left::Record(*number),
                Some(Next::Control(control)) => Left::Control(control),
            };
            assert!(ready);
            if let Left::Record(_) = next {
                self.queue.pop();
            }
            left.push(next);
        }
    }
}

#[test]
fn ordered_results_wait_for_those_before_them() {
    let mut tested = Tested::new(OutputMode::Ordered);
    tested.push(3);
    tested.complete(2);
    tested.complete(1);
    assert_eq!(tested.take(), []);
    assert_eq!(tested.queue.records(), 3);
    tested.complete(0);
    assert_eq!(tested.take(), [0, 1, 2].map(Left::Record));
    assert!(tested.queue.is_empty());
}

#[test]
fn unordered_results_overtake_each_other_but_no_watermark() {
    let mut tested = Tested::new(OutputMode::Unordered);
    tested.push(2);
    assert!(tested.queue.keep(at(7)));
    tested.push(2);
    tested.complete(3);
    assert_eq!(tested.take(), []);
    tested.complete(1);
    assert_eq!(tested.take(), [Left::Record(1)]);
    tested.complete(0);
    let left = [Left::Record(0), Left::Control(at(7)), Left::Record(3)];
    assert_eq!(tested.take(), left);
    tested.complete(2);
    assert_eq!(tested.take(), [Left::Record(2)]);
    assert!(tested.queue.is_empty());
}

#[test]
fn a_watermark_with_nothing_before_it_is_not_kept() {
    for mode in [OutputMode::Ordered, OutputMode::Unordered] {
        let mut tested = Tested::new(mode);
        assert!(!tested.queue.keep(at(1)));
        tested.push(1);
        tested.complete(0);
        assert!(tested.queue.keep(at(2)), "the record is not out");
        assert_eq!(tested.take(), [Left::Record(0), Left::Control(at(2))]);
        assert!(!tested.queue.keep(at(3)));
    }
}

#[test]
fn watermarks_that_follow_each_other_become_one() {
    let mut tested = Tested::new(OutputMode::Ordered);
    tested.push(1);
    for control in [at(1), IDLE, at(2), at(3), IDLE, IDLE] {
        assert!(tested.queue.keep(control));
    }
    tested.push(1);
    assert!(tested.queue.keep(IDLE));
    assert!(tested.queue.keep(at(4)));
    tested.complete(1);
    tested.complete(0);
    let left = [
        Left::Record(0),
        Left::Control(at(3)),
        Left::Control(IDLE),
        Left::Record(1),
        Left::Control(at(4)),
    ];
    assert_eq!(tested.take(), left);
}

/// What a valve behind has seen: the last time, and whether the input idles.
fn watermark_after(controls: &[Control]) -> (i64, bool) {
    let mut state = (i64::MIN, false);
    for control in controls {
        match control {
            Control::Watermark {
                watermark: Watermark::At(time),
                ..
            } => state = (time.0, false),
            _ => state.1 = true,
        }
    }
    state
}

#[derive(Debug, Clone)]
enum Step {
    Push,
    Watermark,
    Idle,
    /// One of those that are not complete.
    Complete(prop::sample::Index),
    Take,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Push),
        2 => Just(Step::Watermark),
        1 => Just(Step::Idle),
        4 => any::<prop::sample::Index>().prop_map(Step::Complete),
        2 => Just(Step::Take),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Every record comes out once, ordered ones in order, and sees the watermark that it would have seen without a
    /// queue.
    #[test]
    fn records_keep_their_place_among_watermarks(steps in steps(), ordered: bool) {
        let mode = if ordered { OutputMode::Ordered } else { OutputMode::Unordered };
        let mut tested = Tested::new(mode);
        let (mut pending, mut left) = (Vec::new(), Vec::new());
        let (mut came, mut seen_by) = (Vec::new(), Vec::new());
        let mut time = 0;
        for step in steps {
            match step {
                Step::Push => {
                    seen_by.push(watermark_after(&came));
                    pending.push(u32::try_from(tested.places.len()).expect("few"));
                    tested.push(1);
                }
                Step::Watermark | Step::Idle => {
                    time += 1;
                    let control = if matches!(step, Step::Idle) { IDLE } else { at(time) };
                    came.push(control);
                    if !tested.queue.keep(control) {
                        left.push(Left::Control(control));
                    }
                }
                Step::Complete(index) if !pending.is_empty() => {
                    let number = pending.remove(index.index(pending.len()));
                    tested.complete(number);
                }
                Step::Complete(_) => {}
                Step::Take => left.extend(tested.take()),
            }
        }
        for number in pending {
            tested.complete(number);
        }
        left.extend(tested.take());
        prop_assert!(tested.queue.is_empty() && tested.queue.records() == 0);

        let (mut controls, mut records) = (Vec::new(), Vec::new());
        for element in left {
            match element {
                Left::Control(control) => controls.push(control),
                Left::Record(number) => {
                    prop_assert_eq!(watermark_after(&controls), seen_by[number as usize]);
                    records.push(number);
                }
            }
        }
        prop_assert_eq!(watermark_after(&controls), watermark_after(&came));
        let all: Vec<u32> = (0..).take(tested.places.len()).collect();
        if !ordered {
            records.sort_unstable();
        }
        prop_assert_eq!(records, all);
    }
}
