//! `run-campaigns --dry-run`.

use anyhow::Result;
use serde_json::json;

use super::Context;
use super::opening::{check_length, limits, memory};
use crate::cli;
use crate::command::trial::sample;
use crate::domain::instant::{self};
use crate::domain::opening::{self, Decision, Memory};
use crate::domain::recurrence::Recurrence;
use crate::failure::{Exit, Failure};
use crate::ledger::Records;
use crate::output::count;
use crate::settings::Settings;
use crate::settings::campaigns::Definitions;

/// Each campaign's next occurrence, its number of recipients and a rendered sample.
pub(super) fn run(
    context: &Context<'_>,
    settings: &Settings,
    definitions: &Definitions,
    args: &cli::RunCampaigns,
) -> Result<Exit> {
    let only = args.campaign.as_deref();
    let now = context.clock.now();
    let ledger = Records::open(settings.place())?;
    let mut documents = Vec::new();
    let mut exit = Exit::Done;
    for broken in &definitions.broken {
        context.output.print(&broken.problem);
        documents.push(json!({ "campaign_id": broken.id, "problem": broken.problem }));
        exit = Exit::NeedsAPerson;
    }
    for campaign in definitions.campaigns.iter().filter(|campaign| only.is_none_or(|only| only == campaign.id)) {
        let state = ledger.campaign(&campaign.id)?;
        let status = state.as_ref().map_or_else(|| "not seen yet".to_owned(), |state| state.status.to_string());
        let schedule = campaign.schedule.to_string();
        let memory = match &state {
            Some(state) => memory(&ledger, state, &schedule, now)?,
            None => Memory { first_seen_at: now, newest_decided: None, last_opening: None },
        };
        let decision = opening::decide(&campaign.schedule, &memory, limits(campaign), now);
        let (next, due) = match &decision {
            Decision::Open { planned_at, .. } | Decision::Wait { planned_at } => (Some(*planned_at), true),
            _ if matches!(campaign.schedule.recurrence, Recurrence::Once(_)) && memory.last_opening.is_some() => {
                (None, false)
            }
            _ => (campaign.schedule.next_after(now), false),
        };
        let when = next.map_or_else(|| "never again".to_owned(), |at| campaign.local(at));
        let sample = sample(settings, &ledger, campaign, next.unwrap_or(now), context).and_then(|sample| {
            if next.is_some() && !args.accept_audience {
                check_length(&ledger, campaign, sample.gathered.rows, now)?;
            }
            Ok(sample)
        });
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
                for line in sample.gathered.bad.iter().chain(&sample.gathered.about_odd_locales()) {
                    context.output.print(format!("  {line}"));
                }
                let (subject, text) =
                    sample.rendered.map(|rendered| (rendered.subject, rendered.text)).unwrap_or_default();
                context.output.print(format!("  Subject: {subject}"));
                for line in text.lines() {
                    context.output.print(format!("  | {line}"));
                }
                if sample.gathered.bad_rows > 0 {
                    exit = Exit::NeedsAPerson;
                }
                documents.push(json!({
                    "campaign_id": campaign.id, "status": status, "next_run": next.map(instant::text), "due": due,
                    "recipients": sample.gathered.recipients, "repeated": sample.gathered.repeated, "bad_rows": sample.gathered.bad,
                    "sample": { "subject": subject, "text": text }, "problem": null,
                }));
            }
            Err(err) => {
                let problem = match err.downcast_ref::<Failure>() {
                    Some(failure) => format!("{}; {}", failure.what, failure.next),
                    None => format!("{err:#}"),
                };
                context.output.print(format!("{} [{status}] next {when}: would not open: {problem}", campaign.id));
                documents.push(json!({
                    "campaign_id": campaign.id, "status": status, "next_run": next.map(instant::text), "due": null,
                    "recipients": null, "repeated": null, "bad_rows": null, "sample": null, "problem": problem,
                }));
                exit = Exit::NeedsAPerson;
            }
        }
    }
    if definitions.campaigns.is_empty() && definitions.broken.is_empty() {
        context.output.print("no campaigns are defined");
    }
    context.output.document("run-campaigns-dry-run", &json!({ "campaigns": documents }));
    Ok(exit)
}
