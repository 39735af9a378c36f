//! The ledger says what happened to every message. Here are its words, and why they are enough; `sqlite/` keeps it in one
//! SQLite file, and has all of its SQL. Another engine would be a room beside that one, with the same face.
//!
//! | state     | written at the instant                | the next run                                          |
//! |-----------|---------------------------------------|-------------------------------------------------------|
//! | planned   | the message fell due                  | tries it, from `not_before` on                        |
//! | armed     | after the 354, before the body        | holds the run lock, so that run died: in doubt        |
//! | sent      | after 2yz to its final dot            | leaves it                                             |
//! | refused   | after 5yz, or it cannot be rendered   | leaves it; `log --state refused` lists it             |
//! | skipped   | decided against, with a reason        | leaves it                                             |
//! | in_doubt  | body begun, no trustworthy reply came | leaves it; evidence or a person moves it              |
//!
//! Why no message goes twice: a body may leave only after `armed` is on disk ([`sqlite::Books::arm`], `synchronous=FULL`), and
//! nothing but evidence or a person leads from there back to `planned` once a run has died. Why none is lost: before
//! `armed` the server holds no complete message, so `planned` is simply tried again.
//!
//! Each outcome is a transaction of its own ([`sqlite::Books::settle`]): what fails in one takes no other with it. It goes without
//! an fsync (`synchronous=NORMAL`): losing it leaves `armed`, which is held, never sent again. Messages that ask to be
//! armed at the same moment share one commit, which comes after the outcomes that are known by then. It also brings those
//! to the disk: they are in the same write-ahead log, before it, and there a frame counts only if its checksum does, which
//! runs over all frames before. That holds for what is written only (SQLite syncs nothing for a commit that changed
//! nothing), and a message that is granted was: nothing else is asked of the commit.
//!
//! The face has two sides. [`Records`] reads, and nothing else. [`Ledger`] writes as well, in parts named for what they are
//! about: [`Ledger::runs`], [`Ledger::plans`], [`Ledger::books`], [`Ledger::campaigns`], [`Ledger::notices`],
//! [`Ledger::recoveries`], [`Ledger::suppressions`], [`Ledger::reports`]. The files beside this one hold the values that go in and come out.

mod books;
mod campaigns;
mod coupons;
mod erasures;
mod history;
mod page;
mod plans;
mod records;
mod recoveries;
mod reports;
mod runs;
mod sqlite;
mod suppressions;

pub use books::{
    Armed, At, Attempt, Decision, Denied, EarlierReport, EarlierResolution, InDoubt, Named, Outcome, PastRefusal,
    PlannedAgain, Resolution, Resolved, Settled, Waiting, WaitingFor,
};
pub use campaigns::{
    CampaignState, DueRecipient, ImportedCampaign, LastDecision, LastOpened, OccurrenceRow, OpenOccurrence,
    RecipientFate, Resumed, Retemplated,
};
pub use coupons::{CodeFor, ImportedCodes, PoolState};
pub use erasures::{Forgotten, Pruned};
pub use history::{
    MOST_TOLD, MessageStory, OfCampaign, OldRow, OrderStory, RemovedSuppression, ReportStory, Stories, Whose,
};
pub use page::{Abandoned, DecidedOccurrence, EpisodeOutcome, Followed, FollowedBy, OccurrenceCount, Period, Seen};
pub use plans::{Candidate, Due, Judged, Missed, Opened, Opening, OpeningKey, PlanRules, Planned, Weighed};
pub use records::{
    Audited, EpisodeRow, IdleRow, LogFilter, MessageRow, News, Notice, OpenNotice, RunRow, StandingEvent, StateCount,
    Violation,
};
pub use recoveries::{Brought, Comparison, OrdersLook, RecoveredOrder, Takings};
pub use reports::{
    BlockedOfLate, DeadAddresses, DeadOfLate, Filed, RefusedRecipient, Report, Returned, Stopped, THE_MAIL_SERVER,
    UnmatchedReport,
};
pub use runs::{Access, Epoch, Kind, Recovered};
pub use sqlite::{
    Adopted, Adoption, Counted, EVENT_KINDS, ImportedRows, Ledger, MOST_KEPT, Memory, NOT_IDLE_YET, OldLog, Place,
    Records, Restored, Rules, Survey, Take, no_zone, span,
};
pub use suppressions::{ListedOptOut, Suppression, Wish};

/// Two steps about the carts of one shopper never leave within so long of each other; the schema's default says the same.
pub const STEP_GAP: chrono::TimeDelta = chrono::TimeDelta::hours(1);
