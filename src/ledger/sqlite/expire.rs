//! Expiry: what was not sent in its time. It is told, and kept until a person settles it; a clock that was ahead and came
//! back takes back what it had expired.

use rusqlite::{Connection, OptionalExtension};

use super::batches::Batch;
use super::notices::{Event, record_event, record_event_daily, settle_event};
use super::resolve::{a_newer_one_has_the_contents, another_is_planned};
use super::{Durability, Ledger, Plans, Reading, Records};
use crate::domain::address;
use crate::domain::instant::{self, Instant};
use crate::failure::Failure;
use crate::output::count;

const KIND: &str = "expired";
/// Carts share one key: a shop with a few dead mailboxes is told once a day, not every minute.
const CARTS: &str = "expired:carts";

/// An opening whose messages expire.
struct Expiring {
    occurrence: i64,
    campaign_id: String,
    planned_at: String,
}

/// The planned messages whose time has passed.
#[derive(Default)]
struct Late {
    ids: Vec<i64>,
    /// When the last of them expired, and what was said last of one of them.
    until: String,
    last_word: Option<String>,
}

impl Ledger {
    /// Takes back what a clock that was ahead expired: what is not late by the clock as it is now is planned again, and
    /// what was put off beyond any wait is due now. The caller holds the run lock and has not begun its run: killed on the
    /// way, the clock is still refused, and a person repeats it.
    ///
    /// A cart's message is taken back only where no other is planned in its place, and none has its contents since.
    pub(super) fn take_back_from(&mut self, now: Instant) -> Result<(), Failure> {
        let at = instant::text(now);
        let longest_wait = instant::text(now + crate::domain::back_off::LONGEST);
        let ids_of = |ledger: &Ledger, sql: &str, than: &str| -> Result<Vec<i64>, Failure> {
            ledger.read(|conn| conn.prepare(sql)?.query_map([than], |row| row.get(0))?.collect())
        };
        // The newest first: of two for one cart, the later one is what its shopper should get.
        let expired = ids_of(
            self,
            "SELECT id FROM message WHERE state = 'skipped' AND reason = 'expired' AND settled_at > ?1 AND expires_at > ?1
             ORDER BY id DESC",
            &at,
        )?;
        self.in_batches(&expired, &mut |_| {}, |tx, batch| {
            let mut moved = 0;
            for id in batch.ids {
                // Both are about carts alone.
                if another_is_planned(tx, *id)? || a_newer_one_has_the_contents(tx, *id)? {
                    continue;
                }
                moved += tx
                    .prepare_cached(
                        "UPDATE message SET state = 'planned', reason = NULL, settled_at = NULL, epoch = NULL, not_before = ?2
                         WHERE id = ?1 AND state = 'skipped' AND reason = 'expired'",
                    )?
                    .execute((id, &at))? as u64;
            }
            Ok(Some(moved))
        })?;
        // What stays skipped was settled by now: settled in days to come, it would still be open when the next is planned.
        let skipped = ids_of(self, "SELECT id FROM message WHERE state = 'skipped' AND settled_at > ?1", &at)?;
        self.in_batches(&skipped, &mut |_| {}, |tx, batch| {
            let mut moved = 0;
            for id in batch.ids {
                moved += tx
                    .prepare_cached("UPDATE message SET settled_at = ?2 WHERE id = ?1 AND state = 'skipped'")?
                    .execute((id, &at))? as u64;
            }
            Ok(Some(moved))
        })?;
        let put_off =
            ids_of(self, "SELECT id FROM message WHERE state = 'planned' AND not_before > ?1", &longest_wait)?;
        self.in_batches(&put_off, &mut |_| {}, |tx, batch| {
            let mut moved = 0;
            for id in batch.ids {
                moved += tx
                    .prepare_cached("UPDATE message SET not_before = ?2 WHERE id = ?1 AND state = 'planned'")?
                    .execute((id, &at))? as u64;
            }
            Ok(Some(moved))
        })?;
        self.write(Durability::Full, |tx| {
            // What it missed is decided about anew.
            tx.execute("DELETE FROM notice WHERE kind = 'missed' AND first_at > ?1", [&at])?;
            tell_anew(tx, &at)?;
            tx.execute("UPDATE notice SET first_at = ?1 WHERE first_at > ?1", [&at])?;
            // Told by that clock counts as told now; what was to be told again a day later is told at once.
            tx.execute(
                "UPDATE notice SET reported_at = CASE WHEN reported_at GLOB 'after *' THEN '' ELSE ?1 END
                 WHERE replace(reported_at, 'after ', '') > CASE WHEN reported_at GLOB 'after *' THEN ?2 ELSE ?1 END",
                (&at, instant::text(now + chrono::TimeDelta::days(1))),
            )?;
            Ok(())
        })
    }
}

impl Records {
    fn late(&self, which: &str, at: &str) -> Result<Late, Failure> {
        self.read(|conn| {
            let mut late = Late::default();
            let mut rows = conn.prepare_cached(&format!(
                "SELECT id, expires_at, last_reply FROM message WHERE {which} AND state = 'planned' AND expires_at <= ?1"
            ))?;
            let mut rows = rows.query([at])?;
            while let Some(row) = rows.next()? {
                late.ids.push(row.get(0)?);
                let until = row.get_ref(1)?.as_str()?;
                if late.until.as_str() < until {
                    late.until = until.to_owned();
                }
                if let Some(word) = row.get_ref(2)?.as_str_or_null()? {
                    late.last_word = Some(word.to_owned());
                }
            }
            Ok(late)
        })
    }
}

impl Plans<'_> {
    /// Skips every planned cart message that expired, in batches, and says how many there were.
    ///
    /// A person is told the first time, and again after a day when more expired; the line is always the newest.
    pub fn expire_carts(&mut self, now: Instant) -> Result<u64, Failure> {
        let at = instant::text(now);
        let late = self.0.late("occurrence IS NULL", &at)?;
        if late.ids.is_empty() {
            return Ok(0);
        }
        let since = self.0.read(|conn| told_since(conn, CARTS))?.unwrap_or_else(|| at.clone());
        let mut expired = self.0.read(|conn| count_expired_carts(conn, &since))?;
        self.0.in_batches(&late.ids, &mut |_| {}, |tx, batch| {
            let moved = expire_each(tx, batch, &at)?;
            expired += moved;
            let line = line_of_carts(expired, &since, &at, late.last_word.as_deref());
            record_event_daily(tx, &Event { kind: KIND, key: CARTS.into(), line, at: &at })?;
            Ok(Some(moved))
        })
    }

    /// Skips every planned campaign message that expired, in batches, and says how many there were.
    ///
    /// Nothing expires while its campaign is paused: a person decides first. Each opening is told by itself.
    pub fn expire_recipients(&mut self, now: Instant) -> Result<u64, Failure> {
        let at = instant::text(now);
        // By occurrence: none of its messages expires before it does, and one look tells that nothing is left of it.
        let expiring: Vec<Expiring> = self.0.read(|conn| {
            let mut rows = conn.prepare_cached(
                "SELECT o.id, o.campaign_id, o.planned_at
                 FROM campaign_occurrence AS o JOIN scheduled_campaign AS c USING (campaign_id)
                 WHERE o.state = 'opened' AND o.expires_at <= ?1 AND c.status NOT IN ('paused', 'cancelled')
                     AND EXISTS (SELECT 1 FROM message AS m WHERE m.occurrence = o.id AND m.state = 'planned')",
            )?;
            rows.query_map([&at], |row| {
                Ok(Expiring { occurrence: row.get(0)?, campaign_id: row.get(1)?, planned_at: row.get(2)? })
            })?
            .collect()
        })?;
        let mut all = 0;
        for opening in expiring {
            let late = self.0.late(&format!("occurrence = {}", opening.occurrence), &at)?;
            if late.ids.is_empty() {
                continue;
            }
            let mut expired = self.0.read(|conn| count_expired(conn, opening.occurrence))?;
            all += self.0.in_batches(&late.ids, &mut |_| {}, |tx, batch| {
                if !is_expiring(tx, &opening.campaign_id)? {
                    return Ok(None);
                }
                let moved = expire_each(tx, batch, &at)?;
                expired += moved;
                let line = line_of_opening(&opening, expired, &late.until, late.last_word.as_deref());
                let key = key_of(&opening.campaign_id, &opening.planned_at);
                record_event(tx, &Event { kind: KIND, key, line, at: &at })?;
                Ok(Some(moved))
            })?;
        }
        Ok(all)
    }
}

/// Takes everything that was told of a campaign's expiry off the list, within a transaction.
pub(super) fn settle_expiry_of(tx: &Connection, campaign_id: &str) -> rusqlite::Result<()> {
    let begin = key_of(campaign_id, "");
    tx.prepare_cached("DELETE FROM notice WHERE kind = ?1 AND substr(notice_key, 1, length(?2)) = ?2")?
        .execute((KIND, begin))?;
    Ok(())
}

/// Takes what was told of the expiry of one opening off the list, within a transaction.
pub(super) fn settle_expiry(tx: &Connection, occurrence: i64) -> rusqlite::Result<()> {
    let (campaign_id, planned_at): (String, String) = tx
        .prepare_cached("SELECT campaign_id, planned_at FROM campaign_occurrence WHERE id = ?1")?
        .query_row([occurrence], |row| Ok((row.get(0)?, row.get(1)?)))?;
    settle_event(tx, &key_of(&campaign_id, &planned_at)).map(drop)
}

fn key_of(campaign_id: &str, planned_at: &str) -> String {
    format!("{KIND}:{campaign_id}@{planned_at}")
}

/// Whether it is neither paused nor cancelled just now.
fn is_expiring(tx: &Connection, campaign_id: &str) -> rusqlite::Result<bool> {
    tx.prepare_cached(
        "SELECT 1 FROM scheduled_campaign WHERE campaign_id = ?1 AND status NOT IN ('paused', 'cancelled')",
    )?
    .exists([campaign_id])
}

fn expire_each(tx: &Connection, batch: Batch<'_>, at: &str) -> rusqlite::Result<u64> {
    let mut moved = 0;
    let mut skip = tx.prepare_cached(
        "UPDATE message SET state = 'skipped', reason = 'expired', settled_at = ?2
         WHERE id = ?1 AND state = 'planned' AND expires_at <= ?2",
    )?;
    for id in batch.ids {
        moved += skip.execute((id, at))? as u64;
    }
    Ok(moved)
}

/// Tells of steps that were too late before they could be planned, which are in the ledger already, within the transaction.
pub(super) fn tell_of_late_carts(tx: &Connection, now: Instant) -> rusqlite::Result<()> {
    let at = instant::text(now);
    let since = told_since(&Reading(tx), CARTS)?.unwrap_or_else(|| at.clone());
    let line = line_of_carts(count_expired_carts(&Reading(tx), &since)?, &since, &at, None);
    record_event_daily(tx, &Event { kind: KIND, key: CARTS.into(), line, at: &at })
}

fn told_since(conn: &Reading<'_>, key: &str) -> rusqlite::Result<Option<String>> {
    conn.prepare_cached("SELECT first_at FROM notice WHERE notice_key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

fn count_expired(conn: &Reading<'_>, occurrence: i64) -> rusqlite::Result<u64> {
    conn.prepare_cached(
        "SELECT count(*) FROM message WHERE occurrence = ?1 AND state = 'skipped' AND reason = 'expired'",
    )?
    .query_row([occurrence], |row| row.get(0))
}

fn count_expired_carts(conn: &Reading<'_>, since: &str) -> rusqlite::Result<u64> {
    conn.prepare_cached(
        "SELECT count(*) FROM message
         WHERE occurrence IS NULL AND state = 'skipped' AND reason = 'expired' AND settled_at >= ?1",
    )?
    .query_row([since], |row| row.get(0))
}

fn line_of_carts(expired: u64, since: &str, latest: &str, last_word: Option<&str>) -> String {
    let when = match since == latest {
        true => format!("at {latest}"),
        false => format!("since {since}, the latest at {latest}"),
    };
    format!(
        "{} expired unsent {when}{}; `mailonce log --state skipped` lists them; if that is \
         right: `mailonce resolve --accept {CARTS}`",
        count(expired, "cart message"),
        said(last_word)
    )
}

fn line_of_opening(opening: &Expiring, expired: u64, until: &str, last_word: Option<&str>) -> String {
    let Expiring { campaign_id, planned_at, .. } = opening;
    format!(
        "campaign {campaign_id} {planned_at}: {} expired unsent (send_until passed at {until}){}; \
         `mailonce campaign retry {campaign_id} --state expired --occurrence {planned_at}` plans them anew; if that is right: \
         `mailonce resolve --accept {}`",
        count(expired, "message"),
        said(last_word),
        key_of(campaign_id, planned_at)
    )
}

fn said(last_word: Option<&str>) -> String {
    match last_word {
        Some(word) => format!("; the last word on one of them: \"{}\"", address::masked(word)),
        None => "; none of the latest was ever tried: no run, no opening or no coupon code in time".into(),
    }
}

/// Says anew what is expired, or takes it off the list where nothing is any more.
fn tell_anew(tx: &Connection, at: &str) -> rusqlite::Result<()> {
    let mut known = tx.prepare("SELECT notice_key, min(first_at, ?2) FROM notice WHERE kind = ?1")?;
    let known: Vec<(String, String)> =
        known.query_map((KIND, at), |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    for (key, since) in known {
        let line = if key == CARTS {
            let expired = count_expired_carts(&Reading(tx), &since)?;
            let last_word = last_word(tx, "occurrence IS NULL")?;
            (expired > 0).then(|| line_of_carts(expired, &since, at, last_word.as_deref()))
        } else {
            let opening = tx
                .prepare_cached(
                    "SELECT id, campaign_id, planned_at, expires_at FROM campaign_occurrence
                     WHERE 'expired:' || campaign_id || '@' || planned_at = ?1",
                )?
                .query_row([&key], |row| {
                    let opening =
                        Expiring { occurrence: row.get(0)?, campaign_id: row.get(1)?, planned_at: row.get(2)? };
                    Ok((opening, row.get::<_, String>(3)?))
                })
                .optional()?;
            match opening {
                Some((opening, until)) => {
                    let expired = count_expired(&Reading(tx), opening.occurrence)?;
                    let last_word = last_word(tx, &format!("occurrence = {}", opening.occurrence))?;
                    (expired > 0).then(|| line_of_opening(&opening, expired, &until, last_word.as_deref()))
                }
                None => None,
            }
        };
        match line {
            Some(line) => {
                tx.execute("UPDATE notice SET line = ?2 WHERE notice_key = ?1", (&key, line))?;
            }
            None => {
                settle_event(tx, &key)?;
            }
        }
    }
    Ok(())
}

fn last_word(tx: &Connection, which: &str) -> rusqlite::Result<Option<String>> {
    tx.prepare(&format!(
        "SELECT last_reply FROM message WHERE {which} AND state = 'skipped' AND reason = 'expired' AND last_reply IS NOT NULL
         ORDER BY id DESC LIMIT 1"
    ))?
    .query_row([], |row| row.get(0))
    .optional()
}
