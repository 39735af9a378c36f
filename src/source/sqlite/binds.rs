//! Whether the configured queries compare times with the kind of parameter that fits them: `doctor` tries both kinds.
//!
//! SQLite compares a text with a number without a word, and every text is greater.

use std::time::SystemTime;

use anyhow::Result;
use chrono::TimeDelta;
use rusqlite::Connection;

use super::super::Advice;
use super::super::query::EARLIEST_UNIX;
use super::Stored;
use super::queries::{CartsQuery, EARLIEST, OrderedQuery, bound, prepare, query_failed};
use crate::domain::cart::Cart;
use crate::domain::instant::{self, Instant};

/// Before every time.
const FIRST: Bound<'_> = Bound { text: EARLIEST, unix: EARLIEST_UNIX };
/// Before every shop on the web, and as many digits in Unix seconds as now: a column of texts makes a text of a number, and
/// compares digit by digit.
const TEN_DIGITS: Bound<'_> = Bound { text: "2001-09-09T01:46:40Z", unix: 1_000_000_000 };
const A_YEAR: TimeDelta = TimeDelta::days(366);

/// An instant, as a text and in Unix seconds.
#[derive(Clone, Copy)]
struct Bound<'a> {
    text: &'a str,
    unix: i64,
}

/// What a parameter is given: what it is said to be, or the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kinds {
    AsSaid,
    Swapped,
}

impl Bound<'_> {
    /// The values of a parameter of texts and of its twin in Unix seconds.
    fn values(self, text: &'static str, unix: &'static str, kinds: Kinds) -> [(&'static str, Stored); 2] {
        let values = [Stored::Text(self.text.to_owned().into()), Stored::Integer(self.unix)];
        let [first, second] = values;
        match kinds {
            Kinds::AsSaid => [(text, first), (unix, second)],
            Kinds::Swapped => [(text, second), (unix, first)],
        }
    }
}

/// What is to be said of `source.carts`.
pub(super) fn of_carts(connection: &Connection, name: &str, query: &CartsQuery) -> Result<Option<Advice>> {
    let sql = format!("SELECT 1 FROM (\n{}\n) LIMIT 1", query.text());
    let end = Instant::from(SystemTime::now()) + A_YEAR;
    let end = Bound { text: &instant::text(end), unix: end.timestamp() };
    let finds = |kinds: Kinds| {
        let [from, from_unix] = TEN_DIGITS.values(":not_before", ":not_before_unix", kinds);
        let [to, to_unix] = end.values(":idle_before", ":idle_before_unix", kinds);
        finds(connection, name, "source.carts", &sql, &[from, from_unix, to, to_unix])
    };
    Ok((!finds(Kinds::AsSaid)? && finds(Kinds::Swapped)?).then(|| Advice {
        what: "has carts that `source.carts` never finds: it compares numbers with a text, or texts with a number"
            .into(),
        remedy:
            "where the shop keeps Unix seconds, compare with :not_before_unix and :idle_before_unix; where it keeps \
                 texts, with :not_before and :idle_before"
                .into(),
    }))
}

/// What is to be said of `source.ordered`, as far as the shoppers of these carts have ordered.
pub(super) fn of_orders(
    connection: &Connection,
    name: &str,
    query: &OrderedQuery,
    carts: &[Cart],
) -> Result<Option<Advice>> {
    if !query.sql().contains(":since") {
        return Ok(None);
    }
    let finds = |cart: &Cart, cart_id: &str, since: Bound<'_>, kinds: Kinds| {
        let [text, unix] = since.values(":since", ":since_unix", kinds);
        let values = [
            (":cart_id", Stored::Text(cart_id.to_owned().into())),
            (":user_id", cart.user_id.clone().map_or(Stored::Null, |id| Stored::Text(id.into()))),
            (":email", Stored::Text(cart.email.folded().into())),
            text,
            unix,
        ];
        finds(connection, name, "source.ordered", query.sql(), &values)
    };
    let remedy =
        ":since is a text, :since_unix the same in Unix seconds: compare with the one that is like the column. ";
    let (mut finds_any, mut finds_swapped) = (false, false);
    for cart in carts {
        // Without its id: what was ordered of this cart counts whenever it was. No order is from so long after.
        let later = cart.updated_at + A_YEAR;
        let later = Bound { text: &instant::text(later), unix: later.timestamp() };
        if finds(cart, "", later, Kinds::AsSaid)? {
            let what = "finds orders by `source.ordered` however old they are: its comparison with :since always holds";
            let remedy = format!("{remedy}As it is, no one who ever bought is written to");
            return Ok(Some(Advice { what: what.into(), remedy }));
        }
        finds_any |= finds(cart, &cart.cart_id, FIRST, Kinds::AsSaid)?;
        finds_swapped |= finds(cart, &cart.cart_id, FIRST, Kinds::Swapped)?;
    }
    Ok((!finds_any && finds_swapped).then(|| Advice {
        what: "has orders that `source.ordered` never finds: it compares numbers with a text, or texts with a number"
            .into(),
        remedy: format!("{remedy}As it is, people are written to who have bought"),
    }))
}

fn finds(connection: &Connection, name: &str, key: &'static str, sql: &str, values: &[(&str, Stored)]) -> Result<bool> {
    let failed = |err: rusqlite::Error| query_failed(name, key, &err);
    let mut statement = prepare(connection, name, key, sql)?;
    let mut rows = bound(&mut statement, values).map_err(failed)?;
    Ok(rows.next().map_err(failed)?.is_some())
}
