//! One copy of a scene, in which one run is broken; and what must hold when later runs have gone quiet.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use super::Tally;
use super::scene::{Prepared, Scene, Way};
use crate::support::trace::{self, Observer};
use crate::support::{Plan, Server};

/// What the server took: a line for each message, on disk before the first byte of its 250.
pub const RECORD: &str = "accepted";
/// Where all streams go.
const SAID: &str = "said";

pub struct Place {
    folder: TempDir,
    scene: Scene,
    server: Option<Server>,
}

impl Place {
    /// A copy, with a server of its own.
    pub fn of(prepared: &Prepared) -> Place {
        Place::with(prepared, prepared.scene.plan())
    }

    /// A copy, whose server misbehaves so.
    pub fn with(prepared: &Prepared, plan: Plan) -> Place {
        let folder = crate::support::folder();
        let server = (prepared.scene.way != Way::File).then(|| Server::start(plan.record(folder.path().join(RECORD))));
        let place = Place { folder, scene: prepared.scene, server };
        if prepared.files.iter().any(|(name, _)| name.starts_with("outbox/")) {
            fs::create_dir(place.path("outbox")).expect("a folder");
        }
        for (name, bytes) in &prepared.files {
            fs::write(place.path(name), bytes).expect("a file of the scene");
        }
        // An audience that was touched in the last seconds may be half uploaded.
        if let Ok(audience) = File::options().append(true).open(place.path("audience.csv")) {
            let _ = audience.set_modified(SystemTime::now() - Duration::from_secs(60));
        }
        if let Some(server) = &place.server {
            place.point_at(server, prepared);
        }
        place
    }

    fn point_at(&self, server: &Server, prepared: &Prepared) {
        let config = self.path("mailonce.toml");
        let mut text = fs::read_to_string(&config).expect("the configuration");
        text = text.replace(&format!("port = {}\n", prepared.port), &format!("port = {}\n", server.port()));
        if let (Some(before), Some(now)) = (&prepared.ca_file, server.ca_file()) {
            text = text.replace(before.as_str(), &now.display().to_string());
        }
        fs::write(config, text).expect("the configuration");
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn scene(&self) -> &Scene {
        &self.scene
    }

    pub fn ledger_file(&self) -> PathBuf {
        self.path("mailonce.db")
    }

    pub fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    pub fn port(&self) -> Option<u16> {
        self.server.as_ref().map(Server::port)
    }

    /// The command of the scene at an instant; its streams are added to a file.
    pub fn command(&self, now: &str) -> Command {
        let said = OpenOptions::new().create(true).append(true).open(self.path(SAID)).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailonce"));
        command.args([self.scene.command, "--now", now]).current_dir(self.folder.path()).env_clear();
        command.env("HOME", self.folder.path()).env("PATH", "/usr/bin:/bin").env("SMTP_PASSWORD", "a password");
        command.env("SHOP_PASSWORD", crate::support::database::PASSWORD);
        command.stdin(Stdio::null()).stdout(said.try_clone().expect("a descriptor")).stderr(said);
        command
    }

    /// Runs it to its end, and says its exit code.
    pub fn run(&self, now: &str) -> i32 {
        self.command(now).status().expect("the binary starts").code().unwrap_or(-1)
    }

    /// Runs it under an observer.
    pub fn traced(&self, now: &str, observer: &mut dyn Observer) -> i32 {
        trace::run(self.command(now), observer).unwrap_or_else(|err| {
            panic!(
                "the proof needs ptrace(2), which this machine refuses: {err}. Allow it (docker: --cap-add=SYS_PTRACE \
                 --security-opt seccomp=unconfined; yama: sysctl kernel.yama.ptrace_scope=0 or 1) and run the tests again"
            )
        })
    }

    /// What all runs said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.path(SAID)).unwrap_or_default()
    }

    pub fn ledger(&self) -> rusqlite::Result<Connection> {
        let ledger = Connection::open_with_flags(self.ledger_file(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        ledger.busy_timeout(Duration::from_secs(20))?;
        Ok(ledger)
    }

    /// How many messages are so.
    pub fn count(&self, condition: &str) -> usize {
        let sql = format!("SELECT count(*) FROM message WHERE {condition}");
        let count = self.ledger().and_then(|ledger| ledger.query_row(&sql, [], |row| row.get::<_, i64>(0)));
        usize::try_from(count.unwrap_or_else(|err| panic!("{sql}: {err}"))).unwrap_or(0)
    }

    /// How often the receiving side took each message, by Message-ID.
    pub fn accepted(&self) -> BTreeMap<String, usize> {
        let mut accepted = BTreeMap::new();
        if self.scene.way == Way::File {
            for entry in fs::read_dir(self.path("outbox")).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.ends_with(".eml") {
                    let message = fs::read(entry.path()).expect("a message in the outbox");
                    let id = crate::support::smtp::header(&message, "Message-ID").unwrap_or_default();
                    *accepted.entry(id).or_default() += 1;
                }
            }
            return accepted;
        }
        for line in fs::read_to_string(self.path(RECORD)).unwrap_or_default().lines() {
            let message: serde_json::Value = serde_json::from_str(line).expect("a whole line of the record");
            *accepted.entry(message["message_id"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        accepted
    }

    /// Runs the command every two hours until nothing is planned or armed, and once more; then says what does not hold.
    pub fn until_quiet(&self) -> Tally {
        let mut tally = Tally { tried: 1, ..Tally::default() };
        let day = &self.scene.starts_at()[..10];
        let first: usize = self.scene.starts_at()[11..13].parse().expect("an hour");
        let mut quiet = false;
        for turn in 1..=5 {
            let code = self.run(&format!("{day}T{:02}:00:00Z", first + 2 * turn));
            if ![0, 1].contains(&code) {
                tally.broken.push(format!("a later run ended with exit code {code}"));
            }
            let open = self.count("state IN ('planned', 'armed')");
            let was_quiet = std::mem::replace(&mut quiet, open == 0 && self.count("1") > 0);
            // What is in doubt must stay so in one run more.
            if quiet && (was_quiet || self.count("state = 'in_doubt'") == 0) {
                break;
            }
        }
        if !quiet {
            tally.broken.push("never quiet".into());
        }
        self.compare(&mut tally);
        if self.scene.in_steps {
            self.audit(&mut tally);
        }
        if !tally.broken.is_empty() {
            let said = self.said();
            let tail: String = said.chars().skip(said.chars().count().saturating_sub(1500)).collect();
            tally.broken.push(format!("the runs said: {tail}"));
        }
        tally
    }

    /// Holds the whole history to the rules of the ledger: order and distance of steps, caps, codes.
    fn audit(&self, tally: &mut Tally) {
        let audit = Command::new(env!("CARGO_BIN_EXE_mailonce")).arg("audit").current_dir(self.folder.path()).output();
        let audit = audit.expect("the binary starts");
        if !audit.status.success() {
            tally.broken.push(format!("audit: {}", String::from_utf8_lossy(&audit.stdout)));
        }
        let codes = "SELECT count(*) FROM message WHERE step = 'second' AND armed_at IS NOT NULL
             AND id NOT IN (SELECT message FROM coupon_code WHERE message IS NOT NULL)";
        let without: rusqlite::Result<i64> =
            self.ledger().and_then(|ledger| ledger.query_row(codes, [], |row| row.get(0)));
        if without != Ok(0) {
            tally.broken.push(format!("{without:?} messages were begun without a code"));
        }
    }

    /// Compares the ledger with what the receiving side recorded.
    pub fn compare(&self, tally: &mut Tally) {
        if let Err(err) = self.try_compare(tally) {
            tally.broken.push(format!("the ledger cannot be read: {err}"));
        }
    }

    fn try_compare(&self, tally: &mut Tally) -> rusqlite::Result<()> {
        let ledger = self.ledger()?;
        let mut accepted = self.accepted();
        let mut statement = ledger.prepare("SELECT message_id, state, recipient FROM message ORDER BY id")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let rows: Vec<(String, String, String)> = rows.collect::<rusqlite::Result<_>>()?;
        if rows.len() != self.scene.messages {
            tally.broken.push(format!("{} messages were due, the ledger has {}", self.scene.messages, rows.len()));
        }
        let mut doubt = false;
        for (message_id, state, recipient) in rows {
            let copies = accepted.remove(&message_id).unwrap_or(0);
            let holds = match state.as_str() {
                "sent" => copies == 1,
                "in_doubt" => copies <= 1,
                _ => copies == 0,
            };
            if !holds {
                tally.broken.push(format!("{recipient} is {state} and was accepted {copies} times"));
            }
            tally.sent += usize::from(state == "sent");
            tally.in_doubt += usize::from(state == "in_doubt");
            doubt |= state == "in_doubt";
        }
        tally.with_doubt += usize::from(doubt);
        for id in accepted.into_keys() {
            tally.broken.push(format!("{id} was accepted, and the ledger does not know it"));
        }
        let integrity: String = ledger.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        if integrity != "ok" {
            tally.broken.push(format!("the ledger is damaged: {integrity}"));
        }
        Ok(())
    }
}
