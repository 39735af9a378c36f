//! `init`: what is missing is made, what is there stays.

use crate::support::{Cart, World};

/// An empty folder.
fn nothing_yet() -> World {
    let world = World::new().without_now();
    for name in ["mailonce.toml", "shop.db"] {
        std::fs::remove_file(world.path(name)).unwrap();
    }
    world
}

fn names(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.path("")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.contains(".db-"))
        .collect();
    names.sort();
    names
}

#[test]
fn in_an_empty_folder_it_makes_configuration_template_and_ledger() {
    let world = nothing_yet();
    let ran = world.ok(["init"]);
    assert_eq!(names(&world), ["mailonce.db", "mailonce.db.lock", "mailonce.toml", "templates", "unsubscribe.keys"]);
    ran.says("made mailonce.toml").says("made templates/cart.html").says("made mailonce.db").says("next: edit");
    ran.says("made templates/second.html").says("made templates/last.html");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(world.path("mailonce.db")).unwrap().permissions().mode() & 0o777, 0o600);
    let status = world.ok(["status", "--json"]).json();
    assert_eq!(status["kind"], "live");
    world.ok(["init"]).says("nothing to do");
    world.ok(["preview"]);
    world.exits(78, ["detect"]).says("there is no source shop.db");
}

#[test]
fn the_ledger_is_made_where_it_is_wanted() {
    let world = nothing_yet();
    let place = world.path("state/a \"ledger\".db");
    let place = place.to_str().unwrap();
    world.ok(["init", "--ledger", place]).says("made mailonce.toml").says(place);
    assert_eq!(names(&world), ["mailonce.toml", "state", "templates", "unsubscribe.keys"]);
    world.ok(["status"]);
    world.ok(["init", "--ledger", place]).says("nothing to do");
    // A configuration that is there stays as it is, and so does its ledger.
    world.exits(78, ["init", "--ledger", "other.db"]).says("names the ledger").says("leave --ledger out");
    assert!(!world.path("other.db").exists());
    let world = nothing_yet();
    world.ok(["init", "--shop", "magento2", "--ledger", "here.db"]);
    assert!(world.path("here.db").exists());
}

#[test]
fn what_is_there_stays_and_only_what_is_missing_is_made() {
    let world = nothing_yet();
    world.ok(["init"]);
    let config = std::fs::read_to_string(world.path("mailonce.toml")).unwrap() + "# mine\n";
    std::fs::write(world.path("mailonce.toml"), &config).unwrap();
    std::fs::write(world.path("templates/cart.html"), "<p>mine</p>").unwrap();
    let id = world.ok(["status", "--json"]).json()["ledger_id"].clone();
    world.ok(["init"]);
    assert_eq!(std::fs::read_to_string(world.path("mailonce.toml")).unwrap(), config);
    assert_eq!(std::fs::read_to_string(world.path("templates/cart.html")).unwrap(), "<p>mine</p>");
    assert_eq!(world.ok(["status", "--json"]).json()["ledger_id"], id);
    std::fs::remove_file(world.path("templates/cart.html")).unwrap();
    let json = world.ok(["init", "--json"]).json();
    assert_eq!(json["made"], serde_json::json!(["templates/cart.html"]));
}

#[test]
fn a_rehearsal_is_ready_to_run_and_stays_one() {
    let world = nothing_yet();
    world.ok(["init", "--rehearsal"]);
    let config = std::fs::read_to_string(world.path("mailonce.toml")).unwrap();
    assert!(config.contains("\ntransport = \"file\""), "{config}");
    world.exits(78, ["init"]).says("rehearsal ledger already");
    world.ok(["init", "--rehearsal"]);
}

#[test]
fn a_ledger_that_was_lost_is_not_made_anew() {
    let world = World::new().cart(Cart::of("c1")).init();
    world.ok(["detect"]);
    for name in ["mailonce.db", "mailonce.db-wal", "mailonce.db-shm"] {
        let _ = std::fs::remove_file(world.path(name));
    }
    for command in [&["detect"][..], &["status"], &["log"], &["suppress", "list"], &["suppress", "add", "a@b.example"]]
    {
        let ran = world.exits(78, command);
        assert!(ran.stderr.contains("put it back"), "{ran}");
    }
    let ran = world.exits(74, ["init", "--rehearsal"]);
    assert!(ran.stderr.contains("its lock file remembers 1 run of it") && ran.stderr.contains("\n next: "), "{ran}");
    assert!(!world.ledger_file().exists());
    std::fs::remove_file(world.path("mailonce.db.lock")).unwrap();
    world.ok(["init", "--rehearsal"]);
}

#[test]
fn a_live_ledger_is_not_made_at_another_time_and_a_wrong_configuration_makes_nothing() {
    let world = World::new();
    world.exits(2, ["init"]).says("--rehearsal");
    assert!(!world.ledger_file().exists());
    world.configure("detect.idle", "soon");
    world.exits(78, ["init", "--rehearsal"]);
    assert!(!world.ledger_file().exists());
}

#[test]
fn a_configuration_in_another_folder_is_made_there() {
    let world = nothing_yet();
    world.ok(["init", "--config", "etc/shop/mailonce.toml"]);
    for name in ["mailonce.toml", "mailonce.db", "templates/cart.html"] {
        assert!(world.path("etc/shop").join(name).is_file(), "{name}");
    }
    let world = world.env("MAILONCE_CONFIG", "etc/shop/mailonce.toml");
    world.ok(["status"]).says("live ledger etc/shop/mailonce.db");
}

/// Takes the comment signs from what is offered as a whole: the lines with a `#` and no space behind it.
fn with_what_is_offered(world: &World) -> String {
    let config = std::fs::read_to_string(world.path("mailonce.toml")).unwrap();
    let is_offered = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    assert!(config.lines().filter(is_offered).count() > 15, "{config}");
    let lines = config.lines().map(|line| if is_offered(&line) { &line[1..] } else { line });
    let config = lines.collect::<Vec<_>>().join("\n");
    std::fs::write(world.path("mailonce.toml"), &config).unwrap();
    crate::dkim::put_key(world, "test_key.pem", 0o600);
    config
}

#[test]
fn the_flow_that_it_offers_works_as_it_stands() {
    let world = World::new().cart(Cart::of("c1")).now("2026-03-02T08:00:00Z");
    std::fs::remove_file(world.path("mailonce.toml")).unwrap();
    world.ok(["init", "--rehearsal"]);
    let config = with_what_is_offered(&world);
    for offered in [
        "\n[mail.dkim]",
        "\n[[detect.step]]\n",
        "\nmax_age = \"5d\"",
        "\n[caps]",
        "\nper_person = [",
        "\n[send_window]",
    ] {
        assert!(config.contains(offered), "{offered}: {config}");
    }
    std::fs::write(
        world.path("mailonce.toml"),
        config.replace("[detect]", "[detect]\nsince = \"2026-01-01T00:00:00Z\""),
    )
    .unwrap();
    let doctor = world.run(["doctor"]);
    assert!(!doctor.output().contains("FAIL"), "{doctor}");
    world.ok(["detect", "--dry-run"]).says("would send  cart c1");
    // Without a gap, from its first hour to its last.
    for at in ["2026-03-02T09:00:00Z", "2026-03-03T09:00:00Z", "2026-03-05T09:00:00Z"] {
        world.set_now(at);
        world.ok(["detect"]);
    }
    let subjects: Vec<String> = world
        .outbox()
        .iter()
        .flat_map(|(_, mail)| String::from_utf8_lossy(mail).lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| line.strip_prefix("Subject: ").map(str::to_owned))
        .collect();
    for subject in ["You left something behind", "Your cart is still here", "A last reminder of your cart"] {
        assert!(subjects.iter().any(|found| found == subject), "{subjects:?}");
    }
    assert_eq!(subjects.len(), 3);
    assert!(world.outbox().iter().all(|(_, mail)| mail.starts_with(b"DKIM-Signature: ")));
    for step in ["second", "last"] {
        world.ok(["preview", "--step", step]);
        let heading = std::fs::read_to_string(world.path("preview/message.html")).unwrap();
        let heading = heading.split("<h1").nth(1).and_then(|rest| rest.split("</h1>").next()).unwrap().to_owned();
        assert!(!heading.contains("You left something behind"), "{step}: {heading}");
    }
}
