//! Queries that a shop configures because its tables have other names.

use anyhow::Result;
use chrono::{Datelike, TimeDelta};
use chrono_tz::Tz;
use rusqlite::{Connection, Rows, Statement};

use super::super::copied::Copied;
use super::super::orders::{self, OrderColumns, cannot_be_read};
use super::super::query::{
    EARLIEST_UNIX, LATEST_UNIX, OF_CART, OF_CARTS, OF_ORDERED, OF_ORDERS, misses_cart_id, unknown_parameter,
    wrong_columns,
};
use super::super::raw::{RawCart, RawField};
use super::super::rows::{Columns, Gathering};
use super::super::{Touched, as_the_earliest_text, orders_since};
use super::{Stored, both_ways, cannot_read, field};
use crate::domain::cart::Cart;
use crate::domain::instant::{self, Instant};
use crate::failure::Failure;
use crate::settings::SourceSettings;

/// Rows of one page in rollback-journal mode: some megabytes. The query runs once for each page.
const ROWS_IN_A_PAGE: usize = 20_000;
pub(super) const EARLIEST: &str = "0001-01-01T00:00:00Z";
const LATEST: &str = "9999-12-31T23:59:59Z";

/// The configured queries, checked.
pub(super) struct Queries {
    pub carts: Option<CartsQuery>,
    /// Also there when only `source.carts` is configured.
    pub cart: Option<CartQuery>,
    pub ordered: Option<OrderedQuery>,
}

/// `source.carts`.
pub(super) struct CartsQuery {
    text: String,
    columns: Columns,
}

/// `source.cart`, or `source.carts` asked for one cart.
pub(super) struct CartQuery {
    key: &'static str,
    sql: String,
    columns: Columns,
}

/// `source.ordered`.
pub(super) struct OrderedQuery {
    sql: String,
}

impl Queries {
    /// Checks each query against the database.
    ///
    /// # Errors
    /// Exit 78, with the key: not one statement, one that could write, a parameter or column that does not fit.
    pub fn check(connection: &Connection, settings: &SourceSettings, name: &str) -> Result<Queries> {
        let carts = settings.carts.as_deref().map(|text| -> Result<CartsQuery> {
            let text = checked(connection, name, "source.carts", text, &OF_CARTS)?;
            let columns = columns(connection, name, "source.carts", &format!("SELECT * FROM (\n{text}\n)"))?;
            Ok(CartsQuery { text, columns })
        });
        let carts = carts.transpose()?;
        let cart = match (settings.cart.as_deref(), &carts) {
            (Some(text), _) => {
                let key = "source.cart";
                let text = checked(connection, name, key, text, &OF_CART)?;
                if !text.contains(":cart_id") {
                    return Err(misses_cart_id(key).into());
                }
                let sql = format!("SELECT * FROM (\n{text}\n)");
                Some(CartQuery { key, columns: columns(connection, name, key, &sql)?, sql })
            }
            (None, Some(carts)) => Some(CartQuery {
                key: "source.carts",
                sql: format!("SELECT * FROM (\n{}\n) WHERE cart_id IN (:as_text, :as_number)", carts.text),
                columns: carts.columns.clone(),
            }),
            (None, None) => None,
        };
        let ordered = settings.ordered.as_deref().map(|text| -> Result<OrderedQuery> {
            let key = "source.ordered";
            let text = checked(connection, name, key, text, &OF_ORDERED)?;
            let sql = format!("SELECT 1 FROM (\n{text}\n)");
            prepare(connection, name, key, &sql)?;
            Ok(OrderedQuery { sql })
        });
        Ok(Queries { carts, cart, ordered: ordered.transpose()? })
    }
}

impl CartsQuery {
    /// The query as it is configured.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Hands out each cart of the query.
    pub fn read(
        &self,
        connection: &Connection,
        name: &str,
        touched: &Touched,
        each: &mut dyn FnMut(RawCart) -> Result<()>,
    ) -> Result<()> {
        let key = "source.carts";
        let failed = |err: rusqlite::Error| query_failed(name, key, &err);
        let (not_before, idle_before) = wide(touched);
        let mut bounds = vec![
            (":idle_before", Stored::Text(idle_before.into())),
            (":not_before", Stored::Text(not_before.into())),
            (":idle_before_unix", Stored::Integer(touched.fresh_until.timestamp())),
            (":not_before_unix", Stored::Integer(touched.not_before.timestamp())),
        ];
        let text = &self.text;
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(failed)?;
        if mode.eq_ignore_ascii_case("wal") {
            // Here a reader keeps no one from writing, so one statement may stay open.
            let sql = format!("SELECT * FROM (\n{text}\n) ORDER BY cart_id COLLATE BINARY");
            let mut statement = prepare(connection, name, key, &sql)?;
            let mut rows = bound(&mut statement, &bounds).map_err(failed)?;
            let mut gathering = Gathering::default();
            while let Some(row) = rows.next().map_err(failed)? {
                if let Some(cart) = gathering.push(self.columns.read(|at| value(row, at)), None, None) {
                    each(cart)?;
                }
            }
            return gathering.finish().map_or(Ok(()), each);
        }
        let mut after = Stored::Null;
        loop {
            // The first page also holds the carts without an id: they sort before all others.
            let condition = if after == Stored::Null { "" } else { "WHERE cart_id COLLATE BINARY > :after" };
            let sql = format!(
                "SELECT * FROM (\n{text}\n) {condition} ORDER BY cart_id COLLATE BINARY LIMIT {ROWS_IN_A_PAGE}"
            );
            bounds.retain(|(parameter, _)| *parameter != ":after");
            bounds.push((":after", after));
            let (carts, last) = self.page(connection, name, &sql, &bounds)?;
            for cart in carts {
                each(cart)?;
            }
            match last {
                Some(last) if last != Stored::Null => after = last,
                _ => return Ok(()),
            }
        }
    }

    /// The whole carts of one page, and the id of the last of them when more may follow.
    fn page(
        &self,
        connection: &Connection,
        name: &str,
        sql: &str,
        bounds: &[(&str, Stored)],
    ) -> Result<(Vec<RawCart>, Option<Stored>)> {
        let failed = |err: rusqlite::Error| query_failed(name, "source.carts", &err);
        let mut statement = prepare(connection, name, "source.carts", sql)?;
        let mut rows = bound(&mut statement, bounds).map_err(failed)?;
        let (mut gathering, mut carts) = (Gathering::default(), Vec::new());
        let (mut count, mut last_whole, mut open) = (0, None, Stored::Null);
        while let Some(row) = rows.next().map_err(failed)? {
            count += 1;
            let id: Stored = row.get(self.columns.cart_id()).map_err(failed)?;
            if let Some(cart) = gathering.push(self.columns.read(|at| value(row, at)), None, None) {
                carts.push(cart);
                last_whole = Some(open);
            }
            open = id;
        }
        if count < ROWS_IN_A_PAGE {
            carts.extend(gathering.finish());
            return Ok((carts, None));
        }
        // The page may have cut its last cart in two, so that one comes again whole; unless it alone fills the page.
        match last_whole {
            Some(last) if last != Stored::Null => Ok((carts, Some(last))),
            _ => {
                carts.extend(gathering.finish());
                Ok((carts, Some(open)))
            }
        }
    }
}

impl CartQuery {
    /// One cart.
    pub fn cart(&self, connection: &Connection, name: &str, cart_id: &str) -> Result<Option<RawCart>> {
        let failed = |err: rusqlite::Error| query_failed(name, self.key, &err);
        let [as_text, as_number] = both_ways(cart_id);
        let values = [
            (":cart_id", as_text.clone()),
            (":as_text", as_text),
            (":as_number", as_number),
            (":not_before", Stored::Text(EARLIEST.into())),
            (":idle_before", Stored::Text(LATEST.into())),
            (":not_before_unix", Stored::Integer(EARLIEST_UNIX)),
            (":idle_before_unix", Stored::Integer(LATEST_UNIX)),
        ];
        let mut statement = prepare(connection, name, self.key, &self.sql)?;
        let mut rows = bound(&mut statement, &values).map_err(failed)?;
        let mut gathering = Gathering::default();
        while let Some(row) = rows.next().map_err(failed)? {
            let (head, line) = self.columns.read(|at| value(row, at));
            if matches!(&head.cart_id, Ok(Some(id)) if id == cart_id) {
                gathering.push((head, line), None, None);
            }
        }
        Ok(gathering.finish())
    }
}

impl OrderedQuery {
    /// Selects a row when there is any.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// Whether the query has any row for a cart.
    pub fn ordered(&self, connection: &Connection, name: &str, cart: &Cart, zone: Tz) -> Result<bool> {
        let failed = |err: rusqlite::Error| query_failed(name, "source.ordered", &err);
        let values = [
            (":cart_id", Stored::Text(cart.cart_id.clone().into())),
            (":user_id", cart.user_id.clone().map_or(Stored::Null, |id| Stored::Text(id.into()))),
            (":email", Stored::Text(cart.email.folded().into())),
            (":since", Stored::Text(as_the_earliest_text(orders_since(cart), zone).into())),
            (":since_unix", Stored::Integer(orders_since(cart).timestamp())),
        ];
        let mut statement = prepare(connection, name, "source.ordered", &self.sql)?;
        let mut rows = bound(&mut statement, &values).map_err(failed)?;
        Ok(rows.next().map_err(failed)?.is_some())
    }
}

/// Runs `source.orders`: its columns, and a copy of its rows.
///
/// # Errors
/// Also a query that cannot be used: it is looked at only here, where nothing depends on it.
pub(super) fn orders(
    connection: &Connection,
    name: &str,
    text: &str,
    since: Instant,
    zone: Tz,
) -> Result<(OrderColumns, Copied)> {
    let text = checked(connection, name, orders::KEY, text, &OF_ORDERS)?;
    let mut statement = prepare(connection, name, orders::KEY, &format!("SELECT * FROM (\n{text}\n)"))?;
    let values = [
        (":since", Stored::Text(as_the_earliest_text(since, zone).into())),
        (":since_unix", Stored::Integer(since.timestamp())),
    ];
    let found = OrderColumns::find(statement.column_names().collect::<Vec<_>>().into_iter());
    let columns = found.map_err(|what| cannot_be_read(format!("the query `{}` on {name} {what}", orders::KEY)))?;
    let width = statement.column_count();
    let rows = bound(&mut statement, &values).map_err(|err| query_failed(name, orders::KEY, &err))?;
    Ok((columns, copied(rows, width).map_err(|err| err.told(name, orders::KEY))?))
}

/// All rows of an answer, so that nothing stays open on the shop's database.
pub(super) fn copied(mut rows: Rows<'_>, width: usize) -> Result<Copied, NotCopied> {
    let copied = Copied::begin(width).map_err(NotCopied::Caller)?;
    while let Some(row) = rows.next().map_err(NotCopied::Shop)? {
        let values: Vec<Stored> =
            (0..width).map(|at| row.get(at)).collect::<Result<_, _>>().map_err(NotCopied::Shop)?;
        copied.push(&values).map_err(NotCopied::Caller)?;
    }
    copied.end().map_err(NotCopied::Caller)
}

/// Why an answer could not be copied.
pub(super) enum NotCopied {
    Shop(rusqlite::Error),
    /// There is no room for the copy.
    Caller(anyhow::Error),
}

impl NotCopied {
    pub fn told(self, name: &str, key: &str) -> anyhow::Error {
        match self {
            NotCopied::Shop(err) => query_failed(name, key, &err).into(),
            NotCopied::Caller(err) => err,
        }
    }
}

/// Bounds that a query which compares times as texts may use: two days earlier for times of other zones, and on to the
/// year after for dates without their zeros (`2026-9-1` sorts behind `2026-12-31`). The exact comparison is made on what
/// the query finds.
fn wide(touched: &Touched) -> (String, String) {
    let days = TimeDelta::days(2);
    let from = touched.not_before.checked_sub_signed(days).filter(|at| at.year() > 0);
    let to = touched.fresh_until.checked_add_signed(days).filter(|at| at.year() < 9999);
    let to = to.map_or_else(|| LATEST.to_owned(), |at| format!("{:04}-01-01T00:00:00Z", at.year() + 1));
    (from.map_or_else(|| EARLIEST.to_owned(), instant::text), to)
}

fn value(row: &rusqlite::Row<'_>, index: usize) -> RawField {
    row.get_ref(index).map_or(Ok(None), field)
}

pub(super) fn bound<'a>(statement: &'a mut Statement<'_>, values: &[(&str, Stored)]) -> rusqlite::Result<Rows<'a>> {
    for (name, value) in values {
        if let Some(index) = statement.parameter_index(name)? {
            statement.raw_bind_parameter(index, value)?;
        }
    }
    Ok(statement.raw_query())
}

/// The text of a query without the semicolon at its end, once it is known to be one that can be used.
pub(super) fn checked(
    connection: &Connection,
    name: &str,
    key: &'static str,
    text: &str,
    parameters: &[&str],
) -> Result<String> {
    let wrong = |what: &str| Failure::config(format!("the query `{key}` {what}"), "write one SELECT");
    let statement = match connection.prepare(text) {
        Err(rusqlite::Error::MultipleStatement) => {
            return Err(wrong("has more than one statement").into());
        }
        other => other.map_err(|err| query_failed(name, key, &err))?,
    };
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(wrong("is not one that only reads").into());
    }
    for index in 1..=statement.parameter_count() {
        let parameter = statement.parameter_name(index).unwrap_or("?");
        if !parameters.contains(&parameter) {
            return Err(unknown_parameter(key, parameter, parameters).into());
        }
    }
    Ok(text.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace()).to_owned())
}

fn columns(connection: &Connection, name: &str, key: &'static str, sql: &str) -> Result<Columns> {
    let statement = prepare(connection, name, key, sql)?;
    let columns = Columns::find(statement.column_names().collect::<Vec<_>>().into_iter());
    Ok(columns.map_err(|what| wrong_columns(key, name, &what))?)
}

pub(super) fn prepare<'a>(
    connection: &'a Connection,
    name: &str,
    key: &'static str,
    sql: &str,
) -> Result<Statement<'a>> {
    Ok(connection.prepare(sql).map_err(|err| query_failed(name, key, &err))?)
}

/// A query that SQLite does not take is the configuration's fault; a database that gives no answer is not.
pub(super) fn query_failed(name: &str, key: &str, err: &rusqlite::Error) -> Failure {
    use rusqlite::ErrorCode;
    match err.sqlite_error_code() {
        Some(ErrorCode::Unknown | ErrorCode::TypeMismatch | ErrorCode::TooBig) | None => {
            let what = format!("the query `{key}` cannot be used on {name}: {err}");
            Failure::config(what, "try it in the `sqlite3` shell on that file, and correct it in the configuration")
        }
        Some(_) => cannot_read(name, err),
    }
}
