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
        world.ok(["detect"]);
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
