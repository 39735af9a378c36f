//! Languages: how readers of each are shown money, dates and numbers, and the words of the built-in message.
//!
//! Money, dates, numbers and plurals are those of the Unicode CLDR, by way of ICU4X, for any language there is. English
//! without a region is written as it was before there were languages.

mod format;
mod words;

use icu_locale::{Direction, LanguageIdentifier, Locale as Tag, LocaleDirectionality};

use crate::domain::locale::Locale;

pub use format::{MoneyFormat, instant, number};
pub use words::{ENGLISH, Filled, Words};

/// Which way a language is written, as HTML's `dir` has it.
pub fn direction(locale: Locale) -> &'static str {
    if locale == Locale::ENGLISH {
        return "ltr";
    }
    match LocaleDirectionality::new_common().get(&identifier(locale)) {
        Some(Direction::RightToLeft) => "rtl",
        _ => "ltr",
    }
}

/// Whether there is such a language, as far as is known here: `de`, and not `old`.
pub fn is_known(locale: Locale) -> bool {
    LocaleDirectionality::new_common().get(&identifier(locale)).is_some()
}

fn tag(locale: Locale) -> Tag {
    identifier(locale).into()
}

fn identifier(locale: Locale) -> LanguageIdentifier {
    // Every tag of ours is one of theirs.
    locale.to_string().parse().unwrap_or(LanguageIdentifier::UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_tell_the_direction() {
        for (tag, expected) in [
            ("ar", "rtl"),
            ("he-IL", "rtl"),
            ("fa", "rtl"),
            ("de-AT", "ltr"),
            ("ja", "ltr"),
            ("uz-Arab", "rtl"),
            ("old", "ltr"),
        ] {
            assert_eq!(direction(Locale::parse(tag).unwrap()), expected, "{tag}");
        }
        assert!(["de", "de-AT", "fil", "pt-BR", "zh-Hant"].iter().all(|tag| is_known(Locale::parse(tag).unwrap())));
        assert!(["old", "bak", "tmp", "min-AA"].iter().any(|tag| !is_known(Locale::parse(tag).unwrap())));
    }
}
