//! Maps as rows: a head, a link for each entry, in the order in which keys were first put, and the entries themselves.
//!
//! Owns: [`MapHead`], [`Link`], and the `map_...` methods of [`DiskPlace`].
//! Invariant: the links from `first` to `last` are those of all entries; a link has the key of its entry, and the entry
//! the number of its link. A map without entries has no head.
//! Left out: when an entry has expired (`sweep` beside this).

use crate::error::Result;
use crate::state::backend::At;
use crate::state::byte_table::Change;
use crate::state::disk::place::{DiskPlace, bytes_of, damaged, numbers, watched};
use crate::state::disk::rows::Failure;
use crate::state::map_table::Visit;

/// Bytes of a map's entry before its value.
pub(super) const LINK_BYTES: usize = 8;

/// A map's entries are chained through their links.
#[derive(Debug, Clone, Copy)]
pub(super) struct MapHead {
    first: u64,
    last: u64,
    next: u64,
    pub(super) entries: u64,
}

impl MapHead {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let [first, last, next, entries] = numbers(bytes);
        Self {
            first,
            last,
            next,
            entries,
        }
    }
}

/// What is between the entries of a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    before: u64,
    behind: u64,
}

impl Link {
    const BYTES: usize = 16;

    pub(super) fn read(bytes: &[u8]) -> (Self, &[u8]) {
        let [before, behind] = numbers(bytes);
        (
            Self { before, behind },
            bytes.get(Self::BYTES..).unwrap_or_default(),
        )
    }
}

impl DiskPlace {
    fn map_head(&mut self) -> Result<Option<MapHead>, Failure> {
        Ok(self.rows.get(self.row.head())?.map(MapHead::read))
    }

    fn put_map_head(&mut self, head: MapHead) -> Result<(), Failure> {
        let row = self.row.head();
        if head.entries == 0 {
            return self.rows.remove(row);
        }
        let MapHead {
            first,
            last,
            next,
            entries,
        } = head;
        self.rows
            .put(row, bytes_of([first, last, next, entries]).as_flattened())
    }

    /// The value of a map key.
    pub(crate) fn map_get(
        &mut self,
        store: usize,
        at: At<'_>,
        write_key: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Option<&[u8]>, Failure> {
        self.point(store, at)?;
        let entry = self.rows.get(self.row.map_key(write_key))?;
        Ok(entry.map(|entry| entry.get(LINK_BYTES..).unwrap_or_default()))
    }

    /// The value of a map key, to be changed in place.
    pub(crate) fn map_get_mut(
        &mut self,
        store: usize,
        at: At<'_>,
        write_key: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Option<&mut [u8]>, Failure> {
        self.point(store, at)?;
        let entry = self.rows.get_mut(self.row.map_key(write_key))?;
        Ok(entry.map(|entry| entry.get_mut(LINK_BYTES..).unwrap_or_default()))
    }

    pub(crate) fn map_update(
        &mut self,
        store: usize,
        at: At<'_>,
        write_key: impl FnOnce(&mut Vec<u8>),
        fresh: &mut Vec<u8>,
        change: impl FnOnce(Option<&[u8]>, &mut Vec<u8>) -> Result<Change>,
    ) -> Result<(), Failure> {
        self.point(store, at)?;
        fresh.clear();
        let old = self.rows.get(self.row.map_key(write_key))?;
        let link = old.map(|old| numbers::<1>(old)[0]);
        fresh.extend_from_slice(&link.unwrap_or(0).to_le_bytes());
        let change = change(
            old.map(|old| old.get(LINK_BYTES..).unwrap_or_default()),
            fresh,
        )?;
        match (change, link) {
            (Change::Put, Some(_)) => self.rows.put(&self.row, fresh),
            (Change::Put, None) => self.begin_entry(fresh),
            (Change::Remove, Some(link)) => {
                self.rows.remove(&self.row)?;
                self.unlink(link)
            }
            (Change::Remove, None) | (Change::Keep, _) => Ok(()),
        }
    }

    /// Puts a new entry, whose row is at hand, behind the others of its map.
    fn begin_entry(&mut self, fresh: &mut [u8]) -> Result<(), Failure> {
        self.named.clear();
        self.named.extend_from_slice(self.row.map_key_bytes());
        let mut head = self.map_head()?.unwrap_or(MapHead {
            first: 0,
            last: 0,
            next: 1,
            entries: 0,
        });
        let number = head.next;
        fresh[..LINK_BYTES].copy_from_slice(&number.to_le_bytes());
        let named = std::mem::take(&mut self.named);
        let entry = self
            .rows
            .put(self.row.map_key(|out| out.extend_from_slice(&named)), fresh);
        let mut link = bytes_of([head.last, 0]).as_flattened().to_vec();
        link.extend_from_slice(&named);
        self.named = named;
        entry?;
        self.rows.put(self.row.element(number), &link)?;
        match head.last {
            0 => head.first = number,
            last => self.relink(last, |link| link.behind = number)?,
        }
        (head.last, head.next, head.entries) = (number, number + 1, head.entries + 1);
        self.put_map_head(head)
    }

    /// Changes the neighbours of a link.
    fn relink(&mut self, number: u64, change: impl FnOnce(&mut Link)) -> Result<(), Failure> {
        let bytes = self
            .rows
            .get_mut(self.row.element(number))?
            .ok_or_else(damaged)?;
        let (mut link, _) = Link::read(bytes);
        change(&mut link);
        let written = bytes_of([link.before, link.behind]);
        bytes
            .get_mut(..Link::BYTES)
            .ok_or_else(damaged)?
            .copy_from_slice(written.as_flattened());
        Ok(())
    }

    /// Takes a link out, and with the last one the head.
    fn unlink(&mut self, number: u64) -> Result<(), Failure> {
        let mut head = self.map_head()?.ok_or_else(damaged)?;
        let (link, _) = Link::read(
            self.rows
                .get(self.row.element(number))?
                .ok_or_else(damaged)?,
        );
        self.rows.remove(&self.row)?;
        match link.before {
            0 => head.first = link.behind,
            before => self.relink(before, |neighbour| neighbour.behind = link.behind)?,
        }
        match link.behind {
            0 => head.last = link.before,
            behind => self.relink(behind, |neighbour| neighbour.before = link.before)?,
        }
        head.entries = head.entries.saturating_sub(1);
        self.put_map_head(head)
    }

    pub(crate) fn map_visit(
        &mut self,
        store: usize,
        at: At<'_>,
        mut visit: impl FnMut(&[u8], &mut [u8]) -> Result<Visit>,
    ) -> Result<(), Failure> {
        self.point(store, at)?;
        let mut number = self.map_head()?.map_or(0, |head| head.first);
        let mut named = std::mem::take(&mut self.named);
        let mut step = |place: &mut Self, number: u64| -> Result<(u64, Visit), Failure> {
            let (link, map_key) = Link::read(
                place
                    .rows
                    .get(place.row.element(number))?
                    .ok_or_else(damaged)?,
            );
            named.clear();
            named.extend_from_slice(map_key);
            let row = place.row.map_key(|out| out.extend_from_slice(&named));
            let visited = place
                .rows
                .visit(row, |entry| match entry.get_mut(LINK_BYTES..) {
                    Some(value) => watched(value, |value| visit(&named, value)),
                    None => (false, Err(damaged())),
                })?;
            Ok((link.behind, visited.ok_or_else(damaged)??))
        };
        let mut result = Ok(());
        while number != 0 {
            match step(self, number) {
                Ok((behind, Visit::Keep)) => number = behind,
                Ok((behind, Visit::Remove)) => {
                    result = self
                        .rows
                        .remove(&self.row)
                        .and_then(|()| self.unlink(number));
                    number = if result.is_ok() { behind } else { 0 };
                }
                Ok((_, Visit::Stop)) => number = 0,
                Err(failure) => {
                    result = Err(failure);
                    number = 0;
                }
            }
        }
        self.named = named;
        result
    }

    pub(crate) fn map_contains_any(&mut self, store: usize, at: At<'_>) -> Result<bool, Failure> {
        self.point(store, at)?;
        Ok(self.map_head()?.is_some())
    }
}
