//! The poller of one data core: what it sweeps, and how it sleeps.
//!
//! Owns: `Core`, the state of one core, and the sleep protocol.
//! ```text
//! loop: mailbox -> connections -> each subtask's turn -> connections (what the turns produced)
//!       something moved? again : spin for the budget : publish "asleep", let the ring strike the bell, look once more, await it
//! ```
//! Invariant: a core never sleeps while a turn or a connection can move; before it waits it has published so and looked
//! again, so no work is missed ([`crate::runtime::doorbell`]). A subtask that fails or panics ends alone.
//! Await points: the bell, and `yield_if_needed` once per sweep (the bell task must get its turn).
//! Left out: what control does with events ([`crate::task_manager`]).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::io::BufferedFile;
use ringflow_schemas::id::ExecutionAttemptId;
use tokio::sync::mpsc::UnboundedSender;

use crate::batch::BufferPool;
use crate::error::{Error, Result, panic_text};
use crate::exchange::connection::Notice;
use crate::exchange::frame::ChannelKey;
use crate::exchange::local::LocalQueue;
use crate::exchange::network::{Network, NetworkOptions};
use crate::exchange::remote::{RemoteReceiver, SenderHandle};
use crate::limits::SPIN_AUTO_NS;
use crate::metrics::{Accumulator, SubtaskMetrics};
use crate::record::EventTime;
use crate::runtime::clock::Clock;
use crate::runtime::context::OpenContext;
use crate::runtime::core::{
    ConnectionId, CoreCommand, CoreCommandBox, CoreEvent, End, SpinPolicy, SubtaskSnapshot,
};
use crate::runtime::doorbell::Doorbell;
use crate::state::disk::StateStorage;
use crate::subtask::spec::{SubtaskSpec, Wiring};
use crate::subtask::{Subtask, Turn};

/// The core's side of its bell: a small task keeps reading the eventfd, the poller waits for it.
#[derive(Default)]
struct Bell {
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Bell {
    fn on_rung(&self) {
        self.rung.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for the bell, or for `deadline`.
    async fn wait(&self, deadline: Option<Duration>) {
        let timer = async {
            match deadline {
                Some(wait) => drop(glommio::timer::Timer::new(wait).await),
                None => std::future::pending().await,
            }
        };
        let mut timer = pin!(timer);
        std::future::poll_fn(|context| {
            if self.rung.take() || timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// One core at work.
pub(super) struct Core {
    index: usize,
    spin: SpinPolicy,
    commands: Receiver<CoreCommandBox>,
    events: UnboundedSender<CoreEvent>,
    doorbell: Arc<Doorbell>,
    bell: Rc<Bell>,
    /// Dropped before `network`, which sends what is queued when it ends: subtasks that have not finished are cut short, and
    /// hold up none.
    subtasks: Vec<Subtask>,
    network: Network,
    clock: Rc<Clock>,
    pool: BufferPool,
    /// Where operators keep their state.
    state: StateStorage,
    /// Local queues of which one end is deployed.
    half_wired: HashMap<ChannelKey, LocalQueue>,
    /// Consumers that wait for their producers to open the channel.
    expected: HashMap<ChannelKey, Rc<RemoteReceiver>>,
    /// Channels that producers opened before their consumers were deployed.
    unclaimed: HashMap<ChannelKey, (ConnectionId, u32)>,
    /// Time spent in all looking for work that was not there.
    spun_ns: u64,
    /// When an idle subtask wants its next turn.
    wake_ns: Option<u64>,
    ended: bool,
}

impl Core {
    #[allow(
        clippy::too_many_arguments,
        reason = "made at one place, of what the core was started with"
    )]
    pub(super) fn new(
        index: usize,
        spin: SpinPolicy,
        commands: Receiver<CoreCommandBox>,
        events: UnboundedSender<CoreEvent>,
        doorbell: Arc<Doorbell>,
        pool: BufferPool,
        options: NetworkOptions,
        state: StateStorage,
    ) -> std::io::Result<Self> {
        pool.own();
        let network = Network::new(options, doorbell.as_raw_fd(), pool.clone())?;
        Ok(Self {
            index,
            spin,
            commands,
            events,
            doorbell,
            bell: Rc::default(),
            network,
            clock: Rc::new(Clock::system()),
            pool,
            state,
            subtasks: Vec::new(),
            half_wired: HashMap::new(),
            expected: HashMap::new(),
            unclaimed: HashMap::new(),
            spun_ns: 0,
            wake_ns: None,
            ended: false,
        })
    }

    pub(super) async fn run(mut self) {
        let bell_task =
            glommio::spawn_local(listen(Arc::clone(&self.doorbell), Rc::clone(&self.bell)));
        // Since when nothing has moved, and when that was seen last.
        let mut idle: Option<(u64, u64)> = None;
        while !self.ended {
            self.doorbell.count_sweep();
            if self.sweep() {
                idle = None;
                glommio::yield_if_needed().await;
                continue;
            }
            let now_ns = self.clock.now_ns();
            let (since_ns, seen_ns) = idle.unwrap_or((now_ns, now_ns));
            self.spun_ns += now_ns.saturating_sub(seen_ns);
            idle = Some((since_ns, now_ns));
            let spins = match self.spin {
                SpinPolicy::Always => true,
                SpinPolicy::Auto => now_ns.saturating_sub(since_ns) < SPIN_AUTO_NS,
                SpinPolicy::For(budget_ns) => now_ns.saturating_sub(since_ns) < budget_ns,
            };
            if spins {
                std::hint::spin_loop();
                glommio::yield_if_needed().await;
            } else {
                self.sleep().await;
                idle = None;
            }
        }
        bell_task.cancel().await;
    }

    /// Publishes that the core sleeps, looks once more, and waits.
    async fn sleep(&mut self) {
        self.doorbell.publish_asleep();
        let now_ns = self.clock.now_ns();
        let wait_ns = self.wake_ns.map(|wake_ns| wake_ns.saturating_sub(now_ns));
        let work = self.sweep_mailbox()
            || self.sweep_network()
            || self
                .subtasks
                .iter_mut()
                .any(|subtask| subtask.can_move(now_ns))
            || wait_ns == Some(0);
        if !work && self.network.on_asleep() {
            self.bell.wait(wait_ns.map(Duration::from_nanos)).await;
        }
        self.network.on_awake();
        self.doorbell.publish_awake();
    }

    /// One pass over everything; true when something moved.
    fn sweep(&mut self) -> bool {
        let mut moved = self.sweep_mailbox();
        moved |= self.sweep_network();
        moved |= self.sweep_subtasks();
        if moved {
            // What the turns produced leaves in the same sweep.
            self.sweep_network();
        }
        moved
    }

    fn sweep_mailbox(&mut self) -> bool {
        let mut moved = false;
        while let Ok(command) = self.commands.try_recv() {
            moved = true;
            match *command {
                CoreCommand::Attach {
                    id,
                    socket,
                    direction,
                    peer,
                } => {
                    self.network.attach(id, socket, direction, peer);
                }
                CoreCommand::Deploy(specs) => specs.into_iter().for_each(|spec| self.deploy(spec)),
                CoreCommand::Cancel(attempts) => self.cancel(&attempts),
                CoreCommand::Stop(attempts, mode) => self
                    .subtasks
                    .iter_mut()
                    .filter(|subtask| attempts.contains(&subtask.attempt()))
                    .for_each(|subtask| subtask.stop(mode)),
                CoreCommand::Report(reply) => {
                    let snapshots = self.subtasks.iter_mut().map(|subtask| {
                        subtask.count();
                        snapshot(
                            subtask.attempt(),
                            subtask.metrics(),
                            subtask.watermark(),
                            Vec::new(),
                        )
                    });
                    drop(reply.send(snapshots.collect()));
                }
                CoreCommand::Spin(spin) => self.spin = spin,
                CoreCommand::Shutdown => self.ended = true,
            }
        }
        moved
    }

    // ------------------------------------------------------------------------------------------- connections

    fn sweep_network(&mut self) -> bool {
        let moved = self.network.sweep();
        if moved {
            self.look_after_network();
        }
        moved
    }

    fn look_after_network(&mut self) {
        while let Some((id, notice)) = self.network.take_notice() {
            match notice {
                Notice::Opened { number, key } => match self.expected.remove(&key) {
                    Some(receiver) => drop(self.network.claim(id, number, &receiver)),
                    None => drop(self.unclaimed.insert(key, (id, number))),
                },
                Notice::Closed { number } => {
                    self.unclaimed.retain(|_, channel| *channel != (id, number));
                }
            }
        }
        while let Some(id) = self.network.take_lost() {
            self.unclaimed
                .retain(|_, (connection, _)| *connection != id);
            let core = self.index;
            drop(self.events.send(CoreEvent::ConnectionLost { core, id }));
            self.fail_on_broken_roads();
        }
    }

    fn fail_on_broken_roads(&mut self) {
        let mut index = 0;
        while index < self.subtasks.len() {
            match self.subtasks[index].check_roads() {
                Ok(()) => index += 1,
                Err(error) => self.end(index, End::Failed(error)),
            }
        }
    }

    // ---------------------------------------------------------------------------------------------- subtasks

    fn sweep_subtasks(&mut self) -> bool {
        let mut moved = false;
        self.wake_ns = None;
        let mut index = 0;
        while index < self.subtasks.len() {
            let subtask = &mut self.subtasks[index];
            let spun_ns = self.spun_ns;
            let turn = std::panic::catch_unwind(AssertUnwindSafe(|| subtask.turn(spun_ns)))
                .unwrap_or_else(|panic| {
                    Err(Error::operator(format!(
                        "panicked: {}",
                        panic_text(panic.as_ref())
                    )))
                });
            match turn {
                Ok(Turn::Worked) => moved = true,
                Ok(Turn::Idle { until_ns } | Turn::Backpressured { until_ns }) => {
                    self.wake_ns = [self.wake_ns, until_ns].into_iter().flatten().min();
                }
                Ok(Turn::Finished) => {
                    moved = true;
                    self.end(index, End::Finished);
                    continue;
                }
                Err(error) => {
                    moved = true;
                    self.end(index, End::Failed(error));
                    continue;
                }
            }
            index += 1;
        }
        moved
    }

    fn deploy(&mut self, spec: SubtaskSpec) {
        let attempt = spec.attempt;
        let metrics = Rc::new(SubtaskMetrics::default());
        let context = OpenContext {
            subtask_index: attempt.subtask,
            parallelism: spec.parallelism,
            max_parallelism: spec.max_parallelism,
            clock: Rc::clone(&self.clock),
            metrics: Rc::clone(&metrics),
            state: self.state.clone(),
            doorbell: Arc::clone(&self.doorbell),
        };
        let build = || spec.open(&context, &self.pool.clone(), self);
        let opened = std::panic::catch_unwind(AssertUnwindSafe(build)).unwrap_or_else(|panic| {
            Err(Error::operator(format!(
                "panicked in open: {}",
                panic_text(panic.as_ref())
            )))
        });
        match opened {
            Ok(subtask) => {
                self.subtasks.push(subtask);
                drop(self.events.send(CoreEvent::Running(attempt)));
            }
            Err(error) => {
                self.forget_roads(attempt);
                let last = Box::new(snapshot(attempt, &metrics, None, Vec::new()));
                drop(self.events.send(CoreEvent::Ended {
                    how: End::Failed(error),
                    last,
                }));
            }
        }
    }

    fn cancel(&mut self, attempts: &[ExecutionAttemptId]) {
        let mut index = 0;
        while index < self.subtasks.len() {
            if attempts.contains(&self.subtasks[index].attempt()) {
                self.end(index, End::Canceled);
            } else {
                index += 1;
            }
        }
    }

    fn end(&mut self, index: usize, how: End) {
        let subtask = self.subtasks.remove(index);
        let attempt = subtask.attempt();
        let closed = std::panic::catch_unwind(AssertUnwindSafe(|| subtask.close()));
        let last = match closed {
            Ok((metrics, watermark, accumulators)) => {
                snapshot(attempt, &metrics, watermark, accumulators)
            }
            Err(panic) => {
                tracing::error!(
                    "subtask {attempt} panicked in close: {}",
                    panic_text(panic.as_ref())
                );
                snapshot(attempt, &SubtaskMetrics::default(), None, Vec::new())
            }
        };
        self.forget_roads(attempt);
        drop(self.events.send(CoreEvent::Ended {
            how,
            last: Box::new(last),
        }));
    }

    /// Wiring of an ended attempt that its other end never completed.
    fn forget_roads(&mut self, attempt: ExecutionAttemptId) {
        let of = |key: &ChannelKey| {
            key.job == attempt.job && {
                let this = (attempt.subtask, attempt.attempt);
                key.consumer == this || key.producer == this
            }
        };
        self.half_wired.retain(|key, _| !of(key));
        // Receivers that only this table still holds belong to nobody.
        self.expected
            .retain(|key, receiver| !(of(key) && Rc::strong_count(receiver) == 1));
    }
}

impl Wiring for Core {
    fn local_queue(&mut self, key: ChannelKey, road: usize) -> LocalQueue {
        match self.half_wired.remove(&key) {
            Some(queue) => queue,
            None => {
                let queue = LocalQueue::new(road);
                self.half_wired.insert(key, queue.clone());
                queue
            }
        }
    }

    fn open_remote(
        &mut self,
        connection: ConnectionId,
        key: ChannelKey,
        road: usize,
    ) -> Result<SenderHandle> {
        self.network.open(connection, &key, road).ok_or_else(|| {
            Error::deployment("the data connection ended before the subtask was deployed")
        })
    }

    fn expect_remote(&mut self, key: ChannelKey, credit: u32) -> Rc<RemoteReceiver> {
        let receiver = Rc::new(RemoteReceiver::new(credit));
        let claimed = match self.unclaimed.remove(&key) {
            Some((id, number)) => self.network.claim(id, number, &receiver),
            None => false,
        };
        if !claimed {
            self.expected.insert(key, Rc::clone(&receiver));
        }
        receiver
    }
}

/// Names the core's thread; the executor's helper thread keeps the name that glommio gave both.
pub(super) fn name_thread(index: usize) {
    if let Ok(name) = std::ffi::CString::new(format!("rf-core-{index}"))
        && let Err(error) = rustix::thread::set_name(&name)
    {
        tracing::debug!("data core {index} keeps its thread's name: {error}");
    }
}

/// Keeps reading the eventfd, so that a strike always wakes the executor.
async fn listen(doorbell: Arc<Doorbell>, bell: Rc<Bell>) {
    // SAFETY: `as_raw_fd` is the eventfd of a bell that lives as long as this task; the duplicate is owned by the file.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(doorbell.as_raw_fd()) };
    let Ok(copy) = borrowed.try_clone_to_owned() else {
        tracing::error!("no file descriptor left to listen to a doorbell");
        return;
    };
    // SAFETY: the descriptor was just duplicated and has no other owner.
    let file = unsafe { BufferedFile::from_raw_fd(copy.into_raw_fd()) };
    loop {
        match file.read_at(0, 8).await {
            Ok(_) => bell.on_rung(),
            Err(error) => {
                let io: std::io::Error = error.into();
                if !matches!(
                    io.kind(),
                    std::io::ErrorKind::Interrupted | std::io::ErrorKind::WouldBlock
                ) {
                    // A core that cannot hear its bell would sleep for ever: end it, so that everybody knows.
                    panic!("cannot read a doorbell: {io}");
                }
            }
        }
    }
}

fn snapshot(
    attempt: ExecutionAttemptId,
    metrics: &SubtaskMetrics,
    watermark: Option<EventTime>,
    accumulators: Vec<Accumulator>,
) -> SubtaskSnapshot {
    let mut latency = Vec::new();
    let mut histogram = metrics.latency_us.borrow_mut();
    if !histogram.is_empty() {
        use hdrhistogram::serialization::Serializer;
        let written =
            hdrhistogram::serialization::V2Serializer::new().serialize(&histogram, &mut latency);
        debug_assert!(written.is_ok(), "a vector takes all bytes");
        histogram.reset();
    }
    let counters = ringflow_schemas::control::SubtaskCounters::new(
        metrics.records_in.get(),
        metrics.records_out.get(),
        metrics.bytes_in.get(),
        metrics.bytes_out.get(),
        metrics.buffers_out.get(),
        metrics.busy_ns.get(),
        metrics.idle_ns.get(),
        metrics.backpressured_ns.get(),
        metrics.spinning_ns.get(),
        metrics.late_records_dropped.get(),
        metrics.bad_records.get(),
        metrics.source_records.get(),
        metrics.sink_records.get(),
        metrics.bytes_copied.get(),
        metrics.pending_records.get(),
        metrics.state_bytes.get(),
        metrics.state_bytes_max.get(),
    );
    SubtaskSnapshot {
        attempt,
        counters,
        watermark,
        latency,
        accumulators,
    }
}
