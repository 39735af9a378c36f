//! `[bounces]`: where what comes back lies, and when that stops a campaign.

use serde::Deserialize;

use super::BouncesSettings;
use super::checker::Checker;
use crate::domain::bounce::StopAt;
use crate::failure::Failure;

/// As large mail providers have it, in per cent.
const MOST_COMPLAINTS: f64 = 0.3;
const MOST_HARD_BOUNCES: f64 = 5.0;
/// Before, one complaint would be too large a share.
const AFTER: u64 = 200;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct BouncesTable {
    maildir: Option<String>,
    trusted_authserv: Option<String>,
    complaint_limit: Option<f64>,
    hard_limit: Option<f64>,
    limits_after: Option<u64>,
}

impl Checker<'_> {
    pub(super) fn bounces(&self, table: BouncesTable) -> Result<BouncesSettings, Failure> {
        let share = |key: &str, given: Option<f64>, default: f64| match given.unwrap_or(default) {
            percent if (0.0..=100.0).contains(&percent) => Ok((percent * 100.0).round() as u64),
            percent => {
                let what = format!("{percent} is not from 0 to 100 per cent");
                Err(self.wrong(&format!("bounces.{key}"), what, "write for example 0.3; 100 never stops a campaign"))
            }
        };
        let trusted_authserv = table.trusted_authserv.map(|name| name.trim().to_ascii_lowercase());
        if trusted_authserv.as_ref().is_some_and(|name| name.is_empty() || name.contains([' ', ';'])) {
            let next = "write the name that your own mail server begins Authentication-Results with";
            return Err(self.wrong("bounces.trusted_authserv", "is no name of a server", next));
        }
        Ok(BouncesSettings {
            maildir: table.maildir.map(|maildir| self.at(&maildir)),
            trusted_authserv,
            stop_at: StopAt {
                complaints: share("complaint_limit", table.complaint_limit, MOST_COMPLAINTS)?,
                hard_bounces: share("hard_limit", table.hard_limit, MOST_HARD_BOUNCES)?,
                after: table.limits_after.unwrap_or(AFTER),
            },
        })
    }
}
