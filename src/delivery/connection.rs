//! One connection, as the coordinator knows it.

use std::time::{Duration, Instant as Monotonic};

use super::Label;
use super::connections::Handle;
use super::orders::{Answer, Job, Order};
use crate::domain::fate::Fate;
use crate::mail::session::Outgoing;

/// A body that takes longer than this from its arming to its answer shows a slow server: nothing is prepared behind it,
/// for what was found out about the next message would grow old.
const BRISK: Duration = Duration::from_secs(2);

/// A connection and what it has in hand.
pub(super) struct Connection {
    handle: Handle,
    pub in_hand: Option<InHand>,
    /// Given to it to follow the message in hand.
    prepared: Option<Message>,
    /// What was said of these is not yet proven in step.
    pub unproven: Vec<Unproven>,
    pub idle_since: Monotonic,
    pub may_be_open: bool,
    /// Its connection did not come about while others did: it is given nothing more in this run.
    pub is_retired: bool,
    granted_at: Monotonic,
    brisk: bool,
}

/// A message that was judged, if replies are in step.
pub(super) struct Unproven {
    pub id: i64,
    pub label: Label,
    /// Its body was begun.
    pub armed: bool,
    pub fate: Fate,
}

/// A message, as the coordinator knows it.
pub(super) struct Message {
    pub id: i64,
    pub label: Label,
    fresh_until: Option<Monotonic>,
    /// It was looked at just before it was begun, however long the server takes to greet.
    begun_at_once: bool,
    armed: bool,
}

/// What a connection is at.
pub(super) enum InHand {
    Message(Message),
    Closing,
    /// The task is gone.
    Nothing,
}

impl Connection {
    /// The conversation behind this handle has begun, and waits for orders.
    pub fn at(handle: Handle) -> Connection {
        Connection {
            handle,
            in_hand: None,
            prepared: None,
            unproven: Vec::new(),
            idle_since: Monotonic::now(),
            may_be_open: false,
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
        self.may_be_open = true;
        self.handle.order(Order::Deliver(job));
    }

    pub fn close(&mut self) {
        self.in_hand = Some(InHand::Closing);
        self.handle.order(Order::Close);
    }

    pub fn answer(&mut self, answer: Answer) {
        if let Some(InHand::Message(message)) = &mut self.in_hand {
            message.armed = answer == Answer::Granted;
        }
        if answer == Answer::Stop {
            self.prepared = None;
        }
        self.granted_at = Monotonic::now();
        self.handle.order(Order::Arm(answer));
    }

    /// Ends what is in hand, and says which message it was. What was to follow is in hand now.
    pub fn finish(&mut self) -> (i64, Label) {
        self.idle_since = Monotonic::now();
        let next = self.prepared.take().map(InHand::Message);
        match std::mem::replace(&mut self.in_hand, next) {
            Some(InHand::Message(message)) => {
                if message.armed {
                    self.brisk = self.granted_at.elapsed() < BRISK;
                }
                (message.id, message.label)
            }
            _ => (0, Label::default()),
        }
    }

    /// Takes it out of use for this run, and gives back the message in hand, which is `outgoing`.
    pub fn retire(&mut self, outgoing: Outgoing) -> Option<Job> {
        self.is_retired = true;
        self.may_be_open = false;
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
        self.may_be_open = false;
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
        matches!(self.in_hand, None | Some(InHand::Nothing)) && self.unproven.is_empty() && !self.may_be_open
    }

    pub fn has_body_out(&self) -> bool {
        self.bodies_out().next().is_some()
    }

    /// The messages whose body is out and whose outcome is not recorded: id and label.
    pub fn bodies_out(&self) -> impl Iterator<Item = (i64, Label)> + '_ {
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
