//! Rows in files.
//!
//! Owns: how any query's rows go to files ([`json_lines`]), and q10's partitions ([`by_minute`]). Invariant: the time
//! of a q10 partition is the first of its minute, in UTC.
//! Left out: files themselves ([`crate::api::file`]).

use std::path::Path;
use std::time::Duration;

use crate::nexmark::rows;
use crate::nexmark::schema::FiledBid;
use crate::prelude::*;

use super::calendar::time_of;

/// Rows of any query, one JSON object per line. Those of queries that update say what they mean.
pub(super) fn json_lines<R: Record>(
    directory: &Path,
    render: impl for<'a> Fn(Row<'a, R>, &mut Vec<u8>) + Send + Sync + 'static,
) -> FileSink<R> {
    let encode = move |row: Row<'_, R>, line: &mut Vec<u8>| {
        render(row, line);
        line.push(b'\n');
    };
    FileSink::for_row_format(directory, encode)
        .with_part_names("part", ".json")
        .with_all_row_kinds()
}

/// q10: a directory for each day and minute, committed when the watermark has passed its minute.
pub(super) fn by_minute(directory: &Path) -> FileSink<FiledBid<'static>> {
    let encode = |bid: Row<'_, FiledBid<'static>>, row: &mut Vec<u8>| {
        rows::append_q10_csv(bid.view(), row);
    };
    let commit = PartitionCommit::partition_time(minute_of).with_delay(Duration::from_secs(60));
    FileSink::for_row_format(directory, encode)
        .with_bucket_assigner(|bid: Row<'_, FiledBid<'static>>, bucket: &mut String| {
            append_partition(bucket, "dt", bid.dt());
            append_partition(bucket, "hm", bid.hm());
        })
        .with_partition_commit(commit)
        .with_part_names("part", ".csv")
}

/// When the minute of a partition `dt=yyyy-MM-dd/hm=HH%3Amm` begins.
fn minute_of(bucket: &str) -> Option<EventTime> {
    let (dt, hm) = bucket.strip_prefix("dt=")?.split_once("/hm=")?;
    let (hour, minute) = hm.split_once("%3A")?;
    time_of(dt, hour.parse().ok()?, minute.parse().ok()?).map(EventTime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::nexmark::calendar::{date, minute};

    #[test]
    fn the_time_of_a_partition_is_that_of_its_minute() {
        for time_ms in [0, 1_436_918_400_000, 951_782_399_999, 4_107_542_400_000, -1] {
            let mut bucket = String::new();
            append_partition(&mut bucket, "dt", &date(time_ms));
            append_partition(&mut bucket, "hm", &minute(time_ms));
            let begins = time_ms.div_euclid(60_000) * 60_000;
            assert_eq!(minute_of(&bucket), Some(EventTime(begins)), "{bucket}");
        }
        for bucket in [
            "",
            "dt=2026-01-01",
            "dt=2026-01/hm=00%3A01",
            "dt=2026-01-01/hm=0001",
            "hm=00%3A01",
        ] {
            assert_eq!(minute_of(bucket), None, "{bucket}");
        }
    }
}
