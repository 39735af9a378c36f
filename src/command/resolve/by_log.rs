//! The mail server's log decides. Under cron this says nothing while no one is needed.

use std::collections::HashMap;

use anyhow::Result;
use chrono::TimeDelta;
use serde_json::json;

use super::{Context, open_to_settle, who};
use crate::cli;
use crate::domain::evidence::{Fact, Says, Try, Verdict, weigh};
use crate::domain::instant::{self, Instant};
use crate::domain::message_key;
use crate::domain::state::State;
use crate::failure::Exit;
use crate::ledger::{Decision, InDoubt, Ledger, Notice, Records, Resolution, Resolved};
use crate::mail_log::{Covered, MailLog, READ_BACK, Sink, Zone};
use crate::output::count;
use crate::run_lock::RunLock;
use crate::settings::Settings;

/// What `notice` calls the messages that a person must look at.
const NOTICE: &str = "in doubt";
/// The log is given so long to speak of a message before a person is called.
const TELL_AFTER: TimeDelta = TimeDelta::hours(1);
const MOST_LINES: usize = 20;

/// Facts about the messages in doubt, by token.
struct Findings(HashMap<String, Vec<Fact>>);

impl Sink for Findings {
    fn wants(&self, token: &str) -> bool {
        self.0.contains_key(token)
    }

    fn take(&mut self, fact: Fact) {
        if let Some(facts) = self.0.get_mut(&fact.token) {
            facts.push(fact);
        }
    }
}

/// A message that the log settles, and how; or why it does not.
enum Finding {
    Settles(Resolution),
    StaysInDoubt { why: String, tell_at_once: bool },
}

pub fn run(context: &Context<'_>, settings: &Settings, args: &cli::Resolve) -> Result<Exit> {
    let now = context.clock.now();
    let zone = args.timezone.map_or(Zone::System, Zone::Named);
    let ledger = Records::open(settings.place())?;
    let in_doubt = ledger.in_doubt()?;
    let told = ledger.open_notices()?.iter().any(|open| open.kind == NOTICE);
    drop(ledger);
    let oldest = in_doubt.iter().map(|message| message.armed_at).min().unwrap_or(now);
    let log = MailLog::open(&args.mail_log, zone, now, oldest - READ_BACK)?;
    if in_doubt.is_empty() && !told {
        context.output.document("resolve-by-log", &json!({ "settled": [], "in_doubt": [], "log": null }));
        context.output.tell("nothing is in doubt");
        return Ok(Exit::Done);
    }
    let token = |message: &InDoubt| message_key::token_of(&message.message_id).to_ascii_lowercase();
    let mut findings = Findings(in_doubt.iter().map(|message| (token(message), Vec::new())).collect());
    let covered = log.read(&mut findings)?;
    // Reading may take long; the lock is held for the settling only, which looks again.
    // Under cron another run in the way is no news, as for the runs themselves.
    let lock = RunLock::take(&settings.ledger, "resolve", context.global.wait.unwrap_or_default())?;
    let mut ledger = open_to_settle(context, settings, &lock)?;
    let mut report = Report::default();
    for message in &in_doubt {
        let facts = findings.0.get(&token(message)).map_or(&[][..], Vec::as_slice);
        settle(&mut ledger, message, look_at(message, facts, covered, now), now, &mut report)?;
    }
    let news = ledger.notices().note(NOTICE, &report.standing, now)?;
    report.say(context, covered, &news.new);
    Ok(if news.new.is_empty() { Exit::Done } else { Exit::NeedsAPerson })
}

/// What the facts amount to, in words.
fn look_at(message: &InDoubt, facts: &[Fact], covered: Covered, now: Instant) -> Finding {
    let armed_at = instant::text(message.armed_at);
    let earlier = message.attempts.iter().filter(|attempt| attempt.armed_at.as_ref().is_some_and(|at| *at < armed_at));
    let this = Try {
        armed_at: message.armed_at,
        earlier_ended_at: earlier.filter_map(|attempt| instant::from_text(&attempt.ended_at)).max(),
    };
    let settles = |decision, fact: &Fact, what: &str| {
        let reason = format!("the mail log has it {what} at {} as {}", instant::text(fact.at.earliest), fact.queue_id);
        Finding::Settles(Resolution { decision, who: who(), reason, evidence: Some(fact.lines.clone()) })
    };
    match weigh(this, facts, now) {
        Verdict::Accepted(fact) => settles(Decision::Sent, fact, "accepted"),
        Verdict::Refused(fact) => settles(Decision::Refused, fact, "refused after its body"),
        Verdict::NotAccepted(fact) if fact.says == Says::Lost => {
            settles(Decision::Resend, fact, "lost within its body")
        }
        Verdict::NotAccepted(fact) => settles(Decision::Resend, fact, "turned away after its body"),
        Verdict::TooYoung => Finding::StaysInDoubt {
            why: "the log has it failed less than 15 minutes ago; until then it may still arrive".into(),
            tell_at_once: false,
        },
        Verdict::Unclear(why) => Finding::StaysInDoubt { why: why.into(), tell_at_once: true },
        Verdict::Nothing => {
            let why = match covered.begins {
                Some(begins) if begins > message.armed_at => {
                    format!("the log begins at {}, after its body did", instant::text(begins))
                }
                _ if covered.of_a_mail_server == 0 => "the log holds no line of Postfix or Exim".into(),
                _ => "the log proves nothing about it".into(),
            };
            Finding::StaysInDoubt { why, tell_at_once: false }
        }
    }
}

#[derive(Default)]
struct Report {
    settled: Vec<(String, State, String)>,
    in_doubt: Vec<(String, String)>,
    standing: Vec<Notice>,
}

fn settle(
    ledger: &mut Ledger,
    message: &InDoubt,
    finding: Finding,
    now: Instant,
    report: &mut Report,
) -> Result<(), crate::failure::Failure> {
    let (why, tell_at_once) = match finding {
        Finding::StaysInDoubt { why, tell_at_once } => (why, tell_at_once),
        Finding::Settles(resolution) => {
            let state = match (ledger.books().resolve(message, &resolution, now)?, resolution.decision) {
                (Resolved::NoLongerInDoubt, _) => return Ok(()),
                (Resolved::AnotherIsPlanned, _) => None,
                (Resolved::Expired, _) => Some(State::Skipped),
                (Resolved::Done, decision) => Some(decision.state()),
            };
            if let Some(state) = state {
                report.settled.push((message.message_id.clone(), state, resolution.reason));
                return Ok(());
            }
            (format!("{}, but another message to this address or about this cart is planned", resolution.reason), false)
        }
    };
    if tell_at_once || now - message.armed_at >= TELL_AFTER {
        let id = &message.message_id;
        report.standing.push(Notice {
            key: message.notice_key(),
            line: format!("{id}, body begun {}: {why}", instant::text(message.armed_at)),
        });
    }
    report.in_doubt.push((message.message_id.clone(), why));
    Ok(())
}

impl Report {
    fn say(&self, context: &Context<'_>, covered: Covered, news: &[String]) {
        let output = context.output;
        let span = |at: Option<Instant>| at.map(instant::text);
        output.document("resolve-by-log", &json!({
            "settled": self.settled.iter().map(|(id, state, reason)| json!({ "message_id": id, "now": state, "reason": reason })).collect::<Vec<_>>(),
            "in_doubt": self.in_doubt.iter().map(|(id, why)| json!({ "message_id": id, "why": why })).collect::<Vec<_>>(),
            "log": { "begins": span(covered.begins), "ends": span(covered.ends), "lines": covered.lines,
                     "of_a_mail_server": covered.of_a_mail_server },
        }));
        for (id, state, reason) in &self.settled {
            output.tell(format!("{id}  {state}: {reason}"));
        }
        for (id, why) in &self.in_doubt {
            output.tell(format!("{id}  stays in doubt: {why}"));
        }
        output.tell(format!(
            "{} settled, {} in doubt; the log was read from {} to {}",
            self.settled.len(),
            self.in_doubt.len(),
            span(covered.begins).unwrap_or_else(|| "-".into()),
            span(covered.ends).unwrap_or_else(|| "-".into()),
        ));
        if self.settled.is_empty() && !self.in_doubt.is_empty() {
            output.tell("is it the log of the server that mailonce sends to, and does it reach back so far?");
        }
        if news.is_empty() {
            return;
        }
        for line in news.iter().take(MOST_LINES) {
            output.alarm(line);
        }
        if news.len() > MOST_LINES {
            output.alarm(format!("and {} more; `mailonce status` lists them", news.len() - MOST_LINES));
        }
        output.alarm(format!(
            "error: {} in doubt that the mail log does not settle; never sent again by itself\n next: `mailonce resolve` lists them; \
             when you know what became of one: `mailonce resolve MESSAGE --sent|--resend|--refused --reason \"…\"`",
            count(news.len() as u64, "message")
        ));
    }
}
