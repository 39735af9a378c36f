//! What the flags, the environment and the configuration file say, checked once into one value.

use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;

use crate::domain::address::Mailbox;

/// `[shop]`: who writes.
#[derive(Debug, Clone)]
pub struct ShopSettings {
    pub name: String,
    pub url: String,
    pub timezone: Tz,
}

/// `[source]`: where carts and orders are read.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    pub kind: SourceKind,
    pub path: PathBuf,
    /// The zone of times that have none of their own.
    pub timezone: Tz,
    /// Carts touched between two instants, one row per cart line; binds `:idle_before`, `:not_before`.
    pub carts: Option<String>,
    /// The same for one cart; binds `:cart_id`.
    pub cart: Option<String>,
    /// Any row means ordered; binds `:cart_id`, `:user_id`, `:email`, `:since`.
    pub ordered: Option<String>,
}

/// The kinds of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    Sqlite,
    JsonLines,
    Csv,
}

/// `[mail]`: how every message is addressed.
#[derive(Debug, Clone)]
pub struct MailSettings {
    pub from: Mailbox,
    pub reply_to: Option<Mailbox>,
    /// `mailto:` or `https:`; may hold `{email}` and `{token}`.
    pub unsubscribe: Option<String>,
    /// The envelope sender with `{token}` in it; without, the address of `from`.
    pub envelope: Option<String>,
}

/// How the connection to the server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// For the TCP connection and the TLS handshake.
    pub connect_timeout: Duration,
    /// For each reply from the banner to the 354.
    pub timeout: Duration,
    /// For the reply to the final dot: 600 s (RFC 5321 §4.5.3.2.6).
    pub dot_timeout: Duration,
    /// A PEM file with a certificate authority to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The name said in EHLO; without, the host's own.
    pub hello: Option<String>,
}
