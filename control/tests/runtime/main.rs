//! The real JobManager on real sockets: a TaskManager that speaks gRPC, clients that speak HTTP.
#![expect(clippy::unwrap_used, reason = "tests say what they expect")]

#[path = "../support/mod.rs"]
mod support;
mod task_manager;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ringflow_control::{
    ErrorKind, JobManager, JobManagerConfig, RunningJobManager, encode_stream_graph,
};
use ringflow_schemas::control as wire;
use serde_json::{Value, json};
use support::counting_job;
use task_manager::FakeTaskManager;

async fn start() -> RunningJobManager {
    JobManager::start(JobManagerConfig {
        rpc_bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        rest_bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        version: "1.2.3".to_owned(),
        ..JobManagerConfig::default()
    })
    .await
    .unwrap()
}

/// One HTTP/1.1 exchange: status and JSON body.
async fn http(address: SocketAddr, method: &str, path: &str, body: Vec<u8>) -> (u16, Value) {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
    .await
    .unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

async fn get(address: SocketAddr, path: &str) -> Value {
    let (status, body) = http(address, "GET", path, Vec::new()).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

async fn submit(address: SocketAddr, parallelism: u32, splits: i32) -> (u16, Value) {
    let body = encode_stream_graph(&counting_job(parallelism, splits))
        .bytes()
        .to_vec();
    http(address, "POST", "/ringflow/jobs", body).await
}

/// Asks until the answer is as wanted.
async fn eventually(address: SocketAddr, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..200 {
        let answer = get(address, path).await;
        if wanted(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!(
        "{path} never became as wanted: {}",
        get(address, path).await
    );
}

async fn is_state(address: SocketAddr, job: &str, state: &str) -> Value {
    eventually(address, &format!("/jobs/{job}"), |answer| {
        answer["state"] == state
    })
    .await
}

#[tokio::test]
async fn a_job_runs_to_its_end_and_rest_tells_of_it() {
    let job_manager = start().await;
    let rest = job_manager.rest_address();
    let mut tm = FakeTaskManager::connect(job_manager.rpc_address(), "tm-1", 2).await;
    eventually(rest, "/overview", |answer| answer["slots-available"] == 2).await;

    let (status, accepted) = submit(rest, 2, 1).await;
    assert_eq!(status, 202, "{accepted}");
    let warning = accepted["warnings"][0].as_str().unwrap();
    assert!(warning.contains("use parallelism 1"), "{warning}");
    let job = accepted["jobid"].as_str().unwrap().to_owned();

    let attempts = tm.deployed().await;
    assert_eq!(attempts.len(), 4);
    is_state(rest, &job, "RUNNING").await;
    for &attempt in &attempts {
        tm.status(attempt, wire::SubtaskStatus::Running).await;
    }
    eventually(rest, &format!("/jobs/{job}"), |answer| {
        answer["status-counts"]["RUNNING"] == 4
    })
    .await;
    tm.heartbeat(&attempts).await;
    let progress = eventually(rest, &format!("/ringflow/jobs/{job}/progress"), |answer| {
        answer["records_in"] == 400
    })
    .await;
    assert_eq!(progress["latency_us"]["count"], 4);
    assert_eq!(progress["tasks"]["running"], 4);
    assert!(progress["running-time"].as_u64().unwrap() > 0);

    let details = get(rest, &format!("/v1/jobs/{job}")).await;
    assert_eq!(details["vertices"][0]["name"], "Source: bids -> filter");
    assert_eq!(details["vertices"][1]["name"], "count -> out");
    assert_eq!(details["end-time"], -1);
    assert_eq!(
        details["plan"]["nodes"][1]["inputs"][0]["ship_strategy"],
        "HASH"
    );
    let vertex = details["vertices"][1]["id"].as_str().unwrap();
    let vertex = get(rest, &format!("/jobs/{job}/vertices/{vertex}")).await;
    assert_eq!(vertex["subtasks"][1]["taskmanager-id"], "tm-1");
    assert_eq!(vertex["subtasks"][1]["status"], "RUNNING");
    metrics_are_flinks(rest, &job, &details).await;
    let members = get(rest, "/taskmanagers").await;
    assert_eq!(members["taskmanagers"][0]["freeSlots"], 0);

    for &attempt in &attempts {
        tm.status(attempt, wire::SubtaskStatus::Finished).await;
    }
    is_state(rest, &job, "FINISHED").await;
    eventually(rest, "/overview", |answer| answer["slots-available"] == 2).await;
    let progress = get(rest, &format!("/ringflow/jobs/{job}/progress")).await;
    assert_eq!(progress["accumulators"][0]["value"], 4, "{progress}");
    // The whole histogram outlives the job, as hexadecimal of the V2 encoding (its cookie comes first).
    let latency = get(rest, &format!("/ringflow/jobs/{job}/latency")).await;
    let histogram = latency["histogram"].as_str().unwrap();
    assert!(histogram.starts_with("1c849313"), "{latency}");
    assert_eq!(progress["failure"], Value::Null);
    let result = get(rest, &format!("/jobs/{job}/execution-result")).await;
    assert_eq!(
        result["job-execution-result"]["application-status"],
        "SUCCEEDED"
    );
    for path in ["plan", "status", "config", "exceptions", "accumulators"] {
        get(rest, &format!("/jobs/{job}/{path}")).await;
    }
    for path in ["/config", "/jobs", "/jobs/overview", "/taskmanagers/tm-1"] {
        get(rest, path).await;
    }
    job_manager.shutdown().await;
}

/// Two subtasks per vertex that have reported: busy 0 and 3 ms, idle 1 ms and spinning 1 ms each.
async fn metrics_are_flinks(rest: SocketAddr, job: &str, details: &Value) {
    let vertex = details["vertices"][1]["id"].as_str().unwrap();
    let subtasks = format!("/jobs/{job}/vertices/{vertex}/subtasks");
    let ids = get(rest, &format!("{subtasks}/metrics")).await;
    for id in ["numRecordsIn", "numBuffersOut", "busyTimeMsPerSecond"] {
        assert!(
            ids.as_array().unwrap().contains(&json!({ "id": id })),
            "{ids}"
        );
    }
    let named = "get=busyTimeMsPerSecond,numRecordsOut,nonsense,spinningTimeMsPerSecond";
    assert_eq!(
        get(rest, &format!("{subtasks}/metrics?{named}")).await,
        json!([
            { "id": "numRecordsOut", "min": 10.0, "max": 10.0, "avg": 10.0, "sum": 20.0 },
            { "id": "busyTimeMsPerSecond", "min": 0.0, "max": 600.0, "avg": 300.0, "sum": 600.0 },
            { "id": "spinningTimeMsPerSecond", "min": 200.0, "max": 500.0, "avg": 350.0, "sum": 700.0 },
        ])
    );
    let path = format!("{subtasks}/metrics?get=idleTimeMsPerSecond&agg=max&subtasks=1");
    assert_eq!(
        get(rest, &path).await,
        json!([{ "id": "idleTimeMsPerSecond", "max": 200.0 }])
    );
    let path = format!("{subtasks}/1/metrics?get=numBytesCopied,backPressuredTimeMsPerSecond");
    assert_eq!(
        get(rest, &path).await,
        json!([
            { "id": "numBytesCopied", "value": "640" },
            { "id": "backPressuredTimeMsPerSecond", "value": "0" },
        ])
    );
    for (query, status) in [
        ("metrics?agg=skew", 400),
        ("metrics?subtasks=x", 400),
        ("2/metrics", 404),
    ] {
        let path = format!("{subtasks}/{query}");
        assert_eq!(
            http(rest, "GET", &path, Vec::new()).await.0,
            status,
            "{path}"
        );
    }
    let times = &details["vertices"][1]["metrics"];
    assert_eq!(times["accumulated-spinning-time"], 2, "{times}");

    let path = "/taskmanagers/tm-1/metrics";
    let names = "get=Status.Shuffle.Netty.UsedMemorySegments,Status.Shuffle.Netty.AvailableMemorySegments,\
                 Status.Shuffle.Netty.TotalMemorySegments";
    assert_eq!(
        get(rest, &format!("{path}?{names}")).await,
        json!([
            { "id": "Status.Shuffle.Netty.AvailableMemorySegments", "value": "2000" },
            { "id": "Status.Shuffle.Netty.TotalMemorySegments", "value": "2048" },
            { "id": "Status.Shuffle.Netty.UsedMemorySegments", "value": "48" },
        ])
    );
    assert_eq!(get(rest, path).await.as_array().unwrap().len(), 6);
    let details = get(rest, "/taskmanagers/tm-1").await;
    assert_eq!(details["metrics"]["nettyShuffleMemorySegmentsUsed"], 48);
    assert_eq!(details["metrics"]["nettyShuffleMemoryTotal"], 64 << 20);
    let progress = get(rest, &format!("/ringflow/jobs/{job}/progress")).await;
    assert_eq!(progress["network_level"]["credit"], 16, "{progress}");
}

#[tokio::test]
async fn a_closed_connection_fails_the_job_at_once() {
    let job_manager = start().await;
    let rest = job_manager.rest_address();
    let tm = FakeTaskManager::connect(job_manager.rpc_address(), "tm-1", 2).await;
    let (_, accepted) = submit(rest, 2, 2).await;
    let job = accepted["jobid"].as_str().unwrap().to_owned();
    is_state(rest, &job, "RUNNING").await;
    drop(tm);
    is_state(rest, &job, "FAILED").await;
    let exceptions = get(rest, &format!("/jobs/{job}/exceptions")).await;
    let root = exceptions["exceptionHistory"]["entries"][0]["stacktrace"]
        .as_str()
        .unwrap();
    assert_eq!(
        root,
        "TaskManager tm-1 (127.0.0.1:40000, pid 4711) lost: connection closed"
    );
    assert_eq!(get(rest, "/overview").await["slots-total"], 0);
    job_manager.shutdown().await;
}

#[tokio::test]
async fn a_job_waits_for_slots_and_can_be_cancelled() {
    let job_manager = start().await;
    let rest = job_manager.rest_address();
    let (status, accepted) = submit(rest, 3, 3).await;
    assert_eq!(status, 202);
    let job = accepted["jobid"].as_str().unwrap().to_owned();
    is_state(rest, &job, "CREATED").await;
    let mut tm = FakeTaskManager::connect(job_manager.rpc_address(), "tm-1", 3).await;
    let attempts = tm.deployed().await;
    assert_eq!(attempts.len(), 6);

    let path = format!("/jobs/{job}");
    assert_eq!(
        http(rest, "PATCH", &format!("{path}?mode=stop"), Vec::new())
            .await
            .0,
        400
    );
    assert_eq!(
        http(rest, "PATCH", &format!("{path}?mode=cancel"), Vec::new()).await,
        (202, json!({}))
    );
    assert_eq!(tm.cancelled().await.len(), 6);
    is_state(rest, &job, "CANCELLING").await;
    for attempt in attempts {
        tm.status(attempt, wire::SubtaskStatus::Canceled).await;
    }
    is_state(rest, &job, "CANCELED").await;
    job_manager.shutdown().await;
}

#[tokio::test]
async fn a_job_is_stopped_over_rest_and_the_answer_says_that_there_is_no_savepoint() {
    let job_manager = start().await;
    let rest = job_manager.rest_address();
    let mut tm = FakeTaskManager::connect(job_manager.rpc_address(), "tm-1", 1).await;
    eventually(rest, "/overview", |answer| answer["slots-total"] == 1).await;
    let (_, accepted) = submit(rest, 1, 1).await;
    let job = accepted["jobid"].as_str().unwrap().to_owned();
    let attempts = tm.deployed().await;
    for &attempt in &attempts {
        tm.status(attempt, wire::SubtaskStatus::Running).await;
    }
    eventually(rest, &format!("/jobs/{job}"), |answer| {
        answer["status-counts"]["RUNNING"] == 2
    })
    .await;
    let stop = async |job: &str, body: &str| {
        let path = format!("/jobs/{job}/stop");
        http(rest, "POST", &path, body.as_bytes().to_vec()).await
    };
    let (status, answer) = stop(&job, "{\"targetDirectory\": \"/savepoints\"}").await;
    assert_eq!(status, 400, "{answer}");
    let (status, answer) = stop(&job, "{\"drain\": true}").await;
    assert_eq!((status, &answer["drain"]), (202, &json!(true)));
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(warning.contains("no savepoint"), "{warning}");
    let (stopped, drain) = tm.stopped().await;
    assert!(drain);
    assert_eq!(stopped.len(), 1, "only the source");
    assert_eq!(stopped[0].vertex, 0);
    let (status, answer) = stop(&job, "").await;
    assert_eq!(status, 409);
    let error = answer["errors"][0].as_str().unwrap();
    assert!(error.contains("with a drain already"), "{error}");
    for attempt in attempts {
        tm.status(attempt, wire::SubtaskStatus::Finished).await;
    }
    is_state(rest, &job, "FINISHED").await;
    assert_eq!(stop(&job, "").await.0, 409);
    assert_eq!(stop("00000000000000000000000000000000", "").await.0, 404);
    assert_eq!(stop("zz", "").await.0, 400);
    job_manager.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_reason() {
    let job_manager = start().await;
    let rest = job_manager.rest_address();
    let _tm = FakeTaskManager::connect(job_manager.rpc_address(), "tm-1", 2).await;
    eventually(rest, "/overview", |answer| answer["slots-total"] == 2).await;
    let (status, body) = submit(rest, 4, 4).await;
    assert_eq!(status, 400);
    assert_eq!(
        body["errors"][0],
        "job needs 4 slots (max parallelism 4), but only 2 exist (1 TaskManager) and 2 are free: lower \
         -p/--parallelism to at most 2 or start more TaskManagers / raise --slots"
    );
    for (method, path, body, expected) in [
        ("GET", "/nowhere", Vec::new(), 404),
        ("GET", "/jobs/zz", Vec::new(), 400),
        (
            "GET",
            "/jobs/00000000000000000000000000000000",
            Vec::new(),
            404,
        ),
        ("GET", "/taskmanagers/none", Vec::new(), 404),
        ("DELETE", "/jobs", Vec::new(), 405),
        ("POST", "/ringflow/jobs", b"not a graph".to_vec(), 400),
        ("POST", "/ringflow/jobs", Vec::new(), 400),
        (
            "PATCH",
            "/jobs/00000000000000000000000000000000?mode=cancel",
            Vec::new(),
            404,
        ),
    ] {
        let (status, answer) = http(rest, method, path, body).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
        assert!(answer["errors"][0].is_string(), "{method} {path}: {answer}");
    }
    job_manager.shutdown().await;
}

#[tokio::test]
async fn a_task_manager_of_another_version_is_refused() {
    let job_manager = start().await;
    let refusal = FakeTaskManager::refused(job_manager.rpc_address(), "9.9.9").await;
    assert_eq!(
        refusal,
        "TaskManager tm-x runs ringflow 9.9.9, this JobManager runs 1.2.3: use the same version"
    );
    job_manager.shutdown().await;
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_flag() {
    let first = start().await;
    let error = JobManager::start(JobManagerConfig {
        rpc_bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        rest_bind: first.rest_address(),
        ..JobManagerConfig::default()
    })
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot listen on {} (REST): address already in use; another JobManager may be running: stop it or \
             choose another --rest-port",
            first.rest_address()
        )
    );
    first.shutdown().await;
}

#[tokio::test]
async fn a_connection_must_begin_with_a_registration() {
    let job_manager = start().await;
    FakeTaskManager::hung_up_on(job_manager.rpc_address()).await;
    job_manager.shutdown().await;
}

#[tokio::test]
async fn who_comes_back_under_the_same_name_replaces_itself() {
    let job_manager = start().await;
    let rest = job_manager.rest_address();
    let old = FakeTaskManager::connect(job_manager.rpc_address(), "tm-1", 2).await;
    let _new = FakeTaskManager::connect(job_manager.rpc_address(), "tm-1", 3).await;
    old.ends().await;
    eventually(rest, "/overview", |answer| answer["slots-total"] == 3).await;
    assert_eq!(get(rest, "/overview").await["taskmanagers"], 1);
    job_manager.shutdown().await;
}
