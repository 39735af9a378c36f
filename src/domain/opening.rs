//! Which occurrence of a campaign opens now, and which never will.

use chrono::{NaiveDate, TimeDelta};
use chrono_tz::Tz;

use super::instant::Instant;
use super::recurrence::{Recurrence, Schedule};

/// What the ledger remembers of a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Nothing that fell due before opens.
    pub first_seen_at: Instant,
    /// The newest instant that was decided about.
    pub newest_decided: Option<Instant>,
    pub last_opening: Option<LastOpening>,
}

/// The newest opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastOpening {
    pub planned_at: Instant,
    pub opened_at: Instant,
    /// The schedule is still the one it opened by.
    pub same_schedule: bool,
}

/// The limits on opening.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub min_gap: TimeDelta,
    pub max_lateness: TimeDelta,
}

/// What to do about a campaign now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is due.
    Nothing,
    /// One occurrence opens; those before it never will.
    Open { planned_at: Instant, missed: Vec<Instant> },
    /// One is due, but the last opening is too recent.
    Wait { planned_at: Instant },
    /// What was due will never open.
    Missed(Vec<Instant>),
}

/// Decides about a campaign at `now`.
///
/// Of several instants due only the newest opens, none later than `max_lateness`, none within `min_gap` of the last
/// opening, none on the local day of the last opening after the schedule was edited, and a one-off once for ever.
pub fn decide(schedule: &Schedule, memory: &Memory, limits: Limits, now: Instant) -> Decision {
    let one_off = matches!(schedule.recurrence, Recurrence::Once(_));
    if one_off && memory.last_opening.is_some() {
        return Decision::Nothing;
    }
    let first = memory.first_seen_at - TimeDelta::seconds(1);
    if one_off
        && let Ok(before) = schedule.occurrences(Instant::MIN_UTC, first)
        && !before.instants.is_empty()
    {
        let missed = before
            .instants
            .into_iter()
            .filter(|at| memory.newest_decided.is_none_or(|decided| *at > decided))
            .collect::<Vec<_>>();
        return if missed.is_empty() { Decision::Nothing } else { Decision::Missed(missed) };
    }
    // A one-off that missed its time may be moved, also to before the time it missed: only its own instant counts.
    let after = match memory.newest_decided {
        Some(decided) if !one_off => decided.max(first),
        _ => first,
    };
    let Ok(due) = schedule.occurrences(after, now) else { return Decision::Nothing };
    let mut missed = due.instants;
    let Some(planned_at) = missed.pop() else { return Decision::Nothing };
    if one_off && memory.newest_decided == Some(planned_at) {
        return Decision::Nothing;
    }
    let too_late = now - planned_at > limits.max_lateness;
    let edited_today = memory.last_opening.is_some_and(|last| {
        let day = |at: Instant| local_day(at, schedule.zone);
        !last.same_schedule && day(planned_at) <= day(last.planned_at).max(day(last.opened_at))
    });
    if too_late || edited_today {
        missed.push(planned_at);
        return Decision::Missed(missed);
    }
    if memory.last_opening.is_some_and(|last| now - last.opened_at < limits.min_gap) {
        return Decision::Wait { planned_at };
    }
    Decision::Open { planned_at, missed }
}

fn local_day(at: Instant, zone: Tz) -> NaiveDate {
    at.with_timezone(&zone).date_naive()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::instant::from_text;
    use crate::domain::recurrence::CronRule;

    fn at(text: &str) -> Instant {
        from_text(text).unwrap()
    }

    fn daily_at_nine() -> Schedule {
        Schedule { recurrence: Recurrence::Cron(CronRule::parse("0 9 * * *").unwrap()), zone: Tz::UTC }
    }

    fn seen(first: &str) -> Memory {
        Memory { first_seen_at: at(first), newest_decided: None, last_opening: None }
    }

    const LIMITS: Limits = Limits { min_gap: TimeDelta::minutes(10), max_lateness: TimeDelta::hours(6) };

    #[test]
    fn of_several_missed_only_the_newest_opens() {
        let decision = decide(&daily_at_nine(), &seen("2026-03-01T00:00:00Z"), LIMITS, at("2026-03-03T09:05:00Z"));
        let missed = vec![at("2026-03-01T09:00:00Z"), at("2026-03-02T09:00:00Z")];
        assert_eq!(decision, Decision::Open { planned_at: at("2026-03-03T09:00:00Z"), missed });
    }

    #[test]
    fn none_opens_later_than_max_lateness_nor_before_it_was_seen() {
        let late = decide(&daily_at_nine(), &seen("2026-03-01T00:00:00Z"), LIMITS, at("2026-03-01T15:00:01Z"));
        assert_eq!(late, Decision::Missed(vec![at("2026-03-01T09:00:00Z")]));
        let unseen = decide(&daily_at_nine(), &seen("2026-03-01T09:00:01Z"), LIMITS, at("2026-03-01T09:01:00Z"));
        assert_eq!(unseen, Decision::Nothing);
        let just_seen = decide(&daily_at_nine(), &seen("2026-03-01T09:00:00Z"), LIMITS, at("2026-03-01T09:00:00Z"));
        assert!(matches!(just_seen, Decision::Open { .. }));
    }

    #[test]
    fn after_an_edit_nothing_more_opens_on_that_day_and_openings_keep_their_distance() {
        let opening = LastOpening {
            planned_at: at("2026-03-01T08:30:00Z"),
            opened_at: at("2026-03-01T08:55:00Z"),
            same_schedule: false,
        };
        let mut memory = Memory {
            newest_decided: Some(opening.planned_at),
            last_opening: Some(opening),
            ..seen("2026-02-01T00:00:00Z")
        };
        let now = at("2026-03-01T09:01:00Z");
        assert_eq!(decide(&daily_at_nine(), &memory, LIMITS, now), Decision::Missed(vec![at("2026-03-01T09:00:00Z")]));
        memory.last_opening = Some(LastOpening { same_schedule: true, ..opening });
        assert_eq!(
            decide(&daily_at_nine(), &memory, LIMITS, now),
            Decision::Wait { planned_at: at("2026-03-01T09:00:00Z") }
        );
        assert!(matches!(decide(&daily_at_nine(), &memory, LIMITS, at("2026-03-01T09:05:00Z")), Decision::Open { .. }));
    }
}
