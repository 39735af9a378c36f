//! A list of addresses that are never to be written to: one a line, or rows with a column of addresses, perhaps one
//! `reason`.

use std::fs::File;
use std::io;
use std::path::Path;

use super::file::table::{Continuation, End, MOST_BROKEN_PLACES, Rows};
use super::file::text;
use crate::domain::address::{Address, AddressError};
use crate::domain::column;
use crate::failure::Failure;

/// A row of the list. One that is flawed behind its address has both: whoever asked not to be written to is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRow {
    pub line: u64,
    /// The address and what is given as the reason.
    pub address: Option<(Address, Option<String>)>,
    /// Where there is no address: the token of an unsubscribe link.
    pub token: Option<String>,
    /// As it stands there, from a column `changed_at`.
    pub changed_at: Option<String>,
    pub problem: Option<String>,
}

/// Hands each row of a list to `each`. Memory does not grow with the number of rows.
///
/// # Errors
/// Exit 65 when the file cannot be read, or its first row names columns and none of them holds addresses. Also what
/// `each` returns.
pub fn read(path: &Path, each: &mut dyn FnMut(ListedRow) -> Result<(), Failure>) -> Result<(), Failure> {
    let unusable = |problem: &dyn std::fmt::Display| {
        Failure::data(
            format!("could not read {}: {problem}", path.display()),
            "name a text or CSV file with one address a row",
        )
    };
    let failed = |err: io::Error| unusable(&err);
    let file = File::open(path).and_then(|file| text::as_utf8(&file)).map_err(failed)?;
    let mut rows = Rows::open(&file, Continuation::Rows).map_err(failed)?;
    let mut header: Option<Header> = None;
    let mut is_first = true;
    let mut broken_places = 0;
    loop {
        let end = rows.next().map_err(failed)?;
        let is_header = matches!(end, End::Row(_)) && std::mem::take(&mut is_first);
        if is_header {
            header = Header::of(&rows.record);
            if header.is_some() {
                continue;
            }
            if rows.record.len() > 1 && !rows.record.iter().any(|field| field.contains(&b'@')) {
                return Err(unusable(&"its first line names no column `email` or `address`"));
            }
        }
        is_first = false;
        // In a plain list a line is an address, whatever a table would make of `"Lovelace, Ada" <ada@example.com>`.
        let plain = header.is_none().then(|| std::str::from_utf8(rows.line()).ok()).flatten();
        let plain = plain.and_then(|line| Address::parse(line).ok()).map(|address| (address, None));
        let (position, found, flaw) = match end {
            End::File => return Ok(()),
            End::Row(position) | End::Broken(position, _) if plain.is_some() => (position, plain, None),
            End::Row(position) => match listed(&rows.record, header.as_ref()) {
                Ok(found) => (position, Some(found), None),
                Err(problem) => (position, None, Some(problem)),
            },
            End::Broken(position, flaw) => {
                broken_places += 1;
                if broken_places > MOST_BROKEN_PLACES {
                    return Err(unusable(&format!("more than {MOST_BROKEN_PLACES} rows cannot be read")));
                }
                let column = header.as_ref().map_or(0, |header| header.address);
                let is_whole = header.is_some() && rows.record.len() > column;
                let found = is_whole.then(|| address_in(&rows.record, column).ok()).flatten();
                let flaw = match &found {
                    Some(_) => format!("{flaw}; its address is taken, the rest left out"),
                    None => flaw.into_owned(),
                };
                (position, found.map(|address| (address, None)), Some(flaw))
            }
        };
        let beside = |at: fn(&Header) -> Option<usize>| {
            let text = String::from_utf8_lossy(rows.record.get(header.as_ref().and_then(at)?)?).trim().to_owned();
            Some(text).filter(|text| !super::raw::is_absent(text))
        };
        let token = if found.is_none() { beside(|header| header.token) } else { None };
        let changed_at = beside(|header| header.changed_at);
        each(ListedRow { line: position.line, address: found, token, changed_at, problem: flaw })?;
    }
}

/// The columns that the first row names.
struct Header {
    fields: usize,
    address: usize,
    reason: Option<usize>,
    token: Option<usize>,
    changed_at: Option<usize>,
}

impl Header {
    /// `None` when the row is no header but an address already.
    fn of(record: &csv::ByteRecord) -> Option<Header> {
        let names: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
        let at = |wanted: &[&str]| column::place(names.iter().map(AsRef::as_ref), wanted);
        Some(Header {
            fields: record.len(),
            address: at(column::ADDRESS)?,
            reason: at(&["reason"]),
            token: at(&["token"]),
            changed_at: at(&["changed_at"]),
        })
    }
}

fn listed(record: &csv::ByteRecord, header: Option<&Header>) -> Result<(Address, Option<String>), String> {
    let (fields, address, reason) =
        header.map_or((1, 0, None), |header| (header.fields, header.address, header.reason));
    // Whoever stands in a field that belongs to no column asked not to be written to, too.
    if record.iter().skip(fields).any(|field| field.contains(&b'@')) {
        return Err(AddressError::Several.to_string());
    }
    let address = address_in(record, address)?;
    let reason = reason.and_then(|at| record.get(at)).map(|reason| String::from_utf8_lossy(reason).trim().to_owned());
    Ok((address, reason.filter(|reason| !super::raw::is_absent(reason))))
}

fn address_in(record: &csv::ByteRecord, column: usize) -> Result<Address, String> {
    let text = std::str::from_utf8(record.get(column).unwrap_or_default());
    let text = text.map_err(|_| "the address is not UTF-8".to_owned())?;
    Address::parse(text).map_err(|err| err.to_string())
}
