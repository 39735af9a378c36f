//! What of a name a page shows: it is kept longer and read by more people than the ledger.

use super::tally::Tally;
use crate::domain::address;

/// How much of a cart's id is shown, of its end: more of it may open the cart in the shop, and ids that a shop counts up, or
/// makes of the time, begin alike.
const CART_ID_SHOWN: usize = 6;

/// Whether people, carts and what servers said of them are shown as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    Masked,
    Shown,
}

impl Names {
    /// `a…@example.com`, or `a…@…` at a domain that few people have. Of what is no address, the first letter.
    pub fn address(self, address: &str, tally: &Tally) -> String {
        if self == Names::Shown {
            return address.to_owned();
        }
        let first = address.chars().next().map(String::from).unwrap_or_default();
        match address.rsplit_once('@') {
            Some((_, domain)) if tally.is_named(domain) => format!("{first}…@{domain}"),
            Some(_) => format!("{first}…@…"),
            None => format!("{first}…"),
        }
    }

    /// A shopper by the address, else by who the shop says it is.
    pub fn shopper(self, identity: &str, email: Option<&str>, tally: &Tally) -> String {
        match (email.filter(|email| !email.trim().is_empty()), identity.strip_prefix("u:")) {
            (Some(email), _) => self.address(email.trim(), tally),
            (None, Some(user)) if self == Names::Shown => format!("user {user}"),
            (None, Some(_)) => "a user".to_owned(),
            (None, None) => self.address(identity.strip_prefix("e:").unwrap_or(identity), tally),
        }
    }

    /// `…a01bc9`; a short id as it is.
    pub fn cart(self, cart_id: &str) -> String {
        self.cart_from(cart_id, 0)
    }

    /// What each of these carts is called, so that no two are called the same: those that end alike show as much of their
    /// beginning as tells them apart.
    pub fn carts(self, cart_ids: &[&str]) -> Vec<String> {
        let ends: Vec<String> = cart_ids.iter().map(|id| self.cart(id)).collect();
        let called = |(id, end): (&&str, &String)| {
            let others = cart_ids.iter().zip(&ends).filter(|(other, of_other)| *other != id && *of_other == end);
            let begins: Vec<&&str> = others.map(|(other, _)| other).collect();
            let tells =
                |shown: &usize| !begins.iter().any(|other| other.chars().take(*shown).eq(id.chars().take(*shown)));
            let begin = if begins.is_empty() { 0 } else { (1..=id.chars().count()).find(tells).unwrap_or(usize::MAX) };
            self.cart_from(id, begin)
        };
        cart_ids.iter().zip(&ends).map(called).collect()
    }

    /// With so many characters of its beginning.
    fn cart_from(self, cart_id: &str, begin: usize) -> String {
        let hidden = cart_id.chars().count().saturating_sub(CART_ID_SHOWN).saturating_sub(begin);
        if self == Names::Shown || hidden == 0 {
            return cart_id.to_owned();
        }
        let shown = cart_id.chars().take(begin).chain(['…']);
        shown.chain(cart_id.chars().skip(begin + hidden)).collect()
    }

    /// What a server said: without any address, nor the parts of the one it was about, in whatever spelling.
    pub fn reply(self, reply: &str, recipient: &str) -> String {
        if self == Names::Shown {
            return reply.to_owned();
        }
        let mut shown = reply.to_owned();
        let (local, domain) = recipient.rsplit_once('@').unwrap_or((recipient, ""));
        for (part, instead) in [(recipient, "…@…"), (local, "…"), (domain, "…")] {
            shown = without(&shown, part, instead);
        }
        without_addresses(&shown)
    }

    /// What mailonce says itself, in which an address or the id of a cart may stand.
    pub fn prose(self, line: &str) -> String {
        if self == Names::Shown {
            return line.to_owned();
        }
        let mut words: Vec<String> = Vec::new();
        for word in without_addresses(line).split(' ') {
            let of_a_cart = words.last().is_some_and(|before| before.ends_with("cart"));
            let id = word.trim_end_matches([',', ':', ';', '.', ')']);
            match of_a_cart {
                true => words.push(format!("{}{}", self.cart(id), &word[id.len()..])),
                false => words.push(word.to_owned()),
            }
        }
        words.join(" ")
    }
}

/// The text with a part of it replaced, wherever it stands as a word of its own, in any case.
fn without(text: &str, part: &str, instead: &str) -> String {
    if part.chars().count() < 2 {
        return text.to_owned();
    }
    let (lower, part) = (text.to_ascii_lowercase(), part.to_ascii_lowercase());
    let (mut shown, mut done) = (String::with_capacity(text.len()), 0);
    for (at, found) in lower.match_indices(&part) {
        let end = at + found.len();
        let is_whole =
            !lower[..at].ends_with(char::is_alphanumeric) && !lower[end..].starts_with(char::is_alphanumeric);
        if is_whole {
            shown.push_str(&text[done..at]);
            shown.push_str(instead);
            done = end;
        }
    }
    shown + &text[done..]
}

/// The text with `…@…` for each address in it, also for one in a link.
fn without_addresses(text: &str) -> String {
    let masked = address::masked(text);
    let mut words = Vec::new();
    for word in masked.split(' ') {
        let lower = word.to_ascii_lowercase();
        if !lower.contains('@') && !lower.contains("%40") {
            words.push(word.to_owned());
            continue;
        }
        let core = word.trim_start_matches(['<', '(', '[', '{', '"', '\'']);
        let before = &word[..word.len() - core.len()];
        let core_end = core.trim_end_matches(['>', ')', ']', '}', '"', '\'', ':', ';', ',', '.', '!', '?']).len();
        words.push(format!("{before}…@…{}", &core[core_end..]));
    }
    words.join(" ")
}

/// A text that stays where it is put, on a page and on a terminal: on one line, at most so many characters long, without what
/// turns the direction of writing, is not seen, or steers.
pub fn plain(text: &str, most: usize) -> String {
    let misleads = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    };
    let one = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if misleads(c) => '\u{fffd}',
        c => c,
    };
    let mut shown: String = text.chars().take(most).map(one).collect();
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reply_tells_whom_it_was_about() {
        let about = "ada.lovelace+x@example.com";
        for (reply, shown) in [
            ("550 5.1.1 <ada.lovelace+x@example.com>: no", "550 5.1.1 <…@…>: no"),
            ("550 5.1.1 Ada.Lovelace+X@EXAMPLE.com unknown", "550 5.1.1 …@… unknown"),
            ("550 user ada.lovelace+x is unknown here", "550 user … is unknown here"),
            ("550 host example.com said no", "550 host … said no"),
            ("550 see https://x.example/?e=bob%40other.example now", "550 see …@… now"),
            ("550 forwarded to \"bob love\"@other.example, who left", "550 forwarded to \"…@…, who left"),
            ("550 bounce+ada.lovelace+x=example.com@mx", "550 …@…"),
            ("451 4.7.1 try later", "451 4.7.1 try later"),
        ] {
            assert_eq!(Names::Masked.reply(reply, about), shown);
            assert_eq!(Names::Shown.reply(reply, about), reply);
        }
    }

    #[test]
    fn names_are_short_unless_they_are_asked_for() {
        let tally = Tally::new(Names::Masked);
        assert_eq!(Names::Masked.address("ada@example.com", &tally), "a…@…");
        assert_eq!(Names::Masked.address("ada lovelace", &tally), "a…");
        assert_eq!(Names::Masked.shopper("u:17", None, &tally), "a user");
        assert_eq!(Names::Masked.shopper("e:ada@example.com", Some(" "), &tally), "a…@…");
        assert_eq!(Names::Shown.shopper("u:17", None, &tally), "user 17");
        assert_eq!(Names::Masked.cart("4f2a01bc9"), "…a01bc9");
        assert_eq!(Names::Masked.cart("104233"), "104233");
        assert_eq!(Names::Masked.prose("cart 4f2a01bc9: no price (ada@example.com)"), "cart …a01bc9: no price (…@…)");
    }

    #[test]
    fn no_two_carts_are_called_the_same_and_no_more_of_them_is_shown_than_that_takes() {
        let ids = ["cart-b0012", "cart-b0013", "17-basket-000001", "12-basket-000001", "ab123456789", "xb123456789"];
        let called = ["…-b0012", "…-b0013", "17…000001", "12…000001", "a…456789", "x…456789"];
        assert_eq!(Names::Masked.carts(&ids), called);
        let begin_and_end_alike = ["123456", "9123456", "99123456"];
        assert_eq!(Names::Masked.carts(&begin_and_end_alike), begin_and_end_alike);
        assert_eq!(Names::Shown.carts(&ids), ids);
    }

    #[test]
    fn a_text_neither_turns_nor_hides_nor_runs_on() {
        assert_eq!(plain("a\u{202e}b\u{0}c\nd\u{200b}", 80), "a\u{fffd}b\u{fffd}c d\u{fffd}");
        assert_eq!(plain(&"x".repeat(10_000), 10), format!("{}…", "x".repeat(10)));
        assert_eq!(plain("München 東京", 80), "München 東京");
    }
}
