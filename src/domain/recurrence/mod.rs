//! When a campaign falls due: the rule, and the instants it yields.
//!
//! A rule is about wall times; the zone turns each wall time into one instant, so clock changes are dealt with in one
//! place: a wall time that is skipped is the first instant after the gap, one that comes twice is the first of the two.
//! That mapping never goes backwards. Several wall times inside one gap become one instant, which counts once.

use std::fmt;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc, Weekday};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::instant::{self, Instant};

/// No call yields more occurrences than this: a rule that fires every minute may not have been looked at for years.
pub const MOST_OCCURRENCES: usize = 1000;
/// Zones have moved across the date line, and no change of offset was ever longer.
const LONGEST_CLOCK_CHANGE: TimeDelta = TimeDelta::hours(24);
/// Rules are followed up to the year 4000; a clock beyond that is broken.
const LATEST: Instant = match DateTime::from_timestamp(64_060_588_800, 0) {
    Some(latest) => latest,
    None => DateTime::UNIX_EPOCH,
};

/// A recurrence and the zone whose wall clock it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    pub recurrence: Recurrence,
    pub zone: Tz,
}

/// The rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recurrence {
    /// One instant; a wall time of the zone is resolved when it is read.
    Once(Instant),
    Cron(CronRule),
    Every(Every),
}

/// Some days, at one time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Every {
    pub days: EveryDays,
    /// A whole minute.
    pub time: NaiveTime,
}

/// Which days [`Every`] means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EveryDays {
    Day,
    Week(Weekday),
    /// The day of the month, 1 to 31. A shorter month has it on its last day, so 31 is the last day of every month.
    Month(u32),
}

/// A cron expression of five fields, in croner's dialect: `L`, `W`, `#`, names; 1 is Monday, 0 and 7 are Sunday.
///
/// With both a day of the month and a weekday either is enough, as in Vixie cron; `+` before the weekday wants both.
#[derive(Debug, Clone)]
pub struct CronRule {
    text: String,
    cron: Box<Cron>,
}

impl PartialEq for CronRule {
    fn eq(&self, other: &CronRule) -> bool {
        self.text == other.text
    }
}

impl Eq for CronRule {}

/// What a stretch of time yields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occurrences {
    /// Oldest first, each once; the newest [`MOST_OCCURRENCES`] when there are more.
    pub instants: Vec<Instant>,
    /// Whether older ones were left out.
    pub omitted: bool,
}

/// The end of a stretch of time is before its start: the machine's clock went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockWentBack {
    pub after: Instant,
    pub until: Instant,
}

impl fmt::Display for ClockWentBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (after, until) = (instant::text(self.after), instant::text(self.until));
        write!(f, "the clock went back: it is {until}, and schedules were last looked at {after}")
    }
}

impl std::error::Error for ClockWentBack {}

impl Schedule {
    /// Returns the occurrences in `(after, until]`, oldest first, as UTC instants; at most the newest 1,000.
    ///
    /// `after` is exclusive and `until` inclusive, so runs that share an edge neither skip nor repeat one.
    /// A wall time that a clock change skips yields the first instant after the gap; one that comes twice
    /// yields the first of the two, also for rules that fire many times a day.
    ///
    /// # Errors
    /// `until` is before `after`: the machine's clock went back. Nothing is returned, so nothing is sent.
    pub fn occurrences(&self, after: Instant, until: Instant) -> Result<Occurrences, ClockWentBack> {
        if until < after {
            return Err(ClockWentBack { after, until });
        }
        let mut found = Occurrences::default();
        if let Recurrence::Once(at) = self.recurrence {
            found.instants.extend((after < at && at <= until).then_some(at));
            return Ok(found);
        }
        // From the newest back, so that the work is bounded however long ago `after` is.
        let (after, until) = (after.max(DateTime::UNIX_EPOCH), until.min(LATEST));
        if until <= after {
            return Ok(found);
        }
        let mut before = self.latest_wall(until);
        while let Some(wall) = self.wall_until(before) {
            before = wall - TimeDelta::seconds(1);
            let Some(at) = instant::resolve(wall, self.zone) else { continue };
            if at > until || found.instants.last() == Some(&at) {
                continue;
            }
            if at <= after {
                break;
            }
            if found.instants.len() == MOST_OCCURRENCES {
                found.omitted = true;
                break;
            }
            found.instants.push(at);
        }
        found.instants.reverse();
        Ok(found)
    }

    /// The first occurrence after an instant; `None` when there is none up to the year 4000.
    pub fn next_after(&self, after: Instant) -> Option<Instant> {
        if let Recurrence::Once(at) = self.recurrence {
            return (at > after).then_some(at);
        }
        let after = after.max(DateTime::UNIX_EPOCH);
        if after >= LATEST {
            return None;
        }
        let mut wall = after.with_timezone(&self.zone).naive_local();
        loop {
            wall = self.wall_after(wall)?;
            match instant::resolve(wall, self.zone) {
                // The second pass of a repeated hour: these wall times were due in the first.
                Some(at) if at <= after => {}
                Some(at) => return Some(at),
                None => {}
            }
        }
    }

    /// No wall time later than this is due at or before an instant.
    fn latest_wall(&self, until: Instant) -> NaiveDateTime {
        let now = until.with_timezone(&self.zone).naive_local();
        // The clock may just have been put back; then wall times ahead of it are over already.
        let unchanged = (until - LONGEST_CLOCK_CHANGE).with_timezone(&self.zone).naive_local() + LONGEST_CLOCK_CHANGE;
        now.max(unchanged)
    }

    /// The last wall time of the rule at or before another.
    fn wall_until(&self, until: NaiveDateTime) -> Option<NaiveDateTime> {
        match &self.recurrence {
            Recurrence::Once(_) => None,
            Recurrence::Cron(rule) => rule.cron.find_previous_occurrence(&until, true).ok(),
            Recurrence::Every(every) => {
                let last_day = if every.time <= until.time() { Some(until.date()) } else { until.date().pred_opt() };
                let day = every.day(last_day?, NaiveDate::pred_opt)?;
                Some(day.and_time(every.time))
            }
        }
    }

    /// The first wall time of the rule after another.
    fn wall_after(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        match &self.recurrence {
            Recurrence::Once(_) => None,
            Recurrence::Cron(rule) => {
                let next = rule.cron.find_next_occurrence(&after, false).ok()?;
                (next.year() < LATEST.year()).then_some(next)
            }
            Recurrence::Every(every) => {
                let first_day = if every.time > after.time() { Some(after.date()) } else { after.date().succ_opt() };
                let day = every.day(first_day?, NaiveDate::succ_opt)?;
                Some(day.and_time(every.time))
            }
        }
    }
}

impl Every {
    /// The first day of the rule, walking from `start`.
    fn day(&self, start: NaiveDate, step: fn(&NaiveDate) -> Option<NaiveDate>) -> Option<NaiveDate> {
        let mut day = start;
        while !self.holds(day) {
            day = step(&day)?;
        }
        Some(day)
    }

    fn holds(&self, day: NaiveDate) -> bool {
        match self.days {
            EveryDays::Day => true,
            EveryDays::Week(weekday) => day.weekday() == weekday,
            EveryDays::Month(wanted) => {
                let is_last = day.checked_add_days(Days::new(1)).is_none_or(|next| next.day() == 1);
                day.day() == wanted || (is_last && day.day() < wanted)
            }
        }
    }
}

impl CronRule {
    /// Parses five fields: minute, hour, day of the month, month, weekday.
    ///
    /// # Errors
    /// What is wrong with it, in words; also when there is no day on which it could ever fire.
    pub fn parse(text: &str) -> Result<CronRule, String> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let fields = text.split(' ').count();
        // A name such as @daily stands for five fields.
        if fields != 5 && !text.starts_with('@') {
            return Err(format!(
                "{text:?} has {fields} fields, not 5: minute, hour, day of the month, month, weekday (no seconds, no year)"
            ));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(&text).map_err(|err| format!("{text:?} is no cron expression: {err}"))?;
        // The calendar repeats after 400 years; this start is any day before which nobody sends mail with this.
        let start = NaiveDate::from_ymd_opt(2000, 1, 1).unwrap_or_default().and_time(NaiveTime::MIN);
        match cron.find_next_occurrence(&start, true) {
            Ok(first) if first.year() < 2400 => Ok(CronRule { text, cron: Box::new(cron) }),
            _ => Err(format!("{text:?} never fires: there is no such day")),
        }
    }
}

impl fmt::Display for Schedule {
    /// For people, and the same as long as the schedule is: `every week on monday at 09:00 Europe/Berlin`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = self.zone;
        match &self.recurrence {
            Recurrence::Once(at) => {
                write!(f, "once at {} {zone}", at.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S%:z"))
            }
            Recurrence::Cron(rule) => write!(f, "cron {} {zone}", rule.text),
            Recurrence::Every(every) => {
                let time = every.time.format("%H:%M");
                match every.days {
                    EveryDays::Day => write!(f, "every day at {time} {zone}"),
                    EveryDays::Week(day) => write!(f, "every week on {} at {time} {zone}", weekday_name(day)),
                    EveryDays::Month(31) => write!(f, "every month on its last day at {time} {zone}"),
                    EveryDays::Month(day) => write!(f, "every month on day {day} at {time} {zone}"),
                }
            }
        }
    }
}

/// Parses the time of a one-off: a wall time of `zone` such as `2026-03-20 09:00`, or RFC 3339 with its offset.
///
/// `None` for anything else; also for a date alone, which would mean midnight and was hardly meant to.
pub fn parse_once(text: &str, zone: Tz) -> Option<Instant> {
    let has_time_of_day = text.contains(':');
    let at = has_time_of_day.then(|| instant::parse(text, zone)).flatten()?;
    (DateTime::<Utc>::UNIX_EPOCH < at && at < LATEST).then_some(at)
}

/// Parses a time of day such as `09:00`.
pub fn parse_time_of_day(text: &str) -> Option<NaiveTime> {
    let (hour, minute) = text.trim().split_once(':')?;
    let digits = |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour) || !digits(minute) || minute.len() != 2 {
        return None;
    }
    NaiveTime::from_hms_opt(hour.parse().ok()?, minute.parse().ok()?, 0)
}

/// Parses the English name of a weekday, whole or its first three letters; case does not matter.
pub fn parse_weekday(text: &str) -> Option<Weekday> {
    let text = text.trim().to_ascii_lowercase();
    let days = std::iter::successors(Some(Weekday::Mon), |day| Some(day.succ())).take(7);
    days.into_iter().find(|&day| text == weekday_name(day) || text == weekday_name(day)[..3])
}

fn weekday_name(day: Weekday) -> &'static str {
    match day {
        Weekday::Mon => "monday",
        Weekday::Tue => "tuesday",
        Weekday::Wed => "wednesday",
        Weekday::Thu => "thursday",
        Weekday::Fri => "friday",
        Weekday::Sat => "saturday",
        Weekday::Sun => "sunday",
    }
}

#[cfg(test)]
mod tests;
