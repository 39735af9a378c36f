//! What the outcomes say together: when a run gives up, and what was refused by mistake.

use super::books::Books;
use super::breaker::{Breaker, Tripped};
use super::connection::Unproven;
use super::{Delivery, Summary};
use crate::domain::fate::Fate;
use crate::failure::Failure;
use crate::output::count;

pub(super) struct Verdicts {
    breaker: Breaker,
    /// What a breaker found refused by mistake, to be planned again once that is recorded.
    refused_by_mistake: Vec<i64>,
    /// What was refused in this run.
    refused: Vec<i64>,
    /// The server is unusable, or a breaker tripped: no further message is begun.
    pub has_given_up: bool,
}

impl Verdicts {
    /// Begins where the runs before it ended.
    pub fn after(delivery: &Delivery<'_>) -> Result<Verdicts, Failure> {
        let breaker = Breaker::after(delivery.ledger.refusals_since_acceptance()?);
        // A run that was killed may have refused them and not come to planning them again.
        let refused_by_mistake = breaker.mistaken();
        Ok(Verdicts { breaker, refused_by_mistake, refused: Vec::new(), has_given_up: false })
    }

    /// Whether refusals of everyone stand: then one message is tried before the others.
    pub fn breaker_stands(&self) -> bool {
        self.breaker.stands()
    }

    /// Takes an outcome that needs no more proof.
    pub fn judge(
        &mut self,
        delivery: &Delivery<'_>,
        summary: &mut Summary,
        books: &mut Books,
        judged: Unproven,
    ) -> Result<(), Failure> {
        let Unproven { id, label, armed, fate } = judged;
        let is_refusal = matches!(fate, Fate::Refused { .. });
        let settled = is_refusal && delivery.ledger.was_refused_before_an_acceptance(id)?;
        if is_refusal {
            self.refused.push(id);
        }
        let tripped = self.breaker.judged(id, &fate, settled);
        self.trip(summary, tripped);
        books.note(id, label, armed, fate);
        Ok(())
    }

    /// A connection ended when it was told a recipient; `waited`: nothing came in time.
    pub fn connection_ended(&mut self, summary: &mut Summary, why: &str, waited: bool) {
        summary.ended = Some((summary.ended.take().map_or(0, |(number, _)| number) + 1, why.to_owned()));
        let tripped = self.breaker.ended(why, waited);
        self.trip(summary, tripped);
    }

    fn trip(&mut self, summary: &mut Summary, tripped: Option<Tripped>) {
        if let Some(tripped) = tripped {
            self.refused_by_mistake.extend(tripped.again);
            self.give_up(summary, tripped.why);
        }
    }

    /// Begins no further message in this run, and says why.
    pub fn give_up(&mut self, summary: &mut Summary, why: String) {
        self.has_given_up = true;
        if !summary.trouble.contains(&why) {
            summary.trouble.push(why);
        }
    }

    /// Takes back what a breaker found refused by mistake.
    pub fn plan_again(&mut self, delivery: &mut Delivery<'_>, summary: &mut Summary) -> Result<(), Failure> {
        let messages = std::mem::take(&mut self.refused_by_mistake);
        if messages.is_empty() {
            return Ok(());
        }
        let planned = delivery.ledger.books().plan_again(&messages, delivery.clock.now(), delivery.retry_after)?;
        summary.planned_again += planned.len() as u64;
        let of_this_run = planned.iter().filter(|id| self.refused.contains(id)).count() as u64;
        summary.refused = summary.refused.saturating_sub(of_this_run);
        delivery.output.decision(format!("{} planned again", count(planned.len() as u64, "refused message")));
        Ok(())
    }
}
