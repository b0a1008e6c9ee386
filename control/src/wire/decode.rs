//! From verified FlatBuffers to inner types.

use ringflow_schemas::control as wire;
use ringflow_schemas::graph as wire_graph;
use ringflow_schemas::rpc;

use crate::event::{
    Accumulator, AccumulatorKind, AccumulatorRow, Failure, FailureKind, FromTaskManager, Heartbeat,
    Registration, ReportedStatus, SlotDescription, SubtaskCounters, SubtaskReport,
    SubtaskStatusChange,
};
use crate::graph::stream_graph::{
    ChainingStrategy, OperatorKind, Partitioner, Program, ProgramKind, SourceSplit, StreamEdge,
    StreamGraph, StreamNode, WatermarkAlignment,
};

/// Reads a submitted graph. It is not validated: that is the engine's first step.
///
/// # Errors
/// A value that this version does not know: refuse the submission.
pub fn decode_stream_graph(
    message: &rpc::Message<rpc::SubmittedGraph>,
) -> Result<StreamGraph, String> {
    let graph = message.get();
    let program = graph.program();
    Ok(StreamGraph {
        name: graph.name().to_owned(),
        program: Program {
            kind: match program.kind() {
                wire_graph::ProgramKind::BuiltIn => ProgramKind::BuiltIn,
                wire_graph::ProgramKind::Application => ProgramKind::Application,
                other => return Err(format!("unknown kind of program {}", other.0)),
            },
            name: program.name().to_owned(),
            arguments: program
                .arguments()
                .map(|arguments| arguments.iter().map(str::to_owned).collect())
                .unwrap_or_default(),
        },
        parallelism: graph.parallelism(),
        max_parallelism: graph.max_parallelism(),
        nodes: graph.nodes().iter().map(node).collect::<Result<_, _>>()?,
        edges: graph.edges().iter().map(edge).collect::<Result<_, _>>()?,
        hash: graph.hash(),
        buffer_timeout_ns: graph.buffer_timeout_ns(),
    })
}

fn node(node: wire_graph::StreamNode<'_>) -> Result<StreamNode, String> {
    Ok(StreamNode {
        id: node.id(),
        uid: node.uid().to_owned(),
        name: node.name().to_owned(),
        kind: match node.kind() {
            wire_graph::OperatorKind::Source => OperatorKind::Source,
            wire_graph::OperatorKind::OneInput => OperatorKind::OneInput,
            wire_graph::OperatorKind::Sink => OperatorKind::Sink,
            wire_graph::OperatorKind::TwoInput => OperatorKind::TwoInput,
            other => return Err(format!("unknown kind of operator {}", other.0)),
        },
        parallelism: node.parallelism(),
        auto_parallelism: node.auto_parallelism(),
        max_parallelism: node.max_parallelism(),
        slot_sharing_group: node.slot_sharing_group().unwrap_or_default().to_owned(),
        chaining: match node.chaining() {
            wire_graph::ChainingStrategy::Always => ChainingStrategy::Always,
            wire_graph::ChainingStrategy::Never => ChainingStrategy::Never,
            wire_graph::ChainingStrategy::Head => ChainingStrategy::Head,
            other => return Err(format!("unknown chaining strategy {}", other.0)),
        },
        splits: node
            .splits()
            .map(|splits| {
                splits
                    .iter()
                    .map(|split| SourceSplit {
                        topic: split.topic().to_owned(),
                        partition: split.partition(),
                    })
                    .collect()
            })
            .unwrap_or_default(),
        watermark_alignment: node
            .watermark_alignment()
            .map(|alignment| WatermarkAlignment {
                group: alignment.group().to_owned(),
                max_drift_ms: alignment.max_drift_ms(),
                update_interval_ms: alignment.update_interval_ms(),
            }),
    })
}

fn edge(edge: wire_graph::StreamEdge<'_>) -> Result<StreamEdge, String> {
    Ok(StreamEdge {
        id: edge.id(),
        source: edge.source(),
        target: edge.target(),
        partitioner: match edge.partitioner() {
            wire_graph::Partitioner::Forward => Partitioner::Forward,
            wire_graph::Partitioner::Rebalance => Partitioner::Rebalance,
            wire_graph::Partitioner::Rescale => Partitioner::Rescale,
            wire_graph::Partitioner::Shuffle => Partitioner::Shuffle,
            wire_graph::Partitioner::Broadcast => Partitioner::Broadcast,
            wire_graph::Partitioner::Global => Partitioner::Global,
            wire_graph::Partitioner::Hash => Partitioner::Hash,
            wire_graph::Partitioner::Custom => Partitioner::Custom,
            other => return Err(format!("unknown partitioner {}", other.0)),
        },
    })
}

/// Reads what a TaskManager says.
///
/// # Errors
/// A message or value that this version does not know: end the connection.
pub fn decode_from_task_manager(
    message: &rpc::Message<rpc::FromTaskManager>,
) -> Result<FromTaskManager, String> {
    let message = message.get();
    if let Some(register) = message.payload_as_register() {
        return Ok(FromTaskManager::Register(Box::new(registration(register))));
    }
    if let Some(heartbeat) = message.payload_as_heartbeat() {
        let subtasks = heartbeat
            .subtasks()
            .map(|subtasks| subtasks.iter().map(report).collect());
        return Ok(FromTaskManager::Heartbeat(Heartbeat {
            process_cpu_ns: heartbeat.process_cpu_ns(),
            free_memory_bytes: heartbeat.free_memory_bytes(),
            network_buffers_used: heartbeat.network_buffers_used(),
            network_buffers_total: heartbeat.network_buffers_total(),
            subtasks: subtasks.unwrap_or_else(|| Ok(Vec::new()))?,
        }));
    }
    if let Some(change) = message.payload_as_subtask_status_changed() {
        let change = status_change(change)?;
        return Ok(FromTaskManager::SubtaskStatusChanged(Box::new(change)));
    }
    if let Some(goodbye) = message.payload_as_goodbye() {
        return Ok(FromTaskManager::Goodbye {
            reason: goodbye.reason().to_owned(),
        });
    }
    if let Some(watermarks) = message.payload_as_source_watermarks() {
        let sources = watermarks.sources().iter();
        return Ok(FromTaskManager::SourceWatermarks(
            sources
                .map(|source| (source.attempt().into(), source.watermark_ms()))
                .collect(),
        ));
    }
    Err(format!("unknown message {}", message.payload_type().0))
}

fn registration(register: wire::Register<'_>) -> Registration {
    Registration {
        task_manager_id: register.task_manager_id().to_owned(),
        data_host: register.data_host().to_owned(),
        data_ports: register.data_ports().iter().collect(),
        slots: register
            .slots()
            .iter()
            .map(|slot| SlotDescription {
                slot: slot.slot(),
                core: slot.core(),
            })
            .collect(),
        core_cpus: register
            .core_cpus()
            .map(|cpus| cpus.iter().collect())
            .unwrap_or_default(),
        version: register.version().to_owned(),
        pid: register.pid(),
        cpu_cores: register.cpu_cores(),
        physical_memory_bytes: register.physical_memory_bytes(),
        free_memory_bytes: register.free_memory_bytes(),
        network_memory_bytes: register.network_memory_bytes(),
    }
}

fn status_change(change: wire::SubtaskStatusChanged<'_>) -> Result<SubtaskStatusChange, String> {
    Ok(SubtaskStatusChange {
        attempt: change.attempt().into(),
        status: match change.status() {
            wire::SubtaskStatus::Deploying => ReportedStatus::Deploying,
            wire::SubtaskStatus::Initializing => ReportedStatus::Initializing,
            wire::SubtaskStatus::Running => ReportedStatus::Running,
            wire::SubtaskStatus::Finished => ReportedStatus::Finished,
            wire::SubtaskStatus::Canceling => ReportedStatus::Canceling,
            wire::SubtaskStatus::Canceled => ReportedStatus::Canceled,
            wire::SubtaskStatus::Failed => ReportedStatus::Failed,
            other => return Err(format!("unknown subtask status {}", other.0)),
        },
        failure: change.failure().map(failure).transpose()?,
        report: change.report().map(report).transpose()?,
        process_cpu_ns: change.process_cpu_ns(),
    })
}

fn failure(failure: wire::Failure<'_>) -> Result<Failure, String> {
    Ok(Failure {
        kind: match failure.kind() {
            wire::FailureKind::Operator => FailureKind::Operator,
            wire::FailureKind::Deployment => FailureKind::Deployment,
            wire::FailureKind::PeerLost => FailureKind::PeerLost,
            other => return Err(format!("unknown kind of failure {}", other.0)),
        },
        message: failure.message().to_owned(),
        task_manager_id: failure.task_manager_id().map(str::to_owned),
    })
}

fn report(report: wire::SubtaskReport<'_>) -> Result<SubtaskReport, String> {
    let accumulators = report
        .accumulators()
        .map(|all| all.iter().map(accumulator).collect());
    Ok(SubtaskReport {
        attempt: report.attempt().into(),
        counters: counters(report.counters()),
        watermark_ms: (report.watermark_ms() != i64::MIN).then(|| report.watermark_ms()),
        latency: report.latency().map(|latency| latency.bytes().to_vec()),
        accumulators: accumulators.unwrap_or_else(|| Ok(Vec::new()))?,
    })
}

fn counters(counters: &wire::SubtaskCounters) -> SubtaskCounters {
    SubtaskCounters {
        records_in: counters.records_in(),
        records_out: counters.records_out(),
        bytes_in: counters.bytes_in(),
        bytes_out: counters.bytes_out(),
        buffers_out: counters.buffers_out(),
        busy_ns: counters.busy_ns(),
        idle_ns: counters.idle_ns(),
        backpressured_ns: counters.backpressured_ns(),
        spinning_ns: counters.spinning_ns(),
        late_records_dropped: counters.late_records_dropped(),
        bad_records: counters.bad_records(),
        source_records: counters.source_records(),
        sink_records: counters.sink_records(),
        bytes_copied: counters.bytes_copied(),
        pending_records: counters.pending_records(),
        state_bytes: counters.state_bytes(),
        state_bytes_max: counters.state_bytes_max(),
    }
}

fn accumulator(accumulator: wire::Accumulator<'_>) -> Result<Accumulator, String> {
    Ok(Accumulator {
        name: accumulator.name().to_owned(),
        kind: match accumulator.kind() {
            wire::AccumulatorKind::Sum => AccumulatorKind::Sum,
            wire::AccumulatorKind::Max => AccumulatorKind::Max,
            wire::AccumulatorKind::Min => AccumulatorKind::Min,
            wire::AccumulatorKind::TopRows => AccumulatorKind::TopRows,
            other => return Err(format!("unknown kind of accumulator {}", other.0)),
        },
        value: accumulator.value(),
        limit: accumulator.limit(),
        rows: accumulator
            .rows()
            .map(|rows| {
                rows.iter()
                    .map(|row| AccumulatorRow {
                        order: row.order(),
                        text: row.text().to_owned(),
                    })
                    .collect()
            })
            .unwrap_or_default(),
    })
}
