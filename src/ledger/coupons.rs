//! Coupon codes, as far as they go in and come out.

use crate::domain::coupon::Coupon;

/// The code that a message leaves with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodeFor {
    Code(Coupon),
    /// It goes without one.
    Without,
    /// There is none, and it waits for one.
    Wait,
    /// Its person had one of the pool a short while ago, and it does not go without.
    HadOne,
    /// A body was begun with one that has ended since.
    Ended,
}

/// What an import did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ImportedCodes {
    pub added: u64,
    /// There already, in whatever pool and spelling.
    pub repeated: u64,
}

/// The codes of one pool.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PoolState {
    pub pool: String,
    pub codes: u64,
    /// Given to no message, and not ended; of a configured pool, those that a message would be given now.
    pub free: u64,
    /// Kept back since an old copy of the ledger was put back.
    pub held: u64,
    /// Ended before they were given.
    pub expired: u64,
    /// A message has them.
    pub given: u64,
    /// When the first of the free ones ends.
    pub next_ends_at: Option<String>,
}
