//! `[holdout]` as written, and the checks that turn it into a [`Holdout`].

use serde::Deserialize;

use super::checker::Checker;
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
}
