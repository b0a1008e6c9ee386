use proptest::prelude::*;

use super::*;
use crate::graph::stream_graph::Partitioner as P;
use crate::graph::testing::{graph, splits};

fn line() -> StreamGraph {
    graph(
        &["src", "map", "snk"],
        &[(0, 1, P::Forward), (1, 2, P::Hash)],
    )
}

fn auto(count: i32) -> StreamGraph {
    let mut graph = line();
    graph.nodes[0].auto_parallelism = true;
    graph.nodes[0].splits = splits(count);
    graph
}

#[test]
fn operator_beats_job_beats_one() {
    assert_eq!(resolve(&line(), None).unwrap().parallelism, [1, 1, 1]);
    let mut graph = line();
    graph.parallelism = 4;
    graph.nodes[2].parallelism = 2;
    let resolved = resolve(&graph, None).unwrap();
    assert_eq!(resolved.parallelism, [4, 4, 2]);
    assert_eq!(resolved.max_parallelism, [128, 128, 128]);
    assert!(resolved.warnings.is_empty());
}

#[test]
fn automatic_sources_take_what_divides_their_splits_evenly() {
    for (count, slots, expected) in [
        (8, None, 8),
        (8, Some(8), 8),
        (8, Some(100), 8),
        (8, Some(7), 4),
        (8, Some(3), 2),
        (12, Some(5), 4),
        (7, Some(6), 1),
    ] {
        let resolved = resolve(&auto(count), slots).unwrap();
        assert_eq!(
            resolved.parallelism, [expected; 3],
            "{count} splits, {slots:?} slots"
        );
        assert_eq!(resolved.partitioner[0], P::Forward);
        assert_eq!(
            resolved.warnings.is_empty(),
            i64::from(expected) == i64::from(count)
        );
        assert!(resolved.auto);
    }
    // A source that divides itself takes the default.
    let mut generator = auto(0);
    generator.parallelism = 3;
    assert_eq!(resolve(&generator, Some(8)).unwrap().parallelism, [3, 3, 3]);
}

#[test]
fn automatic_sources_leave_room_for_other_sharing_groups() {
    let mut graph = auto(8);
    graph.nodes[2].slot_sharing_group = "other".to_owned();
    // Four slots: two for the source's group, two for the sink that follows it.
    assert_eq!(resolve(&graph, Some(4)).unwrap().parallelism, [2, 2, 2]);
}

#[test]
fn a_stated_default_stays_and_forward_becomes_rebalance() {
    let mut graph = auto(8);
    graph.parallelism = 4;
    let resolved = resolve(&graph, None).unwrap();
    assert_eq!(resolved.parallelism, [8, 4, 4]);
    assert_eq!(resolved.partitioner[0], P::Rebalance);
}

#[test]
fn forward_between_stated_unequal_parallelism_is_refused() {
    let mut graph = line();
    graph.nodes[0].parallelism = 4;
    graph.nodes[1].parallelism = 2;
    let reason = resolve(&graph, None).unwrap_err().to_string();
    assert!(
        reason.contains("`src` (parallelism 4)") && reason.contains("`map` (parallelism 2)"),
        "{reason}"
    );
}

#[test]
fn too_many_subtasks_for_the_splits_are_a_warning_with_the_right_number() {
    let mut graph = line();
    graph.nodes[0].splits = splits(4);
    graph.parallelism = 6;
    assert_eq!(
        resolve(&graph, None).unwrap().warnings,
        [
            "source `src` has parallelism 6 but only 4 splits: 2 of its subtasks get none and stay idle; use parallelism 4"
        ]
    );
}

#[test]
fn derived_parallelism_above_the_stated_maximum_is_refused() {
    let mut graph = line();
    graph.parallelism = 8;
    graph.nodes[1].max_parallelism = 4;
    let reason = resolve(&graph, None).unwrap_err().to_string();
    assert_eq!(
        reason,
        "parallelism of operator `map` is 8, more than its max parallelism 4"
    );
}

proptest! {
    #[test]
    fn automatic_parallelism_divides_the_splits_and_fits_the_slots(count in 1i32..200, slots in 1u32..100) {
        let decided = resolve(&auto(count), Some(slots)).unwrap().parallelism[0];
        prop_assert!(decided <= slots && count.unsigned_abs().is_multiple_of(decided));
        let better = (decided + 1..=slots.min(count.unsigned_abs())).find(|&more| count.unsigned_abs().is_multiple_of(more));
        prop_assert_eq!(better, None);
    }
}
