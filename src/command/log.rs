//! `log`: episodes and messages, narrowed by filters.

use anyhow::Result;
use comfy_table::{Table, presets::NOTHING};
use serde_json::json;

use super::Context;
use crate::cli;
use crate::domain::message_key;
use crate::domain::state::State;
use crate::failure::{Exit, Failure};
use crate::ledger::{LogFilter, MessageRow, Records};

/// So many are listed where nobody says how many.
const LISTED: u64 = 100;

pub fn run(context: &Context<'_>, args: &cli::Log) -> Result<Exit> {
    let settings = context.settings_without_secrets()?;
    let ledger = Records::open(settings.place())?;
    let filter = LogFilter {
        messages: named(&ledger, &args.messages)?,
        user_id: args.user.clone(),
        folded_address: args.address.as_ref().map(|address| address.folded().to_owned()),
        cart_id: args.cart.clone(),
        step: args.step.clone(),
        state: args.state,
        since: args.since.map(|since| since.from(context.clock.now())),
        limit: args.limit.unwrap_or(if args.jsonl { u64::from(u32::MAX) } else { LISTED }),
    };
    if args.jsonl {
        ledger.each_listed(&filter, |message| context.output.json_line_of("log-line", &message))?;
        return Ok(Exit::Done);
    }
    let episodes = ledger.episodes(&filter)?;
    let messages = ledger.messages(&filter)?;
    context.output.document("log", &json!({ "episodes": episodes, "messages": messages }));
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "id",
        "planned",
        "state",
        "recipient",
        "cart",
        "armed",
        "attempts",
        "last reply",
    ]);
    for message in &messages {
        let state = match message.reason {
            Some(reason) => format!("{}: {reason}", message.state),
            None => message.state.spoken().to_owned(),
        };
        table.add_row([
            message_key::short_id(&message.message_id).to_owned(),
            message.planned_at.clone(),
            state,
            message.recipient.clone(),
            cart_and_step(message),
            message.armed_at.clone().unwrap_or_default(),
            message.attempts.to_string(),
            message.last_reply.clone().unwrap_or_default(),
        ]);
    }
    let old: Vec<_> = episodes.iter().filter(|episode| episode.message.is_none()).collect();
    for episode in &old {
        table.add_row([
            String::new(),
            episode.created_at.clone(),
            if episode.email_sent { "sent (older system)".into() } else { "not sent (older system)".into() },
            episode.email.clone().unwrap_or_else(|| episode.identity.clone()),
            episode.cart_id.clone().unwrap_or_default(),
            episode.last_sent_at.clone().unwrap_or_default(),
            String::new(),
            String::new(),
        ]);
    }
    if messages.is_empty() && old.is_empty() {
        context.output.print("no episode or message matches");
    } else {
        context.output.print(table.trim_fmt());
        if messages.len() as u64 == filter.limit {
            context.output.print(format!("the newest {}; --limit shows more", filter.limit));
        }
    }
    for line in next_commands(&messages) {
        context.output.print(line);
    }
    Ok(Exit::Done)
}

/// The messages that are asked for by name; `None`: all.
///
/// # Errors
/// Exit 65: nothing is called so.
fn named(ledger: &Records, names: &[String]) -> Result<Option<Vec<i64>>, Failure> {
    let mut messages = Vec::new();
    for name in names {
        let named = ledger.named(name)?;
        if named.is_empty() {
            let next = "`mailonce log` lists them with their ids; an address or a cart is told by --address or --cart";
            return Err(Failure::data(format!("there is no message {name}"), next));
        }
        messages.extend(named.into_iter().map(|named| named.id));
    }
    Ok((!names.is_empty()).then_some(messages))
}

fn cart_and_step(message: &MessageRow) -> String {
    let cart = message.cart_id.clone().unwrap_or_default();
    message.step.as_ref().map_or(cart.clone(), |step| format!("{cart} {step}"))
}

/// How to go on from what is listed, as it is typed.
fn next_commands(messages: &[MessageRow]) -> Vec<String> {
    let first = |state: State, is_cart: bool| {
        messages.iter().find(|message| message.state == state && message.cart_id.is_some() == is_cart)
    };
    let mut lines = Vec::new();
    if first(State::InDoubt, true).or_else(|| first(State::InDoubt, false)).is_some() {
        lines.push("in doubt: mailonce resolve".to_owned());
    }
    if let Some(message) = first(State::Refused, true) {
        let id = message_key::short_id(&message.message_id);
        lines.push(format!(
            "refused, to be tried again: mailonce resolve {id} --resend --reason \"…\"; all of them: mailonce resolve --state \
             refused --since 24h --resend --reason \"…\""
        ));
    }
    if let Some(id) = first(State::Refused, false).and_then(|message| message.campaign_id.as_deref()) {
        lines.push(format!("refused, to be tried again: mailonce campaign retry {id} --state refused"));
    }
    lines
}
