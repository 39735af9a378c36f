//! The configuration file: its keys as written, and the checks that turn them into [`Settings`].

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;
use serde::Deserialize;

use super::detect::Detect;
use super::recovery::{AttributionTable, HoldoutTable};
use super::*;
use crate::domain::address::Address;
use crate::domain::engine::Engine;
use crate::domain::span;
use crate::domain::web_address::is_web_address;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    ledger: String,
    #[serde(default)]
    trusted_file_systems: Vec<String>,
    shop: Shop,
    source: Source,
    mail: Mail,
    #[serde(default)]
    detect: Detect,
    holdout: Option<HoldoutTable>,
    attribution: Option<AttributionTable>,
    #[serde(default)]
    campaigns: Campaigns,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shop {
    name: String,
    url: String,
    #[serde(default)]
    timezone: Zone,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub kind: Option<Kind>,
    pub shop: Option<String>,
    path: Option<String>,
    pub url: Option<String>,
    socket: Option<String>,
    password_file: Option<String>,
    password_env: Option<String>,
    tls: Option<Encryption>,
    ca_file: Option<String>,
    timeout: Option<Span>,
    pub timezone: Option<Zone>,
    pub table_prefix: Option<String>,
    pub stores: Option<Vec<u32>>,
    pub base_url: Option<String>,
    pub language: Option<String>,
    pub recovery_url: Option<String>,
    html_names: Option<bool>,
    pub carts: Option<String>,
    pub cart: Option<String>,
    ordered: Option<String>,
    orders: Option<String>,
}

/// The word in `source.kind`.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Sqlite,
    Jsonl,
    Csv,
    Mysql,
    Postgres,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mail {
    from: String,
    reply_to: Option<String>,
    unsubscribe: Option<Links>,
    envelope: Option<String>,
    #[serde(default)]
    transport: Transport,
    #[serde(default)]
    file: MailFile,
    smtp: Option<Smtp>,
    #[serde(default)]
    limits: LimitsTable,
}

/// One link, or a list of them.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text in quotes, or a list of them")]
enum Links {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum Transport {
    File,
    #[default]
    Smtp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MailFile {
    dir: String,
}

impl Default for MailFile {
    fn default() -> MailFile {
        MailFile { dir: "outbox".into() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Smtp {
    host: String,
    port: Option<u16>,
    tls: Option<Tls>,
    #[serde(default)]
    allow_plain_text: bool,
    username: Option<String>,
    password_file: Option<String>,
    password_env: Option<String>,
    connections: Option<usize>,
    connect_timeout: Option<Span>,
    timeout: Option<Span>,
    dot_timeout: Option<Span>,
    ca_file: Option<String>,
    hello: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    per_second: Option<u32>,
    per_hour: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Campaigns {
    file: Option<String>,
    min_gap: Option<Span>,
    max_lateness: Option<Span>,
    send_until: Option<Span>,
}

/// A length of time such as `90s`, `60m`, `72h`, `3d`.
#[derive(Deserialize, Clone, Copy)]
#[serde(try_from = "String")]
pub(super) struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Span, String> {
        span::parse(&text).map(Span)
    }
}

/// An IANA zone name; UTC unless said otherwise.
#[derive(Deserialize, Clone, Copy)]
#[serde(try_from = "String")]
pub(super) struct Zone(pub Tz);

impl Default for Zone {
    fn default() -> Zone {
        Zone(Tz::UTC)
    }
}

impl TryFrom<String> for Zone {
    type Error = String;
    fn try_from(text: String) -> Result<Zone, String> {
        text.parse().map(Zone).map_err(|_| format!("{text:?} is no IANA zone; write for example \"Europe/Berlin\""))
    }
}

/// Reads one configuration file.
pub(super) fn read(path: &Path) -> Result<Settings, Failure> {
    let text = std::fs::read_to_string(path).map_err(|err| {
        let next = match err.kind() {
            std::io::ErrorKind::InvalidData => "save it as UTF-8",
            std::io::ErrorKind::IsADirectory => "name the file in it: --config FILE",
            _ => "make it readable for the user cron runs as",
        };
        Failure::config(format!("could not read {}: {err}", path.display()), next)
    })?;
    let file: File = toml::from_str(&text).map_err(|err| Failure::config(not_read(path, &text, &err), NEXT))?;
    Checker { path, folder: path.parent().unwrap_or(Path::new("")) }.check(file)
}

/// What to do about a file of TOML that is not read.
pub(super) const NEXT: &str =
    "correct that; `mailonce init` in an empty folder writes a file with every key and its meaning";

/// What is wrong with a file of TOML: file, line, key and problem, and the nearest key where one is not known.
pub(super) fn not_read(path: &Path, text: &str, err: &toml::de::Error) -> String {
    let problem = spoken(text, err.span().map_or(0, |span| span.start), err.message());
    format!("{}:{problem}", path.display())
}

/// What the TOML reader found at a byte of the text, as `22: idle: "60" is no length of time`.
fn spoken(text: &str, at: usize, message: &str) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let shown = text.lines().nth(line - 1).unwrap_or_default().trim();
    let table = shown.strip_prefix('[').and_then(|table| table.trim_start_matches('[').split(']').next());
    if let Some(key) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        return match table {
            Some(table) => format!("{line}: {table}.{key} is missing"),
            None if ["shop", "source", "mail"].contains(&key) => format!(" the table [{key}] is missing"),
            None => format!(" {key} is missing"),
        };
    }
    if let Some((given, known)) = unknown_key(message) {
        let nearest = nearest_key(message).map_or_else(String::new, |name| format!("; the nearest is `{name}`"));
        return format!("{line}: there is no key `{given}`{nearest} (known here: {})", known.join(", "));
    }
    let mut message = message.trim_end().replace('\n', ", ");
    for (jargon, plain) in [
        ("unknown variant", "unknown value"),
        ("wanted string or table", "expected a text in quotes"),
        ("expected a string", "expected a text in quotes"),
        ("expected u16", "expected a whole number up to 65535"),
        ("expected u32", "expected a whole number"),
        ("expected u64", "expected a whole number"),
        ("expected usize", "expected a whole number"),
    ] {
        message = message.replace(jargon, plain);
    }
    match shown.split_once('=') {
        // Only the key: a value may be a password.
        Some((key, _)) => format!("{line}: {}: {message}", key.trim()),
        None => format!("{line}: {shown}: {message}"),
    }
}

/// Of the keys known where an unknown one stands, the one most like it.
pub(super) fn nearest_key(message: &str) -> Option<String> {
    let (given, known) = unknown_key(message)?;
    let likeness = |name: &str| strsim::jaro_winkler(given, name);
    known.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).map(str::to_owned)
}

/// From "unknown field `conections`, expected one of `host`, `connections`": the key given, and the known ones.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut names = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    Some((names.next()?, names.collect()))
}

pub(super) struct Checker<'a> {
    path: &'a Path,
    folder: &'a Path,
}

impl Checker<'_> {
    /// An error that names the file and the key.
    pub(super) fn wrong(&self, key: &str, problem: impl std::fmt::Display, next: &str) -> Failure {
        Failure::config(format!("{}: {key}: {problem}", self.path.display()), next)
    }

    pub(super) fn missing(&self, key: &str, next: &str) -> Failure {
        Failure::config(format!("{}: {key} is missing", self.path.display()), next)
    }

    /// A file that is named relative to the configuration's folder.
    pub(super) fn at(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }

    fn check(&self, file: File) -> Result<Settings, Failure> {
        for (key, text) in [
            ("ledger", Some(&file.ledger)),
            ("shop.name", Some(&file.shop.name)),
            ("source.path", file.source.path.as_ref()),
            ("mail.file.dir", Some(&file.mail.file.dir)),
            ("detect.subject", file.detect.subject.as_ref()),
            ("detect.template", file.detect.template.as_ref()),
        ] {
            let Some(text) = text else { continue };
            if text.trim().is_empty() || text.chars().any(char::is_control) {
                return Err(self.wrong(key, "is empty or holds a control character", "write a value there"));
            }
        }
        if !is_web_address(&file.shop.url) {
            return Err(self.wrong("shop.url", format!("{:?} is no web address", file.shop.url), "write https://…"));
        }
        let source = self.source(file.source)?;
        Ok(Settings {
            folder: self.folder.to_owned(),
            ledger: self.at(&file.ledger),
            trusted_file_systems: file.trusted_file_systems,
            shop: ShopSettings { name: file.shop.name, url: file.shop.url, timezone: file.shop.timezone.0 },
            source,
            detect: self.detect(file.detect)?,
            holdout: file.holdout.map(|holdout| self.holdout(holdout)).transpose()?,
            attribution: file.attribution.map(|attribution| self.attribution(&attribution)).transpose()?,
            campaigns: self.campaigns(&file.campaigns)?,
            limits: self.limits(&file.mail.limits)?,
            transport: self.transport(&file.mail)?,
            mail: self.mail(file.mail)?,
        })
    }

    fn source(&self, source: Source) -> Result<SourceSettings, Failure> {
        let preset = self.preset(&source)?;
        let of_kind = self.kind(&source, preset.as_ref())?;
        let engine = match of_kind {
            Kind::Mysql => Some(Engine::MySql),
            Kind::Postgres => Some(Engine::Postgres),
            Kind::Sqlite | Kind::Jsonl | Kind::Csv => None,
        };
        let kind = match (engine, &source.path) {
            (Some(engine), None) => SourceKind::Server(self.server(engine, &source)?),
            (Some(_), Some(_)) => {
                return Err(self.wrong(
                    "source.path",
                    "a server has no path",
                    "name it in source.url, and remove this",
                ));
            }
            (None, None) => return Err(self.missing("source.path", "name the shop's database or file")),
            (None, Some(path)) => {
                let path = self.at(path);
                let of_servers = [
                    ("url", source.url.is_some()),
                    ("socket", source.socket.is_some()),
                    ("password_file", source.password_file.is_some()),
                    ("password_env", source.password_env.is_some()),
                    ("tls", source.tls.is_some()),
                    ("ca_file", source.ca_file.is_some()),
                    ("timeout", source.timeout.is_some()),
                ];
                if let Some((key, _)) = of_servers.iter().find(|(_, is_set)| *is_set) {
                    let next = "remove it, or set kind = \"mysql\" or \"postgres\"";
                    return Err(self.wrong(&format!("source.{key}"), "only a server has that", next));
                }
                match of_kind {
                    Kind::Jsonl => SourceKind::JsonLines(path),
                    Kind::Csv => SourceKind::Csv(path),
                    _ => SourceKind::Sqlite(path),
                }
            }
        };
        let queries = [
            ("carts", &source.carts),
            ("cart", &source.cart),
            ("ordered", &source.ordered),
            ("orders", &source.orders),
        ];
        if let Some((key, _)) = queries.iter().find(|(_, query)| query.is_some() && !kind.answers_queries()) {
            return Err(self.wrong(
                &format!("source.{key}"),
                "only a database has queries",
                "remove it, or set kind = \"sqlite\", \"mysql\" or \"postgres\"",
            ));
        }
        Ok(SourceSettings {
            kind,
            timezone: source.timezone.unwrap_or_default().0,
            html_names: source.html_names.unwrap_or(preset.as_ref().is_some_and(|preset| preset.shop.html_names)),
            carts: source.carts.or_else(|| preset.as_ref().map(Preset::carts)),
            cart: source.cart.or_else(|| preset.as_ref().map(Preset::cart)),
            ordered: source.ordered.or_else(|| preset.as_ref().map(Preset::ordered)),
            orders: source.orders.or_else(|| preset.as_ref().map(Preset::orders)),
            preset,
        })
    }

    fn server(&self, engine: Engine, source: &Source) -> Result<ServerSettings, Failure> {
        let Some(url) = &source.url else {
            return Err(self.missing("source.url", &server::write(engine)));
        };
        let mut settings =
            ServerSettings::parse(engine, url).map_err(|(problem, next)| self.wrong("source.url", problem, &next))?;
        if let Some(socket) = &source.socket {
            let (Endpoint::Tcp { port, .. } | Endpoint::Socket { port, .. }) = settings.endpoint;
            settings.endpoint = Endpoint::Socket { path: self.at(socket), port };
        }
        settings.password = self.password("source", source.password_file.as_deref(), source.password_env.as_deref())?;
        settings.timeout = source.timeout.map_or(settings.timeout, |span| span.0);
        if settings.timeout < Duration::from_secs(1) {
            return Err(self.wrong("source.timeout", "must be at least 1s", "write for example \"30s\""));
        }
        settings.ca_file = source.ca_file.as_deref().map(|file| self.at(file));
        settings.tls = match (source.tls, &settings.endpoint) {
            (Some(Encryption::None) | None, Endpoint::Socket { .. }) => Encryption::None,
            (Some(_), Endpoint::Socket { .. }) => {
                return Err(self.wrong(
                    "source.tls",
                    "a socket has no TLS",
                    "remove it: a socket stays on this machine",
                ));
            }
            (Some(tls), _) => tls,
            (None, Endpoint::Tcp { host, .. }) if is_loopback(host) && settings.ca_file.is_none() => Encryption::None,
            (None, _) => Encryption::Verify,
        };
        Ok(settings)
    }

    fn mail(&self, mail: Mail) -> Result<MailSettings, Failure> {
        let mailbox = |key: &str, text: &str| {
            Mailbox::parse(text)
                .map_err(|err| self.wrong(key, format!("{text:?}: {err}"), "write \"Name <address@domain>\""))
        };
        let from = mailbox("mail.from", &mail.from)?;
        let reply_to = mail.reply_to.as_deref().map(|text| mailbox("mail.reply_to", text)).transpose()?;
        let unsubscribe = match mail.unsubscribe {
            None => Vec::new(),
            Some(Links::One(link)) => vec![link],
            Some(Links::Several(links)) => links,
        };
        let mailboxes = unsubscribe.iter().filter(|link| link.starts_with("mailto:")).count();
        if mailboxes > 1 || unsubscribe.len() - mailboxes > 1 {
            let next =
                "write [\"https://…\", \"mailto:…\"]; the first is the link in templates, both stand in the header";
            return Err(self.wrong("mail.unsubscribe", "has more than one page or more than one mailbox", next));
        }
        for link in &unsubscribe {
            let sound = link.starts_with("mailto:") || is_web_address(&link.replace(['{', '}'], ""));
            if !sound || link.chars().any(|c| c.is_control() || c.is_whitespace() || "<>".contains(c)) {
                let next =
                    "write mailto:address, or https://…; {email} and {token} in it are filled in for each message";
                return Err(self.wrong("mail.unsubscribe", format!("{link:?} is no link"), next));
            }
            let unfilled = link.replace("{email}", "").replace("{token}", "");
            if unfilled.contains(['{', '}']) {
                let next = "only {email} and {token} are filled in; write any other brace as %7B or %7D";
                return Err(self.wrong("mail.unsubscribe", format!("{link:?} has an unknown placeholder"), next));
            }
        }
        let mut envelope = None;
        if let Some(pattern) = &mail.envelope {
            let token = "0".repeat(32);
            let filled = Address::parse(&pattern.replace("{token}", &token)).ok();
            let sound = filled.filter(|filled| pattern.contains("{token}") && !filled.needs_smtputf8());
            // The domain in its ASCII form (RFC 5891), as that of `from`.
            envelope = sound.map(|filled| filled.envelope().replace(&token, "{token}"));
            if envelope.is_none() {
                let next = "write for example \"bounce+{token}@shop.example\"; the part before the @ has at most 64 characters, of which the token takes 32";
                return Err(self.wrong(
                    "mail.envelope",
                    format!("{pattern:?} is no address with {{token}} in it"),
                    next,
                ));
            }
        }
        if from.address.needs_smtputf8() && mail.envelope.is_none() {
            return Err(self.wrong(
                "mail.from",
                "the part before the @ must be ASCII",
                "use an address that every server takes",
            ));
        }
        Ok(MailSettings { from, reply_to, unsubscribe, envelope })
    }

    fn transport(&self, mail: &Mail) -> Result<TransportSettings, Failure> {
        if let Transport::File = mail.transport {
            return Ok(TransportSettings::File { dir: self.at(&mail.file.dir) });
        }
        let Some(smtp) = &mail.smtp else {
            let next = "add [mail.smtp] with host = \"…\", or set transport = \"file\" for a rehearsal";
            return Err(self.wrong("mail.smtp.host", "is missing", next));
        };
        let seconds = |span: Option<Span>, default| span.map_or(Duration::from_secs(default), |span| span.0);
        let tls = smtp.tls.unwrap_or(Tls::Starttls);
        let settings = SmtpSettings {
            host: smtp.host.trim().to_owned(),
            port: smtp.port.unwrap_or(if tls == Tls::Implicit { 465 } else { 587 }),
            tls,
            credentials: self.credentials(smtp)?,
            connections: smtp.connections.unwrap_or(4),
            connect_timeout: seconds(smtp.connect_timeout, 30),
            timeout: seconds(smtp.timeout, 120),
            dot_timeout: seconds(smtp.dot_timeout, 600),
            ca_file: smtp.ca_file.as_deref().map(|file| self.at(file)),
            hello: smtp.hello.clone(),
        };
        if settings.host.is_empty() || settings.host.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(self.wrong("mail.smtp.host", "is no host name", "write the server's name or address"));
        }
        if settings.port == 0 {
            return Err(self.wrong("mail.smtp.port", "must be 1 to 65535", "correct the number"));
        }
        if !(1..=64).contains(&settings.connections) {
            return Err(self.wrong("mail.smtp.connections", "must be 1 to 64", "correct the number"));
        }
        if let Some((key, _)) = [
            ("connect_timeout", settings.connect_timeout),
            ("timeout", settings.timeout),
            ("dot_timeout", settings.dot_timeout),
        ]
        .iter()
        .find(|(_, span)| span.is_zero())
        {
            return Err(self.wrong(
                &format!("mail.smtp.{key}"),
                "must be longer than zero",
                "write for example \"60s\"",
            ));
        }
        if settings.hello.as_deref().is_some_and(|name| name.is_empty() || !name.chars().all(|c| c.is_ascii_graphic()))
        {
            return Err(self.wrong(
                "mail.smtp.hello",
                "is no host name",
                "write this machine's full name, or leave it out",
            ));
        }
        if tls == Tls::None && !settings.is_loopback() && !smtp.allow_plain_text {
            let next = "set tls = \"starttls\" or \"implicit\"; or, where you accept that mail and password can be read on the way, add allow_plain_text = true";
            return Err(self.wrong(
                "mail.smtp.tls",
                format!("\"none\" would send in plain text to {}", settings.host),
                next,
            ));
        }
        Ok(TransportSettings::Smtp(settings))
    }

    fn credentials(&self, smtp: &Smtp) -> Result<Option<(String, String)>, Failure> {
        let Some(username) = &smtp.username else {
            if smtp.password_file.is_some() || smtp.password_env.is_some() {
                return Err(self.wrong("mail.smtp.username", "is missing, though a password is named", "add it"));
            }
            return Ok(None);
        };
        let named = (smtp.password_file.as_deref(), smtp.password_env.as_deref());
        let Some(password) = self.password("mail.smtp", named.0, named.1)? else {
            return Err(self.wrong("mail.smtp.username", "a user name needs password_file or password_env", "add one"));
        };
        if username.trim().is_empty() || password.is_empty() {
            return Err(self.wrong("mail.smtp.username", "the user name or the password is empty", "write both"));
        }
        Ok(Some((username.clone(), password)))
    }

    /// The password that a file or a variable of the environment holds; none where neither is named.
    fn password(&self, table: &str, file: Option<&str>, variable: Option<&str>) -> Result<Option<String>, Failure> {
        let key = |key: &str| format!("{table}.{key}");
        match (file, variable) {
            (None, None) => Ok(None),
            (Some(file), None) => {
                let file = self.at(file);
                let problem = |err: std::io::Error| {
                    let next = "write the password into that file, mode 0600";
                    self.wrong(&key("password_file"), format!("{}: {err}", file.display()), next)
                };
                let mode = std::fs::metadata(&file).map_err(problem)?.permissions().mode();
                if mode & 0o077 != 0 {
                    let next = format!("chmod 600 {}", file.display());
                    let what = format!("{} can be read by others (mode {:04o})", file.display(), mode & 0o7777);
                    return Err(self.wrong(&key("password_file"), what, &next));
                }
                Ok(Some(std::fs::read_to_string(&file).map_err(problem)?.trim_end_matches(['\r', '\n']).to_owned()))
            }
            (None, Some(variable)) => std::env::var(variable).map(Some).map_err(|_| {
                let next = "set it in the crontab, or use password_file";
                self.wrong(&key("password_env"), format!("the environment has no variable {variable}"), next)
            }),
            (Some(_), Some(_)) => {
                let what = "password_file is set as well, and only one of them can be";
                Err(self.wrong(&key("password_env"), what, "remove one"))
            }
        }
    }

    fn limits(&self, limits: &LimitsTable) -> Result<Limits, Failure> {
        let zero = [("per_second", limits.per_second), ("per_hour", limits.per_hour)]
            .into_iter()
            .find(|(_, most)| *most == Some(0));
        if let Some((key, _)) = zero {
            return Err(self.wrong(
                &format!("mail.limits.{key}"),
                "0 would never send anything",
                "write a number from 1, or leave the limit out",
            ));
        }
        Ok(Limits { per_second: limits.per_second, per_hour: limits.per_hour })
    }

    fn campaigns(&self, campaigns: &Campaigns) -> Result<CampaignSettings, Failure> {
        let span = |span: Option<Span>, default: Duration| span.map_or(default, |span| span.0);
        let defaults = CampaignSettings::default();
        let named = campaigns.file.as_deref().map(|file| self.at(file));
        let settings = CampaignSettings {
            file: named.or_else(|| Some(self.at("campaigns.toml")).filter(|file| file.is_file())),
            min_gap: span(campaigns.min_gap, defaults.min_gap),
            max_lateness: span(campaigns.max_lateness, defaults.max_lateness),
            send_until: span(campaigns.send_until, defaults.send_until),
        };
        match settings.check_spans() {
            Ok(()) => Ok(settings),
            Err((key, problem)) => Err(self.wrong(&format!("campaigns.{key}"), problem, "correct the line")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::spoken;

    #[test]
    fn the_nearest_key_is_named() {
        let message = "unknown field `conections`, expected one of `host`, `connections`, `timeout`";
        assert_eq!(
            spoken("[mail.smtp]\nconections = 3\n", 12, message),
            "2: there is no key `conections`; the nearest is `connections` (known here: host, connections, timeout)"
        );
    }

    #[test]
    fn a_missing_key_is_named_with_its_table() {
        assert_eq!(spoken("ledger = \"x\"\n[shop]\n", 13, "missing field `name`"), "2: shop.name is missing");
        assert_eq!(spoken("", 0, "missing field `ledger`"), " ledger is missing");
        assert_eq!(spoken("", 0, "missing field `mail`"), " the table [mail] is missing");
    }

    #[test]
    fn a_value_is_not_repeated() {
        assert_eq!(spoken("password_file = 'secret", 16, "unclosed string"), "1: password_file: unclosed string");
    }
}
