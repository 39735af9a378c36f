//! `cleanup-duplicates`: the first step of adopting an older system's log, or tidying rows that were imported.

use std::sync::Arc;

use anyhow::Result;
use chrono_tz::Tz;
use serde_json::json;

use super::Context;
use crate::cli;
use crate::domain::cart::short_hash;
use crate::domain::old_log::Reader;
use crate::failure::{Exit, Failure};
use crate::ledger::{OldLog, Records, Restored, Rules, Survey, span};
use crate::output::count;
use crate::progress;

pub fn run(context: &Context<'_>, args: &cli::CleanupDuplicates) -> Result<Exit> {
    let settings = context.settings()?;
    let (lock, old) = context.begin_on_log(&settings, "cleanup-duplicates", args.dry_run)?;
    if args.restore {
        return restore(context, old);
    }
    let (rules, bar) = rules(context, args.timezone, args.window.as_secs() as i64);
    let now = context.clock.now();
    let unadopted = old.is_some();
    let survey = match (old, lock) {
        (Some(old), None) => old.survey(&rules)?,
        (Some(old), Some(_)) => old.move_aside(&rules, now)?,
        (None, None) => Records::open(settings.place())?.survey(&rules)?,
        (None, Some(lock)) => context.ledger_locked(&settings, &lock)?.move_aside(&rules, now)?,
    };
    bar.finish_and_clear();
    say(context, args, &rules, &survey, unadopted);
    Ok(if survey.unreadable > 0 { Exit::NeedsAPerson } else { Exit::Done })
}

/// The rules, with a bar that counts the rows looked at.
pub(super) fn rules(
    context: &Context<'_>,
    zone: Option<Tz>,
    window_in_seconds: i64,
) -> (Rules, indicatif::ProgressBar) {
    let bar = progress::bar("rows", None, context.output.json);
    let counting = bar.clone();
    let reader = Reader { zone, now: context.clock.now() };
    (Rules { reader, window_in_seconds, tick: Arc::new(move || counting.inc(1)) }, bar)
}

fn restore(context: &Context<'_>, old: Option<OldLog>) -> Result<Exit> {
    let Some(old) = old else {
        return Err(Failure::usage(
            "the index is there already: what was removed before stays in the table removed_duplicate",
            "look at it there; nothing needs to be put back",
        )
        .into());
    };
    let Restored { rows, written_since } = old.restore()?;
    context
        .output
        .document("cleanup-duplicates-restored", &json!({ "restored": rows, "written_since": written_since }));
    context.output.print(match (rows, written_since) {
        (0, _) => "nothing to restore".to_owned(),
        (_, 0) => format!("{} put back; the table is as it was before cleanup-duplicates", count(rows, "row")),
        _ => format!(
            "{} put back; {} written to since, and keeps its last_sent_at",
            count(rows, "row"),
            count(written_since, "kept row")
        ),
    });
    context.output.print("next: `mailonce cleanup-duplicates`");
    Ok(Exit::Done)
}

fn say(context: &Context<'_>, args: &cli::CleanupDuplicates, rules: &Rules, survey: &Survey, unadopted: bool) {
    let output = context.output;
    let window = span(args.window.as_secs() as i64);
    let next = match (unadopted, args.dry_run) {
        (_, true) if survey.duplicates > 0 => format!("mailonce cleanup-duplicates{}", rules.flags()),
        // Only with duplicates was it noted in the file how they were looked for.
        (true, false) if survey.duplicates > 0 => "mailonce add-index".to_owned(),
        (true, _) => format!("mailonce add-index{}", rules.flags()),
        (false, _) => "mailonce detect --dry-run".to_owned(),
    };
    output.document(
        "cleanup-duplicates",
        &json!({
            "dry_run": args.dry_run,
            "window_in_seconds": args.window.as_secs(),
            "moved": if args.dry_run { 0 } else { survey.duplicates },
            "found": survey,
            "next": next,
        }),
    );
    output.print(format!("{} looked at", count(survey.rows, "row")));
    if survey.duplicates == 0 {
        output.print(format!("no duplicates: no two rows of one shopper and cart less than {window} apart"));
    } else {
        let moved = if args.dry_run { "would move to" } else { "moved to" };
        output.print(format!(
            "{} {moved} removed_duplicate, of {} by {}: less than {window} from a better row",
            count(survey.duplicates, "duplicate"),
            count(survey.groups, "cart"),
            count(survey.shoppers, "shopper"),
        ));
        output.print(match survey.mails_sent_again {
            0 => "none of them was a mail that went out twice".to_owned(),
            1 => "1 of them was a mail that went out again".to_owned(),
            mails => format!(
                "{mails} of them were mails that went out again, to {}",
                count(survey.shoppers_mailed_again, "shopper")
            ),
        });
        output.print("worst:");
        for case in &survey.worst {
            let until = if case.last_at == case.first_at { String::new() } else { format!(" to {}", case.last_at) };
            output.print(format!(
                "  {}, cart {}: {}, {}, {}{until}",
                case.shopper,
                short_hash(&case.cart_hash),
                count(case.rows, "row"),
                count(case.mails, "mail"),
                case.first_at
            ));
        }
    }
    if survey.mailed_now > 0 {
        output.print(super::import::mailed_now(survey.mailed_now, "when the file is adopted"));
    }
    if survey.without_shopper > 0 {
        output.print(format!("{} with neither user nor address left alone", count(survey.without_shopper, "row")));
    }
    for line in &survey.unreadable_rows {
        output.alarm(format!("{line}; left alone"));
    }
    if survey.unreadable > survey.unreadable_rows.len() as u64 {
        output.alarm(format!("and {} more", survey.unreadable - survey.unreadable_rows.len() as u64));
    }
    output.print(format!("next: `{next}`"));
}
