//! A row of an older system on its way into a table of the ledger.

use rusqlite::{Connection, Statement, ToSql};

use crate::domain::instant;
use crate::domain::old_log::OldRow;

/// What a ledger keeps of a row, in whichever table.
pub(super) const COLUMNS: &str = "identity, user_id, email, cart_id, cart_hash, cart_value, currency, created_at, email_sent, last_sent_at, old_id, extra";

/// Inserts rows into one table.
pub(super) struct RowInsert<'a>(Statement<'a>);

impl<'a> RowInsert<'a> {
    /// `more` are columns that this table has besides.
    pub fn into(conn: &'a Connection, table: &str, more: &[&str]) -> rusqlite::Result<RowInsert<'a>> {
        let columns = [&[COLUMNS], more].concat().join(", ");
        let values = vec!["?"; columns.split(", ").count()].join(", ");
        conn.prepare(&format!("INSERT INTO {table} ({columns}) VALUES ({values})")).map(RowInsert)
    }

    /// Inserts a row; `extra` is what the ledger has no columns for, as JSON, and `more` the values of those columns.
    pub fn add(&mut self, row: &OldRow, extra: Option<&str>, more: &[&dyn ToSql]) -> rusqlite::Result<()> {
        let (created_at, last_sent_at) = (instant::text(row.created_at), row.last_sent_at.map(instant::text));
        let ours: [&dyn ToSql; 12] = [
            &row.identity,
            &row.user_id,
            &row.email,
            &row.cart_id,
            &row.cart_hash,
            &row.cart_value,
            &row.currency,
            &created_at,
            &row.email_sent,
            &last_sent_at,
            &row.old_id,
            &extra,
        ];
        self.0.execute(&*[&ours, more].concat()).map(|_| ())
    }
}
