//! Measures whole runs of `detect`: wall time and peak memory. `cargo bench --bench detect`
//!
//! 1. Nothing to do: a shop of 1,000,000 carts and a ledger of 1,000,000 messages.
//! 2. The same shop with every cart within `max_age` and written to already: the worst look.
//! 3. 10,000 carts planned and sent to Postfix's `smtp-sink` on loopback (skipped where it is not installed).
//!
//! `MAILONCE_BENCH_CARTS` changes the million.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rusqlite::Connection;

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
    report(&format!("nothing to do, {carts} carts, {carts} messages"), &old, 10);

    let all = folder.path().join("all");
    prepare(&all, carts, "datetime('now', '-' || (120 + i % 1440) || ' minutes')", "transport = \"file\"", "");
    report(&format!("{carts} carts in reach, none written to, over max_per_run"), &all, 1);

    match smtp_sink() {
        Some((mut sink, port)) => {
            for connections in [1, 4, 16] {
                let mail = format!(
                    "transport = \"smtp\"\n[mail.smtp]\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nconnections = {connections}"
                );
                let send = folder.path().join(format!("send-{connections}"));
                prepare(&send, 10_000, "datetime('now', '-2 hours')", &mail, "max_per_run = 10000");
                let took = report(&format!("10000 carts planned and sent, {connections} connections"), &send, 1);
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

/// Puts a history into a ledger: one sent message per cart.
fn fill_ledger(folder: &Path, messages: u64) {
    let ledger = Connection::open(folder.join("mailonce.db")).expect("the ledger");
    ledger
        .execute_batch(&format!(
            "PRAGMA synchronous = OFF; BEGIN;
             UPDATE ledger SET epoch = 1;
             INSERT INTO run VALUES (1, 'detect', '2025-01-01T00:00:00Z', '2025-01-01T00:00:00Z', 'done', 0, 0);
             WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {messages} - 1)
             INSERT INTO message (message_key, kind, state, recipient, folded_address, message_id, planned_at, not_before,
                 expires_at, identity, cart_id, cart_hash, cart_touched_at)
             SELECT 'cart/u:u' || i || '/v1:' || hex(randomblob(32)), 'cart', 'planned', 'shopper' || i || '@example.com',
                 'shopper' || i || '@example.com', '<' || hex(randomblob(16)) || '@shop.example>', '2025-01-01T00:00:00Z',
                 '2025-01-01T00:00:00Z', '2025-01-04T00:00:00Z', 'u:u' || i, 'c' || i, 'v1:' || hex(randomblob(32)),
                 '2025-01-01T00:00:00Z' FROM n;
             INSERT INTO cart_abandonment_log (identity, user_id, email, cart_id, cart_hash, cart_value, currency, created_at,
                 message_key, origin)
             SELECT identity, substr(identity, 3), recipient, cart_id, cart_hash, '52.30', 'EUR', planned_at, message_key, 'detect'
             FROM message;
             UPDATE message SET state = 'armed', armed_at = '2025-01-01T00:00:01Z', epoch = 1;
             UPDATE message SET state = 'sent', settled_at = '2025-01-01T00:00:02Z', last_reply = '250 2.0.0 Ok: queued';
             INSERT INTO attempt (message, epoch, armed_at, ended_at, outcome, reply)
             SELECT id, 1, armed_at, settled_at, 'sent', last_reply FROM message;
             UPDATE cart_abandonment_log SET email_sent = 1, last_sent_at = '2025-01-01T00:00:02Z';
             COMMIT; PRAGMA wal_checkpoint(TRUNCATE);"
        ))
        .expect("a history");
    let bytes = fs::metadata(folder.join("mailonce.db")).expect("the ledger").len();
    println!("a ledger of {messages} messages has {} MB", bytes / 1_000_000);
}

fn sent(folder: &Path) -> u64 {
    let ledger = Connection::open(folder.join("mailonce.db")).expect("the ledger");
    ledger.query_row("SELECT count(*) FROM message WHERE state = 'sent'", [], |row| row.get(0)).expect("a count")
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailonce"));
    command.current_dir(folder).env_clear().args(args);
    command
}

/// Runs `detect` several times; prints the median wall time and the highest peak memory.
fn report(what: &str, folder: &Path, runs: usize) -> Duration {
    let mut walls = Vec::new();
    let mut peak = 0;
    for _ in 0..runs {
        let began = Instant::now();
        let child = command(folder, &["detect"]).spawn().expect("detect");
        let (status, kib) = wait(child);
        walls.push(began.elapsed());
        peak = peak.max(kib);
        assert!(matches!(status.code(), Some(0 | 1)), "detect ended with {status}");
    }
    walls.sort();
    let median = walls[walls.len() / 2];
    println!("{what}: {:.1} ms (median of {runs}), peak {:.1} MB", median.as_secs_f64() * 1e3, peak as f64 / 1024.0);
    median
}

/// Waits for a process; its exit status and peak resident memory in KiB.
fn wait(child: Child) -> (ExitStatus, i64) {
    let mut status = 0;
    // SAFETY: rusage is plain data; both pointers are valid for the call, and the child has not been waited for.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage);
        usage
    };
    (ExitStatus::from_raw(status), usage.ru_maxrss)
}

/// Starts Postfix's `smtp-sink` on a free port of loopback.
fn smtp_sink() -> Option<(Child, u16)> {
    let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
    let address = format!("127.0.0.1:{port}");
    // SAFETY: geteuid has no preconditions.
    let user = if unsafe { libc::geteuid() } == 0 { &["-u", "nobody"][..] } else { &[] };
    let sink = ["/usr/sbin/smtp-sink", "/usr/local/sbin/smtp-sink"].iter().find(|path| Path::new(path).exists())?;
    let child = Command::new(sink).args(user).args([address.as_str(), "1024"]).spawn().ok()?;
    let until = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(&address).is_err() && Instant::now() < until {
        std::thread::yield_now();
    }
    Some((child, port))
}
