//! The command line. The doc comments here are the help text.

mod adoption;
mod examples;
mod looking;
mod people;
mod sending;
#[cfg(test)]
mod tests;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::adoption::*;
pub use self::looking::*;
pub use self::people::*;
pub use self::sending::*;
use self::values::parse_instant;
use crate::domain::instant::Instant;
use crate::domain::span;
use crate::output::LogFormat;
use crate::shops::SHOPS;

/// Writes to people who left a cart behind, and sends scheduled campaigns: never the same message twice, none dropped in
/// silence. Started by cron every minute.
#[derive(Debug, Parser)]
#[command(name = "mailonce", version, max_term_width = 100, after_help = examples::MAILONCE)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The configuration file [default: ./mailonce.toml, then /etc/mailonce/mailonce.toml]
    #[arg(long, global = true, env = "MAILONCE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON document on stdout instead of prose
    #[arg(long, global = true)]
    pub json: bool,
    /// Print each decision, on stderr
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// How lines on stderr look: for people, or one JSON object a line
    #[arg(long, global = true, env = "MAILONCE_LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Use this as the current time (rehearsal ledgers and --dry-run only)
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_instant)]
    pub now: Option<Instant>,
    /// Wait up to this long for another run to end, instead of exiting with 75 at once
    #[arg(long, global = true, value_name = "SPAN", value_parser = span::parse)]
    pub wait: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the main job on an example shop, in a folder of its own; nothing leaves this machine
    #[command(after_help = examples::DEMO)]
    Demo(Demo),
    /// Write what is missing of configuration, templates and ledger; overwrite nothing
    #[command(after_help = examples::INIT)]
    Init(Init),
    /// Find abandoned carts and write to their owners, once each
    #[command(after_help = examples::DETECT)]
    Detect(Detect),
    /// Open the campaigns that are due, and send what they planned
    #[command(after_help = examples::RUN_CAMPAIGNS)]
    RunCampaigns(RunCampaigns),
    /// Look at campaigns and steer them
    #[command(subcommand, after_help = examples::CAMPAIGN)]
    Campaign(Campaign),
    /// Move duplicate rows of an older system's log aside: the first step of adopting it
    #[command(after_help = examples::CLEANUP_DUPLICATES)]
    CleanupDuplicates(CleanupDuplicates),
    /// Turn an older system's log into a ledger: columns, indexes, constraints; the second step of adopting it
    #[command(after_help = examples::ADD_INDEX)]
    AddIndex(AddIndex),
    /// Show open issues, counts by state, what is due, what is in doubt, the last runs
    #[command(after_help = examples::STATUS)]
    Status,
    /// Print numbers for monitoring, as Prometheus reads them
    ///
    /// `[metrics] file` has every run write them for node_exporter's textfile collector.
    #[command(after_help = examples::METRICS)]
    Metrics,
    /// List episodes and messages
    #[command(after_help = examples::LOG)]
    Log(Log),
    /// Say why someone got a mail or got none: by address, cart, Message-ID or unsubscribe token
    ///
    /// The answer comes first, then what happened in the order of time, then every rule with the value that was found, then what
    /// would change it. It looks at the whole shop, as a run does, which takes some seconds where there are hundreds of thousands of
    /// carts. Nothing is written, and no lock is taken. Exit 1 where nothing is known.
    #[command(after_help = examples::EXPLAIN)]
    Explain(Explain),
    /// List the orders that followed a mail, and what they come to
    #[command(after_help = examples::RECOVERED)]
    Recovered(Recovered),
    /// Write a page about what the mail did, by day, step and campaign, and what needs a person: exit 1 when something does
    ///
    /// One file of HTML that needs no network and no script. A message counts once, on the day on which it was planned, as what it
    /// is now. Addresses are masked unless --names is given. The file is put in its place whole, readable by its owner and group.
    #[command(after_help = examples::REPORT)]
    Report(Report),
    /// List what waits for a person: messages in doubt, and what was missed, expired or paused; and settle it
    ///
    /// Without options it lists them, with all that is known. Messages in doubt are settled by a mail log or by hand; what
    /// is right as it is, by --accept. With --mail-log under cron it says nothing while no one is
    /// needed: what the log settles is recorded in silence (-v says it); exit 1 and a line, once, for what stays in doubt
    /// an hour after its body was begun and for what the log contradicts. After a restored backup: --restored.
    #[command(after_help = examples::RESOLVE)]
    Resolve(Resolve),
    /// Keep the list of addresses that are never written to
    #[command(subcommand, after_help = examples::SUPPRESS)]
    Suppress(Suppress),
    /// Take all that tells who a person is out of the ledger, and never write to them again
    ///
    /// Every row that names the address names a keyed hash instead: that a message was sent stays known, and the opt-out. It
    /// cannot be undone; `suppress remove` lets a person be written to again about what comes after.
    #[command(after_help = examples::FORGET)]
    Forget(Forget),
    /// Delete what was settled long ago; the counts of it stay
    #[command(after_help = examples::PRUNE)]
    Prune(Prune),
    /// Take those off the list of recipients whose unsubscribe links carry these tokens
    ///
    /// For a shop's own page behind the link. It can be repeated. Without a web server's help: `[unsubscribe] spool` is a folder
    /// where the page leaves a file for each, and runs look into it.
    #[command(after_help = examples::UNSUBSCRIBE, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Unsubscribe(Unsubscribe),
    /// Hear what came back: bounces, complaints, mails that ask to be taken off
    ///
    /// Reads a Maildir, an mbox, or one mail from stdin, and never deletes any. A mail counts once, however often it is read, and
    /// only by a token or Message-ID of this ledger. Dead addresses and complaints go on the suppression list; a report that
    /// returns a message's header settles it where it is in doubt; a campaign of which too much comes back is paused.
    /// After a pipe (`-`) the exit code is 0, or 75 for: hand it over again.
    #[command(after_help = examples::BOUNCES)]
    Bounces(Bounces),
    /// Say how many bounces, complaints and unsubscribes came back per thousand, by step and campaign
    #[command(after_help = examples::RATES)]
    Rates(Rates),
    /// Fill the pools of coupon codes, and see what is left of them
    #[command(subcommand, after_help = examples::COUPON)]
    Coupon(Coupon),
    /// Bring data over from elsewhere
    #[command(subcommand, after_help = examples::IMPORT)]
    Import(Import),
    /// Look at what is read of the shop
    #[command(subcommand, after_help = examples::SOURCE)]
    Source(Source),
    /// Render the message for one cart, or of one campaign, into files to look at, without touching the ledger
    #[command(after_help = examples::PREVIEW)]
    Preview(Preview),
    /// Check every invariant of the ledger, and against the mail server's log: exit 0, or 1 and a line for each violation
    #[command(after_help = examples::AUDIT)]
    Audit(Audit),
    /// Look at everything a run needs, send nothing, and name the remedy: exit 1 when something must be mended
    #[command(after_help = examples::DOCTOR)]
    Doctor(Doctor),
    /// Print the man page, or write it and one for each command into a folder
    #[command(after_help = examples::MAN)]
    Man {
        /// The folder to write the pages to
        #[arg(long, value_name = "FOLDER")]
        into: Option<PathBuf>,
    },
    /// Print what a shell needs to complete commands and options with the tab key
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Command {
    /// Whether what it says is all that it is for, so that it can as well be started again.
    pub fn only_tells(&self) -> bool {
        match self {
            Command::Detect(args) => args.dry_run,
            Command::RunCampaigns(args) => args.dry_run,
            Command::Campaign(of) => matches!(of, Campaign::List | Campaign::Show { .. }),
            Command::Suppress(of) => matches!(of, Suppress::List),
            Command::Coupon(of) => matches!(of, Coupon::List),
            Command::Resolve(args) => {
                let settles = args.sent || args.resend || args.refused || args.hold_back;
                !settles && args.mail_log.is_empty() && args.accept.is_empty()
            }
            Command::Status
            | Command::Metrics
            | Command::Log(_)
            | Command::Explain(_)
            | Command::Recovered(_)
            | Command::Report(_)
            | Command::Rates(_)
            | Command::Source(_)
            | Command::Preview(_)
            | Command::Audit(_)
            | Command::Doctor(_)
            | Command::Man { .. }
            | Command::Completions { .. } => true,
            _ => false,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub struct Demo {
    /// The folder to make; one that is there already must be empty, or as `demo` left it
    #[arg(default_value = "mailonce-demo")]
    pub dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct Init {
    /// Make a rehearsal ledger: it sends only to files or to a server on this machine, permanently
    #[arg(long)]
    pub rehearsal: bool,
    /// Write a configuration for this kind of shop, and print the rights that its database must grant
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(SHOPS.iter().map(|shop| shop.name)))]
    pub shop: Option<String>,
    /// Where the ledger is to be, for the configuration that it writes [default: mailonce.db beside it]
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
}
