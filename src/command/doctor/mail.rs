//! How mail leaves: its envelope and limits, and the server or the folder that takes it.

use super::Findings;
use super::files::folder_of;
use crate::mail::smtp::SmtpServer;
use crate::settings::{Settings, TransportSettings};
use crate::user::{self, Right};

pub(super) fn look_at_mail(settings: &Settings, findings: &mut Findings) {
    let TransportSettings::Smtp(_) = settings.transport else { return };
    match &settings.mail.envelope {
        Some(_) => findings.ok("mail", "each message has its own envelope sender"),
        None => findings.warn(
            "mail",
            "all messages share one envelope sender, so a mail log proves less",
            "where the server takes such addresses, set [mail] envelope = \"bounce+{id}-{token}@your.domain\"",
        ),
    }
    if let TransportSettings::Smtp(smtp) = &settings.transport
        && !smtp.is_loopback()
        && let Ok(server) = SmtpServer::new(smtp)
        && !server.hello().contains('.')
    {
        let what = format!("this machine calls itself {} to the server, which is no domain", server.hello());
        findings.warn("mail", what, "set [mail.smtp] hello to its full name: many servers refuse any other");
    }
    if settings.limits.per_second.is_none() && settings.limits.per_hour.is_none() {
        findings.warn("mail", "no limit is set", "ask the provider, and set [mail.limits] per_second or per_hour");
    }
}

fn probe(server: &SmtpServer) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|err| format!("could not look at the server: {err}"))?.block_on(server.probe())
}

pub(super) fn look_at_server(settings: &Settings, findings: &mut Findings) {
    match &settings.transport {
        TransportSettings::Smtp(smtp) => match SmtpServer::new(smtp) {
            Err(failure) => findings.fail("server", failure.what, failure.next),
            Ok(server) => match probe(&server) {
                Ok(said) => findings.ok("server", format!("{said}; nothing was sent")),
                Err(why) => findings.fail(
                    "server",
                    crate::domain::address::masked(&why),
                    "check [mail.smtp] host, port, tls, username and password, and that this machine may connect there",
                ),
            },
        },
        TransportSettings::File { dir } => {
            // It is made by the first run that writes.
            let place = if dir.exists() { dir.as_path() } else { folder_of(dir) };
            match user::may(Right::Write, place) {
                true => findings.ok("outbox", format!("{} can be written", dir.display())),
                false => findings.fail(
                    "outbox",
                    format!("{} cannot be written", dir.display()),
                    "make it writable for the user cron runs as",
                ),
            }
        }
    }
}
