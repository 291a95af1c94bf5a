//! Times as the contract writes them: RFC 3339 in UTC with milliseconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the tests have no clock.rs: they may not use the product's code")]
pub fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since_1970.as_millis()).unwrap()
}

/// `2026-11-20T12:00:00.000Z`
pub fn format(ms: i64) -> String {
    let (days, ms) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Reads what [`format()`] writes and fails on any other spelling.
pub fn parse(text: &str) -> i64 {
    let number = |from: usize, to: usize| -> i64 {
        let digits = text.get(from..to).unwrap_or("");
        digits.parse().unwrap_or_else(|_| panic!("{text:?} is not a time with milliseconds and Z"))
    };
    let seconds = number(11, 13) * 3600 + number(14, 16) * 60 + number(17, 19);
    let ms = days(number(0, 4), number(5, 7), number(8, 10)) * 86_400_000 + seconds * 1000 + number(20, 23);
    assert_eq!(format(ms), text, "a time with milliseconds and Z");
    ms
}

/// Days since 1970 of a date, counting years from March so that the leap day comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date of a day since 1970: the inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let (month, day) = ((march + 2) % 12 + 1, of_year - (153 * march + 2) / 5 + 1);
    (year + era * 400 + i64::from(month <= 2), month, day)
}
