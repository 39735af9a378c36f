//! What the flags, the environment and the configuration file say, checked once into one value.

mod bounces;
mod bounds;
pub mod campaigns;
mod checker;
mod detect;
mod dkim;
mod file;
mod monitoring;
mod preset;
mod recovery;
mod server;
mod unsubscribe;

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;

use crate::dkim::Signer;
use crate::domain::address::Mailbox;
use crate::domain::bounce::StopAt;
use crate::domain::caps::Cap;
use crate::domain::coupon::Pool;
use crate::domain::filter::Filter;
use crate::domain::flow::Step;
use crate::domain::holdout::Holdout;
use crate::domain::instant::Instant;
use crate::domain::locale::Locale;
use crate::domain::send_window::SendWindow;
use crate::domain::subject::Subject;
use crate::domain::unsubscribe::{Keys, Scope};
use crate::domain::variant::Variant;
use crate::failure::Failure;
use crate::ledger::Place;
use crate::shops::Preset;

pub use server::{Encryption, Endpoint, ServerSettings};
use unsubscribe::SIGNED;

/// Everything a command needs to know, checked. Paths are absolute or relative to the working directory.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the configuration file.
    pub folder: PathBuf,
    pub ledger: PathBuf,
    /// File systems that may hold the ledger besides those known to be sound, by the type `findmnt` shows.
    pub trusted_file_systems: Vec<String>,
    pub shop: ShopSettings,
    pub source: SourceSettings,
    pub mail: MailSettings,
    pub unsubscribe: UnsubscribeSettings,
    pub bounces: BouncesSettings,
    /// `[metrics]`; `None`: none are written.
    pub metrics: Option<MetricsSettings>,
    pub heartbeat: HeartbeatSettings,
    pub transport: TransportSettings,
    pub limits: Limits,
    pub detect: DetectSettings,
    /// `[holdout]`; `None`: everyone is written to.
    pub holdout: Option<Holdout>,
    /// `[attribution]`: an order counts as recovered so long after a message; `None`: orders are not read.
    pub attribution: Option<Duration>,
    pub campaigns: CampaignSettings,
    /// When mail may leave; `None` is always. A campaign may have its own.
    pub send_window: Option<SendWindow>,
    pub caps: CapSettings,
    /// `[[coupon]]`: the pools of codes.
    pub pools: Vec<Pool>,
}

/// `[shop]`: who writes.
#[derive(Debug, Clone)]
pub struct ShopSettings {
    pub name: String,
    pub url: String,
    /// A picture on an `https:` page.
    pub logo: Option<String>,
    /// The postal address, a line each; none is empty.
    pub address: Option<String>,
    /// The language of those whose own is not known (English).
    pub locale: Locale,
    pub timezone: Tz,
}

/// `[source]`: where carts and orders are read.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    pub kind: SourceKind,
    /// The zone of times that have none of their own.
    pub timezone: Tz,
    /// Names of shoppers and goods have character references (`&amp;`), which are undone.
    pub html_names: bool,
    /// Carts touched between two instants, one row per cart line; binds `:idle_before`, `:not_before`.
    pub carts: Option<String>,
    /// The same for one cart; binds `:cart_id`.
    pub cart: Option<String>,
    /// Any row means ordered; binds `:cart_id`, `:user_id`, `:email`, `:since`.
    pub ordered: Option<String>,
    /// Orders placed since then, to be held against the mail; binds `:since`, `:since_unix`.
    pub orders: Option<String>,
    /// Whose queries those are, where none is configured.
    pub preset: Option<Preset>,
}

/// The kinds of source, and where each is.
#[derive(Debug, Clone)]
pub enum SourceKind {
    Sqlite(PathBuf),
    JsonLines(PathBuf),
    Csv(PathBuf),
    Server(ServerSettings),
}

impl SourceKind {
    /// The kind and the place, for people: `SQLite shop.db`.
    pub fn described(&self) -> String {
        match self {
            SourceKind::Sqlite(path) => format!("SQLite {}", path.display()),
            SourceKind::JsonLines(path) => format!("JSON Lines {}", path.display()),
            SourceKind::Csv(path) => format!("CSV {}", path.display()),
            SourceKind::Server(server) => format!("{} {}", server.engine.name(), server.described()),
        }
    }

    /// Whether it is a database, which answers queries.
    pub fn answers_queries(&self) -> bool {
        matches!(self, SourceKind::Sqlite(_) | SourceKind::Server(_))
    }
}

/// `[mail]`: how every message is addressed.
#[derive(Debug, Clone)]
pub struct MailSettings {
    pub from: Mailbox,
    pub reply_to: Option<Mailbox>,
    /// `mailto:` or `https:`, at most one of each kind; may hold `{unsubscribe}`, `{token}` and `{email}`. The first is the link
    /// in templates.
    pub unsubscribe: Vec<String>,
    /// What `{unsubscribe}` is signed with; there are keys where a link has it, unless this user may not read them and needs none.
    pub keys: Option<Keys>,
    /// Of List-Id: each list is a label before it.
    pub list_domain: String,
    /// The last field of Feedback-ID; without, there is none.
    pub feedback_sender: Option<String>,
    /// The envelope sender with `{token}`, and perhaps `{id}`, in it; without, the address of `from`.
    pub envelope: Option<String>,
    /// `[mail.dkim]`; `None`: the relay signs, or who asks may not read the key.
    pub dkim: Option<Signer>,
}

/// What is told to a shop's monitoring, and of which ledger.
#[derive(Debug, Clone)]
pub struct Monitoring {
    pub ledger: PathBuf,
    trusted_file_systems: Vec<String>,
    pub metrics: Option<MetricsSettings>,
    pub heartbeat: HeartbeatSettings,
    /// The names of the configured steps.
    pub steps: Vec<String>,
    pub pools: Vec<Pool>,
}

impl Monitoring {
    /// Reads it, also where the rest of the configuration is wrong: steps and pools are not known then.
    ///
    /// # Errors
    /// Exit 78: no configuration, no TOML, or just this part of it is wrong.
    pub fn read(flag: Option<&Path>) -> Result<Monitoring, Failure> {
        let path = find(flag)?;
        file::read(&path, Secrets::NotNeeded).map(Monitoring::from).or_else(|_| file::read_monitoring(&path))
    }

    /// Where the ledger is, and what is trusted to hold it.
    pub fn place(&self) -> Place<'_> {
        Place { path: &self.ledger, trusted: &self.trusted_file_systems }
    }
}

impl From<Settings> for Monitoring {
    fn from(settings: Settings) -> Monitoring {
        Monitoring {
            ledger: settings.ledger,
            trusted_file_systems: settings.trusted_file_systems,
            metrics: settings.metrics,
            heartbeat: settings.heartbeat,
            steps: settings.detect.steps.into_iter().map(|step| step.step.name).collect(),
            pools: settings.pools,
        }
    }
}

/// `[metrics]`: where the numbers for monitoring are written after each run.
#[derive(Debug, Clone)]
pub struct MetricsSettings {
    pub file: PathBuf,
    /// What the label `ledger` of each says; without, they have none.
    pub ledger: Option<String>,
}

/// `[heartbeat]`: what is called when a run begins and ends.
#[derive(Debug, Clone, Default)]
pub struct HeartbeatSettings {
    /// By the command. Whoever knows one can pretend that the runs take place: they are shown nowhere.
    pub urls: std::collections::BTreeMap<&'static str, String>,
}

/// `[bounces]`: what comes back about messages.
#[derive(Debug, Clone)]
pub struct BouncesSettings {
    /// Where it lies, unless the command line names another place.
    pub maildir: Option<PathBuf>,
    /// Who alone is believed that a mail comes from whom it says, by the name in Authentication-Results (RFC 8601 §2.5), in
    /// lower case.
    pub trusted_authserv: Option<String>,
    /// What stops a campaign.
    pub stop_at: StopAt,
}

/// `[unsubscribe]`: how those are heard who want no more mail.
#[derive(Debug, Clone)]
pub struct UnsubscribeSettings {
    /// What they leave.
    pub scope: Scope,
    /// The file of the keys that links are signed with.
    pub keys_file: PathBuf,
    /// The folder where the shop's page leaves a file for each.
    pub spool: Option<PathBuf>,
    /// The shop's own list.
    pub opt_outs: Option<OptOuts>,
}

impl MailSettings {
    /// Whether links are signed.
    pub fn signs_links(&self) -> bool {
        self.unsubscribe.iter().any(|link| link.contains(SIGNED))
    }
}

/// Where the shop's own list of those who want no mail is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptOuts {
    /// A query on the source; may bind `:since` and `:since_unix`.
    Query(String),
    File(PathBuf),
}

/// `mail.transport` and the table that belongs to it.
#[derive(Debug, Clone)]
pub enum TransportSettings {
    /// `[mail.file]`: the folder that messages are written to.
    File {
        dir: PathBuf,
    },
    Smtp(SmtpSettings),
}

/// How the connection to the server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    Starttls,
    Implicit,
    None,
}

/// `[mail.smtp]`.
#[derive(Clone)]
pub struct SmtpSettings {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    /// User name and password; the password is never printed.
    pub credentials: Option<(String, String)>,
    /// Sessions at once, 1 to 64.
    pub connections: usize,
    /// For the TCP connection, TLS, the greeting and the first EHLO, each (30 s).
    pub connect_timeout: Duration,
    /// For each further reply up to the 354 (120 s).
    pub timeout: Duration,
    /// For the reply to the final dot: 600 s (RFC 5321 §4.5.3.2.6).
    pub dot_timeout: Duration,
    /// A PEM file with a certificate authority to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The name said in EHLO; without, the host's own.
    pub hello: Option<String>,
}

impl std::fmt::Debug for SmtpSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmtpSettings").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl SmtpSettings {
    /// Whether the server is on this machine by name: `localhost`, 127.0.0.0/8 or ::1.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// `[mail.limits]`: off unless set; counted over all commands and runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    pub per_second: Option<u32>,
    pub per_hour: Option<u32>,
}

/// `[detect]`.
#[derive(Debug, Clone)]
pub struct DetectSettings {
    /// A cart untouched for this long is abandoned (60m).
    pub idle: Duration,
    /// A cart untouched for longer than this is left alone, and a message for it expires (72h).
    pub max_age: Duration,
    /// How long one message for the same shopper and contents keeps the next away (24h).
    pub window: Duration,
    /// The wait after a first deferral; it doubles up to an hour (2m).
    pub retry_after: Duration,
    /// Carts touched before are left alone; `None` means the ledger's birth.
    pub since: Option<Instant>,
    /// Whether a cart that says nothing about consent may be written to (absent is no).
    pub consent_assumed: bool,
    /// Messages for one identity and cart, over all contents (3).
    pub max_per_cart: u32,
    /// More than this many new messages in one run are a mistake until a person says otherwise (1000).
    pub max_per_run: u64,
    /// Without one configured, the words of the language the message is written in.
    pub subject: Subject,
    /// `None` means the template that is built in.
    pub template: Option<PathBuf>,
    /// Which carts are left out for what is in them.
    pub filter: Filter,
    /// `[[detect.step]]`, in the order of `after`; none: one message for each abandonment.
    pub steps: Vec<StepSettings>,
}

/// `[caps]`: how much mail one person gets.
#[derive(Debug, Clone, Default)]
pub struct CapSettings {
    /// Over carts and campaigns; each has another length.
    pub per_person: Vec<Cap>,
    /// Nothing about a cart goes to someone who has ordered within this long.
    pub quiet_after_order: Option<Duration>,
}

/// `[[detect.step]]`.
#[derive(Debug, Clone)]
pub struct StepSettings {
    pub step: Step,
    /// Its own, or that of `[detect]`.
    pub subject: Subject,
    /// The same.
    pub template: Option<PathBuf>,
    /// Some get one of these instead, each as often as its weight has it; none: all get the step's own.
    pub variants: Vec<VariantSettings>,
}

/// `[[detect.step.variant]]`.
#[derive(Debug, Clone)]
pub struct VariantSettings {
    pub variant: Variant,
    /// Its own, or that of its step.
    pub subject: Subject,
    /// The same.
    pub template: Option<PathBuf>,
}

/// `[campaigns]`: where campaigns are defined, and what holds for each that does not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CampaignSettings {
    /// `None` when none is named and there is no `campaigns.toml` beside the configuration.
    pub file: Option<PathBuf>,
    /// Openings of one campaign are at least this far apart (10m).
    pub min_gap: Duration,
    /// An occurrence is not opened later than this after its instant (6h).
    pub max_lateness: Duration,
    /// Messages expire this long after the occurrence's instant (72h).
    pub send_until: Duration,
}

impl Default for CampaignSettings {
    fn default() -> CampaignSettings {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        CampaignSettings {
            file: None,
            min_gap: minutes(10),
            max_lateness: minutes(6 * 60),
            send_until: minutes(72 * 60),
        }
    }
}

impl CampaignSettings {
    /// Whether the lengths of time can be kept; if not, the key and what would be right.
    fn check_spans(&self) -> Result<(), (&'static str, &'static str)> {
        if self.min_gap < Duration::from_secs(1) {
            return Err(("min_gap", "must be at least 1s; write for example \"10m\""));
        }
        if self.max_lateness < Duration::from_secs(60) {
            return Err((
                "max_lateness",
                "must be at least 1m, as cron starts no more often; write for example \"6h\"",
            ));
        }
        if self.send_until <= self.max_lateness {
            return Err(("send_until", "must be longer than max_lateness; write for example \"72h\""));
        }
        Ok(())
    }
}

/// Whether the passwords that a configuration names are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Secrets {
    Needed,
    /// One that this user may not read is none, and so is one that only the crontab sets.
    NotNeeded,
}

impl Settings {
    /// Where the ledger is, and what is trusted to hold it.
    pub fn place(&self) -> Place<'_> {
        Place { path: &self.ledger, trusted: &self.trusted_file_systems }
    }

    /// Reads and checks the configuration file.
    ///
    /// # Errors
    /// Exit 78: no file, unreadable, an unknown key (the nearest right one is named), a value out of its bounds.
    pub fn read(flag: Option<&Path>) -> Result<Settings, Failure> {
        file::read(&find(flag)?, Secrets::Needed)
    }

    /// The same for a command that needs no password: one that is not for this user is none.
    pub fn read_without_secrets(flag: Option<&Path>) -> Result<Settings, Failure> {
        file::read(&find(flag)?, Secrets::NotNeeded)
    }
}

/// The places where the configuration is looked for, after `--config` and `$MAILONCE_CONFIG`.
const PLACES: [&str; 2] = ["mailonce.toml", "/etc/mailonce/mailonce.toml"];

fn find(flag: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(named) = flag {
        return match named.exists() {
            true => Ok(named.to_owned()),
            false => Err(Failure::config(
                format!("there is no configuration file {}", named.display()),
                "name an existing one with --config, or make one with `mailonce init`",
            )),
        };
    }
    PLACES.iter().map(PathBuf::from).find(|place| place.is_file()).ok_or_else(|| {
        Failure::config(
            "no configuration: neither ./mailonce.toml nor /etc/mailonce/mailonce.toml exists",
            "make one with `mailonce init`, or name one with --config or $MAILONCE_CONFIG",
        )
    })
}
