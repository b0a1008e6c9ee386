use std::num::NonZeroU64;

use ringflow_schemas::id::JobId;

use super::*;
use crate::batch::{Buffer, BufferPool};
use crate::exchange::channel::{ChannelReceiver, ChannelSender};
use crate::exchange::local::LocalQueue;
use crate::exchange::partitioner::Partitioner;
use crate::exchange::result_partition::ResultPartition;
use crate::limits::BUFFER_BYTES;
use crate::operator::Operator;
use crate::operator::chain::{ChainNode, Output};
use crate::record::{RecordRef, RowKind};
use crate::source::watermark::WatermarkPolicy;

const TIMEOUT_NS: u64 = 100;

/// A subtask that passes on what it reads from `input` to each of `outputs`, in buffers that may wait for `TIMEOUT_NS`.
fn passes_on(input: &LocalQueue, outputs: &[LocalQueue]) -> Subtask {
    let metrics = Rc::new(SubtaskMetrics::default());
    let partition = |queue: &LocalQueue| {
        Output::Partition(Box::new(ResultPartition::new(
            Partitioner::Single,
            vec![(ChannelSender::Local(queue.clone()), "here".to_owned())],
            NonZeroU64::new(TIMEOUT_NS),
            BufferPool::new(64),
            Rc::clone(&metrics),
        )))
    };
    let chain = Chain::new(Output::Several(outputs.iter().map(partition).collect()));
    subtask(input, chain, Rc::clone(&metrics))
}

/// A subtask that reads from `input`.
fn subtask(input: &LocalQueue, chain: Chain, metrics: Rc<SubtaskMetrics>) -> Subtask {
    let roads = vec![(ChannelReceiver::Local(input.clone()), "here".to_owned(), 0)];
    let head = Head::Gate {
        gate: InputGate::new(roads),
        current: None,
    };
    let attempt = ExecutionAttemptId {
        job: JobId(1),
        vertex: 1,
        subtask: 0,
        attempt: 0,
    };
    let clock = Rc::new(Clock::system());
    Subtask::new(attempt, head, chain, metrics, clock)
}

fn buffer(records: &[&[u8]]) -> Buffer {
    let mut buffer = Buffer::on_heap(BUFFER_BYTES * (records.len() + 1));
    for bytes in records {
        let record = RecordRef {
            bytes,
            timestamp: EventTime(1),
            key_hash: 0,
            kind: RowKind::Insert,
            origin_ns: 0,
        };
        assert!(buffer.push_record(&record, 0));
    }
    buffer
}

#[test]
fn a_subtask_that_has_run_out_of_input_asks_for_a_turn_when_its_buffer_is_due() {
    let (input, output) = (LocalQueue::new(8), LocalQueue::new(8));
    let mut subtask = passes_on(&input, std::slice::from_ref(&output));
    input.push(buffer(&[b"first"])).expect("room");
    assert_eq!(subtask.work(1_000).expect("passes on"), Turn::Worked);
    let due = Turn::Idle {
        until_ns: Some(1_000 + TIMEOUT_NS),
    };
    assert_eq!(subtask.work(1_010).expect("waits"), due);
    input.push(buffer(&[b"second"])).expect("room");
    assert_eq!(subtask.work(1_050).expect("passes on"), Turn::Worked);
    assert_eq!(subtask.work(1_099).expect("waits"), due);
    assert!(output.is_empty() && !subtask.can_move(1_099));

    assert!(subtask.can_move(1_100));
    assert_eq!(subtask.work(1_100).expect("sends"), Turn::Worked);
    assert_eq!(output.pop().map(|buffer| buffer.records()), Some(2));
    let nothing = Turn::Idle { until_ns: None };
    assert_eq!(subtask.work(1_110).expect("waits"), nothing);
    assert!(!subtask.can_move(9_999));
}

#[test]
fn the_end_of_input_takes_what_waits_with_it() {
    let (input, output) = (LocalQueue::new(8), LocalQueue::new(8));
    let mut subtask = passes_on(&input, std::slice::from_ref(&output));
    let mut last = buffer(&[b"last"]);
    assert!(last.push_control(Control::EndOfInput(StopMode::Drain)));
    input.push(last).expect("room");
    assert_eq!(subtask.work(1_000).expect("passes on"), Turn::Worked);
    assert_eq!(subtask.work(1_001).expect("hands over"), Turn::Finished);
    assert_eq!(output.pop().map(|buffer| buffer.records()), Some(1));
}

#[test]
fn a_buffer_is_sent_when_due_though_another_consumer_blocks_the_subtask() {
    let (input, blocked, free) = (LocalQueue::new(8), LocalQueue::new(1), LocalQueue::new(8));
    let mut subtask = passes_on(&input, &[blocked.clone(), free.clone()]);
    blocked.push(Buffer::on_heap(64)).expect("room");
    // The second record closes the first one's buffer, which finds the road of one consumer full.
    let large = vec![7; BUFFER_BYTES - 128];
    input.push(buffer(&[&large, &large, &large])).expect("room");
    assert_eq!(subtask.work(1_000).expect("passes on"), Turn::Worked);
    assert!(free.pop().is_some());
    let due = Turn::Backpressured {
        until_ns: Some(1_000 + TIMEOUT_NS),
    };
    assert_eq!(subtask.work(1_010).expect("waits"), due);
    assert_eq!(subtask.work(1_100).expect("sends"), Turn::Worked);
    assert!(free.pop().is_some());
    // What is due for the blocked consumer waits for room: no time would help.
    let stuck = Turn::Backpressured { until_ns: None };
    assert_eq!(subtask.work(1_110).expect("waits"), stuck);
    assert!(!subtask.can_move(1_110));
    drop(blocked.pop());
    assert!(subtask.can_move(1_110));
}

/// Keeps 100 bytes for each record until the end of event time.
struct Hoard(usize);

impl Operator for Hoard {
    fn on_record(&mut self, _record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        self.0 += 100;
        Ok(())
    }

    fn on_watermark(&mut self, at: EventTime, _: u64, _: &mut Output) -> Result<Progress> {
        if at == EventTime::MAX {
            self.0 = 0;
        }
        Ok(Progress::Done)
    }

    fn state_bytes(&self) -> usize {
        self.0
    }
}

#[test]
fn state_is_looked_at_in_reports_and_before_the_end_of_time_clears_it() {
    let input = LocalQueue::new(8);
    // Two of them: a chain's state is that of all its operators.
    let last = ChainNode::new("last", Box::new(Hoard(7)), Output::Capture(Vec::new()));
    let node = ChainNode::new("hoard", Box::new(Hoard(0)), Output::Chained(Box::new(last)));
    let chain = Chain::new(Output::Chained(Box::new(node)));
    let mut subtask = subtask(&input, chain, Rc::default());
    let figures =
        |metrics: &SubtaskMetrics| (metrics.state_bytes.get(), metrics.state_bytes_max.get());
    let mut records = buffer(&[b"1", b"2"]);
    let soon = Watermark::At(EventTime(5));
    let watermark = |watermark| Control::Watermark {
        watermark,
        origin_ns: 0,
    };
    assert!(records.push_control(watermark(soon)));
    input.push(records).expect("room");
    assert_eq!(subtask.work(1_000).expect("hoards"), Turn::Worked);
    assert_eq!(figures(subtask.metrics()), (0, 0), "not looked at yet");
    subtask.count();
    assert_eq!(figures(subtask.metrics()), (207, 207));
    let mut records = buffer(&[b"3"]);
    assert!(records.push_control(watermark(Watermark::At(EventTime::MAX))));
    assert!(records.push_control(Control::EndOfInput(StopMode::Drain)));
    input.push(records).expect("room");
    assert_eq!(subtask.work(1_001).expect("hoards"), Turn::Worked);
    let (metrics, ..) = subtask.close();
    assert_eq!(figures(&metrics), (0, 307));
}

/// Ten records a poll, a millisecond of event time apart.
struct Ticks(i64);

impl SourceReader for Ticks {
    fn open(&mut self, _doorbell_fd: std::os::fd::RawFd) -> Result<()> {
        Ok(())
    }

    fn poll(&mut self, _most: usize, output: &mut SourceOutput<'_>) -> Result<SourceProgress> {
        for _ in 0..10 {
            output.emit(0, b"tick", EventTime(self.0), 0)?;
            self.0 += 1;
        }
        Ok(SourceProgress::More)
    }
}

/// Takes records, or takes none and holds up the end of input, as a sink does whose outside is slow.
struct Valve(Arc<std::sync::atomic::AtomicBool>);

impl Valve {
    fn is_shut(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn progress(&self) -> Progress {
        match self.is_shut() {
            true => Progress::Blocked,
            false => Progress::Done,
        }
    }
}

impl Operator for Valve {
    fn on_record(&mut self, _record: &RecordRef<'_>, _output: &mut Output) -> Result<()> {
        Ok(())
    }

    fn on_end_of_input(&mut self, _mode: StopMode, _output: &mut Output) -> Result<Progress> {
        Ok(self.progress())
    }

    fn resume(&mut self, _output: &mut Output) -> Result<Progress> {
        Ok(self.progress())
    }

    fn wants_poll(&self) -> bool {
        true
    }

    fn is_blocked(&self) -> bool {
        self.is_shut()
    }
}

#[test]
fn an_aligned_source_waits_for_its_limit_and_heeds_none_while_it_is_blocked_or_over() {
    let shut = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_shut = |yes| shut.store(yes, std::sync::atomic::Ordering::Relaxed);
    let valve = ChainNode::new("valve", Box::new(Valve(Arc::clone(&shut))), Output::End);
    let chain = Chain::new(Output::Chained(Box::new(valve)));
    let cell = Arc::new(AlignmentCell::default());
    let policy = WatermarkPolicy::bounded(0, Some(1_000));
    let head = Head::Source {
        name: "ticks".to_owned(),
        reader: Box::new(Ticks(0)),
        watermarks: SplitWatermarks::new(policy, 1, 0),
        assigner: None,
        alignment: Some(Alignment::new(Arc::clone(&cell))),
    };
    let attempt = ExecutionAttemptId {
        job: JobId(1),
        vertex: 1,
        subtask: 0,
        attempt: 0,
    };
    let (metrics, clock) = (Rc::default(), Rc::new(Clock::system()));
    let mut subtask = Subtask::new(attempt, head, chain, metrics, clock);
    let held = Turn::Idle { until_ns: None };

    // It reads until it has a watermark, and tells it; no limit was said yet.
    assert_eq!(subtask.work(100).expect("reads"), Turn::Worked);
    assert_eq!(cell.watermark_ms(), 8);
    assert_eq!(subtask.work(101).expect("waits"), held);
    assert!(!subtask.can_move(101));
    cell.allow(20);
    assert!(subtask.can_move(102));
    // Up to the limit, and the poll that goes beyond it.
    assert_eq!(subtask.work(103).expect("reads"), Turn::Worked);
    assert_eq!(subtask.work(104).expect("reads"), Turn::Worked);
    assert_eq!(cell.watermark_ms(), 28);
    assert_eq!(subtask.work(105).expect("waits"), held);

    // Limits that come meanwhile are no work for who cannot read.
    is_shut(true);
    cell.allow(40);
    let blocked = subtask.work(106).expect("waits");
    assert!(matches!(blocked, Turn::Backpressured { .. }), "{blocked:?}");
    assert!(!subtask.can_move(106));
    is_shut(false);
    assert!(subtask.can_move(107));
    // The pause was short: an idle time later it is idle, though it was held for long in between.
    for now_ns in [107, 108] {
        assert_eq!(subtask.work(now_ns).expect("reads"), Turn::Worked);
    }
    assert_eq!(subtask.work(50_000).expect("waits"), held);
    assert_eq!(cell.watermark_ms(), 48);

    subtask.stop(StopMode::NoDrain);
    assert_eq!(subtask.work(50_001).expect("ends"), Turn::Worked);
    assert_eq!(cell.watermark_ms(), i64::MAX, "holds nobody up");
    cell.allow(60);
    assert!(!subtask.can_move(50_002), "a limit is no work at the end");
}
