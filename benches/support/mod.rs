//! What the benchmarks share: whole runs, measured from outside.
#![allow(dead_code, reason = "each benchmark is a program of its own and uses its part")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;

/// Puts a history into a ledger: one sent message per cart.
pub fn fill_ledger(folder: &Path, messages: u64) {
    let ledger = Connection::open(folder.join("mailonce.db")).expect("the ledger");
    ledger
        .execute_batch(&format!(
            "PRAGMA synchronous = OFF; BEGIN;
             UPDATE ledger SET epoch = 1;
             INSERT INTO run VALUES (1, 'detect', '2025-01-01T00:00:00Z', '2025-01-01T00:00:00Z', 'done', 0, 0);
             WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {messages} - 1)
             INSERT INTO message (message_key, kind, state, recipient, folded_address, message_id, planned_at, not_before,
                 expires_at, identity, cart_id, cart_hash, cart_touched_at, episode)
             SELECT *, message_key FROM (SELECT 'cart/u:u' || i || '/v1:' || hex(randomblob(32)) AS message_key, 'cart', 'planned', 'shopper' || i || '@example.com',
                 'shopper' || i || '@example.com', '<' || hex(randomblob(16)) || '@shop.example>', '2025-01-01T00:00:00Z',
                 '2025-01-01T00:00:00Z', '2025-01-04T00:00:00Z', 'u:u' || i, 'c' || i, 'v1:' || hex(randomblob(32)),
                 '2025-01-01T00:00:00Z' FROM n);
             INSERT INTO cart_abandonment_log (identity, user_id, email, cart_id, cart_hash, cart_value, currency, created_at,
                 message_key, origin)
             SELECT identity, substr(identity, 3), recipient, cart_id, cart_hash, '52.30', 'EUR', planned_at, message_key, 'detect'
             FROM message;
             UPDATE message SET state = 'armed', armed_at = '2025-01-01T00:00:01Z', epoch = 1;
             UPDATE message SET state = 'sent', settled_at = '2025-01-01T00:00:02Z', last_reply = '250 2.0.0 Ok: queued';
             INSERT INTO attempt (message, epoch, armed_at, ended_at, outcome, reply)
             SELECT id, 1, armed_at, settled_at, 'sent', last_reply FROM message;
             UPDATE cart_abandonment_log SET email_sent = 1, last_sent_at = '2025-01-01T00:00:02Z';
             COMMIT; PRAGMA wal_checkpoint(TRUNCATE);"
        ))
        .expect("a history");
    let bytes = fs::metadata(folder.join("mailonce.db")).expect("the ledger").len();
    println!("a ledger of {messages} messages has {} MB", bytes / 1_000_000);
}

/// Writes a configuration that sends over SMTP to a port of loopback; `more` is any further lines of `[mail]`.
pub fn configure(home: &Path, port: u16, connections: u32, more: &str) {
    let config = format!(
        "ledger = \"mailonce.db\"\n[shop]\nname = \"Bench\"\nurl = \"https://shop.example\"\n[source]\nkind = \"sqlite\"\n\
         path = \"shop.db\"\n[mail]\nfrom = \"Bench <bench@shop.example>\"\n{more}transport = \"smtp\"\n[mail.smtp]\n\
         host = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nconnections = {connections}\n"
    );
    fs::write(home.join("mailonce.toml"), config).expect("a configuration");
}

/// Defines one more campaign, and has it opened in the rehearsal ledger that is there: nothing of it is sent yet.
pub fn open_campaign(home: &Path, id: &str, letter: &str, recipients: u32) {
    fs::write(home.join("letter.html"), letter).expect("a template");
    let mut audience = String::from("email,name,city\n");
    for n in 0..recipients {
        audience.push_str(&format!("recipient{n}@example.com,Recipient {n},Berlin\n"));
    }
    let path = home.join("audience.csv");
    fs::write(&path, audience).expect("an audience");
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(long_ago)).expect("its age");
    // Whole seconds: at least one from now.
    let at = chrono::Utc::now() + chrono::TimeDelta::seconds(2);
    let campaign = format!(
        "[[campaign]]\nid = \"{id}\"\nsubject = \"Hello {{{{ name }}}}\"\ntemplate = \"letter.html\"\n\
         audience = \"audience.csv\"\nat = \"{}\"\n",
        at.format("%Y-%m-%dT%H:%M:%SZ")
    );
    let definitions = fs::File::options().create(true).append(true).open(home.join("campaigns.toml"));
    definitions.and_then(|mut file| file.write_all(campaign.as_bytes())).expect("a campaign");
    // Seen before it is due; then due.
    run(home, &["run-campaigns", "--time-budget", "0s"]);
    while chrono::Utc::now() <= at {
        std::thread::yield_now();
    }
    run(home, &["run-campaigns", "--time-budget", "0s"]);
}

/// Runs a command that must end well.
pub fn run(home: &Path, args: &[&str]) {
    assert!(command(home, args).status().expect("mailonce").success(), "{args:?}");
}

pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailonce"));
    command.current_dir(folder).env_clear().args(args).stdout(std::process::Stdio::null());
    command
}

/// Runs a command several times; prints the median wall time and the highest peak memory.
pub fn report(what: &str, folder: &Path, args: &[&str], runs: usize) -> Duration {
    report_after(what, folder, args, runs, |_| {})
}

/// As [`report`]; before each run, `prepare` is given its number.
pub fn report_after(what: &str, folder: &Path, args: &[&str], runs: usize, mut prepare: impl FnMut(usize)) -> Duration {
    let mut walls = Vec::new();
    let mut peak = 0;
    for number in 0..runs {
        prepare(number);
        let began = Instant::now();
        let child = command(folder, args).spawn().expect("mailonce");
        let (status, kib) = wait(child);
        walls.push(began.elapsed());
        peak = peak.max(kib);
        assert!(matches!(status.code(), Some(0 | 1)), "{args:?} ended with {status}");
    }
    walls.sort();
    let median = walls[walls.len() / 2];
    println!("{what}: {:.1} ms (median of {runs}), peak {:.1} MB", median.as_secs_f64() * 1e3, peak as f64 / 1024.0);
    median
}

/// Waits for a process; its exit status and peak resident memory in KiB.
pub fn wait(child: Child) -> (ExitStatus, i64) {
    let mut status = 0;
    // SAFETY: rusage is plain data; both pointers are valid for the call, and the child has not been waited for.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage);
        usage
    };
    (ExitStatus::from_raw(status), usage.ru_maxrss)
}

/// Starts Postfix's `smtp-sink` on a free port of loopback.
pub fn smtp_sink() -> Option<(Child, u16)> {
    let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
    let address = format!("127.0.0.1:{port}");
    // SAFETY: geteuid has no preconditions.
    let user = if unsafe { libc::geteuid() } == 0 { &["-u", "nobody"][..] } else { &[] };
    let sink = ["/usr/sbin/smtp-sink", "/usr/local/sbin/smtp-sink"].iter().find(|path| Path::new(path).exists())?;
    let child = Command::new(sink).args(user).args([address.as_str(), "1024"]).spawn().ok()?;
    let until = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(&address).is_err() && Instant::now() < until {
        std::thread::yield_now();
    }
    Some((child, port))
}

/// A proxy on loopback that holds every byte back for a while, in both directions.
pub struct Delay {
    pub port: u16,
}

impl Delay {
    /// Starts it before the server at `port`; `each_way` is half a round trip.
    pub fn start(port: u16, each_way: Duration) -> Delay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let own = listener.local_addr().expect("its address").port();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    let _ = to.set_nodelay(true);
                    hold_back(from, to, each_way);
                }
            }
        });
        Delay { port: own }
    }
}

fn hold_back(mut from: TcpStream, mut to: TcpStream, by: Duration) {
    let (ahead, behind) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if ahead.send((Instant::now() + by, bytes[..count].to_vec())).is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, bytes) in behind {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
