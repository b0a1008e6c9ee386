//! Operator state on its way from the subtasks that wrote it to those that restore it.
//!
//! Owns: [`redistribute`], a pure function. Invariant: over all new subtasks an item of split state is in exactly one,
//! one of union state in each, and of broadcast state each has one whole copy, whatever the numbers of old and new
//! subtasks are.
//! Left out: reading and writing snapshots.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::state::operator_state::snapshot::{NamedState, OperatorStateSnapshot, Redistribution};

/// What subtask `subtask_index` of `parallelism` restores of `snapshots`, one for each old subtask, in their order; one
/// that had no state is empty.
///
/// Split state stays where it was when parallelism does. Otherwise the items of a name stand in a row, old subtask by
/// old subtask, and are cut into pieces of equal length, in order; the items that are over go to one subtask each,
/// which begin for the next name where those of the last one ended, so that no subtask gets all of them. Of broadcast
/// state subtask i takes copy i, counted round and round.
///
/// Cost: a copy of what the subtask gets, and a look at every state.
///
/// # Errors
/// A name stands for different states in different snapshots.
///
/// # Panics
/// `subtask_index` is not below `parallelism`.
///
/// Source: Flink `RoundRobinOperatorStateRepartitioner`.
pub fn redistribute(
    snapshots: &[OperatorStateSnapshot],
    subtask_index: u32,
    parallelism: u32,
) -> Result<OperatorStateSnapshot> {
    assert!(
        subtask_index < parallelism,
        "subtask {subtask_index} of {parallelism}"
    );
    let (subtask, count) = (subtask_index as usize, parallelism as usize);
    let mut by_name: BTreeMap<&str, Vec<(usize, &NamedState)>> = BTreeMap::new();
    for (old, snapshot) in snapshots.iter().enumerate() {
        for state in &snapshot.states {
            by_name.entry(&state.name).or_default().push((old, state));
        }
    }
    let mut states = Vec::new();
    // Where those begin that get one item more.
    let mut start = 0;
    for pieces in by_name.into_values() {
        let [(_, first), ..] = pieces.as_slice() else {
            continue;
        };
        let same = |state: &NamedState| {
            (state.redistribution, &state.type_name) == (first.redistribution, &first.type_name)
        };
        if let Some((old, other)) = pieces.iter().find(|(_, state)| !same(state)) {
            return Err(contradiction(pieces[0].0, first, *old, other));
        }
        let items: Vec<Vec<u8>> = match first.redistribution {
            Redistribution::Broadcast => pieces[subtask % pieces.len()].1.items.clone(),
            Redistribution::Union => all(&pieces).cloned().collect(),
            Redistribution::Split if snapshots.len() == count => {
                let own = pieces.iter().filter(|(old, _)| *old == subtask);
                own.flat_map(|(_, state)| &state.items).cloned().collect()
            }
            Redistribution::Split => {
                let total = all(&pieces).count();
                let (each, over) = (total / count, total % count);
                let place = (subtask + count - start) % count;
                let from = place * each + place.min(over);
                start = (start + over) % count;
                let own = each + usize::from(place < over);
                all(&pieces).skip(from).take(own).cloned().collect()
            }
        };
        states.push(NamedState {
            name: first.name.clone(),
            redistribution: first.redistribution,
            type_name: first.type_name.clone(),
            items,
        });
    }
    Ok(OperatorStateSnapshot { states })
}

fn all<'a>(pieces: &'a [(usize, &NamedState)]) -> impl Iterator<Item = &'a Vec<u8>> {
    pieces.iter().flat_map(|(_, state)| &state.items)
}

#[cold]
fn contradiction(old: usize, state: &NamedState, other: usize, its: &NamedState) -> Error {
    Error::operator(format!(
        "operator state `{}` is {} of `{}` in the snapshot of subtask {old}, and {} of `{}` in that of subtask {other}: they are \
         not of one operator",
        state.name, state.redistribution, state.type_name, its.redistribution, its.type_name
    ))
}
