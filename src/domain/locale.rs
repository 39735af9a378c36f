//! Languages: the tag that says in which one, and for which region, someone reads.

use std::fmt;

/// A language tag (BCP 47, RFC 5646) of a language, and perhaps a script and a region: `de`, `de-AT`, `zh-Hant-TW`.
///
/// Variants and extensions are not kept: no text, date or price of a message depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locale {
    /// Lower case; two letters have a zero behind them. The same for the others, which are all zero where there is none.
    language: [u8; 3],
    script: [u8; 4],
    region: [u8; 3],
}

impl Locale {
    /// English: the language of what has no other.
    pub const ENGLISH: Locale = Locale { language: *b"en\0", script: [0; 4], region: [0; 3] };

    /// Reads a tag in any case, with `-` or, as shops write it, `_` between its parts. `None` for anything else.
    pub fn parse(text: &str) -> Option<Locale> {
        let mut parts = text.trim().split(['-', '_']).peekable();
        let language = parts.next().filter(|part| (2..=3).contains(&part.len()) && is_alphabetic(part))?;
        let script = parts.next_if(|part| part.len() == 4 && is_alphabetic(part)).unwrap_or_default();
        let region = parts.next_if(|part| is_region(part)).unwrap_or_default();
        let mut titled = padded(&script.to_ascii_lowercase());
        titled[0].make_ascii_uppercase();
        let locale = Locale {
            language: padded(&language.to_ascii_lowercase()),
            script: titled,
            region: padded(&region.to_ascii_uppercase()),
        };
        parts.next().is_none().then_some(locale)
    }

    /// The tag and what is left of it from the nearest to the farthest: `de-AT`, `de`. What is written in one of these is
    /// understood.
    pub fn chain(&self) -> impl Iterator<Item = Locale> {
        let language = Locale { script: [0; 4], region: [0; 3], ..*self };
        let scripted = Locale { region: [0; 3], ..*self };
        let mut last = None;
        [*self, scripted, language].into_iter().filter(move |locale| last.replace(*locale) != Some(*locale))
    }

    /// The language alone, in lower case: `de`.
    pub fn language(&self) -> &str {
        shown(&self.language)
    }

    /// The script, where the tag names it: `Hant`.
    pub fn script(&self) -> Option<&str> {
        Some(shown(&self.script)).filter(|script| !script.is_empty())
    }

    /// The region, where the tag names it: `AT`.
    pub fn region(&self) -> Option<&str> {
        Some(shown(&self.region)).filter(|region| !region.is_empty())
    }
}

fn is_alphabetic(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn is_region(part: &str) -> bool {
    part.len() == 2 && is_alphabetic(part) || part.len() == 3 && part.bytes().all(|byte| byte.is_ascii_digit())
}

fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(text.bytes()).for_each(|(byte, letter)| *byte = letter);
    bytes
}

fn shown(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default().trim_end_matches('\0')
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.language())?;
        for part in [self.script(), self.region()].into_iter().flatten() {
            write!(f, "-{part}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_one_spelling() {
        for (text, shown) in [
            ("de", "de"),
            ("DE_at", "de-AT"),
            (" zh-hant-tw ", "zh-Hant-TW"),
            ("es-419", "es-419"),
            ("sr-Latn", "sr-Latn"),
            ("fil-PH", "fil-PH"),
        ] {
            assert_eq!(Locale::parse(text).map(|locale| locale.to_string()).as_deref(), Some(shown), "{text:?}");
        }
        for text in
            ["", "d", "german", "de-", "-de", "de-AT-1996", "de-A", "de.UTF-8", "en-u-ca-x", "d€", "12", "de--AT"]
        {
            assert_eq!(Locale::parse(text), None, "{text:?}");
        }
        assert_eq!(Locale::parse("EN"), Some(Locale::ENGLISH));
    }

    #[test]
    fn a_chain_leads_from_the_region_to_the_language() {
        for (tag, chain) in [("de", "de"), ("de-AT", "de-AT de"), ("zh-Hant-TW", "zh-Hant-TW zh-Hant zh")] {
            let found: Vec<String> = Locale::parse(tag).unwrap().chain().map(|locale| locale.to_string()).collect();
            assert_eq!(found.join(" "), chain);
        }
    }
}
