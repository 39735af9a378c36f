//! MySQL and MariaDB.

use std::error::Error as _;
use std::io::Write as _;
use std::time::Duration;

use ::mysql::consts::ColumnType;
use ::mysql::prelude::Queryable;
use ::mysql::{Conn, DriverError, Error, OptsBuilder, Params, SslOpts, Value};
use tempfile::NamedTempFile;

use super::super::stored::Stored;
use super::{CONNECT_WITHIN, Column, Fault, FaultKind, GRACE, Kind, Query, Question, Server, Trouble};
use crate::authorities;
use crate::failure::Failure;
use crate::settings::{Encryption, Endpoint, ServerSettings};

/// A parameter; and one that makes the server compare in Unicode, whatever the column's character set, without its indexes.
const MARK: &str = "?";
const UNICODE_MARK: &str = "CONVERT(? USING utf8mb4)";
/// Two texts cannot be compared: a letter of the one is not in the character set of the other.
const ILLEGAL_MIX_OF_COLLATIONS: [u16; 3] = [1267, 1270, 1271];

/// The character set of columns that hold bytes.
const BINARY: u16 = 63;

pub(super) struct MySql {
    connection: Conn,
    /// How long nothing may come before the server counts as silent.
    patience: Duration,
}

impl MySql {
    /// Connects, and sets the session up: read only, with a time limit, in UTC and in Unicode.
    pub fn connect(settings: &ServerSettings) -> Result<MySql, Trouble> {
        let patience = settings.timeout + GRACE;
        let mut options = OptsBuilder::new()
            .user(Some(&settings.user))
            .pass(settings.password.as_deref())
            .db_name(Some(&settings.database))
            // Else it would ask the server for its socket and go there, whatever is configured.
            .prefer_socket(false)
            .tcp_connect_timeout(Some(CONNECT_WITHIN))
            .read_timeout(Some(patience))
            .write_timeout(Some(patience));
        options = match &settings.endpoint {
            Endpoint::Tcp { host, port } => options.ip_or_hostname(Some(host)).tcp_port(*port),
            Endpoint::Socket { path, .. } => options.socket(Some(path.to_string_lossy())),
        };
        // Read when the connection is made.
        let mut trusted = None;
        match settings.tls {
            Encryption::None => {}
            Encryption::Require => {
                options = options.ssl_opts(SslOpts::default().with_danger_accept_invalid_certs(true))
            }
            Encryption::Verify => {
                let file = trusted.insert(trusted_in_a_file(settings)?);
                options = options.ssl_opts(SslOpts::default().with_root_cert_path(Some(file.path().to_owned())));
            }
        }
        let connect = || -> Result<Conn, Error> {
            let mut connection = Conn::new(options)?;
            let version: Option<String> = connection.query_first("SELECT VERSION()")?;
            let limit = match version.unwrap_or_default().contains("MariaDB") {
                true => format!("max_statement_time = {}", settings.timeout.as_secs_f64()),
                false => format!("max_execution_time = {}", settings.timeout.as_millis()),
            };
            connection.query_drop("SET NAMES utf8mb4")?;
            connection.query_drop("SET SESSION TRANSACTION READ ONLY")?;
            connection.query_drop(format!("SET time_zone = '+00:00', {limit}"))?;
            Ok(connection)
        };
        let connection = connect().map_err(|err| fault(&err, patience))?;
        Ok(MySql { connection, patience })
    }

    fn fault(&self, err: &Error) -> Fault {
        fault(err, self.patience)
    }
}

/// The authorities that are trusted, as the one file that the client reads. Mozilla's, which are built into it, count too.
fn trusted_in_a_file(settings: &ServerSettings) -> Result<NamedTempFile, Trouble> {
    use base64::Engine as _;
    let trusted = authorities::trusted(settings.ca_file.as_deref(), "source.ca_file")
        .map_err(|failure| Trouble::Caller(failure.into()))?;
    let write = || -> std::io::Result<NamedTempFile> {
        let mut file = NamedTempFile::new()?;
        for certificate in trusted {
            let text = base64::engine::general_purpose::STANDARD.encode(certificate);
            write!(file, "-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")?;
        }
        file.flush()?;
        Ok(file)
    };
    write().map_err(|err| {
        let what = format!("could not write a temporary file: {err}");
        Trouble::Caller(Failure::ledger(what, "make room, or name a folder with room in TMPDIR").into())
    })
}

impl Server for MySql {
    fn describe(&mut self, query: &Query) -> Result<Vec<Column>, Fault> {
        // In a derived table only a SELECT can stand.
        let sql = format!("SELECT * FROM (\n{}\n) AS q", query.with_marks(MARK));
        let statement = self.connection.prep(sql).map_err(|err| self.fault(&err))?;
        let column = |column: &::mysql::Column| Column { name: column.name_str().into_owned(), kind: kind(column) };
        Ok(statement.columns().iter().map(column).collect())
    }

    fn read(
        &mut self,
        question: &Question<'_>,
        each: &mut dyn FnMut(Vec<Stored>) -> anyhow::Result<()>,
    ) -> Result<(), Trouble> {
        match self.read_with(MARK, question, each) {
            Err(Trouble::Fault(Fault { kind: FaultKind::Value, .. })) => self.read_with(UNICODE_MARK, question, each),
            other => other,
        }
    }

    fn replica_lag(&mut self) -> Result<Option<Duration>, Fault> {
        // The newer words first; to a user who may not ask, the server says nothing but no.
        for words in ["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"] {
            let row = match self.connection.query_first::<::mysql::Row, _>(words) {
                Ok(row) => row,
                Err(Error::MySqlError(_)) => continue,
                Err(err) => return Err(self.fault(&err)),
            };
            let behind = ["Seconds_Behind_Source", "Seconds_Behind_Master"];
            let lag = row.and_then(|row| behind.iter().find_map(|name| row.get_opt::<u64, _>(*name)?.ok()));
            return Ok(lag.map(Duration::from_secs));
        }
        Ok(None)
    }
}

impl MySql {
    fn read_with(
        &mut self,
        mark: &str,
        question: &Question<'_>,
        each: &mut dyn FnMut(Vec<Stored>) -> anyhow::Result<()>,
    ) -> Result<(), Trouble> {
        let sql = format!("SELECT * FROM (\n{}\n) AS q", question.query.with_marks(mark));
        let value = |name: &str| question.value(name).map_or(Value::NULL, |text| Value::Bytes(text.into_bytes()));
        let values: Vec<Value> = question.query.marked().map(value).collect();
        let parameters = if values.is_empty() { Params::Empty } else { Params::Positional(values) };
        let patience = self.patience;
        let statement = self.connection.prep(sql).map_err(|err| fault(&err, patience))?;
        let rows = self.connection.exec_iter(&statement, parameters).map_err(|err| fault(&err, patience))?;
        for row in rows {
            // A time limit that is over may come in the middle of the rows.
            let row = row.map_err(|err| fault(&err, patience))?;
            let columns = row.columns();
            let values = row.unwrap().into_iter().zip(columns.iter());
            each(values.map(|(value, column)| stored(value, column)).collect()).map_err(Trouble::Caller)?;
        }
        Ok(())
    }
}

fn kind(column: &::mysql::Column) -> Kind {
    use ColumnType::*;
    match column.column_type() {
        MYSQL_TYPE_TINY | MYSQL_TYPE_SHORT | MYSQL_TYPE_INT24 | MYSQL_TYPE_LONG | MYSQL_TYPE_LONGLONG
        | MYSQL_TYPE_YEAR | MYSQL_TYPE_BIT => Kind::Integer,
        MYSQL_TYPE_FLOAT | MYSQL_TYPE_DOUBLE => Kind::Real,
        MYSQL_TYPE_DATE
        | MYSQL_TYPE_NEWDATE
        | MYSQL_TYPE_DATETIME
        | MYSQL_TYPE_DATETIME2
        | MYSQL_TYPE_TIMESTAMP
        | MYSQL_TYPE_TIMESTAMP2 => Kind::Time,
        MYSQL_TYPE_GEOMETRY => Kind::Binary,
        MYSQL_TYPE_STRING
        | MYSQL_TYPE_VAR_STRING
        | MYSQL_TYPE_VARCHAR
        | MYSQL_TYPE_TINY_BLOB
        | MYSQL_TYPE_BLOB
        | MYSQL_TYPE_MEDIUM_BLOB
        | MYSQL_TYPE_LONG_BLOB
            if column.character_set() == BINARY =>
        {
            Kind::Binary
        }
        _ => Kind::Text,
    }
}

/// A value as it comes. TIMESTAMP is an instant, in the zone of the session; DATETIME is what a clock on a wall shows.
fn stored(value: Value, column: &::mysql::Column) -> Stored {
    let column_type = column.column_type();
    match value {
        Value::NULL => Stored::Null,
        Value::Int(number) => Stored::Integer(number),
        Value::UInt(number) => {
            i64::try_from(number).map_or_else(|_| Stored::Text(number.to_string().into()), Stored::Integer)
        }
        // Shown first: 19.9 would else become 19.899999618530273.
        Value::Float(number) => Stored::Real(number.to_string().parse().unwrap_or(f64::from(number))),
        Value::Double(number) => Stored::Real(number),
        Value::Date(0, 0, 0, ..) => Stored::Null,
        Value::Date(year, month, day, hour, minute, second, micros) => {
            let mut text = format!("{year:04}-{month:02}-{day:02}");
            if !matches!(column_type, ColumnType::MYSQL_TYPE_DATE | ColumnType::MYSQL_TYPE_NEWDATE) {
                text += &format!(" {hour:02}:{minute:02}:{second:02}");
            }
            if micros > 0 {
                text += &format!(".{micros:06}");
            }
            if matches!(column_type, ColumnType::MYSQL_TYPE_TIMESTAMP | ColumnType::MYSQL_TYPE_TIMESTAMP2) {
                text.push('Z');
            }
            Stored::Text(text.into())
        }
        Value::Time(is_negative, days, hours, minutes, seconds, _) => {
            let sign = if is_negative { "-" } else { "" };
            let hours = days * 24 + u32::from(hours);
            Stored::Text(format!("{sign}{hours:02}:{minutes:02}:{seconds:02}").into())
        }
        Value::Bytes(bytes) if column_type == ColumnType::MYSQL_TYPE_BIT && bytes.len() <= 8 => {
            let number = bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            stored(Value::UInt(number), column)
        }
        Value::Bytes(bytes) if kind(column) == Kind::Binary => Stored::Blob(bytes),
        Value::Bytes(bytes) => Stored::Text(bytes),
    }
}

fn fault(err: &Error, patience: Duration) -> Fault {
    let (kind, said) = match err {
        Error::IoError(err) => of_network(err, patience),
        Error::CodecError(err) => match err.source().and_then(|source| source.downcast_ref()) {
            Some(err) => of_network(err, patience),
            None => (FaultKind::Lost, err.to_string()),
        },
        Error::TlsError(err) => (FaultKind::Tls, err.to_string()),
        Error::DriverError(DriverError::TlsNotSupported) => (FaultKind::Tls, "the server offers none".into()),
        Error::DriverError(DriverError::ConnectTimeout) => (FaultKind::Unreachable, "it takes too long".into()),
        Error::DriverError(DriverError::CouldNotConnect(why)) => {
            let said = why.as_ref().map(|(_, said, _)| said.clone());
            (FaultKind::Unreachable, said.unwrap_or_else(|| "no connection".into()))
        }
        Error::DriverError(DriverError::UnknownAuthPlugin(plugin)) => {
            (FaultKind::Denied, format!("it asks for the authentication {plugin}, which is not known here"))
        }
        Error::DriverError(err @ (DriverError::OldMysqlPasswordDisabled | DriverError::CleartextPluginDisabled)) => {
            (FaultKind::Denied, err.to_string())
        }
        Error::MySqlError(err) => {
            let kind = match err.code {
                1044 | 1045 | 1049 | 1130 | 1133 | 1251 | 1698 | 1820 | 1862 | 3118 | 3159 | 4151 => FaultKind::Denied,
                1040 | 1203 | 1205 | 1213 | 1226 => FaultKind::Busy,
                1129 => FaultKind::Unreachable,
                1053 | 1077..=1080 | 1152..=1161 | 1184 | 1317 | 1927 | 4031 => FaultKind::Lost,
                1969 | 3024 => FaultKind::Slow,
                1142 | 1143 | 1370 => FaultKind::Forbidden,
                code if ILLEGAL_MIX_OF_COLLATIONS.contains(&code) => FaultKind::Value,
                _ => FaultKind::Query,
            };
            (kind, format!("{} ({})", err.message, err.code))
        }
        other => (FaultKind::Lost, other.to_string()),
    };
    Fault { kind, said }
}

fn of_network(err: &std::io::Error, patience: Duration) -> (FaultKind, String) {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    let of_tls = err.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (of_tls, err.kind()) {
        (Some(err), _) => (FaultKind::Tls, err.to_string()),
        (None, TimedOut | WouldBlock) => {
            (FaultKind::Silent, format!("nothing came for {}", humantime::format_duration(patience)))
        }
        (None, _) => (FaultKind::Lost, err.to_string()),
    }
}
