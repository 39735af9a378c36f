//! The shop's own SQLite database, opened read-only: its tables, or queries that were configured.
//!
//! In rollback-journal mode a reader keeps the shop from writing. So carts are read in batches, each in one short
//! transaction that has ended before anything is done with what it found.

pub(super) mod audience;
mod binds;
pub(super) mod opt_outs;
mod orders;
mod queries;
mod schema;
mod tables;
mod times;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use self::orders::{OrderTable, usual_orders};
use self::queries::Queries;
use self::schema::Serves;
use self::tables::CartTables;
use super::file::{file_name, require_file, unreadable};
use super::raw::RawCart;
pub(super) use super::stored::{Stored, field};
use super::{Advice, Look, OrdersRead, ReadSummary, Row, Source, Touched};
use crate::domain::cart::Cart;
use crate::domain::instant::Instant;
use crate::domain::recovery::Order;
use crate::failure::{Exit, Failure};
use crate::output::count;
use crate::settings::SourceSettings;

/// How long to wait for a writer of the shop.
pub(super) const BUSY_FOR: Duration = Duration::from_secs(5);

/// So many carts are looked for among the orders at once.
const ROWS_IN_A_PAGE: usize = 500;

/// A shop's database.
pub(super) struct ShopDatabase {
    path: PathBuf,
    settings: SourceSettings,
    /// The file's name, for places.
    name: String,
    opened: Opened,
}

/// A connection, and what the database behind it has.
struct Opened {
    connection: Connection,
    /// Device and inode of the file.
    file: (u64, u64),
    /// Absent when `source.carts` and `source.cart` stand for them.
    tables: Option<CartTables>,
    /// Absent when `source.ordered` stands for it.
    orders: Option<OrderTable>,
    queries: Queries,
}

impl ShopDatabase {
    /// Opens the database and checks its tables, or the queries that stand for them.
    ///
    /// # Errors
    /// Exit 78 for a missing file, table, column or key and for a query that cannot be used; exit 1 when the database
    /// is locked or cannot be read.
    pub fn open(path: &Path, settings: &SourceSettings) -> Result<ShopDatabase> {
        let opened = Opened::open(path, settings)?;
        Ok(ShopDatabase { path: path.to_owned(), settings: settings.clone(), name: file_name(path), opened })
    }

    /// The connection to the file that has the path now: a shop may put another database in its place.
    fn current(&mut self) -> Result<&Opened> {
        if file_of(&self.path)? != self.opened.file {
            self.opened = Opened::open(&self.path, &self.settings)?;
        }
        Ok(&self.opened)
    }
}

impl Opened {
    fn open(path: &Path, settings: &SourceSettings) -> Result<Opened> {
        require_file(path)?;
        let file = file_of(path)?;
        let name = file_name(path);
        let connection = connect(path, &name)?;
        let queries = Queries::check(&connection, settings, &name)?;
        let with_tables = queries.carts.is_none();
        let tables = with_tables.then(|| CartTables::inspect(&connection, &name)).transpose()?;
        let with_orders = queries.ordered.is_none();
        let orders = with_orders.then(|| OrderTable::inspect(&connection, &name)).transpose()?;
        if file_of(path)? != file {
            return Err(swapped(&name).into());
        }
        Ok(Opened { connection, file, tables, orders, queries })
    }
}

impl Source for ShopDatabase {
    fn read_carts(&mut self, touched: &Touched, each: &mut dyn FnMut(Row) -> Result<()>) -> Result<ReadSummary> {
        let (zone, name) = (self.settings.timezone, self.name.clone());
        let opened = self.current()?;
        let mut summary = ReadSummary::default();
        let mut page = Vec::with_capacity(ROWS_IN_A_PAGE);
        let mut hand_out = |page: &mut Vec<Row>| -> Result<()> {
            if let Some(orders) = &opened.orders {
                orders.mark(&opened.connection, page, zone).map_err(|err| cannot_read(&name, &err))?;
            }
            page.drain(..).try_for_each(&mut *each)
        };
        let mut take = |cart: RawCart| -> Result<()> {
            summary.carts_seen += 1;
            match cart.into_row(touched, zone, &name) {
                Some(row) => page.push(row),
                None => summary.outside += 1,
            }
            if page.len() == ROWS_IN_A_PAGE { hand_out(&mut page) } else { Ok(()) }
        };
        match (&opened.queries.carts, &opened.tables) {
            (Some(query), _) => query.read(&opened.connection, &name, touched, &mut take)?,
            (None, Some(tables)) => tables.read(&opened.connection, &name, touched, zone, &mut take)?,
            (None, None) => {}
        }
        hand_out(&mut page)?;
        Ok(summary)
    }

    fn cart(&mut self, cart_id: &str) -> Result<Look> {
        let (zone, name) = (self.settings.timezone, self.name.clone());
        let opened = self.current()?;
        let found = match (&opened.queries.cart, &opened.tables) {
            (Some(query), _) => query.cart(&opened.connection, &name, cart_id)?,
            (None, Some(tables)) => tables.cart(&opened.connection, cart_id).map_err(|err| cannot_read(&name, &err))?,
            (None, None) => None,
        };
        Ok(found.map_or(Look::Gone, |cart| cart.into_look(zone, &name)))
    }

    fn ordered(&mut self, cart: &Cart) -> Result<bool> {
        if cart.ordered_at.is_some() {
            return Ok(true);
        }
        let (zone, name) = (self.settings.timezone, self.name.clone());
        let opened = self.current()?;
        match (&opened.queries.ordered, &opened.orders) {
            (Some(query), _) => query.ordered(&opened.connection, &name, cart, zone),
            (None, Some(orders)) => {
                Ok(orders.ordered(&opened.connection, cart, zone).map_err(|err| cannot_read(&name, &err))?)
            }
            (None, None) => Ok(false),
        }
    }

    fn orders(&mut self, since: Instant, each: &mut dyn FnMut(Order) -> Result<()>) -> Result<OrdersRead> {
        let (zone, name, query) = (self.settings.timezone, self.name.clone(), self.settings.orders.clone());
        let connection = &self.current()?.connection;
        let ((columns, rows), from) = match query {
            // It may find orders that were placed before and have changed since.
            Some(text) => (queries::orders(connection, &name, &text, since, zone)?, Instant::MIN_UTC),
            None => (usual_orders(connection, &name, since)?, since),
        };
        columns.hand_out(&rows, from, zone, each)
    }

    fn advice(&mut self) -> Result<Vec<Advice>> {
        let name = self.name.clone();
        let Opened { connection, tables, orders, .. } = self.current()?;
        let mut missing = Vec::new();
        for (table, column, serves) in LOOKS {
            let is_read = if table == "orders" { orders.is_some() } else { tables.is_some() };
            let lacks = || schema::lacks_index(connection, table, column, serves);
            if is_read && lacks().map_err(|err| cannot_read(&name, &err))? {
                missing.push((table, column));
            }
        }
        Ok(Advice::of_indexes(&missing).into_iter().collect())
    }

    fn doubts(&mut self, carts: &[Cart]) -> Result<Vec<Advice>> {
        let name = self.name.clone();
        let Opened { connection, queries, .. } = self.current()?;
        let of_carts = queries.carts.as_ref().map(|query| binds::of_carts(connection, &name, query));
        let of_orders = queries.ordered.as_ref().map(|query| binds::of_orders(connection, &name, query, carts));
        let found = [of_carts.transpose()?.flatten(), of_orders.transpose()?.flatten()];
        Ok(found.into_iter().flatten().collect())
    }
}

/// Where each look goes, and what index serves it.
const LOOKS: [(&str, &str, Serves); 6] = [
    ("carts", "updated_at", Serves::Bytewise),
    ("carts", "cart_id", Serves::Any),
    ("cart_items", "cart_id", Serves::Bytewise),
    ("orders", "cart_id", Serves::Any),
    ("orders", "email", Serves::Any),
    ("orders", "created_at", Serves::Any),
];

/// A connection that can only read, once it has read.
fn connect(path: &Path, name: &str) -> Result<Connection, Failure> {
    let connect = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_FOR)?;
        // Besides the flag: it also holds for databases that a query might attach.
        connection.execute_batch("PRAGMA query_only = ON")?;
        // The first read of the file: not a database, locked, or without the files that WAL needs.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    };
    connect().map_err(|err| cannot_read(name, &err))
}

fn file_of(path: &Path) -> Result<(u64, u64), Failure> {
    let metadata = fs::metadata(path).map_err(|err: io::Error| unreadable(&path.display().to_string(), &err))?;
    Ok((metadata.dev(), metadata.ino()))
}

/// A cart id in both ways a shop may store it: as a text, and as a number where it is one.
///
/// Bound to a column of text or of numbers SQLite makes both the same; one without a type needs both.
fn both_ways(cart_id: &str) -> [Stored; 2] {
    let number = cart_id.parse::<i64>().ok().filter(|number| number.to_string() == cart_id);
    let text = Stored::Text(cart_id.into());
    [text.clone(), number.map_or(text, Stored::Integer)]
}

/// Cart ids as a JSON list for `json_each`, each in both ways.
fn json_of_ids<'a>(cart_ids: impl Iterator<Item = &'a str>) -> String {
    let both: Vec<serde_json::Value> = cart_ids
        .flat_map(both_ways)
        .map(|id| match id {
            Stored::Integer(number) => number.into(),
            Stored::Text(text) => String::from_utf8_lossy(&text).into(),
            _ => serde_json::Value::Null,
        })
        .collect();
    serde_json::Value::Array(both).to_string()
}

fn cannot_read(name: &str, err: &rusqlite::Error) -> Failure {
    let needs_a_person = |what: String, next: &str| Failure::new(Exit::NeedsAPerson, what, next);
    match err.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => needs_a_person(
            format!(
                "the shop's database {name} was locked for {}; nothing is sent",
                count(BUSY_FOR.as_secs(), "second")
            ),
            "the next run tries again; if this stays, look for a program that leaves a transaction open on it",
        ),
        Some(ErrorCode::NotADatabase) => Failure::config(
            format!("the source {name} is not an SQLite database"),
            "set `source.path` to the shop's database, or `source.kind` to what the file is",
        ),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) => needs_a_person(
            format!("could not open the shop's database {name}: {err}; nothing is sent"),
            "let the user who runs mailonce read the file, and write in its folder: SQLite keeps its -wal and -shm, \
             or a journal left by a crash, there",
        ),
        _ => needs_a_person(
            format!("could not read the shop's database {name}: {err}; nothing is sent"),
            "check the database with `PRAGMA integrity_check`, and its tables; the next run tries again",
        ),
    }
}

fn swapped(name: &str) -> Failure {
    Failure::new(
        Exit::NeedsAPerson,
        format!("the shop's database {name} was replaced while it was opened; nothing is sent"),
        "the next run tries again",
    )
}

#[cfg(test)]
mod tests;
