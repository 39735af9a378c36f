//! Mails as servers and people write them, each in every line end. All are made up: `tests/fixtures/bounces/NAME.eml`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use Class::*;
use Kind::*;
use Place::*;

const TOKEN: &str = "00112233445566778899aabbccddeeff";

/// A mail, what it must come out as, where its token stands, and whether it proves acceptance.
type Sample = (&'static str, Kind, Class, Option<Place>, bool);

const SAMPLES: &[Sample] = &[
    // The nine shapes.
    ("postfix", Dsn, Hard, Some(Envelope), true),
    ("exchange", Dsn, Hard, Some(Envelope), true),
    ("vague_status", Dsn, Hard, Some(Envelope), true),
    ("full", Dsn, Soft, Some(Envelope), true),
    ("delay", Dsn, Delayed, Some(Envelope), true),
    ("utf8", Dsn, Hard, Some(Envelope), true),
    ("qmail", PlainBounce, Soft, Some(Envelope), false),
    ("exim", PlainBounce, Soft, Some(Envelope), false),
    ("jmrp", Kind::Feedback, Complaint, Some(Envelope), true),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bounces")
}

fn sample(name: &str) -> String {
    let path = folder().join(format!("{name}.eml"));
    std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

fn matcher() -> Matcher {
    Matcher::new(Some("bounce+{id}-{token}@shop.example"))
}

fn heard(mail: &str) -> Heard {
    read(mail.as_bytes(), &matcher())
}

/// The same mail with other line ends.
fn in_each_line_end(mail: &str) -> [(&'static str, String); 3] {
    let mixed: String = mail
        .split_inclusive('\n')
        .enumerate()
        .map(|(number, line)| if number % 2 == 0 { line.replace('\n', "\r\n") } else { line.to_owned() })
        .collect();
    [("LF", mail.to_owned()), ("CRLF", mail.replace('\n', "\r\n")), ("mixed", mixed)]
}

#[test]
fn each_sample_comes_out_as_it_should_in_each_line_end() {
    for (name, kind, class, place, proves) in SAMPLES {
        for (line_end, mail) in in_each_line_end(&sample(name)) {
            let heard = heard(&mail);
            let shown = format!("{name}.eml with {line_end}: {heard:#?}");
            assert_eq!((heard.kind, heard.class), (*kind, *class), "{shown}");
            let found: Vec<(&str, Place)> = heard.tokens.iter().map(|found| (&*found.token, found.place)).collect();
            assert_eq!(found, place.iter().map(|place| (TOKEN, *place)).collect::<Vec<_>>(), "{shown}");
            assert_eq!(heard.proves_acceptance(), *proves, "{shown}");
        }
    }
}

#[test]
fn each_file_is_a_sample() {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let listed: BTreeSet<String> = SAMPLES.iter().map(|sample| format!("{}.eml", sample.0)).collect();
    assert_eq!(files.collect::<BTreeSet<_>>(), listed);
}
