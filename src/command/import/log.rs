//! `import log`: the history of an older system, so that it counts in the window.

use anyhow::Result;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::super::init::refuse_if_remembered;
use super::{Context, MOST_BAD_ROWS_NAMED};
use crate::cli;
use crate::domain::old_log::{Flaw, Part, Reader, StandIn};
use crate::failure::{Exit, Failure};
use crate::ledger::{ImportedRows, Kind, Records, Take, no_zone};
use crate::output::{Output, count};
use crate::progress;
use crate::run_lock::RunLock;
use crate::settings::Settings;
use crate::source::dump_row::{DumpRow, Understood};
use crate::source::old_log;

/// So many rows of each kind are named where they are counted.
const EXAMPLES: usize = 3;

/// Why a row is left out, its word in JSON, and what is said of such rows after their number.
const KINDS: [(LeftOut, &str, &str); 7] = [
    (LeftOut::Unreadable(Part::Whole), "broken", "not readable as such"),
    (LeftOut::Unreadable(Part::Shopper), "shopper", "with a user or address that cannot be read"),
    (LeftOut::Unreadable(Part::CartHash), "cart_hash", "with a cart_hash that cannot be read"),
    (LeftOut::Unreadable(Part::EmailSent), "email_sent", "with an email_sent that is neither yes, no nor a number"),
    (LeftOut::Unreadable(Part::Time), "time", "not mailed and with a time that cannot be read"),
    (LeftOut::MailedToNobody, "mailed_without_shopper", "mailed, but with neither user nor address"),
    (LeftOut::NoShopper, "without_shopper", "with neither user nor address"),
];

/// Why a row is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeftOut {
    Unreadable(Part),
    /// Somebody got a mail, and nothing says who: they cannot be kept from a second one.
    MailedToNobody,
    /// Nobody could ever be written to because of it: no loss.
    NoShopper,
}

pub(super) fn run(context: &Context<'_>, args: &cli::ImportLog) -> Result<Exit> {
    let settings = context.settings()?;
    let reader = Reader { zone: args.timezone, now: context.clock.now() };
    let is_first = super::makes_the_ledger(context, &settings);
    let import = Import { context, args, settings: &settings, reader, is_first };
    if is_first {
        settings.place().check_new()?;
        refuse_if_remembered(RunLock::peek(&settings.ledger), &settings.ledger)?;
    }
    match args.dry_run {
        true => import.look(),
        false => import.import(),
    }
}

/// One import, as it was asked for.
struct Import<'a> {
    context: &'a Context<'a>,
    args: &'a cli::ImportLog,
    settings: &'a Settings,
    reader: Reader,
    /// There is no ledger yet: it makes a live one.
    is_first: bool,
}

impl Import<'_> {
    fn import(&self) -> Result<Exit> {
        if self.is_first {
            // A dump that is refused leaves no ledger behind, in whose empty memory nobody was ever mailed.
            let mut tally = self.tally(Kind::Live);
            tally.is_silent = !tally.is_strict;
            if let Err(err) = self.read(&mut tally, &mut |_, _| Ok(())) {
                return self.told(tally, Err(err));
            }
        }
        let (_lock, mut ledger) = super::ledger_to_fill(self.context, self.settings)?;
        let mut tally = self.tally(ledger.kind());
        let imported = ledger.import_log(self.reader.now, |take| self.read(&mut tally, take));
        self.told(tally, imported)
    }

    /// The same, but for what is written.
    fn look(&self) -> Result<Exit> {
        if self.is_first {
            let mut tally = self.tally(Kind::Live);
            let imported = Records::look_at_first_import(&self.settings.ledger, |take| self.read(&mut tally, take));
            let ledger = self.settings.ledger.display();
            self.context.output.print(format!("there is no ledger yet: an import makes the live ledger {ledger}"));
            return self.told(tally, imported);
        }
        let ledger = Records::open(self.settings.place())?;
        let mut tally = self.tally(ledger.kind());
        let imported = ledger.look_at_import(|take| self.read(&mut tally, take));
        self.told(tally, imported)
    }

    fn tally(&self, kind: Kind) -> Tally {
        Tally {
            output: self.context.output,
            bar: progress::bar("rows", None, self.context.output.json),
            is_strict: self.args.strict || (kind == Kind::Live && !self.args.lenient),
            is_silent: false,
            is_refused: false,
            rows: 0,
            left_out: Default::default(),
            mailed_now: Named::default(),
            created_as_mailed: Named::default(),
        }
    }

    /// Reads the dump to its end.
    ///
    /// # Errors
    /// Exit 65 when it cannot be read, or is refused: a bad row, and all are to come in or none.
    fn read(&self, tally: &mut Tally, take: Take<'_>) -> Result<()> {
        let mut each = |row: DumpRow| tally.take(row, take);
        match &self.args.file {
            Some(file) => old_log::read(file, &self.args.table, &self.reader, &mut each)?,
            None => old_log::read_source(&self.settings.source, &self.args.table, &self.reader, &mut each)?,
        }
        tally.is_refused = tally.is_strict && tally.bad() > 0;
        match tally.is_refused {
            true => Err(self.refusal(tally).into()),
            false => Ok(()),
        }
    }

    fn refusal(&self, tally: &Tally) -> Failure {
        let why = if self.args.strict { "with --strict" } else { "into a live ledger" };
        let what = format!(
            "{} of {} cannot be used, and {why} all rows come in, or none",
            tally.bad(),
            count(tally.rows, "row")
        );
        let next = format!(
            "correct what is named above, or leave it out, where it keeps no one from being mailed: `{}`",
            self.command(if self.args.dry_run { " --lenient --dry-run" } else { " --lenient" })
        );
        Failure::data(what, next).kept(match self.is_first {
            true => "nothing was imported, and no ledger was made",
            false => "nothing was imported",
        })
    }

    /// The command to paste that reads the same rows.
    fn command(&self, flags: &str) -> String {
        let from = match &self.args.file {
            Some(file) => in_shell(&file.display().to_string()),
            None => "--source".to_owned(),
        };
        let zone = self.args.timezone.map_or_else(String::new, |zone| format!(" --timezone {zone}"));
        let table = match self.args.table.as_str() {
            cli::OLD_LOG_TABLE => String::new(),
            table => format!(" --table {}", in_shell(table)),
        };
        format!("mailonce import log {from}{zone}{table}{flags}")
    }

    /// Says what was read and what became of it.
    fn told(&self, tally: Tally, imported: Result<ImportedRows>) -> Result<Exit> {
        tally.bar.finish_and_clear();
        let imported = match imported {
            Err(err) if !tally.is_refused => return Err(err),
            imported => imported,
        };
        let next = imported.as_ref().ok().map(|imported| self.next(imported));
        let output = self.context.output;
        output.document(
            "import-log",
            &json!({
                "dry_run": self.args.dry_run,
                "strict": tally.is_strict,
                "rows": tally.rows,
                "imported": imported.as_ref().ok(),
                "bad_rows": tally.bad(),
                "without_shopper": tally.left_out[KINDS.len() - 1].rows,
                "left_out": tally.left_out_json(),
                "mailed_now": tally.mailed_now.json(),
                "created_as_mailed": tally.created_as_mailed.json(),
                "next": next,
            }),
        );
        tally.say(self.args.dry_run, imported.as_ref().ok());
        let (_, next) = (imported?, next.unwrap_or_default());
        output.print(format!("next: `{next}`"));
        Ok(if tally.bad() > 0 { Exit::NeedsAPerson } else { Exit::Done })
    }

    fn next(&self, imported: &ImportedRows) -> String {
        let flags = [(self.args.strict, " --strict"), (self.args.lenient, " --lenient")];
        let flags: String = flags.iter().filter(|(is_given, _)| *is_given).map(|(_, flag)| *flag).collect();
        match (self.args.dry_run, imported.added) {
            (true, _) => self.command(&flags),
            (false, 0) => "mailonce detect --dry-run".to_owned(),
            (false, _) => "mailonce cleanup-duplicates".to_owned(),
        }
    }
}

/// What was read so far.
struct Tally {
    output: Output,
    bar: ProgressBar,
    /// All rows come in, or none.
    is_strict: bool,
    /// Bad rows are counted and not named: another reading will.
    is_silent: bool,
    is_refused: bool,
    rows: u64,
    /// One for each of [`KINDS`].
    left_out: [Named; KINDS.len()],
    mailed_now: Named,
    created_as_mailed: Named,
}

/// A number of rows, and where the first of them stand.
#[derive(Default)]
struct Named {
    rows: u64,
    examples: Vec<String>,
}

impl Named {
    fn add(&mut self, place: String) {
        self.rows += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(place);
        }
    }

    fn json(&self) -> Value {
        json!({ "rows": self.rows, "examples": self.examples })
    }

    /// `dump.csv:2, dump.csv:3, dump.csv:7 and 4 more`.
    fn examples(&self) -> String {
        let named = self.examples.join(", ");
        match self.rows - self.examples.len() as u64 {
            0 => named,
            more => format!("{named} and {more} more"),
        }
    }
}

impl Tally {
    /// Counts a row, and hands it on when it counts for somebody.
    fn take(&mut self, row: DumpRow, take: Take<'_>) -> Result<(), Failure> {
        self.rows += 1;
        self.bar.inc(1);
        let (place, flaw) = match row {
            Ok(row) => return self.take_understood(row, take),
            Err(flawed) => flawed,
        };
        let (kind, problem) = match flaw {
            Flaw::NoZone(time) => return Err(no_zone(&place, &time)),
            Flaw::NoShopper { mailed: false } => (LeftOut::NoShopper, None),
            Flaw::NoShopper { mailed: true } => {
                (LeftOut::MailedToNobody, Some("mailed, but with neither user nor address".to_owned()))
            }
            Flaw::Unreadable(part, problem) => (LeftOut::Unreadable(part), Some(problem)),
        };
        if let Some(problem) = problem.filter(|_| self.bad() < MOST_BAD_ROWS_NAMED && !self.is_silent) {
            let end = if self.is_strict { "" } else { "; row left out" };
            self.bar.suspend(|| self.output.alarm(format!("{place}: {problem}{end}")));
        }
        if let Some(at) = KINDS.iter().position(|(known, ..)| *known == kind) {
            self.left_out[at].add(place);
        }
        Ok(())
    }

    fn take_understood(&mut self, understood: Understood, take: Take<'_>) -> Result<(), Failure> {
        let Understood { row, extra, place } = understood;
        let stand_ins = match row.stand_in {
            Some(StandIn::MailedNow) => Some(&mut self.mailed_now),
            Some(StandIn::CreatedAsMailed) => Some(&mut self.created_as_mailed),
            None => None,
        };
        if let Some((named, place)) = stand_ins.zip(place) {
            named.add(place);
        }
        take(&row, extra.as_deref())
    }

    /// Rows that should have counted for somebody and cannot.
    fn bad(&self) -> u64 {
        let kinds = KINDS.iter().zip(&self.left_out);
        kinds.filter(|((kind, ..), _)| *kind != LeftOut::NoShopper).map(|(_, named)| named.rows).sum()
    }

    fn left_out_json(&self) -> Vec<Value> {
        let kinds = KINDS.iter().zip(&self.left_out).filter(|(_, named)| named.rows > 0);
        kinds
            .map(|((_, kind, _), named)| json!({ "kind": kind, "rows": named.rows, "examples": named.examples }))
            .collect()
    }

    fn say(&self, dry_run: bool, imported: Option<&ImportedRows>) {
        let output = self.output;
        if self.bad() > MOST_BAD_ROWS_NAMED {
            output.alarm(format!("and {}", count(self.bad() - MOST_BAD_ROWS_NAMED, "more bad row")));
        }
        let rows = count(self.rows, "row");
        output.print(match (imported, dry_run) {
            (None, _) => format!("{rows} read: {}", count(self.bad(), "bad row")),
            (Some(imported), true) => {
                format!("{rows} read, nothing written. An import would make of them: {}", self.became(imported))
            }
            (Some(imported), false) => format!("{rows} read: {}", self.became(imported)),
        });
        for ((kind, _, words), named) in KINDS.iter().zip(&self.left_out).filter(|(_, named)| named.rows > 0) {
            let end = match (imported, kind) {
                (Some(_), _) => " left out",
                (None, LeftOut::NoShopper) => " (no bad row)",
                (None, _) => "",
            };
            output.print(format!("  {} {words}{end}: {}", count(named.rows, "row"), named.examples()));
        }
        if self.mailed_now.rows > 0 {
            output.print(format!(
                "{}: {}",
                mailed_now(self.mailed_now.rows, "at the first import"),
                self.mailed_now.examples()
            ));
        }
        if self.created_as_mailed.rows > 0 {
            let words = match self.created_as_mailed.rows {
                1 => "1 mailed row has no created_at that can be read; the time of its mail counts".to_owned(),
                rows => {
                    format!("{rows} mailed rows have no created_at that can be read; the times of their mails count")
                }
            };
            output.print(format!("{words}: {}", self.created_as_mailed.examples()));
        }
    }

    fn became(&self, imported: &ImportedRows) -> String {
        let copies = match imported.copies {
            1 => "1 copy".to_owned(),
            copies => format!("{copies} copies"),
        };
        format!(
            "{} added, {} there already, {} brought up to date, {copies} moved to removed_duplicate, {} left out",
            imported.added,
            imported.already_there,
            imported.updated,
            count(self.bad(), "bad row")
        )
    }
}

/// What is said of mailed rows whose time cannot be read; `when` is what they count as mailed at.
pub fn mailed_now(rows: u64, when: &str) -> String {
    match rows {
        1 => format!("1 mailed row has a time that cannot be read; it counts as mailed {when}"),
        rows => format!("{rows} mailed rows have a time that cannot be read; they count as mailed {when}"),
    }
}

/// A word of a command as a shell reads it.
fn in_shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}
