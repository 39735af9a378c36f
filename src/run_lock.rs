//! The run lock: one run at a time on one ledger, and the record that betrays a restored backup.
//!
//! The file `<ledger>.lock` lies beside the ledger's real path and is never deleted. Its first 192 bytes are the
//! checksummed record, written only after the ledger's own commit; the line after it tells people who holds the lock.

use std::fs::{File, OpenOptions};
use std::io::IsTerminal;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant as Monotonic, SystemTime};

use sha2::{Digest, Sha256};

use crate::domain::instant::{self, Instant};
use crate::domain::message_key::hex;
use crate::failure::{Exit, Failure};
use crate::output::count;

const RECORD_BYTES: usize = 192;
const HOLDER_BYTES: usize = 256;
/// A holder older than this is worth a line also where no one watches.
const LONG_HELD: Duration = Duration::from_secs(15 * 60);
/// Stands for the holder where this user may not read the lock file.
pub const NOT_KNOWN: &str = "perhaps; this user may not read the lock file";
const POLL_EVERY: Duration = Duration::from_millis(50);

/// What the lock file remembers of the last run, to compare with the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub ledger_id: String,
    pub epoch: i64,
    /// `None` while the run is under way, or when it died.
    pub ended_at: Option<Instant>,
    /// Messages armed by that run.
    pub armed: u64,
    /// What the ledger's file looked like after the commit, by [`crate::ledger::Ledger::mark_of`].
    pub file: String,
    /// The machine it ran on, where that has an identity.
    pub host: Option<String>,
}

/// The record as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The file was new or empty.
    Empty,
    /// Written halfway or damaged: its checksum does not hold.
    Torn,
    Record(Record),
}

/// The lock, held until dropped.
#[derive(Debug)]
pub struct RunLock {
    file: File,
    path: PathBuf,
}

impl RunLock {
    /// The path of the lock file of a ledger: beside the ledger's real path, links followed.
    pub fn path_for(ledger: &Path) -> PathBuf {
        let real = std::fs::canonicalize(ledger).unwrap_or_else(|_| {
            let folder = ledger.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
            folder.join(ledger.file_name().unwrap_or_default())
        });
        let mut name = real.into_os_string();
        name.push(".lock");
        PathBuf::from(name)
    }

    /// Takes the lock, waiting at most `wait`.
    ///
    /// # Errors
    /// Exit 75 when another run holds it to the end; quiet off a terminal until the holder is older than 15 minutes.
    /// Exit 74 when the file cannot be made or locked.
    pub fn take(ledger: &Path, command: &str, wait: Duration) -> Result<RunLock, Failure> {
        let path = RunLock::path_for(ledger);
        let began = Monotonic::now();
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(|err| cannot(&path, "open", &err))?;
            match fs2::FileExt::try_lock_exclusive(&file) {
                Ok(()) => {
                    // Someone may have replaced the file between opening and locking: a lock on a nameless inode guards nothing.
                    let (ours, named) = (file.metadata(), std::fs::metadata(&path));
                    let same = match (ours, named) {
                        (Ok(ours), Ok(named)) => (ours.dev(), ours.ino()) == (named.dev(), named.ino()),
                        _ => false,
                    };
                    if !same {
                        continue;
                    }
                    let lock = RunLock { file, path };
                    lock.write_holder(command)?;
                    return Ok(lock);
                }
                Err(err) if err.raw_os_error() == fs2::lock_contended_error().raw_os_error() => {
                    if began.elapsed() >= wait {
                        return Err(held(&file, &path));
                    }
                    std::thread::sleep(POLL_EVERY.min(wait.saturating_sub(began.elapsed())));
                }
                Err(err) => return Err(cannot(&path, "lock", &err)),
            }
        }
    }

    /// Reads the record of the last run.
    pub fn record(&self) -> Result<Found, Failure> {
        let mut bytes = [0; RECORD_BYTES];
        let mut read = 0;
        while read < RECORD_BYTES {
            match self.file.read_at(&mut bytes[read..], read as u64).map_err(|err| cannot(&self.path, "read", &err))? {
                0 => break,
                n => read += n,
            }
        }
        Ok(parse_record(&bytes[..read]))
    }

    /// Reads the record without the lock: that of a run under way, perhaps. `None` when there is no lock file to read.
    pub fn peek(ledger: &Path) -> Option<Found> {
        let bytes = std::fs::read(RunLock::path_for(ledger)).ok()?;
        Some(parse_record(&bytes[..bytes.len().min(RECORD_BYTES)]))
    }

    /// Writes the record, after the ledger's own commit. With `durable` it is on disk when this returns.
    pub fn write_record(&self, record: &Record, durable: bool) -> Result<(), Failure> {
        self.file.write_all_at(&record_bytes(record), 0).map_err(|err| cannot(&self.path, "write", &err))?;
        match durable {
            true => self.file.sync_data().map_err(|err| cannot(&self.path, "fsync", &err)),
            false => Ok(()),
        }
    }

    /// Who holds the lock of a ledger just now; `None` when no one does, and [`NOT_KNOWN`] to a user who may not read it.
    pub fn current_holder(ledger: &Path) -> Option<String> {
        let path = RunLock::path_for(ledger);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(err) if err.kind() == std::io::ErrorKind::PermissionDenied => return Some(NOT_KNOWN.into()),
            Err(_) => return None,
        };
        match fs2::FileExt::try_lock_shared(&file) {
            Ok(()) => None,
            Err(_) => Some(holder(&path).unwrap_or_else(|| "someone".into())),
        }
    }

    /// Which run is under way on a ledger: one that has looked at it and begun. `None` when no one holds the lock, and while
    /// the one who does is still looking.
    pub fn run_under_way(ledger: &Path) -> Option<i64> {
        let holder = RunLock::current_holder(ledger)?;
        holder.split(' ').find_map(|part| part.strip_prefix("run="))?.parse().ok()
    }

    /// Adds to what is said of the holder which run it has begun.
    pub fn say_begun(&self, epoch: i64) -> Result<(), Failure> {
        match holder(&self.path) {
            Some(line) => self.write_line(&format!("{line} run={epoch}")),
            None => Ok(()),
        }
    }

    fn write_holder(&self, command: &str) -> Result<(), Failure> {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let started = instant::text(chrono::Utc::now());
        self.write_line(&format!("pid={} command={command} host={} started={started}", std::process::id(), host.trim()))
    }

    fn write_line(&self, line: &str) -> Result<(), Failure> {
        let mut bytes = [b' '; HOLDER_BYTES];
        let kept = line.len().min(HOLDER_BYTES - 1);
        bytes[..kept].copy_from_slice(&line.as_bytes()[..kept]);
        bytes[HOLDER_BYTES - 1] = b'\n';
        let len = self.file.metadata().map_err(|err| cannot(&self.path, "read", &err))?.len();
        if len < RECORD_BYTES as u64 {
            let mut blank = [b' '; RECORD_BYTES];
            blank[RECORD_BYTES - 1] = b'\n';
            self.file.write_all_at(&blank, 0).map_err(|err| cannot(&self.path, "write", &err))?;
        }
        self.file.write_all_at(&bytes, RECORD_BYTES as u64).map_err(|err| cannot(&self.path, "write", &err))
    }
}

/// Who holds the lock, as the file tells: `pid=… command=… host=… started=…`, and `run=…` once it has begun. `None` when it says nothing.
pub fn holder(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let line = String::from_utf8_lossy(bytes.get(RECORD_BYTES..)?).trim().to_owned();
    (!line.is_empty()).then_some(line)
}

fn held(file: &File, path: &Path) -> Failure {
    let who = holder(path).unwrap_or_else(|| "someone".into());
    let started = who.split(' ').find_map(|part| part.strip_prefix("started=")).and_then(instant::from_text);
    let since = started.map(SystemTime::from).or_else(|| file.metadata().and_then(|meta| meta.modified()).ok());
    let age = since.and_then(|since| since.elapsed().ok()).unwrap_or_default();
    let mut failure = Failure::new(
        Exit::AnotherRunHoldsTheLock,
        format!("another run holds {} ({who})", path.display()),
        "nothing to do: it goes on by itself; --wait 30s waits for it",
    );
    failure.quiet = age < LONG_HELD && !std::io::stderr().is_terminal();
    if age >= LONG_HELD {
        failure.next =
            format!("it has run for {}; look at it if that is not expected", count(age.as_secs() / 60, "minute"));
    }
    failure
}

fn cannot(path: &Path, verb: &str, err: &std::io::Error) -> Failure {
    Failure::ledger(
        format!("could not {verb} the lock file {}: {err}", path.display()),
        "the folder of the ledger must be writable for the user cron runs as, on a local disk with space left",
    )
}

fn record_bytes(record: &Record) -> [u8; RECORD_BYTES] {
    let ended = record.ended_at.map_or_else(|| "-".into(), instant::text);
    let body = format!(
        "mailonce 1 ledger={} epoch={:020} ended={ended:<20} armed={:020} file={}",
        record.ledger_id, record.epoch, record.armed, record.file
    );
    let body = record.host.as_ref().map_or(body.clone(), |host| format!("{body} host={host}"));
    let line = format!("{body} check={}", checksum(&body));
    let mut bytes = [b' '; RECORD_BYTES];
    bytes[..line.len().min(RECORD_BYTES - 1)].copy_from_slice(&line.as_bytes()[..line.len().min(RECORD_BYTES - 1)]);
    bytes[RECORD_BYTES - 1] = b'\n';
    bytes
}

fn checksum(body: &str) -> String {
    hex(&Sha256::digest(body.as_bytes())[..8])
}

fn parse_record(bytes: &[u8]) -> Found {
    if bytes.iter().all(|b| b.is_ascii_whitespace() || *b == 0) {
        return Found::Empty;
    }
    let parse = || {
        let text = std::str::from_utf8(bytes).ok()?.trim_end();
        let (body, check) = text.rsplit_once(" check=")?;
        (checksum(body) == check && body.starts_with("mailonce 1 ")).then_some(())?;
        let field = |name: &str| body.split_whitespace().find_map(|part| part.strip_prefix(name));
        Some(Record {
            ledger_id: field("ledger=")?.to_owned(),
            epoch: field("epoch=")?.parse().ok()?,
            ended_at: match field("ended=")? {
                "-" => None,
                at => Some(instant::from_text(at)?),
            },
            armed: field("armed=")?.parse().ok()?,
            file: field("file=")?.to_owned(),
            host: field("host=").map(str::to_owned),
        })
    };
    parse().map_or(Found::Torn, Found::Record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_a_damaged_one_is_torn() {
        let record = Record {
            ledger_id: "0123456789abcdef0123456789abcdef".into(),
            epoch: i64::MAX,
            ended_at: instant::from_text("2026-03-01T08:00:00Z"),
            armed: u64::MAX,
            file: "0123456789abcdef".into(),
            host: Some("01234567".into()),
        };
        let bytes = record_bytes(&record);
        assert_eq!(parse_record(&bytes), Found::Record(record));
        for at in 0..bytes.len() - 1 {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            // White space may change without harm: it only pads.
            let same = parse_record(&damaged) == parse_record(&bytes);
            assert!(!same || bytes[at] == b' ', "byte {at} is not covered by the checksum");
        }
        assert_eq!(parse_record(&bytes[..100]), Found::Torn);
        assert_eq!(parse_record(&[b' '; RECORD_BYTES]), Found::Empty);
        assert_eq!(parse_record(&[]), Found::Empty);
    }
}
