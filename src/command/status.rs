//! `status`: open issues, counts, runs.

use anyhow::Result;

use super::Context;
use crate::domain::state::State;
use crate::failure::Exit;
use crate::ledger::{OpenNotice, Records, RunRow, Waiting};
use crate::output::count;
use crate::report::{self, PoolLeft, Status, Verdict};
use crate::settings::TransportSettings;

const NOTICES_SHOWN: usize = 20;

pub fn run(context: &Context<'_>) -> Result<Exit> {
    let settings = context.settings_without_secrets()?;
    let steps: Vec<&str> = settings.detect.steps.iter().map(|step| step.step.name.as_str()).collect();
    let ledger = Records::open(settings.place())?;
    let status = Status::read(&ledger, &steps, &settings.pools, context.clock.now())?;
    context.output.document("status", &status);
    let sent = if matches!(settings.transport, TransportSettings::File { .. }) { "written" } else { "sent" };
    for line in prose(&status, sent) {
        context.output.print(line);
    }
    Ok(Exit::Done)
}

/// `sent` is what a message that was sent is called here.
fn prose(status: &Status, sent: &str) -> Vec<String> {
    let Verdict { line, run, .. } = &status.verdict;
    let mut lines = vec![match run {
        Some(command) => format!("{line} Run: {command}"),
        None => line.clone(),
    }];
    lines.push(format!("{} ledger {}", status.kind, status.ledger.display()));
    for state in State::ALL.iter().copied() {
        let messages = status.messages_in(state);
        if messages > 0 || state == State::Sent {
            let name = if state == State::Sent { sent } else { state.spoken() };
            lines.push(format!("  {name:<9} {messages:>9}{}", reasons(status, state)));
        }
    }
    lines.push(format!("  due now   {:>9}", status.due.cart + status.due.campaign));
    for (waiting, command) in [(&status.waiting.cart, "detect"), (&status.waiting.campaign, "run-campaigns")] {
        lines.extend(waits(waiting, command));
    }
    if !status.steps.is_empty() {
        let steps: Vec<String> =
            status.steps.iter().map(|step| format!("{} {}", step.step, step.last_7_days)).collect();
        lines.push(format!("  by step   {sent} in the last 7 days: {}", steps.join(", ")));
    }
    lines.extend(status.coupons.iter().map(left));
    if status.messages_in(State::InDoubt) > 0 {
        lines.push("in doubt: the body went out and no trustworthy reply came; `mailonce resolve` lists them".into());
    }
    if let Some(brought) = &status.recovered {
        lines.extend(report::brought::lines(brought, "the last 30 days"));
    }
    lines.push(match &status.lock {
        Some(holder) => format!("running now: {holder}"),
        None => "no run under way".into(),
    });
    lines.extend(status.runs.iter().map(|run| line_of(run, sent)));
    lines.extend(status.idle_runs.iter().map(|idle| {
        let runs = count(idle.runs, "run");
        format!(
            "  {}: {runs} with nothing to do, the latest run {} at {}",
            idle.command, idle.latest_run, idle.latest_started_at
        )
    }));
    let open = &status.open_issues;
    lines.extend(
        open.iter().take(NOTICES_SHOWN).map(|open| format!("{}, since {}: {}", open.kind, open.since, open.line)),
    );
    if open.len() > NOTICES_SHOWN {
        lines.push(format!("and {} more; --json lists all", open.len() - NOTICES_SHOWN));
    }
    if open.iter().any(OpenNotice::is_event) {
        lines.push("`mailonce resolve` lists these until each is settled, with the command that accepts it".into());
    }
    lines
}

/// What is left in a pool, and what to do when it is little.
fn left(pool: &PoolLeft) -> String {
    let next = match pool.is_low() {
        true => format!("; below {}: `mailonce coupon import {} FILE`", pool.warn_below.max(1), pool.pool),
        false => String::new(),
    };
    format!("  coupons   {}: {} left{next}", pool.pool, pool.free)
}

/// How many wait for their next try, until when, and why.
fn waits(waiting: &Waiting, command: &str) -> Option<String> {
    let next_at = waiting.next_at?;
    let why = waiting.last_reply.as_deref().map_or_else(String::new, |reply| format!(" ({reply})"));
    Some(format!(
        "  waiting   {:>9}  the first until {next_at}{why}; `mailonce {command} --retry-now` tries them at once",
        waiting.messages
    ))
}

fn line_of(run: &RunRow, sent: &str) -> String {
    let ending = match (&run.ending, &run.ended_at) {
        (Some(ending), _) => ending.lines().next().unwrap_or_default(),
        (None, _) => "did not end: under way, or died",
    };
    let mut did = format!("{sent} {}", run.sent);
    for (number, what) in [(run.deferred, "deferred"), (run.refused, "refused"), (run.in_doubt, "in doubt")] {
        if number > 0 {
            did.push_str(&format!(", {what} {number}"));
        }
    }
    format!("  run {} {} at {}: {did}; {ending}", run.run, run.command, run.started_at)
}

/// `  (3 ordered, 1 expired)` for the skipped; nothing for others.
fn reasons(status: &Status, state: State) -> String {
    let reasons = status.reasons_of(state);
    let parts: Vec<String> = reasons.iter().map(|(reason, messages)| format!("{messages} {reason}")).collect();
    if parts.is_empty() { String::new() } else { format!("  ({})", parts.join(", ")) }
}
