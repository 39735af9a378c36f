//! One connection: how it comes about, one transaction on it, and how it ends.
//!
//! Before each command, right after the 354 and just before the octets that carry the final dot, nothing may have come
//! unasked. What comes later by any number of replies fails one of the strict checks before a body is written: the
//! greeting is 220, EHLO 250, STARTTLS 220 and then TLS, AUTH 235, DATA exactly 354.

use std::sync::Arc;
use std::time::Duration;

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::commands::Auth;
use lettre::transport::smtp::response::{Category, Code, Detail, Response, Severity};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::domain::fate::Fate;
use crate::mail::session::Outgoing;
use crate::settings;

use super::reply::{Reply, Trouble, seconds};
use super::verdict::{COMMANDS, Heard, goes_on};
use super::wire::{Deadline, Wire};
use super::{Server, body};

/// The longest wait for the answer to QUIT.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);
/// None at all is no time to answer in.
const LEAST_TIMEOUT: Duration = Duration::from_millis(1);
/// A body longer than this goes in parts; between them what the server says is heard.
const PART: usize = 64 * 1024;
/// The last part of such a body, with the dot.
const LAST_PART: usize = 4 * 1024;
/// What AUTH LOGIN asks, in base64: `Username:` and `Password:`.
const LOGIN_QUESTIONS: [&str; 2] = ["VXNlcm5hbWU6", "UGFzc3dvcmQ6"];

/// A connection that is ready for MAIL. Dropping it closes the socket and writes nothing.
pub(super) struct Line {
    wire: Wire,
    waits: Duration,
    pub offers: Offers,
}

/// What the server's EHLO reply offers of what matters here.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offers {
    pub pipelining: bool,
    /// SIZE was offered; with the limit, if there is one (RFC 1870 §4: 0 is none).
    pub size: Option<Option<usize>>,
    pub smtputf8: bool,
    /// It was greeted with HELO: what it could do is not known.
    knows_only_helo: bool,
    starttls: bool,
    auth_plain: bool,
    auth_login: bool,
}

/// What came back for QUIT.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// 221: every reply before it belonged to the command before it.
    Goodbye,
    /// The connection ended, or 421.
    Gone,
    Silent,
    /// A reply that belongs to an earlier command.
    OutOfStep(String),
}

/// Why a body has no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The dot was not written, so the server cannot have a whole message. What it said, or what happened.
    NotEnded(Result<Reply, Trouble>),
    /// The dot may have arrived.
    Unanswered(Trouble),
}

impl Line {
    /// Connects, goes over to TLS, authenticates, and learns what the server offers.
    ///
    /// Each address may take `connect_timeout`, and TLS from the first byte on, greeting and EHLO as long again.
    ///
    /// # Errors
    /// This connection did not come about; the text says why.
    pub async fn connect(server: &Server) -> Result<Line, String> {
        let settings = &server.settings;
        let waits = settings.connect_timeout.max(LEAST_TIMEOUT);
        let wire = Wire::new(reach(server, waits).await?, Arc::clone(&server.secrets));
        let mut line = Line { wire, waits, offers: Offers::default() };
        let deadline = Deadline::after(waits);
        if settings.tls == settings::Tls::Implicit {
            line = line.over_tls(server, deadline).await.map_err(|trouble| ungreeted(server, trouble))?;
        }
        let greeting = line.wire.hear(deadline).await.map_err(|trouble| ungreeted(server, trouble))?;
        if greeting.code != 220 {
            return Err(turned_away(server, &greeting));
        }
        line.ehlo(server, deadline, |trouble| ungreeted(server, trouble)).await?;
        if settings.tls == settings::Tls::Starttls {
            line = line.starttls(server).await?;
        }
        line.wait_at_most(settings.timeout);
        if let Some(credentials) = &server.credentials {
            line.auth(server, credentials).await?;
            // A proxy may have handed over to another host, which offers other things.
            let deadline = Deadline::after(line.waits);
            line.ehlo(server, deadline, |trouble| trouble.at(&server.name, "EHLO")).await?;
        }
        Ok(line)
    }

    async fn over_tls(self, server: &Server, deadline: Deadline) -> Result<Line, Trouble> {
        let Some(tls) = &server.tls else { return Err(Trouble::Broken("TLS was not set up".to_owned())) };
        let wire = self.wire.over_tls(&tls.config, &tls.host, deadline).await?;
        Ok(Line { wire, ..self })
    }

    /// EHLO, or HELO where the server knows only that and nothing is wanted that needs more (RFC 5321 §3.2).
    async fn ehlo(
        &mut self,
        server: &Server,
        deadline: Deadline,
        no_answer: impl Fn(Trouble) -> String,
    ) -> Result<(), String> {
        let reply = self.ask(&format!("EHLO {}\r\n", server.hello), deadline).await.map_err(&no_answer)?;
        if reply.code == 250 {
            self.offers = Offers::read(&reply);
            return Ok(());
        }
        let wants_more = server.credentials.is_some() || server.settings.tls != settings::Tls::None;
        if !matches!(reply.code, 500 | 501 | 502 | 504 | 550) || wants_more {
            return Err(turned_away(server, &reply));
        }
        let second = self.ask(&format!("HELO {}\r\n", server.hello), deadline).await.map_err(&no_answer)?;
        match second.code {
            250 => {
                self.offers.knows_only_helo = true;
                Ok(())
            }
            _ => Err(turned_away(server, &reply)),
        }
    }

    async fn starttls(mut self, server: &Server) -> Result<Line, String> {
        let name = &server.name;
        if !self.offers.starttls {
            return Err(format!("{name} does not offer STARTTLS, and nothing is sent in plain text"));
        }
        let deadline = Deadline::after(self.waits);
        match self.ask("STARTTLS\r\n", deadline).await {
            Ok(reply) if reply.code == 220 => {}
            Ok(reply) => return Err(format!("{name} answered STARTTLS with {}", reply.text())),
            Err(trouble) => return Err(trouble.at(name, "STARTTLS")),
        }
        // What was injected before TLS must not count as said under it.
        match self.wire.unasked().await {
            None => {}
            Some(Ok(reply)) => {
                return Err(format!("{name} said {} unasked after STARTTLS: injected, or out of step", reply.text()));
            }
            Some(Err(trouble)) => return Err(trouble.at(name, "STARTTLS")),
        }
        let mut line = self.over_tls(server, deadline).await.map_err(|trouble| match trouble {
            Trouble::Broken(cause) => format!("no TLS with {name} after STARTTLS: {cause}"),
            trouble => trouble.at(name, "STARTTLS"),
        })?;
        line.offers = Offers::default();
        line.ehlo(server, deadline, |trouble| trouble.at(name, "EHLO")).await?;
        Ok(line)
    }

    async fn auth(&mut self, server: &Server, credentials: &Credentials) -> Result<(), String> {
        let name = &server.name;
        let words = match self.offers {
            Offers { auth_plain: true, .. } => vec![plain(credentials)],
            Offers { auth_login: true, .. } => {
                let begin = [Ok("AUTH LOGIN\r\n".to_owned())];
                begin.into_iter().chain(LOGIN_QUESTIONS.map(|question| login(credentials, question))).collect()
            }
            _ => return Err(format!("{name} offers neither AUTH PLAIN nor AUTH LOGIN, but a user name is set")),
        };
        let last = words.len() - 1;
        for (at, word) in words.into_iter().enumerate() {
            let wanted = if at == last { 235 } else { 334 };
            match self.say(&word?).await {
                Ok(reply) if reply.code == wanted => {}
                Ok(reply) => {
                    return Err(format!("{name} answered AUTH with {}", reply.text()));
                }
                Err(trouble) => return Err(trouble.at(name, "AUTH")),
            }
        }
        Ok(())
    }

    /// Sets how long the server may take for each answer from now on.
    pub fn wait_at_most(&mut self, longest: Duration) {
        self.waits = longest.max(LEAST_TIMEOUT);
    }

    /// Writes a text in one go and reads one reply, unless something has come before.
    pub async fn say(&mut self, text: &str) -> Result<Reply, Trouble> {
        self.ask(text, Deadline::after(self.waits)).await
    }

    async fn ask(&mut self, text: &str, deadline: Deadline) -> Result<Reply, Trouble> {
        match self.wire.unasked().await {
            None => {}
            Some(Ok(reply)) => return Err(Trouble::Unasked(reply)),
            Some(Err(trouble)) => return Err(trouble),
        }
        if let Err(trouble) = self.wire.write(text.as_bytes(), deadline).await {
            // It has gone, and may have said so before it went; nothing else would be an answer.
            return match self.wire.unasked().await {
                Some(Ok(reply)) if reply.code == 421 => Ok(reply),
                Some(Ok(reply)) => Err(Trouble::Unasked(reply)),
                _ => Err(trouble),
            };
        }
        self.wire.hear(deadline).await
    }

    /// What the server has said although nothing was asked of it, or that it has gone. Waits for nothing.
    pub async fn unasked(&mut self) -> Option<Result<Reply, Trouble>> {
        self.wire.unasked().await
    }

    /// MAIL, RCPT and DATA: in one write where the server offers PIPELINING (RFC 2920), else one by one.
    pub async fn transact(&mut self, outgoing: &Outgoing) -> Heard {
        let commands = self.commands(outgoing);
        let mut heard = Heard::of(needs_smtputf8(outgoing));
        if self.offers.pipelining {
            if heard.take(self.say(&commands.concat()).await) {
                self.hear_the_rest(&mut heard).await;
            }
            return heard;
        }
        for (at, command) in commands.iter().enumerate() {
            if !heard.take(self.say(command).await) || !goes_on(at, &heard.replies[at]) {
                break;
            }
        }
        heard
    }

    /// Takes the answers to MAIL, RCPT and DATA that are still to come, until there is none, or a 421.
    async fn hear_the_rest(&mut self, heard: &mut Heard) {
        while heard.replies.len() < COMMANDS.len() && heard.take(self.wire.hear(Deadline::after(self.waits)).await) {}
    }

    /// A body with its final dot, and the answer to it.
    ///
    /// # Errors
    /// There is none; whether the dot was written is told.
    pub async fn finish(&mut self, body: &[u8]) -> Result<Reply, NoAnswer> {
        self.end_body(body, body.len()).await
    }

    /// The end of one message and MAIL, RCPT and DATA of the next in one write, which RFC 2920 §3.1 allows: only
    /// where the server offers PIPELINING. The answer to the dot, then the answers to the three.
    ///
    /// `timeout` is for each of the answers after the dot's.
    ///
    /// # Errors
    /// The dot was not answered: nothing of the next was begun.
    pub async fn finish_and_transact(
        &mut self,
        mut body: Vec<u8>,
        next: &Outgoing,
        timeout: Duration,
    ) -> Result<(Reply, Heard), NoAnswer> {
        let dot = body.len();
        for command in self.commands(next) {
            body.extend_from_slice(command.as_bytes());
        }
        let reply = self.end_body(&body, dot).await?;
        self.wait_at_most(timeout);
        if reply.code == 421 {
            // Mostly nothing more comes.
            self.wait_at_most(timeout.min(QUIT_TIMEOUT));
        }
        let mut heard = Heard::of(needs_smtputf8(next));
        self.hear_the_rest(&mut heard).await;
        Ok((reply, heard))
    }

    /// Writes a body, whose final dot ends at `dot`, and what follows it.
    async fn end_body(&mut self, octets: &[u8], dot: usize) -> Result<Reply, NoAnswer> {
        let deadline = Deadline::after(self.waits);
        let last = if octets.len() <= PART { 0 } else { dot.saturating_sub(LAST_PART) };
        for part in octets[..last].chunks(PART) {
            self.nothing_has_come().await?;
            if let Err(trouble) = self.wire.write(part, deadline).await {
                // Without the dot it cannot be a message; the server may have said what it has against it.
                let said = self.wire.hear(Deadline::after(QUIT_TIMEOUT)).await;
                return Err(NoAnswer::NotEnded(said.map_err(|_| trouble)));
            }
        }
        self.nothing_has_come().await?;
        self.wire.write(&octets[last..], deadline).await.map_err(NoAnswer::Unanswered)?;
        self.wire.hear(deadline).await.map_err(NoAnswer::Unanswered)
    }

    async fn nothing_has_come(&mut self) -> Result<(), NoAnswer> {
        self.wire.unasked().await.map_or(Ok(()), |said| Err(NoAnswer::NotEnded(said)))
    }

    fn commands(&self, outgoing: &Outgoing) -> [String; 3] {
        let mut mail = format!("MAIL FROM:<{}>", outgoing.envelope_from);
        if self.offers.size.is_some() {
            mail.push_str(&format!(" SIZE={}", body::size(outgoing)));
        }
        if needs_smtputf8(outgoing) {
            mail.push_str(" SMTPUTF8");
        }
        [mail + "\r\n", format!("RCPT TO:<{}>\r\n", outgoing.recipient.envelope()), "DATA\r\n".to_owned()]
    }

    /// Says RSET, which leaves the connection ready for another MAIL when it is answered with 250.
    pub async fn reset(&mut self) -> Result<Reply, Trouble> {
        self.say("RSET\r\n").await
    }

    /// Says QUIT and closes. Never after a 354: there it would be the first line of the body.
    pub async fn quit(mut self) -> Farewell {
        self.wait_at_most(self.waits.min(QUIT_TIMEOUT));
        match self.say("QUIT\r\n").await {
            Ok(reply) => match reply.code {
                221 => Farewell::Goodbye,
                421 => Farewell::Gone,
                _ => Farewell::OutOfStep(reply.text()),
            },
            Err(trouble) if trouble.is_mere_end("221") => Farewell::Gone,
            Err(Trouble::Silent(_)) => Farewell::Silent,
            Err(Trouble::Unasked(reply)) => Farewell::OutOfStep(reply.text()),
            Err(Trouble::Half { said, .. } | Trouble::Nonsense(said)) => Farewell::OutOfStep(said),
            Err(Trouble::Closed | Trouble::Broken(_)) => Farewell::Gone,
        }
    }
}

impl Offers {
    /// Keywords and mechanisms are known in any case (RFC 5321 §4.1.1.1).
    fn read(ehlo: &Reply) -> Offers {
        let mut offers = Offers::default();
        for line in ehlo.lines.iter().skip(1) {
            let line = line.to_ascii_uppercase();
            // Old servers offer `AUTH=LOGIN`.
            let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
            match words.next().unwrap_or_default() {
                "PIPELINING" => offers.pipelining = true,
                "SMTPUTF8" => offers.smtputf8 = true,
                "STARTTLS" => offers.starttls = true,
                "AUTH" => {
                    for mechanism in words {
                        offers.auth_plain |= mechanism == "PLAIN";
                        offers.auth_login |= mechanism == "LOGIN";
                    }
                }
                "SIZE" => {
                    let limit = words.next().and_then(|limit| limit.parse().ok());
                    offers.size = Some(limit.filter(|&limit| limit > 0));
                }
                _ => {}
            }
        }
        offers
    }

    /// Says why this server cannot take this message; `None` when it can. A server that was greeted with HELO may offer
    /// more another time.
    pub fn cannot_take(&self, outgoing: &Outgoing, server: &str) -> Option<Fate> {
        if needs_smtputf8(outgoing) && !self.smtputf8 {
            let reply = format!("not sent: the address needs SMTPUTF8, which {server} does not offer");
            return Some(if self.knows_only_helo { Fate::Deferred { reply } } else { Fate::Refused { reply } });
        }
        let (size, limit) = (body::size(outgoing), self.size.flatten()?);
        let reply = || format!("not sent: {size} octets, and {server} takes at most {limit} (SIZE)");
        (size > limit).then(|| Fate::Refused { reply: reply() })
    }
}

/// The forms of the password that a server might repeat in its reply to AUTH.
pub(super) fn secrets(credentials: &Credentials, password: &str) -> Vec<String> {
    let encoded = [plain(credentials), login(credentials, LOGIN_QUESTIONS[1])].into_iter().flatten();
    let words = encoded.map(|said| said.split_whitespace().last().unwrap_or_default().to_owned());
    words.chain([password.to_owned()]).filter(|secret| !secret.is_empty()).collect()
}

fn plain(credentials: &Credentials) -> Result<String, String> {
    let auth = Auth::new(Mechanism::Plain, credentials.clone(), None);
    auth.map(|auth| auth.to_string()).map_err(|error| error.to_string())
}

fn login(credentials: &Credentials, question: &str) -> Result<String, String> {
    let asked = Code::new(Severity::PositiveIntermediate, Category::Unspecified3, Detail::Four);
    let question = Response::new(asked, vec![question.to_owned()]);
    let auth = Auth::new_from_response(Mechanism::Login, credentials.clone(), &question);
    auth.map(|auth| auth.to_string()).map_err(|error| error.to_string())
}

fn needs_smtputf8(outgoing: &Outgoing) -> bool {
    !outgoing.envelope_from.is_ascii() || outgoing.recipient.needs_smtputf8()
}

/// Connects to the first address of the server that answers; each may take `waits`.
async fn reach(server: &Server, waits: Duration) -> Result<TcpStream, String> {
    let could_not = |why: String| format!("could not reach the mail server {}: {why}", server.name);
    let host = server.settings.host.trim_matches(['[', ']']);
    let addresses = match timeout(waits, lookup_host((host, server.settings.port))).await {
        Ok(found) => found.map_err(|error| could_not(error.to_string()))?,
        Err(_) => return Err(could_not(format!("its name was not found within {}", seconds(waits)))),
    };
    let mut last = "its name has no address".to_owned();
    for address in addresses {
        match timeout(waits, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = format!("no answer within {}", seconds(waits)),
        }
    }
    Err(could_not(last))
}

fn ungreeted(server: &Server, trouble: Trouble) -> String {
    let name = &server.name;
    match trouble {
        Trouble::Closed => format!("the mail server {name} closed the connection before it answered EHLO"),
        Trouble::Broken(cause) => format!("could not reach the mail server {name}: {cause}"),
        Trouble::Silent(waited) => format!("the mail server {name} did not greet within {}", seconds(waited)),
        Trouble::Nonsense(text) => format!("the mail server {name} greeted with what is no SMTP reply: {text}"),
        trouble @ (Trouble::Half { .. } | Trouble::Unasked(_)) => {
            trouble.at(&format!("the mail server {name}"), "EHLO")
        }
    }
}

fn turned_away(server: &Server, reply: &Reply) -> String {
    format!("the mail server {} turned the connection away with {}", server.name, reply.text())
}
