//! A cluster of real processes for one measurement: this same binary, on free ports of the loopback interface.
//!
//! Owns: [`ClusterLayout`], [`BenchCluster`]. Invariant: its processes end with it, by their process ids: SIGTERM, then
//! SIGKILL after a deadline; should this process be killed, the kernel ends them.
//! Left out: what runs on it ([`super::job`]).

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::ValueEnum;
use ringflow_dataplane::runtime::clock::Clock;
use ringflow_dataplane::runtime::core::SpinPolicy;
use ringflow_dataplane::runtime::placement::CpuList;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use super::cpus::{Cpus, Stop, confine};
use crate::cli::args::ReceiveMode;
use crate::cli::client::RestClient;
use crate::cli::memory::StateArgs;

/// How long a process may take to say that it is ready, and TaskManagers to register.
const START_NS: u64 = 30_000_000_000;
/// How long a process may take to end in good order.
const END_NS: u64 = 5_000_000_000;
/// How often conditions are looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Lines of a process's log kept for an error message.
const LOG_LINES: usize = 12;

/// What a cluster looks like.
#[derive(Debug, Clone)]
pub struct ClusterLayout {
    /// The data CPUs of each TaskManager.
    pub task_managers: Vec<Vec<usize>>,
    /// Slots on each data CPU.
    pub slots_per_core: u32,
    /// When data cores sleep.
    pub spin: SpinPolicy,
    /// Network memory of each TaskManager; `None`: its default.
    pub network_memory_bytes: Option<usize>,
    /// How they receive.
    pub receive: ReceiveMode,
    /// They send to other hosts without copying.
    pub zero_copy_send: bool,
    /// Where they keep state; with a directory, each in one of its own below it.
    pub state: StateArgs,
}

impl ClusterLayout {
    fn slots(&self) -> u32 {
        let cores: usize = self.task_managers.iter().map(Vec::len).sum();
        u32::try_from(cores)
            .unwrap_or(u32::MAX)
            .saturating_mul(self.slots_per_core)
    }

    /// The command line of TaskManager `index`, which registers at `rpc`.
    fn task_manager(&self, index: usize, rpc: &str, housekeeping: &[usize]) -> Vec<String> {
        let data = &self.task_managers[index];
        let mut arguments: Vec<String> = ["taskmanager", "-m", rpc].map(str::to_owned).to_vec();
        let mut put = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        put("--id", format!("bench-{}", index + 1));
        put("--cores", CpuList(data.clone()).to_string());
        put("--slots-per-core", self.slots_per_core.to_string());
        put("--spin", spin_text(self.spin));
        put("--receive", receive_text(self.receive).to_owned());
        if let Some(bytes) = self.network_memory_bytes {
            put("--network-memory", bytes.to_string());
        }
        if let Some(backend) = self.state.state_backend.to_possible_value() {
            put("--state-backend", backend.get_name().to_owned());
        }
        if let Some(bytes) = self.state.memory {
            put("--memory", bytes.to_string());
        }
        if let Some(directory) = &self.state.state_dir {
            let own = directory.join(format!("bench-{}", index + 1));
            put("--state-dir", own.display().to_string());
        }
        if housekeeping.iter().all(|cpu| !data.contains(cpu)) {
            put(
                "--housekeeping-cores",
                CpuList(housekeeping.to_vec()).to_string(),
            );
        }
        if self.zero_copy_send {
            arguments.push("--zero-copy-send".to_owned());
        }
        arguments
    }
}

/// One process of the cluster.
#[derive(Debug)]
struct Role {
    what: String,
    child: Child,
    lines: Receiver<String>,
    log: Arc<Mutex<VecDeque<String>>>,
}

/// Reads a stream to its end on a thread of its own, so that its writer never blocks.
fn read_lines(
    stream: impl Read + Send + 'static,
    mut take: impl FnMut(String) + Send + 'static,
) -> crate::Result<()> {
    let body = move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            take(line);
        }
    };
    std::thread::Builder::new()
        .name("rf-bench-log".to_owned())
        .spawn(body)
        .context("cannot start a thread")?;
    Ok(())
}

impl Role {
    /// Starts this binary with `arguments` on `cpus`.
    fn start(what: String, arguments: &[String], cpus: Vec<usize>) -> crate::Result<Self> {
        let program = std::env::current_exe().context("cannot tell where this program is")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if std::env::var_os("RINGFLOW_LOG").is_none() {
            command.env("RINGFLOW_LOG", "warn");
        }
        // A group of its own: Ctrl-C is for the bench, which then ends its cluster in order.
        command.process_group(0);
        let prepare = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            confine(&cpus)
        };
        // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
        unsafe { command.pre_exec(prepare) };
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start the {what}"))?;
        let (sender, lines) = channel();
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&log);
        let streams = child.stdout.take().zip(child.stderr.take());
        let role = Self {
            what,
            child,
            lines,
            log,
        };
        let (stdout, stderr) = streams.context("standard output and error are piped")?;
        // Nobody listens any more once the process is ready.
        read_lines(stdout, move |line| drop(sender.send(line)))?;
        read_lines(stderr, move |line| {
            let mut log = kept.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_back(line);
            if log.len() > LOG_LINES {
                log.pop_front();
            }
        })?;
        Ok(role)
    }

    fn log(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().map(|line| format!("\n  {line}")).collect()
    }

    /// The rest of its line that starts with `prefix`.
    fn ready(&self, prefix: &str, clock: &Clock, stop: &Stop<'_>) -> crate::Result<String> {
        let start_ns = clock.now_ns();
        loop {
            stop.check()?;
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(prefix) {
                        return Ok(rest.to_owned());
                    }
                }
                Err(RecvTimeoutError::Timeout) if clock.now_ns() - start_ns < START_NS => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the {} is not ready after 30 s:{}", self.what, self.log())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the {} ended before it was ready:{}", self.what, self.log())
                }
            }
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && let Err(error) = kill_process(pid, signal)
        {
            // It may have ended by itself.
            tracing::debug!("{} could not be signalled: {error}", self.what);
        }
    }
}

/// A JobManager and its TaskManagers. Dropping it ends them.
#[derive(Debug)]
pub struct BenchCluster {
    /// TaskManagers, then the JobManager: the order in which they end.
    roles: Vec<Role>,
    rest: String,
    clock: Clock,
}

impl BenchCluster {
    /// Starts the processes and waits until all slots are registered.
    ///
    /// # Errors
    /// A process does not start, with the end of its log; or interrupted.
    pub fn start(layout: &ClusterLayout, cpus: &Cpus, stop: &Stop<'_>) -> crate::Result<Self> {
        let clock = Clock::system();
        let arguments = ["jobmanager", "--rpc-port", "0", "--rest-port", "0"];
        let job_manager = Role::start(
            "JobManager".to_owned(),
            &arguments.map(str::to_owned),
            cpus.housekeeping.clone(),
        )?;
        let mut cluster = Self {
            roles: vec![job_manager],
            rest: String::new(),
            clock,
        };
        let ready = cluster.roles[0].ready("JobManager ready: rpc ", &clock, stop)?;
        let (rpc, rest) = ready
            .split_once(" rest ")
            .context("the JobManager's ready line names no REST endpoint")?;
        cluster.rest = rest.to_owned();
        for index in 0..layout.task_managers.len() {
            let arguments = layout.task_manager(index, rpc, &cpus.housekeeping);
            let what = format!("TaskManager {}", index + 1);
            cluster
                .roles
                .insert(index, Role::start(what, &arguments, cpus.allowed.clone())?);
        }
        for role in &cluster.roles[..layout.task_managers.len()] {
            role.ready("TaskManager ready: ", &clock, stop)?;
        }
        cluster.wait_for_slots(layout.slots(), stop)?;
        Ok(cluster)
    }

    fn wait_for_slots(&self, wanted: u32, stop: &Stop<'_>) -> crate::Result<()> {
        let client = self.client();
        let start_ns = self.clock.now_ns();
        loop {
            stop.check()?;
            let answer = client.slots();
            if matches!(answer, Ok((available, total)) if available == wanted && total == wanted) {
                return Ok(());
            }
            if self.clock.now_ns() - start_ns > START_NS {
                let logs: String = self.roles.iter().map(Role::log).collect();
                return Err(anyhow!(
                    "not all {wanted} slots registered within 30 s: {answer:?}{logs}"
                ));
            }
            std::thread::park_timeout(LOOK);
        }
    }

    /// Its REST endpoint.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.rest
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self) -> RestClient {
        RestClient::new(&self.rest)
    }

    /// CPU time that all TaskManager processes have used since they started, in nanoseconds, with the threads that have
    /// ended: the kernel's CPU-time clock of each process.
    ///
    /// # Errors
    /// A TaskManager is gone.
    pub fn task_manager_cpu_ns(&self) -> crate::Result<u64> {
        let task_managers = self.roles.iter().filter(|role| role.what != "JobManager");
        let mut total_ns = 0;
        for role in task_managers {
            total_ns += process_cpu_ns(role.child.id())
                .with_context(|| format!("the {} is gone:{}", role.what, role.log()))?;
        }
        Ok(total_ns)
    }

    /// The end of every process's log, for an error message.
    #[must_use]
    pub fn log(&self) -> String {
        self.roles.iter().map(Role::log).collect()
    }
}

impl Drop for BenchCluster {
    fn drop(&mut self) {
        for role in &self.roles {
            role.signal(Signal::TERM);
        }
        let start_ns = self.clock.now_ns();
        for role in &mut self.roles {
            while matches!(role.child.try_wait(), Ok(None)) {
                if self.clock.now_ns() - start_ns > END_NS {
                    tracing::warn!("the {} did not end within 5 s and is killed", role.what);
                    // Killing a process that has just ended is no error to anyone.
                    drop(role.child.kill());
                    drop(role.child.wait());
                    break;
                }
                std::thread::park_timeout(LOOK);
            }
        }
    }
}

/// CPU time of another process of this host, in nanoseconds.
fn process_cpu_ns(pid: u32) -> std::io::Result<u64> {
    let pid = libc::pid_t::try_from(pid).map_err(std::io::Error::other)?;
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is valid for writes; the call stores an id there or returns an error number.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if error != 0 {
        return Err(std::io::Error::from_raw_os_error(error));
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writes; an id of a process that has ended makes the call fail.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    let total_ns = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    u64::try_from(total_ns).map_err(std::io::Error::other)
}

/// As the flag of a TaskManager takes it.
#[must_use]
pub fn spin_text(spin: SpinPolicy) -> String {
    match spin {
        SpinPolicy::Auto => "auto".to_owned(),
        SpinPolicy::Always => "always".to_owned(),
        SpinPolicy::For(0) => "never".to_owned(),
        SpinPolicy::For(spin_ns) => crate::duration::text(Duration::from_nanos(spin_ns)),
    }
}

/// As the flag of a TaskManager takes it.
#[must_use]
pub fn receive_text(receive: ReceiveMode) -> &'static str {
    match receive {
        ReceiveMode::Auto => "auto",
        ReceiveMode::Single => "single",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::TaskManagerArgs;
    use crate::cli::memory::StateBackend;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: TaskManagerArgs,
    }

    #[test]
    fn a_task_manager_is_started_with_the_flags_of_the_bench() {
        let mut layout = ClusterLayout {
            task_managers: vec![vec![2], vec![3]],
            slots_per_core: 4,
            spin: SpinPolicy::Always,
            network_memory_bytes: Some(32 << 20),
            receive: ReceiveMode::Single,
            zero_copy_send: true,
            state: StateArgs {
                state_backend: StateBackend::Disk,
                state_dir: Some("/tmp/state".into()),
                memory: Some(512 << 20),
            },
        };
        // The subcommand's name stands where a program's would.
        let parse = |layout: &ClusterLayout| {
            let arguments = layout.task_manager(1, "127.0.0.1:77", &[0, 1]);
            CommandLine::try_parse_from(arguments).unwrap().args
        };
        let args = parse(&layout);
        assert_eq!(args.id.as_deref(), Some("bench-2"));
        assert_eq!(args.job_manager, "127.0.0.1:77");
        let cores = args.cores;
        assert_eq!(cores.cores, Some(CpuList(vec![3])));
        assert_eq!(cores.housekeeping_cores, Some(CpuList(vec![0, 1])));
        assert_eq!(cores.slots_per_core, Some(4));
        assert_eq!(cores.spin, SpinPolicy::Always);
        assert_eq!(cores.network_memory, Some(32 << 20));
        assert_eq!(
            (cores.receive, cores.zero_copy_send),
            (ReceiveMode::Single, true)
        );
        let state = cores.state.clone();
        assert_eq!(state.state_backend, StateBackend::Disk);
        assert_eq!(state.state_dir, Some("/tmp/state/bench-2".into()));
        assert_eq!(state.memory, Some(512 << 20));
        layout.receive = ReceiveMode::Auto;
        layout.zero_copy_send = false;
        let cores = parse(&layout).cores;
        assert_eq!(
            (cores.receive, cores.zero_copy_send),
            (ReceiveMode::Auto, false)
        );
    }

    #[test]
    fn cpu_time_of_a_process_is_what_that_process_says_of_itself() {
        let before = ringflow_dataplane::runtime::clock::process_cpu_ns();
        let seen = process_cpu_ns(std::process::id()).unwrap();
        let after = ringflow_dataplane::runtime::clock::process_cpu_ns();
        assert!(
            (before..=after).contains(&seen),
            "{before} <= {seen} <= {after}"
        );
        assert!(process_cpu_ns(u32::MAX).is_err());
    }
}
