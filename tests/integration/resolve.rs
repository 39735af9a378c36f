//! `resolve`: what is in doubt, settled by a mail log or by hand.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::{Act, Cart, Plan, Ran, Server, Stage, World, definition};

/// Stands in the fixtures where a message's token belongs.
const TOKEN: &str = "00000000000000000000000000000000";

fn accepting() -> Server {
    Server::start(Plan::accepting())
}

/// The body of c1 was begun at 12:00:00, and no reply came.
fn in_doubt() -> World {
    let server = Server::start(Plan::accepting().at(Stage::Taken, Act::Close));
    let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
    world.exits(1, ["detect"]);
    world.has([("in_doubt", 1)]);
    world
}

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mail_log");
    std::fs::read_to_string(folder.join(name)).unwrap_or_else(|err| panic!("{name}: {err}"))
}

fn message_id(world: &World) -> String {
    world.message().message_id.expect("a Message-ID")
}

/// Writes the log, with the token of the only message in it.
fn log(world: &World, name: &str, text: &str) {
    let id = message_id(world);
    let token = id.trim_start_matches('<').split('@').next().unwrap();
    std::fs::write(world.path(name), text.replace(TOKEN, token)).unwrap();
}

fn by_log<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["resolve", "--mail-log", "mail.log", "--timezone", "UTC"].iter().chain(more).copied().collect()
}

/// What the fixture settles at 12:30, under cron's eyes.
fn settled_by(name: &str) -> (World, Ran) {
    let world = in_doubt();
    log(&world, "mail.log", &fixture(name));
    world.set_now("2026-03-01T12:30:00Z");
    let ran = world.run(by_log(&[]));
    (world, ran)
}

fn state(world: &World) -> String {
    let message = world.message();
    message.reason.map_or(message.state.clone(), |reason| format!("{}: {reason}", message.state))
}

#[test]
fn each_rule_of_the_log_settles_what_it_proves_and_nothing_else() {
    for (name, expected) in [
        ("accepted.log", "sent"),
        ("accepted_by_envelope.log", "sent"),
        ("restarted.log", "sent"),
        ("filtered.log", "sent"),
        ("lost_then_accepted.log", "sent"),
        ("exim_accepted.log", "sent"),
        ("exim_accepted_by_envelope.log", "sent"),
        ("lost.log", "planned"),
        ("lost_then_named.log", "planned"),
        ("queue_id_reused.log", "planned"),
        ("timed_out.log", "planned"),
        ("rejected_for_now.log", "planned"),
        ("exim_timed_out.log", "planned"),
        ("exim_rejected_for_now.log", "planned"),
        ("rejected.log", "refused"),
        ("exim_rejected.log", "refused"),
        ("message_id_alone.log", "in_doubt"),
        ("discarded.log", "in_doubt"),
        ("lost_after_the_end.log", "in_doubt"),
        ("another_session_lost.log", "in_doubt"),
        ("exim_of_another.log", "in_doubt"),
    ] {
        let (world, ran) = settled_by(name);
        assert_eq!(state(&world), expected, "{name}\n{ran}");
        assert_eq!(ran.code, 0, "{name}\n{ran}");
        ran.is_silent();
        let resolutions = world.rows("SELECT * FROM resolution");
        assert_eq!(resolutions.len(), usize::from(expected != "in_doubt"), "{name}");
        for row in resolutions {
            assert_eq!(row["decision"].as_deref(), Some(expected), "{name}");
            assert_eq!(row["decided_at"].as_deref(), Some("2026-03-01T12:30:00Z"));
            assert!(row["who"].as_deref().is_some_and(|who| !who.is_empty()));
            let token = message_id(&world)[1..33].to_owned();
            assert!(row["evidence"].as_deref().is_some_and(|lines| lines.contains(&token)), "{name}: {row:?}");
        }
        assert_eq!(world.episodes()[0].email_sent, expected == "sent", "{name}");
        world.exits(0, ["detect", "--dry-run"]);
    }
}

#[test]
fn what_the_log_has_lost_goes_out_again_under_the_same_message_id() {
    let (world, _) = settled_by("lost.log");
    let before = world.message();
    assert_eq!((before.armed_at, before.settled_at), (None, None));
    let server = accepting();
    world.send_to(&server);
    world.set_now("2026-03-01T12:31:00Z");
    world.ok(["detect"]).is_silent();
    world.has([("sent", 1)]);
    assert_eq!(server.accepted().len(), 1);
    assert_eq!(Some(server.accepted()[0].message_id.clone()), before.message_id);
    assert!(world.episodes()[0].email_sent);
    world.set_now("2026-03-01T12:32:00Z");
    world.ok(["detect"]).is_silent();
    assert_eq!(server.accepted().len(), 1);
}

#[test]
fn a_failure_counts_only_15_minutes_later_and_an_acceptance_at_once() {
    let world = in_doubt();
    log(&world, "mail.log", &fixture("lost.log"));
    for (now, state) in [("12:15:01", "in_doubt"), ("12:15:02", "planned")] {
        world.set_now(&format!("2026-03-01T{now}Z"));
        world.ok(by_log(&[])).is_silent();
        world.has([(state, 1)]);
    }
    let world = in_doubt();
    log(&world, "mail.log", &fixture("accepted.log"));
    world.set_now("2026-03-01T12:00:02Z");
    world.ok(by_log(&[])).is_silent();
    world.has([("sent", 1)]);
}

#[test]
fn a_failure_of_an_earlier_time_or_in_a_log_that_begins_later_proves_nothing() {
    let world = in_doubt();
    world.set_now("2026-03-01T12:30:00Z");
    log(&world, "mail.log", &fixture("lost.log").replace("12:00:0", "11:59:5"));
    world.ok(by_log(&[])).is_silent();
    world.has([("in_doubt", 1)]);
    let late = fixture("lost.log").replace("11:59:30", "12:00:01");
    log(&world, "mail.log", &late);
    world.exits(1, by_log(&[])).says("begins after its body did").says("next: `mailonce resolve`");
    world.ok(by_log(&[])).is_silent();
    world.has([("in_doubt", 1)]);
    world.ok(["status"]).says("begins after its body did");
    // With the file before it, the same line proves it: nothing can be missing between.
    log(&world, "mail.log.1", &fixture("lost.log"));
    world.ok(by_log(&[])).is_silent();
    world.has([("planned", 1)]);
    assert_eq!(world.number("SELECT count(*) FROM notice"), 0, "what is settled stands no more");
}

#[test]
fn an_acceptance_before_the_body_was_begun_is_left_to_a_person() {
    let world = in_doubt();
    world.set_now("2026-03-01T12:30:00Z");
    log(&world, "mail.log", &fixture("accepted.log").replace("12:00:01", "11:30:01").replace("11:59:30", "11:30:00"));
    let ran = world.exits(1, by_log(&[]));
    ran.says("before this try began").says("--timezone");
    assert!(!ran.output().contains("c1@example.com"), "{ran}");
    world.has([("in_doubt", 1)]);
    // Told once.
    world.ok(by_log(&[])).is_silent();
}

#[test]
fn times_without_a_zone_are_read_in_the_one_that_is_named_or_the_machines() {
    let berlin = fixture("accepted.log").replace(" 11:5", " 12:5").replace(" 12:0", " 13:0");
    let world = in_doubt();
    log(&world, "mail.log", &berlin);
    world.set_now("2026-03-01T12:10:00Z");
    world.exits(1, by_log(&[])).says("in the future");
    world.has([("in_doubt", 1)]);
    world.ok(["resolve", "--mail-log", "mail.log", "--timezone", "Europe/Berlin"]).is_silent();
    world.has([("sent", 1)]);
    let world = in_doubt().env("TZ", "Europe/Berlin");
    log(&world, "mail.log", &berlin);
    world.set_now("2026-03-01T12:10:00Z");
    world.ok(["resolve", "--mail-log", "mail.log"]).is_silent();
    world.has([("sent", 1)]);
}

#[test]
fn rotated_and_gzipped_files_beside_the_log_are_read_as_far_back_as_is_needed() {
    let world = in_doubt();
    log(&world, "plain", &fixture("accepted.log"));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&std::fs::read(world.path("plain")).unwrap()).unwrap();
    std::fs::write(world.path("mail.log.2.gz"), gzip.finish().unwrap()).unwrap();
    std::fs::write(world.path("mail.log.1"), "Mar  2 06:25:00 mx postfix/smtpd[1]: connect from x\n").unwrap();
    std::fs::write(world.path("mail.log"), "").unwrap();
    // Older than needed: never unpacked, so that it is no gzip file does not matter.
    std::fs::write(world.path("mail.log.3.gz"), b"\x1f\x8bbroken").unwrap();
    world.set_now("2026-03-02T12:00:00Z");
    world.ok(by_log(&[])).is_silent();
    world.has([("sent", 1)]);
}

#[test]
fn a_log_that_cannot_be_read_is_an_error_and_settles_nothing() {
    let world = in_doubt();
    world.set_now("2026-03-01T12:30:00Z");
    world.exits(65, by_log(&[])).says("could not read the mail log mail.log: No such file");
    std::fs::write(world.path("mail.log"), "This is a letter.\n").unwrap();
    world.exits(65, by_log(&[])).says("is no mail log");
    std::fs::write(world.path("mail.log"), b"\xfd7zXZ\0\0").unwrap();
    world.exits(65, by_log(&[])).says("compressed with xz");
    log(&world, "plain", &fixture("accepted.log"));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&std::fs::read(world.path("plain")).unwrap()).unwrap();
    let mut bytes = gzip.finish().unwrap();
    bytes.truncate(bytes.len() - 9);
    std::fs::write(world.path("mail.log"), bytes).unwrap();
    world.exits(65, by_log(&[])).says("to its end");
    world.has([("in_doubt", 1)]);
    // Also when nothing is in doubt: a crontab line with a wrong name is told at once.
    let world = World::new().init();
    world.exits(65, by_log(&[]));
}

#[test]
fn another_servers_log_settles_nothing_and_calls_a_person_once_after_an_hour() {
    let world = in_doubt();
    std::fs::write(world.path("mail.log"), "Mar  1 06:25:00 other postfix/smtpd[1]: connect from x[192.0.2.1]\n")
        .unwrap();
    world.set_now("2026-03-01T12:59:59Z");
    let ran = world.ok(by_log(&["-v"]));
    ran.says("proves nothing").says("is it the log of the server that mailonce sends to");
    world.set_now("2026-03-01T13:00:00Z");
    world.exits(1, by_log(&[])).says("1 message in doubt that the mail log does not settle");
    for now in ["2026-03-01T13:10:00Z", "2026-03-01T15:00:00Z"] {
        world.set_now(now);
        world.ok(by_log(&[])).is_silent();
    }
    world.has([("in_doubt", 1)]);
}

#[test]
fn a_resend_by_hand_waits_15_minutes_and_is_recorded_with_user_time_and_reason() {
    let world = in_doubt();
    let id = message_id(&world);
    let resend = ["resolve", &id, "--resend", "--reason", "not in the provider's list"];
    world.set_now("2026-03-01T12:14:59Z");
    world.exits(1, resend).says("from 2026-03-01T12:15:00Z on");
    world.has([("in_doubt", 1)]);
    world.set_now("2026-03-01T12:15:00Z");
    world.ok(resend).says("planned: the next run sends it");
    let row = &world.rows("SELECT * FROM resolution")[0];
    assert_eq!(row["reason"].as_deref(), Some("not in the provider's list"));
    assert_eq!(row["decided_at"].as_deref(), Some("2026-03-01T12:15:00Z"));
    assert_eq!(row["armed_at"].as_deref(), Some("2026-03-01T12:00:00Z"));
    assert!(row["who"].as_deref().is_some_and(|who| !who.is_empty()));
    let server = accepting();
    world.send_to(&server);
    world.ok(["detect"]);
    assert_eq!(server.accepted()[0].message_id, id);
    world.has([("sent", 1)]);
    world.exits(65, resend).says("is sent, not in doubt");
}

#[test]
fn by_hand_one_is_sent_or_refused_or_all_of_them() {
    for (flag, state) in [("--sent", "sent"), ("--refused", "refused")] {
        let world = in_doubt();
        let key = world.message().message_key;
        world.ok(["resolve", &key, flag, "--reason", "asked the provider"]).says(state);
        world.has([(state, 1)]);
        assert_eq!(world.episodes()[0].email_sent, state == "sent");
        world.set_now("2026-03-01T13:00:00Z");
        world.ok(["detect"]).is_silent();
    }
    let server = Server::start(Plan::accepting().at(Stage::Taken, Act::Close));
    let world = World::new().carts([Cart::of("c1"), Cart::of("c2")]).smtp(&server).init();
    world.exits(1, ["detect"]);
    world.exits(65, ["resolve", "nobody", "--sent", "--reason", "x"]).says("there is no message nobody");
    world.has([("in_doubt", 2)]);
    world.ok(["resolve", "--all", "--sent", "--reason", "x"]).says("2 messages settled");
    world.has([("sent", 2)]);
}

#[test]
fn what_to_settle_how_and_why_must_all_be_said() {
    let world = in_doubt();
    let id = message_id(&world);
    for wrong in [
        &["resolve", &id][..],
        &["resolve", &id, "--sent"],
        &["resolve", &id, "--sent", "--reason", " "],
        &["resolve", &id, "--sent", "--resend", "--reason", "x"],
        &["resolve", "--sent", "--reason", "x"],
        &["resolve", &id, "--sent", "--reason", "x", "--mail-log", "mail.log"],
        &["resolve", "--all"],
        &["resolve", "--timezone", "UTC"],
    ] {
        world.exits(2, wrong.iter().copied());
    }
    world.has([("in_doubt", 1)]);
}

#[test]
fn a_resend_of_a_campaign_that_was_done_with_goes_out() {
    let server = Server::start(Plan::accepting().at(Stage::Taken, Act::Close));
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-01T12:00:00Z\"")).smtp(&server).init();
    world.campaigns_at("2026-03-01T11:59:00Z", 0);
    world.campaigns_at("2026-03-01T12:00:00Z", 1);
    assert_eq!(world.campaign_column("spring", "status").as_deref(), Some("completed"));
    world.set_now("2026-03-01T12:15:00Z");
    world.ok(["resolve", "--all", "--resend", "--reason", "not in the provider's list"]);
    world.ok(["audit"]);
    let server = accepting();
    world.send_to(&server);
    world.campaigns_at("2026-03-01T12:16:00Z", 0);
    assert_eq!(server.accepted().len(), 1);
    world.has([("sent", 1)]);
    assert_eq!(world.campaign_column("spring", "status").as_deref(), Some("completed"));
}

#[test]
fn a_resend_whose_time_has_passed_says_so_and_frees_the_cart() {
    let world = in_doubt();
    world.set_now("2026-03-10T12:00:00Z");
    world.ok(["resolve", "--all", "--resend", "--reason", "x"]).says("expired");
    assert_eq!(state(&world), "skipped: expired");
}

#[test]
fn a_resend_waits_while_another_message_to_the_same_address_is_planned() {
    let world = in_doubt();
    let later = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply("451 4.3.0 later")));
    world.send_to(&later);
    world.put(Cart::of("c2").email("c1@example.com").item("OTHER", "x", 1, "1").updated("2026-03-01T11:00:00Z"));
    world.set_now("2026-03-01T12:30:00Z");
    world.ok(["detect"]);
    world.has([("in_doubt", 1), ("planned", 1)]);
    world.exits(1, ["resolve", "--all", "--resend", "--reason", "x"]).says("another message");
    world.has([("in_doubt", 1), ("planned", 1)]);
}

mod refused {
    use super::*;

    /// The message about c1 could not be rendered; now it could be.
    fn unrenderable() -> World {
        let world = World::new()
            .cart(Cart::of("c1"))
            .set("detect.subject", "{% if cart_id == \"c1\" %}{{ nmae }}{% endif %}Hi");
        let world = world.init();
        let ran = world.exits(1, ["detect"]);
        ran.says("1 message refused").says("`mailonce resolve --state refused --since 2h --resend");
        world.configure("detect.subject", "Hello");
        world.set_now("2026-03-01T12:01:00Z");
        world.ok(["detect"]).is_silent();
        world.has([("refused", 1)]);
        world
    }

    fn resend(id: &str) -> [&str; 5] {
        ["resolve", id, "--resend", "--reason", "the template is mended"]
    }

    #[test]
    fn a_cart_message_is_planned_again_and_goes_out_once() {
        let world = unrenderable();
        let id = message_id(&world);
        for decision in ["--sent", "--refused"] {
            world.exits(65, ["resolve", &id, decision, "--reason", "x"]).says("is refused, not in doubt");
        }
        // Without its angle brackets too, which a shell wants quoted.
        world.ok(resend(id.trim_matches(['<', '>']))).says("planned: the next run sends it").says("1 message settled");
        assert_eq!(world.number("SELECT count(*) FROM message WHERE last_reply LIKE '%: the template is mended'"), 1);
        world.ok(["audit"]);
        world.ok(["detect"]).is_silent();
        world.has([("sent", 1)]);
        assert_eq!(message_id(&world), id);
        world.exits(65, resend(&id)).says("is sent, not in doubt");
        world.ok(["audit"]);
    }

    #[test]
    fn it_stays_refused_when_its_time_has_passed_or_another_took_its_place() {
        let world = unrenderable();
        let id = message_id(&world);
        world.set_now("2026-03-10T12:00:00Z");
        world.exits(1, resend(&id)).says("stays refused: its time has passed");
        world.has([("refused", 1)]);

        let world = unrenderable();
        let id = message_id(&world);
        // A day later, outside of the window, the same contents are abandoned anew.
        world.touch("c1", "2026-03-02T12:00:00Z");
        world.set_now("2026-03-02T14:00:00Z");
        world.ok(["detect"]).is_silent();
        world.has([("refused", 1), ("sent", 1)]);
        world.exits(1, resend(&id)).says("stays refused: another message");
        world.has([("refused", 1), ("sent", 1)]);
    }

    #[test]
    fn it_stays_refused_while_the_window_forbids_it_and_never_stands_in_the_way_of_others() {
        let world = unrenderable();
        let csv = "email,cart_hash,email_sent,created_at\nc1@example.com,x,1,2026-03-01T11:30:00Z\n";
        std::fs::write(world.path("old.csv"), csv).unwrap();
        world.ok(["import", "log", "old.csv"]);
        let id = message_id(&world);
        world.exits(1, resend(&id)).says("stays refused: window_on_arming");
        world.has([("refused", 1)]);
        world.ok(["detect"]).is_silent();
        world.set_now("2026-03-02T11:31:00Z");
        world.ok(resend(&id)).says("planned");
        world.ok(["detect"]).is_silent();
        world.has([("sent", 1)]);
    }

    #[test]
    fn a_campaigns_message_is_left_to_campaign_retry() {
        let server = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply("550 5.7.1 no")));
        let world = World::with_campaigns(&definition("once", "at = \"2026-03-01 12:00\"")).smtp(&server).init();
        world.ok(["run-campaigns"]);
        world.exits(65, resend(&message_id(&world))).says("campaign retry ID --state refused");
        world.has([("refused", 1)]);
    }
}

#[test]
fn nothing_is_settled_under_a_run_or_by_a_wrong_clock() {
    let world = in_doubt();
    let lock = std::fs::File::open(world.path("mailonce.db.lock")).unwrap();
    lock.lock().unwrap();
    world.exits(75, ["resolve", "--all", "--sent", "--reason", "x"]).says("another run");
    log(&world, "mail.log", &fixture("lost.log"));
    world.exits(75, by_log(&[])).is_silent();
    lock.unlock().unwrap();
    world.set_now("2026-03-01T11:00:00Z");
    world.exits(74, ["resolve", "--all", "--sent", "--reason", "x"]).says("the clock says");
    world.has([("in_doubt", 1)]);
}

#[test]
fn the_ledger_itself_lets_nothing_out_of_doubt_without_a_record() {
    let world = in_doubt();
    let ledger = rusqlite::Connection::open(world.ledger_file()).unwrap();
    for state in ["sent", "refused"] {
        let moved = ledger.execute("UPDATE message SET state = ?1, settled_at = '2026-03-01T12:30:00Z'", [state]);
        assert!(moved.unwrap_err().to_string().contains("doubt_is_settled_on_record"));
    }
    world.ok(["resolve", "--all", "--sent", "--reason", "x"]);
    for sql in ["DELETE FROM resolution", "UPDATE resolution SET who = 'someone else'"] {
        assert!(ledger.execute(sql, []).unwrap_err().to_string().contains("resolution_"), "{sql}");
    }
}

#[test]
fn the_list_tells_all_that_is_known() {
    let world = in_doubt();
    let message = world.message();
    let ran = world.ok(["resolve"]);
    for text in [&message.message_key, &message_id(&world), "c1@example.com", "2026-03-01T12:00:00Z", "cart      c1"] {
        ran.says(text);
    }
    ran.says("by run 1").says("resend    from 2026-03-01T12:15:00Z on").says("1 message in doubt");
    let json = world.ok(["resolve", "--json"]).json();
    assert_eq!(json["messages"][0]["attempts"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_planned_again_to_somebody_on_the_list_is_said_to_be_skipped() {
    let server = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply("550 5.7.1 not now")));
    let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
    world.ok(["detect"]);
    let id = message_id(&world);
    world.ok(["explain", &id]).says("to try it again: `mailonce resolve");
    world.ok(["suppress", "add", "c1@example.com", "--reason", "asked by telephone"]);
    let told = world.ok(["explain", &id]);
    told.says("mailonce suppress remove");
    assert!(!told.stdout.contains("mailonce resolve"), "{told}");
    world
        .ok(["resolve", &id, "--resend", "--reason", "a mistake of theirs"])
        .says("planned: but the next run skips it, as its address is on the suppression list");
    world.set_now("2026-03-01T12:30:00Z");
    world.ok(["detect"]);
    world.has([("skipped", 1)]);
}
