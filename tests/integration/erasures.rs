//! `forget` and `prune`: what goes from a ledger, what stays, and that nobody is written to because of it.

use std::fs;

use crate::support::{Act, Cart, Plan, Ran, Server, Stage, World, definition};

/// Carts of Ada (a user) and of a guest, and a campaign to both and to Bob: sent, refused, in doubt, planned.
fn world(server: &Server) -> World {
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-01 12:30\"")).smtp(server);
    world.audience("audience.csv", "email,name\nada@lovelace.name,Ada\nbob@example.com,Bob\n");
    let ada = |id: &str, sku: &str| {
        Cart::of(id).item(sku, "x", 1, "1").user("user-1815").email("ada@lovelace.name").name("Ada Byron")
    };
    let world = world.carts([ada("basket-a", "A"), Cart::of("c2").email("bob@example.com").user("u2")]).init();
    world.run(["detect"]);
    world.set_now("2026-03-01T12:30:00Z");
    world.run(["run-campaigns"]);
    world
}

/// What the ledger's files hold, byte by byte.
fn bytes(world: &World) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(world.ledger_file().parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        // What it wrote and was to rename, too.
        if name.starts_with("mailonce.db") || name.starts_with(".tmp") {
            all.extend(fs::read(&path).unwrap());
        }
    }
    all.make_ascii_lowercase();
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn around(bytes: &[u8], text: &str) -> String {
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap_or_default();
    String::from_utf8_lossy(&bytes[at.saturating_sub(200)..(at + 200).min(bytes.len())]).into_owned()
}

fn forget(world: &World) -> Ran {
    world.ok(["forget", "Ada@Lovelace.name"])
}

#[test]
fn nothing_in_the_ledgers_files_tells_who_it_was_and_the_books_balance() {
    let plan = Plan::accepting().for_recipient(
        "ada@",
        Stage::Rcpt,
        Act::Reply("550 5.1.1 <ada@lovelace.name> is unknown here"),
    );
    let world = world(&Server::start(plan));
    world.ok(["suppress", "add", "ada@lovelace.name", "--reason", "Ada Byron asked by telephone"]);
    let told = ["ada@lovelace.name", "lovelace", "byron", "user-1815", "basket-a"];
    for text in told {
        assert!(holds(&bytes(&world), text), "{text} is not there before");
    }
    let before = world.ok(["status", "--json"]).json();
    forget(&world).says("Ada@lovelace.name is forgotten: 2 messages").says("1 row of the log of carts");
    for text in told {
        assert!(!holds(&bytes(&world), text), "{text} is still there: {}", around(&bytes(&world), text));
    }
    assert_eq!(world.ok(["status", "--json"]).json()["states"], before["states"]);
    world.ok(["audit"]).is_silent();
    world.ok(["campaign", "show", "spring"]);
    world.ok(["log"]).says("@forgotten.invalid");
    // It can be repeated, and nobody else is touched.
    forget(&world).says("the ledger knows of no mail to it, so look whether it is spelt right");
    assert_eq!(world.number("SELECT count(*) FROM message WHERE recipient = 'bob@example.com'"), 2);
}

#[test]
fn whoever_is_forgotten_gets_nothing_more_until_taken_back_and_then_only_about_what_came_after() {
    let server = Server::start(Plan::accepting());
    let world = world(&server);
    let to_ada = || server.recipients().iter().filter(|to| to.starts_with("ada@")).count();
    assert_eq!(to_ada(), 2);
    forget(&world);
    let at = |cart: &str, updated: &str| {
        Cart::of(cart).item(cart, "x", 1, "1").user("user-1815").email("ada@lovelace.name").updated(updated)
    };
    world.put(at("b", "2026-03-05T08:00:00Z"));
    world.define(&definition("summer", "at = \"2026-03-05 12:00\""));
    world.campaigns_at("2026-03-05T12:00:00Z", 0);
    world.ok(["detect"]);
    assert_eq!(to_ada(), 2, "a person who is forgotten was written to");
    assert_eq!(world.number("SELECT count(*) FROM message WHERE reason = 'suppressed'"), 1, "the campaign's");
    world.ok(["audit"]).is_silent();
    // Also where the shop lists her again.
    world.ok(["suppress", "add", "ada@lovelace.name"]);
    assert!(!holds(&bytes(&world), "lovelace"), "the address is back");

    world.set_now("2026-03-05T13:00:00Z");
    world.ok(["suppress", "remove", "ada@lovelace.name", "--reason", "she wants mail again"]);
    world.set_now("2026-03-05T18:00:00Z");
    world.ok(["detect"]);
    assert_eq!(to_ada(), 2, "about a cart from before");
    world.put(at("c", "2026-03-05T14:00:00Z"));
    world.ok(["detect"]);
    assert_eq!(to_ada(), 3);
    world.ok(["audit"]).is_silent();
}

#[test]
fn a_copy_that_is_put_back_forgets_again() {
    let server = Server::start(Plan::accepting());
    let world = world(&server);
    world.ledger().execute("VACUUM INTO ?1", [world.path("copy").to_str().unwrap()]).unwrap();
    world.set_now("2026-03-01T13:00:00Z");
    forget(&world);
    world.ok(["detect"]);
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", world.ledger_file().display()));
    }
    fs::rename(world.path("copy"), world.ledger_file()).unwrap();
    assert!(holds(&bytes(&world), "lovelace"));
    world.exits(74, ["detect"]);
    world.ok(["resolve", "--restored", "--hold-back"]);
    assert!(!holds(&bytes(&world), "lovelace"), "the copy knows her again");
    world.ok(["audit"]).is_silent();
}

#[test]
fn what_is_planned_to_a_person_who_is_forgotten_is_not_sent() {
    let server = Server::start(Plan::accepting().for_recipient("ada@", Stage::Rcpt, Act::Reply("451 4.3.0 later")));
    let world = world(&server);
    assert_eq!(world.states()["planned"], 2);
    forget(&world).says("2 of them planned");
    world.set_now("2026-03-01T14:00:00Z");
    let second = Server::start(Plan::accepting());
    world.send_to(&second);
    world.ok(["detect"]);
    world.ok(["run-campaigns"]);
    assert_eq!(second.accepted().len(), 0);
    world.ok(["audit"]).is_silent();
}

#[test]
fn pruning_deletes_what_is_settled_and_keeps_the_counts_and_the_promise() {
    let server = Server::start(Plan::accepting());
    let world = world(&server);
    let counts = |world: &World| {
        let status = world.ok(["status", "--json"]).json();
        let shown = world.ok(["campaign", "show", "spring", "--json"]).json();
        (status["states"].clone(), status["by_reason"].clone(), shown["occurrences"][0]["messages"].clone())
    };
    let before = counts(&world);
    world.exits(2, ["prune", "--older-than", "89d"]).says("90 days at least");
    world.set_now("2026-05-01T12:00:00Z");
    world.ok(["prune", "--older-than", "90d"]).says("0 messages deleted");
    world.set_now("2026-07-01T12:00:00Z");
    // The lock file remembers what the newest run began.
    world.ok(["prune", "--older-than", "90d", "--dry-run"]).says("2 messages would be deleted").says("2 messages kept");
    world.ok(["detect"]);
    world.ok(["prune", "--older-than", "90d", "--dry-run"]).says("4 messages would be deleted");
    assert_eq!(world.number("SELECT count(*) FROM message"), 4);
    world.ok(["prune", "--older-than", "90d"]).says("4 messages deleted");
    for table in ["message", "attempt", "cart_abandonment_log", "report"] {
        assert_eq!(world.number(&format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }
    assert_eq!(counts(&world), before);
    world.ok(["audit"]).is_silent();
    // Not even a rule that reaches back for years finds the carts again.
    world.configure("detect.max_age", "3650d");
    world.configure("detect.since", "2020-01-01T00:00:00Z");
    world.ok(["detect"]);
    world.ok(["run-campaigns"]);
    assert_eq!(server.accepted().len(), 4);
    world.ok(["audit"]).is_silent();
}

#[test]
fn pruning_that_is_killed_goes_on_and_what_is_open_stays() {
    let plan = Plan::accepting().for_recipient("ada@", Stage::Taken, Act::Close);
    let world = world(&Server::start(plan));
    world.has([("in_doubt", 2), ("sent", 2)]);
    world.set_now("2026-07-01T12:00:00Z");
    world.run(["detect"]);
    // As a kill after the first commit leaves it.
    world.by_hand("UPDATE ledger SET pruned_to = '2026-04-02T12:00:00Z'");
    world.ok(["audit"]).is_silent();
    world.ok(["prune", "--older-than", "90d"]).says("2 messages deleted");
    world.has([("in_doubt", 2)]);
    world.ok(["audit"]).is_silent();
}

#[test]
fn an_episode_of_two_addresses_is_forgotten_whole_and_stops_nobody_else() {
    let steps = "[[step]]\nname = 'one'\nafter = '60m'\nsubject = 'First'\n[[step]]\nname = 'two'\nafter = '24h'\nsubject = 'Second'\n\
                 [[step]]\nname = 'three'\nafter = '48h'\nsubject = 'Third'\n";
    let steps: toml::Table = steps.parse().unwrap();
    for whom in ["ada@example.com", "ada.new@example.com"] {
        let server = Server::start(Plan::accepting());
        let cart = Cart::of("c1").user("u1").email("ada@example.com").item("A", "x", 1, "1");
        let world = World::new()
            .cart(cart)
            .smtp(&server)
            .set("detect.max_age", "5d")
            .set("detect.step", steps["step"].clone())
            .init();
        world.ok(["detect"]);
        world.change("c1", |cart| cart.email("ada.new@example.com"));
        world.set_now("2026-03-02T12:00:00Z");
        world.ok(["detect"]);
        assert_eq!(server.recipients(), ["ada.new@example.com", "ada@example.com"]);
        world.ok(["forget", whom]);
        world.ok(["audit"]).is_silent();
        world.put(Cart::of("c2").email("bob@example.com").item("B", "x", 1, "1").updated("2026-03-03T08:00:00Z"));
        world.set_now("2026-03-03T12:00:00Z");
        world.run(["detect"]);
        assert!(server.recipients().contains(&"bob@example.com".to_owned()), "{whom}: nobody else is written to");
        world.ok(["audit"]).is_silent();
    }
}

#[test]
fn a_forgotten_recipient_whose_campaign_is_retried_stops_nobody_else() {
    let plan = Plan::accepting().at(Stage::Rcpt, Act::Reply("550 5.7.1 not now"));
    let world = world(&Server::start(plan));
    forget(&world);
    world.run(["campaign", "retry", "spring", "--state", "refused"]);
    let second = Server::start(Plan::accepting());
    world.send_to(&second);
    world.run(["run-campaigns"]);
    assert_eq!(second.recipients(), ["bob@example.com"]);
    world.ok(["audit"]).is_silent();
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn killed_at_any_call_it_is_told_that_traces_are_left_and_the_same_again_ends_it() {
    use crate::support::trace::is_killed_at;

    /// Every call would take a quarter of an hour.
    const STEP: usize = 31;
    let (mut at, mut told) = (1, 0);
    loop {
        let server = Server::start(Plan::accepting());
        let world = world(&server);
        world.ok(["suppress", "add", "ada@lovelace.name", "--reason", "Ada Byron asked by telephone"]);
        world.ok(["suppress", "remove", "ada@lovelace.name", "--reason", "Ada Byron asked again"]);
        let states = world.states();
        if !is_killed_at(at, world.command(["forget", "ada@lovelace.name"])) {
            break;
        }
        assert_eq!(world.list("PRAGMA integrity_check"), "ok", "call {at}");
        world.ok(["audit"]).is_silent();
        let is_forgotten = world.number("SELECT count(*) FROM forgotten WHERE pseudonym NOT GLOB 'u:*'") == 1;
        let has_traces = holds(&bytes(&world), "lovelace");
        world.put(Cart::of("b").email("ada@lovelace.name").item("B", "x", 1, "1").updated("2026-03-01T11:31:00Z"));
        world.set_now("2026-03-01T13:00:00Z");
        let run = world.run(["detect"]);
        let is_told = run.stderr.contains("`mailonce forget` was interrupted");
        assert!(is_told || !is_forgotten || !has_traces, "call {at}");
        assert_eq!(to_ada(&server), if is_forgotten { 2 } else { 3 }, "call {at}");
        told += u32::from(is_told);
        forget(&world);
        assert!(!holds(&bytes(&world), "lovelace"), "call {at}: {}", around(&bytes(&world), "lovelace"));
        world.ok(["audit"]).is_silent();
        assert!(!world.ok(["status"]).stdout.contains("interrupted"), "call {at}");
        if is_forgotten {
            assert_eq!(world.states(), states, "call {at}");
        }
        at += STEP;
    }
    assert!(at > 500 && told > 2, "{at} calls, {told} told");
}

fn to_ada(server: &Server) -> usize {
    server.recipients().iter().filter(|to| to.starts_with("ada")).count()
}

#[test]
fn an_account_is_forgotten_with_its_address_and_taken_back_with_it() {
    let server = Server::start(Plan::accepting());
    let world = world(&server);
    forget(&world);
    // The same shopper, about the same cart, at an address of which nothing is known.
    world.change("basket-a", |cart| cart.email("ada@byron.example"));
    world.set_now("2026-03-01T12:31:00Z");
    world.ok(["detect"]);
    assert_eq!(to_ada(&server), 2, "a person who is forgotten was written to at another address");
    world.ok(["suppress", "remove", "ada@lovelace.name", "--reason", "she wants mail again"]);
    world.set_now("2026-03-01T18:00:00Z");
    world.ok(["detect"]);
    assert_eq!(to_ada(&server), 2, "about a cart from before");
    world.touch("basket-a", "2026-03-01T14:00:00Z");
    world.change("basket-a", |cart| cart.item("Z", "x", 1, "1"));
    world.ok(["detect"]);
    assert_eq!(to_ada(&server), 3);
    world.ok(["audit"]).is_silent();
}

/// Puts back a copy that `at` makes of the ledger, once `then` was done.
fn put_back(world: &World, then: &[&[&str]]) {
    let copy = world.path("copy");
    world.ledger().execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    for command in then {
        world.ok(*command);
    }
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", world.ledger_file().display()));
    }
    fs::rename(copy, world.ledger_file()).unwrap();
    world.exits(74, ["detect"]);
    world.ok(["resolve", "--restored", "--hold-back"]);
    world.ok(["audit"]).is_silent();
}

#[test]
fn after_a_restored_copy_the_last_word_counts() {
    const FORGET: &[&str] = &["forget", "ada@lovelace.name"];
    const TAKE_BACK: &[&str] = &["suppress", "remove", "ada@lovelace.name", "--reason", "she wants mail again"];
    const RUN: &[&str] = &["detect"];
    for (before, then, mails) in
        [(&[FORGET, TAKE_BACK][..], &[FORGET, RUN][..], 2), (&[], &[FORGET, TAKE_BACK, RUN], 3)]
    {
        let server = Server::start(Plan::accepting());
        let world = world(&server);
        for (minute, command) in before.iter().enumerate() {
            world.set_now(&format!("2026-03-01T12:3{}:00Z", minute + 1));
            world.ok(*command);
        }
        world.set_now("2026-03-01T12:40:00Z");
        put_back(&world, then);
        world.put(Cart::of("later").item("L", "x", 1, "1").email("ada@lovelace.name").updated("2026-03-01T13:00:00Z"));
        world.set_now("2026-03-01T15:00:00Z");
        world.ok(["detect"]);
        assert_eq!(to_ada(&server), mails, "{before:?} {then:?}");
    }
}

#[test]
fn two_spellings_that_become_one_are_counted_once() {
    let world = world(&Server::start(Plan::accepting()));
    forget(&world);
    world.ok(["suppress", "remove", "ada@lovelace.name", "--reason", "x"]);
    world.ok(["suppress", "add", "ada@lovelace.name"]);
    forget(&world);
    world.ok(["audit"]).is_silent();
    assert_eq!(world.ok(["status", "--json"]).json()["suppressed_addresses"], 1);
}

#[test]
fn a_reader_beside_it_is_told_of_for_traces_would_stay() {
    let world = world(&Server::start(Plan::accepting()));
    let reader = world.ledger();
    reader.execute_batch("BEGIN; SELECT count(*) FROM message").unwrap();
    let ran = world.exits(74, ["forget", "ada@lovelace.name"]);
    ran.says("another program reads").says("traces of them are left");
    drop(reader);
    forget(&world);
    assert!(!holds(&bytes(&world), "lovelace"));
}

#[test]
fn rows_of_an_older_system_go_with_the_account() {
    let world = world(&Server::start(Plan::accepting()));
    world.by_hand(
        "INSERT INTO cart_abandonment_log (identity, user_id, cart_id, cart_hash, created_at, origin, old_id)
         VALUES ('u:user-1815', 'user-1815', 'basket-old', 'x', '2025-01-01T00:00:00Z', 'x', 'k9')",
    );
    world.by_hand(
        "INSERT INTO notice VALUES ('x', 'bad row', 'joada@lovelace.name is none', '2026-03-01T12:00:00Z', '')",
    );
    world
        .by_hand("INSERT INTO notice VALUES ('y', 'bad row', 'ada@lovelace.name is none', '2026-03-01T12:00:00Z', '')");
    forget(&world);
    let all = bytes(&world);
    assert!(!holds(&all, "basket-old") && !holds(&all, "user-1815"));
    assert_eq!(world.number("SELECT count(*) FROM notice WHERE line GLOB 'joada*'"), 1, "another's");
    assert_eq!(world.number("SELECT count(*) FROM notice"), 1);
}

#[test]
fn what_came_back_lately_keeps_its_message_from_being_pruned() {
    let world = world(&Server::start(Plan::accepting()));
    world.set_now("2026-06-20T12:00:00Z");
    world.by_hand(
        "INSERT INTO report (digest, received_at, message, class, folded_address)
         SELECT x'aa', '2026-06-20T12:00:00Z', id, 'soft', folded_address FROM message WHERE cart_id = 'c2'",
    );
    world.ok(["detect"]);
    world.set_now("2026-07-01T12:00:00Z");
    world.ok(["prune", "--older-than", "90d"]).says("3 messages deleted").says("1 message kept");
    world.ok(["audit"]).is_silent();
    world.set_now("2026-12-01T12:00:00Z");
    world.ok(["prune", "--older-than", "90d"]).says("1 message deleted");
    world.ok(["audit"]).is_silent();
}
