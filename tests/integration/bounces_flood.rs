//! A flood of reports, read by two at once while more come in and a campaign goes out.
//!
//! `FLOOD=100000 cargo test --test integration bounces_flood -- --nocapture` tries it with so many, and says how long it took.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Ran, Running, World, definition, people};

/// So many messages come back, each once.
const MESSAGES: usize = 2_000;
/// Of each so many one is of a dead address.
const DEAD_OF: usize = 100;

/// The report about a message; `n` is its place in the audience.
fn report(n: usize, row: i64, token: &str) -> String {
    let (status, said) = match n % DEAD_OF {
        0 => ("5.1.1", "550 5.1.1 no such user"),
        _ => ("5.2.2", "552 5.2.2 the mailbox is full"),
    };
    let row = base36(row);
    format!(
        "Return-Path: <>\nDelivered-To: bounce+{row}-{token}@shop.example\nReceived: by mx.example; Sun, 01 Mar 2026 12:31:00 +0000\n\
         Date: Sun, 01 Mar 2026 12:31:00 +0000\nFrom: MAILER-DAEMON@mx.example (Mail Delivery System)\n\
         Subject: Undelivered Mail Returned to Sender\nTo: bounce+{row}-{token}@shop.example\nAuto-Submitted: auto-replied\n\
         MIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"b/mx.example\"\n\n\
         --b/mx.example\nContent-Description: Notification\nContent-Type: text/plain; charset=us-ascii\n\n\
         This is the mail system at host mx.example.\n\n{}\n\
         --b/mx.example\nContent-Description: Delivery report\nContent-Type: message/delivery-status\n\n\
         Reporting-MTA: dns; mx.example\nArrival-Date: Sun, 01 Mar 2026 12:30:59 +0000\n\n\
         Final-Recipient: rfc822; r{n}@example.com\nAction: failed\nStatus: {status}\nRemote-MTA: dns; far.example\n\
         Diagnostic-Code: smtp; {said}\n\n\
         --b/mx.example\nContent-Description: Undelivered Message\nContent-Type: message/rfc822\n\n\
         Message-ID: <{token}@shop.example>\nFrom: hello@shop.example\nTo: r{n}@example.com\nSubject: Hello Name {n}\n\n{}\n\
         --b/mx.example--\n",
        "I'm sorry to have to inform you that your message could not be delivered.\n".repeat(8),
        "<p>Dear Name, here is what is new.</p>\n".repeat(80),
    )
}

fn base36(number: i64) -> String {
    let digits = std::iter::successors(Some(number), |rest| (*rest >= 36).then_some(rest / 36));
    let digits: Vec<char> = digits.map(|rest| char::from_digit((rest % 36) as u32, 36).unwrap()).collect();
    digits.iter().rev().collect()
}

/// As a mail server delivers: whole under `tmp/`, then by another name into `new/`.
fn deliver(maildir: &Path, name: &str, mail: &str) {
    let whole = maildir.join("tmp").join(name);
    fs::write(&whole, mail).unwrap();
    fs::hard_link(&whole, maildir.join("new").join(name)).unwrap();
    fs::remove_file(&whole).unwrap();
}

/// Waits for the end of a command; how it ended, how long that took, and how much memory it had at most, in KiB.
fn measured(mut run: Running) -> (Ran, Duration, u64) {
    let (begun, mut most) = (Instant::now(), 0);
    while run.is_running() {
        let status = fs::read_to_string(format!("/proc/{}/status", run.id())).unwrap_or_default();
        let had = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(had.unwrap_or(0));
        thread::sleep(Duration::from_millis(2));
    }
    let took = begun.elapsed();
    (run.wait(), took, most)
}

#[test]
fn a_flood_is_counted_once_by_two_at_once_while_more_comes_in_and_a_campaign_goes_out() {
    let asked = std::env::var("FLOOD").ok().and_then(|number| number.parse().ok());
    let number = asked.unwrap_or(MESSAGES);
    let say = |what: &str, (ran, took, memory): &(Ran, Duration, u64)| {
        if asked.is_some() {
            println!(
                "{what}: {:.1} s, at most {} MiB: {}",
                took.as_secs_f64(),
                memory / 1024,
                ran.stdout.replace('\n', " ")
            );
        }
    };
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-01 12:30\""))
        .set("mail.envelope", "bounce+{id}-{token}@shop.example")
        .set("bounces.maildir", "Maildir");
    let maildir = world.path("Maildir");
    for folder in ["new", "cur", "tmp"] {
        fs::create_dir_all(maildir.join(folder)).unwrap();
    }
    world.audience("audience.csv", &people(number));
    let world = world.init();
    world.ok(["run-campaigns"]);
    world.set_now("2026-03-01T12:30:00Z");
    let sent = measured(world.spawn(["run-campaigns"]));
    say("campaign", &sent);
    world.check(sent.0, 0);
    let messages: Vec<(usize, i64, String)> = {
        let ledger = world.ledger();
        let sql = "SELECT recipient, id, substr(message_id, 2, 32) FROM message ORDER BY id";
        let mut rows = ledger.prepare(sql).unwrap();
        let rows = rows.query_map([], |row| {
            let recipient: String = row.get(0)?;
            let n = recipient[1..].split('@').next().unwrap().parse().unwrap();
            Ok((n, row.get(1)?, row.get(2)?))
        });
        rows.unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(messages.len(), number);
    let size_before = fs::metadata(world.ledger_file()).unwrap().len();

    // Every second one twice, as two aliases get it; a tenth comes while the others are read.
    let (late, early): (Vec<_>, Vec<_>) = messages.iter().partition(|(n, ..)| n % 10 == 1);
    let one = |(n, row, token): &(usize, i64, String)| {
        let mail = report(*n, *row, token);
        deliver(&maildir, &format!("1772368260.M{n}P1.mx"), &mail);
        if n % 2 == 0 {
            let again = mail.replace("Received: by mx.example", "Received: by mail.shop.example").replace('\n', "\r\n");
            deliver(&maildir, &format!("1772368261.M{n}P2.mx"), &again);
        }
    };
    early.into_iter().for_each(one);
    world.define(
        &(definition("spring", "at = \"2026-03-01 12:30\"") + &definition("late", "at = \"2026-03-01 12:40\"")),
    );
    world.audience("audience.csv", &people(10));
    world.set_now("2026-03-01T12:31:00Z");
    world.ok(["run-campaigns"]);
    world.set_now("2026-03-01T12:40:00Z");
    let reading = AtomicBool::new(true);
    let told: Vec<serde_json::Value> = thread::scope(|scope| {
        let arriving = scope.spawn(|| late.into_iter().for_each(one));
        let readers = [(); 2].map(|()| world.spawn(["bounces", "--json"]));
        let readers = readers.map(|run| {
            scope.spawn(|| {
                let ended = measured(run);
                reading.store(false, Ordering::Relaxed);
                ended
            })
        });
        let campaign = measured(world.spawn(["run-campaigns"]));
        say(&format!("campaign beside (bounces still read: {})", reading.load(Ordering::Relaxed)), &campaign);
        world.check(campaign.0, 0);
        arriving.join().unwrap();
        let ended = readers.map(|reader| reader.join().unwrap());
        ended.iter().for_each(|ended| say("bounces", ended));
        // What came in behind the two.
        let last = measured(world.spawn(["bounces", "--json"]));
        say("bounces", &last);
        ended.into_iter().chain([last]).map(|(ran, ..)| world.check(ran, 0).json()).collect()
    });
    let sum = |of: &dyn Fn(&serde_json::Value) -> &serde_json::Value| -> u64 {
        told.iter().map(|told| of(told).as_u64().unwrap_or(0)).sum()
    };
    let dead = number / DEAD_OF;
    assert_eq!(sum(&|told| &told["by_class"]["hard"]), dead as u64, "{told:?}");
    assert_eq!(sum(&|told| &told["by_class"]["soft"]), (number - dead) as u64, "{told:?}");
    assert_eq!((sum(&|told| &told["unmatched"]), sum(&|told| &told["unread"])), (0, 0), "{told:?}");
    assert_eq!(sum(&|told| &told["suppressed"]), dead as u64, "{told:?}");
    assert_eq!(world.number("SELECT count(DISTINCT message) FROM report"), number as i64);
    assert_eq!(world.number("SELECT count(*) FROM report"), number as i64);
    assert_eq!(world.number("SELECT count(*) FROM message WHERE state = 'sent'"), number as i64 + 10);
    let files = |folder: &str| fs::read_dir(maildir.join(folder)).unwrap().count();
    assert_eq!((files("new"), files("cur"), files("tmp")), (0, number + number / 2, 0));
    let again = measured(world.spawn(["bounces", "--again", "--json"]));
    say("all again", &again);
    let again = world.check(again.0, 0).json();
    assert_eq!((&again["read"], &again["known"]), (&(number + number / 2).into(), &(number + number / 2).into()));
    world.ok(["audit"]);
    if asked.is_some() {
        let size = fs::metadata(world.ledger_file()).unwrap().len();
        println!("ledger: {} KiB before, {} KiB after", size_before / 1024, size / 1024);
    }
}

#[test]
fn of_many_long_mails_no_more_than_one_is_held_at_a_time() {
    let world = World::new().set("bounces.maildir", "Maildir").init();
    for folder in ["new", "cur", "tmp"] {
        fs::create_dir_all(world.path("Maildir").join(folder)).unwrap();
    }
    for n in 1..=12 {
        let mail = fs::File::create(world.path("Maildir/new").join(n.to_string())).unwrap();
        std::io::Write::write_all(&mut &mail, format!("From: r{n}@example.com\nSubject: a picture\n\n").as_bytes())
            .unwrap();
        mail.set_len(8 << 20).unwrap();
    }
    let (ran, _, memory) = measured(world.spawn(["bounces", "--json"]));
    assert_eq!(world.check(ran, 0).json()["unread"], 12);
    assert!(memory > 0 && memory < 80 << 10, "{memory} KiB");
}
