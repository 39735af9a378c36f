//! `detect`: who is written to, when, and who never.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::support::smtp::On;
use crate::support::{Act, Cart, Kind, Plan, Ran, Server, Spelling, Stage, World};

const LATER: &str = "451 4.3.0 try later";
const NO: &str = "550 5.7.1 not wanted here";

fn accepting() -> Server {
    Server::start(Plan::accepting())
}

/// `detect` at an instant; the exit code must be this one.
#[track_caller]
fn detect_at(world: &World, at: &str, code: i32) -> Ran {
    world.set_now(at);
    world.exits(code, ["detect"])
}

/// A world whose one cart, `c1`, has a planned message: the server said 451 to its recipient at 12:00.
fn deferred(cart: Cart) -> World {
    let server = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply(LATER)));
    let world = World::new().smtp(&server).cart(cart).init();
    world.ok(["detect"]);
    world.has([("planned", 1)]);
    world
}

fn five_carts() -> impl Iterator<Item = Cart> {
    (1..=5).map(|n| Cart::of(&format!("c{n}")))
}

/// How often each recipient was written to.
fn copies(server: &Server) -> BTreeMap<String, usize> {
    let mut copies = BTreeMap::new();
    for recipient in server.recipients() {
        *copies.entry(recipient).or_default() += 1;
    }
    copies
}

mod due {
    use super::*;

    #[test]
    fn an_abandoned_cart_gets_one_message_and_its_rows() {
        let server = accepting();
        let cart = Cart::of("c1").user("u1").email("Ada@Example.com").item("A-1", "Lamp", 2, "19.90");
        let world = World::new().smtp(&server).cart(cart).init();
        world.ok(["detect"]);
        world.has([("sent", 1)]);
        let accepted = server.accepted();
        assert_eq!(accepted.len(), 1);
        assert_eq!(accepted[0].to, ["Ada@example.com"], "the envelope keeps the spelling of the local part");
        assert_eq!(accepted[0].from, "hello@shop.example");
        let message = world.message();
        assert_eq!(message.message_id.as_deref(), Some(accepted[0].message_id.as_str()));
        assert_eq!(message.armed_at.as_deref(), Some("2026-03-01T12:00:00Z"));
        assert_eq!(message.settled_at.as_deref(), Some("2026-03-01T12:00:00Z"));
        assert_eq!(message.expires_at.as_deref(), Some("2026-03-04T08:00:00Z"), "72 h after the cart was touched");
        let [episode] = &world.episodes()[..] else { panic!("one episode was expected") };
        assert_eq!(episode.identity, "u:u1");
        assert_eq!(episode.user_id.as_deref(), Some("u1"));
        assert_eq!(episode.cart_id.as_deref(), Some("c1"));
        assert_eq!((episode.cart_value.as_deref(), episode.currency.as_deref()), (Some("39.80"), Some("EUR")));
        assert!(episode.cart_hash.starts_with("v1:") && episode.cart_hash.len() == 3 + 64);
        assert!(episode.email_sent);
        assert_eq!(episode.last_sent_at.as_deref(), Some("2026-03-01T12:00:00Z"));
        assert_eq!(message.message_key, format!("cart/u:u1/{}/{}", episode.cart_hash, episode.created_at));
        assert_eq!(episode.message_key, Some(message.message_key));
        assert_eq!(server.violations(), [""; 0]);
        let index = "SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND name = 'idx_user_cart_unique'";
        assert_eq!(world.number(index), 1);
    }

    #[test]
    fn a_cart_is_due_from_60_minutes_up_to_72_hours_after_it_was_touched() {
        let server = accepting();
        let carts = [
            Cart::of("minutes-59").updated("2026-03-01T11:01:00Z"),
            Cart::of("minutes-60").updated("2026-03-01T11:00:00Z"),
            Cart::of("just-under-72h").updated("2026-02-26T12:00:01Z"),
            Cart::of("hours-72").updated("2026-02-26T12:00:00Z"),
            Cart::of("future").updated("2026-03-01T12:30:00Z"),
        ];
        let world = World::new().smtp(&server).carts(carts).init();
        world.ok(["detect"]);
        assert_eq!(server.recipients(), ["just-under-72h@example.com", "minutes-60@example.com"]);
        detect_at(&world, "2026-03-01T12:01:00Z", 0);
        assert!(server.recipients().contains(&"minutes-59@example.com".into()));
    }

    #[test]
    fn every_kind_of_shop_and_every_spelling_of_time_gives_the_same_messages() {
        for kind in Kind::all() {
            for spelling in [Spelling::Zulu, Spelling::Space] {
                let server = accepting();
                let carts = [
                    Cart::of("due")
                        .updated("2026-03-01T11:00:00Z")
                        .item("A", "Lamp", 1, "5")
                        .item("B", "Bulb", 2, "1.5"),
                    Cart::of("fresh").updated("2026-03-01T11:00:01Z"),
                    Cart::of("ordered").ordered("2026-03-01T09:00:00Z"),
                    Cart::of("refusing").consent(false),
                    Cart::of("silent").consent(None),
                    Cart::of("nowhere").without_email(),
                    Cart::of("emptied").empty(),
                ];
                let world = World::new().source(kind).spelling(spelling).smtp(&server).carts(carts).init();
                world.exits(1, ["detect"]).says(": no address; row skipped");
                detect_at(&world, "2026-03-01T12:00:00Z", 0).is_silent();
                assert_eq!(server.recipients(), ["due@example.com"], "{kind:?} {spelling:?}");
                assert_eq!(world.episodes()[0].cart_value.as_deref(), Some("8.00"), "{kind:?}");
            }
        }
    }

    #[test]
    fn consent_may_be_assumed_where_it_is_absent_but_not_where_it_is_refused() {
        let server = accepting();
        let carts = [Cart::of("yes"), Cart::of("no").consent(false), Cart::of("absent").consent(None)];
        let world = World::new().smtp(&server).set("detect.consent", "assumed").carts(carts).init();
        world.ok(["detect"]);
        assert_eq!(server.recipients(), ["absent@example.com", "yes@example.com"]);
    }

    #[test]
    fn without_since_carts_touched_before_the_ledger_was_born_are_left_alone() {
        let server = accepting();
        let world = World::new().smtp(&server).unset("detect.since");
        let world = world.cart(Cart::of("old").updated("2026-03-01T11:59:59Z")).init();
        world.put(Cart::of("new").updated("2026-03-01T12:05:00Z"));
        detect_at(&world, "2026-03-01T13:30:00Z", 0);
        assert_eq!(server.recipients(), ["new@example.com"]);
    }

    #[test]
    fn a_run_with_nothing_to_do_is_silent_and_does_not_fill_the_ledger() {
        let server = accepting();
        let world = World::new().smtp(&server).init();
        for minute in 10..20 {
            detect_at(&world, &format!("2026-03-01T12:{minute}:00Z"), 0).is_silent();
        }
        assert_eq!(server.connections(), 0);
        assert!(world.number("SELECT count(*) FROM run") <= 3, "idle runs are kept as a count");
    }

    #[test]
    fn messages_can_be_written_to_files_instead() {
        let world = World::new().carts([Cart::of("c1"), Cart::of("c2")]).init();
        world.ok(["detect"]);
        detect_at(&world, "2026-03-01T12:01:00Z", 0);
        world.has([("sent", 2)]);
        let files = world.outbox();
        assert_eq!(files.len(), 2);
        for (name, bytes) in files {
            let token = name.trim_end_matches(".eml");
            let message_id = crate::support::smtp::header(&bytes, "Message-ID").unwrap();
            assert!(message_id.contains(token), "{name}: {message_id}");
        }
    }
}

mod once {
    use super::*;

    #[test]
    fn the_same_cart_twice_in_one_run_and_in_later_runs_is_one_message() {
        let server = accepting();
        let twin = |id: &str, sku: [&str; 2], price: &str| {
            Cart::of(id).user("u1").email("ada@example.com").item(sku[0], "x", 1, price).item(sku[1], "y", 1, price)
        };
        let carts = [twin("c1", ["A", "B"], "1.00"), twin("c2", ["B", "A"], "2.00")];
        let world = World::new().smtp(&server).carts(carts).init();
        world.ok(["detect"]);
        for minute in 1..5 {
            detect_at(&world, &format!("2026-03-01T12:0{minute}:00Z"), 0);
        }
        world.touch("c1", "2026-03-01T12:10:00Z");
        detect_at(&world, "2026-03-01T14:00:00Z", 0);
        assert_eq!(server.accepted().len(), 1, "neither order nor price makes another cart");
        world.set_now("2026-03-01T14:01:00Z");
        world.ok(["detect", "-v"]).says("- email already sent");
    }

    #[test]
    fn a_user_and_a_guest_with_one_address_and_the_same_contents_are_one() {
        let server = accepting();
        let world = World::new().smtp(&server).init();
        world.put(Cart::of("c1").user("u1").email("Ada@Example.com"));
        world.ok(["detect"]);
        world.put(Cart::of("c2").email("ada@example.COM").updated("2026-03-01T08:30:00Z"));
        detect_at(&world, "2026-03-01T12:05:00Z", 0);
        assert_eq!(server.accepted().len(), 1);
    }

    #[test]
    fn other_contents_of_the_same_user_are_a_new_message() {
        let server = accepting();
        let world = World::new().smtp(&server).cart(Cart::of("c1").user("u1").item("A", "x", 1, "1")).init();
        world.ok(["detect"]);
        world.put(Cart::of("c1").user("u1").item("A", "x", 2, "1").updated("2026-03-01T12:10:00Z"));
        detect_at(&world, "2026-03-01T13:10:00Z", 0);
        world.has([("sent", 2)]);
        let hashes: Vec<String> = world.episodes().into_iter().map(|episode| episode.cart_hash).collect();
        assert_ne!(hashes[0], hashes[1], "the quantity belongs to what was chosen");
    }

    #[test]
    fn each_decision_is_a_line_with_v() {
        let server = Server::start(Plan::accepting().nth(Stage::Rcpt, 2, Act::Reply(LATER)));
        let world = World::new().smtp(&server).cart(Cart::of("c1").user("u1")).init();
        let ran = world.ok(["detect", "-v"]);
        let short = world.episodes()[0].cart_hash[3..11].to_owned();
        ran.says("started, lock held").says(&format!("Marked cart u1_{short} as processed"));
        world.set_now("2026-03-01T12:01:00Z");
        world.ok(["detect", "-v"]).says(&format!("Skipping cart {short}... - email already sent"));
        world.put(Cart::of("c2").user("u2").item("B", "x", 1, "1"));
        world.ok(["detect", "-v"]);
        world.has([("planned", 1), ("sent", 1)]);
        let short = world.episodes()[1].cart_hash[3..11].to_owned();
        let ran = world.ok(["detect", "-v"]);
        ran.says(&format!("Skipping cart {short}... - processing already in progress"));
    }

    #[test]
    fn one_in_doubt_blocks_for_as_long_as_it_is_in_doubt() {
        let server = Server::start(Plan::accepting().nth(Stage::Taken, 1, Act::Close));
        let world = World::new().smtp(&server).set("detect.max_age", "200h").cart(Cart::of("c1")).init();
        detect_at(&world, "2026-03-01T12:00:00Z", 1);
        world.has([("in_doubt", 1)]);
        assert!(!world.episodes()[0].email_sent, "it is 1 only for sent");
        world.set_now("2026-03-01T12:01:00Z");
        world.ok(["detect", "-v"]).says("in doubt");
        for at in ["2026-03-02T12:30:00Z", "2026-03-04T12:30:00Z"] {
            detect_at(&world, at, 0);
        }
        world.has([("in_doubt", 1)]);
        assert_eq!(server.final_dots(), 1);
    }

    #[test]
    fn after_24_hours_the_same_cart_is_a_new_abandonment_at_most_three_times_over_all_contents() {
        let server = accepting();
        let cart = |sku| Cart::of("c1").user("u1").item(sku, "x", 1, "1");
        let world = World::new().smtp(&server).set("detect.max_age", "500h").cart(cart("A")).init();
        detect_at(&world, "2026-03-01T12:00:00Z", 0);
        detect_at(&world, "2026-03-02T11:59:59Z", 0);
        assert_eq!(server.accepted().len(), 1, "one second before the window ends");
        detect_at(&world, "2026-03-02T12:00:01Z", 0);
        assert_eq!(server.accepted().len(), 2);
        world.put(cart("B").updated("2026-03-03T08:00:00Z"));
        detect_at(&world, "2026-03-03T12:01:00Z", 0);
        assert_eq!(server.accepted().len(), 3, "other contents");
        detect_at(&world, "2026-03-04T12:30:00Z", 0);
        world.put(cart("C").updated("2026-03-05T08:00:00Z"));
        detect_at(&world, "2026-03-05T12:30:00Z", 0);
        assert_eq!(server.accepted().len(), 3, "max_per_cart is over all contents");
    }

    #[test]
    fn of_several_carts_for_one_address_the_newest_wins_until_another_is_touched() {
        let server = accepting();
        let cart = |id, sku, at| Cart::of(id).email("ada@example.com").item(sku, sku, 1, "1").updated(at);
        let carts = [
            cart("c1", "Anvil", "2026-03-01T08:00:00Z"),
            cart("c2", "Balloon", "2026-03-01T10:00:00Z"),
            cart("c3", "Candle", "2026-03-01T09:00:00Z"),
        ];
        let world = World::new().smtp(&server).carts(carts).init();
        world.ok(["detect"]);
        detect_at(&world, "2026-03-01T12:05:00Z", 0);
        let accepted = server.accepted();
        assert_eq!(accepted.len(), 1);
        assert_eq!(world.messages_of("c2")[0].state, "sent");
        world.touch("c1", "2026-03-01T12:30:00Z");
        detect_at(&world, "2026-03-01T13:30:00Z", 0);
        assert_eq!(server.accepted().len(), 2);
        assert_eq!(world.messages_of("c1").last().unwrap().state, "sent");
        assert!(world.messages_of("c3").iter().all(|message| message.state == "skipped"));
    }

    #[test]
    fn a_planned_message_is_superseded_by_a_newer_cart_of_the_same_address() {
        let world = deferred(Cart::of("c1").email("ada@example.com").item("A", "x", 1, "1"));
        let server = accepting();
        world.send_to(&server);
        world.put(Cart::of("c2").email("ada@example.com").item("B", "y", 1, "1").updated("2026-03-01T09:00:00Z"));
        detect_at(&world, "2026-03-01T12:05:00Z", 0);
        assert_eq!(world.messages_of("c1")[0].reason.as_deref(), Some("superseded"));
        assert_eq!(world.messages_of("c2")[0].state, "sent");
        detect_at(&world, "2026-03-01T12:10:00Z", 0);
        assert_eq!(server.accepted().len(), 1);
    }

    #[test]
    fn a_cart_waits_while_its_shopper_is_at_another_and_the_later_one_is_written_to() {
        let server = accepting();
        let other = |id: &str| Cart::of(id).email("Ada@Example.com").item("B", "y", 1, "1");
        let world = World::new().smtp(&server).cart(Cart::of("a").email("ada@example.com")).init();
        world.put(other("b").updated("2026-03-01T11:40:00Z"));
        world.ok(["-v", "detect"]).says("busy with another cart");
        assert_eq!(world.messages(), [], "it waits, and nothing is decided for good");
        detect_at(&world, "2026-03-01T12:40:00Z", 0);
        assert_eq!(world.messages_of("b")[0].state, "sent");
        assert_eq!(world.messages_of("a")[0].reason.as_deref(), Some("superseded"));
        detect_at(&world, "2026-03-01T14:00:00Z", 0);
        assert_eq!(server.accepted().len(), 1);
        // What a shopper would get no mail about holds no other cart up; one that was bought in between ends the wait.
        for (nothing, sent) in [
            (other("b").updated("2026-03-01T11:40:00Z").consent(false), 1),
            (other("b").updated("2026-03-01T11:40:00Z").empty(), 1),
            (other("b").updated("2026-03-01T11:40:00Z").email("eve@example.com"), 1),
            (other("b").updated("2026-03-01T11:40:00Z").email("eve@example.com").user("u1"), 0),
            (other("b").updated("2026-03-02T13:00:00Z"), 1),
        ] {
            let server = accepting();
            let world = World::new().smtp(&server).cart(Cart::of("a").email("ada@example.com").user("u1")).init();
            world.put(nothing.clone());
            world.ok(["detect"]);
            assert_eq!(server.accepted().len(), sent, "{nothing:?}");
        }
    }

    #[test]
    fn a_planned_message_waits_while_its_shopper_is_at_another_cart() {
        let world = deferred(Cart::of("a").email("ada@example.com").user("u1"));
        let server = accepting();
        world.send_to(&server);
        world.put(
            Cart::of("b").user("u1").email("eve@example.com").item("B", "y", 1, "1").updated("2026-03-01T12:01:00Z"),
        );
        detect_at(&world, "2026-03-01T12:05:00Z", 0);
        world.has([("planned", 1)]);
        world.remove("b");
        detect_at(&world, "2026-03-01T12:10:00Z", 0);
        assert_eq!(server.recipients(), ["ada@example.com"], "it was not bought, and is gone");
    }

    #[test]
    fn what_is_bad_in_a_cart_is_told_once_it_is_idle() {
        let server = accepting();
        for kind in Kind::all() {
            let typing = Cart::of("c1").email("ada@").updated("2026-03-01T11:30:00Z");
            let world = World::new().source(kind).smtp(&server).cart(typing).init();
            world.ok(["detect"]).is_silent();
            detect_at(&world, "2026-03-01T12:30:00Z", 1).says("row skipped");
        }
    }

    #[test]
    fn eight_runs_at_once_send_each_message_once() {
        let server = accepting();
        let carts = (0..20).map(|n| Cart::of(&format!("c{n}")));
        let world = World::new().smtp(&server).carts(carts).init();
        let runs: Vec<_> = (0..8).map(|_| world.spawn(["detect", "--wait", "60s"])).collect();
        for run in runs {
            world.check(run.wait(), 0);
        }
        world.has([("sent", 20)]);
        let copies = copies(&server);
        assert_eq!(copies.len(), 20);
        assert!(copies.values().all(|&n| n == 1), "{copies:?}");
    }
}

mod later {
    use super::*;

    #[test]
    fn a_deferral_is_tried_again_after_2_4_8_minutes_up_to_an_hour_and_expires() {
        let server = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply(LATER)));
        let world = World::new().smtp(&server).cart(Cart::of("c1")).init();
        let not_before = || world.message().not_before.unwrap();
        let mut tries = 0;
        let mut now = "2026-03-01T12:00:00Z".to_owned();
        for next in ["12:02", "12:06", "12:14", "12:30", "13:02", "14:02", "15:02"] {
            // Nothing but deferrals for an hour: a person is told, once.
            detect_at(&world, &now, i32::from(now == "2026-03-01T13:02:00Z"));
            tries += 1;
            assert_eq!(server.reached(Stage::Rcpt), tries);
            let next = format!("2026-03-01T{next}:00Z");
            assert_eq!(not_before(), next);
            let just_before = format!("{}{:02}:59Z", &next[..14], next[14..16].parse::<u32>().unwrap() - 1);
            detect_at(&world, &just_before, 0);
            assert_eq!(server.reached(Stage::Rcpt), tries, "tried before {next}");
            now = next;
        }
        assert_eq!(world.attempts().len(), 7);
        detect_at(&world, "2026-03-04T08:00:00Z", 1);
        let message = world.message();
        assert_eq!((message.state.as_str(), message.reason.as_deref()), ("skipped", Some("expired")));
        assert_eq!(server.reached(Stage::Rcpt), tries, "an expired message is not tried");
    }

    #[test]
    fn a_deferral_at_any_judging_stage_is_sent_later_under_the_same_message_id() {
        for stage in [Stage::Rcpt, Stage::Data, Stage::Dot] {
            let server = Server::start(Plan::accepting().nth(stage, 1, Act::Reply(LATER)));
            let world = World::new().smtp(&server).cart(Cart::of("c1")).init();
            detect_at(&world, "2026-03-01T12:00:00Z", 0);
            world.has([("planned", 1)]);
            let message_id = world.message().message_id;
            detect_at(&world, "2026-03-01T12:01:59Z", 0);
            assert_eq!(server.accepted().len(), 0, "{stage:?}");
            detect_at(&world, "2026-03-01T12:02:00Z", 0);
            world.has([("sent", 1)]);
            assert_eq!(server.accepted().len(), 1, "{stage:?}");
            assert_eq!(message_id.as_deref(), Some(server.accepted()[0].message_id.as_str()));
        }
    }

    #[test]
    fn a_refusal_is_listed_and_blocks_for_24_hours() {
        for stage in [Stage::Rcpt, Stage::Data, Stage::Dot] {
            let server = Server::start(Plan::accepting().nth(stage, 1, Act::Reply(NO)));
            let world = World::new().smtp(&server).cart(Cart::of("c1")).init();
            detect_at(&world, "2026-03-01T12:00:00Z", 0);
            world.has([("refused", 1)]);
            detect_at(&world, "2026-03-02T11:59:00Z", 0);
            assert_eq!(server.accepted().len(), 0, "{stage:?}");
            detect_at(&world, "2026-03-02T12:01:00Z", 0);
            world.has([("refused", 1), ("sent", 1)]);
        }
    }

    #[test]
    fn a_slow_domain_does_not_hold_the_others_up() {
        let plan = Plan::accepting().for_recipient("@slow.example", Stage::Rcpt, Act::Reply(LATER));
        let server = Server::start(plan);
        let carts =
            five_carts().chain((1..=3).map(|n| Cart::of(&format!("s{n}")).email(&format!("s{n}@slow.example"))));
        let world = World::new().smtp(&server).carts(carts).init();
        world.ok(["detect"]);
        world.has([("planned", 3), ("sent", 5)]);
    }

    #[test]
    fn a_server_that_cannot_be_used_judges_no_message() {
        let faults = [
            (Stage::Connect, Act::Close),
            (Stage::Connect, Act::Reset),
            (Stage::Banner, Act::Code(554)),
            (Stage::Banner, Act::Code(421)),
            (Stage::Banner, Act::Garbage),
            (Stage::Ehlo, Act::Code(550)),
            (Stage::Ehlo, Act::Reset),
            (Stage::Mail, Act::Code(451)),
            (Stage::Mail, Act::Code(550)),
            (Stage::Mail, Act::Code(421)),
            (Stage::Mail, Act::Close),
        ];
        // Once it is told the recipient, the end may be about that one: it steps back further each time.
        let at_the_recipient = [
            (Stage::Rcpt, Act::Code(421)),
            (Stage::Rcpt, Act::Reset),
            (Stage::Data, Act::Code(421)),
            (Stage::Data, Act::Close),
        ];
        let doubled = at_the_recipient.map(|(stage, act)| (stage, act, "2026-03-01T12:06:00Z"));
        for (stage, act, then) in
            faults.map(|(stage, act)| (stage, act, "2026-03-01T12:04:00Z")).into_iter().chain(doubled)
        {
            let broken = Server::start(Plan::accepting().at(stage, act));
            let world = World::new().smtp(&broken).cart(Cart::of("c1")).init();
            detect_at(&world, "2026-03-01T12:00:00Z", 1);
            let message = world.message();
            assert_eq!(message.state, "planned", "{stage:?} {act:?}");
            assert_eq!(message.not_before.as_deref(), Some("2026-03-01T12:02:00Z"), "{stage:?} {act:?}");
            assert_eq!(broken.final_dots(), 0);
            detect_at(&world, "2026-03-01T12:02:00Z", 1);
            assert_eq!(world.message().not_before.as_deref(), Some(then), "{stage:?} {act:?}");
            let server = accepting();
            world.send_to(&server);
            detect_at(&world, then, 0);
            assert_eq!(server.accepted().len(), 1, "{stage:?} {act:?}");
        }
    }

    #[test]
    fn nobody_listening_is_a_line_for_a_person_and_nothing_is_lost() {
        let server = accepting();
        let world = World::new().smtp(&server).carts(five_carts()).init();
        drop(server);
        let ran = world.exits(1, ["detect"]);
        assert!(ran.stderr.contains("127.0.0.1"), "the server is named:\n{ran}");
        world.has([("planned", 5)]);
        let server = accepting();
        world.send_to(&server);
        detect_at(&world, "2026-03-01T12:02:00Z", 0);
        world.has([("sent", 5)]);
    }

    #[test]
    fn ten_equal_refusals_in_a_row_stop_the_run() {
        let server = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply(NO)));
        let carts = (0..14).map(|n| Cart::of(&format!("c{n}")));
        let world = World::new().smtp(&server).carts(carts).init();
        world.exits(1, ["detect"]);
        // Refused by mistake: they are planned again, all of them.
        world.has([("planned", 14)]);
        assert_eq!(server.reached(Stage::Rcpt), 10);
    }

    #[test]
    fn refusals_with_an_acceptance_between_do_not_stop_the_run() {
        let plan = Plan::accepting().nth(Stage::Rcpt, 8, Act::Accept).at(Stage::Rcpt, Act::Reply(NO));
        let server = Server::start(plan);
        let carts = (0..14).map(|n| Cart::of(&format!("c{n}")));
        let world = World::new().smtp(&server).carts(carts).init();
        world.ok(["detect"]);
        world.has([("refused", 13), ("sent", 1)]);
    }

    #[test]
    fn three_in_doubt_in_a_row_stop_the_run() {
        let server = Server::start(Plan::accepting().at(Stage::Taken, Act::Close));
        let world = World::new().smtp(&server).carts(five_carts()).init();
        world.exits(1, ["detect"]);
        world.has([("in_doubt", 3), ("planned", 2)]);
        assert_eq!(server.final_dots(), 3);
    }
}

mod last_look {
    use super::*;

    type Event = fn(&World);

    /// What happens to the cart, and the reasons that a skipped message may then have.
    const EVENTS: [(&str, Event, &[&str]); 7] = [
        ("ordered", |world| world.order("c1", "2026-03-01T12:01:00Z"), &["ordered"]),
        ("ordered, as it turns out, long ago", |world| world.order("c1", "2026-01-01T00:00:00Z"), &["ordered"]),
        ("ordered by address", |world| world.order_by("ADA@example.com", "2026-03-01T12:01:00Z"), &["ordered"]),
        ("emptied", |world| world.empty("c1"), &["empty"]),
        ("touched", |world| world.touch("c1", "2026-03-01T12:01:00Z"), &["changed"]),
        (
            "other contents",
            |world| world.change("c1", |cart| cart.item("B-2", "Bulb", 1, "1").updated("2026-03-01T12:01:00Z")),
            &["changed"],
        ),
        (
            "suppressed",
            |world| {
                world.ok(["suppress", "add", "ADA@Example.com", "--reason", "asked"]);
            },
            &["suppressed"],
        ),
    ];

    #[test]
    fn what_happened_since_the_message_was_planned_is_seen_before_the_next_try() {
        for (name, happens, reasons) in EVENTS {
            let world = deferred(Cart::of("c1").email("ada@example.com").created("2026-03-01T07:00:00Z"));
            let server = accepting();
            world.send_to(&server);
            world.set_now("2026-03-01T12:02:00Z");
            happens(&world);
            detect_at(&world, "2026-03-01T12:05:00Z", 0);
            let message = world.message();
            assert_eq!(message.state, "skipped", "{name}");
            assert!(reasons.contains(&message.reason.as_deref().unwrap_or("none")), "{name}: {message:?}");
            assert_eq!(server.reached(Stage::Mail), 0, "{name}");
            detect_at(&world, "2026-03-01T12:15:00Z", 0);
            assert_eq!(server.accepted().len(), 0, "{name}");
        }
    }

    #[test]
    fn it_is_seen_for_a_cart_whose_turn_comes_later_in_the_same_run() {
        for (name, happens, reasons) in EVENTS {
            let server = Server::start(Plan::accepting().nth(Stage::Rcpt, 1, Act::Hang));
            // Planned first and due first: the other one, which the server holds up.
            let world = World::new().smtp(&server).cart(Cart::of("other").updated("2026-03-01T07:00:00Z")).init();
            world.put(Cart::of("c1").email("ada@example.com"));
            let run = world.spawn(["detect"]);
            server.wait_for(Stage::Rcpt, 1);
            if server.transcript().contains("ada@example.com") {
                // The shop's order is not promised; then there is nothing to see here.
                server.release();
                world.check(run.wait(), 0);
                continue;
            }
            happens(&world);
            server.release();
            world.check(run.wait(), 0);
            assert_eq!(server.recipients(), ["other@example.com"], "{name}");
            let messages = world.messages_of("c1");
            assert_eq!(messages[0].state, "skipped", "{name}");
            assert!(reasons.contains(&messages[0].reason.as_deref().unwrap_or("none")), "{name}: {messages:?}");
        }
    }

    #[test]
    fn a_cart_that_was_away_for_a_moment_is_written_to_and_one_that_is_gone_is_not() {
        for kind in Kind::all() {
            let refusing = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply(LATER)));
            let carts = || ["back", "gone", "stays"].map(Cart::of);
            let world = World::new().source(kind).smtp(&refusing).carts(carts()).init();
            world.ok(["detect"]);
            world.has([("planned", 3)]);
            let server = accepting();
            world.send_to(&server);
            world.remove("back");
            world.remove("gone");
            detect_at(&world, "2026-03-01T12:05:00Z", 0).is_silent();
            world.has([("planned", 2), ("sent", 1)]);
            world.put(Cart::of("back"));
            detect_at(&world, "2026-03-01T12:10:00Z", 0);
            assert_eq!(server.recipients(), ["back@example.com", "stays@example.com"], "{kind:?}");
            detect_at(&world, "2026-03-01T13:04:00Z", 0);
            assert_eq!(world.messages_of("gone")[0].state, "planned", "{kind:?}");
            detect_at(&world, "2026-03-01T13:10:00Z", 0);
            assert_eq!(world.messages_of("gone")[0].reason.as_deref(), Some("empty"), "{kind:?}: an hour is no moment");
            // Back after all, and as it was: no earlier look stands against it.
            world.put(Cart::of("gone"));
            detect_at(&world, "2026-03-01T13:15:00Z", 0);
            assert_eq!(server.accepted().len(), 3, "{kind:?}");
            world.ok(["audit"]).is_silent();
        }
    }

    #[test]
    fn a_cart_that_held_nothing_or_something_else_for_a_moment_is_written_to_as_it_was_planned() {
        let lamps = |lamps| Cart::of("c1").item("A-1", "Lamp", lamps, "1");
        let moments: [(&str, Event); 2] = [
            ("empty", |world| world.empty("c1")),
            ("changed", |world| world.change("c1", |cart| cart.item("B-2", "Bulb", 1, "1"))),
        ];
        for (reason, moment) in moments {
            let server = Server::start(Plan::accepting().nth(Stage::Rcpt, 1, Act::Hang));
            // Planned first and due first: the other one, which the server holds up.
            let world = World::new().smtp(&server).cart(Cart::of("other").updated("2026-03-01T07:00:00Z")).init();
            world.put(lamps(2));
            let run = world.spawn(["detect"]);
            server.wait_for(Stage::Rcpt, 1);
            moment(&world);
            server.release();
            world.check(run.wait(), 0);
            assert_eq!(world.messages_of("c1")[0].reason.as_deref(), Some(reason));
            if reason == "changed" {
                detect_at(&world, "2026-03-01T12:05:00Z", 0);
                assert_eq!(server.accepted().len(), 1, "other contents, and not touched");
            }
            world.remove("c1");
            world.put(lamps(2));
            detect_at(&world, "2026-03-01T12:10:00Z", 0);
            assert_eq!(server.recipients(), ["c1@example.com", "other@example.com"], "{reason}");
        }
    }

    #[test]
    fn a_cart_that_was_touched_is_written_to_once_it_is_idle_again() {
        let world = deferred(Cart::of("c1"));
        let server = accepting();
        world.send_to(&server);
        world.touch("c1", "2026-03-01T12:01:00Z");
        detect_at(&world, "2026-03-01T12:05:00Z", 0);
        detect_at(&world, "2026-03-01T13:00:59Z", 0);
        assert_eq!(server.accepted().len(), 0);
        detect_at(&world, "2026-03-01T13:01:00Z", 0);
        assert_eq!(server.accepted().len(), 1);
        world.has([("sent", 1), ("skipped", 1)]);
    }

    #[test]
    fn an_order_by_address_counts_since_the_cart_was_created_or_24_hours_before_it_was_touched() {
        for kind in Kind::all().filter(|kind| !matches!(kind, Kind::JsonLines | Kind::Csv)) {
            let server = accepting();
            let world = World::new().source(kind).smtp(&server).init();
            let cart = |id| Cart::of(id).updated("2026-03-01T08:00:00Z");
            world.put(cart("since").created("2026-03-01T07:00:00Z"));
            world.order_by("since@example.com", "2026-03-01T07:30:00Z");
            world.put(cart("before").created("2026-03-01T07:00:00Z"));
            world.order_by("before@example.com", "2026-03-01T06:30:00Z");
            world.put(cart("hours-23"));
            world.order_by("hours-23@example.com", "2026-02-28T09:00:00Z");
            world.put(cart("hours-25"));
            world.order_by("hours-25@example.com", "2026-02-28T07:00:00Z");
            world.put(cart("ever").ordered("2025-01-01T00:00:00Z"));
            // A cart that is older than 30 days by far is not kept back by all that was bought since.
            world.put(cart("days-29").created("2025-03-01T07:00:00Z"));
            world.order_by("\"days-29\"@example.com", "2026-01-31T07:00:00Z");
            world.put(cart("days-31").created("2025-03-01T07:00:00Z"));
            world.order_by("days-31@example.com", "2026-01-29T07:00:00Z");
            world.put(cart("spelled"));
            world.order_by("Spelled <SPELLED@example.com>", "2026-03-01T07:00:00Z");
            world.ok(["detect"]);
            let expected = ["before@example.com", "days-31@example.com", "hours-25@example.com"];
            assert_eq!(server.recipients(), expected, "{kind:?}");
        }
    }

    #[test]
    fn a_shop_that_cannot_be_read_sends_nothing_and_loses_nothing() {
        let world = deferred(Cart::of("c1"));
        let server = accepting();
        world.send_to(&server);
        let shop = std::fs::read(world.shop()).unwrap();
        std::fs::write(world.shop(), "this is no shop any more, and long enough to be looked at in earnest").unwrap();
        world.set_now("2026-03-01T12:05:00Z");
        let ran = world.run(["detect"]);
        assert_ne!(ran.code, 0, "{ran}");
        assert!(ran.stderr.contains("shop.db"), "the file is named:\n{ran}");
        std::fs::remove_file(world.shop()).unwrap();
        let ran = world.run(["detect"]);
        assert_ne!(ran.code, 0, "{ran}");
        assert!(!world.shop().exists(), "the shop is never written");
        world.has([("planned", 1)]);
        assert_eq!(server.reached(Stage::Mail), 0);
        std::fs::write(world.shop(), shop).unwrap();
        detect_at(&world, "2026-03-01T12:10:00Z", 0);
        world.has([("sent", 1)]);
    }

    #[test]
    fn a_busy_shop_sends_nothing_and_loses_nothing() {
        let world = deferred(Cart::of("c1"));
        let server = accepting();
        world.send_to(&server);
        let holder = Connection::open(world.shop()).unwrap();
        holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
        world.set_now("2026-03-01T12:05:00Z");
        let ran = world.run(["detect"]);
        assert_ne!(ran.code, 0, "{ran}");
        assert!(!ran.stderr.is_empty(), "{ran}");
        world.has([("planned", 1)]);
        assert_eq!(server.reached(Stage::Mail), 0);
        holder.execute_batch("COMMIT").unwrap();
        detect_at(&world, "2026-03-01T12:10:00Z", 0);
        world.has([("sent", 1)]);
    }

    #[test]
    fn no_statement_stays_open_on_the_shop_while_the_server_is_talked_to() {
        let server = Server::start(Plan::accepting().nth(Stage::Rcpt, 1, Act::Hang));
        let world = World::new().smtp(&server).carts(five_carts()).init();
        let run = world.spawn(["detect"]);
        server.wait_for(Stage::Rcpt, 1);
        let shop = Connection::open(world.shop()).unwrap();
        shop.busy_timeout(std::time::Duration::ZERO).unwrap();
        shop.execute_batch("BEGIN EXCLUSIVE; COMMIT").expect("the shop can be written during SMTP");
        let ledger = Connection::open(world.ledger_file()).unwrap();
        ledger.busy_timeout(std::time::Duration::ZERO).unwrap();
        ledger.execute_batch("BEGIN IMMEDIATE; COMMIT").expect("the ledger can be written during SMTP");
        server.release();
        world.check(run.wait(), 0);
        world.has([("sent", 5)]);
    }
}

mod suppression {
    use super::*;

    #[test]
    fn a_suppressed_address_is_never_named_to_the_server() {
        let server = accepting();
        let world = World::new().smtp(&server).cart(Cart::of("c1").email("Ada@Example.com")).init();
        world.ok(["suppress", "add", "ada@EXAMPLE.com"]);
        world.ok(["detect"]);
        assert_eq!(server.connections(), 0);
        assert_eq!(world.messages(), [], "it is listed, not planned");
        world.set_now("2026-03-01T12:01:00Z");
        world.ok(["suppress", "remove", "ada@example.com"]);
        detect_at(&world, "2026-03-01T12:02:00Z", 0);
        assert_eq!(server.accepted().len(), 1);
    }

    #[test]
    fn a_suppression_that_comes_at_the_last_instant_still_counts() {
        let server = Server::start(Plan::accepting().at(Stage::Data, Act::Hang));
        let world = World::new().smtp(&server).cart(Cart::of("c1").email("ada@example.com")).init();
        let run = world.spawn(["detect"]);
        server.wait_for(Stage::Data, 1);
        world.ok(["suppress", "add", "ada@example.com"]);
        server.release();
        world.check(run.wait(), 0);
        let message = world.message();
        assert_eq!((message.state.as_str(), message.reason.as_deref()), ("skipped", Some("suppressed")));
        assert_eq!(message.armed_at, None);
        server.wait_for_silence();
        assert_eq!(server.final_dots(), 0);
        assert_eq!(server.accepted(), []);
        world.set_now("2026-03-01T12:01:00Z");
        world.ok(["suppress", "remove", "ada@example.com"]);
        detect_at(&world, "2026-03-01T12:02:00Z", 0);
        assert_eq!(server.accepted(), [], "what was skipped as suppressed blocks for the window");
        detect_at(&world, "2026-03-02T12:02:00Z", 0);
        assert_eq!(server.accepted().len(), 1);
    }
}

mod guards {
    use super::*;

    #[test]
    fn more_than_max_per_run_are_not_planned_unless_allowed_for_once() {
        let server = accepting();
        let world = World::new().smtp(&server).set("detect.max_per_run", 4).carts(five_carts()).init();
        world.exits(1, ["detect"]).says("--allow");
        assert_eq!(world.messages(), []);
        detect_at(&world, "2026-03-01T12:01:00Z", 0).is_silent();
        detect_at(&world, "2026-03-01T12:59:00Z", 0);
        detect_at(&world, "2026-03-01T13:01:00Z", 1);
        world.set_now("2026-03-01T13:02:00Z");
        world.run(["detect", "--allow", "4"]);
        assert_eq!(world.messages(), [], "four are not five");
        world.ok(["detect", "--allow", "5"]);
        world.has([("sent", 5)]);
        assert_eq!(server.accepted().len(), 5);
    }

    #[test]
    fn a_time_budget_that_is_spent_by_the_look_keeps_what_was_decided_the_newest_first_and_says_so() {
        let server = accepting();
        let minute = |n: u32| format!("2026-03-01T{:02}:{:02}:00Z", 10 - n / 60, 59 - n % 60);
        let carts = (0..600).map(|n| Cart::of(&format!("c{n}")).updated(&minute(n % 240)));
        let world = World::new().smtp(&server).carts(carts).init();
        world.ok(["detect", "--time-budget", "1ms"]).is_silent();
        world.has([("planned", 500)]);
        let oldest = "SELECT min(cart_touched_at) >= '2026-03-01T07:39:00Z' FROM message";
        assert_eq!(world.number(oldest), 1, "those touched last come first");
        world.ok(["status"]).says("long look, since");
        world.ok(["detect", "--time-budget", "1ms"]).is_silent();
        world.has([("planned", 600)]);
        world.set_now("2026-03-01T12:10:00Z");
        world.exits(1, ["detect", "--time-budget", "1ms"]).says("600 carts takes longer than --time-budget 1ms");
        world.ok(["detect", "--time-budget", "1ms"]).is_silent();
        world.ok(["detect"]).is_silent();
        world.has([("sent", 600)]);
        assert!(copies(&server).values().all(|copies| *copies == 1));
        assert!(!world.ok(["status"]).stdout.contains("long look"));
        assert_eq!(world.number("SELECT count(*) FROM run WHERE ending LIKE '%, 100 carts not decided about'"), 1);
    }

    #[test]
    fn a_time_budget_does_not_get_around_max_per_run() {
        let server = accepting();
        let world = World::new().smtp(&server).set("detect.max_per_run", 599).init();
        for n in 0..600 {
            world.put(Cart::of(&format!("c{n}")));
        }
        for minute in 0..3 {
            world.set_now(&format!("2026-03-01T12:0{minute}:00Z"));
            world.run(["detect", "--time-budget", "1ms"]);
            assert_eq!(world.messages(), []);
        }
    }

    #[test]
    fn exactly_max_per_run_are_sent() {
        let server = accepting();
        let world = World::new().smtp(&server).set("detect.max_per_run", 5).carts(five_carts()).init();
        world.ok(["detect"]);
        world.has([("sent", 5)]);
    }

    #[test]
    fn a_dry_run_says_who_and_why_and_writes_nothing() {
        let server = accepting();
        let carts = [
            Cart::of("due"),
            Cart::of("bought").ordered("2026-03-01T09:00:00Z"),
            Cart::of("unwilling").consent(false),
            Cart::of("barred"),
        ];
        let world = World::new().smtp(&server).carts(carts).init();
        world.ok(["suppress", "add", "barred@example.com"]);
        let before = world.report_of_ledger();
        let ran = world.ok(["detect", "--dry-run"]);
        for word in ["due@example.com", "bought", "ordered", "unwilling", "consent", "barred", "suppressed"] {
            ran.says(word);
        }
        assert_eq!(world.report_of_ledger(), before);
        assert_eq!(server.connections(), 0);
        world.ok(["detect", "--dry-run", "--json"]).json();
    }

    #[test]
    fn a_dry_run_takes_no_lock() {
        let server = Server::start(Plan::accepting().at(Stage::Dot, Act::Hang));
        let world = World::new().smtp(&server).cart(Cart::of("c1")).init();
        let run = world.spawn(["detect"]);
        server.wait_for_final_dot();
        world.ok(["detect", "--dry-run"]);
        world.ok(["status", "--json"]).json();
        server.release();
        world.check(run.wait(), 0);
        world.has([("sent", 1)]);
    }

    #[test]
    fn a_clock_that_went_back_sends_nothing_until_accepted() {
        let server = accepting();
        let world = World::new().smtp(&server).cart(Cart::of("c1")).init();
        world.ok(["detect"]);
        world.put(Cart::of("c2"));
        detect_at(&world, "2026-03-01T11:56:00Z", 0);
        world.has([("sent", 2)]);
        world.put(Cart::of("c3"));
        let ran = detect_at(&world, "2026-03-01T11:50:00Z", 74);
        assert!(ran.stderr.contains("2026-03-01T11:50:00Z") && ran.stderr.contains("2026-03-01T12:00:00Z"), "{ran}");
        world.has([("sent", 2)]);
        world.ok(["detect", "--accept-clock"]);
        world.has([("sent", 3)]);
        world.put(Cart::of("c4"));
        detect_at(&world, "2026-03-01T11:51:00Z", 0);
        world.has([("sent", 4)]);
    }

    #[test]
    fn a_missing_ledger_is_not_made_anew() {
        let server = accepting();
        let world = World::new().smtp(&server).cart(Cart::of("c1"));
        let ran = world.exits(78, ["detect"]);
        assert!(ran.stderr.contains("mailonce.db") && ran.stderr.contains("init"), "{ran}");
        assert!(!world.ledger_file().exists());
        assert_eq!(server.connections(), 0);
    }

    #[test]
    fn while_another_run_holds_the_lock_a_run_ends_with_75_and_in_silence() {
        let server = Server::start(Plan::accepting().at(Stage::Dot, Act::Hang));
        let world = World::new().smtp(&server).cart(Cart::of("c1")).init();
        let run = world.spawn(["detect"]);
        server.wait_for_final_dot();
        world.exits(75, ["detect"]).is_silent();
        let waiting = world.spawn(["detect", "--wait", "60s"]);
        server.release();
        world.check(run.wait(), 0);
        world.check(waiting.wait(), 0);
        world.has([("sent", 1)]);
        assert_eq!(server.final_dots(), 1);
    }

    #[test]
    fn a_run_asked_to_stop_finishes_the_message_in_hand() {
        for signal in [libc::SIGTERM, libc::SIGINT] {
            let server = Server::start(Plan::accepting().nth(Stage::Dot, 1, Act::Hang));
            let world = World::new().smtp(&server).carts(five_carts()).init();
            let run = world.spawn(["detect"]);
            server.wait_for_final_dot();
            run.signal(signal);
            server.release();
            world.check(run.wait(), 0);
            world.has([("planned", 4), ("sent", 1)]);
            detect_at(&world, "2026-03-01T12:01:00Z", 0);
            world.has([("sent", 5)]);
            assert!(copies(&server).values().all(|&n| n == 1));
        }
    }

    #[test]
    fn asked_to_stop_before_the_body_nothing_is_armed() {
        let server = Server::start(Plan::accepting().nth(Stage::Data, 1, Act::Hang));
        let world = World::new().smtp(&server).carts(five_carts()).init();
        let run = world.spawn(["detect"]);
        server.wait_for(Stage::Data, 1);
        run.signal(libc::SIGTERM);
        server.release();
        world.check(run.wait(), 0);
        world.has([("planned", 5)]);
        assert_eq!(server.final_dots(), 0);
    }

    #[test]
    fn killed_before_the_body_it_is_sent_by_the_next_run() {
        for stage in [Stage::Connect, Stage::Banner, Stage::Ehlo, Stage::Mail, Stage::Rcpt, Stage::Data] {
            let server = Server::start(Plan::accepting().fault(stage, On::First(1), Act::Hang));
            let world = World::new().smtp(&server).cart(Cart::of("c1")).init();
            let run = world.spawn(["detect"]);
            server.wait_for(stage, 1);
            run.kill();
            detect_at(&world, "2026-03-01T12:01:00Z", 0);
            world.has([("sent", 1)]);
            assert_eq!(server.accepted().len(), 1, "{stage:?}");
        }
    }

    #[test]
    fn killed_after_the_body_has_begun_it_is_in_doubt_and_never_sent_again() {
        for stage in [Stage::Body, Stage::Dot, Stage::Taken] {
            let server = Server::start(Plan::accepting().at(stage, Act::Hang));
            let world = World::new().smtp(&server).carts([Cart::of("c1")]).init();
            let run = world.spawn(["detect"]);
            server.wait_for(stage, 1);
            run.kill();
            let next_server = accepting();
            world.send_to(&next_server);
            detect_at(&world, "2026-03-01T12:01:00Z", 1);
            world.has([("in_doubt", 1)]);
            detect_at(&world, "2026-03-01T12:05:00Z", 0);
            detect_at(&world, "2026-03-02T13:00:00Z", 0);
            assert_eq!(next_server.final_dots(), 0, "{stage:?}: a message in doubt was sent again");
            world.has([("in_doubt", 1)]);
        }
    }
}
