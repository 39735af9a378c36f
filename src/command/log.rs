//! `log`: episodes and messages, narrowed by filters.

use anyhow::Result;
use comfy_table::{Table, presets::NOTHING};
use serde_json::json;

use super::Context;
use crate::cli;
use crate::failure::Exit;
use crate::ledger::{LogFilter, Records};

pub fn run(context: &Context<'_>, args: &cli::Log) -> Result<Exit> {
    let settings = context.settings()?;
    let ledger = Records::open(settings.place())?;
    let filter = LogFilter {
        user_id: args.user.clone(),
        folded_address: args.address.as_ref().map(|address| address.folded().to_owned()),
        cart_id: args.cart.clone(),
        state: args.state,
        since: args.since,
        limit: args.limit,
    };
    let episodes = ledger.episodes(&filter)?;
    let messages = ledger.messages(&filter)?;
    context.output.document(&json!({ "episodes": episodes, "messages": messages }));
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["planned", "state", "recipient", "cart", "armed", "attempts", "last reply"]);
    for message in &messages {
        let state = match message.reason {
            Some(reason) => format!("{}: {reason}", message.state),
            None => message.state.spoken().to_owned(),
        };
        table.add_row([
            message.planned_at.clone(),
            state,
            message.recipient.clone(),
            message.cart_id.clone().unwrap_or_default(),
            message.armed_at.clone().unwrap_or_default(),
            message.attempts.to_string(),
            message.last_reply.clone().unwrap_or_default(),
        ]);
    }
    let old: Vec<_> = episodes.iter().filter(|episode| episode.message.is_none()).collect();
    for episode in &old {
        table.add_row([
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
        if messages.len() as u64 == args.limit {
            context.output.print(format!("the newest {}; --limit shows more", args.limit));
        }
    }
    Ok(Exit::Done)
}
