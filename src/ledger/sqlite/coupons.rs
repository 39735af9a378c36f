//! Coupon codes: imported, claimed by a message, freed when that was never begun, burnt once it was.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use rusqlite::{Connection, OptionalExtension};

use super::candidates::{CANDIDATE_COLUMNS, candidate_from};
use super::columns::optional_instant_at;
use super::flows::{flow_of, past_of};
use super::{Books, Coupons, Durability, Reading, Records};
use crate::domain::coupon::{self, Coupon, Pool, WhenEmpty};
use crate::domain::flow::Next;
use crate::domain::instant::{self, Instant};
use crate::domain::message_key;
use crate::failure::Failure;
use crate::ledger::{Candidate, CodeFor, ImportedCodes, PlanRules, PoolState};

/// Who claims a code: known by the address or, about a cart, by the shop's own name of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Person<'a> {
    pub folded_address: &'a str,
    pub identity: Option<&'a str>,
}

/// What a claim found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// This code, which is to be given to the message once that has an id.
    Code(i64),
    /// The pool has none that is valid for long enough.
    Empty,
    /// The person had one of this pool a short while ago.
    HadOne,
}

impl Records {
    /// What is in each pool, by its name.
    pub fn pools(&self, now: Instant) -> Result<Vec<PoolState>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare_cached(
                "SELECT pool, count(*) AS codes,
                        count(*) FILTER (WHERE message IS NULL AND held_at IS NULL AND coalesce(expires_at, '9') > ?1) AS free,
                        count(*) FILTER (WHERE message IS NULL AND held_at IS NOT NULL) AS held,
                        count(*) FILTER (WHERE message IS NULL AND expires_at <= ?1) AS expired,
                        count(*) FILTER (WHERE message IS NOT NULL) AS given,
                        min(expires_at) FILTER (WHERE message IS NULL AND held_at IS NULL AND expires_at > ?1) AS next_ends_at
                 FROM coupon_code GROUP BY pool ORDER BY pool",
            )?;
            rows.query_map([instant::text(now)], |row| {
                Ok(PoolState {
                    pool: row.get("pool")?,
                    codes: row.get("codes")?,
                    free: row.get("free")?,
                    held: row.get("held")?,
                    expired: row.get("expired")?,
                    given: row.get("given")?,
                    next_ends_at: row.get("next_ends_at")?,
                })
            })?
            .collect()
        })
    }

    /// How many codes of a pool can be given to messages that leave now, counted up to `most`.
    pub fn free_codes(&self, pool: &Pool, now: Instant, most: u64) -> Result<u64, Failure> {
        self.read(|conn| {
            conn.prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM coupon_code WHERE pool = ?1 AND message IS NULL AND held_at IS NULL
                     AND coalesce(expires_at, '9') >= ?2 LIMIT ?3)",
            )?
            .query_row((&pool.name, instant::text(now + pool.min_validity), most as i64), |row| row.get(0))
        })
    }

    /// Which of the candidates decided as `plan` would find their pool empty, in the order in which they are planned.
    ///
    /// It writes nothing. Planning asks again, with its own hands on the codes.
    pub fn without_code(&self, rules: &PlanRules, now: Instant) -> Result<Vec<i64>, Failure> {
        if !rules.steps.iter().any(|step| rules.pool_of(step).is_some_and(waits)) {
            return Ok(Vec::new());
        }
        self.read(|conn| {
            let mut chosen = conn.prepare_cached(&format!(
                "SELECT id, {CANDIDATE_COLUMNS} FROM temp.candidate WHERE verdict = 'plan' ORDER BY touched_at, id"
            ))?;
            let carts: Vec<Candidate> = chosen.query_map([], candidate_from)?.collect::<rusqlite::Result<_>>()?;
            let mut free: BTreeMap<&str, Free> = BTreeMap::new();
            let mut without = Vec::new();
            for cart in &carts {
                let Some((pool, leaves_at)) = pool_for(conn, cart, rules, now)? else { continue };
                let person = Person { folded_address: &cart.folded_address, identity: Some(&cart.identity) };
                if had_one(conn, person, pool, now)? {
                    continue;
                }
                let free = match free.entry(&pool.name) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => unknown.insert(free_of(conn, pool, carts.len())?),
                };
                let ends_from = instant::text(leaves_at + pool.min_validity);
                match free.range((ends_from, i64::MIN)..).next().cloned() {
                    Some(code) => drop(free.remove(&code)),
                    None if waits(pool) => without.push(cart.id),
                    None => {}
                }
            }
            Ok(without)
        })
    }
}

/// When each of some free codes ends, and its id.
type Free = BTreeSet<(String, i64)>;

/// The free codes of a pool that end last: for `most` messages, those that end earlier make no difference.
fn free_of(conn: &Reading<'_>, pool: &Pool, most: usize) -> rusqlite::Result<Free> {
    let mut free = conn.prepare_cached(
        "SELECT coalesce(expires_at, '9'), id FROM coupon_code WHERE pool = ?1 AND message IS NULL AND held_at IS NULL
         ORDER BY coalesce(expires_at, '9') DESC LIMIT ?2",
    )?;
    free.query_map((&pool.name, most as i64), |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Whether a message waits for a code of this pool.
fn waits(pool: &Pool) -> bool {
    pool.when_empty == WhenEmpty::Wait
}

/// The pool of the step that is due for a cart, and when its message would leave.
fn pool_for<'a>(
    conn: &Reading<'_>,
    cart: &Candidate,
    rules: &'a PlanRules,
    now: Instant,
) -> rusqlite::Result<Option<(&'a Pool, Instant)>> {
    let flow = flow_of(cart, &past_of(conn, cart, now)?, rules, now);
    let Next::Due { step, until } = flow.next else { return Ok(None) };
    let step = &rules.steps[step];
    let key = flow.episode.map_or_else(
        || message_key::cart(&cart.identity, &cart.cart_hash, now),
        |episode| message_key::step(&episode, &step.name),
    );
    let leaves_at = rules.place(cart, now, &key);
    // One whose window opens too late expires, and needs none.
    Ok(rules.pool_of(step).filter(|_| leaves_at < until).map(|pool| (pool, leaves_at)))
}

impl Coupons<'_> {
    /// Adds codes to a pool. One that is there already, in any pool and spelling, is not added again.
    pub fn import(&mut self, pool: &str, codes: &[Coupon], now: Instant) -> Result<ImportedCodes, Failure> {
        let at = instant::text(now);
        self.0.write(Durability::Full, |tx| {
            let mut imported = ImportedCodes::default();
            let mut known = tx.prepare("SELECT 1 FROM coupon_code WHERE folded_code = ?1")?;
            let mut add = tx.prepare(
                "INSERT INTO coupon_code (pool, code, folded_code, expires_at, imported_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for Coupon { code, expires_at } in codes {
                let folded = coupon::folded(code);
                if known.exists([&folded])? {
                    imported.repeated += 1;
                    continue;
                }
                add.execute((pool, code.trim(), folded, expires_at.map(instant::text), &at))?;
                imported.added += 1;
            }
            Ok(imported)
        })
    }

    /// Lets the codes of a pool go again that are held since an old copy of the ledger was put back; says how many.
    pub fn release(&mut self, pool: &str) -> Result<u64, Failure> {
        self.0.write(Durability::Full, |tx| {
            let released =
                "UPDATE coupon_code SET held_at = NULL WHERE pool = ?1 AND held_at IS NOT NULL AND message IS NULL";
            tx.execute(released, [pool]).map(|codes| codes as u64)
        })
    }
}

impl Books<'_> {
    /// The code that a planned message leaves with now: the one it has, another one where that ends too soon and no body had it
    /// yet, or one that it claims.
    pub fn code_for(
        &mut self,
        message: i64,
        folded_address: &str,
        pool: &Pool,
        now: Instant,
    ) -> Result<CodeFor, Failure> {
        let ends_from = instant::text(now + pool.min_validity);
        let at = instant::text(now);
        let existing = self.0.read(|conn| code_of(conn, message))?;
        if let Some((coupon, is_burnt)) = &existing {
            let ends_at = coupon.expires_at.map_or_else(|| "9".to_owned(), instant::text);
            match is_burnt {
                true if ends_at <= at => return Ok(CodeFor::Ended),
                true => return Ok(CodeFor::Code(coupon.clone())),
                false if ends_at >= ends_from => return Ok(CodeFor::Code(coupon.clone())),
                false => {}
            }
        }
        self.0.write(Durability::Lazy, |tx| {
            tx.prepare_cached(FREE)?.execute([message])?;
            let identity: Option<String> = tx
                .prepare_cached("SELECT identity FROM message WHERE id = ?1")?
                .query_row([message], |row| row.get(0))?;
            let person = Person { folded_address, identity: identity.as_deref() };
            let claim = claim(tx, person, pool, now, now)?;
            if let Claim::Code(code) = claim {
                give(tx, code, message, folded_address, now)?;
            }
            Ok(match (claim, pool.when_empty) {
                (Claim::Code(_), _) => match code_of(&Reading(tx), message)? {
                    Some((coupon, _)) => CodeFor::Code(coupon),
                    None => CodeFor::Wait,
                },
                (_, WhenEmpty::Without) => CodeFor::Without,
                (Claim::HadOne, WhenEmpty::Wait) => CodeFor::HadOne,
                (Claim::Empty, WhenEmpty::Wait) => CodeFor::Wait,
            })
        })
    }
}

/// Takes its code from a message; a trigger refuses that once a body may have left with it.
const FREE: &str = "UPDATE coupon_code SET message = NULL, folded_address = NULL, claimed_at = NULL WHERE message = ?1";

/// Whether any body was begun with it.
const IS_BURNT: &str =
    "EXISTS (SELECT 1 FROM attempt WHERE attempt.message = coupon_code.message AND armed_at IS NOT NULL)";

fn code_of(conn: &Reading<'_>, message: i64) -> rusqlite::Result<Option<(Coupon, bool)>> {
    conn.prepare_cached(&format!(
        "SELECT code, expires_at, {IS_BURNT} AS is_burnt FROM coupon_code WHERE message = ?1"
    ))?
    .query_row([message], |row| {
        let coupon = Coupon { code: row.get("code")?, expires_at: optional_instant_at(row, "expires_at")? };
        Ok((coupon, row.get("is_burnt")?))
    })
    .optional()
}

/// Looks for a code for a message that leaves at `leaves_at`: of those that are valid for long enough, the one that ends first.
pub(super) fn claim(
    tx: &Connection,
    person: Person<'_>,
    pool: &Pool,
    now: Instant,
    leaves_at: Instant,
) -> rusqlite::Result<Claim> {
    if had_one(&Reading(tx), person, pool, now)? {
        return Ok(Claim::HadOne);
    }
    let found = tx
        .prepare_cached(
            "SELECT id FROM coupon_code WHERE pool = ?1 AND message IS NULL AND held_at IS NULL
                 AND coalesce(expires_at, '9') >= ?2 ORDER BY coalesce(expires_at, '9'), code LIMIT 1",
        )?
        .query_row((&pool.name, instant::text(leaves_at + pool.min_validity)), |row| row.get(0))
        .optional()?;
    Ok(found.map_or(Claim::Empty, Claim::Code))
}

/// Whether the person had a code of this pool so short a while ago that there is no other yet.
fn had_one(conn: &Reading<'_>, person: Person<'_>, pool: &Pool, now: Instant) -> rusqlite::Result<bool> {
    let Some(within) = pool.per_person else { return Ok(false) };
    conn.prepare_cached(
        "SELECT 1 FROM coupon_code
         WHERE pool = ?1 AND folded_address = ?2 AND message IS NOT NULL AND claimed_at > ?3
         UNION ALL
         SELECT 1 FROM message AS m JOIN coupon_code AS c ON c.message = m.id
         WHERE m.identity = ?4 AND m.cart_hash IS NOT NULL AND c.pool = ?1 AND c.claimed_at > ?3",
    )?
    .exists((&pool.name, person.folded_address, instant::text(now - within), person.identity))
}

/// Gives a code to a message, within the transaction that found it.
pub(super) fn give(
    tx: &Connection,
    code: i64,
    message: i64,
    folded_address: &str,
    now: Instant,
) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE coupon_code SET message = ?2, folded_address = ?3, claimed_at = ?4 WHERE id = ?1")?
        .execute((code, message, folded_address, instant::text(now)))
        .map(drop)
}

/// Gives each planned message of an opening a code, within the transaction that opens it. `false`: there are fewer, and none
/// goes without.
pub(super) fn give_each(
    tx: &Connection,
    occurrence: i64,
    pool: &Pool,
    now: Instant,
    longest_wait: TimeDelta,
) -> rusqlite::Result<bool> {
    let given = tx.execute(
        "WITH free AS (
             SELECT id AS code, row_number() OVER (ORDER BY coalesce(expires_at, '9'), code) AS place FROM coupon_code
             WHERE pool = ?1 AND message IS NULL AND held_at IS NULL AND coalesce(expires_at, '9') >= ?2),
         getting AS (
             SELECT id AS getter, folded_address AS address, row_number() OVER (ORDER BY id) AS place FROM message
             WHERE occurrence = ?3 AND state = 'planned')
         UPDATE coupon_code SET message = getter, folded_address = address, claimed_at = ?4
         FROM free JOIN getting USING (place) WHERE coupon_code.id = free.code",
        (&pool.name, instant::text(now + longest_wait + pool.min_validity), occurrence, instant::text(now)),
    )?;
    let planned: i64 = tx.query_row(
        "SELECT count(*) FROM message WHERE occurrence = ?1 AND state = 'planned'",
        [occurrence],
        |row| row.get(0),
    )?;
    Ok(given as i64 == planned || pool.when_empty == WhenEmpty::Without)
}
