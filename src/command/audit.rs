//! `audit`: every invariant of the ledger, and what the mail server's log says to it.

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::cli;
use crate::domain::evidence::Fact;
use crate::domain::instant::{self, Instant};
use crate::failure::{Exit, Failure};
use crate::ledger::{Ledger, Records, Violation};
use crate::mail_log::{MailLog, Sink, Zone};
use crate::output::count;
use crate::run_lock::{Found, RunLock};

/// More of one rule are counted.
const MOST_OF_ONE_RULE: u64 = 1000;

/// Takes facts into the ledger's temporary tables.
struct Facts<'a> {
    ledger: &'a Records,
    /// What the server took later may not be in the snapshot.
    until: Instant,
    failed: Option<Failure>,
}

impl Sink for Facts<'_> {
    fn wants(&self, _: &str) -> bool {
        true
    }

    fn take(&mut self, fact: Fact) {
        if fact.at.latest < self.until && self.failed.is_none() {
            self.failed = self.ledger.audit_fact(&fact).err();
        }
    }
}

pub fn run(context: &Context<'_>, args: &cli::Audit) -> Result<Exit> {
    let settings = context.settings_without_secrets()?;
    Ledger::check_path(settings.place())?;
    // Before the ledger: it is written after the ledger, so it must not be ahead of what is read next.
    let record = RunLock::peek(&settings.ledger);
    let now = context.clock.now();
    let ledger = Records::open(settings.place())?;
    ledger.begin_audit()?;
    let covered = match args.mail_log.is_empty() {
        true => None,
        false => {
            let zone = args.timezone.map_or(Zone::System, Zone::Named);
            let log = MailLog::open(&args.mail_log, zone, now, ledger.born_at()?)?;
            let mut facts = Facts { ledger: &ledger, until: now, failed: None };
            let covered = log.read(&mut facts)?;
            if let Some(failure) = facts.failed {
                return Err(failure.into());
            }
            Some(covered)
        }
    };
    let mut listed: Vec<Violation> = Vec::new();
    let mut by_rule = std::collections::BTreeMap::<&'static str, u64>::new();
    let mut found = |violation: Violation| {
        let number = by_rule.entry(violation.rule).or_default();
        *number += 1;
        if *number <= MOST_OF_ONE_RULE {
            context.output.print(format!("{}: {}", violation.rule, violation.what));
            if context.output.json {
                listed.push(violation);
            }
        }
    };
    if let Err(failure) = ledger.look(&record.unwrap_or(Found::Empty)) {
        found(Violation { rule: "lock_file", what: failure.what });
    }
    if ledger.is_of_an_older_schema() {
        context.output.print(
            "the ledger is of an older version: the next run brings it up to date; its triggers were not compared",
        );
    }
    let audited = ledger.audit(covered, &mut found)?;
    for (rule, number) in by_rule.iter().filter(|(_, number)| **number > MOST_OF_ONE_RULE) {
        context.output.print(format!("{rule}: and {} more", number - MOST_OF_ONE_RULE));
    }
    let violations: u64 = by_rule.values().sum();
    let span = |at: Option<Instant>| at.map(instant::text);
    context.output.document(
        "audit",
        &json!({
            "violations": violations,
            "by_rule": by_rule,
            "listed": listed,
            "audited": audited,
            "log": covered.map(|log| json!({ "begins": span(log.begins), "ends": span(log.ends), "lines": log.lines })),
        }),
    );
    let looked = format!("{}, {}", count(audited.messages, "message"), count(audited.attempts, "try"));
    let log = audited.accepted_in_log.map_or_else(String::new, |number| format!("; {number} of them in the mail log"));
    if violations == 0 {
        context.output.tell(format!("sound: {looked}{log}"));
        return Ok(Exit::Done);
    }
    context.output.alarm(format!(
        "error: {} in the ledger {} ({looked}{log})\n next: stop the crontab's lines, keep a copy of the ledger with its -wal and .lock files, and find out what changed it",
        count(violations, "violation"),
        ledger.path().display()
    ));
    Ok(Exit::NeedsAPerson)
}
