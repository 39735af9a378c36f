//! A list of addresses that are never to be written to: one a line, or rows with a column of addresses, perhaps one
//! `reason`.

use std::fs::File;
use std::io;
use std::path::Path;

use super::table::{Continuation, End, MOST_BROKEN_PLACES, Rows};
use super::text;
use crate::domain::address::{Address, AddressError};
use crate::domain::column;
use crate::failure::Failure;

/// A row of the list: the address and what is given as the reason; or the line, and why it cannot be used.
pub type ListedRow = Result<(Address, Option<String>), (u64, String)>;

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
        let (position, found) = match rows.next().map_err(failed)? {
            End::File => return Ok(()),
            End::Broken(position, flaw) => {
                broken_places += 1;
                if broken_places > MOST_BROKEN_PLACES {
                    return Err(unusable(&format!("more than {MOST_BROKEN_PLACES} rows cannot be read")));
                }
                (position, Err(flaw.into_owned()))
            }
            End::Row(position) => {
                if std::mem::take(&mut is_first) {
                    header = Header::of(&rows.record);
                    if header.is_some() {
                        continue;
                    }
                    if rows.record.len() > 1 && !rows.record.iter().any(|field| field.contains(&b'@')) {
                        return Err(unusable(&"its first line names no column `email` or `address`"));
                    }
                }
                (position, listed(&rows.record, header.as_ref()))
            }
        };
        each(found.map_err(|problem| (position.line, problem)))?;
    }
}

/// The columns that the first row names.
struct Header {
    fields: usize,
    address: usize,
    reason: Option<usize>,
}

impl Header {
    /// `None` when the row is no header but an address already.
    fn of(record: &csv::ByteRecord) -> Option<Header> {
        let names: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
        let at = |wanted: &[&str]| column::place(names.iter().map(AsRef::as_ref), wanted);
        Some(Header { fields: record.len(), address: at(column::ADDRESS)?, reason: at(&["reason"]) })
    }
}

fn listed(record: &csv::ByteRecord, header: Option<&Header>) -> Result<(Address, Option<String>), String> {
    let (fields, address, reason) =
        header.map_or((1, 0, None), |header| (header.fields, header.address, header.reason));
    // Whoever stands in a field that belongs to no column asked not to be written to, too.
    if record.iter().skip(fields).any(|field| field.contains(&b'@')) {
        return Err(AddressError::Several.to_string());
    }
    let text = std::str::from_utf8(record.get(address).unwrap_or_default());
    let text = text.map_err(|_| "the address is not UTF-8".to_owned())?;
    let address = Address::parse(text).map_err(|err| err.to_string())?;
    let reason = reason.and_then(|at| record.get(at)).map(|reason| String::from_utf8_lossy(reason).trim().to_owned());
    Ok((address, reason.filter(|reason| !super::raw::is_absent(reason))))
}
