//! The operator in a chain, with futures that a test completes: each record's future waits for the test to answer it.

use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::element::{StopMode, Watermark};
use crate::metrics::SubtaskMetrics;
use crate::operator::chain::{Captured, Chain, ChainNode, Signal, test_context};
use crate::operator::testing::Triple;
use crate::record::{EventTime, RowKind, StructRecord};
use crate::runtime::clock::Clock;

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(20);

type Given = Result<Vec<Triple>, String>;
type Awaited = Pin<Box<dyn Future<Output = Given> + Send>>;
/// A record's key, and where its results go.
type Asked = (u64, oneshot::Sender<Given>);

const fn at(time: i64) -> Control {
    Control::Watermark {
        watermark: Watermark::At(EventTime(time)),
        origin_ns: 0,
    }
}

const IDLE: Control = Control::Watermark {
    watermark: Watermark::Idle,
    origin_ns: 0,
};

/// A chain of the operator alone, or with another one behind.
struct Tested {
    chain: Chain,
    asked: mpsc::UnboundedReceiver<Asked>,
    open: HashMap<u64, oneshot::Sender<Given>>,
    /// The futures' threads end with this.
    _threads: FutureThreads,
}

/// A function that hands each record to the test.
fn ask() -> (
    impl Fn(OwnedRecord<Triple>) -> Awaited + Send + Sync + 'static,
    mpsc::UnboundedReceiver<Asked>,
) {
    let (sender, asked) = mpsc::unbounded_channel();
    let ask = move |record: OwnedRecord<Triple>| {
        let sender = sender.clone();
        let future = async move {
            let (answer, given) = oneshot::channel();
            drop(sender.send((record.view().key(), answer)));
            given
                .await
                .unwrap_or_else(|_| Err("the test let go of it".to_owned()))
        };
        Box::pin(future) as Awaited
    };
    (ask, asked)
}

fn operator(function: AsyncFunction, threads: &FutureThreads) -> Box<dyn Operator> {
    Box::new(AsyncWaitOperator::new(function, threads).expect("good options"))
}

fn chain_of(head: ChainNode) -> Chain {
    let mut chain = Chain::new(Output::Chained(Box::new(head)));
    chain
        .open(&test_context(Rc::new(SubtaskMetrics::default())))
        .expect("opens");
    chain
}

impl Tested {
    fn new(mode: OutputMode, capacity: usize) -> Self {
        Self::in_front_of(mode, capacity, Output::Capture(Vec::new()))
    }

    fn in_front_of(mode: OutputMode, capacity: usize, behind: Output) -> Self {
        let threads = FutureThreads::default();
        let (function, asked) = ask();
        let options = AsyncOptions::timeout(LONG).capacity(capacity);
        // SAFETY: the tests push triples.
        let function = unsafe { AsyncFunction::new(mode, options, function) };
        let node = ChainNode::new("asks", operator(function, &threads), behind);
        Self {
            chain: chain_of(node),
            asked,
            open: HashMap::new(),
            _threads: threads,
        }
    }

    fn push(&mut self, key: u64) {
        push(&mut self.chain, key);
    }

    /// A watermark, which holds nothing up.
    fn watermark(&mut self, control: Control) {
        let progress = self.chain.on_signal(Signal::Control(control));
        assert_eq!(progress.expect("passes"), Progress::Done);
    }

    /// The end of input, which has to wait.
    fn end(&mut self) {
        let progress = self
            .chain
            .on_signal(Signal::Control(Control::EndOfInput(StopMode::Drain)));
        assert_eq!(progress.expect("passes"), Progress::Blocked);
    }

    /// Waits until the function has been called with all these.
    fn called(&mut self, keys: &[u64]) {
        while !keys.iter().all(|key| self.open.contains_key(key)) {
            let (key, answer) = self.asked.blocking_recv().expect("the operator is there");
            assert!(self.open.insert(key, answer).is_none(), "{key} twice");
        }
    }

    /// Gives a record its results; its task passes them on in its own time.
    fn answer(&mut self, key: u64, given: Given) {
        self.called(&[key]);
        let answer = self.open.remove(&key).expect("called");
        answer.send(given).expect("awaited");
    }

    /// Each of these gives one record of its key.
    fn complete(&mut self, keys: &[u64]) {
        for key in keys {
            self.answer(*key, Ok(vec![Triple::new(*key, 0, 0)]));
        }
    }

    /// Turns until so many elements came out.
    fn turn_until(&mut self, count: usize) -> Vec<String> {
        let deadline = Deadline::new();
        while self.chain.captured().len() < count {
            self.turn().expect("no failure");
            deadline.check();
        }
        self.out()
    }

    fn turn(&mut self) -> Result<()> {
        turn(&mut self.chain)
    }

    fn out(&self) -> Vec<String> {
        out(&self.chain)
    }
}

fn push(chain: &mut Chain, key: u64) {
    let row = Triple::new(key, 0, 0);
    let record = RecordRef {
        bytes: row.as_bytes(),
        timestamp: EventTime(i64::try_from(key).expect("small")),
        key_hash: 77,
        kind: RowKind::Insert,
        origin_ns: key,
    };
    chain.on_record(&record).expect("takes it");
}

/// What a subtask does in a turn.
fn turn(chain: &mut Chain) -> Result<()> {
    chain.poll()?;
    chain.release()?;
    if chain.is_resuming() {
        let resumed = chain.resume()?;
        assert_eq!(resumed != Progress::Done, chain.is_resuming());
    }
    Ok(())
}

fn out(chain: &Chain) -> Vec<String> {
    let line = |captured: &Captured| match captured {
        Captured::Record(bytes, time) => {
            let key = Triple(bytes[..].try_into().expect("a triple")).key();
            format!("{key}@{}", time.0)
        }
        Captured::Change(_, _, kind) => kind.short_name().to_owned(),
        Captured::Signal(Control::EndOfInput(_)) => "end".to_owned(),
        Captured::Signal(Control::Watermark { watermark, .. }) => match watermark {
            Watermark::At(time) => format!("wm {}", time.0),
            Watermark::Idle => "idle".to_owned(),
        },
    };
    chain.captured().iter().map(line).collect()
}

/// So that a test that would wait for ever fails.
struct Deadline(Clock, u64);

impl Deadline {
    fn new() -> Self {
        let clock = Clock::system();
        let until = clock.now_ns() + 30_000_000_000;
        Self(clock, until)
    }

    fn check(&self) {
        assert!(self.0.now_ns() < self.1, "nothing came for 30 s");
        std::thread::yield_now();
    }
}

/// Turns until the job fails; with what.
fn failure(chain: &mut Chain) -> String {
    let deadline = Deadline::new();
    loop {
        if let Err(error) = turn(chain) {
            return error.to_string();
        }
        deadline.check();
    }
}

#[test]
fn ordered_results_leave_in_the_order_of_their_records() {
    let mut tested = Tested::new(OutputMode::Ordered, 10);
    for key in 1..=4 {
        tested.push(key);
    }
    tested.watermark(at(4));
    tested.push(5);
    tested.watermark(IDLE);
    tested.complete(&[5, 4, 3, 2]);
    // Several turns may see some of the answers: none of them may leave.
    tested.turn().expect("no failure");
    assert_eq!(tested.out(), [""; 0]);
    tested.complete(&[1]);
    let expected = ["1@1", "2@2", "3@3", "4@4", "wm 4", "5@5", "idle"];
    assert_eq!(tested.turn_until(7), expected);
}

#[test]
fn updates_may_not_overtake_each_other() {
    for (mode, passes) in [(OutputMode::Ordered, true), (OutputMode::Unordered, false)] {
        let mut tested = Tested::new(mode, 4);
        let row = Triple::new(1, 0, 0);
        let record = RecordRef {
            bytes: row.as_bytes(),
            timestamp: EventTime(1),
            key_hash: 0,
            kind: RowKind::UpdateAfter,
            origin_ns: 0,
        };
        let taken = tested.chain.on_record(&record);
        assert_eq!(taken.is_ok(), passes);
        if let Err(error) = taken {
            assert!(error.to_string().contains("use `ordered_wait`"), "{error}");
        }
    }
}

#[test]
fn unordered_results_overtake_each_other_between_watermarks() {
    let mut tested = Tested::new(OutputMode::Unordered, 10);
    for key in 1..=3 {
        tested.push(key);
    }
    tested.watermark(at(3));
    tested.push(4);
    tested.complete(&[4, 3]);
    assert_eq!(tested.turn_until(1), ["3@3"]);
    tested.complete(&[1]);
    assert_eq!(tested.turn_until(2), ["3@3", "1@1"]);
    tested.complete(&[2]);
    assert_eq!(tested.turn_until(5), ["3@3", "1@1", "2@2", "wm 3", "4@4"]);
}

#[test]
fn watermarks_pass_at_once_when_nothing_is_on_its_way() {
    let mut tested = Tested::new(OutputMode::Ordered, 10);
    tested.watermark(at(1));
    assert_eq!(tested.out(), ["wm 1"]);
    tested.push(2);
    tested.complete(&[2]);
    tested.turn_until(2);
    tested.watermark(at(3));
    assert_eq!(tested.out(), ["wm 1", "2@2", "wm 3"]);
}

#[test]
fn the_end_of_input_waits_for_all_results() {
    let mut tested = Tested::new(OutputMode::Unordered, 10);
    tested.push(1);
    tested.push(2);
    tested.watermark(at(i64::MAX));
    tested.end();
    tested.complete(&[2]);
    tested.turn_until(1);
    tested.turn().expect("no failure");
    assert!(tested.chain.is_resuming());
    assert_eq!(tested.out(), ["2@2"]);
    tested.complete(&[1]);
    let end = format!("wm {}", i64::MAX);
    assert_eq!(tested.turn_until(4), ["2@2", "1@1", &end, "end"]);
    assert!(!tested.chain.is_resuming());
}

#[test]
fn at_its_capacity_the_operator_takes_no_more_until_results_are_out() {
    let mut tested = Tested::new(OutputMode::Ordered, 2);
    assert!(!tested.chain.is_blocked());
    tested.push(1);
    tested.push(2);
    assert!(tested.chain.is_blocked());
    // An operator before it may have made several records of one: they wait and are not called.
    tested.push(3);
    tested.called(&[1, 2]);
    tested.complete(&[2]);
    tested.turn().expect("no failure");
    assert!(tested.asked.try_recv().is_err() && tested.chain.is_blocked());
    // Two out, one comes in.
    tested.complete(&[1]);
    assert_eq!(tested.turn_until(2), ["1@1", "2@2"]);
    assert!(!tested.chain.is_blocked());
    tested.called(&[3]);
    tested.push(4);
    assert!(tested.chain.is_blocked());
    tested.complete(&[4, 3]);
    assert_eq!(tested.turn_until(4)[2..], ["3@3", "4@4"]);
}

#[test]
fn a_record_gives_no_results_or_many_with_its_time_and_kind() {
    let mut tested = Tested::new(OutputMode::Ordered, 10);
    for key in 1..=2 {
        tested.push(key);
    }
    let row = Triple::new(3, 0, 0);
    let record = RecordRef {
        bytes: row.as_bytes(),
        timestamp: EventTime(3),
        key_hash: 0,
        kind: RowKind::Delete,
        origin_ns: 0,
    };
    tested.chain.on_record(&record).expect("takes it");
    tested.answer(1, Ok(Vec::new()));
    // More than one turn gives out.
    let many = crate::limits::FIRE_BITE + 10;
    tested.answer(
        2,
        Ok((0..).map(|key| Triple::new(key, 0, 0)).take(many).collect()),
    );
    tested.complete(&[3]);
    let out = tested.turn_until(many + 1);
    assert_eq!(
        (&out[0][..], &out[many - 1][..]),
        ("0@2", &format!("{}@2", many - 1)[..])
    );
    assert_eq!(out[many], "-D");
}

#[test]
fn a_turn_gives_out_so_much_that_others_get_theirs() {
    let mut tested = Tested::new(OutputMode::Ordered, 10);
    tested.push(1);
    let bite = crate::limits::FIRE_BITE;
    tested.answer(1, Ok(vec![Triple::new(1, 0, 0); 2 * bite + 1]));
    let deadline = Deadline::new();
    while !tested.chain.can_release() {
        deadline.check();
    }
    let mut counts = Vec::new();
    while tested.chain.can_release() {
        tested.turn().expect("no failure");
        counts.push(tested.chain.captured().len());
    }
    assert_eq!(counts, [bite, 2 * bite, 2 * bite + 1]);
}

/// Passes a watermark on in its third piece, and records at once.
#[derive(Default)]
struct Slow(u32);

impl Operator for Slow {
    fn on_record(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        output.collect(record)
    }

    fn on_watermark(&mut self, _: EventTime, _: u64, _: &mut Output) -> Result<Progress> {
        self.0 = 2;
        Ok(Progress::Blocked)
    }

    fn resume(&mut self, _output: &mut Output) -> Result<Progress> {
        self.0 -= 1;
        Ok(if self.0 == 0 {
            Progress::Done
        } else {
            Progress::Blocked
        })
    }
}

#[test]
fn what_is_released_waits_behind_a_watermark_that_is_blocked() {
    let slow = ChainNode::new(
        "slow",
        Box::new(Slow::default()),
        Output::Capture(Vec::new()),
    );
    let behind = Output::Chained(Box::new(slow));
    let mut tested = Tested::in_front_of(OutputMode::Ordered, 10, behind);
    tested.push(1);
    tested.watermark(at(1));
    tested.push(2);
    tested.watermark(at(2));
    tested.end();
    tested.complete(&[2, 1]);
    assert_eq!(tested.turn_until(5), ["1@1", "wm 1", "2@2", "wm 2", "end"]);
}

#[test]
fn two_of_them_in_one_chain_pass_watermarks_in_order() {
    let threads = FutureThreads::default();
    let chained = |behind| {
        let options = AsyncOptions::timeout(LONG).capacity(3);
        let function = |record: OwnedRecord<Triple>| async move {
            // Some are ready at once, some after others.
            for _ in 0..record.view().key() % 3 {
                tokio::task::yield_now().await;
            }
            Ok::<_, String>(vec![record.view()])
        };
        // SAFETY: the test pushes triples, and the first passes them on.
        let function = unsafe { AsyncFunction::new(OutputMode::Ordered, options, function) };
        ChainNode::new("passes", operator(function, &threads), behind)
    };
    let second = chained(Output::Capture(Vec::new()));
    let mut chain = chain_of(chained(Output::Chained(Box::new(second))));
    let (mut expected, deadline) = (Vec::new(), Deadline::new());
    for key in 0..100 {
        while chain.is_blocked() {
            turn(&mut chain).expect("no failure");
            deadline.check();
        }
        push(&mut chain, key);
        expected.push(format!("{key}@{key}"));
        if key % 4 == 3 {
            let time = i64::try_from(key).expect("small");
            let done = chain.on_signal(Signal::Control(at(time))).expect("passes");
            assert_eq!(done, Progress::Done);
            expected.push(format!("wm {key}"));
        }
    }
    while chain.is_blocked() {
        turn(&mut chain).expect("no failure");
        deadline.check();
    }
    expected.push("end".to_owned());
    let ended = chain.on_signal(Signal::Control(Control::EndOfInput(StopMode::Drain)));
    assert!(ended.is_ok());
    while chain.captured().len() < expected.len() {
        turn(&mut chain).expect("no failure");
        deadline.check();
    }
    assert_eq!(out(&chain), expected);
}

/// A chain whose function fails in its way, with one record in it.
fn failing<Fut>(
    options: AsyncOptions,
    function: impl Fn(OwnedRecord<Triple>) -> Fut + Send + Sync + 'static,
) -> (Chain, FutureThreads)
where
    Fut: Future<Output = Given> + Send + 'static,
{
    let threads = FutureThreads::default();
    // SAFETY: the test pushes triples.
    let function = unsafe { AsyncFunction::new(OutputMode::Ordered, options, function) };
    let node = ChainNode::new(
        "enrich",
        operator(function, &threads),
        Output::Capture(Vec::new()),
    );
    let mut chain = chain_of(node);
    push(&mut chain, 1);
    (chain, threads)
}

#[test]
fn failures_name_the_operator_and_say_what_happened() {
    let (mut chain, _threads) = failing(AsyncOptions::timeout(LONG), |_| async {
        Err("no such customer".to_owned())
    });
    let text = failure(&mut chain);
    assert_eq!(
        text,
        "operator `enrich`: the async function failed: no such customer"
    );

    let (mut chain, _threads) = failing(AsyncOptions::timeout(SHORT), |_| std::future::pending());
    let text = failure(&mut chain);
    let expected =
        "operator `enrich`: the async function gave no result within its timeout of 20ms";
    assert!(text.starts_with(expected), "{text}");

    let (mut chain, _threads) = failing(AsyncOptions::timeout(LONG), |record| async move {
        assert_ne!(record.view().key(), 1, "one is a bad number");
        Ok(Vec::new())
    });
    let text = failure(&mut chain);
    assert!(
        text.starts_with("operator `enrich`: the async function panicked: "),
        "{text}"
    );
    assert!(text.contains("one is a bad number"), "{text}");

    // Where the future is made, not awaited.
    let (mut chain, _threads) = failing(AsyncOptions::timeout(LONG), |record| {
        assert_ne!(record.view().key(), 1);
        std::future::pending()
    });
    assert!(failure(&mut chain).contains("panicked"));
}

#[test]
fn retries_go_on_until_one_succeeds_or_none_is_left() {
    let retry = AsyncRetryStrategy::fixed_delay(2, Duration::from_millis(1));
    let options = AsyncOptions::timeout(LONG).retry(retry);
    let calls = Arc::new(AtomicU32::new(0));
    let fails_for = |times: u32| {
        let calls = Arc::clone(&calls);
        calls.store(0, Ordering::Relaxed);
        move |record: OwnedRecord<Triple>| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            async move {
                if call < times {
                    return Err(format!("call {call}"));
                }
                Ok(vec![record.view()])
            }
        }
    };
    let (mut chain, _threads) = failing(options, fails_for(2));
    let deadline = Deadline::new();
    while chain.captured().is_empty() {
        turn(&mut chain).expect("the third call succeeds");
        deadline.check();
    }
    assert_eq!(
        (out(&chain), calls.load(Ordering::Relaxed)),
        (vec!["1@1".to_owned()], 3)
    );

    let (mut chain, _threads) = failing(options, fails_for(3));
    let text = failure(&mut chain);
    assert!(
        text.ends_with("failed, the last of 3 times with: call 2"),
        "{text}"
    );
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[test]
fn empty_results_are_tried_again_if_asked_for() {
    let retry = AsyncRetryStrategy::fixed_delay(5, Duration::from_millis(1));
    for (retry, expected) in [(retry, 1), (retry.retry_empty_results(), 6)] {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let (mut chain, _threads) = failing(AsyncOptions::timeout(LONG).retry(retry), move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Ok(Vec::new()) }
        });
        let deadline = Deadline::new();
        let ended = chain.on_signal(Signal::Control(Control::EndOfInput(StopMode::Drain)));
        assert_ne!(ended.expect("passes"), Progress::Done);
        while out(&chain) != ["end"] {
            turn(&mut chain).expect("nothing to show is no failure");
            deadline.check();
        }
        assert_eq!(calls.load(Ordering::Relaxed), expected);
    }
}

#[test]
fn the_timeout_counts_retries_in_and_may_have_results_of_its_own() {
    let retry = AsyncRetryStrategy::fixed_delay(u32::MAX, Duration::from_millis(1));
    let options = AsyncOptions::timeout(SHORT).retry(retry);
    let (mut chain, _threads) = failing(options, |_| async { Err("again".to_owned()) });
    assert!(failure(&mut chain).contains("its timeout of 20ms"));

    let threads = FutureThreads::default();
    let never = |_: OwnedRecord<Triple>| std::future::pending::<Given>();
    let default = |record: OwnedRecord<Triple>| {
        Ok::<_, String>(vec![Triple::new(record.view().key() + 100, 0, 0)])
    };
    // SAFETY: the test pushes triples.
    let function = unsafe { AsyncFunction::new(OutputMode::Ordered, options, never) };
    // SAFETY: as above.
    let function = unsafe { function.or_else(default) };
    let node = ChainNode::new(
        "enrich",
        operator(function, &threads),
        Output::Capture(Vec::new()),
    );
    let mut chain = chain_of(node);
    push(&mut chain, 1);
    let deadline = Deadline::new();
    while chain.captured().is_empty() {
        turn(&mut chain).expect("a timeout is no failure here");
        deadline.check();
    }
    assert_eq!(out(&chain), ["101@1"]);
}

#[test]
fn calls_are_dropped_with_the_operator() {
    let mut tested = Tested::new(OutputMode::Ordered, 10);
    for key in 1..=5 {
        tested.push(key);
    }
    tested.called(&[1, 2, 3, 4, 5]);
    drop(tested.chain.close());
    let deadline = Deadline::new();
    while tested.open.values().any(|answer| !answer.is_closed()) {
        deadline.check();
    }
}

#[test]
fn a_sleeping_core_is_woken_by_an_answer() {
    let threads = FutureThreads::default();
    let (function, mut asked) = ask();
    // SAFETY: the test pushes triples.
    let function =
        unsafe { AsyncFunction::new(OutputMode::Ordered, AsyncOptions::timeout(LONG), function) };
    let context = test_context(Rc::new(SubtaskMetrics::default()));
    let node = ChainNode::new(
        "asks",
        operator(function, &threads),
        Output::Capture(Vec::new()),
    );
    let mut chain = Chain::new(Output::Chained(Box::new(node)));
    chain.open(&context).expect("opens");
    push(&mut chain, 1);
    let (_, answer) = asked.blocking_recv().expect("called");
    context.doorbell.publish_asleep();
    assert!(!chain.can_release());
    answer.send(Ok(Vec::new())).expect("awaited");
    let deadline = Deadline::new();
    while context.doorbell.is_asleep() {
        deadline.check();
    }
    assert!(chain.can_release(), "published before the bell was rung");
}
