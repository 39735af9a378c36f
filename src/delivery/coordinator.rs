//! The thread that alone touches the ledger and the feed: it hands messages to connections, gathers what they report into
//! commits, and answers their arm requests.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant as Monotonic};

use super::books::Books;
use super::connection::{Connection, Message};
use super::connections::Connections;
use super::orders::{Answer, Event, Job, Then};
use super::supply::Supply;
use super::verdicts::Verdicts;
use super::{Delivery, Feed, Summary};
use crate::clock;
use crate::domain::fate::Fate;
use crate::failure::{Exit, Failure};
use crate::ledger::Armed;
use crate::settings::Limits;
use crate::stop::StopCause;

/// How long a stopped run waits for the reply to a dot before it holds the message as in doubt.
const WAIT_FOR_DOT_WHEN_STOPPED: Duration = Duration::from_secs(30);
/// How often [`Delivery::meanwhile`] is done.
const MEANWHILE_EVERY: Duration = Duration::from_secs(10);
/// How often the stop signal and the time budget are looked at while nothing else happens.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The longest that an arm request waits for others to share its commit with.
const LONGEST_GATHERING: Duration = Duration::from_millis(2);
/// A connection whose last acceptance is unproven waits this long for the next message before it says QUIT.
const UNPROVEN_GRACE: Duration = Duration::from_millis(250);

/// One [`Delivery::run`] under way.
pub(super) struct Coordinator<'a, 'd> {
    pub delivery: &'a mut Delivery<'d>,
    pub summary: &'a mut Summary,
    pub supply: Supply<'a>,
    pub connections: Vec<Connection>,
    pub books: Books,
    pub verdicts: Verdicts,
    events: Sender<(usize, Event)>,
    inbox: Receiver<(usize, Event)>,
    /// Started for the first message.
    thread: Option<Connections>,
    stopping_since: Option<Monotonic>,
    /// When [`Delivery::meanwhile`] was done last.
    meanwhile_at: Monotonic,
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

impl<'a, 'd> Coordinator<'a, 'd> {
    pub fn begin(
        delivery: &'a mut Delivery<'d>,
        feed: &'a mut dyn Feed,
        summary: &'a mut Summary,
    ) -> Result<Self, Failure> {
        let (events, inbox) = mpsc::channel();
        Ok(Coordinator {
            verdicts: Verdicts::after(delivery)?,
            delivery,
            summary,
            supply: Supply::of(feed),
            connections: Vec::new(),
            books: Books::default(),
            events,
            inbox,
            thread: None,
            stopping_since: None,
            meanwhile_at: Monotonic::now(),
            last_commit: Duration::ZERO,
            in_company: false,
        })
    }

    pub fn run(mut self) -> Result<(), Failure> {
        self.verdicts.plan_again(self.delivery, self.summary)?;
        loop {
            self.notice_stop();
            self.meanwhile()?;
            self.hand_out()?;
            self.close_idle();
            if self.connections.iter().all(Connection::is_done) && self.begins_no_more() {
                return Ok(());
            }
            if self.stopping_since.is_some_and(|since| self.may_leave(since)) {
                return self.leave();
            }
            self.take_events()?;
        }
    }

    fn meanwhile(&mut self) -> Result<(), Failure> {
        if self.meanwhile_at.elapsed() < MEANWHILE_EVERY || self.begins_no_more() {
            return Ok(());
        }
        let done = (self.delivery.meanwhile)(self.delivery.ledger);
        self.meanwhile_at = Monotonic::now();
        match done {
            Err(failure) if failure.exit != Exit::LedgerOrDisk => {
                self.verdicts.give_up(self.summary, failure.what);
                Ok(())
            }
            done => done,
        }
    }

    fn has_trouble(&self) -> bool {
        self.supply.has_failed || self.verdicts.has_given_up
    }

    fn begins_no_more(&self) -> bool {
        self.supply.is_empty() || self.has_trouble() || self.stopping_since.is_some()
    }

    fn notice_stop(&mut self) {
        if self.stopping_since.is_none()
            && let Some(cause) = self.delivery.stop.cause()
        {
            self.stopping_since = Some(Monotonic::now());
            self.summary.stopped = Some(match cause {
                StopCause::Signal => "stopped by a signal".into(),
                StopCause::TimeBudget => "its time budget is spent".into(),
            });
        }
    }

    /// A stopped run leaves as soon as no body is out without a recorded outcome, or when waiting for one took too long.
    fn may_leave(&self, since: Monotonic) -> bool {
        let body_is_out = self.connections.iter().any(Connection::has_body_out);
        !body_is_out || since.elapsed() >= WAIT_FOR_DOT_WHEN_STOPPED
    }

    fn leave(mut self) -> Result<(), Failure> {
        for (id, label) in self.connections.iter().flat_map(Connection::bodies_out) {
            let why = format!(
                "stopped after waiting {} s for the reply to the final dot",
                WAIT_FOR_DOT_WHEN_STOPPED.as_secs()
            );
            self.books.note(id, label, true, Fate::InDoubt { why });
        }
        self.books.commit(self.delivery, self.summary, &[]).map(drop)
    }

    fn hand_out(&mut self) -> Result<(), Failure> {
        while !self.begins_no_more() {
            let idle = self.connections.iter().position(|one| one.in_hand.is_none() && !one.is_retired);
            // While refusals of everyone stand, one message is tried before the others.
            let must_wait = self.verdicts.breaker_stands() && self.connections.iter().any(Connection::is_at_work);
            if must_wait || (idle.is_none() && self.connections.len() >= self.delivery.transport.connections()) {
                return Ok(());
            }
            let Some(job) = self.next_job()? else { return Ok(()) };
            let number = match idle {
                Some(number) => number,
                None => self.open_another()?,
            };
            self.connections[number].deliver(job);
        }
        Ok(())
    }

    fn open_another(&mut self) -> Result<usize, Failure> {
        let number = self.connections.len();
        let session = self.delivery.transport.session()?;
        let thread = match &mut self.thread {
            Some(thread) => thread,
            none => none.insert(Connections::open(self.events.clone())?),
        };
        self.connections.push(Connection::at(thread.begin(number, session)));
        Ok(number)
    }

    /// The next message that may be begun now; `None` when there is none, or when that is not yet known.
    fn next_job(&mut self) -> Result<Option<Job>, Failure> {
        if self.begins_no_more() {
            return Ok(None);
        }
        match self.pace()? {
            Pace::Go => self.supply.next(self.delivery.ledger, self.summary),
            Pace::Wait => Ok(None),
            Pace::HourIsFull => {
                self.supply.end();
                self.summary.stopped = Some("the hourly limit is reached".into());
                Ok(None)
            }
        }
    }

    fn pace(&self) -> Result<Pace, Failure> {
        let Limits { per_second, per_hour } = self.delivery.limits;
        if per_second.is_none() && per_hour.is_none() {
            return Ok(Pace::Go);
        }
        let (this_second, this_hour) = self.delivery.ledger.pace(clock::real_second())?;
        let on_the_way = self.connections.iter().map(Connection::unarmed).sum::<u32>();
        if per_hour.is_some_and(|most| this_hour + on_the_way >= most) {
            return Ok(if on_the_way > 0 { Pace::Wait } else { Pace::HourIsFull });
        }
        Ok(if per_second.is_some_and(|most| this_second + on_the_way >= most) { Pace::Wait } else { Pace::Go })
    }

    /// Reads as many messages as there are connections that could take one behind what they have in hand.
    fn read_ahead(&mut self) -> Result<(), Failure> {
        let Limits { per_second, per_hour } = self.delivery.limits;
        let is_limited = per_second.is_some() || per_hour.is_some();
        if is_limited || self.verdicts.breaker_stands() || self.begins_no_more() {
            return Ok(());
        }
        let wanted = self.connections.iter().filter(|one| one.may_prepare()).count();
        self.supply.read_ahead(wanted, self.delivery.ledger, self.summary)
    }

    /// A connection that has nothing to do next proves its last acceptance by QUIT.
    fn close_idle(&mut self) {
        let no_more = self.begins_no_more();
        for connection in self.connections.iter_mut().filter(|one| one.in_hand.is_none()) {
            // While refusals of everyone stand, what the one that is tried brings is wanted at once.
            let waited = connection.idle_since.elapsed() >= UNPROVEN_GRACE || self.verdicts.breaker_stands();
            if !connection.unproven.is_empty() && (no_more || waited) || (no_more && connection.may_be_open) {
                connection.close();
            }
        }
    }

    fn take_events(&mut self) -> Result<(), Failure> {
        let first = match self.inbox.recv_timeout(LOOK_EVERY) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let mut requests = Vec::new();
        for (number, event) in self.gather(first) {
            if matches!(event.then, Then::ArmRequest) {
                requests.push(number);
            }
            self.take_event(number, event)?;
        }
        self.commit(requests)?;
        self.read_ahead()
    }

    /// What has come, and what comes before half of the connections that are at work wait for the same commit.
    ///
    /// A commit for one while the others are about to come makes them all wait for it. So it waits for them, as long as
    /// the last one took: that much they lose if it does not. Where they do not come together, it does not wait.
    fn gather(&mut self, first: (usize, Event)) -> Vec<(usize, Event)> {
        let mut events = vec![first];
        events.extend(self.inbox.try_iter());
        let at_work = self.connections.iter().filter(|one| one.message_in_hand().is_some()).count();
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

    /// Records what has become known, and answers the arm requests.
    fn commit(&mut self, mut requests: Vec<usize>) -> Result<(), Failure> {
        self.notice_stop();
        if self.stopping_since.is_some() || self.has_trouble() {
            for number in requests.drain(..) {
                self.connections[number].answer(Answer::Stop);
            }
        }
        // It stays planned: a later run looks at it again.
        requests.retain(|number| {
            let connection = &mut self.connections[*number];
            let fresh = connection.message_in_hand().is_some_and(Message::is_fresh);
            if !fresh {
                connection.answer(Answer::Denied);
            }
            fresh
        });
        // Composed on the connections' thread while the commit is on its way to the disk.
        for number in &requests {
            if !self.verdicts.breaker_stands()
                && self.connections[*number].may_prepare()
                && let Some(job) = self.next_job()?
            {
                self.connections[*number].deliver(job);
            }
        }
        let in_hand = |number: &usize| self.connections[*number].message_in_hand().map(|message| message.id);
        let ids: Vec<i64> = requests.iter().filter_map(in_hand).collect();
        let began = Monotonic::now();
        let answers = self.books.commit(self.delivery, self.summary, &ids)?;
        self.last_commit = began.elapsed();
        self.verdicts.plan_again(self.delivery, self.summary)?;
        for (number, answer) in requests.iter().zip(answers) {
            match answer {
                Armed::Granted => self.connections[*number].answer(Answer::Granted),
                Armed::Denied(denied) => self.deny(*number, denied),
            }
        }
        Ok(())
    }
}
