//! `init`: what is missing of configuration, templates and ledger. Nothing is overwritten.

mod shop;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::Context;
use super::unsubscribe::make_missing_keys;
use crate::cli;
use crate::failure::{Exit, Failure};
use crate::ledger::{Kind, Ledger, Records};
use crate::mail::template::{BUILT_IN_CART, built_in_later};
use crate::output::count;
use crate::run_lock::{Found, RunLock};
use crate::settings::Settings;
use crate::shops;

const STARTER: &str = include_str!("mailonce.toml");
/// The ledger's place in it.
const LEDGER: &str = "ledger = \"mailonce.db\"";

pub fn run(context: &Context<'_>, args: &cli::Init) -> Result<Exit> {
    let kind = if args.rehearsal { Kind::Rehearsal } else { Kind::Live };
    if kind == Kind::Live && context.clock.is_frozen() {
        return Err(Failure::usage(
            "--now is for rehearsals: a live ledger is born when it is made",
            "leave --now out, or add --rehearsal",
        )
        .into());
    }
    let config = config_path(context);
    let mut made = Vec::new();
    let shop = args.shop.as_deref().and_then(|name| shops::find(name).ok());
    let starter = shop.map_or_else(|| STARTER.to_owned(), shop::starter);
    let starter = match kind {
        // A rehearsal ledger would refuse a server that is not on this machine.
        Kind::Rehearsal => starter.replace("\ntransport = \"smtp\"", "\ntransport = \"file\""),
        Kind::Live => starter,
    };
    let starter = match &args.ledger {
        Some(ledger) => {
            starter.replacen(LEDGER, &format!("ledger = {}", toml::Value::from(ledger.to_string_lossy().as_ref())), 1)
        }
        None => starter,
    };
    let fresh_config = write_missing(&config, &starter, 0o644)?;
    if fresh_config {
        made.push(config.clone());
        // The configuration names it, so it must be there. Empty, it is no one's password.
        let password = config.with_file_name(shop::PASSWORD_FILE);
        if shop.is_some() && write_missing(&password, "", 0o600)? {
            made.push(password);
        }
    }
    // Only before the first mail: later, new keys in the place of lost ones would make every link worthless that is out.
    let keyless = Settings::read_without_secrets(Some(&config))?;
    let wants_keys = fresh_config || keyless.mail.signs_links() || keyless.unsubscribe.spool.is_some();
    let is_first = fresh_config || !Ledger::exists(&keyless.ledger);
    if wants_keys && is_first && make_missing_keys(&keyless.unsubscribe.keys_file)? {
        made.push(keyless.unsubscribe.keys_file);
    }
    let settings = Settings::read(Some(&config))?;
    if let Some(wanted) = &args.ledger
        && settings.folder.join(wanted) != settings.ledger
    {
        let what = format!("{} is there, and names the ledger {}", config.display(), settings.ledger.display());
        return Err(Failure::config(what, "correct its line `ledger`, or leave --ledger out").into());
    }
    let grants = shop.map(|shop| shop::grants(&settings, shop, &config)).transpose()?.unwrap_or_default();
    let template = settings.detect.template.clone();
    if let Some(template) = &template
        && write_missing(template, BUILT_IN_CART, 0o644)?
    {
        made.push(template.clone());
    }
    for (path, text) in templates_of_steps(&settings, fresh_config) {
        if write_missing(&path, &text, 0o644)? {
            made.push(path);
        }
    }
    if Ledger::exists(&settings.ledger) {
        // Such as the log of an older system, put there before the configuration was made: that is the way on.
        let found = Records::open(settings.place()).map_err(|failure| match made.is_empty() {
            true => failure,
            false => {
                let made: Vec<String> = made.iter().map(|path| path.display().to_string()).collect();
                failure.kept(format!("made {}", made.join(", ")))
            }
        })?;
        let found = found.kind();
        if found != kind {
            return Err(Failure::config(
                format!("{} is a {} ledger already, permanently", settings.ledger.display(), found.word()),
                "name another ledger in the configuration, or leave --rehearsal as it was",
            )
            .into());
        }
    } else {
        make_ledger(context, &settings, kind, "init")?;
        made.push(settings.ledger.clone());
    }
    context.output.document(
        "init",
        &json!({
            "config": config, "ledger": settings.ledger, "kind": kind.word(), "made": made, "grants": grants,
        }),
    );
    for path in &made {
        context.output.print(format!("made {}", path.display()));
    }
    if made.is_empty() {
        context.output.print(format!(
            "nothing to do: {} and the {} ledger {} are there",
            config.display(),
            kind.word(),
            settings.ledger.display()
        ));
    }
    if !grants.is_empty() {
        context.output.print("\nto be run on the shop's database, by someone who may grant:");
        grants.iter().for_each(|grant| context.output.print(grant));
        context.output.print("");
    }
    let (config, dry_run) =
        (config.display(), "`mailonce detect --dry-run` shows who would get what, and why the others would not");
    let next = match (fresh_config, shop) {
        (true, None) => format!("next: edit {config} (shop, source, mail), then `mailonce detect --dry-run`"),
        (true, Some(_)) => format!(
            "next: write the password into {}, edit {config} (shop, source, mail), run `mailonce init` with the same \
             options again for the rights under the names that you wrote, and then `mailonce doctor` and `mailonce source carts`",
            shop::PASSWORD_FILE
        ),
        (false, None) => format!("next: {dry_run}"),
        (false, Some(_)) => format!("next: `mailonce source carts` shows what is read; {dry_run}"),
    };
    context.output.print(next);
    Ok(Exit::Done)
}

/// The built-in templates of later steps, beside the first one's: all of them with a new configuration, which offers them as
/// comments; else those that it names.
fn templates_of_steps(settings: &Settings, all: bool) -> Vec<(PathBuf, String)> {
    let Some(first) = &settings.detect.template else { return Vec::new() };
    let is_named = |path: &PathBuf| settings.detect.steps.iter().any(|step| step.template.as_ref() == Some(path));
    let beside = built_in_later().into_iter().map(|(name, text)| (first.with_file_name(name), text));
    beside.filter(|(path, _)| all || is_named(path)).collect()
}

/// A lock file that remembers a ledger's runs means that the ledger was lost: a new one would mail everyone again.
pub(super) fn refuse_if_remembered(remembered: Option<Found>, ledger: &Path) -> Result<(), Failure> {
    if let Some(Found::Record(record)) = remembered
        && record.epoch > 0
    {
        return Err(Failure::ledger(
            format!(
                "{} is gone, but its lock file remembers {} of it",
                ledger.display(),
                count(record.epoch.unsigned_abs(), "run")
            ),
            format!(
                "put the ledger back, or restore a backup; only if everyone may be mailed anew, remove {} and run `mailonce init` again",
                RunLock::path_for(ledger).display()
            ),
        ));
    }
    Ok(())
}

fn config_path(context: &Context<'_>) -> PathBuf {
    context.global.config.clone().unwrap_or_else(|| PathBuf::from("mailonce.toml"))
}

/// Writes a file that is not there yet; says whether it did.
fn write_missing(path: &Path, text: &str, mode: u32) -> Result<bool, Failure> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|err| cannot_make(folder, &err))?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true).map_err(|err| cannot_make(path, &err)),
        Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(err) => Err(cannot_make(path, &err)),
    }
}

fn cannot_make(path: &Path, err: &std::io::Error) -> Failure {
    Failure::ledger(
        format!("could not make {}: {err}", path.display()),
        "run it where you may write, on a disk with space left",
    )
}

/// Makes the ledger where there is none, and its lock file, which remembers it.
///
/// # Errors
/// Exit 74 when the lock file remembers another ledger: a new one would mail everyone again.
pub(super) fn make_ledger(
    context: &Context<'_>,
    settings: &Settings,
    kind: Kind,
    command: &str,
) -> Result<(RunLock, Ledger)> {
    if let Some(folder) = settings.ledger.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|err| cannot_make(folder, &err))?;
    }
    // Before the lock file is made there.
    settings.place().check_new()?;
    let lock = RunLock::take(&settings.ledger, command, context.global.wait.unwrap_or_default())?;
    refuse_if_remembered(Some(lock.record()?), &settings.ledger)?;
    let ledger = Ledger::create(settings.place(), kind, context.clock.now(), settings.detect.window)?;
    lock.write_record(&ledger.record_of(0, None, 0), true)?;
    Ok((lock, ledger))
}
