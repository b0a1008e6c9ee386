//! Every way of receiving and sending gives the same results.

use std::process::Command;
use std::time::Duration;

use ringflow::nexmark::NexmarkConfig;
use ringflow_dataplane::limits::RECEIVE_READY;
use serde_json::Value;

use crate::support::nexmark_batch::{Query, first_events, lines};
use crate::support::sums::keyed;
use crate::support::{BINARY, Cluster, Process, cpus, run_job, wait_for};

/// Two TaskManagers of one slot with these flags.
fn pair(flags: &[&str]) -> Cluster {
    let mut cluster = Cluster::start_job_manager(&[]);
    for cpu in [cpus()[0], cpus()[cpus().len() - 1]] {
        let cpu = cpu.to_string();
        cluster.add_with(&[&["--cores", &cpu, "--slots", "1"], flags].concat());
    }
    cluster.wait_for_slots(2, 2);
    cluster
}

/// The jobs of this suite across both, against computations of their own.
fn check(cluster: &Cluster) {
    let target = ["-m", cluster.rest.as_str()];
    let sum = ["sum", "--apart", "--records", "500000", "--keys", "5000"];
    let (_, summary) = run_job(&[&target[..], &sum].concat());
    assert_eq!(summary["result"], keyed(500_000, 5_000, 0));

    // Parallelism 2 crosses the processes in both directions, with watermarks and windows.
    let q5 = ["-p", "2", "nexmark", "q5", "--events", "200000"];
    let (_, summary) = run_job(&[&target[..], &q5].concat());
    let count = |row: &Value| row["num"].as_u64().unwrap();
    let found: Vec<u64> = rows(&summary).iter().map(count).collect();
    let events = first_events(NexmarkConfig::default(), 200_000);
    let answer = lines(Query::Q5, events);
    let parsed = answer
        .iter()
        .map(|row| serde_json::from_str::<Value>(row).unwrap());
    let mut expected: Vec<u64> = parsed.map(|row| count(&row)).collect();
    expected.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(found, expected[..found.len()]);
    assert!(!found.is_empty());
    assert_eq!(
        summary["records_out"].as_u64().unwrap(),
        answer.len() as u64
    );

    let q0 = ["-p", "2", "nexmark", "q0", "--events", "200000"];
    let (_, summary) = run_job(&[&target[..], &q0].concat());
    let bids = lines(Query::Q0, first_events(NexmarkConfig::default(), 200_000)).len() as u64;
    assert_eq!(summary["records_out"].as_u64().unwrap(), bids);
    cluster.wait_for_slots(2, 2);
}

fn rows(summary: &Value) -> &[Value] {
    summary["result"].as_array().unwrap()
}

/// Waits until so many buffers of a TaskManager are in use after its jobs: the blocks that its core receives into.
fn wait_for_blocks(cluster: &Cluster, task_manager: &str, expected: std::ops::Range<u64>) {
    let metric = "Status.Shuffle.Netty.UsedMemorySegments";
    let path = format!("/taskmanagers/{task_manager}/metrics?get={metric}");
    wait_for("blocks to receive into", Duration::from_secs(30), || {
        let metrics = cluster.get(&path);
        let used = metrics[0]["value"].as_str()?.parse().ok()?;
        expected.contains(&used).then_some(())
    });
}

/// One for each connection, of which a pair of cores has two.
const SINGLE: std::ops::Range<u64> = 1..3;
/// A ring of so many, shared by all connections.
const RING: std::ops::Range<u64> = RECEIVE_READY as u64..RECEIVE_READY as u64 + 1;

#[test]
fn one_receive_operation_at_a_time_gives_the_same_results() {
    let cluster = pair(&["--receive", "single"]);
    check(&cluster);
    wait_for_blocks(&cluster, "tm-1", SINGLE);
    wait_for_blocks(&cluster, "tm-2", SINGLE);
}

#[test]
fn a_task_manager_that_receives_singly_talks_to_one_that_does_not() {
    let mut cluster = Cluster::start_job_manager(&[]);
    let (first, last) = (cpus()[0].to_string(), cpus()[cpus().len() - 1].to_string());
    cluster.add_with(&["--cores", &first, "--slots", "1", "--receive", "single"]);
    cluster.add_with(&["--cores", &last, "--slots", "1", "--receive", "auto"]);
    cluster.wait_for_slots(2, 2);
    check(&cluster);
    wait_for_blocks(&cluster, "tm-1", SINGLE);
    wait_for_blocks(&cluster, "tm-2", RING);
}

#[test]
fn zero_copy_sends_are_accepted_on_loopback_where_they_are_plain_ones() {
    check(&pair(&["--zero-copy-send"]));
}

/// A network namespace, until it is dropped.
struct Namespace(String);

impl Namespace {
    /// Two of them with a link between: the first has `10.213.7.1`, the second `10.213.7.2`, seen by nobody else. `None`,
    /// with a word on standard error, where that is not permitted.
    fn linked_pair() -> Option<[Self; 2]> {
        let [a, b] = ["a", "b"].map(|end| format!("rf-{}-{end}", std::process::id()));
        let mut spaces = Vec::new();
        for name in [&a, &b] {
            if let Err(error) = ip(&format!("netns add {name}")) {
                eprintln!(
                    "SKIPPED: needs network namespaces (root, and package iproute2): {error}"
                );
                return None;
            }
            spaces.push(Self(name.clone()));
        }
        let made = [
            format!("link add rf0 netns {a} type veth peer name rf0 netns {b}"),
            format!("-n {a} addr add 10.213.7.1/30 dev rf0"),
            format!("-n {b} addr add 10.213.7.2/30 dev rf0"),
        ];
        for command in &made {
            if let Err(error) = ip(command) {
                eprintln!("SKIPPED: needs virtual Ethernet: ip {command}: {error}");
                return None;
            }
        }
        for name in [&a, &b] {
            for device in ["lo", "rf0"] {
                ip(&format!("-n {name} link set {device} up")).unwrap();
            }
        }
        spaces.try_into().ok()
    }

    /// The binary in this namespace; `ip` becomes it, so its pid is the process's.
    fn start(&self, arguments: &[&str]) -> Process {
        let inside = ["netns", "exec", &self.0, BINARY];
        Process::start_program("ip", &[&inside, arguments].concat())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&format!("netns del {}", self.0)) {
            eprintln!("network namespace {} stays: {error}", self.0);
        }
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

#[test]
fn zero_copy_sends_to_another_host_give_the_right_result() {
    const RECORDS: u64 = 2_000_000;
    let Some([here, there]) = Namespace::linked_pair() else {
        return;
    };
    let mut job_manager = here.start(&[
        "jobmanager",
        "--bind",
        "10.213.7.1",
        "--rpc-port",
        "0",
        "--rest-port",
        "0",
    ]);
    let ready = job_manager.line("JobManager ready: rpc ");
    let (rpc, rest) = ready.split_once(" rest ").unwrap();
    let task_manager = |space: &Namespace, address: &str, cpu: usize| {
        let cpu = cpu.to_string();
        let place = [
            "--data-bind",
            address,
            "--id",
            address,
            "--cores",
            &cpu,
            "--slots",
            "1",
        ];
        space.start(&[&["taskmanager", "-m", rpc, "--zero-copy-send"], &place[..]].concat())
    };
    let last = cpus()[cpus().len() - 1];
    let mut task_managers = [
        task_manager(&here, "10.213.7.1", cpus()[0]),
        task_manager(&there, "10.213.7.2", last),
    ];
    for process in &mut task_managers {
        process.line("TaskManager ready: ");
    }
    // The job needs both slots, so it waits for both TaskManagers.
    let records = RECORDS.to_string();
    let mut job = here.start(&[
        "run",
        "-o",
        "json",
        "-m",
        rest,
        "sum",
        "--apart",
        "--records",
        &records,
    ]);
    let status = job.wait(Duration::from_secs(120));
    assert!(status.success(), "{:#?}", job.stderr.lock().unwrap());
    let lines = job.stdout.lock().unwrap();
    let summary: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(summary["result"], keyed(RECORDS, 100_000, 0));
    eprintln!(
        "zero-copy between namespaces: {} records/s",
        summary["records_per_second"]
    );
    for process in &task_managers {
        let said = process.stderr.lock().unwrap().join("\n");
        if said.contains("zero-copy") {
            eprintln!("SKIPPED in part: {said}");
        }
    }
}
