//! What is read of the shop: its carts and its orders.

use anyhow::Result;

use super::Findings;
use crate::command::Context;
use crate::domain::cart::Cart;
use crate::domain::instant::{self, Instant};
use crate::domain::span;
use crate::failure::Failure;
use crate::output::count;
use crate::settings::Settings;
use crate::source::{self, Advice, OrdersRead, Row, Source, Touched};

pub(super) fn look_at_source(context: &Context<'_>, settings: &Settings, findings: &mut Findings) {
    let described = settings.source.kind.described();
    let looked = source::open(&settings.source).and_then(|mut source| {
        let mut advice = source.advice()?;
        let (carts, sample) = CartsInReach::count(settings, source.as_mut(), context.clock.now())?;
        advice.extend(source.doubts(&sample[..sample.len().min(CartsInReach::MOST_DOUBTED)])?);
        Ok((advice, carts))
    });
    match looked {
        Ok((advice, carts)) => {
            if advice.is_empty() {
                findings.ok("source", format!("{described} has what carts are read from"));
            }
            for Advice { what, remedy } in advice {
                findings.warn("source", format!("{described} {what}"), remedy);
            }
            carts.judge(settings, findings);
            if let Some(window) = settings.attribution {
                look_at_orders(settings, context.clock.now() - span::delta(window), findings);
            }
        }
        Err(err) => match err.downcast_ref::<Failure>() {
            Some(failure) => findings.fail("source", failure.what.clone(), failure.next.clone()),
            None => findings.fail("source", format!("{err:#}"), "check [source]"),
        },
    }
}

/// Reads the orders once, as `detect` does after it has sent what is due.
pub(super) fn look_at_orders(settings: &Settings, since: Instant, findings: &mut Findings) {
    let read = source::open(&settings.source).and_then(|mut source| source.orders(since, &mut |_| Ok(())));
    match read {
        Ok(OrdersRead { orders, without_total, unusable, first_unusable }) => {
            let mut said = format!("{} since {}", count(orders, "order"), instant::text(since));
            if let Some(first) = first_unusable {
                said.push_str(&format!(", {} that cannot be used, the first: {first}", count(unusable, "row")));
            }
            if orders > 0 && without_total == orders {
                let remedy = "what they come to is not known: have `total` and `currency` read (source.orders)";
                findings.warn("orders", format!("{said}; none has a total"), remedy);
            } else if orders == 0 {
                let remedy = "if the shop has some, a comparison of times is wrong, or source.timezone";
                findings.warn("orders", said, remedy);
            } else {
                findings.ok("orders", said);
            }
        }
        Err(err) => match err.downcast_ref::<Failure>() {
            Some(failure) => findings.fail("orders", failure.what.clone(), failure.next.clone()),
            None => findings.fail("orders", format!("{err:#}"), "check [source]"),
        },
    }
}

/// The carts touched within `max_age`, to tell a query that finds too little or too much.
#[derive(Default)]
struct CartsInReach {
    carts: u64,
    /// Whose consent is not known.
    without_consent: u64,
    bad: u64,
    /// What is wrong with the first bad row.
    first_bad: String,
    /// How many were looked for among the orders, and how many were there.
    looked_for: u64,
    ordered: u64,
}

impl CartsInReach {
    /// So many are looked for among the orders.
    const MOST_LOOKED_FOR: usize = 200;
    /// With so many, queries are tried with other parameters than theirs.
    const MOST_DOUBTED: usize = 20;
    /// From so many on, chance is no explanation.
    const TELLING: u64 = 20;

    /// Counts, and gives some of the carts too.
    fn count(settings: &Settings, source: &mut dyn Source, now: Instant) -> Result<(CartsInReach, Vec<Cart>)> {
        let not_before = now - span::delta(settings.detect.max_age);
        let touched = Touched { not_before, idle_before: now, fresh_until: now };
        let mut found = CartsInReach::default();
        let mut sample = Vec::new();
        source.read_carts(&touched, &mut |row| {
            match row {
                Row::Cart(cart) => {
                    found.carts += 1;
                    found.without_consent += u64::from(cart.consent.is_none());
                    if sample.len() < CartsInReach::MOST_LOOKED_FOR {
                        sample.push(*cart);
                    }
                }
                Row::Bad(bad) => {
                    found.bad += 1;
                    if found.bad == 1 {
                        found.first_bad = bad.problem;
                    }
                }
            }
            Ok(())
        })?;
        for cart in &sample {
            found.looked_for += 1;
            found.ordered += u64::from(source.ordered(cart)?);
        }
        Ok((found, sample))
    }

    fn judge(&self, settings: &Settings, findings: &mut Findings) {
        let CartsInReach { carts, without_consent, bad, looked_for, ordered, .. } = *self;
        let max_age = span::spoken(span::delta(settings.detect.max_age));
        let said = format!(
            "{} touched in the last {max_age}: {without_consent} without known consent, {ordered} of {looked_for} ordered, {}",
            count(carts, "cart"),
            count(bad, "bad row")
        );
        let shown = "`mailonce source carts --limit 3` shows what is read";
        if carts + bad == 0 {
            let remedy = "if the shop has some, a comparison of times is wrong, or source.timezone; `mailonce source carts \
                          ID`, with the id of a cart, shows how it is read";
            findings.warn("carts", format!("no cart was touched in the last {max_age}"), remedy);
        } else if carts == 0 {
            let what = format!("none can be used: {}, the first: {}", count(bad, "bad row"), self.first_bad);
            findings.warn("carts", what, format!("correct the shop, or the query that reads it; {shown}"));
        } else if carts >= CartsInReach::TELLING && without_consent == carts && !settings.detect.consent_assumed {
            let remedy =
                "no one gets a mail: have `consent` read, or set detect.consent = \"assumed\" where the law lets you";
            findings.warn("carts", format!("the consent of none is known: {said}"), remedy);
        } else if looked_for >= CartsInReach::TELLING && (ordered == 0 || ordered == looked_for) {
            let what = if ordered == 0 { "none was ordered" } else { "all were ordered" };
            let remedy = format!("is that so? Else `source.ordered` compares the wrong columns or types; {shown}");
            findings.warn("carts", format!("{what}: {said}"), remedy);
        } else {
            findings.ok("carts", said);
        }
    }
}
