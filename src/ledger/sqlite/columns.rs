//! How values stand in columns. A word that is none of the known ones, or an instant that is none, is an error that names it,
//! never a default: with a damaged time of 1970 a campaign would open again.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Row, RowIndex};

use crate::domain::instant::{self, Instant, Recorded};
use crate::domain::state::{CampaignStatus, How, OrderStatus, Reason, State};

macro_rules! as_word {
    ($($name:ident)*) => {
        $(
            impl ToSql for $name {
                fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                    Ok(self.word().into())
                }
            }

            impl FromSql for $name {
                fn column_result(value: ValueRef<'_>) -> FromSqlResult<$name> {
                    let word = value.as_str()?;
                    let what = || format!("{word:?} is no {}", stringify!($name));
                    $name::of_word(word).ok_or_else(|| FromSqlError::Other(what().into()))
                }
            }
        )*
    };
}

as_word!(State Reason CampaignStatus How OrderStatus);

impl ToSql for Recorded {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for Recorded {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Recorded> {
        let text = value.as_str()?;
        let what = || format!("{text:?} is no instant such as 2026-03-01T08:00:00Z");
        instant::from_text(text).map(Recorded).ok_or_else(|| FromSqlError::Other(what().into()))
    }
}

/// The instant in a column.
pub(super) fn instant_at(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<Instant> {
    row.get::<_, Recorded>(column).map(|at| at.0)
}

/// The instant in a column, unless that is NULL.
pub(super) fn optional_instant_at(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<Option<Instant>> {
    row.get::<_, Option<Recorded>>(column).map(|at| at.map(|at| at.0))
}
