//! A clock that jumps, by a day or by a year, and comes back.

use crate::support::{Act, Cart, Plan, Server, Stage, World, definition, people};

const BACK: [&str; 2] = ["2026-02-28T12:00:00Z", "2025-03-01T12:00:00Z"];
const AHEAD: [&str; 2] = ["2026-03-02T12:00:00Z", "2027-03-01T12:00:00Z"];

/// Two carts sent at noon of the first of March, and one deferred.
fn noon() -> (World, Server) {
    let plan = Plan::accepting().nth(Stage::Rcpt, 1, Act::Code(451));
    let server = Server::start(plan);
    let world = World::new().carts((1..=3).map(|n| Cart::of(&format!("c{n}")))).smtp(&server);
    // So that a day on is within the window: whoever is mailed a second time, is mailed twice.
    let world = world.set("detect.window", "48h").init();
    world.ok(["detect"]);
    assert_eq!(server.accepted().len(), 2);
    (world, server)
}

#[test]
fn back_by_a_day_or_a_year_detect_sends_nothing_and_goes_on_when_the_clock_is_right() {
    for back in BACK {
        let (world, server) = noon();
        for _ in 0..2 {
            world.set_now(back);
            world.exits(74, ["detect"]).says(back).says("2026-03-01T12:00:00Z").says("--accept-clock");
            assert_eq!(server.accepted().len(), 2);
            world.has([("planned", 1), ("sent", 2)]);
        }
        world.set_now("2026-03-01T12:05:00Z");
        world.ok(["detect"]);
        world.has([("sent", 3)]);
        assert_eq!(server.recipients(), ["c1@example.com", "c2@example.com", "c3@example.com"]);
    }
}

#[test]
fn ahead_by_a_day_or_a_year_and_back_detect_sends_none_twice_and_loses_none() {
    for ahead in AHEAD {
        let (world, server) = noon();
        world.set_now(ahead);
        // A year ahead, it expires; that is told.
        world.exits(i32::from(ahead == AHEAD[1]), ["detect"]);
        world.set_now("2026-03-01T12:10:00Z");
        world.exits(74, ["detect"]).says(ahead);
        world.ok(["detect", "--accept-clock"]);
        for at in ["2026-03-01T12:20:00Z", "2026-03-01T18:00:00Z", "2026-03-02T11:00:00Z"] {
            world.set_now(at);
            world.ok(["detect"]);
        }
        assert_eq!(server.recipients(), ["c1@example.com", "c2@example.com", "c3@example.com"], "{ahead}");
        assert!(!world.states().contains_key("planned"), "{:?}", world.states());
    }
}

/// A daily campaign at 09:00 that opened on the second of March.
fn nine() -> (World, Server) {
    let server = Server::start(Plan::accepting());
    let world = World::with_campaigns(&definition("daily", "every = \"day\"\ntime = \"09:00\"")).smtp(&server);
    world.audience("audience.csv", &people(2));
    let world = world.init();
    world.ok(["run-campaigns"]);
    world.campaigns_at("2026-03-02T09:00:00Z", 0);
    assert_eq!(server.accepted().len(), 2);
    (world, server)
}

#[test]
fn back_by_a_day_or_a_year_no_campaign_opens() {
    for back in ["2026-03-01T09:00:00Z", "2025-03-02T09:00:00Z"] {
        let (world, server) = nine();
        world.campaigns_at(back, 74).says(back).says("--accept-clock");
        world.campaigns_at("2026-03-02T09:05:00Z", 0);
        assert_eq!(server.accepted().len(), 2);
        world.campaigns_at("2026-03-03T09:00:00Z", 0);
        assert_eq!(server.accepted().len(), 4);
    }
}

#[test]
fn ahead_by_a_day_or_a_year_and_back_each_campaign_goes_on_from_the_right_day() {
    for (ahead, total) in [("2026-03-03T09:00:00Z", 6), ("2027-03-02T09:00:00Z", 8)] {
        let (world, server) = nine();
        // By the wrong clock it is due, and a year of occurrences was missed: that cannot be known.
        world.campaigns_at(ahead, if ahead.starts_with("2027") { 1 } else { 0 });
        assert_eq!(server.accepted().len(), 4);
        world.campaigns_at("2026-03-02T09:10:00Z", 74).says(ahead);
        world.set_now("2026-03-02T09:10:00Z");
        world.ok(["run-campaigns", "--accept-clock"]);
        assert_eq!(server.accepted().len(), 4, "{ahead}: it opened again");
        // What opened ahead of its time does not open again; every other day does.
        world.campaigns_at("2026-03-03T09:00:00Z", 0);
        world.campaigns_at("2026-03-04T09:00:00Z", 0);
        assert_eq!(server.accepted().len(), total, "{ahead}: {:?}", world.occurrences("daily"));
    }
}

/// A campaign to three people at noon of the first of March, of whom `r1` and `r2` were put off.
fn put_off() -> (World, Server) {
    let later = Act::Code(451);
    let plan = Plan::accepting().for_recipient("r1@", Stage::Rcpt, later).for_recipient("r2@", Stage::Rcpt, later);
    let server = Server::start(plan);
    let world = World::with_campaigns(&definition("once", "at = \"2026-03-01 12:00\"")).smtp(&server);
    world.audience("audience.csv", &people(3));
    let world = world.init();
    world.ok(["run-campaigns"]);
    world.has([("planned", 2), ("sent", 1)]);
    (world, server)
}

fn standing(world: &World) -> usize {
    world.ok(["status", "--json"]).json()["standing"].as_array().expect("a list").len()
}

#[test]
fn what_a_clock_that_was_ahead_expired_is_sent_when_it_is_right_again() {
    // By either command: both take it back.
    for command in ["run-campaigns", "detect"] {
        let (world, _server) = put_off();
        world.campaigns_at("2027-03-01T12:00:00Z", 1).says("2 messages expired unsent");
        world.campaigns_at("2026-03-01T12:10:00Z", 74);
        let willing = Server::start(Plan::accepting());
        world.send_to(&willing);
        world.ok([command, "--accept-clock"]);
        assert_eq!(standing(&world), 0, "nothing has expired after all");
        world.ok(["audit"]).is_silent();
        world.campaigns_at("2026-03-01T12:10:00Z", 0);
        assert_eq!(willing.recipients(), ["r1@example.com", "r2@example.com"]);
        world.ok(["audit"]).is_silent();
        world.campaigns_at("2026-03-08T12:10:00Z", 0).is_silent();
    }
}

#[test]
fn what_expired_by_the_right_clock_too_stays_so_and_is_told() {
    let (world, _server) = put_off();
    world.campaigns_at("2027-03-01T12:00:00Z", 1);
    world.set_now("2026-03-04T12:00:00Z");
    world.ok(["run-campaigns", "--accept-clock"]);
    world.has([("sent", 1), ("skipped", 2)]);
    world.ok(["status"]).says("expired, since 2026-03-04T12:00:00Z: campaign once").says("2 messages expired");
}

#[test]
fn what_a_clock_that_was_ahead_put_off_is_due_when_it_is_right_again() {
    let (world, _server) = put_off();
    world.campaigns_at("2026-03-03T12:00:00Z", 0);
    assert!(world.number("SELECT min(not_before) > '2026-03-03' FROM message WHERE state = 'planned'") == 1);
    let willing = Server::start(Plan::accepting());
    world.send_to(&willing);
    world.set_now("2026-03-01T12:10:00Z");
    world.ok(["run-campaigns", "--accept-clock"]);
    assert_eq!(willing.recipients(), ["r1@example.com", "r2@example.com"]);
    world.ok(["audit"]).is_silent();
}

#[test]
fn a_cart_that_a_clock_that_was_ahead_expired_is_written_to_unless_another_mail_took_its_place() {
    let server = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Code(451)));
    let world = World::new().carts((1..=3).map(|n| Cart::of(&format!("c{n}")))).smtp(&server).init();
    world.ok(["detect"]);
    world.has([("planned", 3)]);
    world.set_now("2026-04-01T12:00:00Z");
    world.exits(1, ["detect"]).says("3 cart messages expired unsent");
    // By that clock they come back: one with the same contents, which is mailed, one with others, which waits.
    let picky = Server::start(Plan::accepting().for_recipient("c2@", Stage::Rcpt, Act::Code(451)));
    world.send_to(&picky);
    world.put(Cart::of("c1").updated("2026-04-01T11:00:00Z"));
    world.put(Cart::of("c2").updated("2026-04-01T11:00:00Z").item("other", "Other", 1, "5.00"));
    world.set_now("2026-04-01T12:30:00Z");
    world.ok(["detect"]);
    assert_eq!(picky.recipients(), ["c1@example.com"]);
    world.set_now("2026-03-01T12:10:00Z");
    let willing = Server::start(Plan::accepting());
    world.send_to(&willing);
    world.ok(["detect", "--accept-clock"]);
    world.ok(["audit"]).is_silent();
    assert_eq!(willing.recipients(), ["c2@example.com", "c3@example.com"]);
    // The first one's mail of April has its contents.
    world.has([("sent", 3), ("skipped", 2)]);
    world.ok(["status"]).says("2 cart messages expired unsent");
}

#[test]
fn what_a_clock_that_was_ahead_held_to_be_missed_opens_when_it_is_right_again_and_in_time() {
    let server = Server::start(Plan::accepting());
    let world = World::with_campaigns(&definition("once", "at = \"2026-03-01 13:00\"")).smtp(&server).init();
    world.ok(["run-campaigns"]);
    world.set_now("2026-03-05T12:00:00Z");
    world.run(["run-campaigns"]);
    assert_eq!(world.occurrences("once"), ["2026-03-01T13:00:00Z not_in_time"]);
    world.set_now("2026-03-01T13:05:00Z");
    world.ok(["run-campaigns", "--accept-clock"]);
    assert_eq!(world.occurrences("once"), ["2026-03-01T13:00:00Z opened"]);
    assert_eq!(server.recipients(), ["r1@example.com"]);
    world.ok(["audit"]).is_silent();
}

#[test]
fn a_cart_that_expired_by_a_clock_that_was_ahead_and_by_the_right_one_makes_room_for_the_next() {
    let server = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Code(451)));
    let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
    world.ok(["detect"]);
    world.set_now("2026-04-01T12:00:00Z");
    world.exits(1, ["detect"]);
    let willing = Server::start(Plan::accepting());
    world.send_to(&willing);
    world.put(Cart::of("c1").updated("2026-03-04T10:00:00Z"));
    world.set_now("2026-03-04T12:00:00Z");
    world.ok(["detect", "--accept-clock"]);
    world.has([("sent", 1), ("skipped", 1)]);
    assert_eq!(willing.recipients(), ["c1@example.com"]);
    world.ok(["status"]).says("1 cart message expired unsent at 2026-03-04T12:00:00Z");
    world.ok(["audit"]).is_silent();
}

#[test]
fn what_was_to_be_told_in_days_to_come_is_told_when_the_clock_is_right_again() {
    let server = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Code(451)));
    let world = World::new().cart(Cart::of("c1")).smtp(&server).set("detect.max_age", "6h").init();
    world.ok(["detect"]);
    world.put(Cart::of("c2").updated("2026-04-01T10:00:00Z"));
    world.set_now("2026-04-01T12:00:00Z");
    world.exits(1, ["detect"]).says("1 cart message expired");
    world.set_now("2026-04-01T16:00:00Z");
    // On the same day: to be told on the next.
    world.ok(["detect"]).is_silent();
    world.set_now("2026-03-02T12:00:00Z");
    let told = world.exits(1, ["detect", "--accept-clock"]);
    told.says("1 cart message expired unsent at 2026-03-02T12:00:00Z");
    world.set_now("2026-03-02T12:01:00Z");
    world.ok(["detect"]).is_silent();
}
