//! What mail brought, in words.

use crate::domain::recovery::{Arm, Difference};
use crate::ledger::{Brought, Comparison, Takings};
use crate::output::count;

/// A line for all, one for each step and campaign, and one for the comparison with those who were held out. `time` says of when
/// it is: `the last 30 days`.
pub fn lines(brought: &Brought, time: &str) -> Vec<String> {
    let Brought { all, by_cart, by_person, cancelled, refunded, .. } = brought;
    let mut line = format!("orders that followed a mail in {time}: {}", takings(all));
    if all.orders > 0 {
        line.push_str(&format!("; {by_cart} of the very cart, {by_person} of the same person"));
    }
    for (orders, what) in [(cancelled, "cancelled"), (refunded, "refunded")] {
        if *orders > 0 {
            line.push_str(&format!("; {orders} more {what} since"));
        }
    }
    let mut lines = vec![line];
    for (step, of_step) in &brought.by_step {
        let name = if step == "-" { "carts".to_owned() } else { format!("step {step}") };
        lines.push(format!("  {name}: {}", takings(of_step)));
    }
    lines.extend(
        brought.by_campaign.iter().map(|(id, of_campaign)| format!("  campaign {id}: {}", takings(of_campaign))),
    );
    lines.extend(brought.holdout.as_ref().map(compared));
    lines
}

/// `3 orders, 59.70 EUR`.
fn takings(takings: &Takings) -> String {
    let mut line = count(takings.orders, "order");
    for (currency, value) in &takings.value {
        line.push_str(&format!(", {value} {currency}"));
    }
    if takings.without_total > 0 {
        line.push_str(&format!(" ({} without a total)", takings.without_total));
    }
    line
}

fn compared(Comparison { treated, held_out, difference }: &Comparison) -> String {
    let arm = |arm: &Arm| format!("{} of {} ordered ({:.1} %)", arm.ordered, arm.people, arm.rate() * 100.0);
    let told = match difference {
        None => "too few to tell".to_owned(),
        Some(Difference { difference, from, to }) => {
            let points = |rate: f64| rate * 100.0;
            let meaning = if *from > 0.0 {
                "more than chance"
            } else if *to < 0.0 {
                "fewer, and more than chance"
            } else {
                "which may be chance"
            };
            format!(
                "{:+.1} points, {meaning} (95 % interval {:+.1} to {:+.1})",
                points(*difference),
                points(*from),
                points(*to)
            )
        }
    };
    format!("  holdout: of those written to {}, of those held out {}: {told}", arm(treated), arm(held_out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::recovery::difference;

    #[test]
    fn the_comparison_says_what_it_is_worth() {
        let said = |treated: (u64, u64), held_out: (u64, u64)| {
            let arm = |(ordered, people): (u64, u64)| Arm { people, ordered };
            let (treated, held_out) = (arm(treated), arm(held_out));
            compared(&Comparison { treated, held_out, difference: difference(treated, held_out) })
        };
        assert_eq!(
            said((20, 1000), (1, 50)),
            "  holdout: of those written to 20 of 1000 ordered (2.0 %), of those held out 1 of 50 ordered (2.0 %): too few to tell"
        );
        assert!(
            said((90, 950), (5, 100)).ends_with("+4.5 points, which may be chance (95 % interval -1.9 to +8.0)"),
            "{}",
            said((90, 950), (5, 100))
        );
        assert!(said((300, 1000), (50, 500)).contains("+20.0 points, more than chance"));
        assert!(said((50, 1000), (100, 500)).contains("-15.0 points, fewer, and more than chance"));
    }
}
