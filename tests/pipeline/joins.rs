//! Joins and operators on changelogs, as programs: their final tables against loops over all records.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringflow::api::sequence::Number;
use ringflow::prelude::*;

/// A table with duplicate rows: how often each is there.
type Table = BTreeMap<u64, i64>;

/// A local environment of `parallelism`.
fn environment(parallelism: u32) -> StreamExecutionEnvironment {
    let mut env = StreamExecutionEnvironment::create_local_environment();
    env.set_parallelism(parallelism);
    env
}

/// The numbers below `count`; number n is of n ms.
fn numbers(env: &StreamExecutionEnvironment, count: u64) -> DataStream<Number> {
    env.from_source(
        SequenceSource::new(count),
        WatermarkStrategy::monotonous_timestamps(),
        "numbers",
    )
}

/// The table that a changelog comes to.
fn fold(stream: DataStream<Number>) -> Arc<Mutex<Table>> {
    let table = Arc::new(Mutex::new(Table::new()));
    let folded = Arc::clone(&table);
    stream
        .filter(move |row| {
            let mut table = folded.lock().unwrap();
            *table.entry(row.value()).or_default() += if row.kind().is_addition() { 1 } else { -1 };
            true
        })
        .discard();
    table
}

/// What is left of a folded table.
fn rows(table: &Mutex<Table>) -> Table {
    let mut table = table.lock().unwrap().clone();
    assert!(table.values().all(|count| *count >= 0), "{table:?}");
    table.retain(|_, count| *count > 0);
    table
}

fn table_of(rows: impl IntoIterator<Item = u64>) -> Table {
    let mut table = Table::new();
    for row in rows {
        *table.entry(row).or_default() += 1;
    }
    table
}

/// Two numbers as one.
const fn pair(left: u64, right: u64) -> u64 {
    left * 1_000_000 + right
}

const NOBODY: u64 = 999_999;

/// Sums numbers; takes them back too.
#[derive(Clone)]
struct Sum;

impl GroupAggregateFunction<Number> for Sum {
    type Accumulator = u64;
    type Output = u64;
    fn create_accumulator(&self) -> u64 {
        0
    }
    fn accumulate(&self, number: Row<'_, Number>, sum: &mut u64) {
        *sum += number.value();
    }
    fn retract(&self, number: Row<'_, Number>, sum: &mut u64) -> Result<(), CannotRetract> {
        *sum -= number.value();
        Ok(())
    }
    fn result(&self, sum: &u64) -> u64 {
        *sum
    }
}

/// The greatest number; takes none back.
#[derive(Clone)]
struct Greatest;

impl GroupAggregateFunction<Number> for Greatest {
    type Accumulator = u64;
    type Output = u64;
    fn create_accumulator(&self) -> u64 {
        0
    }
    fn accumulate(&self, number: Row<'_, Number>, greatest: &mut u64) {
        *greatest = number.value().max(*greatest);
    }
    fn result(&self, greatest: &u64) -> u64 {
        *greatest
    }
}

#[test]
fn regular_joins_of_every_type_end_in_the_join() {
    for parallelism in [1, 2] {
        let env = environment(parallelism);
        let sides = || {
            numbers(&env, 60)
                .join(numbers(&env, 100).filter(|n| n.value() >= 10))
                .where_key(|left| left.value() / 2)
                .equal_to(|right| right.value())
        };
        let inner = fold(
            sides().apply(|left, right, out: &mut Collector<'_, Number>| {
                out.collect(Number::new(pair(left.value(), right.value())));
            }),
        );
        let left = fold(
            sides().left_outer(|left, right, out: &mut Collector<'_, Number>| {
                let right = right.map_or(NOBODY, |right| right.value());
                out.collect(Number::new(pair(left.value(), right)));
            }),
        );
        let right = fold(
            sides().right_outer(|left, right, out: &mut Collector<'_, Number>| {
                let left = left.map_or(NOBODY, |left| left.value());
                out.collect(Number::new(pair(left, right.value())));
            }),
        );
        let ttl = StateTtlConfig::of(Duration::from_secs(3_600));
        let full = fold(sides().state_ttl(ttl).full_outer(
            |left, right, out: &mut Collector<'_, Number>| {
                let left = left.map_or(NOBODY, |left| left.value());
                let right = right.map_or(NOBODY, |right| right.value());
                out.collect(Number::new(pair(left, right)));
            },
        ));
        env.execute("regular joins").unwrap();
        // Left 2 r and 2 r + 1 meet right r, which is there for 10 and above.
        let matched = || (20..60).map(|left| pair(left, left / 2));
        let alone = || (0..20).map(|left| pair(left, NOBODY));
        let others = || (30..100).map(|right| pair(NOBODY, right));
        assert_eq!(rows(&inner), table_of(matched()));
        assert_eq!(rows(&left), table_of(matched().chain(alone())));
        assert_eq!(rows(&right), table_of(matched().chain(others())));
        assert_eq!(
            rows(&full),
            table_of(matched().chain(alone()).chain(others()))
        );
    }
}

#[test]
fn retractions_pass_through_aggregates_and_joins() {
    for parallelism in [1, 2] {
        let env = environment(parallelism);
        // Sums by last digit, which are updated 99 times; each meets the digit's ten names; their sum is one number.
        let sums = || {
            numbers(&env, 1000)
                .key_by(|n| n.value() % 10)
                .group_aggregate(Sum, |digit, sum, out: &mut Collector<'_, Number>| {
                    out.collect(Number::new(pair(*digit, *sum)));
                })
        };
        let joined = || {
            sums()
                .join(numbers(&env, 100))
                .where_key(|sum| sum.value() / 1_000_000)
                .equal_to(|name| name.value() / 10)
                .apply(|sum, name, out: &mut Collector<'_, Number>| {
                    out.collect(Number::new(sum.value() % 1_000_000 + name.value()));
                })
        };
        let total = joined()
            .key_by(|_| 0u64)
            .group_aggregate(Sum, |_, total, out: &mut Collector<'_, Number>| {
                out.collect(Number::new(*total))
            });
        let greatest_two = joined()
            .key_by(|_| 0u64)
            .top_n(TopN::new(2).retractable(), |n| std::cmp::Reverse(n.value()));
        let (joined, total, greatest_two) = (fold(joined()), fold(total), fold(greatest_two));
        env.execute("retractions").unwrap();
        let sum = |digit: u64| (0..1000).filter(|n| n % 10 == digit).sum::<u64>();
        let expected: Vec<u64> = (0..100).map(|name| sum(name / 10) + name).collect();
        assert_eq!(rows(&total), table_of([expected.iter().sum()]));
        assert_eq!(rows(&greatest_two), table_of([expected[99], expected[98]]));
        assert_eq!(rows(&joined), table_of(expected));
    }
}

#[test]
fn updates_that_cannot_be_taken_back_end_the_job_with_what_to_do() {
    let text = |wrong: &dyn Fn(DataStream<Number>)| {
        let env = environment(1);
        let changes = numbers(&env, 10)
            .key_by(|n| n.value() % 2)
            .group_aggregate(Sum, |_, sum, out: &mut Collector<'_, Number>| {
                out.collect(Number::new(*sum))
            });
        wrong(changes);
        format!("{:#}", env.execute("wrong").unwrap_err())
    };
    let greatest = text(&|changes| {
        changes
            .key_by(|_| 0u64)
            .group_aggregate(Greatest, |_, greatest, out: &mut Collector<'_, Number>| {
                out.collect(Number::new(*greatest));
            })
            .discard();
    });
    assert!(greatest.contains("`retract`"), "{greatest}");
    let top = text(&|changes| {
        changes.key_by(|_| 0u64).top_n(1, |n| n.value()).discard();
    });
    assert!(top.contains(".retractable()"), "{top}");
    let first = text(&|changes| {
        let keyed = changes.key_by(|_| 0u64);
        keyed.deduplicate(Deduplicate::keep_first()).discard();
    });
    assert!(first.contains("`deduplicate`"), "{first}");
}

#[test]
fn top_n_and_deduplicate_end_in_what_sorting_gives() {
    for parallelism in [1, 2] {
        let env = environment(parallelism);
        // No order that the source has: 37 is prime to 1000.
        let scattered = || {
            numbers(&env, 1000)
                .map(|n| Number::new(n.value() * 37 % 1000))
                .key_by(|n| n.value() % 4)
        };
        let top = fold(scattered().top_n(3, |n| std::cmp::Reverse(n.value())));
        let ranked = fold(scattered().top_n_with_rank(
            3,
            |n| n.value(),
            |n, rank, out: &mut Collector<'_, Number>| {
                out.collect(Number::new(pair(rank, n.value())));
            },
        ));
        let upsert = ChangelogOptions::new().mode(ChangelogMode::Upsert);
        let seen_before = Arc::new(Mutex::new(false));
        let before = Arc::clone(&seen_before);
        scattered()
            .top_n(TopN::new(1).options(upsert), |n| n.value())
            .filter(move |n| {
                *before.lock().unwrap() |= n.kind() == RowKind::UpdateBefore;
                true
            })
            .discard();
        let first = Deduplicate::keep_first().by_event_time();
        let last = Deduplicate::keep_last().by_event_time();
        let first = fold(scattered().deduplicate(first));
        let last = fold(scattered().deduplicate(last));
        let by_arrival = fold(scattered().deduplicate(Deduplicate::keep_first()));
        env.execute("top").unwrap();
        assert_eq!(rows(&top), table_of((988..1000).collect::<Vec<_>>()));
        let expected = (0..12).map(|n| pair(1 + n / 4, n));
        assert_eq!(rows(&ranked), table_of(expected));
        assert!(!*seen_before.lock().unwrap(), "-U was not asked for");
        // Numbers keep the time of the one they were made of: 0, 37, 74, 111 come first, and 999 x 37 and so on last.
        let by_time = |times: std::ops::Range<u64>| table_of(times.map(|time| time * 37 % 1000));
        assert_eq!(rows(&first), by_time(0..4));
        assert_eq!(rows(&last), by_time(996..1000));
        assert_eq!(rows(&by_arrival).len(), 4);
    }
}

#[test]
fn interval_joins_find_all_pairs_within_their_bounds() {
    for parallelism in [1, 2] {
        let env = environment(parallelism);
        let sides = || {
            let left = numbers(&env, 500).key_by(|n| n.value() % 3);
            let right = numbers(&env, 400).key_by(|n| n.value() % 3);
            left.interval_join(right)
        };
        let within = fold(sides().between(-4, 7).process(
            |left, right, context, out: &mut Collector<'_, Number>| {
                assert_eq!(context.timestamp(), left.timestamp().max(right.timestamp()));
                out.collect(Number::new(pair(left.value(), right.value())));
            },
        ));
        let exclusive = fold(
            sides()
                .between(-3, 3)
                .lower_bound_exclusive()
                .upper_bound_exclusive()
                .process(|left, right, _, out: &mut Collector<'_, Number>| {
                    out.collect(Number::new(pair(left.value(), right.value())));
                }),
        );
        env.execute("intervals").unwrap();
        let pairs = |lower: i64, upper: i64| {
            let all = (0..500i64).flat_map(|left| (0..400i64).map(move |right| (left, right)));
            table_of(
                all.filter(|(left, right)| {
                    left % 3 == right % 3 && (lower..=upper).contains(&(right - left))
                })
                .map(|(left, right)| pair(left.unsigned_abs(), right.unsigned_abs())),
            )
        };
        assert_eq!(rows(&within), pairs(-4, 7));
        assert_eq!(rows(&exclusive), pairs(-2, 2));
    }
}

#[test]
fn late_records_of_an_interval_join_go_where_they_are_asked_to() {
    const LATE: OutputTag<Number> = OutputTag::new("late");
    let env = environment(1);
    // Times go back by 500 in the middle, behind the watermark.
    let jumping = env.from_source(
        SequenceSource::new(1000),
        WatermarkStrategy::<Number>::monotonous_timestamps().timestamp(|n| {
            i64::try_from(if n.value() < 900 {
                n.value()
            } else {
                n.value() - 800
            })
            .unwrap()
        }),
        "jumping",
    );
    let on_time = jumping.clone().filter(|n| n.value() < 900);
    let joined = jumping
        .key_by(|_| 0u64)
        .interval_join(on_time.key_by(|_| 0u64))
        .between(0, 0)
        .side_output_left_late_data(LATE)
        .process(|left, _, _, out: &mut Collector<'_, Number>| out.collect_row(left));
    let late = fold(joined.get_side_output(&LATE));
    let joined = fold(joined);
    env.execute("late").unwrap();
    let (late, joined) = (rows(&late), rows(&joined));
    // What is late depends on when watermarks were sent; nothing is lost, and what is on time is never late.
    assert!(late.keys().all(|n| *n >= 900), "{late:?}");
    assert!((0..900).all(|n| joined.contains_key(&n)));
    assert!((900..1000).all(|n| joined.contains_key(&n) != late.contains_key(&n)));
}

#[test]
fn windows_bring_records_together_in_pairs_and_groups() {
    for parallelism in [1, 2] {
        let env = environment(parallelism);
        let joined = fold(
            numbers(&env, 100)
                .join(numbers(&env, 70))
                .where_key(|n| n.value() % 5)
                .equal_to(|n| n.value() % 5)
                .window(SlidingEventTimeWindows::of(
                    Duration::from_millis(20),
                    Duration::from_millis(10),
                ))
                .apply(|left, right, out: &mut Collector<'_, Number>| {
                    out.collect(Number::new(pair(left.value(), right.value())));
                }),
        );
        let grouped = fold(
            numbers(&env, 100)
                .co_group(numbers(&env, 70))
                .where_key(|n| n.value() % 5)
                .equal_to(|n| n.value() % 5)
                .window(TumblingEventTimeWindows::of(Duration::from_millis(10)))
                .apply(
                    |key, window, left, right, out: &mut Collector<'_, Number>| {
                        assert!(left.iter().all(|n| n.value() % 5 == *key));
                        let sides = 10 * left.len() as u64 + right.len() as u64;
                        let start = window.start().unsigned_abs();
                        out.collect(Number::new(pair(start * 10 + key, sides)));
                    },
                ),
        );
        env.execute("windows").unwrap();
        let mut pairs = Vec::new();
        for start in (-10i64..100).step_by(10) {
            for left in start.max(0)..(start + 20).min(100) {
                let partners = (start.max(0)..(start + 20).min(70)).filter(|n| n % 5 == left % 5);
                pairs.extend(partners.map(|right| pair(left.unsigned_abs(), right.unsigned_abs())));
            }
        }
        assert_eq!(rows(&joined), table_of(pairs));
        let groups = (0..100).step_by(10).flat_map(|start| {
            let sides = if start < 70 { 22 } else { 20 };
            (0..5).map(move |key| pair(start * 10 + key, sides))
        });
        assert_eq!(rows(&grouped), table_of(groups));
    }
}

#[test]
fn lookups_read_a_file_and_name_its_bad_line() {
    let path = std::env::temp_dir().join(format!("ringflow-lookup-{}.csv", std::process::id()));
    let text: String = (0..50).map(|n| format!("{n},{}\n", n * n)).collect();
    std::fs::write(&path, &text).unwrap();
    for parallelism in [1, 2] {
        let env = environment(parallelism);
        let table = LookupTable::<u64, u64>::csv(&path);
        let inner = fold(numbers(&env, 100).lookup_join(
            table.clone(),
            |n| n.value(),
            |_, square, out: &mut Collector<'_, Number>| out.collect(Number::new(*square)),
        ));
        let left = fold(numbers(&env, 100).left_lookup_join(
            table,
            |n| n.value(),
            |_, square, out: &mut Collector<'_, Number>| {
                out.collect(Number::new(*square.unwrap_or(&NOBODY)));
            },
        ));
        env.execute("lookup").unwrap();
        let squares = || (0..50).map(|n| n * n);
        assert_eq!(rows(&inner), table_of(squares()));
        let nobody = std::iter::repeat_n(NOBODY, 50);
        assert_eq!(rows(&left), table_of(squares().chain(nobody)));
    }
    std::fs::write(&path, text + "fifty,1\n").unwrap();
    let env = environment(1);
    let table = LookupTable::<u64, u64>::csv(&path);
    numbers(&env, 10)
        .lookup_join(table, |n| n.value(), |n, _, out| out.collect_row(n))
        .discard();
    let error = format!("{:#}", env.execute("bad line").unwrap_err());
    std::fs::remove_file(&path).unwrap();
    assert!(
        error.contains("line 51") && error.contains("`fifty`"),
        "{error}"
    );
}

#[test]
fn what_joins_or_ranks_nothing_is_refused_before_it_runs() {
    let refused = |build: &dyn Fn(DataStream<Number>, DataStream<Number>)| {
        let env = environment(1);
        build(numbers(&env, 1), numbers(&env, 1));
        format!("{:#}", env.execute("refused").unwrap_err())
    };
    let none = refused(&|left, _| {
        left.key_by(|n| n.value()).top_n(0, |n| n.value()).discard();
    });
    assert!(none.contains("1 or more"), "{none}");
    let bounds = refused(&|left, right| {
        let (left, right) = (left.key_by(|n| n.value()), right.key_by(|n| n.value()));
        left.interval_join(right)
            .between(3, 4)
            .lower_bound_exclusive()
            .upper_bound_exclusive()
            .process(|left, _, _, out: &mut Collector<'_, Number>| out.collect_row(left))
            .discard();
    });
    assert!(bounds.contains("joins nothing"), "{bounds}");
    let ttl = refused(&|left, right| {
        left.join(right)
            .where_key(|n| n.value())
            .equal_to(|n| n.value())
            .state_ttl(StateTtlConfig::of(Duration::from_secs(1)))
            .window(TumblingEventTimeWindows::of(Duration::from_secs(1)))
            .apply(|left, _, out: &mut Collector<'_, Number>| out.collect_row(left))
            .discard();
    });
    assert!(ttl.contains("state_ttl"), "{ttl}");
    let sessions = refused(&|left, right| {
        left.join(right)
            .where_key(|n| n.value())
            .equal_to(|n| n.value())
            .window(EventTimeSessionWindows::with_gap(Duration::from_secs(1)))
            .apply(|left, _, out: &mut Collector<'_, Number>| out.collect_row(left))
            .discard();
    });
    assert!(sessions.contains("TumblingEventTimeWindows"), "{sessions}");
}
