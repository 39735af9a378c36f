//! Database servers for the tests: MariaDB and PostgreSQL as Debian has them, in a temporary folder, on loopback and on a
//! socket. One of each serves all tests of a process, and each test has a database of its own; a test that is hard on its
//! server starts another.
//!
//! Where the packages are not installed there is none, and a test that wants one says that it was left out. What was started
//! ends with the process, by its id.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::certificates::certified;

/// A server starts within this, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// The user that mailonce reads as, and its password.
pub const READER: &str = "reader";
pub const PASSWORD: &str = "it's a \"reader\"";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    MariaDb,
    Postgres,
}

impl Engine {
    pub const ALL: [Engine; 2] = [Engine::MariaDb, Engine::Postgres];

    /// The word in `source.kind`.
    pub fn word(self) -> &'static str {
        match self {
            Engine::MariaDb => "mysql",
            Engine::Postgres => "postgres",
        }
    }

    /// Where its programs are.
    fn programs(self) -> Option<Programs> {
        match self {
            Engine::MariaDb => Some(Programs {
                make: existing("/usr/bin/mariadb-install-db")?,
                server: existing("/usr/sbin/mariadbd")?,
                client: existing("/usr/bin/mariadb")?,
            }),
            Engine::Postgres => {
                let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
                let newest = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).max()?;
                Some(Programs {
                    make: existing(newest.join("initdb"))?,
                    server: existing(newest.join("postgres"))?,
                    client: existing(newest.join("psql"))?,
                })
            }
        }
    }
}

struct Programs {
    make: PathBuf,
    server: PathBuf,
    client: PathBuf,
}

fn existing(path: impl Into<PathBuf>) -> Option<PathBuf> {
    Some(path.into()).filter(|path| path.exists())
}

/// A server. It ends with the process at the latest.
#[derive(Debug)]
pub struct DatabaseServer {
    pub engine: Engine,
    folder: PathBuf,
    pub port: u16,
    with_tls: bool,
    child: Mutex<Child>,
}

/// The servers of this process, by engine.
static SHARED: [OnceLock<Option<DatabaseServer>>; 2] = [OnceLock::new(), OnceLock::new()];

/// The servers that run, by their ids, and the folders that are there.
static LEFT: Mutex<(Vec<u32>, Vec<PathBuf>)> = Mutex::new((Vec::new(), Vec::new()));

/// Without rights that a server refuses to have: PostgreSQL does not run as root.
fn as_its_user(engine: Engine, command: &mut Command) -> Option<(u32, u32)> {
    // SAFETY: geteuid has no preconditions.
    if engine == Engine::MariaDb || unsafe { libc::geteuid() } != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let fields = users.lines().find_map(|line| line.strip_prefix("postgres:x:"))?.to_owned();
    let mut ids = fields.split(':').map_while(|field| field.parse().ok());
    let (uid, gid) = (ids.next()?, ids.next()?);
    command.uid(uid).gid(gid);
    Some((uid, gid))
}

impl DatabaseServer {
    /// The server of this process; `None`, and a line that says so, where it is not installed.
    pub fn shared(engine: Engine) -> Option<&'static DatabaseServer> {
        SHARED[engine as usize].get_or_init(|| DatabaseServer::made(engine, true)).as_ref()
    }

    /// Whether a server of this process listens on this port.
    pub fn shares(port: u16) -> bool {
        SHARED.iter().any(|server| matches!(server.get(), Some(Some(server)) if server.port == port))
    }

    /// A server for one test alone, which ends it.
    pub fn alone(engine: Engine, with_tls: bool) -> Option<&'static DatabaseServer> {
        DatabaseServer::made(engine, with_tls).map(|server| &*Box::leak(Box::new(server)))
    }

    fn made(engine: Engine, with_tls: bool) -> Option<DatabaseServer> {
        let Some(programs) = engine.programs() else {
            eprintln!("left out: {engine:?} is not installed");
            return None;
        };
        let for_all = fs::Permissions::from_mode(0o755);
        let made = tempfile::Builder::new().prefix("mailonce-shop-").permissions(for_all).tempdir();
        let folder = made.expect("a temporary folder").keep();
        clear_up_at_exit();
        LEFT.lock().unwrap().1.push(folder.clone());
        let data = folder.join("data");
        fs::create_dir(&data).unwrap();
        let certified = certified(&["localhost".into()]);
        fs::write(folder.join("ca.pem"), &certified.authority).unwrap();
        fs::write(folder.join("certificate.pem"), certified.certificate.pem()).unwrap();
        fs::write(folder.join("key.pem"), certified.key.serialize_pem()).unwrap();
        fs::set_permissions(folder.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
        let mut make = Command::new(&programs.make);
        if let Some((uid, gid)) = as_its_user(engine, &mut make) {
            for path in [&folder, &data, &folder.join("key.pem")] {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
        }
        match engine {
            Engine::MariaDb => {
                make.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
                // Each server that starts clears the folder of temporary tables.
                make.arg(format!("--tmpdir={}", folder.display()));
                make.args([
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                    "--user=root",
                    "--innodb-use-native-aio=0",
                ]);
            }
            Engine::Postgres => {
                make.arg("-D").arg(&data);
                make.args(["-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256"]);
                make.args(["--no-sync", "--no-locale", "-E", "UTF8"]);
            }
        }
        // One at a time: each wants much of the machine for a second.
        static SETTING_UP: Mutex<()> = Mutex::new(());
        let setting_up = SETTING_UP.lock();
        let ended = make.current_dir(&folder).stdin(Stdio::null()).output().expect("the server can be set up");
        assert!(ended.status.success(), "{engine:?} is not set up: {}", text_of(&ended));
        drop(setting_up);
        // Free now, and taken a moment later.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Mutex::new(started(engine, &programs.server, &folder, port, with_tls));
        let server = DatabaseServer { engine, folder, port, with_tls, child };
        server.wait_until_it_answers();
        let make_reader = match engine {
            Engine::MariaDb => {
                let quoted = PASSWORD.replace('\'', "''");
                format!("CREATE USER {READER}@'%' IDENTIFIED BY '{quoted}'")
            }
            Engine::Postgres => format!("CREATE USER {READER} PASSWORD '{}'", PASSWORD.replace('\'', "''")),
        };
        server.run("", &make_reader);
        Some(server)
    }

    pub fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    fn wait_until_it_answers(&self) {
        assert!(self.answers(), "it ended: {}", self.log());
    }

    /// Waits until it answers; `false` when it ends before.
    fn answers(&self) -> bool {
        let patience = Instant::now() + PATIENCE;
        loop {
            let answer = self.client("", "SELECT 1");
            if answer.status.success() {
                return true;
            }
            if self.child.lock().unwrap().try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            assert!(Instant::now() < patience, "no answer: {}\n{}", text_of(&answer), self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// For `source.socket`.
    pub fn socket(&self) -> PathBuf {
        match self.engine {
            Engine::MariaDb => self.folder.join("socket"),
            Engine::Postgres => self.folder.clone(),
        }
    }

    /// For `source.ca_file`.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    pub fn url(&self, database: &str) -> String {
        format!("{}://{READER}@127.0.0.1:{}/{database}", self.engine.word(), self.port)
    }

    /// Runs statements as the owner of everything.
    #[track_caller]
    pub fn run(&self, database: &str, sql: &str) -> String {
        let answer = self.client(database, sql);
        assert!(answer.status.success(), "{}\n{}", text_of(&answer), sql.get(..2000).unwrap_or(sql));
        String::from_utf8_lossy(&answer.stdout).into_owned()
    }

    fn client(&self, database: &str, sql: &str) -> Output {
        let programs = self.engine.programs().expect("it runs, so it is installed");
        let mut client = Command::new(programs.client);
        client
            .env_clear()
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        match self.engine {
            Engine::MariaDb => {
                client.args([
                    "--no-defaults",
                    "--batch",
                    "--skip-column-names",
                    "--user=root",
                    "--default-character-set=utf8mb4",
                ]);
                client.arg(format!("--socket={}", self.socket().display())).arg(database);
            }
            Engine::Postgres => {
                client.args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d"]);
                client.arg(if database.is_empty() { "postgres" } else { database });
                client.arg("-h").arg(self.socket()).arg("-p").arg(self.port.to_string());
            }
        }
        let mut running = client.spawn().expect("the server's client starts");
        let mut input = running.stdin.take().expect("a pipe");
        let sql = sql.to_owned();
        let writing = thread::spawn(move || {
            // A client that fails early reads no further.
            let _ = input.write_all(sql.as_bytes());
        });
        let output = running.wait_with_output().expect("the end of a client");
        let _ = writing.join();
        output
    }

    /// A pgbouncer in front of a PostgreSQL, in transaction mode, with one session on the server for all its clients.
    /// `None`, and a line that says so, where it is not installed.
    pub fn pooled(&self) -> Option<Pooler> {
        let Some(program) = existing("/usr/sbin/pgbouncer") else {
            eprintln!("left out: pgbouncer is not installed");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (config, users) = (self.folder.join("pgbouncer.ini"), self.folder.join("users.txt"));
        fs::write(&users, format!("\"{READER}\" \"{}\"\n", PASSWORD.replace('"', "\"\""))).unwrap();
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = plain\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 1\n",
            self.port,
            users.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        command.arg("-q").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        as_its_user(Engine::Postgres, &mut command);
        let child = command.spawn().expect("pgbouncer starts");
        let patience = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < patience, "pgbouncer does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        Some(Pooler { port, child })
    }

    /// Sends the server a signal, for example `libc::SIGSTOP`.
    pub fn signal(&self, signal: i32) {
        let id = libc::pid_t::try_from(self.id()).expect("a process id");
        // SAFETY: the child is not yet reaped, so the id is still its own.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0, "the server takes a signal");
    }

    /// Kills the server.
    pub fn stop(&self) {
        let mut child = self.child.lock().unwrap();
        let id = child.id();
        let _ = child.kill();
        let _ = child.wait();
        LEFT.lock().unwrap().0.retain(|left| *left != id);
    }

    /// Starts the server again where it was.
    pub fn start_again(&self) {
        let programs = self.engine.programs().expect("it ran, so it is installed");
        if self.engine == Engine::Postgres {
            let _ = fs::remove_file(self.folder.join("data/postmaster.pid"));
        }
        let patience = Instant::now() + PATIENCE;
        // Processes of a PostgreSQL that was killed hold its memory for a moment, and a new one ends at once until they are gone.
        loop {
            *self.child.lock().unwrap() =
                started(self.engine, &programs.server, &self.folder, self.port, self.with_tls);
            if self.answers() {
                return;
            }
            assert!(Instant::now() < patience, "it ended: {}", self.log());
            LEFT.lock().unwrap().0.retain(|left| *left != self.id());
        }
    }
}

/// Starts a server that ends with this process, however that ends.
fn started(engine: Engine, program: &Path, folder: &Path, port: u16, with_tls: bool) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = Command::new(program);
    command.env_clear().current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let at = |name: &str| folder.join(name).display().to_string();
    match engine {
        Engine::MariaDb => {
            command.arg("--no-defaults").args([
                format!("--datadir={}", at("data")),
                format!("--tmpdir={}", folder.display()),
                format!("--socket={}", at("socket")),
                format!("--port={port}"),
            ]);
            match with_tls {
                true => command
                    .args([format!("--ssl-cert={}", at("certificate.pem")), format!("--ssl-key={}", at("key.pem"))]),
                false => command.arg("--skip-ssl"),
            };
            command.args([
                "--bind-address=127.0.0.1",
                "--user=root",
                "--innodb-flush-log-at-trx-commit=2",
                "--innodb-use-native-aio=0",
            ]);
            command.args([
                "--innodb-buffer-pool-size=32M",
                "--innodb-log-file-size=8M",
                "--character-set-server=utf8mb4",
            ]);
            command.args(["--plugin-load-add=auth_ed25519", "--plugin-maturity=unknown"]);
            // What mailonce leaves as it finds it must not be UTC by accident.
            command.arg("--default-time-zone=+05:45");
        }
        Engine::Postgres => {
            command.arg("-D").arg(at("data")).arg("-k").arg(folder).arg("-p").arg(port.to_string());
            for option in [
                "listen_addresses=127.0.0.1",
                "fsync=off",
                "full_page_writes=off",
                "shared_buffers=16MB",
                "timezone=Asia/Kathmandu",
                "datestyle=German",
                if with_tls { "ssl=on" } else { "ssl=off" },
            ] {
                command.arg("-c").arg(option);
            }
            command.arg("-c").arg(format!("ssl_cert_file={}", at("certificate.pem")));
            command.arg("-c").arg(format!("ssl_key_file={}", at("key.pem")));
        }
    }
    as_its_user(engine, &mut command);
    // SAFETY: prctl may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    // The signal comes when the thread ends that started it, so that thread stays.
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        send.send(command.spawn()).expect("someone waits");
        loop {
            thread::park();
        }
    });
    let child = receive.recv().unwrap().expect("the server starts");
    LEFT.lock().unwrap().0.push(child.id());
    child
}

fn clear_up_at_exit() {
    extern "C" fn clear_up() {
        let (ids, folders) = LEFT.lock().map(|mut left| std::mem::take(&mut *left)).unwrap_or_default();
        for id in ids.into_iter().filter_map(|id| libc::pid_t::try_from(id).ok()) {
            // SAFETY: a child of this process that no one has reaped.
            unsafe {
                libc::kill(id, libc::SIGKILL);
                libc::waitpid(id, std::ptr::null_mut(), 0);
            }
        }
        for folder in folders {
            let _ = fs::remove_dir_all(folder);
        }
    }
    static ONCE: Once = Once::new();
    // SAFETY: the function lives as long as the process, and does not unwind.
    ONCE.call_once(|| unsafe {
        libc::atexit(clear_up);
    });
}

/// What stands between clients and a PostgreSQL; ended when it is dropped.
pub struct Pooler {
    pub port: u16,
    child: Child,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A database of one test on a server; it goes when it is dropped.
#[derive(Debug)]
pub struct Database<'a> {
    pub server: &'a DatabaseServer,
    pub name: String,
}

impl Database<'static> {
    /// Whether there is a server to have one on.
    pub fn can_be_had(engine: Engine) -> bool {
        DatabaseServer::shared(engine).is_some()
    }

    /// An empty database on the server of this process.
    pub fn new(engine: Engine) -> Option<Database<'static>> {
        Some(Database::on(DatabaseServer::shared(engine)?))
    }
}

impl Database<'_> {
    /// An empty database that the reader may read.
    pub fn on(server: &DatabaseServer) -> Database<'_> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("shop{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        server.run("", &format!("CREATE DATABASE {name}"));
        let database = Database { server, name };
        match server.engine {
            Engine::MariaDb => database.run(&format!("GRANT SELECT ON {}.* TO {READER}@'%'", database.name)),
            Engine::Postgres => {
                database.run(&format!("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {READER}"))
            }
        };
        database
    }

    #[track_caller]
    pub fn run(&self, sql: &str) -> String {
        self.server.run(&self.name, sql)
    }

    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        let force = if self.server.engine == Engine::Postgres { " WITH (FORCE)" } else { "" };
        let _ = self.server.client("", &format!("DROP DATABASE {}{force}", self.name));
    }
}
