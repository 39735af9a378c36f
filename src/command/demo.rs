//! `demo`: the main job on an example shop, in a folder of its own. The real commands run, as a user would run them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use chrono::{TimeDelta, Utc};
use sha2::{Digest, Sha256};

use super::Context;
use crate::cli;
use crate::domain::instant;
use crate::domain::message_key::hex;
use crate::failure::{Exit, Failure};
use crate::output::count;

const SHOP: &str = include_str!("../../examples/shop.sql");
const CONFIG: &str = include_str!("../../examples/mailonce.toml");
const AUDIENCE: &str = include_str!("../../examples/audience.csv");
const CAMPAIGN: &str = include_str!("../../examples/templates/spring.html");
/// How far ahead the example campaign is scheduled.
const CAMPAIGN_IN: Duration = Duration::from_secs(2);
/// An audience that was written just now might still be on its way: this one is as old as it would be in real use.
const AUDIENCE_AGE: Duration = Duration::from_secs(60);
/// Lists what `demo` left in its folder, as `sha256sum` does. What is still so may be made afresh; nothing else is touched.
const LEFT: &str = ".made-by-mailonce-demo";
/// The list itself, and what any look at a ledger writes to.
const NO_ONES_OWN: [&str; 3] = [LEFT, "mailonce.db-shm", "week/mailonce.db-shm"];

/// The folder of the week that is run through in a moment.
const WEEK: &str = "week";
const WEEK_CONFIG: &str = "week/mailonce.toml";
/// What the configuration of that week has besides.
const WEEK_STEPS: &str = include_str!("../../examples/steps.toml");
/// Someone buys on its second day.
const WEEK_ORDER: &str = "INSERT INTO orders VALUES ('o2', 'c3', 'hanako@example.jp', ?1)";

pub fn run(context: &Context<'_>, args: &cli::Demo) -> Result<Exit> {
    let folder = &args.dir;
    clear(folder)?;
    make_files(folder).map_err(|err| cannot_write(folder, &err))?;
    make_shop(&folder.join("shop.db"))?;
    make_shop(&folder.join(WEEK).join("shop.db"))?;
    show(context, folder)?;
    let mails = mails(folder).map_err(|err| cannot_write(folder, &err))?;
    note_what_is_left(folder).map_err(|err| cannot_write(folder, &err))?;
    let config = folder.join("mailonce.toml");
    context.output.print(format!(
        "{} as files, for any mail program: {}",
        count(mails.len() as u64, "message"),
        folder.join("outbox").display()
    ));
    context.output.print(format!(
        "Next: mailonce --config {} preview c1 --out {}",
        quoted(&config.to_string_lossy()),
        quoted(&folder.join("preview").to_string_lossy())
    ));
    context.output.document("demo", &serde_json::json!({ "folder": folder, "config": config, "messages": mails }));
    Ok(Exit::Done)
}

/// What a new user is to see, in forty lines at most.
fn show(context: &Context<'_>, folder: &Path) -> Result<()> {
    let say = |line: &str| context.output.print(line);
    say(&format!("An example shop with seven carts is in {}:", folder.join("shop.db").display()));
    step(context, folder, &["init", "--rehearsal"], Shown::First(1))?;
    say("\nWho would get a mail, and why the others would not:");
    step(context, folder, &["detect", "--dry-run"], Shown::All)?;
    say("\nThe first run writes to them, the second finds nothing left to do:");
    step(context, folder, &["-v", "detect"], Shown::Last(1))?;
    step(context, folder, &["-v", "detect"], Shown::Last(1))?;
    say("\nA campaign, due in two seconds, to the four rows of audience.csv:");
    let at = instant::text(Utc::now() + TimeDelta::from_std(CAMPAIGN_IN)?);
    let what = ["--subject", "Spring is here, {{ name }}", "--template", "templates/spring.html"];
    let to_whom_and_when = ["--audience", "audience.csv", "--at", &at];
    step(context, folder, &[&["campaign", "add", "spring"], &what[..], &to_whom_and_when].concat(), Shown::First(1))?;
    std::thread::sleep(CAMPAIGN_IN);
    step(context, folder, &["-v", "run-campaigns"], Shown::Last(2))?;
    say("\nWhat the ledger says of all that:");
    step(context, folder, &["status"], Shown::First(1))?;
    say("\nA week in three steps, at decent hours, a run every six hours; Ada gets all, Hanako buys after one:");
    run_a_week(folder)?;
    step(context, folder, &["--config", WEEK_CONFIG, "log", "--cart", "c1"], Shown::Columns(100))
}

/// Runs `detect` through a week of its own rehearsal ledger, every six hours.
fn run_a_week(folder: &Path) -> Result<()> {
    let begins = Utc::now();
    let at = |hours: i64| instant::text(begins + TimeDelta::hours(hours));
    run_one(folder, &["--config", WEEK_CONFIG, "--now", &at(0), "init", "--rehearsal"])?;
    for hours in (0..7 * 24).step_by(6) {
        if hours == 24 {
            rusqlite::Connection::open(folder.join(WEEK).join("shop.db"))
                .and_then(|shop| shop.execute(WEEK_ORDER, [at(18)]))
                .context("could not write an order into the example shop")?;
        }
        run_one(folder, &["--config", WEEK_CONFIG, "--now", &at(hours), "detect"])?;
    }
    Ok(())
}

fn make_shop(path: &Path) -> Result<()> {
    rusqlite::Connection::open(path)
        .and_then(|shop| shop.execute_batch(SHOP))
        .context("could not make the example shop")
}

/// How much of a command's output is shown; `…` stands for the rest.
#[derive(Clone, Copy)]
enum Shown {
    All,
    First(usize),
    Last(usize),
    /// So much of each line.
    Columns(usize),
}

impl Shown {
    fn of(self, lines: &[&str]) -> Vec<String> {
        let plain = |lines: &[&str]| lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>();
        match self {
            Shown::First(most) if lines.len() > most => {
                let mut shown = plain(&lines[..most]);
                shown.last_mut().into_iter().for_each(|line| line.push_str(" …"));
                shown
            }
            Shown::Last(most) if lines.len() > most => {
                let mut shown = plain(&lines[lines.len() - most..]);
                shown.first_mut().into_iter().for_each(|line| line.insert_str(2, "… "));
                shown
            }
            Shown::Columns(most) => {
                let cut = |line: &String| match line.char_indices().nth(most) {
                    Some((end, _)) => format!("{}…", &line[..end]),
                    None => line.clone(),
                };
                plain(lines).iter().map(cut).collect()
            }
            _ => plain(lines),
        }
    }
}

/// Runs one command of this very program in the folder, its output indented.
fn step(context: &Context<'_>, folder: &Path, args: &[&str], shown: Shown) -> Result<()> {
    let typed: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
    context.output.print(format!("  $ mailonce {}", typed.join(" ")));
    let said = run_one(folder, args)?;
    let lines: Vec<&str> = said.lines().collect();
    for line in shown.of(&lines) {
        context.output.print(line);
    }
    Ok(())
}

/// Runs one command of this very program in the folder, and gives what it said.
fn run_one(folder: &Path, args: &[&str]) -> Result<String> {
    let program = std::env::current_exe().context("could not find this program's own file")?;
    let output = Command::new(program)
        .args(args)
        .current_dir(folder)
        .env_remove("MAILONCE_CONFIG")
        .env_remove("MAILONCE_LOG_FORMAT")
        .output()
        .context("could not start this program again")?;
    let texts = [output.stderr.as_slice(), output.stdout.as_slice()].map(String::from_utf8_lossy);
    if !output.status.success() {
        return Err(Failure::ledger(
            format!("`mailonce {}` ended with {}:\n{}", args.join(" "), output.status, texts.concat().trim_end()),
            "tell its makers: the demo must always work",
        )
        .into());
    }
    Ok(texts.concat())
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@+".contains(c);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Takes away what an earlier demo left in the folder, if nothing in it was changed or added since.
///
/// # Errors
/// Exit 2: a file is there that no demo made, or that is not as the demo left it. Nothing was touched.
fn clear(folder: &Path) -> Result<(), Failure> {
    if let Ok(meta) = fs::symlink_metadata(folder)
        && !meta.is_dir()
    {
        return Err(not_its_own(folder, folder));
    }
    let there = digests(folder).map_err(|err| cannot_write(folder, &err))?;
    if there.is_empty() {
        return Ok(());
    }
    let left = fs::read_to_string(folder.join(LEFT)).unwrap_or_default();
    let left: BTreeMap<&str, &str> =
        left.lines().filter_map(|line| line.split_once("  ")).map(|(digest, name)| (name, digest)).collect();
    let is_as_left = |(name, digest): &(&String, &String)| {
        NO_ONES_OWN.contains(&name.as_str()) || left.get(name.as_str()) == Some(&digest.as_str())
    };
    if let Some((name, _)) = there.iter().find(|file| !is_as_left(file)) {
        return Err(not_its_own(folder, &folder.join(name)));
    }
    for name in there.keys() {
        fs::remove_file(folder.join(name)).map_err(|err| cannot_write(folder, &err))?;
    }
    Ok(())
}

fn not_its_own(folder: &Path, file: &Path) -> Failure {
    Failure::usage(
        format!("{} is not as `demo` left it, or was not made by it", file.display()),
        format!("name another folder: `mailonce demo DIR`; or move {} away", folder.display()),
    )
    .kept("nothing was touched")
}

/// The files in a folder and below it, by their path in it, with their SHA-256. What is no plain file has none.
fn digests(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop().filter(|next| next.exists()) {
        for entry in fs::read_dir(next)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let digest = if kind.is_file() { hex(&Sha256::digest(fs::read(&path)?)) } else { String::new() };
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            found.insert(name, digest);
        }
    }
    Ok(found)
}

fn note_what_is_left(folder: &Path) -> io::Result<()> {
    let lines = digests(folder)?.into_iter().map(|(name, digest)| format!("{digest}  {name}\n"));
    fs::write(folder.join(LEFT), lines.collect::<String>())
}

fn make_files(folder: &Path) -> io::Result<()> {
    for inside in ["templates", WEEK] {
        fs::create_dir_all(folder.join(inside))?;
    }
    let week = format!("{CONFIG}{WEEK_STEPS}");
    for (name, text) in [
        ("mailonce.toml", CONFIG),
        ("audience.csv", AUDIENCE),
        ("templates/spring.html", CAMPAIGN),
        (WEEK_CONFIG, &week),
    ] {
        fs::write(folder.join(name), text)?;
    }
    let audience = fs::File::options().write(true).open(folder.join("audience.csv"))?;
    audience.set_modified(SystemTime::now() - AUDIENCE_AGE)
}

fn mails(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let files = fs::read_dir(folder.join("outbox"))?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut mails: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "eml")).collect();
    mails.sort();
    Ok(mails)
}

fn cannot_write(folder: &Path, err: &io::Error) -> Failure {
    Failure::ledger(
        format!("could not write to {}: {err}", folder.display()),
        "run it where you may write, on a disk with space left",
    )
}
