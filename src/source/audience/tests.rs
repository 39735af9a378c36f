//! Against real files and a real database.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use chrono_tz::Tz;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::failure::Exit;
use crate::source::BadRow;
use crate::source::tests::{exit_of, settings};

/// A file that has been still for a minute.
fn file(dir: &TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    set_age(&path, 60);
    path
}

fn set_age(path: &Path, seconds: i64) {
    let now = SystemTime::now();
    let span = Duration::from_secs(seconds.unsigned_abs());
    let at = if seconds < 0 { now + span } else { now - span };
    OpenOptions::new().append(true).open(path).unwrap().set_modified(at).unwrap();
}

fn audience(path: PathBuf) -> Audience {
    if path.extension().is_some_and(|end| end == "csv") { Audience::Csv(path) } else { Audience::JsonLines(path) }
}

fn read_all(audience: &Audience, source: &SourceSettings) -> Result<(Vec<RecipientRow>, Vec<BadRow>)> {
    let (mut recipients, mut bad) = (Vec::new(), Vec::new());
    let summary = read(audience, source, &mut |row| {
        match row {
            AudienceRow::Recipient(recipient) => recipients.push(recipient),
            AudienceRow::Bad(row) => bad.push(row),
        }
        Ok(())
    })?;
    assert_eq!((summary.rows, summary.bad), (recipients.len() as u64, bad.len() as u64));
    Ok((recipients, bad))
}

fn read_path(path: PathBuf) -> Result<(Vec<RecipientRow>, Vec<BadRow>)> {
    read_all(&audience(path), &settings(SourceKind::Csv, PathBuf::from("none"), Tz::UTC))
}

fn refused(path: PathBuf) -> String {
    let err = read_path(path).unwrap_err();
    assert_eq!(exit_of(&err), Exit::NeedsAPerson, "{err}");
    err.to_string()
}

fn places(bad: &[BadRow]) -> Vec<(&str, &str)> {
    bad.iter().map(|bad| (bad.place.as_str(), bad.problem.as_str())).collect()
}

#[test]
fn csv_rows_become_recipients() {
    let dir = TempDir::new().unwrap();
    let text = b"\xef\xbb\xbfname, Email ,note,\n\
        Ada,Ada@Example.com,\"a \"\"note\"\"\",\n\
        Bob,,x,\n\
        Cid,cid.example.com,x,\n\
        Dan,dan@example.com\n\
        \n\
        Eve,eve@example.com,\xff,\n\
        Ada,ada@example.com,again,\n\
        Fay,\"a@example.com\r\nBcc: b@example.com\",x,\n\
        \"Gus,gus@example.com,x,\n\
        Hal,hal@example.com,,\n";
    for text in [text.to_vec(), String::from_utf8_lossy(text).replace('\n', "\r\n").replace("\r\r", "\r").into_bytes()]
    {
        let utf8 = std::str::from_utf8(&text).is_ok();
        let (recipients, bad) = read_path(file(&dir, "a.csv", &text)).unwrap();
        let emails: Vec<String> = recipients.iter().map(|row| row.address.envelope()).collect();
        let expected = ["Ada@example.com", "eve@example.com", "ada@example.com", "hal@example.com"];
        let expected: Vec<&str> = expected.into_iter().filter(|&email| utf8 || !email.starts_with("eve")).collect();
        assert_eq!(emails, expected);
        assert_eq!(recipients[0].values["email"], "Ada@Example.com");
        assert_eq!(recipients[0].values["name"], "Ada");
        assert_eq!(recipients[0].values.len(), 3, "a column without a name is left out");
        let found = places(&bad);
        assert_eq!(found[0], ("a.csv:3", "no recipient"));
        assert_eq!(found[1], ("a.csv:4", "the address has no @: \"cid.example.com\""));
        assert_eq!(found[2], ("a.csv:5", "the row has 2 fields where the header has 4"));
        if !utf8 {
            assert_eq!(found[3], ("a.csv:7", "the column note is not UTF-8 (`iconv` makes it so)"));
        }
        assert_eq!(found[found.len() - 2], ("a.csv:9", "a field holds line breaks; lines 9 to 10 are one row"));
        let never = "a field holds a line break, or a quote in it is never closed";
        assert_eq!(found[found.len() - 1], ("a.csv:11", never));
        assert!(bad.iter().all(|row| !row.problem.contains('\n') && !row.key.is_empty()));
    }
}

#[test]
fn json_lines_become_recipients_with_values_of_any_kind() {
    let dir = TempDir::new().unwrap();
    let text = b"\xef\xbb\xbf{\"EMAIL\":\"ada@example.com\",\"points\":12,\"tags\":[\"a\"],\"name\":null}\n\
        \n[1]\n{\"name\":\"Bob\"}\n{\"email\":5}\n{\"email\":\"x\",\n{\"email\":\"\xff@example.com\"}\n\
        {\"email\":\"a@example.com\",\"Email\":\"b@example.com\"}\n{\"email\":\"cid@example.com\"}";
    let (recipients, bad) = read_path(file(&dir, "a.jsonl", text)).unwrap();
    assert_eq!(recipients.len(), 2);
    assert_eq!(recipients[0].values["email"], "ada@example.com");
    assert_eq!((&recipients[0].values["points"], &recipients[0].values["tags"][0]), (&12.into(), &"a".into()));
    let expected = [
        ("a.jsonl:3", "the line is not a JSON object"),
        ("a.jsonl:4", "no recipient"),
        ("a.jsonl:5", "the email is not a text"),
        ("a.jsonl:6", "the line is not JSON: EOF while parsing an object, column 13"),
        ("a.jsonl:7", "the line is not UTF-8"),
        ("a.jsonl:8", "the object has more than one email"),
    ];
    let found = places(&bad);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.into_iter().zip(expected) {
        assert_eq!((found.0, &found.1[..20.min(found.1.len())]), (expected.0, &expected.1[..20.min(expected.1.len())]));
    }
}

#[test]
fn a_line_beyond_a_mebibyte_is_one_bad_row() {
    let dir = TempDir::new().unwrap();
    let long = "x".repeat(3 * 1024 * 1024);
    let csv = format!("email,name\nada@example.com,Ada\nbob@example.com,{long}\ncid@example.com,Cid\n");
    let jsonl =
        format!("{{\"email\":\"ada@example.com\"}}\n{{\"email\":\"{long}\"}}\n{{\"email\":\"cid@example.com\"}}\n");
    for (name, text, line) in [("a.csv", csv, "a.csv:3"), ("a.jsonl", jsonl, "a.jsonl:2")] {
        let (recipients, bad) = read_path(file(&dir, name, text.as_bytes())).unwrap();
        assert_eq!((recipients.len(), bad.len()), (2, 1));
        assert!(bad[0].place == line && bad[0].problem.contains("longer than 1 MiB"), "{bad:?}");
    }
}

#[test]
fn what_spreadsheets_and_mail_services_export_is_read() {
    let dir = TempDir::new().unwrap();
    let utf16 = |text: &str| [vec![0xff, 0xfe], text.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat();
    for (text, first_name) in [
        (b"\"Email Address\",\"First Name\",MEMBER_RATING\nAda@example.com,Ada,2\n".to_vec(), "Ada"),
        (b"First Name;E-Mail\r\nAda;Ada <Ada@example.com>\r\n".to_vec(), "Ada"),
        (b"First Name\tE-Mail\rAda\tAda@example.com\r".to_vec(), "Ada"),
        (utf16("E-Mail\tFirst Name\r\nAda@example.com\tNULL\r\n"), ""),
        (b"sep=;\r\nemail;First Name\r\nAda@example.com;\\N\r\n".to_vec(), ""),
        (b"\xef\xbb\xbfEMAIL_ADDRESS,First Name\n\xef\xbb\xbfAda@example.com,Ada\n".to_vec(), "Ada"),
    ] {
        let (recipients, bad) = read_path(file(&dir, "a.csv", &text)).unwrap();
        assert_eq!((recipients.len(), bad.len()), (1, 0), "{bad:?}");
        assert_eq!(recipients[0].address.envelope(), "Ada@example.com");
        assert_eq!(recipients[0].values["First_Name"], first_name);
        assert!(recipients[0].values.contains_key("email"));
    }
    let object = b"{\"Email Address\":\"ada@example.com\",\"First Name\":\"NULL\",\"First_Name\":\"Ada\"}\n";
    let (recipients, _) = read_path(file(&dir, "a.jsonl", object)).unwrap();
    assert_eq!((&recipients[0].values["First_Name"], &recipients[0].values["First Name"]), (&"Ada".into(), &"".into()));
}

#[test]
fn without_a_column_email_the_columns_are_named() {
    let dir = TempDir::new().unwrap();
    let err = refused(file(&dir, "a.csv", b"name,contact\nAda,ada@example.com\n"));
    assert!(err.contains("a.csv has no column email; its columns are: name, contact"), "{err}");
    assert!(
        refused(file(&dir, "a.csv", b"email,Email\na@example.com,b@example.com\n")).contains("more than one column")
    );
    assert!(refused(file(&dir, "a.csv", b"email,x,x\na@example.com,1,2\n")).contains("more than one column x"));
    assert!(refused(file(&dir, "a.jsonl", b"{\"contact\":\"a@example.com\"}\n")).contains("its columns are: contact"));
}

#[test]
fn a_file_that_is_not_ready_is_not_used() {
    let dir = TempDir::new().unwrap();
    assert!(refused(dir.path().join("none.csv")).contains("could not read the audience"));
    fs::create_dir(dir.path().join("folder.csv")).unwrap();
    assert!(refused(dir.path().join("folder.csv")).contains("is not a file"));
    for (name, text, why) in [
        ("a.csv", "", "is empty"),
        ("a.csv", "email\n", "holds no recipient (0 bad rows)"),
        ("a.csv", "email,x\nbob,\n", "holds no recipient (1 bad row)"),
        ("a.jsonl", "", "holds no recipient"),
        ("a.jsonl", "\n\n", "holds no recipient"),
    ] {
        let err = refused(file(&dir, name, text.as_bytes()));
        assert!(err.contains(why), "{err}");
    }
    let path = file(&dir, "a.csv", b"email\nada@example.com\n");
    assert_eq!(read_path(path.clone()).unwrap().0.len(), 1);
    set_age(&path, 8);
    assert!(refused(path.clone()).contains("in the last 10 seconds"));
    set_age(&path, -3600);
    assert!(refused(path).contains("seconds from now"));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_used() {
    let dir = TempDir::new().unwrap();
    let source = settings(SourceKind::Csv, PathBuf::from("none"), Tz::UTC);
    for name in ["a.csv", "a.jsonl"] {
        let text: &[u8] = if name == "a.csv" { b"email\na@example.com\n" } else { b"{\"email\":\"a@example.com\"}\n" };
        let changes: [&dyn Fn(&Path); 4] = [
            // It grows with each row that is read.
            &|path| OpenOptions::new().append(true).open(path).unwrap().write_all(text).unwrap(),
            &|path| fs::write(path, [text, text].concat()).unwrap(),
            // The same size, another time.
            &|path| set_age(path, 3000),
            // Replaced as a whole, with the same size and time.
            &|path| {
                let new = file(&dir, "new", text);
                let time = fs::metadata(path).unwrap().modified().unwrap();
                OpenOptions::new().append(true).open(&new).unwrap().set_modified(time).unwrap();
                fs::rename(new, path).unwrap();
            },
        ];
        for change in changes {
            let path = file(&dir, name, text);
            let err = read(&audience(path.clone()), &source, &mut |_| {
                change(&path);
                Ok(())
            })
            .unwrap_err();
            assert!(
                exit_of(&err) == Exit::NeedsAPerson && err.to_string().contains("changed while it was read"),
                "{err}"
            );
        }
    }
}

#[test]
fn an_error_of_the_reader_ends_the_reading_as_it_is() {
    let dir = TempDir::new().unwrap();
    let source = settings(SourceKind::Csv, PathBuf::from("none"), Tz::UTC);
    let path = file(&dir, "a.csv", b"email\na@example.com\n");
    let err = read(&audience(path), &source, &mut |_| Err(Failure::ledger("full", "").into())).unwrap_err();
    assert_eq!(exit_of(&err), Exit::LedgerOrDisk);
}

#[test]
fn a_query_finds_recipients_and_leaves_the_database_free() {
    for mode in ["DELETE", "WAL"] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("shop.db");
        let shop = Connection::open(&path).unwrap();
        shop.pragma_update(None, "journal_mode", mode).unwrap();
        shop.execute_batch(
            "CREATE TABLE people (mail, name, points, photo);
             INSERT INTO people VALUES ('ada@example.com', 'Ada', 12, NULL), (NULL, 'Bob', 1.5, NULL),
                ('cid', 'Cid', 1, NULL), ('dan@example.com', CAST(x'ff' AS TEXT), 1, NULL),
                ('eve@example.com', 'Eve', 2.5, NULL), ('fay@example.com', 'Fay', 1, x'00');
             INSERT INTO people VALUES ('gus@example.com', printf('%.*c', 1100000, 'x'), 1, NULL);",
        )
        .unwrap();
        let source = settings(SourceKind::Sqlite, path.clone(), Tz::UTC);
        let sql = |text: &str| Audience::Sql(text.into());
        let query = sql("SELECT mail AS Email, name, points, photo FROM people ORDER BY name; ");
        let (mut recipients, mut bad) = (Vec::new(), Vec::new());
        read(&query, &source, &mut |row| {
            shop.execute("UPDATE people SET points = points + 0", []).unwrap();
            match row {
                AudienceRow::Recipient(recipient) => recipients.push(recipient),
                AudienceRow::Bad(row) => bad.push(row),
            }
            Ok(())
        })
        .unwrap();
        let names: Vec<_> = recipients.iter().map(|row| row.values["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["Ada", "Eve"]);
        assert_eq!((&recipients[0].values["points"], &recipients[1].values["points"]), (&12.into(), &2.5.into()));
        let problems: Vec<_> = bad.iter().map(|row| row.problem.as_str()).collect();
        assert!(bad[0].place == "shop.db: row 2", "{bad:?}");
        for problem in [
            "no recipient",
            "the address has no @: \"cid\"",
            "the column photo is a BLOB, not a text",
            "the column name is not UTF-8",
            "the row is longer than 1 MiB",
        ] {
            assert!(problems.contains(&problem), "{problem}: {problems:?}");
        }
        for (query, why) in [
            ("SELECT name FROM people", "has no column email; its columns are: name"),
            ("SELECT 1; SELECT 2", "more than one statement"),
            ("DELETE FROM people RETURNING mail AS email", "not one that only reads"),
            ("ATTACH 'x.db' AS x", "not one that only reads"),
            ("SELECT mail AS email FROM nobody", "no such table"),
            ("SELECT mail AS email FROM people WHERE name = :name", "has the parameter :name"),
            ("SELECT mail AS email FROM people WHERE 0", "holds no recipient"),
        ] {
            let err = read_all(&sql(query), &source).unwrap_err();
            assert_eq!(exit_of(&err), Exit::NeedsAPerson, "{err}");
            assert!(err.to_string().contains(why), "{query}: {err}");
        }
        shop.execute_batch("DROP TABLE people").unwrap();
        let other = SourceSettings { kind: SourceKind::Csv(path.clone()), ..source.clone() };
        assert_eq!(exit_of(&read_all(&query, &other).unwrap_err()), Exit::NeedsAPerson);
        let missing = SourceSettings { kind: SourceKind::Sqlite(dir.path().join("none.db")), ..source };
        assert_eq!(exit_of(&read_all(&query, &missing).unwrap_err()), Exit::NeedsAPerson);
    }
}
