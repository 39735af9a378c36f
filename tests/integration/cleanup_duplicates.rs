//! `cleanup-duplicates`: which rows of an old log go, what stays, and the way back.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;

use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use crate::support::{Cart, PLAIN, World};

const EXAMPLE: &str = include_str!("../../examples/old_log.sql");
const BERLIN: [&str; 3] = ["cleanup-duplicates", "--timezone", "Europe/Berlin"];
const KEPT: &str = "SELECT id FROM cart_abandonment_log ORDER BY id";
const COUNT_MOVED: &str = "SELECT count(*) FROM removed_duplicate";
const MOVED: &str = "SELECT id || '>' || kept_row FROM removed_duplicate ORDER BY id";

/// What is kept of these rows, and what is moved to which, with times in UTC.
#[track_caller]
fn cleaned(rows: &[&str], arguments: &[&str]) -> (String, String) {
    let world = World::new().old_rows(rows);
    world.ok([&["cleanup-duplicates", "--timezone", "UTC"], arguments].concat());
    let moved = world.number("SELECT count(*) FROM sqlite_schema WHERE name = 'removed_duplicate'") > 0;
    (world.list(KEPT), if moved { world.list(MOVED) } else { String::new() })
}

#[track_caller]
fn assert_cleaned(rows: &[&str], kept: &str, moved: &str) {
    assert_eq!(cleaned(rows, &[]), (kept.to_owned(), moved.to_owned()), "{rows:#?}");
}

#[test]
fn the_duplicates_that_shops_saw() {
    let world = World::new().old_log(EXAMPLE);
    let report = world.ok(BERLIN);
    for line in [
        "14 rows looked at",
        "7 duplicates moved to removed_duplicate, of 4 carts by 4 shoppers: less than 24h from a better row",
        "4 of them were mails that went out again, to 2 shoppers",
        "u:12, cart c09d44a1: 4 rows, 4 mails, 2026-02-25T08:00:00Z to 2026-02-25T08:00:01Z",
        "1 row with neither user nor address left alone",
        "next: `mailonce add-index`",
    ] {
        report.says(line);
    }
    assert_eq!(world.list(KEPT), "1 3 4 10 11 13 14");
    assert_eq!(world.list(MOVED), "2>1 5>4 6>4 7>4 8>10 9>10 12>11");
    assert_eq!(
        world.list("SELECT last_sent_at FROM cart_abandonment_log ORDER BY id"),
        "2026-02-24 03:42:04 - 2026-02-25 09:00:01 - - - -"
    );
}

#[test]
fn as_json_it_is_one_document() {
    let world = World::new().old_log(EXAMPLE);
    let dry = world.ok([&BERLIN[..], &["--dry-run", "--json"]].concat()).json();
    let json = world.ok([&BERLIN[..], &["--json"]].concat()).json();
    assert_eq!((&dry["moved"], &json["moved"]), (&json!(0), &json!(7)));
    assert_eq!(dry["found"], json["found"]);
    let found = &json["found"];
    for (key, value) in [
        ("rows", 14),
        ("groups", 4),
        ("duplicates", 7),
        ("shoppers", 4),
        ("mails_sent_again", 4),
        ("shoppers_mailed_again", 2),
        ("without_shopper", 1),
        ("unreadable", 0),
    ] {
        assert_eq!(found[key], value, "{key}");
    }
    assert_eq!(found["worst"][0]["shopper"], "u:12");
    assert_eq!(found["worst"][3]["shopper"], "e:e…@example.com", "an address was printed whole");
}

#[test]
fn the_best_row_stays_and_what_is_a_window_apart_is_none() {
    let at = |time: &str| format!("1, NULL, 'x', 1, '2026-02-01 {time}'");
    let (first, almost, day_on) = (at("08:00:00"), at("20:00:00"), "1, NULL, 'x', 1, '2026-02-02 08:00:00'");
    assert_cleaned(&[&first, "1, NULL, 'x', 1, '2026-02-02 07:59:59'"], "1", "2>1");
    assert_cleaned(&[&first, day_on], "1 2", "");
    // One that is near two kept rows goes to the better one.
    assert_cleaned(&[day_on, &almost, &first], "1 3", "2>3");
    // A mail, however late, before a row that was only planned.
    assert_cleaned(&["1, NULL, 'x', 0, '2026-02-01 08:00:00'", &almost], "2", "1>2");
    // The oldest, then the lowest id.
    assert_cleaned(&[&almost, &first, &first], "2", "1>2 3>2");
    // Other contents, another shopper.
    assert_cleaned(
        &[&first, "1, NULL, 'y', 1, '2026-02-01 08:00:00'", "2, NULL, 'x', 1, '2026-02-01 08:00:00'"],
        "1 2 3",
        "",
    );
    assert_eq!(cleaned(&[&first, &almost], &["--window", "12h"]).1, "");
    assert_eq!(cleaned(&[&first, &almost], &["--window", "43201s"]).1, "2>1");
    World::new().old_rows(&[]).exits(2, ["cleanup-duplicates", "--window", "0s"]);
}

#[test]
fn a_shopper_is_a_user_however_written_or_else_a_folded_address() {
    let row = |user: &str, email: &str| format!("{user}, {email}, 'x', 1, 1772000000");
    let (number, text, float) = (row("7", "NULL"), row("' 7'", "'a@example.com'"), row("7.0", "'b@example.com'"));
    assert_cleaned(&[&number, &text, &float], "1", "2>1 3>1");
    let (plain, spelled) = (row("NULL", "'joerg@bücher.example'"), row("''", "' Joerg@XN--bcher-kva.example '"));
    assert_cleaned(&[&plain, &spelled], "1", "2>1");
    // Many shops write 0 for a guest.
    let (one, other) = (row("0", "'a@example.com'"), row("'0'", "'b@example.com'"));
    assert_cleaned(&[&one, &other], "1 2", "");
    // No one at all: left alone, never grouped.
    assert_cleaned(&[&row("NULL", "NULL"), &row("NULL", "' '")], "1 2", "");
}

#[test]
fn times_are_compared_as_times_whatever_they_look_like() {
    let row = |time: &str| format!("1, NULL, 'x', 1, {time}");
    let spellings = [
        "'2026-02-24 03:42:00'",
        "'2026-02-24T03:42:00Z'",
        "'2026-02-24 04:42:00+01:00'",
        "'2026-02-24T03:42:00.123456'",
        "1771904520",
        "'1771904520'",
        "1771904520000",
        "1771904520.25",
        "'2026-02-24 03:42'",
    ];
    for spelling in spellings {
        // A day before: kept, so that only the right reading of the other makes it a duplicate of nothing else.
        let rows = [row("'2026-02-23T03:42:00Z'"), row("'2026-02-24T03:42:30Z'"), row(spelling)];
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let expected = ("1 3".to_owned(), "2>3".to_owned());
        assert_eq!(cleaned(&rows, &[]), expected, "{spelling}");
    }
}

#[test]
fn a_time_without_a_zone_needs_one_and_nothing_changes_before() {
    let world =
        World::new().old_rows(&["1, NULL, 'x', 1, '2026-02-24T03:42:00Z'", "1, NULL, 'x', 1, '2026-02-24 03:42:00'"]);
    let before = world.whole_file();
    for arguments in [&["cleanup-duplicates"][..], &["cleanup-duplicates", "--dry-run"], &["add-index", "--rehearsal"]]
    {
        let ran = world.exits(2, arguments);
        assert!(ran.stderr.contains("row 2: the time \"2026-02-24 03:42:00\" has no zone"), "{ran}");
        ran.says("--timezone");
    }
    assert_eq!(world.whole_file(), before);
    // 03:42 in Tokyo is the evening before.
    world.ok(["cleanup-duplicates", "--timezone", "Asia/Tokyo"]).says("of 1 cart");
    assert_eq!(world.list(KEPT), "2");
}

#[test]
fn a_row_that_cannot_be_read_is_named_and_left_alone() {
    let world = World::new().old_rows(&[
        "1, NULL, 'x', 0, 'last tuesday'",
        "1, NULL, 'x', 0, NULL",
        "1, NULL, 'x', 'perhaps ada@example.com', 1772000000",
        "1, NULL, 'x', 0, 4102444800",
        "x'00', NULL, 'x', 1, 1772000000",
        "1, NULL, 'x', 1, 1772000000",
        "1, NULL, 'x', 1, 1772000001",
    ]);
    let ran = world.exits(1, ["cleanup-duplicates"]);
    for line in [
        "row 1: the created_at \"last tuesday\" is not a time; left alone",
        "row 2: no created_at",
        "row 3: the email_sent \"perhaps a…@example.com\" is neither yes, no nor a number",
        "row 4: the created_at \"4102444800\" lies in the future",
        "row 5: the user_id is a BLOB",
    ] {
        assert!(ran.stderr.contains(line), "{line}: {ran}");
    }
    assert_eq!(world.list(MOVED), "7>6");
}

#[test]
fn mailed_rows_whose_time_cannot_be_read_are_told_and_can_be_put_back() {
    let world = World::new().old_rows(&["1, NULL, 'x', 1, 'soon'", "1, NULL, 'x', 1, NULL", "2, NULL, 'x', 1, 'soon'"]);
    let rows = world.rows("SELECT * FROM cart_abandonment_log");
    let ran = world.ok(["cleanup-duplicates"]);
    ran.says("u:1, cart x: 2 rows, 2 mails, at a time that cannot be read\n");
    ran.says("3 mailed rows have a time that cannot be read; they count as mailed when the file is adopted");
    assert_eq!(world.list(MOVED), "2>1");
    world.ok(["cleanup-duplicates", "--restore"]).says("next: `mailonce cleanup-duplicates`");
    assert_eq!(world.rows("SELECT * FROM cart_abandonment_log"), rows);
}

#[test]
fn without_duplicates_the_next_command_has_the_zone_that_nothing_else_remembers() {
    let world = World::new().old_rows(&["1, NULL, 'x', 1, '2026-02-01 08:00:00'"]);
    let ran = world.ok(["cleanup-duplicates", "--timezone", "Asia/Tokyo"]);
    let next = ran.stdout.lines().last().and_then(|line| line.strip_prefix("next: `mailonce ")?.strip_suffix('`'));
    assert_eq!(next, Some("add-index --timezone Asia/Tokyo"), "{ran}");
    world.ok(next.unwrap().split(' ').chain(["--rehearsal"])).says("1 row, 0 removed duplicates");
}

#[test]
fn the_kept_row_learns_of_the_groups_latest_mail() {
    let rows = "INSERT INTO cart_abandonment_log (id, user_id, cart_hash, email_sent, created_at, sent_at) VALUES
        (1, 1, 'x', 1, '2026-02-01 08:00:00', '2026-02-01 08:00:09'),
        (2, 1, 'x', 1, '2026-02-01 09:00:00', '2026-02-03 11:00:00'),
        (3, 1, 'x', 0, '2026-02-01 20:00:00', '0000-00-00 00:00:00'),
        (4, 2, 'x', 1, '2026-02-01 08:00:00', NULL), (5, 2, 'x', 0, '2026-02-01 09:00:00', NULL),
        (6, 3, 'x', 1, '2026-02-01 08:00:00', '0000-00-00 00:00:00'), (7, 3, 'x', 1, '2026-02-01 09:00:00', NULL);";
    let world =
        World::new().old_log(&format!("{PLAIN} ALTER TABLE cart_abandonment_log ADD COLUMN sent_at TEXT; {rows}"));
    world.ok(["cleanup-duplicates", "--timezone", "UTC"]);
    assert_eq!(world.list(KEPT), "1 4 6");
    let latest = "2026-02-03 11:00:00 - 2026-02-01 09:00:00";
    assert_eq!(world.list("SELECT sent_at FROM cart_abandonment_log ORDER BY id"), latest);
}

#[test]
fn a_dry_run_writes_nothing_and_takes_no_lock() {
    let world = World::new().old_log(EXAMPLE);
    let before = std::fs::read(world.ledger_file()).unwrap();
    world.ok([&BERLIN[..], &["--dry-run"]].concat()).says("7 duplicates would move");
    assert_eq!(std::fs::read(world.ledger_file()).unwrap(), before);
    assert!(!world.path("mailonce.db.lock").exists());
    let lock = std::fs::File::create(world.path("mailonce.db.lock")).unwrap();
    lock.lock().unwrap();
    world.ok([&BERLIN[..], &["--dry-run"]].concat());
    world.exits(75, BERLIN);
    lock.unlock().unwrap();
    world.ok(BERLIN);
    world.ok(BERLIN).says("no duplicates");
}

/// Everything an old table can hold, besides what a mailonce knows.
const ODD: &str = "CREATE TABLE cart_abandonment_log (id INTEGER PRIMARY KEY, user_id, email TEXT, cart_hash TEXT, email_sent,
        created_at, \"odd \"\"name\" BLOB, score REAL, CHECK (score IS NULL OR score < 9));
    CREATE INDEX idx_user_cart_unique ON cart_abandonment_log (score);
    CREATE TABLE deleted (id);
    CREATE TRIGGER on_delete AFTER DELETE ON cart_abandonment_log BEGIN INSERT INTO deleted VALUES (OLD.id); END;
    CREATE TABLE child (log INTEGER REFERENCES cart_abandonment_log (id) ON DELETE CASCADE);
    CREATE VIEW mailed AS SELECT id FROM cart_abandonment_log WHERE email_sent = 1;
    INSERT INTO cart_abandonment_log VALUES (5, '7', 'a@example.com', 'x', 1, 1772000000, x'00ff', 0.1),
        (9, 7, CAST(x'ff' AS TEXT), 'x', 'true', '1772000007', CAST(x'80' AS TEXT), 3), (11, 8, NULL, 'x', 0, 1772000000, NULL, NULL);
    INSERT INTO child VALUES (9);";

#[test]
fn restore_puts_everything_back_as_it_was() {
    for sql in [EXAMPLE, ODD] {
        let world = World::new().old_log(sql);
        let before = world.whole_file();
        world.ok([&["cleanup-duplicates", "--window", "1s", "--timezone", "Europe/Berlin"][..]].concat());
        world.ok(BERLIN);
        assert_ne!(world.whole_file(), before);
        world.ok(["cleanup-duplicates", "--restore"]).says("put back");
        assert_eq!(world.whole_file(), before);
        world.ok(["cleanup-duplicates", "--restore"]).says("nothing to restore");
        world.ok(BERLIN);
        world.ok(["add-index", "--rehearsal"]);
        let adopted = world.whole_file();
        world.exits(2, ["cleanup-duplicates", "--restore"]).says("the index is there already");
        assert_eq!(world.whole_file(), adopted);
    }
}

#[test]
fn a_mail_that_the_older_system_sent_meanwhile_outlives_a_restore() {
    let rows = "INSERT INTO cart_abandonment_log VALUES (1, 'u1', 'x', 1, '2026-03-01 10:00:00', '2026-03-01 10:00:01'),
        (2, 'u1', 'x', 1, '2026-03-01 10:00:05', '2026-03-01 10:00:06'), (3, 'u2', 'x', 1, '2026-03-01 10:00:00', '2026-03-01 10:00:01'),
        (4, 'u2', 'x', 1, '2026-03-01 10:00:05', '2026-03-01 10:00:06');";
    let world = World::new().old_log(&format!(
        "CREATE TABLE cart_abandonment_log (id INTEGER PRIMARY KEY, user_id, cart_hash, email_sent, created_at, last_sent_at); {rows}"
    ));
    let sent = || world.list("SELECT id || '=' || substr(last_sent_at, 12, 8) FROM cart_abandonment_log ORDER BY id");
    let clean = || world.ok(["cleanup-duplicates", "--timezone", "UTC"]);
    clean();
    assert_eq!(sent(), "1=10:00:06 3=10:00:06");
    world.by_hand("UPDATE cart_abandonment_log SET last_sent_at = '2026-03-01 11:30:00' WHERE id = 1");
    world.ok(["cleanup-duplicates", "--restore"]).says("2 rows put back; 1 kept row written to since");
    assert_eq!(sent(), "1=11:30:00 2=10:00:06 3=10:00:01 4=10:00:06");

    // The same when another duplicate came, and was moved aside, in between.
    clean();
    assert_eq!(sent(), "1=11:30:00 3=10:00:06");
    world.by_hand(
        "UPDATE cart_abandonment_log SET last_sent_at = '2026-03-01 12:30:00' WHERE id = 3;
         INSERT INTO cart_abandonment_log VALUES (5, 'u2', 'x', 1, '2026-03-01 10:00:07', '2026-03-01 13:00:00')",
    );
    clean();
    assert_eq!(sent(), "1=11:30:00 3=13:00:00");
    world.ok(["cleanup-duplicates", "--restore"]).says("3 rows put back; the table is as it was");
    assert_eq!(sent(), "1=11:30:00 2=10:00:06 3=12:30:00 4=10:00:06 5=13:00:00");
}

#[test]
fn what_the_older_system_hung_on_its_table_does_not_fire_and_no_value_is_lost() {
    let world = World::new().old_log(ODD);
    // The address of row 9 cannot be read, but its user can.
    world.ok(BERLIN).says("1 duplicate moved");
    assert_eq!(world.number("SELECT (SELECT count(*) FROM deleted) + (SELECT count(*) FROM child)"), 1);
    let kept: (Vec<u8>, i64) = world
        .ledger()
        .query_row("SELECT CAST(\"odd \"\"name\" AS BLOB), score FROM removed_duplicate", [], |row| {
            Ok((row.get(0)?, row.get::<_, f64>(1)? as i64))
        })
        .unwrap();
    assert_eq!(kept, (vec![0x80], 3));
    world.by_hand(
        "INSERT INTO cart_abandonment_log VALUES (12, NULL, CAST(x'ff' AS TEXT), 'x', 1, 1772000000, NULL, NULL, NULL)",
    );
    world.exits(1, BERLIN).says("row 12: the email is not UTF-8; left alone");
}

#[test]
fn what_cannot_be_cleaned_is_refused() {
    let world = World::new();
    world.exits(78, ["cleanup-duplicates"]);
    assert!(!world.ledger_file().exists());
    let no_hash = "CREATE TABLE cart_abandonment_log (id INTEGER PRIMARY KEY, user_id, email_sent, created_at)";
    World::new().old_log(no_hash).exits(65, ["cleanup-duplicates"]).says("no column cart_hash");
    let keyed = "CREATE TABLE cart_abandonment_log (id TEXT PRIMARY KEY, user_id, cart_hash, email_sent, created_at) WITHOUT ROWID";
    World::new().old_log(keyed).exits(65, ["cleanup-duplicates"]).says("import log");
    let taken = World::new().old_log(EXAMPLE);
    taken.by_hand("CREATE TABLE removed_duplicate (mine)");
    let before = taken.whole_file();
    taken.exits(65, BERLIN).says("removed_duplicate");
    assert_eq!(taken.whole_file(), before);
}

#[test]
fn a_table_without_ids_or_with_ids_of_text_is_cleaned_too() {
    let rows = "INSERT INTO cart_abandonment_log (user_id, cart_hash, email_sent, created_at) VALUES
        (1, 'x', 1, 1772000005), (1, 'x', 1, 1772000000), (1, 'x', 1, 1772000000);";
    for columns in ["", "id TEXT PRIMARY KEY DEFAULT (hex(randomblob(8))), "] {
        let world = World::new().old_log(&format!(
            "CREATE TABLE cart_abandonment_log ({columns}user_id, cart_hash, email_sent, created_at); {rows}"
        ));
        let before = world.whole_file();
        world.ok(["cleanup-duplicates"]);
        assert_eq!(world.list("SELECT rowid FROM cart_abandonment_log"), "2");
        assert_eq!(world.list("SELECT removed_row || '>' || kept_row FROM removed_duplicate"), "1>2 3>2");
        world.ok(["cleanup-duplicates", "--restore"]);
        assert_eq!(world.whole_file(), before);
    }
}

#[test]
fn imported_rows_are_cleaned_in_a_ledger_and_rows_with_a_message_never() {
    let world = World::new().cart(Cart::of("c1").user("u1")).init();
    world.ok(["detect"]);
    let hash = world.list("SELECT cart_hash FROM cart_abandonment_log");
    let csv = format!(
        "id,user_id,cart_hash,email_sent,created_at\n1,u1,{hash},1,2026-03-01T11:00:00Z\n2,u1,{hash},1,2026-03-01T11:00:04Z\n"
    );
    std::fs::write(world.path("log.csv"), csv).unwrap();
    world.ok(["import", "log", "log.csv"]).says("2 added");
    let mine = "SELECT * FROM cart_abandonment_log WHERE message_key IS NOT NULL";
    let before = world.rows(mine);
    world.ok(["cleanup-duplicates"]).says("2 rows looked at").says("1 duplicate moved");
    assert_eq!(world.rows(mine), before);
    assert_eq!(world.list("SELECT old_id FROM cart_abandonment_log WHERE message_key IS NULL"), "1");
    let last_sent_at = "SELECT last_sent_at FROM cart_abandonment_log WHERE message_key IS NULL";
    assert_eq!(world.list(last_sent_at), "2026-03-01T11:00:04Z");
    world.ok(["import", "log", "log.csv"]).says("0 added, 2 there already");
    world.ok(["cleanup-duplicates"]).says("no duplicates");
}

/// What is written to a file that no later run will find is written nowhere: no command says that it was.
#[test]
fn a_ledger_that_is_replaced_meanwhile_is_noticed() {
    let commands: [&[&str]; 2] = [&["cleanup-duplicates"], &["import", "log", "log.csv"]];
    for command in commands {
        // Too early, and the command opens the replacement; then once more, with more patience.
        let noticed = [100, 400, 1_600, 6_400].into_iter().any(|patience_in_ms| {
            let world = World::new().init();
            let csv = "id,user_id,cart_hash,email_sent,created_at\n1,u1,x,1,2026-03-01T11:00:00Z\n";
            std::fs::write(world.path("log.csv"), csv).unwrap();
            let copy = std::fs::read(world.ledger_file()).unwrap();
            let writer = Connection::open(world.ledger_file()).unwrap();
            writer.execute_batch("BEGIN IMMEDIATE").unwrap();
            let run = world.spawn(command);
            std::thread::sleep(std::time::Duration::from_millis(patience_in_ms));
            std::fs::remove_file(world.ledger_file()).unwrap();
            std::fs::write(world.ledger_file(), &copy).unwrap();
            writer.execute_batch("ROLLBACK").unwrap();
            let ran = run.wait();
            ran.code == 74 && ran.stderr.contains("deleted or replaced")
        });
        assert!(noticed, "{command:?} wrote to a file that was gone");
    }
}

/// A log of many rows, half of them duplicates.
fn large() -> World {
    World::new().old_log(&format!(
        "{PLAIN}
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19999)
         INSERT INTO cart_abandonment_log SELECT i + 1, 1 + i / 2, NULL, 'x', 1, 1772000000 + i % 2 FROM n;"
    ))
}

#[test]
fn a_reader_sees_the_log_before_or_after_it() {
    let world = large();
    world.by_hand("PRAGMA journal_mode = WAL");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let reader = Connection::open_with_flags(world.ledger_file(), flags).unwrap();
    let count =
        || reader.query_row("SELECT count(*) FROM cart_abandonment_log", [], |row| row.get::<_, i64>(0)).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(count(), 20_000);
    world.ok(["cleanup-duplicates"]).says("10000 duplicates moved");
    assert_eq!(count(), 20_000);
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(count(), 10_000);
}

/// The kernel ends this process, as SIGKILL does, at the first write of a file beyond so many bytes.
fn end_at(bytes: u64) -> std::io::Result<()> {
    for (what, limit) in [(libc::RLIMIT_CORE, 0), (libc::RLIMIT_FSIZE, bytes)] {
        let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: the pointer is valid for the call.
        if unsafe { libc::setrlimit(what, &limit) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

#[test]
fn killed_anywhere_it_leaves_the_log_whole_and_the_next_run_finishes() {
    let whole = large();
    whole.ok(["cleanup-duplicates"]);
    let rows = "SELECT group_concat(id || ':' || coalesce(last_sent_at, ''), ' ') FROM (SELECT * FROM cart_abandonment_log ORDER BY id)";
    let expected = whole.list(rows);
    let mut halfway = 0;
    for grown in [0, 1, 100_000, 300_000, 600_000, 900_000] {
        let world = large();
        if grown > 1 {
            let mut command = world.command(["cleanup-duplicates"]);
            // SAFETY: setrlimit may be called between fork and exec.
            unsafe { command.pre_exec(move || end_at(grown)) };
            halfway += u32::from(command.output().unwrap().status.signal() == Some(libc::SIGXFSZ));
        } else {
            let wal = PathBuf::from(format!("{}-wal", world.ledger_file().display()));
            let mut run = world.spawn(["cleanup-duplicates"]);
            let size = || std::fs::metadata(&wal).map_or(0, |meta| meta.len());
            while run.is_running() && (size() < grown || !world.path("mailonce.db.lock").exists()) {
                std::thread::yield_now();
            }
            halfway += u32::from(run.is_running());
            run.kill();
        }
        let left = world.number("SELECT count(*) FROM cart_abandonment_log");
        let has_table = "SELECT count(*) FROM sqlite_schema WHERE name = 'removed_duplicate'";
        let moved = if world.number(has_table) == 0 { 0 } else { world.number(COUNT_MOVED) };
        assert!([(20_000, 0), (10_000, 10_000)].contains(&(left, moved)), "{left}, {moved} moved, killed at {grown}");
        assert_eq!(world.list("PRAGMA integrity_check"), "ok");
        world.ok(["cleanup-duplicates"]);
        assert_eq!(world.list(rows), expected, "killed at {grown} bytes");
        assert_eq!(world.number(COUNT_MOVED), 10_000);
    }
    assert!(halfway >= 3, "only {halfway} kills met a run under way");
}
