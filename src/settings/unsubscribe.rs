//! How those are heard who want no more mail: the links in each message, the keys that sign them, and the ways back.

use std::os::unix::fs::PermissionsExt;

use serde::Deserialize;

use super::checker::Checker;
use super::{OptOuts, Secrets, UnsubscribeSettings};
use crate::domain::address::Address;
use crate::domain::unsubscribe::{Keys, Scope};
use crate::domain::web_address::is_web_address;
use crate::failure::Failure;

/// Stands in links for a token that is signed.
pub(super) const SIGNED: &str = "{unsubscribe}";

/// One link, or a list of them.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text in quotes, or a list of them")]
pub(super) enum Links {
    One(String),
    Several(Vec<String>),
}

impl Default for Links {
    fn default() -> Links {
        Links::Several(Vec::new())
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct UnsubscribeTable {
    #[serde(default)]
    scope: Scope,
    keys: Option<String>,
    spool: Option<String>,
    source: Option<String>,
    file: Option<String>,
}

impl Checker<'_> {
    pub(super) fn unsubscribe(
        &self,
        table: UnsubscribeTable,
        answers_queries: bool,
    ) -> Result<UnsubscribeSettings, Failure> {
        let opt_outs = match (table.source, table.file) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                let what = "source is set as well, and only one of them can be";
                return Err(self.wrong("unsubscribe.file", what, "remove one"));
            }
            (Some(_), None) if !answers_queries => {
                let next = "name a `file` instead, or set source.kind to a database";
                return Err(self.wrong("unsubscribe.source", "only a database has queries", next));
            }
            (Some(query), None) if query.trim().is_empty() => {
                return Err(self.wrong("unsubscribe.source", "is empty", "write one SELECT"));
            }
            (Some(query), None) => Some(OptOuts::Query(query)),
            (None, Some(file)) => Some(OptOuts::File(self.at(&file))),
        };
        Ok(UnsubscribeSettings {
            scope: table.scope,
            keys_file: self.at(table.keys.as_deref().unwrap_or("unsubscribe.keys")),
            spool: table.spool.map(|spool| self.at(&spool)),
            opt_outs,
        })
    }

    /// The links of each message, in their order: at most one to a page and one to a mailbox.
    pub(super) fn links(&self, links: Links, mailbox: Option<String>) -> Result<Vec<String>, Failure> {
        let mut links = match links {
            Links::One(link) => vec![link],
            Links::Several(links) => links,
        };
        if let Some(mailbox) = mailbox {
            let Ok(address) = Address::parse(&mailbox) else {
                let next = "write for example \"unsubscribe@shop.example\"";
                return Err(self.wrong("mail.unsubscribe_mailto", format!("{mailbox:?} is no address"), next));
            };
            links.push(format!("mailto:{}?subject={SIGNED}", address.envelope()));
        }
        let mailboxes = links.iter().filter(|link| link.starts_with("mailto:")).count();
        if mailboxes > 1 || links.len() - mailboxes > 1 {
            let next = "write unsubscribe = \"https://…\" and unsubscribe_mailto = \"…\"; the first is the link in templates, both \
                        stand in the header";
            return Err(self.wrong("mail.unsubscribe", "has more than one page or more than one mailbox", next));
        }
        for link in &links {
            let sound = link.starts_with("mailto:") || is_web_address(&link.replace(['{', '}'], ""));
            if !sound || link.chars().any(|c| c.is_control() || c.is_whitespace() || "<>".contains(c)) {
                let next = "write mailto:address, or https://…; {unsubscribe} in it is filled in for each message";
                return Err(self.wrong("mail.unsubscribe", format!("{link:?} is no link"), next));
            }
            let unfilled =
                [SIGNED, "{email}", "{token}"].iter().fold(link.clone(), |link, name| link.replace(name, ""));
            if unfilled.contains(['{', '}']) {
                let next = "only {unsubscribe}, {token} and {email} are filled in; write any other brace as %7B or %7D";
                return Err(self.wrong("mail.unsubscribe", format!("{link:?} has an unknown placeholder"), next));
            }
        }
        Ok(links)
    }

    /// The keys, where links are signed or clicks are read.
    ///
    /// # Errors
    /// They are needed and not there: new ones in their place would make every link worthless that is out already.
    pub(super) fn keys(&self, settings: &UnsubscribeSettings, links: &[String]) -> Result<Option<Keys>, Failure> {
        let file = &settings.keys_file;
        let needed = settings.spool.is_some() || links.iter().any(|link| link.contains(SIGNED));
        let wrong = |problem: String, next: &str| {
            self.wrong("unsubscribe.keys", format!("the file {} {problem}", file.display()), next)
                .kept("nothing was planned or sent")
        };
        let read = std::fs::metadata(file).and_then(|meta| Ok((meta, std::fs::read_to_string(file)?)));
        match read {
            Err(_) if !needed || self.secrets == Secrets::NotNeeded => Ok(None),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                let next = "put it back from your backup: it signs the links of all mail that is out. Where there never was one, \
                            `mailonce unsubscribe rotate` makes it";
                Err(wrong(format!("cannot be read: {err}"), next))
            }
            Err(err) => Err(wrong(format!("cannot be read: {err}"), "let the user that cron runs as read it")),
            Ok((meta, _)) if meta.permissions().mode() & 0o007 != 0 => {
                let next = format!("chmod 640 {}", file.display());
                Err(wrong(format!("can be read by everyone (mode {:04o})", meta.permissions().mode() & 0o7777), &next))
            }
            Ok((_, text)) => Keys::parse(&text)
                .map(Some)
                .map_err(|problem| wrong(format!("is damaged: {problem}"), "put it back from your backup")),
        }
    }

    /// What the labels of List-Id stand before.
    pub(super) fn list_domain(&self, given: Option<String>, from: &Address) -> Result<String, Failure> {
        let Some(given) = given else { return Ok(from.domain().to_owned()) };
        match Address::parse(&format!("list@{given}")) {
            Ok(address) => Ok(address.domain().to_owned()),
            Err(_) => {
                let next = "write for example \"shop.example\"";
                Err(self.wrong("mail.list_domain", format!("{given:?} is no domain"), next))
            }
        }
    }

    /// The sender's id in Feedback-ID: 5 to 15 characters, as Gmail has it.
    pub(super) fn feedback_sender(&self, sender: String) -> Result<String, Failure> {
        let sound = (5..=15).contains(&sender.len()) && sender.chars().all(|c| c.is_ascii_alphanumeric());
        match sound {
            true => Ok(sender),
            false => {
                let what = format!("{sender:?} is not 5 to 15 letters and digits");
                Err(self.wrong("mail.feedback_sender", what, "write for example \"shopexample\""))
            }
        }
    }
}
