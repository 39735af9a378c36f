//! What `detect` would do now about the carts that a person asks about, and what each of its rules says of them.
//!
//! The verdict is that of the same look and the same planning as a run's, over all carts of the shop; the rules are the ones
//! that planning stops at the first of. Nothing is written.

use anyhow::Result;
use chrono::TimeDelta;
use serde::Serialize;

use super::cart_rules::{CartRule, Terms, touched};
use super::due::{Fate, after_look, before_look};
use super::last_look::{is_quiet_after_order, last_look};
use super::plan_rules;
use super::planning::{Look, NO_CODE, PLAN, against, against_formerly, candidate, forgotten};
use crate::domain::cart::Cart;
use crate::domain::flow::Next;
use crate::domain::instant::{self, Instant};
use crate::domain::money::Money;
use crate::domain::span;
use crate::domain::standing::{Rule, Standing};
use crate::domain::state::Reason;
use crate::ledger::{Candidate, Due, PlanRules, Records, Weighed};
use crate::output::Output;
use crate::settings::Settings;
use crate::source::Source;

/// The verdict on every new message of a run that would plan more than `detect.max_per_run`.
const TOO_MANY: &str = "more than max_per_run";

/// One rule, by its key of the configuration, with what was found and what the limit is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in super::super) struct Finding {
    pub rule: &'static str,
    /// `None`: it cannot be configured.
    pub key: Option<&'static str>,
    pub found: String,
    pub limit: Option<String>,
    pub passes: bool,
    /// What comes of it where it does not pass: `leaves out`, or `waits`.
    pub effect: &'static str,
}

/// A cart of the shop, and what a run would do about it now.
#[derive(Debug, Clone)]
pub(in super::super) struct WeighedCart {
    pub cart: Cart,
    /// `plan`, or why it is left out, in the words of `detect --dry-run`.
    pub verdict: String,
    pub detail: String,
    pub findings: Vec<Finding>,
    /// Where a message would be planned: the earliest instant at which it may leave, if that is not now.
    pub leaves_at: Option<Instant>,
    /// Where its next step waits.
    pub step_at: Option<(String, Instant)>,
    /// When it is idle, or too old, where that is still to come.
    pub idle_at: Option<Instant>,
    /// When what was sent or decided about its contents is out of the window, where that stands against it.
    pub window_ends_at: Option<Instant>,
}

/// What a look at the shop found.
#[derive(Debug, Clone)]
pub(in super::super) struct Weighing {
    /// Those touched last first.
    pub carts: Vec<WeighedCart>,
    /// Carts asked about that are not among these.
    pub more: u64,
    /// Whether anything is planned: of more than `max_per_run` nothing is.
    pub plans: bool,
}

/// What the next run does with a message that is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct NextLook {
    /// `send`, `wait`, `skip`.
    pub what: &'static str,
    pub reason: Option<Reason>,
    pub why: String,
    pub at: Option<Instant>,
}

/// One asking: a look at everything, as a run takes it.
pub(in super::super) struct Asking<'a> {
    pub settings: &'a Settings,
    pub ledger: &'a Records,
    pub source: &'a mut dyn Source,
    pub now: Instant,
}

impl Asking<'_> {
    /// Looks at the shop and decides about every cart, as a run does; tells of those that `asked` picks.
    ///
    /// # Errors
    /// The shop or the ledger cannot be read.
    pub fn weigh(&mut self, asked: &dyn Fn(&Cart) -> bool) -> Result<Weighing> {
        let Asking { settings, ledger, now, .. } = *self;
        let look =
            Look { settings, now, output: Output::default(), record_left_out: false, asked: Some(asked), stop: None };
        let mut found = look.read(self.source, ledger)?;
        let rules = plan_rules(settings, ledger)?;
        let decided = look.decide(self.source, ledger, &rules, u64::MAX)?.unwrap_or_default();
        let over = (decided.to_plan > settings.detect.max_per_run).then_some(decided.to_plan);
        found.asked.sort_by(|(one, _), (other, _)| {
            other.updated_at.cmp(&one.updated_at).then_with(|| one.cart_id.cmp(&other.cart_id))
        });
        let since = ledger.carts_count_from(settings.detect.since)?;
        let terms = Terms { detect: &settings.detect, now, since };
        let mut carts = Vec::new();
        for (cart, at_once) in found.asked {
            let (of_look, verdict, detail) = match at_once {
                Some((verdict, detail)) => (candidate(&cart), verdict.to_owned(), detail),
                None => ledger
                    .verdict_on(&cart.cart_id)?
                    .unwrap_or_else(|| (candidate(&cart), "not decided".to_owned(), String::new())),
            };
            let verdict = if over.is_some() && verdict == PLAN { TOO_MANY.to_owned() } else { verdict };
            carts.push(self.weigh_one(&terms, &rules, over, *cart, of_look, (verdict, detail))?);
        }
        Ok(Weighing { carts, more: found.more_asked, plans: over.is_none() })
    }

    /// What the next run does with a message that is planned and due. [`Asking::weigh`] has looked at the shop.
    pub fn look_ahead(&mut self, due: &Due) -> Result<NextLook> {
        let Asking { settings, ledger, now, .. } = *self;
        let skip = |reason: Reason, why: String| NextLook { what: "skip", reason: Some(reason), why, at: None };
        if let Some(reason) = before_look(ledger, due)? {
            return Ok(skip(reason, String::new()));
        }
        let look = last_look(self.source, settings, due, now)?;
        Ok(match after_look(settings, ledger, due, look, now)? {
            Fate::Go(_) => NextLook { what: "send", reason: None, why: String::new(), at: None },
            Fate::Skip(reason, why) => skip(reason, why),
            Fate::Wait(at, why) => NextLook { what: "wait", reason: None, why, at: Some(at) },
            Fate::Look(since) => {
                let why = format!("the shop does not show its cart, since {}", instant::text(since));
                NextLook { what: "wait", reason: None, why, at: None }
            }
            Fate::Move(touched) => {
                let why = "its cart was touched again".to_owned();
                NextLook { what: "wait", reason: None, why, at: Some(touched.not_before) }
            }
        })
    }

    fn weigh_one(
        &mut self,
        terms: &Terms<'_>,
        rules: &PlanRules,
        over: Option<u64>,
        cart: Cart,
        of_look: Candidate,
        (verdict, detail): (String, String),
    ) -> Result<WeighedCart> {
        let Asking { settings, ledger, now, .. } = *self;
        let weighed = ledger.weigh(&of_look, rules, now)?;
        let mut findings: Vec<Finding> = vec![judged("address", None, true, "one that mail can go to")];
        findings.extend(CartRule::BY_TIME.map(|rule| by_cart(rule, terms, &cart)));
        let of_the_cart = CartRule::BY_ITSELF.into_iter().filter(|rule| *rule != CartRule::NotOrdered);
        findings.extend(of_the_cart.map(|rule| by_cart(rule, terms, &cart)));
        let mut asked = cart.clone();
        if let Some(begun_at) = weighed.flow.as_ref().and_then(|flow| flow.begun_at) {
            asked.counts_orders_from(begun_at - span::delta(settings.detect.idle));
        }
        let ordered = cart.ordered_at.is_some() || self.source.ordered(&asked)?;
        let by_row = cart.ordered_at.map(|at| format!("ordered {}", instant::text(at)));
        findings.push(judged(
            "ordered",
            None,
            !ordered,
            by_row.unwrap_or_else(|| match ordered {
                true => "this cart was ordered, or its address ordered since it was begun".into(),
                false => "neither this cart nor its address has an order since it was begun".into(),
            }),
        ));
        if settings.caps.quiet_after_order.is_some() || verdict == super::last_look::QUIET {
            let quiet = is_quiet_after_order(self.source, settings, &asked, now)?;
            let within = settings.caps.quiet_after_order.map(span::delta).map(limit);
            let found = if quiet { "its address ordered within it" } else { "no order of its address within it" };
            findings.push(Finding {
                limit: within,
                ..judged("quiet_after_order", Some("caps.quiet_after_order"), !quiet, found)
            });
        }
        by_ledger(&mut findings, &weighed, rules);
        if let Some((verdict, detail)) = against_formerly(ledger, rules, now, &of_look, &cart)? {
            let found = format!("{verdict}: {detail}, under the name that an older version knew this shopper by");
            findings.push(judged("former_name", None, false, found));
        }
        if ledger.forgets_someone()? {
            let forgotten = forgotten(ledger, &cart)?;
            let found = if forgotten.is_some() { "its owner was forgotten" } else { "its owner is not forgotten" };
            findings.push(judged("forgotten", None, forgotten.is_none(), found));
        }
        if rules.holdout.is_some() {
            let held = ledger.is_held_out(&of_look, rules, weighed.flow.as_ref())?;
            let found = if held { "this address is held out" } else { "this address is not held out" };
            findings.push(judged("holdout", Some("holdout.percent"), !held, found));
        }
        if verdict == NO_CODE {
            let found = "the pool of its step has no code for it";
            findings.push(judged("coupon", Some("detect.step.coupon"), false, found));
        }
        let many = over.map_or_else(
            || "no more than that are new now".to_owned(),
            |to_plan| format!("{to_plan} would be planned at once, so that none is"),
        );
        findings.push(Finding {
            limit: Some(settings.detect.max_per_run.to_string()),
            ..judged("max_per_run", Some("detect.max_per_run"), over.is_none() || verdict != TOO_MANY, many)
        });
        // What was the case only at the moment of the look has no rule of its own.
        let passed = findings.iter().all(|finding| finding.passes);
        if passed && verdict != PLAN {
            let found = if detail.is_empty() { verdict.clone() } else { format!("{verdict}: {detail}") };
            findings.push(judged("shown_by_the_shop", None, false, found));
        }
        let leaves_at = self.add_waits(&mut findings, &weighed, rules, &of_look)?;
        let idle_at = Some(cart.updated_at + span::delta(settings.detect.idle)).filter(|at| *at > now);
        let step_at = match weighed.of_flow {
            Some(Standing::Waits { step, at }) => Some((step, at)),
            _ => None,
        };
        Ok(WeighedCart {
            leaves_at: leaves_at.filter(|_| verdict == PLAN),
            cart,
            verdict,
            detail,
            findings,
            step_at,
            idle_at,
            window_ends_at: weighed
                .by_rule
                .iter()
                .filter_map(|(_, standing)| window_end(standing.as_ref()?, rules))
                .max(),
        })
    }

    /// What a message waits for that would be planned, and until when at least.
    fn add_waits(
        &self,
        findings: &mut Vec<Finding>,
        weighed: &Weighed,
        rules: &PlanRules,
        cart: &Candidate,
    ) -> Result<Option<Instant>> {
        let Asking { settings, ledger, now, .. } = *self;
        let waits = |finding: Finding| Finding { effect: "waits", ..finding };
        for cap in &settings.caps.per_person {
            let (begun, frees_at) = ledger.begun_within(&cart.folded_address, cap, now)?;
            let free_at = frees_at.map_or_else(String::new, |at| format!("; free at {}", instant::text(at)));
            findings.push(waits(Finding {
                limit: Some(format!("{} in {}", cap.messages, limit(cap.within))),
                ..judged(
                    "caps",
                    Some("caps.per_person"),
                    frees_at.is_none(),
                    format!("{begun} begun within it{free_at}"),
                )
            }));
        }
        let cap = match settings.caps.per_person.is_empty() {
            true => None,
            false => ledger.cap_frees_at(&cart.folded_address, now)?,
        };
        let gap = match weighed.flow.is_some() {
            true => ledger.gap_ends_at(&cart.folded_address, 0, now)?,
            false => None,
        };
        let free_at = now.max(cap.unwrap_or(now)).max(gap.unwrap_or(now));
        let opens_at = rules.opens(cart, free_at);
        if rules.send_window.is_some() {
            let zone = cart.timezone.unwrap_or(rules.zone);
            let whose = if cart.timezone.is_some() { "the shopper's" } else { "the shop's" };
            let opens = rules.opens(cart, now);
            let found = match opens > now {
                true => format!("closed in {zone} ({whose} zone), opens {}", instant::text(opens)),
                false => format!("open in {zone} ({whose} zone)"),
            };
            findings.push(waits(judged("send_window", Some("send_window.hours"), opens <= now, found)));
        }
        Ok((opens_at > now).then_some(opens_at))
    }
}

/// A limit as the configuration has it: `20h`, `3d`.
fn limit(span: TimeDelta) -> String {
    let spoken = span::spoken(span);
    spoken.trim_end_matches(" 0h").trim_end_matches(" 0m").to_owned()
}

fn judged(rule: &'static str, key: Option<&'static str>, passes: bool, found: impl Into<String>) -> Finding {
    Finding { rule, key, found: found.into(), limit: None, passes, effect: "leaves out" }
}

/// What one rule about the cart itself says.
fn by_cart(rule: CartRule, terms: &Terms<'_>, cart: &Cart) -> Finding {
    let passes = rule.against(terms, cart).is_none();
    let detect = terms.detect;
    let untouched = touched(terms.now - cart.updated_at);
    let worth = cart.value().map_or_else(|| "without a total".to_owned(), |value| value.display());
    let why = |otherwise: &str| rule.against(terms, cart).map_or_else(|| otherwise.to_owned(), |(_, why)| why);
    let (name, key, found, most) = match rule {
        CartRule::Idle => ("idle", Some("detect.idle"), untouched, Some(self::limit(span::delta(detect.idle)))),
        CartRule::MaxAge => {
            ("max_age", Some("detect.max_age"), untouched, Some(self::limit(span::delta(detect.max_age))))
        }
        CartRule::Since => (
            "since",
            Some("detect.since"),
            format!("touched {}", instant::text(cart.updated_at)),
            Some(instant::text(terms.since)),
        ),
        CartRule::Items => ("items", None, format!("lines: {}", cart.lines.len()), None),
        CartRule::NotOrdered => ("ordered", None, why("not ordered"), None),
        CartRule::LeastValue => (
            "min_value",
            Some("detect.min_value"),
            why(&worth),
            detect.filter.least.get(&cart.currency).map(Money::display),
        ),
        CartRule::MostValue => (
            "max_value",
            Some("detect.max_value"),
            why(&worth),
            detect.filter.most.get(&cart.currency).map(Money::display),
        ),
        CartRule::Goods => {
            let key = if detect.filter.skus.is_empty() && !detect.filter.categories.is_empty() {
                "detect.exclude_category"
            } else {
                "detect.exclude_sku"
            };
            ("goods", Some(key), why("nothing that is excluded"), None)
        }
        CartRule::Consent => {
            let found = match cart.consent {
                Some(true) => "recorded",
                Some(false) => "refused",
                None => "none recorded",
            };
            let limit = if detect.consent_assumed { "assumed" } else { "required" };
            ("consent", Some("detect.consent"), found.to_owned(), Some(limit.to_owned()))
        }
    };
    Finding { limit: most, ..judged(name, key, passes, found) }
}

/// When something that was sent or decided leaves the window.
fn window_end(standing: &Standing, rules: &PlanRules) -> Option<Instant> {
    match standing {
        Standing::AlreadySent { at } | Standing::Settled { at, .. } => {
            instant::from_text(at).map(|at| at + rules.window)
        }
        _ => None,
    }
}

/// What the ledger's rules say, and those about the other carts.
fn by_ledger(findings: &mut Vec<Finding>, weighed: &Weighed, rules: &PlanRules) {
    let window = Some(self::limit(rules.window));
    let said = |standing: &Standing| match against(standing.clone()) {
        Some((verdict, detail)) if detail.is_empty() => verdict.to_owned(),
        Some((verdict, detail)) => format!("{verdict}: {detail}"),
        None => String::new(),
    };
    if let Some(flow) = &weighed.flow {
        let found = match (&weighed.of_flow, &flow.next) {
            (Some(standing), _) => said(standing),
            (None, Next::Due { step, .. }) => format!("{} is due", rules.steps[*step].name),
            (None, _) => "a step is due".to_owned(),
        };
        findings.push(judged("step", Some("detect.step.after"), weighed.of_flow.is_none(), found));
        let twin = match weighed.has_later_twin {
            true => "another cart of this address has the same contents, and was touched later",
            false => "no other cart of this address has the same contents",
        };
        findings.push(judged("same_contents", None, !weighed.has_later_twin, twin));
    }
    for (rule, standing) in &weighed.by_rule {
        let (name, key, limit, otherwise) = match rule {
            Rule::SameContents => {
                ("window", Some("detect.window"), window.clone(), "nothing about these contents within it".to_owned())
            }
            Rule::OlderSystem => (
                "older_system",
                Some("detect.window"),
                window.clone(),
                "nothing from an older system within it".to_owned(),
            ),
            Rule::Untouched => ("touched_since", None, None, "not skipped since it was touched last".to_owned()),
            Rule::MaxPerCart => (
                "max_per_cart",
                Some("detect.max_per_cart"),
                Some(rules.max_per_cart.to_string()),
                format!("{} counted", weighed.episodes),
            ),
            Rule::Suppressed => ("suppression", None, None, "not on the suppression list".to_owned()),
            Rule::Later => ("later_cart", None, None, "no later cart is written about".to_owned()),
        };
        let until = |standing: &Standing| {
            let ends_at = window_end(standing, rules).map(|at| format!("; free at {}", instant::text(at)));
            said(standing) + &ends_at.unwrap_or_default()
        };
        let found = standing.as_ref().map_or(otherwise, until);
        findings.push(Finding { limit, ..judged(name, key, standing.is_none(), found) });
    }
    let names = ["later_mail", "one_mail", "busy"];
    let otherwise =
        ["no later cart was written about", "no other cart of this shopper is chosen", "at no other cart just now"];
    for ((name, otherwise), standing) in names.into_iter().zip(otherwise).zip(&weighed.among) {
        let key = (name == "busy").then_some("detect.idle");
        let found = standing.as_ref().map_or_else(|| otherwise.to_owned(), &said);
        findings.push(judged(name, key, standing.is_none(), found));
    }
}
