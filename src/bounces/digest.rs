//! What makes two mails the same.

use sha2::{Digest, Sha256};

use super::fields::{Fields, next_line};

/// Fields that whoever wrote the mail wrote, and that no server on its way adds or changes.
const KEPT: [&str; 21] = [
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "auto-submitted",
    "precedence",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "content-description",
    "content-language",
    "x-failed-recipients",
    "x-autoreply",
    "x-apple-unsubscribe",
    "x-mailer",
];

/// Fields of delivery, for the tokens in them alone.
const DELIVERED_TO: [&str; 3] = ["delivered-to", "x-original-to", "envelope-to"];

/// So much of the body counts, in bytes after its line ends are made the same: less than what can be left of a mail that
/// was cut at [`super::MOST_OF_A_MAIL`], so that it is the same whatever its line ends were.
const MOST_OF_A_BODY: usize = 4 * 1024 * 1024;

/// SHA-256 of what a mail says, so that one report counts once.
///
/// A report may be read twice: from a Maildir and, after a move, from an mbox; or because it was delivered twice, to two
/// aliases or by a program that fetched it again. What differs then is left out: mbox's `From ` line, trace and status
/// fields (`Received`, `Return-Path`, `Delivered-To`, `Status`, `X-UID`, what filters add, …), line ends, how fields are
/// folded, and empty lines at the end. So only those fields count that the writer wrote, and the body.
///
/// Of `Delivered-To` and its like every run of 32 hexadecimal digits counts nevertheless: some bounces say nowhere else
/// which message they are about, and two of them must not be taken for one.
pub fn digest(mail: &[u8]) -> [u8; 32] {
    let (fields, body) = Fields::read(mail);
    let mut digest = Sha256::new();
    let mut field = |name: &str, value: &str| {
        digest.update(name.as_bytes());
        digest.update(b":");
        digest.update(value.as_bytes());
        digest.update(b"\n");
    };
    for (name, value) in fields.iter().filter(|(name, _)| KEPT.contains(name)) {
        field(name, value);
    }
    let mut tokens: Vec<String> = Vec::new();
    for value in DELIVERED_TO.iter().flat_map(|name| fields.all(name)) {
        let runs = value.split(|c: char| !c.is_ascii_hexdigit()).filter(|run| run.len() == 32);
        tokens.extend(runs.map(str::to_ascii_lowercase));
    }
    tokens.sort();
    tokens.dedup();
    for token in &tokens {
        field("", token);
    }
    digest.update(b"\n");
    // Line ends are held back until something follows them.
    let (mut rest, mut left, mut held_back) = (body, MOST_OF_A_BODY, 0);
    while let Some((line, after)) = next_line(rest) {
        rest = after;
        if !line.is_empty() {
            for _ in 0..held_back.min(left) {
                digest.update(b"\n");
            }
            left -= held_back.min(left);
            held_back = 0;
            let line = &line[..line.len().min(left)];
            digest.update(line);
            left -= line.len();
        }
        held_back += 1;
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &str = "From: MAILER-DAEMON@mx.example\nTo: b@shop.example\nSubject: failure\n notice\nDate: Sun, 1 Mar 2026 08:00:00 +0000\n\nno such user\n\nbye\n";

    #[test]
    fn the_same_report_has_one_digest_however_it_came() {
        let same = digest(MAIL.as_bytes());
        let traced = format!(
            "Return-Path: <>\nDelivered-To: bounces@shop.example\nX-Original-To: b@shop.example\nReceived: from mx.example\n by a\nReceived: by b\nX-Spam-Status: No\nStatus: RO\nX-UID: 7\n{MAIL}"
        );
        let traced = traced.as_str();
        let with_from = format!("From MAILER-DAEMON Sun Mar  1 08:00:00 2026\n{traced}");
        for mail in [
            MAIL.replace('\n', "\r\n"),
            MAIL.replacen('\n', "\r\n", 3),
            traced.to_owned(),
            traced.replace('\n', "\r\n"),
            with_from,
            format!("{MAIL}\n\n"),
            MAIL.trim_end().to_owned(),
            MAIL.replace("failure\n notice", "failure notice"),
        ] {
            assert_eq!(digest(mail.as_bytes()), same, "{mail:?}");
        }
    }

    #[test]
    fn another_report_has_another_digest() {
        let token = "0123456789abcdef0123456789abcdef";
        let mails = [
            MAIL.to_owned(),
            MAIL.replace("bye", "by"),
            MAIL.replace("user\n\nbye", "user\nbye"),
            MAIL.replace("08:00:00", "08:00:01"),
            MAIL.replace("b@shop", "c@shop"),
            MAIL.replace("From: ", "X-Failed-Recipients: ada@example.com\nFrom: "),
            format!("Delivered-To: b+{token}@shop.example\n{MAIL}"),
            format!("Delivered-To: b+{}@shop.example\n{MAIL}", token.replace('a', "b")),
            String::new(),
        ];
        let digests: std::collections::HashSet<[u8; 32]> = mails.iter().map(|mail| digest(mail.as_bytes())).collect();
        assert_eq!(digests.len(), mails.len());
    }

    #[test]
    fn a_mail_that_was_cut_has_one_digest_with_each_line_end() {
        let long = format!("{MAIL}{}", "a line\n".repeat(2_000_000));
        let cut = |mail: &str| digest(&mail.as_bytes()[..super::super::MOST_OF_A_MAIL]);
        assert_eq!(cut(&long), cut(&long.replace('\n', "\r\n")));
    }
}
