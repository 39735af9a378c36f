//! What is put on a machine: the Debian package, the units of systemd, the crate. `tests/package.sh` installs them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::docs::{PAGES, in_repository, page};
use crate::support::{Cart, World};

const UNITS: &str = "examples/systemd";

fn names_in(folder: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(in_repository(folder)).unwrap_or_else(|err| panic!("{folder}: {err}"));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What follows `key=` in a unit.
fn values(unit: &str, key: &str) -> Vec<String> {
    let text = page(Path::new(UNITS).join(unit));
    text.lines().filter_map(|line| line.strip_prefix(&format!("{key}="))).map(str::to_owned).collect()
}

/// The units that start mailonce, with what they start it with.
fn started() -> Vec<(String, Vec<String>)> {
    let starts = names_in(UNITS).into_iter().filter_map(|unit| {
        let start = values(&unit, "ExecStart").pop()?;
        let arguments = start.strip_prefix("/usr/bin/mailonce ")?.split(' ').map(str::to_owned).collect();
        Some((unit, arguments))
    });
    starts.collect()
}

#[test]
fn what_the_units_start_runs_and_is_what_the_crontab_starts() {
    let world = World::new().without_now().set("detect.max_age", "87600h").set("bounces.maildir", "Maildir");
    let world = world.cart(Cart::of("c1")).init();
    for folder in ["new", "cur", "tmp"] {
        std::fs::create_dir_all(world.path("Maildir").join(folder)).unwrap();
    }
    let crontab = page("crontab.example");
    let started = started();
    assert_eq!(started.len(), 3);
    for (unit, arguments) in started {
        world.ok(arguments.iter().map(String::as_str)).is_silent();
        let line = format!("mailonce {}", arguments.join(" "));
        assert!(crontab.lines().any(|known| known.ends_with(&line)), "{unit} starts {line:?}, the crontab does not");
    }
    world.has([("sent", 1)]);
}

#[test]
fn each_timer_has_its_service_and_a_unit_that_fails_tells_someone() {
    let units = names_in(UNITS);
    for (unit, _) in started() {
        assert!(units.contains(&unit.replace(".service", ".timer")), "{unit} has no timer");
        assert_eq!(values(&unit, "OnFailure"), ["mailonce-alert@%n.service"]);
        // Another run held the lock: that is no failure, and exit 1 is one.
        assert_eq!(values(&unit, "SuccessExitStatus"), ["75"]);
        // The ledger's folder can be written, and is not taken over: a group may have been let in.
        assert!(values(&unit, "ReadWritePaths")[0].starts_with("/var/lib/mailonce "), "{unit}");
        assert_eq!(values(&unit, "StateDirectory"), [""; 0], "{unit}");
        assert_eq!(values(&unit, "ProtectSystem"), ["strict"], "{unit}");
        assert_eq!(values(&unit, "User"), ["mailonce"], "{unit}");
    }
    for timer in units.iter().filter(|unit| unit.ends_with(".timer")) {
        assert!(units.contains(&timer.replace(".timer", ".service")), "{timer} has no service");
    }
}

#[test]
fn the_units_on_the_pages_are_there() {
    let units = names_in(UNITS);
    let mut seen = BTreeSet::new();
    for name in PAGES {
        let text = page(name);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"-@.".contains(c));
        let named = words.map(|word| word.trim_end_matches('.')).filter(|word| word.starts_with("mailonce-"));
        for unit in named.filter(|word| word.ends_with(".service") || word.ends_with(".timer")) {
            assert!(units.contains(unit), "{name}: there is no unit {unit}");
            seen.insert(unit.to_owned());
        }
    }
    assert!(seen.len() >= 5, "{seen:?}");
}

#[test]
fn what_the_package_brings_is_there_and_enables_nothing() {
    let manifest: toml::Table = page("Cargo.toml").parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let build = page("examples/debian/build.sh");
    let assets = deb["assets"].as_array().unwrap();
    let sources: Vec<&str> = assets.iter().map(|asset| asset[0].as_str().unwrap()).collect();
    for source in &sources {
        let (folder, name) = source.rsplit_once('/').unwrap_or(("", source));
        if folder.starts_with("target/debian-assets") {
            let made = name.trim_start_matches("mailonce.");
            assert!(build.contains(made) || build.contains("man --into \"$assets/man\""), "nothing makes {source}");
        } else if *source != "target/release/mailonce" {
            let (before, after) = name.split_once('*').unwrap_or((name, ""));
            let is_one = |there: &String| there.starts_with(before) && there.ends_with(after);
            assert!(names_in(folder).iter().any(is_one), "there is no {source}");
        }
    }
    assert!(sources.contains(&"examples/systemd/*"));
    let scripts = deb["maintainer-scripts"].as_str().unwrap();
    for script in ["postinst", "prerm", "postrm"] {
        let path = in_repository(scripts).join(script);
        let ended = Command::new("sh").arg("-n").arg(&path).status().unwrap();
        assert!(ended.success(), "{script}");
        let text = page(Path::new(scripts).join(script));
        let text: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        // Nothing is sent before a person says so, and an upgrade does not touch a run that is under way.
        for word in ["enable", "restart", " start "] {
            assert!(!text.iter().any(|line| line.contains(word)), "{script}: {word}");
        }
    }
}

#[test]
fn the_crate_has_what_it_is_built_from_and_no_tests() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut list = Command::new(cargo);
    list.args(["package", "--list", "--offline", "--allow-dirty"]).current_dir(in_repository(""));
    let ended = list.output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let listed = String::from_utf8(ended.stdout).unwrap();
    let listed: BTreeSet<&str> = listed.lines().collect();
    for file in ["Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "CHANGELOG.md", "crontab.example", "docs/guide.md"]
    {
        assert!(listed.contains(file), "{file} is not in the crate");
    }
    for file in &listed {
        let first = file.split('/').next().unwrap();
        assert!(!["tests", "benches", ".ci", ".cargo", "target"].contains(&first), "{file} is in the crate");
    }
    let mut included = 0;
    for file in listed.iter().filter(|file| file.ends_with(".rs")) {
        let text = page(file);
        for name in text.split("include_str!(\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            let path = in_repository(file).parent().unwrap().join(name).canonicalize().unwrap();
            let path = path.strip_prefix(in_repository("").canonicalize().unwrap()).unwrap().to_owned();
            // Its own tests do not come along.
            if !path.starts_with("tests") {
                assert!(listed.contains(path.to_str().unwrap()), "{file} needs {}", path.display());
                included += 1;
            }
        }
    }
    assert!(included > 40, "{included}");
}
