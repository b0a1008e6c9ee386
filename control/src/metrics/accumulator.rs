//! Named values of a job, merged from the last reports of its attempts.
//!
//! Owns: the merge. Invariant: the result does not depend on the order of the reports; bounded by
//! `limits::ACCUMULATORS_MAX` names and `limits::ACCUMULATOR_ROWS_MAX` rows each.
//! Left out: values while attempts run.

use std::collections::BTreeMap;

use crate::event::{Accumulator, AccumulatorKind, AccumulatorRow};
use crate::limits;

/// All accumulators of one job, by name.
#[derive(Debug, Default)]
pub(crate) struct JobAccumulators(BTreeMap<String, Accumulator>);

/// A report that cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AccumulatorError {
    #[error("more than {} accumulators in one job", limits::ACCUMULATORS_MAX)]
    TooMany,
    #[error("accumulator name or text too long")]
    TooLong,
    #[error("accumulator `{0}` is of different kinds in different subtasks")]
    KindsDiffer(String),
}

impl JobAccumulators {
    /// Merges the value of one attempt.
    ///
    /// # Errors
    /// It does not fit: ignore it, log it.
    pub(crate) fn merge(&mut self, mut reported: Accumulator) -> Result<(), AccumulatorError> {
        check(&reported)?;
        let Some(merged) = self.0.get_mut(&reported.name) else {
            if self.0.len() >= limits::ACCUMULATORS_MAX {
                return Err(AccumulatorError::TooMany);
            }
            keep_top(&mut reported);
            self.0.insert(reported.name.clone(), reported);
            return Ok(());
        };
        if merged.kind != reported.kind {
            return Err(AccumulatorError::KindsDiffer(reported.name));
        }
        match merged.kind {
            AccumulatorKind::Sum => merged.value = merged.value.wrapping_add(reported.value),
            AccumulatorKind::Max => merged.value = merged.value.max(reported.value),
            AccumulatorKind::Min => merged.value = merged.value.min(reported.value),
            AccumulatorKind::TopRows => {
                merged.limit = merged.limit.max(reported.limit);
                merged.rows.append(&mut reported.rows);
                keep_top(merged);
            }
        }
        Ok(())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Accumulator> {
        self.0.values()
    }
}

fn check(reported: &Accumulator) -> Result<(), AccumulatorError> {
    let long_text = |row: &AccumulatorRow| row.text.len() > limits::ACCUMULATOR_TEXT_BYTES_MAX;
    if reported.name.len() > limits::NAME_BYTES_MAX || reported.rows.iter().any(long_text) {
        return Err(AccumulatorError::TooLong);
    }
    Ok(())
}

fn keep_top(accumulator: &mut Accumulator) {
    let limit = (accumulator.limit as usize).min(limits::ACCUMULATOR_ROWS_MAX);
    accumulator
        .rows
        .sort_by(|a, b| b.order.cmp(&a.order).then_with(|| a.text.cmp(&b.text)));
    accumulator.rows.truncate(limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(kind: AccumulatorKind, value: u64) -> Accumulator {
        Accumulator {
            name: "a".to_owned(),
            kind,
            value,
            limit: 0,
            rows: Vec::new(),
        }
    }

    #[test]
    fn values_merge_by_their_kind() {
        for (kind, values, expected) in [
            (AccumulatorKind::Sum, [u64::MAX, 2], 1),
            (AccumulatorKind::Max, [3, 9], 9),
            (AccumulatorKind::Min, [3, 9], 3),
        ] {
            let mut all = JobAccumulators::default();
            for number in values {
                all.merge(value(kind, number)).unwrap();
            }
            assert_eq!(all.iter().next().unwrap().value, expected);
            let other = if kind == AccumulatorKind::Sum {
                AccumulatorKind::Max
            } else {
                AccumulatorKind::Sum
            };
            assert!(matches!(
                all.merge(value(other, 1)),
                Err(AccumulatorError::KindsDiffer(_))
            ));
        }
    }

    #[test]
    fn top_rows_keep_the_greatest_and_break_ties_by_text() {
        let rows = |rows: &[(i64, &str)]| Accumulator {
            rows: rows
                .iter()
                .map(|&(order, text)| AccumulatorRow {
                    order,
                    text: text.to_owned(),
                })
                .collect(),
            limit: 3,
            ..value(AccumulatorKind::TopRows, 0)
        };
        let parts = [
            rows(&[(1, "x"), (5, "b")]),
            rows(&[(5, "a"), (4, "z"), (-1, "q")]),
        ];
        for order in [[0, 1], [1, 0]] {
            let mut all = JobAccumulators::default();
            for part in order {
                all.merge(parts[part].clone()).unwrap();
            }
            let merged: Vec<_> = all
                .iter()
                .next()
                .unwrap()
                .rows
                .iter()
                .map(|row| (row.order, row.text.as_str()))
                .collect();
            assert_eq!(merged, [(5, "a"), (5, "b"), (4, "z")]);
        }
    }
}
