//! The machine failing: one system call after the other gives an error (disk full, EIO, read-only, no descriptors, broken
//! sockets) or does less than it was asked to. Then all is well again, and later runs go on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use super::place::Place;
use super::scene::Prepared;
use super::watch::Watch;
use super::{Extent, Tally, try_all};
use crate::support::trace::{Call, Observer, Order};

const WRITES: [libc::c_long; 3] = [libc::SYS_write, libc::SYS_pwrite64, libc::SYS_writev];
const READS: [libc::c_long; 2] = [libc::SYS_read, libc::SYS_pread64];
const SYNCS: [libc::c_long; 2] = [libc::SYS_fsync, libc::SYS_fdatasync];
/// Besides writing: what changes a file or a folder.
const CHANGES: [libc::c_long; 9] = [
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_mkdir,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rename,
    libc::SYS_fchmod,
];
const ON_SOCKETS: [libc::c_long; 6] =
    [libc::SYS_socket, libc::SYS_connect, libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_setsockopt, libc::SYS_poll];

/// A way in which a machine fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failing {
    /// ENOSPC from one write on, to the end of the run.
    DiskFull,
    /// ENOSPC for one write only: room is made at once.
    DiskFullOnce,
    /// EIO from one fsync or fdatasync.
    SyncFails,
    /// EIO from every fsync of a folder, to the end of the run.
    FolderSyncFails,
    /// EIO from one write.
    WriteFails,
    /// EROFS from one change on, to the end of the run: the kernel remounts a damaged disk so.
    ReadOnly,
    /// EIO from one read.
    ReadFails,
    /// EMFILE or ENFILE from one open.
    NoDescriptors,
    /// One write takes only half of what it is given.
    Short,
    /// EINTR from one read, write, send or receive.
    Interrupted,
    /// ECONNRESET from one call on a socket.
    SocketFails,
    /// ENOLCK or EAGAIN-like refusal of one lock.
    NoLocks,
}

impl Failing {
    pub const ALL: [Failing; 12] = [
        Failing::DiskFull,
        Failing::DiskFullOnce,
        Failing::SyncFails,
        Failing::FolderSyncFails,
        Failing::WriteFails,
        Failing::ReadOnly,
        Failing::ReadFails,
        Failing::NoDescriptors,
        Failing::Short,
        Failing::Interrupted,
        Failing::SocketFails,
        Failing::NoLocks,
    ];

    pub fn words(self) -> &'static str {
        match self {
            Failing::DiskFull => "disk full from one write on (ENOSPC)",
            Failing::DiskFullOnce => "disk full for one write (ENOSPC)",
            Failing::SyncFails => "one fsync fails (EIO)",
            Failing::FolderSyncFails => "fsync of folders fails from one on (EIO)",
            Failing::WriteFails => "one write fails (EIO)",
            Failing::ReadOnly => "file system read-only from one change on (EROFS)",
            Failing::ReadFails => "one read fails (EIO)",
            Failing::NoDescriptors => "one open fails (EMFILE)",
            Failing::Short => "one write takes half",
            Failing::Interrupted => "one read, write, send or receive is interrupted (EINTR)",
            Failing::SocketFails => "one call on a socket fails (ECONNRESET)",
            Failing::NoLocks => "one lock is refused (ENOLCK)",
        }
    }

    fn lasts(self) -> bool {
        matches!(self, Failing::DiskFull | Failing::FolderSyncFails | Failing::ReadOnly)
    }

    /// What this call gets, when it is one that fails so.
    fn order(self, call: &Call, folder: &str) -> Option<Order> {
        let file = || call.file().to_string_lossy().into_owned();
        let ours = || file().starts_with(folder) && !file().ends_with("/said");
        let opens = call.is(&[libc::SYS_openat, libc::SYS_open]);
        let flags = || call.args[usize::from(call.number == libc::SYS_openat) + 1] as i32;
        let changes_name = || CHANGES[2..8].contains(&call.number);
        let changes = || changes_name() || CHANGES.contains(&call.number) && ours();
        let half = Order::Shorten((call.args[2] / 2).max(1));
        let fits = match self {
            Failing::DiskFull | Failing::DiskFullOnce => {
                let grows = call.is(&[libc::SYS_link, libc::SYS_linkat, libc::SYS_mkdir, libc::SYS_fallocate]);
                grows || opens && flags() & libc::O_CREAT != 0 || call.is(&WRITES) && ours()
            }
            Failing::SyncFails => call.is(&SYNCS),
            Failing::FolderSyncFails => call.is(&SYNCS) && call.file().is_dir(),
            Failing::WriteFails => call.is(&WRITES) && ours(),
            Failing::ReadOnly => {
                changes() || opens && flags() & libc::O_ACCMODE != libc::O_RDONLY || call.is(&WRITES) && ours()
            }
            Failing::ReadFails => call.is(&READS) && ours(),
            Failing::NoDescriptors => opens,
            // Not on sockets: there the kernel takes less only when a buffer is full, and says later that it has room.
            Failing::Short => call.is(&[libc::SYS_write, libc::SYS_pwrite64]) && ours(),
            Failing::Interrupted => {
                (call.is(&WRITES) || call.is(&READS)) && ours() || call.is(&[libc::SYS_sendto, libc::SYS_recvfrom])
            }
            Failing::SocketFails => call.is(&ON_SOCKETS),
            Failing::NoLocks => call.is(&[libc::SYS_flock]) || call.is(&[libc::SYS_fcntl]) && is_lock(call),
        };
        let errno = match self {
            Failing::DiskFull | Failing::DiskFullOnce => libc::ENOSPC,
            Failing::SyncFails | Failing::FolderSyncFails | Failing::WriteFails | Failing::ReadFails => libc::EIO,
            Failing::ReadOnly => libc::EROFS,
            Failing::NoDescriptors => libc::EMFILE,
            Failing::Interrupted => libc::EINTR,
            Failing::SocketFails => libc::ECONNRESET,
            Failing::NoLocks => libc::ENOLCK,
            Failing::Short => return fits.then_some(half),
        };
        fits.then_some(Order::Fail(errno))
    }
}

fn is_lock(call: &Call) -> bool {
    [libc::F_SETLK, libc::F_SETLKW, libc::F_OFD_SETLK].contains(&(call.args[1] as i32))
}

/// Lets the n-th call that can fail so fail; counts the calls that could.
pub struct Fault {
    failing: Failing,
    /// From 1; 0 for none.
    at: usize,
    folder: String,
    watch: Watch,
    seen: usize,
    /// Where it struck.
    struck: Option<String>,
}

impl Fault {
    pub fn new(failing: Failing, at: usize, folder: &Path) -> Fault {
        let folder = std::fs::canonicalize(folder).expect("the folder").display().to_string();
        Fault { failing, at, folder, watch: Watch::default(), seen: 0, struck: None }
    }
}

impl Observer for Fault {
    fn entry(&mut self, call: &Call) -> Order {
        if !self.watch.entry(call) {
            return Order::GoOn;
        }
        let Some(order) = self.failing.order(call, &self.folder) else { return Order::GoOn };
        self.seen += 1;
        if self.at == 0 || self.seen < self.at || self.seen > self.at && !self.failing.lasts() {
            return Order::GoOn;
        }
        if self.struck.is_none() {
            self.struck = Some(format!("call {} on {}, {:?}", call.number, call.file().display(), self.watch.body));
        }
        order
    }

    fn exit(&mut self, call: &Call, result: i64) {
        self.watch.exit(call, result);
    }
}

/// What became of a scene under one kind of failure.
#[derive(Debug, Default)]
pub struct Failures {
    pub whole: Tally,
    /// How the failing runs ended: by exit code, and where the failure struck.
    pub ends: BTreeMap<i32, Vec<String>>,
}

/// Lets each call that can fail so fail once, in a run of its own.
pub fn failures(prepared: &Prepared, failing: Failing, extent: Extent) -> Failures {
    let survey = Place::of(prepared);
    let mut count = Fault::new(failing, 0, &survey.path(""));
    survey.traced(prepared.scene.starts_at(), &mut count);
    let points: Vec<usize> = (1..=count.seen).filter(|n| extent.tries(*n, false)).collect();
    let ends = Mutex::new(BTreeMap::<i32, Vec<String>>::new());
    let whole = try_all(&points, |n| {
        let place = Place::of(prepared);
        let mut fault = Fault::new(failing, *n, &place.path(""));
        let code = place.traced(prepared.scene.starts_at(), &mut fault);
        let Some(struck) = fault.struck else { return Tally::default() };
        ends.lock().unwrap().entry(code).or_default().push(struck.clone());
        let mut tally = place.until_quiet();
        // Never a panic (101) or a signal; and where nothing was the matter with the data, never 65.
        if ![0, 1, 74, 78].contains(&code) {
            tally.broken.push(format!("the failing run ended with exit code {code}"));
        }
        if code == 78 && fault.watch.body != super::watch::Body::NotYetWanted {
            tally.broken.push("exit code 78 in the middle of sending".into());
        }
        tally.broken.iter_mut().for_each(|problem| *problem = format!("{} at {struck}: {problem}", failing.words()));
        tally
    });
    Failures { whole, ends: ends.into_inner().unwrap() }
}

#[test]
fn whatever_call_fails_no_message_goes_twice_and_none_is_lost() {
    use super::scene::Scene;
    let mut tried = 0;
    for (name, every) in [("detect, file", 29), ("detect, SMTP", 23)] {
        let prepared = Scene::named(name).prepare();
        for failing in Failing::ALL {
            let failures = failures(&prepared, failing, Extent::Every(every));
            // Too few to be hit by each k-th.
            if failures.whole.tried > 0 {
                failures.whole.must_hold();
            }
            tried += failures.whole.tried;
        }
    }
    println!("{tried} failing calls");
}

#[test]
fn a_failed_fsync_of_the_ledger_or_its_folder_is_exit_74() {
    let prepared = super::scene::Scene::named("detect, SMTP").prepare();
    let one = failures(&prepared, Failing::SyncFails, Extent::All);
    one.whole.must_hold();
    for struck in one.ends.get(&0).into_iter().flatten() {
        // When the ledger is closed SQLite only tidies up: all is on disk by then. The folder has been synced before.
        let harmless = struck.ends_with("Settled") || struck.contains(".tmp") && !struck.contains("mailonce.db");
        assert!(harmless, "a failed fsync was passed over: {struck}");
    }
    assert!(one.ends.contains_key(&74) && one.ends.keys().all(|code| [0, 74].contains(code)), "{:?}", one.ends);
    let folder = failures(&prepared, Failing::FolderSyncFails, Extent::All);
    folder.whole.must_hold();
    let first = folder.ends.get(&74).is_some_and(|struck| struck.iter().any(|at| at.contains("NotYetWanted")));
    assert!(first, "a folder that was never synced was trusted: {:?}", folder.ends);
}
