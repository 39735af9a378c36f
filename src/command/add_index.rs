//! `add-index`: the second step of adopting an older system's log; on a ledger, whatever it lacks.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::Context;
use super::cleanup_duplicates::rules;
use super::init::refuse_if_remembered;
use crate::cli;
use crate::failure::{Exit, Failure};
use crate::ledger::{Access, Adopted, Adoption, Kind, Ledger, OldLog, Records};
use crate::output::count;
use crate::run_lock::RunLock;
use crate::settings::Settings;

const NEXT: &str = "next: `mailonce detect --dry-run` shows who would get what, and why the others would not";
const ADOPTED_AT: &str = "when the file is adopted";
const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

pub fn run(context: &Context<'_>, args: &cli::AddIndex) -> Result<Exit> {
    let settings = context.settings()?;
    let (lock, old) = context.begin_on_log(&settings, "add-index", args.dry_run)?;
    match old {
        Some(old) => adopt(context, args, &settings, old, lock.as_ref()),
        None => complete(context, args, &settings, lock.as_ref()),
    }
}

/// Turns an old log into a ledger.
fn adopt(
    context: &Context<'_>,
    args: &cli::AddIndex,
    settings: &Settings,
    old: OldLog,
    lock: Option<&RunLock>,
) -> Result<Exit> {
    let kind = if args.rehearsal { Kind::Rehearsal } else { Kind::Live };
    if kind == Kind::Live && context.clock.is_frozen() && !args.dry_run {
        let next = "leave --now out, or add --rehearsal";
        return Err(Failure::usage("--now is for rehearsals: a live ledger is born when it is made", next).into());
    }
    if let Some(lock) = lock {
        refuse_if_remembered(Some(lock.record()?), &settings.ledger)?;
    }
    let last = old.last_cleanup()?;
    let told_zone = last.as_ref().and_then(|last| last.zone);
    let window = args.window.map(|window| window.as_secs() as i64);
    let window = window.or(last.map(|last| last.window_in_seconds)).unwrap_or(WINDOW.as_secs() as i64);
    let (rules, bar) = rules(context, args.timezone.or(told_zone), window);
    let adoption = Adoption {
        kind,
        born_at: context.clock.now(),
        detect_window_in_seconds: settings.detect.window.as_secs() as i64,
        rules,
        set_aside: args.set_aside,
    };
    let Some(lock) = lock else {
        let survey = old.check_adoption(&adoption)?;
        bar.finish_and_clear();
        context.output.document("add-index-dry-run", &json!({ "dry_run": true, "would_take_over": survey.usable() }));
        context.output.print(format!(
            "would turn {} into a {} ledger: columns, indexes, constraints and triggers, with {} taken over",
            settings.ledger.display(),
            kind.word(),
            count(survey.usable(), "row")
        ));
        if survey.mailed_now > 0 {
            context.output.print(super::import::mailed_now(survey.mailed_now, ADOPTED_AT));
        }
        let flags = [(args.rehearsal, " --rehearsal"), (args.set_aside, " --set-aside")];
        let flags: String = flags.iter().filter(|(is_given, _)| *is_given).map(|(_, flag)| *flag).collect();
        context.output.print(format!("next: `mailonce add-index{}{flags}`", adoption.rules.flags()));
        return Ok(Exit::Done);
    };
    let adopted = old.adopt(&adoption)?;
    bar.finish_and_clear();
    let ledger = Ledger::open(settings.place(), Access::Decided)?;
    lock.write_record(&ledger.record_of(0, None, 0), true)?;
    say_adopted(context, &ledger, &adopted)
}

fn say_adopted(context: &Context<'_>, ledger: &Records, adopted: &Adopted) -> Result<Exit> {
    let (plan, uses_index) = ledger.duplicate_check()?;
    let output = context.output;
    output.document(
        "add-index-adopted",
        &json!({
            "adopted": adopted,
            "kind": ledger.kind().word(),
            "duplicate_check": { "uses_index": uses_index, "plan": plan },
        }),
    );
    output.print(format!("{} is a {} ledger now", ledger.path().display(), ledger.kind().word()));
    output.print(format!(
        "taken over: {}, {}; the table as it was stays beside them as old_log",
        count(adopted.rows, "row"),
        count(adopted.removed_duplicates, "removed duplicate")
    ));
    output.print("added: columns, the index idx_user_cart_unique, constraints, triggers");
    if adopted.mailed_now > 0 {
        output.print(super::import::mailed_now(adopted.mailed_now, ADOPTED_AT));
    }
    if adopted.without_shopper > 0 {
        output
            .print(format!("{} with neither user nor address in old_log only", count(adopted.without_shopper, "row")));
    }
    for line in &adopted.unreadable_rows {
        output.alarm(format!("{line}; in old_log only"));
    }
    say_plan(context, &plan, uses_index);
    output.print(NEXT);
    Ok(Exit::Done)
}

fn say_plan(context: &Context<'_>, plan: &str, uses_index: bool) {
    let words = if uses_index { "looks into the index" } else { "does not use the index" };
    context.output.print(format!("a duplicate check {words}: {plan}"));
}

/// Adds what a ledger lacks; usually nothing.
fn complete(context: &Context<'_>, args: &cli::AddIndex, settings: &Settings, lock: Option<&RunLock>) -> Result<Exit> {
    match lock {
        None => {
            let ledger = Records::open(settings.place())?;
            refuse_another_kind(args, &ledger)?;
            let missing = ledger.missing_parts()?;
            say_completed(context, args, &ledger, &missing)
        }
        Some(lock) => {
            let mut ledger = context.ledger_locked(settings, lock)?;
            refuse_another_kind(args, &ledger)?;
            let added = ledger.add_missing_parts()?;
            say_completed(context, args, &ledger, &added)
        }
    }
}

fn refuse_another_kind(args: &cli::AddIndex, ledger: &Records) -> Result<(), Failure> {
    if args.rehearsal && ledger.kind() == Kind::Live {
        return Err(Failure::config(
            format!("{} is a live ledger already, permanently", ledger.path().display()),
            "leave --rehearsal out, or name another ledger in the configuration",
        ));
    }
    Ok(())
}

fn say_completed(context: &Context<'_>, args: &cli::AddIndex, ledger: &Records, added: &[String]) -> Result<Exit> {
    let (plan, uses_index) = ledger.duplicate_check()?;
    context.output.document(
        "add-index",
        &json!({
            "dry_run": args.dry_run,
            "added": added,
            "kind": ledger.kind().word(),
            "duplicate_check": { "uses_index": uses_index, "plan": plan },
        }),
    );
    context.output.print(match (added.is_empty(), args.dry_run) {
        (true, _) => "already in place: columns, indexes, constraints and triggers".to_owned(),
        (false, true) => format!("would add: {}", added.join(", ")),
        (false, false) => format!("added: {}", added.join(", ")),
    });
    say_plan(context, &plan, uses_index);
    context.output.print(match args.dry_run && !added.is_empty() {
        true => "next: `mailonce add-index`",
        false => NEXT,
    });
    Ok(Exit::Done)
}
