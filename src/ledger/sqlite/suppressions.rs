//! The suppression list: addresses that are never written to, or not about one kind of thing.

use rusqlite::{Connection, OptionalExtension};

use super::{Durability, Memory, Records, Suppressions};
use crate::domain::address::Address;
use crate::domain::instant::{self, Instant};
use crate::domain::list;
use crate::domain::state::Origin;
use crate::domain::unsubscribe::{Scope, Token};
use crate::failure::Failure;
use crate::ledger::{ListedOptOut, Suppression, Wish};

/// So many addresses share a commit.
const BATCH: usize = 1_000;

/// Whether the address of a row of `message` gets no mail of its kind.
pub(super) const IS_SUPPRESSED: &str = "EXISTS (
    SELECT 1 FROM suppression AS s WHERE s.folded_address = message.folded_address
        AND (s.list = '' OR s.list = CASE WHEN message.occurrence IS NULL THEN 'cart'
             ELSE (SELECT coalesce(list, 'news') FROM campaign_occurrence WHERE id = message.occurrence) END))";

/// A person who is forgotten, by the pseudonyms `?1` and `?2` of the address, is taken back at `?3`, with accounts that were
/// forgotten with it.
pub(super) const TAKE_BACK: &str = "UPDATE forgotten SET taken_back_at = ?3
    WHERE taken_back_at IS NULL AND (pseudonym IN (?1, ?2) OR substr(pseudonym, instr(pseudonym, ' ') + 1) IN (?1, ?2))";

impl Records {
    /// Whether an address gets no mail of this list.
    pub fn is_suppressed(&self, folded_address: &str, list: &str) -> Result<bool, Failure> {
        self.read(|conn| {
            conn.prepare_cached("SELECT 1 FROM suppression WHERE folded_address = ?1 AND (list = '' OR list = ?2)")?
                .exists([folded_address, list])
        })
    }

    /// Whether a message is to an address that is on the list for it, so that a run skips it.
    pub fn is_to_one_suppressed(&self, message: i64) -> Result<bool, Failure> {
        self.read(|conn| {
            conn.prepare_cached(
                "SELECT 1 FROM message AS m LEFT JOIN campaign_occurrence AS o ON o.id = m.occurrence
                 JOIN suppression AS s ON s.folded_address = m.folded_address
                     AND s.list IN ('', iif(m.kind = 'campaign', coalesce(o.list, ?2), ?3))
                 WHERE m.id = ?1",
            )?
            .exists((message, list::CAMPAIGNS, list::CARTS))
        })
    }

    /// What is known of an address on the list, all mail first.
    pub fn suppressions_of(&self, address: &Address) -> Result<Vec<Suppression>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare_cached(
                "SELECT folded_address, list, reason, added_at, origin FROM suppression
                 WHERE folded_address IN (?1, ?2) ORDER BY list",
            )?;
            rows.query_map(names_of(address), suppression_from)?.collect()
        })
    }

    /// The list, in order of address.
    pub fn each_suppression(&self, mut each: impl FnMut(Suppression)) -> Result<(), Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT folded_address, list, reason, added_at, origin FROM suppression ORDER BY folded_address, list",
            )?;
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                each(suppression_from(row)?);
            }
            Ok(())
        })
    }

    /// Whether the shop's own list says something new: nobody heard it before, and nobody took it back after it was said.
    pub fn is_new_opt_out(&self, opt_out: &ListedOptOut) -> Result<bool, Failure> {
        let said_at = opt_out.changed_at.map_or_else(String::new, instant::text);
        self.read(|conn| {
            conn.prepare_cached(
                "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM suppression WHERE folded_address = ?1 AND list = ''
                                            AND origin IN ('one-click', 'mail', 'source', 'complaint'))
                     AND NOT EXISTS (SELECT 1 FROM removed_suppression WHERE folded_address = ?1 AND origin = 'source'
                                     AND removed_at >= ?2)",
            )?
            .exists([opt_out.address.folded(), &said_at])
        })
    }

    /// Addresses that are on the list because they were found dead since then, and for nothing that came before.
    pub fn found_dead_since(&self, since: Instant) -> Result<Vec<Address>, Failure> {
        let found: Vec<String> = self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT DISTINCT folded_address FROM suppression WHERE origin = 'bounce' AND added_at >= ?1 ORDER BY 1",
            )?;
            rows.query_map([instant::text(since)], |row| row.get(0))?.collect()
        })?;
        Ok(found.iter().filter_map(|address| Address::parse(address).ok()).collect())
    }

    /// How many addresses there are messages to.
    pub fn count_addresses(&self) -> Result<u64, Failure> {
        self.read(|conn| conn.query_row("SELECT count(DISTINCT folded_address) FROM message", [], |row| row.get(0)))
    }

    /// Up to when the shop's own list of opt-outs was read.
    pub fn opt_outs_read_to(&self) -> Result<Option<Instant>, Failure> {
        let at: Option<String> =
            self.read(|conn| conn.query_row("SELECT opt_outs_read_to FROM ledger", [], |row| row.get(0)))?;
        Ok(at.as_deref().and_then(instant::from_text))
    }
}

impl Suppressions<'_> {
    /// Adds addresses, for all mail; says how many were new. One that is listed keeps its first reason and date.
    pub fn add(&mut self, addresses: &[(Address, String)], origin: Origin, now: Instant) -> Result<u64, Failure> {
        let now = instant::text(now);
        let forgets = self.0.forgets_someone()?;
        let known = addresses
            .iter()
            .map(|(address, reason)| {
                let is_forgotten = forgets && self.0.memory_of(address, None)? == Memory::Forgotten;
                let name =
                    if is_forgotten { self.0.pseudonym_of(address.folded()) } else { address.folded().to_owned() };
                Ok((name, reason))
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        self.0.journaled(|ledger| {
            ledger.write(Durability::Full, |tx| {
                let mut added = 0;
                for (address, reason) in &known {
                    added += u64::from(suppress(tx, address, list::ALL, reason, origin, &now)?);
                }
                Ok(added)
            })
        })
    }

    /// Takes those off the list whose wish it is, in one commit; what became of each, in order.
    ///
    /// It can be repeated: who is off the list already stays so, with the first date.
    pub fn take_wishes(
        &mut self,
        tokens: &[Token],
        origin: Origin,
        scope: Scope,
        now: Instant,
    ) -> Result<Vec<Wish>, Failure> {
        let now = instant::text(now);
        self.0.journaled(|ledger| {
            ledger.write(Durability::Full, |tx| {
                tokens.iter().map(|token| take_wish(tx, token, origin, scope, &now)).collect()
            })
        })
    }

    /// Adds those whom the shop's own list has, for all mail; says how many were new.
    pub fn add_opt_outs(&mut self, opt_outs: &[ListedOptOut], now: Instant) -> Result<u64, Failure> {
        let of_the_shop = "on the shop's own list of opt-outs".to_owned();
        let addresses: Vec<_> = opt_outs.iter().map(|one| (one.address.clone(), of_the_shop.clone())).collect();
        addresses.chunks(BATCH).try_fold(0, |added, batch| Ok(added + self.add(batch, Origin::Source, now)?))
    }

    /// Notes up to when the shop's own list was read.
    pub fn note_opt_outs_read(&mut self, to: Instant) -> Result<(), Failure> {
        self.0.write(Durability::Lazy, |tx| {
            tx.execute("UPDATE ledger SET opt_outs_read_to = ?1", [instant::text(to)])?;
            Ok(())
        })
    }

    /// Takes an address off the list, for all kinds of mail, or only what is of one origin; says whether it was on it. What stood
    /// there is kept, with `why`.
    pub fn remove(
        &mut self,
        address: &Address,
        only: Option<Origin>,
        why: &str,
        now: Instant,
    ) -> Result<bool, Failure> {
        let (now, only) = (instant::text(now), only.map(Origin::word));
        let hidden = names_of(address).map(|name| self.0.pseudonym_of(name));
        let removed = self.0.write(Durability::Full, |tx| {
            let [name, former] = names_of(address);
            tx.execute(
                "INSERT INTO removed_suppression (folded_address, reason, added_at, origin, list, removed_at, removed_why)
                 SELECT folded_address, reason, added_at, origin, list, ?3, ?4 FROM suppression
                 WHERE folded_address IN (?1, ?2) AND (?5 IS NULL OR origin = ?5)",
                (name, former, &now, why, only),
            )?;
            let gone = "DELETE FROM suppression WHERE folded_address IN (?1, ?2) AND (?3 IS NULL OR origin = ?3)";
            let removed = tx.execute(gone, (name, former, only))? > 0;
            let taken_back = tx.execute(
                &format!("{TAKE_BACK} AND ?4 IS NULL"),
                (&hidden[0], &hidden[1], &now, only),
            )?;
            Ok(removed || taken_back > 0)
        })?;
        if removed {
            for name in names_of(address) {
                self.write_down_removal(name, only, why, &now)?;
            }
        }
        Ok(removed)
    }
}

/// Puts an address on the list within a transaction; says whether that is news.
///
/// A wish is news unless there is one already for as much, what a person listed unless a person did, and a bounce unless anything
/// is there. So what people want outlives the bounce that was there before it.
pub(super) fn suppress(
    tx: &Connection,
    folded_address: &str,
    list: &str,
    reason: &str,
    origin: Origin,
    now: &str,
) -> rusqlite::Result<bool> {
    let added = tx
        .prepare_cached(
            "INSERT INTO suppression (folded_address, list, reason, added_at, origin) SELECT ?1, ?2, ?3, ?4, ?5
             WHERE NOT EXISTS (SELECT 1 FROM suppression WHERE folded_address = ?1 AND (list = '' OR list = ?2)
                               AND CASE WHEN ?6 THEN origin IN ('one-click', 'mail', 'source', 'complaint')
                                   ELSE ?5 = 'bounce' OR origin <> 'bounce' END)",
        )?
        .execute((folded_address, list, reason, now, origin.word(), origin.is_a_wish()))?;
    Ok(added > 0)
}

fn take_wish(tx: &Connection, token: &Token, origin: Origin, scope: Scope, now: &str) -> rusqlite::Result<Wish> {
    let Some((message, address, message_list)) = message_of(tx, token)? else { return Ok(Wish::Unknown) };
    let list = match scope {
        Scope::All => list::ALL.to_owned(),
        Scope::List => message_list,
    };
    let is_new = suppress(tx, &address, &list, "asked to get no more", origin, now)?;
    tx.prepare_cached(
        "INSERT INTO report (digest, received_at, message, folded_address, class, reporter) SELECT ?1, ?2, ?3, ?4, 'unsubscribe', ?5
         WHERE NOT EXISTS (SELECT 1 FROM report WHERE digest = ?1)",
    )?
    .execute((digest_of(token), now, message, &address, origin.word()))?;
    Ok(Wish::Heard { address, list, is_new })
}

/// The message that a token is of, whom it went to, and on which list that is. By its row; where another is there, because an
/// old copy of the ledger was put back, by its Message-ID.
fn message_of(tx: &Connection, token: &Token) -> rusqlite::Result<Option<(i64, String, String)>> {
    const WHAT: &str = "SELECT id, folded_address, CASE WHEN occurrence IS NULL THEN 'cart'
        ELSE (SELECT coalesce(list, 'news') FROM campaign_occurrence WHERE id = occurrence) END AS list FROM message";
    let begins = format!("<{}@*", token.message);
    let found = |rest: &str, row: i64| {
        tx.prepare_cached(&format!("{WHAT} WHERE message_id GLOB ?1 AND {rest}"))?
            .query_row((&begins, row), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()
    };
    match found("id = ?2", token.row)? {
        None => found("id <> ?2 LIMIT 1", token.row),
        known => Ok(known),
    }
}

/// What a wish counts once by: however often the link is followed.
fn digest_of(token: &Token) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    Sha256::digest(format!("unsubscribe {}", token.message)).to_vec()
}

pub(super) fn names_of(address: &Address) -> [&str; 2] {
    [address.folded(), address.formerly_folded().unwrap_or(address.folded())]
}

fn suppression_from(row: &rusqlite::Row<'_>) -> rusqlite::Result<Suppression> {
    Ok(Suppression {
        address: row.get("folded_address")?,
        list: row.get("list")?,
        reason: row.get("reason")?,
        added_at: row.get("added_at")?,
        origin: row.get("origin")?,
    })
}
