//! A shop that keeps names as HTML: `Salt &amp; Pepper`.

use std::borrow::Cow;

use anyhow::Result;

use super::{Advice, Look, OrdersRead, ReadSummary, Row, Source, Touched};
use crate::domain::cart::Cart;
use crate::domain::instant::Instant;
use crate::domain::recovery::Order;

/// A source whose names, of shoppers and of goods, have character references (`source.html_names = true`).
pub(super) struct HtmlNames(pub Box<dyn Source>);

impl Source for HtmlNames {
    fn read_carts(&mut self, touched: &Touched, each: &mut dyn FnMut(Row) -> Result<()>) -> Result<ReadSummary> {
        self.0.read_carts(touched, &mut |mut row| {
            if let Row::Cart(cart) = &mut row {
                undo(cart);
            }
            each(row)
        })
    }

    fn cart(&mut self, cart_id: &str) -> Result<Look> {
        let mut look = self.0.cart(cart_id)?;
        if let Look::Cart(cart) = &mut look {
            undo(cart);
        }
        Ok(look)
    }

    fn ordered(&mut self, cart: &Cart) -> Result<bool> {
        self.0.ordered(cart)
    }

    fn orders(&mut self, since: Instant, each: &mut dyn FnMut(Order) -> Result<()>) -> Result<OrdersRead> {
        self.0.orders(since, each)
    }

    fn advice(&mut self) -> Result<Vec<Advice>> {
        self.0.advice()
    }
}

/// Undoes character references once, as a browser does: `&amp;lt;` is a text that shows `&lt;`.
fn undo(cart: &mut Cart) {
    for name in cart.name.iter_mut().chain(cart.lines.iter_mut().map(|line| &mut line.name)) {
        if let Cow::Owned(shown) = htmlize::unescape(name.as_str()) {
            // A reference may stand for a line break.
            *name = shown.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        }
    }
}
