//! What goes to stdout and stderr, and when: under cron, silence means that no one is needed.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use serde::Serialize;

use crate::clock::Clock;
use crate::domain::instant;
use crate::failure::Failure;

/// The first error of writing to stdout. A reader that went away (`| head`) is none.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// How commands that are shown to a person are completed; unset without `--config`.
static COMPLETION: OnceLock<Completion> = OnceLock::new();

/// Puts the configuration that was named on the command line into each command that is shown, so that it can be pasted.
#[derive(Debug)]
struct Completion {
    /// The file, as a shell takes it.
    config: String,
    /// The commands there are.
    commands: Vec<String>,
}

/// Has each of `commands` that is shown from now on name this configuration.
pub fn show_commands_with(config: &Path, commands: impl Iterator<Item = String>) {
    let _ = COMPLETION.set(Completion { config: quoted_for_a_shell(config), commands: commands.collect() });
}

fn quoted_for_a_shell(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:@%".contains(c);
    match path.chars().all(is_plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

/// A text for people, its commands complete.
fn completed(text: &str) -> Cow<'_, str> {
    COMPLETION.get().map_or(Cow::Borrowed(text), |completion| completion.complete(text))
}

impl Completion {
    fn complete<'a>(&self, text: &'a str) -> Cow<'a, str> {
        const PROGRAM: &str = "mailonce ";
        let mut complete = String::new();
        let mut done = 0;
        for (at, _) in text.match_indices(PROGRAM) {
            let end = at + PROGRAM.len();
            let is_a_word = !text[..at].ends_with(|c: char| c.is_alphanumeric() || "/-_.".contains(c));
            let command = text[end..].split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap_or_default();
            if is_a_word && self.commands.iter().any(|known| known == command) {
                complete += &text[done..end];
                complete += &format!("--config {} ", self.config);
                done = end;
            }
        }
        match done {
            0 => Cow::Borrowed(text),
            _ => Cow::Owned(complete + &text[done..]),
        }
    }
}

/// Keeps the first error of writing to stdout for [`lost`].
pub fn note_lost(written: io::Result<()>) {
    if let Err(err) = written
        && err.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = LOST.set(err);
    }
}

/// Prints what is for another program: nothing is added or completed.
pub fn print_as_it_is(bytes: &[u8]) {
    note_lost(io::stdout().write_all(bytes));
}

/// Flushes stdout, and returns why something printed did not arrive, as on a full disk.
pub fn lost() -> Option<&'static io::Error> {
    note_lost(io::stdout().flush());
    LOST.get()
}

/// Where a command speaks. An error of writing never stops a run; [`lost`] tells of it when the command is over.
#[derive(Debug, Clone, Copy, Default)]
pub struct Output {
    pub json: bool,
    pub verbose: bool,
    pub log_format: LogFormat,
    /// What a document was made at.
    pub clock: Clock,
}

/// How lines on stderr look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people, and for cron's mail.
    #[default]
    Text,
    /// One JSON object a line, for programs that collect logs.
    Json,
}

/// One line on stderr with `--log-format json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    at: String,
    /// `info` for a decision, `warning` for what a person must hear of, `error` for why a command ended.
    level: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kept: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    next: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<u8>,
}

/// Of every document: it rises when a field is renamed, taken away or becomes of another type.
const VERSION_OF_SCHEMAS: u32 = 1;

/// Whether the document was printed: there is one, also where an error follows.
static DOCUMENTED: AtomicBool = AtomicBool::new(false);

/// What every document begins with.
#[derive(Serialize)]
struct Document<'a, T> {
    schema: String,
    made_at: String,
    #[serde(flatten)]
    value: &'a T,
}

/// Why a command ended, as a document.
#[derive(Serialize)]
struct Problem<'a> {
    exit: u8,
    problem: &'a str,
    kept: Option<&'a str>,
    next: &'a str,
}

impl Output {
    /// Whether a person watches: stdout is a terminal and wants prose.
    pub fn is_watched(&self) -> bool {
        !self.json && io::stdout().is_terminal()
    }

    /// One decision; with `-v`, on stderr.
    pub fn decision(&self, line: impl AsRef<str>) {
        if self.verbose {
            self.line("info", line.as_ref());
        }
    }

    /// A result that only someone who watches wants: on a terminal, or with `-v`.
    pub fn tell(&self, line: impl AsRef<str>) {
        if self.is_watched() || (self.verbose && !self.json) {
            self.print(line);
        }
    }

    /// What the command was asked for: on stdout, always (but not beside a JSON document).
    pub fn print(&self, line: impl AsRef<str>) {
        if !self.json {
            note_lost(writeln!(io::stdout(), "{}", completed(line.as_ref())));
        }
    }

    /// Something a person must hear of: on stderr, always.
    pub fn alarm(&self, line: impl AsRef<str>) {
        self.line("warning", line.as_ref());
    }

    /// Why a command ended, with `--json`: the document, unless there is one.
    pub fn problem(&self, failure: &Failure) {
        let Failure { exit, what, kept, next, .. } = failure;
        let (problem, kept, next) = (&completed(what), &completed(kept), &completed(next));
        let kept = Some(&**kept).filter(|kept| !kept.is_empty());
        self.document("error", &Problem { exit: *exit as u8, problem, kept, next });
    }

    /// Why a command ended, or could not do one thing of several: on stderr.
    pub fn failure(&self, failure: &Failure) {
        let Failure { exit, what, kept, next, .. } = failure;
        let (what, kept, next) = (&completed(what), &completed(kept), &completed(next));
        match self.log_format {
            LogFormat::Text => {
                let _ = writeln!(io::stderr(), "{}", completed(&failure.to_string()));
            }
            LogFormat::Json => self.json_line("error", what, (kept, next), Some(*exit as u8)),
        }
    }

    fn line(&self, level: &'static str, line: &str) {
        let line = &completed(line);
        match self.log_format {
            LogFormat::Text => {
                let _ = writeln!(io::stderr(), "{line}");
            }
            LogFormat::Json => self.json_line(level, line, ("", ""), None),
        }
    }

    fn json_line(&self, level: &'static str, message: &str, (kept, next): (&str, &str), exit: Option<u8>) {
        let line = Line { at: instant::text(SystemTime::now().into()), level, message, kept, next, exit };
        if let Ok(line) = serde_json::to_string(&line) {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// The one JSON document, with `--json`: what `docs/schema/<name>.json` describes. The value is an object; the names of its
    /// fields are kept, and a field without a value is null, as scripts rely on them.
    pub fn document(&self, name: &str, value: &impl Serialize) {
        if self.json && !DOCUMENTED.swap(true, Ordering::Relaxed) {
            let mut stdout = io::stdout().lock();
            let written = serde_json::to_writer_pretty(&mut stdout, &self.named(name, value)).map_err(io::Error::from);
            note_lost(written.and_then(|()| writeln!(stdout)));
        }
    }

    /// One of the objects of a list without end, in a line of its own; whether anybody still reads it.
    pub fn json_line_of(&self, name: &str, value: &impl Serialize) -> bool {
        let line = serde_json::to_string(&self.named(name, value)).map_err(io::Error::from);
        let written = line.and_then(|line| writeln!(io::stdout(), "{line}"));
        let is_read = written.is_ok();
        note_lost(written);
        is_read
    }

    fn named<'a, T>(&self, name: &str, value: &'a T) -> Document<'a, T> {
        Document {
            schema: format!("mailonce/{name}/{VERSION_OF_SCHEMAS}"),
            made_at: instant::text(self.clock.now()),
            value,
        }
    }
}

/// A field that a spreadsheet shows and does not run: what begins like a formula gets an apostrophe before it.
///
/// Anyone can sign up with an address such as `=cmd|'/C calc'!A0@example.com`.
pub fn inert(field: &str) -> Cow<'_, str> {
    match field.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => Cow::Owned(format!("'{field}")),
        false => Cow::Borrowed(field),
    }
}

/// What is counted: one of it, and several. [`count`] knows no other, so that none is spelt by chance.
const NOUNS: [(&str, &str); 43] = [
    ("address", "addresses"),
    ("bad definition", "bad definitions"),
    ("bad row", "bad rows"),
    ("byte", "bytes"),
    ("campaign", "campaigns"),
    ("campaign not opened", "campaigns not opened"),
    ("cart", "carts"),
    ("cart message", "cart messages"),
    ("change", "changes"),
    ("click", "clicks"),
    ("code", "codes"),
    ("complaint", "complaints"),
    ("connection", "connections"),
    ("coupon code", "coupon codes"),
    ("day", "days"),
    ("dead address", "dead addresses"),
    ("duplicate", "duplicates"),
    ("event", "events"),
    ("kept row", "kept rows"),
    ("mail", "mails"),
    ("message", "messages"),
    ("minute", "minutes"),
    ("more bad row", "more bad rows"),
    ("occurrence", "occurrences"),
    ("open issue", "open issues"),
    ("order", "orders"),
    ("page", "pages"),
    ("person", "people"),
    ("planned message", "planned messages"),
    ("recipient", "recipients"),
    ("refused message", "refused messages"),
    ("removed duplicate", "removed duplicates"),
    ("repeated address", "repeated addresses"),
    ("report", "reports"),
    ("row", "rows"),
    ("run", "runs"),
    ("second", "seconds"),
    ("sent message", "sent messages"),
    ("shopper", "shoppers"),
    ("time", "times"),
    ("token", "tokens"),
    ("try", "tries"),
    ("violation", "violations"),
];

/// `1 message`, `2 messages`. Every number that stands before a noun comes from here.
pub fn count(number: u64, noun: &str) -> String {
    let known = NOUNS.iter().find(|(one, _)| *one == noun);
    debug_assert!(known.is_some(), "{noun:?} is not among the nouns that can be counted: add it to NOUNS");
    let (one, several) = known.copied().unwrap_or((noun, noun));
    format!("{number} {}", if number == 1 { one } else { several })
}

#[cfg(test)]
mod tests;
