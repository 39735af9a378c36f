//! Letters about carts.

use super::{SentAs, compose, marked_as_test};
use crate::domain::cart::Cart;
use crate::domain::instant::Instant;
use crate::domain::message_key;
use crate::failure::Failure;
use crate::mail::session::Outgoing;
use crate::mail::template::{self, Rendered, Template};
use crate::settings::{MailSettings, Settings, ShopSettings};

/// What every letter of a run is written with.
pub struct CartLetters {
    template: Template,
    shop: ShopSettings,
    mail: MailSettings,
}

impl CartLetters {
    /// Loads the template.
    ///
    /// # Errors
    /// Exit 78, naming the template and the line.
    pub fn load(settings: &Settings) -> Result<CartLetters, Failure> {
        let template = Template::load(settings.detect.template.as_deref(), &settings.detect.subject)?;
        Ok(CartLetters { template, shop: settings.shop.clone(), mail: settings.mail.clone() })
    }

    /// The same, tried on an example before anything is planned: a misspelt variable would otherwise have every message
    /// of the run refused.
    ///
    /// # Errors
    /// Exit 78, naming the template and the line.
    pub fn load_and_try(settings: &Settings, now: Instant) -> Result<CartLetters, Failure> {
        let letters = CartLetters::load(settings)?;
        let message_id =
            message_key::message_id(&message_key::token("preview", "example"), settings.mail.from.address.domain());
        letters.write(&template::example_cart(&settings.shop, now), &message_id, now).map_err(|problem| {
            Failure::config(
                format!("no message can be rendered: {problem}; nothing is planned or sent"),
                "correct the template or `detect.subject`; `mailonce preview` shows the result",
            )
        })?;
        Ok(letters)
    }

    /// Writes the letter about a cart; the error says why that cannot be done.
    pub fn write(&self, cart: &Cart, message_id: &str, date: Instant) -> Result<Outgoing, String> {
        self.write_and_show(cart, message_id, date).map(|(outgoing, _)| outgoing)
    }

    /// The same, also as it was rendered.
    pub fn write_and_show(&self, cart: &Cart, message_id: &str, date: Instant) -> Result<(Outgoing, Rendered), String> {
        let rendered = self.render(cart, message_id)?;
        Ok((self.compose(cart, message_id, date, &rendered)?, rendered))
    }

    /// The same, marked as a test.
    pub fn write_test(&self, cart: &Cart, message_id: &str, date: Instant) -> Result<Outgoing, String> {
        self.compose(cart, message_id, date, &marked_as_test(self.render(cart, message_id)?))
    }

    fn render(&self, cart: &Cart, message_id: &str) -> Result<Rendered, String> {
        let token = message_key::token_of(message_id);
        let unsubscribe = self.mail.unsubscribe.first().map(String::as_str);
        let context = template::cart_context(cart, &self.shop, unsubscribe, token);
        self.template.render(context).map_err(|err| err.to_string())
    }

    fn compose(&self, cart: &Cart, message_id: &str, date: Instant, rendered: &Rendered) -> Result<Outgoing, String> {
        let sent_as = SentAs { from: &self.mail.from, message_id, date };
        compose(&self.mail, sent_as, &cart.email, cart.name.as_deref(), rendered)
    }
}
