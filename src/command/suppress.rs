//! `suppress`: the list of addresses that are never written to. It takes no lock: arming looks at the list again.

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::cli::Suppress;
use crate::failure::{Exit, Failure};
use crate::ledger::Records;
use crate::output::count;

/// In characters.
const LONGEST_REASON: usize = 500;

pub fn run(context: &Context<'_>, args: &Suppress) -> Result<Exit> {
    let settings = context.settings_without_secrets()?;
    match args {
        Suppress::Add { addresses, reason } => {
            check_reason(reason)?;
            let mut ledger = context.ledger(&settings)?;
            let rows: Vec<_> = addresses.iter().map(|address| (address.clone(), reason.clone())).collect();
            let added = ledger.suppressions().add(&rows, "by hand", context.clock.now())?;
            context.output.document(&json!({ "added": added, "already_listed": addresses.len() as u64 - added }));
            context.output.print(format!(
                "{} added, {} listed already",
                count(added, "address"),
                addresses.len() as u64 - added
            ));
        }
        Suppress::Remove { addresses } => {
            let mut ledger = context.ledger(&settings)?;
            let mut removed = 0;
            for address in addresses {
                removed += u64::from(ledger.suppressions().remove(address)?);
            }
            let unknown = addresses.len() as u64 - removed;
            context.output.document(&json!({ "removed": removed, "not_listed": unknown }));
            context.output.print(format!("{} removed, {unknown} not on the list", count(removed, "address")));
        }
        Suppress::List => {
            let ledger = Records::open(settings.place())?;
            let (mut all, mut listed) = (Vec::new(), 0);
            ledger.each_suppression(|row| {
                listed += 1;
                match context.output.json {
                    true => all.push(row),
                    false => context
                        .output
                        .print(format!("{}  {}  {} ({})", row.address, row.added_at, row.reason, row.origin)),
                }
            })?;
            if listed == 0 {
                context.output.print("the list is empty");
            }
            context.output.document(&all);
        }
    }
    Ok(Exit::Done)
}

/// A reason given on the command line is one short line.
pub(super) fn check_reason(reason: &str) -> Result<(), Failure> {
    if reason.chars().count() > LONGEST_REASON || reason.chars().any(char::is_control) {
        return Err(Failure::usage("the reason is too long or holds a control character", "use one short line"));
    }
    Ok(())
}

/// A reason from a file, made one short line: no address is left off the list because of its reason.
pub(super) fn tidy_reason(reason: &str) -> String {
    let words: Vec<&str> = reason.split(|c: char| c.is_control() || c == ' ').filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(LONGEST_REASON).collect()
}
