//! What a run knows and has not yet recorded, and its commit.

use super::conversation::CANNOT_BE_RENDERED;
use super::{Delivery, Label, Summary};
use crate::clock;
use crate::domain::fate::Fate;
use crate::failure::Failure;
use crate::ledger::{Armed, At, Outcome, Settled};

/// Outcomes that wait to be recorded, which is done before the next wait for the connections.
#[derive(Default)]
pub(super) struct Books {
    noted: Vec<Noted>,
}

struct Noted {
    outcome: Outcome,
    /// How `-v` names its message.
    label: Label,
}

impl Books {
    /// Notes how one try ended; `armed` says whether its body had been begun.
    pub fn note(&mut self, id: i64, label: Label, armed: bool, fate: Fate) {
        self.noted.push(Noted { outcome: Outcome { id, armed, fate }, label });
    }

    /// Writes what was noted to the ledger, then arms the messages that are asked for. One answer for each.
    ///
    /// # Errors
    /// Exit 74: what is not recorded is named, and no body may leave. Exit 75: a newer run has taken over.
    pub fn commit(
        &mut self,
        delivery: &mut Delivery<'_>,
        summary: &mut Summary,
        requests: &[i64],
    ) -> Result<Vec<Armed>, Failure> {
        self.settle(delivery, summary)?;
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let at = At { now: delivery.clock.now(), real_second: clock::real_second() };
        let answers = delivery.ledger.books().arm(delivery.epoch, requests, at)?;
        let granted = answers.iter().filter(|answer| **answer == Armed::Granted).count() as u64;
        delivery.armed += granted;
        if granted > 0 {
            let record = delivery.ledger.record_of(delivery.epoch, None, delivery.armed);
            delivery.lock.write_record(&record, false)?;
        }
        Ok(answers)
    }

    /// Records each outcome by itself, counts it and says it: one that cannot be recorded keeps no other from it.
    fn settle(&mut self, delivery: &mut Delivery<'_>, summary: &mut Summary) -> Result<(), Failure> {
        let mut first = None;
        let mut unrecorded = Vec::new();
        for Noted { outcome, label } in self.noted.drain(..) {
            let now = delivery.clock.now();
            match delivery.ledger.books().settle(delivery.epoch, &outcome, now, delivery.retry_after) {
                Ok(settled) => tell(delivery, summary, &label, &outcome.fate, settled),
                Err(failure) => {
                    let fate = &outcome.fate;
                    unrecorded.push(format!("not recorded: {label}: {}: {}", fate.word(), fate.reply()));
                    first.get_or_insert(failure);
                }
            }
        }
        first.map_or(Ok(()), |failure| Err(failure.kept(unrecorded.join("; "))))
    }
}

/// Counts one outcome and says it.
fn tell(delivery: &Delivery<'_>, summary: &mut Summary, label: &Label, fate: &Fate, settled: Settled) {
    if settled == Settled::NotOurs {
        let why = format!("{label}: {} ({}), but another run or person had taken it over", fate.word(), fate.reply());
        summary.trouble.push(why);
        return;
    }
    delivery.progress.inc(1);
    match fate {
        Fate::Sent { .. } => {
            summary.sent += 1;
            delivery.output.decision(format!("Marked {label} as processed{}", label.behind));
        }
        Fate::Deferred { reply } => {
            summary.deferred += 1;
            delivery.output.decision(format!("Deferred {label} - {reply}{}", label.behind));
        }
        Fate::Refused { reply } => {
            summary.refused += 1;
            if reply.starts_with(CANNOT_BE_RENDERED) {
                summary.unrenderable.get_or_insert_with(|| (format!("{label} {reply}"), 0)).1 += 1;
            }
            delivery.output.decision(format!("Refused {label} - {reply}{}", label.behind));
        }
        Fate::InDoubt { why } => {
            summary.in_doubt += 1;
            delivery.output.decision(format!("In doubt {label} - {why}{}", label.behind));
        }
    }
}
