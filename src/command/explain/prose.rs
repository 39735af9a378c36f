//! The lines that people read.

use super::answer::Answer;
use super::known::Known;
use super::timeline::Event;
use crate::command::detect::{Finding, WeighedCart};
use crate::domain::instant;
use crate::domain::message_key;

/// The answer, then what happened, then every rule, then what to do.
pub(super) fn lines(known: &Known, answer: &Answer, history: &[Event], also: &[String]) -> Vec<String> {
    let mut lines = vec![answer.line.clone()];
    lines.extend(known.notes.iter().chain(also).map(|note| format!("  note: {note}")));
    if known.stories.left_out > 0 {
        lines.push(format!("  note: {} older ones are left out; `mailonce log` lists them", known.stories.left_out));
    }
    if !history.is_empty() {
        lines.push(String::new());
    }
    lines.extend(history.iter().map(line_of));
    for (at, weighed) in known.carts().iter().enumerate() {
        match answer.about == Some(at) {
            true => lines.extend(rules(known, weighed)),
            false => {
                let detail = if weighed.detail.is_empty() { String::new() } else { format!(" ({})", weighed.detail) };
                let what = if weighed.verdict == "plan" { "would be planned" } else { &weighed.verdict };
                lines.push(String::new());
                lines.push(format!("cart {}: {what}{detail}", weighed.cart.cart_id));
            }
        }
    }
    if known.more_carts() > 0 {
        lines.push(format!("and {} more; each is told of by its id", known.more_carts()));
    }
    if !answer.next.is_empty() {
        lines.push(String::new());
    }
    lines.extend(answer.next.iter().map(|next| format!("next: {next}")));
    lines
}

fn rules(known: &Known, weighed: &WeighedCart) -> Vec<String> {
    let WeighedCart { cart, findings, .. } = weighed;
    let passing = findings.iter().filter(|finding| finding.passes).count();
    let whose = cart.user_id.as_ref().map_or_else(String::new, |user| format!(" of user {user}"));
    let zone = cart.timezone.map_or_else(String::new, |zone| format!(", in {zone}"));
    let (id, now) = (&cart.cart_id, instant::text(known.now));
    let mut lines =
        vec![String::new(), format!("cart {id}{whose}{zone} at {now}: {passing} of {} rules pass", findings.len())];
    let name = |finding: &Finding| finding.key.unwrap_or(finding.rule);
    let width = findings.iter().map(|finding| name(finding).len()).max().unwrap_or_default();
    // What stands against it first; the others in their order.
    let (pass, fail): (Vec<&Finding>, Vec<&Finding>) = findings.iter().partition(|finding| finding.passes);
    lines.extend(fail.into_iter().chain(pass).map(|finding| {
        let mark = match (finding.passes, finding.effect) {
            (true, _) => "ok",
            (false, "waits") => "waits",
            (false, _) => "NO",
        };
        let limit = finding.limit.as_ref().map_or_else(String::new, |limit| format!(" (limit {limit})"));
        format!("  {mark:<5} {:<width$}  {}{limit}", name(finding), finding.found)
    }));
    lines
}

fn line_of(event: &Event) -> String {
    let about = match (&event.campaign_id, &event.cart_id) {
        (Some(campaign), _) => format!("campaign {campaign}"),
        (None, Some(cart)) => match &event.step {
            Some(step) => format!("cart {cart} {step}"),
            None => format!("cart {cart}"),
        },
        (None, None) => String::new(),
    };
    let state = event.state.map_or_else(|| event.what.replace('_', " "), |state| state.spoken().to_owned());
    let run = event.run.map_or_else(String::new, |run| format!("run {run}; "));
    let words = event.words.as_deref().unwrap_or_default();
    let id = match (event.what, &event.message_id) {
        ("message", Some(id)) => format!(" [{}]", message_key::short_id(id)),
        _ => String::new(),
    };
    format!("  {}  {about:<20}  {state:<12}  {run}{words}{id}", event.at).trim_end().to_owned()
}

/// Whether a character shows nothing, or changes how others are shown: control characters and those that set a direction.
pub(super) fn is_unseen(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text of others as one line of a terminal shows it: what nobody would see is written out.
pub(super) fn tame(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_unseen(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}
