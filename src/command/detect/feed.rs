//! The due cart messages, each after a last look at its cart.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant as Monotonic};

use super::Context;
use super::due::{Fate, after_look, before_look};
use super::last_look::{LastLook, Touched, last_look};
use crate::clock::Clock;
use crate::delivery::{Feed, FeedError, Job, Label, Summary};
use crate::domain::cart::{Cart, short_hash};
use crate::domain::coupon::Coupon;
use crate::domain::instant::{self, Instant};
use crate::domain::span;
use crate::domain::state::Reason;
use crate::failure::{Exit, Failure};
use crate::ledger::{CodeFor, Due, Ledger, Records};
use crate::letters::Known;
use crate::letters::cart::{CartLetters, Occasion};
use crate::output::Output;
use crate::settings::Settings;
use crate::source::Source;

/// How many due messages are read from the ledger at once.
const PAGE: usize = 200;

/// How long the last look at a cart counts: a message that could not be armed by then stays planned.
const LOOK_COUNTS_FOR: Duration = Duration::from_secs(10);

pub(super) struct CartFeed<'a> {
    source: &'a mut dyn Source,
    letters: Arc<CartLetters>,
    settings: &'a Settings,
    clock: Clock,
    output: Output,
    /// What is due is what was due when the run began: what it defers waits for a later run.
    due_at: Instant,
    queue: VecDeque<Due>,
    after: Option<(Instant, i64)>,
}

impl<'a> CartFeed<'a> {
    pub fn new(
        context: &Context<'_>,
        letters: CartLetters,
        settings: &'a Settings,
        source: &'a mut dyn Source,
        due_at: Instant,
    ) -> Self {
        CartFeed {
            source,
            letters: Arc::new(letters),
            settings,
            clock: context.clock,
            output: context.output,
            due_at,
            queue: VecDeque::new(),
            after: None,
        }
    }

    fn next_due(&mut self, ledger: &Records) -> Result<Option<Due>, Failure> {
        if self.queue.is_empty() {
            self.queue = ledger.due_carts(self.due_at, self.after, PAGE)?.into();
        }
        let due = self.queue.pop_front();
        if let Some(due) = &due {
            self.after = Some((due.not_before, due.id));
        }
        Ok(due)
    }

    /// The coupon that a message leaves with, if its step has any; `Err` where it does not leave for want of one.
    fn coupon(&self, ledger: &mut Ledger, due: &Due) -> Result<Result<Option<Coupon>, CodeFor>, Failure> {
        let step = self.settings.detect.steps.iter().find(|step| Some(&step.step.name) == due.step.as_ref());
        let pool = step.and_then(|step| step.step.coupon.as_ref());
        let Some(pool) = pool.and_then(|name| self.settings.pools.iter().find(|pool| pool.name == *name)) else {
            return Ok(Ok(None));
        };
        Ok(match ledger.books().code_for(due.id, &due.folded_address, pool, self.clock.now())? {
            CodeFor::Code(coupon) => Ok(Some(coupon)),
            CodeFor::Without => Ok(None),
            none => Err(none),
        })
    }

    fn job(&self, due: &Due, cart: Box<Cart>, coupon: Option<Coupon>) -> Job {
        let letters = Arc::clone(&self.letters);
        let (row, message_id, date) = (Some(due.id), due.message_id.clone(), due.planned_at);
        let (step, variant, reads) = (due.step.clone(), due.variant.clone(), due.locale.or(cart.locale));
        let fresh_until = Some(Monotonic::now() + LOOK_COUNTS_FOR);
        Job {
            id: due.id,
            label: label(due),
            fresh_until,
            compose: Box::new(move || {
                let (step, variant) = (step.as_deref(), variant.as_deref());
                let occasion = Occasion { step, variant, reads, coupon: coupon.as_ref() };
                letters.write(&occasion, &cart, Known { row, message_id: &message_id, date })
            }),
        }
    }
}

impl Feed for CartFeed<'_> {
    fn next(&mut self, ledger: &mut Ledger, summary: &mut Summary) -> Result<Option<Job>, FeedError> {
        while let Some(due) = self.next_due(ledger).map_err(FeedError::Ledger)? {
            let now = self.clock.now();
            let (why, skipped) = match self.decide(ledger, &due, now)? {
                Act::Send(job) => return Ok(Some(*job)),
                Act::Skip(reason, why) => {
                    ledger.books().skip(due.id, reason, now).map_err(FeedError::Ledger)?;
                    (why, Some(reason))
                }
                Act::Wait(at, why) => {
                    ledger.books().put_back(due.id, at, &why).map_err(FeedError::Ledger)?;
                    (why, None)
                }
                Act::Look(since) => {
                    let again_at = now + span::delta(self.settings.detect.retry_after);
                    ledger.books().put_back_missing(due.id, again_at, since).map_err(FeedError::Ledger)?;
                    ("the shop does not show it now".into(), None)
                }
                Act::Move(Touched { touched_at, not_before, until }) => {
                    ledger.books().move_with_touch(due.id, touched_at, not_before, until).map_err(FeedError::Ledger)?;
                    (format!("touched again: due {}", instant::text(not_before)), None)
                }
            };
            match skipped {
                Some(reason) => summary.skip(reason.word()),
                None => summary.put_back += 1,
            }
            let label = label(&due);
            self.output.decision(format!("Skipping {label} - {why}{}", label.behind));
        }
        Ok(None)
    }
}

/// What is to become of a due message, and why.
enum Act {
    Send(Box<Job>),
    Skip(Reason, String),
    /// It is looked at again then.
    Wait(Instant, String),
    /// The shop has not shown its cart since then.
    Look(Instant),
    Move(Touched),
}

impl Act {
    fn skip(reason: Reason) -> Act {
        Act::Skip(reason, reason.word().to_owned())
    }
}

impl CartFeed<'_> {
    fn decide(&mut self, ledger: &mut Ledger, due: &Due, now: Instant) -> Result<Act, FeedError> {
        if let Some(reason) = before_look(ledger, due).map_err(FeedError::Ledger)? {
            return Ok(Act::skip(reason));
        }
        let look = self.last_look(due)?;
        if due.missing_since.is_some() && matches!(look, LastLook::Same(_)) {
            ledger.books().found_again(due.id).map_err(FeedError::Ledger)?;
        }
        let fate = after_look(self.settings, ledger, due, look, self.clock.now()).map_err(FeedError::Ledger)?;
        let again_at = now + span::delta(self.settings.detect.retry_after);
        Ok(match fate {
            Fate::Go(cart) => match self.coupon(ledger, due).map_err(FeedError::Ledger)? {
                Ok(coupon) => Act::Send(Box::new(self.job(due, cart, coupon))),
                Err(CodeFor::HadOne) => Act::skip(Reason::Capped),
                Err(CodeFor::Ended) => Act::skip(Reason::Expired),
                Err(_) => Act::Wait(again_at, "no coupon code is left".to_owned()),
            },
            Fate::Skip(reason, why) => Act::Skip(reason, why),
            Fate::Wait(at, why) => Act::Wait(at, why),
            Fate::Look(since) => Act::Look(since),
            Fate::Move(touched) => Act::Move(touched),
        })
    }

    /// Reads the cart again, just before the dialogue.
    fn last_look(&mut self, due: &Due) -> Result<LastLook, FeedError> {
        last_look(self.source, self.settings, due, self.clock.now()).map_err(|err| match err.downcast::<Failure>() {
            Ok(failure) => FeedError::Stop(failure),
            Err(err) => FeedError::Stop(Failure::new(
                Exit::NeedsAPerson,
                format!("the shop did not answer: {err:#}; nothing more is sent"),
                "check the source, then `mailonce detect` again",
            )),
        })
    }
}

/// How logs name a message without an address in it: user id (or `guest`) and the first digits of the hash.
fn label(due: &Due) -> Label {
    let who = due.identity.strip_prefix("u:").unwrap_or("guest");
    Label { name: format!("cart {who}_{}", short_hash(&due.cart_hash)), behind: format!(" (cart {})", due.cart_id) }
}
