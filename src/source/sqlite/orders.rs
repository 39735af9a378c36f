//! The table of orders that a shop has by default.

use std::collections::HashMap;

use anyhow::Result;
use chrono_tz::Tz;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params_from_iter};

use super::super::copied::Copied;
use super::super::orders::{KEY, OrderColumns, cannot_be_read, usual_list};
use super::super::raw::RawField;
use super::super::{Row, orders_since};
use super::queries::copied;
use super::schema::{Serves, has_index, select_list, types_of};
use super::times::{self, any_of};
use super::{Stored, both_ways, cannot_read, field, json_of_ids};
use crate::domain::address::Address;
use crate::domain::cart::Cart;
use crate::domain::instant::{self, Instant};

const ORDER_COLUMNS: [(&str, bool); 3] = [("cart_id", true), ("email", true), ("created_at", true)];

/// `orders`.
pub(super) struct OrderTable {
    texts_only: bool,
    /// Whether many can be looked for at once by these columns: without an index each look reads the table whole.
    cart_ids_have_index: bool,
    addresses_have_index: bool,
}

impl OrderTable {
    /// Looks at which columns the table has.
    ///
    /// # Errors
    /// Exit 78 when the table or a column is missing; exit 1 when the database cannot be read.
    pub fn inspect(connection: &Connection, name: &str) -> Result<OrderTable> {
        let (_, types) = select_list(connection, name, "orders", &ORDER_COLUMNS, "source.ordered")?;
        let has_index =
            |column| has_index(connection, "orders", column, Serves::Any).map_err(|err| cannot_read(name, &err));
        let (cart_ids_have_index, addresses_have_index) = (has_index("cart_id")?, has_index("email")?);
        let texts_only = types.get("created_at").is_some_and(|declared| times::holds_texts_only(declared));
        Ok(OrderTable { texts_only, cart_ids_have_index, addresses_have_index })
    }

    /// Marks those of many carts that were ordered, as far as looks by an index tell: by cart, and by the address as it is
    /// spelled. [`OrderTable::ordered`] looks closer at one.
    pub fn mark(&self, connection: &Connection, rows: &mut [Row], zone: Tz) -> rusqlite::Result<()> {
        let mut carts: Vec<&mut Cart> = rows
            .iter_mut()
            .filter_map(|row| match row {
                Row::Cart(cart) if cart.ordered_at.is_none() => Some(&mut **cart),
                _ => None,
            })
            .collect();
        if carts.is_empty() {
            return Ok(());
        }
        let (mut by_cart, mut by_address) = (HashMap::new(), HashMap::new());
        if self.cart_ids_have_index {
            let ids = json_of_ids(carts.iter().map(|cart| cart.cart_id.as_str()));
            by_cart = orders_with(connection, "cart_id", &ids)?;
        }
        if self.addresses_have_index {
            let spellings = carts.iter().flat_map(|cart| [cart.email.folded().to_owned(), cart.email.to_string()]);
            let spellings = serde_json::Value::from_iter(spellings).to_string();
            by_address = orders_with(connection, "email", &spellings)?;
        }
        for cart in &mut carts {
            let read = |at: &RawField| at.as_ref().ok().and_then(|at| instant::parse(at.as_deref()?, zone));
            let at = match by_cart.get(&cart.cart_id).and_then(|orders| orders.first()) {
                Some(at) => Some(read(at)),
                None => {
                    let since = orders_since(cart);
                    let orders = [cart.email.folded(), &cart.email.to_string()].map(|email| by_address.get(email));
                    let mut orders = orders.into_iter().flatten().flatten().map(read);
                    orders.find(|at| at.is_none_or(|at| at >= since))
                }
            };
            // An order counts also where its time cannot be read.
            cart.ordered_at = at.map(|at| at.unwrap_or(cart.updated_at));
        }
        Ok(())
    }

    /// Whether the cart was ordered, or its address ordered since; an order whose time cannot be read counts.
    pub fn ordered(&self, connection: &Connection, cart: &Cart, zone: Tz) -> rusqlite::Result<bool> {
        let mut by_cart = connection.prepare_cached("SELECT cart_id FROM orders WHERE cart_id IN (?1, ?2)")?;
        let mut rows = by_cart.query(both_ways(&cart.cart_id))?;
        while let Some(row) = rows.next()? {
            if field(row.get_ref(0)?) == Ok(Some(cart.cart_id.clone())) {
                return Ok(true);
            }
        }
        drop(rows);
        let (folded, since) = (cart.email.folded(), orders_since(cart));
        let counts = |email: ValueRef<'_>, created_at: ValueRef<'_>| {
            let same =
                matches!(field(email), Ok(Some(email)) if Address::parse(&email).is_ok_and(|e| e.folded() == folded));
            let at = field(created_at).ok().flatten().and_then(|at| instant::parse(&at, zone));
            same && at.is_none_or(|at| at >= since)
        };
        // As most shops spell it: an index on the address answers at once.
        let as_spelled = cart.email.to_string();
        let mut by_email = connection.prepare_cached("SELECT email, created_at FROM orders WHERE email IN (?1, ?2)")?;
        let mut rows = by_email.query([folded, &as_spelled])?;
        while let Some(row) = rows.next()? {
            if counts(row.get_ref(0)?, row.get_ref(1)?) {
                return Ok(true);
            }
        }
        drop(rows);
        // In any other spelling: SQLite folds ASCII only and knows no names beside an address, so one with anything else
        // in it is folded here.
        for range in times::ranges(self.texts_only, since, Instant::MAX_UTC) {
            let mut parameters = vec![Stored::Text(folded.into())];
            let near = any_of(&[range], "created_at", &mut parameters);
            let mut since = connection.prepare_cached(&format!(
                "SELECT email, created_at FROM orders
                 WHERE ({near}) AND (lower(trim(email)) = ?1 OR email GLOB '*[^ -~]*' OR email GLOB '*[<\"]*')"
            ))?;
            let mut rows = since.query(params_from_iter(parameters))?;
            while let Some(row) = rows.next()? {
                if counts(row.get_ref(0)?, row.get_ref(1)?) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// The orders of the usual table that may be of `since` or later: their columns, and a copy of the rows.
pub(super) fn usual_orders(connection: &Connection, name: &str, since: Instant) -> Result<(OrderColumns, Copied)> {
    let types = types_of(connection, name, "orders")?;
    let list = usual_list(|column| types.contains_key(column), name)?;
    let texts_only = types.get("created_at").is_some_and(|declared| times::holds_texts_only(declared));
    let mut parameters = Vec::new();
    let near = any_of(&times::ranges(texts_only, since, Instant::MAX_UTC), "o.created_at", &mut parameters);
    let failed = |err: rusqlite::Error| cannot_read(name, &err);
    let mut statement = connection.prepare(&format!("SELECT {list} FROM orders o WHERE {near}")).map_err(failed)?;
    let columns =
        OrderColumns::find(statement.column_names().collect::<Vec<_>>().into_iter()).map_err(cannot_be_read)?;
    let width = statement.column_count();
    let rows = statement.query(params_from_iter(parameters)).map_err(failed)?;
    Ok((columns, copied(rows, width).map_err(|err| err.told(name, KEY))?))
}

/// The times of the orders whose column has one of these values, by that value.
fn orders_with(
    connection: &Connection,
    column: &str,
    values: &str,
) -> rusqlite::Result<HashMap<String, Vec<RawField>>> {
    let sql = format!("SELECT {column}, created_at FROM orders WHERE {column} IN (SELECT value FROM json_each(?1))");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([values])?;
    let mut found: HashMap<String, Vec<RawField>> = HashMap::new();
    while let Some(row) = rows.next()? {
        if let Ok(Some(value)) = field(row.get_ref(0)?) {
            found.entry(value).or_default().push(field(row.get_ref(1)?));
        }
    }
    Ok(found)
}
