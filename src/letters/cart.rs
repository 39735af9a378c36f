//! Letters about carts.

use std::io;
use std::path::Path;

use super::{Known, Mailing, compose, marked_as_test};
use crate::domain::cart::Cart;
use crate::domain::coupon::{Coupon, WhenEmpty};
use crate::domain::instant::Instant;
use crate::domain::list;
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
    /// First step to last, each before its variants; one where there are no steps.
    kinds: Vec<Kind>,
    shop: ShopSettings,
    mail: MailSettings,
}

/// One kind of letter.
struct Kind {
    /// `None` where there are no steps.
    step: Option<String>,
    variant: Option<String>,
    templates: Templates,
    subject: Subject,
    /// It may have a coupon, and go without.
    coupons: Vec<Option<Coupon>>,
}

/// What a letter is, besides what its cart says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Occasion<'a> {
    /// Without one, or of a message from before there were steps: as the first.
    pub step: Option<&'a str>,
    /// One that is not known any more: as without.
    pub variant: Option<&'a str>,
    /// The language that the shopper reads; `None` is one that is not known.
    pub reads: Option<Locale>,
    pub coupon: Option<&'a Coupon>,
}

impl CartLetters {
    /// Loads the templates and their translations.
    ///
    /// # Errors
    /// Exit 78, naming the template and the line.
    pub fn load(settings: &Settings) -> Result<CartLetters, Failure> {
        let detect = &settings.detect;
        let kind = |step: Option<&str>, variant: Option<&str>, template: Option<&Path>, subject: &Subject| {
            let texts = match template {
                None => TemplateTexts::built_in(),
                Some(path) => TemplateTexts::read(path).map_err(|(path, err)| cannot_be_read(&path, &err))?,
            };
            let templates = Templates::compile(&texts, subject)?.with_words();
            let (step, variant, subject) = (step.map(str::to_owned), variant.map(str::to_owned), subject.clone());
            Ok::<_, Failure>(Kind { step, variant, templates, subject, coupons: vec![None] })
        };
        let mut kinds = Vec::new();
        for step in &detect.steps {
            let name = step.step.name.as_str();
            let pool = step.step.coupon.as_ref().and_then(|name| settings.pools.iter().find(|pool| pool.name == *name));
            let coupons = match pool.map(|pool| pool.when_empty) {
                None => vec![None],
                Some(WhenEmpty::Wait) => vec![Some(example_coupon())],
                Some(WhenEmpty::Without) => vec![Some(example_coupon()), None],
            };
            let own = kind(Some(name), None, step.template.as_deref(), &step.subject)?;
            kinds.push(Kind { coupons: coupons.clone(), ..own });
            for variant in &step.variants {
                let own = kind(Some(name), Some(&variant.variant.name), variant.template.as_deref(), &variant.subject)?;
                kinds.push(Kind { coupons: coupons.clone(), ..own });
            }
        }
        if kinds.is_empty() {
            kinds.push(kind(None, None, detect.template.as_deref(), &detect.subject)?);
        }
        Ok(CartLetters { kinds, shop: settings.shop.clone(), mail: settings.mail.clone() })
    }

    /// The same, each kind tried on an example in each language before anything is planned: a misspelt variable would
    /// otherwise have every message of the run refused.
    ///
    /// # Errors
    /// Exit 78, naming the template and the line.
    pub fn load_and_try(settings: &Settings, now: Instant) -> Result<CartLetters, Failure> {
        let letters = CartLetters::load(settings)?;
        letters.each_example(now, &mut |_, _, _| ())?;
        Ok(letters)
    }

    /// Writes each kind of letter about an example, in each language, with and without a coupon, and has it looked at.
    ///
    /// # Errors
    /// Exit 78: one cannot be written.
    pub fn each_example(
        &self,
        now: Instant,
        look: &mut dyn FnMut(&Occasion<'_>, &Outgoing, &Rendered),
    ) -> Result<(), Failure> {
        let message_id =
            message_key::message_id(&message_key::token("preview", "example"), self.mail.from.address.domain());
        let cart = template::example_cart(&self.shop, now);
        for kind in &self.kinds {
            let each_language = kind.templates.locales().chain(kind.subject.locales()).map(Some);
            for reads in std::iter::once(None).chain(each_language) {
                for coupon in &kind.coupons {
                    let (step, variant) = (kind.step.as_deref(), kind.variant.as_deref());
                    let occasion = Occasion { step, variant, reads, coupon: coupon.as_ref() };
                    let known = Known { row: None, message_id: &message_id, date: now };
                    let written = self.write_and_show(&occasion, &cart, known);
                    let (outgoing, rendered) = written.map_err(|problem| cannot_be_written(kind, &problem))?;
                    look(&occasion, &outgoing, &rendered);
                }
            }
        }
        Ok(())
    }

    /// The language in which a letter is written; English where there is none of this kind.
    pub fn language(&self, occasion: &Occasion<'_>) -> Locale {
        self.kind(occasion).map_or(Locale::ENGLISH, |kind| kind.templates.language(occasion.reads, self.shop.locale))
    }

    /// Writes the letter about a cart; the error says why that cannot be done.
    pub fn write(&self, occasion: &Occasion<'_>, cart: &Cart, known: Known<'_>) -> Result<Outgoing, String> {
        self.write_and_show(occasion, cart, known).map(|(outgoing, _)| outgoing)
    }

    /// The same, also as it was rendered.
    pub fn write_and_show(
        &self,
        occasion: &Occasion<'_>,
        cart: &Cart,
        known: Known<'_>,
    ) -> Result<(Outgoing, Rendered), String> {
        let rendered = self.render(occasion, cart, known)?;
        Ok((self.compose(occasion, cart, known, &rendered)?, rendered))
    }

    /// The same, marked as a test. Where it would have a coupon, that is an example's.
    pub fn write_test(&self, occasion: &Occasion<'_>, cart: &Cart, known: Known<'_>) -> Result<Outgoing, String> {
        self.compose(occasion, cart, known, &marked_as_test(self.render(occasion, cart, known)?))
    }

    /// The coupon of an example, where a letter of this step would have one.
    pub fn example_coupon(&self, step: Option<&str>) -> Option<Coupon> {
        let kind = self.kind(&Occasion { step, ..Occasion::default() }).ok()?;
        kind.coupons.first().cloned().flatten()
    }

    fn kind(&self, occasion: &Occasion<'_>) -> Result<&Kind, String> {
        let Some(step) = occasion.step else {
            return self.kinds.first().ok_or_else(|| "there is no template".to_owned());
        };
        let of_step = || self.kinds.iter().filter(|kind| kind.step.as_deref().is_none_or(|name| name == step));
        let variant = of_step().find(|kind| kind.variant.as_deref() == occasion.variant);
        variant.or_else(|| of_step().next()).ok_or_else(|| format!("no step {step:?} is configured"))
    }

    fn render(&self, occasion: &Occasion<'_>, cart: &Cart, known: Known<'_>) -> Result<Rendered, String> {
        let unsubscribe = known.unsubscribe(&self.mail, &cart.email);
        let unsubscribe = unsubscribe.first().map(String::as_str);
        let kind = self.kind(occasion)?;
        let locale = kind.templates.language(occasion.reads, self.shop.locale);
        let step = kind.step.as_deref();
        let context = template::cart_context(cart, &self.shop, locale, unsubscribe, step, occasion.coupon);
        kind.templates.render(context, locale).map_err(|err| err.to_string())
    }

    fn compose(
        &self,
        occasion: &Occasion<'_>,
        cart: &Cart,
        known: Known<'_>,
        rendered: &Rendered,
    ) -> Result<Outgoing, String> {
        let name = occasion.step.unwrap_or_default();
        let mailing = Mailing { from: &self.mail.from, list: list::CARTS, name };
        compose(&self.mail, mailing, known, &cart.email, cart.name.as_deref(), rendered)
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

fn cannot_be_written(kind: &Kind, problem: &str) -> Failure {
    let mut of = String::new();
    for (what, name) in [("step", &kind.step), ("variant", &kind.variant)] {
        if let Some(name) = name {
            of.push_str(&format!(" of {what} {name:?}"));
        }
    }
    Failure::config(
        format!("no message{of} can be rendered: {problem}; nothing is planned or sent"),
        "correct the template or `detect.subject`; `mailonce preview` shows the result",
    )
}

/// The coupon of an example, which is in no pool.
pub fn example_coupon() -> Coupon {
    Coupon { code: "EXAMPLE-CODE".into(), expires_at: Instant::from_timestamp(4_102_444_800, 0) }
}
