//! Which carts are left out for what is in them.

use std::collections::BTreeMap;

use wildmatch::WildMatch;

use super::cart::Cart;
use super::money::{Currency, Money, Price, Quantity};

/// What a cart must be worth, and what must not be in it.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// By currency; one that is not named has no limit.
    pub least: BTreeMap<Currency, Money>,
    pub most: BTreeMap<Currency, Money>,
    /// Patterns of article numbers, with `*` for any text and `?` for any character.
    pub skus: Vec<String>,
    /// The same of categories.
    pub categories: Vec<String>,
    /// Whether one line of what is excluded is enough; otherwise every line must be.
    pub any: bool,
}

/// An amount such as `20.00` in the currency of this code.
pub fn limit(code: &str, text: &str) -> Option<(Currency, Money)> {
    let currency = Currency::parse(code)?;
    let amount = Price::parse(text, currency)?.times(Quantity::from(1))?;
    (amount.minor >= 0).then_some((currency, amount))
}

impl Filter {
    /// Why a cart is left out for being worth too little, if it is.
    pub fn by_least_value(&self, cart: &Cart) -> Option<String> {
        let least = self.least.get(&cart.currency)?;
        let Some(value) = cart.value() else { return Some("its value is not known".into()) };
        let is_less = value.minor < least.minor;
        is_less.then(|| format!("{} is less than min_value, {}", value.display(), least.display()))
    }

    /// Why a cart is left out for being worth too much, if it is.
    pub fn by_most_value(&self, cart: &Cart) -> Option<String> {
        let most = self.most.get(&cart.currency)?;
        let Some(value) = cart.value() else { return Some("its value is not known".into()) };
        let is_more = value.minor > most.minor;
        is_more.then(|| format!("{} is more than max_value, {}", value.display(), most.display()))
    }

    /// Why a cart is left out for what is in it, if it is.
    pub fn by_lines(&self, cart: &Cart) -> Option<String> {
        if self.skus.is_empty() && self.categories.is_empty() {
            return None;
        }
        let compiled = |patterns: &[String]| patterns.iter().map(|pattern| WildMatch::new(pattern)).collect::<Vec<_>>();
        let (skus, categories) = (compiled(&self.skus), compiled(&self.categories));
        let mut excluded = cart.lines.iter().filter(|line| {
            let category = line.category.as_deref();
            skus.iter().any(|pattern| pattern.matches(&line.sku))
                || category.is_some_and(|category| categories.iter().any(|pattern| pattern.matches(category)))
        });
        let first = excluded.next()?;
        let enough = self.any || excluded.count() + 1 == cart.lines.len();
        enough.then(|| format!("{} is excluded", first.sku))
    }
}
