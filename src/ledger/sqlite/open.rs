//! Making and opening the ledger, and refusing what only looks like one.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::older::show_as_today;
use super::parts::SCHEMA_SQL;
use super::{Ledger, Place, Records, rights, unusable};
use crate::domain::instant::{self, Instant};
use crate::failure::Failure;
use crate::host::Host;
use crate::ledger::{Access, Kind};
use crate::run_lock::{Found, RunLock};
use crate::user::{self, Right};

/// `user_version` of the schema this program writes.
pub(super) const SCHEMA: i64 = 11;
/// The oldest that it reads, and that a command with the run lock brings up to date.
const OLDEST_SCHEMA: i64 = 1;
/// `application_id`: "MONC".
const APPLICATION_ID: i32 = 0x4d4f_4e43;
/// How long a write waits for another writer. Longer than the longest honest transaction, so that none fails because of
/// another: the opening of a campaign with a million recipients takes 10 to 20 s, all else goes in batches.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(60);

impl Ledger {
    /// Whether a ledger, or anything else, is at this path.
    pub fn exists(path: &Path) -> bool {
        std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink() || meta.len() > 0)
    }

    /// Makes a new ledger, born at `born_at`, in one transaction: it is there complete, or not at all. Mode 0600.
    ///
    /// # Errors
    /// Exit 74 when the disk refuses; exit 78 on a file system that is not known to be sound.
    pub fn create(place: Place<'_>, kind: Kind, born_at: Instant, window: Duration) -> Result<Ledger, Failure> {
        let path = place.path;
        place.check_new()?;
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(|err| {
            Failure::ledger(
                format!("could not make the ledger {}: {err}", path.display()),
                "its folder must exist and be writable",
            )
        })?;
        let made = || -> rusqlite::Result<()> {
            let mut conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            conn.pragma_update(None, "journal_mode", "WAL")?;
            conn.pragma_update(None, "synchronous", "FULL")?;
            let transaction = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            transaction.execute_batch(SCHEMA_SQL)?;
            write_head(&transaction, kind, born_at, window.as_secs() as i64)?;
            transaction.commit()
        };
        made().map_err(|err| unusable(path, &err))?;
        Ledger::open(place, Access::Decided)
    }

    /// Refuses a path that holds no usable ledger file, before anything is made beside it.
    pub fn check_path(place: Place<'_>) -> Result<(), Failure> {
        refuse_what_is_no_ledger(place)
    }

    /// Opens an existing ledger to write to it.
    ///
    /// # Errors
    /// As [`Records::open`]; exit 74 also for [`Access::Write`] on an old copy or where the log was taken away, as
    /// [`Records::look`] tells.
    pub fn open(place: Place<'_>, access: Access) -> Result<Ledger, Failure> {
        refuse_what_is_no_ledger(place)?;
        let path = place.path;
        // Read before the ledger, which is written first: it may lag behind what is read next, never be ahead.
        let remembered = RunLock::peek(path).unwrap_or(Found::Empty);
        let is_its_file = matches!(&remembered, Found::Record(record) if record.file == Ledger::mark_of(path));
        let has_foreign_log = !is_its_file && Ledger::has_left_log(path);
        let records = Records::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, Host::this())?;
        let ledger = Ledger { records, durability: None };
        // A run under way has looked at every page, if need be, before it began: the log is its own.
        let is_of_the_run_under_way = || match RunLock::run_under_way(path) {
            Some(run) => ledger.epoch_and_armed().is_ok_and(|(epoch, _)| epoch == run),
            None => false,
        };
        if has_foreign_log && !is_of_the_run_under_way() {
            // SQLite puts the log that a dead run left on whatever file has the ledger's name. On the very file that the
            // run wrote it belongs, which the record tells; on any other only a look at every page does.
            ledger.check_whole()?;
        }
        if access == Access::Write {
            ledger.look(&remembered)?;
        }
        let conn = ledger.conn();
        // A copy made by `VACUUM INTO` keeps a rollback journal. Its commit ends with a deletion that is not synced: after a
        // power loss what was armed could be rolled back.
        let mode: String = conn
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
            .map_err(|err| unusable(path, &err))?;
        if mode != "wal" {
            return Err(Failure::ledger(
                format!("the ledger {} cannot keep a write-ahead log here (journal mode {mode})", path.display()),
                "put it on a local disk whose file system has shared memory",
            ));
        }
        rights::keep_private(path);
        // While a run is under way, or as long as a dead one has not been dealt with, the log stays.
        if access == Access::Decided || !ledger.newest_run_is_open()? {
            ledger.keep_log(false)?;
        }
        Ok(ledger)
    }
}

impl Records {
    /// Opens an existing ledger to read it, in a consistent state, while others write.
    ///
    /// # Errors
    /// Exit 78: there is none (a new one would mail everyone again), it is an old log that was not adopted, it lies on an
    /// unsound file system, is mounted alone or has a second hard link. Exit 74: a newer schema, damage, no permission.
    pub fn open(place: Place<'_>) -> Result<Records, Failure> {
        let path = place.path;
        refuse_what_is_no_ledger(place).map_err(|failure| rights::who_may(path).unwrap_or(failure))?;
        Records::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, None).or_else(|failure| {
            // SQLite makes files beside the ledger also for a reader. Who may not, reads it where none is needed.
            match user::may(Right::Write, folder_of(path)) {
                true => Err(failure),
                false => Records::open_at_rest(path),
            }
        })
    }

    fn connect(path: &Path, access: OpenFlags, host: Option<Host>) -> Result<Records, Failure> {
        Records::connect_to(path, path, access, host)
    }

    /// Opens what SQLite is to be told (`name`), which is the ledger at `path`.
    pub(super) fn connect_to(
        path: &Path,
        name: &Path,
        access: OpenFlags,
        host: Option<Host>,
    ) -> Result<Records, Failure> {
        let opened = || -> rusqlite::Result<_> {
            let conn = Connection::open_with_flags(name, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            conn.busy_timeout(BUSY_TIMEOUT)?;
            // Closing puts the log into the file and takes it away, and with it what the next look needs.
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            conn.set_prepared_statement_cache_capacity(64);
            conn.pragma_update(None, "foreign_keys", true)?;
            let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
            let has = |name: &str| {
                conn.query_row("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1", [name], |_| Ok(()))
                    .optional()
                    .map(|found| found.is_some())
            };
            let (is_ledger, is_old_log) = (has("ledger")?, has("cart_abandonment_log")?);
            Ok((conn, version, is_ledger, is_old_log))
        };
        let (conn, version, is_ledger, is_old_log) = opened().map_err(|err| unusable(path, &err))?;
        if !is_ledger && is_old_log {
            return Err(Failure::config(
                format!("{} is a cart_abandonment_log of an older system that has not been adopted", path.display()),
                "keep a copy of the file, then run `mailonce cleanup-duplicates` and after it `mailonce add-index`",
            ));
        }
        if !is_ledger {
            return Err(no_ledger(path, "is not a mailonce ledger"));
        }
        if !(OLDEST_SCHEMA..=SCHEMA).contains(&version) {
            return Err(Failure::ledger(
                format!("the ledger {} has schema {version}; this mailonce knows {SCHEMA}", path.display()),
                "use the mailonce that wrote it, or a newer one",
            ));
        }
        if version < SCHEMA {
            show_as_today(&conn).map_err(|err| unusable(path, &err))?;
        }
        let (id, kind): (String, String) = conn
            .query_row("SELECT ledger_id, kind FROM ledger", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(|err| unusable(path, &err))?;
        let kind = if kind == "live" { Kind::Live } else { Kind::Rehearsal };
        let file = inode(path).map_err(|err| {
            Failure::ledger(format!("could not look at the ledger {}: {err}", path.display()), "check its permissions")
        })?;
        Ok(Records {
            conn: Some(conn),
            path: path.to_owned(),
            id,
            kind,
            schema: version,
            host,
            file,
            at_rest: None,
            commits: 0,
            version: Cell::new(None),
            broken: Cell::new(false),
        })
    }

    /// Whether the log stays when the ledger is closed, as from a beginning to its end; else closing puts it into the file
    /// and takes it away.
    pub(super) fn keep_log(&self, keep: bool) -> Result<(), Failure> {
        self.scratch(|conn| conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep).map(|_| ()))
    }
}

/// What makes a file with the schema's tables a ledger of its own.
pub(super) fn write_head(
    tx: &Connection,
    kind: Kind,
    born_at: Instant,
    window_in_seconds: i64,
) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO ledger (one, ledger_id, kind, born_at, epoch, newest_at, window_seconds)
         VALUES (1, lower(hex(randomblob(16))), ?1, ?2, 0, ?2, ?3)",
        (kind.word(), instant::text(born_at), window_in_seconds),
    )?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", SCHEMA)
}

/// Device and inode of a file, links followed.
pub(super) fn inode(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// The folder that a file lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn no_ledger(path: &Path, what: &str) -> Failure {
    Failure::config(
        format!("{} {what}", path.display()),
        "if it was moved or lost, put it back or restore it: a new one would mail everyone again; the first time, run `mailonce init`",
    )
}

pub(super) fn refuse_what_is_no_ledger(place: Place<'_>) -> Result<(), Failure> {
    let path = place.path;
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            return Err(no_ledger(path, "does not exist: there is no ledger"));
        }
        Err(err) => {
            return Err(Failure::ledger(
                format!("could not look at the ledger {}: {err}", path.display()),
                "check its permissions",
            ));
        }
    };
    if !meta.is_file() || meta.len() == 0 {
        return Err(no_ledger(path, "is not a mailonce ledger"));
    }
    if meta.nlink() > 1 {
        return Err(Failure::config(
            format!("the ledger {} has {} hard links: two names would mean two locks", path.display(), meta.nlink()),
            format!("remove the other names; `find / -xdev -inum {}` lists them", meta.ino()),
        ));
    }
    place.check_files()
}
