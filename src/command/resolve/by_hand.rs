//! A person decides.

use anyhow::Result;
use serde_json::json;

use super::{Context, open_to_settle, who};
use crate::cli;
use crate::domain::evidence::MAY_STILL_ARRIVE;
use crate::domain::instant;
use crate::failure::{Exit, Failure};
use crate::ledger::{Decision, InDoubt, Ledger, Resolution, Resolved};
use crate::output::count;
use crate::settings::Settings;

pub fn run(context: &Context<'_>, settings: &Settings, args: &cli::Resolve) -> Result<Exit> {
    if args.messages.is_empty() && !args.all {
        return Err(Failure::usage(
            "which messages?",
            "name message keys or Message-IDs as `mailonce resolve` lists them, or say --all",
        )
        .into());
    }
    let decision = match (args.sent, args.resend) {
        (true, _) => Decision::Sent,
        (false, true) => Decision::Resend,
        (false, false) => Decision::Refused,
    };
    let (_lock, mut ledger) = open_to_settle(context, settings)?;
    let chosen = chosen(&ledger, args)?;
    let resolution =
        Resolution { decision, who: who(), reason: args.reason.clone().unwrap_or_default(), evidence: None };
    let now = context.clock.now();
    let mut settled = Vec::new();
    let mut left = Vec::new();
    for message in &chosen {
        let from = message.armed_at + MAY_STILL_ARRIVE;
        if decision == Decision::Resend && now < from {
            let why = format!(
                "its body was begun at {} and may still arrive; from {} on",
                instant::text(message.armed_at),
                instant::text(from)
            );
            left.push((message, why));
            continue;
        }
        match ledger.resolve(message, &resolution, now)? {
            Resolved::Done => settled.push((message, done(decision))),
            Resolved::Expired => settled.push((message, "skipped: expired, its time has passed")),
            Resolved::AnotherIsPlanned => {
                left.push((
                    message,
                    "another message to this address or about this cart is planned; after that".into(),
                ));
            }
            Resolved::NoLongerInDoubt => left.push((message, "it was settled meanwhile".into())),
        }
    }
    context.output.document(&json!({
        "settled": settled.iter().map(|(message, now)| json!({ "message_id": message.message_id, "now": now })).collect::<Vec<_>>(),
        "left": left.iter().map(|(message, why)| json!({ "message_id": message.message_id, "why": why })).collect::<Vec<_>>(),
    }));
    for (message, state) in &settled {
        context.output.print(format!("{}  {state}", message.message_id));
    }
    for (message, why) in &left {
        context.output.alarm(format!("{}  stays in doubt: {why}", message.message_id));
    }
    context.output.print(format!("{} settled", count(settled.len() as u64, "message")));
    Ok(if left.is_empty() { Exit::Done } else { Exit::NeedsAPerson })
}

fn done(decision: Decision) -> &'static str {
    match decision {
        Decision::Sent => "sent",
        Decision::Resend => "planned: the next run sends it",
        Decision::Refused => "refused",
    }
}

/// The messages that are named; all of them are in doubt, or nothing is settled.
fn chosen(ledger: &Ledger, args: &cli::Resolve) -> Result<Vec<InDoubt>, Failure> {
    let in_doubt = ledger.in_doubt()?;
    if args.all {
        return Ok(in_doubt);
    }
    let is_named = |message: &InDoubt, name: &str| {
        message.message_key == name || message.message_id.trim_matches(['<', '>']) == name.trim_matches(['<', '>'])
    };
    for name in &args.messages {
        if in_doubt.iter().any(|message| is_named(message, name)) {
            continue;
        }
        let what = match ledger.state_of(name)? {
            Some(state) => format!("{name} is {state}, not in doubt"),
            None => format!("there is no message {name}"),
        };
        return Err(Failure::data(what, "`mailonce resolve` lists those in doubt").kept("nothing was settled"));
    }
    Ok(in_doubt.into_iter().filter(|message| args.messages.iter().any(|name| is_named(message, name))).collect())
}
