//! What a ledger and a shop are asked, and what a person settles.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::examples;
use super::values::{Since, one_of, parse_reason, parse_since, parse_until};
use crate::domain::address::Address;
use crate::domain::span;
use crate::domain::state::State;

#[derive(Debug, Args)]
pub struct Log {
    /// Only these: ids as listed, message keys or Message-IDs
    #[arg(value_name = "ID")]
    pub messages: Vec<String>,
    /// Only this user id
    #[arg(long)]
    pub user: Option<String>,
    /// Only this address
    #[arg(long, value_parser = Address::parse)]
    pub address: Option<Address>,
    /// Only this cart
    #[arg(long)]
    pub cart: Option<String>,
    /// Only messages of this step of a flow
    #[arg(long, value_name = "NAME")]
    pub step: Option<String>,
    /// Only messages in this state
    #[arg(long, value_parser = one_of(State::ALL, State::word, State::of_word))]
    pub state: Option<State>,
    /// Only what was planned at or after this time, or as long ago at most: 2h
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub since: Option<Since>,
    /// At most so many, the newest [default: 100; of --jsonl all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub limit: Option<u64>,
    /// Print a JSON object in a line for each message, as long as the list may be
    #[arg(long, conflicts_with = "json")]
    pub jsonl: bool,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// An address, a cart, a Message-ID (or the id that `log` lists), or the token of an unsubscribe link
    pub what: String,
    /// It is a cart's id, whatever it looks like
    #[arg(long, conflicts_with = "address")]
    pub cart: bool,
    /// It is an address
    #[arg(long)]
    pub address: bool,
}

#[derive(Debug, Args)]
pub struct Recovered {
    /// Only orders placed at or after this time, or as long ago at most: 90d [default: 30d]
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub since: Option<Since>,
    /// Print the orders as CSV
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

#[derive(Debug, Args)]
pub struct Report {
    /// Write it as HTML to this file; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print it as text, which is also done without --html
    #[arg(long, conflicts_with = "json")]
    pub text: bool,
    /// Show messages planned in the last N days of UTC, today the last of them
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=36_500), conflicts_with = "since")]
    pub days: u32,
    /// Show what was planned at or after this time, or as long ago at most: 30d
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub since: Option<Since>,
    /// Show what was planned at or before this time, or as long ago at least; a date alone is the end of that day
    #[arg(long, value_name = "TIME", value_parser = parse_until)]
    pub until: Option<Since>,
    /// Show only this campaign
    #[arg(long, value_name = "ID")]
    pub campaign: Option<String>,
    /// Show addresses, cart ids and the mail server's words as they are; the page then says that it has personal data
    #[arg(long)]
    pub names: bool,
}

#[derive(Debug, Args)]
pub struct Resolve {
    /// Settle these by hand: ids as listed, message keys or Message-IDs
    #[arg(value_name = "ID", requires = "decision", conflicts_with_all = ["mail_log", "restored"])]
    pub messages: Vec<String>,
    /// Every message in doubt
    #[arg(long, requires = "decision", conflicts_with_all = ["messages", "mail_log", "restored"])]
    pub all: bool,
    /// Every message in this state: in_doubt, or refused (a cart's, for --resend)
    #[arg(long, conflicts_with_all = ["messages", "all", "mail_log", "accept", "restored"],
        value_parser = one_of(&[State::InDoubt, State::Refused], State::word, State::of_word))]
    pub state: Option<State>,
    /// Only what came to that state at or after this time, or as long ago at most: 2h
    #[arg(long, value_name = "TIME", requires = "state", value_parser = parse_since)]
    pub since: Option<Since>,
    /// The server took them over: they count as sent
    #[arg(long, group = "decision", requires = "reason")]
    pub sent: bool,
    /// The server did not take them over: plan them again, under the same Message-ID, from 15 minutes after the body was
    /// begun (a dead sender's socket may still deliver it until then). Also plans a refused cart message again
    #[arg(long, group = "decision", requires = "reason")]
    pub resend: bool,
    /// The server did not take them over, and they are not tried again
    #[arg(long, group = "decision", requires = "reason")]
    pub refused: bool,
    /// Why; kept in the ledger with the user and the time
    #[arg(long, requires = "decision", value_parser = parse_reason)]
    pub reason: Option<String>,
    /// Settle by evidence: a log of Postfix or Exim, plain or gzipped. The rotated ones beside it (FILE.1, FILE.2.gz) are
    /// read too, as far back as is needed. Repeat it for several
    #[arg(long, value_name = "FILE", conflicts_with = "restored")]
    pub mail_log: Vec<PathBuf>,
    /// The zone of times in the log that name none [default: this machine's]
    #[arg(long, value_name = "ZONE", requires = "mail_log")]
    pub timezone: Option<chrono_tz::Tz>,
    /// Take these off the list of what was missed, expired or paused: they are right as they are. Keys as listed, or `all`
    #[arg(long, value_name = "KEY", num_args = 1.., conflicts_with_all = ["messages", "all", "decision", "mail_log", "restored"])]
    pub accept: Vec<String>,
    /// After a backup of the ledger was put back: list what is due, which may have gone out since
    #[arg(long, conflicts_with_all = ["all", "decision"])]
    pub restored: bool,
    /// With --restored: hold all of it back for good (skipped: held_back) and let runs go on from here
    #[arg(long, requires = "restored")]
    pub hold_back: bool,
}

#[derive(Debug, Subcommand)]
pub enum Source {
    /// Print the queries in force, of the preset or of the configuration: to start one of your own from
    #[command(after_help = examples::SOURCE_QUERIES)]
    Queries,
    /// Show the first carts that are idle and within reach, addresses masked, and what would become of each
    ///
    /// Nothing is written, and the ledger is not asked: it may hold more against a cart. See `detect --dry-run`.
    #[command(after_help = examples::SOURCE_CARTS)]
    Carts {
        /// Only this one, however long ago it was touched
        #[arg(conflicts_with = "limit")]
        cart_id: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 5, value_name = "N")]
        limit: usize,
    },
}

#[derive(Debug, Args)]
pub struct Audit {
    /// A log of Postfix or Exim: each message in it exactly once, each one sent in its time in it. The rotated ones beside
    /// it (FILE.1, FILE.2.gz) are read too. Repeat it for several
    #[arg(long, value_name = "FILE")]
    pub mail_log: Vec<PathBuf>,
    /// The zone of times in the log that name none [default: this machine's]
    #[arg(long, value_name = "ZONE", requires = "mail_log")]
    pub timezone: Option<chrono_tz::Tz>,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// How long ago the last good run may be
    #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = span::parse)]
    pub expect_every: Duration,
    /// Look at a mail of mailonce as it arrived in a mailbox, and at nothing else: its signature, the ways to unsubscribe, what
    /// the receiving server says of it; `-` reads it from stdin
    #[arg(long, value_name = "FILE", conflicts_with = "expect_every")]
    pub received: Option<PathBuf>,
}
