//! Observers: where in a run a system call stands, and killing it there.

use std::path::PathBuf;

use crate::support::DatabaseServer;
use crate::support::trace::{Call, Observer, Order};

/// Calls before this file is opened are the loader's and touch nothing of the run's.
const FIRST_FILE: &str = "mailonce.toml";

const OPENS: [libc::c_long; 2] = [libc::SYS_open, libc::SYS_openat];
const SENDS: [libc::c_long; 4] = [libc::SYS_write, libc::SYS_writev, libc::SYS_sendto, libc::SYS_sendmsg];
const RECEIVES: [libc::c_long; 2] = [libc::SYS_read, libc::SYS_recvfrom];
const SYNCS: [libc::c_long; 2] = [libc::SYS_fsync, libc::SYS_fdatasync];
const LINKS: [libc::c_long; 2] = [libc::SYS_link, libc::SYS_linkat];

/// Where one message's way a run stands; seen from outside, on a single legible connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Body {
    /// Configuration, lock, ledger, shop, planning.
    #[default]
    NotYetWanted,
    /// From connecting (the temporary file) up to reading the 354 (its fsync).
    NotYetAskedFor,
    /// The 354 was read (the temporary file is on disk); the body's first byte (the link) has not left. Arming is here.
    AskedFor,
    /// The body is out (linked), the server's reply (the folder's fsync) is not yet there.
    WithTheServer,
    /// The reply was read. Settling is here, and the next message's dialogue, which proves the reply.
    Answered,
    /// Every message is settled; the run records its end.
    Settled,
}

impl Body {
    pub const ALL: [Body; 6] =
        [Body::NotYetWanted, Body::NotYetAskedFor, Body::AskedFor, Body::WithTheServer, Body::Answered, Body::Settled];

    pub fn words(self) -> &'static str {
        match self {
            Body::NotYetWanted => "configuration, lock, ledger, shop, planning",
            Body::NotYetAskedFor => "dialogue up to the 354 (temporary file)",
            Body::AskedFor => "354 read, arming (temporary file on disk)",
            Body::WithTheServer => "body out, no reply yet (linked)",
            Body::Answered => "reply read, settling, next dialogue",
            Body::Settled => "end of the run",
        }
    }

    /// Where a slip would be the dearest.
    pub fn is_crucial(self) -> bool {
        matches!(self, Body::AskedFor | Body::WithTheServer)
    }
}

/// Counts the calls of a run from its first look at the configuration on, and says where it stands.
#[derive(Debug, Default)]
pub struct Watch {
    /// How many calls were seen; the one at hand is the latest.
    pub seen: usize,
    pub body: Body,
    /// The connection to the mail server; a shop's server has others.
    mail: PathBuf,
}

impl Watch {
    /// A call is about to happen; `false` while it is none of the run's.
    pub fn entry(&mut self, call: &Call) -> bool {
        if self.seen == 0 && !(call.is(&OPENS) && call.path(path_argument(call)).ends_with(FIRST_FILE)) {
            return false;
        }
        self.seen += 1;
        true
    }

    pub fn exit(&mut self, call: &Call, result: i64) {
        let connects = call.is(&[libc::SYS_connect]);
        if self.seen == 0 || result < 0 && !connects || connects && is_to_a_shop(call) {
            return;
        }
        if connects {
            self.mail = call.file();
        }
        let by_mail = || call.file() == self.mail;
        let on_disk = || call.file().to_string_lossy().into_owned();
        let next = match self.body {
            _ if connects => Some(Body::NotYetAskedFor),
            _ if call.is(&OPENS) && is_temporary(&call.path(path_argument(call)).to_string_lossy()) => {
                Some(Body::NotYetAskedFor)
            }
            Body::NotYetAskedFor if call.is(&SYNCS) && is_temporary(&on_disk()) => Some(Body::AskedFor),
            Body::NotYetAskedFor | Body::Answered if call.is(&RECEIVES) && by_mail() => {
                says_354(&call.data(result as usize)).then_some(Body::AskedFor)
            }
            Body::AskedFor if call.is(&LINKS) => Some(Body::WithTheServer),
            Body::AskedFor if call.is(&SENDS) && by_mail() => Some(Body::WithTheServer),
            Body::WithTheServer if call.is(&RECEIVES) && result > 0 && by_mail() => Some(Body::Answered),
            Body::WithTheServer if call.is(&SYNCS) && on_disk().ends_with("outbox") => Some(Body::Answered),
            Body::Answered if call.is(&SYNCS) && on_disk().ends_with(".lock") => Some(Body::Settled),
            _ => None,
        };
        self.body = next.unwrap_or(self.body);
    }
}

fn path_argument(call: &Call) -> usize {
    usize::from(!call.is(&[libc::SYS_open]))
}

/// Whether it connects to a shop's server: the port of an Internet address is its second word, the high byte first.
fn is_to_a_shop(call: &Call) -> bool {
    matches!(call.data(4)[..], [_, _, high, low] if DatabaseServer::shares(u16::from_be_bytes([high, low])))
}

fn is_temporary(path: &str) -> bool {
    path.ends_with(".tmp")
}

fn says_354(data: &[u8]) -> bool {
    data.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"354"))
}

/// Kills the run at one call, before it happens.
#[derive(Debug, Default)]
pub struct KillAt {
    at: Option<usize>,
    when: Option<Body>,
    watch: Watch,
    /// Where it was killed.
    pub killed: Option<Body>,
}

impl KillAt {
    /// At the call of this number, from 1.
    pub fn number(at: usize) -> KillAt {
        KillAt { at: Some(at), ..KillAt::default() }
    }

    /// At the first call that begins with the body there.
    pub fn when(body: Body) -> KillAt {
        KillAt { when: Some(body), ..KillAt::default() }
    }
}

impl Observer for KillAt {
    fn entry(&mut self, call: &Call) -> Order {
        if !self.watch.entry(call) {
            return Order::GoOn;
        }
        if Some(self.watch.seen) == self.at || Some(self.watch.body) == self.when {
            self.killed = Some(self.watch.body);
            return Order::Kill;
        }
        Order::GoOn
    }

    fn exit(&mut self, call: &Call, result: i64) {
        self.watch.exit(call, result);
    }
}

/// Lets a run go to its end, and remembers where each of its calls stood.
#[derive(Debug, Default)]
pub struct Survey {
    watch: Watch,
    /// By number, from 0 on for the first.
    pub bodies: Vec<Body>,
}

impl Observer for Survey {
    fn entry(&mut self, call: &Call) -> Order {
        if self.watch.entry(call) {
            self.bodies.push(self.watch.body);
        }
        Order::GoOn
    }

    fn exit(&mut self, call: &Call, result: i64) {
        self.watch.exit(call, result);
    }
}

/// Does one thing while the run stands still before one of its calls.
pub struct At<'a> {
    at: usize,
    watch: Watch,
    act: Option<Box<dyn FnOnce() + 'a>>,
}

impl<'a> At<'a> {
    pub fn new(at: usize, act: impl FnOnce() + 'a) -> At<'a> {
        At { at, watch: Watch::default(), act: Some(Box::new(act)) }
    }
}

impl Observer for At<'_> {
    fn entry(&mut self, call: &Call) -> Order {
        if self.watch.entry(call)
            && self.watch.seen >= self.at
            && let Some(act) = self.act.take()
        {
            act();
        }
        Order::GoOn
    }
}
