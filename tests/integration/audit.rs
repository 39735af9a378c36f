//! `audit`: silent about every ledger that the program wrote, and not about one that anything else changed.

use rusqlite::Connection;

use crate::support::{Act, Cart, Plan, Server, Stage, World};

fn by_hand(world: &World) -> Connection {
    Connection::open(world.ledger_file()).unwrap()
}

/// c1 sent, c2 refused, c3 in doubt, c4 skipped.
fn world() -> World {
    let plan = Plan::accepting().for_recipient("c2@", Stage::Rcpt, Act::Reply("550 5.1.1 no such user")).for_recipient(
        "c3@",
        Stage::Taken,
        Act::Close,
    );
    let server = Server::start(plan);
    let cart = |id: &str, sku: &str| Cart::of(id).item(sku, "x", 1, "1");
    let older = cart("c4", "D").email("c1@example.com").updated("2026-03-01T07:00:00Z");
    let carts = [cart("c1", "A").user("u1"), cart("c2", "B"), cart("c3", "C"), older];
    let world = World::new().smtp(&server).carts(carts).init();
    world.exits(1, ["detect"]);
    world.has([("in_doubt", 1), ("refused", 1), ("sent", 1), ("skipped", 1)]);
    world
}

/// Changes the ledger as no trigger would let it, and puts the triggers back.
fn tamper(world: &World, sql: &str) {
    let ledger = by_hand(world);
    let triggers: Vec<(String, String)> = {
        let mut rows = ledger.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").unwrap();
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<rusqlite::Result<_>>().unwrap()
    };
    for (name, _) in &triggers {
        ledger.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
    }
    ledger.pragma_update(None, "foreign_keys", false).unwrap();
    ledger.execute_batch(sql).unwrap_or_else(|err| panic!("{sql}: {err}"));
    for (_, sql) in &triggers {
        ledger.execute_batch(sql).unwrap();
    }
}

#[test]
fn a_ledger_that_the_program_wrote_is_sound_at_every_step() {
    let world = world();
    world.ok(["audit"]).is_silent();
    world.set_now("2026-03-01T12:30:00Z");
    world.ok(["resolve", "--all", "--resend", "--reason", "x"]);
    world.ok(["audit"]).is_silent();
    let server = Server::start(Plan::accepting());
    world.send_to(&server);
    world.ok(["detect"]);
    world.ok(["audit"]).is_silent();
    // The next day, everything again, and a run that dies.
    for cart in ["c1", "c2", "c3", "c4"] {
        world.touch(cart, "2026-03-02T12:00:00Z");
    }
    world.set_now("2026-03-02T14:00:00Z");
    let hangs = Server::start(Plan::accepting().nth(Stage::Dot, 2, Act::Hang));
    world.send_to(&hangs);
    let run = world.spawn(["detect"]);
    hangs.wait_for(Stage::Dot, 2);
    world.ok(["audit"]).is_silent();
    run.kill();
    world.ok(["audit"]).is_silent();
    hangs.release();
    world.send_to(&server);
    world.exits(1, ["detect"]);
    let json = world.ok(["audit", "--json"]).json();
    assert_eq!(json["violations"], 0);
    assert_eq!(json["audited"]["messages"].as_u64(), Some(world.messages().len() as u64));
}

#[test]
fn each_rule_finds_what_breaks_it() {
    const C1: &str = "WHERE recipient = 'c1@example.com' AND state = 'sent'";
    for (rule, sql) in [
        ("sent_was_accepted", format!("DELETE FROM attempt WHERE message = (SELECT id FROM message {C1})")),
        ("accepted_is_sent", format!("UPDATE message SET state = 'refused' {C1}")),
        (
            "accepted_once",
            format!(
                "INSERT INTO attempt (message, epoch, ended_at, outcome, reply)
                 SELECT id, 1, settled_at, 'deferred', 'x' FROM message {C1}"
            ),
        ),
        ("doubt_is_settled_on_record", "UPDATE message SET state = 'refused' WHERE state = 'in_doubt'".into()),
        ("doubt_has_its_try", "DELETE FROM attempt WHERE outcome = 'in_doubt'".into()),
        (
            "resolution_has_its_try",
            "INSERT INTO resolution (message, armed_at, decided_at, decision, who, reason)
             VALUES (1, '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z', 'sent', 'x', 'x')"
                .into(),
        ),
        (
            "armed_by_the_newest_run",
            "UPDATE message SET state = 'armed', settled_at = NULL, epoch = 0 WHERE state = 'in_doubt'".into(),
        ),
        (
            "cart_message_has_its_episode",
            "DELETE FROM cart_abandonment_log WHERE id = 1".into(),
        ),
        ("email_sent_means_sent", "UPDATE cart_abandonment_log SET email_sent = 1".into()),
        ("email_sent_means_sent", "UPDATE cart_abandonment_log SET email_sent = 0".into()),
        ("episode_is_its_messages", "UPDATE cart_abandonment_log SET cart_id = 'c9' WHERE cart_id = 'c2'".into()),
        (
            "books_of_an_opening",
            "INSERT INTO scheduled_campaign (campaign_id, total_runs, status, enabled, first_seen_at, schedule)
             VALUES ('x', 1, 'completed', 1, '2026-01-01T00:00:00Z', 'x');
             INSERT INTO campaign_occurrence (campaign_id, planned_at, state, decided_at, schedule, subject, template, sender,
                 expires_at, recipients) VALUES ('x', '2026-01-01T00:00:00Z', 'opened', '2026-01-01T00:00:00Z', 'x', 'x', 'x',
                 'x', '2026-01-01T00:00:00Z', 1)"
                .into(),
        ),
        (
            "total_runs",
            "INSERT INTO scheduled_campaign (campaign_id, total_runs, status, enabled, first_seen_at, schedule)
             VALUES ('x', 0, 'completed', 1, '2026-01-01T00:00:00Z', 'x');
             INSERT INTO campaign_occurrence (campaign_id, planned_at, state, decided_at, schedule, subject, template, sender,
                 expires_at, recipients) VALUES ('x', '2026-01-01T00:00:00Z', 'opened', '2026-01-01T00:00:00Z', 'x', 'x', 'x',
                 'x', '2026-01-01T00:00:00Z', 0)"
                .into(),
        ),
        (
            "window_of_a_shopper",
            format!("UPDATE message SET (identity, cart_hash) = (SELECT identity, cart_hash FROM message {C1}) WHERE state = 'in_doubt'"),
        ),
        (
            "window_of_an_address",
            format!("UPDATE message SET (folded_address, cart_hash) = (SELECT folded_address, cart_hash FROM message {C1}) WHERE state = 'in_doubt'"),
        ),
        (
            "one_open_at_a_time",
            format!(
                "UPDATE message SET (identity, cart_hash) = (SELECT identity, cart_hash FROM message {C1}),
                     planned_at = '2026-03-01T11:59:59Z' WHERE state = 'in_doubt'"
            ),
        ),
        (
            "message_id_once",
            "UPDATE message SET message_id = (SELECT message_id FROM message WHERE id = 1) WHERE id = 2".into(),
        ),
        ("message_id_of_its_key", "UPDATE message SET message_key = 'x' || message_key WHERE id = 1".into()),
        (
            "never_to_a_suppressed_address",
            "INSERT INTO suppression VALUES ('c1@example.com', 'x', '2026-03-01T11:00:00Z', 'x', '')".into(),
        ),
        (
            "report_is_of_its_message",
            "INSERT INTO report (digest, received_at, message, folded_address, class)
             VALUES (x'01', '2026-03-01T12:00:00Z', 1, 'else@example.com', 'hard')"
                .into(),
        ),
        ("epochs_only_rise", "UPDATE attempt SET epoch = 99".into()),
        (
            "runs_follow_each_other",
            "INSERT INTO run VALUES (-1, 'detect', '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z', 'done', 0, 7)".into(),
        ),
        ("instants_are_instants", "UPDATE message SET not_before = 'soon' WHERE id = 1".into()),
        ("foreign_keys", "UPDATE attempt SET message = 99 WHERE id = 1".into()),
        (
            "states",
            "PRAGMA ignore_check_constraints = 1; UPDATE message SET state = 'lost' WHERE id = 1".into(),
        ),
        ("armed_as_tried", "UPDATE message SET armed_at = '2020-01-01T00:00:00Z' WHERE armed_at IS NOT NULL".into()),
        ("armed_as_tried", "UPDATE message SET armed_at = '2020-01-01T00:00:00Z' WHERE state = 'refused'".into()),
        ("armed_as_tried", "UPDATE message SET armed_at = planned_at WHERE state = 'skipped'".into()),
        ("armed_as_tried", "UPDATE message SET epoch = epoch + 1 WHERE state = 'in_doubt'; UPDATE ledger SET epoch = 9".into()),
        ("settled_as_tried", "UPDATE message SET settled_at = '2020-01-01T00:00:00Z' WHERE state = 'refused'".into()),
        ("email_sent_means_sent", "UPDATE cart_abandonment_log SET last_sent_at = '2020-01-01T00:00:00Z' WHERE email_sent = 1".into()),
        ("episode_is_its_messages", "UPDATE cart_abandonment_log SET created_at = '2020-01-01T00:00:00Z'".into()),
        ("lock_file", "UPDATE ledger SET epoch = 0".into()),
    ] {
        let world = world();
        tamper(&world, &sql);
        let ran = world.run(["audit"]);
        assert_eq!(ran.code, 1, "{rule}\n{ran}");
        assert!(ran.stdout.lines().any(|line| line.starts_with(&format!("{rule}: "))), "{rule}\n{ran}");
        ran.says("violation").says("keep a copy");
        assert!(!ran.output().contains("@example.com"), "an address in cron's mail: {ran}");
        let json = world.exits(1, ["audit", "--json"]).json();
        assert!(json["by_rule"][rule].as_u64() >= Some(1), "{json}");
    }
}

/// Plain SQL, past every trigger: the instant that the window counts from.
#[test]
fn an_instant_that_was_moved_by_hand_is_found() {
    let world = world();
    by_hand(&world).execute("UPDATE message SET armed_at = '2020-01-01T00:00:00Z' WHERE state = 'sent'", []).unwrap();
    world.exits(1, ["audit"]).says("armed_as_tried: ").says("begun at 2020-01-01T00:00:00Z");
}

#[test]
fn a_schema_that_no_longer_guards_itself_is_found() {
    for (sql, what) in [
        ("DROP TRIGGER window_on_arming", "the trigger window_on_arming is missing"),
        ("DROP INDEX one_planned_per_cart", "the index one_planned_per_cart is missing"),
        (
            "CREATE TRIGGER eager AFTER UPDATE ON suppression BEGIN DELETE FROM suppression; END",
            "the trigger eager is not mailonce's",
        ),
        ("ALTER TABLE suppression ADD COLUMN more TEXT", "the table suppression is not as this version makes it"),
    ] {
        let world = world();
        by_hand(&world).execute_batch(sql).unwrap();
        world.exits(1, ["audit"]).says(what);
    }
    // A user's own index or table is no one's business.
    let world = world();
    by_hand(&world).execute_batch("CREATE INDEX mine ON message (planned_at); CREATE TABLE my_notes (x)").unwrap();
    world.ok(["audit"]).is_silent();
}

/// The ledger and a log that has `c1` (sent) accepted as often as there are queue ids, and `c2` (refused) too if wanted.
fn with_log(queue_ids: &[&str], c2_too: bool) -> World {
    let world = world();
    let id = |recipient: &str| {
        let messages = world.messages();
        let found = messages.iter().find(|message| message.recipient == recipient && message.reason.is_none());
        found.and_then(|message| message.message_id.clone()).unwrap()
    };
    let mut log = String::from("Mar  1 11:00:00 mx postfix/smtpd[1]: connect from localhost[127.0.0.1]\n");
    let mut accept = |queue_id: &str, id: &str| {
        for line in
            ["cleanup[3]: QID: message-id=ID", "qmgr[4]: QID: from=<x@shop.example>, size=1, nrcpt=1 (queue active)"]
        {
            let line = line.replace("QID", queue_id).replace("ID", id);
            log.push_str(&format!("Mar  1 12:00:01 mx postfix/{line}\n"));
        }
    };
    for queue_id in queue_ids {
        accept(queue_id, &id("c1@example.com"));
    }
    if c2_too {
        accept("CCCCC00003", &id("c2@example.com"));
    }
    log.push_str("Mar  1 13:00:00 mx postfix/smtpd[1]: connect from localhost[127.0.0.1]\n");
    std::fs::write(world.path("mail.log"), log).unwrap();
    world.set_now("2026-03-01T13:30:00Z");
    world
}

const WITH_LOG: [&str; 5] = ["audit", "--mail-log", "mail.log", "--timezone", "UTC"];

#[test]
fn the_mail_servers_log_must_have_each_sent_message_once_and_no_other() {
    let once = with_log(&["AAAAA00001"], false);
    let json = once.ok(WITH_LOG.iter().chain(&["--json"])).json();
    assert_eq!(json["audited"]["accepted_in_log"], 1);
    once.ok(WITH_LOG).is_silent();
    with_log(&["AAAAA00001", "BBBBB00002"], false)
        .exits(1, WITH_LOG)
        .says("accepted_once_by_the_server: ")
        .says("accepted 2 times, as AAAAA00001, BBBBB00002");
    with_log(&["AAAAA00001"], true).exits(1, WITH_LOG).says("is refused, but the mail server accepted it at");
    with_log(&[], true).exits(1, WITH_LOG).says("the mail server's log does not have it accepted");
    with_log(&[], false).exits(1, WITH_LOG).says("is it the right one?");
    // Outside of the log's time, absence is none.
    let outside = with_log(&[], false);
    let log = std::fs::read_to_string(outside.path("mail.log")).unwrap().replace("Mar  1 11:00", "Mar  1 12:30");
    std::fs::write(outside.path("mail.log"), log).unwrap();
    outside.ok(WITH_LOG).is_silent();
}

#[test]
fn a_copy_that_passed_through_a_filter_is_no_second_one() {
    let world = with_log(&["AAAAA00001", "BBBBB00002"], false);
    let log = std::fs::read_to_string(world.path("mail.log")).unwrap();
    let passed = "Mar  1 12:00:02 mx postfix/smtp[5]: AAAAA00001: to=<c1@example.com>, relay=127.0.0.1[127.0.0.1]:10024, \
                  dsn=2.0.0, status=sent (250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as BBBBB00002)\n";
    std::fs::write(world.path("mail.log"), log.replace("Mar  1 13:00:00", &format!("{passed}Mar  1 13:00:00")))
        .unwrap();
    world.ok(WITH_LOG).is_silent();
}

#[test]
fn a_damaged_file_is_found() {
    let world = world();
    by_hand(&world).execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let whole = std::fs::read(world.ledger_file()).unwrap();
    let word = b"c2@example.com";
    let places: Vec<usize> = (0..whole.len() - word.len()).filter(|at| whole[*at..].starts_with(word)).collect();
    // One of these is in an index and another in its table.
    let found = places.iter().filter(|at| {
        let mut damaged = whole.clone();
        damaged[**at + 1] = b'9';
        std::fs::write(world.ledger_file(), damaged).unwrap();
        world.run(["audit"]).stdout.contains("file_integrity: ")
    });
    assert!(found.count() >= 2);
}
