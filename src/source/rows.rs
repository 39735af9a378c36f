//! Carts as flat rows, one per cart line, the way CSV files and configured queries hold them.

use super::raw::{MOST_LINES, Position, RawCart, RawField, RawHead, RawLine};
use crate::domain::column;

/// The columns of a flat row, and whether one has to be there.
pub(super) const COLUMNS: [(&str, bool); 19] = [
    ("cart_id", true),
    ("user_id", true),
    ("email", true),
    ("name", false),
    ("currency", true),
    ("created_at", false),
    ("updated_at", true),
    ("recovery_url", true),
    ("consent", false),
    ("locale", false),
    ("timezone", false),
    ("ordered_at", false),
    ("sku", true),
    ("item_name", true),
    ("quantity", true),
    ("unit_price", true),
    ("image_url", false),
    ("url", false),
    ("category", false),
];

/// So many of them are about the cart, and not about a line.
const HEAD: usize = 12;

/// Where each column of [`COLUMNS`] stands in a row.
#[derive(Debug, Clone)]
pub(super) struct Columns([Option<usize>; COLUMNS.len()]);

impl Columns {
    /// The same for rows that say all of a cart but its lines.
    ///
    /// # Errors
    /// As [`Columns::find`].
    pub fn of_heads<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<Columns, String> {
        Columns::among(&COLUMNS[..HEAD], names)
    }

    /// Finds the columns by their names; case does not matter, nor do columns that are not known here. A name may be
    /// spelled otherwise (`Cart ID`), and the addresses may be in `Email Address` or the like.
    ///
    /// # Errors
    /// A text that names the columns which are missing, or the one that is there twice.
    pub fn find<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<Columns, String> {
        Columns::among(&COLUMNS, names)
    }

    fn among<'a>(
        columns: &[(&'static str, bool)],
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<Columns, String> {
        let mut found = [None; COLUMNS.len()];
        let mut missing = Vec::new();
        for (place, (wanted, required)) in found.iter_mut().zip(columns.iter().copied()) {
            if names.clone().filter(|name| column::tidy(name).eq_ignore_ascii_case(wanted)).count() > 1 {
                return Err(format!("has the column {wanted} twice"));
            }
            *place = match wanted {
                "email" => column::place(names.clone(), column::ADDRESS),
                wanted => column::place(names.clone(), &[wanted]),
            };
            if required && place.is_none() {
                missing.push(wanted);
            }
        }
        match missing.as_slice() {
            [] => Ok(Columns(found)),
            [column] => Err(format!("lacks the column {column}")),
            columns => Err(format!("lacks the columns {}", columns.join(", "))),
        }
    }

    /// Where the cart id stands.
    pub fn cart_id(&self) -> usize {
        self.0[0].unwrap_or(0)
    }

    /// Splits a row into what it says of the cart and of the line. A column that is not there reads as NULL.
    pub fn read(&self, mut field: impl FnMut(usize) -> RawField) -> (RawHead, RawLine) {
        let [
            cart_id,
            user_id,
            email,
            name,
            currency,
            created_at,
            updated_at,
            recovery_url,
            consent,
            locale,
            timezone,
            ordered_at,
            sku,
            item_name,
            quantity,
            unit_price,
            image_url,
            url,
            category,
        ] = self.0.map(|index| index.map_or(Ok(None), &mut field));
        let head = RawHead {
            cart_id,
            user_id,
            email,
            name,
            currency,
            created_at,
            updated_at,
            recovery_url,
            consent,
            locale,
            timezone,
            ordered_at,
        };
        (head, RawLine { sku, name: item_name, quantity, unit_price, image_url, url, category })
    }
}

/// Gathers rows that follow each other into carts.
#[derive(Default)]
pub(super) struct Gathering {
    open: Option<RawCart>,
}

impl Gathering {
    /// Takes one row; returns the cart before it when the row begins another. `flaw` spoils the cart of the row.
    pub fn push(
        &mut self,
        (head, line): (RawHead, RawLine),
        position: Option<Position>,
        flaw: Option<String>,
    ) -> Option<RawCart> {
        if let Some(cart) = &mut self.open
            && cart.cart_id().is_some()
            && cart.head.cart_id == head.cart_id
        {
            // The first flaw stays: a cart is reported once.
            let other = || cart.head.differs_from(&head).map(|field| format!("its rows differ in {field}"));
            let too_many = || (cart.lines.len() >= MOST_LINES).then(|| format!("more than {MOST_LINES} lines"));
            cart.flaw = cart.flaw.take().or(flaw).or_else(other).or_else(too_many);
            if cart.lines.len() < MOST_LINES {
                cart.lines.push(line);
            }
            return None;
        }
        let content = if matches!(&head.cart_id, Ok(Some(id)) if !id.is_empty()) {
            Vec::new()
        } else {
            format!("{head:?}{line:?}").into_bytes()
        };
        let begun = RawCart { head, lines: vec![line], position, flaw, content };
        self.open.replace(begun).map(without_blank_line)
    }

    /// The cart that is still open.
    pub fn finish(&mut self) -> Option<RawCart> {
        self.open.take().map(without_blank_line)
    }

    /// Spoils the cart that is still open: what follows it cannot be read and may belong to it.
    pub fn spoil(&mut self, flaw: &str) {
        if let Some(cart) = &mut self.open {
            cart.flaw.get_or_insert_with(|| flaw.to_owned());
        }
    }
}

/// A single row without a SKU stands for a cart without items.
fn without_blank_line(mut cart: RawCart) -> RawCart {
    if cart.lines.len() == 1 && cart.lines[0].is_blank() {
        cart.lines.clear();
    }
    cart
}
