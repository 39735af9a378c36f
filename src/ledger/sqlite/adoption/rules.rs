//! How a log is looked at, and how the command line says it.

use std::sync::Arc;

use crate::domain::old_log::Reader;
use crate::failure::Failure;

const DAY_IN_SECONDS: i64 = 24 * 60 * 60;

/// Called for each row just looked at.
pub type Tick = Arc<dyn Fn() + Send + Sync>;

/// What makes two rows duplicates, and how rows are read.
#[derive(Clone)]
pub struct Rules {
    pub reader: Reader,
    pub window_in_seconds: i64,
    pub tick: Tick,
}

impl Rules {
    /// The flags that make a command go by the same rules, each with a space before it.
    pub fn flags(&self) -> String {
        let window = match self.window_in_seconds {
            DAY_IN_SECONDS => String::new(),
            seconds => format!(" --window {}", span(seconds)),
        };
        self.reader.zone.map_or(window.clone(), |zone| format!("{window} --timezone {zone}"))
    }
}

/// A length of time the way the command line takes it: `24h`, `30m`, `90s`.
pub fn span(seconds: i64) -> String {
    match seconds {
        hours if hours % 3600 == 0 => format!("{}h", hours / 3600),
        minutes if minutes % 60 == 0 => format!("{}m", minutes / 60),
        seconds => format!("{seconds}s"),
    }
}

/// The refusal of times without a zone: which instants they are cannot be known. Exit 2: a flag is missing.
pub fn no_zone(place: &str, time: &str) -> Failure {
    Failure::usage(
        format!("{place}: the time \"{time}\" has no zone"),
        "say which zone the older system wrote its times in, for example `--timezone Europe/Berlin` or `--timezone UTC`",
    )
    .kept("nothing was changed")
}
