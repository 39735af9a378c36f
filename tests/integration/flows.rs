//! Reminders in steps: each in its time, in their order, never two at once, and none once the cart was ordered.

use crate::support::{Act, Cart, Plan, Server, Stage, World};

const TOUCHED: &str = "2026-03-01T08:00:00Z";

/// Three steps, 1 h, 24 h and 72 h after the last touch.
fn three_steps(world: World) -> World {
    let steps = "[[step]]\nname = 'reminder'\nafter = '60m'\nsubject = 'First'\n\
                 [[step]]\nname = 'second'\nafter = '24h'\nuntil = '48h'\nsubject = 'Second'\n\
                 [[step]]\nname = 'last'\nafter = '72h'\nsubject = 'Third'\n";
    world.set("detect.max_age", "5d").set("detect.step", steps_of(steps))
}

fn steps_of(steps: &str) -> toml::Value {
    let table: toml::Table = steps.parse().expect("steps");
    table["step"].clone()
}

fn shop(server: &Server) -> World {
    three_steps(World::new().cart(Cart::of("c1")).smtp(server))
}

/// Runs `detect` at each instant.
fn detect_at(world: &World, instants: &[&str]) {
    for at in instants {
        world.set_now(at);
        world.ok(["detect"]);
    }
}

/// Step and state, with the reason where there is one, of every message, oldest first.
fn steps(world: &World) -> Vec<String> {
    let sql =
        "SELECT coalesce(step, '-') || ' ' || state || coalesce(': ' || reason, '') AS step FROM message ORDER BY id";
    world.rows(sql).into_iter().filter_map(|mut row| row.remove("step").flatten()).collect()
}

fn subjects(server: &Server) -> Vec<String> {
    server.accepted().iter().map(|message| message.header("Subject").expect("a subject")).collect()
}

fn audit(world: &World) {
    world.ok(["audit"]);
}

#[test]
fn three_steps_leave_each_in_its_time() {
    let server = Server::start(Plan::accepting());
    let world = shop(&server).now("2026-03-01T08:59:59Z").init();
    detect_at(&world, &["2026-03-01T08:59:59Z"]);
    assert_eq!(subjects(&server), [] as [&str; 0]);
    detect_at(&world, &["2026-03-01T09:00:00Z", "2026-03-02T07:59:59Z"]);
    assert_eq!(subjects(&server), ["First"]);
    detect_at(&world, &["2026-03-02T08:00:00Z", "2026-03-02T08:01:00Z", "2026-03-04T07:59:59Z"]);
    assert_eq!(subjects(&server), ["First", "Second"]);
    detect_at(&world, &["2026-03-04T08:00:00Z", "2026-03-05T08:00:00Z", "2026-03-06T07:59:00Z"]);
    assert_eq!(subjects(&server), ["First", "Second", "Third"]);
    assert_eq!(steps(&world), ["reminder sent", "second sent", "last sent"]);
    let keys: Vec<String> = world.messages().into_iter().map(|message| message.message_key).collect();
    assert_eq!(keys[1], format!("{}/second", keys[0]));
    assert_eq!(world.episodes().len(), 1, "one row for the abandonment");
    audit(&world);
}

#[test]
fn late_runs_keep_the_distance_so_that_no_two_leave_together() {
    let server = Server::start(Plan::accepting());
    let world = shop(&server).now(TOUCHED).init();
    // Two days without a run: the first leaves late, the second is too late by then, the third keeps its 71 hours.
    detect_at(&world, &["2026-03-03T08:00:00Z"]);
    assert_eq!(subjects(&server), ["First"]);
    world.set_now("2026-03-03T08:01:00Z");
    world.exits(1, ["detect"]).says("1 cart message expired unsent");
    assert_eq!(steps(&world), ["reminder sent", "second skipped: expired"]);
    detect_at(&world, &["2026-03-04T08:00:00Z", "2026-03-06T06:59:00Z"]);
    assert_eq!(subjects(&server), ["First"]);
    // 71 hours after the first, and an hour before the cart is too old.
    detect_at(&world, &["2026-03-06T07:00:00Z"]);
    assert_eq!(subjects(&server), ["First", "Third"]);
    audit(&world);
}

#[test]
fn an_order_between_two_steps_ends_the_flow() {
    let server = Server::start(Plan::accepting());
    let world = shop(&server).now("2026-03-01T09:00:00Z").init();
    detect_at(&world, &["2026-03-01T09:00:00Z"]);
    world.order("c1", "2026-03-01T20:00:00Z");
    detect_at(&world, &["2026-03-02T08:00:00Z", "2026-03-04T08:00:00Z"]);
    assert_eq!(subjects(&server), ["First"]);
}

#[test]
fn a_touch_moves_the_steps_to_come_and_does_not_begin_again() {
    let server = Server::start(Plan::accepting());
    let world = shop(&server).now("2026-03-01T09:00:00Z").init();
    detect_at(&world, &["2026-03-01T09:00:00Z"]);
    world.touch("c1", "2026-03-01T12:00:00Z");
    detect_at(&world, &["2026-03-01T13:00:00Z", "2026-03-02T08:00:00Z", "2026-03-02T11:59:00Z"]);
    assert_eq!(subjects(&server), ["First"]);
    detect_at(&world, &["2026-03-02T12:00:00Z"]);
    assert_eq!(subjects(&server), ["First", "Second"]);
    // More than the window after the last message: it is abandoned once more.
    world.touch("c1", "2026-03-03T12:00:01Z");
    detect_at(&world, &["2026-03-03T13:00:00Z", "2026-03-03T13:00:01Z"]);
    assert_eq!(subjects(&server), ["First", "Second", "First"]);
    assert_eq!(world.episodes().len(), 2);
    audit(&world);
}

#[test]
fn a_touch_while_a_step_waits_moves_it() {
    let server = Server::start(Plan::accepting().nth(Stage::Rcpt, 2, Act::Code(451)));
    let world = shop(&server).now("2026-03-01T09:00:00Z").init();
    detect_at(&world, &["2026-03-01T09:00:00Z", "2026-03-02T08:00:00Z"]);
    assert_eq!(steps(&world), ["reminder sent", "second planned"]);
    world.touch("c1", "2026-03-02T08:01:00Z");
    detect_at(&world, &["2026-03-02T08:10:00Z", "2026-03-03T08:00:59Z"]);
    assert_eq!(subjects(&server), ["First"]);
    world.ok(["detect", "--retry-now"]);
    assert_eq!(subjects(&server), ["First"]);
    detect_at(&world, &["2026-03-03T08:01:00Z"]);
    assert_eq!(subjects(&server), ["First", "Second"]);
    assert_eq!(steps(&world), ["reminder sent", "second sent"]);
}

/// The shop makes the cart anew under its id: the order before that ends the flow, and is none of the new cart.
#[test]
fn an_order_while_a_step_waits_ends_it_and_the_cart_made_anew_begins_its_own() {
    let server = Server::start(Plan::accepting().nth(Stage::Rcpt, 2, Act::Code(451)));
    let world = shop(&server).now("2026-03-01T09:00:00Z").init();
    detect_at(&world, &["2026-03-01T09:00:00Z", "2026-03-02T08:00:00Z"]);
    assert_eq!(steps(&world), ["reminder sent", "second planned"]);
    world.order_by("c1@example.com", "2026-03-02T08:10:00Z");
    world.put(Cart::of("c1").created("2026-03-02T08:20:00Z").updated("2026-03-02T08:30:00Z"));
    detect_at(&world, &["2026-03-02T09:40:00Z"]);
    assert_eq!(steps(&world), ["reminder sent", "second skipped: ordered"]);
    detect_at(&world, &["2026-03-02T09:41:00Z"]);
    assert_eq!(steps(&world), ["reminder sent", "second skipped: ordered", "reminder sent"]);
    assert_eq!(subjects(&server), ["First", "First"]);
}

#[test]
fn a_step_that_waits_while_the_cart_is_taken_up_again_after_the_window_begins_anew() {
    let server = Server::start(Plan::accepting().nth(Stage::Rcpt, 2, Act::Code(451)));
    let world = shop(&server).now("2026-03-01T09:00:00Z").init();
    detect_at(&world, &["2026-03-01T09:00:00Z", "2026-03-02T08:00:00Z"]);
    world.touch("c1", "2026-03-02T09:30:00Z");
    detect_at(&world, &["2026-03-02T09:31:00Z", "2026-03-02T10:30:00Z"]);
    assert_eq!(steps(&world), ["reminder sent", "second skipped: changed", "reminder sent"]);
    assert_eq!(subjects(&server), ["First", "First"]);
    audit(&world);
}

#[test]
fn what_is_in_doubt_counts_as_sent_and_is_not_sent_again_behind_a_later_step() {
    let server = Server::start(Plan::accepting().nth(Stage::Dot, 1, Act::Close));
    let world = shop(&server).now("2026-03-01T09:00:00Z").init();
    world.set_now("2026-03-01T09:00:00Z");
    world.exits(1, ["detect"]);
    assert_eq!(steps(&world), ["reminder in_doubt"]);
    world.set_now("2026-03-02T08:00:00Z");
    world.run(["detect"]);
    assert_eq!(steps(&world), ["reminder in_doubt", "second sent"]);
    let id = world.messages()[0].message_id.clone().expect("a Message-ID");
    world.set_now("2026-03-02T09:00:00Z");
    let resent = world.run(["resolve", &id[1..9], "--resend", "--reason", "not in the log"]);
    assert_ne!(resent.code, 0, "{}", resent.output());
    resent.says("steps_keep_their_order");
    assert_eq!(steps(&world), ["reminder in_doubt", "second sent"]);
    world.ok(["resolve", &id[1..9], "--sent", "--reason", "it is in the log"]);
    audit(&world);
}

#[test]
fn a_step_that_is_configured_no_more_is_cancelled_and_the_flow_goes_on() {
    let server = Server::start(Plan::accepting().nth(Stage::Rcpt, 2, Act::Code(451)));
    let world = shop(&server).now("2026-03-01T09:00:00Z").init();
    detect_at(&world, &["2026-03-01T09:00:00Z", "2026-03-02T08:00:00Z"]);
    let without = "[[step]]\nname = 'reminder'\nafter = '60m'\nsubject = 'First'\n\
                   [[step]]\nname = 'last'\nafter = '72h'\nsubject = 'Third'\n";
    world.configure("detect.step", steps_of(without));
    detect_at(&world, &["2026-03-02T09:00:00Z", "2026-03-04T08:00:00Z"]);
    assert_eq!(steps(&world), ["reminder sent", "second skipped: cancelled", "last sent"]);
    audit(&world);
}

#[test]
fn steps_that_come_to_a_shop_later_repeat_nothing() {
    let server = Server::start(Plan::accepting());
    let world = World::new().cart(Cart::of("c1")).smtp(&server).now("2026-03-01T09:00:00Z").init();
    detect_at(&world, &["2026-03-01T09:00:00Z"]);
    let world = three_steps(world);
    detect_at(&world, &["2026-03-01T09:30:00Z", "2026-03-02T07:59:00Z"]);
    assert_eq!(steps(&world), ["- sent"]);
    detect_at(&world, &["2026-03-02T08:00:00Z"]);
    assert_eq!(steps(&world), ["- sent", "second sent"]);
    assert_eq!(subjects(&server), ["You left something behind", "Second"]);
    audit(&world);
}

#[test]
fn a_guest_who_logs_in_keeps_the_flow() {
    let server = Server::start(Plan::accepting().nth(Stage::Rcpt, 2, Act::Code(451)));
    let world = shop(&server).now("2026-03-01T09:00:00Z").init();
    detect_at(&world, &["2026-03-01T09:00:00Z", "2026-03-02T08:00:00Z"]);
    world.change("c1", |cart| cart.user("7"));
    detect_at(&world, &["2026-03-02T09:00:00Z", "2026-03-04T08:59:00Z"]);
    assert_eq!(steps(&world), ["reminder sent", "second sent"]);
    detect_at(&world, &["2026-03-04T09:00:00Z"]);
    assert_eq!(steps(&world), ["reminder sent", "second sent", "last sent"]);
    audit(&world);
}

#[test]
fn a_later_cart_of_the_same_shopper_takes_the_place_of_the_steps_to_come() {
    let server = Server::start(Plan::accepting());
    let world = three_steps(World::new().cart(Cart::of("c1").email("a@example.com")).smtp(&server));
    let world = world.now("2026-03-01T09:00:00Z").init();
    detect_at(&world, &["2026-03-01T09:00:00Z"]);
    world.put(Cart::of("c2").email("a@example.com").updated("2026-03-01T10:00:00Z").item("X", "Other", 1, "5.00"));
    detect_at(&world, &["2026-03-01T11:00:00Z", "2026-03-02T08:00:00Z"]);
    assert_eq!(steps(&world), ["reminder sent", "reminder sent", "second skipped: superseded"]);
    detect_at(&world, &["2026-03-02T10:00:00Z", "2026-03-04T08:00:00Z", "2026-03-04T10:00:00Z"]);
    assert_eq!(subjects(&server), ["First", "First", "Second", "Third"]);
    audit(&world);
}

#[test]
fn steps_that_cannot_hold_are_refused_with_both_values() {
    let world = World::new().cart(Cart::of("c1")).init();
    let step = |name: &str, after: &str, more: &str| format!("[[step]]\nname = '{name}'\nafter = '{after}'\n{more}\n");
    for (steps, age, said) in [
        (step("a", "30m", ""), "5d", "shorter than detect.idle"),
        (step("a", "60m", "") + &step("b", "90m", ""), "5d", "less than 1h 0m after"),
        (step("a", "60m", "") + &step("b", "24h", "until = '24h'"), "5d", "is not longer than after"),
        (step("a", "60m", "") + &step("b", "72h", ""), "80h", "less than a day to be tried again"),
        (step("a", "60m", "") + &step("a", "24h", ""), "5d", "another step has it"),
        (step("A b", "60m", ""), "5d", "the name"),
    ] {
        world.configure("detect.max_age", age);
        world.configure("detect.step", steps_of(&steps));
        world.exits(78, ["detect"]).says(said);
    }
}

#[test]
fn dry_run_and_preview_say_which_step_is_next() {
    let server = Server::start(Plan::accepting());
    let world = shop(&server).now("2026-03-01T09:00:00Z").init();
    detect_at(&world, &["2026-03-01T09:00:00Z"]);
    world.ok(["detect", "--dry-run"]).says("waiting for the next step (second, due 2026-03-02T08:00:00Z)");
    world.ok(["preview", "c1"]).says("next for cart c1: second, due 2026-03-02T08:00:00Z").says("Subject: Second");
    world.ok(["preview", "c1", "--step", "last"]).says("Subject: Third");
    world.exits(2, ["preview", "c1", "--step", "lost"]).says("reminder, second, last");
    world.ok(["log"]).says("c1 reminder");
    world.ok(["detect", "--test-to", "me@shop.example", "--step", "last"]);
    assert_eq!(subjects(&server), ["First", "[test] Third"]);
}

#[test]
fn carts_of_little_worth_or_of_excluded_goods_are_left_out() {
    let server = Server::start(Plan::accepting());
    let world = World::new()
        .cart(Cart::of("small").item("A", "Pin", 1, "1.00"))
        .cart(Cart::of("enough").item("A", "Lamp", 1, "20.00"))
        .cart(Cart::of("dollars").currency("USD").item("A", "Pin", 1, "1.00"))
        .cart(Cart::of("gift").item("GIFT-7", "Card", 1, "50.00"))
        .cart(Cart::of("mixed").item("GIFT-7", "Card", 1, "50.00").item("A", "Lamp", 1, "20.00"))
        .cart(Cart::of("large").item("A", "Yacht", 1, "9000.00"))
        .smtp(&server)
        .set("detect.min_value", "EUR = '20.00'".parse::<toml::Table>().unwrap())
        .set("detect.max_value", "EUR = '1000'".parse::<toml::Table>().unwrap())
        .set("detect.exclude_sku", toml::Value::Array(vec!["GIFT-*".into()]))
        .init();
    world
        .ok(["detect", "--dry-run"])
        .says("filtered (€1.00 is less than min_value, €20.00)")
        .says("GIFT-7 is excluded");
    world.ok(["detect"]);
    let mut recipients = server.recipients();
    recipients.sort();
    assert_eq!(recipients, ["dollars@example.com", "enough@example.com", "mixed@example.com"]);
    world.configure("detect.exclude", "any");
    world.exits(0, ["detect", "--dry-run"]).says("left out    cart mixed");
    world.configure("detect.min_value", "EUR = 'much'".parse::<toml::Table>().unwrap());
    world.exits(78, ["detect"]).says("is no amount of a currency");
}

#[test]
fn nothing_leaves_outside_the_send_window_and_what_waited_leaves_spread_when_it_opens() {
    let server = Server::start(Plan::accepting());
    let world = World::new().carts((1..=20).map(|n| Cart::of(&format!("c{n}")).updated("2026-03-01T20:30:00Z")));
    let world = world.smtp(&server).set("send_window.hours", "08:00-21:00").set("send_window.spread", "30m");
    let world = world.set("shop.timezone", "Europe/Berlin").now("2026-03-01T21:30:00Z").init();
    world.ok(["detect", "--dry-run"]).says("19.90 EUR, not before 2026-03-02T07:00:00Z");
    detect_at(&world, &["2026-03-01T21:30:00Z", "2026-03-02T06:59:59Z"]);
    world.has([("planned", 20)]);
    let places = world.number("SELECT count(DISTINCT not_before) FROM message WHERE not_before >= '2026-03-02T07:00:00Z' AND not_before < '2026-03-02T07:30:00Z'");
    assert!(places > 15, "{places} places");
    // Also not when a person wants it now.
    world.set_now("2026-03-02T06:59:59Z");
    world.ok(["detect", "--retry-now"]);
    world.has([("planned", 20)]);
    detect_at(&world, &["2026-03-02T07:30:00Z"]);
    world.has([("sent", 20)]);
}

#[test]
fn campaigns_keep_the_send_window_of_each_recipient_and_their_own_before_the_shops() {
    let server = Server::start(Plan::accepting());
    let definition = crate::support::definition("spring", "at = \"2026-03-02 03:00\"");
    let world = World::with_campaigns(&definition).smtp(&server).set("send_window.hours", "08:00-21:00").init();
    world.audience(
        "audience.csv",
        "email,name,timezone\na@example.com,A,UTC\nb@example.com,B,Asia/Tokyo\nc@example.com,C,nowhere\n\
         d@example.com,D,America/New_York\n",
    );
    world.campaigns_at("2026-03-02T03:00:00Z", 0);
    assert_eq!(server.recipients(), ["b@example.com"]);
    world.campaigns_at("2026-03-02T07:59:59Z", 0);
    assert_eq!(server.recipients().len(), 1);
    world.campaigns_at("2026-03-02T08:00:00Z", 0);
    assert_eq!(server.recipients(), ["a@example.com", "b@example.com", "c@example.com"]);
    // Its own window counts as it is defined now.
    let own = definition + "send_window = { hours = \"00:00-24:00\" }\n";
    world.define(&own);
    world.campaigns_at("2026-03-02T08:01:00Z", 0);
    assert_eq!(server.recipients().len(), 3, "it is looked at again when the old window opens");
    world.set_now("2026-03-02T08:02:00Z");
    world.ok(["run-campaigns", "--retry-now"]);
    assert_eq!(server.recipients().len(), 4);
    world.books_balance();
}

#[test]
fn a_cap_counts_carts_and_campaigns_together_and_what_it_holds_back_waits() {
    let server = Server::start(Plan::accepting());
    let definition = crate::support::definition("spring", "at = \"2026-03-01 12:30\"");
    let world = World::with_campaigns(&definition).smtp(&server);
    let world = world.cart(Cart::of("c1").email("a@example.com")).set("caps.per_person", caps(&["1 in 20h"])).init();
    world.audience("audience.csv", "email,name\na@example.com,A\nb@example.com,B\n");
    detect_at(&world, &["2026-03-01T12:00:00Z"]);
    world.campaigns_at("2026-03-01T12:30:00Z", 0);
    assert_eq!(server.recipients(), ["a@example.com", "b@example.com"]);
    world.campaigns_at("2026-03-02T07:59:59Z", 0);
    assert_eq!(server.recipients().len(), 2);
    world.campaigns_at("2026-03-02T08:00:00Z", 0);
    assert_eq!(server.recipients().len(), 3);
    // And the other way round: a cart after the campaign.
    world.put(Cart::of("c2").email("a@example.com").updated("2026-03-02T09:00:00Z").item("X", "Other", 1, "5.00"));
    detect_at(&world, &["2026-03-02T10:00:00Z", "2026-03-03T03:59:59Z"]);
    assert_eq!(server.recipients().len(), 3);
    detect_at(&world, &["2026-03-03T04:00:00Z"]);
    assert_eq!(server.recipients().len(), 4);
    audit(&world);
    world.books_balance();
}

#[test]
fn what_a_cap_holds_back_until_it_is_too_late_is_capped_and_the_flow_goes_on() {
    let server = Server::start(Plan::accepting());
    let c0 = Cart::of("c0").email("c1@example.com").updated("2026-03-01T07:00:00Z").item("X", "Other", 1, "5.00");
    let world = three_steps(World::new().cart(c0).smtp(&server)).set("caps.per_person", caps(&["2 in 4d", "9 in 90d"]));
    let world = world.now("2026-03-01T08:00:00Z").init();
    detect_at(&world, &["2026-03-01T08:00:00Z"]);
    world.put(Cart::of("c1").updated("2026-03-01T09:00:00Z"));
    detect_at(&world, &["2026-03-01T10:00:00Z"]);
    world.remove("c0");
    detect_at(&world, &["2026-03-02T09:00:00Z"]);
    // Both carts had their first; the second step of c1 would be the third in four days, and its until is 48 hours.
    assert_eq!(steps(&world), ["reminder sent", "reminder sent", "second skipped: capped"]);
    detect_at(&world, &["2026-03-04T09:00:00Z", "2026-03-05T10:00:00Z"]);
    assert_eq!(subjects(&server), ["First", "First", "Third"]);
    audit(&world);
}

#[test]
fn someone_who_has_just_ordered_something_else_is_left_in_peace() {
    let server = Server::start(Plan::accepting());
    let world = World::new().smtp(&server).set("caps.quiet_after_order", "24h").now("2026-03-01T12:00:00Z").init();
    world.put(Cart::of("c1").created("2026-03-01T10:30:00Z").updated("2026-03-01T11:00:00Z"));
    world.order_by("c1@example.com", "2026-03-01T10:00:00Z");
    world.ok(["detect", "--dry-run"]).says("quiet after an order");
    detect_at(&world, &["2026-03-01T12:00:00Z", "2026-03-02T10:00:00Z"]);
    assert_eq!(server.accepted().len(), 0);
    detect_at(&world, &["2026-03-02T10:00:01Z"]);
    assert_eq!(server.recipients(), ["c1@example.com"]);
}

#[test]
fn an_order_that_the_shop_shows_late_leaves_a_planned_message_in_peace_too() {
    let server = Server::start(Plan::accepting().nth(Stage::Rcpt, 1, Act::Code(451)));
    let world = World::new().smtp(&server).set("caps.quiet_after_order", "24h").now("2026-03-01T12:00:00Z").init();
    world.put(Cart::of("c1").created("2026-03-01T10:30:00Z").updated("2026-03-01T11:00:00Z"));
    detect_at(&world, &["2026-03-01T12:00:00Z"]);
    world.order_by("c1@example.com", "2026-03-01T10:00:00Z");
    detect_at(&world, &["2026-03-01T13:00:00Z", "2026-03-02T10:00:00Z"]);
    assert_eq!(server.accepted().len(), 0);
    detect_at(&world, &["2026-03-02T10:00:01Z", "2026-03-02T11:00:01Z"]);
    assert_eq!(server.recipients(), ["c1@example.com"]);
}

#[test]
fn a_cap_or_a_window_that_cannot_hold_is_refused() {
    let world = three_steps(World::new().cart(Cart::of("c1"))).init();
    for (key, value, said) in [
        ("send_window.hours", toml::Value::from("08:00"), "are no two times of day"),
        ("send_window.hours", toml::Value::from("08:00-08:00"), "would open never, or always"),
        ("caps.per_person", caps(&["one a day"]), "is no cap"),
        ("caps.per_person", caps(&["1 in 47h"]), "lets the step \"second\" go"),
    ] {
        let world = three_steps(World::new().cart(Cart::of("c1"))).init();
        world.configure(key, value);
        world.exits(78, ["detect"]).says(said);
    }
    world.configure("send_window.hours", "08:00-21:00");
    world.configure("send_window.days", caps(&[]));
    world.exits(78, ["detect"]).says("it would open never");
}

fn caps(caps: &[&str]) -> toml::Value {
    toml::Value::Array(caps.iter().map(|cap| toml::Value::from(*cap)).collect())
}

/// Two steps, the second with a coupon of the pool `comeback`.
fn with_coupons(world: World, more: &str) -> World {
    let steps = "[[step]]\nname = 'reminder'\nafter = '60m'\nsubject = 'First'\n\
                 [[step]]\nname = 'second'\nafter = '24h'\nsubject = 'Second {{ coupon.code }}'\ncoupon = 'comeback'\n";
    let pool: toml::Table = format!("[[coupon]]\nname = 'comeback'\n{more}").parse().expect("a pool");
    world.set("detect.max_age", "5d").set("detect.step", steps_of(steps)).set("coupon", pool["coupon"].clone())
}

fn import_codes(world: &World, codes: &str) {
    world.write("codes.csv", codes);
    world.ok(["coupon", "import", "comeback", "codes.csv"]);
}

/// Codes that messages have, with the address each.
fn given(world: &World) -> Vec<String> {
    let sql = "SELECT code || ' ' || folded_address AS given FROM coupon_code WHERE message IS NOT NULL ORDER BY code";
    world.rows(sql).into_iter().filter_map(|mut row| row.remove("given").flatten()).collect()
}

#[test]
fn each_message_gets_a_code_of_its_own_the_same_on_every_attempt() {
    let server = Server::start(Plan::accepting());
    let world = World::new().carts(["a1", "a2"].map(Cart::of)).smtp(&server);
    let world = with_coupons(world, "warn_below = 1").now("2026-03-01T09:00:00Z").init();
    world.write("codes.csv", "code,expires_at\nX1,2026-06-01\nx1,\nX0,2026-02-28\nX2,2026-05-01\nX3,\n,\n");
    let imported = world.exits(1, ["coupon", "import", "comeback", "codes.csv"]);
    imported.says("3 codes added").says("1 known already").says("1 ended").says("1 bad row");
    detect_at(&world, &["2026-03-01T09:00:00Z"]);
    drop(server);
    // Deferred behind its dot once: a body was begun with this code, and it stays its own.
    let server = Server::start(Plan::accepting().nth(Stage::Dot, 1, Act::Reply("451 4.3.0 try later")));
    world.send_to(&server);
    world.set_now("2026-03-02T08:30:00Z");
    world.ok(["detect"]);
    let first = given(&world);
    assert_eq!(first.len(), 2, "{first:?}");
    world.set_now("2026-03-02T09:30:00Z");
    world.ok(["detect"]);
    assert_eq!(given(&world), first);
    let mut said = subjects(&server);
    said.sort();
    assert_eq!(said, ["Second X1", "Second X2"]);
    world.ok(["coupon", "list"]).says("comeback");
    assert!(!world.ok(["log"]).output().contains("X1"), "codes are secrets");
    audit(&world);
}

#[test]
fn without_codes_a_step_waits_and_a_person_is_told_before_and_then() {
    let server = Server::start(Plan::accepting());
    let world = World::new().carts(["a1", "a2"].map(Cart::of)).smtp(&server);
    let world = with_coupons(world, "warn_below = 2").now("2026-03-01T09:00:00Z").init();
    import_codes(&world, "code\nA\nB\n");
    detect_at(&world, &["2026-03-01T09:00:00Z"]);
    world.put(Cart::of("a3"));
    world.set_now("2026-03-01T10:00:00Z");
    world.ok(["detect"]);
    world.set_now("2026-03-02T08:00:00Z");
    let told = world.run(["detect"]);
    told.says("no coupon code left");
    assert_eq!(subjects(&server).iter().filter(|subject| subject.starts_with("Second")).count(), 2);
    import_codes(&world, "code\nC\n");
    world.set_now("2026-03-02T09:10:00Z");
    world.run(["detect"]);
    assert!(subjects(&server).contains(&"Second C".to_owned()), "{:?}", subjects(&server));
    audit(&world);
}

#[test]
fn a_trial_and_each_line_of_a_run_leave_out_whom_the_pool_has_no_code_for() {
    let server = Server::start(Plan::accepting());
    let world = World::new().carts(["a1", "a2", "a3"].map(Cart::of)).smtp(&server);
    let world = with_coupons(world, "warn_below = 0").now("2026-03-01T09:00:00Z").init();
    world.ok(["coupon", "list"]).says("comeback: no codes; next: `mailonce coupon import comeback FILE`");
    import_codes(&world, "code\nA\n");
    detect_at(&world, &["2026-03-01T09:00:00Z"]);
    world.set_now("2026-03-02T08:00:00Z");
    let trial = world.ok(["detect", "--dry-run", "--json"]).json();
    let carts = |key: &str| -> Vec<String> {
        let listed = trial[key].as_array().unwrap().iter();
        listed.map(|cart| cart["cart_id"].as_str().unwrap().to_owned()).collect()
    };
    let (sent, left_out) = (carts("would_send"), carts("left_out"));
    assert_eq!((sent.len(), left_out.len()), (1, 2), "{trial}");
    assert_eq!(trial["left_out"][0]["reason"], "no coupon code left");
    world.ok(["detect", "--dry-run"]).says("3 carts: would send 1, left out 2, bad rows 0");
    let run = world.run(["detect", "-v"]);
    let decisions = |word: &str| run.output().lines().filter(|line| line.starts_with(word)).count();
    assert_eq!((decisions("Planning"), decisions("Skipping")), (1, 2), "{run}");
    run.says(&format!("second (cart {})", sent[0])).says("3 carts looked at");
    for cart in left_out {
        run.says(&format!("- no coupon code left (cart {cart})"));
    }
    assert_eq!(given(&world), [format!("A {}@example.com", sent[0])]);
    world.ok(["preview", &sent[0]]).says(&format!("no step comes next for cart {}: this is the first", sent[0]));
    audit(&world);
}

#[test]
fn a_code_is_free_again_when_its_message_was_never_begun_and_burnt_when_it_was() {
    let server = Server::start(Plan::accepting().nth(Stage::Rcpt, 2, Act::Code(451)));
    let world = with_coupons(World::new().cart(Cart::of("a1")).smtp(&server), "warn_below = 0");
    let world = world.now("2026-03-01T09:00:00Z").init();
    import_codes(&world, "code\nA\nB\n");
    detect_at(&world, &["2026-03-01T09:00:00Z", "2026-03-02T08:00:00Z"]);
    assert_eq!(given(&world), ["A a1@example.com"]);
    world.order("a1", "2026-03-02T08:10:00Z");
    detect_at(&world, &["2026-03-02T09:00:00Z"]);
    assert_eq!(steps(&world), ["reminder sent", "second skipped: ordered"]);
    assert_eq!(given(&world), [""; 0]);
}

#[test]
fn a_campaign_opens_only_when_there_is_a_code_for_each() {
    let server = Server::start(Plan::accepting());
    let definition = crate::support::definition("spring", "at = \"2026-03-01 12:30\"") + "coupon = \"comeback\"\n";
    let world = with_coupons(World::with_campaigns(&definition).smtp(&server), "warn_below = 0").init();
    world.write("letter.html", "<p>{{ coupon.code }} for {{ name }}</p>");
    world.audience("audience.csv", "email,name\na@example.com,A\nb@example.com,B\n");
    import_codes(&world, "code\nA\n");
    world.campaigns_at("2026-03-01T12:30:00Z", 1).says("fewer coupon codes");
    assert_eq!(server.accepted().len(), 0);
    import_codes(&world, "code\nB\n");
    world.campaigns_at("2026-03-01T12:40:00Z", 0);
    assert_eq!(server.recipients(), ["a@example.com", "b@example.com"]);
    assert_eq!(given(&world), ["A a@example.com", "B b@example.com"]);
    world.books_balance();
    audit(&world);
}

#[test]
fn variants_are_chosen_by_the_address_and_fixed_when_they_are_planned() {
    let server = Server::start(Plan::accepting());
    let steps = "[[step]]\nname = 'reminder'\nafter = '60m'\n\
                 [[step.variant]]\nname = 'short'\nsubject = 'Short'\n[[step.variant]]\nname = 'long'\nsubject = 'Long'\n";
    let world = World::new().carts((1..=30).map(|n| Cart::of(&format!("c{n}")))).smtp(&server);
    let world = world.set("detect.max_age", "5d").set("detect.step", steps_of(steps)).init();
    world.ok(["detect"]);
    let short = subjects(&server).iter().filter(|subject| *subject == "Short").count();
    assert!((5..26).contains(&short), "{short} of 30");
    assert_eq!(world.number("SELECT count(*) FROM message WHERE variant = 'short'"), short as i64);
}

#[test]
fn the_language_is_that_of_the_shopper_when_it_was_planned() {
    let server = Server::start(Plan::accepting().nth(Stage::Rcpt, 1, Act::Code(451)));
    let steps = "[[step]]\nname = 'reminder'\nafter = '60m'\nsubject = { en = 'Hello', de = 'Hallo' }\n";
    let world = World::new().source(crate::support::Kind::JsonLines).smtp(&server);
    let world = world.set("detect.max_age", "5d").set("detect.step", steps_of(steps)).init();
    let line = |locale: &str| {
        format!(
            "{{\"cart_id\":\"c1\",\"user_id\":null,\"email\":\"c1@example.com\",\"currency\":\"EUR\",\"locale\":\"{locale}\",\
             \"updated_at\":\"2026-03-01T08:00:00Z\",\"recovery_url\":null,\"consent\":true,\"items\":[{{\"sku\":\"A\",\
             \"name\":\"Lampe\",\"quantity\":1,\"unit_price\":\"19.90\"}}]}}\n"
        )
    };
    world.write("carts.jsonl", &line("de-AT"));
    world.ok(["detect"]);
    assert_eq!(server.accepted().len(), 0);
    world.write("carts.jsonl", &line("en"));
    world.set_now("2026-03-01T12:10:00Z");
    world.ok(["detect"]);
    assert_eq!(subjects(&server), ["Hallo"]);
}

#[test]
fn a_shopper_has_a_zone_and_goods_have_a_category_where_the_shop_says() {
    let server = Server::start(Plan::accepting());
    let world = World::new().source(crate::support::Kind::Csv).smtp(&server).set("send_window.hours", "08:00-21:00");
    let world = world.set("detect.exclude_category", caps(&["gift*"])).now("2026-03-01T22:00:00Z").init();
    let row = |id: &str, zone: &str, category: &str| {
        format!("{id},,{id}@example.com,EUR,2026-03-01T20:00:00Z,,true,{zone},A,Lamp,1,19.90,{category}\n")
    };
    let head = "cart_id,user_id,email,currency,updated_at,recovery_url,consent,timezone,sku,item_name,quantity,unit_price,category\n";
    let rows = [
        row("here", "", ""),
        row("west", "America/New_York", ""),
        row("odd", "Nowhere/Land", ""),
        row("gift", "America/New_York", "gift cards"),
    ];
    world.write("carts.csv", &(head.to_owned() + &rows.concat()));
    world.exits(1, ["detect"]).says("no IANA zone").says("go by the shop's clock");
    assert_eq!(server.recipients(), ["west@example.com"]);
    world.has([("planned", 2), ("sent", 1)]);
}

#[test]
fn doctor_tells_of_a_pool_that_is_low_and_of_a_campaign_that_uses_up_a_cap() {
    let server = Server::start(Plan::accepting());
    let definition = crate::support::definition("daily", "every = \"day\"\ntime = \"09:00\"");
    let world = World::with_campaigns(&definition).smtp(&server).set("caps.per_person", caps(&["3 in 3d", "9 in 7d"]));
    let world = with_coupons(world, "warn_below = 2").init();
    world.audience("audience.csv", "email,name\na@example.com,A\n");
    import_codes(&world, "code\nA\n");
    let said = world.run(["doctor"]);
    said.says("comeback: 1 code can be given now").says("campaign daily opens 3 times within 3d 0h");
    assert!(!said.output().contains("within 7d 0h"), "{}", said.output());
    import_codes(&world, "code\nB\nC\n");
    world.run(["doctor"]).says("ok    coupons        comeback: 3 codes can be given now");
}

#[test]
fn of_two_carts_with_the_same_contents_the_one_touched_last_stands_for_both() {
    let server = Server::start(Plan::accepting());
    let older = Cart::of("c1").email("a@example.com").updated("2026-03-01T08:00:00Z");
    let world = three_steps(World::new().cart(older).smtp(&server)).now("2026-03-03T20:00:00Z").init();
    world.put(Cart::of("c2").email("a@example.com").updated("2026-03-03T18:00:00Z"));
    // By the older one's clock, the second step would be too late by now.
    detect_at(&world, &["2026-03-03T20:00:00Z", "2026-03-04T10:00:00Z", "2026-03-04T19:00:00Z"]);
    assert_eq!(steps(&world), ["reminder sent", "second sent"]);
    audit(&world);
}

#[test]
fn a_cart_that_was_touched_again_after_its_message_takes_the_place_of_another() {
    let server = Server::start(Plan::accepting());
    let a = Cart::of("a").email("a@example.com").updated("2026-03-01T08:00:00Z");
    let world = three_steps(World::new().cart(a).smtp(&server)).now("2026-03-01T09:00:00Z").init();
    detect_at(&world, &["2026-03-01T09:00:00Z"]);
    world.put(Cart::of("b").email("a@example.com").updated("2026-03-01T10:00:00Z").item("X", "Other", 1, "5.00"));
    detect_at(&world, &["2026-03-01T11:00:00Z"]);
    // Both have got their first; then a is touched, and b after it.
    world.touch("a", "2026-03-01T12:00:00Z");
    world.touch("b", "2026-03-01T13:00:00Z");
    detect_at(&world, &["2026-03-02T12:00:00Z", "2026-03-02T13:00:00Z"]);
    assert_eq!(steps(&world), ["reminder sent", "reminder sent", "second skipped: superseded", "second sent"]);
    audit(&world);
}

#[test]
fn a_later_touch_between_planning_and_the_window_counts_for_the_next_step_too() {
    let server = Server::start(Plan::accepting());
    let world = shop(&server).set("send_window.hours", "08:00-21:00").now("2026-03-01T21:30:00Z").init();
    world.touch("c1", "2026-03-01T20:30:00Z");
    detect_at(&world, &["2026-03-01T21:30:00Z"]);
    assert_eq!(steps(&world), ["reminder planned"]);
    world.touch("c1", "2026-03-02T07:50:00Z");
    detect_at(&world, &["2026-03-02T08:00:00Z"]);
    assert_eq!(steps(&world), ["reminder planned"], "it is an hour after the last touch");
    detect_at(&world, &["2026-03-02T08:50:00Z", "2026-03-03T07:55:00Z"]);
    assert_eq!(steps(&world), ["reminder sent", "second planned"], "due since 07:50, and it opens at 08:00");
    detect_at(&world, &["2026-03-03T08:00:00Z"]);
    assert_eq!(steps(&world), ["reminder sent", "second sent"]);
    audit(&world);
}
