//! What would keep a campaign from opening.

use chrono::TimeDelta;

use super::Findings;
use crate::command::{Context, run_campaigns, trial};
use crate::domain::span;
use crate::failure::{Exit, Failure};
use crate::ledger::Records;
use crate::mail::template::Rendered;
use crate::settings::Settings;

/// A campaign that runs as often as this is a mistake in its schedule, most likely.
const OFTEN: TimeDelta = TimeDelta::minutes(59);

/// Returns the first message of each, by the campaign's id.
pub(super) fn look_at_campaigns(
    context: &Context<'_>,
    settings: &Settings,
    ledger: &Records,
    findings: &mut Findings,
) -> Vec<(String, Rendered)> {
    let mut messages = Vec::new();
    let Some(file) = &settings.campaigns.file else { return messages };
    let Some(definitions) =
        findings.take("campaigns", run_campaigns::definitions(settings), format!("{} is read", file.display()))
    else {
        return messages;
    };
    for broken in &definitions.broken {
        findings.fail("campaigns", broken.problem.clone(), "correct that definition");
    }
    let now = context.clock.now();
    for campaign in &definitions.campaigns {
        let id = &campaign.id;
        let opened = ledger.campaign(id).ok().flatten().is_some_and(|state| state.last_run.is_some());
        let next = campaign.schedule.next_after(now);
        let after = next.and_then(|next| campaign.schedule.next_after(next));
        match (next, after) {
            (None, _) if opened => continue,
            (None, _) => findings.warn(
                "campaigns",
                format!("{id} has never run and never will: its time has passed"),
                "set `at` to a time to come, or take it out",
            ),
            (Some(next), Some(after)) if after - next <= OFTEN => findings.warn(
                "campaigns",
                format!("{id} runs every {}", span::spoken(after - next)),
                "is that meant? In a cron expression the first field is the minute: `0 9 * * *` is every day at nine",
            ),
            _ => {}
        }
        // As an opening would, on the audience as it is now.
        match trial::sample(settings, ledger, campaign, next.unwrap_or(now), context) {
            Ok(sample) => messages.extend(sample.rendered.map(|rendered| (id.clone(), rendered))),
            Err(err) => {
                let remedy = "it must be so when the campaign falls due, for the user cron runs as";
                match err.downcast::<Failure>() {
                    Ok(failure) if failure.exit == Exit::NeedsAPerson => {
                        findings.warn("campaigns", format!("{id}: {}", failure.what), remedy);
                    }
                    Ok(failure) => findings.fail("campaigns", format!("{id}: {}", failure.what), failure.next),
                    Err(err) => findings.warn("campaigns", format!("{id}: {err:#}"), remedy),
                }
            }
        }
    }
    messages
}
