//! What is taken out of a ledger for good.

use serde::Serialize;

/// What pruning deleted, or would.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Settled messages, with their tries, reports and orders.
    pub messages: u64,
    /// Rows of an older system's log.
    pub older_rows: u64,
    /// Settled before then, but kept: they have a coupon code, or a step of the same flow that is not.
    pub kept: u64,
}

/// What was known of a person who is forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Forgotten {
    pub messages: u64,
    /// Messages that were planned, and are not sent.
    pub not_sent: u64,
    /// Messages in doubt, which stay so.
    pub in_doubt: u64,
    /// Rows of the log of abandoned carts.
    pub episodes: u64,
    pub reports: u64,
    /// Messages to other addresses of the same shopper, which stay.
    pub to_other_addresses: u64,
}
