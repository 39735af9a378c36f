//! `resolve`: messages in doubt, and what is due after a backup of the ledger was put back.

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::cli;
use crate::failure::{Exit, Failure};
use crate::ledger::{Access, Ledger, LogFilter};
use crate::output::count;
use crate::run_lock::{Found, RunLock};

pub fn run(context: &Context<'_>, args: &cli::Resolve) -> Result<Exit> {
    let settings = context.settings()?;
    match (args.restored, args.hold_back) {
        (false, _) => list(context, &context.ledger(&settings, Access::Read)?, "in_doubt"),
        (true, false) => list(context, &context.ledger(&settings, Access::Read)?, "planned"),
        (true, true) => {
            Ledger::check_path(&settings.ledger)?;
            let lock = RunLock::take(&settings.ledger, "resolve", context.global.wait.unwrap_or_default())?;
            let mut ledger = context.ledger(&settings, Access::Write)?;
            hold_back(context, &lock, &mut ledger)
        }
    }
}

fn list(context: &Context<'_>, ledger: &Ledger, state: &str) -> Result<Exit> {
    let filter = LogFilter { state: Some(state.into()), limit: u64::from(u32::MAX), ..LogFilter::default() };
    let messages = ledger.messages(&filter)?;
    context.output.document(&json!({ "messages": messages }));
    let words = if state == "in_doubt" { "in doubt" } else { "planned" };
    for message in &messages {
        let armed = message.armed_at.as_deref().map_or_else(String::new, |at| format!(", body begun {at}"));
        let reply = message.last_reply.as_deref().unwrap_or("no reply");
        context
            .output
            .print(format!("{}  {}{armed}  {reply}  {}", message.recipient, message.message_id, message.message_key));
    }
    context.output.print(format!("{} {words}", count(messages.len() as u64, "message")));
    Ok(Exit::Done)
}

/// Goes on with an old copy of the ledger: nothing that was planned in it, and no cart touched before now, is written to.
fn hold_back(context: &Context<'_>, lock: &RunLock, ledger: &mut Ledger) -> Result<Exit> {
    let record = lock.record()?;
    let Found::Record(record) = record else {
        return Err(
            Failure::usage("the lock file knows nothing of a newer run", "run the sending command again").into()
        );
    };
    if ledger.check_not_restored(&record).is_ok() {
        return Err(Failure::usage("the ledger is not older than its lock file", "nothing to do").into());
    }
    let now = context.clock.now();
    let held = ledger.hold_back_planned(record.epoch, now)?;
    let record = ledger.record_of(ledger.epoch_and_armed()?.0, Some(now), 0);
    lock.write_record(&record, true)?;
    context.output.document(&json!({ "held_back": held }));
    context.output.print(format!(
        "{} held back (skipped: cancelled); carts touched before now are left alone; runs go on from here",
        count(held, "planned message")
    ));
    Ok(Exit::Done)
}
