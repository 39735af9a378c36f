//! What is to become of a due message, by the ledger and by a last look at its cart. The feed acts upon it, `explain` tells it.

use chrono::TimeDelta;

use super::super::holds::{Held, Hold, Holds};
use super::last_look::{LastLook, QUIET, Touched};
use crate::domain::cart::Cart;
use crate::domain::instant::{self, Instant};
use crate::domain::list;
use crate::domain::span;
use crate::domain::state::Reason;
use crate::failure::Failure;
use crate::ledger::{Due, Records};
use crate::settings::Settings;

/// A cart that no look of so long has found is gone. The shop may only have been away: its file is written anew, its table
/// rebuilt.
const GONE_AFTER: TimeDelta = TimeDelta::hours(1);

/// How long a message waits before it is looked at again whether its shopper ordered something a short while ago.
const LOOK_AGAIN_AFTER_ORDER: TimeDelta = TimeDelta::hours(1);

/// What is to become of a due message, and why.
pub(super) enum Fate {
    /// It may leave, if its step has a coupon code for it.
    Go(Box<Cart>),
    Skip(Reason, String),
    /// It is looked at again then.
    Wait(Instant, String),
    /// The shop has not shown its cart since then.
    Look(Instant),
    Move(Touched),
}

impl Fate {
    fn skip(reason: Reason) -> Fate {
        Fate::Skip(reason, reason.word().to_owned())
    }
}

/// Why a due message is decided against without a look at its cart.
pub(super) fn before_look(ledger: &Records, due: &Due) -> Result<Option<Reason>, Failure> {
    Ok(ledger.is_suppressed(&due.folded_address, list::CARTS)?.then_some(Reason::Suppressed))
}

/// What becomes of a due message, given the last look at its cart. The carts of this run are in the temporary table.
pub(super) fn after_look(
    settings: &Settings,
    ledger: &Records,
    due: &Due,
    look: LastLook,
    now: Instant,
) -> Result<Fate, Failure> {
    let again_at = now + span::delta(settings.detect.retry_after);
    Ok(match look {
        LastLook::Same(cart) => {
            if let Some(other) = ledger.busy_with(due)? {
                // Once that one has been left alone it takes the place of this one.
                return Ok(Fate::Wait(again_at, format!("busy with another cart, {other}")));
            }
            match hold(settings, ledger, due, &cart, now)? {
                Hold::Free => Fate::Go(cart),
                Hold::Until { at, why } => Fate::Wait(at, format!("{why}: looked at again {}", instant::text(at))),
                Hold::Never(reason) => Fate::skip(reason),
            }
        }
        LastLook::Touched(touched) => Fate::Move(touched),
        LastLook::Early(at) => Fate::Wait(at, format!("due {}", instant::text(at))),
        LastLook::Quiet if now + LOOK_AGAIN_AFTER_ORDER >= due.expires_at => Fate::skip(Reason::Capped),
        LastLook::Quiet => Fate::Wait(now + LOOK_AGAIN_AFTER_ORDER, QUIET.to_owned()),
        LastLook::Missing => match due.missing_since {
            Some(since) if now - since >= GONE_AFTER => {
                Fate::Skip(Reason::Empty, format!("empty: gone since {}", instant::text(since)))
            }
            since => Fate::Look(since.unwrap_or(now)),
        },
        LastLook::Skip(reason) => Fate::skip(reason),
        LastLook::Unreadable(problem) => Fate::Wait(again_at, problem),
    })
}

/// Whether the send window of its shopper, a cap, or the step before it holds a message back.
pub(super) fn hold(
    settings: &Settings,
    ledger: &Records,
    due: &Due,
    cart: &Cart,
    now: Instant,
) -> Result<Hold, Failure> {
    let held = Held {
        id: due.id,
        message_key: &due.message_key,
        folded_address: &due.folded_address,
        expires_at: due.expires_at,
        is_step: due.step.is_some(),
        zone: cart.timezone.unwrap_or(settings.shop.timezone),
    };
    Holds::of(settings, None).look(ledger, &held, now)
}
