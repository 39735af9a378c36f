//! What `doctor` says about a server: rights that are more than reading, missing indexes, clock, replica.

use std::time::{Duration, SystemTime};

use anyhow::Result;

use super::super::Advice;
use super::{Link, Queries, Query, Question};
use crate::domain::engine::Engine;
use crate::shops::Preset;

/// The key of these queries, should one fail.
const KEY: &str = "doctor";
/// Clocks that differ by more make carts idle too early or too late; a replica that lags by more does not know of orders.
const NOTICEABLE: Duration = Duration::from_secs(60);
/// So many rows, and reading a table whole takes longer than all else in a run with nothing to do.
const MANY_ROWS: usize = 10_000;
/// Where each look at the usual tables goes.
const LOOKS: [(&str, &str); 5] = [
    ("carts", "updated_at"),
    ("carts", "cart_id"),
    ("cart_items", "cart_id"),
    ("orders", "cart_id"),
    ("orders", "created_at"),
];
/// Rights of MySQL and MariaDB with which nothing can be changed.
const HARMLESS: [&str; 9] = [
    "USAGE",
    "SELECT",
    "SHOW VIEW",
    "SHOW DATABASES",
    "PROCESS",
    "REPLICATION CLIENT",
    "BINLOG MONITOR",
    "REPLICA MONITOR",
    "SLAVE MONITOR",
];

/// What works, and could be better.
pub(super) fn advice(link: &mut Link, queries: &Queries) -> Result<Vec<Advice>> {
    let mut advice = Vec::new();
    let rights = match link.settings.engine {
        Engine::MySql => rights_in_mysql(link)?,
        Engine::Postgres => rights_in_postgres(link)?,
    };
    if let Some(rights) = rights {
        advice.push(Advice {
            what: format!("is read by a user who may do more than read: {rights}"),
            remedy: "give mailonce a user of its own that may SELECT alone, as docs/guide.md shows".into(),
        });
    }
    let mut missing = Vec::new();
    for (table, column) in LOOKS.into_iter().filter(|(table, _)| queries.tables.names().contains(table)) {
        if is_table(link, table)? && !has_index(link, table, column)? && has_many_rows(link, table)? {
            missing.push((table, column));
        }
    }
    advice.extend(Advice::of_indexes(&missing));
    let ahead = seconds_ahead(link)?;
    if ahead.abs() > NOTICEABLE.as_secs_f64() {
        let by = humantime::format_duration(Duration::from_secs(ahead.abs() as u64));
        let where_to = if ahead > 0.0 { "ahead of" } else { "behind" };
        advice.push(Advice {
            what: format!("has a clock that is {by} {where_to} this machine's: carts seem touched at another time"),
            remedy: "set both clocks by NTP (`timedatectl` shows whether this one is)".into(),
        });
    }
    let lag = link.ask(|server, _| Ok(server.replica_lag()?)).map_err(|trouble| link.told(KEY, trouble, false))?;
    if let Some(lag) = lag.filter(|lag| *lag > NOTICEABLE) {
        let lag = humantime::format_duration(Duration::from_secs(lag.as_secs()));
        advice.push(Advice {
            what: format!("is a replica that lags {lag} behind: it does not know who has ordered since"),
            remedy: "name the main server in `source.url`, or see why the replica is slow".into(),
        });
    }
    Ok(advice)
}

fn rights_in_mysql(link: &mut Link) -> Result<Option<String>> {
    let of_user = "FROM information_schema.{}_privileges WHERE grantee = CONCAT('''',
        LEFT(CURRENT_USER(), CHAR_LENGTH(CURRENT_USER()) - CHAR_LENGTH(SUBSTRING_INDEX(CURRENT_USER(), '@', -1)) - 1),
        '''@''', SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '''')";
    let rights = [
        ("user", "'*.*'"),
        ("schema", "CONCAT(table_schema, '.*')"),
        ("table", "CONCAT(table_schema, '.', table_name)"),
    ]
    .map(|(level, place)| format!("SELECT {place} AS place, privilege_type {}", of_user.replace("{}", level)));
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for row in rows(link, &rights.join(" UNION ALL "))? {
        let [place, right] = <[String; 2]>::try_from(row).unwrap_or_default();
        if HARMLESS.contains(&right.as_str()) {
            continue;
        }
        match found.iter_mut().find(|(known, _)| *known == place) {
            Some((_, rights)) => rights.push(right),
            None => found.push((place, vec![right])),
        }
    }
    let shown: Vec<String> =
        found.iter().take(4).map(|(place, rights)| format!("{} on {place}", some_of(rights))).collect();
    Ok((!shown.is_empty()).then(|| shown.join("; ")))
}

fn rights_in_postgres(link: &mut Link) -> Result<Option<String>> {
    let is_superuser = rows(link, "SELECT 1 AS found FROM pg_roles WHERE rolname = current_user AND rolsuper")?;
    if !is_superuser.is_empty() {
        return Ok(Some("everything, as a superuser".into()));
    }
    let writable = rows(
        link,
        "SELECT n.nspname || '.' || c.relname AS found FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'v', 'f') AND n.nspname <> 'information_schema' AND left(n.nspname, 3) <> 'pg_'
           AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') ORDER BY 1 LIMIT 5",
    )?;
    let tables: Vec<String> = writable.into_iter().flatten().collect();
    Ok((!tables.is_empty()).then(|| format!("INSERT, UPDATE, DELETE or TRUNCATE on {}", some_of(&tables))))
}

/// The first four, and that there are more.
fn some_of(names: &[String]) -> String {
    let more = if names.len() > 4 { " and more" } else { "" };
    format!("{}{more}", names[..names.len().min(4)].join(", "))
}

fn is_table(link: &mut Link, table: &str) -> Result<bool> {
    let sql = match link.settings.engine {
        Engine::MySql => format!(
            "SELECT 1 AS found FROM information_schema.tables
             WHERE table_schema = DATABASE() AND table_name = '{table}' AND table_type = 'BASE TABLE'"
        ),
        Engine::Postgres => {
            format!("SELECT 1 AS found FROM pg_class WHERE oid = to_regclass('{table}') AND relkind IN ('r', 'p')")
        }
    };
    Ok(!rows(link, &sql)?.is_empty())
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

fn has_many_rows(link: &mut Link, table: &str) -> Result<bool> {
    let sql = format!("SELECT count(*) AS found FROM (SELECT 1 AS one FROM {table} LIMIT {MANY_ROWS}) AS first");
    Ok(rows(link, &sql)?.into_iter().flatten().any(|count| count == MANY_ROWS.to_string()))
}

/// How far the server's clock is ahead of ours; the way there and back counts as none.
fn seconds_ahead(link: &mut Link) -> Result<f64> {
    let sql = match link.settings.engine {
        Engine::MySql => "SELECT UNIX_TIMESTAMP(NOW(6)) AS found",
        Engine::Postgres => "SELECT extract(epoch FROM clock_timestamp()) AS found",
    };
    let there: Option<f64> = rows(link, sql)?.into_iter().flatten().next().and_then(|text| text.parse().ok());
    let here = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(there.map_or(0.0, |there| there - here.as_secs_f64()))
}

/// The looks of a preset at large tables that no index serves, not even one for some of their rows.
pub(super) fn unserved(link: &mut Link, preset: &Preset) -> Result<Vec<Advice>> {
    let mut advice = Vec::new();
    for (table, column, remedy) in preset.looks() {
        let partial = format!(
            "SELECT 1 AS found FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
             WHERE i.indrelid = to_regclass('{table}') AND a.attname = '{column}'"
        );
        let is_served = match link.settings.engine {
            Engine::MySql => has_index(link, &table, column)?,
            Engine::Postgres => !rows(link, &partial)?.is_empty(),
        };
        let quoted = match link.settings.engine {
            Engine::MySql => format!("`{table}`"),
            Engine::Postgres => format!("\"{table}\""),
        };
        if !is_served && has_many_rows(link, &quoted)? {
            advice.push(Advice { what: format!("has no index by which {table} is looked into by {column}"), remedy });
        }
    }
    Ok(advice)
}

/// The rows of a query of our own, as texts.
fn rows(link: &mut Link, sql: &str) -> Result<Vec<Vec<String>>> {
    let query = Query::parse(sql, link.settings.engine);
    let columns = link.describe(KEY, &query)?;
    let mut rows = Vec::new();
    let question = Question { query: &query, columns: &columns, values: &[] };
    let read = link.read(&question, &mut |row| {
        rows.push(row.iter().map(|value| value.field().ok().flatten().unwrap_or_default()).collect());
        Ok(())
    });
    read.map_err(|trouble| link.told(KEY, trouble, false))?;
    Ok(rows)
}
