//! One connection's octets, in the clear or under TLS. What has been read and not yet taken lies in a buffer of our own,
//! so what the server says unasked is known exactly, and nothing is taken for the answer to a later command.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::reply::{LONGEST_LINE, Lines, Reply, Trouble, too_much};

/// How long the rest of what came unasked is waited for, once its beginning is there.
const REST_OF_UNASKED: Duration = Duration::from_secs(1);
/// How long octets that lie in the socket may take to come through TLS. They need no one else for it.
const THROUGH_TLS: Duration = Duration::from_millis(20);
const CHUNK: usize = 4096;

/// When an answer must be there, and how long that was to wait, for people.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    at: Instant,
    waited: Duration,
}

impl Deadline {
    pub fn after(waited: Duration) -> Deadline {
        Deadline { at: Instant::now() + waited, waited }
    }
}

pub(super) struct Wire {
    stream: Stream,
    /// What has been read and belongs to no reply yet.
    buffer: Vec<u8>,
    /// Why no more can be read.
    end: Option<Trouble>,
    /// What no text of this server may show.
    secrets: Arc<[String]>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    pub fn new(socket: TcpStream, secrets: Arc<[String]>) -> Wire {
        // Each write is a whole part of the dialogue; waiting for more of it costs 40 ms.
        let _ = socket.set_nodelay(true);
        Wire { stream: Stream::Plain(socket), buffer: Vec::new(), end: None, secrets }
    }

    /// Goes over to TLS. The server must have said nothing that was not taken: it would count as said under TLS.
    pub async fn over_tls(
        self,
        config: &Arc<ClientConfig>,
        host: &ServerName<'static>,
        deadline: Deadline,
    ) -> Result<Wire, Trouble> {
        let Stream::Plain(socket) = self.stream else {
            return Err(Trouble::Broken("TLS within TLS".to_owned()));
        };
        match timeout_at(deadline.at, TlsConnector::from(Arc::clone(config)).connect(host.clone(), socket)).await {
            Ok(Ok(stream)) => {
                let stream = Stream::Tls(Box::new(stream));
                Ok(Wire { stream, buffer: Vec::new(), end: None, secrets: self.secrets })
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Trouble::Closed),
            Ok(Err(error)) => Err(Trouble::Broken(error.to_string())),
            Err(_) => Err(Trouble::Silent(deadline.waited)),
        }
    }

    /// Writes octets, and waits until the system has all of them.
    ///
    /// # Errors
    /// Not all of them may have left, and some may.
    pub async fn write(&mut self, octets: &[u8], deadline: Deadline) -> Result<(), Trouble> {
        let writing = async {
            match &mut self.stream {
                Stream::Plain(socket) => socket.write_all(octets).await,
                Stream::Tls(stream) => {
                    stream.write_all(octets).await?;
                    stream.flush().await
                }
            }
        };
        match timeout_at(deadline.at, writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Trouble::Broken(error.to_string())),
            Err(_) => Err(Trouble::Silent(deadline.waited)),
        }
    }

    /// Reads one reply, which must be there whole at the deadline.
    ///
    /// # Errors
    /// There is none. Nothing that comes later is taken for anything: the connection has ended for us.
    pub async fn hear(&mut self, deadline: Deadline) -> Result<Reply, Trouble> {
        let secrets = Arc::clone(&self.secrets);
        let mut lines = Lines::without(&secrets);
        let mut searched = 0;
        loop {
            while let Some(at) = memchr::memchr(b'\n', &self.buffer[searched..]) {
                let end = searched + at;
                let line = &self.buffer[..end];
                let taken = lines.take(line.strip_suffix(b"\r").unwrap_or(line));
                self.buffer.drain(..=end);
                searched = 0;
                match taken {
                    Ok(false) => {}
                    Ok(true) => return Ok(lines.reply()),
                    Err(what) => return Err(self.nonsense(what)),
                }
            }
            searched = self.buffer.len();
            if searched > LONGEST_LINE + 1 {
                return Err(self.nonsense(too_much()));
            }
            if self.end.is_none() && timeout_at(deadline.at, self.fill()).await.is_err() {
                self.end = Some(Trouble::Silent(deadline.waited));
            }
            if let Some(end) = &self.end
                && self.buffer.len() == searched
            {
                return Err(match lines.half(&self.buffer) {
                    Some(said) => Trouble::Half { said, then: Box::new(end.clone()) },
                    None => end.clone(),
                });
            }
        }
    }

    /// What the server has said although nothing was asked of it, or that it has gone. Waits for nothing that has not
    /// begun to come.
    pub async fn unasked(&mut self) -> Option<Result<Reply, Trouble>> {
        match self.has_come().await {
            true => Some(self.hear(Deadline::after(REST_OF_UNASKED)).await),
            false => None,
        }
    }

    async fn has_come(&mut self) -> bool {
        if !self.buffer.is_empty() || self.end.is_some() {
            return true;
        }
        if let Stream::Plain(_) = self.stream {
            return self.lies_in_the_socket();
        }
        // What lies there need not be the server's words: TLS 1.3 sends tickets of its own. Without end they are no reply.
        let until = Instant::now() + REST_OF_UNASKED;
        while Instant::now() < until {
            let has_read = {
                let mut reading = pin!(self.fill());
                poll_fn(|context| Poll::Ready(reading.as_mut().poll(context).is_ready())).await
            };
            if has_read {
                return true;
            }
            if !self.lies_in_the_socket() || self.end.is_some() {
                return self.end.is_some();
            }
            if timeout(THROUGH_TLS, self.fill()).await.is_ok() {
                return true;
            }
        }
        true
    }

    /// Asks the system itself: what tokio knows of the socket may be a moment old.
    fn lies_in_the_socket(&mut self) -> bool {
        let socket = match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.get_ref().0,
        };
        loop {
            return match SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]) {
                Ok(_) => true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                Err(error) => {
                    // The system tells it once.
                    self.end = Some(Trouble::Broken(error.to_string()));
                    true
                }
            };
        }
    }

    /// Reads once, into the buffer. Losing this future loses nothing.
    async fn fill(&mut self) {
        let mut chunk = [0; CHUNK];
        let read = match &mut self.stream {
            Stream::Plain(socket) => socket.read(&mut chunk).await,
            Stream::Tls(stream) => stream.read(&mut chunk).await,
        };
        match read {
            Ok(0) => self.end = Some(Trouble::Closed),
            Ok(octets) => self.buffer.extend_from_slice(&chunk[..octets]),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.end = Some(Trouble::Closed),
            Err(error) => self.end = Some(Trouble::Broken(error.to_string())),
        }
    }

    fn nonsense(&mut self, what: String) -> Trouble {
        let trouble = Trouble::Nonsense(what);
        self.buffer.clear();
        self.end = Some(trouble.clone());
        trouble
    }
}
