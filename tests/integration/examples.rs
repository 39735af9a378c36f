//! What is shown to users runs as written: `examples/`, `crontab.example`, the tables of the pages. `docs` has the rest.

use std::path::Path;
use std::process::Command;

use crate::docs::{first_cells, in_repository, page};
use crate::support::{Cart, Kind, World};

const CRONTAB: &str = include_str!("../../crontab.example");
const STARTER: &str = include_str!("../../src/command/init/mailonce.toml");

/// `examples/smoke.sh mailonce.toml`: its exit code and what it says.
fn smoke(world: &World, most: &str) -> (i32, String) {
    let mut smoke = Command::new("sh");
    smoke.arg(in_repository("examples/smoke.sh")).args(["mailonce.toml", most]);
    smoke.env_clear().env("PATH", "/usr/bin:/bin").env("MAILONCE", env!("CARGO_BIN_EXE_mailonce"));
    let ended = smoke.current_dir(world.path("")).output().unwrap();
    (
        ended.status.code().unwrap(),
        format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr)),
    )
}

#[test]
fn the_smoke_test_passes_on_a_sound_shop_and_fails_on_others() {
    let world = World::new().without_now().set("detect.max_age", "87600h");
    let world = world.carts([Cart::of("c1"), Cart::of("c2"), Cart::of("anonymous").without_email()]).init();
    let before = world.report_of_ledger();
    let (code, said) = smoke(&world, "2");
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("ok    ").count(), 6, "{said}");
    assert!(said.contains("2 mails would be sent, at most 2 expected"), "{said}");
    assert_eq!(world.report_of_ledger(), before);
    let (code, said) = smoke(&world, "1");
    assert!(code == 1 && said.contains("FAIL  2 mails"), "{said}");
    world.put(Cart::of("bad").currency("EURO"));
    let (code, said) = smoke(&world, "2");
    assert!(code == 1 && said.contains("FAIL  detect --dry-run"), "{said}");
    world.configure("detect.idle", "soon");
    let (code, said) = smoke(&world, "2");
    assert!(code == 1 && said.contains("FAIL  the configuration"), "{said}");
}

#[test]
fn the_example_configuration_and_shop_work() {
    let world = World::new().without_now();
    std::fs::remove_file(world.shop()).unwrap();
    let shop = rusqlite::Connection::open(world.path("shop.db")).unwrap();
    shop.execute_batch(&std::fs::read_to_string(in_repository("examples/shop.sql")).unwrap()).unwrap();
    std::fs::copy(in_repository("examples/mailonce.toml"), world.path("mailonce.toml")).unwrap();
    world.ok(["init", "--rehearsal"]);
    world.ok(["detect"]);
    assert_eq!(world.outbox().len(), 3);
}

#[test]
fn each_line_of_the_crontab_runs_from_crons_environment() {
    let world = World::new().without_now().set("detect.max_age", "87600h").set("bounces.maildir", "Maildir");
    let world = world.cart(Cart::of("c1")).init();
    for folder in ["new", "cur", "tmp"] {
        std::fs::create_dir_all(world.path("Maildir").join(folder)).unwrap();
    }
    std::fs::write(world.path("mail.log"), "Mar  1 06:25:00 mx postfix/smtpd[1]: connect from localhost[127.0.0.1]\n")
        .unwrap();
    let (log, page) = (world.path("mail.log"), world.path("report.html"));
    let mut environment = Vec::new();
    let mut commands = 0;
    // The lines that are to be turned on where there is a local mail server, a mailbox for what comes back, or a place for a page
    // are tried too.
    let is_a_line = |line: &&str| line.starts_with("*/") || line.split(' ').nth(2) == Some("*");
    let turned_on = |line: &'static str| line.strip_prefix("# ").filter(is_a_line).unwrap_or(line);
    for line in CRONTAB.lines().map(turned_on).filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        if let Some((name, value)) =
            line.split_once('=').filter(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        {
            environment.push((name, value));
            continue;
        }
        let mut words = line.split_whitespace();
        for field in words.by_ref().take(5) {
            let field = field.strip_prefix("*/").unwrap_or(field);
            assert!(field == "*" || field.parse::<u8>().is_ok_and(|number| number < 60), "{line}");
        }
        let placed = |word| match word {
            "/var/log/mail.log" => log.to_str().unwrap(),
            "/var/lib/mailonce/report.html" => page.to_str().unwrap(),
            other => other,
        };
        let command: Vec<&str> = words.map(placed).collect();
        assert_eq!(command[0], "mailonce");
        assert!(!line.contains('%'), "a % ends the command of a crontab line: {line}");
        // As cron does it, but for the program's place, the configuration's and the mail log's.
        let bin = Path::new(env!("CARGO_BIN_EXE_mailonce")).parent().unwrap();
        let ended = Command::new("/bin/sh")
            .args(["-c", &command.join(" ")])
            .env_clear()
            .envs([("HOME", "/"), ("LOGNAME", "nobody"), ("SHELL", "/bin/sh")])
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .env("MAILONCE_CONFIG", world.path("mailonce.toml"))
            .current_dir("/")
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(0), "{line}: {}", String::from_utf8_lossy(&ended.stderr));
        assert_eq!(ended.stdout.is_empty(), command[1] != "status", "{line}");
        commands += 1;
    }
    assert_eq!(commands, 6);
    assert!(page.exists());
    let names: Vec<&str> = environment.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["MAILTO", "PATH", "MAILONCE_CONFIG"]);
    world.has([("sent", 1)]);
}

#[test]
fn the_guides_json_line_is_a_cart_that_gets_a_mail() {
    let guide = page("docs/guide.md");
    let line = guide.lines().find(|line| line.starts_with("{\"cart_id\"")).expect("the example");
    let world = World::new().source(Kind::JsonLines).init();
    std::fs::write(world.shop(), format!("{line}\n")).unwrap();
    world.ok(["detect"]).is_silent();
    world.has([("sent", 1)]);
    assert_eq!(world.message().recipient, "ada@example.com");
    assert_eq!(world.episodes()[0].cart_value.as_deref(), Some("39.80"));
}

#[test]
fn every_default_that_init_writes_as_a_comment_can_be_turned_on() {
    let (mut text, mut table) = (String::new(), "");
    for line in STARTER.lines() {
        table = line.strip_prefix('[').and_then(|line| line.split(']').next()).unwrap_or(table);
        let setting =
            line.strip_prefix("# ").filter(|rest| rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')));
        // Queries, passwords, servers and presets are examples, not defaults.
        let is_default = |key: &str| match table {
            "source" => ["timezone", "html_names"].contains(&key),
            // A list is one of two, and a folder that must be there.
            "unsubscribe" => ["scope", "keys"].contains(&key),
            // Each is one of two.
            "heartbeat" => !key.ends_with("_file"),
            _ => !["password_file", "username"].contains(&key),
        };
        let key = setting.and_then(|setting| setting.split(' ').next());
        match setting.filter(|_| key.is_some_and(is_default)) {
            Some(setting) => text.push_str(setting),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    let world = World::new();
    std::fs::write(world.path("mailonce.toml"), &text).unwrap();
    assert!(text.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")).count() > 30, "{text}");
    world.ok(["init", "--rehearsal"]);
    world.ok(["status"]);
}

#[test]
fn the_exit_codes_are_those_of_the_readme() {
    let codes: Vec<i32> = first_cells(&page("README.md"), "| exit |")
        .into_iter()
        .map(|code| code.parse().unwrap())
        // A fault of mailonce: whoever knows how to bring it about fixes it.
        .filter(|code| *code != 70)
        .collect();
    let world = World::new().cart(Cart::of("c1")).init();
    let mut seen = Vec::new();
    let mut end = |code, arguments: &[&str]| {
        world.exits(code, arguments);
        seen.push(code);
    };
    end(0, &["detect"]);
    world.put(Cart::of("bad").currency("EURO"));
    end(1, &["detect"]);
    end(2, &["detect", "--no-such-flag"]);
    end(65, &["import", "suppressions", "nowhere"]);
    world.set_now("2026-02-01T00:00:00Z");
    end(74, &["detect"]);
    let lock = std::fs::File::open(world.path("mailonce.db.lock")).unwrap();
    lock.lock().unwrap();
    end(75, &["detect"]);
    lock.unlock().unwrap();
    world.configure("detect.idle", "soon");
    end(78, &["detect"]);
    assert_eq!(seen, codes);
}
