//! What a run tells the shop's monitoring: calls when it begins and ends, and a file of numbers.

use std::path::Path;
use std::time::Instant as Monotonic;

use anyhow::Result;

use super::Context;
use crate::failure::{Exit, Failure};
use crate::ledger::{Access, Ledger, Notice, Records};
use crate::report::metrics::{self, LastRun};
use crate::settings::{MetricsSettings, Settings};
use crate::whole_file::{self, Lasting};

/// The kind of notice that the file could not be written.
const UNWRITTEN: &str = "metrics";

/// Does the work of a command, and tells of it. What cannot be told changes nothing of what it did, nor its exit code.
pub fn run(context: &Context<'_>, command: &'static str, work: impl FnOnce() -> Result<Exit>) -> Result<Exit> {
    // What is wrong with the configuration is told by the work itself.
    let Ok(settings) = context.settings_without_secrets() else { return work() };
    if settings.metrics.is_none() && settings.heartbeat.urls.is_empty() {
        return work();
    }
    let beat = Beat::begin(settings.heartbeat.urls.get(command).map(String::as_str), context);
    let began = Monotonic::now();
    let done = work();
    let exit = match &done {
        Ok(exit) => *exit,
        Err(err) => err.downcast_ref::<Failure>().map_or(Exit::Internal, |failure| failure.exit),
    };
    if let Some(written) = &settings.metrics {
        let last = LastRun {
            command,
            ended_at: context.clock.now(),
            seconds: began.elapsed().as_secs_f64(),
            exit: exit as u8,
        };
        write(context, &settings, written, &last);
    }
    beat.end(exit);
    done
}

/// A person hears once of a file that cannot be written, as long as that lasts.
fn write(context: &Context<'_>, settings: &Settings, metrics: &MetricsSettings, last: &LastRun<'_>) {
    let Ok(records) = Records::open(settings.place()) else { return };
    let written = current(context, settings, &records, Some(last)).and_then(|text| {
        replace(&metrics.file, &text).map_err(|err| {
            Failure::ledger(
                format!("could not write the metrics {}: {err}", metrics.file.display()),
                "make room, or let this user write in that folder; monitoring sees the numbers of before until then",
            )
            .kept("the run itself is done as it says; this is told once")
        })
    });
    let was_told = records.standing_of(UNWRITTEN).is_ok_and(|standing| !standing.is_empty());
    if written.is_ok() && !was_told {
        return;
    }
    let notice = written.as_ref().err().map(|failure| Notice { key: UNWRITTEN.into(), line: failure.what.clone() });
    drop(records);
    let noted = Ledger::open(settings.place(), Access::Decided)
        .and_then(|mut ledger| ledger.notices().note_once(UNWRITTEN, notice.as_ref(), context.clock.now()));
    if let Err(failure) = written
        && noted.unwrap_or(true)
    {
        context.output.failure(&failure);
    }
}

/// The numbers as they are now.
pub(super) fn current(
    context: &Context<'_>,
    settings: &Settings,
    records: &Records,
    last: Option<&LastRun<'_>>,
) -> Result<String, Failure> {
    let metrics = settings.metrics.as_ref();
    // Whoever reads a pipe waits for a writer, for ever.
    let before = metrics.filter(|metrics| metrics.file.is_file());
    let before = before.and_then(|metrics| std::fs::read_to_string(&metrics.file).ok()).unwrap_or_default();
    let name = metrics.and_then(|metrics| metrics.ledger.as_deref());
    metrics::text(records, &settings.pools, name, &before, last, context.clock.now())
}

/// Written beside and renamed: whoever reads it sees one or the other whole. Readable by all, as what collects it is another user.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    if file.symlink_metadata().is_ok_and(|there| !there.is_file() && !there.is_symlink()) {
        return Err(std::io::Error::other("something else than a file is there"));
    }
    whole_file::replace(file, text.as_bytes(), 0o644, Lasting::No)
}

/// The calls of one run. The first is made beside the work.
struct Beat<'a> {
    context: &'a Context<'a>,
    url: Option<&'a str>,
    #[cfg(feature = "heartbeat")]
    begun: Option<std::thread::JoinHandle<Result<(), String>>>,
}

impl<'a> Beat<'a> {
    #[cfg(feature = "heartbeat")]
    fn begin(url: Option<&'a str>, context: &'a Context<'a>) -> Beat<'a> {
        let begun = url.map(|url| {
            let start = format!("{url}/start");
            std::thread::spawn(move || crate::heartbeat::call(&start))
        });
        Beat { context, url, begun }
    }

    #[cfg(not(feature = "heartbeat"))]
    fn begin(url: Option<&'a str>, context: &'a Context<'a>) -> Beat<'a> {
        Beat { context, url }
    }

    /// Another run that holds the lock tells of itself.
    #[cfg(feature = "heartbeat")]
    fn end(self, exit: Exit) {
        let (Some(url), Some(begun)) = (self.url, self.begun) else { return };
        let begun = begun.join().unwrap_or(Err("it could not be called".into()));
        if exit == Exit::AnotherRunHoldsTheLock {
            return;
        }
        let ended = crate::heartbeat::call(&format!("{url}/{}", exit as u8));
        if let Err(why) = begun.and(ended) {
            self.context.output.decision(format!("the monitoring was not told of this run: {why}"));
        }
    }

    #[cfg(not(feature = "heartbeat"))]
    fn end(self, _exit: Exit) {
        let _ = (self.context, self.url);
    }
}
