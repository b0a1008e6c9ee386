//! Async I/O: order, capacity, retries, failures, and what waiting costs the stream.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringflow::nexmark::schema::{LocalItem, LocalItemArgs};
use ringflow::prelude::*;

use crate::streams::{count, each_once, environment, numbers};
use crate::support::wait_for;

const LONG: AsyncOptions = AsyncOptions::timeout(Duration::from_secs(600));

/// Futures that are awaited, and the most that were.
#[derive(Clone, Default)]
struct InFlight(Arc<(AtomicUsize, AtomicUsize)>);

/// One of them; it counts until it is dropped.
struct Counted(InFlight);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl InFlight {
    async fn during<T>(self, work: impl Future<Output = T>) -> T {
        let now = 1 + self.0.0.fetch_add(1, Ordering::SeqCst);
        self.0.1.fetch_max(now, Ordering::SeqCst);
        let _counted = Counted(self);
        work.await
    }

    fn now(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

/// A time that jumps about.
fn some_time(number: u64) -> Duration {
    Duration::from_micros(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 3_000)
}

/// What left a stream, in order within each of its subtasks.
fn seen(stream: DataStream<Number>) -> Arc<Mutex<Vec<u64>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&seen);
    stream
        .filter(move |number| {
            all.lock().unwrap().push(number.value());
            true
        })
        .discard();
    seen
}

#[test]
fn ordered_results_leave_in_the_order_of_the_input() {
    for parallelism in [1, 2] {
        let env = environment(parallelism);
        let in_flight = InFlight::default();
        let counted = in_flight.clone();
        let waited = numbers(&env, 3_000).ordered_wait(
            move |number| {
                let value = number.view().value();
                counted.clone().during(async move {
                    tokio::time::sleep(some_time(value)).await;
                    // None, one or two results.
                    Ok::<_, String>((0..value % 3).map(|_| number.view()).collect())
                })
            },
            LONG.capacity(10),
        );
        let seen = seen(waited);
        let summary = env.execute("ordered").unwrap();
        assert_eq!(summary.records_out, 3_000);
        let expected = (0..3_000).flat_map(|n| (0..n % 3).map(move |_| n));
        // Each subtask has every p-th number.
        for subtask in 0..u64::from(parallelism) {
            let of_subtask = |n: &u64| n % u64::from(parallelism) == subtask;
            let expected: Vec<u64> = expected.clone().filter(of_subtask).collect();
            let seen: Vec<u64> = seen
                .lock()
                .unwrap()
                .iter()
                .copied()
                .filter(of_subtask)
                .collect();
            assert_eq!(seen, expected, "subtask {subtask} of {parallelism}");
        }
        let most = in_flight.most();
        assert!(
            (2..=10 * parallelism as usize).contains(&most),
            "{most} at a time"
        );
    }
}

#[test]
fn unordered_results_overtake_each_other_within_their_watermark() {
    let env = environment(1);
    // Number 0 waits for number 1, which comes out before it.
    let answered = Arc::new(tokio::sync::Notify::new());
    let waited = numbers(&env, 2).unordered_wait(
        move |number| {
            let answered = Arc::clone(&answered);
            async move {
                if number.view().value() == 0 {
                    answered.notified().await;
                } else {
                    answered.notify_one();
                }
                Ok::<_, String>(vec![number])
            }
        },
        LONG,
    );
    let seen = seen(waited);
    env.execute("unordered").unwrap();
    assert_eq!(*seen.lock().unwrap(), [1, 0]);
}

#[test]
fn windows_behind_async_io_lose_nothing_to_early_watermarks() {
    for ordered in [true, false] {
        let mut env = StreamExecutionEnvironment::create_local_environment();
        env.set_parallelism(2);
        let source = SequenceSource::new(4_000);
        let stream = env.from_source(
            source,
            WatermarkStrategy::monotonous_timestamps(),
            "numbers",
        );
        let wait = |number: OwnedRecord<Number>| async move {
            tokio::time::sleep(some_time(number.view().value())).await;
            Ok::<_, String>(vec![number.view()])
        };
        let waited = if ordered {
            stream.ordered_wait(wait, LONG)
        } else {
            stream.unordered_wait(wait, LONG)
        };
        let counts = waited
            .key_by(|number| number.value() % 4)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(100)))
            .aggregate(Count)
            .map(|count| Number::new(*count.value()));
        let counts = count(counts);
        let summary = env.execute("windows").unwrap();
        // 40 windows of 25 numbers for each of 4 keys; a watermark too early would make late records.
        assert_eq!(summary.late_records_dropped, 0);
        assert_eq!(*counts.lock().unwrap(), [(25, 160)].into());
    }
}

#[test]
fn waiting_for_many_at_a_time_holds_the_stream_up_little() {
    let env = environment(1);
    let in_flight = InFlight::default();
    let counted = in_flight.clone();
    let count = 20_000u32;
    let waited = numbers(&env, count.into()).ordered_wait(
        move |number| {
            counted.clone().during(async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok::<_, String>(vec![number])
            })
        },
        LONG,
    );
    waited.discard();
    let summary = env.execute("many at a time").unwrap();
    assert_eq!(summary.records_out, u64::from(count));
    // One after another they would take 100 s; 100 at a time 1 s, and more on a busy machine.
    assert_eq!(in_flight.most(), 100);
    let one_by_one = f64::from(count) * 0.005;
    assert!(summary.seconds < one_by_one / 4.0, "{} s", summary.seconds);
}

#[test]
fn a_job_goes_on_only_if_its_whole_capacity_is_awaited_at_a_time() {
    let env = environment(1);
    // Nobody passes until 50 have come.
    let barrier = Arc::new(tokio::sync::Barrier::new(50));
    let waited = numbers(&env, 500).unordered_wait(
        move |number| {
            let barrier = Arc::clone(&barrier);
            async move {
                barrier.wait().await;
                Ok::<_, String>(vec![number])
            }
        },
        LONG.capacity(50),
    );
    let counts = count(waited);
    env.execute("fifty at a time").unwrap();
    assert_eq!(*counts.lock().unwrap(), each_once(0..500));
}

#[test]
fn tables_go_in_and_come_out() {
    let env = environment(1);
    let found = numbers(&env, 50).unordered_wait(
        |number| async move {
            let name = format!("seller {}", number.view().value());
            let table = OwnedRecord::<LocalItem<'static>>::table(|builder| {
                let nowhere = Some(builder.create_string(""));
                let args = LocalItemArgs {
                    name: Some(builder.create_string(&name)),
                    city: nowhere,
                    state: nowhere,
                    id: 0,
                };
                LocalItem::create(builder, &args)
            });
            Ok::<_, String>(vec![table])
        },
        LONG,
    );
    let read = found.unordered_wait(
        |item| async move {
            let number = item.view().name().strip_prefix("seller ");
            let number = number.and_then(|number| number.parse().ok());
            number
                .map(|number| vec![Number::new(number)])
                .ok_or("no number")
        },
        LONG,
    );
    let counts = count(read);
    env.execute("tables").unwrap();
    assert_eq!(*counts.lock().unwrap(), each_once(0..50));
}

#[test]
fn calls_that_fail_are_tried_again() {
    let env = environment(2);
    let failed = Arc::new(Mutex::new(BTreeSet::new()));
    let waited = numbers(&env, 500).unordered_wait(
        move |number| {
            let first = failed.lock().unwrap().insert(number.view().value());
            async move {
                if first {
                    return Err("the first call fails");
                }
                Ok(vec![number])
            }
        },
        LONG.retry(AsyncRetryStrategy::exponential_backoff(
            1,
            Duration::from_millis(1),
            Duration::from_millis(10),
            2.0,
        )),
    );
    let counts = count(waited);
    env.execute("retries").unwrap();
    assert_eq!(*counts.lock().unwrap(), each_once(0..500));
}

#[test]
fn what_fails_the_job_is_named() {
    let failure = |options, behaviour: &'static str| {
        let env = environment(1);
        let waited = numbers(&env, 1_000).ordered_wait(
            move |number| async move {
                if number.view().value() == 500 {
                    match behaviour {
                        "panics" => panic!("five hundred"),
                        "fails" => return Err("no customer 500".to_owned()),
                        _ => std::future::pending().await,
                    }
                }
                Ok(vec![number])
            },
            options,
        );
        waited.name("customers").discard();
        format!("{:#}", env.execute("fails").unwrap_err())
    };
    let text = failure(LONG, "fails");
    assert!(
        text.contains("operator `customers`: the async function failed: no customer 500"),
        "{text}"
    );
    let text = failure(LONG, "panics");
    let panicked = "operator `customers`: the async function panicked: five hundred";
    assert!(text.contains(panicked), "{text}");
    let text = failure(AsyncOptions::timeout(Duration::from_millis(300)), "waits");
    assert!(
        text.contains(
            "operator `customers`: the async function gave no result within its timeout of 300ms"
        ),
        "{text}"
    );
    let text = failure(LONG.capacity(0), "is not called");
    assert!(
        text.contains("`ordered_wait` has a capacity of 0 records: it must be 1 to 65536"),
        "{text}"
    );
}

#[test]
fn nothing_is_awaited_any_more_when_its_job_has_failed() {
    let env = environment(2);
    let in_flight = InFlight::default();
    let counted = in_flight.clone();
    let all_wait = Arc::new(tokio::sync::Barrier::new(20));
    let waited = numbers(&env, 1_000).unordered_wait(
        move |number| {
            let all_wait = Arc::clone(&all_wait);
            counted.clone().during(async move {
                // The one that lets all others go on fails; they wait for ever.
                if all_wait.wait().await.is_leader() {
                    return Err("the last one fails");
                }
                std::future::pending::<()>().await;
                Ok(vec![number])
            })
        },
        LONG.capacity(10),
    );
    waited.discard();
    let text = format!("{:#}", env.execute("one fails").unwrap_err());
    assert!(text.contains("the last one fails"), "{text}");
    assert_eq!(in_flight.most(), 20);
    wait_for("all futures to be dropped", Duration::from_secs(30), || {
        (in_flight.now() == 0).then_some(())
    });
}

/// Waits a little for each number and passes it on, two at a time.
fn passing(stream: DataStream<Number>, ordered: bool) -> DataStream<Number> {
    let pass = |number: OwnedRecord<Number>| async move {
        tokio::time::sleep(some_time(number.view().value()) / 10).await;
        Ok::<_, String>(vec![number])
    };
    if ordered {
        stream.ordered_wait(pass, LONG.capacity(2))
    } else {
        stream.unordered_wait(pass, LONG.capacity(2))
    }
}

#[test]
fn operators_around_async_io_wait_for_room_and_for_each_other() {
    let env = environment(1);
    let source = SequenceSource::new(2_000);
    let stream = env.from_source(
        source,
        WatermarkStrategy::monotonous_timestamps(),
        "numbers",
    );
    // A firing makes 100 records at once, more than there is room for; one chain from there on, with two branches.
    let fired = stream
        .key_by(|number| number.value() % 100)
        .window(TumblingEventTimeWindows::of(Duration::from_millis(500)))
        .aggregate(Count)
        .map(|count| Number::new(100 * *count.value() + *count.key()));
    let first = passing(fired, true);
    let counts = [
        count(passing(first.clone(), false)),
        count(passing(passing(first.clone(), true), true)),
        count(passing(
            first.flat_map(|number, out: &mut Collector<'_, Number>| {
                // More records of one than the next operator has room for.
                for copy in 0..5 {
                    out.collect(Number::new(1_000 * copy + number.value()));
                }
            }),
            true,
        )),
    ];
    env.execute("branches").unwrap();
    let four_times = |number| (number, 4);
    let all: std::collections::BTreeMap<_, _> = (500..600).map(four_times).collect();
    let copies = (0..5).flat_map(|copy| (500..600).map(move |number| (1_000 * copy + number, 4)));
    assert_eq!(*counts[0].lock().unwrap(), all);
    assert_eq!(*counts[1].lock().unwrap(), all);
    assert_eq!(*counts[2].lock().unwrap(), copies.collect());
}
