//! One connection: how it comes about, one transaction on it, and how it ends.
//!
//! lettre reads through a buffer that it hides and that outlives the step to TLS, so a line that a server sends too
//! early is taken for the answer to the next command. Four checks stand against that: nothing may be waiting right
//! after STARTTLS (what was injected before it would be), AUTH must end in 235, the EHLO said here must come from the
//! host that answered the first one, and DATA must be answered by exactly 354. Replies that are late by any number
//! fail one of them before a body is written.

use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::SmtpConnection;
use lettre::transport::smtp::commands::Auth;
use lettre::transport::smtp::response::{Category, Code, Detail, Response, Severity};

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
    wire: SmtpConnection,
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
    /// lettre reads the greeting and the answer to its own EHLO within the connection's timeout.
    ///
    /// # Errors
    /// The server cannot be used; the text says why.
    pub fn connect(server: &Server) -> Result<Line, String> {
        let settings = &server.settings;
        let waits = at_least(settings.connect_timeout);
        let address = (settings.host.as_str(), settings.port);
        let implicit = server.tls.as_ref().filter(|_| settings.tls == crate::settings::Tls::Implicit);
        let wire = SmtpConnection::connect(address, Some(waits), &server.hello, implicit, None)
            .map_err(|error| unreached(server, &error, waits))?;
        let mut line = Line { wire, waits, offers: Offers::default() };
        if settings.tls == crate::settings::Tls::Starttls {
            line.starttls(server)?;
        }
        if let Some(credentials) = &server.credentials {
            line.wait_at_most(settings.timeout);
            line.auth(server, credentials)?;
        }
        line.wait_at_most(settings.timeout);
        line.ehlo(server)?;
        Ok(line)
    }

    fn starttls(&mut self, server: &Server) -> Result<(), String> {
        let name = &server.name;
        let parameters = match &server.tls {
            Some(parameters) if self.wire.can_starttls() => parameters,
            _ => return Err(format!("{name} does not offer STARTTLS, and nothing is sent in plain text")),
        };
        self.wire.starttls(parameters, &server.hello).map_err(|error| match sort(Err(error), self.waits) {
            Ok(refused) => format!("{name} answered STARTTLS with {}", refused.text()),
            Err(Trouble::Broken(cause)) => format!("no TLS with {name} after STARTTLS: {cause}"),
            Err(trouble) => trouble.at(name, "STARTTLS"),
        })?;
        self.wait_at_most(PEEK);
        match self.hear() {
            Err(Trouble::Silent(_)) => Ok(()),
            Ok(reply) => Err(format!("{name} said {} unasked after STARTTLS: injected, or out of step", reply.text())),
            Err(trouble) => Err(trouble.at(name, "STARTTLS")),
        }
    }

    fn auth(&mut self, server: &Server, credentials: &Credentials) -> Result<(), String> {
        let name = &server.name;
        if self.wire.server_info().get_auth_mechanism(&MECHANISMS).is_none() {
            return Err(format!("{name} offers neither AUTH PLAIN nor AUTH LOGIN, but a user name is set"));
        }
        match sort(self.wire.auth(&MECHANISMS, credentials), self.waits) {
            Ok(reply) if reply.code == 235 => Ok(()),
            Ok(reply) => Err(format!("{name} answered AUTH with {}", clean(&server.without_secrets(&reply.whole())))),
            Err(trouble) => Err(server.without_secrets(&trouble.at(name, "AUTH"))),
        }
    }

    fn ehlo(&mut self, server: &Server) -> Result<(), String> {
        let name = &server.name;
        let reply = self.say(&format!("EHLO {}\r\n", server.hello)).map_err(|trouble| trouble.at(name, "EHLO"))?;
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
        let longest = at_least(longest);
        if longest != self.waits && self.wire.set_timeout(Some(longest)).is_ok() {
            self.waits = longest;
        }
    }

    /// Writes a text in one go and reads one reply.
    pub fn say(&mut self, text: &str) -> Result<Reply, Trouble> {
        sort(self.wire.command(text), self.waits)
    }

    /// Reads one more reply.
    pub fn hear(&mut self) -> Result<Reply, Trouble> {
        sort(self.wire.read_response(), self.waits)
    }

    /// MAIL, RCPT and DATA: in one write where the server offers PIPELINING (RFC 2920), else one by one.
    pub fn transact(&mut self, outgoing: &Outgoing) -> Heard {
        let commands = self.commands(outgoing);
        if self.offers.pipelining {
            let all = commands.concat();
            return hear_all(|at| if at == 0 { self.say(&all) } else { self.hear() }, |_, _| true);
        }
        hear_all(|at| self.say(&commands[at]), goes_on)
    }

    /// The end of one message and MAIL, RCPT and DATA of the next in one write, which RFC 2920 §3.1 allows: only
    /// where the server offers PIPELINING. The answer to the dot, then the answers to the three.
    ///
    /// `patience` is for the answer to the dot, `timeout` for those after it.
    ///
    /// # Errors
    /// The dot was not answered: nothing is known of the message, and nothing of the next was begun.
    pub fn finish_and_transact(
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
        let reply = self.say(&text)?;
        self.wait_at_most(timeout);
        // After a 421 nothing more comes.
        let heard = if reply.code == 421 { Heard::default() } else { hear_all(|_| self.hear(), |_, _| true) };
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
    pub fn quit(mut self) -> Farewell {
        self.wait_at_most(self.waits.min(QUIT_TIMEOUT));
        match self.say("QUIT\r\n") {
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

/// Takes the answers to MAIL, RCPT and DATA, until there is none, a 421, or one after which `goes_on` says no.
fn hear_all(mut answer: impl FnMut(usize) -> Result<Reply, Trouble>, goes_on: impl Fn(usize, &Reply) -> bool) -> Heard {
    let mut heard = Heard::default();
    for at in 0..COMMANDS.len() {
        match answer(at) {
            Err(trouble) => {
                heard.trouble = Some(trouble);
                break;
            }
            Ok(reply) => {
                let last = reply.code == 421 || !goes_on(at, &reply);
                heard.replies.push(reply);
                if last {
                    break;
                }
            }
        }
    }
    heard
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

/// The system takes a timeout of zero for none at all.
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
        Trouble::Silent(waited) => format!("the mail server {name} did not greet within {}", seconds(waited)),
        Trouble::Nonsense(text) => format!("the mail server {name} greeted with what is no SMTP reply: {text}"),
    }
}
