//! A template and its translations: `cart.html`, and beside it `cart.de.html` and `cart.de-AT.html`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::domain::locale::Locale;
use crate::domain::subject::Subject;
use crate::failure::Failure;
use crate::language::{self, Words};

use super::cart::BUILT_IN_CART;
use super::template::{RenderError, Rendered, Template};

/// The texts of a template and its translations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateTexts {
    /// What it is called in error messages; a path is best.
    name: String,
    base: String,
    translations: BTreeMap<Locale, String>,
}

/// How [`TemplateTexts::stored`] begins where there are translations: no HTML does.
const STORED_MARK: &str = "{\"mailonce_translations\":";

#[derive(serde::Serialize, serde::Deserialize)]
struct Stored {
    mailonce_translations: BTreeMap<String, String>,
    base: String,
}

impl TemplateTexts {
    /// The cart template for shops that bring none of their own.
    pub fn built_in() -> TemplateTexts {
        let (name, base) = ("the built-in cart template".to_owned(), BUILT_IN_CART.to_owned());
        TemplateTexts { name, base, translations: BTreeMap::new() }
    }

    /// Reads a template and what stands beside it under its name with a language in it.
    ///
    /// # Errors
    /// Which of the files, and why it cannot be read.
    pub fn read(path: &Path) -> Result<TemplateTexts, (PathBuf, io::Error)> {
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|err| (path.to_owned(), err));
        let base = read(path)?;
        let mut translations = BTreeMap::new();
        for (locale, path) in siblings(path) {
            translations.insert(locale, read(&path)?);
        }
        Ok(TemplateTexts { name: path.display().to_string(), base, translations })
    }

    /// As one text, which [`TemplateTexts::of_stored`] reads: the template itself where it has no translation.
    pub fn stored(&self) -> String {
        if self.translations.is_empty() {
            return self.base.clone();
        }
        let translations = self.translations.iter().map(|(locale, text)| (locale.to_string(), text.clone())).collect();
        let stored = Stored { mailonce_translations: translations, base: self.base.clone() };
        serde_json::to_string(&stored).unwrap_or_else(|_| self.base.clone())
    }

    /// Reads what [`TemplateTexts::stored`] wrote, or an older version, which knew of no translations.
    pub fn of_stored(name: &str, stored: &str) -> TemplateTexts {
        let name = name.to_owned();
        let read = stored.starts_with(STORED_MARK).then(|| serde_json::from_str::<Stored>(stored).ok()).flatten();
        match read {
            None => TemplateTexts { name, base: stored.to_owned(), translations: BTreeMap::new() },
            Some(Stored { mailonce_translations, base }) => {
                let known = |(tag, text): (String, String)| Some((Locale::parse(&tag)?, text));
                let translations = mailonce_translations.into_iter().filter_map(known).collect();
                TemplateTexts { name, base, translations }
            }
        }
    }
}

/// The translations beside a template, by their names. Something else between the dots (`cart.old.html`) is none.
fn siblings(path: &Path) -> BTreeMap<Locale, PathBuf> {
    let mut found = BTreeMap::new();
    let (Some(stem), Some(end)) =
        (path.file_stem().and_then(|s| s.to_str()), path.extension().and_then(|s| s.to_str()))
    else {
        return found;
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // One that cannot be listed is told of when the template itself is read.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let between = name
            .to_str()
            .and_then(|name| name.strip_prefix(stem)?.strip_prefix('.')?.strip_suffix(end)?.strip_suffix('.'));
        if let Some(locale) = between.and_then(Locale::parse).filter(|locale| language::is_known(*locale)) {
            // `cart.de.html` goes before `cart.DE.html`.
            let path = path.with_file_name(&name);
            let is_plain = between == Some(locale.to_string().as_str());
            if is_plain || !found.contains_key(&locale) {
                found.insert(locale, path);
            }
        }
    }
    found
}

/// A template and its translations, compiled.
#[derive(Debug)]
pub struct Templates {
    base: Template,
    translations: BTreeMap<Locale, Template>,
    /// The base takes its words from here (`text`), so it is in every language that is spoken here.
    speaks: bool,
}

impl Templates {
    /// Compiles all of them with one subject.
    ///
    /// # Errors
    /// As [`Template::compile`], naming the file.
    pub fn compile(texts: &TemplateTexts, subject: &Subject) -> Result<Templates, Failure> {
        let base = Template::compile(&texts.name, &texts.base, subject)?;
        let translated = |(locale, html): (&Locale, &String)| {
            Ok((*locale, Template::compile(&name_of(&texts.name, *locale), html, subject)?))
        };
        let translations = texts.translations.iter().map(translated).collect::<Result<_, Failure>>()?;
        Ok(Templates { base, translations, speaks: false })
    }

    /// The same where `text` has the words of the built-in message: a base that uses them is in all of their languages.
    pub fn with_words(self) -> Templates {
        Templates { speaks: self.base.uses("text"), ..self }
    }

    /// The languages with a translation.
    pub fn locales(&self) -> impl Iterator<Item = Locale> {
        self.translations.keys().copied()
    }

    /// The language in which someone is written to who reads this one: theirs, where a translation or the words are
    /// there; else the shop's.
    pub fn language(&self, wanted: Option<Locale>, shop: Locale) -> Locale {
        let is_here = |locale: &Locale| {
            self.translation(*locale).is_some()
                || self.speaks && Words::of(*locale).is_some()
                || !self.speaks && locale.language() == shop.language()
        };
        match wanted.filter(is_here) {
            Some(wanted) => wanted,
            None if is_here_for_shop(self, shop) => shop,
            None => Locale::ENGLISH,
        }
    }

    /// Renders a message in a language that [`Templates::language`] gave.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render(&self, context: minijinja::Value, locale: Locale) -> Result<Rendered, RenderError> {
        self.translation(locale).unwrap_or(&self.base).render(context, Some(&locale))
    }

    fn translation(&self, locale: Locale) -> Option<&Template> {
        locale.chain().find_map(|locale| self.translations.get(&locale))
    }
}

/// The base is in the shop's language, whatever that is, unless it takes its words from here.
fn is_here_for_shop(templates: &Templates, shop: Locale) -> bool {
    !templates.speaks || templates.translation(shop).is_some() || Words::of(shop).is_some()
}

/// `templates/cart.html` in German: `templates/cart.de.html`.
fn name_of(base: &str, locale: Locale) -> String {
    match base.rsplit_once('.') {
        Some((stem, end)) if !end.contains('/') => format!("{stem}.{locale}.{end}"),
        _ => format!("{base} ({locale})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    fn locale(tag: &str) -> Locale {
        Locale::parse(tag).unwrap()
    }

    fn texts(files: &[(&str, &str)]) -> TemplateTexts {
        let dir = tempfile::TempDir::new().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let mut texts = TemplateTexts::read(&dir.path().join("cart.html")).unwrap();
        texts.name = "t/cart.html".into();
        texts
    }

    #[test]
    fn the_translation_nearest_to_the_reader_is_taken() {
        let texts = texts(&[
            ("cart.html", "base"),
            ("cart.de.html", "German"),
            ("cart.de-AT.html", "Austrian"),
            ("cart.EN.html", "English"),
            ("cart.old.html", "{{ broken"),
            ("cart.backup.html", "{{ broken"),
            ("cart.fr.html~", "{{ broken"),
            ("cart.fr.htm", "{{ broken"),
            ("mycart.it.html", "{{ broken"),
        ]);
        let templates = Templates::compile(&texts, &Subject::from("S")).unwrap();
        assert_eq!(templates.locales().count(), 3);
        let written = |wanted: Option<&str>, shop: &str| {
            let language = templates.language(wanted.map(locale), locale(shop));
            (language.to_string(), templates.render(context! {}, language).unwrap().text.trim().to_owned())
        };
        for (wanted, shop, language, text) in [
            (Some("de-AT"), "fr", "de-AT", "Austrian"),
            (Some("de-CH"), "fr", "de-CH", "German"),
            (Some("sv"), "fr", "fr", "base"),
            (Some("fr-CA"), "fr", "fr-CA", "base"),
            (None, "fr", "fr", "base"),
            (None, "de", "de", "German"),
            (Some("sv"), "de-CH", "de-CH", "German"),
            (Some("en-GB"), "de", "en-GB", "English"),
        ] {
            assert_eq!(written(wanted, shop), (language.into(), text.into()), "{wanted:?} at {shop}");
        }
    }

    #[test]
    fn a_template_with_words_of_ours_is_in_every_language_that_has_them() {
        let templates = Templates::compile(&TemplateTexts::built_in(), &Subject::from("S")).unwrap().with_words();
        let language =
            |wanted: Option<&str>, shop: &str| templates.language(wanted.map(locale), locale(shop)).to_string();
        assert_eq!(language(Some("pl"), "de"), "pl");
        assert_eq!(language(Some("sv"), "de"), "de");
        assert_eq!((language(Some("sv"), "fi"), language(Some("fi"), "fi")), ("en".into(), "en".into()));
    }

    #[test]
    fn a_translation_that_is_wrong_is_named() {
        let texts = texts(&[("cart.html", "x"), ("cart.de.html", "a\n{{ x")]);
        let failure = Templates::compile(&texts, &Subject::from("S")).unwrap_err();
        assert!(failure.what.starts_with("t/cart.de.html:2: "), "{}", failure.what);
    }

    #[test]
    fn what_is_stored_is_read_back_and_one_alone_is_stored_as_it_is() {
        let with = texts(&[("cart.html", "<p>\"x\"</p>"), ("cart.de.html", "<p>ü</p>\n")]);
        assert_eq!(TemplateTexts::of_stored("t/cart.html", &with.stored()), with);
        let alone = texts(&[("cart.html", "<p>\"x\"</p>")]);
        assert_eq!(
            (alone.stored().as_str(), TemplateTexts::of_stored("t/cart.html", "<p>\"x\"</p>")),
            ("<p>\"x\"</p>", alone)
        );
    }
}
