//! A campaign of a million recipients, killed a hundred times. `cargo bench --bench endurance`
//!
//! The same campaign is sent twice, over 8 connections to a mail server in this process that counts what it accepts and
//! writes a log like Postfix's: once undisturbed, once with `kill -9` at random moments and the next run after each.
//! What is in doubt at the end is settled by that log, what the log cannot tell by the server's own count, as a person
//! would. Then every recipient must have been accepted exactly once, and `mailonce audit` must find nothing.
//!
//! `MAILONCE_BENCH_RECIPIENTS` and `MAILONCE_BENCH_KILLS` change the numbers, `MAILONCE_BENCH_SEED` the moments;
//! `MAILONCE_BENCH_CALM=0` leaves the undisturbed run out.

mod support;

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use support::{command, configure, open_campaign, run};

const CONNECTIONS: u32 = 8;

fn main() {
    let number = |name: &str, usual: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let recipients = number("MAILONCE_BENCH_RECIPIENTS", 1_000_000) as usize;
    let kills = number("MAILONCE_BENCH_KILLS", 100);
    let mut seed = number("MAILONCE_BENCH_SEED", 20_261_122).max(1);
    let folder = tempfile::tempdir().expect("a temporary folder");

    if number("MAILONCE_BENCH_CALM", 1) > 0 {
        undisturbed(folder.path(), recipients);
    }
    let wild = folder.path().join("wild");
    let log = folder.path().join("wild.log");
    let server = Server::start(&log, recipients);
    prepare(&wild, &server, recipients);
    let began = Instant::now();
    let mut killed = 0;
    while killed < kills {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        // After so many more acceptances: from at once to nearly twice an even share.
        let more = seed % (2 * recipients as u64 / (kills + 1)).max(1);
        let until = server.total() + more;
        let mut child =
            command(&wild, &["run-campaigns"]).stderr(std::process::Stdio::null()).spawn().expect("mailonce");
        while server.total() <= until && child.try_wait().expect("a status").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if child.try_wait().expect("a status").is_some() {
            break;
        }
        child.kill().and_then(|()| child.wait()).expect("a kill");
        killed += 1;
    }
    let code = command(&wild, &["run-campaigns"]).status().expect("mailonce").code();
    let disturbed = began.elapsed();
    println!(
        "{recipients} recipients killed {killed} times: {:.0} s (the last run ended with {code:?})",
        disturbed.as_secs_f64()
    );
    server.flush();
    let ledger = || Connection::open(wild.join("mailonce.db")).expect("the ledger");
    let count = |state: &str| -> u64 {
        ledger().query_row("SELECT count(*) FROM message WHERE state = ?1", [state], |row| row.get(0)).expect("a count")
    };
    println!("    sent {}, in doubt {}, planned {}", count("sent"), count("in_doubt"), count("planned"));
    let doubtful = count("in_doubt");
    // A quarter of an hour later, so that a connection that was lost may count as a failure.
    let later = (chrono::Utc::now() + chrono::TimeDelta::minutes(20)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let log = log.to_str().expect("a path");
    command(&wild, &["--now", &later, "resolve", "--mail-log", log]).status().expect("mailonce");
    println!("    of {doubtful} in doubt the mail log settled {}", doubtful - count("in_doubt"));
    let left: Vec<(String, String)> = ledger()
        .prepare("SELECT message_id, recipient FROM message WHERE state = 'in_doubt'")
        .and_then(|mut rows| rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .expect("messages");
    for (message_id, recipient) in &left {
        let how = if server.accepted(recipient) > 0 { "--sent" } else { "--resend" };
        let resolve = ["--now", &later, "resolve", how, message_id, "--reason", "the server's own count"];
        assert!(command(&wild, &resolve).status().expect("mailonce").success(), "{resolve:?}");
    }
    command(&wild, &["--now", &later, "run-campaigns"]).status().expect("mailonce");
    let (missing, once, more) = server.tally();
    println!("    accepted once {once}, more than once {more}, never {missing}");
    let began = Instant::now();
    let audit = command(&wild, &["--now", &later, "audit"]).status().expect("mailonce");
    println!("    audit: {:.1} s, {audit}", began.elapsed().as_secs_f64());
    assert!(
        (missing, more) == (0, 0) && count("sent") as usize == recipients && audit.success(),
        "the promise is broken"
    );
}

/// The same campaign without kills.
fn undisturbed(folder: &Path, recipients: usize) {
    let calm = folder.join("calm");
    let server = Server::start(&folder.join("calm.log"), recipients);
    prepare(&calm, &server, recipients);
    let began = Instant::now();
    run(&calm, &["run-campaigns"]);
    let took = began.elapsed().as_secs_f64();
    assert_eq!(server.tally(), (0, recipients, 0), "(missing, once, more than once)");
    println!("{recipients} recipients undisturbed: {took:.0} s, {:.0} messages/s", recipients as f64 / took);
    drop(fs::remove_dir_all(&calm));
}

/// Makes a rehearsal ledger with the campaign opened in it.
fn prepare(home: &Path, server: &Server, recipients: usize) {
    fs::create_dir(home).expect("a folder");
    configure(home, server.port, CONNECTIONS, "envelope = \"bounce+{token}@shop.example\"\n");
    run(home, &["init", "--rehearsal"]);
    open_campaign(
        home,
        "spring",
        "<html><body><p>Dear {{ name }}, spring is here.</p></body></html>\n",
        recipients as u32,
    );
}

/// A mail server that counts what it accepts for each recipient, and logs it as Postfix does.
struct Server {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    accepted: Vec<AtomicU8>,
    total: AtomicU64,
    queue_id: AtomicU32,
    log: Mutex<BufWriter<File>>,
}

impl Server {
    fn start(log: &Path, recipients: usize) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared {
            accepted: (0..recipients).map(|_| AtomicU8::new(0)).collect(),
            total: AtomicU64::new(0),
            queue_id: AtomicU32::new(0),
            log: Mutex::new(BufWriter::new(File::create(log).expect("a log"))),
        });
        let of_connections = Arc::clone(&shared);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let shared = Arc::clone(&of_connections);
                std::thread::spawn(move || shared.serve(connection));
            }
        });
        Server { port, shared }
    }

    fn flush(&self) {
        self.shared.log.lock().expect("the log").flush().expect("a disk with room");
    }

    /// Messages accepted so far.
    fn total(&self) -> u64 {
        self.shared.total.load(Ordering::Relaxed)
    }

    fn accepted(&self, recipient: &str) -> u8 {
        number_in(recipient).map_or(0, |number| self.shared.accepted[number].load(Ordering::Relaxed))
    }

    /// How many recipients got nothing, one copy, more than one.
    fn tally(&self) -> (usize, usize, usize) {
        let mut tally = (0, 0, 0);
        for accepted in &self.shared.accepted {
            match accepted.load(Ordering::Relaxed) {
                0 => tally.0 += 1,
                1 => tally.1 += 1,
                _ => tally.2 += 1,
            }
        }
        tally
    }
}

/// `recipient17@example.com` is 17.
fn number_in(address: &str) -> Option<usize> {
    let digits = address.split_once("recipient")?.1;
    digits[..digits.find('@')?].parse().ok()
}

impl Shared {
    fn log(&self, daemon: &str, text: &str) {
        let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6f+00:00");
        writeln!(self.log.lock().expect("the log"), "{now} mx postfix/{daemon}[100]: {text}")
            .expect("a disk with room");
    }

    /// One connection. Answers leave together when no more input is at hand, as PIPELINING wants it.
    fn serve(&self, mut connection: TcpStream) {
        let _ = connection.set_nodelay(true);
        let mut input = Vec::new();
        let mut answers = b"220 mx.example ESMTP\r\n".to_vec();
        let mut envelope = Envelope::default();
        let mut in_body = false;
        let mut bytes = vec![0; 1 << 16];
        loop {
            if connection.write_all(&answers).is_err() {
                break;
            }
            answers.clear();
            match connection.read(&mut bytes) {
                Ok(count @ 1..) => input.extend_from_slice(&bytes[..count]),
                _ => break,
            }
            let mut rest = &input[..];
            loop {
                if in_body {
                    let Some(end) = find(rest, b"\r\n.\r\n") else { break };
                    self.take(&envelope);
                    rest = &rest[end + 5..];
                    in_body = false;
                    answers.extend_from_slice(b"250 2.0.0 Ok: queued\r\n");
                    continue;
                }
                let Some(end) = find(rest, b"\r\n") else { break };
                let line = String::from_utf8_lossy(&rest[..end]).into_owned();
                rest = &rest[end + 2..];
                let answer = match line.get(..4).unwrap_or_default() {
                    "EHLO" => "250-mx.example\r\n250 PIPELINING\r\n",
                    "MAIL" => {
                        envelope.sender = line[11..].split('>').next().unwrap_or_default().to_owned();
                        "250 2.1.0 Ok\r\n"
                    }
                    "RCPT" => {
                        envelope.recipient = line;
                        envelope.queue_id =
                            format!("{:X}", 0xA000_0000 + self.queue_id.fetch_add(1, Ordering::Relaxed));
                        self.log("smtpd", &format!("{}: client=localhost[127.0.0.1]", envelope.queue_id));
                        "250 2.1.5 Ok\r\n"
                    }
                    "DATA" => {
                        in_body = true;
                        "354 End data with <CR><LF>.<CR><LF>\r\n"
                    }
                    "QUIT" => "221 2.0.0 Bye\r\n",
                    _ => "502 5.5.2 Error\r\n",
                };
                answers.extend_from_slice(answer.as_bytes());
            }
            input = rest.to_vec();
        }
        if in_body {
            if let Some(id) = find(&input, b"Message-ID: ") {
                let id = String::from_utf8_lossy(&input[id + 12..]);
                let id = id.split("\r\n").next().unwrap_or_default();
                self.log("cleanup", &format!("{}: message-id={id}", envelope.queue_id));
            }
            self.log("smtpd", &format!("lost connection after DATA ({} bytes) from localhost[127.0.0.1]", input.len()));
        }
    }

    fn take(&self, envelope: &Envelope) {
        if let Some(number) = number_in(&envelope.recipient) {
            self.accepted[number].fetch_add(1, Ordering::Relaxed);
            self.total.fetch_add(1, Ordering::Relaxed);
        }
        let Envelope { queue_id, sender, .. } = envelope;
        self.log("qmgr", &format!("{queue_id}: from=<{sender}>, size=900, nrcpt=1 (queue active)"));
    }
}

#[derive(Default)]
struct Envelope {
    sender: String,
    recipient: String,
    queue_id: String,
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
