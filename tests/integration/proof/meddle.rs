//! Someone meddles while a run is under way: at every system call all stands still, and a file of the run is deleted,
//! replaced or moved away, or a second run gets past the lock. Then the run goes on.

use std::fs;
use std::os::fd::AsRawFd as _;

use super::place::Place;
use super::scene::Prepared;
use super::watch::Watch;
use super::{Extent, Tally, try_all};
use crate::support::trace::{Call, Observer, Order};

/// What is done to a run under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meddling {
    /// The lock file is deleted, and a second run does all there is to do.
    SecondRun,
    /// The lock file is replaced by an empty one.
    LockFileReplaced,
    /// The ledger is moved away, and back when the run has ended.
    LedgerMovedAway,
    /// The ledger is replaced by a copy from before the run.
    LedgerReplaced,
    /// The ledger is deleted, for good.
    LedgerDeleted,
    /// The shop is moved away, and back when the run has ended.
    ShopMovedAway,
}

impl Meddling {
    pub const ALL: [Meddling; 6] = [
        Meddling::SecondRun,
        Meddling::LockFileReplaced,
        Meddling::LedgerMovedAway,
        Meddling::LedgerReplaced,
        Meddling::LedgerDeleted,
        Meddling::ShopMovedAway,
    ];

    pub fn words(self) -> &'static str {
        match self {
            Meddling::SecondRun => "lock file deleted, a second run does its work meanwhile",
            Meddling::LockFileReplaced => "lock file replaced by an empty one",
            Meddling::LedgerMovedAway => "ledger moved away, and back afterwards",
            Meddling::LedgerReplaced => "ledger replaced by an older copy",
            Meddling::LedgerDeleted => "ledger deleted for good",
            Meddling::ShopMovedAway => "shop moved away, and back afterwards",
        }
    }

    fn act(self, place: &Place, prepared: &Prepared, second_at: &str) {
        let lock = place.path("mailonce.db.lock");
        match self {
            Meddling::SecondRun => {
                let _ = fs::remove_file(lock);
                place.run(second_at);
            }
            Meddling::LockFileReplaced => replace(place, "mailonce.db.lock", b""),
            Meddling::LedgerMovedAway => {
                let _ = fs::rename(place.ledger_file(), place.path("aside"));
            }
            Meddling::LedgerReplaced => replace(place, "mailonce.db", before(prepared, "mailonce.db")),
            Meddling::LedgerDeleted => {
                let _ = fs::remove_file(place.ledger_file());
            }
            Meddling::ShopMovedAway => {
                let _ = fs::rename(place.path(prepared.scene.shop.file()), place.path("aside"));
            }
        }
    }

    fn undo(self, place: &Place, prepared: &Prepared) {
        let back = match self {
            Meddling::LedgerMovedAway => place.ledger_file(),
            Meddling::ShopMovedAway => place.path(prepared.scene.shop.file()),
            _ => return,
        };
        let _ = fs::rename(place.path("aside"), back);
    }
}

fn before<'a>(prepared: &'a Prepared, name: &str) -> &'a [u8] {
    prepared.files.iter().find(|(known, _)| known == name).map_or(&[], |(_, bytes)| bytes)
}

/// As an administrator does it: a new file takes the name.
fn replace(place: &Place, name: &str, bytes: &[u8]) {
    fs::write(place.path("new"), bytes).expect("a file");
    fs::rename(place.path("new"), place.path(name)).expect("a file is replaced");
}

struct Meddler<'a> {
    meddling: Meddling,
    at: usize,
    place: &'a Place,
    prepared: &'a Prepared,
    watch: Watch,
    done: bool,
}

impl Observer for Meddler<'_> {
    fn entry(&mut self, call: &Call) -> Order {
        if self.watch.entry(call) && !self.done && self.at > 0 && self.watch.seen >= self.at {
            // A second run would wait for a transaction that stands still: a few calls later it does not.
            let must_wait = self.meddling == Meddling::SecondRun && is_writing(self.place);
            if !must_wait {
                self.done = true;
                let hour = &self.prepared.scene.starts_at()[..14];
                self.meddling.act(self.place, self.prepared, &format!("{hour}01:00Z"));
            }
        }
        Order::GoOn
    }

    fn exit(&mut self, call: &Call, result: i64) {
        self.watch.exit(call, result);
    }
}

/// Whether someone holds the ledger's write lock: byte 120 of the index of a write-ahead log; or recovers it, which holds
/// all that follow as well; or any lock of the ledger itself but a shared one.
fn is_writing(place: &Place) -> bool {
    let locked = |name: &str, from: i64, length: i64| {
        let Ok(file) = fs::File::open(place.path(name)) else { return false };
        // SAFETY: flock is plain data, and lives through the call.
        unsafe {
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = libc::F_WRLCK as i16;
            lock.l_start = from;
            lock.l_len = length;
            libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut lock) == 0 && i32::from(lock.l_type) != libc::F_UNLCK
        }
    };
    let exclusive_on_ledger = || {
        let Ok(file) = fs::File::open(place.ledger_file()) else { return false };
        // SAFETY: as above.
        unsafe {
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = libc::F_RDLCK as i16;
            lock.l_start = 0x4000_0000;
            lock.l_len = 512;
            libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut lock) == 0 && i32::from(lock.l_type) != libc::F_UNLCK
        }
    };
    locked("mailonce.db-shm", 120, 3) || exclusive_on_ledger()
}

/// Meddles once at each point, in a run of its own.
pub fn meddle(prepared: &Prepared, meddling: Meddling, extent: Extent) -> Tally {
    let survey = Place::of(prepared);
    let mut count = Meddler { meddling, at: 0, place: &survey, prepared, watch: Watch::default(), done: false };
    survey.traced(prepared.scene.starts_at(), &mut count);
    let points: Vec<usize> = (1..=count.watch.seen).filter(|n| extent.tries(*n, false)).collect();
    try_all(&points, |at| {
        let place = Place::of(prepared);
        let mut meddler = Meddler { meddling, at: *at, place: &place, prepared, watch: Watch::default(), done: false };
        let code = place.traced(prepared.scene.starts_at(), &mut meddler);
        if !meddler.done {
            return Tally::default();
        }
        meddling.undo(&place, prepared);
        let mut tally = match meddling {
            Meddling::LedgerReplaced | Meddling::LedgerDeleted => without_its_ledger(&place),
            _ => place.until_quiet(),
        };
        if ![0, 1, 74, 75, 78].contains(&code) {
            tally.broken.push(format!("the run ended with exit code {code}"));
        }
        tally.broken.iter_mut().for_each(|problem| *problem = format!("{} at call {at}: {problem}", meddling.words()));
        tally
    })
}

/// The ledger of the run is lost: either none of it matters, or no later run sends anything.
fn without_its_ledger(place: &Place) -> Tally {
    let accepted = place.accepted();
    let hour = &place.scene().starts_at()[..14];
    let codes: Vec<i32> = [30, 50].map(|minute| place.run(&format!("{hour}{minute}:00Z"))).into();
    if codes.iter().all(|code| ![74, 78].contains(code)) {
        return place.until_quiet();
    }
    let mut tally = Tally { tried: 1, ..Tally::default() };
    if place.accepted() != accepted {
        tally.broken.push(format!("exit codes {codes:?}, and yet something was sent"));
    }
    tally.broken.extend(accepted.iter().filter(|(_, n)| **n > 1).map(|(id, n)| format!("{id} was accepted {n} times")));
    tally
}

#[test]
fn whoever_meddles_with_its_files_no_message_goes_twice() {
    let mut tried = 0;
    for (name, every) in [("detect, SMTP", 61), ("detect, file", 83)] {
        let prepared = super::scene::Scene::named(name).prepare();
        for meddling in Meddling::ALL {
            let tally = meddle(&prepared, meddling, Extent::Every(every));
            tally.must_hold();
            tried += tally.tried;
        }
    }
    println!("{tried} times meddled with a run");
}
