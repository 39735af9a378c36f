//! Rows of an older system on their way into a ledger.

use rusqlite::Statement;

use crate::domain::instant;
use crate::domain::old_log::OldRow;

pub(super) const INSERT_ROW: &str =
    "INSERT INTO cart_abandonment_log (id, identity, user_id, email, cart_id, cart_hash, cart_value, currency, created_at,
         email_sent, last_sent_at, origin, old_id, extra)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
pub(super) const INSERT_REMOVED: &str =
    "INSERT INTO removed_duplicate (identity, user_id, email, cart_id, cart_hash, cart_value, currency, created_at,
         email_sent, last_sent_at, origin, old_id, extra, removed_row, kept_row, moved_aside_at)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";

/// Inserts a row; `id` is its row id, `None` for the next free one.
pub(super) fn insert_row(
    insert: &mut Statement<'_>,
    id: Option<i64>,
    row: &OldRow,
    origin: &str,
    extra: Option<&str>,
) -> rusqlite::Result<()> {
    insert.execute((
        id,
        &row.identity,
        &row.user_id,
        &row.email,
        &row.cart_id,
        &row.cart_hash,
        &row.cart_value,
        &row.currency,
        instant::text(row.created_at),
        row.email_sent,
        row.last_sent_at.map(instant::text),
        origin,
        &row.old_id,
        extra,
    ))?;
    Ok(())
}

/// Inserts a removed duplicate; `place` says which row it was, which one stands for it, and when it was moved.
pub(super) fn insert_removed(
    insert: &mut Statement<'_>,
    row: &OldRow,
    origin: &str,
    extra: Option<&str>,
    (removed_row, kept_row, at): (Option<i64>, i64, &str),
) -> rusqlite::Result<()> {
    insert.execute((
        &row.identity,
        &row.user_id,
        &row.email,
        &row.cart_id,
        &row.cart_hash,
        &row.cart_value,
        &row.currency,
        instant::text(row.created_at),
        row.email_sent,
        row.last_sent_at.map(instant::text),
        origin,
        &row.old_id,
        extra,
        removed_row,
        kept_row,
        at,
    ))?;
    Ok(())
}
