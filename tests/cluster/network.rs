//! Network memory: too little is refused before anything runs, with the number that is enough, and that number is true.

use std::time::Duration;

use crate::submit;
use crate::support::{Cluster, Tm, cpus, fails, run_job, wait_for};

const ALL_TO_ALL: [&str; 4] = ["nexmark", "q5", "--events", "100000"];

/// A TaskManager on one core with four slots.
fn add(cluster: &mut Cluster, network_memory: &str) {
    let cpu = cpus()[0].to_string();
    cluster.add_with(&[
        "--cores",
        &cpu,
        "--slots",
        "4",
        "--network-memory",
        network_memory,
    ]);
    cluster.wait_for_slots(4, 4);
}

#[test]
fn a_job_with_too_few_buffers_is_refused_and_the_advice_makes_it_run() {
    let mut cluster = Cluster::start(&[]);
    add(&mut cluster, "2MiB");
    let rest = cluster.rest.clone();
    let arguments = |parallelism: &'static str| {
        let target = ["-m", rest.as_str(), "-p", parallelism];
        [&target[..], &ALL_TO_ALL[..]].concat()
    };
    let error = fails(&[&["run"], &arguments("4")[..]].concat());
    for expected in [
        "insufficient number of network buffers: required ",
        "but only 32 available on core 0 of TaskManager tm-1",
        "it has 64 of 32 KiB, 32 set aside for receiving and 0 taken by other jobs",
        "or lower -p",
    ] {
        assert!(error.contains(expected), "{error}");
    }
    let (_, advice) = error
        .split_once("raise --network-memory to at least ")
        .unwrap();
    let (mib, _) = advice.split_once(" MiB").unwrap();
    assert!(mib.parse::<u64>().unwrap() > 2, "{error}");
    assert_eq!(cluster.get("/jobs")["jobs"], serde_json::json!([]));

    let (_, summary) = run_job(&arguments("1"));
    assert_eq!(summary["state"], "FINISHED");

    cluster.task_managers[0].kill9();
    cluster.wait_for_slots(0, 0);
    add(&mut cluster, &format!("{mib}MiB"));
    let (_, summary) = run_job(&arguments("4"));
    assert_eq!(summary["state"], "FINISHED");
    cluster.wait_for_slots(4, 4);
}

#[test]
fn a_task_manager_that_could_not_even_receive_does_not_start() {
    let cpus = cpus();
    if cpus.len() < 2 {
        eprintln!("SKIPPED: needs 2 CPUs, this process may use {cpus:?}");
        return;
    }
    let cores = format!("{},{}", cpus[0], cpus[1]);
    let memory = ["--cores", &cores, "--network-memory", "1MiB"];
    for command in [&["taskmanager"][..], &["run", "nexmark", "q0"][..]] {
        let error = fails(&[command, &memory].concat());
        assert!(
            error.contains("too few for 2 data cores") && error.contains("at least 2 MiB"),
            "{error}"
        );
    }
}

#[test]
fn metrics_of_a_running_job_and_its_task_manager_are_served() {
    let cluster = Cluster::start(&[Tm { slots: 2 }]);
    let job = submit(&cluster, "2");
    let details = cluster.get(&format!("/jobs/{job}"));
    let vertex = details["vertices"][0]["id"].as_str().unwrap();
    let names = "numRecordsOut,numBytesCopied,busyTimeMsPerSecond,idleTimeMsPerSecond,backPressuredTimeMsPerSecond,\
                 spinningTimeMsPerSecond";
    let path = format!("/jobs/{job}/vertices/{vertex}/subtasks/metrics?get={names}&agg=avg");
    let metrics = wait_for("rates of all times", Duration::from_secs(30), || {
        let metrics = cluster.get(&path);
        (metrics.as_array()?.len() == 6).then_some(metrics)
    });
    let value = |id: &str| {
        let metrics = metrics.as_array().unwrap();
        let found = metrics.iter().find(|metric| metric["id"] == id).unwrap();
        found["avg"].as_f64().unwrap()
    };
    assert!(value("numRecordsOut") > 0.0, "{metrics}");
    assert!(
        value("numBytesCopied") > value("numRecordsOut"),
        "{metrics}"
    );
    let whole: f64 = ["busy", "idle", "backPressured", "spinning"]
        .map(|time| value(&format!("{time}TimeMsPerSecond")))
        .iter()
        .sum();
    assert!((whole - 1000.0).abs() < 0.001, "{metrics}");

    let total = "Status.Shuffle.Netty.TotalMemorySegments";
    let path = format!("/taskmanagers/tm-1/metrics?get={total}");
    assert_eq!(
        cluster.get(&path),
        serde_json::json!([{ "id": total, "value": "8192" }])
    );
}
