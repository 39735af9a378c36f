//! The way back, as long as the file was not adopted.

use rusqlite::ErrorCode;

use super::table::{OldTable, Which};
use super::{LOG, OldLog};
use crate::domain::old_log::Column;
use crate::failure::Failure;
use crate::ledger::sqlite::Undone;

/// What [`OldLog::restore`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Removed duplicates that are back.
    pub rows: u64,
    /// Rows that had been kept in their place and say something else now, which they keep, or are gone.
    pub written_since: u64,
}

impl OldLog {
    /// Puts every removed duplicate back, and what kept rows said before unless they were written to since.
    ///
    /// # Errors
    /// Exit 65 when a row's id was given to another since.
    pub fn restore(&self) -> Result<Restored, Failure> {
        if self.last_cleanup()?.is_none() {
            return Ok(Restored::default());
        }
        self.write(|conn| {
            let table = OldTable::inspect(conn, Which::UNADOPTED)?;
            let (row_id, list) = (table.row_id, table.list());
            let back = match table.has_key {
                true => format!("INSERT INTO {LOG} ({list}) SELECT {list} FROM removed_duplicate ORDER BY removed_row"),
                // A row id that no column holds may have been given to a new row; it means nothing then.
                false => format!(
                    "INSERT INTO {LOG} ({row_id}, {list})
                     SELECT CASE WHEN EXISTS (SELECT 1 FROM {LOG} AS taken WHERE taken.{row_id} = removed_row) THEN NULL
                                 ELSE removed_row END, {list}
                     FROM removed_duplicate ORDER BY removed_row"
                ),
            };
            let rows = conn.execute(&back, []).map_err(|err| self.place_taken(err))?;
            let mut written_since = 0;
            if let Some(sent_at) = table.quoted(Column::LastSentAt) {
                let kept: usize = conn.query_row("SELECT count(*) FROM kept_duplicate", [], |row| row.get(0))?;
                let as_before = conn.execute(
                    &format!(
                        "UPDATE {LOG} SET {sent_at} = last_sent_at_before FROM kept_duplicate
                         WHERE row = {LOG}.{row_id} AND {sent_at} IS last_sent_at_set"
                    ),
                    [],
                )?;
                written_since = kept - as_before;
                if conn.query_row("SELECT added_column FROM cleanup", [], |row| row.get(0))? {
                    conn.execute_batch(&format!("ALTER TABLE {LOG} DROP COLUMN {sent_at}"))?;
                }
            }
            conn.execute_batch("DROP TABLE removed_duplicate; DROP TABLE kept_duplicate; DROP TABLE cleanup")?;
            Ok(Restored { rows: rows as u64, written_since: written_since as u64 })
        })
    }

    fn place_taken(&self, err: rusqlite::Error) -> Undone {
        if err.sqlite_error_code() != Some(ErrorCode::ConstraintViolation) {
            return err.into();
        }
        let path = self.path.display();
        let what = format!("{path}: a removed duplicate's place was taken by a new row since: {err}");
        let next = "look for it in removed_duplicate; give one of the two another id";
        Undone::Refused(Failure::data(what, next).kept("nothing was changed"))
    }
}
