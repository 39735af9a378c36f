//! `campaign`: look at campaigns, and steer them.

mod definitions;
mod retry;
mod show;

use anyhow::Result;
use chrono::TimeDelta;
use serde_json::json;

use super::run_campaigns::definitions;
use super::run_campaigns::missed::which;
use super::run_campaigns::opening::due_meanwhile;
use super::{Context, trial};
use crate::cli;
use crate::domain::campaign::Campaign;
use crate::domain::instant::{self, Instant};
use crate::domain::recurrence::Recurrence;
use crate::domain::state::CampaignStatus;
use crate::failure::{Exit, Failure};
use crate::ledger::{Ledger, Missed, OccurrenceRow, Records};
use crate::output::count;
use crate::progress;
use crate::settings::Settings;
use crate::settings::campaigns::Definitions;

pub(super) use definitions::replace;

pub fn run(context: &Context<'_>, args: &cli::Campaign) -> Result<Exit> {
    let settings = match args {
        cli::Campaign::Add(_) | cli::Campaign::Test { .. } => context.settings()?,
        _ => context.settings_without_secrets()?,
    };
    match args {
        cli::Campaign::List => show::list(context, &settings),
        cli::Campaign::Show { id, occurrence, csv } => show::show(context, &settings, id, *occurrence, *csv),
        cli::Campaign::Add(add) => definitions::add(context, &settings, add),
        cli::Campaign::Test { id, to } => {
            let definitions = definitions(&settings)?;
            let Some(campaign) = definitions.campaigns.iter().find(|campaign| campaign.id == *id) else {
                return Err(unknown(id, &definitions).into());
            };
            trial::send_campaign(context, &settings, campaign, to)
        }
        cli::Campaign::Pause { id } => steer(context, &settings, "campaign-pause", id, |ledger| {
            Ok(match ledger.campaigns().pause(id)? {
                true => {
                    format!("{id} is paused: nothing opens and nothing is sent until `mailonce campaign resume {id}`")
                }
                false => format!("{id} was not pending or running; nothing was changed"),
            })
        }),
        cli::Campaign::Resume { id } => {
            steer(context, &settings, "campaign-resume", id, |ledger| resume(context, &settings, ledger, id))
        }
        cli::Campaign::Cancel { id } => steer(context, &settings, "campaign-cancel", id, |ledger| {
            let progress = progress::bar("cancelling", None, context.output.json);
            let cancelled =
                ledger.campaigns().cancel(id, context.clock.now(), &mut |messages| progress.inc(messages))?;
            progress.finish_and_clear();
            Ok(match cancelled {
                Some(messages) => {
                    format!("{id} is cancelled: {} not sent; what was sent stays", count(messages, "planned message"))
                }
                None => format!("{id} was cancelled already; nothing was changed"),
            })
        }),
        cli::Campaign::Remove { id } => definitions::remove(context, &settings, id),
        cli::Campaign::Retry { id, state, occurrence, template } => {
            let template = template.as_ref().map(|file| file.as_deref());
            retry::retry(context, &settings, id, state, *occurrence, template)
        }
    }
}

/// The occurrence asked for, or the newest opened one.
fn chosen(ledger: &Records, id: &str, wanted: Option<Instant>) -> Result<Option<OccurrenceRow>, Failure> {
    let found = ledger.opened_occurrence(id, wanted)?;
    match wanted {
        Some(wanted) if found.is_none() => Err(Failure::usage(
            format!("campaign {id} opened no occurrence at {}", instant::text(wanted)),
            format!("`mailonce campaign show {id}` lists them"),
        )),
        _ => Ok(found),
    }
}

fn unknown(id: &str, definitions: &Definitions) -> Failure {
    if definitions.campaigns.iter().any(|campaign| campaign.id == id) {
        return Failure::usage(
            format!("campaign {id} is defined, but no run has seen it yet"),
            "wait for the next `mailonce run-campaigns`",
        );
    }
    Failure::usage(format!("there is no campaign {id:?}"), "`mailonce campaign list` names them")
}

/// Changes one campaign. It takes no lock: a run under way looks before each message.
fn steer(
    context: &Context<'_>,
    settings: &Settings,
    document: &str,
    id: &str,
    change: impl FnOnce(&mut Ledger) -> Result<String, Failure>,
) -> Result<Exit> {
    let mut ledger = context.ledger(settings)?;
    see_if_new(context, settings, &mut ledger, id)?;
    let line = change(&mut ledger)?;
    let state = ledger.campaign(id)?;
    context.output.document(document, &json!({ "campaign": state, "message": line }));
    context.output.print(line);
    Ok(Exit::Done)
}

/// A campaign that is defined, but was not seen by a run yet, can be steered too.
fn see_if_new(context: &Context<'_>, settings: &Settings, ledger: &mut Ledger, id: &str) -> Result<(), Failure> {
    if ledger.campaign(id)?.is_some() {
        return Ok(());
    }
    let definitions = definitions(settings)?;
    match definitions.campaigns.iter().find(|campaign| campaign.id == id) {
        Some(campaign) => see(context, ledger, campaign).map(|_| ()),
        None => Err(unknown(id, &definitions)),
    }
}

/// Makes a campaign known to the ledger; returns when it is due first.
fn see(context: &Context<'_>, ledger: &mut Ledger, campaign: &Campaign) -> Result<Option<Instant>, Failure> {
    let now = context.clock.now();
    let first = campaign.schedule.next_after(now - TimeDelta::seconds(1));
    ledger.campaigns().see(&campaign.id, &campaign.schedule.to_string(), first.unwrap_or(now), now)?;
    Ok(first)
}

/// Ends a pause, and says what became of what fell due meanwhile: that is the decision of whoever paused it.
fn resume(context: &Context<'_>, settings: &Settings, ledger: &mut Ledger, id: &str) -> Result<String, Failure> {
    let now = context.clock.now();
    let definitions = definitions(settings)?;
    let defined = definitions.campaigns.iter().find(|campaign| campaign.id == id);
    let state = ledger.campaign(id)?.filter(|state| state.status == CampaignStatus::Paused);
    let (instants, opens) = match (&state, defined) {
        (Some(state), Some(campaign)) => due_meanwhile(ledger, state, campaign, now)?,
        _ => (Vec::new(), None),
    };
    let missed = Missed { instants, ..Missed::default() };
    let Some(resumed) = ledger.campaigns().resume(id, &missed, now)? else {
        return Ok(format!("{id} was not paused; nothing was changed"));
    };
    let mut line = format!("{id} goes on with the next run");
    if resumed.planned > resumed.expired {
        line.push_str(&format!("; {} sent then", count(resumed.planned - resumed.expired, "planned message")));
    }
    if resumed.expired > 0 {
        line.push_str(&format!("; {} not sent: too late by now", count(resumed.expired, "planned message")));
    }
    let Some(campaign) = defined else {
        line.push_str("; it is not in the campaigns file, so that nothing opens until it is");
        return Ok(line);
    };
    if !missed.instants.is_empty() {
        line.push_str(&format!("; {} will never open", which(campaign, &missed.instants).trim_end_matches(',')));
        if matches!(campaign.schedule.recurrence, Recurrence::Once(_)) {
            line.push_str(": set `at` to a time to come");
        }
    }
    if let Some(at) = opens {
        line.push_str(&format!("; the occurrence of {} opens then", campaign.local(at)));
    }
    Ok(line)
}
