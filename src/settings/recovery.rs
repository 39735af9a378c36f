//! `[holdout]` and `[attribution]` as written, and the checks that make them what they stand for.

use std::time::Duration;

use serde::Deserialize;

use super::checker::{Checker, Span};
use crate::domain::holdout::Holdout;
use crate::failure::Failure;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HoldoutTable {
    percent: f64,
    salt: String,
    #[serde(default = "carts_only")]
    kinds: Vec<Kind>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AttributionTable {
    window: Option<Span>,
}

/// Orders count for so long after a message.
const ATTRIBUTION_WINDOW: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// Longer than that, no one would say that the message brought it.
const LONGEST_ATTRIBUTION: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// What a person is held out of.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Cart,
    Campaign,
}

fn carts_only() -> Vec<Kind> {
    vec![Kind::Cart]
}

impl Checker<'_> {
    pub(super) fn holdout(&self, table: HoldoutTable) -> Result<Holdout, Failure> {
        if !(0.0..=100.0).contains(&table.percent) {
            let what = format!("{} is not from 0 to 100", table.percent);
            return Err(self.wrong("holdout.percent", what, "write for example 5"));
        }
        if table.salt.trim().is_empty() || table.salt.chars().any(char::is_control) {
            let next = "write any word, for example \"2026\"; another word chooses other people";
            return Err(self.wrong("holdout.salt", "is empty or holds a control character", next));
        }
        if table.kinds.is_empty() {
            return Err(self.wrong("holdout.kinds", "is empty", "write [\"cart\"], or remove the table [holdout]"));
        }
        let has = |kind| table.kinds.contains(&kind);
        Ok(Holdout::new(table.percent, table.salt, has(Kind::Cart), has(Kind::Campaign)))
    }

    pub(super) fn attribution(&self, table: &AttributionTable) -> Result<Duration, Failure> {
        let window = table.window.map_or(ATTRIBUTION_WINDOW, |window| window.0);
        if !(Duration::from_secs(60)..=LONGEST_ATTRIBUTION).contains(&window) {
            return Err(self.wrong("attribution.window", "must be from 1m to 90d", "write for example \"5d\""));
        }
        Ok(window)
    }
}
