//! How streams fork, meet and spread: unions, connected streams, side outputs, partitioners.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ringflow::api::sequence::Number;
use ringflow::prelude::*;

pub(crate) type Seen = Arc<Mutex<BTreeMap<u64, u32>>>;

pub(crate) fn numbers(env: &StreamExecutionEnvironment, count: u64) -> DataStream<Number> {
    env.from_source(
        SequenceSource::new(count),
        WatermarkStrategy::no_watermarks(),
        "numbers",
    )
}

/// A local environment of `parallelism`.
pub(crate) fn environment(parallelism: u32) -> StreamExecutionEnvironment {
    let mut env = StreamExecutionEnvironment::create_local_environment();
    env.set_parallelism(parallelism);
    env
}

/// Counts each value of a stream.
pub(crate) fn count(stream: DataStream<Number>) -> Seen {
    let seen = Seen::default();
    let counted = Arc::clone(&seen);
    stream
        .filter(move |number| {
            *counted.lock().unwrap().entry(number.value()).or_default() += 1;
            true
        })
        .discard();
    seen
}

pub(crate) fn each_once(numbers: impl IntoIterator<Item = u64>) -> BTreeMap<u64, u32> {
    numbers.into_iter().map(|number| (number, 1)).collect()
}

#[test]
fn a_union_has_the_records_of_all_and_can_be_keyed() {
    for parallelism in [1, 2] {
        let env = environment(parallelism);
        let evens = numbers(&env, 1000).map(|n| Number::new(2 * n.value()));
        let odds = numbers(&env, 1000).map(|n| Number::new(2 * n.value() + 1));
        // A stream can be in a union twice.
        let union = evens.clone().union([odds, evens]);
        let first = union.clone().filter(|n| n.value() < 10);
        let greatest = union
            .key_by(|n| n.value() % 7)
            .reduce(|a, b| if a.value() > b.value() { a } else { b });
        let (first, greatest) = (count(first), count(greatest));
        let summary = env.execute("union").unwrap();
        assert_eq!(summary.records_out, 15 + 3000);
        let doubled = (0..10).map(|n| (n, if n % 2 == 0 { 2 } else { 1 }));
        assert_eq!(*first.lock().unwrap(), doubled.collect());
        let last = greatest.lock().unwrap().last_key_value().map(|(n, _)| *n);
        assert_eq!(last, Some(1999));
    }
}

#[test]
fn connected_streams_meet_in_one_operator_by_type() {
    for parallelism in [1, 2] {
        let env = environment(parallelism);
        let windows = numbers(&env, 500)
            .key_by(|n| n.value() % 10)
            .window(TumblingEventTimeWindows::of(
                std::time::Duration::from_millis(100),
            ))
            .aggregate(Count);
        let connected = numbers(&env, 300).connect(windows);
        let both = connected.flat_map(
            |number, out: &mut Collector<'_, Number>| out.collect_row(number),
            |count, out| out.collect(Number::new(1_000_000 + *count.value())),
        );
        let seen = count(both);
        env.execute("connected").unwrap();
        let mut expected = each_once(0..300);
        expected.insert(1_000_010, 50);
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}

#[test]
fn side_outputs_get_what_is_meant_for_them_alone() {
    const ODD: OutputTag<Number> = OutputTag::new("odd");
    const OTHER_TYPE: OutputTag<WindowResult<u64, u64>> = OutputTag::new("odd");
    let env = environment(2);
    let split = numbers(&env, 1000).flat_map(|n, out: &mut Collector<'_, Number>| {
        if n.value() % 2 == 0 {
            out.collect_row(n);
        } else {
            let mut odd = out.side(&ODD);
            odd.collect_row(n);
            out.side(&OutputTag::<Number>::new("nobody listens"))
                .collect_row(n);
        }
    });
    // Chained behind the splitter, and in a subtask of its own.
    let chained = count(split.get_side_output(&ODD));
    let apart = count(split.get_side_output(&ODD).rebalance());
    let other_type = split.get_side_output(&OTHER_TYPE);
    let other_type = count(other_type.map(|result| Number::new(*result.value())));
    let main = count(split);
    let summary = env.execute("side outputs").unwrap();
    assert_eq!(*main.lock().unwrap(), each_once((0..1000).step_by(2)));
    for side in [chained, apart] {
        assert_eq!(*side.lock().unwrap(), each_once((1..1000).step_by(2)));
    }
    assert!(
        other_type.lock().unwrap().is_empty(),
        "same name, other records"
    );
    assert_eq!(summary.records_out, 1500);
}

#[test]
fn partitioners_send_records_where_they_say() {
    let env = environment(2);
    // All to one subtask, which therefore sees them in order within each source subtask.
    let custom = count(
        numbers(&env, 500)
            .partition_custom(|n, subtasks| usize::try_from(n.value()).unwrap() % subtasks),
    );
    let rescaled = count(numbers(&env, 500).rescale());
    let everywhere = count(numbers(&env, 500).broadcast());
    let first = count(numbers(&env, 500).global());
    env.execute("partitioners").unwrap();
    for once in [custom, rescaled, first] {
        assert_eq!(*once.lock().unwrap(), each_once(0..500));
    }
    let twice: BTreeMap<u64, u32> = (0..500).map(|n| (n, 2)).collect();
    assert_eq!(*everywhere.lock().unwrap(), twice);
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let env = environment(2);
    let _ = count(numbers(&env, 10).partition_custom(|_, subtasks| subtasks));
    let error = env.execute("out of range").unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.contains("partition_custom") && text.contains("chose subtask 2 of 2"),
        "{text}"
    );

    let (one, other) = (environment(1), environment(1));
    numbers(&one, 10).union([numbers(&other, 10)]).discard();
    let text = format!("{:#}", one.execute("two").unwrap_err());
    assert!(text.contains("two environments"), "{text}");

    let env = environment(1);
    numbers(&env, 10)
        .union([numbers(&env, 10)])
        .name("both")
        .discard();
    let text = format!("{:#}", env.execute("named").unwrap_err());
    assert!(text.contains("not on a union"), "{text}");
}

#[test]
fn event_times_can_be_given_in_the_middle_of_a_stream() {
    for parallelism in [1, 2] {
        let env = environment(parallelism);
        let seconds = || {
            WatermarkStrategy::<Number>::bounded_out_of_orderness(std::time::Duration::from_secs(2))
                .timestamp(|n| 1000 * i64::try_from(n.value()).unwrap())
        };
        // The source's own times are 1000 times as dense: all would be in one window.
        let counts = numbers(&env, 1000)
            .set_parallelism(1)
            .rebalance()
            .assign_timestamps_and_watermarks(seconds())
            .key_by(|_| 0)
            .window(TumblingEventTimeWindows::of(
                std::time::Duration::from_secs(100),
            ))
            .aggregate(Count)
            .flat_map(|count, out: &mut Collector<'_, Number>| {
                out.collect(Number::new(*count.value()));
            });
        let seen = count(counts);
        env.execute("seconds").unwrap();
        assert_eq!(*seen.lock().unwrap(), BTreeMap::from([(100, 10)]));
    }
    let env = environment(1);
    let aligned = WatermarkStrategy::monotonous_timestamps()
        .alignment("group", std::time::Duration::from_secs(1));
    numbers(&env, 1)
        .assign_timestamps_and_watermarks(aligned)
        .discard();
    let refused = env.execute("aligned").unwrap_err().to_string();
    assert!(refused.contains("only sources can wait"), "{refused}");
}
