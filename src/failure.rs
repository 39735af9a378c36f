//! What a person is told when a command cannot go on: what happened, what was kept, what to do next.

use std::fmt;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How a command ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done; also when a recipient's address was refused: that is listed, not an alarm.
    Done = 0,
    /// Ran, and a person is needed.
    NeedsAPerson = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The data given cannot be used.
    DataUnusable = 65,
    /// A fault of mailonce itself.
    Internal = 70,
    /// The ledger, the disk or the clock is in the way.
    LedgerOrDisk = 74,
    /// Another run holds the lock.
    AnotherRunHoldsTheLock = 75,
    /// The configuration is wrong.
    Configuration = 78,
}

impl Exit {
    /// Each exit code with its meaning, as the README and the man page have it.
    pub const MEANINGS: [(Exit, &'static str); 8] = [
        (Exit::Done, "done; also when a recipient's address was refused: that is listed, not an alarm"),
        (Exit::NeedsAPerson, "ran, and a person is needed; of `explain`: nothing is known"),
        (Exit::Usage, "the command line is wrong"),
        (Exit::DataUnusable, "the data given cannot be used"),
        (Exit::Internal, "a fault of mailonce itself: please report what it says"),
        (Exit::LedgerOrDisk, "the ledger, the disk or the clock is in the way"),
        (Exit::AnotherRunHoldsTheLock, "another run holds the lock"),
        (Exit::Configuration, "the configuration is wrong, or there is no ledger"),
    ];
}

/// An end that a person must hear of. It prints as three lines: `error:`, ` kept:`, ` next:`.
#[derive(Debug, Clone)]
pub struct Failure {
    pub exit: Exit,
    pub what: String,
    /// Empty when nothing had been begun.
    pub kept: String,
    pub next: String,
    /// Printed only on a terminal: a held lock is no news under cron.
    pub quiet: bool,
}

impl Failure {
    /// A failure with its exit code and its first and last line.
    pub fn new(exit: Exit, what: impl Into<String>, next: impl Into<String>) -> Failure {
        Failure { exit, what: what.into(), kept: String::new(), next: next.into(), quiet: false }
    }

    /// Adds what was kept.
    pub fn kept(mut self, kept: impl Into<String>) -> Failure {
        self.kept = kept.into();
        self
    }

    /// A configuration error (exit 78).
    pub fn config(what: impl Into<String>, next: impl Into<String>) -> Failure {
        Failure::new(Exit::Configuration, what, next)
    }

    /// A ledger, disk or clock error (exit 74).
    pub fn ledger(what: impl Into<String>, next: impl Into<String>) -> Failure {
        Failure::new(Exit::LedgerOrDisk, what, next)
    }

    /// Data that cannot be used (exit 65).
    pub fn data(what: impl Into<String>, next: impl Into<String>) -> Failure {
        Failure::new(Exit::DataUnusable, what, next)
    }

    /// A fault of mailonce itself (exit 70).
    pub fn internal(what: impl Into<String>) -> Failure {
        let next = "report this, with the command and the line above, to whoever maintains mailonce; the next run goes on from the ledger";
        Failure::new(Exit::Internal, format!("this is a fault of mailonce {VERSION}: {}", what.into()), next)
            .kept("what the ledger records; a message whose body had begun is in doubt from the next run on")
    }

    /// A wrong command line (exit 2).
    pub fn usage(what: impl Into<String>, next: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, what, next)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if !self.kept.is_empty() {
            write!(f, "\n kept: {}", self.kept)?;
        }
        if !self.next.is_empty() {
            write!(f, "\n next: {}", self.next)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_readme_lists_every_exit_code() {
        let readme = include_str!("../README.md");
        let rows = readme.lines().skip_while(|line| !line.starts_with("| exit |")).skip(2);
        let listed: Vec<&str> = rows.take_while(|line| line.starts_with("| ")).collect();
        let known = Exit::MEANINGS.map(|(exit, meaning)| format!("| {} | {meaning} |", exit as u8));
        assert_eq!(listed, known);
    }
}
