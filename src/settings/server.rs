//! `[source]` of a database server: where it is, and how it is reached.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::domain::engine::Engine;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A name, or an IP address without brackets.
    Tcp { host: String, port: u16 },
    /// For MySQL the socket itself; for PostgreSQL the folder that it is in, and the port that it is named by.
    Socket { path: PathBuf, port: u16 },
}

/// How the connection to a server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// The certificate must be the server's, and of an authority that is trusted.
    Verify,
    /// Encrypted, whoever answers.
    Require,
    /// In plain text.
    None,
}

/// A database server, and a user on it.
#[derive(Clone)]
pub struct ServerSettings {
    pub engine: Engine,
    pub endpoint: Endpoint,
    pub database: String,
    pub user: String,
    /// Never printed.
    pub password: Option<String>,
    pub tls: Encryption,
    /// A PEM file with a certificate authority to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// How long one query may take (30 s), from 1 s.
    pub timeout: Duration,
}

impl fmt::Debug for ServerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSettings")
            .field("engine", &self.engine)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// What to write as `source.url`.
pub(super) fn write(engine: Engine) -> String {
    format!("write {}://USER@HOST/DATABASE", engine.word())
}

impl ServerSettings {
    /// Whether the server is reached by a socket, or by a name or number of this machine.
    pub fn is_on_this_machine(&self) -> bool {
        match &self.endpoint {
            Endpoint::Tcp { host, .. } => super::is_loopback(host),
            Endpoint::Socket { .. } => true,
        }
    }

    /// Database and address, for people: `magento on db.shop.example:3306`.
    pub fn described(&self) -> String {
        match &self.endpoint {
            Endpoint::Tcp { host, port } if host.contains(':') => format!("{} on [{host}]:{port}", self.database),
            Endpoint::Tcp { host, port } => format!("{} on {host}:{port}", self.database),
            Endpoint::Socket { path, .. } => format!("{} on {}", self.database, path.display()),
        }
    }

    /// Reads `mysql://user@host:port/database`; everything else has its default.
    ///
    /// # Errors
    /// What is wrong, without the text itself (it may hold a password), and what to do.
    pub(super) fn parse(engine: Engine, url: &str) -> Result<ServerSettings, (String, String)> {
        let wrong = |problem: &str| (problem.to_owned(), write(engine));
        let (scheme, rest) = url.trim().split_once("://").ok_or_else(|| wrong("is no address"))?;
        let fits = scheme == engine.word() || (engine == Engine::Postgres && scheme == "postgresql");
        if !fits {
            return Err(wrong(&format!("does not begin with {}://", engine.word())));
        }
        if rest.contains(['?', '#']) {
            return Err((
                "has options behind a ? or #".into(),
                "write them as keys of [source]: tls, ca_file, socket".into(),
            ));
        }
        let (user, place) = rest.rsplit_once('@').ok_or_else(|| wrong("names no user"))?;
        if user.contains(':') {
            let next = "write it into a file of mode 0600 and name that in source.password_file, or name a variable of \
                        the environment in source.password_env; then remove it here";
            return Err(("holds a password, which others could read here".into(), next.into()));
        }
        let (place, database) = place.split_once('/').ok_or_else(|| wrong("names no database"))?;
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None => engine.port(),
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| wrong("has a port that is no number from 1 to 65535"))?,
        };
        let decoded = |what: &str, text: &str| {
            let text = percent_decode_str(text).decode_utf8().ok().filter(|text| !text.is_empty());
            let text = text.filter(|text| !text.chars().any(char::is_control));
            text.map(String::from).ok_or_else(|| wrong(&format!("names no {what}")))
        };
        Ok(ServerSettings {
            engine,
            endpoint: Endpoint::Tcp { host: decoded("host", host)?, port },
            database: decoded("database", database)?,
            user: decoded("user", user)?,
            password: None,
            tls: Encryption::Verify,
            ca_file: None,
            timeout: Duration::from_secs(30),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read() {
        let read = |engine, url| {
            let found = ServerSettings::parse(engine, url).map_err(|(problem, _)| problem)?;
            Ok::<_, String>(format!("{} as {}", found.described(), found.user))
        };
        let mysql = |url| read(Engine::MySql, url);
        assert_eq!(mysql("mysql://m@db.shop.example/magento").unwrap(), "magento on db.shop.example:3306 as m");
        assert_eq!(mysql("mysql://m%40shop@[::1]:33/a%2Fb").unwrap(), "a/b on [::1]:33 as m@shop");
        let postgres = read(Engine::Postgres, "postgresql://odoo@127.0.0.1/odoo").unwrap();
        assert_eq!(postgres, "odoo on 127.0.0.1:5432 as odoo");
        for (url, problem) in [
            ("db.shop.example", "is no address"),
            ("postgres://m@h/d", "does not begin with mysql://"),
            ("mysql://h/d", "names no user"),
            ("mysql://@h/d", "names no user"),
            ("mysql://m:secret@h/d", "holds a password, which others could read here"),
            ("mysql://m@h", "names no database"),
            ("mysql://m@h/", "names no database"),
            ("mysql://m@/d", "names no host"),
            ("mysql://m@h:x/d", "has a port that is no number from 1 to 65535"),
            ("mysql://m@h/d?ssl=1", "has options behind a ? or #"),
        ] {
            assert_eq!(mysql(url).unwrap_err(), problem, "{url}");
        }
    }
}
