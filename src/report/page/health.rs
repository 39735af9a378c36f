//! Whether the mail is wanted and taken: what came back, who refused, what was put off.

use serde::Serialize;

use super::days::by_days;
use super::tally::{Domain, Refusal, Tally};
use super::{Asked, per_thousand};
use crate::failure::Failure;
use crate::ledger::{self, Records};

const TOP: usize = 10;

#[derive(Debug, Serialize)]
pub struct Health {
    /// What came back, of carts and of campaigns; a message counts once in a class.
    pub returned: Vec<Returned>,
    pub refusals: Vec<Refusal>,
    pub domains: Vec<Domain>,
    /// Tries put off, by the day of the try.
    pub deferrals: Vec<Deferrals>,
    pub deferrals_total: u64,
    pub suppressed_addresses: u64,
}

/// What came back of messages, as `rates` counts it.
#[derive(Debug, Serialize)]
pub struct Returned {
    /// `carts`, `campaigns`, or `all`.
    pub of: &'static str,
    /// Handed over, or refused at once as the address is dead.
    pub sent: u64,
    pub classes: Vec<Class>,
    /// Of those sent; `None` of fewer than a hundred.
    pub complaints_per_thousand: Option<f64>,
    pub unsubscribes_per_thousand: Option<f64>,
    pub hard_per_thousand: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct Class {
    pub class: &'static str,
    pub meaning: &'static str,
    pub messages: u64,
}

#[derive(Debug, Serialize)]
pub struct Deferrals {
    pub from: String,
    pub tries: u64,
}

/// A class that says something about the mail: its name, what that is, and how many came back so.
type Meaning = (&'static str, &'static str, fn(&ledger::Returned) -> u64);

const CLASSES: [Meaning; 7] = [
    ("hard", "the address is dead", |row| row.hard),
    ("soft", "full, too large, for now, or in another way", |row| row.soft),
    ("blocked", "turned away for who sends it", |row| row.blocked),
    ("elsewhere", "failed at an address it was forwarded to", |row| row.elsewhere),
    ("delayed", "still on its way", |row| row.delayed),
    ("complaint", "marked as unwanted", |row| row.complaints),
    ("unsubscribe", "asked for no more", |row| row.unsubscribes),
];

impl Health {
    pub(super) fn read(ledger: &Records, asked: &Asked<'_>, tally: &Tally) -> Result<Health, Failure> {
        let period = &asked.period;
        let rows = ledger.returned_of(period)?;
        let deferrals = ledger.deferrals_by_day(period)?;
        let born_at = ledger.born_at()?;
        let mut returned = vec![
            returned("all", &rows, |_| true),
            returned("carts", &rows, |row| row.campaign_id.is_none()),
            returned("campaigns", &rows, |row| row.campaign_id.is_some()),
        ];
        returned.retain(|row| row.of == "all" || row.sent > 0);
        Ok(Health {
            returned,
            refusals: tally.top_replies(TOP),
            domains: tally.top_domains(TOP),
            deferrals_total: deferrals.values().sum(),
            deferrals: by_days(&deferrals, period, born_at)
                .into_iter()
                .map(|(from, tries)| Deferrals { from, tries })
                .collect(),
            suppressed_addresses: ledger.count_suppressed()?,
        })
    }
}

fn returned(of: &'static str, rows: &[ledger::Returned], is_of: impl Fn(&ledger::Returned) -> bool) -> Returned {
    let sum = |number: fn(&ledger::Returned) -> u64| rows.iter().filter(|row| is_of(row)).map(number).sum();
    let sent = sum(|row| row.sent);
    let rate = |number| per_thousand(sum(number), sent);
    Returned {
        of,
        sent,
        classes: CLASSES.map(|(class, meaning, number)| Class { class, meaning, messages: sum(number) }).into(),
        complaints_per_thousand: rate(|row| row.complaints),
        unsubscribes_per_thousand: rate(|row| row.unsubscribes),
        hard_per_thousand: rate(|row| row.hard),
    }
}
