//! The opt-outs that a query on the shop's server finds.

use anyhow::Result;
use chrono_tz::Tz;

use super::super::as_the_earliest_text;
use super::super::copied::Copied;
use super::super::query::{OF_OPT_OUTS, OPT_OUTS_KEY as KEY};
use super::{Link, Question, queries};
use crate::domain::instant::Instant;
use crate::settings::ServerSettings;

/// The database's name, the columns, and a copy of the rows.
///
/// # Errors
/// The server gives no answer, or the query cannot be used.
pub fn copied(
    settings: &ServerSettings,
    text: &str,
    since: Instant,
    zone: Tz,
) -> Result<(String, Vec<String>, Copied)> {
    let mut link = Link::to(settings);
    let (query, found) = queries::checked(&mut link, KEY, text, &OF_OPT_OUTS)?;
    let names = found.iter().map(|column| column.name.clone()).collect();
    let values = [(":since", as_the_earliest_text(since, zone)), (":since_unix", since.timestamp().to_string())];
    let copied = link.copy(&Question { query: &query, columns: &found, values: &values });
    let copied = copied.map_err(|trouble| link.told(KEY, trouble, false))?;
    Ok((link.name().to_owned(), names, copied))
}
