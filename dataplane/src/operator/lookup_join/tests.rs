//! Tables from files and closures, good and bad.

use super::*;
use crate::operator::testing::{Tested, Triple};
use crate::record::RowKind;

fn read(text: &[u8]) -> Result<HashMap<u64, i64>> {
    read_csv(Path::new("side.csv"), text)
}

#[test]
fn lines_are_rows() {
    let table = read(b"1,10\n 2 , -20 \r\n\n3,30").expect("good lines");
    assert_eq!(table, HashMap::from([(1, 10), (2, -20), (3, 30)]));
    assert!(read(b"").expect("no lines").is_empty());
    let texts: HashMap<String, String> =
        read_csv(Path::new("side.csv"), &b"a,b,c\n"[..]).expect("the rest is the value");
    assert_eq!(texts, HashMap::from([("a".to_owned(), "b,c".to_owned())]));
}

#[test]
fn bad_lines_are_named() {
    let long = [&b"1,1\n2,"[..], &vec![b'9'; LINE_BYTES_MAX]].concat();
    let bad: [(&[u8], &str); 6] = [
        (b"1,1\n22\n", "no comma"),
        (b"1,1\nx,2\n", "its key `x`"),
        (b"1,1\n2,\n", "its value ``"),
        (b"1,1\n1,2\n", "has a row already"),
        (b"1,1\n\xff,2\n", "utf-8"),
        (&long, "longer than 1 MiB"),
    ];
    for (text, why) in bad {
        let error = read(text).expect_err(why).to_string();
        assert!(
            error.contains("side.csv, line 2") && error.contains(why),
            "{error}"
        );
    }
}

#[test]
fn a_missing_file_and_a_doubled_row_are_errors() {
    let table = LookupTable::<u64, u64>::csv("/nowhere/side.csv");
    let error = table.load().expect_err("no file").to_string();
    assert!(
        error.contains("/nowhere/side.csv") && error.contains("every TaskManager"),
        "{error}"
    );
    let table = LookupTable::of(|| [(1, 1), (2, 2), (1, 3)]);
    let error = table.load().expect_err("key 1 twice").to_string();
    assert!(error.contains("row 3"), "{error}");
}

#[test]
fn records_meet_their_row_or_none_and_keep_kind_and_time() {
    let table = LookupTable::of(|| (0..3u64).map(|key| (key, 10 * key)))
        .load()
        .expect("rows");
    let mut join = Tested::new(LookupJoin::new(
        table,
        |row: Row<'_, Triple>| row.key(),
        |row: Row<'_, Triple>, value: Option<&u64>, out: &mut Collector<'_, Triple>| {
            let found = value.map_or(-1, |value| i64::try_from(*value).expect("small"));
            out.collect(Triple::new(row.key(), row.a(), found));
        },
    ));
    join.push(0, Triple::new(2, 7, 0), 5, RowKind::Insert)
        .expect("joins");
    join.push(0, Triple::new(3, 8, 0), 6, RowKind::Delete)
        .expect("joins");
    let expected = [
        (RowKind::Insert, Triple::new(2, 7, 20), 5),
        (RowKind::Delete, Triple::new(3, 8, -1), 6),
    ];
    assert_eq!(join.changes(), expected);
}
