//! Writer and committer as operators, with threads of their own and with threads that stand still.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::committable::Committable;
use super::testing::Directory;
use super::thread::{Job, Report, Reports};
use super::*;
use crate::element::StopMode;
use crate::limits::FILE_QUEUE_JOBS;
use crate::metrics::SubtaskMetrics;
use crate::operator::Progress;
use crate::operator::chain::{Captured, Output, test_context};
use crate::record::RowKind;
use crate::runtime::doorbell::Doorbell;
use crate::runtime::housekeeping::Housekeeping;

fn prepare_context() -> PrepareContext {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().expect("a runtime");
    PrepareContext {
        operator_name: "files".to_owned(),
        subtask_index: 0,
        parallelism: 1,
        max_parallelism: 128,
        splits: Vec::new(),
        housekeeping: Housekeeping::new(runtime.handle().clone()),
    }
}

/// Records are text: their bucket, a colon, their row.
fn factory(directory: &Path) -> FileSinkFactory {
    let split = |record: &RecordRef<'_>| {
        let text = String::from_utf8(record.bytes.to_vec()).expect("text");
        let (bucket, row) = text.split_once(':').expect("a bucket");
        (bucket.to_owned(), row.to_owned())
    };
    let encoder = move |record: &RecordRef<'_>, bytes: &mut Vec<u8>| {
        bytes.extend_from_slice(split(record).1.as_bytes());
        bytes.push(b'\n');
    };
    FileSinkFactory::new(directory, Arc::new(encoder))
        .bucket_assigner(Arc::new(move |record, bucket| {
            bucket.push_str(&split(record).0)
        }))
        .part_names("part", ".txt")
}

/// Buckets are numbers: times in milliseconds.
fn commit() -> PartitionCommit {
    PartitionCommit::partition_time(|bucket| bucket.parse().ok().map(EventTime))
        .with_delay(Duration::from_millis(10))
}

/// An operator that is open, with what it needs and what it sent.
struct Tested<O> {
    operator: O,
    output: Output,
    metrics: Rc<SubtaskMetrics>,
}

impl<O: Operator> Tested<O> {
    fn new(mut operator: O) -> Self {
        let doorbell = Doorbell::new().expect("a bell");
        let metrics = Rc::new(SubtaskMetrics::default());
        let mut context = test_context(Rc::clone(&metrics));
        context.doorbell = Arc::new(doorbell);
        operator.open(&context).expect("opens");
        let sides = vec![(COMMITTABLES, Output::Capture(Vec::new()))];
        Self {
            operator,
            output: Output::Sides(Box::new(Output::End), sides),
            metrics,
        }
    }

    fn push_kind(&mut self, bytes: &[u8], kind: RowKind) -> Result<()> {
        let record = RecordRef {
            bytes,
            timestamp: EventTime(0),
            key_hash: 0,
            kind,
            origin_ns: 1,
        };
        self.operator.on_record(&record, &mut self.output)
    }

    fn push(&mut self, text: &str) -> Result<()> {
        self.push_kind(text.as_bytes(), RowKind::Insert)
    }

    fn watermark(&mut self, time: i64) -> Progress {
        let watermark = EventTime(time);
        let progress = self.operator.on_watermark(watermark, 0, &mut self.output);
        progress.expect("no failure")
    }

    fn end(&mut self) -> Progress {
        let progress = self
            .operator
            .on_end_of_input(StopMode::Drain, &mut self.output);
        progress.expect("no failure")
    }

    /// Resumes until it is done.
    fn finish(&mut self, progress: Progress) {
        if progress != Progress::Done {
            wait_for("the operator", || {
                let progress = self.operator.resume(&mut self.output);
                (progress.expect("no failure") == Progress::Done).then_some(())
            });
        }
    }

    /// Polls until that fails.
    fn error(&mut self) -> String {
        wait_for("an error", || self.operator.poll().err()).to_string()
    }

    /// What the committer was told: whether a partition is open, and which.
    fn told(&self) -> Vec<(bool, String)> {
        let Output::Sides(_, sides) = &self.output else {
            panic!("made so");
        };
        let Output::Capture(captured) = &sides[0].1 else {
            panic!("made so");
        };
        let told = captured.iter().map(|captured| match captured {
            Captured::Record(bytes, _) => {
                let committable = Committable::read(bytes).expect("a committable");
                (committable.open, committable.bucket.to_owned())
            }
            other => panic!("{other:?}"),
        });
        told.collect()
    }
}

/// Waits for a condition.
fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::system();
    let deadline_ns = clock.now_ns() + 30_000_000_000;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(clock.now_ns() < deadline_ns, "{what}: not within 30 s");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn writer(factory: &FileSinkFactory) -> Tested<FileWriter> {
    Tested::new(factory.prepare_writer(&prepare_context()).expect("starts"))
}

#[test]
fn records_count_when_their_rows_are_in_files() {
    let directory = Directory::new();
    let mut writer = writer(&factory(directory.path()));
    for number in 0..100 {
        writer.push(&format!("{}:{number}", number % 3)).unwrap();
    }
    assert_eq!(writer.metrics.sink_records.get(), 0);
    // What is gathered leaves with the next turn, without more input.
    wait_for("the rows", || {
        writer.operator.poll().unwrap();
        (writer.metrics.sink_records.get() == 100).then_some(())
    });
    assert_eq!(writer.metrics.latency_us.borrow().len(), 100);
    assert_eq!(directory.finished(), Vec::<String>::new());
    let progress = writer.end();
    writer.finish(progress);
    let of = |rest: usize| -> String {
        let numbers = (0..100).filter(|number| number % 3 == rest);
        numbers.map(|number| format!("{number}\n")).collect()
    };
    assert_eq!(directory.finished(), [of(0), of(1), of(2)]);
    assert!(
        directory
            .files()
            .iter()
            .all(|(name, _)| name.ends_with(".txt"))
    );
    assert_eq!(writer.told(), []);
}

#[test]
fn attempts_do_not_overwrite_each_other() {
    let directory = Directory::new();
    for _ in 0..3 {
        let mut writer = writer(&factory(directory.path()));
        writer.push(":same").unwrap();
        let progress = writer.end();
        writer.finish(progress);
    }
    assert_eq!(directory.finished(), ["same\n", "same\n", "same\n"]);
}

#[test]
fn files_roll_while_nothing_comes() {
    let directory = Directory::new();
    let policy = RollingPolicy::default().with_inactivity_interval(Duration::from_millis(1));
    let mut writer = writer(&factory(directory.path()).rolling_policy(policy));
    for number in 1..3 {
        writer.push("a:row").unwrap();
        wait_for("a finished file", || {
            writer.operator.poll().unwrap();
            (directory.finished().len() == number).then_some(())
        });
    }
    assert_eq!(directory.finished(), ["row\n", "row\n"]);
}

/// A thread that does one job for each permit, and collects rows.
fn on_permit(permits: Receiver<()>, rows: Sender<Vec<u8>>) -> impl FnOnce(Receiver<Job>, Reports) {
    move |jobs, reports| {
        for job in jobs {
            if permits.recv().is_err() {
                return;
            }
            reports.send(match job {
                Job::Write(block) => {
                    let written: Result<(), ()> =
                        block.for_each_bucket(&mut Vec::new(), |_, of| {
                            rows.send(of.to_vec()).expect("the test collects them");
                            Ok(())
                        });
                    written.expect("as above");
                    Report::Written(block)
                }
                _ => Report::Done,
            });
        }
    }
}

#[test]
fn a_full_queue_blocks_and_loses_nothing() {
    let directory = Directory::new();
    let (permit, permits) = channel();
    let (rows, collected) = channel();
    let thread = FileThread::start_with(0, on_permit(permits, rows)).unwrap();
    let small = factory(directory.path());
    let rows = Rows {
        encoder: small.encoder,
        assigner: None,
        commit: None,
        all_row_kinds: false,
        block_bytes: 100,
    };
    let mut writer = Tested::new(FileWriter::new(rows, 0, thread));
    let mut sent = 0;
    while !writer.operator.is_blocked() {
        writer.push(&format!(":{sent}")).unwrap();
        writer.operator.poll().unwrap();
        sent += 1;
        assert!(
            sent < 10_000,
            "bounded by {FILE_QUEUE_JOBS} blocks of 100 bytes"
        );
    }
    assert_eq!(writer.metrics.sink_records.get(), 0);
    // One block is done: there is room for the one that waits.
    permit.send(()).unwrap();
    wait_for("room", || {
        writer.operator.poll().unwrap();
        (!writer.operator.is_blocked()).then_some(())
    });
    assert!(writer.metrics.sink_records.get() > 0);
    let progress = writer.end();
    assert_eq!(progress, Progress::Blocked);
    for _ in 0..=FILE_QUEUE_JOBS + 2 {
        permit.send(()).unwrap();
    }
    writer.finish(progress);
    assert_eq!(writer.metrics.sink_records.get(), sent);
    let written: Vec<u8> = collected.try_iter().flatten().collect();
    let all: String = (0..sent).map(|number| format!("{number}\n")).collect();
    assert_eq!(String::from_utf8(written).unwrap(), all);
}

#[test]
fn a_watermark_waits_for_the_files_that_it_completes() {
    let directory = Directory::new();
    let mut writer = writer(&factory(directory.path()).partition_commit(commit()));
    for text in ["1000:a", "2000:b", "1000:c"] {
        writer.push(text).unwrap();
    }
    let open = |bucket: &str| (true, bucket.to_owned());
    let finished = |bucket: &str| (false, bucket.to_owned());
    assert_eq!(writer.told(), [open("1000"), open("2000")]);
    // A time must be passed: 1000 + 10 is not enough.
    assert_eq!(writer.watermark(1_010), Progress::Done);
    assert_eq!(directory.finished(), Vec::<String>::new());
    let progress = writer.watermark(1_011);
    writer.finish(progress);
    assert_eq!(directory.finished(), ["a\nc\n"]);
    assert_eq!(writer.told()[2..], [finished("1000")]);
    // A late row opens its partition again, for 1 s.
    writer.push("1000:late").unwrap();
    assert_eq!(writer.told()[3..], [open("1000")]);
    let progress = writer.watermark(2_011);
    writer.finish(progress);
    assert_eq!(directory.finished(), ["a\nc\n", "b\n"]);
    assert_eq!(writer.told()[4..], [finished("2000")]);
    let progress = writer.watermark(2_012);
    writer.finish(progress);
    assert_eq!(directory.finished(), ["a\nc\n", "b\n", "late\n"]);
    assert_eq!(writer.told()[5..], [finished("1000")]);
    writer.push("3000:last").unwrap();
    let progress = writer.watermark(i64::MAX);
    writer.finish(progress);
    assert_eq!(writer.told()[6..], [open("3000"), finished("3000")]);
    // A window of processing time gives out rows when the input ends, behind the end of event time.
    writer.push("4000:behind").unwrap();
    let progress = writer.end();
    writer.finish(progress);
    let files = ["a\nc\n", "b\n", "last\n", "late\n", "behind\n"];
    assert_eq!(
        sorted(directory.finished()),
        sorted(files.map(str::to_owned))
    );
    assert_eq!(writer.told()[8..], [open("4000"), finished("4000")]);
}

fn sorted(names: impl Into<Vec<String>>) -> Vec<String> {
    let mut names = names.into();
    names.sort();
    names
}

#[test]
fn a_stop_without_a_drain_finishes_files_and_completes_no_partition() {
    let directory = Directory::new();
    let mut writer = writer(&factory(directory.path()).partition_commit(commit()));
    writer.push("1000:a").unwrap();
    let end = writer
        .operator
        .on_end_of_input(StopMode::NoDrain, &mut writer.output);
    writer.finish(end.expect("no failure"));
    assert_eq!(directory.finished(), ["a\n"]);
    assert_eq!(writer.told(), [(true, "1000".to_owned())]);
}

#[test]
fn a_partition_is_committed_when_no_writer_has_it_open() {
    let directory = Directory::new();
    for bucket in ["1000", "2000"] {
        std::fs::create_dir(directory.path().join(bucket)).unwrap();
    }
    let factory = factory(directory.path()).partition_commit(commit());
    let thread = factory.start(&prepare_context()).unwrap();
    let mut committer = Tested::new(FileCommitter::new(thread));
    let tell = |committer: &mut Tested<FileCommitter>, open, subtask_index, bucket: &str| {
        let committable = Committable {
            open,
            subtask_index,
            time: EventTime(bucket.parse().unwrap()),
            bucket,
        };
        let sides = vec![(COMMITTABLES, Output::Capture(Vec::new()))];
        let mut output = Output::Sides(Box::new(Output::End), sides);
        committable.send(&mut Vec::new(), &mut output).unwrap();
        let Output::Sides(_, sides) = &output else {
            panic!("made so");
        };
        let Output::Capture(captured) = &sides[0].1 else {
            panic!("made so");
        };
        let Captured::Record(bytes, _) = &captured[0] else {
            panic!("made so");
        };
        committer.push_kind(bytes, RowKind::Insert).unwrap();
    };
    for (open, subtask, bucket) in [
        (true, 0, "1000"),
        (true, 1, "1000"),
        (true, 1, "2000"),
        (false, 0, "1000"),
    ] {
        tell(&mut committer, open, subtask, bucket);
    }
    // Writer 1 is idle, so that the watermark passes without it.
    assert_eq!(committer.watermark(1_500), Progress::Done);
    tell(&mut committer, false, 1, "1000");
    tell(&mut committer, false, 1, "2000");
    let progress = committer.watermark(1_501);
    committer.finish(progress);
    assert_eq!(directory.committed(), ["1000"]);
    let progress = committer.watermark(i64::MAX);
    committer.finish(progress);
    assert_eq!(directory.committed(), ["1000", "2000"]);
    assert_eq!(committer.operator.partitions_open(), 0);
    // Rows behind the end of event time are of a partition that is complete when the input ends.
    std::fs::create_dir(directory.path().join("3000")).unwrap();
    tell(&mut committer, true, 0, "3000");
    tell(&mut committer, false, 0, "3000");
    let progress = committer.end();
    committer.finish(progress);
    assert_eq!(directory.committed(), ["1000", "2000", "3000"]);
    assert!(committer.push_kind(b"x", RowKind::Insert).is_err());
}

#[test]
fn records_that_cannot_be_written_are_refused_with_a_reason() {
    let directory = Directory::new();
    let mut writer = writer(&factory(directory.path()).partition_commit(commit()));
    let error = writer.push_kind(b"1:a", RowKind::UpdateAfter).unwrap_err();
    assert!(error.to_string().contains("`+U` record"), "{error}");
    let error = writer.push("../1:a").unwrap_err().to_string();
    assert!(error.contains("`../1`, which has a component"), "{error}");
    let error = writer.push("year:a").unwrap_err().to_string();
    assert!(error.contains("no time in the bucket `year`"), "{error}");
    let all = factory(directory.path()).all_row_kinds(true);
    let mut writer = self::writer(&all);
    writer.push_kind(b"1:a", RowKind::Delete).unwrap();
}

#[test]
fn what_the_file_system_refuses_fails_the_subtask() {
    let directory = Directory::new();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let start = |at: &Path| {
        let writer = factory(at).prepare_writer(&prepare_context());
        writer.unwrap_err().to_string()
    };
    for at in [file.clone(), file.join("below")] {
        let error = start(&at);
        assert!(
            error.contains("a file is where a directory should be"),
            "{error}"
        );
        assert!(error.contains(&file.display().to_string()), "{error}");
    }
    // It is found when the sink runs.
    let mut writer = writer(&factory(directory.path()));
    writer.push("file/1:a").unwrap();
    let error = writer.error();
    assert!(
        error.contains("file/1") && error.contains("remove it"),
        "{error}"
    );
    let error = factory(directory.path())
        .part_names("a/b", "")
        .prepare_writer(&prepare_context());
    assert!(error.unwrap_err().to_string().contains("`a/b`"));
    let error = factory(directory.path())
        .part_names(".part", "")
        .prepare_writer(&prepare_context());
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("skipped by readers")
    );
}

#[test]
fn a_directory_that_must_not_be_written_fails_the_subtask() {
    use std::os::unix::fs::PermissionsExt;
    if rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: root may write everywhere");
        return;
    }
    let directory = Directory::new();
    let mut writer = writer(&factory(directory.path()));
    let mode = |mode| std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(mode));
    mode(0o555).unwrap();
    writer.push(":a").unwrap();
    let error = writer.error();
    mode(0o755).unwrap();
    assert!(
        error.contains("the user that the TaskManager runs as"),
        "{error}"
    );
}

#[test]
fn a_thread_that_has_ended_fails_the_subtask() {
    let directory = Directory::new();
    let thread = FileThread::start_with(0, |jobs, reports| drop((jobs, reports))).unwrap();
    let mut committer = Tested::new(FileCommitter::new(thread));
    let error = committer.error();
    assert!(error.contains("look at the TaskManager's log"), "{error}");
    drop(directory);
}

#[test]
fn the_thread_ends_with_its_operator_and_leaves_hidden_files() {
    let directory = Directory::new();
    let mut writer = writer(&factory(directory.path()));
    writer.push("a:1").unwrap();
    wait_for("the row", || {
        writer.operator.poll().unwrap();
        (writer.metrics.sink_records.get() == 1).then_some(())
    });
    drop(writer);
    let files = directory.files();
    let [(name, contents)] = &files[..] else {
        panic!("{files:?}");
    };
    assert!(
        name.starts_with("a/.part-") && name.ends_with(".txt.inprogress"),
        "{name}"
    );
    assert_eq!(contents, "1\n");
}
