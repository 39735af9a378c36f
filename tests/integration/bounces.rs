//! `bounces`: what comes back, from the mailbox into the ledger, and whom it takes off the list.

use std::io::Write as _;
use std::process::Stdio;

use crate::support::{Act, Cart, Plan, Ran, Server, Stage, World, definition, header, people};

/// A world with a Maildir, whose messages have an envelope sender of their own.
fn world() -> World {
    let world = World::with_campaigns("")
        .set("mail.envelope", "bounce+{id}-{token}@shop.example")
        .set("mail.unsubscribe_mailto", "stop@shop.example")
        .set("bounces.maildir", "Maildir");
    for folder in ["new", "cur", "tmp"] {
        std::fs::create_dir_all(world.path("Maildir").join(folder)).unwrap();
    }
    world
}

/// What a report has to say.
struct Dsn<'a> {
    action: &'a str,
    status: &'a str,
    said: &'a str,
    /// Whom it is about; empty: the message's own recipient.
    about: &'a str,
    /// It returns the message's header.
    returns: bool,
}

const HARD: Dsn<'_> =
    Dsn { action: "failed", status: "5.1.1", said: "smtp; 550 5.1.1 no such user", about: "", returns: true };
const FULL: Dsn<'_> = Dsn { status: "5.2.2", said: "smtp; 552 5.2.2 mailbox full", ..HARD };
const BLOCKED: Dsn<'_> = Dsn { status: "5.7.1", said: "smtp; 550 5.7.1 blocked", ..HARD };

/// The row, the token and the recipient of a message.
fn message(world: &World, recipient: &str) -> (i64, String) {
    let rows = world.rows(&format!(
        "SELECT id, substr(message_id, 2, 32) AS token FROM message WHERE recipient = '{recipient}' ORDER BY id DESC"
    ));
    let row = rows.first().unwrap_or_else(|| panic!("no message to {recipient}"));
    (row["id"].clone().unwrap().parse().unwrap(), row["token"].clone().unwrap())
}

fn base36(mut number: i64) -> String {
    let mut digits = String::new();
    while number > 0 || digits.is_empty() {
        digits.insert(0, char::from_digit((number % 36) as u32, 36).unwrap());
        number /= 36;
    }
    digits
}

impl Dsn<'_> {
    fn of(&self, world: &World, recipient: &str) -> String {
        let (row, token) = message(world, recipient);
        let about = if self.about.is_empty() { recipient } else { self.about };
        let returned = match self.returns {
            true => format!("Message-ID: <{token}@shop.example>\nFrom: hello@shop.example\n"),
            false => "Subject: none\n".into(),
        };
        format!(
            "Return-Path: <>\nTo: bounce+{}-{token}@shop.example\nFrom: MAILER-DAEMON@mx.example\nSubject: Undelivered\n\
             Date: Sun, 01 Mar 2026 12:00:05 +0000\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n\
             --b\nContent-Type: text/plain\n\nIt failed.\n\n--b\nContent-Type: message/delivery-status\n\n\
             Reporting-MTA: dns; mx.example\n\nFinal-Recipient: rfc822; {about}\nAction: {}\nStatus: {}\nDiagnostic-Code: {}\n\n\
             --b\nContent-Type: text/rfc822-headers\n\n{returned}\n--b--\n",
            base36(row),
            self.action,
            self.status,
            self.said
        )
    }
}

fn complaint(world: &World, recipient: &str) -> String {
    let (_, token) = message(world, recipient);
    format!(
        "From: staff@hotmail.example\nTo: fbl@shop.example\nSubject: complaint\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\nContent-Type: text/plain\n\nA complaint.\n\n\
         --b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nVersion: 1\nUser-Agent: x\nOriginal-Rcpt-To: redacted@hotmail.example\n\n\
         --b\nContent-Type: text/rfc822-headers\n\nMessage-ID: <{token}@shop.example>\nFrom: hello@shop.example\n\n--b--\n"
    )
}

fn deliver(world: &World, name: &str, mail: &str) {
    std::fs::write(world.path("Maildir/new").join(name), mail).unwrap();
}

fn names(world: &World, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(world.path("Maildir").join(folder)).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn suppressed(world: &World) -> Vec<String> {
    let list = world.ok(["suppress", "list", "--json"]).json()["suppressions"].clone();
    let row =
        |row: &serde_json::Value| format!("{} {}", row["address"].as_str().unwrap(), row["origin"].as_str().unwrap());
    list.as_array().unwrap().iter().map(row).collect()
}

/// One mail through the pipe.
fn pipe(world: &World, mail: &[u8]) -> Ran {
    let mut command = world.command(["bounces", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(mail).unwrap();
    let output = child.wait_with_output().unwrap();
    Ran {
        command: "mailonce bounces -".into(),
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn carts(n: usize) -> impl Iterator<Item = Cart> {
    (1..=n).map(|n| Cart::of(&format!("c{n}")).email(&format!("r{n}@example.com")))
}

#[test]
fn each_kind_of_report_is_counted_once_and_only_the_dead_and_those_who_complain_are_taken_off() {
    let world = world().carts(carts(8)).init();
    world.ok(["detect"]);
    let mail = |n: usize, dsn: &Dsn<'_>| dsn.of(&world, &format!("r{n}@example.com"));
    deliver(&world, "1", &mail(1, &HARD));
    deliver(&world, "2", &mail(2, &FULL));
    deliver(&world, "3", &mail(3, &BLOCKED));
    deliver(&world, "4", &mail(4, &Dsn { action: "delayed", status: "4.4.1", said: "", ..HARD }));
    deliver(&world, "5", &complaint(&world, "r5@example.com"));
    // Of someone whom the message was not sent to.
    deliver(&world, "6", &mail(6, &Dsn { about: "else@where.example", ..HARD }));
    // Another shop's, and a person's answer that quotes.
    let (_, token) = message(&world, "r7@example.com");
    deliver(&world, "7", &mail(7, &HARD).replace(&token, &"0".repeat(32)));
    deliver(
        &world,
        "8",
        &format!(
            "From: r8@example.com\nTo: hello@shop.example\nSubject: Re: cart\nIn-Reply-To: <{token}@shop.example>\n\n> no such user 5.1.1\n"
        ),
    );
    let json = world.ok(["bounces", "--json"]).json();
    assert_eq!(
        json["by_class"],
        serde_json::json!({ "hard": 1, "soft": 1, "blocked": 1, "delayed": 1, "complaint": 1, "elsewhere": 1 })
    );
    assert_eq!(
        (&json["read"], &json["unmatched"], &json["unread"], &json["suppressed"]),
        (&8.into(), &1.into(), &1.into(), &2.into())
    );
    assert_eq!(suppressed(&world), ["r1@example.com bounce", "r5@example.com complaint"]);
    assert_eq!((names(&world, "new").len(), names(&world, "cur").len()), (0, 8), "nothing is deleted");
    assert!(names(&world, "cur").iter().all(|name| name.ends_with(":2,S")));
    // The same again, however it comes.
    deliver(
        &world,
        "9",
        &mail(1, &HARD).replace('\n', "\r\n").replace("Return-Path", "Delivered-To: a@b\r\nReturn-Path"),
    );
    let again = world.ok(["bounces", "--again", "--json"]).json();
    assert_eq!((&again["read"], &again["known"], &again["suppressed"]), (&9.into(), &9.into(), &0.into()));
    assert_eq!(pipe(&world, mail(2, &FULL).as_bytes()).code, 0);
    assert_eq!(world.number("SELECT count(*) FROM report"), 8);
    // The dead one is written to no more.
    world.put(Cart::of("d1").email("r1@example.com").item("Q", "x", 1, "1"));
    world.ok(["detect"]);
    world.has([("sent", 8)]);
    let rates = world.ok(["rates", "--json"]).json();
    assert_eq!(
        (&rates["rates"][0]["sent"], &rates["rates"][0]["hard"], &rates["rates"][0]["complaints"]),
        (&8.into(), &1.into(), &1.into())
    );
    assert_eq!(rates["rates"][0]["per_thousand"]["hard"], 125.0);
    world.ok(["rates"]).says("carts: sent 8; dead 1 (125.0 ‰)").says("from r8@example.com");
    world.ok(["audit"]);
}

#[test]
fn a_full_mailbox_is_given_up_after_five_messages_in_a_row_over_a_week() {
    let world = world().set("detect.max_per_cart", 100).init();
    let day = |n: usize| format!("2026-03-{:02}T12:00:00Z", n);
    let wrote = |n: usize, bounced: bool| {
        world.set_now(&day(n));
        world.put(
            Cart::of(&format!("c{n}"))
                .email("ada@example.com")
                .item(&format!("S{n}"), "x", 1, "1")
                .updated(&format!("2026-03-{n:02}T10:00:00Z")),
        );
        world.ok(["detect"]);
        if bounced {
            deliver(&world, &n.to_string(), &FULL.of(&world, "ada@example.com"));
            // A warning before it, and the report a second time in other words, are of the same message.
            deliver(
                &world,
                &format!("{n}b"),
                &Dsn { said: "smtp; 552 5.2.2 still full", ..FULL }.of(&world, "ada@example.com"),
            );
            world.ok(["bounces"]);
        }
    };
    for n in [1, 3, 5, 7] {
        wrote(n, true);
    }
    // One gets through: the row begins anew.
    wrote(9, false);
    for n in [11, 13, 15, 17] {
        wrote(n, true);
    }
    assert_eq!(suppressed(&world), Vec::<String>::new());
    wrote(19, true);
    assert_eq!(suppressed(&world), ["ada@example.com bounce"]);
    world.ok(["suppress", "list"]).says("5 messages in a row came back: smtp; 552 5.2.2");
    // A bounce is no wish: no reason is asked for, and the old ones do not count again.
    world.ok(["suppress", "remove", "ada@example.com"]);
    wrote(21, true);
    assert_eq!(suppressed(&world), Vec::<String>::new());
}

#[test]
fn five_in_a_row_within_a_week_are_a_bad_week_and_no_dead_mailbox() {
    let world = world().set("detect.max_per_cart", 100).init();
    for n in 1..=7 {
        world.set_now(&format!("2026-03-{n:02}T12:00:00Z"));
        let cart = Cart::of(&format!("c{n}")).email("ada@example.com").item(&format!("S{n}"), "x", 1, "1");
        world.put(cart.updated(&format!("2026-03-{n:02}T10:00:00Z")));
        world.ok(["detect"]);
        deliver(&world, &n.to_string(), &FULL.of(&world, "ada@example.com"));
        world.ok(["bounces"]);
        assert_eq!(suppressed(&world), Vec::<String>::new(), "day {n}");
    }
}

#[test]
fn what_left_before_an_address_was_taken_back_does_not_count_against_it_again() {
    let world = world().carts(carts(1)).init();
    world.ok(["detect"]);
    deliver(&world, "1", &HARD.of(&world, "r1@example.com"));
    world.ok(["bounces"]);
    world.set_now("2026-03-01T13:00:00Z");
    world.ok(["suppress", "remove", "r1@example.com"]);
    deliver(&world, "2", &Dsn { said: "smtp; 550 5.1.1 unknown, still", ..HARD }.of(&world, "r1@example.com"));
    world.ok(["bounces"]);
    assert_eq!(suppressed(&world), Vec::<String>::new());
    world.put(Cart::of("c2").email("r1@example.com").item("Z", "x", 1, "1").updated("2026-03-01T11:30:00Z"));
    world.set_now("2026-03-01T13:00:01Z");
    world.ok(["detect"]);
    deliver(&world, "3", &HARD.of(&world, "r1@example.com"));
    world.ok(["bounces"]);
    assert_eq!(suppressed(&world), ["r1@example.com bounce"]);
}

#[test]
fn a_report_settles_what_is_in_doubt_and_one_that_proves_nothing_does_not() {
    let server = Server::start(Plan::accepting().at(Stage::Taken, Act::Close));
    let world = world().carts(carts(3)).smtp(&server).init();
    for _ in 0..3 {
        world.run(["detect"]);
    }
    world.has([("in_doubt", 3)]);
    deliver(&world, "1", &Dsn { action: "delayed", status: "4.4.1", ..HARD }.of(&world, "r1@example.com"));
    // To the address alone, without the message's header.
    deliver(&world, "2", &Dsn { returns: false, ..HARD }.of(&world, "r2@example.com"));
    // A transcript of a session in which it was refused, as Postfix sends its postmaster.
    let (_, token) = message(&world, "r3@example.com");
    deliver(
        &world,
        "3",
        &format!(
            "From: MAILER-DAEMON@mx.example\nReturn-Path: <>\nTo: postmaster@shop.example\nSubject: Postfix SMTP server: errors\n\nTranscript of session follows.\n\n In: MAIL FROM:<bounce+1-{token}@shop.example>\n Out: 250 ok\n"
        ),
    );
    let json = world.ok(["bounces", "--json"]).json();
    assert_eq!(json["settled"], 1);
    world.has([("in_doubt", 2), ("sent", 1)]);
    let settled = &world.rows("SELECT who, decision, reason FROM resolution")[0];
    assert_eq!((settled["who"].as_deref(), settled["decision"].as_deref()), (Some("bounces"), Some("sent")));
    world.ok(["audit"]);
}

#[test]
fn of_a_message_that_was_tried_twice_a_report_settles_nothing() {
    let server = Server::start(Plan::accepting().nth(Stage::Dot, 1, Act::Code(451)).nth(Stage::Taken, 1, Act::Close));
    let world = world().carts(carts(1)).smtp(&server).init();
    world.run(["detect"]);
    world.set_now("2026-03-01T12:10:00Z");
    world.run(["detect"]);
    world.has([("in_doubt", 1)]);
    deliver(&world, "1", &FULL.of(&world, "r1@example.com"));
    world.ok(["bounces"]);
    world.has([("in_doubt", 1)]);
    world.ok(["resolve"]).says("soft: smtp; 552 5.2.2 mailbox full; the server had taken it over, in one of its tries");
}

#[test]
fn what_a_report_shows_to_be_taken_over_is_not_tried_again_although_the_server_said_no() {
    let server = Server::start(Plan::accepting().nth(Stage::Dot, 1, Act::Code(451)));
    let world = world().carts(carts(1)).smtp(&server).init();
    world.ok(["detect"]);
    world.has([("planned", 1)]);
    deliver(&world, "1", &FULL.of(&world, "r1@example.com"));
    world.ok(["bounces"]);
    world.set_now("2026-03-01T12:10:00Z");
    world.exits(1, ["detect"]).says("is not tried again: a report shows that a mail server took it over");
    assert_eq!(server.accepted().len(), 0, "it went a second time");
    world.has([("planned", 1)]);
    world.ok(["status"]).says("taken over");
    // An hour later it is looked at again, and what was told is not told again.
    world.set_now("2026-03-01T13:20:00Z");
    world.ok(["detect"]).is_silent();
    world.ok(["audit"]);
}

#[test]
fn what_comes_back_about_somebody_who_is_forgotten_names_nobody() {
    let world = world().carts(carts(1)).init();
    world.ok(["detect"]);
    let report = Dsn { said: "smtp; 550 5.1.1 <r1@example.com>: no such user", ..HARD }.of(&world, "r1@example.com");
    world.ok(["forget", "r1@example.com"]);
    deliver(&world, "1", &report);
    world.ok(["bounces"]);
    assert_eq!(world.number("SELECT count(*) FROM report WHERE class IN ('hard', 'elsewhere')"), 1);
    assert_eq!(world.number("SELECT count(*) FROM report WHERE diagnostic IS NOT NULL OR reporter IS NOT NULL"), 0);
    world.ok(["audit"]).is_silent();
}

#[test]
fn many_dead_addresses_at_once_are_held_until_a_person_says_that_they_are_dead() {
    let world = world().carts(carts(60)).init();
    world.ok(["detect"]);
    for n in 1..=25 {
        deliver(&world, &n.to_string(), &HARD.of(&world, &format!("r{n}@example.com")));
    }
    world.exits(1, ["bounces"]).says("25 addresses came back as unknown within a day").says("bounces --apply");
    assert_eq!(suppressed(&world).len(), 0);
    world.ok(["bounces"]).is_silent();
    world.ok(["status"]).says("25 addresses came back as unknown");
    let json = world.ok(["bounces", "--apply", "--json"]).json();
    assert_eq!((&json["suppressed"], &json["held"]), (&25.into(), &0.into()));
    assert_eq!(suppressed(&world).len(), 25);
    // They were not, after all; who was found dead for good, and who asked for it, stays off.
    world.ok(["suppress", "add", "r1@example.com", "--reason", "asked by phone"]);
    world.set_now("2026-03-01T14:00:00Z");
    deliver(&world, "26", &complaint(&world, "r2@example.com"));
    world.ok(["bounces"]);
    world.ok(["suppress", "remove", "--bounced-since", "3h"]).says("25 addresses removed");
    assert_eq!(suppressed(&world), ["r1@example.com by hand", "r2@example.com complaint"]);
}

#[test]
fn what_the_server_refuses_as_unknown_is_dead_once_it_has_accepted_another() {
    let no = Act::Reply("550 5.1.1 no such user");
    let server =
        Server::start(Plan::accepting().for_recipient("r1@", Stage::Rcpt, no).for_recipient("r3@", Stage::Rcpt, no));
    let world = world().set("mail.smtp.connections", 1).carts(carts(3)).smtp(&server).init();
    world.ok(["detect"]);
    world.has([("refused", 2), ("sent", 1)]);
    // r3 is the last: nothing was accepted after it yet.
    assert_eq!(suppressed(&world), ["r1@example.com bounce"]);
    world.put(Cart::of("c9").email("r9@example.com"));
    world.ok(["detect"]);
    assert_eq!(suppressed(&world), ["r1@example.com bounce", "r3@example.com bounce"]);
    let rates = world.ok(["rates", "--json"]).json();
    assert_eq!(rates["rates"][0]["hard"], 2);
}

#[test]
fn a_campaign_of_which_too_much_comes_back_is_paused_once_and_a_person_called() {
    let world = world().set("bounces.limits_after", 20);
    world.define(&definition("weekly", "every = \"day\"\ntime = \"12:30\""));
    world.audience("audience.csv", &people(30));
    let world = world.init();
    world.ok(["run-campaigns"]);
    world.campaigns_at("2026-03-01T12:30:00Z", 0);
    deliver(&world, "1", &HARD.of(&world, "r1@example.com"));
    world.ok(["bounces"]).is_silent();
    deliver(&world, "2", &complaint(&world, "r2@example.com"));
    world
        .exits(1, ["bounces"])
        .says("campaign weekly is paused: 1 complaint about 30 messages")
        .says("campaign resume weekly");
    assert_eq!(world.campaign_column("weekly", "status").as_deref(), Some("paused"));
    world.audience("audience.csv", &people(30));
    world.campaigns_at("2026-03-02T12:30:00Z", 0);
    assert_eq!(world.messages().len(), 30);
    world.ok(["status"]).says("stopped");
    // It goes on, and the same opening does not stop it again.
    world.ok(["campaign", "resume", "weekly"]);
    deliver(&world, "3", &complaint(&world, "r3@example.com"));
    world.ok(["bounces"]);
    world.audience("audience.csv", &people(30));
    world.campaigns_at("2026-03-03T12:30:00Z", 1).says("will never open");
    assert_eq!(world.campaign_column("weekly", "status").as_deref(), Some("pending"));
    // Through a pipe nobody hears it: the next run says so.
    assert_eq!(pipe(&world, complaint(&world, "r5@example.com").as_bytes()).code, 0);
    world.set_now("2026-03-03T12:31:00Z");
    world.exits(1, ["run-campaigns"]).says("campaign weekly is paused");
    world.audience("audience.csv", &people(30));
    world.campaigns_at("2026-03-04T12:30:00Z", 0);
    assert_eq!(world.campaign_column("weekly", "total_runs").as_deref(), Some("2"));
}

#[test]
fn a_complaint_about_a_few_messages_stops_no_campaign() {
    let world = world().set("bounces.limits_after", 31);
    world.define(&definition("weekly", "every = \"day\"\ntime = \"12:30\""));
    world.audience("audience.csv", &people(30));
    let world = world.init();
    world.ok(["run-campaigns"]);
    world.campaigns_at("2026-03-01T12:30:00Z", 0);
    deliver(&world, "1", &complaint(&world, "r1@example.com"));
    world.ok(["bounces"]);
    assert_eq!(world.campaign_column("weekly", "status").as_deref(), Some("pending"));
}

#[test]
fn who_asks_by_mail_is_taken_off_by_token_or_if_our_own_server_says_that_it_was_them() {
    let world = world().set("bounces.trusted_authserv", "mx.shop.example").carts(carts(2)).init();
    world.ok(["detect"]);
    let (_, bytes) = &world.outbox()[0];
    let (to, link) = (header(bytes, "To").unwrap(), header(bytes, "List-Unsubscribe").unwrap());
    let token = link.split("subject=").nth(1).unwrap().split('>').next().unwrap();
    deliver(&world, "1", &format!("From: someone@else.example\nTo: stop@shop.example\nSubject: {token}\n\n"));
    let mut mails = 0;
    let mut mail = |to: &str, results: &str| {
        mails += 1;
        format!(
            "Authentication-Results: {results}\nFrom: Ada <ada@example.com>\nTo: {to}\nSubject: stop\n\nPlease ({mails}).\n"
        )
    };
    deliver(&world, "2", &mail("stop@shop.example", "mx.shop.example; dmarc=fail header.from=example.com"));
    deliver(&world, "3", &mail("stop@shop.example", "elsewhere.example; dmarc=pass"));
    deliver(&world, "4", &mail("hello@shop.example", "mx.shop.example; dmarc=pass header.from=example.com"));
    deliver(
        &world,
        "5",
        &format!("Auto-Submitted: auto-replied\n{}", mail("stop@shop.example", "mx.shop.example; dmarc=pass")),
    );
    let json = world.ok(["bounces", "--json"]).json();
    assert_eq!((&json["by_class"]["unsubscribe"], &json["unread"]), (&1.into(), &3.into()), "{json}");
    assert_eq!(suppressed(&world), [format!("{to} mail")]);
    deliver(
        &world,
        "6",
        &mail("stop@shop.example", "mx.shop.example; spf=pass; dmarc=pass (p=none) header.from=example.com"),
    );
    world.ok(["bounces"]);
    assert_eq!(suppressed(&world).len(), 2);
    world.exits(2, ["suppress", "remove", "ada@example.com"]).says("(mail)");
    // Taken back with a reason, who wrote before that stays so, also when the mailbox is read again.
    world.ok(["suppress", "remove", "ada@example.com", &to, "--reason", "asked for it again"]);
    world.ok(["bounces", "--again"]);
    assert_eq!(suppressed(&world), Vec::<String>::new());
}

#[test]
fn a_pipe_ends_with_0_or_75_and_what_cannot_be_read_is_kept() {
    let world = world().carts(carts(1)).init();
    world.ok(["detect"]);
    assert_eq!(pipe(&world, b"\x00\xff no mail at all").code, 0);
    assert_eq!(std::fs::read_dir(world.path("bounces/unread")).unwrap().count(), 1);
    assert_eq!(pipe(&world, b"").code, 75);
    let hard = HARD.of(&world, "r1@example.com");
    let ledger = world.path("mailonce.db");
    std::fs::rename(&ledger, world.path("away.db")).unwrap();
    let ran = pipe(&world, hard.as_bytes());
    assert_eq!(ran.code, 75, "{ran}");
    std::fs::rename(world.path("away.db"), &ledger).unwrap();
    world.configure("mail.from", "nobody");
    assert_eq!(pipe(&world, hard.as_bytes()).code, 75);
    world.configure("mail.from", "Example Shop <hello@shop.example>");
    assert_eq!(pipe(&world, hard.as_bytes()).code, 0);
    assert_eq!(suppressed(&world), ["r1@example.com bounce"]);
}

#[test]
fn without_a_mailbox_or_with_a_wrong_one_it_says_what_to_do() {
    let world = World::new().init();
    world.exits(78, ["bounces"]).says("no mailbox is named").says("[bounces] maildir");
    world.exits(65, ["bounces", "--maildir", "nowhere"]).says("nowhere");
    world.exits(65, ["bounces", "--mbox", "mailonce.toml"]).says("is no mbox");
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn killed_at_any_call_nothing_is_lost_and_nothing_counts_twice() {
    /// Every call would take a minute.
    const STEP: usize = 5;
    let mut at = 1;
    loop {
        let server = Server::start(Plan::accepting().nth(Stage::Taken, 3, Act::Close));
        let world = world().set("mail.smtp.connections", 1).carts(carts(3)).smtp(&server).init();
        world.run(["detect"]);
        let doubt = world.rows("SELECT recipient FROM message WHERE state = 'in_doubt'");
        let in_doubt = doubt[0]["recipient"].clone().unwrap();
        let others: Vec<String> = (1..=3).map(|n| format!("r{n}@example.com")).filter(|one| *one != in_doubt).collect();
        deliver(&world, "1", &HARD.of(&world, &others[0]));
        deliver(&world, "2", &complaint(&world, &others[1]));
        deliver(&world, "3", &FULL.of(&world, &in_doubt));
        if !crate::support::trace::is_killed_at(at, world.command(["bounces"])) {
            break;
        }
        assert_eq!(world.list("PRAGMA integrity_check"), "ok", "call {at}");
        world.ok(["bounces"]);
        assert_eq!(suppressed(&world).len(), 2, "call {at}");
        assert_eq!(world.number("SELECT count(*) FROM report"), 3, "call {at}");
        assert_eq!((names(&world, "new").len(), names(&world, "cur").len()), (0, 3), "call {at}");
        world.has([("sent", 3)]);
        world.ok(["audit"]);
        at += STEP;
    }
    assert!(at > 100, "only {at} calls were seen");
}
