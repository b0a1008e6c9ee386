//! Processes that stand still and go on: back-pressure stops at what it must stop, and nobody is blamed.

use std::time::{Duration, Instant};

use ringflow::cli::client::Progress;
use serde_json::json;

use crate::pass;
use crate::proc::{resident_kib, state};
use crate::support::sums::keyed;
use crate::support::{Cluster, Process, cpus, wait_for};

const PAUSE: Duration = Duration::from_secs(10);
const PATIENT: [&str; 4] = [
    "--heartbeat-timeout-ms",
    "60000",
    "--heartbeat-interval-ms",
    "100",
];

/// SIGSTOP, and it has taken effect.
fn stop(process: &Process) {
    process.signal("-STOP");
    wait_for("the process to stop", Duration::from_secs(10), || {
        (state(process.pid()) == 'T').then_some(())
    });
}

fn resume(process: &Process) {
    process.signal("-CONT");
}

/// The job ended well, with this result.
fn check_end(cluster: &Cluster, job: &str, records: u64, keys: u64) {
    let end = cluster.wait_for_end(job, Duration::from_secs(120));
    assert_eq!(end.state, "FINISHED", "{:?}", end.failure);
    assert_eq!(result(&end), keyed(records, keys, 0));
    assert_eq!((end.records_in, end.records_out), (records, records));
    let exceptions = cluster.get(&format!("/jobs/{job}/exceptions"));
    let entries = &exceptions["exceptionHistory"]["entries"];
    assert_eq!(entries, &json!([]), "{exceptions:#}");
}

fn result(end: &Progress) -> serde_json::Value {
    let value = |accumulator: &ringflow::cli::client::Accumulator| {
        (
            accumulator.name.clone(),
            serde_json::Value::from(accumulator.value),
        )
    };
    end.accumulators.iter().map(value).collect()
}

/// Counts at two moments when the JobManager had just heard of them.
#[derive(Default)]
struct Progressed {
    first: Option<(Instant, u64)>,
    last: Option<(Instant, u64)>,
}

impl Progressed {
    fn note(&mut self, records: u64) {
        let now = Instant::now();
        let seen = self.last.map(|(_, records)| records);
        if seen.is_some_and(|seen| seen != records) {
            self.first.get_or_insert((now, records));
        }
        if seen != Some(records) {
            self.last = Some((now, records));
        }
    }

    /// Per second, between the first and the last change.
    fn rate(&self) -> f64 {
        let (first, last) = (self.first.unwrap(), self.last.unwrap());
        let seconds = (last.0 - first.0).as_secs_f64();
        assert!(seconds > 5.0, "counts changed over {seconds} s only");
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let records = (last.1 - first.1) as f64;
        records / seconds
    }
}

/// `producer` (one core for all its slots) sends to `paused` and, in another job, to `beside`.
#[test]
fn a_paused_consumer_stops_its_producer_and_no_other_job() {
    const RECORDS: u64 = 1_500_000;
    const BESIDE_RATE: f64 = 20_000.0;
    let (first, last) = (cpus()[0].to_string(), cpus()[cpus().len() - 1].to_string());
    let mut cluster = Cluster::start_job_manager(&PATIENT);
    // Sums are placed first, on the emptiest by name; each source then finds room on the producer alone.
    let paused = cluster.add_named("tm-a-paused", &["--cores", &last, "--slots", "1"]);
    let producer = cluster.add_named("tm-b-producer", &["--cores", &first, "--slots", "2"]);
    cluster.add_named("tm-c-beside", &["--cores", &last, "--slots", "1"]);
    cluster.wait_for_slots(4, 4);
    let apart = ["sum", "--apart", "--keys", "5000"];
    let records = RECORDS.to_string();
    let stopped =
        cluster.submit(&[&apart[..], &["--records", &records, "--rate", "100000"]].concat());
    cluster.wait_for_output(&stopped, 100_000);
    let goes_on = cluster.submit(&[&apart[..], &["--records", "0", "--rate", "20000"]].concat());
    cluster.wait_for_output(&goes_on, 10_000);
    let place = |name: &str| (name.to_owned(), 0);
    assert_eq!(
        cluster.placements(&stopped),
        [place("tm-b-producer"), place("tm-a-paused")]
    );
    assert_eq!(
        cluster.placements(&goes_on),
        [place("tm-b-producer"), place("tm-c-beside")]
    );

    let client = cluster.client();
    let pids = [producer, paused].map(|index| cluster.task_managers[index].pid());
    let before = pids.map(resident_kib);
    stop(&cluster.task_managers[paused]);
    let start = Instant::now();
    let (mut beside_progress, mut resident) = (Progressed::default(), before);
    let (mut read, mut read_last) = (Progressed::default(), Instant::now());
    pass(PAUSE, || {
        beside_progress.note(client.progress(&goes_on).unwrap().records_out);
        let stopped = client.progress(&stopped).unwrap();
        assert_eq!(stopped.state, "RUNNING", "{:?}", stopped.failure);
        let seen = read.last;
        read.note(stopped.records_in);
        if read.last.map(|(_, records)| records) != seen.map(|(_, records)| records) {
            read_last = Instant::now();
        }
        for (most, pid) in resident.iter_mut().zip(pids) {
            *most = resident_kib(pid).max(*most);
        }
    });
    let paused_for = start.elapsed();
    resume(&cluster.task_managers[paused]);
    let stood = start + paused_for - read_last;
    let growth = [0, 1].map(|index| resident[index] - before[index]);
    let rate = beside_progress.rate();
    eprintln!(
        "paused for {paused_for:?}; its producer stood still for the last {stood:?} of them; resident memory of \
         producer and paused grew by {growth:?} KiB from {before:?} KiB; the job beside it made {rate:.0} records/s of \
         {BESIDE_RATE} asked for"
    );
    assert!(
        stood > PAUSE / 3,
        "the producer read on until {stood:?} before the end"
    );
    assert!(
        growth.iter().all(|kib| *kib < 4096),
        "memory grew by {growth:?} KiB"
    );
    assert!((rate / BESIDE_RATE - 1.0).abs() < 0.05, "{rate} records/s");
    check_end(&cluster, &stopped, RECORDS, 5_000);
    assert_eq!(client.progress(&goes_on).unwrap().state, "RUNNING");
    client.cancel(&goes_on).unwrap();
    let end = cluster.wait_for_end(&goes_on, Duration::from_secs(30));
    assert_eq!(end.state, "CANCELED", "{:?}", end.failure);
}

/// Two TaskManagers of one slot and a paced job from one to the other, of which something has arrived.
fn running(flags: &[&str], records: u64) -> (Cluster, String) {
    let mut cluster = Cluster::start_job_manager(flags);
    for (index, cpu) in [cpus()[0], cpus()[cpus().len() - 1]].iter().enumerate() {
        let id = format!("tm-{}", index + 1);
        cluster.add_named(&id, &["--cores", &cpu.to_string(), "--slots", "1"]);
    }
    cluster.wait_for_slots(2, 2);
    let records = records.to_string();
    let job = [
        "sum",
        "--apart",
        "--keys",
        "500",
        "--rate",
        "20000",
        "--records",
        &records,
    ];
    let job = cluster.submit(&job);
    cluster.wait_for_output(&job, 10_000);
    (cluster, job)
}

#[test]
fn a_job_manager_that_stands_still_for_less_than_the_heartbeat_timeout_loses_nobody() {
    // Longer than any keep-alive of the transport.
    let (cluster, job) = running(&PATIENT, 360_000);
    stop(&cluster.job_manager);
    pass(PAUSE + Duration::from_secs(2), || {});
    resume(&cluster.job_manager);
    check_end(&cluster, &job, 360_000, 500);
}

#[test]
fn a_job_manager_that_stands_still_for_longer_is_lost_and_found_again() {
    let flags = [
        "--heartbeat-timeout-ms",
        "1500",
        "--heartbeat-interval-ms",
        "200",
    ];
    let (cluster, job) = running(&flags, 0);
    stop(&cluster.job_manager);
    for task_manager in &cluster.task_managers {
        wait_for(
            "the TaskManager's patience to end",
            Duration::from_secs(30),
            || {
                let said = task_manager.stderr.lock().unwrap();
                let lost =
                    |line: &String| line.contains("lost the JobManager") && line.contains("silent");
                said.iter().any(lost).then_some(())
            },
        );
    }
    resume(&cluster.job_manager);
    let end = cluster.wait_for_end(&job, Duration::from_secs(30));
    assert_eq!(end.state, "FAILED");
    cluster.wait_for_slots(2, 2);
}

#[test]
fn a_cluster_that_stands_still_as_a_whole_goes_on_as_if_nothing_had_been() {
    // What a suspended host does; longer than the heartbeat timeout, so each side must excuse itself.
    let flags = [
        "--heartbeat-timeout-ms",
        "3000",
        "--heartbeat-interval-ms",
        "200",
    ];
    let (cluster, job) = running(&flags, 200_000);
    let processes = || std::iter::once(&cluster.job_manager).chain(&cluster.task_managers);
    processes().for_each(stop);
    pass(Duration::from_secs(6), || {});
    // The TaskManagers first: they find a JobManager that has long been silent.
    cluster.task_managers.iter().for_each(resume);
    resume(&cluster.job_manager);
    check_end(&cluster, &job, 200_000, 500);
}
