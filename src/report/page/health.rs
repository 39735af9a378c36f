//! Whether the mail is wanted and taken: what came back, who refused, what was put off.

use serde::Serialize;

use super::days::by_days;
use super::tally::{Counts, Domain, Refusal, Tally};
use super::{Asked, per_thousand};
use crate::failure::Failure;
use crate::ledger::{CameBack, Records};

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

/// What came back of the messages that went out.
#[derive(Debug, Serialize)]
pub struct Returned {
    /// `carts`, `campaigns`, or `all`.
    pub of: &'static str,
    /// Sent, or in doubt.
    pub went_out: u64,
    pub classes: Vec<Class>,
    /// Of the messages that went out; `None` of fewer than a hundred.
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

/// The classes that say something about the mail, and what that is.
const CLASSES: [(&str, &str); 8] = [
    ("hard", "the address is dead"),
    ("soft", "full, too large, or for now"),
    ("blocked", "turned away for who sends it"),
    ("other", "failed in another way"),
    ("elsewhere", "failed at an address it was forwarded to"),
    ("delayed", "still on its way"),
    ("complaint", "marked as unwanted"),
    ("unsubscribe", "asked for no more"),
];

impl Health {
    pub(super) fn read(ledger: &Records, asked: &Asked<'_>, tally: &Tally) -> Result<Health, Failure> {
        let period = &asked.period;
        let came_back = ledger.came_back(period)?;
        let deferrals = ledger.deferrals_by_day(period)?;
        let born_at = ledger.born_at()?;
        let mut returned = vec![
            returned("all", tally.all, &came_back, |_| true),
            returned("carts", tally.carts, &came_back, |back| !back.of_campaigns),
            returned("campaigns", tally.campaigns, &came_back, |back| back.of_campaigns),
        ];
        returned.retain(|row| row.of == "all" || row.went_out > 0);
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

fn returned(of: &'static str, counts: Counts, came_back: &[CameBack], is_of: impl Fn(&CameBack) -> bool) -> Returned {
    let went_out = counts.went_out();
    let number = |class: &str| {
        came_back.iter().filter(|back| back.class == class && is_of(back)).map(|back| back.messages).sum()
    };
    let rate = |class: &str| per_thousand(number(class), went_out);
    Returned {
        of,
        went_out,
        classes: CLASSES.map(|(class, meaning)| Class { class, meaning, messages: number(class) }).into(),
        complaints_per_thousand: rate("complaint"),
        unsubscribes_per_thousand: rate("unsubscribe"),
        hard_per_thousand: rate("hard"),
    }
}
