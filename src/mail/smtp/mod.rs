//! Sending over SMTP (RFC 5321), one recipient per transaction. lettre is used in this room, and for composing, only.
//!
//! Two questions decide over sending twice or not at all: who is meant by a reply, and which command is meant.
//!
//! Who: `verdict` says which replies judge a message and which only say that the server cannot be used.
//! Which: one stray line makes every later reply answer the command before. What has come unasked is looked for before
//! each command, at the 354 and just before the dot; what comes later than that shows in the next reply. So a reply to the
//! final dot, and a no to a recipient after which the connection is kept, are provisional until a later one on that
//! connection proves that replies are in step.
//!
//! | next on the connection                                | a 2yz to the dot before it | a 4yz or 5yz, 421 too |
//! |-------------------------------------------------------|----------------------------|-----------------------|
//! | 354 to DATA, 221 to QUIT                              | stands                     | stands                |
//! | it ends, falls silent, or says 421                    | stands: nothing speaks against it | in doubt       |
//! | a reply that the command cannot have, or half of one  | in doubt                   | in doubt              |
//! | a refusal, then 221 to QUIT                           | stands                     | stands                |
//! | a refusal of RCPT or DATA, then 250 to RSET           | waits on, and the refusal with it | (is not asked) |
//! | a refusal, then another reply to QUIT, or another or none to RSET | in doubt; the refusal judges nothing either | in doubt |
//! | a refusal of RCPT or DATA, then the connection ends   | stands: if late by one, the dot's own is MAIL's 250 | in doubt |
//! | a refusal of MAIL, then the connection ends           | in doubt: the refusal may be the dot's own | in doubt |
//!
//! A refusal that is believed although it was a stray line would send the message twice; so 421, after which servers mostly
//! go, mostly leaves it in doubt. Has anything come before the octets that carry the dot are written, they are not: then
//! the server cannot have the message, and the line judges or defers it with certainty.
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
mod tls;
mod verdict;
mod wire;

use std::sync::Arc;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::extension::ClientId;

use crate::domain::fate::{Extent, Fate, Unusable};
use crate::failure::Failure;
use crate::mail::session::{InStep, Next, Opened, Opening, Outgoing, Passing, Session};
use crate::settings::{SmtpSettings, Tls};

use self::line::{Farewell, Line, NoAnswer};
use self::reply::{Reply, Trouble};
use self::tls::TlsClient;
use self::verdict::{After, Heard, Verdict, verdict};

/// So many answers of one connection may wait for their proof; then it is asked for, by QUIT.
const MOST_UNPROVEN: usize = 5;

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
    tls: Option<TlsClient>,
    credentials: Option<Credentials>,
    secrets: Arc<[String]>,
}

/// One conversation with the server, over one connection after the other.
pub struct SmtpSession {
    server: Arc<Server>,
    /// Ready for MAIL.
    kept: Option<Kept>,
    /// After a 354: the body may follow, and nothing else.
    opened: Option<Line>,
}

/// A connection that was used and can be used again.
struct Kept {
    line: Line,
    /// How many answers on it wait for the 354 or 221 that proves them: a 2yz to a dot, noes to recipients.
    unproven: usize,
}

/// What the answers to MAIL, RCPT and DATA say.
struct Concluded {
    /// Of the answers before them; `None` when those wait on, and the judgement of this message with them.
    before: Option<InStep>,
    opened: Result<Opened, Broken>,
}

/// A transaction that did not get to a 354.
struct Broken {
    unusable: Unusable,
    /// The server ended a session in which it had taken messages: a new connection may do.
    worn_out: bool,
}

impl SmtpServer {
    /// The name said in EHLO.
    pub fn hello(&self) -> String {
        self.server.hello.to_string()
    }

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
            Tls::Starttls | Tls::Implicit => Some(TlsClient::new(&settings.host, settings.ca_file.as_deref())?),
        };
        let pair = settings.credentials.clone();
        let credentials = pair.clone().map(|(user, password)| Credentials::new(user, password));
        let secrets = match (&credentials, &pair) {
            (Some(credentials), Some((_, password))) => line::secrets(credentials, password),
            _ => Vec::new(),
        };
        let name = format!("{}:{}", settings.host, settings.port);
        let server = Server { settings: settings.clone(), name, hello, tls, credentials, secrets: secrets.into() };
        Ok(SmtpServer { server: Arc::new(server) })
    }

    /// A session of its own, not yet connected.
    pub fn session(&self) -> SmtpSession {
        SmtpSession { server: Arc::clone(&self.server), kept: None, opened: None }
    }
}

impl Session for SmtpSession {
    async fn open(&mut self, outgoing: &Outgoing) -> Opening {
        self.abandon();
        if let Some(reply) = body::unfit(outgoing) {
            let judged = Opened::Judged { fate: Fate::Refused { reply }, proven: true };
            return Opening { previous: self.close().await, opened: Ok(judged) };
        }
        let mut previous = None;
        if let Some(Kept { line, unproven }) = self.kept.take() {
            let concluded = self.attempt(line, outgoing, unproven).await;
            previous = concluded.before;
            match concluded.opened {
                Err(broken) if broken.worn_out => {}
                opened => return Opening { previous, opened: opened.map_err(Unusable::from) },
            }
        }
        let opened = match Line::connect(&self.server).await {
            Err(why) => Err(Unusable { what: Extent::Connection, why }),
            Ok(line) => self.attempt(line, outgoing, 0).await.opened.map_err(Unusable::from),
        };
        Opening { previous, opened }
    }

    async fn finish(&mut self, outgoing: &Outgoing) -> Fate {
        let Some(mut line) = self.opened.take() else { return nothing_was_open() };
        line.wait_at_most(self.server.settings.dot_timeout);
        let name = &self.server.name;
        let reply = match line.finish(&body::with_dot(outgoing)).await {
            Ok(reply) => reply,
            Err(no_answer) => return unanswered(no_answer, name),
        };
        line.wait_at_most(self.server.settings.timeout);
        if reply.takes_a_message() {
            self.kept = Some(Kept { line, unproven: 1 });
            return Fate::Sent { reply: reply.text() };
        }
        if !reply.is_negative() {
            return answered_with(&reply, name);
        }
        // Only in step is it the dot's own. Else the dot's may still be to come, and to try again would send twice.
        let next = match line.quit().await {
            Farewell::Goodbye => return reply.judgement(),
            Farewell::OutOfStep(next) => next,
            Farewell::Gone => "the end of the connection".to_owned(),
            Farewell::Silent => "nothing".to_owned(),
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
            return Passing { fate: self.finish(outgoing).await, proven: false, next: Next::NotBegun };
        };
        let over = |fate| Passing { fate, proven: true, next: Next::NotBegun };
        let server = Arc::clone(&self.server);
        let (settings, name) = (&server.settings, &server.name);
        line.wait_at_most(settings.dot_timeout);
        let body = body::with_dot(outgoing);
        let (reply, heard) = match line.finish_and_transact(body, next, settings.timeout).await {
            Ok(answers) => answers,
            Err(no_answer) => return over(unanswered(no_answer, name)),
        };
        if reply.takes_a_message() {
            let Concluded { before, opened } = self.conclude(line, &heard, 1).await;
            let (fate, proven) = match before {
                None => (Fate::Sent { reply: reply.text() }, false),
                Some(InStep::Yes) => (Fate::Sent { reply: reply.text() }, true),
                Some(InStep::No { why }) => (Fate::InDoubt { why }, true),
            };
            return match opened {
                Err(broken) if broken.worn_out => over(fate),
                opened => Passing { fate, proven, next: Next::Begun(opened.map_err(Unusable::from)) },
            };
        }
        if !reply.is_negative() {
            return over(answered_with(&reply, name));
        }
        // Whatever was said to the next message, after an error the connection is dropped.
        over(match self.speaks_against(line, &heard).await {
            None => reply.judgement(),
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
        Some(match self.kept.take()?.line.quit().await {
            Farewell::Goodbye | Farewell::Gone | Farewell::Silent => InStep::Yes,
            Farewell::OutOfStep(text) => InStep::No { why: self.out_of_step("QUIT", &text) },
        })
    }
}

impl SmtpSession {
    /// One transaction on one connection, up to the 354; `unproven` answers before it wait for their proof.
    async fn attempt(&mut self, mut line: Line, outgoing: &Outgoing, unproven: usize) -> Concluded {
        if let Some(fate) = line.offers.cannot_take(outgoing, &self.server.name) {
            let judged = Ok(Opened::Judged { fate, proven: true });
            return match line.quit().await {
                Farewell::OutOfStep(text) => Concluded::out_of_step(self.out_of_step("QUIT", &text), judged),
                _ => Concluded::in_step(judged),
            };
        }
        line.wait_at_most(self.server.settings.timeout);
        let heard = line.transact(outgoing).await;
        self.conclude(line, &heard, unproven).await
    }

    /// What the answers to MAIL, RCPT and DATA say of the messages before and of this one.
    async fn conclude(&mut self, mut line: Line, heard: &Heard, unproven: usize) -> Concluded {
        let name = &self.server.name;
        let broken = |unusable| Concluded::in_step(Err(Broken { unusable, worn_out: false }));
        match verdict(heard, name) {
            // The 354 is where it belongs, so what was before is sound. What follows it unasked would be taken for the
            // answer to the dot of this one.
            Verdict::Ready => match line.unasked().await {
                None => {
                    self.opened = Some(line);
                    Concluded::in_step(Ok(Opened::Ready))
                }
                Some(Ok(reply)) if reply.code == 421 => {
                    broken(at_recipient(format!("{name} said {} after 354", reply.text())))
                }
                Some(Ok(reply)) => {
                    broken(Unusable::server(format!("{name} said {} unasked after 354: out of step", reply.text())))
                }
                Some(Err(Trouble::Closed | Trouble::Broken(_))) => {
                    broken(at_recipient(format!("{name} ended the connection after 354")))
                }
                Some(Err(trouble)) => broken(Unusable::server(trouble.at(name, "DATA"))),
            },
            Verdict::Judged { fate, after } => {
                self.refused(line, heard, after, unproven, Ok(Opened::Judged { fate, proven: true })).await
            }
            Verdict::TurnedAway { why, after } => {
                self.refused(line, heard, after, unproven, Err(Broken::server(why))).await
            }
            Verdict::Gone { why, at_mail: true } => {
                Concluded::in_step(Err(Broken { unusable: Unusable::server(why), worn_out: unproven > 0 }))
            }
            Verdict::Silent { why, at_mail: true } => broken(Unusable::server(why)),
            Verdict::Gone { why, at_mail: false } => broken(at_recipient(why)),
            Verdict::Silent { why, at_mail: false } => broken(Unusable { what: Extent::SilentRecipient, why }),
            Verdict::OutOfStep { why } => Concluded::out_of_step(why.clone(), Err(Broken::server(why))),
        }
    }

    /// After a no: whether it, and what was before it, can be believed. A connection on which a recipient was refused is
    /// kept: a 250 to RSET shows that it is ready, and not that replies are in step, for MAIL and RCPT have the same.
    async fn refused(
        &mut self,
        mut line: Line,
        heard: &Heard,
        after: After,
        unproven: usize,
        opened: Result<Opened, Broken>,
    ) -> Concluded {
        let why = match (after, opened) {
            // The 354 is where it belongs. The line is dropped without a word.
            (After::AwaitsBody, opened) => return Concluded::in_step(opened),
            (After::Quit, Ok(Opened::Judged { fate, .. }))
                if !heard.begins_with_a_refusal() && unproven + 1 < MOST_UNPROVEN =>
            {
                let judged = |proven| Ok(Opened::Judged { fate, proven });
                match line.reset().await {
                    Ok(reply) if reply.code == 250 => {
                        self.kept = Some(Kept { line, unproven: unproven + 1 });
                        return Concluded { before: None, opened: judged(false) };
                    }
                    Ok(reply) if reply.code == 421 => return Concluded::in_step(judged(true)),
                    Err(trouble) if trouble.is_mere_end("250") => return Concluded::in_step(judged(true)),
                    Ok(reply) => self.out_of_step("RSET", &reply.text()),
                    Err(trouble) => trouble.at(&self.server.name, "RSET"),
                }
            }
            (After::Quit, opened) => match line.quit().await {
                Farewell::Goodbye => return Concluded::in_step(opened),
                Farewell::OutOfStep(text) => self.out_of_step("QUIT", &text),
                Farewell::Gone | Farewell::Silent if unproven == 0 || !heard.begins_with_a_refusal() => {
                    return Concluded::in_step(opened);
                }
                Farewell::Gone | Farewell::Silent => self.perhaps_the_dots(heard),
            },
            (After::Gone, _) if heard.begins_with_a_refusal() && unproven > 0 => self.perhaps_the_dots(heard),
            (After::Gone, opened) => return Concluded::in_step(opened),
        };
        Concluded::out_of_step(why.clone(), Err(Broken::server(why)))
    }

    /// What makes a refusal of the dot, with the next envelope in the same write, no answer to the dot; `None` when it
    /// can be believed: replies are in step.
    async fn speaks_against(&self, line: Line, heard: &Heard) -> Option<String> {
        let name = &self.server.name;
        match verdict(heard, name) {
            Verdict::Ready | Verdict::Judged { after: After::AwaitsBody, .. } => None,
            Verdict::Judged { after: After::Quit, .. } | Verdict::TurnedAway { after: After::Quit, .. } => {
                match line.quit().await {
                    Farewell::Goodbye => None,
                    Farewell::OutOfStep(text) => Some(self.out_of_step("QUIT", &text)),
                    Farewell::Gone | Farewell::Silent => Some(format!("{name} said nothing to QUIT")),
                }
            }
            Verdict::OutOfStep { why } | Verdict::Silent { why, .. } | Verdict::Gone { why, .. } => Some(why),
            Verdict::Judged { .. } | Verdict::TurnedAway { .. } => {
                Some(format!("{name} ended the connection before DATA was answered"))
            }
        }
    }

    fn out_of_step(&self, command: &str, text: &str) -> String {
        format!("{} answered {command} with {text}: its replies are out of step", self.server.name)
    }

    fn perhaps_the_dots(&self, heard: &Heard) -> String {
        let text = heard.replies.first().map(Reply::text).unwrap_or_default();
        let name = &self.server.name;
        format!("{name} said {text} to MAIL and nothing to QUIT: perhaps the late answer to the dot before")
    }
}

fn nothing_was_open() -> Fate {
    Fate::Deferred { reply: "not sent: no transaction was open".to_owned() }
}

/// An answer to the dot that is neither a yes nor a no.
fn answered_with(reply: &Reply, name: &str) -> Fate {
    Fate::InDoubt { why: format!("{name} answered the final dot with {}", reply.text()) }
}

/// No answer to the body.
fn unanswered(no_answer: NoAnswer, name: &str) -> Fate {
    match no_answer {
        NoAnswer::Unanswered(trouble) => Fate::InDoubt { why: trouble.at(name, "the final dot") },
        NoAnswer::NotEnded(Ok(reply)) if reply.is_negative() => reply.judgement(),
        NoAnswer::NotEnded(Ok(reply)) => {
            Fate::Deferred { reply: format!("not sent: {name} said {} before the final dot", reply.text()) }
        }
        NoAnswer::NotEnded(Err(trouble)) => {
            Fate::Deferred { reply: format!("not sent: {}", trouble.at(name, "the body")) }
        }
    }
}

/// The connection ended at this recipient.
fn at_recipient(why: String) -> Unusable {
    Unusable { what: Extent::Recipient, why }
}

impl Concluded {
    fn in_step(opened: Result<Opened, Broken>) -> Concluded {
        Concluded { before: Some(InStep::Yes), opened }
    }

    fn out_of_step(why: String, opened: Result<Opened, Broken>) -> Concluded {
        Concluded { before: Some(InStep::No { why }), opened }
    }
}

impl Broken {
    fn server(why: String) -> Broken {
        Broken { unusable: Unusable::server(why), worn_out: false }
    }
}

impl From<Broken> for Unusable {
    fn from(broken: Broken) -> Unusable {
        broken.unusable
    }
}
