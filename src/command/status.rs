//! `status`: open issues, counts, runs.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::Context;
use crate::domain::instant;
use crate::domain::state::State;
use crate::failure::Exit;
use crate::ledger::{EVENT_KINDS, Records, StateCount};
use crate::output::count;
use crate::run_lock::RunLock;
use crate::settings::TransportSettings;

const RUNS_SHOWN: u32 = 10;
const NOTICES_SHOWN: usize = 20;

pub fn run(context: &Context<'_>) -> Result<Exit> {
    let settings = context.settings()?;
    let ledger = Records::open(settings.place())?;
    let now = context.clock.now();
    let counts = ledger.count_by_state()?;
    let of = |state: State| counts.iter().filter(|count| count.state == state).map(|count| count.messages).sum::<u64>();
    let due = json!({ "cart": ledger.count_due_carts(now)?, "campaign": ledger.count_due_recipients(now, None)? });
    let runs = ledger.newest_runs(RUNS_SHOWN)?;
    let idle = ledger.idle_runs()?;
    let notices = ledger.current_notices()?;
    let holder = RunLock::current_holder(&settings.ledger);
    let states: Map<String, Value> =
        State::ALL.iter().map(|state| (state.word().to_owned(), json!(of(*state)))).collect();
    context.output.document(&json!({
        "ledger": ledger.path(),
        "ledger_id": ledger.id(),
        "kind": ledger.kind().word(),
        "now": instant::text(now),
        "born_at": instant::text(ledger.born_at()?),
        "states": states,
        "by_reason": counts,
        "due": due,
        "suppressed_addresses": ledger.count_suppressed()?,
        "lock": holder,
        "runs": runs,
        "idle_runs": idle,
        "standing": notices.iter().map(|(kind, line, since)| json!({ "kind": kind, "line": line, "since": since })).collect::<Vec<_>>(),
    }));
    let written = matches!(settings.transport, TransportSettings::File { .. });
    let out = |line: String| context.output.print(line);
    out(format!("{} ledger {}", ledger.kind().word(), ledger.path().display()));
    for state in State::ALL.iter().copied() {
        if of(state) > 0 || state == State::Sent {
            let name = match state {
                State::Sent if written => "written",
                other => other.spoken(),
            };
            out(format!("  {:<9} {:>9}{}", name, of(state), reasons(&counts, state)));
        }
    }
    out(format!("  due now   {:>9}", due["cart"].as_u64().unwrap_or(0) + due["campaign"].as_u64().unwrap_or(0)));
    if of(State::InDoubt) > 0 {
        out("in doubt: the body went out and no trustworthy reply came; `mailonce resolve` lists them".into());
    }
    match holder {
        Some(holder) => out(format!("running now: {holder}")),
        None => out("no run under way".into()),
    }
    for run in &runs {
        let ending = match (&run.ending, &run.ended_at) {
            (Some(ending), _) => ending.lines().next().unwrap_or_default().to_owned(),
            (None, _) => "did not end: under way, or died".into(),
        };
        let mut did = format!("{} {}", if written { "written" } else { "sent" }, run.sent);
        for (number, what) in [(run.deferred, "deferred"), (run.refused, "refused"), (run.in_doubt, "in doubt")] {
            if number > 0 {
                did.push_str(&format!(", {what} {number}"));
            }
        }
        out(format!("  run {} {} at {}: {did}; {ending}", run.run, run.command, run.started_at));
    }
    for idle in &idle {
        let runs = count(idle.runs, "run");
        out(format!(
            "  {}: {runs} with nothing to do, the latest run {} at {}",
            idle.command, idle.latest_run, idle.latest_started_at
        ));
    }
    for (kind, line, since) in notices.iter().take(NOTICES_SHOWN) {
        out(format!("{kind}, since {since}: {line}"));
    }
    if notices.len() > NOTICES_SHOWN {
        out(format!("and {} more; --json lists all", notices.len() - NOTICES_SHOWN));
    }
    if notices.iter().any(|(kind, ..)| EVENT_KINDS.contains(&kind.as_str())) {
        out("`mailonce resolve` lists these until each is settled, with the command that accepts it".into());
    }
    Ok(Exit::Done)
}

/// ` (3 ordered, 1 expired)` for the skipped; nothing for others.
fn reasons(counts: &[StateCount], state: State) -> String {
    let mut by_reason = std::collections::BTreeMap::new();
    for count in counts.iter().filter(|count| count.state == state) {
        if let Some(reason) = &count.reason {
            *by_reason.entry(reason).or_insert(0) += count.messages;
        }
    }
    let parts: Vec<String> = by_reason.iter().map(|(reason, messages)| format!("{messages} {reason}")).collect();
    if parts.is_empty() { String::new() } else { format!("  ({})", parts.join(", ")) }
}
