//! `demo`: the main job on an example shop, in a folder of its own. The real commands run, as a user would run them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Context;
use crate::cli;
use crate::failure::{Exit, Failure};

const SHOP: &str = include_str!("../../examples/shop.sql");
const CONFIG: &str = include_str!("../../examples/mailonce.toml");
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
    for (name, text) in [(MARK, ""), ("mailonce.toml", CONFIG)] {
        fs::write(folder.join(name), text).map_err(|err| cannot_write(folder, &err))?;
    }
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
    context.output.print(format!("  $ mailonce {}", args.join(" ")));
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
