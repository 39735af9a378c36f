//! From a mail to what it says.

use mail_parser::{DateTime as MailDate, MessageParser};

use super::fields::{Fields, tidy};
use super::matcher::{Matcher, Signed, signed_in, token_of_message_id};
use super::parts::{Part, Parts};
use super::{Found, Heard, Kind, MOST_OF_A_MAIL, Place, text};
use crate::domain::bounce::{self, Class, Recipient};
use crate::domain::instant::Instant;

/// Recipients of a report beyond these are left out.
const MOST_RECIPIENTS: usize = 100;
/// Tokens beyond these are left out.
const MOST_TOKENS: usize = 20;
const MOST_ADDRESSES: usize = 50;
/// So much of a text is read, in bytes.
const MOST_OF_A_TEXT: usize = 64 * 1024;
const MOST_TEXTS: usize = 10;
const MOST_OF_A_REPORT: usize = 256 * 1024;
const LONGEST_DIAGNOSTIC: usize = 300;
const LONGEST_ADDRESS: usize = 320;
/// Fields of one's own server and of others, and how much of each is kept, in characters.
const MOST_RESULTS: usize = 20;
const LONGEST_RESULT: usize = 4_000;

/// The address that a mail was sent to: first as one's own server has it.
const SENT_TO: [&str; 5] = ["x-original-to", "delivered-to", "envelope-to", "to", "cc"];
/// The envelope sender of a returned message.
const SENT_BY: [&str; 3] = ["return-path", "x-envelope-from", "sender"];

/// Fields that only a mail has, and a text by chance not.
const OF_A_MAIL: [&str; 10] = [
    "from",
    "to",
    "subject",
    "date",
    "message-id",
    "received",
    "return-path",
    "delivered-to",
    "mime-version",
    "content-type",
];

/// Fields that a vacation program or another responder writes.
const OF_A_RESPONDER: [&str; 7] = [
    "x-autoreply",
    "x-auto-reply",
    "x-autoreply-from",
    "x-mail-autoreply",
    "x-autorespond",
    "x-autoresponder",
    "x-auto-reply-from",
];

/// Fields of mail that goes to many.
const OF_A_LIST: [&str; 5] = ["list-id", "list-post", "list-unsubscribe", "feedback-id", "x-mailman-version"];

/// What a bounce's subject begins with or holds, in lower case.
const SUBJECTS_OF_BOUNCES: [&str; 23] = [
    "undeliver",
    "delivery status notification",
    "delivery failure",
    "delivery has failed",
    "delivery failed",
    "delivery report",
    "delivery notification",
    "delivery error",
    "mail delivery",
    "message delivery",
    "failure delivery",
    "mail failed",
    "delayed mail",
    "failure notice",
    "returned mail",
    "returned to sender",
    "non delivery",
    "non-delivery",
    "nondeliver",
    "could not be delivered",
    "could not send message",
    "warning: message",
    "unzustellbar",
];

/// What an automatic reply's subject begins with, in lower case; never enough by itself.
const SUBJECTS_OF_REPLIES: [&str; 9] = [
    "automatic reply",
    "auto:",
    "autoreply",
    "auto-reply",
    "out of office",
    "out of the office",
    "automatische antwort",
    "abwesenheit",
    "réponse automatique",
];

/// Reads a mail: of more than 10 MiB the first 10. It never fails: what is no mail is [`Kind::Unreadable`].
pub fn read(mail: &[u8], matcher: &Matcher) -> Heard {
    let mail = &mail[..mail.len().min(MOST_OF_A_MAIL)];
    let (top, _) = Fields::read(mail);
    if !mail.contains(&b'\n') || !top.has_any(&OF_A_MAIL) {
        return Heard::nothing(Kind::Unreadable, Class::Unread);
    }
    let parts = Parts::of(mail);
    Reader { top, parts, matcher }.heard()
}

impl Heard {
    fn nothing(kind: Kind, class: Class) -> Heard {
        Heard {
            received_hint: None,
            kind,
            recipients: Vec::new(),
            class,
            tokens: Vec::new(),
            signed_tokens: Vec::new(),
            from: None,
            sent_to: Vec::new(),
            authentication_results: Vec::new(),
            reporter: None,
            diagnostic: None,
            structured: false,
        }
    }
}

struct Reader<'a> {
    top: Fields,
    parts: Parts<'a>,
    matcher: &'a Matcher,
}

/// What tells a machine's mail from a person's.
struct Signs {
    null_return_path: bool,
    /// From a mail system by its name.
    from_a_daemon: bool,
    /// Auto-Submitted, but for `no`.
    automatic: bool,
    failed_recipients: bool,
    subject_of_a_bounce: bool,
    of_qmail: bool,
}

impl Reader<'_> {
    fn heard(&self) -> Heard {
        let signs = self.signs();
        let signed = self.signed();
        let mut heard = self.report(&signs).unwrap_or_else(|| {
            if self.asks_to_be_taken_off(&signs, &signed) {
                Heard::nothing(Kind::Request, Class::Unsubscribe)
            } else if signs.of_a_bounce() {
                self.plain_bounce()
            } else if self.is_automatic(&signs) {
                Heard::nothing(Kind::AutoReply, Class::AutoReply)
            } else {
                Heard::nothing(Kind::Request, Class::Unsubscribe)
            }
        });
        heard.received_hint = self.date();
        heard.authentication_results = self.authentication_results();
        heard.tokens = self.tokens(heard.kind);
        match heard.kind {
            Kind::Request => {
                heard.from = self.from();
                heard.sent_to = self.sent_to();
                heard.signed_tokens = signed.into_iter().map(|signed| signed.whole).collect();
            }
            Kind::Dsn | Kind::Feedback | Kind::PlainBounce => {
                let domain = || Some(self.from()?.rsplit_once('@')?.1.to_owned());
                heard.reporter = heard.reporter.or_else(domain);
            }
            Kind::AutoReply | Kind::Unreadable => {}
        }
        heard
    }

    fn signs(&self) -> Signs {
        let top = &self.top;
        let from = top.get("from").unwrap_or_default().to_ascii_lowercase();
        let daemons = [
            "mailer-daemon",
            "mailerdaemon",
            "mail-daemon",
            "postmaster@",
            "mail delivery",
            "maildelivery",
            "microsoftexchange329e71ec88ae4615bbc36ab6ce41109e",
        ];
        let subject = self.subject().to_lowercase();
        Signs {
            null_return_path: top.get("return-path").is_some_and(|path| path.replace(' ', "") == "<>"),
            from_a_daemon: daemons.iter().any(|name| from.contains(name)),
            automatic: top.get("auto-submitted").is_some_and(|value| !first_word(value).eq_ignore_ascii_case("no")),
            failed_recipients: top.has("x-failed-recipients"),
            subject_of_a_bounce: !is_an_answer(&subject)
                && SUBJECTS_OF_BOUNCES.iter().any(|words| subject.contains(words)),
            of_qmail: self.texts().next().is_some_and(|part| text::is_of_qmail(&part.text(200))),
        }
    }

    /// A report by its structure.
    fn report(&self, signs: &Signs) -> Option<Heard> {
        let is_report = self.parts.media == "multipart/report" && self.parts.is_multipart;
        let about = self.parts.report_type.as_str();
        let is_machine = signs.null_return_path || signs.from_a_daemon || signs.automatic || signs.failed_recipients;
        let leaf = |names: &[&str]| self.parts.leaves.iter().find(|part| names.contains(&subtype(part)));
        if let Some(part) = leaf(&["delivery-status", "global-delivery-status"]).filter(|_| is_report || is_machine) {
            return Some(self.dsn(part));
        }
        if let Some(part) = leaf(&["feedback-report"]) {
            return Some(self.feedback(part));
        }
        if is_report {
            // A part of a report is at times labelled as text.
            let begins = |part: &&Part<'_>, names: &[&str]| {
                let (fields, _) = Fields::read(part.body.trim_ascii_start());
                part.media.starts_with("text/") && fields.has_any(names)
            };
            let mut others = self.parts.leaves.iter().skip(1);
            return Some(match about {
                "feedback-report" => {
                    let part = self.parts.leaves.iter().find(|part| begins(part, &["feedback-type"]));
                    part.map_or_else(|| Heard::structured(Kind::Feedback, Class::Feedback), |part| self.feedback(part))
                }
                "" | "delivery-status" => {
                    let names = ["reporting-mta", "final-recipient", "original-recipient"];
                    match others.find(|part| begins(part, &names)) {
                        Some(part) => self.dsn(part),
                        None => Heard { structured: true, kind: Kind::Dsn, ..self.plain_bounce() },
                    }
                }
                // A receipt, or a report about something else than a message's delivery.
                _ => Heard::nothing(Kind::AutoReply, Class::AutoReply),
            });
        }
        self.is_of_the_old_jmrp().then(|| Heard::nothing(Kind::Feedback, Class::Complaint))
    }

    fn dsn(&self, part: &Part<'_>) -> Heard {
        let report = part.text(MOST_OF_A_REPORT);
        let mut heard = Heard::structured(Kind::Dsn, Class::Other);
        let mut rest = report.as_bytes();
        while !rest.is_empty() && heard.recipients.len() < MOST_RECIPIENTS {
            let (fields, after) = Fields::read(rest);
            // A line that ends the fields of a mail ends none of a report.
            rest = if after.len() < rest.len() {
                after
            } else {
                super::fields::next_line(rest).map_or(&[], |(_, after)| after)
            };
            heard.reporter = heard.reporter.or_else(|| tidy(without_type(fields.get("reporting-mta")?), 255));
            heard.recipients.extend(groups(&fields).iter().filter_map(recipient));
        }
        heard.recipients.truncate(MOST_RECIPIENTS);
        heard.class = bounce::together(&heard.recipients).unwrap_or_else(|| self.plain_bounce().class);
        let told = |recipient: &&Recipient| recipient.class == heard.class && recipient.diagnostic.is_some();
        let told = heard
            .recipients
            .iter()
            .find(told)
            .or_else(|| heard.recipients.iter().find(|told| told.diagnostic.is_some()));
        heard.diagnostic = told.and_then(|recipient| recipient.diagnostic.clone());
        heard
    }

    fn feedback(&self, part: &Part<'_>) -> Heard {
        let report = part.text(MOST_OF_A_REPORT);
        let (fields, _) = Fields::read(report.trim_start().as_bytes());
        let feedback_type = fields.get("feedback-type").unwrap_or_default();
        let class = bounce::of_feedback(feedback_type);
        let mut heard = Heard::structured(Kind::Feedback, class);
        heard.reporter = fields.get("reporting-mta").and_then(|mta| tidy(without_type(mta), 255));
        heard.diagnostic = tidy(feedback_type, LONGEST_DIAGNOSTIC);
        let named = fields.all("original-rcpt-to").take(MOST_RECIPIENTS);
        heard.recipients = named
            .map(|address| Recipient {
                original: bare_address(address),
                final_: None,
                action: None,
                status: None,
                diagnostic: None,
                class,
            })
            .collect();
        heard
    }

    /// Microsoft's form until June 2026: no report, but a returned message that names whom it had been for.
    fn is_of_the_old_jmrp(&self) -> bool {
        let is_theirs = self.from().is_some_and(|from| from.eq_ignore_ascii_case("staff@hotmail.com"));
        let marked = |part: &Part<'_>| Fields::read(part.body.trim_ascii_start()).0.has("x-hmxmroriginalrecipient");
        is_theirs && self.returned_parts().any(marked)
    }

    fn plain_bounce(&self) -> Heard {
        let mut heard = Heard::nothing(Kind::PlainBounce, Class::Soft);
        let mut said = String::new();
        for part in self.texts() {
            let text = part.text(MOST_OF_A_TEXT);
            said.push_str(text::returned_below(&text).1);
            said.push('\n');
        }
        let subject = self.subject();
        heard.class = if text::is_a_warning(&subject, &said) { Class::Delayed } else { bounce::of_text(&said) };
        let line = said.lines().find(|line| bounce::names_a_failure(line));
        heard.diagnostic =
            line.and_then(|line| tidy(line, LONGEST_DIAGNOSTIC)).or_else(|| tidy(&subject, LONGEST_DIAGNOSTIC));
        let failed = self.top.all("x-failed-recipients").flat_map(|value| value.split(',')).take(MOST_RECIPIENTS);
        heard.recipients = failed
            .filter_map(bare_address)
            .map(|address| Recipient {
                original: Some(address),
                final_: None,
                action: None,
                status: None,
                diagnostic: None,
                class: heard.class,
            })
            .collect();
        heard
    }

    /// By a signed token, or because a mail program says so: Apple's marks such a mail as an automatic reply.
    ///
    /// A wish must not be lost because a machine wrote it down; only what is a bounce by its own signs is none.
    fn asks_to_be_taken_off(&self, signs: &Signs, signed: &[Signed]) -> bool {
        let is_a_bounce = signs.failed_recipients || signs.of_qmail || signs.subject_of_a_bounce;
        !is_a_bounce && (!signed.is_empty() || self.top.has("x-apple-unsubscribe"))
    }

    fn is_automatic(&self, signs: &Signs) -> bool {
        let top = &self.top;
        let precedence = top.get("precedence").unwrap_or_default().to_ascii_lowercase();
        let subject = self.subject().to_lowercase();
        let suppressed = top.has_any(&["x-auto-response-suppress", "x-ms-exchange-inbox-rules-loop", "x-loop"]);
        signs.automatic
            || signs.null_return_path
            || signs.from_a_daemon
            || top.has_any(&OF_A_RESPONDER)
            || top.has_any(&OF_A_LIST)
            || matches!(first_word(&precedence), "auto_reply" | "auto-reply" | "bulk" | "junk" | "list")
            || (suppressed && SUBJECTS_OF_REPLIES.iter().any(|words| subject.starts_with(words)))
            || (self.parts.media == "multipart/report")
    }

    fn tokens(&self, kind: Kind) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        let mut add = |token: String, id: Option<String>, place: Place| {
            let is_returned = place == Place::ReturnedHeaders;
            if let Some(known) = found.iter_mut().find(|known| known.token == token) {
                known.id = known.id.take().or(id);
                known.is_returned |= is_returned;
            } else if found.len() < MOST_TOKENS {
                found.push(Found { token, id, place, is_returned });
            }
        };
        for (token, id) in self.matcher.tokens_of(&self.top, &SENT_TO) {
            add(token, id, Place::Envelope);
        }
        if !matches!(kind, Kind::Dsn | Kind::Feedback | Kind::PlainBounce) {
            return found;
        }
        let returned = self.returned(kind);
        for (token, id) in returned.iter().flat_map(|fields| self.matcher.tokens_of(fields, &SENT_BY)) {
            add(token, id, Place::ReturnedHeaders);
        }
        for token in returned.iter().flat_map(|fields| fields.all("message-id")).filter_map(token_of_message_id) {
            add(token, None, Place::ReturnedHeaders);
        }
        // A relay may give a message another Message-ID, as Amazon SES does.
        for signed in returned.iter().flat_map(|fields| fields.all("list-unsubscribe")).flat_map(signed_in) {
            add(signed.token, Some(signed.id), Place::ReturnedHeaders);
        }
        if kind == Kind::PlainBounce {
            for part in self.texts() {
                for token in text::message_ids(&part.text(MOST_OF_A_TEXT)) {
                    add(token, None, Place::Text);
                }
            }
        }
        found
    }

    /// The header of the message that a report returns. Only the first such part counts.
    fn returned(&self, kind: Kind) -> Option<Fields> {
        let by_label = self.returned_parts().map(|part| Fields::read(part.body.trim_ascii_start()).0);
        if let Some(fields) = by_label.into_iter().find(|fields| !fields.is_empty()) {
            return Some(fields);
        }
        let first = usize::from(kind != Kind::PlainBounce);
        let unlabelled = self.parts.leaves.iter().skip(1).filter(|part| part.media.starts_with("text/"));
        let mut unlabelled = unlabelled.filter(|part| text::begins_with_a_header(&part.body));
        if let Some(part) = unlabelled.next() {
            return Some(Fields::read(part.body.trim_ascii_start()).0);
        }
        let texts = self.texts().skip(first);
        texts.filter_map(|part| text::returned_below(&part.text(MOST_OF_A_TEXT)).0).next()
    }

    fn returned_parts(&self) -> impl Iterator<Item = &Part<'_>> {
        let is_returned = |part: &&Part<'_>| match part.media.split_once('/') {
            Some(("message", subtype)) => {
                subtype.starts_with("rfc822") || matches!(subtype, "global" | "global-headers")
            }
            Some(("text", subtype)) => subtype.starts_with("rfc822"),
            _ => false,
        };
        self.parts.leaves.iter().filter(is_returned)
    }

    /// The parts that a person is meant to read.
    fn texts(&self) -> impl Iterator<Item = &Part<'_>> {
        let is_text = |part: &&Part<'_>| {
            matches!(&*part.media, "text/plain" | "text/html") || part.media.starts_with("multipart/")
        };
        self.parts.leaves.iter().filter(is_text).take(MOST_TEXTS)
    }

    fn signed(&self) -> Vec<Signed> {
        let mut signed = signed_in(&self.subject());
        for name in ["to", "delivered-to", "x-original-to", "envelope-to", "cc"] {
            signed.extend(self.top.all(name).flat_map(signed_in));
        }
        let mut once: Vec<Signed> = Vec::new();
        for signed in signed.into_iter().take(MOST_TOKENS) {
            if !once.contains(&signed) {
                once.push(signed);
            }
        }
        once
    }

    /// The Subject, its encoded words (RFC 2047) undone.
    fn subject(&self) -> String {
        let Some(raw) = self.top.get("subject") else { return String::new() };
        let field = format!("Subject: {raw}\n\n");
        let parsed = MessageParser::new().parse_headers(&field);
        parsed.and_then(|parsed| parsed.subject().map(str::to_owned)).unwrap_or_default()
    }

    /// The address in `From`, where there is one field with one address.
    fn from(&self) -> Option<String> {
        let mut fields = self.top.all("from");
        let raw = fields.next().filter(|_| fields.next().is_none())?;
        let field = format!("From: {raw}\n\n");
        let parsed = MessageParser::new().parse_headers(&field)?;
        let mut addresses = parsed.from()?.iter().filter_map(|mailbox| mailbox.address.as_deref());
        let address = addresses.next().filter(|_| addresses.next().is_none())?;
        tidy(address, LONGEST_ADDRESS).filter(|tidied| tidied == address)
    }

    fn sent_to(&self) -> Vec<String> {
        let apart = |c: char| c.is_whitespace() || c.is_control() || "<>,;:\"()".contains(c);
        let words = SENT_TO.iter().flat_map(|name| self.top.all(name)).flat_map(|value| value.split(apart));
        let mut addresses: Vec<String> = Vec::new();
        for address in words.filter(|word| word.contains('@') && word.len() <= LONGEST_ADDRESS) {
            let address = address.to_lowercase();
            if addresses.len() < MOST_ADDRESSES && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    fn date(&self) -> Option<Instant> {
        let date = MailDate::parse_rfc822(self.top.get("date")?).filter(MailDate::is_valid)?;
        (1990..=2100).contains(&date.year).then(|| Instant::from_timestamp(date.to_timestamp(), 0))?
    }

    fn authentication_results(&self) -> Vec<String> {
        let results = self.top.all("authentication-results").take(MOST_RESULTS);
        results.filter_map(|result| tidy(result, LONGEST_RESULT)).collect()
    }
}

impl Heard {
    fn structured(kind: Kind, class: Class) -> Heard {
        Heard { structured: true, ..Heard::nothing(kind, class) }
    }
}

impl Signs {
    /// Two of them at least: a person may have any one.
    fn of_a_bounce(&self) -> bool {
        let of_a_server = self.from_a_daemon || self.null_return_path;
        (self.failed_recipients && (of_a_server || self.automatic))
            || (self.of_qmail && of_a_server)
            || (self.from_a_daemon && (self.null_return_path || self.automatic || self.subject_of_a_bounce))
            || (self.null_return_path && self.subject_of_a_bounce)
    }
}

/// The fields of each recipient: a second Final-Recipient begins another, where the empty line is missing.
fn groups(fields: &Fields) -> Vec<Vec<(&str, &str)>> {
    let mut groups: Vec<Vec<(&str, &str)>> = vec![Vec::new()];
    for (name, value) in fields.iter() {
        let Some(group) = groups.last_mut() else { continue };
        let begins = matches!(name, "final-recipient" | "original-recipient");
        match begins && group.iter().any(|(known, _)| *known == name) {
            true => groups.push(vec![(name, value)]),
            false => group.push((name, value)),
        }
    }
    groups
}

/// One recipient; `None` when the fields are about none.
fn recipient(group: &Vec<(&str, &str)>) -> Option<Recipient> {
    let get = |wanted: &str| group.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    let names = ["final-recipient", "original-recipient", "action", "status"];
    names.iter().any(|name| get(name).is_some()).then(|| {
        let (action, status, diagnostic) = (get("action"), get("status"), get("diagnostic-code"));
        Recipient {
            original: get("original-recipient").and_then(bare_address),
            final_: get("final-recipient").and_then(bare_address),
            action: action.and_then(|action| tidy(action, 40)),
            status: status.and_then(|status| tidy(status, 100)),
            diagnostic: diagnostic.and_then(|diagnostic| tidy(diagnostic, LONGEST_DIAGNOSTIC)),
            class: bounce::classify(action, status, diagnostic),
        }
    })
}

/// What follows the type: `mx.example` of `dns; mx.example`.
fn without_type(value: &str) -> &str {
    value.split_once(';').map_or(value, |(_, value)| value).trim()
}

/// The address of `rfc822; <ada@example.com>`, of `utf-8; …` with its escapes `\x{F6}` undone (RFC 6533 §3).
fn bare_address(value: &str) -> Option<String> {
    let mut bare = without_type(value);
    if let Some((_, inner)) = bare.rsplit_once('<') {
        bare = inner.split_once('>').map_or(inner, |(address, _)| address);
    }
    let mut address = String::new();
    while let Some((before, rest)) = bare.split_once("\\x{") {
        let escaped = rest.split_once('}').and_then(|(hex, rest)| {
            let hex = Some(hex).filter(|hex| hex.len() <= 6)?;
            Some((u32::from_str_radix(hex, 16).ok().and_then(char::from_u32)?, rest))
        });
        let Some((character, rest)) = escaped else { break };
        address.push_str(before);
        address.push(character);
        bare = rest;
    }
    address.push_str(bare);
    tidy(&address, LONGEST_ADDRESS)
}

fn subtype<'a>(part: &'a Part<'_>) -> &'a str {
    part.media.split_once('/').map_or("", |(_, subtype)| subtype)
}

fn first_word(value: &str) -> &str {
    value.trim().split(|c: char| c.is_whitespace() || c == ';' || c == '(').next().unwrap_or_default()
}

/// Whether a subject, in lower case, is that of an answer or of something passed on.
fn is_an_answer(subject: &str) -> bool {
    ["re:", "fwd:", "fw:", "aw:", "wg:", "tr:", "rv:", "sv:", "vs:", "antw:"]
        .iter()
        .any(|start| subject.trim_start().starts_with(start))
}
