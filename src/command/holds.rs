//! What keeps a message that is due back for a while: the send window of whoever gets it, the caps, and the distance between
//! two steps. The ledger's triggers hold to the last two when it is armed; looked at here, no dialogue is begun in vain.

use chrono_tz::Tz;

use crate::domain::instant::Instant;
use crate::domain::send_window::SendWindow;
use crate::domain::state::Reason;
use crate::failure::Failure;
use crate::ledger::Records;
use crate::settings::Settings;

/// The rules that hold messages back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holds<'a> {
    window: Option<&'a SendWindow>,
    has_caps: bool,
}

/// A message that is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held<'a> {
    pub id: i64,
    pub message_key: &'a str,
    pub folded_address: &'a str,
    pub expires_at: Instant,
    pub is_step: bool,
    /// Of whoever gets it.
    pub zone: Tz,
}

/// What is to become of it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// It may go.
    Free,
    /// It waits until then.
    Until { at: Instant, why: &'static str },
    /// It is decided against.
    Never(Reason),
}

impl<'a> Holds<'a> {
    /// `window` is a campaign's own; without, that of the configuration counts.
    pub fn of(settings: &'a Settings, window: Option<&'a SendWindow>) -> Holds<'a> {
        let has_caps = !settings.caps.per_person.is_empty();
        Holds { window: window.or(settings.send_window.as_ref()), has_caps }
    }

    /// When a message that falls due now may leave, as far as the clock alone tells.
    pub fn place(&self, at: Instant, zone: Tz, message_key: &str) -> Instant {
        self.window.map_or(at, |window| window.place(at, zone, message_key))
    }

    /// Whether a due message may go.
    pub fn look(&self, ledger: &Records, held: &Held<'_>, now: Instant) -> Result<Hold, Failure> {
        let cap = if self.has_caps { ledger.cap_frees_at(held.folded_address, now)? } else { None };
        let gap = if held.is_step { ledger.gap_ends_at(held.folded_address, held.id, now)? } else { None };
        let free_at = now.max(cap.unwrap_or(now)).max(gap.unwrap_or(now));
        let at = self.place(free_at, held.zone, held.message_key);
        if at <= now {
            return Ok(Hold::Free);
        }
        if cap.is_some() && at >= held.expires_at {
            return Ok(Hold::Never(Reason::Capped));
        }
        let why = match (cap, gap) {
            (Some(_), _) => "a cap is reached",
            (None, Some(_)) => "another message went just before",
            (None, None) => "outside the send window",
        };
        Ok(Hold::Until { at, why })
    }
}
