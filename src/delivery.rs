//! The one path every message takes: last look, dialogue, arm, body, settle.
//!
//! The coordinator (the thread that called [`Delivery::run`]) alone touches the ledger and the feed. Each connection has
//! a task of its own that renders and speaks SMTP, all of them on one other thread; it asks the coordinator before a body
//! leaves. Each outcome is recorded by itself; wishes to arm that come while a commit is on its way to the disk share the
//! next one.
//!
//! A connection that waits for its arming is given the message to follow, composes it meanwhile, and lets its envelope
//! leave with the body before it, where the server takes that. What was found out about a prepared message grows old, so
//! there is one for each connection at most, none behind a slow reply, and one that lay too long stays planned.

mod books;
mod breaker;
mod room;
mod worker;

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant as Monotonic};

use chrono::TimeDelta;
use indicatif::ProgressBar;

use crate::clock::{self, Clock};
use crate::domain::fate::{Extent, Fate, Unusable};
use crate::failure::Failure;
use crate::ledger::{Armed, Denied, Ledger};
use crate::mail::Transport;
use crate::mail::session::InStep;
use crate::output::{Output, count};
use crate::run_lock::RunLock;
use crate::settings::Limits;
use crate::stop::{Stop, StopCause};
use books::Books;
use breaker::{Breaker, Tripped};
use room::Room;
pub use worker::Job;
use worker::{Answer, Event, Then, Unproven, Worker};

/// How long a stopped run waits for the reply to a dot before it holds the message as in doubt.
const WAIT_FOR_DOT_WHEN_STOPPED: Duration = Duration::from_secs(30);
/// How often the stop signal and the time budget are looked at while nothing else happens.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The longest that wishes to arm wait for others to share their commit with.
const LONGEST_GATHERING: Duration = Duration::from_millis(2);
/// A connection whose last acceptance is unproven waits this long for the next message before it says QUIT.
const UNPROVEN_GRACE: Duration = Duration::from_millis(250);

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
}

impl Delivery<'_> {
    /// Delivers what the feed gives until it is empty, the run is stopped, or the server turns out unusable.
    ///
    /// # Errors
    /// Exit 74 when the ledger failed, 75 when a newer run took it over: the run ends at once, what is armed stays armed.
    pub fn run(&mut self, feed: &mut dyn Feed, summary: &mut Summary) -> Result<(), Failure> {
        let (events, inbox) = mpsc::channel();
        self.ledger.prune_pace(clock::real_second())?;
        let breaker = Breaker::after(self.ledger.refusals_since_acceptance()?);
        let round = Round {
            events,
            room: None,
            inbox,
            workers: Vec::new(),
            books: Books::default(),
            // A run that was killed may have refused them and not come to planning them again.
            refused_by_mistake: breaker.mistaken(),
            refused: Vec::new(),
            breaker,
            ready: VecDeque::new(),
            given_back: Vec::new(),
            feed_is_empty: false,
            ended_by_trouble: false,
            stopping_since: None,
            last_commit: Duration::ZERO,
            in_company: false,
        };
        round.run(self, feed, summary)?;
        // That others went through tells that the server was not in the way.
        if let Some((_, why)) = summary.ended.take_if(|_| summary.sent == 0 && summary.trouble.is_empty()) {
            summary.trouble.push(why);
        }
        Ok(())
    }
}

/// The state of one [`Delivery::run`].
struct Round {
    events: Sender<(usize, Event)>,
    /// Opened for the first message.
    room: Option<Room>,
    inbox: Receiver<(usize, Event)>,
    workers: Vec<Worker>,
    books: Books,
    breaker: Breaker,
    /// What a breaker found refused by mistake, to be planned again once that is recorded.
    refused_by_mistake: Vec<i64>,
    /// What was refused in this run.
    refused: Vec<i64>,
    /// Read ahead while the connections are busy, to follow what they have in hand; or given back by one that did not
    /// come about.
    ready: VecDeque<Job>,
    /// Messages given back and not handed out again.
    given_back: Vec<i64>,
    feed_is_empty: bool,
    /// The server is unusable, a breaker tripped or the source is silent: no further message is begun.
    ended_by_trouble: bool,
    stopping_since: Option<Monotonic>,
    /// How long the last commit took.
    last_commit: Duration,
    /// Half of the connections were ready for the same commit when they were looked at last.
    in_company: bool,
}

/// Whether another message may be begun now.
enum Pace {
    Go,
    Wait,
    /// The hour is full: later runs go on.
    HourIsFull,
}

impl Round {
    fn run(mut self, delivery: &mut Delivery<'_>, feed: &mut dyn Feed, summary: &mut Summary) -> Result<(), Failure> {
        self.plan_again(delivery, summary)?;
        loop {
            self.notice_stop(delivery, summary);
            self.hand_out(delivery, feed, summary)?;
            self.close_idle();
            if self.workers.iter().all(Worker::is_done) && self.gives_no_more() {
                return Ok(());
            }
            if self.stopping_since.is_some_and(|since| self.may_leave(since)) {
                return self.leave(delivery, summary);
            }
            self.take_events(delivery, feed, summary)?;
        }
    }

    fn gives_no_more(&self) -> bool {
        (self.feed_is_empty && self.ready.is_empty()) || self.ended_by_trouble || self.stopping_since.is_some()
    }

    fn notice_stop(&mut self, delivery: &Delivery<'_>, summary: &mut Summary) {
        if self.stopping_since.is_none()
            && let Some(cause) = delivery.stop.cause()
        {
            self.stopping_since = Some(Monotonic::now());
            summary.stopped = Some(match cause {
                StopCause::Signal => "stopped by a signal".into(),
                StopCause::TimeBudget => "its time budget is spent".into(),
            });
        }
    }

    /// A stopped run leaves as soon as no body is out without a recorded outcome, or when waiting for one took too long.
    fn may_leave(&self, since: Monotonic) -> bool {
        let body_is_out = self.workers.iter().any(Worker::has_body_out);
        !body_is_out || since.elapsed() >= WAIT_FOR_DOT_WHEN_STOPPED
    }

    fn leave(mut self, delivery: &mut Delivery<'_>, summary: &mut Summary) -> Result<(), Failure> {
        let ids: Vec<(i64, String)> = self.workers.iter().flat_map(Worker::bodies_out).collect();
        for (id, label) in ids {
            let why = format!(
                "stopped after waiting {} s for the reply to the final dot",
                WAIT_FOR_DOT_WHEN_STOPPED.as_secs()
            );
            self.books.note(id, label, true, Fate::InDoubt { why });
        }
        self.books.commit(delivery, summary, &[]).map(drop)
    }

    fn hand_out(
        &mut self,
        delivery: &mut Delivery<'_>,
        feed: &mut dyn Feed,
        summary: &mut Summary,
    ) -> Result<(), Failure> {
        while !self.gives_no_more() {
            let idle = self.workers.iter().position(|worker| worker.in_hand.is_none() && !worker.is_retired);
            // While refusals of everyone stand, one message is tried before the others.
            let must_wait = self.breaker.stands() && self.workers.iter().any(Worker::is_at_work);
            if must_wait || (idle.is_none() && self.workers.len() >= delivery.transport.connections()) {
                return Ok(());
            }
            let Some(job) = self.next_job(delivery, feed, summary)? else { return Ok(()) };
            let worker = match idle {
                Some(worker) => worker,
                None => {
                    let worker = self.workers.len();
                    let session = delivery.transport.session()?;
                    let room = match &mut self.room {
                        Some(room) => room,
                        none => none.insert(Room::open(self.events.clone())?),
                    };
                    self.workers.push(Worker::at(room.begin(worker, session)));
                    worker
                }
            };
            self.workers[worker].deliver(job);
        }
        Ok(())
    }

    /// The next message that may be begun now; `None` when there is none, or when that is not yet known.
    fn next_job(
        &mut self,
        delivery: &mut Delivery<'_>,
        feed: &mut dyn Feed,
        summary: &mut Summary,
    ) -> Result<Option<Job>, Failure> {
        if self.gives_no_more() {
            return Ok(None);
        }
        match self.pace(delivery)? {
            Pace::Go => {}
            Pace::Wait => return Ok(None),
            Pace::HourIsFull => {
                self.feed_is_empty = true;
                self.ready.clear();
                summary.stopped = Some("the hourly limit is reached".into());
                return Ok(None);
            }
        }
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
        self.read(delivery, feed, summary)
    }

    /// Reads as many messages as there are connections that could take one behind what they have in hand.
    fn read_ahead(
        &mut self,
        delivery: &mut Delivery<'_>,
        feed: &mut dyn Feed,
        summary: &mut Summary,
    ) -> Result<(), Failure> {
        let Limits { per_second, per_hour } = delivery.limits;
        if per_second.is_some() || per_hour.is_some() || self.breaker.stands() {
            return Ok(());
        }
        let wanted = self.workers.iter().filter(|worker| worker.may_prepare()).count();
        while self.ready.len() < wanted && !self.gives_no_more() {
            let Some(job) = self.read(delivery, feed, summary)? else { return Ok(()) };
            self.ready.push_back(job);
        }
        Ok(())
    }

    fn read(
        &mut self,
        delivery: &mut Delivery<'_>,
        feed: &mut dyn Feed,
        summary: &mut Summary,
    ) -> Result<Option<Job>, Failure> {
        if self.feed_is_empty {
            return Ok(None);
        }
        match feed.next(delivery.ledger, summary) {
            Ok(Some(job)) => return Ok(Some(job)),
            Ok(None) => self.feed_is_empty = true,
            Err(FeedError::Stop(failure)) => {
                summary.trouble.push(failure.to_string());
                self.ended_by_trouble = true;
            }
            Err(FeedError::Ledger(failure)) => return Err(failure),
        }
        Ok(None)
    }

    fn pace(&self, delivery: &Delivery<'_>) -> Result<Pace, Failure> {
        let Limits { per_second, per_hour } = delivery.limits;
        if per_second.is_none() && per_hour.is_none() {
            return Ok(Pace::Go);
        }
        let (this_second, this_hour) = delivery.ledger.pace(clock::real_second())?;
        let on_the_way = self.workers.iter().map(Worker::unarmed).sum::<u32>();
        if per_hour.is_some_and(|most| this_hour + on_the_way >= most) {
            return Ok(if on_the_way > 0 { Pace::Wait } else { Pace::HourIsFull });
        }
        Ok(if per_second.is_some_and(|most| this_second + on_the_way >= most) { Pace::Wait } else { Pace::Go })
    }

    /// A connection that has nothing to do next proves its last acceptance by QUIT.
    fn close_idle(&mut self) {
        let no_more = self.gives_no_more();
        for worker in self.workers.iter_mut().filter(|worker| worker.in_hand.is_none()) {
            // While refusals of everyone stand, what the one that is tried brings is wanted at once.
            let waited = worker.idle_since.elapsed() >= UNPROVEN_GRACE || self.breaker.stands();
            if !worker.unproven.is_empty() && (no_more || waited) || (no_more && worker.may_hold_connection) {
                worker.close();
            }
        }
    }

    fn take_events(
        &mut self,
        delivery: &mut Delivery<'_>,
        feed: &mut dyn Feed,
        summary: &mut Summary,
    ) -> Result<(), Failure> {
        let first = match self.inbox.recv_timeout(LOOK_EVERY) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let mut wishes = Vec::new();
        for (worker, event) in self.gather(first) {
            if matches!(event.then, Then::WishToArm) {
                wishes.push(worker);
            }
            self.take_event(delivery, summary, worker, event)?;
        }
        self.commit(delivery, feed, summary, wishes)?;
        self.read_ahead(delivery, feed, summary)
    }

    /// What has come, and what comes before half of the connections that are at work wait for the same commit.
    ///
    /// A commit for one while the others are about to come makes them all wait for it. So it waits for them, as long as
    /// the last one took: that much they lose if it does not. Where they do not come together, it does not wait.
    fn gather(&mut self, first: (usize, Event)) -> Vec<(usize, Event)> {
        let mut events = vec![first];
        events.extend(self.inbox.try_iter());
        let at_work = self.workers.iter().filter(|worker| worker.message_in_hand().is_some()).count();
        let half = at_work.div_ceil(2);
        self.in_company |= events.len() >= half;
        let until = Monotonic::now() + self.last_commit.min(LONGEST_GATHERING);
        while self.in_company && events.len() < half {
            match self.inbox.recv_timeout(until.saturating_duration_since(Monotonic::now())) {
                Ok(event) => events.push(event),
                Err(_) => self.in_company = false,
            }
            events.extend(self.inbox.try_iter());
        }
        events
    }

    fn take_event(
        &mut self,
        delivery: &mut Delivery<'_>,
        summary: &mut Summary,
        worker: usize,
        event: Event,
    ) -> Result<(), Failure> {
        if let Some(in_step) = event.proof {
            self.take_proof(delivery, summary, worker, in_step)?;
        }
        if let Some((fate, proven)) = event.finished {
            let (id, label) = self.workers[worker].finish();
            let proven = proven || !matches!(fate, Fate::Sent { .. });
            self.take_fate(delivery, summary, worker, proven, Unproven { id, label, armed: true, fate })?;
        }
        match event.then {
            Then::WishToArm | Then::GoesOn => {}
            Then::Closed(in_step) => {
                self.workers[worker].finish();
                self.workers[worker].may_hold_connection = false;
                // A session that has nothing to prove by has ended: that leaves the message sent.
                self.take_proof(delivery, summary, worker, in_step.unwrap_or(InStep::Yes))?;
            }
            Then::Judged(fate, proven) => {
                let (id, label) = self.workers[worker].finish();
                self.take_fate(delivery, summary, worker, proven, Unproven { id, label, armed: false, fate })?;
            }
            Then::Abandoned => {
                self.workers[worker].finish();
            }
            Then::Unusable(Unusable { what: what @ (Extent::Recipient | Extent::SilentRecipient), why }) => {
                let (id, label) = self.workers[worker].finish();
                summary.ended = Some((summary.ended.take().map_or(0, |(number, _)| number) + 1, why.clone()));
                self.trip(summary, |breaker| breaker.ended(&why, what == Extent::SilentRecipient));
                self.books.note(id, label, false, Fate::Deferred { reply: why });
            }
            Then::Unusable(Unusable { what: Extent::Server | Extent::Connection, why }) => {
                let (id, _) = self.workers[worker].finish();
                self.put_back(delivery, summary, id, &why)?;
                self.give_up(summary, why);
            }
            Then::NoConnection { why, outgoing } => {
                if let Some(job) = self.workers[worker].retire(*outgoing) {
                    self.given_back.push(job.id);
                    self.ready.push_front(job);
                }
                let left = self.workers.iter().filter(|worker| !worker.is_retired).count();
                if left > 0 {
                    delivery.output.decision(format!("going on with {}: {why}", count(left as u64, "connection")));
                    return Ok(());
                }
                for id in std::mem::take(&mut self.given_back) {
                    self.put_back(delivery, summary, id, &why)?;
                }
                self.give_up(summary, why);
            }
            Then::Died => {
                let bodies: Vec<_> = self.workers[worker].bodies_out().collect();
                for (id, label) in bodies {
                    let why = "mailonce itself failed while the body was out".to_owned();
                    self.books.note(id, label, true, Fate::InDoubt { why });
                }
                self.workers[worker].bury();
                self.give_up(summary, "the sending part of mailonce failed; see the lines above".into());
            }
        }
        Ok(())
    }

    fn put_back(&self, delivery: &mut Delivery<'_>, summary: &mut Summary, id: i64, why: &str) -> Result<(), Failure> {
        summary.put_back += 1;
        delivery.ledger.put_back(id, delivery.clock.now() + delivery.retry_after, why)
    }

    fn take_proof(
        &mut self,
        delivery: &mut Delivery<'_>,
        summary: &mut Summary,
        worker: usize,
        in_step: InStep,
    ) -> Result<(), Failure> {
        for Unproven { id, label, armed, fate } in std::mem::take(&mut self.workers[worker].unproven) {
            match &in_step {
                InStep::Yes => self.judge(delivery, summary, id, label, armed, fate)?,
                InStep::No { why } if armed => {
                    self.judge(delivery, summary, id, label, armed, Fate::InDoubt { why: why.clone() })?;
                }
                // Not judged after all.
                InStep::No { why } => self.put_back(delivery, summary, id, why)?,
            }
        }
        Ok(())
    }

    fn take_fate(
        &mut self,
        delivery: &Delivery<'_>,
        summary: &mut Summary,
        worker: usize,
        proven: bool,
        judged: Unproven,
    ) -> Result<(), Failure> {
        if !proven {
            self.workers[worker].unproven.push(judged);
            return Ok(());
        }
        let Unproven { id, label, armed, fate } = judged;
        self.judge(delivery, summary, id, label, armed, fate)
    }

    fn judge(
        &mut self,
        delivery: &Delivery<'_>,
        summary: &mut Summary,
        id: i64,
        label: String,
        armed: bool,
        fate: Fate,
    ) -> Result<(), Failure> {
        let is_refusal = matches!(fate, Fate::Refused { .. });
        let settled = is_refusal && delivery.ledger.was_refused_before_an_acceptance(id)?;
        if is_refusal {
            self.refused.push(id);
        }
        self.trip(summary, |breaker| breaker.judged(id, &fate, settled));
        self.books.note(id, label, armed, fate);
        Ok(())
    }

    fn trip(&mut self, summary: &mut Summary, outcome: impl FnOnce(&mut Breaker) -> Option<Tripped>) {
        if let Some(tripped) = outcome(&mut self.breaker) {
            self.refused_by_mistake.extend(tripped.again);
            self.give_up(summary, tripped.why);
        }
    }

    fn give_up(&mut self, summary: &mut Summary, why: String) {
        self.ended_by_trouble = true;
        if !summary.trouble.contains(&why) {
            summary.trouble.push(why);
        }
    }

    /// Records what has become known, and answers the wishes to arm.
    fn commit(
        &mut self,
        delivery: &mut Delivery<'_>,
        feed: &mut dyn Feed,
        summary: &mut Summary,
        mut wishes: Vec<usize>,
    ) -> Result<(), Failure> {
        self.notice_stop(delivery, summary);
        if self.stopping_since.is_some() || self.ended_by_trouble {
            for worker in wishes.drain(..) {
                self.workers[worker].answer(Answer::Stop);
            }
        }
        // It stays planned: a later run looks at it again.
        wishes.retain(|worker| {
            let worker = &mut self.workers[*worker];
            let fresh = worker.message_in_hand().is_some_and(worker::Message::is_fresh);
            if !fresh {
                worker.answer(Answer::Denied);
            }
            fresh
        });
        // Composed by the workers while the commit is on its way to the disk.
        for worker in &wishes {
            if !self.breaker.stands()
                && self.workers[*worker].may_prepare()
                && let Some(job) = self.next_job(delivery, feed, summary)?
            {
                self.workers[*worker].deliver(job);
            }
        }
        let ids: Vec<i64> =
            wishes.iter().filter_map(|worker| self.workers[*worker].message_in_hand().map(|m| m.id)).collect();
        let began = Monotonic::now();
        let answers = self.books.commit(delivery, summary, &ids)?;
        self.last_commit = began.elapsed();
        self.plan_again(delivery, summary)?;
        for (worker, answer) in wishes.iter().zip(answers) {
            match answer {
                Armed::Granted => self.workers[*worker].answer(Answer::Granted),
                Armed::Denied(denied) => self.deny(delivery, summary, *worker, denied),
            }
        }
        Ok(())
    }

    /// Takes back what a breaker found refused by mistake.
    fn plan_again(&mut self, delivery: &mut Delivery<'_>, summary: &mut Summary) -> Result<(), Failure> {
        let messages = std::mem::take(&mut self.refused_by_mistake);
        if messages.is_empty() {
            return Ok(());
        }
        let planned = delivery.ledger.plan_again(&messages, delivery.clock.now(), delivery.retry_after)?;
        summary.planned_again += planned.len() as u64;
        let of_this_run = planned.iter().filter(|id| self.refused.contains(id)).count() as u64;
        summary.refused = summary.refused.saturating_sub(of_this_run);
        delivery.output.decision(format!("{} planned again", count(planned.len() as u64, "refused message")));
        Ok(())
    }

    fn deny(&mut self, delivery: &Delivery<'_>, summary: &mut Summary, worker: usize, denied: Denied) {
        let label = self.workers[worker].message_in_hand().map_or_else(String::new, |message| message.label.clone());
        self.workers[worker].answer(Answer::Denied);
        match denied {
            Denied::Suppressed => summary.skip("suppressed"),
            Denied::Paused | Denied::Expired => {}
            Denied::NotPlanned => summary.skip("decided by someone else meanwhile"),
            Denied::WithinWindow => {
                summary.skip("email already sent");
                delivery.output.decision(format!("Skipping {label} - email already sent, looked at again in an hour"));
            }
            Denied::Forbidden(constraint) => {
                self.give_up(summary, format!("the ledger forbids sending {label}: {constraint}"));
            }
        }
    }
}
