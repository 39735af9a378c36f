//! How time and memory grow with the ledger: empty, a million messages, ten million. `cargo bench --bench growth`
//!
//! In each: a run with nothing to do, a campaign of 1,000 recipients over 8 connections to Postfix's `smtp-sink`,
//! `status`, `campaign list` and `audit`. `MAILONCE_BENCH_MILLIONS=0,1` changes the sizes; ten million messages take 8 GB.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use sha2::{Digest, Sha256};
use support::{configure, open_campaign, report, report_after, run, smtp_sink};

const RECIPIENTS: u32 = 1000;
const CAMPAIGNS: usize = 7;
const RUNS: usize = 10;
const LETTER: &str = "<html><body><p>Dear {{ name }}, spring is here.</p></body></html>\n";

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, word, home, millions] = &args[..]
        && word == "fill"
    {
        return fill(Path::new(home), millions.parse().expect("millions"));
    }
    let sizes = std::env::var("MAILONCE_BENCH_MILLIONS").unwrap_or_else(|_| "0,1,10".into());
    let Some((mut sink, port)) = smtp_sink() else {
        println!("smtp-sink is not installed (Debian: postfix): nothing can be measured");
        return;
    };
    for millions in sizes.split(',').map(|size| size.trim().parse::<u64>().expect("millions")) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = folder.path();
        prepare(home, port);
        // In a process of its own: what it keeps in memory would be measured with every run that is started from here.
        let filled = Command::new(std::env::current_exe().expect("this program"))
            .arg("fill")
            .args([home.to_str().expect("a path"), &millions.to_string()])
            .status();
        assert!(filled.expect("a child").success());
        let bytes = fs::metadata(home.join("mailonce.db")).expect("the ledger").len();
        println!("a ledger of {millions},000,000 messages ({} MB)", bytes / 1_000_000);
        // The first run after the filling brings everything to where later runs find it.
        run(home, &["run-campaigns"]);
        report("run-campaigns, nothing to do", home, &["run-campaigns"], RUNS);
        report("detect, nothing to do", home, &["detect"], RUNS);
        let what = format!("run-campaigns, {RECIPIENTS} recipients");
        let took = report_after(&what, home, &["run-campaigns"], CAMPAIGNS, |number| {
            open_campaign(home, &format!("spring-{number}"), LETTER, RECIPIENTS);
        });
        println!("    {:.0} messages/s", f64::from(RECIPIENTS) / took.as_secs_f64());
        report("status", home, &["status"], 3);
        report("campaign list", home, &["campaign", "list"], 3);
        report("audit", home, &["audit"], 1);
        println!();
    }
    let _ = sink.kill();
    let _ = sink.wait();
}

fn prepare(home: &Path, port: u16) {
    configure(home, port, 8, "");
    fs::write(home.join("campaigns.toml"), "").expect("no campaign yet");
    Connection::open(home.join("shop.db"))
        .and_then(|shop| shop.execute_batch(include_str!("../examples/shop.sql")))
        .and_then(|()| {
            Connection::open(home.join("shop.db"))?.execute_batch("DELETE FROM cart_items; DELETE FROM carts;")
        })
        .expect("a shop without carts");
    run(home, &["init", "--rehearsal"]);
}

/// Puts a history of sent campaigns into the ledger, a million recipients each.
fn fill(home: &Path, millions: u64) {
    let ledger = Connection::open(home.join("mailonce.db")).expect("the ledger");
    let id: String = ledger.query_row("SELECT ledger_id FROM ledger", [], |row| row.get(0)).expect("its id");
    // As mailonce makes it, or `audit` would name every message.
    let token = move |row: &rusqlite::functions::Context<'_>| {
        let key: String = row.get(0)?;
        let digest = Sha256::digest(format!("{id}\0{key}"));
        Ok(digest[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    ledger.create_scalar_function("token", 1, FunctionFlags::SQLITE_UTF8, token).expect("a function");
    // Written as it ended, which the triggers forbid to anyone: they are taken off and put back.
    let triggers: Vec<(String, String)> = ledger
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
        .and_then(|mut rows| rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .expect("the triggers");
    // Not through the write-ahead log: in one of gigabytes each page is looked up in hundreds of tables.
    let mut sql =
        String::from("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -400000; BEGIN;");
    for (name, _) in &triggers {
        sql.push_str(&format!("DROP TRIGGER \"{name}\";"));
    }
    sql.push_str(
        "UPDATE ledger SET epoch = 1;
         INSERT INTO run (epoch, command, started_at, ended_at, ending, attempt_after)
         VALUES (1, 'run-campaigns', '2025-01-01T00:00:00Z', '2025-01-01T00:00:09Z', 'done', 0);",
    );
    for campaign in 1..=millions {
        sql.push_str(&format!(
            "INSERT INTO scheduled_campaign (campaign_id, last_run, total_runs, status, enabled, defined, first_seen_at, schedule)
             VALUES ('old-{campaign:03}', '2025-01-01T00:00:00Z', 1, 'completed', 0, 0, '2024-12-31T00:00:00Z', 'at 2025-01-01T00:00:00Z UTC');
             INSERT INTO campaign_occurrence (id, campaign_id, planned_at, state, decided_at, schedule, subject, template,
                 template_name, sender, expires_at, audience_rows, bad_rows, repeated, recipients)
             VALUES ({campaign}, 'old-{campaign:03}', '2025-01-01T00:00:00Z', 'opened', '2025-01-01T00:00:00Z', 'at 2025-01-01T00:00:00Z UTC',
                 'Hello', 'Hello', 'letter.html', 'bench@shop.example', '2025-01-04T00:00:00Z', 1000000, 0, 0, 1000000);
             WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999999)
             INSERT INTO message (message_key, kind, state, recipient, folded_address, message_id, planned_at, not_before, expires_at,
                 armed_at, settled_at, epoch, last_reply, occurrence, recipient_values)
             SELECT printf('campaign/old-{campaign:03}/2025-01-01T00:00:00Z/recipient%07d@example.com', i), 'campaign', 'sent',
                 printf('recipient%07d@example.com', i), printf('recipient%07d@example.com', i),
                 '<' || token(printf('campaign/old-{campaign:03}/2025-01-01T00:00:00Z/recipient%07d@example.com', i)) || '@shop.example>', '2025-01-01T00:00:00Z', '2025-01-01T00:00:00Z',
                 '2025-01-04T00:00:00Z', '2025-01-01T00:00:01Z', '2025-01-01T00:00:02Z', 1, '250 2.0.0 Ok', {campaign},
                 '{{\"name\":\"Recipient\"}}' FROM n;"
        ));
    }
    sql.push_str(
        "INSERT INTO attempt (message, epoch, armed_at, ended_at, outcome, reply)
         SELECT id, 1, armed_at, settled_at, 'sent', last_reply FROM message;",
    );
    for (_, trigger) in &triggers {
        sql.push_str(trigger);
        sql.push(';');
    }
    sql.push_str("COMMIT; PRAGMA journal_mode = WAL;");
    ledger.execute_batch(&sql).expect("a history");
}
