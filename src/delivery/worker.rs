//! One connection: what the coordinator knows of it, and the task that speaks on it.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant as Monotonic};

use tokio::sync::mpsc::UnboundedReceiver;

use super::room::Door;
use crate::domain::fate::{Extent, Fate, Unusable};
use crate::mail::session::{InStep, Next, Opened, Outgoing, Session};

/// How the reply of a message that could not be made begins, in the place of a server's.
pub(super) const CANNOT_BE_RENDERED: &str = "cannot be rendered";

/// A body that takes longer than this from its arming to its answer shows a slow server: nothing is prepared behind it,
/// for what was found out about the next message would grow old.
const BRISK: Duration = Duration::from_secs(2);

/// One message to deliver. What it takes to write it is done where it is sent, not where the ledger is.
pub struct Job {
    pub id: i64,
    /// How `-v` names it, without personal data: `cart u1_9f86d081`.
    pub label: String,
    /// What the last look at it found does not count after this instant; `None` when arming itself looks again.
    pub fresh_until: Option<Monotonic>,
    /// Renders and composes; the error says why that cannot be done.
    pub compose: Box<dyn FnOnce() -> Result<Outgoing, String> + Send>,
}

impl Job {
    /// Whether what the last look at it found still counts.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh_until.is_none_or(|until| Monotonic::now() <= until)
    }
}

/// What the coordinator tells a worker.
pub(super) enum Order {
    /// At once, or after the message in hand: then it is composed while that one waits for its arming, and its
    /// envelope may leave in one write with that one's body.
    Deliver(Job),
    /// The answer to a wish to arm.
    Arm(Answer),
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// On disk: the body may leave.
    Granted,
    Denied,
    /// Denied, and what was to follow is not to be begun either.
    Stop,
}

/// What a worker tells the coordinator, in the order in which it happened.
pub(super) struct Event {
    /// About the messages before the one in hand.
    pub proof: Option<InStep>,
    /// How the message in hand ended, its body begun; `true` when it needs no more proof. What was to follow is in hand
    /// from here on.
    pub finished: Option<(Fate, bool)>,
    pub then: Then,
}

/// What the worker is at now. All but `WishToArm` and `GoesOn` end what it had in hand.
pub(super) enum Then {
    /// It begins what was to follow, or has nothing in hand.
    GoesOn,
    /// The server waits for the body.
    WishToArm,
    /// The body was not begun, and the server (or the template) judged the message; `true` when that needs no more proof.
    Judged(Fate, bool),
    /// The wish to arm was denied, and the connection dropped.
    Abandoned,
    /// Nothing of the body was begun, and no one has judged the message.
    Unusable(Unusable),
    /// The connection did not come about. The message is given back.
    NoConnection {
        why: String,
        outgoing: Box<Outgoing>,
    },
    Closed(Option<InStep>),
    Died,
}

/// The coordinator's side of a worker.
pub(super) struct Worker {
    door: Door,
    pub in_hand: Option<InHand>,
    /// Given to the worker to follow the message in hand.
    prepared: Option<Message>,
    /// What was said of these is not yet proven in step.
    pub unproven: Vec<Unproven>,
    pub idle_since: Monotonic,
    pub may_hold_connection: bool,
    /// Its connection did not come about while others did: it is given nothing more in this run.
    pub is_retired: bool,
    granted_at: Monotonic,
    brisk: bool,
}

/// A message that was judged, if replies are in step.
pub(super) struct Unproven {
    pub id: i64,
    pub label: String,
    /// Its body was begun.
    pub armed: bool,
    pub fate: Fate,
}

/// A message, as the coordinator knows it.
pub(super) struct Message {
    pub id: i64,
    pub label: String,
    fresh_until: Option<Monotonic>,
    /// It was looked at just before it was begun, however long the server takes to greet.
    begun_at_once: bool,
    armed: bool,
}

/// What a worker is at.
pub(super) enum InHand {
    Message(Message),
    Closing,
    /// The task is gone.
    Nothing,
}

impl Worker {
    /// The task behind this door has begun, and waits for orders.
    pub fn at(door: Door) -> Worker {
        Worker {
            door,
            in_hand: None,
            prepared: None,
            unproven: Vec::new(),
            idle_since: Monotonic::now(),
            may_hold_connection: false,
            is_retired: false,
            granted_at: Monotonic::now(),
            brisk: true,
        }
    }

    /// Gives it a message: to begin at once, or to follow the one in hand.
    pub fn deliver(&mut self, job: Job) {
        let message = Message {
            id: job.id,
            label: job.label.clone(),
            fresh_until: job.fresh_until,
            begun_at_once: self.in_hand.is_none(),
            armed: false,
        };
        match self.in_hand {
            None => self.in_hand = Some(InHand::Message(message)),
            Some(_) => self.prepared = Some(message),
        }
        self.may_hold_connection = true;
        self.door.order(Order::Deliver(job));
    }

    pub fn close(&mut self) {
        self.in_hand = Some(InHand::Closing);
        self.door.order(Order::Close);
    }

    pub fn answer(&mut self, answer: Answer) {
        if let Some(InHand::Message(message)) = &mut self.in_hand {
            message.armed = answer == Answer::Granted;
        }
        if answer == Answer::Stop {
            self.prepared = None;
        }
        self.granted_at = Monotonic::now();
        self.door.order(Order::Arm(answer));
    }

    /// Ends what is in hand, and says which message it was. What was to follow is in hand now.
    pub fn finish(&mut self) -> (i64, String) {
        self.idle_since = Monotonic::now();
        let next = self.prepared.take().map(InHand::Message);
        match std::mem::replace(&mut self.in_hand, next) {
            Some(InHand::Message(message)) => {
                if message.armed {
                    self.brisk = self.granted_at.elapsed() < BRISK;
                }
                (message.id, message.label)
            }
            _ => (0, String::new()),
        }
    }

    /// Takes it out of use for this run, and gives back the message in hand, which is `outgoing`.
    pub fn retire(&mut self, outgoing: Outgoing) -> Option<Job> {
        self.is_retired = true;
        self.may_hold_connection = false;
        match self.in_hand.take() {
            Some(InHand::Message(Message { id, label, fresh_until, .. })) => {
                Some(Job { id, label, fresh_until, compose: Box::new(move || Ok(outgoing)) })
            }
            _ => None,
        }
    }

    /// Takes a dead task out of use.
    pub fn bury(&mut self) {
        self.in_hand = Some(InHand::Nothing);
        self.prepared = None;
        self.unproven.clear();
        self.may_hold_connection = false;
    }

    pub fn message_in_hand(&self) -> Option<&Message> {
        match &self.in_hand {
            Some(InHand::Message(message)) => Some(message),
            _ => None,
        }
    }

    /// Whether it has a message, or waits for what proves the last ones.
    pub fn is_at_work(&self) -> bool {
        self.message_in_hand().is_some() || !self.unproven.is_empty()
    }

    /// Whether a message may be given to it to follow the one in hand.
    pub fn may_prepare(&self) -> bool {
        self.brisk && self.prepared.is_none() && self.message_in_hand().is_some()
    }

    /// How many messages it has that are not armed.
    pub fn unarmed(&self) -> u32 {
        let in_hand = self.message_in_hand().is_some_and(|message| !message.armed);
        u32::from(in_hand) + u32::from(self.prepared.is_some())
    }

    /// Nothing in hand, nothing unproven, no connection open.
    pub fn is_done(&self) -> bool {
        matches!(self.in_hand, None | Some(InHand::Nothing)) && self.unproven.is_empty() && !self.may_hold_connection
    }

    pub fn has_body_out(&self) -> bool {
        self.bodies_out().next().is_some()
    }

    /// The messages whose body is out and whose outcome is not recorded: id and label.
    pub fn bodies_out(&self) -> impl Iterator<Item = (i64, String)> + '_ {
        let in_hand = self.message_in_hand().filter(|message| message.armed);
        let unproven = self.unproven.iter().filter(|one| one.armed).map(|one| (one.id, one.label.clone()));
        in_hand.map(|message| (message.id, message.label.clone())).into_iter().chain(unproven)
    }
}

impl Message {
    /// Whether what the last look at it found still counts.
    pub fn is_fresh(&self) -> bool {
        self.begun_at_once || self.fresh_until.is_none_or(|until| Monotonic::now() <= until)
    }
}

/// Tells the coordinator when the task panics, so that it does not wait for ever.
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

impl From<Then> for Event {
    fn from(then: Then) -> Event {
        Event { proof: None, finished: None, then }
    }
}

/// The worker's own side: a conversation, led by orders.
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
            let waits = matches!(event.then, Then::WishToArm);
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

    /// Waits for the answer to a wish to arm; what comes to follow the message is composed meanwhile.
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

impl From<Result<Opened, Unusable>> for Then {
    fn from(opened: Result<Opened, Unusable>) -> Then {
        match opened {
            Err(unusable) => Then::Unusable(unusable),
            Ok(Opened::Judged { fate, proven }) => Then::Judged(fate, proven),
            Ok(Opened::Ready) => Then::WishToArm,
        }
    }
}
