//! An older system's `cart_abandonment_log` on its way into a ledger. A shop goes one of two ways.
//!
//! **The file becomes the ledger.** Until it is one, it is an [`OldLog`], which no other command touches:
//!
//! 1. `survey.rs`: which rows are duplicates of which. Nothing is written.
//! 2. The duplicates are moved aside, and the rows that stay learn of the latest mail.
//! 3. They can be put back, until it is adopted.
//! 4. `adopt.rs`: the old tables are set aside and their rows taken over. From here on it is a [`crate::ledger::Ledger`].
//!
//! **The rows come into a ledger.** `import.rs` adds them, each once; then steps 1 and 2, there too. Those cannot be undone.
//!
//! Each step is one transaction: killed at any instant, the file is as before it or as after it. `table.rs` is a table of
//! old rows with whatever columns it has, `rows.rs` writes a row into ours. What a row and its columns mean is in
//! `domain::old_log`, how a dump is read in `source::old_log`. This is a part of the ledger's room because its SQL writes
//! the ledger's tables: the last line of step 4 makes a file a ledger, and steps 1 and 2 run inside ledgers too.

mod adopt;
mod import;
mod old_log;
mod rows;
mod survey;
mod table;

pub use adopt::{Adopted, Adoption};
pub use old_log::{OldLog, Restored};
pub use survey::{Rules, Survey, no_zone, span};
