//! Rows of the shop's database, copied out of it before anything is done with them.
//!
//! The copy is a nameless temporary file, so that memory stays flat, and no statement is open on the database meanwhile: that
//! would keep a shop from writing, or run into its time limit.

use anyhow::Result;
use rusqlite::{Connection, Row, params_from_iter};

use super::cart_index::no_room;
use super::stored::Stored;

/// A private copy of rows.
pub(super) struct Copied {
    copy: Connection,
    width: usize,
    insert: String,
}

impl Copied {
    /// An empty copy of rows that have `width` columns.
    pub fn begin(width: usize) -> Result<Copied> {
        let copy = Connection::open("").map_err(no_room)?;
        let list = |each: &dyn Fn(usize) -> String| (0..width).map(each).collect::<Vec<_>>().join(", ");
        copy.execute_batch(&format!(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -12288;
             CREATE TABLE rows ({}); BEGIN",
            list(&|at| format!("c{at}"))
        ))
        .map_err(no_room)?;
        let insert = format!("INSERT INTO rows VALUES ({})", list(&|_| "?".into()));
        Ok(Copied { copy, width, insert })
    }

    /// How many columns the rows have.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Adds a row.
    pub fn push(&self, values: &[Stored]) -> Result<()> {
        let mut insert = self.copy.prepare_cached(&self.insert).map_err(no_room)?;
        insert.execute(params_from_iter(values)).map_err(no_room)?;
        Ok(())
    }

    /// Ends the copying.
    pub fn end(self) -> Result<Copied> {
        self.copy.execute_batch("COMMIT").map_err(no_room)?;
        Ok(self)
    }

    /// Hands each row to `each`, in the order in which they were added; with `together`, those with the same value in that
    /// column one after the other.
    pub fn rows(&self, together: Option<usize>, each: &mut dyn FnMut(&Row<'_>) -> Result<()>) -> Result<()> {
        let order = together.map_or("rowid".to_owned(), |at| format!("c{at}, rowid"));
        let mut statement = self.copy.prepare(&format!("SELECT * FROM rows ORDER BY {order}")).map_err(no_room)?;
        let mut rows = statement.query([]).map_err(no_room)?;
        while let Some(row) = rows.next().map_err(no_room)? {
            each(row)?;
        }
        Ok(())
    }
}
