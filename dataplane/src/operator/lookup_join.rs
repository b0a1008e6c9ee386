//! Lookup join: each record meets the row of its key in a bounded table.
//!
//! Owns: [`LookupTable`] (where rows come from), [`LookupJoin`]. The table is read when the operator is prepared, on a housekeeping
//! thread, once for each subtask, and does not change afterwards.
//! Invariant: a key has one row; a line that is none, or a key that comes twice, fails the job before it runs, named.
//! Left out: tables that change (join two streams instead), and sharing one table among subtasks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::fs::File;
use std::hash::Hash;
use std::io::{BufRead, BufReader};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::operator::Operator;
use crate::operator::chain::Output;
use crate::operator::stateless::{Collector, Scratch};
use crate::record::{Record, RecordRef, Row};

/// Longest line of a table's file, in bytes: what is longer is no table.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Gives the rows of a table.
type Load<K, V> = dyn Fn() -> Result<HashMap<K, V>> + Send + Sync;

/// A bounded table of keys and values.
pub struct LookupTable<K, V> {
    load: Arc<Load<K, V>>,
}

impl<K, V> Clone for LookupTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            load: Arc::clone(&self.load),
        }
    }
}

impl<K, V> fmt::Debug for LookupTable<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookupTable").finish_non_exhaustive()
    }
}

impl<K: Eq + Hash + 'static, V: 'static> LookupTable<K, V> {
    /// The rows that `rows` gives, asked once for each subtask.
    #[must_use]
    pub fn of<I>(rows: impl Fn() -> I + Send + Sync + 'static) -> Self
    where
        I: IntoIterator<Item = (K, V)>,
    {
        let load = move || {
            let mut table = HashMap::new();
            for ((key, value), number) in rows().into_iter().zip(1u64..) {
                match table.entry(key) {
                    Entry::Vacant(place) => drop(place.insert(value)),
                    Entry::Occupied(_) => return Err(twice(&format!("row {number}"))),
                }
            }
            Ok(table)
        };
        Self {
            load: Arc::new(load),
        }
    }

    /// The lines of a file, each a key, a comma, and a value that goes on to the end of the line. There are no quotes and no
    /// header; spaces around both are dropped, as are empty lines. Every TaskManager reads its own file of this path.
    #[must_use]
    pub fn csv(path: impl Into<PathBuf>) -> Self
    where
        K: FromStr<Err: fmt::Display>,
        V: FromStr<Err: fmt::Display>,
    {
        let path = path.into();
        let load = move || {
            let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
            read_csv(&path, BufReader::new(file))
        };
        Self {
            load: Arc::new(load),
        }
    }

    /// Reads the table. May block.
    ///
    /// # Errors
    /// The file cannot be read, a line is no row, or a key comes twice.
    pub fn load(&self) -> Result<HashMap<K, V>> {
        (self.load)()
    }
}

fn read_csv<K, V>(path: &Path, mut lines: impl BufRead) -> Result<HashMap<K, V>>
where
    K: Eq + Hash + FromStr<Err: fmt::Display>,
    V: FromStr<Err: fmt::Display>,
{
    let (mut table, mut line) = (HashMap::new(), Vec::new());
    for number in 1u64.. {
        line.clear();
        let mut limited = std::io::Read::take(&mut lines, LINE_BYTES_MAX as u64 + 1);
        let read = limited.read_until(b'\n', &mut line);
        if read.map_err(|error| unreadable(path, &error))? == 0 {
            break;
        }
        let place = || format!("{}, line {number}", path.display());
        if line.len() > LINE_BYTES_MAX {
            return Err(bad_line(&place(), "it is longer than 1 MiB"));
        }
        let text = std::str::from_utf8(&line).map_err(|error| bad_line(&place(), error))?;
        if text.trim().is_empty() {
            continue;
        }
        let Some((key, value)) = text.split_once(',') else {
            return Err(bad_line(&place(), "it has no comma"));
        };
        let key = parse(key).map_err(|why| bad_line(&place(), format!("its key {why}")))?;
        let value = parse(value).map_err(|why| bad_line(&place(), format!("its value {why}")))?;
        match table.entry(key) {
            Entry::Vacant(place) => drop(place.insert(value)),
            Entry::Occupied(_) => return Err(twice(&place())),
        }
    }
    Ok(table)
}

fn parse<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    let text = text.trim();
    text.parse().map_err(|error| {
        let shown: String = text.chars().take(40).collect();
        format!("`{shown}` cannot be read: {error}")
    })
}

#[cold]
fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::deployment(format!(
        "the lookup table {} cannot be read: {error}; it must be there on every TaskManager",
        path.display()
    ))
}

#[cold]
fn bad_line(place: &str, why: impl fmt::Display) -> Error {
    Error::deployment(format!(
        "the lookup table {place}: a line must be `key,value`, and this is none: {why}"
    ))
}

#[cold]
fn twice(place: &str) -> Error {
    Error::deployment(format!(
        "the lookup table {place}: its key has a row already, and a key must have one"
    ))
}

/// Looks up the row of each record's key. `key` reads the key, `function` makes any number of records of a record and the value
/// found.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct LookupJoin<R, K, V, O, KF, F> {
    table: HashMap<K, V>,
    key: KF,
    function: F,
    scratch: Scratch,
    records: PhantomData<fn(R) -> O>,
}

impl<R, K, V, O, KF, F> LookupJoin<R, K, V, O, KF, F>
where
    R: Record,
    O: Record,
    KF: for<'a> Fn(Row<'a, R>) -> K,
    F: for<'a> Fn(Row<'a, R>, Option<&V>, &mut Collector<'_, O>),
{
    /// An operator with its table.
    #[must_use]
    pub fn new(table: HashMap<K, V>, key: KF, function: F) -> Self {
        Self {
            table,
            key,
            function,
            scratch: Scratch::default(),
            records: PhantomData,
        }
    }
}

impl<R, K, V, O, KF, F> Operator for LookupJoin<R, K, V, O, KF, F>
where
    R: Record,
    K: Eq + Hash + Send,
    V: Send,
    O: Record,
    KF: for<'a> Fn(Row<'a, R>) -> K + Send,
    F: for<'a> Fn(Row<'a, R>, Option<&V>, &mut Collector<'_, O>) + Send,
{
    #[inline]
    fn on_record(&mut self, record: &RecordRef<'_>, output: &mut Output) -> Result<()> {
        // SAFETY: the edge carries `R` (checked when the graph was built), and records on edges are verified.
        let row = unsafe { Row::<R>::read(record) };
        let value = self.table.get(&(self.key)(row));
        let mut collector = Collector::of(output, &mut self.scratch, record);
        (self.function)(row, value, &mut collector);
        collector.finish()
    }
}

#[cfg(test)]
mod tests;
