//! Runs: each raises the epoch, and each says how it ended.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rusqlite::OptionalExtension;

use super::columns::{instant_at, optional_instant_at};
use super::open::BUSY_TIMEOUT;
use super::{Durability, Records, Runs};
use crate::domain::instant::{self, Instant};
use crate::failure::Failure;
use crate::host::Host;
use crate::ledger::Epoch;

/// How long a beginning run waits for readers of an older state.
const READERS_MAY_TAKE: Duration = Duration::from_secs(1);
/// What every beginning says of the machine it is on. One without an identity changes nothing.
pub(super) const WRITTEN_HERE: &str =
    "host_since = CASE WHEN :host IS NULL OR host_id IS :host THEN host_since ELSE epoch + 1 END,
    host_id = coalesce(:host, host_id), host_name = CASE WHEN :host IS NULL THEN host_name ELSE :name END";

impl Records {
    /// Brings the log into the ledger's own file, and that to the disk: a file that has lost its log then still knows that
    /// a run began. A reader that holds on to an older state for more than a second puts this off to a later checkpoint.
    fn bring_to_file(&self) -> Result<(), Failure> {
        let brought = self.scratch(|conn| {
            conn.busy_timeout(READERS_MAY_TAKE)?;
            conn.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(()))?;
            conn.busy_timeout(BUSY_TIMEOUT)
        });
        if brought.is_err() {
            self.broken.set(true);
        }
        brought
    }

    /// The machine that wrote last, and since which run it does; `None` when it is not known.
    pub fn written_by(&self) -> Result<Option<(Host, Epoch)>, Failure> {
        self.read(|conn| {
            conn.query_row("SELECT host_id, coalesce(host_name, ''), coalesce(host_since, 0) FROM ledger", [], |row| {
                let id: Option<String> = row.get(0)?;
                let (name, since) = (row.get(1)?, row.get(2)?);
                Ok(id.map(|id| (Host { id, name }, since)))
            })
        })
    }

    /// The machine that wrote last, when that is not this one.
    pub fn came_from(&self) -> Result<Option<Host>, Failure> {
        let Some(here) = &self.host else { return Ok(None) };
        Ok(self.written_by()?.map(|(host, _)| host).filter(|host| host.id != here.id))
    }

    pub(super) fn host_columns(&self) -> (Option<String>, Option<String>) {
        self.host.clone().map(|host| (host.id, host.name)).unzip()
    }

    /// Whether the newest run has not ended: it is under way, or it died.
    pub fn newest_run_is_open(&self) -> Result<bool, Failure> {
        self.read(|conn| {
            conn.query_row(
                "SELECT EXISTS (SELECT 1 FROM run JOIN ledger USING (epoch) WHERE ended_at IS NULL)",
                [],
                |row| row.get(0),
            )
        })
    }

    /// Brings the names of the ledger's files to the disk.
    ///
    /// Opening the ledger makes the `-wal` file anew, and what is armed stands there. SQLite syncs its name later, but passes
    /// over an error: after a power loss the file could then be gone, with all that was armed in it.
    fn sync_folder(&self) -> Result<(), Failure> {
        let sync = || File::open(self.path.canonicalize()?.parent().unwrap_or(Path::new("/")))?.sync_all();
        sync().map_err(|err| {
            self.broken.set(true);
            Failure::ledger(
                format!("could not sync the folder of the ledger {}: {err}", self.path.display()),
                "check the disk and the system's log, then start the same command again",
            )
        })
    }

    /// A number that changes whenever another process has changed the ledger, and never by this one's own commits.
    /// It is looked up once after each of those: asking takes a lock, and arming looks at everything again.
    pub fn version(&self) -> Result<i64, Failure> {
        if let Some((_, version)) = self.version.get().filter(|(commits, _)| *commits == self.commits) {
            return Ok(version);
        }
        let version = self.read(|conn| conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0)))?;
        self.version.set(Some((self.commits, version)));
        Ok(version)
    }

    /// The newest epoch, and how many messages that run armed: what the lock file's record is compared with.
    pub fn epoch_and_armed(&self) -> Result<(Epoch, u64), Failure> {
        self.read(|conn| {
            let epoch: Epoch = conn.query_row("SELECT epoch FROM ledger", [], |row| row.get(0))?;
            let after: Option<i64> = conn
                .query_row("SELECT attempt_after FROM run WHERE epoch = ?1", [epoch], |row| row.get(0))
                .optional()?;
            // An idle run armed nothing, and has no row.
            let Some(after) = after else { return Ok((epoch, 0)) };
            let tried: u64 = conn.query_row(
                "SELECT count(*) FROM attempt WHERE id > ?1 AND epoch = ?2 AND armed_at IS NOT NULL",
                (after, epoch),
                |row| row.get(0),
            )?;
            let open: u64 =
                conn.query_row("SELECT count(*) FROM message WHERE state = 'armed' AND epoch = ?1", [epoch], |row| {
                    row.get(0)
                })?;
            Ok((epoch, tried + open))
        })
    }

    /// When the newest run ended; `None` while it runs or when it died.
    pub fn newest_run_ended_at(&self) -> Result<Option<Instant>, Failure> {
        self.read(|conn| {
            conn.query_row(
                "SELECT coalesce((SELECT ended_at FROM run WHERE epoch = ledger.epoch),
                                 (SELECT latest_ended_at FROM idle_run WHERE latest_epoch = ledger.epoch)) FROM ledger",
                [],
                |row| optional_instant_at(row, 0),
            )
        })
    }

    /// The newest instant that this ledger recorded as done.
    pub fn newest_at(&self) -> Result<Instant, Failure> {
        self.read(|conn| {
            conn.query_row(
                "SELECT max(newest_at,
                            coalesce((SELECT max(max(ended_at, coalesce(armed_at, ''))) FROM attempt WHERE id > ledger.newest_attempt), ''),
                            coalesce((SELECT max(armed_at) FROM message WHERE state = 'armed'), ''))
                 FROM ledger",
                [],
                |row| instant_at(row, 0),
            )
        })
    }

    /// Carts touched before this are left alone: the ledger's birth, when an old copy of it was put back, or up to when it was
    /// pruned.
    pub fn carts_count_from(&self, configured: Option<Instant>) -> Result<Instant, Failure> {
        let held_back = self.held_back_at()?;
        let since = configured.map_or_else(|| self.born_at(), Ok)?;
        let pruned_to: Option<Instant> =
            self.read(|conn| conn.query_row("SELECT pruned_to FROM ledger", [], |row| optional_instant_at(row, 0)))?;
        Ok([held_back, pruned_to].into_iter().flatten().fold(since, Instant::max))
    }

    /// When an old copy of this ledger was put back and a person went on with it: what went out before is not all known.
    pub fn held_back_at(&self) -> Result<Option<Instant>, Failure> {
        self.read(|conn| conn.query_row("SELECT held_back_at FROM ledger", [], |row| optional_instant_at(row, 0)))
    }

    /// When this ledger was made.
    pub fn born_at(&self) -> Result<Instant, Failure> {
        self.read(|conn| conn.query_row("SELECT born_at FROM ledger", [], |row| instant_at(row, 0)))
    }
}

impl Runs<'_> {
    /// Begins a run: raises the epoch, so that no older run can arm any more, and records the start.
    ///
    /// `window_seconds` is what the triggers use from now on.
    pub fn begin(
        &mut self,
        command: &str,
        now: Instant,
        window_seconds: i64,
        accept_clock: bool,
    ) -> Result<Epoch, Failure> {
        self.0.sync_folder()?;
        self.0.keep_log(true)?;
        if accept_clock {
            self.0.take_back_from(now)?;
        }
        let now = instant::text(now);
        let (host_id, host_name) = self.0.host_columns();
        let epoch = self.0.write(Durability::Full, |tx| {
            tx.execute(
                &format!("UPDATE ledger SET epoch = epoch + 1, window_seconds = ?1, least_window_seconds = min(coalesce(least_window_seconds, ?1), ?1),
                     newest_at = CASE WHEN ?3 THEN ?2 ELSE max(newest_at, ?2) END,
                     newest_attempt = (SELECT coalesce(max(id), 0) FROM attempt), {WRITTEN_HERE}"
                ),
                (window_seconds, &now, accept_clock, host_id, host_name),
            )?;
            if accept_clock {
                // What a clock that was ahead found too late may not be late yet, and every campaign is looked at anew.
                const TOO_EARLY: &str =
                    "FROM campaign_occurrence WHERE state = 'not_in_time' AND (planned_at > ?1 OR decided_at > ?1)";
                tx.execute(
                    &format!(
                        "UPDATE scheduled_campaign SET next_run = ?1 WHERE next_run > ?1
                             OR (next_run IS NULL AND defined AND status <> 'cancelled'
                                 AND campaign_id IN (SELECT campaign_id {TOO_EARLY}))"
                    ),
                    [&now],
                )?;
                tx.execute(&format!("DELETE {TOO_EARLY}"), [&now])?;
            }
            tx.execute(
                "INSERT INTO run (epoch, command, started_at, accepted_clock, attempt_after)
                 SELECT epoch, ?1, ?2, ?3, newest_attempt FROM ledger",
                (command, &now, accept_clock),
            )?;
            tx.query_row("SELECT epoch FROM ledger", [], |row| row.get(0))
        })?;
        self.0.bring_to_file()?;
        Ok(epoch)
    }

    /// Ends a run. One that found nothing to do becomes part of a count. The commit is on disk when this returns.
    pub fn end(&mut self, epoch: Epoch, now: Instant, ending: &str, idle: bool) -> Result<(), Failure> {
        let now = instant::text(now);
        self.0.write(Durability::Full, |tx| {
            tx.execute(
                "UPDATE ledger SET newest_at = max(newest_at, ?1), newest_attempt = (SELECT coalesce(max(id), 0) FROM attempt)
                 WHERE epoch = ?2",
                (&now, epoch),
            )?;
            if idle {
                tx.execute(
                    "INSERT INTO idle_run (command, runs, first_started_at, latest_epoch, latest_started_at, latest_ended_at)
                     SELECT command, 1, started_at, epoch, started_at, ?2 FROM run WHERE epoch = ?1
                     ON CONFLICT (command) DO UPDATE SET runs = runs + 1, latest_epoch = excluded.latest_epoch,
                         latest_started_at = excluded.latest_started_at, latest_ended_at = excluded.latest_ended_at",
                    (epoch, &now),
                )?;
                tx.execute("DELETE FROM run WHERE epoch = ?1", [epoch])?;
            } else {
                tx.execute("UPDATE run SET ended_at = ?2, ending = ?3 WHERE epoch = ?1", (epoch, &now, ending))?;
                // A run that tried nothing and ended like the one before it stands for both.
                tx.execute(
                    "DELETE FROM run AS before
                     WHERE before.epoch = (SELECT max(epoch) FROM run WHERE epoch < ?1) AND before.ending = ?2
                       AND (before.command, before.attempt_after) = (SELECT command, attempt_after FROM run WHERE epoch = ?1)
                       AND before.attempt_after = (SELECT coalesce(max(id), 0) FROM attempt)",
                    (epoch, ending),
                )?;
            }
            Ok(())
        })?;
        self.0.keep_log(false)
    }
}
