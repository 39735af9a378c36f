//! `suppress`: the list of addresses that are never written to. It takes no lock: arming looks at the list again.

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::cli::Suppress;
use crate::domain::address::Address;
use crate::domain::state::Origin;
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
            let added = ledger.suppressions().add(&rows, Origin::ByHand, context.clock.now())?;
            context
                .output
                .document("suppress-add", &json!({ "added": added, "already_listed": addresses.len() as u64 - added }));
            context.output.print(format!(
                "{} added, {} listed already",
                count(added, "address"),
                addresses.len() as u64 - added
            ));
        }
        Suppress::Remove { addresses, reason, bounced_since } => {
            let mut ledger = context.ledger(&settings)?;
            let found = match bounced_since {
                Some(since) => ledger.found_dead_since(since.from(context.clock.now()))?,
                None => addresses.clone(),
            };
            let addresses = found.as_slice();
            if bounced_since.is_none() && reason.is_none() {
                ask_for_a_reason(&ledger, addresses)?;
            }
            let why = reason.as_deref().unwrap_or("by hand");
            let mut removed = 0;
            for address in addresses {
                let only = bounced_since.map(|_| Origin::Bounce);
                removed += u64::from(ledger.suppressions().remove(address, only, why, context.clock.now())?);
            }
            let unknown = addresses.len() as u64 - removed;
            context.output.document("suppress-remove", &json!({ "removed": removed, "not_listed": unknown }));
            context.output.print(format!("{} removed, {unknown} not on the list", count(removed, "address")));
        }
        Suppress::List => {
            let ledger = Records::open(settings.place())?;
            let (mut all, mut listed) = (Vec::new(), 0);
            ledger.each_suppression(|row| {
                listed += 1;
                match context.output.json {
                    true => all.push(row),
                    false => context.output.print(format!(
                        "{}  {}  {} ({}){}",
                        row.address,
                        row.added_at,
                        row.reason,
                        row.origin,
                        only(&row.list)
                    )),
                }
            })?;
            if listed == 0 {
                context.output.print("the list is empty");
            }
            context.output.document("suppress-list", &json!({ "suppressions": all }));
        }
    }
    Ok(Exit::Done)
}

/// ` of the list news`; nothing for all mail.
fn only(list: &str) -> String {
    if list.is_empty() { String::new() } else { format!(" of the list {list}") }
}

/// Whoever wanted no more mail is written to again only with a reason that can be shown.
fn ask_for_a_reason(ledger: &Records, addresses: &[Address]) -> Result<(), Failure> {
    for address in addresses {
        for row in ledger.suppressions_of(address)? {
            if Origin::of_word(&row.origin).is_some_and(Origin::is_a_wish) {
                return Err(Failure::usage(
                    format!(
                        "{address} wanted no more mail{}: {}, {} ({})",
                        only(&row.list), row.reason, row.added_at, row.origin
                    ),
                    "say why that has changed, as with --reason \"asked for it again in the shop, 3 March\"; it is kept",
                )
                .kept("nobody was taken off the list"));
            }
        }
    }
    Ok(())
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
