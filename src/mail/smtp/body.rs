//! The message as it stands on the wire, and what must never get there.

use crate::mail::session::Outgoing;

/// The final dot, and mostly the next envelope, so that nothing is moved to make room for them.
const ROOM_FOR_ENVELOPE: usize = 256;

/// Says why a message cannot be given to any server; `None` when it can.
///
/// Bare CR and LF are not sent (RFC 5321 §2.3.8): a server that takes them for line ends could see a dot line where
/// there is none, and so a second message. Octets beyond ASCII would need 8BITMIME.
pub(super) fn unfit(outgoing: &Outgoing) -> Option<String> {
    if outgoing.envelope_from.chars().any(|c| c.is_control() || c.is_whitespace() || "<>".contains(c)) {
        return Some(format!("not sent: {:?} cannot be an envelope sender", outgoing.envelope_from));
    }
    // SMTPUTF8 (RFC 6531 §3.2), which such a recipient needs anyway, lets headers hold UTF-8.
    let utf8_allowed = outgoing.recipient.needs_smtputf8() && std::str::from_utf8(&outgoing.bytes).is_ok();
    if !outgoing.bytes.is_ascii() && !utf8_allowed {
        return Some("not sent: the message holds octets that are not ASCII".to_owned());
    }
    let text = std::str::from_utf8(&outgoing.bytes).unwrap_or("\r");
    let octets = text.as_bytes();
    let bare = memchr::memchr2_iter(b'\r', b'\n', octets).any(|at| match octets[at] {
        b'\r' => octets.get(at + 1) != Some(&b'\n'),
        _ => at == 0 || octets[at - 1] != b'\r',
    });
    bare.then(|| "not sent: the message holds a bare CR or LF".to_owned())
}

/// The octets that SIZE counts (RFC 1870 §5): every one but stuffed dots and the final dot.
pub(super) fn size(outgoing: &Outgoing) -> usize {
    outgoing.bytes.len() + if outgoing.bytes.ends_with(b"\r\n") { 0 } else { 2 }
}

/// Everything from the body's first octet to the final dot (RFC 5321 §4.5.2).
pub(super) fn with_dot(outgoing: &Outgoing) -> Vec<u8> {
    let text = &outgoing.bytes[..];
    let mut wire = Vec::with_capacity(text.len() + text.len() / 64 + ROOM_FOR_ENVELOPE);
    let mut copied = 0;
    let begins_line = |at: &usize| *at == 0 || text[*at - 1] == b'\n';
    for dot in memchr::memchr_iter(b'.', text).filter(begins_line) {
        wire.extend_from_slice(&text[copied..dot]);
        wire.push(b'.');
        copied = dot;
    }
    wire.extend_from_slice(&text[copied..]);
    if !wire.ends_with(b"\r\n") {
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::address::Address;

    fn outgoing(bytes: &[u8]) -> Outgoing {
        Outgoing {
            envelope_from: "shop@example.com".to_owned(),
            recipient: Address::parse("ada@example.com").unwrap(),
            bytes: bytes.to_vec(),
            token: "t".to_owned(),
        }
    }

    #[test]
    fn a_dot_that_begins_a_line_is_doubled_and_the_body_ends_with_crlf() {
        for (bytes, wire) in [
            (&b"a\r\n"[..], "a\r\n.\r\n"),
            (b"a", "a\r\n.\r\n"),
            (b"", "\r\n.\r\n"),
            (b".\r\n", "..\r\n.\r\n"),
            (b"a\r\n.\r\n..b\r\nc.\r\n", "a\r\n..\r\n...b\r\nc.\r\n.\r\n"),
            (b"a\r\n.", "a\r\n..\r\n.\r\n"),
        ] {
            assert_eq!(with_dot(&outgoing(bytes)), wire.as_bytes());
        }
    }

    #[test]
    fn size_counts_the_added_line_end_but_no_stuffing() {
        assert_eq!(size(&outgoing(b".\r\n")), 3);
        assert_eq!(size(&outgoing(b"a")), 3);
    }

    #[test]
    fn a_message_that_could_be_taken_for_two_is_unfit() {
        for bytes in [&b"a\n.\r\n"[..], b"a\r.\r\n", b"\n", b"a\r", b"a\r\r\nb", b"\xc3\xa4\r\n"] {
            assert!(unfit(&outgoing(bytes)).is_some(), "{bytes:?}");
        }
        assert_eq!(unfit(&outgoing(b"a\r\n\r\nb\r\n")), None);
        for sender in ["a@b>\r\nRCPT TO:<c@d", "a b@c", "a\u{a0}@c", "<a@b>"] {
            let outgoing = Outgoing { envelope_from: sender.to_owned(), ..outgoing(b"a\r\n") };
            assert!(unfit(&outgoing).is_some(), "{sender:?}");
        }
    }
}
