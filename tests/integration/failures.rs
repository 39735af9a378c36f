//! What a person reads when a command cannot go on: what happened, what was kept, what to do next.

use std::fs;

use rusqlite::Connection;

use crate::support::{Cart, Plan, Ran, Server, World};

fn world() -> World {
    World::new().cart(Cart::of("c1"))
}

/// `error:`, then ` kept:` where something had been begun, then ` next:`; nothing else.
#[track_caller]
fn is_told(ran: &Ran, what: &str, kept: Option<&str>, next: &str) {
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let (error, rest) = lines.split_first().unwrap_or_else(|| panic!("nothing was said:\n{ran}"));
    assert!(error.starts_with("error: ") && error.contains(what), "{what}:\n{ran}");
    let (last, between) = rest.split_last().unwrap_or_else(|| panic!("no way on was named:\n{ran}"));
    assert!(last.starts_with(" next: ") && last.contains(next), "{next}:\n{ran}");
    match (between, kept) {
        ([], None) => {}
        ([line], Some(kept)) => assert!(line.starts_with(" kept: ") && line.contains(kept), "{kept}:\n{ran}"),
        _ => panic!("{kept:?}:\n{ran}"),
    }
}

#[test]
fn without_a_ledger() {
    let ran = world().exits(78, ["detect"]);
    is_told(&ran, "there is no ledger", None, "the first time, run `mailonce init`");
}

#[test]
fn a_server_that_no_one_listens_at() {
    let server = Server::start(Plan::accepting());
    let world = world().smtp(&server).init();
    drop(server);
    let ran = world.exits(1, ["detect"]);
    is_told(
        &ran,
        "could not reach the mail server",
        Some("0 messages sent and recorded; 1 not sent"),
        "check the server",
    );
    world.has([("planned", 1)]);
}

#[test]
fn a_key_that_is_none() {
    let world = world().init();
    let path = world.path("mailonce.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("[shop]", "[shop]\nnmae = \"x\"")).unwrap();
    let ran = world.exits(78, ["detect"]);
    is_told(&ran, "nmae", None, "");
    assert!(ran.stderr.contains("`name`"), "the nearest right one is named:\n{ran}");
}

#[test]
fn a_shop_that_is_not_there_or_lacks_a_table() {
    let world = world().init();
    Connection::open(world.shop()).unwrap().execute_batch("DROP TABLE cart_items").unwrap();
    let ran = world.exits(78, ["detect"]);
    is_told(&ran, "no table cart_items", None, "`source.carts`");
    fs::remove_file(world.shop()).unwrap();
    let ran = world.exits(78, ["detect"]);
    is_told(&ran, "there is no source", None, "set `source.path`");
}

#[test]
fn a_ledger_of_a_newer_version() {
    let world = world().init();
    Connection::open(world.ledger_file()).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let ran = world.exits(74, ["detect"]);
    is_told(&ran, "has schema 99", None, "use the mailonce that wrote it, or a newer one");
}

#[test]
fn a_clock_that_went_back() {
    let world = world().init();
    world.ok(["detect"]);
    world.set_now("2026-02-01T00:00:00Z");
    let ran = world.exits(74, ["detect"]);
    is_told(&ran, "the clock says 2026-02-01T00:00:00Z", None, "--accept-clock");
}

#[test]
fn an_old_copy_that_was_put_back() {
    let world = world().init();
    let copy = fs::read(world.ledger_file()).unwrap();
    world.ok(["detect"]);
    fs::write(world.ledger_file(), copy).unwrap();
    let ran = world.exits(74, ["detect"]);
    is_told(&ran, "is older than its lock file remembers", Some("nothing is sent"), "`mailonce resolve --restored`");
}

#[test]
fn a_campaign_that_no_one_knows() {
    let ran = world().init().exits(2, ["campaign", "pause", "sprng"]);
    is_told(&ran, "there is no campaign \"sprng\"", None, "`mailonce campaign list` names them");
}

#[test]
fn a_template_that_cannot_be_rendered() {
    let world = world().init();
    fs::write(world.path("cart.html"), "<p>{{ nmae }}</p>").unwrap();
    world.configure("detect.template", "cart.html");
    let ran = world.exits(78, ["detect"]);
    is_told(&ran, "no message can be rendered", None, "`mailonce preview` shows the result");
    assert_eq!(world.messages(), []);
}
