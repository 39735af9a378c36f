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
    assert_eq!(names(&world), ["mailonce.db", "mailonce.db.lock", "mailonce.toml", "templates"]);
    ran.says("made mailonce.toml").says("made templates/cart.html").says("made mailonce.db").says("next: edit");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(world.path("mailonce.db")).unwrap().permissions().mode() & 0o777, 0o600);
    let status = world.ok(["status", "--json"]).json();
    assert_eq!(status["kind"], "live");
    world.ok(["init"]).says("nothing to do");
    world.ok(["preview"]);
    world.exits(78, ["detect"]).says("there is no source shop.db");
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
