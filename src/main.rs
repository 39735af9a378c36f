//! mailonce: cart reminders and campaigns from cron, each sent once.

mod authorities;
mod bounces;
mod cli;
mod clock;
mod command;
mod delivery;
mod dkim;
mod domain;
mod failure;
#[cfg(feature = "heartbeat")]
mod heartbeat;
mod host;
mod language;
mod ledger;
mod letters;
mod mail;
mod mail_log;
mod output;
mod progress;
mod received;
mod report;
mod run;
mod run_lock;
mod settings;
mod shops;
mod source;
mod stop;
mod user;
mod whole_file;
mod wishes;

use std::process::ExitCode;

use clap::Parser;

use failure::{Exit, Failure};

fn main() -> ExitCode {
    keep_freed_memory();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(asked) => return ExitCode::from(show(&asked) as u8),
    };
    let output = command::output(&cli);
    // A panic has printed its own line; what it means is said here.
    let run = std::panic::catch_unwind(|| command::run(&cli));
    let exit = run.unwrap_or_else(|_| Err(Failure::internal("it panicked, as the lines above say").into()));
    let exit = exit.unwrap_or_else(|err| command::tell_failure(output, &err));
    let exit = match output::lost() {
        Some(err) if exit == Exit::Done || (exit == Exit::NeedsAPerson && cli.command.only_tells()) => command::tell_failure(
            output,
            &Failure::ledger(
                format!("could not write to stdout: {err}"),
                match cli.command.only_tells() {
                    true => "make room, then start the same command again",
                    false => {
                        "the command itself is done: make room, then ask again with `mailonce status` or `mailonce log`"
                    }
                },
            )
            .into(),
        ),
        _ => exit,
    };
    ExitCode::from(exit as u8)
}

/// Prints the help, the version, or what is wrong with the command line.
fn show(asked: &clap::Error) -> Exit {
    match (asked.use_stderr(), asked.print()) {
        (true, _) => {
            if std::env::args_os().any(|argument| argument == "--json") {
                let problem = asked.to_string();
                let what = problem.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
                let output = output::Output { json: true, ..output::Output::default() };
                output.problem(&Failure::usage(what, "`mailonce --help` lists commands and options"));
            }
            Exit::Usage
        }
        (false, Err(err)) if err.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("{}", Failure::ledger(format!("could not write to stdout: {err}"), "make room, then ask again"));
            Exit::LedgerOrDisk
        }
        (false, _) => Exit::Done,
    }
}

/// glibc gives the end of its heap back to the system and asks for it again, for each message: a tenth of a run's time.
fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two integers, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
        libc::mallopt(libc::M_TOP_PAD, 1 << 20);
    }
}
