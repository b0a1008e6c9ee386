//! Real processes for tests: clusters on free ports, brokers, commands with deadlines. Each is ended by its pid when
//! its value goes out of scope.

#![allow(dead_code, unreachable_pub, reason = "each suite uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may fail by panicking"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait for conditions with a deadline"
)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringflow::cli::client::{Progress, RestClient};
use serde_json::Value;

pub mod kafka;
pub mod nexmark_batch;
pub mod nexmark_expected;
pub mod small_disk;
pub mod sums;

pub const BINARY: &str = env!("CARGO_BIN_EXE_ringflow");

/// Waits until `condition` gives a value; fails with `what` after `deadline`.
pub fn wait_for<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            start.elapsed() < deadline,
            "{what}: not within {deadline:?}"
        );
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// CPUs that this process may use.
pub fn cpus() -> Vec<usize> {
    ringflow_dataplane::runtime::placement::allowed_cpus().unwrap()
}

/// A process whose output is collected line by line.
pub struct Process {
    child: Child,
    pub stdout: Arc<Mutex<Vec<String>>>,
    pub stderr: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

fn collect(stream: impl Read + Send + 'static) -> (Arc<Mutex<Vec<String>>>, JoinHandle<()>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&lines);
    let reader = std::thread::spawn(move || {
        for line in BufReader::with_capacity(1 << 16, stream)
            .lines()
            .map_while(Result::ok)
        {
            shared.lock().unwrap().push(line);
        }
    });
    (lines, reader)
}

impl Process {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_program(BINARY, arguments)
    }

    pub fn start_program(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .expect("the binary was built with the tests");
        let (stdout, out) = collect(child.stdout.take().unwrap());
        let (stderr, err) = collect(child.stderr.take().unwrap());
        Self {
            child,
            stdout,
            stderr,
            readers: vec![out, err],
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.pid().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for the end of the process and of its output.
    pub fn wait(&mut self, deadline: Duration) -> std::process::ExitStatus {
        let status = wait_for("the end of the process", deadline, || {
            self.child.try_wait().unwrap()
        });
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        status
    }

    /// The rest of the first line of standard output that starts with `prefix`.
    pub fn line(&mut self, prefix: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(line) = self
                .stdout
                .lock()
                .unwrap()
                .iter()
                .find_map(|line| line.strip_prefix(prefix))
            {
                return line.to_owned();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < Duration::from_secs(60),
                "no line `{prefix}`, ended: {ended:?}, standard error: {:#?}",
                self.stderr.lock().unwrap()
            );
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// A TaskManager of a test cluster.
#[derive(Clone, Copy)]
pub struct Tm {
    pub slots: u32,
}

/// A JobManager and its TaskManagers, as processes.
pub struct Cluster {
    pub job_manager: Process,
    pub task_managers: Vec<Process>,
    pub rpc: String,
    pub rest: String,
}

impl Cluster {
    pub fn start(task_managers: &[Tm]) -> Self {
        let mut cluster = Self::start_job_manager(&[]);
        for tm in task_managers {
            cluster.add(*tm);
        }
        let slots = task_managers.iter().map(|tm| tm.slots).sum();
        cluster.wait_for_slots(slots, slots);
        cluster
    }

    /// A JobManager with these flags, and no TaskManager yet.
    pub fn start_job_manager(flags: &[&str]) -> Self {
        let arguments = [
            &["jobmanager", "--rpc-port", "0", "--rest-port", "0"],
            flags,
        ]
        .concat();
        let mut job_manager = Process::start(&arguments);
        let ready = job_manager.line("JobManager ready: rpc ");
        let (rpc, rest) = ready.split_once(" rest ").unwrap();
        Self {
            job_manager,
            task_managers: Vec::new(),
            rpc: rpc.into(),
            rest: rest.into(),
        }
    }

    /// A TaskManager with these flags.
    pub fn add_with(&mut self, flags: &[&str]) {
        let id = format!("tm-{}", self.task_managers.len() + 1);
        self.add_named(&id, flags);
    }

    /// A TaskManager with this id and these flags; returns its place.
    pub fn add_named(&mut self, id: &str, flags: &[&str]) -> usize {
        let arguments = [&["taskmanager", "-m", &self.rpc, "--id", id], flags].concat();
        self.task_managers.push(Process::start(&arguments));
        self.task_managers.len() - 1
    }

    /// TaskManagers take one CPU each, in turn, and share it with housekeeping where there is no other.
    pub fn add(&mut self, tm: Tm) -> usize {
        let (index, cpus) = (self.task_managers.len(), cpus());
        let cpu = cpus[index % cpus.len()].to_string();
        let (id, slots) = (format!("tm-{}", index + 1), tm.slots.to_string());
        let arguments = [
            "taskmanager",
            "-m",
            &self.rpc,
            "--id",
            &id,
            "--cores",
            &cpu,
            "--slots",
            &slots,
        ];
        self.task_managers.push(Process::start(&arguments));
        index
    }

    pub fn client(&self) -> RestClient {
        RestClient::new(&self.rest)
    }

    pub fn wait_for_slots(&self, available: u32, total: u32) {
        let client = self.client();
        wait_for("slots", Duration::from_secs(30), || {
            (client.slots().ok()? == (available, total)).then_some(())
        });
    }

    /// Submits a job that goes on by itself; its id.
    pub fn submit(&self, job: &[&str]) -> String {
        let arguments = [&["run", "-d", "-o", "json", "-m", &self.rest], job].concat();
        let output = ringflow(&arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["job_id"].as_str().unwrap().to_owned()
    }

    /// Waits until a job reads and its sinks count more than `records`.
    pub fn wait_for_output(&self, job: &str, records: u64) {
        let client = self.client();
        wait_for("records at the sinks", Duration::from_secs(60), || {
            (client.progress(job).ok()?.records_out > records).then_some(())
        });
    }

    /// Waits for the end of a job; how it stood then.
    pub fn wait_for_end(&self, job: &str, deadline: Duration) -> Progress {
        let client = self.client();
        wait_for("the end of the job", deadline, || {
            client.progress(job).ok().filter(Progress::is_terminal)
        })
    }

    /// TaskManager and core of each vertex's first subtask, from sources to sinks.
    pub fn placements(&self, job: &str) -> Vec<(String, u64)> {
        let details = self.get(&format!("/jobs/{job}"));
        let vertices = details["vertices"].as_array().unwrap();
        let placement = |vertex: &Value| {
            let id = vertex["id"].as_str().unwrap();
            let subtask = &self.get(&format!("/jobs/{job}/vertices/{id}"))["subtasks"][0];
            let task_manager = subtask["taskmanager-id"].as_str().unwrap().to_owned();
            (task_manager, subtask["core"].as_u64().unwrap())
        };
        vertices.iter().map(placement).collect()
    }

    pub fn get(&self, path: &str) -> Value {
        get(&format!("http://{}{path}", self.rest)).1
    }
}

/// GET, with status and body.
pub fn get(url: &str) -> (u16, Value) {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build();
    let mut answer = ureq::Agent::from(config).get(url).call().unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    (
        answer.status().as_u16(),
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

/// Runs the binary to its end.
pub fn ringflow(arguments: &[&str]) -> Output {
    let mut process = Process::start(arguments);
    let status = process.wait(Duration::from_secs(120));
    let text = |lines: &Mutex<Vec<String>>| lines.lock().unwrap().join("\n").into_bytes();
    Output {
        status,
        stdout: text(&process.stdout),
        stderr: text(&process.stderr),
    }
}

/// Runs a job to its end: the rows it printed here, and its summary.
pub fn run_job(arguments: &[&str]) -> (Vec<String>, Value) {
    let arguments = [&["run", "-o", "json"], arguments].concat();
    let mut process = Process::start(&arguments);
    let status = process.wait(Duration::from_secs(180));
    let mut lines = std::mem::take(&mut *process.stdout.lock().unwrap());
    assert!(
        status.success(),
        "{arguments:?}: {:#?}",
        process.stderr.lock().unwrap()
    );
    let summary = serde_json::from_str(&lines.pop().expect("a summary"))
        .expect("the last line is the summary");
    (lines, summary)
}

/// The error of a command that must fail.
pub fn fails(arguments: &[&str]) -> String {
    let output = ringflow(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} did not fail");
    assert!(!error.contains("panicked"), "{arguments:?}: {error}");
    error
}
