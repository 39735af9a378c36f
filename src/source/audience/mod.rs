//! Who a campaign is written to: a file with a column `email`, or a query on the shop's database.
//!
//! A file is used only when it was whole and still: an upload that is under way must not become half a campaign.

pub(super) mod query;

use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use csv::ByteRecord;
use serde_json::{Map, Value};

use super::file::jsonl::{BYTE_ORDER_MARK, Lines, without_line_number};
use super::file::table::{Continuation, End, MOST_BROKEN_PLACES, Rows, START};
use super::file::text;
use super::file::{LONGEST_LINE_IN_BYTES, Stamp, file_name};
pub use super::recipient::{AudienceRow, timezone_of};
use super::recipient::{Columns, RecipientRow, not_ready, recipient_of_object, row};
use super::{server, sqlite};
use crate::domain::campaign::Audience;
use crate::failure::Failure;
use crate::output::count;
use crate::settings::{SourceKind, SourceSettings};

/// A file that was written to more recently may not be whole yet.
const STILL_FOR: Duration = Duration::from_secs(10);
/// How much a reading found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AudienceSummary {
    /// Recipients, repeated addresses too. At least 1.
    pub rows: u64,
    pub bad: u64,
}

/// Hands each row of an audience to `each`, in its order. Memory does not grow with the number of rows.
///
/// No statement on the shop's database is open while `each` runs.
///
/// # Errors
/// Exit 1 when the audience is not ready or cannot be used: missing, unreadable, changed while it was read or less than
/// 10 seconds before, without a column `email`, without a single recipient; and for a query that cannot be used.
/// Discard whatever was handed over. Also what `each` returns.
pub fn read(
    audience: &Audience,
    source: &SourceSettings,
    each: &mut dyn FnMut(AudienceRow) -> Result<()>,
) -> Result<AudienceSummary> {
    let mut summary = AudienceSummary::default();
    let mut look_at = |row: AudienceRow| {
        match row {
            AudienceRow::Recipient(_) => summary.rows += 1,
            AudienceRow::Bad(_) => summary.bad += 1,
        }
        each(row)
    };
    let name = match audience {
        Audience::Csv(path) => read_file(path, read_csv, &mut look_at)?,
        Audience::JsonLines(path) => read_file(path, read_json_lines, &mut look_at)?,
        Audience::Sql(query) => {
            match &source.kind {
                SourceKind::Sqlite(path) => sqlite::audience::read(path, query, &mut look_at)?,
                SourceKind::Server(settings) => server::audience::read(settings, query, &mut look_at)?,
                SourceKind::JsonLines(_) | SourceKind::Csv(_) => {
                    let what = "the campaign has `sql`, but the source is no database";
                    let next = "name an `audience` file, or set source.kind to \"sqlite\", \"mysql\" or \"postgres\"";
                    return Err(not_ready(what, next).into());
                }
            }
            "the query".to_owned()
        }
    };
    if summary.rows == 0 {
        let what = format!("{name} holds no recipient ({})", count(summary.bad, "bad row"));
        return Err(not_ready(what, "check what writes it; until it holds one, the campaign does not start").into());
    }
    Ok(summary)
}

type Each<'a> = &'a mut dyn FnMut(AudienceRow) -> Result<()>;

/// Reads a file that is still, and was so until the end. Returns its path, for messages.
fn read_file(path: &Path, read: fn(&File, &str, Each<'_>) -> Result<()>, each: Each<'_>) -> Result<String> {
    let shown = path.display().to_string();
    let unreadable = |err: std::io::Error| {
        let next =
            "check that the file is there and that the user who runs mailonce may read it; the next run tries again";
        not_ready(format!("could not read the audience {shown}: {err}"), next)
    };
    // Looked at before it is opened: opening a pipe would wait endlessly.
    let before = fs::metadata(path).map_err(unreadable)?;
    if !before.is_file() {
        return Err(not_ready(format!("the audience {shown} is not a file"), "name a .csv or .jsonl file").into());
    }
    let file = File::open(path).map_err(unreadable)?;
    let opened = file.metadata().map_err(unreadable)?;
    check_still(&opened, &shown)?;
    read(&text::as_utf8(&file).map_err(unreadable)?, &file_name(path), each)?;
    let stamps = [
        Stamp::of(&before),
        Stamp::of(&file.metadata().map_err(unreadable)?),
        // What the path leads to now: it may have been replaced by a newer file.
        Stamp::of(&fs::metadata(path).map_err(unreadable)?),
    ];
    if stamps.iter().any(|stamp| *stamp != Stamp::of(&opened)) {
        let next = "write a new file beside it and rename that over it; the next run reads it again";
        return Err(not_ready(format!("the audience {shown} changed while it was read"), next).into());
    }
    Ok(shown)
}

fn check_still(metadata: &Metadata, shown: &str) -> Result<(), Failure> {
    let modified = u64::try_from(metadata.mtime()).unwrap_or(0);
    let modified = SystemTime::UNIX_EPOCH + Duration::new(modified, u32::try_from(metadata.mtime_nsec()).unwrap_or(0));
    match SystemTime::now().duration_since(modified) {
        Ok(age) if age >= STILL_FOR => Ok(()),
        Ok(_) => Err(not_ready(
            format!(
                "the audience {shown} was written to in the last {}; it may not be whole",
                count(STILL_FOR.as_secs(), "second")
            ),
            "nothing to do when it is being uploaded: the next run looks again",
        )),
        Err(ahead) => Err(not_ready(
            format!(
                "the audience {shown} was last written to {} from now",
                count(ahead.duration().as_secs(), "second")
            ),
            format!("set this machine's clock, or correct the file's time: `touch {shown}`"),
        )),
    }
}

fn read_csv(file: &File, name: &str, each: Each<'_>) -> Result<()> {
    let unreadable = |err: std::io::Error| {
        not_ready(format!("could not read the audience {name}: {err}"), "the next run tries again")
    };
    let mut rows = Rows::open(file, Continuation::OfTheRow).map_err(unreadable)?;
    let header = match rows.next().map_err(unreadable)? {
        End::Row(_) => rows.record.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect(),
        End::Broken(_, flaw) => {
            return Err(not_ready(format!("{name} has no header: {flaw}"), "name the columns in the first row").into());
        }
        End::File => return Err(not_ready(format!("{name} is empty"), "check what writes it").into()),
    };
    let columns = Columns::find(header, name)?;
    let mut broken_places = 0;
    loop {
        match rows.next().map_err(unreadable)? {
            End::File => return Ok(()),
            End::Row(position) => {
                let found = csv_recipient(&columns, &rows.record);
                each(row(found, name, format!("{name}:{}", position.line), rows.record.as_slice()))?;
            }
            End::Broken(position, flaw) => {
                broken_places += 1;
                if broken_places > MOST_BROKEN_PLACES {
                    let what = format!("{name} has more than {MOST_BROKEN_PLACES} rows that cannot be read");
                    let next = "quote its fields as RFC 4180 says: a quote inside a quoted field is written twice";
                    return Err(not_ready(what, next).into());
                }
                let line = position.line.to_string();
                each(row(Err(flaw.into_owned()), name, format!("{name}:{line}"), line.as_bytes()))?;
            }
        }
    }
}

fn csv_recipient(columns: &Columns, record: &ByteRecord) -> Result<RecipientRow, String> {
    let (fields, expected) = (record.len(), columns.len());
    if fields != expected {
        return Err(format!("the row has {fields} fields where the header has {expected}"));
    }
    columns.recipient(|at| {
        let field = record.get(at).unwrap_or_default();
        std::str::from_utf8(field).map(Value::from).map_err(|_| "is not UTF-8 (`iconv` makes it so)")
    })
}

fn read_json_lines(file: &File, name: &str, each: Each<'_>) -> Result<()> {
    let unreadable = |err: std::io::Error| {
        not_ready(format!("could not read the audience {name}: {err}"), "the next run tries again")
    };
    let mut lines = Lines::from(file, START).map_err(unreadable)?;
    let mut first_columns = None;
    let mut found_one = false;
    while let Some((position, length)) = lines.next().map_err(unreadable)? {
        let line = lines.line.as_slice();
        let line = if position.offset == 0 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line };
        if line.trim_ascii().is_empty() {
            continue;
        }
        let object = if length > LONGEST_LINE_IN_BYTES as u64 {
            Err("the line is longer than 1 MiB".to_owned())
        } else {
            json_object(line)
        };
        if let (None, Ok(object)) = (&first_columns, &object) {
            first_columns = Some(object.keys().cloned().collect::<Vec<_>>());
        }
        let found = object.and_then(recipient_of_object);
        found_one |= found.is_ok();
        each(row(found, name, format!("{name}:{}", position.line), line))?;
    }
    match first_columns {
        // Nobody has an address, so it is not the rows that are wrong.
        Some(columns) if !found_one => Columns::find(columns, name).map(|_| ()).map_err(Into::into),
        _ => Ok(()),
    }
}

fn json_object(line: &[u8]) -> Result<Map<String, Value>, String> {
    let text = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8")?;
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("the line is not a JSON object".into()),
        Err(err) => Err(format!("the line is not JSON: {}", without_line_number(&err))),
    }
}

#[cfg(test)]
mod tests;
