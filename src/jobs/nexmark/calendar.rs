//! Days, hours and minutes of event times, in UTC.
//!
//! Invariant: integer arithmetic on the proleptic Gregorian calendar; any `i64` of milliseconds has a date.
//! Source: days to date after Hinnant, "chrono-compatible low-level date algorithms".

const DAY_MS: i64 = 86_400_000;
const MINUTE_MS: i64 = 60_000;

/// Day of a time: days since the epoch.
pub(super) const fn day(time_ms: i64) -> i64 {
    time_ms.div_euclid(DAY_MS)
}

/// Hour of the day.
pub(super) const fn hour(time_ms: i64) -> i64 {
    time_ms.rem_euclid(DAY_MS) / (60 * MINUTE_MS)
}

/// Minute of the day.
pub(super) const fn minute_of_day(time_ms: i64) -> i64 {
    time_ms.rem_euclid(DAY_MS) / MINUTE_MS
}

/// Year, month and day of the month.
const fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months count from March.
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day_of_month)
}

/// The day of number [`day`] as `yyyy-MM-dd`.
pub(super) fn date_of(day: i64) -> String {
    let (year, month, day) = civil(day);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The day of a time as `yyyy-MM-dd`.
pub(super) fn date(time_ms: i64) -> String {
    date_of(day(time_ms))
}

/// A minute of the day as `HH:mm`.
pub(super) fn clock(minute_of_day: i64) -> String {
    format!("{:02}:{:02}", minute_of_day / 60, minute_of_day % 60)
}

/// The minute of a time as `HH:mm`.
pub(super) fn minute(time_ms: i64) -> String {
    clock(minute_of_day(time_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_calendars_do() {
        for (time_ms, text) in [
            (0, "1970-01-01 00:00"),
            (-1, "1969-12-31 23:59"),
            (951_782_400_000, "2000-02-29 00:00"),
            (1_436_918_400_000, "2015-07-15 00:00"),
            (1_709_251_199_999, "2024-02-29 23:59"),
            (4_107_542_400_000, "2100-03-01 00:00"),
        ] {
            assert_eq!(format!("{} {}", date(time_ms), minute(time_ms)), text);
        }
        assert_eq!(hour(1_436_918_400_000 + 19 * 3_600_000 + 5), 19);
        assert_eq!(hour(-1), 23);
    }
}
