//! All that is counted of messages, in one look at each.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use serde::Serialize;

use super::mask::{Names, plain};
use crate::domain::instant;
use crate::domain::state::{Reason, State};
use crate::ledger::Seen;

/// A domain is named once so many people have written themselves down with it: one of its own names its owner.
const PEOPLE_OF_A_DOMAIN: usize = 5;
/// Replies that differ are kept up to this number; servers put numbers of their own into them.
const MOST_REPLIES: usize = 20_000;
/// What a reply is known by on a page.
pub const REPLY_SHOWN: usize = 160;

/// Messages by what became of them: `messages` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub messages: u64,
    pub sent: u64,
    pub refused: u64,
    pub skipped: u64,
    pub in_doubt: u64,
    /// Planned, or just on its way.
    pub to_come: u64,
}

impl Counts {
    pub fn add(&mut self, state: State, number: u64) {
        self.messages += number;
        *match state {
            State::Planned | State::Armed => &mut self.to_come,
            State::Sent => &mut self.sent,
            State::Refused => &mut self.refused,
            State::Skipped => &mut self.skipped,
            State::InDoubt => &mut self.in_doubt,
        } += number;
    }

    pub fn plus(self, other: Counts) -> Counts {
        Counts {
            messages: self.messages + other.messages,
            sent: self.sent + other.sent,
            refused: self.refused + other.refused,
            skipped: self.skipped + other.skipped,
            in_doubt: self.in_doubt + other.in_doubt,
            to_come: self.to_come + other.to_come,
        }
    }

    /// Those that are not among `part`.
    fn minus(self, part: Counts) -> Counts {
        Counts {
            messages: self.messages - part.messages,
            sent: self.sent - part.sent,
            refused: self.refused - part.refused,
            skipped: self.skipped - part.skipped,
            in_doubt: self.in_doubt - part.in_doubt,
            to_come: self.to_come - part.to_come,
        }
    }

    /// What the states come to; it must be `messages`.
    pub fn sum(&self) -> u64 {
        self.sent + self.refused + self.skipped + self.in_doubt + self.to_come
    }

    /// Those whose body left, for certain or perhaps.
    pub fn went_out(&self) -> u64 {
        self.sent + self.in_doubt
    }
}

pub type Skipped = BTreeMap<Reason, u64>;

/// The messages of one step.
#[derive(Debug, Default)]
pub struct OfStep {
    /// In seconds; 0 without steps.
    pub after: i64,
    pub counts: Counts,
    pub skipped: Skipped,
    /// From the last touch of the cart to the message, in seconds; of those that went out.
    pub waited: Vec<u32>,
}

/// The messages of one occurrence that have a row.
#[derive(Debug, Default)]
pub struct OfOccurrence {
    pub messages: u64,
    pub first_armed_at: Option<String>,
    pub last_armed_at: Option<String>,
}

#[derive(Debug, Default)]
struct OfDomain {
    counts: Counts,
    /// The first few people, by a hash.
    people: Vec<u64>,
}

/// The count.
#[derive(Debug)]
pub struct Tally {
    names: Names,
    hasher: RandomState,
    pub all: Counts,
    pub carts: Counts,
    pub campaigns: Counts,
    pub skipped: Skipped,
    /// By day, as `2026-03-01`.
    pub days: BTreeMap<String, Counts>,
    /// By name; `-` without steps.
    pub steps: HashMap<String, OfStep>,
    pub occurrences: HashMap<i64, OfOccurrence>,
    domains: HashMap<String, OfDomain>,
    replies: HashMap<String, u64>,
    other_replies: u64,
}

/// A domain that mail goes to; `None` stands for all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Domain {
    pub domain: Option<String>,
    #[serde(flatten)]
    pub counts: Counts,
}

/// A reply and how many messages it refused; `None` stands for all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    pub reply: Option<String>,
    pub messages: u64,
}

impl Tally {
    pub fn new(names: Names) -> Tally {
        Tally {
            names,
            hasher: RandomState::new(),
            all: Counts::default(),
            carts: Counts::default(),
            campaigns: Counts::default(),
            skipped: Skipped::new(),
            days: BTreeMap::new(),
            steps: HashMap::new(),
            occurrences: HashMap::new(),
            domains: HashMap::new(),
            replies: HashMap::new(),
            other_replies: 0,
        }
    }

    pub fn add(&mut self, seen: Seen<'_>) {
        self.all.add(seen.state, 1);
        entry(&mut self.days, seen.planned_at.get(..10).unwrap_or(seen.planned_at)).add(seen.state, 1);
        if let Some(reason) = seen.reason {
            *self.skipped.entry(reason).or_default() += 1;
        }
        match seen.occurrence {
            Some(occurrence) => self.add_of_campaign(occurrence, &seen),
            None => self.add_of_cart(&seen),
        }
        self.add_domain(&seen);
        if seen.state == State::Refused {
            self.add_reply(seen.last_reply.unwrap_or("no reply on record"), seen.folded_address);
        }
    }

    fn add_of_campaign(&mut self, occurrence: i64, seen: &Seen<'_>) {
        self.campaigns.add(seen.state, 1);
        let of = self.occurrences.entry(occurrence).or_default();
        of.messages += 1;
        if let Some(armed_at) = seen.armed_at.filter(|_| matches!(seen.state, State::Sent | State::InDoubt)) {
            if of.first_armed_at.as_deref().is_none_or(|first| armed_at < first) {
                of.first_armed_at = Some(armed_at.to_owned());
            }
            if of.last_armed_at.as_deref().is_none_or(|last| armed_at > last) {
                of.last_armed_at = Some(armed_at.to_owned());
            }
        }
    }

    fn add_of_cart(&mut self, seen: &Seen<'_>) {
        self.carts.add(seen.state, 1);
        let of = entry_of(&mut self.steps, seen.step.unwrap_or("-"));
        of.after = of.after.max(seen.step_after.unwrap_or_default());
        of.counts.add(seen.state, 1);
        if let Some(reason) = seen.reason {
            *of.skipped.entry(reason).or_default() += 1;
        }
        if matches!(seen.state, State::Sent | State::InDoubt) {
            let instants = seen.armed_at.and_then(instant::from_text).zip(seen.touched_at.and_then(instant::from_text));
            // A clock that went back, or a shop whose clock is ahead, leaves a negative one out.
            of.waited.extend(instants.and_then(|(armed, touched)| u32::try_from((armed - touched).num_seconds()).ok()));
        }
    }

    fn add_domain(&mut self, seen: &Seen<'_>) {
        let domain = seen.folded_address.rsplit_once('@').map_or("", |(_, domain)| domain);
        let of = entry_of(&mut self.domains, domain);
        of.counts.add(seen.state, 1);
        if of.people.len() < PEOPLE_OF_A_DOMAIN {
            let person = self.hasher.hash_one(seen.folded_address);
            if !of.people.contains(&person) {
                of.people.push(person);
            }
        }
    }

    fn add_reply(&mut self, reply: &str, recipient: &str) {
        // The same reply about two people is one only once neither is named.
        let shown = plain(&Names::Masked.reply(reply, recipient), REPLY_SHOWN);
        match self.replies.get_mut(&shown) {
            Some(messages) => *messages += 1,
            None => match self.replies.len() < MOST_REPLIES {
                true => drop(self.replies.insert(shown, 1)),
                false => self.other_replies += 1,
            },
        }
    }

    /// Whether a page may name this domain.
    pub fn is_named(&self, domain: &str) -> bool {
        let of = self.domains.get(&domain.to_lowercase());
        self.names == Names::Shown || of.is_some_and(|of| of.people.len() >= PEOPLE_OF_A_DOMAIN)
    }

    /// The domains that most mail goes to, and all others as one.
    pub fn top_domains(&self, limit: usize) -> Vec<Domain> {
        let mut named: Vec<_> = self.domains.iter().filter(|(domain, _)| self.is_named(domain)).collect();
        named.sort_by(|(one, of), (other, of_other)| {
            of_other.counts.messages.cmp(&of.counts.messages).then_with(|| one.cmp(other))
        });
        named.truncate(limit);
        let mut top: Vec<Domain> =
            named.into_iter().map(|(domain, of)| Domain { domain: Some(domain.clone()), counts: of.counts }).collect();
        let shown = top.iter().fold(Counts::default(), |sum, domain| sum.plus(domain.counts));
        let others = self.all.minus(shown);
        if others.messages > 0 {
            top.push(Domain { domain: None, counts: others });
        }
        top
    }

    /// The replies that refused most messages, and all others as one.
    pub fn top_replies(&self, limit: usize) -> Vec<Refusal> {
        let mut all: Vec<_> = self.replies.iter().collect();
        all.sort_by(|(one, number), (other, of_other)| of_other.cmp(number).then_with(|| one.cmp(other)));
        let rest: u64 = all.iter().skip(limit).map(|(_, messages)| **messages).sum::<u64>() + self.other_replies;
        let mut top: Vec<Refusal> = all
            .into_iter()
            .take(limit)
            .map(|(reply, messages)| Refusal { reply: Some(reply.clone()), messages: *messages })
            .collect();
        if rest > 0 {
            top.push(Refusal { reply: None, messages: rest });
        }
        top
    }
}

/// What stands at a key, made if it is not there; the key is copied only then.
fn entry<'a>(map: &'a mut BTreeMap<String, Counts>, key: &str) -> &'a mut Counts {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), Counts::default());
    }
    map.get_mut(key).expect("it was put there")
}

fn entry_of<'a, T: Default>(map: &'a mut HashMap<String, T>, key: &str) -> &'a mut T {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), T::default());
    }
    map.get_mut(key).expect("it was put there")
}

/// The value that a share of all of them does not exceed (nearest rank); `None` of none.
pub fn quantile(sorted: &[u32], share: f64) -> Option<u32> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_are_there() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!((quantile(&hundred, 0.5), quantile(&hundred, 0.95)), (Some(50), Some(95)));
        assert_eq!((quantile(&[7], 0.5), quantile(&[7], 0.95)), (Some(7), Some(7)));
        assert_eq!(quantile(&[], 0.5), None);
    }

    fn seen(address: &str) -> Seen<'_> {
        Seen {
            occurrence: Some(1),
            state: State::Sent,
            reason: None,
            planned_at: "2026-03-01T08:00:00Z",
            armed_at: None,
            touched_at: None,
            step: None,
            step_after: None,
            folded_address: address,
            last_reply: None,
        }
    }

    #[test]
    fn a_domain_of_one_person_is_not_named_however_much_they_get() {
        let mut tally = Tally::new(Names::Masked);
        for number in 0..20 {
            tally.add(seen("ada@lovelace.example"));
            let address = format!("r{}@example.com", number % 5);
            tally.add(seen(&address));
        }
        let top = tally.top_domains(10);
        let named: Vec<_> = top.iter().map(|domain| (domain.domain.as_deref(), domain.counts.messages)).collect();
        assert_eq!(named, [(Some("example.com"), 20), (None, 20)]);
    }
}
