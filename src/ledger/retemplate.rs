//! An opened occurrence is given a corrected template.

use super::campaigns::{OpenOccurrence, open_occurrence_from, stands};
use super::{Durability, Ledger};
use crate::domain::state::{Reason, State};
use crate::failure::Failure;

/// What an opening is written with from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retemplated<'a> {
    pub subject: &'a str,
    pub template: &'a str,
    pub template_name: &'a str,
}

impl Ledger {
    /// An opened occurrence as a run would deliver it.
    pub fn open_occurrence_by_id(&self, occurrence: i64) -> Result<OpenOccurrence, Failure> {
        self.read(|conn| {
            conn.query_row(
                "SELECT id, campaign_id, planned_at, subject, template, template_name, sender
                 FROM campaign_occurrence WHERE id = ?1 AND state = 'opened'",
                [occurrence],
                open_occurrence_from,
            )
        })
    }

    /// The rows of an occurrence's audience (JSON) whose messages stand so, with their addresses; the first `limit`.
    pub fn rows_that_stand(
        &self,
        occurrence: i64,
        which: &[(State, Option<Reason>)],
        limit: usize,
    ) -> Result<Vec<(String, String)>, Failure> {
        let which: Vec<String> = which.iter().copied().map(stands).collect();
        self.read(|conn| {
            let mut rows = conn.prepare(&format!(
                "SELECT recipient, recipient_values FROM message WHERE occurrence = ?1 AND ({}) ORDER BY id LIMIT ?2",
                which.join(" OR ")
            ))?;
            rows.query_map((occurrence, limit as i64), |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
    }

    /// Gives an opened occurrence another subject and template: what of it is sent from now on is written with them.
    pub fn retemplate(&mut self, occurrence: i64, with: Retemplated<'_>) -> Result<(), Failure> {
        self.write(Durability::Full, |tx| {
            tx.execute(
                "UPDATE campaign_occurrence SET subject = ?2, template = ?3, template_name = ?4 WHERE id = ?1 AND state = 'opened'",
                (occurrence, with.subject, with.template, with.template_name),
            )?;
            Ok(())
        })
    }
}
