//! Lengths of time.

use std::time::Duration;

use chrono::TimeDelta;

/// Parses a length of time such as `90s`, `30m`, `24h`, `3d`.
pub fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|span| span.as_secs() <= 10 * 366 * 24 * 3600)
        .ok_or_else(|| format!("{text:?} is no length of time; write for example 90s, 30m, 24h or 3d"))
}

/// The same length for sums with instants; one that is too long for them is the longest there is.
pub fn delta(span: Duration) -> TimeDelta {
    TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX)
}

/// `40s`, `59m`, `3h 20m`, `4d 2h`; a time to come is `-5m`.
pub fn spoken(span: TimeDelta) -> String {
    let sign = if span < TimeDelta::zero() { "-" } else { "" };
    let (seconds, minutes) = (span.num_seconds().abs(), span.num_minutes().abs());
    match minutes {
        0 => format!("{sign}{seconds}s"),
        1..60 => format!("{sign}{minutes}m"),
        60..1440 => format!("{sign}{}h {}m", minutes / 60, minutes % 60),
        _ => format!("{sign}{}d {}h", minutes / 1440, minutes / 60 % 24),
    }
}
