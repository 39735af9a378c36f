//! `completions`: what a shell needs to complete a command line.

use clap::CommandFactory as _;

use crate::cli::{Cli, Shell};
use crate::failure::Exit;
use crate::output;

pub fn run(shell: Shell) -> Exit {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mailonce", &mut script);
    output::print_as_it_is(&script);
    Exit::Done
}
