//! What falls due.

use chrono::TimeDelta;
use chrono_tz::Tz;

use crate::domain::coupon::Pool;
use crate::domain::flow::{Flow, Step};
use crate::domain::holdout::Holdout;
use crate::domain::instant::Instant;
use crate::domain::locale::Locale;
use crate::domain::send_window::SendWindow;
use crate::domain::standing::{Rule, Standing};

/// What an opening fixes for all of its messages.
#[derive(Debug, Clone)]
pub struct Opening {
    pub campaign_id: String,
    pub planned_at: Instant,
    /// The schedule as written, to notice an edit later.
    pub schedule: String,
    pub subject: String,
    /// The template's text, so that an edit does not reach messages that are planned.
    pub template: String,
    pub template_name: String,
    /// `Name <address>`, as the header will have it.
    pub sender: String,
    /// Which list its recipients are on.
    pub list: String,
    pub expires_at: Instant,
    /// A one-off never opens again.
    pub one_off: bool,
    pub next_run: Option<Instant>,
    pub audience_rows: u64,
    pub bad_rows: u64,
    /// Instants before it that will never open.
    pub missed: Missed,
    /// What a person is told when it opens although its audience is short.
    pub short_audience: Option<String>,
    /// Where each message gets a coupon code from.
    pub pool: Option<Pool>,
}

/// What came of an opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// So many messages were written, of which these were held out and the others planned.
    Planned { recipients: u64, held_out: u64 },
    /// Another run had decided about this occurrence already, or the campaign was paused meanwhile.
    NotOurs,
}

/// What a recipient's message key and Message-ID are made of.
#[derive(Debug, Clone, Copy)]
pub struct OpeningKey<'a> {
    pub campaign_id: &'a str,
    pub planned_at: Instant,
    pub sender_domain: &'a str,
    /// Who is held out of it.
    pub holdout: Option<&'a Holdout>,
}

/// A cart that one look at the shop found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its row in the temporary table; 0 before it has one.
    pub id: i64,
    pub cart_id: String,
    pub identity: String,
    pub user_id: Option<String>,
    /// As the envelope will have it.
    pub recipient: String,
    pub folded_address: String,
    pub cart_hash: String,
    pub cart_value: String,
    pub currency: String,
    pub touched_at: Instant,
    /// Whose clock the shopper goes by, where the shop says.
    pub timezone: Option<Tz>,
    /// The language that the shopper reads, where the shop says.
    pub locale: Option<Locale>,
}

/// Instants of a campaign that will never open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missed {
    /// Oldest first.
    pub instants: Vec<Instant>,
    /// What a person is told; `None` where it was that person's own decision.
    pub line: Option<String>,
    /// The one of them that was due while the audience was held to be cut short.
    pub over_short_audience: Option<Instant>,
}

/// The rules of planning that come from the configuration.
#[derive(Debug, Clone)]
pub struct PlanRules {
    pub window: TimeDelta,
    pub max_age: TimeDelta,
    pub max_per_cart: u32,
    /// In the order of their `after`; none: one message for each abandonment.
    pub steps: Vec<Step>,
    /// By the name that a step has in its `coupon`.
    pub pools: Vec<Pool>,
    /// When an old copy of the ledger was put back, if ever.
    pub held_back_at: Option<Instant>,
    /// When mail may leave, and the zone of whoever has none of their own.
    pub send_window: Option<SendWindow>,
    pub zone: Tz,
    /// Who is held out of mail about carts.
    pub holdout: Option<Holdout>,
}

/// A candidate, what stands against writing to its owner, and where it is in its flow (`None` without steps).
#[derive(Debug, Clone)]
pub struct Judged {
    pub cart: Candidate,
    pub standing: Standing,
    pub flow: Option<Flow>,
}

/// What every rule says of a cart, also those behind the first that stands against it.
#[derive(Debug, Clone)]
pub struct Weighed {
    /// Where it is in its flow; `None` without steps.
    pub flow: Option<Flow>,
    /// What stands against it by where its flow is.
    pub of_flow: Option<Standing>,
    /// By each rule of the ledger, the strongest first.
    pub by_rule: Vec<(Rule, Option<Standing>)>,
    /// Among the other carts of the look: written about later, chosen, and whom its shopper is busy with.
    pub among: Vec<Option<Standing>>,
    /// In steps: another cart has the same contents, and was touched later.
    pub has_later_twin: bool,
    /// Episodes of this shopper and cart that count for `max_per_cart`.
    pub episodes: u64,
}

/// A message that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    pub id: i64,
    pub message_key: String,
    /// As the envelope has it.
    pub recipient: String,
    pub folded_address: String,
    pub message_id: String,
    pub planned_at: Instant,
    pub not_before: Instant,
    pub identity: String,
    pub cart_id: String,
    pub cart_hash: String,
    pub cart_touched_at: Instant,
    pub expires_at: Instant,
    /// Which step of its flow it is.
    pub step: Option<String>,
    /// How long after the last touch that step comes.
    pub step_after: Option<TimeDelta>,
    pub variant: Option<String>,
    /// The language of its shopper, as it was when this was planned.
    pub locale: Option<Locale>,
    /// When its episode was begun, and when the newest of its other messages was begun or settled.
    pub episode_begun_at: Instant,
    pub before_it: Option<Instant>,
    /// Since when the shop has not shown the cart, as far as earlier looks found.
    pub missing_since: Option<Instant>,
}

impl PlanRules {
    /// The pool that a step's codes come from.
    pub fn pool_of(&self, step: &Step) -> Option<&Pool> {
        let name = step.coupon.as_ref()?;
        self.pools.iter().find(|pool| pool.name == *name)
    }

    /// The first instant from `at` on at which mail may leave to this cart's owner.
    pub fn opens(&self, cart: &Candidate, at: Instant) -> Instant {
        let zone = cart.timezone.unwrap_or(self.zone);
        self.send_window.as_ref().map_or(at, |window| window.earliest(at, zone))
    }

    /// When a message to this cart's owner that falls due at `at` may leave.
    pub fn place(&self, cart: &Candidate, at: Instant, message_key: &str) -> Instant {
        let zone = cart.timezone.unwrap_or(self.zone);
        self.send_window.as_ref().map_or(at, |window| window.place(at, zone, message_key))
    }
}

/// What planning did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planned {
    pub messages: u64,
    /// Not planned, because their pool has no code for them.
    pub without_code: u64,
}
