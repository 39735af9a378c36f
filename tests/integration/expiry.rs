//! What is not sent in its time expires: a person is told of it, and it is kept until someone settles it.

use rusqlite::Connection;

use crate::support::{Act, Cart, Plan, Server, Stage, World, definition, people};

const FULL: &str = "452 4.2.2 the mailbox <r1@example.com> is full";
const ONCE: &str = "at = \"2026-03-01 12:00\"";
/// When a message of `ONCE` expires.
const LATE: &str = "2026-03-04T12:00:00Z";

fn not_now(server: Plan, recipients: &[&str]) -> Server {
    let plan = recipients.iter().fold(server, |plan, to| plan.for_recipient(to, Stage::Rcpt, Act::Reply(FULL)));
    Server::start(plan)
}

/// The campaign `once` to three people, of whom `r1` and `r2` were put off.
fn put_off() -> (World, Server) {
    let server = not_now(Plan::accepting(), &["r1@", "r2@"]);
    let world = World::with_campaigns(&definition("once", ONCE)).smtp(&server);
    world.audience("audience.csv", &people(3));
    let world = world.init();
    world.ok(["run-campaigns"]);
    world.has([("planned", 2), ("sent", 1)]);
    (world, server)
}

fn notices(world: &World) -> Vec<String> {
    let status = world.ok(["status", "--json"]).json();
    let standing = status["standing"].as_array().expect("a list").iter();
    standing.map(|notice| notice["line"].as_str().expect("a line").to_owned()).collect()
}

/// What `resolve --accept` does to a notice.
fn accept(world: &World, key: &str) {
    let ledger = Connection::open(world.ledger_file()).unwrap();
    assert_eq!(ledger.execute("DELETE FROM notice WHERE notice_key = ?1", [key]).unwrap(), 1);
}

#[test]
fn a_campaign_that_expires_is_told_once_and_kept_until_it_is_planned_anew() {
    let (world, _server) = put_off();
    let told = world.campaigns_at(LATE, 1);
    told.says(
        "campaign once 2026-03-01T12:00:00Z: 2 messages expired unsent (send_until passed at 2026-03-04T12:00:00Z)",
    )
    .says("the last word on one of them: \"452 4.2.2 the mailbox <r…@example.com> is full\"")
    .says("`mailonce campaign retry once --state expired --occurrence 2026-03-01T12:00:00Z`")
    .says("`mailonce resolve --accept expired:once@2026-03-01T12:00:00Z`");
    assert!(!told.stderr.contains("r1@example.com"), "an address in a log:\n{told}");
    world.has([("sent", 1), ("skipped", 2)]);
    world.campaigns_at("2026-03-04T12:01:00Z", 0).is_silent();
    world.ok(["status"]).says("expired, since 2026-03-04T12:00:00Z: campaign once");
    let willing = Server::start(Plan::accepting());
    world.send_to(&willing);
    // What the line says, word for word.
    world
        .ok(["campaign", "retry", "once", "--state", "expired", "--occurrence", "2026-03-01T12:00:00Z"])
        .says("2 messages");
    assert_eq!(notices(&world), [""; 0]);
    world.campaigns_at("2026-03-04T12:02:00Z", 0).is_silent();
    assert_eq!(willing.recipients(), ["r1@example.com", "r2@example.com"]);
    world.books_balance();
    world.ok(["audit"]).is_silent();
}

#[test]
fn what_expired_again_after_a_retry_is_told_again_with_its_count() {
    let (world, _server) = put_off();
    world.campaigns_at(LATE, 1);
    let sending = Server::start(Plan::accepting().for_recipient("r1@", Stage::Rcpt, Act::Reply(FULL)));
    world.send_to(&sending);
    world.ok(["campaign", "retry", "once", "--state", "expired"]).says("2 messages");
    world.campaigns_at("2026-03-04T12:01:00Z", 0);
    world.campaigns_at("2026-03-07T12:01:00Z", 1).says("1 message expired").says("2026-03-07T12:00:00Z");
    assert_eq!(notices(&world).len(), 1);
    world.ok(["campaign", "cancel", "once"]);
    assert_eq!(notices(&world), [""; 0], "a cancelled campaign is settled");
}

#[test]
fn a_run_that_is_killed_before_it_could_tell_leaves_that_to_the_next() {
    let (world, _server) = put_off();
    world.define(&(definition("once", ONCE) + &definition("late", "at = \"2026-03-04 12:00\"")));
    let hanging = Server::start(Plan::accepting().at(Stage::Connect, Act::Hang));
    world.send_to(&hanging);
    world.set_now("2026-03-04T11:59:00Z");
    world.ok(["campaign", "pause", "once"]);
    world.ok(["run-campaigns"]);
    world.ok(["campaign", "resume", "once"]);
    world.set_now(LATE);
    let run = world.spawn(["run-campaigns"]);
    hanging.wait_for(Stage::Connect, 1);
    let killed = run.kill();
    assert_eq!(killed.stderr, "");
    assert_eq!(world.number("SELECT count(*) FROM message WHERE reason = 'expired'"), 2);
    hanging.release();
    let willing = Server::start(Plan::accepting());
    world.send_to(&willing);
    world.campaigns_at("2026-03-04T12:01:00Z", 1).says("2 messages expired unsent");
    world.campaigns_at("2026-03-04T12:02:00Z", 0).is_silent();
}

#[test]
fn nothing_expires_while_its_campaign_is_paused() {
    let (world, server) = put_off();
    world.ok(["campaign", "pause", "once"]);
    world.campaigns_at("2026-03-05T12:00:00Z", 0).is_silent();
    world.has([("planned", 2), ("sent", 1)]);
    let tries = world.attempts().len();
    world.ok(["campaign", "resume", "once"]).says("2 planned messages not sent: too late by now");
    world.campaigns_at("2026-03-05T12:01:00Z", 1).says("2 messages expired unsent");
    world.has([("sent", 1), ("skipped", 2)]);
    assert_eq!((world.attempts().len(), server.final_dots()), (tries, 1), "nothing late is sent");
}

#[test]
fn carts_that_expire_are_told_at_most_once_a_day_and_counted_until_they_are_accepted() {
    let server = not_now(Plan::accepting(), &["c1@", "c2@", "c4@"]);
    let world = World::new().smtp(&server);
    let at = |cart: &str, updated: &str| Cart::of(cart).updated(updated);
    let world = world
        .carts([at("c1", "2026-03-01T10:00:00Z"), at("c2", "2026-03-01T10:30:00Z"), at("c3", "2026-03-01T11:00:00Z")])
        .init();
    let detect = |now: &str, code: i32| {
        world.set_now(now);
        world.exits(code, ["detect"])
    };
    detect("2026-03-01T12:00:00Z", 0);
    world.has([("planned", 2), ("sent", 1)]);
    detect("2026-03-04T10:00:00Z", 1)
        .says("1 cart message expired unsent at 2026-03-04T10:00:00Z")
        .says("is full")
        .says("`mailonce log --state skipped`")
        .says("`mailonce resolve --accept expired:carts`");
    // Another one, on the same day: counted, and not told yet.
    detect("2026-03-04T10:30:00Z", 0).is_silent();
    let line = "2 cart messages expired unsent since 2026-03-04T10:00:00Z, the latest at 2026-03-04T10:30:00Z";
    assert!(notices(&world)[0].starts_with(line), "{:?}", notices(&world));
    detect("2026-03-05T09:59:00Z", 0).is_silent();
    detect("2026-03-05T10:00:00Z", 1).says(line);
    for later in ["2026-03-05T10:01:00Z", "2026-03-06T10:01:00Z", "2026-03-12T10:01:00Z"] {
        detect(later, 0).is_silent();
    }
    assert_eq!(notices(&world).len(), 1, "it stands until someone settles it");
    accept(&world, "expired:carts");
    world.put(at("c4", "2026-03-12T09:00:00Z"));
    detect("2026-03-12T10:02:00Z", 0);
    detect("2026-03-15T09:00:00Z", 1).says("1 cart message expired unsent at 2026-03-15T09:00:00Z");
    world.ok(["audit"]).is_silent();
}

#[test]
fn what_the_limits_never_let_through_is_told_so() {
    let world = World::with_campaigns(&definition("once", ONCE)).set("mail.limits.per_hour", 1);
    world.audience("audience.csv", &people(3));
    let world = world.init();
    world.ok(["run-campaigns"]);
    world.has([("planned", 2), ("sent", 1)]);
    world.campaigns_at(LATE, 1).says("2 messages expired unsent").says("none of the latest was ever tried");
}

/// Counts of one campaign's messages while a command is under way, until this many are moved but not all.
fn kill_half_way(world: &World, arguments: &[&str], moved: &str, all: i64) {
    let ledger = world.ledger();
    let mut count = ledger.prepare(&format!("SELECT count(*) FROM message WHERE {moved}")).unwrap();
    let mut running = world.spawn(arguments);
    while running.is_running() {
        let moved: i64 = count.query_row([], |row| row.get(0)).unwrap();
        if 0 < moved && moved < all {
            running.kill();
            return;
        }
    }
    panic!("all was moved at once");
}

const MANY: usize = 5000;

/// A campaign whose server takes nothing.
fn many() -> World {
    let server = Server::start(Plan::accepting().at(Stage::Ehlo, Act::Code(421)));
    let world = World::with_campaigns(&definition("once", ONCE)).smtp(&server);
    world.audience("audience.csv", &people(MANY));
    let world = world.init();
    world.run(["run-campaigns"]);
    world.has([("planned", MANY)]);
    world
}

#[test]
fn a_cancellation_that_is_killed_half_way_is_finished_by_the_next_run_or_by_another() {
    let again: [&[&str]; 2] = [&["run-campaigns"], &["campaign", "cancel", "once"]];
    for finish in again {
        let world = many();
        kill_half_way(&world, &["campaign", "cancel", "once"], "reason = 'cancelled'", MANY as i64);
        assert_eq!(world.campaign_column("once", "status").as_deref(), Some("cancelled"));
        world.ok(["audit"]).is_silent();
        let willing = Server::start(Plan::accepting());
        world.send_to(&willing);
        world.ok(finish);
        world.has([("skipped", MANY)]);
        world.ok(["campaign", "cancel", "once"]).says("was cancelled already");
        world.ok(["run-campaigns"]).is_silent();
        assert_eq!(willing.connections(), 0, "it sends nothing");
        world.books_balance();
    }
}

#[test]
fn a_retry_that_is_killed_half_way_is_repeated_for_the_rest() {
    let world = many();
    world.ok(["campaign", "cancel", "once"]);
    kill_half_way(&world, &["campaign", "retry", "once", "--state", "cancelled"], "state = 'planned'", MANY as i64);
    world.ok(["audit"]).is_silent();
    let planned = world.states()["planned"];
    let willing = Server::start(Plan::accepting());
    world.send_to(&willing);
    world.configure("mail.smtp.connections", 8);
    world.ok(["run-campaigns"]);
    assert_eq!(willing.accepted().len(), planned, "what was planned is sent, and is not cancelled again");
    world.ok(["campaign", "retry", "once", "--state", "cancelled"]).says(&format!("{} messages", MANY - planned));
    world.ok(["run-campaigns"]);
    let mut recipients = willing.recipients();
    recipients.dedup();
    assert_eq!((recipients.len(), willing.accepted().len()), (MANY, MANY), "each once");
    world.books_balance();
}

#[test]
fn a_million_that_expire_go_in_batches_too() {
    let world = many();
    world.set_now(LATE);
    kill_half_way(&world, &["run-campaigns"], "reason = 'expired'", MANY as i64);
    world.ok(["audit"]).is_silent();
    let line = format!("{MANY} messages expired unsent");
    world.exits(1, ["run-campaigns"]).says(&line).says("turned the connection away");
    world.has([("skipped", MANY)]);
}
