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
    /// The zone of the schedule it opened by; `None` when that names none that is known.
    pub zone: Option<Tz>,
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
    Missed { instants: Vec<Instant>, why: Why },
}

/// Why the newest of what was due will never open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A one-off whose time had passed when it was first seen.
    FirstSeenAfter,
    /// More than `max_lateness` has passed.
    TooLate,
    /// That passed while `min_gap` since the last opening had not.
    TooSoonAfterTheLast,
    /// The schedule was edited, and it is on the day of the last opening.
    EditedThatDay,
}

/// How long an audience is, and what that is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudienceLength {
    pub rows: u64,
    /// At the last opening; `None` before the first.
    pub at_last_opening: Option<u64>,
    /// When an occurrence since then was missed because there were too few; `None` when none was.
    pub when_missed: Option<u64>,
}

/// What to make of an audience's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LengthVerdict {
    Enough,
    /// It may be half uploaded.
    CutShort,
    /// It is short, but has been since an occurrence was missed over it: it was cut on purpose.
    ShortForGood,
}

/// An audience with fewer than half the rows of the last opening is taken for cut short, until an occurrence was missed
/// because of that and the next one finds it no shorter than by half.
pub fn judge_length(audience: AudienceLength) -> LengthVerdict {
    let fewer_than_half_of = |rows: u64| audience.rows.saturating_mul(2) < rows;
    match audience.at_last_opening {
        Some(rows) if fewer_than_half_of(rows) => match audience.when_missed {
            Some(rows) if !fewer_than_half_of(rows) => LengthVerdict::ShortForGood,
            _ => LengthVerdict::CutShort,
        },
        _ => LengthVerdict::Enough,
    }
}

/// Decides about a campaign at `now`.
///
/// Of several instants due only the newest opens, none later than `max_lateness`, none within `min_gap` of the last
/// opening, and a one-off once only. After the schedule was edited, none opens on the local day of the last opening,
/// neither by the zone that it had nor by the one that it has.
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
        return match missed.is_empty() {
            true => Decision::Nothing,
            false => Decision::Missed { instants: missed, why: Why::FirstSeenAfter },
        };
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
    let edited_that_day = memory.last_opening.is_some_and(|last| {
        let same_day = |zone: Tz| {
            let day = |at: Instant| local_day(at, zone);
            day(planned_at) <= day(last.planned_at).max(day(last.opened_at))
        };
        !last.same_schedule && (same_day(schedule.zone) || last.zone.is_some_and(same_day))
    });
    let too_late = now - planned_at > limits.max_lateness;
    if edited_that_day || too_late {
        let kept_apart = |last: LastOpening| last.opened_at + limits.min_gap > planned_at + limits.max_lateness;
        let why = match memory.last_opening {
            _ if edited_that_day => Why::EditedThatDay,
            Some(last) if kept_apart(last) => Why::TooSoonAfterTheLast,
            _ => Why::TooLate,
        };
        missed.push(planned_at);
        return Decision::Missed { instants: missed, why };
    }
    if memory.last_opening.is_some_and(|last| now - last.opened_at < limits.min_gap) {
        return Decision::Wait { planned_at };
    }
    Decision::Open { planned_at, missed }
}

/// Of what a newer opening passes over, that which `min_gap` did not: it was to open, and did not.
///
/// Where a schedule yields more than `min_gap` lets through, passing over the others is what that setting is for.
pub fn beyond_min_gap(missed: &[Instant], memory: &Memory, limits: Limits) -> Vec<Instant> {
    let until = memory.last_opening.map(|last| last.opened_at + limits.min_gap);
    missed.iter().copied().filter(|at| until.is_none_or(|until| *at >= until)).collect()
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

    fn missed_by(why: Why, instants: &[&str]) -> Decision {
        Decision::Missed { instants: instants.iter().map(|text| at(text)).collect(), why }
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
        assert_eq!(late, missed_by(Why::TooLate, &["2026-03-01T09:00:00Z"]));
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
            zone: Some(Tz::UTC),
        };
        let mut memory = Memory {
            newest_decided: Some(opening.planned_at),
            last_opening: Some(opening),
            ..seen("2026-02-01T00:00:00Z")
        };
        let now = at("2026-03-01T09:01:00Z");
        assert_eq!(
            decide(&daily_at_nine(), &memory, LIMITS, now),
            missed_by(Why::EditedThatDay, &["2026-03-01T09:00:00Z"])
        );
        memory.last_opening = Some(LastOpening { same_schedule: true, ..opening });
        assert_eq!(
            decide(&daily_at_nine(), &memory, LIMITS, now),
            Decision::Wait { planned_at: at("2026-03-01T09:00:00Z") }
        );
        assert!(matches!(decide(&daily_at_nine(), &memory, LIMITS, at("2026-03-01T09:05:00Z")), Decision::Open { .. }));
    }
    /// Opened at `opened` by a schedule of the zone `from`, then edited to this one of `to`: what is decided at `now`.
    fn edited(from: Tz, opened: &str, to: Tz, cron: &str, now: &str) -> Decision {
        let opening =
            LastOpening { planned_at: at(opened), opened_at: at(opened), same_schedule: false, zone: Some(from) };
        let memory = Memory {
            newest_decided: Some(opening.planned_at),
            last_opening: Some(opening),
            ..seen("2026-02-01T00:00:00Z")
        };
        let schedule = Schedule { recurrence: Recurrence::Cron(CronRule::parse(cron).unwrap()), zone: to };
        decide(&schedule, &memory, LIMITS, at(now))
    }

    #[test]
    fn after_an_edit_of_the_zone_the_day_of_the_last_opening_counts_in_both() {
        let (auckland, angeles) = (Tz::Pacific__Auckland, Tz::America__Los_Angeles);
        // Opened on Monday at 09:00 in Auckland, which is Sunday 14:00 in Los Angeles. At 02:00 on Monday there it is 21:00
        // of the same Monday in Auckland.
        let opened = "2026-06-14T21:00:00Z";
        let monday = "2026-06-15T09:00:00Z";
        assert_eq!(edited(auckland, opened, angeles, "0 2 * * *", monday), missed_by(Why::EditedThatDay, &[monday]));
        let tuesday_in_auckland = "2026-06-15T16:00:00Z";
        let opens = edited(auckland, opened, angeles, "0 9 * * *", tuesday_in_auckland);
        assert!(matches!(opens, Decision::Open { .. }), "{opens:?}");
        // And back: opened on Monday at 02:00 in Los Angeles; 06:00 on Tuesday in Auckland is 11:00 of that Monday.
        let same_monday = "2026-06-15T18:00:00Z";
        assert_eq!(
            edited(angeles, monday, auckland, "0 6 * * *", same_monday),
            missed_by(Why::EditedThatDay, &[same_monday])
        );
        let tuesday_in_both = "2026-06-16T08:00:00Z";
        let opens = edited(angeles, monday, auckland, "0 20 * * *", tuesday_in_both);
        assert!(matches!(opens, Decision::Open { .. }), "{opens:?}");
    }

    #[test]
    fn what_min_gap_kept_away_until_it_was_too_late_says_so() {
        let opening = LastOpening {
            planned_at: at("2026-03-01T08:59:00Z"),
            opened_at: at("2026-03-01T08:59:00Z"),
            same_schedule: true,
            zone: Some(Tz::UTC),
        };
        let memory = Memory {
            newest_decided: Some(opening.planned_at),
            last_opening: Some(opening),
            ..seen("2026-02-01T00:00:00Z")
        };
        let limits = Limits { min_gap: TimeDelta::hours(12), ..LIMITS };
        let nine = "2026-03-01T09:00:00Z";
        let decision = decide(&daily_at_nine(), &memory, limits, at("2026-03-01T15:00:01Z"));
        assert_eq!(decision, missed_by(Why::TooSoonAfterTheLast, &[nine]));
        assert_eq!(
            beyond_min_gap(&[at(nine), at("2026-03-01T20:59:00Z")], &memory, limits),
            [at("2026-03-01T20:59:00Z")]
        );
    }

    #[test]
    fn an_audience_is_cut_short_below_half_until_one_was_missed_over_it() {
        let judge =
            |rows, at_last_opening, when_missed| judge_length(AudienceLength { rows, at_last_opening, when_missed });
        assert_eq!(judge(1, None, None), LengthVerdict::Enough, "the first opening has nothing to be held against");
        assert_eq!(judge(5, Some(10), None), LengthVerdict::Enough);
        assert_eq!(judge(4, Some(10), None), LengthVerdict::CutShort);
        assert_eq!(judge(4, Some(10), Some(4)), LengthVerdict::ShortForGood);
        assert_eq!(judge(4, Some(10), Some(8)), LengthVerdict::ShortForGood, "no fewer than half of that again");
        assert_eq!(judge(4, Some(20), Some(9)), LengthVerdict::CutShort, "it was cut once more");
        assert_eq!(judge(10, Some(10), Some(4)), LengthVerdict::Enough);
    }
}
