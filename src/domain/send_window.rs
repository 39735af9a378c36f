//! The hours of the week at which mail may leave, by the clock of whoever gets it.

use chrono::{Datelike, Days, NaiveDate, NaiveTime, TimeDelta, Weekday};
use chrono_tz::Tz;
use sha2::{Digest, Sha256};

use super::instant::{self, Instant};

/// From an hour to an hour, on some days of the week.
///
/// An edge that a change of the clocks skips is the first instant after it; of one that comes twice, it opens with the first and
/// closes with the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendWindow {
    pub opens: NaiveTime,
    /// Not after `opens`: on the day after.
    pub closes: NaiveTime,
    /// The days on which it opens; at least one.
    pub days: Vec<Weekday>,
    /// What waited for it leaves over so long.
    pub spread: TimeDelta,
}

/// One stretch of time in which it is open; without its end.
#[derive(Debug, Clone, Copy)]
struct Open {
    from: Instant,
    until: Instant,
}

impl SendWindow {
    /// The first instant from `at` on at which it is open.
    pub fn earliest(&self, at: Instant, zone: Tz) -> Instant {
        self.open_around(at, zone).map_or(at, |open| open.from.max(at))
    }

    /// When a message that is due at `at` may leave: then, where it is open; else after it opens, at a place of its own within
    /// the spread that its key decides. Without an opening in the next weeks, which only the edge of time has: at `at`.
    pub fn place(&self, at: Instant, zone: Tz, message_key: &str) -> Instant {
        match self.open_around(at, zone) {
            Some(open) if open.from > at => open.from + self.offset(open, message_key),
            _ => at,
        }
    }

    /// The stretch that `at` lies in, or the next one after it.
    fn open_around(&self, at: Instant, zone: Tz) -> Option<Open> {
        let today = at.with_timezone(&zone).date_naive();
        let first = today.checked_sub_days(Days::new(1))?;
        // A week and a day on each side: a window of one day a week, and one that crosses midnight.
        (0..=9)
            .filter_map(|days| self.open_on(first.checked_add_days(Days::new(days))?, zone))
            .find(|open| open.until > at)
    }

    fn open_on(&self, day: NaiveDate, zone: Tz) -> Option<Open> {
        if !self.days.contains(&day.weekday()) {
            return None;
        }
        let last_day = if self.closes > self.opens { day } else { day.checked_add_days(Days::new(1))? };
        let from = instant::resolve(day.and_time(self.opens), zone)?;
        let until = instant::resolve_late(last_day.and_time(self.closes), zone)?;
        (from < until).then_some(Open { from, until })
    }

    fn offset(&self, open: Open, message_key: &str) -> TimeDelta {
        let spread = self.spread.min(open.until - open.from).num_seconds();
        if spread <= 0 {
            return TimeDelta::zero();
        }
        let mut digest = Sha256::new();
        digest.update(b"spread\0");
        digest.update(message_key.as_bytes());
        let first: [u8; 8] = digest.finalize()[..8].try_into().unwrap_or_default();
        TimeDelta::seconds((u64::from_be_bytes(first) % spread as u64) as i64)
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::Europe::Berlin;
    use chrono_tz::Tz::UTC;
    use proptest::prelude::*;

    use super::*;

    fn window(opens: &str, closes: &str, days: &[Weekday], spread_minutes: i64) -> SendWindow {
        let time = |text: &str| NaiveTime::parse_from_str(text, "%H:%M").expect("a time");
        let spread = TimeDelta::minutes(spread_minutes);
        SendWindow { opens: time(opens), closes: time(closes), days: days.to_vec(), spread }
    }

    impl SendWindow {
        fn is_open(&self, at: Instant, zone: Tz) -> bool {
            self.earliest(at, zone) == at
        }
    }

    fn at(text: &str) -> Instant {
        instant::from_text(text).expect("an instant")
    }

    const ALL: [Weekday; 7] =
        [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri, Weekday::Sat, Weekday::Sun];

    #[test]
    fn it_is_open_from_its_first_second_to_before_its_last() {
        let day = window("08:00", "21:00", &ALL[..6], 0);
        for (time, is_open) in [("07:59:59", false), ("08:00:00", true), ("20:59:59", true), ("21:00:00", false)] {
            assert_eq!(day.is_open(at(&format!("2026-03-04T{time}Z")), UTC), is_open, "{time}");
        }
        // Of a Saturday evening, the next is Monday's.
        assert_eq!(day.place(at("2026-03-07T21:00:00Z"), UTC, "k"), at("2026-03-09T08:00:00Z"));
        assert_eq!(day.place(at("2026-03-07T20:59:59Z"), UTC, "k"), at("2026-03-07T20:59:59Z"));
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_began() {
        let night = window("22:00", "02:00", &[Weekday::Fri], 0);
        assert!(night.is_open(at("2026-03-07T01:59:59Z"), UTC));
        assert!(!night.is_open(at("2026-03-06T01:00:00Z"), UTC));
        assert_eq!(night.place(at("2026-03-07T02:00:00Z"), UTC, "k"), at("2026-03-13T22:00:00Z"));
        let whole_day = window("00:00", "00:00", &[Weekday::Wed], 0);
        assert!(whole_day.is_open(at("2026-03-04T23:59:59Z"), UTC));
        assert!(!whole_day.is_open(at("2026-03-05T00:00:00Z"), UTC));
    }

    #[test]
    fn an_edge_that_is_skipped_is_the_first_instant_after_and_one_that_comes_twice_opens_early_and_closes_late() {
        // The clocks go from 02:00 to 03:00 on the 29th of March, which is 01:00 UTC.
        let skipped = window("02:30", "04:00", &ALL, 0);
        assert_eq!(skipped.place(at("2026-03-29T00:30:00Z"), Berlin, "k"), at("2026-03-29T01:00:00Z"));
        let until_skipped = window("01:00", "02:30", &ALL, 0);
        assert!(until_skipped.is_open(at("2026-03-29T00:59:59Z"), Berlin));
        assert!(!until_skipped.is_open(at("2026-03-29T01:00:00Z"), Berlin));
        // And from 03:00 back to 02:00 on the 25th of October, which is 01:00 UTC: 02:30 is at 00:30 and at 01:30.
        let twice = window("02:30", "02:45", &ALL, 0);
        assert_eq!(twice.place(at("2026-10-25T00:00:00Z"), Berlin, "k"), at("2026-10-25T00:30:00Z"));
        assert!(twice.is_open(at("2026-10-25T01:44:59Z"), Berlin));
        assert!(!twice.is_open(at("2026-10-25T01:45:00Z"), Berlin));
    }

    #[test]
    fn what_waited_is_spread_and_never_past_the_closing() {
        let short = window("08:00", "08:20", &ALL, 30);
        let places: std::collections::BTreeSet<Instant> =
            (0..500).map(|n| short.place(at("2026-03-04T03:00:00Z"), UTC, &format!("k{n}"))).collect();
        assert!(places.len() > 300, "{} places", places.len());
        assert!(places.iter().all(|place| short.is_open(*place, UTC)));
        let minutes = |place: &Instant| (*place - at("2026-03-04T08:00:00Z")).num_minutes();
        assert!(places.iter().map(minutes).min() == Some(0) && places.iter().map(minutes).max() == Some(19));
    }

    proptest! {
        #[test]
        fn a_place_is_open_and_is_not_before_what_is_due(
            opens in 0u32..24 * 60, closes in 0u32..24 * 60, day in 0usize..7, spread in 0i64..600,
            due in 1_750_000_000i64..1_800_000_000, zone in prop::sample::select(&[UTC, Berlin, Tz::America__New_York,
                Tz::Pacific__Apia, Tz::Australia__Lord_Howe, Tz::Asia__Kathmandu][..]),
        ) {
            let time = |minutes: u32| NaiveTime::from_hms_opt(minutes / 60, minutes % 60, 0).expect("a time");
            let window = SendWindow {
                opens: time(opens), closes: time(closes), days: vec![ALL[day]], spread: TimeDelta::minutes(spread),
            };
            let due = Instant::from_timestamp(due, 0).expect("an instant");
            let place = window.place(due, zone, "key");
            prop_assert!(place >= due);
            // A stretch that a change of the clocks swallows whole is none; then the next week's counts.
            prop_assert!(window.is_open(place, zone), "{} {}", due, place);
        }
    }
}
