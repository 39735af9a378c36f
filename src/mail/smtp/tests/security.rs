use std::io::Write as _;

use super::server::{Act::Say, Manner, Odd, Server as Told, certificate};
use std::path::Path;

use super::*;

/// Sends one message with the certificate authority given as a file.
fn secured(tls: Tls, authority: &str, manner: Manner, credentials: Option<(&str, &str)>) -> Run {
    let told = Told::start(manner);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(authority.as_bytes()).unwrap();
    let settings = SmtpSettings {
        tls,
        credentials: credentials.map(|(user, password)| (user.to_owned(), password.to_owned())),
        ca_file: (tls != Tls::None).then(|| file.path().to_owned()),
        ..settings(told.port, PATIENCE)
    };
    let mut session = Driven::new(SmtpServer::new(&settings).unwrap().session());
    send(&mut session, &[outgoing(1)], || told.stop())
}

fn over_tls(implicit: bool, offers: &[&'static str], odd: &[Odd]) -> (Manner, String) {
    let (config, authority) = certificate();
    (Manner { offers: offers.to_vec(), odd: odd.to_vec(), tls: Some(config), implicit }, authority)
}

#[test]
fn messages_go_over_starttls_and_over_implicit_tls() {
    for (tls, implicit) in [(Tls::Starttls, false), (Tls::Implicit, true)] {
        let (manner, authority) = over_tls(implicit, &["STARTTLS", "PIPELINING"], &[]);
        let run = secured(tls, &authority, manner, None);
        assert_eq!(run.story, "- sent, yes", "{:?}", run.texts);
        let encrypted = run.record.lines.iter().position(|line| line == "<tls>").unwrap();
        let mail = run.record.lines.iter().position(|line| line.starts_with("MAIL")).unwrap();
        assert!(encrypted < mail);
        assert_eq!(run.record.bodies, [BODY_ON_THE_WIRE]);
    }
}

#[test]
fn a_certificate_of_another_authority_makes_the_server_unusable() {
    for (tls, implicit) in [(Tls::Starttls, false), (Tls::Implicit, true)] {
        let (manner, _) = over_tls(implicit, &["STARTTLS", "AUTH PLAIN"], &[]);
        let (_, another) = certificate();
        let run = secured(tls, &another, manner, Some(("ada", "hunter2")));
        assert_eq!(run.story, "- unusable, -");
        assert!(run.texts[0].contains("certificate"), "{:?}", run.texts);
        assert!(!run.record.lines.iter().any(|line| line.starts_with("AUTH") || line.starts_with("MAIL")));
    }
}

#[test]
fn without_starttls_nothing_is_sent_in_plain_text() {
    let refusals = [Odd("STARTTLS", 1, Say("454 4.7.0 TLS not available\r\n"))];
    for (offers, odd) in [(&["AUTH PLAIN"][..], &[][..]), (&["AUTH PLAIN", "STARTTLS"], &refusals)] {
        let (manner, authority) = over_tls(false, offers, odd);
        let run = secured(Tls::Starttls, &authority, manner, Some(("ada", "hunter2")));
        assert_eq!(run.story, "- unusable, -");
        assert!(run.texts[0].contains("STARTTLS"), "{:?}", run.texts);
        assert!(!run.record.lines.iter().any(|line| line.starts_with("AUTH") || line.starts_with("MAIL")));
    }
}

#[test]
fn replies_injected_before_tls_are_not_believed() {
    for injected in [
        "220 go\r\n250 mx.example\r\n",
        "220 go\r\n250 mx.example\r\n250 mx.example\r\n",
        "220 go\r\n250 mx.example\r\n250 mx.example\r\n250 ok\r\n250 ok\r\n354 go\r\n250 queued\r\n221 bye\r\n",
    ] {
        let (manner, authority) = over_tls(false, &["STARTTLS"], &[Odd("STARTTLS", 1, Say(injected))]);
        let run = secured(Tls::Starttls, &authority, manner, None);
        assert_eq!(run.story, "- unusable, -", "{injected:?}");
        assert!(run.record.bodies.is_empty());
    }
}

#[test]
fn the_password_goes_out_as_plain_or_as_login() {
    let manner = |offer| Manner { offers: vec![offer], ..manner(false, &[]) };
    let run = secured(Tls::None, "", manner("AUTH LOGIN PLAIN"), Some(("ada", "hunter2")));
    assert_eq!(run.story, "- sent, yes", "{:?}", run.texts);
    assert_eq!(run.record.lines[2], "AUTH PLAIN AGFkYQBodW50ZXIy");
    let run = secured(Tls::None, "", manner("AUTH LOGIN"), Some(("ada", "hunter2")));
    assert_eq!(run.story, "- sent, yes", "{:?}", run.texts);
    assert_eq!(run.record.lines[2..5], ["AUTH LOGIN", "YWRh", "aHVudGVyMg=="]);
    let run = secured(Tls::None, "", manner("AUTH CRAM-MD5"), Some(("ada", "hunter2")));
    assert_eq!(run.story, "- unusable, -");
    assert!(run.texts[0].contains("offers neither AUTH PLAIN nor AUTH LOGIN"), "{:?}", run.texts);
}

#[test]
fn only_235_ends_auth_and_no_reason_repeats_the_password() {
    for reply in [
        "535 5.7.8 AGFkYQBodW50ZXIy: hunter2 is wrong (aHVudGVyMg==)\r\n",
        "250 hunter2\r\n",
        "334 aHVudGVyMg==\r\n",
        "421 hunter2\r\n",
        "hunter2 what?\r\n",
        "535-hunter2\r\n250 aHVudGVyMg==\r\n",
    ] {
        for offer in ["AUTH PLAIN", "auth login"] {
            // To LOGIN a 334 is what it waits for, whatever it asks.
            if (offer, &reply[..3]) == ("auth login", "334") {
                continue;
            }
            let odd = [Odd("AUTH", 1, Say(reply))];
            let manner = Manner { offers: vec![offer], ..manner(false, &odd) };
            let run = secured(Tls::None, "", manner, Some(("ada", "hunter2")));
            assert_eq!(run.story, "- unusable, -", "{reply:?}");
            assert!(run.texts[0].contains("AUTH"), "{:?}", run.texts);
            for secret in ["hunter2", "aHVudGVyMg", "AGFkYQBodW50ZXIy"] {
                assert!(!run.texts[0].contains(secret), "{:?}", run.texts);
            }
        }
    }
}

#[test]
fn settings_that_cannot_work_are_configuration_failures() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let with = |ca_file: Option<&Path>, hello: &str| {
        let settings = SmtpSettings {
            tls: Tls::Starttls,
            ca_file: ca_file.map(Path::to_owned),
            hello: Some(hello.to_owned()),
            ..settings(25, PATIENCE)
        };
        SmtpServer::new(&settings).err().map(|failure| failure.what)
    };
    assert_eq!(with(None, "client.example"), None);
    assert!(with(Some(empty.path()), "client.example").unwrap().contains("holds no certificate in PEM form"));
    assert!(with(Some(Path::new("/nowhere/ca.pem")), "a").unwrap().contains("No such file or directory"));
    for hello in ["", "a b", "a\r\nMAIL FROM:<>"] {
        assert!(with(None, hello).unwrap().contains("cannot be said in EHLO"), "{hello:?}");
    }
}
