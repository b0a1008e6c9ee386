use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

use ringflow_schemas::control as wire;
use ringflow_schemas::graph::{self, Program};
use ringflow_schemas::id::JobId;
use ringflow_schemas::network::{CREDIT_MAX, ROAD_BUFFERS_MAX};
use ringflow_schemas::rpc::{FromJobManager, FromTaskManager, Message};
use tokio::time::{Instant, sleep_until, timeout};

use super::core_events::{CANCEL_AGAIN, CANCEL_WAIT};
use super::*;
use crate::element::StopMode;
use crate::error::{Error, Result};
use crate::exchange::network::NetworkOptions;
use crate::exchange::uring::Features;
use crate::operator::{Operator, OperatorFactory};
use crate::program::{EdgeCode, NodeCode, ProgramResolver, Topology};
use crate::runtime::context::PrepareContext;
use crate::runtime::core::{
    self, CoreCommand, CoreCommandBox, CoreConfig, End, SpinPolicy, SubtaskSnapshot,
};
use crate::runtime::placement::{Placement, allowed_cpus};
use crate::source::watermark::WatermarkPolicy;
use crate::source::{SourceFactory, SourceReader};
use crate::state::disk::StateStorage;
use crate::subtask::spec::{HeadSpec, OutputSpec, SubtaskSpec};
use crate::task_manager::deploy::Deployment;
use crate::task_manager::hand_over::hand_over;

struct NoPrograms;

impl ProgramResolver for NoPrograms {
    fn resolve(&self, _: Program<'_>) -> std::result::Result<Arc<Topology>, String> {
        Err("no programs".to_owned())
    }
}

fn attempt(subtask: u32) -> ExecutionAttemptId {
    ExecutionAttemptId {
        job: JobId(7),
        vertex: 0,
        subtask,
        attempt: 0,
    }
}

fn spec(subtask: u32) -> SubtaskSpec {
    SubtaskSpec {
        attempt: attempt(subtask),
        source_name: String::new(),
        parallelism: 4,
        max_parallelism: 128,
        buffer_timeout_ns: None,
        head: HeadSpec::Gate(Vec::new()),
        output: OutputSpec::End,
    }
}

/// A client whose cores have mailboxes of these sizes, and what arrives in them.
fn client(mailboxes: &[usize]) -> (ControlClient, Vec<Receiver<CoreCommandBox>>) {
    let (client, arrived, _) = client_that_hears(mailboxes);
    (client, arrived)
}

/// The same, and the cores' voice.
fn client_that_hears(
    mailboxes: &[usize],
) -> (
    ControlClient,
    Vec<Receiver<CoreCommandBox>>,
    mpsc::UnboundedSender<CoreEvent>,
) {
    let (cores, arrived): (Vec<_>, Vec<_>) = mailboxes
        .iter()
        .map(|commands| CoreHandle::for_tests(*commands))
        .unzip();
    let config = TaskManagerConfig {
        id: None,
        job_manager: String::new(),
        data_bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        data_host: None,
        data_ports: Vec::new(),
        placement: Placement {
            data: Vec::new(),
            housekeeping: Vec::new(),
            slots: Vec::new(),
            warnings: Vec::new(),
        },
        spin: SpinPolicy::Auto,
        network_memory_bytes: 0,
        disk_state: None,
        single_receive: false,
        zero_copy_send: false,
        strict: false,
        resolver: Arc::new(NoPrograms),
        version: String::new(),
        preempt_timer: None,
    };
    let (events, core_events) = mpsc::unbounded_channel();
    let (registered, _) = watch::channel(Registration::Connecting(None));
    let client = ControlClient::new(
        "tm".to_owned(),
        config,
        cores,
        Vec::new(),
        core_events,
        registered,
    );
    (client, arrived, events)
}

/// Subtasks that were reported, with status and message.
fn said(
    outbound: &mut mpsc::UnboundedReceiver<Message<FromTaskManager>>,
) -> Vec<(u32, wire::SubtaskStatus, Option<String>)> {
    let mut said = Vec::new();
    while let Ok(message) = outbound.try_recv() {
        let payload = message.get();
        let change = payload
            .payload_as_subtask_status_changed()
            .expect("a status");
        let attempt = ExecutionAttemptId::from(change.attempt());
        let why = change.failure().map(|failure| failure.message().to_owned());
        said.push((attempt.subtask, change.status(), why));
    }
    said
}

fn canceled(subtask: u32) -> CoreEvent {
    CoreEvent::Ended {
        how: End::Canceled,
        last: Box::new(SubtaskSnapshot {
            attempt: attempt(subtask),
            counters: wire::SubtaskCounters::default(),
            watermark: None,
            latency: Vec::new(),
            accumulators: Vec::new(),
        }),
    }
}

#[tokio::test]
async fn when_a_core_takes_no_subtasks_those_on_other_cores_are_cancelled_and_have_their_own_last_word()
 {
    // Core 1 has no place for a command; core 2 would have had.
    let (mut client, arrived) = client(&[2, 0, 2]);
    let (outbound, mut messages) = mpsc::unbounded_channel();
    let specs = vec![(2, spec(3)), (0, spec(0)), (1, spec(2)), (0, spec(1))];
    client.place(specs, &outbound);

    let mut failed = said(&mut messages);
    failed.sort_by_key(|(subtask, ..)| *subtask);
    assert_eq!(failed.len(), 2, "{failed:?}");
    for ((subtask, status, why), expected) in failed.iter().zip([2, 3]) {
        assert_eq!((*subtask, *status), (expected, wire::SubtaskStatus::Failed));
        let why = why.as_deref().expect("why");
        assert!(why.contains("commands wait for a core"), "{why}");
    }
    let on_core = arrived[0].try_recv().map(|command| *command);
    assert!(matches!(on_core, Ok(CoreCommand::Deploy(specs)) if specs.len() == 2));
    let Ok(CoreCommand::Cancel(attempts)) = arrived[0].try_recv().map(|command| *command) else {
        panic!("core 0 was not told to cancel");
    };
    assert_eq!(attempts, [attempt(0), attempt(1)]);
    let later = arrived[2].try_recv().map(|command| *command);
    assert!(
        matches!(later, Ok(CoreCommand::Cancel(_))),
        "nothing to run"
    );

    // What runs is reported once it has ended, however often it is cancelled meanwhile.
    client.on_cancel(vec![attempt(0)], &outbound);
    assert!(said(&mut messages).is_empty());
    client.on_core_event(canceled(0), &outbound);
    client.on_core_event(canceled(1), &outbound);
    let last: Vec<u32> = said(&mut messages)
        .into_iter()
        .filter(|(_, status, _)| *status == wire::SubtaskStatus::Canceled)
        .map(|(subtask, ..)| subtask)
        .collect();
    assert_eq!(last, [0, 1]);
    assert!(client.running.is_empty());
}

#[tokio::test]
async fn a_core_that_does_not_exist_fails_its_subtasks_alone() {
    let (mut client, arrived) = client(&[2]);
    let (outbound, mut messages) = mpsc::unbounded_channel();
    client.place(vec![(5, spec(1)), (0, spec(0))], &outbound);
    let said = said(&mut messages);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!((said[0].0, said[0].1), (1, wire::SubtaskStatus::Failed));
    assert_eq!(arrived[0].try_iter().count(), 2, "deployed and cancelled");
    assert!(client.running.contains(&attempt(0)));
}

/// What was built for an attempt is given back even when its core had it in hand: dropping it may block.
#[test]
fn a_refused_deployment_comes_back_whole() {
    let (client, _arrived) = client(&[2, 0, 2]);
    let specs = vec![(2, spec(3)), (0, spec(0)), (1, spec(2)), (0, spec(1))];
    let (placed, refused) = hand_over(&client.cores, specs);
    assert_eq!(placed, [attempt(0), attempt(1)]);
    let refused = refused.expect("core 1 has no place");
    let specs: Vec<ExecutionAttemptId> = refused.specs.iter().map(|spec| spec.attempt).collect();
    assert_eq!(specs, [attempt(2), attempt(3)]);
    assert_eq!(refused.attempts, specs);
}

#[tokio::test]
async fn a_cancel_that_a_full_mailbox_refuses_is_offered_again() {
    let (mut client, arrived) = client(&[1, 1]);
    client.running.extend([attempt(0), attempt(1)]);
    client.send_cancel(&[attempt(0)]);
    client.send_cancel(&[attempt(1)]);
    let cancelled = |core: usize| match arrived[core].try_recv().map(|command| *command) {
        Ok(CoreCommand::Cancel(attempts)) => attempts,
        _ => Vec::new(),
    };
    assert_eq!(cancelled(0), [attempt(0)]);
    // The first core has room again, the second has not.
    let (outbound, _messages) = mpsc::unbounded_channel();
    client.on_core_event(CoreEvent::Running(attempt(1)), &outbound);
    assert_eq!(cancelled(0), [attempt(1)]);
    assert_eq!(cancelled(1), [attempt(0)]);
    client.on_core_event(CoreEvent::Running(attempt(1)), &outbound);
    assert_eq!(cancelled(1), [attempt(1)]);
    // Once taken, it is not said again; nor for what has ended.
    client.send_cancel(&[attempt(0)]);
    client.send_cancel(&[attempt(1)]);
    client.on_core_event(canceled(0), &outbound);
    client.on_core_event(canceled(1), &outbound);
    for core in [0, 1] {
        assert_eq!(cancelled(core), [attempt(0)]);
        client.on_core_event(CoreEvent::Running(attempt(7)), &outbound);
        assert_eq!(cancelled(core), []);
    }
}

#[tokio::test]
async fn when_the_job_manager_is_lost_a_full_mailbox_does_not_keep_subtasks_alive() {
    let (mut client, arrived, events) = client_that_hears(&[1]);
    drop(client.cores[0].send(CoreCommand::Shutdown));
    client.running.insert(attempt(0));
    let start = Instant::now();
    let core = async {
        let mut commands = Vec::new();
        while commands.len() < 2 {
            assert!(start.elapsed() < CANCEL_WAIT, "it is not told");
            commands.extend(arrived[0].try_recv().map(|command| *command));
            sleep(CANCEL_AGAIN / 2).await;
        }
        assert!(matches!(&commands[1], CoreCommand::Cancel(attempts) if attempts == &[attempt(0)]));
        drop(events.send(canceled(0)));
    };
    let (end, ()) = tokio::join!(client.cancel_all(), core);
    assert!(end.is_ok() && client.running.is_empty());
    assert!(start.elapsed() < CANCEL_WAIT, "it did not wait in vain");
}

#[tokio::test]
async fn g17_a_stop_reaches_cores_by_its_mode_and_a_cancel_overtakes_it() {
    let (mut client, arrived) = client(&[2]);
    client.running.extend([attempt(0), attempt(1)]);
    let next = || arrived[0].try_recv().map(|command| *command);
    client.on_stop(&[attempt(0)], StopMode::Drain);
    let Ok(CoreCommand::Stop(attempts, mode)) = next() else {
        panic!("no stop");
    };
    assert_eq!((attempts, mode), (vec![attempt(0)], StopMode::Drain));
    // Nothing here to stop: it ended, or is not on its core yet.
    client.on_stop(&[attempt(7)], StopMode::Drain);
    assert!(next().is_err());
    // With a full mailbox both wait; one that is cancelled meanwhile is not stopped.
    for _ in 0..2 {
        drop(client.cores[0].send(CoreCommand::Shutdown));
    }
    client.on_stop(&[attempt(0), attempt(1)], StopMode::NoDrain);
    client.send_cancel(&[attempt(0)]);
    while next().is_ok() {}
    let (outbound, _messages) = mpsc::unbounded_channel();
    client.on_core_event(CoreEvent::Running(attempt(1)), &outbound);
    let Ok(CoreCommand::Cancel(attempts)) = next() else {
        panic!("no cancel");
    };
    assert_eq!(attempts, [attempt(0)]);
    let Ok(CoreCommand::Stop(attempts, mode)) = next() else {
        panic!("no stop");
    };
    assert_eq!((attempts, mode), (vec![attempt(1)], StopMode::NoDrain));
    client.on_core_event(CoreEvent::Running(attempt(1)), &outbound);
    assert!(next().is_err(), "said once");
}

/// A program whose operators tell that they were built.
struct Tells(Arc<AtomicBool>);

impl Tells {
    fn told<T>(&self) -> Result<T> {
        self.0.store(true, Ordering::Relaxed);
        Err(Error::deployment("an operator was built"))
    }
}

impl SourceFactory for Tells {
    fn prepare(&self, _: &PrepareContext) -> Result<Box<dyn SourceReader>> {
        self.told()
    }
}

impl OperatorFactory for Tells {
    fn prepare(&self, _: &PrepareContext) -> Result<Box<dyn Operator>> {
        self.told()
    }
}

impl ProgramResolver for Tells {
    fn resolve(&self, _: Program<'_>) -> std::result::Result<Arc<Topology>, String> {
        let own = || Self(Arc::clone(&self.0));
        Ok(Arc::new(Topology {
            nodes: vec![
                NodeCode::Source {
                    factory: Arc::new(own()),
                    watermarks: WatermarkPolicy::NONE,
                    assigner: None,
                },
                NodeCode::Operator(Arc::new(own())),
            ],
            edges: vec![EdgeCode::default()],
            hash: 0,
        }))
    }
}

/// A source and a sink with a channel between them, both on slot 0 of TaskManager `tm`.
fn source_and_sink(finished_before: bool) -> Message<FromJobManager> {
    Message::build(|builder| {
        let name = builder.create_string("n");
        let program = graph::ProgramArgs {
            name: Some(name),
            ..graph::ProgramArgs::default()
        };
        let program = Program::create(builder, &program);
        let kinds = [graph::OperatorKind::Source, graph::OperatorKind::Sink];
        let nodes = kinds.map(|kind| {
            let args = graph::StreamNodeArgs {
                uid: Some(name),
                name: Some(name),
                kind,
                ..graph::StreamNodeArgs::default()
            };
            graph::StreamNode::create(builder, &args)
        });
        let edge = graph::StreamEdgeArgs {
            target: 1,
            ..graph::StreamEdgeArgs::default()
        };
        let edge = graph::StreamEdge::create(builder, &edge);
        let (nodes, edges) = (
            builder.create_vector(&nodes),
            builder.create_vector(&[edge]),
        );
        let args = graph::StreamGraphArgs {
            name: Some(name),
            program: Some(program),
            nodes: Some(nodes),
            edges: Some(edges),
            ..graph::StreamGraphArgs::default()
        };
        let stream_graph = graph::StreamGraph::create(builder, &args);
        let ids = [0, 1].map(|vertex| ExecutionAttemptId {
            vertex,
            ..attempt(0)
        });
        let [producer, consumer] = ids.map(wire::ExecutionAttemptId::from);
        let id = builder.create_string("tm");
        let channel = wire::ChannelDescriptorArgs {
            producer: Some(&producer),
            consumer: Some(&consumer),
            peer_task_manager_id: Some(id),
            ..wire::ChannelDescriptorArgs::default()
        };
        let channel = wire::ChannelDescriptor::create(builder, &channel);
        let channels = builder.create_vector(&[channel]);
        let input = wire::InputGateDescriptorArgs {
            operator: 1,
            channels: Some(channels),
            credit: CREDIT_MAX,
            ..wire::InputGateDescriptorArgs::default()
        };
        let input = wire::InputGateDescriptor::create(builder, &input);
        let output = wire::ResultPartitionDescriptorArgs {
            channels: Some(channels),
            road_buffers: ROAD_BUFFERS_MAX,
            ..wire::ResultPartitionDescriptorArgs::default()
        };
        let output = wire::ResultPartitionDescriptor::create(builder, &output);
        let subtasks = [(&producer, 0u32), (&consumer, 1)].map(|(attempt, vertex)| {
            let is_source = vertex == 0;
            let inputs = builder.create_vector(if is_source {
                &[]
            } else {
                std::slice::from_ref(&input)
            });
            let outputs = builder.create_vector(if is_source {
                std::slice::from_ref(&output)
            } else {
                &[]
            });
            let operators = builder.create_vector(&[vertex]);
            let chained_edges = builder.create_vector::<u32>(&[]);
            let args = wire::SubtaskDescriptorArgs {
                attempt: Some(attempt),
                vertex_name: Some(name),
                parallelism: 1,
                max_parallelism: 128,
                operators: Some(operators),
                chained_edges: Some(chained_edges),
                inputs: Some(inputs),
                outputs: Some(outputs),
                finished_before,
                ..wire::SubtaskDescriptorArgs::default()
            };
            wire::SubtaskDescriptor::create(builder, &args)
        });
        let subtasks = builder.create_vector(&subtasks);
        let job = wire::JobId::from(JobId(7));
        let deploy = wire::DeploySubtasksArgs {
            job: Some(&job),
            graph: Some(stream_graph),
            subtasks: Some(subtasks),
        };
        let deploy = wire::DeploySubtasks::create(builder, &deploy);
        let args = wire::JobManagerMessageArgs {
            payload_type: wire::JobManagerPayload::DeploySubtasks,
            payload: Some(deploy.as_union_value()),
        };
        wire::JobManagerMessage::create(builder, &args)
    })
}

/// From the deployment to the last word, on a core of its own: the operators are not even built, and neither subtask moves a record.
/// The same deployment without the flag builds them.
#[tokio::test]
async fn g19_subtasks_that_had_finished_initialize_run_and_finish_without_their_operators() {
    for finished_before in [true, false] {
        let (mut client, _, events) = client_that_hears(&[]);
        let cpus = allowed_cpus().expect("CPUs");
        let config = CoreConfig {
            index: 0,
            cpu: cpus[0],
            housekeeping: cpus.clone(),
            spin: SpinPolicy::For(0),
            preempt_timer: None,
            pool_buffers: 64,
            network: NetworkOptions {
                features: Features::probe().expect("io_uring"),
                zero_copy: false,
            },
            state: StateStorage::HashMap,
        };
        let (handle, thread) = core::start(config, events).expect("a core");
        client.endings = Endings::new(1);
        client.cores = vec![handle];
        client.config.placement.slots = vec![0];
        let built = Arc::<AtomicBool>::default();
        client.config.resolver = Arc::new(Tells(Arc::clone(&built)));

        let (outbound, mut messages) = mpsc::unbounded_channel();
        let (internal, mut internals) = mpsc::unbounded_channel();
        let message = source_and_sink(finished_before);
        let deployment = Deployment::parse(&message).expect("a deployment");
        client.on_deploy(&message, deployment, "cluster", &internal, &outbound);
        let mut words = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(30);
        let expected = if finished_before { 6 } else { 4 };
        while words.len() < expected {
            tokio::select! {
                Some(event) = internals.recv() => client.on_internal(event, &outbound),
                Some(event) = client.core_events.recv() => client.on_core_event(event, &outbound),
                Some(message) = messages.recv() => words.push(message),
                () = sleep_until(deadline) => panic!("{} words only", words.len()),
            }
        }
        let mut statuses = vec![Vec::new(); 2];
        for word in &words {
            let change = word.get().payload_as_subtask_status_changed();
            let change = change.expect("a status");
            let vertex = ExecutionAttemptId::from(change.attempt()).vertex;
            statuses[vertex as usize].push(change.status());
            if let Some(report) = change.report() {
                let counters = report.counters();
                assert_eq!(
                    (
                        counters.records_in(),
                        counters.records_out(),
                        counters.source_records(),
                        counters.sink_records()
                    ),
                    (0, 0, 0, 0)
                );
                assert_eq!(report.watermark_ms() == i64::MAX, vertex == 1);
            }
        }
        use wire::SubtaskStatus as Is;
        let each = if finished_before {
            vec![Is::Initializing, Is::Running, Is::Finished]
        } else {
            vec![Is::Initializing, Is::Failed]
        };
        assert_eq!(statuses, [each.clone(), each]);
        assert_eq!(built.load(Ordering::Relaxed), !finished_before);
        client.cores[0]
            .send(CoreCommand::Shutdown)
            .expect("it hears");
        thread.join().expect("it ends");
    }
}

/// A process that has lost a core and its JobManager at once ends, whether anything ran on its cores or not.
#[test]
fn a_core_that_is_lost_together_with_the_job_manager_ends_the_task_manager() {
    for running in [None, Some(attempt(0))] {
        let (mut client, _arrived, events) = client_that_hears(&[2]);
        // Nobody listens there any more.
        let listener = StdListener::bind("127.0.0.1:0").expect("a free port");
        client.config.job_manager = listener.local_addr().expect("bound").to_string();
        drop(listener);
        client.running.extend(running);
        let why = "a panic".to_owned();
        drop(events.send(CoreEvent::CoreLost { core: 3, why }));
        let mut registration = client.registered.subscribe();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().spawn(move || client.run(stopped));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let ended = runtime.block_on(async {
            let ended = registration.wait_for(|state| matches!(state, Registration::Ended(_)));
            let ended = timeout(Duration::from_secs(20), ended).await;
            ended.map(|state| state.map(|state| state.clone()))
        });
        drop(stop.send("the test ends".to_owned()));
        drop(thread.expect("a thread").join());
        let Ok(Ok(Registration::Ended(why))) = ended else {
            panic!("it goes on: {ended:?}");
        };
        assert_eq!(why, "data core 3 ended: a panic");
    }
}
