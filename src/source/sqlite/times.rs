//! Narrowing a column of times in SQL, coarsely, so that an index on it helps; the exact comparison is made in Rust.
//!
//! A shop may store times as texts of several spellings and zones, as Unix seconds, or mixed. SQLite sorts NULL before
//! numbers before texts before BLOBs, and texts that begin with a date sort by day. So a few ranges hold every row that
//! could matter, each row in one range only: what the window reaches, give or take two days for zones, and whatever is
//! no date of this century, which is looked at to be reported.
//!
//! A date without its zeros (`2026-3-2`) sorts behind the same one with them, and never out of its year. So the window of
//! texts goes on to the end of a year: behind the present there is nothing else to pass over.

use super::Stored;
use crate::domain::instant::{self, Instant};

/// Unix seconds that [`instant::parse`] takes for a time: 9 to 12 digits. Milliseconds have 13.
const FIRST_UNIX_SECOND: i64 = 100_000_000;
const FIRST_UNIX_MILLISECOND: i64 = 1_000_000_000_000;
const FIRST_BEYOND_UNIX_TIMES: i64 = 10_000_000_000_000;
// Both end with a hyphen, so that SQLite does not take them for numbers when it compares them with a numeric column.
const FIRST_DATE: &str = "2000-";
const FIRST_BEYOND_DATES: &str = "2100-";
const SECONDS_OF_TWO_DAYS: i64 = 2 * 24 * 60 * 60;

/// Rows whose time is NULL, or in `[from, to)`; an absent end is open.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Range {
    Null,
    Between { from: Option<Stored>, to: Option<Stored> },
}

impl Range {
    /// The range as a condition on a column, its bounds added to `parameters`.
    pub fn condition(&self, column: &str, parameters: &mut Vec<Stored>) -> String {
        let Range::Between { from, to } = self else { return format!("{column} IS NULL") };
        let mut conditions = Vec::new();
        for (bound, operator) in [(from, ">="), (to, "<")] {
            if let Some(value) = bound {
                parameters.push(value.clone());
                conditions.push(format!("{column} {operator} ?{}", parameters.len()));
            }
        }
        conditions.join(" AND ")
    }
}

/// Whether a declared type makes SQLite store numbers as texts (<https://www.sqlite.org/datatype3.html> §3.1).
pub(super) fn holds_texts_only(declared_type: &str) -> bool {
    let declared = declared_type.to_ascii_uppercase();
    !declared.contains("INT") && ["CHAR", "CLOB", "TEXT"].iter().any(|word| declared.contains(word))
}

/// The ranges of a column in which every time of `[from, to]` lies, and everything that is no time.
///
/// One spelling is missed: Unix seconds from 2033 on in a column of texts; they sort among the dates.
pub(super) fn ranges(texts_only: bool, from: Instant, to: Instant) -> Vec<Range> {
    let between = |from: Option<Stored>, to: Option<Stored>| Range::Between { from, to };
    let text = |text: &str| Some(Stored::Text(text.into()));
    let mut ranges = vec![Range::Null];
    if texts_only {
        ranges.push(between(None, text(FIRST_DATE)));
    } else {
        let (first, past) = (from.timestamp(), to.timestamp().saturating_add(1));
        let number = |number: i64, least, most| Some(Stored::Integer(number.clamp(least, most)));
        let second = |second| number(second, FIRST_UNIX_SECOND, FIRST_UNIX_MILLISECOND);
        let millisecond =
            |second: i64| number(second.saturating_mul(1000), FIRST_UNIX_MILLISECOND, FIRST_BEYOND_UNIX_TIMES);
        ranges.push(between(None, second(0)));
        ranges.push(between(second(first), second(past)));
        ranges.push(between(millisecond(first), millisecond(past)));
        ranges.push(between(millisecond(i64::MAX), text("")));
        ranges.push(between(text(""), text(FIRST_DATE)));
    }
    let day = |second: i64| {
        let at = chrono::DateTime::from_timestamp(second, 0).map(instant::text).unwrap_or_default();
        match at.get(..10) {
            _ if second < 946_684_800 => FIRST_DATE.to_owned(),
            Some(day) if second < 4_102_444_800 => day.to_owned(),
            _ => FIRST_BEYOND_DATES.to_owned(),
        }
    };
    let first_day = day(from.timestamp().saturating_sub(SECONDS_OF_TWO_DAYS));
    let last_day = day(to.timestamp().saturating_add(SECONDS_OF_TWO_DAYS));
    // A colon sorts behind every digit and hyphen, so all that begins with the year lies before it.
    let year_after = if last_day == FIRST_BEYOND_DATES { last_day } else { format!("{}:", &last_day[..4]) };
    ranges.push(between(text(&first_day), text(&year_after)));
    ranges.push(between(text(FIRST_BEYOND_DATES), None));
    ranges
}

/// A condition that holds where one of the ranges does, their bounds added to `parameters`.
pub(super) fn any_of(ranges: &[Range], column: &str, parameters: &mut Vec<Stored>) -> String {
    let conditions: Vec<String> =
        ranges.iter().map(|range| format!("({})", range.condition(column, parameters))).collect();
    conditions.join(" OR ")
}
