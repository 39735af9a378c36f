//! What must hold before anything is sent, and what the ledger itself forbids.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rusqlite::Connection;

use crate::support::{Act, Cart, Plan, Server, Stage, World, definition};

const LATER: &str = "451 4.3.0 try later";

fn accepting() -> Server {
    Server::start(Plan::accepting())
}

fn carts(n: usize) -> impl Iterator<Item = Cart> {
    (1..=n).map(|n| Cart::of(&format!("c{n}")))
}

/// The ledger for a hand that changes it, as no command would.
fn by_hand(world: &World) -> Connection {
    let ledger = Connection::open(world.ledger_file()).expect("the ledger opens");
    ledger.busy_timeout(Duration::from_secs(10)).unwrap();
    ledger
}

#[test]
fn a_command_beside_a_run_does_not_look_at_every_page_and_one_beside_the_log_of_a_dead_run_does() {
    let server = Server::start(Plan::accepting().at(Stage::Dot, Act::Hang));
    let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
    let run = world.spawn(["detect"]);
    server.wait_for_final_dot();
    {
        let ledger = by_hand(&world);
        // What only a look at every page finds.
        ledger.pragma_update(None, "ignore_check_constraints", true).unwrap();
        ledger.execute("UPDATE cart_abandonment_log SET email_sent = 7", []).unwrap();
        // The file is not as the run's record has it, as after any checkpoint.
        ledger.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    }
    world.ok(["suppress", "add", "a@example.com", "--reason", "x"]);
    run.kill();
    world.exits(74, ["suppress", "add", "b@example.com", "--reason", "x"]).says("is damaged");
    world.exits(74, ["detect"]).says("is damaged");
    server.release();
}

mod restored_backup {
    use super::*;

    /// A backup as SQLite makes it, whole and consistent.
    fn back_up(world: &World) -> PathBuf {
        let backup = world.path("backup.db");
        by_hand(world).execute("VACUUM INTO ?1", [backup.to_str().unwrap()]).unwrap();
        backup
    }

    fn put_back(world: &World, backup: &Path) {
        for end in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", world.ledger_file().display()));
        }
        std::fs::copy(backup, world.ledger_file()).unwrap();
    }

    /// `old` was planned when the backup was made and sent since.
    fn restored(server: &Server) -> World {
        let later = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply(LATER)));
        let world = World::new().cart(Cart::of("old")).smtp(&later).init();
        world.ok(["detect"]);
        let backup = back_up(&world);
        world.send_to(server);
        world.set_now("2026-03-01T12:10:00Z");
        world.ok(["detect"]);
        assert_eq!(server.recipients(), ["old@example.com"]);
        put_back(&world, &backup);
        world.has([("planned", 1)]);
        world
    }

    #[test]
    fn nothing_is_sent_until_a_person_decides() {
        let server = accepting();
        let world = restored(&server);
        for minute in 20..23 {
            world.set_now(&format!("2026-03-01T12:{minute}:00Z"));
            world
                .exits(74, ["detect"])
                .says("lock file")
                .says("mailonce resolve --restored")
                .says("suppressions added since 2026-03-01T12:00:00Z are lost");
        }
        world.has([("planned", 1)]);
        assert_eq!(server.accepted().len(), 1);
        world
            .ok(["resolve", "--restored"])
            .says("old@example.com")
            .says("1 message planned")
            .says("made at 2026-03-01T12:00:00Z or later")
            .says("mailonce import suppressions");
        world.exits(74, ["detect"]);
        assert_eq!(server.accepted().len(), 1, "listing decides nothing");
    }

    #[test]
    fn held_back_old_carts_get_nothing_and_one_touched_later_does() {
        let server = accepting();
        let world = restored(&server);
        world.put(Cart::of("also-old").updated("2026-03-01T11:50:00Z"));
        world.put(Cart::of("touched"));
        world.set_now("2026-03-01T12:20:00Z");
        world.ok(["resolve", "--restored", "--hold-back"]).says("1 planned message");
        assert_eq!(world.message().reason.as_deref(), Some("held_back"));
        for at in ["2026-03-01T12:21:00Z", "2026-03-01T13:30:00Z", "2026-03-02T13:00:00Z"] {
            world.set_now(at);
            world.ok(["detect"]);
        }
        assert_eq!(server.accepted().len(), 1, "what was touched before stays alone");
        world.touch("touched", "2026-03-02T13:00:00Z");
        world.set_now("2026-03-02T14:30:00Z");
        world.ok(["detect"]);
        assert_eq!(server.recipients(), ["old@example.com", "touched@example.com"]);
        world.set_now("2026-03-02T14:31:00Z");
        world.ok(["detect"]).is_silent();
        world.exits(2, ["resolve", "--restored", "--hold-back"]);
    }

    #[test]
    fn what_was_held_back_is_planned_again_by_no_command() {
        let later = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply(LATER)));
        let world = World::with_campaigns(&definition("once", "at = \"2026-03-01 13:00\"")).smtp(&later);
        let world = world.cart(Cart::of("c1")).init();
        world.ok(["run-campaigns"]);
        world.ok(["detect"]);
        // Nothing but deferrals for an hour: a person is told.
        world.campaigns_at("2026-03-01T13:00:00Z", 1);
        let backup = back_up(&world);
        let server = accepting();
        world.send_to(&server);
        world.campaigns_at("2026-03-01T13:10:00Z", 0);
        world.ok(["detect"]);
        assert_eq!(server.accepted().len(), 2);
        put_back(&world, &backup);
        world.set_now("2026-03-01T13:20:00Z");
        // Nor does any command that writes touch the copy before a person has decided.
        for command in [
            &["suppress", "add", "x@example.com", "--reason", "x"][..],
            &["campaign", "pause", "once"],
            &["campaign", "retry", "once", "--state", "refused"],
            &["resolve", "--all", "--sent", "--reason", "x"],
            &["cleanup-duplicates"],
            &["add-index"],
        ] {
            world.exits(74, command).says("mailonce resolve --restored");
        }
        world.ok(["resolve", "--restored", "--hold-back"]).says("2 planned messages held back").says(".wishes");
        let retried = world.ok(["campaign", "retry", "once", "--state", "cancelled", "--state", "expired"]);
        retried.says("0 messages").says("1 message held back");
        let cart = world.messages()[0].message_key.clone();
        world.exits(65, ["resolve", &cart, "--resend", "--reason", "x"]).says("may have gone out already");
        world.ok(["run-campaigns"]);
        world.ok(["detect"]);
        assert_eq!(server.accepted().len(), 2);
        world.ok(["audit"]).is_silent();
    }

    #[test]
    fn held_back_a_campaign_does_not_open_again_what_the_lost_ledger_had_opened() {
        let server = accepting();
        let world =
            World::with_campaigns(&definition("daily", "every = \"day\"\ntime = \"09:00\"")).smtp(&server).init();
        world.ok(["run-campaigns"]);
        let backup = back_up(&world);
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        assert_eq!(server.accepted().len(), 1);
        put_back(&world, &backup);
        world.campaigns_at("2026-03-02T09:20:00Z", 74);
        world.ok(["resolve", "--restored", "--hold-back"]);
        for at in ["2026-03-02T09:30:00Z", "2026-03-02T12:00:00Z"] {
            world.campaigns_at(at, 0);
            assert_eq!(server.accepted().len(), 1, "the same occurrence went out twice");
        }
        world.campaigns_at("2026-03-03T09:00:00Z", 0);
        assert_eq!(server.accepted().len(), 2);
    }

    #[test]
    fn a_copy_made_while_its_run_was_under_way_is_seen_too() {
        let server = Server::start(Plan::accepting().nth(Stage::Data, 2, Act::Hang));
        let world = World::new().carts(carts(3)).smtp(&server).init();
        let run = world.spawn(["detect"]);
        server.wait_for(Stage::Data, 2);
        let backup = back_up(&world);
        server.release();
        world.check(run.wait(), 0);
        put_back(&world, &backup);
        world.set_now("2026-03-01T12:10:00Z");
        world.exits(74, ["detect"]);
        assert_eq!(server.accepted().len(), 3);
        world.ok(["resolve", "--restored", "--hold-back"]);
        world.set_now("2026-03-01T12:11:00Z");
        world.exits(if world.states().contains_key("armed") { 1 } else { 0 }, ["detect"]);
        assert_eq!(server.accepted().len(), 3);
    }

    /// SQLite puts a log that lies there on whatever file has the ledger's name.
    #[test]
    fn a_copy_put_back_beside_the_log_of_a_killed_run_is_refused() {
        let server = Server::start(Plan::accepting().nth(Stage::Dot, 13, Act::Hang));
        let world = World::new().carts((1..=2).map(|n| Cart::of(&format!("a{n}")))).smtp(&server).init();
        world.ok(["detect"]);
        // Between runs the file is whole; a copy of it has its pages where the log expects them.
        let backup = world.path("backup.db");
        std::fs::copy(world.ledger_file(), &backup).unwrap();
        for n in 1..=10 {
            world.put(Cart::of(&format!("b{n}")));
        }
        world.set_now("2026-03-01T12:05:00Z");
        world.ok(["detect"]);
        world.put(Cart::of("c"));
        world.set_now("2026-03-01T12:10:00Z");
        let run = world.spawn(["detect"]);
        server.wait_for(Stage::Dot, 13);
        run.kill();
        let log = std::fs::read(world.path("mailonce.db-wal")).unwrap();
        assert!(!log.is_empty());
        put_back(&world, &backup);
        std::fs::write(world.path("mailonce.db-wal"), log).unwrap();
        let next = accepting();
        world.send_to(&next);
        for minute in [20, 40] {
            world.set_now(&format!("2026-03-01T12:{minute}:00Z"));
            world.exits(74, ["detect"]).says("an old copy beside another one's -wal file");
        }
        // Without the log it is an old copy like any other.
        put_back(&world, &backup);
        world.exits(74, ["detect"]).says("mailonce resolve --restored");
        assert_eq!(next.connections(), 0);
    }

    #[test]
    fn a_copy_from_before_an_idle_run_only_is_refused_too() {
        let server = accepting();
        let world = World::new().smtp(&server).init();
        world.ok(["detect"]);
        let backup = back_up(&world);
        world.set_now("2026-03-01T12:01:00Z");
        world.ok(["detect"]);
        put_back(&world, &backup);
        world.set_now("2026-03-01T12:02:00Z");
        world.exits(74, ["detect"]);
    }

    #[test]
    fn the_current_ledger_copied_and_put_back_is_no_old_copy() {
        let server = accepting();
        let world = World::new().carts(carts(2)).smtp(&server).init();
        world.ok(["detect"]);
        let backup = back_up(&world);
        put_back(&world, &backup);
        world.set_now("2026-03-01T12:05:00Z");
        world.ok(["detect"]).is_silent();
        world.has([("sent", 2)]);
    }

    #[test]
    fn after_a_kill_at_any_stage_the_ledger_is_not_taken_for_an_old_copy() {
        for stage in [Stage::Connect, Stage::Data, Stage::Dot, Stage::Quit] {
            let server = Server::start(Plan::accepting().nth(stage, 1, Act::Hang));
            let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
            let run = world.spawn(["detect"]);
            server.wait_for(stage, 1);
            run.kill();
            world.set_now("2026-03-01T12:05:00Z");
            server.release();
            let code = world.run(["detect"]).code;
            assert!([0, 1].contains(&code), "{stage:?}: {code}");
        }
    }

    /// Such a copy keeps a rollback journal, whose end is not on disk when a commit returns: an armed message could be forgotten.
    #[test]
    fn a_copy_made_by_vacuum_into_gets_its_write_ahead_log_back() {
        let server = accepting();
        let world = World::new().carts(carts(1)).smtp(&server).init();
        world.ok(["detect"]);
        let backup = back_up(&world);
        put_back(&world, &backup);
        let mode = || by_hand(&world).pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0)).unwrap();
        assert_eq!(mode(), "delete");
        world.put(Cart::of("c2"));
        world.set_now("2026-03-01T12:05:00Z");
        world.ok(["detect"]);
        assert_eq!(mode(), "wal");
        world.has([("sent", 2)]);
    }

    #[test]
    fn another_ledger_under_the_same_name_is_refused() {
        let server = accepting();
        let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
        world.ok(["detect"]);
        let other = World::new().init();
        put_back(&world, &other.ledger_file());
        world.set_now("2026-03-01T12:05:00Z");
        world.exits(74, ["detect"]).says("not the ledger that the lock file");
        assert_eq!(server.accepted().len(), 1);
    }
}

mod lock_file {
    use super::*;

    #[test]
    fn empty_or_torn_it_is_noted_and_written_anew() {
        for keep in [0, 40, 150, 300] {
            let server = accepting();
            let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
            world.ok(["detect"]);
            let lock = world.path("mailonce.db.lock");
            let whole = std::fs::read(&lock).unwrap();
            let mut bytes = whole.clone();
            bytes.truncate(keep);
            if keep > 192 {
                bytes[60] ^= 1;
            }
            std::fs::write(&lock, &bytes).unwrap();
            world.set_now("2026-03-01T12:05:00Z");
            world.ok(["detect"]).says("written anew");
            world.set_now("2026-03-01T12:06:00Z");
            world.ok(["detect"]).is_silent();
            assert_eq!(server.accepted().len(), 1);
            // It guards again: an older ledger is seen.
            let ledger = by_hand(&world);
            ledger.execute("UPDATE ledger SET epoch = epoch - 1", []).unwrap();
            drop(ledger);
            world.exits(74, ["detect"]);
        }
    }

    #[test]
    fn it_is_never_deleted_and_says_who_holds_it() {
        let server = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Hang));
        let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
        let inode = || std::fs::metadata(world.path("mailonce.db.lock")).unwrap().ino();
        let before = inode();
        let run = world.spawn(["detect"]);
        server.wait_for(Stage::Rcpt, 1);
        world.ok(["status"]).says(&format!("pid={}", run.id()));
        server.release();
        world.check(run.wait(), 0);
        world.ok(["status"]).says("no run under way");
        assert_eq!(inode(), before);
    }

    #[test]
    fn a_link_to_the_ledger_is_the_same_lock() {
        let server = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Hang));
        let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
        let run = world.spawn(["detect"]);
        server.wait_for(Stage::Rcpt, 1);
        std::os::unix::fs::symlink("mailonce.db", world.path("other.db")).unwrap();
        world.configure("ledger", "other.db");
        world.exits(75, ["detect"]).is_silent();
        server.release();
        world.check(run.wait(), 0);
        assert_eq!(server.accepted().len(), 1);
    }
}

mod ledger_file {
    use super::*;

    #[test]
    fn a_newer_schema_is_left_alone() {
        let server = accepting();
        let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
        by_hand(&world).pragma_update(None, "user_version", 99).unwrap();
        world.exits(74, ["detect"]).says("schema 99");
        world.exits(74, ["status"]).says("schema 99");
        assert_eq!(server.connections(), 0);
    }

    #[test]
    fn a_time_or_a_status_that_is_none_stops_the_run_and_is_named() {
        for (damage, command, named) in [
            ("UPDATE scheduled_campaign SET first_seen_at = 'soon'", "run-campaigns", "soon"),
            ("UPDATE scheduled_campaign SET next_run = '2026-03-02 09:00'", "run-campaigns", "2026-03-02 09:00"),
            ("UPDATE scheduled_campaign SET status = 'sleeping'", "run-campaigns", "sleeping"),
            ("UPDATE ledger SET held_back_at = 'yesterday'", "detect", "yesterday"),
        ] {
            let server = accepting();
            let daily = definition("daily", "every = \"day\"\ntime = \"09:00\"");
            let world = World::with_campaigns(&daily).cart(Cart::of("c1")).smtp(&server).init();
            world.ok(["run-campaigns"]);
            let ledger = by_hand(&world);
            ledger.pragma_update(None, "ignore_check_constraints", true).unwrap();
            ledger.execute(damage, []).unwrap();
            drop(ledger);
            world.set_now("2026-03-02T09:00:00Z");
            world.exits(74, [command]).says(named);
            assert_eq!(server.connections(), 0, "{damage}");
        }
    }

    #[test]
    fn a_second_hard_link_is_refused() {
        let server = accepting();
        let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
        std::fs::hard_link(world.ledger_file(), world.path("second.db")).unwrap();
        world.exits(78, ["detect"]).says("hard links");
        std::fs::remove_file(world.path("second.db")).unwrap();
        world.ok(["detect"]);
    }

    #[test]
    fn an_old_log_that_was_not_adopted_is_refused_with_the_way_to_adopt_it() {
        let world = World::new().cart(Cart::of("c1"));
        let old = Connection::open(world.ledger_file()).unwrap();
        old.execute_batch(
            "CREATE TABLE cart_abandonment_log (id INTEGER PRIMARY KEY, user_id TEXT, cart_hash TEXT,
                 email_sent INTEGER, created_at TEXT);
             INSERT INTO cart_abandonment_log VALUES (1, 'u1', 'x', 1, '2026-02-01 10:00:00');",
        )
        .unwrap();
        drop(old);
        let ran = world.exits(78, ["detect"]);
        let first = ran.stderr.find("mailonce cleanup-duplicates").expect("the first command");
        assert!(ran.stderr.find("mailonce add-index").is_some_and(|second| second > first), "{ran}");
        assert_eq!(world.number("SELECT count(*) FROM cart_abandonment_log"), 1);
    }

    /// Bytes of no meaning over one page after the other: what is found is exit 74, and no message goes twice.
    #[test]
    fn a_damaged_page_never_makes_a_message_go_twice() {
        let server = accepting();
        let world = World::new().carts(carts(6)).smtp(&server).init();
        world.ok(["detect"]);
        let whole = std::fs::read(world.ledger_file()).unwrap();
        let lock = std::fs::read(world.path("mailonce.db.lock")).unwrap();
        let pages = whole.len() / 4096;
        let mut noticed = 0;
        for page in 0..pages {
            for end in ["-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{end}", world.ledger_file().display()));
            }
            let mut damaged = whole.clone();
            damaged[page * 4096..(page + 1) * 4096].fill(0xa5);
            std::fs::write(world.ledger_file(), &damaged).unwrap();
            std::fs::write(world.path("mailonce.db.lock"), &lock).unwrap();
            world.set_now("2026-03-01T12:05:00Z");
            let ran = world.run(["detect"]);
            assert!([0, 74, 78].contains(&ran.code), "page {page}: {ran}");
            noticed += usize::from(ran.code != 0);
            assert_eq!(server.accepted().len(), 6, "page {page}: a message went twice");
        }
        assert!(noticed > pages / 4, "{noticed} of {pages} damaged pages were noticed");
    }

    #[test]
    fn what_is_no_ledger_at_all_is_refused() {
        for bytes in [&b""[..], b"this is a text of some length, and no database at all, whatever its name may say"] {
            let world = World::new().cart(Cart::of("c1"));
            std::fs::write(world.ledger_file(), bytes).unwrap();
            let ran = world.run(["detect"]);
            assert!([74, 78].contains(&ran.code), "{ran}");
            assert_eq!(std::fs::read(world.ledger_file()).unwrap(), bytes);
        }
    }

    /// What is armed in a file that no later run will find is armed nowhere.
    #[test]
    fn deleted_or_replaced_under_a_run_no_body_leaves_any_more() {
        for replaced in [false, true] {
            let server = Server::start(Plan::accepting().nth(Stage::Data, 2, Act::Hang));
            let world = World::new().carts(carts(3)).smtp(&server).init();
            let copy = std::fs::read(world.ledger_file()).unwrap();
            let run = world.spawn(["detect"]);
            server.wait_for(Stage::Data, 2);
            std::fs::remove_file(world.ledger_file()).unwrap();
            if replaced {
                std::fs::write(world.ledger_file(), &copy).unwrap();
            }
            server.release();
            world.check(run.wait(), 74).says("deleted or replaced");
            assert_eq!(server.accepted().len(), 1, "a body left that is armed nowhere");
            for minute in [10, 20] {
                world.set_now(&format!("2026-03-01T12:{minute}:00Z"));
                let ran = world.run(["detect"]);
                assert!([74, 78].contains(&ran.code) || replaced && ran.code <= 1, "{ran}");
            }
            let mut recipients = server.recipients();
            recipients.dedup();
            assert_eq!(recipients.len(), server.accepted().len(), "a message went twice");
        }
    }

    #[test]
    fn it_and_what_lies_beside_it_are_for_its_owner_only() {
        let server = Server::start(Plan::accepting().at(Stage::Dot, Act::Hang));
        let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
        std::fs::set_permissions(world.ledger_file(), PermissionsExt::from_mode(0o644)).unwrap();
        let run = world.spawn(["detect"]);
        server.wait_for_final_dot();
        for name in ["mailonce.db", "mailonce.db-wal", "mailonce.db-shm", "mailonce.db.lock"] {
            let mode = std::fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{name}: {mode:o}");
        }
        server.release();
        world.check(run.wait(), 0);
    }

    #[test]
    fn runs_with_nothing_to_do_do_not_make_it_grow() {
        let server = accepting();
        let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
        world.ok(["detect"]);
        let rows = || world.number("SELECT (SELECT count(*) FROM run) + (SELECT count(*) FROM idle_run)");
        world.set_now("2026-03-01T12:01:00Z");
        world.ok(["detect"]);
        let before = (rows(), std::fs::metadata(world.ledger_file()).unwrap().len());
        for minute in 2..14 {
            world.set_now(&format!("2026-03-01T12:{minute:02}:00Z"));
            world.ok(["detect"]);
        }
        assert_eq!((rows(), std::fs::metadata(world.ledger_file()).unwrap().len()), before);
        assert_eq!(world.number("SELECT runs FROM idle_run"), 13);
        assert_eq!(world.number("SELECT count(*) FROM run"), 1, "the run that sent is kept");
    }

    #[test]
    fn runs_that_meet_the_same_trouble_do_not_make_it_grow() {
        let server = Server::start(Plan::accepting().at(Stage::Banner, Act::Code(554)));
        let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
        for minute in 0..8 {
            world.set_now(&format!("2026-03-01T12:{:02}:00Z", minute * 3));
            world.exits(1, ["detect"]);
        }
        assert!(world.number("SELECT count(*) FROM run") <= 2);
    }
}

mod live_and_rehearsal {
    use super::*;

    fn live() -> World {
        let world = World::new().without_now().set("mail.transport", "smtp").set("mail.smtp.host", "127.0.0.1");
        let world = world.set("mail.smtp.tls", "none").set("mail.smtp.port", 9);
        world.ok(["init"]);
        world
    }

    #[test]
    fn a_live_ledger_does_not_send_to_files() {
        let world = live().set("mail.transport", "file").cart(Cart::of("c1"));
        world.exits(78, ["detect"]).says("live ledger");
        assert_eq!(world.outbox().len(), 0);
        assert_eq!(world.number("SELECT epoch FROM ledger"), 0);
    }

    #[test]
    fn a_live_ledger_takes_no_other_present_but_for_a_dry_run() {
        let world = live().cart(Cart::of("c1")).now("2026-03-01T12:00:00Z");
        world.exits(2, ["detect"]).says("--now");
        world.exits(2, ["suppress", "add", "ada@example.com"]);
        assert_eq!(world.number("SELECT epoch FROM ledger"), 0);
        world.ok(["detect", "--dry-run"]).says("c1@example.com");
        world.exits(2, ["init"]);
    }

    #[test]
    fn a_rehearsal_never_mails_beyond_this_machine() {
        let world = World::new().cart(Cart::of("c1")).init();
        world.configure("mail.transport", "smtp");
        for host in ["smtp.shop.example", "192.0.2.1", "127.0.0.1.example.com", "localhost.example"] {
            world.configure("mail.smtp.host", host);
            world.exits(78, ["detect"]).says("rehearsal");
        }
        assert_eq!(world.messages().len(), 0);
    }

    #[test]
    fn a_ledger_keeps_its_kind() {
        let world = World::new().init().without_now();
        world.exits(78, ["init"]).says("rehearsal ledger already");
    }

    #[test]
    fn a_lost_ledger_is_not_made_anew_while_the_lock_file_remembers_it() {
        let world = World::new().cart(Cart::of("c1")).init();
        world.ok(["detect"]);
        std::fs::remove_file(world.ledger_file()).unwrap();
        world.exits(74, ["init", "--rehearsal"]).says("lock file remembers");
        world.exits(78, ["detect"]);
        assert!(!world.ledger_file().exists());
    }
}

/// A ledger on a disk of its own, one megabyte large. Needs the right to mount.
mod disk {
    use super::*;

    struct Disk(PathBuf);

    impl Disk {
        /// `None`, with a note, where this user may not mount.
        fn mount(folder: PathBuf) -> Option<Disk> {
            std::fs::create_dir(&folder).unwrap();
            let mount = Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
                .arg(&folder)
                .stderr(Stdio::null())
                .status();
            if mount.is_ok_and(|status| status.success()) {
                return Some(Disk(folder));
            }
            eprintln!("skipped: this user may not mount a small disk");
            None
        }

        fn remount(&self, how: &str) {
            let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status().unwrap();
            assert!(status.success());
        }

        fn fill(&self) {
            let _ = std::fs::write(self.0.join("filler"), vec![0; 2 << 20]);
        }

        fn make_room(&self) {
            std::fs::remove_file(self.0.join("filler")).unwrap();
        }
    }

    impl Drop for Disk {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }

    /// Fills the disk while the server holds its reply at `stage`, and says what was accepted and in which state it is.
    fn filled_at(stage: Stage) -> Option<(usize, World, Disk)> {
        let server = Server::start(Plan::accepting().nth(stage, 1, Act::Hang));
        let world = World::new();
        let disk = Disk::mount(world.path("disk"))?;
        let world = world.set("ledger", "disk/mailonce.db").carts(carts(2)).smtp(&server).init();
        let run = world.spawn(["detect"]);
        server.wait_for(stage, 1);
        disk.fill();
        server.release();
        world.check(run.wait(), 74).says("kept:").says("next:");
        Some((server.accepted().len(), world, disk))
    }

    #[test]
    fn full_when_a_message_is_armed_nothing_is_sent_and_nothing_lost() {
        let Some((accepted, world, disk)) = filled_at(Stage::Data) else { return };
        assert_eq!(accepted, 0, "a body left although arming it failed");
        world.has([("planned", 2)]);
        let server = accepting();
        world.send_to(&server);
        world.set_now("2026-03-01T12:01:00Z");
        world.exits(74, ["detect"]);
        assert_eq!(server.accepted().len(), 0);
        disk.make_room();
        world.set_now("2026-03-01T12:05:00Z");
        world.ok(["detect"]);
        world.has([("sent", 2)]);
        assert_eq!(server.accepted().len(), 2);
    }

    #[test]
    fn full_when_a_message_is_settled_it_is_in_doubt_and_not_sent_again() {
        let Some((accepted, world, disk)) = filled_at(Stage::Dot) else { return };
        assert_eq!(accepted, 1);
        disk.make_room();
        let server = accepting();
        world.send_to(&server);
        world.set_now("2026-03-01T12:05:00Z");
        world.exits(1, ["detect"]);
        world.has([("in_doubt", 1), ("sent", 1)]);
        assert_eq!(server.accepted().len(), 1);
    }

    #[test]
    fn that_cannot_be_written_sends_nothing() {
        let server = accepting();
        let world = World::new();
        let Some(disk) = Disk::mount(world.path("disk")) else { return };
        let world = world.set("ledger", "disk/mailonce.db").carts(carts(2)).smtp(&server).init();
        disk.remount("ro");
        world.exits(74, ["detect"]).says("next:");
        assert_eq!(server.connections(), 0);
        disk.remount("rw");
        world.ok(["detect"]);
        world.has([("sent", 2)]);
    }
}

/// Shops that publish a new file by renaming it over the old one.
mod shop_file {
    use super::*;

    #[test]
    fn swapped_under_a_run_the_next_cart_is_read_from_the_new_one() {
        let server = Server::start(Plan::accepting().nth(Stage::Data, 1, Act::Hang));
        let world = World::new().carts(carts(3)).smtp(&server).init();
        let run = world.spawn(["detect"]);
        server.wait_for(Stage::Data, 1);
        let other = World::new().carts(carts(3));
        other.order("c3", "2026-03-01T11:59:00Z");
        std::fs::copy(other.shop(), world.path("new.db")).unwrap();
        std::fs::rename(world.path("new.db"), world.shop()).unwrap();
        server.release();
        run.wait();
        world.set_now("2026-03-01T12:05:00Z");
        world.run(["detect"]);
        assert!(!server.recipients().contains(&"c3@example.com".to_owned()), "{:?}", server.recipients());
        assert_eq!(server.recipients().len(), 2);
    }
}

mod limits {
    use super::*;

    #[test]
    fn per_hour_is_kept_across_runs_and_opens_again() {
        let server = accepting();
        let world = World::new().carts(carts(5)).set("mail.limits.per_hour", 3).smtp(&server);
        let world = world.set("mail.smtp.connections", 4).init();
        world.ok(["detect"]);
        assert_eq!(server.accepted().len(), 3);
        for minute in 1..4 {
            world.set_now(&format!("2026-03-01T12:0{minute}:00Z"));
            world.ok(["detect"]);
        }
        assert_eq!(server.accepted().len(), 3, "later runs in the same hour");
        world.has([("planned", 2), ("sent", 3)]);
        by_hand(&world).execute("UPDATE pace SET second = second - 3600", []).unwrap();
        world.ok(["detect"]);
        world.has([("sent", 5)]);
    }

    #[test]
    fn per_hour_counts_what_was_begun_by_the_real_clock_not_the_frozen_one() {
        let server = accepting();
        let world = World::new().carts(carts(2)).set("mail.limits.per_hour", 1).smtp(&server).init();
        world.ok(["detect"]);
        world.set_now("2026-03-01T16:00:00Z");
        world.ok(["detect"]);
        assert_eq!(server.accepted().len(), 1);
    }

    #[test]
    fn per_second_is_kept_across_runs() {
        let server = accepting();
        let world = World::new().carts(carts(4)).set("mail.limits.per_second", 2).smtp(&server);
        let world = world.set("mail.smtp.connections", 4).init();
        world.ok(["detect"]);
        world.put(Cart::of("d1"));
        world.put(Cart::of("d2"));
        world.set_now("2026-03-01T12:01:00Z");
        world.ok(["detect"]);
        assert_eq!(server.accepted().len(), 6);
        assert_eq!(world.number("SELECT max(messages) FROM pace"), 2);
        assert!(world.number("SELECT count(*) FROM pace") >= 3);
    }

    #[test]
    fn a_spent_time_budget_ends_the_run_before_the_body() {
        for stage in [Stage::Banner, Stage::Mail, Stage::Data] {
            let server = Server::start(Plan::accepting().at(stage, Act::Hang));
            let world = World::new().carts(carts(3)).smtp(&server).init();
            // Before the server's silence counts as a fault, which would be told.
            world.ok(["detect", "--time-budget", "1s"]).is_silent();
            world.has([("planned", 3)]);
        }
    }

    #[test]
    fn a_spent_time_budget_waits_for_the_reply_to_a_body() {
        let server = Server::start(Plan::accepting().nth(Stage::Dot, 1, Act::Hang));
        let world = World::new().carts(carts(3)).smtp(&server).init();
        let mut run = world.spawn(["detect", "--time-budget", "500ms"]);
        server.wait_for_final_dot();
        std::thread::sleep(Duration::from_millis(900));
        assert!(run.is_running());
        server.release();
        world.check(run.wait(), 0);
        world.has([("planned", 2), ("sent", 1)]);
    }
}

mod secure {
    use super::*;

    const PASSWORD: &str = "correct-horse-battery";

    fn protected() -> [Plan; 2] {
        [Plan::accepting().starttls(), Plan::accepting().implicit_tls()]
    }

    fn password_file(world: &World, password: &str, mode: u32) {
        let path = world.path("smtp.password");
        std::fs::write(&path, format!("{password}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        world.configure("mail.smtp.username", "hello");
        world.configure("mail.smtp.password_file", "smtp.password");
    }

    #[test]
    fn mail_goes_over_tls_with_the_authority_named() {
        for plan in protected() {
            let server = Server::start(plan);
            let world = World::new().carts(carts(3)).smtp(&server).init();
            world.ok(["detect"]);
            world.has([("sent", 3)]);
            assert!(server.transcript().contains("(TLS)"));
            let (clear, _) =
                server.transcript().split_once("(TLS)").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            assert!(!clear.contains("MAIL FROM"), "{clear}");
            assert_eq!(server.violations(), [""; 0]);
        }
    }

    #[test]
    fn a_certificate_that_cannot_be_trusted_stops_the_run_and_loses_nothing() {
        let other = Server::start(Plan::accepting().starttls());
        for (n, plan) in protected().into_iter().chain(protected()).enumerate() {
            // Of an authority that is not known here, or for another name.
            let plan = if n < 2 { plan } else { plan.certificate_for("smtp.other.example") };
            let server = Server::start(plan);
            let world = World::new().carts(carts(2)).smtp(&server).init();
            if n < 2 {
                world.configure("mail.smtp.ca_file", other.ca_file().unwrap().to_str().unwrap());
            }
            world.exits(1, ["detect"]).says("127.0.0.1").says("kept:");
            world.has([("planned", 2)]);
            assert_eq!(server.reached(Stage::Mail), 0);
            assert_eq!(world.attempts().len(), 0);
        }
    }

    #[test]
    fn a_server_that_does_not_offer_starttls_is_not_written_to_in_the_clear() {
        let server = accepting();
        let world = World::new().carts(carts(1)).smtp(&server).set("mail.smtp.tls", "starttls").init();
        world.exits(1, ["detect"]).says("STARTTLS");
        assert_eq!(server.reached(Stage::Mail), 0);
        world.has([("planned", 1)]);
    }

    #[test]
    fn with_the_right_password_mail_is_sent() {
        for plan in protected() {
            let server = Server::start(plan.auth("hello", PASSWORD));
            let world = World::new().carts(carts(2)).smtp(&server).init();
            password_file(&world, PASSWORD, 0o600);
            let ran = world.ok(["detect", "-v"]);
            assert!(!ran.output().contains(PASSWORD));
            world.has([("sent", 2)]);
        }
        let server = Server::start(Plan::accepting().starttls().auth("hello", PASSWORD));
        let world = World::new().carts(carts(1)).smtp(&server).set("mail.smtp.username", "hello");
        let world = world.set("mail.smtp.password_env", "SMTP_PASSWORD").env("SMTP_PASSWORD", PASSWORD).init();
        world.ok(["detect"]);
        world.has([("sent", 1)]);
    }

    #[test]
    fn a_wrong_password_stops_the_run_and_is_never_shown() {
        const WRONG: &str = "tr0ub4dor-and-3";
        let refusals = [
            Act::Accept,
            // A server that is too talkative, in the clear and as it came.
            Act::Reply("535 5.7.8 hello may not use tr0ub4dor-and-3 here"),
            Act::Reply("535 5.7.8 AGhlbGxvAHRyMHViNGRvci1hbmQtMw== is wrong"),
        ];
        for (n, act) in refusals.into_iter().enumerate() {
            let plan = Plan::accepting().starttls().auth("hello", PASSWORD);
            let server = Server::start(if n == 0 { plan } else { plan.at(Stage::Auth, act) });
            let world = World::new().carts(carts(2)).smtp(&server).init();
            password_file(&world, WRONG, 0o600);
            let ran = world.exits(1, ["detect", "-v"]);
            ran.says("AUTH").says("535");
            world.has([("planned", 2)]);
            let status = world.ok(["status", "--json"]);
            let log = world.ok(["log", "--json"]);
            let files: Vec<u8> = ["mailonce.db", "mailonce.db-wal", "mailonce.db.lock"]
                .iter()
                .flat_map(|name| std::fs::read(world.path(name)).unwrap_or_default())
                .collect();
            let all = [ran.output(), status.output(), log.output(), String::from_utf8_lossy(&files).into_owned()];
            for secret in [WRONG, "dHIwdWI0ZG9yLWFuZC0z", "AGhlbGxvAHRyMHViNGRvci1hbmQtMw=="] {
                assert!(!all.iter().any(|text| text.contains(secret)), "{secret} was shown:\n{ran}{status}");
            }
        }
    }

    #[test]
    fn a_password_file_that_others_can_read_is_refused() {
        for mode in [0o644, 0o640, 0o604] {
            let server = Server::start(Plan::accepting().starttls().auth("hello", PASSWORD));
            let world = World::new().carts(carts(1)).smtp(&server).init();
            password_file(&world, PASSWORD, mode);
            let ran = world.exits(78, ["detect"]);
            ran.says("chmod 600");
            assert!(!ran.output().contains(PASSWORD));
            assert_eq!(server.connections(), 0);
        }
    }

    #[test]
    fn a_password_is_taken_from_where_systemd_hands_it_over() {
        let server = Server::start(Plan::accepting().starttls().auth("hello", PASSWORD));
        let world = World::new().carts(carts(1)).smtp(&server).init();
        password_file(&world, PASSWORD, 0o600);
        world.configure("mail.smtp.password_file", "$CREDENTIALS_DIRECTORY/smtp.password");
        // As a person types it: no unit, no credential. Who needs no password gets along without.
        world.exits(78, ["detect"]).says("no variable CREDENTIALS_DIRECTORY").says("systemd-run");
        world.ok(["status"]);
        let folder = world.path("");
        let world = world.env("CREDENTIALS_DIRECTORY", folder.to_str().unwrap());
        let path = world.path("smtp.password");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o444)).unwrap();
        world.exits(78, ["detect"]).says("can be read by others");
        // An access list for the unit's user looks so.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o440)).unwrap();
        world.ok(["detect"]);
        world.has([("sent", 1)]);
    }
}

mod extensions {
    use super::*;

    #[test]
    fn a_message_larger_than_size_is_refused_and_calls_no_one() {
        let server = Server::start(Plan::accepting().size(1000));
        let world = World::new().carts(carts(2)).smtp(&server).init();
        world.ok(["detect"]);
        world.has([("refused", 2)]);
        assert_eq!(server.final_dots(), 0);
        world.ok(["log", "--state", "refused"]).says("at most 1000 (SIZE)");
    }

    #[test]
    fn an_address_that_needs_smtputf8_is_refused_where_it_is_not_offered_and_the_others_are_sent() {
        let carts =
            || [Cart::of("a"), Cart::of("b").email("jörg@example.com"), Cart::of("c").email("c@bücher.example")];
        let server = Server::start(Plan::accepting().without_smtputf8());
        let world = World::new().carts(carts()).smtp(&server).init();
        world.ok(["detect"]);
        world.has([("refused", 1), ("sent", 2)]);
        world.ok(["log", "--state", "refused"]).says("SMTPUTF8");
        let server = accepting();
        let world = World::new().carts(carts()).smtp(&server).init();
        world.ok(["detect"]);
        world.has([("sent", 3)]);
        assert_eq!(server.violations(), [""; 0]);
    }
}

/// What the schema forbids, whatever the code does.
mod triggers {
    use super::*;

    const STATES: [&str; 6] = ["planned", "armed", "sent", "refused", "skipped", "in_doubt"];
    const REASONS: [&str; 8] =
        ["ordered", "changed", "empty", "superseded", "suppressed", "expired", "cancelled", "held_back"];

    /// The moves that docs/troubleshooting.md tells of.
    const MOVES: [(&str, &str); 12] = [
        ("planned", "planned"),
        ("planned", "armed"),
        ("planned", "refused"),
        ("planned", "skipped"),
        ("armed", "sent"),
        ("armed", "planned"),
        ("armed", "refused"),
        ("armed", "in_doubt"),
        ("refused", "planned"),
        ("in_doubt", "sent"),
        ("in_doubt", "planned"),
        ("in_doubt", "refused"),
    ];

    const INSERT: &str = "INSERT INTO message (message_key, kind, state, reason, recipient, folded_address, message_id,
            planned_at, not_before, expires_at, settled_at, identity, cart_id, cart_hash, cart_touched_at, episode)
        VALUES (?1, 'cart', ?2, ?3, ?4, ?4, '<x@y>', ?5, ?5, '2026-03-09T12:00:00Z',
            CASE WHEN ?2 <> 'planned' THEN ?5 END, ?6, ?1, ?7, ?5, ?1)";

    fn insert_as(ledger: &Connection, state: &str, reason: Option<&str>) -> rusqlite::Result<usize> {
        ledger.execute(INSERT, ("k1", state, reason, "a@example.com", "2026-03-01T12:00:00Z", "u:u1", "v1:x"))
    }

    fn insert(
        ledger: &Connection,
        key: &str,
        address: &str,
        identity: &str,
        hash: &str,
        at: &str,
    ) -> rusqlite::Result<usize> {
        ledger.execute(INSERT, (key, "planned", None::<&str>, address, at, identity, hash))
    }

    /// Moves with every column as the other constraints want it, so that only the move itself can be wrong.
    fn move_to(ledger: &Connection, state: &str, reason: Option<&str>) -> rusqlite::Result<usize> {
        ledger.execute(
            "UPDATE message SET state = ?1, reason = ?2,
                 armed_at = CASE WHEN ?1 IN ('armed', 'sent', 'in_doubt') THEN coalesce(armed_at, '2026-03-01T12:00:00Z') END,
                 epoch = coalesce(epoch, (SELECT epoch FROM ledger)),
                 settled_at = CASE WHEN ?1 NOT IN ('planned', 'armed') THEN '2026-03-01T12:00:01Z' END",
            (state, reason),
        )
    }

    /// A ledger whose only message is in this state, by the moves that are allowed.
    fn in_state(ledger: &Connection, state: &str, reason: Option<&str>) {
        let at = "2026-03-01T12:00:00Z";
        assert_eq!(insert(ledger, "k1", "a@example.com", "u:u1", "v1:x", at), Ok(1));
        let way: &[&str] = match state {
            "planned" => &[],
            "armed" => &["armed"],
            "sent" => &["armed", "sent"],
            "in_doubt" => &["armed", "in_doubt"],
            state => &[state],
        };
        for step in way {
            assert_eq!(move_to(ledger, step, reason.filter(|_| *step == "skipped")), Ok(1), "{step}");
        }
    }

    fn refused_by(name: &str, result: rusqlite::Result<usize>) -> bool {
        result.is_err_and(|err| err.to_string().starts_with(name))
    }

    fn fresh() -> (World, Connection) {
        let world = World::new().init();
        world.ok(["detect"]);
        let ledger = by_hand(&world);
        (world, ledger)
    }

    #[test]
    fn only_the_moves_between_states_in_the_table_are_possible() {
        let (_world, ledger) = fresh();
        let allowed: BTreeSet<_> = MOVES.into_iter().collect();
        for from in STATES {
            for to in STATES {
                ledger.execute_batch("BEGIN").unwrap();
                in_state(&ledger, from, Some("ordered"));
                let go = || move_to(&ledger, to, (to == "skipped").then_some("cancelled"));
                if from == "in_doubt" && allowed.contains(&(from, to)) {
                    assert!(refused_by("doubt_is_settled_on_record", go()), "{to}");
                    let settled = "INSERT INTO resolution (message, armed_at, decided_at, decision, who, reason)
                                   SELECT id, armed_at, armed_at, ?1, 'x', 'x' FROM message";
                    ledger.execute(settled, [to]).unwrap();
                }
                let result = go();
                match allowed.contains(&(from, to)) {
                    true => assert_eq!(result, Ok(1), "{from} to {to}"),
                    false => assert!(refused_by("message_moves", result), "{from} to {to}"),
                }
                ledger.execute_batch("ROLLBACK").unwrap();
            }
        }
    }

    #[test]
    fn only_what_expired_or_was_cancelled_can_be_planned_again() {
        let (_world, ledger) = fresh();
        for reason in REASONS {
            ledger.execute_batch("BEGIN").unwrap();
            in_state(&ledger, "skipped", Some(reason));
            let result = move_to(&ledger, "planned", None);
            match ["expired", "cancelled"].contains(&reason) {
                true => assert_eq!(result, Ok(1), "{reason}"),
                false => assert!(refused_by("message_moves", result), "{reason}"),
            }
            ledger.execute_batch("ROLLBACK").unwrap();
        }
    }

    /// What went out after the copy was made may be among it: no reason that can be planned again may take its place.
    #[test]
    fn what_was_held_back_stays_so() {
        let (_world, ledger) = fresh();
        in_state(&ledger, "skipped", Some("held_back"));
        let renamed = ledger.execute("UPDATE message SET reason = 'cancelled'", []);
        assert!(refused_by("held_back_for_good", renamed));
        assert!(refused_by("message_moves", move_to(&ledger, "planned", None)));
        let blocking: String = ledger.query_row("SELECT blocking_at FROM message", [], |row| row.get(0)).unwrap();
        assert_eq!(blocking, "2026-03-01T12:00:01Z", "it keeps the window's next message away");
    }

    /// REPLACE deletes what is in its way, and no trigger on DELETE hears of it.
    #[test]
    fn no_row_of_the_promise_can_be_replaced() {
        let server = Server::start(Plan::accepting().for_recipient("c2@", Stage::Taken, Act::Close));
        let world = World::with_campaigns(&definition("now", "at = \"2026-03-01 12:30\"")).smtp(&server);
        let world = world.cart(Cart::of("c1").user("u1")).cart(Cart::of("c2").user("u2")).init();
        world.ok(["run-campaigns"]);
        world.exits(1, ["detect"]);
        world.campaigns_at("2026-03-01T12:30:00Z", 0);
        world.ok(["resolve", "--all", "--sent", "--reason", "x"]);
        world.ok(["suppress", "add", "x@example.com", "--reason", "x"]);
        let before = world.whole_file();
        // As any other program opens it: without this one's settings.
        let ledger = by_hand(&world);
        ledger.pragma_update(None, "foreign_keys", false).unwrap();
        let tables = [
            "ledger",
            "run",
            "message",
            "attempt",
            "resolution",
            "cart_abandonment_log",
            "suppression",
            "scheduled_campaign",
            "campaign_occurrence",
        ];
        for table in tables {
            let sql = format!("SELECT group_concat(name) FROM pragma_table_info('{table}')");
            let columns: String = ledger.query_row(&sql, [], |row| row.get(0)).unwrap();
            let rows: i64 = ledger.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
            assert!(rows > 0, "{table} has nothing to replace");
            let replace = format!("INSERT OR REPLACE INTO {table} ({columns}) SELECT {columns} FROM {table}");
            let err = ledger.execute(&replace, []).expect_err(table).to_string();
            let is_named = err.contains("is_not_replaced: ") || err.starts_with("message_begins_planned: ");
            assert!(is_named, "{table}: {err}");
        }
        for (name, sql) in [
            ("message_is_itself", "UPDATE OR REPLACE message SET id = 1"),
            ("run_is_itself", "UPDATE OR REPLACE run SET epoch = 1"),
            ("attempt_stands", "UPDATE OR REPLACE attempt SET id = 1"),
            ("attempt_is_kept", "DELETE FROM attempt"),
            ("episode_is_itself", "UPDATE OR REPLACE cart_abandonment_log SET id = 1"),
            ("episode_is_itself", "UPDATE cart_abandonment_log SET created_at = '2020-01-01T00:00:00Z'"),
            ("episode_is_kept", "DELETE FROM cart_abandonment_log"),
            ("suppression_is_itself", "UPDATE OR REPLACE suppression SET folded_address = 'y@example.com'"),
            ("campaign_is_itself", "UPDATE OR REPLACE scheduled_campaign SET campaign_id = 'x'"),
            ("campaign_is_kept", "DELETE FROM scheduled_campaign"),
            ("occurrence_is_decided_once", "UPDATE OR REPLACE campaign_occurrence SET id = 1"),
            ("ledger_is_kept", "DELETE FROM ledger"),
        ] {
            assert!(refused_by(name, ledger.execute(sql, [])), "{sql}");
        }
        drop(ledger);
        assert_eq!(world.whole_file(), before);
        world.ok(["audit"]).is_silent();
    }

    /// A planned message must not push another planned one of the same address out of its place.
    #[test]
    fn planning_again_replaces_no_planned_message() {
        let (_world, ledger) = fresh();
        in_state(&ledger, "skipped", Some("expired"));
        assert_eq!(insert(&ledger, "k2", "a@example.com", "u:u2", "v1:y", "2026-03-01T12:00:00Z"), Ok(1));
        let again = "UPDATE OR REPLACE message SET state = 'planned', reason = NULL, settled_at = NULL WHERE message_key = 'k1'";
        assert!(refused_by("planned_again_replaces_none", ledger.execute(again, [])));
        let rows: i64 = ledger.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 2);
    }

    #[test]
    fn a_message_begins_as_planned_or_superseded_and_is_never_deleted_or_renamed() {
        let (_world, ledger) = fresh();
        for state in STATES {
            for reason in [None, Some("superseded"), Some("cancelled")] {
                ledger.execute_batch("BEGIN").unwrap();
                let result = insert_as(&ledger, state, reason);
                match (state, reason) {
                    ("planned", None) | ("skipped", Some("superseded")) => {
                        assert_eq!(result, Ok(1), "{state} {reason:?}");
                        for change in ["message_key = 'k2'", "message_id = '<z@y>'", "identity = 'u:u2'"] {
                            let result = ledger.execute(&format!("UPDATE message SET {change}"), []);
                            assert!(refused_by("message_is_itself", result), "{change}");
                        }
                        let deleted = ledger.execute("DELETE FROM message", []);
                        assert!(refused_by("message_is_kept", deleted), "{state}");
                    }
                    ("planned", Some(_)) | ("skipped", None) => assert!(result.is_err(), "{state} {reason:?}"),
                    _ => assert!(refused_by("message_begins_planned", result), "{state} {reason:?}"),
                }
                ledger.execute_batch("ROLLBACK").unwrap();
            }
        }
    }

    #[test]
    fn arming_is_for_the_newest_run_and_settling_for_the_one_that_armed() {
        let (_world, ledger) = fresh();
        in_state(&ledger, "planned", None);
        let arm = |epoch: &str| {
            let sql = format!("UPDATE message SET state = 'armed', armed_at = '2026-03-01T12:00:00Z', epoch = {epoch}");
            ledger.execute(&sql, [])
        };
        for epoch in ["(SELECT epoch - 1 FROM ledger)", "(SELECT epoch + 1 FROM ledger)", "NULL"] {
            assert!(refused_by("arming_is_of_the_newest_run", arm(epoch)), "{epoch}");
        }
        assert_eq!(arm("(SELECT epoch FROM ledger)"), Ok(1));
        for state in ["sent", "refused", "planned"] {
            let sql = format!(
                "UPDATE message SET state = '{state}', epoch = epoch + 1,
                     armed_at = CASE WHEN '{state}' <> 'planned' THEN armed_at END,
                     settled_at = CASE WHEN '{state}' <> 'planned' THEN '2026-03-01T12:00:01Z' END"
            );
            assert!(refused_by("settling_is_of_the_arming_run", ledger.execute(&sql, [])), "{state}");
        }
    }

    #[test]
    fn the_window_holds_for_rows_made_by_hand() {
        // Each of these stands in the way of a second message 23 h 59 m later, and only the open ones a day later.
        let first = [
            ("planned", None, true),
            ("armed", None, true),
            ("in_doubt", None, true),
            ("sent", None, false),
            ("refused", None, false),
            ("skipped", Some("suppressed"), false),
            ("skipped", Some("cancelled"), false),
        ];
        let (_world, ledger) = fresh();
        for (state, reason, open) in first {
            // The same shopper at another address; the same address by another name, as user or guest.
            for (n, (address, identity)) in
                [("b@example.com", "u:u1"), ("a@example.com", "u:u2"), ("a@example.com", "e:a@example.com")]
                    .into_iter()
                    .enumerate()
            {
                ledger.execute_batch("BEGIN").unwrap();
                in_state(&ledger, state, reason);
                let again = |hash: &str, at: &str| insert(&ledger, "k2", address, identity, hash, at);
                let soon = again("v1:x", "2026-03-02T11:59:00Z");
                assert!(refused_by("window_on_planning", soon), "{state} {reason:?} {n}");
                let later = again("v1:x", "2026-03-02T12:00:01Z");
                match open {
                    true => assert!(refused_by("window_on_planning", later), "{state} {n}"),
                    false => assert_eq!(later, Ok(1), "{state} {reason:?} {n}"),
                }
                ledger.execute_batch("ROLLBACK").unwrap();
                ledger.execute_batch("BEGIN").unwrap();
                in_state(&ledger, state, reason);
                if !(state == "planned" && address == "a@example.com") {
                    assert_eq!(again("v1:other", "2026-03-01T12:01:00Z"), Ok(1), "other contents: {state} {n}");
                }
                ledger.execute_batch("ROLLBACK").unwrap();
            }
        }
        // These say nothing against another message.
        for reason in ["ordered", "changed", "empty", "superseded", "expired"] {
            ledger.execute_batch("BEGIN").unwrap();
            in_state(&ledger, "skipped", Some(reason));
            let again = insert(&ledger, "k2", "a@example.com", "u:u1", "v1:x", "2026-03-01T12:01:00Z");
            assert_eq!(again, Ok(1), "{reason}");
            ledger.execute_batch("ROLLBACK").unwrap();
        }
    }

    #[test]
    fn the_window_holds_again_when_a_message_is_armed() {
        let (_world, ledger) = fresh();
        in_state(&ledger, "skipped", Some("cancelled"));
        // A day later there is another one, sent; then a person plans the first one anew.
        assert_eq!(insert(&ledger, "k2", "a@example.com", "u:u1", "v1:x", "2026-03-03T12:00:00Z"), Ok(1));
        let arm = |key: &str, at: &str| {
            ledger.execute(
                "UPDATE message SET state = 'armed', reason = NULL, settled_at = NULL, armed_at = ?2,
                     epoch = (SELECT epoch FROM ledger) WHERE message_key = ?1",
                (key, at),
            )
        };
        assert_eq!(arm("k2", "2026-03-03T12:00:00Z"), Ok(1));
        let plan = "UPDATE message SET state = 'planned', reason = NULL, settled_at = NULL WHERE message_key = 'k1'";
        assert_eq!(ledger.execute(plan, []), Ok(1));
        assert!(refused_by("window_on_arming", arm("k1", "2026-03-03T12:01:00Z")));
        let sent = "UPDATE message SET state = 'sent', settled_at = '2026-03-03T12:00:01Z' WHERE message_key = 'k2'";
        assert_eq!(ledger.execute(sent, []), Ok(1));
        assert!(refused_by("window_on_arming", arm("k1", "2026-03-04T11:59:59Z")));
        assert_eq!(arm("k1", "2026-03-04T12:00:01Z"), Ok(1));
    }

    #[test]
    fn only_a_sent_message_counts_as_mailed() {
        let later = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply(LATER)));
        let world = World::new().cart(Cart::of("c1")).smtp(&later).init();
        world.ok(["detect"]);
        let marked = by_hand(&world).execute("UPDATE cart_abandonment_log SET email_sent = 1", []);
        assert!(refused_by("email_sent_means_sent", marked));
    }

    /// A message that an older system's mail has overtaken waits for its window, and holds up no other.
    #[test]
    fn a_message_that_the_window_forbids_steps_aside() {
        let later = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply(LATER)));
        let carts = ["c1", "c2", "c3"].map(|id| Cart::of(id).user(&id.replace('c', "u")));
        let world = carts.into_iter().fold(World::new(), World::cart).smtp(&later).init();
        world.ok(["detect"]);
        world.has([("planned", 3)]);
        // A row of an older system that appears after planning.
        by_hand(&world)
            .execute(
                "INSERT INTO cart_abandonment_log (identity, user_id, cart_hash, created_at, email_sent, origin)
                 VALUES ('u:u1', 'u1', 'old', '2026-03-01T11:00:00Z', 1, 'by hand')",
                [],
            )
            .unwrap();
        let server = accepting();
        world.send_to(&server);
        world.set_now("2026-03-01T12:05:00Z");
        world
            .ok(["detect", "-v"])
            .says("Skipping cart u1_")
            .says("email already sent, looked at again 2026-03-01T13:05:00Z");
        world.has([("planned", 1), ("sent", 2)]);
        assert_eq!(server.accepted().len(), 2);
        // It is not tried every minute.
        world.set_now("2026-03-01T12:06:00Z");
        world.ok(["detect"]);
        assert_eq!(server.reached(Stage::Rcpt), 3);
        // The window of that mail has passed, the cart is still abandoned.
        world.set_now("2026-03-02T11:00:01Z");
        world.ok(["detect"]);
        world.has([("sent", 3)]);
        assert_eq!(server.accepted().len(), 3);
        world.ok(["audit"]);
    }

    /// A message whose arming the ledger forbids for any other reason is not sent, and a person is called.
    #[test]
    fn a_run_that_meets_a_constraint_at_arming_sends_nothing() {
        let later = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply(LATER)));
        let world = World::new().cart(Cart::of("c1").user("u1")).smtp(&later).init();
        world.ok(["detect"]);
        by_hand(&world)
            .execute_batch(
                "CREATE TRIGGER no_mail BEFORE UPDATE OF state ON message WHEN NEW.state = 'armed'
                 BEGIN SELECT RAISE(ABORT, 'no_mail: not today'); END",
            )
            .unwrap();
        let server = accepting();
        world.send_to(&server);
        world.set_now("2026-03-01T12:05:00Z");
        world.exits(1, ["detect"]).says("the ledger forbids sending cart u1_").says("no_mail: not today");
        assert_eq!(server.accepted().len(), 0);
        world.has([("planned", 1)]);
    }
}
