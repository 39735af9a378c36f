//! What the words mean: pure values and rules, with no clock, file, SQL or network behind them.

pub mod absent;
pub mod address;
pub mod back_off;
pub mod campaign;
pub mod cart;
pub mod column;
pub mod duplicates;
pub mod engine;
pub mod evidence;
pub mod fate;
pub mod filter;
pub mod flow;
pub mod holdout;
pub mod identity;
pub mod instant;
pub mod message_key;
pub mod money;
pub mod old_log;
pub mod opening;
pub mod recovery;
pub mod recurrence;
pub mod refusal;
pub mod span;
pub mod standing;
pub mod state;
pub mod web_address;
