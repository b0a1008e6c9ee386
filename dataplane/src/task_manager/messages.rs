//! What a TaskManager says, as messages.
//!
//! Owns: encoding of registration, heartbeats and status changes. Wire types of control go no further than this folder.
//! Left out: sending.

use flatbuffers::{FlatBufferBuilder, WIPOffset};
use ringflow_schemas::control as wire;
use ringflow_schemas::id::ExecutionAttemptId;
use ringflow_schemas::rpc::{FromTaskManager, Message};

use crate::error::{Error, ErrorKind};
use crate::metrics::{Accumulator, AccumulatorValue};
use crate::runtime::clock::process_cpu_ns;
use crate::runtime::core::SubtaskSnapshot;
use crate::task_manager::TaskManagerConfig;

type Builder = FlatBufferBuilder<'static>;

fn message(
    kind: wire::TaskManagerPayload,
    write: impl FnOnce(&mut Builder) -> WIPOffset<flatbuffers::UnionWIPOffset>,
) -> Message<FromTaskManager> {
    Message::build(|builder| {
        let payload = write(builder);
        let args = wire::TaskManagerMessageArgs {
            payload_type: kind,
            payload: Some(payload),
        };
        wire::TaskManagerMessage::create(builder, &args)
    })
}

/// Who we are.
#[must_use]
pub fn register(
    id: &str,
    config: &TaskManagerConfig,
    data_ports: &[u16],
) -> Message<FromTaskManager> {
    message(wire::TaskManagerPayload::Register, |builder| {
        let placement = &config.placement;
        let id = builder.create_string(id);
        let host = config
            .data_host
            .clone()
            .unwrap_or_else(|| config.data_bind.to_string());
        let host = builder.create_string(&host);
        let ports = builder.create_vector(data_ports);
        let slots: Vec<wire::SlotDescription> = (0u32..)
            .zip(&placement.slots)
            .map(|(slot, core)| wire::SlotDescription::new(slot, *core))
            .collect();
        let slots = builder.create_vector(&slots);
        let cpus: Vec<u32> = placement
            .data
            .iter()
            .map(|cpu| u32::try_from(*cpu).unwrap_or(u32::MAX))
            .collect();
        let cpus = builder.create_vector(&cpus);
        let version = builder.create_string(&config.version);
        let memory = rustix::system::sysinfo();
        let unit = u64::from(memory.mem_unit);
        let args = wire::RegisterArgs {
            task_manager_id: Some(id),
            data_host: Some(host),
            data_ports: Some(ports),
            slots: Some(slots),
            core_cpus: Some(cpus),
            version: Some(version),
            pid: std::process::id(),
            cpu_cores: u32::try_from(std::thread::available_parallelism().map_or(1, usize::from))
                .unwrap_or(1),
            physical_memory_bytes: memory.totalram * unit,
            free_memory_bytes: memory.freeram * unit,
            network_memory_bytes: config.network_memory_bytes as u64,
        };
        wire::Register::create(builder, &args).as_union_value()
    })
}

/// We live, this is what the subtasks have counted, and so many buffers of all pools are in use, of so many.
#[must_use]
pub fn heartbeat(
    snapshots: &[SubtaskSnapshot],
    (buffers_used, buffers_total): (u64, u64),
) -> Message<FromTaskManager> {
    message(wire::TaskManagerPayload::Heartbeat, |builder| {
        let reports: Vec<_> = snapshots
            .iter()
            .map(|snapshot| report(builder, snapshot))
            .collect();
        let subtasks = builder.create_vector(&reports);
        let memory = rustix::system::sysinfo();
        let args = wire::HeartbeatArgs {
            process_cpu_ns: process_cpu_ns(),
            free_memory_bytes: memory.freeram * u64::from(memory.mem_unit),
            subtasks: Some(subtasks),
            network_buffers_used: buffers_used,
            network_buffers_total: buffers_total,
        };
        wire::Heartbeat::create(builder, &args).as_union_value()
    })
}

/// An attempt has changed its status.
#[must_use]
pub fn status_changed(
    attempt: ExecutionAttemptId,
    status: wire::SubtaskStatus,
    failure: Option<&Error>,
    last: Option<&SubtaskSnapshot>,
) -> Message<FromTaskManager> {
    message(wire::TaskManagerPayload::SubtaskStatusChanged, |builder| {
        let failure = failure.map(|error| write_failure(builder, error));
        let report = last.map(|snapshot| report(builder, snapshot));
        let args = wire::SubtaskStatusChangedArgs {
            attempt: Some(&attempt.into()),
            status,
            failure,
            report,
            process_cpu_ns: process_cpu_ns(),
        };
        wire::SubtaskStatusChanged::create(builder, &args).as_union_value()
    })
}

/// How far aligned sources are.
#[must_use]
pub fn source_watermarks(sources: &[wire::SourceWatermark]) -> Message<FromTaskManager> {
    message(wire::TaskManagerPayload::SourceWatermarks, |builder| {
        let sources = builder.create_vector(sources);
        let args = wire::SourceWatermarksArgs {
            sources: Some(sources),
        };
        wire::SourceWatermarks::create(builder, &args).as_union_value()
    })
}

/// We leave.
#[must_use]
pub fn goodbye(reason: &str) -> Message<FromTaskManager> {
    message(wire::TaskManagerPayload::Goodbye, |builder| {
        let reason = builder.create_string(reason);
        wire::Goodbye::create(
            builder,
            &wire::GoodbyeArgs {
                reason: Some(reason),
            },
        )
        .as_union_value()
    })
}

fn write_failure(builder: &mut Builder, error: &Error) -> WIPOffset<wire::Failure<'static>> {
    let message = builder.create_string(&error.to_string());
    let (kind, task_manager_id) = match error.kind() {
        ErrorKind::Operator => (wire::FailureKind::Operator, None),
        ErrorKind::Deployment => (wire::FailureKind::Deployment, None),
        ErrorKind::PeerLost { task_manager_id } => (
            wire::FailureKind::PeerLost,
            Some(builder.create_string(task_manager_id)),
        ),
    };
    wire::Failure::create(
        builder,
        &wire::FailureArgs {
            kind,
            message: Some(message),
            task_manager_id,
        },
    )
}

fn report(
    builder: &mut Builder,
    snapshot: &SubtaskSnapshot,
) -> WIPOffset<wire::SubtaskReport<'static>> {
    let latency = (!snapshot.latency.is_empty()).then(|| builder.create_vector(&snapshot.latency));
    let accumulators: Vec<_> = snapshot
        .accumulators
        .iter()
        .map(|accumulator| write_accumulator(builder, accumulator))
        .collect();
    let accumulators = (!accumulators.is_empty()).then(|| builder.create_vector(&accumulators));
    let args = wire::SubtaskReportArgs {
        attempt: Some(&snapshot.attempt.into()),
        counters: Some(&snapshot.counters),
        watermark_ms: snapshot.watermark.map_or(i64::MIN, |time| time.0),
        latency,
        accumulators,
    };
    wire::SubtaskReport::create(builder, &args)
}

fn write_accumulator(
    builder: &mut Builder,
    accumulator: &Accumulator,
) -> WIPOffset<wire::Accumulator<'static>> {
    let name = builder.create_string(&accumulator.name);
    let (kind, value, limit, rows) = match &accumulator.value {
        AccumulatorValue::Sum(value) => (wire::AccumulatorKind::Sum, *value, 0, None),
        AccumulatorValue::Max(value) => (wire::AccumulatorKind::Max, *value, 0, None),
        AccumulatorValue::Min(value) => (wire::AccumulatorKind::Min, *value, 0, None),
        AccumulatorValue::TopRows { limit, rows } => {
            let rows: Vec<_> = rows
                .iter()
                .map(|(order, text)| {
                    let text = Some(builder.create_string(text));
                    wire::AccumulatorRow::create(
                        builder,
                        &wire::AccumulatorRowArgs {
                            order: *order,
                            text,
                        },
                    )
                })
                .collect();
            (
                wire::AccumulatorKind::TopRows,
                0,
                *limit,
                Some(builder.create_vector(&rows)),
            )
        }
    };
    wire::Accumulator::create(
        builder,
        &wire::AccumulatorArgs {
            name: Some(name),
            kind,
            value,
            limit,
            rows,
        },
    )
}
