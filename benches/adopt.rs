//! Measures adopting an old log: wall time and peak memory. `cargo bench --bench adopt`
//!
//! 1. `import log` of a CSV of 1,000,000 rows, 20 % of them duplicates, into a new ledger; and the same file again.
//! 2. `cleanup-duplicates` and `add-index` on an old log with these rows, beside the same grouping as one statement in
//!    the `sqlite3` shell (skipped where it is not installed).
//! 3. The duplicate check before and after the index.
//!
//! `MAILONCE_BENCH_ROWS` changes the million.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rusqlite::Connection;
use support::{command, report, wait};

const CONFIG: &str = "ledger = \"mailonce.db\"\n[shop]\nname = \"Bench\"\nurl = \"https://shop.example\"\n[source]\n\
    kind = \"sqlite\"\npath = \"shop.db\"\n[mail]\nfrom = \"Bench <bench@shop.example>\"\ntransport = \"file\"\n";
/// The rule of `cleanup-duplicates` as far as one statement can say it: rows that come less than a day after the row
/// before them, of one shopper and cart, mailed ones first.
const GROUPING: &str = "SELECT count(*) FROM (
    SELECT created_at, lag(created_at) OVER (PARTITION BY coalesce('u:' || user_id, 'e:' || lower(trim(email))), cart_hash
        ORDER BY email_sent DESC, created_at, id) AS before FROM cart_abandonment_log)
    WHERE abs(unixepoch(created_at) - unixepoch(before)) < 86400;";
const CHECK: &str = "SELECT 1 FROM cart_abandonment_log WHERE user_id = ?1 AND cart_hash = ?2 AND created_at > ?3";

fn main() {
    let rows: u64 = std::env::var("MAILONCE_BENCH_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let old = folder.path().join("old");
    fs::create_dir_all(&old).expect("a folder");
    fs::write(old.join("mailonce.toml"), CONFIG).expect("a configuration");
    make_log(&old.join("mailonce.db"), rows);
    println!("an old log of {rows} rows, one in five a duplicate");

    let import = folder.path().join("import");
    fs::create_dir_all(&import).expect("a folder");
    fs::write(import.join("mailonce.toml"), CONFIG).expect("a configuration");
    assert!(command(&import, &["init", "--rehearsal"]).status().expect("init").success());
    dump(&old.join("mailonce.db"), &import.join("log.csv"));
    let arguments = ["import", "log", "log.csv", "--timezone", "UTC"];
    report("import log, CSV", &import, &arguments, 1);
    report("import log, the same file again", &import, &arguments, 1);
    report("cleanup-duplicates on what was imported", &import, &["cleanup-duplicates"], 1);

    let before = duplicate_check(&old.join("mailonce.db"), "by hand", 20);
    let shell = grouping(&old.join("mailonce.db"));
    report("cleanup-duplicates --dry-run", &old, &["cleanup-duplicates", "--timezone", "UTC", "--dry-run"], 3);
    let cleanup = report("cleanup-duplicates", &old, &["cleanup-duplicates", "--timezone", "UTC"], 1);
    if let Some(shell) = shell {
        println!("    {:.2} times the statement", cleanup.as_secs_f64() / shell);
    }
    report("add-index", &old, &["add-index", "--rehearsal", "--timezone", "UTC"], 1);
    let after = duplicate_check(&old.join("mailonce.db"), "2024", 20_000);
    println!("duplicate check: {:.3} ms before the index, {:.4} ms after", before * 1e3, after * 1e3);
}

/// An old log: four rows in five of their own, and one a copy of the row before it, some seconds later.
fn make_log(path: &Path, rows: u64) {
    let log = Connection::open(path).expect("an old log");
    log.execute_batch(&format!(
        "PRAGMA synchronous = OFF; BEGIN;
         CREATE TABLE cart_abandonment_log (id INTEGER PRIMARY KEY, user_id INTEGER, email TEXT, cart_hash TEXT,
             email_sent INTEGER, created_at TEXT);
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {rows} - 1),
             episode AS (SELECT i, i - (i % 5 = 4) AS e, (i % 5 = 4) * 4 AS later FROM n)
         INSERT INTO cart_abandonment_log
         SELECT i + 1, CASE WHEN e % 10 < 7 THEN e * 7919 % 200000 END, 'shopper' || (e * 7919 % 200000) || '@example.com',
             printf('%016x%016x%016x%016x', e * 2654435761, e, e * 40503, e * 97), 1 - (e % 3 = 0),
             datetime('2024-01-01', '+' || (e * 48271 % 63072000 + later) || ' seconds')
         FROM episode;
         COMMIT;"
    ))
    .expect("its rows");
}

/// Writes the log as a CSV file.
fn dump(log: &Path, csv: &Path) {
    use std::io::Write;
    let log = Connection::open(log).expect("the log");
    let mut file = std::io::BufWriter::new(fs::File::create(csv).expect("a file"));
    writeln!(file, "id,user_id,email,cart_hash,email_sent,created_at").expect("a header");
    let mut rows = log
        .prepare(
            "SELECT id, coalesce(user_id, '\\N'), email, cart_hash, email_sent, created_at FROM cart_abandonment_log",
        )
        .expect("its rows");
    let mut rows = rows.query([]).expect("its rows");
    while let Some(row) = rows.next().expect("a row") {
        let text = |at: usize| match row.get_ref(at).expect("a value") {
            rusqlite::types::ValueRef::Integer(number) => number.to_string(),
            value => value.as_str().expect("a text").to_owned(),
        };
        let fields: Vec<String> = (0..6).map(text).collect();
        writeln!(file, "{}", fields.join(",")).expect("a row");
    }
}

/// The grouping in the `sqlite3` shell: seconds.
fn grouping(log: &Path) -> Option<f64> {
    let began = Instant::now();
    let shell = Command::new("sqlite3").arg(log).arg(GROUPING).stdout(Stdio::piped()).spawn();
    let Ok(mut shell) = shell else {
        println!("sqlite3 is not installed: the same grouping in its shell is not measured");
        return None;
    };
    let mut found = String::new();
    std::io::Read::read_to_string(&mut shell.stdout.take().expect("its words"), &mut found).expect("its words");
    let (status, kib) = wait(shell);
    let took = began.elapsed().as_secs_f64();
    assert!(status.success(), "sqlite3 ended with {status}");
    println!(
        "the same grouping in the sqlite3 shell: {:.1} ms, peak {:.1} MB ({} rows)",
        took * 1e3,
        kib as f64 / 1024.0,
        found.trim()
    );
    Some(took)
}

/// One duplicate check, in seconds: the mean over many.
fn duplicate_check(log: &Path, since: &str, times: u32) -> f64 {
    let log = Connection::open(log).expect("the log");
    let mut check = log.prepare(CHECK).expect("the check");
    let began = Instant::now();
    for n in 0..times {
        check.exists((n * 7 % 200_000, "none", since)).expect("an answer");
    }
    began.elapsed().as_secs_f64() / f64::from(times)
}
