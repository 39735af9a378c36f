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
    /// By the name of their step, first to last; one without a name where there are no steps.
    templates: Vec<(Option<String>, Template)>,
    shop: ShopSettings,
    mail: MailSettings,
}

impl CartLetters {
    /// Loads the templates.
    ///
    /// # Errors
    /// Exit 78, naming the template and the line.
    pub fn load(settings: &Settings) -> Result<CartLetters, Failure> {
        let detect = &settings.detect;
        let mut templates = Vec::new();
        for step in &detect.steps {
            let template = Template::load(step.template.as_deref(), &step.subject)?;
            templates.push((Some(step.step.name.clone()), template));
        }
        if templates.is_empty() {
            templates.push((None, Template::load(detect.template.as_deref(), &detect.subject)?));
        }
        Ok(CartLetters { templates, shop: settings.shop.clone(), mail: settings.mail.clone() })
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
        let example = template::example_cart(&settings.shop, now);
        for step in letters.steps() {
            letters.write(step, &example, &message_id, now).map_err(|problem| {
                let of_step = step.map_or_else(String::new, |step| format!(" of step {step:?}"));
                Failure::config(
                    format!("no message{of_step} can be rendered: {problem}; nothing is planned or sent"),
                    "correct the template or the subject; `mailonce preview` shows the result",
                )
            })?;
        }
        Ok(letters)
    }

    /// The names of the steps; one `None` where there are none.
    fn steps(&self) -> impl Iterator<Item = Option<&str>> {
        self.templates.iter().map(|(step, _)| step.as_deref())
    }

    /// Writes the letter about a cart, of this step; the error says why that cannot be done.
    pub fn write(&self, step: Option<&str>, cart: &Cart, message_id: &str, date: Instant) -> Result<Outgoing, String> {
        self.write_and_show(step, cart, message_id, date).map(|(outgoing, _)| outgoing)
    }

    /// The same, also as it was rendered.
    pub fn write_and_show(
        &self,
        step: Option<&str>,
        cart: &Cart,
        message_id: &str,
        date: Instant,
    ) -> Result<(Outgoing, Rendered), String> {
        let rendered = self.render(step, cart, message_id)?;
        Ok((self.compose(cart, message_id, date, &rendered)?, rendered))
    }

    /// The same, marked as a test.
    pub fn write_test(
        &self,
        step: Option<&str>,
        cart: &Cart,
        message_id: &str,
        date: Instant,
    ) -> Result<Outgoing, String> {
        self.compose(cart, message_id, date, &marked_as_test(self.render(step, cart, message_id)?))
    }

    /// Without a name, or of a message from before there were steps: as the first.
    fn template(&self, step: Option<&str>) -> Result<&Template, String> {
        let found = match step {
            Some(_) => self.templates.iter().find(|(name, _)| name.as_deref() == step),
            None => self.templates.first(),
        };
        found.map(|(_, template)| template).ok_or_else(|| format!("no step {:?} is configured", step.unwrap_or("")))
    }

    fn render(&self, step: Option<&str>, cart: &Cart, message_id: &str) -> Result<Rendered, String> {
        let token = message_key::token_of(message_id);
        let unsubscribe = self.mail.unsubscribe.first().map(String::as_str);
        let context = template::cart_context(cart, &self.shop, unsubscribe, token);
        self.template(step)?.render(context).map_err(|err| err.to_string())
    }

    fn compose(&self, cart: &Cart, message_id: &str, date: Instant, rendered: &Rendered) -> Result<Outgoing, String> {
        let sent_as = SentAs { from: &self.mail.from, message_id, date };
        compose(&self.mail, sent_as, &cart.email, cart.name.as_deref(), rendered)
    }
}
