//! Forgetting a person: what tells who it was goes from every row; that a message was sent, and that no more is wanted, stays
//! behind a keyed hash of the address.

use hmac::{Hmac, KeyInit, Mac};
use rusqlite::{Connection, OptionalExtension};
use sha2::Sha256;

use super::columns::optional_instant_at;
use super::notices::{Event, record_event, settle_event};
use super::suppressions::{names_of, suppress};
use super::{Durability, Erasures, Records};
use crate::domain::address::Address;
use crate::domain::instant::{self, Instant};
use crate::domain::list;
use crate::domain::message_key;
use crate::domain::state::Origin;
use crate::failure::Failure;
use crate::ledger::Forgotten;

/// A message to a person's address (`?1`, or its former spelling `?2`), and with it all of its episode: a later step may have gone
/// to another address of theirs.
const THEIRS: &str = "(folded_address IN (?1, ?2)
    OR episode IN (SELECT episode FROM message WHERE folded_address IN (?1, ?2) AND episode IS NOT NULL))";

/// A row of an older system's log that is theirs: by the address, or by the user where it has none.
const THEIR_ROW: &str = "(lower(trim(email)) IN (?1, ?2)
    OR (trim(coalesce(email, '')) = '' AND identity GLOB 'u:*' AND identity IN (
        SELECT identity FROM message WHERE folded_address IN (?1, ?2)
        UNION SELECT identity FROM cart_abandonment_log WHERE lower(trim(email)) IN (?1, ?2)
        UNION SELECT identity FROM removed_duplicate WHERE lower(trim(email)) IN (?1, ?2))))";

/// What a pseudonym ends in: no mail can go there (RFC 2606 §2).
const NOWHERE: &str = "@forgotten.invalid";

/// The event that a forgetting did not come to its end; it stands within the run that forgets, too.
const UNFINISHED: &str = "forget:unfinished";
/// It names nobody.
const UNFINISHED_LINE: &str = "`mailonce forget` was interrupted: whoever was forgotten is written to no more, but traces of them may be left in the \
                               ledger's files; start the same command again";

/// Whether mail may be planned to an address, as far as its owner was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Nobody asked to forget it.
    Known,
    /// It gets nothing.
    Forgotten,
    /// It was taken back then: only what came after counts.
    Since(Instant),
}

impl Records {
    /// What stands for a text of a person who is forgotten: nobody without this ledger can tell whose it is.
    fn pseudonym(&self, what: &str, text: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.id.as_bytes()).expect("HMAC takes a key of any length");
        mac.update(format!("forgotten {what}\0{text}").as_bytes());
        message_key::hex(&mac.finalize().into_bytes()[..16])
    }

    /// What stands for the address of a person who is forgotten.
    pub(super) fn pseudonym_of(&self, folded_address: &str) -> String {
        self.pseudonym("address", folded_address) + NOWHERE
    }

    /// Whether anyone is forgotten: else no address need be hashed.
    pub fn forgets_someone(&self) -> Result<bool, Failure> {
        self.read(|conn| conn.prepare_cached("SELECT 1 FROM forgotten")?.exists([]))
    }

    /// What stands for a shopper's account; with the pseudonym of an address behind it, for an account that was forgotten with it.
    fn pseudonym_of_account(&self, identity: &str) -> String {
        format!("u:forgotten-{}", self.pseudonym("identity", identity))
    }

    /// Whether the owner of an address was forgotten, or of a shopper's account with whatever address it had then.
    pub fn memory_of(&self, address: &Address, identity: Option<&str>) -> Result<Memory, Failure> {
        let [one, other] = names_of(address).map(|name| self.pseudonym_of(name));
        let account =
            identity.filter(|identity| identity.starts_with("u:")).map(|known| self.pseudonym_of_account(known));
        self.read(|conn| {
            // Those that were not taken back come first, then the one that was taken back last.
            let found: Option<Option<String>> = conn
                .prepare_cached(
                    "SELECT taken_back_at FROM forgotten WHERE pseudonym IN (?1, ?2) OR pseudonym GLOB ?3 || ' *'
                     ORDER BY taken_back_at IS NULL DESC, taken_back_at DESC LIMIT 1",
                )?
                .query_row((&one, &other, &account), |row| row.get(0))
                .optional()?;
            Ok(match found {
                None => Memory::Known,
                Some(taken_back_at) => {
                    taken_back_at.as_deref().and_then(instant::from_text).map_or(Memory::Forgotten, Memory::Since)
                }
            })
        })
    }
}

impl Erasures<'_> {
    /// Forgets whose an address is, in one transaction, and takes it off all lists of recipients for good. The caller holds the
    /// run lock.
    ///
    /// It can be repeated. Traces are left in the file until [`Erasures::overwrite`], and an event stands so long.
    ///
    /// # Errors
    /// Exit 74; nothing is changed.
    pub fn forget(&mut self, address: &Address, now: Instant) -> Result<Forgotten, Failure> {
        let at = instant::text(now);
        let names = names_of(address);
        let pseudonym = self.0.pseudonym_of(address.folded());
        let hides: Vec<(String, String)> = self.0.hidden_names(names, &pseudonym)?;
        let forgotten = self.0.write(Durability::Full, |tx| {
            // Keys of other rows point to those that change.
            tx.pragma_update(None, "defer_foreign_keys", true)?;
            tx.execute(
                "INSERT INTO forgotten (pseudonym, forgotten_at) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET forgotten_at = excluded.forgotten_at, taken_back_at = NULL",
                (&pseudonym, &at),
            )?;
            // The account, too: it may come back with another address.
            for (_, hidden) in hides.iter().filter(|(known, _)| known.starts_with("identity u:")) {
                tx.execute(
                    "INSERT INTO forgotten (pseudonym, forgotten_at) VALUES (?1 || ' ' || ?2, ?3)
                     ON CONFLICT DO UPDATE SET forgotten_at = excluded.forgotten_at, taken_back_at = NULL",
                    (hidden, &pseudonym, &at),
                )?;
            }
            let person = Person { tx, names, pseudonym: &pseudonym, hides: &hides };
            let forgotten = person.stop_messages(&at)?;
            // While the messages still say which account is theirs.
            person.hide_log()?;
            person.hide_messages()?;
            person.hide_lists()?;
            suppress(tx, &pseudonym, list::ALL, "forgotten", Origin::ByHand, &at)?;
            let line = UNFINISHED_LINE.to_owned();
            record_event(tx, &Event { kind: "forget", key: UNFINISHED.to_owned(), line, at: &at })?;
            Ok(forgotten)
        })?;
        self.0.suppressions().forget_in_journal(names, &pseudonym, &at)?;
        Ok(forgotten)
    }

    /// Writes the file anew and empties its log, so that nothing is left of what rows held before: SQLite only lets the room of
    /// a row go. It needs room for twice the ledger; the caller holds the run lock.
    ///
    /// # Errors
    /// Exit 74, as on a full disk: what is forgotten is, and can be read only with tools for that.
    pub fn overwrite(&mut self) -> Result<(), Failure> {
        self.0
            .scratch(|conn| {
                conn.execute_batch("VACUUM")?;
                conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))
            })
            .and_then(|is_busy| match is_busy {
                false => Ok(()),
                true => Err(Failure::ledger(
                    format!("another program reads {}, so that it could not be written anew", self.0.path().display()),
                    "close it, then start the same command again",
                )),
            })
            .map_err(|failure| {
                failure.kept("nobody who is forgotten is written to; traces of them are left in the file")
            })?;
        self.0.write(Durability::Full, |tx| settle_event(tx, UNFINISHED)).map(drop)
    }
}

impl Erasures<'_> {
    /// Forgets anew whom an old copy of the ledger knows again.
    pub(super) fn forget_again(&mut self) -> Result<(), Failure> {
        if !self.0.forgets_someone()? {
            return Ok(());
        }
        let known: Vec<String> = self.0.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT folded_address FROM message UNION SELECT lower(trim(email)) FROM cart_abandonment_log WHERE email IS NOT NULL
                 UNION SELECT lower(trim(email)) FROM removed_duplicate WHERE email IS NOT NULL
                 UNION SELECT folded_address FROM suppression UNION SELECT folded_address FROM removed_suppression",
            )?;
            rows.query_map([], |row| row.get(0))?.collect()
        })?;
        let mut has_forgotten = false;
        for address in known.iter().filter_map(|address| Address::parse(address).ok()) {
            let forgotten_at: Option<Option<Instant>> = self.0.read(|conn| {
                conn.prepare_cached(
                    "SELECT forgotten_at FROM forgotten WHERE pseudonym = ?1 AND taken_back_at IS NULL",
                )?
                .query_row([self.0.pseudonym_of(address.folded())], |row| optional_instant_at(row, 0))
                .optional()
            })?;
            if let Some(Some(at)) = forgotten_at {
                self.forget(&address, at)?;
                has_forgotten = true;
            }
        }
        if has_forgotten { self.overwrite() } else { Ok(()) }
    }
}

impl Records {
    /// Every name by which the ledger knows a person besides the address, and what is to stand for it: identities, carts, orders.
    fn hidden_names(&self, names: [&str; 2], pseudonym: &str) -> Result<Vec<(String, String)>, Failure> {
        let known: Vec<(String, String)> = self.read(|conn| {
            let mut rows = conn.prepare(&format!(
                "WITH theirs AS (SELECT * FROM message WHERE {THEIRS}),
                     logged AS (SELECT identity, cart_id FROM cart_abandonment_log WHERE {THEIR_ROW}
                                UNION SELECT identity, cart_id FROM removed_duplicate WHERE {THEIR_ROW})
                 SELECT 'identity', identity FROM theirs WHERE identity IS NOT NULL
                 UNION SELECT 'identity', identity FROM logged
                 UNION SELECT 'cart', cart_id FROM theirs WHERE cart_id IS NOT NULL
                 UNION SELECT 'cart', cart_id FROM logged WHERE cart_id IS NOT NULL
                 UNION SELECT 'order', order_id FROM recovery WHERE message IN (SELECT id FROM theirs)
                 UNION SELECT 'order', order_id FROM episode_order WHERE message IN (SELECT id FROM theirs)"
            ))?;
            rows.query_map(names, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })?;
        let hide = |(what, name): (String, String)| {
            let hidden = match what.as_str() {
                "identity" if name.starts_with("e:") => format!("e:{pseudonym}"),
                "identity" => self.pseudonym_of_account(&name),
                what => format!("forgotten-{}", self.pseudonym(what, &name)),
            };
            (format!("{what} {name}"), hidden)
        };
        Ok(known.into_iter().map(hide).collect())
    }
}

/// Whose rows are hidden.
struct Person<'a> {
    tx: &'a Connection,
    names: [&'a str; 2],
    pseudonym: &'a str,
    /// What each of the other names becomes, with what it names before it.
    hides: &'a [(String, String)],
}

impl Person<'_> {
    fn count(&self, sql: &str) -> rusqlite::Result<u64> {
        self.tx.query_row(sql, self.names, |row| row.get(0))
    }

    fn hidden(&self, what: &str, name: &str) -> &str {
        let named = format!("{what} {name}");
        self.hides.iter().find(|(known, _)| *known == named).map_or("forgotten", |(_, hidden)| hidden)
    }

    /// What is planned is not sent any more.
    fn stop_messages(&self, at: &str) -> rusqlite::Result<Forgotten> {
        let not_sent = self.tx.execute(
            &format!(
                "UPDATE message SET state = 'skipped', reason = 'suppressed', settled_at = ?3
                 WHERE {THEIRS} AND state = 'planned'"
            ),
            (self.names[0], self.names[1], at),
        )?;
        Ok(Forgotten {
            not_sent: not_sent as u64,
            messages: self.count(&format!("SELECT count(*) FROM message WHERE {THEIRS}"))?,
            in_doubt: self
                .count("SELECT count(*) FROM message WHERE folded_address IN (?1, ?2) AND state = 'in_doubt'")?,
            episodes: self.count(
                "SELECT count(*) FROM cart_abandonment_log WHERE lower(trim(email)) IN (?1, ?2)
                     OR message_key IN (SELECT episode FROM message WHERE folded_address IN (?1, ?2))",
            )?,
            reports: self.count("SELECT count(*) FROM report WHERE folded_address IN (?1, ?2)")?,
            to_other_addresses: self.count(
                "SELECT count(*) FROM message WHERE cart_hash IS NOT NULL AND folded_address NOT IN (?1, ?2)
                     AND identity IN (SELECT identity FROM message WHERE folded_address IN (?1, ?2))",
            )?,
        })
    }

    fn hide_messages(&self) -> rusqlite::Result<()> {
        let theirs: Vec<Theirs> = self
            .tx
            .prepare(
                &format!("SELECT id, message_key, episode, identity, cart_id, folded_address, last_reply FROM message WHERE {THEIRS}"),
            )?
            .query_map(self.names, Theirs::from)?
            .collect::<rusqlite::Result<_>>()?;
        for message in &theirs {
            let identity = message.identity.as_deref().map(|name| self.hidden("identity", name));
            let cart_id = message.cart_id.as_deref().map(|name| self.hidden("cart", name));
            let episode = message.episode.as_deref().map(|key| self.hidden_key(message, key));
            self.tx
                .prepare_cached(
                    "UPDATE message SET message_key = ?2, episode = ?3, identity = ?4, cart_id = ?5, recipient = ?6,
                         folded_address = ?6, recipient_values = iif(recipient_values IS NULL, NULL, '{}'), locale = NULL, last_reply = ?7 WHERE id = ?1",
                )?
                .execute((
                    message.id,
                    self.hidden_key(message, &message.key),
                    &episode,
                    identity,
                    cart_id,
                    self.pseudonym,
                    message.last_reply.as_deref().map(code_of),
                ))?;
            // Its row of the log goes by the same key.
            self.tx
                .prepare_cached(
                    "UPDATE cart_abandonment_log SET message_key = ?2, identity = ?3, cart_id = ?4, email = ?5, user_id = NULL,
                         cart_value = NULL, currency = NULL, old_id = NULL, extra = NULL WHERE message_key = ?1",
                )?
                .execute((&message.episode, &episode, identity, cart_id, self.pseudonym))?;
            self.hide_words(message.id)?;
            for table in ["recovery", "episode_order"] {
                self.hide_orders(table, message.id)?;
            }
        }
        Ok(())
    }

    /// A cart's key begins with who it is and what was in it, a campaign's ends in the address.
    fn hidden_key(&self, message: &Theirs, key: &str) -> String {
        let hidden = match &message.identity {
            // Of whoever began the episode, who may have had another identity then.
            Some(_) => self.hides.iter().find_map(|(known, hidden)| {
                let rest = key.strip_prefix("cart/")?.strip_prefix(known.strip_prefix("identity ")?)?;
                rest.starts_with('/').then(|| format!("cart/{hidden}{rest}"))
            }),
            None => key.strip_suffix(&message.folded_address).map(|rest| format!("{rest}{}", self.pseudonym)),
        };
        hidden.unwrap_or_else(|| key.to_owned())
    }

    /// Of what a server said only its code stays, of what a person or a log said nothing.
    fn hide_words(&self, message: i64) -> rusqlite::Result<()> {
        let replies: Vec<(i64, String)> = self
            .tx
            .prepare_cached("SELECT id, reply FROM attempt WHERE message = ?1")?
            .query_map([message], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (id, reply) in replies {
            self.tx.prepare_cached("UPDATE attempt SET reply = ?2 WHERE id = ?1")?.execute((id, code_of(&reply)))?;
        }
        self.tx
            .prepare_cached(
                "UPDATE resolution SET reason = 'forgotten', evidence = iif(evidence IS NULL, NULL, 'forgotten') WHERE message = ?1",
            )?
            .execute([message])?;
        self.tx
            .prepare_cached("UPDATE report SET folded_address = ?2, diagnostic = NULL, reporter = iif(reporter = 'the mail server', reporter, NULL) WHERE message = ?1")?
            .execute((message, self.pseudonym))?;
        self.tx
            .prepare_cached("UPDATE coupon_code SET folded_address = ?2 WHERE message = ?1")?
            .execute((message, self.pseudonym))?;
        Ok(())
    }

    fn hide_orders(&self, table: &str, message: i64) -> rusqlite::Result<()> {
        let orders: Vec<String> = self
            .tx
            .prepare_cached(&format!("SELECT order_id FROM {table} WHERE message = ?1"))?
            .query_map([message], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for order in orders {
            self.tx
                .prepare_cached(&format!("UPDATE {table} SET order_id = ?3 WHERE message = ?1 AND order_id = ?2"))?
                .execute((message, &order, self.hidden("order", &order)))?;
        }
        Ok(())
    }

    /// Rows of the log, those of an older system too.
    fn hide_log(&self) -> rusqlite::Result<()> {
        for table in ["cart_abandonment_log", "removed_duplicate"] {
            let rows: Vec<(i64, String, Option<String>)> = self
                .tx
                .prepare(&format!("SELECT rowid, identity, cart_id FROM {table} WHERE {THEIR_ROW}"))?
                .query_map(self.names, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<rusqlite::Result<_>>()?;
            for (row, identity, cart_id) in rows {
                self.tx
                    .prepare_cached(&format!(
                        "UPDATE {table} SET identity = ?2, cart_id = ?3, email = ?4, user_id = NULL, cart_value = NULL,
                             currency = NULL, old_id = NULL, extra = NULL WHERE rowid = ?1"
                    ))?
                    .execute((
                        row,
                        self.hidden("identity", &identity),
                        cart_id.as_deref().map(|cart| self.hidden("cart", cart)),
                        self.pseudonym,
                    ))?;
            }
        }
        Ok(())
    }

    fn hide_lists(&self) -> rusqlite::Result<()> {
        let [one, other] = self.names;
        // Both spellings of an address may be listed for the same.
        for change in [
            "UPDATE OR IGNORE suppression SET folded_address = ?3, reason = 'forgotten' WHERE folded_address IN (?1, ?2)",
            "UPDATE removed_suppression SET folded_address = ?3, reason = 'forgotten', removed_why = 'forgotten' WHERE folded_address IN (?1, ?2)",
        ] {
            self.tx.execute(change, (one, other, self.pseudonym))?;
        }
        self.tx.execute("DELETE FROM suppression WHERE folded_address IN (?1, ?2)", (one, other))?;
        // Two addresses may have become one.
        self.tx.execute(
            "UPDATE tally SET number = (SELECT count(DISTINCT folded_address) FROM suppression) WHERE counted = 'suppressed address'",
            [],
        )?;
        for name in self.names {
            self.hide_where_it_is_said(name)?;
        }
        Ok(())
    }
}

impl Person<'_> {
    /// Words about no message in particular: what a person is told, and reports that match none.
    fn hide_where_it_is_said(&self, name: &str) -> rusqlite::Result<()> {
        let told: Vec<(i64, String)> = self
            .tx
            .prepare("SELECT rowid, notice_key || ' ' || line FROM notice")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (row, _) in told.iter().filter(|(_, words)| names(words, name)) {
            self.tx.execute("DELETE FROM notice WHERE rowid = ?1", [row])?;
        }
        let said: Vec<(i64, String)> = self
            .tx
            .prepare("SELECT id, diagnostic FROM report WHERE message IS NULL AND instr(lower(diagnostic), ?1)")?
            .query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (id, _) in said.iter().filter(|(_, words)| names(words, name)) {
            self.tx.execute(
                "UPDATE report SET folded_address = ?2, diagnostic = NULL, reporter = NULL WHERE id = ?1",
                (id, self.pseudonym),
            )?;
        }
        Ok(())
    }
}

/// Whether these words hold this very address, and not one that ends or begins like it.
fn names(words: &str, address: &str) -> bool {
    let words = words.to_lowercase();
    let is_more = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "._+-".contains(c));
    let stands_alone = |at: usize| {
        let after = &words[at + address.len()..];
        // A full stop may end the sentence.
        !is_more(words[..at].chars().next_back()) && !is_more(after.trim_start_matches('.').chars().next())
    };
    words.match_indices(address).any(|(at, _)| stands_alone(at))
}

/// A message of the person.
struct Theirs {
    id: i64,
    key: String,
    episode: Option<String>,
    identity: Option<String>,
    cart_id: Option<String>,
    folded_address: String,
    last_reply: Option<String>,
}

impl Theirs {
    fn from(row: &rusqlite::Row<'_>) -> rusqlite::Result<Theirs> {
        Ok(Theirs {
            id: row.get("id")?,
            key: row.get("message_key")?,
            episode: row.get("episode")?,
            identity: row.get("identity")?,
            cart_id: row.get("cart_id")?,
            folded_address: row.get("folded_address")?,
            last_reply: row.get("last_reply")?,
        })
    }
}

/// The codes that a reply begins with: `550 5.1.1`.
fn code_of(reply: &str) -> String {
    let is_code = |word: &&str| word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let codes: Vec<&str> = reply.split([' ', '-']).take_while(is_code).take(2).collect();
    if codes.is_empty() { "forgotten".to_owned() } else { codes.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_not_the_end_or_the_beginning_of_another() {
        for words in ["<ann@x.com> is unknown", "to Ann@X.com.", "ann@x.com", "no ann@x.com, sorry"] {
            assert!(names(words, "ann@x.com"), "{words}");
        }
        for words in ["joann@x.com", "ann@x.com.au", "jo.ann@x.com", "ann@x.community", "jo-ann@x.com"] {
            assert!(!names(words, "ann@x.com"), "{words}");
        }
    }

    #[test]
    fn of_a_reply_its_codes_stay() {
        for (reply, codes) in [
            ("550 5.1.1 <ada@example.com>: no such user", "550 5.1.1"),
            ("250-2.0.0 Ok: queued as 1815", "250 2.0.0"),
            ("421 try later", "421"),
            ("written to outbox/1.eml", "forgotten"),
        ] {
            assert_eq!(code_of(reply), codes);
        }
    }
}
