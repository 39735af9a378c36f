//! `import suppressions`: a list from elsewhere.

use crate::support::{Ran, World};

/// Imports these bytes; the exit code must be this one.
#[track_caller]
fn import(world: &World, code: i32, bytes: impl AsRef<[u8]>) -> Ran {
    std::fs::write(world.path("list"), bytes).unwrap();
    world.exits(code, ["import", "suppressions", "list"])
}

/// The list as `address reason`.
fn listed(world: &World) -> Vec<String> {
    let list = world.ok(["suppress", "list", "--json"]).json()["suppressions"].clone();
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(|row| format!("{} {}", text(row, "address"), text(row, "reason"))).collect()
}

#[test]
fn a_plain_list_may_repeat_itself_and_hold_blank_lines() {
    let world = World::new().init();
    let ran = import(&world, 0, "ada@example.com\n\n  Bob@Example.com \r\nADA@example.com");
    ran.says("3 rows read: 2 added, 1 listed already, 0 bad rows skipped");
    assert_eq!(listed(&world), ["ada@example.com imported", "bob@example.com imported"]);
    std::fs::write(world.path("list"), "eve@example.com\n").unwrap();
    let json = world.ok(["import", "suppressions", "list", "--reason", "gone", "--json"]).json();
    assert_eq!((&json["rows"], &json["added"], &json["bad_rows"]), (&1.into(), &1.into(), &0.into()));
    assert!(listed(&world).contains(&"eve@example.com gone".to_owned()));
}

#[test]
fn a_table_says_which_column_it_is_whatever_stands_between_the_fields() {
    let world = World::new().init();
    import(
        &world,
        0,
        "\u{feff}Name,EMail,Reason\r\n\"Lovelace, Ada\",ada@example.com,by phone\r\nBob,bob@example.com,\r\n",
    );
    import(&world, 0, "\u{feff}address;reason\ncai@example.com;bounced\n");
    import(&world, 0, "id\temail\n1\tdan@example.com\n");
    let expected =
        ["ada@example.com by phone", "bob@example.com imported", "cai@example.com bounced", "dan@example.com imported"];
    assert_eq!(listed(&world), expected);
}

#[test]
fn bad_rows_are_named_by_line_and_the_others_added() {
    let world = World::new().init();
    let ran =
        import(&world, 1, b"email,reason\nada@example.com,x\nnobody,x\n,x\n\xff@example.com,x\nbob@example.com,x\n");
    assert!(
        ran.stderr.contains("list:3: ") && ran.stderr.contains("list:4: ") && ran.stderr.contains("list:5: "),
        "{ran}"
    );
    ran.says("5 rows read: 2 added, 0 listed already, 3 bad rows skipped");
    let many: String = (0..50).map(|n| format!("nobody{n}\n")).collect();
    let ran = import(&world, 1, many);
    assert_eq!(ran.stderr.lines().count(), 21, "{ran}");
    ran.says("and 30 more bad rows");
    assert_eq!(listed(&world).len(), 2);
}

#[test]
fn no_opt_out_is_swallowed() {
    let world = World::new().init();
    import(&world, 1, "ada@example.com, bob@example.com\n*@example.org\ncid@example.com\n")
        .says("list:1: there is more than one address; write each on a line of its own; row skipped")
        .says("list:2: a pattern such as *@example.com stands for no address")
        .says("3 rows read: 1 added");
    import(&world, 1, "email\ndan@example.com,eve@example.com\n").says("list:2: there is more than one address");
    // The quote in line 3 is never closed: its address is whole, and so are the lines that follow.
    let quoted = "email,reason\nfay@example.com,x\ngus@example.com,\"asked\nhal@example.com,said never\"\n";
    import(&world, 1, quoted)
        .says("list:3: a field holds a line break, or a quote in it is never closed; its address is taken");
    let ran = world.exits(2, ["suppress", "add", "*@example.org"]);
    assert!(ran.stderr.contains("a pattern such as"), "{ran}");
    let addresses = ["cid", "fay", "gus", "hal"].map(|name| format!("{name}@example.com"));
    let listed: Vec<String> = listed(&world).iter().map(|row| row.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(listed, addresses);
}

#[test]
fn one_mailbox_is_listed_once_whatever_shows_it() {
    let world = World::new().init();
    let utf16 = |text: &str| [vec![0xff, 0xfe], text.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat();
    import(&world, 0, utf16("E-Mail\treason\r\nJo\u{308}rg <jo\u{308}rg@example.com>\tNULL\r\n")).says("1 added");
    import(&world, 0, "\u{200b}j\u{f6}rg@example.com\r\"j\u{f6}rg\"@example.com\r").says("2 listed already");
    assert_eq!(listed(&world), ["j\u{f6}rg@example.com imported"]);
}

#[test]
fn what_is_no_list_is_refused_whole() {
    let world = World::new().init();
    import(&world, 65, "name,contact\nAda,there is none\n").says("no column `email` or `address`");
    let ran = world.exits(65, ["import", "suppressions", "nowhere"]);
    assert!(ran.stderr.contains("nowhere") && ran.stderr.contains("\n next: "), "{ran}");
    world.exits(65, ["import", "suppressions", "."]);
    world.exits(2, ["import", "suppressions", "list", "--reason", "two\nlines"]);
    assert_eq!(listed(&world), [""; 0]);
}

#[test]
fn a_long_list_is_added_whole() {
    let world = World::new().init();
    let list: String = (0..25_001).map(|n| format!("u{n}@example.com\n")).collect();
    import(&world, 0, &list).says("25001 rows read: 25001 added");
    assert_eq!(world.ok(["status", "--json"]).json()["suppressed_addresses"], 25_001);
    import(&world, 0, &list).says("0 added, 25001 listed already");
}
