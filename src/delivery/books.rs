//! What a run knows and has not yet recorded, and its commit.

use super::worker;
use super::{Delivery, Summary};
use crate::clock;
use crate::domain::fate::Fate;
use crate::failure::Failure;
use crate::ledger::{Armed, At, Outcome, Settled};

/// Outcomes that wait for the next commit, which comes before the next wait for the connections.
#[derive(Default)]
pub(super) struct Books {
    outcomes: Vec<Outcome>,
    /// Of each outcome, how `-v` names its message.
    labels: Vec<String>,
}

impl Books {
    /// Notes how one try ended; `armed` says whether its body had been begun.
    pub fn note(&mut self, id: i64, label: String, armed: bool, fate: Fate) {
        self.outcomes.push(Outcome { id, armed, fate });
        self.labels.push(label);
    }

    /// Writes what was noted to the ledger and arms the messages `wishes`; counts and says it. One answer for each wish.
    ///
    /// # Errors
    /// Exit 74: nothing of it is recorded, and no body may leave. Exit 75: a newer run has taken over.
    pub fn commit(
        &mut self,
        delivery: &mut Delivery<'_>,
        summary: &mut Summary,
        wishes: &[i64],
    ) -> Result<Vec<Armed>, Failure> {
        if self.outcomes.is_empty() && wishes.is_empty() {
            return Ok(Vec::new());
        }
        let outcomes = std::mem::take(&mut self.outcomes);
        let labels = std::mem::take(&mut self.labels);
        let at = At { now: delivery.clock.now(), real_second: clock::real_second() };
        let recorded =
            delivery.ledger.record(delivery.epoch, &outcomes, wishes, at, delivery.retry_after).map_err(|failure| {
                match unrecorded(&outcomes, &labels) {
                    Some(kept) => failure.kept(kept),
                    None => failure,
                }
            })?;
        for ((outcome, label), settled) in outcomes.iter().zip(&labels).zip(recorded.settled) {
            tell(delivery, summary, label, &outcome.fate, settled);
        }
        let answers = recorded.armed?;
        let granted = answers.iter().filter(|answer| **answer == Armed::Granted).count() as u64;
        delivery.armed += granted;
        if granted > 0 {
            let record = delivery.ledger.record_of(delivery.epoch, None, delivery.armed);
            delivery.lock.write_record(&record, false)?;
        }
        Ok(answers)
    }
}

/// What was known and could not be written down.
fn unrecorded(outcomes: &[Outcome], labels: &[String]) -> Option<String> {
    let said = |(outcome, label): (&Outcome, &String)| {
        format!("not recorded: {label}: {}: {}", outcome.fate.word(), outcome.fate.reply())
    };
    let lines: Vec<String> = outcomes.iter().zip(labels).map(said).collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

/// Counts one outcome and says it.
fn tell(delivery: &Delivery<'_>, summary: &mut Summary, label: &str, fate: &Fate, settled: Settled) {
    if settled == Settled::NotOurs {
        let why = format!("{label}: {} ({}), but another run or person had taken it over", fate.word(), fate.reply());
        summary.trouble.push(why);
        return;
    }
    delivery.progress.inc(1);
    match fate {
        Fate::Sent { .. } => {
            summary.sent += 1;
            delivery.output.decision(format!("Marked {label} as processed"));
        }
        Fate::Deferred { reply } => {
            summary.deferred += 1;
            delivery.output.decision(format!("Deferred {label} - {reply}"));
        }
        Fate::Refused { reply } => {
            summary.refused += 1;
            if reply.starts_with(worker::CANNOT_BE_RENDERED) {
                summary.unrenderable.get_or_insert_with(|| (format!("{label} {reply}"), 0)).1 += 1;
            }
            delivery.output.decision(format!("Refused {label} - {reply}"));
        }
        Fate::InDoubt { why } => {
            summary.in_doubt += 1;
            delivery.output.decision(format!("In doubt {label} - {why}"));
        }
    }
}
