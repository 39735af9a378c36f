//! `campaign`: look at campaigns, and steer them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::Result;
use chrono::TimeDelta;
use chrono_tz::Tz;
use comfy_table::{Table, presets::NOTHING};
use serde_json::json;

use super::run_campaigns::definitions;
use super::run_campaigns::missed::which;
use super::run_campaigns::opening::due_meanwhile;
use super::{Context, trial};
use crate::cli;
use crate::domain::address::Address;
use crate::domain::campaign::Campaign;
use crate::domain::instant::{self, Instant};
use crate::domain::recurrence::Recurrence;
use crate::domain::span;
use crate::domain::state::{CampaignStatus, Retried, State};
use crate::failure::{Exit, Failure};
use crate::ledger::{CampaignState, Ledger, Missed, OccurrenceRow, OpenOccurrence, Records, Retemplated};
use crate::letters::campaign::{CampaignLetters, MOST_TRIED, TrialRow, read_row};
use crate::output::{count, inert, note_lost};
use crate::progress;
use crate::settings::Settings;
use crate::settings::campaigns::{self, Definition, Definitions};

/// So many occurrences are listed, the newest.
const OCCURRENCES_SHOWN: u64 = 200;

pub fn run(context: &Context<'_>, args: &cli::Campaign) -> Result<Exit> {
    let settings = context.settings()?;
    match args {
        cli::Campaign::List => list(context, &settings),
        cli::Campaign::Show { id, occurrence, csv } => show(context, &settings, id, *occurrence, *csv),
        cli::Campaign::Add(add) => self::add(context, &settings, add),
        cli::Campaign::Test { id, to } => {
            let definitions = definitions(&settings)?;
            let Some(campaign) = definitions.campaigns.iter().find(|campaign| campaign.id == *id) else {
                return Err(unknown(id, &definitions).into());
            };
            trial::send_campaign(context, &settings, campaign, to)
        }
        cli::Campaign::Pause { id } => steer(context, &settings, id, |ledger| {
            Ok(match ledger.campaigns().pause(id)? {
                true => {
                    format!("{id} is paused: nothing opens and nothing is sent until `mailonce campaign resume {id}`")
                }
                false => format!("{id} was not pending or running; nothing was changed"),
            })
        }),
        cli::Campaign::Resume { id } => steer(context, &settings, id, |ledger| resume(context, &settings, ledger, id)),
        cli::Campaign::Cancel { id } => steer(context, &settings, id, |ledger| {
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
        cli::Campaign::Remove { id } => remove(context, &settings, id),
        cli::Campaign::Retry { id, state, occurrence, template } => {
            let template = template.as_ref().map(|file| file.as_deref());
            retry(context, &settings, id, state, *occurrence, template)
        }
    }
}

/// What is known of one campaign, from its definition and from the ledger.
struct Known<'a> {
    definition: Option<&'a Campaign>,
    state: Option<CampaignState>,
}

impl Known<'_> {
    /// What the status is now: a running campaign with nothing left is pending or completed.
    fn status(&self, current: Option<&OccurrenceRow>) -> String {
        let Some(state) = &self.state else { return "not seen yet".into() };
        if state.status != CampaignStatus::Running {
            return state.status.word().into();
        }
        let open = current.is_some_and(|row| row.messages.keys().any(|state| state == "planned" || state == "armed"));
        match (open, self.next()) {
            (true, _) => "running".into(),
            (false, _) if state.cancelled_at.is_some() => "cancelled".into(),
            (false, Some(_)) => "pending".into(),
            (false, None) => "completed".into(),
        }
    }

    fn next(&self) -> Option<Instant> {
        let state = self.state.as_ref()?;
        let live = state.enabled
            && state.cancelled_at.is_none()
            && !matches!(state.status, CampaignStatus::Paused | CampaignStatus::Cancelled);
        state.next_run.filter(|_| live).map(|at| at.0)
    }
}

fn list(context: &Context<'_>, settings: &Settings) -> Result<Exit> {
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
            known.status(current),
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
    context.output.document(&json!({ "campaigns": documents, "broken": broken }));
    match all.is_empty() {
        true => context.output.print("no campaigns are defined"),
        false => context.output.print(table.trim_fmt()),
    }
    for broken in &definitions.broken {
        context.output.print(format!("broken: {}", broken.problem));
    }
    Ok(Exit::Done)
}

fn show(context: &Context<'_>, settings: &Settings, id: &str, occurrence: Option<Instant>, csv: bool) -> Result<Exit> {
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
    context.output.document(&json!({
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
                let books =
                    if sum == recipients { String::new() } else { format!("  BOOKS DO NOT BALANCE: {sum} messages") };
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
    id: &str,
    change: impl FnOnce(&mut Ledger) -> Result<String, Failure>,
) -> Result<Exit> {
    let mut ledger = context.ledger(settings)?;
    see_if_new(context, settings, &mut ledger, id)?;
    let line = change(&mut ledger)?;
    let state = ledger.campaign(id)?;
    context.output.document(&json!({ "campaign": state, "message": line }));
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
        line.push_str(&format!("; {} not sent: their time has passed", count(resumed.expired, "planned message")));
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

/// A corrected template for an opened occurrence: that of a file, or template and subject as the definition has them now.
///
/// # Errors
/// Exit 2: there is no definition to take it from. Exit 78: it cannot be read, or not be rendered for one of the messages
/// that it is for. Nothing was changed.
fn corrected(
    settings: &Settings,
    ledger: &Records,
    defined: Option<&Campaign>,
    occurrence: i64,
    file: Option<&Path>,
    states: &[Retried],
) -> Result<OpenOccurrence> {
    let mut corrected = ledger.open_occurrence_by_id(occurrence)?;
    let path = match (file, defined) {
        (Some(file), _) => file,
        (None, Some(campaign)) => {
            corrected.subject.clone_from(&campaign.subject);
            &campaign.template
        }
        (None, None) => {
            let what = format!("campaign {} has no definition to take the template from", corrected.campaign_id);
            return Err(Failure::usage(what, "name a file: `--template FILE`; nothing was changed").into());
        }
    };
    corrected.template_name = path.display().to_string();
    corrected.template = fs::read_to_string(path).map_err(|err| {
        let what = format!("the template {} cannot be read: {err}", path.display());
        Failure::config(what, "put it there").kept("nothing was changed")
    })?;
    let letters = CampaignLetters::of(&corrected, settings)?;
    let retried: Vec<_> = states.iter().map(|which| which.stand()).collect();
    for which in [retried.as_slice(), &[(State::Planned, None)]] {
        let mut rows = Vec::new();
        for (at, (recipient, values)) in ledger.rows_that_stand(occurrence, which, MOST_TRIED)?.into_iter().enumerate()
        {
            let place = format!("recipient {} of those it is for", at + 1);
            let address = Address::parse(&recipient).map_err(anyhow::Error::from)?;
            let values = read_row(&values).map_err(anyhow::Error::msg)?;
            rows.push(TrialRow { place, address, values });
        }
        letters.try_on(&rows).map_err(|failure| failure.kept("nothing was changed"))?;
    }
    Ok(corrected)
}

fn retry(
    context: &Context<'_>,
    settings: &Settings,
    id: &str,
    states: &[Retried],
    occurrence: Option<Instant>,
    template: Option<Option<&Path>>,
) -> Result<Exit> {
    let (_lock, mut ledger) = context.lock_and_ledger(settings, "campaign retry")?;
    let definitions = definitions(settings)?;
    if ledger.campaign(id)?.is_none() {
        return Err(unknown(id, &definitions).into());
    }
    let Some(row) = chosen(&ledger, id, occurrence)? else {
        return Err(Failure::usage(format!("campaign {id} has not opened yet"), "there is nothing to retry").into());
    };
    let defined = definitions.campaigns.iter().find(|campaign| campaign.id == id);
    let send_until = defined.map_or(settings.campaigns.send_until, |campaign| campaign.send_until);
    let now = context.clock.now();
    let expires_at = now + span::delta(send_until);
    let mut written_with = None;
    if let Some(file) = template {
        let corrected = corrected(settings, &ledger, defined, row.id, file, states)?;
        let waiting = row.messages.get("planned").copied().unwrap_or(0);
        ledger.campaigns().retemplate(
            row.id,
            Retemplated {
                subject: &corrected.subject,
                template: &corrected.template,
                template_name: &corrected.template_name,
            },
        )?;
        context.output.print(format!(
            "{} is written with {} from now on{}",
            row.planned_at,
            corrected.template_name,
            if waiting > 0 { format!(", also {} of it", count(waiting, "planned message")) } else { String::new() }
        ));
        written_with = Some(corrected.template_name);
    }
    let progress = progress::bar("planning", None, context.output.json);
    let planned = ledger.campaigns().retry(row.id, states, expires_at, now, &mut |messages| progress.inc(messages))?;
    progress.finish_and_clear();
    let held_back = ledger.count_held_back(row.id)?;
    context.output.document(
        &json!({ "campaign_id": id, "occurrence": row.planned_at, "planned": planned, "held_back": held_back, "template": written_with }),
    );
    context.output.print(format!(
        "{} of {} planned anew; `mailonce run-campaigns` sends them",
        count(planned, "message"),
        row.planned_at
    ));
    if held_back > 0 {
        context.output.print(format!(
            "{} held back when an old copy of the ledger was put back, left alone: each may have gone out already",
            count(held_back, "message")
        ));
    }
    Ok(Exit::Done)
}

fn add(context: &Context<'_>, settings: &Settings, args: &cli::CampaignAdd) -> Result<Exit> {
    let file = settings.campaigns.file.clone().unwrap_or_else(|| settings.folder.join("campaigns.toml"));
    let definition = Definition {
        id: Some(args.id.clone()),
        subject: Some(args.subject.clone()),
        template: Some(args.template.clone()),
        audience: args.audience.clone(),
        sql: args.sql.clone(),
        at: args.at.clone(),
        cron: args.cron.clone(),
        every: args.every.clone(),
        on: args.on.clone(),
        time: args.time.clone(),
        timezone: args.timezone.clone(),
        ..Definition::default()
    };
    let block = campaigns::definition_toml(&definition)?;
    let before = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(err) => {
            return Err(Failure::config(format!("could not read {}: {err}", file.display()), "make it readable").into());
        }
    };
    // Checked as it would be read, before anything is written.
    let gap = if before.is_empty() || before.ends_with("\n\n") {
        ""
    } else if before.ends_with('\n') {
        "\n"
    } else {
        "\n\n"
    };
    let after = format!("{before}{gap}{block}");
    let definitions = campaigns::parse(&file, &after, &settings.campaigns, Tz::UTC)?;
    if let Some(broken) = definitions.broken.iter().find(|broken| broken.id.as_deref() == Some(args.id.as_str())) {
        return Err(Failure::usage(broken.problem.clone(), "correct the flag; nothing was written").into());
    }
    let Some(campaign) = definitions.campaigns.iter().find(|campaign| campaign.id == args.id) else {
        return Err(Failure::usage(
            format!("{:?} cannot be the id of a campaign", args.id),
            "use letters, digits, . _ and -; nothing was written",
        )
        .into());
    };
    if !campaign.template.is_file() {
        return Err(Failure::usage(
            format!("there is no template {}", campaign.template.display()),
            "write it first; nothing was written",
        )
        .into());
    }
    let mut ledger = context.ledger(settings)?;
    if let Some(known) = ledger.campaign(&args.id)? {
        return Err(Failure::usage(
            format!("the ledger knows a campaign {} already; it is {}", args.id, known.status),
            "choose another id, or put the old definition back; nothing was written",
        )
        .into());
    }
    let first = campaign.schedule.next_after(context.clock.now() - TimeDelta::seconds(1));
    let Some(first) = first else {
        return Err(Failure::usage(
            format!("campaign {} would never run: its time has passed", args.id),
            "name a time to come; nothing was written",
        )
        .into());
    };
    // An audience may come later, and what is wrong with it is no reason to forget the definition; a template that fails is.
    let not_ready = match trial::sample(settings, &ledger, campaign, first, context) {
        Ok(_) => None,
        Err(err) => match err.downcast::<Failure>() {
            Ok(failure) if failure.exit == Exit::NeedsAPerson => Some(failure.what),
            Ok(failure) => return Err(failure.kept("nothing was written").into()),
            Err(err) => return Err(err),
        },
    };
    replace(&file, &after)?;
    see(context, &mut ledger, campaign)?;
    context.output.document(
        &json!({ "campaign_id": args.id, "file": file, "first_run": instant::text(first), "not_ready": not_ready }),
    );
    context.output.print(format!(
        "added {} to {}; it runs first at {} ({})",
        args.id,
        file.display(),
        campaign.local(first),
        instant::text(first)
    ));
    if let Some(why) = not_ready {
        context.output.print(format!("not ready yet: {why}; `mailonce run-campaigns --dry-run` looks again"));
    }
    Ok(Exit::Done)
}

/// Takes a definition out of the file, with the comment above it. What is planned of it is decided about before.
fn remove(context: &Context<'_>, settings: &Settings, id: &str) -> Result<Exit> {
    let file = settings.campaigns.file.clone().unwrap_or_else(|| settings.folder.join("campaigns.toml"));
    let unreadable = |problem: &dyn std::fmt::Display| {
        let what = format!("could not read {}: {problem}", file.display());
        Failure::config(what, "correct it, or take the definition out by hand").kept("nothing was written")
    };
    let text = fs::read_to_string(&file).map_err(|err| unreadable(&err))?;
    let mut document: toml_edit::DocumentMut = text.parse().map_err(|err: toml_edit::TomlError| unreadable(&err))?;
    let defined = document.get_mut("campaign").and_then(|all| all.as_array_of_tables_mut());
    let is_it = |table: &toml_edit::Table| table.get("id").and_then(|found| found.as_str()) == Some(id);
    let found = defined.and_then(|all| {
        let at = all.iter().position(is_it)?;
        Some((all, at))
    });
    let Some((all, at)) = found else {
        return Err(unknown(id, &definitions(settings)?).into());
    };
    let mut ledger = context.ledger(settings)?;
    let planned = ledger.opened_occurrence(id, None)?.and_then(|row| row.messages.get("planned").copied()).unwrap_or(0);
    if planned > 0 {
        let what = format!("campaign {id} has {} to send", count(planned, "planned message"));
        let next = format!("wait until they are sent, or `mailonce campaign cancel {id}` first");
        return Err(Failure::usage(what, next).kept("nothing was written").into());
    }
    all.remove(at);
    // Cancelled before: a run that finds it gone would take that for a mistake, and say so.
    if ledger.campaign(id)?.is_some() {
        ledger.campaigns().cancel(id, context.clock.now(), &mut |_| {})?;
    }
    replace(&file, &document.to_string())?;
    context.output.document(&json!({ "campaign_id": id, "file": file }));
    context.output.print(format!(
        "removed {id} from {}; what it sent stays in the ledger, and its id stays taken",
        file.display()
    ));
    Ok(Exit::Done)
}

/// Replaces a file by way of a temporary one beside it: never half of it is seen. A symbolic link stays one, and what it
/// leads to is replaced; mode and owner stay, as far as this user may set them.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        let path = led_to(path)?;
        let before = fs::metadata(&path).ok();
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let temporary = PathBuf::from(name);
        let mut file = fs::File::create(&temporary)?;
        if let Some(before) = before {
            // Before the mode: a change of owner takes bits of it away.
            let _ = fchown(&file, Some(before.uid()), Some(before.gid()));
            file.set_permissions(before.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    write().map_err(|err| {
        Failure::ledger(format!("could not write {}: {err}", path.display()), "make its folder writable")
    })
}

/// Where a path leads, through symbolic links, also when nothing is there yet.
fn led_to(path: &Path) -> std::io::Result<PathBuf> {
    let mut path = path.to_owned();
    // As many as the kernel follows.
    for _ in 0..40 {
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
            return Ok(path);
        }
        let target = fs::read_link(&path)?;
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    Err(std::io::Error::other("too many symbolic links"))
}
