//! Against real databases, in rollback-journal and in WAL mode.

use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;
use rusqlite::Connection;
use tempfile::TempDir;

use super::super::tests::{exit_of, read, settings, the_day};
use super::super::{open, orders_since};
use super::tables::Paging;
use super::*;
use crate::settings::SourceKind;

const SCHEMA: &str = "
    CREATE TABLE carts (cart_id TEXT PRIMARY KEY, user_id TEXT, email TEXT, name TEXT, currency TEXT, created_at TEXT,
                        updated_at TEXT, recovery_url TEXT, consent INTEGER);
    CREATE TABLE cart_items (cart_id TEXT, sku TEXT, name TEXT, quantity INTEGER, unit_price TEXT, image_url TEXT, url TEXT);
    CREATE TABLE orders (order_id INTEGER PRIMARY KEY, cart_id TEXT, email TEXT, created_at TEXT);";

struct Shop {
    _dir: TempDir,
    path: PathBuf,
    connection: Connection,
}

impl Shop {
    fn new(schema: &str) -> Shop {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("shop.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(schema).unwrap();
        Shop { _dir: dir, path, connection }
    }

    fn run(&self, sql: &str) {
        self.connection.execute_batch(sql).unwrap();
    }

    /// Adds carts `c<first>` to `c<last>`, with one item each, all touched at the same instant.
    fn add(&self, first: u32, last: u32, updated_at: &str) {
        self.run(&format!(
            "WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})
             INSERT INTO carts (cart_id, email, currency, updated_at)
             SELECT 'c' || i, 'c' || i || '@example.com', 'EUR', {updated_at} FROM n;
             WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})
             INSERT INTO cart_items (cart_id, sku, name, quantity, unit_price) SELECT 'c' || i, 'A-1', 'Lamp', 1, '5.00' FROM n"
        ));
    }

    fn open(&self) -> ShopDatabase {
        ShopDatabase::open(&self.path, &settings(SourceKind::Sqlite, self.path.clone(), Tz::Europe__Berlin)).unwrap()
    }

    fn refused(&self, change: impl FnOnce(&mut SourceSettings)) -> String {
        let mut settings = settings(SourceKind::Sqlite, self.path.clone(), Tz::UTC);
        change(&mut settings);
        let err = open(&settings).err().expect("it was opened");
        assert_eq!(exit_of(&err), Exit::Configuration, "{err}");
        err.to_string()
    }
}

fn cart(source: &mut dyn Source, cart_id: &str) -> Cart {
    match source.cart(cart_id).unwrap() {
        Look::Cart(cart) => *cart,
        other => panic!("{cart_id}: {other:?}"),
    }
}

/// Each way a shop may define its carts, with the way they are then walked through.
fn shapes() -> Vec<(&'static str, String)> {
    let index = "CREATE INDEX by_time ON carts (updated_at); CREATE INDEX by_cart ON cart_items (cart_id);";
    let view = SCHEMA.replace("TABLE carts", "TABLE stored") + "CREATE VIEW carts AS SELECT * FROM stored;";
    let writable =
        "CREATE TRIGGER t INSTEAD OF INSERT ON carts BEGIN INSERT INTO stored (cart_id, email, currency, updated_at)
                    VALUES (NEW.cart_id, NEW.email, NEW.currency, NEW.updated_at); END;";
    vec![
        ("row id", SCHEMA.to_owned()),
        ("time", SCHEMA.to_owned() + index),
        ("time, no type", SCHEMA.replace("updated_at TEXT", "updated_at") + index),
        ("time, DATETIME", SCHEMA.replace("updated_at TEXT", "updated_at DATETIME") + index),
        ("row id, DATETIME", SCHEMA.replace("updated_at TEXT", "updated_at DATETIME")),
        ("no row id", SCHEMA.replace("consent INTEGER)", "consent INTEGER) WITHOUT ROWID")),
        ("view", view + writable),
    ]
}

#[test]
fn times_are_compared_as_times_in_every_shape_of_the_tables() {
    for (shape, schema) in shapes() {
        let shop = Shop::new(&schema);
        let times = [
            ("1", "'2026-03-01T08:00:00Z'"),
            ("2", "'2026-03-01 09:00:00'"),
            ("3", "'2026-03-01T20:30:00+14:00'"),
            ("4", "1772352000"),
            ("5", "'1772352000'"),
            ("6", "'2026-03-01 00:59:59'"),
            ("7", "'2026-03-01 13:00:00'"),
            ("8", "'2026-03-01 13:00:01'"),
            ("9", "NULL"),
            ("10", "'yesterday'"),
            ("11", "1772352000000"),
            ("12", "''"),
            ("13", "x'00'"),
            ("14", "CAST(x'ff31' AS TEXT)"),
            ("15", "'2025-03-01T08:00:00Z'"),
            ("16", "5"),
            ("17", "'01/03/2026'"),
            ("18", "'2026-3-1 9:00:00'"),
            ("19", "'2026-03-1 9:00'"),
            ("20", "'2026-3-01T08:00:00Z'"),
            ("21", "'Sun, 01 Mar 2026 08:00:00 +0000'"),
            ("22", "' 2026-3-1 9:00'"),
            ("23", "'1772352000999'"),
            ("24", "1772352000.5"),
            ("25", "'26-3-1 9:00'"),
            ("26", "1772395200000"),
            ("27", "'2026-12-1 9:00'"),
            ("28", "'2025-3-1 9:00'"),
        ];
        for (id, time) in times {
            let id: u32 = id.parse().unwrap();
            shop.add(id, id, time);
        }
        let (mut carts, bad) = read(&mut shop.open(), &the_day());
        carts.sort();
        let found = [1, 11, 18, 19, 2, 20, 21, 22, 23, 24, 3, 4, 5, 7].map(|id| format!("c{id}"));
        assert_eq!(carts, found, "{shape}");
        let mut places: Vec<_> = bad.iter().map(|bad| bad.place.as_str()).collect();
        places.sort();
        let expected = [9, 10, 12, 13, 14, 16, 17, 25].map(|id| format!("shop.db: cart c{id}"));
        let mut expected: Vec<_> = expected.iter().map(String::as_str).collect();
        expected.sort();
        assert_eq!(places, expected, "{shape}");
    }
}

#[test]
fn each_cart_comes_once_whole_and_no_batch_keeps_the_shop_from_writing() {
    for (shape, schema) in shapes() {
        let shop = Shop::new(&schema);
        shop.add(1, 1200, "'2026-03-01T08:00:00Z'");
        shop.add(1201, 11_000, "strftime('%Y-%m-%dT%H:%M:%SZ', 1772352000 + i % 60, 'unixepoch')");
        shop.connection.busy_timeout(Duration::ZERO).unwrap();
        let mut seen = std::collections::HashSet::new();
        let mut source = shop.open();
        let summary = source
            .read_carts(&the_day(), &mut |row| {
                let Row::Cart(cart) = row else { panic!("{shape}: {row:?}") };
                assert_eq!(cart.lines.len(), 1, "{shape}");
                assert!(seen.insert(cart.cart_id), "{shape}: a cart came twice");
                if seen.len() % 250 == 1 {
                    shop.run("INSERT INTO orders (cart_id) VALUES ('another')");
                }
                Ok(())
            })
            .unwrap();
        assert_eq!((seen.len(), summary.carts_seen), (11_000, 11_000), "{shape}");
    }
}

#[test]
fn an_index_on_the_time_is_used_for_every_range() {
    let index = "CREATE INDEX by_time ON carts (updated_at);";
    for kind in ["TEXT", "", "DATETIME", "INTEGER"] {
        let shop = Shop::new(&(SCHEMA.replace("updated_at TEXT", &format!("updated_at {kind}")) + index));
        let tables = CartTables::inspect(&shop.connection, "shop.db").unwrap();
        assert_eq!(tables.paging, Paging::Time("_rowid_"));
        for range in times::ranges(times::holds_texts_only(kind), the_day().not_before, the_day().idle_before) {
            let mut parameters = Vec::new();
            let condition = range.condition("updated_at", &mut parameters);
            let sql = format!("EXPLAIN QUERY PLAN SELECT * FROM carts WHERE {condition} ORDER BY updated_at, _rowid_");
            let mut statement = shop.connection.prepare(&sql).unwrap();
            let plan: Vec<String> = statement
                .query_map(rusqlite::params_from_iter(parameters), |row| row.get(3))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            assert!(plan.len() == 1 && plan[0].contains("USING INDEX by_time"), "{kind:?} {range:?}: {plan:?}");
        }
    }
}

#[test]
fn orders_count_by_cart_and_by_address_in_any_spelling() {
    let shop = Shop::new(SCHEMA);
    shop.add(1, 1, "'2026-03-01 09:00:00'");
    let mut source = shop.open();
    let c1 = cart(&mut source, "c1");
    assert_eq!(instant_text(orders_since(&c1)), "2026-02-28T08:00:00Z");
    let with_indexes = Shop::new(SCHEMA);
    with_indexes.run("CREATE INDEX by_cart ON orders (cart_id); CREATE INDEX by_email ON orders (email)");
    with_indexes.add(1, 1, "'2026-03-01 09:00:00'");
    let mut indexed = with_indexes.open();
    let is_marked = |source: &mut ShopDatabase| {
        let mut marked = None;
        let take = &mut |row| {
            let Row::Cart(cart) = row else { panic!("{row:?}") };
            marked = Some(cart.ordered_at.is_some());
            Ok(())
        };
        source.read_carts(&the_day(), take).unwrap();
        marked.unwrap()
    };
    let cases = [
        ("NULL, 'c1@example.com', '2026-02-28 08:59:59'", false),
        ("NULL, 'c1@example.com', '2026-02-28 09:00:00'", true),
        ("NULL, ' C1@Example.COM ', '2026-02-28T08:00:00Z'", true),
        ("NULL, 'C1@Example.COM', '2026-02-20T08:00:00Z'", false),
        ("NULL, 'c1@example.com', 1772265600", true),
        ("NULL, 'C1 <c1@example.com>', '2026-3-1 9:00'", true),
        ("NULL, '\"c1\"@example.com', '2026-03-01 09:00'", true),
        ("NULL, char(9) || 'c1@example.com', 1772265600000", true),
        ("NULL, 'c1@example.com', 1772265599000", false),
        ("NULL, 'c1@example.com', '0000-00-00 00:00:00'", true),
        ("NULL, 'c1@example.com', NULL", true),
        ("NULL, 'other@example.com', '2026-03-01T08:00:00Z'", false),
        ("'c1', 'other@example.com', '2020-03-01T08:00:00Z'", true),
        ("'C1', NULL, NULL", false),
    ];
    for (values, expected) in cases {
        for shop in [&shop, &with_indexes] {
            shop.run(&format!("DELETE FROM orders; INSERT INTO orders (cart_id, email, created_at) VALUES ({values})"));
        }
        assert_eq!(source.ordered(&c1).unwrap(), expected, "{values}");
        // The look at many by the indexes is no stricter, and finds what is spelled as the cart has it.
        let marked = is_marked(&mut indexed);
        assert!(!marked || expected, "{values}");
        let is_plain = values.starts_with("'c1'") || values.starts_with("NULL, 'c1@example.com'");
        assert!(marked || !expected || !is_plain, "{values}");
        assert!(!is_marked(&mut source), "without an index each look would read the whole table");
    }
    shop.run(
        "UPDATE carts SET email = 'ada@Bücher.example'; DELETE FROM orders;
              INSERT INTO orders (email, created_at) VALUES ('Ada@bücher.example', '2026-03-01 08:00')",
    );
    let ada = cart(&mut source, "c1");
    assert!(source.ordered(&ada).unwrap());
}

fn instant_text(at: crate::domain::instant::Instant) -> String {
    crate::domain::instant::text(at)
}

#[test]
fn numbers_serve_as_ids_and_optional_columns_may_be_missing() {
    let shop = Shop::new(
        "CREATE TABLE carts (cart_id INTEGER PRIMARY KEY, user_id INTEGER, email, currency, updated_at, recovery_url);
         CREATE TABLE cart_items (cart_id, sku, name, quantity, unit_price REAL);
         CREATE TABLE orders (cart_id, email, created_at);
         INSERT INTO carts VALUES (7, 42, 'ada@example.com', 'EUR', 1772352000, NULL);
         INSERT INTO cart_items VALUES (7, 'A', NULL, 2, 19.9), ('7', 'B', 'Bulb', 1, 5);",
    );
    let mut source = shop.open();
    assert_eq!(read(&mut source, &the_day()).0, ["7"]);
    let found = cart(&mut source, "7");
    assert_eq!((found.user_id.as_deref(), found.lines.len(), found.lines[0].name.as_str()), (Some("42"), 2, "A"));
    assert_eq!(found.value().unwrap().decimal(), "44.80");
    assert!(!source.ordered(&found).unwrap());
    shop.run("INSERT INTO orders VALUES (7, NULL, NULL)");
    assert!(source.ordered(&found).unwrap());
    assert_eq!(source.cart("07").unwrap(), Look::Gone);
}

#[test]
fn a_cart_id_that_is_there_twice_is_bad() {
    let shop = Shop::new(&SCHEMA.replace("cart_id TEXT PRIMARY KEY", "cart_id TEXT"));
    shop.add(1, 2, "'2026-03-01T08:00:00Z'");
    shop.add(1, 1, "'2026-03-01T08:00:00Z'");
    let mut source = shop.open();
    let (carts, bad) = read(&mut source, &the_day());
    assert_eq!((carts.len(), bad.len(), bad[0].problem.as_str()), (2, 1, "duplicate cart_id"));
    assert!(matches!(source.cart("c1").unwrap(), Look::Bad(_)));
}

#[test]
fn a_database_put_in_the_place_of_another_is_read() {
    let (shop, other) = (Shop::new(SCHEMA), Shop::new(SCHEMA));
    shop.add(1, 1, "'2026-03-01T08:00:00Z'");
    other.add(2, 2, "'2026-03-01T08:00:00Z'");
    let mut source = shop.open();
    cart(&mut source, "c1");
    std::fs::rename(&other.path, &shop.path).unwrap();
    assert_eq!(source.cart("c1").unwrap(), Look::Gone);
    cart(&mut source, "c2");
}

#[test]
fn a_locked_database_sends_nothing() {
    let shop = Shop::new(SCHEMA);
    shop.add(1, 1, "'2026-03-01T08:00:00Z'");
    let mut source = shop.open();
    source.opened.connection.busy_timeout(Duration::from_millis(20)).unwrap();
    shop.run("BEGIN EXCLUSIVE");
    let err = source.cart("c1").unwrap_err();
    assert_eq!(exit_of(&err), Exit::NeedsAPerson);
    assert!(err.to_string().contains("locked"), "{err}");
    shop.run("COMMIT");
    cart(&mut source, "c1");
}

const CARTS: &str = "SELECT s.id AS cart_id, NULL AS user_id, s.mail AS email, 'EUR' AS currency, s.t AS updated_at,
    NULL AS recovery_url, p.sku AS sku, p.sku AS item_name, p.n AS quantity, '5.00' AS unit_price
    FROM s LEFT JOIN p ON p.s = s.id WHERE s.t BETWEEN :not_before AND :idle_before -- the end; really";
const OWN_SCHEMA: &str = "CREATE TABLE s (id INTEGER PRIMARY KEY, mail, t); CREATE TABLE p (s INTEGER, sku, n);
    CREATE INDEX p_s ON p (s); CREATE TABLE o (id, mail);";

#[test]
fn configured_queries_are_read_in_both_journal_modes() {
    for mode in ["DELETE", "WAL"] {
        let shop = Shop::new(OWN_SCHEMA);
        shop.run(&format!("PRAGMA journal_mode = {mode}"));
        shop.run(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 15000)
             INSERT INTO s SELECT i, 'm' || i || '@example.com', '2026-03-01T08:00:00Z' FROM n;
             INSERT INTO p SELECT id, 'A', 1 FROM s WHERE id > 1; INSERT INTO p SELECT id, 'B', 2 FROM s WHERE id > 1;
             INSERT INTO s VALUES (20000, 'late@example.com', '2026-03-02T08:00:00Z')",
        );
        shop.connection.busy_timeout(Duration::ZERO).unwrap();
        let mut own = settings(SourceKind::Sqlite, shop.path.clone(), Tz::UTC);
        own.carts = Some(CARTS.into());
        own.ordered = Some("SELECT id FROM o WHERE id = :cart_id OR mail = :email;".into());
        let mut source = open(&own).unwrap();
        let (mut seen, mut lines) = (0, 0);
        source
            .read_carts(&the_day(), &mut |row| {
                let Row::Cart(cart) = row else { panic!("{mode}: {row:?}") };
                assert_eq!(cart.lines.len(), if cart.cart_id == "1" { 0 } else { 2 }, "{mode}: {}", cart.cart_id);
                seen += 1;
                lines += cart.lines.len();
                if seen % 1000 == 0 {
                    shop.run("INSERT INTO o VALUES ('other', '')");
                }
                Ok(())
            })
            .unwrap();
        assert_eq!((seen, lines), (15_000, 29_998), "{mode}");
        let late = cart(source.as_mut(), "20000");
        assert!(!source.ordered(&late).unwrap());
        shop.run("INSERT INTO o VALUES (0, 'late@example.com')");
        assert!(source.ordered(&late).unwrap());
        assert_eq!(source.cart("x").unwrap(), Look::Gone);
        own.cart = Some(CARTS.replace("s.t BETWEEN :not_before AND :idle_before", "s.id = :cart_id"));
        assert_eq!(cart(open(&own).unwrap().as_mut(), "20000"), late);
    }
}

#[test]
fn what_cannot_be_used_is_the_configurations_fault() {
    let shop = Shop::new(OWN_SCHEMA);
    assert!(shop.refused(|_| ()).contains("no table carts"));
    assert!(shop.refused(|s| s.carts = Some(CARTS.into())).contains("no table orders"));
    let with = |carts: &str| {
        shop.refused(|s| {
            s.carts = Some(carts.to_owned());
            s.ordered = Some("SELECT 1".into());
        })
    };
    assert!(with(&CARTS.replace("p.n AS quantity,", "")).contains("lacks the column quantity"));
    let message = with("SELECT nowhere FROM s");
    assert!(message.contains("no such column"), "{message}");
    assert!(with("SELECT 1; SELECT 2").contains("more than one statement"));
    assert!(with("DELETE FROM s RETURNING id").contains("only reads"));
    assert!(with(&CARTS.replace(":not_before", ":from")).contains(":from"));
    assert!(shop.refused(|s| s.cart = Some("SELECT 1".into())).contains("does not use :cart_id"));
    let shop = Shop::new(&SCHEMA.replace("sku TEXT, ", ""));
    assert!(shop.refused(|_| ()).contains("lacks sku"));
}
