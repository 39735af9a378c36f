//! Money, prices and quantities: exact decimals. Nothing is a float.

use std::fmt;

use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};

/// An ISO 4217 currency code: three upper-case letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Parses a code such as `EUR`; case does not matter. `None` when it is not three ASCII letters.
    pub fn parse(text: &str) -> Option<Currency> {
        let bytes: [u8; 3] = text.trim().as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_alphabetic).then(|| Currency(bytes.map(|b| b.to_ascii_uppercase())))
    }

    /// The code, for example `EUR`.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }

    /// How many decimals the currency has (ISO 4217:2015, "minor unit"): 2 unless listed otherwise.
    pub fn decimals(&self) -> u32 {
        match self.code() {
            "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
            | "VUV" | "XAF" | "XOF" | "XPF" => 0,
            "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
            "CLF" | "UYW" => 4,
            _ => 2,
        }
    }

    /// The sign an English reader knows the currency by, where there is one of its own.
    fn sign(&self) -> Option<&'static str> {
        Some(match self.code() {
            "EUR" => "€",
            "USD" => "$",
            "GBP" => "£",
            "JPY" => "¥",
            "INR" => "₹",
            "KRW" => "₩",
            "UAH" => "₴",
            "ILS" => "₪",
            "VND" => "₫",
            "NGN" => "₦",
            "TRY" => "₺",
            _ => return None,
        })
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount of money in minor units (cents for EUR, whole yen for JPY, fils for KWD).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Money {
    pub minor: i64,
    pub currency: Currency,
}

impl Money {
    /// The sum; `None` when it does not fit or the currencies differ.
    pub fn plus(self, other: Money) -> Option<Money> {
        (self.currency == other.currency).then_some(())?;
        Some(Money { minor: self.minor.checked_add(other.minor)?, ..self })
    }

    /// The amount as a plain decimal with the currency's own decimals: `1234.50`, `1980`, `12.500`.
    pub fn decimal(&self) -> String {
        let (sign, whole, fraction) = self.parts();
        if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
    }

    /// The amount as an English reader expects it: `€1,234.50`, `¥1,980`, `KWD 12.500`, `-$5.00`.
    pub fn display(&self) -> String {
        let (sign, whole, fraction) = self.parts();
        english(sign, &whole, &fraction, self.currency)
    }

    fn parts(&self) -> (&'static str, String, String) {
        let decimals = self.currency.decimals() as usize;
        let digits = format!("{:0>width$}", self.minor.unsigned_abs(), width = decimals + 1);
        let (whole, fraction) = digits.split_at(digits.len() - decimals);
        (if self.minor < 0 { "-" } else { "" }, whole.to_owned(), fraction.to_owned())
    }
}

fn english(sign: &str, whole: &str, fraction: &str, currency: Currency) -> String {
    let mut grouped = String::with_capacity(whole.len() + whole.len() / 3);
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if !fraction.is_empty() {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    match currency.sign() {
        Some(symbol) => format!("{sign}{symbol}{grouped}"),
        None => format!("{sign}{currency}\u{a0}{grouped}"),
    }
}

/// A plain decimal such as `19.9`, `-5` or `1980.00`. `None` for anything else: grouping, decimal commas, exponents, signs
/// of currency, more than 28 digits.
fn decimal(text: &str) -> Option<Decimal> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    Decimal::from_str_exact(text).ok()
}

/// Decimals of a unit price that people are shown. What lies behind them is mostly the noise of a float.
const PRICE_DECIMALS_SHOWN: u32 = 6;

/// What one piece costs. It may be finer than the currency: litres of oil, net prices, floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    amount: Decimal,
    pub currency: Currency,
}

impl Price {
    /// Parses a decimal such as `19.9`, `0.495` or `138.6554`; white space around it does not matter.
    ///
    /// `None` for anything else: grouping, decimal commas, exponents, signs of currency, more than 28 digits.
    pub fn parse(text: &str, currency: Currency) -> Option<Price> {
        Some(Price { amount: decimal(text.trim())?, currency })
    }

    /// The price in the currency's own decimals, half up, as shops round.
    pub fn rounded(self) -> Price {
        let strategy = RoundingStrategy::MidpointAwayFromZero;
        Price { amount: self.amount.round_dp_with_strategy(self.currency.decimals(), strategy), ..self }
    }

    /// The price as a plain decimal: `19.9`.
    pub fn decimal(&self) -> String {
        self.amount.to_string()
    }

    /// What so much of it costs: the exact product, rounded once to the currency, half to even. `None` when that does not
    /// fit.
    pub fn times(&self, quantity: Quantity) -> Option<Money> {
        let exact = self.amount.checked_mul(quantity.0)?;
        let decimals = self.currency.decimals();
        let rounded = exact.round_dp_with_strategy(decimals, RoundingStrategy::MidpointNearestEven);
        let minor = rounded.checked_mul(Decimal::from(10_u32.pow(decimals)))?.to_i64()?;
        Some(Money { minor, currency: self.currency })
    }

    /// The price as people are shown it, as a plain decimal, with more decimals than the currency has where it needs them:
    /// `19.90`, `0.495`.
    pub fn shown_decimal(&self) -> String {
        let strategy = RoundingStrategy::MidpointNearestEven;
        let shown = self.amount.round_dp_with_strategy(PRICE_DECIMALS_SHOWN, strategy).normalize();
        let decimals = shown.scale().max(self.currency.decimals()) as usize;
        let sign = if shown.is_sign_negative() { "-" } else { "" };
        format!("{sign}{:.decimals$}", shown.abs())
    }

    /// The same as an English reader expects it: `€19.90`, `€0.495`.
    pub fn display(&self) -> String {
        let shown = self.shown_decimal();
        let (sign, digits) = shown.strip_prefix('-').map_or(("", shown.as_str()), |digits| ("-", digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        english(sign, whole, fraction, self.currency)
    }
}

/// Decimals of a quantity. What lies behind them is the noise of a float.
const QUANTITY_DECIMALS: u32 = 9;
const LARGEST_QUANTITY: Decimal = Decimal::from_parts(u32::MAX, 0, 0, false, 0);

/// How much of something: pieces, kilos, metres. At least 0, at most 4,294,967,295.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity(Decimal);

impl Quantity {
    pub const ZERO: Quantity = Quantity(Decimal::ZERO);

    /// Parses a decimal such as `2`, `2.0000` or `1.5`; white space around it does not matter. Decimals behind the ninth
    /// are rounded, half to even. `None` for anything else, and below 0.
    pub fn parse(text: &str) -> Option<Quantity> {
        let exact = decimal(text.trim())?;
        let quantity = exact.round_dp_with_strategy(QUANTITY_DECIMALS, RoundingStrategy::MidpointNearestEven);
        (quantity.is_zero() || quantity.is_sign_positive()).then_some(())?;
        (quantity <= LARGEST_QUANTITY).then(|| Quantity(quantity.normalize()))
    }

    pub fn is_zero(&self) -> bool {
        self.0.is_zero()
    }

    /// The sum; `None` when it does not fit.
    pub fn plus(self, other: Quantity) -> Option<Quantity> {
        self.0.checked_add(other.0).map(|sum| Quantity(sum.normalize()))
    }

    /// The number of pieces; `None` when it is no whole number.
    pub fn whole(&self) -> Option<u64> {
        self.0.is_integer().then(|| self.0.to_u64()).flatten()
    }

    /// The nearest float, for templates.
    pub fn approximate(&self) -> f64 {
        self.0.to_f64().unwrap_or_default()
    }
}

impl From<u32> for Quantity {
    fn from(pieces: u32) -> Quantity {
        Quantity(pieces.into())
    }
}

impl fmt::Display for Quantity {
    /// Without zeros at its end: `2`, `1.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(text: &str, code: &str) -> Option<Price> {
        Price::parse(text, Currency::parse(code).unwrap())
    }

    fn money(text: &str, code: &str) -> Money {
        price(text, code).unwrap().times(1.into()).unwrap()
    }

    #[test]
    fn each_currency_has_its_own_decimals() {
        assert_eq!(money("1234.5", "EUR").decimal(), "1234.50");
        assert_eq!(money("1980.00", "JPY").decimal(), "1980");
        assert_eq!(money("12.5", "KWD").decimal(), "12.500");
        assert_eq!(money("1234567.5", "EUR").display(), "€1,234,567.50");
        assert_eq!(money("1980", "JPY").display(), "¥1,980");
        assert_eq!(money("0.005", "KWD").display(), "KWD\u{a0}0.005");
        assert_eq!(money("-5", "USD").display(), "-$5.00");
    }

    #[test]
    fn a_line_is_rounded_once_half_to_even() {
        let line = |quantity: &str, unit_price: &str, code: &str| {
            let quantity = Quantity::parse(quantity).unwrap();
            price(unit_price, code).unwrap().times(quantity).unwrap().decimal()
        };
        for (quantity, unit_price, code, total) in [
            ("100", "0.495", "EUR", "49.50"),
            ("1", "138.6554", "EUR", "138.66"),
            ("3", "35.980000000000004", "EUR", "107.94"),
            ("1.5", "4.20", "EUR", "6.30"),
            ("1", "0.125", "EUR", "0.12"),
            ("1", "0.135", "EUR", "0.14"),
            ("1", "-0.125", "EUR", "-0.12"),
            ("3", "0.335", "EUR", "1.00"),
            ("1", "2.5", "JPY", "2"),
            ("0.333", "9.99", "KWD", "3.327"),
        ] {
            assert_eq!(line(quantity, unit_price, code), total, "{quantity} x {unit_price} {code}");
        }
    }

    #[test]
    fn a_price_is_shown_as_fine_as_it_is() {
        for (text, shown) in [
            ("19.9", "€19.90"),
            ("0.495", "€0.495"),
            ("138.6554", "€138.6554"),
            ("35.980000000000004", "€35.98"),
            ("19.900000", "€19.90"),
            ("1234.5", "€1,234.50"),
            ("-5", "-€5.00"),
            ("-0.0000001", "€0.00"),
        ] {
            assert_eq!(price(text, "EUR").unwrap().display(), shown);
        }
        assert_eq!(price("1980.00", "JPY").unwrap().display(), "¥1,980");
        assert_eq!(price("19.5", "JPY").unwrap().display(), "¥19.5");
    }

    #[test]
    fn a_price_is_rounded_half_up_where_that_is_asked() {
        for (text, code, rounded) in [
            ("3.3333333333", "EUR", "3.33"),
            ("0.125", "EUR", "0.13"),
            ("0.115", "EUR", "0.12"),
            ("-0.125", "EUR", "-0.13"),
            ("19.9", "EUR", "19.9"),
            ("2.5", "JPY", "3"),
            ("12.3455", "KWD", "12.346"),
        ] {
            assert_eq!(price(text, code).unwrap().rounded().decimal(), rounded, "{text} {code}");
        }
    }

    #[test]
    fn a_quantity_has_one_spelling() {
        for (text, shown) in [
            ("2", "2"),
            ("2.0000", "2"),
            (" 2 ", "2"),
            ("1.50", "1.5"),
            ("0.000", "0"),
            ("-0.0", "0"),
            ("2.0000000000000004", "2"),
            ("4294967295", "4294967295"),
        ] {
            assert_eq!(Quantity::parse(text).map(|quantity| quantity.to_string()).as_deref(), Some(shown), "{text:?}");
        }
        for text in ["", "-1", "two", "1,5", "1e3", ".5", "2.", "+2", "4294967296", "NaN"] {
            assert_eq!(Quantity::parse(text), None, "{text:?}");
        }
        assert_eq!((Quantity::parse("2.0").unwrap().whole(), Quantity::parse("2.5").unwrap().whole()), (Some(2), None));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in
            ["", "-", ".5", "5.", "19,90", "1e3", "€5", "NaN", "99999999999999999999999999999", "+5", "1 000", "1_000"]
        {
            assert_eq!(price(text, "EUR"), None, "{text:?}");
        }
        assert_eq!(price("99999999999999999999", "EUR").unwrap().times(1.into()), None);
    }
}
