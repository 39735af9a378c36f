//! `run-campaigns`: open the occurrences that are due, deliver what they planned.

mod dry_run;
pub(super) mod feed;
pub(super) mod missed;
pub(super) mod opening;

use std::collections::HashSet;

use anyhow::Result;
use chrono_tz::Tz;
use serde::Serialize;

use super::Context;
use super::sending::{Delivered, Report, Sending};
use crate::cli;
use crate::delivery::Summary;
use crate::failure::{Exit, Failure};
use crate::ledger::{News, Notice, WaitingFor};
use crate::output::{Output, count};
use crate::run::Run;
use crate::settings::Settings;
use crate::settings::campaigns::{self, Definitions};
use feed::RecipientFeed;

/// What `status` lists a definition under that cannot be used.
const BROKEN: &str = "bad definition";

/// What one run opened and delivered, for people and as JSON.
#[derive(Debug, Default, Serialize)]
struct CampaignReport {
    #[serde(flatten)]
    delivered: Delivered,
    campaigns: u64,
    opened: Vec<OpenedNow>,
    missed: Vec<MissedNow>,
    not_ready: Vec<String>,
    next_occurrence: Option<String>,
}

#[derive(Debug, Serialize)]
struct OpenedNow {
    campaign_id: String,
    planned_at: String,
    recipients: u64,
    /// Of the recipients, those who get nothing, for comparison.
    held_out: u64,
    bad_rows: u64,
    repeated: u64,
}

#[derive(Debug, Serialize)]
struct MissedNow {
    campaign_id: String,
    occurrences: u64,
    newest: String,
}

impl Report for CampaignReport {
    fn delivered(&mut self) -> &mut Delivered {
        &mut self.delivered
    }

    fn is_idle(&self) -> bool {
        self.delivered.is_idle() && self.opened.is_empty() && self.missed.is_empty()
    }

    fn tell(&self, output: Output, past_tense: &str) {
        for opened in &self.opened {
            let mut line = format!(
                "opened {} {}: {}",
                opened.campaign_id,
                opened.planned_at,
                count(opened.recipients, "recipient")
            );
            if opened.held_out > 0 {
                line.push_str(&format!(", {} of them held out", opened.held_out));
            }
            for (number, what) in [(opened.repeated, "repeated address"), (opened.bad_rows, "bad row")] {
                if number > 0 {
                    line.push_str(&format!(", {}", count(number, what)));
                }
            }
            output.tell(line);
        }
        for missed in &self.missed {
            let occurrences = count(missed.occurrences, "occurrence");
            output.tell(format!("{}: {occurrences} not in time, the newest {}", missed.campaign_id, missed.newest));
        }
        if self.is_idle() {
            let next = self.next_occurrence.as_deref();
            let next = next.map_or_else(|| "no upcoming occurrence".into(), |next| format!("next occurrence {next}"));
            output.tell(format!("nothing due: {}, {next}", count(self.campaigns, "campaign")));
            return;
        }
        output.tell(self.delivered.line(past_tense) + &self.delivered.why_it_stopped());
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
        return dry_run::run(context, &settings, &definitions, args);
    }
    let sending = Sending::new("run-campaigns", context, &settings, args.time_budget)?;
    let round = Round {
        sending: &sending,
        only: args.campaign.as_deref(),
        accept_audience: args.accept_audience,
        retry_now: args.retry_now,
        definitions: &definitions,
    };
    sending.run(args.accept_clock, CampaignReport::default(), |run, report| round.open_and_deliver(run, report))
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
    sending: &'a Sending<'a>,
    /// The one campaign that the command line names.
    only: Option<&'a str>,
    /// It opens although its audience has fewer than half the rows of the last opening.
    accept_audience: bool,
    retry_now: bool,
    definitions: &'a Definitions,
}

impl Round<'_> {
    fn open_and_deliver(&self, run: &mut Run, report: &mut CampaignReport) -> Result<()> {
        let Sending { context, settings, stop, .. } = self.sending;
        let now = context.clock.now();
        report.campaigns = self.definitions.campaigns.len() as u64;
        let mut summary = Summary::default();
        for (reason, messages) in [
            ("cancelled", run.ledger.campaigns().finish_cancellations(now)?),
            ("expired", run.ledger.plans().expire_recipients(now)?),
        ] {
            if messages > 0 {
                summary.skipped.insert(reason.into(), messages);
            }
        }
        if self.retry_now {
            report.delivered.retried_now =
                run.ledger.books().retry_now(WaitingFor::Campaigns { only: self.only }, now)?;
        }
        self.pause_vanished(run)?;
        let broken_before =
            run.ledger.open_notices()?.into_iter().filter(|open| open.kind == BROKEN).map(|open| open.line);
        let broken_before: Vec<String> = broken_before.collect();
        self.tell_broken(run, report)?;
        opening::open_due(self, run, report, &broken_before)?;
        // What was planned just now is due, too: by the clock, the opening may have taken a while.
        let now = context.clock.now().max(now);
        let due = run.ledger.count_due_recipients(now, self.only)?;
        if stop.cause().is_none() && due > 0 {
            let mut feed =
                RecipientFeed::new(context, settings, &self.definitions.campaigns, &run.ledger, now, self.only)?;
            self.sending.deliver(run, &mut feed, due, summary, &mut report.delivered)?;
            report.delivered.still_due = run.ledger.count_due_recipients(now, self.only)?;
            if report.delivered.put_back > 0 {
                report.delivered.waiting = run.ledger.waiting(WaitingFor::Campaigns { only: self.only }, now)?.messages;
            }
        } else {
            report.delivered.take(summary);
        }
        run.ledger.campaigns().complete()?;
        Ok(())
    }

    /// A campaign whose definition is gone is paused until it is back, and that is said.
    fn pause_vanished(&self, run: &mut Run) -> Result<(), Failure> {
        let empty = self.definitions.campaigns.is_empty() && self.definitions.broken.is_empty();
        if empty || self.definitions.broken.iter().any(|broken| broken.id.is_none()) {
            // A definition whose id cannot be read may be any of them, and an empty file may be half written.
            return Ok(());
        }
        let broken = self.definitions.broken.iter().filter_map(|broken| broken.id.as_deref());
        let defined: HashSet<&str> =
            self.definitions.campaigns.iter().map(|campaign| campaign.id.as_str()).chain(broken).collect();
        run.ledger.campaigns().pause_vanished(&defined, self.sending.context.clock.now())
    }

    fn tell_broken(&self, run: &mut Run, report: &mut CampaignReport) -> Result<()> {
        let notices: Vec<Notice> = self
            .definitions
            .broken
            .iter()
            .map(|broken| Notice { key: broken.problem.clone(), line: broken.problem.clone() })
            .collect();
        let news = run.ledger.notices().note(BROKEN, &notices, self.sending.context.clock.now())?;
        report.delivered.news.extend(told(news, BROKEN));
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
