//! From fields as a source holds them to a [`Cart`], or to the reason why there is none.

use chrono_tz::Tz;
use percent_encoding::{AsciiSet, CONTROLS};
use sha2::{Digest, Sha256};

use super::{BadRow, Look, Row, Touched};
use crate::domain::address::{self, Address};
use crate::domain::cart::{Cart, CartLine};
use crate::domain::identity;
use crate::domain::instant::{self, Instant};
use crate::domain::locale::Locale;
use crate::domain::message_key::hex;
use crate::domain::money::{Currency, Price, Quantity};
use crate::domain::web_address::is_web_address;

/// A longer text is no name, id or SKU, and would not be read in a mail.
const LONGEST_TEXT_IN_CHARACTERS: usize = 1000;
/// What is wrong with an anonymous shopper's cart.
const NO_ADDRESS: &str = "no address";
/// More lines than any shopper reads; it bounds what one cart can take of the memory.
pub(super) const MOST_LINES: usize = 1000;

/// A field as text; `None` when it is absent or NULL; `Err` says why it is no text, as in `is not UTF-8`.
pub(super) type RawField = Result<Option<String>, &'static str>;

/// Reads bytes as a field's text.
pub(super) fn field_of_bytes(bytes: &[u8]) -> RawField {
    std::str::from_utf8(bytes).map(|text| Some(text.to_owned())).map_err(|_| "is not UTF-8")
}

/// Reads a float as a field's text, without an exponent.
pub(super) fn field_of_float(number: f64) -> RawField {
    // From 2^53 on a float skips whole numbers, so two ids could become one.
    let exact = number.is_finite() && number.abs() < 9_007_199_254_740_992.0;
    if exact { Ok(Some(number.to_string())) } else { Err("is a number too large to be exact; write it as a text") }
}

/// What a source says once per cart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawHead {
    pub cart_id: RawField,
    pub user_id: RawField,
    pub email: RawField,
    pub name: RawField,
    pub currency: RawField,
    pub created_at: RawField,
    pub updated_at: RawField,
    pub recovery_url: RawField,
    pub consent: RawField,
    pub locale: RawField,
    pub timezone: RawField,
    pub ordered_at: RawField,
}

impl RawHead {
    /// The name of the first field that another row of the same cart says differently.
    pub fn differs_from(&self, other: &RawHead) -> Option<&'static str> {
        let pairs = [
            ("user_id", &self.user_id, &other.user_id),
            ("email", &self.email, &other.email),
            ("name", &self.name, &other.name),
            ("currency", &self.currency, &other.currency),
            ("created_at", &self.created_at, &other.created_at),
            ("updated_at", &self.updated_at, &other.updated_at),
            ("recovery_url", &self.recovery_url, &other.recovery_url),
            ("consent", &self.consent, &other.consent),
            ("locale", &self.locale, &other.locale),
            ("timezone", &self.timezone, &other.timezone),
            ("ordered_at", &self.ordered_at, &other.ordered_at),
        ];
        pairs.into_iter().find(|(_, one, other)| one != other).map(|(name, ..)| name)
    }
}

/// What a source says once per cart line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawLine {
    pub sku: RawField,
    pub name: RawField,
    pub quantity: RawField,
    pub unit_price: RawField,
    pub image_url: RawField,
    pub category: RawField,
    pub url: RawField,
}

impl RawLine {
    /// Whether the row has no line: it stands for a cart without items.
    pub fn is_blank(&self) -> bool {
        self.sku.as_ref().is_ok_and(|sku| sku.as_deref().is_none_or(|sku| sku.trim().is_empty()))
    }
}

/// Where a cart stands in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// In bytes, from the start of the file.
    pub offset: u64,
    /// The first is 1.
    pub line: u64,
}

/// A cart before anything in it was checked.
#[derive(Debug, Clone)]
pub(super) struct RawCart {
    pub head: RawHead,
    pub lines: Vec<RawLine>,
    /// `None` when it does not come from a file.
    pub position: Option<Position>,
    /// What is wrong with it as a whole, whatever its fields say.
    pub flaw: Option<String>,
    /// What to know a bad row by when it has no cart id.
    pub content: Vec<u8>,
}

impl RawCart {
    /// A row of which nothing could be read but its bytes.
    pub fn unreadable(flaw: String, position: Option<Position>, content: &[u8]) -> RawCart {
        let absent = || Ok(None);
        let head = RawHead {
            cart_id: absent(),
            user_id: absent(),
            email: absent(),
            name: absent(),
            currency: absent(),
            created_at: absent(),
            updated_at: absent(),
            recovery_url: absent(),
            consent: absent(),
            locale: absent(),
            timezone: absent(),
            ordered_at: absent(),
        };
        RawCart { head, lines: Vec::new(), position, flaw: Some(flaw), content: content.to_vec() }
    }

    /// The cart id as the source spells it, when there is one.
    pub fn cart_id(&self) -> Option<&str> {
        self.head.cart_id.as_ref().ok().and_then(|id| id.as_deref()).filter(|id| !id.is_empty())
    }

    /// The folded address and the instant at which the cart was ordered, when its row says that it was.
    ///
    /// A time that cannot be read becomes the latest there is: someone who may have ordered is not written to.
    pub fn order(&self, zone: Tz) -> Option<(String, Instant)> {
        let at = match &self.head.ordered_at {
            Ok(at) => at.as_deref().filter(|at| !instant::is_absent(at)).map(|at| instant::parse(at, zone))?,
            Err(_) => None,
        };
        let email = self.head.email.as_ref().ok()?.as_deref()?;
        let address = Address::parse(email).ok()?;
        Some((address.folded().to_owned(), at.unwrap_or(Instant::MAX_UTC)))
    }

    /// When the cart was touched, as far as that can be read.
    fn touched_at(&self, zone: Tz) -> Option<Instant> {
        let updated_at = self.head.updated_at.as_ref().ok().and_then(|at| at.as_deref());
        updated_at.and_then(|at| instant::parse(at, zone))
    }

    /// Whether the cart was touched, as far as that can be read, at another time than wanted.
    pub fn is_outside(&self, touched: &Touched, zone: Tz) -> bool {
        self.touched_at(zone).is_some_and(|at| !touched.holds(at))
    }

    /// The row of a reading; `None` when the cart was touched at another time than wanted, or is bad and not idle yet.
    pub fn into_row(self, touched: &Touched, zone: Tz, source: &str) -> Option<Row> {
        let touched_at = self.touched_at(zone);
        if touched_at.is_some_and(|at| !touched.holds(at)) {
            return None;
        }
        match self.checked(zone, source) {
            Ok(cart) => Some(Row::Cart(Box::new(cart))),
            Err(_) if touched_at.is_some_and(|at| at > touched.idle_before) => None,
            Err(bad) => Some(Row::Bad(bad)),
        }
    }

    /// The same for the last look at one cart.
    pub fn into_look(self, zone: Tz, source: &str) -> Look {
        self.checked(zone, source).map_or_else(Look::Bad, |cart| Look::Cart(Box::new(cart)))
    }

    fn checked(self, zone: Tz, source: &str) -> Result<Cart, BadRow> {
        let found = match &self.flaw {
            Some(flaw) => Err(flaw.clone()),
            None => cart(&self.head, &self.lines, zone),
        };
        found.map_err(|problem| self.bad_row(source, &problem))
    }

    fn bad_row(&self, source: &str, problem: &str) -> BadRow {
        let problem = printable(problem, 300);
        let place = match (self.position, self.cart_id()) {
            (Some(position), _) => format!("{source}:{}", position.line),
            (None, Some(cart_id)) => format!("{source}: cart {}", printable(cart_id, 80)),
            (None, None) => format!("{source}: a cart without a cart_id"),
        };
        if problem == NO_ADDRESS {
            return BadRow { place, key: format!("{source}: {problem}"), problem, is_anonymous: true };
        }
        let identity = self.cart_id().map_or(self.content.as_slice(), str::as_bytes);
        let key = bad_row_key(source, identity, &problem);
        BadRow { place, problem, key, is_anonymous: false }
    }
}

/// What a bad row is known by in later readings: where it is read, which one it is, and what is wrong with it.
pub(super) fn bad_row_key(source: &str, identity: &[u8], problem: &str) -> String {
    let mut digest = Sha256::new();
    for part in [source.as_bytes(), identity, problem.as_bytes()] {
        // The length first, so that no part can be mistaken for the end of another.
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    hex(&digest.finalize()[..16])
}

/// A text that is safe to print on one line, cut after `most` characters. Addresses are masked: what is printed ends in
/// logs.
pub(super) fn printable(text: &str, most: usize) -> String {
    let mut shown: String = text.chars().take(most).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    address::masked(&shown)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", printable(text, 40))
}

fn cart(head: &RawHead, lines: &[RawLine], zone: Tz) -> Result<Cart, String> {
    let cart_id = text("cart_id", &head.cart_id)?.ok_or("no cart_id")?;
    let email = match head.email.as_ref().map_err(|why| format!("the email {why}"))? {
        Some(email) => Address::parse(email).map_err(|err| err.to_string())?,
        None => return Err(NO_ADDRESS.into()),
    };
    let currency = text("currency", &head.currency)?.ok_or("no currency")?;
    let currency = Currency::parse(&currency)
        .ok_or_else(|| format!("the currency {} is not a code of three letters such as EUR", quoted(&currency)))?;
    let (locale, odd_locale) = known(&head.locale, Locale::parse);
    let (timezone, odd_timezone) = known(&head.timezone, |name| name.trim().parse().ok());
    let cart = Cart {
        cart_id,
        user_id: text("user_id", &head.user_id)?.filter(|user_id| identity::user(user_id).is_some()),
        email,
        name: text("name", &head.name)?,
        currency,
        created_at: time("created_at", &head.created_at, zone)?,
        updated_at: time("updated_at", &head.updated_at, zone)?.ok_or("no updated_at")?,
        recovery_url: recovery_url(&head.recovery_url)?,
        locale,
        odd_locale,
        odd_timezone,
        consent: consent(&head.consent)?,
        ordered_at: time("ordered_at", &head.ordered_at, zone)?,
        timezone,
        lines: lines.iter().filter_map(|line| cart_line(line, currency).transpose()).collect::<Result<_, _>>()?,
    };
    if !cart.value_fits() {
        return Err("the value of the cart is too large".into());
    }
    Ok(cart)
}

/// `None` when the shop keeps a line of which nothing is in the cart.
fn cart_line(line: &RawLine, currency: Currency) -> Result<Option<CartLine>, String> {
    let sku = text("sku", &line.sku)?.ok_or("a line has no sku")?;
    let of = format!("of {}", quoted(&sku));
    let quantity = text(&format!("quantity {of}"), &line.quantity)?.ok_or_else(|| format!("no quantity {of}"))?;
    let quantity = Quantity::parse(&quantity)
        .ok_or_else(|| format!("the quantity {of} is {}, not a number such as 2 or 1.5", quoted(&quantity)))?;
    if quantity.is_zero() {
        return Ok(None);
    }
    let name = text(&format!("name {of}"), &line.name)?.unwrap_or_else(|| sku.clone());
    let price = text(&format!("unit_price {of}"), &line.unit_price)?;
    let priced = |price: String| {
        Price::parse(&price, currency).ok_or_else(|| {
            format!("the unit_price {of} is {}, not an amount such as 19.90 in {currency}", quoted(&price))
        })
    };
    let unit_price = price.map(priced).transpose()?;
    let (image_url, url) = (picture(&line.image_url), picture(&line.url));
    let category = text(&format!("category {of}"), &line.category)?;
    Ok(Some(CartLine { sku, name, quantity, unit_price, image_url, url, category }))
}

/// A field that may be empty; one of white space alone is. Ids keep their spelling, so nothing is trimmed.
fn text(what: &str, field: &RawField) -> Result<Option<String>, String> {
    let Some(text) = field.as_ref().map_err(|why| format!("the {what} {why}"))? else { return Ok(None) };
    if text.chars().any(char::is_control) {
        return Err(format!("the {what} holds a line break or control character"));
    }
    if text.chars().nth(LONGEST_TEXT_IN_CHARACTERS).is_some() {
        return Err(format!("the {what} is longer than {LONGEST_TEXT_IN_CHARACTERS} characters"));
    }
    Ok((!is_absent(text)).then(|| text.clone()))
}

/// Whether a text says that there is none: white space, or what MySQL and its tools write into dumps. No other word
/// counts here: `None` may be a name.
pub(super) fn is_absent(text: &str) -> bool {
    matches!(text.trim(), "" | "NULL" | "\\N")
}

fn time(what: &str, field: &RawField, zone: Tz) -> Result<Option<Instant>, String> {
    let Some(text) = text(what, field)?.filter(|text| !instant::is_absent(text)) else { return Ok(None) };
    let at = instant::parse(&text, zone);
    at.map(Some).ok_or_else(|| format!("the {what} {} is not a time such as 2026-03-01T08:00:00Z", quoted(&text)))
}

fn consent(field: &RawField) -> Result<Option<bool>, String> {
    let Some(text) = text("consent", field)? else { return Ok(None) };
    match identity::without_fraction(text.trim()).to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Ok(Some(true)),
        "false" | "f" | "no" | "n" | "0" => Ok(Some(false)),
        _ => Err(format!("the consent {} is neither true nor false (write 1 or 0)", quoted(&text))),
    }
}

/// What a field says where that is known, or else what stands there: a shopper of whom it is not known is treated as the shop's
/// own people.
fn known<T>(field: &RawField, parse: impl Fn(&str) -> Option<T>) -> (Option<T>, Option<String>) {
    let text = match field {
        Ok(text) => text.as_deref().filter(|text| !is_absent(text)),
        Err(why) => return (None, Some((*why).to_owned())),
    };
    match text.map(|text| parse(text).ok_or(text)) {
        None => (None, None),
        Some(Ok(known)) => (Some(known), None),
        Some(Err(text)) => (None, Some(quoted(text))),
    }
}

fn recovery_url(field: &RawField) -> Result<Option<String>, String> {
    let url = field.as_ref().map_err(|why| format!("the recovery_url {why}"))?;
    match url.as_deref().map(str::trim) {
        None => Ok(None),
        Some(url) if is_absent(url) => Ok(None),
        Some(url) if is_web_address(url) => Ok(Some(url.to_owned())),
        Some(url) => Err(format!("the recovery_url {} is not an absolute http or https address", quoted(url))),
    }
}

/// A link that may be left out: a picture is not worth a mail. What cannot stand in an address is percent-encoded, as
/// browsers do with the space in `red lamp.png`.
fn picture(field: &RawField) -> Option<String> {
    const UNSOUND: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`');
    const ENCODED: &AsciiSet = &UNSOUND.add(b'{').add(b'|').add(b'}');
    let url = field.as_ref().ok()?.as_deref()?.trim();
    if url.chars().any(char::is_control) {
        return None;
    }
    let host_ends = url.find("://").map_or(0, |at| at + 3);
    let path = url[host_ends..].find(['/', '?', '#']).map_or(url.len(), |at| host_ends + at);
    let encoded = format!("{}{}", &url[..path], percent_encoding::utf8_percent_encode(&url[path..], ENCODED));
    is_web_address(&encoded).then_some(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(text: &str) -> RawField {
        Ok(Some(text.to_owned()))
    }

    fn sound() -> RawCart {
        let line = RawLine {
            sku: field("A-1"),
            name: Ok(None),
            quantity: field("2"),
            unit_price: field("19.90"),
            image_url: field("/lamp.png"),
            category: Ok(None),
            url: field("https://shop.example/a-1?x=1"),
        };
        let mut cart = RawCart::unreadable(String::new(), None, b"");
        cart.flaw = None;
        cart.head.cart_id = field("c1");
        cart.head.user_id = field("");
        cart.head.email = field("Ada@Example.com");
        cart.head.currency = field("EUR");
        cart.head.updated_at = field("2026-03-01 09:00:00");
        cart.lines = vec![line];
        cart
    }

    fn problem(change: impl FnOnce(&mut RawCart)) -> String {
        let mut cart = sound();
        change(&mut cart);
        cart.checked(Tz::UTC, "shop.db").expect_err("the cart was taken").problem
    }

    #[test]
    fn a_sound_cart_is_read_and_a_picture_that_is_no_address_dropped() {
        let cart = sound().checked(Tz::Europe__Berlin, "shop.db").unwrap();
        assert_eq!(instant::text(cart.updated_at), "2026-03-01T08:00:00Z");
        assert_eq!((cart.user_id.as_deref(), cart.lines[0].name.as_str()), (None, "A-1"));
        assert_eq!((&cart.lines[0].image_url, cart.lines[0].url.is_some()), (&None, true));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        assert_eq!(problem(|c| c.head.email = Ok(None)), "no address");
        assert_eq!(problem(|c| c.head.email = field(" ")), "no address");
        assert_eq!(problem(|c| c.head.cart_id = field("")), "no cart_id");
        assert!(problem(|c| c.head.cart_id = field("c\n1")).contains("cart_id holds a line break"));
        assert!(problem(|c| c.head.user_id = field("u\r\nBcc: x")).contains("user_id holds a line break"));
        assert!(problem(|c| c.head.name = Err("is not UTF-8")).contains("name is not UTF-8"));
        assert!(problem(|c| c.head.name = field(&"x".repeat(1001))).contains("longer than 1000"));
        assert!(problem(|c| c.head.currency = field("EURO")).contains("currency"));
        assert!(problem(|c| c.head.updated_at = field("yesterday")).contains("not a time"));
        assert!(problem(|c| c.head.consent = field("maybe")).contains("consent"));
        for url in ["/cart", "javascript:alert(1)", "ftp://shop.example", "https://", "https:// x", "https://a/\"b"] {
            assert!(problem(|c| c.head.recovery_url = field(url)).contains("recovery_url"), "{url}");
        }
        for quantity in ["-1", "1,5", "two", "", "4294967296"] {
            assert!(problem(|c| c.lines[0].quantity = field(quantity)).contains("quantity"), "{quantity}");
        }
        for price in ["19,90", "free", "NaN", "1e3", "-"] {
            assert!(problem(|c| c.lines[0].unit_price = field(price)).contains("unit_price"), "{price}");
        }
        assert!(problem(|c| c.lines[0].unit_price = field("92233720368547758.07")).contains("too large"));
        assert!(problem(|c| c.lines[0].name = field("Lamp\r\n")).contains("name of \"A-1\" holds"));
        assert!(problem(|c| c.lines[0].sku = field(" ")).contains("no sku"));
    }

    #[test]
    fn the_address_of_a_picture_is_encoded_as_browsers_do() {
        for (text, expected) in [
            ("https://shop.example/red lamp.png", Some("https://shop.example/red%20lamp.png")),
            (" https://shop.example/a%20b.png?x={1} ", Some("https://shop.example/a%20b.png?x=%7B1%7D")),
            ("https://shop.example/größe.png", Some("https://shop.example/gr%C3%B6%C3%9Fe.png")),
            ("https://sh op.example/a.png", None),
            ("https://shop.example/a\n.png", None),
            ("/lamp.png", None),
            ("NULL", None),
        ] {
            assert_eq!(picture(&field(text)).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_line_of_nothing_is_no_line() {
        let mut cart = sound();
        cart.lines.push(cart.lines[0].clone());
        cart.lines[0].quantity = field("0.0000");
        cart.lines[0].unit_price = Ok(None);
        cart.lines[1].quantity = field("1.5");
        let cart = cart.checked(Tz::UTC, "shop.db").unwrap();
        assert_eq!(cart.lines.len(), 1);
        assert_eq!(cart.value().unwrap().decimal(), "29.85");
    }

    #[test]
    fn a_line_may_have_no_price() {
        let mut cart = sound();
        for none in [Ok(None), field(""), field(" "), field("NULL"), field("\\N")] {
            cart.lines[0].unit_price = none;
            let read = cart.clone().checked(Tz::UTC, "shop.db").unwrap();
            assert_eq!((read.lines[0].unit_price, read.value()), (None, None));
        }
        cart.lines.push(sound().lines[0].clone());
        cart.lines[1].unit_price = field("92233720368547758.07");
        assert!(cart.checked(Tz::UTC, "shop.db").unwrap_err().problem.contains("too large"));
    }

    #[test]
    fn words_for_nothing_are_nothing() {
        let mut cart = sound();
        for word in ["NULL", "\\N", " "] {
            for at in
                [&mut cart.head.name, &mut cart.head.ordered_at, &mut cart.head.recovery_url, &mut cart.head.user_id]
            {
                *at = field(word);
            }
            let read = cart.clone().checked(Tz::UTC, "shop.db").unwrap();
            assert_eq!((read.name, read.ordered_at, read.recovery_url, read.user_id), (None, None, None, None));
            assert_eq!(cart.order(Tz::UTC), None);
        }
        cart.head.ordered_at = field("0000-00-00 00:00:00");
        assert_eq!((cart.order(Tz::UTC), cart.checked(Tz::UTC, "x").unwrap().ordered_at), (None, None));
        assert_eq!(problem(|c| c.head.updated_at = field("0000-00-00 00:00:00")), "no updated_at");
        assert_eq!(problem(|c| c.head.email = field("NULL")), "no address");
    }

    #[test]
    fn a_bad_row_keeps_its_key_when_it_moves_and_gets_another_with_another_problem() {
        let bad = |line, email: &str| {
            let mut cart = sound();
            cart.position = Some(Position { offset: 0, line });
            cart.head.email = field(email);
            cart.checked(Tz::UTC, "carts.csv").unwrap_err()
        };
        assert_eq!(bad(3, "ada").key, bad(9, "ada").key);
        assert_ne!(bad(3, "ada").key, bad(3, "ada@").key);
        assert_eq!(bad(9, "ada").place, "carts.csv:9");
    }

    #[test]
    fn all_carts_without_an_address_share_a_key() {
        let anonymous = |cart_id| {
            let mut cart = sound();
            cart.head.cart_id = field(cart_id);
            cart.head.email = Ok(None);
            cart.checked(Tz::UTC, "carts.csv").unwrap_err()
        };
        let (one, other) = (anonymous("c1"), anonymous("c2"));
        assert_eq!((one.key.as_str(), one.is_anonymous), ("carts.csv: no address", true));
        assert_eq!(one.key, other.key);
    }

    #[test]
    fn what_is_printed_holds_no_whole_address() {
        let mut cart = sound();
        cart.head.cart_id = field("ada@example.com");
        cart.head.consent = field("<ada.lovelace@example.com> said so");
        let bad = cart.checked(Tz::UTC, "shop.db").unwrap_err();
        assert_eq!(bad.place, "shop.db: cart a…@example.com");
        assert_eq!(bad.problem, "the consent \"<a…@example.com> said so\" is neither true nor false (write 1 or 0)");
    }

    #[test]
    fn consent_is_read_in_each_spelling() {
        for (text, expected) in
            [("true", true), ("1", true), ("YES", true), ("1.0", true), ("false", false), ("0", false), ("no", false)]
        {
            assert_eq!(consent(&field(text)), Ok(Some(expected)));
        }
        assert_eq!((consent(&field("")), consent(&Ok(None))), (Ok(None), Ok(None)));
    }

    #[test]
    fn floats_are_written_without_an_exponent_or_refused() {
        assert_eq!(field_of_float(19.9), field("19.9"));
        assert_eq!(field_of_float(2.0), field("2"));
        assert!(field_of_float(1e16).is_err() && field_of_float(f64::NAN).is_err());
    }
}
