//! `unsubscribe`: takes those off the list whose link was followed, and keeps the keys that sign the links. It takes no lock:
//! arming looks at the list again.

use std::fs::{self, Permissions};
use std::io::{BufRead, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::cli;
use crate::domain::state::Origin;
use crate::domain::unsubscribe::{Keys, NotGenuine, Token};
use crate::failure::{Exit, Failure};
use crate::ledger::Wish;
use crate::output::count;
use crate::settings::Settings;
use crate::wishes::{self, Taken};

/// Owner and group: the shop's page, in that group, may verify with them.
const KEYS_MODE: u32 = 0o640;

pub fn run(context: &Context<'_>, args: &cli::Unsubscribe) -> Result<Exit> {
    let settings = context.settings_without_secrets()?;
    match &args.command {
        Some(cli::UnsubscribeCommand::Rotate) => rotate(context, &settings),
        Some(cli::UnsubscribeCommand::Source { allow }) => read_source(context, *allow),
        None => take(context, &settings, &args.tokens),
    }
}

fn read_source(context: &Context<'_>, allow: Option<u64>) -> Result<Exit> {
    let settings = context.settings()?;
    if settings.unsubscribe.opt_outs.is_none() {
        let next = "set [unsubscribe] source to a query, or file to a list (docs/unsubscribe.md)";
        return Err(Failure::config("no list of opt-outs is configured", next).into());
    }
    let mut ledger = context.ledger(&settings)?;
    let heard = wishes::opt_outs::read(&settings, &mut ledger, allow, context.clock.now())?;
    for line in &heard.news {
        context.output.alarm(line);
    }
    context.output.document("unsubscribe-source", &json!({ "new": heard.new }));
    context.output.print(format!("{} new on the shop's own list", count(heard.new, "person")));
    Ok(Exit::Done)
}

/// The keys, which this command cannot do without.
fn keys_of(settings: &Settings) -> Result<Keys, Failure> {
    let file = &settings.unsubscribe.keys_file;
    settings.mail.keys.clone().ok_or_else(|| {
        Failure::config(
            format!("the keys that sign unsubscribe links cannot be read: {}", file.display()),
            "start the command as a user who may read them; where there never were any, `mailonce unsubscribe rotate` makes some",
        )
    })
}

fn take(context: &Context<'_>, settings: &Settings, given: &[String]) -> Result<Exit> {
    let keys = keys_of(settings)?;
    let tokens = genuine(&keys, &given_or_read(given)?)?;
    let mut ledger = context.ledger(settings)?;
    let taken = wishes::take(&mut ledger, &tokens, Origin::OneClick, settings.unsubscribe.scope, context.clock.now())?;
    let mut documents = Vec::new();
    let mut unknown = 0;
    for wish in &taken {
        match wish {
            Taken::Wish(Wish::Heard { address, list, is_new }) => {
                documents.push(json!({ "address": address, "list": list, "new": is_new, "test": false }));
                let what = if list.is_empty() {
                    "no more mail".to_owned()
                } else {
                    format!("no more mail of the list {list}")
                };
                let already = if *is_new { "" } else { " (already so)" };
                context.output.print(format!("{address}: {what}{already}"));
            }
            Taken::Wish(Wish::Unknown) => {
                unknown += 1;
                documents.push(json!({ "address": null, "list": null, "new": false, "test": false }));
            }
            Taken::Test => {
                documents.push(json!({ "address": null, "list": null, "new": false, "test": true }));
                context.output.print("the link of a test or a preview: it works, and nobody is taken off the list");
            }
        }
    }
    context.output.document("unsubscribe", &json!({ "tokens": documents }));
    if unknown > 0 {
        return Err(Failure::data(
            format!("{}: genuine, but of no message that this ledger knows", count(unknown, "token")),
            "was the message pruned, or is the ledger an old copy, or another shop's? The address can be added with `mailonce suppress add`",
        )
        .kept("the others were taken off the list")
        .into());
    }
    Ok(Exit::Done)
}

/// The tokens of the command line, or for `-` the lines of stdin.
fn given_or_read(given: &[String]) -> Result<Vec<String>> {
    let mut tokens = Vec::new();
    for token in given {
        match token.as_str() {
            "-" => {
                for line in std::io::stdin().lock().lines() {
                    tokens.push(line?.trim().to_owned());
                }
            }
            token => tokens.push(token.trim().to_owned()),
        }
    }
    tokens.retain(|token| !token.is_empty());
    Ok(tokens)
}

/// # Errors
/// Exit 65 for the first that is not genuine; nobody is taken off the list then. No token is repeated: it is a secret.
fn genuine(keys: &Keys, given: &[String]) -> Result<Vec<Token>, Failure> {
    let mut tokens = Vec::new();
    for (at, token) in given.iter().enumerate() {
        tokens.push(keys.verify(token).map_err(|why| {
            let (what, next) = match why {
                NotGenuine::NoToken => ("is no token", "give what stands for {unsubscribe} in the link"),
                NotGenuine::Forged => ("was signed by no key of this shop", "leave it: nobody was taken off the list"),
                NotGenuine::UnknownKey => {
                    ("names a key that is not here", "put the newest copy of unsubscribe.keys back from your backup")
                }
            };
            Failure::data(format!("token {} {what}", at + 1), next).kept("nobody was taken off the list")
        })?);
    }
    Ok(tokens)
}

fn rotate(context: &Context<'_>, settings: &Settings) -> Result<Exit> {
    let file = &settings.unsubscribe.keys_file;
    let known = match fs::read_to_string(file) {
        Ok(text) => Some(Keys::parse(&text).map_err(|problem| {
            Failure::config(format!("{}: {problem}", file.display()), "put it back from your backup")
        })?),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => None,
        Err(err) => {
            let next = "start the command as a user who may read and write it";
            return Err(Failure::config(format!("{}: {err}", file.display()), next).into());
        }
    };
    let keys = match &known {
        None => Keys::new(random()?),
        Some(keys) => keys.with_new(random()?).ok_or_else(|| {
            let next = "take the last lines out by hand: those that signed no mail of the last months";
            Failure::config(format!("{} has all 36 keys that it can have", file.display()), next)
        })?,
    };
    write(file, &keys)?;
    context.output.document("unsubscribe-rotate", &json!({ "file": file, "is_new_file": known.is_none() }));
    context.output.print(match known {
        None => format!("made {}: keep it with the ledger's backup", file.display()),
        Some(_) => format!("{} signs with a new key; links that are out stay good", file.display()),
    });
    Ok(Exit::Done)
}

/// Makes the keys where there are none yet; says whether it did.
pub(super) fn make_missing_keys(file: &Path) -> Result<bool, Failure> {
    if file.exists() {
        return Ok(false);
    }
    write(file, &Keys::new(random()?)).map(|()| true)
}

/// Writes the file anew, whole or not at all, for the same owner and group as before.
fn write(file: &Path, keys: &Keys) -> Result<(), Failure> {
    let cannot = |err: std::io::Error| {
        Failure::ledger(
            format!("could not write {}: {err}", file.display()),
            "start the command as a user who may write there, on a disk with space left",
        )
        .kept("the keys are as they were")
    };
    let before = fs::metadata(file).ok();
    let written = || -> std::io::Result<()> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mode = before.as_ref().map_or(KEYS_MODE, |meta| meta.mode() & 0o770);
        let mut new = tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
        // The mask of this user may have taken something away.
        new.as_file().set_permissions(Permissions::from_mode(mode))?;
        if let Some(before) = &before
            && (before.uid(), before.gid()) != (new.as_file().metadata()?.uid(), new.as_file().metadata()?.gid())
        {
            std::os::unix::fs::fchown(new.as_file(), Some(before.uid()), Some(before.gid()))?;
        }
        new.write_all(keys.lines().as_bytes())?;
        new.as_file().sync_all()?;
        new.persist(file)?;
        fs::File::open(folder)?.sync_all()
    };
    written().map_err(cannot)
}

fn random() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    let read = fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes));
    read.map_err(|err| Failure::ledger(format!("could not read /dev/urandom: {err}"), "check this machine's /dev"))?;
    Ok(bytes)
}
