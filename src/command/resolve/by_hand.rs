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

/// What becomes of a message that is planned again.
fn planned(ledger: &Records, message: i64) -> Result<&'static str, Failure> {
    Ok(match ledger.is_to_one_suppressed(message)? {
        true => "planned: but the next run skips it, as its address is on the suppression list",
        false => "planned: the next run sends it",
    })
}

pub fn run(context: &Context<'_>, settings: &Settings, args: &cli::Resolve) -> Result<Exit> {
    if args.messages.is_empty() && !args.all && args.state.is_none() {
        return Err(Failure::usage(
            "which messages?",
            "name ids as `mailonce resolve` lists them, or say --all, or --state refused --since 2h",
        )
        .into());
    }
    if args.reason.as_deref().is_some_and(|reason| reason.trim() == "…") {
        return Err(Failure::usage("no reason is given", "put your own words in the place of the …").into());
    }
    let decision = match (args.sent, args.resend) {
        (true, _) => Decision::Sent,
        (false, true) => Decision::Resend,
        (false, false) => Decision::Refused,
    };
    let lock = context.lock(settings, "resolve")?;
    let mut ledger = open_to_settle(context, settings, &lock)?;
    let now = context.clock.now();
    let (in_doubt, refused) = chosen(&ledger, args, now)?;
    let resolution =
        Resolution { decision, who: who(), reason: args.reason.clone().unwrap_or_default(), evidence: None };
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
    context.output.document(
        "resolve-settled",
        &json!({
            "settled": settled.iter().map(|(id, now)| json!({ "message_id": id, "now": now })).collect::<Vec<_>>(),
            "left": left.iter().map(|(id, why)| json!({ "message_id": id, "why": why })).collect::<Vec<_>>(),
        }),
    );
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
        return Ok(Err(format!(
            "its body was begun at {begun} and may still arrive; the same command sends it again from {from} on"
        )));
    }
    Ok(match ledger.books().resolve(message, resolution, now)? {
        Resolved::Done => Ok(match resolution.decision {
            Decision::Sent => "sent",
            Decision::Resend => planned(ledger, message.id)?,
            Decision::Refused => "refused",
        }),
        Resolved::Expired => Ok("skipped: expired, its time has passed"),
        Resolved::AnotherIsPlanned => {
            Err("another message to this address or about this cart is planned; once that has gone, try again".into())
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
        PlannedAgain::Done => Ok(planned(ledger, message.id)?),
        PlannedAgain::Expired => Err("its time has passed".into()),
        PlannedAgain::AnotherTookItsPlace => {
            Err("another message to this address or about this cart came after it".into())
        }
        PlannedAgain::Forbidden(constraint) => Err(constraint),
        PlannedAgain::NotRefused => Err("it was planned again meanwhile".into()),
    })
}

/// The messages that are meant: those in doubt, and, to be sent again, refused ones of carts. Anything else, and nothing
/// is settled.
fn chosen(ledger: &Records, args: &cli::Resolve, now: Instant) -> Result<(Vec<InDoubt>, Vec<Named>), Failure> {
    let since = args.since.map(|since| since.from(now));
    let mut in_doubt = ledger.in_doubt()?;
    match args.state {
        Some(State::Refused) if args.resend => return Ok((Vec::new(), ledger.refused_carts(since)?)),
        Some(State::Refused) => {
            let what = "what was refused can only be sent again";
            return Err(Failure::usage(what, "`--resend`; campaigns: `mailonce campaign retry ID --state refused`"));
        }
        Some(_) => {
            in_doubt.retain(|message| since.is_none_or(|since| message.armed_at >= since));
            return Ok((in_doubt, Vec::new()));
        }
        None if args.all => return Ok((in_doubt, Vec::new())),
        None => {}
    }
    let mut refused: Vec<Named> = Vec::new();
    let mut chosen = Vec::new();
    for name in &args.messages {
        let mut named = ledger.named(name)?;
        let (what, next) = match (named.pop(), named.is_empty()) {
            (Some(named), true) if named.state == State::InDoubt => {
                chosen.push(named.id);
                continue;
            }
            (Some(named), true) if named.state == State::Refused && args.resend && named.is_cart => {
                refused.push(named);
                continue;
            }
            (Some(named), true) if named.state == State::Refused && args.resend => {
                (format!("{name} is refused"), "`mailonce campaign retry ID --state refused` plans such ones again")
            }
            (Some(named), true) if named.reason == Some(Reason::HeldBack) => (
                format!(
                    "{name} was held back when an old copy of the ledger was put back: it may have gone out already"
                ),
                "it is never sent again; a cart touched since then gets a message of its own",
            ),
            (Some(named), true) => {
                (format!("{name} is {}, not in doubt", named.state.spoken()), "`mailonce resolve` lists those in doubt")
            }
            (Some(_), false) => {
                (format!("{name} may mean several messages"), "name more digits, or the whole Message-ID")
            }
            (None, _) => (format!("there is no message {name}"), "`mailonce resolve` lists those in doubt"),
        };
        return Err(Failure::data(what, next).kept("nothing was settled"));
    }
    in_doubt.retain(|message| chosen.contains(&message.id));
    refused.sort_by_key(|named| named.id);
    refused.dedup();
    Ok((in_doubt, refused))
}
