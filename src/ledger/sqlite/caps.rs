//! Caps: how many messages one address gets within how long, over carts and campaigns. The schema's trigger holds to them; here
//! is when the next may go.

use super::columns::optional_instant_at;
use super::{Durability, Reading, Records, Runs};
use crate::domain::caps::Cap;
use crate::domain::instant::{self, Instant};
use crate::failure::Failure;
use crate::ledger::STEP_GAP;
use chrono::TimeDelta;

impl Records {
    /// From when on the caps let another message to this address go; `None`: they do so now.
    pub fn cap_frees_at(&self, folded_address: &str, now: Instant) -> Result<Option<Instant>, Failure> {
        self.read(|conn| cap_frees_at(conn, folded_address, now))
    }

    /// From when on a step of this episode may follow what went to this address or of it; `None`: now.
    pub fn gap_ends_at(&self, folded_address: &str, message: i64, now: Instant) -> Result<Option<Instant>, Failure> {
        self.read(|conn| gap_ends_at(conn, folded_address, message)).map(|at| at.filter(|at| *at > now))
    }
}

impl Runs<'_> {
    /// Keeps the caps that the configuration has; where they are as they were, nothing is written.
    pub fn keep_caps(&mut self, caps: &[Cap], now: Instant) -> Result<(), Failure> {
        let mut wanted: Vec<(i64, u32)> = caps.iter().map(|cap| (cap.within.num_seconds(), cap.messages)).collect();
        wanted.sort_unstable();
        let kept: Vec<(i64, u32)> = self.0.read(|conn| {
            let mut rows = conn.prepare_cached("SELECT seconds, messages FROM cap ORDER BY seconds")?;
            rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })?;
        if wanted == kept {
            return Ok(());
        }
        self.0.write(Durability::Full, |tx| {
            for (seconds, _) in kept.iter().filter(|cap| !wanted.contains(cap)) {
                tx.execute("DELETE FROM cap WHERE seconds = ?1", [seconds])?;
            }
            for (seconds, messages) in wanted.iter().filter(|cap| !kept.contains(cap)) {
                let cap = "INSERT INTO cap (seconds, messages, since) VALUES (?1, ?2, ?3)";
                tx.execute(cap, (seconds, messages, instant::text(now)))?;
            }
            Ok(())
        })
    }
}

/// When all caps let another message go; `None`: now.
pub(super) fn cap_frees_at(
    conn: &Reading<'_>,
    folded_address: &str,
    now: Instant,
) -> rusqlite::Result<Option<Instant>> {
    let mut caps = conn.prepare_cached("SELECT seconds, messages FROM cap")?;
    let of_row = |row: &rusqlite::Row<'_>| Ok(Cap { within: TimeDelta::seconds(row.get(0)?), messages: row.get(1)? });
    let caps: Vec<Cap> = caps.query_map([], of_row)?.collect::<rusqlite::Result<_>>()?;
    let mut latest = None;
    for cap in caps {
        latest = latest.max(frees_at(conn, folded_address, &cap, now)?);
    }
    Ok(latest)
}

/// When the oldest of as many as this cap allows leaves it, counted from the newest; `None`: another may go now.
pub(super) fn frees_at(
    conn: &Reading<'_>,
    folded_address: &str,
    cap: &Cap,
    now: Instant,
) -> rusqlite::Result<Option<Instant>> {
    let began = instant::text(now - cap.within);
    let nth = conn
        .prepare_cached(
            "SELECT max(armed_at) AS at FROM (
                 SELECT armed_at FROM (
                     SELECT armed_at FROM message
                     WHERE folded_address = ?1 AND cart_hash IS NOT NULL AND armed_at > ?2
                     UNION ALL
                     SELECT m.armed_at FROM campaign_occurrence AS o
                     CROSS JOIN message AS m INDEXED BY one_per_occurrence_and_address
                         ON m.kind = 'campaign' AND m.occurrence = o.id AND m.folded_address = ?1
                     WHERE o.state = 'opened' AND o.expires_at > ?2 AND m.armed_at > ?2)
                 ORDER BY armed_at DESC LIMIT 1 OFFSET ?3)",
        )?
        .query_row((folded_address, began, cap.messages - 1), |row| optional_instant_at(row, "at"))?;
    Ok(nth.map(|at| at + cap.within))
}

/// When the newest message about a cart of the same shopper is so long ago that this one, a step, may go.
pub(super) fn gap_ends_at(conn: &Reading<'_>, folded_address: &str, message: i64) -> rusqlite::Result<Option<Instant>> {
    let newest = conn
        .prepare_cached(
            "SELECT max(armed_at) AS newest FROM (
                 SELECT armed_at FROM message WHERE folded_address = ?1 AND cart_hash IS NOT NULL AND id <> ?2
                 UNION ALL
                 SELECT armed_at FROM message
                 WHERE episode = (SELECT episode FROM message WHERE id = ?2) AND id <> ?2)",
        )?
        .query_row((folded_address, message), |row| optional_instant_at(row, "newest"))?;
    Ok(newest.map(|newest| newest + STEP_GAP))
}
