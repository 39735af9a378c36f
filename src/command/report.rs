//! `report`: a page about what the mail did, and what needs a person.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use chrono::TimeDelta;

use super::Context;
use crate::cli;
use crate::domain::instant::{self, Instant};
use crate::failure::{Exit, Failure};
use crate::ledger::{Period, Records};
use crate::output::note_lost;
use crate::report::page::{Asked, MARK, Names, Page};
use crate::settings::{Settings, TransportSettings};
use crate::whole_file::{self, Lasting, folder_of};

/// Its owner writes it, a group may read it: it says who buys what, if only in part.
const MODE: u32 = 0o640;
const STDOUT: &str = "-";

pub fn run(context: &Context<'_>, args: &cli::Report) -> Result<Exit> {
    let settings = context.settings_without_secrets()?;
    let now = context.clock.now();
    let period = period(args, now)?;
    let target = target(context, args, &settings)?;
    let ledger = Records::open(settings.place())?;
    if let Some(id) = &period.campaign
        && ledger.campaign(id)?.is_none()
    {
        let next = "`mailonce campaign list` names them; one that no run has seen yet is in no ledger";
        return Err(Failure::usage(format!("the ledger knows no campaign {id:?}"), next).into());
    }
    let asked = Asked {
        period,
        names: if args.names { Names::Shown } else { Names::Masked },
        shop: &settings.shop.name,
        to_files: matches!(settings.transport, TransportSettings::File { .. }),
        steps: settings.detect.steps.iter().map(|step| step.step.name.as_str()).collect(),
        pools: &settings.pools,
    };
    let page = Page::read(&ledger, &asked, now)?;
    // No snapshot is held while a disk is waited for.
    drop(ledger);
    match &target {
        Some(Target::Stdout) => note_lost(io::stdout().write_all(page.html()?.as_bytes())),
        Some(Target::File(path)) => write(path, &page.html()?)?,
        None => {}
    }
    context.output.document("report", &page);
    if args.text || (target.is_none() && !context.output.json) {
        for line in page.lines() {
            context.output.print(line);
        }
    } else if !page.now.well && !context.output.json {
        let run = page.now.run.map_or_else(String::new, |run| format!(" Run: {run}"));
        context.output.alarm(format!("{}{run}", page.now.line));
    }
    Ok(if page.now.well { Exit::Done } else { Exit::NeedsAPerson })
}

/// Which messages are shown: `--days` are whole days of UTC, today the last of them. Of the future there is nothing to show.
fn period(args: &cli::Report, now: Instant) -> Result<Period, Failure> {
    let until = args.until.map_or(now, |until| until.from(now).min(now));
    let today = until.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
    let first_day = today.checked_sub_signed(TimeDelta::days(i64::from(args.days) - 1)).unwrap_or(Instant::MIN_UTC);
    let since = args.since.map_or(first_day, |since| since.from(now));
    if since > until {
        let end = if until == now { "now," } else { "--until" };
        return Err(Failure::usage(
            format!("--since {} is after {end} {}", instant::text(since), instant::text(until)),
            "give a --since that comes before",
        ));
    }
    Ok(Period { since, until, campaign: args.campaign.clone() })
}

/// Where the page goes.
enum Target {
    Stdout,
    File(PathBuf),
}

/// Looked at before the ledger is, so that a slip costs no minute.
fn target(context: &Context<'_>, args: &cli::Report, settings: &Settings) -> Result<Option<Target>, Failure> {
    let Some(path) = &args.html else { return Ok(None) };
    if path.as_os_str() == STDOUT {
        return match args.text || context.output.json {
            true => Err(Failure::usage("stdout cannot hold two documents", "name a file for --html")),
            false => Ok(Some(Target::Stdout)),
        };
    }
    // Where a link leads is what is written.
    let path = whole_file::followed(path).map_err(|err| {
        let next = "make the file that it is to lead to (an empty one will do), or name another for --html";
        Failure {
            next: next.into(),
            ..unwritable(path, &io::Error::other(format!("it is a link that leads nowhere ({err})")))
        }
    })?;
    let refuse = |what: &str| {
        let next = "name another file for --html; only a page that mailonce wrote is written over";
        Err(Failure::usage(format!("{} {what}", path.display()), next).kept("it was not touched"))
    };
    if is_beside(&path, &settings.ledger) {
        return refuse("is named as a file of the ledger");
    }
    match fs::metadata(&path) {
        Ok(meta) if !meta.is_file() => refuse("is no regular file"),
        Ok(meta) if meta.len() > 0 && !is_a_page(&path) => refuse("is there, and is no page of mailonce"),
        _ => Ok(Some(Target::File(path))),
    }
}

/// Whether it is the ledger, or called as what SQLite and the lock keep beside it.
fn is_beside(path: &Path, ledger: &Path) -> bool {
    let folder = |path: &Path| fs::canonicalize(folder_of(path)).ok();
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let ledger = fs::canonicalize(ledger).unwrap_or_else(|_| ledger.to_owned());
    folder(path).is_some() && folder(path) == folder(&ledger) && name(path).starts_with(&name(&ledger))
}

fn is_a_page(path: &Path) -> bool {
    let mut begin = vec![0; MARK.len()];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut begin)).is_ok() && begin == MARK.as_bytes()
}

/// Puts the page in its place whole: who reads meanwhile has the old one or the new.
fn write(path: &Path, html: &str) -> Result<(), Failure> {
    whole_file::replace(path, html.as_bytes(), MODE, Lasting::Yes).map_err(|err| unwritable(path, &err))
}

/// # Errors
/// Exit 74. What was there stays as it was.
fn unwritable(path: &Path, err: &io::Error) -> Failure {
    Failure::ledger(
        format!("could not write the page {}: {err}", path.display()),
        "make room, or name a file in a folder that the user of the crontab may write to, then start the same command again",
    )
    .kept("a page that was there is as it was; nothing else was touched")
}
