//! Wrong flags, wrong bytes, wrong neighbours: each is refused with what was wrong and what to do, and harms nobody else.

use std::net::TcpListener;
use std::time::Duration;

use crate::support::{Cluster, Tm, cpus, fails, get, run_job, wait_for};
use crate::{state, submit};

#[test]
fn bad_flags_are_refused_with_what_to_do() {
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["run", "frobnicate"],
            &["unrecognized subcommand 'frobnicate'", "nexmark"],
        ),
        (&["run", "nexmark", "q99"], &["q99", "q0"]),
        (
            &["run", "nexmark", "q0", "--sink", "kafka"],
            &["--bootstrap-servers"],
        ),
        (
            &["run", "nexmark", "q0", "--topic", "x"],
            &["--topic is for --source kafka"],
        ),
        (
            &[
                "run",
                "nexmark",
                "q0",
                "--source",
                "kafka",
                "--topic",
                "x",
                "--bootstrap-servers",
                "h:1",
                "--rate",
                "5",
            ],
            &["--rate is for --source generator"],
        ),
        (
            &["run", "-d", "nexmark", "q0"],
            &["--detached needs --jobmanager"],
        ),
        (
            &[
                "run",
                "--cores",
                "0",
                "--slots",
                "3",
                "--slots-per-core",
                "2",
                "nexmark",
                "q0",
            ],
            &["--slots 3 contradicts", "leave one out"],
        ),
        (&["run", "--cores", "4000-3", "nexmark", "q0"], &["4000-3"]),
        (
            &["run", "--cores", "900", "nexmark", "q0"],
            &["CPU 900", "may only use"],
        ),
        (
            &["run", "--spin", "soon", "nexmark", "q0"],
            &["always, never, auto"],
        ),
        (
            &["run", "--buffer-timeout", "100", "nexmark", "q0"],
            &["--buffer-timeout", "write 0 or a duration such as 10ms"],
        ),
        (
            &["run", "--buffer-timeout", "7200s", "nexmark", "q0"],
            &["7200s is too long", "3600s is the most"],
        ),
        (
            &["run", "-m", "127.0.0.1:9", "--slots", "2", "nexmark", "q0"],
            &["for the local environment"],
        ),
        (
            &["run", "-m", "127.0.0.1:9", "nexmark", "q0"],
            &["cannot reach", "127.0.0.1:9", "8081"],
        ),
        (
            &["list", "-m", "127.0.0.1:9"],
            &["cannot reach", "ringflow jobmanager"],
        ),
        (
            &[
                "jobmanager",
                "--heartbeat-interval-ms",
                "5000",
                "--heartbeat-timeout-ms",
                "1000",
            ],
            &["must be greater"],
        ),
        (
            &["taskmanager", "--cores", "0", "--data-ports", "5,6"],
            &["2 ports for 1 data cores"],
        ),
        (
            &["generate", "nexmark", "--topic", "x"],
            &["--bootstrap-servers"],
        ),
        (
            &["generate", "nexmark", "--file", "/no/such/folder/x"],
            &["cannot write /no/such/folder/x"],
        ),
    ];
    for (arguments, expected) in cases {
        let error = fails(arguments);
        for part in *expected {
            assert!(error.contains(part), "{arguments:?} says: {error}");
        }
    }
}

#[test]
fn more_slots_than_exist_are_refused_with_their_number() {
    let cluster = Cluster::start(&[Tm { slots: 1 }]);
    let error = fails(&["run", "-m", &cluster.rest, "-p", "4", "nexmark", "q0"]);
    for part in ["4 slots", "1 exist", "-p", "--slots"] {
        assert!(error.contains(part), "{error}");
    }
    eprintln!("{error}");
}

#[test]
fn a_taken_port_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let error = fails(&["jobmanager", "--rpc-port", "0", "--rest-port", &port]);
    assert!(
        error.contains(&port) && error.contains("in use") && error.contains("--rest-port"),
        "{error}"
    );
    let error = fails(&["taskmanager", "--slots", "1", "--data-ports", &port]);
    assert!(
        error.contains(&port) && error.contains("in use") && error.contains("--data-ports"),
        "{error}"
    );
}

#[test]
fn garbage_on_any_port_is_refused_and_the_cluster_works_on() {
    use std::io::Write;
    let cluster = Cluster::start(&[Tm { slots: 1 }]);
    let ready = cluster.task_managers[0].stdout.lock().unwrap().join("\n");
    let data = ready
        .lines()
        .find(|line| line.starts_with("TaskManager ready"))
        .and_then(|line| line.split_once(" data "))
        .unwrap()
        .1
        .to_owned();
    for address in [&data, &cluster.rpc, &cluster.rest] {
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"", b"RING"] {
            let mut socket = std::net::TcpStream::connect(address).unwrap();
            drop(socket.write_all(garbage));
        }
    }
    let (status, answer) = get(&format!("http://{}/jobs/not-an-id", cluster.rest));
    assert!(
        (400..500).contains(&status) && answer["errors"].is_array(),
        "{status} {answer}"
    );
    let mut body = ureq::post(format!("http://{}/ringflow/jobs", cluster.rest))
        .config()
        .http_status_as_error(false)
        .build()
        .send(&b"no graph"[..])
        .unwrap();
    assert_eq!(
        body.status().as_u16(),
        400,
        "{:?}",
        body.body_mut().read_to_string()
    );
    let (_, summary) = run_job(&["-m", &cluster.rest, "nexmark", "q2", "--events", "100000"]);
    assert_eq!(summary["state"], "FINISHED");
}

#[test]
fn an_id_in_use_is_refused_and_its_holder_works_on() {
    let cluster = Cluster::start(&[Tm { slots: 1 }]);
    let job = submit(&cluster, "1");
    let error = fails(&[
        "taskmanager",
        "-m",
        &cluster.rpc,
        "--id",
        "tm-1",
        "--slots",
        "1",
    ]);
    let pid = cluster.task_managers[0].pid().to_string();
    assert!(
        error.contains("in use") && error.contains(&pid) && error.contains("--id"),
        "{error}"
    );
    assert_eq!(state(&cluster, &job), "RUNNING");
}

#[test]
fn data_cores_that_another_task_manager_has_are_warned_about() {
    let cluster = Cluster::start(&[Tm { slots: 1 }]);
    let cpu = cpus()[0].to_string();
    let error = fails(&[
        "taskmanager",
        "-m",
        &cluster.rpc,
        "--id",
        "tm-9",
        "--cores",
        &cpu,
        "--strict",
    ]);
    assert!(
        error.contains("another TaskManager") && error.contains("--cores"),
        "{error}"
    );
}

#[test]
fn clients_that_never_finish_their_request_do_not_stop_others() {
    use std::io::Write;
    let cluster = Cluster::start(&[Tm { slots: 1 }]);
    let mut slow = Vec::new();
    for _ in 0..200 {
        let Ok(mut socket) = std::net::TcpStream::connect(&cluster.rest) else {
            break;
        };
        drop(socket.write_all(b"GET /overview HTTP/1.1\r\nHost: x\r\n"));
        slow.push(socket);
    }
    // All places are taken until the slow ones are cut off, then everybody gets an answer.
    let client = cluster.client();
    wait_for("an answer", Duration::from_secs(60), || client.slots().ok());
}
