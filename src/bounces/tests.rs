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
    // Reports by their structure.
    ("sendmail", Dsn, Hard, Some(Envelope), true),
    ("gmail", Dsn, Hard, Some(Envelope), true),
    ("gmail_blocked", Dsn, Blocked, Some(Envelope), true),
    ("office365", Dsn, Hard, Some(Envelope), true),
    ("office365_blocked", Dsn, Blocked, Some(Envelope), true),
    ("office365_denied", Dsn, Soft, Some(Envelope), true),
    ("postfix_expired", Dsn, Soft, Some(Envelope), true),
    // The relay has given the message another Message-ID and takes the bounces itself: the link is left.
    ("ses", Dsn, Hard, Some(ReturnedHeaders), true),
    ("exim_dsn", Dsn, Hard, Some(Envelope), true),
    ("courier", Dsn, Other, Some(Envelope), true),
    // A report without the part that it is about: by its text.
    ("mdaemon", Dsn, Soft, Some(Envelope), true),
    ("zimbra", Dsn, Soft, Some(Envelope), true),
    ("domino", Dsn, Hard, Some(Envelope), true),
    ("greylisted", Dsn, Delayed, Some(Envelope), true),
    ("relayed", Dsn, Delivered, Some(Envelope), true),
    ("delivered", Dsn, Delivered, Some(Envelope), true),
    ("alias", Dsn, Delivered, Some(Envelope), true),
    ("forwarder", Dsn, Hard, Some(Envelope), true),
    ("no_empty_lines", Dsn, Hard, Some(Envelope), true),
    ("verp_only", Dsn, Hard, Some(Envelope), true),
    ("batv", Dsn, Hard, Some(Envelope), true),
    ("srs", Dsn, Hard, Some(ReturnedHeaders), true),
    // Another message's report, which refers to ours.
    ("unmatched", Dsn, Hard, None, false),
    ("base64_status", Dsn, Hard, Some(Envelope), true),
    ("quoted_printable_status", Dsn, Hard, Some(Envelope), true),
    ("unknown_charset", Dsn, Hard, Some(Envelope), true),
    ("wrong_labels", Dsn, Hard, Some(ReturnedHeaders), true),
    ("in_mixed", Dsn, Hard, Some(Envelope), true),
    ("cut_off", Dsn, Hard, Some(ReturnedHeaders), true),
    // Feedback.
    ("yahoo", Kind::Feedback, Complaint, Some(ReturnedHeaders), true),
    ("arf_not_spam", Kind::Feedback, NotSpam, Some(ReturnedHeaders), true),
    ("arf_opt_out", Kind::Feedback, Complaint, Some(ReturnedHeaders), true),
    ("arf_auth_failure", Kind::Feedback, Class::Feedback, Some(ReturnedHeaders), true),
    ("arf_as_text", Kind::Feedback, Complaint, Some(ReturnedHeaders), true),
    ("arf_in_mixed", Kind::Feedback, Complaint, Some(ReturnedHeaders), true),
    ("jmrp_old", Kind::Feedback, Complaint, Some(ReturnedHeaders), false),
    // Bounces in plain text.
    ("sendmail_plain", PlainBounce, Soft, Some(ReturnedHeaders), false),
    ("sendmail_warning", PlainBounce, Delayed, Some(Envelope), false),
    ("exim_warning", PlainBounce, Delayed, Some(Text), false),
    ("exchange_plain", PlainBounce, Soft, Some(ReturnedHeaders), false),
    ("groupwise", PlainBounce, Blocked, Some(ReturnedHeaders), false),
    ("qmail_verp_only", PlainBounce, Soft, Some(Envelope), false),
    ("no_boundaries", PlainBounce, Soft, Some(Envelope), false),
    ("text_message_id", PlainBounce, Soft, Some(Text), false),
    // Of a session in which the message was refused.
    ("postmaster_notice", Kind::AutoReply, Class::AutoReply, None, false),
    ("postmaster_notice_to_the_sender", PlainBounce, Blocked, Some(Envelope), false),
    // Machines that answer.
    ("vacation", Kind::AutoReply, Class::AutoReply, Some(Envelope), false),
    ("vacation_exchange", Kind::AutoReply, Class::AutoReply, Some(Envelope), false),
    ("vacation_old", Kind::AutoReply, Class::AutoReply, Some(Envelope), false),
    ("vacation_german", Kind::AutoReply, Class::AutoReply, Some(Envelope), false),
    ("challenge", Kind::AutoReply, Class::AutoReply, Some(Envelope), false),
    ("receipt", Kind::AutoReply, Class::AutoReply, Some(Envelope), false),
    ("list_digest", Kind::AutoReply, Class::AutoReply, None, false),
    // People, and who poses as a server.
    ("human_reply", Request, Unsubscribe, None, false),
    ("human_quotes_a_bounce", Request, Unsubscribe, None, false),
    ("human_forwards_a_bounce", Request, Unsubscribe, None, false),
    ("human_redirects_the_parts", Request, Unsubscribe, None, false),
    ("spam", Request, Unsubscribe, Some(Envelope), false),
    ("request", Request, Unsubscribe, None, false),
    ("request_encoded", Request, Unsubscribe, None, false),
    ("request_folded", Request, Unsubscribe, None, false),
    ("request_to", Request, Unsubscribe, None, false),
    ("request_without", Request, Unsubscribe, None, false),
    ("request_apple", Request, Unsubscribe, None, false),
    ("request_apple_without", Request, Unsubscribe, None, false),
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
