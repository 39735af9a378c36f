//! Runs a command under ptrace(2): every system call that touches a file or a socket is seen before it happens, and the
//! observer may kill the command there, make the call fail, or do something else while all stands still.
//!
//! Nothing needs to be installed, and the command is the shipped binary, unchanged. x86-64 Linux only.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use libc::{c_long, c_void, pid_t};

/// One system call of one thread.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// The process, for its memory and descriptors.
    pub process: pid_t,
    pub thread: pid_t,
    /// `libc::SYS_…`
    pub number: c_long,
    pub args: [u64; 6],
}

/// What becomes of a call that is about to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    GoOn,
    /// SIGKILL to the whole process; the call does not happen.
    Kill,
    /// The call does not happen and fails with this `errno`.
    Fail(i32),
    /// A write or send of at most this many bytes.
    Shorten(u64),
}

/// Who looks on. All threads of the command but the calling one may be running meanwhile.
pub trait Observer {
    /// A call that touches a file or socket is about to happen.
    fn entry(&mut self, call: &Call) -> Order;

    /// It has happened, with this result (`-errno` on failure).
    fn exit(&mut self, _call: &Call, _result: i64) {}
}

/// The exit code of a command run under an observer; 128 and the signal's number when one ended it.
///
/// # Errors
/// The command cannot be started, or this machine does not let a process trace its own child.
pub fn run(mut command: Command, observer: &mut dyn Observer) -> io::Result<i32> {
    // SAFETY: ptrace is one system call and touches no memory of this process.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    let process = command.spawn().map_err(|err| {
        io::Error::new(err.kind(), format!("{err}: ptrace may be forbidden here (container, seccomp, yama)"))
    })?;
    let leader = pid_t::try_from(process.id()).expect("a process id");
    let mut status = 0;
    // SAFETY: the child is ours, and `status` lives through the call.
    unsafe { libc::waitpid(leader, &mut status, libc::__WALL) };
    if !libc::WIFSTOPPED(status) {
        return Err(io::Error::other("the traced command ended before it began"));
    }
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_EXITKILL;
    request(libc::PTRACE_SETOPTIONS, leader, 0, options as u64)?;
    go_on(leader, 0);
    Trace { leader, observer, threads: HashMap::from([(leader, None)]), killed: false }.follow()
}

/// Runs a command and kills it at its call of this number (from 1) that touches a file or a socket, before that happens; false
/// when it came to its end first.
pub fn is_killed_at(call: usize, command: Command) -> bool {
    struct KillAt(usize);
    impl Observer for KillAt {
        fn entry(&mut self, call: &Call) -> Order {
            if !call.touches_file_or_socket() || self.0 == 0 {
                return Order::GoOn;
            }
            self.0 -= 1;
            if self.0 == 0 { Order::Kill } else { Order::GoOn }
        }
    }
    let mut kill = KillAt(call);
    run(command, &mut kill).expect("a process may be traced here");
    kill.0 == 0
}

/// What a thread stopped in: the call, and the result to show it instead of the kernel's.
type InCall = Option<(Call, Option<i32>)>;

struct Trace<'a> {
    leader: pid_t,
    observer: &'a mut dyn Observer,
    threads: HashMap<pid_t, InCall>,
    killed: bool,
}

impl Trace<'_> {
    fn follow(mut self) -> io::Result<i32> {
        loop {
            let mut status = 0;
            // Only children of this thread: others trace commands of their own at the same time.
            // SAFETY: `status` lives through the call.
            let thread = unsafe { libc::waitpid(-1, &mut status, libc::__WALL | libc::__WNOTHREAD) };
            if thread < 0 {
                let err = io::Error::last_os_error();
                if err.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(err);
            }
            if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
                if thread == self.leader {
                    return Ok(match libc::WIFEXITED(status) {
                        true => libc::WEXITSTATUS(status),
                        false => 128 + libc::WTERMSIG(status),
                    });
                }
                self.threads.remove(&thread);
                continue;
            }
            let signal = libc::WSTOPSIG(status);
            let is_new = !self.threads.contains_key(&thread);
            self.threads.entry(thread).or_default();
            let deliver = match signal {
                _ if signal == libc::SIGTRAP | 0x80 => {
                    self.stopped(thread);
                    0
                }
                // The events of clone, and the stop with which a new thread begins.
                libc::SIGTRAP => 0,
                libc::SIGSTOP if is_new => 0,
                signal => signal,
            };
            if !self.killed {
                go_on(thread, deliver);
            } else {
                // A thread that stopped before the signal reached it.
                go_on(thread, 0);
            }
        }
    }

    /// A thread stands before or after a system call.
    fn stopped(&mut self, thread: pid_t) {
        if self.killed {
            return;
        }
        // SAFETY: plain data.
        let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::ptrace_syscall_info>() as u64;
        let pointer = (&raw mut info) as u64;
        if request(libc::PTRACE_GET_SYSCALL_INFO, thread, size, pointer).is_err() {
            return;
        }
        match info.op {
            libc::PTRACE_SYSCALL_INFO_ENTRY => {
                // SAFETY: `op` says which member is meant.
                let entry = unsafe { info.u.entry };
                let call = Call { process: self.leader, thread, number: entry.nr as c_long, args: entry.args };
                if !call.touches_file_or_socket() {
                    return;
                }
                let mut instead = None;
                match self.observer.entry(&call) {
                    Order::GoOn => {}
                    Order::Kill => {
                        self.killed = true;
                        // SAFETY: the process is ours and not yet reaped.
                        unsafe { libc::kill(self.leader, libc::SIGKILL) };
                    }
                    Order::Fail(errno) => {
                        set_register(thread, ORIG_RAX, u64::MAX);
                        instead = Some(errno);
                    }
                    Order::Shorten(bytes) => set_register(thread, RDX, bytes.min(call.args[2])),
                }
                self.threads.insert(thread, Some((call, instead)));
            }
            libc::PTRACE_SYSCALL_INFO_EXIT => {
                let Some((call, instead)) = self.threads.get_mut(&thread).and_then(Option::take) else { return };
                // SAFETY: `op` says which member is meant.
                let mut result = unsafe { info.u.exit.sval };
                if let Some(errno) = instead {
                    result = -i64::from(errno);
                    set_register(thread, RAX, result as u64);
                }
                self.observer.exit(&call, result);
            }
            _ => {}
        }
    }
}

// Where the registers stand in `struct user` of x86-64, in words.
const ORIG_RAX: u64 = 15;
const RAX: u64 = 10;
const RDX: u64 = 12;

fn set_register(thread: pid_t, register: u64, value: u64) {
    let _ = request(libc::PTRACE_POKEUSER, thread, register * 8, value);
}

fn go_on(thread: pid_t, signal: i32) {
    // A thread that was killed meanwhile is no error: its end is told by waitpid.
    let _ = request(libc::PTRACE_SYSCALL, thread, 0, signal as u64);
}

fn request(what: libc::c_uint, thread: pid_t, address: u64, data: u64) -> io::Result<()> {
    // SAFETY: `address` and `data` are what the request takes: numbers, or a pointer to a value that lives on.
    match unsafe { libc::ptrace(what, thread, address as *mut c_void, data as *mut c_void) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

impl Call {
    /// Whether it reads, writes, names or waits for a file or socket.
    pub fn touches_file_or_socket(&self) -> bool {
        match self.number {
            libc::SYS_mmap => self.args[4] as i32 >= 0,
            number => TOUCHES.contains(&number),
        }
    }

    pub fn is(&self, numbers: &[c_long]) -> bool {
        numbers.contains(&self.number)
    }

    /// What its first argument, a descriptor, stands for: a path, or `socket:[…]`.
    pub fn file(&self) -> PathBuf {
        fs::read_link(format!("/proc/{}/fd/{}", self.process, self.args[0] as i32)).unwrap_or_default()
    }

    /// Whether its first argument is a descriptor of what has a place in a file system.
    pub fn is_on_file(&self) -> bool {
        self.file().is_absolute()
    }

    pub fn is_on_socket(&self) -> bool {
        self.file().to_string_lossy().starts_with("socket:")
    }

    /// The path that an argument points at.
    pub fn path(&self, argument: usize) -> PathBuf {
        let bytes = self.memory(self.args[argument], 4096);
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        PathBuf::from(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// The bytes that a write or send is given, or that a read or receive of this result filled.
    pub fn data(&self, length: usize) -> Vec<u8> {
        self.memory(self.args[1], length)
    }

    fn memory(&self, address: u64, length: usize) -> Vec<u8> {
        let Ok(memory) = File::open(format!("/proc/{}/mem", self.process)) else { return Vec::new() };
        let mut bytes = vec![0; length];
        let mut read = 0;
        // A text near the end of a page: what can be read is read.
        while read < length {
            match memory.read_at(&mut bytes[read..], address + read as u64) {
                Ok(n) if n > 0 => read += n,
                _ => break,
            }
        }
        bytes.truncate(read);
        bytes
    }
}

/// Calls on files and sockets, but for `mmap`, which is one only with a descriptor.
const TOUCHES: [c_long; 78] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_open,
    libc::SYS_close,
    libc::SYS_stat,
    libc::SYS_fstat,
    libc::SYS_lstat,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_lseek,
    libc::SYS_ioctl,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_access,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_sendfile,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_getdents64,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rmdir,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_utimensat,
    libc::SYS_msync,
];
