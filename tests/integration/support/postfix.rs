//! A real Postfix of one test: an instance of its own on loopback, in a temporary folder, that ends when it is dropped.
//!
//! It needs root and Debian's package `postfix`; elsewhere there is none, and the test says that it was left out.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::process::{Process, installed, listening, wait_until};

/// Where its programs are, as Debian has it.
const DAEMONS: &str = "/usr/lib/postfix/sbin";

pub struct Postfix {
    folder: TempDir,
    pub port: u16,
    _master: Process,
}

/// A user and its group, by its name.
pub fn ids_of(user: &str) -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let fields = users.lines().find_map(|line| line.strip_prefix(&format!("{user}:x:"))).expect("the user").to_owned();
    let mut ids = fields.split(':').map_while(|field| field.parse().ok());
    (ids.next().expect("a user id"), ids.next().expect("a group id"))
}

impl Postfix {
    /// Whether there can be one.
    pub fn can_be_had() -> bool {
        // SAFETY: geteuid has no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("left out: only root can start a Postfix");
            return false;
        }
        installed("postfix").is_some()
    }

    /// Keeps mail to `@example.com` in `mail/good/` and that to `bounce+…@bounce.test` in `mail/bounce/`, and hands all other
    /// to `next_hop`, a port. `settings` are more lines of `main.cf`, which count over the others, `services` of `master.cf`.
    ///
    /// What cannot be delivered yet is tried each second and comes back with a warning after one, and for good when
    /// [`Postfix::gives_up`] says so.
    pub fn start(next_hop: u16, settings: &str, services: &str) -> Postfix {
        // Not in the tests' own folder: its users come from outside.
        let for_all = Permissions::from_mode(0o755);
        let made = tempfile::Builder::new().prefix("mailonce-postfix-").permissions(for_all).tempdir();
        let folder = made.expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["etc", "queue", "data", "mail"] {
            fs::create_dir(at(name)).unwrap();
            fs::set_permissions(at(name), Permissions::from_mode(0o755)).unwrap();
        }
        let (nobody, nogroup) = ids_of("nobody");
        chown(at("data"), Some(ids_of("postfix").0), None).unwrap();
        chown(at("mail"), Some(nobody), Some(nogroup)).unwrap();
        let here = folder.path().display();
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {here}/queue\ndata_directory = {here}/data\n\
             daemon_directory = {DAEMONS}\nmaillog_file = {here}/mail.log\nmaillog_file_prefixes = {here}\n\
             inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\nmyhostname = mx.example.com\n\
             mydestination =\nalias_maps =\nalias_database =\nrecipient_delimiter = +\n\
             virtual_mailbox_domains = example.com, bounce.test\nvirtual_mailbox_base = {here}/mail\n\
             virtual_mailbox_maps = inline:{{ bounce@bounce.test=bounce/, @example.com=good/ }}\nvirtual_minimum_uid = 1\n\
             virtual_uid_maps = static:{nobody}\nvirtual_gid_maps = static:{nogroup}\n\
             default_transport = smtp:[127.0.0.1]:{next_hop}\nsmtpd_client_connection_count_limit = 0\n\
             delay_warning_time = 1s\nminimal_backoff_time = 1s\nmaximal_backoff_time = 1s\nqueue_run_delay = 1s\n"
        );
        let name_of = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let set: Vec<String> = settings.lines().map(name_of).collect();
        let main: String =
            main.lines().filter(|line| !set.contains(&name_of(line))).map(|line| format!("{line}\n")).collect();
        fs::write(at("etc/main.cf"), main + settings + "\n").unwrap();
        let (port, master) = listening(|port| {
            fs::write(at("etc/master.cf"), master_cf(port, services)).unwrap();
            // It makes the folders of the queue.
            control(&at("etc"), "check");
            let mut master = Command::new(Path::new(DAEMONS).join("master"));
            master.env_clear().env("PATH", "/usr/bin:/bin").arg("-c").arg(at("etc")).arg("-s");
            Process::start_leader(master.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
        });
        Postfix { folder, port, _master: master }
    }

    /// From now on it tries nothing again that could not be delivered.
    pub fn gives_up(&self) {
        let main = self.path("etc/main.cf");
        let settings = fs::read_to_string(&main).unwrap();
        fs::write(&main, settings + "maximal_queue_lifetime = 1s\n").unwrap();
        control(&self.path("etc"), "reload");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The Maildir `mail/bounce/`.
    pub fn bounces(&self) -> PathBuf {
        self.path("mail/bounce")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("mail.log")).unwrap_or_default()
    }

    /// Waits until its log says this so many times.
    #[track_caller]
    pub fn wait_for_log(&self, said: &str, times: usize) {
        wait_until(&format!("{times} times {said:?} in the log of Postfix"), || {
            self.log().matches(said).count() >= times
        });
    }

    /// Waits until so many mails lie in `new/` of a Maildir under `mail/`.
    #[track_caller]
    pub fn wait_for_mails(&self, maildir: &str, number: usize) {
        let new = self.path("mail").join(maildir).join("new");
        let there = || fs::read_dir(&new).map_or(0, Iterator::count);
        wait_until(&format!("{number} mails in {maildir}"), || there() >= number);
        assert_eq!(there(), number, "mails in {maildir}");
    }

    /// Waits until this many mails have left the queue since it started, with the reports that it wrote itself, and it is
    /// empty. What was logged of any of them can be read in its log then: it says that a mail is removed last.
    #[track_caller]
    pub fn wait_until_gone(&self, mails: usize) {
        self.wait_for_log(": removed\n", mails);
        let left: Vec<PathBuf> = ["maildrop", "incoming", "active", "deferred"]
            .into_iter()
            .flat_map(|name| files_in(&self.path("queue").join(name)))
            .collect();
        assert!(left.is_empty(), "{left:?} after {mails} mails");
    }
}

/// Runs Debian's `postfix` with a command, for the instance that is configured in this folder.
fn control(etc: &Path, command: &str) {
    let mut postfix = Command::new(installed("postfix").expect("a Postfix"));
    postfix.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").arg("-c").arg(etc).arg(command);
    let ran = postfix.stdin(Stdio::null()).output().expect("postfix runs");
    assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the log of Postfix\n{}", self.log());
        }
    }
}

fn master_cf(port: u16, services: &str) -> String {
    format!(
        "127.0.0.1:{port} inet n - n - - smtpd\ncleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\n\
         rewrite unix - - n - - trivial-rewrite\nbounce unix - - n - 0 bounce\ndefer unix - - n - 0 bounce\n\
         trace unix - - n - 0 bounce\nproxymap unix - - n - - proxymap\nerror unix - - n - - error\n\
         retry unix - - n - - error\nsmtp unix - - n - - smtp\nvirtual unix - n n - - virtual\nanvil unix - - n - 1 anvil\n\
         scache unix - - n - 1 scache\nshowq unix n - n - - showq\npostlog unix-dgram n - n - 1 postlogd\n{services}\n"
    )
}
