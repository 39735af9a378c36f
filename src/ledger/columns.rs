//! How values stand in columns: a word that is none of the known ones is an error, never a default.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::domain::state::{CampaignStatus, Reason, State};

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

as_word!(State Reason CampaignStatus);
