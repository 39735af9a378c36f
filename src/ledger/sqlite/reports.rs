//! Reports: what came back about messages, whom it takes off the list, which doubts it settles, which campaign it stops.

use std::collections::{BTreeMap, HashMap};

use chrono::TimeDelta;
use rusqlite::{Connection, OptionalExtension, Params};

use super::notices::{Event, record_event};
use super::page::IN_PERIOD;
use super::suppressions::suppress;
use super::{Durability, Reading, Records, Reports, tally};
use crate::domain::address::Address;
use crate::domain::bounce::{Class, StopAt, is_hard_code};
use crate::domain::instant::{self, Instant};
use crate::domain::list;
use crate::domain::state::{Origin, State};
use crate::failure::Failure;
use crate::ledger::{
    BlockedOfLate, DeadAddresses, DeadOfLate, Decision, Filed, Period, RefusedRecipient, Report, Resolution, Resolved,
    Returned, Stopped, THE_MAIL_SERVER, UnmatchedReport,
};
use crate::output::count;

/// More reports of one message than this are not kept: whoever knows its token could send any number.
const MOST_OF_A_MESSAGE: u32 = 20;
/// More that match no message are not kept.
const MOST_UNMATCHED: u32 = 10_000;
/// A mailbox that so many messages in a row did not get into, over so long, is taken for dead.
const SOFT_IN_A_ROW: usize = 5;
const SOFT_FOR: TimeDelta = TimeDelta::days(7);
/// Over the last so many messages it shows whether a sender is turned away.
const LATEST: u32 = 200;
/// What can be applied later that was held.
const HELD_FOR: TimeDelta = TimeDelta::days(30);

impl Records {
    /// The rows of messages by the first 32 digits of their Message-ID: one look through all messages for all of them.
    pub fn rows_of_tokens(&self, tokens: &[&str]) -> Result<HashMap<String, i64>, Failure> {
        if tokens.is_empty() {
            return Ok(HashMap::new());
        }
        let wanted: std::collections::HashSet<&str> = tokens.iter().copied().collect();
        self.read(|conn| {
            let mut rows = conn.prepare("SELECT id, substr(message_id, 2, 32) FROM message")?;
            let mut rows = rows.query([])?;
            let mut found = HashMap::new();
            while let Some(row) = rows.next()? {
                let token = row.get_ref(1)?.as_str().unwrap_or_default();
                if wanted.contains(token) {
                    found.insert(token.to_owned(), row.get(0)?);
                }
            }
            Ok(found)
        })
    }

    /// Whether the message of this row begins its Message-ID with these digits.
    pub fn is_row_of(&self, row: i64, token: &str) -> Result<bool, Failure> {
        self.read(|conn| {
            conn.prepare_cached("SELECT 1 FROM message WHERE id = ?1 AND substr(message_id, 2, 32) = ?2")?
                .exists((row, token))
        })
    }

    /// Whether a report is known already.
    pub fn knows_report(&self, digest: &[u8; 32]) -> Result<bool, Failure> {
        self.read(|conn| conn.prepare_cached("SELECT 1 FROM report WHERE digest = ?1")?.exists([digest]))
    }

    /// How many dead addresses came back of late.
    pub fn dead_of_late(&self, now: Instant) -> Result<DeadOfLate, Failure> {
        let ago = |days| instant::text(now - TimeDelta::days(days));
        self.read(|conn| {
            let hard = conn.query_row(
                "SELECT count(DISTINCT message) FROM report WHERE received_at >= ?1 AND class = 'hard'",
                [ago(1)],
                |row| row.get(0),
            )?;
            let sent = conn.query_row(
                "SELECT count(*) FROM attempt
                 WHERE id > coalesce((SELECT attempt_after FROM run WHERE started_at < ?1 ORDER BY epoch DESC LIMIT 1), 0)
                     AND outcome = 'sent'",
                [ago(5)],
                |row| row.get(0),
            )?;
            Ok(DeadOfLate { hard, sent })
        })
    }

    /// Of the last messages that were handed over, how many were turned away because of who sends them.
    pub fn blocked_of_late(&self) -> Result<BlockedOfLate, Failure> {
        self.read(|conn| {
            conn.query_row(
                "SELECT count(*), coalesce(sum(EXISTS (SELECT 1 FROM report WHERE report.message = latest.message AND class = 'blocked')), 0)
                 FROM (SELECT message FROM attempt WHERE outcome = 'sent' ORDER BY id DESC LIMIT ?1) AS latest",
                [LATEST],
                |row| Ok(BlockedOfLate { sent: row.get(0)?, blocked: row.get(1)? }),
            )
        })
    }

    /// What came back about what was handed over since then, carts by step, then campaigns.
    pub fn returned(&self, since: Instant) -> Result<Vec<Returned>, Failure> {
        self.read(|conn| returned(conn, "1", [instant::text(since)]))
    }

    /// The same of the messages of that time, whenever it came.
    pub fn returned_of(&self, period: &Period) -> Result<Vec<Returned>, Failure> {
        self.read(|conn| returned(conn, IN_PERIOD, period.values()))
    }

    /// The newest reports that match no message.
    pub fn unmatched_reports(&self, limit: u32) -> Result<Vec<UnmatchedReport>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT received_at, class, diagnostic, reporter FROM report WHERE message IS NULL AND class <> 'unsubscribe' ORDER BY id DESC LIMIT ?1",
            )?;
            rows.query_map([limit], |row| {
                Ok(UnmatchedReport {
                    received_at: row.get("received_at")?,
                    class: Class::of_word(row.get_ref("class")?.as_str()?).unwrap_or(Class::Other),
                    diagnostic: row.get("diagnostic")?,
                    reporter: row.get("reporter")?,
                })
            })?
            .collect()
        })
    }

    /// Refusals of recipients as unknown by the server itself, since a run began, after each of which it accepted another
    /// message: so they are about the recipient.
    pub fn refused_as_unknown(&self, after: i64) -> Result<Vec<RefusedRecipient>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare_cached(
                "SELECT a.id, a.message, a.reply FROM attempt AS a JOIN message AS m ON m.id = a.message
                 WHERE a.id > ?1 AND a.outcome = 'refused' AND a.armed_at IS NULL AND a.reply GLOB '5*' AND m.state = 'refused'
                     AND a.id < (SELECT max(id) FROM attempt WHERE id > ?1 AND outcome = 'sent') ORDER BY a.id",
            )?;
            let found = rows.query_map([after], |row| {
                Ok(RefusedRecipient { attempt: row.get(0)?, message: row.get(1)?, reply: row.get(2)? })
            })?;
            let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(found.into_iter().filter(|refused| is_hard_code(&refused.reply)).collect())
        })
    }

    /// The first try of what is refused since the last acceptance before now: tries after it are looked at once the server
    /// accepts something.
    pub fn attempts_to_look_at_from(&self) -> Result<i64, Failure> {
        self.read(|conn| {
            conn.query_row(
                "SELECT coalesce((SELECT id FROM attempt WHERE outcome = 'sent' ORDER BY id DESC LIMIT 1), 0)",
                [],
                |row| row.get(0),
            )
        })
    }
}

/// What came back of the messages that `which` says, of those handed over since the first of its values.
fn returned(conn: &Reading<'_>, which: &str, values: impl Params) -> rusqlite::Result<Vec<Returned>> {
    let mut rows = conn.prepare(&format!(
        "WITH handed_over AS (
             SELECT message FROM attempt
             WHERE id > coalesce((SELECT attempt_after FROM run WHERE started_at < ?1 ORDER BY epoch DESC LIMIT 1), 0)
                 AND armed_at >= ?1 AND outcome IN ('sent', 'in_doubt')
             UNION SELECT message FROM report WHERE received_at >= ?1 AND class = 'hard' AND reporter = '{THE_MAIL_SERVER}'),
         came_back AS (
             SELECT message, max(class = 'hard') AS hard, max(class IN ('soft', 'other')) AS soft, max(class = 'blocked') AS blocked,
                 max(class = 'elsewhere') AS elsewhere, max(class = 'delayed') AS delayed,
                 max(class = 'complaint') AS complaints, max(class = 'unsubscribe') AS unsubscribes
             FROM report WHERE message IS NOT NULL GROUP BY message)
         SELECT message.kind, o.campaign_id, message.step, count(*) AS sent,
             coalesce(sum(hard), 0) AS hard, coalesce(sum(soft), 0) AS soft, coalesce(sum(blocked), 0) AS blocked,
             coalesce(sum(elsewhere), 0) AS elsewhere, coalesce(sum(delayed), 0) AS delayed,
             coalesce(sum(complaints), 0) AS complaints, coalesce(sum(unsubscribes), 0) AS unsubscribes
         FROM handed_over JOIN message ON message.id = handed_over.message
         LEFT JOIN came_back ON came_back.message = message.id
         LEFT JOIN campaign_occurrence AS o ON o.id = message.occurrence
         WHERE {which}
         GROUP BY message.kind, o.campaign_id, message.step
         ORDER BY message.kind = 'campaign', o.campaign_id, min(message.step_after)"
    ))?;
    let rows = rows.query_map(values, |row| {
        Ok(Returned {
            kind: row.get("kind")?,
            campaign_id: row.get("campaign_id")?,
            step: row.get("step")?,
            sent: row.get("sent")?,
            hard: row.get("hard")?,
            soft: row.get("soft")?,
            blocked: row.get("blocked")?,
            elsewhere: row.get("elsewhere")?,
            delayed: row.get("delayed")?,
            complaints: row.get("complaints")?,
            unsubscribes: row.get("unsubscribes")?,
        })
    })?;
    rows.collect()
}

impl Reports<'_> {
    /// Records reports, and takes those off the list whom they are about; what became of each, in order. One commit.
    ///
    /// A hard bounce takes its address off only if it is about the address that the message was sent to, if nobody has taken
    /// the address back since the message left, and unless `dead` has it held.
    pub fn file(&mut self, reports: &[Report], dead: DeadAddresses, now: Instant) -> Result<Vec<Filed>, Failure> {
        let at = instant::text(now);
        self.0.journaled(|ledger| {
            ledger.write(Durability::Full, |tx| {
                let mut unmatched = Unmatched::default();
                reports.iter().map(|report| file_one(tx, report, dead, &mut unmatched, &at)).collect()
            })
        })
    }

    /// Takes those off the list whose dead addresses were held; says how many. A person has looked.
    pub fn apply_held(&mut self, now: Instant) -> Result<u64, Failure> {
        let (at, since) = (instant::text(now), instant::text(now - HELD_FOR));
        self.0.journaled(|ledger| {
            ledger.write(Durability::Full, |tx| {
                let mut applied = 0;
                for message in held(&Reading(tx), &since)? {
                    if let Some(sent) = sent_message(tx, message)? {
                        applied += u64::from(suppress_dead(tx, &sent, "hard bounce", &at)?);
                    }
                }
                Ok(applied)
            })
        })
    }

    /// Settles doubts by reports that return a message's own header: its server had taken it over. Only where one body was
    /// begun, or the report might be of another try. The caller holds the run lock. Says how many.
    pub fn settle_doubts(&mut self, now: Instant) -> Result<u64, Failure> {
        let proofs: BTreeMap<i64, (String, String)> = self.0.read(|conn| {
            let mut rows = conn.prepare_cached(
                "SELECT m.id, r.received_at, r.class || coalesce(' ' || r.status, '') || coalesce(': ' || r.diagnostic, '')
                 FROM message AS m JOIN report AS r ON r.message = m.id AND r.proves = 1
                 WHERE m.state = 'in_doubt' AND NOT EXISTS (
                     SELECT 1 FROM attempt AS a WHERE a.message = m.id AND a.armed_at IS NOT NULL AND a.armed_at <> m.armed_at)",
            )?;
            rows.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?.collect()
        })?;
        if proofs.is_empty() {
            return Ok(0);
        }
        let mut settled = 0;
        for message in self.0.in_doubt()? {
            let Some((received_at, said)) = proofs.get(&message.id) else { continue };
            let resolution = Resolution {
                decision: Decision::Sent,
                who: "bounces".into(),
                reason: format!("a report of {received_at} returns its header: the server had taken it over"),
                evidence: Some(said.clone()),
            };
            settled += u64::from(self.0.books().resolve(&message, &resolution, now)? == Resolved::Done);
        }
        Ok(settled)
    }

    /// Stops campaigns whose newest opening these messages belong to, where what came back passes a limit; says which. A
    /// person lets one go on with `campaign resume`: the same opening does not stop it again.
    pub fn stop_campaigns(&mut self, messages: &[i64], at: StopAt, now: Instant) -> Result<Vec<Stopped>, Failure> {
        let mut occurrences: Vec<i64> = Vec::new();
        for message in messages {
            let of: Option<i64> = self.0.read(|conn| {
                conn.prepare_cached(
                    "SELECT o.id FROM message AS m JOIN campaign_occurrence AS o ON o.id = m.occurrence
                     JOIN scheduled_campaign AS c USING (campaign_id)
                     WHERE m.id = ?1 AND o.stopped_at IS NULL AND c.status IN ('pending', 'running', 'completed')
                         AND o.planned_at = (SELECT max(planned_at) FROM campaign_occurrence AS newest
                                             WHERE newest.campaign_id = o.campaign_id AND newest.state = 'opened')",
                )?
                .query_row([message], |row| row.get(0))
                .optional()
            })?;
            occurrences.extend(of.filter(|of| !occurrences.contains(of)));
        }
        let mut stopped = Vec::new();
        for occurrence in occurrences {
            stopped.extend(self.stop_if_passed(occurrence, at, now)?);
        }
        Ok(stopped)
    }

    fn stop_if_passed(&mut self, occurrence: i64, at: StopAt, now: Instant) -> Result<Option<Stopped>, Failure> {
        let when = instant::text(now);
        self.0.write(Durability::Full, |tx| {
            let counts = tally::of_occurrence(&Reading(tx), occurrence)?;
            let of = |state: State| -> u64 { counts.iter().filter(|(of, ..)| *of == state).map(|(.., number)| number).sum() };
            let came_back = |class: &str| -> rusqlite::Result<u64> {
                tx.prepare_cached(
                    "SELECT count(DISTINCT r.message) FROM report AS r JOIN message AS m ON m.id = r.message
                     WHERE m.occurrence = ?1 AND r.class = ?2",
                )?
                .query_row((occurrence, class), |row| row.get(0))
            };
            let (complaints, hard) = (came_back("complaint")?, came_back("hard")?);
            let sent = of(State::Sent) + of(State::InDoubt) + of(State::Refused);
            if sent < at.after {
                return Ok(None);
            }
            let passed = |number: u64, limit: u64| number * 10_000 > sent * limit;
            let why = match (passed(complaints, at.complaints), passed(hard, at.hard_bounces)) {
                (true, _) => format!("{} about {}", count(complaints, "complaint"), count(sent, "message")),
                (_, true) => format!("{} among {}", count(hard, "dead address"), count(sent, "message")),
                _ => return Ok(None),
            };
            let (campaign_id, planned_at): (String, String) = tx.query_row(
                "SELECT campaign_id, planned_at FROM campaign_occurrence WHERE id = ?1",
                [occurrence],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            tx.execute("UPDATE campaign_occurrence SET stopped_at = ?2 WHERE id = ?1", (occurrence, &when))?;
            tx.execute("UPDATE scheduled_campaign SET status = 'paused' WHERE campaign_id = ?1", [&campaign_id])?;
            let line = format!(
                "campaign {campaign_id} is paused: {why} of {planned_at} came back; nothing more of it is sent until `mailonce \
                 campaign resume {campaign_id}`"
            );
            record_event(tx, &Event { kind: "stopped", key: format!("stopped:{campaign_id}"), line, at: &when })?;
            Ok(Some(Stopped { campaign_id, planned_at, why }))
        })
    }
}

/// What is needed of the message that a report is about.
struct Sent {
    id: i64,
    recipient: String,
    folded_address: String,
    /// When its body was begun, the last time.
    armed_at: String,
}

/// `None` when no body of it was ever begun: nothing can have come back.
fn sent_message(tx: &Connection, message: i64) -> rusqlite::Result<Option<Sent>> {
    tx.prepare_cached(
        "SELECT m.id, recipient, folded_address,
             coalesce(m.armed_at, (SELECT max(armed_at) FROM attempt WHERE message = m.id), m.settled_at) AS begun_at
         FROM message AS m WHERE m.id = ?1 AND (m.armed_at IS NOT NULL OR m.state = 'refused'
             OR EXISTS (SELECT 1 FROM attempt WHERE message = m.id AND armed_at IS NOT NULL))",
    )?
    .query_row([message], |row| {
        Ok(Sent { id: row.get(0)?, recipient: row.get(1)?, folded_address: row.get(2)?, armed_at: row.get(3)? })
    })
    .optional()
}

/// How many reports match no message, counted once a commit: no index has them, and a mailbox gets any amount of them.
#[derive(Default)]
struct Unmatched(Option<u32>);

impl Unmatched {
    /// Up to [`MOST_UNMATCHED`].
    fn number(&mut self, tx: &Connection) -> rusqlite::Result<u32> {
        if let Some(number) = self.0 {
            return Ok(number);
        }
        let count = format!("SELECT count(*) FROM (SELECT 1 FROM report WHERE message IS NULL LIMIT {MOST_UNMATCHED})");
        let number = tx.prepare_cached(&count)?.query_row([], |row| row.get(0))?;
        Ok(*self.0.insert(number))
    }
}

fn file_one(
    tx: &Connection,
    report: &Report,
    dead: DeadAddresses,
    unmatched: &mut Unmatched,
    now: &str,
) -> rusqlite::Result<Filed> {
    if tx.prepare_cached("SELECT 1 FROM report WHERE digest = ?1")?.exists([&report.digest])? {
        return Ok(Filed::Known);
    }
    let sent = match report.message {
        Some(message) => sent_message(tx, message)?,
        None => None,
    };
    let is_full = match &sent {
        Some(sent) => {
            // The limit as a number: SQLite compiles a statement anew for each value that is bound to one.
            let count =
                format!("SELECT count(*) FROM (SELECT 1 FROM report WHERE message = ?1 LIMIT {MOST_OF_A_MESSAGE})");
            let known: u32 = tx.prepare_cached(&count)?.query_row([sent.id], |row| row.get(0))?;
            known >= MOST_OF_A_MESSAGE
        }
        None => unmatched.number(tx)? >= MOST_UNMATCHED,
    };
    let class = match (&sent, report.class) {
        (Some(sent), Class::Hard | Class::Soft | Class::Other) if is_elsewhere(sent, &report.about) => Class::Elsewhere,
        (_, class) => class,
    };
    // A wish is heard however many reports there are, if it is known whose it is.
    if is_full && (class != Class::Complaint || sent.is_none()) {
        return Ok(Filed::Known);
    }
    // Their words may name somebody who is forgotten.
    let is_forgotten = match &sent {
        Some(sent) => {
            tx.prepare_cached("SELECT 1 FROM forgotten WHERE pseudonym = ?1")?.exists([&sent.folded_address])?
        }
        None => false,
    };
    let kept = |words: &Option<String>| words.clone().filter(|_| !is_forgotten);
    tx.prepare_cached(
        "INSERT INTO report (digest, received_at, message, folded_address, class, action, status, diagnostic, reporter, proves)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute((
        &report.digest,
        now,
        sent.as_ref().map(|sent| sent.id),
        sent.as_ref().map(|sent| &sent.folded_address),
        class.word(),
        &report.action,
        &report.status,
        kept(&report.diagnostic),
        kept(&report.reporter),
        report.proves && sent.is_some(),
    ))?;
    let Some(sent) = sent else {
        unmatched.0 = unmatched.0.map(|number| number + 1);
        return Ok(Filed::Unmatched);
    };
    let said = report.diagnostic.as_deref().or(report.status.as_deref()).unwrap_or("no reason given");
    let said: String = said.chars().take(120).collect();
    let suppressed = match class {
        Class::Complaint => suppress(tx, &sent.folded_address, list::ALL, "complained", Origin::Complaint, now)?,
        Class::Hard if dead == DeadAddresses::Suppress => {
            suppress_dead(tx, &sent, &format!("hard bounce: {said}"), now)?
        }
        Class::Soft | Class::Other => match row_of_bounces(tx, &sent)? {
            true => suppress_dead(tx, &sent, &format!("{SOFT_IN_A_ROW} messages in a row came back: {said}"), now)?,
            false => false,
        },
        _ => false,
    };
    Ok(Filed::Recorded { class, suppressed })
}

/// Whether a report names addresses, and the message was sent to none of them: a forwarder's second mailbox, one member of
/// an alias.
fn is_elsewhere(sent: &Sent, about: &[String]) -> bool {
    let own = Address::parse(&sent.recipient).map(|address| address.folded().to_owned());
    let is_own = |address: &str| {
        let address = Address::parse(address);
        address.is_ok_and(|it| it.folded() == sent.folded_address || own.as_ref().is_ok_and(|own| own == it.folded()))
    };
    !about.is_empty() && !about.iter().any(|address| is_own(address) || is_own(&without_xtext(address)))
}

/// An address as some servers repeat it from ORCPT: `ada+2Btag@example.com` is `ada+tag@example.com` (RFC 3461 §4).
fn without_xtext(address: &str) -> String {
    let mut pieces = address.split('+');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let code = piece.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(u8::is_ascii_graphic);
        match code {
            Some(code) => plain.extend([char::from(code).to_string().as_str(), &piece[2..]]),
            None => plain.extend(["+", piece]),
        }
    }
    plain
}

/// Takes an address off the list that is dead, unless someone took it back after the message left.
fn suppress_dead(tx: &Connection, sent: &Sent, reason: &str, now: &str) -> rusqlite::Result<bool> {
    let taken_back: bool = tx
        .prepare_cached("SELECT 1 FROM removed_suppression WHERE folded_address = ?1 AND removed_at >= ?2")?
        .exists([&sent.folded_address, &sent.armed_at])?;
    if taken_back {
        return Ok(false);
    }
    suppress(tx, &sent.folded_address, list::ALL, reason, Origin::Bounce, now)
}

/// Whether the last messages to an address that came back make a row: so many, over so long, and between the first and the
/// last of them none that did not come back.
fn row_of_bounces(tx: &Connection, sent: &Sent) -> rusqlite::Result<bool> {
    let armed: Vec<String> = tx
        .prepare_cached(&format!(
            "SELECT m.armed_at FROM message AS m WHERE m.id IN (
                 SELECT message FROM report WHERE folded_address = ?1 AND class IN ('soft', 'other', 'hard'))
                 AND m.armed_at > coalesce((SELECT max(removed_at) FROM removed_suppression WHERE folded_address = ?1), '')
             ORDER BY m.armed_at DESC LIMIT {SOFT_IN_A_ROW}"
        ))?
        .query_map([&sent.folded_address], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let (Some(last), Some(first), true) = (armed.first(), armed.last(), armed.len() == SOFT_IN_A_ROW) else {
        return Ok(false);
    };
    let span = instant::from_text(last).zip(instant::from_text(first)).map(|(last, first)| last - first);
    if span.is_none_or(|span| span < SOFT_FOR) {
        return Ok(false);
    }
    let got_through: bool = tx
        .prepare_cached(
            "SELECT 1 WHERE EXISTS (
                 SELECT 1 FROM message AS m WHERE m.folded_address = ?1 AND m.cart_hash IS NOT NULL AND m.state = 'sent'
                     AND m.armed_at > ?2 AND m.armed_at < ?3
                     AND NOT EXISTS (SELECT 1 FROM report AS r WHERE r.message = m.id AND r.class IN ('soft', 'other', 'hard')))
             OR EXISTS (
                 SELECT 1 FROM campaign_occurrence AS o CROSS JOIN message AS m INDEXED BY one_per_occurrence_and_address
                     ON m.kind = 'campaign' AND m.occurrence = o.id AND m.folded_address = ?1
                 WHERE o.state = 'opened' AND o.expires_at > ?2 AND m.state = 'sent' AND m.armed_at > ?2 AND m.armed_at < ?3
                     AND NOT EXISTS (SELECT 1 FROM report AS r WHERE r.message = m.id AND r.class IN ('soft', 'other', 'hard')))",
        )?
        .exists((&sent.folded_address, first, last))?;
    Ok(!got_through)
}

/// Messages whose dead address is known and was held.
fn held(conn: &Reading<'_>, since: &str) -> rusqlite::Result<Vec<i64>> {
    let mut rows = conn.prepare_cached(
        "SELECT DISTINCT message FROM report AS r WHERE received_at >= ?1 AND class = 'hard' AND message IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM suppression AS s WHERE s.folded_address = r.folded_address AND s.list = '')
             AND NOT EXISTS (SELECT 1 FROM removed_suppression AS s WHERE s.folded_address = r.folded_address AND s.removed_at >= r.received_at)",
    )?;
    rows.query_map([since], |row| row.get(0))?.collect()
}

impl Records {
    /// How many dead addresses are held for a person to decide.
    pub fn count_held(&self, now: Instant) -> Result<u64, Failure> {
        let since = instant::text(now - HELD_FOR);
        self.read(|conn| Ok(held(conn, &since)?.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::without_xtext;

    #[test]
    fn an_address_is_known_also_as_its_server_repeats_it() {
        for (given, plain) in [
            ("ada+2Btag@example.com", "ada+tag@example.com"),
            ("a+3Db@example.com", "a=b@example.com"),
            ("ada+tag@example.com", "ada+tag@example.com"),
            ("ada@example.com", "ada@example.com"),
            ("ada+2@example.com", "ada+2@example.com"),
            ("ada+é@example.com", "ada+é@example.com"),
        ] {
            assert_eq!(without_xtext(given), plain);
        }
    }
}
