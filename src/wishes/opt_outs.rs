//! The shop's own list of those who want no mail, read before a run plans anything.

use anyhow::Result;
use chrono::TimeDelta;

use super::{Heard, take};
use crate::domain::address::Address;
use crate::domain::instant::Instant;
use crate::domain::state::Origin;
use crate::domain::unsubscribe::Token;
use crate::failure::{Exit, Failure};
use crate::ledger::{Ledger, ListedOptOut, Notice, Records};
use crate::output::count;
use crate::settings::{OptOuts, Settings};
use crate::source::opt_outs::{self, OptOutRow, Who};

/// So far behind the last look it is read again: for what is written down late.
const AGAIN: TimeDelta = TimeDelta::days(1);
/// How far it was read is written down so often at most, unless there is more to write.
const NOTED_EVERY: TimeDelta = TimeDelta::minutes(15);
/// So many new ones at once are a mistake until a person says otherwise, or this share of all addresses.
const MOST_NEW: u64 = 1000;
const MOST_NEW_IN_HUNDRED: u64 = 5;
/// So many rows are looked at in one go.
const PAGE: usize = 5_000;
const MOST_BAD_NAMED: usize = 20;

const BAD_ROW: &str = "bad opt-out row";

/// Takes who is new on the list off the list of recipients. `allow` is how many a person lets through.
///
/// # Errors
/// The list cannot be read, all of it is unreadable, or more are new than can be meant: nothing may be sent then. Exit 74: the
/// ledger failed.
pub fn read(settings: &Settings, ledger: &mut Ledger, allow: Option<u64>, now: Instant) -> Result<Heard> {
    let Some(list) = &settings.unsubscribe.opt_outs else { return Ok(Heard::default()) };
    let last = ledger.opt_outs_read_to()?;
    let since = last.map_or(Instant::UNIX_EPOCH, |to| to.min(now) - AGAIN);
    let mut found = Found {
        settings,
        ledger,
        page: Vec::new(),
        new: Vec::new(),
        tokens: Vec::new(),
        bad: Vec::new(),
        rows: 0,
        bad_rows: 0,
        most: None,
    };
    found.most = allow.map(|allow| allow.max(MOST_NEW));
    opt_outs::read(list, &settings.source, since, &mut |row| found.take(row)).map_err(told)?;
    found.look()?;
    let Found { new, tokens, bad, rows, bad_rows, .. } = found;
    if rows > 0 && rows == bad_rows {
        let next = "correct what writes the list";
        let what = format!(
            "no row of the shop's opt-outs can be read, the first: {}",
            bad.first().map_or("", |bad| bad.line.as_str())
        );
        return Err(Failure::new(Exit::NeedsAPerson, format!("{what}; nothing is sent"), next).into());
    }
    let mut heard = Heard::default();
    if !new.is_empty() {
        heard.new += ledger.suppressions().add_opt_outs(&new, now)?;
    }
    for taken in take(ledger, &tokens, Origin::Source, settings.unsubscribe.scope, now)? {
        heard.new += u64::from(taken.is_new());
    }
    heard.news = ledger.notices().note(BAD_ROW, &bad, now)?.new;
    let is_near = last.is_some_and(|to| to <= now && now - to < NOTED_EVERY);
    if matches!(list, OptOuts::Query(_)) && (!is_near || heard.new > 0) {
        ledger.suppressions().note_opt_outs_read(now)?;
    }
    Ok(heard)
}

/// Whether the shop's own list has an address that no run has taken off the list of recipients yet. Nothing is written.
///
/// # Errors
/// The list cannot be read: a run would send nothing then.
pub fn is_new(settings: &Settings, ledger: &Records, address: &Address) -> Result<bool> {
    let Some(list) = &settings.unsubscribe.opt_outs else { return Ok(false) };
    let since = ledger.opt_outs_read_to()?.map_or(Instant::UNIX_EPOCH, |to| to - AGAIN);
    let mut is_new = false;
    opt_outs::read(list, &settings.source, since, &mut |row| {
        if let OptOutRow::OptOut(opt_out) = row
            && let Who::Address(listed) = opt_out.who
            && listed.folded() == address.folded()
        {
            is_new |= ledger.is_new_opt_out(&ListedOptOut { address: listed, changed_at: opt_out.changed_at })?;
        }
        Ok(())
    })
    .map_err(told)?;
    Ok(is_new)
}

/// What was read so far.
struct Found<'a> {
    settings: &'a Settings,
    ledger: &'a Ledger,
    page: Vec<ListedOptOut>,
    new: Vec<ListedOptOut>,
    tokens: Vec<Token>,
    bad: Vec<Notice>,
    rows: u64,
    bad_rows: u64,
    /// How many may be new; asked for once there are many.
    most: Option<u64>,
}

impl Found<'_> {
    fn take(&mut self, row: OptOutRow) -> Result<()> {
        self.rows += 1;
        match row {
            OptOutRow::OptOut(opt_out) => match opt_out.who {
                Who::Address(address) => {
                    self.page.push(ListedOptOut { address, changed_at: opt_out.changed_at });
                    if self.page.len() >= PAGE {
                        self.look()?;
                    }
                }
                Who::Token(token) => match self.settings.mail.keys.as_ref().map(|keys| keys.verify(&token)) {
                    Some(Ok(token)) => self.tokens.push(token),
                    _ => self.bad("a token that no key signed".to_owned()),
                },
            },
            OptOutRow::Bad(problem) => self.bad(problem),
        }
        Ok(())
    }

    fn bad(&mut self, problem: String) {
        self.bad_rows += 1;
        if self.bad.len() < MOST_BAD_NAMED {
            let line = format!("opt-outs: {problem}; row skipped");
            self.bad.push(Notice { key: format!("{BAD_ROW}: {line}"), line });
        }
    }

    /// Keeps those of the page that the ledger does not know.
    fn look(&mut self) -> Result<()> {
        for opt_out in std::mem::take(&mut self.page) {
            if self.ledger.is_new_opt_out(&opt_out)? {
                self.new.push(opt_out);
            }
        }
        if self.new.len() as u64 <= MOST_NEW {
            return Ok(());
        }
        let most = match self.most {
            Some(most) => most,
            None => {
                let known = self.ledger.count_addresses()?;
                *self.most.insert(MOST_NEW.max(known * MOST_NEW_IN_HUNDRED / 100))
            }
        };
        if self.new.len() as u64 > most {
            return Err(Failure::new(
                Exit::NeedsAPerson,
                format!("more than {} would be taken off the list of recipients at once by the shop's own opt-outs; nothing is sent", count(most, "person")),
                "is the query the right way round? If so: `mailonce unsubscribe source --allow N`",
            )
            .kept("nobody was taken off the list")
            .into());
        }
        Ok(())
    }
}

/// What a person is told of a list that cannot be read.
fn told(err: anyhow::Error) -> anyhow::Error {
    match err.downcast::<Failure>() {
        Ok(failure) => {
            let kept = match failure.kept.is_empty() {
                true => "nothing is sent: someone may have asked to get no more".to_owned(),
                false => failure.kept.clone(),
            };
            failure.kept(kept).into()
        }
        Err(other) => {
            let what = format!("the shop's opt-outs cannot be read: {other:#}; nothing is sent");
            Failure::new(Exit::NeedsAPerson, what, "check [unsubscribe]").into()
        }
    }
}
