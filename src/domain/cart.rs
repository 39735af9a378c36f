//! A shopping cart as a source reads it, and what identifies an abandonment of it.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use sha2::{Digest, Sha256};

use super::address::Address;
use super::identity::{self, identity};
use super::instant::Instant;
use super::money::{Currency, Money, Price, Quantity};

/// One line of a cart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CartLine {
    pub sku: String,
    pub name: String,
    /// More than 0.
    pub quantity: Quantity,
    /// In the cart's currency; `None` when the shop does not say.
    pub unit_price: Option<Price>,
    pub image_url: Option<String>,
    pub url: Option<String>,
}

impl CartLine {
    /// What the line costs, rounded to the currency; `None` when it has no price, or when that does not fit.
    pub fn total(&self) -> Option<Money> {
        self.unit_price?.times(self.quantity)
    }
}

/// A cart as the shop holds it at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cart {
    pub cart_id: String,
    /// As the shop spells it; `None` for a guest.
    pub user_id: Option<String>,
    pub email: Address,
    pub name: Option<String>,
    pub currency: Currency,
    pub created_at: Option<Instant>,
    pub updated_at: Instant,
    pub recovery_url: Option<String>,
    /// Whether the shopper agreed to such mail; `None` when the shop does not say.
    pub consent: Option<bool>,
    /// Whose clock the shopper goes by; `None` when the shop does not say.
    pub timezone: Option<Tz>,
    /// When this very cart was ordered, where the source says it in the cart's own row (JSON Lines, CSV).
    pub ordered_at: Option<Instant>,
    /// Empty when the shopper emptied the cart.
    pub lines: Vec<CartLine>,
}

impl Cart {
    /// Who abandoned it: `u:` and the user id, or `e:` and the folded address for a guest.
    pub fn identity(&self) -> String {
        identity(self.user_id.as_deref(), &self.email)
    }

    /// Identity and folded address as versions up to 0.1 wrote them for the same spelling, where either is another now: a
    /// mail that such a version sent must not become unknown. A guest's identity was shared by all (`u:0`), so it is
    /// not looked for: the address finds the mail.
    pub fn formerly(&self) -> Option<(String, String)> {
        let folded = self.email.formerly_folded();
        let spelled = self.user_id.as_deref().filter(|id| identity::user(id).is_some_and(|user| user != *id));
        if folded.is_none() && spelled.is_none() {
            return None;
        }
        let folded = folded.unwrap_or(self.email.folded()).to_owned();
        let identity = match (spelled, self.user_id.as_deref().and_then(identity::user)) {
            (Some(spelled), _) => format!("u:{spelled}"),
            (None, Some(user)) => format!("u:{user}"),
            (None, None) => format!("e:{folded}"),
        };
        Some((identity, folded))
    }

    /// Whether a message planned for this identity and folded address, perhaps by an older version, is for this cart's
    /// owner.
    pub fn is_of(&self, planned_identity: &str, folded_address: &str) -> bool {
        let today = (self.identity(), self.email.folded().to_owned());
        // Older versions took a word for a guest, such as 0, for a user.
        let was_guest = planned_identity.strip_prefix("u:").is_some_and(|user| identity::user(user).is_none());
        [Some(today), self.formerly()].into_iter().flatten().any(|(identity, folded)| {
            folded == folded_address && (identity == planned_identity || (was_guest && identity.starts_with("e:")))
        })
    }

    /// Counts orders at least since `at`: its shop may not say when it was created, and it was touched since.
    pub fn counts_orders_from(&mut self, at: Instant) {
        self.created_at = Some(self.created_at.map_or(at, |created_at| created_at.min(at)));
    }

    /// What the shopper chose: `v1:` and SHA-256 over SKU and quantity, lines merged by SKU and sorted; not the price.
    ///
    /// A whole quantity is hashed as a number of 64 bits, however it is spelled. One that is not has eight zero bytes in
    /// that place, which no whole one has, then its shortest decimal spelling with the length before it.
    pub fn hash(&self) -> String {
        let mut chosen: BTreeMap<&str, Quantity> = BTreeMap::new();
        for line in &self.lines {
            let sum = chosen.entry(&line.sku).or_insert(Quantity::ZERO);
            // Each is at most 2^32 with nine decimals, so the sum of all lines of a cart fits.
            *sum = sum.plus(line.quantity).unwrap_or(*sum);
        }
        let mut digest = Sha256::new();
        let text = |digest: &mut Sha256, text: &str| {
            // The length first, so that no text can be mistaken for the end of another.
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text.as_bytes());
        };
        for (sku, quantity) in chosen {
            text(&mut digest, sku);
            match quantity.whole() {
                Some(pieces) => digest.update(pieces.to_be_bytes()),
                None => {
                    digest.update(0_u64.to_be_bytes());
                    text(&mut digest, &quantity.to_string());
                }
            }
        }
        format!("v1:{}", super::message_key::hex(&digest.finalize()))
    }

    /// The sum over all lines; `None` when a line has no price: the sum of the others would be a wrong one.
    pub fn value(&self) -> Option<Money> {
        self.sum(self.lines.iter())
    }

    /// Whether all that has a price fits into 64 bits of minor units.
    pub fn value_fits(&self) -> bool {
        self.sum(self.lines.iter().filter(|line| line.unit_price.is_some())).is_some()
    }

    fn sum<'a>(&self, mut lines: impl Iterator<Item = &'a CartLine>) -> Option<Money> {
        let zero = Money { minor: 0, currency: self.currency };
        lines.try_fold(zero, |sum, line| sum.plus(line.total()?))
    }
}

/// The first eight digits of a cart hash, for lines that people read.
pub fn short_hash(cart_hash: &str) -> &str {
    let digits = cart_hash.strip_prefix("v1:").unwrap_or(cart_hash);
    digits.get(..8).unwrap_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::instant;

    fn cart(lines: &[(&str, &str)]) -> Cart {
        let currency = Currency::parse("EUR").unwrap();
        let line = |&(sku, quantity): &(&str, &str)| CartLine {
            sku: sku.into(),
            name: "Lamp".into(),
            quantity: Quantity::parse(quantity).unwrap(),
            unit_price: Price::parse("19.90", currency),
            image_url: None,
            url: None,
        };
        Cart {
            cart_id: "c1".into(),
            user_id: None,
            email: Address::parse("Ada@Example.com").unwrap(),
            name: None,
            currency,
            created_at: None,
            updated_at: instant::from_text("2026-03-01T08:00:00Z").unwrap(),
            recovery_url: None,
            consent: None,
            ordered_at: None,
            timezone: None,
            lines: lines.iter().map(line).collect(),
        }
    }

    #[test]
    fn the_hash_is_over_what_was_chosen_whatever_the_order() {
        assert_eq!(cart(&[("A", "1"), ("B", "2")]).hash(), cart(&[("B", "1"), ("A", "1"), ("B", "1")]).hash());
        assert_ne!(cart(&[("A", "1")]).hash(), cart(&[("A", "2")]).hash());
        assert_ne!(cart(&[("A", "1"), ("B", "1")]).hash(), cart(&[("AB", "1")]).hash());
        assert_eq!(short_hash(&cart(&[("A", "1")]).hash()).len(), 8);
    }

    /// Written by an earlier version. Another hash would make every mail of the last window unknown.
    #[test]
    fn the_hash_of_whole_quantities_is_what_it_was() {
        let was = "v1:7f7647ba3c309b06590187b8b4992d6dccbfd10ad5cd7ad5029a78ed28e8a663";
        for two in ["2", "2.0", "2.0000", " 2"] {
            assert_eq!(cart(&[("B", "1"), ("A", two)]).hash(), was, "{two}");
        }
        assert_eq!(cart(&[("A", "0.5"), ("B", "1"), ("A", "1.5")]).hash(), was);
        let (half, other) = (cart(&[("A", "1.5")]).hash(), cart(&[("A", "1.50")]).hash());
        assert_eq!(half, other);
        let distinct = [half, cart(&[("A", "15")]).hash(), cart(&[("A", "1")]).hash(), cart(&[("A", "1.05")]).hash()];
        assert_eq!(distinct.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    }

    #[test]
    fn a_guest_is_known_by_the_folded_address() {
        assert_eq!(cart(&[]).identity(), "e:ada@example.com");
        assert_eq!(identity(Some("42"), &cart(&[]).email), "u:42");
    }

    #[test]
    fn a_message_that_an_older_version_planned_is_still_for_its_cart() {
        let mut cart = cart(&[("A", "1")]);
        for (user_id, email, identity, folded, is_of) in [
            (None, "Ada@example.com", "e:ada@example.com", "ada@example.com", true),
            (Some("0"), "ada@example.com", "u:0", "ada@example.com", true),
            (Some("0"), "ada@example.com", "u:0", "bob@example.com", false),
            (Some(" 7"), "ada@example.com", "u: 7", "ada@example.com", true),
            (Some(" 7"), "ada@example.com", "u:7", "ada@example.com", true),
            (Some("7"), "ada@example.com", "u:0", "ada@example.com", false),
            (None, "jo\u{308}rg@example.com", "e:jo\u{308}rg@example.com", "jo\u{308}rg@example.com", true),
            (None, "jo\u{308}rg@example.com", "e:jörg@example.com", "jörg@example.com", true),
            (None, "jörg@example.com", "e:jo\u{308}rg@example.com", "jo\u{308}rg@example.com", false),
        ] {
            cart.user_id = user_id.map(str::to_owned);
            cart.email = Address::parse(email).unwrap();
            assert_eq!(cart.is_of(identity, folded), is_of, "{user_id:?} {email} {identity}");
        }
    }

    #[test]
    fn the_value_is_the_sum_and_never_wraps() {
        assert_eq!(cart(&[("A", "2"), ("B", "1")]).value().unwrap().decimal(), "59.70");
        let mut huge = cart(&[("A", "2")]);
        huge.lines[0].unit_price = Price::parse("92233720368547758.07", huge.currency);
        assert_eq!((huge.value(), huge.value_fits()), (None, false));
    }

    #[test]
    fn a_line_without_a_price_leaves_the_cart_without_a_value() {
        let mut cart = cart(&[("A", "2"), ("B", "1")]);
        let hash = cart.hash();
        cart.lines[1].unit_price = None;
        assert_eq!((cart.lines[1].total(), cart.value(), cart.value_fits()), (None, None, true));
        assert_eq!((cart.lines[0].total().unwrap().decimal().as_str(), cart.hash()), ("39.80", hash));
    }
}
