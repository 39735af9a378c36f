//! What is brought over from an older system.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::examples;
use super::values::parse_window;

/// Of the rows of one shopper and cart hash, the best stays (mailed before not mailed, then the oldest, then the lowest
/// id), and each less than the window before or after it moves to the table removed_duplicate. Rows that have a message
/// are never touched.
#[derive(Debug, Args)]
pub struct CleanupDuplicates {
    /// Rows of one shopper and cart this far apart are no duplicates
    #[arg(long, default_value = "24h", value_name = "SPAN", value_parser = parse_window)]
    pub window: Duration,
    /// The zone of times that have none of their own
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<chrono_tz::Tz>,
    /// Write nothing; say what would be moved
    #[arg(long)]
    pub dry_run: bool,
    /// Put everything back, until add-index has run
    #[arg(long, conflicts_with_all = ["dry_run", "window", "timezone"])]
    pub restore: bool,
}

/// One transaction: the older system's table stays beside the new one as old_log. On a ledger it adds what is missing.
#[derive(Debug, Args)]
pub struct AddIndex {
    /// Make a rehearsal ledger: it sends only to files or to a server on this machine, permanently
    #[arg(long)]
    pub rehearsal: bool,
    /// Rows of one shopper and cart this far apart are no duplicates [default: as cleanup-duplicates was told, else 24h]
    #[arg(long, value_name = "SPAN", value_parser = parse_window)]
    pub window: Option<Duration>,
    /// The zone of times that have none of their own [default: as cleanup-duplicates was told]
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<chrono_tz::Tz>,
    /// Leave rows that cannot be read in old_log only, where they keep no one from being mailed
    #[arg(long)]
    pub set_aside: bool,
    /// Write nothing; say what would be done
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum Import {
    /// Add the addresses of a file to the suppression list: one a line, or CSV with a column `email` or `address`
    #[command(after_help = examples::IMPORT_SUPPRESSIONS)]
    Suppressions {
        /// The file to read
        file: PathBuf,
        /// Why, where the file has no column `reason`
        #[arg(long, default_value = "imported")]
        reason: String,
    },
    /// Bring an older system's cart_abandonment_log into the ledger: a dump as CSV, JSON Lines or an SQLite file, or the
    /// table in the shop's own database
    ///
    /// Columns are matched by name: user_id or email, cart_hash, email_sent, created_at; id, cart_id, cart_value, currency,
    /// last_sent_at where there are; others are kept as JSON in `extra`. A row is known by shopper, cart_hash and
    /// created_at: one that is there already under the same id (or without one) is not added again, and under another id
    /// it is a copy, which goes to removed_duplicate. A mailed row whose time cannot be read counts as mailed now. All
    /// rows are imported, or none when the file cannot be read to its end; into a live ledger also when one of them is bad.
    #[command(after_help = examples::IMPORT_LOG)]
    Log(ImportLog),
    /// Take over the scheduled campaigns of an older system: a JSON list of objects with `campaign_id`, `schedule_time` …
    #[command(after_help = examples::IMPORT_SCHEDULES)]
    Schedules {
        /// The file to read
        file: PathBuf,
        /// The zone of times that have none of their own
        #[arg(long, default_value = "UTC")]
        timezone: chrono_tz::Tz,
    },
}

/// What an older system calls its log.
pub const OLD_LOG_TABLE: &str = "cart_abandonment_log";

#[derive(Debug, Args)]
pub struct ImportLog {
    /// The file to read
    #[arg(required_unless_present = "source", conflicts_with = "source")]
    pub file: Option<PathBuf>,
    /// Read it from the shop's own database, as `source` has it
    #[arg(long)]
    pub source: bool,
    /// The zone of times that have none of their own
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<chrono_tz::Tz>,
    /// The table to read, where it is read from a database
    #[arg(long, default_value = OLD_LOG_TABLE)]
    pub table: String,
    /// Write nothing; say what would come in, and what would not and why
    #[arg(long)]
    pub dry_run: bool,
    /// All rows come in, or none if one of them is bad (exit 65); so it is into a live ledger anyway
    #[arg(long, conflicts_with = "lenient")]
    pub strict: bool,
    /// Leave bad rows out and bring in the others, into a live ledger, too
    #[arg(long)]
    pub lenient: bool,
}
