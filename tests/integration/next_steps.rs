//! The morning after: each line that a person reads says what is so, and what to type next, and that does what it says.

use crate::support::{Act, Cart, Plan, Server, Stage, World, definition};

/// The command of a line such as `… Run: mailonce resolve`, split into words.
fn command_in(text: &str, begins: &str) -> Vec<String> {
    let at = text.find(begins).unwrap_or_else(|| panic!("no {begins:?} in {text}"));
    let line = text[at..].lines().next().unwrap();
    let end = line[1..].find(['`', ';', ',']).map_or(line.len(), |end| end + 1);
    line[..end].replace("\"…\"", "x").split_whitespace().skip(1).map(str::to_owned).collect()
}

fn verdict(world: &World) -> String {
    world.ok(["status"]).output().lines().next().unwrap().to_owned()
}

#[test]
fn after_an_outage_the_printed_command_sends_what_waits_at_once() {
    let down =
        Server::start(Plan::accepting().at(Stage::Banner, Act::Reply("421 4.3.2 c1@example.com is down for repair")));
    let world = World::new().cart(Cart::of("c1")).smtp(&down).init();
    let ran = world.exits(1, ["detect"]);
    let up = Server::start(Plan::accepting());
    world.send_to(&up);
    world.set_now("2026-03-01T12:00:30Z");
    world.ok(["detect"]);
    assert_eq!(up.accepted().len(), 0, "they wait");
    let status = world.ok(["status"]);
    status.says("waiting").says("1  the first until 2026-03-01T12:0").says("is down for repair");
    assert!(!status.output().contains("c1@example.com is"), "{status}");
    let json = world.ok(["status", "--json"]).json();
    assert_eq!((&json["waiting"]["cart"]["messages"], &json["due"]["cart"]), (&1.into(), &0.into()));
    let command = command_in(&ran.output(), "mailonce detect --retry-now");
    assert_eq!(world.ok([&command[..], &["--json".to_owned()]].concat()).json()["retried_now"], 1);
    assert_eq!(up.accepted().len(), 1);
    world.ok(["detect", "--retry-now"]).is_silent();
    assert_eq!(up.accepted().len(), 1, "nothing waits any more");
}

#[test]
fn a_campaign_can_be_tried_at_once_without_another() {
    let busy = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply("451 4.7.1 later")));
    let both = definition("one", "at = \"2026-03-01 12:00\"") + &definition("two", "at = \"2026-03-01 12:00\"");
    let world = World::with_campaigns(&both).smtp(&busy).init();
    world.ok(["run-campaigns"]);
    let waiting = world.states()["planned"];
    let up = Server::start(Plan::accepting());
    world.send_to(&up);
    world.ok(["run-campaigns", "--retry-now", "--campaign", "one"]);
    assert_eq!(up.accepted().len() * 2, waiting);
    world.ok(["run-campaigns", "--retry-now"]);
    assert_eq!(up.accepted().len(), waiting);
}

#[test]
fn status_begins_with_a_verdict_and_the_command_to_go_on_with() {
    let server = Server::start(Plan::accepting());
    let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
    assert_eq!(verdict(&world), "Nothing has run yet. Run: mailonce detect --dry-run");
    world.ok(["detect"]);
    world.set_now("2026-03-01T12:00:40Z");
    assert_eq!(verdict(&world), "All well: last run 40s ago, nothing waits for you.");
    assert_eq!(world.ok(["status", "--json"]).json()["verdict"]["well"], true);
    world.set_now("2026-03-01T15:00:00Z");
    assert_eq!(verdict(&world), "The last run was 3h 0m ago: is cron running? Run: mailonce doctor");
}

#[test]
fn what_is_in_doubt_leads_to_resolve_and_that_to_a_command_by_a_short_id() {
    let server = Server::start(Plan::accepting().at(Stage::Taken, Act::Close));
    let world = World::new().carts(["c1", "c2"].map(Cart::of)).smtp(&server).init();
    world.exits(1, ["detect"]);
    assert_eq!(
        verdict(&world),
        "You must decide: 2 messages in doubt since 2026-03-01T12:00:00Z. Run: mailonce resolve"
    );
    let list = world.ok(command_in(&verdict(&world), "mailonce resolve"));
    let command = command_in(&list.output(), "mailonce resolve --mail-log");
    assert_eq!(command, ["resolve", "--mail-log", "/var/log/mail.log"]);
    let by_hand = list.output().lines().find(|line| line.contains("--sent")).unwrap().to_owned();
    world.ok(command_in(&by_hand, "mailonce resolve")).says("1 message settled");
    world.has([("in_doubt", 1), ("sent", 1)]);
    assert_eq!(
        verdict(&world),
        "You must decide: 1 message in doubt since 2026-03-01T12:00:00Z. Run: mailonce resolve"
    );
    world.ok(["resolve", "--state", "in_doubt", "--since", "2h", "--sent", "--reason", "x"]);
    world.has([("sent", 2)]);
}

#[test]
fn what_a_killed_run_had_begun_is_shown_before_the_next_run_finds_it() {
    let server = Server::start(Plan::accepting().at(Stage::Taken, Act::Hang));
    let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
    let run = world.spawn(["detect"]);
    server.wait_for(Stage::Taken, 1);
    run.kill();
    server.release();
    assert!(
        verdict(&world).starts_with("A run was killed: 1 message in doubt from the next run on."),
        "{}",
        verdict(&world)
    );
    world.ok(["resolve"]).says("0 messages in doubt").says("1 message more begun by a run that was killed");
}

#[test]
fn refused_ones_are_planned_again_by_state_and_time() {
    let server = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply("550 5.1.1 unknown")));
    let world = World::new().carts(["c1", "c2"].map(Cart::of)).smtp(&server).init();
    world.run(["detect"]);
    world.has([("refused", 2)]);
    let list = world.ok(["log", "--state", "refused"]);
    list.says("refused, to be tried again: mailonce resolve ");
    world.exits(2, ["resolve", "--state", "refused", "--sent", "--reason", "x"]);
    world.set_now("2026-03-01T13:30:00Z");
    world
        .ok(["resolve", "--state", "refused", "--since", "1h", "--resend", "--reason", "x"])
        .says("0 messages settled");
    world
        .ok(["resolve", "--state", "refused", "--since", "2h", "--resend", "--reason", "x"])
        .says("2 messages settled");
    world.has([("planned", 2)]);
}

#[test]
fn a_short_id_that_means_nothing_or_several_settles_nothing() {
    let server = Server::start(Plan::accepting().at(Stage::Taken, Act::Close));
    let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
    world.exits(1, ["detect"]);
    let ledger = rusqlite::Connection::open(world.ledger_file()).unwrap();
    let id = world.message().message_id.unwrap();
    for name in ["0000000", "ffffffffffffffffffffffffffffffff0", "%", &id[1..8]] {
        world.exits(65, ["resolve", name, "--sent", "--reason", "x"]).says("there is no message");
    }
    // Another with the same first digits.
    let triggers = "SELECT group_concat('DROP TRIGGER ' || name, ';') FROM sqlite_schema WHERE type = 'trigger'";
    let drop: String = ledger.query_row(triggers, [], |row| row.get(0)).unwrap();
    ledger.execute_batch(&drop).unwrap();
    let columns =
        "kind, state, armed_at, settled_at, epoch, recipient, folded_address, planned_at, not_before, expires_at,
        identity, cart_hash, cart_touched_at";
    ledger
        .execute(
            &format!(
                "INSERT INTO message (message_key, episode, message_id, cart_id, {columns})
                 SELECT 'another', 'another', substr(message_id, 1, 20) || 'x>', 'c2', {columns} FROM message"
            ),
            [],
        )
        .unwrap();
    world.exits(65, ["resolve", &id[1..9], "--sent", "--reason", "x"]).says("may mean several messages");
    world.has([("in_doubt", 2)]);
}

#[test]
fn every_cart_has_a_line_with_its_id_and_its_hash() {
    let server = Server::start(Plan::accepting());
    let world = World::new()
        .cart(Cart::of("sent"))
        .cart(Cart::of("old").updated("2026-02-01T12:00:00Z"))
        .cart(Cart::of("fresh").updated("2026-03-01T11:59:00Z"))
        .cart(Cart::of("refusing").consent(Some(false)))
        .smtp(&server)
        .init();
    let ran = world.ok(["detect", "-v"]);
    for line in [
        "Planning cart ",
        "... (cart sent)",
        "as processed (cart sent)",
        "... - not idle yet (cart fresh)",
        "... - no consent (cart refusing)",
    ] {
        ran.says(line);
    }
    world.ok(["detect", "-v"]).says("... - email already sent (cart sent)");
}

#[test]
fn whoever_types_a_command_gets_a_line_into_a_pipe_too() {
    let world =
        World::with_campaigns(&definition("weekly", "every = \"week\"\non = \"monday\"\ntime = \"09:00\"")).init();
    world.ok(["suppress", "add", "ada@example.com"]).says("1 address added, 0 listed already");
    world.ok(["suppress", "remove", "ada@example.com"]).says("1 address removed");
    world.ok(["suppress", "list"]).says("the list is empty");
    world.ok(["campaign", "pause", "weekly"]).says("weekly is paused");
    world.ok(["campaign", "resume", "weekly"]).says("weekly goes on");
    let lock = std::fs::File::open(world.path("mailonce.db.lock")).unwrap();
    lock.lock().unwrap();
    world.exits(75, ["resolve", "--all", "--sent", "--reason", "x"]).says("another run");
    world.exits(75, ["detect"]).is_silent();
    lock.unlock().unwrap();
}

#[test]
fn a_test_goes_to_one_address_and_is_counted_nowhere() {
    let server = Server::start(Plan::accepting());
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-05 09:00\""))
        .cart(Cart::of("c1"))
        .smtp(&server)
        .init();
    let before = world.report_of_ledger();
    world.ok(["detect", "--test-to", "me@shop.example"]).says("sent a test to me@shop.example, counted nowhere: 250");
    world.ok(["campaign", "test", "spring", "--to", "me@shop.example"]).says("sent a test");
    world.exits(2, ["campaign", "test", "autumn", "--to", "me@shop.example"]).says("no campaign");
    assert_eq!(server.recipients(), ["me@shop.example", "me@shop.example"]);
    for message in server.accepted() {
        assert!(message.header("Subject").unwrap().starts_with("[test] "), "{}", message.text());
    }
    assert_ne!(server.accepted()[0].message_id, server.accepted()[1].message_id);
    assert_eq!(world.report_of_ledger(), before);
    world.ok(["detect"]);
    assert_eq!(server.recipients().len(), 3, "the shopper's own is sent all the same");
    let refusing = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply("550 5.1.1 unknown")));
    world.send_to(&refusing);
    world.exits(1, ["detect", "--test-to", "me@shop.example"]).says("was not sent: 550").says("doctor");
}

#[test]
fn a_campaign_is_previewed_and_read_before_it_is_added() {
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-05 09:00\"")).init();
    world.ok(["preview", "campaign", "spring", "--out", "shown"]).says("Subject: ");
    assert!(world.path("shown/message.html").exists());
    world.exits(2, ["preview", "campaign", "autumn"]).says("no campaign");
    let add = ["campaign", "add", "autumn", "--subject", "S", "--template", "letter.html", "--at", "2026-10-01 09:00"];
    let before = std::fs::read_to_string(world.path("campaigns.toml")).unwrap();
    std::fs::write(world.path("broken.html"), "Hello {{ nmae }}").unwrap();
    let broken = add.map(|word| if word == "letter.html" { "broken.html" } else { word });
    world
        .exits(78, [&broken[..], &["--audience", "audience.csv"]].concat())
        .says("cannot be rendered")
        .says("kept: nothing was written");
    assert_eq!(std::fs::read_to_string(world.path("campaigns.toml")).unwrap(), before);
    // An audience may be uploaded later.
    let later = [&add[..], &["--audience", "later.csv"]].concat();
    world.ok(later).says("added autumn").says("not ready yet: could not read the audience");
}

#[test]
fn doctor_names_what_a_first_set_up_forgets() {
    let often = definition("often", "cron = \"* * * * *\"") + &definition("past", "at = \"2026-01-01 09:00\"");
    let world = World::with_campaigns(&often).init();
    world.configure("shop.name", "Example Shop");
    let ran = world.run(["doctor"]);
    ran.says("shop.name, mail.from as `mailonce init` wrote")
        .says("often runs every 1m")
        .says("past has never run and never will");
    std::fs::remove_file(world.path("audience.csv")).unwrap();
    world.run(["doctor"]).says("often: could not read the audience");
    world.configure("mail.unsubscribe", "https://shop.example/stop?who={address}");
    world
        .exits(78, ["status"])
        .says("unknown placeholder")
        .says("only {unsubscribe}, {token} and {email} are filled in");
}

#[test]
fn for_programs_each_line_on_stderr_is_one_json_object() {
    let server = Server::start(Plan::accepting());
    let world = World::new().cart(Cart::of("c1")).cart(Cart::of("bad").currency("EURO")).smtp(&server).init();
    let lines = |ran: &crate::support::Ran| -> Vec<serde_json::Value> {
        ran.stderr
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|err| panic!("{line}: {err}")))
            .collect()
    };
    let ran = world.exits(1, ["detect", "-v", "--log-format", "json"]);
    let all = lines(&ran);
    let level_of = |words: &str| {
        let line = all.iter().find(|line| line["message"].as_str().unwrap().contains(words));
        line.unwrap_or_else(|| panic!("{words:?} in {ran}"))["level"].clone()
    };
    assert_eq!(level_of("as processed (cart c1)"), "info");
    assert_eq!(level_of("row skipped"), "warning");
    std::fs::remove_file(world.ledger_file()).unwrap();
    let failed = lines(&world.exits(78, ["detect", "--log-format", "json"]));
    assert_eq!((&failed[0]["level"], &failed[0]["exit"]), (&"error".into(), &78.into()));
    assert!(failed[0]["next"].as_str().unwrap().contains("mailonce init"));
}

#[cfg(target_os = "linux")]
#[test]
fn help_that_cannot_be_written_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status =
        std::process::Command::new(env!("CARGO_BIN_EXE_mailonce")).arg("--help").stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(74));
}

#[test]
fn a_campaign_is_taken_out_of_the_file_and_the_rest_stays_as_it_is() {
    let server = Server::start(Plan::accepting());
    let one = format!("# The spring letter.\n{}", definition("spring", "at = \"2026-03-01 12:00\""));
    let two = format!(
        "# Every week, {{{{ name }}}}!\n{}\n# The end.\n",
        definition("weekly", "every = \"week\"\non = \"monday\"\ntime = \"09:00\"")
    );
    let world = World::with_campaigns(&format!("{one}\n{two}")).smtp(&server).init();
    let file = world.path("campaigns.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    world.exits(2, ["campaign", "remove", "autumn"]).says("no campaign");
    // Nothing that is still to be sent is cancelled on the way.
    let deferring = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply("451 4.3.0 later")));
    world.send_to(&deferring);
    world.ok(["run-campaigns"]);
    world.set_now("2026-03-02T09:00:00Z");
    world.run(["run-campaigns"]);
    for id in ["spring", "weekly"] {
        let says = format!("campaign cancel {id}");
        world.exits(2, ["campaign", "remove", id]).says("to send").says(&says).says("kept: nothing was written");
    }
    world.send_to(&server);
    world.ok(["run-campaigns", "--retry-now"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    world.ok(["campaign", "remove", "spring"]).says("removed spring");
    let after = std::fs::read_to_string(&file).unwrap();
    assert!(!after.contains("spring") && before.ends_with(after.trim_start()), "{after}");
    world.ok(["run-campaigns"]).is_silent();
    world.ok(["campaign", "list"]).says("cancelled");
}

#[test]
fn a_command_that_is_shown_names_the_configuration_that_was_named() {
    let world = World::new().init();
    world.ok(["status", "--config", "mailonce.toml"]).says("Run: mailonce --config mailonce.toml detect --dry-run");
    world.ok(["status"]).says("Run: mailonce detect --dry-run");
    let refused = world.exits(65, ["log", "0237dc7e", "--config", "mailonce.toml"]);
    refused.says("there is no message 0237dc7e").says("`mailonce --config mailonce.toml log` lists them");
    let world = world.env("MAILONCE_CONFIG", "mailonce.toml");
    world.ok(["status"]).says("Run: mailonce detect --dry-run");
}

#[test]
fn log_takes_the_ids_that_it_lists() {
    let world = World::new().carts(["c1", "c2", "c3"].map(Cart::of)).init();
    world.ok(["detect"]);
    let all = world.ok(["log"]);
    let ids: Vec<&str> = all.stdout.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(ids.len(), 3, "{all}");
    let one = world.ok(["log", ids[1]]);
    assert!(one.stdout.contains(ids[1]) && !one.stdout.contains(ids[0]), "{one}");
    assert_eq!(world.ok(["log", ids[0], ids[2], "--json"]).json()["messages"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_kept_of_an_outage_counts_what_waits_too() {
    let server = Server::start(Plan::accepting());
    let world = World::new().carts((1..=6).map(|n| Cart::of(&format!("c{n}")))).smtp(&server).init();
    drop(server);
    for minute in ["12:00", "12:01", "12:02"] {
        world.set_now(&format!("2026-03-01T{minute}:00Z"));
        world.exits(1, ["detect"]).says("kept: 0 messages sent and recorded; 6 not sent, still planned");
    }
}

#[test]
fn the_reason_of_a_pasted_command_is_a_persons_own() {
    let server = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Code(550)));
    let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
    world.ok(["detect"]);
    let again = ["resolve", "--state", "refused", "--since", "24h", "--resend", "--reason"];
    world.exits(2, [&again[..], &["…"]].concat()).says("put your own words in the place of the …");
    world.ok([&again[..], &["a new box"]].concat()).says("1 message settled");
}
