//! A person decides.

use anyhow::Result;
use serde_json::json;

use super::{Context, open_to_settle, who};
use crate::cli;
use crate::domain::evidence::MAY_STILL_ARRIVE;
use crate::domain::instant::{self, Instant};
use crate::domain::state::{Reason, State};
use crate::failure::{Exit, Failure};
use crate::ledger::{Decision, InDoubt, Ledger, Named, PlannedAgain, Records, Resolution, Resolved};
use crate::output::count;
use crate::settings::Settings;

const PLANNED: &str = "planned: the next run sends it";

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
    let (in_doubt, refused) = chosen(&ledger, args)?;
    let resolution =
        Resolution { decision, who: who(), reason: args.reason.clone().unwrap_or_default(), evidence: None };
    let now = context.clock.now();
    let mut settled = Vec::new();
    let mut left = Vec::new();
    for message in &in_doubt {
        match settle(&mut ledger, message, &resolution, now)? {
            Ok(state) => settled.push((&message.message_id, state)),
            Err(why) => left.push((&message.message_id, format!("stays in doubt: {why}"))),
        }
    }
    for message in &refused {
        match plan_again(&mut ledger, message, &resolution, now)? {
            Ok(state) => settled.push((&message.message_id, state)),
            Err(why) => left.push((&message.message_id, format!("stays refused: {why}"))),
        }
    }
    context.output.document(&json!({
        "settled": settled.iter().map(|(id, now)| json!({ "message_id": id, "now": now })).collect::<Vec<_>>(),
        "left": left.iter().map(|(id, why)| json!({ "message_id": id, "why": why })).collect::<Vec<_>>(),
    }));
    for (id, state) in &settled {
        context.output.print(format!("{id}  {state}"));
    }
    for (id, why) in &left {
        context.output.alarm(format!("{id}  {why}"));
    }
    context.output.print(format!("{} settled", count(settled.len() as u64, "message")));
    Ok(if left.is_empty() { Exit::Done } else { Exit::NeedsAPerson })
}

/// What the message is now, or why it stays in doubt.
fn settle(
    ledger: &mut Ledger,
    message: &InDoubt,
    resolution: &Resolution,
    now: Instant,
) -> Result<Result<&'static str, String>, Failure> {
    let from = message.armed_at + MAY_STILL_ARRIVE;
    if resolution.decision == Decision::Resend && now < from {
        let (begun, from) = (instant::text(message.armed_at), instant::text(from));
        return Ok(Err(format!("its body was begun at {begun} and may still arrive; from {from} on")));
    }
    Ok(match ledger.books().resolve(message, resolution, now)? {
        Resolved::Done => Ok(match resolution.decision {
            Decision::Sent => "sent",
            Decision::Resend => PLANNED,
            Decision::Refused => "refused",
        }),
        Resolved::Expired => Ok("skipped: expired, its time has passed"),
        Resolved::AnotherIsPlanned => {
            Err("another message to this address or about this cart is planned; after that".into())
        }
        Resolved::NoLongerInDoubt => Err("it was settled meanwhile".into()),
    })
}

/// What the message is now, or why it stays refused.
fn plan_again(
    ledger: &mut Ledger,
    message: &Named,
    resolution: &Resolution,
    now: Instant,
) -> Result<Result<&'static str, String>, Failure> {
    let words = format!("planned again by {}: {}", resolution.who, resolution.reason);
    Ok(match ledger.books().plan_refused_again(message.id, &words, now)? {
        PlannedAgain::Done => Ok(PLANNED),
        PlannedAgain::Expired => Err("its time has passed".into()),
        PlannedAgain::AnotherTookItsPlace => {
            Err("another message to this address or about this cart came after it".into())
        }
        PlannedAgain::Forbidden(constraint) => Err(constraint),
        PlannedAgain::NotRefused => Err("it was planned again meanwhile".into()),
    })
}

/// The messages that are named: those in doubt, and, to be sent again, refused ones of carts. Anything else, and nothing
/// is settled.
fn chosen(ledger: &Records, args: &cli::Resolve) -> Result<(Vec<InDoubt>, Vec<Named>), Failure> {
    let mut in_doubt = ledger.in_doubt()?;
    let mut refused: Vec<Named> = Vec::new();
    if args.all {
        return Ok((in_doubt, refused));
    }
    let is_named = |message: &InDoubt, name: &str| {
        message.message_key == name || message.message_id.trim_matches(['<', '>']) == name.trim_matches(['<', '>'])
    };
    for name in &args.messages {
        if in_doubt.iter().any(|message| is_named(message, name)) {
            continue;
        }
        let (what, next) = match ledger.named(name)? {
            Some(named) if named.state == State::Refused && args.resend && named.is_cart => {
                refused.push(named);
                continue;
            }
            Some(named) if named.state == State::Refused && args.resend => {
                (format!("{name} is refused"), "`mailonce campaign retry ID --state refused` plans such ones again")
            }
            Some(named) if named.reason == Some(Reason::HeldBack) => (
                format!(
                    "{name} was held back when an old copy of the ledger was put back: it may have gone out already"
                ),
                "it is never sent again; a cart touched since then gets a message of its own",
            ),
            Some(named) => {
                (format!("{name} is {}, not in doubt", named.state), "`mailonce resolve` lists those in doubt")
            }
            None => (format!("there is no message {name}"), "`mailonce resolve` lists those in doubt"),
        };
        return Err(Failure::data(what, next).kept("nothing was settled"));
    }
    in_doubt.retain(|message| args.messages.iter().any(|name| is_named(message, name)));
    refused.sort_by_key(|named| named.id);
    refused.dedup();
    Ok((in_doubt, refused))
}
