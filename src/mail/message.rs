//! Messages: one rendered mail as the bytes of RFC 5322 and MIME, the same bytes on every attempt.

use lettre::message::header::{ContentType, HeaderName, HeaderValue, Headers};
use lettre::message::{Mailbox as Addressed, MultiPart, SinglePart, header};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::domain::address::{Address, Mailbox};
use crate::domain::instant::Instant;

use super::template::{RenderError, Rendered, one_line};

/// Everything a message says about itself.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    pub from: &'a Mailbox,
    pub reply_to: Option<&'a Mailbox>,
    pub to: &'a Address,
    pub to_name: Option<&'a str>,
    pub rendered: &'a Rendered,
    /// With its angle brackets, as `message_key::message_id` makes it.
    pub message_id: &'a str,
    pub date: Instant,
    /// Letters and digits; the boundary between the parts is made of it.
    pub token: &'a str,
    /// Expanded by [`expand_unsubscribe`]; at most a page and a mailbox: some mail programs take one, some the other.
    pub unsubscribe: &'a [String],
    /// The value of List-Id (RFC 2919).
    pub list_id: &'a str,
    /// The value of Feedback-ID, by which Gmail tells kinds of mail apart.
    pub feedback_id: Option<&'a str>,
}

/// What stands for the placeholders in an address of `[mail] unsubscribe`.
#[derive(Debug, Clone, Copy)]
pub struct Placeholders<'a> {
    pub to: &'a Address,
    pub token: &'a str,
    /// Signed, and without the address.
    pub unsubscribe: &'a str,
}

/// A display name is cut at this many characters: nobody reads more, and a long word cannot be folded.
const LONGEST_NAME: usize = 100;

/// The longest line a message may hold, in octets without its CRLF (RFC 5322 §2.1.1).
const LONGEST_LINE: usize = 998;

/// A header line's length in octets that folding aims at (RFC 5322 §2.1.1).
const FOLDED_LINE: usize = 76;

/// Composes the message: CRLF line ends, not dot-stuffed, the same bytes for the same letter.
///
/// Every byte is ASCII, with one exception: an address whose local part is not (RFC 6532) stands in its header as it is,
/// and goes only to servers that offer SMTPUTF8.
///
/// There is no `Auto-Submitted`: RFC 3834 means it for notices that programs send each other, ticket systems and some
/// filters drop what carries it, and mail of shops does not use it. `List-Unsubscribe` already keeps vacation notices
/// away (RFC 5230 §4.6), and a person's answer shall reach the shop.
///
/// # Errors
/// A header that no line can hold (an unsubscribe address of more than 900 octets), or a year that a date header cannot.
pub fn compose(letter: &Letter) -> Result<Vec<u8>, RenderError> {
    let mut headers = Headers::new();
    headers.insert_raw(raw("Date", date(letter.date)?));
    headers.set(header::From::from(lettre::message::Mailboxes::from(mailbox(letter.from))));
    if let Some(reply_to) = letter.reply_to {
        headers.set(header::ReplyTo::from(lettre::message::Mailboxes::from(mailbox(reply_to))));
    }
    let to = addressed(letter.to_name, letter.to);
    headers.set(header::To::from(lettre::message::Mailboxes::from(to)));
    headers.insert_raw(subject(&one_line(&letter.rendered.subject)));
    headers.insert_raw(raw("Message-ID", one_line(letter.message_id)));
    if !letter.unsubscribe.is_empty() {
        let addresses: Vec<String> = letter.unsubscribe.iter().map(|address| ascii_address(address)).collect();
        let listed: Vec<String> = addresses.iter().map(|address| format!("<{address}>")).collect();
        headers.insert_raw(raw("List-Unsubscribe", listed.join(", ")));
        // Only a page can be told with one POST (RFC 8058 §3.1).
        let is_page = |address: &String| address.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        if addresses.iter().any(is_page) {
            headers.insert_raw(raw("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".to_owned()));
        }
    }
    headers.insert_raw(raw("List-Id", letter.list_id.to_owned()));
    if let Some(feedback_id) = letter.feedback_id {
        headers.insert_raw(raw("Feedback-ID", feedback_id.to_owned()));
    }
    headers.set(header::MIME_VERSION_1_0);

    // `=_` stands in no quoted-printable or base64 text, so the boundary cannot either (RFC 2045 §6.7).
    let boundary: String = letter.token.chars().filter(char::is_ascii_alphanumeric).take(60).collect();
    let parts = MultiPart::alternative()
        .boundary(format!("=_{boundary}"))
        .singlepart(part(ContentType::TEXT_PLAIN, &letter.rendered.text))
        .singlepart(part(ContentType::TEXT_HTML, &letter.rendered.html));

    let head = headers.to_string();
    if let Some(line) = head.split("\r\n").find(|line| line.len() > LONGEST_LINE) {
        let name = line.split(':').next().unwrap_or_default();
        return Err(RenderError {
            problem: format!(
                "the header {name} needs a line of {} octets; 998 are allowed (RFC 5322 §2.1.1)",
                line.len()
            ),
        });
    }
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&parts.formatted());
    Ok(bytes)
}

/// Fills `{unsubscribe}`, `{token}` and `{email}` (percent-encoded) into an address of `[mail] unsubscribe`.
///
/// The result is ASCII without spaces, so it can stand in a header and in a link.
pub fn expand_unsubscribe(template: &str, by: &Placeholders) -> String {
    // The unreserved characters of RFC 3986 §2.3 stay readable; `+` must not, forms read it as a space.
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    let email = utf8_percent_encode(&by.to.envelope(), RESERVED).to_string();
    let filled = template.trim().replace("{unsubscribe}", by.unsubscribe).replace("{token}", by.token);
    ascii_address(&filled.replace("{email}", &email))
}

/// An address of a page with everything encoded that a header or an angle bracket would trip over.
fn ascii_address(address: &str) -> String {
    const UNSOUND: &AsciiSet = &CONTROLS.add(b' ').add(b'<').add(b'>').add(b'"').add(b'\\').add(b'`');
    utf8_percent_encode(address, UNSOUND).to_string()
}

fn raw(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
}

/// `Sun, 01 Mar 2026 08:00:00 +0000`.
fn date(at: Instant) -> Result<String, RenderError> {
    use chrono::Datelike;
    if !(1900..=9999).contains(&at.year()) {
        return Err(RenderError { problem: format!("the year {} cannot stand in a Date header", at.year()) });
    }
    Ok(at.format("%a, %d %b %Y %H:%M:%S +0000").to_string())
}

fn mailbox(mailbox: &Mailbox) -> Addressed {
    addressed(mailbox.name.as_deref(), &mailbox.address)
}

fn addressed(name: Option<&str>, address: &Address) -> Addressed {
    // A line break in a name panics inside lettre.
    let name = name.map(one_line).map(|name| name.chars().take(LONGEST_NAME).collect::<String>());
    let name = name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    // Checked by our own rules already; lettre's refuse some local parts that servers take.
    Addressed::new(name, lettre::Address::new_dangerous(address.local(), address.domain()))
}

/// The Subject header. lettre encodes what is not ASCII; ASCII that would be misread or that no line can hold is
/// encoded here.
fn subject(text: &str) -> HeaderValue {
    let name = HeaderName::new_from_ascii_str("Subject");
    let misread = text.contains("=?") || text.split(' ').any(|word| word.is_ascii() && word.len() > FOLDED_LINE - 9);
    if misread {
        let encoded = encoded_words(text, "Subject: ".len());
        HeaderValue::dangerous_new_pre_encoded(name, text.to_owned(), encoded)
    } else {
        HeaderValue::new(name, text.to_owned())
    }
}

/// Encoded words (RFC 2047 §4.2, "Q"), folded; the first line already holds `used` octets.
fn encoded_words(text: &str, used: usize) -> String {
    let mut encoded = String::with_capacity(text.len() * 2);
    let mut column = used;
    encoded.push_str("=?utf-8?q?");
    column += 10;
    for character in text.chars() {
        let piece = match character {
            ' ' => "_".to_owned(),
            c if c.is_ascii_alphanumeric() => c.to_string(),
            c => c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("={byte:02X}")).collect(),
        };
        // A character never spans two words (RFC 2047 §5), and a word needs its `?=`.
        if column + piece.len() + 2 > FOLDED_LINE {
            encoded.push_str("?=\r\n =?utf-8?q?");
            column = 11;
        }
        encoded.push_str(&piece);
        column += piece.len();
    }
    encoded.push_str("?=");
    encoded
}

fn part(content_type: ContentType, text: &str) -> SinglePart {
    let text = with_crlf(text);
    let part = SinglePart::builder().header(content_type);
    // As octets, lettre does not look for line ends to correct.
    if text.is_ascii() { part.body(text.into_bytes()) } else { part.body(text) }
}

/// The text with CRLF line ends and without what no message may hold: NUL, lone CRs, other control characters.
fn with_crlf(text: &str) -> String {
    let mut lines = String::with_capacity(text.len() + text.len() / 32);
    let odd = |byte: u8| byte.is_ascii_control() && byte != b'\t' && byte != b'\n';
    if !text.bytes().fold(false, |found, byte| found | odd(byte)) {
        for line in text.split_inclusive('\n') {
            let bare = line.trim_end_matches('\n');
            lines.push_str(bare);
            if bare.len() < line.len() {
                lines.push_str("\r\n");
            }
        }
        return lines;
    }
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte.is_ascii_control() && byte != b'\t') {
        lines.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'\n' => lines.push_str("\r\n"),
            b'\r' if !rest[at + 1..].starts_with('\n') => lines.push_str("\r\n"),
            _ => {}
        }
        rest = &rest[at + 1..];
    }
    lines.push_str(rest);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::instant;

    fn rendered(subject: &str, html: &str) -> Rendered {
        Rendered { subject: subject.into(), html: html.into(), text: "Hello\n".into() }
    }

    fn composed(to: &str, to_name: Option<&str>, rendered: &Rendered, unsubscribe: Option<&str>) -> String {
        let unsubscribe: Vec<String> =
            unsubscribe.into_iter().flat_map(|all| all.split(' ')).map(str::to_owned).collect();
        let from = Mailbox::parse("Example Shop <hello@shop.example>").unwrap();
        let letter = Letter {
            from: &from,
            reply_to: None,
            to: &Address::parse(to).unwrap(),
            to_name,
            rendered,
            message_id: "<0123@shop.example>",
            date: instant::from_text("2026-03-01T08:00:00Z").unwrap(),
            token: "0123456789abcdef0123456789abcdef",
            unsubscribe: &unsubscribe,
        };
        let bytes = compose(&letter).unwrap();
        assert_eq!(bytes, compose(&letter).unwrap(), "two attempts differ");
        String::from_utf8(bytes).unwrap()
    }

    fn assert_sound(message: &str) {
        assert!(message.is_ascii(), "{message}");
        assert!(
            message.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n', '\0'])),
            "{message:?}"
        );
        assert!(message.ends_with("\r\n"));
        let head = message.split("\r\n\r\n").next().unwrap();
        assert!(head.split("\r\n").all(|line| line.len() <= if line.starts_with("To:") { 230 } else { 78 }), "{head}");
    }

    #[test]
    fn a_message_says_who_when_and_what() {
        let message = composed("ada@example.com", Some("Ada"), &rendered("Hi", "<p>é</p>"), None);
        assert_sound(&message);
        for line in [
            "Date: Sun, 01 Mar 2026 08:00:00 +0000\r\n",
            "From: \"Example Shop\" <hello@shop.example>\r\n",
            "To: Ada <ada@example.com>\r\n",
            "Subject: Hi\r\n",
            "Message-ID: <0123@shop.example>\r\n",
            "MIME-Version: 1.0\r\n",
            "boundary=\"=_0123456789abcdef0123456789abcdef\"",
            "<p>=C3=A9</p>",
        ] {
            assert!(message.contains(line), "{line:?} in {message}");
        }
        assert!(message.find("text/plain").unwrap() < message.find("text/html").unwrap());
        assert!(!message.contains("List-Unsubscribe"));
    }

    #[test]
    fn line_breaks_and_nul_inject_nothing() {
        let rendered =
            Rendered { text: "a\rb\r\nc\0\nd".into(), ..rendered("Hi\r\nBcc: x@example.com", "<p>\0\r.\r</p>") };
        let message = composed("ada@example.com", Some("Ada\r\nBcc: y@example.com"), &rendered, None);
        assert_sound(&message);
        assert!(!message.contains("\r\nBcc:"), "{message}");
        assert!(message.contains("\r\na\r\nb\r\nc\r\nd\r\n"), "{message}");
    }

    #[test]
    fn long_and_odd_headers_are_folded_and_encoded() {
        let subjects = ["x".repeat(2000), "日本語の件名".repeat(60), "=?utf-8?q?=58?= ".repeat(20), "🛒 ".repeat(90)];
        for subject in &subjects {
            for name in ["n".repeat(2000), "Müller, Jörg ".repeat(30), "\"\\".repeat(60), "日本".repeat(90), " ".into()]
            {
                assert_sound(&composed("ada@example.com", Some(&name), &rendered(subject, "<p>x</p>"), None));
            }
        }
        assert!(!composed("a@b.example", None, &rendered(&subjects[2], "x"), None).contains("=?utf-8?q?=58?="));
    }

    #[test]
    fn a_text_of_ascii_goes_as_it_stands() {
        // Some of these words fill a line to the last column.
        for length in 1..20 {
            let html = format!("<p>{}</p>", format!("{} ", "x".repeat(length)).repeat(200));
            let text = crate::mail::plain_text::from_html(&html).unwrap();
            let rendered = Rendered { text: text.clone(), ..rendered("Hi", "<p>x</p>") };
            let message = composed("ada@example.com", None, &rendered, None);
            assert!(message.contains(&text.replace('\n', "\r\n")), "{message}");
            assert!(!message.contains("quoted-printable"), "{message}");
        }
    }

    #[test]
    fn a_long_line_of_html_is_broken_up() {
        assert_sound(&composed("ada@example.com", None, &rendered("Hi", &"<b>x</b>".repeat(700)), None));
    }

    #[test]
    fn a_local_part_beyond_ascii_stands_as_it_is() {
        let message = composed("jörg@bücher.example", None, &rendered("Hi", "x"), None);
        assert!(message.contains("To: jörg@xn--bcher-kva.example\r\n"), "{message}");
    }

    #[test]
    fn one_click_is_offered_for_pages_only() {
        let page = composed("a@b.example", None, &rendered("Hi", "x"), Some("https://shop.example/u?t=1"));
        assert!(page.contains("\r\nList-Unsubscribe: <https://shop.example/u?t=1>\r\n"), "{page}");
        assert!(page.contains("\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"), "{page}");
        let mail = composed("a@b.example", None, &rendered("Hi", "x"), Some("mailto:stop@shop.example"));
        assert!(mail.contains("List-Unsubscribe: <mailto:stop@shop.example>") && !mail.contains("-Post"), "{mail}");
        let both = Some("https://shop.example/u mailto:stop@shop.example");
        let both = composed("a@b.example", None, &rendered("Hi", "x"), both).replace("\r\n ", " ");
        assert!(both.contains("List-Unsubscribe: <https://shop.example/u>, <mailto:stop@shop.example>\r\n"), "{both}");
        assert!(both.contains("-Post"), "{both}");
    }

    #[test]
    fn unsubscribe_addresses_hold_the_recipient_encoded() {
        let to = Address::parse("Jörg+a&b@example.com").unwrap();
        let by = Placeholders { to: &to, token: "0a", unsubscribe: "1k.b" };
        let expanded = expand_unsubscribe("https://shop.example/u?e={email}&t={token}&u={unsubscribe}&x= é>", &by);
        assert_eq!(expanded, "https://shop.example/u?e=J%C3%B6rg%2Ba%26b%40example.com&t=0a&u=1k.b&x=%20%C3%A9%3E");
    }
}
