//! `campaign list` and `campaign show`.

use std::collections::BTreeMap;

use anyhow::Result;
use comfy_table::{Table, presets::NOTHING};
use serde_json::json;

use super::super::Context;
use super::super::run_campaigns::definitions;
use super::{chosen, unknown};
use crate::domain::campaign::Campaign;
use crate::domain::instant::{self, Instant};
use crate::failure::Exit;
use crate::ledger::{CampaignState, OccurrenceRow, Records};
use crate::output::{count, inert, note_lost};
use crate::settings::Settings;

/// So many occurrences are listed, the newest.
const OCCURRENCES_SHOWN: u64 = 200;

/// What is known of one campaign, from its definition and from the ledger.
struct Known<'a> {
    definition: Option<&'a Campaign>,
    state: Option<CampaignState>,
}

impl Known<'_> {
    fn status(&self, current: Option<&OccurrenceRow>) -> &'static str {
        let is_open = |row: &OccurrenceRow| row.messages.keys().any(|state| state == "planned" || state == "armed");
        self.state.as_ref().map_or("not seen yet", |state| state.current_status(current.is_some_and(is_open)).word())
    }

    fn next(&self) -> Option<Instant> {
        self.state.as_ref()?.next_opening()
    }
}

pub(super) fn list(context: &Context<'_>, settings: &Settings) -> Result<Exit> {
    let definitions = definitions(settings)?;
    let ledger = Records::open(settings.place())?;
    let mut all: BTreeMap<String, Known<'_>> = BTreeMap::new();
    for definition in &definitions.campaigns {
        all.insert(definition.id.clone(), Known { definition: Some(definition), state: None });
    }
    for state in ledger.all_campaigns()? {
        let id = state.campaign_id.clone();
        all.entry(id).or_insert(Known { definition: None, state: None }).state = Some(state);
    }
    let mut documents = Vec::new();
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "campaign",
        "status",
        "zone",
        "next run",
        "last run",
        "runs",
        "current occurrence",
    ]);
    for (id, known) in &all {
        let current = ledger.opened_occurrence(id, None)?;
        let current = current.as_ref();
        let zone =
            known.definition.map_or_else(|| "not defined".to_owned(), |campaign| campaign.schedule.zone.to_string());
        let next = match (known.definition, known.next()) {
            (Some(campaign), Some(at)) => campaign.local(at),
            (_, at) => at.map_or_else(|| "-".to_owned(), instant::text),
        };
        let state = known.state.as_ref();
        let messages = current.map_or_else(|| "-".to_owned(), |row| phrase(&row.messages));
        let last = state.and_then(|state| state.last_run);
        let total_runs = state.map_or(0, |state| state.total_runs);
        table.add_row([
            id.clone(),
            known.status(current).to_owned(),
            zone.clone(),
            next.clone(),
            last.map_or_else(|| "-".into(), |at| at.to_string()),
            total_runs.to_string(),
            messages,
        ]);
        documents.push(json!({
            "campaign_id": id, "status": known.status(current), "zone": zone, "next_run": known.next().map(instant::text),
            "last_run": last, "total_runs": total_runs, "defined": known.definition.is_some(), "current": current,
            "schedule": state.map(|state| state.schedule.clone()), "notes": state.and_then(|state| state.notes.clone()),
        }));
    }
    let broken: Vec<_> = definitions
        .broken
        .iter()
        .map(|broken| json!({ "campaign_id": broken.id, "problem": broken.problem }))
        .collect();
    context.output.document("campaign-list", &json!({ "campaigns": documents, "broken": broken }));
    match all.is_empty() {
        true => context.output.print("no campaigns are defined"),
        false => context.output.print(table.trim_fmt()),
    }
    for broken in &definitions.broken {
        context.output.print(format!("broken: {}", broken.problem));
    }
    Ok(Exit::Done)
}

pub(super) fn show(
    context: &Context<'_>,
    settings: &Settings,
    id: &str,
    occurrence: Option<Instant>,
    csv: bool,
) -> Result<Exit> {
    let ledger = Records::open(settings.place())?;
    let definitions = definitions(settings)?;
    let Some(state) = ledger.campaign(id)? else {
        return Err(unknown(id, &definitions).into());
    };
    let occurrences = ledger.occurrences_of(id, OCCURRENCES_SHOWN)?;
    let shown = chosen(&ledger, id, occurrence)?;
    let shown = shown.as_ref();
    if csv {
        let mut writer = csv::Writer::from_writer(std::io::stdout());
        let mut written = writer.write_record(["recipient", "state", "reason", "armed_at", "settled_at", "last_reply"]);
        if let Some(shown) = shown {
            ledger.each_recipient(shown.id, |fate| {
                if written.is_ok() {
                    let (state, reason) = (fate.state.to_string(), fate.reason.map(|reason| reason.to_string()));
                    let fields = [Some(fate.recipient), Some(state), reason, fate.armed_at, fate.settled_at];
                    let fields = fields.into_iter().chain([fate.last_reply]).map(Option::unwrap_or_default);
                    written = writer.write_record(fields.map(|field| inert(&field).into_owned()));
                }
            })?;
        }
        note_lost(written.map_err(std::io::Error::from).and_then(|()| writer.flush()));
        return Ok(Exit::Done);
    }
    let mut recipients = Vec::new();
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["recipient", "state", "armed", "last reply"]);
    if let Some(shown) = shown {
        ledger.each_recipient(shown.id, |fate| {
            if context.output.json {
                recipients.push(fate);
                return;
            }
            let state =
                fate.reason.map_or_else(|| fate.state.to_string(), |reason| format!("{}: {reason}", fate.state));
            table.add_row([
                fate.recipient,
                state,
                fate.armed_at.unwrap_or_default(),
                fate.last_reply.unwrap_or_default(),
            ]);
        })?;
    }
    context.output.document("campaign-show", &json!({
        "campaign": state, "occurrences": occurrences, "shown": shown.map(|row| row.planned_at.clone()), "recipients": recipients,
    }));
    context.output.print(format!("{id}: {}, first seen {}", state.status, state.first_seen_at));
    if let Some(notes) = &state.notes {
        context.output.print(format!("notes: {notes}"));
    }
    for row in &occurrences {
        let what = match row.recipients {
            None => "not in time".to_owned(),
            Some(recipients) => {
                let sum: u64 = row.messages.values().sum();
                let books = match sum == recipients {
                    true => String::new(),
                    false => format!("  BOOKS DO NOT BALANCE: {}", count(sum, "message")),
                };
                format!("opened with {}: {}{books}", count(recipients, "recipient"), phrase(&row.messages))
            }
        };
        context.output.print(format!("  {}  {what}", row.planned_at));
    }
    if occurrences.len() as u64 == OCCURRENCES_SHOWN {
        context.output.print(format!(
            "  the newest {OCCURRENCES_SHOWN}; `--occurrence TIME` shows an older one, by the time it was planned for"
        ));
    }
    if let Some(shown) = shown {
        context.output.print(format!("recipients of {}:", shown.planned_at));
        context.output.print(table.trim_fmt());
    }
    Ok(Exit::Done)
}

/// `2 planned, 5 sent`.
fn phrase(messages: &BTreeMap<String, u64>) -> String {
    let parts: Vec<String> =
        messages.iter().map(|(state, number)| format!("{number} {}", state.replace('_', " "))).collect();
    if parts.is_empty() { "no messages".into() } else { parts.join(", ") }
}
