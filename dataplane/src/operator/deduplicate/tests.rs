//! One row per key against a map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::operator::changelog::ChangelogMode;
use crate::operator::testing::{Table, Tested, Triple, fold};

fn tested(what: Deduplicate) -> Tested {
    Tested::new(DeduplicateOperator::new(what, |row: Row<'_, Triple>| {
        row.key()
    }))
}

#[test]
fn the_last_row_is_updated_and_an_equal_one_is_silent() {
    use RowKind::{Insert, UpdateAfter, UpdateBefore};
    for mode in [ChangelogMode::Retract, ChangelogMode::Upsert] {
        let what = Deduplicate::keep_last().options(ChangelogOptions::new().mode(mode));
        let mut last = tested(what);
        for (value, time) in [(1, 30), (1, 20), (2, 10)] {
            let row = Triple::new(9, value, 0);
            last.push(0, row, time, Insert).expect("keeps");
        }
        let mut expected = vec![
            (Insert, Triple::new(9, 1, 0), 30),
            (UpdateBefore, Triple::new(9, 1, 0), 10),
            (UpdateAfter, Triple::new(9, 2, 0), 10),
        ];
        if mode == ChangelogMode::Upsert {
            expected.remove(1);
        }
        assert_eq!(last.changes(), expected);
    }
}

#[test]
fn what_it_cannot_take_is_refused_with_what_to_do() {
    let row = Triple::new(1, 1, 0);
    let mut first = tested(Deduplicate::keep_first());
    let error = first
        .push(0, row, 0, RowKind::UpdateBefore)
        .expect_err("refused");
    assert!(error.to_string().contains("TopN::new(1)"), "{error}");
    let mut timed = tested(Deduplicate::keep_first().by_event_time());
    let error = timed
        .push(0, row, i64::MIN, RowKind::Insert)
        .expect_err("no time");
    assert!(error.to_string().contains("timestamp assigner"), "{error}");
}

proptest! {
    /// At every record the fold of the output has the row of each key that was asked for.
    #[test]
    fn the_fold_of_the_output_is_one_row_per_key_at_every_prefix(
        last in any::<bool>(),
        by_event_time in any::<bool>(),
        steps in prop::collection::vec((0u64..4, 0i64..3, 0i64..6), 0..150),
    ) {
        let what = if last { Deduplicate::keep_last() } else { Deduplicate::keep_first() };
        let mut tested = tested(if by_event_time { what.by_event_time() } else { what });
        let (mut model, mut table) = (BTreeMap::<u64, (i64, Triple)>::new(), Table::new());
        for (key, value, time) in steps {
            let row = Triple::new(key, value, 0);
            let from = tested.count();
            tested.push(0, row, time, RowKind::Insert).expect("keeps");
            let changes = tested.changes_from(from);
            if !last && !by_event_time {
                prop_assert!(changes.iter().all(|(kind, ..)| *kind == RowKind::Insert));
            }
            fold(&mut table, changes.into_iter().map(|(kind, row, _)| (kind, row)));
            let kept = model.entry(key).or_insert((time, row));
            let takes = match (last, by_event_time) {
                (true, true) => time >= kept.0,
                (true, false) => true,
                (false, true) => time < kept.0,
                (false, false) => false,
            };
            if takes {
                *kept = (time, row);
            }
            let expected: Table<Triple> = model.values().map(|(_, row)| (*row, 1)).collect();
            prop_assert_eq!(&table, &expected);
        }
    }
}
