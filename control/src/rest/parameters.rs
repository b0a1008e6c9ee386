//! What stands in query strings and paths of metrics, and in the body of a stop.
//!
//! Invariant: what is read is bounded, whoever wrote it.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::answer::Refusal;
use super::view::metrics::Aggregation;
use crate::limits;

/// `["0", "2-4"]` are 0..=0 and 2..=4.
pub(super) fn subtasks(ranges: &[String]) -> Result<Vec<RangeInclusive<u32>>, Refusal> {
    if ranges.len() > limits::SUBTASK_RANGES_MAX {
        return Err(Refusal::bad_request(format!(
            "at most {} ranges of subtasks at a time",
            limits::SUBTASK_RANGES_MAX
        )));
    }
    let one = |range: &String| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let range = subtask(first)?..=subtask(last)?;
        if range.is_empty() {
            return Err(Refusal::bad_request(format!(
                "subtasks {first}-{last} begin behind their end"
            )));
        }
        Ok(range)
    };
    ranges.iter().map(one).collect()
}

/// The index of a subtask.
pub(super) fn subtask(text: &str) -> Result<u32, Refusal> {
    text.parse()
        .ok()
        .filter(|&subtask| (subtask as usize) < limits::SUBTASKS_MAX)
        .ok_or_else(|| {
            Refusal::bad_request(format!(
                "`{text}` is no index of a subtask, 0 to {}",
                limits::SUBTASKS_MAX - 1
            ))
        })
}

/// All of them when none is named.
pub(super) fn aggregations(named: Option<Vec<String>>) -> Result<Vec<Aggregation>, Refusal> {
    let Some(named) = named else {
        return Ok(Aggregation::ALL.to_vec());
    };
    let one = |name: &String| {
        Aggregation::ALL
            .into_iter()
            .find(|known| known.name() == name)
            .ok_or_else(|| {
                Refusal::bad_request(format!(
                    "unknown aggregation `{name}`: min, max, avg and sum are known"
                ))
            })
    };
    named.iter().map(one).collect()
}

/// Whether a stop shall drain, from its body as Flink has it: `drain` may be left out, as may the whole body. What
/// only a savepoint has a use for is refused rather than ignored.
pub(super) fn drain(body: &[u8]) -> Result<bool, Refusal> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(false);
    }
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request(format!("body is no JSON: {error}")))?;
    let Value::Object(fields) = body else {
        return Err(Refusal::bad_request(
            "body must be an object such as {\"drain\": true}",
        ));
    };
    let mut drain = false;
    for (name, value) in &fields {
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("drain", Value::Bool(given)) => drain = *given,
            ("drain", other) => {
                return Err(Refusal::bad_request(format!(
                    "drain must be true or false, not {other}"
                )));
            }
            ("targetDirectory" | "formatType" | "triggerId", _) => {
                return Err(Refusal::bad_request(format!(
                    "{name} is for a savepoint, and ringflow takes none yet: leave it out to stop the job without one"
                )));
            }
            (other, _) => {
                return Err(Refusal::bad_request(format!(
                    "unknown field `{other}`: only `drain` is known"
                )));
            }
        }
    }
    Ok(drain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_names_parse_and_nonsense_does_not() {
        let parse = |text: &str| {
            let ranges: Vec<String> = text.split(',').map(str::to_owned).collect();
            subtasks(&ranges)
        };
        assert_eq!(parse("0"), Ok(vec![0..=0]));
        assert_eq!(parse("3-4,0"), Ok(vec![3..=4, 0..=0]));
        assert!(parse(&"1,".repeat(100)).is_err());
        for bad in ["", "-", "1-", "-1", "5-4", "x", "0-99999999", "1,,2"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let named = |name: &str| aggregations(Some(vec![name.to_owned()]));
        assert_eq!(named("avg"), Ok(vec![Aggregation::Avg]));
        assert!(named("skew").is_err() && named("").is_err());
        assert_eq!(aggregations(None).unwrap().len(), 4);
    }

    #[test]
    fn a_stop_drains_only_when_told_to_and_takes_nothing_that_needs_a_savepoint() {
        let read = |body: &str| drain(body.as_bytes());
        for (body, expected) in [
            ("", false),
            ("{}", false),
            ("{\"drain\": false}", false),
            (" {\"drain\": true} ", true),
            ("{\"drain\": null, \"targetDirectory\": null}", false),
        ] {
            assert_eq!(read(body), Ok(expected), "{body}");
        }
        for (body, expected) in [
            ("{\"drain\": 1}", "drain must be true or false"),
            ("{\"targetDirectory\": \"/tmp\"}", "takes none yet"),
            ("{\"drian\": true}", "unknown field `drian`"),
            ("true", "must be an object"),
            ("{", "no JSON"),
        ] {
            let Err(Refusal::BadRequest(why)) = read(body) else {
                panic!("{body} is accepted");
            };
            assert!(why[0].contains(expected), "{why:?}");
        }
    }
}
