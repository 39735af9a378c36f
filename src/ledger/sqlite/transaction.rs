//! The one transaction that all writing goes through, the queries that write nothing, and SQLite's errors as people read them.

use std::path::Path;

use rusqlite::{CachedStatement, Connection, ErrorCode, Params, Row, Statement};

use super::{Ledger, Records, open};
use crate::failure::Failure;

/// Whether a commit must be on disk before it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// `synchronous=FULL`: fsync before the commit returns.
    Full,
    /// `synchronous=NORMAL`: for settling, whose loss leaves `armed`, and for batches that are repeated when they are lost.
    Lazy,
}

/// Why the work of a transaction is undone.
#[derive(Debug)]
pub(super) enum Undone {
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
    pub fn told_of(self, path: &Path) -> Failure {
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
    /// Runs a query, turning an SQLite error into exit 74.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Reading<'_>) -> rusqlite::Result<T>) -> Result<T, Failure> {
        let read = work(&Reading(self.conn())).map_err(|err| unusable(&self.path, &err));
        self.check_rest().and(read)
    }

    /// Works on temporary tables, which are this connection's alone, and on its settings. Nothing of the ledger is written.
    pub(super) fn scratch<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Failure> {
        let worked = work(self.conn()).map_err(|err| unusable(&self.path, &err));
        self.check_rest().and(worked)
    }
}

impl Ledger {
    /// Runs one write transaction (`BEGIN IMMEDIATE`) and commits it.
    ///
    /// # Errors
    /// Exit 74; nothing of it is written. A constraint or trigger that forbade it says nothing about the ledger itself;
    /// after any other error this process does not touch the ledger again.
    pub(super) fn write<T>(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Failure> {
        self.write_unless_refused(durability, |tx| Ok(work(tx)?))
    }

    /// The same for work that may refuse what it finds. Nothing of it is written then, and the ledger is as good as before.
    pub(super) fn write_unless_refused<T>(
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
pub(super) struct Reading<'a>(pub &'a Connection);

impl Reading<'_> {
    /// # Panics
    /// The statement would write: a fault of this program.
    pub fn prepare_cached(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        let statement = self.0.prepare_cached(sql)?;
        assert!(statement.readonly(), "a statement that reads the ledger would write to it: {sql}");
        Ok(statement)
    }

    /// As [`Reading::prepare_cached`], for a statement that is not needed again.
    pub fn prepare(&self, sql: &str) -> rusqlite::Result<Statement<'_>> {
        let statement = self.0.prepare(sql)?;
        assert!(statement.readonly(), "a statement that reads the ledger would write to it: {sql}");
        Ok(statement)
    }

    pub fn query_row<T>(
        &self,
        sql: &str,
        params: impl Params,
        row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.prepare(sql)?.query_row(params, row)
    }
}

/// The failure for an SQLite error on the ledger: exit 74.
pub(super) fn unusable(path: &Path, err: &rusqlite::Error) -> Failure {
    let next = match err.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "make room on that disk, then start the same command again",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "start the command as the user that cron runs as, who must be able to write the ledger and its folder"
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
