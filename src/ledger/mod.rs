//! The ledger: one SQLite file that says what happened to every message. All of its SQL is in this room.
//!
//! | state     | written at the instant                | the next run                                          |
//! |-----------|---------------------------------------|-------------------------------------------------------|
//! | planned   | the message fell due                  | tries it, from `not_before` on                        |
//! | armed     | after the 354, before the body        | holds the run lock, so that run died: in doubt        |
//! | sent      | after 2yz to its final dot            | leaves it                                             |
//! | refused   | after 5yz, or it cannot be rendered   | leaves it; `log --state refused` lists it             |
//! | skipped   | decided against, with a reason        | leaves it                                             |
//! | in_doubt  | body begun, no trustworthy reply came | leaves it; evidence or a person moves it              |
//!
//! Why no message goes twice: a body may leave only after `armed` is on disk ([`Books::arm`], `synchronous=FULL`), and
//! nothing but evidence or a person leads from there back to `planned` once a run has died. Why none is lost: before
//! `armed` the server holds no complete message, so `planned` is simply tried again.
//!
//! Each outcome is a transaction of its own ([`Books::settle`]): what fails in one takes no other with it. It goes without
//! an fsync (`synchronous=NORMAL`): losing it leaves `armed`, which is held, never sent again. Messages that ask to be
//! armed at the same moment share one commit, which comes after the outcomes that are known by then. It also brings those
//! to the disk: they are in the same write-ahead log, before it, and there a frame counts only if its checksum does, which
//! runs over all frames before. That holds for what is written only (SQLite syncs nothing for a commit that changed
//! nothing), and a message that is granted was: nothing else is asked of the commit.

mod adoption;
mod arm;
mod audience;
mod audit;
mod audit_rules;
mod batches;
mod campaigns;
mod cancel;
mod candidates;
mod columns;
mod expire;
mod guards;
mod migrate;
mod missed;
mod notices;
mod occurrences;
mod open;
mod parts;
mod pauses;
mod place;
mod plan;
mod recover;
mod report;
mod resolve;
mod retry;
mod runs;
mod settle;
mod streak;
mod suppressions;

use std::cell::Cell;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use rusqlite::{CachedStatement, Connection, ErrorCode, Params, Row, Statement};

pub use adoption::{Adopted, Adoption, OldLog, Restored, Rules, Survey, no_zone, span};
pub use arm::{Armed, At, Denied};
pub use audience::{Opened, Opening, OpeningKey};
pub use audit::Violation;
pub use campaigns::{CampaignState, DueRecipient, ImportedCampaign, OpenOccurrence};
pub use candidates::{Candidate, NOT_IDLE_YET};
pub use missed::Missed;
pub use notices::{EVENT_KINDS, MOST_KEPT, News, Notice};
pub use occurrences::OccurrenceRow;
pub use open::{Access, Kind};
pub use place::Place;
pub use plan::{Due, PlanRules};
pub use recover::Recovered;
pub use report::{LogFilter, StateCount};
pub use resolve::{Decision, InDoubt, Named, PlannedAgain, Resolution, Resolved};
pub use retry::Retemplated;
pub use settle::{Outcome, Settled};
pub use streak::PastRefusal;

use crate::failure::Failure;
use crate::host::Host;

/// A ledger, open to be read: what `status`, `log`, `audit` and `--dry-run` need. Nothing that it offers writes to the file.
#[derive(Debug)]
pub struct Records {
    conn: Option<Connection>,
    path: PathBuf,
    id: String,
    kind: Kind,
    /// `user_version`: an older one until a command with the run lock has brought it up to date.
    schema: i64,
    /// This machine, where it has an identity and the ledger is written to.
    host: Option<Host>,
    /// Device and inode of the file that was opened.
    file: (u64, u64),
    /// How many commits this connection made.
    commits: u64,
    /// After how many of them the ledger's version was last asked for, and what it was.
    version: Cell<Option<(u64, i64)>>,
    /// A COMMIT or fsync failed: what is on disk is unknown, so nothing more is written, not even by closing.
    broken: Cell<bool>,
}

/// A ledger, open to be written to; it reads as [`Records`] do. What it writes is in parts, by who needs them: each part is
/// borrowed for one call, and all of them write through the one transaction of [`Ledger::write`].
#[derive(Debug)]
pub struct Ledger {
    records: Records,
    /// What the connection is set to; `None` before the first commit.
    durability: Option<Durability>,
}

/// The runs: beginning, taking over what a dead one left, ending.
#[derive(Debug)]
pub struct Runs<'a>(&'a mut Ledger);

/// What falls due: carts and occurrences planned, missed, or found too late.
#[derive(Debug)]
pub struct Plans<'a>(&'a mut Ledger);

/// What becomes of each message: arming, the server's answer, a person's decision.
#[derive(Debug)]
pub struct Books<'a>(&'a mut Ledger);

/// The campaigns as such: defined, paused, cancelled, retried.
#[derive(Debug)]
pub struct Campaigns<'a>(&'a mut Ledger);

/// What a person was told, and has settled.
#[derive(Debug)]
pub struct Notices<'a>(&'a mut Ledger);

/// The addresses that are never written to.
#[derive(Debug)]
pub struct Suppressions<'a>(&'a mut Ledger);

impl Deref for Ledger {
    type Target = Records;

    fn deref(&self) -> &Records {
        &self.records
    }
}

/// Whether a commit must be on disk before it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// `synchronous=FULL`: fsync before the commit returns.
    Full,
    /// `synchronous=NORMAL`: for settling, whose loss leaves `armed`, and for batches that are repeated when they are lost.
    Lazy,
}

/// Why the work of a transaction is undone.
#[derive(Debug)]
enum Undone {
    Sqlite(rusqlite::Error),
    /// An older system's log is not what it must be; the words go behind the file's name.
    NotUnderstood(String),
    Refused(Failure),
}

impl From<rusqlite::Error> for Undone {
    fn from(err: rusqlite::Error) -> Undone {
        Undone::Sqlite(err)
    }
}

impl Undone {
    fn told_of(self, path: &Path) -> Failure {
        match self {
            Undone::Sqlite(err) => unusable(path, &err),
            Undone::NotUnderstood(problem) => Failure::data(
                format!("{}: {problem}", path.display()),
                "make a new ledger with `mailonce init` and bring the rows over with `mailonce import log`",
            )
            .kept("nothing was changed"),
            Undone::Refused(failure) => failure,
        }
    }
}

impl Records {
    /// The random name of this ledger, 32 hex digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Live, or for rehearsals only.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn conn(&self) -> &Connection {
        self.conn.as_ref().expect("the connection is only taken on drop")
    }
    /// Runs a query, turning an SQLite error into exit 74.
    fn read<T>(&self, work: impl FnOnce(&Reading<'_>) -> rusqlite::Result<T>) -> Result<T, Failure> {
        work(&Reading(self.conn())).map_err(|err| unusable(&self.path, &err))
    }

    /// Works on temporary tables, which are this connection's alone, and on its settings. Nothing of the ledger is written.
    fn scratch<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Failure> {
        work(self.conn()).map_err(|err| unusable(&self.path, &err))
    }
}

impl Ledger {
    pub fn runs(&mut self) -> Runs<'_> {
        Runs(self)
    }

    pub fn plans(&mut self) -> Plans<'_> {
        Plans(self)
    }

    pub fn books(&mut self) -> Books<'_> {
        Books(self)
    }

    pub fn campaigns(&mut self) -> Campaigns<'_> {
        Campaigns(self)
    }

    pub fn notices(&mut self) -> Notices<'_> {
        Notices(self)
    }

    pub fn suppressions(&mut self) -> Suppressions<'_> {
        Suppressions(self)
    }

    /// Runs one write transaction (`BEGIN IMMEDIATE`) and commits it.
    ///
    /// # Errors
    /// Exit 74; nothing of it is written. A constraint or trigger that forbade it says nothing about the ledger itself;
    /// after any other error this process does not touch the ledger again.
    fn write<T>(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Failure> {
        self.write_unless_refused(durability, |tx| Ok(work(tx)?))
    }

    /// The same for work that may refuse what it finds. Nothing of it is written then, and the ledger is as good as before.
    fn write_unless_refused<T>(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Connection) -> Result<T, Undone>,
    ) -> Result<T, Failure> {
        if self.broken.get() {
            return Err(Failure::ledger("the ledger failed earlier in this run", "see the first error"));
        }
        self.records.commits += 1;
        let result = self.write_inner(durability, work);
        let value = result.map_err(|undone| {
            let forbidden = match &undone {
                Undone::Sqlite(err) => err.sqlite_error_code() == Some(ErrorCode::ConstraintViolation),
                Undone::NotUnderstood(_) | Undone::Refused(_) => true,
            };
            if !forbidden || !self.conn().is_autocommit() {
                self.broken.set(true);
            }
            undone.told_of(&self.path)
        })?;
        // After the commit: what is armed in a file that no later run will find is armed nowhere.
        if durability == Durability::Full && open::inode(&self.path).ok() != Some(self.file) {
            return Err(Failure::ledger(
                format!("the ledger {} was deleted or replaced while this run was under way", self.path.display()),
                "find out who did that; put the ledger of this run back if it was moved, else restore a backup",
            ));
        }
        Ok(value)
    }

    fn write_inner<T>(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Connection) -> Result<T, Undone>,
    ) -> Result<T, Undone> {
        let conn = self.records.conn.as_ref().expect("the connection is only taken on drop");
        if self.durability != Some(durability) {
            // SQLite does this while it parses: a prepared statement would set it once.
            conn.execute_batch(match durability {
                Durability::Full => "PRAGMA synchronous = FULL",
                Durability::Lazy => "PRAGMA synchronous = NORMAL",
            })?;
            self.durability = Some(durability);
        }
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let commit = || conn.prepare_cached("COMMIT")?.execute([]);
        let result = work(conn).and_then(|value| Ok(commit().map(|_| value)?));
        // Some errors end the transaction by themselves.
        if result.is_err() && !conn.is_autocommit() {
            conn.execute_batch("ROLLBACK")?;
        }
        result
    }
}

/// A connection that answers queries only: `sqlite3_stmt_readonly` is asked of every statement.
struct Reading<'a>(&'a Connection);

impl Reading<'_> {
    /// # Panics
    /// The statement would write: a fault of this program.
    fn prepare_cached(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        let statement = self.0.prepare_cached(sql)?;
        assert!(statement.readonly(), "a statement that reads the ledger would write to it: {sql}");
        Ok(statement)
    }

    /// As [`Reading::prepare_cached`], for a statement that is not needed again.
    fn prepare(&self, sql: &str) -> rusqlite::Result<Statement<'_>> {
        let statement = self.0.prepare(sql)?;
        assert!(statement.readonly(), "a statement that reads the ledger would write to it: {sql}");
        Ok(statement)
    }

    fn query_row<T>(
        &self,
        sql: &str,
        params: impl Params,
        row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.prepare(sql)?.query_row(params, row)
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        if self.broken.get() {
            // Closing would checkpoint pages that may never have reached the disk.
            std::mem::forget(self.conn.take());
        }
    }
}

/// The failure for an SQLite error on the ledger: exit 74.
fn unusable(path: &Path, err: &rusqlite::Error) -> Failure {
    let next = match err.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "make room on that disk, then start the same command again",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "make the ledger and its folder writable for the user cron runs as"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program holds the ledger's write lock; close it, then start the same command again"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the file is damaged: keep a copy of it and of its -wal and .lock files; put a backup back without the -wal file, the .lock file stays"
        }
        _ => "check the disk and the system's log, then start the same command again",
    };
    Failure::ledger(format!("the ledger {} could not be used: {err}", path.display()), next)
}
