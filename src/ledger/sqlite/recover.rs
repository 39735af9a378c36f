//! What a dead run left behind.

use super::{Durability, Runs};
use crate::domain::instant::{self, Instant};
use crate::domain::message_key;
use crate::domain::state::State;
use crate::failure::Failure;
use crate::ledger::Recovered;

impl Runs<'_> {
    /// Turns every `armed` message of earlier runs into `in_doubt`, or `sent` where `delivered` finds it by its token.
    ///
    /// The caller holds the run lock and has begun a run, so whoever armed them is dead or may not settle any more.
    pub fn recover(
        &mut self,
        now: Instant,
        delivered: impl Fn(&str) -> std::io::Result<bool>,
    ) -> Result<Recovered, Failure> {
        let armed: Vec<(i64, String)> = self.0.read(|conn| {
            let mut rows = conn.prepare("SELECT id, message_id FROM message WHERE state = 'armed' ORDER BY id")?;
            rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })?;
        let mut recovered = Recovered::default();
        if armed.is_empty() {
            return Ok(recovered);
        }
        let mut outcomes = Vec::with_capacity(armed.len());
        for (id, message_id) in armed {
            let token = message_key::token_of(&message_id);
            let found = delivered(token).map_err(|err| {
                Failure::ledger(
                    format!("could not look for the written message {token}: {err}"),
                    "check the outbox folder, then start again",
                )
            })?;
            match found {
                true => recovered.sent += 1,
                false => recovered.in_doubt += 1,
            }
            outcomes.push((id, found));
        }
        let now = instant::text(now);
        self.0.write(Durability::Full, |tx| {
            for (id, found) in &outcomes {
                let (state, reply) = match found {
                    true => (State::Sent, "found in the outbox by its token"),
                    false => (State::InDoubt, "the run ended before the server's reply was recorded"),
                };
                // By way of in_doubt, also to `sent`: this run did not arm it, and evidence settles what is in doubt.
                tx.execute(
                    "INSERT INTO attempt (message, epoch, armed_at, ended_at, outcome, reply)
                     SELECT id, epoch, armed_at, ?2, ?3, ?4 FROM message WHERE id = ?1",
                    (id, &now, state, reply),
                )?;
                tx.execute(
                    "UPDATE message SET state = 'in_doubt', settled_at = ?2, last_reply = ?3 WHERE id = ?1",
                    (id, &now, reply),
                )?;
                if *found {
                    tx.execute(
                        "INSERT INTO resolution (message, armed_at, decided_at, decision, who, reason)
                         SELECT id, armed_at, ?2, 'sent', 'mailonce', ?3 FROM message WHERE id = ?1",
                        (id, &now, reply),
                    )?;
                    tx.execute("UPDATE message SET state = 'sent' WHERE id = ?1", [id])?;
                    super::settle::mark_mailed(tx, *id, &now)?;
                }
            }
            Ok(())
        })?;
        Ok(recovered)
    }
}
