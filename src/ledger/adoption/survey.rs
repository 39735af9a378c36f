//! Duplicates among the rows of an older system: found in one sorted pass, moved in one transaction.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, TransactionBehavior};

use super::table::{LOG, OldTable, field, not_understood};
use crate::domain::address;
use crate::domain::duplicates::{Group, Verdict};
use crate::domain::instant::{self, Instant};
use crate::domain::old_log::{Column, Flaw, Reader};
use crate::failure::Failure;
use crate::ledger::parts::quoted;
use crate::ledger::{Ledger, unusable};

/// So many of the worst cases, and of the rows that cannot be used, are named.
const WORST_NAMED: usize = 5;
const UNUSABLE_NAMED: usize = 20;
const DAY_IN_SECONDS: i64 = 24 * 60 * 60;
/// Bounds what sorting a million rows takes of the memory; the rest goes to temporary files.
const CACHE_IN_KIB: i64 = 16_384;

/// Called with the number of rows just looked at.
pub type Tick = Arc<dyn Fn(u64) + Send + Sync>;

/// What makes two rows duplicates, and how rows are read.
#[derive(Clone)]
pub struct Rules {
    pub reader: Reader,
    pub window_in_seconds: i64,
    pub tick: Tick,
}

impl Rules {
    /// The flags that make a command go by the same rules, each with a space before it.
    pub fn flags(&self) -> String {
        let window = match self.window_in_seconds {
            DAY_IN_SECONDS => String::new(),
            seconds => format!(" --window {}", span(seconds)),
        };
        self.reader.zone.map_or(window.clone(), |zone| format!("{window} --timezone {zone}"))
    }
}

/// A length of time the way the command line takes it: `24h`, `30m`, `90s`.
pub fn span(seconds: i64) -> String {
    match seconds {
        hours if hours % 3600 == 0 => format!("{}h", hours / 3600),
        minutes if minutes % 60 == 0 => format!("{}m", minutes / 60),
        seconds => format!("{seconds}s"),
    }
}

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
    /// Rows with neither user nor address.
    pub without_shopper: u64,
    /// Rows that cannot be read, and the first of them, each with its reason.
    pub unreadable: u64,
    pub unreadable_rows: Vec<String>,
}

/// A kept row and what is known of its duplicates so far.
struct Cluster {
    rows: u64,
    mails: u64,
    first_at: i64,
    last_at: i64,
    /// The latest mail of all: when, which row, and whether its creation is the time.
    latest_mail: Option<(i64, i64, bool)>,
    own_mail: Option<i64>,
}

/// Finds the duplicates of a table and leaves them in `temp.duplicate` (row, kept), with `temp.latest_mail` saying
/// where the latest mail of each kept row's group stands. Nothing else is written.
///
/// # Errors
/// Exit 2 when a time has no zone and none was declared; exit 74 for SQLite's errors.
pub(super) fn survey(conn: &Connection, path: &Path, table: &OldTable, rules: &Rules) -> Result<Survey, Failure> {
    let failed = |err: rusqlite::Error| unusable(path, &err);
    prepare(conn, rules).map_err(failed)?;
    let mut survey = Survey::default();
    let mut mark = conn.prepare("INSERT INTO temp.duplicate VALUES (?1, ?2)").map_err(failed)?;
    let mut mark_mail = conn.prepare("INSERT INTO temp.latest_mail VALUES (?1, ?2, ?3)").map_err(failed)?;
    let arguments: Vec<String> = KEY_COLUMNS.iter().map(|column| table.expression(*column)).collect();
    let sql = format!(
        "SELECT best_first({row_id}, {}), {row_id} FROM {} WHERE {} ORDER BY 1, 2",
        arguments.join(", "),
        quoted(table.name),
        table.condition,
        row_id = table.row_id,
    );
    let mut rows = conn.prepare(&sql).map_err(failed)?;
    let mut rows = rows.query([]).map_err(failed)?;
    let mut group = Group::new(rules.window_in_seconds);
    let mut clusters: BTreeMap<i64, Cluster> = BTreeMap::new();
    let mut whose: Vec<u8> = Vec::new();
    let (mut last_shopper, mut last_mailed) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next().map_err(failed)? {
        survey.rows += 1;
        let id: i64 = row.get(1).map_err(failed)?;
        let value = row.get_ref(0).map_err(failed)?;
        let Some(key) = value.as_blob_or_null().ok().flatten().and_then(Key::of) else {
            note_unusable(&mut survey, conn, path, table, id, rules)?;
            continue;
        };
        if key.whose != whose {
            finish(&mut clusters, &whose, &mut survey, |kept, from, created| {
                mark_mail.execute((kept, from, created)).map(|_| ())
            })
            .map_err(failed)?;
            group.clear();
            whose.clear();
            whose.extend_from_slice(key.whose);
        }
        let mail = key.mailed_at.map(|at| (at, id, at == key.created_at));
        match group.next(key.created_at, id) {
            Verdict::Kept => {
                let (at, mails) = (key.created_at, u64::from(mail.is_some()));
                let own_mail = key.mailed_at;
                clusters.insert(id, Cluster { rows: 1, mails, first_at: at, last_at: at, latest_mail: mail, own_mail });
            }
            Verdict::DuplicateOf(kept) => {
                mark.execute((id, kept)).map_err(failed)?;
                survey.duplicates += 1;
                let shopper = key.shopper();
                if last_shopper != shopper {
                    survey.shoppers += 1;
                    last_shopper = shopper.to_vec();
                }
                if mail.is_some() {
                    survey.mails_sent_again += 1;
                    if last_mailed != shopper {
                        survey.shoppers_mailed_again += 1;
                        last_mailed = shopper.to_vec();
                    }
                }
                if let Some(cluster) = clusters.get_mut(&kept) {
                    cluster.rows += 1;
                    cluster.mails += u64::from(mail.is_some());
                    cluster.first_at = cluster.first_at.min(key.created_at);
                    cluster.last_at = cluster.last_at.max(key.created_at);
                    if mail.map(|(at, ..)| at) > cluster.latest_mail.map(|(at, ..)| at) {
                        cluster.latest_mail = mail;
                    }
                }
            }
        }
    }
    finish(&mut clusters, &whose, &mut survey, |kept, from, created| {
        mark_mail.execute((kept, from, created)).map(|_| ())
    })
    .map_err(failed)?;
    Ok(survey)
}

/// Ends a group: counts it, remembers the worst, and says where the latest mail of each kept row stands.
fn finish(
    clusters: &mut BTreeMap<i64, Cluster>,
    whose: &[u8],
    survey: &mut Survey,
    mut mark_mail: impl FnMut(i64, i64, bool) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    for (kept, cluster) in std::mem::take(clusters) {
        if cluster.rows == 1 {
            continue;
        }
        survey.groups += 1;
        if let Some((at, from, created)) = cluster.latest_mail
            && cluster.own_mail != Some(at)
        {
            mark_mail(kept, from, created)?;
        }
        let is_among = survey.worst.len() < WORST_NAMED || survey.worst.last().is_some_and(|w| w.rows < cluster.rows);
        if is_among {
            let (shopper, cart_hash) = split(whose);
            let time = |at: i64| chrono::DateTime::from_timestamp(at, 0).map(instant::text).unwrap_or_default();
            survey.worst.push(Case {
                shopper: address::masked(&String::from_utf8_lossy(shopper)),
                cart_hash: String::from_utf8_lossy(cart_hash).into_owned(),
                rows: cluster.rows,
                mails: cluster.mails,
                first_at: time(cluster.first_at),
                last_at: time(cluster.last_at),
            });
            survey.worst.sort_by_key(|case| std::cmp::Reverse(case.rows));
            survey.worst.truncate(WORST_NAMED);
        }
    }
    Ok(())
}

fn note_unusable(
    survey: &mut Survey,
    conn: &Connection,
    path: &Path,
    table: &OldTable,
    row: i64,
    rules: &Rules,
) -> Result<(), Failure> {
    match table.flaw_of(conn, row, &rules.reader).map_err(|err| unusable(path, &err))? {
        Some((_, Flaw::NoShopper)) => survey.without_shopper += 1,
        Some((id, Flaw::NoZone(time))) => return Err(no_zone(&format!("row {id}"), &time)),
        Some((id, Flaw::Unreadable(problem))) => {
            survey.unreadable += 1;
            if survey.unreadable_rows.len() < UNUSABLE_NAMED {
                survey.unreadable_rows.push(format!("row {id}: {problem}"));
            }
        }
        None => return Err(not_understood(path, &format!("row {row} changed while it was read"))),
    }
    Ok(())
}

/// The refusal of times without a zone: which instants they are cannot be known. Exit 2: a flag is missing.
pub fn no_zone(place: &str, time: &str) -> Failure {
    Failure::usage(
        format!("{place}: the time \"{time}\" has no zone"),
        "say which zone the older system wrote its times in, for example `--timezone Europe/Berlin` or `--timezone UTC`",
    )
    .kept("nothing was changed")
}

/// Moves what [`survey`] found to `removed_duplicate`, which has all columns of the table, in the same transaction.
pub(super) fn move_aside(conn: &Connection, table: &OldTable, now: Instant) -> rusqlite::Result<()> {
    let (name, row_id, list) = (quoted(table.name), table.row_id, table.list());
    if let Some(sent_at) = table.columns.name(Column::LastSentAt) {
        let (sent_at, created_at) = (quoted(sent_at), table.expression(Column::CreatedAt));
        conn.execute(
            &format!(
                "UPDATE {name} SET {sent_at} = (
                     SELECT CASE WHEN latest.created THEN source.{created_at} ELSE source.{sent_at} END
                     FROM temp.latest_mail AS latest JOIN {name} AS source ON source.{row_id} = latest.from_row
                     WHERE latest.kept = {name}.{row_id})
                 WHERE {row_id} IN (SELECT kept FROM temp.latest_mail)"
            ),
            [],
        )?;
    }
    conn.execute(
        &format!(
            "INSERT INTO removed_duplicate ({list}, removed_row, kept_row, moved_aside_at)
             SELECT {list}, duplicate.row, duplicate.kept, ?1
             FROM temp.duplicate AS duplicate JOIN {name} AS source ON source.{row_id} = duplicate.row
             ORDER BY duplicate.row"
        ),
        [instant::text(now)],
    )?;
    conn.execute(
        "UPDATE removed_duplicate SET kept_row = (SELECT kept FROM temp.duplicate WHERE row = kept_row)
         WHERE kept_row IN (SELECT row FROM temp.duplicate)",
        [],
    )?;
    conn.execute(&format!("DELETE FROM {name} WHERE {row_id} IN (SELECT row FROM temp.duplicate)"), [])?;
    Ok(())
}

/// How many groups have a mail later than what their kept row says.
pub(super) fn later_mails(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row("SELECT count(*) FROM temp.latest_mail", [], |row| row.get(0))
}

impl Ledger {
    /// The rows of older systems in this ledger. Rows that have a message are none of them.
    fn old_rows(&self) -> Result<OldTable, Failure> {
        self.read(|conn| OldTable::inspect(conn, LOG, "message_key IS NULL", &["id", "message_key"]))?
            .map_err(|problem| not_understood(&self.path, &problem))
    }

    /// Looks for duplicates among the rows of older systems and writes nothing.
    pub fn survey_duplicates(&self, rules: &Rules) -> Result<Survey, Failure> {
        let table = self.old_rows()?;
        self.read(|conn| conn.execute_batch("BEGIN"))?;
        let survey = survey(self.conn(), &self.path, &table, rules);
        self.read(|conn| conn.execute_batch("ROLLBACK"))?;
        survey
    }

    /// Moves duplicates among the rows of older systems to `removed_duplicate`, in one transaction.
    pub fn move_duplicates(&mut self, rules: &Rules, now: Instant) -> Result<Survey, Failure> {
        let (table, path) = (self.old_rows()?, self.path.clone());
        let failed = |err: rusqlite::Error| unusable(&path, &err);
        let conn = self.conn.as_mut().expect("the connection is only taken on drop");
        conn.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let survey = survey(&tx, &path, &table, rules)?;
        if survey.duplicates > 0 {
            move_aside(&tx, &table, now).map_err(failed)?;
        }
        tx.commit().map_err(|err| {
            self.broken.set(true);
            failed(err)
        })?;
        Ok(survey)
    }
}

const KEY_COLUMNS: [Column; 7] = [
    Column::Id,
    Column::UserId,
    Column::Email,
    Column::CartHash,
    Column::EmailSent,
    Column::CreatedAt,
    Column::LastSentAt,
];

/// The temporary tables, and the function that turns a row into a [`Key`].
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
        tick(1);
        let essence = reader.essence(&|column| match KEY_COLUMNS.iter().position(|known| *known == column) {
            Some(at) => field(row.get_raw(at + 1)),
            None => Ok(None),
        });
        let row_id = row.get_raw(0).as_i64()?;
        // Its own id decides where it is a number; a text such as a UUID says nothing about what came first.
        let id = row.get_raw(1).as_i64().unwrap_or(row_id);
        Ok(essence.ok().map(|essence| Key::write(&essence, id)))
    })
}

/// A row as bytes that sort by shopper and cart hash, and within them best first: mailed, then oldest, then lowest id.
struct Key<'a> {
    /// The length of the identity, the identity, the cart hash.
    whose: &'a [u8],
    created_at: i64,
    mailed_at: Option<i64>,
}

/// Not mailed (1), created (8), id (8), mailed (8).
const BYTES_AFTER_WHOSE: usize = 25;

impl Key<'_> {
    fn write(essence: &crate::domain::old_log::Essence, id: i64) -> Vec<u8> {
        let (identity, cart_hash) = (essence.identity.as_bytes(), essence.cart_hash.as_bytes());
        let mut key = Vec::with_capacity(4 + identity.len() + cart_hash.len() + BYTES_AFTER_WHOSE);
        // The length first, so that no identity can be mistaken for the beginning of a hash.
        key.extend_from_slice(&(identity.len() as u32).to_be_bytes());
        key.extend_from_slice(identity);
        key.extend_from_slice(cart_hash);
        key.push(u8::from(!essence.email_sent));
        key.extend_from_slice(&essence.created_at.timestamp().to_be_bytes());
        // The sign turned over, so that bytes sort as numbers do.
        key.extend_from_slice(&(id ^ i64::MIN).to_be_bytes());
        key.extend_from_slice(&essence.mailed_at().map_or(-1, |at| at.timestamp()).to_be_bytes());
        key
    }

    fn of(key: &[u8]) -> Option<Key<'_>> {
        let (whose, rest) = key.split_at_checked(key.len().checked_sub(BYTES_AFTER_WHOSE)?)?;
        let number = |at: usize| Some(i64::from_be_bytes(rest.get(at..at + 8)?.try_into().ok()?));
        Some(Key { whose, created_at: number(1)?, mailed_at: number(17).filter(|at| *at >= 0) })
    }

    fn shopper(&self) -> &[u8] {
        split(self.whose).0
    }
}

/// The identity and the cart hash.
fn split(whose: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = whose.split_first_chunk::<4>() else { return (&[], &[]) };
    rest.split_at(rest.len().min(u32::from_be_bytes(*length) as usize))
}
