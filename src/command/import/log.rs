//! `import log`: the history of an older system, so that it counts in the window.

use std::path::Path;

use anyhow::Result;
use chrono::TimeDelta;
use chrono_tz::Tz;
use serde_json::json;

use super::{Context, MOST_BAD_ROWS_NAMED};
use crate::domain::old_log::{Flaw, Reader};
use crate::failure::Exit;
use crate::ledger::no_zone;
use crate::output::count;
use crate::progress;
use crate::source::dump_row::DumpRow;
use crate::source::old_log;

pub(super) fn run(context: &Context<'_>, file: Option<&Path>, zone: Option<Tz>, table: &str) -> Result<Exit> {
    let settings = context.settings()?;
    let (_lock, mut ledger) = super::ledger_to_fill(context, &settings)?;
    let now = context.clock.now();
    let reader = Reader { zone, latest: now + TimeDelta::days(1) };
    let bar = progress::bar("rows", None, context.output.json);
    let (mut rows, mut bad, mut without_shopper) = (0_u64, 0_u64, 0_u64);
    let imported = ledger.import_log(now, |take| {
        let mut each = |row: DumpRow| {
            rows += 1;
            bar.inc(1);
            match row {
                Ok((row, extra)) => take(&row, extra.as_deref())?,
                Err((_, Flaw::NoShopper)) => without_shopper += 1,
                Err((place, Flaw::NoZone(time))) => return Err(no_zone(&place, &time)),
                Err((place, Flaw::Unreadable(problem))) => {
                    bad += 1;
                    if bad <= MOST_BAD_ROWS_NAMED {
                        bar.suspend(|| context.output.alarm(format!("{place}: {problem}; row left out")));
                    }
                }
            }
            Ok(())
        };
        match file {
            Some(file) => Ok(old_log::read(file, table, &reader, &mut each)?),
            None => old_log::read_source(&settings.source, table, &reader, &mut each),
        }
    })?;
    bar.finish_and_clear();
    if bad > MOST_BAD_ROWS_NAMED {
        context.output.alarm(format!("and {}", count(bad - MOST_BAD_ROWS_NAMED, "more bad row")));
    }
    context
        .output
        .document(&json!({ "rows": rows, "imported": imported, "bad_rows": bad, "without_shopper": without_shopper }));
    context.output.print(format!(
        "{} read: {} added, {} there already, {} brought up to date, {} moved to removed_duplicate, {} left out",
        count(rows, "row"),
        imported.added,
        imported.already_there,
        imported.updated,
        match imported.copies {
            1 => "1 copy".to_owned(),
            copies => format!("{copies} copies"),
        },
        count(bad, "bad row")
    ));
    if without_shopper > 0 {
        context.output.print(format!("{} with neither user nor address left out", count(without_shopper, "row")));
    }
    if imported.added > 0 {
        context.output.print("next: `mailonce cleanup-duplicates`");
    }
    Ok(if bad > 0 { Exit::NeedsAPerson } else { Exit::Done })
}
