//! A mail server that does as it is told, and remembers what it was told.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What the server does instead of its usual answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Says this, to the letter.
    Say(&'static str),
    /// Says this and then closes.
    SayAndClose(&'static str),
    Close,
    /// Closes with a TCP reset.
    Reset,
    /// Says nothing any more, and reads until the other side closes.
    Hang,
    /// Says a reply that never ends, a byte now and then, until the other side closes.
    Drip,
    /// Resets the connection while the body is on its way, having said this.
    SayAndResetInBody(&'static str),
    /// Says the usual, and this when [`Server::say_it_now`] is called (nothing: closes); then only reads.
    SayLater(&'static str),
}

/// One departure from the usual: at the `nth` time (from 1) that `command` comes; `.` is the end of a body, and `body` its
/// first line, which is never answered unless oddly.
#[derive(Debug, Clone, Copy)]
pub struct Odd(pub &'static str, pub usize, pub Act);

#[derive(Clone)]
pub struct Manner {
    /// The lines of the EHLO reply after the first, before and after TLS.
    pub offers: Vec<&'static str>,
    pub odd: Vec<Odd>,
    pub tls: Option<Arc<ServerConfig>>,
    pub implicit: bool,
}

/// What has reached the server.
#[derive(Debug, Default, Clone)]
pub struct Record {
    /// Each line heard where a command belongs; `<tls>` for a handshake, `<connection>` and `<end>` for the socket's.
    pub lines: Vec<String>,
    /// Each body, as on the wire, with its final dot line.
    pub bodies: Vec<String>,
}

pub struct Server {
    pub port: u16,
    record: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    cue: SyncSender<()>,
    said: Receiver<()>,
}

trait Stream: Read + Write + Send {
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Stream for StreamOwned<ServerConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

impl Server {
    pub fn start(manner: Manner) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let record = Arc::new(Mutex::new(Record::default()));
        let shared = Arc::clone(&record);
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        // Without room: each waits for the other.
        let ((cue, cued), (saying, said)) = (sync_channel(0), sync_channel(0));
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            for socket in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                let later = (&cued, &saying);
                let mut talk = Talk { manner: &manner, record: &shared, seen: &mut seen, later };
                talk.note("<connection>");
                talk.hold(socket.unwrap());
                talk.note("<end>");
            }
        });
        Server { port, record, stop, thread: Some(thread), cue, said }
    }

    /// Lets [`Act::SayLater`] say it, and returns when it is said.
    pub fn say_it_now(&self) {
        self.cue.send(()).unwrap();
        self.said.recv().unwrap();
    }

    /// Waits until every connection has ended, and returns what was heard.
    pub fn stop(mut self) -> Record {
        self.stop.store(true, Ordering::SeqCst);
        let _wakes_it = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        self.thread.take().unwrap().join().unwrap();
        self.record.lock().unwrap().clone()
    }
}

struct Talk<'a> {
    manner: &'a Manner,
    record: &'a Mutex<Record>,
    seen: &'a mut Vec<String>,
    later: (&'a Receiver<()>, &'a SyncSender<()>),
}

impl Talk<'_> {
    fn note(&self, line: &str) {
        self.record.lock().unwrap().lines.push(line.to_owned());
    }

    fn hold(&mut self, socket: TcpStream) {
        socket.set_nodelay(true).unwrap();
        let mut stream: Box<dyn Stream> = match &self.manner.tls {
            Some(config) if self.manner.implicit => match self.handshake(config, socket) {
                Some(stream) => stream,
                None => return,
            },
            _ => Box::new(socket),
        };
        if !self.answer(&mut *stream, "banner", "220 mx.example ESMTP\r\n") {
            return;
        }
        let mut login = 0;
        while let Some(line) = read_line(&mut *stream) {
            self.note(&line);
            let verb = line.split_whitespace().next().unwrap_or_default().to_owned();
            let usual = match verb.as_str() {
                "EHLO" => {
                    let mut reply = String::from("250-mx.example\r\n");
                    for offer in &self.manner.offers {
                        reply += &format!("250-{offer}\r\n");
                    }
                    reply + "250 HELP\r\n"
                }
                "STARTTLS" => "220 go ahead\r\n".to_owned(),
                "AUTH" if line == "AUTH LOGIN" => {
                    login = 2;
                    "334 VXNlcm5hbWU6\r\n".to_owned()
                }
                "AUTH" => "235 2.7.0 welcome\r\n".to_owned(),
                _ if login > 0 => {
                    login -= 1;
                    if login == 1 { "334 UGFzc3dvcmQ6\r\n" } else { "235 2.7.0 welcome\r\n" }.to_owned()
                }
                "DATA" => "354 go ahead\r\n".to_owned(),
                "QUIT" => "221 2.0.0 bye\r\n".to_owned(),
                "MAIL" | "RCPT" | "RSET" => "250 2.1.0 ok\r\n".to_owned(),
                "HELO" => "250 mx.example\r\n".to_owned(),
                _ => "500 5.5.2 what?\r\n".to_owned(),
            };
            if !self.answer(&mut *stream, &verb, &usual) || verb == "QUIT" {
                return;
            }
            if verb == "STARTTLS" {
                let config = self.manner.tls.clone().unwrap();
                match self.handshake(&config, stream.socket().try_clone().unwrap()) {
                    Some(encrypted) => stream = encrypted,
                    None => return,
                }
            }
            if verb == "DATA" && self.answered_354() && !self.body(&mut *stream) {
                return;
            }
        }
    }

    fn handshake(&self, config: &Arc<ServerConfig>, mut socket: TcpStream) -> Option<Box<dyn Stream>> {
        let mut tls = ServerConnection::new(Arc::clone(config)).unwrap();
        while tls.is_handshaking() {
            if tls.complete_io(&mut socket).is_err() {
                return None;
            }
        }
        self.note("<tls>");
        Some(Box::new(StreamOwned::new(tls, socket)))
    }

    fn answered_354(&self) -> bool {
        let nth = self.seen.iter().filter(|seen| *seen == "DATA").count();
        let odd = self.manner.odd.iter().find(|odd| odd.0 == "DATA" && odd.1 == nth);
        match odd.map(|odd| odd.2) {
            Some(Act::Say(text)) => text.contains("354"),
            _ => true,
        }
    }

    fn body(&mut self, stream: &mut dyn Stream) -> bool {
        let nth = self.seen.iter().filter(|seen| *seen == ".").count() + 1;
        let odd = self.manner.odd.iter().find(|odd| odd.0 == "." && odd.1 == nth);
        if let Some(Odd(_, _, Act::SayAndResetInBody(text))) = odd {
            read_line(stream);
            stream.write_all(text.as_bytes()).unwrap();
            reset(stream.socket());
            return false;
        }
        let mut body = String::new();
        loop {
            let Some(line) = read_line(stream) else {
                if !body.is_empty() {
                    self.note("<body without a dot>");
                }
                return false;
            };
            if body.is_empty() && !self.answer(stream, "body", "") {
                return false;
            }
            body += &format!("{line}\r\n");
            if line == "." {
                break;
            }
        }
        self.record.lock().unwrap().bodies.push(body);
        self.answer(stream, ".", "250 2.0.0 queued\r\n")
    }

    /// Answers as usual, or oddly. False when the connection is over.
    fn answer(&mut self, stream: &mut dyn Stream, command: &str, usual: &str) -> bool {
        self.seen.push(command.to_owned());
        let nth = self.seen.iter().filter(|seen| *seen == command).count();
        let odd = self.manner.odd.iter().find(|odd| odd.0 == command && odd.1 == nth);
        match odd.map(|odd| odd.2) {
            None => stream.write_all(usual.as_bytes()).is_ok(),
            Some(Act::Say(text)) => stream.write_all(text.as_bytes()).is_ok(),
            Some(Act::SayAndClose(text)) => {
                stream.write_all(text.as_bytes()).unwrap();
                self.close(stream)
            }
            Some(Act::Close) => self.close(stream),
            Some(Act::Reset) => {
                reset(stream.socket());
                false
            }
            Some(Act::Drip) => {
                while stream.write_all(b"2").and_then(|()| stream.flush()).is_ok() {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                false
            }
            Some(Act::SayLater(text)) => {
                stream.write_all(usual.as_bytes()).unwrap();
                self.later.0.recv().unwrap();
                stream.write_all(text.as_bytes()).unwrap();
                if text.is_empty() {
                    stream.socket().shutdown(Shutdown::Write).unwrap();
                }
                self.later.1.send(()).unwrap();
                self.drain(stream);
                false
            }
            Some(Act::Hang | Act::SayAndResetInBody(_)) => {
                self.drain(stream);
                false
            }
        }
    }

    /// Ends this side, and reads on so that no reset goes out in place of the end.
    fn close(&mut self, stream: &mut dyn Stream) -> bool {
        stream.socket().shutdown(Shutdown::Write).unwrap();
        self.drain(stream);
        false
    }

    fn drain(&mut self, stream: &mut dyn Stream) {
        while let Some(line) = read_line(stream) {
            self.note(&format!("(unread) {line}"));
        }
    }
}

fn read_line(stream: &mut dyn Stream) -> Option<String> {
    let mut line = Vec::new();
    let mut octet = [0];
    while !line.ends_with(b"\r\n") {
        match stream.read(&mut octet) {
            Ok(1) => line.push(octet[0]),
            _ => return None,
        }
    }
    line.truncate(line.len() - 2);
    Some(String::from_utf8(line).unwrap())
}

fn reset(socket: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = libc::socklen_t::try_from(size_of::<libc::linger>()).unwrap();
    // SAFETY: the descriptor is open, and the pointer and size are those of a live `linger`.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), size)
    };
    assert_eq!(set, 0);
}

/// A certificate for 127.0.0.1, and the authority that signed it, in PEM form.
pub fn certificate() -> (Arc<ServerConfig>, String) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], key)
        .unwrap();
    (Arc::new(config), issuer.pem())
}
