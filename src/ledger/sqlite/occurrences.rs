//! Occurrences as people look at them: each with what became of its messages.

use super::Records;
use super::tally;
use crate::domain::instant::{self, Instant};
use crate::domain::state::{Reason, State};
use crate::failure::Failure;
use crate::ledger::{OccurrenceRow, RecipientFate};

impl Records {
    /// How many messages of an occurrence were held back when an old copy of the ledger was put back: nothing plans them
    /// again, as they may have gone out.
    pub fn count_held_back(&self, occurrence: i64) -> Result<u64, Failure> {
        self.read(|conn| {
            conn.query_row(
                "SELECT count(*) FROM message
                 WHERE kind = 'campaign' AND occurrence = ?1 AND state = 'skipped' AND reason = 'held_back'",
                [occurrence],
                |row| row.get(0),
            )
        })
    }

    /// A campaign's newest occurrences, the newest first, each with its messages by state.
    pub fn occurrences_of(&self, campaign_id: &str, limit: u64) -> Result<Vec<OccurrenceRow>, Failure> {
        self.occurrences("campaign_id = ?1 AND ?2 IS NULL", campaign_id, None, limit)
    }

    /// The occurrence that a campaign opened at `planned_at`, or the newest that it opened at all.
    pub fn opened_occurrence(
        &self,
        campaign_id: &str,
        planned_at: Option<Instant>,
    ) -> Result<Option<OccurrenceRow>, Failure> {
        let which = match planned_at {
            Some(_) => "campaign_id = ?1 AND planned_at = ?2 AND state = 'opened'",
            None => "campaign_id = ?1 AND ?2 IS NULL AND state = 'opened'",
        };
        Ok(self.occurrences(which, campaign_id, planned_at, 1)?.pop())
    }

    fn occurrences(
        &self,
        which: &str,
        campaign_id: &str,
        planned_at: Option<Instant>,
        limit: u64,
    ) -> Result<Vec<OccurrenceRow>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare_cached(&format!(
                "SELECT id, planned_at, state, decided_at, expires_at, recipients, audience_rows, bad_rows, repeated
                 FROM campaign_occurrence WHERE {which} ORDER BY planned_at DESC LIMIT ?3"
            ))?;
            let occurrences = rows.query_map((campaign_id, planned_at.map(instant::text), limit), |row| {
                Ok(OccurrenceRow {
                    id: row.get("id")?,
                    planned_at: row.get("planned_at")?,
                    state: row.get("state")?,
                    decided_at: row.get("decided_at")?,
                    expires_at: row.get("expires_at")?,
                    recipients: row.get("recipients")?,
                    audience_rows: row.get("audience_rows")?,
                    bad_rows: row.get("bad_rows")?,
                    repeated: row.get("repeated")?,
                    messages: std::collections::BTreeMap::new(),
                })
            })?;
            let mut occurrences = occurrences.collect::<rusqlite::Result<Vec<_>>>()?;
            for occurrence in &mut occurrences {
                let counts = tally::of_occurrence(conn, occurrence.id)?;
                let named = |(state, reason, messages): (State, Option<Reason>, u64)| match reason {
                    Some(reason) => (format!("{state}: {reason}"), messages),
                    None => (state.word().to_owned(), messages),
                };
                occurrence.messages = counts.into_iter().map(named).collect();
            }
            Ok(occurrences)
        })
    }

    /// Every recipient of an occurrence with what became of the message: recipient, state, reason, armed, settled, reply.
    pub fn each_recipient(&self, occurrence: i64, mut each: impl FnMut(RecipientFate)) -> Result<(), Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT recipient, state, reason, armed_at, settled_at, last_reply FROM message
                 WHERE kind = 'campaign' AND occurrence = ?1 ORDER BY id",
            )?;
            let mut rows = rows.query([occurrence])?;
            while let Some(row) = rows.next()? {
                each(RecipientFate {
                    recipient: row.get("recipient")?,
                    state: row.get("state")?,
                    reason: row.get("reason")?,
                    armed_at: row.get("armed_at")?,
                    settled_at: row.get("settled_at")?,
                    last_reply: row.get("last_reply")?,
                });
            }
            Ok(())
        })
    }
}
