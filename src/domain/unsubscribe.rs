//! The tokens of unsubscribe links: opaque, signed, and without an address in them (RFC 8058 §3.1).
//!
//! `1`, the id of the key, the 32 hex digits that the Message-ID begins with, the message's row in base 36, a dot, and 20
//! hex digits of a MAC: 56 to 68 characters of `0-9a-z.`. Only who holds a key can make one, so only who was sent a message,
//! or saw it, can have its recipient taken off the list.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::message_key::{bytes_of_hex, hex};

/// What is signed begins with this, so that a key signs nothing else by accident.
const PURPOSE: &str = "mailonce unsubscribe ";
const VERSION: char = '1';
/// Digits of the MAC: its first 80 bits.
const MAC_DIGITS: usize = 20;
const KEY_BYTES: usize = 32;
/// Rows of a table are numbered from 1; a test and a preview have none.
const NO_ROW: i64 = 0;

/// What someone leaves who asks to get no more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All mail of this ledger.
    #[default]
    All,
    /// The list of the message that they answered.
    List,
}

/// What a genuine token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// 32 hex digits, as in the Message-ID.
    pub message: String,
    /// The message's row.
    pub row: i64,
}

impl Token {
    /// Of a test or a preview, which no ledger knows.
    pub fn is_of_a_test(&self) -> bool {
        self.row == NO_ROW
    }
}

/// One key: its id, `0-9a-z`, and 256 bits.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    id: char,
    secret: [u8; KEY_BYTES],
}

/// Why a text is no token that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotGenuine {
    /// It has not the form of one.
    NoToken,
    /// No key signed it.
    Forged,
    /// It names a key that is not here: the file of the keys is an older one, or a part of it was lost.
    UnknownKey,
}

/// The keys: the first signs, all verify. Links must work for at least 30 days after the last mail that has them, so a key is
/// put before the others and none is taken away.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| key.id)).finish()
    }
}

impl Keys {
    /// Reads the lines `<id> <64 hex digits>`.
    ///
    /// # Errors
    /// The number of a line that is none, or an id that is there twice; also when there is no key. No key is told.
    pub fn parse(text: &str) -> Result<Keys, String> {
        let mut keys: Vec<Key> = Vec::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let key = line.trim_end().split_once(' ').and_then(|(id, digits)| {
                let mut characters = id.chars();
                let id = characters.next().filter(|id| is_key_id(*id) && characters.next().is_none())?;
                Some(Key { id, secret: bytes_of_hex(digits)? })
            });
            let key = key.ok_or_else(|| format!("line {} is not one of 0-9a-z, a blank and 64 hex digits", at + 1))?;
            if keys.iter().any(|known| known.id == key.id) {
                return Err(format!("line {} has the id {} for the second time", at + 1, key.id));
            }
            keys.push(key);
        }
        if keys.is_empty() { Err("it holds no key".into()) } else { Ok(Keys(keys)) }
    }

    /// One key alone, of random bytes.
    pub fn new(secret: [u8; KEY_BYTES]) -> Keys {
        Keys(vec![Key { id: '0', secret }])
    }

    /// A key before the others, which signs from now on; `None` when all 36 ids are taken.
    pub fn with_new(&self, secret: [u8; KEY_BYTES]) -> Option<Keys> {
        let newest = self.0.first().map_or('z', |key| key.id);
        let after = ('0'..='9').chain('a'..='z').cycle().skip_while(|id| *id != newest).skip(1).take(36);
        let id = { after }.find(|id| self.0.iter().all(|key| key.id != *id))?;
        Some(Keys([vec![Key { id, secret }], self.0.clone()].concat()))
    }

    /// The lines of their file.
    pub fn lines(&self) -> String {
        self.0.iter().fold(String::new(), |lines, key| lines + &format!("{} {}\n", key.id, hex(&key.secret)))
    }

    /// The token of a message.
    pub fn sign(&self, message: &str, row: i64) -> String {
        let key = &self.0[0];
        let signed = format!("{VERSION}{}{message}{}", key.id, base36(row.max(NO_ROW)));
        let mac = hex(&key.mac(&signed).finalize().into_bytes()[..MAC_DIGITS / 2]);
        format!("{signed}.{mac}")
    }

    /// The token of a test or a preview.
    pub fn sign_test(&self, message: &str) -> String {
        self.sign(message, NO_ROW)
    }

    /// What a token says, if one of these keys signed it; compared in constant time.
    pub fn verify(&self, text: &str) -> Result<Token, NotGenuine> {
        let parts = is_token(text).then(|| text.split_once('.')).flatten();
        let (signed, digits) = parts.ok_or(NotGenuine::NoToken)?;
        let key = self.0.iter().find(|key| signed[1..].starts_with(key.id)).ok_or(NotGenuine::UnknownKey)?;
        let mac: [u8; MAC_DIGITS / 2] = bytes_of_hex(digits).ok_or(NotGenuine::NoToken)?;
        key.mac(signed).verify_truncated_left(&mac).map_err(|_| NotGenuine::Forged)?;
        let row = i64::from_str_radix(&signed[34..], 36).map_err(|_| NotGenuine::Forged)?;
        Ok(Token { message: signed[2..34].to_owned(), row })
    }
}

impl Key {
    fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.secret).expect("a MAC takes a key of any length");
        mac.update(PURPOSE.as_bytes());
        mac.update(signed.as_bytes());
        mac
    }
}

fn is_key_id(c: char) -> bool {
    c.is_ascii_digit() || c.is_ascii_lowercase()
}

/// Whether a text has the form of a token, genuine or not. It is a plain file name then.
pub fn is_token(text: &str) -> bool {
    let Some((signed, mac)) = text.split_once('.') else { return false };
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    text.is_ascii()
        && (35..=47).contains(&signed.len())
        && signed.starts_with(VERSION)
        && signed[1..2].chars().all(is_key_id)
        && is_hex(&signed[2..34])
        && signed[34..].chars().all(is_key_id)
        && mac.len() == MAC_DIGITS
        && is_hex(mac)
}

/// A number that is not negative, in the digits `0-9a-z`; the inverse is [`i64::from_str_radix`].
pub fn base36(mut number: i64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit((number % 36) as u32, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MESSAGE: &str = "00112233445566778899aabbccddeeff";

    fn keys() -> Keys {
        Keys::new([7; 32])
    }

    #[test]
    fn a_token_is_what_other_programs_make_of_the_same_key() {
        // printf 'mailonce unsubscribe 1000112233445566778899aabbccddeeff2a' |
        //   openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…07, the first 20 digits
        let token = keys().sign(MESSAGE, 2 * 36 + 10);
        assert_eq!(token, format!("10{MESSAGE}2a.9703e7ec7251bbc24d51"));
        assert_eq!(keys().verify(&token), Ok(Token { message: MESSAGE.into(), row: 82 }));
        let longest = keys().sign(MESSAGE, i64::MAX);
        assert_eq!((token.len(), longest.len()), (57, 68));
        assert_eq!(keys().verify(&longest).map(|token| token.row), Ok(i64::MAX));
    }

    #[test]
    fn a_key_goes_before_the_others_and_all_verify() {
        let mut all = keys();
        let first = all.sign(MESSAGE, 1);
        for turn in 1..36 {
            all = all.with_new([turn; 32]).expect("an id is free");
            assert_eq!(all.verify(&first).map(|token| token.row), Ok(1));
            assert!(!all.sign(MESSAGE, 1).starts_with("10"), "the new key signs");
            assert_eq!(Keys::parse(&all.lines()).as_ref(), Ok(&all));
        }
        assert_eq!(all.with_new([0; 32]), None);
        assert!(!format!("{all:?}").contains("0707"));
    }

    #[test]
    fn files_that_hold_no_keys_are_refused_without_their_words() {
        let key = "a".repeat(64);
        for (text, problem) in [
            (String::new(), "no key"),
            (format!("0 {key}\n0 {key}\n"), "line 2 has the id 0"),
            (format!("0 {key}\n1 {key}0\n"), "line 2 is not"),
            (format!("A {key}\n"), "line 1 is not"),
            (format!("{key}\n"), "line 1 is not"),
        ] {
            let err = Keys::parse(&text).unwrap_err();
            assert!(err.contains(problem) && !err.contains("aaaa"), "{text:?}: {err}");
        }
        assert!(Keys::parse(&format!("0 {}\r\n\n", "A".repeat(64))).is_ok());
    }

    proptest! {
        #[test]
        fn no_token_that_differs_in_one_place_is_genuine(row in 0..i64::MAX, at in 0_usize..68, with in "[0-9a-z.]") {
            let token = keys().sign(MESSAGE, row);
            let at = at % token.len();
            let forged = format!("{}{with}{}", &token[..at], &token[at + 1..]);
            prop_assert_eq!(keys().verify(&forged).is_ok(), forged == token);
            prop_assert_eq!(Keys::new([8; 32]).verify(&token), Err(NotGenuine::Forged));
        }

        #[test]
        fn no_text_is_taken_for_a_token_and_none_breaks_the_reader(text in "\\PC{0,80}") {
            prop_assert!(keys().verify(&text).is_err());
        }

        #[test]
        fn base_36_is_read_back(row in 0..i64::MAX) {
            prop_assert_eq!(i64::from_str_radix(&base36(row), 36), Ok(row));
        }
    }
}
