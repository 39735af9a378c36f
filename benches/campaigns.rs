//! Measures whole runs of `run-campaigns`: wall time and peak memory. `cargo bench --bench campaigns`
//!
//! 1. Nothing to do: 1,000 campaigns defined, 1,000,000 messages in the ledger.
//! 2. Opening a campaign of 1,000,000 recipients.
//!
//! `MAILONCE_BENCH_RECIPIENTS` changes the million.

mod support;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use support::{command, fill_ledger, report, smtp_sink};

const CONFIG: &str = "ledger = \"mailonce.db\"\n[shop]\nname = \"Bench\"\nurl = \"https://shop.example\"\n[source]\n\
    kind = \"sqlite\"\npath = \"shop.db\"\n[mail]\nfrom = \"Bench <bench@shop.example>\"\n";

fn main() {
    let recipients: u64 =
        std::env::var("MAILONCE_BENCH_RECIPIENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir().expect("a temporary folder");

    let idle = folder.path().join("idle");
    let mut definitions = String::new();
    for n in 0..1000 {
        writeln!(
            definitions,
            "{}cron = \"{} {} * * MON\"\ntimezone = \"Europe/Berlin\"\n",
            head(&format!("campaign-{n}")),
            n % 60,
            n % 24
        )
        .expect("a text");
    }
    prepare(&idle, &definitions, "transport = \"file\"\n");
    fill_ledger(&idle, recipients);
    report("the first run sees 1000 campaigns", &idle, &["run-campaigns"], 1);
    report(&format!("nothing to do, 1000 campaigns, {recipients} messages"), &idle, &["run-campaigns"], 10);

    let open = folder.path().join("open");
    let at = chrono::Utc::now() + chrono::TimeDelta::seconds(1);
    prepare(&open, &format!("{}at = \"{}\"\n", head("big"), at.format("%Y-%m-%dT%H:%M:%SZ")), "transport = \"file\"\n");
    let mut audience = String::from("email,name,city\n");
    for n in 0..recipients {
        writeln!(audience, "recipient{n}@example.com,Recipient {n},Berlin").expect("a text");
    }
    let path = open.join("audience.csv");
    fs::write(&path, audience).expect("an audience");
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(long_ago)).expect("its age");
    // Seen before it is due; then due.
    report("the first run sees one campaign", &open, &["run-campaigns"], 1);
    while chrono::Utc::now() <= at {
        std::thread::yield_now();
    }
    report(
        &format!("opening {recipients} recipients (no time to send)"),
        &open,
        &["run-campaigns", "--time-budget", "0s"],
        1,
    );
    let bytes = fs::metadata(open.join("mailonce.db")).expect("the ledger").len();
    println!("    the ledger has {} MB", bytes / 1_000_000);
    report("campaign list", &open, &["campaign", "list"], 3);
    report("status", &open, &["status"], 3);

    let Some((mut sink, port)) = smtp_sink() else {
        println!("smtp-sink is not installed (Debian: postfix): sending is not measured");
        return;
    };
    let mail = format!(
        "transport = \"smtp\"\n[mail.smtp]\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nconnections = 8\n"
    );
    fs::write(open.join("mailonce.toml"), format!("{CONFIG}{mail}")).expect("a configuration");
    report("sending of it for 20 s, 8 connections", &open, &["run-campaigns", "--time-budget", "20s"], 1);
    let ledger = rusqlite::Connection::open(open.join("mailonce.db")).expect("the ledger");
    let sent: u64 =
        ledger.query_row("SELECT count(*) FROM message WHERE state = 'sent'", [], |row| row.get(0)).expect("a count");
    println!("    {:.0} messages/s", sent as f64 / 20.0);
    let _ = sink.kill();
    let _ = sink.wait();
}

fn head(id: &str) -> String {
    format!(
        "[[campaign]]\nid = \"{id}\"\nsubject = \"Hello {{{{ name }}}}\"\ntemplate = \"letter.html\"\naudience = \"audience.csv\"\n"
    )
}

/// Makes a configuration with these campaigns, and a rehearsal ledger.
fn prepare(folder: &Path, definitions: &str, mail: &str) {
    fs::create_dir_all(folder).expect("a folder");
    fs::write(folder.join("mailonce.toml"), format!("{CONFIG}{mail}")).expect("a configuration");
    fs::write(folder.join("campaigns.toml"), definitions).expect("definitions");
    fs::write(
        folder.join("letter.html"),
        include_str!("../examples/templates/spring.html").replace("favourite", "city"),
    )
    .expect("a template");
    assert!(command(folder, &["init", "--rehearsal"]).status().expect("init").success());
}
