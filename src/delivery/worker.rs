//! One connection and the thread that speaks on it.

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant as Monotonic;

use crate::domain::fate::Fate;
use crate::failure::Failure;
use crate::mail::session::{InStep, Opened, Outgoing, Session};

/// How the reply of a message that could not be made begins, in the place of a server's.
pub(super) const CANNOT_BE_RENDERED: &str = "cannot be rendered";

/// One message to deliver. What it takes to write it is done on the sending thread.
pub struct Job {
    pub id: i64,
    /// How `-v` names it, without personal data: `cart u1_9f86d081`.
    pub label: String,
    /// Renders and composes; the error says why that cannot be done.
    pub compose: Box<dyn FnOnce() -> Result<Outgoing, String> + Send>,
}

/// What the coordinator tells a worker.
pub(super) enum Order {
    Deliver(Job),
    /// The answer to a wish to arm.
    Arm(bool),
    Close,
}

/// What a worker tells the coordinator. All but `WishToArm` and `Proof` end what it had in hand.
pub(super) enum Event {
    /// The server waits for the body.
    WishToArm,
    /// About the message before the one in hand.
    Proof(InStep),
    /// The body was not begun, and the server (or the template) judged the message.
    Judged(Fate),
    /// The body was begun.
    Finished(Fate),
    /// The wish to arm was denied, and the connection dropped.
    Abandoned,
    Unusable(String),
    Closed(Option<InStep>),
    Died,
}

/// The coordinator's side of a worker.
pub(super) struct Worker {
    orders: Sender<Order>,
    pub in_hand: Option<InHand>,
    /// Accepted, but not yet proven in step: id, label and reply.
    pub unproven: Option<(i64, String, String)>,
    pub idle_since: Monotonic,
    pub may_hold_connection: bool,
}

/// What a worker is at.
pub(super) enum InHand {
    Message {
        id: i64,
        label: String,
        armed: bool,
    },
    Closing,
    /// The thread is gone.
    Nothing,
}

impl Worker {
    pub fn start(number: usize, session: Box<dyn Session>, events: Sender<(usize, Event)>) -> Result<Worker, Failure> {
        let (orders, inbox) = mpsc::channel();
        std::thread::Builder::new()
            .name(format!("connection {number}"))
            .spawn(move || {
                let mut watch = DeathWatch { number, events: events.clone(), alive: true };
                work(number, session, &inbox, &events);
                watch.alive = false;
            })
            .map_err(|err| {
                Failure::ledger(format!("could not start a thread: {err}"), "lower mail.smtp.connections")
            })?;
        Ok(Worker { orders, in_hand: None, unproven: None, idle_since: Monotonic::now(), may_hold_connection: false })
    }

    pub fn deliver(&mut self, job: Job) {
        self.in_hand = Some(InHand::Message { id: job.id, label: job.label.clone(), armed: false });
        self.may_hold_connection = true;
        self.order(Order::Deliver(job));
    }

    pub fn close(&mut self) {
        self.in_hand = Some(InHand::Closing);
        self.order(Order::Close);
    }

    pub fn answer(&mut self, granted: bool) {
        if let Some(InHand::Message { armed, .. }) = &mut self.in_hand {
            *armed = granted;
        }
        self.order(Order::Arm(granted));
    }

    fn order(&self, order: Order) {
        // A thread that died has said so in an event, which is dealt with when it is read.
        let _ = self.orders.send(order);
    }

    /// Ends what is in hand, and says which message it was.
    pub fn finish(&mut self) -> (i64, String) {
        self.idle_since = Monotonic::now();
        match self.in_hand.take() {
            Some(InHand::Message { id, label, .. }) => (id, label),
            _ => (0, String::new()),
        }
    }

    /// Takes a dead thread out of use.
    pub fn bury(&mut self) {
        self.in_hand = Some(InHand::Nothing);
        self.unproven = None;
        self.may_hold_connection = false;
    }

    pub fn id_in_hand(&self) -> Option<i64> {
        match &self.in_hand {
            Some(InHand::Message { id, .. }) => Some(*id),
            _ => None,
        }
    }

    pub fn label_in_hand(&self) -> String {
        match &self.in_hand {
            Some(InHand::Message { label, .. }) => label.clone(),
            _ => String::new(),
        }
    }

    pub fn is_unarmed(&self) -> bool {
        matches!(self.in_hand, Some(InHand::Message { armed: false, .. }))
    }

    /// Nothing in hand, nothing unproven, no connection open.
    pub fn is_done(&self) -> bool {
        matches!(self.in_hand, None | Some(InHand::Nothing)) && self.unproven.is_none() && !self.may_hold_connection
    }

    pub fn has_body_out(&self) -> bool {
        self.bodies_out().next().is_some()
    }

    /// The messages whose body is out and whose outcome is not recorded: id and label.
    pub fn bodies_out(&self) -> impl Iterator<Item = (i64, String)> + '_ {
        let in_hand = match &self.in_hand {
            Some(InHand::Message { id, label, armed: true }) => Some((*id, label.clone())),
            _ => None,
        };
        let unproven = self.unproven.as_ref().map(|(id, label, _)| (*id, label.clone()));
        in_hand.into_iter().chain(unproven)
    }
}

/// Tells the coordinator when the thread panics, so that it does not wait for ever.
struct DeathWatch {
    number: usize,
    events: Sender<(usize, Event)>,
    alive: bool,
}

impl Drop for DeathWatch {
    fn drop(&mut self) {
        if self.alive {
            let _ = self.events.send((self.number, Event::Died));
        }
    }
}

fn work(number: usize, mut session: Box<dyn Session>, orders: &Receiver<Order>, events: &Sender<(usize, Event)>) {
    // The coordinator goes away only when the run is over: then there is nothing left to say.
    let say = |event| events.send((number, event)).is_ok();
    while let Ok(order) = orders.recv() {
        let event = match order {
            Order::Arm(_) => continue,
            Order::Close => Event::Closed(session.close()),
            Order::Deliver(job) => deliver(session.as_mut(), job, orders, &say),
        };
        if !say(event) {
            return;
        }
    }
}

fn deliver(session: &mut dyn Session, job: Job, orders: &Receiver<Order>, say: &dyn Fn(Event) -> bool) -> Event {
    let outgoing = match (job.compose)() {
        Ok(outgoing) => outgoing,
        Err(problem) => return Event::Judged(Fate::Refused { reply: format!("{CANNOT_BE_RENDERED}: {problem}") }),
    };
    let opening = session.open(&outgoing);
    if let Some(in_step) = opening.previous {
        say(Event::Proof(in_step));
    }
    match opening.opened {
        Err(unusable) => Event::Unusable(unusable.why),
        Ok(Opened::Judged(fate)) => Event::Judged(fate),
        Ok(Opened::Ready) => {
            say(Event::WishToArm);
            // Committed before the body: a crash from here on cannot send it twice.
            match orders.recv() {
                Ok(Order::Arm(true)) => Event::Finished(session.finish(&outgoing)),
                _ => {
                    session.abandon();
                    Event::Abandoned
                }
            }
        }
    }
}
