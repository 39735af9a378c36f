//! Which rows of an older system are duplicates of which: found in one sorted pass. Nothing is written.

use std::collections::BTreeMap;

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, Statement};

use super::rules::{Rules, no_zone};
use super::sort_key::{SortKey, split};
use super::table::{OldTable, Which, field};
use super::{OldLog, look};
use crate::domain::address;
use crate::domain::duplicates::{Group, Verdict};
use crate::domain::instant;
use crate::domain::old_log::{CREATED_UNKNOWN, Column, Flaw};
use crate::failure::Failure;
use crate::ledger::sqlite::{Records, Undone};

/// So many of the worst cases, and of the rows that cannot be used, are named.
const WORST_NAMED: usize = 5;
const UNUSABLE_NAMED: usize = 20;
/// Bounds what sorting a million rows takes of the memory; the rest goes to temporary files.
const CACHE_IN_KIB: i64 = 16_384;
/// What finding duplicates needs to know of a row.
const KEY_COLUMNS: [Column; 7] = [
    Column::Id,
    Column::UserId,
    Column::Email,
    Column::CartHash,
    Column::EmailSent,
    Column::CreatedAt,
    Column::LastSentAt,
];

/// A row and its duplicates.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Case {
    /// `u:` and the user id; a guest's address is masked.
    pub shopper: String,
    pub cart_hash: String,
    pub rows: u64,
    pub mails: u64,
    pub first_at: String,
    pub last_at: String,
}

/// What a look at the rows found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Survey {
    /// Rows looked at; those that have a message are not.
    pub rows: u64,
    /// Rows with at least one duplicate.
    pub groups: u64,
    /// Duplicates: all rows of those groups but one each.
    pub duplicates: u64,
    /// Shoppers with a duplicate.
    pub shoppers: u64,
    /// Duplicates that were mails: the shopper had that mail already.
    pub mails_sent_again: u64,
    /// Shoppers who got one of these.
    pub shoppers_mailed_again: u64,
    /// The groups with most rows, the largest first.
    pub worst: Vec<Case>,
    /// Mailed rows whose time cannot be read: they count as mailed when they were looked at.
    pub mailed_now: u64,
    /// Rows with neither user nor address.
    pub without_shopper: u64,
    /// Rows that cannot be read, and the first of them, each with its reason.
    pub unreadable: u64,
    pub unreadable_rows: Vec<String>,
}

impl OldLog {
    /// Looks for duplicates and writes nothing.
    pub fn survey(&self, rules: &Rules) -> Result<Survey, Failure> {
        look((&self.conn, &self.path), |conn| survey(conn, &OldTable::inspect(conn, Which::UNADOPTED)?, rules))
    }
}

impl Records {
    /// Looks for duplicates in what a ledger holds of older systems, and writes nothing.
    pub fn survey(&self, rules: &Rules) -> Result<Survey, Failure> {
        look((self.conn(), &self.path), |conn| survey(conn, &OldTable::inspect(conn, Which::IN_LEDGER)?, rules))
    }
}

/// Finds the duplicates of a table and leaves them in `temp.duplicate` (row, kept), with `temp.latest_mail` saying
/// where the latest mail of each kept row's group stands.
///
/// # Errors
/// Exit 2 when a time has no zone and none was declared; exit 74 for SQLite's errors.
pub(super) fn survey(conn: &Connection, table: &OldTable, rules: &Rules) -> Result<Survey, Undone> {
    prepare(conn, rules)?;
    let mut pass = Pass::begin(conn, rules)?;
    let key = KEY_COLUMNS.map(|column| table.expression(column)).join(", ");
    let (rows, row_id) = (table.from(), table.row_id);
    let mut rows = conn.prepare(&format!("SELECT best_first({row_id}, {key}), {row_id} {rows} ORDER BY 1, 2"))?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        pass.survey.rows += 1;
        let id: i64 = row.get(1)?;
        match row.get_ref(0)?.as_blob_or_null().ok().flatten().and_then(SortKey::of) {
            Some(key) => {
                pass.survey.mailed_now += u64::from(key.mailed_now);
                pass.take(id, &key)?;
            }
            None => match table.flaw_of(conn, id, &rules.reader)? {
                Some((id, flaw)) => pass.survey.leave_alone(&id, flaw)?,
                None => return Err(Undone::NotUnderstood(format!("row {id} changed while it was read"))),
            },
        }
    }
    pass.end_group()?;
    Ok(pass.survey)
}

/// The temporary tables, and the function that turns a row into a [`SortKey`].
fn prepare(conn: &Connection, rules: &Rules) -> rusqlite::Result<()> {
    conn.execute_batch(&format!(
        "PRAGMA cache_size = -{CACHE_IN_KIB};
         PRAGMA temp.cache_size = -4000;
         DROP TABLE IF EXISTS temp.duplicate;
         DROP TABLE IF EXISTS temp.latest_mail;
         CREATE TEMP TABLE duplicate (row INTEGER PRIMARY KEY, kept INTEGER NOT NULL) STRICT;
         CREATE TEMP TABLE latest_mail (kept INTEGER PRIMARY KEY, from_row INTEGER NOT NULL, created INTEGER NOT NULL) STRICT;"
    ))?;
    let Rules { reader, tick, .. } = rules.clone();
    conn.create_scalar_function("best_first", 8, FunctionFlags::SQLITE_UTF8, move |row| {
        tick();
        let essence = reader.essence(&|column| match KEY_COLUMNS.iter().position(|known| *known == column) {
            Some(at) => field(row.get_raw(at + 1)),
            None => Ok(None),
        });
        let row_id = row.get_raw(0).as_i64()?;
        // Its own id decides where it is a number; a text such as a UUID says nothing about what came first.
        let id = row.get_raw(1).as_i64().unwrap_or(row_id);
        Ok(essence.ok().map(|essence| SortKey::write(&essence, id)))
    })
}

/// A pass over the rows in their order: one group of a shopper and a cart hash after the other.
struct Pass<'a> {
    survey: Survey,
    whose: Vec<u8>,
    group: Group,
    /// By kept row.
    clusters: BTreeMap<i64, Cluster>,
    /// Who was counted last.
    with_duplicate: Vec<u8>,
    mailed_again: Vec<u8>,
    mark: Statement<'a>,
    mark_mail: Statement<'a>,
}

/// A kept row and its duplicates so far.
#[derive(Default)]
struct Cluster {
    rows: u64,
    mails: u64,
    first_at: i64,
    last_at: i64,
    latest_mail: Option<Mail>,
    /// When the kept row's own mail went out.
    own_mail_at: Option<i64>,
}

#[derive(Clone, Copy)]
struct Mail {
    at: i64,
    row: i64,
    /// Whether the row's creation is the time.
    is_creation: bool,
}

impl<'a> Pass<'a> {
    fn begin(conn: &'a Connection, rules: &Rules) -> rusqlite::Result<Pass<'a>> {
        Ok(Pass {
            survey: Survey::default(),
            whose: Vec::new(),
            group: Group::new(rules.window_in_seconds),
            clusters: BTreeMap::new(),
            with_duplicate: Vec::new(),
            mailed_again: Vec::new(),
            mark: conn.prepare("INSERT INTO temp.duplicate VALUES (?1, ?2)")?,
            mark_mail: conn.prepare("INSERT INTO temp.latest_mail VALUES (?1, ?2, ?3)")?,
        })
    }

    /// Decides about the next row.
    fn take(&mut self, row: i64, key: &SortKey<'_>) -> rusqlite::Result<()> {
        if key.whose != self.whose {
            self.end_group()?;
            self.group.clear();
            self.whose.clear();
            self.whose.extend_from_slice(key.whose);
        }
        let mail = key.mailed_at.map(|at| Mail { at, row, is_creation: at == key.created_at });
        let kept = match self.group.next(key.created_at, row) {
            Verdict::Kept => row,
            Verdict::DuplicateOf(kept) => {
                self.mark.execute((row, kept))?;
                kept
            }
        };
        let cluster = self.clusters.entry(kept).or_insert_with(|| Cluster {
            first_at: key.created_at,
            last_at: key.created_at,
            own_mail_at: key.mailed_at,
            ..Cluster::default()
        });
        cluster.rows += 1;
        cluster.mails += u64::from(mail.is_some());
        cluster.first_at = cluster.first_at.min(key.created_at);
        cluster.last_at = cluster.last_at.max(key.created_at);
        if key.mailed_at > cluster.latest_mail.map(|mail| mail.at) {
            cluster.latest_mail = mail;
        }
        Ok(())
    }

    /// Ends a group: counts it, remembers the worst, and says where the latest mail of each kept row stands.
    fn end_group(&mut self) -> rusqlite::Result<()> {
        let (shopper, cart_hash) = split(&self.whose);
        for (kept, cluster) in std::mem::take(&mut self.clusters) {
            if cluster.rows == 1 {
                continue;
            }
            let mails_again = cluster.mails - u64::from(cluster.own_mail_at.is_some());
            self.survey.groups += 1;
            self.survey.duplicates += cluster.rows - 1;
            self.survey.shoppers += is_another(&mut self.with_duplicate, shopper);
            if mails_again > 0 {
                self.survey.mails_sent_again += mails_again;
                self.survey.shoppers_mailed_again += is_another(&mut self.mailed_again, shopper);
            }
            if let Some(mail) = cluster.latest_mail
                && cluster.own_mail_at != Some(mail.at)
            {
                self.mark_mail.execute((kept, mail.row, mail.is_creation))?;
            }
            self.survey.note_case(shopper, cart_hash, &cluster);
        }
        Ok(())
    }
}

/// 1 for a shopper who is not the one before, 0 for the same.
fn is_another(before: &mut Vec<u8>, shopper: &[u8]) -> u64 {
    if before == shopper {
        return 0;
    }
    before.clear();
    before.extend_from_slice(shopper);
    1
}

impl Survey {
    fn note_case(&mut self, shopper: &[u8], cart_hash: &[u8], cluster: &Cluster) {
        if self.worst.len() == WORST_NAMED && self.worst.last().is_some_and(|worst| worst.rows >= cluster.rows) {
            return;
        }
        let time = |at: i64| match chrono::DateTime::from_timestamp(at, 0) {
            Some(at) if at != CREATED_UNKNOWN => instant::text(at),
            _ => "at a time that cannot be read".to_owned(),
        };
        self.worst.push(Case {
            shopper: address::masked(&String::from_utf8_lossy(shopper)),
            cart_hash: String::from_utf8_lossy(cart_hash).into_owned(),
            rows: cluster.rows,
            mails: cluster.mails,
            first_at: time(cluster.first_at),
            last_at: time(cluster.last_at),
        });
        self.worst.sort_by_key(|case| std::cmp::Reverse(case.rows));
        self.worst.truncate(WORST_NAMED);
    }

    /// Counts a row that cannot be used. Without a zone nothing can.
    fn leave_alone(&mut self, id: &str, flaw: Flaw) -> Result<(), Undone> {
        match flaw {
            Flaw::NoShopper { .. } => self.without_shopper += 1,
            Flaw::NoZone(time) => return Err(Undone::Refused(no_zone(&format!("row {id}"), &time))),
            Flaw::Unreadable(_, problem) => {
                self.unreadable += 1;
                if self.unreadable_rows.len() < UNUSABLE_NAMED {
                    self.unreadable_rows.push(format!("row {id}: {problem}"));
                }
            }
        }
        Ok(())
    }

    /// Rows that a ledger can take over.
    pub fn usable(&self) -> u64 {
        self.rows - self.without_shopper - self.unreadable
    }
}
