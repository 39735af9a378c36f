//! Instants: UTC, whole seconds, written `2026-03-01T08:00:00Z` everywhere.

use std::fmt;
use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike, LocalResult, NaiveDate, NaiveDateTime, SecondsFormat, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use serde::{Serialize, Serializer};

use super::absent::stands_for_nothing;

/// An instant in UTC; the ledger keeps whole seconds.
pub type Instant = DateTime<Utc>;

/// Writes an instant the way the ledger and every output does: `2026-03-01T08:00:00Z`.
pub fn text(instant: Instant) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Reads what [`text`] wrote. `None` for anything else.
pub fn from_text(text: &str) -> Option<Instant> {
    match read_plain(text.as_bytes())? {
        Reading::Instant(instant) if text.as_bytes()[10] == b'T' => Some(instant),
        _ => None,
    }
}

/// An instant as records and outputs have it: it writes itself as [`text`] does, and reads nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recorded(pub Instant);

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text(self.0))
    }
}

impl Serialize for Recorded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Cuts an instant down to whole seconds.
pub fn whole_seconds(instant: Instant) -> Instant {
    DateTime::from_timestamp(instant.timestamp(), 0).unwrap_or(instant)
}

/// Parses a time as shops write it: RFC 3339, `2026-03-01 08:00:00` with or without fraction or offset,
/// `2026-03-01T08:00`, `2026-03-01`, RFC 2822, Unix seconds, or Unix milliseconds (13 digits). One without an offset is
/// read in `zone`.
///
/// A wall time that a clock change skips is read as the first instant after the gap; one that comes twice
/// as the first of the two. The result has whole seconds.
pub fn parse(text: &str, zone: Tz) -> Option<Instant> {
    match read(text)? {
        Reading::Instant(at) => Some(at),
        Reading::Wall(wall) => resolve(wall, zone).map(whole_seconds),
    }
}

/// A time as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// With an offset, or in Unix seconds; in whole seconds.
    Instant(Instant),
    /// Without an offset: which instant it is depends on the zone.
    Wall(NaiveDateTime),
}

/// Whether a field that should hold a time says that there is none: it is empty, a word such as `NULL`, 0, MySQL's zero
/// date, or the first day of the year 1, which is how .NET writes none.
pub fn is_absent(text: &str) -> bool {
    let text = text.trim();
    text.is_empty()
        || stands_for_nothing(text)
        || text.starts_with("0000-00-00")
        || text.starts_with("0001-01-01")
        || text.bytes().all(|b| b == b'0')
}

/// The years that a shop's times can lie in: one of fewer digits is a slip (`26-03-01`), not the year 26.
const YEARS: RangeInclusive<i32> = 1000..=9999;

/// Reads a time in any of the spellings of [`parse`], and says whether it needs a zone. `None` when it is no time.
pub fn read(text: &str) -> Option<Reading> {
    let reading = read_any(text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}'))?;
    let year = match reading {
        Reading::Instant(at) => at.year(),
        Reading::Wall(wall) => wall.year(),
    };
    YEARS.contains(&year).then_some(reading)
}

fn read_any(text: &str) -> Option<Reading> {
    if text.starts_with(|c: char| c.is_ascii_digit())
        && let Some(at) = unix(text)
    {
        return at.map(Reading::Instant);
    }
    if let Some(reading) = read_plain(text.as_bytes()) {
        return Some(reading);
    }
    let instant = |zoned: DateTime<chrono::FixedOffset>| Reading::Instant(whole_seconds(zoned.with_timezone(&Utc)));
    if let Ok(zoned) = DateTime::parse_from_rfc3339(text) {
        return Some(instant(zoned));
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f %#z", "%Y-%m-%dT%H:%M:%S%.f%#z"] {
        if let Ok(zoned) = DateTime::parse_from_str(text, format) {
            return Some(instant(zoned));
        }
    }
    let bare = text.strip_suffix(" UTC").or_else(|| text.strip_suffix('Z'));
    let wall = bare.unwrap_or(text);
    let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
    let naive = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(wall, format).ok());
    let naive = naive.or_else(|| NaiveDate::parse_from_str(wall, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0));
    match naive {
        Some(naive) if bare.is_some() => Some(Reading::Instant(whole_seconds(naive.and_utc()))),
        Some(naive) => Some(Reading::Wall(naive)),
        None => DateTime::parse_from_rfc2822(text).ok().map(instant),
    }
}

/// Unix seconds of 9 to 12 digits, milliseconds of 13, either with a fraction. `None` when the text is no number, `Some(None)`
/// when it is one and no time.
fn unix(text: &str) -> Option<Option<Instant>> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !digits(whole) || !digits(fraction) || fraction.is_empty() {
        return None;
    }
    let number = whole.parse::<i64>().ok();
    Some(match whole.len() {
        9..=12 => number.and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
        13 => number.and_then(|milliseconds| DateTime::from_timestamp(milliseconds / 1000, 0)),
        _ => None,
    })
}

/// `2026-03-01 08:00:00`, with a `T` in it or a `Z` at its end: what nearly every row of a million holds.
fn read_plain(text: &[u8]) -> Option<Reading> {
    let (text, utc) = text.strip_suffix(b"Z").map_or((text, false), |text| (text, true));
    let marks = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if text.len() != 19 || !matches!(text[10], b' ' | b'T') || !marks.iter().all(|(at, mark)| text[*at] == *mark) {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0_u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
    };
    let day = NaiveDate::from_ymd_opt(i32::try_from(number(0, 4)?).ok()?, number(5, 7)?, number(8, 10)?)?;
    let wall = day.and_hms_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?)?;
    Some(if utc { Reading::Instant(wall.and_utc()) } else { Reading::Wall(wall) })
}

/// Turns a wall time of `zone` into an instant: the first of two, or the first after a gap.
pub fn resolve(wall: NaiveDateTime, zone: Tz) -> Option<Instant> {
    match zone.from_local_datetime(&wall) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.with_timezone(&Utc)),
        // A gap is at most a day long (a zone that moved across the date line) and ends on a whole minute.
        LocalResult::None => (1..=24 * 60).find_map(|minutes| {
            let later = wall.with_second_zero()? + TimeDelta::minutes(minutes);
            zone.from_local_datetime(&later).earliest().map(|at| at.with_timezone(&Utc))
        }),
    }
}

/// The same, but the second of two: for what is over, and must count for as long as it may have to.
pub fn resolve_late(wall: NaiveDateTime, zone: Tz) -> Option<Instant> {
    match zone.from_local_datetime(&wall) {
        LocalResult::Ambiguous(_, at) => Some(at.with_timezone(&Utc)),
        _ => resolve(wall, zone),
    }
}

trait WithSecondZero: Sized {
    fn with_second_zero(self) -> Option<Self>;
}

impl WithSecondZero for NaiveDateTime {
    fn with_second_zero(self) -> Option<NaiveDateTime> {
        use chrono::Timelike;
        self.with_second(0)?.with_nanosecond(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_spellings_of_one_instant_are_equal() {
        let expected = from_text("2026-03-01T08:00:00Z").unwrap();
        for spelling in [
            "2026-03-01T08:00:00Z",
            "2026-03-01 08:00:00",
            "2026-03-01T08:00:00.25Z",
            "2026-03-01 08:00",
            "2026-03-01T09:00:00+01:00",
            "2026-03-01 09:00:00+01",
            "2026-03-01 09:00:00 +0100",
            "2026-03-01 08:00:00 UTC",
            "1772352000",
            "1772352000.75",
            "1772352000999",
            "1772352000999.5",
            "Sun, 01 Mar 2026 08:00:00 +0000",
            "2026-3-1 8:00:00",
            "2026-3-1 8:00",
            " 2026-03-01T08:00 ",
        ] {
            assert_eq!(parse(spelling, Tz::UTC), Some(expected), "{spelling:?}");
        }
        assert_eq!(parse("2026-03-01 09:00:00", Tz::Europe__Berlin), Some(expected));
    }

    #[test]
    fn what_the_ledger_keeps_is_read_and_nothing_else() {
        let instant = DateTime::from_timestamp(1_772_352_000, 999_999_999).unwrap();
        assert_eq!(text(instant), "2026-03-01T08:00:00Z");
        assert_eq!(from_text("2026-03-01T08:00:00Z"), Some(whole_seconds(instant)));
        for other in ["2026-03-01 08:00:00Z", "2026-03-01T08:00:00", "2026-03-01T08:00Z", "2026-02-30T08:00:00Z", ""] {
            assert_eq!(from_text(other), None, "{other:?}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-13-01 00:00:00",
            "2026-02-30",
            "08:00",
            "20260301",
            "2026-03-01 25:00:00",
            "26-03-01",
            "1.2.3",
            "17723520001234",
            "1772352000.",
        ] {
            assert_eq!(parse(text, Tz::UTC), None, "{text:?}");
        }
    }

    #[test]
    fn words_for_no_time_are_known() {
        for text in ["", " ", "NULL", "\\N", "0", "0000-00-00 00:00:00", "0000-00-00", "0001-01-01T00:00:00", "null"] {
            assert!(is_absent(text), "{text:?}");
        }
        for text in ["2026-03-01", "1970-01-01 00:00:00", "soon", "1772352000"] {
            assert!(!is_absent(text), "{text:?}");
        }
    }

    #[test]
    fn a_skipped_wall_time_is_the_first_instant_after_the_gap() {
        let berlin = parse("2026-03-29 02:30:00", Tz::Europe__Berlin).unwrap();
        assert_eq!(text(berlin), "2026-03-29T01:00:00Z");
        let twice = parse("2026-10-25 02:30:00", Tz::Europe__Berlin).unwrap();
        assert_eq!(text(twice), "2026-10-25T00:30:00Z");
        let Some(Reading::Wall(wall)) = read("2026-10-25 02:30:00") else { panic!("it has no zone") };
        assert_eq!(resolve_late(wall, Tz::Europe__Berlin).map(text).as_deref(), Some("2026-10-25T01:30:00Z"));
    }
}
