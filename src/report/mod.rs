//! Values that are gathered once and shown in several ways: as prose, as JSON, on a page.

pub mod brought;
pub mod metrics;
pub mod page;
mod status;

pub use status::{PoolLeft, Status, Verdict};
