//! Breakers: a pattern of answers that says the fault is not the recipients'.

use crate::domain::fate::Fate;

/// So many equal refusals with no acceptance between stop a run.
const EQUAL_REFUSALS: u32 = 10;
/// So many in doubt in a row stop a run.
const IN_DOUBT_IN_A_ROW: u32 = 3;

/// Watches the outcomes of one run.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    refusal: String,
    refusals: u32,
    in_doubt: u32,
}

impl Breaker {
    /// A server took a message.
    pub fn accepted(&mut self) {
        *self = Breaker::default();
    }

    /// One outcome was recorded; says why the run must stop, if it must.
    pub fn judged(&mut self, fate: &Fate) -> Option<String> {
        match fate {
            Fate::Sent { .. } => {}
            Fate::Deferred { .. } => self.in_doubt = 0,
            Fate::InDoubt { why } => {
                self.in_doubt += 1;
                if self.in_doubt == IN_DOUBT_IN_A_ROW {
                    return Some(format!("{IN_DOUBT_IN_A_ROW} messages in a row are in doubt (the last: {why})"));
                }
            }
            Fate::Refused { reply } => {
                self.in_doubt = 0;
                let refusal = without_particulars(reply);
                self.refusals = if refusal == self.refusal { self.refusals + 1 } else { 1 };
                self.refusal = refusal;
                if self.refusals == EQUAL_REFUSALS {
                    let last = &self.refusal;
                    return Some(format!(
                        "{EQUAL_REFUSALS} equal refusals in a row, and no acceptance between: {last}"
                    ));
                }
            }
        }
        None
    }
}

/// A reply without what differs from recipient to recipient: addresses and queue ids.
fn without_particulars(reply: &str) -> String {
    let kept = |(place, word): &(usize, &str)| {
        // The reply code and the enhanced status code come first and are what is compared.
        *place < 2 || !(word.contains('@') || word.chars().any(|c| c.is_ascii_digit()))
    };
    reply.split_whitespace().enumerate().filter(kept).map(|(_, word)| word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reply: &str) -> Fate {
        Fate::Refused { reply: reply.into() }
    }

    #[test]
    fn ten_equal_refusals_trip_it_whoever_the_recipient_is() {
        let mut breaker = Breaker::default();
        let mut tripped = Vec::new();
        for n in 0..10 {
            tripped.push(
                breaker.judged(&refused(&format!("554 5.7.1 <ada{n}@example.com>: Relay access denied"))).is_some(),
            );
        }
        assert_eq!(tripped.iter().position(|t| *t), Some(9));
    }

    #[test]
    fn an_acceptance_between_resets_it() {
        let mut breaker = Breaker::default();
        for round in 0..3 {
            for _ in 0..9 {
                assert_eq!(breaker.judged(&refused("550 5.1.1 no such user")), None, "round {round}");
            }
            breaker.accepted();
        }
        let in_doubt = Fate::InDoubt { why: "connection reset".into() };
        assert_eq!(breaker.judged(&in_doubt), None);
        assert_eq!(breaker.judged(&in_doubt), None);
        assert!(breaker.judged(&in_doubt).is_some());
    }
}
