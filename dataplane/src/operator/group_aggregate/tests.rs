//! Group aggregates against grouping the table that the input stands for.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::operator::changelog::ChangelogMode;
use crate::operator::testing::{Table, Tested, Triple, fold};

/// The sum of `a`, halved, so that some changes change nothing.
#[derive(Clone)]
struct HalfSum;

impl GroupAggregateFunction<Triple> for HalfSum {
    type Accumulator = i64;
    type Output = i64;
    fn create_accumulator(&self) -> i64 {
        0
    }
    fn accumulate(&self, row: Row<'_, Triple>, sum: &mut i64) {
        *sum += row.a();
    }
    fn retract(&self, row: Row<'_, Triple>, sum: &mut i64) -> Result<(), CannotRetract> {
        *sum -= row.a();
        Ok(())
    }
    fn result(&self, sum: &i64) -> i64 {
        sum.div_euclid(2)
    }
}

/// Cannot take rows back.
#[derive(Clone)]
struct Greatest;

impl GroupAggregateFunction<Triple> for Greatest {
    type Accumulator = i64;
    type Output = i64;
    fn create_accumulator(&self) -> i64 {
        i64::MIN
    }
    fn accumulate(&self, row: Row<'_, Triple>, greatest: &mut i64) {
        *greatest = row.a().max(*greatest);
    }
    fn result(&self, greatest: &i64) -> i64 {
        *greatest
    }
}

fn tested<A>(aggregate: A, options: ChangelogOptions) -> Tested
where
    A: GroupAggregateFunction<Triple, Output = i64>,
{
    Tested::new(GroupAggregate::new(
        |row: Row<'_, Triple>| row.key(),
        aggregate,
        |key: &u64, result: &i64, out: &mut Collector<'_, Triple>| {
            out.collect(Triple::new(*key, *result, 0));
        },
        options,
    ))
}

#[test]
fn a_group_comes_changes_and_goes() {
    use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    for mode in [ChangelogMode::Retract, ChangelogMode::Upsert] {
        let mut group = tested(HalfSum, ChangelogOptions::new().mode(mode));
        let steps = [
            // Retraction of nothing.
            (5, 1, Delete),
            (4, 2, Insert),
            // 2 and 2.5 are the same here.
            (1, 3, UpdateAfter),
            (7, 4, Insert),
            (7, 5, UpdateBefore),
            (1, 6, Delete),
            (4, 7, Delete),
        ];
        for (value, time, kind) in steps {
            let row = Triple::new(3, value, 0);
            group.push(0, row, time, kind).expect("aggregates");
        }
        let mut expected = vec![
            (Insert, Triple::new(3, 2, 0), 2),
            (UpdateBefore, Triple::new(3, 2, 0), 4),
            (UpdateAfter, Triple::new(3, 6, 0), 4),
            (UpdateBefore, Triple::new(3, 6, 0), 5),
            (UpdateAfter, Triple::new(3, 2, 0), 5),
            (Delete, Triple::new(3, 2, 0), 7),
        ];
        if mode == ChangelogMode::Upsert {
            expected.retain(|(kind, ..)| *kind != UpdateBefore);
        }
        assert_eq!(group.changes(), expected);
    }
}

#[test]
fn a_function_that_cannot_retract_says_so() {
    let mut group = tested(Greatest, ChangelogOptions::new());
    let row = Triple::new(3, 1, 0);
    group.push(0, row, 0, RowKind::Insert).expect("aggregates");
    let error = group.push(0, row, 0, RowKind::Delete).expect_err("refused");
    let text = error.to_string();
    assert!(
        text.contains("operator `tested`") && text.contains("`retract`"),
        "{text}"
    );
}

proptest! {
    /// At every record the fold of the output is the aggregate of the rows that are there.
    #[test]
    fn the_fold_of_the_output_is_the_grouped_table_at_every_prefix(
        upsert in any::<bool>(),
        steps in prop::collection::vec((0u64..5, -4i64..4, any::<bool>()), 0..200),
    ) {
        let mode = if upsert { ChangelogMode::Upsert } else { ChangelogMode::Retract };
        let mut group = tested(HalfSum, ChangelogOptions::new().mode(mode));
        let mut rows: Vec<(u64, i64)> = Vec::new();
        let (mut table, mut by_key) = (Table::new(), BTreeMap::new());
        for (key, value, adds) in steps {
            let kind = if adds {
                rows.push((key, value));
                RowKind::Insert
            } else if let Some(at) = rows.iter().position(|row| *row == (key, value)) {
                rows.swap_remove(at);
                RowKind::UpdateBefore
            } else {
                continue;
            };
            let from = group.count();
            group.push(0, Triple::new(key, value, 0), 0, kind).expect("aggregates");
            for (kind, row, _) in group.changes_from(from) {
                if upsert {
                    prop_assert_ne!(kind, RowKind::UpdateBefore);
                    if kind == RowKind::Delete {
                        prop_assert_eq!(by_key.remove(&row.key()), Some(row.a()));
                    } else {
                        let old = by_key.insert(row.key(), row.a());
                        prop_assert_eq!(old.is_some(), kind == RowKind::UpdateAfter);
                    }
                } else {
                    fold(&mut table, [(kind, row)]);
                }
            }
            if !upsert {
                prop_assert!(table.values().all(|count| *count == 1));
                by_key = table.keys().map(|row| (row.key(), row.a())).collect();
            }
            let mut sums = BTreeMap::new();
            for (key, value) in &rows {
                *sums.entry(*key).or_insert(0) += value;
            }
            let expected = sums.into_iter().map(|(key, sum)| (key, sum.div_euclid(2))).collect();
            prop_assert_eq!(&by_key, &expected);
        }
    }
}
