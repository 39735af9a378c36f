//! The due cart messages, each after a last look at its cart.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant as Monotonic};

use anyhow::Result;
use chrono::TimeDelta;

use super::super::holds::{Held, Hold, Holds};
use super::Context;
use crate::clock::Clock;
use crate::delivery::{Feed, FeedError, Job, Label, Summary};
use crate::domain::address::Address;
use crate::domain::cart::{Cart, short_hash};
use crate::domain::coupon::Coupon;
use crate::domain::instant::{self, Instant};
use crate::domain::money::Currency;
use crate::domain::span;
use crate::domain::state::Reason;
use crate::failure::{Exit, Failure};
use crate::ledger::{CodeFor, Due, Ledger, Records};
use crate::letters::cart::CartLetters;
use crate::output::Output;
use crate::settings::{DetectSettings, Settings};
use crate::source::{Look, Source};

/// How many due messages are read from the ledger at once.
const PAGE: usize = 200;

/// How long the last look at a cart counts: a message that could not be armed by then stays planned.
const LOOK_COUNTS_FOR: Duration = Duration::from_secs(10);

/// A cart that no look of so long has found is gone. The shop may only have been away: its file is written anew, its table
/// rebuilt.
const GONE_AFTER: TimeDelta = TimeDelta::hours(1);

/// How long a message waits before it is looked at again whether its shopper ordered something a short while ago.
const LOOK_AGAIN_AFTER_ORDER: TimeDelta = TimeDelta::hours(1);

/// Why such a message waits.
pub(super) const QUIET: &str = "quiet after an order";

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

    fn hold(&self, ledger: &Records, due: &Due, cart: &Cart) -> Result<Hold, Failure> {
        let held = Held {
            id: due.id,
            message_key: &due.message_key,
            folded_address: &due.folded_address,
            expires_at: due.expires_at,
            is_step: due.step.is_some(),
            zone: cart.timezone.unwrap_or(self.settings.shop.timezone),
        };
        Holds::of(self.settings, None).look(ledger, &held, self.clock.now())
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
        let (message_id, date, step) = (due.message_id.clone(), due.planned_at, due.step.clone());
        let fresh_until = Some(Monotonic::now() + LOOK_COUNTS_FOR);
        Job {
            id: due.id,
            label: label(due),
            fresh_until,
            compose: Box::new(move || letters.write(step.as_deref(), &cart, &message_id, date)),
        }
    }
}

impl Feed for CartFeed<'_> {
    fn next(&mut self, ledger: &mut Ledger, summary: &mut Summary) -> Result<Option<Job>, FeedError> {
        while let Some(due) = self.next_due(ledger).map_err(FeedError::Ledger)? {
            let now = self.clock.now();
            let suppressed = ledger.is_suppressed(&due.folded_address).map_err(FeedError::Ledger)?;
            let look = if suppressed { LastLook::Skip(Reason::Suppressed) } else { self.last_look(&due)? };
            let again_at = now + span::delta(self.settings.detect.retry_after);
            match look {
                LastLook::Same(cart) => {
                    if due.missing_since.is_some() {
                        ledger.books().found_again(due.id).map_err(FeedError::Ledger)?;
                    }
                    match ledger.busy_with(&due).map_err(FeedError::Ledger)? {
                        None => match self.hold(ledger, &due, &cart).map_err(FeedError::Ledger)? {
                            Hold::Free => match self.coupon(ledger, &due).map_err(FeedError::Ledger)? {
                                Ok(coupon) => return Ok(Some(self.job(&due, cart, coupon))),
                                Err(CodeFor::HadOne) => self.skip(ledger, &due, Reason::Capped, summary)?,
                                Err(CodeFor::Ended) => self.skip(ledger, &due, Reason::Expired, summary)?,
                                Err(_) => self.put_back(ledger, &due, "no coupon code is left", summary)?,
                            },
                            Hold::Until { at, why } => {
                                ledger.books().put_back(due.id, at, why).map_err(FeedError::Ledger)?;
                                summary.put_back += 1;
                                self.say_skipped(&due, &format!("{why}: looked at again {}", instant::text(at)));
                            }
                            Hold::Never(reason) => self.skip(ledger, &due, reason, summary)?,
                        },
                        // Once that one has been left alone it takes the place of this one.
                        Some(other) => {
                            self.put_back(ledger, &due, &format!("busy with another cart, {other}"), summary)?
                        }
                    }
                }
                LastLook::Touched(touched) => {
                    let Touched { touched_at, not_before, until } = touched;
                    ledger.books().move_with_touch(due.id, touched_at, not_before, until).map_err(FeedError::Ledger)?;
                    summary.put_back += 1;
                    self.say_skipped(&due, &format!("touched again: due {}", instant::text(not_before)));
                }
                LastLook::Early(at) => {
                    let why = format!("due {}", instant::text(at));
                    ledger.books().put_back(due.id, at, &why).map_err(FeedError::Ledger)?;
                    summary.put_back += 1;
                    self.say_skipped(&due, &why);
                }
                LastLook::Quiet => {
                    let at = now + LOOK_AGAIN_AFTER_ORDER;
                    if at >= due.expires_at {
                        self.skip(ledger, &due, Reason::Capped, summary)?;
                        continue;
                    }
                    ledger.books().put_back(due.id, at, QUIET).map_err(FeedError::Ledger)?;
                    summary.put_back += 1;
                    self.say_skipped(&due, QUIET);
                }
                LastLook::Missing => {
                    let since = due.missing_since.unwrap_or(now);
                    if now - since >= GONE_AFTER {
                        ledger.books().skip(due.id, Reason::Empty, now).map_err(FeedError::Ledger)?;
                        summary.skip(Reason::Empty.word());
                        self.say_skipped(&due, &format!("empty: gone since {}", instant::text(since)));
                        continue;
                    }
                    ledger.books().put_back_missing(due.id, again_at, since).map_err(FeedError::Ledger)?;
                    summary.put_back += 1;
                    self.say_skipped(&due, "the shop does not show it now");
                }
                LastLook::Skip(reason) => self.skip(ledger, &due, reason, summary)?,
                LastLook::Unreadable(problem) => self.put_back(ledger, &due, &problem, summary)?,
            }
        }
        Ok(None)
    }
}

/// What the last look at a cart showed.
pub(super) enum LastLook {
    Same(Box<Cart>),
    /// The message is decided against, for this reason.
    Skip(Reason),
    /// The shop does not show the cart: tried again, and gone only when it stays so.
    Missing,
    /// The cart's row has become unreadable: tried again later.
    Unreadable(String),
    /// A step whose cart was touched, and holds the same: it moves.
    Touched(Touched),
    /// A step that is not due before then.
    Early(Instant),
    /// The shopper ordered something else a short while ago.
    Quiet,
}

/// Where a touch moves a step to.
pub(super) struct Touched {
    pub touched_at: Instant,
    pub not_before: Instant,
    pub until: Instant,
}

impl CartFeed<'_> {
    /// Leaves a message for a later run, and says why.
    fn put_back(&self, ledger: &mut Ledger, due: &Due, why: &str, summary: &mut Summary) -> Result<(), FeedError> {
        let again_at = self.clock.now() + span::delta(self.settings.detect.retry_after);
        ledger.books().put_back(due.id, again_at, why).map_err(FeedError::Ledger)?;
        summary.put_back += 1;
        self.say_skipped(due, why);
        Ok(())
    }

    fn skip(&self, ledger: &mut Ledger, due: &Due, reason: Reason, summary: &mut Summary) -> Result<(), FeedError> {
        ledger.books().skip(due.id, reason, self.clock.now()).map_err(FeedError::Ledger)?;
        summary.skip(reason.word());
        self.say_skipped(due, reason.word());
        Ok(())
    }

    fn say_skipped(&self, due: &Due, why: &str) {
        let label = label(due);
        self.output.decision(format!("Skipping {label} - {why}{}", label.behind));
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

/// Whether a cart is still what the message was planned for.
pub(super) fn last_look(source: &mut dyn Source, settings: &Settings, due: &Due, now: Instant) -> Result<LastLook> {
    let detect = &settings.detect;
    let mut cart = match source.cart(&due.cart_id)? {
        Look::Cart(cart) => cart,
        Look::Bad(bad) => return Ok(LastLook::Unreadable(format!("{}: {}", bad.place, bad.problem))),
        Look::Gone => {
            // A shop may remove a cart when it is ordered.
            let ordered = stand_in(due).map_or(Ok(false), |cart| source.ordered(&cart))?;
            return Ok(if ordered { LastLook::Skip(Reason::Ordered) } else { LastLook::Missing });
        }
    };
    if due.step.is_some() {
        cart.counts_orders_from(due.episode_begun_at - span::delta(detect.idle));
    }
    if cart.ordered_at.is_some() || source.ordered(&cart)? {
        return Ok(LastLook::Skip(Reason::Ordered));
    }
    if is_quiet_after_order(source, settings, &cart, now)? {
        return Ok(LastLook::Quiet);
    }
    if let Some(step) = &due.step {
        return Ok(last_look_at_step(step, detect, due, cart, now));
    }
    if cart.lines.is_empty() {
        return Ok(LastLook::Skip(Reason::Empty));
    }
    let consent = cart.consent.unwrap_or(detect.consent_assumed);
    let same_person = cart.is_of(&due.identity, &due.folded_address);
    if cart.hash() != due.cart_hash || cart.updated_at > due.cart_touched_at || !same_person || !consent {
        return Ok(LastLook::Skip(Reason::Changed));
    }
    Ok(LastLook::Same(cart))
}

/// Whether the shopper ordered within `caps.quiet_after_order`, something else than this cart.
pub(super) fn is_quiet_after_order(
    source: &mut dyn Source,
    settings: &Settings,
    cart: &Cart,
    now: Instant,
) -> Result<bool> {
    let Some(quiet) = settings.caps.quiet_after_order else { return Ok(false) };
    let mut cart = cart.clone();
    cart.counts_orders_from(now - span::delta(quiet));
    source.ordered(&cart)
}

/// The same for a step of a flow. A touch only moves it, and a guest may have logged in.
fn last_look_at_step(name: &str, detect: &DetectSettings, due: &Due, cart: Box<Cart>, now: Instant) -> LastLook {
    let Some(step) = detect.steps.iter().map(|step| &step.step).find(|step| step.name == name) else {
        return LastLook::Skip(Reason::Cancelled);
    };
    let touched = cart.updated_at > due.cart_touched_at;
    let holds_the_same = cart.hash() == due.cart_hash;
    if !holds_the_same && !touched {
        // Other contents without a touch: the shop is at writing it anew.
        return LastLook::Missing;
    }
    if cart.lines.is_empty() {
        return LastLook::Skip(Reason::Empty);
    }
    let consent = cart.consent.unwrap_or(detect.consent_assumed);
    let same_person = cart.email.folded() == due.folded_address || cart.is_of(&due.identity, &due.folded_address);
    let begins_anew = due.before_it.is_some_and(|before| cart.updated_at > before + span::delta(detect.window));
    if !holds_the_same || !same_person || !consent || begins_anew {
        return LastLook::Skip(Reason::Changed);
    }
    let after = due.step_after.unwrap_or(step.after);
    let touched_at = cart.updated_at.max(due.cart_touched_at);
    if touched {
        let not_before = (touched_at + after).max(now);
        return LastLook::Touched(Touched { touched_at, not_before, until: touched_at + step.until });
    }
    if touched_at + after > now { LastLook::Early(touched_at + after) } else { LastLook::Same(cart) }
}

/// As much of a cart that is gone as it takes to ask whether it was ordered.
fn stand_in(due: &Due) -> Option<Cart> {
    Some(Cart {
        cart_id: due.cart_id.clone(),
        user_id: due.identity.strip_prefix("u:").map(str::to_owned),
        email: Address::parse(&due.recipient).ok()?,
        name: None,
        currency: Currency::parse("XXX")?,
        created_at: None,
        updated_at: due.cart_touched_at,
        recovery_url: None,
        consent: None,
        ordered_at: None,
        timezone: None,
        lines: Vec::new(),
    })
}

/// How logs name a message without an address in it: user id (or `guest`) and the first digits of the hash.
fn label(due: &Due) -> Label {
    let who = due.identity.strip_prefix("u:").unwrap_or("guest");
    Label { name: format!("cart {who}_{}", short_hash(&due.cart_hash)), behind: format!(" (cart {})", due.cart_id) }
}
