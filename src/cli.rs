//! The command line. The doc comments here are the help text.

mod examples;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::domain::address::Address;
use crate::domain::instant::{self, Instant};
use crate::domain::locale::Locale;
use crate::domain::span;
use crate::domain::state::{Retried, State};
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

#[derive(Debug, Args)]
pub struct Detect {
    /// Write nothing; list who would get what, who would not, and why
    #[arg(long)]
    pub dry_run: bool,
    /// Try at once what waits for its next try, as after an outage
    #[arg(long, conflicts_with = "dry_run")]
    pub retry_now: bool,
    /// Only send one message about a cart of the shop to this address, marked as a test; the ledger does not know of it
    #[arg(long, value_name = "ADDRESS", value_parser = Address::parse, conflicts_with_all = ["dry_run", "retry_now"])]
    pub test_to: Option<Address>,
    /// The step whose message the test is; without, the first
    #[arg(long, value_name = "NAME", requires = "test_to")]
    pub step: Option<String>,
    /// Plan up to N new messages, for this once, where detect.max_per_run would stop it
    #[arg(long, value_name = "N")]
    pub allow: Option<u64>,
    /// Go on although the clock stands before what the ledger has recorded
    #[arg(long)]
    pub accept_clock: bool,
    /// Begin no further message after so long; a look at the carts that takes longer leaves a quarter of it for sending
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub time_budget: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct RunCampaigns {
    /// Write nothing; show the next occurrence of each campaign, its recipients' number and a rendered sample
    #[arg(long)]
    pub dry_run: bool,
    /// Only this campaign
    #[arg(long, value_name = "ID")]
    pub campaign: Option<String>,
    /// Try at once what waits for its next try, as after an outage
    #[arg(long, conflicts_with = "dry_run")]
    pub retry_now: bool,
    /// Open it although its audience has fewer than half the rows of the last opening: the list is right as it is
    #[arg(long, requires = "campaign")]
    pub accept_audience: bool,
    /// Go on although the clock stands before what the ledger has recorded
    #[arg(long)]
    pub accept_clock: bool,
    /// Begin no further message after so long
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub time_budget: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub enum Campaign {
    /// Show each campaign: zone, next and last run, totals, and the current occurrence's messages by state
    #[command(after_help = examples::CAMPAIGN_LIST)]
    List,
    /// List a campaign's occurrences, and who got one, who did not, and why
    #[command(after_help = examples::CAMPAIGN_SHOW)]
    Show {
        /// The campaign
        id: String,
        /// The recipients of this occurrence (its instant, as listed) instead of the newest opened one
        #[arg(long, value_name = "TIME", value_parser = parse_instant)]
        occurrence: Option<Instant>,
        /// Print the recipients as CSV
        #[arg(long, conflicts_with = "json")]
        csv: bool,
    },
    /// Add a definition to campaigns.toml, check it, and say when it will run first
    #[command(after_help = examples::CAMPAIGN_ADD)]
    Add(Box<CampaignAdd>),
    /// Send one message, rendered for the first of its audience and marked as a test; the ledger does not know of it
    #[command(after_help = examples::CAMPAIGN_TEST)]
    Test {
        /// The campaign
        id: String,
        /// Who gets it
        #[arg(long, value_name = "ADDRESS", value_parser = Address::parse)]
        to: Address,
    },
    /// Open nothing more and send nothing more, until resumed
    #[command(after_help = examples::CAMPAIGN_PAUSE)]
    Pause {
        /// The campaign
        id: String,
    },
    /// Go on after a pause; says what fell due meanwhile and will never open
    #[command(after_help = examples::CAMPAIGN_RESUME)]
    Resume {
        /// The campaign
        id: String,
    },
    /// Open nothing more, permanently; what is planned is not sent
    #[command(after_help = examples::CAMPAIGN_CANCEL)]
    Cancel {
        /// The campaign
        id: String,
    },
    /// Take a campaign's definition out of campaigns.toml, and cancel it; the rest of the file stays as it is
    #[command(after_help = examples::CAMPAIGN_REMOVE)]
    Remove {
        /// The campaign
        id: String,
    },
    /// Plan refused, expired or cancelled messages of an occurrence anew
    ///
    /// What the campaign's own template refused is written with the definition's, once that is corrected. With --template all
    /// of them are; it is tried on them first, and what is still planned of that occurrence is written with it, too.
    #[command(after_help = examples::CAMPAIGN_RETRY)]
    Retry {
        /// The campaign
        id: String,
        /// Which: repeat it for several
        #[arg(long, required = true, value_parser = one_of(Retried::ALL, Retried::word, Retried::of_word))]
        state: Vec<Retried>,
        /// Which occurrence (its instant, as listed), instead of the newest opened one
        #[arg(long, value_name = "TIME", value_parser = parse_instant)]
        occurrence: Option<Instant>,
        /// Write them with this template instead of the one it opened with; without FILE, with the template and subject
        /// that the definition has now
        #[arg(long, value_name = "FILE", num_args = 0..=1)]
        template: Option<Option<PathBuf>>,
    },
}

#[derive(Debug, Args)]
pub struct CampaignAdd {
    /// Its name from now on: letters, digits, `.`, `_` and `-`, at most 64
    pub id: String,
    /// The subject; may use the columns of the audience, as {{ name }}
    #[arg(long)]
    pub subject: String,
    /// Path of the template, as campaigns.toml will have it
    #[arg(long, value_name = "FILE")]
    pub template: String,
    /// CSV or JSON Lines with a column `email`
    #[arg(long, value_name = "FILE", required_unless_present = "sql", conflicts_with = "sql")]
    pub audience: Option<String>,
    /// A query on the source with a column `email`
    #[arg(long, value_name = "SELECT")]
    pub sql: Option<String>,
    /// Once, at this wall time: "2026-03-20 09:00"
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// By a cron expression of five fields: "0 9 * * MON"
    #[arg(long, value_name = "EXPRESSION", conflicts_with_all = ["at", "every"])]
    pub cron: Option<String>,
    /// Again and again: day, week or month; with --time, and --on for week and month
    #[arg(long, value_name = "PERIOD", conflicts_with = "at", requires = "time")]
    pub every: Option<String>,
    /// On which day: monday … sunday, or the day of the month
    #[arg(long, value_name = "DAY", requires = "every")]
    pub on: Option<String>,
    /// At which wall time: 09:00
    #[arg(long, value_name = "TIME", requires = "every")]
    pub time: Option<String>,
    /// The zone of these times, by its IANA name [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
}

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
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub limit: u64,
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
    /// Show what was planned at or before this time, or as long ago at least
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
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

#[derive(Debug, Subcommand)]
pub enum Coupon {
    /// Add the codes of a CSV file (columns code, expires_at) to a pool; those that are known already are counted
    #[command(after_help = examples::COUPON_IMPORT)]
    Import {
        /// The name of the pool, as `[[coupon]]` has it
        pool: String,
        /// The file to read
        file: PathBuf,
    },
    /// Show what each pool has; no code is shown
    #[command(after_help = examples::COUPON_LIST)]
    List,
    /// Let the codes of a pool go again that are held since an old copy of the ledger was put back
    #[command(after_help = examples::COUPON_RELEASE)]
    Release {
        /// The name of the pool
        pool: String,
    },
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

#[derive(Debug, Args)]
pub struct Preview {
    /// The cart to render, or `campaign` and the id of a campaign; without it, an example cart
    #[arg(value_name = "CART|campaign ID", num_args = 0..=2)]
    pub what: Vec<String>,
    /// The step of the flow to render; without, the one that is next for the cart, or the first
    #[arg(long, value_name = "NAME")]
    pub step: Option<String>,
    /// The folder to write to
    #[arg(long, default_value = "preview", value_name = "DIR")]
    pub out: PathBuf,
    /// As someone gets it who reads this language, such as `de` or `pt-BR`
    #[arg(long, value_name = "LANGUAGE", value_parser = parse_locale)]
    pub locale: Option<Locale>,
}

/// From when on: an instant, or a length of time before now.
#[derive(Debug, Clone, Copy)]
pub enum Since {
    At(Instant),
    Ago(Duration),
}

impl Since {
    pub fn from(self, now: Instant) -> Instant {
        match self {
            Since::At(at) => at,
            Since::Ago(span) => now.checked_sub_signed(span::delta(span)).unwrap_or(Instant::MIN_UTC),
        }
    }
}

fn parse_since(text: &str) -> Result<Since, String> {
    span::parse(text)
        .map(Since::Ago)
        .or_else(|_| parse_instant(text).map(Since::At))
        .map_err(|_| format!("{text:?} is neither a time such as 2026-03-01T08:00:00Z nor a length of time such as 2h"))
}

/// Takes one of these values by its word.
fn one_of<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    word: fn(T) -> &'static str,
    of_word: fn(&str) -> Option<T>,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().copied().map(word)).try_map(move |given| of_word(&given).ok_or("is unknown"))
}

/// Parses a window: whole seconds, at least one.
fn parse_window(text: &str) -> Result<Duration, String> {
    span::parse(text).and_then(|span| match span.as_secs() {
        0 => Err("must be at least 1s".into()),
        seconds => Ok(Duration::from_secs(seconds)),
    })
}

fn parse_reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    let sound = !text.is_empty() && !text.chars().any(char::is_control);
    sound.then(|| text.to_owned()).ok_or_else(|| "say why, in one line".to_owned())
}

/// Parses an instant; one without an offset is UTC.
fn parse_instant(text: &str) -> Result<Instant, String> {
    instant::parse(text, chrono_tz::Tz::UTC)
        .ok_or_else(|| format!("{text:?} is no time; write for example 2026-03-01T08:00:00Z"))
}

fn parse_locale(text: &str) -> Result<Locale, String> {
    Locale::parse(text).ok_or_else(|| "no language tag; write for example de or pt-BR".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// A command, and all below it, with the words that lead there.
    fn with_all_below(path: Vec<String>, command: clap::Command) -> Vec<(Vec<String>, clap::Command)> {
        let below = command.get_subcommands().filter(|below| below.get_name() != "help").cloned();
        let below = below.flat_map(|below| {
            let path = [path.clone(), vec![below.get_name().to_owned()]].concat();
            with_all_below(path, below)
        });
        let below: Vec<_> = below.collect();
        [vec![(path, command)], below].concat()
    }

    fn every_command() -> Vec<(Vec<String>, clap::Command)> {
        let all = with_all_below(vec!["mailonce".into()], Cli::command());
        assert!(all.len() > 30, "only {} commands were found", all.len());
        all
    }

    /// The lines of a command's examples, split into words as a shell does.
    fn examples_of(command: &clap::Command) -> Vec<Vec<String>> {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        // A line that goes on, as a shell takes it.
        let text = text.replace("\\\n", "");
        let lines = text.strip_prefix("Examples:\n").unwrap_or_default().lines();
        lines
            .map(|line| {
                let line = line.strip_prefix("  ").unwrap().split(" # ").next().unwrap();
                let quoted = line.split('"').enumerate().flat_map(|(at, part)| match at % 2 {
                    0 => part.split_whitespace().map(str::to_owned).collect(),
                    _ => vec![part.to_owned()],
                });
                quoted.collect()
            })
            .collect()
    }

    #[test]
    fn every_command_and_every_argument_has_its_text() {
        for (path, command) in every_command() {
            let path = path.join(" ");
            assert!(command.get_about().is_some(), "{path} has no text");
            for argument in command.get_arguments() {
                let text = argument.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(text.len() > 8, "{path}: {} has no text", argument.get_id());
                assert!(text.len() < 250, "{path}: the text of {} is too long to read", argument.get_id());
            }
        }
    }

    #[test]
    fn every_command_has_examples_that_are_understood() {
        for (path, command) in every_command() {
            let examples = examples_of(&command);
            assert!(!examples.is_empty(), "{} has no examples", path.join(" "));
            for example in examples {
                let is_of_it = path.iter().all(|word| example.contains(word));
                assert!(is_of_it, "{example:?} is no example of {}", path.join(" "));
                if let Err(err) = Cli::try_parse_from(&example) {
                    panic!("{example:?}: {err}");
                }
            }
        }
    }

    #[test]
    fn no_example_is_broken_by_a_terminal_of_eighty_columns() {
        for (path, command) in every_command() {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{}: {line:?} is too long", path.join(" "));
            }
        }
    }

    #[test]
    fn every_flag_stands_in_an_example_of_its_command() {
        for (path, command) in every_command() {
            let examples = examples_of(&command).concat();
            let flags = command.get_arguments().filter(|argument| path.len() == 1 || !argument.is_global_set());
            for flag in
                flags.filter_map(|argument| argument.get_long()).filter(|flag| !["help", "version"].contains(flag))
            {
                let there = examples.contains(&format!("--{flag}"));
                assert!(there, "{}: --{flag} stands in no example", path.join(" "));
            }
        }
    }
}
