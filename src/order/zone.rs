//! The time zone of a sale: where its days begin.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::InvalidId;
use crate::clock::UnixMs;
use crate::limits;

/// A time zone of the IANA database, by its name. The database is part of the program, so that every engine of one
/// version cuts days at the same moments.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Zone = Zone(TimeZone::UTC);

    /// Takes a name such as `Asia/Shanghai` or `UTC`.
    pub fn parse(name: &str) -> Result<Self, InvalidId> {
        if name.is_empty() || name.len() > limits::NAME_CHARS_MAX {
            return Err(InvalidId);
        }
        if name == "UTC" {
            return Ok(Zone::UTC);
        }
        TimeZone::get(name).map(Zone).map_err(|_| InvalidId)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The day at `now_ms` in this zone, in days since 1970-01-01.
    pub fn day(&self, now_ms: UnixMs) -> i64 {
        // A broken clock may read a time beyond the calendar; its day is then that of UTC.
        let offset_s = Timestamp::from_millisecond(now_ms).map_or(0, |at| i64::from(self.0.to_offset(at).seconds()));
        now_ms.saturating_add(offset_s * 1000).div_euclid(24 * 3600 * 1000)
    }
}

impl Default for Zone {
    fn default() -> Self {
        Zone::UTC
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_begin_where_the_sale_is() {
        // 2026-11-20T16:00:00Z is midnight in Shanghai.
        let midnight = 1_795_190_400_000;
        let (utc, shanghai) = (Zone::UTC, Zone::parse("Asia/Shanghai").unwrap());
        assert_eq!(utc.day(midnight), utc.day(midnight - 1));
        assert_eq!(shanghai.day(midnight), shanghai.day(midnight - 1) + 1);
        assert_eq!(shanghai.day(midnight), utc.day(midnight) + 1);
        assert_eq!(Zone::UTC.day(-1), -1);
        assert_eq!(shanghai.day(i64::MAX), Zone::UTC.day(i64::MAX));
        // New York went back an hour on 2026-11-01: that day has 25 hours.
        let new_york = Zone::parse("America/New_York").unwrap();
        let began = 1_793_505_600_000;
        let hour = 3_600_000;
        assert_eq!(new_york.day(began), new_york.day(began - 1) + 1);
        assert_eq!(new_york.day(began + 25 * hour - 1), new_york.day(began));
        assert_eq!(new_york.day(began + 25 * hour), new_york.day(began) + 1);
    }

    #[test]
    fn a_zone_has_a_known_name() {
        assert_eq!(Zone::parse("Asia/Shanghai").unwrap().as_str(), "Asia/Shanghai");
        assert_eq!(Zone::parse("UTC"), Ok(Zone::UTC));
        for bad in ["", "Mars/Olympus", "../etc/passwd", "+08:00", &"x".repeat(65)] {
            assert_eq!(Zone::parse(bad), Err(InvalidId), "{bad}");
        }
    }
}
