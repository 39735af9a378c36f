//! `detect`: find abandoned carts, plan a message for each that needs one, deliver what is due.

mod cart_rules;
mod dry_run;
mod due;
mod feed;
mod last_look;
mod orders;
mod planning;
mod weighing;

use std::collections::BTreeMap;

use anyhow::Result;
use chrono::TimeDelta;
use serde::Serialize;

use super::sending::{Delivered, Report, Sending, phrase};
use super::{Context, coupons, trial};
use crate::cli;
use crate::delivery::Summary;
use crate::domain::span;
use crate::failure::{Exit, Failure};
use crate::ledger::{News, Notice, PlanRules, Records, WaitingFor};
use crate::letters::cart::CartLetters;
use crate::output::{Output, count};
use crate::run::Run;
use crate::settings::Settings;
use crate::source::{self, Source};
use crate::stop::StopCause;
use feed::CartFeed;
pub(super) use planning::by_itself;
pub(super) use planning::next_step;
use planning::{HELD_OUT, Look, NO_ADDRESS, NO_CODE, ODD_LOCALE, ODD_TIMEZONE};
pub(super) use weighing::{Asking, Finding, NextLook, WeighedCart, Weighing};

/// A machine may be busy for a moment.
const LONG_LOOK_IS_TOLD_AFTER: TimeDelta = TimeDelta::minutes(10);

/// What one run found and did, for people and as JSON.
#[derive(Debug, Default, Serialize)]
struct CartReport {
    #[serde(flatten)]
    delivered: Delivered,
    carts_seen: u64,
    planned: u64,
    left_out: BTreeMap<String, u64>,
    bad_rows: u64,
    /// Carts that the time budget left for a later run to decide about.
    undecided: u64,
    /// Orders that followed a message, as the shop shows by now, and that were not known.
    recovered: u64,
}

impl Report for CartReport {
    fn delivered(&mut self) -> &mut Delivered {
        &mut self.delivered
    }

    fn is_idle(&self) -> bool {
        self.planned == 0 && self.delivered.is_idle()
    }

    fn tell(&self, output: Output, past_tense: &str) {
        let looked = format!("{} looked at", count(self.carts_seen, "cart"));
        if self.is_idle() {
            let mut reasons = phrase(&self.left_out);
            if self.bad_rows > 0 {
                let comma = if reasons.is_empty() { "" } else { ", " };
                reasons.push_str(&format!("{comma}{}", count(self.bad_rows, "bad row")));
            }
            let why = if reasons.is_empty() { "none abandoned within max_age".to_owned() } else { reasons };
            output.tell(format!("nothing to send: {looked}: {why}{}", self.recoveries()));
            return;
        }
        let mut line = self.delivered.line(past_tense);
        if !self.left_out.is_empty() {
            line.push_str(&format!("; left out: {}", phrase(&self.left_out)));
        }
        if self.bad_rows > 0 {
            line.push_str(&format!("; bad rows: {}", self.bad_rows));
        }
        line.push_str(&self.recoveries());
        line.push_str(&self.delivered.why_it_stopped());
        output.tell(format!("{line} ({looked})"));
    }
}

/// The rules of planning, as the configuration has them.
fn plan_rules(settings: &Settings, ledger: &Records) -> Result<PlanRules, Failure> {
    let Settings { detect, holdout, .. } = settings;
    Ok(PlanRules {
        window: span::delta(detect.window),
        max_age: span::delta(detect.max_age),
        max_per_cart: detect.max_per_cart,
        steps: detect.steps.iter().map(|step| step.step.clone()).collect(),
        held_back_at: ledger.held_back_at()?,
        pools: settings.pools.clone(),
        send_window: settings.send_window.clone(),
        zone: settings.shop.timezone,
        holdout: holdout.clone().filter(|holdout| holdout.carts),
    })
}

/// Whether the cart message can be rendered: what every run tries first.
pub(super) fn check_template(settings: &Settings, now: crate::domain::instant::Instant) -> Result<(), Failure> {
    CartLetters::load_and_try(settings, now).map(drop)
}

pub fn run(context: &Context<'_>, args: &cli::Detect) -> Result<Exit> {
    let settings = context.settings()?;
    if args.dry_run {
        return dry_run::run(context, &settings, args);
    }
    if let Some(to) = &args.test_to {
        return trial::send_cart(context, &settings, to, args.step.as_deref());
    }
    let letters = CartLetters::load_and_try(&settings, context.clock.now())?;
    let sending = Sending::new("detect", context, &settings, args.time_budget)?;
    sending.run(args.accept_clock, CartReport::default(), |run, report| {
        find_and_deliver(&sending, args, letters, run, report)
    })
}

fn find_and_deliver(
    sending: &Sending<'_>,
    args: &cli::Detect,
    letters: CartLetters,
    run: &mut Run,
    report: &mut CartReport,
) -> Result<()> {
    let now = sending.context.clock.now();
    let expired = run.ledger.plans().expire_carts(now)?;
    let mut summary = Summary::default();
    if expired > 0 {
        summary.skipped.insert("expired".into(), expired);
    }
    if args.retry_now {
        report.delivered.retried_now = run.ledger.books().retry_now(WaitingFor::Carts, now)?;
    }
    let mut source = match look_at_shop(sending, args, run, report) {
        Ok(source) => source,
        Err(err) => return stand_by(err, report, summary),
    };
    tell_of_a_long_look(sending, args, run, report)?;
    let due = run.ledger.count_due_carts(now)?;
    if sending.stop.cause().is_some() || due == 0 {
        report.delivered.take(summary);
    } else {
        let mut feed = CartFeed::new(sending.context, letters, sending.settings, source.as_mut(), now);
        sending.deliver(run, &mut feed, due, summary, &mut report.delivered)?;
        report.delivered.still_due = run.ledger.count_due_carts(now)?;
        if report.delivered.put_back > 0 {
            report.delivered.waiting = run.ledger.waiting(WaitingFor::Carts, now)?.messages;
        }
    }
    report.note_undecided();
    orders::look(sending, source.as_mut(), run, report)?;
    Ok(())
}

/// A look at the carts that took the whole time budget: what is planned gets some time of its own, or no run would ever send
/// anything; and a person is told, once it has been so for some minutes.
fn tell_of_a_long_look(
    sending: &Sending<'_>,
    args: &cli::Detect,
    run: &mut Run,
    report: &mut CartReport,
) -> Result<()> {
    let budget = args.time_budget.filter(|_| sending.stop.cause() == Some(StopCause::TimeBudget));
    let line = budget.map(|budget| {
        let undecided = match report.undecided {
            0 => String::new(),
            undecided => format!("{} left for a later run; ", count(undecided, "cart")),
        };
        format!(
            "looking at {} takes longer than --time-budget {}; {undecided}what is planned is sent, a little each run",
            count(report.carts_seen, "cart"),
            humantime::format_duration(budget),
        )
    });
    let now = sending.context.clock.now();
    if run.ledger.notices().note_lasting("long look", line.as_deref(), LONG_LOOK_IS_TOLD_AFTER, now)?
        && let Some(line) = line
    {
        report.delivered.news.push(format!(
            "{line}\n next: give `detect` a longer --time-budget; `mailonce doctor` names the indexes that the shop lacks"
        ));
    }
    if let Some(budget) = budget {
        sending.stop.allow(budget / 4);
    }
    Ok(())
}

impl CartReport {
    /// `; 2 orders followed a mail`; nothing when none did.
    fn recoveries(&self) -> String {
        if self.recovered == 0 {
            String::new()
        } else {
            format!("; {} followed a mail", count(self.recovered, "order"))
        }
    }

    /// Says in the record of the run that it did not decide about every cart.
    fn note_undecided(&mut self) {
        if self.undecided > 0 {
            let stopped = self.delivered.stopped.take().unwrap_or_else(|| "its time budget is spent".into());
            self.delivered.stopped = Some(format!("{stopped}, {} not decided about", count(self.undecided, "cart")));
        }
    }
}

/// A shop that does not answer: nothing is sent, and that is said. A wrong configuration ends the run.
fn stand_by(err: anyhow::Error, report: &mut CartReport, summary: Summary) -> Result<()> {
    report.delivered.take(summary);
    match err.downcast_ref::<Failure>() {
        Some(failure) if failure.exit == Exit::NeedsAPerson => {
            report.delivered.trouble.push(failure.to_string());
            Ok(())
        }
        _ => Err(err),
    }
}

/// Reads the shop, decides about each cart, and plans.
fn look_at_shop(
    sending: &Sending<'_>,
    args: &cli::Detect,
    run: &mut Run,
    report: &mut CartReport,
) -> Result<Box<dyn Source>> {
    let Sending { context, settings, stop, .. } = sending;
    let now = context.clock.now();
    let mut source = source::open(&settings.source)?;
    let rules = plan_rules(settings, &run.ledger)?;
    let look = Look { settings, now, output: context.output, record_left_out: false, asked: None, stop: Some(stop) };
    let mut found = look.read(source.as_mut(), &run.ledger)?;
    report.carts_seen = found.carts_seen;
    report.bad_rows = found.bad_rows;
    report.left_out = found.left_out;
    let news = run.ledger.notices().note("bad row", &found.notices, now)?;
    report.delivered.news.extend(bad_row_lines(&news, found.bad_rows));
    if let Some(mut first) = found.first_anonymous.take() {
        let place = std::mem::take(&mut first.line);
        let carts = report.left_out.get(NO_ADDRESS).copied().unwrap_or(0);
        first.line = format!("{}, the first: {place}", count(carts, "cart"));
        if run.ledger.notices().note_once(NO_ADDRESS, Some(&first), now)? {
            report
                .delivered
                .news
                .push(format!("{place}: {NO_ADDRESS}; row skipped; such carts are only counted from now on"));
        }
    } else {
        run.ledger.notices().note_once(NO_ADDRESS, None, now)?;
    }
    let odd_timezone = found.first_odd_timezone.take();
    if run.ledger.notices().note_once(ODD_TIMEZONE, odd_timezone.as_ref(), now)?
        && let Some(Notice { line, .. }) = odd_timezone
    {
        report.delivered.news.push(format!("{line}; such carts go by the shop's clock"));
    }
    let odd_locale = found.first_odd_locale.take();
    if run.ledger.notices().note_once(ODD_LOCALE, odd_locale.as_ref(), now)?
        && let Some(Notice { line, .. }) = odd_locale
    {
        report.delivered.news.push(format!("{line}; such carts are written to in the shop's language"));
    }
    let most = settings.detect.max_per_run.max(args.allow.unwrap_or(0));
    let Some(decided) = look.decide(source.as_mut(), &run.ledger, &rules, most)? else { return Ok(source) };
    for (verdict, carts) in decided.left_out {
        *report.left_out.entry(verdict).or_default() += carts;
    }
    let to_plan = decided.to_plan;
    let mut standing = Vec::new();
    if to_plan > most {
        let line = format!(
            "more than {most} new messages would be planned in one run (detect.max_per_run); none was. \
             Who they are: `mailonce detect --dry-run`; if they are right: `mailonce detect --allow N`"
        );
        standing.push(Notice { key: "max_per_run".into(), line });
        *report.left_out.entry("more than max_per_run".into()).or_default() += to_plan;
    } else if to_plan > 0
        || decided.has_late
        || report.left_out.contains_key("superseded")
        || report.left_out.contains_key(HELD_OUT)
    {
        let sender_domain = settings.mail.from.address.domain();
        let planned = run.ledger.plans().plan_candidates(&rules, now, sender_domain)?;
        report.planned = planned.messages;
        if planned.without_code > 0 {
            *report.left_out.entry(NO_CODE.to_owned()).or_default() += planned.without_code;
        }
    }
    if to_plan <= most {
        report.undecided = decided.undecided;
    }
    report.delivered.news.extend(coupons::tell_of_few(&mut run.ledger, &settings.pools, now)?);
    let news = run.ledger.notices().note("max_per_run", &standing, now)?;
    let again = news.reminder.map(|_| standing[0].line.clone());
    report.delivered.news.extend(news.new.into_iter().chain(again));
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
