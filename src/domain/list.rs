//! Lists: the kinds of mail that a person can leave one by one.

/// Mail about carts.
pub const CARTS: &str = "cart";
/// Campaigns that name no list.
pub const CAMPAIGNS: &str = "news";
/// In the suppression list: mail of every kind.
pub const ALL: &str = "";

/// The longest label of a domain (RFC 1035 §2.3.4), in characters.
const LONGEST_NAME: usize = 63;

/// Whether a text can name a list: it is a label of its List-Id (RFC 2919 §2), in small letters.
pub fn is_name(text: &str) -> bool {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=LONGEST_NAME).contains(&text.len())
        && text.chars().all(sound)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The value of List-Id: what people read, and what programs tell lists apart by (RFC 2919 §3).
pub fn id(list: &str, domain: &str) -> String {
    let spoken = match list {
        CARTS => "Cart reminders".to_owned(),
        other => {
            let words = other.replace('-', " ");
            let (first, rest) = words.split_at(words.len().min(1));
            format!("{}{rest}", first.to_ascii_uppercase())
        }
    };
    format!("{spoken} <{list}.{domain}>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_an_id_that_people_can_read() {
        assert_eq!(id(CARTS, "shop.example"), "Cart reminders <cart.shop.example>");
        assert_eq!(id("new-in-store", "shop.example"), "New in store <new-in-store.shop.example>");
        for (name, sound) in [
            ("news", true),
            ("n", true),
            ("", false),
            ("-x", false),
            ("x-", false),
            ("News", false),
            ("a.b", false),
            ("a b", false),
        ] {
            assert_eq!(is_name(name), sound, "{name:?}");
        }
    }
}
