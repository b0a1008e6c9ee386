use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::Receiver;

use ringflow_schemas::graph::Program;
use ringflow_schemas::id::JobId;

use super::*;
use crate::program::{ProgramResolver, Topology};
use crate::runtime::core::{CoreCommandBox, SpinPolicy};
use crate::runtime::placement::Placement;
use crate::subtask::spec::{HeadSpec, OutputSpec};

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
