//! The pages, held to the program: every key, every exit code, every command that a reader would type, every link.
//!
//! Pages are read when a test runs, so that a page can be broken and mended without building anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::{Cart, Plan, Server, World};

/// Everything that is written for people, from the folder of the repository.
pub const PAGES: [&str; 25] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/adopting.md",
    "docs/benchmarks.md",
    "docs/campaigns.md",
    "docs/carts.md",
    "docs/configuration.md",
    "docs/data.md",
    "docs/explain.md",
    "docs/flows.md",
    "docs/glossary.md",
    "docs/guide.md",
    "docs/install.md",
    "docs/json.md",
    "docs/ledger.md",
    "docs/monitoring.md",
    "docs/proof.md",
    "docs/recovery.md",
    "docs/report.md",
    "docs/sending.md",
    "docs/shops.md",
    "docs/troubleshooting.md",
    "docs/bounces.md",
    "docs/unsubscribe.md",
];

/// What a reader types on another machine, or with their own hands.
const NOT_RUN: [&str; 5] = ["cargo install", "cargo run", "cargo test", "crontab -e", "$EDITOR"];

pub fn in_repository(name: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A page, or any other file of the repository.
pub fn page(name: impl AsRef<Path>) -> String {
    let name = name.as_ref();
    std::fs::read_to_string(in_repository(name)).unwrap_or_else(|err| panic!("{}: {err}", name.display()))
}

/// The first cells of a table's rows, after its head.
pub fn first_cells(page: &str, head: &str) -> Vec<String> {
    let rows = page.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    rows.map_while(|row| Some(row.strip_prefix("| ")?.split(" |").next()?.trim().to_owned())).collect()
}

/// A fenced block of a page.
#[derive(Debug, Clone)]
pub struct Block {
    pub language: String,
    pub text: String,
    pub line: usize,
}

pub fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (at, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                open = Some(Block { language: language.to_owned(), text: String::new(), line: at + 1 });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(block)) => block.text.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed: {open:?}");
    found
}

/// The page without its fenced blocks.
fn prose(page: &str) -> String {
    let mut inside = false;
    let lines = page.lines().filter(|line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !fence && !inside
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Does with a page what a reader does: saves its files, types its commands, compares what they print.
///
/// A block of TOML, SQL or HTML names its file in a comment on its first line. The folder /etc/mailonce is that of the
/// world, and the mail server is `server`.
fn follow(name: &str, world: &World, server: &Server) -> usize {
    blocks(&page(name)).iter().map(|block| follow_block(name, block, world, server)).sum()
}

fn follow_block(name: &str, block: &Block, world: &World, server: &Server) -> usize {
    let folder = world.path("");
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    let mut commands = 0;
    let place = format!("{name}:{}", block.line);
    let text = block.text.replace("/etc/mailonce", folder);
    match block.language.as_str() {
        "toml" | "sql" | "html" => {
            let file = text.lines().next().unwrap().trim_start_matches(['#', '-', '<', '!', ' ']);
            let file = file.split([' ', ':']).next().unwrap();
            assert!(file.ends_with(&format!(".{}", block.language)), "{place}: the first line names no file");
            let here = format!("host = \"127.0.0.1\"\nport = {}\ntls = \"none\"", server.port());
            let text = text.replace("host = \"smtp.shop.example\"", &here);
            std::fs::create_dir_all(world.path(file).parent().unwrap()).unwrap();
            std::fs::write(world.path(file), text).unwrap();
        }
        "sh" => {
            for line in text.lines().filter(|line| !NOT_RUN.iter().any(|not_run| line.starts_with(not_run))) {
                let (code, said) = typed(world, line);
                assert_eq!(code, 0, "{place}: {line}\n{said}");
                commands += 1;
            }
        }
        "console" => {
            let mut lines = text.lines().peekable();
            while let Some(line) = lines.next() {
                let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("{place}: no command: {line}"));
                let mut shown = String::new();
                while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                    shown.push_str(&format!("{line}\n"));
                }
                if NOT_RUN.iter().any(|not_run| command.starts_with(not_run)) {
                    continue;
                }
                let (_, said) = typed(world, command);
                assert_eq!(without_ages(&said), without_ages(&shown), "{place}: {command}");
                commands += 1;
            }
        }
        // A line of a file that the shop exports; `examples` has its test.
        "json" => {}
        other => panic!("{place}: a block of {other:?}, which no test reads"),
    }
    commands
}

/// Types one line into a shell in the world's folder, with the program in the PATH, and says what a terminal would show.
fn typed(world: &World, line: &str) -> (i32, String) {
    // The shell of SQLite may not be installed.
    if let Some((database, script)) = line.strip_prefix("sqlite3 ").and_then(|rest| rest.split_once(" < ")) {
        let database = rusqlite::Connection::open(world.path(database)).unwrap();
        database.execute_batch(&std::fs::read_to_string(world.path(script)).unwrap()).unwrap();
        return (0, String::new());
    }
    let bin = Path::new(env!("CARGO_BIN_EXE_mailonce")).parent().unwrap();
    let ended = Command::new("/bin/sh")
        .args(["-c", &format!("exec 2>&1; {line}")])
        .env_clear()
        .env("HOME", world.path(""))
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .current_dir(world.path(""))
        .output()
        .unwrap();
    (ended.status.code().unwrap(), String::from_utf8_lossy(&ended.stdout).into_owned())
}

/// `touched 10m ago` is eleven minutes on a slow machine.
fn without_ages(text: &str) -> String {
    let mut parts = text.split("(touched ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |told, part| told + "(touched" + part.split_once("ago").map_or(part, |(_, rest)| rest))
}

/// A folder with a shop in it that is not set up: no configuration.
fn bare() -> World {
    let world = World::new().without_now();
    std::fs::remove_file(world.path("mailonce.toml")).unwrap();
    std::fs::remove_file(world.path("shop.db")).unwrap();
    world
}

#[test]
fn the_readme_can_be_followed() {
    let world = bare();
    // What the reader has: a shop, a list, a template.
    let shop = rusqlite::Connection::open(world.path("shop.db")).unwrap();
    shop.execute_batch(&page("examples/shop.sql")).unwrap();
    std::fs::create_dir(world.path("templates")).unwrap();
    for file in ["audience.csv", "templates/spring.html"] {
        std::fs::copy(in_repository("examples").join(file), world.path(file)).unwrap();
    }
    let audience = std::fs::File::options().write(true).open(world.path("audience.csv")).unwrap();
    audience.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    let server = Server::start(Plan::accepting());
    let readme = page("README.md");
    let until = readme.lines().position(|line| line == ADOPTION).expect("the part on older systems") + 1;
    // Whoever comes from another system begins in a folder of their own: the next test.
    let (others, adopting): (Vec<_>, Vec<_>) = blocks(&readme).into_iter().partition(|block| block.line < until);
    assert!(others.iter().map(|block| follow_block("README.md", block, &world, &server)).sum::<usize>() >= 5);
    assert_eq!(adopting.len(), 2);
    world.ok(["run-campaigns", "--dry-run"]).says("3 recipients");
    world.ok(["status"]).says("live ledger");
}

const ADOPTION: &str = "## Coming from another system";

/// An empty folder, but for the configuration that the README shows and the logs of older systems.
fn empty_but_for_old_logs(server: &Server) -> World {
    let world = bare();
    let readme = blocks(&page("README.md"));
    let config = readme.iter().find(|block| block.text.starts_with("# mailonce.toml")).expect("the configuration");
    follow_block("README.md", config, &world, server);
    for file in ["old_log.sql", "old_log.csv"] {
        std::fs::copy(in_repository("examples").join(file), world.path(file)).unwrap();
    }
    let clean: Vec<String> = page("examples/old_log.csv").lines().take(3).map(str::to_owned).collect();
    std::fs::write(world.path("dump.csv"), clean.join("\n")).unwrap();
    let old = rusqlite::Connection::open(world.path("old_log.db")).unwrap();
    old.execute_batch(&page("examples/old_log.sql")).unwrap();
    world
}

#[test]
fn each_way_from_an_older_system_works_in_an_empty_folder() {
    let server = Server::start(Plan::accepting());
    let readme = page("README.md");
    let part = readme.split(ADOPTION).nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the part");
    let mut ways = 0;
    for (name, text) in [("README.md", part), ("docs/adopting.md", &page("docs/adopting.md"))] {
        for block in blocks(text) {
            let world = empty_but_for_old_logs(&server);
            assert!(follow_block(name, &block, &world, &server) >= 2, "{name}: {block:?}");
            world.ok(["status"]).says(" ledger");
            assert!(world.number("SELECT count(*) FROM cart_abandonment_log") > 0);
            ways += 1;
        }
    }
    assert_eq!(ways, 4);
}

#[test]
fn the_guide_leads_from_nothing_to_the_mails_it_promises() {
    let world = bare();
    let server = Server::start(Plan::accepting());
    assert!(follow("docs/guide.md", &world, &server) >= 12);
    let guide = page("docs/guide.md");
    assert!(guide.contains("**Two mails.**"));
    let mails: Vec<String> =
        world.outbox().into_iter().map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned()).collect();
    assert_eq!(mails.len(), 2);
    for recipient in ["ada@example.com", "barbara@example.com"] {
        assert!(mails.iter().any(|mail| mail.contains("To: ") && mail.contains(recipient)), "no mail to {recipient}");
    }
    // The live ledger is another one; carts from before it was made get nothing.
    world.ok(["status"]).says("live ledger");
    world.ok(["detect"]).is_silent();
    assert_eq!(server.accepted().len(), 0);
}

/// The configuration that the page on flows begins with, on a shop with one cart.
fn with_the_flow_on_the_page(server: &Server) -> World {
    let block =
        blocks(&page("docs/flows.md")).into_iter().find(|block| block.text.starts_with("# steps.toml")).unwrap();
    let mut config: toml::Table = block.text.parse().unwrap();
    let steps = config["detect"]["step"].as_array_mut().unwrap();
    steps.iter_mut().for_each(|step| drop(step.as_table_mut().unwrap().remove("template")));
    let world = World::new().smtp(server).set("shop.timezone", "UTC").set("detect.since", "2026-03-01T00:00:00Z");
    let keys = [("detect.step", "detect", "step"), ("detect.max_age", "detect", "max_age")];
    let world = keys.iter().fold(world, |world, (key, table, name)| world.set(key, config[*table][*name].clone()));
    world.set("caps", config["caps"].clone()).set("send_window", config["send_window"].clone())
}

#[test]
fn the_timetable_of_flows_is_what_happens() {
    /// `Mon 11:00` of the week of 2 March 2026, so many minutes earlier.
    fn at(text: &str, earlier: i64) -> String {
        let (day, time) = text.split_once(' ').unwrap();
        let day = ["Mon", "Tue", "Wed", "Thu", "Fri"].iter().position(|name| *name == day).unwrap() + 2;
        let at: chrono::DateTime<chrono::Utc> = format!("2026-03-{day:02}T{time}:00Z").parse().unwrap();
        (at - chrono::TimeDelta::minutes(earlier)).format("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
    let flows = page("docs/flows.md");
    let rows = flows.lines().skip_while(|line| !line.starts_with("| the cart was touched on Monday")).skip(2);
    let mut seen = 0;
    for row in rows.map_while(|row| row.strip_prefix("| at ")) {
        let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
        let touched = at(&format!("Mon {}", &cells[0][..5]), 0);
        let again = cells[0].split("again on ").nth(1).map(|text| at(text, 0));
        let off_until = cells[0].split("off until ").nth(1).map(|text| at(text, 0));
        let server = Server::start(Plan::accepting());
        let world = with_the_flow_on_the_page(&server).cart(Cart::of("c1").updated(&touched)).now(&touched).init();
        for (steps, cell) in cells[1..].iter().enumerate() {
            for (now, sent) in [(at(cell, 1), steps), (at(cell, 0), steps + 1)] {
                if off_until.as_ref().is_some_and(|until| now < *until) {
                    continue;
                }
                if let Some(again) = again.as_ref().filter(|again| now >= **again) {
                    world.touch("c1", again);
                }
                world.set_now(&now);
                world.ok(["detect"]);
                assert_eq!(server.accepted().len(), sent, "{row} at {now}");
            }
        }
        seen += 1;
    }
    assert_eq!(seen, 4);
}

/// One row of a table of keys.
#[derive(Debug)]
struct Row {
    kind: String,
    default: String,
    meaning: String,
}

/// The tables of configuration.md: `mail.smtp.host`, and `[[campaign]].id` where there may be several.
fn documented() -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    let mut table = String::new();
    for line in page("docs/configuration.md").lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let name = heading.split('`').nth(1).unwrap_or_default();
            let is_one_of_several = name.starts_with("[[");
            table = if is_one_of_several { name.to_owned() } else { name.trim_matches(['[', ']']).to_owned() };
        }
        let Some(cells) = line.strip_prefix("| `").and_then(|row| row.strip_suffix(" |")) else { continue };
        let cells: Vec<&str> = cells.split(" | ").collect();
        let [key, kind, default, meaning] = cells[..] else { panic!("not four cells: {line}") };
        let key = key.trim_end_matches('`');
        let key = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
        let row = Row { kind: kind.into(), default: default.replace('`', ""), meaning: meaning.into() };
        assert!(rows.insert(key.clone(), row).is_none(), "{key} is there twice");
    }
    rows
}

/// The shortest configuration, as a table to change.
fn shortest() -> toml::Table {
    let text = r#"
        ledger = "mailonce.db"
        [shop]
        name = "Example Shop"
        url = "https://shop.example"
        [source]
        kind = "sqlite"
        path = "shop.db"
        [mail]
        from = "Example Shop <hello@shop.example>"
        [mail.smtp]
        host = "localhost"
    "#;
    text.parse().unwrap()
}

/// The dotted keys of a configuration, in the order of their names.
fn leaves(table: &toml::Table, path: &str, found: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => leaves(inner, &format!("{path}{key}."), found),
            _ => found.push(format!("{path}{key}")),
        }
    }
    found.sort();
}

/// The table at a dotted path, made where it is missing; `None` where the path leads to something else.
fn table_at<'a>(config: &'a mut toml::Table, path: &[&str]) -> Option<&'a mut toml::Table> {
    path.iter().try_fold(config, |table, name| {
        let entry = table.entry(*name).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        entry.as_table_mut()
    })
}

/// What the program says to a configuration.
fn said_to(world: &World, config: &toml::Table) -> (i32, String) {
    std::fs::write(world.path("mailonce.toml"), toml::to_string(config).unwrap()).unwrap();
    let ran = world.run(["status"]);
    (ran.code, ran.stderr)
}

/// The keys that the program itself lists where it is given one that it does not know.
fn accepted(world: &World, path: &[&str], found: &mut BTreeSet<String>) -> bool {
    let mut config = shortest();
    let Some(table) = table_at(&mut config, path) else { return false };
    table.insert("no_such_key".into(), 1.into());
    let (_, said) = said_to(world, &config);
    if !said.contains("there is no key `no_such_key`") {
        return false;
    }
    let known = said.split("(known here: ").nth(1).and_then(|rest| rest.split(')').next()).expect("the known keys");
    for key in known.split(", ") {
        let inner: Vec<&str> = path.iter().copied().chain([key]).collect();
        if !accepted(world, &inner, found) {
            found.insert(inner.join("."));
        }
    }
    true
}

/// The names of the fields of a structure of the settings.
fn fields_of(file: &str, structure: &str) -> Vec<String> {
    let code = page(format!("src/settings/{file}.rs"));
    let inside = code.split(&format!("{structure} {{")).nth(1).and_then(|rest| rest.split("\n}").next());
    let lines = inside.unwrap_or_else(|| panic!("{structure}")).lines().map(str::trim);
    let named = lines.filter(|line| !line.starts_with(['#', '/'])).filter_map(|line| line.split_once(": "));
    named.map(|(name, _)| name.trim_start_matches("pub ").to_owned()).collect()
}

#[test]
fn the_page_of_the_configuration_names_every_key_and_no_other() {
    let world = World::new();
    let mut keys = BTreeSet::new();
    assert!(accepted(&world, &[], &mut keys));
    assert!(keys.len() > 40, "{keys:?}");
    // Tables of which there may be several, each by what it is read into.
    for (table, file, structure) in [
        ("[[campaign]]", "campaigns", "pub struct Definition"),
        ("[[detect.step]]", "detect", "struct StepTable"),
        ("[[detect.step.variant]]", "detect", "struct VariantTable"),
        ("[[coupon]]", "bounds", "struct CouponTable"),
    ] {
        let fields = fields_of(file, structure);
        assert!(fields.len() > 3, "{table}: {fields:?}");
        keys.extend(fields.into_iter().map(|field| format!("{table}.{field}")));
    }
    keys.retain(|key| !["detect.step", "coupon", "[[detect.step]].variant"].contains(&key.as_str()));
    let documented = documented();
    let named: BTreeSet<String> = documented.keys().cloned().collect();
    assert_eq!(named.symmetric_difference(&keys).collect::<Vec<_>>(), [""; 0], "on the page alone, or accepted alone");
    for (key, row) in &documented {
        assert!(!row.kind.is_empty() && row.meaning.len() > 10, "{key}: {row:?}");
    }
}

#[test]
fn what_the_page_calls_required_is_required() {
    let world = World::new();
    let required: BTreeSet<String> =
        documented().into_iter().filter(|(_, row)| row.default == "required").map(|(key, _)| key).collect();
    let in_file: Vec<&String> = required.iter().filter(|key| !key.starts_with("[[")).collect();
    let mut given = Vec::new();
    leaves(&shortest(), "", &mut given);
    // A server has an address in its place.
    given.retain(|key| key != "source.path");
    assert_eq!(in_file, given.iter().collect::<Vec<_>>(), "what is required, and what the shortest configuration has");
    // With all of them it goes on to the ledger, which is not there.
    assert!(said_to(&world, &shortest()).1.contains("there is no ledger"));
    for key in in_file {
        let (path, name) = key.rsplit_once('.').unwrap_or(("", key));
        let path: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
        let mut config = shortest();
        assert!(table_at(&mut config, &path).unwrap().remove(name).is_some(), "{key} is not in the shortest");
        let (code, said) = said_to(&world, &config);
        assert!(code == 78 && said.contains("is missing"), "{key}: {said}");
    }
    let in_campaign: Vec<&str> = required.iter().filter_map(|key| key.strip_prefix("[[campaign]].")).collect();
    assert_eq!(in_campaign, ["id", "subject", "template"]);
}

/// Each default that the page gives, and the place in the code that it comes from. Who changes the one finds the other.
const DEFAULTS: [(&str, &str, &str); 63] = [
    ("trusted_file_systems", "[]", "#[serde(default)]\n    trusted_file_systems: Vec<String>"),
    ("shop.locale", "\"en\"", "None => Locale::ENGLISH"),
    ("shop.timezone", "\"UTC\"", "Zone(Tz::UTC)"),
    ("source.timezone", "\"UTC\"", "Zone(Tz::UTC)"),
    ("source.tls", "\"verify\"", "(None, _) => Encryption::Verify"),
    ("source.timeout", "\"30s\"", "timeout: Duration::from_secs(30)"),
    ("source.html_names", "false", "html_names: source.html_names.unwrap_or("),
    ("mail.transport", "\"smtp\"", "#[default]\n    Smtp"),
    (
        "mail.envelope",
        "the address of from",
        "The envelope sender with `{token}`, and perhaps `{id}`, in it; without, the address of `from`",
    ),
    ("mail.file.dir", "\"outbox\"", "MailFile { dir: \"outbox\".into() }"),
    ("mail.smtp.port", "587; 465 with tls = \"implicit\"", "unwrap_or(if tls == Tls::Implicit { 465 } else { 587 })"),
    ("mail.smtp.tls", "\"starttls\"", "smtp.tls.unwrap_or(Tls::Starttls)"),
    ("mail.smtp.allow_plain_text", "false", "#[serde(default)]\n    allow_plain_text: bool"),
    ("mail.smtp.connections", "4", "smtp.connections.unwrap_or(4)"),
    ("mail.smtp.connect_timeout", "\"30s\"", "seconds(smtp.connect_timeout, 30)"),
    ("mail.smtp.timeout", "\"120s\"", "seconds(smtp.timeout, 120)"),
    ("mail.smtp.dot_timeout", "\"600s\"", "seconds(smtp.dot_timeout, 600)"),
    ("mail.smtp.hello", "this machine's name", "The name said in EHLO; without, the host's own."),
    ("detect.idle", "\"60m\"", "minutes(detect.idle, 60)"),
    ("detect.max_age", "\"72h\"", "minutes(detect.max_age, 72 * 60)"),
    ("detect.window", "\"24h\"", "minutes(detect.window, 24 * 60)"),
    ("detect.retry_after", "\"2m\"", "minutes(detect.retry_after, 2)"),
    ("detect.since", "when the ledger was made", "`None` means the ledger's birth."),
    ("detect.consent", "\"required\"", "None | Some(\"required\") => false"),
    ("detect.max_per_cart", "3", "detect.max_per_cart.unwrap_or(3)"),
    ("detect.max_per_run", "1000", "detect.max_per_run.unwrap_or(1000)"),
    ("detect.subject", "the language's own", "unwrap_or_else(|| \"{{ text.subject }}\".into())"),
    ("detect.template", "built in", "`None` means the template that is built in."),
    ("detect.exclude_sku", "[]", "#[serde(default)]\n    exclude_sku: Vec<String>"),
    ("detect.exclude_category", "[]", "#[serde(default)]\n    exclude_category: Vec<String>"),
    ("detect.exclude", "\"only\"", "#[default]\n    Only"),
    ("[[detect.step]].until", "detect.max_age", "table.until.map_or(max_age"),
    ("[[detect.step]].subject", "detect.subject", "table.subject.map_or_else(|| detect.subject.clone()"),
    ("[[detect.step]].template", "detect.template", "or_else(|| detect.template.clone())"),
    ("[[detect.step.variant]].weight", "1", "table.weight.unwrap_or(1)"),
    ("[[detect.step.variant]].subject", "the step's", "table.subject.map_or_else(|| subject.clone()"),
    ("[[detect.step.variant]].template", "the step's", "own.or_else(|| template.clone())"),
    ("send_window.days", "every day", "None => EVERY_DAY.to_vec()"),
    ("send_window.spread", "none at all", "map_or(Ok(Duration::ZERO), span::parse)"),
    ("caps.per_person", "[]", "#[serde(default)]\n    per_person: Vec<String>"),
    ("[[coupon]].min_validity", "\"48h\"", "MIN_VALIDITY: TimeDelta = TimeDelta::hours(48)"),
    ("[[coupon]].when_empty", "\"wait\"", "#[serde(default)]\n    when_empty: WhenEmpty"),
    ("[[coupon]].warn_below", "100", "WARN_BELOW: u64 = 100"),
    ("[[campaign]].send_window", "[send_window]", "send_window: self.send_window()?"),
    ("attribution.window", "\"5d\"", "Duration::from_secs(5 * 24 * 60 * 60)"),
    ("holdout.kinds", "[\"cart\"]", "vec![Kind::Cart]"),
    ("campaigns.file", "campaigns.toml beside this file, if it exists", "Some(self.at(\"campaigns.toml\"))"),
    ("campaigns.min_gap", "\"10m\"", "min_gap: minutes(10)"),
    ("campaigns.max_lateness", "\"6h\"", "max_lateness: minutes(6 * 60)"),
    ("campaigns.send_until", "\"72h\"", "send_until: minutes(72 * 60)"),
    ("[[campaign]].timezone", "\"UTC\"", "None => zone"),
    ("[[campaign]].from", "mail.from", "from: self.from.as_deref().map(sender).transpose()?"),
    ("[[campaign]].min_gap", "as in [campaigns]", "span(\"min_gap\", &self.min_gap, defaults.min_gap)"),
    ("[[campaign]].max_lateness", "as in [campaigns]", "&self.max_lateness, defaults.max_lateness)"),
    ("[[campaign]].send_until", "as in [campaigns]", "span(\"send_until\", &self.send_until, defaults.send_until)"),
    ("[[campaign]].enabled", "true", "self.enabled.unwrap_or(true)"),
    ("[[campaign]].list", "\"news\"", "self.list.as_deref().unwrap_or(list::CAMPAIGNS)"),
    ("mail.list_domain", "the domain of from", "return Ok(from.domain().to_owned())"),
    ("unsubscribe.scope", "\"all\"", "#[serde(default)]\n    scope: Scope"),
    ("unsubscribe.keys", "\"unsubscribe.keys\"", "unwrap_or(\"unsubscribe.keys\")"),
    ("bounces.complaint_limit", "0.3", "MOST_COMPLAINTS: f64 = 0.3"),
    ("bounces.hard_limit", "5", "MOST_HARD_BOUNCES: f64 = 5.0"),
    ("bounces.limits_after", "200", "AFTER: u64 = 200"),
];

#[test]
fn every_default_on_the_page_is_the_codes() {
    let code =
        ["mod", "file", "checker", "server", "campaigns", "detect", "bounds", "recovery", "unsubscribe", "bounces"]
            .map(|name| page(format!("src/settings/{name}.rs")))
            .join("\n");
    let mut documented = documented();
    for (key, default, place) in DEFAULTS {
        let row = documented.remove(key).unwrap_or_else(|| panic!("{key} is not on the page"));
        assert_eq!(row.default, default, "{key}");
        assert!(code.contains(place), "{key}: the code no longer says {place:?}; is {default} still right?");
    }
    for (key, row) in documented {
        let none = ["required", "none", "one of these two", "one of these three", "with every"];
        assert!(none.contains(&row.default.as_str()), "{key}: no place in the code is known for {}", row.default);
    }
    // What `init` writes as a comment is the default too, but for examples.
    let mut table = String::new();
    for line in page("src/command/init/mailonce.toml").lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = format!("{}.", name.split(']').next().unwrap());
        }
        let Some((key, rest)) = line.strip_prefix("# ").and_then(|line| line.split_once(" = ")) else { continue };
        let key = format!("{table}{key}");
        let value = rest.split("  ").next().unwrap().trim();
        let Some((_, default, _)) = DEFAULTS.iter().find(|(known, ..)| *known == key) else { continue };
        if default.starts_with(|c: char| c == '"' || c.is_ascii_digit()) && key != "detect.consent" {
            assert_eq!(value, *default, "what `init` writes for {key}");
        }
    }
}

#[test]
fn the_exit_codes_are_the_same_on_every_page() {
    let codes = first_cells(&page("README.md"), "| exit |");
    assert_eq!(codes, ["0", "1", "2", "65", "70", "74", "75", "78"]);
    assert_eq!(first_cells(&page("docs/troubleshooting.md"), "| exit |"), codes);
    // The code's own list; src/failure.rs holds the README to it.
    let code = page("src/failure.rs");
    let list = code.split("pub enum Exit {").nth(1).and_then(|rest| rest.split("\n}").next()).unwrap();
    let known: Vec<&str> =
        list.lines().filter_map(|line| line.split(" = ").nth(1)).map(|code| code.trim_end_matches(',')).collect();
    assert_eq!(known, codes);
}

#[test]
fn the_states_and_reasons_are_those_of_the_ledger() {
    let schema = page("src/ledger/sqlite/schema.sql");
    let check = |name: &str| {
        let text = schema.split(&format!("CONSTRAINT {name}")).nth(1).expect("the constraint");
        let text = text.split("),\n").next().unwrap_or_default();
        let words = text.split('\'').skip(1).step_by(2).map(str::to_owned);
        words.filter(|word| word != "skipped").collect::<BTreeSet<String>>()
    };
    let trouble = page("docs/troubleshooting.md");
    let listed = |head: &str| -> BTreeSet<String> {
        first_cells(&trouble, head).iter().map(|cell| cell.trim_matches('`').to_owned()).collect()
    };
    let mut states = check("message_state_known");
    states.insert("skipped".into());
    assert_eq!(listed("| state |"), states);
    assert_eq!(listed("| reason |"), check("skipped_has_reason"));
}

/// What a heading is called in a link (GitHub's rule).
fn anchor(heading: &str) -> String {
    let text = heading.trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let listed: BTreeSet<String> = std::fs::read_dir(in_repository("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().to_string_lossy()))
        .filter(|name| name.ends_with(".md"))
        .collect();
    let known = PAGES.iter().filter(|name| name.starts_with("docs/")).map(|name| (*name).to_owned());
    assert_eq!(listed, known.collect(), "the pages in docs/ are those that these tests read");
    let (mut links, mut reached) = (0, BTreeSet::new());
    for name in PAGES {
        let text = prose(&page(name));
        for target in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if target.starts_with("https://") || target.starts_with("http://") {
                continue;
            }
            let (file, wanted) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(name).parent().unwrap();
            let path = if file.is_empty() { PathBuf::from(name) } else { folder.join(file) };
            let path = in_repository(path);
            assert!(path.exists(), "{name} leads to {target}, which does not exist");
            if !wanted.is_empty() {
                let there = prose(&std::fs::read_to_string(&path).unwrap());
                let headings = there.lines().filter(|line| line.starts_with('#'));
                let mut anchors = headings.map(|heading| anchor(heading.trim_start_matches('#')));
                assert!(anchors.any(|anchor| anchor == wanted), "{name} leads to {target}: no such heading");
            }
            if name == "README.md" {
                reached.insert(path.canonicalize().unwrap());
            }
            links += 1;
        }
    }
    assert!(links > 30, "{links} links were found");
    for name in listed {
        assert!(reached.contains(&in_repository(&name).canonicalize().unwrap()), "the README does not lead to {name}");
    }
}

/// What stands in backticks or on a line of a shell: commands with or without `mailonce` before them, and bare flags.
fn commands_on(page: &str, known: &BTreeSet<String>) -> Vec<String> {
    let prose = prose(page).replace('\n', " ");
    let spans = prose.split('`').skip(1).step_by(2).map(str::to_owned);
    let shells = blocks(page).into_iter().filter(|block| ["sh", "console"].contains(&block.language.as_str()));
    let lines = shells.flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>());
    let all = spans.chain(lines).filter_map(|text| {
        let text = text.trim().trim_start_matches("$ ");
        let named = text.strip_prefix("mailonce ");
        let text = named.unwrap_or(text).split(['#', '|', '>', ';', '&']).next().unwrap_or_default();
        let first = text.split_whitespace().next().unwrap_or_default();
        let is_ours = named.is_some() || known.contains(first) || first.starts_with("--");
        is_ours.then(|| text.to_owned())
    });
    all.collect()
}

/// The commands that a help lists.
pub fn listed(help: &str) -> BTreeSet<String> {
    let commands = help.split("Commands:\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap_or_default();
    let names = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_command_on_a_page_is_one_of_the_program() {
    let world = World::new().without_now();
    let help_of = |path: &[String]| {
        let ran = world.run(path.iter().map(String::as_str).chain(["--help"]));
        (ran.code == 0).then_some(ran.stdout)
    };
    let mut helps: BTreeMap<Vec<String>, Option<String>> = BTreeMap::new();
    let top = help_of(&[]).unwrap();
    let known = listed(&top);
    assert!(known.len() > 12, "{known:?}");
    for command in &known {
        let help = help_of(std::slice::from_ref(command)).unwrap();
        for second in listed(&help) {
            let path = vec![command.clone(), second];
            helps.insert(path.clone(), help_of(&path));
        }
        helps.insert(vec![command.clone()], Some(help));
    }
    helps.insert(Vec::new(), Some(helps.values().flatten().fold(top, |all, help| all + help)));
    let mut seen = 0;
    for name in PAGES {
        for command in commands_on(&page(name), &known) {
            let mut words = command.split_whitespace();
            let mut path = Vec::new();
            while let Some(word) = words.next() {
                if ["--config", "--now", "--wait"].contains(&word) {
                    words.next();
                } else if !word.starts_with('-') {
                    path.push(word.to_owned());
                }
            }
            if command.starts_with("--") && !path.first().is_some_and(|first| known.contains(first)) {
                path.clear();
            }
            let is_group = path.first().is_some_and(|first| {
                ["campaign", "coupon", "import", "suppress", "unsubscribe"].contains(&first.as_str())
            });
            path.truncate(if is_group { 2 } else { 1 });
            let help = helps.get(&path).and_then(Option::as_ref);
            // What follows may be a value.
            let help = help.or_else(|| helps.get(&path[..1]).and_then(Option::as_ref));
            let help = help.unwrap_or_else(|| panic!("{name}: there is no `mailonce {}`", path.join(" ")));
            for flag in command.split_whitespace().filter(|word| word.starts_with("--")) {
                let flag: String = flag.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
                // Docker's, which docs/proof.md names.
                let is_there = flag == "--cap-add" || help.split([' ', '\n', ',']).any(|word| word == flag);
                assert!(is_there, "{name}: `mailonce {}` has no {flag}", path.join(" "));
            }
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} commands were found");
}

#[test]
fn init_writes_a_line_for_every_key() {
    let starter = page("src/command/init/mailonce.toml");
    for key in documented().keys().filter(|key| !key.starts_with("[[")) {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        // These tables are for what few need: the defaults of every campaign, and comparisons.
        if ["campaigns", "holdout", "attribution"].contains(&table) {
            continue;
        }
        let is_there = [format!("\n[{table}]"), format!("\n#[{table}]")].iter().any(|text| starter.contains(text));
        assert!(is_there || table.is_empty(), "`init` writes no [{table}]");
        let set = [format!("\n{name} = "), format!("\n#{name} = "), format!("\n# {name} = "), format!("or {name} = ")];
        assert!(set.iter().any(|text| starter.contains(text)), "`init` does not write {key}");
    }
}
