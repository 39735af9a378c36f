//! Sending over SMTP (RFC 5321), one recipient per transaction. lettre is used in this room only.
//!
//! Two questions decide over sending twice or not at all: who is meant by a reply, and which command is meant.
//!
//! Who: `verdict` says which replies judge a message and which only say that the server cannot be used.
//! Which: one stray line makes every later reply answer the command before. So a 2yz to the final dot is provisional
//! until the next reply on that connection, or the one to QUIT, proves that replies are in step. (A stray line that is
//! there together with the 354 is found before anything is armed.)
//!
//! | next on the connection                                | the 2yz before it                                    |
//! |-------------------------------------------------------|------------------------------------------------------|
//! | 354 to DATA, 221 to QUIT                              | stands                                               |
//! | it ends, falls silent, or says 421                    | stands: nothing speaks against it                    |
//! | a reply that the command cannot have                  | in doubt                                             |
//! | a refusal, then 221 to QUIT                           | stands                                               |
//! | a refusal, then another reply to QUIT                 | in doubt; the refusal judges nothing either          |
//! | a refusal of RCPT or DATA, then the connection ends   | stands: if late by one, the dot's own is MAIL's 250  |
//! | a refusal of MAIL, then the connection ends           | in doubt: the refusal may be the dot's own           |
//!
//! The same QUIT checks a refusal of the dot: if it is the stray line, a 2yz follows, and trying again sends twice.
//!
//! Where the server offers PIPELINING, MAIL, RCPT and DATA of the next message leave in the same write as the body
//! before them (RFC 2920 §3.1). Nothing of the next body leaves before its own 354 and arming, so the table holds as it
//! stands: the proof comes a moment earlier. A refusal of the dot is checked by those three answers in place of QUIT.

mod body;
mod line;
mod probe;
mod reply;
#[cfg(test)]
mod tests;
mod verdict;

use std::path::Path;
use std::sync::Arc;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;

use crate::domain::fate::{Fate, Unusable};
use crate::failure::Failure;
use crate::mail::session::{InStep, Next, Opened, Opening, Outgoing, Passing, Session};
use crate::settings::{SmtpSettings, Tls};

use self::line::{Farewell, Line};
use self::reply::Trouble;
use self::verdict::{After, Heard, Verdict, verdict};

/// A mail server that sessions can be had of.
pub struct SmtpServer {
    server: Arc<Server>,
}

/// What all sessions share.
struct Server {
    settings: SmtpSettings,
    /// `host:port`, as messages name it.
    name: String,
    hello: ClientId,
    /// `None` only when plain text was asked for.
    tls: Option<TlsParameters>,
    credentials: Option<Credentials>,
    secrets: Vec<String>,
}

/// One conversation with the server, over one connection after the other.
pub struct SmtpSession {
    server: Arc<Server>,
    /// After a provisional `Sent`: the next reply on it is the proof.
    unproven: Option<Line>,
    /// After a 354: the body may follow, and nothing else.
    opened: Option<Line>,
}

/// A transaction that did not get to a 354.
struct Broken {
    why: String,
    /// The server ended a session in which it had taken messages: a new connection may do.
    worn_out: bool,
}

impl SmtpServer {
    /// Reads what TLS needs, once for all sessions. Connects to nothing.
    ///
    /// # Errors
    /// The certificate file cannot be used, or a name in the settings cannot be said to a server.
    pub fn new(settings: &SmtpSettings) -> Result<SmtpServer, Failure> {
        let hello = match &settings.hello {
            None => ClientId::default(),
            Some(hello) if !hello.is_empty() && hello.chars().all(|c| c.is_ascii_graphic()) => {
                ClientId::Domain(hello.clone())
            }
            Some(hello) => {
                let what = format!("{hello:?} cannot be said in EHLO");
                return Err(Failure::config(what, "set mail.smtp.hello to this host's full domain name"));
            }
        };
        let tls = match settings.tls {
            Tls::None => None,
            Tls::Starttls | Tls::Implicit => Some(tls_parameters(&settings.host, settings.ca_file.as_deref())?),
        };
        let pair = settings.credentials.clone();
        let credentials = pair.clone().map(|(user, password)| Credentials::new(user, password));
        let secrets = match (&credentials, &pair) {
            (Some(credentials), Some((_, password))) => line::secrets(credentials, password),
            _ => Vec::new(),
        };
        let name = format!("{}:{}", settings.host, settings.port);
        let server = Server { settings: settings.clone(), name, hello, tls, credentials, secrets };
        Ok(SmtpServer { server: Arc::new(server) })
    }

    /// A session of its own, not yet connected.
    pub fn session(&self) -> SmtpSession {
        SmtpSession { server: Arc::clone(&self.server), unproven: None, opened: None }
    }
}

impl Server {
    /// A text without anything that the server could repeat of the password.
    fn without_secrets(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[password]"))
    }
}

fn tls_parameters(host: &str, ca_file: Option<&Path>) -> Result<TlsParameters, Failure> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = ca_file {
        let unusable = |why: String| {
            let what = format!("the certificate file {} cannot be used: {why}", path.display());
            Failure::config(what, "set mail.smtp.ca_file to a PEM file with a CERTIFICATE in it")
        };
        let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
            return Err(unusable("it holds no certificate in PEM form".to_owned()));
        }
        let authority = Certificate::from_pem(&pem).map_err(|error| unusable(reply::cause(&error)))?;
        builder = builder.add_root_certificate(authority);
    }
    builder.build().map_err(|error| {
        let what = format!("TLS cannot be set up: {}", reply::cause(&error));
        Failure::config(what, "check mail.smtp.ca_file and mail.smtp.host")
    })
}

impl Session for SmtpSession {
    async fn open(&mut self, outgoing: &Outgoing) -> Opening {
        self.abandon();
        if let Some(reply) = body::unfit(outgoing) {
            return Opening { previous: self.close().await, opened: Ok(Opened::Judged(Fate::Refused { reply })) };
        }
        let mut previous = None;
        if let Some(line) = self.unproven.take() {
            let (proof, opened) = self.attempt(line, outgoing, true).await;
            previous = Some(proof);
            match opened {
                Err(broken) if broken.worn_out => {}
                opened => return Opening { previous, opened: opened.map_err(Unusable::from) },
            }
        }
        let opened = match Line::connect(&self.server).await {
            Err(why) => Err(Unusable { why }),
            Ok(line) => self.attempt(line, outgoing, false).await.1.map_err(Unusable::from),
        };
        Opening { previous, opened }
    }

    async fn finish(&mut self, outgoing: &Outgoing) -> Fate {
        let (Some(mut line), Some(text)) = (self.opened.take(), body::with_dot(outgoing)) else {
            return nothing_was_open();
        };
        line.wait_at_most(self.server.settings.dot_timeout);
        let name = &self.server.name;
        let reply = match line.say(&text).await {
            Ok(reply) => reply,
            Err(trouble) => return cut_short(line, &trouble, name).await,
        };
        line.wait_at_most(self.server.settings.timeout);
        if reply.takes_a_message() {
            self.unproven = Some(line);
            return Fate::Sent { reply: reply.text() };
        }
        if !reply.is_negative() || reply.code == 421 {
            return Fate::InDoubt { why: format!("{name} answered the final dot with {}", reply.text()) };
        }
        let fate = reply.judgement();
        let next = match (line.quit().await, &fate) {
            (Farewell::OutOfStep(next), _) => next,
            // A slow server's own answer may still be to come; to try again would then send twice.
            (Farewell::Silent, Fate::Deferred { .. }) => "nothing".to_owned(),
            _ => return fate,
        };
        Fate::InDoubt { why: format!("{name} answered the final dot with {}, then QUIT with {next}", reply.text()) }
    }

    async fn finish_and_open(&mut self, outgoing: &Outgoing, next: &Outgoing) -> Passing {
        let fits = |line: &mut Line| {
            line.offers.pipelining
                && line.offers.cannot_take(next, &self.server.name).is_none()
                && body::unfit(next).is_none()
        };
        let Some(mut line) = self.opened.take_if(fits) else {
            return Passing { fate: self.finish(outgoing).await, next: Next::NotBegun { proven: false } };
        };
        let over = |fate| Passing { fate, next: Next::NotBegun { proven: true } };
        let Some(text) = body::with_dot(outgoing) else { return over(nothing_was_open()) };
        let server = Arc::clone(&self.server);
        let (settings, name) = (&server.settings, &server.name);
        let (reply, heard) = match line.finish_and_transact(text, next, settings.dot_timeout, settings.timeout).await {
            Ok(answers) => answers,
            Err(trouble) => return over(cut_short(line, &trouble, name).await),
        };
        if reply.takes_a_message() {
            return match self.conclude(line, &heard, true).await {
                (InStep::Yes, Err(broken)) if broken.worn_out => over(Fate::Sent { reply: reply.text() }),
                (InStep::Yes, opened) => Passing {
                    fate: Fate::Sent { reply: reply.text() },
                    next: Next::Begun(opened.map_err(Unusable::from)),
                },
                (InStep::No { why }, opened) => {
                    Passing { fate: Fate::InDoubt { why }, next: Next::Begun(opened.map_err(Unusable::from)) }
                }
            };
        }
        if !reply.is_negative() || reply.code == 421 {
            return over(Fate::InDoubt { why: format!("{name} answered the final dot with {}", reply.text()) });
        }
        // Whatever was said to the next message, after an error the connection is dropped.
        let fate = reply.judgement();
        over(match self.speaks_against(line, &heard, &fate).await {
            None => fate,
            Some(then) => {
                Fate::InDoubt { why: format!("{name} answered the final dot with {}, but then: {then}", reply.text()) }
            }
        })
    }

    fn abandon(&mut self) {
        self.opened = None;
    }

    async fn close(&mut self) -> Option<InStep> {
        self.abandon();
        let line = self.unproven.take()?;
        Some(match line.quit().await {
            Farewell::Goodbye | Farewell::Gone | Farewell::Silent => InStep::Yes,
            Farewell::OutOfStep(text) => InStep::No { why: self.out_of_step("QUIT", &text) },
        })
    }
}

impl SmtpSession {
    /// One transaction on one connection, up to the 354. `unproven`: a provisional `Sent` came just before on it.
    async fn attempt(
        &mut self,
        mut line: Line,
        outgoing: &Outgoing,
        unproven: bool,
    ) -> (InStep, Result<Opened, Broken>) {
        if let Some(reply) = line.offers.cannot_take(outgoing, &self.server.name) {
            let judged = Ok(Opened::Judged(Fate::Refused { reply }));
            return match line.quit().await {
                Farewell::OutOfStep(text) => (InStep::No { why: self.out_of_step("QUIT", &text) }, judged),
                _ => (InStep::Yes, judged),
            };
        }
        line.wait_at_most(self.server.settings.timeout);
        let heard = line.transact(outgoing).await;
        self.conclude(line, &heard, unproven).await
    }

    /// What the answers to MAIL, RCPT and DATA say of the message before and of this one.
    async fn conclude(&mut self, mut line: Line, heard: &Heard, unproven: bool) -> (InStep, Result<Opened, Broken>) {
        let name = &self.server.name;
        match verdict(heard, name) {
            // The 354 is where it belongs, so the message before is sound. What follows it unasked would be taken for
            // the answer to the dot of this one.
            Verdict::Ready => {
                let why = match line.said_unasked().await {
                    None => {
                        self.opened = Some(line);
                        return (InStep::Yes, Ok(Opened::Ready));
                    }
                    Some(Ok(reply)) => format!("{name} said {} unasked after 354: out of step", reply.text()),
                    Some(Err(Trouble::Closed | Trouble::Broken(_))) => format!("{name} ended the connection after 354"),
                    Some(Err(trouble)) => trouble.at(name, "DATA"),
                };
                (InStep::Yes, Err(Broken { why, worn_out: false }))
            }
            Verdict::Judged { fate, after } => {
                self.refused(line, heard, after, unproven, Ok(Opened::Judged(fate))).await
            }
            Verdict::TurnedAway { why, after } => {
                self.refused(line, heard, after, unproven, Err(Broken { why, worn_out: false })).await
            }
            Verdict::Gone { why, at_mail } => (InStep::Yes, Err(Broken { why, worn_out: at_mail && unproven })),
            Verdict::Silent { why } => (InStep::Yes, Err(Broken { why, worn_out: false })),
            Verdict::OutOfStep { why } => (InStep::No { why: why.clone() }, Err(Broken { why, worn_out: false })),
        }
    }

    /// After a refusal: whether it, and the 2yz before it, can be believed.
    async fn refused(
        &self,
        line: Line,
        heard: &Heard,
        after: After,
        unproven: bool,
        opened: Result<Opened, Broken>,
    ) -> (InStep, Result<Opened, Broken>) {
        let why = match after {
            // The 354 is where it belongs. The line is dropped without a word.
            After::AwaitsBody => return (InStep::Yes, opened),
            After::Quit => match line.quit().await {
                Farewell::Goodbye => return (InStep::Yes, opened),
                Farewell::OutOfStep(text) => self.out_of_step("QUIT", &text),
                Farewell::Gone | Farewell::Silent if !heard.begins_with_a_refusal() || !unproven => {
                    return (InStep::Yes, opened);
                }
                Farewell::Gone | Farewell::Silent => self.perhaps_the_dots(heard),
            },
            After::Gone if heard.begins_with_a_refusal() && unproven => self.perhaps_the_dots(heard),
            After::Gone => return (InStep::Yes, opened),
        };
        (InStep::No { why: why.clone() }, Err(Broken { why, worn_out: false }))
    }

    /// What makes a refusal of the dot, with the next envelope in the same write, no answer to the dot; `None` when it
    /// can be believed.
    ///
    /// Were it a stray line, the dot's own answer would stand first in `heard`: a 2yz there needs proof that it is MAIL's.
    async fn speaks_against(&self, line: Line, heard: &Heard, fate: &Fate) -> Option<String> {
        let name = &self.server.name;
        let unproven = || heard.has_an_acceptance().then(|| format!("{name} fell silent before DATA was answered"));
        match verdict(heard, name) {
            Verdict::Ready | Verdict::Judged { after: After::AwaitsBody, .. } => None,
            Verdict::OutOfStep { why } => Some(why),
            Verdict::Judged { after: After::Quit, .. } | Verdict::TurnedAway { after: After::Quit, .. } => {
                match line.quit().await {
                    Farewell::Goodbye => None,
                    Farewell::OutOfStep(text) => Some(self.out_of_step("QUIT", &text)),
                    Farewell::Gone | Farewell::Silent => unproven(),
                }
            }
            // A slow server's own answer may still be to come; to try again would then send twice.
            Verdict::Silent { why } if matches!(fate, Fate::Deferred { .. }) => Some(why),
            Verdict::Silent { .. } | Verdict::Gone { .. } | Verdict::Judged { .. } | Verdict::TurnedAway { .. } => {
                unproven()
            }
        }
    }

    fn out_of_step(&self, command: &str, text: &str) -> String {
        format!("{} answered {command} with {text}: its replies are out of step", self.server.name)
    }

    fn perhaps_the_dots(&self, heard: &Heard) -> String {
        let text = heard.replies.first().map(reply::Reply::text).unwrap_or_default();
        let name = &self.server.name;
        format!("{name} said {text} to MAIL and nothing to QUIT: perhaps the late answer to the dot before")
    }
}

fn nothing_was_open() -> Fate {
    Fate::Deferred { reply: "not sent: no transaction was open".to_owned() }
}

/// No reply to the body. A server that breaks off in the middle of one may have said why: that can be read still.
async fn cut_short(mut line: Line, trouble: &Trouble, name: &str) -> Fate {
    if let Trouble::Broken(_) = trouble
        && let Ok(reply) = line.hear().await
        && reply.is_negative()
        && reply.code != 421
    {
        return reply.judgement();
    }
    Fate::InDoubt { why: trouble.at(name, "the final dot") }
}

impl From<Broken> for Unusable {
    fn from(broken: Broken) -> Unusable {
        Unusable { why: broken.why }
    }
}
