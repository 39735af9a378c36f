//! Breakers: a pattern of answers that says the fault is not the recipients'.
//!
//! What a broken pattern refused was refused by mistake: it is planned again. The pattern is looked for over the runs, for
//! a shop that sends three mails a minute never sees ten refusals in one of them; and while it stands, a run tries one
//! message before it tries the others.

use crate::domain::fate::Fate;
use crate::domain::refusal::{is_about_the_sender, without_particulars};
use crate::ledger::PastRefusal;

use super::conversation::CANNOT_BE_RENDERED;

/// So many equal refusals, or refusals that are about the sender, with no acceptance between stop a run.
const REFUSALS: usize = 10;
/// So many in doubt in a row stop a run.
const IN_DOUBT_IN_A_ROW: u32 = 3;
/// So many connections that end at a recipient, with no other answer between, stop a run.
const ENDS_IN_A_ROW: u32 = 10;
/// How what mailonce itself will not send begins, in the place of a server's reply.
const NOT_SENT: &str = "not sent:";

/// Watches the outcomes of one run, after those of the runs before it.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Refusals since the last acceptance: what they say, and of which messages. `None` is about the sender, whatever it says.
    refused: Vec<(Option<String>, Vec<i64>)>,
    in_doubt: u32,
    ends: u32,
}

/// Why a run must stop, and which messages were refused by mistake.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tripped {
    pub why: String,
    pub again: Vec<i64>,
}

impl Breaker {
    /// Begins with what was refused since the last acceptance.
    pub fn after(refusals: Vec<PastRefusal>) -> Breaker {
        let mut breaker = Breaker::default();
        for refusal in refusals {
            breaker.refused(refusal.message, &refusal.reply);
        }
        breaker
    }

    /// Whether a pattern stands: then one message is tried before the others.
    pub fn stands(&self) -> bool {
        self.refused.iter().any(|(_, messages)| messages.len() >= REFUSALS)
    }

    /// A connection ended when it was told a recipient. One that was `waited` for in vain counts for five.
    pub fn ended(&mut self, why: &str, waited: bool) -> Option<Tripped> {
        self.ends += if waited { ENDS_IN_A_ROW / 2 } else { 1 };
        let why = || format!("too many connections in a row ended at a recipient (the last: {why})");
        (self.ends >= ENDS_IN_A_ROW).then(|| Tripped { why: why(), again: Vec::new() })
    }

    /// One outcome was recorded; says why the run must stop, if it must.
    ///
    /// `settled`: it was refused before, and the server has accepted others since: then the refusal is its own.
    pub fn judged(&mut self, message: i64, fate: &Fate, settled: bool) -> Option<Tripped> {
        self.ends = 0;
        if !matches!(fate, Fate::InDoubt { .. }) {
            self.in_doubt = 0;
        }
        match fate {
            // A server took a message.
            Fate::Sent { .. } => {
                *self = Breaker::default();
                None
            }
            Fate::Deferred { .. } => None,
            Fate::InDoubt { why } => {
                self.in_doubt += 1;
                (self.in_doubt >= IN_DOUBT_IN_A_ROW).then(|| Tripped {
                    why: format!("{IN_DOUBT_IN_A_ROW} messages in a row are in doubt (the last: {why})"),
                    again: Vec::new(),
                })
            }
            Fate::Refused { .. } if settled => None,
            Fate::Refused { reply } => self.refused(message, reply),
        }
    }

    fn refused(&mut self, message: i64, reply: &str) -> Option<Tripped> {
        let words = without_particulars(reply);
        let mut tripped = self.count(Some(&words), message).then(|| Tripped {
            why: format!("{REFUSALS} equal refusals in a row, and no acceptance between: {words}"),
            again: Vec::new(),
        });
        if is_about_the_sender(reply) && self.count(None, message) {
            tripped.get_or_insert_with(|| Tripped {
                why: format!(
                    "{REFUSALS} refusals in a row that are about the sender, and no acceptance between (the last: {words})"
                ),
                again: Vec::new(),
            });
        }
        if let Some(tripped) = &mut tripped
            && !is_our_own(reply)
        {
            tripped.again = self.mistaken();
            tripped.why.push_str("; they are planned again");
        }
        tripped
    }

    /// The messages that were refused by mistake, as far as patterns stand.
    pub fn mistaken(&self) -> Vec<i64> {
        let is_mistaken = |(words, messages): &&(Option<String>, Vec<i64>)| {
            messages.len() >= REFUSALS && !words.as_deref().is_some_and(is_our_own)
        };
        let mut mistaken: Vec<i64> =
            self.refused.iter().filter(is_mistaken).flat_map(|(_, messages)| messages.iter().copied()).collect();
        mistaken.sort_unstable();
        mistaken.dedup();
        mistaken
    }

    /// Adds one, and says whether there are too many of the kind now.
    fn count(&mut self, kind: Option<&str>, message: i64) -> bool {
        match self.refused.iter_mut().find(|(known, _)| known.as_deref() == kind) {
            Some((_, messages)) => {
                messages.push(message);
                messages.len() >= REFUSALS
            }
            None => {
                self.refused.push((kind.map(str::to_owned), vec![message]));
                false
            }
        }
    }
}

/// Whether mailonce itself refused a message, and no server.
fn is_our_own(reply: &str) -> bool {
    reply.starts_with(CANNOT_BE_RENDERED) || reply.starts_with(NOT_SENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reply: &str) -> Fate {
        Fate::Refused { reply: reply.into() }
    }

    #[test]
    fn ten_equal_refusals_trip_it_whoever_the_recipient_is_and_all_are_planned_again() {
        let mut breaker = Breaker::default();
        let mut judge =
            |n| breaker.judged(n, &refused(&format!("550 5.1.1 <ada{n}@example.com>: no such user")), false);
        assert_eq!((0..9).find_map(&mut judge), None);
        assert_eq!(judge(9).unwrap().again, (0..10).collect::<Vec<_>>());
        // What was on its way meanwhile.
        assert_eq!(judge(10).unwrap().again, (0..11).collect::<Vec<_>>());
    }

    #[test]
    fn refusals_about_the_sender_need_not_be_equal_and_earlier_runs_count() {
        let past =
            |message| PastRefusal { message, reply: format!("554 5.7.1 policy {}", "x".repeat(message as usize)) };
        let mut breaker = Breaker::after((0..9).map(past).collect());
        assert!(!breaker.stands());
        assert_eq!(breaker.judged(20, &refused("550 5.1.1 no such user"), false), None);
        assert_eq!(breaker.judged(21, &refused("550 5.4.5 limit"), false).unwrap().again.len(), 10);
        assert!(breaker.stands());
        // The next run tries one, and stops at it.
        let mut next = Breaker::after((0..10).map(past).collect());
        assert!(next.stands() && next.judged(30, &refused("554 5.7.1 policy"), false).is_some());
    }

    #[test]
    fn an_acceptance_between_resets_it_and_what_is_settled_does_not_count() {
        let mut breaker = Breaker::default();
        for round in 0..3 {
            for n in 0..9 {
                assert_eq!(breaker.judged(n, &refused("550 5.1.1 no such user"), false), None, "round {round}");
            }
            assert_eq!(breaker.judged(99, &Fate::Sent { reply: "250 ok".into() }, false), None);
        }
        for n in 0..30 {
            assert_eq!(breaker.judged(n, &refused("550 5.1.1 no such user"), true), None);
        }
        let in_doubt = Fate::InDoubt { why: "connection reset".into() };
        assert_eq!(breaker.judged(1, &in_doubt, false), None);
        assert_eq!(breaker.judged(2, &in_doubt, false), None);
        assert!(breaker.judged(3, &in_doubt, false).is_some());
    }

    #[test]
    fn what_cannot_be_rendered_stops_a_run_and_stays_refused() {
        let mut breaker = Breaker::default();
        let judged = (0..10).filter_map(|n| breaker.judged(n, &refused("cannot be rendered: no such variable"), false));
        assert_eq!(judged.map(|tripped| tripped.again).collect::<Vec<_>>(), [Vec::<i64>::new()]);
    }

    #[test]
    fn ten_connections_that_end_trip_it_unless_another_answer_comes_between() {
        let mut breaker = Breaker::default();
        for _ in 0..9 {
            assert_eq!(breaker.ended("x", false), None);
        }
        assert_eq!(breaker.judged(1, &Fate::Deferred { reply: "450 later".into() }, false), None);
        assert_eq!((0..9).find_map(|_| breaker.ended("x", false)), None);
        assert!(breaker.ended("x", false).is_some());
    }
}
