//! Runs, and what a ledger is opened for.

/// What a ledger is for; decided when it is made, permanently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Mails people.
    Live,
    /// Sends only to files or to a server on loopback, and may be told another time with `--now`.
    Rehearsal,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::Live => "live",
            Kind::Rehearsal => "rehearsal",
        }
    }
}

/// How a command opens the ledger to write to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// After a look that a run would take too: nothing is written to an old copy, nor over the traces of
    /// a run whose log was taken away.
    Write,
    /// Without that look: the ledger was made just now, or a person goes on with an old copy.
    Decided,
}

/// What became of the messages a dead run had armed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Held: whether the server took them is not known.
    pub in_doubt: u64,
    /// Found delivered, by their token.
    pub sent: u64,
}

/// A run's number, which is its epoch.
pub type Epoch = i64;
