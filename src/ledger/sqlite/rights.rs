//! Who may read the ledger, and how one reads it who may write nothing: neither the file nor beside it.
//!
//! Where no log lies beside the ledger, all of it is in its own file, and only a checkpoint writes to that. SQLite is told
//! that the file never changes (`immutable=1`), and what was read counts only if the file still looks as it did before
//! ([`Ledger::mark_of`]). Where a log lies beside it, SQLite reads both as ever, with the `-shm` that the writer made.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::OpenFlags;

use super::{Ledger, Records};
use crate::failure::Failure;
use crate::user::{self, Right};

/// What stands for itself in the path of an SQLite URI.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');
/// Two writes within one tick of the kernel's clock leave the same time on the file. No tick is longer.
const TICK: Duration = Duration::from_millis(20);

impl Records {
    /// Opens a ledger that nobody writes to, for a user who may make no file beside it.
    ///
    /// # Errors
    /// Exit 74: this user may not read it, or a run's log lies beside it that needs a `-shm`, which is not there or not
    /// readable.
    pub(super) fn open_at_rest(path: &Path) -> Result<Records, Failure> {
        if let Some(failure) = who_may(path) {
            return Err(failure);
        }
        while age_of(path).is_some_and(|age| age < TICK) {
            thread::sleep(TICK / 4);
        }
        // Before the look at the log: whoever brings that in writes to the file.
        let mark = Ledger::mark_of(path);
        if fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0) {
            return Err(log_in_the_way(path));
        }
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let name = percent_encode(real.as_os_str().as_encoded_bytes(), PLAIN);
        let name = PathBuf::from(format!("file:{name}?immutable=1"));
        let access = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let opened = Records::connect_to(path, &name, access, None);
        // First of all: what looks like damage may be half of what a run was writing.
        check_unwritten(path, &mark)?;
        let mut records = opened?;
        records.at_rest = Some(mark);
        Ok(records)
    }

    /// Whether what was read of a ledger at rest is what was in it.
    ///
    /// # Errors
    /// Exit 74: a run wrote to it meanwhile.
    pub(super) fn check_rest(&self) -> Result<(), Failure> {
        self.at_rest.as_ref().map_or(Ok(()), |mark| check_unwritten(&self.path, mark))
    }
}

fn check_unwritten(path: &Path, mark: &str) -> Result<(), Failure> {
    match Ledger::mark_of(path) == mark {
        true => Ok(()),
        false => Err(Failure::ledger(
            format!("a run wrote to the ledger {} while it was read", path.display()),
            "start the same command again",
        )),
    }
}

/// Why this user cannot read the ledger, and who can. `None` when the user may.
pub(super) fn who_may(path: &Path) -> Option<Failure> {
    let is_there = fs::symlink_metadata(path).err().is_none_or(|err| err.kind() != std::io::ErrorKind::NotFound);
    if !is_there || user::may(Right::Read, path) {
        return None;
    }
    let (user, owner) = (user::name_of(user::this()), user::owner_of(path));
    Some(Failure::ledger(
        format!("{user} may not read the ledger {}: {owner}", path.display()),
        "start the command as that user; or let a group read it, as docs/ledger.md says under \"Who may read it\"",
    ))
}

/// The addresses in the ledger are no one else's business. A group that may read it (mode 0640) was let in on purpose, and
/// may read what lies beside it, too; any other mode is what a copy came with.
pub(super) fn keep_private(path: &Path) {
    let mode = fs::metadata(path).map_or(0, |meta| meta.permissions().mode() & 0o777);
    let mode = if mode & 0o077 == 0o040 { 0o640 } else { 0o600 };
    for end in ["", "-wal", "-shm"] {
        let _ = fs::set_permissions(beside(path, end), Permissions::from_mode(mode));
    }
}

fn log_in_the_way(path: &Path) -> Failure {
    let user = user::name_of(user::this());
    let problem = |file: PathBuf| match file.exists() {
        true => (!user::may(Right::Read, &file)).then(|| format!("{user} may not read {}", file.display())),
        false => Some(format!("{} is not there, and {user} may not make it", file.display())),
    };
    let problem = problem(beside(path, "-wal")).or_else(|| problem(beside(path, "-shm")));
    let problem = problem.unwrap_or_else(|| format!("{user} may not write beside it"));
    Failure::ledger(
        format!("a run is at work on the ledger {}, or was killed, and {problem}", path.display()),
        "start the command again when that run has ended, or as the user that cron runs as",
    )
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// How long ago a file was written to; `None` for one of the future.
fn age_of(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(fs::metadata(path).ok()?.modified().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::ledger::{Kind, Place};

    #[test]
    fn what_is_read_while_a_run_writes_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a ledger?#.db");
        let place = Place { path: &path, trusted: &[] };
        drop(Ledger::create(place, Kind::Rehearsal, Utc::now(), Duration::from_secs(60)).unwrap());
        let records = Records::open_at_rest(&path).unwrap();
        assert_eq!(records.count_suppressed().unwrap(), 0);
        let writer = rusqlite::Connection::open(&path).unwrap();
        writer
            .execute("INSERT INTO suppression VALUES ('a@b.example', 'x', '2026-03-01T12:00:00Z', 'x', '')", [])
            .unwrap();
        // It is in the log, and the file as it was.
        assert_eq!(records.count_suppressed().unwrap(), 0);
        assert!(Records::open_at_rest(&path).unwrap_err().what.contains("a run is at work"));
        writer.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
        let failure = records.count_suppressed().unwrap_err();
        assert!(failure.what.contains("while it was read"), "{failure}");
        drop(writer);
        assert_eq!(Records::open_at_rest(&path).unwrap().count_suppressed().unwrap(), 1);
    }
}
