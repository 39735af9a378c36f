//! `doctor --received`: a mail as it arrived, with what servers on the way make of it.

use std::fs::File;
use std::process::{Command, Stdio};

use toml::Value;

use crate::dkim::{can_be_verified, changed, fixture, signing};
use crate::support::{Cart, Ran, World, header};

/// Signed here, with a page and a mailbox.
fn world() -> World {
    let links =
        Value::from(vec!["https://shop.example/u?t={unsubscribe}", "mailto:u@shop.example?subject={unsubscribe}"]);
    let world = World::new().set("mail.unsubscribe", links).set("mail.feedback_sender", "shopexample");
    let world =
        signing(world.cart(Cart::of("c1").email("ada@example.com").item("A", "From lamps", 1, "5.00")), "test_key.pem");
    world.init()
}

/// The message that it writes.
fn message(world: &World) -> Vec<u8> {
    world.ok(["detect"]);
    let [(_, message)] = world.outbox().try_into().unwrap();
    message
}

const PASSED: &str = "Authentication-Results: mx.provider.example;\r\n spf=pass (a; b) smtp.mailfrom=shop.example;\r\n \
                      dkim=pass header.d=shop.example;\r\n dmarc=pass (p=NONE) header.from=shop.example\r\n";

/// As the provider has it, with a line in front for each of its own.
fn arrived(message: &[u8]) -> Vec<u8> {
    [b"Delivered-To: ada@example.com\r\n", PASSED.as_bytes(), message].concat()
}

/// With a header taken out of h=.
fn unsigned(mail: &[u8], name: &str) -> Vec<u8> {
    let text = std::str::from_utf8(mail).unwrap();
    assert!(text.contains(&format!(":{name}")), "{text}");
    text.replace(&format!(":{name}"), "").into_bytes()
}

fn look(world: &World, mail: &[u8]) -> Ran {
    std::fs::write(world.path("arrived.eml"), mail).unwrap();
    let prose = world.run(["doctor", "--received", "arrived.eml"]);
    let ran = world.run(["doctor", "--received", "arrived.eml", "--json"]);
    let json = ran.json();
    assert_eq!(prose.code, ran.code);
    assert_eq!(ran.code, i32::from(json["failed"] != 0), "{ran}");
    assert!(!prose.output().contains("ada@") && !ran.output().contains("ada@"), "an address is told:\n{prose}");
    assert!(!prose.output().contains("bulk senders"), "{prose}");
    ran
}

/// The findings of these levels, each as `level what`.
fn found(ran: &Ran, levels: &[&str]) -> Vec<String> {
    let json = ran.json();
    let all = json["findings"].as_array().unwrap().iter();
    let of_level = all.filter(|finding| levels.contains(&finding["level"].as_str().unwrap()));
    let line = |finding: &serde_json::Value| {
        assert_eq!(finding["level"] == "ok", finding["remedy"].is_null(), "{finding}");
        format!("{} {}", finding["level"].as_str().unwrap(), finding["what"].as_str().unwrap())
    };
    of_level.map(line).collect()
}

fn bad(ran: &Ran) -> Vec<String> {
    found(ran, &["warn", "fail"])
}

#[track_caller]
fn finds(world: &World, mail: &[u8], level: &str, what: &str) {
    let ran = look(world, mail);
    let found = found(&ran, &["ok", "warn", "fail"]);
    assert!(found.iter().any(|line| line.starts_with(level) && line.contains(what)), "{level} {what:?} in {found:#?}");
}

#[test]
fn a_message_of_mailonce_passes_in_whatever_form_its_copy_is() {
    let world = world();
    let mail = arrived(&message(&world));
    let lf = String::from_utf8(mail.clone()).unwrap().replace("\r\n", "\n");
    assert!(lf.contains("\nFrom lamps") || lf.contains("From lamps"), "{lf}");
    let mbox = format!("From ada@example.com Sun Mar  1 12:00:00 2026\n{}\n", lf.replace("\nFrom ", "\n>From "));
    for copy in [&mail[..], lf.as_bytes(), mbox.as_bytes()] {
        let ran = look(&world, copy);
        assert_eq!(bad(&ran), [""; 0], "{ran}");
        let said = found(&ran, &["ok"]);
        for what in [
            "one From, of shop.example",
            "d=shop.example, s=m1, a=rsa-sha256: counts for From",
            "every header that matters is signed, and no second From or Subject can be added",
            "the body arrived as it was signed",
            "mx.provider.example says spf=pass",
            "mx.provider.example says dkim=pass of shop.example",
            "mx.provider.example says dmarc=pass",
            "one click: a page by https",
            "a mailbox to write to",
            "Message-ID is the one that mailonce wrote",
            "Feedback-ID has a form",
            "List-Id says",
        ] {
            assert!(said.iter().any(|line| line.contains(what)), "{what:?} in {said:#?}");
        }
    }
    // From stdin, and where there is no configuration.
    let mut command = world.command(["doctor", "--received", "-"]);
    std::fs::write(world.path("arrived.eml"), &lf).unwrap();
    command.stdin(File::open(world.path("arrived.eml")).unwrap());
    let ended = command.output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
    std::fs::remove_file(world.path("mailonce.toml")).unwrap();
    std::fs::remove_file(world.ledger_file()).unwrap();
    let ran = look(&world, &mail);
    assert_eq!(bad(&ran), [""; 0]);
    ran.says("not read, and hardly needed");
}

#[test]
fn each_thing_that_goes_wrong_on_the_way_is_named() {
    let world = world();
    let mail = arrived(&message(&world));
    let first = |line: &str| [line.as_bytes(), b"\r\n", &mail].concat();
    let id = header(&mail, "Message-ID").unwrap();
    let feedback = header(&mail, "Feedback-ID").unwrap();
    let token =
        header(&mail, "List-Unsubscribe").unwrap().split("?t=").nth(1).unwrap().split('>').next().unwrap().to_owned();
    let unverified = changed(&mail, "dkim=pass header.d=shop.example", "dkim=temperror");
    for (mail, level, what) in [
        (unsigned(&mail, "List-Unsubscribe-Post"), "fail", "not signed: List-Unsubscribe-Post; so no mail"),
        (unsigned(&mail, "Feedback-ID"), "warn", "not signed: Feedback-ID"),
        (changed(&mail, ":Subject", ""), "ok", "a second Subject could be added"),
        (
            changed(&mail, "d=shop.example; s=", "d=relay.example; s="),
            "fail",
            "d=relay.example, s=m1, a=rsa-sha256: counts for nothing",
        ),
        (changed(&mail, "d=shop.example; s=", "d=mail.shop.example; s="), "ok", "counts for From"),
        (changed(&mail, "a=rsa-sha256", "a=rsa-sha1"), "fail", "a=rsa-sha1 counts for nothing"),
        (changed(&mail, "a=rsa-sha256", "a=ed25519-sha256"), "warn", "few receivers verify Ed25519"),
        (changed(&mail, "v=1; ", "v=1; l=0; "), "warn", "l=0: anyone can add"),
        (changed(&mail, "c=relaxed/relaxed", "c=simple/relaxed"), "warn", "c=simple"),
        (changed(&mail, "v=1; ", "v=2; "), "fail", "is of another version than v=1"),
        (changed(&mail, "DKIM-Signature: ", "X-Was: "), "fail", "there is no DKIM-Signature"),
        ([&unverified[..], b"-- \r\na footer\r\n"].concat(), "fail", "the body is another than the signed one"),
        ([&mail[..], b"-- \r\na footer\r\n"].concat(), "warn", "and the receiver verified it: this copy was changed"),
        (first("From: Other <other@shop.example>"), "fail", "2 fields From"),
        (changed(&mail, "\r\nFrom: ", "\r\nX-From: "), "fail", "there is no From"),
        (first("Subject: x"), "fail", "2 fields Subject"),
        (changed(&mail, "\r\nDate: ", "\r\nX-Date: "), "fail", "there is no Date"),
        (changed(&mail, &id, "<0100019-ab-000000@eu-west-1.amazonses.com>"), "warn", "Message-ID is another"),
        (changed(&mail, "\r\nMessage-ID: ", "\r\nX-Id: "), "fail", "there is no Message-ID"),
        (changed(&mail, "\r\nList-Unsubscribe-Post: ", "\r\nX-Post: "), "fail", "but no List-Unsubscribe-Post"),
        (changed(&mail, "List-Unsubscribe=One-Click", "One-Click"), "fail", "is not List-Unsubscribe=One-Click"),
        (changed(&mail, "\r\nList-Unsubscribe: ", "\r\nX-List: "), "warn", "there is no List-Unsubscribe"),
        (first("List-Unsubscribe: <https://x.example>"), "fail", "2 fields List-Unsubscribe"),
        (changed(&mail, "<https://", "<http://"), "warn", "no page by https"),
        (changed(&mail, "<mailto:", "<x-other:"), "warn", "no mailbox to write to"),
        (changed(&mail, &format!("?t={token}"), "?t=ADA%40example.com"), "warn", "holds the recipient's address"),
        (changed(&mail, &feedback, "a:b:c:d:shopexample"), "warn", "(parts: 5; characters of the last: 11)"),
        (changed(&mail, &feedback, "a:b:c:shop"), "warn", "(parts: 4; characters of the last: 4)"),
        (first("Feedback-ID: a:b:c:relays"), "warn", "2 fields Feedback-ID"),
        (changed(&mail, "\r\nList-Id: ", "\r\nX-List: "), "warn", "no List-Id"),
        (first(&format!("X-Long: {}", "x".repeat(1_000))), "warn", "a line of 1008 octets"),
    ] {
        finds(&world, &mail, level, what);
    }
    // The remedy of a signer that leaves headers out is a line to be pasted.
    let ran = look(&world, &unsigned(&mail, "List-Unsubscribe-Post"));
    ran.says("`SignHeaders *,+List-Unsubscribe-Post`").says("OversignHeaders From,Subject").says("[mail.dkim]");
    // Some fold everything anew, and in another case.
    let folded = changed(&mail, "DKIM-Signature: v=1; a=rsa", "dkim-signature:\r\n\tv=1;\r\n\ta=rsa");
    assert_eq!(bad(&look(&world, &folded)), [""; 0]);
}

#[test]
fn one_signature_that_counts_is_enough() {
    let world = world();
    let mail = message(&world);
    let end = String::from_utf8_lossy(&mail).find("\r\nDate: ").unwrap() + 2;
    let relays = changed(&mail[..end], "d=shop.example", "d=relay.example");
    let broken = changed(&mail[..end], "a=rsa-sha256", "a=rsa-sha1");
    for others in [vec![&relays], vec![&relays, &broken]] {
        let ran = look(
            &world,
            &[PASSED.as_bytes(), &others.into_iter().flatten().copied().collect::<Vec<u8>>(), &mail].concat(),
        );
        assert_eq!(ran.code, 0, "{ran}");
        assert!(
            found(&ran, &["ok"]).iter().any(|line| line.contains("d=relay.example") && line.contains("another's")),
            "{ran}"
        );
    }
    let ran = look(&world, &[&relays, &broken, &mail[end..]].concat());
    assert_eq!(found(&ran, &["fail"]), ["fail a=rsa-sha1 counts for nothing (RFC 8301)"]);
}

#[test]
fn what_the_receiver_says_is_read_from_the_one_that_is_trusted() {
    let world = world();
    let mail = message(&world);
    let with = |results: &str| [format!("Authentication-Results: {results}\r\n").as_bytes(), &mail].concat();
    for (results, level, what) in [
        ("mx.example; spf=fail smtp.mailfrom=shop.example", "fail", "mx.example says spf=fail"),
        ("mx.example; spf=softfail", "warn", "spf=softfail"),
        ("mx.example; spf=none", "warn", "spf=none"),
        ("mx.example; dkim=fail (bad; signature) header.d=shop.example", "fail", "dkim=fail"),
        ("mx.example; dkim=none", "fail", "dkim=none"),
        ("mx.example; dkim=temperror header.d=shop.example", "warn", "dkim=temperror"),
        ("mx.example; dkim=pass header.d=relay.example", "fail", "dkim=pass of relay.example alone"),
        (
            "mx.example; dkim=fail header.d=relay.example; dkim=pass header.i=@shop.example",
            "ok",
            "dkim=pass of shop.example",
        ),
        ("mx.example; dmarc=fail action=none", "fail", "dmarc=fail"),
        ("mx.example; dmarc=bestguesspass", "warn", "dmarc=bestguesspass"),
        ("mx.example; none", "ok", "dmarc is not visible from here: mx.example says nothing of it"),
        ("spf=fail; dmarc=pass", "fail", "the receiver says spf=fail"),
    ] {
        finds(&world, &with(results), level, what);
    }
    finds(&world, &mail, "ok", "not visible from here: the copy has no Authentication-Results");
    // The topmost, unless another is named.
    let two = with("first.example; spf=pass\r\nAuthentication-Results: mx.shop.example; spf=fail");
    finds(&world, &two, "ok", "first.example says spf=pass");
    world.configure("bounces.trusted_authserv", "MX.shop.example");
    finds(&world, &two, "fail", "mx.shop.example says spf=fail");
    finds(&world, &with("first.example; spf=pass"), "ok", "first.example says spf=pass");
}

#[test]
fn what_is_no_mail_is_refused() {
    let world = world();
    for other in ["", "\r\n\r\n", "<!doctype html>\n<title>Original message</title>\n", "hello: world\n\nx"] {
        std::fs::write(world.path("arrived.eml"), other).unwrap();
        world.exits(65, ["doctor", "--received", "arrived.eml"]).says("arrived.eml is no mail").says("Show original");
    }
    std::fs::write(world.path("arrived.eml"), [0xff; 3]).unwrap();
    world.exits(65, ["doctor", "--received", "arrived.eml"]);
    std::fs::write(world.path("arrived.eml"), vec![b'x'; 11 << 20]).unwrap();
    world.exits(65, ["doctor", "--received", "arrived.eml"]).says("is larger than 10 MB");
    world.exits(65, ["doctor", "--received", "nothing.eml"]).says("No such file");
    world.exits(2, ["doctor", "--received", "nothing.eml", "--expect-every", "1h"]);
    // Odd, and yet one.
    let ran = look(&world, b"Received: x\nDKIM-Signature:\nFrom\n: y\n\xff\xfe");
    assert!(found(&ran, &["fail"]).iter().any(|line| line.contains("is no list of tags")), "{ran}");
}

/// Signs a file, printing the signature: forms, names of headers, and whether there is an `l=`.
const SIGNER: &str = "
import sys
import dkim
message, key, header_form, body_form, names, length = sys.argv[1:]
signature = dkim.sign(
    open(message, 'rb').read(), b'm1', b'shop.example', open(key, 'rb').read(),
    canonicalize=(header_form.encode(), body_form.encode()), length=length == 'l',
    include_headers=[name.encode() for name in names.split(':')])
sys.stdout.buffer.write(signature)
";

#[test]
fn what_another_signer_makes_is_judged_alike() {
    if !can_be_verified() {
        return;
    }
    let world = world();
    let mail = message(&world);
    let end = String::from_utf8_lossy(&mail).find("\r\nDate: ").unwrap() + 2;
    let bare = mail[end..].to_vec();
    // As OpenDKIM signs that is installed and left as it is.
    let few = "from:to:subject:date:list-id:list-unsubscribe";
    let all = "from:to:subject:date:message-id:mime-version:content-type:list-id:list-unsubscribe:list-unsubscribe-post:feedback-id";
    let signed = |header_form: &str, body_form: &str, names: &str, length: &str, bare: &[u8]| {
        std::fs::write(world.path("bare.eml"), bare).unwrap();
        let mut signer = Command::new("/usr/bin/python3");
        signer.args(["-c", SIGNER]).arg(world.path("bare.eml")).arg(fixture("test_key.pem"));
        let ended = signer.args([header_form, body_form, names, length]).stderr(Stdio::inherit()).output().unwrap();
        assert!(ended.status.success());
        [&ended.stdout, bare].concat()
    };
    for (header_form, body_form) in [("relaxed", "relaxed"), ("relaxed", "simple"), ("simple", "simple")] {
        let sound = signed(header_form, body_form, all, "", &bare);
        let ran = look(&world, &sound);
        assert_eq!(ran.code, 0, "{ran}");
        ran.says("the body arrived as it was signed");
        let odd = [&bare[..], b"trailing  blanks \t\r\n\r\n\r\n"].concat();
        finds(&world, &signed(header_form, body_form, all, "", &odd), "ok", "the body arrived as it was signed");
        finds(&world, &changed(&sound, "lamps", "lumps"), "fail", "the body is another");
        let ran = look(&world, &signed(header_form, body_form, few, "", &bare));
        let failed = found(&ran, &["fail"]);
        let what = "fail not signed: List-Unsubscribe-Post, Message-ID, MIME-Version, Content-Type, Feedback-ID; so no mail program \
                    offers the one click (RFC 8058)";
        assert_eq!(failed, [what]);
        let partly = signed(header_form, body_form, all, "l", &bare);
        finds(&world, &[&partly[..], b"more\r\n"].concat(), "ok", "the body arrived as it was signed");
        finds(&world, &partly, "warn", "anyone can add to the body");
    }
}
