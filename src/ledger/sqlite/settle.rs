//! Settling: a message's outcome is written whole or not at all: state, attempt, the server's reply, `email_sent`.

use chrono::TimeDelta;
use rusqlite::{Connection, OptionalExtension};

use super::{Books, Durability, Records};
use crate::domain::fate::Fate;
use crate::domain::instant::{self, Instant};
use crate::domain::state::{Reason, State};
use crate::domain::{address, back_off};
use crate::failure::Failure;
use crate::ledger::{Epoch, Outcome, Settled, Waiting, WaitingFor};

impl Books<'_> {
    /// Records how one try ended, in a transaction of its own and without its own fsync: a lost outcome leaves `armed`.
    ///
    /// A deferral leaves it `planned`, tried again after `retry_after`, doubled for each deferral before, at most an hour.
    ///
    /// # Errors
    /// Exit 74: it is not recorded, and what was armed stays so. Other outcomes may be, if a constraint forbade this one.
    pub fn settle(
        &mut self,
        epoch: Epoch,
        outcome: &Outcome,
        now: Instant,
        retry_after: TimeDelta,
    ) -> Result<Settled, Failure> {
        let at = instant::text(now);
        self.0.write(Durability::Lazy, |tx| settle_one(tx, epoch, outcome, (now, &at), retry_after))
    }

    /// Records that a planned message is not sent, and why.
    pub fn skip(&mut self, id: i64, reason: Reason, now: Instant) -> Result<(), Failure> {
        let now = instant::text(now);
        self.0.write(Durability::Lazy, |tx| {
            tx.prepare_cached(
                "UPDATE message SET state = 'skipped', reason = ?2, settled_at = ?3 WHERE id = ?1 AND state = 'planned'",
            )?
            .execute((id, reason, &now))?;
            Ok(())
        })
    }

    /// Moves a planned message back in the queue because the server could not be used: no attempt is counted.
    pub fn put_back(&mut self, id: i64, not_before: Instant, why: &str) -> Result<(), Failure> {
        self.0.write(Durability::Lazy, |tx| {
            tx.prepare_cached(
                "UPDATE message SET not_before = ?2, last_reply = ?3 WHERE id = ?1 AND state = 'planned'",
            )?
            .execute((id, instant::text(not_before), why))?;
            Ok(())
        })
    }

    /// The same because the shop does not show the cart, `since` when first a look did not find it.
    pub fn put_back_missing(&mut self, id: i64, not_before: Instant, since: Instant) -> Result<(), Failure> {
        let since = instant::text(since);
        self.0.write(Durability::Lazy, |tx| {
            tx.prepare_cached(
                "UPDATE message SET not_before = ?2, missing_since = ?3, last_reply = 'the shop has not shown the cart since ' || ?3
                 WHERE id = ?1 AND state = 'planned'",
            )?
            .execute((id, instant::text(not_before), &since))?;
            Ok(())
        })
    }

    /// Makes due what waits for its next try: cart messages, or a campaign's (one of them, where `only` names it). Says how
    /// many. The caller holds the run lock.
    pub fn retry_now(&mut self, what: WaitingFor<'_>, now: Instant) -> Result<u64, Failure> {
        let now = instant::text(now);
        let (which, only) = which_waits(what);
        let ids: Vec<i64> = self.0.read(|conn| {
            let mut rows = conn.prepare(&format!(
                "SELECT id FROM message WHERE {which} AND state = 'planned' AND not_before > ?1 AND expires_at > ?1 ORDER BY id"
            ))?;
            rows.query_map((&now, only), |row| row.get(0))?.collect()
        })?;
        self.0.in_batches(&ids, &mut |_| {}, |tx, batch| {
            let mut moved = 0;
            for id in batch.ids {
                moved += tx
                    .prepare_cached("UPDATE message SET not_before = ?2 WHERE id = ?1 AND state = 'planned'")?
                    .execute((id, &now))? as u64;
            }
            Ok(Some(moved))
        })
    }

    /// The shop shows the cart again.
    pub fn found_again(&mut self, id: i64) -> Result<(), Failure> {
        self.0.write(Durability::Lazy, |tx| {
            tx.prepare_cached("UPDATE message SET missing_since = NULL WHERE id = ?1")?.execute([id])?;
            Ok(())
        })
    }
}

/// The condition on messages, with `?2` for the campaign.
fn which_waits(what: WaitingFor<'_>) -> (&'static str, Option<&str>) {
    match what {
        WaitingFor::Carts => ("occurrence IS NULL AND ?2 IS NULL", None),
        WaitingFor::Campaigns { only } => (
            "occurrence IN (SELECT id FROM campaign_occurrence WHERE state = 'opened' AND (?2 IS NULL OR campaign_id = ?2))",
            only,
        ),
    }
}

impl Records {
    /// The messages that wait for their next try at `now`.
    pub fn waiting(&self, what: WaitingFor<'_>, now: Instant) -> Result<Waiting, Failure> {
        let now = instant::text(now);
        let (which, only) = which_waits(what);
        self.read(|conn| {
            // With a single min(), SQLite takes the bare columns from the row that has it.
            conn.query_row(
                &format!(
                    "SELECT count(*) AS messages, min(not_before) AS next_at, last_reply, recipient FROM message
                     WHERE {which} AND state = 'planned' AND not_before > ?1 AND expires_at > ?1"
                ),
                (&now, only),
                |row| {
                    Ok(Waiting {
                        messages: row.get("messages")?,
                        next_at: row.get("next_at")?,
                        last_reply: row.get::<_, Option<String>>("last_reply")?.map(|reply| address::masked(&reply)),
                        recipient: row.get("recipient")?,
                    })
                },
            )
        })
    }
}

/// Records one outcome within a transaction, at an instant given also as its text.
fn settle_one(
    tx: &Connection,
    epoch: Epoch,
    outcome: &Outcome,
    (now, at): (Instant, &str),
    retry_after: TimeDelta,
) -> rusqlite::Result<Settled> {
    let (id, fate) = (outcome.id, &outcome.fate);
    let ours: Option<(Option<String>, bool)> = tx
        .prepare_cached(
            "SELECT armed_at, kind = 'cart' FROM message
             WHERE id = ?1 AND CASE WHEN ?2 THEN state = 'armed' AND epoch = ?3 ELSE state = 'planned' END",
        )?
        .query_row((id, outcome.armed, epoch), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((armed_at, is_cart)) = ours else { return Ok(Settled::NotOurs) };
    tx.prepare_cached(
        "INSERT INTO attempt (message, epoch, armed_at, ended_at, outcome, reply) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute((id, epoch, armed_at, at, fate.word(), fate.reply()))?;
    match fate {
        Fate::Sent { reply } => {
            move_to(tx, id, State::Sent, at, reply)?;
            if is_cart {
                mark_mailed(tx, id, at)?;
            }
        }
        Fate::Refused { reply } => move_to(tx, id, State::Refused, at, reply)?,
        Fate::InDoubt { why } => move_to(tx, id, State::InDoubt, at, why)?,
        Fate::Deferred { reply } => {
            let deferrals: u32 = tx
                .prepare_cached("SELECT count(*) FROM attempt WHERE message = ?1 AND outcome = 'deferred'")?
                .query_row([id], |row| row.get(0))?;
            let wait = back_off::wait_after(deferrals, retry_after);
            tx.prepare_cached(
                "UPDATE message SET state = 'planned', armed_at = NULL, not_before = ?2, last_reply = ?3 WHERE id = ?1",
            )?
            .execute((id, instant::text(now + wait), reply))?;
        }
    }
    Ok(Settled::Recorded)
}

fn move_to(tx: &Connection, id: i64, state: State, at: &str, reply: &str) -> rusqlite::Result<()> {
    // A refusal before the body leaves armed_at NULL; one at the dot keeps the instant it was armed.
    tx.prepare_cached("UPDATE message SET state = ?2, settled_at = ?3, last_reply = ?4 WHERE id = ?1")?
        .execute((id, state, at, reply))?;
    Ok(())
}

/// Sets `email_sent` on the episode of a message that has just become `sent`.
pub(super) fn mark_mailed(tx: &Connection, id: i64, at: &str) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE cart_abandonment_log SET email_sent = 1, last_sent_at = max(coalesce(last_sent_at, ''), ?2)
         WHERE message_key = (SELECT episode FROM message WHERE id = ?1)",
    )?
    .execute((id, at))?;
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ledger::{Armed, At, Kind, Ledger, Place};

    pub(in crate::ledger) const NOW: &str = "2026-03-01T12:00:00Z";

    /// A ledger with a run under way and three planned messages to a campaign's recipients, which expire a day after now.
    pub(in crate::ledger) fn three_planned() -> (tempfile::TempDir, Ledger, Epoch) {
        let folder = tempfile::tempdir().expect("a folder");
        let now = instant::from_text(NOW).expect("an instant");
        let path = folder.path().join("mailonce.db");
        let place = Place { path: &path, trusted: &[] };
        let mut ledger = Ledger::create(place, Kind::Rehearsal, now, Duration::from_secs(60)).expect("a ledger");
        let epoch = ledger.runs().begin("run-campaigns", now, 60, false).expect("a run");
        ledger
            .conn()
            .execute_batch(&format!(
                "INSERT INTO scheduled_campaign (campaign_id, status, enabled, first_seen_at, schedule)
                     VALUES ('weekly', 'running', 1, '{NOW}', 'daily');
                 INSERT INTO campaign_occurrence (id, campaign_id, planned_at, state, decided_at, schedule, subject, template,
                     sender, expires_at, recipients)
                     VALUES (1, 'weekly', '{NOW}', 'opened', '{NOW}', 'daily', 'Hello', 'Hello', 'a@shop.example',
                     '2026-03-02T12:00:00Z', 3);
                 INSERT INTO message (id, message_key, kind, state, recipient, folded_address, message_id, planned_at,
                     not_before, expires_at, occurrence)
                     SELECT value, 'key ' || value, 'campaign', 'planned', value || '@example.com', value || '@example.com',
                     '<' || value || '@shop.example>', '{NOW}', '{NOW}', '2026-03-02T12:00:00Z', 1
                     FROM (SELECT 1 AS value UNION SELECT 2 UNION SELECT 3);"
            ))
            .expect("messages");
        (folder, ledger, epoch)
    }

    fn three_armed() -> (tempfile::TempDir, Ledger, Epoch) {
        let (folder, mut ledger, epoch) = three_planned();
        let now = instant::from_text(NOW).expect("an instant");
        let armed = ledger.books().arm(epoch, &[1, 2, 3], At { now, real_second: 0 }).expect("a commit");
        assert_eq!(armed, [Armed::Granted, Armed::Granted, Armed::Granted]);
        (folder, ledger, epoch)
    }

    fn settle(ledger: &mut Ledger, epoch: Epoch, id: i64) -> Result<Settled, Failure> {
        let fate = Fate::Sent { reply: "250 2.0.0 Ok".into() };
        let now = instant::from_text(NOW).expect("an instant");
        ledger.books().settle(epoch, &Outcome { id, armed: true, fate }, now, TimeDelta::minutes(5))
    }

    fn is(ledger: &Ledger, id: i64) -> (String, u64) {
        let one = "SELECT state, (SELECT count(*) FROM attempt WHERE message = ?1) FROM message WHERE id = ?1";
        ledger.conn().query_row(one, [id], |row| Ok((row.get(0)?, row.get(1)?))).expect("a message")
    }

    #[test]
    fn an_outcome_that_is_forbidden_takes_no_other_with_it() {
        let (_folder, mut ledger, epoch) = three_armed();
        ledger
            .conn()
            .execute_batch(
                "CREATE TRIGGER not_this_one BEFORE UPDATE OF state ON message WHEN NEW.state = 'sent' AND NEW.id = 2
                 BEGIN SELECT RAISE(ABORT, 'not_this_one: no'); END",
            )
            .expect("a trigger");
        assert_eq!(settle(&mut ledger, epoch, 1).expect("a commit"), Settled::Recorded);
        let failure = settle(&mut ledger, epoch, 2).expect_err("it is forbidden");
        assert!(failure.what.contains("not_this_one: no"), "{failure}");
        assert_eq!(settle(&mut ledger, epoch, 3).expect("a commit"), Settled::Recorded);
        // Also the attempt, which came before what was forbidden.
        let rows = [1, 2, 3].map(|id| is(&ledger, id));
        assert_eq!(rows, [("sent".into(), 1), ("armed".into(), 0), ("sent".into(), 1)]);
    }

    #[test]
    fn after_any_other_error_nothing_more_is_written() {
        let (_folder, mut ledger, epoch) = three_armed();
        ledger.conn().execute_batch("PRAGMA max_page_count = 1").expect("a limit");
        let full = ledger.write(Durability::Lazy, |tx| tx.execute("CREATE TABLE more (bytes)", []));
        assert!(full.is_err(), "the ledger grew beyond its limit");
        ledger.conn().execute_batch("PRAGMA max_page_count = 1000000").expect("a limit");
        settle(&mut ledger, epoch, 1).expect_err("the ledger failed earlier");
        assert_eq!(is(&ledger, 1), ("armed".into(), 0));
    }
}
