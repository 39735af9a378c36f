//! Messages: rendering them, composing them, and taking them to a server or into a folder.

mod cart;
mod conditional;
pub mod file;
mod inline;
mod markup;
pub mod message;
mod plain_text;
pub mod session;
pub mod smtp;
pub mod template;
pub mod translations;

use std::cell::OnceCell;
use std::io;

use crate::domain::fate::Fate;
use crate::failure::Failure;
use crate::settings::{SmtpSettings, TransportSettings};
use file::{FileSession, Outbox};
use session::{InStep, Opening, Outgoing, Passing, Session};
use smtp::{SmtpServer, SmtpSession};

/// Where messages go.
pub enum Transport {
    /// The server is prepared when the first session is wanted: reading certificates takes longer than an idle run.
    Smtp {
        settings: SmtpSettings,
        server: OnceCell<SmtpServer>,
    },
    File(Outbox),
}

impl Transport {
    /// Names the transport; nothing is read or connected yet.
    pub fn open(settings: &TransportSettings) -> Transport {
        match settings {
            TransportSettings::File { dir } => Transport::File(Outbox::new(dir.clone())),
            TransportSettings::Smtp(smtp) => Transport::Smtp { settings: smtp.clone(), server: OnceCell::new() },
        }
    }

    /// How many sessions may be open at once.
    pub fn connections(&self) -> usize {
        match self {
            Transport::Smtp { settings, .. } => settings.connections,
            Transport::File(_) => 1,
        }
    }

    /// A new session, for one conversation.
    ///
    /// # Errors
    /// Exit 78: the certificates cannot be read.
    pub fn session(&self) -> Result<AnySession, Failure> {
        Ok(match self {
            Transport::Smtp { settings, server } => {
                let server = match server.get() {
                    Some(server) => server,
                    None => {
                        let made = SmtpServer::new(settings)?;
                        server.get_or_init(|| made)
                    }
                };
                AnySession::Smtp(Box::new(server.session()))
            }
            Transport::File(outbox) => AnySession::File(outbox.session()),
        })
    }

    /// Whether a message with this token is known to have been delivered. A mail server cannot be asked.
    pub fn holds(&self, token: &str) -> io::Result<bool> {
        match self {
            Transport::Smtp { .. } => Ok(false),
            Transport::File(outbox) => outbox.holds(token),
        }
    }

    /// `sent` by mail, `written` to files.
    pub fn past_tense(&self) -> &'static str {
        match self {
            Transport::Smtp { .. } => "sent",
            Transport::File(_) => "written",
        }
    }
}

/// A session of either transport.
pub enum AnySession {
    Smtp(Box<SmtpSession>),
    File(FileSession),
}

impl Session for AnySession {
    async fn open(&mut self, outgoing: &Outgoing) -> Opening {
        match self {
            AnySession::Smtp(session) => session.open(outgoing).await,
            AnySession::File(session) => session.open(outgoing).await,
        }
    }

    async fn finish(&mut self, outgoing: &Outgoing) -> Fate {
        match self {
            AnySession::Smtp(session) => session.finish(outgoing).await,
            AnySession::File(session) => session.finish(outgoing).await,
        }
    }

    async fn finish_and_open(&mut self, outgoing: &Outgoing, next: &Outgoing) -> Passing {
        match self {
            AnySession::Smtp(session) => session.finish_and_open(outgoing, next).await,
            AnySession::File(session) => session.finish_and_open(outgoing, next).await,
        }
    }

    fn abandon(&mut self) {
        match self {
            AnySession::Smtp(session) => session.abandon(),
            AnySession::File(session) => session.abandon(),
        }
    }

    async fn close(&mut self) -> Option<InStep> {
        match self {
            AnySession::Smtp(session) => session.close().await,
            AnySession::File(session) => session.close().await,
        }
    }
}
