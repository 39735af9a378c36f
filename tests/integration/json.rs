//! `--json`: every command has one document, also where it fails, and a schema in `docs/schema/`.

use std::collections::BTreeSet;
use std::fs;

use crate::support::{Act, Cart, Plan, Server, Stage, World, definition, people, schemas};

/// A world in which there is something to say about everything.
fn world(server: &Server) -> World {
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-01 12:30\"")).smtp(server);
    world.audience("audience.csv", &people(3));
    let cart = |id: &str, sku: &str| Cart::of(id).item(sku, "x", 1, "1").email(&format!("{id}@example.com"));
    let world = world.set("mail.unsubscribe", "https://shop.example/u/{unsubscribe}").carts([
        cart("c1", "A"),
        cart("c2", "B"),
        cart("c3", "C"),
        cart("c4", "D"),
    ]);
    world.write("codes.csv", "code\nA1\nB2\n");
    world.init()
}

#[test]
fn every_command_says_what_its_schema_says() {
    let plan = Plan::accepting()
        .for_recipient("c2@", Stage::Rcpt, Act::Reply("550 5.1.1 no such user"))
        .for_recipient("c3@", Stage::Taken, Act::Close)
        .for_recipient("r3@", Stage::Rcpt, Act::Reply("451 4.3.0 later"));
    let server = Server::start(plan);
    let world = world(&server);
    let mut said = BTreeSet::new();
    let mut json = |arguments: &[&str]| {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let document = world.run(&arguments).json();
        said.insert(document["schema"].as_str().unwrap().to_owned());
        document
    };
    json(&["detect", "--dry-run"]);
    json(&["detect", "--test-to", "me@example.com"]);
    json(&["detect"]);
    json(&["resolve"]);
    json(&["resolve", "--state", "refused", "--since", "2h", "--resend", "--reason", "a mistake"]);
    world.write("mail.log", "");
    json(&["resolve", "--mail-log", "mail.log"]);
    json(&["run-campaigns", "--dry-run"]);
    world.set_now("2026-03-01T12:30:00Z");
    json(&["run-campaigns"]);
    json(&["status"]);
    json(&["log"]);
    json(&["campaign", "list"]);
    json(&["campaign", "show", "spring"]);
    json(&["campaign", "pause", "spring"]);
    json(&["campaign", "resume", "spring"]);
    json(&["campaign", "retry", "spring", "--state", "refused"]);
    json(&[
        "campaign",
        "add",
        "summer",
        "--subject",
        "S",
        "--template",
        "letter.html",
        "--audience",
        "audience.csv",
        "--at",
        "2027-01-01 09:00",
    ]);
    json(&["campaign", "remove", "summer"]);
    json(&["campaign", "test", "spring", "--to", "me@example.com"]);
    json(&["campaign", "cancel", "spring"]);
    json(&["suppress", "add", "x@example.com"]);
    json(&["suppress", "list"]);
    json(&["suppress", "remove", "x@example.com"]);
    json(&["import", "suppressions", "audience.csv"]);
    json(&["metrics"]);
    json(&["rates"]);
    json(&["audit"]);
    json(&["doctor"]);
    json(&["preview", "c1", "--out", "seen"]);
    json(&["preview", "--campaign", "spring", "--out", "seen"]);
    json(&["source", "carts"]);
    json(&["cleanup-duplicates", "--dry-run"]);
    json(&["cleanup-duplicates", "--restore"]);
    json(&["add-index"]);
    json(&["unsubscribe", "rotate"]);
    json(&["bounces"]);
    json(&["prune", "--older-than", "2y", "--dry-run"]);
    json(&["forget", "r1@example.com"]);
    json(&["recovered"]);
    json(&["report"]);
    json(&["init"]);
    // What cannot be had is null, and no field is left out.
    world.write("letter.html", "{{ no_such }}");
    world.define(&definition("winter", "at = \"2026-03-01 13:30\""));
    json(&["run-campaigns", "--dry-run"]);
    json(&["campaign", "list"]);
    json(&["log"]);
    json(&["campaign", "show", "spring"]);
    let described: BTreeSet<String> = fs::read_dir(schemas::folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().trim_end_matches(".json").to_owned())
        .collect();
    let said: BTreeSet<String> =
        said.iter().map(|name| name.trim_start_matches("mailonce/").trim_end_matches("/1").to_owned()).collect();
    assert!(said.is_subset(&described), "without a schema: {:?}", said.difference(&described));
    for name in ["detect-test", "campaign-test", "campaign-pause", "campaign-resume", "campaign-cancel"] {
        assert!(said.contains(name), "{name}");
    }
}

/// Every name that the program gives a document has a schema, and every schema is of one.
#[test]
fn every_document_of_the_program_has_a_schema() {
    fn names(folder: &std::path::Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                names(&entry.path(), found);
                continue;
            }
            let text = fs::read_to_string(entry.path()).unwrap();
            for after in text.split(".document(").skip(1) {
                if let Some(name) = after.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                    found.insert(format!("{name}.json"));
                }
            }
        }
    }
    // Those that are passed on by the command that prints them.
    let passed_on = [
        "log-line",
        "detect",
        "run-campaigns",
        "detect-test",
        "campaign-test",
        "campaign-pause",
        "campaign-resume",
        "campaign-cancel",
    ];
    let mut found: BTreeSet<String> = passed_on.iter().map(|name| format!("{name}.json")).collect();
    names(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
    let described: BTreeSet<String> = fs::read_dir(schemas::folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(found, described, "documents, and schemas");
}

#[test]
fn a_list_of_any_length_comes_as_lines() {
    let server = Server::start(Plan::accepting());
    let carts = (0..150).map(|n| Cart::of(&format!("c{n}")).email(&format!("c{n}@example.com")));
    let world = World::new().carts(carts).smtp(&server).init();
    world.ok(["detect"]);
    assert_eq!(world.ok(["log", "--json"]).json()["messages"].as_array().unwrap().len(), 100);
    let ran = world.ok(["log", "--jsonl"]);
    let lines: Vec<serde_json::Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.iter().for_each(schemas::check);
    let recipients: BTreeSet<&str> = lines.iter().map(|line| line["recipient"].as_str().unwrap()).collect();
    assert_eq!((lines.len(), recipients.len()), (150, 150));
    assert_eq!(world.ok(["log", "--jsonl", "--limit", "3"]).stdout.lines().count(), 3);
    assert_eq!(world.ok(["log", "--jsonl", "--cart", "c7"]).stdout.lines().count(), 1);
    assert_eq!(world.ok(["log", "--jsonl", "--state", "refused"]).stdout, "");
    world.exits(2, ["log", "--jsonl", "--json"]);
}

#[test]
fn what_fails_says_so_in_one_document_and_in_prose_beside_it() {
    let world = World::new();
    let ran = world.exits(78, ["status", "--json"]);
    let document = ran.json();
    assert_eq!((&document["schema"], &document["exit"]), (&"mailonce/error/1".into(), &78.into()));
    assert!(document["problem"].as_str().unwrap().contains("mailonce.db") && document["kept"].is_null(), "{document}");
    assert!(ran.stderr.contains("error: "), "{ran}");
    let document = world.exits(2, ["status", "--no-such", "--json"]).json();
    assert_eq!(document["exit"], 2);
    // One document, also where what it says is that something is wrong.
    let world = World::new().init();
    world.by_hand("DROP TRIGGER message_is_kept");
    let document = world.exits(1, ["audit", "--json"]).json();
    assert_eq!(document["schema"], "mailonce/audit/1");
}
