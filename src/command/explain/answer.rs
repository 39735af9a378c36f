//! The answer: one line, the word for it, and what to do.

use super::asked::Asked;
use super::known::{Known, Open, Shop};
use super::phrases::{argument, because, off_the_list, skipped, suppressed, what_would_change};
use super::prose;
use crate::command::detect::WeighedCart;
use crate::domain::address;
use crate::domain::instant;
use crate::domain::message_key;
use crate::domain::state::{Reason, State};
use crate::ledger::MessageStory;
use crate::settings::Settings;

#[derive(Debug)]
pub(super) struct Answer {
    /// Whether anything is known.
    pub found: bool,
    pub verdict: String,
    pub line: String,
    /// Which of the carts it is about, and whose rules are told.
    pub about: Option<usize>,
    /// What to do, one line each.
    pub next: Vec<String>,
}

impl Answer {
    pub fn of(settings: &Settings, known: &Known) -> Answer {
        let mut answer = find(settings, known);
        if answer.found && known.stories.messages.iter().any(|message| message.state == State::InDoubt) {
            let line = "in doubt: `mailonce resolve` lists it with the command that settles it".to_owned();
            if !answer.next.iter().any(|next| next.contains("mailonce resolve")) {
                answer.next.push(line);
            }
        }
        answer
    }

    fn new(verdict: impl Into<String>, line: String, about: Option<usize>, next: Vec<String>) -> Answer {
        Answer { found: true, verdict: verdict.into(), line, about, next }
    }
}

fn find(settings: &Settings, known: &Known) -> Answer {
    let who = subject(known);
    let shown = match &known.asked {
        Asked::Address(address) => argument(&address.envelope()).unwrap_or_else(|| "ADDRESS".into()),
        _ => "ADDRESS".to_owned(),
    };
    let main = main_cart(known);
    if let Asked::NoMessage(why) = &known.asked {
        return Answer { found: false, ..Answer::new("unknown", format!("{who}: {why}"), None, Vec::new()) };
    }
    if let Asked::Message { id, .. } = &known.asked
        && let Some(message) = known.story(*id)
    {
        let (verdict, line, next) = of_message(known, message, &shown);
        return Answer::new(verdict, format!("{who}: {line}"), main, next);
    }
    // Of a cart, the verdict is what `detect` says of it; of a person, this comes before everything about carts.
    if let Some(row) = known.suppression_of_carts().filter(|_| matches!(known.asked, Asked::Address(_))) {
        let what = if row.list.is_empty() { "no mail" } else { "no mail about carts" };
        return Answer::new(
            "suppressed",
            format!("{who}: {what}, because {}", suppressed(row)),
            main,
            vec![off_the_list(row, &shown)],
        );
    }
    if known.is_forgotten && matches!(known.asked, Asked::Address(_)) {
        let line = format!("{who}: no mail, because its owner was forgotten: of them only that is kept");
        let next =
            vec![format!("`mailonce suppress remove {shown}` takes that back, which only a word of theirs does")];
        return Answer::new("suppressed", line, main, next);
    }
    if known.opt_out_is_new {
        let why = "they asked for none, in the shop or by the link in a mail; the next run takes that over";
        let next = vec!["only a word of theirs takes that back".to_owned()];
        return Answer::new("suppressed", format!("{who}: no mail, because {why}"), main, next);
    }
    if let Some(problem) = &known.bad_row {
        let line = format!("{who}: no mail, because its row in the shop cannot be used: {problem}");
        return Answer::new(
            "bad row",
            line,
            None,
            vec!["correct it in the shop; docs/data.md says what a row must be".into()],
        );
    }
    if let Shop::Unreadable { problem, next } = &known.shop {
        let line = format!(
            "{who}: not known, because the shop cannot be read, and a run sends nothing about carts then: {problem}"
        );
        return Answer::new("shop not read", line, None, vec![next.clone()]);
    }
    if let Some((open, message)) = next_open(known) {
        return of_open(known, open, message, &who, main, &shown);
    }
    if let Some(at) = main {
        return of_cart(settings, known, at, &who, &shown);
    }
    without_a_cart(known, &who)
}

/// The cart that the answer is about: one that is written about, then one whose step waits, then one that may come up by itself, then
/// the one touched last.
fn main_cart(known: &Known) -> Option<usize> {
    let carts = known.carts();
    let by = |test: &dyn Fn(&WeighedCart) -> bool| carts.iter().position(test);
    by(&|cart| cart.verdict == "plan")
        .or_else(|| by(&|cart| cart.step_at.is_some()))
        .or_else(|| by(&|cart| cart.verdict == "not idle yet"))
        .or((!carts.is_empty()).then_some(0))
}

/// The message that is planned or begun: a cart's first, then the one that is due first.
fn next_open(known: &Known) -> Option<(&Open, &MessageStory)> {
    let open = known.open.iter().filter_map(|open| Some((open, known.story(open.id)?)));
    open.min_by_key(|(_, message)| (message.campaign.is_some(), message.not_before.clone()))
}

fn of_open(known: &Known, open: &Open, message: &MessageStory, who: &str, main: Option<usize>, shown: &str) -> Answer {
    let what = named(message);
    let about =
        known.carts().iter().position(|weighed| Some(&weighed.cart.cart_id) == message.cart_id.as_ref()).or(main);
    let next = &open.next;
    let why = if next.why.is_empty() { String::new() } else { format!(" ({})", next.why) };
    let (verdict, line) = match (next.what, next.at) {
        _ if message.state == State::Armed => ("armed", format!("{what} was begun{why}")),
        ("send", _) => ("send", format!("the next mail is {what}: planned, and sent by the next run")),
        ("skip", _) => {
            let reason = next.reason.map_or("", skipped);
            ("skip", format!("{what} is planned, and the next run skips it: {reason}{why}"))
        }
        (_, Some(at)) => ("wait", format!("the next mail is {what}, not before {}{why}", instant::text(at))),
        (_, None) => ("wait", format!("the next mail is {what}, and it waits{why}")),
    };
    let mut lines = Vec::new();
    if let Some(campaign) = message.campaign.as_ref().filter(|campaign| campaign.status == "paused") {
        lines.push(format!("to let it go on: `mailonce campaign resume {}`", campaign.campaign_id));
    }
    if next.reason == Some(Reason::Expired)
        && let Some(campaign) = &message.campaign
    {
        lines.push(format!("to plan it anew: `mailonce campaign retry {} --state expired`", campaign.campaign_id));
    }
    if next.what != "skip" {
        lines.push(format!("to stop it: `mailonce suppress add {shown}`"));
    }
    Answer::new(verdict, format!("{who}: {line}"), about, lines)
}

fn of_cart(settings: &Settings, known: &Known, at: usize, who: &str, shown: &str) -> Answer {
    let weighed = &known.carts()[at];
    let cart = match &known.asked {
        Asked::Cart(_) => "it".to_owned(),
        _ => format!("cart {}", weighed.cart.cart_id),
    };
    if weighed.verdict == "plan" {
        let line = match weighed.leaves_at {
            None => format!("{who}: the next run plans a mail about {cart} and sends it"),
            Some(leaves_at) => {
                format!(
                    "{who}: the next run plans a mail about {cart}, which leaves not before {}",
                    instant::text(leaves_at)
                )
            }
        };
        return Answer::new("plan", line, Some(at), vec![format!("to stop it: `mailonce suppress add {shown}`")]);
    }
    if let (Some((step, due)), "waiting for the next step") = (&weighed.step_at, weighed.verdict.as_str()) {
        let line = format!("{who}: the next mail is {step:?} about {cart}, not before {}", instant::text(*due));
        return Answer::new(
            &*weighed.verdict,
            line,
            Some(at),
            vec![format!("to stop it: `mailonce suppress add {shown}`")],
        );
    }
    let about = match (&known.asked, known.carts()) {
        (Asked::Cart(_), _) => String::new(),
        (_, [_]) => format!(" about {cart}"),
        _ => format!(" now; about {cart}, touched last, there is none"),
    };
    let line = format!("{who}: no mail{about}, because {}", because(settings, known, weighed));
    Answer::new(&*weighed.verdict, line, Some(at), what_would_change(settings, known, weighed, shown))
}

/// The shop has no cart of theirs.
fn without_a_cart(known: &Known, who: &str) -> Answer {
    if let Some(last) = known.stories.messages.last() {
        let (verdict, line, next) = of_message(known, last, "ADDRESS");
        let line = match &known.asked {
            Asked::Cart(_) => format!("{who}: the shop does not show it; of the last message about it: {line}"),
            _ => format!("{who}: no mail is to come; of the last one, {}: {line}", named(last)),
        };
        return Answer::new(verdict, line, None, next);
    }
    if let Some(last) = known.old.last() {
        let what = if last.sent { "wrote" } else { "knew of a cart, and did not write," };
        let line = format!("{who}: only an older system {what} at {}; the shop has no cart of it now", last.at);
        return Answer::new("older system", line, None, Vec::new());
    }
    if let Some(row) = known.suppressions.first() {
        let what = suppressed(row);
        return Answer::new("suppressed", format!("{who}: {what}; otherwise nothing is known"), None, Vec::new());
    }
    if let Some(row) = known.removed.last() {
        let line = format!("{who}: was taken off the suppression list {}; otherwise nothing is known", row.removed_at);
        return Answer::new("unknown", line, None, Vec::new());
    }
    let (ledger, source) = &known.places;
    let line =
        format!("{who}: nothing is known: no message, old log or suppression in {ledger}, and no cart in {source}");
    let next = match &known.asked {
        Asked::Address(_) => {
            vec![
                "an anonymous shopper's cart has no address; `mailonce explain CART` looks for it by its id".to_owned(),
            ]
        }
        _ => Vec::new(),
    };
    Answer { found: false, ..Answer::new("unknown", line, None, next) }
}

/// What became of a message: the word, a clause, and what to do.
fn of_message(known: &Known, message: &MessageStory, shown: &str) -> (String, String, Vec<String>) {
    let id = message_key::short_id(&message.message_id);
    let run = message.run.map_or_else(String::new, |run| format!(" by run {run}"));
    let reply = message.last_reply.as_deref().map_or_else(String::new, |reply| format!("; {}", address::masked(reply)));
    let at = |at: &Option<String>| at.clone().unwrap_or_default();
    let (line, next) = match message.state {
        State::Sent => {
            let back = message
                .reports
                .last()
                .map_or_else(String::new, |report| format!("; {} came back {}", report.class, report.received_at));
            (format!("sent {}{run}{reply}{back}", at(&message.armed_at)), Vec::new())
        }
        State::InDoubt => (
            format!(
                "in doubt since {}{run}: its body went out and no trustworthy reply came, so it may have arrived",
                at(&message.armed_at)
            ),
            vec![format!(
                "`mailonce resolve {id} --sent --reason \"…\"` if it arrived, `--resend` if it did not; the mail server's log tells: `mailonce resolve --mail-log FILE`"
            )],
        ),
        State::Refused => {
            // What is planned again to somebody on the list is skipped.
            let again = match (&message.campaign, known.suppression_of_carts()) {
                (None, Some(row)) => off_the_list(row, shown),
                (None, None) => format!("to try it again: `mailonce resolve {id} --resend --reason \"…\"`"),
                (Some(campaign), _) => format!(
                    "to try the refused again: `mailonce campaign retry {} --state refused`",
                    campaign.campaign_id
                ),
            };
            (format!("refused {}{reply}", at(&message.settled_at)), vec![again])
        }
        State::Skipped => {
            let next = match (message.reason, &message.campaign) {
                (Some(reason @ (Reason::Expired | Reason::Cancelled)), Some(campaign)) => {
                    vec![format!(
                        "to plan it anew: `mailonce campaign retry {} --state {reason}`",
                        campaign.campaign_id
                    )]
                }
                (Some(Reason::HeldBack), _) => vec!["no command plans it again: it may have gone out".to_owned()],
                _ => Vec::new(),
            };
            (format!("skipped {}, {}", at(&message.settled_at), message.reason.map_or("", skipped)), next)
        }
        State::Planned | State::Armed => {
            let Some(open) = known.open.iter().find(|open| open.id == message.id) else {
                return (message.state.word().into(), message.state.spoken().into(), Vec::new());
            };
            let answer = of_open(known, open, message, "", None, shown);
            let line = answer.line.trim_start_matches(": ").to_owned();
            return (answer.verdict, line, answer.next);
        }
    };
    (message.state.word().to_owned(), line, next)
}

/// `"second" about cart c1`, `the mail about cart c1`, `campaign spring 2026-…`.
fn named(message: &MessageStory) -> String {
    match (&message.campaign, &message.step, &message.cart_id) {
        (Some(campaign), ..) => format!("campaign {} of {}", campaign.campaign_id, campaign.occurrence),
        (None, Some(step), Some(cart)) => format!("{step:?} about cart {cart}"),
        (None, _, cart) => format!("the mail about cart {}", cart.as_deref().unwrap_or_default()),
    }
}

/// Whom or what the line is about. Of an address only what was asked for is said.
pub(super) fn subject(known: &Known) -> String {
    match &known.asked {
        Asked::Address(address) => address.envelope(),
        Asked::Cart(cart_id) => format!("cart {}", prose::tame(cart_id)),
        Asked::Message { id, message_id } => {
            let about = known.story(*id).map_or_else(String::new, |message| format!(" ({})", named(message)));
            format!("message {}{about}", message_key::short_id(message_id))
        }
        Asked::NoMessage(_) => "this token".to_owned(),
    }
}
