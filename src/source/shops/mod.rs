//! Presets: the queries for shops that many people run, and what one has to know about each.
//!
//! The queries of a shop are in the folder of its name. In them, `{prefix}` is `source.table_prefix`, `{which}` the
//! condition on one cart or on those of a time, `{stores:COLUMN}` the one on `source.stores`, `{base_url:SQL}` and
//! `{language:SQL}` the key's value as a literal, or that SQL where it is not set.

mod items;
mod php;

use std::collections::BTreeSet;

use chrono_tz::Tz;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use self::items::Items;
use super::Advice;
use super::raw::{RawCart, RawField, RawLine};
use crate::domain::money::{Currency, Price};
use crate::domain::web_address::is_web_address;
use crate::settings::Engine;

/// Which times a shop keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    Utc,
    /// Those of a wall clock; where the shop says which one.
    Wall(&'static str),
}

/// What helps where a table is looked into by a column that no index of it begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
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
    carts: &'static str,
    /// The condition for carts that were touched in a time, and the one for a single cart.
    which: [&'static str; 2],
    ordered: &'static str,
    /// Looks up a line by `:product_id`.
    product: Option<&'static str>,
    items: Option<Items>,
    /// Where a look goes that no index of the shop serves: tables and columns.
    looks: &'static [(&'static str, &'static str, Remedy)],
    /// Tables that also hold passwords or the like, and the columns that are read.
    narrow: &'static [(&'static str, &'static str)],
}

const ONLY_IN_THE_BROWSER: &str =
    "the cart page, where a shopper sees the cart only in the same browser, or after logging in";

/// All of them.
pub static SHOPS: [Shop; 12] = [
    Shop {
        name: "magento2",
        title: "Magento 2.4",
        engines: &[Engine::MySql],
        database: "magento",
        times: Times::Utc,
        table_prefix: Some(""),
        stores: Some("store views (store.store_id)"),
        has_language: false,
        asks_base_url: false,
        html_names: false,
        link: Some(ONLY_IN_THE_BROWSER),
        carts: include_str!("magento2/carts.sql"),
        which: ["c.updated_at BETWEEN :not_before AND :idle_before", "c.entity_id = :cart_id"],
        ordered: include_str!("magento2/ordered.sql"),
        product: None,
        items: None,
        looks: &[
            ("{prefix}quote", "updated_at", Remedy::ListStores),
            ("{prefix}sales_order", "customer_email", Remedy::Index("(customer_email)")),
        ],
        narrow: &[],
    },
    Shop {
        name: "woocommerce",
        title: "WooCommerce 8 and later, with its own order tables (HPOS)",
        engines: &[Engine::MySql],
        database: "wordpress",
        times: Times::Utc,
        table_prefix: Some("wp_"),
        stores: None,
        has_language: false,
        asks_base_url: false,
        html_names: true,
        link: None,
        carts: include_str!("woocommerce/carts.sql"),
        which: ["c.date_updated_gmt BETWEEN :not_before AND :idle_before", "c.id = :cart_id"],
        ordered: include_str!("woocommerce/ordered.sql"),
        product: None,
        items: None,
        looks: &[],
        narrow: &[],
    },
    Shop {
        name: "woocommerce-cartflows",
        title: "WooCommerce with Cart Abandonment Recovery by CartFlows",
        engines: &[Engine::MySql],
        database: "wordpress",
        times: Times::Wall("WordPress: Settings, General, Timezone"),
        table_prefix: Some("wp_"),
        stores: None,
        has_language: false,
        asks_base_url: false,
        html_names: true,
        link: None,
        carts: include_str!("woocommerce-cartflows/carts.sql"),
        which: ["c.time BETWEEN :not_before AND :idle_before", "c.session_id = :cart_id"],
        ordered: include_str!("woocommerce-cartflows/ordered.sql"),
        product: Some(include_str!("woocommerce-cartflows/product.sql")),
        items: Some(Items::CartFlows),
        looks: &[
            ("{prefix}cartflows_ca_cart_abandonment", "time", Remedy::Index("(time)")),
            ("{prefix}cartflows_ca_cart_abandonment", "unsubscribed", Remedy::Index("(unsubscribed, email)")),
        ],
        narrow: &[],
    },
    Shop {
        name: "odoo",
        title: "Odoo 17 and 18 (website_sale)",
        engines: &[Engine::Postgres],
        database: "odoo",
        times: Times::Utc,
        table_prefix: None,
        stores: Some("websites (website.id)"),
        has_language: true,
        asks_base_url: false,
        html_names: false,
        link: None,
        carts: include_str!("odoo/carts.sql"),
        which: ["o.touched_at BETWEEN :not_before AND :idle_before AND o.write_date >= :not_before", "o.id = :cart_id"],
        ordered: include_str!("odoo/ordered.sql"),
        product: None,
        items: None,
        looks: &[("sale_order", "write_date", Remedy::Index("(write_date) WHERE state = 'draft'"))],
        narrow: &[("res_users", "id, partner_id")],
    },
    Shop {
        name: "solidus",
        title: "Solidus 3 and 4",
        engines: &[Engine::Postgres],
        database: "solidus",
        times: Times::Utc,
        table_prefix: None,
        stores: Some("stores (spree_stores.id)"),
        has_language: false,
        asks_base_url: false,
        html_names: false,
        link: Some(ONLY_IN_THE_BROWSER),
        carts: include_str!("solidus/carts.sql"),
        which: ["o.updated_at BETWEEN :not_before AND :idle_before", "o.id = :cart_id"],
        ordered: include_str!("solidus/ordered.sql"),
        product: None,
        items: None,
        looks: &[],
        narrow: &[],
    },
    Shop {
        name: "spree",
        title: "Spree 5.2 to 5.6",
        engines: &[Engine::Postgres],
        database: "spree",
        times: Times::Utc,
        table_prefix: None,
        stores: Some("stores (spree_stores.id)"),
        has_language: true,
        asks_base_url: false,
        html_names: false,
        link: None,
        carts: include_str!("spree/carts.sql"),
        which: ["o.updated_at BETWEEN :not_before AND :idle_before", "o.id = :cart_id"],
        ordered: include_str!("spree/ordered.sql"),
        product: None,
        items: None,
        looks: &[],
        narrow: &[("spree_users", "id, first_name, accepts_email_marketing")],
    },
    Shop {
        name: "sylius",
        title: "Sylius 1.14 and 2.0",
        engines: &[Engine::MySql, Engine::Postgres],
        database: "sylius",
        times: Times::Wall("date.timezone in php.ini"),
        table_prefix: None,
        stores: Some("channels (sylius_channel.id)"),
        has_language: false,
        asks_base_url: false,
        html_names: false,
        link: Some(ONLY_IN_THE_BROWSER),
        carts: include_str!("sylius/carts.sql"),
        which: ["c.updated_at BETWEEN :not_before AND :idle_before", "c.id = :cart_id"],
        ordered: include_str!("sylius/ordered.sql"),
        product: None,
        items: None,
        looks: &[],
        narrow: &[],
    },
    Shop {
        name: "opencart",
        title: "OpenCart 3.0 and 4.1",
        engines: &[Engine::MySql],
        database: "opencart",
        times: Times::Wall("OpenCart: System, Settings, Local, Time Zone"),
        table_prefix: Some("oc_"),
        stores: Some("stores (store_id; 0 is the first)"),
        has_language: false,
        asks_base_url: false,
        html_names: true,
        link: Some(ONLY_IN_THE_BROWSER),
        carts: include_str!("opencart/carts.sql"),
        which: ["c.date_modified BETWEEN :not_before AND :idle_before", "c.order_id = :cart_id"],
        ordered: include_str!("opencart/ordered.sql"),
        product: None,
        items: None,
        looks: &[
            ("{prefix}order", "order_status_id", Remedy::Index("(order_status_id, date_modified)")),
            ("{prefix}order", "email", Remedy::Index("(email)")),
        ],
        narrow: &[("{prefix}customer", "email, newsletter")],
    },
    Shop {
        name: "saleor",
        title: "Saleor 3.21 and later",
        engines: &[Engine::Postgres],
        database: "saleor",
        times: Times::Utc,
        table_prefix: None,
        stores: Some("channels (channel_channel.id)"),
        has_language: false,
        asks_base_url: true,
        html_names: false,
        link: Some("/checkout?checkout=ID below source.base_url, which not every storefront has"),
        carts: include_str!("saleor/carts.sql"),
        which: ["o.last_change BETWEEN :not_before AND :idle_before", "o.token = :cart_id"],
        ordered: include_str!("saleor/ordered.sql"),
        product: None,
        items: None,
        looks: &[],
        narrow: &[("account_user", "id, email, first_name, is_active")],
    },
    Shop {
        name: "medusa2",
        title: "Medusa 2",
        engines: &[Engine::Postgres],
        database: "medusa",
        times: Times::Utc,
        table_prefix: None,
        stores: None,
        has_language: false,
        asks_base_url: true,
        html_names: false,
        link: Some("/cart/ID below source.base_url, which no storefront has by itself"),
        carts: include_str!("medusa2/carts.sql"),
        which: [
            "c.touched_at BETWEEN :not_before AND :idle_before AND c.created_at >= :not_before::timestamptz - interval '30 days'",
            "c.id = :cart_id",
        ],
        ordered: include_str!("medusa2/ordered.sql"),
        product: None,
        items: None,
        looks: &[(
            "cart",
            "created_at",
            Remedy::Index("(created_at) WHERE completed_at IS NULL AND deleted_at IS NULL"),
        )],
        narrow: &[],
    },
    Shop {
        name: "prestashop8",
        title: "PrestaShop 8",
        engines: &[Engine::MySql],
        database: "prestashop",
        times: Times::Wall("PS_TIMEZONE in ps_configuration"),
        table_prefix: Some("ps_"),
        stores: Some("shops (id_shop)"),
        has_language: false,
        asks_base_url: false,
        html_names: false,
        link: Some(ONLY_IN_THE_BROWSER),
        carts: include_str!("prestashop8/carts.sql"),
        which: ["b.date_upd BETWEEN :not_before AND :idle_before", "b.id_cart = :cart_id"],
        ordered: include_str!("prestashop8/ordered.sql"),
        product: None,
        items: None,
        looks: &[],
        narrow: &[("{prefix}customer", "id_customer, email, firstname, newsletter, active, deleted")],
    },
    Shop {
        name: "shopware6",
        title: "Shopware 6.6",
        engines: &[Engine::MySql],
        database: "shopware",
        times: Times::Utc,
        table_prefix: None,
        stores: None,
        has_language: false,
        asks_base_url: false,
        html_names: false,
        link: Some(ONLY_IN_THE_BROWSER),
        carts: include_str!("shopware6/carts.sql"),
        which: ["c.created_at BETWEEN :not_before AND :idle_before", "c.token = :cart_id"],
        ordered: include_str!("shopware6/ordered.sql"),
        product: None,
        items: Some(Items::Shopware),
        looks: &[],
        narrow: &[("customer", "id, email, first_name, active")],
    },
];

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

/// A shop as it is configured.
#[derive(Debug, Clone)]
pub struct Preset {
    pub shop: &'static Shop,
    pub table_prefix: Option<String>,
    /// Only carts of these; empty means all.
    pub stores: Vec<u32>,
    pub base_url: Option<String>,
    pub language: Option<String>,
    /// Leads to a cart in place of the preset's own link; `{cart_id}` is filled in.
    pub recovery_url: Option<String>,
}

impl Preset {
    /// Checks what the keys say.
    ///
    /// # Errors
    /// The key, what is wrong, and what to do.
    pub fn check(&self) -> Result<(), (&'static str, String, String)> {
        let name = self.shop.name;
        let unknown = |key, is_set: bool, is_known: bool| match is_set && !is_known {
            true => Err((key, format!("the preset \"{name}\" has no use for it"), "remove it".to_owned())),
            false => Ok(()),
        };
        unknown("table_prefix", self.table_prefix.is_some(), self.shop.table_prefix.is_some())?;
        unknown("stores", !self.stores.is_empty(), self.shop.stores.is_some())?;
        unknown("language", self.language.is_some(), self.shop.has_language)?;
        let word = |text: &str, most, more: &str| {
            text.len() <= most && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || more.contains(c))
        };
        if let Some(prefix) = self.table_prefix.as_deref().filter(|prefix| !word(prefix, 32, "")) {
            let what =
                format!("{prefix:?} has something else than ASCII letters, digits and _, or more than 32 of them");
            return Err(("table_prefix", what, "write how the shop's tables begin".into()));
        }
        if let Some(language) =
            self.language.as_deref().filter(|language| language.is_empty() || !word(language, 32, "-@"))
        {
            return Err((
                "language",
                format!("{language:?} is no language"),
                "write it as the shop does, such as en_US".into(),
            ));
        }
        for (key, url) in [("base_url", &self.base_url), ("recovery_url", &self.recovery_url)] {
            let filled = url.as_deref().map(|url| url.replace("{cart_id}", "1"));
            if let Some(url) = filled.filter(|url| !is_web_address(url)) {
                return Err((key, format!("{url:?} is no web address"), "write https://…".into()));
            }
        }
        match &self.base_url {
            None if self.shop.asks_base_url => {
                let what = format!("is missing, and the database of {} does not have it", self.shop.title);
                Err(("base_url", what, "write the address of the storefront, https://…".into()))
            }
            Some(url) if url.contains("{cart_id}") => {
                Err(("base_url", "is of the whole shop".into(), "put {cart_id} into source.recovery_url".into()))
            }
            _ => match &self.recovery_url {
                Some(url) if !url.contains("{cart_id}") => {
                    let next = "write {cart_id} where the cart's id belongs";
                    Err(("recovery_url", "has no {cart_id} in it".into(), next.into()))
                }
                _ => Ok(()),
            },
        }
    }

    /// What works, and is to be settled by a person.
    pub(super) fn doubts(&self, timezone: Tz) -> Vec<Advice> {
        let mut doubts = Vec::new();
        let mut doubt = |what: String, remedy: String| doubts.push(Advice { what, remedy });
        let host = |url: &str| url.split("://").nth(1)?.split(['/', ':', '?']).next().map(str::to_ascii_lowercase);
        for (key, url) in [("base_url", &self.base_url), ("recovery_url", &self.recovery_url)] {
            if url.as_deref().and_then(host).is_some_and(|host| host == "shop.example") {
                doubt(
                    format!("is read with a placeholder as source.{key}"),
                    "write the shop's own address there".into(),
                );
            }
        }
        if let (Some(link), None) = (self.shop.link, &self.recovery_url) {
            let remedy = "where the shop has a page that takes a cart up again, set source.recovery_url = \"https://…{cart_id}\"";
            doubt(format!("has no link that leads back into a cart: that in mails leads to {link}"), remedy.into());
        }
        if let (Times::Wall(place), Tz::UTC) = (self.shop.times, timezone) {
            let what = format!("is read as if the clock of {} went by UTC", self.shop.title);
            doubt(what, format!("set source.timezone to that clock's zone ({place}), unless it does"));
        }
        doubts
    }

    /// The query for carts that were touched in a time.
    pub fn carts(&self) -> String {
        self.written(self.shop.carts, self.shop.which[0])
    }

    /// The query for one cart.
    pub fn cart(&self) -> String {
        self.written(self.shop.carts, self.shop.which[1])
    }

    /// The query for orders.
    pub fn ordered(&self) -> String {
        self.written(self.shop.ordered, "")
    }

    /// The query for one product, where carts hold only their ids.
    pub fn product(&self) -> Option<String> {
        self.shop.product.map(|query| self.written(query, ""))
    }

    fn written(&self, query: &str, which: &str) -> String {
        let query = query.trim_end().replace("{prefix}", self.prefix()).replace("{which}", which);
        let stores = |column: &str| match self.stores.as_slice() {
            [] => "1 = 1".to_owned(),
            stores => {
                let ids: Vec<String> = stores.iter().map(u32::to_string).collect();
                format!("{column} IN ({})", ids.join(", "))
            }
        };
        let literal = |value: &Option<String>| value.as_ref().map(|text| format!("'{}'", text.replace('\'', "''")));
        let base_url = self.base_url.as_ref().map(|url| url.trim_end_matches('/').to_owned());
        let query = filled(&query, "stores", stores);
        let query = filled(&query, "base_url", |known| literal(&base_url).unwrap_or_else(|| known.to_owned()));
        filled(&query, "language", |known| literal(&self.language).unwrap_or_else(|| known.to_owned()))
    }

    /// Tables, the columns that they are looked into by, and what helps where no index of theirs begins with that.
    pub(super) fn looks(&self) -> Vec<(String, &'static str, String)> {
        let looks =
            self.shop.looks.iter().filter(|(.., remedy)| *remedy != Remedy::ListStores || self.stores.is_empty());
        looks
            .map(|(table, column, remedy)| {
                let table = table.replace("{prefix}", self.prefix());
                let remedy = match remedy {
                    Remedy::Index(on) => format!("let the shop run: CREATE INDEX mailonce_{column} ON {table} {on}"),
                    Remedy::ListStores => "list the shop's stores in `source.stores`: it has an index for those".into(),
                };
                (table, *column, remedy)
            })
            .collect()
    }

    fn prefix(&self) -> &str {
        self.table_prefix.as_deref().or(self.shop.table_prefix).unwrap_or_default()
    }

    /// What lets a new user read what the queries do, and nothing else.
    pub fn grants(&self, engine: Engine, database: &str, user: &str, is_on_this_machine: bool) -> Vec<String> {
        let columns = |table: &str| {
            let narrow = self.shop.narrow.iter().find(|(narrow, _)| narrow.replace("{prefix}", self.prefix()) == table);
            narrow.map_or_else(String::new, |(_, columns)| format!(" ({columns})"))
        };
        let queries = [Some(self.carts()), Some(self.cart()), Some(self.ordered()), self.product()];
        let tables: BTreeSet<String> = queries.iter().flatten().flat_map(|query| tables(query)).collect();
        let quoted = |quote: &str, name: &str| format!("{quote}{}{quote}", name.replace(quote, &quote.repeat(2)));
        match engine {
            Engine::MySql => {
                let host = if is_on_this_machine { "localhost" } else { "%" };
                let user = format!("{}@'{host}'", quoted("'", user));
                let create = format!("CREATE USER {user} IDENTIFIED BY 'CHOOSE-A-PASSWORD';");
                let database = quoted("`", database);
                let grant = |table: &String| format!("GRANT SELECT{} ON {database}.{table} TO {user};", columns(table));
                std::iter::once(create).chain(tables.iter().map(grant)).collect()
            }
            Engine::Postgres => {
                let user = quoted("\"", user);
                let opening = [
                    format!("CREATE USER {user} PASSWORD 'CHOOSE-A-PASSWORD';"),
                    format!("GRANT CONNECT ON DATABASE {} TO {user};", quoted("\"", database)),
                    format!("GRANT USAGE ON SCHEMA public TO {user};"),
                ];
                let grant = |table: &String| format!("GRANT SELECT{} ON public.{table} TO {user};", columns(table));
                opening.into_iter().chain(tables.iter().map(grant)).collect()
            }
        }
    }

    /// What becomes of a cart as a query found it: lines are taken out of what the shop serialized, and named by `look`,
    /// which finds a product by its id; prices are rounded to the currency, half up; the link is `source.recovery_url`.
    pub(super) fn finish<E>(
        &self,
        mut cart: RawCart,
        items: &RawField,
        look: &mut dyn FnMut(&str) -> Result<Option<RawLine>, E>,
    ) -> Result<RawCart, E> {
        if let Some(kept_as) = self.shop.items {
            match kept_as.lines(items) {
                Ok(lines) => cart.lines = lines,
                Err(flaw) => cart.flaw = cart.flaw.or(Some(flaw)),
            }
        }
        if self.shop.product.is_some() {
            let mut named = Vec::with_capacity(cart.lines.len());
            for line in std::mem::take(&mut cart.lines) {
                match &line.sku {
                    // What is not sold any more is not shown; the rest is.
                    Ok(Some(id)) => named.extend(look(id)?.map(|product| RawLine {
                        quantity: line.quantity,
                        unit_price: line.unit_price,
                        ..product
                    })),
                    _ => named.push(line),
                }
            }
            cart.lines = named;
        }
        let currency = cart.head.currency.as_ref().ok().and_then(|code| Currency::parse(code.as_deref()?));
        for line in &mut cart.lines {
            if let (Some(currency), Ok(Some(price))) = (currency, &line.unit_price)
                && let Some(price) = Price::parse(price, currency)
            {
                line.unit_price = Ok(Some(price.rounded().decimal()));
            }
        }
        if let (Some(url), Some(cart_id)) = (&self.recovery_url, cart.cart_id()) {
            let cart_id = utf8_percent_encode(cart_id, NON_ALPHANUMERIC).to_string();
            cart.head.recovery_url = Ok(Some(url.replace("{cart_id}", &cart_id)));
        }
        Ok(cart)
    }

    /// Whether the query of carts has a column `items` in place of lines.
    pub(super) fn has_items(&self) -> bool {
        self.shop.items.is_some()
    }
}

/// A query with each hole `{name}` or `{name:SQL}` filled.
fn filled(query: &str, name: &str, with: impl Fn(&str) -> String) -> String {
    let opening = format!("{{{name}");
    let (mut rest, mut text) = (query, String::with_capacity(query.len()));
    while let Some((before, hole)) = rest.split_once(&opening) {
        let (known, after) = hole.split_once('}').unwrap_or((hole, ""));
        text.push_str(before);
        text.push_str(&with(known.trim_start_matches(':')));
        rest = after;
    }
    text + rest
}

/// The tables that a query of ours reads: the words behind FROM and JOIN.
fn tables(query: &str) -> Vec<String> {
    let code = query.lines().filter(|line| !line.trim_start().starts_with("--"));
    let words: Vec<&str> = code.flat_map(str::split_whitespace).collect();
    let pairs = words.windows(2).filter(|pair| matches!(pair[0], "FROM" | "JOIN" | "STRAIGHT_JOIN"));
    // Not a query in brackets, nor `TRIM(TRAILING '/' FROM a.b)`, nor `IS DISTINCT FROM 'true'`.
    pairs.map(|pair| pair[1]).filter(|word| !word.contains(['(', '.', '\''])).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preset(name: &str) -> Preset {
        let shop = find(name).unwrap();
        Preset {
            shop,
            table_prefix: None,
            stores: Vec::new(),
            base_url: shop.asks_base_url.then(|| "https://front.example".into()),
            language: None,
            recovery_url: None,
        }
    }

    fn problem(name: &str, change: impl FnOnce(&mut Preset)) -> (&'static str, String) {
        let mut preset = preset(name);
        change(&mut preset);
        let (key, what, _) = preset.check().expect_err("it was taken");
        (key, what)
    }

    #[test]
    fn every_hole_is_filled_with_and_without_the_keys() {
        for shop in &SHOPS {
            let plain = preset(shop.name);
            plain.check().unwrap();
            let full = Preset {
                shop,
                table_prefix: shop.table_prefix.map(|_| "x7_".into()),
                stores: shop.stores.map_or(Vec::new(), |_| vec![2, 30]),
                base_url: Some("https://o'neill.example/shop/".into()),
                language: shop.has_language.then(|| "zh-CN".into()),
                recovery_url: Some("https://shop.example/take-up?cart={cart_id}".into()),
            };
            full.check().unwrap();
            for preset in [&plain, &full] {
                for query in [preset.carts(), preset.cart(), preset.ordered()].into_iter().chain(preset.product()) {
                    assert!(!query.contains(['{', '}']), "{}: {query}", shop.name);
                }
                assert!(preset.carts().contains(":not_before") && preset.carts().contains(":idle_before"));
                assert!(preset.cart().contains(":cart_id") && !preset.cart().contains(":not_before"));
                assert_eq!(preset.product().is_some_and(|query| query.contains(":product_id")), shop.product.is_some());
            }
            let carts = full.carts();
            assert!(carts.contains("'https://o''neill.example/shop'"), "{carts}");
            assert_eq!(carts.contains("IN (2, 30)"), shop.stores.is_some(), "{carts}");
            assert_eq!(carts.contains("'zh-CN'"), shop.has_language, "{carts}");
            assert_eq!(carts.contains("x7_"), shop.table_prefix.is_some(), "{carts}");
        }
    }

    #[test]
    fn what_a_key_says_cannot_become_sql() {
        for prefix in ["wp_; DROP TABLE x", "wp`", "wp-", "wp.", "größe_", " wp_", &"x".repeat(33)] {
            assert_eq!(problem("woocommerce", |preset| preset.table_prefix = Some(prefix.into())).0, "table_prefix");
        }
        for language in ["", "en'", "en_US' OR '1", "e n"] {
            assert_eq!(problem("odoo", |preset| preset.language = Some(language.into())).0, "language");
        }
        for url in ["shop.example", "https://a b", "https://x/\\", "https://x/\"", "javascript:x", "https://x/{id}"] {
            assert_eq!(problem("magento2", |preset| preset.base_url = Some(url.into())).0, "base_url");
        }
    }

    #[test]
    fn a_key_that_a_shop_does_not_have_or_lacks_is_named() {
        assert_eq!(find("magneto").unwrap_err(), "magento2");
        assert_eq!(find("woo-commerce").unwrap_err(), "woocommerce");
        assert_eq!(problem("odoo", |preset| preset.table_prefix = Some("x".into())).0, "table_prefix");
        assert_eq!(problem("woocommerce", |preset| preset.stores = vec![1]).0, "stores");
        assert_eq!(problem("magento2", |preset| preset.language = Some("en".into())).0, "language");
        let (key, what) = problem("saleor", |preset| preset.base_url = None);
        assert!(key == "base_url" && what.contains("is missing"), "{what}");
        assert_eq!(problem("medusa2", |preset| preset.base_url = Some("https://x/{cart_id}".into())).0, "base_url");
        assert_eq!(problem("medusa2", |preset| preset.recovery_url = Some("https://x/".into())).0, "recovery_url");
    }

    #[test]
    fn a_link_that_is_a_guess_a_placeholder_and_a_clock_are_named_until_they_are_set() {
        let said = |preset: &Preset, zone| {
            preset.doubts(zone).into_iter().map(|doubt| doubt.what).collect::<Vec<_>>().join("; ")
        };
        let mut medusa = preset("medusa2");
        assert!(said(&medusa, Tz::UTC).contains("which no storefront has by itself"));
        medusa.recovery_url = Some("https://front.example/take-up/{cart_id}".into());
        assert_eq!(said(&medusa, Tz::UTC), "");
        medusa.base_url = Some("https://SHOP.example/".into());
        assert_eq!(said(&medusa, Tz::UTC), "is read with a placeholder as source.base_url");
        assert_eq!(said(&preset("woocommerce"), Tz::UTC), "");
        let cartflows = preset("woocommerce-cartflows");
        assert!(said(&cartflows, Tz::UTC).contains("went by UTC"));
        assert_eq!(said(&cartflows, Tz::Europe__Berlin), "");
    }

    #[test]
    fn grants_are_for_what_the_queries_read() {
        assert_eq!(
            preset("opencart").grants(Engine::MySql, "open`cart", "mail'once", false),
            [
                "CREATE USER 'mail''once'@'%' IDENTIFIED BY 'CHOOSE-A-PASSWORD';",
                "GRANT SELECT ON `open``cart`.`oc_order` TO 'mail''once'@'%';",
                "GRANT SELECT (email, newsletter) ON `open``cart`.oc_customer TO 'mail''once'@'%';",
                "GRANT SELECT ON `open``cart`.oc_order_product TO 'mail''once'@'%';",
                "GRANT SELECT ON `open``cart`.oc_product TO 'mail''once'@'%';",
            ]
        );
        let medusa = preset("medusa2").grants(Engine::Postgres, "medusa", "mailonce", true).join("\n");
        for line in ["GRANT CONNECT ON DATABASE \"medusa\"", "GRANT SELECT ON public.\"order\" TO \"mailonce\";"] {
            assert!(medusa.contains(line), "{medusa}");
        }
        // All columns that are read of a table with passwords are in the query under an alias of that table.
        for shop in &SHOPS {
            let granted = preset(shop.name).grants(shop.engines[0], shop.database, "m", true).join("\n");
            for (table, columns) in shop.narrow {
                let table = table.replace("{prefix}", shop.table_prefix.unwrap_or_default());
                assert!(granted.contains(&format!("({columns}) ON ")) && granted.contains(&table), "{granted}");
            }
        }
    }

    #[test]
    fn a_cart_is_finished() {
        let field = |text: &str| Ok(Some(text.to_owned()));
        let line = |price: &str| RawLine {
            sku: field("12"),
            name: Ok(None),
            quantity: field("3"),
            unit_price: field(price),
            image_url: Ok(None),
            url: Ok(None),
        };
        let mut cart = RawCart::unreadable(String::new(), None, b"");
        cart.flaw = None;
        cart.head.cart_id = field("a/b ü");
        cart.head.currency = field("EUR");
        cart.lines = vec![line("3.3333333333"), line("0.125"), line("free"), line("")];
        let mut preset = preset("woocommerce");
        preset.recovery_url = Some("https://front.example/c/{cart_id}".into());
        let finished = preset.finish(cart.clone(), &Ok(None), &mut |_| Err(())).unwrap();
        let prices: Vec<_> = finished.lines.iter().map(|line| line.unit_price.clone().unwrap().unwrap()).collect();
        assert_eq!(prices, ["3.33", "0.13", "free", ""]);
        assert_eq!(finished.head.recovery_url, field("https://front.example/c/a%2Fb%20%C3%BC"));

        let items = "a:2:{i:0;a:3:{s:10:\"product_id\";i:7;s:8:\"quantity\";i:2;s:10:\"line_total\";i:7;}i:1;a:1:{s:10:\"product_id\";i:8;}}";
        let items = Ok(Some(items.bytes().map(|byte| format!("{byte:02X}")).collect()));
        let mut look = |id: &str| {
            Ok::<_, ()>((id == "7").then(|| RawLine { sku: field("LAMP"), name: field("Lamp"), ..line("") }))
        };
        let finished = super::tests::preset("woocommerce-cartflows").finish(cart.clone(), &items, &mut look).unwrap();
        assert_eq!(finished.lines.len(), 1);
        let RawLine { sku, name, quantity, unit_price, .. } = &finished.lines[0];
        assert_eq!(
            [sku, name, quantity, unit_price],
            [&field("LAMP"), &field("Lamp"), &field("2"), &field("3.5")].map(|f| f)
        );
        let broken = super::tests::preset("shopware6").finish(cart, &field("zz"), &mut |_| Err(())).unwrap();
        assert!(broken.flaw.unwrap().contains("HEX()"));
    }
}
