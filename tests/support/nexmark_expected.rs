//! What Nexmark's queries must answer, by DuckDB, and the comparison with the rows that a job printed.
//!
//! Owns: [`Answers`] (expected rows of one stream, kept under target/tmp) and [`compare`] with its rules.
//! Invariant: expected rows come from `nexmark_duckdb.py` over the generator's events as JSON; neither the engine nor the
//! code that renders its rows has a part in them. They are worked out once per stream, whoever asks, in whatever process.
//! Left out: running jobs; lateness (no event may be dropped as late).
//!
//! | queries | how rows are compared |
//! |---|---|
//! | q0 to q3, q5, q7, q8, q10, q11, q13, q14, q20 to q23 | as multisets |
//! | q4, q15, q16, q17 | the table that the changelog comes to, as a multiset |
//! | q9, q18 | of that table: one row for every key, and one of those that may stand for it |
//! | q19 | of that table: ranks 1, 2, .. and their prices per auction; each row is one of its highest bids |
//! | q12 | per bidder: windows of 10 s that do not overlap, with as many bids as were made in all |

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each suite includes this file as a module of its own and uses a part of it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use ringflow::nexmark::{NexmarkConfig, write_ndjson};
use serde_json::Value;

/// Highest bids per auction in q19.
const TOP: usize = 10;
/// q12's windows.
const WINDOW_MS: i64 = 10_000;
/// Differing rows shown of each side, and characters of each.
const SHOWN_ROWS: usize = 5;
const SHOWN_CHARACTERS: usize = 400;

/// Expected rows of all queries over one stream.
///
/// Disk: about 3 KB per event, most of it q23; a directory per stream, replaced when the stream or the script changes.
pub struct Answers {
    directory: PathBuf,
}

impl Answers {
    /// The answers over events 0..`events`; `None`, said loudly, where there is no DuckDB and none was promised
    /// (`RINGFLOW_TEST_DUCKDB=required`).
    pub fn of(config: NexmarkConfig, events: u64) -> Option<Arc<Self>> {
        type Stream = (u64, u64, i64, u64);
        static SHARED: Mutex<BTreeMap<Stream, Arc<Answers>>> = Mutex::new(BTreeMap::new());
        let stream = (
            config.seed,
            config.events_per_second,
            config.base_time_ms,
            events,
        );
        let mut shared = SHARED
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(answers) = shared.get(&stream) {
            return Some(Arc::clone(answers));
        }
        let python = match run(&mut Command::new(in_tree("scripts/duckdb.sh"))) {
            Ok(python) => python,
            Err(why)
                if std::env::var("RINGFLOW_TEST_DUCKDB")
                    .is_ok_and(|promise| promise == "required") =>
            {
                panic!("DuckDB was promised and cannot be had: {why}")
            }
            Err(why) => {
                eprintln!("SKIPPED: this test needs DuckDB, and it cannot be had: {why}");
                return None;
            }
        };
        let directory = work_out(python.trim(), config, events)
            .unwrap_or_else(|why| panic!("DuckDB has no answers: {why}"));
        let answers = Arc::new(Self { directory });
        shared.insert(stream, Arc::clone(&answers));
        Some(answers)
    }

    /// Compares what a job printed with the answer of `query`, as `q7`; how many rows its table has in the end.
    ///
    /// Rows of one key stand in `printed` in the order in which their subtask printed them; other order means nothing.
    ///
    /// # Errors
    /// The rows are wrong; the message shows the first that differ.
    pub fn check<S: AsRef<str>>(&self, query: &str, printed: &[S]) -> Result<u64, String> {
        let expected = self.expected(query);
        let printed: Vec<&str> = printed.iter().map(AsRef::as_ref).collect();
        compare(query, &expected, &printed).map_err(|why| format!("{query}: {why}"))
    }

    /// The rows of `query` as `nexmark_duckdb.py` wrote them, one per line.
    pub fn expected(&self, query: &str) -> String {
        let file = self.directory.join(format!("{query}.jsonl"));
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }
}

fn in_tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Standard output of a command, or its standard error.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The directory with the answers, filled now when no run before did. Other processes wait meanwhile.
fn work_out(python: &str, config: NexmarkConfig, events: u64) -> Result<PathBuf, String> {
    let failed = |error: std::io::Error| error.to_string();
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nexmark-answers");
    std::fs::create_dir_all(&root).map_err(failed)?;
    let lock = File::create(root.join("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;

    let stream = format!(
        "{events}-events-seed-{}-rate-{}-base-{}-",
        config.seed, config.events_per_second, config.base_time_ms
    );
    let script = in_tree("tests/support/nexmark_duckdb.py");
    let mut hash = Fnv::default();
    for source in [&script, &in_tree("scripts/duckdb.sh")] {
        hash.add(&std::fs::read(source).map_err(failed)?);
    }
    let events_file = root.join("events.jsonl");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&events_file).map_err(failed)?);
    let mut line = Vec::new();
    for number in 0..events {
        line.clear();
        write_ndjson(&config, number, &mut line).map_err(failed)?;
        hash.add(&line);
        out.write_all(&line).map_err(failed)?;
    }
    out.into_inner().map_err(|error| error.to_string())?;

    // A directory has its name only when it is complete.
    let directory = root.join(format!("{stream}{:016x}", hash.0));
    if !directory.exists() {
        let stale = |name: &str| name.starts_with(&stream) || name == "part";
        for entry in std::fs::read_dir(&root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_str().is_some_and(stale) {
                std::fs::remove_dir_all(entry.path()).map_err(failed)?;
            }
        }
        let part = root.join("part");
        run(Command::new(python)
            .arg(&script)
            .arg(&events_file)
            .arg(&part))?;
        std::fs::rename(&part, &directory).map_err(failed)?;
    }
    std::fs::remove_file(&events_file).map_err(failed)?;
    Ok(directory)
}

/// FNV-1a over everything added.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }
}

/// Compares rows with what `nexmark_duckdb.py` wrote for `query`; how many rows the table has in the end.
///
/// # Errors
/// The rows are wrong; the message shows the first that differ.
///
/// # Panics
/// There is no such query, or `expected` is not of this query.
pub fn compare(query: &str, expected: &str, printed: &[&str]) -> Result<u64, String> {
    match query {
        "q4" | "q15" | "q16" | "q17" => same_rows(expected.lines().map(body), &fold(printed)?),
        "q9" => one_of_each(expected, &fold(printed)?, &["id"]),
        "q18" => one_of_each(expected, &fold(printed)?, &["bidder", "auction"]),
        "q19" => top_ten(expected, &fold(printed)?),
        "q12" => bidder_windows(expected, printed),
        "q0" | "q1" | "q2" | "q3" | "q5" | "q7" | "q8" | "q10" | "q11" | "q13" | "q14" | "q20"
        | "q21" | "q22" | "q23" => {
            let mut rows = Table::new();
            for row in printed {
                *rows.entry(row).or_default() += 1;
            }
            same_rows(expected.lines(), &rows)
        }
        other => panic!("there is no query {other}"),
    }
}

/// How often each row is there; never 0.
type Table<'a> = HashMap<&'a str, u64>;

/// The table that a changelog comes to.
///
/// Keys are rows without their opening brace and `op`: see [`body`].
fn fold<'a>(printed: &[&'a str]) -> Result<Table<'a>, String> {
    let mut table = Table::new();
    for (index, row) in printed.iter().enumerate() {
        let change = row
            .strip_prefix(r#"{"op":""#)
            .and_then(|rest| rest.split_once(r#"","#));
        let (op, body) = change.ok_or_else(|| {
            let row = shortened(row);
            format!("row {index} of a changelog does not begin with `op`: {row}")
        })?;
        match op {
            "+I" | "+U" => *table.entry(body).or_default() += 1,
            "-U" | "-D" => match table.get_mut(body) {
                Some(1) => drop(table.remove(body)),
                Some(count) => *count -= 1,
                None => {
                    let row = shortened(row);
                    return Err(format!("row {index} takes away what is not there: {row}"));
                }
            },
            _ => {
                let row = shortened(row);
                return Err(format!("row {index} has an unknown `op`: {row}"));
            }
        }
    }
    Ok(table)
}

/// An expected row as [`fold`] spells it.
fn body(row: &str) -> &str {
    row.strip_prefix('{').expect("rows are JSON objects")
}

fn same_rows<'a>(expected: impl Iterator<Item = &'a str>, rows: &Table<'a>) -> Result<u64, String> {
    let mut surplus: HashMap<&str, i64> = rows
        .iter()
        .map(|(row, count)| (*row, i64::try_from(*count).unwrap()))
        .collect();
    for row in expected {
        *surplus.entry(row).or_default() -= 1;
    }
    let mut differences = Differences::default();
    for (row, surplus) in surplus {
        match surplus {
            0 => {}
            1.. => differences.unexpected(times(row, surplus.unsigned_abs())),
            _ => differences.missing(times(row, surplus.unsigned_abs())),
        }
    }
    differences.result()?;
    Ok(rows.values().sum())
}

fn times(row: &str, count: u64) -> String {
    let row = shortened(row);
    if count == 1 {
        row
    } else {
        format!("{count} times {row}")
    }
}

/// One row for every key of `expected`, and one of those that `expected` has for it.
fn one_of_each(expected: &str, table: &Table<'_>, key: &[&str]) -> Result<u64, String> {
    let key_of = |row: &str| {
        let row = parsed(row);
        let number = |name: &&str| row.get(*name).and_then(Value::as_u64);
        key.iter().map(number).collect::<Option<Vec<u64>>>()
    };
    let mut choices: HashMap<Vec<u64>, (HashSet<&str>, bool)> = HashMap::new();
    for row in expected.lines() {
        let key = key_of(body(row)).expect("expected rows have the key");
        choices.entry(key).or_default().0.insert(body(row));
    }
    let mut differences = Differences::default();
    for (row, count) in table {
        match key_of(row).and_then(|key| choices.get_mut(&key)) {
            Some((rows, seen)) if rows.contains(row) && *count == 1 && !*seen => *seen = true,
            _ => differences.unexpected(times(row, *count)),
        }
    }
    for (rows, _) in choices.values().filter(|(_, seen)| !seen) {
        let row = rows.iter().min().expect("a key has a row");
        differences.missing(format!("one of {}, as {}", rows.len(), shortened(row)));
    }
    differences.result()?;
    Ok(table.values().sum())
}

/// Ranks 1, 2, .. of each auction up to ten or to all its bids, at the prices expected, each row an expected bid.
fn top_ten(expected: &str, table: &Table<'_>) -> Result<u64, String> {
    const RANK: &str = r#","rank_number":"#;
    let without_rank = |row: &'_ str| row.rfind(RANK).unwrap_or(row.len());
    let auction_and_price = |row: &Value| {
        let number = |name| row.get(name).and_then(Value::as_u64);
        Some((number("auction")?, number("price")?))
    };
    let mut bids: HashMap<&str, u64> = HashMap::new();
    let mut prices: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for row in expected.lines().map(body) {
        let (auction, price) =
            auction_and_price(&parsed(row)).expect("expected rows have both numbers");
        prices.entry(auction).or_default().push(price);
        *bids.entry(&row[..without_rank(row)]).or_default() += 1;
    }
    for prices in prices.values_mut() {
        prices.sort_unstable_by(|a, b| b.cmp(a));
        prices.truncate(TOP);
    }
    let mut differences = Differences::default();
    let mut ranked: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for (row, count) in table {
        let numbers = parsed(row);
        let rank = numbers.get("rank_number").and_then(Value::as_u64);
        let left = bids.get_mut(&row[..without_rank(row)]);
        match (left, auction_and_price(&numbers), rank) {
            (Some(left), Some((auction, price)), Some(rank)) if *left >= *count => {
                *left -= count;
                let rows = ranked.entry(auction).or_default();
                rows.extend((0..*count).map(|_| (rank, price)));
            }
            _ => differences.unexpected(times(row, *count)),
        }
    }
    for (auction, prices) in prices {
        let expected: Vec<(u64, u64)> = (1..).zip(prices).collect();
        let mut found = ranked.remove(&auction).unwrap_or_default();
        found.sort_unstable();
        if found != expected {
            differences.missing(format!("auction {auction}: ranks and prices {expected:?}"));
            differences.unexpected(format!("auction {auction}: ranks and prices {found:?}"));
        }
    }
    differences.result()?;
    Ok(table.values().sum())
}

/// Windows of 10 s, each bidder's apart from one another, with all the bids in `expected`.
fn bidder_windows(expected: &str, printed: &[&str]) -> Result<u64, String> {
    let mut left: BTreeMap<u64, i64> = expected
        .lines()
        .map(|row| {
            let row: Value = serde_json::from_str(row).expect("expected rows are JSON");
            let bids = row["bid_count"].as_i64().expect("it has a count");
            (row["bidder"].as_u64().expect("it has a bidder"), bids)
        })
        .collect();
    let mut windows = BTreeSet::new();
    let mut differences = Differences::default();
    for row in printed {
        let numbers: Value = serde_json::from_str(row).unwrap_or_default();
        let number = |name| numbers.get(name).and_then(Value::as_i64);
        let fields = (
            numbers.get("bidder").and_then(Value::as_u64),
            number("bid_count").filter(|count| *count > 0),
            number("starttime").filter(|start| start.rem_euclid(WINDOW_MS) == 0),
            number("endtime"),
        );
        match fields {
            // Windows that begin at multiples of their size overlap only when they are the same.
            (Some(bidder), Some(count), Some(start), Some(end))
                if end - start == WINDOW_MS && windows.insert((bidder, start)) =>
            {
                *left.entry(bidder).or_default() -= count;
            }
            _ => differences.unexpected(shortened(row)),
        }
    }
    for (bidder, left) in left.into_iter().filter(|(_, left)| *left != 0) {
        if left > 0 {
            differences.missing(format!("{left} bids of bidder {bidder}"));
        } else {
            differences.unexpected(format!("{} bids of bidder {bidder}", -left));
        }
    }
    differences.result()?;
    Ok(printed.len() as u64)
}

/// A row without its opening brace, as JSON; null when it is none.
fn parsed(body: &str) -> Value {
    serde_json::from_str(&format!("{{{body}")).unwrap_or_default()
}

fn shortened(row: &str) -> String {
    match row.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{} ..", &row[..end]),
        None => row.to_owned(),
    }
}

/// What is wrong on each side, for a message that can be read.
#[derive(Default)]
struct Differences {
    missing: Vec<String>,
    unexpected: Vec<String>,
}

impl Differences {
    fn missing(&mut self, what: String) {
        self.missing.push(what);
    }

    fn unexpected(&mut self, what: String) {
        self.unexpected.push(what);
    }

    fn result(mut self) -> Result<(), String> {
        if self.missing.is_empty() && self.unexpected.is_empty() {
            return Ok(());
        }
        let mut message = String::new();
        for (side, rows) in [
            ("missing", &mut self.missing),
            ("unexpected", &mut self.unexpected),
        ] {
            rows.sort_unstable();
            message.push_str(&format!("\n{} {side}", rows.len()));
            for row in rows.iter().take(SHOWN_ROWS) {
                message.push_str(&format!("\n  {row}"));
            }
        }
        Err(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer is right, or the message has every one of `hints` in it.
    #[track_caller]
    fn wrong(query: &str, expected: &str, printed: &[&str], hints: &[&str]) {
        let message = compare(query, expected, printed).expect_err("the rows are wrong");
        for hint in hints {
            assert!(message.contains(hint), "no `{hint}` in {message}");
        }
    }

    #[test]
    fn rows_are_a_multiset() {
        let expected = "{\"auction\":1,\"price\":5}\n{\"auction\":1,\"price\":5}\n{\"auction\":2,\"price\":6}\n";
        let (one, two) = (r#"{"auction":1,"price":5}"#, r#"{"auction":2,"price":6}"#);
        assert_eq!(compare("q2", expected, &[one, two, one]), Ok(3));
        assert_eq!(compare("q2", "", &[]), Ok(0));
        wrong(
            "q2",
            expected,
            &[one, two],
            &["1 missing", one, "0 unexpected"],
        );
        wrong("q2", expected, &[], &["2 missing", "2 times", two]);
        wrong("q2", "", &[two], &["0 missing", "1 unexpected", two]);
        wrong(
            "q2",
            expected,
            &[one, two, one, one],
            &["0 missing", "1 unexpected"],
        );
        let other = r#"{"auction":2,"price":7}"#;
        wrong("q2", expected, &[one, other, one], &[two, other]);
        let with_op = r#"{"op":"+I","auction":2,"price":6}"#;
        wrong("q2", expected, &[one, with_op, one], &[two, with_op]);
    }

    #[test]
    fn a_message_shows_some_rows_of_many() {
        let rows: Vec<String> = (0..100).map(|i| format!("{{\"auction\":{i}}}")).collect();
        let message = compare("q2", &rows.join("\n"), &[]).unwrap_err();
        assert!(message.contains("100 missing"), "{message}");
        assert_eq!(message.lines().count(), 3 + SHOWN_ROWS, "{message}");
        let long = "x".repeat(10_000);
        assert!(compare("q2", &long, &[]).unwrap_err().len() < 1000);
    }

    #[test]
    fn a_changelog_is_folded() {
        let expected = "{\"category\":10,\"final\":7}\n{\"category\":11,\"final\":1}\n";
        let right = [
            r#"{"op":"+I","category":10,"final":5}"#,
            r#"{"op":"+I","category":11,"final":1}"#,
            r#"{"op":"-U","category":10,"final":5}"#,
            r#"{"op":"+U","category":10,"final":7}"#,
        ];
        assert_eq!(compare("q4", expected, &right), Ok(2));
        let gone = r#"{"op":"-D","category":11,"final":1}"#;
        let deleted = [&right[..], &[gone]].concat();
        wrong("q4", expected, &deleted, &["1 missing", r#""category":11"#]);
        assert_eq!(
            compare("q4", "{\"category\":10,\"final\":7}\n", &deleted),
            Ok(1)
        );
        // The end is right, but a row is taken away before it is there.
        let early = [right[2], right[0], right[1], right[3]];
        wrong("q4", expected, &early, &["row 0", "not there"]);
        let twice = [&right[..], &[right[2]]].concat();
        wrong("q4", expected, &twice, &["row 4", "not there"]);
        // An old row is left, a new one is wrong, one is there twice.
        let left = [right[0], right[1], right[3]];
        wrong("q4", expected, &left, &["0 missing", r#""final":5"#]);
        wrong("q4", expected, &right[..3], &["1 missing", r#""final":7"#]);
        let doubled = [&right[..], &[right[3]]].concat();
        wrong("q4", expected, &doubled, &["0 missing", "1 unexpected"]);
        wrong("q4", expected, &[], &["2 missing"]);
        let plain = r#"{"category":11,"final":1}"#;
        wrong("q4", expected, &[plain], &["does not begin with `op`"]);
        let unknown = r#"{"op":"+X","category":11,"final":1}"#;
        wrong("q4", expected, &[unknown], &["unknown `op`"]);
    }

    #[test]
    fn q18_may_keep_any_of_the_last_bids_of_a_key() {
        let expected = concat!(
            "{\"auction\":1,\"bidder\":1,\"price\":5,\"dateTime\":9}\n",
            "{\"auction\":1,\"bidder\":1,\"price\":6,\"dateTime\":9}\n",
            "{\"auction\":1,\"bidder\":2,\"price\":5,\"dateTime\":9}\n",
        );
        let five = r#"{"op":"+I","auction":1,"bidder":1,"price":5,"dateTime":9}"#;
        let six = r#"{"op":"+I","auction":1,"bidder":1,"price":6,"dateTime":9}"#;
        let other = r#"{"op":"+I","auction":1,"bidder":2,"price":5,"dateTime":9}"#;
        assert_eq!(compare("q18", expected, &[five, other]), Ok(2));
        assert_eq!(compare("q18", expected, &[other, six]), Ok(2));
        wrong("q18", expected, &[five, six, other], &["1 unexpected"]);
        wrong("q18", expected, &[six], &["one of 1", r#""bidder":2"#]);
        wrong("q18", expected, &[other], &["one of 2", r#""bidder":1"#]);
        wrong("q18", expected, &[five, other, other], &["2 times"]);
        let earlier = r#"{"op":"+I","auction":1,"bidder":1,"price":5,"dateTime":8}"#;
        wrong(
            "q18",
            expected,
            &[earlier, other],
            &["1 missing", r#""dateTime":8"#],
        );
        let stranger = r#"{"op":"+I","auction":3,"bidder":1,"price":5,"dateTime":9}"#;
        wrong(
            "q18",
            expected,
            &[five, other, stranger],
            &["\"auction\":3"],
        );
        wrong(
            "q18",
            expected,
            &[five, other, r#"{"op":"+I","no json"#],
            &["no json"],
        );
    }

    #[test]
    fn q9_has_one_winner_for_each_auction() {
        let expected = "{\"id\":1,\"price\":5,\"bidder\":7}\n{\"id\":1,\"price\":5,\"bidder\":8}\n";
        let row = r#"{"op":"+I","id":1,"price":5,"bidder":8}"#;
        assert_eq!(compare("q9", expected, &[row]), Ok(1));
        wrong("q9", expected, &[], &["one of 2"]);
        let lower = r#"{"op":"+I","id":1,"price":4,"bidder":8}"#;
        wrong("q9", expected, &[lower], &["1 missing", "1 unexpected"]);
    }

    #[test]
    fn q19_may_order_equal_prices_freely_and_nothing_else() {
        // Auction 1 has eleven bids, the last two at the same price: either may be the tenth.
        let bid = |bidder: u64| {
            let price = 100 - bidder.min(10);
            format!(r#""auction":1,"bidder":{bidder},"price":{price},"extra":"x""#)
        };
        let expected: String = (1..=11)
            .map(|bidder| format!("{{{},\"rank_number\":{}}}\n", bid(bidder), bidder.min(10)))
            .collect();
        let row = |bidder: u64, rank: u64| {
            format!(r#"{{"op":"+I",{},"rank_number":{rank}}}"#, bid(bidder))
        };
        let check = |rows: &[String]| {
            let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
            compare("q19", &expected, &rows)
        };
        let first: Vec<String> = (1..=9).map(|n| row(n, n)).collect();
        let with = |more: &[String]| check(&[&first[..], more].concat());
        assert_eq!(with(&[row(10, 10)]), Ok(10));
        assert_eq!(with(&[row(11, 10)]), Ok(10));
        for (more, hint) in [
            (vec![], "auction 1"),
            (vec![row(10, 11)], "(11, 90)"),
            (vec![row(10, 10), row(11, 11)], "(11, 90)"),
            (vec![row(10, 10), row(11, 10)], "(10, 90), (10, 90)"),
            (vec![row(9, 10)], "unexpected"),
            (vec![row(12, 10)], "unexpected"),
            (vec![row(10, 10).replace("\"x\"", "\"y\"")], "\"y\""),
            (
                vec![row(10, 10).replace(":1,\"b", ":2,\"b")],
                "\"auction\":2",
            ),
        ] {
            let message = with(&more).expect_err(hint);
            assert!(message.contains(hint), "no `{hint}` in {message}");
        }
        let mut swapped = first.clone();
        swapped[0] = row(1, 2);
        swapped[1] = row(2, 1);
        swapped.push(row(10, 10));
        assert!(check(&swapped).is_err());
    }

    #[test]
    fn q12_may_cut_the_bids_into_any_windows_that_do_not_overlap() {
        let expected = "{\"bidder\":1,\"bid_count\":5}\n{\"bidder\":2,\"bid_count\":1}\n";
        let row = |bidder: u64, count: u64, start: i64, end: i64| {
            format!(
                r#"{{"bidder":{bidder},"bid_count":{count},"starttime":{start},"endtime":{end}}}"#
            )
        };
        let check = |rows: &[String]| {
            let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
            compare("q12", expected, &rows)
        };
        let other = row(2, 1, 0, 10_000);
        let split = [
            row(1, 2, 0, 10_000),
            row(1, 3, 10_000, 20_000),
            other.clone(),
        ];
        assert_eq!(check(&split), Ok(3));
        assert_eq!(check(&[row(1, 5, 30_000, 40_000), other.clone()]), Ok(2));
        for (rows, hint) in [
            (vec![], "5 bids of bidder 1"),
            (vec![row(1, 4, 0, 10_000)], "1 bids of bidder 1"),
            (vec![row(1, 6, 0, 10_000)], "1 bids of bidder 1"),
            (
                vec![row(1, 2, 0, 10_000), row(1, 3, 0, 10_000)],
                "1 unexpected",
            ),
            (vec![row(1, 5, 5_000, 15_000)], "\"starttime\":5000"),
            (vec![row(1, 5, 0, 20_000)], "\"endtime\":20000"),
            (vec![row(1, 5, 0, 10_000), row(1, 0, 10_000, 20_000)], ":0,"),
            (vec![row(1, 5, 0, 10_000), row(3, 1, 0, 10_000)], "bidder 3"),
            (vec!["5".to_owned()], "5"),
        ] {
            let message = check(&[rows, vec![other.clone()]].concat()).expect_err(hint);
            assert!(message.contains(hint), "no `{hint}` in {message}");
        }
    }
}
