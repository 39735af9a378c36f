//! A mail as it arrived in a mailbox: what its header says, who signed it, and what the server found that took it in.
//!
//! Copies come from anywhere: with LF or CRLF line ends, out of an mbox, saved by a web page. Nothing is asked of the DNS.

mod results;

use std::borrow::Cow;

use crate::bounces::fields::{Fields, tidy};
use crate::dkim::Signature;

pub use results::{Found, Results};

/// Fields of which one is in every mail, and in another text by chance not.
const OF_A_MAIL: [&str; 7] = ["from", "to", "subject", "date", "message-id", "received", "mime-version"];

/// One mail.
#[derive(Debug)]
pub struct Received {
    pub fields: Fields,
    /// With CRLF line ends.
    body: Vec<u8>,
    /// The longest line, in octets without its end.
    pub longest_line: usize,
}

impl Received {
    /// Reads a mail; `None` is a text that is none.
    pub fn read(mail: &[u8]) -> Option<Received> {
        let (fields, body) = Fields::read(mail);
        if !fields.has_any(&OF_A_MAIL) {
            return None;
        }
        let lines = mail.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line).len());
        Some(Received { body: with_crlf(body), longest_line: lines.max().unwrap_or(0), fields })
    }

    /// The domain of the one `From`, in ASCII form and lower case.
    pub fn sender_domain(&self) -> Option<String> {
        let mut all = self.fields.all("from");
        let (from, None) = (all.next()?, all.next()) else { return None };
        // Whatever stands before it, a name in quotes, encoded or with an @ in it.
        let address = match from.rsplit_once('<') {
            Some((_, rest)) => rest.split('>').next()?,
            None => from,
        };
        let (_, domain) = address.trim().rsplit_once('@')?;
        domain_in_ascii(domain.trim())
    }

    /// Each `DKIM-Signature`, the topmost first.
    pub fn signatures(&self) -> Vec<Result<Signature, String>> {
        self.fields.all("dkim-signature").map(Signature::read).collect()
    }

    /// Whether the body is the one that was signed; `None` where that cannot be told.
    pub fn has_the_body_of(&self, signature: &Signature) -> Option<bool> {
        signature.is_of_body(&self.body)
    }

    /// What a server found: the trusted one, where it says something, else the one that took the mail in last.
    pub fn results(&self, trusted: Option<&str>) -> Option<Results> {
        let mut all: Vec<Results> = self.fields.all("authentication-results").map(Results::read).collect();
        let is_trusted = |results: &&Results| trusted.is_some_and(|trusted| results.is_of(trusted));
        let server = all.iter().find(is_trusted).or(all.first())?.server.clone();
        // Some write a field for each method.
        all.retain(|results| results.server == server);
        Some(Results { server, found: all.into_iter().flat_map(|results| results.found).collect() })
    }

    /// The addresses of `List-Unsubscribe` (RFC 2369 §2), in their order.
    pub fn unsubscribe(&self) -> Vec<String> {
        let links = self.fields.all("list-unsubscribe").flat_map(|value| value.split('<').skip(1));
        links.filter_map(|link| link.split_once('>')).map(|(link, _)| link.split_whitespace().collect()).collect()
    }

    /// Whether its Message-ID is made as mailonce makes one.
    pub fn has_our_message_id(&self) -> bool {
        let id = self.fields.get("message-id").unwrap_or_default().trim_start_matches('<');
        let token = id.split('@').next().unwrap_or_default();
        id.contains('@') && token.len() == 32 && token.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }
}

/// Whether mail from one domain counts as vouched for by another (RFC 7489 §3.1, relaxed): they are equal, or one lies below
/// the other.
///
/// Where registries end and owners begin only a list of all of them tells. Without one, two domains below the same owner's are
/// taken for strangers, which is the safe side.
pub fn is_aligned(one: &str, other: &str) -> bool {
    let below = |lower: &str, upper: &str| {
        upper.contains('.') && lower.strip_suffix(upper).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    match (domain_in_ascii(one), domain_in_ascii(other)) {
        (Some(one), Some(other)) => below(&one, &other) || below(&other, &one),
        _ => false,
    }
}

fn domain_in_ascii(domain: &str) -> Option<String> {
    let ascii = idna::domain_to_ascii(domain.trim_end_matches('.')).ok()?;
    (!ascii.is_empty()).then_some(ascii)
}

/// A text from a mail as it is shown: on one line, and not long.
pub fn shown(text: &str) -> String {
    tidy(text, 200).unwrap_or_else(|| "nothing".into())
}

/// With each LF made a CRLF; those that are one stay.
fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let mut all = lines.next().unwrap_or_default().to_vec();
    for line in lines {
        if all.last() == Some(&b'\r') {
            all.pop();
        }
        all.extend_from_slice(b"\r\n");
        all.extend_from_slice(line);
    }
    all
}

/// A value of a header without its comments (RFC 5322 §3.2.2), which may stand in each other, and with what its quotes hold made
/// one word.
fn without_comments(value: &str) -> Cow<'_, str> {
    if !value.contains(['(', '"']) {
        return Cow::Borrowed(value);
    }
    let (mut depth, mut quoted) = (0_usize, false);
    let mut bare = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' if quoted || depth > 0 => drop(characters.next()),
            '"' if depth == 0 => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted && depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    bare.push(' ');
                }
            }
            _ if depth > 0 => {}
            c if quoted && (c.is_whitespace() || ";=".contains(c)) => bare.push('_'),
            c => bare.push(c),
        }
    }
    Cow::Owned(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mail: &str) -> Received {
        Received::read(mail.as_bytes()).unwrap()
    }

    #[test]
    fn line_ends_are_crlf_whatever_the_copy_has() {
        for (text, whole) in [
            ("a\nb\n", "a\r\nb\r\n"),
            ("a\r\nb\r\n", "a\r\nb\r\n"),
            ("a\r\nb\nc", "a\r\nb\r\nc"),
            ("", ""),
            ("\n\n", "\r\n\r\n"),
        ] {
            assert_eq!(with_crlf(text.as_bytes()), whole.as_bytes(), "{text:?}");
        }
        let mail = read("From x Sun Mar  1 08:00:00 2026\nFrom: a@shop.example\n\none\ntwo\n");
        assert_eq!(mail.body, b"one\r\ntwo\r\n");
        assert_eq!(read("From: a@b.example\r\nX: 12345678901234567890\r\n\r\n").longest_line, 23);
        for other in ["", "\n", "<html>\n<p>From: a</p>", "Dear Ada: hello\n\nFrom: a"] {
            assert!(Received::read(other.as_bytes()).is_none(), "{other:?}");
        }
    }

    #[test]
    fn the_sender_is_found_in_odd_fields() {
        for (from, domain) in [
            ("hello@shop.example", Some("shop.example")),
            ("\"Shop <x@y.example>\" <hello@Shop.Example>", Some("shop.example")),
            ("=?utf-8?q?L=C3=A1mparas?=\n <hello@b\u{fc}cher.example>", Some("xn--bcher-kva.example")),
            ("Shop, Ltd. <hello@shop.example> (the shop)", Some("shop.example")),
            ("nobody", None),
            ("a@b.example\nFrom: c@d.example", None),
        ] {
            assert_eq!(read(&format!("From: {from}\n\n")).sender_domain().as_deref(), domain, "{from:?}");
        }
        assert_eq!(read("To: a@b.example\n\n").sender_domain(), None);
    }

    #[test]
    fn domains_are_aligned_with_themselves_and_those_above_and_below() {
        for (one, other, aligned) in [
            ("shop.example", "shop.example", true),
            ("Shop.Example.", "shop.example", true),
            ("news.shop.example", "shop.example", true),
            ("shop.example", "news.shop.example", true),
            ("news.shop.example", "mail.shop.example", false),
            ("myshop.example", "shop.example", false),
            ("shop.example", "example", false),
            ("shop.example", "relay.example", false),
            ("b\u{fc}cher.example", "xn--bcher-kva.example", true),
            ("", "shop.example", false),
        ] {
            assert_eq!(is_aligned(one, other), aligned, "{one} {other}");
        }
    }

    #[test]
    fn links_and_ids_are_read_from_folded_fields() {
        let mail = read(
            "From: a@b.example\nList-Unsubscribe:\n <https://shop.example/u?t=1\n 2>,\n\t<mailto:u@shop.example>\n\
             Message-ID:\n <0123456789abcdef0123456789abcdef@shop.example>\n\n",
        );
        assert_eq!(mail.unsubscribe(), ["https://shop.example/u?t=12", "mailto:u@shop.example"]);
        assert!(mail.has_our_message_id());
        for id in [
            "<0100018-ab@eu-west-1.amazonses.com>",
            "",
            "<0123456789abcdef0123456789abcdef>",
            "<0123456789ABCDEF0123456789abcdef@b>",
        ] {
            assert!(!read(&format!("From: a@b.example\nMessage-ID: {id}\n\n")).has_our_message_id(), "{id}");
        }
    }

    #[test]
    fn the_trusted_server_is_asked_first_and_all_its_fields_count() {
        let mail = read(
            "Authentication-Results: mx.provider.example; spf=fail\nAuthentication-Results: mx.shop.example; dkim=pass header.d=a.example\n\
             Authentication-Results: mx.shop.example; dmarc=pass\nFrom: a@b.example\n\n",
        );
        let methods = |trusted| {
            let results = mail.results(trusted).unwrap();
            results.found.iter().map(|found| found.method.clone()).collect::<Vec<_>>()
        };
        assert_eq!(methods(None), ["spf"]);
        assert_eq!(methods(Some("mx.shop.example")), ["dkim", "dmarc"]);
        assert_eq!(methods(Some("mx.other.example")), ["spf"]);
        assert!(read("From: a@b.example\n\n").results(None).is_none());
    }

    #[test]
    fn comments_are_left_out_and_quotes_hold_together() {
        for (value, bare) in [
            ("a (b; c=(d) e) f", "a   f"),
            ("a=\"b; c\" d", "a=b__c d"),
            ("a (b \\) c) d", "a   d"),
            ("a (never closed", "a "),
            ("a) b", "a) b"),
        ] {
            assert_eq!(without_comments(&format!("{value} ")).trim_end(), bare.trim_end(), "{value}");
        }
    }
}
