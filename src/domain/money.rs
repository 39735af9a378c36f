//! Money: an amount in a currency's minor units. Nothing is a float.

use std::fmt;

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
    /// Parses a decimal such as `19.9`, `19.90`, `-5` or `1980.00` (JPY: decimals beyond the currency's own must be 0).
    ///
    /// `None` for anything else: grouping, decimal commas, exponents, signs of currency, amounts beyond ±9.2e18 minor units.
    pub fn parse(text: &str, currency: Currency) -> Option<Money> {
        let text = text.trim();
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty()
            || !all_digits(whole)
            || !all_digits(fraction)
            || (digits.contains('.') && fraction.is_empty())
        {
            return None;
        }
        let decimals = currency.decimals() as usize;
        let (kept, beyond) = fraction.split_at(fraction.len().min(decimals));
        if beyond.bytes().any(|b| b != b'0') {
            return None;
        }
        let minor: i64 = format!("{whole}{kept:0<decimals$}").parse().ok()?;
        Some(Money { minor: if negative { -minor } else { minor }, currency })
    }

    /// The amount times a quantity; `None` when it does not fit.
    pub fn times(self, quantity: u32) -> Option<Money> {
        Some(Money { minor: self.minor.checked_mul(i64::from(quantity))?, ..self })
    }

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
        let mut grouped = String::with_capacity(whole.len() + whole.len() / 3);
        for (i, digit) in whole.chars().enumerate() {
            if i > 0 && (whole.len() - i) % 3 == 0 {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        if !fraction.is_empty() {
            grouped.push('.');
            grouped.push_str(&fraction);
        }
        match self.currency.sign() {
            Some(symbol) => format!("{sign}{symbol}{grouped}"),
            None => format!("{sign}{}\u{a0}{grouped}", self.currency),
        }
    }

    fn parts(&self) -> (&'static str, String, String) {
        let decimals = self.currency.decimals() as usize;
        let digits = format!("{:0>width$}", self.minor.unsigned_abs(), width = decimals + 1);
        let (whole, fraction) = digits.split_at(digits.len() - decimals);
        (if self.minor < 0 { "-" } else { "" }, whole.to_owned(), fraction.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(text: &str, code: &str) -> Option<Money> {
        Money::parse(text, Currency::parse(code).unwrap())
    }

    #[test]
    fn each_currency_has_its_own_decimals() {
        assert_eq!(money("1234.5", "EUR").unwrap().decimal(), "1234.50");
        assert_eq!(money("1980.00", "JPY").unwrap().decimal(), "1980");
        assert_eq!(money("12.5", "KWD").unwrap().decimal(), "12.500");
        assert_eq!(money("1234567.5", "EUR").unwrap().display(), "€1,234,567.50");
        assert_eq!(money("1980", "JPY").unwrap().display(), "¥1,980");
        assert_eq!(money("0.005", "KWD").unwrap().display(), "KWD\u{a0}0.005");
        assert_eq!(money("-5", "USD").unwrap().display(), "-$5.00");
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "-", ".5", "5.", "19,90", "1e3", "€5", "19.999", "NaN", "99999999999999999999", "+5", "1 000"]
        {
            assert_eq!(money(text, "EUR"), None, "{text:?}");
        }
        assert_eq!(money("19.5", "JPY"), None);
    }
}
