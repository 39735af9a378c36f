//! A shop as it is configured: its queries, with the keys filled in, and the rights that they need.

use std::collections::BTreeSet;

use super::{Remedy, Shop};
use crate::domain::engine::Engine;
use crate::domain::web_address::is_web_address;

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

    /// The query for orders placed since then, to be held against the mail.
    pub fn orders(&self) -> String {
        self.written(self.shop.orders, "")
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
    pub fn looks(&self) -> Vec<(String, &'static str, String)> {
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
        let queries =
            [Some(self.carts()), Some(self.cart()), Some(self.ordered()), self.product(), Some(self.orders())];
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

    /// Whether the query of carts has a column `items` in place of lines.
    pub fn has_items(&self) -> bool {
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
    use crate::shops::{SHOPS, find};

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
                for query in [preset.carts(), preset.cart(), preset.ordered(), preset.orders()]
                    .into_iter()
                    .chain(preset.product())
                {
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
}
