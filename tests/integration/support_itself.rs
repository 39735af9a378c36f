//! The support does what it says; nothing here runs the binary.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Certificate, SmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;

use crate::support::smtp::{FLOOD, On};
use crate::support::{Act, Cart, Kind, Plan, Server, Spelling, Stage, World};

const MESSAGE: &str = "Message-ID: <1@shop.example>\r\nSubject: hi\r\n\r\n..a line\r\n.\r\n";

/// A client that says one line and hears one reply.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(server: &Server) -> Client {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    fn write(&mut self, text: &str) {
        // A connection torn down shows when the reply is read.
        let _ = self.stream.get_mut().write_all(text.as_bytes());
    }

    /// One line without its CRLF, `(closed)` or `(reset)`.
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(0) => "(closed)".into(),
            Ok(_) => String::from_utf8_lossy(&line).trim_end().to_owned(),
            Err(err) if err.kind() == ErrorKind::ConnectionReset => "(reset)".into(),
            Err(err) => panic!("no reply: {err}"),
        }
    }

    /// The last line of one reply.
    fn reply(&mut self) -> String {
        loop {
            let line = self.line();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    fn say(&mut self, line: &str) -> String {
        self.write(&format!("{line}\r\n"));
        self.reply()
    }

    /// Up to and with this step, each of which is answered as it should be.
    fn up_to(&mut self, step: usize) {
        for (said, code) in DIALOGUE.iter().take(step) {
            self.write(said);
            let reply = self.reply();
            assert!(reply.starts_with(code), "{reply} to {said:?}");
        }
    }
}

const DIALOGUE: [(&str, &str); 7] = [
    ("", "220"),
    ("EHLO client.test\r\n", "250"),
    ("MAIL FROM:<hello@shop.example>\r\n", "250"),
    ("RCPT TO:<ada@example.com>\r\n", "250"),
    ("DATA\r\n", "354"),
    (MESSAGE, "250"),
    ("QUIT\r\n", "221"),
];

const STAGES: [(Stage, usize); 9] = [
    (Stage::Banner, 0),
    (Stage::Ehlo, 1),
    (Stage::Mail, 2),
    (Stage::Rcpt, 3),
    (Stage::Data, 4),
    (Stage::Dot, 5),
    (Stage::Taken, 5),
    (Stage::AfterDot, 6),
    (Stage::Quit, 6),
];

#[test]
fn each_act_at_each_stage_does_what_it_says() {
    for (stage, step) in STAGES {
        let right = DIALOGUE[step].1;
        let wrong = if matches!(right, "354" | "221") { "250 2.0.0 out of step" } else { "354 out of step" };
        let acts = [
            (Act::Reply("451 4.3.0 try later"), "451 4.3.0 try later"),
            (Act::Code(421), "421 4.0.0 as ordered"),
            (Act::Close, "(closed)"),
            (Act::Reset, "(reset)"),
            (Act::Garbage, "\0\u{fffd}\u{fffd} this is no reply"),
            (Act::WrongCode, wrong),
            (Act::StrayBefore("250 stray"), "250 stray"),
            (Act::StrayAfter("250 stray"), right),
            (Act::SplitReply, right),
            (Act::Bytes(b"250-\xb2\xbb\n250\n"), "250"),
            (Act::HalfThenClose(b"250-half"), "(closed)"),
            (Act::SayAndClose("451 4.3.0 and goes"), "451 4.3.0 and goes"),
            (Act::Bare, right),
            (Act::Latin1, right),
            (Act::LineFeeds, right),
        ];
        for (act, expected) in acts {
            let server = Server::start(Plan::accepting().at(stage, act));
            let mut client = Client::connect(&server);
            client.up_to(step);
            client.write(DIALOGUE[step].0);
            let stray_is_ignored = stage == Stage::AfterDot;
            match act {
                Act::StrayBefore(_) if !stray_is_ignored => assert_eq!(client.line(), expected, "{stage:?} {act:?}"),
                Act::StrayBefore(_) => (),
                _ => {
                    let reply = client.reply();
                    assert!(reply.starts_with(expected), "{stage:?} {act:?}: {reply:?}");
                }
            }
            match act {
                Act::StrayBefore(_) => assert!(client.reply().starts_with(right), "{stage:?} {act:?}"),
                Act::StrayAfter(_) if !stray_is_ignored => assert_eq!(client.line(), "250 stray", "{stage:?} {act:?}"),
                _ => (),
            }
            match act {
                Act::SayAndClose(_) => assert_eq!(client.line(), "(closed)", "{stage:?}"),
                Act::Bytes(octets) => {
                    assert!(server.transcript().contains(&octets.escape_ascii().to_string()), "{stage:?}");
                }
                _ => (),
            }
            let kept = matches!(act, Act::StrayBefore(_) | Act::StrayAfter(_) | Act::SplitReply)
                || matches!(act, Act::Bytes(_) | Act::Bare | Act::Latin1 | Act::LineFeeds);
            let accepted = match stage {
                Stage::Dot => kept,
                Stage::Taken | Stage::AfterDot | Stage::Quit => true,
                _ => false,
            };
            assert_eq!(server.accepted().len(), usize::from(accepted), "{stage:?} {act:?}");
            assert_eq!(server.violations(), [""; 0]);
        }
    }
}

#[test]
fn a_reply_to_the_letter_is_just_that() {
    let raw = |act: Act| {
        let server = Server::start(Plan::accepting().at(Stage::Mail, act));
        let mut client = Client::connect(&server);
        client.up_to(2);
        client.write("MAIL FROM:<>\r\n");
        let mut line = Vec::new();
        client.stream.read_until(b'\n', &mut line).unwrap();
        line
    };
    assert_eq!(raw(Act::Bytes(b"250 \xd3\xca\n")), b"250 \xd3\xca\n");
    assert_eq!(raw(Act::HalfThenClose(b"25")), b"25");
    assert_eq!(raw(Act::Bare), b"250\r\n");
    assert_eq!(raw(Act::Latin1), b"250 2.1.0 ok \xfcbernommen\r\n");
    assert_eq!(raw(Act::LineFeeds), b"250 2.1.0 ok\n");
    assert_eq!(raw(Act::EndlessReply), b"250-and more\r\n");
    assert_eq!(raw(Act::Trickle), b"250-and more\r\n");
}

#[test]
fn a_flood_ends_with_its_reader_and_is_bounded_without_it() {
    let server = Server::start(Plan::accepting().at(Stage::Banner, Act::EndlessLine));
    let mut client = Client::connect(&server);
    let mut heard = [0; 4096];
    client.stream.read_exact(&mut heard).unwrap();
    assert!(heard.starts_with(b"220 AAA") && !heard.contains(&b'\n'));
    drop(client);
    server.wait_for_silence();
    assert!(server.transcript().contains("cut short"));

    let mut client = Client::connect(&server);
    let mut all = Vec::new();
    client.stream.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), FLOOD + "220 ".len());
    assert!(server.transcript().contains("heard to the end"));
}

#[test]
fn a_stray_line_of_any_class_comes_while_the_body_is_on_its_way() {
    for stray in ["250 stray", "354 stray", "421 stray", "451 stray", "554 stray", "no reply"] {
        let server = Server::start(Plan::accepting().at(Stage::Body, Act::Reply(stray)));
        let mut client = Client::connect(&server);
        client.up_to(5);
        client.write("Subject: hi\r\n\r\nhalf");
        assert_eq!(client.line(), stray);
        client.write(" and half\r\n.\r\n");
        assert_eq!(client.line(), "250 2.0.0 queued");
        assert_eq!(server.accepted().len(), 1);
    }
}

#[test]
fn an_interjection_comes_at_any_time() {
    let server = Server::start(Plan::accepting());
    let mut client = Client::connect(&server);
    client.up_to(2);
    server.interject("421 4.3.2 going down");
    assert_eq!(client.line(), "421 4.3.2 going down");
    assert!(client.say("MAIL FROM:<>").starts_with("250"));
}

#[test]
fn a_message_is_recorded_before_its_250() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("accepted");
    let server = Server::start(Plan::accepting().at(Stage::Taken, Act::Hang).record(&record));
    let mut client = Client::connect(&server);
    client.up_to(5);
    client.write(MESSAGE);
    server.wait_for(Stage::Taken, 1);
    let accepted = server.accepted();
    assert_eq!(accepted[0].to, ["ada@example.com"]);
    assert_eq!(accepted[0].message_id, "<1@shop.example>");
    assert!(accepted[0].bytes.ends_with(b"\r\n\r\n.a line\r\n"), "the stuffed dot stayed");
    let recorded = std::fs::read_to_string(&record).unwrap();
    assert!(recorded.contains("<1@shop.example>") && recorded.ends_with('\n'));
    server.release();
    assert!(client.reply().starts_with("250"));
}

#[test]
fn a_hanging_server_notices_that_its_peer_is_gone() {
    for stage in [Stage::Connect, Stage::Banner, Stage::Rcpt, Stage::Body, Stage::Dot] {
        let server = Server::start(Plan::accepting().at(stage, Act::Hang).body_after(10));
        let mut client = Client::connect(&server);
        match stage {
            Stage::Rcpt => {
                client.up_to(3);
                client.write("RCPT TO:<ada@example.com>\r\n");
            }
            Stage::Body => {
                client.up_to(5);
                client.write("Subject: half a mess");
            }
            Stage::Dot => {
                client.up_to(5);
                client.write(MESSAGE);
            }
            _ => (),
        }
        server.wait_for(stage, 1);
        drop(client);
        server.wait_for_silence();
        assert!(server.accepted().is_empty());
        assert_eq!(server.most_at_once(), 1);
    }
}

#[test]
fn a_fault_can_be_for_one_arrival_or_one_domain() {
    let plan = Plan::accepting().fault(Stage::Mail, On::First(1), Act::Code(451)).for_recipient(
        "@slow.example",
        Stage::Rcpt,
        Act::Reply("450 4.2.1 slow down"),
    );
    let server = Server::start(plan);
    let mut client = Client::connect(&server);
    client.up_to(2);
    assert!(client.say("MAIL FROM:<>").starts_with("451"));
    assert!(client.say("MAIL FROM:<>").starts_with("250"));
    assert!(client.say("RCPT TO:<bob@slow.example>").starts_with("450"));
    assert!(client.say("DATA").starts_with("503"));
    assert!(client.say("RCPT TO:<bob@fast.example>").starts_with("250"));
    assert!(client.say("DATA").starts_with("354"));
    assert!(client.say("x: y\r\n\r\nz\r\n.").starts_with("250"));
    assert_eq!(server.recipients(), ["bob@fast.example"]);
}

#[test]
fn a_client_that_talks_out_of_turn_is_noticed() {
    let server = Server::start(Plan::accepting().without_pipelining());
    let mut client = Client::connect(&server);
    client.up_to(2);
    client.write("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\na: b\r\n\r\nbare\nline\r\n.\r\n");
    for code in ["250", "250", "354", "250"] {
        assert!(client.reply().starts_with(code));
    }
    let violations = server.violations().join("\n");
    for what in ["without PIPELINING", "bytes after DATA", "bare line feed"] {
        assert!(violations.contains(what), "{what}: {violations}");
    }
}

#[test]
fn tls_and_auth_work_and_an_unknown_authority_is_refused() {
    let hello = ClientId::Domain("client.test".into());
    let timeout = Some(Duration::from_secs(20));
    let trusting = |server: &Server| {
        let ca = std::fs::read(server.ca_file().unwrap()).unwrap();
        let parameters = TlsParameters::builder("127.0.0.1".into());
        parameters.add_root_certificate(Certificate::from_pem(&ca).unwrap()).build_rustls().unwrap()
    };
    let account = Credentials::new("hello".into(), "secret".into());
    let plan = Plan::accepting().auth("hello", "secret");

    let server = Server::start(plan.clone().implicit_tls());
    let tls = trusting(&server);
    let mut client = SmtpConnection::connect(server.address(), timeout, &hello, Some(&tls), None).unwrap();
    assert!(client.auth(&[Mechanism::Plain], &account).unwrap().is_positive());
    assert!(client.quit().unwrap().is_positive());
    let unknown = TlsParameters::new_rustls("127.0.0.1".into()).unwrap();
    assert!(SmtpConnection::connect(server.address(), timeout, &hello, Some(&unknown), None).is_err());

    let server = Server::start(plan.starttls());
    let mut client = SmtpConnection::connect(server.address(), timeout, &hello, None, None).unwrap();
    client.starttls(&trusting(&server), &hello).unwrap();
    assert!(client.auth(&[Mechanism::Login], &Credentials::new("hello".into(), "wrong".into())).is_err());
    let mut client = SmtpConnection::connect(server.address(), timeout, &hello, None, None).unwrap();
    client.starttls(&trusting(&server), &hello).unwrap();
    assert!(client.auth(&[Mechanism::Login], &account).unwrap().is_positive());
    let to = lettre::address::Envelope::new(None, vec!["ada@example.com".parse().unwrap()]).unwrap();
    assert!(client.send(&to, b"Subject: hi\r\n\r\nhi\r\n").unwrap().is_positive());
    assert_eq!(server.recipients(), ["ada@example.com"]);

    let server = Server::start(Plan::accepting().implicit_tls().certificate_for("other.example"));
    let tls = trusting(&server);
    assert!(SmtpConnection::connect(server.address(), timeout, &hello, Some(&tls), None).is_err());
}

#[test]
fn every_kind_of_shop_holds_the_same_carts() {
    let world = World::new().spelling(Spelling::Space).cart(
        Cart::of("c1")
            .user("u1")
            .email("ada@example.com")
            .created("2026-03-01T07:00:00Z")
            .item("A-1", "Lamp, \"tall\"", 2, "19.90")
            .item("B-2", "Bulb", 1, "1.00"),
    );
    world.put(Cart::of("c2").empty());
    world.order("c1", "2026-03-01T09:00:00Z");
    world.order_by("bob@example.com", "2026-03-01T09:00:00Z");
    let shop = rusqlite::Connection::open(world.shop()).unwrap();
    let count = |sql| shop.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM carts WHERE updated_at = '2026-03-01 08:00:00'"), 2);
    assert_eq!(count("SELECT sum(quantity) FROM cart_items WHERE cart_id = 'c1'"), 3);
    assert_eq!(count("SELECT count(*) FROM orders"), 2);

    let world = world.source(Kind::JsonLines);
    let lines = std::fs::read_to_string(world.shop()).unwrap();
    let carts: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(carts[0]["ordered_at"], "2026-03-01 09:00:00");
    assert_eq!(carts[0]["items"][0]["quantity"], 2);
    assert_eq!(carts[1]["items"], serde_json::json!([]));

    let world = world.source(Kind::Csv);
    world.remove("c2");
    let mut rows = csv::Reader::from_path(world.shop()).unwrap();
    assert_eq!(rows.headers().unwrap().len(), 16);
    let skus: Vec<String> = rows.records().map(|row| row.unwrap()[10].to_owned()).collect();
    assert_eq!(skus, ["A-1", "B-2"]);
}

#[test]
fn the_configuration_is_merged_key_by_key() {
    let server = Server::start(Plan::accepting().starttls());
    let world = World::new().set("mail.smtp.timeout", "1s").smtp(&server).set("detect.max_per_run", 5);
    let world = world.unset("detect.since");
    let config: toml::Table = std::fs::read_to_string(world.path("mailonce.toml")).unwrap().parse().unwrap();
    assert_eq!(config["detect"].to_string().trim(), "{ max_per_run = 5 }");
    assert_eq!(config["mail"]["smtp"]["timeout"].as_str(), Some("1s"));
    assert_eq!(config["mail"]["smtp"]["tls"].as_str(), Some("starttls"));
    assert_eq!(config["mail"]["transport"].as_str(), Some("smtp"));
}
