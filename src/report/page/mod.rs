//! The page that `mailonce report` writes: what a length of time came to, for people who look at it in the morning.
//!
//! A message belongs to the time in which it was planned. It is counted once, as it stands now, so that days, steps, campaigns and
//! domains each add up to the same number. What needs a person is shown whatever time it is of. Nothing is
//! read twice: the values here are the page, the text and the JSON document alike, and what is masked is masked in each.

mod campaigns;
mod carts;
mod chart;
mod days;
mod health;
mod html;
mod lists;
mod mask;
mod now;
mod tally;
mod text;

use serde::Serialize;

use self::campaigns::Campaigns;
use self::carts::Carts;
use self::days::Days;
use self::health::Health;
pub use self::html::MARK;
use self::lists::{Messages, Runs};
pub use self::mask::Names;
use self::now::Now;
use self::tally::Tally;
use super::Status;
use crate::domain::coupon::Pool;
use crate::domain::instant::{Instant, Recorded};
use crate::failure::Failure;
use crate::ledger::{Period, Records};

/// What a page is asked to show.
#[derive(Debug)]
pub struct Asked<'a> {
    pub period: Period,
    pub names: Names,
    /// The shop's name.
    pub shop: &'a str,
    /// Messages are only written to files.
    pub to_files: bool,
    /// The configured steps, in their order.
    pub steps: Vec<&'a str>,
    pub pools: &'a [Pool],
}

/// The page; as JSON, its names are kept.
#[derive(Debug, Serialize)]
pub struct Page {
    pub shop: String,
    pub version: &'static str,
    pub as_of: Recorded,
    pub since: Recorded,
    pub until: Recorded,
    /// Only this one is shown.
    pub campaign: Option<String>,
    /// Names are shown as they are.
    pub has_personal_data: bool,
    /// What a message that was sent is called here: `written` where it only goes to a file.
    pub sent_word: &'static str,
    pub now: Now,
    pub days: Days,
    /// Messages of any time that have no row any more: only their campaign's books still count them.
    pub pruned: u64,
    /// `None` on a page about one campaign.
    pub carts: Option<Carts>,
    pub campaigns: Campaigns,
    pub health: Health,
    /// Of any time.
    pub in_doubt: Messages,
    pub refused: Messages,
    pub runs: Runs,
}

impl Page {
    /// Reads all of it in one snapshot of the ledger, as of `now`.
    ///
    /// # Errors
    /// Exit 74 when the ledger cannot be read.
    pub fn read(ledger: &Records, asked: &Asked<'_>, now: Instant) -> Result<Page, Failure> {
        ledger.in_one_snapshot(|| {
            let status = Status::read(ledger, &asked.steps, asked.pools, now)?;
            let mut tally = Tally::new(asked.names);
            ledger.each_message(&asked.period, |seen| tally.add(seen))?;
            let campaigns = Campaigns::read(ledger, asked, &tally)?;
            Ok(Page {
                shop: asked.shop.to_owned(),
                version: env!("CARGO_PKG_VERSION"),
                as_of: Recorded(now),
                since: Recorded(asked.period.since),
                until: Recorded(asked.period.until),
                campaign: asked.period.campaign.clone(),
                has_personal_data: asked.names == Names::Shown,
                sent_word: if asked.to_files { "written" } else { "sent" },
                now: Now::read(ledger, asked, &status, &campaigns, now)?,
                days: Days::of(&tally, &asked.period, status.born_at.0),
                pruned: ledger.count_pruned()?,
                carts: match asked.period.campaign {
                    Some(_) => None,
                    None => Some(Carts::read(ledger, asked, &mut tally)?),
                },
                campaigns,
                health: Health::read(ledger, asked, &tally)?,
                in_doubt: Messages::in_doubt(ledger, asked, &tally, &status)?,
                refused: Messages::refused(ledger, asked, &tally)?,
                runs: Runs::read(ledger, asked, &status)?,
            })
        })
    }

    /// As one file of HTML that asks nothing of anyone: no script, no address to load from.
    pub fn html(&self) -> Result<String, Failure> {
        html::page(self)
    }

    /// As lines for a terminal or a mail.
    pub fn lines(&self) -> Vec<String> {
        text::lines(self)
    }
}

/// `number` of so many, per thousand; `None`: of fewer than a hundred it would say nothing.
fn per_thousand(number: u64, of: u64) -> Option<f64> {
    const FEWEST: u64 = 100;
    (of >= FEWEST).then(|| (number as f64 * 100_000.0 / of as f64).round() / 100.0)
}
