//! Opening: which occurrences are due, and their audiences.

use std::collections::HashMap;

use anyhow::Result;
use chrono::TimeDelta;

use super::super::Context;
use super::super::holds::Holds;
use super::missed::{self, Circumstances};
use super::{CampaignReport, MissedNow, OpenedNow, Round, told};
use crate::domain::address::{self, Address};
use crate::domain::campaign::Campaign;
use crate::domain::coupon::Pool;
use crate::domain::instant::{self, Instant};
use crate::domain::list;
use crate::domain::opening::{self, AudienceLength, Decision, LastOpening, LengthVerdict, Limits, Memory};
use crate::domain::recurrence::Recurrence;
use crate::domain::span;
use crate::domain::state::{CampaignStatus, Origin};
use crate::failure::{Exit, Failure};
use crate::ledger::{CampaignState, Missed, Notice, OpenOccurrence, Opened, Opening, OpeningKey, Records};
use crate::letters::campaign::{CampaignLetters, MOST_TRIED, Row as LetterRow, TrialRow, read_locale};
use crate::mail::translations::TemplateTexts;
use crate::output::count;
use crate::progress;
use crate::run::Run;
use crate::settings::Settings;
use crate::source::audience::{self, AudienceRow};

/// Rows are kept for a trial up to so many bytes in all: their number alone would not bound the memory.
const MOST_TRIED_BYTES: usize = 4 << 20;
/// So many bad rows of an audience are named.
const MOST_BAD_ROWS_NAMED: u64 = 20;

/// What `status` lists a campaign under that is due and cannot be opened.
const NOT_OPENED: &str = "campaign not opened";

/// Opens every campaign that is due.
///
/// `broken_before` are the lines of definitions that stood as broken until this run.
pub(super) fn open_due(
    round: &Round<'_>,
    run: &mut Run,
    report: &mut CampaignReport,
    broken_before: &[String],
) -> Result<()> {
    let now = round.sending.context.clock.now();
    let known: HashMap<String, CampaignState> =
        run.ledger.all_campaigns()?.into_iter().map(|state| (state.campaign_id.clone(), state)).collect();
    let mut not_ready = Vec::new();
    let mut next: Option<(Instant, &Campaign)> = None;
    for campaign in &round.definitions.campaigns {
        let state = known.get(&campaign.id);
        let schedule = campaign.schedule.to_string();
        let upcoming = if is_quiet(state, &schedule, now) {
            state.and_then(|state| state.next_run).map(|at| at.0)
        } else {
            let was_broken = broken_before.iter().any(|line| line.contains(&format!(": campaign {:?}: ", campaign.id)));
            attend(round, run, report, campaign, (&schedule, was_broken), &mut not_ready)?
        };
        if let Some(at) = upcoming.filter(|at| next.is_none_or(|(soonest, _)| *at < soonest)) {
            next = Some((at, campaign));
        }
    }
    report.next_occurrence = next.map(|(at, campaign)| campaign.local(at));
    report.not_ready = not_ready.iter().map(|notice| notice.line.clone()).collect();
    if let Some(only) = round.only {
        // The others were not looked at: what stood of them still stands.
        let others = run.ledger.standing_of(NOT_OPENED)?.into_iter();
        not_ready.extend(others.filter(|notice| !notice.key.starts_with(&format!("{only}/"))));
    }
    let news = run.ledger.notices().note(NOT_OPENED, &not_ready, now)?;
    report.delivered.news.extend(told(news, NOT_OPENED));
    Ok(())
}

/// Nothing about a campaign has changed and nothing of it is due: the ledger's own row says so.
fn is_quiet(state: Option<&CampaignState>, schedule: &str, now: Instant) -> bool {
    state.is_some_and(|state| {
        let due = state.next_run.is_some_and(|at| at.0 <= now);
        state.schedule == schedule && state.defined && !due
    })
}

/// Looks at one campaign closely; returns when it is due next.
fn attend(
    round: &Round<'_>,
    run: &mut Run,
    report: &mut CampaignReport,
    campaign: &Campaign,
    (schedule, was_broken): (&str, bool),
    not_ready: &mut Vec<Notice>,
) -> Result<Option<Instant>> {
    let now = round.sending.context.clock.now();
    let next_after_now = campaign.schedule.next_after(now);
    let known = run.ledger.campaign(&campaign.id)?;
    if known.as_ref().is_none_or(|state| state.schedule != schedule || !state.defined) {
        let first = known.as_ref().map_or(now, |state| state.first_seen_at.0) - TimeDelta::seconds(1);
        let decided = run.ledger.last_decision(&campaign.id, now)?.newest_at;
        // What is due stays due until it is decided about: a crash from here on loses no occurrence.
        let undecided = campaign.schedule.next_after(decided.map_or(first, |at| at.max(first))).unwrap_or(now);
        run.ledger.campaigns().see(&campaign.id, schedule, undecided, now)?;
    }
    let Some(state) = run.ledger.campaign(&campaign.id)? else { return Ok(None) };
    let only_other = round.only.is_some_and(|only| only != campaign.id);
    let one_off = matches!(campaign.schedule.recurrence, Recurrence::Once(_));
    // A one-off that opened is disabled permanently; one edited into a recurring campaign is another matter.
    if state.cancelled_at.is_some() || (!state.enabled && one_off) {
        // What a person has cancelled, that person knows.
        let was_edited = known.is_some_and(|state| state.schedule != schedule) && state.cancelled_at.is_none();
        if let Some(at) = next_after_now.filter(|_| was_edited && campaign.enabled) {
            let line = Some(missed::line_of_no_more(campaign, at));
            run.ledger.plans().miss_occurrences(
                &campaign.id,
                &Missed { line, ..Missed::default() },
                schedule,
                None,
                now,
            )?;
        }
        return Ok(None);
    }
    if state.status == CampaignStatus::Paused || only_other {
        return Ok(next_after_now);
    }
    let memory = memory(&run.ledger, &state, schedule, now)?;
    let limits = limits(campaign);
    let decision = opening::decide(&campaign.schedule, &memory, limits, now);
    if !campaign.enabled {
        // That nothing opens is a person's own decision.
        let (instants, still) = passed(decision);
        let next_run = still.or(next_after_now);
        if !instants.is_empty() {
            let missed = Missed { instants, ..Missed::default() };
            run.ledger.plans().miss_occurrences(&campaign.id, &missed, schedule, next_run, now)?;
        }
        return Ok(next_after_now);
    }
    let mut known = Circumstances {
        first_seen_at: state.first_seen_at.0,
        held_back_at: run.ledger.held_back_at()?,
        was_away: known.as_ref().is_some_and(|state| !state.defined),
        was_broken,
        was_edited: known.as_ref().is_some_and(|state| state.schedule != schedule),
        in_the_way: None,
    };
    let (planned_at, missed) = match decision {
        Decision::Nothing => {
            run.ledger.plans().set_next_run(&campaign.id, next_after_now)?;
            return Ok(next_after_now);
        }
        Decision::Wait { planned_at } => return Ok(Some(planned_at)),
        Decision::Missed { instants, why } => {
            let over_short_audience = what_was_in_the_way(&run.ledger, &state, &instants, &mut known)?;
            // What an older system sent is listed as past, and was not missed.
            let ran_elsewhere = one_off && memory.last_opening.is_none() && state.last_run.is_some();
            let line = (!ran_elsewhere).then(|| missed::line(campaign, &instants, why, &known));
            let missed = Missed { instants, line, over_short_audience };
            run.ledger.plans().miss_occurrences(&campaign.id, &missed, schedule, next_after_now, now)?;
            tell_missed(report, campaign, &missed.instants);
            return Ok(next_after_now);
        }
        Decision::Open { planned_at, missed } => {
            let over_short_audience = what_was_in_the_way(&run.ledger, &state, &missed, &mut known)?;
            let to_tell = opening::beyond_min_gap(&missed, &memory, limits);
            let line =
                (!to_tell.is_empty()).then(|| missed::line_of_passed_over(campaign, &to_tell, planned_at, &known));
            (planned_at, Missed { instants: missed, line, over_short_audience })
        }
    };
    match open_one(round, run, campaign, schedule, planned_at, missed.clone(), report) {
        Ok(()) => {
            tell_missed(report, campaign, &missed.instants);
            Ok(next_after_now)
        }
        Err(err) => match err.downcast_ref::<Failure>() {
            Some(failure) if matches!(failure.exit, Exit::NeedsAPerson | Exit::Configuration | Exit::DataUnusable) => {
                let until = planned_at + span::delta(campaign.max_lateness);
                let (at, until) = (instant::text(planned_at), instant::text(until));
                let line = format!(
                    "campaign {} {at}: {}{TRIED_AGAIN} {until}\n next: {}",
                    campaign.id, failure.what, failure.next
                );
                not_ready.push(Notice { key: format!("{}/{at}", campaign.id), line });
                Ok(Some(planned_at))
            }
            _ => Err(err),
        },
    }
}

/// Stands between the problem and the rest in a line of what could not be opened.
const TRIED_AGAIN: &str = "; not opened, tried again until";

/// Finds what kept one of these instants from being opened; returns that one if its audience was too short.
fn what_was_in_the_way(
    ledger: &Records,
    state: &CampaignState,
    instants: &[Instant],
    known: &mut Circumstances,
) -> Result<Option<Instant>, Failure> {
    if instants.is_empty() {
        return Ok(None);
    }
    let notices = ledger.open_notices()?;
    for at in instants.iter().rev() {
        let begins = format!("campaign {} {}: ", state.campaign_id, instant::text(*at));
        let mut lines = notices.iter().filter(|open| open.kind == NOT_OPENED);
        if let Some(rest) = lines.find_map(|open| open.line.strip_prefix(&begins)) {
            known.in_the_way = Some(rest.split(TRIED_AGAIN).next().unwrap_or_default().to_owned());
            return Ok(state.short_audience_rows.map(|_| *at));
        }
    }
    Ok(None)
}

/// Of what is due: the instants that never open, and the one that may still.
fn passed(decision: Decision) -> (Vec<Instant>, Option<Instant>) {
    match decision {
        Decision::Nothing => (Vec::new(), None),
        Decision::Open { planned_at, missed } => (missed, Some(planned_at)),
        Decision::Wait { planned_at } => (Vec::new(), Some(planned_at)),
        Decision::Missed { instants, .. } => (instants, None),
    }
}

/// What fell due while a campaign was paused: the instants that never open, and the one that opens with the next run.
pub(in crate::command) fn due_meanwhile(
    ledger: &Records,
    state: &CampaignState,
    campaign: &Campaign,
    now: Instant,
) -> Result<(Vec<Instant>, Option<Instant>), Failure> {
    let spent = !state.enabled && state.total_runs > 0 && matches!(campaign.schedule.recurrence, Recurrence::Once(_));
    if spent || state.cancelled_at.is_some() || !campaign.enabled {
        return Ok((Vec::new(), None));
    }
    let memory = memory(ledger, state, &campaign.schedule.to_string(), now)?;
    Ok(passed(opening::decide(&campaign.schedule, &memory, limits(campaign), now)))
}

pub(super) fn limits(campaign: &Campaign) -> Limits {
    Limits { min_gap: span::delta(campaign.min_gap), max_lateness: span::delta(campaign.max_lateness) }
}

pub(super) fn memory(ledger: &Records, state: &CampaignState, schedule: &str, now: Instant) -> Result<Memory, Failure> {
    let last = ledger.last_decision(&state.campaign_id, now)?;
    let first_seen_at = state.first_seen_at.0;
    // What fell due before an old copy was put back may have opened in the ledger that was lost.
    let held_back = ledger.held_back_at()?.map(|at| at + TimeDelta::seconds(1));
    Ok(Memory {
        first_seen_at: held_back.map_or(first_seen_at, |after| first_seen_at.max(after)),
        newest_decided: last.newest_at,
        last_opening: last.last_opened.map(|opened| LastOpening {
            planned_at: opened.planned_at,
            opened_at: opened.opened_at,
            same_schedule: opened.schedule == schedule,
            // The zone is the last word of a schedule as it is stored.
            zone: opened.schedule.rsplit(' ').next().and_then(|zone| zone.parse().ok()),
        }),
    })
}

fn tell_missed(report: &mut CampaignReport, campaign: &Campaign, missed: &[Instant]) {
    if let Some(newest) = missed.last() {
        report.missed.push(MissedNow {
            campaign_id: campaign.id.clone(),
            occurrences: missed.len() as u64,
            newest: instant::text(*newest),
        });
    }
}

/// What was gathered of an audience.
pub(in crate::command) struct Gathered {
    pub rows: u64,
    pub bad: Vec<String>,
    pub bad_rows: u64,
    pub repeated: u64,
    pub recipients: u64,
    /// The first of them.
    pub trial: Vec<TrialRow>,
    /// How many say a language that cannot be read, and the first of them.
    pub odd_locales: u64,
    pub first_odd_locale: Option<String>,
    /// Those whom an older version listed as suppressed under its own folding of the same spelling.
    pub listed_formerly: Vec<(Address, String)>,
}

impl Gathered {
    fn look_at_locale(&mut self, values: &LetterRow) {
        let locale = values.get("locale").filter(|locale| !locale.is_null() && *locale != "");
        if let Some(odd) = locale.filter(|_| read_locale(values).is_none()) {
            self.odd_locales += 1;
            let row = self.rows + self.bad_rows;
            let odd: String = odd.to_string().chars().take(40).collect();
            self.first_odd_locale.get_or_insert_with(|| format!("{} in row {row}", address::masked(&odd)));
        }
    }

    /// What to tell of languages that cannot be read.
    pub fn about_odd_locales(&self) -> Option<String> {
        let first = self.first_odd_locale.as_ref()?;
        let rows = count(self.odd_locales, "row");
        Some(format!("{rows} with a locale that is no language tag, the first {first}: written in the shop's language"))
    }
}

/// Reads an audience into the ledger's temporary table, before any transaction.
pub(in crate::command) fn gather(
    settings: &Settings,
    ledger: &Records,
    campaign: &Campaign,
    planned_at: Instant,
    context: &Context<'_>,
) -> Result<Gathered> {
    let sender_domain = campaign.from.as_ref().unwrap_or(&settings.mail.from).address.domain();
    let (holds, now) = (Holds::of(settings, campaign.send_window.as_ref()), context.clock.now());
    let holdout = settings.holdout.as_ref().filter(|holdout| holdout.campaigns);
    let key = OpeningKey { campaign_id: &campaign.id, planned_at, sender_domain, holdout };
    let mut gathered = Gathered {
        rows: 0,
        bad: Vec::new(),
        bad_rows: 0,
        repeated: 0,
        recipients: 0,
        trial: Vec::new(),
        odd_locales: 0,
        first_odd_locale: None,
        listed_formerly: Vec::new(),
    };
    let mut trial_bytes = 0;
    let bar = progress::bar("reading the audience", None, context.output.json);
    ledger.begin_audience()?;
    let read = audience::read(&campaign.audience, &settings.source, &mut |row| {
        bar.inc(1);
        match row {
            AudienceRow::Bad(bad) => {
                gathered.bad_rows += 1;
                if gathered.bad_rows <= MOST_BAD_ROWS_NAMED {
                    gathered.bad.push(format!("{}: {}; row skipped", bad.place, bad.problem));
                }
            }
            AudienceRow::Recipient(recipient) => {
                gathered.rows += 1;
                let values = serde_json::to_string(&recipient.values)?;
                let zone = recipient.timezone().unwrap_or(settings.shop.timezone);
                let place = |key: &str| holds.place(now, zone, key);
                let is_first = ledger.add_recipient(&key, &recipient.address, &values, place)?;
                gathered.repeated += u64::from(!is_first);
                gathered.look_at_locale(&recipient.values);
                if let Some(former) = recipient.address.formerly_folded()
                    && ledger.is_suppressed(former, list::ALL)?
                {
                    let reason = "listed by another spelling".to_owned();
                    gathered.listed_formerly.push((recipient.address.clone(), reason));
                }
                trial_bytes += values.len();
                if is_first && gathered.trial.len() < MOST_TRIED && trial_bytes <= MOST_TRIED_BYTES {
                    let place = format!("row {} of its audience", gathered.rows + gathered.bad_rows);
                    gathered.trial.push(TrialRow { place, address: recipient.address, values: recipient.values });
                }
            }
        }
        Ok(())
    });
    gathered.recipients = ledger.end_audience()?;
    bar.finish_and_clear();
    read?;
    Ok(gathered)
}

/// What an occurrence is written with as its definition says it now, seen to be sound.
pub(in crate::command) fn letters_now(
    settings: &Settings,
    campaign: &Campaign,
    planned_at: Instant,
) -> Result<(OpenOccurrence, CampaignLetters)> {
    let texts = TemplateTexts::read(&campaign.template).map_err(|(path, err)| {
        Failure::config(format!("the template {} cannot be read: {err}", path.display()), "put it there")
    })?;
    let occurrence = OpenOccurrence {
        id: 0,
        campaign_id: campaign.id.clone(),
        planned_at,
        subject: campaign.subject.stored(),
        template: texts.stored(),
        template_name: campaign.template.display().to_string(),
        sender: campaign.from.as_ref().unwrap_or(&settings.mail.from).to_string(),
        list: campaign.list.clone(),
    };
    let letters = CampaignLetters::of(&occurrence, settings)?.with_coupons(campaign.coupon.is_some());
    Ok((occurrence, letters))
}

/// Holds an audience's length against the last opening's; returns what to tell of one that is short for good.
///
/// # Errors
/// Exit 1: it has fewer than half the rows of last time, and may be half uploaded.
pub(super) fn check_length(
    ledger: &Records,
    campaign: &Campaign,
    rows: u64,
    now: Instant,
) -> Result<Option<String>, Failure> {
    let last = ledger.last_decision(&campaign.id, now)?;
    let Some(opened) = &last.last_opened else { return Ok(None) };
    let length = AudienceLength {
        rows,
        at_last_opening: Some(opened.audience_rows),
        when_missed: last.missed_over_short.map(|(_, rows)| rows),
    };
    let fewer = format!(
        "{}, fewer than half of the {} of {}",
        count(rows, "row"),
        opened.audience_rows,
        instant::text(opened.planned_at)
    );
    match (opening::judge_length(length), last.missed_over_short) {
        (LengthVerdict::Enough, _) | (LengthVerdict::ShortForGood, None) => Ok(None),
        (LengthVerdict::ShortForGood, Some((missed_at, rows_then))) => Ok(Some(format!(
            "campaign {id}: opened with {fewer}, as the list has been that short since {} was missed over it ({}); if that is \
             right: `mailonce resolve --accept audience:{id}`",
            instant::text(missed_at),
            count(rows_then, "row"),
            id = campaign.id
        ))),
        (LengthVerdict::CutShort, _) => Err(Failure::new(
            Exit::NeedsAPerson,
            format!("its audience has {fewer}"),
            format!(
                "complete the audience, or, if it is right: `mailonce run-campaigns --campaign {} --accept-audience`",
                campaign.id
            ),
        )),
    }
}

/// The pool that a campaign's codes come from.
///
/// # Errors
/// Exit 78: it is not configured.
pub(super) fn pool_of(settings: &Settings, campaign: &Campaign) -> Result<Option<Pool>, Failure> {
    let Some(name) = &campaign.coupon else { return Ok(None) };
    let found = settings.pools.iter().find(|pool| pool.name == *name).cloned();
    found.map(Some).ok_or_else(|| {
        Failure::config(
            format!("coupon: there is no [[coupon]] {name:?}"),
            "add it to the configuration, or correct the name",
        )
    })
}

fn open_one(
    round: &Round<'_>,
    run: &mut Run,
    campaign: &Campaign,
    schedule: &str,
    planned_at: Instant,
    missed: Missed,
    report: &mut CampaignReport,
) -> Result<()> {
    let now = round.sending.context.clock.now();
    let (written_with, letters) = letters_now(round.sending.settings, campaign, planned_at)?;
    let gathered = gather(round.sending.settings, &run.ledger, campaign, planned_at, round.sending.context)?;
    let short_audience = match check_length(&run.ledger, campaign, gathered.rows, now) {
        Err(short) if !round.accept_audience => {
            run.ledger.plans().set_short_audience(&campaign.id, Some(gathered.rows))?;
            return Err(short.into());
        }
        // Who accepts it knows.
        Err(_) => None,
        Ok(told) => {
            run.ledger.plans().set_short_audience(&campaign.id, None)?;
            told
        }
    };
    letters.try_on(&gathered.trial)?;
    if !gathered.listed_formerly.is_empty() {
        run.ledger.suppressions().add(&gathered.listed_formerly, Origin::Import, now)?;
    }
    let opening = Opening {
        campaign_id: campaign.id.clone(),
        planned_at,
        schedule: schedule.to_owned(),
        subject: written_with.subject,
        template: written_with.template,
        template_name: written_with.template_name,
        sender: written_with.sender,
        list: written_with.list,
        expires_at: planned_at + span::delta(campaign.send_until),
        one_off: matches!(campaign.schedule.recurrence, Recurrence::Once(_)),
        next_run: campaign.schedule.next_after(now),
        audience_rows: gathered.rows,
        bad_rows: gathered.bad_rows,
        missed,
        short_audience,
        pool: pool_of(round.sending.settings, campaign)?,
    };
    match run.ledger.plans().open_occurrence(run.epoch, &opening, gathered.repeated, now)? {
        Opened::NotOurs => {}
        Opened::Planned { recipients, held_out } => {
            report.opened.push(OpenedNow {
                campaign_id: campaign.id.clone(),
                planned_at: instant::text(planned_at),
                recipients,
                held_out,
                bad_rows: gathered.bad_rows,
                repeated: gathered.repeated,
            });
            if let Some(about) = gathered.about_odd_locales() {
                report.delivered.news.push(format!("campaign {}: {about}", campaign.id));
            }
            if gathered.bad_rows > 0 {
                let line = format!("campaign {}: {} left out", campaign.id, count(gathered.bad_rows, "bad row"));
                report.delivered.news.extend(gathered.bad);
                report.delivered.news.push(line);
            }
        }
    }
    Ok(())
}
