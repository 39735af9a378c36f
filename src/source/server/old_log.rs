//! An older system's log in a table of the shop's server.

use std::borrow::Cow;

use anyhow::Result;
use serde_json::Value;

use super::{Link, Question, Stored, queries};
use crate::domain::engine::Engine;
use crate::domain::old_log::{Column, Columns, Reader, shown};
use crate::failure::Failure;
use crate::settings::ServerSettings;
use crate::source::dump_row::{DumpRow, json_of, understand};

/// Hands each row of a table to `each`. `table` may be preceded by its schema or database and a dot.
///
/// # Errors
/// Exit 65 for a table that is not there or lacks a column; else as for every question to the server. Also what `each`
/// returns.
pub fn read(
    settings: &ServerSettings,
    table: &str,
    reader: &Reader,
    each: &mut dyn FnMut(DumpRow) -> Result<(), Failure>,
) -> Result<()> {
    const KEY: &str = "--table";
    let mut link = Link::to(settings);
    let text = format!("SELECT * FROM {}", quoted(table, settings.engine)?);
    let (query, found) =
        queries::checked(&mut link, KEY, &text, &[]).map_err(|err| match err.downcast::<Failure>() {
            // A name on the command line is no configuration.
            Ok(failure) => Failure::data(failure.what, "name the table with --table, and let the user read it").into(),
            Err(err) => err,
        })?;
    let columns = Columns::find(found.iter().map(|column| column.name.clone()).collect())
        .map_err(|problem| Failure::data(format!("the table {table} {problem}"), "name another with --table"))?;
    let question = Question { query: &query, columns: &found, values: &[] };
    let name = link.name().to_owned();
    let mut number = 0_u64;
    link.read(&question, &mut |row: Vec<Stored>| {
        number += 1;
        let field = |at: usize| row[at].field().map(|text| text.map(Cow::Owned));
        let place = || match columns.place(Column::Id).and_then(|at| field(at).ok()?) {
            Some(id) => format!("{name}: row {}", shown(&id)),
            None => format!("{name}: row number {number}"),
        };
        let extra = |at: usize| match field(at) {
            Ok(text) => text.map_or(Value::Null, |text| Value::from(text.into_owned())),
            Err(_) => json_of((&row[at]).into()),
        };
        Ok(each(understand(reader, &columns, place, &field, extra))?)
    })
    .map_err(|trouble| link.told(KEY, trouble, false))
}

/// The name of a table as the engine reads it. Nothing but a name gets through.
fn quoted(table: &str, engine: Engine) -> Result<String, Failure> {
    let quote = match engine {
        Engine::MySql => '`',
        Engine::Postgres => '"',
    };
    let is_name = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$');
    let parts: Vec<&str> = table.split('.').collect();
    if parts.len() > 2 || !parts.iter().all(|part| is_name(part)) {
        return Err(Failure::usage(format!("{table:?} is no name of a table"), "write `--table cart_abandonment_log`"));
    }
    Ok(parts.iter().map(|part| format!("{quote}{part}{quote}")).collect::<Vec<_>>().join("."))
}
