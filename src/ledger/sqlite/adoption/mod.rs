//! An older system's `cart_abandonment_log` on its way into a ledger. A shop goes one of two ways.
//!
//! **The file becomes the ledger.** Until it is one, it is an [`OldLog`] (`open.rs`), which no other command touches:
//!
//! 1. `survey.rs`: which rows are duplicates of which. Nothing is written.
//! 2. `move_aside.rs`: those go to a table of their own, and the rows that stay learn of the latest mail.
//! 3. `restore.rs`: all of it is put back, as often as wanted, until the file is adopted.
//! 4. `adopt.rs`: the old tables are set aside and their rows taken over. From here on it is a [`Ledger`](super::Ledger).
//!
//! **The rows come into a ledger.** `import.rs` adds them, each once; then steps 1 and 2, there for good.
//!
//! Steps 1 and 2 are the same for both. Each step is one transaction: killed at any instant, the file is as
//! before it or as after it. In a ledger that is [`Ledger`](super::Ledger)'s own, with all it looks at.
//!
//! `table.rs` knows a table of old rows by whatever columns it has, `rows.rs` writes a row into ours. What a row means is
//! in `domain::old_log`, how a dump is read in `source::old_log`. All this is in the ledger's room because its SQL writes
//! the ledger's tables: the last statement of step 4 makes the file a ledger.

mod adopt;
mod import;
mod move_aside;
mod open;
mod restore;
mod rows;
mod rules;
mod sort_key;
mod survey;
mod table;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use adopt::{Adopted, Adoption};
pub use import::{ImportedRows, Take};
pub use restore::Restored;
pub use rules::{Rules, no_zone, span};
pub use survey::Survey;

use super::Undone;
use crate::failure::Failure;

/// The table of an older system's abandonments, and ours.
const LOG: &str = "cart_abandonment_log";

/// A file with a table `cart_abandonment_log` that was not adopted.
#[derive(Debug)]
pub struct OldLog {
    conn: Connection,
    path: PathBuf,
}

impl OldLog {
    /// Runs one write transaction and commits it, in WAL mode: a reader sees the file before or after it.
    fn write<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Undone>) -> Result<T, Failure> {
        let write = || {
            self.conn.pragma_update(None, "synchronous", "FULL")?;
            self.conn.pragma_update(None, "journal_mode", "WAL")?;
            let tx = Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate)?;
            let value = work(&tx)?;
            tx.commit()?;
            Ok(value)
        };
        write().map_err(|undone: Undone| undone.told_of(&self.path))
    }
}

/// A look at one state of a file, which may use temporary tables and leaves none.
fn look<T>(
    (conn, path): (&Connection, &Path),
    work: impl FnOnce(&Connection) -> Result<T, Undone>,
) -> Result<T, Failure> {
    let look = || work(&*conn.unchecked_transaction()?);
    look().map_err(|undone| undone.told_of(path))
}
