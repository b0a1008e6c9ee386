//! Joins against nested loops over the tables that the inputs stand for.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::operator::testing::{Table, Tested, Triple, fold};

const NOBODY: i64 = -1;

fn tested(join_type: JoinType, ttl: Option<StateTtlConfig>) -> Tested {
    Tested::new(Join::new(
        join_type,
        |left: Row<'_, Triple>| left.key(),
        |right: Row<'_, Triple>| right.key(),
        |left: Option<Row<'_, Triple>>,
         right: Option<Row<'_, Triple>>,
         out: &mut Collector<'_, Triple>| {
            let key = [left.map(|row| row.key()), right.map(|row| row.key())];
            let key = key.into_iter().flatten().next().unwrap_or(0);
            let value = |row: Option<Row<'_, Triple>>| row.map_or(NOBODY, |row| row.a());
            out.collect(Triple::new(key, value(left), value(right)));
        },
        ttl,
    ))
}

/// The join of two tables of (key, value).
fn nested_loops(join_type: JoinType, left: &[(u64, i64)], right: &[(u64, i64)]) -> Table<Triple> {
    let mut joined = Table::new();
    let mut add = |row| *joined.entry(row).or_insert(0) += 1;
    for (key, value) in left {
        let partners: Vec<_> = right.iter().filter(|(other, _)| other == key).collect();
        for (_, partner) in &partners {
            add(Triple::new(*key, *value, *partner));
        }
        if partners.is_empty() && join_type.keeps_left() {
            add(Triple::new(*key, *value, NOBODY));
        }
    }
    for (key, value) in right {
        if join_type.keeps_right() && left.iter().all(|(other, _)| other != key) {
            add(Triple::new(*key, NOBODY, *value));
        }
    }
    joined
}

#[test]
fn results_carry_the_kind_of_what_made_them_and_the_later_time() {
    use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    let mut join = tested(JoinType::Inner, None);
    let row = |value| Triple::new(7, value, 0);
    let steps = [
        (0, 1, 50, Insert),
        (1, 2, 40, Insert),
        (1, 2, 40, UpdateBefore),
        (1, 3, 60, UpdateAfter),
        (0, 1, 50, Delete),
        (0, 9, 50, Delete),
    ];
    for (input, value, time, kind) in steps {
        join.push(input, row(value), time, kind).expect("joins");
    }
    let expected = [
        (Insert, Triple::new(7, 1, 2), 50),
        (UpdateBefore, Triple::new(7, 1, 2), 50),
        (UpdateAfter, Triple::new(7, 1, 3), 60),
        (Delete, Triple::new(7, 1, 3), 60),
    ];
    assert_eq!(join.changes(), expected);
}

#[test]
fn expired_rows_have_no_partners_any_more() {
    let ttl = StateTtlConfig::of(Duration::from_millis(1));
    let mut join = tested(JoinType::Inner, Some(ttl));
    let deadline = crate::runtime::clock::Clock::system();
    let row = |value| Triple::new(7, value, 0);
    join.push(0, row(1), 0, RowKind::Insert).expect("joins");
    let from = deadline.wall_ns();
    while deadline.wall_ns() < from + 3_000_000 {
        std::hint::spin_loop();
    }
    join.push(1, row(2), 0, RowKind::Insert).expect("joins");
    assert_eq!(join.changes(), []);
    let mut join = tested(
        JoinType::Inner,
        Some(StateTtlConfig::of(Duration::from_secs(3_600))),
    );
    join.push(0, row(1), 0, RowKind::Insert).expect("joins");
    join.push(1, row(2), 0, RowKind::Insert).expect("joins");
    join.push(0, row(1), 0, RowKind::Delete).expect("joins");
    assert_eq!(join.changes().len(), 2);
}

#[test]
fn a_record_without_an_input_is_refused() {
    let mut join = tested(JoinType::Inner, None);
    let record = RecordRef {
        bytes: &[0; 24],
        timestamp: crate::record::EventTime(0),
        key_hash: 0,
        kind: RowKind::Insert,
        origin_ns: 0,
    };
    let error = join.chain.on_record(&record).expect_err("no input");
    assert!(error.to_string().contains("two inputs"), "{error}");
}

proptest! {
    /// At every record the fold of the output is the join of what the inputs stand for.
    #[test]
    fn the_fold_of_the_output_is_the_join_at_every_prefix(
        join_type in prop::sample::select(vec![
            JoinType::Inner, JoinType::LeftOuter, JoinType::RightOuter, JoinType::FullOuter,
        ]),
        steps in prop::collection::vec((any::<bool>(), 0u64..3, 0i64..4, 0u8..4), 0..120),
    ) {
        let mut join = tested(join_type, None);
        let mut sides: [Vec<(u64, i64)>; 2] = [Vec::new(), Vec::new()];
        let mut table = Table::new();
        for (right, key, value, kind) in steps {
            let (side, kind) = (&mut sides[usize::from(right)], RowKind::of(kind));
            if kind.is_addition() {
                side.push((key, value));
            } else if let Some(at) = side.iter().position(|row| *row == (key, value)) {
                side.remove(at);
            }
            let from = join.count();
            join.push(u8::from(right), Triple::new(key, value, 0), 0, kind).expect("joins");
            let changes = join.changes_from(from);
            if join_type == JoinType::Inner {
                prop_assert!(changes.iter().all(|(made, ..)| *made == kind));
            }
            fold(&mut table, changes.into_iter().map(|(kind, row, _)| (kind, row)));
            prop_assert_eq!(&table, &nested_loops(join_type, &sides[0], &sides[1]));
        }
    }
}
