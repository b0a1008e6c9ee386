//! Process functions: state and timers by key, shared between inputs, broadcast, side outputs.

use std::collections::BTreeMap;

use ringflow::prelude::*;

use crate::streams::{count, each_once, environment, numbers};

/// Pairs each number of the first stream with that of the second of the same key, whichever comes first.
#[derive(Clone, Default)]
struct Pair {
    first: ValueState<u64>,
    second: ValueState<u64>,
}

impl Pair {
    fn meet(
        mine: ValueState<u64>,
        other: ValueState<u64>,
        number: Row<'_, Number>,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Number>,
    ) -> OperatorResult<()> {
        match other.value(context.state())? {
            Some(value) => {
                out.collect(Number::new(value + number.value()));
                other.clear(context.state())
            }
            None => mine.update(context.state(), &number.value()),
        }
    }
}

impl KeyedCoProcessFunction<u64, Number, Number, Number> for Pair {
    fn open(&mut self, context: &mut RuntimeContext<'_>) -> OperatorResult<()> {
        self.first = context.get_state(&ValueStateDescriptor::new("first"))?;
        self.second = context.get_state(&ValueStateDescriptor::new("second"))?;
        Ok(())
    }

    fn process_element1(
        &mut self,
        number: Row<'_, Number>,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Number>,
    ) -> OperatorResult<()> {
        Self::meet(self.first, self.second, number, context, out)
    }

    fn process_element2(
        &mut self,
        number: Row<'_, Number>,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Number>,
    ) -> OperatorResult<()> {
        Self::meet(self.second, self.first, number, context, out)
    }
}

#[test]
fn two_keyed_streams_share_state() {
    for parallelism in [1, 2] {
        let env = environment(parallelism);
        let second = numbers(&env, 500).key_by(|n| n.value());
        let pairs = numbers(&env, 1000)
            .key_by(|n| n.value())
            .connect(second)
            .process(Pair::default());
        let by_both = numbers(&env, 300)
            .connect(numbers(&env, 400))
            .key_by(|n| n.value(), |n| n.value() / 2)
            .process(Pair::default());
        let (pairs, by_both) = (count(pairs), count(by_both));
        env.execute("pairs").unwrap();
        assert_eq!(*pairs.lock().unwrap(), each_once((0..1000).step_by(2)));
        // Of each key of the second stream two numbers come: one of them meets the first stream's.
        assert_eq!(by_both.lock().unwrap().values().sum::<u32>(), 200);
    }
}

/// Passes numbers on for which no rule says otherwise.
#[derive(Clone, Default)]
struct Rules {
    forbidden: BroadcastState<u64, bool>,
    held: ListState<u64>,
}

impl KeyedBroadcastProcessFunction<u64, Number, Number, Number> for Rules {
    fn open(&mut self, context: &mut RuntimeContext<'_>) -> OperatorResult<()> {
        self.forbidden = context.get_broadcast_state(&MapStateDescriptor::new("forbidden"))?;
        self.held = context.get_list_state(&ListStateDescriptor::new("held"))?;
        Ok(())
    }

    fn process_element(
        &mut self,
        number: Row<'_, Number>,
        _broadcast: &mut BroadcastView<'_>,
        context: &mut KeyedContext<'_, u64>,
        _out: &mut Collector<'_, Number>,
    ) -> OperatorResult<()> {
        // The end of time comes when all rules are in.
        self.held.add(context.state(), &number.value())?;
        context.timer_service().register_event_time_timer(i64::MAX)
    }

    fn process_broadcast_element(
        &mut self,
        rule: Row<'_, Number>,
        broadcast: &mut BroadcastAccess<'_>,
        _out: &mut Collector<'_, Number>,
    ) -> OperatorResult<()> {
        self.forbidden.put(broadcast, &rule.value(), &true)
    }

    fn on_timer(
        &mut self,
        _timestamp: i64,
        broadcast: &mut BroadcastView<'_>,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Number>,
    ) -> OperatorResult<()> {
        for number in self.held.get(context.state())? {
            if self.forbidden.get(broadcast, &number)?.is_none() {
                out.collect(Number::new(number));
            }
        }
        Ok(())
    }
}

#[test]
fn broadcast_state_is_in_every_subtask() {
    for parallelism in [1, 2] {
        let env = environment(parallelism);
        let rules = numbers(&env, 100).map(|n| Number::new(2 * n.value()));
        let allowed = numbers(&env, 200)
            .key_by(|n| n.value() % 20)
            .connect_broadcast(rules)
            .process(Rules::default());
        let allowed = count(allowed);
        env.execute("rules").unwrap();
        assert_eq!(*allowed.lock().unwrap(), each_once((1..200).step_by(2)));
    }
}

const LARGE: OutputTag<Number> = OutputTag::new("large");

#[derive(Clone)]
struct Split;

impl ProcessFunction<Number, Number> for Split {
    fn process_element(
        &mut self,
        number: Row<'_, Number>,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Number>,
    ) -> OperatorResult<()> {
        assert_eq!(context.timestamp(), number.timestamp());
        if number.value() < 50 {
            out.collect_row(number);
        } else {
            out.side(&LARGE).collect_row(number);
        }
        Ok(())
    }
}

#[test]
fn a_process_function_has_side_outputs() {
    let env = environment(2);
    let small = numbers(&env, 100).process(Split);
    let large = count(small.get_side_output(&LARGE));
    let small = count(small);
    env.execute("split").unwrap();
    assert_eq!(*small.lock().unwrap(), each_once(0..50));
    assert_eq!(*large.lock().unwrap(), each_once(50..100));
}

/// Fires each number a little later, by the wall clock; registered twice and taken back at random, it fires once or never.
#[derive(Clone)]
struct Later;

impl KeyedProcessFunction<u64, Number, Number> for Later {
    fn process_element(
        &mut self,
        number: Row<'_, Number>,
        context: &mut KeyedContext<'_, u64>,
        _out: &mut Collector<'_, Number>,
    ) -> OperatorResult<()> {
        let mut timers = context.timer_service();
        let at = timers.current_processing_time() + 20;
        timers.register_processing_time_timer(at)?;
        timers.register_processing_time_timer(at)?;
        if number.value().is_multiple_of(3) {
            timers.delete_processing_time_timer(at)?;
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        timestamp: i64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Number>,
    ) -> OperatorResult<()> {
        assert!(context.timer_service().current_processing_time() >= timestamp);
        out.collect(Number::new(*context.current_key()));
        Ok(())
    }
}

#[test]
fn processing_time_timers_fire_once_while_the_job_runs() {
    let env = environment(1);
    // One number in a millisecond: the timers of the first 31 are due two seconds and a half before the last number comes. Its own
    // is taken back.
    let paced = env.from_source(
        SequenceSource::new(2_500).rate(1000),
        WatermarkStrategy::no_watermarks(),
        "numbers",
    );
    let first = paced.filter(|n| n.value() <= 30 || n.value() == 2_499);
    let fired = count(first.key_by(|n| n.value()).process(Later));
    env.execute("later").unwrap();
    let expected: BTreeMap<u64, u32> = (0..=30).filter(|n| n % 3 > 0).map(|n| (n, 1)).collect();
    assert_eq!(*fired.lock().unwrap(), expected);
}

#[derive(Clone, Default)]
struct Forgetful(ValueState<u64>);

impl KeyedProcessFunction<u64, Number, Number> for Forgetful {
    fn process_element(
        &mut self,
        _number: Row<'_, Number>,
        context: &mut KeyedContext<'_, u64>,
        _out: &mut Collector<'_, Number>,
    ) -> OperatorResult<()> {
        self.0.update(context.state(), &1)
    }
}

#[test]
fn state_that_was_not_registered_is_an_error_that_says_where_to() {
    let env = environment(1);
    numbers(&env, 1)
        .key_by(|n| n.value())
        .process(Forgetful::default())
        .discard();
    let text = format!("{:#}", env.execute("forgetful").unwrap_err());
    assert!(
        text.contains("KeyedProcess") && text.contains("in `open`"),
        "{text}"
    );
}

/// Gives out how many numbers its subtask has seen, whatever their keys: operator state belongs to none.
#[derive(Clone, Default)]
struct SeenHere(OperatorListState<u64>);

impl SeenHere {
    fn register(&mut self, context: &mut RuntimeContext<'_>) -> OperatorResult<()> {
        let seen = ListStateDescriptor::new("seen");
        self.0 = context.operator_state().get_list_state(&seen)?;
        Ok(())
    }

    fn see(&self, number: u64, lists: &mut OperatorLists) -> OperatorResult<Number> {
        self.0.add(lists, &number)?;
        Ok(Number::new(self.0.len(lists)? as u64))
    }
}

impl ProcessFunction<Number, Number> for SeenHere {
    fn open(&mut self, context: &mut RuntimeContext<'_>) -> OperatorResult<()> {
        let by_key = context.get_state(&ValueStateDescriptor::<u64>::new("by key"));
        assert!(by_key.unwrap_err().to_string().contains("key_by"));
        self.register(context)
    }

    fn process_element(
        &mut self,
        number: Row<'_, Number>,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Number>,
    ) -> OperatorResult<()> {
        out.collect(self.see(number.value(), context.operator_state())?);
        Ok(())
    }
}

impl KeyedProcessFunction<u64, Number, Number> for SeenHere {
    fn open(&mut self, context: &mut RuntimeContext<'_>) -> OperatorResult<()> {
        self.register(context)
    }

    fn process_element(
        &mut self,
        number: Row<'_, Number>,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Number>,
    ) -> OperatorResult<()> {
        out.collect(self.see(number.value(), context.operator_state())?);
        Ok(())
    }
}

#[test]
fn operator_state_belongs_to_a_subtask_and_to_no_key() {
    let env = environment(2);
    let seen = count(numbers(&env, 100).process(SeenHere::default()));
    env.execute("seen").unwrap();
    // Each of the two subtasks has half of the numbers.
    let twice: BTreeMap<u64, u32> = (1..=50).map(|n| (n, 2)).collect();
    assert_eq!(*seen.lock().unwrap(), twice);

    let env = environment(1);
    let keyed = numbers(&env, 100).key_by(|n| n.value());
    let seen = count(keyed.process(SeenHere::default()));
    env.execute("seen by key").unwrap();
    assert_eq!(*seen.lock().unwrap(), each_once(1..101));
}
