//! Planning: what stands against a new message, and the messages that fall due.

use chrono::TimeDelta;
use rusqlite::{Connection, OptionalExtension};

use super::candidates::{CANDIDATE_COLUMNS, NOT_IDLE_YET, candidate_from};
use super::columns::{instant_at, optional_instant_at};
use super::coupons::{Claim, Person, claim, give};
use super::expire::tell_of_late_carts;
use super::flows::{flow_of, past_of};
use super::{Durability, Plans, Reading, Records};
use crate::domain::coupon::WhenEmpty;
use crate::domain::flow::{Flow, Next};
use crate::domain::instant::{self, Instant};
use crate::domain::locale::Locale;
use crate::domain::message_key;
use crate::domain::standing::{Facts, SameContents, Standing, standing, standing_in_flow};
use crate::domain::state::{Reason, State};
use crate::domain::variant;
use crate::failure::Failure;
use crate::ledger::{Candidate, Due, Judged, PlanRules, Planned};

impl Records {
    /// What stands against writing to the owners of the undecided candidates, those touched last first: a page of them in
    /// one query. `after` is the last one of the page before.
    pub fn standings(
        &self,
        after: Option<&Candidate>,
        limit: usize,
        rules: &PlanRules,
        now: Instant,
    ) -> Result<Vec<Judged>, Failure> {
        let (touched_at, id) =
            after.map_or(("9".to_owned(), i64::MAX), |last| (instant::text(last.touched_at), last.id));
        // ?1 and ?2 are of the facts.
        let page = format!(
            "SELECT id, {CANDIDATE_COLUMNS} FROM temp.candidate
             WHERE verdict IS NULL AND (touched_at, id) < (?3, ?4) AND ?1 IS NOT NULL AND ?2 IS NOT NULL
             ORDER BY touched_at DESC, id DESC LIMIT ?5"
        );
        let (began, at) = (instant::text(now - rules.window), instant::text(now));
        self.read(|conn| {
            let mut judged = Vec::new();
            if rules.steps.is_empty() {
                let mut rows = conn.prepare_cached(&facts_of(&page, false, Asks::Strongest))?;
                let mut rows = rows.query((began, at, touched_at, id, limit as i64))?;
                while let Some(row) = rows.next()? {
                    let standing = standing(&facts_from(row)?, rules.max_per_cart);
                    judged.push(Judged { cart: candidate_from(row)?, standing, flow: None });
                }
                return Ok(judged);
            }
            let mut rows = conn.prepare_cached(&page)?;
            let mut rows = rows.query((began, at, touched_at, id, limit as i64))?;
            while let Some(row) = rows.next()? {
                judged.push(judge_in_flow(conn, candidate_from(row)?, rules, now)?);
            }
            Ok(judged)
        })
    }

    /// The same for one cart, whatever the temporary table holds.
    pub fn standing(&self, cart: &Candidate, rules: &PlanRules, now: Instant) -> Result<Judged, Failure> {
        self.read(|conn| {
            if !rules.steps.is_empty() {
                return judge_in_flow(conn, cart.clone(), rules, now);
            }
            let standing = standing(&facts_about(conn, cart, rules, now, Asks::Strongest)?, rules.max_per_cart);
            Ok(Judged { cart: cart.clone(), standing, flow: None })
        })
    }

    /// What stands against a cart among the others of this look: one of the same shopper was chosen already, or the shopper
    /// is at another just now.
    pub fn standing_among_candidates(&self, cart: &Candidate, rules: &PlanRules) -> Result<Standing, Failure> {
        self.read(|conn| {
            for rule in AMONG {
                if let Some(found) = rule(conn, cart, rules)? {
                    return Ok(found);
                }
            }
            Ok(Standing::Free)
        })
    }

    /// Whether another cart of this look has the same contents, to the same address, and was touched later: in steps, that one
    /// stands for both.
    pub fn has_later_twin(&self, cart: &Candidate) -> Result<bool, Failure> {
        self.read(|conn| {
            conn.prepare_cached(
                "SELECT 1 FROM temp.candidate
                 WHERE folded_address = ?1 AND cart_hash = ?2 AND (touched_at, id) > (?3, ?4) AND id <> ?4",
            )?
            .exists((&cart.folded_address, &cart.cart_hash, instant::text(cart.touched_at), cart.id))
        })
    }

    /// Whether a message about this cart, where its flow is now, would be held out: that is decided once for an episode, where
    /// its first message would be planned.
    pub fn is_held_out(&self, cart: &Candidate, rules: &PlanRules, flow: Option<&Flow>) -> Result<bool, Failure> {
        if !rules.holdout.as_ref().is_some_and(|holdout| holdout.holds(&cart.folded_address)) {
            return Ok(false);
        }
        let Some(episode) = flow.and_then(|flow| flow.episode.as_ref()) else { return Ok(true) };
        // Steps that came too late were never planned.
        self.read(|conn| {
            let planned =
                "SELECT 1 FROM message WHERE episode = ?1 AND NOT (reason IS 'expired' AND settled_at = planned_at)";
            conn.prepare_cached(planned)?.exists([episode]).map(|planned| !planned)
        })
    }

    /// Another cart that the shopper of a due message was at when this run looked.
    pub fn busy_with(&self, due: &Due) -> Result<Option<String>, Failure> {
        self.read(|conn| busy_with(conn, &due.cart_id, &due.identity, &due.folded_address))
    }

    /// Cart messages due at `now`, oldest first, after the one at `after` (its `not_before` and id).
    pub fn due_carts(&self, now: Instant, after: Option<(Instant, i64)>, limit: usize) -> Result<Vec<Due>, Failure> {
        let (after_at, after_id) = after.map_or((String::new(), 0), |(at, id)| (instant::text(at), id));
        self.read(|conn| {
            let mut rows = conn.prepare_cached(
                "SELECT id, message_key, recipient, folded_address, message_id, planned_at, not_before,
                        identity, cart_id, cart_hash, cart_touched_at, expires_at, missing_since, step, step_after, variant, locale,
                        (SELECT planned_at FROM message AS first WHERE first.message_key = message.episode) AS begun_at,
                        (SELECT max(coalesce(other.armed_at, other.settled_at)) FROM message AS other
                         WHERE other.episode = message.episode AND other.id <> message.id) AS before_it
                 FROM message
                 WHERE occurrence IS NULL AND state = 'planned' AND not_before <= ?1 AND (not_before, id) > (?2, ?3) AND expires_at > ?1
                 ORDER BY not_before, id LIMIT ?4",
            )?;
            rows.query_map((instant::text(now), after_at, after_id, limit as i64), |row| {
                Ok(Due {
                    id: row.get("id")?,
                    message_key: row.get("message_key")?,
                    recipient: row.get("recipient")?,
                    folded_address: row.get("folded_address")?,
                    message_id: row.get("message_id")?,
                    planned_at: instant_at(row, "planned_at")?,
                    not_before: instant_at(row, "not_before")?,
                    identity: row.get("identity")?,
                    cart_id: row.get("cart_id")?,
                    cart_hash: row.get("cart_hash")?,
                    cart_touched_at: instant_at(row, "cart_touched_at")?,
                    expires_at: instant_at(row, "expires_at")?,
                    step: row.get("step")?,
                    step_after: row.get::<_, Option<i64>>("step_after")?.map(TimeDelta::seconds),
                    variant: row.get("variant")?,
                    locale: row.get::<_, Option<String>>("locale")?.and_then(|tag| Locale::parse(&tag)),
                    episode_begun_at: instant_at(row, "begun_at")?,
                    before_it: optional_instant_at(row, "before_it")?,
                    missing_since: optional_instant_at(row, "missing_since")?,
                })
            })?
            .collect()
        })
    }

    /// How many cart messages are due at `now`.
    pub fn count_due_carts(&self, now: Instant) -> Result<u64, Failure> {
        self.read(|conn| {
            conn.query_row(
                "SELECT count(*) FROM message WHERE occurrence IS NULL AND state = 'planned' AND not_before <= ?1",
                [instant::text(now)],
                |row| row.get(0),
            )
        })
    }
}

impl Plans<'_> {
    /// Plans every candidate decided as `plan`, and records every one decided as `superseded` or `held out` and every step that
    /// came too late, in one transaction.
    ///
    /// A message still planned for the same address or cart, touched earlier, becomes `superseded`.
    pub fn plan_candidates(
        &mut self,
        rules: &PlanRules,
        now: Instant,
        sender_domain: &str,
    ) -> Result<Planned, Failure> {
        let ledger_id = self.0.id.clone();
        self.0.write(Durability::Full, |tx| {
            let mut chosen = tx.prepare(&format!(
                "SELECT id, {CANDIDATE_COLUMNS}, verdict FROM temp.candidate
                 WHERE verdict IN ('plan', 'superseded', 'held out') OR has_late ORDER BY touched_at, id"
            ))?;
            let mut rows = chosen.query([])?;
            let mut planner =
                Planner { tx, rules, now, ledger_id: &ledger_id, sender_domain, planned: Planned::default(), late: 0 };
            while let Some(row) = rows.next()? {
                let cart = candidate_from(row)?;
                let verdict: String = row.get("verdict")?;
                let decided = match verdict.as_str() {
                    "plan" => Some(None),
                    "superseded" => Some(Some(Reason::Superseded)),
                    "held out" => Some(Some(Reason::Holdout)),
                    _ => None,
                };
                planner.write(&cart, decided)?;
            }
            if planner.late > 0 {
                tell_of_late_carts(tx, now)?;
            }
            Ok(planner.planned)
        })
    }
}

/// Judges a cart that is written about in steps: by its messages, and by all else only where something is due or late.
fn judge_in_flow(conn: &Reading<'_>, cart: Candidate, rules: &PlanRules, now: Instant) -> rusqlite::Result<Judged> {
    let past = past_of(conn, &cart, now)?;
    let flow = flow_of(&cart, &past, rules, now);
    let facts = match matches!(flow.next, Next::Due { .. }) || !flow.late.is_empty() {
        true => facts_about(conn, &cart, rules, now, Asks::Strongest)?,
        false => Facts::default(),
    };
    let standing = standing_in_flow(&flow, &rules.steps, &past, now - rules.window, facts, rules.max_per_cart);
    Ok(Judged { cart, standing, flow: Some(flow) })
}

/// How much is asked of the ledger about a cart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// Nothing behind what stands against a message anyway.
    Strongest,
    /// Everything.
    All,
}

pub(super) fn facts_about(
    conn: &Reading<'_>,
    cart: &Candidate,
    rules: &PlanRules,
    now: Instant,
    asks: Asks,
) -> rusqlite::Result<Facts> {
    let one = "SELECT 0 AS id, ?3 AS cart_id, ?4 AS identity, NULL AS user_id, '' AS recipient, ?5 AS folded_address,
                      ?6 AS cart_hash, '' AS cart_value, '' AS currency, ?7 AS touched_at, NULL AS timezone, NULL AS locale";
    conn.prepare_cached(&facts_of(one, !rules.steps.is_empty(), asks))?.query_row(
        (
            instant::text(now - rules.window),
            instant::text(now),
            &cart.cart_id,
            &cart.identity,
            &cart.folded_address,
            &cart.cart_hash,
            instant::text(cart.touched_at),
        ),
        facts_from,
    )
}

/// The facts about each cart of `carts` (a SELECT of `id` and [`CANDIDATE_COLUMNS`]), behind those columns. `?1` is when the
/// window began, `?2` is now: what is planned and too late by then is none, as a run expires it before it plans.
///
/// One statement for many carts. What an index tells first is looked up first; where it stands against a message, nothing else
/// is asked. `same` has the strongest as the greatest text: open, in doubt, then the latest within the window.
fn facts_of(carts: &str, in_steps: bool, asks: Asks) -> String {
    const WROTE_AT: &str = "cart_hash, max(coalesce(last_sent_at, ''), created_at) AS at";
    let same = "SELECT max(CASE WHEN (state = 'planned' AND expires_at > ?2) OR state = 'armed' THEN '3' WHEN state = 'in_doubt' THEN '2'
                    WHEN blocking_at > ?1 THEN '1' || blocking_at || coalesce(reason, state) END)
                FROM (SELECT state, reason, blocking_at, expires_at FROM message WHERE identity = c.identity AND cart_hash = c.cart_hash
                      UNION ALL
                      SELECT state, reason, blocking_at, expires_at FROM message
                      WHERE folded_address = c.folded_address AND cart_hash = c.cart_hash)";
    // In steps, the messages of the same contents are looked at one by one.
    let same = if in_steps { "NULL" } else { same };
    let asked = if asks == Asks::All { "1" } else { "same IS NULL" };
    // There, a cart that was written about later stands in the way also once its message has gone.
    let later = match in_steps {
        false => "m.state = 'planned' AND m.expires_at > ?2 AND m.cart_touched_at >= c.touched_at",
        true => {
            "m.cart_hash <> c.cart_hash AND ((m.state = 'planned' AND m.expires_at > ?2 AND m.cart_touched_at >= c.touched_at)
              OR ((m.state = 'armed' OR m.state = 'sent' OR m.state = 'in_doubt' OR m.reason = 'holdout')
                  AND m.cart_touched_at > c.touched_at))"
        }
    };
    format!(
        "WITH known AS MATERIALIZED (SELECT c.*, ({same}) AS same FROM ({carts}) AS c)
         SELECT c.id, {CANDIDATE_COLUMNS}, same,
             CASE WHEN {asked} THEN (
                 SELECT max(at) FROM (
                     SELECT {WROTE_AT} FROM cart_abandonment_log WHERE identity = c.identity AND +message_key IS NULL
                     UNION ALL
                     SELECT {WROTE_AT} FROM cart_abandonment_log
                     WHERE lower(trim(email)) = c.folded_address AND +message_key IS NULL
                     UNION ALL
                     SELECT {WROTE_AT} FROM removed_duplicate WHERE identity = c.identity
                     UNION ALL
                     SELECT {WROTE_AT} FROM removed_duplicate WHERE lower(trim(email)) = c.folded_address) AS old
                 WHERE at > ?1 AND (old.cart_hash = c.cart_hash OR old.cart_hash NOT GLOB 'v1:*')) END AS older_system_at,
             -- One that was empty, or held something else, and is as it was planned again, was away for a moment.
             CASE WHEN {asked} THEN (
                 SELECT m.reason FROM message AS m WHERE m.cart_id = c.cart_id AND m.cart_touched_at >= c.touched_at
                     AND (m.reason = 'ordered' OR m.reason = 'superseded' OR (m.reason = 'changed' AND m.cart_hash <> c.cart_hash))
                 LIMIT 1) END AS skipped_untouched,
             -- By the address too: a guest who logs in has another identity then.
             CASE WHEN {asked} THEN (
                 SELECT count(DISTINCT m.episode) FROM message AS m WHERE m.cart_id = c.cart_id
                     AND (m.identity = c.identity OR m.folded_address = c.folded_address)
                     AND (m.state IN ('armed', 'sent', 'in_doubt') OR (m.state = 'planned' AND m.expires_at > ?2) OR m.reason = 'holdout')) ELSE 0 END AS episodes,
             {asked} AND EXISTS (SELECT 1 FROM suppression AS s WHERE s.folded_address = c.folded_address AND (s.list = '' OR s.list = 'cart')) AS is_suppressed,
             CASE WHEN {asked} THEN (
                 SELECT m.cart_id FROM message AS m WHERE m.kind = 'cart' AND m.cart_hash IS NOT NULL
                     AND m.folded_address = c.folded_address AND m.cart_id <> c.cart_id AND {later} LIMIT 1) END AS later_cart
         FROM known AS c"
    )
}

/// Reads what [`facts_of`] selects behind the cart itself.
fn facts_from(row: &rusqlite::Row<'_>) -> rusqlite::Result<Facts> {
    let same: Option<String> = row.get("same")?;
    Ok(Facts {
        same: same.map(|same| match same.split_at(1) {
            ("3", _) => SameContents::Open,
            ("2", _) => SameContents::InDoubt,
            (_, within) => {
                // An instant, and what settled it.
                let (at, how) = within.split_at(within.find('Z').map_or(within.len(), |end| end + 1));
                SameContents::Within { how: how.to_owned(), at: at.to_owned() }
            }
        }),
        older_system_at: row.get("older_system_at")?,
        skipped_untouched: row.get("skipped_untouched")?,
        episodes: row.get("episodes")?,
        suppressed: row.get("is_suppressed")?,
        later_cart: row.get("later_cart")?,
    })
}

/// One rule about the other carts of a look.
pub(super) type Among = fn(&Reading<'_>, &Candidate, &PlanRules) -> rusqlite::Result<Option<Standing>>;

/// All of them, the strongest first.
pub(super) const AMONG: [Among; 3] = [later, chosen, busy];

fn later(conn: &Reading<'_>, cart: &Candidate, rules: &PlanRules) -> rusqlite::Result<Option<Standing>> {
    if rules.steps.is_empty() {
        return Ok(None);
    }
    Ok(later_cart_of(conn, cart)?.map(|by_cart| Standing::Superseded { by_cart }))
}

/// Those that are touched last are decided about first: only of them one can have been chosen before this cart.
fn chosen(conn: &Reading<'_>, cart: &Candidate, _: &PlanRules) -> rusqlite::Result<Option<Standing>> {
    let chosen: Option<(String, bool)> = conn
        .prepare_cached(
            "SELECT cart_id, cart_hash = ?1 FROM temp.candidate
             WHERE (verdict = 'plan' OR verdict = 'held out') AND folded_address = ?2 AND (touched_at, id) > (?4, ?5)
             UNION ALL
             SELECT cart_id, 1 FROM temp.candidate
             WHERE (verdict = 'plan' OR verdict = 'held out') AND identity = ?3 AND cart_hash = ?1 AND (touched_at, id) > (?4, ?5)
             ORDER BY 2 DESC LIMIT 1",
        )?
        .query_row(
            (&cart.cart_hash, &cart.folded_address, &cart.identity, instant::text(cart.touched_at), cart.id),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    Ok(chosen.map(|(by_cart, same_contents)| match same_contents {
        true => Standing::InProgress,
        false => Standing::Superseded { by_cart },
    }))
}

fn busy(conn: &Reading<'_>, cart: &Candidate, _: &PlanRules) -> rusqlite::Result<Option<Standing>> {
    let found = busy_with(conn, &cart.cart_id, &cart.identity, &cart.folded_address)?;
    Ok(found.map(|with_cart| Standing::Busy { with_cart }))
}

/// Another cart of this look that the address was written to about, touched later than this one, also when that was after its
/// message.
fn later_cart_of(conn: &Reading<'_>, cart: &Candidate) -> rusqlite::Result<Option<String>> {
    // One that is not left alone yet is waited for.
    conn.prepare_cached(&format!(
        "SELECT later.cart_id FROM temp.candidate AS later
         WHERE later.verdict IS NOT '{NOT_IDLE_YET}' AND later.folded_address = ?1 AND later.cart_hash <> ?2 AND later.touched_at > ?3 AND later.cart_id <> ?4
             AND EXISTS (SELECT 1 FROM message AS m WHERE m.folded_address = ?1 AND m.cart_hash = later.cart_hash
                         AND (m.state IN ('planned', 'armed', 'sent', 'in_doubt') OR m.reason = 'holdout')) LIMIT 1"
    ))?
    .query_row((&cart.folded_address, &cart.cart_hash, instant::text(cart.touched_at), &cart.cart_id), |row| row.get(0))
    .optional()
}

/// The cart, other than this one, that a shopper had not left alone for long enough when the carts were read.
fn busy_with(
    conn: &Reading<'_>,
    cart_id: &str,
    identity: &str,
    folded_address: &str,
) -> rusqlite::Result<Option<String>> {
    conn.prepare_cached(&format!(
        "SELECT cart_id FROM temp.candidate WHERE verdict = '{NOT_IDLE_YET}' AND folded_address = ?2 AND cart_id <> ?1
         UNION ALL
         SELECT cart_id FROM temp.candidate WHERE verdict = '{NOT_IDLE_YET}' AND identity = ?3 AND cart_id <> ?1
         LIMIT 1"
    ))?
    .query_row((cart_id, folded_address, identity), |row| row.get(0))
    .optional()
}

/// Writes what was decided about carts, within one transaction.
struct Planner<'a> {
    tx: &'a Connection,
    rules: &'a PlanRules,
    now: Instant,
    ledger_id: &'a str,
    sender_domain: &'a str,
    planned: Planned,
    /// Steps that came too late.
    late: usize,
}

/// A message to be written: its place in the flow, and whether it is decided against from the beginning.
struct Entry<'a> {
    /// Which of the configured steps; `None` without any.
    step: Option<usize>,
    reason: Option<Reason>,
    /// The key of the episode that it belongs to; `None` begins one.
    episode: Option<&'a str>,
    /// The coupon code that it is given.
    code: Option<i64>,
}

/// What a message is known by.
struct Key {
    message_key: String,
    /// The instant in the key, where it begins an episode.
    begun_at: Option<Instant>,
    not_before: Instant,
}

impl Planner<'_> {
    /// Writes a cart's message, planned or decided against, and before it each step that came too late. `None`: only those.
    fn write(&mut self, cart: &Candidate, decided: Option<Option<Reason>>) -> rusqlite::Result<()> {
        if self.rules.steps.is_empty() {
            let Some(reason) = decided else { return Ok(()) };
            return self.decide(cart, Entry { step: None, reason, episode: None, code: None });
        }
        // As it is in this transaction.
        let flow = flow_of(cart, &past_of(&Reading(self.tx), cart, self.now)?, self.rules, self.now);
        let Flow { mut episode, late, next, .. } = flow;
        for step in &late {
            let reason = Some(Reason::Expired);
            let entry = Entry { step: Some(*step), reason, episode: episode.as_deref(), code: None };
            episode = Some(self.insert(cart, &entry)?);
        }
        self.late += late.len();
        let (Some(mut reason), Next::Due { step, until }) = (decided, next) else { return Ok(()) };
        let key = self.key(cart, episode.as_deref(), Some(step))?;
        let mut code = None;
        if reason.is_none() && key.not_before >= until {
            reason = Some(Reason::Expired);
            self.late += 1;
        }
        if reason.is_none()
            && let Some(pool) = self.rules.pool_of(&self.rules.steps[step])
        {
            let person = Person { folded_address: &cart.folded_address, identity: Some(&cart.identity) };
            match (claim(self.tx, person, pool, self.now, key.not_before)?, pool.when_empty) {
                (Claim::Code(found), _) => code = Some(found),
                (Claim::Empty | Claim::HadOne, WhenEmpty::Without) => {}
                (Claim::HadOne, WhenEmpty::Wait) => reason = Some(Reason::Capped),
                (Claim::Empty, WhenEmpty::Wait) => {
                    self.planned.without_code += 1;
                    return Ok(());
                }
            }
        }
        self.decide(cart, Entry { step: Some(step), reason, episode: episode.as_deref(), code })
    }

    fn decide(&mut self, cart: &Candidate, entry: Entry<'_>) -> rusqlite::Result<()> {
        // The held-out are treated alike, but for the mail: what is compared differs in nothing else.
        if matches!(entry.reason, None | Some(Reason::Holdout)) {
            self.supersede_others(cart)?;
        }
        self.planned.messages += u64::from(entry.reason.is_none());
        self.insert(cart, &entry).map(drop)
    }

    /// What a message is known by, and when it may leave.
    fn key(&self, cart: &Candidate, episode: Option<&str>, step: Option<usize>) -> rusqlite::Result<Key> {
        let (message_key, begun_at) = match (episode, step) {
            (Some(episode), Some(step)) => (message_key::step(episode, &self.rules.steps[step].name), None),
            _ => self.new_key(cart).map(|(key, created_at)| (key, Some(created_at)))?,
        };
        let not_before = self.rules.place(cart, self.now, &message_key);
        Ok(Key { message_key, begun_at, not_before })
    }

    fn supersede_others(&self, cart: &Candidate) -> rusqlite::Result<()> {
        // One column each: with OR, SQLite walks over every cart message instead of looking into the two indexes.
        for (column, value) in [("folded_address", &cart.folded_address), ("cart_id", &cart.cart_id)] {
            self.tx
                .prepare_cached(&format!(
                    "UPDATE message SET state = 'skipped', reason = 'superseded', settled_at = ?2
                     WHERE kind = 'cart' AND state = 'planned' AND {column} = ?1"
                ))?
                .execute((value, instant::text(self.now)))?;
        }
        Ok(())
    }

    /// Writes one message, and the row of the abandonment with the first of an episode. Gives the key of the episode.
    fn insert(&self, cart: &Candidate, entry: &Entry<'_>) -> rusqlite::Result<String> {
        let step = entry.step.map(|index| &self.rules.steps[index]);
        let Key { message_key, begun_at, not_before } = self.key(cart, entry.episode, entry.step)?;
        let episode = entry.episode.unwrap_or(&message_key);
        let message_id = message_key::message_id(&message_key::token(self.ledger_id, &message_key), self.sender_domain);
        let at = instant::text(self.now);
        let until = step.map_or(self.rules.max_age, |step| step.until);
        self.tx
            .prepare_cached(
                "INSERT INTO message (message_key, kind, state, reason, recipient, folded_address, message_id, planned_at,
                     not_before, expires_at, settled_at, identity, cart_id, cart_hash, cart_touched_at, episode, step, step_after,
                     variant, locale)
                 VALUES (?1, 'cart', ?2, ?3, ?4, ?5, ?6, ?7, ?17, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?18, ?19)",
            )?
            .execute(rusqlite::params![
                &message_key,
                if entry.reason.is_none() { State::Planned } else { State::Skipped },
                entry.reason,
                &cart.recipient,
                &cart.folded_address,
                &message_id,
                &at,
                instant::text(cart.touched_at + until),
                entry.reason.map(|_| &at),
                &cart.identity,
                &cart.cart_id,
                &cart.cart_hash,
                instant::text(cart.touched_at),
                episode,
                step.map(|step| &step.name),
                step.map(|step| step.after.num_seconds()),
                instant::text(not_before),
                step.and_then(|step| variant::of(&step.variants, &step.name, &cart.folded_address)).map(|variant| &variant.name),
                cart.locale.map(|locale| locale.to_string()),
            ])?;
        if let Some(code) = entry.code {
            give(self.tx, code, self.tx.last_insert_rowid(), &cart.folded_address, self.now)?;
        }
        if let Some(begun_at) = begun_at {
            self.log_abandonment(cart, &message_key, begun_at)?;
        }
        Ok(episode.to_owned())
    }

    /// A key that no message has, and the instant in it.
    fn new_key(&self, cart: &Candidate) -> rusqlite::Result<(String, Instant)> {
        // An episode of the same second exists only after a change of mind within it, or from an older system.
        let mut created_at = self.now;
        loop {
            let key = message_key::cart(&cart.identity, &cart.cart_hash, created_at);
            let taken = self
                .tx
                .prepare_cached(
                    "SELECT 1 FROM message WHERE message_key = ?1
                     UNION ALL
                     SELECT 1 FROM cart_abandonment_log WHERE identity = ?2 AND cart_hash = ?3 AND created_at = ?4",
                )?
                .exists((&key, &cart.identity, &cart.cart_hash, instant::text(created_at)))?;
            if !taken {
                return Ok((key, created_at));
            }
            created_at += TimeDelta::seconds(1);
        }
    }

    fn log_abandonment(&self, cart: &Candidate, message_key: &str, created_at: Instant) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached(
                "INSERT INTO cart_abandonment_log (identity, user_id, email, cart_id, cart_hash, cart_value, currency, created_at, message_key, origin)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'detect')",
            )?
            .execute((
                &cart.identity,
                &cart.user_id,
                &cart.recipient,
                &cart.cart_id,
                &cart.cart_hash,
                &cart.cart_value,
                &cart.currency,
                instant::text(created_at),
                message_key,
            ))
            .map(drop)
    }
}
