//! The one path every message takes: last look, dialogue, arm, body, settle.
//!
//! The coordinator (the thread that called [`Delivery::run`]) alone touches the ledger and the feed. Each connection has
//! a task of its own that renders and speaks SMTP, all of them on one other thread; it asks the coordinator before a body
//! leaves. Each outcome is recorded by itself; arm requests that come while a commit is on its way to the disk share the
//! next one.
//!
//! A connection that waits for its arming is given the message to follow, composes it meanwhile, and lets its envelope
//! leave with the body before it, where the server takes that. What was found out about a prepared message grows old, so
//! there is one for each connection at most, none behind a slow reply, and one that lay too long stays planned.

mod books;
mod breaker;
mod connection;
mod connections;
mod conversation;
mod coordinator;
mod events;
mod orders;
mod supply;
mod verdicts;

use std::collections::BTreeMap;

use chrono::TimeDelta;
use indicatif::ProgressBar;

use crate::clock::{self, Clock};
use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::mail::Transport;
use crate::output::Output;
use crate::run_lock::RunLock;
use crate::settings::Limits;
use crate::stop::Stop;
pub use conversation::CANNOT_BE_RENDERED;
use coordinator::Coordinator;
pub use orders::{Job, Label};

/// Where the messages of one command come from.
pub trait Feed {
    /// The next message that passed its last look. Those that did not are settled and counted on the way.
    ///
    /// # Errors
    /// [`FeedError::Stop`] when nothing more may be sent in this run; the rest stays planned.
    fn next(&mut self, ledger: &mut Ledger, summary: &mut Summary) -> Result<Option<Job>, FeedError>;
}

/// Why a feed gives no more.
#[derive(Debug)]
pub enum FeedError {
    /// The source does not answer: nothing more is sent, this is said, and the run ends orderly.
    Stop(Failure),
    /// The ledger failed: the run ends at once.
    Ledger(Failure),
}

/// What one run did.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    pub sent: u64,
    pub deferred: u64,
    pub refused: u64,
    /// The first of those that could not be rendered, and why; how many there were.
    pub unrenderable: Option<(String, u64)>,
    pub in_doubt: u64,
    /// By reason.
    pub skipped: BTreeMap<String, u64>,
    /// Left planned because the server could not be used.
    pub put_back: u64,
    /// Among the deferred: a connection ended when it was told this recipient. How many there were, and what the last says.
    pub ended: Option<(u64, String)>,
    /// Refused in this run or an earlier one by mistake, as a breaker found; they do not count as refused.
    pub planned_again: u64,
    /// Why the run sent no more, when that needs a person.
    pub trouble: Vec<String>,
    /// Why the run sent no more, when it does not.
    pub stopped: Option<String>,
}

impl Summary {
    /// Counts one message that was decided against.
    pub fn skip(&mut self, reason: &str) {
        *self.skipped.entry(reason.to_owned()).or_default() += 1;
    }
}

/// Everything the delivery of one run needs.
pub struct Delivery<'a> {
    pub ledger: &'a mut Ledger,
    pub lock: &'a RunLock,
    pub epoch: i64,
    pub clock: Clock,
    pub transport: &'a Transport,
    pub limits: Limits,
    pub retry_after: TimeDelta,
    pub stop: &'a Stop,
    pub output: Output,
    pub progress: ProgressBar,
    /// Messages armed in this run; kept up to date in the lock file's record.
    pub armed: u64,
    /// What is done every 10 s while messages are delivered: it may stop some of them, and when it fails no more is begun.
    pub meanwhile: &'a mut dyn FnMut(&mut Ledger) -> Result<(), Failure>,
}

impl Delivery<'_> {
    /// Delivers what the feed gives until it is empty, the run is stopped, or the server turns out unusable.
    ///
    /// # Errors
    /// Exit 74 when the ledger failed, 75 when a newer run took it over: the run ends at once, what is armed stays armed.
    pub fn run(&mut self, feed: &mut dyn Feed, summary: &mut Summary) -> Result<(), Failure> {
        self.ledger.books().prune_pace(clock::real_second())?;
        Coordinator::begin(self, feed, summary)?.run()?;
        // That others went through tells that the server was not in the way.
        if let Some((_, why)) = summary.ended.take_if(|_| summary.sent == 0 && summary.trouble.is_empty()) {
            summary.trouble.push(why);
        }
        Ok(())
    }
}
