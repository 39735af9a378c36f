//! Messages by the day on which they were planned, in UTC.

use std::collections::BTreeMap;

use chrono::{Days as DayCount, NaiveDate};
use serde::Serialize;

use super::tally::{Counts, Tally};
use crate::domain::instant::Instant;
use crate::ledger::Period;

/// A bar narrower than for so many could not be told from the next.
const MOST_BARS: i64 = 120;

#[derive(Debug, Serialize)]
pub struct Days {
    /// So many days in each row.
    pub days_each: i64,
    /// Without a gap: a day without a message is a row of zeros.
    pub rows: Vec<Day>,
    pub total: Counts,
    /// Whether the rows come to the total.
    pub balances: bool,
}

#[derive(Debug, Serialize)]
pub struct Day {
    /// The first day of the row.
    pub from: String,
    #[serde(flatten)]
    pub counts: Counts,
}

impl Days {
    /// The time before anything was there, and before the ledger, is left out.
    pub(super) fn of(tally: &Tally, period: &Period, born_at: Instant) -> Days {
        let rows = by_days(&tally.days, period, born_at);
        let rows = rows.into_iter().map(|(from, counts)| Day { from, counts }).collect::<Vec<_>>();
        let sum = rows.iter().fold(Counts::default(), |sum, row| sum.plus(row.counts));
        let days_each = days_each(&tally.days, period, born_at);
        Days { days_each, balances: sum == tally.all && sum.sum() == sum.messages, rows, total: tally.all }
    }
}

/// Values that are added up where several days share a row.
pub(super) trait Sum: Copy + Default {
    fn plus(self, other: Self) -> Self;
}

impl Sum for Counts {
    fn plus(self, other: Counts) -> Counts {
        Counts::plus(self, other)
    }
}

impl Sum for u64 {
    fn plus(self, other: u64) -> u64 {
        self + other
    }
}

/// First and last day to show.
fn range<T>(values: &BTreeMap<String, T>, period: &Period, born_at: Instant) -> (NaiveDate, NaiveDate) {
    let day = |text: &String| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let until = period.until.date_naive();
    let first_seen = values.keys().find_map(day).unwrap_or(until);
    (period.since.date_naive().max(first_seen.min(born_at.date_naive())).min(until), until)
}

fn days_each<T>(values: &BTreeMap<String, T>, period: &Period, born_at: Instant) -> i64 {
    let (first, last) = range(values, period, born_at);
    ((last - first).num_days() / MOST_BARS) + 1
}

/// The rows to show, each with its first day.
pub(super) fn by_days<T: Sum>(values: &BTreeMap<String, T>, period: &Period, born_at: Instant) -> Vec<(String, T)> {
    let (first, last) = range(values, period, born_at);
    let each = days_each(values, period, born_at);
    let rows = (last - first).num_days() / each + 1;
    let mut shown: Vec<(String, T)> = (0..rows)
        .filter_map(|row| first.checked_add_days(DayCount::new((row * each) as u64)))
        .map(|from| (from.to_string(), T::default()))
        .collect();
    for (day, value) in values {
        // What is no day at all goes to the first row, so that the sum stays.
        let day = NaiveDate::parse_from_str(day, "%Y-%m-%d").unwrap_or(first);
        let row = ((day - first).num_days() / each).clamp(0, rows - 1) as usize;
        shown[row].1 = shown[row].1.plus(*value);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::instant;

    fn shown(days: &[(&str, u64)], since: &str, until: &str) -> Vec<(String, u64)> {
        let at = |text| instant::from_text(text).unwrap();
        let period = Period { since: at(since), until: at(until), campaign: None };
        let days = days.iter().map(|(day, number)| ((*day).to_owned(), *number)).collect();
        by_days(&days, &period, at("2026-01-01T00:00:00Z"))
    }

    #[test]
    fn a_day_without_messages_is_a_row_and_time_before_the_ledger_is_none() {
        let rows = shown(&[("2026-01-01", 1), ("2026-01-03", 2)], "2020-01-01T00:00:00Z", "2026-01-04T10:00:00Z");
        let rows: Vec<(&str, u64)> = rows.iter().map(|(day, number)| (day.as_str(), *number)).collect();
        assert_eq!(rows, [("2026-01-01", 1), ("2026-01-02", 0), ("2026-01-03", 2), ("2026-01-04", 0)]);
    }

    #[test]
    fn however_long_the_time_is_the_rows_are_few_and_keep_the_sum() {
        let days = [("2026-01-01", 1), ("2031-05-05", 2), ("2199-12-31", 3), ("no day", 4)];
        let rows = shown(&days, "2020-01-01T00:00:00Z", "2200-01-01T00:00:00Z");
        assert!(rows.len() <= 121, "{}", rows.len());
        assert_eq!(rows.iter().map(|(_, number)| number).sum::<u64>(), 10);
        assert_eq!(shown(&[], "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z").len(), 1);
    }
}
