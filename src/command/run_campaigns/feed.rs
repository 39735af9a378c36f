//! The due messages of open occurrences.

use std::collections::VecDeque;
use std::sync::Arc;

use minijinja::Value;

use super::Context;
use crate::clock::Clock;
use crate::delivery::{Feed, FeedError, Job, Summary};
use crate::domain::address::{self, Address, Mailbox};
use crate::domain::instant::Instant;
use crate::domain::message_key;
use crate::domain::state::Reason;
use crate::failure::Failure;
use crate::ledger::{DueRecipient, Ledger, OpenOccurrence};
use crate::mail::message::{self, Letter};
use crate::mail::session::Outgoing;
use crate::mail::template::{self, Template};
use crate::output::Output;
use crate::settings::{MailSettings, Settings, ShopSettings};

/// How many due messages are read from the ledger at once.
const PAGE: usize = 500;

/// What every message of an occurrence is written with, as it was fixed when it opened.
pub(in crate::command) struct Stationery {
    template: Template,
    from: Mailbox,
    shop: ShopSettings,
    mail: MailSettings,
    campaign_id: String,
}

pub(super) struct RecipientFeed<'a> {
    settings: &'a Settings,
    clock: Clock,
    output: Output,
    due_at: Instant,
    occurrences: VecDeque<OpenOccurrence>,
    current: Option<(OpenOccurrence, Arc<Stationery>)>,
    queue: VecDeque<DueRecipient>,
    after: Option<(Instant, i64)>,
    /// The ledger's version at which `queue` was read, and whether the campaign was running then.
    version: Option<i64>,
    is_running: bool,
}

impl<'a> RecipientFeed<'a> {
    pub fn new(
        context: &Context<'_>,
        settings: &'a Settings,
        ledger: &Ledger,
        due_at: Instant,
        only: Option<&str>,
    ) -> Result<Self, Failure> {
        Ok(RecipientFeed {
            settings,
            clock: context.clock,
            output: context.output,
            due_at,
            occurrences: ledger.open_occurrences(due_at, only)?.into(),
            current: None,
            queue: VecDeque::new(),
            after: None,
            version: None,
            is_running: false,
        })
    }

    /// The next due message, of this occurrence or the next one whose campaign is running.
    fn next_due(&mut self, ledger: &Ledger) -> Result<Option<DueRecipient>, Failure> {
        loop {
            if let Some((occurrence, _)) = &self.current {
                // A pause or a suppression takes effect within one message: what was read is read again after any change
                // that another process made.
                let version = ledger.version()?;
                if self.version != Some(version) {
                    self.queue.clear();
                    self.is_running = ledger.is_running(&occurrence.campaign_id)?;
                    self.version = Some(version);
                }
                if self.is_running {
                    if self.queue.is_empty() {
                        self.queue = ledger
                            .due_recipients(occurrence.id, (self.due_at, self.clock.now()), self.after, PAGE)?
                            .into();
                    }
                    if let Some(due) = self.queue.pop_front() {
                        self.after = Some((due.not_before, due.id));
                        return Ok(Some(due));
                    }
                }
            }
            self.queue.clear();
            (self.after, self.version) = (None, None);
            let Some(occurrence) = self.occurrences.pop_front() else { return Ok(None) };
            let stationery = Arc::new(Stationery::of(&occurrence, self.settings)?);
            self.current = Some((occurrence, stationery));
        }
    }
}

impl Feed for RecipientFeed<'_> {
    fn next(&mut self, ledger: &mut Ledger, summary: &mut Summary) -> Result<Option<Job>, FeedError> {
        while let Some(due) = self.next_due(ledger).map_err(FeedError::Ledger)? {
            let Some((occurrence, stationery)) = &self.current else { return Ok(None) };
            let token = message_key::token_of(&due.message_id);
            let label = format!("{} {}", occurrence.campaign_id, &token[..token.len().min(8)]);
            if due.suppressed {
                ledger.skip(due.id, Reason::Suppressed, self.clock.now()).map_err(FeedError::Ledger)?;
                summary.skip(Reason::Suppressed.word());
                self.output.decision(format!("Skipping {label} - suppressed"));
                continue;
            }
            let stationery = Arc::clone(stationery);
            return Ok(Some(Job {
                id: due.id,
                label,
                fresh_until: None,
                compose: Box::new(move || stationery.write(&due)),
            }));
        }
        Ok(None)
    }
}

/// A row of an audience, by column.
pub(in crate::command) type Row = serde_json::Map<String, serde_json::Value>;

/// Reads a row of an audience from the JSON that the ledger keeps.
pub(in crate::command) fn read_row(values: &str) -> Result<Row, String> {
    serde_json::from_str(values).map_err(|err| format!("the row of the audience is damaged: {err}"))
}

/// A recipient whose message is rendered on trial.
pub(in crate::command) struct TrialRow {
    /// Which it is, in words and without its address: `row 3 of its audience`.
    pub place: String,
    pub address: Address,
    pub values: Row,
}

/// So many recipients' messages are rendered on trial.
pub(in crate::command) const MOST_TRIED: usize = 100;
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

impl Stationery {
    pub fn of(occurrence: &OpenOccurrence, settings: &Settings) -> Result<Stationery, Failure> {
        let from = Mailbox::parse(&occurrence.sender).unwrap_or_else(|_| settings.mail.from.clone());
        Ok(Stationery {
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
        let unsubscribe = message::expand_each(&self.mail.unsubscribe, &address, token);
        let letter = Letter {
            from: &self.from,
            reply_to: self.mail.reply_to.as_ref(),
            to: &address,
            to_name: name.as_deref(),
            rendered: &rendered,
            message_id: &due.message_id,
            date: due.planned_at,
            token,
            unsubscribe: &unsubscribe,
        };
        let bytes = message::compose(&letter).map_err(|err| err.to_string())?;
        let envelope_from = match &self.mail.envelope {
            Some(_) => self.mail.envelope_from(token),
            None => self.from.address.envelope(),
        };
        Ok(Outgoing { envelope_from, recipient: address.clone(), bytes, token: token.to_owned() })
    }

    /// Renders one recipient's message; `values` is the row of the audience.
    pub fn render(&self, address: &Address, mut values: Row, token: &str) -> Result<template::Rendered, String> {
        let unsubscribe = self.mail.unsubscribe.first().map(|link| message::expand_unsubscribe(link, address, token));
        values.insert("email".into(), address.envelope().into());
        values.insert("campaign_id".into(), self.campaign_id.clone().into());
        values.insert("unsubscribe_url".into(), unsubscribe.into());
        values.insert("shop".into(), serde_json::json!({ "name": self.shop.name, "url": self.shop.url }));
        let context: Value = serde_json::from_value(values.into()).map_err(|err| err.to_string())?;
        self.template.render(context).map_err(|err| err.to_string())
    }
}
