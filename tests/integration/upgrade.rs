//! Ledgers that an earlier schema wrote: every command reads them, one with the run lock brings them up to date, and
//! nothing is sent twice.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::support::{Act, Cart, Plan, Server, Stage, World, definition};

/// A ledger that an earlier schema wrote: a message in every state, an adopted log, campaigns, suppressions, and a run that
/// was killed with one message begun.
struct Old {
    schema: i64,
    rows: &'static str,
    /// An instant after all of it.
    after: &'static str,
    /// Campaigns besides `spring`, `gone` and `weekly`.
    campaigns: &'static [&'static str],
    /// Whose message was begun.
    begun: &'static str,
}

const OLDS: [Old; 2] = [
    Old {
        schema: 1,
        rows: include_str!("../fixtures/ledger-1.sql"),
        after: "2026-03-04T13:20:00Z",
        campaigns: &[],
        begun: "hang9@example.com",
    },
    Old {
        schema: 2,
        rows: include_str!("../fixtures/ledger-2.sql"),
        after: "2026-03-04T13:40:00Z",
        campaigns: &["autumn", "summer", "winter"],
        begun: "hang14@example.com",
    },
];
const NEWEST: i64 = 11;

impl Old {
    fn world(&self, server: &Server) -> World {
        self.changed_by_hand(server, "")
    }

    fn changed_by_hand(&self, server: &Server, sql: &str) -> World {
        let mut definitions = definition("spring", "at = \"2026-03-01 10:00\"")
            + &definition("gone", "at = \"2026-03-01 10:00\"")
            + &definition("weekly", "every = \"week\"\non = \"monday\"\ntime = \"09:00\"");
        for id in self.campaigns {
            definitions += &definition(id, "at = \"2026-03-04 13:18\"");
        }
        let world = World::with_campaigns(&definitions).smtp(server).now(self.after);
        let ledger = Connection::open(world.ledger_file()).unwrap();
        ledger.pragma_update(None, "journal_mode", "WAL").unwrap();
        ledger.pragma_update(None, "foreign_keys", false).unwrap();
        // A killed run leaves its log.
        ledger.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        ledger.execute_batch(self.rows).unwrap();
        ledger.execute_batch(sql).unwrap();
        assert_eq!(schema(&world), self.schema);
        world
    }
}

fn schema(world: &World) -> i64 {
    world.number("PRAGMA user_version")
}

#[test]
fn every_command_works_on_an_older_schema() {
    for (command, code, migrates) in [
        (&["status"][..], 0, false),
        (&["log"], 0, false),
        (&["explain", "old1@example.com"], 0, false),
        (&["report", "--html", "page.html"], 1, false),
        (&["audit"], 0, false),
        (&["resolve"], 0, false),
        (&["resolve", "--restored"], 0, false),
        (&["campaign", "list"], 0, false),
        (&["campaign", "show", "spring"], 0, false),
        (&["detect", "--dry-run"], 0, false),
        (&["run-campaigns", "--dry-run"], 0, false),
        (&["suppress", "list"], 0, false),
        (&["suppress", "add", "more@example.com", "--reason", "x"], 0, true),
        (&["suppress", "remove", "nobody@example.com"], 0, true),
        (&["import", "suppressions", "audience.csv"], 0, true),
        (&["campaign", "pause", "weekly"], 0, true),
        (&["campaign", "resume", "weekly"], 0, true),
        (&["campaign", "cancel", "spring"], 0, true),
        (
            &[
                "campaign",
                "add",
                "new",
                "--subject",
                "S",
                "--template",
                "letter.html",
                "--audience",
                "audience.csv",
                "--at",
                "2027-01-01 09:00",
            ],
            0,
            true,
        ),
        (&["detect"], 1, true),
        (&["run-campaigns"], 1, true),
        (&["resolve", "--all", "--resend", "--reason", "x"], 0, true),
        (&["campaign", "retry", "spring", "--state", "refused", "--state", "expired"], 0, true),
        (&["cleanup-duplicates"], 0, true),
        (&["add-index"], 0, true),
    ] {
        for old in &OLDS {
            let server = Server::start(Plan::accepting());
            let world = old.world(&server);
            let sent_before = world.states()["sent"];
            let ran = world.run(command);
            assert_eq!(ran.code, code, "schema {}: {ran}", old.schema);
            assert_eq!(schema(&world), if migrates { NEWEST } else { old.schema }, "{ran}");
            world.ok(["audit"]);
            // From here on as any ledger.
            world.run(["detect"]);
            world.run(["run-campaigns"]);
            assert_eq!(schema(&world), NEWEST);
            world.ok(["audit"]).is_silent();
            assert_eq!(world.number("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"), 0);
            assert_eq!(world.states()["sent"], sent_before + server.accepted().len(), "{ran}");
            let mut messages: Vec<String> = server.accepted().into_iter().map(|message| message.message_id).collect();
            messages.sort();
            messages.dedup();
            assert_eq!(messages.len(), server.accepted().len(), "{ran}: one went twice");
            let resends = command.contains(&"--resend");
            assert!(!server.recipients().iter().any(|to| to == old.begun && !resends), "{ran}");
        }
    }
}

#[test]
fn a_copy_of_the_older_ledger_stays_beside_it() {
    for old in &OLDS {
        let server = Server::start(Plan::accepting());
        let world = old.world(&server);
        let before = world.states();
        world.run(["detect"]);
        let copy = world.path(format!("mailonce.db.schema-{}", old.schema));
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&copy.metadata().unwrap().permissions()) & 0o777, 0o600);
        let kept = Connection::open(&copy).unwrap();
        let number = |sql: &str| kept.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(number("PRAGMA user_version"), old.schema);
        assert_eq!(number("SELECT count(*) FROM message"), before.values().sum::<usize>() as i64);
        assert!(!world.path(format!("mailonce.db.schema-{}.part", old.schema)).exists());
        // One that an earlier upgrade left is replaced.
        let again = old.world(&server);
        std::fs::write(again.path(format!("mailonce.db.schema-{}", old.schema)), "of another month").unwrap();
        again.run(["detect"]);
        let renewed = std::fs::metadata(again.path(format!("mailonce.db.schema-{}", old.schema))).unwrap().len();
        assert_eq!(renewed, copy.metadata().unwrap().len());
        // It is an old copy, and is noticed as one where it is put back.
        std::fs::copy(&copy, world.ledger_file()).unwrap();
        let _ = std::fs::remove_file(world.path("mailonce.db-wal"));
        world.exits(74, ["detect"]);
    }
}

#[test]
fn without_a_copy_nothing_is_changed_until_a_person_says_there_is_one() {
    for old in &OLDS {
        let server = Server::start(Plan::accepting());
        let world = old.world(&server);
        let name = format!("mailonce.db.schema-{}", old.schema);
        // A folder in its place: no copy can be made there, by whomever.
        std::fs::create_dir(world.path(format!("{name}.part"))).unwrap();
        world.exits(74, ["detect"]).says("no copy of it could be kept").says("kept: nothing was changed").says(&name);
        assert_eq!((schema(&world), server.connections()), (old.schema, 0));
        std::fs::write(world.path(&name), "").unwrap();
        world.run(["detect"]);
        assert_eq!(schema(&world), NEWEST);
    }
}

#[test]
fn a_command_without_the_lock_that_meets_an_older_schema_waits_for_the_run_under_way() {
    for old in &OLDS {
        let server = Server::start(Plan::accepting());
        let world = old.world(&server);
        let lock = std::fs::File::create(world.path("mailonce.db.lock")).unwrap();
        fs2::FileExt::lock_exclusive(&lock).unwrap();
        for command in [
            &["suppress", "add", "more@example.com", "--reason", "x"][..],
            &["suppress", "remove", "nobody@example.com"],
            &["campaign", "pause", "weekly"],
            &["campaign", "cancel", "weekly"],
        ] {
            world.exits(75, command).says("is to be brought up to date first").says("--wait 30s");
            assert_eq!(schema(&world), old.schema);
        }
        world.ok(["suppress", "list"]);
        world.ok(["status"]);
        let waiting = world.spawn(["suppress", "add", "more@example.com", "--reason", "x", "--wait", "60s"]);
        fs2::FileExt::unlock(&lock).unwrap();
        world.check(waiting.wait(), 0);
        assert_eq!(schema(&world), NEWEST);
        assert_eq!(world.number("SELECT count(*) FROM suppression WHERE folded_address = 'more@example.com'"), 1);
    }
}

#[test]
fn what_an_older_schema_decided_stays_decided() {
    let held = "SELECT group_concat(recipient) FROM message WHERE reason = 'held_back'";
    let cancelled = "SELECT group_concat(recipient) FROM message WHERE reason = 'cancelled'";
    for (old, cancelled_before) in
        OLDS.iter().zip(["later-r3@example.com", "later-r3@example.com,later-r3@example.com,later-r5@example.com"])
    {
        let server = Server::start(Plan::accepting());
        let world = old.world(&server);
        world.exits(1, ["detect"]);
        // Schema 1 had no reason of its own for what it held back.
        assert_eq!(world.list(held), "held1@example.com,held2@example.com");
        assert_eq!(world.list(cancelled), cancelled_before, "a person's decision stays one");
        assert_eq!(
            world.number("SELECT count(*) FROM scheduled_campaign WHERE status = 'cancelled' AND cancelled_at IS NULL"),
            0
        );
        // What expired before was told, or not, by the version of then.
        assert_eq!(world.number("SELECT count(*) FROM notice WHERE kind = 'expired'"), 0);
    }
}

#[test]
fn a_run_that_is_killed_after_it_brought_the_ledger_up_to_date_leaves_a_sound_one() {
    for old in &OLDS {
        let server = Server::start(Plan::accepting().at(Stage::Connect, Act::Hang));
        let world = old.world(&server);
        world.put(Cart::of("new").updated("2026-03-04T12:00:00Z"));
        let run = world.spawn(["detect"]);
        server.wait_for(Stage::Connect, 1);
        assert_eq!(schema(&world), NEWEST, "it is committed before anything else is begun");
        run.kill();
        server.release();
        let accepting = Server::start(Plan::accepting());
        world.send_to(&accepting);
        world.run(["detect"]);
        world.ok(["audit"]).is_silent();
    }
}

#[test]
fn a_table_that_was_changed_by_hand_is_not_rewritten() {
    for old in &OLDS {
        let server = Server::start(Plan::accepting());
        let by_hand = "ALTER TABLE ledger DROP COLUMN least_window_seconds; ALTER TABLE ledger ADD COLUMN mine TEXT";
        let world = old.changed_by_hand(&server, by_hand);
        world.exits(74, ["detect"]).says("the table ledger was changed by hand");
        world
            .exits(74, ["suppress", "add", "more@example.com", "--reason", "x"])
            .says("the table ledger was changed by hand");
        assert_eq!(schema(&world), old.schema);
        assert_eq!(server.connections(), 0);
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn killed_at_any_call_it_is_of_the_old_schema_or_the_new_one_and_whole() {
    /// Every call would take a minute.
    const STEP: usize = 11;
    let server = Server::start(Plan::accepting());
    for old in &OLDS {
        let add = ["suppress", "add", "more@example.com", "--reason", "x"];
        let states = old.world(&server).states();
        let (mut schemas, mut at) = (std::collections::BTreeSet::new(), 1);
        loop {
            let world = old.world(&server);
            if !crate::support::trace::is_killed_at(at, world.command(add)) {
                break;
            }
            schemas.insert(schema(&world));
            assert_eq!(world.list("PRAGMA integrity_check"), "ok", "call {at}");
            assert_eq!(world.states(), states, "call {at}");
            world.run(["audit"]);
            world.ok(add);
            assert_eq!(schema(&world), NEWEST, "call {at}");
            world.ok(["suppress", "list"]).says("more@example.com");
            assert_eq!(world.states(), states, "call {at}");
            at += STEP;
        }
        assert_eq!(schemas, [old.schema, NEWEST].into(), "{at} calls");
    }
    assert_eq!(server.connections(), 0);
}

/// Schema 3 knew neither episodes nor steps: what it sent is the first step, also where steps are configured at once.
#[test]
fn what_was_sent_before_there_were_steps_is_the_first_of_them() {
    let server = Server::start(Plan::accepting());
    let carts = (0..3).map(|n| Cart::of(&format!("c{n}")).user(&format!("u{n}")).email(&format!("s{n}@example.com")));
    let carts = carts.map(|cart| cart.item("A", "Lamp", 1, "19.90"));
    let steps = "[[step]]\nname = 'reminder'\nafter = '60m'\nsubject = 'First'\n\
                 [[step]]\nname = 'second'\nafter = '24h'\nsubject = 'Second'\n";
    let steps: toml::Table = steps.parse().unwrap();
    let world = World::new().carts(carts).smtp(&server).now("2026-03-01T13:00:00Z");
    let world = world.set("detect.max_age", "5d").set("detect.step", steps["step"].clone());
    let ledger = Connection::open(world.ledger_file()).unwrap();
    ledger.pragma_update(None, "foreign_keys", false).unwrap();
    ledger.execute_batch(include_str!("../fixtures/ledger-3.sql")).unwrap();
    drop(ledger);
    world.ok(["audit"]);
    world.ok(["detect", "--dry-run"]).says("waiting for the next step (second, due 2026-03-02T11:00:00Z)");
    for at in ["2026-03-01T13:00:00Z", "2026-03-02T10:59:59Z"] {
        world.set_now(at);
        world.ok(["detect"]);
        assert_eq!(server.recipients(), ["s1@example.com"], "the one that was deferred");
    }
    for at in ["2026-03-02T11:00:00Z", "2026-03-02T12:00:00Z", "2026-03-04T12:00:00Z"] {
        world.set_now(at);
        world.ok(["detect"]);
    }
    let subjects: Vec<String> = server.accepted().iter().filter_map(|message| message.header("Subject")).collect();
    assert_eq!(subjects, ["First", "Second", "Second"]);
    world.has([("refused", 1), ("sent", 4)]);
    world.ok(["audit"]);
}

/// What 0.1.0 wrote is opened by every later version, and sends what it had planned, once.
#[test]
fn the_ledger_of_the_first_release_goes_on() {
    let server = Server::start(Plan::accepting());
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-01 12:30\"")).smtp(&server);
    world.audience("audience.csv", &crate::support::people(2));
    let cart = |id: &str, sku: &str| Cart::of(id).item(sku, "x", 1, "1").user(id);
    let world = world.carts([cart("c1", "A"), cart("c3", "C"), cart("c5", "E"), cart("c7", "G"), cart("c8", "H")]);
    let ledger = Connection::open(world.ledger_file()).unwrap();
    ledger.pragma_update(None, "journal_mode", "WAL").unwrap();
    ledger.pragma_update(None, "foreign_keys", false).unwrap();
    // A killed run leaves its log.
    ledger.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    ledger.execute_batch(include_str!("../fixtures/ledger-11.sql")).unwrap();
    drop(ledger);
    world.set_now("2026-03-01T12:40:00Z");
    world.exits(1, ["report"]).says("1 message in doubt");
    for command in [&["status"][..], &["log"], &["resolve"], &["metrics"], &["explain", "c1@example.com"]] {
        world.ok(command);
    }
    // The one whose body had been begun is held.
    world.exits(1, ["detect"]).says("1 message in doubt");
    world.ok(["run-campaigns"]);
    assert_eq!(server.recipients(), ["c7@example.com", "r2@example.com"]);
    world.has([("in_doubt", 2), ("refused", 1), ("sent", 5), ("skipped", 1)]);
    world.ok(["audit"]).is_silent();
    world.put(cart("c9", "I").email("c8@example.com"));
    world.set_now("2026-03-01T14:00:00Z");
    world.run(["detect"]);
    assert_eq!(server.accepted().len(), 2, "somebody who is forgotten was written to");
}
