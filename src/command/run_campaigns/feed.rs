//! The due messages of open occurrences.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::holds::{Held, Hold, Holds};
use super::Context;
use crate::clock::Clock;
use crate::delivery::{Feed, FeedError, Job, Label, Summary};
use crate::domain::campaign::Campaign;
use crate::domain::coupon::Coupon;
use crate::domain::instant::{self, Instant};
use crate::domain::message_key;
use crate::domain::span;
use crate::domain::state::Reason;
use crate::failure::Failure;
use crate::ledger::{CodeFor, DueRecipient, Ledger, OpenOccurrence, Records};
use crate::letters::campaign::CampaignLetters;
use crate::output::Output;
use crate::settings::Settings;
use crate::source::audience::timezone_of;

/// Why a message waits for which there is no coupon code.
const NO_CODE: &str = "no coupon code is left";

/// How many due messages are read from the ledger at once.
const PAGE: usize = 500;

pub(super) struct RecipientFeed<'a> {
    settings: &'a Settings,
    /// As they are defined now.
    campaigns: &'a [Campaign],
    clock: Clock,
    output: Output,
    due_at: Instant,
    occurrences: VecDeque<OpenOccurrence>,
    current: Option<(OpenOccurrence, Arc<CampaignLetters>)>,
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
        campaigns: &'a [Campaign],
        ledger: &Records,
        due_at: Instant,
        only: Option<&str>,
    ) -> Result<Self, Failure> {
        Ok(RecipientFeed {
            settings,
            campaigns,
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
    fn next_due(&mut self, ledger: &Records) -> Result<Option<DueRecipient>, Failure> {
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
            let defined = self.campaigns.iter().find(|campaign| campaign.id == occurrence.campaign_id);
            let has_coupons = defined.is_some_and(|campaign| campaign.coupon.is_some());
            let letters = Arc::new(CampaignLetters::of(&occurrence, self.settings)?.with_coupons(has_coupons));
            self.current = Some((occurrence, letters));
        }
    }
}

impl RecipientFeed<'_> {
    /// The coupon that a message leaves with, if its campaign has any; else why it is decided against, or `None` where it waits
    /// for one.
    fn coupon(
        &self,
        ledger: &mut Ledger,
        due: &DueRecipient,
        now: Instant,
    ) -> Result<Result<Option<Coupon>, Option<Reason>>, Failure> {
        let pool = self.campaign().and_then(|campaign| campaign.coupon.as_ref());
        let Some(pool) = pool.and_then(|name| self.settings.pools.iter().find(|pool| pool.name == *name)) else {
            return Ok(Ok(None));
        };
        Ok(match ledger.books().code_for(due.id, &due.folded_address, pool, now)? {
            CodeFor::Code(coupon) => Ok(Some(coupon)),
            CodeFor::Without => Ok(None),
            CodeFor::Wait => Err(None),
            CodeFor::HadOne => Err(Some(Reason::Capped)),
            CodeFor::Ended => Err(Some(Reason::Expired)),
        })
    }

    /// The campaign that is delivered, as it is defined now.
    fn campaign(&self) -> Option<&Campaign> {
        let id = self.current.as_ref().map(|(occurrence, _)| occurrence.campaign_id.as_str());
        self.campaigns.iter().find(|campaign| Some(campaign.id.as_str()) == id)
    }

    /// Whether a message is held back, by the send window of its campaign as it is defined now.
    fn hold(&self, ledger: &Records, due: &DueRecipient, now: Instant) -> Result<Hold, Failure> {
        let held = Held {
            id: due.id,
            message_key: &due.message_key,
            folded_address: &due.folded_address,
            expires_at: due.expires_at,
            is_step: false,
            zone: serde_json::from_str(&due.row_values)
                .ok()
                .and_then(|row| timezone_of(&row))
                .unwrap_or(self.settings.shop.timezone),
        };
        Holds::of(self.settings, self.campaign().and_then(|campaign| campaign.send_window.as_ref()))
            .look(ledger, &held, now)
    }
}

impl Feed for RecipientFeed<'_> {
    fn next(&mut self, ledger: &mut Ledger, summary: &mut Summary) -> Result<Option<Job>, FeedError> {
        while let Some(due) = self.next_due(ledger).map_err(FeedError::Ledger)? {
            let Some((occurrence, letters)) = &self.current else { return Ok(None) };
            let token = message_key::token_of(&due.message_id);
            let name = format!("{} {}", occurrence.campaign_id, &token[..token.len().min(8)]);
            let label = Label { name, behind: String::new() };
            if due.suppressed {
                ledger.books().skip(due.id, Reason::Suppressed, self.clock.now()).map_err(FeedError::Ledger)?;
                summary.skip(Reason::Suppressed.word());
                self.output.decision(format!("Skipping {label} - suppressed"));
                continue;
            }
            let now = self.clock.now();
            match self.hold(ledger, &due, now).map_err(FeedError::Ledger)? {
                Hold::Free => {}
                Hold::Until { at, why } => {
                    ledger.books().put_back(due.id, at, why).map_err(FeedError::Ledger)?;
                    summary.put_back += 1;
                    self.output.decision(format!("Skipping {label} - {why}: looked at again {}", instant::text(at)));
                    continue;
                }
                Hold::Never(reason) => {
                    ledger.books().skip(due.id, reason, now).map_err(FeedError::Ledger)?;
                    summary.skip(reason.word());
                    self.output.decision(format!("Skipping {label} - {reason}"));
                    continue;
                }
            }
            let coupon = match self.coupon(ledger, &due, now).map_err(FeedError::Ledger)? {
                Ok(coupon) => coupon,
                Err(reason) => {
                    match reason {
                        Some(reason) => {
                            ledger.books().skip(due.id, reason, now).map_err(FeedError::Ledger)?;
                            summary.skip(reason.word());
                        }
                        None => {
                            let again_at = now + span::delta(self.settings.detect.retry_after);
                            ledger.books().put_back(due.id, again_at, NO_CODE).map_err(FeedError::Ledger)?;
                            summary.put_back += 1;
                        }
                    }
                    let why = reason.map_or(NO_CODE, Reason::word);
                    self.output.decision(format!("Skipping {label} - {why}"));
                    continue;
                }
            };
            let letters = Arc::clone(letters);
            return Ok(Some(Job {
                id: due.id,
                label,
                fresh_until: None,
                compose: Box::new(move || letters.write(&due, coupon.as_ref())),
            }));
        }
        Ok(None)
    }
}
