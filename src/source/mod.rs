//! Where carts and orders are read: the shop's database, or a file it exports. Nothing here ever writes to either.
//!
//! Whatever a row holds, reading goes on: a row that cannot be used is handed over as a [`BadRow`]. Only what makes
//! every row doubtful (a missing file, a wrong query, a locked database) is an error, and then nothing is sent.

pub mod audience;
mod cart_index;
mod copied;
pub mod coupons;
pub mod dump_row;
pub mod file;
mod html_names;
pub mod old_log;
pub mod opt_outs;
mod orders;
mod query;
mod raw;
mod recipient;
mod rows;
#[cfg_attr(not(all(feature = "mysql", feature = "postgres")), allow(dead_code, reason = "what the other one needs"))]
mod server;
mod sqlite;
mod stored;
pub mod suppressions;

use anyhow::Result;
use chrono::TimeDelta;
use chrono_tz::Tz;

use crate::domain::cart::Cart;
use crate::domain::instant::Instant;
use crate::domain::recovery::Order;
use crate::settings::{SourceKind, SourceSettings};

/// Which carts are wanted: those with `not_before <= updated_at <= fresh_until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touched {
    pub not_before: Instant,
    /// What was touched later is not idle yet: its shopper may still be at it, so that no one is told of what is bad in it.
    pub idle_before: Instant,
    /// At or after `idle_before`.
    pub fresh_until: Instant,
}

impl Touched {
    /// Whether a cart that was touched then is wanted.
    pub fn holds(&self, updated_at: Instant) -> bool {
        self.not_before <= updated_at && updated_at <= self.fresh_until
    }
}

/// A cart that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// `carts.csv:17`, `carts.jsonl:3`, or `shop.db: cart c7`. Holds no control character.
    pub place: String,
    /// For example `no address`. Holds no control character.
    pub problem: String,
    /// The same for the same problem in later readings, wherever the row has moved to: report each key once.
    ///
    /// All carts without an address share one key: most shops have them, and no one corrects them.
    pub key: String,
    /// The cart has no address: an anonymous shopper's, usually.
    pub is_anonymous: bool,
}

/// One cart of a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    Cart(Box<Cart>),
    Bad(BadRow),
}

/// One cart as it is right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    Cart(Box<Cart>),
    /// The shop does not hold it any more.
    Gone,
    /// It is there, and cannot be used.
    Bad(BadRow),
}

/// How much a reading looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadSummary {
    /// All carts looked at, bad ones too. A file is read whole; a database hands out little more than what was asked for.
    pub carts_seen: u64,
    /// Of those, the carts that were touched too early or too late to be wanted.
    pub outside: u64,
}

/// What a reading of orders found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrdersRead {
    pub orders: u64,
    /// Of those, the ones whose total is not known.
    pub without_total: u64,
    /// Rows that are no order: without an id, or a time that can be read.
    pub unusable: u64,
    /// What is wrong with the first of those. Holds no control character.
    pub first_unusable: Option<String>,
}

/// Something that carts and orders can be read from.
pub trait Source {
    /// Hands each cart of `touched`, and each row whose time cannot be read, to `each`; in no particular order.
    ///
    /// Memory does not grow with the number of carts. No statement on a shop's database in rollback-journal mode is
    /// open while `each` runs.
    ///
    /// # Errors
    /// The source cannot be read, or a file changed meanwhile: discard whatever was handed over. Also what `each` returns.
    fn read_carts(&mut self, touched: &Touched, each: &mut dyn FnMut(Row) -> Result<()>) -> Result<ReadSummary>;

    /// Reads one cart again, as it is now: the last look before it is written to.
    ///
    /// # Errors
    /// The source gives no answer; then nothing may be sent.
    fn cart(&mut self, cart_id: &str) -> Result<Look>;

    /// Whether this very cart was ever ordered, or its folded address ordered at or after the cart's `created_at`
    /// (without one, 24 hours before its `updated_at`). An order whose time cannot be read counts.
    ///
    /// # Errors
    /// The source gives no answer; then nothing may be sent.
    fn ordered(&mut self, cart: &Cart) -> Result<bool>;

    /// Hands each order placed at or after `since` to `each`; in no particular order. No statement is open on the shop's
    /// database while `each` runs.
    ///
    /// # Errors
    /// The source has no orders that can be told apart, or gives no answer. Also what `each` returns.
    fn orders(&mut self, since: Instant, each: &mut dyn FnMut(Order) -> Result<()>) -> Result<OrdersRead>;

    /// What works, and could be better.
    ///
    /// # Errors
    /// The source cannot be read.
    fn advice(&mut self) -> Result<Vec<Advice>> {
        Ok(Vec::new())
    }

    /// What the configured queries most likely do not do as they are meant to, tried on these carts.
    ///
    /// # Errors
    /// The source cannot be read.
    fn doubts(&mut self, _carts: &[Cart]) -> Result<Vec<Advice>> {
        Ok(Vec::new())
    }
}

/// Something about a source that works, and could be better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// As it goes on from "the source …": `is read by a user who may also write`.
    pub what: String,
    pub remedy: String,
}

impl Advice {
    /// The statements that would give large tables the indexes without which each look reads them whole.
    fn of_indexes(missing: &[(&str, &str)]) -> Option<Advice> {
        let statement = |(table, column): &(&str, &str)| format!("CREATE INDEX {table}_{column} ON {table} ({column})");
        let statements: Vec<String> = missing.iter().map(statement).collect();
        (!statements.is_empty()).then(|| Advice {
            what: "has what carts are read from, but a run reads large tables whole".into(),
            remedy: format!("let the shop run: {}", statements.join("; ")),
        })
    }
}

/// Opens the shop's source and checks that it has what carts are read from.
///
/// # Errors
/// Exit 78 for a missing file, table, column or key and for a query that cannot be used; exit 1 when the source is
/// there but busy or unreadable.
pub fn open(settings: &SourceSettings) -> Result<Box<dyn Source>> {
    let timezone = settings.timezone;
    let source: Box<dyn Source> = match &settings.kind {
        SourceKind::Sqlite(path) => Box::new(sqlite::ShopDatabase::open(path, settings)?),
        SourceKind::JsonLines(path) => {
            Box::new(file::FileSource::open(path.clone(), timezone, file::jsonl::JsonLines)?)
        }
        SourceKind::Csv(path) => Box::new(file::FileSource::open(path.clone(), timezone, file::csv::Csv)?),
        SourceKind::Server(server) => Box::new(server::ShopServer::open(server, settings)?),
    };
    Ok(if settings.html_names { Box::new(html_names::HtmlNames(source)) } else { source })
}

/// From when on an order by the same address means that this cart needs no mail: since the cart was created, but no longer
/// than 30 days before it was touched.
fn orders_since(cart: &Cart) -> Instant {
    // Saturating: a time at the very edge of what can be written must not end the run.
    let before = |span| cart.updated_at.checked_sub_signed(span).unwrap_or(Instant::MIN_UTC);
    cart.created_at.map_or_else(|| before(TimeDelta::hours(24)), |at| at.max(before(TimeDelta::days(30))))
}

/// No clock that people go by is set back by more than this (Troll station in Antarctica, each autumn).
const LONGEST_WAY_BACK: TimeDelta = TimeDelta::hours(2);

/// An instant as the text that sorts before every spelling of a later one that a shop may store: with a blank, which sorts
/// before `T`, and by the earlier of both clocks, UTC and that of the source, less what such a clock may be set back by.
/// What a query finds is not compared again, so it must find too many orders (of the same day, where they are written with
/// `T`) rather than too few: someone who has bought is not written to.
fn as_the_earliest_text(at: Instant, zone: Tz) -> String {
    let wall = at.with_timezone(&zone).naive_local();
    let earliest = if wall == at.naive_utc() {
        wall
    } else {
        at.naive_utc().min(wall.checked_sub_signed(LONGEST_WAY_BACK).unwrap_or(wall))
    };
    earliest.format(WALL_TIME).to_string()
}

/// A wall time as databases take it for a column of any kind of time.
const WALL_TIME: &str = "%Y-%m-%d %H:%M:%S";

#[cfg(test)]
mod tests;
