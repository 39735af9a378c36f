//! Settling a doubt: by evidence from a mail log, or by a person. What was decided stays on record.

use rusqlite::{Connection, OptionalExtension};

use super::columns::instant_at;
use super::{Books, Durability, Reading, Records};
use crate::domain::instant::{self, Instant};
use crate::domain::message_key;
use crate::failure::Failure;
use crate::ledger::{
    Attempt, Decision, EarlierReport, EarlierResolution, InDoubt, Named, PlannedAgain, Resolution, Resolved,
};
impl Records {
    /// Every message in doubt, oldest first.
    pub fn in_doubt(&self) -> Result<Vec<InDoubt>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT m.id, message_key, kind, recipient, message_id, cart_id, campaign_id, m.planned_at, m.expires_at,
                        armed_at, epoch, last_reply
                 FROM message AS m LEFT JOIN campaign_occurrence AS o ON o.id = m.occurrence
                 WHERE m.state = 'in_doubt' ORDER BY m.id",
            )?;
            let messages = rows.query_map([], |row| {
                Ok(InDoubt {
                    id: row.get("id")?,
                    message_key: row.get("message_key")?,
                    kind: row.get("kind")?,
                    recipient: row.get("recipient")?,
                    message_id: row.get("message_id")?,
                    cart_id: row.get("cart_id")?,
                    campaign_id: row.get("campaign_id")?,
                    planned_at: row.get("planned_at")?,
                    expires_at: row.get("expires_at")?,
                    armed_at: instant_at(row, "armed_at")?,
                    run: row.get("epoch")?,
                    last_reply: row.get("last_reply")?,
                    attempts: Vec::new(),
                    resolutions: Vec::new(),
                    reports: Vec::new(),
                })
            })?;
            let mut messages = messages.collect::<rusqlite::Result<Vec<_>>>()?;
            for message in &mut messages {
                message.attempts = attempts(conn, message.id)?;
                message.resolutions = resolutions(conn, message.id)?;
                message.reports = reports(conn, message.id)?;
            }
            Ok(messages)
        })
    }

    /// The messages that a name may mean: a message key, a Message-ID (with angle brackets or without), or the first digits
    /// of its token.
    pub fn named(&self, name: &str) -> Result<Vec<Named>, Failure> {
        let begins = if message_key::is_short_id(name) { name.to_ascii_lowercase() } else { "-".to_owned() };
        self.read(|conn| {
            let bare = name.trim_matches(['<', '>']);
            let mut rows = conn.prepare(
                "SELECT id, state, kind = 'cart' AS is_cart, message_id, reason FROM message
                 WHERE message_key = ?1 OR message_id = ?2 OR message_id GLOB ?3 ORDER BY id",
            )?;
            rows.query_map((name, format!("<{bare}>"), format!("<{begins}*")), named_from)?.collect()
        })
    }

    /// How many messages were refused since then.
    pub fn count_refused(&self, since: Instant) -> Result<u64, Failure> {
        self.read(|conn| {
            conn.query_row(
                "SELECT count(*) FROM message WHERE state = 'refused' AND settled_at >= ?1",
                [instant::text(since)],
                |row| row.get(0),
            )
        })
    }

    /// The cart messages that were refused, since then if it is given.
    pub fn refused_carts(&self, since: Option<Instant>) -> Result<Vec<Named>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT id, state, 1 AS is_cart, message_id, reason FROM message
                 WHERE occurrence IS NULL AND state = 'refused' AND settled_at >= ?1 ORDER BY id",
            )?;
            rows.query_map([since.map_or_else(String::new, instant::text)], named_from)?.collect()
        })
    }
}

impl Books<'_> {
    /// Plans a cart message again that was refused. The caller holds the run lock.
    ///
    /// There is no doubt to settle: what is kept of it are its tries, and `words` as its last reply until the next one.
    pub fn plan_refused_again(&mut self, id: i64, words: &str, now: Instant) -> Result<PlannedAgain, Failure> {
        let at = instant::text(now);
        self.0.write(Durability::Full, |tx| {
            let expired = tx
                .prepare_cached("SELECT expires_at <= ?2 FROM message WHERE id = ?1 AND state = 'refused' AND kind = 'cart'")?
                .query_row((id, &at), |row| row.get(0))
                .optional()?;
            match expired {
                None => return Ok(PlannedAgain::NotRefused),
                Some(true) => return Ok(PlannedAgain::Expired),
                Some(false) => {}
            }
            if another_is_planned(tx, id)? || a_newer_one_has_the_contents(tx, id)? {
                return Ok(PlannedAgain::AnotherTookItsPlace);
            }
            if let Some(constraint) = arming_forbidden(tx, id, &at)? {
                return Ok(PlannedAgain::Forbidden(constraint));
            }
            tx.execute(
                "UPDATE message SET state = 'planned', armed_at = NULL, settled_at = NULL, epoch = NULL, not_before = ?2,
                     last_reply = ?3 WHERE id = ?1",
                (id, &at, words),
            )?;
            Ok(PlannedAgain::Done)
        })
    }

    /// Settles one doubt, in one transaction with its record. The caller holds the run lock.
    ///
    /// A message to be sent again keeps its Message-ID and is due at `now`.
    pub fn resolve(&mut self, message: &InDoubt, resolution: &Resolution, now: Instant) -> Result<Resolved, Failure> {
        let (armed_at, at) = (instant::text(message.armed_at), instant::text(now));
        let state = resolution.decision.state();
        self.0.write(Durability::Full, |tx| {
            let stands: bool = tx
                .prepare_cached("SELECT 1 FROM message WHERE id = ?1 AND state = 'in_doubt' AND armed_at = ?2")?
                .exists((message.id, &armed_at))?;
            if !stands {
                return Ok(Resolved::NoLongerInDoubt);
            }
            let expired = message.expires_at <= at;
            if resolution.decision == Decision::Resend && another_is_planned(tx, message.id)? {
                return Ok(Resolved::AnotherIsPlanned);
            }
            // Lines of a log name the address; somebody who is forgotten stays so.
            let is_forgotten: bool = tx
                .prepare_cached("SELECT 1 FROM message JOIN forgotten ON pseudonym = folded_address WHERE id = ?1")?
                .exists([message.id])?;
            let evidence = resolution.evidence.as_deref().map(|lines| if is_forgotten { "forgotten" } else { lines });
            tx.prepare_cached(
                "INSERT INTO resolution (message, armed_at, decided_at, decision, who, reason, evidence)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute((
                message.id,
                &armed_at,
                &at,
                state,
                &resolution.who,
                &resolution.reason,
                evidence,
            ))?;
            tx.execute("UPDATE ledger SET newest_at = max(newest_at, ?1)", [&at])?;
            tx.execute("DELETE FROM notice WHERE notice_key = ?1", [message.notice_key()])?;
            let words = format!("settled by {}: {}", resolution.who, resolution.reason);
            if resolution.decision == Decision::Resend {
                return resend(tx, message.id, &at, &words, expired);
            }
            tx.prepare_cached("UPDATE message SET state = ?2, settled_at = ?3, last_reply = ?4 WHERE id = ?1")?
                .execute((message.id, state, &at, &words))?;
            if resolution.decision == Decision::Sent {
                super::settle::mark_mailed(tx, message.id, &armed_at)?;
            }
            Ok(Resolved::Done)
        })
    }
}

/// By way of `planned`, also where the time has passed: nothing else leads out of doubt to `skipped`.
fn resend(conn: &Connection, id: i64, at: &str, words: &str, expired: bool) -> rusqlite::Result<Resolved> {
    conn.prepare_cached(
        "UPDATE message SET state = 'planned', armed_at = NULL, settled_at = NULL, not_before = ?2, last_reply = ?3 WHERE id = ?1",
    )?
    .execute((id, at, words))?;
    if !expired {
        return Ok(Resolved::Done);
    }
    conn.prepare_cached("UPDATE message SET state = 'skipped', reason = 'expired', settled_at = ?2 WHERE id = ?1")?
        .execute((id, at))?;
    Ok(Resolved::Expired)
}

/// At most one message to an address, and one about a cart, is planned at a time.
pub(super) fn another_is_planned(conn: &Connection, id: i64) -> rusqlite::Result<bool> {
    conn.prepare_cached(
        "SELECT 1 FROM message AS this WHERE this.id = ?1 AND this.kind = 'cart' AND (
             EXISTS (SELECT 1 FROM message AS o WHERE o.kind = 'cart' AND o.state = 'planned' AND o.folded_address = this.folded_address)
             OR EXISTS (SELECT 1 FROM message AS o WHERE o.kind = 'cart' AND o.state = 'planned' AND o.cart_id = this.cart_id))",
    )?
    .exists([id])
}

/// Whether the same shopper, or address, got a later message about the same contents.
pub(super) fn a_newer_one_has_the_contents(conn: &Connection, id: i64) -> rusqlite::Result<bool> {
    conn.prepare_cached(
        "SELECT 1 FROM message AS this WHERE this.id = ?1 AND (
             EXISTS (SELECT 1 FROM message AS o
                     WHERE o.identity = this.identity AND o.cart_hash = this.cart_hash AND o.id > this.id)
             OR EXISTS (SELECT 1 FROM message AS o
                     WHERE o.folded_address = this.folded_address AND o.cart_hash = this.cart_hash AND o.id > this.id))",
    )?
    .exists([id])
}

/// The constraint that would keep a refused message's body from leaving at `at`, found by trying and taking it back.
/// Planned, it would only wait for its window: better that a person hears of that now.
fn arming_forbidden(conn: &Connection, id: i64, at: &str) -> rusqlite::Result<Option<String>> {
    conn.execute_batch("SAVEPOINT trial")?;
    let tried = || -> rusqlite::Result<()> {
        conn.execute("UPDATE message SET state = 'planned', armed_at = NULL, settled_at = NULL WHERE id = ?1", [id])?;
        conn.execute(
            "UPDATE message SET state = 'armed', armed_at = ?2, epoch = (SELECT epoch FROM ledger) WHERE id = ?1",
            (id, at),
        )?;
        Ok(())
    };
    let tried = tried();
    conn.execute_batch("ROLLBACK TO trial; RELEASE trial")?;
    match tried {
        Ok(()) => Ok(None),
        Err(rusqlite::Error::SqliteFailure(code, words)) if code.code == rusqlite::ErrorCode::ConstraintViolation => {
            Ok(Some(words.unwrap_or_default()))
        }
        Err(err) => Err(err),
    }
}

pub(super) fn attempts(conn: &Reading<'_>, message: i64) -> rusqlite::Result<Vec<Attempt>> {
    let mut rows = conn.prepare_cached(
        "SELECT epoch, armed_at, ended_at, outcome, reply FROM attempt WHERE message = ?1 ORDER BY id",
    )?;
    rows.query_map([message], |row| {
        Ok(Attempt {
            run: row.get("epoch")?,
            armed_at: row.get("armed_at")?,
            ended_at: row.get("ended_at")?,
            outcome: row.get("outcome")?,
            reply: row.get("reply")?,
        })
    })?
    .collect()
}

pub(super) fn resolutions(conn: &Reading<'_>, message: i64) -> rusqlite::Result<Vec<EarlierResolution>> {
    let mut rows = conn.prepare_cached(
        "SELECT armed_at, decided_at, decision, who, reason, evidence FROM resolution WHERE message = ?1 ORDER BY id",
    )?;
    rows.query_map([message], |row| {
        Ok(EarlierResolution {
            armed_at: row.get("armed_at")?,
            decided_at: row.get("decided_at")?,
            decision: row.get("decision")?,
            who: row.get("who")?,
            reason: row.get("reason")?,
            evidence: row.get("evidence")?,
        })
    })?
    .collect()
}

fn reports(conn: &Reading<'_>, message: i64) -> rusqlite::Result<Vec<EarlierReport>> {
    let mut rows = conn
        .prepare_cached("SELECT received_at, class, diagnostic, proves FROM report WHERE message = ?1 ORDER BY id")?;
    rows.query_map([message], |row| {
        Ok(EarlierReport {
            received_at: row.get("received_at")?,
            class: row.get("class")?,
            diagnostic: row.get("diagnostic")?,
            proves: row.get("proves")?,
        })
    })?
    .collect()
}

fn named_from(row: &rusqlite::Row<'_>) -> rusqlite::Result<Named> {
    Ok(Named {
        id: row.get("id")?,
        state: row.get("state")?,
        is_cart: row.get("is_cart")?,
        message_id: row.get("message_id")?,
        reason: row.get("reason")?,
    })
}
