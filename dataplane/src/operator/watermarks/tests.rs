use super::*;
use crate::metrics::SubtaskMetrics;
use crate::operator::chain::{Captured, Chain, ChainNode, Signal, test_context};
use crate::record::RowKind;
use crate::runtime::clock::ManualTime;

/// A chain of the operator, at a time set by hand.
struct Tested {
    chain: Chain,
    time: ManualTime,
    /// So much of what came out was looked at.
    seen: usize,
}

impl Tested {
    /// Event time is the record's first byte.
    fn new(policy: WatermarkPolicy) -> Self {
        let assigner: TimestampAssigner =
            std::sync::Arc::new(|bytes| EventTime(i64::from(bytes[0])));
        let operator = TimestampsAndWatermarks::new(policy, Some(assigner));
        let output = Output::Capture(Vec::new());
        let node = ChainNode::new("times", Box::new(operator), output);
        let mut chain = Chain::new(Output::Chained(Box::new(node)));
        let time = ManualTime::default();
        let mut context = test_context(Rc::new(SubtaskMetrics::default()));
        context.clock = Rc::new(Clock::manual(time));
        chain.open(&context).expect("opens");
        Self {
            chain,
            time,
            seen: 0,
        }
    }

    fn push(&mut self, time: u8) {
        let record = RecordRef {
            bytes: &[time],
            timestamp: EventTime(7_000),
            key_hash: 0,
            kind: RowKind::Insert,
            origin_ns: 5,
        };
        self.chain.on_record(&record).expect("passes");
    }

    fn signal(&mut self, control: Control) {
        let progress = self.chain.on_signal(Signal::Control(control));
        assert_eq!(progress.expect("passes"), Progress::Done);
    }

    /// What came out of a turn: times of records, then control elements.
    fn turn(&mut self) -> Vec<String> {
        self.chain.release().expect("no failure");
        assert!(!self.chain.can_release(), "there is no news left");
        let captured = &self.chain.captured()[self.seen..];
        self.seen += captured.len();
        captured.iter().map(text).collect()
    }
}

fn text(captured: &Captured) -> String {
    match captured {
        Captured::Record(_, time) | Captured::Change(_, time, _) => format!("record {}", time.0),
        Captured::Signal(Control::Watermark { watermark, .. }) => match watermark {
            Watermark::At(EventTime::MAX) => "end of time".to_owned(),
            Watermark::At(time) => format!("watermark {}", time.0),
            Watermark::Idle => "idle".to_owned(),
        },
        Captured::Signal(Control::EndOfInput(_)) => "end".to_owned(),
    }
}

fn watermark(watermark: Watermark) -> Control {
    Control::Watermark {
        watermark,
        origin_ns: 0,
    }
}

#[test]
fn records_get_times_and_one_watermark_a_turn_follows_them() {
    let mut tested = Tested::new(WatermarkPolicy::bounded(2, None));
    assert_eq!(tested.turn(), [""; 0]);
    for time in [10, 14, 12] {
        tested.push(time);
    }
    assert!(tested.chain.can_release(), "the core does not sleep on it");
    let expected = ["record 10", "record 14", "record 12", "watermark 11"];
    assert_eq!(tested.turn(), expected);
    tested.push(13);
    assert_eq!(tested.turn(), ["record 13"]);
}

#[test]
fn watermarks_of_upstream_end_here_but_for_the_last() {
    let mut tested = Tested::new(WatermarkPolicy::bounded(0, None));
    tested.push(50);
    tested.signal(watermark(Watermark::At(EventTime(8_000))));
    tested.signal(watermark(Watermark::Idle));
    assert_eq!(tested.turn(), ["record 50", "watermark 49"]);
    tested.push(60);
    tested.signal(watermark(Watermark::At(EventTime::MAX)));
    tested.signal(Control::EndOfInput(StopMode::Drain));
    // Nothing follows, not even the watermark that record 60 would have made.
    assert_eq!(tested.turn(), ["record 60", "end of time", "end"]);
    assert_eq!(tested.turn(), [""; 0]);
}

#[test]
fn a_stop_without_a_drain_fires_nothing() {
    let mut tested = Tested::new(WatermarkPolicy::bounded(0, None));
    tested.push(60);
    tested.signal(Control::EndOfInput(StopMode::NoDrain));
    assert_eq!(tested.turn(), ["record 60", "end"]);
}

#[test]
fn a_stream_without_records_falls_idle_and_wakes_up() {
    let idle_after_ns = Some(100 * NS_PER_MS);
    let mut tested = Tested::new(WatermarkPolicy::bounded(0, idle_after_ns));
    assert_eq!(tested.chain.next_processing_time(), Some(101));
    tested.time.set_ms(1_000);
    // As after a time in which its output was full: what waits is read first.
    assert_eq!(tested.turn(), [""; 0]);
    tested.push(9);
    assert_eq!(tested.turn(), ["record 9", "watermark 8"]);
    assert_eq!(tested.chain.next_processing_time(), Some(1_101));
    tested.time.set_ms(1_101);
    let fired = tested.chain.on_signal(Signal::ProcessingTime(1_101));
    assert_eq!(fired.expect("passes"), Progress::Done);
    assert!(tested.chain.can_release());
    assert_eq!(tested.turn(), ["idle"]);
    tested.push(5);
    assert_eq!(
        tested.turn(),
        ["record 5", "watermark 8"],
        "as far as it was"
    );
}
