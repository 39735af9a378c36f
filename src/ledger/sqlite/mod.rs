//! The ledger in one SQLite file.
//!
//! `open.rs` and `place.rs` say which file may be one, `migrate.rs` brings an older one up to date, `schema.sql` repeats as
//! constraints and triggers what the code promises. The transaction that all writing goes through is [`Ledger::write`], in `transaction.rs`.

mod adoption;
#[cfg(test)]
mod agreement;
mod arm;
mod audience;
mod audit;
mod audit_rules;
mod batches;
mod campaigns;
mod cancel;
mod candidates;
mod caps;
mod columns;
mod coupons;
mod expire;
mod flows;
mod forget;
mod guards;
mod history;
mod journal;
mod migrate;
mod missed;
mod notices;
mod occurrences;
mod older;
mod open;
mod page;
mod parts;
mod pauses;
mod place;
mod plan;
mod prune;
mod recover;
mod recoveries;
mod report;
mod reports;
mod resolve;
mod retry;
mod rights;
mod runs;
mod settle;
mod streak;
mod suppressions;
mod tally;
mod transaction;
mod weigh;

use std::cell::Cell;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

pub use adoption::{Adopted, Adoption, ImportedRows, OldLog, Restored, Rules, Survey, Take, no_zone, span};
pub use candidates::NOT_IDLE_YET;
pub use forget::Memory;
pub use notices::{EVENT_KINDS, MOST_KEPT};
pub use place::Place;
pub use tally::Counted;

use self::transaction::{Durability, Reading, Undone, unusable};
use crate::domain::message_key;
use crate::host::Host;
use crate::ledger::Kind;

/// A ledger, open to be read: what `status`, `log`, `audit` and `--dry-run` need. Nothing that it offers writes to the file.
#[derive(Debug)]
pub struct Records {
    conn: Option<Connection>,
    path: PathBuf,
    id: String,
    kind: Kind,
    /// `user_version`: an older one until a command with the run lock has brought it up to date.
    schema: i64,
    /// This machine, where it has an identity and the ledger is written to.
    host: Option<Host>,
    /// Device and inode of the file that was opened.
    file: (u64, u64),
    /// [`Ledger::mark_of`] the file, where it is read by a user who may write nothing beside it: only as long as nobody
    /// writes to it.
    at_rest: Option<String>,
    /// How many commits this connection made.
    commits: u64,
    /// After how many of them the ledger's version was last asked for, and what it was.
    version: Cell<Option<(u64, i64)>>,
    /// A COMMIT or fsync failed: what is on disk is unknown, so nothing more is written, not even by closing.
    broken: Cell<bool>,
}

/// A ledger, open to be written to; it reads as [`Records`] do. What it writes is in parts, by who needs them: each part is
/// borrowed for one call, and all of them write through the one transaction of [`Ledger::write`].
#[derive(Debug)]
pub struct Ledger {
    records: Records,
    /// What the connection is set to; `None` before the first commit.
    durability: Option<Durability>,
}

/// The runs: beginning, taking over what a dead one left, ending.
#[derive(Debug)]
pub struct Runs<'a>(&'a mut Ledger);

/// What falls due: carts and occurrences planned, missed, or found too late.
#[derive(Debug)]
pub struct Plans<'a>(&'a mut Ledger);

/// What becomes of each message: arming, the server's answer, a person's decision.
#[derive(Debug)]
pub struct Books<'a>(&'a mut Ledger);

/// The campaigns as such: defined, paused, cancelled, retried.
#[derive(Debug)]
pub struct Campaigns<'a>(&'a mut Ledger);

/// What a person was told, and has settled.
#[derive(Debug)]
pub struct Notices<'a>(&'a mut Ledger);

/// What mail brought: orders that followed it.
#[derive(Debug)]
pub struct Recoveries<'a>(&'a mut Ledger);

/// The addresses that are never written to.
#[derive(Debug)]
pub struct Suppressions<'a>(&'a mut Ledger);

/// What comes back about messages.
#[derive(Debug)]
pub struct Reports<'a>(&'a mut Ledger);

/// What is taken out for good: pruned, or forgotten.
#[derive(Debug)]
pub struct Erasures<'a>(&'a mut Ledger);

/// The coupon codes.
#[derive(Debug)]
pub struct Coupons<'a>(&'a mut Ledger);

impl Deref for Ledger {
    type Target = Records;

    fn deref(&self) -> &Records {
        &self.records
    }
}

impl Records {
    /// What stands for this ledger's random name in outputs: whoever knows that could make the tokens of all messages.
    pub fn shown_id(&self) -> String {
        shown(&self.id)
    }

    /// Live, or for rehearsals only.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn conn(&self) -> &Connection {
        self.conn.as_ref().expect("the connection is only taken on drop")
    }
}

impl Ledger {
    pub fn runs(&mut self) -> Runs<'_> {
        Runs(self)
    }

    pub fn plans(&mut self) -> Plans<'_> {
        Plans(self)
    }

    pub fn books(&mut self) -> Books<'_> {
        Books(self)
    }

    pub fn campaigns(&mut self) -> Campaigns<'_> {
        Campaigns(self)
    }

    pub fn notices(&mut self) -> Notices<'_> {
        Notices(self)
    }

    pub fn coupons(&mut self) -> Coupons<'_> {
        Coupons(self)
    }

    pub fn recoveries(&mut self) -> Recoveries<'_> {
        Recoveries(self)
    }

    pub fn reports(&mut self) -> Reports<'_> {
        Reports(self)
    }

    pub fn erasures(&mut self) -> Erasures<'_> {
        Erasures(self)
    }

    pub fn suppressions(&mut self) -> Suppressions<'_> {
        Suppressions(self)
    }
}

/// A ledger's name as outputs have it, 16 hex digits.
fn shown(id: &str) -> String {
    use sha2::{Digest, Sha256};
    message_key::hex(&Sha256::digest(format!("ledger {id}"))[..8])
}

impl Drop for Records {
    fn drop(&mut self) {
        if self.broken.get() {
            // Closing would checkpoint pages that may never have reached the disk.
            std::mem::forget(self.conn.take());
        }
    }
}
