//! What the mail brought: who is held out of it, which orders came after it, and how the two compare.

use crate::support::{Cart, Plan, Server, World, definition, people};

/// Everyone is held out, or this share of them.
fn held_out(world: World, percent: impl Into<toml::Value>) -> World {
    world.set("holdout.percent", percent).set("holdout.salt", "2026")
}

/// Two steps, 1 h (until 2 h) and 24 h after the last touch.
fn two_steps(world: World) -> World {
    let steps = "[[step]]\nname = 'reminder'\nafter = '60m'\nuntil = '2h'\n[[step]]\nname = 'second'\nafter = '24h'\n";
    let table: toml::Table = steps.parse().expect("steps");
    world.set("detect.max_age", "5d").set("detect.step", table["step"].clone())
}

/// Cart, step and state, with the reason where there is one, of every message, oldest first.
fn fates(world: &World) -> Vec<String> {
    let sql = "SELECT coalesce(cart_id, folded_address) || ' ' || coalesce(step, '-') || ' ' || state
                   || coalesce(': ' || reason, '') AS fate FROM message ORDER BY id";
    world.rows(sql).into_iter().filter_map(|mut row| row.remove("fate").flatten()).collect()
}

#[test]
fn the_held_out_get_nothing_and_are_no_trouble() {
    let server = Server::start(Plan::accepting());
    let world = held_out(two_steps(World::new().cart(Cart::of("c1")).smtp(&server)), 100);
    let world = world.now("2026-03-01T09:00:00Z").init();
    world.ok(["detect", "--dry-run"]).says("held out");
    world.ok(["detect", "-v"]).says("held out").says("nothing to send");
    assert_eq!(fates(&world), ["c1 reminder skipped: holdout"]);
    for at in ["2026-03-01T09:01:00Z", "2026-03-02T08:00:00Z", "2026-03-03T08:00:00Z"] {
        world.set_now(at);
        world.ok(["detect"]);
    }
    // It stays so for its flow, whatever the configuration becomes.
    world.configure("holdout.percent", 0);
    world.set_now("2026-03-04T08:00:00Z");
    world.ok(["detect"]);
    assert_eq!(fates(&world), ["c1 reminder skipped: holdout"]);
    assert_eq!(server.recipients(), [""; 0]);
    world.ok(["status"]).says("1 holdout");
    world.touch("c1", "2026-03-04T08:00:00Z");
    world.set_now("2026-03-04T09:00:00Z");
    world.ok(["detect"]);
    assert_eq!(server.recipients(), ["c1@example.com"]);
    world.ok(["audit"]);
}

#[test]
fn who_was_written_to_is_not_held_out_of_the_steps_that_follow() {
    let server = Server::start(Plan::accepting());
    let world = two_steps(World::new().cart(Cart::of("c1")).smtp(&server)).now("2026-03-01T09:00:00Z").init();
    world.ok(["detect"]);
    let world = held_out(world, 100).now("2026-03-02T08:00:00Z");
    world.ok(["detect"]);
    assert_eq!(fates(&world), ["c1 reminder sent", "c1 second sent"]);
    world.ok(["audit"]);
}

#[test]
fn a_first_step_that_comes_too_late_decides_nothing() {
    let server = Server::start(Plan::accepting());
    let world = held_out(two_steps(World::new().cart(Cart::of("c1")).smtp(&server)), 100);
    let world = world.now("2026-03-01T12:00:00Z").init();
    world.exits(1, ["detect"]).says("expired unsent");
    assert_eq!(fates(&world), ["c1 reminder skipped: expired"]);
    world.set_now("2026-03-02T08:00:00Z");
    world.ok(["detect"]);
    assert_eq!(fates(&world), ["c1 reminder skipped: expired", "c1 second skipped: holdout"]);
    assert_eq!(server.recipients(), [""; 0]);
    world.ok(["audit"]);
}

#[test]
fn without_steps_too_one_row_an_abandonment_and_the_later_cart_counts() {
    let server = Server::start(Plan::accepting());
    let older = Cart::of("older").item("A", "x", 1, "1").email("c1@example.com").updated("2026-03-01T07:00:00Z");
    let world = held_out(World::new().carts([Cart::of("c1"), older]).smtp(&server), 100).init();
    world.configure("detect.max_per_run", 1);
    for at in ["2026-03-01T12:00:00Z", "2026-03-01T12:01:00Z", "2026-03-02T11:59:00Z"] {
        world.set_now(at);
        world.ok(["detect"]);
    }
    assert_eq!(fates(&world), ["older - skipped: superseded", "c1 - skipped: holdout"]);
    world.set_now("2026-03-02T12:00:00Z");
    world.ok(["detect"]);
    assert_eq!(world.messages_of("c1").len(), 2, "as another message would be planned once the window has passed");
    assert_eq!(server.recipients(), [""; 0]);
    world.ok(["audit"]);
}

#[test]
fn the_share_is_by_address_and_does_not_count_against_max_per_run() {
    let server = Server::start(Plan::accepting());
    let carts = (0..200).map(|number| Cart::of(&format!("c{number}")));
    let world = held_out(World::new().carts(carts).smtp(&server), 50.0).init();
    world.configure("detect.max_per_run", 150);
    world.ok(["detect"]);
    let held = world.number("SELECT count(*) FROM message WHERE reason = 'holdout'");
    // Five standard deviations of 200 coins.
    assert!((65..=135).contains(&held), "{held} of 200");
    assert_eq!(server.recipients().len(), 200 - usize::try_from(held).unwrap());
    world.ok(["audit"]);
}

#[test]
fn of_a_campaign_too_where_it_says_so_and_its_books_balance() {
    let server = Server::start(Plan::accepting());
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-01 12:30\"")).smtp(&server);
    world.audience("audience.csv", &people(40));
    let world = held_out(world, 50).set("holdout.kinds", vec!["campaign"]).cart(Cart::of("c1")).init();
    world.ok(["run-campaigns"]);
    let ran = world.campaigns_at("2026-03-01T12:30:00Z", 0);
    let held = usize::try_from(world.number("SELECT count(*) FROM message WHERE reason = 'holdout'")).unwrap();
    assert!((1..40).contains(&held), "{held} of 40");
    assert_eq!(server.recipients().len(), 40 - held);
    ran.is_silent();
    world.ok(["campaign", "show", "spring"]).says("opened with 40 recipients").says(&format!("{held} skipped"));
    world.ok(["audit"]);
    world.ok(["detect"]);
    assert_eq!(world.messages_of("c1").len(), 1);
    assert!(server.recipients().contains(&"c1@example.com".to_owned()), "carts are not held out");
}

#[test]
fn a_campaign_that_holds_everyone_out_is_done() {
    let server = Server::start(Plan::accepting());
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-01 12:30\"")).smtp(&server);
    let world = held_out(world, 100).set("holdout.kinds", vec!["cart", "campaign"]).init();
    world.ok(["run-campaigns"]);
    world.campaigns_at("2026-03-01T12:30:00Z", 0);
    world.campaigns_at("2026-03-01T12:31:00Z", 0);
    assert_eq!(server.connections(), 0);
    assert_eq!(world.number("SELECT count(*) FROM scheduled_campaign WHERE status = 'completed'"), 1);
    world.ok(["campaign", "retry", "spring", "--state", "expired"]).says("0 messages");
    world.ok(["audit"]);
}

#[test]
fn what_cannot_be_held_out_is_said() {
    let world = held_out(World::new(), 5).init();
    for (key, value, named) in [
        ("holdout.percent", toml::Value::from(101), "holdout.percent: 101 is not from 0 to 100"),
        ("holdout.salt", " ".into(), "holdout.salt"),
        ("holdout.kinds", toml::Value::Array(vec![]), "holdout.kinds: is empty"),
        ("holdout.kinds", vec!["parcel"].into(), "parcel"),
    ] {
        let before = held_out(World::new(), 5);
        before.configure(key, value);
        before.exits(78, ["detect"]).says(named);
    }
    world.ok(["detect"]);
}
