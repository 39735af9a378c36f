//! The tables that a shop has by default, `carts`, `cart_items` and `orders`, as queries.

use anyhow::Result;
use chrono_tz::Tz;

use super::super::orders::{KEY, usual_list};
use super::super::orders_since;
use super::{Column, Kind, Link, Query, Stored, survey};
use crate::domain::address::Address;
use crate::domain::cart::Cart;
use crate::domain::engine::Engine;
use crate::domain::instant;
use crate::failure::Failure;

/// Columns of `carts`, and whether one has to be there.
const CART_COLUMNS: [(&str, bool); 11] = [
    ("cart_id", true),
    ("user_id", true),
    ("email", true),
    ("name", false),
    ("currency", true),
    ("created_at", false),
    ("updated_at", true),
    ("recovery_url", true),
    ("consent", false),
    ("locale", false),
    ("timezone", false),
];
/// Columns of `cart_items`, and what a flat row calls each.
const ITEM_COLUMNS: [(&str, &str, bool); 7] = [
    ("sku", "sku", true),
    ("name", "item_name", true),
    ("quantity", "quantity", true),
    ("unit_price", "unit_price", true),
    ("image_url", "image_url", false),
    ("url", "url", false),
    ("category", "category", false),
];
pub(super) const ORDER_COLUMNS: [&str; 3] = ["cart_id", "email", "created_at"];

/// The usual tables; what a query stands for is not looked at.
pub(super) struct Tables {
    carts: Option<CartTables>,
    orders: Option<OrderTable>,
}

struct CartTables {
    columns: Vec<Column>,
    item_columns: Vec<Column>,
    /// An order of a cart can be looked for by an index.
    orders_have_index: bool,
}

struct OrderTable {
    columns: Vec<Column>,
}

impl Tables {
    /// Looks at which columns the tables have.
    ///
    /// # Errors
    /// Exit 78 when a table or a column is missing; exit 1 when the server gives no answer.
    pub fn look(link: &mut Link, carts: bool, orders: bool) -> Result<Tables> {
        let orders = orders
            .then(|| -> Result<_> {
                let columns = columns_of(link, "orders", "source.ordered", &ORDER_COLUMNS)?;
                Ok(OrderTable { columns })
            })
            .transpose()?;
        let carts = carts
            .then(|| -> Result<_> {
                let required = |all: &[(&'static str, bool)]| -> Vec<&'static str> {
                    all.iter().filter(|(_, required)| *required).map(|(column, _)| *column).collect()
                };
                let columns = columns_of(link, "carts", "source.carts", &required(&CART_COLUMNS))?;
                let items: Vec<_> = ITEM_COLUMNS.iter().map(|(column, _, required)| (*column, *required)).collect();
                let mut items = required(&items);
                items.push("cart_id");
                let item_columns = columns_of(link, "cart_items", "source.carts", &items)?;
                let orders_have_index = orders.is_some() && survey::has_index(link, "orders", "cart_id")?;
                Ok(CartTables { columns, item_columns, orders_have_index })
            })
            .transpose()?;
        Ok(Tables { carts, orders })
    }

    /// The tables that are read.
    pub fn names(&self) -> Vec<&'static str> {
        let carts = self.carts.iter().flat_map(|_| ["carts", "cart_items"]);
        carts.chain(self.orders.iter().map(|_| "orders")).collect()
    }

    /// Stands for `source.carts`.
    pub fn carts(&self) -> Option<String> {
        let carts = self.carts.as_ref()?;
        // What is kept as anything else than times cannot be compared with one there; it is read, and compared here.
        let touched = if is_time(&carts.columns, "updated_at") {
            "(c.updated_at >= :not_before AND c.updated_at <= :idle_before OR c.updated_at IS NULL)"
        } else {
            "1 = 1"
        };
        Some(carts.select(touched))
    }

    /// Stands for `source.cart`.
    pub fn cart(&self) -> Option<String> {
        self.carts.as_ref().map(|carts| carts.select("c.cart_id = :cart_id"))
    }

    /// Stands for `source.ordered`: orders that may be meant.
    ///
    /// Servers fold less than is folded here, and know no names beside an address: an address with anything but plain
    /// characters in it is compared here.
    pub fn ordered(&self, engine: Engine) -> Option<String> {
        let orders = self.orders.as_ref()?;
        let since = if is_time(&orders.columns, "created_at") {
            "(o.created_at >= :since OR o.created_at IS NULL)"
        } else {
            "1 = 1"
        };
        let matches = match engine {
            Engine::MySql => "REGEXP",
            Engine::Postgres => "~",
        };
        Some(format!(
            "SELECT o.cart_id, o.email, o.created_at FROM orders o WHERE o.cart_id = :cart_id
             UNION ALL
             SELECT o.cart_id, o.email, o.created_at FROM orders o
             WHERE {since} AND (lower(trim(o.email)) = :email OR o.email {matches} '[^ -~]|[<\"]')"
        ))
    }
}

impl CartTables {
    fn select(&self, condition: &str) -> String {
        let has = |columns: &[Column], name: &str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
        let mut list: Vec<String> = CART_COLUMNS
            .iter()
            .map(|(column, _)| match has(&self.columns, column) {
                true => format!("c.{column} AS {column}"),
                false => format!("NULL AS {column}"),
            })
            .collect();
        list.extend(ITEM_COLUMNS.iter().map(|(column, name, _)| match has(&self.item_columns, column) {
            true => format!("i.{column} AS {name}"),
            false => format!("NULL AS {name}"),
        }));
        if self.orders_have_index {
            // Told with the cart, so that not every cart that was ordered is asked about once more.
            let ordered = "EXISTS (SELECT 1 FROM orders o WHERE o.cart_id = c.cart_id)";
            list.push(format!("CASE WHEN {ordered} THEN c.updated_at END AS ordered_at"));
        }
        format!(
            "SELECT {} FROM carts c LEFT JOIN cart_items i ON i.cart_id = c.cart_id WHERE {condition}",
            list.join(", ")
        )
    }
}

/// Stands for `source.orders`.
///
/// # Errors
/// The table cannot be read, or has nothing to tell one order from another by.
pub(super) fn orders(link: &mut Link) -> Result<String> {
    let columns = columns_of(link, "orders", KEY, &[])?;
    let has = |name: &str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    let list = usual_list(has, link.name())?;
    let since = if is_time(&columns, "created_at") { "o.created_at >= :since" } else { "1 = 1" };
    Ok(format!("SELECT {list} FROM orders o WHERE {since}"))
}

fn is_time(columns: &[Column], name: &str) -> bool {
    columns.iter().any(|column| column.name.eq_ignore_ascii_case(name) && column.kind == Kind::Time)
}

fn columns_of(link: &mut Link, table: &str, key: &str, required: &[&str]) -> Result<Vec<Column>> {
    let query = Query::parse(&format!("SELECT * FROM {table}"), link.settings.engine);
    let columns = link.describe(key, &query)?;
    let is_there = |name: &str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    let missing: Vec<&str> = required.iter().filter(|name| !is_there(name)).copied().collect();
    if missing.is_empty() {
        return Ok(columns);
    }
    let next =
        format!("name what carts and orders are called in this shop: set `{key}` to a query, as docs/guide.md shows");
    Err(Failure::config(format!("the table {table} in {} lacks {}", link.name(), missing.join(", ")), next).into())
}

/// Whether an order that may be meant, with [`ORDER_COLUMNS`], is one of the cart, or of its address and late enough. One
/// whose time cannot be read counts.
pub(super) fn counts(order: &[Stored], cart: &Cart, zone: Tz) -> bool {
    let [cart_id, email, created_at] = order else { return true };
    if cart_id.field() == Ok(Some(cart.cart_id.clone())) {
        return true;
    }
    let folds_alike = |email: &str| Address::parse(email).is_ok_and(|email| email.folded() == cart.email.folded());
    let at = created_at.field().ok().flatten().and_then(|at| instant::parse(&at, zone));
    matches!(email.field(), Ok(Some(email)) if folds_alike(&email)) && at.is_none_or(|at| at >= orders_since(cart))
}
