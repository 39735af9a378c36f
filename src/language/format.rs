//! Money, numbers and instants as readers of a language are used to them.

use chrono::{DateTime, Datelike, TimeZone, Timelike};
use icu_calendar::{Date, Gregorian};
use icu_datetime::FixedCalendarDateTimeFormatter;
use icu_datetime::fieldsets::{YMD, YMDT};
use icu_decimal::DecimalFormatter;
use icu_decimal::input::Decimal;
use icu_experimental::dimension::currency::formatter::CurrencyFormatter;

use super::tag;
use crate::domain::locale::Locale;
use crate::domain::money::{Currency, Money, Price, Quantity};

/// How amounts of one currency are written in a language.
pub struct MoneyFormat {
    /// `None` is English as it was always written.
    local: Option<Local>,
}

/// What stands around a number of the currency, above zero and below, and how the number itself is written.
struct Local {
    positive: (String, String),
    negative: (String, String),
    numbers: DecimalFormatter,
}

impl MoneyFormat {
    pub fn new(locale: Locale, currency: Currency) -> MoneyFormat {
        MoneyFormat { local: (locale != Locale::ENGLISH).then(|| Local::new(locale, currency)).flatten() }
    }

    /// `1.289,80 €`
    pub fn money(&self, money: Money) -> String {
        self.local.as_ref().and_then(|local| local.write(&money.decimal())).unwrap_or_else(|| money.display())
    }

    /// The same with more decimals than the currency has where the price needs them: `0,495 €`.
    pub fn price(&self, price: Price) -> String {
        self.local.as_ref().and_then(|local| local.write(&price.shown_decimal())).unwrap_or_else(|| price.display())
    }
}

impl Local {
    fn new(locale: Locale, currency: Currency) -> Option<Local> {
        let tag = tag(locale);
        let code = currency.code().to_ascii_lowercase().parse().ok()?;
        let amounts = CurrencyFormatter::try_new_symbol((&tag).into(), code, Default::default()).ok()?;
        let around = |one: i32| around_number(&amounts.format_fixed_decimal(&Decimal::from(one)).to_string());
        let numbers = DecimalFormatter::try_new((&tag).into(), Default::default()).ok()?;
        Some(Local { positive: around(1)?, negative: around(-1)?, numbers })
    }

    /// A plain decimal as an amount. CLDR would round it, to cents or to none at all where shops do count them (RSD, IQD), so
    /// the number is written by itself.
    fn write(&self, decimal: &str) -> Option<String> {
        let (digits, (before, behind)) = match decimal.strip_prefix('-') {
            Some(digits) => (digits, &self.negative),
            None => (decimal, &self.positive),
        };
        let number: Decimal = digits.parse().ok()?;
        Some(format!("{before}{}{behind}", self.numbers.format(&number)))
    }
}

/// What stands before a number in a text, and what behind it.
fn around_number(text: &str) -> Option<(String, String)> {
    let first = text.find(char::is_numeric)?;
    let (last, digit) = text.char_indices().rfind(|(_, c)| c.is_numeric())?;
    Some((text[..first].to_owned(), text[last + digit.len_utf8()..].to_owned()))
}

/// How much of something: `2`, `1,5`.
pub fn number(locale: Locale, quantity: Quantity) -> String {
    let plain = quantity.to_string();
    if locale == Locale::ENGLISH {
        return plain;
    }
    let written = DecimalFormatter::try_new((&tag(locale)).into(), Default::default()).ok();
    let number = plain.parse::<Decimal>().ok();
    written.zip(number).map_or(plain, |(numbers, number)| numbers.format(&number).to_string())
}

/// Day and time of day by the clock of a zone: `1 March 2026, 09:00`, `1. März 2026 um 09:00`.
pub fn instant<Z: TimeZone>(locale: Locale, at: &DateTime<Z>) -> String {
    let wall = at.naive_local();
    let english = || wall.format("%-d %B %Y, %H:%M").to_string();
    if locale == Locale::ENGLISH {
        return english();
    }
    let written = || -> Option<String> {
        let fields = YMD::long().with_time_hm();
        let format: FixedCalendarDateTimeFormatter<Gregorian, YMDT> =
            FixedCalendarDateTimeFormatter::try_new((&tag(locale)).into(), fields).ok()?;
        let date = Date::try_new_gregorian(wall.year(), wall.month() as u8, wall.day() as u8).ok()?;
        let time = icu_datetime::input::Time::try_new(wall.hour() as u8, wall.minute() as u8, 0, 0).ok()?;
        Some(format.format(&icu_datetime::input::DateTime { date, time }).to_string())
    };
    written().unwrap_or_else(english)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Tz;

    fn locale(tag: &str) -> Locale {
        Locale::parse(tag).unwrap()
    }

    fn money(tag: &str, amount: &str, code: &str) -> String {
        let currency = Currency::parse(code).unwrap();
        let price = Price::parse(amount, currency).unwrap();
        let format = MoneyFormat::new(locale(tag), currency);
        assert_eq!(format.price(price), format.money(price.times(1.into()).unwrap()), "{tag} {amount} {code}");
        format.price(price)
    }

    #[test]
    fn money_is_written_as_each_language_does() {
        for (tag, amount, code, expected) in [
            ("en", "1234.5", "EUR", "€1,234.50"),
            ("en", "-12.5", "KWD", "-KWD\u{a0}12.500"),
            ("en-US", "1234.5", "USD", "$1,234.50"),
            ("en-GB", "1234.5", "USD", "US$1,234.50"),
            ("de", "1234.5", "EUR", "1.234,50\u{a0}€"),
            ("de", "-5", "EUR", "-5,00\u{a0}€"),
            ("de-AT", "1234.5", "EUR", "€\u{a0}1\u{a0}234,50"),
            ("de-CH", "1234.5", "CHF", "CHF\u{a0}1'234.50"),
            ("fr", "1234.5", "EUR", "1\u{202f}234,50\u{a0}€"),
            ("es", "1234.5", "EUR", "1234,50\u{a0}€"),
            ("it", "1234.5", "EUR", "1234,50\u{a0}€"),
            ("nl", "1234.5", "EUR", "€\u{a0}1.234,50"),
            ("pl", "12345.5", "PLN", "12\u{a0}345,50\u{a0}zł"),
            ("pt", "1234.5", "BRL", "R$\u{a0}1.234,50"),
            ("pt-PT", "12345.5", "EUR", "12\u{a0}345,50\u{a0}€"),
            ("ja", "1980", "JPY", "￥1,980"),
            ("ar", "1234.5", "EUR", "\u{200f}1,234.50\u{a0}€"),
            ("ar-EG", "1234.5", "EUR", "\u{200f}١٬٢٣٤٫٥٠\u{a0}€"),
            ("sv", "1234.5", "SEK", "1\u{a0}234,50\u{a0}kr"),
            ("de", "1", "ZZZ", "1,00\u{a0}ZZZ"),
            // CLDR writes these without decimals; the shop counts them.
            ("de", "1234.5", "RSD", "1.234,50\u{a0}RSD"),
            ("de", "12.5", "KWD", "12,500\u{a0}KWD"),
        ] {
            assert_eq!(money(tag, amount, code), expected, "{tag} {amount} {code}");
        }
        let euro = Currency::parse("EUR").unwrap();
        let fine = MoneyFormat::new(locale("de"), euro).price(Price::parse("0.495", euro).unwrap());
        assert_eq!(fine, "0,495\u{a0}€");
    }

    #[test]
    fn numbers_and_instants_are_written_as_each_language_does() {
        let number = |tag, text| number(locale(tag), Quantity::parse(text).unwrap());
        assert_eq!((number("en", "1.50"), number("de", "1.50")), ("1.5".to_owned(), "1,5".to_owned()));
        assert_eq!((number("de", "1000"), number("ar-EG", "12")), ("1.000".to_owned(), "١٢".to_owned()));
        let at = crate::domain::instant::from_text("2026-03-01T08:05:00Z").unwrap().with_timezone(&Tz::Europe__Berlin);
        for (tag, expected) in [
            ("en", "1 March 2026, 09:05"),
            ("en-US", "March 1, 2026 at 9:05\u{202f}AM"),
            ("de", "1. März 2026 um 09:05"),
            ("fr", "1 mars 2026 à 09:05"),
            ("es", "1 de marzo de 2026 a las 09:05"),
            ("it", "1 marzo 2026 alle ore 09:05"),
            ("nl", "1 maart 2026 om 09:05"),
            ("pl", "1 marca 2026 09:05"),
            ("pt", "1 de março de 2026 às 09:05"),
            ("ja", "2026年3月1日 9:05"),
            ("ar", "1 مارس 2026 في 9:05 ص"),
        ] {
            assert_eq!(instant(locale(tag), &at), expected, "{tag}");
        }
    }
}
