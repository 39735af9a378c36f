//! `import`: data from elsewhere.

mod log;
mod schedules;

use std::io::Read;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::cli::Import;
use crate::domain::address::Address;
use crate::failure::{Exit, Failure};
use crate::ledger::{Kind, Ledger};
use crate::output::count;
use crate::progress;
use crate::run_lock::RunLock;
use crate::settings::Settings;

/// So many addresses share one commit.
const BATCH: usize = 10_000;
const MOST_BAD_ROWS_NAMED: u64 = 20;
const ADDRESS_COLUMNS: [&str; 4] = ["email", "address", "email_address", "e-mail"];

pub fn run(context: &Context<'_>, args: &Import) -> Result<Exit> {
    match args {
        Import::Suppressions { file, reason } => suppressions(context, file, reason),
        Import::Log { file, timezone, table } => log::run(context, file, *timezone, table),
        Import::Schedules { file, timezone } => schedules::run(context, file, *timezone),
    }
}

/// The ledger, locked; where there is none yet, a new live one: what comes into it is there before the first run.
fn ledger_to_fill(context: &Context<'_>, settings: &Settings) -> Result<(RunLock, Ledger)> {
    // With `--now` it would have to be one for rehearsals, which only `init --rehearsal` makes.
    if !Ledger::exists(&settings.ledger) && !context.clock.is_frozen() {
        let made = super::init::make_ledger(context, settings, Kind::Live, "import")?;
        context.output.tell(format!("made the ledger {}", settings.ledger.display()));
        return Ok(made);
    }
    Ledger::check_path(settings.place())?;
    let lock = RunLock::take(&settings.ledger, "import", context.global.wait.unwrap_or_default())?;
    let ledger = context.ledger_locked(settings, &lock)?;
    Ok((lock, ledger))
}

/// Reads one address a line, or CSV with a header that names a column `email` or `address`, perhaps one `reason`.
fn suppressions(context: &Context<'_>, file: &Path, default_reason: &str) -> Result<Exit> {
    super::suppress::check_reason(default_reason)?;
    let settings = context.settings()?;
    let (_lock, mut ledger) = ledger_to_fill(context, &settings)?;
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
        .delimiter(delimiter(file).map_err(|err| unusable(&err))?)
        .from_path(file)
        .map_err(|err| unusable(&err))?;
    let progress = progress::bar("reading", None, context.output.json);
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
        if std::mem::take(&mut first) {
            if let Some(header) = Columns::from_header(&record) {
                columns = header;
                continue;
            }
            if record.len() > 1 && !record.iter().any(|field| field.contains(&b'@')) {
                let problem = format!("its first line names no column `{}`", ADDRESS_COLUMNS[..2].join("` or `"));
                return Err(unusable(&problem).into());
            }
        }
        let text = |column: usize| record.get(column).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        if record.iter().all(<[u8]>::is_empty) {
            continue;
        }
        read += 1;
        progress.inc(1);
        let address = std::str::from_utf8(record.get(columns.address).unwrap_or_default())
            .map_err(|_| "the address is not UTF-8".to_owned())
            .and_then(|text| Address::parse(text.trim_start_matches('\u{feff}')).map_err(|err| err.to_string()));
        match address {
            Ok(address) => {
                let reason = columns.reason.map(text).filter(|reason| !reason.is_empty());
                let reason = reason.as_deref().map_or_else(|| default_reason.to_owned(), super::suppress::tidy_reason);
                rows.push((address, reason));
            }
            Err(err) => {
                bad += 1;
                if bad <= MOST_BAD_ROWS_NAMED {
                    let line = record.position().map_or(0, csv::Position::line);
                    let named = format!("{}:{line}: {err}; row skipped", file.display());
                    progress.suspend(|| context.output.alarm(named));
                }
            }
        }
        if rows.len() >= BATCH {
            added += ledger.suppress(&rows, "import", context.clock.now())?;
            rows.clear();
        }
    }
    added += ledger.suppress(&rows, "import", context.clock.now())?;
    progress.finish_and_clear();
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

/// What stands between the fields: a comma, unless the first line has none and a semicolon or tab instead.
fn delimiter(file: &Path) -> std::io::Result<u8> {
    let mut start = Vec::new();
    std::fs::File::open(file)?.take(4096).read_to_end(&mut start)?;
    let first = start.split(|&byte| byte == b'\n').next().unwrap_or_default();
    Ok([b',', b';', b'\t'].into_iter().find(|delimiter| first.contains(delimiter)).unwrap_or(b','))
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
        Some(Columns { address: at(&ADDRESS_COLUMNS)?, reason: at(&["reason"]) })
    }
}
