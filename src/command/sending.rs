//! What `detect` and `run-campaigns` have in common: a run is begun, delivers, ends, and says what it did.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::Context;
use super::bounces::tell_of_held;
use crate::delivery::{Delivery, Feed, Summary};
use crate::domain::span;
use crate::domain::{address, instant};
use crate::failure::{Exit, Failure};
use crate::ledger::{self, Ledger, Notice};
use crate::mail::Transport;
use crate::output::{Output, count};
use crate::progress;
use crate::run::{Run, Start};
use crate::settings::Settings;
use crate::stop::Stop;
use crate::wishes::{Listener, opt_outs};

/// What a run works with.
pub(super) struct Sending<'a> {
    /// The command's name, as people type it.
    pub command: &'static str,
    pub context: &'a Context<'a>,
    pub settings: &'a Settings,
    pub stop: Stop,
    pub transport: Transport,
    listener: Option<Listener>,
}

/// What a run delivered, for people and as JSON.
#[derive(Debug, Default, Serialize)]
pub(super) struct Delivered {
    pub run: i64,
    pub sent: u64,
    pub deferred: u64,
    pub refused: u64,
    /// Of those refused, the ones that could not be rendered.
    pub unrenderable: u64,
    pub in_doubt: u64,
    /// Messages a dead run had armed, now held.
    pub recovered_in_doubt: u64,
    pub put_back: u64,
    /// Made due before its next try by `--retry-now`.
    pub retried_now: u64,
    /// Refused by mistake, as a breaker found: planned again, and not counted as refused.
    pub planned_again: u64,
    pub skipped: BTreeMap<String, u64>,
    pub still_due: u64,
    /// Planned too, but not due before their next try.
    #[serde(skip)]
    pub waiting: u64,
    pub trouble: Vec<String>,
    pub stopped: Option<String>,
    /// What a person is told once, on stderr.
    #[serde(skip)]
    pub news: Vec<String>,
    #[serde(skip)]
    armed: u64,
}

/// What a command says of a run of its own.
pub(super) trait Report: Serialize {
    fn delivered(&mut self) -> &mut Delivered;

    /// Whether the run changed nothing, so that it need not be kept.
    fn is_idle(&self) -> bool;

    /// For someone who watches.
    fn tell(&self, output: Output, past_tense: &str);
}

impl<'a> Sending<'a> {
    pub fn new(
        command: &'static str,
        context: &'a Context<'_>,
        settings: &'a Settings,
        time_budget: Option<std::time::Duration>,
    ) -> Result<Self> {
        let transport = Transport::open(&settings.transport);
        let listener = Listener::of(settings);
        Ok(Sending { command, context, settings, stop: Stop::listen(time_budget)?, transport, listener })
    }

    /// One run from the lock to the last word; `work` is what the command does in it.
    pub fn run<R: Report>(
        &self,
        accept_clock: bool,
        mut report: R,
        work: impl FnOnce(&mut Run, &mut R) -> Result<()>,
    ) -> Result<Exit> {
        let start = Start {
            command: self.command,
            wait: self.context.global.wait.unwrap_or_default(),
            accept_clock,
            clock: self.context.clock,
            output: self.context.output,
        };
        let mut run = Run::begin(self.settings, start, &self.transport)?;
        self.context.heartbeat.begin();
        run.ledger.runs().keep_caps(&self.settings.caps.per_person, self.context.clock.now())?;
        report.delivered().run = run.epoch;
        report.delivered().recovered_in_doubt = run.recovered.in_doubt;
        let first_try = run.ledger.attempts_to_look_at_from()?;
        let worked = self.hear_wishes(&mut run.ledger, report.delivered()).and_then(|()| work(&mut run, &mut report));
        if let Err(err) = worked {
            // The ledger still answers after a wrong query or template: say in it how the run ended.
            let what = err.downcast_ref::<Failure>().map_or_else(|| format!("{err:#}"), |failure| failure.what.clone());
            let _ = run.end(&format!("failed: {what}"), false, report.delivered().armed);
            return Err(err);
        }
        let held = self.file_refusals(&mut run.ledger, first_try)?;
        report.delivered().news.extend(held);
        let idle = report.is_idle();
        let output = self.context.output;
        let delivered = report.delivered();
        let untold = run.ledger.untold(self.context.clock.now())?;
        delivered.news.extend_from_slice(&untold);
        let needs_a_person = delivered.alarm(self);
        if !untold.is_empty() {
            run.ledger.notices().mark_told(self.context.clock.now())?;
        }
        run.end(&delivered.ending(), idle, delivered.armed)?;
        output.document(self.command, &report);
        report.tell(output, self.transport.past_tense());
        Ok(if needs_a_person { Exit::NeedsAPerson } else { Exit::Done })
    }

    /// Delivers what the feed gives, `due` messages or fewer.
    ///
    /// # Errors
    /// As [`Delivery::run`], with what was recorded before.
    pub fn deliver(
        &self,
        run: &mut Run,
        feed: &mut dyn Feed,
        due: u64,
        mut summary: Summary,
        delivered: &mut Delivered,
    ) -> Result<(), Failure> {
        let Sending { context, settings, stop, transport, .. } = self;
        let mut told = Vec::new();
        let mut hear_wishes = |ledger: &mut Ledger| {
            let Some(listener) = &self.listener else { return Ok(()) };
            told.extend(listener.hear(ledger, context.clock.now())?.news);
            Ok(())
        };
        let mut delivery = Delivery {
            ledger: &mut run.ledger,
            lock: &run.lock,
            epoch: run.epoch,
            clock: context.clock,
            transport,
            limits: settings.limits,
            retry_after: span::delta(settings.detect.retry_after),
            stop,
            output: context.output,
            progress: progress::bar("sending", Some(due), context.output.json),
            armed: 0,
            meanwhile: &mut hear_wishes,
        };
        let result = delivery.run(feed, &mut summary);
        delivery.progress.finish_and_clear();
        delivered.armed = delivery.armed;
        delivered.news.append(&mut told);
        delivered.take(summary);
        if result.is_ok() && delivered.sent + delivered.deferred > 0 {
            self.tell_of_deferrals(&mut run.ledger, delivered)?;
        }
        result.map_err(|failure| {
            let kept = delivered.kept(transport.past_tense());
            let kept =
                if failure.kept.is_empty() { kept } else { format!("{kept}; {}", address::masked(&failure.kept)) };
            failure.kept(kept)
        })
    }
}

impl Sending<'_> {
    /// Whoever asked to get no more mail is off the list before anything is planned.
    fn hear_wishes(&self, ledger: &mut Ledger, delivered: &mut Delivered) -> Result<()> {
        let heard = opt_outs::read(self.settings, ledger, None, self.context.clock.now())?;
        delivered.news.extend(heard.news);
        if let Some(listener) = &self.listener {
            delivered.news.extend(listener.hear(ledger, self.context.clock.now())?.news);
        }
        Ok(())
    }

    /// Recipients that the server itself refused as unknown are dead addresses, too, once it has accepted others.
    /// Says what a person is told once.
    fn file_refusals(&self, books: &mut Ledger, first_try: i64) -> Result<Vec<String>, Failure> {
        let refused = books.refused_as_unknown(first_try)?;
        if refused.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.context.clock.now();
        let dead = books.dead_of_late(now)?.with(refused.len() as u64);
        let reports: Vec<_> = refused.iter().map(ledger::Report::of_refusal).collect();
        books.reports().file(&reports, dead, now)?;
        let messages: Vec<i64> = refused.iter().map(|refused| refused.message).collect();
        books.reports().stop_campaigns(&messages, self.settings.bounces.stop_at, now)?;
        tell_of_held(books, now)
    }

    /// A person is told once when nothing but deferrals came for an hour: each alone is no news, and all together are.
    fn tell_of_deferrals(&self, ledger: &mut Ledger, delivered: &mut Delivered) -> Result<(), Failure> {
        let now = self.context.clock.now();
        let since = if delivered.sent == 0 { ledger.only_deferrals_since(now)? } else { None };
        let notice = since.map(|(since, reply)| Notice {
            key: format!("only deferrals since {}", instant::text(since)),
            line: format!(
                "the mail server has put off every message since {}, the last time with: {}",
                instant::text(since),
                address::masked(&reply)
            ),
        });
        if ledger.notices().note_once("only deferrals", notice.as_ref(), now)?
            && let Some(notice) = notice
        {
            delivered.news.push(format!(
                "error: {}\n kept: nothing is lost; each is tried again until it expires\n next: ask whoever runs the server what it \
                 waits for (a daily limit, a blocked address); `mailonce log --state planned` lists what waits",
                notice.line
            ));
        }
        Ok(())
    }
}

impl Delivered {
    /// Takes over what the delivery counted.
    pub fn take(&mut self, summary: Summary) {
        self.sent = summary.sent;
        self.deferred = summary.deferred;
        self.refused = summary.refused;
        self.in_doubt = summary.in_doubt;
        if let Some((first, messages)) = summary.unrenderable {
            self.unrenderable = messages;
            self.news.push(format!(
                "{} refused: {}\n next: correct the template or what it is filled with; `mailonce log --state refused` \
                 lists them, `mailonce resolve --state refused --since 2h --resend --reason \"…\"` plans carts' again, and `mailonce \
                 campaign retry ID --state refused --template` a campaign's, with its template as it is then",
                count(messages, "message"),
                address::masked(&first)
            ));
        }
        self.put_back = summary.put_back;
        self.planned_again = summary.planned_again;
        self.skipped = summary.skipped;
        self.trouble.extend(summary.trouble.iter().map(|trouble| address::masked(trouble)));
        self.stopped = summary.stopped;
    }

    /// Whether no message was touched.
    pub fn is_idle(&self) -> bool {
        let touched = self.sent
            + self.deferred
            + self.refused
            + self.in_doubt
            + self.recovered_in_doubt
            + self.put_back
            + self.retried_now
            + self.planned_again;
        touched == 0 && self.skipped.is_empty() && self.trouble.is_empty() && self.stopped.is_none()
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
        for (number, what) in [
            (self.deferred, "deferred"),
            (self.refused, "refused"),
            (self.in_doubt, "in doubt"),
            (self.planned_again, "planned again"),
        ] {
            if number > 0 {
                kept.push_str(&format!(", {number} {what}"));
            }
        }
        let still_planned = (self.still_due + self.waiting).max(self.put_back);
        if still_planned > 0 {
            kept.push_str(&format!("; {still_planned} not {past_tense}, still planned"));
        }
        kept
    }

    /// Says on stderr what needs a person, and whether anything does.
    fn alarm(&self, sending: &Sending<'_>) -> bool {
        let output = sending.context.output;
        for line in &self.news {
            output.alarm(line);
        }
        let in_doubt = |messages: u64, why: &str| {
            if messages > 0 {
                output.alarm(format!(
                    "{} in doubt: {why}; held, not sent again\n next: `mailonce resolve` lists them",
                    count(messages, "message")
                ));
            }
        };
        in_doubt(self.recovered_in_doubt, "an earlier run ended before the server's reply was recorded");
        for trouble in &self.trouble {
            match trouble.starts_with("error:") {
                true => output.alarm(trouble),
                false => output.alarm(format!(
                    "error: {trouble}\n kept: {}\n next: check the server, then `mailonce {} --retry-now`; it sends only what was not sent",
                    self.kept(sending.transport.past_tense()),
                    sending.command
                )),
            }
        }
        if self.trouble.is_empty() {
            in_doubt(self.in_doubt, "the body went out and no trustworthy reply came");
        }
        !self.trouble.is_empty() || self.in_doubt + self.recovered_in_doubt > 0 || !self.news.is_empty()
    }

    /// `sent 3, deferred 1; skipped: 2 expired`.
    pub fn line(&self, past_tense: &str) -> String {
        let mut line = format!("{past_tense} {}", self.sent);
        for (number, what) in [
            (self.deferred, "deferred"),
            (self.refused, "refused"),
            (self.in_doubt + self.recovered_in_doubt, "in doubt"),
            (self.planned_again, "planned again"),
            (self.put_back, "not tried"),
        ] {
            if number > 0 {
                line.push_str(&format!(", {what} {number}"));
            }
        }
        if !self.skipped.is_empty() {
            line.push_str(&format!("; skipped: {}", phrase(&self.skipped)));
        }
        line
    }

    /// `; stopped by a signal, 12 still due`; nothing when the run came to its end.
    pub fn why_it_stopped(&self) -> String {
        let still_due = self.still_due;
        self.stopped.as_ref().map_or_else(String::new, |stopped| format!("; {stopped}, {still_due} still due"))
    }
}

/// `2 email already sent, 1 ordered`.
pub(super) fn phrase(counts: &BTreeMap<String, u64>) -> String {
    let parts: Vec<String> = counts.iter().map(|(what, number)| format!("{number} {what}")).collect();
    parts.join(", ")
}
