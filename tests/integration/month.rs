//! Some days of a shop, played to the binary and to the model in `tests/flows`, and compared message by message.
//!
//! The whole month takes minutes: `python3 tests/flows/drive.py --help`.

use std::process::Command;

/// Runs Python in `tests/flows`; without Python 3.11 the test is left out.
#[track_caller]
fn python(arguments: &[&str]) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/flows");
    let needed = "import tomllib, zoneinfo; zoneinfo.ZoneInfo('Europe/Berlin')";
    if !Command::new("python3").args(["-c", needed]).output().is_ok_and(|ran| ran.status.success()) {
        eprintln!("left out: python3 (3.11 or newer, with time zones) is not installed");
        return;
    }
    // Without compiled files in the sources.
    let ran = Command::new("python3").arg("-B").args(arguments).current_dir(folder).output().expect("python3 starts");
    let said = [ran.stdout, ran.stderr].map(|stream| String::from_utf8_lossy(&stream).into_owned()).concat();
    assert!(ran.status.success(), "{said}");
}

/// Five days in the life of forty carts, with some runs killed, and each instant at which something is due.
fn days(config: &str) {
    let binary = env!("CARGO_BIN_EXE_mailonce");
    let size = ["--carts", "40", "--days", "5", "--every", "120", "--edges", "40", "--kill", "5"];
    python(&[&["drive.py", "--config", config, "--seed", "11", "--binary", binary], &size[..]].concat());
}

#[test]
fn the_models_own_tests_pass() {
    python(&["-m", "unittest"]);
}

#[test]
fn some_days_without_steps_are_as_the_model_has_them() {
    days("none");
}
