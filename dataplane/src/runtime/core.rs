//! One data core as the rest of the process sees it.
//!
//! Owns: [`start`] (a pinned glommio executor with one poller task), [`CoreHandle`] (mailbox and doorbell), and what goes
//! over that border: [`CoreCommand`]s in, [`CoreEvent`]s out.
//! Invariant: a command rings the core's bell after it is in the mailbox; a core that ends without being told to says so.
//! Left out: what the core does (`runtime::poller`).

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::{CpuSet, LocalExecutorBuilder, Placement as GlommioPlacement, PoolPlacement};
use ringflow_schemas::id::ExecutionAttemptId;
use tokio::sync::{mpsc::UnboundedSender, oneshot};

use crate::batch::BufferPool;
use crate::element::StopMode;
use crate::error::{Error, Result};
use crate::exchange::connection::Direction;
use crate::exchange::network::NetworkOptions;
use crate::limits::MAILBOX_COMMANDS;
use crate::metrics::Accumulator;
use crate::record::EventTime;
use crate::runtime::doorbell::Doorbell;
use crate::runtime::poller::{Core, name_thread};
use crate::state::disk::StateStorage;
use crate::subtask::spec::SubtaskSpec;

/// Names a connection of one core.
pub type ConnectionId = u64;

/// What other threads ask of a core.
#[allow(missing_debug_implementations, reason = "holds boxed operators")]
pub enum CoreCommand {
    /// A socket that has shaken hands.
    Attach {
        /// Its id, unique on this core.
        id: ConnectionId,
        /// The socket, non-blocking.
        socket: TcpStream,
        /// Which way data flows.
        direction: Direction,
        /// The other core, for messages.
        peer: String,
    },
    /// Subtasks to run.
    Deploy(Vec<SubtaskSpec>),
    /// Attempts to end.
    Cancel(Vec<ExecutionAttemptId>),
    /// Sources to end in good order, with or without the end of time; what they have read flows through.
    Stop(Vec<ExecutionAttemptId>, StopMode),
    /// What the subtasks have counted.
    Report(oneshot::Sender<Vec<SubtaskSnapshot>>),
    /// Sleep by this policy from now on.
    Spin(SpinPolicy),
    /// End the core; subtasks that still run are dropped.
    Shutdown,
}

/// What a core tells the control thread.
#[derive(Debug)]
pub enum CoreEvent {
    /// A subtask runs.
    Running(ExecutionAttemptId),
    /// A subtask ended.
    Ended {
        /// How.
        how: End,
        /// Its last counters.
        last: Box<SubtaskSnapshot>,
    },
    /// The core has ended without being told to: all its subtasks are gone.
    CoreLost {
        /// Core index.
        core: usize,
        /// What glommio says.
        why: String,
    },
    /// A connection ended.
    ConnectionLost {
        /// Core index.
        core: usize,
        /// Which.
        id: ConnectionId,
    },
}

/// How a subtask ended.
#[derive(Debug)]
pub enum End {
    /// All input done.
    Finished,
    /// It was told to.
    Canceled,
    /// It failed.
    Failed(Error),
}

/// Counters of one subtask at one time.
#[derive(Debug)]
pub struct SubtaskSnapshot {
    /// Which attempt.
    pub attempt: ExecutionAttemptId,
    /// Counters, in the order of the wire's `SubtaskCounters`.
    pub counters: ringflow_schemas::control::SubtaskCounters,
    /// Watermark of its input.
    pub watermark: Option<EventTime>,
    /// Latencies since the last snapshot, V2 encoded; empty when there were none.
    pub latency: Vec<u8>,
    /// Results, once it has ended.
    pub accumulators: Vec<Accumulator>,
}

/// How long a core looks for work before it sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpinPolicy {
    /// As long as waking up is worth, which the TaskManager measures at its start ([`crate::runtime::wakeup`]).
    Auto,
    /// Never sleep.
    Always,
    /// Look this long, in nanoseconds; 0: sleep at once.
    For(u64),
}

/// How one core runs.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Index among the data cores.
    pub index: usize,
    /// CPU to run on.
    pub cpu: usize,
    /// CPUs for the executor's own helper thread.
    pub housekeeping: Vec<usize>,
    /// When to sleep.
    pub spin: SpinPolicy,
    /// glommio's preemption timer; its default (100 ms) is right, tests provoke faults with less.
    pub preempt_timer: Option<Duration>,
    /// Buffers of the core's pool.
    pub pool_buffers: usize,
    /// How it talks to other processes.
    pub network: NetworkOptions,
    /// Where its operators keep their state.
    pub state: StateStorage,
}

/// Reaches a running core from any thread.
#[derive(Debug, Clone)]
pub struct CoreHandle {
    mailbox: SyncSender<CoreCommandBox>,
    doorbell: Arc<Doorbell>,
    thread_id: i32,
    pool: BufferPool,
}

/// Commands are boxed: a deployment is large, and mailbox places are reserved.
pub(crate) type CoreCommandBox = Box<CoreCommand>;

impl CoreHandle {
    /// Wakes the core, should it sleep: something that it looks at in each turn has changed.
    pub fn ring(&self) {
        self.doorbell.ring();
    }

    /// Puts a command into the core's mailbox and rings its bell.
    ///
    /// # Errors
    /// The mailbox is full or the core has ended.
    pub fn send(&self, command: CoreCommand) -> Result<()> {
        self.offer(command).map_err(|(error, _)| error)
    }

    /// As [`CoreHandle::send`], for commands whose drop may block: what the core does not take comes back.
    ///
    /// # Errors
    /// The mailbox is full or the core has ended; with the command.
    pub fn offer(&self, command: CoreCommand) -> Result<(), (Error, Box<CoreCommand>)> {
        self.mailbox
            .try_send(Box::new(command))
            .map_err(|error| match error {
                TrySendError::Full(command) => {
                    let error = Error::deployment(format!(
                        "{MAILBOX_COMMANDS} commands wait for a core that does not take them"
                    ));
                    (error, command)
                }
                TrySendError::Disconnected(command) => {
                    (Error::deployment("the data core has ended"), command)
                }
            })?;
        self.doorbell.ring();
        Ok(())
    }

    /// A handle whose core is the test: mailbox places for so many commands, and what arrives.
    #[cfg(test)]
    pub(crate) fn for_tests(commands: usize) -> (Self, std::sync::mpsc::Receiver<CoreCommandBox>) {
        let (mailbox, arrived) = sync_channel(commands);
        let doorbell = Arc::new(Doorbell::new().expect("an eventfd"));
        let handle = Self {
            mailbox,
            doorbell,
            thread_id: 0,
            pool: BufferPool::new(1),
        };
        (handle, arrived)
    }

    /// The core's bell.
    #[must_use]
    pub fn doorbell(&self) -> &Arc<Doorbell> {
        &self.doorbell
    }

    /// The core's thread, as in /proc.
    #[must_use]
    pub fn thread_id(&self) -> i32 {
        self.thread_id
    }

    /// The core's buffers.
    #[must_use]
    pub fn pool(&self) -> &BufferPool {
        &self.pool
    }
}

/// Starts a core. The thread ends after [`CoreCommand::Shutdown`].
///
/// # Errors
/// The CPU cannot be had, or io_uring is not usable; the message says which.
pub fn start(
    config: CoreConfig,
    events: UnboundedSender<CoreEvent>,
) -> Result<(CoreHandle, JoinHandle<()>)> {
    let cannot = |what: &str, error: &dyn std::fmt::Display| {
        Error::deployment(format!(
            "cannot start data core {} on CPU {}: {what}: {error}",
            config.index, config.cpu
        ))
    };
    let lost = events.clone();
    let doorbell = Arc::new(Doorbell::new().map_err(|error| cannot("no eventfd", &error))?);
    let (mailbox, commands) = sync_channel(MAILBOX_COMMANDS);
    let (started, ready) = sync_channel(1);
    let pool = BufferPool::new(config.pool_buffers);
    let helpers = CpuSet::online().map_err(|error| cannot("CPUs are unknown", &error))?;
    let helpers = helpers.filter(|location| config.housekeeping.contains(&location.cpu));
    let mut builder = LocalExecutorBuilder::new(GlommioPlacement::Fixed(config.cpu))
        .name(&format!("rf-help-{}", config.index))
        // The core's own ring moves data; glommio's registered memory would only be pinned for nothing.
        .io_memory(64 << 10)
        .blocking_thread_pool_placement(PoolPlacement::Fenced(1, helpers));
    if let Some(preempt_timer) = config.preempt_timer {
        builder = builder.preempt_timer(preempt_timer);
    }
    let (bell, core_pool) = (Arc::clone(&doorbell), pool.clone());
    let (spin, index, network) = (config.spin, config.index, config.network);
    let state = config.state;
    let executor = builder.spawn(move || async move {
        let bell = Arc::clone(&bell);
        match Core::new(
            index, spin, commands, events, bell, core_pool, network, state,
        ) {
            Ok(core) => {
                name_thread(index);
                drop(started.send(Ok(rustix::thread::gettid().as_raw_nonzero().get())));
                core.run().await;
            }
            Err(error) => drop(started.send(Err(error))),
        }
    });
    let executor = executor.map_err(|error| cannot("no executor", &error))?;
    let thread = std::thread::Builder::new()
        .name(format!("rf-join-{index}"))
        .spawn(move || {
            if let Err(error) = executor.join() {
                let why = error.to_string();
                drop(lost.send(CoreEvent::CoreLost { core: index, why }));
            }
        })
        .map_err(|error| cannot("no thread", &error))?;
    let thread_id = match ready.recv() {
        Ok(Ok(thread_id)) => thread_id,
        Ok(Err(error)) => return Err(cannot("no io_uring of its own", &error)),
        Err(_) => {
            return Err(cannot(
                "its executor",
                &"ended at once; is io_uring allowed and `ulimit -l` at least 512 KiB?",
            ));
        }
    };
    Ok((
        CoreHandle {
            mailbox,
            doorbell,
            thread_id,
            pool,
        },
        thread,
    ))
}
