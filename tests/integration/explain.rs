//! `explain`: the answer that a person gets is what a run does, and nothing is written for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Act, Cart, Kind, Plan, Ran, Server, Stage, World, definition, people};

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

/// Every file and what is in it; but for the index that SQLite's readers share.
fn everything(world: &World) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let read = |path: PathBuf| {
        let is_shared = path.to_string_lossy().ends_with("-shm");
        let bytes = (!is_shared).then(|| std::fs::read(&path).unwrap());
        (path, bytes)
    };
    files_in(&world.path("")).into_iter().map(read).collect()
}

/// Explains, and asserts that nothing was written, and that nothing is said but the answer.
#[track_caller]
fn explain(world: &World, code: i32, arguments: &[&str]) -> Ran {
    // The files that any reader makes are there then.
    world.ok(["log"]);
    let before = everything(world);
    let ran = world.exits(code, ["explain"].iter().chain(arguments).copied());
    assert_eq!(before, everything(world), "explain wrote something:\n{ran}");
    assert_eq!(ran.stderr, "", "{ran}");
    ran
}

#[track_caller]
fn as_json(world: &World, code: i32, what: &str) -> Value {
    explain(world, code, &[what, "--json"]).json()
}

fn first_line(ran: &Ran) -> &str {
    ran.stdout.lines().next().unwrap_or_default()
}

/// Asserts the beginning of the answer.
#[track_caller]
fn answers(world: &World, what: &str, line: &str) -> Ran {
    let ran = explain(world, 0, &[what]);
    assert!(first_line(&ran).contains(line), "not {line:?} but\n{ran}");
    ran
}

/// The rules that do not pass, by name.
fn failing(document: &Value) -> Vec<String> {
    let rules = document["reasons"].as_array().expect("a list of rules").iter();
    rules.filter(|rule| rule["passes"] == false).map(|rule| rule["rule"].as_str().unwrap().to_owned()).collect()
}

fn accepting() -> Server {
    Server::start(Plan::accepting())
}

fn detected(cart: Cart, plan: Plan, code: i32) -> World {
    let server = Server::start(plan);
    let world = World::new().cart(cart).smtp(&server).init();
    world.exits(code, ["detect"]);
    world
}

/// The short id of the only message.
fn id(world: &World) -> String {
    world.message().message_id.unwrap()[1..9].to_owned()
}

#[test]
fn each_rule_of_a_cart_is_named_with_what_was_found_and_what_would_change_it() {
    let carts = [
        Cart::of("young").updated("2026-03-01T11:30:00Z"),
        Cart::of("old").updated("2026-02-20T08:00:00Z"),
        Cart::of("before").updated("2025-12-31T08:00:00Z"),
        Cart::of("empty").empty(),
        Cart::of("silent").consent(None),
        Cart::of("refused").consent(false),
        Cart::of("bought").ordered("2026-03-01T09:00:00Z"),
        Cart::of("cheap").item("B-1", "Pin", 1, "1.00"),
        Cart::of("good"),
    ];
    for kind in Kind::FILES {
        let world = World::new().carts(carts.clone()).source(kind).init();
        world.configure("detect.min_value.EUR", "5.00");
        for (cart, verdict, line, rules) in [
            (
                "young",
                "not idle yet",
                "not idle yet (touched 30m ago); it is left alone long enough at 2026-03-01T12:00:00Z",
                &["idle"][..],
            ),
            ("old", "older than max_age", "it is too old", &["max_age"]),
            ("before", "older than max_age", "it is too old", &["max_age", "since"]),
            ("empty", "empty", "nothing is in it", &["items", "min_value"]),
            ("silent", "no consent", "it has no consent (none is recorded)", &["consent"]),
            ("refused", "no consent", "its shopper has refused consent", &["consent"]),
            ("bought", "ordered", "it was ordered", &["ordered"]),
            ("cheap", "filtered", "1.00 is less than min_value, ", &["min_value"]),
            ("good", "plan", "the next run plans a mail about it and sends it", &[]),
        ] {
            let found = as_json(&world, 0, cart);
            assert_eq!(found["verdict"], verdict, "{kind:?} {found:#}");
            assert!(found["answer"].as_str().unwrap().contains(line) || line.starts_with("not idle"), "{found:#}");
            let mut found = failing(&found);
            if cart == "empty" {
                // Nothing is worth nothing, which is less than the least; whether that stands depends on the reading.
                found.retain(|rule| rule != "min_value");
                found.push("min_value".into());
            }
            assert_eq!(found, rules, "{kind:?} {cart}");
        }
        explain(&world, 0, &["silent"])
            .says("NO    detect.consent")
            .says("none recorded (limit required)")
            .says("a question of law, not of mailonce");
        explain(&world, 0, &["refused"]).says("no key of mailonce writes to them");
        explain(&world, 0, &["young"])
            .says("next: nothing to do: from 2026-03-01T12:30:00Z on it is left alone long enough");
    }
}

#[test]
fn before_the_ledgers_birth_and_after_a_restored_copy() {
    let world = World::new().unset("detect.since").cart(Cart::of("c1")).init();
    answers(&world, "c1", "before the ledger was made (2026-03-01T12:00:00Z)").says("an earlier since in [detect]");
    let world = World::new().cart(Cart::of("c1")).init();
    world.by_hand("UPDATE ledger SET held_back_at = '2026-03-01T09:00:00Z'");
    answers(&world, "c1", "before an old copy of the ledger was put back").says("nothing brings it back but a touch");
}

#[test]
fn unknown_is_exit_1_and_says_where_it_looked() {
    let world = World::new().init();
    for what in ["eve@example.com", "c404", "00112233445566778899aabbccddeeff@shop.example"] {
        let ran = explain(&world, 1, &[what]);
        ran.says("nothing is known").says("mailonce.db").says("SQLite");
        assert_eq!(as_json(&world, 1, what)["verdict"], "unknown");
    }
    explain(&world, 1, &["nobody", "--cart"]).says("cart nobody: nothing is known");
    let ran = explain(&world, 1, &["ada@"]);
    ran.says("it is no address that mail can go to").says("taken for the id of a cart");
    assert!(!ran.stdout.contains("next: "), "advice to do what was just done:\n{ran}");
    world.exits(2, ["explain", "nobody", "--address"]).says("the address has no @");
}

#[test]
fn suppressed_says_since_when_and_why_and_how_it_ends() {
    let world = World::new().cart(Cart::of("c1").email("ada@example.com")).init();
    world.ok(["suppress", "add", "ada@example.com", "--reason", "asked by phone"]);
    let line = "on the suppression list since 2026-03-01T12:00:00Z (asked by phone; by hand)";
    answers(&world, "ADA@example.com", line).says("mailonce suppress remove ADA@example.com");
    let of_cart = answers(&world, "c1", line);
    assert!(!of_cart.stdout.contains("ada@"), "an address that nobody asked for:\n{of_cart}");
    assert_eq!(failing(&as_json(&world, 0, "c1")), ["suppression"]);
    world.set_now("2026-03-01T12:05:00Z");
    world.ok(["suppress", "remove", "ada@example.com", "--reason", "asked again"]);
    answers(&world, "ada@example.com", "the next run plans a mail about cart c1")
        .says("unsuppressed")
        .says("asked again");
    // A wish is taken back by a word of theirs.
    world.by_hand("INSERT INTO suppression VALUES ('ada@example.com', 'asked to get no more', '2026-03-01T12:06:00Z', 'one-click', 'cart')");
    answers(&world, "ada@example.com", "no mail about carts").says("only a word of theirs");
}

#[test]
fn of_whom_was_forgotten_only_that_is_said() {
    let world = detected(Cart::of("c1").email("ada@example.com"), Plan::accepting(), 0);
    world.ok(["forget", "ada@example.com"]);
    world.put(Cart::of("c2").email("ada@example.com").item("B", "Pot", 1, "5.00"));
    answers(&world, "ada@example.com", "no mail, because its owner was forgotten");
    let of_cart = as_json(&world, 0, "c2");
    assert_eq!((&of_cart["verdict"], failing(&of_cart)), (&"suppressed".into(), vec!["forgotten".to_owned()]));
    world.ok(["detect", "-v"]).says("suppressed (cart c2)");
}

#[test]
fn what_a_report_shows_to_have_arrived_is_not_said_to_be_sent_next() {
    let world = detected(Cart::of("c1"), Plan::accepting().at(Stage::Rcpt, Act::Reply("450 4.2.0 greylisted")), 0);
    world.by_hand(
        "INSERT INTO report (digest, received_at, message, class, proves, folded_address)
         VALUES (x'00', '2026-03-01T12:10:00Z', 1, 'soft', 1, 'c1@example.com')",
    );
    world.set_now("2026-03-01T12:30:00Z");
    answers(&world, "c1", "it waits (a report shows that a mail server took it over already");
    world.run(["detect"]);
    world.has([("planned", 1)]);
}

#[test]
fn a_wish_that_no_run_has_heard_of_yet_counts() {
    let world = World::new()
        .set("mail.unsubscribe", "https://shop.example/unsubscribe?t={unsubscribe}")
        .set("mail.unsubscribe_mailto", "stop@shop.example")
        .set("unsubscribe.spool", "spool")
        .cart(Cart::of("c1"));
    std::fs::create_dir(world.path("spool")).unwrap();
    let world = world.init();
    let ran = world.ok(["detect"]);
    let (_, bytes) = world.outbox().pop().unwrap_or_else(|| panic!("no mail\n{ran}"));
    let text = String::from_utf8_lossy(&bytes).replace("=\r\n", "").replace("=3D", "=");
    let token: String =
        text.split("?t=").nth(1).unwrap().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
    let of_token = answers(&world, &token, "(the mail about cart c1): sent 2026-03-01T12:00:00Z by run 1");
    assert!(!of_token.stdout.contains("c1@example.com"), "{of_token}");
    world.touch("c1", "2026-03-02T13:00:00Z");
    world.set_now("2026-03-02T14:00:00Z");
    answers(&world, "c1@example.com", "the next run plans a mail");
    std::fs::write(world.path("spool").join(&token), "").unwrap();
    answers(&world, "c1@example.com", "they asked for none");
    world.ok(["detect"]);
    answers(&world, "c1@example.com", "on the suppression list since 2026-03-02T14:00:00Z");
    let forged = format!("{}{}", &token[..token.len() - 1], if token.ends_with('0') { '1' } else { '0' });
    explain(&world, 1, &[&forged]).says("no key of this shop signed the token");
}

#[test]
fn of_several_carts_the_later_counts_and_one_in_use_is_waited_for() {
    let one = Cart::of("c1").email("ada@example.com").updated("2026-03-01T08:00:00Z");
    let other = Cart::of("c2").email("ada@example.com").updated("2026-03-01T09:00:00Z").item("B", "Pot", 1, "5.00");
    let world = World::new().carts([one, other]).init();
    answers(&world, "c1", "another cart of its shopper was touched later (by cart c2)");
    answers(&world, "ada@example.com", "the next run plans a mail about cart c2")
        .says("cart c1: superseded (by cart c2)");
    world.touch("c2", "2026-03-01T11:50:00Z");
    answers(&world, "c1", "its shopper is at another cart just now (cart c2, not idle yet)");
    assert_eq!(failing(&as_json(&world, 0, "c1")), ["busy"]);
}

#[test]
fn a_sent_message_is_told_by_every_name_of_it() {
    let world = detected(Cart::of("c1").user("u1"), Plan::accepting(), 0);
    let message_id = world.message().message_id.unwrap();
    let bare = message_id.trim_matches(['<', '>']).to_owned();
    for name in [message_id.as_str(), &bare, &id(&world)] {
        let ran = answers(&world, name, "(the mail about cart c1): sent 2026-03-01T12:00:00Z by run 1; ");
        assert!(!ran.stdout.contains("c1@example.com"), "{ran}");
    }
    answers(&world, "c1", "written to about these contents 2026-03-01T12:00:00Z, within detect.window");
    let document = as_json(&world, 0, "c1@example.com");
    assert_eq!(failing(&document), ["window"]);
    let history = document["history"].as_array().unwrap();
    assert_eq!(document["source_read"], true);
    assert_eq!(history[0]["what"], "touched");
    assert_eq!((&history[1]["state"], &history[1]["run"]), (&"sent".into(), &1.into()));
    assert_eq!(history[1]["campaign_id"], Value::Null);
    world.order("c1", "2026-03-01T13:00:00Z");
    world.set_now("2026-03-01T14:00:00Z");
    // What a run comes to first, and what else stands against it.
    answers(&world, "c1", "written to about these contents").says("its address ordered since it was begun");
    assert_eq!(failing(&as_json(&world, 0, "c1")), ["ordered", "window"]);
    world.ok(["suppress", "add", "c1@example.com"]);
    assert_eq!(failing(&as_json(&world, 0, "c1")), ["ordered", "window", "suppression"]);
    world.ok(["detect"]);
    let found = as_json(&world, 0, &message_id);
    let orders: Vec<&Value> =
        found["history"].as_array().unwrap().iter().filter(|event| event["what"] == "order").collect();
    assert_eq!(orders.len(), usize::from(world.number("SELECT count(*) FROM recovery") == 1), "{found:#}");
}

#[test]
fn in_doubt_and_refused_name_the_command_that_settles_them() {
    let world = detected(Cart::of("c1"), Plan::accepting().at(Stage::Taken, Act::Close), 1);
    let id = id(&world);
    answers(&world, &id, "in doubt since 2026-03-01T12:00:00Z").says(&format!("mailonce resolve {id} --sent"));
    answers(&world, "c1", "in doubt: it may have arrived").says("mailonce resolve");
    let no = "550 5.1.1 <c1@example.com>: no such \u{9b}user";
    let world = detected(Cart::of("c1"), Plan::accepting().for_recipient("c1@", Stage::Rcpt, Act::Reply(no)), 0);
    let id = self::id(&world);
    let ran = answers(&world, &id, "refused 2026-03-01T12:00:00Z; 550 5.1.1");
    ran.says(&format!("mailonce resolve {id} --resend"));
    assert!(!ran.stdout.contains("c1@example.com"), "{ran}");
    answers(&world, "c1", "was decided against (refused 2026-03-01T12:00:00Z), within detect.window");
}

#[test]
fn what_is_planned_says_what_the_next_run_does_with_it() {
    let later = Plan::accepting().at(Stage::Rcpt, Act::Reply("450 4.2.0 greylisted"));
    let world = detected(Cart::of("c1"), later, 0);
    answers(&world, "c1", "the next mail is the mail about cart c1, not before 2026-03-01T12:02:00Z")
        .says("deferred; 450 4.2.0 greylisted")
        .says("mailonce suppress add ADDRESS");
    world.set_now("2026-03-01T12:30:00Z");
    answers(&world, "c1@example.com", "the next mail is the mail about cart c1: planned, and sent by the next run");
    world.order("c1", "2026-03-01T12:20:00Z");
    answers(&world, &id(&world), "is planned, and the next run skips it: ordered");
    world.ok(["detect"]);
    answers(&world, &id(&world), "skipped 2026-03-01T12:30:00Z, ordered");
    let late = detected(Cart::of("c1"), Plan::accepting().at(Stage::Rcpt, Act::Reply("450 4.2.0 greylisted")), 0);
    late.set_now("2026-03-09T12:00:00Z");
    answers(&late, &id(&late), "the next run skips it: expired");
    // Touched in the meantime, it is new again for the run that expires the old one.
    late.touch("c1", "2026-03-09T10:00:00Z");
    assert_eq!(as_json(&late, 0, "c1")["carts"][0]["verdict"], "plan");
}

#[test]
fn a_campaigns_message_says_what_its_campaign_is_at() {
    let later = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply("450 4.2.0 greylisted")));
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-01 12:00\"")).smtp(&later);
    world.audience("audience.csv", &people(2));
    let world = world.init();
    world.ok(["run-campaigns"]);
    answers(&world, "r1@example.com", "the next mail is campaign spring of 2026-03-01T12:00:00Z, not before");
    world.ok(["campaign", "pause", "spring"]);
    answers(&world, "r1@example.com", "its campaign is paused").says("mailonce campaign resume spring");
    world.ok(["campaign", "resume", "spring"]);
    world.set_now("2026-03-05T12:00:00Z");
    answers(&world, "r1@example.com", "the next run skips it: expired").says("campaign retry spring --state expired");
    let ran = world.exits(1, ["run-campaigns"]);
    ran.says("expired");
    let ran = answers(&world, "r1@example.com", "no mail is to come; of the last one, campaign spring");
    ran.says("expired: its time had passed").says("campaign retry spring --state expired");
    assert!(!ran.stdout.contains("r2@"), "{ran}");
}

#[test]
fn caps_windows_and_holdouts_say_from_when_and_for_whom() {
    let server = accepting();
    let world = World::new().cart(Cart::of("c1")).smtp(&server).set("caps.per_person", vec!["1 in 20h"]).init();
    world.ok(["detect"]);
    world.put(Cart::of("c2").email("c1@example.com").updated("2026-03-01T13:00:00Z").item("B", "Pot", 1, "5.00"));
    world.set_now("2026-03-01T14:00:00Z");
    answers(&world, "c2", "which leaves not before 2026-03-02T08:00:00Z")
        .says("waits caps.per_person")
        .says("1 begun within it; free at 2026-03-02T08:00:00Z (limit 1 in 20h)");
    world.ok(["detect"]);
    answers(&world, "c2", "the next mail is the mail about cart c2, not before 2026-03-02T08:00:00Z");
    let world = World::new().cart(Cart::of("c1")).set("send_window.hours", "14:00-20:00").init();
    answers(&world, "c1", "which leaves not before 2026-03-01T14:00:00Z")
        .says("send_window.hours")
        .says("closed in UTC (the shop's zone), opens 2026-03-01T14:00:00Z");
    let world = World::new().cart(Cart::of("c1")).set("holdout.percent", 100).set("holdout.salt", "x").init();
    answers(&world, "c1", "its address is held out").says("NO    holdout.percent");
    world.ok(["detect"]);
    answers(&world, "c1@example.com", "was decided against (holdout").says("holdout: its address is held out");
}

#[test]
fn what_was_sent_says_until_when_it_stands_in_the_way() {
    let world = detected(Cart::of("c1"), Plan::accepting(), 0);
    world.set_now("2026-03-01T14:00:00Z");
    answers(&world, "c1", "within detect.window, until 2026-03-02T12:00:00Z")
        .says("; free at 2026-03-02T12:00:00Z (limit 1d)")
        .says("next: nothing to do: other contents are written about before that, these from 2026-03-02T12:00:00Z on");
    assert_eq!(as_json(&world, 0, "c1")["carts"][0]["window_ends_at"], "2026-03-02T12:00:00Z");
}

#[test]
fn more_than_a_run_may_plan_is_said_of_each() {
    let world = World::new().carts((1..=3).map(|n| Cart::of(&format!("c{n}")))).set("detect.max_per_run", 2).init();
    answers(&world, "c2", "more messages than detect.max_per_run").says("mailonce detect --allow N");
    world.ok(["detect", "--allow", "3"]);
    answers(&world, "c2", "written to about these contents");
}

#[test]
fn steps_say_which_is_next_and_when() {
    let steps: toml::Table =
        "[[step]]\nname = 'reminder'\nafter = '60m'\n[[step]]\nname = 'second'\nafter = '24h'\n".parse().unwrap();
    let server = accepting();
    let world = World::new().cart(Cart::of("c1")).smtp(&server).set("detect.step", steps["step"].clone()).init();
    world.ok(["detect"]);
    // The first was late, and the second keeps its distance.
    answers(&world, "c1@example.com", "the next mail is \"second\" about cart c1, not before 2026-03-02T11:00:00Z")
        .says("cart c1 reminder")
        .says("NO    detect.step.after");
    world.set_now("2026-03-02T11:00:00Z");
    answers(&world, "c1", "the next run plans a mail about it and sends it").says("second is due");
    world.ok(["detect"]);
    world.set_now("2026-03-03T11:00:00Z");
    answers(&world, "c1", "every step of its flow was sent, or passed over");
}

#[test]
fn a_bad_row_and_a_shop_that_is_away_are_answers() {
    let world = World::new().cart(Cart::of("c1").email("not an address")).cart(Cart::of("c2").without_email()).init();
    answers(&world, "c1", "its row in the shop cannot be used").says("correct it in the shop");
    answers(&world, "c2", "its row in the shop cannot be used").says("no address");
    // What the ledger knows is told all the same.
    let world = detected(Cart::of("c1"), Plan::accepting(), 0);
    let shop = rusqlite::Connection::open(world.shop()).unwrap();
    // Reading the file here would let go of the lock that this process has on it.
    shop.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let document = world.exits(1, ["explain", "c1", "--json"]).json();
    assert!(
        document["answer"].as_str().unwrap().contains("not known, because the shop cannot be read"),
        "{document:#}"
    );
    assert_eq!(document["history"][0]["state"], "sent");
    assert_eq!((&document["verdict"], &document["source_read"]), (&"shop not read".into(), &false.into()));
    drop(shop);
    std::fs::remove_file(world.shop()).unwrap();
    let ran = world.exits(1, ["explain", "c1"]);
    ran.says("a run sends nothing about carts then: there is no source")
        .says("2026-03-01T12:00:00Z  cart c1               sent");
    ran.says("next: ");
}

#[test]
fn an_older_systems_log_counts_and_is_named() {
    let world =
        World::new().unset("detect.since").old_rows(&["'u1', 'ada@example.com', 'x', 1, '2026-03-01T06:00:00Z'"]);
    world.ok(["cleanup-duplicates", "--timezone", "UTC"]);
    world.ok(["add-index", "--rehearsal", "--timezone", "UTC"]);
    answers(&world, "ada@example.com", "only an older system wrote at 2026-03-01T06:00:00Z");
    world.put(Cart::of("c1").user("u1").email("ada@example.com").updated("2026-03-01T12:30:00Z"));
    world.set_now("2026-03-01T14:00:00Z");
    answers(&world, "c1", "written to about these contents 2026-03-01T06:00:00Z");
    assert_eq!(failing(&as_json(&world, 0, "c1")), ["older_system"]);
}

#[test]
fn what_others_wrote_is_shown_tame_and_a_command_can_be_pasted() {
    let cart = Cart::of("c\u{202e}1").email("a`id`b@example.com");
    let world = World::new().cart(cart).init();
    let ran = answers(&world, "a`id`b@example.com", "the next run plans a mail about cart c\\u{202e}1");
    ran.says("mailonce suppress add 'a`id`b@example.com'");
    assert!(!ran.stdout.contains('\u{202e}'), "{ran}");
    // What looks like a message is one, and a cart with --cart.
    let world = World::new().cart(Cart::of("deadbeef")).cart(Cart::of("x@example.org").email("y@example.org")).init();
    answers(&world, "deadbeef", "cart deadbeef: the next run plans");
    explain(&world, 1, &["x@example.org"]).says("nothing is known");
    explain(&world, 0, &["x@example.org", "--cart"]).says("cart x@example.org: the next run plans");
}

#[test]
fn a_run_that_was_killed_and_a_copy_that_was_put_back_are_said() {
    let server = Server::start(Plan::accepting().at(Stage::Taken, Act::Hang));
    let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
    std::fs::copy(world.ledger_file(), world.path("copy.db")).unwrap();
    let run = world.spawn(["detect"]);
    server.wait_for(Stage::Taken, 1);
    answers(&world, "c1@example.com", "the mail about cart c1 was begun (a run has just begun its body)")
        .says("a run is under way");
    run.kill();
    server.release();
    answers(
        &world,
        "c1@example.com",
        "was begun (the run that began its body died: it is in doubt from the next run on)",
    );
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", world.ledger_file().display()));
    }
    std::fs::copy(world.path("copy.db"), world.ledger_file()).unwrap();
    answers(&world, "c1@example.com", "the next run plans")
        .says("note: a run would send nothing")
        .says("mailonce resolve --restored");
}

#[test]
fn what_came_back_and_what_was_ordered_stand_in_the_history() {
    let world = detected(Cart::of("c1").user("u1"), Plan::accepting(), 0);
    world.by_hand(
        "INSERT INTO report (digest, received_at, message, class, status, diagnostic, folded_address)
         VALUES (x'00', '2026-03-01T12:10:00Z', 1, 'soft', '4.2.2', 'mailbox of <c1@example.com> full', 'c1@example.com');
         INSERT INTO recovery VALUES ('o7', 1, 'cart', '2026-03-01T12:20:00Z', '19.90', 'EUR', 'placed', 604800, '2026-03-01T12:21:00Z');",
    );
    let ran = answers(&world, "c1@example.com", "no mail about cart c1");
    ran.says("came back: soft (4.2.2 mailbox of <c…@example.com> full)");
    ran.says("order o7 followed, of this very cart, 19.90 EUR");
    let times: Vec<&str> = ran.stdout.lines().filter_map(|line| line.strip_prefix("  2026-")).collect();
    assert!(times.is_sorted() && times.len() == 4, "{ran}");
}

/// The commands of the page, and what it says that they print.
#[test]
fn the_page_shows_what_is_printed() {
    let steps = "[[step]]\nname = 'reminder'\nafter = '60m'\n[[step]]\nname = 'second'\nafter = '24h'\n";
    let steps: toml::Table = steps.parse().unwrap();
    let ada = |id: &str| Cart::of(id).user("u1").email("ada@example.com");
    let server = accepting();
    let world = World::new()
        .cart(ada("c1").item("A-1", "Lamp", 2, "19.90").updated("2026-03-01T10:04:00Z"))
        .cart(ada("c7").item("B-1", "Mug", 1, "12.00").updated("2026-03-01T09:20:00Z"))
        .cart(Cart::of("c9").consent(None))
        .smtp(&server)
        .set("detect.step", steps["step"].clone())
        .set("caps.per_person", vec!["1 in 20h"])
        .now("2026-03-01T11:05:00Z")
        .init();
    world.ok(["detect"]);
    world.set_now("2026-03-01T14:00:00Z");
    let page = crate::docs::page("docs/explain.md");
    let mut commands = 0;
    for block in crate::docs::blocks(&page).into_iter().filter(|block| block.language == "console") {
        let (command, shown) = block.text.split_once('\n').unwrap();
        let words: Vec<&str> = command.strip_prefix("$ mailonce ").expect("a command").split(' ').collect();
        let ran = world.ok(words);
        // The digits of a Message-ID are another ledger's.
        let without_ids = |text: &str| {
            let mut parts = text.split(" [");
            let first = parts.next().unwrap().to_owned();
            parts.fold(first, |text, part| text + part.split_once(']').map_or(part, |(_, rest)| rest))
        };
        assert_eq!(without_ids(&ran.stdout), without_ids(shown), "{command}");
        commands += 1;
    }
    assert_eq!(commands, 2);
}

/// Numbers by chance that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, number: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % number
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// `2026-03-01T08:00:00Z` and so many minutes.
fn minute(minutes: u64) -> String {
    let (days, hours) = (minutes / 1440, minutes / 60 % 24);
    format!("2026-03-{:02}T{:02}:{:02}:00Z", 1 + days, hours, minutes % 60)
}

fn cart_by_chance(dice: &mut Dice, now: u64) -> Cart {
    let touched = now - dice.below(now.min(5000));
    let mut cart = Cart::of(&format!("c{}", dice.below(9))).updated(&minute(touched));
    cart = cart.email(dice.one(&["a@example.com", "b@example.com", "c@example.com", "d@example.com"]));
    if dice.below(2) == 0 {
        cart = cart.user(dice.one(&["1", "2", "3"]));
    }
    match dice.below(14) {
        // The shop's clock may be ahead.
        12 => cart.updated(&minute(now + 30)),
        13 => cart.updated(&minute(now + 2000)),
        0 => cart.empty(),
        1 => cart.consent(None),
        2 => cart.ordered(&minute(touched + dice.below(60))),
        3..6 => cart.item("B", "Pot", 1, "5.00"),
        6..8 => cart.item("C", "Cup", 2, "3.00"),
        _ => cart,
    }
}

/// What a run said of each cart when it decided about it: the verdict, or `plan`.
fn decisions(ran: &Ran) -> BTreeMap<String, String> {
    let mut decisions = BTreeMap::new();
    for line in ran.stderr.lines() {
        let Some((_, id)) = line.rsplit_once(" (cart ") else { continue };
        let id = id.trim_end_matches(')').to_owned();
        if line.starts_with("Planning cart ") {
            decisions.insert(id, "plan".to_owned());
        } else if let Some((_, rest)) = line.strip_prefix("Skipping cart ").and_then(|rest| rest.split_once("... - ")) {
            decisions.insert(id, rest.rsplit_once(" (cart ").unwrap().0.to_owned());
        }
    }
    decisions
}

/// What became of each message of the ledger, by its short id.
fn fates(world: &World) -> BTreeMap<String, (String, Option<String>)> {
    let rows = world.messages().into_iter();
    rows.map(|row| (row.message_id.unwrap()[1..9].to_owned(), (row.state, row.reason))).collect()
}

/// Plays a shop by chance, and holds what is explained before each run against what the run does. Gives how often which verdict was
/// compared.
fn explained_is_done(seed: u64, rules: impl Fn(World) -> World) -> BTreeMap<String, u64> {
    let mut dice = Dice(seed);
    let mut compared: BTreeMap<String, u64> = BTreeMap::new();
    let kind = dice.one(&[Kind::Sqlite, Kind::JsonLines]);
    let (good, later) = (accepting(), Server::start(Plan::accepting().at(Stage::Rcpt, Act::Code(451))));
    let lost = Server::start(Plan::accepting().at(Stage::Taken, Act::Close));
    let world = rules(World::new().source(kind).smtp(&good)).now("2026-03-01T00:00:00Z").init();
    let mut now = 600;
    for _ in 0..7 {
        now += dice.one(&[1, 30, 61, 700, 1441, 2000]);
        for _ in 0..1 + dice.below(4) {
            world.put(cart_by_chance(&mut dice, now));
        }
        world.set_now(&minute(now));
        let carts: Vec<String> = (0..9).map(|n| format!("c{n}")).collect();
        let mut expected = BTreeMap::new();
        for cart in &carts {
            let ran = world.run(["explain", cart, "--cart", "--json"]);
            assert!(ran.code <= 1, "{ran}");
            let document = ran.json();
            let Some(found) = document["carts"].as_array().unwrap().first() else { continue };
            let verdict = found["verdict"].as_str().unwrap().to_owned();
            let leaves_out = |rule: &&Value| rule["passes"] == false && rule["effect"] == "leaves out";
            let fails = found["reasons"].as_array().unwrap().iter().filter(leaves_out).count();
            assert_eq!(verdict == "plan", fails == 0, "the rules say something else than the verdict:\n{ran}");
            assert!(!found["reasons"].to_string().contains("shown_by_the_shop"), "no rule says why:\n{ran}");
            expected.insert(cart.clone(), verdict);
        }
        let open: Vec<String> =
            fates(&world).into_iter().filter(|(_, (state, _))| state == "planned").map(|(id, _)| id).collect();
        let ahead: Vec<(String, Value)> =
            open.into_iter().map(|id| (id.clone(), world.run(["explain", &id, "--json"]).json())).collect();
        let server = dice.one(&[&good, &good, &later, &lost]);
        world.send_to(server);
        let ran = world.run(["detect", "-v"]);
        assert!(ran.code <= 1, "{ran}");
        let done = decisions(&ran);
        for (cart, verdict) in &expected {
            // Of what is out of reach, too far ahead as well, a run only counts how many there are.
            let out_of_reach =
                matches!(verdict.as_str(), "older than max_age" | "touched before since" | "not idle yet");
            let did = done
                .get(cart)
                .cloned()
                .unwrap_or_else(|| if out_of_reach { verdict.clone() } else { "nothing".into() });
            assert_eq!(*verdict, did, "seed {seed}, cart {cart} at {}:\n{ran}", minute(now));
            *compared.entry(verdict.clone()).or_default() += 1;
        }
        let after = fates(&world);
        for (id, document) in ahead {
            let (state, reason) = &after[&id];
            let did = match state.as_str() {
                "planned" if document["verdict"] == "send" && std::ptr::eq(server, &later) => "send",
                "planned" => "wait",
                "skipped" => "skip",
                _ => "send",
            };
            assert_eq!(
                document["verdict"],
                did,
                "seed {seed}, message {id} at {} {reason:?}:\n{ran}\n{document:#}",
                minute(now)
            );
            if did == "skip" {
                let word = reason.as_deref().unwrap().to_owned();
                assert!(
                    document["answer"].as_str().unwrap().contains(&format!("skips it: {word}")),
                    "{document:#} {word}"
                );
            }
            *compared.entry(format!("message: {did}")).or_default() += 1;
        }
    }
    compared
}

fn played(seeds: std::ops::Range<u64>, rules: impl Fn(World) -> World + Copy) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for seed in seeds {
        for (verdict, times) in explained_is_done(seed, rules) {
            *all.entry(verdict).or_default() += times;
        }
    }
    all
}

#[test]
fn what_is_explained_is_what_the_next_run_does() {
    let compared = played(0..5, |world| world.set("caps.per_person", vec!["2 in 30h"]));
    for verdict in
        ["plan", "email already sent", "superseded", "no consent", "not idle yet", "ordered", "message: send"]
    {
        assert!(compared.get(verdict).is_some_and(|times| *times > 0), "never compared: {verdict} in {compared:?}");
    }
}

#[test]
fn what_is_explained_of_steps_is_what_the_next_run_does() {
    let compared = played(100..105, |world| {
        let steps =
            "[[step]]\nname = 'reminder'\nafter = '60m'\n[[step]]\nname = 'second'\nafter = '24h'\nuntil = '2d'\n";
        let steps: toml::Table = steps.parse().unwrap();
        world
            .set("detect.step", steps["step"].clone())
            .set("holdout.percent", 40)
            .set("holdout.salt", "y")
            .set("send_window.hours", "07:00-22:00")
            .set("send_window.spread", "0m")
    });
    for verdict in ["plan", "waiting for the next step", "held out", "superseded", "message: send"] {
        assert!(compared.get(verdict).is_some_and(|times| *times > 0), "never compared: {verdict} in {compared:?}");
    }
}
