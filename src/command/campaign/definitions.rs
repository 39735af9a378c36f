//! `campaign add` and `campaign remove`: the definitions in the campaigns file.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::Result;
use chrono::TimeDelta;
use chrono_tz::Tz;
use serde_json::json;

use super::super::run_campaigns::definitions;
use super::super::{Context, trial};
use super::{see, unknown};
use crate::cli;
use crate::domain::instant;
use crate::failure::{Exit, Failure};
use crate::ledger::OccurrenceRow;
use crate::output::count;
use crate::settings::Settings;
use crate::settings::campaigns::{self, Definition};

pub(super) fn add(context: &Context<'_>, settings: &Settings, args: &cli::CampaignAdd) -> Result<Exit> {
    let file = settings.campaigns.file.clone().unwrap_or_else(|| settings.folder.join("campaigns.toml"));
    let definition = Definition {
        id: Some(args.id.clone()),
        subject: Some(args.subject.as_str().into()),
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
        "campaign-add",
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
pub(super) fn remove(context: &Context<'_>, settings: &Settings, id: &str) -> Result<Exit> {
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
    let open =
        |row: &OccurrenceRow| ["planned", "armed"].iter().filter_map(|state| row.messages.get(*state)).sum::<u64>();
    let open: u64 = ledger.occurrences_of(id, u64::from(u32::MAX))?.iter().map(open).sum();
    if open > 0 {
        let what = format!("campaign {id} has {} to send", count(open, "message"));
        let next = format!("wait until they are sent, or `mailonce campaign cancel {id}` first");
        return Err(Failure::usage(what, next).kept("nothing was written").into());
    }
    all.remove(at);
    replace(&file, &document.to_string())?;
    // Else the next run would take it for a mistake that it is gone, pause it and say so.
    if ledger.campaign(id)?.is_some() {
        ledger.campaigns().cancel(id, context.clock.now(), &mut |_| {})?;
    }
    context.output.document("campaign-remove", &json!({ "campaign_id": id, "file": file }));
    context.output.print(format!(
        "removed {id} from {}; what it sent stays in the ledger, and its id stays taken",
        file.display()
    ));
    Ok(Exit::Done)
}

/// Replaces a file by way of a temporary one beside it: never half of it is seen. A symbolic link stays one, and what it
/// leads to is replaced; mode and owner stay, as far as this user may set them.
pub(in crate::command) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
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
