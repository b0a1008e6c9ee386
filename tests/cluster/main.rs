//! Processes that die, placement, programs as clusters, and bad input (`bad_input.rs`): what a user runs into.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait for conditions with a deadline"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringflow::nexmark::NexmarkConfig;
use support::nexmark_batch::{Query, first_events, lines};
use support::{Cluster, Process, Tm, cpus, fails, ringflow, run_job, wait_for};

mod bad_input;
mod network;
mod state_on_disk;
mod stop;
#[path = "../support/mod.rs"]
mod support;

const ENDLESS: [&str; 6] = ["nexmark", "q5", "--events", "0", "--rate", "100000"];

fn submit(cluster: &Cluster, parallelism: &str) -> String {
    let job = cluster.submit(&[&["-p", parallelism], &ENDLESS[..]].concat());
    let client = cluster.client();
    wait_for("the job to run and read", Duration::from_secs(30), || {
        let progress = client.progress(&job).ok()?;
        (progress.running_time > 0 && progress.records_in > 10_000).then_some(())
    });
    job
}

fn state(cluster: &Cluster, job: &str) -> String {
    cluster.get(&format!("/jobs/{job}"))["state"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_task_manager_killed_mid_job_fails_the_job_within_5_s_and_leaves_the_other_free() {
    let mut cluster = Cluster::start(&[Tm { slots: 1 }, Tm { slots: 1 }]);
    let job = submit(&cluster, "2");
    let killed = Instant::now();
    cluster.task_managers[1].kill9();
    wait_for("the job to be FAILED", Duration::from_secs(5), || {
        (state(&cluster, &job) == "FAILED").then_some(())
    });
    let took = killed.elapsed();
    let exceptions = cluster.get(&format!("/jobs/{job}/exceptions"));
    let root = &exceptions["exceptionHistory"]["entries"][0];
    let cause = root["stacktrace"].as_str().unwrap();
    assert!(
        cause.contains("tm-2") && cause.contains("lost"),
        "{exceptions:#}"
    );
    let list = ringflow(&["list", "-m", &cluster.rest]);
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.contains("FAILED") && list.contains("tm-2"), "{list}");
    eprintln!(
        "FAILED {} ms after kill -9; list says:\n{list}",
        took.as_millis()
    );
    // The other TaskManager is free and runs the next job.
    cluster.wait_for_slots(1, 1);
    let (_, summary) = run_job(&[
        "-m",
        &cluster.rest,
        "-p",
        "1",
        "nexmark",
        "q5",
        "--events",
        "100000",
    ]);
    assert_eq!(summary["state"], "FINISHED");
}

#[test]
fn a_cancelled_job_ends_and_frees_its_slots() {
    let cluster = Cluster::start(&[Tm { slots: 2 }]);
    let job = submit(&cluster, "2");
    let output = ringflow(&["cancel", "-m", &cluster.rest, &job]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    wait_for("the job to be CANCELED", Duration::from_secs(10), || {
        (state(&cluster, &job) == "CANCELED").then_some(())
    });
    cluster.wait_for_slots(2, 2);
    assert!(
        fails(&[
            "cancel",
            "-m",
            &cluster.rest,
            "00000000000000000000000000000000"
        ])
        .contains("00000000000000000000000000000000")
    );
}

#[test]
fn task_managers_come_back_after_their_job_manager_and_take_jobs_again() {
    let mut cluster = Cluster::start(&[Tm { slots: 1 }, Tm { slots: 1 }]);
    submit(&cluster, "2");
    let (rpc, rest) = (cluster.rpc.clone(), cluster.rest.clone());
    let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
    cluster.job_manager.kill9();
    let (rpc_port, rest_port) = (port(&rpc), port(&rest));
    cluster.job_manager = Process::start(&[
        "jobmanager",
        "--rpc-port",
        &rpc_port,
        "--rest-port",
        &rest_port,
    ]);
    cluster.job_manager.line("JobManager ready: ");
    cluster.wait_for_slots(2, 2);
    let (_, summary) = run_job(&[
        "-m", &rest, "-p", "2", "nexmark", "q5", "--events", "100000",
    ]);
    assert_eq!(summary["state"], "FINISHED");
}

#[test]
fn a_task_manager_that_is_told_to_stop_leaves_at_once() {
    let mut cluster = Cluster::start(&[Tm { slots: 1 }]);
    cluster.task_managers[0].signal("-TERM");
    let status = cluster.task_managers[0].wait(Duration::from_secs(10));
    assert!(status.success());
    cluster.wait_for_slots(0, 0);
}

/// Name and allowed CPUs of each thread of a process.
fn threads(pid: u32) -> Vec<(String, String)> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map_while(Result::ok)
    {
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else {
            continue;
        };
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        threads.push((field("Name:"), field("Cpus_allowed_list:")));
    }
    threads
}

#[test]
fn data_threads_run_on_one_cpu_each_and_no_other_thread_shares_it() {
    let cpus = cpus();
    if cpus.len() < 2 {
        eprintln!("SKIPPED: needs 2 CPUs, this process may use {cpus:?}");
        return;
    }
    let Some(broker) = support::kafka::broker() else {
        return;
    };
    let (input, output) = (broker.topic("in", 2), broker.topic("out", 1));
    let mut cluster = Cluster::start(&[]);
    let (data, housekeeping) = (cpus[1].to_string(), cpus[0].to_string());
    let arguments = [
        "taskmanager",
        "-m",
        &cluster.rpc,
        "--id",
        "tm-1",
        "--cores",
        &data,
        "--housekeeping-cores",
        &housekeeping,
        "--slots",
        "2",
    ];
    cluster.task_managers.push(Process::start(&arguments));
    cluster.wait_for_slots(2, 2);
    // A job from Kafka to Kafka, so that librdkafka's threads are there too.
    let job = [
        "run",
        "-d",
        "-m",
        &cluster.rest,
        "-p",
        "2",
        "nexmark",
        "q0",
        "--source",
        "kafka",
        "--topic",
        &input,
        "--unbounded",
        "--sink",
        "kafka",
        "--output-topic",
        &output,
        "--bootstrap-servers",
        &broker.address,
    ];
    assert!(ringflow(&job).status.success());
    let pid = cluster.task_managers[0].pid();
    let found = wait_for("librdkafka's threads", Duration::from_secs(30), || {
        let threads = threads(pid);
        let kafka = threads
            .iter()
            .filter(|(name, _)| name.starts_with("rdk:"))
            .count();
        (kafka >= 6).then_some(threads)
    });
    let mut census: BTreeMap<(String, String), u32> = BTreeMap::new();
    for (name, allowed) in &found {
        let on_data_core = name == "rf-core-0";
        assert_eq!(
            allowed,
            if on_data_core { &data } else { &housekeeping },
            "thread `{name}` of {found:#?}"
        );
        *census.entry((name.clone(), allowed.clone())).or_default() += 1;
    }
    assert_eq!(
        found.iter().filter(|(name, _)| name == "rf-core-0").count(),
        1,
        "{found:#?}"
    );
    eprintln!("threads of the TaskManager (name, CPU): {census:#?}");
    let table = cluster.task_managers[0].stdout.lock().unwrap().join("\n");
    assert!(
        table.contains(&format!("CPU {data}, 2 slots"))
            && table.contains("foreign threads on data cores  0"),
        "{table}"
    );
}

#[test]
fn info_prints_the_chained_plan() {
    let output = ringflow(&["info", "-p", "2", "nexmark", "q5"]);
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = plan["plan"]["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3, "{plan:#}");
    let text = plan.to_string();
    assert!(
        text.contains("nexmark events")
            && text.contains("bids per auction")
            && text.contains("HASH"),
        "{plan:#}"
    );
}

#[test]
fn generated_lines_have_all_fields_and_are_the_same_each_time() {
    let generate = ["generate", "nexmark", "--events", "100", "--seed", "7"];
    let (first, second) = (ringflow(&generate), ringflow(&generate));
    assert_eq!(first.stdout, second.stdout);
    let lines: Vec<serde_json::Value> = String::from_utf8(first.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 100);
    assert_eq!(
        lines
            .iter()
            .filter(|event| event["event_type"] == "bid")
            .count(),
        92
    );
    assert!(
        lines[0]["emailAddress"].is_string()
            && lines[1]["itemName"].is_string()
            && lines[4]["url"].is_string()
    );
}

#[test]
fn the_readmes_first_command_ends_with_the_top_auctions_and_their_latency() {
    let readme = include_str!("../../README.md");
    let section = readme.split("## Run it").nth(1).unwrap();
    let command = section.split("```").nth(1).unwrap().lines().nth(1).unwrap();
    // A release build of this very line is checked by hand before a release; here the same arguments run in the test build.
    let arguments: Vec<&str> = command
        .strip_prefix("cargo run --release -- ")
        .unwrap()
        .split(' ')
        .collect();
    assert_eq!(arguments, ["run", "nexmark", "q5", "--events", "1000000"]);
    let output = ringflow(&arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("\"auction\""))
        .collect();
    assert_eq!(rows.len(), 10, "{text}");
    // The ten greatest of the batch answer over these events, in their order.
    let count = |row: &str| {
        serde_json::from_str::<serde_json::Value>(row).unwrap()["num"]
            .as_u64()
            .unwrap()
    };
    let mut counts: Vec<u64> = lines(Query::Q5, first_events(NexmarkConfig::default(), 1_000_000))
        .iter()
        .map(|row| count(row))
        .collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(
        rows.iter().map(|row| count(row)).collect::<Vec<u64>>(),
        counts[..10],
        "{text}"
    );
    assert!(
        text.contains("latency, source to sink, microseconds") && text.contains("p99.99"),
        "{text}"
    );
    eprintln!("{text}");
}

#[test]
fn a_program_is_its_own_cluster() {
    let program = std::path::Path::new(support::BINARY)
        .with_file_name("examples")
        .join("last_digit");
    assert!(
        program.exists(),
        "{} is built with the tests (`cargo test --workspace`)",
        program.display()
    );
    let mut job_manager = Process::start_program(
        &program,
        &["jobmanager", "--rpc-port", "0", "--rest-port", "0"],
    );
    let ready = job_manager.line("JobManager ready: rpc ");
    let (rpc, rest) = ready.split_once(" rest ").unwrap();
    let task_manager = |id: &str, cpu: usize| {
        let arguments = [
            "taskmanager",
            "-m",
            rpc,
            "--id",
            id,
            "--cores",
            &cpu.to_string(),
            "--slots",
            "1",
        ];
        Process::start_program(&program, &arguments)
    };
    let cpus = cpus();
    let task_managers = [
        task_manager("tm-1", cpus[0]),
        task_manager("tm-2", cpus[cpus.len() - 1]),
    ];
    let client = ringflow::cli::client::RestClient::new(rest);
    wait_for("both TaskManagers", Duration::from_secs(30), || {
        (client.slots().ok()? == (2, 2)).then_some(())
    });
    let mut job = Process::start_program(&program, &["-m", rest, "-p", "2", "-o", "json"]);
    assert!(
        job.wait(Duration::from_secs(60)).success(),
        "{:#?}",
        job.stderr.lock().unwrap()
    );
    let lines: usize = wait_for(
        "100 rows on the TaskManagers",
        Duration::from_secs(10),
        || {
            let rows = |process: &Process| {
                process
                    .stdout
                    .lock()
                    .unwrap()
                    .iter()
                    .filter(|line| {
                        line.starts_with("WindowResult") && line.contains("value: 10000")
                    })
                    .count()
            };
            let rows = task_managers.iter().map(rows).sum();
            (rows == 100).then_some(rows)
        },
    );
    assert_eq!(lines, 100);
    // A cluster that is another program says so.
    let stranger = Cluster::start(&[Tm { slots: 1 }]);
    let mut job = Process::start_program(&program, &["-m", &stranger.rest]);
    assert!(!job.wait(Duration::from_secs(60)).success());
    let error = job.stderr.lock().unwrap().join("\n");
    assert!(
        error.contains("cannot run program `count by last digit`") && error.contains("taskmanager"),
        "{error}"
    );
}

#[test]
fn an_interrupted_local_run_is_summed_up_and_a_remote_job_goes_on() {
    let mut local = Process::start(&[
        "run", "-o", "json", "nexmark", "q0", "--events", "0", "--rate", "10000",
    ]);
    let submitted = |process: &Process| {
        let lines = process.stderr.lock().unwrap();
        lines.iter().find_map(|line| {
            line.strip_prefix("Job has been submitted with JobID ")
                .map(str::to_owned)
        })
    };
    wait_for("the local job", Duration::from_secs(30), || {
        submitted(&local)
    });
    local.signal("-INT");
    assert!(local.wait(Duration::from_secs(20)).success());
    let summary: serde_json::Value =
        serde_json::from_str(local.stdout.lock().unwrap().last().unwrap()).unwrap();
    assert_eq!(summary["state"], "CANCELED");
    assert!(
        summary["latency_us"].is_object() || summary["records"] == 0,
        "{summary}"
    );

    let cluster = Cluster::start(&[Tm { slots: 1 }]);
    let mut remote = Process::start(&[
        "run",
        "-m",
        &cluster.rest,
        "nexmark",
        "q0",
        "--events",
        "0",
        "--rate",
        "10000",
    ]);
    let job = wait_for("the remote job", Duration::from_secs(30), || {
        submitted(&remote)
    });
    remote.signal("-INT");
    assert!(!remote.wait(Duration::from_secs(20)).success());
    let said = remote.stderr.lock().unwrap().join("\n");
    assert!(
        said.contains(&job) && said.contains("goes on") && said.contains("ringflow cancel"),
        "{said}"
    );
    assert_eq!(state(&cluster, &job), "RUNNING");
}
