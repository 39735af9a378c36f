//! The messages that wait for a connection.

use std::collections::VecDeque;

use super::orders::Job;
use super::{Feed, FeedError, Summary};
use crate::failure::Failure;
use crate::ledger::Ledger;

/// What the feed gives, read a little ahead.
pub(super) struct Supply<'a> {
    feed: &'a mut dyn Feed,
    /// Read ahead while the connections are busy, to follow what they have in hand; or given back by one that did not
    /// come about.
    ready: VecDeque<Job>,
    /// Messages given back and not handed out again.
    given_back: Vec<i64>,
    feed_is_empty: bool,
    /// The source is silent: no further message is begun.
    pub has_failed: bool,
}

impl<'a> Supply<'a> {
    pub fn of(feed: &'a mut dyn Feed) -> Supply<'a> {
        Supply { feed, ready: VecDeque::new(), given_back: Vec::new(), feed_is_empty: false, has_failed: false }
    }

    pub fn is_empty(&self) -> bool {
        self.feed_is_empty && self.ready.is_empty()
    }

    /// Gives nothing more in this run.
    pub fn end(&mut self) {
        self.feed_is_empty = true;
        self.ready.clear();
    }

    /// The next message that may be begun.
    pub fn next(&mut self, ledger: &mut Ledger, summary: &mut Summary) -> Result<Option<Job>, Failure> {
        while let Some(job) = self.ready.pop_front() {
            // One that lay too long stays planned: a later run looks at it again.
            let was_given_back = self.given_back.iter().position(|id| *id == job.id);
            let was_given_back = was_given_back.map(|at| self.given_back.swap_remove(at)).is_some();
            if job.is_fresh() {
                return Ok(Some(job));
            }
            if was_given_back {
                summary.put_back += 1;
                let why = "a connection took too long to come about: what it was to send is looked at again";
                summary.stopped.get_or_insert_with(|| why.into());
            }
        }
        self.read(ledger, summary)
    }

    /// Reads until `wanted` messages are ready.
    pub fn read_ahead(&mut self, wanted: usize, ledger: &mut Ledger, summary: &mut Summary) -> Result<(), Failure> {
        while self.ready.len() < wanted {
            let Some(job) = self.read(ledger, summary)? else { return Ok(()) };
            self.ready.push_back(job);
        }
        Ok(())
    }

    /// Takes back a message whose connection did not come about; another one may take it.
    pub fn give_back(&mut self, job: Job) {
        self.given_back.push(job.id);
        self.ready.push_front(job);
    }

    /// The messages that were given back, when no connection is left to take them.
    pub fn take_given_back(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.given_back)
    }

    fn read(&mut self, ledger: &mut Ledger, summary: &mut Summary) -> Result<Option<Job>, Failure> {
        if self.feed_is_empty || self.has_failed {
            return Ok(None);
        }
        match self.feed.next(ledger, summary) {
            Ok(Some(job)) => return Ok(Some(job)),
            Ok(None) => self.feed_is_empty = true,
            Err(FeedError::Stop(failure)) => {
                summary.trouble.push(failure.to_string());
                self.has_failed = true;
            }
            Err(FeedError::Ledger(failure)) => return Err(failure),
        }
        Ok(None)
    }
}
