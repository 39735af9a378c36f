//! Arming: the durable record that a body may leave. Everything that must stop a message is looked at here once more.

use chrono::TimeDelta;
use rusqlite::{Connection, OptionalExtension};

use super::caps::{cap_frees_at, gap_ends_at};
use super::notices::{Event, record_event_daily};
use super::suppressions::IS_SUPPRESSED;
use super::{Books, Durability, Reading, Records};
use crate::domain::instant::{self, Instant};
use crate::domain::message_key;
use crate::failure::{Exit, Failure};
use crate::ledger::{Armed, At, Denied, Epoch};

/// A message that the window keeps back is looked at again after this long: mostly the window of a mail ends later.
const LOOK_AGAIN_AFTER: TimeDelta = TimeDelta::hours(1);

impl Records {
    /// How many bodies were begun in the real-clock second `second`, and in the hour up to it.
    pub fn pace(&self, second: i64) -> Result<(u32, u32), Failure> {
        self.read(|conn| {
            conn.prepare_cached(
                "SELECT coalesce(sum(messages) FILTER (WHERE second = ?1), 0), coalesce(sum(messages), 0)
                 FROM pace WHERE second > ?1 - 3600 AND second <= ?1",
            )?
            .query_row([second], |row| Ok((row.get(0)?, row.get(1)?)))
        })
    }
}

impl Books<'_> {
    /// Arms the messages that are asked for, in one commit. What is [`Armed::Granted`] is on disk when this returns, and
    /// so is every outcome recorded before. One answer for each, in order.
    ///
    /// # Errors
    /// Exit 74 when the commit failed, 75 when a newer run has taken the ledger over: no body may leave then.
    pub fn arm(&mut self, epoch: Epoch, requests: &[i64], at: At) -> Result<Vec<Armed>, Failure> {
        let now = instant::text(at.now);
        self.0.write(Durability::Full, |tx| {
            let newest: Epoch = tx.prepare_cached("SELECT epoch FROM ledger")?.query_row([], |row| row.get(0))?;
            if newest != epoch {
                return Ok(Err(taken_over(epoch, newest)));
            }
            let armed = requests
                .iter()
                .map(|id| arm_one(tx, epoch, *id, (at.now, &now)))
                .collect::<rusqlite::Result<Vec<_>>>()?;
            let granted = armed.iter().filter(|answer| **answer == Armed::Granted).count();
            if granted > 0 {
                tx.prepare_cached(
                    "INSERT INTO pace (second, messages) VALUES (?1, ?2)
                     ON CONFLICT (second) DO UPDATE SET messages = messages + excluded.messages",
                )?
                .execute((at.real_second, granted as i64))?;
            }
            Ok(Ok(armed))
        })?
    }

    /// Forgets what the limits no longer need.
    pub fn prune_pace(&mut self, second: i64) -> Result<(), Failure> {
        let stale: bool = self.0.read(|conn| {
            conn.query_row("SELECT EXISTS (SELECT 1 FROM pace WHERE second <= ?1 - 3600)", [second], |row| row.get(0))
        })?;
        if stale {
            self.0.write(Durability::Lazy, |tx| tx.execute("DELETE FROM pace WHERE second <= ?1 - 3600", [second]))?;
        }
        Ok(())
    }
}

/// Arms one message within a transaction, or says why its body must not leave.
///
/// The instant is given also as its text.
fn arm_one(tx: &Connection, epoch: Epoch, id: i64, (now, at): (Instant, &str)) -> rusqlite::Result<Armed> {
    // One statement looks at everything and moves it; what stopped it is asked for only when it did not move.
    let moved = tx
        .prepare_cached(&format!(
            "UPDATE message SET state = 'armed', armed_at = ?2, epoch = ?3
             WHERE id = ?1 AND state = 'planned' AND expires_at > ?2 AND NOT {IS_SUPPRESSED}
               AND (occurrence IS NULL OR NOT EXISTS (
                   SELECT 1 FROM campaign_occurrence AS o JOIN scheduled_campaign USING (campaign_id)
                   WHERE o.id = message.occurrence AND status IN ('paused', 'cancelled')))",
        ))?
        .execute((id, at, epoch));
    match moved {
        Ok(1) => Ok(Armed::Granted),
        Ok(_) => deny(tx, id, at).map(Armed::Denied),
        // RAISE(ABORT) undoes this statement alone; the rest of the transaction stands.
        Err(rusqlite::Error::SqliteFailure(code, words)) if code.code == rusqlite::ErrorCode::ConstraintViolation => {
            let words = words.unwrap_or_default();
            let (why, until) = match words.split_once(':').map(|(name, _)| name) {
                Some("window_on_arming") => ("email already sent", now + LOOK_AGAIN_AFTER),
                Some("steps_keep_distance") => {
                    let at = gap_ends_at(&Reading(tx), &address_of(tx, id)?, id)?;
                    ("another message went just before", at.unwrap_or(now + LOOK_AGAIN_AFTER))
                }
                Some("cap_on_arming") => {
                    let at = cap_frees_at(&Reading(tx), &address_of(tx, id)?, now)?;
                    ("a cap is reached", at.unwrap_or(now + LOOK_AGAIN_AFTER))
                }
                Some("taken_over_already") => {
                    record_taken_over(tx, id, at)?;
                    ("a report shows that a mail server took it over", now + LOOK_AGAIN_AFTER)
                }
                _ => return Ok(Armed::Denied(Denied::Forbidden(words))),
            };
            tx.prepare_cached("UPDATE message SET not_before = ?2, last_reply = ?3 WHERE id = ?1")?.execute((
                id,
                instant::text(until),
                words,
            ))?;
            Ok(Armed::Denied(Denied::KeptBack { why, until }))
        }
        Err(err) => Err(err),
    }
}

/// Nobody would hear of it else: the message is as good as sent, and not counted so.
fn record_taken_over(tx: &Connection, id: i64, at: &str) -> rusqlite::Result<()> {
    let message_id: String =
        tx.prepare_cached("SELECT message_id FROM message WHERE id = ?1")?.query_row([id], |row| row.get(0))?;
    let line = format!(
        "message {message_id} is not tried again: a report shows that a mail server took it over, although it said no. \
         `mailonce explain {message_id}` shows it"
    );
    let key = format!("taken over:{}", message_key::short_id(&message_id));
    record_event_daily(tx, &Event { kind: "taken over", key, line, at })
}

fn address_of(tx: &Connection, id: i64) -> rusqlite::Result<String> {
    tx.prepare_cached("SELECT folded_address FROM message WHERE id = ?1")?.query_row([id], |row| row.get(0))
}

/// Why a message did not move to `armed`; one whose address was suppressed becomes `skipped`.
fn deny(tx: &Connection, id: i64, at: &str) -> rusqlite::Result<Denied> {
    let suppressed = tx
        .prepare_cached(&format!(
            "UPDATE message SET state = 'skipped', reason = 'suppressed', settled_at = ?2
             WHERE id = ?1 AND state = 'planned' AND {IS_SUPPRESSED}",
        ))?
        .execute((id, at))?;
    if suppressed == 1 {
        return Ok(Denied::Suppressed);
    }
    let expired: Option<bool> = tx
        .prepare_cached("SELECT expires_at <= ?2 FROM message WHERE id = ?1 AND state = 'planned'")?
        .query_row((id, at), |row| row.get(0))
        .optional()?;
    Ok(match expired {
        Some(true) => Denied::Expired,
        Some(false) => Denied::Paused,
        None => Denied::NotPlanned,
    })
}

fn taken_over(epoch: Epoch, newest: Epoch) -> Failure {
    Failure::new(
        Exit::AnotherRunHoldsTheLock,
        format!("run {newest} has taken the ledger over from this run ({epoch}); this one sends nothing more"),
        "find out why two runs could hold the lock: was the .lock file deleted or replaced?",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::sqlite::settle::tests::{NOW, three_planned};

    #[test]
    fn what_is_late_is_not_armed_also_in_a_run_that_began_in_time() {
        let (_folder, mut ledger, epoch) = three_planned();
        let began_at = instant::from_text(NOW).expect("an instant");
        let mut arm = |id: i64, now: Instant| {
            ledger.books().arm(epoch, &[id], At { now, real_second: 0 }).expect("a commit").pop().expect("an answer")
        };
        let late = began_at + TimeDelta::days(1);
        assert_eq!(arm(1, late - TimeDelta::seconds(1)), Armed::Granted);
        assert_eq!(arm(2, late), Armed::Denied(Denied::Expired));
        let states = "SELECT group_concat(state) FROM (SELECT state FROM message ORDER BY id)";
        let states: String = ledger.conn().query_row(states, [], |row| row.get(0)).expect("states");
        assert_eq!(states, "armed,planned,planned");
    }
}
