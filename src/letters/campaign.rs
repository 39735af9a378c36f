//! A campaign's letters: one for each recipient of an opening, written as it was fixed when it opened.

use minijinja::{Value, context};

use super::cart::example_coupon;
use super::{Known, Mailing, compose, marked_as_test};
use crate::domain::address::{self, Address, Mailbox};
use crate::domain::coupon::Coupon;
use crate::domain::instant::Instant;
use crate::domain::locale::Locale;
use crate::domain::subject::Subject;
use crate::failure::Failure;
use crate::language;
use crate::ledger::{DueRecipient, OpenOccurrence};
use crate::mail::session::Outgoing;
use crate::mail::template;
use crate::mail::translations::{TemplateTexts, Templates};
use crate::settings::{MailSettings, Settings, ShopSettings};

/// What every message of an occurrence is written with, as it was fixed when it opened.
pub struct CampaignLetters {
    templates: Templates,
    /// Those of the subject.
    languages: Vec<Locale>,
    from: Mailbox,
    shop: ShopSettings,
    mail: MailSettings,
    campaign_id: String,
    list: String,
    /// The coupon of an example, where its messages have any.
    example: Option<Coupon>,
}

impl CampaignLetters {
    pub fn of(occurrence: &OpenOccurrence, settings: &Settings) -> Result<CampaignLetters, Failure> {
        let from = Mailbox::parse(&occurrence.sender).unwrap_or_else(|_| settings.mail.from.clone());
        let texts = TemplateTexts::of_stored(&occurrence.template_name, &occurrence.template);
        let subject = Subject::of_stored(&occurrence.subject).for_shop(settings.shop.locale);
        Ok(CampaignLetters {
            templates: Templates::compile(&texts, &subject)?,
            languages: subject.locales().collect(),
            from,
            shop: settings.shop.clone(),
            mail: settings.mail.clone(),
            campaign_id: occurrence.campaign_id.clone(),
            list: occurrence.list.clone(),
            example: None,
        })
    }

    /// The same, whose messages may have a coupon.
    pub fn with_coupons(self, has_coupons: bool) -> CampaignLetters {
        CampaignLetters { example: has_coupons.then(example_coupon), ..self }
    }

    /// The coupon of an example, where its messages have any.
    pub fn example_coupon(&self) -> Option<&Coupon> {
        self.example.as_ref()
    }

    /// Renders these recipients' messages, and one to a recipient whose columns are all empty; returns the first of them.
    ///
    /// # Errors
    /// Exit 78: the first that cannot be rendered, by template, line and row, without an address.
    pub fn try_on(&self, rows: &[TrialRow]) -> Result<Option<template::Rendered>, Failure> {
        let mut first = None;
        for TrialRow { place, address, values } in rows {
            let rendered = self
                .render(address, values.clone(), ON_TRIAL)
                .map_err(|problem| cannot_be_rendered(&problem, place, "correct the template, or that row"))?;
            first.get_or_insert(rendered);
        }
        if let Some(TrialRow { place, address, values }) = rows.first() {
            for locale in self.templates.locales().chain(self.languages.iter().copied()) {
                self.render_for(address, Some(locale), values.clone(), ON_TRIAL, self.example.as_ref()).map_err(
                    |problem| {
                        let whose = format!("{place}, if it were in {locale},");
                        cannot_be_rendered(&problem, &whose, "correct the template, or that row")
                    },
                )?;
            }
            let empty: Row = values.iter().map(|(name, value)| (name.clone(), emptied(value))).collect();
            for locale in std::iter::once(None).chain(self.templates.locales().map(Some)) {
                self.render_for(address, locale, empty.clone(), ON_TRIAL, self.example.as_ref()).map_err(
                    |problem| {
                        let next = "use `{% if x %}…{% endif %}` or `{{ x | default('…', true) }}`";
                        cannot_be_rendered(&problem, "a recipient whose columns are empty", next)
                    },
                )?;
            }
        }
        Ok(first)
    }

    /// Writes one recipient's message, with the coupon that it has; the error says why that cannot be done.
    pub fn write(&self, due: &DueRecipient, coupon: Option<&Coupon>) -> Result<Outgoing, String> {
        let address = Address::parse(&due.recipient).map_err(|err| err.to_string())?;
        if address.formerly_folded().is_some() {
            // Planned by an older version; the mailbox that is meant may have a message of its own in this occurrence.
            return Err("the address holds characters that nobody sees, or is not composed (NFC)".into());
        }
        let known = Known { row: Some(due.id), message_id: &due.message_id, date: due.planned_at };
        let values = read_row(&due.row_values)?;
        let name = values.get("name").and_then(|name| name.as_str()).map(str::to_owned);
        let rendered = self.render_for(&address, read_locale(&values), values, known, coupon)?;
        compose(&self.mail, self.mailing(), known, &address, name.as_deref(), &rendered)
    }

    fn mailing(&self) -> Mailing<'_> {
        Mailing { from: &self.from, list: &self.list, name: &self.campaign_id }
    }

    /// The same to another address, marked as a test.
    pub fn write_test(&self, to: &Address, values: Row, known: Known<'_>) -> Result<Outgoing, String> {
        let rendered = marked_as_test(self.render(to, values, known)?);
        compose(&self.mail, self.mailing(), known, to, None, &rendered)
    }

    /// Renders one recipient's message; `values` is the row of the audience, and may say the language in `locale`.
    pub fn render(&self, address: &Address, values: Row, known: Known<'_>) -> Result<template::Rendered, String> {
        self.render_for(address, read_locale(&values), values, known, self.example.as_ref())
    }

    /// The language in which someone is written to who reads this one; `None` is someone whose language is not known.
    pub fn language(&self, reads: Option<Locale>) -> Locale {
        self.templates.language(reads, self.shop.locale)
    }

    /// The same for someone who reads a language, whatever the row says.
    pub fn render_for(
        &self,
        address: &Address,
        reads: Option<Locale>,
        mut values: Row,
        known: Known<'_>,
        coupon: Option<&Coupon>,
    ) -> Result<template::Rendered, String> {
        let locale = self.language(reads);
        // A column by one of these names is what its template means.
        for (name, value) in [("locale", locale.to_string()), ("dir", language::direction(locale).to_owned())] {
            if values.get(name).is_none_or(|value| value.is_null() || value == "") {
                values.insert(name.to_owned(), value.into());
            }
        }
        let unsubscribe = known.unsubscribe(&self.mail, address).into_iter().next();
        values.insert("email".into(), address.envelope().into());
        values.insert("campaign_id".into(), self.campaign_id.clone().into());
        values.insert("unsubscribe_url".into(), unsubscribe.into());
        if self.example.is_some() {
            values.remove("coupon");
        }
        let row: Value = serde_json::from_value(values.into()).map_err(|err| err.to_string())?;
        let shop = template::shop_variables(&self.shop);
        let context = match self.example.is_some() {
            true => {
                let coupon = coupon.map(|coupon| template::coupon_variables(coupon, &self.shop, locale));
                context! { shop => shop, coupon => coupon, ..row }
            }
            false => context! { shop => shop, ..row },
        };
        self.templates.render(context, locale).map_err(|err| err.to_string())
    }
}

/// A row of an audience, by column.
pub type Row = serde_json::Map<String, serde_json::Value>;

/// Reads a row of an audience from the JSON that the ledger keeps.
pub fn read_row(values: &str) -> Result<Row, String> {
    serde_json::from_str(values).map_err(|err| format!("the row of the audience is damaged: {err}"))
}

/// The language that a row of an audience says its recipient reads, in a column `locale`.
pub fn read_locale(values: &Row) -> Option<Locale> {
    values.get("locale").and_then(|locale| locale.as_str()).and_then(Locale::parse)
}

/// A recipient whose message is rendered on trial.
pub struct TrialRow {
    /// Which it is, in words and without its address: `row 3 of its audience`.
    pub place: String,
    pub address: Address,
    pub values: Row,
}

/// So many recipients' messages are rendered on trial.
pub const MOST_TRIED: usize = 100;
/// What a message on trial is known by.
pub const ON_TRIAL: Known<'_> = Known { row: None, message_id: "<sample@localhost>", date: Instant::UNIX_EPOCH };

/// The same value with nothing in it. Numbers and truth values have no such thing, and stay.
fn emptied(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Json::String(_) => Json::String(String::new()),
        Json::Array(_) => Json::Array(Vec::new()),
        Json::Object(map) => map.iter().map(|(name, value)| (name.clone(), emptied(value))).collect::<Row>().into(),
        Json::Null | Json::Bool(_) | Json::Number(_) => value.clone(),
    }
}

fn cannot_be_rendered(problem: &str, whose: &str, next: &str) -> Failure {
    let problem = address::masked(problem);
    Failure::config(format!("the message to {whose} cannot be rendered: {problem}"), next)
}
