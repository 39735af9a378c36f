//! The times at the head of a log's lines, in every form that mail servers and syslogs write.

use chrono::{DateTime, Datelike, LocalResult, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use crate::domain::evidence::LogTime;
use crate::domain::instant::{self, Instant};

/// The zone of times that name none.
#[derive(Debug, Clone, Copy)]
pub enum Zone {
    /// This machine's.
    System,
    Named(Tz),
}

impl Zone {
    /// Both instants of a wall time that comes twice; for one that a clock change skips, the instants around the gap.
    fn resolve(self, wall: NaiveDateTime) -> Option<LogTime> {
        fn of<Z: TimeZone>(zone: &Z, wall: NaiveDateTime) -> Option<LogTime> {
            let utc = |at: DateTime<Z>| at.with_timezone(&Utc);
            match zone.from_local_datetime(&wall) {
                LocalResult::Single(at) => Some(LogTime::exactly(utc(at))),
                LocalResult::Ambiguous(a, b) => Some(LogTime { earliest: utc(a), latest: utc(b) }),
                LocalResult::None => {
                    let day = TimeDelta::hours(24);
                    let before = zone.from_local_datetime(&(wall - day)).earliest()?;
                    let after = zone.from_local_datetime(&(wall + day)).latest()?;
                    let (a, b) = (utc(before) + day, utc(after) - day);
                    Some(LogTime { earliest: a.min(b), latest: a.max(b) })
                }
            }
        }
        match self {
            Zone::System => of(&chrono::Local, wall),
            Zone::Named(zone) => of(&zone, wall),
        }
    }
}

/// Cuts a line into the text of its time and the rest: `Nov 22 04:32:30`, `2026-11-22T04:32:30.1+00:00`, or Exim's
/// `2026-11-22 04:32:30`, with a fraction or a zone or without. `None` when it does not begin with one of these.
pub fn split(line: &str) -> Option<(&str, &str)> {
    let bytes = line.as_bytes();
    let length = if bytes.first()?.is_ascii_digit() {
        match bytes.get(10)? {
            b'T' => line.find(' ')?,
            b' ' => {
                let end = line.get(11..)?.find(' ')? + 11;
                let zone = line.get(end + 1..)?.split(' ').next()?;
                let is_zone =
                    zone.len() == 5 && zone.starts_with(['+', '-']) && zone[1..].bytes().all(|b| b.is_ascii_digit());
                if is_zone { end + 1 + zone.len() } else { end }
            }
            _ => return None,
        }
    } else {
        (bytes.get(3)? == &b' ' && bytes.get(6)? == &b' ' && bytes.get(9)? == &b':').then_some(15)?
    };
    Some((line.get(..length)?, line.get(length + 1..)?))
}

/// Reads a time as [`split`] found it. One without a year is the newest that is not after tomorrow.
pub fn read(text: &str, zone: Zone, now: Instant) -> Option<LogTime> {
    if text.as_bytes().first()?.is_ascii_digit() {
        for format in ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f %z"] {
            if let Ok(at) = DateTime::parse_from_str(text, format) {
                return Some(LogTime::exactly(instant::whole_seconds(at.with_timezone(&Utc))));
            }
        }
        let wall = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
            .iter()
            .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())?;
        return zone.resolve(wall).map(whole);
    }
    // Eight years reach back over any February 29.
    (now.year() - 8..=now.year() + 1).rev().find_map(|year| {
        let wall = NaiveDateTime::parse_from_str(&format!("{year} {text}"), "%Y %b %e %H:%M:%S").ok()?;
        zone.resolve(wall).filter(|at| at.earliest <= now + TimeDelta::days(1))
    })
}

fn whole(at: LogTime) -> LogTime {
    LogTime { earliest: instant::whole_seconds(at.earliest), latest: instant::whole_seconds(at.latest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Instant {
        instant::from_text(text).unwrap()
    }

    fn read_at(line: &str, zone: Tz, now: &str) -> Option<LogTime> {
        read(split(line)?.0, Zone::Named(zone), utc(now))
    }

    #[test]
    fn the_usual_forms_are_read() {
        let now = "2026-03-01T13:00:00Z";
        let expected = Some(LogTime::exactly(utc("2026-03-01T12:00:03Z")));
        for line in [
            "Mar  1 12:00:03 mx postfix/qmgr[1]: x",
            "2026-03-01T12:00:03.729871+00:00 mx postfix/qmgr[1]: x",
            "2026-03-01T13:00:03+01:00 mx x",
            "2026-03-01T13:00:03+0100 mx x",
            "2026-03-01T12:00:03Z mx x",
            "2026-03-01T12:00:03 mx x",
            "2026-03-01 12:00:03 1abcde-000001-AB <= x",
            "2026-03-01 12:00:03.123 1abcde-000001-AB <= x",
            "2026-03-01 14:00:03 +0200 1abcde-000001-AB <= x",
        ] {
            assert_eq!(read_at(line, Tz::UTC, now), expected, "{line}");
        }
        assert_eq!(read_at("Mar  1 13:00:03 mx x", Tz::Europe__Berlin, now), expected);
        for line in
            ["", "x", "--- rotated ---", "2026-03-01", "Mar  1 12:00", "2026-13-01T00:00:00Z x", "Foo  1 12:00:03 mx x"]
        {
            assert_eq!(read_at(line, Tz::UTC, now), None, "{line:?}");
        }
    }

    #[test]
    fn a_time_without_a_year_is_the_newest_that_can_be() {
        let year_of = |line: &str, now: &str| read_at(line, Tz::UTC, now).unwrap().earliest.year();
        assert_eq!(year_of("Dec 31 23:59:59 mx x", "2027-01-01T00:10:00Z"), 2026);
        assert_eq!(year_of("Jan  1 00:00:01 mx x", "2026-12-31T23:59:59Z"), 2027);
        assert_eq!(year_of("Jan  2 00:00:01 mx x", "2026-12-31T23:59:59Z"), 2026);
        assert_eq!(year_of("Feb 29 12:00:00 mx x", "2027-03-01T00:00:00Z"), 2024);
    }

    #[test]
    fn a_wall_time_that_comes_twice_is_both_and_a_skipped_one_is_around_the_gap() {
        let twice = read_at("Oct 25 02:30:00 mx x", Tz::Europe__Berlin, "2026-10-26T00:00:00Z").unwrap();
        assert_eq!((twice.earliest, twice.latest), (utc("2026-10-25T00:30:00Z"), utc("2026-10-25T01:30:00Z")));
        let skipped = read_at("Mar 29 02:30:00 mx x", Tz::Europe__Berlin, "2026-03-30T00:00:00Z").unwrap();
        assert_eq!((skipped.earliest, skipped.latest), (utc("2026-03-29T00:30:00Z"), utc("2026-03-29T01:30:00Z")));
    }
}
