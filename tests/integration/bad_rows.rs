//! Rows that cannot be used: named once, counted, and never in the way of the others.

use std::path::PathBuf;

use rusqlite::Connection;

use crate::support::{Cart, Kind, Ran, World};

/// What is wrong with a row of the shop below, and where it stands in each kind of shop.
struct Flaw {
    cart_id: &'static str,
    problem: &'static str,
}

const FLAWS: [Flaw; 6] = [
    Flaw { cart_id: "money", problem: "the unit_price of \"A-1\" is \"19,90\", not an amount" },
    Flaw { cart_id: "time", problem: "the updated_at \"yesterday\" is not a time" },
    Flaw { cart_id: "worded", problem: "the quantity of \"A-1\" is \"two\", not a number such as 2 or 1.5" },
    Flaw { cart_id: "minus", problem: "the quantity of \"A-1\" is \"-1\", not a number such as 2 or 1.5" },
    Flaw { cart_id: "header", problem: "the name holds a line break or control character" },
    Flaw { cart_id: "nowhere", problem: "the domain is not valid" },
];

/// A shop with a good cart before and behind the bad ones; the bad quantities are written into the file by hand.
fn bad_shop(kind: Kind) -> World {
    let lamp = |id: &str, price: &str| Cart::of(id).item("A-1", "Lamp", 1, price);
    let carts = [
        Cart::of("good1"),
        lamp("money", "19,90"),
        lamp("time", "1").updated("yesterday"),
        lamp("worded", "1111.11"),
        lamp("minus", "2222.22"),
        lamp("header", "1").name("Ada\r\nBcc: eve@example.com"),
        lamp("nowhere", "1").email("secret.ada@-example-"),
        Cart::of("good2"),
    ];
    let world = World::new().source(kind).carts(carts).init();
    match kind {
        Kind::Server(_) => unreachable!("its columns take no such values"),
        Kind::Sqlite => {
            let shop = Connection::open(world.shop()).unwrap();
            for (quantity, cart_id) in [("two", "worded"), ("-1", "minus")] {
                let sql = "UPDATE cart_items SET quantity = ?1 WHERE cart_id = ?2";
                assert_eq!(shop.execute(sql, (quantity, cart_id)).unwrap(), 1);
            }
        }
        Kind::JsonLines => edit(&world, |text| {
            let text = one_line(&text, "\"worded\"", "\"quantity\":1", "\"quantity\":\"two\"");
            one_line(&text, "\"minus\"", "\"quantity\":1", "\"quantity\":-1")
        }),
        Kind::Csv => edit(&world, |text| {
            let text = one_line(&text, "worded,", "Lamp,1,", "Lamp,two,");
            one_line(&text, "minus,", "Lamp,1,", "Lamp,-1,")
        }),
    }
    world
}

/// Replaces a text in the line that holds a mark.
fn one_line(text: &str, mark: &str, old: &str, new: &str) -> String {
    let line = text.lines().find(|line| line.contains(mark)).expect("the line");
    assert!(line.contains(old), "{old} in {line}");
    text.replace(line, &line.replace(old, new))
}

fn edit(world: &World, change: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(world.shop()).unwrap();
    replace(world, change(text).as_bytes());
}

/// As a shop should: a new file, renamed over the old one.
fn replace(world: &World, bytes: &[u8]) {
    let new: PathBuf = world.path("shop.new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(new, world.shop()).unwrap();
}

#[track_caller]
fn detect_at(world: &World, at: &str, code: i32) -> Ran {
    world.set_now(at);
    world.exits(code, ["detect"])
}

#[test]
fn each_is_named_once_counted_recalled_after_an_hour_and_gone_when_mended() {
    for kind in Kind::FILES {
        let world = bad_shop(kind);
        let ran = detect_at(&world, "2026-03-01T12:00:00Z", 1);
        for (n, Flaw { cart_id, problem }) in FLAWS.iter().enumerate() {
            let place = match kind {
                Kind::Sqlite | Kind::Server(_) => format!("shop.db: cart {cart_id}"),
                Kind::JsonLines => format!("carts.jsonl:{}", n + 2),
                // The header is line 1, and the line break in a name makes one row two lines.
                Kind::Csv => format!("carts.csv:{}", n + 3 + usize::from(*cart_id == "nowhere")),
            };
            // Between quotes a line break is an error of the file, whatever the field.
            let problem = match (kind, *cart_id) {
                (Kind::Csv, "header") => "a field holds line breaks; lines 7 to 8 are one row",
                _ => problem,
            };
            assert!(ran.stderr.lines().any(|line| line.starts_with(&format!("{place}: {problem}"))), "{place}\n{ran}");
        }
        assert_eq!(ran.stderr.matches("; row skipped").count(), FLAWS.len(), "{ran}");
        assert!(!ran.stderr.contains("secret"), "an address in a log:\n{ran}");
        assert_eq!(ran.stdout, "");
        world.has([("sent", 2)]);
        detect_at(&world, "2026-03-01T12:01:00Z", 0).is_silent();
        detect_at(&world, "2026-03-01T12:59:59Z", 0).is_silent();
        let ran = detect_at(&world, "2026-03-01T13:00:00Z", 1);
        assert_eq!(ran.stderr, "6 bad rows still skipped; `mailonce status` lists them\n", "{kind:?}");
        detect_at(&world, "2026-03-01T13:01:00Z", 0).is_silent();
        let standing = world.ok(["status", "--json"]).json()["standing"].clone();
        assert_eq!(standing.as_array().unwrap().len(), 6, "{standing:#}");
        world.ok(["status"]).says(FLAWS[0].problem).says("since 2026-03-01T12:00:00Z");
        for Flaw { cart_id, .. } in FLAWS {
            world.put(Cart::of(cart_id).email(&format!("{cart_id}@example.com")));
        }
        detect_at(&world, "2026-03-01T13:02:00Z", 0).is_silent();
        world.has([("sent", 8)]);
        assert_eq!(world.ok(["status", "--json"]).json()["standing"], serde_json::json!([]), "{kind:?}");
    }
}

#[test]
fn a_new_one_is_named_alone() {
    let world = bad_shop(Kind::Sqlite);
    detect_at(&world, "2026-03-01T12:00:00Z", 1);
    Connection::open(world.shop())
        .unwrap()
        .execute("UPDATE carts SET currency = 'EURO' WHERE cart_id = 'good1'", [])
        .unwrap();
    let ran = detect_at(&world, "2026-03-01T12:01:00Z", 1);
    assert_eq!(ran.stderr.lines().count(), 1, "{ran}");
    assert!(ran.stderr.starts_with("shop.db: cart good1: the currency \"EURO\""), "{ran}");
}

#[test]
fn carts_without_an_address_are_named_once_and_then_counted() {
    for kind in Kind::FILES {
        let world = World::new().source(kind).cart(Cart::of("c1").without_email()).cart(Cart::of("good")).init();
        let ran = detect_at(&world, "2026-03-01T12:00:00Z", 1);
        assert_eq!(ran.stderr.matches("no address").count(), 1, "{ran}");
        world.has([("sent", 1)]);
        world.put(Cart::of("c2").without_email());
        detect_at(&world, "2026-03-01T12:01:00Z", 0).is_silent();
        detect_at(&world, "2026-03-01T13:30:00Z", 0).is_silent();
        world.ok(["status"]).says("no address, since 2026-03-01T12:00:00Z: 2 carts, the first: ");
        let ran = world.ok(["detect", "--json"]);
        assert_eq!((&ran.json()["left_out"]["no address"], &ran.json()["bad_rows"]), (&2.into(), &0.into()), "{ran}");
        world.ok(["detect", "--dry-run"]).says("left out    2 carts - no address");
        // None for a while: nothing stands, and the next one is no news.
        world.remove("c1");
        world.remove("c2");
        detect_at(&world, "2026-03-01T13:31:00Z", 0).is_silent();
        assert_eq!(world.ok(["status", "--json"]).json()["standing"], serde_json::json!([]));
        world.put(Cart::of("c3").without_email());
        detect_at(&world, "2026-03-01T13:32:00Z", 0).is_silent();
        world.ok(["status"]).says("1 cart, the first: ");
    }
}

#[test]
fn anonymous_shoppers_do_not_hide_a_bad_row_behind_them() {
    let anonymous = (0..1100).map(|n| Cart::of(&format!("a{n}")).without_email());
    let world = World::new().source(Kind::JsonLines).carts(anonymous).cart(Cart::of("bad").currency("EURO")).init();
    let ran = world.exits(1, ["detect"]);
    assert_eq!(ran.stderr.lines().count(), 2, "{ran}");
    ran.says("carts.jsonl:1101: the currency").says("carts.jsonl:1: no address");
}

#[test]
fn a_cart_id_twice_spoils_only_its_carts() {
    for (kind, repeated) in [(Kind::JsonLines, "carts.jsonl:3"), (Kind::Csv, "carts.csv:4")] {
        let world = World::new().source(kind).carts([Cart::of("c1"), Cart::of("c2"), Cart::of("c3")]).init();
        // The third cart takes the id of the first one.
        edit(&world, |text| text.replace("c3", "c1"));
        world.exits(1, ["detect"]).says(&format!("{repeated}: duplicate cart_id"));
        // Which of the two is meant, or whether they are halves of one, cannot be known.
        world.has([("sent", 1)]);
        assert_eq!(world.message().recipient, "c2@example.com");
    }
}

#[test]
fn broken_utf8_and_an_endless_line_are_one_row_each() {
    for (kind, megabytes) in [(Kind::JsonLines, 50), (Kind::Csv, 5)] {
        let world = World::new().source(kind).cart(Cart::of("c1")).init();
        let good = std::fs::read(world.shop()).unwrap();
        let mut bytes = good.clone();
        bytes.extend(b"\xff\xfe,broken\nhuge,");
        bytes.extend(vec![b'x'; megabytes << 20]);
        bytes.extend(b"\n");
        let last = String::from_utf8(good).unwrap().lines().last().unwrap().replace("c1", "c2") + "\n";
        bytes.extend(last.as_bytes());
        replace(&world, &bytes);
        let ran = world.exits(1, ["detect"]);
        assert_eq!(ran.stderr.matches("; row skipped").count(), 2, "{ran}");
        ran.says("longer than 1 MiB");
        world.has([("sent", 2)]);
        detect_at(&world, "2026-03-01T12:01:00Z", 0).is_silent();
    }
    let world = World::new().carts([Cart::of("c1"), Cart::of("c2")]).init();
    let shop = Connection::open(world.shop()).unwrap();
    shop.execute("UPDATE carts SET name = CAST(x'fffe' AS TEXT) WHERE cart_id = 'c1'", []).unwrap();
    world.exits(1, ["detect"]).says("shop.db: cart c1: the name is not UTF-8");
    world.has([("sent", 1)]);
}

#[test]
fn a_dry_run_and_json_tell_of_them_too() {
    let world = bad_shop(Kind::JsonLines);
    let ran = world.exits(1, ["detect", "--dry-run"]);
    ran.says("bad row     carts.jsonl:2: the unit_price").says("would send 2, left out 0, bad rows 6");
    let ran = world.exits(1, ["detect", "--dry-run", "--json"]);
    assert_eq!(ran.json()["bad_rows"].as_array().unwrap().len(), 6);
    assert_eq!(world.exits(1, ["detect", "--json"]).json()["bad_rows"], 6);
}
