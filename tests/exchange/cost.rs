//! What the exchange costs the system: calls under full load, processor and memory when idle.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::pass;
use crate::proc::{cpu_time, resident_kib, threads};
use crate::support::sums::keyed;
use crate::support::{Cluster, cpus, run_job, wait_for};

/// Counts the system calls of one thread, until it is dropped or asked.
struct Strace {
    child: Child,
    thread: u32,
}

impl Strace {
    /// `None`, with a word on standard error, where there is no strace or it may not trace.
    fn attach(thread: u32) -> Option<Self> {
        let arguments = ["-c", "-U", "calls,name", "-p", &thread.to_string()];
        let spawned = Command::new("strace")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                eprintln!("SKIPPED: needs strace (package strace): {error}");
                return None;
            }
        };
        let traced = wait_for("strace to attach", Duration::from_secs(30), || {
            let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap();
            let tracer = status
                .lines()
                .find_map(|line| line.strip_prefix("TracerPid:"));
            if tracer.unwrap().trim() != "0" {
                return Some(true);
            }
            child.try_wait().unwrap().map(|_| false)
        });
        if !traced {
            let output = child.wait_with_output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            eprintln!("SKIPPED: strace may not trace here: {error}");
            return None;
        }
        Some(Self { child, thread })
    }

    /// Detaches; calls by name.
    fn finish(self) -> BTreeMap<String, u64> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(status.success());
        let output = self.child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let calls = calls(&text);
        assert!(!calls.is_empty(), "strace of {} says: {text}", self.thread);
        calls
    }
}

/// The table of `strace -c -U calls,name`.
fn calls(table: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (calls, name) = (words.next()?.parse().ok()?, words.next()?.to_owned());
        (name != "total").then_some((name, calls))
    };
    table.lines().filter_map(line).collect()
}

#[test]
fn a_table_of_calls_is_read() {
    let table = "strace: Process 7 attached\n\
                 ---------- ----------------\n     calls syscall\n\
                 ---------- ----------------\n\
                 \x20       12 io_uring_enter\n         1 futex\n\
                 ---------- ----------------\n        13 total\n";
    let expected = [("futex".to_owned(), 1), ("io_uring_enter".to_owned(), 12)];
    assert_eq!(calls(table), BTreeMap::from(expected));
}

/// Moves of data by themselves, past the ring.
fn moves_data(call: &str) -> bool {
    let moves = [
        "read", "pread", "recv", "send", "pwrite", "writev", "splice",
    ];
    moves.iter().any(|prefix| call.starts_with(prefix))
}

#[test]
fn data_cores_at_full_load_make_less_than_one_system_call_in_100_records_and_none_that_moves_data()
{
    const RECORDS: u64 = 10_000_000;
    let mut cluster = Cluster::start_job_manager(&[]);
    for cpu in [cpus()[0], cpus()[cpus().len() - 1]] {
        cluster.add_with(&["--cores", &cpu.to_string(), "--slots", "1"]);
    }
    cluster.wait_for_slots(2, 2);
    let mut traces = Vec::new();
    for task_manager in &cluster.task_managers {
        let cores = threads(task_manager.pid(), "rf-core-");
        assert_eq!(cores.len(), 1, "{cores:?}");
        let Some(trace) = Strace::attach(cores[0]) else {
            return;
        };
        traces.push(trace);
    }
    let records = RECORDS.to_string();
    let job = ["-m", &cluster.rest, "sum", "--apart", "--records", &records];
    let (_, summary) = run_job(&job);
    let counted: Vec<BTreeMap<String, u64>> = traces.into_iter().map(Strace::finish).collect();
    assert_eq!(summary["result"], keyed(RECORDS, 100_000, 0));
    for (index, calls) in counted.iter().enumerate() {
        let all: u64 = calls.values().sum();
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let per_record = all as f64 / RECORDS as f64;
        eprintln!(
            "tm-{}: {per_record:.6} system calls per record at {} records/s: {calls:?}",
            index + 1,
            summary["records_per_second"]
        );
        assert!(per_record < 0.01, "{per_record} per record: {calls:?}");
        let moving: Vec<_> = calls.keys().filter(|call| moves_data(call)).collect();
        assert!(moving.is_empty(), "{moving:?} of {calls:?}");
        // Doorbells: of the watchdog's kind, not one per record or buffer.
        let rare = calls.get("write").copied().unwrap_or(0);
        assert!(rare < RECORDS / 10_000, "{calls:?}");
    }
}

#[test]
fn an_idle_task_manager_uses_less_than_1_percent_of_a_cpu_and_40_mib() {
    let mut cluster = Cluster::start_job_manager(&[]);
    let cpu = cpus()[0].to_string();
    cluster.add_with(&["--cores", &cpu, "--slots", "2", "--spin", "auto"]);
    cluster.wait_for_slots(2, 2);
    let pid = cluster.task_managers[0].pid();
    // What starting takes is over when a second has cost next to nothing.
    wait_for("the start to settle", Duration::from_secs(60), || {
        let before = cpu_time(pid);
        pass(Duration::from_secs(1), || {});
        (cpu_time(pid) - before <= Duration::from_millis(20)).then_some(())
    });
    let (start, before) = (std::time::Instant::now(), cpu_time(pid));
    pass(Duration::from_secs(6), || {});
    let used = (cpu_time(pid) - before).as_secs_f64() / start.elapsed().as_secs_f64();
    let resident = resident_kib(pid);
    eprintln!(
        "idle: {:.2} % of one CPU over {:?}, {} KiB resident",
        used * 100.0,
        start.elapsed(),
        resident
    );
    assert!(used < 0.01, "{} % of a CPU", used * 100.0);
    assert!(resident < 40 << 10, "{resident} KiB");
}
