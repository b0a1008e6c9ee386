//! Processing time, ends of input, lateness, state of window functions.

use super::super::assigner::{
    GlobalWindows, SlidingProcessingTimeWindows, TumblingEventTimeWindows,
    TumblingProcessingTimeWindows,
};
use super::super::session::{EventTimeSessionWindows, ProcessingTimeSessionWindows};
use super::*;

#[test]
fn a_window_fires_when_the_watermark_reaches_its_last_millisecond() {
    let aligned = assigner::SlidingWindows::new(ms(10), ms(10), 0).expect("legal");
    let tumbling = TumblingEventTimeWindows::of(ms(10));
    for operator in [panes(aligned), accumulating(windowing(tumbling))] {
        let mut harness = Harness::new(operator);
        harness.send(1, 1, 0);
        harness.send(1, 1, 9);
        harness.watermark(8);
        assert_eq!(harness.rows(), []);
        harness.watermark(9);
        assert_eq!(harness.rows(), [(0, 10, 1, 2)]);
        harness.send(1, 1, 9);
        assert_eq!(harness.dropped(), 1);
        harness.end();
        assert_eq!(harness.rows(), []);
    }
}

#[test]
fn g12_late_is_time_and_lateness_up_to_the_watermark_and_the_sum_does_not_overflow() {
    let operator = |lateness: Duration| {
        let tumbling = TumblingEventTimeWindows::of(ms(10));
        accumulating(Windowing {
            allowed_lateness: lateness,
            ..windowing(tumbling)
        })
    };
    // A record is late when ts + lateness <= watermark, but only if none of its windows lives.
    let mut harness = Harness::new(operator(ms(5)));
    harness.watermark(13);
    harness.send(1, 1, 0);
    assert_eq!(
        harness.rows(),
        [(0, 10, 1, 1)],
        "9 + 5 > 13: its window lives, though the record is late"
    );
    assert_eq!(harness.dropped(), 0);
    harness.watermark(14);
    harness.send(1, 1, 9);
    assert_eq!(
        (harness.rows(), harness.dropped()),
        (vec![], 1),
        "9 + 5 <= 14"
    );
    // Everything of the window has gone: a window lives until cleanup time <= watermark.
    harness.end();
    assert_eq!(harness.rows(), []);

    // max timestamp + lateness beyond the end of time is the end of time: nothing is ever late, and nothing wraps.
    let mut harness = Harness::new(operator(Duration::MAX));
    harness.watermark(1 << 59);
    harness.send(1, 1, 0);
    assert_eq!(
        (harness.rows(), harness.dropped()),
        (vec![(0, 10, 1, 1)], 0)
    );
}

#[test]
fn late_records_go_to_the_side_output_instead_of_the_counter() {
    let windowing = Windowing {
        late_output: Some(LATE.id()),
        ..windowing(TumblingEventTimeWindows::of(ms(10)))
    };
    let mut harness = Harness::with_side_output(accumulating(windowing));
    harness.send(1, 1, 5);
    harness.watermark(9);
    harness.send(1, 77, 5);
    harness.send(1, 2, 10);
    assert_eq!((harness.late(), harness.dropped()), (vec![77], 0));
}

#[test]
fn processing_time_windows_fire_when_the_clock_reaches_their_end() {
    let mut harness = Harness::new(accumulating(windowing(TumblingProcessingTimeWindows::of(
        ms(10),
    ))));
    harness.clock(3);
    harness.send(1, 1, EventTime::NONE.0);
    harness.clock(9);
    assert_eq!(harness.rows(), [(0, 10, 1, 1)], "at its last millisecond");
    harness.send(1, 2, 500);
    harness.send(2, 3, -500);
    harness.clock(18);
    // As in Flink, a record of the last millisecond may find its window fired, and fires it again.
    assert_eq!(harness.rows(), [(0, 10, 1, 2), (0, 10, 2, 3)]);
    harness.send(1, 4, 0);
    harness.clock(25);
    assert_eq!(harness.rows(), [(10, 20, 1, 4)]);
}

#[test]
fn sliding_processing_time_windows_overlap() {
    let sliding = SlidingProcessingTimeWindows::of_with_offset(ms(10), ms(5), 1);
    let mut harness = Harness::new(accumulating(windowing(sliding)));
    harness.clock(12);
    harness.send(1, 1, 0);
    harness.clock(15);
    assert_eq!(harness.rows(), [(6, 16, 1, 1)]);
    harness.clock(100);
    assert_eq!(harness.rows(), [(11, 21, 1, 1)]);
}

#[test]
fn processing_time_sessions_end_when_no_record_comes() {
    let sessions = ProcessingTimeSessionWindows::with_gap(ms(10));
    for operator in [
        accumulating(windowing(sessions.clone())),
        listing(windowing(sessions), None),
    ] {
        let mut harness = Harness::new(operator);
        for now in [0, 6, 12] {
            harness.clock(now);
            harness.send(1, 1, 0);
        }
        harness.clock(20);
        assert_eq!(harness.rows(), []);
        harness.clock(21);
        assert_eq!(harness.rows(), [(0, 22, 1, 3)]);
        // The session has gone; another one begins.
        harness.clock(30);
        harness.send(1, 1, 0);
        harness.clock(100);
        assert_eq!(harness.rows(), [(30, 40, 1, 1)]);
    }
}

#[test]
fn windows_of_processing_time_fire_at_the_end_of_input() {
    use super::super::trigger::{ContinuousProcessingTimeTrigger, CountTrigger};
    let tumbling = || TumblingProcessingTimeWindows::of(Duration::from_secs(3_600));
    let sessions = ProcessingTimeSessionWindows::with_gap(Duration::from_secs(60));
    let hour = 3_600_000;
    let mut harness = Harness::new(accumulating(windowing(tumbling())));
    for key in 0..2_000 {
        harness.send(key, 1, 0);
    }
    harness.end();
    let all: Vec<ResultRow> = (0..2_000).map(|key| (0, hour, key, 1)).collect();
    assert_eq!(harness.rows(), all);

    let mut harness = Harness::new(accumulating(windowing(sessions)));
    harness.send(1, 1, 0);
    harness.clock(5);
    harness.send(1, 1, 0);
    harness.end();
    assert_eq!(harness.rows(), [(0, 60_005, 1, 2)]);

    // A trigger that would fire again and again fires what it has waiting once: the end comes.
    let continuous = || ContinuousProcessingTimeTrigger::of(ms(10));
    let mut harness = Harness::new(accumulating(with_trigger(
        GlobalWindows::create(),
        continuous(),
    )));
    harness.send(1, 5, 0);
    harness.end();
    assert_eq!(harness.rows(), [(i64::MIN, i64::MAX, 1, 5)]);
    let mut harness = Harness::new(accumulating(with_trigger(tumbling(), continuous())));
    harness.send(1, 5, 0);
    harness.end();
    assert_eq!(harness.rows(), [(0, hour, 1, 5)]);
    // What a count waits for never comes.
    let counts = with_trigger(GlobalWindows::create(), CountTrigger::of(2));
    let mut harness = Harness::new(accumulating(counts));
    harness.send(1, 5, 0);
    harness.end();
    assert_eq!(harness.rows(), []);
}

#[test]
fn the_last_watermark_fires_all_windows_of_event_time_and_global_ones_that_wait_for_it() {
    let mut harness = Harness::new(accumulating(windowing(
        GlobalWindows::create_with_end_of_stream_trigger(),
    )));
    for key in 0..3 {
        harness.send(key, 1, 0);
        harness.send(key, 1, 1 << 50);
    }
    harness.watermark(1 << 55);
    assert_eq!(harness.rows(), []);
    harness.end();
    let row = |key| (i64::MIN, i64::MAX, key, 2);
    assert_eq!(harness.rows(), [row(0), row(1), row(2)]);
}

#[test]
fn firing_many_windows_yields_to_others_and_stops_when_the_output_is_full() {
    let tumbling = TumblingEventTimeWindows::of(ms(10));
    let aligned = assigner::SlidingWindows::new(ms(10), ms(5), 0).expect("legal");
    for operator in [accumulating(windowing(tumbling)), panes(aligned)] {
        let mut harness = Harness::new(operator);
        let keys = crate::limits::FIRE_BITE as u64 * 3;
        for key in 0..keys {
            harness.send(key, 1, 9);
        }
        let signal = Signal::Control(Control::Watermark {
            watermark: Watermark::At(EventTime(9)),
            origin_ns: 0,
        });
        assert_eq!(
            harness.chain.on_signal(signal).expect("fires"),
            Progress::Yielded
        );
        assert!(harness.chain.is_blocked() && harness.chain.has_yielded());
        let first = harness.rows().len();
        assert!(
            first <= crate::limits::FIRE_BITE,
            "{first} rows in one call"
        );
        while harness.chain.resume().expect("fires") != Progress::Done {}
        assert_eq!(
            first + harness.rows().len(),
            usize::try_from(keys).expect("small")
        );
    }
}

/// Counts firings per window and per key.
#[derive(Clone, Default)]
struct Counting {
    of_window: Option<crate::state::handles::ValueState<u64>>,
    of_key: Option<crate::state::handles::ValueState<u64>>,
}

impl ProcessWindowFunction<function::Aggregated<u64>, u64, Sums> for Counting {
    fn open(&mut self, state: &mut crate::state::backend::KeyedStateBackend) -> crate::Result<()> {
        use crate::state::handles::ValueStateDescriptor;
        self.of_window = Some(ValueStateDescriptor::new("of window").register(state)?);
        self.of_key = Some(ValueStateDescriptor::new("of key").register(state)?);
        Ok(())
    }

    fn process(
        &mut self,
        key: &u64,
        context: &mut function::WindowContext<'_>,
        _sum: u64,
        out: &mut Collector<'_, Sums>,
    ) -> crate::Result<()> {
        let (of_window, of_key) = (self.of_window.expect("open"), self.of_key.expect("open"));
        of_key.modify(&mut context.global_state(), |count| {
            Some(count.unwrap_or(0) + 1)
        })?;
        let of_key = of_key.value(&mut context.global_state())?.unwrap_or(0);
        let of_window = context.with_window_state(|access| {
            of_window.modify(access, |count| Some(count.unwrap_or(0) + 1))?;
            of_window.value(access)
        })?;
        emit(
            key,
            100 * of_key + of_window.unwrap_or(0),
            context.window(),
            out,
        );
        Ok(())
    }

    fn clear(&mut self, context: &mut function::WindowContext<'_>) -> crate::Result<()> {
        let of_window = self.of_window.expect("open");
        context.with_window_state(|access| of_window.clear(access))
    }
}

#[test]
fn window_functions_have_state_per_window_and_per_key() {
    let windowing = Windowing {
        allowed_lateness: ms(10),
        ..windowing(TumblingEventTimeWindows::of(ms(10)))
    };
    let contents = Accumulated::<Bid, Sum>::new(Sum);
    let mut harness = Harness::new(general(windowing, contents, Counting::default()));
    harness.send(1, 1, 0);
    harness.send(2, 1, 0);
    harness.watermark(9);
    assert_eq!(harness.rows(), [(0, 10, 1, 101), (0, 10, 2, 101)]);
    harness.send(1, 1, 0);
    assert_eq!(
        harness.rows(),
        [(0, 10, 1, 202)],
        "a late record fires again"
    );
    harness.send(1, 1, 11);
    harness.watermark(19);
    assert_eq!(harness.rows(), [(10, 20, 1, 301)]);
}

#[test]
fn state_of_one_session_window_is_refused_with_what_to_do() {
    let sessions = windowing(EventTimeSessionWindows::with_gap(ms(10)));
    let contents = Accumulated::<Bid, Sum>::new(Sum);
    let mut harness = Harness::new(general(sessions, contents, Counting::default()));
    harness.send(1, 1, 0);
    let signal = Signal::Control(Control::Watermark {
        watermark: Watermark::At(EventTime(100)),
        origin_ns: 0,
    });
    let error = harness.chain.on_signal(signal).expect_err("refused");
    assert!(
        error.to_string().contains("use the key's global state"),
        "{error}"
    );
}

/// Nothing that is open fires, whatever it waits for.
#[test]
fn g17_windows_stay_open_when_their_input_is_cut_off() {
    let size = Duration::from_secs(3_600);
    let global = GlobalWindows::create_with_end_of_stream_trigger;
    let operators = || {
        [
            accumulating(windowing(TumblingProcessingTimeWindows::of(size))),
            accumulating(windowing(TumblingEventTimeWindows::of(size))),
            accumulating(windowing(ProcessingTimeSessionWindows::with_gap(size))),
            listing(windowing(global()), None),
        ]
    };
    for (cut_off, drained) in operators().into_iter().zip(operators()) {
        let mut harness = Harness::new(cut_off);
        harness.send(1, 5, 3);
        harness.cut_off();
        assert_eq!(harness.rows(), []);
        let mut harness = Harness::new(drained);
        harness.send(1, 5, 3);
        harness.end();
        assert_eq!(harness.rows().len(), 1, "the same with a drain");
    }
}
