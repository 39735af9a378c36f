//! `[mail.dkim]`: what leaves is signed, and a verifier that is not ours (dkimpy, Debian's python3-dkim) says so.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use toml::Value;

use crate::docs::{blocks, in_repository, page};
use crate::support::{Act, Cart, Plan, Server, Stage, World, definition, header};

const PYTHON: &str = "/usr/bin/python3";

/// Prints a word for each file that it is given: `verified`, or what is wrong.
const VERIFIER: &str = "
import sys
import dkim
import dkim.util
name, record, files = sys.argv[1].encode(), sys.argv[2].encode(), sys.argv[3:]
for file in files:
    with open(file, 'rb') as message:
        verifier = dkim.DKIM(message.read(), minkey=2048)
    try:
        verified = verifier.verify(dnsfunc=lambda asked, timeout=5: record if asked == name else None)
        print('verified' if verified else 'not verified')
    except dkim.DKIMException as problem:
        print(problem)
";

pub fn fixture(name: &str) -> PathBuf {
    in_repository("tests/fixtures/dkim").join(name)
}

/// The record that is published for `test_key.pem`.
fn record() -> String {
    std::fs::read_to_string(fixture("test_record.txt")).unwrap().trim().to_owned()
}

/// Whether there is a verifier; says so where there is none.
pub fn can_be_verified() -> bool {
    let asked = Command::new(PYTHON).args(["-c", "import dkim"]).stderr(Stdio::null()).status();
    let is_there = asked.is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("skipped: no dkimpy here (python3-dkim)");
    }
    is_there
}

/// What the verifier says to each message, where the record is published at `m1._domainkey.shop.example`.
fn verdicts(messages: &[Vec<u8>], record: &str) -> Vec<String> {
    let folder = crate::support::folder();
    let mut verifier = Command::new(PYTHON);
    verifier.args(["-c", VERIFIER, "m1._domainkey.shop.example.", record]);
    for (n, message) in messages.iter().enumerate() {
        let file = folder.path().join(n.to_string());
        std::fs::write(&file, message).unwrap();
        verifier.arg(file);
    }
    let ended = verifier.output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let verdicts: Vec<String> = String::from_utf8(ended.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(verdicts.len(), messages.len(), "{verdicts:?}");
    verdicts
}

/// A key of the fixtures, as `dkim.pem` of a world.
pub fn put_key(world: &World, name: &str, mode: u32) {
    let file = world.path("dkim.pem");
    let _ = std::fs::remove_file(&file);
    std::fs::copy(fixture(name), &file).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
}

/// Signs as m1 of shop.example.
pub fn signing(world: World, key: &str) -> World {
    put_key(&world, key, 0o600);
    let world = world.set("mail.dkim.domain", "shop.example").set("mail.dkim.selector", "m1");
    world.set("mail.dkim.key_file", "dkim.pem")
}

/// The bytes of all messages in the outbox.
fn written(world: &World) -> Vec<Vec<u8>> {
    world.outbox().into_iter().map(|(_, bytes)| bytes).collect()
}

/// The message with a text in place of another, which must be there.
#[track_caller]
pub fn changed(message: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(message).unwrap();
    assert!(text.contains(from), "no {from:?} in {text}");
    text.replacen(from, to, 1).into_bytes()
}

#[test]
fn what_is_written_verifies_with_a_key_in_either_form() {
    let can_be_verified = can_be_verified();
    for key in ["test_key.pem", "test_key.pkcs1.pem"] {
        let world = signing(World::new(), key).set("mail.unsubscribe", "https://shop.example/u?t={token}");
        // A long cart, words beyond ASCII, dots at the beginning of lines, blanks at the end.
        let names = ["Lámpara  verde ", ".", "..\u{1f6d2}", "日本語の名前"];
        let full = names.iter().fold(Cart::of("c2"), |cart, name| cart.item(name, name, 2, "19.90"));
        let world = world.cart(Cart::of("c1")).cart(full.name("Jörg \"Ö\" Müller, Ünal ".repeat(4).trim())).init();
        let world = world.set("detect.subject", "Für {{ name }}: ✓ noch da, und das in einem langen Betreff");
        world.ok(["detect"]).is_silent();
        let messages = written(&world);
        assert_eq!(messages.len(), 2);
        for message in &messages {
            let text = String::from_utf8_lossy(message);
            assert!(
                text.starts_with("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=shop.example; s=m1;\r\n")
            );
            let signature = header(message, "DKIM-Signature").unwrap();
            // The Date header's instant: noon of that day.
            assert!(signature.contains("t=1772366400;"), "{signature}");
            assert_eq!(header(message, "Date").as_deref(), Some("Sun, 01 Mar 2026 12:00:00 +0000"));
        }
        if can_be_verified {
            assert_eq!(verdicts(&messages, &record()), ["verified", "verified"], "{key}");
        }
    }
}

#[test]
fn what_is_added_or_changed_on_the_way_does_not_verify() {
    if !can_be_verified() {
        return;
    }
    let world = signing(World::new(), "test_key.pem").cart(Cart::of("c1"));
    let world = world.set("mail.unsubscribe", Value::from(vec!["https://shop.example/u", "mailto:u@shop.example"]));
    let world = world.set("mail.feedback_sender", "shopexample").init();
    world.ok(["detect"]);
    let [message] = written(&world).try_into().unwrap();
    let first = |line: &str| changed(&message, "\r\nDate: ", &format!("\r\n{line}\r\nDate: "));
    let last = |line: &str| changed(&message, "\r\n\r\n", &format!("\r\n{line}\r\n\r\n"));
    let broken = [
        first("Subject: You have won"),
        last("Subject: You have won"),
        first("From: Other <other@shop.example>"),
        first("To: everyone@example.com"),
        first("Date: Mon, 02 Mar 2026 12:00:00 +0000"),
        first("List-Unsubscribe: <https://other.example/>"),
        last("List-Unsubscribe: <https://other.example/>"),
        first("List-Unsubscribe-Post: List-Unsubscribe=One-Click"),
        first("List-Id: <other.shop.example>"),
        first("Reply-To: other@other.example"),
        first("Feedback-ID: other"),
        first("Content-Type: text/plain"),
        changed(&message, "<https://shop.example/u>", "<https://shop.example/v>"),
        changed(&message, "Subject: You", "Subject: Your"),
        changed(&message, "::shopexample", "::othershop"),
        changed(&message, "List-Id: ", "List-Id: x"),
        changed(&message, "Lamp", "Lump"),
        [&message[..], b"P.S.\r\n"].concat(),
    ];
    let verdicts_of_broken = verdicts(&broken, &record());
    let taken_for_sound: Vec<_> = broken
        .iter()
        .zip(&verdicts_of_broken)
        .filter(|(_, verdict)| *verdict == "verified")
        .map(|(message, _)| String::from_utf8_lossy(message))
        .collect();
    assert_eq!(taken_for_sound, [""; 0]);
    let sound = [
        message.clone(),
        [b"Received: from a by b; Sun, 01 Mar 2026 12:00:01 +0000\r\n", &message[..]].concat(),
        first("X-Spam: no"),
        changed(&message, "Subject: You left something", "subject:  You left\r\n  something"),
        [&message[..], b"\r\n\r\n"].concat(),
    ];
    assert_eq!(verdicts(&sound, &record()), ["verified"; 5]);
}

#[test]
fn an_address_beyond_ascii_is_signed_as_it_stands() {
    let server = Server::start(Plan::accepting());
    let world = signing(World::new().smtp(&server), "test_key.pem");
    let world = world.cart(Cart::of("c1").email("jörg@bücher.example").name("Jörg")).init();
    world.ok(["detect"]);
    let accepted = server.accepted();
    assert!(accepted[0].text().contains("jörg@xn--bcher-kva.example"), "{}", accepted[0].text());
    if can_be_verified() {
        assert_eq!(verdicts(&[accepted[0].bytes.clone()], &record()), ["verified"]);
    }
}

#[test]
fn a_second_attempt_is_the_same_bytes() {
    // It has the body, and says no.
    let server = Server::start(Plan::accepting().nth(Stage::Taken, 1, Act::Reply("451 4.3.0 later")));
    let world = signing(World::new().smtp(&server), "test_key.pem").cart(Cart::of("c1")).init();
    world.ok(["detect"]);
    world.has([("planned", 1)]);
    world.set_now("2026-03-01T12:02:00Z");
    world.ok(["detect"]);
    world.has([("sent", 1)]);
    let [first, second] = server.accepted().try_into().unwrap();
    assert!(first.header("DKIM-Signature").is_some());
    assert_eq!(first.text(), second.text());
    if can_be_verified() {
        assert_eq!(verdicts(&[second.bytes], &record()), ["verified"]);
    }
}

#[test]
fn a_campaign_is_signed_as_configured_whoever_sends_it() {
    let world = World::with_campaigns(
        &[
            definition("ours", "at = \"2026-03-01 12:00\""),
            definition("theirs", "at = \"2026-03-01 12:00\"\nfrom = \"Partner <hello@partner.example>\""),
        ]
        .concat(),
    );
    let world = signing(world, "test_key.pem").init();
    world.campaigns_at("2026-03-01T12:00:00Z", 0);
    let messages = written(&world);
    let mut senders: Vec<String> = messages.iter().filter_map(|message| header(message, "From")).collect();
    senders.sort();
    assert_eq!(senders, ["\"Example Shop\" <hello@shop.example>", "Partner <hello@partner.example>"]);
    if can_be_verified() {
        assert_eq!(verdicts(&messages, &record()), ["verified", "verified"]);
    }
}

#[test]
fn without_the_table_nothing_is_signed() {
    let world = World::new().cart(Cart::of("c1")).init();
    world.ok(["detect"]);
    assert_eq!(header(&written(&world)[0], "DKIM-Signature"), None);
}

/// `detect` with this configuration must end with 78, say all of these words, and sign and send nothing.
#[track_caller]
fn refused(world: &World, words: &[&str]) {
    let ran = world.exits(78, ["detect"]);
    for word in words {
        assert!(ran.stderr.contains(word), "no word of {word:?} in\n{ran}");
    }
    assert!(ran.stderr.contains("\n next: ") && !ran.stderr.contains("MII"), "{ran}");
    assert_eq!(written(world).len(), 0);
}

#[test]
fn a_domain_that_does_not_vouch_for_the_sender_is_refused() {
    let world = signing(World::new(), "test_key.pem").cart(Cart::of("c1")).init();
    for (domain, words) in [
        ("other.example", ["mail.dkim.domain", "other.example", "hello@shop.example"]),
        // Below it, and the same letters at the end.
        ("news.shop.example", ["mail.dkim.domain", "news.shop.example", "hello@shop.example"]),
        ("op.example", ["mail.dkim.domain", "op.example", "hello@shop.example"]),
        ("example", ["mail.dkim.domain", "\"example\" is no domain", "shop.example"]),
        ("shop.example; x=1", ["mail.dkim.domain", "is no domain", "shop.example"]),
    ] {
        world.configure("mail.dkim.domain", domain);
        refused(&world, &words);
    }
    world.configure("mail.dkim.domain", "Shop.Example");
    for selector in ["", "m1;", "m 1", "-m", "m1."] {
        world.configure("mail.dkim.selector", selector);
        refused(&world, &["mail.dkim.selector", "is no selector"]);
    }
    world.configure("mail.dkim.selector", "s1.m_1");
    world.configure("mail.from", "Example Shop <hello@news.shop.example>");
    world.ok(["detect"]);
    let signature = header(&written(&world)[0], "DKIM-Signature").unwrap();
    assert!(signature.contains(" d=shop.example; s=s1.m_1;"), "{signature}");
    let world = world.unset("mail.dkim.selector");
    world.exits(78, ["detect"]).says("mail.dkim.selector is missing");
}

#[test]
fn a_key_that_cannot_sign_is_refused_with_what_it_is() {
    let world = signing(World::new(), "test_key.pem").cart(Cart::of("c1")).init();
    for (file, word) in [
        ("test_key.1024.pem", "less than 2048 bits"),
        ("test_key.ec.pem", "elliptic-curve"),
        ("test_key.ed25519.pem", "Ed25519"),
        ("test_key.encrypted.pem", "encrypted"),
        ("test_certificate.pem", "a certificate"),
        ("test_key.broken.pem", "do not belong together"),
    ] {
        put_key(&world, file, 0o600);
        refused(&world, &["mail.dkim.key_file", "dkim.pem", word]);
    }
    for mode in [0o644, 0o640, 0o604] {
        put_key(&world, "test_key.pem", mode);
        refused(&world, &["mail.dkim.key_file", "can be read by others", &format!("mode {mode:04o}"), "chmod 600"]);
    }
    std::fs::remove_file(world.path("dkim.pem")).unwrap();
    refused(&world, &["mail.dkim.key_file", "No such file", "openssl genpkey"]);
}

#[test]
fn the_commands_of_the_page_make_a_key_and_its_record() {
    let has_openssl = Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok();
    if !has_openssl {
        eprintln!("skipped: no openssl here");
        return;
    }
    let configuration = page("docs/configuration.md");
    let block = blocks(&configuration).into_iter().find(|block| block.text.contains("openssl genpkey"));
    let world = World::new();
    let run =
        Command::new("sh").args(["-euc", &block.expect("the commands").text]).current_dir(world.path("")).output();
    let ran = run.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said = String::from_utf8(ran.stdout).unwrap();
    let record = said.trim_end();
    assert!(record.starts_with("v=DKIM1; k=rsa; p=MII") && record.lines().count() == 1, "{record}");
    let world = world.set("mail.dkim.domain", "shop.example").set("mail.dkim.selector", "m1");
    let world = world.set("mail.dkim.key_file", "dkim.pem").cart(Cart::of("c1")).init();
    world.ok(["detect"]);
    if can_be_verified() {
        assert_eq!(verdicts(&written(&world), record), ["verified"]);
    }
}
