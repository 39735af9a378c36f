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
    // Who knows the envelope alone may never have got the body.
    ("verp_only", Dsn, Hard, Some(Envelope), false),
    ("batv", Dsn, Hard, Some(Envelope), false),
    ("srs", Dsn, Hard, Some(ReturnedHeaders), true),
    // Another message's report, which refers to ours.
    ("unmatched", Dsn, Hard, None, false),
    // A copy in what a person is meant to read proves nothing.
    ("copy_in_its_text", Dsn, Hard, None, false),
    ("without_recipients", Dsn, Soft, Some(Envelope), true),
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
    ("newsletter", Kind::AutoReply, Class::AutoReply, Some(Envelope), false),
    ("list_digest", Kind::AutoReply, Class::AutoReply, None, false),
    // It may be a person: no bounce, but no wish either.
    ("postmaster_answers", Kind::AutoReply, Class::AutoReply, Some(Envelope), false),
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

#[test]
fn what_a_report_says_of_each_recipient_is_kept() {
    let heard_of = |name: &str| heard(&sample(name));
    let of = heard_of("alias").recipients;
    let classes: Vec<(Option<&str>, Class)> =
        of.iter().map(|recipient| (recipient.final_.as_deref(), recipient.class)).collect();
    assert_eq!(
        classes,
        [(Some("team@example.com"), Delivered), (Some("ada@example.com"), Delivered), (Some("bob@example.com"), Hard)]
    );
    assert!(of.iter().all(|recipient| recipient.original.as_deref() == Some("team@example.com")));
    let of = &heard_of("forwarder").recipients[0];
    assert_eq!(
        (of.original.as_deref(), of.final_.as_deref()),
        (Some("ada@example.com"), Some("ada.l@elsewhere.example"))
    );
    assert_eq!(heard_of("no_empty_lines").recipients.len(), 2);
    let of = &heard_of("utf8").recipients[0];
    assert_eq!(of.original.as_deref(), Some("jörg@bücher.example"));
    assert_eq!(of.original, of.final_);
    let of = &heard_of("exim").recipients[0];
    assert_eq!((of.original.as_deref(), of.class), (Some("ada@example.com"), Soft));
    assert_eq!(heard_of("yahoo").recipients[0].original.as_deref(), Some("ada@yahoo.example"));
    let of = &heard_of("full").recipients[0];
    assert_eq!((of.action.as_deref(), of.status.as_deref()), (Some("failed"), Some("5.2.2 (mailbox full)")));
}

#[test]
fn who_reports_what_and_when_is_kept() {
    let postfix = heard(&sample("postfix"));
    assert_eq!(postfix.reporter.as_deref(), Some("mx.shop.example"));
    let said = "smtp; 550 5.1.1 <ada@example.com>: Recipient address rejected: no such user here";
    assert_eq!(postfix.diagnostic.as_deref(), Some(said));
    assert_eq!(postfix.received_hint, crate::domain::instant::from_text("2026-03-01T08:00:03Z"));
    assert_eq!(postfix.tokens[0].id.as_deref(), Some("k7f2"));
    let hint = heard(&sample("exchange")).received_hint;
    assert_eq!(hint, crate::domain::instant::from_text("2026-03-01T08:00:03Z"));
    assert_eq!(heard(&sample("ses")).tokens[0].id.as_deref(), Some("k7f2"));
    assert_eq!(heard(&sample("exchange_plain")).reporter.as_deref(), Some("example.com"));
    let qmail = heard(&sample("qmail")).diagnostic;
    assert_eq!(qmail.as_deref(), Some("Remote host said: 550 no such user (#5.1.1)"));
    assert_eq!(heard(&sample("yahoo")).diagnostic.as_deref(), Some("abuse"));
}

#[test]
fn a_request_has_its_tokens_and_its_sender() {
    let signed = format!("1a{TOKEN}k7f2.0123456789abcdef0123");
    for name in ["request", "request_encoded", "request_folded", "request_to", "request_apple"] {
        for (line_end, mail) in in_each_line_end(&sample(name)) {
            let heard = heard(&mail);
            assert_eq!(heard.signed_tokens, [signed.as_str()], "{name} with {line_end}");
            assert_eq!(heard.from.as_deref(), Some("Ada@example.com"), "{name} with {line_end}");
        }
    }
    for name in ["request_without", "request_apple_without", "human_reply"] {
        let heard = heard(&sample(name));
        assert_eq!(heard.signed_tokens, Vec::<String>::new());
        assert!(heard.from.unwrap().eq_ignore_ascii_case("ada@example.com"));
    }
    let results = heard(&sample("request_without")).authentication_results;
    assert_eq!(results[0], "mx.shop.example; dkim=pass header.d=example.com; dmarc=pass header.from=example.com");
    assert_eq!(results[1], "relay.example; dmarc=fail");
    // Whose address is it, where there are two?
    let of = |from: &str| heard(&format!("{from}\nTo: unsubscribe@shop.example\n\nplease\n")).from;
    assert_eq!(of("From: ada@example.com").as_deref(), Some("ada@example.com"));
    assert_eq!(of("From: ada@example.com, bob@example.com"), None);
    assert_eq!(of("From: ada@example.com\nFrom: bob@example.com"), None);
    assert_eq!(of("From: "), None);
    assert_eq!(of("X-From: ada@example.com"), None);
    let mail = sample("request");
    assert_eq!(heard(&mail).sent_to, ["unsubscribe@shop.example"]);
    // Whoever wrote the wish down, it is one; but a bounce is a bounce, whatever else stands in its Subject.
    for by in [("Return-Path: <ada@example.com>", "Return-Path: <>"), ("Ada@example.com", "postmaster@example.com")] {
        let heard = heard(&mail.replace(by.0, by.1));
        assert_eq!((heard.kind, &heard.signed_tokens[0]), (Request, &signed), "{by:?}");
    }
    let bounced =
        mail.replace("Subject:", "Subject: Undelivered Mail:").replace("<ada@", "<").replace("<example.com>", "<>");
    assert_eq!((heard(&bounced).kind, heard(&bounced).signed_tokens.len()), (PlainBounce, 0));
}

#[test]
fn what_is_no_mail_is_unreadable() {
    for mail in [
        "",
        "\n",
        "hello\n",
        "From: ada@example.com",
        "From: ada@example.com\rSubject: x\r\rbare\r",
        "X-Only: this\n\nFrom: ada@example.com\n",
        "\0\0\0\n\0",
    ] {
        let heard = heard(mail);
        assert_eq!((heard.kind, heard.class), (Unreadable, Unread), "{mail:?}");
        assert!(heard.tokens.is_empty() && !heard.proves_acceptance());
    }
}

#[test]
fn nul_bytes_and_bytes_that_are_no_utf_8_do_no_harm() {
    for name in ["postfix", "qmail", "jmrp"] {
        let mail = sample(name);
        let (_, kind, class, ..) = SAMPLES.iter().find(|sample| sample.0 == name).unwrap();
        for stray in [&b"\0"[..], b"\xff\xfe", b"\xc3"] {
            let mail = mail.replace("ada", "\u{1}").into_bytes();
            let mail: Vec<u8> = mail.into_iter().flat_map(|b| if b == 1 { stray.to_vec() } else { vec![b] }).collect();
            let heard = read(&mail, &matcher());
            assert_eq!((heard.kind, heard.class), (*kind, *class), "{name} {stray:?}");
            assert_eq!(heard.tokens[0].token, TOKEN);
            let texts = heard.recipients.iter().flat_map(|of| [&of.original, &of.final_, &of.diagnostic]);
            assert!(texts.chain([&heard.diagnostic]).flatten().all(|text| !text.contains(char::is_control)));
        }
    }
}

#[test]
fn a_report_that_returns_a_large_message_is_read() {
    let body = "a line of a returned message\n".repeat(500_000);
    let mail = sample("exchange").replace("Hello Ada\n", &body);
    assert!(mail.len() > MOST_OF_A_MAIL);
    let heard = heard(&mail);
    assert_eq!((heard.kind, heard.class, heard.proves_acceptance()), (Dsn, Hard, true));
}

#[test]
fn a_long_answer_is_cut() {
    let mail = sample("postfix").replace("no such user here\n\n--", &format!("{}\n\n--", "no ".repeat(5_000)));
    let heard = heard(&mail);
    assert_eq!(heard.class, Hard);
    // It does not end with a blank.
    assert_eq!(heard.diagnostic.unwrap().chars().count(), 299);
    assert_eq!(heard.recipients[0].diagnostic.as_ref().unwrap().chars().count(), 299);
}

/// What is made to take long or much: it must come to an end, and no stack may overflow.
#[test]
fn what_is_made_to_do_harm_does_none() {
    let top = "Return-Path: <>\nFrom: MAILER-DAEMON@x.example\nSubject: failure notice\n";
    let report = format!("{top}Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n");
    let repeated = |text: &str| text.repeat(500_000 / text.len());
    for mail in [
        format!("{top}{}", repeated("a:\n")),
        format!("{top}To: {}\n\n", repeated("a@b.example,")),
        format!("{top}Content-Type: a/b{}\n\n", repeated(";a=b\n ")),
        format!("{top}Content-Type: multipart/mixed; boundary=b\n\n{}", repeated("--b\n\n")),
        format!(
            "{top}Content-Type: multipart/mixed; boundary=b\n\n{}",
            repeated("--b\nContent-Type: multipart/x; boundary=c\n\n--c--\n")
        ),
        format!("{top}{}", repeated("Content-Type: message/rfc822\n\n")),
        format!("{top}{}", repeated("Content-Type: multipart/mixed; boundary=b\n\n--b\n")),
        format!("{top}\n{}", repeated("--- Below this line is a copy of the message.\n")),
        format!("{top}\n{}", repeated("this is a copy of the message\nReceived: x\nFrom: y\n")),
        format!("{top}\n{}", repeated("550 5.1.1 ")),
        format!("{top}\n{}", repeated("(")),
        format!("{report}--b\nContent-Type: message/delivery-status\n\n{}", repeated("\n")),
        format!("{report}--b\nContent-Type: message/delivery-status\n\n{}", repeated("Action: failed\n\n")),
        format!("{report}--b\nContent-Type: message/delivery-status\n\n{}", repeated("Final-Recipient: x;y\n")),
        format!("{report}--b\nContent-Type: message/delivery-status\n\n{}", repeated("--\n")),
        format!("{report}--b\nContent-Type: message/delivery-status\n\nStatus: {}", repeated("((((")),
        format!("{top}X-Failed-Recipients: {}\n\n", repeated("a@b.example,")),
        format!("{top}Subject: {}\n\n", repeated("=?utf-8?q?a?= ")),
    ] {
        let heard = heard(&mail);
        assert!(heard.recipients.len() <= 100 && heard.tokens.is_empty(), "{}", &mail[..200]);
        digest(mail.as_bytes());
    }
}

mod properties {
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    /// A change of a mail's bytes.
    #[derive(Debug, Clone)]
    enum Change {
        Delete(Index, usize),
        Insert(Index, Vec<u8>),
        /// Of one line, by another of the same mail.
        Replace(Index, Index),
        Drop(Index),
        Cut(Index),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (any::<Index>(), 1..40_usize).prop_map(|(at, len)| Change::Delete(at, len)),
            (any::<Index>(), prop::collection::vec(any::<u8>(), 0..20))
                .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
            (any::<Index>(), select(vec!["\n", "\r\n", "\n\n", "<>", "--", ":", "=?utf-8?b?", "\0"]))
                .prop_map(|(at, text)| Change::Insert(at, text.into())),
            any::<(Index, Index)>().prop_map(|(line, by)| Change::Replace(line, by)),
            any::<Index>().prop_map(Change::Drop),
            any::<Index>().prop_map(Change::Cut),
        ]
    }

    fn changed(mail: &str, changes: &[Change]) -> Vec<u8> {
        let mut mail = mail.as_bytes().to_vec();
        for change in changes {
            let lines: Vec<Vec<u8>> = mail.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            let len = mail.len();
            match change {
                _ if lines.is_empty() => {}
                Change::Delete(at, count) => {
                    let at = at.index(len);
                    drop(mail.drain(at..len.min(at + count)));
                }
                Change::Insert(at, bytes) => {
                    let at = at.index(len);
                    mail.splice(at..at, bytes.iter().copied());
                }
                Change::Replace(line, by) => {
                    let mut lines = lines;
                    let by = lines[by.index(lines.len())].clone();
                    let line = line.index(lines.len());
                    lines[line] = by;
                    mail = lines.concat();
                }
                Change::Drop(line) => {
                    let mut lines = lines;
                    lines.remove(line.index(lines.len()));
                    mail = lines.concat();
                }
                Change::Cut(at) => mail.truncate(at.index(len)),
            }
        }
        mail
    }

    fn any_sample() -> impl Strategy<Value = String> {
        select(SAMPLES.iter().map(|sample| sample.0).collect::<Vec<_>>()).prop_map(sample)
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(mail in prop::collection::vec(any::<u8>(), 0..4096)) {
            let heard = read(&mail, &matcher());
            prop_assert!(heard.tokens.is_empty() && heard.signed_tokens.is_empty());
            digest(&mail);
        }

        #[test]
        fn any_changed_mail_is_read_within_its_bounds(
            mail in any_sample(),
            changes in prop::collection::vec(change(), 0..8),
        ) {
            let mail = changed(&mail, &changes);
            let heard = read(&mail, &matcher());
            digest(&mail);
            prop_assert!(heard.tokens.iter().all(|found| super::super::matcher::is_token(&found.token)));
            prop_assert!(heard.diagnostic.as_ref().is_none_or(|said| said.chars().count() <= 300));
            let by_text = heard.tokens.first().is_none_or(|found| found.place == Text);
            prop_assert!(!heard.proves_acceptance() || !by_text);
            prop_assert!(!heard.proves_acceptance() || matches!(heard.kind, Dsn | Kind::Feedback));
            prop_assert!(!matches!(heard.class, Hard) || heard.kind == Dsn);
            prop_assert!(!matches!(heard.class, Complaint) || heard.kind == Kind::Feedback);
        }

        #[test]
        fn without_a_token_none_is_found(
            mail in any_sample(),
            changes in prop::collection::vec(change(), 0..8),
        ) {
            let mail = mail.replace(TOKEN, "0011223344556677-8899aabbccddeeff");
            let heard = read(&changed(&mail, &changes), &matcher());
            let is_made_by_chance = heard.tokens.iter().any(|found| found.token == TOKEN);
            prop_assert!(heard.tokens.is_empty() || is_made_by_chance, "{:?}", heard.tokens);
        }

        #[test]
        fn a_persons_mail_is_never_a_bounce_of_a_message_it_was_not_sent_to(
            name in select(vec![
                "human_reply", "human_quotes_a_bounce", "human_forwards_a_bounce", "human_redirects_the_parts", "request",
                "request_without", "request_apple", "request_encoded",
            ]),
            changes in prop::collection::vec(change(), 0..8),
        ) {
            let heard = read(&changed(&sample(name), &changes), &matcher());
            let is_addressed = heard.tokens.iter().any(|found| found.place == Envelope);
            prop_assert!(!(is_addressed && matches!(heard.class, Hard | Complaint)), "{:?}", heard);
        }

        /// Whatever stands in its text.
        #[test]
        fn a_persons_mail_is_no_bounce_by_its_text(text in "(?s).{0,200}", quoted in any_sample()) {
            for quoted in [quoted.clone(), quoted.replace('\n', "\n> ")] {
                let mail = format!(
                    "Return-Path: <ada@example.com>\nFrom: Ada <ada@example.com>\nTo: bounce+k7f2-{TOKEN}@shop.example\nSubject: Re: x\n\n{text}\n{quoted}"
                );
                let heard = heard(&mail);
                prop_assert_eq!((heard.kind, heard.class), (Request, Unsubscribe));
            }
        }
    }
}
