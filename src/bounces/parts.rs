//! The parts of a mail (RFC 2046), decoded.
//!
//! `mail-parser` reads the fields and charsets. The walk is our own, for its bounds: that crate nests returned messages
//! as deep as a mail has it, also within base64, and 30,000 levels (900 KB) overflow the stack when they are dropped. A
//! returned message is one part here: nothing in it is looked at but its header.

use std::borrow::Cow;

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::{MessageParser, MimeHeaders};

use super::fields::next_line;

/// Deeper multiparts are taken as text.
const DEEPEST: usize = 8;
/// Parts beyond these are passed over: of one multipart, and of all that are no multiparts.
const MOST_PARTS: usize = 100;
/// So many parts are looked at, multiparts too.
const MOST_WALKED: usize = 1_000;
/// So much of a part's header is read for its MIME fields, in bytes.
const MOST_OF_A_HEADER: usize = 64 * 1024;
/// A longer boundary is none (RFC 2046 §5.1.1 has 70).
const LONGEST_BOUNDARY: usize = 200;

/// One part that is no multipart, its transfer encoding undone.
#[derive(Debug)]
pub struct Part<'a> {
    /// `text/plain`, in lower case; what no field says (RFC 2045 §5.2).
    pub media: String,
    charset: Option<String>,
    pub body: Cow<'a, [u8]>,
}

impl Part<'_> {
    /// The first `most` bytes as text, in the charset that the part names; without one, or with one not known, as UTF-8
    /// whose faults are replaced.
    pub fn text(&self, most: usize) -> String {
        let bytes = &self.body[..self.body.len().min(most)];
        let decoder =
            self.charset.as_ref().filter(|name| !name.is_empty()).and_then(|name| charset_decoder(name.as_bytes()));
        match (std::str::from_utf8(bytes), decoder) {
            (_, Some(decode)) => decode(bytes),
            (Ok(text), None) => text.to_owned(),
            (Err(_), None) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

/// A mail as a tree laid flat.
#[derive(Debug, Default)]
pub struct Parts<'a> {
    /// `multipart/report`, in lower case: what the mail says that it is.
    pub media: String,
    /// The `report-type` of a report, in lower case.
    pub report_type: String,
    /// Whether the mail is a multipart whose boundary stands in it.
    pub is_multipart: bool,
    /// In the order of the mail.
    pub leaves: Vec<Part<'a>>,
    walked: usize,
}

impl<'a> Parts<'a> {
    /// Takes a mail apart. What is cut off is left out; a multipart without its boundary is one part of text.
    pub fn of(mail: &'a [u8]) -> Parts<'a> {
        let mut parts = Parts::default();
        let header = Header::read(mail);
        parts.media = header.media("text/plain");
        parts.report_type = header.attribute("report-type").unwrap_or_default().to_ascii_lowercase();
        parts.is_multipart = parts.walk(header, 0, "text/plain");
        parts
    }

    /// Adds the leaves of a part; whether it was a multipart.
    fn walk(&mut self, header: Header<'a>, depth: usize, default: &str) -> bool {
        self.walked += 1;
        if self.leaves.len() >= MOST_PARTS || self.walked > MOST_WALKED {
            return false;
        }
        let media = header.media(default);
        if media.starts_with("multipart/")
            && depth < DEEPEST
            && let Some(boundary) = header.boundary()
            && let Some(inner) = split(header.body, boundary.as_bytes())
        {
            let default = if media == "multipart/digest" { "message/rfc822" } else { "text/plain" };
            for part in inner {
                self.walk(Header::read(part), depth + 1, default);
            }
            return true;
        }
        let charset = header.attribute("charset").map(str::to_ascii_lowercase);
        self.leaves.push(Part { media, charset, body: header.decoded() });
        false
    }
}

/// The MIME fields of one part.
struct Header<'a> {
    /// `None` without a Content-Type.
    media: Option<String>,
    /// Names in lower case.
    attributes: Vec<(String, String)>,
    encoding: String,
    body: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(part: &'a [u8]) -> Header<'a> {
        let mut body = part;
        while let Some((line, rest)) = next_line(body) {
            body = rest;
            if line.is_empty() {
                break;
            }
        }
        let end = part.len() - body.len();
        let mut header = part[..end.min(MOST_OF_A_HEADER)].to_vec();
        // The last field must have its end, and the header too.
        header.extend_from_slice(b"\n\n");
        let parser = MessageParser::new().with_mime_headers().default_header_raw();
        let parsed = parser.parse_headers(&header);
        let encoding = parsed.as_ref().and_then(|parsed| parsed.content_transfer_encoding()).unwrap_or_default();
        let content_type = parsed.as_ref().and_then(|parsed| parsed.content_type());
        let attributes = content_type.and_then(|content_type| content_type.attributes()).unwrap_or_default().iter();
        Header {
            media: content_type
                .map(|media| format!("{}/{}", media.ctype(), media.subtype().unwrap_or_default()).to_ascii_lowercase()),
            attributes: attributes.map(|one| (one.name.to_ascii_lowercase(), one.value.clone().into_owned())).collect(),
            encoding: encoding.trim().to_ascii_lowercase(),
            body,
        }
    }

    fn media(&self, default: &str) -> String {
        self.media.clone().unwrap_or_else(|| default.to_owned())
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value.trim())
    }

    fn boundary(&self) -> Option<String> {
        let boundary = self.attribute("boundary")?.to_owned();
        (!boundary.is_empty() && boundary.len() <= LONGEST_BOUNDARY).then_some(boundary)
    }

    fn decoded(&self) -> Cow<'a, [u8]> {
        match self.encoding.as_str() {
            "base64" => {
                // What a gateway adds below is no base64.
                let is_part =
                    |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=') || b.is_ascii_whitespace();
                let end = self.body.iter().position(|b| !is_part(b)).unwrap_or(self.body.len());
                base64_decode(&self.body[..end]).map_or(Cow::Borrowed(self.body), Cow::Owned)
            }
            "quoted-printable" => Cow::Owned(quoted_printable(self.body)),
            _ => Cow::Borrowed(self.body),
        }
    }
}

/// What stands between the lines of a boundary; `None` when there is none. What comes after the last is left out, but for
/// a part whose end is missing.
fn split<'a>(body: &'a [u8], boundary: &[u8]) -> Option<Vec<&'a [u8]>> {
    let mut parts = Vec::new();
    let mut begun_at = None;
    let mut rest = body;
    while let Some((line, after)) = next_line(rest) {
        let at = body.len() - rest.len();
        rest = after;
        let Some(end) = line.strip_prefix(b"--").and_then(|line| line.strip_prefix(boundary)) else { continue };
        let end = end.trim_ascii_end();
        if !end.is_empty() && end != b"--" {
            continue;
        }
        if let Some(begun_at) = begun_at {
            parts.push(&body[begun_at..at]);
        }
        begun_at = end.is_empty().then(|| body.len() - rest.len());
        if begun_at.is_none() || parts.len() >= MOST_PARTS {
            return Some(parts);
        }
    }
    parts.push(&body[begun_at?..]);
    Some(parts)
}

/// Undoes quoted-printable (RFC 2045 §6.7); what is none stays as it is.
fn quoted_printable(body: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(body.len());
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut rest = body;
    while let Some((line, after)) = next_line(rest) {
        rest = after;
        let mut line = line.trim_ascii_end();
        let soft = line.strip_suffix(b"=");
        let goes_on = soft.is_some();
        line = soft.unwrap_or(line);
        while let Some((&byte, more)) = line.split_first() {
            line = more;
            match (byte, more) {
                (b'=', [high, low, more @ ..]) => match (digit(*high), digit(*low)) {
                    (Some(high), Some(low)) => {
                        decoded.extend(u8::try_from(high * 16 + low));
                        line = more;
                    }
                    _ => decoded.push(byte),
                },
                _ => decoded.push(byte),
            }
        }
        if !goes_on {
            decoded.push(b'\n');
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(mail: &str) -> Vec<(String, String)> {
        let parts = Parts::of(mail.as_bytes());
        parts.leaves.iter().map(|part| (part.media.clone(), part.text(1000).trim().to_owned())).collect()
    }

    fn pair(media: &str, text: &str) -> (String, String) {
        (media.into(), text.into())
    }

    #[test]
    fn parts_are_found_and_decoded() {
        let mail = "Content-Type: multipart/mixed; boundary=\"a b\"\n\nabove\n--a b\n\none\n--a b  \nContent-Type: multipart/alternative;\n boundary=c\n\n--c\nContent-Type: TEXT/html\nContent-Transfer-Encoding: base64\n\ndHdv\n_footer_\n--c--\nbelow\n--a b\nContent-Type: message/delivery-status\nContent-Transfer-Encoding: Quoted-Printable\n\nthr=\nee =3D=zz\n--a b--\nafter\n";
        let expected =
            [pair("text/plain", "one"), pair("text/html", "two"), pair("message/delivery-status", "three ==zz")];
        assert_eq!(leaves(mail), expected);
        assert_eq!(leaves(&mail.replace('\n', "\r\n")), expected);
    }

    #[test]
    fn what_is_cut_off_or_has_no_boundary_is_read_as_far_as_it_goes() {
        let cut =
            "Content-Type: multipart/report; boundary=a\n\n--a\n\none\n--a\nContent-Type: message/rfc822\n\nSubject: x";
        assert_eq!(leaves(cut), [pair("text/plain", "one"), pair("message/rfc822", "Subject: x")]);
        let none = "Content-Type: multipart/report; boundary=a\n\n--b\n\none\n";
        assert_eq!(leaves(none), [pair("multipart/report", "--b\n\none")]);
        assert!(!Parts::of(none.as_bytes()).is_multipart);
        assert_eq!(leaves(""), [pair("text/plain", "")]);
    }

    #[test]
    fn charsets_are_decoded_and_an_unknown_one_does_no_harm() {
        let mail = |charset: &str, text: &[u8]| {
            let head = format!("Content-Type: text/plain; charset={charset}\n\n");
            Parts::of(&[head.as_bytes(), text].concat()).leaves[0].text(100)
        };
        assert_eq!(mail("iso-8859-1", b"m\xfcde"), "müde");
        assert_eq!(mail("utf-8", "müde".as_bytes()), "müde");
        assert_eq!(mail("x-unknown", b"m\xfcde"), "m\u{fffd}de");
    }

    #[test]
    fn deep_and_many_parts_are_bounded() {
        let mut deep = String::new();
        for level in 0..50_000 {
            deep += &format!("Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n");
        }
        assert_eq!(Parts::of(deep.as_bytes()).leaves.len(), 1);
        let nested = "Content-Type: message/rfc822\n\n".repeat(100_000);
        assert_eq!(Parts::of(nested.as_bytes()).leaves.len(), 1);
        let many = format!("Content-Type: multipart/mixed; boundary=b\n\n{}", "--b\n\nx\n".repeat(100_000));
        assert_eq!(Parts::of(many.as_bytes()).leaves.len(), MOST_PARTS);
    }
}
