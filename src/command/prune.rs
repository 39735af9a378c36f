//! `prune`: what was settled long ago is deleted; its counts stay.

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::cli;
use crate::domain::{instant, span};
use crate::failure::{Exit, Failure};
use crate::ledger::{Pruned, Records};
use crate::output::count;
use crate::progress;

pub fn run(context: &Context<'_>, args: &cli::Prune) -> Result<Exit> {
    let settings = context.settings_without_secrets()?;
    let cutoff = context.clock.now() - span::delta(args.older_than);
    if args.dry_run {
        let ledger = Records::open(settings.place())?;
        check_age(&ledger, args)?;
        return Ok(tell(context, "would be deleted", &ledger.would_prune(cutoff)?, cutoff));
    }
    let (_lock, mut ledger) = context.lock_and_ledger(&settings, "prune")?;
    check_age(&ledger, args)?;
    let bar = progress::bar("pruning", Some(ledger.would_prune(cutoff)?.messages), context.output.json);
    let pruned = ledger.erasures().prune(cutoff, &mut |more| bar.inc(more))?;
    bar.finish_and_clear();
    Ok(tell(context, "deleted", &pruned, cutoff))
}

/// # Errors
/// Exit 2: a rule still looks back so far, or a report may still come.
fn check_age(ledger: &Records, args: &cli::Prune) -> Result<(), Failure> {
    let least = ledger.least_pruning_age()?;
    match span::delta(args.older_than) >= least {
        true => Ok(()),
        false => Err(Failure::usage(
            format!(
                "--older-than must be {} at least: windows, caps and reports look back so far",
                count(least.num_days() as u64, "day")
            ),
            format!("`mailonce prune --older-than {}d`", least.num_days()),
        )
        .kept("nothing was deleted")),
    }
}

fn tell(context: &Context<'_>, what: &str, pruned: &Pruned, cutoff: crate::domain::instant::Instant) -> Exit {
    let dry_run = what != "deleted";
    context
        .output
        .document("prune", &json!({ "before": instant::text(cutoff), "dry_run": dry_run, "deleted": pruned }));
    let Pruned { messages, older_rows, kept } = *pruned;
    context.output.print(format!(
        "settled before {}: {} {what}, {} of an older system",
        instant::text(cutoff),
        count(messages, "message"),
        count(older_rows, "row")
    ));
    if kept > 0 {
        context.output.print(format!(
            "{} kept: they have a coupon code, or belong to a flow that is not over",
            count(kept, "message")
        ));
    }
    Exit::Done
}
