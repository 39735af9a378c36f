//! Letters about carts.

use std::io;
use std::path::Path;

use super::{SentAs, compose, marked_as_test};
use crate::domain::cart::Cart;
use crate::domain::instant::Instant;
use crate::domain::locale::Locale;
use crate::domain::message_key;
use crate::domain::subject::Subject;
use crate::failure::Failure;
use crate::mail::session::Outgoing;
use crate::mail::template::{self, Rendered};
use crate::mail::translations::{TemplateTexts, Templates};
use crate::settings::{MailSettings, Settings, ShopSettings};

/// What every letter of a run is written with.
pub struct CartLetters {
    templates: Templates,
    subject: Subject,
    shop: ShopSettings,
    mail: MailSettings,
}

impl CartLetters {
    /// Loads the template and its translations.
    ///
    /// # Errors
    /// Exit 78, naming the template and the line.
    pub fn load(settings: &Settings) -> Result<CartLetters, Failure> {
        let texts = match &settings.detect.template {
            None => TemplateTexts::built_in(),
            Some(path) => TemplateTexts::read(path).map_err(|(path, err)| cannot_be_read(&path, &err))?,
        };
        let subject = settings.detect.subject.clone();
        let templates = Templates::compile(&texts, &subject)?.with_words();
        Ok(CartLetters { templates, subject, shop: settings.shop.clone(), mail: settings.mail.clone() })
    }

    /// The same, tried on an example in each language before anything is planned: a misspelt variable would otherwise have
    /// every message of the run refused.
    ///
    /// # Errors
    /// Exit 78, naming the template and the line.
    pub fn load_and_try(settings: &Settings, now: Instant) -> Result<CartLetters, Failure> {
        let letters = CartLetters::load(settings)?;
        let message_id =
            message_key::message_id(&message_key::token("preview", "example"), settings.mail.from.address.domain());
        let cart = template::example_cart(&settings.shop, now);
        let each_language = letters.templates.locales().chain(letters.subject.locales()).map(Some);
        for locale in std::iter::once(None).chain(each_language) {
            letters.write(&cart, locale, &message_id, now).map_err(|problem| {
                Failure::config(
                    format!("no message can be rendered: {problem}; nothing is planned or sent"),
                    "correct the template or `detect.subject`; `mailonce preview` shows the result",
                )
            })?;
        }
        Ok(letters)
    }

    /// The language in which someone is written to who reads this one; `None` is someone whose language is not known.
    pub fn language(&self, reads: Option<Locale>) -> Locale {
        self.templates.language(reads, self.shop.locale)
    }

    /// Writes the letter about a cart, for someone who reads a language; the error says why that cannot be done.
    pub fn write(
        &self,
        cart: &Cart,
        reads: Option<Locale>,
        message_id: &str,
        date: Instant,
    ) -> Result<Outgoing, String> {
        self.write_and_show(cart, reads, message_id, date).map(|(outgoing, _)| outgoing)
    }

    /// The same, also as it was rendered.
    pub fn write_and_show(
        &self,
        cart: &Cart,
        reads: Option<Locale>,
        message_id: &str,
        date: Instant,
    ) -> Result<(Outgoing, Rendered), String> {
        let rendered = self.render(cart, reads, message_id)?;
        Ok((self.compose(cart, message_id, date, &rendered)?, rendered))
    }

    /// The same, marked as a test.
    pub fn write_test(
        &self,
        cart: &Cart,
        reads: Option<Locale>,
        message_id: &str,
        date: Instant,
    ) -> Result<Outgoing, String> {
        self.compose(cart, message_id, date, &marked_as_test(self.render(cart, reads, message_id)?))
    }

    fn render(&self, cart: &Cart, reads: Option<Locale>, message_id: &str) -> Result<Rendered, String> {
        let token = message_key::token_of(message_id);
        let unsubscribe = self.mail.unsubscribe.first().map(String::as_str);
        let locale = self.language(reads);
        let context = template::cart_context(cart, &self.shop, locale, unsubscribe, token);
        self.templates.render(context, locale).map_err(|err| err.to_string())
    }

    fn compose(&self, cart: &Cart, message_id: &str, date: Instant, rendered: &Rendered) -> Result<Outgoing, String> {
        let sent_as = SentAs { from: &self.mail.from, message_id, date };
        compose(&self.mail, sent_as, &cart.email, cart.name.as_deref(), rendered)
    }
}

fn cannot_be_read(path: &Path, err: &io::Error) -> Failure {
    let next = match err.kind() {
        io::ErrorKind::NotFound => "check `template` in the configuration, or leave it out for the built-in one",
        io::ErrorKind::InvalidData => "save the template as UTF-8",
        _ => "let the user that cron runs as read it",
    };
    Failure::config(format!("could not read the template {}: {err}", path.display()), next)
}
