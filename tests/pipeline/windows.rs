//! Windows of programs: every family, at parallelism 1 and 2, against what plain arithmetic gives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringflow::prelude::*;

const COUNT: u64 = 3_000;

/// Rows of a stream, counted.
type Seen<T> = Arc<Mutex<BTreeMap<T, u32>>>;

/// The numbers below `COUNT`, each a millisecond.
fn numbers(parallelism: u32) -> (StreamExecutionEnvironment, DataStream<Number>) {
    let mut env = StreamExecutionEnvironment::create_local_environment();
    env.set_parallelism(parallelism);
    // Subtasks of the source run apart from each other; each is in order.
    let watermarks = WatermarkStrategy::monotonous_timestamps();
    let stream = env.from_source(SequenceSource::new(COUNT), watermarks, "numbers");
    (env, stream)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn collect<R, T>(
    stream: DataStream<R>,
    read: impl for<'a> Fn(Row<'a, R>) -> T + Clone + Send + Sync + 'static,
) -> Seen<T>
where
    R: Record,
    T: Ord + Send + 'static,
{
    let seen = Seen::<T>::default();
    let kept = Arc::clone(&seen);
    stream
        .filter(move |row| {
            *kept.lock().unwrap().entry(read(row)).or_default() += 1;
            true
        })
        .discard();
    seen
}

/// Key, window's start and end, value.
type Counted = (u64, i64, i64, u64);

fn counts(stream: DataStream<WindowResult<u64, u64>>) -> Seen<Counted> {
    collect(stream, |row| {
        let window = row.window();
        (*row.key(), window.start(), window.end(), *row.value())
    })
}

/// What `counts` should see: numbers by last digit in windows.
fn expected(windows: impl Fn(i64) -> Vec<(i64, i64)>) -> BTreeMap<Counted, u32> {
    let mut counts = BTreeMap::<(u64, i64, i64), u64>::new();
    for number in 0..COUNT {
        for (start, end) in windows(i64::try_from(number).unwrap()) {
            *counts.entry((number % 10, start, end)).or_default() += 1;
        }
    }
    counts
        .into_iter()
        .map(|((key, start, end), count)| ((key, start, end, count), 1))
        .collect()
}

#[test]
fn windows_of_event_time_count_what_is_in_them() {
    for parallelism in [1, 2] {
        let (env, stream) = numbers(parallelism);
        let keyed = || stream.clone().key_by(|number| number.value() % 10);
        let tumbling = TumblingEventTimeWindows::of_with_offset(ms(100), 30);
        let tumbling = counts(keyed().window(tumbling).aggregate(Count));
        let sliding = || SlidingEventTimeWindows::of(ms(300), ms(100));
        let panes = counts(keyed().window(sliding()).aggregate(Count));
        // The general operator: lateness, a trigger, every record kept.
        let late = keyed().window(sliding()).allowed_lateness(ms(50));
        let late = counts(late.aggregate(Count));
        let given = keyed().window(sliding()).trigger(EventTimeTrigger);
        let listed = counts(given.apply(
            |key, window, numbers, out: &mut Collector<'_, WindowResult<u64, u64>>| {
                out.collect_window_result(key, &(numbers.len() as u64), window);
            },
        ));
        env.execute("event time").unwrap();
        let hundreds = expected(|time| {
            let start = (time - 30).div_euclid(100) * 100 + 30;
            vec![(start, start + 100)]
        });
        assert_eq!(*tumbling.lock().unwrap(), hundreds);
        let overlapping = expected(|time| {
            let last = time.div_euclid(100) * 100;
            let starts = [last - 200, last - 100, last];
            starts.map(|start| (start, start + 300)).to_vec()
        });
        assert_eq!(*panes.lock().unwrap(), overlapping);
        assert_eq!(*late.lock().unwrap(), overlapping);
        assert_eq!(*listed.lock().unwrap(), overlapping);
    }
}

#[test]
fn sessions_end_where_nothing_comes_for_a_gap() {
    for parallelism in [1, 2] {
        let (env, stream) = numbers(parallelism);
        // Bursts of 100 ms, 400 ms apart.
        let bursts = stream.filter(|number| number.value() % 500 < 100);
        let keyed = || bursts.clone().key_by(|number| number.value() % 10);
        let fixed = EventTimeSessionWindows::with_gap(ms(20));
        let fixed = counts(keyed().window(fixed).aggregate(Count));
        let own_gap = |number: Row<'_, Number>| ms(number.value() % 10 + 11);
        let dynamic = EventTimeSessionWindows::with_dynamic_gap(own_gap);
        let dynamic = counts(keyed().window(dynamic).aggregate(Count));
        env.execute("sessions").unwrap();
        let sessions = |gap: fn(u64) -> i64| -> BTreeMap<Counted, u32> {
            let bursts = (0..COUNT).step_by(500);
            let of_burst = |burst: u64| {
                (0..10).map(move |key| {
                    let start = i64::try_from(burst + key).unwrap();
                    ((key, start, start + 90 + gap(key), 10), 1)
                })
            };
            bursts.flat_map(of_burst).collect()
        };
        assert_eq!(*fixed.lock().unwrap(), sessions(|_| 20));
        let own = sessions(|key| i64::try_from(key).unwrap() + 11);
        assert_eq!(*dynamic.lock().unwrap(), own);
    }
}

#[test]
fn processing_time_windows_lose_nothing_at_the_end() {
    for parallelism in [1, 2] {
        let (env, stream) = numbers(parallelism);
        let keyed = || stream.clone().key_by(|number| number.value() % 10);
        // Far longer than the job: they end with it.
        let days = TumblingProcessingTimeWindows::of(Duration::from_secs(86_400));
        let sessions = ProcessingTimeSessionWindows::with_gap(Duration::from_secs(3_600));
        // Many end while it runs.
        let short = TumblingProcessingTimeWindows::of(ms(1));
        let of_key = |row: Row<'_, WindowResult<u64, u64>>| (*row.key(), *row.value());
        let days = collect(keyed().window(days).aggregate(Count), of_key);
        let sessions = collect(keyed().window(sessions).aggregate(Count), of_key);
        let short = collect(keyed().window(short).aggregate(Count), of_key);
        env.execute("processing time").unwrap();
        let of_days = sum_by_key(&days);
        assert_eq!(of_days, (0..10).map(|key| (key, COUNT / 10)).collect());
        assert_eq!(sum_by_key(&sessions), of_days);
        assert_eq!(sum_by_key(&short), of_days);
        let rows: u32 = sessions.lock().unwrap().values().sum();
        assert_eq!(rows, 10, "one session of each key");
    }
}

fn sum_by_key(seen: &Seen<(u64, u64)>) -> BTreeMap<u64, u64> {
    let mut sums = BTreeMap::new();
    for ((key, count), times) in seen.lock().unwrap().iter() {
        *sums.entry(*key).or_default() += count * u64::from(*times);
    }
    sums
}

#[test]
fn count_windows_close_after_so_many_records() {
    // One source subtask, so that records of a key keep their order.
    for parallelism in [1, 2] {
        let (env, stream) = numbers(parallelism);
        let in_order = stream.set_parallelism(1);
        let keyed = || in_order.clone().key_by(|number| number.value() % 10);
        let greatest = |a: Number, b: Number| if a.value() > b.value() { a } else { b };
        let value = |number: Row<'_, Number>| number.value();
        let sevens = collect(keyed().count_window(7).reduce(greatest), value);
        let sums = |_: &u64,
                    _: TimeWindow,
                    numbers: WindowElements<'_, Number>,
                    out: &mut Collector<'_, Number>| {
            out.collect(Number::new(
                numbers.iter().map(|number| number.value()).sum(),
            ));
        };
        let sliding = collect(keyed().count_window_sliding(4, 2).apply(sums), value);
        let reduced = collect(keyed().count_window_sliding(4, 2).reduce(greatest), value);
        env.execute("counts").unwrap();
        let by_key = |key: u64| (key..COUNT).step_by(10).collect::<Vec<u64>>();
        let (mut of_seven, mut of_slides, mut of_reduced) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for numbers in (0..10).map(by_key) {
            for seven in numbers.chunks_exact(7) {
                *of_seven.entry(seven[6]).or_default() += 1;
            }
            for end in (2..=numbers.len()).step_by(2) {
                let window = &numbers[end.saturating_sub(4)..end];
                *of_slides.entry(window.iter().sum::<u64>()).or_default() += 1;
                *of_reduced.entry(numbers[end - 1]).or_default() += 1;
            }
        }
        assert_eq!(*sevens.lock().unwrap(), of_seven);
        assert_eq!(*sliding.lock().unwrap(), of_slides);
        assert_eq!(*reduced.lock().unwrap(), of_reduced);
    }
}

#[test]
fn a_stream_without_keys_has_windows_in_one_subtask() {
    for parallelism in [1, 2] {
        let (env, stream) = numbers(parallelism);
        let tumbling = || TumblingEventTimeWindows::of(ms(500));
        let all = stream.clone().window_all(tumbling()).aggregate(Count);
        let all = collect(all, |row| (row.window().start(), *row.value()));
        let first = |a: Number, b: Number| if a.value() < b.value() { a } else { b };
        let reduced = stream.window_all(tumbling()).reduce(first);
        let reduced = collect(reduced, |number| number.value());
        env.execute("all").unwrap();
        let starts = || (0..COUNT).step_by(500);
        let counts = starts().map(|start| ((i64::try_from(start).unwrap(), 500), 1));
        assert_eq!(*all.lock().unwrap(), counts.collect());
        assert_eq!(
            *reduced.lock().unwrap(),
            starts().map(|start| (start, 1)).collect()
        );
    }
}

/// Emits the mean of a window's numbers, from their sum.
#[derive(Clone)]
struct Mean;

impl AggregateFunction<Number> for Mean {
    type Accumulator = (u64, u64);
    type Output = u64;
    fn create_accumulator(&self) -> (u64, u64) {
        (0, 0)
    }
    fn add(&self, number: Row<'_, Number>, (sum, count): &mut (u64, u64)) {
        *sum += number.value();
        *count += 1;
    }
    fn merge(&self, into: &mut (u64, u64), other: &(u64, u64)) {
        into.0 += other.0;
        into.1 += other.1;
    }
    fn result(&self, (sum, count): (u64, u64)) -> u64 {
        sum / count
    }
}

/// Sends windows of even thousands to a side output.
#[derive(Clone)]
struct Sorted;

const EVEN: OutputTag<Number> = OutputTag::new("even");

impl ProcessWindowFunction<Aggregated<u64>, u64, Number> for Sorted {
    fn process(
        &mut self,
        key: &u64,
        context: &mut WindowContext<'_>,
        mean: u64,
        out: &mut Collector<'_, Number>,
    ) -> OperatorResult<()> {
        let number = Number::new(mean - key);
        if context.window().start() % 2_000 == 0 {
            out.side(&EVEN).collect(number);
        } else {
            out.collect(number);
        }
        Ok(())
    }
}

#[test]
fn an_aggregate_goes_through_a_process_function_and_late_data_aside() {
    const LATE: OutputTag<Number> = OutputTag::new("late");
    for parallelism in [1, 2] {
        let (env, stream) = numbers(parallelism);
        let means = stream
            .clone()
            .key_by(|number| number.value() % 10)
            .window(TumblingEventTimeWindows::of(ms(1_000)))
            .side_output_late_data(&LATE)
            .aggregate_with(Mean, Sorted);
        let value = |number: Row<'_, Number>| number.value();
        let even = collect(means.get_side_output(&EVEN), value);
        let late = collect(means.get_side_output(&LATE), value);
        let odd = collect(means, value);
        env.execute("means").unwrap();
        assert_eq!(
            *even.lock().unwrap(),
            BTreeMap::from([(495, 10), (2_495, 10)])
        );
        assert_eq!(*odd.lock().unwrap(), BTreeMap::from([(1_495, 10)]));
        assert_eq!(*late.lock().unwrap(), BTreeMap::new());
    }
}

#[test]
fn late_records_come_out_of_the_side_output() {
    const LATE: OutputTag<Number> = OutputTag::new("late");
    let mut env = StreamExecutionEnvironment::create_local_environment();
    env.set_parallelism(1);
    let at_once = WatermarkStrategy::<Number>::monotonous_timestamps();
    // Event time runs backwards after the first thousand: all of the second thousand is late.
    let backwards = at_once.timestamp(|number| {
        let number = i64::try_from(number.value()).unwrap();
        if number < 1_000 {
            10_000 + number
        } else {
            number
        }
    });
    let counted = env
        .from_source(SequenceSource::new(2_000), backwards, "backwards")
        .key_by(|number| number.value() % 10)
        .window(TumblingEventTimeWindows::of(ms(100)))
        .side_output_late_data(&LATE)
        .aggregate(Count);
    let late = collect(counted.get_side_output(&LATE), |number| number.value());
    let counted = counts(counted);
    env.execute("late").unwrap();
    let (late, counted) = (late.lock().unwrap(), counted.lock().unwrap());
    let in_time: u64 = counted.keys().map(|row| row.3).sum();
    assert_eq!(in_time + late.len() as u64, 2_000);
    // Watermarks leave with polls of 512 records: those of the poll that turns back may still be in time.
    assert!(late.len() > 400 && late.keys().all(|number| *number >= 1_000));
}

#[test]
fn what_makes_no_windows_is_refused_with_what_to_do() {
    fn refusal(build: impl FnOnce(DataStream<Number>)) -> String {
        let (env, stream) = numbers(1);
        build(stream);
        format!("{:#}", env.execute("refused").unwrap_err())
    }
    let keyed = |stream: DataStream<Number>| stream.key_by(|number| number.value());
    let text = refusal(|stream| {
        let empty = TumblingEventTimeWindows::of(Duration::ZERO);
        keyed(stream).window(empty).aggregate(Count).discard();
    });
    assert!(text.contains("size must be 1 ms or more"), "{text}");
    let text = refusal(|stream| {
        let sessions = EventTimeSessionWindows::with_gap(ms(10));
        let distance = |_: Row<'_, Number>, _: Row<'_, Number>| 0.0;
        let windows = keyed(stream).window(sessions);
        windows
            .trigger(DeltaTrigger::of(1.0, distance))
            .aggregate(Count)
            .discard();
    });
    assert!(text.contains("trigger given cannot"), "{text}");
}
