//! Measures whole runs of `detect`: wall time and peak memory. `cargo bench --bench detect`
//!
//! 1. Nothing to do: a shop of 1,000,000 carts and a ledger of 1,000,000 messages.
//! 2. The same shop with every cart within `max_age`: none written to, so that `max_per_run` stops it.
//! 3. A quarter of a million within `max_age`, all ordered; and all written to already.
//! 4. 10,000 carts planned and sent to Postfix's `smtp-sink` on loopback (skipped where it is not installed).
//!
//! `MAILONCE_BENCH_CARTS` changes the million.

mod support;

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use support::{command, fill_ledger, report, smtp_sink};

const SHOP: &str = "
    CREATE TABLE carts (cart_id TEXT PRIMARY KEY, user_id TEXT, email TEXT, name TEXT, currency TEXT, created_at TEXT,
        updated_at TEXT, recovery_url TEXT, consent INTEGER);
    CREATE TABLE cart_items (cart_id TEXT, sku TEXT, name TEXT, quantity INTEGER, unit_price TEXT, image_url TEXT, url TEXT);
    CREATE TABLE orders (order_id TEXT PRIMARY KEY, cart_id TEXT, email TEXT, created_at TEXT);
    CREATE INDEX cart_items_cart_id ON cart_items (cart_id);
    CREATE INDEX orders_cart_id ON orders (cart_id);
    CREATE INDEX orders_email ON orders (email);
    CREATE INDEX carts_updated_at ON carts (updated_at);";

fn main() {
    let carts: u64 = std::env::var("MAILONCE_BENCH_CARTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!("{}", env!("CARGO_BIN_EXE_mailonce"));

    let old = folder.path().join("old");
    // Spread over two years: none within max_age.
    prepare(
        &old,
        carts,
        "datetime('now', '-' || (4 * 1440 + i % (720 * 1440)) || ' minutes')",
        "transport = \"file\"",
        "",
    );
    fill_ledger(&old, carts);
    report(&format!("nothing to do, {carts} carts, {carts} messages"), &old, &["detect"], 10);

    let all = folder.path().join("all");
    prepare(&all, carts, "datetime('now', '-' || (120 + i % 1440) || ' minutes')", "transport = \"file\"", "");
    report(&format!("{carts} carts in reach, none written to, over max_per_run"), &all, &["detect"], 1);

    let some = carts / 4;
    let reach = "datetime('now', '-' || (120 + i % 1440) || ' minutes')";
    let (ordered, written_to) = (folder.path().join("ordered"), folder.path().join("written-to"));
    prepare(&ordered, some, reach, "transport = \"file\"", "");
    let shop = Connection::open(ordered.join("shop.db")).expect("the shop");
    shop.execute_batch("INSERT INTO orders SELECT 'o' || cart_id, cart_id, email, updated_at FROM carts")
        .expect("orders");
    drop(shop);
    report(&format!("{some} carts in reach, all ordered"), &ordered, &["detect"], 3);
    prepare(&written_to, some, reach, "transport = \"file\"", "");
    fill_ledger(&written_to, some);
    let ledger = Connection::open(written_to.join("mailonce.db")).expect("the ledger");
    ledger
        .execute_batch(&format!(
            "PRAGMA synchronous = OFF; DROP TRIGGER message_is_itself;
             UPDATE message SET cart_hash = '{}', armed_at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-1 hours')",
            hash_of_a_cart(&folder.path().join("one"))
        ))
        .expect("a history of today");
    drop(ledger);
    report(&format!("{some} carts in reach, all written to"), &written_to, &["detect"], 3);

    match smtp_sink() {
        Some((mut sink, port)) => {
            for connections in [1, 4, 16] {
                let mail = format!(
                    "transport = \"smtp\"\n[mail.smtp]\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nconnections = {connections}"
                );
                let send = folder.path().join(format!("send-{connections}"));
                prepare(&send, 10_000, "datetime('now', '-2 hours')", &mail, "max_per_run = 10000");
                let took =
                    report(&format!("10000 carts planned and sent, {connections} connections"), &send, &["detect"], 1);
                println!("    {:.0} messages/s, planning included", 10_000.0 / took.as_secs_f64());
                let sent = sent(&send);
                assert_eq!(sent, 10_000, "not all were sent");
            }
            let _ = sink.kill();
            let _ = sink.wait();
        }
        None => println!("smtp-sink is not installed (Debian: postfix): sending is not measured"),
    }
}

/// Makes a shop, a configuration and a rehearsal ledger.
fn prepare(folder: &Path, carts: u64, updated_at: &str, mail: &str, detect: &str) {
    fs::create_dir_all(folder).expect("a folder");
    let shop = Connection::open(folder.join("shop.db")).expect("a shop");
    shop.execute_batch(SHOP).expect("its tables");
    shop.execute_batch(&format!(
        "BEGIN;
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {carts} - 1)
         INSERT INTO carts SELECT 'c' || i, 'u' || i, 'shopper' || i || '@example.com', 'Shopper ' || i, 'EUR',
             NULL, {updated_at}, 'https://shop.example/cart/c' || i, 1 FROM n;
         INSERT INTO cart_items SELECT cart_id, 'A-1', 'Desk lamp, brass', 2, '19.90', NULL, NULL FROM carts;
         INSERT INTO cart_items SELECT cart_id, 'B-7', 'Notebook', 1, '12.50', NULL, NULL FROM carts;
         COMMIT;"
    ))
    .expect("its carts");
    let config = format!(
        "ledger = \"mailonce.db\"\n[shop]\nname = \"Bench\"\nurl = \"https://shop.example\"\n[source]\nkind = \"sqlite\"\npath = \"shop.db\"\n\
         [detect]\nsince = \"2020-01-01T00:00:00Z\"\n{detect}\n[mail]\nfrom = \"Bench <bench@shop.example>\"\n{mail}\n"
    );
    fs::write(folder.join("mailonce.toml"), config).expect("a configuration");
    assert!(command(folder, &["init", "--rehearsal"]).status().expect("init").success());
}

/// The `cart_hash` of every cart of [`prepare`]: they all hold the same.
fn hash_of_a_cart(folder: &Path) -> String {
    prepare(folder, 1, "datetime('now', '-2 hours')", "transport = \"file\"", "");
    let shown = command(folder, &["--json", "detect", "--dry-run"])
        .stdout(std::process::Stdio::piped())
        .output()
        .expect("a dry run");
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("its JSON");
    shown["would_send"][0]["cart_hash"].as_str().expect("a cart").to_owned()
}

fn sent(folder: &Path) -> u64 {
    let ledger = Connection::open(folder.join("mailonce.db")).expect("the ledger");
    ledger.query_row("SELECT count(*) FROM message WHERE state = 'sent'", [], |row| row.get(0)).expect("a count")
}
