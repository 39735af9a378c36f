//! What must happen once, and the names derived from it.

use sha2::{Digest, Sha256};

use super::instant::{self, Instant};

/// Digits.
const SHORT_ID: usize = 8;

/// The key of a cart message: `cart/<identity>/<cart_hash>/<episode created_at>`.
pub fn cart(identity: &str, cart_hash: &str, created_at: Instant) -> String {
    format!("cart/{identity}/{cart_hash}/{}", instant::text(created_at))
}

/// The key of a later step of an episode: `<key of its first message>/<step name>`.
pub fn step(episode: &str, name: &str) -> String {
    format!("{episode}/{name}")
}

/// The key of a campaign message: `campaign/<id>/<planned_at>/<folded address>`.
pub fn campaign(campaign_id: &str, planned_at: Instant, folded_address: &str) -> String {
    format!("campaign/{campaign_id}/{}/{folded_address}", instant::text(planned_at))
}

/// The token of a message: 32 hex digits, the same on every attempt and different in every ledger.
///
/// It names the file an `outbox` holds, the Message-ID and, where configured, the envelope sender.
pub fn token(ledger_id: &str, message_key: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(ledger_id.as_bytes());
    digest.update([0]);
    digest.update(message_key.as_bytes());
    hex(&digest.finalize()[..16])
}

/// The Message-ID header of a message (RFC 5322 §3.6.4), with its angle brackets.
pub fn message_id(token: &str, sender_domain: &str) -> String {
    format!("<{token}@{sender_domain}>")
}

/// Lower-case hexadecimal digits of some bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        text
    })
}

/// The bytes that so many hexadecimal digits stand for; `None` for any other text.
pub fn bytes_of_hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let digits = Some(digits.as_bytes()).filter(|digits| digits.len() == 2 * N)?;
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
        *byte = (high? << 4 | low?) as u8;
    }
    Some(bytes)
}

/// The token inside a Message-ID that [`message_id`] made.
pub fn token_of(message_id: &str) -> &str {
    message_id.trim_start_matches('<').split('@').next().unwrap_or_default()
}

/// How people name a message: the first 8 digits of its token.
pub fn short_id(message_id: &str) -> &str {
    let token = token_of(message_id);
    token.get(..SHORT_ID).unwrap_or(token)
}

/// Whether a text can be the beginning of a token that tells messages apart.
pub fn is_short_id(name: &str) -> bool {
    (SHORT_ID..=32).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
