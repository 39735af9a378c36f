//! Opening a file that is an older system's log and not yet a ledger.

use std::time::Duration;

use chrono_tz::Tz;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::table::{OldTable, Which, has_table};
use super::{LOG, OldLog, look};
use crate::failure::Failure;
use crate::ledger::sqlite::open::refuse_what_is_no_ledger;
use crate::ledger::sqlite::{Place, Undone};

const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How the last `cleanup-duplicates` was run; `add-index` goes by the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastCleanup {
    pub window_in_seconds: i64,
    pub zone: Option<Tz>,
}

impl OldLog {
    /// Opens the file if it is one, to write to it or only to read; `None` when it is a ledger, or something else that [`crate::ledger::Ledger::open`]
    /// judges.
    ///
    /// # Errors
    /// Exit 78 as for a ledger; exit 65 when the table lacks a column that is needed.
    pub fn open(place: Place<'_>, writes: bool) -> Result<Option<OldLog>, Failure> {
        refuse_what_is_no_ledger(place)?;
        let flags = match writes {
            false => OpenFlags::SQLITE_OPEN_READ_ONLY,
            true => OpenFlags::SQLITE_OPEN_READ_WRITE,
        };
        let opened = || -> Result<_, Undone> {
            let conn = Connection::open_with_flags(place.path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            conn.busy_timeout(BUSY_TIMEOUT)?;
            // What a dead run of a ledger left beside it is not to be taken away by this look.
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            if has_table(&conn, "ledger")? || !has_table(&conn, LOG)? {
                return Ok(None);
            }
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
            // What the older system hung on its table is none of our doing: its triggers do not fire.
            conn.pragma_update(None, "foreign_keys", false)?;
            conn.pragma_update(None, "legacy_alter_table", true)?;
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
            OldTable::inspect(&conn, Which::UNADOPTED)?;
            Ok(Some(OldLog { conn, path: place.path.to_owned() }))
        };
        opened().map_err(|undone| undone.told_of(place.path))
    }

    /// How `cleanup-duplicates` was last run on this file.
    pub fn last_cleanup(&self) -> Result<Option<LastCleanup>, Failure> {
        look((&self.conn, &self.path), |conn| {
            if !has_table(conn, "cleanup")? {
                return Ok(None);
            }
            let sql = "SELECT window_in_seconds, timezone FROM cleanup";
            let last = conn.query_row(sql, [], |row| {
                let zone: Option<String> = row.get(1)?;
                Ok(LastCleanup { window_in_seconds: row.get(0)?, zone: zone.and_then(|zone| zone.parse().ok()) })
            });
            Ok(last.optional()?)
        })
    }
}
