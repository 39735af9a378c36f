//! `man`: the manual pages, made from the same command line as `--help`. They have no date, so each build makes the same.

use std::io;
use std::path::Path;

use anyhow::Result;
use clap::CommandFactory as _;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::Context;
use crate::cli::Cli;
use crate::failure::{Exit, Failure};
use crate::output::{self, count};

pub fn run(context: &Context<'_>, into: Option<&Path>) -> Result<Exit> {
    // `mailonce help COMMAND` is no command of its own.
    let mut mailonce = Cli::command().disable_help_subcommand(true);
    mailonce.build();
    let Some(folder) = into else {
        output::print_as_it_is(&page(&mailonce, true)?);
        return Ok(Exit::Done);
    };
    let wrong = |err: io::Error| {
        let what = format!("could not write the man pages to {}: {err}", folder.display());
        Failure::ledger(what, "name a folder where you may write, on a disk with space left")
    };
    std::fs::create_dir_all(folder).map_err(wrong)?;
    let mut pages = 0;
    let mut left = vec![mailonce];
    while let Some(command) = left.pop() {
        let man = Man::new(command.clone());
        std::fs::write(folder.join(man.get_filename()), page(&command, pages == 0)?).map_err(wrong)?;
        pages += 1;
        left.extend(command.get_subcommands().cloned());
    }
    context.output.tell(format!("{} written to {}", count(pages, "page"), folder.display()));
    Ok(Exit::Done)
}

/// The page of one command; that of `mailonce` itself has besides what holds for all of them.
fn page(command: &clap::Command, is_first: bool) -> io::Result<Vec<u8>> {
    // Two quotes, for an empty date would be left out, and the others would move up.
    let man = Man::new(command.clone()).date("\"\"").source(concat!("mailonce ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    rest.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in examples.lines().skip(1) {
        rest.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    rest.control("fi", []);
    if is_first {
        rest.control("SH", ["EXIT STATUS"]);
        for (exit, meaning) in Exit::MEANINGS {
            rest.control("TP", []).text([bold((exit as u8).to_string())]).text([roman(meaning)]);
        }
    } else {
        rest.control("SH", ["SEE ALSO"]).text([bold("mailonce"), roman("(1)")]);
    }
    rest.to_writer(&mut page)?;
    Ok(page)
}
