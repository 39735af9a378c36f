//! What a person is told of occurrences that will never open: which, why, and what to do.

use crate::domain::campaign::Campaign;
use crate::domain::instant::{self, Instant};
use crate::domain::opening::Why;
use crate::domain::recurrence::{MOST_OCCURRENCES, Recurrence};
use crate::output::count;

/// Nothing else is known to have been in the way.
const STOOD_STILL: &str = "no run got to it in time (was the machine or cron off, or did each run fail?)";

/// What is known of why occurrences were missed, beside what the schedule itself says.
#[derive(Debug, Clone, Default)]
pub(super) struct Circumstances {
    /// When the ledger first saw the campaign.
    pub first_seen_at: Instant,
    /// An old copy of the ledger was put back since.
    pub held_back_at: Option<Instant>,
    /// Its definition was gone until now.
    pub was_away: bool,
    /// Its definition could not be used until now.
    pub was_broken: bool,
    /// Its schedule is another since now.
    pub was_edited: bool,
    /// What kept it from being opened while it was due.
    pub in_the_way: Option<String>,
}

/// The line for instants that will never open, the newest of them for this reason.
pub(super) fn line(campaign: &Campaign, instants: &[Instant], why: Why, known: &Circumstances) -> String {
    let id = &campaign.id;
    let what_next = match campaign.schedule.recurrence {
        Recurrence::Once(_) => "set `at` to a time to come; or, if that is right",
        Recurrence::Cron(_) | Recurrence::Every(_) => "if that is right",
    };
    format!(
        "campaign {id}: {} will never open: {}; {what_next}: `mailonce resolve --accept missed:{id}`",
        which(campaign, instants),
        reason(campaign, why, known)
    )
}

/// The line for instants that an opening at `opened` passes over.
pub(super) fn line_of_passed_over(
    campaign: &Campaign,
    instants: &[Instant],
    opened: Instant,
    known: &Circumstances,
) -> String {
    let id = &campaign.id;
    let why = match &known.in_the_way {
        Some(problem) => format!("it was not ready: {problem}"),
        None if known.was_away => "its definition was not in the campaigns file".into(),
        None if known.was_broken => "its definition was broken".into(),
        None if known.was_edited => "its schedule was edited after that time".into(),
        None => STOOD_STILL.into(),
    };
    format!(
        "campaign {id}: {} will never open: {why}; of several due only the newest opens, {}; if that is right: \
         `mailonce resolve --accept missed:{id}`",
        which(campaign, instants),
        campaign.local(opened)
    )
}

/// The line for a time to come that was given to a one-off that has opened already.
pub(super) fn line_of_no_more(campaign: &Campaign, at: Instant) -> String {
    let id = &campaign.id;
    format!(
        "campaign {id} runs once, and has opened already: nothing opens at {}; give a new mailing an `id` of its own; or, if that is right: \
         `mailonce resolve --accept missed:{id}`",
        campaign.local(at)
    )
}

/// `the occurrence of 2026-03-02 09:00 UTC`, `3 occurrences, the newest 2026-03-02 09:00 UTC,`.
pub(in crate::command) fn which(campaign: &Campaign, instants: &[Instant]) -> String {
    let newest = instants.last().map(|at| campaign.local(*at)).unwrap_or_default();
    match instants.len() {
        1 => format!("the occurrence of {newest}"),
        // The schedule yields no more at once.
        many if many >= MOST_OCCURRENCES - 1 => {
            format!("{} or more, the newest {newest},", count(many as u64, "occurrence"))
        }
        many => format!("{}, the newest {newest},", count(many as u64, "occurrence")),
    }
}

fn reason(campaign: &Campaign, why: Why, known: &Circumstances) -> String {
    let late = humantime::format_duration(campaign.max_lateness);
    match (why, &known.in_the_way, known.held_back_at) {
        (Why::EditedThatDay, ..) => {
            "the schedule was edited, and after that nothing more opens on the day of the last opening".into()
        }
        (Why::FirstSeenAfter, _, Some(at)) if at > known.first_seen_at => format!(
            "an old copy of the ledger was put back at {}, and it may have opened in the one that was lost",
            instant::text(at)
        ),
        (Why::FirstSeenAfter, ..) => {
            format!("its time had passed when mailonce first saw it, at {}", instant::text(known.first_seen_at))
        }
        (Why::TooLate | Why::TooSoonAfterTheLast, Some(problem), _) => {
            format!("it was not ready within max_lateness ({late}): {problem}")
        }
        (Why::TooSoonAfterTheLast, ..) => format!(
            "min_gap ({}) after the last opening ended later than max_lateness ({late})",
            humantime::format_duration(campaign.min_gap)
        ),
        (Why::TooLate, ..) if known.was_away => format!(
            "its definition was not in the campaigns file while it was due, for longer than max_lateness ({late})"
        ),
        (Why::TooLate, ..) if known.was_broken => {
            format!("its definition was broken while it was due, for longer than max_lateness ({late})")
        }
        (Why::TooLate, ..) if known.was_edited => {
            format!("its schedule was edited more than max_lateness ({late}) after that time")
        }
        (Why::TooLate, ..) => {
            format!("{STOOD_STILL}; max_lateness is {late}")
        }
    }
}
