//! `import log`: the history of an older system comes into a ledger, once.

use std::fmt::Write;

use rusqlite::Connection;
use serde_json::json;

use crate::support::{Cart, Plan, Ran, Server, World};

const IMPORT: [&str; 3] = ["import", "log", "dump"];
const ROWS: &str = "SELECT identity || '|' || cart_hash || '|' || created_at || '|' || email_sent || '|' || coalesce(last_sent_at, '-')
    FROM cart_abandonment_log ORDER BY id";

/// Imports these bytes with times in UTC.
#[track_caller]
fn import(world: &World, code: i32, bytes: impl AsRef<[u8]>) -> Ran {
    std::fs::write(world.path("dump"), bytes).unwrap();
    world.exits(code, [&IMPORT[..], &["--timezone", "UTC"]].concat())
}

#[test]
fn csv_as_shops_and_mysql_write_it() {
    let world = World::new().init();
    let csv = "\u{feff}\"ID\",User_Id,email,cart_hash,email_sent,created_at,note\r\n\
        1,7,Ada@Example.com,h1,1,2026-02-01 08:00:00,\"one, two\"\r\n\
        2,\\N,\"Lovelace@example.com\",h2,true,2026-02-01T08:00:00Z,\"two and a \"\"quote\"\"\"\r\n\
        3,8,NULL,h3,FALSE,1769932800,\\N\r\n\
        4,9,,h4,0,1769932800000,\r\n\
        5,NULL,\\N,h5,0,2026-02-01 08:00:00,\r\n";
    import(&world, 0, csv).says("5 rows read: 4 added").says("1 row with neither user nor address left out");
    let at = "2026-02-01T08:00:00Z";
    assert_eq!(
        world.list(ROWS),
        format!("u:7|h1|{at}|1|- e:lovelace@example.com|h2|{at}|1|- u:8|h3|{at}|0|- u:9|h4|{at}|0|-")
    );
    assert_eq!(
        world.list("SELECT extra FROM cart_abandonment_log ORDER BY id"),
        "{\"note\":\"one, two\"} {\"note\":\"two and a \\\"quote\\\"\"} - -"
    );
    assert_eq!(world.list("SELECT old_id FROM cart_abandonment_log ORDER BY id"), "1 2 3 4");
    for (between, id) in [(";", 6), ("\t", 7)] {
        let columns = ["id", "user_id", "cart_hash", "email_sent", "created_at"].join(between);
        let row = [&id.to_string(), "7", "other", "1", &format!("2026-02-0{id} 08:00:00")].join(between);
        import(&world, 0, format!("{columns}\n{row}\n")).says("1 added");
    }
}

#[test]
fn a_row_that_no_shopper_could_be_found_by_is_named() {
    let world = World::new().cart(Cart::of("c1").user("7").email("ada@example.com")).init();
    let head = "id,user_id,email,cart_hash,email_sent,created_at\n";
    let at = "2026-03-01T08:00:00Z";
    import(&world, 1, format!("{head}1,,nobody,h,1,{at}\n2,0,\"ada@example.com, eve@example.com\",h,1,{at}\n"))
        .says("dump:2: the email \"nobody\": the address has no @; row left out")
        .says("dump:3: the email")
        .says("more than one address");
    // A stray quote costs its own row.
    import(&world, 1, format!("{head}3,8,,h,1,\"{at}\n4,9,,h,1,{at}\n")).says("dump:2: a field").says("1 added");
    for (spelling, id) in [("7.0,", 5), ("\" 7\",", 6), (",Ada <ADA@example.com>", 7)] {
        let world = World::new().cart(Cart::of("c1").user("7").email("ada@example.com")).init();
        import(&world, 0, format!("{head}{id},{spelling},h,1,{at}\n"));
        world.ok(["detect"]);
        assert_eq!(world.number("SELECT count(*) FROM message"), 0, "{spelling:?} is another shopper");
    }
}

#[test]
fn of_a_time_that_came_twice_the_later_one_counts() {
    let world = World::new().init();
    std::fs::write(world.path("dump"), "user_id,cart_hash,email_sent,created_at\n7,h,1,2025-10-26 02:30:00\n").unwrap();
    world.ok([&IMPORT[..], &["--timezone", "Europe/Berlin"]].concat());
    assert_eq!(world.list("SELECT created_at FROM cart_abandonment_log"), "2025-10-26T01:30:00Z");
}

#[test]
fn json_lines_with_keys_left_out_and_numbers_for_text() {
    let world = World::new().init();
    let lines = [
        json!({"id": 1, "user_id": 7, "cart_hash": "h1", "email_sent": 1, "created_at": "2026-02-01 08:00:00", "tags": ["a"]}),
        json!({"id": 2, "user_id": "7", "cart_hash": "h2", "email_sent": true, "created_at": 1769932800,
            "last_sent_at": "2026-02-01T09:00:00Z", "cart_value": 19.9, "currency": "EUR", "cart_id": 5}),
        json!({"id": 3, "email": "ada@example.com", "cart_hash": "h3", "created_at": 1769932800.5}),
    ];
    import(&world, 0, lines.iter().map(|line| format!("{line}\n\n")).collect::<String>()).says("3 added");
    let at = "2026-02-01T08:00:00Z";
    assert_eq!(
        world.list(ROWS),
        format!("u:7|h1|{at}|1|- u:7|h2|{at}|1|2026-02-01T09:00:00Z e:ada@example.com|h3|{at}|0|-")
    );
    let value = "SELECT cart_id || cart_value || currency FROM cart_abandonment_log WHERE cart_hash = 'h2'";
    assert_eq!(world.list(value), "519.9EUR");
    assert_eq!(world.list("SELECT extra FROM cart_abandonment_log WHERE cart_hash = 'h1'"), "{\"tags\":[\"a\"]}");
}

#[test]
fn a_table_of_an_sqlite_file() {
    let world = World::new().init();
    let old = Connection::open(world.path("dump")).unwrap();
    old.execute_batch(include_str!("../../examples/old_log.sql")).unwrap();
    old.execute_batch("ALTER TABLE cart_abandonment_log RENAME TO \"carts log\"").unwrap();
    let before = std::fs::read(world.path("dump")).unwrap();
    world.exits(65, IMPORT).says("no table cart_abandonment_log; name it with --table");
    let mut command = [&IMPORT[..], &["--table", "carts log"]].concat();
    world.exits(2, &command).says("dump: row 1: the time \"2026-02-24 03:42:00\" has no zone");
    assert_eq!(world.number("SELECT count(*) FROM cart_abandonment_log"), 0);
    command.extend(["--timezone", "Europe/Berlin"]);
    // Two of the four copies of one user were made in the same second as another.
    let mut json = world.ok([&command[..], &["--json"]].concat()).json();
    // What every document begins with.
    json.as_object_mut().unwrap().retain(|name, _| name != "schema" && name != "made_at");
    assert_eq!(
        json,
        json!({"dry_run": false, "strict": false, "rows": 14, "bad_rows": 0, "without_shopper": 1,
        "imported": {"added": 11, "copies": 2, "already_there": 0, "updated": 0},
        "left_out": [{"kind": "without_shopper", "rows": 1, "examples": ["dump: row 14"]}],
        "mailed_now": {"rows": 0, "examples": []}, "created_as_mailed": {"rows": 0, "examples": []},
        "next": "mailonce cleanup-duplicates"})
    );
    assert_eq!(world.list("SELECT old_id || '>' || kept_row FROM removed_duplicate"), "5>4 7>6");
    world.ok(&command).says("0 added, 13 there already");
    world.ok(["cleanup-duplicates"]).says("5 duplicates moved").says("2 of them were mails that went out again");
    world.ok(&command).says("0 added, 13 there already");
    assert_eq!(std::fs::read(world.path("dump")).unwrap(), before);
}

#[test]
fn run_twice_or_with_dumps_that_overlap_nothing_is_there_twice() {
    let world = World::new().init();
    let header = "id,user_id,email,cart_hash,email_sent,created_at\n";
    let row = |id: u32, sent: u8| format!("{id},7,,h{id},{sent},2026-02-0{id} 08:00:00\n");
    let first = format!("{header}{}{}", row(1, 0), row(2, 1));
    import(&world, 0, &first).says("2 added");
    let rows = world.rows("SELECT * FROM cart_abandonment_log");
    import(&world, 0, &first).says("0 added, 2 there already");
    assert_eq!(world.rows("SELECT * FROM cart_abandonment_log"), rows);
    // A later dump: the first row was mailed meanwhile, and there is a third.
    let second = format!("{header}{}{}{}", row(1, 1), row(2, 1), row(3, 1));
    import(&world, 0, &second).says("1 added, 1 there already, 1 brought up to date");
    assert_eq!(world.list("SELECT email_sent FROM cart_abandonment_log"), "1 1 1");
    // An older dump does not undo it; without ids the rows are the same rows.
    import(&world, 0, &first).says("0 added, 2 there already");
    let nameless = "user_id,cart_hash,email_sent,created_at\n7,h1,1,2026-02-01 08:00:00\n7,h1,1,2026-02-01 08:00:00\n";
    import(&world, 0, nameless).says("0 added, 2 there already");
    assert_eq!(world.number("SELECT count(*) FROM cart_abandonment_log"), 3);
    assert_eq!(world.number("SELECT count(*) FROM removed_duplicate"), 0);
    // For guests as for users, the ledger itself refuses a row twice.
    let guest = "email,cart_hash,email_sent,created_at\nada@example.com,x,1,2026-02-01 08:00:00\n";
    import(&world, 0, guest).says("1 added");
    import(&world, 0, guest.replace("ada@", " Ada@")).says("0 added, 1 there already");
    let again = Connection::open(world.ledger_file()).unwrap().execute(
        "INSERT INTO cart_abandonment_log (identity, cart_hash, created_at, origin)
         VALUES ('e:ada@example.com', 'x', '2026-02-01T08:00:00Z', 'hand')",
        [],
    );
    assert!(again.is_err_and(|err| err.to_string().starts_with("episode_is_not_replaced")));
}

#[test]
fn bad_rows_are_named_and_left_out() {
    let world = World::new().init();
    let header = "id,user_id,cart_hash,email_sent,created_at\n";
    let bad = b"1,7,h,0,soon\n2,7,h,perhaps,2026-02-01 08:00:00\n3,7,h\n4,\xff,h,1,2026-02-01\n5,7,h,0,\n6,7,h,1,2026-02-01\n7,7,x,0,2036-01-01\n";
    let ran = import(&world, 1, [header.as_bytes(), bad].concat());
    for line in [
        "dump:2: the created_at \"soon\" is not a time; row left out",
        "dump:3: the email_sent \"perhaps\" is neither yes, no nor a number; row left out",
        "dump:4: the row has 3 fields where the header has 5; row left out",
        "dump:5: the user_id is not UTF-8 (`iconv` makes it so); row left out",
        "dump:6: no created_at; row left out",
        "dump:8: the created_at \"2036-01-01\" lies in the future; row left out",
    ] {
        assert!(ran.stderr.contains(line), "{line}: {ran}");
    }
    ran.says("7 rows read: 1 added").says("6 bad rows left out");
    for line in [
        "  1 row not readable as such left out: dump:4\n",
        "  1 row with a user or address that cannot be read left out: dump:5\n",
        "  1 row with an email_sent that is neither yes, no nor a number left out: dump:3\n",
        "  3 rows not mailed and with a time that cannot be read left out: dump:2, dump:6, dump:8\n",
    ] {
        assert!(ran.stdout.contains(line), "{line}: {ran}");
    }
    let mut many = header.to_owned();
    (0..50).for_each(|n| writeln!(many, "{n},ada@example.com,h,0,ada@example.com").unwrap());
    let ran = import(&world, 1, many);
    assert_eq!(ran.stderr.lines().count(), 21, "{ran}");
    ran.says("and 30 more bad rows")
        .says("50 rows not mailed and with a time that cannot be read left out: dump:2, dump:3, dump:4 and 47 more\n");
    assert!(!ran.output().contains("ada@example.com"), "an address was printed whole: {ran}");
}

#[test]
fn what_cannot_be_read_to_its_end_changes_nothing() {
    let world = World::new().init();
    let good = "id,user_id,cart_hash,email_sent,created_at\n1,7,h,1,2026-02-01T08:00:00Z\n";
    for (bytes, code, why) in [
        (String::new(), 65, "it is empty"),
        ("id,user_id,email_sent,created_at\n".to_owned(), 65, "no column cart_hash"),
        ("{\"user_id\": 1}\n".to_owned(), 65, "no column created_at"),
        (format!("{good}2,7,h,1,2026-02-01 08:00:00\n"), 2, "dump:3: the time \"2026-02-01 08:00:00\" has no zone"),
        ("SQLite format 3\0 and then nothing of the kind".to_owned(), 65, "could not read dump"),
    ] {
        std::fs::write(world.path("dump"), bytes).unwrap();
        let ran = world.exits(code, IMPORT);
        assert!(ran.stderr.contains(why) && ran.stderr.contains("\n next: "), "{ran}");
    }
    world.exits(65, ["import", "log", "nowhere"]);
    world.exits(65, ["import", "log", "."]);
    assert_eq!(world.number("SELECT count(*) FROM cart_abandonment_log"), 0);
    let none = World::new();
    std::fs::write(none.path("dump"), good).unwrap();
    none.exits(78, IMPORT).says("mailonce init");
    assert!(!none.ledger_file().exists());
}

#[test]
fn history_counts_in_the_window_and_nobody_is_mailed_again_because_of_a_move() {
    let carts = [Cart::of("c1").user("7"), Cart::of("c2").email("guest@example.com"), Cart::of("c3")];
    let world = World::new().carts(carts).init();
    // Three hours ago in New York, by a rule of its own for the hash; the ledger's clock is no matter.
    let csv = "user_id,email,cart_hash,email_sent,created_at,sent_at\n\
        7,,md5,1,2026-02-20 04:00:00,2026-03-01 04:00:00\n,GUEST@example.com,md5,0,2026-03-01 04:00:00,\n";
    std::fs::write(world.path("dump"), csv).unwrap();
    world.ok([&IMPORT[..], &["--timezone", "America/New_York"]].concat());
    let ran = world.ok(["-v", "detect"]);
    assert_eq!(ran.stderr.matches("email already sent").count(), 2, "{ran}");
    assert_eq!(world.message().recipient, "c3@example.com");
}

#[test]
fn it_takes_the_lock_and_a_kill_leaves_all_or_nothing() {
    let world = World::new().init();
    let mut csv = "id,user_id,cart_hash,email_sent,created_at\n".to_owned();
    (1..=20_000).for_each(|n| writeln!(csv, "{n},{n},h,1,2026-02-01T08:00:00Z").unwrap());
    std::fs::write(world.path("dump"), csv).unwrap();
    let lock = std::fs::File::open(world.path("mailonce.db.lock")).unwrap();
    lock.lock().unwrap();
    world.exits(75, IMPORT);
    lock.unlock().unwrap();
    let wal = format!("{}-wal", world.ledger_file().display());
    for grown in [1, 1_000_000, 2_000_000] {
        let mut run = world.spawn(IMPORT);
        while run.is_running() && std::fs::metadata(&wal).map_or(0, |meta| meta.len()) < grown {
            std::thread::yield_now();
        }
        run.kill();
        assert!([0, 20_000].contains(&world.number("SELECT count(*) FROM cart_abandonment_log")), "at {grown} bytes");
    }
    world.ok(IMPORT);
    assert_eq!(world.number("SELECT count(*) FROM cart_abandonment_log"), 20_000);
}

#[test]
fn rows_with_hashes_of_our_own_rule_count_for_their_contents_only() {
    // What `detect` would call the carts of these tests, whatever it is: taken from a ledger that planned them.
    let hash_of = |cart: Cart| {
        let world = World::new().cart(cart).init();
        world.ok(["detect"]);
        world.list("SELECT cart_hash FROM message")
    };
    let cart = || Cart::of("c1").user("u1");
    let (same, other) = (hash_of(cart()), hash_of(cart().item("OTHER-1", "Vase", 1, "7.00")));
    assert!(same.starts_with("v1:") && same != other, "{same} {other}");
    for (hash, messages) in [(same, 0), (other, 1), ("md5-of-something".into(), 0)] {
        let world = World::new().cart(cart()).init();
        import(&world, 0, format!("user_id,cart_hash,email_sent,created_at\nu1,{hash},1,2026-03-01T09:00:00Z\n"));
        world.ok(["detect"]);
        assert_eq!(world.number("SELECT count(*) FROM message"), messages, "{hash}");
    }
}

#[test]
fn where_there_is_no_ledger_it_makes_a_live_one_but_not_in_place_of_one_that_was_lost() {
    let server = Server::start(Plan::accepting());
    let world = World::new().without_now().smtp(&server);
    let row = "user_id,cart_hash,email_sent,created_at\n7,h1,1,2026-02-01 08:00:00\n";
    import(&world, 0, row).says("1 row read: 1 added");
    assert_eq!(world.list("SELECT kind FROM ledger"), "live");
    assert!(world.path("mailonce.db.lock").exists());
    world.ok(["detect"]);
    std::fs::remove_file(world.ledger_file()).unwrap();
    import(&world, 74, row).says("lock file");
    assert!(!world.ledger_file().exists());
}

const HEAD: &str = "user_id,email,cart_hash,email_sent,created_at,last_sent_at\n";

/// A dump with a row of each kind, some of them already imported, copied, and news.
fn messy(world: &World) {
    let known = "8,,x,0,2026-02-01 08:00:00,\n9,,x,1,2026-02-01 08:00:00,2026-02-01 09:00:00\n";
    import(world, 0, format!("{HEAD}{known}")).says("2 added");
    let rows = "1,8,,x,1,2026-02-01 08:00:00,2026-02-01 10:00:00\n2,9,,x,1,2026-02-01 08:00:00,2026-02-01 09:00:00\n\
        3,10,,x,1,2026-02-01 08:00:00,\n4,10,,x,1,2026-02-01 08:00:00,\n5,10,,x,1,2026-02-01 08:00:00,\n\
        5,10,,x,1,2026-02-01 08:00:00,\n6,11,,x,1,soon,\n7,11,,x,1,later,\n8,12,,x,1,soon,2026-02-01 08:00:00\n\
        9,13,,x,0,soon,\n10,,,x,0,2026-02-01 08:00:00,\n11,,,x,1,2026-02-01 08:00:00,\n12\n";
    std::fs::write(world.path("dump"), format!("id,{HEAD}{rows}")).unwrap();
}

#[test]
fn a_dry_run_says_what_the_import_then_does_and_writes_nothing() {
    let world = World::new().init();
    messy(&world);
    let utc = ["--timezone", "UTC"];
    let (before, rows) = (world.whole_file(), world.rows("SELECT * FROM removed_duplicate"));
    let dry = world.exits(1, [&IMPORT[..], &utc, &["--dry-run", "--json"]].concat()).json();
    world
        .exits(1, [&IMPORT[..], &utc, &["--dry-run"]].concat())
        .says("13 rows read, nothing written.")
        .says("next: `mailonce import log dump --timezone UTC`");
    assert_eq!((world.whole_file(), world.rows("SELECT * FROM removed_duplicate")), (before, rows));
    let mut done = world.exits(1, [&IMPORT[..], &utc, &["--json"]].concat()).json();
    assert_eq!(done["imported"], json!({"added": 3, "copies": 3, "already_there": 2, "updated": 1}));
    assert_eq!((&done["bad_rows"], &done["without_shopper"]), (&3.into(), &1.into()));
    assert_eq!(done["mailed_now"], json!({"rows": 2, "examples": ["dump:8", "dump:9"]}));
    assert_eq!(done["created_as_mailed"], json!({"rows": 1, "examples": ["dump:10"]}));
    let kinds: Vec<_> =
        done["left_out"].as_array().unwrap().iter().map(|kind| kind["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["broken", "time", "mailed_without_shopper", "without_shopper"]);
    (done["dry_run"], done["next"]) = (dry["dry_run"].clone(), dry["next"].clone());
    assert_eq!(dry, done);
    // Again: nothing is added, and nothing is news.
    let file = world.rows("SELECT * FROM cart_abandonment_log");
    world.exits(1, [&IMPORT[..], &utc].concat()).says("0 added, 9 there already, 0 brought up to date, 0 copies");
    assert_eq!(world.rows("SELECT * FROM cart_abandonment_log"), file);
}

#[test]
fn a_dry_run_where_there_is_no_ledger_makes_none() {
    let world = World::new().without_now();
    let dry = [&IMPORT[..], &["--dry-run"]].concat();
    std::fs::write(world.path("dump"), format!("{HEAD}7,,x,1,2026-02-01T08:00:00Z,\n")).unwrap();
    let ran = world.ok(&dry);
    ran.says("there is no ledger yet: an import makes the live ledger mailonce.db");
    ran.says("1 row read, nothing written. An import would make of them: 1 added");
    std::fs::write(world.path("dump"), format!("{HEAD}7,,x,1,2026-02-01 08:00:00,\n")).unwrap();
    world.exits(2, &dry).says("has no zone");
    world.exits(2, IMPORT).says("has no zone");
    for name in ["mailonce.db", "mailonce.db.lock"] {
        assert!(!world.path(name).exists(), "{name}");
    }
    // With a ledger's rows in the way of a run of another program, too, it only reads.
    world.ok([&IMPORT[..], &["--timezone", "UTC"]].concat());
    let before = world.whole_file();
    let lock = std::fs::File::open(world.path("mailonce.db.lock")).unwrap();
    lock.lock().unwrap();
    world.ok([&dry[..], &["--timezone", "UTC"]].concat()).says("0 added, 1 there already");
    assert_eq!(world.whole_file(), before);
}

#[test]
fn into_a_live_ledger_and_with_strict_one_bad_row_keeps_all_out() {
    let good = format!("{HEAD}7,,x,1,soon,\n,,x,0,2026-02-01T08:00:00Z,\n");
    let bad_rows = ["7,,y,0,soon,\n", ",ada,x,1,2026-02-01T08:00:00Z,\n", ",,x,1,2026-02-01T08:00:00Z,\n", "7\n"];
    let refused = |world: &World, flags: &[&str], kept: &str| {
        for bad in bad_rows {
            std::fs::write(world.path("dump"), format!("{good}{bad}")).unwrap();
            let ran = world.exits(65, [&IMPORT[..], flags].concat());
            assert!(ran.stderr.starts_with("dump:4: ") && !ran.output().contains("row left out"), "{ran}");
            ran.says("3 rows read: 1 bad row\n").says("error: 1 of 3 rows cannot be used").says(kept);
            ran.says("`mailonce import log dump --lenient`");
            let json = world.exits(65, [&IMPORT[..], flags, &["--dry-run", "--json"]].concat()).json();
            assert_eq!((&json["imported"], &json["strict"]), (&serde_json::Value::Null, &true.into()));
        }
    };
    let live = World::new().without_now();
    refused(&live, &[], "nothing was imported, and no ledger was made");
    assert!(!live.ledger_file().exists() && !live.path("mailonce.db.lock").exists());
    live.ok(["init"]);
    refused(&live, &[], "kept: nothing was imported\n");
    let rehearsal = World::new().init();
    refused(&rehearsal, &["--strict"], "with --strict all rows come in, or none");
    for (world, flags) in [(live, &["--lenient"][..]), (rehearsal, &[])] {
        assert_eq!(world.number("SELECT count(*) FROM cart_abandonment_log"), 0);
        world.exits(2, [&IMPORT[..], &["--strict", "--lenient"]].concat());
        world.exits(1, [&IMPORT[..], flags].concat()).says("1 added").says("1 bad row left out");
        // What protects, and what could protect nobody, is no reason to refuse.
        std::fs::write(world.path("dump"), &good).unwrap();
        world.ok([&IMPORT[..], &["--strict"]].concat()).says("0 added, 1 there already").says("detect --dry-run");
    }
}

#[test]
fn a_mailed_row_whose_time_cannot_be_read_counts_as_mailed_at_its_first_import() {
    let users = ["7", "8", "9", "10"];
    let carts = users.map(|user| Cart::of(&format!("c{user}")).user(user));
    let world = World::new().set("detect.max_age", "96h").carts(carts).init();
    let csv = format!(
        "{HEAD}7,,x,1,soon,\n8,,x,1,2026-02-01 08:00:00,2036-01-01\n9,,x,,2026-02-01 08:00:00,never mind\n9,,x,1,,\n"
    );
    import(&world, 0, &csv).says("4 rows read: 4 added").says(
        "4 mailed rows have a time that cannot be read; they count as mailed at the first import: dump:2, dump:3, dump:4 and 1 more\n",
    );
    assert_eq!(
        world.list("SELECT created_at || '|' || last_sent_at FROM cart_abandonment_log WHERE user_id < '8'"),
        "1970-01-01T00:00:00Z|2026-03-01T12:00:00Z"
    );
    assert_eq!(world.list("SELECT extra FROM cart_abandonment_log WHERE user_id < '8'"), "{\"created_at\":\"soon\"}");
    world.ok(["cleanup-duplicates"]).says("4 rows looked at").says("no duplicates");
    world.ok(["detect"]);
    assert_eq!(world.message().recipient, "c10@example.com");
    // Imported again it is no younger: a day after the first import all are written to, one of them again.
    world.set_now("2026-03-02T11:59:59Z");
    import(&world, 0, &csv).says("0 added, 4 there already, 0 brought up to date");
    world.ok(["detect"]);
    world.has([("sent", 1)]);
    world.set_now("2026-03-02T12:00:01Z");
    world.ok(["detect"]);
    world.has([("sent", 5)]);
}

#[test]
fn a_mail_whose_time_cannot_be_read_is_news_for_a_row_that_knows_of_none() {
    let world = World::new().init();
    import(&world, 0, format!("{HEAD}7,,x,0,2026-02-01 08:00:00,\n8,,x,1,2026-02-01 08:00:00,\n")).says("2 added");
    let later = format!("{HEAD}7,,x,1,2026-02-01 08:00:00,soon\n");
    import(&world, 0, &later)
        .says("1 brought up to date")
        .says("1 mailed row has a time that cannot be read; it counts");
    assert_eq!(world.list("SELECT coalesce(last_sent_at, '-') FROM cart_abandonment_log"), "2026-03-01T12:00:00Z -");
    world.set_now("2026-03-01T13:00:00Z");
    import(&world, 0, &later).says("0 added, 1 there already, 0 brought up to date");
    // Twice in one dump, without an id: the mail that nobody can date counts.
    import(
        &world,
        0,
        format!("{HEAD}9,,x,1,2026-02-01 08:00:00,2026-02-01 09:00:00\n9,,x,1,2026-02-01 08:00:00,soon\n"),
    );
    assert_eq!(world.list("SELECT last_sent_at FROM cart_abandonment_log WHERE user_id = '9'"), "2026-03-01T13:00:00Z");
}
