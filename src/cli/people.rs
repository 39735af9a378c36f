//! Who is written to no more, what came back, and who is forgotten.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::examples;
use super::values::{Since, parse_reason, parse_since};
use crate::domain::address::Address;
use crate::domain::span;

#[derive(Debug, Subcommand)]
pub enum Suppress {
    /// Never write to these addresses again
    #[command(after_help = examples::SUPPRESS_ADD)]
    Add {
        /// One or more addresses
        #[arg(required = true, value_parser = Address::parse)]
        addresses: Vec<Address>,
        /// Why; kept with each address
        #[arg(long, default_value = "by hand")]
        reason: String,
    },
    /// Allow these addresses again
    #[command(after_help = examples::SUPPRESS_REMOVE)]
    Remove {
        /// One or more addresses
        #[arg(required_unless_present = "bounced_since", conflicts_with = "bounced_since", value_parser = Address::parse)]
        addresses: Vec<Address>,
        /// All addresses that were found dead at or after this time, or as long ago at most: they were not
        #[arg(long, value_name = "TIME", value_parser = parse_since)]
        bounced_since: Option<Since>,
        /// Why; asked for where the person behind the address wanted no more mail, and kept
        #[arg(long, value_parser = parse_reason)]
        reason: Option<String>,
    },
    /// List the addresses
    #[command(after_help = examples::SUPPRESS_LIST)]
    List,
}

#[derive(Debug, Args)]
pub struct Forget {
    /// One or more addresses
    #[arg(required = true, value_parser = Address::parse)]
    pub addresses: Vec<Address>,
}

#[derive(Debug, Args)]
pub struct Prune {
    /// Delete what was settled longer ago than this; 90 days at least, and no less than any window or cap
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub older_than: Duration,
    /// Only say how much that would be
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Bounces {
    /// One mail from stdin, as a mail server's pipe hands it over
    #[arg(value_name = "-", value_parser = ["-"], conflicts_with_all = ["maildir", "mbox", "again"])]
    pub pipe: Option<String>,
    /// The Maildir to read, instead of the configuration's; a mail that is done with moves from new/ to cur/
    #[arg(long, value_name = "DIR", conflicts_with = "mbox")]
    pub maildir: Option<PathBuf>,
    /// An mbox to read; it is not changed
    #[arg(long, value_name = "FILE")]
    pub mbox: Option<PathBuf>,
    /// Read also the mails in cur/, as after a backup of the ledger was put back
    #[arg(long)]
    pub again: bool,
    /// Take those dead addresses off the list that were held because there were so many: they are dead
    #[arg(long)]
    pub apply: bool,
}

#[derive(Debug, Args)]
pub struct Rates {
    /// Of what was sent at or after this time, or as long ago at most
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_since)]
    pub since: Since,
}

#[derive(Debug, Args)]
pub struct Unsubscribe {
    /// What stands for {unsubscribe} in the link; `-` reads them from stdin, one a line
    #[arg(value_name = "TOKEN", required = true, num_args = 1..)]
    pub tokens: Vec<String>,
    #[command(subcommand)]
    pub command: Option<UnsubscribeCommand>,
}

#[derive(Debug, Subcommand)]
pub enum UnsubscribeCommand {
    /// Put a new key before those that sign the links; links that are out stay good
    #[command(after_help = examples::UNSUBSCRIBE_ROTATE)]
    Rotate,
    /// Read the shop's own list of opt-outs now, as runs do, and say what is new
    #[command(after_help = examples::UNSUBSCRIBE_SOURCE)]
    Source {
        /// Take up to N new ones, where so many at once would stop a run
        #[arg(long, value_name = "N")]
        allow: Option<u64>,
    },
}
