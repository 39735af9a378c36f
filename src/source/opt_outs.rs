//! The shop's own list of those who want no mail: a query on its database, or a file.

use anyhow::Result;
use rusqlite::Row;

use super::copied::Copied;
use super::query::OPT_OUTS_KEY;
use super::raw::{RawField, is_absent, printable};
use super::stored::field;
use super::{server, sqlite, suppressions};
use crate::domain::address::Address;
use crate::domain::column;
use crate::domain::instant::{self, Instant};
use crate::failure::Failure;
use crate::settings::{OptOuts, SourceKind, SourceSettings};

/// One who wants no mail: by address, or by the token of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptOut {
    pub who: Who,
    /// When they said so, where the list has it.
    pub changed_at: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    Address(Address),
    Token(String),
}

/// A row of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptOutRow {
    OptOut(OptOut),
    /// Where it stands, and what is wrong with it.
    Bad(String),
}

/// Hands each row to `each`: of a query those that it gives for `since`, of a file all.
///
/// # Errors
/// The list cannot be read; then nothing may be sent. Also what `each` returns.
pub fn read(
    list: &OptOuts,
    source: &SourceSettings,
    since: Instant,
    each: &mut dyn FnMut(OptOutRow) -> Result<()>,
) -> Result<()> {
    let zone = source.timezone;
    let (name, names, copied) = match (list, &source.kind) {
        (OptOuts::File(path), _) => {
            let place = |line: u64| format!("{}:{line}", path.display());
            let mut refused = None;
            suppressions::read(path, &mut |row| {
                let problem = row.problem.unwrap_or_else(|| "no address".to_owned());
                let who = row.address.map(|(address, _)| Who::Address(address)).or(row.token.map(Who::Token));
                let found = match who {
                    Some(who) => {
                        let changed_at = row.changed_at.and_then(|at| instant::parse(&at, zone));
                        OptOutRow::OptOut(OptOut { who, changed_at })
                    }
                    None => OptOutRow::Bad(format!("{}: {problem}", place(row.line))),
                };
                if refused.is_none() {
                    refused = each(found).err();
                }
                Ok(())
            })?;
            return refused.map_or(Ok(()), Err);
        }
        (OptOuts::Query(text), SourceKind::Sqlite(path)) => sqlite::opt_outs::copied(path, text, since, zone)?,
        (OptOuts::Query(text), SourceKind::Server(settings)) => server::opt_outs::copied(settings, text, since, zone)?,
        // Refused with the configuration.
        (OptOuts::Query(_), _) => return Err(Failure::config("only a database has queries", "name a file").into()),
    };
    let at = |wanted: &[&str]| column::place(names.iter().map(String::as_str), wanted);
    let (email, token, changed_at) = (at(column::ADDRESS), at(&["token"]), at(&["changed_at"]));
    if email.is_none() && token.is_none() {
        let what = format!("the query `{OPT_OUTS_KEY}` on {name} gives no column `email` and none `token`");
        return Err(Failure::config(what, "write for example SELECT email, changed_at FROM …").into());
    }
    hand_out(&copied, &name, [email, token, changed_at], zone, each)
}

fn hand_out(
    copied: &Copied,
    name: &str,
    columns: [Option<usize>; 3],
    zone: chrono_tz::Tz,
    each: &mut dyn FnMut(OptOutRow) -> Result<()>,
) -> Result<()> {
    let mut number = 0;
    copied.rows(None, &mut |row| {
        number += 1;
        let [email, token, changed_at] = columns.map(|at| text(row, at));
        let changed_at = changed_at.unwrap_or(None).and_then(|at| instant::parse(&at, zone));
        let who = match (email, token) {
            (Ok(Some(email)), _) => Address::parse(&email).map(Who::Address).map_err(|err| err.to_string()),
            (_, Ok(Some(token))) => Ok(Who::Token(token)),
            (Err(problem), _) | (_, Err(problem)) => Err(format!("its address {problem}")),
            (Ok(None), Ok(None)) => Err("no address".to_owned()),
        };
        each(match who {
            Ok(who) => OptOutRow::OptOut(OptOut { who, changed_at }),
            Err(problem) => OptOutRow::Bad(format!("{}: row {number}: {problem}", printable(name, 80))),
        })
    })
}

fn text(row: &Row<'_>, at: Option<usize>) -> RawField {
    let Some(at) = at else { return Ok(None) };
    let found = row.get_ref(at).map_or(Err("cannot be read"), field)?;
    Ok(found.filter(|text| !is_absent(text)))
}
