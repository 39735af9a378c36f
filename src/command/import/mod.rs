//! `import`: data from elsewhere.

mod log;
mod schedules;

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::cli::Import;
use crate::domain::state::Origin;
use crate::failure::Exit;
use crate::ledger::{Kind, Ledger};
use crate::output::count;
use crate::progress;
use crate::run_lock::RunLock;
use crate::settings::Settings;
use crate::source;

/// So many addresses share one commit.
const BATCH: usize = 10_000;
const MOST_BAD_ROWS_NAMED: u64 = 20;

pub use log::mailed_now;

pub fn run(context: &Context<'_>, args: &Import) -> Result<Exit> {
    match args {
        Import::Suppressions { file, reason } => suppressions(context, file, reason),
        Import::Log(args) => log::run(context, args),
        Import::Schedules { file, timezone } => schedules::run(context, file, *timezone),
    }
}

/// Whether there is no ledger yet, and an import makes one.
fn makes_the_ledger(context: &Context<'_>, settings: &Settings) -> bool {
    // With `--now` it would have to be one for rehearsals, which only `init --rehearsal` makes.
    !Ledger::exists(&settings.ledger) && !context.clock.is_frozen()
}

/// The ledger, locked; where there is none yet, a new live one: what comes into it is there before the first run.
fn ledger_to_fill(context: &Context<'_>, settings: &Settings) -> Result<(RunLock, Ledger)> {
    if makes_the_ledger(context, settings) {
        let made = super::init::make_ledger(context, settings, Kind::Live, "import")?;
        context.output.print(format!("made the ledger {}", settings.ledger.display()));
        return Ok(made);
    }
    Ok(context.lock_and_ledger(settings, "import")?)
}

/// Adds the addresses of a list.
fn suppressions(context: &Context<'_>, file: &Path, default_reason: &str) -> Result<Exit> {
    super::suppress::check_reason(default_reason)?;
    let settings = context.settings()?;
    let (_lock, mut ledger) = ledger_to_fill(context, &settings)?;
    let progress = progress::bar("reading", None, context.output.json);
    let (mut rows, mut added, mut read, mut taken, mut bad) = (Vec::new(), 0, 0_u64, 0_u64, 0_u64);
    let finished = source::suppressions::read(file, &mut |row| {
        read += 1;
        progress.inc(1);
        if let Some(problem) = &row.problem {
            bad += 1;
            if bad <= MOST_BAD_ROWS_NAMED {
                let skipped = if row.address.is_none() { "; row skipped" } else { "" };
                let named = format!("{}:{}: {problem}{skipped}", file.display(), row.line);
                progress.suspend(|| context.output.alarm(named));
            }
        }
        if let Some((address, reason)) = row.address {
            taken += 1;
            let reason = reason.as_deref().map_or_else(|| default_reason.to_owned(), super::suppress::tidy_reason);
            rows.push((address, reason));
        }
        if rows.len() >= BATCH {
            added += ledger.suppressions().add(&rows, Origin::Import, context.clock.now())?;
            rows.clear();
        }
        Ok(())
    });
    finished.map_err(|failure| match added {
        0 => failure,
        added => failure.kept(format!("{} added before", count(added, "address"))),
    })?;
    added += ledger.suppressions().add(&rows, Origin::Import, context.clock.now())?;
    progress.finish_and_clear();
    if bad > MOST_BAD_ROWS_NAMED {
        context.output.alarm(format!("and {}", count(bad - MOST_BAD_ROWS_NAMED, "more bad row")));
    }
    context.output.document(
        "import-suppressions",
        &json!({ "rows": read, "added": added, "already_listed": taken - added, "bad_rows": bad }),
    );
    context.output.print(format!(
        "{} read: {added} added, {} listed already, {} skipped",
        count(read, "row"),
        taken - added,
        count(bad, "bad row")
    ));
    Ok(if bad > 0 { Exit::NeedsAPerson } else { Exit::Done })
}
