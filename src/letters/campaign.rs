//! A campaign's letters: one for each recipient of an opening, written as it was fixed when it opened.

use minijinja::{Value, context};

use super::{SentAs, compose, marked_as_test};
use crate::domain::address::{self, Address, Mailbox};
use crate::domain::instant::Instant;
use crate::domain::message_key;
use crate::failure::Failure;
use crate::ledger::{DueRecipient, OpenOccurrence};
use crate::mail::message;
use crate::mail::session::Outgoing;
use crate::mail::template::{self, Template};
use crate::settings::{MailSettings, Settings, ShopSettings};

/// What every message of an occurrence is written with, as it was fixed when it opened.
pub struct CampaignLetters {
    template: Template,
    from: Mailbox,
    shop: ShopSettings,
    mail: MailSettings,
    campaign_id: String,
}

impl CampaignLetters {
    pub fn of(occurrence: &OpenOccurrence, settings: &Settings) -> Result<CampaignLetters, Failure> {
        let from = Mailbox::parse(&occurrence.sender).unwrap_or_else(|_| settings.mail.from.clone());
        Ok(CampaignLetters {
            template: Template::compile(&occurrence.template_name, &occurrence.template, &occurrence.subject)?,
            from,
            shop: settings.shop.clone(),
            mail: settings.mail.clone(),
            campaign_id: occurrence.campaign_id.clone(),
        })
    }

    /// Renders these recipients' messages, and one to a recipient whose columns are all empty; returns the first of them.
    ///
    /// # Errors
    /// Exit 78: the first that cannot be rendered, by template, line and row, without an address.
    pub fn try_on(&self, rows: &[TrialRow]) -> Result<Option<template::Rendered>, Failure> {
        let mut first = None;
        for TrialRow { place, address, values } in rows {
            let rendered = self
                .render(address, values.clone(), TRIAL_TOKEN)
                .map_err(|problem| cannot_be_rendered(&problem, place, "correct the template, or that row"))?;
            first.get_or_insert(rendered);
        }
        if let Some(TrialRow { address, values, .. }) = rows.first() {
            let empty = values.iter().map(|(name, value)| (name.clone(), emptied(value))).collect();
            self.render(address, empty, TRIAL_TOKEN).map_err(|problem| {
                let next = "use `{% if x %}…{% endif %}` or `{{ x | default('…', true) }}`";
                cannot_be_rendered(&problem, "a recipient whose columns are empty", next)
            })?;
        }
        Ok(first)
    }

    pub fn write(&self, due: &DueRecipient) -> Result<Outgoing, String> {
        let address = Address::parse(&due.recipient).map_err(|err| err.to_string())?;
        if address.formerly_folded().is_some() {
            // Planned by an older version; the mailbox that is meant may have a message of its own in this occurrence.
            return Err("the address holds characters that nobody sees, or is not composed (NFC)".into());
        }
        let token = message_key::token_of(&due.message_id);
        let values = read_row(&due.row_values)?;
        let name = values.get("name").and_then(|name| name.as_str()).map(str::to_owned);
        let rendered = self.render(&address, values, token)?;
        let sent_as = SentAs { from: &self.from, message_id: &due.message_id, date: due.planned_at };
        compose(&self.mail, sent_as, &address, name.as_deref(), &rendered)
    }

    /// The same to another address, marked as a test.
    pub fn write_test(&self, to: &Address, values: Row, message_id: &str, date: Instant) -> Result<Outgoing, String> {
        let rendered = marked_as_test(self.render(to, values, message_key::token_of(message_id))?);
        compose(&self.mail, SentAs { from: &self.from, message_id, date }, to, None, &rendered)
    }

    /// Renders one recipient's message; `values` is the row of the audience.
    pub fn render(&self, address: &Address, mut values: Row, token: &str) -> Result<template::Rendered, String> {
        let unsubscribe = self.mail.unsubscribe.first().map(|link| message::expand_unsubscribe(link, address, token));
        values.insert("email".into(), address.envelope().into());
        values.insert("campaign_id".into(), self.campaign_id.clone().into());
        values.insert("unsubscribe_url".into(), unsubscribe.into());
        let row: Value = serde_json::from_value(values.into()).map_err(|err| err.to_string())?;
        let context = context! { shop => template::shop_variables(&self.shop), ..row };
        self.template.render(context).map_err(|err| err.to_string())
    }
}

/// A row of an audience, by column.
pub type Row = serde_json::Map<String, serde_json::Value>;

/// Reads a row of an audience from the JSON that the ledger keeps.
pub fn read_row(values: &str) -> Result<Row, String> {
    serde_json::from_str(values).map_err(|err| format!("the row of the audience is damaged: {err}"))
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
/// Stands where a message's token would.
const TRIAL_TOKEN: &str = "sample";

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
