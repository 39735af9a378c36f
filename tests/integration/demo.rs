//! `demo`: the main job, shown to someone who has nothing yet.

use std::io::Read;

use crate::docs::page;
use crate::support::World;

#[test]
fn it_prints_what_the_readme_shows() {
    let world = World::new().without_now();
    let ran = world.ok(["demo"]);
    let readme = page("README.md");
    let shown =
        readme.split("$ cargo run --release -- demo\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let parts: Vec<&str> =
        shown.split("…\n").map(|part| part.trim_end_matches(' ')).filter(|part| !part.is_empty()).collect();
    assert!(shown.lines().count() > 8, "the README's block was not found");
    let mut printed = ran.stdout.as_str();
    for part in parts {
        let at = printed.find(part).unwrap_or_else(|| panic!("the README shows\n{part}\nbut it is\n{ran}"));
        printed = &printed[at + part.len()..];
    }
    assert_eq!(ran.stderr, "");
    assert!(ran.stdout.lines().count() <= 40, "{} lines", ran.stdout.lines().count());
    let is_hash = |word: &str| word.len() > 12 && word.chars().all(|c| c.is_ascii_hexdigit());
    let hash = ran.stdout.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| is_hash(word));
    assert_eq!(hash, None, "a short id says as much");
    let mails = std::fs::read_dir(world.path("mailonce-demo/outbox")).unwrap().count();
    // Three carts and the three addresses of the campaign.
    assert_eq!(mails, 6);
}

#[test]
fn it_shows_a_week_of_a_flow() {
    let world = World::new().without_now();
    let ran = world.ok(["demo"]);
    let shown: Vec<&str> = ran.stdout.lines().skip_while(|line| !line.starts_with("A week in three steps")).collect();
    for (row, step) in shown[3..6].iter().zip(["last", "second", "reminder"]) {
        assert!(row.contains("sent") && row.contains(&format!("c1 {step}")), "{ran}");
    }
    let config = ["--config", "mailonce-demo/week/mailonce.toml", "--json"];
    let of = |cart: &str| {
        let json = world.ok([&config[..], &["log", "--cart", cart]].concat()).json();
        json["messages"].as_array().unwrap().len()
    };
    assert_eq!((of("c1"), of("c2"), of("c3")), (3, 3, 1), "who has bought gets nothing more");
}

#[test]
fn it_can_run_again_but_never_in_a_folder_it_did_not_make() {
    let world = World::new().without_now();
    std::fs::create_dir(world.path("show")).unwrap();
    world.ok(["demo", "show"]);
    world.ok(["demo", "show"]);
    std::fs::create_dir(world.path("mine")).unwrap();
    std::fs::write(world.path("mine/letter"), "dear").unwrap();
    let ran = world.exits(2, ["demo", "mine"]);
    ran.says("mine/letter is not as `demo` left it").says("kept: nothing was touched").says("next: name another");
    assert_eq!(std::fs::read_to_string(world.path("mine/letter")).unwrap(), "dear");
    assert_eq!(std::fs::read_dir(world.path("mine")).unwrap().count(), 1);
    world.exits(2, ["demo", "mailonce.toml"]);
    assert!(world.path("mailonce.toml").is_file());
}

#[test]
fn what_a_person_put_or_changed_in_its_folder_is_never_replaced() {
    let world = World::new().without_now();
    world.ok(["demo", "show"]);
    let files = || -> Vec<_> {
        let mut all = Vec::new();
        for folder in ["show", "show/outbox", "show/templates"] {
            let entries = std::fs::read_dir(world.path(folder)).unwrap().map(|entry| entry.unwrap().path());
            all.extend(entries.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(&path).unwrap())));
        }
        all.sort();
        all
    };
    let as_made = files();
    for (name, text) in [
        ("show/mailonce.toml", "# mine"),
        ("show/templates/spring.html", "mine"),
        ("show/notes.txt", "mine"),
        ("show/outbox/mine.eml", "mine"),
    ] {
        let before = std::fs::read(world.path(name)).ok();
        std::fs::write(world.path(name), text).unwrap();
        let with_it = files();
        world.exits(2, ["demo", "show"]).says(&format!("{name} is not as `demo` left it"));
        assert_eq!(files(), with_it, "{name}");
        match before {
            Some(bytes) => std::fs::write(world.path(name), bytes).unwrap(),
            None => std::fs::remove_file(world.path(name)).unwrap(),
        }
    }
    assert_eq!(files(), as_made);
    // Whoever only looked changed nothing.
    world.ok(["--config", "show/mailonce.toml", "status"]);
    world.ok(["demo", "show"]);
    // A link leads to what is someone else's.
    std::fs::remove_file(world.path("show/audience.csv")).unwrap();
    std::os::unix::fs::symlink(world.path("mailonce.toml"), world.path("show/audience.csv")).unwrap();
    world.exits(2, ["demo", "show"]).says("show/audience.csv is not as");
}

#[test]
fn what_it_suggests_next_works() {
    let world = World::new().without_now();
    let ran = world.ok(["demo", "show"]);
    let next = ran.stdout.lines().last().unwrap().strip_prefix("Next: mailonce ").unwrap();
    world.ok(next.split(' ')).says("Subject: You left something behind, Ada");
    assert!(world.path("show/preview/message.html").is_file());
}

#[test]
fn as_json_it_is_one_document() {
    let world = World::new().without_now();
    let json = world.ok(["demo", "--json"]).json();
    assert_eq!(json["messages"].as_array().unwrap().len(), 6);
    assert_eq!(json["folder"], "mailonce-demo");
}

#[test]
fn a_reader_that_goes_away_does_not_spoil_it() {
    let world = World::new().without_now();
    let mut child = world.command(["demo"]).spawn().unwrap();
    let mut first = [0; 1];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    // The pipe is closed here.
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_dir(world.path("mailonce-demo/outbox")).unwrap().count(), 6);
}
