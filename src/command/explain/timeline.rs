//! What happened, in the order of time.

use serde::Serialize;

use super::known::Known;
use super::phrases::skipped;
use crate::domain::address;
use crate::domain::instant;
use crate::domain::state::{Reason, State};
use crate::ledger::MessageStory;

/// One thing that happened, or is to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Event {
    pub at: String,
    /// `message`, `attempt`, `resolved`, `report`, `order`, `older_system`, `suppressed`, `unsuppressed`, `touched`.
    pub what: &'static str,
    pub cart_id: Option<String>,
    pub campaign_id: Option<String>,
    pub occurrence: Option<String>,
    pub step: Option<String>,
    pub state: Option<State>,
    pub reason: Option<Reason>,
    pub message_id: Option<String>,
    pub run: Option<i64>,
    /// More of it, for people; addresses are masked.
    pub words: Option<String>,
}

impl Event {
    fn new(at: &str, what: &'static str) -> Event {
        Event {
            at: at.to_owned(),
            what,
            cart_id: None,
            campaign_id: None,
            occurrence: None,
            step: None,
            state: None,
            reason: None,
            message_id: None,
            run: None,
            words: None,
        }
    }

    fn of(at: &str, what: &'static str, message: &MessageStory) -> Event {
        Event {
            cart_id: message.cart_id.clone(),
            campaign_id: message.campaign.as_ref().map(|campaign| campaign.campaign_id.clone()),
            occurrence: message.campaign.as_ref().map(|campaign| campaign.occurrence.clone()),
            step: message.step.clone(),
            message_id: Some(message.message_id.clone()),
            ..Event::new(at, what)
        }
    }

    fn saying(self, words: impl AsRef<str>) -> Event {
        Event { words: Some(address::masked(words.as_ref())), ..self }
    }
}

/// All that happened, oldest first.
pub(super) fn events(known: &Known) -> Vec<Event> {
    let mut events = Vec::new();
    for message in &known.stories.messages {
        of_message(&mut events, message);
    }
    for row in &known.old {
        let what = match (row.sent, row.moved_aside) {
            (true, false) => "an older system wrote",
            (false, false) => "an older system knew of the cart, and did not write",
            (_, true) => "a row of an older system that another stands for",
        };
        events.push(Event { cart_id: row.cart_id.clone(), ..Event::new(&row.at, "older_system").saying(what) });
    }
    for row in &known.suppressions {
        let words = format!("{}{} ({})", row.reason, on(&row.list), row.origin);
        events.push(Event::new(&row.added_at, "suppressed").saying(words));
    }
    for row in &known.removed {
        let words = format!("{}{} ({})", row.reason, on(&row.list), row.origin);
        events.push(Event::new(&row.added_at, "suppressed").saying(words));
        events.push(Event::new(&row.removed_at, "unsuppressed").saying(format!(
            "{}{}",
            row.removed_why,
            on(&row.list)
        )));
    }
    for weighed in known.carts() {
        let cart = &weighed.cart;
        let value = cart.value().map_or_else(|| "without a total".to_owned(), |value| value.display());
        let event =
            Event { cart_id: Some(cart.cart_id.clone()), ..Event::new(&instant::text(cart.updated_at), "touched") };
        events.push(event.saying(format!("{value}, in the shop now")));
    }
    events.sort_by(|one, other| one.at.cmp(&other.at));
    events
}

fn on(list: &str) -> String {
    if list.is_empty() { String::new() } else { format!(", list {list}") }
}

fn of_message(events: &mut Vec<Event>, message: &MessageStory) {
    let at = match message.state {
        State::Planned => &message.not_before,
        _ => message.armed_at.as_ref().or(message.settled_at.as_ref()).unwrap_or(&message.planned_at),
    };
    let words = match (message.state, message.reason) {
        (State::Planned, _) => Some(format!("to come, at the earliest then; planned {}", message.planned_at)),
        (State::Skipped, Some(reason)) => Some(skipped(reason).to_owned()),
        _ => message.last_reply.clone(),
    };
    let event = Event {
        state: Some(message.state),
        reason: message.reason,
        run: message.run,
        ..Event::of(at, "message", message)
    };
    events.push(match words {
        Some(words) => event.saying(words),
        None => event,
    });
    // The one that settled it is the message's own line.
    let is_its_own = |armed_at: &Option<String>| armed_at.is_some() && *armed_at == message.armed_at;
    for attempt in message.attempts.iter().filter(|attempt| !is_its_own(&attempt.armed_at)) {
        let event = Event { run: Some(attempt.run), ..Event::of(&attempt.ended_at, "attempt", message) };
        events.push(event.saying(format!("{}; {}", attempt.outcome, attempt.reply)));
    }
    for resolution in &message.resolutions {
        let words = format!("taken for {} by {}: {}", resolution.decision, resolution.who, resolution.reason);
        events.push(Event::of(&resolution.decided_at, "resolved", message).saying(words));
    }
    for report in &message.reports {
        let more: Vec<&str> = [&report.status, &report.diagnostic].into_iter().flatten().map(String::as_str).collect();
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(" ")) };
        events.push(
            Event::of(&report.received_at, "report", message).saying(format!("came back: {}{more}", report.class)),
        );
    }
    for order in &message.orders {
        let value = match (&order.value, &order.currency) {
            (Some(value), Some(currency)) => format!(", {value} {currency}"),
            _ => String::new(),
        };
        let of = if order.how == "cart" { "of this very cart" } else { "of the same person" };
        let status = if order.status == "placed" { String::new() } else { format!(", {} since", order.status) };
        let words = format!("order {} followed, {of}{value}{status}", order.order_id);
        events.push(Event::of(&order.ordered_at, "order", message).saying(words));
    }
}
