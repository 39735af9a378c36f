//! Ledgers that an earlier schema wrote: every command reads them, one with the run lock brings them up to date, and
//! nothing is sent twice.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::support::{Act, Cart, Plan, Server, Stage, World, definition};

/// What the killed run was about to learn.
const AFTER: &str = "2026-03-04T13:20:00Z";

/// A ledger of schema 1: a message in every state, an adopted log, campaigns, suppressions, and a run that was killed.
fn of_schema_1(server: &Server) -> World {
    changed_by_hand(server, "")
}

fn changed_by_hand(server: &Server, sql: &str) -> World {
    let world = World::with_campaigns(
        &(definition("spring", "at = \"2026-03-01 10:00\"")
            + &definition("gone", "at = \"2026-03-01 10:00\"")
            + &definition("weekly", "every = \"week\"\non = \"monday\"\ntime = \"09:00\"")),
    )
    .smtp(server)
    .now(AFTER);
    let ledger = Connection::open(world.ledger_file()).unwrap();
    ledger.pragma_update(None, "journal_mode", "WAL").unwrap();
    ledger.pragma_update(None, "foreign_keys", false).unwrap();
    // A killed run leaves its log.
    ledger.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    let rows = include_str!("../fixtures/ledger-1.sql");
    ledger.execute_batch(rows).unwrap();
    ledger.execute_batch(sql).unwrap();
    assert_eq!(schema(&world), 1);
    world
}

fn schema(world: &World) -> i64 {
    world.number("PRAGMA user_version")
}

#[test]
fn every_command_works_on_schema_1() {
    for (command, code, migrates) in [
        (&["status"][..], 0, false),
        (&["log"], 0, false),
        (&["audit"], 0, false),
        (&["resolve"], 0, false),
        (&["resolve", "--restored"], 0, false),
        (&["campaign", "list"], 0, false),
        (&["campaign", "show", "spring"], 0, false),
        (&["detect", "--dry-run"], 0, false),
        (&["run-campaigns", "--dry-run"], 0, false),
        (&["suppress", "list"], 0, false),
        (&["suppress", "add", "more@example.com", "--reason", "x"], 0, false),
        (&["campaign", "pause", "weekly"], 0, false),
        (&["campaign", "resume", "weekly"], 0, false),
        (&["campaign", "cancel", "weekly"], 0, false),
        (&["resolve", "--accept", "all"], 0, false),
        (&["detect"], 1, true),
        (&["run-campaigns"], 1, true),
        (&["resolve", "--all", "--resend", "--reason", "x"], 0, true),
        (&["campaign", "retry", "spring", "--state", "refused", "--state", "expired"], 0, true),
        (&["cleanup-duplicates"], 0, true),
        (&["add-index"], 0, true),
    ] {
        let server = Server::start(Plan::accepting());
        let world = of_schema_1(&server);
        let sent_before = world.states()["sent"];
        let ran = world.run(command);
        assert_eq!(ran.code, code, "{ran}");
        assert_eq!(schema(&world), if migrates { 3 } else { 1 }, "{ran}");
        world.ok(["audit"]);
        // From here on as any ledger.
        world.run(["detect"]);
        world.run(["run-campaigns"]);
        assert_eq!(schema(&world), 3);
        world.ok(["audit"]).is_silent();
        assert_eq!(world.number("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"), 0);
        assert_eq!(world.states()["sent"], sent_before + server.accepted().len(), "{ran}");
        let mut recipients = server.recipients();
        recipients.sort();
        recipients.dedup();
        assert_eq!(recipients.len(), server.accepted().len(), "{ran}: someone got two");
        assert!(!recipients.iter().any(|to| to.starts_with("hang9") && !command.contains(&"--resend")));
    }
}

#[test]
fn what_schema_1_held_back_has_its_own_reason_and_stays() {
    let server = Server::start(Plan::accepting());
    let world = of_schema_1(&server);
    let held = "SELECT group_concat(recipient) FROM message WHERE reason = 'held_back'";
    let cancelled = "SELECT group_concat(recipient) FROM message WHERE reason = 'cancelled'";
    world.exits(1, ["detect"]);
    assert_eq!(world.list(held), "held1@example.com,held2@example.com");
    assert_eq!(world.list(cancelled), "later-r3@example.com", "a person's decision stays one");
}

#[test]
fn a_run_that_is_killed_after_it_brought_the_ledger_up_to_date_leaves_a_sound_one() {
    let server = Server::start(Plan::accepting().at(Stage::Connect, Act::Hang));
    let world = of_schema_1(&server);
    world.put(Cart::of("new").updated("2026-03-04T12:00:00Z"));
    let run = world.spawn(["detect"]);
    server.wait_for(Stage::Connect, 1);
    assert_eq!(schema(&world), 3, "it is committed before anything else is begun");
    run.kill();
    server.release();
    let accepting = Server::start(Plan::accepting());
    world.send_to(&accepting);
    world.run(["detect"]);
    world.ok(["audit"]).is_silent();
}

#[test]
fn a_table_that_was_changed_by_hand_is_not_rewritten() {
    let server = Server::start(Plan::accepting());
    let by_hand = "ALTER TABLE ledger DROP COLUMN least_window_seconds; ALTER TABLE ledger ADD COLUMN mine TEXT";
    let world = changed_by_hand(&server, by_hand);
    world.exits(74, ["detect"]).says("the table ledger was changed by hand");
    assert_eq!(schema(&world), 1);
    assert_eq!(server.connections(), 0);
}
