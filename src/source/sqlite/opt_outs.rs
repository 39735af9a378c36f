//! The opt-outs that a query on the shop's SQLite database finds.

use std::path::Path;

use anyhow::Result;
use chrono_tz::Tz;

use super::super::as_the_earliest_text;
use super::super::copied::Copied;
use super::super::file::{file_name, require_file};
use super::super::query::{OF_OPT_OUTS, OPT_OUTS_KEY as KEY};
use super::queries::{bound, checked, copied as copied_rows, prepare, query_failed};
use super::{Stored, connect};
use crate::domain::instant::Instant;

/// The database's name, the columns, and a copy of the rows.
///
/// # Errors
/// The database gives no answer, or the query cannot be used.
pub fn copied(path: &Path, text: &str, since: Instant, zone: Tz) -> Result<(String, Vec<String>, Copied)> {
    require_file(path)?;
    let name = file_name(path);
    let shop = connect(path, &name)?;
    let text = checked(&shop, &name, KEY, text, &OF_OPT_OUTS)?;
    let mut statement = prepare(&shop, &name, KEY, &format!("SELECT * FROM (\n{text}\n)"))?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let values = [
        (":since", Stored::Text(as_the_earliest_text(since, zone).into())),
        (":since_unix", Stored::Integer(since.timestamp())),
    ];
    let rows = bound(&mut statement, &values).map_err(|err| query_failed(&name, KEY, &err))?;
    let copied = copied_rows(rows, names.len()).map_err(|err| err.told(&name, KEY))?;
    Ok((name, names, copied))
}
