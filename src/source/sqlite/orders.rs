//! The table of orders that a shop has by default.

use anyhow::Result;
use chrono_tz::Tz;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params_from_iter};

use super::super::orders_since;
use super::schema::select_list;
use super::times::{self, any_of};
use super::{Stored, both_ways, field};
use crate::domain::address::Address;
use crate::domain::cart::Cart;
use crate::domain::instant::{self, Instant};

const ORDER_COLUMNS: [(&str, bool); 3] = [("cart_id", true), ("email", true), ("created_at", true)];

/// `orders`.
pub(super) struct OrderTable {
    texts_only: bool,
}

impl OrderTable {
    /// Looks at which columns the table has.
    ///
    /// # Errors
    /// Exit 78 when the table or a column is missing; exit 1 when the database cannot be read.
    pub fn inspect(connection: &Connection, name: &str) -> Result<OrderTable> {
        let (_, types) = select_list(connection, name, "orders", &ORDER_COLUMNS, "source.ordered")?;
        Ok(OrderTable { texts_only: types.get("created_at").is_some_and(|declared| times::holds_texts_only(declared)) })
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
