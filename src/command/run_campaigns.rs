//! `run-campaigns`: open the occurrences that are due, deliver what they planned.

mod feed;
pub(super) mod opening;

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use chrono::TimeDelta;
use chrono_tz::Tz;
use serde::Serialize;

use super::Context;
use crate::cli;
use crate::delivery::{Delivery, Summary};
use crate::failure::{Exit, Failure};
use crate::ledger::{News, Notice};
use crate::mail::Transport;
use crate::output::count;
use crate::progress;
use crate::run::{Run, Start};
use crate::settings::Settings;
use crate::settings::campaigns::{self, Definitions};
use crate::stop::Stop;
use feed::RecipientFeed;

/// What one run opened and delivered, for people and as JSON.
#[derive(Debug, Default, Serialize)]
struct Report {
    run: i64,
    campaigns: u64,
    opened: Vec<OpenedNow>,
    missed: Vec<MissedNow>,
    not_ready: Vec<String>,
    sent: u64,
    deferred: u64,
    refused: u64,
    in_doubt: u64,
    recovered_in_doubt: u64,
    put_back: u64,
    skipped: BTreeMap<String, u64>,
    still_due: u64,
    trouble: Vec<String>,
    stopped: Option<String>,
    next_occurrence: Option<String>,
    #[serde(skip)]
    news: Vec<String>,
}

#[derive(Debug, Serialize)]
struct OpenedNow {
    campaign_id: String,
    planned_at: String,
    recipients: u64,
    bad_rows: u64,
    repeated: u64,
}

#[derive(Debug, Serialize)]
struct MissedNow {
    campaign_id: String,
    occurrences: u64,
    newest: String,
}

impl Report {
    fn is_idle(&self) -> bool {
        let touched =
            self.sent + self.deferred + self.refused + self.in_doubt + self.recovered_in_doubt + self.put_back;
        touched == 0
            && self.opened.is_empty()
            && self.missed.is_empty()
            && self.skipped.is_empty()
            && self.trouble.is_empty()
    }

    fn needs_a_person(&self) -> bool {
        !self.trouble.is_empty() || self.in_doubt + self.recovered_in_doubt > 0 || !self.news.is_empty()
    }

    fn take(&mut self, summary: Summary) {
        self.sent = summary.sent;
        self.deferred = summary.deferred;
        self.refused = summary.refused;
        self.in_doubt = summary.in_doubt;
        self.put_back = summary.put_back;
        self.skipped = summary.skipped;
        self.trouble.extend(summary.trouble);
        self.stopped = summary.stopped;
    }

    fn ending(&self) -> String {
        match (self.trouble.first(), &self.stopped) {
            (Some(trouble), _) => format!("needs a person: {trouble}"),
            (None, Some(stopped)) => stopped.clone(),
            (None, None) => "done".into(),
        }
    }

    fn kept(&self, past_tense: &str) -> String {
        let left = self.still_due.max(self.put_back);
        format!("{} {past_tense} and recorded; {left} not {past_tense}, still due", count(self.sent, "message"))
    }
}

pub fn run(context: &Context<'_>, args: &cli::RunCampaigns) -> Result<Exit> {
    let settings = context.settings()?;
    let definitions = definitions(&settings)?;
    if let Some(id) = &args.campaign
        && !definitions.campaigns.iter().any(|campaign| campaign.id == *id)
    {
        return Err(unknown_campaign(id, &definitions).into());
    }
    if args.dry_run {
        return opening::dry_run(context, &settings, &definitions, args.campaign.as_deref());
    }
    let stop = Stop::listen(args.time_budget)?;
    let transport = Transport::open(&settings.transport);
    let start = Start {
        command: "run-campaigns",
        wait: context.global.wait.unwrap_or_default(),
        accept_clock: args.accept_clock,
        clock: context.clock,
        output: context.output,
    };
    let mut run = Run::begin(&settings, start, &transport)?;
    let mut report = Report { run: run.epoch, recovered_in_doubt: run.recovered.in_doubt, ..Report::default() };
    let mut armed = 0;
    let mut round = Round { context, args, settings: &settings, definitions: &definitions, stop: &stop };
    if let Err(err) = round.open_and_deliver(&mut run, &transport, &mut report, &mut armed) {
        let what = err.downcast_ref::<Failure>().map_or_else(|| format!("{err:#}"), |failure| failure.what.clone());
        let _ = run.end(&format!("failed: {what}"), false, armed);
        return Err(err);
    }
    run.end(&report.ending(), report.is_idle(), armed)?;
    say(context, &transport, &report);
    Ok(if report.needs_a_person() { Exit::NeedsAPerson } else { Exit::Done })
}

/// The definitions; none where no file is named and none lies beside the configuration.
pub(super) fn definitions(settings: &Settings) -> Result<Definitions, Failure> {
    match &settings.campaigns.file {
        Some(file) => campaigns::read(file, &settings.campaigns, Tz::UTC),
        None => Ok(Definitions::default()),
    }
}

fn unknown_campaign(id: &str, definitions: &Definitions) -> Failure {
    if let Some(broken) = definitions.broken.iter().find(|broken| broken.id.as_deref() == Some(id)) {
        return Failure::config(broken.problem.clone(), "correct the definition, then try again");
    }
    let known: Vec<&str> = definitions.campaigns.iter().map(|campaign| campaign.id.as_str()).collect();
    Failure::usage(format!("no campaign {id:?} is defined"), format!("name one of: {}", known.join(", ")))
}

struct Round<'a> {
    context: &'a Context<'a>,
    args: &'a cli::RunCampaigns,
    settings: &'a Settings,
    definitions: &'a Definitions,
    stop: &'a Stop,
}

impl Round<'_> {
    fn open_and_deliver(
        &mut self,
        run: &mut Run,
        transport: &Transport,
        report: &mut Report,
        armed: &mut u64,
    ) -> Result<()> {
        let now = self.context.clock.now();
        let only = self.args.campaign.as_deref();
        report.campaigns = self.definitions.campaigns.len() as u64;
        let mut summary = Summary::default();
        let expired = run.ledger.expire_recipients(now)?;
        if expired > 0 {
            summary.skipped.insert("expired".into(), expired);
        }
        self.pause_vanished(run, report)?;
        self.tell_broken(run, report)?;
        opening::open_due(self, run, report)?;
        let due = run.ledger.count_due_recipients(now, only)?;
        if self.stop.cause().is_none() && due > 0 {
            let mut feed = RecipientFeed::new(self.context, self.settings, &run.ledger, now, only)?;
            let mut delivery = Delivery {
                ledger: &mut run.ledger,
                lock: &run.lock,
                epoch: run.epoch,
                clock: self.context.clock,
                transport,
                limits: self.settings.limits,
                retry_after: TimeDelta::from_std(self.settings.detect.retry_after).unwrap_or(TimeDelta::MAX),
                stop: self.stop,
                output: self.context.output,
                progress: progress::bar("sending", Some(due), self.context.output.json),
                armed: 0,
            };
            let delivered = delivery.run(&mut feed, &mut summary);
            delivery.progress.finish_and_clear();
            *armed = delivery.armed;
            report.take(summary);
            delivered.map_err(|failure| {
                let kept = report.kept(transport.past_tense());
                let kept = if failure.kept.is_empty() { kept } else { format!("{kept}; {}", failure.kept) };
                failure.kept(kept)
            })?;
            report.still_due = run.ledger.count_due_recipients(now, only)?;
        } else {
            report.take(summary);
        }
        run.ledger.complete_campaigns()?;
        Ok(())
    }

    /// A campaign whose definition is gone is paused, once, and said.
    fn pause_vanished(&self, run: &mut Run, report: &mut Report) -> Result<()> {
        let empty = self.definitions.campaigns.is_empty() && self.definitions.broken.is_empty();
        if empty || self.definitions.broken.iter().any(|broken| broken.id.is_none()) {
            // A definition whose id cannot be read may be any of them, and an empty file may be half written.
            return Ok(());
        }
        let broken = self.definitions.broken.iter().filter_map(|broken| broken.id.as_deref());
        let defined: HashSet<&str> =
            self.definitions.campaigns.iter().map(|campaign| campaign.id.as_str()).chain(broken).collect();
        for id in run.ledger.pause_vanished(&defined)? {
            report.news.push(format!("campaign {id} is no longer defined; it is paused\n next: put its definition back and `mailonce campaign resume {id}`, or `mailonce campaign cancel {id}`"));
        }
        Ok(())
    }

    fn tell_broken(&self, run: &mut Run, report: &mut Report) -> Result<()> {
        let notices: Vec<Notice> = self
            .definitions
            .broken
            .iter()
            .map(|broken| Notice { key: broken.problem.clone(), line: broken.problem.clone() })
            .collect();
        let news = run.ledger.note("bad definition", &notices, self.context.clock.now())?;
        report.news.extend(told(news, "bad definition"));
        Ok(())
    }
}

/// New lines as they are; what stood for an hour as a count.
fn told(news: News, what: &str) -> Vec<String> {
    let mut lines = news.new;
    if let Some(standing) = news.reminder {
        lines.push(format!("{} still standing; `mailonce status` lists them", count(standing, what)));
    }
    lines
}

fn say(context: &Context<'_>, transport: &Transport, report: &Report) {
    let output = context.output;
    output.document(report);
    for line in &report.news {
        output.alarm(line);
    }
    let past_tense = transport.past_tense();
    for trouble in &report.trouble {
        output.alarm(format!(
            "error: {trouble}\n kept: {}\n next: check the server, then `mailonce run-campaigns` again; it sends only what is still due",
            report.kept(past_tense)
        ));
    }
    if report.in_doubt + report.recovered_in_doubt > 0 {
        output.alarm(format!(
            "{} in doubt: the body went out and no trustworthy reply came; held, not sent again\n next: `mailonce resolve` lists them",
            count(report.in_doubt + report.recovered_in_doubt, "message")
        ));
    }
    for opened in &report.opened {
        let mut line =
            format!("opened {} {}: {}", opened.campaign_id, opened.planned_at, count(opened.recipients, "recipient"));
        for (number, what) in [(opened.repeated, "repeated address"), (opened.bad_rows, "bad row")] {
            if number > 0 {
                line.push_str(&format!(", {}", count(number, what)));
            }
        }
        output.tell(line);
    }
    for missed in &report.missed {
        let occurrences = count(missed.occurrences, "occurrence");
        output.tell(format!("{}: {occurrences} not in time, the newest {}", missed.campaign_id, missed.newest));
    }
    if report.is_idle() {
        let next = report
            .next_occurrence
            .as_deref()
            .map_or_else(|| "none to come".into(), |next| format!("next occurrence {next}"));
        output.tell(format!("nothing due: {}, {next}", count(report.campaigns, "campaign")));
        return;
    }
    let mut line = format!("{past_tense} {}", report.sent);
    for (number, what) in [
        (report.deferred, "deferred"),
        (report.refused, "refused"),
        (report.in_doubt, "in doubt"),
        (report.put_back, "not tried"),
    ] {
        if number > 0 {
            line.push_str(&format!(", {what} {number}"));
        }
    }
    for (reason, number) in &report.skipped {
        line.push_str(&format!(", skipped {number} {reason}"));
    }
    if let Some(stopped) = &report.stopped {
        line.push_str(&format!("; {stopped}, {} still due", report.still_due));
    }
    output.tell(line);
}
