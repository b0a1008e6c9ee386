//! List state of an operator: items as bytes, by the name of the state.
//!
//! Owns: [`OperatorLists`] (the lists of one operator in one subtask) and [`OperatorListState`] (the typed handle that
//! a function keeps).
//! Invariant: a list holds only what handles of its type wrote, or what was restored under the same type and can be
//! read as it; a handle opens no list of another operator.
//! Left out: who reads which item after a restore ([`super::redistribute()`]).

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::limits::OPERATOR_STATE_BYTES_MAX;
use crate::state::operator_state::snapshot::{NamedState, Redistribution};
use crate::state::value::StateValue;

/// A list of one operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ListId {
    /// Never given twice in a process, as with [`crate::state::backend::StoreId`].
    owner: u64,
    index: usize,
}

/// Operator list state of type `T`: split or union, as it was registered. A few words; kept by the function.
pub struct OperatorListState<T> {
    id: ListId,
    item: PhantomData<fn() -> T>,
}

impl<T> Clone for OperatorListState<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for OperatorListState<T> {}

/// Unregistered: using it is an error.
impl<T> Default for OperatorListState<T> {
    fn default() -> Self {
        let id = ListId {
            owner: u64::MAX,
            index: 0,
        };
        Self {
            id,
            item: PhantomData,
        }
    }
}

impl<T> fmt::Debug for OperatorListState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorListState")
    }
}

/// One list.
#[derive(Debug)]
struct List {
    state: NamedState,
    /// Asked for since it was restored, or made.
    registered: bool,
}

/// The list state of one operator in one subtask: what handles ask for.
///
/// Lives: on the subtask's core, in memory whatever the state backend is, as in Flink. Shape: at most
/// [`OPERATOR_STATE_BYTES_MAX`] bytes of items are added.
#[derive(Debug)]
pub struct OperatorLists {
    owner: u64,
    lists: Vec<List>,
    /// Bytes of all items.
    bytes: usize,
}

impl Default for OperatorLists {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            owner: NEXT.fetch_add(1, Ordering::Relaxed),
            lists: Vec::new(),
            bytes: 0,
        }
    }
}

impl OperatorLists {
    pub(super) fn register<T: StateValue>(
        &mut self,
        name: &str,
        redistribution: Redistribution,
    ) -> Result<OperatorListState<T>> {
        let named = |list: &List| list.state.name == name;
        let index = match self.lists.iter().position(named) {
            Some(index) => {
                let list = &mut self.lists[index];
                check_kind::<T>(&list.state, redistribution, list.registered)?;
                if !list.registered {
                    for item in &list.state.items {
                        T::view(item)?;
                    }
                }
                list.registered = true;
                index
            }
            None => {
                self.lists.push(List {
                    state: NamedState {
                        name: name.to_owned(),
                        redistribution,
                        type_name: type_name::<T>().to_owned(),
                        items: Vec::new(),
                    },
                    registered: true,
                });
                self.lists.len() - 1
            }
        };
        let owner = self.owner;
        Ok(OperatorListState {
            id: ListId { owner, index },
            item: PhantomData,
        })
    }

    /// Takes over what was restored, before anybody asks for it.
    pub(super) fn restore(&mut self, state: NamedState) {
        self.bytes += state.items.iter().map(Vec::len).sum::<usize>();
        self.lists.push(List {
            state,
            registered: false,
        });
    }

    pub(super) fn snapshot(&self) -> impl Iterator<Item = NamedState> {
        self.lists.iter().map(|list| list.state.clone())
    }

    pub(super) fn redistribution_of(&self, name: &str) -> Option<Redistribution> {
        let mut lists = self.lists.iter();
        let list = lists.find(|list| list.state.name == name)?;
        Some(list.state.redistribution)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Bytes of all items, without the room around them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn list(&mut self, id: ListId) -> Result<&mut NamedState> {
        let lists = (id.owner == self.owner).then_some(&mut self.lists);
        let list = lists.and_then(|lists| lists.get_mut(id.index));
        list.map(|list| &mut list.state).ok_or_else(|| {
            Error::operator(
                "operator state was used with a handle that this operator did not register: ask for it in `open`",
            )
        })
    }
}

/// The state that has the name is the one that is asked for.
fn check_kind<T: 'static>(
    state: &NamedState,
    redistribution: Redistribution,
    registered: bool,
) -> Result<()> {
    if (state.redistribution, state.type_name.as_str()) == (redistribution, type_name::<T>()) {
        return Ok(());
    }
    Err(super::other_state(
        &state.name,
        (state.redistribution, &state.type_name),
        (redistribution, type_name::<T>()),
        registered,
    ))
}

/// Errors of all accesses: the handle is not this operator's, or the stored bytes are damaged.
impl<T: StateValue> OperatorListState<T> {
    /// Appends an item.
    ///
    /// # Errors
    /// As all accesses; or the operator's state would be larger than [`OPERATOR_STATE_BYTES_MAX`].
    pub fn add(&self, lists: &mut OperatorLists, item: &T::Given<'_>) -> Result<()> {
        let mut bytes = Vec::new();
        T::write(item, &mut bytes);
        let total = lists.bytes + bytes.len();
        let list = lists.list(self.id)?;
        if total > OPERATOR_STATE_BYTES_MAX {
            return Err(too_large(&list.name, total));
        }
        list.items.push(bytes);
        lists.bytes = total;
        Ok(())
    }

    /// Replaces all items. Where that fails, the old ones stay.
    ///
    /// # Errors
    /// As [`OperatorListState::add`].
    pub fn update<'g>(
        &self,
        lists: &mut OperatorLists,
        items: impl IntoIterator<Item = T::Given<'g>>,
    ) -> Result<()> {
        let write = |item: T::Given<'g>| {
            let mut bytes = Vec::new();
            T::write(&item, &mut bytes);
            bytes
        };
        let fresh: Vec<Vec<u8>> = items.into_iter().map(write).collect();
        let all_bytes = lists.bytes;
        let list = lists.list(self.id)?;
        let size = |items: &[Vec<u8>]| items.iter().map(Vec::len).sum::<usize>();
        let total = all_bytes - size(&list.items) + size(&fresh);
        if total > OPERATOR_STATE_BYTES_MAX {
            return Err(too_large(&list.name, total));
        }
        list.items = fresh;
        lists.bytes = total;
        Ok(())
    }

    /// Calls `visit` with each item, in order: after a restore those of lower old subtasks first.
    ///
    /// # Errors
    /// As all accesses; or what `visit` returns.
    pub fn for_each(
        &self,
        lists: &mut OperatorLists,
        mut visit: impl FnMut(T::View<'_>) -> Result<()>,
    ) -> Result<()> {
        let list = lists.list(self.id)?;
        list.items.iter().try_for_each(|item| visit(T::view(item)?))
    }

    /// Number of items.
    ///
    /// # Errors
    /// As all accesses.
    pub fn len(&self, lists: &mut OperatorLists) -> Result<usize> {
        Ok(lists.list(self.id)?.items.len())
    }

    /// There are none.
    ///
    /// # Errors
    /// As all accesses.
    pub fn is_empty(&self, lists: &mut OperatorLists) -> Result<bool> {
        Ok(self.len(lists)? == 0)
    }

    /// Takes all items out.
    ///
    /// # Errors
    /// As all accesses.
    pub fn clear(&self, lists: &mut OperatorLists) -> Result<()> {
        self.update(lists, [])
    }
}

/// Lists of values that are not read in place.
impl<T: crate::state::value::PlainValue> OperatorListState<T> {
    /// All items, in order.
    ///
    /// # Errors
    /// As all accesses.
    pub fn get(&self, lists: &mut OperatorLists) -> Result<Vec<T>> {
        let mut items = Vec::new();
        self.for_each(lists, |item| {
            items.push(item);
            Ok(())
        })?;
        Ok(items)
    }
}

#[cold]
fn too_large(name: &str, bytes: usize) -> Error {
    Error::operator(format!(
        "operator state `{name}` does not take one item more: the operator's would have {bytes} bytes in this subtask, and \
         {OPERATOR_STATE_BYTES_MAX} are the most; keep what grows with the data in keyed state"
    ))
}
