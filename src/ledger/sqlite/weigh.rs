//! What every rule says of a cart, also those behind the first that stands against it: for `explain`. Planning asks the same
//! functions, and stops at the first.

use super::Records;
use super::candidates::{CANDIDATE_COLUMNS, candidate_from};
use super::caps::frees_at;
use super::flows::{flow_of, past_of};
use super::plan::{AMONG, Asks, facts_about};
use crate::domain::caps::Cap;
use crate::domain::instant::{self, Instant};
use crate::domain::standing::{Rule, against_in_flow, facts_in_flow};
use crate::failure::Failure;
use crate::ledger::{Candidate, PlanRules, Weighed};
use rusqlite::OptionalExtension;

impl Records {
    /// What each rule of the ledger says of a cart, and each about the other carts of this look.
    pub fn weigh(&self, cart: &Candidate, rules: &PlanRules, now: Instant) -> Result<Weighed, Failure> {
        let among =
            self.read(|conn| AMONG.iter().map(|rule| rule(conn, cart, rules)).collect::<Result<Vec<_>, _>>())?;
        let has_later_twin = !rules.steps.is_empty() && self.has_later_twin(cart)?;
        self.read(|conn| {
            let facts = facts_about(conn, cart, rules, now, Asks::All)?;
            let (flow, of_flow, facts) = match rules.steps.is_empty() {
                true => (None, None, facts),
                false => {
                    let past = past_of(conn, cart, now)?;
                    let flow = flow_of(cart, &past, rules, now);
                    let facts = facts_in_flow(&flow, &past, now - rules.window, facts);
                    let against = against_in_flow(&flow, &rules.steps);
                    (Some(flow), against, facts)
                }
            };
            let by_rule = Rule::ALL.map(|rule| (rule, rule.against(&facts, rules.max_per_cart)));
            Ok(Weighed { flow, of_flow, by_rule: by_rule.into(), among, has_later_twin, episodes: facts.episodes })
        })
    }

    /// What this look decided about a cart, with the detail, once it has; `None`: it is no candidate.
    pub fn verdict_on(&self, cart_id: &str) -> Result<Option<(Candidate, String, String)>, Failure> {
        self.read(|conn| {
            conn.prepare_cached(&format!(
                "SELECT id, {CANDIDATE_COLUMNS}, coalesce(verdict, '') AS verdict, detail FROM temp.candidate WHERE cart_id = ?1"
            ))?
            .query_row([cart_id], |row| Ok((candidate_from(row)?, row.get("verdict")?, row.get("detail")?)))
            .optional()
        })
    }

    /// The cart of this look that is to be written about in place of what is planned for this address or cart.
    pub fn chosen_instead(&self, folded_address: &str, cart_id: &str) -> Result<Option<String>, Failure> {
        self.read(|conn| {
            conn.prepare_cached(
                "SELECT cart_id FROM temp.candidate WHERE (verdict = 'plan' OR verdict = 'held out')
                     AND (folded_address = ?1 OR cart_id = ?2) LIMIT 1",
            )?
            .query_row([folded_address, cart_id], |row| row.get(0))
            .optional()
        })
    }

    /// How many bodies were begun to an address within a cap's time, of carts and campaigns; and when it lets another go, where it
    /// does not now.
    pub fn begun_within(
        &self,
        folded_address: &str,
        cap: &Cap,
        now: Instant,
    ) -> Result<(u64, Option<Instant>), Failure> {
        self.read(|conn| {
            let begun = conn.prepare_cached(
                "SELECT (SELECT count(*) FROM message WHERE folded_address = ?1 AND cart_hash IS NOT NULL AND armed_at > ?2)
                     + (SELECT count(*) FROM campaign_occurrence AS o
                        CROSS JOIN message AS m ON m.kind = 'campaign' AND m.occurrence = o.id AND m.folded_address = ?1
                        WHERE o.state = 'opened' AND o.expires_at > ?2 AND m.armed_at > ?2)",
            )?
            .query_row((folded_address, instant::text(now - cap.within)), |row| row.get(0))?;
            Ok((begun, frees_at(conn, folded_address, cap, now)?))
        })
    }
}
