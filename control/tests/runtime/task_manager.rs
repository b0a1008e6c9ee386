//! A TaskManager that runs nothing: it says over gRPC what the test wants it to say.

use std::net::SocketAddr;
use std::time::Duration;

use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};
use ringflow_schemas::control as wire;
use ringflow_schemas::id::ExecutionAttemptId;
use ringflow_schemas::rpc::{self, FromJobManager, FromTaskManager, Message};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

pub(crate) struct FakeTaskManager {
    outbound: mpsc::Sender<Message<FromTaskManager>>,
    inbound: Streaming<Message<FromJobManager>>,
}

fn message<'b>(
    write: impl FnOnce(
        &mut FlatBufferBuilder<'b>,
    ) -> (wire::TaskManagerPayload, WIPOffset<UnionWIPOffset>),
) -> Message<FromTaskManager> {
    Message::build(|builder: &mut FlatBufferBuilder<'b>| {
        let (payload_type, payload) = write(builder);
        let args = wire::TaskManagerMessageArgs {
            payload_type,
            payload: Some(payload),
        };
        wire::TaskManagerMessage::create(builder, &args)
    })
}

fn registration(id: &str, slots: u32, version: &str) -> Message<FromTaskManager> {
    message(|builder| {
        let id = builder.create_string(id);
        let host = builder.create_string("127.0.0.1");
        let ports = builder.create_vector(&[40_000u16, 40_001]);
        let slots: Vec<_> = (0..slots)
            .map(|slot| wire::SlotDescription::new(slot, slot % 2))
            .collect();
        let slots = builder.create_vector(&slots);
        let version = builder.create_string(version);
        let register = wire::Register::create(
            builder,
            &wire::RegisterArgs {
                task_manager_id: Some(id),
                data_host: Some(host),
                data_ports: Some(ports),
                slots: Some(slots),
                version: Some(version),
                pid: 4711,
                network_memory_bytes: 64 << 20,
                ..wire::RegisterArgs::default()
            },
        );
        (
            wire::TaskManagerPayload::Register,
            register.as_union_value(),
        )
    })
}

fn report<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    attempt: ExecutionAttemptId,
    last: bool,
) -> WIPOffset<wire::SubtaskReport<'b>> {
    let mut latency = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3).unwrap();
    latency.record(150).unwrap();
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(&latency, &mut bytes).unwrap();
    let latency = builder.create_vector(&bytes);
    let name = builder.create_string("ended");
    let accumulator = wire::Accumulator::create(
        builder,
        &wire::AccumulatorArgs {
            name: Some(name),
            value: 1,
            ..wire::AccumulatorArgs::default()
        },
    );
    let accumulators = builder.create_vector(&[accumulator]);
    let (attempt_id, attempt) = (attempt, attempt.into());
    let mut counters = wire::SubtaskCounters::default();
    counters.set_source_records(100);
    counters.set_records_out(10);
    counters.set_bytes_copied(640);
    counters.set_busy_ns(3_000_000 * u64::from(attempt_id.subtask));
    counters.set_idle_ns(1_000_000);
    counters.set_spinning_ns(1_000_000);
    wire::SubtaskReport::create(
        builder,
        &wire::SubtaskReportArgs {
            attempt: Some(&attempt),
            counters: Some(&counters),
            watermark_ms: 5,
            latency: Some(latency),
            accumulators: last.then_some(accumulators),
        },
    )
}

impl FakeTaskManager {
    async fn dial(address: SocketAddr, first: Message<FromTaskManager>) -> Self {
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let (outbound, messages) = mpsc::channel(64);
        outbound.send(first).await.unwrap();
        let inbound = rpc::connect(channel, ReceiverStream::new(messages))
            .await
            .unwrap();
        Self { outbound, inbound }
    }

    /// Registers, and is welcome.
    pub(crate) async fn connect(address: SocketAddr, id: &str, slots: u32) -> Self {
        let mut own = Self::dial(address, registration(id, slots, "1.2.3")).await;
        let welcome = own.next().await;
        let welcome = welcome.get().payload_as_registered().unwrap();
        assert_eq!(
            (
                welcome.heartbeat_interval_ms(),
                welcome.heartbeat_timeout_ms()
            ),
            (1000, 5000)
        );
        own
    }

    /// Registers with a version, is refused, and hung up on; answers the reason.
    pub(crate) async fn refused(address: SocketAddr, version: &str) -> String {
        let mut own = Self::dial(address, registration("tm-x", 1, version)).await;
        let refusal = own.next().await;
        let reason = refusal
            .get()
            .payload_as_registration_refused()
            .unwrap()
            .reason()
            .to_owned();
        assert!(
            own.inbound.message().await.unwrap().is_none(),
            "the connection stayed open"
        );
        reason
    }

    /// Says something before it registers, and is hung up on.
    pub(crate) async fn hung_up_on(address: SocketAddr) {
        let goodbye = message(|builder| {
            let reason = builder.create_string("never here");
            let args = wire::GoodbyeArgs {
                reason: Some(reason),
            };
            let goodbye = wire::Goodbye::create(builder, &args);
            (wire::TaskManagerPayload::Goodbye, goodbye.as_union_value())
        });
        let mut own = Self::dial(address, goodbye).await;
        let status = own.inbound.message().await.unwrap_err();
        assert_eq!(status.message(), "the first message must be a registration");
    }

    /// Waits for the JobManager to end the connection.
    pub(crate) async fn ends(mut self) {
        let end = tokio::time::timeout(Duration::from_secs(10), self.inbound.message()).await;
        assert!(
            !matches!(end.unwrap(), Ok(Some(_))),
            "the connection stayed open"
        );
    }

    async fn next(&mut self) -> Message<FromJobManager> {
        let message = tokio::time::timeout(Duration::from_secs(10), self.inbound.message()).await;
        message.unwrap().unwrap().unwrap()
    }

    /// Waits for a deployment; answers its attempts.
    pub(crate) async fn deployed(&mut self) -> Vec<ExecutionAttemptId> {
        let message = self.next().await;
        let deployment = message.get().payload_as_deploy_subtasks().unwrap();
        assert_eq!(deployment.graph().hash(), 4711);
        assert_eq!(deployment.graph().nodes().len(), 4);
        for subtask in deployment.subtasks() {
            for output in subtask.outputs() {
                assert!(
                    output
                        .channels()
                        .iter()
                        .all(|channel| channel.peer_port() >= 40_000)
                );
            }
        }
        deployment
            .subtasks()
            .iter()
            .map(|subtask| subtask.attempt().into())
            .collect()
    }

    /// Waits for a cancellation; answers its attempts.
    pub(crate) async fn cancelled(&mut self) -> Vec<ExecutionAttemptId> {
        let message = self.next().await;
        let cancel = message.get().payload_as_cancel_subtasks().unwrap();
        cancel
            .attempts()
            .iter()
            .map(ExecutionAttemptId::from)
            .collect()
    }

    /// Waits for a stop; answers its attempts, and whether they shall drain.
    pub(crate) async fn stopped(&mut self) -> (Vec<ExecutionAttemptId>, bool) {
        let message = self.next().await;
        let stop = message.get().payload_as_stop_subtasks().unwrap();
        let attempts = stop.attempts().iter().map(ExecutionAttemptId::from);
        (attempts.collect(), stop.drain())
    }

    pub(crate) async fn status(&self, attempt: ExecutionAttemptId, status: wire::SubtaskStatus) {
        let message = message(|builder| {
            let report =
                (status == wire::SubtaskStatus::Finished).then(|| report(builder, attempt, true));
            let attempt = attempt.into();
            let changed = wire::SubtaskStatusChanged::create(
                builder,
                &wire::SubtaskStatusChangedArgs {
                    attempt: Some(&attempt),
                    status,
                    report,
                    ..wire::SubtaskStatusChangedArgs::default()
                },
            );
            (
                wire::TaskManagerPayload::SubtaskStatusChanged,
                changed.as_union_value(),
            )
        });
        self.outbound.send(message).await.unwrap();
    }

    pub(crate) async fn heartbeat(&self, attempts: &[ExecutionAttemptId]) {
        let message = message(|builder| {
            let reports: Vec<_> = attempts
                .iter()
                .map(|&attempt| report(builder, attempt, false))
                .collect();
            let reports = builder.create_vector(&reports);
            let heartbeat = wire::Heartbeat::create(
                builder,
                &wire::HeartbeatArgs {
                    subtasks: Some(reports),
                    network_buffers_used: 48,
                    network_buffers_total: 2048,
                    ..wire::HeartbeatArgs::default()
                },
            );
            (
                wire::TaskManagerPayload::Heartbeat,
                heartbeat.as_union_value(),
            )
        });
        self.outbound.send(message).await.unwrap();
    }
}
