//! `ringflow stop`: a job that would run for ever ends in good order, with its windows or without.

use super::*;

/// Windows of 10 s of event time, of which 10 000 events are a second: none has ended after a few thousand events.
const WINDOWS: [&str; 6] = ["nexmark", "q7", "--events", "0", "--rate", "2000"];

#[test]
fn g17_a_stopped_job_is_finished_and_only_a_drain_gives_out_its_open_windows() {
    let cluster = Cluster::start(&[Tm { slots: 2 }]);
    let client = cluster.client();
    for drain in [true, false] {
        let job = cluster.submit(&[&["-p", "2"], &WINDOWS[..]].concat());
        wait_for("the job to read", Duration::from_secs(30), || {
            let progress = client.progress(&job).ok()?;
            (progress.running_time > 0 && progress.records_in > 1_000).then_some(())
        });
        let before = client.progress(&job).unwrap();
        assert!(before.records_in < 90_000, "the machine stood still");
        assert_eq!(before.records_out, 0, "no window has ended");
        let flags: &[&str] = if drain { &["--drain"] } else { &[] };
        let stop = [&["stop", "-m", &cluster.rest], flags, &[&job]].concat();
        let output = ringflow(&stop);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        assert!(error.contains("no savepoint is taken"), "{error}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.trim(), format!("Stopped job {job}."));
        let ended = client.progress(&job).unwrap();
        assert_eq!(ended.state, "FINISHED");
        assert!(ended.records_in < 90_000, "the machine stood still");
        assert_eq!(ended.records_out > 0, drain, "{} rows", ended.records_out);
        cluster.wait_for_slots(2, 2);
        // It has ended: there is nothing to stop.
        let again = fails(&["stop", "-m", &cluster.rest, &job]);
        assert!(again.contains("it is FINISHED already"), "{again}");
    }
    let unknown = "00000000000000000000000000000000";
    assert!(fails(&["stop", "-m", &cluster.rest, unknown]).contains("not found"));
    assert!(fails(&["stop", "-m", &cluster.rest, "x"]).contains("no job id"));
}

#[test]
fn g17_a_plain_stop_loses_no_record_between_source_and_sink() {
    let cluster = Cluster::start(&[Tm { slots: 2 }, Tm { slots: 2 }]);
    // As fast as it goes, with an exchange between two processes.
    let job = cluster.submit(&["-p", "2", "sum", "--records", "0", "--apart"]);
    let client = cluster.client();
    cluster.wait_for_output(&job, 100_000);
    assert!(
        ringflow(&["stop", "-m", &cluster.rest, &job])
            .status
            .success()
    );
    let ended = client.progress(&job).unwrap();
    assert_eq!(ended.state, "FINISHED");
    assert_eq!(ended.records_out, ended.records_in);
}
