//! Audit: every invariant of a ledger, looked at from outside of what wrote it. Reads only, in one snapshot.
//!
//! The file itself comes first (pages, types, constraints, foreign keys, schema), then what no constraint can hold
//! because it spans rows: `audit_rules.rs` has a query for each, which yields what breaks it.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::Records;
use super::audit_rules::{LOG_RULES, RULES};
use super::parts::{makes_the_same, parts, parts_of_a_ledger};
use crate::domain::evidence::{Fact, Says};
use crate::domain::instant;
use crate::domain::message_key;
use crate::failure::Failure;
use crate::ledger::{Audited, Violation};
use crate::mail_log::Covered;
use crate::output::count;

/// So far from its ends a log need not have everything yet.
const EDGE: chrono::TimeDelta = chrono::TimeDelta::minutes(10);

impl Records {
    /// Begins a snapshot: everything read from now on is of one instant.
    pub fn begin_audit(&self) -> Result<(), Failure> {
        self.scratch(|conn| {
            conn.execute_batch(
                "CREATE TEMP TABLE accepted (token TEXT NOT NULL, queue_id TEXT NOT NULL, at TEXT NOT NULL,
                     PRIMARY KEY (token, queue_id)) WITHOUT ROWID;
                 CREATE TEMP TABLE passed_on (token TEXT NOT NULL, queue_id TEXT NOT NULL,
                     PRIMARY KEY (token, queue_id)) WITHOUT ROWID;
                 CREATE TEMP TABLE known (id INTEGER PRIMARY KEY, token TEXT NOT NULL);
                 BEGIN",
            )?;
            // A transaction begins with its first read.
            conn.query_row("SELECT 1 FROM ledger", [], |_| Ok(()))
        })
    }

    /// Takes what the mail log says; facts that are no acceptances are of no use here.
    pub fn audit_fact(&self, fact: &Fact) -> Result<(), Failure> {
        self.scratch(|conn| {
            match &fact.says {
                Says::Accepted => conn
                    .prepare_cached("INSERT OR IGNORE INTO temp.accepted VALUES (?1, ?2, ?3)")?
                    .execute((&fact.token, &fact.queue_id, instant::text(fact.at.earliest)))?,
                Says::PassedOn { to } => conn
                    .prepare_cached("INSERT OR IGNORE INTO temp.passed_on VALUES (?1, ?2)")?
                    .execute((&fact.token, to))?,
                Says::Lost | Says::Rejected { .. } => 0,
            };
            Ok(())
        })
    }

    /// Looks at everything, and hands each violation to `each` as it is found.
    ///
    /// # Errors
    /// Exit 74: the file cannot be read at all.
    pub fn audit(&self, log: Option<Covered>, each: &mut dyn FnMut(Violation)) -> Result<Audited, Failure> {
        self.scratch(|conn| {
            file(conn, each)?;
            // An older one is not what this version makes; the next run brings it up to date.
            if !self.is_of_an_older_schema() {
                schema(conn, each)?;
            }
            for (rule, sql) in RULES {
                look(conn, rule, sql, [], each)?;
            }
            let mut audited = Audited { messages: self.message_ids(conn, each)?, ..Audited::default() };
            audited.attempts = conn.query_row("SELECT count(*) FROM attempt", [], |row| row.get(0))?;
            if let Some(covered) = log {
                audited.accepted_in_log = Some(against_log(conn, covered, each)?);
            }
            Ok(audited)
        })
    }

    /// Each Message-ID is derived from its key. Says how many there are.
    fn message_ids(&self, conn: &Connection, each: &mut dyn FnMut(Violation)) -> rusqlite::Result<u64> {
        let mut messages = 0;
        // Whoever is forgotten has another key since.
        let mut rows = conn.prepare(
            "SELECT message_key, message_id, folded_address IN (SELECT pseudonym FROM forgotten) FROM message",
        )?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let (key, message_id) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
            messages += 1;
            let is_forgotten: bool = row.get(2)?;
            if !is_forgotten && message_key::token_of(message_id) != message_key::token(&self.id, key) {
                let what = format!("{message_id} is not derived from its message key");
                each(Violation { rule: "message_id_of_its_key", what });
            }
        }
        Ok(messages)
    }
}

/// Compares with what the mail server accepted. Says how many messages it did.
fn against_log(conn: &Connection, log: Covered, each: &mut dyn FnMut(Violation)) -> rusqlite::Result<u64> {
    let (Some(begins), Some(ends)) = (log.begins, log.ends) else { return Ok(0) };
    conn.execute(
        "INSERT INTO temp.known SELECT id, lower(substr(message_id, 2, 32)) FROM message
         WHERE lower(substr(message_id, 2, 32)) IN (SELECT token FROM temp.accepted)",
        [],
    )?;
    let known: u64 = conn.query_row("SELECT count(*) FROM temp.known", [], |row| row.get(0))?;
    let span = [instant::text(begins + EDGE), instant::text(ends - EDGE)];
    for (rule, sql) in LOG_RULES {
        look(conn, rule, sql, (&span[0], &span[1]), each)?;
    }
    let sent: u64 = conn.query_row(
        "SELECT count(*) FROM message WHERE state = 'sent' AND armed_at >= ?1 AND armed_at <= ?2",
        (&span[0], &span[1]),
        |row| row.get(0),
    )?;
    if known == 0 && sent > 0 {
        let what = format!(
            "the mail log shows nothing of what was sent then, {} (lines: {}, of a mail server: {}): is it the right one?",
            count(sent, "sent message"),
            log.lines,
            log.of_a_mail_server
        );
        each(Violation { rule: "sent_is_accepted_by_the_server", what });
    }
    Ok(known)
}

fn look<P: rusqlite::Params>(
    conn: &Connection,
    rule: &'static str,
    sql: &str,
    parameters: P,
    each: &mut dyn FnMut(Violation),
) -> rusqlite::Result<()> {
    let mut rows = conn.prepare(sql)?;
    let mut rows = rows.query(parameters)?;
    while let Some(row) = rows.next()? {
        let what: Option<String> = row.get(0)?;
        each(Violation { rule, what: what.unwrap_or_else(|| "a row holds NULL where a value belongs".into()) });
    }
    Ok(())
}

/// Pages, indexes, types, constraints and foreign keys, as SQLite itself checks them.
fn file(conn: &Connection, each: &mut dyn FnMut(Violation)) -> rusqlite::Result<()> {
    let mut rows = conn.prepare("PRAGMA integrity_check")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let what: String = row.get(0)?;
        if what != "ok" {
            each(Violation { rule: "file_integrity", what });
        }
    }
    let mut rows = conn.prepare("PRAGMA foreign_key_check")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let (table, row_id, parent): (String, Option<i64>, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let what = format!("row {} of {table} points to no row of {parent}", row_id.unwrap_or_default());
        each(Violation { rule: "foreign_keys", what });
    }
    Ok(())
}

/// Tables, indexes and triggers as this version makes them: with a trigger gone, the ledger no longer guards itself.
fn schema(conn: &Connection, each: &mut dyn FnMut(Violation)) -> rusqlite::Result<()> {
    let (expected, found): (BTreeMap<_, _>, BTreeMap<_, _>) = (parts_of_a_ledger()?, parts(conn)?);
    for (object, sql) in &expected {
        let (kind, name) = object;
        let what = match found.get(object) {
            None => format!("the {kind} {name} is missing"),
            Some(other) if !makes_the_same(other, sql) => format!("the {kind} {name} is not as this version makes it"),
            Some(_) => continue,
        };
        each(Violation { rule: "schema", what });
    }
    for (kind, name) in found.keys().filter(|object| object.0 == "trigger" && !expected.contains_key(*object)) {
        each(Violation { rule: "schema", what: format!("the {kind} {name} is not mailonce's") });
    }
    Ok(())
}
