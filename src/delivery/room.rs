//! The room where all conversations of a run are held: one thread, one task for each connection.
//!
//! A thread for each connection costs two changes of thread for every message, which is more than its mail costs.

use std::sync::mpsc::Sender;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::worker::{Conversation, Event, Order};
use crate::failure::Failure;
use crate::mail::AnySession;

/// The way into the room. When it and its doors are gone, all conversations end where they are.
pub(super) struct Room {
    errands: UnboundedSender<(usize, Errand)>,
}

/// The way to one conversation.
pub(super) struct Door {
    number: usize,
    errands: UnboundedSender<(usize, Errand)>,
}

enum Errand {
    Begin(AnySession),
    Order(Order),
}

impl Room {
    /// Starts the thread; `events` is what the conversations report to.
    pub fn open(events: Sender<(usize, Event)>) -> Result<Room, Failure> {
        let (errands, inbox) = mpsc::unbounded_channel();
        let no_room = |err: std::io::Error| {
            Failure::ledger(
                format!("could not start the sending thread: {err}"),
                "check the limits of this user (ulimit)",
            )
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(no_room)?;
        let attend = move || attend(runtime, inbox, &events);
        std::thread::Builder::new().name("connections".into()).spawn(attend).map_err(no_room)?;
        Ok(Room { errands })
    }

    /// Begins a conversation; they are numbered from 0 in this order.
    pub fn begin(&self, number: usize, session: AnySession) -> Door {
        let door = Door { number, errands: self.errands.clone() };
        door.send(Errand::Begin(session));
        door
    }
}

impl Door {
    pub fn order(&self, order: Order) {
        self.send(Errand::Order(order));
    }

    fn send(&self, errand: Errand) {
        // A task that died has said so in an event, which is dealt with when it is read.
        let _ = self.errands.send((self.number, errand));
    }
}

/// Takes errands to their conversations, until no one sends any.
fn attend(runtime: Runtime, mut inbox: UnboundedReceiver<(usize, Errand)>, events: &Sender<(usize, Event)>) {
    runtime.block_on(async {
        let mut doors: Vec<UnboundedSender<Order>> = Vec::new();
        while let Some((number, errand)) = inbox.recv().await {
            match errand {
                Errand::Begin(session) => {
                    let (door, orders) = mpsc::unbounded_channel();
                    doors.push(door);
                    let events = events.clone();
                    tokio::spawn(Conversation { number, session, orders, events, next: None }.lead());
                }
                Errand::Order(order) => {
                    // As above.
                    let _ = doors[number].send(order);
                }
            }
        }
    });
    // A name that is being looked up is not waited for.
    runtime.shutdown_background();
}
