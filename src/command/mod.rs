//! The commands, one file each.

mod add_index;
mod audit;
mod bounces;
mod campaign;
mod cleanup_duplicates;
mod completions;
mod coupons;
mod demo;
mod detect;
mod doctor;
mod explain;
mod forget;
mod holds;
mod import;
mod init;
mod log;
mod man;
mod metrics;
mod monitored;
mod preview;
mod prune;
mod rates;
mod recovered;
mod report;
mod resolve;
mod run_campaigns;
mod sending;
mod source;
mod status;
mod suppress;
mod trial;
mod unsubscribe;

use anyhow::Result;

use crate::cli::{Cli, Command, Global};
use crate::clock::Clock;
use crate::failure::{Exit, Failure};
use crate::ledger::{Access, Kind, Ledger, OldLog};
use crate::output::Output;
use crate::run;
use crate::run_lock::RunLock;
use crate::settings::Settings;

/// What every command is given.
struct Context<'a> {
    global: &'a crate::cli::Global,
    output: Output,
    clock: Clock,
    heartbeat: monitored::Heartbeat,
}

impl Context<'_> {
    fn settings(&self) -> Result<Settings, Failure> {
        Settings::read(self.global.config.as_deref())
    }

    /// The settings for a command that asks neither the shop nor the mail server: who types it may not be the user whom
    /// their passwords are for.
    fn settings_without_secrets(&self) -> Result<Settings, Failure> {
        Settings::read_without_secrets(self.global.config.as_deref())
    }

    /// Opens the ledger for a command that writes and takes no lock. An older schema is brought up to date first, which
    /// needs the lock for that moment.
    fn ledger(&self, settings: &Settings) -> Result<Ledger, Failure> {
        let ledger = self.may_write(Ledger::open(settings.place(), Access::Write)?)?;
        if !ledger.is_of_an_older_schema() {
            return Ok(ledger);
        }
        drop(ledger);
        let lock = self.lock(settings, "upgrade").map_err(|mut failure| {
            if failure.exit == Exit::AnotherRunHoldsTheLock {
                let path = settings.ledger.display();
                failure.what = format!("{path} is to be brought up to date first, and {}", failure.what);
                failure.next = "once that run has ended, start the same command again; --wait 30s waits for it".into();
            }
            failure
        })?;
        self.ledger_locked(settings, &lock)
    }

    /// Takes the run lock of a ledger that is there, for a command that changes it. Whoever types it is told, into a pipe
    /// too, when another run holds it.
    fn lock(&self, settings: &Settings, command: &str) -> Result<RunLock, Failure> {
        Ledger::check_path(settings.place())?;
        RunLock::take(&settings.ledger, command, self.global.wait.unwrap_or_default())
            .map_err(|failure| Failure { quiet: false, ..failure })
    }

    /// The run lock, and the ledger in this version's schema.
    fn lock_and_ledger(&self, settings: &Settings, command: &str) -> Result<(RunLock, Ledger), Failure> {
        let lock = self.lock(settings, command)?;
        let ledger = self.ledger_locked(settings, &lock)?;
        Ok((lock, ledger))
    }

    /// Opens the ledger for a command that holds the run lock, in this version's schema.
    fn ledger_locked(&self, settings: &Settings, lock: &RunLock) -> Result<Ledger, Failure> {
        self.may_write(run::open_locked(settings, lock)?)
    }

    /// What a command begins with that works on an older system's log: the run lock, unless nothing is to be written, and
    /// the file, as long as it was not adopted.
    fn begin_on_log(
        &self,
        settings: &Settings,
        command: &str,
        dry_run: bool,
    ) -> Result<(Option<RunLock>, Option<OldLog>), Failure> {
        if dry_run {
            Ledger::check_path(settings.place())?;
            return Ok((None, OldLog::open(settings.place(), false)?));
        }
        let lock = self.lock(settings, command)?;
        Ok((Some(lock), OldLog::open(settings.place(), true)?))
    }

    /// The ledger, unless `--now` would write invented instants into a live one.
    fn may_write(&self, ledger: Ledger) -> Result<Ledger, Failure> {
        if self.clock.is_frozen() && ledger.kind() == Kind::Live {
            return Err(Failure::usage("--now is for rehearsals: this is a live ledger", "leave --now out"));
        }
        Ok(ledger)
    }
}

/// Runs the command that the command line names.
pub fn run(cli: &Cli) -> Result<Exit> {
    let context = Context {
        global: &cli.global,
        output: output(cli),
        clock: Clock::new(cli.global.now),
        heartbeat: monitored::Heartbeat::default(),
    };
    match &cli.command {
        Command::Demo(args) => demo::run(&context, args),
        Command::Init(args) => init::run(&context, args),
        // What is only tried out says nothing of whether runs take place.
        Command::Detect(args) if args.dry_run || args.test_to.is_some() => detect::run(&context, args),
        Command::Detect(args) => monitored::run(&context, "detect", || detect::run(&context, args)),
        Command::RunCampaigns(args) if args.dry_run => run_campaigns::run(&context, args),
        Command::RunCampaigns(args) => monitored::run(&context, "run-campaigns", || run_campaigns::run(&context, args)),
        Command::Campaign(args) => campaign::run(&context, args),
        Command::CleanupDuplicates(args) => cleanup_duplicates::run(&context, args),
        Command::AddIndex(args) => add_index::run(&context, args),
        Command::Status => status::run(&context),
        Command::Metrics => metrics::run(&context),
        Command::Log(args) => log::run(&context, args),
        Command::Explain(args) => explain::run(&context, args),
        Command::Recovered(args) => recovered::run(&context, args),
        Command::Report(args) => report::run(&context, args),
        Command::Resolve(args) => resolve::run(&context, args),
        Command::Suppress(args) => suppress::run(&context, args),
        Command::Forget(args) => forget::run(&context, args),
        Command::Prune(args) => prune::run(&context, args),
        Command::Unsubscribe(args) => unsubscribe::run(&context, args),
        Command::Bounces(args) => monitored::run(&context, "bounces", || bounces::run(&context, args)),
        Command::Rates(args) => rates::run(&context, args),
        Command::Coupon(args) => coupons::run(&context, args),
        Command::Import(args) => import::run(&context, args),
        Command::Source(args) => source::run(&context, args),
        Command::Preview(args) => preview::run(&context, args),
        Command::Audit(args) => audit::run(&context, args),
        Command::Doctor(args) => doctor::run(&context, args),
        Command::Man { into } => man::run(&context, into.as_deref()),
        Command::Completions { shell } => Ok(completions::run(*shell)),
    }
}

/// Where the command that the command line names speaks.
pub fn output(cli: &Cli) -> Output {
    let Global { json, verbose, log_format, .. } = cli.global;
    // What the environment names holds for the next command too.
    let from_environment = std::env::var_os("MAILONCE_CONFIG");
    if let Some(config) = &cli.global.config
        && from_environment.is_none_or(|named| named != *config.as_os_str())
    {
        let commands = <Cli as clap::CommandFactory>::command();
        crate::output::show_commands_with(config, commands.get_subcommands().map(|known| known.get_name().to_owned()));
    }
    Output { json, verbose, log_format, clock: Clock::new(cli.global.now) }
}

/// Prints why a command ended, and returns its exit code.
pub fn tell_failure(output: Output, err: &anyhow::Error) -> Exit {
    let failure = match err.downcast_ref::<Failure>() {
        Some(failure) => failure,
        None => &Failure::internal(format!("{err:#}")),
    };
    output.problem(failure);
    if !failure.quiet {
        output.failure(failure);
    }
    failure.exit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_one_foresaw_is_a_fault_of_mailonce_and_not_of_the_disk() {
        let slip = "x".parse::<i32>().unwrap_err();
        assert_eq!(tell_failure(Output::default(), &slip.into()), Exit::Internal);
        assert_eq!(
            tell_failure(Output::default(), &Failure::ledger("the disk is full", "make room").into()),
            Exit::LedgerOrDisk
        );
    }
}
