//! The first rows of each key against sorting all of them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::operator::changelog::ChangelogMode;
use crate::operator::testing::{Table, Tested, Triple, fold};

/// Sorts by `a`; sends rows as they are, or with the rank in the hundreds of `b`.
fn tested(top: TopN, ranked: bool) -> Tested {
    Tested::new(TopNOperator::new(
        top,
        ranked,
        |row: Row<'_, Triple>| row.key(),
        |row: Row<'_, Triple>| row.a(),
        move |row: Row<'_, Triple>, rank: u64, out: &mut Collector<'_, Triple>| {
            let rank = i64::try_from(rank).expect("small");
            let mark = if ranked { 100 * rank } else { 0 };
            out.collect(Triple::new(row.key(), row.a(), row.b() + mark));
        },
    ))
}

/// The first rows: those of a key sorted, of equal ones the earlier first.
fn sorted(rows: &[Triple], count: usize, ranked: bool) -> Table<Triple> {
    let mut keys: BTreeMap<u64, Vec<Triple>> = BTreeMap::new();
    for row in rows {
        keys.entry(row.key()).or_default().push(*row);
    }
    let mut table = Table::new();
    for rows in keys.values_mut() {
        rows.sort_by_key(Triple::a);
        for (row, rank) in rows.iter().take(count).zip(1..) {
            let mark = if ranked { 100 * rank } else { 0 };
            *table
                .entry(Triple::new(row.key(), row.a(), row.b() + mark))
                .or_insert(0) += 1;
        }
    }
    table
}

#[test]
fn the_first_row_is_replaced_in_place() {
    use RowKind::{Insert, UpdateAfter, UpdateBefore};
    for mode in [ChangelogMode::Retract, ChangelogMode::Upsert] {
        let options = ChangelogOptions::new().mode(mode);
        let mut top = tested(TopN::new(1).options(options), false);
        for (value, mark, time) in [(5, 1, 10), (5, 2, 20), (7, 3, 30), (4, 4, 40)] {
            let row = Triple::new(9, value, mark);
            top.push(0, row, time, Insert).expect("ranks");
        }
        let mut expected = vec![
            (Insert, Triple::new(9, 5, 1), 10),
            (UpdateBefore, Triple::new(9, 5, 1), 40),
            (UpdateAfter, Triple::new(9, 4, 4), 40),
        ];
        if mode == ChangelogMode::Upsert {
            expected.remove(1);
        }
        assert_eq!(top.changes(), expected);
    }
}

#[test]
fn only_rows_whose_rank_changes_are_sent_again() {
    use RowKind::{Insert, UpdateAfter, UpdateBefore};
    let mut top = tested(TopN::new(3), true);
    for value in [10, 30, 20, 40] {
        let row = Triple::new(1, value, 0);
        top.push(0, row, 0, Insert).expect("ranks");
    }
    let row = |value, rank: i64| Triple::new(1, value, 100 * rank);
    let expected = [
        (Insert, row(10, 1), 0),
        (Insert, row(30, 2), 0),
        (UpdateBefore, row(30, 2), 0),
        (UpdateAfter, row(20, 2), 0),
        (Insert, row(30, 3), 0),
    ];
    assert_eq!(top.changes(), expected);
}

#[test]
fn what_was_not_kept_cannot_be_taken_back() {
    let mut top = tested(TopN::new(1), false);
    let row = Triple::new(1, 1, 0);
    let error = top.push(0, row, 0, RowKind::Delete).expect_err("refused");
    assert!(error.to_string().contains(".retractable()"), "{error}");
    assert!(TopN::new(0).checked().is_err());
}

proptest! {
    /// At every record the fold of the output is the first rows of what is there.
    #[test]
    fn the_fold_of_the_output_is_the_first_rows_at_every_prefix(
        count in 1usize..5,
        ranked in any::<bool>(),
        retractable in any::<bool>(),
        steps in prop::collection::vec((0u64..3, 0i64..5, 0i64..2, 0u8..5, any::<prop::sample::Index>()), 0..150),
    ) {
        let top = TopN::new(count);
        let mut top = tested(if retractable { top.retractable() } else { top }, ranked);
        let (mut rows, mut table) = (Vec::<Triple>::new(), Table::new());
        for (key, a, b, step, which) in steps {
            let from = top.count();
            if retractable && step < 2 && !rows.is_empty() {
                // Of equal rows it does not matter which one goes, but for the order of ties: the earliest does.
                let row = rows[which.index(rows.len())];
                rows.remove(rows.iter().position(|there| *there == row).expect("is there"));
                top.push(0, row, 0, RowKind::UpdateBefore).expect("ranks");
            } else {
                let row = Triple::new(key, a, b);
                rows.push(row);
                top.push(0, row, 0, RowKind::Insert).expect("ranks");
            }
            let changes = top.changes_from(from);
            fold(&mut table, changes.into_iter().map(|(kind, row, _)| (kind, row)));
            prop_assert_eq!(&table, &sorted(&rows, count, ranked));
        }
    }
}
