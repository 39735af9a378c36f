//! The shop's orders, held against the mail that came before them: after everything that is sent, and of no say in it.

use anyhow::Result;
use chrono::TimeDelta;

use super::super::sending::Sending;
use super::CartReport;
use crate::domain::instant::Instant;
use crate::domain::recovery::Order;
use crate::domain::span;
use crate::failure::Failure;
use crate::ledger::{Ledger, Notice, OrdersLook};
use crate::run::Run;
use crate::source::Source;

/// So far behind the last look orders are read again: for those that come in late, and those that were cancelled.
const AGAIN: TimeDelta = TimeDelta::hours(48);
/// The same where that is many: most looks go less far back, and one of this often as far as that.
const OFTEN_AGAIN: TimeDelta = TimeDelta::hours(1);
const MANY: u64 = 1000;
/// How far orders were read is written down so often at most, unless there is more to write.
const NOTED_EVERY: TimeDelta = TimeDelta::minutes(15);
/// So many orders are recorded in one transaction.
const PAGE: usize = 500;

const NOT_READ: &str = "orders not read";

/// Reads the orders since the last look. Orders that cannot be read are told once.
///
/// # Errors
/// The ledger's own.
pub(super) fn look(
    sending: &Sending<'_>,
    source: &mut dyn Source,
    run: &mut Run,
    report: &mut CartReport,
) -> Result<(), Failure> {
    let Some(window) = sending.settings.attribution.map(span::delta) else { return Ok(()) };
    if sending.stop.cause().is_some() {
        return Ok(());
    }
    let now = sending.context.clock.now();
    let last = run.ledger.orders_look()?;
    let reads_all = last.all_from.is_none_or(|at| now >= at);
    let since = match last.to {
        // Whoever ordered longer ago ordered after no message that could count now.
        None => now - window - AGAIN,
        Some(to) => to.min(now) - if reads_all { AGAIN } else { OFTEN_AGAIN },
    };
    let compares =
        sending.settings.holdout.as_ref().is_some_and(|holdout| holdout.carts) || run.ledger.has_held_out()?;
    let mut recorder =
        Recorder { ledger: &mut run.ledger, window, compares, now, page: Vec::new(), new: 0, failed: None };
    let read = source.orders(since, &mut |order| recorder.take(order)).and_then(|read| {
        recorder.record()?;
        Ok(read)
    });
    if let Some(failure) = recorder.failed {
        return Err(failure);
    }
    report.recovered = recorder.new;
    let problem = match read {
        Ok(read) => {
            let all_from = match reads_all {
                true => (read.orders > MANY).then(|| now + OFTEN_AGAIN),
                false => last.all_from,
            };
            let look = OrdersLook { to: Some(now), all_from, window: Some(window) };
            let is_near = last.to.is_some_and(|to| to <= now && now - to < NOTED_EVERY);
            if !is_near || look != (OrdersLook { to: look.to, ..last }) {
                run.ledger.recoveries().note_look(look)?;
            }
            None
        }
        Err(err) => Some(told(&err)),
    };
    let standing: Vec<Notice> =
        problem.iter().map(|(line, _)| Notice { key: format!("{NOT_READ}: {line}"), line: line.clone() }).collect();
    let news = run.ledger.notices().note(NOT_READ, &standing, now)?;
    if let (false, Some((line, next))) = (news.new.is_empty(), problem) {
        let kept = "what was due was sent all the same; orders are read again with the next run";
        report.delivered.news.push(format!("error: {line}\n kept: {kept}\n next: {next}"));
    }
    Ok(())
}

/// What went wrong, and what to do.
fn told(err: &anyhow::Error) -> (String, String) {
    let (what, next) = match err.downcast_ref::<Failure>() {
        Some(failure) => (failure.what.clone(), failure.next.clone()),
        None => (format!("{err:#}"), "check [source]".to_owned()),
    };
    // Written for a look at carts.
    let what = what.replace("; nothing more is sent", "").replace("; nothing is sent", "");
    (format!("the shop's orders were not read, so that what the mail brought is not known: {what}"), next)
}

/// Takes orders, and records a page of them at a time.
struct Recorder<'a> {
    ledger: &'a mut Ledger,
    window: TimeDelta,
    compares: bool,
    now: Instant,
    page: Vec<Order>,
    new: u64,
    /// The ledger failed, not the shop.
    failed: Option<Failure>,
}

impl Recorder<'_> {
    fn take(&mut self, order: Order) -> Result<()> {
        self.page.push(order);
        if self.page.len() == PAGE { self.record() } else { Ok(()) }
    }

    fn record(&mut self) -> Result<()> {
        let page = std::mem::take(&mut self.page);
        match self.ledger.recoveries().record(&page, self.window, self.compares, self.now) {
            Ok(new) => {
                self.new += new;
                Ok(())
            }
            Err(failure) => {
                self.failed = Some(failure.clone());
                Err(failure.into())
            }
        }
    }
}
