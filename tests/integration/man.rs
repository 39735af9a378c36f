//! `man` and `completions`: they know every command and option that `--help` does, and are what the other program reads.

use std::path::Path;
use std::process::Command;

use crate::docs::listed;
use crate::support::World;

/// A folder without a configuration: neither needs one.
fn bare() -> World {
    let world = World::new().without_now();
    std::fs::remove_file(world.path("mailonce.toml")).unwrap();
    world
}

/// Each command by its words, with its help; `mailonce` itself is the first.
fn every_help(world: &World) -> Vec<(Vec<String>, String)> {
    let help = |path: &[String]| world.ok(path.iter().map(String::as_str).chain(["--help"])).stdout;
    let mut all = vec![(Vec::new(), help(&[]))];
    let mut at = 0;
    while let Some((path, text)) = all.get(at).cloned() {
        let below = listed(&text).into_iter().map(|name| [path.clone(), vec![name]].concat());
        all.extend(below.map(|path| (path.clone(), help(&path))));
        at += 1;
    }
    assert!(all.len() > 40, "only {} commands were found", all.len());
    all
}

/// The names of the long options, without their hyphens: `  -v, --verbose`, `      --config <FILE>`.
fn long_options(help: &str) -> Vec<&str> {
    let lines = help.lines().filter(|line| line.starts_with("  -") || line.starts_with("      --"));
    let names = lines.filter_map(|line| line.split_once("--"));
    names.map(|(_, name)| name.split([' ', '.', '[']).next().unwrap_or_default()).collect()
}

fn is_here(program: &str) -> bool {
    let is = ["/bin", "/usr/bin"].iter().any(|folder| Path::new(folder).join(program).exists());
    if !is {
        eprintln!("left out: no {program} here");
    }
    is
}

/// What a program says to a file, on both streams.
fn said(program: &str, arguments: &[&str]) -> (bool, String) {
    let ended = Command::new(program).args(arguments).env("LC_ALL", "C.UTF-8").output().unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    (ended.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn each_command_has_a_page_with_each_of_its_options() {
    let world = bare();
    world.ok(["man", "--into", "deep/man1"]).is_silent();
    let every = every_help(&world);
    for (path, help) in &every {
        let name = [vec!["mailonce".to_owned()], path.clone()].concat().join("-");
        let page = std::fs::read_to_string(world.path(format!("deep/man1/{name}.1")))
            .unwrap_or_else(|err| panic!("{name}.1: {err}"))
            .replace("\\-", "-");
        assert!(page.contains(&format!(".TH {name} 1 \"\" \"mailonce {}\"", env!("CARGO_PKG_VERSION"))), "{page}");
        assert!(page.contains(".SH EXAMPLES\n.nf\nmailonce"), "{name}.1 has no examples");
        // Not in the synopsis alone.
        let explained: String = page.split("\n.TP\n").skip(1).filter_map(|entry| entry.lines().next()).collect();
        let options = long_options(help);
        assert!(options.len() > 5, "{name}: {options:?}");
        for option in options {
            assert!(explained.contains(&format!("\\fB--{option}\\fR")), "{name}.1 does not explain --{option}");
        }
        for below in listed(help) {
            assert!(page.contains(&format!("\n{name}-{below}(1)\n")), "{name}.1 does not lead to {name}-{below}");
        }
    }
    assert_eq!(std::fs::read_dir(world.path("deep/man1")).unwrap().count(), every.len());
    // A second time is no other.
    let first = world.ok(["man"]).stdout;
    assert_eq!(first, std::fs::read_to_string(world.path("deep/man1/mailonce.1")).unwrap());
    assert!(first.contains(".SH \"EXIT STATUS\"") && first.contains("another run holds the lock"), "{first}");
}

#[test]
fn the_pages_are_set_without_a_warning() {
    if !is_here("groff") {
        return;
    }
    let world = bare();
    world.ok(["man", "--into", "man1"]);
    let pages = std::fs::read_dir(world.path("man1")).unwrap();
    let pages: Vec<String> = pages.map(|page| page.unwrap().path().to_str().unwrap().to_owned()).collect();
    let arguments =
        [vec!["-man", "-ww", "-Kutf8", "-Tutf8", "-z"], pages.iter().map(String::as_str).collect()].concat();
    assert_eq!(said("groff", &arguments), (true, String::new()));
}

#[test]
fn a_folder_where_no_page_can_be_written_is_named() {
    let world = bare();
    std::fs::write(world.path("taken"), "").unwrap();
    world.exits(74, ["man", "--into", "taken"]).says("could not write the man pages to taken");
}

#[test]
fn each_shell_is_told_of_each_command_and_option_and_takes_what_it_is_told() {
    let world = bare();
    let every = every_help(&world);
    for shell in ["bash", "zsh", "fish"] {
        let script = world.ok(["completions", shell]).stdout;
        for (path, help) in &every {
            for word in path {
                assert!(script.contains(word), "{shell} does not know {word}");
            }
            for option in long_options(help) {
                let forms = [format!("--{option}"), format!(" -l {option}")];
                assert!(forms.iter().any(|form| script.contains(form)), "{shell} does not know --{option}");
            }
        }
        let file = world.path(shell);
        std::fs::write(&file, &script).unwrap();
        if is_here(shell) {
            assert_eq!(said(shell, &["-n", file.to_str().unwrap()]), (true, String::new()), "{shell}");
        }
    }
    world.exits(2, ["completions", "csh"]);
    // As bash itself asks for what begins with these letters.
    let ask = "source \"$0\"; COMP_WORDS=(mailonce campaign re); COMP_CWORD=2; _mailonce mailonce re campaign; echo \"${COMPREPLY[@]}\"";
    let bash = world.path("bash");
    assert_eq!(said("bash", &["-c", ask, bash.to_str().unwrap()]), (true, "resume remove retry\n".into()));
}
