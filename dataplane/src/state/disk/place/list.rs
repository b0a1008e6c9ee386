//! Lists as rows: a head with the numbers of the elements, and a row for each.
//!
//! Owns: [`ListHead`], and the `list_...` methods of [`DiskPlace`].
//! Invariant: none of the elements `first..next` is missing, and a list without elements has no head. A row that a head
//! promises and that is not there is damage, which the access reports.
//! Left out: when an element has expired (`sweep` beside this).

use crate::error::Result;
use crate::state::backend::At;
use crate::state::disk::place::{DiskPlace, bytes_of, damaged, numbers, watched};
use crate::state::disk::rows::Failure;
use crate::state::map_table::Visit;

/// A list's elements are numbered `first..next`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ListHead {
    pub(super) first: u64,
    pub(super) next: u64,
}

impl ListHead {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let [first, next] = numbers(bytes);
        Self { first, next }
    }
}

impl DiskPlace {
    fn list_head(&mut self) -> Result<Option<ListHead>, Failure> {
        Ok(self.rows.get(self.row.head())?.map(ListHead::read))
    }

    /// Writes the head, or takes it out with the last element.
    fn put_list_head(&mut self, head: ListHead) -> Result<(), Failure> {
        let row = self.row.head();
        if head.first == head.next {
            return self.rows.remove(row);
        }
        self.rows
            .put(row, bytes_of([head.first, head.next]).as_flattened())
    }

    pub(crate) fn list_add(
        &mut self,
        store: usize,
        at: At<'_>,
        element: &[u8],
    ) -> Result<(), Failure> {
        self.point(store, at)?;
        let mut head = self.list_head()?.unwrap_or_default();
        self.rows.put(self.row.element(head.next), element)?;
        head.next += 1;
        self.put_list_head(head)
    }

    pub(crate) fn list_for_each(
        &mut self,
        store: usize,
        at: At<'_>,
        mut visit: impl FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<(), Failure> {
        self.point(store, at)?;
        let head = self.list_head()?.unwrap_or_default();
        for number in head.first..head.next {
            let visited = self.rows.visit(self.row.element(number), |element| {
                watched(element, &mut visit)
            })?;
            visited.ok_or_else(damaged)??;
        }
        Ok(())
    }

    /// Elements have numbers without gaps: behind one that goes, the others move up.
    ///
    /// Cost: one read per element up to the last one visited; a write for each that changed or moves.
    pub(crate) fn list_visit(
        &mut self,
        store: usize,
        at: At<'_>,
        mut visit: impl FnMut(&mut [u8]) -> Result<Visit>,
    ) -> Result<(), Failure> {
        self.point(store, at)?;
        let Some(mut head) = self.list_head()? else {
            return Ok(());
        };
        let (mut kept, mut stopped, mut failure) = (head.first, false, Ok(()));
        let (mut before, mut element) = (Vec::new(), Vec::new());
        for number in head.first..head.next {
            if stopped && kept == number {
                return failure;
            }
            before.clear();
            let stored = self.rows.get(self.row.element(number))?;
            before.extend_from_slice(stored.ok_or_else(damaged)?);
            element.clone_from(&before);
            let verdict = if stopped {
                Ok(Visit::Keep)
            } else {
                visit(&mut element)
            };
            match verdict {
                Ok(Visit::Remove) => continue,
                Ok(Visit::Keep) => {}
                Ok(Visit::Stop) => stopped = true,
                // What was taken out so far is out; the rest stays.
                Err(error) => (stopped, failure) = (true, Err(error.into())),
            }
            if kept != number || element != before {
                self.rows.put(self.row.element(kept), &element)?;
            }
            kept += 1;
        }
        for number in kept..head.next {
            self.rows.remove(self.row.element(number))?;
        }
        if kept != head.next {
            head.next = kept;
            self.put_list_head(head)?;
        }
        failure
    }

    pub(crate) fn list_drop_while(
        &mut self,
        store: usize,
        at: At<'_>,
        mut goes: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Failure> {
        self.point(store, at)?;
        let Some(mut head) = self.list_head()? else {
            return Ok(());
        };
        let first = head.first;
        while head.first < head.next {
            let row = self.row.element(head.first);
            if !goes(self.rows.get(row)?.ok_or_else(damaged)?) {
                break;
            }
            self.rows.remove(row)?;
            head.first += 1;
        }
        if head.first == first {
            return Ok(());
        }
        self.put_list_head(head)
    }

    pub(crate) fn list_contains(&mut self, store: usize, at: At<'_>) -> Result<bool, Failure> {
        self.point(store, at)?;
        Ok(self.list_head()?.is_some())
    }

    pub(crate) fn list_clear(&mut self, store: usize, at: At<'_>) -> Result<(), Failure> {
        self.point(store, at)?;
        let Some(head) = self.list_head()? else {
            return Ok(());
        };
        for number in head.first..head.next {
            self.rows.remove(self.row.element(number))?;
        }
        self.rows.remove(self.row.head())
    }
}
