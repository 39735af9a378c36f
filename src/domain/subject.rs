//! Subject lines, in one language or in several.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::locale::Locale;

/// The subject of a message: template text, `"Still yours, {{ name }}"`, or one for each language,
/// `{ en = "Still yours", de = "Noch da" }`. Never empty, and on one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Subject {
    /// In the order of their tags; without a tag where it is the only one. At least one.
    texts: Vec<(Option<Locale>, String)>,
    /// Which of them is for readers of other languages.
    fallback: usize,
}

/// As a file has it.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a text in quotes, or one for each language: { en = \"…\", de = \"…\" }")]
enum Written {
    One(String),
    Each(BTreeMap<String, String>),
}

impl Subject {
    /// The same for a shop whose language this is: readers of languages that are not here get it in the shop's, else in
    /// English, else in the first.
    pub fn for_shop(mut self, shop: Locale) -> Subject {
        let known = |locale: Locale| self.texts.iter().position(|(tag, _)| *tag == Some(locale));
        self.fallback = shop.chain().chain([Locale::ENGLISH]).find_map(known).unwrap_or(0);
        self
    }

    /// The subject for readers of a language; `None` are those whose language is not known.
    pub fn for_locale(&self, locale: Option<&Locale>) -> &str {
        let known = |locale: Locale| self.texts.iter().position(|(tag, _)| *tag == Some(locale));
        let nearest = locale.and_then(|locale| locale.chain().find_map(known));
        &self.texts[nearest.unwrap_or(self.fallback)].1
    }

    /// Every text.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|(_, text)| text.as_str())
    }

    /// The languages that have one of their own.
    pub fn locales(&self) -> impl Iterator<Item = Locale> {
        self.texts.iter().filter_map(|(locale, _)| *locale)
    }

    /// As one text, which [`Subject::of_stored`] reads: the subject itself where there is only one.
    pub fn stored(&self) -> String {
        match Written::from(self.clone()) {
            Written::One(text) => text,
            Written::Each(texts) => serde_json::json!(texts).to_string(),
        }
    }

    /// Reads what [`Subject::stored`] wrote, or an older version, which knew of one language only.
    pub fn of_stored(text: &str) -> Subject {
        let each = serde_json::from_str(text).ok().and_then(|texts| Subject::try_from(Written::Each(texts)).ok());
        each.unwrap_or_else(|| Subject::from(text))
    }
}

impl From<&str> for Subject {
    fn from(text: &str) -> Subject {
        Subject { texts: vec![(None, text.to_owned())], fallback: 0 }
    }
}

impl TryFrom<Written> for Subject {
    type Error = String;

    fn try_from(written: Written) -> Result<Subject, String> {
        let texts: Vec<(Option<Locale>, String)> = match written {
            Written::One(text) => vec![(None, text)],
            Written::Each(texts) => {
                let tagged = |(tag, text): (String, String)| match Locale::parse(&tag) {
                    Some(locale) => Ok((Some(locale), text)),
                    None => Err(format!("{tag:?} is no language tag such as \"de\" or \"pt-BR\"")),
                };
                texts.into_iter().map(tagged).collect::<Result<_, _>>()?
            }
        };
        if texts.is_empty() || texts.iter().any(|(_, text)| text.trim().is_empty()) {
            return Err("is empty; write the subject line".into());
        }
        if texts.iter().any(|(_, text)| text.chars().any(char::is_control)) {
            return Err("holds a line break or control character; write it on one line".into());
        }
        if let Some((Some(twice), _)) = texts.iter().enumerate().find_map(|(at, text)| {
            texts[..at].iter().any(|(locale, _)| locale.is_some() && *locale == text.0).then_some(text)
        }) {
            return Err(format!("has {twice} twice; keep one"));
        }
        Ok(Subject { texts, fallback: 0 }.for_shop(Locale::ENGLISH))
    }
}

impl From<Subject> for Written {
    fn from(subject: Subject) -> Written {
        match subject.texts.as_slice() {
            [(None, text)] => Written::One(text.clone()),
            texts => Written::Each(
                texts.iter().filter_map(|(tag, text)| Some((tag.as_ref()?.to_string(), text.clone()))).collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Held {
        subject: Subject,
    }

    fn read(text: &str) -> Result<Subject, String> {
        toml::from_str::<Held>(&format!("subject = {text}"))
            .map(|held| held.subject)
            .map_err(|err| err.message().to_owned())
    }

    #[test]
    fn each_reader_gets_the_nearest_language() {
        let subject = read(r#"{ de = "Noch da", en = "Still yours", fr = "À vous" }"#).unwrap();
        let of = |subject: &Subject, tag: &str| subject.for_locale(Locale::parse(tag).as_ref()).to_owned();
        assert_eq!((of(&subject, "de-AT"), of(&subject, "sv")), ("Noch da".into(), "Still yours".into()));
        let subject = subject.for_shop(Locale::parse("fr-CA").unwrap());
        assert_eq!((of(&subject, "sv").as_str(), subject.for_locale(None)), ("À vous", "À vous"));
        let subject = read(r#"{ it = "Tuo", de = "Noch da" }"#).unwrap().for_shop(Locale::parse("sv").unwrap());
        assert_eq!(of(&subject, "nl"), "Noch da", "neither the shop's nor English: the first");
        assert_eq!(of(&read("\"Hi\"").unwrap(), "de"), "Hi");
    }

    #[test]
    fn what_is_no_subject_is_told() {
        for (text, problem) in [
            ("\"\"", "is empty"),
            ("{}", "is empty"),
            ("{ de = \" \" }", "is empty"),
            ("{ german = \"x\" }", "\"german\" is no language tag"),
            ("{ de = \"a\\nb\" }", "line break"),
            ("{ de = \"a\", DE = \"b\" }", "has de twice"),
            ("5", "expected a text in quotes"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(problem), "{text}: {told}");
        }
    }

    #[test]
    fn what_is_stored_is_read_back_and_one_language_is_stored_as_ever() {
        for text in ["\"Hi {{ name }}\"", "'{\"a\"'", "{ de = \"Noch \\\"da\\\"\", en = \"Still\" }"] {
            let subject = read(text).unwrap();
            assert_eq!(Subject::of_stored(&subject.stored()), subject, "{text}");
            let written = toml::to_string(&Held { subject: subject.clone() }).unwrap();
            assert_eq!(toml::from_str::<Held>(&written).unwrap().subject, subject, "{written}");
        }
        assert_eq!(Subject::from("Hi {{ name }}").stored(), "Hi {{ name }}");
    }
}
