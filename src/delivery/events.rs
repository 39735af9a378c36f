//! What the coordinator makes of each event of a connection.

use super::connection::{Connection, Unproven};
use super::coordinator::Coordinator;
use super::orders::{Answer, Event, Then};
use crate::domain::fate::{Extent, Fate, Unusable};
use crate::domain::instant;
use crate::domain::state::Reason;
use crate::failure::Failure;
use crate::ledger::Denied;
use crate::mail::session::InStep;
use crate::output::count;

impl Coordinator<'_, '_> {
    pub fn take_event(&mut self, number: usize, event: Event) -> Result<(), Failure> {
        if let Some(in_step) = event.proof {
            self.take_proof(number, &in_step)?;
        }
        if let Some((fate, proven)) = event.finished {
            let (id, label) = self.connections[number].finish();
            let proven = proven || !matches!(fate, Fate::Sent { .. });
            self.take_fate(number, proven, Unproven { id, label, armed: true, fate })?;
        }
        match event.then {
            Then::ArmRequest | Then::GoesOn => {}
            Then::Closed(in_step) => {
                self.connections[number].finish();
                self.connections[number].may_be_open = false;
                // A session that has nothing to prove by has ended: that leaves the message sent.
                self.take_proof(number, &in_step.unwrap_or(InStep::Yes))?;
            }
            Then::Judged(fate, proven) => {
                let (id, label) = self.connections[number].finish();
                self.take_fate(number, proven, Unproven { id, label, armed: false, fate })?;
            }
            Then::Abandoned => {
                self.connections[number].finish();
            }
            Then::Unusable(Unusable { what: what @ (Extent::Recipient | Extent::SilentRecipient), why }) => {
                let (id, label) = self.connections[number].finish();
                self.verdicts.connection_ended(self.summary, &why, what == Extent::SilentRecipient);
                self.books.note(id, label, false, Fate::Deferred { reply: why });
            }
            Then::Unusable(Unusable { what: Extent::Server | Extent::Connection, why }) => {
                let (id, _) = self.connections[number].finish();
                self.put_back(id, &why)?;
                self.verdicts.give_up(self.summary, why);
            }
            Then::NoConnection { why, outgoing } => {
                if let Some(job) = self.connections[number].retire(*outgoing) {
                    self.supply.give_back(job);
                }
                self.go_on_without_it(why)?;
            }
            Then::Died => {
                let bodies: Vec<_> = self.connections[number].bodies_out().collect();
                for (id, label) in bodies {
                    let why = "mailonce itself failed while the body was out".to_owned();
                    self.books.note(id, label, true, Fate::InDoubt { why });
                }
                self.connections[number].bury();
                let why = "the sending part of mailonce failed; see the lines above".into();
                self.verdicts.give_up(self.summary, why);
            }
        }
        Ok(())
    }

    /// A connection did not come about: the others go on, if there are any.
    fn go_on_without_it(&mut self, why: String) -> Result<(), Failure> {
        let left = self.connections.iter().filter(|one: &&Connection| !one.is_retired).count();
        if left > 0 {
            let line = format!("going on with {}: {why}", count(left as u64, "connection"));
            self.delivery.output.decision(line);
            return Ok(());
        }
        for id in self.supply.take_given_back() {
            self.put_back(id, &why)?;
        }
        self.verdicts.give_up(self.summary, why);
        Ok(())
    }

    fn put_back(&mut self, id: i64, why: &str) -> Result<(), Failure> {
        self.summary.put_back += 1;
        let not_before = self.delivery.clock.now() + self.delivery.retry_after;
        self.delivery.ledger.books().put_back(id, not_before, why)
    }

    fn take_proof(&mut self, number: usize, in_step: &InStep) -> Result<(), Failure> {
        for mut judged in std::mem::take(&mut self.connections[number].unproven) {
            match in_step {
                InStep::Yes => {}
                InStep::No { why } if judged.armed => judged.fate = Fate::InDoubt { why: why.clone() },
                // Not judged after all.
                InStep::No { why } => {
                    self.put_back(judged.id, why)?;
                    continue;
                }
            }
            self.verdicts.judge(self.delivery, self.summary, &mut self.books, judged)?;
        }
        Ok(())
    }

    fn take_fate(&mut self, number: usize, proven: bool, judged: Unproven) -> Result<(), Failure> {
        if !proven {
            self.connections[number].unproven.push(judged);
            return Ok(());
        }
        self.verdicts.judge(self.delivery, self.summary, &mut self.books, judged)
    }

    pub fn deny(&mut self, number: usize, denied: Denied) {
        let connection = &mut self.connections[number];
        let label = connection.message_in_hand().map_or_else(String::new, |message| message.label.to_string());
        connection.answer(Answer::Denied);
        match denied {
            Denied::Suppressed => self.summary.skip(Reason::Suppressed.word()),
            Denied::Paused | Denied::Expired => {}
            Denied::NotPlanned => self.summary.skip("decided by someone else meanwhile"),
            Denied::KeptBack { why, until } => {
                self.summary.skip(why);
                let line = format!("Skipping {label} - {why}, looked at again {}", instant::text(until));
                self.delivery.output.decision(line);
            }
            Denied::Forbidden(constraint) => {
                let why = format!("the ledger forbids sending {label}: {constraint}");
                self.verdicts.give_up(self.summary, why);
            }
        }
    }
}
