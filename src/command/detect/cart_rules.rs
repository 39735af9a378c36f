//! The rules that a cart and the clock alone decide, each by itself. Planning takes the first that stands against a cart;
//! `explain` lists them all.

use chrono::TimeDelta;

use super::planning::Verdict;
use crate::domain::cart::Cart;
use crate::domain::instant::{self, Instant};
use crate::domain::span;
use crate::ledger::NOT_IDLE_YET;
use crate::settings::DetectSettings;

/// What the rules go by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub detect: &'a DetectSettings,
    pub now: Instant,
    /// Carts touched before it are left alone.
    pub since: Instant,
}

/// When a cart was touched, seen from now.
pub(super) fn touched(untouched_for: TimeDelta) -> String {
    match untouched_for < TimeDelta::zero() {
        true => format!("touched {} from now, by the shop's clock", span::spoken(-untouched_for)),
        false => format!("touched {} ago", span::spoken(untouched_for)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CartRule {
    Idle,
    MaxAge,
    Since,
    Items,
    /// As far as the cart's own row tells.
    NotOrdered,
    LeastValue,
    MostValue,
    Goods,
    Consent,
}

impl CartRule {
    /// By when it was touched, the strongest first.
    pub const BY_TIME: [CartRule; 3] = [CartRule::Idle, CartRule::MaxAge, CartRule::Since];
    /// By the cart itself, the strongest first.
    pub const BY_ITSELF: [CartRule; 6] = [
        CartRule::Items,
        CartRule::NotOrdered,
        CartRule::LeastValue,
        CartRule::MostValue,
        CartRule::Goods,
        CartRule::Consent,
    ];

    /// What stands against a cart by this rule alone.
    pub fn against(self, terms: &Terms<'_>, cart: &Cart) -> Option<Verdict> {
        let Terms { detect, now, since } = *terms;
        let untouched_for = now - cart.updated_at;
        let ago = || touched(untouched_for);
        match self {
            CartRule::Idle => (untouched_for < span::delta(detect.idle)).then(|| (NOT_IDLE_YET, ago())),
            CartRule::MaxAge => (untouched_for >= span::delta(detect.max_age)).then(|| ("older than max_age", ago())),
            CartRule::Since => (cart.updated_at < since).then(|| {
                let why = format!("carts count from {} on; see detect.since", instant::text(since));
                ("touched before since", why)
            }),
            CartRule::Items => cart.lines.is_empty().then(|| ("empty", String::new())),
            CartRule::NotOrdered => cart.ordered_at.is_some().then(|| ("ordered", String::new())),
            CartRule::LeastValue => detect.filter.by_least_value(cart).map(|why| ("filtered", why)),
            CartRule::MostValue => detect.filter.by_most_value(cart).map(|why| ("filtered", why)),
            CartRule::Goods => detect.filter.by_lines(cart).map(|why| ("filtered", why)),
            CartRule::Consent => match cart.consent {
                Some(false) => Some(("no consent", "refused".into())),
                None if !detect.consent_assumed => Some(("no consent", "none recorded".into())),
                _ => None,
            },
        }
    }
}
