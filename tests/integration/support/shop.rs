//! A shop: the same carts and orders as an SQLite database, JSON Lines or CSV, or on a server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};
use serde_json::json;

use super::database::{Database, Engine};

/// How the shop keeps its carts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    JsonLines,
    Csv,
    Server(Engine),
}

impl Kind {
    /// Those that are files.
    pub const FILES: [Kind; 3] = [Kind::Sqlite, Kind::JsonLines, Kind::Csv];

    /// All of them, for tests that must hold whatever the kind; without servers that are not installed.
    pub fn all() -> impl Iterator<Item = Kind> {
        Kind::FILES.into_iter().chain(Engine::ALL.map(Kind::Server)).filter(|kind| kind.can_be_had())
    }

    /// Whether there can be such a shop here: a server may not be installed.
    pub fn can_be_had(self) -> bool {
        !matches!(self, Kind::Server(engine) if !Database::can_be_had(engine))
    }

    /// The word in `[source]`.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Sqlite => "sqlite",
            Kind::JsonLines => "jsonl",
            Kind::Csv => "csv",
            Kind::Server(engine) => engine.word(),
        }
    }

    /// Its name in the folder; a server has none there.
    pub fn file(self) -> &'static str {
        match self {
            Kind::Sqlite => "shop.db",
            Kind::JsonLines => "carts.jsonl",
            Kind::Csv => "carts.csv",
            Kind::Server(_) => "none",
        }
    }
}

/// How the shop spells times; in the tests they are always given as `2026-03-01T08:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// `2026-03-01T08:00:00Z`
    Zulu,
    /// `2026-03-01 08:00:00`
    Space,
}

impl Spelling {
    fn write(self, at: &str) -> String {
        match self {
            Spelling::Zulu => at.to_owned(),
            Spelling::Space => at.trim_end_matches('Z').replace('T', " "),
        }
    }
}

/// One line of a cart.
#[derive(Debug, Clone)]
pub struct Item {
    pub sku: String,
    pub name: String,
    pub quantity: u32,
    pub unit_price: String,
}

/// A cart of the shop.
#[derive(Debug, Clone)]
pub struct Cart {
    pub cart_id: String,
    pub user_id: Option<String>,
    pub email: Option<String>,
    pub name: Option<String>,
    pub currency: String,
    pub created_at: Option<String>,
    pub updated_at: String,
    pub consent: Option<bool>,
    pub ordered_at: Option<String>,
    /// `None` stands for one lamp.
    pub items: Option<Vec<Item>>,
}

impl Cart {
    /// A guest's cart with one lamp in it, last touched at 2026-03-01T08:00:00Z, with consent, for `<id>@example.com`.
    pub fn of(cart_id: &str) -> Cart {
        Cart {
            cart_id: cart_id.into(),
            user_id: None,
            email: Some(format!("{cart_id}@example.com")),
            name: None,
            currency: "EUR".into(),
            created_at: None,
            updated_at: "2026-03-01T08:00:00Z".into(),
            consent: Some(true),
            ordered_at: None,
            items: None,
        }
    }

    pub fn user(mut self, user_id: &str) -> Cart {
        self.user_id = Some(user_id.into());
        self
    }

    pub fn email(mut self, email: &str) -> Cart {
        self.email = Some(email.into());
        self
    }

    pub fn without_email(mut self) -> Cart {
        self.email = None;
        self
    }

    pub fn name(mut self, name: &str) -> Cart {
        self.name = Some(name.into());
        self
    }

    pub fn currency(mut self, code: &str) -> Cart {
        self.currency = code.into();
        self
    }

    pub fn created(mut self, at: &str) -> Cart {
        self.created_at = Some(at.into());
        self
    }

    pub fn updated(mut self, at: &str) -> Cart {
        self.updated_at = at.into();
        self
    }

    pub fn consent(mut self, consent: impl Into<Option<bool>>) -> Cart {
        self.consent = consent.into();
        self
    }

    /// This very cart was ordered.
    pub fn ordered(mut self, at: &str) -> Cart {
        self.ordered_at = Some(at.into());
        self
    }

    /// Adds a line; the first one replaces the lamp.
    pub fn item(mut self, sku: &str, name: &str, quantity: u32, unit_price: &str) -> Cart {
        let item = Item { sku: sku.into(), name: name.into(), quantity, unit_price: unit_price.into() };
        self.items.get_or_insert_default().push(item);
        self
    }

    pub fn empty(mut self) -> Cart {
        self.items = Some(Vec::new());
        self
    }

    fn lines(&self) -> Vec<Item> {
        self.items.clone().unwrap_or_else(|| {
            vec![Item { sku: "A-1".into(), name: "Lamp".into(), quantity: 1, unit_price: "19.90".into() }]
        })
    }
}

/// An order that came in by address, of no cart that the shop still knows.
#[derive(Debug, Clone)]
struct Order {
    email: String,
    at: String,
}

/// The shop as it stands; every change is on disk, whole, when the call returns.
pub struct Shop {
    kind: Kind,
    spelling: Spelling,
    folder: PathBuf,
    carts: Vec<Cart>,
    orders: Vec<Order>,
    /// Of a shop on a server.
    database: Option<Arc<Database<'static>>>,
}

impl Shop {
    pub fn new(kind: Kind, folder: &Path) -> Shop {
        let (folder, carts, orders) = (folder.to_owned(), Vec::new(), Vec::new());
        let shop = Shop { kind, spelling: Spelling::Zulu, folder, carts, orders, database: None };
        shop.write();
        shop
    }

    /// Of a shop on a server.
    pub fn database(&self) -> &Arc<Database<'static>> {
        self.database.as_ref().expect("the shop is on a server")
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn path(&self) -> PathBuf {
        self.folder.join(self.kind.file())
    }

    /// Turns the same carts into another kind of shop; the old file goes.
    pub fn become_kind(&mut self, kind: Kind) {
        let _ = std::fs::remove_file(self.path());
        self.kind = kind;
        self.database = match kind {
            Kind::Server(engine) => Database::new(engine).map(Arc::new),
            _ => None,
        };
        self.make_tables();
        self.write();
    }

    pub fn spell(&mut self, spelling: Spelling) {
        self.spelling = spelling;
        self.make_tables();
        self.write();
    }

    /// Adds carts; one of the same id is replaced where it stands.
    pub fn put(&mut self, carts: impl IntoIterator<Item = Cart>) {
        for cart in carts {
            match self.carts.iter_mut().find(|known| known.cart_id == cart.cart_id) {
                Some(known) => *known = cart,
                None => self.carts.push(cart),
            }
        }
        self.write();
    }

    /// Changes one cart.
    pub fn change(&mut self, cart_id: &str, change: impl FnOnce(&mut Cart)) {
        let cart = self.carts.iter_mut().find(|cart| cart.cart_id == cart_id);
        change(cart.unwrap_or_else(|| panic!("the shop has no cart {cart_id}")));
        self.write();
    }

    pub fn remove(&mut self, cart_id: &str) {
        self.carts.retain(|cart| cart.cart_id != cart_id);
        self.write();
    }

    /// An order by address only; databases alone can say it.
    pub fn order_by(&mut self, email: &str, at: &str) {
        assert!(matches!(self.kind, Kind::Sqlite | Kind::Server(_)), "only a database has a table of orders");
        self.orders.push(Order { email: email.into(), at: at.into() });
        self.write();
    }

    fn write(&self) {
        match self.kind {
            Kind::Sqlite => self.write_sqlite().expect("the SQLite shop is written"),
            Kind::JsonLines => self.replace(&self.json_lines()),
            Kind::Csv => self.replace(&self.csv()),
            Kind::Server(_) => {
                self.database().run(&self.statements());
            }
        }
    }

    /// The tables on a server. Times are instants where they are spelled so, else what a clock on a wall shows.
    fn make_tables(&self) {
        let Kind::Server(engine) = self.kind else { return };
        let time = match (engine, self.spelling) {
            (Engine::MariaDb, Spelling::Zulu) => "TIMESTAMP NULL",
            (Engine::MariaDb, Spelling::Space) => "DATETIME(3)",
            (Engine::Postgres, Spelling::Zulu) => "TIMESTAMPTZ",
            (Engine::Postgres, Spelling::Space) => "TIMESTAMP",
        };
        self.database().run(&format!(
            "DROP TABLE IF EXISTS carts; DROP TABLE IF EXISTS cart_items; DROP TABLE IF EXISTS orders;
             CREATE TABLE carts (cart_id VARCHAR(100) PRIMARY KEY, user_id VARCHAR(100), email VARCHAR(300),
                 name VARCHAR(300), currency CHAR(3), created_at {time}, updated_at {time}, recovery_url TEXT,
                 consent BOOLEAN);
             CREATE TABLE cart_items (cart_id VARCHAR(100), sku VARCHAR(100), name VARCHAR(300), quantity INTEGER,
                 unit_price DECIMAL(12,4), image_url TEXT, url TEXT);
             CREATE TABLE orders (order_id INTEGER PRIMARY KEY, cart_id VARCHAR(100), email VARCHAR(300),
                 created_at {time});"
        ));
    }

    /// What brings the tables on a server to this state, in one transaction.
    fn statements(&self) -> String {
        // Sessions in UTC, so that a time without a zone is one of UTC.
        let (zone, backslash) = match self.kind {
            Kind::Server(Engine::MariaDb) => ("SET time_zone = '+00:00'", "\\\\"),
            _ => ("SET TIME ZONE 'UTC'", "\\"),
        };
        let text = |text: &str| format!("'{}'", text.replace('\\', backslash).replace('\'', "''"));
        let or_null = |value: Option<&String>| value.map_or("NULL".into(), |value| text(value));
        let at = |at: Option<&String>| at.map_or("NULL".into(), |at| text(&Spelling::Space.write(at)));
        let mut sql = format!("{zone}; BEGIN; DELETE FROM carts; DELETE FROM cart_items; DELETE FROM orders;\n");
        let mut order_id = 0;
        let mut order = |cart_id: &str, email: &str, at: &str| {
            order_id += 1;
            format!("INSERT INTO orders VALUES ({order_id}, {cart_id}, {email}, {at});\n")
        };
        for cart in &self.carts {
            let cart_id = text(&cart.cart_id);
            sql += &format!(
                "INSERT INTO carts VALUES ({cart_id}, {}, {}, {}, '{}', {}, {}, 'https://shop.example/cart/{}', {});\n",
                or_null(cart.user_id.as_ref()),
                or_null(cart.email.as_ref()),
                or_null(cart.name.as_ref()),
                cart.currency,
                at(cart.created_at.as_ref()),
                at(Some(&cart.updated_at)),
                cart.cart_id,
                cart.consent.map_or("NULL".into(), |consent| consent.to_string()),
            );
            for item in cart.lines() {
                sql += &format!(
                    "INSERT INTO cart_items VALUES ({cart_id}, {}, {}, {}, {}, NULL, NULL);\n",
                    text(&item.sku),
                    text(&item.name),
                    item.quantity,
                    item.unit_price
                );
            }
            if cart.ordered_at.is_some() {
                sql += &order(&cart_id, &or_null(cart.email.as_ref()), &at(cart.ordered_at.as_ref()));
            }
        }
        for by_address in &self.orders {
            sql += &order("NULL", &text(&by_address.email), &at(Some(&by_address.at)));
        }
        sql + "COMMIT;"
    }

    /// Files are replaced in one step: a run sees the old shop or the new one.
    fn replace(&self, bytes: &[u8]) {
        let new = self.folder.join("shop.new");
        std::fs::write(&new, bytes).expect("the shop is written");
        std::fs::rename(&new, self.path()).expect("the shop is replaced");
    }

    fn write_sqlite(&self) -> rusqlite::Result<()> {
        let mut shop = Connection::open(self.path())?;
        shop.busy_timeout(Duration::from_secs(20))?;
        let writing = shop.transaction_with_behavior(TransactionBehavior::Immediate)?;
        writing.execute_batch(
            "CREATE TABLE IF NOT EXISTS carts (cart_id TEXT PRIMARY KEY, user_id TEXT, email TEXT, name TEXT,
                 currency TEXT, created_at TEXT, updated_at TEXT, recovery_url TEXT, consent INTEGER);
             CREATE TABLE IF NOT EXISTS cart_items (cart_id TEXT, sku TEXT, name TEXT, quantity INTEGER,
                 unit_price TEXT, image_url TEXT, url TEXT);
             CREATE TABLE IF NOT EXISTS orders (order_id INTEGER PRIMARY KEY, cart_id TEXT, email TEXT, created_at TEXT);
             DELETE FROM carts; DELETE FROM cart_items; DELETE FROM orders;",
        )?;
        for cart in &self.carts {
            let url = format!("https://shop.example/cart/{}", cart.cart_id);
            let created_at = cart.created_at.as_deref().map(|at| self.spelling.write(at));
            let updated_at = self.spelling.write(&cart.updated_at);
            writing.prepare_cached("INSERT INTO carts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute(
                params![
                    cart.cart_id,
                    cart.user_id,
                    cart.email,
                    cart.name,
                    cart.currency,
                    created_at,
                    updated_at,
                    url,
                    cart.consent
                ],
            )?;
            for item in cart.lines() {
                writing
                    .prepare_cached("INSERT INTO cart_items VALUES (?1, ?2, ?3, ?4, ?5, NULL, NULL)")?
                    .execute(params![cart.cart_id, item.sku, item.name, item.quantity, item.unit_price])?;
            }
            if let Some(at) = &cart.ordered_at {
                let at = self.spelling.write(at);
                writing.execute(
                    "INSERT INTO orders (cart_id, email, created_at) VALUES (?1, ?2, ?3)",
                    params![cart.cart_id, cart.email, at],
                )?;
            }
        }
        for order in &self.orders {
            writing.execute(
                "INSERT INTO orders (cart_id, email, created_at) VALUES (NULL, ?1, ?2)",
                params![order.email, self.spelling.write(&order.at)],
            )?;
        }
        writing.commit()
    }

    fn json_lines(&self) -> Vec<u8> {
        let mut text = String::new();
        for cart in &self.carts {
            let items: Vec<_> = cart
                .lines()
                .into_iter()
                .map(|item| {
                    json!({"sku": item.sku, "name": item.name,
                "quantity": item.quantity, "unit_price": item.unit_price, "image_url": null, "url": null})
                })
                .collect();
            let at = |at: &Option<String>| at.as_deref().map(|at| self.spelling.write(at));
            let line = json!({"cart_id": cart.cart_id, "user_id": cart.user_id, "email": cart.email,
                "name": cart.name, "currency": cart.currency, "created_at": at(&cart.created_at),
                "updated_at": self.spelling.write(&cart.updated_at), "consent": cart.consent,
                "recovery_url": format!("https://shop.example/cart/{}", cart.cart_id),
                "ordered_at": at(&cart.ordered_at), "items": items});
            text.push_str(&format!("{line}\n"));
        }
        text.into_bytes()
    }

    /// One row per cart line; an emptied cart has one row without a line.
    fn csv(&self) -> Vec<u8> {
        let mut rows = csv::Writer::from_writer(Vec::new());
        let head = "cart_id,user_id,email,name,currency,created_at,updated_at,recovery_url,consent,ordered_at,\
                    sku,item_name,quantity,unit_price,image_url,url";
        rows.write_record(head.split(',')).expect("a row in memory");
        for cart in &self.carts {
            let or_nothing = |text: &Option<String>| text.clone().unwrap_or_default();
            let at = |at: &Option<String>| at.as_deref().map(|at| self.spelling.write(at)).unwrap_or_default();
            let start = [
                cart.cart_id.clone(),
                or_nothing(&cart.user_id),
                or_nothing(&cart.email),
                or_nothing(&cart.name),
                cart.currency.clone(),
                at(&cart.created_at),
                self.spelling.write(&cart.updated_at),
                format!("https://shop.example/cart/{}", cart.cart_id),
                cart.consent.map(|consent| consent.to_string()).unwrap_or_default(),
                at(&cart.ordered_at),
            ];
            let mut lines: Vec<[String; 6]> = cart
                .lines()
                .into_iter()
                .map(|item| {
                    let quantity = item.quantity.to_string();
                    [item.sku, item.name, quantity, item.unit_price, String::new(), String::new()]
                })
                .collect();
            if lines.is_empty() {
                lines.push(Default::default());
            }
            for line in lines {
                rows.write_record(start.iter().chain(&line)).expect("a row in memory");
            }
        }
        rows.into_inner().expect("rows in memory")
    }
}
