//! The TaskManager: the process around the data cores.
//!
//! Owns: [`TaskManager::start`]: confines the process to its housekeeping cores, starts a core per data CPU, listens for
//! other TaskManagers on one port per core, registers at the JobManager and serves it until told to stop.
//! Invariant: the control thread (one, on the housekeeping cores) decides nothing about jobs: it does what the JobManager
//! says and reports what the cores say.
//! Left out: keeping subtasks over a JobManager's restart; today they are cancelled when it is lost.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{Error, Result};
use crate::exchange::network::NetworkOptions;
use crate::exchange::uring::Features;
use crate::limits::{SPIN_AUTO_NS, SPIN_AUTO_RANGE_NS, SPIN_AUTO_WAKE_UPS};
use crate::program::ProgramResolver;
use crate::runtime::core::{self, CoreCommand, CoreConfig, CoreHandle, SpinPolicy};
use crate::runtime::placement::{self, Placement, Verification};
use crate::runtime::wakeup;
use crate::runtime::watchdog::{Watchdog, WatchdogCounters, Watched};
use crate::state::disk::{DiskOptions, DiskStorage, StateStorage, StateThreads};

mod aligned_sources;
mod connection_table;
pub mod connections;
pub mod control_client;
pub mod deploy;
mod endings;
mod hand_over;
pub mod messages;
mod patience;

/// How a TaskManager runs.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds a resolver of programs")]
pub struct TaskManagerConfig {
    /// Its id; `None`: made of host, process id and a counter.
    pub id: Option<String>,
    /// The JobManager's RPC endpoint, as host:port.
    pub job_manager: String,
    /// Address that data cores listen on.
    pub data_bind: IpAddr,
    /// Host that other TaskManagers reach them at; `None`: the bind address.
    pub data_host: Option<String>,
    /// Ports of the data cores; empty: any free ones.
    pub data_ports: Vec<u16>,
    /// Which CPUs do what.
    pub placement: Placement,
    /// When cores sleep.
    pub spin: SpinPolicy,
    /// Network memory of the whole process, in bytes.
    pub network_memory_bytes: usize,
    /// Where operators keep keyed state; `None`: in memory.
    pub disk_state: Option<DiskOptions>,
    /// Receive by one operation at a time even where the kernel can do better.
    pub single_receive: bool,
    /// Send without copying to other hosts.
    pub zero_copy_send: bool,
    /// Refuse to start when a promise about placement does not hold.
    pub strict: bool,
    /// Finds the code of jobs.
    pub resolver: Arc<dyn ProgramResolver>,
    /// Version, for messages.
    pub version: String,
    /// For tests: glommio's preemption timer.
    pub preempt_timer: Option<Duration>,
}

/// State of the registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// Looking for the JobManager; the last failure, if there was one.
    Connecting(Option<String>),
    /// Registered at it.
    Registered {
        /// Cluster joined.
        cluster_id: String,
    },
    /// It will not have us, or the control thread failed: this TaskManager ends.
    Ended(String),
}

/// A running TaskManager; [`TaskManager::stop`] ends it in good order.
#[derive(Debug)]
pub struct TaskManager {
    id: String,
    verification: Verification,
    data_ports: Vec<u16>,
    registration: watch::Receiver<Registration>,
    stop: Option<oneshot::Sender<String>>,
    control: Option<JoinHandle<()>>,
    cores: Vec<CoreHandle>,
    core_threads: Vec<JoinHandle<()>>,
    watchdog: Option<Watchdog>,
    /// Dropped last: what it ends is in use by the cores.
    state_threads: Option<StateThreads>,
}

impl TaskManager {
    /// Starts everything. The calling thread is confined to the housekeeping cores, and so is every thread that it or the
    /// TaskManager starts later (librdkafka's included).
    ///
    /// # Errors
    /// A CPU, port or kernel feature is missing, or a promise does not hold under `strict`.
    pub fn start(config: TaskManagerConfig) -> Result<Self> {
        let placement = &config.placement;
        placement::confine_to_housekeeping(placement).map_err(|error| {
            Error::deployment(format!("cannot move to the housekeeping cores: {error}"))
        })?;
        let network = network_options(&config)?;
        let (state, state_threads) = match &config.disk_state {
            None => (StateStorage::HashMap, None),
            Some(options) => {
                let cores = placement.housekeeping.len();
                let (storage, threads) = DiskStorage::start(options, cores)?;
                tracing::info!("keyed state is kept in {}", storage.directory().display());
                (StateStorage::Disk(storage), Some(threads))
            }
        };
        // To be measured, a core must sleep at once.
        let measure = config.spin == SpinPolicy::Auto;
        let spin = if measure {
            SpinPolicy::For(0)
        } else {
            config.spin
        };
        let (events, core_events) = mpsc::unbounded_channel();
        let pool_buffers =
            config.network_memory_bytes / crate::limits::BUFFER_BYTES / placement.data.len().max(1);
        let (mut cores, mut core_threads) = (Vec::new(), Vec::new());
        for (index, cpu) in placement.data.iter().enumerate() {
            let core_config = CoreConfig {
                index,
                cpu: *cpu,
                housekeeping: placement.housekeeping.clone(),
                spin,
                preempt_timer: config.preempt_timer,
                pool_buffers,
                network,
                state: state.clone(),
            };
            let (handle, thread) = core::start(core_config, events.clone())?;
            cores.push(handle);
            core_threads.push(thread);
        }
        if measure && let Some(first) = cores.first() {
            let spin = measured_spin(first);
            for core in &cores {
                core.send(CoreCommand::Spin(spin))?;
            }
        }
        let mut listeners = Vec::new();
        for index in 0..cores.len() {
            listeners.push(listen(&config, index)?);
        }
        let data_ports = listeners
            .iter()
            .map(|(_, port)| *port)
            .collect::<Vec<u16>>();
        let watched = cores.iter().map(|core| Watched {
            doorbell: Arc::clone(core.doorbell()),
            thread_id: core.thread_id(),
        });
        let watchdog = Watchdog::start(watched.collect())
            .map_err(|error| Error::deployment(format!("cannot start the watchdog: {error}")))?;
        let id = config.id.clone().unwrap_or_else(|| default_id(&config));
        let (registered, registration) = watch::channel(Registration::Connecting(None));
        let (stop, stopped) = oneshot::channel();
        let client = control_client::ControlClient::new(
            id.clone(),
            config.clone(),
            cores.clone(),
            listeners,
            core_events,
            registered,
        );
        let control = std::thread::Builder::new()
            .name("rf-control".to_owned())
            .spawn(move || client.run(stopped))
            .map_err(|error| {
                Error::deployment(format!("cannot start the control thread: {error}"))
            })?;
        let data_threads: Vec<i32> = cores.iter().map(CoreHandle::thread_id).collect();
        let verification = placement::verify(placement, &data_threads, network.features)
            .map_err(|error| Error::deployment(format!("cannot verify the placement: {error}")))?;
        let mut task_manager = Self {
            id,
            verification,
            data_ports,
            registration,
            stop: Some(stop),
            control: Some(control),
            cores,
            core_threads,
            watchdog: Some(watchdog),
            state_threads,
        };
        if config.strict && !task_manager.verification.broken.is_empty() {
            let broken = task_manager.verification.broken.join("; ");
            task_manager.stop("placement does not hold");
            return Err(Error::deployment(format!("--strict: {broken}")));
        }
        Ok(task_manager)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What was promised about placement and how it stands.
    #[must_use]
    pub fn verification(&self) -> &Verification {
        &self.verification
    }

    /// Ports of the data cores.
    #[must_use]
    pub fn data_ports(&self) -> &[u16] {
        &self.data_ports
    }

    /// State of the registration, to watch.
    #[must_use]
    pub fn registration(&self) -> watch::Receiver<Registration> {
        self.registration.clone()
    }

    /// What the watchdog has seen.
    #[must_use]
    pub fn watchdog(&self) -> Option<&Arc<WatchdogCounters>> {
        self.watchdog.as_ref().map(Watchdog::counters)
    }

    /// Leaves the cluster and ends all threads. Idempotent.
    pub fn stop(&mut self, reason: &str) {
        if let Some(stop) = self.stop.take() {
            drop(stop.send(reason.to_owned()));
        }
        if let Some(control) = self.control.take() {
            drop(control.join());
        }
        for core in &self.cores {
            drop(core.send(CoreCommand::Shutdown));
        }
        for thread in self.core_threads.drain(..) {
            drop(thread.join());
        }
        self.watchdog = None;
        self.state_threads = None;
    }
}

impl Drop for TaskManager {
    fn drop(&mut self) {
        self.stop("dropped");
    }
}

fn network_options(config: &TaskManagerConfig) -> Result<NetworkOptions> {
    let mut features = Features::probe().map_err(|error| {
        Error::deployment(format!(
            "io_uring cannot be used: {error}; look at sysctl kernel.io_uring_disabled and seccomp filters"
        ))
    })?;
    if !(features.multishot && features.deferred) {
        tracing::warn!("this kernel's io_uring gives {}", features.describe());
    }
    if config.zero_copy_send && !features.zero_copy {
        tracing::warn!("this kernel has no zero-copy sends (6.1): sends are copied");
    }
    features.multishot &= !config.single_receive;
    Ok(NetworkOptions {
        features,
        zero_copy: config.zero_copy_send,
    })
}

/// `auto` is four times what waking up takes. A sleep costs about two of them, one in latency and as much in CPU time (60 to 90 us
/// measured where waking up takes 40), and spinning for twice the cost of what it avoids is never worse than three times what a
/// core would have spent had it known when the next work comes.
fn measured_spin(core: &CoreHandle) -> SpinPolicy {
    let (least_ns, most_ns) = SPIN_AUTO_RANGE_NS;
    match wakeup::median_ns(core.doorbell()) {
        Some(wake_up_ns) => {
            let spin_ns = (SPIN_AUTO_WAKE_UPS * wake_up_ns).clamp(least_ns, most_ns);
            tracing::info!(
                "waking a sleeping core takes {} us: idle cores spin for {} us first",
                wake_up_ns / 1000,
                spin_ns / 1000
            );
            SpinPolicy::For(spin_ns)
        }
        None => {
            tracing::warn!("this machine is too busy to measure what waking a core costs");
            SpinPolicy::For(SPIN_AUTO_NS)
        }
    }
}

fn listen(config: &TaskManagerConfig, core: usize) -> Result<(TcpListener, u16)> {
    let port = config.data_ports.get(core).copied().unwrap_or(0);
    let address = SocketAddr::new(config.data_bind, port);
    let cannot = |error: std::io::Error| {
        Error::deployment(format!(
            "cannot listen on {address} for data core {core}: {error}; choose other --data-ports"
        ))
    };
    let listener = TcpListener::bind(address).map_err(cannot)?;
    listener.set_nonblocking(true).map_err(cannot)?;
    let port = listener.local_addr().map_err(cannot)?.port();
    Ok((listener, port))
}

fn default_id(config: &TaskManagerConfig) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let host = config
        .data_host
        .clone()
        .unwrap_or_else(|| config.data_bind.to_string());
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let suffix = if number == 0 {
        String::new()
    } else {
        format!("-{number}")
    };
    format!("{host}-{}{suffix}", std::process::id())
}
