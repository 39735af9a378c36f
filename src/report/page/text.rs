//! The page in lines, for a terminal or a mail: the numbers, without the lists.

use std::collections::BTreeMap;

use super::Page;
use super::carts::{Ordered, Step};
use super::mask::plain;
use super::tally::{Counts, Skipped};
use crate::domain::span;
use crate::output::count;

pub fn lines(page: &Page) -> Vec<String> {
    let mut lines = Vec::new();
    if page.has_personal_data {
        lines.push("This text contains personal data.".to_owned());
    }
    lines.push(match page.now.run {
        Some(run) => format!("{} Run: {run}", page.now.line),
        None => page.now.line.clone(),
    });
    for (about, waits) in [("carts", &page.now.waiting.cart), ("campaigns", &page.now.waiting.campaign)] {
        if let Some(next_at) = waits.next_at {
            let why = waits.last_reply.as_deref().map_or_else(String::new, |reply| format!(", because: {reply}"));
            lines.push(format!("waiting {} of {about}, the next at {next_at}{why}", waits.messages));
        }
    }
    let of =
        page.campaign.as_ref().map_or_else(String::new, |campaign| format!(" of campaign {}", plain(campaign, 80)));
    lines.push(format!(
        "{} ledger; messages{of} planned from {} to {}, as they are now:",
        page.now.ledger, page.since, page.until
    ));
    lines.push(format!("  {}", counts(&page.days.total, page.sent_word)));
    if page.pruned > 0 {
        let (pruned, were) = (count(page.pruned, "message"), if page.pruned == 1 { "was" } else { "were" });
        lines.push(format!("  {pruned} settled long ago {were} pruned: only the books of their campaign count them"));
    }
    if let Some(carts) = &page.carts {
        lines.push(format!("carts: {}", count(carts.abandonments.carts, "cart")));
        for step in &carts.steps {
            lines.extend(of_step(step, page.sent_word));
        }
        if let Some(holdout) = &carts.holdout {
            let arms = [("with mail", holdout.treated), ("held out", holdout.held_out)];
            let arms = arms.map(|(name, arm)| format!("{name} {} of {} ordered", arm.ordered, arm.people));
            let told = holdout.told.map_or_else(
                || "too few to tell".to_owned(),
                |told| {
                    let [difference, from, to] = [told.difference, told.from, told.to].map(|share| share * 100.0);
                    format!("{difference:+.1} points (95 % interval {from:+.1} to {to:+.1})")
                },
            );
            lines.push(format!("  {}: {told}", arms.join(", ")));
        }
    }
    for campaign in &page.campaigns.scheduled {
        let next = campaign.next_run.as_deref().unwrap_or("-");
        let last = campaign.last_run.as_deref().unwrap_or("-");
        let runs = count(campaign.total_runs, "run");
        let name = plain(&campaign.campaign, 80);
        lines.push(format!("campaign {name}: {}, next {next}, last {last}, {runs}", campaign.status));
    }
    for row in &page.campaigns.occurrences {
        let what = match (row.recipients, row.balances) {
            (None, _) => "missed".to_owned(),
            (Some(recipients), balances) => {
                let books = if balances == Some(false) { "; BOOKS DO NOT BALANCE" } else { "" };
                format!("{}: {}{books}", count(recipients, "recipient"), counts(&row.counts, page.sent_word))
            }
        };
        lines.push(format!("  {} {}  {what}", plain(&row.campaign, 80), row.planned_at));
    }
    for returned in page.health.returned.iter().take(1) {
        let classes: Vec<_> = returned.classes.iter().filter(|class| class.messages > 0).collect();
        let classes: Vec<String> = classes.iter().map(|class| format!("{} {}", class.class, class.messages)).collect();
        let none = if classes.is_empty() { "nothing".to_owned() } else { classes.join(", ") };
        let (sent, word) = (returned.sent, page.sent_word);
        lines.push(format!("came back of {sent} {word}, in doubt, or refused at once as dead: {none}"));
    }
    for refusal in &page.health.refusals {
        lines.push(format!("refused {}: {}", refusal.messages, refusal.reply.as_deref().unwrap_or("others")));
    }
    lines
}

fn of_step(step: &Step, sent_word: &str) -> Vec<String> {
    let name = if step.step == "-" { "no step".to_owned() } else { plain(&step.step, 80) };
    let mut line = format!("  {name}: {}{}", counts(&step.counts, sent_word), reasons(&step.skipped_by));
    if let Some(ordered) = &step.ordered {
        line.push_str(&format!("; {}", followed(ordered)));
    }
    if let Some(waited) = &step.waited {
        let spoken = |seconds: u32| span::spoken(chrono::TimeDelta::seconds(seconds.into()));
        let (median, most) = (spoken(waited.median_seconds), spoken(waited.percentile_95_seconds));
        line.push_str(&format!("; after the touch median {median}, 95 % within {most}"));
    }
    vec![line]
}

/// `3 planned: sent 2, in doubt 1`.
fn counts(counts: &Counts, sent_word: &str) -> String {
    let states = [
        (sent_word, counts.sent),
        ("refused", counts.refused),
        ("skipped", counts.skipped),
        ("in doubt", counts.in_doubt),
        ("to come", counts.to_come),
    ];
    let states = states.iter().filter(|(_, number)| *number > 0).map(|(state, number)| format!("{state} {number}"));
    let states: Vec<String> = states.collect();
    let all = count(counts.messages, "message");
    if states.is_empty() { all } else { format!("{all}: {}", states.join(", ")) }
}

fn reasons(skipped: &Skipped) -> String {
    let parts: Vec<String> = skipped.iter().map(|(reason, number)| format!("{reason} {number}")).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

fn followed(ordered: &Ordered) -> String {
    let money = |by: &BTreeMap<String, String>| {
        by.iter().map(|(currency, value)| format!(", {value} {currency}")).collect::<String>()
    };
    let how = match ordered.orders {
        0 => String::new(),
        _ => format!(" ({} of the very cart, {} of the same person)", ordered.by_cart, ordered.by_person),
    };
    format!("{}{}{how}", count(ordered.orders, "order"), money(&ordered.value))
}
