//! The command line. The doc comments here are the help text.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::domain::address::Address;
use crate::domain::instant::{self, Instant};

/// Writes to people who left a cart behind, and sends scheduled campaigns: never the same message twice, none dropped in
/// silence. Started by cron every minute.
#[derive(Debug, Parser)]
#[command(name = "mailonce", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct Global {
    /// The configuration file [default: ./mailonce.toml, then /etc/mailonce/mailonce.toml]
    #[arg(long, global = true, env = "MAILONCE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON document on stdout instead of prose
    #[arg(long, global = true)]
    pub json: bool,
    /// Say each decision, on stderr
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Take this for the present instant (rehearsal ledgers and --dry-run only)
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_instant)]
    pub now: Option<Instant>,
    /// Wait so long for another run to end, instead of leaving with exit code 75 at once
    #[arg(long, global = true, value_name = "SPAN", value_parser = parse_span)]
    pub wait: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the main job on an example shop, in a folder of its own; nothing leaves this machine
    Demo(Demo),
    /// Write what is missing of configuration, templates and ledger; overwrite nothing
    Init(Init),
    /// Find abandoned carts and write to their owners, once each
    Detect(Detect),
    /// Show what stands: counts by state, what is due, what is in doubt, the last runs
    Status,
    /// List episodes and messages
    Log(Log),
    /// List messages in doubt, and what is due after a restored backup
    Resolve(Resolve),
    /// Keep the list of addresses that are never written to
    #[command(subcommand)]
    Suppress(Suppress),
    /// Bring data over from elsewhere
    #[command(subcommand)]
    Import(Import),
    /// Render the message for one cart into files to look at, without touching the ledger
    Preview(Preview),
}

#[derive(Debug, Args)]
pub struct Demo {
    /// The folder to make
    #[arg(default_value = "mailonce-demo")]
    pub dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct Init {
    /// Make a rehearsal ledger: it sends only to files or to a server on this machine, for ever
    #[arg(long)]
    pub rehearsal: bool,
}

#[derive(Debug, Args)]
pub struct Detect {
    /// Write nothing; list who would get what, who would not, and why
    #[arg(long)]
    pub dry_run: bool,
    /// Plan up to N new messages, for this once, where detect.max_per_run would stop it
    #[arg(long, value_name = "N")]
    pub allow: Option<u64>,
    /// Go on although the clock stands before what the ledger has recorded
    #[arg(long)]
    pub accept_clock: bool,
    /// Begin no further message after so long
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub time_budget: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct Log {
    /// Only this user id
    #[arg(long)]
    pub user: Option<String>,
    /// Only this address
    #[arg(long, value_parser = Address::parse)]
    pub address: Option<Address>,
    /// Only this cart
    #[arg(long)]
    pub cart: Option<String>,
    /// Only messages in this state
    #[arg(long, value_parser = ["planned", "armed", "sent", "refused", "skipped", "in_doubt"])]
    pub state: Option<String>,
    /// Only what was planned at or after this time
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    pub since: Option<Instant>,
    /// At most so many, the newest
    #[arg(long, default_value_t = 100)]
    pub limit: u64,
}

#[derive(Debug, Args)]
pub struct Resolve {
    /// After a backup of the ledger was put back: list what is due, which may have gone out since
    #[arg(long)]
    pub restored: bool,
    /// With --restored: hold all of it back (skipped: cancelled) and let runs go on from here
    #[arg(long, requires = "restored")]
    pub hold_back: bool,
}

#[derive(Debug, Subcommand)]
pub enum Suppress {
    /// Never write to these addresses again
    Add {
        #[arg(required = true, value_parser = Address::parse)]
        addresses: Vec<Address>,
        /// Why
        #[arg(long, default_value = "by hand")]
        reason: String,
    },
    /// Allow these addresses again
    Remove {
        #[arg(required = true, value_parser = Address::parse)]
        addresses: Vec<Address>,
    },
    /// List the addresses
    List,
}

#[derive(Debug, Subcommand)]
pub enum Import {
    /// Add the addresses of a file to the suppression list: one a line, or CSV with a column `email` or `address`
    Suppressions {
        file: PathBuf,
        /// Why, where the file has no column `reason`
        #[arg(long, default_value = "imported")]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub struct Preview {
    /// The cart to render; without it, an example cart
    pub cart_id: Option<String>,
    /// The folder to write to
    #[arg(long, default_value = "preview", value_name = "DIR")]
    pub out: PathBuf,
}

/// Parses a length of time such as `90s`, `30m`, `24h`, `3d`.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|span| span.as_secs() <= 10 * 366 * 24 * 3600)
        .ok_or_else(|| format!("{text:?} is no length of time; write for example 90s, 30m, 24h or 3d"))
}

/// Parses an instant; one without an offset is UTC.
fn parse_instant(text: &str) -> Result<Instant, String> {
    instant::parse(text, chrono_tz::Tz::UTC)
        .ok_or_else(|| format!("{text:?} is no time; write for example 2026-03-01T08:00:00Z"))
}
