//! `import`: data from elsewhere.

mod schedules;

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::cli::Import;
use crate::domain::address::Address;
use crate::failure::{Exit, Failure};
use crate::ledger::{Access, Ledger};
use crate::output::count;
use crate::run_lock::RunLock;

/// So many addresses share one commit.
const BATCH: usize = 10_000;
const MOST_BAD_ROWS_NAMED: u64 = 20;

pub fn run(context: &Context<'_>, args: &Import) -> Result<Exit> {
    match args {
        Import::Suppressions { file, reason } => suppressions(context, file, reason),
        Import::Schedules { file, timezone } => schedules::run(context, file, *timezone),
    }
}

/// Reads one address a line, or CSV with a header that names a column `email` or `address`, perhaps one `reason`.
fn suppressions(context: &Context<'_>, file: &Path, default_reason: &str) -> Result<Exit> {
    let settings = context.settings()?;
    Ledger::check_path(&settings.ledger)?;
    let _lock = RunLock::take(&settings.ledger, "import", context.global.wait.unwrap_or_default())?;
    let mut ledger = context.ledger(&settings, Access::Write)?;
    let unusable = |err: &dyn std::fmt::Display| {
        Failure::data(
            format!("could not read {}: {err}", file.display()),
            "name a text or CSV file with one address a row",
        )
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_path(file)
        .map_err(|err| unusable(&err))?;
    let mut columns = Columns { address: 0, reason: None };
    let (mut rows, mut added, mut read, mut bad) = (Vec::new(), 0, 0_u64, 0_u64);
    let mut record = csv::ByteRecord::new();
    let mut first = true;
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(err) => return Err(unusable(&err).kept(format!("{} added before", count(added, "address"))).into()),
        }
        if std::mem::take(&mut first)
            && let Some(header) = Columns::from_header(&record)
        {
            columns = header;
            continue;
        }
        let text = |column: usize| record.get(column).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        if record.iter().all(<[u8]>::is_empty) {
            continue;
        }
        read += 1;
        match Address::parse(text(columns.address).trim_start_matches('\u{feff}')) {
            Ok(address) => {
                let reason = columns.reason.map(text).filter(|reason| !reason.is_empty());
                rows.push((address, reason.unwrap_or_else(|| default_reason.to_owned())));
            }
            Err(err) => {
                bad += 1;
                if bad <= MOST_BAD_ROWS_NAMED {
                    let line = record.position().map_or(0, csv::Position::line);
                    context.output.alarm(format!("{}:{line}: {err}; row skipped", file.display()));
                }
            }
        }
        if rows.len() >= BATCH {
            added += ledger.suppress(&rows, "import", context.clock.now())?;
            rows.clear();
        }
    }
    added += ledger.suppress(&rows, "import", context.clock.now())?;
    if bad > MOST_BAD_ROWS_NAMED {
        context.output.alarm(format!("and {} more bad rows", bad - MOST_BAD_ROWS_NAMED));
    }
    context
        .output
        .document(&json!({ "rows": read, "added": added, "already_listed": read - bad - added, "bad_rows": bad }));
    context.output.print(format!(
        "{} read: {added} added, {} listed already, {} skipped",
        count(read, "row"),
        read - bad - added,
        count(bad, "bad row")
    ));
    Ok(if bad > 0 { Exit::NeedsAPerson } else { Exit::Done })
}

struct Columns {
    address: usize,
    reason: Option<usize>,
}

impl Columns {
    /// The columns a header names; `None` when the row is no header but an address already.
    fn from_header(record: &csv::ByteRecord) -> Option<Columns> {
        let at = |names: &[&str]| {
            record.iter().position(|field| {
                let field = String::from_utf8_lossy(field);
                names.iter().any(|name| field.trim_start_matches('\u{feff}').eq_ignore_ascii_case(name))
            })
        };
        Some(Columns { address: at(&["email", "address", "email_address", "e-mail"])?, reason: at(&["reason"]) })
    }
}
