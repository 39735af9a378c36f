//! `detect`: find abandoned carts, plan a message for each that needs one, deliver what is due.

mod dry_run;
mod feed;
mod planning;

use anyhow::Result;
use chrono::TimeDelta;
use serde::Serialize;

use super::Context;
use crate::cli;
use crate::delivery::{Delivery, Summary};
use crate::domain::address;
use crate::failure::{Exit, Failure};
use crate::ledger::{News, Notice, PlanRules};
use crate::mail::Transport;
use crate::output::count;
use crate::progress;
use crate::run::{Run, Start};
use crate::settings::{DetectSettings, Settings};
use crate::source::{self, Source};
use crate::stop::Stop;
use feed::{CartFeed, Stationery};
use planning::{Look, NO_ADDRESS};

/// What one run found and did, for people and as JSON.
#[derive(Debug, Default, Serialize)]
struct Report {
    run: i64,
    carts_seen: u64,
    planned: u64,
    sent: u64,
    deferred: u64,
    refused: u64,
    /// Of those refused, the ones that could not be rendered.
    unrenderable: u64,
    in_doubt: u64,
    /// Messages a dead run had armed, now held.
    recovered_in_doubt: u64,
    put_back: u64,
    skipped: std::collections::BTreeMap<String, u64>,
    left_out: std::collections::BTreeMap<String, u64>,
    bad_rows: u64,
    still_due: u64,
    trouble: Vec<String>,
    stopped: Option<String>,
    #[serde(skip)]
    news: Vec<String>,
}

impl Report {
    fn needs_a_person(&self) -> bool {
        !self.trouble.is_empty() || self.in_doubt + self.recovered_in_doubt > 0 || !self.news.is_empty()
    }

    fn take(&mut self, summary: Summary) {
        self.sent = summary.sent;
        self.deferred = summary.deferred;
        self.refused = summary.refused;
        self.in_doubt = summary.in_doubt;
        if let Some((first, messages)) = summary.unrenderable {
            let first = address::masked(&first);
            self.unrenderable = messages;
            self.news.push(format!(
                "{} refused: {first}\n next: correct the template or the cart; `mailonce log --state refused --json` lists \
                 them, and `mailonce resolve MESSAGE_ID --resend --reason \"…\"` plans one again",
                count(messages, "message")
            ));
        }
        self.put_back = summary.put_back;
        self.skipped = summary.skipped;
        self.trouble.extend(summary.trouble.iter().map(|trouble| address::masked(trouble)));
        self.stopped = summary.stopped;
    }

    /// Whether the run changed nothing, so that it need not be kept.
    fn is_idle(&self) -> bool {
        let touched = self.planned + self.sent + self.deferred + self.refused + self.in_doubt;
        touched + self.recovered_in_doubt + self.put_back == 0 && self.skipped.is_empty() && self.trouble.is_empty()
    }

    fn ending(&self) -> String {
        match (self.trouble.first(), &self.stopped) {
            (Some(trouble), _) => format!("needs a person: {trouble}"),
            (None, Some(stopped)) => stopped.clone(),
            (None, None) => "done".into(),
        }
    }

    fn kept(&self, past_tense: &str) -> String {
        let mut kept = format!("{} {past_tense} and recorded", count(self.sent, "message"));
        for (number, what) in [(self.deferred, "deferred"), (self.refused, "refused"), (self.in_doubt, "in doubt")] {
            if number > 0 {
                kept.push_str(&format!(", {number} {what}"));
            }
        }
        if self.still_due + self.put_back > 0 {
            kept.push_str(&format!("; {} not {past_tense}, still planned", self.still_due.max(self.put_back)));
        }
        kept
    }
}

/// The rules of planning, as the configuration has them.
fn plan_rules(detect: &DetectSettings) -> PlanRules {
    PlanRules { window: delta(detect.window), max_age: delta(detect.max_age), max_per_cart: detect.max_per_cart }
}

/// Whether the cart message can be rendered: what every run tries first.
pub(super) fn check_template(settings: &Settings, now: crate::domain::instant::Instant) -> Result<(), Failure> {
    Stationery::load(settings, now).map(drop)
}

fn delta(span: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX)
}

pub fn run(context: &Context<'_>, args: &cli::Detect) -> Result<Exit> {
    let settings = context.settings()?;
    if args.dry_run {
        return dry_run::run(context, &settings, args);
    }
    let stationery = Stationery::load(&settings, context.clock.now())?;
    let stop = Stop::listen(args.time_budget)?;
    let transport = Transport::open(&settings.transport);
    let start = Start {
        command: "detect",
        wait: context.global.wait.unwrap_or_default(),
        accept_clock: args.accept_clock,
        clock: context.clock,
        output: context.output,
    };
    let mut run = Run::begin(&settings, start, &transport)?;
    let mut report = Report { run: run.epoch, recovered_in_doubt: run.recovered.in_doubt, ..Report::default() };
    let mut armed = 0;
    let result =
        find_and_deliver(context, args, &settings, stationery, &transport, &stop, &mut run, &mut report, &mut armed);
    if let Err(err) = result {
        // The ledger still answers after a wrong query or template: say in it how the run ended.
        let what = err.downcast_ref::<Failure>().map_or_else(|| format!("{err:#}"), |failure| failure.what.clone());
        let _ = run.end(&format!("failed: {what}"), false, armed);
        return Err(err);
    }
    let idle = report.is_idle();
    run.end(&report.ending(), idle, armed)?;
    say(context, &transport, &report);
    Ok(if report.needs_a_person() { Exit::NeedsAPerson } else { Exit::Done })
}

#[expect(clippy::too_many_arguments, reason = "one call; each is a thing of its own")]
fn find_and_deliver(
    context: &Context<'_>,
    args: &cli::Detect,
    settings: &Settings,
    stationery: Stationery,
    transport: &Transport,
    stop: &Stop,
    run: &mut Run,
    report: &mut Report,
    armed: &mut u64,
) -> Result<()> {
    let now = context.clock.now();
    let expired = run.ledger.expire_carts(now)?;
    let mut summary = Summary::default();
    if expired > 0 {
        summary.skipped.insert("expired".into(), expired);
    }
    let mut source = match look_at_shop(context, args, settings, stop, run, report) {
        Ok(source) => source,
        Err(err) => return stand_by(err, report, summary),
    };
    if stop.cause().is_none() && run.ledger.count_due_carts(now)? > 0 {
        let mut feed = CartFeed::new(context, stationery, &settings.detect, source.as_mut(), now);
        let due = run.ledger.count_due_carts(now)?;
        let mut delivery = Delivery {
            ledger: &mut run.ledger,
            lock: &run.lock,
            epoch: run.epoch,
            clock: context.clock,
            transport,
            limits: settings.limits,
            retry_after: delta(settings.detect.retry_after),
            stop,
            output: context.output,
            progress: progress::bar("sending", Some(due), context.output.json),
            armed: 0,
        };
        let delivered = delivery.run(&mut feed, &mut summary);
        delivery.progress.finish_and_clear();
        *armed = delivery.armed;
        report.take(summary);
        delivered.map_err(|failure| {
            let kept = report.kept(transport.past_tense());
            let kept =
                if failure.kept.is_empty() { kept } else { format!("{kept}; {}", address::masked(&failure.kept)) };
            failure.kept(kept)
        })?;
        report.still_due = run.ledger.count_due_carts(now)?;
    } else {
        report.take(summary);
    }
    Ok(())
}

/// A shop that does not answer: nothing is sent, and that is said. A wrong configuration ends the run.
fn stand_by(err: anyhow::Error, report: &mut Report, summary: Summary) -> Result<()> {
    report.take(summary);
    match err.downcast_ref::<Failure>() {
        Some(failure) if failure.exit == Exit::NeedsAPerson => {
            report.trouble.push(failure.to_string());
            Ok(())
        }
        _ => Err(err),
    }
}

/// Reads the shop, decides about each cart, and plans.
fn look_at_shop(
    context: &Context<'_>,
    args: &cli::Detect,
    settings: &Settings,
    stop: &Stop,
    run: &mut Run,
    report: &mut Report,
) -> Result<Box<dyn Source>> {
    let now = context.clock.now();
    let mut source = source::open(&settings.source)?;
    let rules = plan_rules(&settings.detect);
    let look = Look { settings, now, output: context.output, record_left_out: false, stop: Some(stop) };
    let mut found = look.read(source.as_mut(), &mut run.ledger)?;
    report.carts_seen = found.carts_seen;
    report.bad_rows = found.bad_rows;
    report.left_out = found.left_out;
    let news = run.ledger.note("bad row", &found.notices, now)?;
    report.news.extend(bad_row_lines(&news, found.bad_rows));
    if let Some(mut first) = found.first_anonymous.take() {
        let place = std::mem::take(&mut first.line);
        let carts = report.left_out.get(NO_ADDRESS).copied().unwrap_or(0);
        first.line = format!("{}, the first: {place}", count(carts, "cart"));
        if run.ledger.note_once(NO_ADDRESS, Some(&first), now)? {
            report.news.push(format!("{place}: {NO_ADDRESS}; row skipped; such carts are only counted from now on"));
        }
    } else {
        run.ledger.note_once(NO_ADDRESS, None, now)?;
    }
    let most = settings.detect.max_per_run.max(args.allow.unwrap_or(0));
    let Some(to_plan) = look.decide(source.as_mut(), &mut run.ledger, &rules, most)? else { return Ok(source) };
    for (verdict, carts) in look.left_out(&run.ledger)? {
        *report.left_out.entry(verdict).or_default() += carts;
    }
    let mut standing = Vec::new();
    if to_plan > most {
        let line = format!(
            "more than {most} new messages would be planned in one run (detect.max_per_run); none was. \
             Who they are: `mailonce detect --dry-run`; if they are right: `mailonce detect --allow N`"
        );
        standing.push(Notice { key: "max_per_run".into(), line });
        *report.left_out.entry("more than max_per_run".into()).or_default() += to_plan;
    } else if to_plan > 0 || report.left_out.contains_key("superseded") {
        report.planned = run.ledger.plan_candidates(&rules, now, settings.mail.from.address.domain())?;
    }
    let news = run.ledger.note("max_per_run", &standing, now)?;
    let again = news.reminder.map(|_| standing[0].line.clone());
    report.news.extend(news.new.into_iter().chain(again));
    Ok(source)
}

/// The lines about bad rows: each once, later how many still stand.
fn bad_row_lines(news: &News, bad_rows: u64) -> Vec<String> {
    const MOST_LINES: usize = 20;
    let mut lines: Vec<String> = news.new.iter().take(MOST_LINES).map(|line| format!("{line}; row skipped")).collect();
    if news.new.len() > MOST_LINES {
        lines.push(format!("and {} more; `mailonce status` lists them", news.new.len() - MOST_LINES));
    }
    if news.reminder.is_some() {
        lines.push(format!("{} still skipped; `mailonce status` lists them", count(bad_rows, "bad row")));
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
    if report.recovered_in_doubt > 0 {
        output.alarm(format!(
            "{} in doubt: an earlier run ended before the server's reply was recorded; held, not sent again\n next: `mailonce resolve` lists them",
            count(report.recovered_in_doubt, "message")
        ));
    }
    for trouble in &report.trouble {
        match trouble.starts_with("error:") {
            true => output.alarm(trouble),
            false => output.alarm(format!(
                "error: {trouble}\n kept: {}\n next: check the server, then `mailonce detect` again; it sends only what is still due",
                report.kept(past_tense)
            )),
        }
    }
    if report.in_doubt > 0 && report.trouble.is_empty() {
        output.alarm(format!(
            "{} in doubt: the body went out and no trustworthy reply came; held, not sent again\n next: `mailonce resolve` lists them",
            count(report.in_doubt, "message")
        ));
    }
    let looked = format!("{} looked at", count(report.carts_seen, "cart"));
    if report.is_idle() {
        let mut reasons = phrase(&report.left_out);
        if report.bad_rows > 0 {
            let comma = if reasons.is_empty() { "" } else { ", " };
            reasons.push_str(&format!("{comma}{}", count(report.bad_rows, "bad row")));
        }
        let why = if reasons.is_empty() { "none abandoned within max_age".to_owned() } else { reasons };
        output.tell(format!("nothing to send: {looked}: {why}"));
        return;
    }
    let mut line = format!("{past_tense} {}", report.sent);
    for (number, what) in [
        (report.deferred, "deferred"),
        (report.refused, "refused"),
        (report.in_doubt + report.recovered_in_doubt, "in doubt"),
        (report.put_back, "not tried"),
    ] {
        if number > 0 {
            line.push_str(&format!(", {what} {number}"));
        }
    }
    if !report.skipped.is_empty() {
        line.push_str(&format!("; skipped: {}", phrase(&report.skipped)));
    }
    if !report.left_out.is_empty() {
        line.push_str(&format!("; left out: {}", phrase(&report.left_out)));
    }
    if report.bad_rows > 0 {
        line.push_str(&format!("; bad rows: {}", report.bad_rows));
    }
    if let Some(stopped) = &report.stopped {
        line.push_str(&format!("; {stopped}, {} still due", report.still_due));
    }
    output.tell(format!("{line} ({looked})"));
}

/// `2 email already sent, 1 ordered`.
fn phrase(counts: &std::collections::BTreeMap<String, u64>) -> String {
    let parts: Vec<String> = counts.iter().map(|(what, number)| format!("{number} {what}")).collect();
    parts.join(", ")
}
