//! Servers that tests start, and their ends.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

/// What is waited for comes within this, or something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at what has no way to tell.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// A server that ends, with what it started, when it is dropped, and with the thread that started it at the latest.
pub struct Process(Child);

impl Process {
    /// Starts it at the head of a group of processes.
    pub fn start(command: &mut Command) -> Process {
        Process::start_leader(command.process_group(0))
    }

    /// Starts one that makes itself the head of a group.
    pub fn start_leader(command: &mut Command) -> Process {
        // SAFETY: prctl may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        Process(command.spawn().expect("the server starts"))
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("the state of a child").is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let id = libc::pid_t::try_from(self.0.id()).expect("a process id");
        // SAFETY: the child is not yet reaped, so the id is still that of its group.
        unsafe { libc::kill(-id, libc::SIGKILL) };
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server on a free port of 127.0.0.1, which another may take before it does; then it is tried again.
pub fn listening(start: impl Fn(u16) -> Process) -> (u16, Process) {
    let patience = Instant::now() + PATIENCE;
    loop {
        let port = free_port();
        let mut process = start(port);
        while !process.has_ended() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return (port, process);
            }
            assert!(Instant::now() < patience, "no server listens on port {port}");
            thread::sleep(LOOK_AGAIN_AFTER);
        }
        assert!(Instant::now() < patience, "the server does not start");
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("the port just bound").port()
}

/// Where a program is installed; `None`, and a line that says so, where it is not.
pub fn installed(name: &str) -> Option<PathBuf> {
    let found = ["/usr/bin", "/usr/sbin"].iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    if found.is_none() {
        eprintln!("left out: {name} is not installed");
    }
    found
}

/// Waits until something holds that has no way to tell.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < patience, "waited in vain for {what}");
        thread::sleep(LOOK_AGAIN_AFTER);
    }
}
