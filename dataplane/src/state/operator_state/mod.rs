//! State of an operator that belongs to no key: lists that are dealt out again on a restore, and broadcast maps.
//!
//! Owns: [`OperatorStateStore`], one for each operator instance that wants it, reached in `open` by
//! [`crate::operator::process::RuntimeContext::operator_state`]. Its states: [`OperatorListState`] (split or union) in
//! [`OperatorLists`], [`BroadcastState`].
//! ```text
//! each old subtask's store -- snapshot --> OperatorStateSnapshot
//!   all of them -- redistribute --> an OperatorStateSnapshot for each new subtask -- restore --> its store
//! ```
//! Invariant: a name belongs to one state: one way of redistribution, one type. What was restored and is not asked for
//! is kept, and is in the next snapshot.
//! Left out: when snapshots are taken and where they are kept (checkpoints). A type is known by its path in Rust
//! (`std::any::type_name`), so a type that was moved or renamed is another one to a restore.
//!
//! Source: Flink `OperatorStateStore`, `DefaultOperatorStateBackend`.
//!
//! ```
//! use ringflow_dataplane::state::handles::ListStateDescriptor;
//! use ringflow_dataplane::state::operator_state::OperatorStateStore;
//!
//! # fn main() -> ringflow_dataplane::Result<()> {
//! let files = ListStateDescriptor::<String>::new("files");
//! let mut store = OperatorStateStore::new();
//! let open = store.get_list_state(&files)?;
//! for name in ["a", "b", "c"] {
//!     open.add(store.lists(), &name.to_owned())?;
//! }
//! // One subtask becomes two: each has its part.
//! let snapshots = [store.snapshot()?];
//! let mut second = OperatorStateStore::new();
//! second.restore(&snapshots, 1, 2)?;
//! let open = second.get_list_state(&files)?;
//! assert_eq!(open.get(second.lists())?, ["c"]);
//! # Ok(())
//! # }
//! ```

use crate::error::{Error, Result};
use crate::state::handles::{ListStateDescriptor, MapStateDescriptor};
use crate::state::value::{PlainValue, StateValue};

mod broadcast;
mod lists;
mod redistribute;
mod snapshot;

use broadcast::BroadcastMaps;
pub use broadcast::{BroadcastAccess, BroadcastState, BroadcastView};
pub use lists::{OperatorListState, OperatorLists};
pub use redistribute::redistribute;
pub use snapshot::{NamedState, OperatorStateSnapshot, Redistribution};

/// The operator state of one operator in one subtask.
///
/// Lives: on the subtask's core.
#[derive(Debug, Default)]
pub struct OperatorStateStore {
    lists: OperatorLists,
    /// Of operators with a broadcast input.
    broadcast: Option<BroadcastMaps>,
}

impl OperatorStateStore {
    /// A store without states.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that may also have broadcast state: of an operator with a broadcast input.
    #[must_use]
    pub fn with_broadcast() -> Self {
        Self {
            lists: OperatorLists::default(),
            broadcast: Some(BroadcastMaps::new()),
        }
    }

    /// A list of which a restore deals each item to one subtask.
    ///
    /// # Errors
    /// The name is taken by another state, or was restored as one; or the descriptor has a time to live.
    pub fn get_list_state<T: StateValue>(
        &mut self,
        descriptor: &ListStateDescriptor<T>,
    ) -> Result<OperatorListState<T>> {
        self.list(descriptor, Redistribution::Split)
    }

    /// A list of which a restore gives all items to every subtask, which keeps those that it wants.
    ///
    /// # Errors
    /// As [`OperatorStateStore::get_list_state`].
    pub fn get_union_list_state<T: StateValue>(
        &mut self,
        descriptor: &ListStateDescriptor<T>,
    ) -> Result<OperatorListState<T>> {
        self.list(descriptor, Redistribution::Union)
    }

    fn list<T: StateValue>(
        &mut self,
        descriptor: &ListStateDescriptor<T>,
        redistribution: Redistribution,
    ) -> Result<OperatorListState<T>> {
        let name = descriptor.name();
        without_time_to_live(name, descriptor.expires())?;
        if self.broadcast.as_ref().is_some_and(|maps| maps.knows(name)) {
            return Err(taken(name, Redistribution::Broadcast, redistribution));
        }
        self.lists.register(name, redistribution)
    }

    /// A map that broadcast records write and all records read. After a restore each subtask has one whole copy.
    ///
    /// # Errors
    /// As [`OperatorStateStore::get_list_state`]; or the operator has no broadcast input.
    pub fn get_broadcast_state<K: PlainValue, V: StateValue>(
        &mut self,
        descriptor: &MapStateDescriptor<K, V>,
    ) -> Result<BroadcastState<K, V>> {
        let name = descriptor.name();
        without_time_to_live(name, descriptor.expires())?;
        if let Some(redistribution) = self.lists.redistribution_of(name) {
            return Err(taken(name, redistribution, Redistribution::Broadcast));
        }
        self.maps()?.register(descriptor)
    }

    fn maps(&mut self) -> Result<&mut BroadcastMaps> {
        self.broadcast.as_mut().ok_or_else(|| {
            Error::operator(
                "broadcast state belongs to functions with a broadcast input: `keyed.connect_broadcast(stream).process(..)`",
            )
        })
    }

    /// The lists, to be read and written.
    pub fn lists(&mut self) -> &mut OperatorLists {
        &mut self.lists
    }

    /// The broadcast state, to be written.
    ///
    /// # Errors
    /// The operator has no broadcast input.
    pub fn broadcast(&mut self) -> Result<BroadcastAccess<'_>> {
        Ok(self.maps()?.access())
    }

    /// The lists, and beside them the broadcast state, where there is one.
    pub(crate) fn parts(&mut self) -> (&mut OperatorLists, Option<BroadcastAccess<'_>>) {
        let broadcast = self.broadcast.as_mut().map(BroadcastMaps::access);
        (&mut self.lists, broadcast)
    }

    /// A copy of all states. Cost: their bytes.
    ///
    /// # Errors
    /// A state cannot be read.
    pub fn snapshot(&self) -> Result<OperatorStateSnapshot> {
        let mut states: Vec<NamedState> = self.lists.snapshot().collect();
        if let Some(maps) = &self.broadcast {
            states.extend(maps.snapshot()?);
        }
        Ok(OperatorStateSnapshot { states })
    }

    /// Takes over what subtask `subtask_index` of `parallelism` gets of `snapshots`, one for each subtask of the
    /// operator that was snapshotted, in their order ([`redistribute()`]). Before the operator opens.
    ///
    /// # Errors
    /// The store is in use, the snapshots are not of one operator, or they hold broadcast state and this operator has
    /// no broadcast input.
    pub fn restore(
        &mut self,
        snapshots: &[OperatorStateSnapshot],
        subtask_index: u32,
        parallelism: u32,
    ) -> Result<()> {
        let used = |maps: &BroadcastMaps| !maps.is_empty();
        if !self.lists.is_empty() || self.broadcast.as_ref().is_some_and(used) {
            return Err(Error::operator(
                "operator state is restored before the operator opens, and once",
            ));
        }
        for state in redistribute(snapshots, subtask_index, parallelism)?.states {
            match state.redistribution {
                Redistribution::Split | Redistribution::Union => self.lists.restore(state),
                Redistribution::Broadcast => self.maps()?.restore(state),
            }
        }
        Ok(())
    }

    /// Bytes of memory of all states.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lists.bytes() + self.broadcast.as_ref().map_or(0, BroadcastMaps::bytes)
    }
}

fn without_time_to_live(name: &str, expires: bool) -> Result<()> {
    if expires {
        return Err(Error::operator(format!(
            "operator state `{name}` cannot have a time to live: only keyed state can"
        )));
    }
    Ok(())
}

#[cold]
fn taken(name: &str, by: Redistribution, asked: Redistribution) -> Error {
    Error::operator(format!(
        "operator state `{name}` is {by} and cannot be {asked} too: give one of them another name"
    ))
}

/// The name was restored, or registered before, for a state of another kind or type.
#[cold]
fn other_state(
    name: &str,
    (was, was_of): (Redistribution, &str),
    (asked, asked_of): (Redistribution, &str),
    registered: bool,
) -> Error {
    let how = if registered {
        "was registered as"
    } else {
        "was restored as"
    };
    Error::operator(format!(
        "operator state `{name}` {how} {was} of `{was_of}` and is asked for as {asked} of `{asked_of}`: ask for what it was, or give \
         the new state another name"
    ))
}

#[cfg(test)]
mod tests;
