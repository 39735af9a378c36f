//! The three questions as queries: the configured ones, or those on the usual tables.

use anyhow::Result;
use chrono_tz::Tz;

use super::super::query::{OF_CART, OF_CARTS, OF_ORDERED, misses_cart_id, unknown_parameter, wrong_columns};
use super::super::rows::Columns;
use super::built_in::{self, Tables};
use super::{Column, Link, Query, Question, Stored};
use crate::domain::cart::Cart;
use crate::failure::Failure;
use crate::settings::SourceSettings;
use crate::shops::Preset;

/// The queries, checked.
pub(super) struct Queries {
    pub carts: CartsQuery,
    pub cart: CartsQuery,
    pub ordered: OrderedQuery,
    /// The usual tables, as far as no query stands for them.
    pub tables: Tables,
}

/// One row for each cart line.
pub(super) struct CartsQuery {
    /// What a person knows it by.
    pub key: &'static str,
    query: Query,
    found: Vec<Column>,
    pub columns: Columns,
    /// Where the lines stand, serialized as the shop keeps them, in place of columns of their own.
    pub items: Option<usize>,
}

/// Rows that mean: ordered.
pub(super) struct OrderedQuery {
    pub key: &'static str,
    query: Query,
    found: Vec<Column>,
    /// The rows are orders that may be meant, with [`built_in::ORDER_COLUMNS`]; without, any row is one.
    are_compared: bool,
}

impl Queries {
    /// Has the server check each query.
    ///
    /// # Errors
    /// Exit 78, with the key: not one SELECT, a parameter or column that does not fit, a missing table.
    pub fn check(link: &mut Link, settings: &SourceSettings) -> Result<Queries> {
        let tables = Tables::look(link, settings.carts.is_none(), settings.ordered.is_none())?;
        let own = |own: &Option<String>, built_in: Option<String>| own.clone().or(built_in).unwrap_or_default();
        let has_items = settings.preset.as_ref().is_some_and(Preset::has_items);
        let mut check =
            |key, text: &str, parameters: &[&str]| CartsQuery::check(link, key, text, parameters, has_items);
        let carts = check("source.carts", &own(&settings.carts, tables.carts()), &OF_CARTS)?;
        let cart = match (&settings.cart, tables.cart()) {
            (Some(text), _) => check("source.cart", text, &OF_CART)?,
            (None, Some(text)) => check("source.carts", &text, &OF_CART)?,
            (None, None) => {
                let text = format!("SELECT * FROM (\n{}\n) AS shop WHERE shop.cart_id = :cart_id", carts.query.named());
                check("source.carts", &text, &[&OF_CART[..], &OF_CARTS[..]].concat())?
            }
        };
        if !cart.query.parameters().contains(&":cart_id") {
            return Err(misses_cart_id(cart.key).into());
        }
        let key = "source.ordered";
        let (query, found) =
            checked(link, key, &own(&settings.ordered, tables.ordered(link.settings.engine)), &OF_ORDERED)?;
        let ordered = OrderedQuery { key, query, found, are_compared: settings.ordered.is_none() };
        Ok(Queries { carts, cart, ordered, tables })
    }
}

impl CartsQuery {
    fn check(
        link: &mut Link,
        key: &'static str,
        text: &str,
        parameters: &[&str],
        has_items: bool,
    ) -> Result<CartsQuery> {
        let (query, found) = checked(link, key, text, parameters)?;
        let names: Vec<&str> = found.iter().map(|column| column.name.as_str()).collect();
        let items = has_items.then(|| names.iter().position(|name| name.eq_ignore_ascii_case("items")));
        let columns = match items {
            None => Columns::find(names.into_iter()),
            Some(None) => Err("lacks the column items".to_owned()),
            Some(Some(_)) => Columns::of_heads(names.into_iter()),
        };
        let columns = columns.map_err(|what| wrong_columns(key, link.name(), &what))?;
        Ok(CartsQuery { key, query, found, columns, items: items.flatten() })
    }

    /// The query with values.
    pub fn question<'a>(&'a self, values: &'a [(&'a str, String)]) -> Question<'a> {
        Question { query: &self.query, columns: &self.found, values }
    }
}

impl OrderedQuery {
    pub fn question<'a>(&'a self, values: &'a [(&'a str, String)]) -> Question<'a> {
        Question { query: &self.query, columns: &self.found, values }
    }

    /// Whether a row says that the cart was ordered.
    pub fn counts(&self, row: &[Stored], cart: &Cart, zone: Tz) -> bool {
        !self.are_compared || built_in::counts(row, cart, zone)
    }
}

/// A query, and its columns.
pub(super) fn checked(link: &mut Link, key: &str, text: &str, parameters: &[&str]) -> Result<(Query, Vec<Column>)> {
    let query = Query::parse(text, link.settings.engine);
    if let Some(unknown) = query.parameters().into_iter().find(|name| !parameters.contains(name)) {
        return Err(unknown_parameter(key, unknown, parameters).into());
    }
    let found = link.describe(key, &query)?;
    if found.is_empty() {
        return Err(Failure::config(format!("the query `{key}` gives no column"), "write one SELECT").into());
    }
    Ok((query, found))
}
