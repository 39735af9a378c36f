//! What databases make of times, numbers and texts: read as they are meant, or named as bad; never guessed.

use super::Shop;
use crate::support::{DatabaseServer, Engine, Plan, Server, World};

/// What a dry run says of the cart of each row, when `of` has the columns `id` and `at`.
fn verdicts(world: &World) -> String {
    let ran = world.run(["detect", "--dry-run"]);
    assert!([0, 1].contains(&ran.code), "{ran}");
    ran.output()
}

/// A query on the table `t`, with an expression for one of the columns.
fn on_t(column: &str, expression: &str) -> String {
    let defaults = [
        ("cart_id", "id"),
        ("user_id", "NULL"),
        ("email", "CONCAT('m', n, '@example.com')"),
        ("currency", "'EUR'"),
        ("updated_at", "'2026-03-01T08:00:00Z'"),
        ("recovery_url", "NULL"),
        ("consent", "1"),
        ("sku", "'A-1'"),
        ("item_name", "'Lamp'"),
        ("quantity", "1"),
        ("unit_price", "'19.90'"),
    ];
    let list: Vec<String> = defaults
        .iter()
        .map(|(name, default)| format!("{} AS {name}", if *name == column { expression } else { default }))
        .collect();
    format!("SELECT {} FROM t WHERE :not_before < :idle_before OR id IS NULL", list.join(", "))
}

/// A shop with a table `t`, and its verdict on the carts that a query finds there.
fn read(server: &'static DatabaseServer, table: &str, column: &str, expression: &str) -> (World, Shop, String) {
    let (world, shop) = Shop::on(server);
    shop.run(&world, table);
    let query = on_t(column, expression).replace(
        ":not_before < :idle_before",
        match server.engine {
            Engine::MariaDb => ":not_before < :idle_before",
            Engine::Postgres => "CAST(:not_before AS text) < CAST(:idle_before AS text)",
        },
    );
    let world = world.set("source.carts", query).set("source.timezone", "Europe/Berlin");
    let world = world.set("source.ordered", "SELECT 1 FROM purchase WHERE mail = :email").init();
    let said = verdicts(&world);
    (world, shop, said)
}

#[test]
fn an_instant_is_one_and_a_wall_time_is_of_the_sources_zone() {
    // With the hour that is meant, in UTC.
    let cases = [
        (Engine::MariaDb, "TIMESTAMP NULL", "2026-03-01 11:00:00", 11),
        (Engine::MariaDb, "TIMESTAMP(6) NULL", "2026-03-01 11:00:00.5", 11),
        (Engine::MariaDb, "DATETIME", "2026-03-01 11:00:00", 10),
        (Engine::MariaDb, "DATETIME(3)", "2026-03-01 11:00:00.25", 10),
        (Engine::MariaDb, "VARCHAR(40)", "2026-03-01T11:00:00Z", 11),
        (Engine::MariaDb, "BIGINT", "1772362800", 11),
        (Engine::Postgres, "TIMESTAMPTZ", "2026-03-01 11:00:00+00", 11),
        (Engine::Postgres, "TIMESTAMPTZ", "2026-03-01 16:45:00.25+05:45", 11),
        (Engine::Postgres, "TIMESTAMP", "2026-03-01 11:00:00", 10),
        (Engine::Postgres, "TIMESTAMP(3)", "2026-03-01 11:00:00.25", 10),
        (Engine::Postgres, "TEXT", "2026-03-01 11:00:00+00", 11),
        (Engine::Postgres, "BIGINT", "1772362800", 11),
    ];
    for (engine, kind, at, hour) in cases {
        let Some(server) = DatabaseServer::shared(engine) else { continue };
        let zone = if engine == Engine::MariaDb { "SET time_zone = '+00:00'" } else { "SET TIME ZONE 'UTC'" };
        let table =
            format!("{zone}; CREATE TABLE t (id INTEGER, n INTEGER, at {kind}); INSERT INTO t VALUES (1, 1, '{at}')");
        let (world, _shop, said) = read(server, &table, "updated_at", "at");
        assert!(said.contains("would send  cart 1"), "{engine:?} {kind} {at}: {said}");
        // Idle for an hour to the second, or not yet.
        let (due_at, before) = match hour {
            10 => ("2026-03-01T11:00:00Z", "2026-03-01T10:59:59Z"),
            _ => ("2026-03-01T12:00:00Z", "2026-03-01T11:59:59Z"),
        };
        world.set_now(due_at);
        let due = verdicts(&world);
        world.set_now(before);
        let not_yet = verdicts(&world);
        assert!(due.contains("would send  cart 1"), "{engine:?} {kind}: {due}");
        assert!(not_yet.contains("not idle yet"), "{engine:?} {kind}: {not_yet}");
    }
}

#[test]
fn each_type_of_a_number_is_read_exactly() {
    let cases = [
        (Engine::MariaDb, "unit_price", "DECIMAL(12,4)", "'1.5000'", "1.50 EUR"),
        (Engine::MariaDb, "unit_price", "FLOAT", "19.9", "19.90 EUR"),
        (Engine::MariaDb, "unit_price", "DOUBLE", "19.9", "19.90 EUR"),
        (Engine::MariaDb, "quantity", "DECIMAL(12,4)", "'2.0000'", "39.80 EUR"),
        (Engine::MariaDb, "quantity", "SMALLINT UNSIGNED", "2", "39.80 EUR"),
        (Engine::MariaDb, "quantity", "DOUBLE", "2", "39.80 EUR"),
        (Engine::MariaDb, "consent", "BIT(1)", "b'1'", "would send"),
        (Engine::MariaDb, "consent", "BIT(1)", "b'0'", "no consent"),
        (Engine::MariaDb, "consent", "BOOLEAN", "NULL", "no consent"),
        (Engine::MariaDb, "user_id", "BIGINT UNSIGNED", "18446744073709551615", "would send"),
        (Engine::MariaDb, "cart_id", "BIGINT UNSIGNED", "18446744073709551615", "cart 18446744073709551615"),
        (Engine::MariaDb, "cart_id", "BINARY(16)", "'0123456789abcdef'", "the cart_id is a BLOB, not a text"),
        (
            Engine::MariaDb,
            "cart_id",
            "UUID",
            "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
            "cart a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ),
        (Engine::MariaDb, "currency", "ENUM('USD', 'EUR')", "'EUR'", "would send"),
        (Engine::MariaDb, "item_name", "VARCHAR(50) CHARACTER SET latin1", "'Größe'", "would send"),
        (Engine::MariaDb, "item_name", "VARCHAR(50) CHARACTER SET utf8mb3", "'Größe'", "would send"),
        (Engine::MariaDb, "item_name", "TEXT", "'O''Hara 🎉'", "would send"),
        (Engine::MariaDb, "item_name", "TEXT", "'two\\nlines'", "holds a line break"),
        (Engine::Postgres, "unit_price", "NUMERIC(12,4)", "1.5", "1.50 EUR"),
        (Engine::Postgres, "unit_price", "REAL", "19.9", "19.90 EUR"),
        (Engine::Postgres, "unit_price", "DOUBLE PRECISION", "19.9", "19.90 EUR"),
        (Engine::Postgres, "unit_price", "NUMERIC", "'NaN'", "not an amount"),
        (Engine::Postgres, "quantity", "BIGINT", "2", "39.80 EUR"),
        (Engine::Postgres, "quantity", "DOUBLE PRECISION", "2", "39.80 EUR"),
        (Engine::Postgres, "consent", "BOOLEAN", "true", "would send"),
        (Engine::Postgres, "consent", "BOOLEAN", "false", "no consent"),
        (Engine::Postgres, "consent", "BOOLEAN", "NULL", "no consent"),
        (
            Engine::Postgres,
            "cart_id",
            "UUID",
            "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
            "cart a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ),
        (Engine::Postgres, "cart_id", "BYTEA", "'\\x00ff'", "the cart_id is a BLOB, not a text"),
        (Engine::Postgres, "currency", "CHAR(3)", "'EUR'", "would send"),
        (Engine::Postgres, "item_name", "TEXT", "'O''Hara 🎉'", "would send"),
        (Engine::Postgres, "item_name", "JSONB", "'\"Lamp\"'", "would send"),
    ];
    for (engine, column, kind, value, expected) in cases {
        let Some(server) = DatabaseServer::shared(engine) else { continue };
        let table = format!("CREATE TABLE t (id INTEGER, n INTEGER, x {kind}); INSERT INTO t VALUES (1, 1, {value})");
        let (_, _, said) = read(server, &table, column, "x");
        assert!(said.contains(expected), "{engine:?} {column} {kind} {value}: {said}");
    }
}

#[test]
fn an_enumeration_and_a_type_of_its_own_are_texts() {
    let Some(server) = DatabaseServer::shared(Engine::Postgres) else { return };
    let table = "CREATE TYPE coin AS ENUM ('EUR', 'USD'); CREATE DOMAIN mail AS TEXT;
        CREATE TABLE t (id INTEGER, n INTEGER, x coin, m mail); INSERT INTO t VALUES (1, 1, 'EUR', 'ada@example.com')";
    let (world, _shop, said) = read(server, table, "currency", "x");
    assert!(said.contains("would send  cart 1"), "{said}");
    world.configure("source.cart", on_t("email", "m").replace(":not_before < :idle_before", "id = :cart_id"));
    world.ok(["preview", "1"]);
}

#[test]
fn zero_dates_are_no_times() {
    let Some(server) = DatabaseServer::shared(Engine::MariaDb) else { return };
    let table = "SET sql_mode = ''; CREATE TABLE t (id INTEGER, n INTEGER, x DATETIME, y DATE);
                 INSERT INTO t VALUES (1, 1, '0000-00-00 00:00:00', '0000-00-00')";
    let (world, _shop, said) = read(server, table, "updated_at", "x");
    assert!(said.contains("no updated_at"), "{said}");
    let query = on_t("updated_at", "'2026-03-01T08:00:00Z'")
        .replace("1 AS consent", "1 AS consent, x AS created_at, y AS ordered_at");
    world.configure("source.carts", query);
    let said = verdicts(&world);
    assert!(said.contains("would send  cart 1"), "{said}");
}

#[test]
fn an_address_that_the_columns_character_set_lacks_is_no_fault() {
    let Some(server) = DatabaseServer::shared(Engine::MariaDb) else { return };
    for set in ["latin1", "utf8mb3", "ascii"] {
        let (world, shop) = Shop::on(server);
        let to = Server::start(Plan::accepting());
        let world = world.smtp(&to).init();
        shop.run(&world, &format!("ALTER TABLE purchase MODIFY mail VARCHAR(100) CHARACTER SET {set}"));
        shop.basket(&world, 1, "яна🎉@example.com", "2026-03-01 08:00:00");
        world.ok(["detect"]);
        world.has([("sent", 1)]);
    }
}

#[test]
fn ids_that_differ_in_case_alone_are_two_carts_and_one_that_is_no_number_is_gone() {
    for (world, shop) in Shop::on_servers() {
        shop.run(
            &world,
            "CREATE TABLE t (id VARCHAR(20), n INTEGER, sku VARCHAR(10));
             INSERT INTO t VALUES ('a', 1, '1'), ('A', 2, '1'), ('a', 1, '2'), ('A', 2, '2'), ('a', 1, '3'), ('A', 2, '3')",
        );
        let query = on_t("sku", "sku").replace(":not_before < :idle_before", "id = 'a' OR id = 'A'");
        let world =
            world.set("source.carts", query).set("source.ordered", "SELECT 1 FROM purchase WHERE mail = :email");
        let world = world.init();
        let said = verdicts(&world);
        assert!(said.contains("cart a (") && said.contains("cart A ("), "{shop:?}: {said}");
        assert_eq!(said.matches("59.70 EUR").count(), 2, "{shop:?}: {said}");
        let world = world.set("source.carts", super::CARTS.to_owned());
        for id in ["abc", "99999999999999999999", "1.5", "", "1 "] {
            shop.run(&world, "DELETE FROM basket; DELETE FROM customer; DELETE FROM basket_line");
            shop.basket(&world, 1, "ada@example.com", "2026-03-01 08:00:00");
            let ran = world.run(["preview", id]);
            assert_ne!(ran.code, 0, "{ran}");
            ran.says("no cart");
        }
        world.ok(["preview", "1"]);
    }
}
