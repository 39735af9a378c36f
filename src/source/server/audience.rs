//! An audience that a query on the shop's server finds.

use anyhow::Result;

use super::super::audience::query::{KEY, hand_out, needs_a_person, of_query};
use super::super::copied::Copied;
use super::super::recipient::{AudienceRow, Columns};
use super::{Link, Question, queries};
use crate::settings::ServerSettings;

/// Hands each row of a query to `each`.
///
/// # Errors
/// Exit 1: the server gives no answer, or the query cannot be used. Also what `each` returns.
pub fn read(settings: &ServerSettings, query: &str, each: &mut dyn FnMut(AudienceRow) -> Result<()>) -> Result<()> {
    let (columns, copied) = copied(settings, query).map_err(needs_a_person)?;
    hand_out(&copied, &columns, &settings.database, each)
}

fn copied(settings: &ServerSettings, text: &str) -> Result<(Columns, Copied)> {
    let mut link = Link::to(settings);
    let (query, found) = queries::checked(&mut link, KEY, text, &[])?;
    let columns = Columns::find(found.iter().map(|column| column.name.clone()).collect(), &of_query(link.name()))?;
    let question = Question { query: &query, columns: &found, values: &[] };
    let copied = link.copy(&question).map_err(|trouble| link.told(KEY, trouble, false))?;
    Ok((columns, copied))
}
