//! Both file kinds against real files.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use chrono_tz::Tz;
use tempfile::TempDir;

use super::*;
use crate::domain::instant;
use crate::failure::{Exit, Failure};

pub(super) const HEADER: &str = "cart_id,user_id,email,name,currency,created_at,updated_at,recovery_url,consent,\
                                 ordered_at,sku,item_name,quantity,unit_price,image_url,url";

/// A kind of source that is a file.
pub(super) type FileKind = fn(PathBuf) -> SourceKind;

pub(super) fn settings(kind: FileKind, path: PathBuf, timezone: Tz) -> SourceSettings {
    SourceSettings {
        kind: kind(path),
        timezone,
        html_names: false,
        carts: None,
        cart: None,
        ordered: None,
        orders: None,
        preset: None,
    }
}

pub(super) fn at(text: &str) -> Instant {
    instant::parse(text, Tz::UTC).unwrap()
}

pub(super) fn the_day() -> Touched {
    let idle_before = at("2026-03-01T12:00:00Z");
    Touched { not_before: at("2026-03-01T00:00:00Z"), idle_before, fresh_until: idle_before }
}

/// The ids of the carts and the bad rows, in the order of the reading.
pub(super) fn read(source: &mut dyn Source, touched: &Touched) -> (Vec<String>, Vec<BadRow>) {
    let (mut carts, mut bad) = (Vec::new(), Vec::new());
    source
        .read_carts(touched, &mut |row| {
            match row {
                Row::Cart(cart) => carts.push(cart.cart_id),
                Row::Bad(row) => bad.push(row),
            }
            Ok(())
        })
        .unwrap();
    (carts, bad)
}

pub(super) fn exit_of(err: &anyhow::Error) -> Exit {
    err.downcast_ref::<Failure>().expect("not a Failure").exit
}

fn opened(kind: FileKind, path: &Path) -> Box<dyn Source> {
    open(&settings(kind, path.to_owned(), Tz::Europe__Berlin)).unwrap()
}

fn json(cart_id: &str, updated_at: &str, more: &str) -> String {
    format!(
        r#"{{"cart_id":"{cart_id}","email":"{cart_id}@example.com","currency":"EUR","updated_at":"{updated_at}"{more},"items":[{{"sku":"A-1","name":"Lamp","quantity":2,"unit_price":19.90}}]}}"#
    )
}

fn row(cart_id: &str, sku: &str) -> String {
    format!("{cart_id},,{cart_id}@example.com,,EUR,,2026-03-01T08:00:00Z,,,,{sku},Lamp,1,5.00,,")
}

fn file(dir: &TempDir, name: &str, text: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn json_lines_are_read_whatever_is_in_them() {
    let dir = TempDir::new().unwrap();
    let mut text = b"\xef\xbb\xbf".to_vec();
    let lines = [
        json("c1", "2026-03-01T08:00:00Z", r#","user_id":7,"consent":"yes","other":{"a":[1]}"#),
        String::new(),
        json("c2", "2026-03-01 09:00:00", r#","consent":false,"ordered_at":"2026-03-01T08:30:00Z""#) + "\r",
        json("c3", "2026-02-20 09:00:00", ""),
        json("c3", "2026-03-01T08:00:00Z", ""),
        json("c5", "soon", ""),
        json("c6", "2026-03-01T08:00:00Z", "").replace("Lamp", "La\\r\\nmp"),
        json("c7", "2026-03-01T08:00:00Z", r#","name":["x"]"#),
        "[\"c8\"]".into(),
        json("c9", "2026-03-01T08:00:00Z", "").replace("\"items\":[", "\"items\":[],\"rest\":["),
    ];
    text.extend_from_slice(lines.join("\n").as_bytes());
    text.extend_from_slice(b"\n{\"cart_id\":\"c10\xff\"}\n{\"cart_id\":\"c11\",\"em");
    let path = file(&dir, "carts.jsonl", &text);
    let mut source = opened(SourceKind::JsonLines, &path);
    let (carts, bad) = read(source.as_mut(), &the_day());
    assert_eq!(carts, ["c1", "c2", "c9"]);
    let places: Vec<_> = bad.iter().map(|bad| bad.place.as_str()).collect();
    assert_eq!(places, [5, 6, 7, 8, 9, 11, 12].map(|line| format!("carts.jsonl:{line}")), "{bad:#?}");
    assert_eq!(bad[0].problem, "duplicate cart_id");
    assert!(bad.iter().all(|bad| !bad.problem.contains("line 1")), "{bad:#?}");

    let Look::Cart(c1) = source.cart("c1").unwrap() else { panic!("c1 is not there") };
    assert_eq!(
        (c1.user_id.as_deref(), c1.consent, c1.lines[0].unit_price.unwrap().display()),
        (Some("7"), Some(true), "€19.90".into())
    );
    assert!(!source.ordered(&c1).unwrap());
    let Look::Cart(c2) = source.cart("c2").unwrap() else { panic!("c2 is not there") };
    assert_eq!(instant::text(c2.updated_at), "2026-03-01T08:00:00Z", "read in Europe/Berlin");
    assert!(source.ordered(&c2).unwrap());
    let mut other = c1.clone();
    other.email = c2.email.clone();
    assert!(source.ordered(&other).unwrap(), "another cart of the same address was ordered since");
    other.created_at = Some(at("2026-03-01T08:30:01Z"));
    assert!(!source.ordered(&other).unwrap(), "that order was before this cart");
    assert!(matches!(source.cart("c3").unwrap(), Look::Bad(_)), "which of the two is meant?");
    assert!(matches!(source.cart("c6").unwrap(), Look::Bad(_)));
    assert_eq!(source.cart("c99").unwrap(), Look::Gone);
}

#[test]
fn the_last_look_sees_a_file_that_was_replaced_or_rewritten() {
    let dir = TempDir::new().unwrap();
    let path = file(&dir, "carts.jsonl", json("c1", "2026-03-01T08:00:00Z", "").as_bytes());
    let mut source = opened(SourceKind::JsonLines, &path);
    assert_eq!(read(source.as_mut(), &the_day()).0, ["c1"]);
    let new = file(&dir, "new", format!("\n{}", json("c2", "2026-03-01T08:00:00Z", "")).as_bytes());
    fs::rename(new, &path).unwrap();
    assert_eq!(source.cart("c1").unwrap(), Look::Gone);
    assert!(matches!(source.cart("c2").unwrap(), Look::Cart(_)));
    fs::write(&path, json("c3", "2026-03-01T08:00:00Z", "")).unwrap();
    assert!(matches!(source.cart("c3").unwrap(), Look::Cart(_)));
    fs::remove_file(&path).unwrap();
    assert_eq!(exit_of(&source.cart("c3").unwrap_err()), Exit::NeedsAPerson);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_used() {
    let dir = TempDir::new().unwrap();
    let kinds: [(FileKind, &str); 2] = [(SourceKind::JsonLines, "carts.jsonl"), (SourceKind::Csv, "carts.csv")];
    for (kind, name) in kinds {
        let (one, two) = match name {
            "carts.csv" => (format!("{HEADER}\n{}\n", row("c1", "A")), row("c2", "B")),
            _ => (json("c1", "2026-03-01T08:00:00Z", "") + "\n", json("c2", "2026-03-01T08:00:00Z", "")),
        };
        let path = file(&dir, name, one.as_bytes());
        let mut source = opened(kind, &path);
        let err = source
            .read_carts(&the_day(), &mut |_| {
                let mut open = fs::OpenOptions::new().append(true).open(&path)?;
                Ok(open.write_all(two.as_bytes())?)
            })
            .unwrap_err();
        assert_eq!(exit_of(&err), Exit::NeedsAPerson);
        assert!(err.to_string().contains("changed while it was read"), "{err}");
        assert!(matches!(source.cart("c2").unwrap(), Look::Cart(_)), "the next look reads the new file");
    }
}

#[test]
fn a_line_of_50_megabytes_is_one_bad_row() {
    let dir = TempDir::new().unwrap();
    let long = "x".repeat(50 * 1024 * 1024);
    let before = json("c1", "2026-03-01T08:00:00Z", "");
    let after = json("c2", "2026-03-01T08:00:00Z", "");
    let path = file(&dir, "carts.jsonl", format!("{before}\n{long}\n{after}\n").as_bytes());
    let (carts, bad) = read(opened(SourceKind::JsonLines, &path).as_mut(), &the_day());
    assert_eq!((carts.len(), bad.len(), bad[0].place.as_str()), (2, 1, "carts.jsonl:2"));

    let broken = row("c2", "B").replace("Lamp", &long);
    let text = format!("{HEADER}\n{}\n{broken}\n{}\n{}\n", row("c1", "A"), row("c2", "C"), row("c3", "D"));
    let path = file(&dir, "carts.csv", text.as_bytes());
    let mut source = opened(SourceKind::Csv, &path);
    let (carts, bad) = read(source.as_mut(), &the_day());
    assert_eq!(carts, ["c1", "c3"], "half of c2 is no cart");
    assert_eq!((bad.len(), bad[0].place.as_str()), (1, "carts.csv:3"), "{bad:#?}");
    assert!(matches!(source.cart("c3").unwrap(), Look::Cart(_)));
    assert!(matches!(source.cart("c2").unwrap(), Look::Bad(_)));
}

#[test]
fn csv_rows_become_carts() {
    let dir = TempDir::new().unwrap();
    let text = [
        format!("\u{feff}{HEADER},note"),
        row("c1", "A") + ",\"a \"\"note\"\", quoted\"",
        row("c1", "B") + ",",
        String::new(),
        row("c2", "\"A, the \"\"first\"\"\"") + ",x",
        "c3,,c3@example.com,,EUR,,2026-03-01T08:00:00Z,,,,,,,,,,".into(),
        row("c1", "C") + ",",
        row("c4", "A"),
        row("c4", "B") + ",",
        row("c5", "A").replace("EUR", "USD") + ",",
        row("c5", "B") + ",",
        row("c6", "\"A\nB\"") + ",",
        row("c7", "A").replace("Lamp", "") + ",",
        row("", "A") + ",",
    ];
    for line_end in ["\n", "\r\n"] {
        let text = text.join(line_end);
        let path = file(&dir, "carts.csv", text.as_bytes());
        let mut source = opened(SourceKind::Csv, &path);
        let (carts, bad) = read(source.as_mut(), &the_day());
        assert_eq!(carts, ["c1", "c2", "c3", "c7"], "{bad:#?}");
        let found: Vec<_> = bad.iter().map(|bad| (bad.place.as_str(), bad.problem.as_str())).collect();
        assert_eq!(
            found,
            [
                ("carts.csv:7", "duplicate cart_id: the rows of one cart have to stand together"),
                ("carts.csv:8", "the row has 16 fields where the header has 17"),
                ("carts.csv:10", "its rows differ in currency"),
                ("carts.csv:12", "a field holds line breaks; lines 12 to 13 are one row"),
                ("carts.csv:15", "no cart_id"),
            ]
        );
        assert!(matches!(source.cart("c1").unwrap(), Look::Bad(_)), "half of c1 was taken for all of it");
        let Look::Cart(c2) = source.cart("c2").unwrap() else { panic!("c2 is not there") };
        assert_eq!(c2.lines[0].sku, "A, the \"first\"");
        let Look::Cart(c3) = source.cart("c3").unwrap() else { panic!("c3 is not there") };
        assert!(c3.lines.is_empty());
    }
}

#[test]
fn a_quote_left_open_loses_its_own_cart_only() {
    let dir = TempDir::new().unwrap();
    let many: String = (0..20_000).map(|n| row(&format!("d{n}"), "A") + "\n").collect();
    let text = format!("{HEADER}\n{}\n{}\n{many}", row("c1", "A"), row("c2", "\"A"));
    let path = file(&dir, "carts.csv", text.as_bytes());
    let (carts, bad) = read(opened(SourceKind::Csv, &path).as_mut(), &the_day());
    assert_eq!((carts.len(), bad.len()), (20_001, 1), "{bad:#?}");
    assert!(bad[0].place == "carts.csv:3" && bad[0].problem.contains("never closed"), "{bad:#?}");
}

#[test]
fn a_missing_file_or_column_is_the_configurations_fault() {
    let dir = TempDir::new().unwrap();
    let refused = |kind: FileKind, path: PathBuf| open(&settings(kind, path, Tz::UTC)).err().expect("it was opened");
    for kind in [SourceKind::Csv as FileKind, SourceKind::JsonLines, SourceKind::Sqlite] {
        assert_eq!(exit_of(&refused(kind, dir.path().join("none"))), Exit::Configuration);
        assert_eq!(exit_of(&refused(kind, dir.path().to_owned())), Exit::Configuration);
    }
    let path = file(&dir, "carts.csv", HEADER.replace("quantity,", "").as_bytes());
    let err = refused(SourceKind::Csv, path);
    assert_eq!(exit_of(&err), Exit::Configuration);
    assert!(err.to_string().contains("lacks the column quantity"), "{err}");
    assert!(exit_of(&refused(SourceKind::Csv, file(&dir, "empty.csv", b""))) == Exit::Configuration);
    assert!(exit_of(&refused(SourceKind::Sqlite, file(&dir, "x.db", &[b'x'; 5000]))) == Exit::Configuration);
}
