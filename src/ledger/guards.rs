//! What must hold before anything is sent: the clock has not gone back, and this is not an old copy of the ledger.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use chrono::TimeDelta;
use sha2::{Digest, Sha256};

use super::runs::Epoch;
use super::{Durability, Ledger};
use crate::domain::instant::{self, Instant};
use crate::domain::message_key::hex;
use crate::failure::Failure;
use crate::run_lock::Record;

/// A clock may be this far behind the newest thing done before nothing is sent.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

impl Ledger {
    /// Compares the clock with the newest thing the ledger recorded as done.
    ///
    /// # Errors
    /// Exit 74 when the clock is more than 5 minutes behind: windows and due instants would be wrong.
    pub fn check_clock(&self, now: Instant) -> Result<(), Failure> {
        let newest = self.newest_at()?;
        if now + CLOCK_TOLERANCE >= newest {
            return Ok(());
        }
        Err(Failure::ledger(
            format!(
                "the clock says {}, but the ledger recorded something done at {}; nothing is sent",
                instant::text(now),
                instant::text(newest)
            ),
            "set the clock right; if it is right now and was wrong then, go on with --accept-clock",
        ))
    }

    /// Compares the ledger with what the lock file remembers of the last run.
    ///
    /// # Errors
    /// Exit 74 when the lock file names another ledger, or knows of a newer run or of more armed messages: the ledger is
    /// an old copy, and what went out since would go out again.
    pub fn check_not_restored(&self, record: &Record) -> Result<(), Failure> {
        let (epoch, armed) = self.epoch_and_armed()?;
        let refuse = |what: String| {
            Err(Failure::ledger(
                what,
                "if it was restored from a backup: `mailonce resolve --restored` lists what is due for you to decide",
            )
            .kept("nothing is sent: what went out since that copy was made would go out again"))
        };
        if record.ledger_id != self.id {
            return refuse(format!(
                "{} is not the ledger that the lock file beside it belongs to (ledger {}, lock file {})",
                self.path.display(),
                self.id,
                record.ledger_id
            ));
        }
        let ended_missing = record.epoch == epoch && record.ended_at.is_some() && self.newest_run_ended_at()?.is_none();
        if record.epoch > epoch || (record.epoch == epoch && record.armed > armed) || ended_missing {
            return refuse(format!(
                "{} is older than its lock file remembers: run {} with {armed} messages begun, lock file run {} with {}",
                self.path.display(),
                epoch,
                record.epoch,
                record.armed
            ));
        }
        Ok(())
    }

    /// Whether a dead run left a write-ahead log beside this path; an orderly end of every command takes it away.
    pub fn has_left_log(path: &Path) -> bool {
        let mut log = path.canonicalize().unwrap_or_else(|_| path.to_owned()).into_os_string();
        log.push("-wal");
        std::fs::metadata(log).is_ok_and(|meta| meta.len() > 0)
    }

    /// What a ledger's file looks like from outside: its device, inode, size and last write. Only a checkpoint writes to it,
    /// and only a copy or another file looks otherwise.
    pub fn mark_of(path: &Path) -> String {
        let Ok(meta) = std::fs::metadata(path) else { return "-".into() };
        let looks = [meta.dev() as i64, meta.ino() as i64, meta.len() as i64, meta.mtime(), meta.mtime_nsec()];
        let bytes: Vec<u8> = looks.iter().flat_map(|part| part.to_le_bytes()).collect();
        hex(&Sha256::digest(bytes)[..8])
    }

    /// What the lock file is to remember of a run of this ledger, after its commit.
    pub fn record_of(&self, epoch: Epoch, ended_at: Option<Instant>, armed: u64) -> Record {
        Record { ledger_id: self.id.clone(), epoch, ended_at, armed, file: Ledger::mark_of(&self.path) }
    }

    /// Looks at every page. For a ledger with a log that a dead run left: SQLite puts that log on whatever file has the
    /// ledger's name, also on an old copy, and the mixture has the newest epoch.
    ///
    /// # Errors
    /// Exit 74 when a page or index does not fit the others.
    pub fn check_whole(&self) -> Result<(), Failure> {
        let found: String = self.read(|conn| conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)))?;
        if found == "ok" {
            return Ok(());
        }
        // Closing would write the mixture into the file and take the log away: the next run would not look.
        self.broken.set(true);
        let first = found.lines().find(|line| !line.starts_with("***")).unwrap_or(&found);
        Err(Failure::ledger(
            format!("the ledger {} is damaged, or an old copy beside another one's -wal file: {first}", self.path.display()),
            "keep a copy of it and of its -wal and .lock files; put a backup back without the -wal file, the .lock file stays",
        )
        .kept("nothing is sent"))
    }

    /// Goes on with an old copy: every planned message becomes `skipped: cancelled`, and carts touched before `now` are
    /// left alone, because what went out since the copy was made is not known. Says how many were planned.
    pub fn hold_back_planned(&mut self, newer_epoch: i64, now: Instant) -> Result<u64, Failure> {
        let now = instant::text(now);
        self.write(Durability::Full, |tx| {
            let held = tx.execute(
                "UPDATE message SET state = 'skipped', reason = 'cancelled', settled_at = ?1,
                     last_reply = 'the ledger was put back from a backup' WHERE state = 'planned'",
                [&now],
            )?;
            tx.execute(
                "UPDATE ledger SET epoch = max(epoch, ?2) + 1, held_back_at = ?1, newest_at = max(newest_at, ?1)",
                (&now, newer_epoch),
            )?;
            tx.execute(
                "INSERT INTO run (epoch, command, started_at, ended_at, ending, attempt_after)
                 SELECT epoch, 'resolve --restored', ?1, ?1, 'done', (SELECT coalesce(max(id), 0) FROM attempt) FROM ledger",
                [&now],
            )?;
            Ok(held as u64)
        })
    }
}
