//! `bounces` and a real Postfix: what it takes over and cannot deliver comes back as its own reports, into a Maildir or through
//! a pipe.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::support::postfix::ids_of;
use crate::support::{Act, Cart, Plan, Postfix, Server, Stage, World, wait_until};

/// The servers to which Postfix hands what is for `@far.example`.
fn far_servers() -> Server {
    let says = |plan: Plan, to: &str, reply| plan.for_recipient(to, Stage::Rcpt, Act::Reply(reply));
    let plan = says(Plan::accepting(), "dead@", "550 5.1.1 <dead@far.example>: no such user");
    let plan = says(plan, "full@", "552 5.2.2 the mailbox is full");
    let plan = says(plan, "blocked@", "554 5.7.1 we take nothing from you");
    Server::start(says(plan, "slow@", "450 4.2.0 not now"))
}

/// A world that sends through a server on this port.
fn world(port: u16, recipients: &[&str]) -> World {
    let world = World::new()
        .set("mail.envelope", "bounce+{id}-{token}@bounce.test")
        .set("mail.transport", "smtp")
        .set("mail.smtp.host", "127.0.0.1")
        .set("mail.smtp.port", i64::from(port))
        .set("mail.smtp.tls", "none")
        .set("mail.smtp.connections", 1);
    let cart = |(n, to): (usize, &&str)| Cart::of(&format!("c{n}")).email(to);
    world.carts(recipients.iter().enumerate().map(cart)).init()
}

/// `bounces --json` of the Maildir.
fn bounces(world: &World, maildir: &Path, more: &[&str]) -> serde_json::Value {
    let arguments = ["bounces", "--json", "--maildir", maildir.to_str().unwrap()];
    world.ok(arguments.iter().chain(more)).json()
}

fn suppressed(world: &World) -> Vec<String> {
    let list = world.ok(["suppress", "list", "--json"]).json()["suppressions"].clone();
    let row =
        |row: &serde_json::Value| format!("{} {}", row["address"].as_str().unwrap(), row["origin"].as_str().unwrap());
    list.as_array().unwrap().iter().map(row).collect()
}

/// The classes of all reports about a recipient, in order.
fn classes(world: &World, recipient: &str) -> Vec<String> {
    let sql = format!(
        "SELECT class FROM report JOIN message AS m ON m.id = report.message WHERE m.recipient = '{recipient}' ORDER BY class"
    );
    world.rows(&sql).into_iter().map(|mut row| row.remove("class").flatten().unwrap()).collect()
}

#[test]
fn what_comes_back_is_told_apart_and_the_dead_address_alone_is_taken_off() {
    if !Postfix::can_be_had() {
        return;
    }
    let far = far_servers();
    let postfix = Postfix::start(far.port(), "", "");
    let far_ones = ["dead@far.example", "full@far.example", "blocked@far.example", "slow@far.example"];
    let world = world(postfix.port, &[&far_ones[..], &["ada@example.com", "eve@far.example"]].concat());
    world.ok(["detect"]);
    world.has([("sent", 6)]);
    postfix.wait_for_mails("good", 1);
    // Three at once and a warning, and then what was given up.
    postfix.wait_for_mails("bounce", 4);
    postfix.gives_up();
    postfix.wait_for_mails("bounce", 5);
    postfix.wait_until_gone(11);
    let told = bounces(&world, &postfix.bounces(), &[]);
    assert_eq!(told["by_class"], serde_json::json!({ "hard": 1, "soft": 2, "blocked": 1, "delayed": 1 }), "{told}");
    assert_eq!((&told["unmatched"], &told["unread"], &told["suppressed"]), (&0.into(), &0.into(), &1.into()));
    for (recipient, expected) in far_ones.iter().zip([&["hard"][..], &["soft"], &["blocked"], &["delayed", "soft"]]) {
        assert_eq!(classes(&world, recipient), expected, "{recipient}");
    }
    assert_eq!(suppressed(&world), ["dead@far.example bounce"]);
    world.ok(["suppress", "list"]).says("550 5.1.1");
    let before = world.report_of_ledger();
    let again = bounces(&world, &postfix.bounces(), &["--again"]);
    assert_eq!((&again["read"], &again["known"], &again["suppressed"]), (&5.into(), &5.into(), &0.into()));
    assert_eq!((world.report_of_ledger(), world.number("SELECT count(*) FROM report")), (before, 5));
    // Nothing more for the dead one; the full one may have room by now.
    for (n, to) in ["dead@far.example", "full@far.example"].into_iter().enumerate() {
        world.put(Cart::of(&format!("again-{n}")).email(to).item("Q", "x", 1, "1"));
    }
    world.set_now("2026-03-01T16:00:00Z");
    world.ok(["detect"]);
    world.has([("sent", 7)]);
    world.ok(["audit"]);
}

/// Stands between mailonce and Postfix, and loses what Postfix says to the final dot.
struct Swallowing {
    port: u16,
    /// One for each reply that was swallowed.
    swallowed: Receiver<()>,
}

impl Swallowing {
    /// Before a server, a port; `closes` says whether the connection is closed then, or stays.
    fn before(server: u16, closes: bool) -> Swallowing {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (send, swallowed) = channel();
        thread::spawn(move || {
            for client in listener.incoming() {
                let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                between(client.unwrap(), server, closes, &send);
            }
        });
        Swallowing { port, swallowed }
    }
}

fn between(client: TcpStream, server: TcpStream, closes: bool, send: &Sender<()>) {
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut client, mut is_body, mut replies) = (client, false, BufReader::new(server));
    let mut line = String::new();
    while replies.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        if is_body {
            assert!(line.starts_with("250 "), "{line}");
            let _ = send.send(());
            if !closes {
                // Until the client has gone.
                let _ = replies.read_to_end(&mut Vec::new());
            }
            break;
        }
        is_body = line.starts_with("354");
        let _ = client.write_all(line.as_bytes());
        line.clear();
    }
    let _ = client.shutdown(Shutdown::Both);
}

#[test]
fn a_message_whose_reply_was_lost_is_settled_by_the_report_that_comes_back() {
    if !Postfix::can_be_had() {
        return;
    }
    let far = far_servers();
    let postfix = Postfix::start(far.port(), "", "");
    let swallowing = Swallowing::before(postfix.port, true);
    let world = world(swallowing.port, &["full@far.example"]);
    world.run(["detect"]);
    world.has([("in_doubt", 1)]);
    postfix.wait_for_mails("bounce", 1);
    assert_eq!(bounces(&world, &postfix.bounces(), &[])["settled"], 1);
    is_settled_by_bounces(&world);
    // It is written to no second time.
    world.set_now("2026-03-01T16:00:00Z");
    world.configure("mail.smtp.port", i64::from(postfix.port));
    world.run(["detect"]);
    postfix.wait_until_gone(2);
    assert_eq!(far.reached(Stage::Mail), 1);
    world.ok(["audit"]);
}

#[test]
fn a_message_whose_run_was_killed_at_the_final_dot_is_settled_by_the_report_that_comes_back() {
    if !Postfix::can_be_had() {
        return;
    }
    let far = far_servers();
    let postfix = Postfix::start(far.port(), "", "");
    let swallowing = Swallowing::before(postfix.port, false);
    let world = world(swallowing.port, &["dead@far.example"]);
    let run = world.spawn(["detect"]);
    swallowing.swallowed.recv().unwrap();
    run.kill();
    world.has([("armed", 1)]);
    postfix.wait_for_mails("bounce", 1);
    // No run has been there since: it is taken for one in doubt here, or by the next run.
    bounces(&world, &postfix.bounces(), &[]);
    assert_eq!(suppressed(&world), ["dead@far.example bounce"]);
    world.configure("mail.smtp.port", i64::from(postfix.port));
    world.run(["detect"]);
    bounces(&world, &postfix.bounces(), &[]);
    is_settled_by_bounces(&world);
    postfix.wait_until_gone(2);
    assert_eq!(far.reached(Stage::Mail), 1);
    world.ok(["audit"]);
}

#[track_caller]
fn is_settled_by_bounces(world: &World) {
    world.has([("sent", 1)]);
    let settled = world.rows("SELECT who, decision FROM resolution");
    let of = |column: &str| settled[0][column].as_deref();
    assert_eq!((settled.len(), of("who"), of("decision")), (1, Some("bounces"), Some("sent")));
}

/// Hands the world to `nobody`, as whom Postfix starts what it pipes into; as root it starts nothing.
fn hand_over(path: &Path) {
    let (uid, gid) = ids_of("nobody");
    chown(path, Some(uid), Some(gid)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| hand_over(&entry.unwrap().path()));
    }
}

#[test]
fn through_a_pipe_what_cannot_be_recorded_yet_stays_in_the_queue_and_comes_again() {
    if !Postfix::can_be_had() {
        return;
    }
    let far = far_servers();
    // Its configuration and the program are where any user can reach them.
    let reachable = tempfile::tempdir().unwrap();
    fs::set_permissions(reachable.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = reachable.path().join("mailonce");
    fs::hard_link(env!("CARGO_BIN_EXE_mailonce"), &program)
        .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_mailonce"), &program).map(drop))
        .unwrap();
    let world_link = reachable.path().join("world");
    let service = format!(
        "mailonce unix - n n - - pipe\n  flags=R user=nobody argv={} --config {}/mailonce.toml bounces - --now 2026-03-01T13:00:00Z",
        program.display(),
        world_link.display()
    );
    let settings = "transport_maps = inline:{ bounce.test=mailonce: }\nvirtual_mailbox_domains = example.com\n\
                    relay_domains = bounce.test\ndelay_warning_time = 0";
    let postfix = Postfix::start(far.port(), settings, &service);
    let world = world(postfix.port, &["full@far.example"]);
    std::os::unix::fs::symlink(world.path(""), &world_link).unwrap();
    hand_over(&world.path(""));
    world.ok(["detect"]);
    hand_over(&world.path(""));
    let reports = || world.number("SELECT count(*) FROM report");
    postfix.wait_until_gone(2);
    assert_eq!((postfix.log().matches(DELIVERED).count(), reports()), (1, 1), "{}", postfix.log());
    let message_id = world.message().message_id.unwrap();
    let report = |n: usize| hand_in(postfix.port, "", &complaint(&message_id, n));
    // The ledger is away.
    let (ledger, away) = (world.path("mailonce.db"), world.path("away"));
    fs::rename(&ledger, &away).unwrap();
    report(1);
    postfix.wait_for_log("status=deferred (temporary failure", 1);
    fs::rename(&away, &ledger).unwrap();
    postfix.wait_until_gone(3);
    assert_eq!((postfix.log().matches(DELIVERED).count(), reports()), (2, 2), "{}", postfix.log());
    // Another writes to it for a moment: the command waits. (Postfix throws away what a command of more than 1000 seconds
    // was given; mailonce gives up after 60, with 75.)
    let writer = rusqlite::Connection::open(&ledger).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    report(2);
    wait_until("a command that Postfix has started", || is_running(&program));
    report(3);
    writer.execute_batch("ROLLBACK").unwrap();
    postfix.wait_until_gone(5);
    assert_eq!((postfix.log().matches(DELIVERED).count(), reports()), (4, 4), "{}", postfix.log());
    assert_eq!(postfix.log().matches("status=deferred").count(), 1, "{}", postfix.log());
    assert_eq!(postfix.log().matches("status=bounced").count(), 1, "{}", postfix.log());
    // What is no report is kept for a person, and not sent back.
    hand_in(postfix.port, "eve@far.example", "From: eve@far.example\r\nSubject: hello\r\n\r\nIs anybody there?");
    postfix.wait_until_gone(6);
    assert_eq!((postfix.log().matches(DELIVERED).count(), reports()), (5, 5), "{}", postfix.log());
    assert_eq!(world.number("SELECT count(*) FROM report WHERE message IS NULL AND class = 'unread'"), 1);
    assert_eq!(classes(&world, "full@far.example"), ["complaint", "complaint", "complaint", "soft"]);
    world.ok(["audit"]);
}

/// Whether any process runs this program.
fn is_running(program: &Path) -> bool {
    let processes = fs::read_dir("/proc").unwrap();
    let runs = |process: fs::DirEntry| fs::read_link(process.path().join("exe")).is_ok_and(|exe| exe == program);
    processes.flatten().any(runs)
}

/// What Postfix logs of a mail that the pipe took.
const DELIVERED: &str = "status=sent (delivered via mailonce service";

/// A complaint about a message, in other words each time.
fn complaint(message_id: &str, n: usize) -> String {
    format!(
        "From: staff@far.example\r\nTo: fbl@shop.test\r\nSubject: complaint {n}\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n\
         A complaint.\r\n\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n\
         User-Agent: x\r\n\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {message_id}\r\n\r\n--b--\r\n"
    )
}

/// Hands a mail to Postfix for the mailbox of bounces.
fn hand_in(port: u16, from: &str, mail: &str) {
    let mut server = BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
    for said in [
        "",
        "HELO far.example",
        &format!("MAIL FROM:<{from}>"),
        "RCPT TO:<bounce@bounce.test>",
        "DATA",
        &format!("{mail}\r\n."),
        "QUIT",
    ] {
        if !said.is_empty() {
            server.get_mut().write_all(format!("{said}\r\n").as_bytes()).unwrap();
        }
        let mut reply = String::new();
        server.read_line(&mut reply).unwrap();
        assert!(reply.starts_with(['2', '3']) && reply[3..].starts_with(' '), "{said}: {reply}");
    }
}
