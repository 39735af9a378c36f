mod security;
mod server;

use std::time::Duration;

use super::*;
use crate::domain::address::Address;

use crate::mail::session::{Driven, Next};
use server::Act::{Close, Drip, Hang, Reset, Say, SayAndClose, SayAndResetInBody, SayLater};
use server::{Manner, Odd, Record, Server as Told};

/// Long enough for a busy machine, so that only a server that hangs meets it.
const PATIENCE: Duration = Duration::from_secs(20);
const IMPATIENCE: Duration = Duration::from_millis(400);

const BODY: &str = "Subject: a\r\n\r\n.one\r\n..\r\n.\r\nend";
const BODY_ON_THE_WIRE: &str = "Subject: a\r\n\r\n..one\r\n...\r\n..\r\nend\r\n.\r\n";

fn outgoing(number: usize) -> Outgoing {
    Outgoing {
        envelope_from: format!("bounce+{number}@shop.example"),
        recipient: Address::parse(&format!("ada{number}@example.com")).unwrap(),
        bytes: BODY.as_bytes().to_vec(),
        token: format!("t{number}"),
    }
}

fn settings(port: u16, patience: Duration) -> SmtpSettings {
    SmtpSettings {
        host: "127.0.0.1".to_owned(),
        port,
        tls: Tls::None,
        credentials: None,
        connections: 1,
        connect_timeout: patience,
        timeout: patience,
        dot_timeout: patience,
        ca_file: None,
        hello: Some("client.example".to_owned()),
    }
}

fn manner(pipelining: bool, odd: &[Odd]) -> Manner {
    let offers = if pipelining { vec!["SIZE 9000", "pipelining"] } else { vec!["SIZE 9000"] };
    Manner { offers, odd: odd.to_vec(), tls: None, implicit: false }
}

/// What became of some messages over one session.
struct Run {
    /// One word for each message, with what was then known of the one before it; last what `close` said.
    story: String,
    /// Every reply and reason that came out.
    texts: Vec<String>,
    record: Record,
}

fn proof(in_step: Option<&InStep>, texts: &mut Vec<String>) -> &'static str {
    match in_step {
        None => "-",
        Some(InStep::Yes) => "yes",
        Some(InStep::No { why }) => {
            texts.push(why.clone());
            "no"
        }
    }
}

fn send(session: &mut Driven<SmtpSession>, messages: &[Outgoing], record: impl FnOnce() -> Record) -> Run {
    let (mut story, mut texts) = (String::new(), Vec::new());
    for message in messages {
        let opening = session.open(message);
        let previous = proof(opening.previous.as_ref(), &mut texts);
        let word = match opening.opened {
            Err(unusable) => {
                texts.push(unusable.why);
                "unusable"
            }
            Ok(opened) => {
                let (prefix, fate) = match opened {
                    Opened::Judged { fate, .. } => ("judged ", fate),
                    Opened::Ready => ("", session.finish(message)),
                };
                texts.push(fate.reply().to_owned());
                story += &format!("{previous} {prefix}{}, ", fate.word());
                continue;
            }
        };
        story += &format!("{previous} {word}, ");
    }
    story += proof(session.close().as_ref(), &mut texts);
    assert_eq!(session.close(), None, "closing twice proved something twice");
    Run { story, texts, record: record() }
}

/// As [`send`], but each next envelope may leave with the body before it. The story is told the same way.
fn hand_over(session: &mut Driven<SmtpSession>, messages: &[Outgoing], record: impl FnOnce() -> Record) -> Run {
    let (mut story, mut texts) = (String::new(), Vec::new());
    let mut handed_over: Option<(&'static str, Result<Opened, Unusable>)> = None;
    let mut proven = false;
    for (at, message) in messages.iter().enumerate() {
        let (previous, opened) = handed_over.take().unwrap_or_else(|| {
            let opening = session.open(message);
            let previous = proof(opening.previous.as_ref(), &mut texts);
            assert!(!proven || previous == "-", "proven twice");
            (if std::mem::take(&mut proven) { "yes" } else { previous }, opening.opened)
        });
        let word = match (opened, messages.get(at + 1)) {
            (Err(unusable), _) => {
                texts.push(unusable.why);
                "unusable".to_owned()
            }
            (Ok(Opened::Judged { fate, .. }), _) => {
                texts.push(fate.reply().to_owned());
                format!("judged {}", fate.word())
            }
            (Ok(Opened::Ready), None) => {
                let fate = session.finish(message);
                texts.push(fate.reply().to_owned());
                fate.word().to_owned()
            }
            (Ok(Opened::Ready), Some(next)) => {
                let passing = session.finish_and_open(message, next);
                texts.push(passing.fate.reply().to_owned());
                let sent = matches!(passing.fate, Fate::Sent { .. });
                match passing.next {
                    Next::Begun(opened) => {
                        let waits = if passing.proven { "yes" } else { "-" };
                        handed_over = Some((if sent { waits } else { "no" }, opened));
                        "sent".to_owned()
                    }
                    Next::NotBegun => {
                        proven = sent && passing.proven;
                        passing.fate.word().to_owned()
                    }
                }
            }
        };
        story += &format!("{previous} {word}, ");
    }
    story += proof(session.close().as_ref(), &mut texts);
    Run { story, texts, record: record() }
}

/// Sends `count` messages to a server that behaves but for `odd`.
fn run(pipelining: bool, odd: &[Odd], count: usize) -> Run {
    run_by(send, pipelining, odd, count)
}

/// As [`run`], with PIPELINING offered and envelopes handed over.
fn run_handing_over(odd: &[Odd], count: usize) -> Run {
    run_by(hand_over, true, odd, count)
}

type Driver = fn(&mut Driven<SmtpSession>, &[Outgoing], Box<dyn FnOnce() -> Record>) -> Run;

fn run_by(driver: Driver, pipelining: bool, odd: &[Odd], count: usize) -> Run {
    let patience = if odd.iter().any(|odd| matches!(odd.2, Hang | Drip)) { IMPATIENCE } else { PATIENCE };
    let told = Told::start(manner(pipelining, odd));
    let port = told.port;
    let mut session = Driven::new(SmtpServer::new(&settings(port, patience)).unwrap().session());
    let messages: Vec<_> = (1..=count).map(outgoing).collect();
    let run = driver(&mut session, &messages, Box::new(|| told.stop()));
    for line in &run.record.lines {
        assert!(!line.ends_with('.') && !line.contains("Subject"), "of a body, without a 354: {line:?}");
    }
    for body in &run.record.bodies {
        assert_eq!(body, BODY_ON_THE_WIRE);
    }
    run
}

/// Each row: departures, and the story expected without PIPELINING, with it, and with envelopes handed over.
fn stories(count: usize, table: &[(&[Odd], &str)]) {
    for (odd, story) in table {
        for (way, run) in [("one by one", run(false, odd, count)), ("pipelining", run(true, odd, count))] {
            let context = format!("{odd:?}, {way}\n{:#?}\n{:#?}", run.texts, run.record);
            assert_eq!(run.story, *story, "{context}");
        }
    }
    handed_over(count, table);
}

/// As [`stories`], where a no keeps the connection when commands go one by one; the last is for the other ways, in which
/// this server answers DATA with 354 all the same.
fn stories_of_noes(count: usize, table: &[(&[Odd], &str, &str)]) {
    for (odd, one_by_one, otherwise) in table {
        for (way, run, story) in [
            ("one by one", run(false, odd, count), one_by_one),
            ("pipelining", run(true, odd, count), otherwise),
            ("handed over", run_handing_over(odd, count), otherwise),
        ] {
            assert_eq!(run.story, **story, "{odd:?}, {way}\n{:#?}\n{:#?}", run.texts, run.record);
        }
    }
}

/// Each row: departures, and the story expected with envelopes handed over.
fn handed_over(count: usize, table: &[(&[Odd], &str)]) {
    for (odd, story) in table {
        let run = run_handing_over(odd, count);
        assert_eq!(run.story, *story, "{odd:?}, handed over\n{:#?}\n{:#?}", run.texts, run.record);
    }
}

#[test]
fn a_good_server_gets_every_message_once_over_one_connection() {
    for pipelining in [false, true] {
        let run = run(pipelining, &[], 3);
        assert_eq!(run.story, "- sent, yes sent, yes sent, yes");
        assert_eq!(run.texts, ["250 2.0.0 queued"; 3]);
        assert_eq!(run.record.bodies.len(), 3);
        let dialogue: Vec<_> = run.record.lines.iter().map(String::as_str).collect();
        assert_eq!(dialogue[..2], ["<connection>", "EHLO client.example"]);
        let transaction = ["MAIL FROM:<bounce+1@shop.example> SIZE=32", "RCPT TO:<ada1@example.com>", "DATA"];
        assert_eq!(dialogue[2..5], transaction);
        assert_eq!(dialogue[dialogue.len() - 2..], ["QUIT", "<end>"]);
        assert_eq!(dialogue.len(), 1 + 1 + 9 + 2);
    }
}

#[test]
fn a_reply_that_drips_and_never_ends_is_no_reply() {
    for (command, story) in [("MAIL", "- unusable, -"), (".", "- in_doubt, -")] {
        for pipelining in [false, true] {
            let run = run(pipelining, &[Odd(command, 1, Drip)], 1);
            assert_eq!(run.story, story, "{command}\n{:#?}", run.texts);
            assert!(run.texts[0].contains("within 400 ms"), "{:?}", run.texts);
        }
    }
}

#[test]
fn handed_over_a_message_takes_one_write_and_its_body_waits_for_its_own_354() {
    let run = run_handing_over(&[], 3);
    assert_eq!(run.story, "- sent, yes sent, yes sent, yes");
    assert_eq!(run.texts, ["250 2.0.0 queued"; 3]);
    assert_eq!(run.record.bodies.len(), 3);
    assert_eq!(run.record.lines.len(), 1 + 1 + 9 + 2, "{:?}", run.record.lines);
    // Without PIPELINING, and for a message that the server cannot take, one goes after the other.
    let told = Told::start(manner(false, &[]));
    let mut session = Driven::new(SmtpServer::new(&settings(told.port, PATIENCE)).unwrap().session());
    assert_eq!(session.open(&outgoing(1)).opened, Ok(Opened::Ready));
    let passing = session.finish_and_open(&outgoing(1), &outgoing(2));
    assert_eq!((passing.next, passing.proven), (Next::NotBegun, false));
    assert_eq!(session.close(), Some(InStep::Yes));
    assert_eq!(told.stop().lines.iter().filter(|line| line.starts_with("MAIL")).count(), 1);
    let told = Told::start(manner(true, &[]));
    let mut session = Driven::new(SmtpServer::new(&settings(told.port, PATIENCE)).unwrap().session());
    assert_eq!(session.open(&outgoing(1)).opened, Ok(Opened::Ready));
    let broken = Outgoing { bytes: b"a\n.\n".to_vec(), ..outgoing(2) };
    assert_eq!(session.finish_and_open(&outgoing(1), &broken).next, Next::NotBegun);
    assert!(matches!(session.open(&broken).opened, Ok(Opened::Judged { fate: Fate::Refused { .. }, .. })));
}

#[test]
fn handed_over_the_fate_of_the_first_rests_on_the_dots_own_answer() {
    let dot = |act| Odd(".", 1, act);
    handed_over(
        2,
        &[
            // The next goes over a new connection, whatever became of its envelope on this one.
            (&[dot(Say("451 4.3.0 later\r\n"))], "- deferred, - sent, yes"),
            (&[dot(Say("554 5.7.1 spam\r\n"))], "- refused, - sent, yes"),
            (&[dot(SayAndClose("451 4.3.0 later\r\n"))], "- in_doubt, - sent, yes"),
            (&[dot(SayAndClose("554 5.7.1 spam\r\n"))], "- in_doubt, - sent, yes"),
            (&[dot(Say("421 4.7.0 closing\r\n"))], "- deferred, - sent, yes"),
            (&[dot(SayAndClose("421 4.7.0 closing\r\n"))], "- in_doubt, - sent, yes"),
            (&[dot(Say("250\r\n"))], "- sent, yes sent, yes"),
            (&[dot(Say("250-2.0.0\n250\n"))], "- sent, yes sent, yes"),
            (&[dot(Say("354 go\r\n"))], "- in_doubt, - sent, yes"),
            (&[dot(Close)], "- in_doubt, - sent, yes"),
            (&[dot(Reset)], "- in_doubt, - sent, yes"),
            (&[dot(Hang)], "- in_doubt, - sent, yes"),
            (&[dot(Say("451 later\r\n")), Odd("RCPT", 2, Say("550 no\r\n"))], "- deferred, - sent, yes"),
            // No later answer shows that replies are in step.
            (&[dot(Say("451 later\r\n")), Odd("MAIL", 2, Close)], "- in_doubt, - sent, yes"),
            (&[dot(Say("451 later\r\n")), Odd("RCPT", 2, Close)], "- in_doubt, - sent, yes"),
            (&[dot(Say("554 spam\r\n")), Odd("DATA", 2, Hang)], "- in_doubt, - sent, yes"),
        ],
    );
    // A stray refusal before the dot's own yes: to try again would send twice.
    for stray in ["451 stray\r\n", "554 stray\r\n"] {
        let stray = Odd("body", 1, Say(stray));
        for odd in [&[stray][..], &[stray, Odd("MAIL", 2, Close)], &[stray, Odd("RCPT", 2, Hang)]] {
            handed_over(2, &[(odd, "- in_doubt, - sent, yes")]);
        }
    }
}

#[test]
fn a_server_that_fails_before_mail_is_unusable() {
    for at in [("banner", 1), ("EHLO", 1)] {
        for act in [
            Say("421 4.3.2 closing\r\n"),
            Say("450 4.3.2 later\r\n"),
            Say("554 5.3.2 no\r\n"),
            Say("HTTP/1.1 400 Bad Request\r\n"),
            Say("\r\n"),
            Close,
            Reset,
            Hang,
            SayAndClose("250-mx.exa"),
        ] {
            // A server that does not know EHLO may know HELO.
            let odd = [Odd(at.0, at.1, act), Odd("HELO", 1, Say("554 5.3.2 no\r\n"))];
            stories(1, &[(&odd, "- unusable, -")]);
        }
    }
    // One line too many shows before the next command, or at the latest in the answer to DATA.
    let stray = run(true, &[Odd("banner", 1, Say("220 hello\r\n250 stray\r\n"))], 1);
    assert_eq!(stray.story, "- unusable, -");
    assert_eq!(stray.record.lines.iter().filter(|line| line.starts_with("MAIL")).count(), 0, "{:?}", stray.record);
    stories(1, &[(&[Odd("EHLO", 1, Say("250 mx.example\r\n250 mx.example\r\n"))], "- unusable, -")]);
    stories(1, &[(&[Odd("EHLO", 1, Say("220 mx.example\r\n"))], "- unusable, -")]);
}

#[test]
fn only_some_replies_judge_the_message() {
    stories(
        1,
        &[
            (&[Odd("MAIL", 1, Say("450 4.7.1 later\r\n"))], "- unusable, -"),
            (&[Odd("MAIL", 1, Say("550 5.7.1 you may not\r\n"))], "- unusable, -"),
            (&[Odd("MAIL", 1, Say("421 4.7.0 closing\r\n"))], "- unusable, -"),
            (&[Odd("RCPT", 1, Say("421 4.7.0 closing\r\n"))], "- unusable, -"),
            (&[Odd("RCPT", 1, Say("251 will forward\r\n"))], "- sent, yes"),
            (&[Odd("RCPT", 1, Say("252 cannot verify\r\n"))], "- sent, yes"),
            (&[Odd("DATA", 1, Say("421 4.7.0 closing\r\n"))], "- unusable, -"),
            (&[Odd("DATA", 1, Say("451 4.3.0 later\r\n"))], "- judged deferred, yes"),
            (&[Odd("DATA", 1, Say("554 5.7.1 no\r\n"))], "- judged refused, yes"),
            (&[Odd(".", 1, Say("421 4.7.0 closing\r\n"))], "- deferred, -"),
            (&[Odd(".", 1, Say("451 4.3.0 later\r\n"))], "- deferred, -"),
            (&[Odd(".", 1, Say("554 5.7.1 spam\r\n"))], "- refused, -"),
            (&[Odd(".", 1, SayAndClose("421 4.7.0 closing\r\n"))], "- in_doubt, -"),
            (&[Odd(".", 1, SayAndClose("451 4.3.0 later\r\n"))], "- in_doubt, -"),
            (&[Odd(".", 1, SayAndClose("554 5.7.1 spam\r\n"))], "- in_doubt, -"),
            (&[Odd(".", 1, Say("554 5.7.1 spam\r\n")), Odd("QUIT", 1, SayAndClose("250-half"))], "- in_doubt, -"),
            (&[Odd(".", 1, Say("554 5.7.1 spam\r\n")), Odd("QUIT", 1, SayAndClose("22"))], "- in_doubt, -"),
            (&[Odd(".", 1, Say("250\r\n"))], "- sent, yes"),
            (&[Odd(".", 1, Say("250-2.0.0 queued\n250 as 7\n"))], "- sent, yes"),
            (&[Odd(".", 1, Say("250-2.0.0 queued\r\n250 as 7\r\n"))], "- sent, yes"),
        ],
    );
    stories_of_noes(
        1,
        &[
            (&[Odd("RCPT", 1, Say("450 4.2.0 greylisted\r\n"))], "- judged deferred, yes", "- judged deferred, -"),
            (&[Odd("RCPT", 1, Say("550 5.1.1 unknown\r\n"))], "- judged refused, yes", "- judged refused, -"),
        ],
    );
    for code in ["552 5.3.4 too big\r\n", "553 5.1.8 no such sender\r\n"] {
        let refused = [Odd("MAIL", 1, Say(code)), Odd("RCPT", 1, Say("503 no\r\n")), Odd("DATA", 1, Say("503 no\r\n"))];
        stories(1, &[(&refused, "- judged refused, -")]);
    }
}

#[test]
fn a_reply_that_its_command_cannot_have_is_no_answer() {
    for stray in ["354 go ahead\r\n", "221 bye\r\n", "235 ok\r\n", "220 hello\r\n", "214 help\r\n", "garbage\r\n"] {
        for (command, story) in [("MAIL", "- unusable, -"), ("RCPT", "- unusable, -"), (".", "- in_doubt, -")] {
            stories(1, &[(&[Odd(command, 1, Say(stray))], story)]);
        }
    }
    for stray in ["250 ok\r\n", "334 go on\r\n", "199 hm\r\n", "garbage\r\n", "250-a\r\n354 b\r\n", "354\n250 b\r\n"] {
        stories(1, &[(&[Odd("DATA", 1, Say(stray))], "- unusable, -")]);
    }
    stories(1, &[(&[Odd(".", 1, Say("250 2.0.0 ok\n554 5.7.1 no\r\n"))], "- sent, no")]);
    stories(1, &[(&[Odd(".", 1, Say("250-2.0.0 ok\r\n554 5.7.1 no\r\n"))], "- in_doubt, -")]);
}

#[test]
fn a_connection_that_ends_leaves_the_message_with_us_before_the_354_and_in_doubt_after_it() {
    for act in [Close, Reset, Hang, SayAndClose("250 o"), SayAndClose("3")] {
        for (command, story) in
            [("MAIL", "- unusable, -"), ("RCPT", "- unusable, -"), ("DATA", "- unusable, -"), (".", "- in_doubt, -")]
        {
            stories(1, &[(&[Odd(command, 1, act)], story)]);
        }
    }
}

#[test]
fn a_stray_line_with_the_354_is_found_before_anything_is_armed() {
    for stray in ["250 stray\r\n", "451 stray\r\n", "554 stray\r\n", "354 go\r\n", "221 bye\r\n", "garbage\r\n"] {
        let both: &'static str = format!("354 go\r\n{stray}").leak();
        for act in [Say(both), SayAndClose(both)] {
            for (pipelining, run) in [(true, send as Driver), (false, send), (true, hand_over)] {
                let first = run_by(run, pipelining, &[Odd("DATA", 1, act)], 1);
                assert_eq!(first.story, "- unusable, -", "{act:?}");
                assert!(first.record.bodies.is_empty(), "{act:?}: {:?}", first.record);
                // The message before is sound: the 354 is where it belongs.
                let second = run_by(run, pipelining, &[Odd("DATA", 2, act)], 2);
                assert_eq!(second.story, "- sent, yes unusable, -", "{act:?}");
                assert_eq!(second.record.bodies.len(), 1, "{act:?}: {:?}", second.record);
            }
        }
    }
}

#[test]
fn a_stray_line_is_found_out_by_the_next_reply() {
    let stray = |text| Odd("body", 1, Say(text));
    let dot = |text| Odd(".", 1, Say(text));
    stories(
        1,
        &[
            (&[Odd("MAIL", 1, Say("250 ok\r\n250 ok\r\n"))], "- unusable, -"),
            (&[Odd("RCPT", 1, Say("250 ok\r\n250 ok\r\n"))], "- unusable, -"),
            (&[Odd("RCPT", 1, Say("550 no\r\n250 ok\r\n")), Odd("DATA", 1, Say("503 no\r\n"))], "- unusable, -"),
            // The stray 250 is taken for the dot's, whose own comes as the answer to QUIT.
            (&[stray("250 stray\r\n"), dot("554 5.7.1 rejected\r\n")], "- sent, no"),
            (&[stray("250 stray\r\n"), dot("451 4.3.0 later\r\n")], "- sent, no"),
            (&[stray("250 stray\r\n")], "- sent, no"),
            // The stray refusal is taken for the dot's. To try again would send twice.
            (&[stray("451 stray\r\n")], "- in_doubt, -"),
            (&[stray("554 stray\r\n")], "- in_doubt, -"),
            (&[stray("451 stray\r\n"), Odd(".", 1, Hang)], "- in_doubt, -"),
            (&[dot("250 ok\r\n250 twice\r\n")], "- sent, no"),
        ],
    );
    stories(
        2,
        &[
            (&[stray("250 stray\r\n")], "- sent, no unusable, -"),
            (&[stray("250 stray\r\n"), dot("554 5.7.1 rejected\r\n")], "- sent, no unusable, -"),
            (&[stray("250 stray\r\n"), dot("552 5.7.1 rejected\r\n")], "- sent, no unusable, -"),
            (&[stray("250 stray\r\n"), dot("451 4.3.0 later\r\n")], "- sent, no unusable, -"),
            (&[stray("250 stray\r\n"), Odd(".", 1, SayAndClose("554 5.7.1 rejected\r\n"))], "- sent, no unusable, -"),
        ],
    );
}

#[test]
fn quit_proves_the_last_message() {
    for (act, story) in [
        (Say("221 bye\r\n"), "- sent, yes"),
        (Say("421 closing\r\n"), "- sent, yes"),
        (Close, "- sent, yes"),
        (Reset, "- sent, yes"),
        (Hang, "- sent, yes"),
        (Say("250 ok\r\n"), "- sent, no"),
        (Say("354 go\r\n"), "- sent, no"),
        (Say("451 later\r\n"), "- sent, no"),
        (Say("502 what?\r\n"), "- sent, no"),
        (Say("garbage\r\n"), "- sent, no"),
    ] {
        stories(1, &[(&[Odd("QUIT", 1, act)], story)]);
    }
}

#[test]
fn the_next_message_proves_the_one_before() {
    for (no, word) in [("550 no\r\n", "refused"), ("450 no\r\n", "deferred")] {
        let (waits, stands) = (format!("- sent, - judged {word}, yes"), format!("- sent, yes judged {word}, -"));
        stories_of_noes(2, &[(&[Odd("RCPT", 2, Say(no))], &waits, &stands)]);
    }
    for (act, story) in [
        (SayAndClose("550 no\r\n"), "- sent, yes judged refused, -"),
        (Say("421 closing\r\n"), "- sent, yes unusable, -"),
        (Close, "- sent, yes unusable, -"),
        (Reset, "- sent, yes unusable, -"),
        (Hang, "- sent, yes unusable, -"),
        (Say("354 go\r\n"), "- sent, no unusable, -"),
        (Say("221 bye\r\n"), "- sent, no unusable, -"),
        // MAIL's own yes has come.
        (Say("garbage\r\n"), "- sent, yes unusable, -"),
    ] {
        stories(2, &[(&[Odd("RCPT", 2, act)], story)]);
    }
    stories(
        2,
        &[
            (&[Odd("DATA", 2, Say("451 later\r\n"))], "- sent, - judged deferred, yes"),
            (&[Odd("DATA", 2, Say("250 ok\r\n"))], "- sent, no unusable, -"),
            (&[Odd("DATA", 2, Close)], "- sent, yes unusable, -"),
            (&[Odd("DATA", 2, Say("451 later\r\n")), Odd("RSET", 1, Say("503 no\r\n"))], "- sent, no unusable, -"),
            (&[Odd("DATA", 2, Say("451 later\r\n")), Odd("RSET", 1, Close)], "- sent, yes judged deferred, -"),
            (&[Odd("DATA", 2, Say("451 later\r\n")), Odd("RSET", 1, SayAndClose("50"))], "- sent, no unusable, -"),
            (&[Odd(".", 2, Say("554 no\r\n"))], "- sent, yes refused, -"),
            (&[Odd(".", 2, Hang)], "- sent, yes in_doubt, -"),
        ],
    );
    // To MAIL, and so perhaps the dot's own: only a 221 clears it.
    let refused = |act| [Odd("MAIL", 2, act), Odd("RCPT", 2, Say("503 no\r\n")), Odd("DATA", 2, Say("503 no\r\n"))];
    stories(
        2,
        &[
            (&refused(Say("450 later\r\n")), "- sent, yes unusable, -"),
            (&refused(Say("552 too big\r\n")), "- sent, yes judged refused, -"),
            (&refused(SayAndClose("450 later\r\n")), "- sent, no unusable, -"),
            (&refused(SayAndClose("552 too big\r\n")), "- sent, no unusable, -"),
            (&refused(Say("354 go\r\n")), "- sent, no unusable, -"),
            (&refused(Say("garbage\r\n")), "- sent, no unusable, -"),
            (&refused(Hang), "- sent, yes unusable, -"),
        ],
    );
}

#[test]
fn a_session_that_the_server_ends_between_messages_goes_on_over_a_new_connection() {
    for act in [Close, Reset, Say("421 4.7.0 enough\r\n"), SayAndClose("421 4.4.2 idle\r\n")] {
        stories(2, &[(&[Odd("MAIL", 2, act)], "- sent, yes sent, yes")]);
        // Once, and not for a server that is new to us.
        stories(2, &[(&[Odd("MAIL", 2, act), Odd("MAIL", 3, act)], "- sent, yes unusable, -")]);
        stories(2, &[(&[Odd("MAIL", 2, act), Odd("banner", 2, Say("554 no\r\n"))], "- sent, yes unusable, -")]);
    }
    stories(2, &[(&[Odd("MAIL", 1, Close)], "- unusable, - sent, yes")]);
}

#[test]
fn a_354_after_a_refused_recipient_is_never_answered() {
    let run = run(true, &[Odd("RCPT", 1, Say("550 5.1.1 unknown\r\n"))], 1);
    assert_eq!(run.story, "- judged refused, -");
    assert_eq!(run.record.lines[run.record.lines.len() - 2..], ["DATA", "<end>"]);
}

#[test]
fn a_refused_recipient_costs_no_connection() {
    for pipelining in [false, true] {
        let refused = Odd("DATA", 1, Say("503 5.5.1 no recipient\r\n"));
        let odd = [Odd("RCPT", 1, Say("550 5.1.1 unknown\r\n")), refused];
        let odd = if pipelining { &odd[..] } else { &odd[..1] };
        let run = run(pipelining, odd, 2);
        assert_eq!(run.story, "- judged refused, yes sent, yes");
        assert_eq!(run.record.lines.iter().filter(|line| *line == "<connection>").count(), 1);
        assert_eq!(run.record.lines.iter().filter(|line| *line == "RSET").count(), 1);
    }
}

#[test]
fn a_kept_connection_that_ends_is_replaced_and_one_out_of_step_judges_nothing() {
    for (goodbye, story) in [
        ("421 4.4.2 idle\r\n", "- judged refused, yes sent, yes"),
        ("451 4.7.0 timeout\r\n", "- judged refused, no unusable, -"),
        ("garbage\r\n", "- judged refused, no unusable, -"),
    ] {
        let both: &'static str = format!("250 ok\r\n{goodbye}").leak();
        let odd = [Odd("RCPT", 1, Say("550 5.1.1 unknown\r\n")), Odd("RSET", 1, SayAndClose(both))];
        assert_eq!(run(false, &odd, 2).story, story, "{goodbye:?}");
    }
}

#[test]
fn a_no_that_was_not_the_recipients_is_found_out() {
    // A stray no in the place of RCPT's own yes, which RSET then hears.
    let stray = Odd("RCPT", 1, Say("550 5.1.1 stray\r\n"));
    let late = [stray, Odd("RSET", 1, Say("250 2.1.5 recipient ok\r\n")), Odd("QUIT", 1, Say("250 2.0.0 reset\r\n"))];
    assert_eq!(run(false, &late, 1).story, "- judged refused, no");
    // The dot's own no, late by two: MAIL and RSET hear a yes each, and neither proves anything.
    let two = [
        Odd("RCPT", 2, Say("554 5.6.0 the body was bad\r\n")),
        Odd("RSET", 1, Say("250 2.1.0 sender ok\r\n")),
        Odd("QUIT", 1, Say("503 5.5.1 no sender\r\n")),
    ];
    assert_eq!(run(false, &two, 2).story, "- sent, - judged refused, no");
}

#[test]
fn answers_wait_for_their_proof_only_for_so_long() {
    let odd: Vec<Odd> = (1..=6).map(|nth| Odd("RCPT", nth, Say("550 5.1.1 unknown\r\n"))).collect();
    let run = run(false, &odd, 6);
    let refused = "- judged refused, ".repeat(4);
    assert_eq!(run.story, format!("{refused}yes judged refused, - judged refused, yes"), "{:#?}", run.record);
    assert_eq!(run.record.lines.iter().filter(|line| *line == "<connection>").count(), 2);
}

#[test]
fn a_server_that_knows_only_helo_is_used() {
    for code in ["500 what?\r\n", "502 no\r\n", "550 no\r\n"] {
        let run = run(true, &[Odd("EHLO", 1, Say(code))], 2);
        assert_eq!(run.story, "- sent, yes sent, yes");
        assert_eq!(
            run.record.lines[1..4],
            ["EHLO client.example", "HELO client.example", "MAIL FROM:<bounce+1@shop.example>"]
        );
    }
}

#[test]
fn a_server_that_only_fails_for_now_is_not_asked_for_less() {
    for code in ["554 5.3.2 not accepting messages\r\n", "421 4.3.2 later\r\n", "451 4.3.0 later\r\n"] {
        let run = run(true, &[Odd("EHLO", 1, Say(code))], 1);
        assert_eq!(run.story, "- unusable, -", "{code}");
        assert!(!run.record.lines.iter().any(|line| line.starts_with("HELO")), "{:?}", run.record.lines);
    }
}

#[test]
fn what_came_before_the_dot_judges_or_defers_with_certainty() {
    // The line is there before the body is written: it came with the arming, so to say.
    for (said, word) in [
        ("451 4.3.0 stopping\r\n", "deferred"),
        ("421 4.3.0 stopping\r\n", "deferred"),
        ("554 5.6.0 no\r\n", "refused"),
        ("250 ok\r\n", "deferred"),
        ("354 go\r\n", "deferred"),
        ("garbage\r\n", "deferred"),
        ("", "deferred"),
    ] {
        for pipelining in [false, true] {
            let told = Told::start(manner(pipelining, &[Odd("DATA", 1, SayLater(said))]));
            let mut session = Driven::new(SmtpServer::new(&settings(told.port, PATIENCE)).unwrap().session());
            assert_eq!(session.open(&outgoing(1)).opened, Ok(Opened::Ready));
            told.say_it_now();
            let fate = match pipelining {
                true => session.finish_and_open(&outgoing(1), &outgoing(2)).fate,
                false => session.finish(&outgoing(1)),
            };
            assert_eq!(fate.word(), word, "{said:?}: {fate:?}");
            assert_eq!(session.close(), None);
            assert!(told.stop().bodies.is_empty());
        }
    }
}

#[test]
fn after_a_refusal_we_say_goodbye_and_after_trouble_nothing() {
    let last = |odd: Odd| run(false, &[odd], 1).record.lines.iter().rev().nth(1).cloned().unwrap();
    assert_eq!(last(Odd("RCPT", 1, Say("550 no\r\n"))), "QUIT");
    assert_eq!(last(Odd("DATA", 1, Say("451 no\r\n"))), "QUIT");
    assert_eq!(last(Odd(".", 1, Say("554 no\r\n"))), "QUIT");
    assert_eq!(last(Odd("RCPT", 1, Say("421 no\r\n"))), "RCPT TO:<ada1@example.com>");
    assert_eq!(last(Odd("DATA", 1, Say("250 no\r\n"))), "DATA");
}

#[test]
fn abandoning_writes_nothing_more() {
    let told = Told::start(manner(true, &[]));
    let mut session = Driven::new(SmtpServer::new(&settings(told.port, PATIENCE)).unwrap().session());
    assert_eq!(session.open(&outgoing(1)).opened, Ok(Opened::Ready));
    session.abandon();
    assert!(matches!(session.finish(&outgoing(1)), Fate::Deferred { .. }), "a body without a transaction");
    assert_eq!(session.open(&outgoing(2)), Opening { previous: None, opened: Ok(Opened::Ready) });
    assert_eq!(session.close(), None);
    let record = told.stop();
    assert!(record.bodies.is_empty());
    let ends: Vec<_> = record.lines.iter().map(String::as_str).filter(|line| !line.contains(' ')).collect();
    assert_eq!(ends, ["<connection>", "DATA", "<end>", "<connection>", "DATA", "<end>"]);
}

#[test]
fn a_refusal_in_the_middle_of_the_body_is_heard() {
    let told = Told::start(Manner {
        offers: Vec::new(),
        ..manner(false, &[Odd(".", 1, SayAndResetInBody("552 5.3.4 too big\r\n"))])
    });
    let mut session = Driven::new(SmtpServer::new(&settings(told.port, PATIENCE)).unwrap().session());
    let large = Outgoing { bytes: "a line of it\r\n".repeat(2_000_000).into_bytes(), ..outgoing(1) };
    let run = send(&mut session, &[large], || told.stop());
    assert_eq!((run.story.as_str(), run.texts[0].as_str()), ("- refused, -", "552 5.3.4 too big"));
}

#[test]
fn what_the_server_lacks_refuses_the_message_here() {
    let utf8 = Outgoing { recipient: Address::parse("bücher@example.com").unwrap(), ..outgoing(1) };
    let large = Outgoing { bytes: vec![b'a'; 8_999], ..outgoing(1) };
    let broken = Outgoing { bytes: b"a\n.\n".to_vec(), ..outgoing(1) };
    for (message, text) in [(&utf8, "SMTPUTF8"), (&large, "9001 octets"), (&broken, "bare CR or LF")] {
        let told = Told::start(manner(true, &[]));
        let mut session = Driven::new(SmtpServer::new(&settings(told.port, PATIENCE)).unwrap().session());
        let run = send(&mut session, &[outgoing(1), message.clone(), outgoing(2)], || told.stop());
        assert_eq!(run.story, "- sent, yes judged refused, - sent, yes");
        assert!(run.texts[1].starts_with("not sent: ") && run.texts[1].contains(text), "{:?}", run.texts);
    }
    let told = Told::start(Manner { offers: vec!["SIZE 0", "SMTPUTF8"], ..manner(false, &[]) });
    let mut session = Driven::new(SmtpServer::new(&settings(told.port, PATIENCE)).unwrap().session());
    let run = send(&mut session, &[utf8], || told.stop());
    assert_eq!(run.record.lines[2], "MAIL FROM:<bounce+1@shop.example> SIZE=32 SMTPUTF8");
    assert_eq!(run.record.lines[3], "RCPT TO:<bücher@example.com>");
}

#[test]
fn a_reason_names_the_server_the_command_and_the_cause_once() {
    let ends = |at, act, end: &str| {
        let text = run(false, &[Odd(at, 1, act)], 1).texts.remove(0);
        assert!(text.contains("127.0.0.1:") && text.ends_with(end), "{text}");
    };
    ends("MAIL", Say("450-4.7.1 wait\r\n450 4.7.1 a while\r\n"), " answered MAIL with 450 4.7.1 wait a while");
    ends("RCPT", Hang, " did not answer RCPT within 400 ms");
    ends("DATA", Close, " closed the connection before it answered DATA");
    ends("DATA", Say("250 ok\r\n"), " answered DATA with 250 ok: its replies are out of step");
    ends("DATA", Reset, " broke before DATA was answered: Connection reset by peer (os error 104)");
    ends(".", Hang, " did not answer the final dot within 400 ms");
    ends("banner", Say("554 5.3.2 not today\r\n"), " turned the connection away with 554 5.3.2 not today");
    ends("banner", Hang, " did not greet within 400 ms");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut session = Driven::new(SmtpServer::new(&settings(nobody, PATIENCE)).unwrap().session());
    let why = session.open(&outgoing(1)).opened.unwrap_err().why;
    assert_eq!(why, format!("could not reach the mail server 127.0.0.1:{nobody}: Connection refused (os error 111)"));
}
