//! What was heard in answer to a command: a reply, or why there is none.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use lettre::transport::smtp::{Error, response::Response};

use crate::domain::fate::Fate;

/// Reply texts are kept up to this many characters.
const LONGEST_TEXT: usize = 500;

/// One reply (RFC 5321 §4.2), several lines or one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub code: u16,
    pub lines: Vec<String>,
}

/// Why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server closed the connection.
    Closed,
    /// The system says that the connection is broken.
    Broken(String),
    /// Nothing came for this long.
    Silent(Duration),
    /// Something came that is no reply.
    Nonsense(String),
}

impl Reply {
    /// A 4yz or 5yz.
    pub fn is_negative(&self) -> bool {
        (400..=599).contains(&self.code)
    }

    /// Whether it can be a server's yes to a final dot: a 2yz, but none that only other commands are answered with
    /// (HELP, the greeting, QUIT, AUTH).
    pub fn takes_a_message(&self) -> bool {
        matches!(self.code, 200..=299) && !matches!(self.code, 211 | 214 | 220 | 221 | 235)
    }

    /// The code and all lines on one line, as records keep it.
    pub fn text(&self) -> String {
        clean(&self.whole())
    }

    /// The code and all lines, as they came.
    pub fn whole(&self) -> String {
        format!("{} {}", self.code, self.lines.join(" "))
    }

    /// What a negative reply makes of the message that it judges.
    pub fn judgement(&self) -> Fate {
        if self.code < 500 { Fate::Deferred { reply: self.text() } } else { Fate::Refused { reply: self.text() } }
    }
}

impl Trouble {
    /// The trouble as a sentence: who, and instead of answering what.
    pub fn at(&self, server: &str, stage: &str) -> String {
        match self {
            Trouble::Closed => format!("{server} closed the connection before it answered {stage}"),
            Trouble::Broken(os) => format!("the connection to {server} broke before {stage} was answered: {os}"),
            Trouble::Silent(waited) => format!("{server} did not answer {stage} within {}", seconds(*waited)),
            Trouble::Nonsense(text) => format!("{server} answered {stage} with what is no SMTP reply: {text}"),
        }
    }
}

/// Sorts what lettre returns. `waited` is the time that a silent server was given.
///
/// # Errors
/// No reply was read, or none that this side may trust.
pub(super) fn sort(heard: Result<Response, Error>, waited: Duration) -> Result<Reply, Trouble> {
    let reply = match heard {
        Ok(response) => Reply { code: response.code().into(), lines: response.message().map(str::to_owned).collect() },
        Err(error) => match error.status() {
            Some(code) => Reply { code: code.into(), lines: vec![cause(&error)] },
            None => return Err(trouble(&error, waited)),
        },
    };
    // lettre ends a line at CRLF only, so a bare line feed in the text is a second line of unknown meaning.
    if reply.lines.iter().any(|line| line.contains('\n')) {
        return Err(Trouble::Nonsense(clean(&reply.whole())));
    }
    Ok(reply)
}

/// What an error that carries no reply means.
pub(super) fn trouble(error: &Error, waited: Duration) -> Trouble {
    let system = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match system.map(|system| (system.kind(), system)) {
        // A read timeout is WouldBlock on Linux, which lettre's `is_timeout` does not know.
        Some((io::ErrorKind::WouldBlock, _)) => Trouble::Silent(waited),
        Some((io::ErrorKind::TimedOut, system)) if system.raw_os_error().is_none() => Trouble::Silent(waited),
        Some((io::ErrorKind::UnexpectedEof, _)) => Trouble::Closed,
        // Without an inner error it is the standard library's word about a line; with one it is from TLS.
        Some((io::ErrorKind::InvalidData, system)) if system.get_ref().is_none() => {
            Trouble::Nonsense("a line that is not UTF-8".to_owned())
        }
        Some((_, system)) => Trouble::Broken(system.to_string()),
        None if !error.is_response() => Trouble::Broken(cause(error)),
        None => match cause(error) {
            end if end == "incomplete response" => Trouble::Closed,
            parser => Trouble::Nonsense(clean(parser.split_once(" at: ").map_or(&*parser, |(_, rest)| rest))),
        },
    }
}

/// An error's cause without lettre's word for its kind, which would be said twice.
pub(super) fn cause(error: &Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// One line without control characters, at most [`LONGEST_TEXT`] characters.
pub(super) fn clean(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '?' } else { c };
    text.trim().chars().take(LONGEST_TEXT).map(shown).collect()
}

/// A waiting time in words.
pub(super) fn seconds(waited: Duration) -> String {
    if waited.subsec_nanos() == 0 { format!("{} s", waited.as_secs()) } else { format!("{} ms", waited.as_millis()) }
}
