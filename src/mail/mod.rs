//! Messages: rendering them, composing them, and taking them to a server or into a folder.

mod cart;
pub mod file;
mod inline;
mod markup;
pub mod message;
mod plain_text;
pub mod session;
pub mod smtp;
pub mod template;

use std::cell::OnceCell;
use std::io;

use crate::failure::Failure;
use crate::settings::{SmtpSettings, TransportSettings};
use file::Outbox;
use session::Session;
use smtp::SmtpServer;

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

    /// A new session, for one thread.
    ///
    /// # Errors
    /// Exit 78: the certificates cannot be read.
    pub fn session(&self) -> Result<Box<dyn Session>, Failure> {
        Ok(match self {
            Transport::Smtp { settings, server } => {
                let server = match server.get() {
                    Some(server) => server,
                    None => {
                        let made = SmtpServer::new(settings)?;
                        server.get_or_init(|| made)
                    }
                };
                Box::new(server.session())
            }
            Transport::File(outbox) => Box::new(outbox.session()),
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
