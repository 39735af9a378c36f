//! Opening: which occurrences are due, and their audiences.

use std::collections::HashMap;

use anyhow::Result;
use chrono::TimeDelta;
use serde_json::json;

use super::feed::{Stationery, read_row};
use super::{CampaignReport, Context, MissedNow, OpenedNow, Round, told};
use crate::domain::address::Address;
use crate::domain::campaign::Campaign;
use crate::domain::instant::{self, Instant};
use crate::domain::opening::{self, Decision, LastOpening, Limits, Memory};
use crate::domain::recurrence::Recurrence;
use crate::failure::{Exit, Failure};
use crate::ledger::{Access, CampaignState, Ledger, Notice, OpenOccurrence, Opened, Opening, OpeningKey};
use crate::output::count;
use crate::progress;
use crate::run::Run;
use crate::settings::Settings;
use crate::settings::campaigns::Definitions;
use crate::source::audience::{self, AudienceRow};

/// So many bad rows of an audience are named.
const MOST_BAD_ROWS_NAMED: u64 = 20;

/// Opens every campaign that is due.
pub(super) fn open_due(round: &Round<'_>, run: &mut Run, report: &mut CampaignReport) -> Result<()> {
    let now = round.sending.context.clock.now();
    let known: HashMap<String, CampaignState> =
        run.ledger.campaigns()?.into_iter().map(|state| (state.campaign_id.clone(), state)).collect();
    let mut not_ready = Vec::new();
    let mut next: Option<(Instant, &Campaign)> = None;
    for campaign in &round.definitions.campaigns {
        let state = known.get(&campaign.id);
        let schedule = campaign.schedule.to_string();
        let upcoming = if is_quiet(state, &schedule, now) {
            state.and_then(|state| state.next_run.as_deref()).and_then(instant::from_text)
        } else {
            attend(round, run, report, campaign, &schedule, &mut not_ready)?
        };
        if let Some(at) = upcoming.filter(|at| next.is_none_or(|(soonest, _)| *at < soonest)) {
            next = Some((at, campaign));
        }
    }
    report.next_occurrence = next.map(|(at, campaign)| spoken(at, campaign));
    report.not_ready = not_ready.iter().map(|notice| notice.line.clone()).collect();
    let news = run.ledger.note("campaign not opened", &not_ready, now)?;
    report.delivered.news.extend(told(news, "campaign not opened"));
    Ok(())
}

/// Nothing about a campaign has changed and nothing of it is due: the ledger's own row says so.
fn is_quiet(state: Option<&CampaignState>, schedule: &str, now: Instant) -> bool {
    state.is_some_and(|state| {
        let due = state.next_run.as_deref().and_then(instant::from_text).is_some_and(|at| at <= now);
        state.schedule == schedule && state.defined && !due
    })
}

/// Looks at one campaign closely; returns when it is due next.
fn attend(
    round: &Round<'_>,
    run: &mut Run,
    report: &mut CampaignReport,
    campaign: &Campaign,
    schedule: &str,
    not_ready: &mut Vec<Notice>,
) -> Result<Option<Instant>> {
    let now = round.sending.context.clock.now();
    let next_after_now = campaign.schedule.next_after(now);
    let known = run.ledger.campaign(&campaign.id)?;
    if known.as_ref().is_none_or(|state| state.schedule != schedule || !state.defined) {
        let first = known.as_ref().and_then(|state| instant::from_text(&state.first_seen_at)).unwrap_or(now)
            - TimeDelta::seconds(1);
        let decided = run.ledger.last_decision(&campaign.id, now)?.newest_at;
        // What is due stays due until it is decided about: a crash from here on loses no occurrence.
        let undecided = campaign.schedule.next_after(decided.map_or(first, |at| at.max(first))).unwrap_or(now);
        run.ledger.see_campaign(&campaign.id, schedule, undecided, now)?;
    }
    let Some(state) = run.ledger.campaign(&campaign.id)? else { return Ok(None) };
    let only_other = round.only.is_some_and(|only| only != campaign.id);
    // A one-off that opened is disabled for ever; one edited into a recurring campaign is another matter.
    let spent = !state.enabled && matches!(campaign.schedule.recurrence, Recurrence::Once(_));
    if matches!(state.status.as_str(), "paused" | "cancelled") || spent || !campaign.enabled || only_other {
        return Ok(next_after_now);
    }
    let memory = memory(&run.ledger, &state, schedule, now)?;
    let limits = Limits { min_gap: delta(campaign.min_gap), max_lateness: delta(campaign.max_lateness) };
    let (planned_at, missed) = match opening::decide(&campaign.schedule, &memory, limits, now) {
        Decision::Nothing => {
            run.ledger.set_next_run(&campaign.id, next_after_now)?;
            return Ok(next_after_now);
        }
        Decision::Wait { planned_at } => return Ok(Some(planned_at)),
        Decision::Missed(missed) => {
            run.ledger.miss_occurrences(&campaign.id, &missed, schedule, next_after_now, now)?;
            tell_missed(report, campaign, &missed);
            return Ok(next_after_now);
        }
        Decision::Open { planned_at, missed } => (planned_at, missed),
    };
    match open_one(round, run, campaign, schedule, planned_at, missed.clone(), &memory, report) {
        Ok(()) => {
            tell_missed(report, campaign, &missed);
            Ok(next_after_now)
        }
        Err(err) => match err.downcast_ref::<Failure>() {
            Some(failure) if matches!(failure.exit, Exit::NeedsAPerson | Exit::Configuration | Exit::DataUnusable) => {
                let until = planned_at + delta(campaign.max_lateness);
                let line = format!(
                    "campaign {} {}: {}; not opened, tried again until {}",
                    campaign.id,
                    instant::text(planned_at),
                    failure.what,
                    instant::text(until)
                );
                not_ready.push(Notice { key: format!("{}/{}", campaign.id, instant::text(planned_at)), line });
                Ok(Some(planned_at))
            }
            _ => Err(err),
        },
    }
}

fn memory(ledger: &Ledger, state: &CampaignState, schedule: &str, now: Instant) -> Result<Memory, Failure> {
    let last = ledger.last_decision(&state.campaign_id, now)?;
    let first_seen_at = instant::from_text(&state.first_seen_at).unwrap_or_default();
    // What fell due before an old copy was put back may have opened in the ledger that was lost.
    let held_back = ledger.held_back_at()?.map(|at| at + TimeDelta::seconds(1));
    Ok(Memory {
        first_seen_at: held_back.map_or(first_seen_at, |after| first_seen_at.max(after)),
        newest_decided: last.newest_at,
        last_opening: last.last_opened.map(|opened| LastOpening {
            planned_at: opened.planned_at,
            opened_at: opened.opened_at,
            same_schedule: opened.schedule == schedule,
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
struct Gathered {
    rows: u64,
    bad: Vec<String>,
    bad_rows: u64,
    repeated: u64,
    recipients: u64,
    /// Those whom an older version listed as suppressed under its own folding of the same spelling.
    listed_formerly: Vec<(Address, String)>,
}

/// Reads an audience into the ledger's temporary table, before any transaction.
fn gather(
    settings: &Settings,
    ledger: &mut Ledger,
    campaign: &Campaign,
    planned_at: Instant,
    sender_domain: &str,
    quiet: bool,
) -> Result<Gathered> {
    let key = OpeningKey { campaign_id: &campaign.id, planned_at, sender_domain };
    let mut gathered =
        Gathered { rows: 0, bad: Vec::new(), bad_rows: 0, repeated: 0, recipients: 0, listed_formerly: Vec::new() };
    let bar = progress::bar("reading the audience", None, quiet);
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
                if !ledger.add_recipient(&key, &recipient.address, &values)? {
                    gathered.repeated += 1;
                }
                if let Some(former) = recipient.address.formerly_folded()
                    && ledger.is_suppressed(former)?
                {
                    gathered.listed_formerly.push((recipient.address, "listed by another spelling".to_owned()));
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

/// The template's text, compiled once to see that it can be.
fn template_text(campaign: &Campaign) -> Result<String, Failure> {
    let text = std::fs::read_to_string(&campaign.template).map_err(|err| {
        Failure::config(format!("the template {} cannot be read: {err}", campaign.template.display()), "put it there")
    })?;
    crate::mail::template::Template::compile(&campaign.template.display().to_string(), &text, &campaign.subject)?;
    Ok(text)
}

#[expect(clippy::too_many_arguments, reason = "one call; each is a thing of its own")]
fn open_one(
    round: &Round<'_>,
    run: &mut Run,
    campaign: &Campaign,
    schedule: &str,
    planned_at: Instant,
    missed: Vec<Instant>,
    memory: &Memory,
    report: &mut CampaignReport,
) -> Result<()> {
    let now = round.sending.context.clock.now();
    let template = template_text(campaign)?;
    let from = campaign.from.as_ref().unwrap_or(&round.sending.settings.mail.from);
    let gathered = gather(
        round.sending.settings,
        &mut run.ledger,
        campaign,
        planned_at,
        from.address.domain(),
        round.sending.context.output.json,
    )?;
    let last_rows = run.ledger.last_decision(&campaign.id, now)?.last_opened.map_or(0, |opened| opened.audience_rows);
    if gathered.rows * 2 < last_rows && memory.last_opening.is_some() {
        return Err(Failure::new(
            Exit::NeedsAPerson,
            format!("its audience has {} rows, fewer than half of the {last_rows} of last time", gathered.rows),
            "complete the audience",
        )
        .into());
    }
    if !gathered.listed_formerly.is_empty() {
        run.ledger.suppress(&gathered.listed_formerly, "import", now)?;
    }
    let opening = Opening {
        campaign_id: campaign.id.clone(),
        planned_at,
        schedule: schedule.to_owned(),
        subject: campaign.subject.clone(),
        template,
        template_name: campaign.template.display().to_string(),
        sender: from.to_string(),
        expires_at: planned_at + delta(campaign.send_until),
        one_off: matches!(campaign.schedule.recurrence, Recurrence::Once(_)),
        next_run: campaign.schedule.next_after(now),
        audience_rows: gathered.rows,
        bad_rows: gathered.bad_rows,
        missed,
    };
    match run.ledger.open_occurrence(run.epoch, &opening, gathered.repeated, now)? {
        Opened::NotOurs => {}
        Opened::Planned { recipients } => {
            report.opened.push(OpenedNow {
                campaign_id: campaign.id.clone(),
                planned_at: instant::text(planned_at),
                recipients,
                bad_rows: gathered.bad_rows,
                repeated: gathered.repeated,
            });
            if gathered.bad_rows > 0 {
                let line = format!("campaign {}: {} left out", campaign.id, count(gathered.bad_rows, "bad row"));
                report.delivered.news.extend(gathered.bad);
                report.delivered.news.push(line);
            }
        }
    }
    Ok(())
}

/// `run-campaigns --dry-run`: each campaign's next occurrence, its number of recipients and a rendered sample.
pub(super) fn dry_run(
    context: &Context<'_>,
    settings: &Settings,
    definitions: &Definitions,
    only: Option<&str>,
) -> Result<Exit> {
    let now = context.clock.now();
    let mut ledger = Ledger::open(settings.place(), Access::Read)?;
    let mut documents = Vec::new();
    let mut exit = Exit::Done;
    for broken in &definitions.broken {
        context.output.print(&broken.problem);
        documents.push(json!({ "campaign_id": broken.id, "problem": broken.problem }));
        exit = Exit::NeedsAPerson;
    }
    for campaign in definitions.campaigns.iter().filter(|campaign| only.is_none_or(|only| only == campaign.id)) {
        let state = ledger.campaign(&campaign.id)?;
        let status = state.as_ref().map_or_else(|| "not seen yet".to_owned(), |state| state.status.clone());
        let schedule = campaign.schedule.to_string();
        let memory = match &state {
            Some(state) => memory(&ledger, state, &schedule, now)?,
            None => Memory { first_seen_at: now, newest_decided: None, last_opening: None },
        };
        let limits = Limits { min_gap: delta(campaign.min_gap), max_lateness: delta(campaign.max_lateness) };
        let decision = opening::decide(&campaign.schedule, &memory, limits, now);
        let (next, due) = match &decision {
            Decision::Open { planned_at, .. } | Decision::Wait { planned_at } => (Some(*planned_at), true),
            _ if matches!(campaign.schedule.recurrence, Recurrence::Once(_)) && memory.last_opening.is_some() => {
                (None, false)
            }
            _ => (campaign.schedule.next_after(now), false),
        };
        let when = next.map_or_else(|| "never again".to_owned(), |at| spoken(at, campaign));
        let sample = sample(settings, &mut ledger, campaign, next.unwrap_or(now), context.output.json);
        match sample {
            Ok(sample) => {
                let due_now = if due { " (due now)" } else { "" };
                context.output.print(format!(
                    "{} [{status}] next {when}{due_now}: {}, {}, {}",
                    campaign.id,
                    count(sample.gathered.recipients, "recipient"),
                    count(sample.gathered.repeated, "repeated address"),
                    count(sample.gathered.bad_rows, "bad row")
                ));
                for line in &sample.gathered.bad {
                    context.output.print(format!("  {line}"));
                }
                context.output.print(format!("  Subject: {}", sample.subject));
                for line in sample.text.lines() {
                    context.output.print(format!("  | {line}"));
                }
                if sample.gathered.bad_rows > 0 {
                    exit = Exit::NeedsAPerson;
                }
                documents.push(json!({
                    "campaign_id": campaign.id, "status": status, "next_run": next.map(instant::text), "due": due,
                    "recipients": sample.gathered.recipients, "repeated": sample.gathered.repeated, "bad_rows": sample.gathered.bad,
                    "sample": { "subject": sample.subject, "text": sample.text },
                }));
            }
            Err(err) => {
                let problem =
                    err.downcast_ref::<Failure>().map_or_else(|| format!("{err:#}"), |failure| failure.what.clone());
                context.output.print(format!("{} [{status}] next {when}: would not open: {problem}", campaign.id));
                documents.push(json!({ "campaign_id": campaign.id, "status": status, "next_run": next.map(instant::text), "problem": problem }));
                exit = Exit::NeedsAPerson;
            }
        }
    }
    if definitions.campaigns.is_empty() && definitions.broken.is_empty() {
        context.output.print("no campaigns are defined");
    }
    context.output.document(&json!({ "campaigns": documents }));
    Ok(exit)
}

struct Sample {
    gathered: Gathered,
    subject: String,
    text: String,
}

fn sample(
    settings: &Settings,
    ledger: &mut Ledger,
    campaign: &Campaign,
    planned_at: Instant,
    quiet: bool,
) -> Result<Sample> {
    let template = template_text(campaign)?;
    let from = campaign.from.as_ref().unwrap_or(&settings.mail.from);
    let gathered = gather(settings, ledger, campaign, planned_at, from.address.domain(), quiet)?;
    let occurrence = OpenOccurrence {
        id: 0,
        campaign_id: campaign.id.clone(),
        planned_at,
        subject: campaign.subject.clone(),
        template,
        template_name: campaign.template.display().to_string(),
        sender: from.to_string(),
    };
    let stationery = Stationery::of(&occurrence, settings)?;
    let Some((recipient, row_values)) = ledger.sample_recipient()? else {
        return Ok(Sample { gathered, subject: String::new(), text: String::new() });
    };
    let address = Address::parse(&recipient).map_err(anyhow::Error::from)?;
    let rendered = read_row(&row_values).and_then(|values| stationery.render(&address, values, "sample"));
    let rendered = rendered.map_err(|problem| {
        Failure::config(
            format!("the message to the first recipient cannot be rendered: {problem}"),
            "correct the template",
        )
    })?;
    Ok(Sample { gathered, subject: rendered.subject, text: rendered.text })
}

/// An instant in a campaign's own zone: `2026-03-01 09:00 Europe/Berlin`.
pub(in crate::command) fn spoken(at: Instant, campaign: &Campaign) -> String {
    let zone = campaign.schedule.zone;
    format!("{} {zone}", at.with_timezone(&zone).format("%Y-%m-%d %H:%M"))
}

fn delta(span: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX)
}
