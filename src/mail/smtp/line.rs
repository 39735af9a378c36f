//! One connection: how it comes about, one transaction on it, and how it ends.
//!
//! lettre reads through a buffer that it hides and that outlives the step to TLS, so a line that a server sends too
//! early is taken for the answer to the next command. Five checks stand against that: nothing may be waiting right
//! after STARTTLS (what was injected before it would be), AUTH must end in 235, the EHLO said here must come from the
//! host that answered the first one, DATA must be answered by exactly 354, and nothing may be waiting right after that.
//! Replies that are late by any number fail one of them before a body is written.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::Auth;
use lettre::transport::smtp::response::{Category, Code, Detail, Response, Severity};
use tokio::time::timeout;

use crate::mail::session::Outgoing;

use super::reply::{Reply, Trouble, clean, seconds, sort, trouble};
use super::verdict::{COMMANDS, Heard, goes_on};
use super::{Server, body};

/// The longest wait for the answer to QUIT.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what was injected before STARTTLS has to show; it lies in a buffer, so any time does.
const PEEK: Duration = Duration::from_millis(1);
const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];

/// A connection that is ready for MAIL. Dropping it closes the socket and writes nothing.
pub(super) struct Line {
    wire: AsyncSmtpConnection,
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

impl Line {
    /// Connects, goes over to TLS, authenticates, and learns what the server offers.
    ///
    /// The connection may take `connect_timeout`, and TLS from the first byte on, greeting and EHLO as long again.
    ///
    /// # Errors
    /// The server cannot be used; the text says why.
    pub async fn connect(server: &Server) -> Result<Line, String> {
        let settings = &server.settings;
        let waits = at_least(settings.connect_timeout);
        let address = (settings.host.as_str(), settings.port);
        let implicit = server.tls.clone().filter(|_| settings.tls == crate::settings::Tls::Implicit);
        let connecting = AsyncSmtpConnection::connect_tokio1(address, Some(waits), &server.hello, implicit, None);
        let wire = match timeout(waits * 2, connecting).await {
            Ok(connected) => connected.map_err(|error| unreached(server, &error, waits))?,
            Err(_) => return Err(did_not_greet(server, waits)),
        };
        let mut line = Line { wire, waits, offers: Offers::default() };
        if settings.tls == crate::settings::Tls::Starttls {
            line.starttls(server).await?;
        }
        if let Some(credentials) = &server.credentials {
            line.wait_at_most(settings.timeout);
            line.auth(server, credentials).await?;
        }
        line.wait_at_most(settings.timeout);
        line.ehlo(server).await?;
        Ok(line)
    }

    async fn starttls(&mut self, server: &Server) -> Result<(), String> {
        let name = &server.name;
        let parameters = match &server.tls {
            Some(parameters) if self.wire.can_starttls() => parameters,
            _ => return Err(format!("{name} does not offer STARTTLS, and nothing is sent in plain text")),
        };
        let upgrade = timeout(self.waits, self.wire.starttls(parameters.clone(), &server.hello)).await;
        let refused = match upgrade {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(sort(Err(error), self.waits)),
            Err(_) => Some(Err(Trouble::Silent(self.waits))),
        };
        match refused {
            None => {}
            Some(Ok(refused)) => return Err(format!("{name} answered STARTTLS with {}", refused.text())),
            Some(Err(Trouble::Broken(cause))) => return Err(format!("no TLS with {name} after STARTTLS: {cause}")),
            Some(Err(trouble)) => return Err(trouble.at(name, "STARTTLS")),
        }
        self.wait_at_most(PEEK);
        match self.hear().await {
            Err(Trouble::Silent(_)) => Ok(()),
            Ok(reply) => Err(format!("{name} said {} unasked after STARTTLS: injected, or out of step", reply.text())),
            Err(trouble) => Err(trouble.at(name, "STARTTLS")),
        }
    }

    async fn auth(&mut self, server: &Server, credentials: &Credentials) -> Result<(), String> {
        let name = &server.name;
        if self.wire.server_info().get_auth_mechanism(&MECHANISMS).is_none() {
            return Err(format!("{name} offers neither AUTH PLAIN nor AUTH LOGIN, but a user name is set"));
        }
        match heard_within(self.waits, self.wire.auth(&MECHANISMS, credentials)).await {
            Ok(reply) if reply.code == 235 => Ok(()),
            Ok(reply) => Err(format!("{name} answered AUTH with {}", clean(&server.without_secrets(&reply.whole())))),
            Err(trouble) => Err(server.without_secrets(&trouble.at(name, "AUTH"))),
        }
    }

    async fn ehlo(&mut self, server: &Server) -> Result<(), String> {
        let name = &server.name;
        let reply =
            self.say(&format!("EHLO {}\r\n", server.hello)).await.map_err(|trouble| trouble.at(name, "EHLO"))?;
        if reply.code != 250 {
            return Err(format!("{name} answered EHLO with {}", reply.text()));
        }
        // After AUTH a proxy may hand over to another host, and there the 235 has shown that replies are in step.
        let host = reply.lines.first().and_then(|line| line.split_whitespace().next()).unwrap_or_default();
        if server.credentials.is_none() && !host.eq_ignore_ascii_case(self.wire.server_info().name()) {
            return Err(format!("{name} answered EHLO with {}: its replies are out of step", reply.text()));
        }
        self.offers = Offers::read(&reply);
        Ok(())
    }

    /// Sets how long the server may take for each answer from now on.
    pub fn wait_at_most(&mut self, longest: Duration) {
        self.waits = at_least(longest);
    }

    /// Writes a text in one go and reads one reply.
    pub async fn say(&mut self, text: &str) -> Result<Reply, Trouble> {
        heard_within(self.waits, self.wire.command(text)).await
    }

    /// Reads one more reply.
    pub async fn hear(&mut self) -> Result<Reply, Trouble> {
        heard_within(self.waits, self.wire.read_response()).await
    }

    /// What the server has said although nothing was asked of it, or that it has gone. Waits for nothing.
    ///
    /// Half a line is not told of, and is lost: what comes after it is then no reply, or a late one.
    pub async fn said_unasked(&mut self) -> Option<Result<Reply, Trouble>> {
        let mut answer = pin!(self.wire.read_response());
        match poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await {
            Poll::Ready(answer) => Some(sort(answer, self.waits)),
            Poll::Pending => None,
        }
    }

    /// MAIL, RCPT and DATA: in one write where the server offers PIPELINING (RFC 2920), else one by one.
    pub async fn transact(&mut self, outgoing: &Outgoing) -> Heard {
        let commands = self.commands(outgoing);
        let mut heard = Heard::default();
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
        while heard.replies.len() < COMMANDS.len() && heard.take(self.hear().await) {}
    }

    /// The end of one message and MAIL, RCPT and DATA of the next in one write, which RFC 2920 §3.1 allows: only
    /// where the server offers PIPELINING. The answer to the dot, then the answers to the three.
    ///
    /// `patience` is for the answer to the dot, `timeout` for those after it.
    ///
    /// # Errors
    /// The dot was not answered: nothing is known of the message, and nothing of the next was begun.
    pub async fn finish_and_transact(
        &mut self,
        body: String,
        next: &Outgoing,
        patience: Duration,
        timeout: Duration,
    ) -> Result<(Reply, Heard), Trouble> {
        let mut text = body;
        for command in self.commands(next) {
            text.push_str(&command);
        }
        self.wait_at_most(patience);
        let reply = self.say(&text).await?;
        self.wait_at_most(timeout);
        let mut heard = Heard::default();
        // After a 421 nothing more comes.
        if reply.code != 421 {
            self.hear_the_rest(&mut heard).await;
        }
        Ok((reply, heard))
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

    /// Says QUIT and closes. Never after a 354: there it would be the first line of the body.
    pub async fn quit(mut self) -> Farewell {
        self.wait_at_most(self.waits.min(QUIT_TIMEOUT));
        match self.say("QUIT\r\n").await {
            Ok(reply) => match reply.code {
                221 => Farewell::Goodbye,
                421 => Farewell::Gone,
                _ => Farewell::OutOfStep(reply.text()),
            },
            Err(Trouble::Closed | Trouble::Broken(_)) => Farewell::Gone,
            Err(Trouble::Silent(_)) => Farewell::Silent,
            Err(Trouble::Nonsense(text)) => Farewell::OutOfStep(text),
        }
    }
}

impl Offers {
    fn read(ehlo: &Reply) -> Offers {
        let mut offers = Offers::default();
        for line in ehlo.lines.iter().skip(1) {
            let mut words = line.split_whitespace();
            match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
                "PIPELINING" => offers.pipelining = true,
                "SMTPUTF8" => offers.smtputf8 = true,
                "SIZE" => {
                    let limit = words.next().and_then(|limit| limit.parse().ok());
                    offers.size = Some(limit.filter(|&limit| limit > 0));
                }
                _ => {}
            }
        }
        offers
    }

    /// Says why this server cannot take this message; `None` when it can.
    pub fn cannot_take(&self, outgoing: &Outgoing, server: &str) -> Option<String> {
        if needs_smtputf8(outgoing) && !self.smtputf8 {
            return Some(format!("not sent: the address needs SMTPUTF8, which {server} does not offer"));
        }
        let (size, limit) = (body::size(outgoing), self.size.flatten()?);
        (size > limit).then(|| format!("not sent: {size} octets, and {server} takes at most {limit} (SIZE)"))
    }
}

/// One answer, or why there is none. What is written before it counts for the time too.
async fn heard_within(
    longest: Duration,
    answer: impl Future<Output = Result<Response, Error>>,
) -> Result<Reply, Trouble> {
    match timeout(longest, answer).await {
        Ok(answer) => sort(answer, longest),
        Err(_) => Err(Trouble::Silent(longest)),
    }
}

/// The forms of the password that a server might repeat in its reply to AUTH.
pub(super) fn secrets(credentials: &Credentials, password: &str) -> Vec<String> {
    let digit = Code::new(Severity::PositiveIntermediate, Category::Unspecified3, Detail::Four);
    let asks_for_password = Response::new(digit, vec!["UGFzc3dvcmQ6".to_owned()]);
    let plain = Auth::new(Mechanism::Plain, credentials.clone(), None);
    let login = Auth::new_from_response(Mechanism::Login, credentials.clone(), &asks_for_password);
    let encoded = [plain, login].into_iter().flatten().map(|auth| auth.to_string());
    let words = encoded.map(|said| said.split_whitespace().last().unwrap_or_default().to_owned());
    words.chain([password.to_owned()]).filter(|secret| !secret.is_empty()).collect()
}

fn needs_smtputf8(outgoing: &Outgoing) -> bool {
    !outgoing.envelope_from.is_ascii() || outgoing.recipient.needs_smtputf8()
}

/// None at all is no time to answer in.
fn at_least(timeout: Duration) -> Duration {
    timeout.max(PEEK)
}

fn unreached(server: &Server, error: &Error, waited: Duration) -> String {
    let name = &server.name;
    if let Some(code) = error.status() {
        let text = super::reply::cause(error);
        return format!("the mail server {name} turned the connection away with {}", clean(&format!("{code} {text}")));
    }
    match trouble(error, waited) {
        Trouble::Closed => format!("the mail server {name} closed the connection before it answered EHLO"),
        Trouble::Broken(cause) => format!("could not reach the mail server {name}: {cause}"),
        Trouble::Silent(waited) => did_not_greet(server, waited),
        Trouble::Nonsense(text) => format!("the mail server {name} greeted with what is no SMTP reply: {text}"),
    }
}

fn did_not_greet(server: &Server, waited: Duration) -> String {
    format!("the mail server {} did not greet within {}", server.name, seconds(waited))
}
