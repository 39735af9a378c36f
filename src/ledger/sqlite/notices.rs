//! Notices: what a person has been told once and what still stands, so that cron is not told every minute.

use std::collections::HashSet;

use chrono::TimeDelta;
use rusqlite::{Connection, OptionalExtension};

use super::columns::instant_at;
use super::{Durability, Notices, Reading, Records};
use crate::domain::instant::{self, Instant};
use crate::failure::Failure;
use crate::ledger::{News, Notice, OpenNotice, StandingEvent};

/// What stands is brought up again after this long.
const REMIND_EVERY: TimeDelta = TimeDelta::hours(1);
/// More than this many of one kind are counted, not kept.
pub const MOST_KEPT: usize = 1000;

/// What is to be told at `?1`. An event that happened again keeps `after` and the instant from which it is told.
const TO_BE_TOLD: &str = "(reported_at = '' OR (reported_at GLOB 'after *' AND substr(reported_at, 7) <= ?1))";

/// The kinds of [`Event`].
pub const EVENT_KINDS: [&str; 7] = ["audience", "expired", "forget", "missed", "paused", "stopped", "taken over"];

/// Something that happened to messages or campaigns, and that no later look would find again: it is recorded in the
/// transaction in which it happened, told by the run that finds it untold, and kept until a person settles it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event<'a> {
    /// What `status` lists it under: one of [`EVENT_KINDS`].
    pub kind: &'static str,
    /// What `resolve --accept` takes: `missed:spring`. One key stands once; when it happens again, its line is replaced.
    pub key: String,
    pub line: String,
    /// When it happened, as text.
    pub at: &'a str,
}

/// The key of a campaign's event that it is paused.
pub(super) fn paused_key(campaign_id: &str) -> String {
    format!("paused:{campaign_id}")
}

/// Records an event within a transaction; it is told at the end of the run.
pub(super) fn record_event(tx: &Connection, event: &Event<'_>) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO notice (notice_key, kind, line, first_at, reported_at) VALUES (?1, ?2, ?3, ?4, '')
         ON CONFLICT (notice_key) DO UPDATE SET line = excluded.line, reported_at = ''",
    )?
    .execute((&event.key, event.kind, &event.line, event.at))?;
    Ok(())
}

/// As [`record_event`], for what may go on happening: what was told is told again only a day later, if it happened again.
pub(super) fn record_event_daily(tx: &Connection, event: &Event<'_>) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO notice (notice_key, kind, line, first_at, reported_at) VALUES (?1, ?2, ?3, ?4, '')
         ON CONFLICT (notice_key) DO UPDATE SET line = excluded.line, reported_at = CASE
             WHEN reported_at = '' OR reported_at GLOB 'after *' THEN reported_at
             ELSE 'after ' || strftime('%Y-%m-%dT%H:%M:%SZ', reported_at, '+1 day') END",
    )?
    .execute((&event.key, event.kind, &event.line, event.at))?;
    Ok(())
}

/// Takes an event off the list within a transaction: it is settled.
pub(super) fn settle_event(tx: &Connection, key: &str) -> rusqlite::Result<bool> {
    Ok(tx.prepare_cached("DELETE FROM notice WHERE notice_key = ?1")?.execute([key])? > 0)
}

fn events(conn: &Reading<'_>) -> rusqlite::Result<Vec<StandingEvent>> {
    let kinds = EVENT_KINDS.join("', '");
    let mut rows = conn.prepare(&format!(
        "SELECT notice_key, kind, line, first_at FROM notice WHERE kind IN ('{kinds}') ORDER BY kind, first_at, notice_key"
    ))?;
    rows.query_map([], |row| {
        Ok(StandingEvent {
            key: row.get("notice_key")?,
            kind: row.get("kind")?,
            line: row.get("line")?,
            since: row.get("first_at")?,
        })
    })?
    .collect()
}

impl Records {
    /// The events that stand, the oldest of each kind first.
    pub fn events(&self) -> Result<Vec<StandingEvent>, Failure> {
        self.read(events)
    }

    /// The lines of the events that no one was told of yet, and those that are to be told again by now.
    pub fn untold(&self, now: Instant) -> Result<Vec<String>, Failure> {
        self.read(|conn| {
            let mut rows =
                conn.prepare_cached(&format!("SELECT line FROM notice WHERE {TO_BE_TOLD} ORDER BY rowid"))?;
            rows.query_map([instant::text(now)], |row| row.get(0))?.collect()
        })
    }

    /// What stands of one kind.
    pub fn standing_of(&self, kind: &str) -> Result<Vec<Notice>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare_cached("SELECT notice_key, line FROM notice WHERE kind = ?1 ORDER BY rowid")?;
            rows.query_map([kind], |row| Ok(Notice { key: row.get(0)?, line: row.get(1)? }))?.collect()
        })
    }

    /// Everything that needs a person just now, by kind, oldest first.
    pub fn open_notices(&self) -> Result<Vec<OpenNotice>, Failure> {
        self.read(|conn| {
            let mut rows =
                conn.prepare("SELECT kind, line, first_at FROM notice WHERE line <> '' ORDER BY kind, first_at, line")?;
            rows.query_map([], |row| {
                Ok(OpenNotice { kind: row.get("kind")?, line: row.get("line")?, since: row.get("first_at")? })
            })?
            .collect()
        })
    }
}

impl Notices<'_> {
    /// Takes events off the list: they are right as they are. `None` takes all; says which were taken.
    ///
    /// # Errors
    /// Exit 2 when one of the keys does not stand; nothing is taken then.
    pub fn accept(&mut self, keys: Option<&[String]>) -> Result<Vec<String>, Failure> {
        let taken = self.0.write(Durability::Full, |tx| {
            let standing: Vec<String> = events(&Reading(tx))?.into_iter().map(|event| event.key).collect();
            let unknown = keys.unwrap_or_default().iter().find(|key| !standing.contains(key));
            if let Some(unknown) = unknown {
                return Ok(Err((unknown.clone(), standing)));
            }
            let taken = keys.map_or(standing, <[String]>::to_vec);
            for key in &taken {
                settle_event(tx, key)?;
            }
            Ok(Ok(taken))
        })?;
        taken.map_err(|(unknown, standing)| {
            let next = match standing.is_empty() {
                true => "there is nothing to accept".to_owned(),
                false => format!("name one of: {}", standing.join(", ")),
            };
            Failure::usage(format!("{unknown:?} is not on the list; nothing was accepted"), next)
        })
    }

    /// Notes that every event was told: after its line was written, so that a kill between the two tells it twice, not never.
    pub fn mark_told(&mut self, now: Instant) -> Result<(), Failure> {
        let at = instant::text(now);
        self.0.write(Durability::Full, |tx| {
            tx.execute(&format!("UPDATE notice SET reported_at = ?1 WHERE {TO_BE_TOLD}"), [&at])?;
            Ok(())
        })
    }

    /// Compares what stands now with what stood, keeps the difference, and says what is news. Writes only on a change.
    pub fn note(&mut self, kind: &str, standing: &[Notice], now: Instant) -> Result<News, Failure> {
        let known: Vec<(String, String)> = self.0.read(|conn| {
            let mut rows = conn.prepare_cached("SELECT notice_key, reported_at FROM notice WHERE kind = ?1")?;
            rows.query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })?;
        let known_keys: HashSet<&str> = known.iter().map(|(key, _)| key.as_str()).collect();
        let standing_keys: HashSet<&str> = standing.iter().map(|notice| notice.key.as_str()).collect();
        let new: Vec<&Notice> = standing.iter().filter(|notice| !known_keys.contains(notice.key.as_str())).collect();
        let gone: Vec<&str> = known_keys.iter().copied().filter(|key| !standing_keys.contains(key)).collect();
        let latest = known.iter().filter_map(|(_, at)| instant::from_text(at)).max();
        let remind = new.is_empty() && !standing.is_empty() && latest.is_some_and(|at| now - at >= REMIND_EVERY);
        if !new.is_empty() || !gone.is_empty() || remind {
            let at = instant::text(now);
            self.0.write(Durability::Full, |tx| {
                for key in &gone {
                    tx.prepare_cached("DELETE FROM notice WHERE notice_key = ?1 AND kind = ?2")?.execute((key, kind))?;
                }
                for notice in new.iter().take(MOST_KEPT) {
                    tx.prepare_cached(
                        "INSERT INTO notice (notice_key, kind, line, first_at, reported_at) VALUES (?1, ?2, ?3, ?4, ?4) ON CONFLICT DO NOTHING",
                    )?
                    .execute((&notice.key, kind, &notice.line, &at))?;
                }
                if remind || !new.is_empty() {
                    tx.execute("UPDATE notice SET reported_at = ?2 WHERE kind = ?1", (kind, &at))?;
                }
                Ok(())
            })?;
        }
        Ok(News {
            new: new.into_iter().map(|notice| notice.line.clone()).collect(),
            reminder: remind.then_some(standing.len() as u64),
        })
    }

    /// Keeps one thing that needs telling only once, ever, and its line as it is now; `None`: nothing of this kind stands.
    /// Says whether this is the first time. Writes only on a change.
    pub fn note_once(&mut self, kind: &str, standing: Option<&Notice>, now: Instant) -> Result<bool, Failure> {
        let known: Vec<(String, String)> = self.0.read(|conn| {
            let mut rows = conn.prepare_cached("SELECT notice_key, line FROM notice WHERE kind = ?1")?;
            rows.query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })?;
        let is_first = standing.is_some_and(|notice| known.iter().all(|(key, _)| *key != notice.key));
        // An empty line remembers what was told and does not stand now.
        let line_of = |key: &str| standing.filter(|notice| notice.key == key).map_or("", |notice| &notice.line);
        if is_first || known.iter().any(|(key, line)| line != line_of(key)) {
            let at = instant::text(now);
            self.0.write(Durability::Full, |tx| {
                tx.execute("UPDATE notice SET line = '' WHERE kind = ?1", [kind])?;
                let Some(notice) = standing else { return Ok(()) };
                tx.execute(
                    "INSERT INTO notice (notice_key, kind, line, first_at, reported_at) VALUES (?1, ?2, ?3, ?4, ?4)
                     ON CONFLICT (notice_key) DO UPDATE SET line = excluded.line",
                    (&notice.key, kind, &notice.line, &at),
                )?;
                Ok(())
            })?;
        }
        Ok(is_first)
    }

    /// Keeps one thing that is told each time it begins, but not twice within an hour, and its line as it is now; `None`: it has
    /// ended. Says whether it is to be told now. Writes only on a change.
    pub fn note_each(&mut self, kind: &str, standing: Option<&str>, now: Instant) -> Result<bool, Failure> {
        let known: Option<(String, Instant, Instant)> = self.0.read(|conn| {
            conn.query_row("SELECT line, first_at, reported_at FROM notice WHERE notice_key = ?1", [kind], |row| {
                Ok((row.get(0)?, instant_at(row, 1)?, instant_at(row, 2)?))
            })
            .optional()
        })?;
        // An empty line remembers when it was told last, and does not stand now.
        let known_line = known.as_ref().map_or("", |(line, ..)| line);
        let line = standing.unwrap_or_default();
        let first_at = known.as_ref().filter(|(line, ..)| !line.is_empty()).map_or(now, |(_, first_at, _)| *first_at);
        let was_told = known.as_ref().map(|(.., told_at)| *told_at);
        let is_told = standing.is_some() && was_told.is_none_or(|at| at < first_at && now - at >= REMIND_EVERY);
        if line != known_line || is_told {
            let told_at = was_told.filter(|_| !is_told).unwrap_or(now);
            self.0.write(Durability::Full, |tx| {
                tx.execute(
                    "INSERT INTO notice (notice_key, kind, line, first_at, reported_at) VALUES (?1, ?1, ?2, ?3, ?4)
                     ON CONFLICT (notice_key) DO UPDATE SET line = ?2, first_at = ?3, reported_at = ?4",
                    (kind, line, instant::text(first_at), instant::text(told_at)),
                )
            })?;
        }
        Ok(is_told)
    }

    /// Keeps one thing that need not be told unless it lasts, and its line as it is now; `None`: it has ended. Says whether it
    /// has lasted for so long just now.
    pub fn note_lasting(
        &mut self,
        kind: &str,
        standing: Option<&str>,
        tell_after: TimeDelta,
        now: Instant,
    ) -> Result<bool, Failure> {
        let known: Option<(String, String)> = self.0.read(|conn| {
            conn.query_row("SELECT first_at, reported_at FROM notice WHERE notice_key = ?1", [kind], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
        })?;
        let Some(line) = standing else {
            if known.is_some() {
                self.0.write(Durability::Full, |tx| settle_event(tx, kind))?;
            }
            return Ok(false);
        };
        // Until it is told, it is reported as of when it began.
        let has_lasted = known.is_some_and(|(first_at, reported_at)| {
            first_at == reported_at && instant::from_text(&first_at).is_some_and(|first| now - first >= tell_after)
        });
        let at = instant::text(now);
        self.0.write(Durability::Full, |tx| {
            tx.execute(
                "INSERT INTO notice (notice_key, kind, line, first_at, reported_at) VALUES (?1, ?1, ?2, ?3, ?3)
                 ON CONFLICT (notice_key) DO UPDATE SET line = excluded.line,
                     reported_at = CASE WHEN ?4 THEN excluded.reported_at ELSE notice.reported_at END",
                (kind, line, &at, has_lasted),
            )
        })?;
        Ok(has_lasted)
    }
}
