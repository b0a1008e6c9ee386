//! Which source subtask reads which split.
//!
//! Owns: the assignment. Invariant: every split goes to exactly one subtask, and the subtasks' counts differ by at most
//! one over all topics together.
//! Left out: splits found later, moving splits between running subtasks.

use crate::graph::stream_graph::SourceSplit;

/// Splits of each of `parallelism` subtasks: sorted by topic and partition, then dealt round robin.
pub(crate) fn assign(splits: &[SourceSplit], parallelism: u32) -> Vec<Vec<SourceSplit>> {
    let mut sorted = splits.to_vec();
    sorted.sort();
    let mut assigned = vec![Vec::new(); parallelism as usize];
    for (split, subtask) in sorted.into_iter().zip((0..parallelism as usize).cycle()) {
        assigned[subtask].push(split);
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_split_goes_to_one_subtask_and_counts_differ_by_at_most_one(
            topics in proptest::collection::vec(0i32..40, 0..6),
            parallelism in 1u32..50,
        ) {
            let splits: Vec<_> = topics
                .iter()
                .enumerate()
                .flat_map(|(topic, &count)| (0..count).map(move |partition| SourceSplit {
                    topic: format!("topic-{topic}"),
                    partition,
                }))
                .collect();
            let assigned = assign(&splits, parallelism);
            prop_assert_eq!(assigned.len(), parallelism as usize);
            let counts: Vec<usize> = assigned.iter().map(Vec::len).collect();
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
            let mut all: Vec<_> = assigned.into_iter().flatten().collect();
            all.sort();
            let mut expected = splits;
            expected.sort();
            prop_assert_eq!(all, expected);
        }
    }
}
