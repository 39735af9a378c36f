//! What a preset does to the carts that its queries find.

use std::collections::HashMap;

use anyhow::Result;

use super::super::raw::{RawCart, RawField, RawLine};
use super::super::shops::Preset;
use super::{Column, Link, Query, Question, queries};
use crate::failure::Failure;

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
        preset.finish(cart, items, &mut |id| products.as_mut().map_or(Ok(None), |products| products.look(link, id)))
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
            product = Some(RawLine { sku, name, quantity: Ok(None), unit_price: Ok(None), image_url, url });
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
