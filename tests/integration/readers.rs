//! Whoever may only read the ledger's folder reads the ledger: at rest, beside a run, and after one that was killed.

use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::dkim::signing;
use crate::support::{Act, Cart, Plan, Ran, Server, Stage, World, definition};

/// The user and group `nobody`.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn all_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = entries.flat_map(|path| if path.is_dir() { all_in(&path) } else { vec![path] }).collect();
    all.push(folder.to_owned());
    all
}

/// Lets a group read the folder, as docs/ledger.md says.
fn let_a_group_read(world: &World) {
    for path in all_in(&world.path("")) {
        if is_root() {
            chown(&path, None, Some(NOBODY)).unwrap();
        }
        set_mode(&path, if path.is_dir() { 0o2750 } else { 0o640 });
    }
}

/// What each file and folder looks like.
fn looks(world: &World) -> Vec<(PathBuf, u64, i64)> {
    let look = |path: PathBuf| {
        let meta = fs::metadata(&path).unwrap();
        (path, meta.len(), meta.mtime_nsec())
    };
    let mut all: Vec<_> = all_in(&world.path("")).into_iter().map(look).collect();
    all.sort();
    all
}

/// Runs a command as a user of the group: `nobody` where the tests run as root, else as this user without the right to write.
fn read(world: &World, arguments: &[&str]) -> Ran {
    let asked = world.command(arguments);
    // The folder that it was built in may be closed to others. A descriptor that is open is not.
    let program = File::open(env!("CARGO_BIN_EXE_mailonce")).unwrap();
    // SAFETY: the descriptor is open; all that starts meanwhile inherits a file that everyone may read.
    unsafe { libc::fcntl(program.as_raw_fd(), libc::F_SETFD, 0) };
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.args(asked.get_args()).env_clear().current_dir(asked.get_current_dir().unwrap());
    let modes: Vec<_> =
        all_in(&world.path("")).into_iter().map(|path| (path.metadata().unwrap().mode(), path)).collect();
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    } else {
        modes.iter().for_each(|(mode, path)| set_mode(path, mode & 0o555));
    }
    let ended = command.output().unwrap();
    if !is_root() {
        modes.iter().rev().for_each(|(mode, path)| set_mode(path, *mode));
    }
    Ran {
        command: format!("mailonce {}, as a reader", arguments.join(" ")),
        code: ended.status.code().unwrap(),
        stdout: String::from_utf8(ended.stdout).unwrap(),
        stderr: String::from_utf8(ended.stderr).unwrap(),
    }
}

#[track_caller]
fn reads(world: &World, arguments: &[&str]) -> Ran {
    let before = looks(world);
    let ran = world.check(read(world, arguments), 0);
    assert_eq!(looks(world), before, "a reader changed something: {ran}");
    ran
}

#[test]
fn a_ledger_at_rest_is_read_whole_and_nothing_is_made_beside_it() {
    let server = Server::start(Plan::accepting().auth("shop", "open sesame").starttls());
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-05 09:00\""))
        .cart(Cart::of("c1"))
        .smtp(&server)
        .init();
    fs::write(world.path("password"), "open sesame\n").unwrap();
    set_mode(&world.path("password"), 0o600);
    for (key, value) in [("username", "shop"), ("password_file", "password"), ("host", "localhost")] {
        world.configure(&format!("mail.smtp.{key}"), value);
    }
    let_a_group_read(&world);
    let world = signing(world, "test_key.pem");
    // The password and the key are for the user that cron runs as.
    for secret in ["password", "dkim.pem"] {
        set_mode(&world.path(secret), 0o600);
        if is_root() {
            chown(world.path(secret), None, Some(0)).unwrap();
        }
    }
    world.ok(["detect"]);
    world.ok(["run-campaigns"]);
    assert!(!world.path("mailonce.db-wal").exists(), "between two runs everything is in the one file");
    assert_eq!(world.ledger_file().metadata().unwrap().mode() & 0o777, 0o640, "the group is still let in");

    reads(&world, &["status"]).says("All well").says("sent              1").says("no run under way");
    reads(&world, &["log"]).says("c1@example.com");
    reads(&world, &["explain", "c1@example.com"]).says("written to about these contents");
    reads(&world, &["report"]).says("1 message: sent 1");
    let page = read(&world, &["report", "--html", "page.html"]);
    assert_eq!(page.code, 74, "{page}");
    page.says("could not write the page").says("Permission denied").says(" kept: ");
    reads(&world, &["campaign", "list"]).says("spring");
    reads(&world, &["campaign", "show", "spring"]).says("spring");
    reads(&world, &["suppress", "list"]).says("the list is empty");
    reads(&world, &["resolve"]).says("0 messages in doubt");
    assert_eq!(reads(&world, &["audit", "--json"]).json()["audited"]["messages"], 1);
    let refused = read(&world, &["suppress", "add", "bob@example.com"]);
    assert_eq!(refused.code, 74, "{refused}");
}

#[test]
fn a_run_under_way_and_one_that_was_killed_are_read_with_their_log() {
    let server = Server::start(Plan::accepting().at(Stage::Taken, Act::Hang));
    let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
    let_a_group_read(&world);
    let run = world.spawn(["detect"]);
    server.wait_for(Stage::Taken, 1);
    read(&world, &["status"]).says("running now: pid=").says("armed             1");
    set_mode(&world.path("mailonce.db.lock"), 0o200);
    read(&world, &["status"]).says("running now: perhaps; this user may not read the lock file");
    set_mode(&world.path("mailonce.db.lock"), 0o640);
    run.kill();
    server.release();
    assert!(world.path("mailonce.db-wal").metadata().unwrap().len() > 0, "the run left its log");
    reads(&world, &["status"]).says("A run was killed: 1 message in doubt from the next run on.");

    // Without what the writer made beside it, no reader can tell what the log holds; the ledger alone would be a lie.
    fs::remove_file(world.path("mailonce.db-shm")).unwrap();
    let ran = read(&world, &["status"]);
    assert_eq!(ran.code, 74, "{ran}");
    ran.says("mailonce.db-shm is not there").says("next: start the command again when that run has ended");
    world.ok(["status"]).says("A run was killed");
}

#[test]
fn who_may_not_read_it_is_told_who_may() {
    let world = World::new().init();
    let_a_group_read(&world);
    set_mode(&world.ledger_file(), 0o200);
    for command in ["status", "log", "audit"] {
        let ran = read(&world, &[command]);
        assert_eq!(ran.code, 74, "{ran}");
        ran.says("may not read the ledger").says("it belongs to ").says(", mode 0").says("Who may read it");
    }
    set_mode(&world.ledger_file(), 0o640);
    reads(&world, &["status"]);
}

#[test]
fn doctor_names_each_right_that_its_user_lacks() {
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-05 09:00\"")).cart(Cart::of("c1")).init();
    fs::write(world.path("cart.html"), "<p>x</p>").unwrap();
    world.configure("detect.template", "cart.html");
    world.ok(["detect"]);
    world.ok(["doctor"]).says("may do all that a run does with its files");
    let_a_group_read(&world);
    world.ok(["doctor"]).says("are for this user only; their group may read");
    for closed in ["cart.html", "letter.html", "audience.csv"] {
        set_mode(&world.path(closed), 0o200);
    }
    let ran = read(&world, &["doctor", "--json"]);
    assert_eq!(ran.code, 1, "{ran}");
    let findings = ran.json()["findings"].as_array().unwrap().clone();
    let of_rights = findings.iter().filter(|finding| finding["check"] == "rights" && finding["level"] == "fail");
    let told: Vec<_> = of_rights.map(|finding| finding["what"].as_str().unwrap().to_owned()).collect();
    let folder = world.path("").canonicalize().unwrap();
    for right in [
        &format!("write {}: ", folder.display()),
        "write mailonce.db: ",
        "mailonce.db.lock: ",
        "read cart.html",
        "read letter.html",
        "read audience.csv",
    ] {
        assert!(told.iter().any(|what| what.contains(right)), "{right:?} is not in {told:#?}");
    }
    assert_eq!(told.len(), 6, "{told:#?}");
    // As far as it can: it goes on to what the ledger says.
    assert!(findings.iter().any(|finding| finding["check"] == "in doubt"), "{findings:#?}");

    set_mode(&world.path("mailonce.toml"), 0o200);
    let ran = read(&world, &["doctor"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.says("FAIL  configuration  could not read mailonce.toml: Permission denied");
}
