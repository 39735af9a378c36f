use clap::CommandFactory as _;

use super::*;

/// A command, and all below it, with the words that lead there.
fn with_all_below(path: Vec<String>, command: clap::Command) -> Vec<(Vec<String>, clap::Command)> {
    let below = command.get_subcommands().filter(|below| below.get_name() != "help").cloned();
    let below = below.flat_map(|below| {
        let path = [path.clone(), vec![below.get_name().to_owned()]].concat();
        with_all_below(path, below)
    });
    let below: Vec<_> = below.collect();
    [vec![(path, command)], below].concat()
}

fn every_command() -> Vec<(Vec<String>, clap::Command)> {
    let all = with_all_below(vec!["mailonce".into()], Cli::command());
    assert!(all.len() > 30, "only {} commands were found", all.len());
    all
}

/// The lines of a command's examples, split into words as a shell does.
fn examples_of(command: &clap::Command) -> Vec<Vec<String>> {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    // A line that goes on, as a shell takes it.
    let text = text.replace("\\\n", "");
    let lines = text.strip_prefix("Examples:\n").unwrap_or_default().lines();
    lines
        .map(|line| {
            let line = line.strip_prefix("  ").unwrap().split(" # ").next().unwrap();
            let quoted = line.split('"').enumerate().flat_map(|(at, part)| match at % 2 {
                0 => part.split_whitespace().map(str::to_owned).collect(),
                _ => vec![part.to_owned()],
            });
            quoted.collect()
        })
        .collect()
}

#[test]
fn every_command_and_every_argument_has_its_text() {
    for (path, command) in every_command() {
        let path = path.join(" ");
        assert!(command.get_about().is_some(), "{path} has no text");
        for argument in command.get_arguments() {
            let text = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(text.len() > 8, "{path}: {} has no text", argument.get_id());
            assert!(text.len() < 250, "{path}: the text of {} is too long to read", argument.get_id());
        }
    }
}

#[test]
fn every_command_has_examples_that_are_understood() {
    for (path, command) in every_command() {
        let examples = examples_of(&command);
        assert!(!examples.is_empty(), "{} has no examples", path.join(" "));
        for example in examples {
            let is_of_it = path.iter().all(|word| example.contains(word));
            assert!(is_of_it, "{example:?} is no example of {}", path.join(" "));
            if let Err(err) = Cli::try_parse_from(&example) {
                panic!("{example:?}: {err}");
            }
        }
    }
}

#[test]
fn no_example_is_broken_by_a_terminal_of_eighty_columns() {
    for (path, command) in every_command() {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{}: {line:?} is too long", path.join(" "));
        }
    }
}

#[test]
fn every_flag_stands_in_an_example_of_its_command() {
    for (path, command) in every_command() {
        let examples = examples_of(&command).concat();
        let flags = command.get_arguments().filter(|argument| path.len() == 1 || !argument.is_global_set());
        for flag in flags.filter_map(|argument| argument.get_long()).filter(|flag| !["help", "version"].contains(flag))
        {
            let there = examples.contains(&format!("--{flag}"));
            assert!(there, "{}: --{flag} stands in no example", path.join(" "));
        }
    }
}
