//! What a run sends, and the campaigns and codes that it sends with.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::examples;
use super::values::{one_of, parse_instant, parse_locale};
use crate::domain::address::Address;
use crate::domain::instant::Instant;
use crate::domain::locale::Locale;
use crate::domain::span;
use crate::domain::state::Retried;

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
