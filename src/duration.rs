//! Durations on the command line: a whole number and a unit.
//!
//! Owns: [`parse`], [`text`]. Invariant: `parse(text(d)) == d` for every duration below 584 years.

use std::time::Duration;

/// Reads `50us`, `2s`, `1500ms`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let unit = match &text[split..] {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => 0,
    };
    text[..split]
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(unit))
        .filter(|_| unit > 0)
        .map(Duration::from_nanos)
        .ok_or_else(|| "write a whole number and a unit (ns, us, ms, s), such as 50us".to_owned())
}

/// In the greatest unit that needs no fraction.
pub(crate) fn text(duration: Duration) -> String {
    let ns = duration.as_nanos();
    let units: [(u128, &str); 3] = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    let whole = units.into_iter().find(|(unit, _)| ns.is_multiple_of(*unit));
    let (unit, name) = whole.unwrap_or((1, "ns"));
    format!("{}{name}", ns / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse_and_print() {
        for text_of in ["50us", "0s", "2s", "1500ms", "1ns"] {
            assert_eq!(parse(text_of).map(text).as_deref(), Ok(text_of));
        }
        for bad in [
            "",
            "50",
            "us",
            "-1us",
            "1.5s",
            "2 s",
            "99999999999999999999s",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
