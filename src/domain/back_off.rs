//! How long a deferred message waits.

use chrono::TimeDelta;

/// No wait is longer than this, unless the first one is.
pub const LONGEST: TimeDelta = TimeDelta::hours(1);

/// The wait after the `deferrals`-th deferral (from 1): `first`, doubled each time, at most an hour (or `first`, if that is longer).
pub fn wait_after(deferrals: u32, first: TimeDelta) -> TimeDelta {
    let doublings = deferrals.saturating_sub(1).min(20);
    first.checked_mul(1 << doublings).map_or(LONGEST, |wait| wait.min(LONGEST)).max(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_an_hour() {
        let waits: Vec<i64> = (1..=8).map(|n| wait_after(n, TimeDelta::minutes(2)).num_minutes()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(wait_after(u32::MAX, TimeDelta::minutes(2)), TimeDelta::hours(1));
        assert_eq!(wait_after(3, TimeDelta::hours(2)), TimeDelta::hours(2));
    }
}
