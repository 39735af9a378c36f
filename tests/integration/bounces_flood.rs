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

/// A command that has ended, and what it took.
struct Measured {
    ran: Ran,
    took: Duration,
    /// Of one core.
    busy: Duration,
    most_memory_kib: u64,
}

impl Measured {
    fn say(&self, what: &str) {
        let (took, busy, memory) = (self.took.as_secs_f64(), self.busy.as_secs_f64(), self.most_memory_kib / 1024);
        println!(
            "{what}: {took:.1} s, {busy:.1} s of a core, at most {memory} MiB: {}",
            self.ran.stdout.replace('\n', " ")
        );
    }
}

/// Waits for the end of a command.
fn measured(mut run: Running) -> Measured {
    let (begun, mut most_memory_kib, mut ticks) = (Instant::now(), 0, 0);
    while run.is_running() {
        let of = |file| fs::read_to_string(format!("/proc/{}/{file}", run.id())).unwrap_or_default();
        let (status, stat) = (of("status"), of("stat"));
        let had = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        most_memory_kib = had.unwrap_or(0).max(most_memory_kib);
        // Behind the name: user and system time are the 12th and 13th.
        let times = stat.rsplit(')').next().unwrap_or_default().split(' ').skip(12).take(2);
        ticks = times.map(|ticks| ticks.parse().unwrap_or(0)).sum::<u64>().max(ticks);
        thread::sleep(Duration::from_millis(2));
    }
    let took = begun.elapsed();
    Measured { ran: run.wait(), took, busy: Duration::from_millis(ticks * 10), most_memory_kib }
}

#[test]
fn a_flood_is_counted_once_by_two_at_once_while_more_comes_in_and_a_campaign_goes_out() {
    let asked = std::env::var("FLOOD").ok().and_then(|number| number.parse().ok());
    let number = asked.unwrap_or(MESSAGES);
    let say = |what: &str, measured: &Measured| {
        if asked.is_some() {
            measured.say(what);
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
    world.check(sent.ran, 0);
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
        world.check(campaign.ran, 0);
        arriving.join().unwrap();
        let ended = readers.map(|reader| reader.join().unwrap());
        ended.iter().for_each(|ended| say("bounces", ended));
        // What came in behind the two.
        let last = measured(world.spawn(["bounces", "--json"]));
        say("bounces", &last);
        ended.into_iter().chain([last]).map(|ended| world.check(ended.ran, 0).json()).collect()
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
    let again = world.check(again.ran, 0).json();
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
    let Measured { ran, most_memory_kib, .. } = measured(world.spawn(["bounces", "--json"]));
    assert_eq!(world.check(ran, 0).json()["unread"], 12);
    assert!(most_memory_kib > 0 && most_memory_kib < 80 << 10, "{most_memory_kib} KiB");
}

#[test]
fn what_is_of_no_message_is_kept_up_to_a_number_whatever_it_is() {
    let world = World::new().set("bounces.maildir", "Maildir").init();
    for folder in ["new", "cur", "tmp"] {
        fs::create_dir_all(world.path("Maildir").join(folder)).unwrap();
    }
    let deliver_all = |from: usize, to: usize| {
        for n in from..to {
            let stray = report(n, 1, &format!("{n:032x}"));
            let complaint = stray.replace("report-type=delivery-status", "report-type=feedback-report");
            let complaint = complaint.replace("message/delivery-status", "message/feedback-report");
            let complaint = complaint.replace("Reporting-MTA", "Feedback-Type: abuse\nReporting-MTA");
            deliver(&world.path("Maildir"), &n.to_string(), if n % 2 == 0 { &stray } else { &complaint });
        }
    };
    deliver_all(0, 4);
    assert_eq!(world.ok(["bounces", "--json"]).json()["unmatched"], 4);
    let filled = "WITH RECURSIVE n (n) AS (SELECT 5 UNION ALL SELECT n + 1 FROM n WHERE n < 9998)
                  INSERT INTO report (digest, received_at, class)
                  SELECT CAST('filled ' || n AS BLOB), '2026-03-01T12:00:00Z', 'hard' FROM n";
    let ledger = rusqlite::Connection::open(world.ledger_file()).unwrap();
    ledger.execute_batch(filled).unwrap();
    assert_eq!(world.number("SELECT count(*) FROM report"), 9_998);
    deliver_all(4, 10);
    let told = world.ok(["bounces", "--json"]).json();
    assert_eq!((&told["unmatched"], &told["known"]), (&2.into(), &4.into()), "{told}");
    assert_eq!(world.number("SELECT count(*) FROM report"), 10_000);
}
