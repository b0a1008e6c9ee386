//! Windows against one naive model, and each piece by table.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_queue::SegQueue;

use super::assigner::WindowAssigner;
use super::contents::{Accumulated, Contents, Listed};
use super::evictor::Evictor;
use super::function::{Apply, Emit, ProcessWindowFunction, WindowElements};
use super::operator::Windowing;
use super::trigger::Trigger;
use super::*;
use crate::element::{Control, StopMode, Watermark};
use crate::metrics::SubtaskMetrics;
use crate::operator::chain::{Captured, Chain, ChainNode, Output, Signal, test_context};
use crate::operator::stateless::Filter;
use crate::operator::{Operator, Progress};
use crate::record::{RecordRef, RowKind};
use crate::runtime::clock::{Clock, ManualTime};
use crate::runtime::context::OpenContext;

mod general;
mod model;
mod pieces;

/// A record of one key and a value: 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Bid([u8; 16]);

impl Bid {
    fn new(key: u64, value: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&key.to_le_bytes());
        bytes[8..].copy_from_slice(&value.to_le_bytes());
        Self(bytes)
    }

    fn key(&self) -> u64 {
        u64::from_le_bytes(*self.0.first_chunk().expect("16 bytes"))
    }

    fn value(&self) -> u64 {
        u64::from_le_bytes(*self.0.last_chunk().expect("16 bytes"))
    }
}

// SAFETY: any 16 bytes are a bid.
unsafe impl Record for Bid {
    type View<'a> = Self;
    const NAME: &'static str = "Bid";
    fn verify(bytes: &[u8]) -> Result<(), String> {
        (bytes.len() == 16)
            .then_some(())
            .ok_or_else(|| "16 bytes".to_owned())
    }
    unsafe fn view(bytes: &[u8]) -> Self {
        Self(*bytes.first_chunk().expect("16 bytes"))
    }
}

impl StructRecord for Bid {
    fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Start, end, key, value.
type ResultRow = (i64, i64, u64, u64);
type Sums = WindowResult<u64, u64>;

/// Adds values up; what is kept has no fixed length, so that it moves in state.
#[derive(Debug, Clone, Copy)]
struct Sum;

impl AggregateFunction<Bid> for Sum {
    type Accumulator = Vec<u8>;
    type Output = u64;
    fn create_accumulator(&self) -> Vec<u8> {
        Vec::new()
    }
    fn add(&self, bid: Row<'_, Bid>, sum: &mut Vec<u8>) {
        sum.extend(std::iter::repeat_n(
            1,
            usize::try_from(bid.value()).expect("small"),
        ));
    }
    fn merge(&self, into: &mut Vec<u8>, other: &Vec<u8>) {
        into.extend(other);
    }
    fn result(&self, sum: Vec<u8>) -> u64 {
        sum.len() as u64
    }
}

fn emit(key: &u64, value: u64, window: TimeWindow, out: &mut Collector<'_, Sums>) {
    out.collect_window_result(key, &value, window);
}

fn emit_sum(
    key: &u64,
    window: TimeWindow,
    bids: WindowElements<'_, Bid>,
    out: &mut Collector<'_, Sums>,
) {
    let sum = bids.iter().map(|bid| bid.value()).sum();
    emit(key, sum, window, out);
}

fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

fn windowing(assigner: impl WindowAssigner<Bid>) -> Windowing<Bid> {
    Windowing {
        assigner: Arc::new(assigner),
        trigger: None,
        allowed_lateness: Duration::ZERO,
        late_output: None,
    }
}

fn general<C, W>(windowing: Windowing<Bid>, contents: C, function: W) -> Box<dyn Operator>
where
    C: Contents<Bid> + 'static,
    W: ProcessWindowFunction<C::Input, u64, Sums>,
{
    Box::new(WindowOperator::<Bid, u64, C, W, Sums, _>::new(
        windowing,
        |bid: Row<'_, Bid>| bid.key(),
        contents,
        function,
    ))
}

/// With an accumulator for each window.
fn accumulating(windowing: Windowing<Bid>) -> Box<dyn Operator> {
    general(windowing, Accumulated::<Bid, Sum>::new(Sum), Emit(emit))
}

/// With every record in each window.
fn listing(windowing: Windowing<Bid>, evictor: Option<Box<dyn Evictor<Bid>>>) -> Box<dyn Operator> {
    general(windowing, Listed::<Bid>::new(evictor), Apply(emit_sum))
}

fn with_trigger(assigner: impl WindowAssigner<Bid>, trigger: impl Trigger<Bid>) -> Windowing<Bid> {
    Windowing {
        trigger: Some(Box::new(trigger)),
        ..windowing(assigner)
    }
}

fn panes(windows: assigner::SlidingWindows) -> Box<dyn Operator> {
    Box::new(PaneOperator::<Bid, u64, _, Sums, _, _>::new(
        windows,
        |bid: Row<'_, Bid>| bid.key(),
        Sum,
        emit,
    ))
}

/// An operator in a chain of its own, under a clock of its own.
struct Harness {
    chain: Chain,
    metrics: Rc<SubtaskMetrics>,
    time: ManualTime,
    now_ms: i64,
    late: Arc<SegQueue<u64>>,
    seen: usize,
}

const LATE: crate::operator::side_output::OutputTag<Bid> =
    crate::operator::side_output::OutputTag::new("late");

impl Harness {
    fn new(operator: Box<dyn Operator>) -> Self {
        let late = Arc::<SegQueue<u64>>::default();
        let metrics = Rc::new(SubtaskMetrics::default());
        let node = ChainNode::new("window", operator, Output::Capture(Vec::new()));
        Self::open(node, metrics, late)
    }

    /// With a consumer of late records; results are not captured.
    fn with_side_output(operator: Box<dyn Operator>) -> Self {
        let late = Arc::<SegQueue<u64>>::default();
        let seen = Arc::clone(&late);
        let keep = Filter::<Bid, _>::new(move |bid: Row<'_, Bid>| {
            seen.push(bid.value());
            true
        });
        let side = Output::Chained(Box::new(ChainNode::new(
            "late",
            Box::new(keep),
            Output::End,
        )));
        let output = Output::Sides(Box::new(Output::End), vec![(LATE.id(), side)]);
        let metrics = Rc::new(SubtaskMetrics::default());
        Self::open(ChainNode::new("window", operator, output), metrics, late)
    }

    fn open(node: ChainNode, metrics: Rc<SubtaskMetrics>, late: Arc<SegQueue<u64>>) -> Self {
        let mut chain = Chain::new(Output::Chained(Box::new(node)));
        let time = ManualTime::default();
        let context = OpenContext {
            clock: Rc::new(Clock::manual(time)),
            ..test_context(Rc::clone(&metrics))
        };
        chain.open(&context).expect("opens");
        Self {
            chain,
            metrics,
            time,
            now_ms: 0,
            late,
            seen: 0,
        }
    }

    fn send(&mut self, key: u64, value: u64, time: i64) {
        let bid = Bid::new(key, value);
        let record = RecordRef {
            bytes: bid.as_bytes(),
            timestamp: EventTime(time),
            key_hash: u32::try_from(key % 7).expect("small"),
            kind: RowKind::Insert,
            origin_ns: 0,
        };
        self.chain.on_record(&record).expect("a record that fits");
    }

    fn signal(&mut self, signal: Signal) {
        let mut progress = self.chain.on_signal(signal).expect("fires");
        while progress != Progress::Done {
            assert_eq!(progress, Progress::Yielded, "nothing is in the way");
            progress = self.chain.resume().expect("fires");
        }
    }

    fn watermark(&mut self, time: i64) {
        self.signal(Signal::Control(Control::Watermark {
            watermark: Watermark::At(EventTime(time)),
            origin_ns: 0,
        }));
    }

    fn idle(&mut self) {
        self.signal(Signal::Control(Control::Watermark {
            watermark: Watermark::Idle,
            origin_ns: 0,
        }));
    }

    /// The clock goes on to `now_ms`, and the subtask looks at it as it would: at each time that it was asked to.
    fn clock(&mut self, now_ms: i64) {
        while let Some(next) = self
            .chain
            .next_processing_time()
            .filter(|next| *next <= now_ms)
        {
            self.now_ms = self.now_ms.max(next);
            self.time.set_ms(self.now_ms.unsigned_abs());
            self.signal(Signal::ProcessingTime(self.now_ms));
        }
        self.now_ms = now_ms;
        self.time.set_ms(now_ms.unsigned_abs());
    }

    /// The input is cut off: a stop without a drain.
    fn cut_off(&mut self) {
        self.signal(Signal::Control(Control::EndOfInput(StopMode::NoDrain)));
    }

    fn end(&mut self) {
        self.watermark(i64::MAX);
        self.signal(Signal::Control(Control::EndOfInput(StopMode::Drain)));
    }

    /// What came out since the last call, sorted.
    fn rows(&mut self) -> Vec<ResultRow> {
        let captured = self.chain.captured();
        let row = |captured: &Captured| match captured {
            Captured::Record(bytes, time) => {
                // SAFETY: the operators above write window results.
                let result = unsafe { Sums::view(bytes) };
                let window = result.window();
                assert_eq!(*time, window.max_timestamp());
                Some((window.start(), window.end(), *result.key(), *result.value()))
            }
            Captured::Signal(_) | Captured::Change(..) => None,
        };
        let mut rows: Vec<_> = captured[self.seen..].iter().filter_map(row).collect();
        self.seen = captured.len();
        rows.sort_unstable();
        rows
    }

    fn dropped(&self) -> u64 {
        self.metrics.late_records_dropped.get()
    }

    fn late(&self) -> Vec<u64> {
        std::iter::from_fn(|| self.late.pop()).collect()
    }
}

#[test]
fn a_record_without_a_timestamp_is_an_error_that_says_what_to_do() {
    let tumbling = assigner::TumblingEventTimeWindows::of(ms(10));
    let aligned = assigner::SlidingWindows::new(ms(10), ms(10), 0).expect("legal");
    for operator in [panes(aligned), accumulating(windowing(tumbling))] {
        let mut harness = Harness::new(operator);
        let record = RecordRef {
            bytes: &[0; 16],
            timestamp: EventTime::NONE,
            key_hash: 0,
            kind: RowKind::Insert,
            origin_ns: 0,
        };
        let error = harness.chain.on_record(&record).expect_err("no timestamp");
        let error = error.to_string();
        assert!(
            error.contains("operator `window`") && error.contains("timestamp assigner"),
            "{error}"
        );
    }
}
