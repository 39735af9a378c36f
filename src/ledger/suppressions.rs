//! What is said of the suppression list.

use crate::domain::address::Address;
use crate::domain::instant::Instant;

/// One suppressed address.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Suppression {
    pub address: String,
    /// The kind of mail that it gets no more; empty is all.
    pub list: String,
    pub reason: String,
    pub added_at: String,
    pub origin: String,
}

/// One of those whom the shop's own list has as wanting no mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedOptOut {
    pub address: Address,
    /// When they said so, where the list has it.
    pub changed_at: Option<Instant>,
}

/// What became of one wish to get no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// This address gets no more mail of this list (empty: of any); `is_new`: it did before.
    Heard { address: String, list: String, is_new: bool },
    /// The token is genuine, and its message is not in this ledger.
    Unknown,
}
