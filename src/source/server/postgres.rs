//! PostgreSQL.
//!
//! Behind a pooler such as pgbouncer in transaction mode each transaction may go to another session of the server. So
//! everything that a question needs is said inside its transaction, nothing is set for the session, and no statement is
//! prepared under a name: the next transaction might not find it, or find that of another.

use std::error::Error as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::TryStreamExt as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};
use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::stored::Stored;
use super::{CONNECT_WITHIN, Column, Fault, FaultKind, GRACE, Kind, Query, Question, Server, Trouble};
use crate::authorities;
use crate::settings::{Encryption, Endpoint, ServerSettings};

pub(super) struct Postgres {
    runtime: Runtime,
    /// Taken only when the connection ends.
    client: Option<Client>,
    /// Moves what is sent and what comes, while something is waited for.
    connection: Option<JoinHandle<Result<(), Error>>>,
    timeout: Duration,
}

impl Postgres {
    pub fn connect(settings: &ServerSettings) -> Result<Postgres, Trouble> {
        let mut config = Config::new();
        config.user(&settings.user).dbname(&settings.database).application_name("mailonce");
        config.connect_timeout(CONNECT_WITHIN);
        match &settings.endpoint {
            Endpoint::Tcp { host, port } => config.host(host).port(*port),
            Endpoint::Socket { path, port } => config.host_path(path).port(*port),
        };
        if let Some(password) = &settings.password {
            config.password(password);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|err| Fault { kind: FaultKind::Unreachable, said: err.to_string() })?;
        let (client, connection) = match settings.tls {
            Encryption::None => {
                config.ssl_mode(SslMode::Disable);
                let (client, connection) = runtime.block_on(within(CONNECT_WITHIN, config.connect(NoTls)))?;
                (client, runtime.spawn(connection))
            }
            Encryption::Verify | Encryption::Require => {
                config.ssl_mode(SslMode::Require);
                let connector = MakeRustlsConnect::new(tls(settings)?);
                let (client, connection) = runtime.block_on(within(CONNECT_WITHIN, config.connect(connector)))?;
                (client, runtime.spawn(connection))
            }
        };
        Ok(Postgres { runtime, client: Some(client), connection: Some(connection), timeout: settings.timeout })
    }

    /// Runs what a question needs in a transaction of its own.
    fn in_transaction<T>(&mut self, work: impl FnOnce(&mut Postgres) -> Result<T, Trouble>) -> Result<T, Trouble> {
        // A plan that looks dear would be compiled first (jit), which takes seconds, for questions that take less.
        let begin = format!(
            "BEGIN READ ONLY; SET LOCAL jit = off; SET LOCAL statement_timeout = {}; SET LOCAL TIME ZONE 'UTC'; SET LOCAL datestyle = 'ISO'; \
             SET LOCAL standard_conforming_strings = on",
            self.timeout.as_millis()
        );
        self.command(&begin)?;
        let worked = work(self);
        self.command(if worked.is_ok() { "COMMIT" } else { "ROLLBACK" }).map_err(Trouble::from).and(worked)
    }

    fn command(&mut self, sql: &str) -> Result<(), Fault> {
        self.wait(|client| async move { client.batch_execute(sql).await })
    }

    /// Waits for the server, no longer than it may take.
    fn wait<'a, T, F>(&'a mut self, ask: impl FnOnce(&'a Client) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Error>> + 'a,
    {
        let Postgres { runtime, client, connection, timeout } = self;
        let Some(client) = client else { return Err(closed()) };
        let waited = runtime.block_on(within(*timeout + GRACE, ask(client)));
        waited.map_err(|fault| match connection.take() {
            // What ended the connection is known to whoever moved its bytes.
            Some(ended) if fault.kind == FaultKind::Lost => {
                let why = runtime.block_on(within(Duration::from_millis(100), async { Ok::<_, Error>(ended.await) }));
                match why {
                    Ok(Ok(Err(err))) => Fault { kind: FaultKind::Lost, said: words(&err) },
                    _ => fault,
                }
            }
            other => {
                *connection = other;
                fault
            }
        })
    }

    /// The rows of a statement that has no parameters, as texts.
    fn simple(&mut self, sql: String) -> Result<Vec<SimpleQueryMessage>, Fault> {
        self.wait(|client| async move { client.simple_query(&sql).await })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Takes its leave: else the server notes in its log that a client vanished.
        drop(self.client.take());
        if let Some(connection) = self.connection.take() {
            let _ = self.runtime.block_on(async { tokio::time::timeout(Duration::from_millis(200), connection).await });
        }
    }
}

impl Server for Postgres {
    fn describe(&mut self, query: &Query) -> Result<Vec<Column>, Fault> {
        let described = self.in_transaction(|server| {
            // In the extended protocol only one statement is taken, and in parentheses only a SELECT.
            let sql = format!("SELECT 1 FROM (\n{}\n) AS q LIMIT 0", query.with_numbers());
            let nulls: Vec<(AsText, Type)> = query.parameters().iter().map(|_| (AsText(None), Type::UNKNOWN)).collect();
            server.wait(|client| async move {
                let rows = pin!(client.query_typed_raw(&sql, nulls).await?);
                rows.try_collect::<Vec<_>>().await.map(drop)
            })?;
            // Names and types apart, so that the client asks the server about no type by a statement with a name.
            let text = query.with_nulls();
            let answer = server.simple(format!("SELECT * FROM (\n{text}\n) AS q LIMIT 0"))?;
            let names: Vec<String> = answer
                .iter()
                .find_map(|message| match message {
                    SimpleQueryMessage::RowDescription(columns) => {
                        Some(columns.iter().map(|column| column.name().to_owned()).collect())
                    }
                    _ => None,
                })
                .unwrap_or_default();
            let types = list(names.len(), |at| format!("pg_typeof(c{at})"));
            let columns = list(names.len(), |at| format!("c{at}"));
            if names.is_empty() {
                return Ok(Vec::new());
            }
            let answer = server.simple(format!(
                "SELECT {types} FROM (SELECT 1) AS one LEFT JOIN (\n{text}\n) AS q({columns}) ON false"
            ))?;
            let row = answer.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            });
            let kind_at = |at: usize| kind(row.and_then(|row| row.get(at)).unwrap_or_default());
            Ok(names.into_iter().enumerate().map(|(at, name)| Column { name, kind: kind_at(at) }).collect())
        });
        described.map_err(|trouble| match trouble {
            Trouble::Fault(fault) => fault,
            Trouble::Caller(err) => Fault { kind: FaultKind::Query, said: err.to_string() },
        })
    }

    fn read(
        &mut self,
        question: &Question<'_>,
        each: &mut dyn FnMut(Vec<Stored>) -> anyhow::Result<()>,
    ) -> Result<(), Trouble> {
        let Question { query, columns, .. } = question;
        let sql = format!(
            "SELECT {} FROM (\n{}\n) AS q({})",
            list(columns.len(), |at| format!("c{at}::text")),
            query.with_numbers(),
            list(columns.len(), |at| format!("c{at}"))
        );
        let values: Vec<(AsText, Type)> =
            query.parameters().iter().map(|name| (AsText(question.value(name)), Type::UNKNOWN)).collect();
        self.in_transaction(|server| {
            let rows = server.wait(|client| async move { client.query_typed_raw(&sql, values).await })?;
            let mut rows = pin!(rows);
            while let Some(row) = server.wait(|_| rows.try_next())? {
                let value = |(at, column): (usize, &Column)| -> Result<Stored, Fault> {
                    let text: Option<&str> = row.try_get(at).map_err(|err| fault(&err))?;
                    Ok(text.map_or(Stored::Null, |text| stored(text, column.kind)))
                };
                let values: Vec<Stored> = columns.iter().enumerate().map(value).collect::<Result<_, _>>()?;
                each(values).map_err(Trouble::Caller)?;
            }
            Ok(())
        })
    }

    fn replica_lag(&mut self) -> Result<Option<Duration>, Fault> {
        let rows = self.simple(LAG.into())?;
        let seconds = rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        Ok(seconds.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok()))
    }
}

/// How many seconds a standby is behind; one that has replayed all that came is not, and one that has replayed nothing yet is
/// so since it started.
const LAG: &str = "SELECT CASE WHEN pg_last_wal_receive_lsn() IS DISTINCT FROM pg_last_wal_replay_lsn()
    THEN extract(epoch FROM clock_timestamp() - coalesce(pg_last_xact_replay_timestamp(), pg_postmaster_start_time()))
    END WHERE pg_is_in_recovery()";

fn list(length: usize, each: impl Fn(usize) -> String) -> String {
    (0..length).map(each).collect::<Vec<_>>().join(", ")
}

/// A parameter that goes as a text, of whatever type the server finds it to be.
#[derive(Debug)]
struct AsText(Option<String>);

impl ToSql for AsText {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(text) = &self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

fn kind(name: &str) -> Kind {
    match name {
        "smallint" | "integer" | "bigint" => Kind::Integer,
        "real" | "double precision" => Kind::Real,
        "boolean" => Kind::Boolean,
        "bytea" => Kind::Binary,
        "date" | "timestamp without time zone" | "timestamp with time zone" => Kind::Time,
        _ => Kind::Text,
    }
}

/// A value from its text: `timestamptz` comes with the offset of UTC, `timestamp` without one.
fn stored(text: &str, kind: Kind) -> Stored {
    let found = match kind {
        Kind::Integer => text.parse().ok().map(Stored::Integer),
        Kind::Real => text.parse().ok().map(Stored::Real),
        Kind::Boolean => Some(Stored::Integer(i64::from(text == "true"))),
        Kind::Binary => Some(Stored::Blob(text.into())),
        Kind::Time | Kind::Text => None,
    };
    found.unwrap_or_else(|| Stored::Text(text.into()))
}

fn tls(settings: &ServerSettings) -> Result<ClientConfig, Trouble> {
    let cannot = |err: rustls::Error| Fault { kind: FaultKind::Tls, said: err.to_string() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(cannot)?;
    if settings.tls == Encryption::Require {
        let unchecked = Arc::new(super::unchecked::Unchecked::of(&provider));
        return Ok(builder.dangerous().with_custom_certificate_verifier(unchecked).with_no_client_auth());
    }
    let trusted = authorities::trusted(settings.ca_file.as_deref(), "source.ca_file")
        .map_err(|failure| Trouble::Caller(failure.into()))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted);
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Fault> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(|err| fault(&err)),
        Err(_) => Err(Fault {
            kind: FaultKind::Silent,
            said: format!("nothing came for {}", humantime::format_duration(limit)),
        }),
    }
}

fn closed() -> Fault {
    Fault { kind: FaultKind::Lost, said: "it was closed".into() }
}

fn fault(err: &Error) -> Fault {
    let kind = match err.code() {
        Some(state) => kind_of_state(state),
        None if err.is_closed() => FaultKind::Lost,
        None => {
            let shown = err.to_string();
            // The kinds of error are private there, so they are told by how they are shown.
            if shown.contains("TLS") {
                FaultKind::Tls
            } else if shown.contains("connecting") || shown.contains("timed out") {
                FaultKind::Unreachable
            } else if shown.contains("password") || shown.contains("authentication") {
                FaultKind::Denied
            } else {
                FaultKind::Lost
            }
        }
    };
    Fault { kind, said: words(err) }
}

fn kind_of_state(state: &SqlState) -> FaultKind {
    match state.code() {
        "3D000" => FaultKind::Denied,
        "57014" => FaultKind::Slow,
        "42501" => FaultKind::Forbidden,
        code => match (&code[..2], code) {
            ("28", _) => FaultKind::Denied,
            ("53" | "40" | "55", _) => FaultKind::Busy,
            ("57" | "08", _) => FaultKind::Lost,
            (_, "22P02" | "22003" | "22007" | "22008") => FaultKind::Value,
            _ => FaultKind::Query,
        },
    }
}

/// The server's own words, or those of what failed below.
fn words(err: &Error) -> String {
    if let Some(said) = err.as_db_error() {
        return format!("{} ({})", said.message(), said.code().code());
    }
    match err.source() {
        Some(source) => format!("{err}: {source}"),
        None => err.to_string(),
    }
}
