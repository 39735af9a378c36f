//! What keeps a flow from going as its shop means it: pools that run low, caps that campaigns use up, a window that is closed
//! longer than a cart counts.

use super::Findings;
use crate::domain::campaign::Campaign;
use crate::domain::caps::Cap;
use crate::domain::instant::Instant;
use crate::domain::span;
use crate::failure::Failure;
use crate::ledger::Records;
use crate::output::count;
use crate::settings::Settings;

pub(super) fn look_at_pools(
    settings: &Settings,
    ledger: &Records,
    now: Instant,
    findings: &mut Findings,
) -> Result<(), Failure> {
    for pool in &settings.pools {
        let (name, free) = (&pool.name, ledger.free_codes(pool, now, u64::MAX >> 1)?);
        let what = format!("{name}: {} can be given now", count(free, "code"));
        match free < pool.warn_below.max(1) {
            true => findings.warn("coupons", what, format!("`mailonce coupon import {name} FILE`")),
            false => findings.ok("coupons", what),
        }
    }
    Ok(())
}

/// Warns of a campaign that recurs so often that a cap lets nothing else through to whoever is in its audience.
pub(super) fn look_at_caps(settings: &Settings, campaigns: &[Campaign], now: Instant, findings: &mut Findings) {
    for Cap { messages, within } in &settings.caps.per_person {
        for campaign in campaigns.iter().filter(|campaign| campaign.enabled) {
            let first = campaign.schedule.next_after(now);
            let openings = std::iter::successors(first, |at| campaign.schedule.next_after(*at));
            let openings: Vec<Instant> =
                openings.take_while(|at| first.is_some_and(|first| *at < first + *within)).collect();
            if openings.len() as u64 >= u64::from(*messages) && openings.len() > 1 {
                let what = format!(
                    "campaign {} opens {} within {}, and {messages} is all that caps.per_person lets through: reminders to its \
                     audience would wait until they are too late",
                    campaign.id,
                    count(openings.len() as u64, "time"),
                    span::spoken(*within)
                );
                findings.warn("caps", what, "let the cap allow more, or the campaign come less often");
            }
        }
    }
}
