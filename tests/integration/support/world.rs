//! A world for one test: a folder, an empty environment, a configuration, a shop, and the real binary.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::fs::Permissions;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;
use toml::{Table, Value};

use super::schemas;
use super::shop::{Cart, Kind, Shop, Spelling};
use super::smtp::{Server, Tls};

/// No command of a test takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(90);

/// A row of `message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRow {
    pub message_key: String,
    pub state: String,
    pub reason: Option<String>,
    pub recipient: String,
    pub message_id: Option<String>,
    pub not_before: Option<String>,
    pub expires_at: Option<String>,
    pub armed_at: Option<String>,
    pub settled_at: Option<String>,
}

/// A row of `cart_abandonment_log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpisodeRow {
    pub identity: String,
    pub user_id: Option<String>,
    pub email: Option<String>,
    pub cart_id: Option<String>,
    pub cart_hash: String,
    pub cart_value: Option<String>,
    pub currency: Option<String>,
    pub created_at: String,
    pub email_sent: bool,
    pub last_sent_at: Option<String>,
    pub message_key: Option<String>,
}

/// A command that has ended.
#[derive(Debug, Clone)]
pub struct Ran {
    pub command: String,
    /// The exit code; 128 and the signal's number when one ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The one JSON document on stdout, which is as its schema says.
    pub fn json(&self) -> serde_json::Value {
        let document = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|err| panic!("stdout is no JSON document ({err}):\n{self}"));
        schemas::check(&document);
        document
    }

    /// Both streams, for words that may stand on either.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Asserts that one of the streams holds a text.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Ran {
        assert!(self.output().contains(text), "no word of {text:?} in\n{self}");
        self
    }

    #[track_caller]
    pub fn is_silent(&self) -> &Ran {
        assert_eq!(self.output(), "", "under cron this would be a mail:\n{self}");
        self
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}\nexit code {}", self.command, self.code)?;
        writeln!(f, "--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr)
    }
}

/// A command under way. Dropping it kills it.
pub struct Running {
    child: Child,
    command: String,
    /// The two streams; each comes when it has ended.
    streams: [Receiver<String>; 2],
    ended: bool,
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, for example `libc::SIGTERM`.
    pub fn signal(&self, signal: i32) {
        let id = libc::pid_t::try_from(self.child.id()).expect("a process id");
        // SAFETY: the child is not yet reaped, so the id is still its own.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0, "the signal reaches {}", self.command);
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) -> Ran {
        self.child.kill().expect("the command can be killed");
        self.finish()
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Ran {
        self.finish()
    }

    /// Whether it is still under way.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the state of a child").is_none()
    }

    fn finish(&mut self) -> Ran {
        let mut late = false;
        let mut texts = Vec::new();
        for stream in &self.streams {
            texts.push(match stream.recv_timeout(PATIENCE) {
                Ok(text) => text,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    late = true;
                    let _ = self.child.kill();
                    stream.recv().unwrap_or_default()
                }
            });
        }
        let status = self.child.wait().expect("the end of a child");
        self.ended = true;
        let stderr = texts.pop().unwrap_or_default();
        let stdout = texts.pop().unwrap_or_default();
        let ran = Ran { command: self.command.clone(), code: code(status), stdout, stderr };
        assert!(!late, "killed after {PATIENCE:?}:\n{ran}");
        ran
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

const LEDGER: &str = "mailonce.db";
const MADE_BY_INIT: [&str; 2] = [LEDGER, "mailonce.db.lock"];

/// What `init` made in one world.
#[derive(Debug, Clone)]
struct Made {
    ran: Ran,
    files: Vec<(&'static str, Permissions, Vec<u8>)>,
}

impl Made {
    fn by(ran: Ran, world: &World) -> Made {
        let file = |name| {
            let path = world.path(name);
            let permissions = path.metadata().expect("a file that init made").permissions();
            (name, permissions, std::fs::read(path).expect("a file that init made"))
        };
        Made { ran, files: MADE_BY_INIT.map(file).into() }
    }

    fn copy_to(self, world: &World) {
        for (name, permissions, bytes) in self.files {
            std::fs::write(world.path(name), bytes).expect("a copy");
            std::fs::set_permissions(world.path(name), permissions).expect("a copy");
        }
        world.history.borrow_mut().push(self.ran);
    }
}

/// The world. It is seen through shared references, so that it can be changed while a run is under way.
///
/// When a test fails, every command that ran here and every row of the ledger is printed.
pub struct World {
    folder: TempDir,
    config: RefCell<Table>,
    shop: RefCell<Shop>,
    now: RefCell<Option<String>>,
    environment: RefCell<BTreeMap<String, String>>,
    history: RefCell<Vec<Ran>>,
}

impl World {
    /// A configuration that writes to files, an empty SQLite shop, and the instant 2026-03-01T12:00:00Z.
    pub fn new() -> World {
        let folder = super::folder();
        let shop = Shop::new(Kind::Sqlite, folder.path());
        let defaults = r#"
            ledger = "mailonce.db"
            [shop]
            name = "Example Shop"
            url = "https://shop.example"
            timezone = "UTC"
            [source]
            kind = "sqlite"
            path = "shop.db"
            [mail]
            from = "Example Shop <hello@shop.example>"
            transport = "file"
            [mail.file]
            dir = "outbox"
            [detect]
            since = "2026-01-01T00:00:00Z"
        "#;
        let world = World {
            folder,
            config: RefCell::new(defaults.parse().expect("the default configuration")),
            shop: RefCell::new(shop),
            now: RefCell::new(Some("2026-03-01T12:00:00Z".into())),
            environment: RefCell::default(),
            history: RefCell::default(),
        };
        world.write_config();
        world
    }

    // How the world is before anything runs.

    /// A key of the configuration, dotted: `.set("detect.max_per_run", 5)`.
    pub fn set(self, key: &str, value: impl Into<Value>) -> World {
        self.configure(key, value);
        self
    }

    /// The instant that every command is given as `--now`.
    pub fn now(self, at: &str) -> World {
        self.set_now(at);
        self
    }

    /// Sends to this server, the way it offers TLS.
    pub fn smtp(self, server: &Server) -> World {
        self.send_to(server);
        self
    }

    /// The kind of shop; carts already there move along.
    pub fn source(self, kind: Kind) -> World {
        self.shop.borrow_mut().become_kind(kind);
        if let Kind::Server(_) = kind {
            let url = self.shop.borrow().database().url();
            return self.read_from(kind.word(), url);
        }
        self.configure("source.kind", kind.word());
        self.configure("source.path", kind.file());
        self
    }

    /// A shop on a server, read as its reader over TCP.
    pub fn on_server(self, database: &super::Database<'_>) -> World {
        let url = database.url();
        self.read_from(database.server.engine.word(), url)
    }

    fn read_from(self, kind: &str, url: String) -> World {
        self.configure("source.kind", kind);
        self.configure("source.url", url);
        self.configure("source.password_env", "SHOP_PASSWORD");
        self.env("SHOP_PASSWORD", super::database::PASSWORD).unset("source.path")
    }

    pub fn spelling(self, spelling: Spelling) -> World {
        self.shop.borrow_mut().spell(spelling);
        self
    }

    pub fn cart(self, cart: Cart) -> World {
        self.put(cart);
        self
    }

    pub fn carts(self, carts: impl IntoIterator<Item = Cart>) -> World {
        self.shop.borrow_mut().put(carts);
        self
    }

    /// An environment variable; without this there are `HOME` and `PATH` only.
    pub fn env(self, name: &str, value: &str) -> World {
        self.environment.borrow_mut().insert(name.into(), value.into());
        self
    }

    /// Makes the rehearsal ledger; the configuration exists already and stays.
    ///
    /// The binary makes it, once for all worlds that differ in nothing that `init` could see; the others get copies.
    pub fn init(self) -> World {
        static MADE: Mutex<BTreeMap<String, Made>> = Mutex::new(BTreeMap::new());
        let Some(alike) = self.alike() else {
            self.ok(["init", "--rehearsal"]);
            return self;
        };
        let made = MADE.lock().unwrap().get(&alike).cloned();
        match made {
            Some(made) => made.copy_to(&self),
            None => {
                let ran = self.ok(["init", "--rehearsal"]);
                MADE.lock().unwrap().insert(alike, Made::by(ran, &self));
            }
        }
        self
    }

    /// What `init` sees of a world, the server's port and certificate aside; nothing where it may see more than that.
    fn alike(&self) -> Option<String> {
        let mut config = self.config.borrow().clone();
        let in_its_place = config.get("ledger").and_then(Value::as_str) == Some(LEDGER);
        // It makes keys then.
        let signs = config.to_string().contains("unsubscribe");
        if !in_its_place || signs || MADE_BY_INIT.iter().any(|name| self.path(name).exists()) {
            return None;
        }
        if let Some(smtp) = config.get_mut("mail").and_then(|mail| mail.get_mut("smtp")?.as_table_mut()) {
            smtp.retain(|key, _| !["port", "ca_file"].contains(&key));
        }
        let now = self.now.borrow().clone()?;
        Some(format!("{now}\n{:?}\n{config}", self.environment.borrow()))
    }

    // What happens to it later.

    pub fn configure(&self, key: &str, value: impl Into<Value>) {
        let mut config = self.config.borrow_mut();
        let (sections, key) = key.rsplit_once('.').map_or((None, key), |(sections, key)| (Some(sections), key));
        let mut table = &mut *config;
        for section in sections.into_iter().flat_map(|sections| sections.split('.')) {
            let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            table = entry.as_table_mut().unwrap_or_else(|| panic!("{section} is no table"));
        }
        table.insert(key.into(), value.into());
        drop(config);
        self.write_config();
    }

    /// Takes a key out of the configuration.
    pub fn unset(self, key: &str) -> World {
        let (sections, key) = key.rsplit_once('.').map_or((None, key), |(sections, key)| (Some(sections), key));
        {
            let mut config = self.config.borrow_mut();
            let mut table = Some(&mut *config);
            for section in sections.into_iter().flat_map(|sections| sections.split('.')) {
                table = table.and_then(|table| table.get_mut(section)).and_then(Value::as_table_mut);
            }
            table.and_then(|table| table.remove(key));
        }
        self.write_config();
        self
    }

    fn write_config(&self) {
        let text = toml::to_string(&*self.config.borrow()).expect("a configuration");
        std::fs::write(self.path("mailonce.toml"), text).expect("the configuration is written");
    }

    pub fn set_now(&self, at: &str) {
        *self.now.borrow_mut() = Some(at.into());
    }

    /// From here on without `--now`: the real clock.
    pub fn without_now(self) -> World {
        *self.now.borrow_mut() = None;
        self
    }

    pub fn send_to(&self, server: &Server) {
        let tls = match server.tls() {
            Tls::None => "none",
            Tls::Starttls => "starttls",
            Tls::Implicit => "implicit",
        };
        self.configure("mail.transport", "smtp");
        self.configure("mail.smtp.host", "127.0.0.1");
        self.configure("mail.smtp.port", i64::from(server.port()));
        self.configure("mail.smtp.tls", tls);
        if let Some(ca_file) = server.ca_file() {
            self.configure("mail.smtp.ca_file", ca_file.to_str().expect("a path in UTF-8"));
        }
        let patience = [("connections", Value::from(1)), ("connect_timeout", "5s".into()), ("timeout", "20s".into())];
        for (key, value) in patience.into_iter().chain([("dot_timeout", "20s".into())]) {
            let set = self.config.borrow().get("mail").and_then(|mail| mail.get("smtp")?.get(key)).is_some();
            if !set {
                self.configure(&format!("mail.smtp.{key}"), value);
            }
        }
    }

    /// Adds a cart or replaces the one of the same id.
    pub fn put(&self, cart: Cart) {
        self.shop.borrow_mut().put([cart]);
    }

    /// The shopper comes back at this instant and changes nothing.
    pub fn touch(&self, cart_id: &str, at: &str) {
        self.shop.borrow_mut().change(cart_id, |cart| cart.updated_at = at.into());
    }

    /// This cart is ordered at this instant.
    pub fn order(&self, cart_id: &str, at: &str) {
        self.shop.borrow_mut().change(cart_id, |cart| cart.ordered_at = Some(at.into()));
    }

    /// The database of a shop on a server; it outlives the world while someone has it.
    pub fn database(&self) -> Arc<super::Database<'static>> {
        Arc::clone(self.shop.borrow().database())
    }

    /// Runs statements in a shop on a server.
    pub fn run_in_shop(&self, sql: &str) {
        self.shop.borrow().database().run(sql);
    }

    /// Something is ordered by this address, not from a cart that the shop names.
    pub fn order_by(&self, email: &str, at: &str) {
        self.shop.borrow_mut().order_by(email, at);
    }

    /// The shopper takes everything out; `updated_at` stays, so that only the contents speak.
    pub fn empty(&self, cart_id: &str) {
        self.shop.borrow_mut().change(cart_id, |cart| cart.items = Some(Vec::new()));
    }

    pub fn remove(&self, cart_id: &str) {
        self.shop.borrow_mut().remove(cart_id);
    }

    /// Changes a cart in any other way.
    pub fn change(&self, cart_id: &str, change: impl FnOnce(Cart) -> Cart) {
        self.shop.borrow_mut().change(cart_id, |cart| *cart = change(cart.clone()));
    }

    // Commands.

    /// The binary with these arguments, in this folder, with an empty environment; not started.
    pub fn command<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailonce"));
        command.args(arguments);
        if let Some(now) = &*self.now.borrow() {
            command.args(["--now", now]);
        }
        command.env_clear().env("HOME", self.folder.path()).env("PATH", "/usr/bin:/bin");
        command.envs(&*self.environment.borrow());
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a command and returns while it runs.
    pub fn spawn<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Running {
        let mut command = self.command(arguments);
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let mut child = command.spawn().expect("the binary starts");
        let stdout = child.stdout.take().map(collect).expect("a piped stream");
        let stderr = child.stderr.take().map(collect).expect("a piped stream");
        let command = format!("mailonce {}", words.join(" "));
        Running { child, command, streams: [stdout, stderr], ended: false }
    }

    /// Runs a command to its end, however it ends.
    pub fn run<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Ran {
        let ran = self.spawn(arguments).wait();
        self.history.borrow_mut().push(ran.clone());
        ran
    }

    /// Runs a command that must end with exit code 0.
    #[track_caller]
    pub fn ok<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Ran {
        self.exits(0, arguments)
    }

    /// Runs a command that must end with this exit code.
    #[track_caller]
    pub fn exits<I: AsRef<OsStr>>(&self, code: i32, arguments: impl IntoIterator<Item = I>) -> Ran {
        self.check(self.spawn(arguments).wait(), code)
    }

    /// Asserts the exit code of a command that was spawned, and keeps it for the report of a failure.
    #[track_caller]
    pub fn check(&self, ran: Ran, code: i32) -> Ran {
        self.history.borrow_mut().push(ran.clone());
        assert_eq!(ran.code, code, "the wrong exit code:\n{ran}");
        ran
    }

    // What is there to see.

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The shop's file.
    pub fn shop(&self) -> PathBuf {
        self.shop.borrow().path()
    }

    /// The ledger's file.
    pub fn ledger_file(&self) -> PathBuf {
        let config = self.config.borrow();
        self.path(config.get("ledger").and_then(Value::as_str).unwrap_or("mailonce.db"))
    }

    /// The ledger, read only.
    pub fn ledger(&self) -> Connection {
        self.open().unwrap_or_else(|err| panic!("no ledger to read at {}: {err}", self.ledger_file().display()))
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let ledger = Connection::open_with_flags(self.ledger_file(), flags)?;
        ledger.busy_timeout(Duration::from_secs(20))?;
        Ok(ledger)
    }

    /// The rows of any query, each value as text and NULL as `None`.
    pub fn rows(&self, sql: &str) -> Vec<BTreeMap<String, Option<String>>> {
        rows(&self.ledger(), sql).unwrap_or_else(|err| panic!("{sql}: {err}"))
    }

    /// The one number that a query yields.
    pub fn number(&self, sql: &str) -> i64 {
        self.ledger().query_row(sql, [], |row| row.get(0)).unwrap_or_else(|err| panic!("{sql}: {err}"))
    }

    /// How many messages stand in each state.
    pub fn states(&self) -> BTreeMap<String, usize> {
        let mut states = BTreeMap::new();
        for message in self.messages() {
            *states.entry(message.state).or_default() += 1;
        }
        states
    }

    /// Asserts the states of all messages: `[("planned", 2), ("sent", 1)]`, nothing else.
    #[track_caller]
    pub fn has<const N: usize>(&self, states: [(&str, usize); N]) {
        let expected: BTreeMap<String, usize> = states.into_iter().map(|(state, n)| (state.to_owned(), n)).collect();
        assert_eq!(self.states(), expected, "states of the messages");
    }

    /// Every message, oldest first.
    pub fn messages(&self) -> Vec<MessageRow> {
        let sql =
            "SELECT message_key, state, reason, recipient, message_id, not_before, expires_at, armed_at, settled_at
                   FROM message ORDER BY rowid";
        let row = |mut row: BTreeMap<String, Option<String>>| {
            let mut take = |column: &str| row.remove(column).flatten();
            MessageRow {
                message_key: take("message_key").unwrap_or_default(),
                state: take("state").unwrap_or_default(),
                reason: take("reason"),
                recipient: take("recipient").unwrap_or_default(),
                message_id: take("message_id"),
                not_before: take("not_before"),
                expires_at: take("expires_at"),
                armed_at: take("armed_at"),
                settled_at: take("settled_at"),
            }
        };
        self.rows(sql).into_iter().map(row).collect()
    }

    /// The only message there is.
    #[track_caller]
    pub fn message(&self) -> MessageRow {
        let mut messages = self.messages();
        assert_eq!(messages.len(), 1, "one message was expected: {messages:#?}");
        messages.remove(0)
    }

    /// The messages of one cart, oldest first.
    pub fn messages_of(&self, cart_id: &str) -> Vec<MessageRow> {
        let keys: Vec<Option<String>> = self
            .episodes()
            .into_iter()
            .filter(|episode| episode.cart_id.as_deref() == Some(cart_id))
            .map(|episode| episode.message_key)
            .collect();
        self.messages().into_iter().filter(|message| keys.contains(&Some(message.message_key.clone()))).collect()
    }

    /// Every episode, oldest first.
    pub fn episodes(&self) -> Vec<EpisodeRow> {
        let row = |mut row: BTreeMap<String, Option<String>>| {
            let mut take = |column: &str| row.remove(column).flatten();
            EpisodeRow {
                identity: take("identity").unwrap_or_default(),
                user_id: take("user_id"),
                email: take("email"),
                cart_id: take("cart_id"),
                cart_hash: take("cart_hash").unwrap_or_default(),
                cart_value: take("cart_value"),
                currency: take("currency"),
                created_at: take("created_at").unwrap_or_default(),
                email_sent: take("email_sent").as_deref() == Some("1"),
                last_sent_at: take("last_sent_at"),
                message_key: take("message_key"),
            }
        };
        self.rows("SELECT * FROM cart_abandonment_log ORDER BY id").into_iter().map(row).collect()
    }

    /// Every try, oldest first.
    pub fn attempts(&self) -> Vec<BTreeMap<String, Option<String>>> {
        self.rows("SELECT * FROM attempt ORDER BY rowid")
    }

    /// The `.eml` files and their bytes, by name.
    pub fn outbox(&self) -> Vec<(String, Vec<u8>)> {
        let Ok(entries) = std::fs::read_dir(self.path("outbox")) else { return Vec::new() };
        let mut files: Vec<(String, Vec<u8>)> = entries
            .map(|entry| entry.expect("an entry of the outbox").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
            .map(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                (name, std::fs::read(&path).expect("a message in the outbox"))
            })
            .collect();
        files.sort();
        files
    }

    /// What a failing test prints: every command so far and the rows of the ledger.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for ran in &*self.history.borrow() {
            let _ = writeln!(text, "{ran}");
        }
        text.push_str(&self.report_of_ledger());
        text
    }

    /// The rows of the ledger, table by table.
    pub fn report_of_ledger(&self) -> String {
        let mut text = String::new();
        match self.open() {
            Err(err) => {
                let _ = writeln!(text, "no ledger: {err}");
            }
            Ok(ledger) => {
                for table in ["message", "cart_abandonment_log", "attempt", "suppression", "run"] {
                    let _ = writeln!(text, "--- {table}");
                    match rows(&ledger, &format!("SELECT * FROM {table}")) {
                        Err(err) => {
                            let _ = writeln!(text, "({err})");
                        }
                        Ok(rows) => {
                            for row in rows {
                                let values: Vec<_> = row
                                    .iter()
                                    .filter_map(|(column, value)| Some(format!("{column}={}", value.as_ref()?)))
                                    .collect();
                                let _ = writeln!(text, "{}", values.join(" "));
                            }
                        }
                    }
                }
            }
        }
        text
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.report());
        }
    }
}

/// Reads a stream to its end on a thread of its own, so that a full pipe cannot stop the command.
fn collect(mut stream: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = send.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receive
}

fn rows(ledger: &Connection, sql: &str) -> rusqlite::Result<Vec<BTreeMap<String, Option<String>>>> {
    let mut statement = ledger.prepare(sql)?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let rows = statement.query_map([], |row| {
        columns
            .iter()
            .enumerate()
            .map(|(i, column)| {
                let value = match row.get_ref(i)? {
                    ValueRef::Null => None,
                    ValueRef::Integer(number) => Some(number.to_string()),
                    ValueRef::Real(number) => Some(number.to_string()),
                    ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
                    ValueRef::Blob(blob) => Some(format!("({} bytes)", blob.len())),
                };
                Ok((column.clone(), value))
            })
            .collect()
    })?;
    rows.collect()
}
