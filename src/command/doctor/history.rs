//! What runs have left: the lock, the clock, when the last one was, and what waits for a person.

use std::time::SystemTime;

use chrono::TimeDelta;

use super::Findings;
use crate::cli;
use crate::command::Context;
use crate::domain::instant::{self, Instant};
use crate::domain::span;
use crate::failure::Failure;
use crate::ledger::{Kind, Records};
use crate::output::count;
use crate::run_lock::{Found, NOT_KNOWN, RunLock};
use crate::settings::Settings;

/// A run that holds the lock for longer is not expected.
const LONG_HELD: TimeDelta = TimeDelta::minutes(15);
const A_DAY: TimeDelta = TimeDelta::hours(24);
/// Runs looked through for the last good one.
const RUNS: u32 = 1000;

pub(super) fn look_at_lock(settings: &Settings, ledger: &Records, record: Option<Found>, findings: &mut Findings) {
    match RunLock::current_holder(&settings.ledger) {
        None => findings.ok("lock", "no run is under way"),
        Some(holder) if holder == NOT_KNOWN => findings.warn(
            "lock",
            "whether a run is under way is not known: this user may not read the lock file",
            "run doctor as the user that cron runs as",
        ),
        Some(holder) => {
            let started = holder.split(' ').find_map(|word| word.strip_prefix("started=")).and_then(instant::from_text);
            let age = started.map(|started| Instant::from(SystemTime::now()) - started);
            match age.filter(|age| *age > LONG_HELD) {
                None => findings.ok("lock", format!("a run is under way: {holder}")),
                Some(age) => findings.warn(
                    "lock",
                    format!("held for {}: {holder}", count(age.num_minutes().unsigned_abs(), "minute")),
                    "look at that process; when it hangs, kill it: what it had begun becomes in doubt",
                ),
            }
        }
    }
    if let Err(failure) = ledger.look(&record.unwrap_or(Found::Empty)) {
        findings.fail("lock", failure.what, failure.next);
    }
}

pub(super) fn look_at_history(
    context: &Context<'_>,
    settings: &Settings,
    ledger: &Records,
    args: &cli::Doctor,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let now = context.clock.now();
    findings.take(
        "clock",
        ledger.check_clock(now),
        format!("{}, not before what the ledger recorded", instant::text(now)),
    );
    let expected = span::delta(args.expect_every);
    let runs = ledger.newest_runs(RUNS)?;
    let idle = ledger.idle_runs()?;
    let with_campaigns = settings.campaigns.file.is_some();
    for command in ["detect", "run-campaigns"].into_iter().take(1 + usize::from(with_campaigns)) {
        // Good: it came to its end, and met nothing that needs a person.
        let good = runs.iter().filter(|run| run.command == command);
        let good = good.filter(|run| run.ending.is_some() && !run.needs_a_person());
        let ended = good.filter_map(|run| run.ended_at.as_deref());
        let ended =
            ended.chain(idle.iter().filter(|idle| idle.command == command).map(|idle| idle.latest_ended_at.as_str()));
        match ended.filter_map(instant::from_text).max() {
            None => findings.warn(
                "cron",
                format!("`mailonce {command}` has never come to a good end"),
                "add the lines of crontab.example: `crontab -e`; `mailonce status` shows the last runs",
            ),
            Some(at) if now - at > expected => {
                let what = format!(
                    "the last good run of `mailonce {command}` ended at {}, {} ago",
                    instant::text(at),
                    count((now - at).num_minutes().unsigned_abs(), "minute")
                );
                let remedy =
                    "is the crontab's line there, and cron running? `mailonce status` shows how the last runs ended";
                match ledger.kind() {
                    Kind::Live => findings.fail("cron", what, remedy),
                    Kind::Rehearsal => findings.warn("cron", what, remedy),
                }
            }
            Some(at) => {
                findings.ok("cron", format!("the last good run of `mailonce {command}` ended at {}", instant::text(at)))
            }
        }
    }
    match ledger.in_doubt()?.len() as u64 {
        0 => findings.ok("in doubt", "no message is in doubt"),
        in_doubt => findings.warn(
            "in doubt",
            format!("{} in doubt", count(in_doubt, "message")),
            "`mailonce resolve` lists them; settle them by the mail server's log or by hand",
        ),
    }
    match ledger.count_refused(now - A_DAY)? {
        0 => findings.ok("refused", "no message was refused in the last day"),
        refused => findings.warn(
            "refused",
            format!("{} refused in the last day", count(refused, "message")),
            "`mailonce log --state refused --since 24h` says why, and how to go on",
        ),
    }
    let standing = ledger.open_notices()?.len() as u64;
    match standing {
        0 => findings.ok("open issues", "no open issues"),
        _ => findings.warn("open issues", count(standing, "open issue"), "`mailonce status` lists them"),
    }
    Ok(())
}
