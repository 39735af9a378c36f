//! Orders as rows, to be held against the mail: what a configured query gives, and the usual table.

use anyhow::Result;
use chrono_tz::Tz;

use super::OrdersRead;
use super::copied::Copied;
use super::raw::{RawField, is_absent, printable};
use super::stored::field;
use crate::domain::address::Address;
use crate::domain::cart::Cart;
use crate::domain::column;
use crate::domain::identity;
use crate::domain::instant::{self, Instant};
use crate::domain::money::{Currency, Price, Quantity};
use crate::domain::recovery::Order;
use crate::domain::state::OrderStatus;
use crate::failure::{Exit, Failure};

/// The columns of an order, and whether one has to be there.
const COLUMNS: [(&str, bool); 8] = [
    ("order_id", true),
    ("cart_id", false),
    ("user_id", false),
    ("email", true),
    ("ordered_at", true),
    ("total", false),
    ("currency", false),
    ("status", false),
];

/// What the key of the query is called.
pub(super) const KEY: &str = "source.orders";

/// Where each column of an order stands in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OrderColumns([Option<usize>; COLUMNS.len()]);

impl OrderColumns {
    /// Finds the columns by their names; case does not matter, nor do columns that are not known here.
    ///
    /// # Errors
    /// A text that names the columns which are missing.
    pub fn find<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<OrderColumns, String> {
        let found = COLUMNS.map(|(wanted, _)| match wanted {
            "email" => column::place(names.clone(), column::ADDRESS),
            wanted => column::place(names.clone(), &[wanted]),
        });
        let missing = COLUMNS.iter().zip(&found).filter(|((_, required), place)| *required && place.is_none());
        let missing: Vec<&str> = missing.map(|((name, _), _)| *name).collect();
        match missing.as_slice() {
            [] => Ok(OrderColumns(found)),
            missing => Err(format!("lacks {}", missing.join(", "))),
        }
    }

    /// The order of a row; otherwise what is wrong with it.
    fn order(&self, mut value: impl FnMut(usize) -> RawField, zone: Tz) -> Result<Order, String> {
        let [order_id, cart_id, user_id, email, ordered_at, total, currency, status] =
            self.0.map(|place| place.map_or(Ok(None), &mut value).unwrap_or(None).filter(|text| !is_absent(text)));
        let order_id = order_id.ok_or("an order has no order_id that can be read")?;
        let of = |what: &str| format!("the order {} has {what}", printable(&order_id, 40));
        let ordered_at = ordered_at.and_then(|at| instant::parse(&at, zone));
        let ordered_at = ordered_at.ok_or_else(|| of("no ordered_at that can be read"))?;
        let currency = currency.and_then(|code| Currency::parse(code.trim()));
        let total = total.zip(currency).and_then(|(total, currency)| Price::parse(&total, currency));
        Ok(Order {
            cart_id,
            identity: user_id.as_deref().and_then(identity::user).map(|user| format!("u:{user}")),
            folded_address: email.and_then(|email| Address::parse(&email).ok()).map(|email| email.folded().to_owned()),
            ordered_at,
            total: total.and_then(|total| total.times(Quantity::from(1))),
            status: status.map_or(OrderStatus::Placed, |status| OrderStatus::of_shop(&status)),
            order_id,
        })
    }

    /// Hands out the orders of rows that were copied, those placed before `since` left out.
    pub fn hand_out(
        &self,
        rows: &Copied,
        since: Instant,
        zone: Tz,
        each: &mut dyn FnMut(Order) -> Result<()>,
    ) -> Result<OrdersRead> {
        let mut read = OrdersRead::default();
        rows.rows(None, &mut |row| {
            let order = self.order(|at| row.get_ref(at).map_or(Ok(None), field), zone);
            read.take(order, since, each)
        })?;
        Ok(read)
    }
}

impl OrdersRead {
    /// Counts an order and hands it out, unless it was placed before.
    pub(super) fn take(
        &mut self,
        order: Result<Order, String>,
        since: Instant,
        each: &mut dyn FnMut(Order) -> Result<()>,
    ) -> Result<()> {
        match order {
            Ok(order) if order.ordered_at < since => Ok(()),
            Ok(order) => {
                self.orders += 1;
                self.without_total += u64::from(order.total.is_none());
                each(order)
            }
            Err(problem) => {
                self.unusable += 1;
                self.first_unusable.get_or_insert(problem);
                Ok(())
            }
        }
    }
}

/// The order that a cart says it became: for files, which have no orders of their own.
pub(super) fn of_cart(cart: &Cart, ordered_at: Instant) -> Order {
    Order {
        order_id: cart.cart_id.clone(),
        cart_id: Some(cart.cart_id.clone()),
        identity: cart.user_id.as_deref().and_then(identity::user).map(|user| format!("u:{user}")),
        folded_address: Some(cart.email.folded().to_owned()),
        ordered_at,
        total: cart.value(),
        status: OrderStatus::Placed,
    }
}

/// The usual table `orders` with these columns, as a query's list of columns.
///
/// # Errors
/// It has nothing to tell one order from another by, or a preset is at work that says nothing about orders.
pub(super) fn usual_list(has: impl Fn(&str) -> bool, name: &str) -> Result<String, Failure> {
    let order_id = ["order_id", "id"].into_iter().find(|column| has(column));
    let missing: Vec<&str> =
        [("order_id", order_id.is_some()), ("email", has("email")), ("created_at", has("created_at"))]
            .into_iter()
            .filter(|(_, is_there)| !is_there)
            .map(|(column, _)| column)
            .collect();
    let Some(order_id) = order_id.filter(|_| missing.is_empty()) else {
        return Err(cannot_be_read(format!("the table orders in {name} lacks {}", missing.join(", "))));
    };
    let optional = |column: &str| if has(column) { format!("o.{column}") } else { "NULL".into() };
    let mut list = format!("o.{order_id} AS order_id, o.email AS email, o.created_at AS ordered_at");
    for column in ["cart_id", "user_id", "total", "currency", "status"] {
        list += &format!(", {} AS {column}", optional(column));
    }
    Ok(list)
}

/// Orders that cannot be read for what the configuration or the shop's tables say.
pub(super) fn cannot_be_read(what: String) -> Failure {
    Failure::new(
        Exit::NeedsAPerson,
        what,
        "set `source.orders` to a query with order_id, cart_id, user_id, email, ordered_at, total, currency and status, as \
         docs/recovery.md shows; or remove [attribution]",
    )
}
