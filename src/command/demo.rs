//! `demo`: the main job on an example shop, in a folder of its own. The real commands run, as a user would run them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use chrono::{TimeDelta, Utc};

use super::Context;
use crate::cli;
use crate::domain::instant;
use crate::failure::{Exit, Failure};

const SHOP: &str = include_str!("../../examples/shop.sql");
const CONFIG: &str = include_str!("../../examples/mailonce.toml");
const AUDIENCE: &str = include_str!("../../examples/audience.csv");
const CAMPAIGN: &str = include_str!("../../examples/templates/spring.html");
/// How far ahead the example campaign is scheduled.
const CAMPAIGN_IN: Duration = Duration::from_secs(2);
/// An audience that was written just now might still be on its way: this one is as old as it would be in real use.
const AUDIENCE_AGE: Duration = Duration::from_secs(60);
/// Marks a folder that `demo` made, and may make afresh.
const MARK: &str = ".made-by-mailonce-demo";

pub fn run(context: &Context<'_>, args: &cli::Demo) -> Result<Exit> {
    let folder = &args.dir;
    if folder.exists() {
        if !folder.join(MARK).is_file() {
            return Err(Failure::usage(
                format!("{} is there already, and `demo` did not make it", folder.display()),
                "name another folder: `mailonce demo DIR`",
            )
            .into());
        }
        fs::remove_dir_all(folder).map_err(|err| cannot_write(folder, &err))?;
    }
    fs::create_dir_all(folder).map_err(|err| cannot_write(folder, &err))?;
    fs::create_dir(folder.join("templates")).map_err(|err| cannot_write(folder, &err))?;
    let files =
        [(MARK, ""), ("mailonce.toml", CONFIG), ("audience.csv", AUDIENCE), ("templates/spring.html", CAMPAIGN)];
    for (name, text) in files {
        fs::write(folder.join(name), text).map_err(|err| cannot_write(folder, &err))?;
    }
    fs::File::options()
        .write(true)
        .open(folder.join("audience.csv"))
        .and_then(|audience| audience.set_modified(SystemTime::now() - AUDIENCE_AGE))
        .map_err(|err| cannot_write(folder, &err))?;
    rusqlite::Connection::open(folder.join("shop.db"))
        .and_then(|shop| shop.execute_batch(SHOP))
        .context("could not make the example shop")?;
    let say = |line: &str| context.output.print(line);
    say(&format!(
        "An example shop with seven carts is in {}/shop.db; a rehearsal ledger keeps the record:",
        folder.display()
    ));
    step(context, folder, &["init", "--rehearsal"])?;
    say("\nWho would get a mail, and why the others would not:");
    step(context, folder, &["detect", "--dry-run"])?;
    say("\nThe first run writes to them:");
    step(context, folder, &["-v", "detect"])?;
    say("\nThe second run finds nothing left to do:");
    step(context, folder, &["-v", "detect"])?;
    say("\nA campaign, due in two seconds, to the four rows of audience.csv:");
    let at = instant::text(Utc::now() + TimeDelta::from_std(CAMPAIGN_IN)?);
    let subject = "Spring is here, {{ name }}";
    let add = [
        "campaign",
        "add",
        "spring",
        "--subject",
        subject,
        "--template",
        "templates/spring.html",
        "--audience",
        "audience.csv",
    ];
    step(context, folder, &[&add[..], &["--at", &at]].concat())?;
    std::thread::sleep(CAMPAIGN_IN);
    step(context, folder, &["-v", "run-campaigns"])?;
    step(context, folder, &["-v", "run-campaigns"])?;
    step(context, folder, &["campaign", "list"])?;
    say("\nWhat the ledger says:");
    step(context, folder, &["status"])?;
    let mut mails: Vec<_> = fs::read_dir(folder.join("outbox"))
        .map_err(|err| cannot_write(folder, &err))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "eml"))
        .collect();
    mails.sort();
    say("\nThe messages, as files to open with a mail program:");
    for mail in &mails {
        say(&format!("  {}", mail.display()));
    }
    let config = folder.join("mailonce.toml");
    say(&format!("\nTry next: mailonce --config {} preview c1 --out {}/preview", config.display(), folder.display()));
    context.output.document(&serde_json::json!({ "folder": folder, "config": config, "messages": mails }));
    Ok(Exit::Done)
}

/// Runs one command of this very program in the folder, its output indented.
fn step(context: &Context<'_>, folder: &Path, args: &[&str]) -> Result<()> {
    let program = std::env::current_exe().context("could not find this program's own file")?;
    let output = Command::new(program)
        .args(args)
        .current_dir(folder)
        .env_remove("MAILONCE_CONFIG")
        .output()
        .context("could not start this program again")?;
    let quoted = |arg: &&str| if arg.contains(' ') { format!("\"{arg}\"") } else { (*arg).to_owned() };
    context.output.print(format!("  $ mailonce {}", args.iter().map(quoted).collect::<Vec<_>>().join(" ")));
    let texts = [output.stderr.as_slice(), output.stdout.as_slice()].map(String::from_utf8_lossy);
    for line in texts.iter().flat_map(|text| text.lines()) {
        context.output.print(format!("  {line}"));
    }
    if !output.status.success() {
        return Err(Failure::ledger(
            format!("`mailonce {}` ended with {}:\n{}", args.join(" "), output.status, texts.concat().trim_end()),
            "tell its makers: the demo must always work",
        )
        .into());
    }
    Ok(())
}

fn cannot_write(folder: &Path, err: &std::io::Error) -> Failure {
    Failure::ledger(
        format!("could not write to {}: {err}", folder.display()),
        "run it where you may write, on a disk with space left",
    )
}
