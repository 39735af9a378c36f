//! What every way of sending has in common: a transaction is opened, the caller arms, the body is sent.
//!
//! The split between [`Session::open`] and [`Session::finish`] is the place where the ledger arms: before `finish` the
//! receiving side holds nothing of the message, from its first byte on it may hold all of it.

use crate::domain::address::Address;
use crate::domain::fate::{Fate, Unusable};

/// One message ready to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The sender told to the server, in ASCII form unless it needs SMTPUTF8; empty for the null sender.
    pub envelope_from: String,
    pub recipient: Address,
    /// The message (RFC 5322): ASCII, lines ended by CRLF, not dot-stuffed.
    pub bytes: Vec<u8>,
    /// Names this message in files and mail logs: letters, digits, `-` and `_`.
    pub token: String,
}

/// What the dialogue up to the 354 said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// The body may follow.
    Ready,
    /// Deferred or Refused: the server judged this message, and holds nothing of it. Unless `proven`, the next
    /// [`InStep`] says whether that stands.
    Judged { fate: Fate, proven: bool },
}

/// Whether the replies that were provisional were really those of their commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InStep {
    /// Nothing speaks against it: a message is sent, or refused, as they said.
    Yes,
    /// One of them, or what follows, belongs to another command: a message that was called sent is in doubt, and one that
    /// was judged before its body is not judged.
    No { why: String },
}

/// What [`Session::open`] found out, about this message and about those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// About everything that waits for its proof, without what `opened` says. `None`: nothing waits, or it waits on.
    pub previous: Option<InStep>,
    pub opened: Result<Opened, Unusable>,
}

/// What [`Session::finish_and_open`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passing {
    /// How the message whose body went out ended.
    pub fate: Fate,
    /// Whether a `Sent` is final; else the next [`InStep`] settles it.
    pub proven: bool,
    pub next: Next,
}

/// What became of the message that was to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Its transaction was begun, with this result.
    Begun(Result<Opened, Unusable>),
    NotBegun,
}

/// One conversation with whatever takes the messages.
///
/// What is provisional is settled by a later `open`, at the latest by the next [`Opened::Ready`] or by `close`.
/// What waits, waits without holding its thread: many sessions share one.
pub trait Session: Send {
    /// Goes up to the point where the body may follow, connecting first when there is no connection.
    fn open(&mut self, outgoing: &Outgoing) -> impl Future<Output = Opening> + Send;

    /// Sends the body and reads the answer to it. Only after [`Opened::Ready`], and with the same message.
    ///
    /// A `Fate::Sent` is provisional.
    fn finish(&mut self, outgoing: &Outgoing) -> impl Future<Output = Fate> + Send;

    /// Sends the body, and where the other side lets it, the envelope of `next` in the same write. Only after
    /// [`Opened::Ready`], and with the same message. When this says [`Opened::Ready`], the body of `next` may follow.
    fn finish_and_open(&mut self, outgoing: &Outgoing, _next: &Outgoing) -> impl Future<Output = Passing> + Send {
        async { Passing { fate: self.finish(outgoing).await, proven: false, next: Next::NotBegun } }
    }

    /// Leaves an opened transaction with nothing of the body sent.
    fn abandon(&mut self);

    /// Ends the conversation, and settles what is provisional; `None` when nothing is.
    fn close(&mut self) -> impl Future<Output = Option<InStep>> + Send;
}

/// A session for tests that are no tasks themselves: each call returns when it is done.
#[cfg(test)]
pub struct Driven<S> {
    // Before the runtime that watches its connection.
    session: S,
    runtime: tokio::runtime::Runtime,
}

#[cfg(test)]
impl<S: Session> Driven<S> {
    pub fn new(session: S) -> Driven<S> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Driven { session, runtime }
    }

    pub fn open(&mut self, outgoing: &Outgoing) -> Opening {
        self.runtime.block_on(self.session.open(outgoing))
    }

    pub fn finish(&mut self, outgoing: &Outgoing) -> Fate {
        self.runtime.block_on(self.session.finish(outgoing))
    }

    pub fn finish_and_open(&mut self, outgoing: &Outgoing, next: &Outgoing) -> Passing {
        self.runtime.block_on(self.session.finish_and_open(outgoing, next))
    }

    pub fn abandon(&mut self) {
        self.session.abandon();
    }

    pub fn close(&mut self) -> Option<InStep> {
        self.runtime.block_on(self.session.close())
    }
}
