//! Whether anything stands against writing to a cart's owner now. The ledger's triggers hold the same; this gives the reason.

use super::flow::{Flow, Next, Past, Step};
use super::instant::{self, Instant};
use super::state::State;

/// What stands against a new message about a cart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Free,
    /// A message for the same shopper and contents went out within the window, or an older system's did.
    AlreadySent { at: String },
    /// One is planned or armed.
    InProgress,
    /// One is armed with unknown outcome.
    InDoubt,
    /// One was refused, suppressed, cancelled or held back within the window.
    Settled { how: String, at: String },
    /// It was skipped for this reason and has not been touched since.
    Untouched { reason: String },
    /// This shopper was written to about this cart as often as is allowed.
    Enough { messages: u64 },
    /// The address is on the suppression list.
    Suppressed,
    /// The shopper is at another cart just now: that one is waited for, so that there is one mail, of the later.
    Busy { with_cart: String },
    /// A cart of the same shopper that was touched later is to be written to, or was.
    Superseded { by_cart: String },
    /// Its next step is not due yet.
    Waits { step: String, at: Instant },
    /// Every step of its flow was decided about.
    Done,
}

/// What the ledger, and the look at the other carts, know of a cart and its owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The message for the same shopper (or address) and contents that counts most.
    pub same: Option<SameContents>,
    /// When an older system wrote about these contents, or about any that it hashed in its own way, within the window.
    pub older_system_at: Option<String>,
    /// Why an earlier message about this cart was skipped, if the cart was not touched since and that reason still holds.
    pub skipped_untouched: Option<String>,
    /// Episodes of this shopper or address and this cart that have a message which is open, in doubt or sent.
    pub episodes: u64,
    pub suppressed: bool,
    /// A cart of the same address, touched later, whose message is planned; in steps, also one whose message has gone.
    pub later_cart: Option<String>,
}

/// What a message for the same shopper and contents means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SameContents {
    Open,
    InDoubt,
    /// Sent, or settled in another way (`how`), within the window.
    Within {
        how: String,
        at: String,
    },
}

/// One of the rules that the ledger's facts are judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    SameContents,
    OlderSystem,
    Untouched,
    MaxPerCart,
    Suppressed,
    Later,
}

impl Rule {
    /// All of them, the strongest first.
    pub const ALL: [Rule; 6] =
        [Rule::SameContents, Rule::OlderSystem, Rule::Untouched, Rule::MaxPerCart, Rule::Suppressed, Rule::Later];

    /// What stands against a message by this rule alone. `max_per_cart` is from 1 on.
    pub fn against(self, facts: &Facts, max_per_cart: u32) -> Option<Standing> {
        match self {
            Rule::SameContents => facts.same.as_ref().map(|same| match same.clone() {
                SameContents::Open => Standing::InProgress,
                SameContents::InDoubt => Standing::InDoubt,
                SameContents::Within { how, at } if how == "sent" => Standing::AlreadySent { at },
                SameContents::Within { how, at } => Standing::Settled { how, at },
            }),
            Rule::OlderSystem => facts.older_system_at.clone().map(|at| Standing::AlreadySent { at }),
            Rule::Untouched => facts.skipped_untouched.clone().map(|reason| Standing::Untouched { reason }),
            Rule::MaxPerCart => {
                let is_enough = facts.episodes >= u64::from(max_per_cart);
                is_enough.then_some(Standing::Enough { messages: facts.episodes })
            }
            Rule::Suppressed => facts.suppressed.then_some(Standing::Suppressed),
            Rule::Later => facts.later_cart.clone().map(|by_cart| Standing::Superseded { by_cart }),
        }
    }
}

/// Judges the facts; the strongest reason is given. `max_per_cart` is from 1 on.
pub fn standing(facts: &Facts, max_per_cart: u32) -> Standing {
    Rule::ALL.iter().find_map(|rule| rule.against(facts, max_per_cart)).unwrap_or(Standing::Free)
}

/// Judges a cart that is written about in steps: where its flow is, and what else is known. `past` are the messages that the
/// flow was found from; `window_began` is when the window of a message that would go now began.
pub fn standing_in_flow(
    flow: &Flow,
    steps: &[Step],
    past: &[Past],
    window_began: Instant,
    facts: Facts,
    max_per_cart: u32,
) -> Standing {
    // What came too late is recorded, but not of someone who gets nothing anyway.
    if !flow.late.is_empty() && facts.suppressed {
        return Standing::Suppressed;
    }
    if let Some(found) = against_in_flow(flow, steps) {
        return found;
    }
    standing(&facts_in_flow(flow, past, window_began, facts), max_per_cart)
}

/// What stands against a message by where the flow of its cart is, alone.
pub fn against_in_flow(flow: &Flow, steps: &[Step]) -> Option<Standing> {
    match &flow.next {
        Next::Open => Some(Standing::InProgress),
        Next::Waits { step, at } => Some(Standing::Waits { step: steps[*step].name.clone(), at: *at }),
        Next::Done => Some(Standing::Done),
        Next::Ended { how } => Some(Standing::Untouched { reason: how.clone() }),
        Next::Due { .. } => None,
    }
}

/// The facts as they count for the next message of this flow: the episode that goes on does not stand in its own way.
pub fn facts_in_flow(flow: &Flow, past: &[Past], window_began: Instant, facts: Facts) -> Facts {
    let others = past.iter().filter(|message| flow.episode.as_ref() != Some(&message.episode));
    let (mut in_doubt, mut latest) = (false, None);
    for other in others {
        in_doubt |= other.state == State::InDoubt;
        let within = other.blocking_at.filter(|at| *at > window_began);
        latest = latest.max(within.map(|at| (at, other.reason.map_or(other.state.word(), |reason| reason.word()))));
    }
    let same = match latest {
        _ if in_doubt => Some(SameContents::InDoubt),
        Some((at, how)) => Some(SameContents::Within { how: how.to_owned(), at: instant::text(at) }),
        None => None,
    };
    // What has begun is not counted again.
    let episodes = if flow.episode.is_some() { 0 } else { facts.episodes };
    Facts { same, episodes, ..facts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_reason_is_given() {
        let within = |how: &str| Some(SameContents::Within { how: how.into(), at: "t".into() });
        let all = Facts {
            same: Some(SameContents::Open),
            older_system_at: Some("o".into()),
            skipped_untouched: Some("ordered".into()),
            episodes: 3,
            suppressed: true,
            later_cart: Some("c".into()),
        };
        // Each step takes the strongest fact away.
        let steps = [
            (all.clone(), Standing::InProgress),
            (Facts { same: Some(SameContents::InDoubt), ..all.clone() }, Standing::InDoubt),
            (Facts { same: within("sent"), ..all.clone() }, Standing::AlreadySent { at: "t".into() }),
            (
                Facts { same: within("refused"), ..all.clone() },
                Standing::Settled { how: "refused".into(), at: "t".into() },
            ),
            (Facts { same: None, ..all.clone() }, Standing::AlreadySent { at: "o".into() }),
            (
                Facts { same: None, older_system_at: None, ..all.clone() },
                Standing::Untouched { reason: "ordered".into() },
            ),
        ];
        for (facts, expected) in steps {
            assert_eq!(standing(&facts, 3), expected);
        }
        let mut facts = Facts { same: None, older_system_at: None, skipped_untouched: None, ..all };
        assert_eq!(standing(&facts, 3), Standing::Enough { messages: 3 });
        assert_eq!(standing(&facts, 4), Standing::Suppressed);
        facts.suppressed = false;
        assert_eq!(standing(&facts, 4), Standing::Superseded { by_cart: "c".into() });
        facts.later_cart = None;
        assert_eq!(standing(&facts, 4), Standing::Free);
    }
}
