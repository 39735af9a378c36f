//! What must hold before anything is sent: the clock has not gone back, and this is not an old copy of the ledger.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use chrono::TimeDelta;
use sha2::{Digest, Sha256};

use super::runs::WRITTEN_HERE;
use super::{Durability, Ledger, Records, Runs, shown};
use crate::domain::instant::{self, Instant};
use crate::domain::message_key::hex;
use crate::failure::Failure;
use crate::ledger::Epoch;
use crate::output::count;
use crate::run_lock::{Found, Record};

/// A clock may be this far behind the newest thing done before nothing is sent.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

impl Ledger {
    /// Whether a dead run left a write-ahead log beside this path; an orderly end of every command takes it away.
    pub fn has_left_log(path: &Path) -> bool {
        let mut log = path.canonicalize().unwrap_or_else(|_| path.to_owned()).into_os_string();
        log.push("-wal");
        let mut magic = [0; 4];
        let read = File::open(log).and_then(|mut file| file.read_exact(&mut magic));
        read.is_ok() && matches!(u32::from_be_bytes(magic), 0x377f_0682 | 0x377f_0683)
    }

    /// What a ledger's file looks like from outside: its device, inode, size and last write. Only a checkpoint writes to it,
    /// and only a copy or another file looks otherwise.
    pub fn mark_of(path: &Path) -> String {
        let Ok(meta) = std::fs::metadata(path) else { return "-".into() };
        let looks = [meta.dev() as i64, meta.ino() as i64, meta.len() as i64, meta.mtime(), meta.mtime_nsec()];
        let bytes: Vec<u8> = looks.iter().flat_map(|part| part.to_le_bytes()).collect();
        hex(&Sha256::digest(bytes)[..8])
    }
}

impl Records {
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

    /// What stops every command that writes: an old copy, or a run whose log was taken away.
    ///
    /// `remembered` was read from the lock file before the ledger was opened.
    ///
    /// # Errors
    /// Exit 74, as [`Records::check_not_restored`]; or a run began, never ended, and left no log.
    pub fn look(&self, remembered: &Found) -> Result<(), Failure> {
        if let Found::Record(record) = remembered {
            self.check_not_restored(record)?;
        }
        self.check_log_was_left(remembered)
    }

    /// A run brings its beginning into the ledger's own file before it arms anything, and a killed one leaves its log. A
    /// file that knows of a beginning and of no end, and has no log, has lost what that run armed.
    fn check_log_was_left(&self, remembered: &Found) -> Result<(), Failure> {
        // In this order: while this connection is open, a run that ends just now leaves its log.
        if !self.newest_run_is_open()? || Ledger::has_left_log(&self.path) {
            return Ok(());
        }
        let (epoch, _) = self.epoch_and_armed()?;
        if let Found::Record(record) = remembered {
            // Its record is written before it arms anything: without one, that run armed nothing.
            let began_only = record.epoch < epoch;
            // Another program has brought the log into the file and taken it away. What the record counts is all there. With the
            // file as it was, that log was deleted: the count alone, which is not synced, does not say what stood in it.
            let was_brought_in = record.epoch == epoch && record.file != Ledger::mark_of(&self.path);
            if began_only || was_brought_in {
                return Ok(());
            }
        }
        let path = self.path.display();
        Err(Failure::ledger(
            format!("run {epoch} of the ledger {path} never ended, and the log it left, {path}-wal, is gone: what that run had begun stood there"),
            format!("put that file back beside the ledger, under its name; if it is lost, {}", self.way_on()?),
        )
        .kept("nothing is sent: what that run sent would go out again"))
    }

    /// How to go on with a ledger that has lost what was done last.
    fn way_on(&self) -> Result<String, Failure> {
        Ok(format!(
            "`mailonce resolve --restored` lists what is due for you to decide; suppressions added since {} are lost too, \
             but for what {}.wishes has, which comes back with that: bring others back with `mailonce import suppressions \
             FILE` once you have decided",
            instant::text(self.newest_at()?),
            self.path.display()
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
            Err(Failure::ledger(what, format!("if it was restored from a backup: {}", self.way_on()?))
                .kept("nothing is sent: what went out since that copy was made would go out again"))
        };
        if record.ledger_id != self.id {
            return refuse(format!(
                "{} is not the ledger that the lock file beside it belongs to (ledger {}, lock file {})",
                self.path.display(),
                self.shown_id(),
                shown(&record.ledger_id)
            ));
        }
        // The lock file saw this run, or a later one, on a machine that the ledger knows nothing of.
        if let (Some(other), Some((host, since))) = (&record.host, self.written_by()?)
            && *other != host.id
            && record.epoch >= since
        {
            return refuse(format!(
                "two copies of {} were used on two machines: the lock file beside it saw run {} on the machine {other}, and this copy was written on {} ({}) since run {since}",
                self.path.display(),
                record.epoch,
                host.name,
                host.id
            ));
        }
        let newest_ended_at = self.newest_run_ended_at()?;
        if record.epoch == epoch
            && record.ended_at.is_some()
            && newest_ended_at.is_some()
            && record.ended_at != newest_ended_at
        {
            return refuse(format!(
                "{} is a copy that was used elsewhere: its run {epoch} is not the one that the lock file beside it saw",
                self.path.display()
            ));
        }
        let ended_missing = record.epoch == epoch && record.ended_at.is_some() && newest_ended_at.is_none();
        if record.epoch > epoch || (record.epoch == epoch && record.armed > armed) || ended_missing {
            return refuse(format!(
                "{} is older than its lock file remembers: run {} with {} begun, lock file run {} with {}",
                self.path.display(),
                epoch,
                count(armed, "message"),
                record.epoch,
                record.armed
            ));
        }
        Ok(())
    }

    /// What the lock file is to remember of a run of this ledger, after its commit.
    pub fn record_of(&self, epoch: Epoch, ended_at: Option<Instant>, armed: u64) -> Record {
        let host = self.host.as_ref().map(|host| host.id.clone());
        Record { ledger_id: self.id.clone(), epoch, ended_at, armed, file: Ledger::mark_of(&self.path), host }
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
}

impl Runs<'_> {
    /// Goes on with an old copy: every planned message becomes `skipped: held_back`, and carts touched before `now` are
    /// left alone, because what went out since the copy was made is not known. Says how many were planned.
    ///
    /// In one transaction, however many they are: until it is there, every other command refuses to write.
    pub fn hold_back_planned(&mut self, newer_epoch: i64, now: Instant) -> Result<u64, Failure> {
        let now = instant::text(now);
        let (host_id, host_name) = self.0.host_columns();
        self.0.write(Durability::Full, |tx| {
            let held = tx.execute(
                "UPDATE message SET state = 'skipped', reason = 'held_back', settled_at = ?1,
                     last_reply = 'the ledger was put back from a backup' WHERE state = 'planned'",
                [&now],
            )?;
            tx.execute("UPDATE coupon_code SET held_at = ?1 WHERE message IS NULL", [&now])?;
            tx.execute(
                &format!("UPDATE ledger SET epoch = max(epoch, ?2) + 1, held_back_at = ?1, newest_at = max(newest_at, ?1), {WRITTEN_HERE}"),
                (&now, newer_epoch, host_id, host_name),
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
