//! Who a shopper is: the id that a shop gives, and the words that shops write where they have none.

use super::absent::stands_for_nothing;
use super::address::Address;

/// What shops write as the user of a cart that belongs to none.
const GUESTS: [&str; 14] = [
    "0",
    "-1",
    "false",
    "guest",
    "guests",
    "guest_user",
    "guest user",
    "anonymous",
    "anonymous user",
    "anon",
    "unknown",
    "visitor",
    "not logged in",
    "00000000-0000-0000-0000-000000000000",
];

/// The one spelling of a user id; `None` when the text stands for a guest.
///
/// White space around it means nothing, nor does a fraction of zeros: `7`, ` 7` and `7.0` (as spreadsheets and data tools
/// write a whole number) are one user. Everything else tells users apart, a leading zero too: `07` is another than `7`.
pub fn user(text: &str) -> Option<&str> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || c == '\u{200b}');
    let text = without_fraction(text);
    let is_guest = text.is_empty()
        || stands_for_nothing(text)
        || GUESTS.iter().any(|word| word.eq_ignore_ascii_case(text))
        || text.trim_start_matches('-').bytes().all(|b| b == b'0');
    (!is_guest).then_some(text)
}

/// A whole number without a fraction of zeros, as data tools write one: `7.0` is `7`. Any other text as it is.
pub fn without_fraction(text: &str) -> &str {
    let whole = text.split_once('.').filter(|(whole, zeros)| {
        let digits = whole.strip_prefix('-').unwrap_or(whole);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && zeros.bytes().all(|b| b == b'0')
    });
    whole.map_or(text, |(whole, _)| whole)
}

/// The identity of a shopper: `u:` and the user id, or `e:` and the folded address for a guest.
pub fn identity(user_id: Option<&str>, email: &Address) -> String {
    match user_id.and_then(user) {
        Some(user_id) => format!("u:{user_id}"),
        None => format!("e:{}", email.folded()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_spelling() {
        for text in ["7", " 7", "7.0", "7.", "7.000 ", "\u{feff}7"] {
            assert_eq!(user(text), Some("7"), "{text:?}");
        }
        for text in ["07", "7.5", "7a", "7.0.0", "u7.0", "-7"] {
            assert_eq!(user(text), Some(text), "{text:?}");
        }
    }

    #[test]
    fn words_for_no_user_are_guests() {
        for text in [
            "",
            " ",
            "0",
            "0.0",
            "00",
            "-1",
            "-1.0",
            "NULL",
            "null",
            "\\N",
            "None",
            "NaN",
            "guest",
            "Anonymous",
            "N/A",
            "-",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert_eq!(user(text), None, "{text:?}");
            let email = Address::parse("Ada@example.com").unwrap();
            assert_eq!(identity(Some(text), &email), "e:ada@example.com");
        }
    }
}
