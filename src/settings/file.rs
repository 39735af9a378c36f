//! The configuration file: its keys as written, and the checks that turn them into [`Settings`].

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::bounces::BouncesTable;
use super::bounds::{CapsTable, CouponTable, SendWindowTable};
use super::checker::{Checker, NEXT, Span, Zone, not_read};
use super::detect::Detect;
use super::dkim::DkimTable;
use super::monitoring::{HeartbeatTable, MetricsTable};
use super::recovery::{AttributionTable, HoldoutTable};
use super::unsubscribe::{Links, UnsubscribeTable};
use super::*;
use crate::domain::address::Address;
use crate::domain::engine::Engine;
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
    unsubscribe: UnsubscribeTable,
    #[serde(default)]
    bounces: BouncesTable,
    #[serde(default)]
    metrics: MetricsTable,
    #[serde(default)]
    heartbeat: HeartbeatTable,
    #[serde(default)]
    detect: Detect,
    holdout: Option<HoldoutTable>,
    attribution: Option<AttributionTable>,
    #[serde(default)]
    campaigns: Campaigns,
    send_window: Option<SendWindowTable>,
    #[serde(default)]
    caps: CapsTable,
    #[serde(default)]
    coupon: Vec<CouponTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shop {
    name: String,
    url: String,
    logo: Option<String>,
    address: Option<String>,
    locale: Option<String>,
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
    #[serde(default)]
    unsubscribe: Links,
    unsubscribe_mailto: Option<String>,
    list_domain: Option<String>,
    feedback_sender: Option<String>,
    envelope: Option<String>,
    #[serde(default)]
    transport: Transport,
    #[serde(default)]
    file: MailFile,
    smtp: Option<Smtp>,
    #[serde(default)]
    limits: LimitsTable,
    dkim: Option<DkimTable>,
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

/// Reads one configuration file.
pub(super) fn read(path: &Path, secrets: Secrets) -> Result<Settings, Failure> {
    let file: File = parse(path)?;
    Checker { path, folder: path.parent().unwrap_or(Path::new("")), secrets }.check(file)
}

/// The part of a configuration that monitoring goes by.
#[derive(Deserialize)]
struct MonitoredFile {
    ledger: String,
    #[serde(default)]
    trusted_file_systems: Vec<String>,
    #[serde(default)]
    metrics: MetricsTable,
    #[serde(default)]
    heartbeat: HeartbeatTable,
}

pub(super) fn read_monitoring(path: &Path) -> Result<Monitoring, Failure> {
    let file: MonitoredFile = parse(path)?;
    let checker = Checker { path, folder: path.parent().unwrap_or(Path::new("")), secrets: Secrets::NotNeeded };
    Ok(Monitoring {
        ledger: checker.at(&file.ledger),
        trusted_file_systems: file.trusted_file_systems,
        metrics: checker.metrics(file.metrics)?,
        heartbeat: checker.heartbeat(file.heartbeat)?,
        steps: Vec::new(),
        pools: Vec::new(),
    })
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let text = std::fs::read_to_string(path).map_err(|err| {
        let next = match err.kind() {
            std::io::ErrorKind::InvalidData => "save it as UTF-8",
            std::io::ErrorKind::IsADirectory => "name the file in it: --config FILE",
            _ => "make it readable for the user cron runs as",
        };
        Failure::config(format!("could not read {}: {err}", path.display()), next)
    })?;
    toml::from_str(&text).map_err(|err| Failure::config(not_read(path, &text, &err), NEXT))
}

impl Checker<'_> {
    fn check(&self, file: File) -> Result<Settings, Failure> {
        for (key, text) in [
            ("ledger", Some(&file.ledger)),
            ("shop.name", Some(&file.shop.name)),
            ("source.path", file.source.path.as_ref()),
            ("mail.file.dir", Some(&file.mail.file.dir)),
            ("detect.template", file.detect.template.as_ref()),
        ] {
            let Some(text) = text else { continue };
            if text.trim().is_empty() || text.chars().any(char::is_control) {
                return Err(self.wrong(key, "is empty or holds a control character", "write a value there"));
            }
        }
        let (shop, source) = (self.shop(file.shop)?, self.source(file.source)?);
        let detect = self.detect(file.detect, shop.locale)?;
        let unsubscribe = self.unsubscribe(file.unsubscribe, source.kind.answers_queries())?;
        Ok(Settings {
            folder: self.folder.to_owned(),
            ledger: self.at(&file.ledger),
            trusted_file_systems: file.trusted_file_systems,
            source,
            shop,
            send_window: self.send_window(file.send_window.as_ref())?,
            caps: self.caps(&file.caps, &detect.steps)?,
            pools: self.coupons(file.coupon, &detect.steps)?,
            detect,
            holdout: file.holdout.map(|holdout| self.holdout(holdout)).transpose()?,
            attribution: file.attribution.map(|attribution| self.attribution(&attribution)).transpose()?,
            campaigns: self.campaigns(&file.campaigns)?,
            limits: self.limits(&file.mail.limits)?,
            transport: self.transport(&file.mail)?,
            mail: self.mail(file.mail, &unsubscribe)?,
            unsubscribe,
            bounces: self.bounces(file.bounces)?,
            metrics: self.metrics(file.metrics)?,
            heartbeat: self.heartbeat(file.heartbeat)?,
        })
    }

    fn shop(&self, shop: Shop) -> Result<ShopSettings, Failure> {
        if !is_web_address(&shop.url) {
            return Err(self.wrong("shop.url", format!("{:?} is no web address", shop.url), "write https://…"));
        }
        if let Some(logo) = shop.logo.as_ref().filter(|logo| !logo.starts_with("https://") || !is_web_address(logo)) {
            let next = "write https://… of a PNG, JPEG or GIF: mail programs load no other pictures";
            return Err(self.wrong("shop.logo", format!("{logo:?} is no address that begins with https://"), next));
        }
        let address = shop.address.as_deref().map(|text| self.postal_address(text)).transpose()?.flatten();
        let locale = match &shop.locale {
            None => Locale::ENGLISH,
            Some(tag) => Locale::parse(tag).ok_or_else(|| {
                let next = "write a language, and if you like a region: \"de\", \"pt-BR\"";
                self.wrong("shop.locale", format!("{tag:?} is no language tag"), next)
            })?,
        };
        Ok(ShopSettings { name: shop.name, url: shop.url, logo: shop.logo, address, locale, timezone: shop.timezone.0 })
    }

    /// The lines of a postal address without what is blank around them; `None` when there is nothing else.
    fn postal_address(&self, text: &str) -> Result<Option<String>, Failure> {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.len() > 10 || lines.iter().any(|line| line.chars().any(char::is_control)) {
            let next = "write its lines between \"\"\" and \"\"\", ten at most";
            return Err(self.wrong("shop.address", "has too many lines, or holds a control character", next));
        }
        Ok(Some(lines.join("\n")).filter(|address| !address.is_empty()))
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

    fn mail(&self, mail: Mail, unsubscribe: &UnsubscribeSettings) -> Result<MailSettings, Failure> {
        let mailbox = |key: &str, text: &str| {
            Mailbox::parse(text)
                .map_err(|err| self.wrong(key, format!("{text:?}: {err}"), "write \"Name <address@domain>\""))
        };
        let from = mailbox("mail.from", &mail.from)?;
        let reply_to = mail.reply_to.as_deref().map(|text| mailbox("mail.reply_to", text)).transpose()?;
        let links = self.links(mail.unsubscribe, mail.unsubscribe_mailto)?;
        let keys = self.keys(unsubscribe, &links)?;
        // As long as any.
        const ID: &str = "zzzzzzzzzzzzz";
        let mut envelope = None;
        if let Some(pattern) = &mail.envelope {
            let token = "0".repeat(32);
            let filled = Address::parse(&pattern.replace("{token}", &token).replace("{id}", ID)).ok();
            let sound = filled.filter(|filled| pattern.contains("{token}") && !filled.needs_smtputf8());
            // The domain in its ASCII form (RFC 5891), as that of `from`.
            envelope = sound.map(|filled| filled.envelope().replace(&token, "{token}").replace(ID, "{id}"));
            if envelope.is_none() {
                let next = "write for example \"bounce+{id}-{token}@shop.example\"; the part before the @ has at most 64 characters, of which the token takes 32 and the id up to 13";
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
        let list_domain = self.list_domain(mail.list_domain, &from.address)?;
        let feedback_sender = mail.feedback_sender.map(|sender| self.feedback_sender(sender)).transpose()?;
        let dkim = mail.dkim.map(|table| self.dkim(&table, &from.address)).transpose()?.flatten();
        Ok(MailSettings { from, reply_to, unsubscribe: links, keys, list_domain, feedback_sender, envelope, dkim })
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
            return match (named, self.secrets) {
                ((None, None), _) | (_, Secrets::Needed) => {
                    Err(self.wrong("mail.smtp.username", "a user name needs password_file or password_env", "add one"))
                }
                (_, Secrets::NotNeeded) => Ok(None),
            };
        };
        if username.trim().is_empty() || password.is_empty() {
            return Err(self.wrong("mail.smtp.username", "the user name or the password is empty", "write both"));
        }
        Ok(Some((username.clone(), password)))
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
