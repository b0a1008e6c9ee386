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
        head: HeadSpec::Gate(Vec::new()),
        output: OutputSpec::End,
    }
}

/// A client whose cores have mailboxes of these sizes, and what arrives in them.
fn client(mailboxes: &[usize]) -> (ControlClient, Vec<Receiver<CoreCommandBox>>) {
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
        single_receive: false,
        zero_copy_send: false,
        strict: false,
        resolver: Arc::new(NoPrograms),
        version: String::new(),
        preempt_timer: None,
    };
    let (_, core_events) = mpsc::unbounded_channel();
    let (registered, _) = watch::channel(Registration::Connecting(None));
    let client = ControlClient::new(
        "tm".to_owned(),
        config,
        cores,
        Vec::new(),
        core_events,
        registered,
    );
    (client, arrived)
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
