//! Sending, side by side in one run on one machine: mailonce, Postfix's load generator, and the queues that shops use.
//! `cargo bench --bench sending`; one part alone: `-- peers`, `-- delay`.
//!
//! The same number of sessions, messages of about 4 KB to one recipient each, the same `smtp-sink` on loopback. What is
//! installed takes part: `smtp-sink` and `smtp-source` (Debian: postfix) must be there; Python and Node bring
//! django-post_office, django-mailer (PyPI) and nodemailer (npm) into a temporary folder, if they can.
//!
//! mailonce: whole runs with the ledger on this disk, rendering included, from the start of the process to its last
//! commit. `smtp-source` and nodemailer render nothing and record nothing. The queues send from SQLite; filling them is
//! not counted. `MAILONCE_BENCH_MESSAGES` changes mailonce's 20,000 messages.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{Delay, command, configure, open_campaign, run, smtp_sink};

const SESSIONS: [u32; 3] = [1, 8, 16];
/// How often `smtp-source` and mailonce take turns.
const ROUNDS: usize = 5;

fn main() {
    let messages: u32 = std::env::var("MAILONCE_BENCH_MESSAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some((mut sink, port)) = smtp_sink() else {
        println!("smtp-sink is not installed (Debian: postfix): nothing can be measured");
        return;
    };
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|word| word == part);
    if is_wanted("peers") {
        side_by_side(folder.path(), port, messages);
    }
    if is_wanted("delay") {
        delayed(folder.path(), port);
    }
    let _ = sink.kill();
    let _ = sink.wait();
}

fn side_by_side(folder: &Path, port: u16, messages: u32) {
    let python = python(folder);
    let node = node(folder);
    println!("messages per second, and as a part of smtp-source's with as many sessions");
    println!("{:<52} {:>18} {:>18} {:>18}", "", "1 session", "8 sessions", "16 sessions");
    // In turns, for the machine is never the same for long: the median of each.
    let mut rates = SESSIONS.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..ROUNDS {
        for (sessions, (generator, ours)) in SESSIONS.into_iter().zip(&mut rates) {
            // One session takes a while for each.
            let messages = if sessions == 1 { messages / 4 } else { messages };
            generator.extend(timed(
                messages,
                Command::new("/usr/sbin/smtp-source")
                    .args(["-d", "-l", "4096", "-f", "bench@shop.example", "-t", "a@example.com"])
                    .args(["-s", &sessions.to_string(), "-m", &messages.to_string(), &format!("127.0.0.1:{port}")]),
            ));
            ours.extend(mailonce(folder, port, sessions, messages));
        }
    }
    let generator = rates.each_ref().map(|(generator, _)| median(generator));
    row("smtp-source: no ledger, no rendering", None, generator);
    row("mailonce: ledger, rendering", Some(&generator), rates.each_ref().map(|(_, ours)| median(ours)));
    let nodemailer = |sessions| {
        peer(
            Command::new("node").env("NODE_PATH", node.as_ref()?.join("node_modules")).arg(script("nodemailer.js")),
            port,
            messages / 4,
            sessions,
        )
    };
    row("nodemailer, pool: no ledger, no rendering", Some(&generator), SESSIONS.map(nodemailer));
    for (name, app, part, most) in [
        ("django-post_office: queue in SQLite", "post_office", 10, 16),
        ("django-mailer: queue in SQLite", "mailer", 50, 1),
    ] {
        let queue = |sessions| {
            let mut command = Command::new(python.as_ref()?.join("bin/python"));
            command.current_dir(folder).arg(script("django_queue.py")).arg(app);
            if sessions > most { None } else { peer(&mut command, port, messages / part, sessions) }
        };
        row(name, Some(&generator), SESSIONS.map(queue));
    }
}

fn delayed(folder: &Path, port: u16) {
    let delay = Delay::start(port, Duration::from_millis(10));
    println!("\nwith 20 ms of round-trip time: messages per second, and as a part of one per round trip and session");
    let one_each = SESSIONS.map(|sessions| Some(f64::from(sessions) * 50.0));
    let rates = SESSIONS.map(|sessions| mailonce(folder, delay.port, sessions, 1000 * sessions));
    row("mailonce: ledger, rendering", Some(&one_each), rates);
}

fn median(rates: &[f64]) -> Option<f64> {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied()
}

/// Prints one row.
fn row(name: &str, reference: Option<&[Option<f64>; 3]>, rates: [Option<f64>; 3]) {
    let mut line = format!("{name:<52}");
    for (at, rate) in rates.iter().enumerate() {
        let part = rate.zip(reference.and_then(|reference| reference[at])).map(|(rate, whole)| rate / whole);
        let part = part.map_or_else(String::new, |part| format!(" ({part:.3})"));
        line.push_str(&format!(" {:>18}", rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}{part}"))));
    }
    println!("{line}");
}

/// A whole run of `run-campaigns`, the occurrence being open already.
fn mailonce(folder: &Path, port: u16, sessions: u32, messages: u32) -> Option<f64> {
    let home = folder.join(format!("mailonce-{port}-{sessions}"));
    fs::create_dir(&home).expect("a folder");
    configure(&home, port, sessions, "");
    run(&home, &["init", "--rehearsal"]);
    let paragraph =
        "<p>Dear {{ name }}, spring is here, and so is a line of text for {{ city }} that stands for others.</p>\n";
    let letter = format!("<html><body><h1>Hello {{{{ name }}}}</h1>\n{}</body></html>\n", paragraph.repeat(15));
    open_campaign(&home, "spring", &letter, messages);
    let rate = timed(messages, &mut command(&home, &["run-campaigns"]));
    let ledger = rusqlite::Connection::open(home.join("mailonce.db")).expect("the ledger");
    let sent: u32 =
        ledger.query_row("SELECT count(*) FROM message WHERE state = 'sent'", [], |row| row.get(0)).expect("a count");
    assert_eq!(sent, messages, "not all were sent");
    drop(ledger);
    fs::remove_dir_all(home).expect("a folder");
    rate
}

/// Messages per second of a command that sends so many; `None` when it is not there.
fn timed(messages: u32, command: &mut Command) -> Option<f64> {
    let began = Instant::now();
    let status = command.stdout(Stdio::null()).status().ok()?;
    assert!(status.success(), "{command:?} ended with {status}");
    Some(f64::from(messages) / began.elapsed().as_secs_f64())
}

/// Messages per second of a peer, which says itself how many seconds it took.
fn peer(command: &mut Command, port: u16, messages: u32, sessions: u32) -> Option<f64> {
    let output = command.args([u32::from(port), messages, sessions].map(|n| n.to_string())).output().ok()?;
    let took = String::from_utf8_lossy(&output.stdout).lines().last().and_then(|line| line.trim().parse::<f64>().ok());
    match took {
        Some(took) => Some(f64::from(messages) / took),
        None => {
            eprintln!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
            None
        }
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(name)
}

fn python(folder: &Path) -> Option<PathBuf> {
    let home = folder.join("python");
    let made = quiet(Command::new("python3").args(["-m", "venv"]).arg(&home))
        && quiet(Command::new(home.join("bin/pip")).args(["install", "-q", "django-post_office", "django-mailer"]));
    made.then_some(home)
}

fn node(folder: &Path) -> Option<PathBuf> {
    let home = folder.join("node");
    fs::create_dir(&home).ok()?;
    fs::write(home.join("package.json"), "{}").ok()?;
    quiet(Command::new("npm").current_dir(&home).args(["install", "--silent", "nodemailer"])).then_some(home)
}

fn quiet(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}
