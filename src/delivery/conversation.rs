//! The task that speaks on one connection, led by orders.

use std::sync::mpsc::Sender;

use tokio::sync::mpsc::UnboundedReceiver;

use super::orders::{Answer, Event, Order, Then};
use crate::domain::fate::{Extent, Fate, Unusable};
use crate::mail::session::{Next, Outgoing, Session};

/// What the reply begins with, in the place of a server's, of a message that was refused because it could not be written.
pub const CANNOT_BE_RENDERED: &str = "cannot be rendered";

/// What is said on one connection.
pub(super) struct Conversation<S> {
    pub number: usize,
    pub session: S,
    pub orders: UnboundedReceiver<Order>,
    pub events: Sender<(usize, Event)>,
    /// Composed while the message before it waited for its arming.
    pub next: Option<Result<Outgoing, String>>,
}

/// The coordinator goes away only when the run is over: then there is nothing left to say or do.
struct Over;

impl<S: Session> Conversation<S> {
    pub async fn lead(mut self) {
        let mut watch = DeathWatch { number: self.number, events: self.events.clone(), alive: true };
        while self.step().await.is_ok() {}
        watch.alive = false;
    }

    async fn step(&mut self) -> Result<(), Over> {
        if let Some(composed) = self.next.take() {
            return self.deliver(composed).await;
        }
        match self.orders.recv().await.ok_or(Over)? {
            Order::Deliver(job) => self.deliver((job.compose)()).await,
            Order::Arm(_) => Ok(()),
            Order::Close => {
                let in_step = self.session.close().await;
                self.say(Then::Closed(in_step))
            }
        }
    }

    fn say(&self, event: impl Into<Event>) -> Result<(), Over> {
        self.events.send((self.number, event.into())).map_err(|_| Over)
    }

    /// Delivers a message, and those that can be handed over in one write with the body before them.
    async fn deliver(&mut self, composed: Result<Outgoing, String>) -> Result<(), Over> {
        let mut outgoing = match composed {
            Ok(outgoing) => outgoing,
            Err(problem) => {
                let fate = Fate::Refused { reply: format!("{CANNOT_BE_RENDERED}: {problem}") };
                return self.say(Then::Judged(fate, true));
            }
        };
        let opening = self.session.open(&outgoing).await;
        let mut event = Event { proof: opening.previous, finished: None, then: Then::GoesOn };
        event.then = match opening.opened {
            Err(Unusable { what: Extent::Connection, why }) => {
                event.then = Then::NoConnection { why, outgoing: Box::new(outgoing) };
                return self.say(event);
            }
            opened => opened.into(),
        };
        loop {
            let waits = matches!(event.then, Then::ArmRequest);
            self.say(event)?;
            if !waits {
                return Ok(());
            }
            // Committed before the body: a crash from here on cannot send it twice.
            if !self.is_granted().await? {
                self.session.abandon();
                return self.say(Then::Abandoned);
            }
            let next = match self.next.take() {
                Some(Ok(next)) => next,
                other => {
                    self.next = other;
                    let fate = self.session.finish(&outgoing).await;
                    return self.say(Event { proof: None, finished: Some((fate, false)), then: Then::GoesOn });
                }
            };
            let passing = self.session.finish_and_open(&outgoing, &next).await;
            let finished = Some((passing.fate, passing.proven));
            match passing.next {
                Next::Begun(opened) => {
                    event = Event { proof: None, finished, then: opened.into() };
                    outgoing = next;
                }
                Next::NotBegun => {
                    self.next = Some(Ok(next));
                    return self.say(Event { proof: None, finished, then: Then::GoesOn });
                }
            }
        }
    }

    /// Waits for the answer to an arm request; what comes to follow the message is composed meanwhile.
    async fn is_granted(&mut self) -> Result<bool, Over> {
        loop {
            match self.orders.recv().await.ok_or(Over)? {
                Order::Deliver(job) => self.next = Some((job.compose)()),
                Order::Arm(Answer::Granted) => return Ok(true),
                Order::Arm(Answer::Denied) | Order::Close => return Ok(false),
                Order::Arm(Answer::Stop) => {
                    self.next = None;
                    return Ok(false);
                }
            }
        }
    }
}

/// Tells the coordinator when the task panics, so that it does not wait endlessly.
struct DeathWatch {
    number: usize,
    events: Sender<(usize, Event)>,
    alive: bool,
}

impl Drop for DeathWatch {
    fn drop(&mut self) {
        if self.alive {
            let _ = self.events.send((self.number, Then::Died.into()));
        }
    }
}
