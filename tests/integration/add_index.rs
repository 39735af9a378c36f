//! `add-index`: an old log becomes a ledger, whole or not at all; and what the ledger then makes of its rows.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::{Cart, PLAIN, World};

const EXAMPLE: &str = include_str!("../../examples/old_log.sql");
const ADOPT: [&str; 2] = ["add-index", "--rehearsal"];

/// An old log with these rows, adopted.
fn adopted(rows: &[&str]) -> World {
    let world = World::new().old_rows(rows);
    world.ok(["cleanup-duplicates", "--timezone", "UTC"]);
    world.ok([&ADOPT[..], &["--timezone", "UTC"]].concat());
    world
}

#[test]
fn every_command_refuses_an_unadopted_log_and_names_the_two_in_order() {
    let world = World::new().old_log(EXAMPLE).cart(Cart::of("c1"));
    std::fs::write(world.path("list"), "ada@example.com\n").unwrap();
    std::fs::write(world.path("campaigns.toml"), "").unwrap();
    let before = world.whole_file();
    for arguments in [
        &["detect"][..],
        &["detect", "--dry-run"],
        &["run-campaigns"],
        &["status"],
        &["log"],
        &["resolve"],
        &["suppress", "list"],
        &["suppress", "add", "ada@example.com"],
        &["import", "suppressions", "list"],
        &["import", "log", "list"],
        &["campaign", "list"],
        &["init", "--rehearsal"],
    ] {
        let ran = world.exits(78, arguments);
        let first = ran.stderr.find("mailonce cleanup-duplicates").expect("the first command");
        assert!(ran.stderr.find("mailonce add-index").is_some_and(|second| second > first), "{ran}");
    }
    assert_eq!(world.whole_file(), before);
}

#[test]
fn while_duplicates_remain_it_refuses_with_their_number_and_the_command() {
    let world = World::new().old_log(EXAMPLE);
    let before = world.whole_file();
    for more in [&[][..], &["--dry-run"]] {
        let ran = world.exits(65, [&ADOPT[..], &["--timezone", "Europe/Berlin"], more].concat());
        assert!(ran.stderr.contains("7 duplicates of 4 rows left, less than 24h apart"), "{ran}");
        ran.says("run `mailonce cleanup-duplicates --timezone Europe/Berlin`, then `mailonce add-index` again");
    }
    assert_eq!(world.whole_file(), before);
    // It goes by the window that cleanup-duplicates was told, unless it is told another.
    world.ok(["cleanup-duplicates", "--window", "1s", "--timezone", "Europe/Berlin"]);
    world.exits(65, [&ADOPT[..], &["--window", "24h"]].concat()).says("duplicates");
    world.ok(ADOPT);
}

#[test]
fn it_makes_the_ledger_that_init_makes_and_keeps_the_old_table() {
    let fresh = World::new().init();
    let world = World::new().old_log(EXAMPLE);
    world.by_hand(
        "CREATE INDEX idx_user_cart_unique ON cart_abandonment_log (browser);
         CREATE TRIGGER episode_is_mine AFTER INSERT ON cart_abandonment_log BEGIN SELECT RAISE(ABORT, 'no'); END;
         CREATE VIEW broken AS SELECT it FROM nowhere; CREATE TABLE orders (id);",
    );
    world.ok(["cleanup-duplicates", "--timezone", "Europe/Berlin"]);
    let rows = world.rows("SELECT * FROM cart_abandonment_log");
    let removed = world.rows("SELECT * FROM removed_duplicate");
    std::fs::set_permissions(world.ledger_file(), PermissionsExt::from_mode(0o644)).unwrap();
    let dry = [&ADOPT[..], &["--dry-run"]].concat();
    world.ok(dry).says("with 6 rows taken over");
    let ran = world.ok(ADOPT);
    ran.says("mailonce.db is a rehearsal ledger now").says("6 rows, 7 removed duplicates").says(
        "a duplicate check looks into the index: SEARCH cart_abandonment_log USING COVERING INDEX idx_user_cart_unique",
    );
    let schema = "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_schema";
    let parts = |world: &World| -> BTreeSet<String> {
        world.rows(schema).iter().filter_map(|row| row.values().next()?.clone()).collect()
    };
    let (expected, found) = (parts(&fresh), parts(&world));
    assert_eq!(expected.difference(&found).collect::<Vec<_>>(), Vec::<&String>::new());
    let more: Vec<_> = found.difference(&expected).map(|part| part.split(' ').nth(1).unwrap()).collect();
    assert_eq!(more, ["old_kept_duplicate", "old_log", "old_removed_duplicate", "orders", "broken"]);
    for pragma in ["application_id", "user_version"] {
        let value = |world: &World| world.number(&format!("PRAGMA {pragma}"));
        assert_eq!(value(&world), value(&fresh), "{pragma}");
    }
    assert_eq!(world.list("PRAGMA journal_mode"), "wal");
    assert_eq!(std::fs::metadata(world.ledger_file()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(world.rows("SELECT * FROM old_log"), rows);
    assert_eq!(world.rows("SELECT * FROM old_removed_duplicate"), removed);
    assert_eq!(
        world.list(
            "SELECT id || '=' || identity || '@' || created_at FROM cart_abandonment_log WHERE id > 9 ORDER BY id"
        ),
        "10=u:21@2026-02-26T17:36:00Z 11=e:eve@example.com@2026-02-27T19:15:00Z 13=u:21@2026-02-26T17:40:00Z"
    );
    assert_eq!(
        world.list(
            "SELECT old_id || '>' || kept_row || identity FROM removed_duplicate WHERE kept_row > 9 ORDER BY old_id"
        ),
        "12>11e:eve@example.com 8>10u:21 9>10u:21"
    );
}

#[test]
fn where_all_is_in_place_it_says_so_and_what_is_missing_it_adds() {
    for world in [World::new().init(), adopted(&["7, NULL, 'x', 1, '2026-02-24 03:42:00'"])] {
        let whole = world.whole_file();
        let json = world.ok(["add-index", "--json"]).json();
        assert_eq!((&json["added"], &json["duplicate_check"]["uses_index"]), (&serde_json::json!([]), &true.into()));
        world.ok(["add-index"]).says("already in place");
        assert_eq!(world.whole_file(), whole);
        world.by_hand("DROP INDEX idx_user_cart_unique; DROP TRIGGER window_on_arming");
        world.ok(["add-index", "--dry-run"]).says("would add: idx_user_cart_unique, window_on_arming");
        world.ok(["add-index"]).says("added: idx_user_cart_unique, window_on_arming").says("looks into the index");
        world.ok(["add-index"]).says("already in place");
        world.by_hand(
            "DROP INDEX episode_once; DROP INDEX idx_user_cart_unique; DROP TRIGGER episode_is_not_replaced;
             INSERT INTO cart_abandonment_log (identity, email, cart_hash, created_at, origin)
             VALUES ('e:a@b.c', 'a@b.c', 'x', '2026-01-01T00:00:00Z', 'hand'), ('e:a@b.c', 'A@b.c', 'x', '2026-01-01T00:00:00Z', 'hand')",
        );
        world.exits(65, ["add-index"]).says("1 duplicate left").says("mailonce cleanup-duplicates");
        world.ok(["cleanup-duplicates"]).says("1 duplicate moved");
        world.ok(["add-index"]).says("added: idx_user_cart_unique, episode_once");
    }
}

#[test]
fn live_or_rehearsal_is_decided_here_for_ever() {
    let world = World::new().old_rows(&["7, NULL, 'x', 1, 1772000000"]);
    world.exits(2, ["add-index"]).says("--now");
    let world = world.without_now();
    world.ok(["add-index"]).says("is a live ledger now");
    world.exits(78, ADOPT).says("live ledger already");
    world.exits(78, ["detect"]).says("live ledger");
    assert_eq!(world.number("SELECT count(*) FROM cart_abandonment_log"), 1);
}

#[test]
fn rows_that_cannot_be_read_stop_it_until_they_are_set_aside() {
    let rows = ["7, NULL, 'x', 0, 'soon'", "8, NULL, 'x', 1, 1772000000", "NULL, NULL, 'x', 1, 1772000000"];
    let world = World::new().old_rows(&rows);
    let before = world.whole_file();
    let ran = world.exits(65, ADOPT);
    assert!(ran.stderr.contains("1 row cannot be read: row 1: the created_at \"soon\" is not a time"), "{ran}");
    assert_eq!(world.whole_file(), before);
    world.ok([&ADOPT[..], &["--set-aside"]].concat()).says("row 1: ").says("1 row with neither user nor address");
    assert_eq!(world.list("SELECT identity FROM cart_abandonment_log"), "u:8");
    assert_eq!(world.number("SELECT count(*) FROM old_log"), 3);
}

#[test]
fn a_mailed_row_whose_time_cannot_be_read_counts_as_mailed_at_the_adoption() {
    let carts = ["7", "8", "9"].map(|user| Cart::of(&format!("c{user}")).user(user));
    let rows = ["7, NULL, 'x', 1, 'soon'", "7, NULL, 'x', 1, NULL", "8, NULL, 'x', 1, '0'"];
    let world = World::new().set("detect.max_age", "96h").carts(carts).old_rows(&rows);
    world.ok(["cleanup-duplicates"]).says("1 duplicate moved").says("3 mailed rows have a time that cannot be read");
    world.ok([&ADOPT[..], &["--dry-run"]].concat()).says("2 mailed rows have a time that cannot be read");
    world.ok(ADOPT).says("2 rows, 1 removed duplicate").says("2 mailed rows have a time that cannot be read");
    assert_eq!(
        world.list("SELECT last_sent_at FROM cart_abandonment_log"),
        "2026-03-01T12:00:00Z 2026-03-01T12:00:00Z"
    );
    world.ok(["detect"]);
    assert_eq!(world.message().recipient, "c9@example.com");
    // A day on all are written to, one of them again.
    world.set_now("2026-03-02T12:00:01Z");
    world.ok(["detect"]);
    world.has([("sent", 4)]);
}

#[test]
fn a_file_that_is_more_than_a_log_is_refused() {
    let world = World::new().old_rows(&["7, NULL, 'x', 1, 1772000000"]);
    world.by_hand("CREATE TABLE message (id INTEGER PRIMARY KEY, text)");
    let before = world.whole_file();
    world.exits(65, ADOPT).says("a table message").says("mailonce import log");
    assert_eq!(world.whole_file(), before);
}

/// Carts touched an hour ago whose shoppers the older system knows.
#[test]
fn the_old_rows_count_at_once_whatever_their_hash() {
    let rows = [
        "7, 'ada@example.com', 'md5', 1, '2026-03-01 09:00:00'",
        "8, NULL, 'md5', 0, '2026-03-01 09:00:00'",
        "NULL, 'Guest@Example.com', 'md5', 1, '2026-03-01 09:00:00'",
        "9, 'JÖRG@bücher.example', 'md5', 1, '2026-03-01 09:00:00'",
        "10, 'old@example.com', 'md5', 1, '2026-02-28 11:59:59'",
        "11, NULL, 'md5', 1, '2026-02-28 12:00:01'",
        // The copies of one user; the address of the second is another, and was written to as well.
        "12, 'one@example.com', 'md5', 1, '2026-03-01 09:00:00'",
        "12, 'two@example.com', 'md5', 1, '2026-03-01 09:00:04'",
    ];
    let world = adopted(&rows);
    let cart = |id: &str, user: Option<&str>, email: &str| {
        let cart = Cart::of(id).email(email);
        world.put(match user {
            Some(user) => cart.user(user),
            None => cart,
        });
    };
    cart("same-user", Some("7"), "new@example.com");
    cart("same-address", Some("70"), "ADA@example.com");
    cart("only-planned", Some("8"), "eight@example.com");
    cart("guest", None, "guest@example.com");
    cart("umlauts", Some("90"), "jörg@xn--bcher-kva.example");
    cart("a-day-on", Some("10"), "old@example.com");
    cart("almost-a-day", Some("11"), "eleven@example.com");
    cart("removed-copy", None, "two@example.com");
    cart("unknown", Some("99"), "unknown@example.com");
    let dry = world.ok(["detect", "--dry-run"]);
    assert_eq!(dry.stdout.matches("email already sent").count(), 7, "{dry}");
    world.ok(["detect"]);
    let mut recipients: Vec<_> = world.messages().into_iter().map(|message| message.recipient).collect();
    recipients.sort();
    assert_eq!(recipients, ["old@example.com", "unknown@example.com"]);
    // Nothing of it is a trick of the configuration: two days on, all are written to.
    world.configure("detect.max_age", "96h");
    world.set_now("2026-03-02T13:00:00Z");
    world.ok(["detect"]);
    assert_eq!(world.messages().iter().filter(|message| message.state == "sent").count(), 11);
}

#[test]
fn adopted_rows_are_no_news_for_the_clock_and_no_message_for_max_per_cart() {
    let world = World::new().set("detect.max_per_cart", 1).old_rows(&["7, NULL, 'x', 1, '2026-03-01 20:00:00'"]);
    world.ok([&ADOPT[..], &["--timezone", "UTC"]].concat());
    world.put(Cart::of("c1").user("7"));
    world.ok(["detect"]);
    assert_eq!(world.messages(), []);
    world.set_now("2026-03-03T11:00:00Z");
    world.ok(["detect"]);
    world.has([("sent", 1)]);
}

#[test]
fn the_lock_file_remembers_the_ledger_and_an_old_copy_of_the_log_is_not_adopted_again() {
    let world = World::new().cart(Cart::of("c1")).old_rows(&["7, NULL, 'x', 1, 1772000000"]);
    let backup = std::fs::read(world.ledger_file()).unwrap();
    world.ok(ADOPT);
    world.ok(["detect"]);
    world.has([("sent", 1)]);
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", world.ledger_file().display()));
    }
    std::fs::write(world.ledger_file(), backup).unwrap();
    let before = world.whole_file();
    world.exits(74, ADOPT).says("its lock file remembers");
    assert_eq!(world.whole_file(), before);
}

#[test]
fn killed_anywhere_it_is_the_old_log_or_the_whole_ledger() {
    let large = || {
        World::new().old_log(&format!(
            "{PLAIN}
             WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19999)
             INSERT INTO cart_abandonment_log SELECT i + 1, i + 1, NULL, 'x', 1, 1772000000 FROM n;"
        ))
    };
    let mut halfway = 0;
    for grown in [0, 1, 100_000, 1_000_000, 2_000_000, 3_000_000, 4_000_000] {
        let world = large();
        let wal = PathBuf::from(format!("{}-wal", world.ledger_file().display()));
        let mut run = world.spawn(ADOPT);
        let size = || std::fs::metadata(&wal).map_or(0, |meta| meta.len());
        while run.is_running() && (size() < grown || !world.path("mailonce.db.lock").exists()) {
            std::thread::yield_now();
        }
        halfway += u32::from(run.is_running());
        run.kill();
        assert_eq!(world.list("PRAGMA integrity_check"), "ok");
        let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";
        let adopted = world.number("SELECT count(*) FROM sqlite_schema WHERE name = 'ledger'") == 1;
        assert!(adopted || world.number(tables) == 1, "something between the two after a kill at {grown} bytes");
        assert_eq!(world.number("SELECT count(*) FROM cart_abandonment_log"), 20_000);
        world.exits(if adopted { 0 } else { 78 }, ["status"]);
        world.ok(ADOPT);
        assert_eq!(world.number("SELECT count(*) FROM cart_abandonment_log WHERE identity LIKE 'u:%'"), 20_000);
        world.ok(["detect"]);
    }
    assert!(halfway >= 3, "only {halfway} kills met a run under way");
}

#[test]
fn with_nothing_but_the_old_log_each_command_leads_to_the_next() {
    let world = World::new().without_now().old_rows(&["7, NULL, 'x', 1, '2026-02-24 03:42:00'"]);
    std::fs::remove_file(world.path("mailonce.toml")).unwrap();
    world.exits(78, ["cleanup-duplicates"]).says("make one with `mailonce init`");
    let ran = world.exits(78, ["init"]);
    ran.says(" kept: made mailonce.toml, unsubscribe.keys, templates/cart.html")
        .says("run `mailonce cleanup-duplicates` and after it `mailonce add-index`");
    world.exits(2, ["cleanup-duplicates"]).says("for example `--timezone Europe/Berlin`");
    let mut next = "cleanup-duplicates --timezone Europe/Berlin --dry-run".to_owned();
    for expected in ["add-index --timezone Europe/Berlin", "detect --dry-run"] {
        let ran = world.ok(next.split(' '));
        let last = ran.stdout.lines().last().and_then(|line| line.strip_prefix("next: `mailonce ")?.split('`').next());
        assert_eq!(last, Some(expected), "{ran}");
        next = expected.to_owned();
    }
    world.ok(["status"]).says("live ledger");
}
