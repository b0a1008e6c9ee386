//! The program does what its text says: it is run, and its lines are compared with sums made another way.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

#[test]
fn fares_of_all_zones_and_minutes_come_out_once() {
    let output = Command::new(env!("CARGO_BIN_EXE_trips"))
        .output()
        .expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: BTreeSet<&str> = text.lines().collect();

    let mut sums: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
    let mut expected = BTreeSet::new();
    for n in 0..100_000_u64 {
        if n % 1000 == 999 {
            expected.insert(format!("suspicious: driver {} drove 900000 m", n % 700));
            continue;
        }
        let minute_end = 1_767_225_600_000 + (n * 10 / 60_000 + 1) * 60_000;
        let (trips, cents) = sums.entry((n * 7 % 40, minute_end)).or_default();
        *trips += 1;
        *cents += 500 + n * 37 % 4000;
    }
    for ((zone, end), (trips, cents)) in sums {
        expected.insert(format!(
            "zone {zone}: {trips} trips, {cents} cents, until {end}"
        ));
    }
    let missing: Vec<&String> = expected
        .iter()
        .filter(|line| !lines.contains(line.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "missing of {}: {:?}",
        expected.len(),
        &missing[..missing.len().min(5)]
    );
    let printed = text
        .lines()
        .filter(|line| line.starts_with("zone "))
        .count();
    assert_eq!(
        printed,
        expected
            .iter()
            .filter(|line| line.starts_with("zone "))
            .count(),
        "each once"
    );
}

#[test]
fn a_wrong_flag_is_refused_with_the_usage() {
    let output = Command::new(env!("CARGO_BIN_EXE_trips"))
        .arg("--no-such-flag")
        .output()
        .expect("it starts");
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("--no-such-flag") && errors.contains("Usage"),
        "{errors}"
    );
}
