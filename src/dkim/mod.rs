//! DKIM (RFC 6376): a signature over a message, for shops whose relay makes none, or leaves headers out of it.
//!
//! Signed are the body and the headers that a reader or a mail program goes by. Each of these is listed once more than it
//! occurs, so that none can be added either: a second `Subject` that is shown in place of the first, another way to
//! unsubscribe, a `Reply-To` where there was none (RFC 6376 §5.4.2, §8.15). None of them may occur twice (RFC 5322 §3.6), so
//! no relay that keeps to the rules adds one.
//!
//! There is no `l=`, which lets anyone add to the body, and no `x=`: a message may wait in queues for days. `t=` is the
//! message's own date and RSA needs no random number here, so that a message is the same bytes on every attempt.

mod canonical;
mod key;
mod signature;
mod tags;

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use memchr::memmem;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};

use crate::domain::instant::Instant;

pub use signature::{Form, Signature};

/// The headers that are signed, in the order of `h=`.
const SIGNED: [&str; 12] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "MIME-Version",
    "Content-Type",
    "List-Id",
    "List-Unsubscribe",
    // Mail programs offer the one click only where both are signed (RFC 8058 §4).
    "List-Unsubscribe-Post",
    "Feedback-ID",
];

/// A line's length in octets that folding aims at; only a long domain or selector stands on a longer one.
const FOLDED_LINE: usize = 76;

/// Signs messages with one key. Cheap to clone.
#[derive(Clone)]
pub struct Signer(Arc<Identity>);

struct Identity {
    domain: String,
    selector: String,
    key: RsaKeyPair,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { domain, selector, .. } = &*self.0;
        f.debug_struct("Signer").field("domain", domain).field("selector", selector).finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer for `domain` (in ASCII form), whose public key is published at `<selector>._domainkey.<domain>`.
    ///
    /// # Errors
    /// `pem` holds no RSA key of 2048 to 4096 bits; the text says what it holds, to be read behind the file's name.
    pub fn new(domain: &str, selector: &str, pem: &[u8]) -> Result<Signer, String> {
        let identity = Identity { domain: domain.into(), selector: selector.into(), key: key::read(pem)? };
        let signer = Signer(Arc::new(identity));
        // Whether the parts of a key belong together shows only in a signature.
        signer.sign(b"", Instant::UNIX_EPOCH).map_err(|_| "holds an RSA key whose parts do not belong together")?;
        Ok(signer)
    }

    /// Who signs, in ASCII form.
    pub fn domain(&self) -> &str {
        &self.0.domain
    }

    /// Where the public key is published, in the DNS.
    pub fn record_name(&self) -> String {
        format!("{}._domainkey.{}", self.0.selector, self.0.domain)
    }

    /// Returns the header field `DKIM-Signature` of a message, folded, with its CRLF; it goes in front of the message.
    ///
    /// The message has CRLF line ends; `dated` is the instant in its Date header. Takes a millisecond of one core, with 4096
    /// bits six.
    ///
    /// # Errors
    /// The signature does not verify: the machine has miscalculated.
    pub fn sign(&self, message: &[u8], dated: Instant) -> Result<String, String> {
        let Identity { domain, selector, key } = &*self.0;
        let (head, body) = parts(message);
        let fields = fields(head);
        let mut signed = Vec::with_capacity(head.len() + 1024);
        let mut names = Vec::with_capacity(2 * SIGNED.len());
        for name in SIGNED {
            // From the last one up (RFC 6376 §5.4.2).
            for field in fields.iter().rev().filter(|field| is_named(field, name)) {
                canonical::header(field, &mut signed);
                names.push(name);
            }
            names.push(name);
        }

        let mut header = Folded::new("DKIM-Signature:");
        header.word("v=1;");
        header.word("a=rsa-sha256;");
        header.word("c=relaxed/relaxed;");
        header.word(&format!("d={domain};"));
        header.word(&format!("s={selector};"));
        header.word(&format!("t={};", dated.timestamp().max(0)));
        let (first, others) = (names[0], &names[1..]);
        header.word(&format!("h={first}"));
        others.iter().for_each(|name| header.part(&format!(":{name}")));
        header.part(";");
        header.word(&format!("bh={};", BASE64.encode(digest(&SHA256, &canonical::body(body)))));
        header.line("b=");

        // The field itself comes last, with an empty `b=` and without the CRLF (RFC 6376 §3.7).
        canonical::header(header.text.as_bytes(), &mut signed);
        signed.truncate(signed.len() - 2);
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &signed, &mut signature)
            .map_err(|_| "the DKIM signature came out wrong: this machine miscalculates".to_owned())?;
        header.broken(&BASE64.encode(signature));
        header.text.push_str("\r\n");
        Ok(header.text)
    }
}

/// The header, with the CRLF of its last field, and the body.
fn parts(message: &[u8]) -> (&[u8], &[u8]) {
    match memmem::find(message, b"\r\n\r\n") {
        Some(end) => (&message[..end + 2], &message[end + 4..]),
        None => (message, b""),
    }
}

/// The fields of a header, each with its folds.
fn fields(head: &[u8]) -> Vec<&[u8]> {
    let mut fields = Vec::new();
    let mut from = 0;
    for to in memmem::find_iter(head, b"\r\n").map(|at| at + 2) {
        let goes_on = matches!(head.get(to), Some(b' ' | b'\t'));
        if !goes_on {
            fields.push(&head[from..to]);
            from = to;
        }
    }
    fields
}

fn is_named(field: &[u8], name: &str) -> bool {
    let colon = field.iter().position(|byte| *byte == b':');
    colon.is_some_and(|colon| field[..colon].trim_ascii_end().eq_ignore_ascii_case(name.as_bytes()))
}

/// A header field that folds itself.
struct Folded {
    text: String,
    /// Octets on the last line.
    column: usize,
}

impl Folded {
    fn new(name: &str) -> Folded {
        Folded { text: name.to_owned(), column: name.len() }
    }

    /// Goes on after a space, or on a line of its own.
    fn word(&mut self, word: &str) {
        if self.column + 1 + word.len() > FOLDED_LINE {
            return self.line(word);
        }
        self.text.push(' ');
        self.text.push_str(word);
        self.column += 1 + word.len();
    }

    /// Goes on without a space, where the line has room.
    fn part(&mut self, part: &str) {
        if self.column + part.len() > FOLDED_LINE {
            return self.line(part);
        }
        self.text.push_str(part);
        self.column += part.len();
    }

    /// Goes on on a line of its own.
    fn line(&mut self, text: &str) {
        self.text.push_str("\r\n ");
        self.text.push_str(text);
        self.column = 1 + text.len();
    }

    /// Goes on without a space, and breaks wherever a line is full.
    fn broken(&mut self, mut text: &str) {
        while !text.is_empty() {
            let room = FOLDED_LINE.saturating_sub(self.column).min(text.len());
            let (here, rest) = text.split_at(room);
            self.text.push_str(here);
            if !rest.is_empty() {
                self.line("");
            } else {
                self.column += room;
            }
            text = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;
    use crate::domain::instant;

    const KEY: &[u8] = include_bytes!("../../tests/fixtures/dkim/test_key.pem");

    const MESSAGE: &str = "Date: Sun, 01 Mar 2026 08:00:00 +0000\r\nFrom: Shop <hello@shop.example>\r\n\
        To: \"Jörg\"\r\n <jörg@example.com>\r\nSubject: Hi\r\n there\r\nMessage-ID: <1@shop.example>\r\n\
        List-Unsubscribe: <https://shop.example/u>,\r\n <mailto:u@shop.example>\r\nX-Other: x\r\nFeedback-ID: c1:cart:shop\r\n\
        Content-Type: multipart/alternative;\r\n boundary=\"=_1\"\r\n\r\nHello,  you \r\n\r\nBye\r\n\r\n";

    fn signer() -> Signer {
        Signer::new("shop.example", "m1", KEY).unwrap()
    }

    fn signed(message: &str) -> String {
        let header = signer().sign(message.as_bytes(), instant::from_text("2026-03-01T08:00:00Z").unwrap()).unwrap();
        format!("{header}{message}")
    }

    /// A second reading of RFC 6376 §6.1.3, of texts and lines in place of bytes.
    fn verifies(message: &str) -> bool {
        let unfolded = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (head, body) = message.split_once("\r\n\r\n").unwrap();
        let head = head.replace("\r\n ", "\u{1}");
        let mut fields: Vec<(String, String)> = head
            .split("\r\n")
            .map(|field| field.split_once(':').unwrap())
            .map(|(name, value)| (name.trim().to_lowercase(), value.replace('\u{1}', "\r\n ")))
            .collect();
        let (name, own) = fields.remove(0);
        assert_eq!(name, "dkim-signature");
        let tags = tags::parse(&own).unwrap();
        let bare = |name: &str| tags.get(name).unwrap().replace(' ', "");

        let mut lines: Vec<String> = body.split("\r\n").map(|line| line.trim_end().to_owned()).collect();
        lines.iter_mut().for_each(|line| *line = line.replace("  ", " "));
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        let body: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        if bare("bh") != BASE64.encode(digest(&SHA256, body.as_bytes())) {
            return false;
        }
        let mut hashed = String::new();
        for name in bare("h").split(':').map(str::to_lowercase) {
            if let Some(at) = fields.iter().rposition(|(field, _)| *field == name) {
                let (_, value) = fields.remove(at);
                hashed.push_str(&format!("{name}:{}\r\n", unfolded(&value)));
            }
        }
        let without = &own[..own.rfind(" b=").unwrap() + 3];
        hashed.push_str(&format!("dkim-signature:{}", unfolded(without)));
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, signer().0.key.public().as_ref().to_vec());
        key.verify(hashed.as_bytes(), &BASE64.decode(bare("b")).unwrap()).is_ok()
    }

    #[test]
    fn a_signature_says_what_is_signed_and_verifies() {
        let message = signed(MESSAGE);
        assert_eq!(message, signed(MESSAGE), "two attempts differ");
        assert!(verifies(&message), "{message}");
        let tags =
            tags::parse(message.split_once("DKIM-Signature:").unwrap().1.split_once("Date: ").unwrap().0).unwrap();
        for (name, value) in [
            ("v", "1"),
            ("a", "rsa-sha256"),
            ("c", "relaxed/relaxed"),
            ("d", "shop.example"),
            ("s", "m1"),
            ("t", "1772352000"),
        ] {
            assert_eq!(tags.get(name), Some(value), "{name}");
        }
        assert_eq!((tags.get("x"), tags.get("l")), (None, None));
        assert_eq!(
            tags.get("h").unwrap().replace(' ', ""),
            "From:From:To:To:Subject:Subject:Date:Date:Message-ID:Message-ID:Reply-To:MIME-Version:Content-Type:\
             Content-Type:List-Id:List-Unsubscribe:List-Unsubscribe:List-Unsubscribe-Post:Feedback-ID:Feedback-ID"
        );
        let header = message.split("Date: ").next().unwrap();
        assert!(header.ends_with("\r\n") && header.split("\r\n").all(|line| line.len() <= 76), "{header}");
        assert!(header.split("\r\n").skip(1).all(|line| line.is_empty() || line.starts_with(' ')), "{header}");
    }

    #[test]
    fn what_a_relay_may_do_changes_nothing() {
        let message = signed(MESSAGE);
        for (from, to) in [
            ("\r\n there", " there"),
            ("Subject: Hi", "SUBJECT:   Hi"),
            ("Date: ", "Received: from a by b\r\nDate: "),
            ("X-Other: x", "X-Other: y"),
            ("you \r\n", "you\r\n"),
            ("Bye\r\n\r\n", "Bye\r\n\r\n\r\n"),
        ] {
            assert!(message.contains(from), "{from}");
            assert!(verifies(&message.replacen(from, to, 1)), "{from:?} as {to:?}");
        }
    }

    #[test]
    fn whatever_else_is_changed_or_added_shows() {
        let message = signed(MESSAGE);
        for (from, to) in [
            ("Hello", "hello"),
            ("Bye\r\n", "Bye\r\n--\r\n"),
            ("Subject: Hi", "Subject: Ho"),
            ("jörg@", "jorg@"),
            ("/u>", "/v>"),
            ("c1:cart", "c2:cart"),
            ("t=1772352000", "t=1772352001"),
            ("d=shop.example", "d=shop2.example"),
        ] {
            assert!(message.contains(from), "{from}");
            assert!(!verifies(&message.replacen(from, to, 1)), "{from:?} as {to:?}");
        }
        for name in SIGNED {
            let added = format!("{name}: x\r\n");
            assert!(!verifies(&message.replacen("Date: ", &format!("{added}Date: "), 1)), "{name} in front");
            assert!(!verifies(&message.replacen("\r\n\r\n", &format!("\r\n{added}\r\n"), 1)), "{name} behind");
        }
    }

    #[test]
    fn headers_that_are_there_twice_and_long_names_verify() {
        let twice = MESSAGE.replace("Subject: Hi", "Subject: One\r\nsubject : Two\r\nSubject: Hi");
        assert!(verifies(&signed(&twice)));
        let long = format!("{}.example", vec!["x".repeat(60); 3].join("."));
        let signer = Signer::new(&long, &long, KEY).unwrap();
        let header = signer.sign(MESSAGE.as_bytes(), Instant::UNIX_EPOCH).unwrap();
        assert!(header.contains(&format!("\r\n d={long};\r\n s={long};\r\n t=0;")), "{header}");
        assert!(verifies(&format!("{header}{MESSAGE}")));
    }

    #[test]
    fn a_message_without_a_body_has_the_hash_of_nothing() {
        // RFC 6376 §3.4.4.
        for message in ["From: a@b.example\r\n", "From: a@b.example\r\n\r\n"] {
            let header = signer().sign(message.as_bytes(), Instant::UNIX_EPOCH).unwrap();
            assert!(header.contains("bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;"), "{header}");
            assert!(header.contains("h=From:From:To:Subject:"), "{header}");
        }
    }

    #[test]
    fn a_key_whose_parts_do_not_belong_together_is_refused_at_once() {
        let broken = include_bytes!("../../tests/fixtures/dkim/test_key.broken.pem");
        assert!(Signer::new("shop.example", "m1", broken).unwrap_err().contains("do not belong together"));
    }

    #[test]
    fn no_key_is_printed() {
        assert_eq!(format!("{:?}", signer()), "Signer { domain: \"shop.example\", selector: \"m1\", .. }");
    }
}
