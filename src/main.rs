//! mailonce: cart reminders and campaigns from cron, each sent once.

mod cli;
mod clock;
mod command;
mod delivery;
mod domain;
mod failure;
mod ledger;
mod mail;
mod output;
mod progress;
mod run;
mod run_lock;
mod settings;
mod source;
mod stop;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match command::run(&cli) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(err) => {
            let exit = command::explain(&err);
            ExitCode::from(exit as u8)
        }
    }
}
