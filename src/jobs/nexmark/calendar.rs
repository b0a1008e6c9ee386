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

/// Number of a day, which need not be in the calendar: the 30th of February is the 1st or 2nd of March.
const fn day_number(year: i64, month: i64, day_of_month: i64) -> i64 {
    // Years begin in March, so that a leap day is the last of its year.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day_of_month - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The time at `hour` and `minute` of a day `yyyy-MM-dd`, in milliseconds since the epoch; none where that is no day or no time.
pub(super) fn time_of(date: &str, hour: u8, minute: u8) -> Option<i64> {
    let mut parts = date.splitn(3, '-');
    let mut part = || parts.next()?.parse::<u32>().ok();
    let (year, month, day_of_month) = (part()?, part()?, part()?);
    let number = day_number(year.into(), month.into(), day_of_month.into());
    let is_time = hour < 24 && minute < 60 && (1..=12).contains(&month);
    (is_time && date_of(number) == date)
        .then(|| number * DAY_MS + (60 * i64::from(hour) + i64::from(minute)) * MINUTE_MS)
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
        assert_eq!(time_of("1969-12-31", 23, 59), Some(-MINUTE_MS));
        assert_eq!(time_of("2024-02-29", 0, 1), Some(1_709_164_860_000));
        for date in ["2023-02-29", "2024-2-9", "2024-13-01", "x", ""] {
            assert_eq!(time_of(date, 0, 0), None, "{date}");
        }
        assert_eq!(time_of("2024-02-29", 24, 0), None);
        assert_eq!(hour(1_436_918_400_000 + 19 * 3_600_000 + 5), 19);
        assert_eq!(hour(-1), 23);
    }
}
