use std::num::NonZeroU64;

use ringflow_schemas::id::JobId;

use super::*;
use crate::batch::{Buffer, BufferPool};
use crate::exchange::channel::{ChannelReceiver, ChannelSender};
use crate::exchange::local::LocalQueue;
use crate::exchange::partitioner::Partitioner;
use crate::exchange::result_partition::ResultPartition;
use crate::limits::BUFFER_BYTES;
use crate::operator::chain::Output;
use crate::record::{RecordRef, RowKind};

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
    assert!(last.push_control(Control::EndOfInput));
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
