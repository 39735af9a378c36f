//! What a preset does to the carts that its queries find.

use std::collections::HashMap;

use anyhow::Result;
use chrono_tz::Tz;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::Advice;
use super::super::raw::{RawCart, RawField, RawLine};
use super::{Column, Link, Query, Question, queries};
use crate::domain::money::{Currency, Price};
use crate::failure::Failure;
use crate::shops::{Preset, Times};

const KEY: &str = "product of source.shop";
/// Some megabytes. Goods are looked up once in a run, as long as they are no more than these.
const MOST_KNOWN: usize = 10_000;
const COLUMNS: [&str; 4] = ["sku", "item_name", "image_url", "url"];

/// A preset at work.
pub(super) struct Finishing {
    preset: Preset,
    products: Option<Products>,
}

impl Finishing {
    /// Has the server check what is asked besides the three questions.
    ///
    /// # Errors
    /// Exit 78 when that query cannot be used.
    pub fn check(link: &mut Link, preset: &Preset) -> Result<Finishing> {
        let products = preset.product().map(|query| Products::check(link, &query)).transpose()?;
        Ok(Finishing { preset: preset.clone(), products })
    }

    pub fn preset(&self) -> &Preset {
        &self.preset
    }

    pub fn finish(&mut self, link: &mut Link, cart: RawCart, items: &RawField) -> Result<RawCart> {
        let Finishing { preset, products } = self;
        finish(preset, cart, items, &mut |id| products.as_mut().map_or(Ok(None), |products| products.look(link, id)))
    }
}

/// Goods by their ids.
struct Products {
    query: Query,
    found: Vec<Column>,
    /// Where [`COLUMNS`] stand.
    places: [usize; COLUMNS.len()],
    known: HashMap<String, Option<RawLine>>,
}

impl Products {
    fn check(link: &mut Link, text: &str) -> Result<Products> {
        let (query, found) = queries::checked(link, KEY, text, &[":product_id"])?;
        let place = |name: &str| found.iter().position(|column| column.name == name);
        let places: Option<Vec<usize>> = COLUMNS.iter().map(|name| place(name)).collect();
        let places = places.and_then(|places| places.try_into().ok());
        let places = places.ok_or_else(|| Failure::internal(format!("the query `{KEY}` lacks a column")))?;
        Ok(Products { query, found, places, known: HashMap::new() })
    }

    /// The product; `None` when it is not sold any more.
    fn look(&mut self, link: &mut Link, id: &str) -> Result<Option<RawLine>> {
        if let Some(known) = self.known.get(id) {
            return Ok(known.clone());
        }
        let Products { query, found, places, known } = self;
        let values = [(":product_id", id.to_owned())];
        let question = Question { query, columns: found, values: &values };
        let mut product = None;
        let read = link.read(&question, &mut |row| {
            let [sku, name, image_url, url] = places.map(|at| row[at].field());
            product = Some(RawLine {
                sku,
                name,
                quantity: Ok(None),
                unit_price: Ok(None),
                image_url,
                url,
                category: Ok(None),
            });
            Ok(())
        });
        read.map_err(|trouble| link.told(KEY, trouble, false))?;
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(id.to_owned(), product.clone());
        Ok(product)
    }
}

/// What works, and is to be settled by a person.
pub(super) fn doubts(preset: &Preset, timezone: Tz) -> Vec<Advice> {
    let mut doubts = Vec::new();
    let mut doubt = |what: String, remedy: String| doubts.push(Advice { what, remedy });
    let host = |url: &str| url.split("://").nth(1)?.split(['/', ':', '?']).next().map(str::to_ascii_lowercase);
    for (key, url) in [("base_url", &preset.base_url), ("recovery_url", &preset.recovery_url)] {
        if url.as_deref().and_then(host).is_some_and(|host| host == "shop.example") {
            doubt(format!("is read with a placeholder as source.{key}"), "write the shop's own address there".into());
        }
    }
    if let (Some(link), None) = (preset.shop.link, &preset.recovery_url) {
        let remedy =
            "where the shop has a page that takes a cart up again, set source.recovery_url = \"https://…{cart_id}\"";
        doubt(format!("has no link that leads back into a cart: that in mails leads to {link}"), remedy.into());
    }
    if let (Times::Wall(place), Tz::UTC) = (preset.shop.times, timezone) {
        let what = format!("is read as if the clock of {} went by UTC", preset.shop.title);
        doubt(what, format!("set source.timezone to that clock's zone ({place}), unless it does"));
    }
    doubts
}

/// What becomes of a cart as a query found it: lines are taken out of what the shop serialized, and named by `look`,
/// which finds a product by its id; prices are rounded to the currency, half up; the link is `source.recovery_url`.
fn finish<E>(
    preset: &Preset,
    mut cart: RawCart,
    items: &RawField,
    look: &mut dyn FnMut(&str) -> Result<Option<RawLine>, E>,
) -> Result<RawCart, E> {
    if let Some(kept_as) = preset.shop.items {
        match kept_as.lines(items) {
            Ok(lines) => cart.lines = lines,
            Err(flaw) => cart.flaw = cart.flaw.or(Some(flaw)),
        }
    }
    if preset.shop.product.is_some() {
        let mut named = Vec::with_capacity(cart.lines.len());
        for line in std::mem::take(&mut cart.lines) {
            match &line.sku {
                // What is not sold any more is not shown; the rest is.
                Ok(Some(id)) => named.extend(look(id)?.map(|product| RawLine {
                    quantity: line.quantity,
                    unit_price: line.unit_price,
                    ..product
                })),
                _ => named.push(line),
            }
        }
        cart.lines = named;
    }
    let currency = cart.head.currency.as_ref().ok().and_then(|code| Currency::parse(code.as_deref()?));
    for line in &mut cart.lines {
        if let (Some(currency), Ok(Some(price))) = (currency, &line.unit_price)
            && let Some(price) = Price::parse(price, currency)
        {
            line.unit_price = Ok(Some(price.rounded().decimal()));
        }
    }
    if let (Some(url), Some(cart_id)) = (&preset.recovery_url, cart.cart_id()) {
        let cart_id = utf8_percent_encode(cart_id, NON_ALPHANUMERIC).to_string();
        cart.head.recovery_url = Ok(Some(url.replace("{cart_id}", &cart_id)));
    }
    Ok(cart)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shops::find;

    fn preset(name: &str) -> Preset {
        let shop = find(name).unwrap();
        Preset {
            shop,
            table_prefix: None,
            stores: Vec::new(),
            base_url: shop.asks_base_url.then(|| "https://front.example".into()),
            language: None,
            recovery_url: None,
        }
    }

    #[test]
    fn a_link_that_is_a_guess_a_placeholder_and_a_clock_are_named_until_they_are_set() {
        let said = |preset: &Preset, zone| {
            doubts(preset, zone).into_iter().map(|doubt| doubt.what).collect::<Vec<_>>().join("; ")
        };
        let mut medusa = preset("medusa2");
        assert!(said(&medusa, Tz::UTC).contains("which no storefront has by itself"));
        medusa.recovery_url = Some("https://front.example/take-up/{cart_id}".into());
        assert_eq!(said(&medusa, Tz::UTC), "");
        medusa.base_url = Some("https://SHOP.example/".into());
        assert_eq!(said(&medusa, Tz::UTC), "is read with a placeholder as source.base_url");
        assert_eq!(said(&preset("woocommerce"), Tz::UTC), "");
        let cartflows = preset("woocommerce-cartflows");
        assert!(said(&cartflows, Tz::UTC).contains("went by UTC"));
        assert_eq!(said(&cartflows, Tz::Europe__Berlin), "");
    }

    #[test]
    fn a_cart_is_finished() {
        let field = |text: &str| Ok(Some(text.to_owned()));
        let line = |price: &str| RawLine {
            sku: field("12"),
            name: Ok(None),
            quantity: field("3"),
            unit_price: field(price),
            image_url: Ok(None),
            category: Ok(None),
            url: Ok(None),
        };
        let mut cart = RawCart::unreadable(String::new(), None, b"");
        cart.flaw = None;
        cart.head.cart_id = field("a/b ü");
        cart.head.currency = field("EUR");
        cart.lines = vec![line("3.3333333333"), line("0.125"), line("free"), line("")];
        let mut preset = preset("woocommerce");
        preset.recovery_url = Some("https://front.example/c/{cart_id}".into());
        let finished = finish(&preset, cart.clone(), &Ok(None), &mut |_| Err::<_, ()>(())).unwrap();
        let prices: Vec<_> = finished.lines.iter().map(|line| line.unit_price.clone().unwrap().unwrap()).collect();
        assert_eq!(prices, ["3.33", "0.13", "free", ""]);
        assert_eq!(finished.head.recovery_url, field("https://front.example/c/a%2Fb%20%C3%BC"));

        let items = "a:2:{i:0;a:3:{s:10:\"product_id\";i:7;s:8:\"quantity\";i:2;s:10:\"line_total\";i:7;}i:1;a:1:{s:10:\"product_id\";i:8;}}";
        let items = Ok(Some(items.bytes().map(|byte| format!("{byte:02X}")).collect()));
        let mut look = |id: &str| {
            Ok::<_, ()>((id == "7").then(|| RawLine { sku: field("LAMP"), name: field("Lamp"), ..line("") }))
        };
        let finished = finish(&super::tests::preset("woocommerce-cartflows"), cart.clone(), &items, &mut look).unwrap();
        assert_eq!(finished.lines.len(), 1);
        let RawLine { sku, name, quantity, unit_price, .. } = &finished.lines[0];
        assert_eq!([sku, name, quantity, unit_price].map(Clone::clone), ["LAMP", "Lamp", "2", "3.5"].map(field));
        let broken = finish(&super::tests::preset("shopware6"), cart, &field("zz"), &mut |_| Err::<_, ()>(())).unwrap();
        assert!(broken.flaw.unwrap().contains("HEX()"));
    }
}
