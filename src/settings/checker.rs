//! What every table of the configuration is read with: values with a unit, and errors that name file, line and key.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;
use serde::Deserialize;

use super::Secrets;
use crate::domain::span;
use crate::failure::Failure;

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

/// What the name of a secret begins with that systemd hands over: in a folder of its own for each unit.
const CREDENTIALS: &str = "$CREDENTIALS_DIRECTORY/";

/// Checks one file; what it says of a value names that file.
pub(super) struct Checker<'a> {
    pub path: &'a Path,
    pub folder: &'a Path,
    pub secrets: Secrets,
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

    /// What a file holds that no one else may read; none where it is not for this user, and not needed.
    pub(super) fn secret(&self, key: &str, file: &str, next: &str) -> Result<Option<Vec<u8>>, Failure> {
        let credential = file.strip_prefix(CREDENTIALS);
        let file = match (credential, std::env::var_os("CREDENTIALS_DIRECTORY"), self.secrets) {
            (None, ..) => self.at(file),
            (Some(name), Some(folder), _) => Path::new(&folder).join(name),
            (Some(_), None, Secrets::NotNeeded) => return Ok(None),
            (Some(_), None, Secrets::Needed) => {
                let next = "only a unit of systemd with LoadCredential= has it; by hand: systemd-run (docs/install.md)";
                return Err(self.wrong(key, "the environment has no variable CREDENTIALS_DIRECTORY", next));
            }
        };
        let looked = std::fs::metadata(&file).and_then(|meta| Ok((meta, std::fs::read(&file)?)));
        let is_denied = |err: &std::io::Error| err.kind() == std::io::ErrorKind::PermissionDenied;
        if self.secrets == Secrets::NotNeeded && looked.as_ref().is_err_and(is_denied) {
            return Ok(None);
        }
        let (meta, bytes) = looked.map_err(|err| self.wrong(key, format!("{}: {err}", file.display()), next))?;
        let mode = meta.permissions().mode();
        // systemd lets the unit's user read a credential by an access list, which looks like a right of the group.
        let not_ours = if credential.is_some() { 0o007 } else { 0o077 };
        if mode & not_ours != 0 {
            let next = format!("chmod 600 {}", file.display());
            let what = format!("{} can be read by others (mode {:04o})", file.display(), mode & 0o7777);
            return Err(self.wrong(key, what, &next));
        }
        Ok(Some(bytes))
    }

    /// The password that a file or a variable of the environment holds; none where neither is named.
    pub(super) fn password(
        &self,
        table: &str,
        file: Option<&str>,
        variable: Option<&str>,
    ) -> Result<Option<String>, Failure> {
        let key = |key: &str| format!("{table}.{key}");
        match (file, variable) {
            (None, None) => Ok(None),
            (Some(file), None) => {
                let next = "write the password into that file, mode 0600";
                let Some(bytes) = self.secret(&key("password_file"), file, next)? else { return Ok(None) };
                let text = String::from_utf8(bytes).map_err(|_| {
                    self.wrong(&key("password_file"), format!("{} is not in UTF-8", self.at(file).display()), next)
                })?;
                Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
            (None, Some(variable)) => match (std::env::var(variable), self.secrets) {
                (Ok(password), _) => Ok(Some(password)),
                (Err(_), Secrets::NotNeeded) => Ok(None),
                (Err(_), Secrets::Needed) => {
                    let next = "set it in the crontab, or use password_file";
                    let what = format!("the environment has no variable {variable}");
                    Err(self.wrong(&key("password_env"), what, next))
                }
            },
            (Some(_), Some(_)) => {
                let what = "password_file is set as well, and only one of them can be";
                Err(self.wrong(&key("password_env"), what, "remove one"))
            }
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
