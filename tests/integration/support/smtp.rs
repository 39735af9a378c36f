//! An SMTP server of the tests' own that does as it is told, above all what a server should not do.
//!
//! It runs on threads of this process, so a test can kill the client at any instant and ask the server what it holds.
//! A message counts as accepted from the instant it is recorded, which is before the first byte of its 250.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};
use serde_json::json;
use tempfile::TempDir;

/// Long enough for a loaded machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many octets of an endless line or reply are offered.
pub const FLOOD: usize = 32 << 20;
/// The pause between the lines of [`Act::Trickle`].
const TRICKLE: Duration = Duration::from_millis(100);

/// The instants of a dialogue at which the server can be told to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The TCP connection stands; with implicit TLS, before the handshake.
    Connect,
    Banner,
    Ehlo,
    Starttls,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// In the middle of the body: [`Plan::body_after`] bytes of it have arrived.
    Body,
    /// The final dot has arrived; nothing is accepted yet. Only a 2yz, in the end, accepts the message.
    Dot,
    /// The message is accepted and recorded; its 250 has not gone out. Whatever is done here, it stays accepted.
    Taken,
    /// The first command after the reply to a final dot, whatever it is.
    AfterDot,
    Rset,
    Quit,
}

/// What the server does instead of, or along with, the reply that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The right reply, even where the server has a reason of its own to refuse (no recipient, wrong password).
    Accept,
    /// These lines, without the last CRLF.
    Reply(&'static str),
    /// A reply with this code and a matching text.
    Code(u16),
    /// The connection ends in order (FIN).
    Close,
    /// The connection is torn down (RST).
    Reset,
    /// Nothing, until [`Server::release`] (then the right reply) or the peer is gone.
    Hang,
    /// Bytes that are no reply at all.
    Garbage,
    /// This line and the right reply after it, in one write.
    StrayBefore(&'static str),
    /// The right reply and this line after it, in one write.
    StrayAfter(&'static str),
    /// The right reply, one byte at a time.
    SplitReply,
    /// These octets to the letter, nothing added: another charset, other ends of lines, no reply at all.
    Bytes(&'static [u8]),
    /// These octets, then the end in order (FIN): half a reply.
    HalfThenClose(&'static [u8]),
    /// These lines and their CRLF, then the end in order.
    SayAndClose(&'static str),
    /// The right code and nothing after it, not even a space.
    Bare,
    /// The right reply, with Latin-1 at the end of its text.
    Latin1,
    /// The right reply, each line ended by LF alone.
    LineFeeds,
    /// The right code, and a line after it that does not end; over when the peer is gone or [`FLOOD`] octets are out.
    EndlessLine,
    /// Lines of the right reply, of which none is the last; over when the peer is gone or [`FLOOD`] octets are out.
    EndlessReply,
    /// The same, slowly: each line comes soon, the last one never. Over when the peer is gone.
    Trickle,
    /// A reply that this command cannot have: 250 where 354 or 221 is due, else 354.
    WrongCode,
    /// TLS is torn down: an alert in the clear, and the end without `close_notify`. After STARTTLS and at the banner of an
    /// implicit one, in the middle of the handshake.
    TearTls,
}

/// Which arrivals at a stage a fault is for. Arrivals are counted over all connections, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum On {
    All,
    Nth(usize),
    /// The first so many.
    First(usize),
    /// This one and every later one.
    From(usize),
    /// While a recipient of the transaction holds this text, for example `@slow.example`. From RCPT on.
    ForRecipient(String),
}

/// One misbehaviour.
#[derive(Debug, Clone)]
pub struct Fault {
    pub at: Stage,
    pub on: On,
    pub act: Act,
}

/// How connections are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    None,
    Starttls,
    Implicit,
}

/// What the server offers and how it misbehaves; of several faults that fit, the first counts.
#[derive(Debug, Clone)]
pub struct Plan {
    faults: Vec<Fault>,
    pipelining: bool,
    smtputf8: bool,
    eight_bit: bool,
    size: Option<usize>,
    tls: Tls,
    certificate_for: Vec<String>,
    account: Option<(String, String)>,
    body_after: usize,
    record: Option<PathBuf>,
}

impl Plan {
    /// A server that takes every message: PIPELINING, SIZE, 8BITMIME and SMTPUTF8, no TLS, no AUTH.
    pub fn accepting() -> Plan {
        Plan {
            faults: Vec::new(),
            pipelining: true,
            smtputf8: true,
            eight_bit: true,
            size: Some(10_000_000),
            tls: Tls::None,
            certificate_for: vec!["127.0.0.1".into(), "localhost".into()],
            account: None,
            body_after: 1,
            record: None,
        }
    }

    /// Misbehaves at every arrival at a stage.
    pub fn at(self, stage: Stage, act: Act) -> Plan {
        self.fault(stage, On::All, act)
    }

    /// Misbehaves at the nth arrival at a stage, from 1.
    pub fn nth(self, stage: Stage, n: usize, act: Act) -> Plan {
        self.fault(stage, On::Nth(n), act)
    }

    /// Misbehaves while a recipient holds `pattern`.
    pub fn for_recipient(self, pattern: &str, stage: Stage, act: Act) -> Plan {
        self.fault(stage, On::ForRecipient(pattern.into()), act)
    }

    pub fn fault(mut self, at: Stage, on: On, act: Act) -> Plan {
        self.faults.push(Fault { at, on, act });
        self
    }

    pub fn without_pipelining(mut self) -> Plan {
        self.pipelining = false;
        self
    }

    pub fn without_smtputf8(mut self) -> Plan {
        self.smtputf8 = false;
        self
    }

    pub fn without_8bitmime(mut self) -> Plan {
        self.eight_bit = false;
        self
    }

    /// The SIZE offered, in bytes; a larger message is refused at MAIL (where declared) or at the dot, with 552.
    pub fn size(mut self, bytes: usize) -> Plan {
        self.size = Some(bytes);
        self
    }

    pub fn without_size(mut self) -> Plan {
        self.size = None;
        self
    }

    /// Offers STARTTLS, with a certificate for 127.0.0.1 and localhost.
    pub fn starttls(mut self) -> Plan {
        self.tls = Tls::Starttls;
        self
    }

    /// TLS from the first byte on.
    pub fn implicit_tls(mut self) -> Plan {
        self.tls = Tls::Implicit;
        self
    }

    /// The certificate is for another name than the one connected to.
    pub fn certificate_for(mut self, name: &str) -> Plan {
        self.certificate_for = vec![name.into()];
        self
    }

    /// Offers AUTH PLAIN LOGIN and demands it before MAIL.
    pub fn auth(mut self, username: &str, password: &str) -> Plan {
        self.account = Some((username.into(), password.into()));
        self
    }

    /// How many bytes of the body make [`Stage::Body`].
    pub fn body_after(mut self, bytes: usize) -> Plan {
        self.body_after = bytes;
        self
    }

    /// Also appends every accepted message to this file, one JSON object a line, and syncs it before the 250.
    pub fn record(mut self, path: impl Into<PathBuf>) -> Plan {
        self.record = Some(path.into());
        self
    }
}

/// A message that the server has taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The envelope sender; empty for `<>`.
    pub from: String,
    pub to: Vec<String>,
    /// The message without the stuffed dots and the final one.
    pub bytes: Vec<u8>,
    /// The Message-ID header with its angle brackets; empty where there is none.
    pub message_id: String,
}

impl Accepted {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The value of a header field, unfolded; `None` where there is none.
    pub fn header(&self, name: &str) -> Option<String> {
        header(&self.bytes, name)
    }
}

/// The value of a header field of a message, unfolded.
pub fn header(message: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(message);
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    let mut value: Option<String> = None;
    for line in head.split("\r\n") {
        let folded = line.starts_with([' ', '\t']);
        match (&mut value, folded) {
            (Some(value), true) => value.push_str(line),
            (Some(_), false) => break,
            (None, true) => (),
            (None, false) => {
                value = line
                    .split_once(':')
                    .filter(|(field, _)| field.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.to_owned());
            }
        }
    }
    value.map(|value| value.trim().to_owned())
}

#[derive(Default)]
struct State {
    reached: HashMap<Stage, usize>,
    accepted: Vec<Accepted>,
    transcript: Vec<String>,
    violations: Vec<String>,
    connections: usize,
    most_at_once: usize,
    /// A handle on each open connection, so that the server can end them when it is dropped.
    open: HashMap<usize, TcpStream>,
    released: bool,
    stopped: bool,
}

struct Shared {
    plan: Plan,
    tls: Option<Arc<ServerConfig>>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// A session that panicked must not hide what the others saw.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }
}

/// The running server. Dropping it ends every connection and frees the port.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    listening: Option<JoinHandle<()>>,
    /// Holds `ca.pem`.
    folder: TempDir,
}

impl Server {
    /// Listens on a free port of 127.0.0.1.
    pub fn start(plan: Plan) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("the port just bound");
        let folder = super::folder();
        let tls = (plan.tls != Tls::None).then(|| {
            let (ca, config) = certificate(&plan.certificate_for);
            std::fs::write(folder.path().join("ca.pem"), ca).expect("ca.pem is written");
            Arc::new(config)
        });
        let shared = Arc::new(Shared { plan, tls, state: Mutex::default(), changed: Condvar::new() });
        let listening = {
            let shared = shared.clone();
            Some(thread::spawn(move || listen(&listener, &shared)))
        };
        Server { shared, address, listening, folder }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn tls(&self) -> Tls {
        self.shared.plan.tls
    }

    /// The authority that signed the server's certificate, as a PEM file; `None` without TLS.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.shared.tls.as_ref().map(|_| self.folder.path().join("ca.pem"))
    }

    /// Waits until the stage has been reached `n` times in all.
    pub fn wait_for(&self, stage: Stage, n: usize) {
        self.wait_until(&format!("{stage:?} number {n}"), |state| reached(state, stage) >= n);
    }

    /// Waits for the first final dot.
    pub fn wait_for_final_dot(&self) {
        self.wait_for(Stage::Dot, 1);
    }

    /// Waits until no connection is open.
    pub fn wait_for_silence(&self) {
        self.wait_until("the end of every connection", |state| state.open.is_empty());
    }

    fn wait_until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let state = self.shared.state();
        let (state, waited) = self
            .shared
            .changed
            .wait_timeout_while(state, PATIENCE, |state| !holds(state))
            .unwrap_or_else(PoisonError::into_inner);
        let transcript = state.transcript.join("\n");
        drop(state);
        assert!(!waited.timed_out(), "the server waited in vain for {what}; it saw:\n{transcript}");
    }

    /// Lets every hanging connection go on, and every later one not hang.
    pub fn release(&self) {
        self.shared.change(|state| state.released = true);
    }

    /// Says this line on every open connection now, in the clear, whatever was asked.
    pub fn interject(&self, line: &str) {
        self.shared.change(|state| {
            for socket in state.open.values_mut() {
                let _ = socket.write_all(format!("{line}\r\n").as_bytes());
            }
            state.transcript.push(format!("S: {line} (on every connection)"));
        });
    }

    /// How often a stage was reached.
    pub fn reached(&self, stage: Stage) -> usize {
        reached(&self.shared.state(), stage)
    }

    pub fn final_dots(&self) -> usize {
        self.reached(Stage::Dot)
    }

    /// Every message accepted, oldest first.
    pub fn accepted(&self) -> Vec<Accepted> {
        self.shared.state().accepted.clone()
    }

    /// The recipients of the accepted messages, sorted; one entry for each message.
    pub fn recipients(&self) -> Vec<String> {
        let mut recipients: Vec<String> = self.accepted().into_iter().flat_map(|message| message.to).collect();
        recipients.sort();
        recipients
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// How many connections were open at the same time, at most.
    pub fn most_at_once(&self) -> usize {
        self.shared.state().most_at_once
    }

    /// Every line said, `#connection C: …` or `#connection S: …`.
    pub fn transcript(&self) -> String {
        self.shared.state().transcript.join("\n")
    }

    /// What a client may not do: talk out of turn, bare line feeds, a body nobody asked for.
    pub fn violations(&self) -> Vec<String> {
        self.shared.state().violations.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- what the server saw\n{}\n{:?}", self.transcript(), self.violations());
        }
        self.shared.change(|state| {
            state.stopped = true;
            for socket in state.open.values() {
                let _ = socket.shutdown(Shutdown::Both);
            }
        });
        // The listening thread sees `stopped` only when a connection wakes it.
        let _ = TcpStream::connect(self.address);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

fn reached(state: &State, stage: Stage) -> usize {
    state.reached.get(&stage).copied().unwrap_or(0)
}

fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut sessions = Vec::new();
    for socket in listener.incoming() {
        let Ok(socket) = socket else { continue };
        let id = shared.change(|state| {
            if state.stopped {
                return None;
            }
            state.connections += 1;
            state.open.insert(state.connections, socket.try_clone().ok()?);
            state.most_at_once = state.most_at_once.max(state.open.len());
            Some(state.connections)
        });
        let Some(id) = id else { break };
        let shared = shared.clone();
        sessions.push(thread::spawn(move || Session::new(id, socket, shared).run()));
    }
    for session in sessions {
        let _ = session.join();
    }
}

/// A certificate for `names`, signed by an authority of its own, whose PEM comes first.
fn certificate(names: &[String]) -> (String, ServerConfig) {
    let certified = super::certificates::certified(names);
    let chain: Vec<CertificateDer<'static>> = vec![certified.certificate.der().clone()];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate that fits its key");
    (certified.authority, config)
}

/// The connection is over; nothing more is read or said.
struct Over;

enum Arrived {
    Bytes,
    Nothing,
    End,
}

/// The bytes of one connection, in the clear or not.
struct Wire {
    socket: TcpStream,
    tls: Option<Box<ServerConnection>>,
    pending: Vec<u8>,
}

impl Wire {
    fn fill(&mut self, timeout: Option<Duration>) -> Arrived {
        let mut chunk = vec![0; 65_536];
        let _ = self.socket.set_read_timeout(timeout);
        let read = match &mut self.tls {
            None => self.socket.read(&mut chunk),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.socket).read(&mut chunk),
        };
        match read {
            Ok(0) => Arrived::End,
            Ok(n) => {
                self.pending.extend_from_slice(&chunk[..n]);
                Arrived::Bytes
            }
            Err(err) => match err.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Arrived::Nothing,
                _ => Arrived::End,
            },
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Over> {
        let written = match &mut self.tls {
            None => self.socket.write_all(bytes),
            Some(tls) => {
                let mut stream = rustls::Stream::new(tls.as_mut(), &mut self.socket);
                stream.write_all(bytes).and_then(|()| stream.flush())
            }
        };
        written.map_err(|_| Over)
    }
}

#[derive(Default)]
struct Transaction {
    from: Option<String>,
    to: Vec<String>,
    /// The last recipient named, accepted or not: faults for a recipient look at it too.
    named: String,
    smtputf8: bool,
}

struct Session {
    id: usize,
    wire: Wire,
    shared: Arc<Shared>,
    transaction: Transaction,
    greeted: bool,
    authenticated: bool,
    after_dot: bool,
    /// It has said more than it was asked for: a client that takes that for answers talks sooner than it may know.
    out_of_step: bool,
}

impl Session {
    fn new(id: usize, socket: TcpStream, shared: Arc<Shared>) -> Session {
        let _ = socket.set_nodelay(true);
        Session {
            id,
            wire: Wire { socket, tls: None, pending: Vec::new() },
            shared,
            transaction: Transaction::default(),
            greeted: false,
            authenticated: false,
            after_dot: false,
            out_of_step: false,
        }
    }

    fn run(mut self) {
        let _ = self.serve();
        self.note("(over)");
        let id = self.id;
        let shared = self.shared.clone();
        let handle = shared.state().open.remove(&id);
        // A reset goes out when the last handle on the socket is closed.
        drop(handle);
        drop(self);
        shared.changed.notify_all();
    }

    fn serve(&mut self) -> Result<(), Over> {
        let act = self.reach(Stage::Connect);
        match act {
            Some(Act::Hang) => self.hang()?,
            Some(act @ (Act::Close | Act::Reset)) => return Err(self.end(act)),
            _ => (),
        }
        if self.shared.plan.tls == Tls::Implicit {
            self.start_tls()?;
        }
        self.answer(Stage::Banner, "220 shop.test ESMTP")?;
        loop {
            let line = self.read_line()?;
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let verb = verb.to_ascii_uppercase();
            if std::mem::take(&mut self.after_dot)
                && let Some(act) = self.reach(Stage::AfterDot)
            {
                match act {
                    Act::Hang => self.hang()?,
                    Act::Accept | Act::StrayBefore(_) | Act::StrayAfter(_) | Act::SplitReply => (),
                    Act::Bare | Act::Latin1 | Act::LineFeeds => (),
                    act => {
                        let right = if verb == "QUIT" { "221 2.0.0 bye" } else { "250 2.1.0 ok" };
                        self.perform(act, right)?;
                        continue;
                    }
                }
            }
            match verb.as_str() {
                "EHLO" | "HELO" => self.ehlo(&verb)?,
                "STARTTLS" => self.starttls()?,
                "AUTH" => self.auth(rest)?,
                "MAIL" => self.mail(rest)?,
                "RCPT" => self.rcpt(rest)?,
                "DATA" => self.data()?,
                "RSET" => {
                    self.transaction = Transaction::default();
                    self.answer(Stage::Rset, "250 2.0.0 ok")?;
                }
                "NOOP" | "VRFY" => self.say("250 2.0.0 ok")?,
                "QUIT" => {
                    self.answer(Stage::Quit, "221 2.0.0 bye")?;
                    return Err(self.end(Act::Close));
                }
                _ => {
                    if line == "." {
                        self.violation("a final dot that nobody had asked for");
                    }
                    self.say("500 5.5.2 no such command")?;
                }
            }
        }
    }

    fn ehlo(&mut self, verb: &str) -> Result<(), Over> {
        let plan = self.shared.plan.clone();
        let mut lines = vec!["shop.test".to_owned()];
        if verb == "EHLO" {
            let starttls = plan.tls == Tls::Starttls && self.wire.tls.is_none();
            lines.extend(plan.pipelining.then(|| "PIPELINING".into()));
            lines.extend(plan.size.map(|size| format!("SIZE {size}")));
            lines.extend(plan.eight_bit.then(|| "8BITMIME".into()));
            lines.extend(plan.smtputf8.then(|| "SMTPUTF8".into()));
            lines.extend(starttls.then(|| "STARTTLS".into()));
            lines.extend((plan.account.is_some() && !starttls).then(|| "AUTH PLAIN LOGIN".into()));
            lines.push("ENHANCEDSTATUSCODES".into());
        }
        let last = lines.len() - 1;
        let dash = |i| if i == last { ' ' } else { '-' };
        let lines: Vec<String> = lines.iter().enumerate().map(|(i, line)| format!("250{}{line}", dash(i))).collect();
        self.greeted = self.answer(Stage::Ehlo, &lines.join("\r\n"))? == 250;
        self.transaction = Transaction::default();
        Ok(())
    }

    fn starttls(&mut self) -> Result<(), Over> {
        if self.shared.plan.tls != Tls::Starttls || self.wire.tls.is_some() {
            return self.say("502 5.5.1 not offered");
        }
        if !self.wire.pending.is_empty() {
            self.violation("bytes after STARTTLS, before its reply");
        }
        if self.answer(Stage::Starttls, "220 2.0.0 go ahead")? == 220 {
            self.greeted = false;
            self.start_tls()?;
        }
        Ok(())
    }

    fn start_tls(&mut self) -> Result<(), Over> {
        let config = self.shared.tls.clone().ok_or(Over)?;
        let mut tls = Box::new(ServerConnection::new(config).map_err(|_| Over)?);
        let _ = self.wire.socket.set_read_timeout(Some(PATIENCE));
        while tls.is_handshaking() {
            if let Err(err) = tls.complete_io(&mut self.wire.socket) {
                self.note(&format!("(TLS: {err})"));
                return Err(Over);
            }
        }
        self.note("(TLS)");
        self.wire.tls = Some(tls);
        Ok(())
    }

    fn auth(&mut self, rest: &str) -> Result<(), Over> {
        let Some((username, password)) = self.shared.plan.account.clone() else {
            return self.say("502 5.5.1 not offered");
        };
        let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        let given = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => {
                let answer = if initial.is_empty() { self.ask("334 ")? } else { initial.to_owned() };
                let decoded = base64(&answer);
                let mut parts = decoded.split('\0').skip(1).map(str::to_owned);
                (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
            }
            "LOGIN" => {
                let name = if initial.is_empty() { self.ask("334 VXNlcm5hbWU6")? } else { initial.to_owned() };
                (base64(&name), base64(&self.ask("334 UGFzc3dvcmQ6")?))
            }
            _ => return self.say("504 5.5.4 no such mechanism"),
        };
        let right = if given == (username, password) { "235 2.7.0 welcome" } else { "535 5.7.8 wrong credentials" };
        let act = self.reach(Stage::Auth);
        let right = if act == Some(Act::Accept) { "235 2.7.0 welcome" } else { right };
        self.authenticated = self.perform(act.unwrap_or(Act::Accept), right)? == 235;
        Ok(())
    }

    fn ask(&mut self, question: &str) -> Result<String, Over> {
        self.say(question)?;
        self.read_line()
    }

    fn mail(&mut self, rest: &str) -> Result<(), Over> {
        let plan = self.shared.plan.clone();
        let (from, parameters) = path(rest, "FROM:");
        let parameters = parameters.to_ascii_uppercase();
        let declared = parameters.split(' ').find_map(|p| p.strip_prefix("SIZE=")?.parse::<usize>().ok());
        self.transaction = Transaction { smtputf8: parameters.contains("SMTPUTF8"), ..Transaction::default() };
        let right = if !self.greeted {
            "503 5.5.1 say EHLO first"
        } else if plan.account.is_some() && !self.authenticated {
            "530 5.7.0 authentication required"
        } else if declared.zip(plan.size).is_some_and(|(declared, size)| declared > size) {
            "552 5.3.4 too large"
        } else if self.transaction.smtputf8 && !plan.smtputf8 {
            "555 5.5.4 SMTPUTF8 is not offered"
        } else {
            "250 2.1.0 ok"
        };
        let act = self.reach(Stage::Mail);
        let right = if act == Some(Act::Accept) { "250 2.1.0 ok" } else { right };
        if self.perform(act.unwrap_or(Act::Accept), right)? == 250 {
            self.transaction.from = Some(from);
        }
        Ok(())
    }

    fn rcpt(&mut self, rest: &str) -> Result<(), Over> {
        let (to, _) = path(rest, "TO:");
        self.transaction.named = to.clone();
        let act = self.reach(Stage::Rcpt);
        let right = if act == Some(Act::Accept) {
            "250 2.1.5 ok"
        } else if self.transaction.from.is_none() {
            "503 5.5.1 say MAIL first"
        } else if !to.is_ascii() && !self.transaction.smtputf8 {
            "553 5.6.7 needs SMTPUTF8"
        } else {
            "250 2.1.5 ok"
        };
        if self.perform(act.unwrap_or(Act::Accept), right)? == 250 {
            self.transaction.to.push(to);
        }
        Ok(())
    }

    fn data(&mut self) -> Result<(), Over> {
        if !self.wire.pending.is_empty() {
            self.violation("bytes after DATA, before its reply");
        }
        let act = self.reach(Stage::Data);
        let ready = !self.transaction.to.is_empty();
        let right = if ready || act == Some(Act::Accept) { "354 go ahead" } else { "503 5.5.1 no valid recipients" };
        if self.perform(act.unwrap_or(Act::Accept), right)? != 354 {
            return Ok(());
        }
        let body = self.read_body()?;
        let ready = !self.transaction.to.is_empty();
        self.after_dot = true;
        let fits = self.shared.plan.size.is_none_or(|size| body.len() <= size);
        let right = match (ready, fits) {
            (false, _) => "554 5.5.1 no valid recipients",
            (true, false) => "552 5.3.4 too large",
            (true, true) => "250 2.0.0 queued",
        };
        match self.reach(Stage::Dot) {
            None | Some(Act::Accept) => (),
            Some(Act::Hang) => self.hang()?,
            Some(act) => {
                let kept = match act {
                    Act::StrayBefore(_) | Act::StrayAfter(_) | Act::SplitReply => true,
                    Act::Bare | Act::Latin1 | Act::LineFeeds => true,
                    Act::Code(code) => (200..300).contains(&code),
                    Act::Reply(text) | Act::SayAndClose(text) => text.starts_with('2'),
                    Act::Bytes(octets) => octets.starts_with(b"2"),
                    _ => false,
                };
                if kept && right.starts_with('2') {
                    self.take(body);
                    self.reach(Stage::Taken);
                }
                self.perform(act, right)?;
                return Ok(());
            }
        }
        if right.starts_with('2') {
            self.take(body);
            self.answer(Stage::Taken, right)?;
        } else {
            self.say(right)?;
        }
        Ok(())
    }

    /// Reads up to the final dot; the result has the stuffed dots taken out.
    fn read_body(&mut self) -> Result<Vec<u8>, Over> {
        let mut told = false;
        let mut scanned = 0;
        let (length, end) = loop {
            if !told && self.wire.pending.len() >= self.shared.plan.body_after {
                told = true;
                match self.reach(Stage::Body) {
                    None | Some(Act::Accept) => (),
                    Some(Act::Hang) => self.hang()?,
                    Some(act) => {
                        self.out_of_step = true;
                        self.perform(act, "451 4.3.0 that is enough")?;
                    }
                }
            }
            if self.wire.pending.starts_with(b".\r\n") {
                break (0, 3);
            }
            if let Some(at) = find(&self.wire.pending[scanned..], b"\r\n.\r\n") {
                break (scanned + at + 2, scanned + at + 5);
            }
            scanned = self.wire.pending.len().saturating_sub(4);
            self.fill()?;
        };
        let stuffed: Vec<u8> = self.wire.pending.drain(..end).take(length).collect();
        self.note(&format!("C: (a body of {length} bytes and the final dot)"));
        if !self.wire.pending.is_empty() && !self.shared.plan.pipelining && !self.out_of_step {
            self.violation("bytes after the final dot, without PIPELINING");
        }
        let mut body = Vec::with_capacity(stuffed.len());
        for line in stuffed.split_inclusive(|&byte| byte == b'\n') {
            if !line.ends_with(b"\r\n") {
                self.violation("a bare line feed in the body");
            }
            if line.len() > 1001 {
                self.violation("a line of more than 998 octets (RFC 5321 section 4.5.3.1.6)");
            }
            body.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        Ok(body)
    }

    /// Records the message as accepted: durably first where a file was named, then for the test to see.
    fn take(&mut self, bytes: Vec<u8>) {
        let message = Accepted {
            from: self.transaction.from.clone().unwrap_or_default(),
            to: std::mem::take(&mut self.transaction.to),
            message_id: header(&bytes, "Message-ID").unwrap_or_default(),
            bytes,
        };
        if let Some(path) = &self.shared.plan.record {
            let line = json!({"from": message.from, "to": message.to, "message_id": message.message_id});
            append(path, &format!("{line}\n")).expect("the record of accepted messages is written");
        }
        self.shared.change(|state| state.accepted.push(message));
    }

    /// Counts the arrival at a stage and finds what was ordered for it.
    fn reach(&mut self, stage: Stage) -> Option<Act> {
        let n = self.shared.change(|state| {
            let n = state.reached.entry(stage).or_default();
            *n += 1;
            *n
        });
        let transaction = &self.transaction;
        let fits = |on: &On| match on {
            On::All => true,
            On::Nth(nth) => n == *nth,
            On::First(first) => n <= *first,
            On::From(from) => n >= *from,
            On::ForRecipient(pattern) => transaction.named.contains(pattern.as_str()),
        };
        self.shared.plan.faults.iter().find(|fault| fault.at == stage && fits(&fault.on)).map(|fault| fault.act)
    }

    fn answer(&mut self, stage: Stage, right: &str) -> Result<u16, Over> {
        let act = self.reach(stage).unwrap_or(Act::Accept);
        self.perform(act, right)
    }

    /// Does what was ordered in place of the right reply; returns the code of the reply meant, 0 for none.
    fn perform(&mut self, act: Act, right: &str) -> Result<u16, Over> {
        let code_of = |text: &str| text.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0);
        match act {
            Act::Accept => self.say(right)?,
            Act::Reply(text) => {
                self.say(text)?;
                return Ok(code_of(text));
            }
            Act::Code(code) => {
                self.say(&format!("{code} {}.0.0 as ordered", code / 100))?;
                return Ok(code);
            }
            Act::Close | Act::Reset => return Err(self.end(act)),
            Act::Hang => {
                self.hang()?;
                self.say(right)?;
            }
            Act::Garbage => {
                self.note("S: (garbage)");
                self.wire.write(b"\x00\xff\xfe this is no reply\r\n")?;
                return Ok(0);
            }
            Act::Bytes(octets) => {
                self.out_of_step |= octets.split(|&octet| octet == b'\n').count() > 2;
                self.octets(octets)?;
                return Ok(code_of(&String::from_utf8_lossy(octets)));
            }
            Act::HalfThenClose(octets) => {
                self.octets(octets)?;
                return Err(self.end(Act::Close));
            }
            Act::SayAndClose(text) => {
                self.say(text)?;
                return Err(self.end(Act::Close));
            }
            Act::Bare => self.octets(format!("{:03}\r\n", code_of(right)).as_bytes())?,
            Act::Latin1 => self.octets(&[right.as_bytes(), b" \xfcbernommen\r\n"].concat())?,
            Act::LineFeeds => self.octets(format!("{}\n", right.replace("\r\n", "\n")).as_bytes())?,
            Act::EndlessLine => {
                self.wire.write(format!("{} ", code_of(right)).as_bytes())?;
                return Err(self.flood(&[b'A'; 65_536]));
            }
            Act::EndlessReply => {
                return Err(self.flood(format!("{}-and more\r\n", code_of(right)).repeat(4096).as_bytes()));
            }
            Act::Trickle => loop {
                self.say(&format!("{}-and more", code_of(right)))?;
                if self.shared.state().stopped || matches!(self.wire.fill(Some(TRICKLE)), Arrived::End) {
                    return Err(Over);
                }
            },
            Act::StrayBefore(stray) => {
                self.out_of_step = true;
                self.say(&format!("{stray}\r\n{right}"))?;
            }
            Act::StrayAfter(stray) => {
                self.out_of_step = true;
                self.say(&format!("{right}\r\n{stray}"))?;
            }
            Act::SplitReply => {
                self.note(&format!("S: {right} (byte by byte)"));
                for byte in format!("{right}\r\n").bytes() {
                    self.wire.write(&[byte])?;
                    // Without a pause the bytes would meet again in the peer's buffer.
                    thread::sleep(Duration::from_millis(1));
                }
            }
            Act::TearTls => {
                if self.wire.tls.is_none() {
                    self.say(right)?;
                }
                self.note("S: (tears TLS down)");
                let _ = self.wire.socket.write_all(b"\x15\x03\x03\x00\x02\x02\x50");
                self.wire.tls = None;
                return Err(self.end(Act::Close));
            }
            Act::WrongCode => {
                let wrong = match code_of(right) {
                    354 | 221 => "250 2.0.0 out of step",
                    _ => "354 out of step",
                };
                self.say(wrong)?;
                return Ok(code_of(wrong));
            }
        }
        Ok(code_of(right))
    }

    /// Says this over and over, and notes whether the peer took all of it.
    fn flood(&mut self, octets: &[u8]) -> Over {
        for _ in 0..FLOOD / octets.len() {
            if self.wire.write(octets).is_err() {
                self.note("S: (floods, and is cut short)");
                return Over;
            }
        }
        self.note("S: (floods, and is heard to the end)");
        self.end(Act::Close)
    }

    /// Says octets that need not be lines.
    fn octets(&mut self, octets: &[u8]) -> Result<(), Over> {
        self.note(&format!("S: {}", octets.escape_ascii()));
        self.wire.write(octets)
    }

    /// Says nothing until released; over when the peer is gone or the server stops.
    fn hang(&mut self) -> Result<(), Over> {
        self.note("(hangs)");
        loop {
            let (released, stopped) = {
                let state = self.shared.state();
                (state.released, state.stopped)
            };
            if released {
                return Ok(());
            }
            // Reading is how the end of the peer shows; what it says meanwhile is kept for later.
            if stopped || matches!(self.wire.fill(Some(Duration::from_millis(10))), Arrived::End) {
                return Err(Over);
            }
        }
    }

    fn end(&mut self, act: Act) -> Over {
        if act == Act::Reset {
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            // SAFETY: the descriptor is open, and the option's value lives through the call.
            unsafe {
                libc::setsockopt(
                    self.wire.socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_LINGER,
                    (&raw const linger).cast(),
                    size_of::<libc::linger>() as libc::socklen_t,
                );
            }
            self.note("(resets)");
        } else {
            self.note("(closes)");
            if let Some(tls) = &mut self.wire.tls {
                tls.send_close_notify();
                let _ = tls.write_tls(&mut self.wire.socket);
            }
            let _ = self.wire.socket.shutdown(Shutdown::Write);
            // Bytes left unread would turn the end in order into a reset.
            while matches!(self.wire.fill(Some(Duration::from_secs(1))), Arrived::Bytes) {}
        }
        Over
    }

    fn fill(&mut self) -> Result<(), Over> {
        match self.wire.fill(Some(Duration::from_secs(1))) {
            Arrived::Bytes => Ok(()),
            Arrived::End => Err(Over),
            Arrived::Nothing if self.shared.state().stopped => Err(Over),
            Arrived::Nothing => Ok(()),
        }
    }

    fn read_line(&mut self) -> Result<String, Over> {
        let end = loop {
            if let Some(at) = find(&self.wire.pending, b"\n") {
                break at + 1;
            }
            self.fill()?;
        };
        let line: Vec<u8> = self.wire.pending.drain(..end).collect();
        if !line.ends_with(b"\r\n") {
            self.violation("a command that ends in a bare line feed");
        }
        let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        self.note(&format!("C: {line}"));
        let may_pipeline = self.shared.plan.pipelining && self.greeted;
        if !self.wire.pending.is_empty() && !may_pipeline && !self.out_of_step {
            self.violation("several commands in one go, without PIPELINING");
        }
        Ok(line)
    }

    fn say(&mut self, lines: &str) -> Result<(), Over> {
        for line in lines.split("\r\n") {
            self.note(&format!("S: {line}"));
        }
        self.wire.write(format!("{lines}\r\n").as_bytes())
    }

    fn note(&self, text: &str) {
        let line = format!("#{} {text}", self.id);
        self.shared.change(|state| state.transcript.push(line));
    }

    fn violation(&self, what: &str) {
        let line = format!("#{} {what}", self.id);
        self.shared.change(|state| state.violations.push(line));
    }
}

/// The address between the angle brackets and the parameters after them.
fn path(rest: &str, word: &str) -> (String, String) {
    let rest = match rest.get(..word.len()) {
        Some(start) if start.eq_ignore_ascii_case(word) => rest[word.len()..].trim_start(),
        _ => rest,
    };
    let (address, parameters) = rest.split_once('>').unwrap_or((rest, ""));
    (address.trim_start_matches('<').to_owned(), parameters.trim().to_owned())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(line.as_bytes())?;
    file.sync_data()
}

/// Decodes base64 as AUTH uses it; what is no digit is passed over.
fn base64(text: &str) -> String {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u32> = text.bytes().filter_map(digit).map(u32::from).collect();
    let mut bytes = Vec::new();
    for group in digits.chunks(4) {
        let all = group.iter().fold(0, |all, digit| all << 6 | digit) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&all.to_be_bytes()[1..group.len()]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
