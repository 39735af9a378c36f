//! The last look at a cart, just before its message leaves: is it still what the message was planned for?

use anyhow::Result;

use crate::domain::address::Address;
use crate::domain::cart::Cart;
use crate::domain::instant::Instant;
use crate::domain::money::Currency;
use crate::domain::span;
use crate::domain::state::Reason;
use crate::ledger::Due;
use crate::settings::{DetectSettings, Settings};
use crate::source::{Look, Source};

/// Why a message waits whose shopper ordered something a short while ago.
pub(super) const QUIET: &str = "quiet after an order";

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
        locale: None,
        odd_locale: None,
        odd_timezone: None,
        consent: None,
        ordered_at: None,
        timezone: None,
        lines: Vec::new(),
    })
}
