//! One run of a command that sends: the lock, the guards, the epoch, what a dead run left, and an orderly end.

use std::time::Duration;

use crate::clock::Clock;
use crate::failure::{Exit, Failure};
use crate::ledger::{Access, Kind, Ledger, Records, Recovered};
use crate::mail::Transport;
use crate::output::Output;
use crate::run_lock::{Found, RunLock};
use crate::settings::{Settings, TransportSettings};

/// A run under way.
#[derive(Debug)]
pub struct Run {
    // Before the lock, so that it is closed before the next run may begin.
    pub ledger: Ledger,
    pub lock: RunLock,
    pub epoch: i64,
    pub recovered: Recovered,
    clock: Clock,
}

/// How a run is begun.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    pub command: &'a str,
    pub wait: Duration,
    pub accept_clock: bool,
    pub clock: Clock,
    pub output: Output,
}

impl Run {
    /// Takes the lock, checks what must hold before anything is sent, begins the run and deals with what a dead one left.
    ///
    /// # Errors
    /// 78: no ledger, or a transport that does not fit it. 75: another run holds the lock. 74: clock, disk, old copy.
    pub fn begin(settings: &Settings, start: Start<'_>, transport: &Transport) -> Result<Run, Failure> {
        Ledger::check_path(settings.place())?;
        let lock = RunLock::take(&settings.ledger, start.command, start.wait)?;
        let found = lock.record()?;
        let mut ledger = Ledger::open(settings.place(), Access::Write)?;
        check_fit(settings, &ledger, start.clock)?;
        if let what @ (Found::Empty | Found::Torn) = found
            && ledger.epoch_and_armed()?.0 > 0
        {
            let what = if what == Found::Torn { "damaged" } else { "empty" };
            let path = RunLock::path_for(&settings.ledger);
            start.output.alarm(format!("note: {} was {what}; its record is written anew", path.display()));
        }
        let now = start.clock.now();
        if !start.accept_clock {
            ledger.check_clock(now).map_err(|mut failure| {
                if start.clock.is_frozen() {
                    failure.next = "give a later --now, or begin another rehearsal ledger (another `ledger` in the configuration) \
                                    then: `mailonce init --rehearsal --now TIME`; or go on with --accept-clock"
                        .into();
                }
                failure
            })?;
        }
        if let Some(copy) = ledger.migrate()? {
            start.output.decision(format!(
                "{} brought up to date with this version; as it was before: {}",
                settings.ledger.display(),
                copy.display()
            ));
        }
        if let Some(other) = ledger.came_from()? {
            start.output.alarm(format!(
                "note: {} was last written on another machine, {} ({}); if mailonce still runs there on it or on a copy of it, \
                 both send: stop it there. This is said once",
                settings.ledger.display(),
                other.name,
                other.id
            ));
        }
        let window = settings.detect.window.as_secs() as i64;
        let epoch = ledger.runs().begin(start.command, now, window, start.accept_clock)?;
        // Written only now that the ledger knows the run: the file may lag behind the ledger, never the other way round.
        lock.write_record(&ledger.record_of(epoch, None, 0), true)?;
        lock.say_begun(epoch)?;
        let recovered = ledger.runs().recover(now, |token| transport.holds(token))?;
        ledger.reports().settle_doubts(now)?;
        start.output.decision(format!("run {epoch} started, lock held"));
        Ok(Run { lock, ledger, epoch, recovered, clock: start.clock })
    }

    /// Ends the run in the ledger and in the lock file, and lets the lock go.
    pub fn end(mut self, ending: &str, idle: bool, armed: u64) -> Result<(), Failure> {
        let now = self.clock.now();
        self.ledger.runs().end(self.epoch, now, ending, idle)?;
        self.lock.write_record(&self.ledger.record_of(self.epoch, Some(now), armed), true)
    }
}

/// Opens the ledger to change it under the run lock, which the caller holds, and brings an older schema up to date.
///
/// # Errors
/// As [`Ledger::open`] for writing: what stops a run stops this too.
pub fn open_locked(settings: &Settings, _lock: &RunLock) -> Result<Ledger, Failure> {
    let mut ledger = Ledger::open(settings.place(), Access::Write)?;
    ledger.migrate()?;
    Ok(ledger)
}

/// Checks that transport and clock fit the kind of ledger: a rehearsal never mails people, a live run never only pretends.
pub fn check_fit(settings: &Settings, ledger: &Records, clock: Clock) -> Result<(), Failure> {
    let path = ledger.path().display();
    match (ledger.kind(), &settings.transport) {
        (Kind::Live, TransportSettings::File { .. }) => Err(Failure::config(
            format!("{path} is a live ledger, and transport = \"file\" would record as mailed what no one gets"),
            "set mail.transport = \"smtp\"; for a rehearsal, name another ledger and make it with `mailonce init --rehearsal`",
        )),
        (Kind::Rehearsal, TransportSettings::Smtp(smtp)) if !smtp.is_loopback() => Err(Failure::config(
            format!("{path} is a rehearsal ledger, and {} is not a server on this machine", smtp.host),
            "set mail.transport = \"file\" for the rehearsal; for real mail, name another ledger and make it with `mailonce init`",
        )),
        (Kind::Live, _) if clock.is_frozen() => Err(Failure::new(
            Exit::Usage,
            format!("--now is for rehearsals: {path} is a live ledger"),
            "leave --now out, add --dry-run, or use a rehearsal ledger (`mailonce init --rehearsal`)",
        )),
        _ => Ok(()),
    }
}
