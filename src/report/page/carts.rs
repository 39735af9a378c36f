//! Mail about carts: step by step from planned to ordered, what came without mail, and each abandoned cart once.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use rust_decimal::Decimal;
use serde::Serialize;

use super::Asked;
use super::tally::{Counts, OfStep, Skipped, Tally, quantile};
use crate::domain::message_key;
use crate::domain::recovery::{Arm, Difference};
use crate::failure::Failure;
use crate::ledger::{Abandoned, EpisodeOutcome, Followed, Period, Records, Takings};

const CARTS_SHOWN: usize = 200;
/// Of fewer people on either side nothing is said about a difference.
const FEWEST_PEOPLE: u64 = 100;

#[derive(Debug, Serialize)]
pub struct Carts {
    /// In their order; a message from before there were steps, or without any, is `-`.
    pub steps: Vec<Step>,
    pub total: Counts,
    pub balances: bool,
    /// Whether the shop's orders were ever read; without, nothing is known of what followed.
    pub orders_are_read: bool,
    /// An order counts so many seconds after a message.
    pub order_window_seconds: Option<i64>,
    pub holdout: Option<Holdout>,
    pub abandonments: Abandonments,
}

#[derive(Debug, Serialize)]
pub struct Step {
    pub step: String,
    #[serde(flatten)]
    pub counts: Counts,
    pub balances: bool,
    pub skipped_by: Skipped,
    /// `None` where orders were never read.
    pub ordered: Option<Ordered>,
    /// From the last touch of the cart to the message.
    pub waited: Option<Waited>,
}

/// What followed messages.
#[derive(Debug, Serialize)]
pub struct Ordered {
    /// Messages that an order followed.
    pub messages: u64,
    /// Of the messages that went out, from 0 to 1.
    pub share: Option<f64>,
    /// Orders that stand.
    pub orders: u64,
    /// Of those, the ones of the very cart, and the others: of the same person.
    pub by_cart: u64,
    pub by_person: u64,
    pub cancelled: u64,
    pub refunded: u64,
    pub without_total: u64,
    /// By currency; two currencies are never added up.
    pub value: BTreeMap<String, String>,
    /// The same by message that went out.
    pub value_per_message: BTreeMap<String, String>,
}

/// Seconds, of so many messages.
#[derive(Debug, Serialize)]
pub struct Waited {
    pub messages: u64,
    pub median_seconds: u32,
    pub percentile_95_seconds: u32,
}

#[derive(Debug, Serialize)]
pub struct Holdout {
    pub treated: Arm,
    pub held_out: Arm,
    pub treated_share: f64,
    pub held_out_share: f64,
    /// `None`: too few to tell.
    pub told: Option<Difference>,
}

/// Carts that were abandoned, each once however often.
#[derive(Debug, Serialize)]
pub struct Abandonments {
    pub carts: u64,
    pub episodes: u64,
    /// Rows of an older system that were moved aside as duplicates, of any time.
    pub duplicates_moved_aside: u64,
    pub rows: Vec<Cart>,
    pub more: u64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Cart {
    pub cart: String,
    pub shopper: String,
    /// Of its newest episode.
    pub value: Option<String>,
    pub currency: Option<String>,
    pub abandoned_at: String,
    pub episodes: u64,
    pub sent: u64,
    pub last_sent_at: Option<String>,
    /// What its newest message is.
    pub state: String,
    /// The id of that message, as `log` and `explain` take it.
    pub message: Option<String>,
    /// An older system wrote about it.
    pub is_of_older_system: bool,
    #[serde(skip)]
    keys: Vec<String>,
}

impl Carts {
    pub(super) fn read(ledger: &Records, asked: &Asked<'_>, tally: &mut Tally) -> Result<Carts, Failure> {
        let followed = ledger.followed_by(&asked.period)?;
        let mut steps: Vec<(String, OfStep)> = tally.steps.drain().collect();
        steps.sort_by(|(one, of), (other, of_other)| of.after.cmp(&of_other.after).then_with(|| one.cmp(other)));
        let steps: Vec<Step> = steps
            .into_iter()
            .map(|(name, of)| {
                let none = Followed::default();
                let ordered = followed.as_ref().map(|by| by.steps.get(&name).unwrap_or(&none));
                step(name, of, ordered)
            })
            .collect();
        let sum = steps.iter().fold(Counts::default(), |sum, step| sum.plus(step.counts));
        Ok(Carts {
            total: tally.carts,
            balances: sum == tally.carts && steps.iter().all(|step| step.balances),
            steps,
            orders_are_read: followed.is_some(),
            order_window_seconds: ledger.orders_look()?.window.map(|window| window.num_seconds()),
            holdout: holdout(ledger, &asked.period)?,
            abandonments: Abandonments::read(ledger, asked, tally)?,
        })
    }
}

fn step(step: String, mut of: OfStep, followed: Option<&Followed>) -> Step {
    of.waited.sort_unstable();
    let waited = quantile(&of.waited, 0.5).zip(quantile(&of.waited, 0.95));
    Step {
        step,
        counts: of.counts,
        balances: of.counts.sum() == of.counts.messages && of.skipped.values().sum::<u64>() == of.counts.skipped,
        skipped_by: of.skipped,
        ordered: followed.map(|followed| ordered(followed, of.counts.went_out())),
        waited: waited.map(|(median_seconds, percentile_95_seconds)| Waited {
            messages: of.waited.len() as u64,
            median_seconds,
            percentile_95_seconds,
        }),
    }
}

/// What followed so many messages.
pub(super) fn ordered(followed: &Followed, went_out: u64) -> Ordered {
    let Followed { messages, takings, by_cart, by_person, cancelled, refunded } = followed;
    let Takings { orders, value, without_total } = takings;
    Ordered {
        messages: *messages,
        share: (went_out > 0).then(|| *messages as f64 / went_out as f64),
        orders: *orders,
        by_cart: *by_cart,
        by_person: *by_person,
        cancelled: *cancelled,
        refunded: *refunded,
        without_total: *without_total,
        value: value.clone(),
        value_per_message: value
            .iter()
            .filter_map(|(currency, value)| Some((currency.clone(), each(value, went_out)?)))
            .collect(),
    }
}

/// The share of one of so many, with two decimals.
fn each(value: &str, of: u64) -> Option<String> {
    let value: Decimal = value.parse().ok()?;
    value.checked_div(Decimal::from(of)).map(|each| format!("{:.2}", each.round_dp(2)))
}

fn holdout(ledger: &Records, period: &Period) -> Result<Option<Holdout>, Failure> {
    let compared = ledger.compared_with_held_out(period.since, period.until)?;
    Ok(compared.map(|compared| {
        let is_enough = compared.treated.people.min(compared.held_out.people) >= FEWEST_PEOPLE;
        Holdout {
            treated_share: compared.treated.rate(),
            held_out_share: compared.held_out.rate(),
            told: compared.difference.filter(|_| is_enough),
            treated: compared.treated,
            held_out: compared.held_out,
        }
    }))
}

impl Abandonments {
    /// Looks at the log twice: for how often each cart is in it, and for the rows of the newest.
    fn read(ledger: &Records, asked: &Asked<'_>, tally: &Tally) -> Result<Abandonments, Failure> {
        let hasher = RandomState::new();
        let key = |row: &Abandoned<'_>| match row.cart_id {
            Some(cart_id) => hasher.hash_one((cart_id, "")),
            None => hasher.hash_one((row.identity, row.cart_hash)),
        };
        let mut found: HashMap<u64, (String, u64)> = HashMap::new();
        let mut episodes = 0;
        ledger.each_abandonment(&asked.period, |row| {
            episodes += 1;
            let (newest_at, number) = found.entry(key(&row)).or_default();
            *number += 1;
            if row.created_at > newest_at.as_str() {
                row.created_at.clone_into(newest_at);
            }
        })?;
        let mut newest: Vec<(&str, u64)> = found.iter().map(|(key, (at, _))| (at.as_str(), *key)).collect();
        newest.sort_unstable_by(|one, other| other.cmp(one));
        newest.truncate(CARTS_SHOWN);
        let mut rows: HashMap<u64, Cart> = newest.iter().map(|(_, key)| (*key, Cart::default())).collect();
        ledger.each_abandonment(&asked.period, |row| {
            if let Some(cart) = rows.get_mut(&key(&row)) {
                cart.add(&row, asked, tally);
            }
        })?;
        let mut rows: Vec<Cart> = rows.into_values().collect();
        for cart in &mut rows {
            for key in std::mem::take(&mut cart.keys) {
                cart.add_outcome(ledger.episode_outcome(&key)?);
            }
        }
        rows.sort_by(|one, other| other.abandoned_at.cmp(&one.abandoned_at).then_with(|| one.cart.cmp(&other.cart)));
        let ids: Vec<&str> = rows.iter().map(|cart| cart.cart.as_str()).collect();
        let called = asked.names.carts(&ids);
        rows.iter_mut().zip(called).for_each(|(cart, called)| cart.cart = called);
        let carts = found.len() as u64;
        let duplicates_moved_aside = ledger.count_removed_duplicates()?;
        Ok(Abandonments { carts, episodes, duplicates_moved_aside, more: carts - rows.len() as u64, rows })
    }
}

impl Cart {
    fn add(&mut self, row: &Abandoned<'_>, asked: &Asked<'_>, tally: &Tally) {
        self.episodes += 1;
        self.keys.extend(row.message_key.map(str::to_owned));
        if row.message_key.is_none() {
            self.is_of_older_system = true;
            self.sent += u64::from(row.email_sent);
            self.last_sent_at = self.last_sent_at.take().max(row.last_sent_at.map(str::to_owned));
        }
        if row.created_at >= self.abandoned_at.as_str() {
            row.created_at.clone_into(&mut self.abandoned_at);
            self.cart = row.cart_id.unwrap_or("-").to_owned();
            self.shopper = asked.names.shopper(row.identity, row.email, tally);
            self.value = row.value.map(str::to_owned);
            self.currency = row.currency.map(str::to_owned);
            self.state = if row.email_sent { "sent" } else { "not sent" }.to_owned();
        }
    }

    /// In the order of the rows: the last is of its newest episode.
    fn add_outcome(&mut self, outcome: EpisodeOutcome) {
        self.sent += outcome.sent;
        self.last_sent_at = self.last_sent_at.take().max(outcome.last_armed_at);
        if let Some(state) = outcome.state {
            self.message = outcome.message_id.as_deref().map(|id| message_key::short_id(id).to_owned());
            let step = outcome.step.map_or_else(String::new, |step| format!("{step} "));
            self.state = match outcome.reason {
                Some(reason) => format!("{step}{state}: {reason}"),
                None => format!("{step}{}", state.spoken()),
            };
        }
    }
}
