//! Where a ledger may lie, and what is noticed of one that was moved, mounted or tidied up.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Act, Cart, Plan, Server, Stage, World};

fn carts(n: usize) -> impl Iterator<Item = Cart> {
    (1..=n).map(|n| Cart::of(&format!("c{n}")))
}

mod mounts {
    use super::*;

    /// Whether a mount namespace can be made here; a word for whoever reads the test's output, if not.
    fn can_mount() -> bool {
        let can = Command::new("unshare").args(["-m", "true"]).output().is_ok_and(|ran| ran.status.success());
        if !can {
            println!("skipped: no mount namespaces here (needs root)");
        }
        can
    }

    /// Runs a command of the world after these shell commands, in a mount namespace of its own.
    fn in_namespace(world: &World, before: &str, arguments: &[&str]) -> Output {
        let command = world.command(arguments);
        let mut words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        words.insert(0, command.get_program().to_string_lossy().into_owned());
        Command::new("unshare")
            .args(["-m", "sh", "-c", &format!("{before} && exec \"$@\""), "sh"])
            .args(words)
            .current_dir(world.path(""))
            .output()
            .unwrap()
    }

    fn refused(world: &World, before: &str, arguments: &[&str], words: &str) {
        let ran = in_namespace(world, before, arguments);
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(78), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }

    #[test]
    fn a_ledger_or_lock_file_that_is_mounted_alone_is_refused_by_every_command() {
        if !can_mount() {
            return;
        }
        let server = Server::start(Plan::accepting());
        let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
        world.write("other", "");
        let own = "mount --bind mailonce.db mailonce.db";
        for command in [
            &["detect"][..],
            &["status"],
            &["log"],
            &["audit"],
            &["suppress", "add", "x@example.com", "--reason", "x"],
            &["resolve"],
            &["add-index"],
            &["init", "--rehearsal"],
        ] {
            refused(&world, own, command, "mailonce.db is a mount point by itself");
        }
        let folder = world.ledger_file().parent().unwrap().to_owned();
        let on_its_disk = folder.strip_prefix("/dev/shm").map_or(folder.clone(), |path| Path::new("/").join(path));
        let holder = format!("mount the folder that holds it ({} on its disk)", on_its_disk.display());
        refused(&world, own, &["detect"], &holder);
        refused(&world, "mount --bind other mailonce.db.lock", &["detect"], "mailonce.db.lock is a mount point");
        refused(&world, "touch mailonce.db-wal && mount --bind other mailonce.db-wal", &["detect"], "-wal is a mount");
        // Also through a link, and where no ledger is yet.
        std::os::unix::fs::symlink("mailonce.db", world.path("link.db")).unwrap();
        world.configure("ledger", "link.db");
        refused(&world, own, &["detect"], "is a mount point by itself");
        assert_eq!(server.connections(), 0);
    }

    #[test]
    fn a_folder_that_is_mounted_whole_is_the_same_ledger() {
        if !can_mount() {
            return;
        }
        let server = Server::start(Plan::accepting());
        let world = World::new().cart(Cart::of("c1")).smtp(&server);
        std::fs::create_dir_all(world.path("data")).unwrap();
        std::fs::create_dir_all(world.path("mounted")).unwrap();
        world.configure("ledger", "data/mailonce.db");
        let world = world.init();
        world.configure("ledger", "mounted/mailonce.db");
        let ran = in_namespace(&world, "mount --bind data mounted", &["detect"]);
        assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
        world.configure("ledger", "data/mailonce.db");
        world.ok(["detect"]);
        assert_eq!(server.accepted().len(), 1);
    }

    #[test]
    fn a_file_system_that_is_not_known_to_be_sound_is_refused_until_it_is_trusted_by_name() {
        let can = Path::new("/dev/fuse").exists() && Command::new("bindfs").arg("-V").output().is_ok();
        if !can || !can_mount() {
            println!("skipped: no bindfs here");
            return;
        }
        let server = Server::start(Plan::accepting());
        let world = World::new().cart(Cart::of("c1")).smtp(&server);
        std::fs::create_dir_all(world.path("data")).unwrap();
        std::fs::create_dir_all(world.path("shared")).unwrap();
        world.configure("ledger", "shared/mailonce.db");
        let mount = "bindfs data shared";
        refused(&world, mount, &["init", "--rehearsal"], "of the type fuse");
        assert!(!world.path("data/mailonce.db").exists() && !world.path("data/mailonce.db.lock").exists());
        world.configure("ledger", "data/mailonce.db");
        let world = world.init();
        world.configure("ledger", "shared/mailonce.db");
        refused(&world, mount, &["detect"], "trusted_file_systems = [\"fuse");
        refused(&world, mount, &["status"], "of the type fuse");
        world.configure("trusted_file_systems", toml::Value::Array(vec!["fuse.sshfs".into()]));
        refused(&world, mount, &["detect"], "of the type fuse");
        let both = toml::Value::Array(vec!["fuse".into(), "fuse.bindfs".into()]);
        world.configure("trusted_file_systems", both);
        let ran = in_namespace(&world, mount, &["detect"]);
        assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
        assert_eq!(server.accepted().len(), 1);
    }
}

mod after_a_kill {
    use super::*;

    fn remove(world: &World, ends: &[&str]) {
        for end in ends {
            let file = format!("{}{end}", world.ledger_file().display());
            std::fs::remove_file(&file).unwrap_or_else(|err| panic!("{file}: {err}"));
        }
    }

    /// Killed while the server holds its reply to the second of three messages.
    fn killed() -> (World, Server) {
        let server = Server::start(Plan::accepting().nth(Stage::Dot, 2, Act::Hang));
        let world = World::new().carts(carts(3)).smtp(&server).init();
        let run = world.spawn(["detect"]);
        server.wait_for(Stage::Dot, 2);
        run.kill();
        server.release();
        let next = Server::start(Plan::accepting());
        world.send_to(&next);
        world.set_now("2026-03-01T12:10:00Z");
        (world, next)
    }

    /// Refused by every command that writes, until a person holds back what is due.
    fn noticed(world: &World, server: &Server) {
        let before = std::fs::read(world.ledger_file()).unwrap();
        for command in [
            &["suppress", "add", "x@example.com", "--reason", "x"][..],
            &["suppress", "remove", "x@example.com"],
            &["resolve", "--all", "--sent", "--reason", "x"],
            &["cleanup-duplicates"],
            &["add-index"],
            &["run-campaigns"],
            &["detect"],
        ] {
            world.exits(74, command).says("mailonce resolve --restored").says("suppressions added since");
        }
        world.ok(["status"]);
        world.exits(1, ["audit"]);
        world.exits(74, ["detect"]);
        assert!(std::fs::read(world.ledger_file()).unwrap() == before, "the ledger was written to");
        world.ok(["resolve", "--restored", "--hold-back"]).says("import suppressions");
        world.run(["detect"]);
        world.set_now("2026-03-01T12:11:00Z");
        world.ok(["detect"]);
        assert_eq!(server.accepted().len(), 0, "what may have gone out went out again");
        world.ok(["audit"]).is_silent();
    }

    #[test]
    fn a_log_that_was_cleared_away_with_the_lock_file_is_missed() {
        let (world, server) = killed();
        remove(&world, &["-wal", "-shm", ".lock"]);
        noticed(&world, &server);
    }

    #[test]
    fn a_log_that_was_emptied_is_missed() {
        let (world, server) = killed();
        std::fs::write(world.path("mailonce.db-wal"), "").unwrap();
        remove(&world, &[".lock"]);
        noticed(&world, &server);
    }

    #[test]
    fn a_log_that_was_cleared_away_alone_is_missed() {
        let (world, server) = killed();
        remove(&world, &["-wal", "-shm"]);
        noticed(&world, &server);
    }

    /// The record's count of begun messages is not synced: after a power loss it may be behind what stood in the log.
    #[test]
    fn a_log_that_was_cleared_away_is_missed_even_where_the_lock_file_counts_nothing() {
        let hangs = Server::start(Plan::accepting().at(Stage::Connect, Act::Hang));
        let world = World::new().carts(carts(1)).smtp(&hangs).init();
        let run = world.spawn(["detect"]);
        hangs.wait_for(Stage::Connect, 1);
        run.kill();
        hangs.release();
        remove(&world, &["-wal", "-shm"]);
        let server = Server::start(Plan::accepting());
        world.send_to(&server);
        world.set_now("2026-03-01T12:10:00Z");
        noticed(&world, &server);
    }

    #[test]
    fn a_ledger_that_was_moved_without_its_log_is_noticed() {
        let (world, server) = killed();
        std::fs::rename(world.ledger_file(), world.path("moved.db")).unwrap();
        world.configure("ledger", "moved.db");
        noticed(&world, &server);
    }

    #[test]
    fn a_ledger_that_was_moved_with_its_log_goes_on() {
        let (world, server) = killed();
        for end in ["", "-wal"] {
            std::fs::rename(format!("{}{end}", world.ledger_file().display()), world.path(format!("moved.db{end}")))
                .unwrap();
        }
        world.configure("ledger", "moved.db");
        world.exits(1, ["detect"]).says("in doubt");
        assert_eq!(server.accepted().len(), 1);
        world.has([("in_doubt", 1), ("sent", 2)]);
    }

    #[test]
    fn no_command_takes_the_log_away_before_the_next_run() {
        let (world, server) = killed();
        world.ok(["status"]);
        world.ok(["suppress", "add", "x@example.com", "--reason", "x"]);
        world.ok(["resolve"]);
        world.ok(["cleanup-duplicates"]);
        assert!(world.path("mailonce.db-wal").metadata().unwrap().len() > 0);
        // And so the lock file may go: the log still tells.
        remove(&world, &[".lock"]);
        world.exits(1, ["detect"]).says("written anew").says("in doubt");
        assert_eq!(server.accepted().len(), 1);
        assert!(!world.path("mailonce.db-wal").exists(), "an orderly end takes it away");
    }

    #[test]
    fn another_program_that_brought_the_log_in_is_no_alarm() {
        let (world, server) = killed();
        let other = rusqlite::Connection::open(world.ledger_file()).unwrap();
        other.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        drop(other);
        assert!(!world.path("mailonce.db-wal").exists());
        world.exits(1, ["detect"]).says("in doubt");
        assert_eq!(server.accepted().len(), 1);
    }

    #[test]
    fn a_run_that_was_killed_before_it_armed_anything_is_no_alarm() {
        for ends in [&[][..], &[".lock"]] {
            let server = Server::start(Plan::accepting().at(Stage::Connect, Act::Hang));
            let world = World::new().carts(carts(1)).smtp(&server).init();
            let run = world.spawn(["detect"]);
            server.wait_for(Stage::Connect, 1);
            run.kill();
            server.release();
            remove(&world, ends);
            let next = Server::start(Plan::accepting());
            world.send_to(&next);
            world.set_now("2026-03-01T12:10:00Z");
            world.ok(["detect"]);
            assert_eq!(next.accepted().len(), 1);
        }
    }

    /// What every run would see without the others' help: the beginning stands in the file itself.
    #[test]
    fn the_file_itself_knows_of_the_run_that_is_under_way() {
        let server = Server::start(Plan::accepting().at(Stage::Dot, Act::Hang));
        let world = World::new().carts(carts(1)).smtp(&server).init();
        let run = world.spawn(["detect"]);
        server.wait_for(Stage::Dot, 1);
        std::fs::copy(world.ledger_file(), world.path("copy.db")).unwrap();
        let copy = rusqlite::Connection::open(world.path("copy.db")).unwrap();
        let open: i64 =
            copy.query_row("SELECT count(*) FROM run WHERE ended_at IS NULL", [], |row| row.get(0)).unwrap();
        assert_eq!(open, 1);
        server.release();
        world.check(run.wait(), 0);
    }

    #[test]
    fn a_reader_of_an_older_state_does_not_stop_a_run() {
        let server = Server::start(Plan::accepting());
        let world = World::new().carts(carts(1)).smtp(&server).init();
        world.ok(["detect"]);
        let reader = world.ledger();
        reader.execute_batch("BEGIN; SELECT count(*) FROM message").unwrap();
        world.put(Cart::of("more"));
        world.set_now("2026-03-01T12:10:00Z");
        world.ok(["detect"]).is_silent();
        assert_eq!(server.accepted().len(), 2);
        drop(reader);
        world.set_now("2026-03-01T12:11:00Z");
        world.ok(["detect"]).is_silent();
    }
}

mod machines {
    use super::*;

    const OTHER: &str = "UPDATE ledger SET host_id = 'ffffffff', host_name = 'old-shop', host_since = 1";

    fn has_identity() -> bool {
        let sound = std::fs::read_to_string("/etc/machine-id").is_ok_and(|id| id.trim().len() == 32);
        if !sound {
            println!("skipped: this machine has no /etc/machine-id");
        }
        sound
    }

    #[test]
    fn a_ledger_that_another_machine_wrote_is_told_once() {
        if !has_identity() {
            return;
        }
        let server = Server::start(Plan::accepting());
        let world = World::new().smtp(&server).init();
        world.ok(["detect"]).is_silent();
        // Moved with all it has, but for the lock file.
        world.by_hand(OTHER);
        std::fs::remove_file(world.path("mailonce.db.lock")).unwrap();
        world.set_now("2026-03-01T12:10:00Z");
        world.ok(["detect"]).says("last written on another machine, old-shop (ffffffff)").says("stop it there");
        world.set_now("2026-03-01T12:11:00Z");
        world.ok(["detect"]).is_silent();
    }

    /// Copied to another machine, used on both, and copied back.
    #[test]
    fn a_copy_that_was_used_on_another_machine_meanwhile_is_refused() {
        if !has_identity() {
            return;
        }
        let server = Server::start(Plan::accepting());
        let world = World::new().smtp(&server).init();
        world.ok(["detect"]);
        world.by_hand(&format!("{OTHER}; UPDATE ledger SET epoch = epoch + 5"));
        world.put(Cart::of("c1"));
        world.set_now("2026-03-01T12:10:00Z");
        world.exits(74, ["detect"]).says("two copies of").says("old-shop").says("mailonce resolve --restored");
        world.ok(["resolve", "--restored", "--hold-back"]);
        world.ok(["detect"]);
        assert_eq!(server.connections(), 0);
    }
}
