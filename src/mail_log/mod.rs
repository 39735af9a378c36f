//! A mail server's log, read for what it says about our messages: Postfix's by way of a syslog, and Exim's mainlog.
//!
//! Lines become [`Fact`]s; what these prove is weighed in [`crate::domain::evidence`]. A log is given by its newest file:
//! the rotated ones beside it (`FILE.1`, `FILE.2.gz`, `FILE-20260301.gz`) are read as far back as is asked for. Files
//! are read in the order of the times they begin with, whatever their names are.

mod exim;
mod postfix;
mod stamp;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use flate2::read::MultiGzDecoder;

use crate::domain::evidence::{Fact, LogTime, Says};
use crate::domain::instant::Instant;
use crate::failure::Failure;
pub use stamp::Zone;

/// A file in whose first so many lines no time stands is no mail log.
const LINES_TO_THE_FIRST_TIME: usize = 100;
/// Longer lines are cut; what matters stands at their beginning.
const LONGEST_LINE: u64 = 64 * 1024;

/// Who wants to know of what.
pub trait Sink {
    /// Whether facts about the message of this token (32 hex digits, lower case) are wanted.
    fn wants(&self, token: &str) -> bool;
    fn take(&mut self, fact: Fact);
}

/// A log: its files, open, in the order of their times.
#[derive(Debug)]
pub struct MailLog {
    files: Vec<LogFile>,
    zone: Zone,
    now: Instant,
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    /// Device and inode: two names may lead to one file, also while it is rotated.
    identity: (u64, u64),
    begins: LogTime,
}

/// The span of time that was read, and how much of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Covered {
    pub begins: Option<Instant>,
    pub ends: Option<Instant>,
    pub lines: u64,
    /// Lines of a mail server among them.
    pub of_a_mail_server: u64,
}

/// One line under way.
struct Line<'a> {
    text: &'a str,
    time: &'a str,
    zone: Zone,
    now: Instant,
    file_begins: LogTime,
}

impl Line<'_> {
    fn at(&self) -> Option<LogTime> {
        stamp::read(self.time, self.zone, self.now)
    }

    fn fact(&self, token: String, says: Says, at: LogTime, queue_id: String, lines: String) -> Fact {
        Fact { token, says, at, queue_id, lines, file_begins: self.file_begins }
    }
}

impl MailLog {
    /// Opens the files, and the rotated ones beside them as far as they reach back to `back_to`.
    ///
    /// # Errors
    /// Exit 65: one of those named is missing, unreadable, no mail log, or compressed other than with gzip.
    pub fn open(named: &[PathBuf], zone: Zone, now: Instant, back_to: Instant) -> Result<MailLog, Failure> {
        let mut log = MailLog { files: Vec::new(), zone, now };
        for path in named {
            let begins = match log.look_into(path)? {
                Some(file) => log.add(file),
                // Just rotated, and nothing in it yet.
                None => LogTime::exactly(now),
            };
            log.add_rotated(path, begins, back_to)?;
        }
        log.files.sort_by_key(|file| (file.begins.earliest, file.begins.latest));
        Ok(log)
    }

    fn add(&mut self, file: LogFile) -> LogTime {
        let begins = file.begins;
        if self.files.iter().all(|other| other.identity != file.identity) {
            self.files.push(file);
        }
        begins
    }

    fn add_rotated(&mut self, path: &Path, mut begins: LogTime, back_to: Instant) -> Result<(), Failure> {
        let mut rotated = Vec::new();
        for path in rotated_beside(path) {
            // One that went away meanwhile, or that this user may not read, is one file less: nothing is proven by that.
            rotated.extend(self.look_into(&path).ok().flatten());
        }
        rotated.sort_by_key(|file| std::cmp::Reverse(file.begins.earliest));
        for file in rotated {
            if begins.earliest <= back_to {
                break;
            }
            begins = self.add(file);
        }
        Ok(())
    }

    /// Opens one file and reads when it begins; `None` when it is empty.
    fn look_into(&self, path: &Path) -> Result<Option<LogFile>, Failure> {
        let unreadable = |err: std::io::Error| {
            let next = match err.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    "let the user cron runs as read it: on Debian, `adduser USER adm`"
                }
                _ => "name the log of the mail server that mailonce sends to",
            };
            Failure::data(format!("could not read the mail log {}: {err}", path.display()), next)
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let meta = file.metadata().map_err(unreadable)?;
        let mut lines = reader(&mut file, path)?;
        let mut line = Vec::new();
        let mut begins = None;
        let mut is_empty = true;
        for _ in 0..LINES_TO_THE_FIRST_TIME {
            if !next_line(&mut lines, &mut line).map_err(unreadable)? {
                break;
            }
            is_empty = false;
            let text = String::from_utf8_lossy(&line);
            begins = stamp::split(&text).and_then(|(time, _)| stamp::read(time, self.zone, self.now));
            if begins.is_some() {
                break;
            }
        }
        drop(lines);
        let Some(begins) = begins else {
            if is_empty {
                return Ok(None);
            }
            return Err(Failure::data(
                format!("{} is no mail log: no line of it begins with a time", path.display()),
                "name the log that Postfix or Exim writes, for example /var/log/mail.log or /var/log/exim4/mainlog",
            ));
        };
        Ok(Some(LogFile { path: path.to_owned(), file, identity: (meta.dev(), meta.ino()), begins }))
    }

    /// When the oldest file begins.
    pub fn begins(&self) -> Option<LogTime> {
        self.files.first().map(|file| file.begins)
    }

    /// Hands every fact about a wanted message to the sink, in the order of the lines.
    ///
    /// # Errors
    /// Exit 65: a file cannot be read to its end. Discard what was handed over: an acceptance may be missing.
    pub fn read(mut self, sink: &mut dyn Sink) -> Result<Covered, Failure> {
        let mut covered = Covered { begins: self.begins().map(|at| at.earliest), ..Covered::default() };
        let (mut postfix, mut exim) = (postfix::Postfix::default(), exim::Exim::default());
        let mut newest = String::new();
        let mut bytes = Vec::new();
        for LogFile { path, file, begins, .. } in &mut self.files {
            let mut lines = reader(file, path)?;
            loop {
                let more = next_line(&mut lines, &mut bytes).map_err(|err| {
                    let what = format!("could not read the mail log {} to its end: {err}", path.display());
                    Failure::data(what, "nothing was settled; look at that file, then try again")
                })?;
                if !more {
                    break;
                }
                // A last line without its end is still being written.
                let Some(whole) = bytes.strip_suffix(b"\n") else { continue };
                let text = String::from_utf8_lossy(whole);
                let text = text.trim_end_matches('\r');
                covered.lines += 1;
                let Some((time, rest)) = stamp::split(text) else { continue };
                let line = Line { text, time, zone: self.zone, now: self.now, file_begins: *begins };
                newest.clear();
                newest.push_str(time);
                if time.as_bytes().get(10) == Some(&b' ') {
                    covered.of_a_mail_server += 1;
                    exim.take(&line, rest, sink);
                    continue;
                }
                let Some((host, rest)) = rest.split_once(' ') else { continue };
                let Some((tag, text)) = rest.split_once(": ") else { continue };
                let (program, pid) = tag.strip_suffix(']').and_then(|tag| tag.split_once('[')).unwrap_or((tag, ""));
                if program.starts_with("exim") {
                    covered.of_a_mail_server += 1;
                    exim.take(&line, stamp::split(text).map_or(text, |(_, rest)| rest), sink);
                } else if program.contains('/') {
                    covered.of_a_mail_server += 1;
                    postfix.take(&line, host, program, pid, text, sink);
                }
            }
        }
        covered.ends = stamp::read(&newest, self.zone, self.now).map(|at| at.latest);
        Ok(covered)
    }
}

/// `FILE.1`, `FILE.2.gz`, `FILE-20260301`, `FILE-20260301.gz`.
fn rotated_beside(path: &Path) -> Vec<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (Some(name), Ok(entries)) = (path.file_name().and_then(|name| name.to_str()), std::fs::read_dir(folder)) else {
        return Vec::new();
    };
    let is_rotated = |other: &str| {
        let Some(end) = other.strip_prefix(name).and_then(|end| end.strip_prefix(['.', '-'])) else { return false };
        let end = end.strip_suffix(".gz").unwrap_or(end);
        !end.is_empty() && end.bytes().all(|b| b.is_ascii_digit() || b == b'-')
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|other| is_rotated(other)).map(|other| folder.join(other)).collect()
}

/// Reads a file from its beginning, unpacked.
fn reader<'a>(file: &'a mut File, path: &Path) -> Result<Box<dyn BufRead + 'a>, Failure> {
    let failure = |err: std::io::Error| {
        Failure::data(format!("could not read the mail log {}: {err}", path.display()), "name a file that can be read")
    };
    let mut head = Vec::new();
    file.rewind().map_err(failure)?;
    file.take(6).read_to_end(&mut head).map_err(failure)?;
    file.rewind().map_err(failure)?;
    let packed = [(&b"\xfd7zXZ\0"[..], "xz"), (b"BZh", "bzip2"), (b"\x28\xb5\x2f\xfd", "zstd")];
    if let Some((_, kind)) = packed.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(Failure::data(
            format!("the mail log {} is compressed with {kind}", path.display()),
            "unpack it to another place, and name that file",
        ));
    }
    Ok(match head.starts_with(b"\x1f\x8b") {
        true => Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(BufReader::new(file)))),
        false => Box::new(BufReader::with_capacity(1 << 16, file)),
    })
}

/// Reads one line with its end; what is beyond the longest is dropped. `false` at the end of the file.
fn next_line(lines: &mut dyn BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    (&mut *lines).take(LONGEST_LINE).read_until(b'\n', line)?;
    if line.len() as u64 == LONGEST_LINE && !line.ends_with(b"\n") {
        let mut rest = Vec::new();
        while !rest.ends_with(b"\n") {
            rest.clear();
            if (&mut *lines).take(LONGEST_LINE).read_until(b'\n', &mut rest)? == 0 {
                return Ok(true);
            }
        }
        line.push(b'\n');
    }
    Ok(!line.is_empty())
}

/// Every run of exactly 32 hexadecimal digits, in lower case: servers may change the case of an address.
fn tokens_in(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_ascii_hexdigit()).filter(|run| run.len() == 32).map(str::to_ascii_lowercase)
}

/// So far back from the oldest doubt a log is read: failures count only in a file that begins before the body did.
pub const READ_BACK: TimeDelta = TimeDelta::minutes(10);
