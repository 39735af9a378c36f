//! Presets: the queries for shops that many people run, and what one has to know about each.
//!
//! The queries of a shop are in the folder of its name. In them, `{prefix}` is `source.table_prefix`, `{which}` the
//! condition on one cart or on those of a time, `{stores:COLUMN}` the one on `source.stores`, `{base_url:SQL}` and
//! `{language:SQL}` the key's value as a literal, or that SQL where it is not set.

mod list;
mod preset;

pub use list::SHOPS;
pub use preset::Preset;

use crate::domain::engine::Engine;

/// Which times a shop keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    Utc,
    /// Those of a wall clock; where the shop says which one.
    Wall(&'static str),
}

/// What helps where a table is looked into by a column that no index of it begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// An index on this.
    Index(&'static str),
    /// The shop has one that begins with the store, so it serves stores that are listed.
    ListStores,
}

/// A kind of shop, and how it keeps carts.
#[derive(Debug)]
pub struct Shop {
    /// As `source.shop` has it.
    pub name: &'static str,
    /// For people, with the versions.
    pub title: &'static str,
    /// The first is what most people have.
    pub engines: &'static [Engine],
    /// What its database is called where no one chose otherwise.
    pub database: &'static str,
    pub times: Times,
    /// How its tables begin where no one chose otherwise; `None` where they cannot be called otherwise.
    pub table_prefix: Option<&'static str>,
    /// What the numbers in `source.stores` are; `None` where the shop has none.
    pub stores: Option<&'static str>,
    /// Whether texts are chosen by `source.language`.
    pub has_language: bool,
    /// Whether the database does not say where the shop is, so that `source.base_url` must.
    pub asks_base_url: bool,
    /// Whether names are kept as HTML.
    pub html_names: bool,
    /// What is wrong with the link that the preset makes, if it does not lead every shopper back to the cart.
    pub link: Option<&'static str>,
    pub carts: &'static str,
    /// The condition for carts that were touched in a time, and the one for a single cart.
    pub which: [&'static str; 2],
    pub ordered: &'static str,
    /// Orders placed, or changed, since `:since`. It reads no table that the others do not.
    pub orders: &'static str,
    /// Looks up a line by `:product_id`.
    pub product: Option<&'static str>,
    pub items: Option<Items>,
    /// Where a look goes that no index of the shop serves: tables and columns.
    pub looks: &'static [(&'static str, &'static str, Remedy)],
    /// Tables that also hold passwords or the like, and the columns that are read.
    pub narrow: &'static [(&'static str, &'static str)],
}

/// How a shop keeps the lines of a cart. Its queries return them as the column `items`, in hexadecimal digits: a text would
/// be changed by the character set of the connection, and its lengths inside would be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Items {
    /// WooCommerce's cart: products by id, with what the line costs before tax and its tax. Names are looked up by the
    /// query `product`.
    CartFlows,
    /// Shopware's tree of objects, plain or packed by zlib or zstd.
    Shopware,
}

/// The shop of this name.
///
/// # Errors
/// The name that is most like it.
pub fn find(name: &str) -> Result<&'static Shop, &'static str> {
    let likeness = |shop: &&Shop| strsim::jaro_winkler(name, shop.name);
    SHOPS.iter().find(|shop| shop.name == name).ok_or_else(|| {
        let nearest = SHOPS.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        nearest.map_or("magento2", |shop| shop.name)
    })
}
