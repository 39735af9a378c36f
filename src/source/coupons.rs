//! A list of coupon codes: CSV with a column `code`, and `expires_at` where they end.

use std::fs::File;
use std::path::Path;

use chrono_tz::Tz;

use super::file::text;
use super::raw::is_absent;
use crate::domain::column;
use crate::domain::coupon::{Coupon, is_code};
use crate::domain::instant;
use crate::failure::Failure;

/// A row of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CouponRow {
    Code(Coupon),
    /// What is wrong with it; a code is a secret, and not told.
    Bad {
        line: u64,
        problem: String,
    },
}

/// Hands each row to `each`; `zone` is for times that have none of their own.
///
/// # Errors
/// Exit 65: the file cannot be read, or its first line names no column `code`.
pub fn read(path: &Path, zone: Tz, each: &mut dyn FnMut(CouponRow)) -> Result<(), Failure> {
    let unusable = |problem: &dyn std::fmt::Display| {
        let next = "name a CSV file whose first line is `code` or `code,expires_at`";
        Failure::data(format!("could not read {}: {problem}", path.display()), next)
    };
    let file = File::open(path).and_then(|file| text::as_utf8(&file)).map_err(|err| unusable(&err))?;
    let mut rows = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(file);
    let names = rows.headers().map_err(|err| unusable(&err))?.clone();
    let at = |wanted: &str| column::place(names.iter(), &[wanted]);
    let Some(code_at) = at("code") else { return Err(unusable(&"its first line names no column `code`")) };
    let ends_at = at("expires_at");
    let mut record = csv::StringRecord::new();
    loop {
        let line = rows.position().line();
        match rows.read_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(err) if err.is_io_error() => return Err(unusable(&err)),
            Err(err) => {
                each(CouponRow::Bad { line, problem: err.to_string() });
                continue;
            }
        }
        let line = record.position().map_or(line, csv::Position::line);
        let ends = ends_at.and_then(|at| record.get(at)).filter(|text| !is_absent(text));
        let row = match (record.get(code_at).filter(|code| is_code(code)), ends.map(|text| instant::parse(text, zone))) {
            (None, _) => Err("no code of 1 to 100 letters, digits and signs"),
            (_, Some(None)) => Err("its expires_at is no time"),
            (Some(code), ends) => Ok(Coupon { code: code.to_owned(), expires_at: ends.flatten() }),
        };
        each(row.map_or_else(|problem| CouponRow::Bad { line, problem: problem.into() }, CouponRow::Code));
    }
}
