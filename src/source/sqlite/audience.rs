//! An audience that a query on the shop's SQLite database finds.

use std::path::Path;

use anyhow::Result;

use super::super::audience::query::{KEY, hand_out, needs_a_person, of_query};
use super::super::copied::Copied;
use super::super::file::{file_name, require_file};
use super::super::recipient::{AudienceRow, Columns};
use super::queries::{checked, query_failed};
use super::{Stored, cannot_read, connect};

/// Hands each row of a query to `each`.
///
/// The rows are first copied into a nameless temporary file, so that no statement keeps the shop from writing meanwhile.
///
/// # Errors
/// Exit 1: the database gives no answer, or the query cannot be used. Also what `each` returns.
pub fn read(path: &Path, query: &str, each: &mut dyn FnMut(AudienceRow) -> Result<()>) -> Result<()> {
    let name = file_name(path);
    let (columns, copied) = copied(path, &name, query).map_err(needs_a_person)?;
    hand_out(&copied, &columns, &name, each)
}

fn copied(path: &Path, name: &str, query: &str) -> Result<(Columns, Copied)> {
    require_file(path)?;
    let shop = connect(path, name)?;
    let query = checked(&shop, name, KEY, query, &[])?;
    let failed = |err: rusqlite::Error| query_failed(name, KEY, &err);
    let mut statement = shop.prepare(&format!("SELECT * FROM (\n{query}\n)")).map_err(failed)?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let width = names.len();
    let columns = Columns::find(names, &of_query(name))?;
    let copied = Copied::begin(width)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(found) = rows.next().map_err(|err| cannot_read(name, &err))? {
        let values = (0..width).map(|at| found.get::<_, Stored>(at)).collect::<rusqlite::Result<Vec<_>>>();
        copied.push(&values.map_err(failed)?)?;
    }
    Ok((columns, copied.end()?))
}
