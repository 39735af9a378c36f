//! `suppress`: the list of addresses that are never written to.

use crate::support::{Cart, World};

#[test]
fn an_address_is_listed_once_however_it_is_spelt() {
    let world = World::new().init();
    world.ok(["suppress", "add", "Ada@Example.com", "jörg@bücher.example", "--reason", "asked by phone"]);
    let json = world.ok(["suppress", "add", "ada@EXAMPLE.com", "bob@example.com", "--json"]).json();
    assert_eq!((&json["added"], &json["already_listed"]), (&1.into(), &1.into()));
    let list = world.ok(["suppress", "list", "--json"]).json()["suppressions"].clone();
    let addresses: Vec<&str> = list.as_array().unwrap().iter().map(|row| row["address"].as_str().unwrap()).collect();
    assert_eq!(addresses, ["ada@example.com", "bob@example.com", "jörg@xn--bcher-kva.example"]);
    assert_eq!(list[0]["reason"], "asked by phone", "the first reason stays");
    assert_eq!(list[0]["added_at"], "2026-03-01T12:00:00Z");
    world.ok(["suppress", "list"]).says("ada@example.com  2026-03-01T12:00:00Z  asked by phone (by hand)");
    let json = world.ok(["suppress", "remove", "ADA@example.com", "eve@example.com", "--json"]).json();
    assert_eq!((&json["removed"], &json["not_listed"]), (&1.into(), &1.into()));
    assert_eq!(world.ok(["suppress", "list", "--json"]).json()["suppressions"].as_array().unwrap().len(), 2);
}

#[test]
fn it_is_counted_in_status() {
    let world = World::new().init();
    world.ok(["suppress", "add", "ada@example.com"]);
    assert_eq!(world.ok(["status", "--json"]).json()["suppressed_addresses"], 1);
    world.ok(["suppress", "remove", "ada@example.com"]);
    assert_eq!(world.ok(["status", "--json"]).json()["suppressed_addresses"], 0);
}

#[test]
fn what_is_no_address_or_no_reason_changes_nothing() {
    let world = World::new().init();
    world.exits(2, ["suppress", "add", "bob@example.com", "nobody"]).says("the address has no @");
    world.exits(2, ["suppress", "add", "bob@example.com", "--reason", "two\nlines"]);
    world.exits(2, ["suppress", "add"]);
    world.ok(["suppress", "list"]).says("the list is empty");
}

#[test]
fn no_default_output_of_a_run_holds_an_address() {
    let world = World::new().carts([Cart::of("c1").user("u1"), Cart::of("c2").email("ada@example.com")]).init();
    world.ok(["suppress", "add", "ada@example.com"]);
    let ran = world.ok(["detect", "-v"]);
    ran.says("- suppressed").says("Marked cart u1_");
    assert!(!ran.output().contains('@'), "{ran}");
}
