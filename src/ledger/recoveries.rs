//! Orders that followed messages, and how those who were written to compare with those who were held out.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use crate::domain::instant::{Instant, Recorded};
use crate::domain::recovery::{Arm, Difference};
use crate::domain::state::{How, OrderStatus};

/// How far the shop's orders were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrdersLook {
    pub to: Option<Instant>,
    /// So long after a message an order counts.
    pub window: Option<TimeDelta>,
    /// Before then not all of the last two days are read again: they are many.
    pub all_from: Option<Instant>,
}

/// An order that followed a message.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RecoveredOrder {
    pub order_id: String,
    pub ordered_at: String,
    pub value: Option<String>,
    pub currency: Option<String>,
    pub status: OrderStatus,
    pub how: How,
    /// The step of the message that it followed; `None` for one without steps, and for a campaign's.
    pub step: Option<String>,
    pub campaign_id: Option<String>,
    pub message_id: String,
    pub armed_at: String,
}

/// How many orders there are, and what they come to, by currency.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Takings {
    pub orders: u64,
    pub value: BTreeMap<String, String>,
    pub without_total: u64,
}

/// What mail about carts and campaigns brought since then.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Brought {
    pub since: Recorded,
    pub orders_read_to: Recorded,
    /// Without those that were cancelled or refunded.
    #[serde(flatten)]
    pub all: Takings,
    /// By step; a message from before there were steps, or without any, is `-`.
    pub by_step: BTreeMap<String, Takings>,
    pub by_campaign: BTreeMap<String, Takings>,
    pub by_cart: u64,
    pub by_person: u64,
    pub cancelled: u64,
    pub refunded: u64,
    /// `None` where no one was held out.
    pub holdout: Option<Comparison>,
}

/// People by their first abandonment of the time, as planned: everyone to whom a message was to go, also who ordered before
/// it could, and everyone who was held out. Those whose time to order is not over are left out.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Comparison {
    pub treated: Arm,
    pub held_out: Arm,
    /// `None`: too few to tell.
    pub difference: Option<Difference>,
}
