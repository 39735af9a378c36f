//! `import schedules`: the list of scheduled campaigns that an older system kept as JSON.
//!
//! Nothing that was due before the import ever fires because of it: the ledger first sees each campaign now.

use std::fs;
use std::path::Path;

use anyhow::Result;
use chrono::{Datelike, TimeDelta};
use chrono_tz::Tz;
use serde_json::{Map, Value, json};

use super::super::campaign::replace;
use super::Context;
use crate::domain::campaign::is_id;
use crate::domain::instant::{self, Instant};
use crate::domain::state::CampaignStatus;
use crate::domain::subject::Subject;
use crate::failure::{Exit, Failure};
use crate::ledger::ImportedCampaign;
use crate::output::count;
use crate::settings::campaigns::{self, Definition};
use crate::source::file::text;

/// A list of campaigns is far smaller, in bytes.
const LARGEST_LIST: u64 = 64 << 20;

/// Keys that have a meaning here; all others are kept as notes.
const KNOWN: [&str; 13] = [
    "campaign_id",
    "schedule_time",
    "next_run",
    "recurrence",
    "frequency",
    "last_run",
    "total_runs",
    "status",
    "enabled",
    "subject",
    "template",
    "audience",
    "timezone",
];

/// One object of the list, understood.
struct Old {
    definition: Definition,
    state: ImportedCampaign,
    /// It was due before the import and did not run, as far as the file tells.
    overdue: Option<Instant>,
    /// What the file does not say and a definition needs.
    missing: Vec<&'static str>,
}

pub(super) fn run(context: &Context<'_>, file: &Path, zone: Tz) -> Result<Exit> {
    let settings = context.settings()?;
    let now = context.clock.now();
    let (_lock, mut ledger) = super::ledger_to_fill(context, &settings)?;
    let olds = read(file, zone, now)?;

    let target = settings.campaigns.file.clone().unwrap_or_else(|| settings.folder.join("campaigns.toml"));
    let mut text = match fs::read_to_string(&target) {
        Ok(text) => text,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(err) => {
            return Err(
                Failure::config(format!("could not read {}: {err}", target.display()), "make it readable").into()
            );
        }
    };
    let before = campaigns::parse(&target, &text, &settings.campaigns, Tz::UTC)?;
    let known = |id: &str| {
        before.campaigns.iter().any(|campaign| campaign.id == id)
            || before.broken.iter().any(|broken| broken.id.as_deref() == Some(id))
    };
    let (present, new): (Vec<&Old>, Vec<&Old>) = olds.iter().partition(|old| known(&old.state.campaign_id));
    for old in &new {
        if !text.is_empty() && !text.ends_with("\n\n") {
            text.push_str(if text.ends_with('\n') { "\n" } else { "\n\n" });
        }
        text.push_str(&campaigns::definition_toml(&old.definition)?);
    }
    let after = campaigns::parse(&target, &text, &settings.campaigns, Tz::UTC)?;
    if let Some(broken) = after.broken.iter().find(|broken| new.iter().any(|old| broken.id == old.definition.id)) {
        return Err(Failure::data(broken.problem.clone(), "correct it in the old list; nothing was imported").into());
    }
    // The ledger first: a definition that no ledger knows would be taken for a new campaign, with its state lost.
    let states: Vec<ImportedCampaign> = new
        .iter()
        .map(|old| {
            let campaign = after.campaigns.iter().find(|campaign| campaign.id == old.state.campaign_id);
            let next = campaign.and_then(|campaign| campaign.schedule.next_after(now - TimeDelta::seconds(1)));
            ImportedCampaign {
                next_run: next.filter(|_| old.state.enabled),
                schedule: campaign.map_or_else(String::new, |campaign| campaign.schedule.to_string()),
                ..old.state.clone()
            }
        })
        .collect();
    ledger.campaigns().import(&states, now)?;
    if !new.is_empty() {
        replace(&target, &text)?;
    }
    say(context, &target, &new, &present, &states);
    let needs_a_person = new.iter().any(|old| old.overdue.is_some() || !old.missing.is_empty());
    Ok(if needs_a_person { Exit::NeedsAPerson } else { Exit::Done })
}

fn say(context: &Context<'_>, target: &Path, new: &[&Old], present: &[&Old], states: &[ImportedCampaign]) {
    let output = context.output;
    let overdue: Vec<Value> = new
        .iter()
        .filter_map(|old| {
            old.overdue.map(|at| json!({ "campaign_id": old.state.campaign_id, "was_due": instant::text(at) }))
        })
        .collect();
    output.document(
        "import-schedules",
        &json!({
            "file": target,
            "imported": states.iter().map(|state| &state.campaign_id).collect::<Vec<_>>(),
            "already_defined": present.iter().map(|old| &old.state.campaign_id).collect::<Vec<_>>(),
            "overdue": overdue,
            "incomplete": new.iter().filter(|old| !old.missing.is_empty())
                .map(|old| json!({ "campaign_id": old.state.campaign_id, "missing": old.missing })).collect::<Vec<_>>(),
        }),
    );
    for (old, state) in new.iter().zip(states) {
        let next =
            state.next_run.map_or_else(|| "no run to come".to_owned(), |at| format!("next {}", instant::text(at)));
        output.print(format!("{}: {}, {next}", state.campaign_id, state.status));
        if let Some(at) = old.overdue {
            output.print(format!(
                "  was due {} and will not run by itself; send it by hand if it should still go out",
                instant::text(at)
            ));
        }
        if !old.missing.is_empty() {
            output.print(format!("  disabled until you add in {}: {}", target.display(), old.missing.join(", ")));
        }
    }
    for old in present {
        output.print(format!("{}: is defined already; left as it is", old.state.campaign_id));
    }
    output.print(format!("{} imported into {}", count(new.len() as u64, "campaign"), target.display()));
}

/// Reads the whole list, or refuses it whole.
fn read(file: &Path, zone: Tz, now: Instant) -> Result<Vec<Old>, Failure> {
    let refuse =
        |what: String| Failure::data(format!("{}: {what}", file.display()), "repair the file; nothing was imported");
    let text = fs::File::open(file).and_then(|file| text::whole(&file, LARGEST_LIST));
    let text = text.map_err(|err| refuse(err.to_string()))?;
    let list: Value = serde_json::from_str(&text)
        .map_err(|err| refuse(format!("line {}, column {}: {err}", err.line(), err.column())))?;
    // Flask systems kept a bare list, or one under a name.
    let list = match list {
        Value::Array(list) => list,
        Value::Object(map) => {
            match map.into_iter().find_map(|(_, value)| if let Value::Array(list) = value { Some(list) } else { None })
            {
                Some(list) => list,
                None => return Err(refuse("holds no list of campaigns".into())),
            }
        }
        _ => return Err(refuse("holds no list of campaigns".into())),
    };
    let mut olds: Vec<Old> = Vec::new();
    for (number, entry) in list.into_iter().enumerate() {
        let place = format!("entry {}", number + 1);
        let Value::Object(entry) = entry else { return Err(refuse(format!("{place}: is no object"))) };
        let old = understand(entry, zone, now).map_err(|problem| refuse(format!("{place}: {problem}")))?;
        if olds.iter().any(|other| other.state.campaign_id == old.state.campaign_id) {
            return Err(refuse(format!("{place}: campaign_id {:?} is there twice", old.state.campaign_id)));
        }
        olds.push(old);
    }
    Ok(olds)
}

fn understand(entry: Map<String, Value>, default_zone: Tz, now: Instant) -> Result<Old, String> {
    let text = |key: &str| match entry.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(format!("{key}: {other} is no text")),
    };
    let id = text("campaign_id")?.ok_or("campaign_id: is missing")?;
    if !is_id(&id) {
        return Err(format!("campaign_id: {id:?} is not 1 to 64 letters, digits, dots, underscores or hyphens"));
    }
    let zone: Tz = match text("timezone")? {
        Some(name) => name.parse().map_err(|_| format!("timezone: {name:?} is no IANA zone"))?,
        None => default_zone,
    };
    let time = |key: &str| -> Result<Option<Instant>, String> {
        let Some(text) = text(key)?.filter(|text| !instant::is_absent(text)) else { return Ok(None) };
        instant::parse(&text, zone).map(Some).ok_or_else(|| format!("{key}: {text:?} is no time"))
    };
    let due = match time("next_run")? {
        Some(at) => Some(at),
        None => time("schedule_time")?,
    };
    let scheduled = time("schedule_time")?.or(due).ok_or("schedule_time: is missing, and next_run too")?;
    let last_run = time("last_run")?;
    let total_runs = match entry.get("total_runs") {
        None | Some(Value::Null) => 0,
        Some(value) => value
            .as_u64()
            .or_else(|| value.as_str()?.trim().parse().ok())
            .ok_or_else(|| format!("total_runs: {value} is no number"))?,
    };
    let enabled = match entry.get("enabled") {
        None | Some(Value::Null | Value::Bool(true)) => true,
        Some(Value::Bool(false)) => false,
        Some(Value::Number(number)) if number.as_u64() == Some(1) => true,
        Some(Value::Number(number)) if number.as_u64() == Some(0) => false,
        Some(other) => return Err(format!("enabled: {other} is neither true nor false")),
    };
    let recurrence = text("recurrence")?.or(text("frequency")?).unwrap_or_else(|| "once".into()).to_ascii_lowercase();
    let wall = scheduled.with_timezone(&zone);
    let mut definition = Definition {
        id: Some(id.clone()),
        subject: text("subject")?.as_deref().map(Subject::from),
        template: text("template")?,
        audience: text("audience")?,
        timezone: Some(zone.to_string()),
        ..Definition::default()
    };
    let at_time = Some(wall.format("%H:%M").to_string());
    match recurrence.as_str() {
        "once" | "none" | "one-time" | "one_time" | "onetime" | "no" => {
            definition.at = Some(due.unwrap_or(scheduled).with_timezone(&zone).format("%Y-%m-%d %H:%M:%S").to_string());
        }
        "daily" | "day" => (definition.every, definition.time) = (Some("day".into()), at_time),
        "weekly" | "week" => {
            let day = wall.format("%A").to_string().to_ascii_lowercase();
            (definition.every, definition.on, definition.time) = (Some("week".into()), Some(day), at_time);
        }
        "monthly" | "month" => {
            (definition.every, definition.on, definition.time) =
                (Some("month".into()), Some(wall.day().to_string()), at_time);
        }
        other if other.split_whitespace().count() == 5 => definition.cron = Some(other.to_owned()),
        other => return Err(format!("recurrence: {other:?} is not once, daily, weekly, monthly or a cron expression")),
    }
    let one_off = definition.at.is_some();
    let old_status = text("status")?.unwrap_or_else(|| "pending".into()).to_ascii_lowercase();
    let status = match old_status.as_str() {
        "cancelled" | "canceled" => CampaignStatus::Cancelled,
        "completed" | "complete" | "done" | "sent" | "finished" if one_off => CampaignStatus::Completed,
        "paused" | "disabled" | "inactive" => CampaignStatus::Paused,
        _ if !enabled => CampaignStatus::Paused,
        _ => CampaignStatus::Pending,
    };
    let mut missing = Vec::new();
    if definition.subject.is_none() {
        missing.push("subject");
        definition.subject = Some("(no subject yet)".into());
    }
    for (key, value, stand_in) in [
        ("template", &mut definition.template, format!("templates/{id}.html")),
        ("audience", &mut definition.audience, format!("{id}.csv")),
    ] {
        if value.is_none() {
            missing.push(key);
            *value = Some(stand_in);
        }
    }
    if !missing.is_empty() {
        definition.enabled = Some(false);
    }
    let notes: Map<String, Value> =
        entry.iter().filter(|(key, _)| !KNOWN.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect();
    let overdue =
        due.filter(|at| *at < now && status == CampaignStatus::Pending && last_run.is_none_or(|last| last < *at));
    Ok(Old {
        state: ImportedCampaign {
            campaign_id: id,
            last_run,
            total_runs,
            status: status.to_owned(),
            // A one-off that is done never opens again, whatever its definition says later.
            enabled: !(one_off && (status == CampaignStatus::Completed || last_run.is_some())),
            notes: (!notes.is_empty()).then(|| Value::Object(notes).to_string()),
            next_run: None,
            schedule: String::new(),
        },
        definition,
        overdue,
        missing,
    })
}
