//! The thread on which all conversations of a run are held, one task for each connection.
//!
//! A thread for each connection costs two changes of thread for every message, which is more than its mail costs.

use std::sync::mpsc::Sender;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::conversation::Conversation;
use super::orders::{Event, Order};
use crate::failure::Failure;
use crate::mail::AnySession;

/// The thread of the connections. When it and its handles are gone, all conversations end where they are.
pub(super) struct Connections {
    commands: UnboundedSender<(usize, Command)>,
}

/// The way to one conversation.
pub(super) struct Handle {
    number: usize,
    commands: UnboundedSender<(usize, Command)>,
}

enum Command {
    Begin(AnySession),
    Order(Order),
}

impl Connections {
    /// Starts the thread; `events` is what the conversations report to.
    pub fn open(events: Sender<(usize, Event)>) -> Result<Connections, Failure> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let cannot = |err: std::io::Error| {
            Failure::ledger(
                format!("could not start the sending thread: {err}"),
                "check the limits of this user (ulimit)",
            )
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let serve = move || serve(runtime, inbox, &events);
        std::thread::Builder::new().name("connections".into()).spawn(serve).map_err(cannot)?;
        Ok(Connections { commands })
    }

    /// Begins a conversation; they are numbered from 0 in this order.
    pub fn begin(&self, number: usize, session: AnySession) -> Handle {
        let handle = Handle { number, commands: self.commands.clone() };
        handle.send(Command::Begin(session));
        handle
    }
}

impl Handle {
    pub fn order(&self, order: Order) {
        self.send(Command::Order(order));
    }

    fn send(&self, command: Command) {
        // A task that died has said so in an event, which is dealt with when it is read.
        let _ = self.commands.send((self.number, command));
    }
}

/// Takes commands to their conversations, until no one sends any.
fn serve(runtime: Runtime, mut inbox: UnboundedReceiver<(usize, Command)>, events: &Sender<(usize, Event)>) {
    runtime.block_on(async {
        let mut conversations: Vec<UnboundedSender<Order>> = Vec::new();
        while let Some((number, command)) = inbox.recv().await {
            match command {
                Command::Begin(session) => {
                    let (sender, orders) = mpsc::unbounded_channel();
                    conversations.push(sender);
                    let events = events.clone();
                    tokio::spawn(Conversation { number, session, orders, events, next: None }.lead());
                }
                Command::Order(order) => {
                    // As above.
                    let _ = conversations[number].send(order);
                }
            }
        }
    });
    // A name that is being looked up is not waited for.
    runtime.shutdown_background();
}
