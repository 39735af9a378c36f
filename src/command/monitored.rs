//! What a run tells the shop's monitoring: calls when it begins and ends, and a file of numbers.

#[cfg(feature = "heartbeat")]
use std::cell::Cell;
use std::cell::OnceCell;
use std::path::Path;
use std::time::Instant as Monotonic;

use anyhow::Result;

use super::Context;
use crate::failure::{Exit, Failure};
use crate::ledger::{Access, Ledger, Records};
use crate::report::metrics::{self, LastRun};
use crate::settings::{MetricsSettings, Monitoring};
use crate::whole_file::{self, Lasting};

/// The kind of notice that the file could not be written.
const UNWRITTEN: &str = "metrics";

/// Does the work of a command, and tells of it. What cannot be told changes nothing of what it did, nor its exit code.
pub fn run(context: &Context<'_>, command: &'static str, work: impl FnOnce() -> Result<Exit>) -> Result<Exit> {
    // What is wrong with the configuration is told by the work itself.
    let Ok(monitored) = Monitoring::read(context.global.config.as_deref()) else { return work() };
    if let Some(url) = monitored.heartbeat.urls.get(command) {
        context.heartbeat.watch(url);
    }
    let began = Monotonic::now();
    let done = work();
    let exit = match &done {
        Ok(exit) => *exit,
        Err(err) => err.downcast_ref::<Failure>().map_or(Exit::Internal, |failure| failure.exit),
    };
    if let Some(metrics) = &monitored.metrics {
        let last = LastRun {
            command,
            ended_at: context.clock.now(),
            seconds: began.elapsed().as_secs_f64(),
            exit: exit as u8,
        };
        write(context, &monitored, metrics, &last);
    }
    if let Err(why) = context.heartbeat.end(exit) {
        context.output.decision(format!("the monitoring was not told of this run: {why}"));
    }
    done
}

/// A person hears once of a file that cannot be written, as long as that lasts.
fn write(context: &Context<'_>, monitored: &Monitoring, metrics: &MetricsSettings, last: &LastRun<'_>) {
    let records = Records::open(monitored.place()).ok();
    let write_once = || {
        let text = current(context, monitored, records.as_ref(), Some(last))
            .or_else(|_| current(context, monitored, None, Some(last)))?;
        replace(&metrics.file, &text).map_err(|err| {
            Failure::ledger(
                format!("could not write the metrics {}: {err}", metrics.file.display()),
                "make room, or let this user write in that folder; monitoring sees the numbers of before until then",
            )
            .kept("the run itself is done as it says; this is told once")
        })
    };
    let written = write_once();
    // Without a ledger there is no telling whether it was told; the run has told of that.
    let Some(records) = &records else { return };
    let stands = records.open_notices().is_ok_and(|notices| notices.iter().any(|notice| notice.kind == UNWRITTEN));
    if written.is_ok() && !stands {
        return;
    }
    let line = written.as_ref().err().map(|failure| failure.what.as_str());
    let noted = Ledger::open(monitored.place(), Access::Decided)
        .and_then(|mut ledger| ledger.notices().note_each(UNWRITTEN, line, context.clock.now()));
    match written {
        // It says that it could not be written.
        Ok(()) => drop(write_once()),
        Err(failure) if noted.unwrap_or(true) => context.output.failure(&failure),
        Err(_) => {}
    }
}

/// The numbers as they are now; without a ledger, those that need none.
pub(super) fn current(
    context: &Context<'_>,
    monitored: &Monitoring,
    records: Option<&Records>,
    last: Option<&LastRun<'_>>,
) -> Result<String, Failure> {
    // Whoever reads a pipe waits for a writer, for ever.
    let before = monitored.metrics.as_ref().filter(|metrics| metrics.file.is_file());
    let before = before.and_then(|metrics| std::fs::read_to_string(&metrics.file).ok()).unwrap_or_default();
    metrics::text(records, monitored, &before, last, context.clock.now())
}

/// Written beside and renamed: whoever reads it sees one or the other whole. Readable by all, as what collects it is another user.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    if file.symlink_metadata().is_ok_and(|there| !there.is_file() && !there.is_symlink()) {
        return Err(std::io::Error::other("something else than a file is there"));
    }
    whole_file::replace(file, text.as_bytes(), 0o644, Lasting::No)
}

/// The calls of one run: none, unless an address is to be called.
#[derive(Default)]
pub(super) struct Heartbeat {
    url: OnceCell<String>,
    #[cfg(feature = "heartbeat")]
    begun: Cell<Option<std::thread::JoinHandle<Result<(), String>>>>,
}

impl Heartbeat {
    fn watch(&self, url: &str) {
        let _ = self.url.set(url.to_owned());
    }

    /// The run has begun: it holds the lock, so that its end is told as well. This is called beside the work.
    pub(super) fn begin(&self) {
        #[cfg(feature = "heartbeat")]
        if let Some(url) = self.url.get() {
            let start = format!("{url}/start");
            self.begun.set(Some(std::thread::spawn(move || crate::heartbeat::call(&start))));
        }
    }

    /// One that found another run under way has not begun: that one tells of itself.
    fn end(&self, exit: Exit) -> Result<(), String> {
        #[cfg(feature = "heartbeat")]
        if let Some(url) = self.url.get() {
            let begun = self.begun.take();
            if begun.is_none() && exit == Exit::AnotherRunHoldsTheLock {
                return Ok(());
            }
            let begun = begun.map_or(Ok(()), |begun| begun.join().unwrap_or(Err("it could not be called".into())));
            return begun.and(crate::heartbeat::call(&format!("{url}/{}", exit as u8)));
        }
        let _ = exit;
        Ok(())
    }
}
