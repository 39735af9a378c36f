//! What Gmail, Yahoo and Microsoft ask of those who send much mail: rule by rule, met, not met, or not visible from here.
//!
//! It is decided from the configuration, and from messages that are written as a run would write them. The DNS is not asked: what
//! stands there is seen by whoever gets the mail, and `doctor --received` reads what they say.

use chrono::TimeDelta;
use serde::Serialize;

use super::{Level, null_if_empty};
use crate::bounces::fields::Fields;
use crate::command::run_campaigns;
use crate::domain::address::Mailbox;
use crate::domain::free_mail::is_free_mail;
use crate::domain::instant::Instant;
use crate::ledger::Returned;
use crate::letters::cart::{CartLetters, Occasion};
use crate::mail::template::Rendered;
use crate::output::{Output, count};
use crate::received::is_aligned;
use crate::settings::{Settings, Tls, TransportSettings};

/// Complaints are counted over so long.
pub(super) const COUNTED: TimeDelta = TimeDelta::days(30);
/// Below this share of complaints, in hundredths of a per cent, nobody minds.
const FEW_COMPLAINTS: u64 = 10;
/// From this share on, mail is refused.
const TOO_MANY_COMPLAINTS: u64 = 30;
/// Octets of a line (RFC 5322 §2.1.1).
const LONGEST_LINE: usize = 998;

/// How a rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Stands {
    #[serde(rename = "met")]
    Met,
    #[serde(rename = "not met")]
    NotMet,
    #[serde(rename = "not visible from here")]
    NotVisible,
}

impl Stands {
    fn word(self) -> &'static str {
        match self {
            Stands::Met => "met",
            Stands::NotMet => "not met",
            Stands::NotVisible => "not visible from here",
        }
    }
}

/// One rule.
#[derive(Debug, Serialize)]
pub(super) struct Rule {
    rule: &'static str,
    stands: Stands,
    /// None of what is not visible.
    pub(super) level: Option<Level>,
    detail: String,
    #[serde(serialize_with = "null_if_empty")]
    remedy: String,
}

/// What was seen elsewhere.
#[derive(Default)]
pub(super) struct Seen {
    /// The first message of each campaign, by its id.
    pub campaigns: Vec<(String, Rendered)>,
    /// What came back of late; `None` where the ledger could not be read.
    pub returned: Option<Vec<Returned>>,
}

/// A message as a run would write it.
struct Example {
    /// Which it is, for people.
    named: String,
    rendered: Rendered,
    /// Of messages about carts.
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Rules(Vec<Rule>);

impl Rules {
    fn met(&mut self, rule: &'static str, detail: impl Into<String>) {
        self.add(rule, Stands::Met, Some(Level::Ok), detail.into(), String::new());
    }

    fn not_met(&mut self, rule: &'static str, detail: impl Into<String>, remedy: impl Into<String>) {
        self.add(rule, Stands::NotMet, Some(Level::Warn), detail.into(), remedy.into());
    }

    fn not_visible(&mut self, rule: &'static str, detail: impl Into<String>) {
        self.add(rule, Stands::NotVisible, None, detail.into(), String::new());
    }

    fn add(&mut self, rule: &'static str, stands: Stands, level: Option<Level>, detail: String, remedy: String) {
        self.0.push(Rule { rule, stands, level, detail, remedy });
    }
}

/// Each rule, and how it stands.
pub(super) fn rules(settings: &Settings, seen: &Seen, now: Instant) -> Vec<Rule> {
    let mut rules = Rules::default();
    let senders = senders(settings);
    let examples = examples(settings, seen, now);
    sender(settings, &senders, &mut rules);
    unsubscribing(settings, &mut rules);
    content(settings, &examples, &mut rules);
    header(settings, &examples, &mut rules);
    what_comes_back(settings, seen, &mut rules);
    server(settings, &mut rules);
    rules.0
}

/// Who sends: what the configuration calls it, and whom it names.
fn senders(settings: &Settings) -> Vec<(String, Mailbox)> {
    let mut senders = vec![("mail.from".to_owned(), settings.mail.from.clone())];
    let campaigns =
        run_campaigns::definitions(settings).map_or_else(|_| Vec::new(), |definitions| definitions.campaigns);
    for campaign in campaigns.into_iter().filter(|campaign| campaign.enabled) {
        senders.extend(campaign.from.map(|from| (format!("campaign {}", campaign.id), from)));
    }
    senders
}

/// None of carts where they cannot be written, which is said elsewhere.
fn examples(settings: &Settings, seen: &Seen, now: Instant) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut look = |occasion: &Occasion<'_>, outgoing: &crate::mail::session::Outgoing, rendered: &Rendered| {
        let mut named = occasion.step.map_or_else(|| "the cart message".into(), |step| format!("step {step}"));
        if let Some(variant) = occasion.variant {
            named.push_str(&format!(", variant {variant}"));
        }
        if let Some(locale) = occasion.reads {
            named.push_str(&format!(" in {locale}"));
        }
        examples.push(Example { named, rendered: rendered.clone(), bytes: outgoing.bytes.clone() });
    };
    let written = CartLetters::load(settings).and_then(|letters| letters.each_example(now, &mut look));
    if written.is_err() {
        examples.clear();
    }
    for (id, rendered) in &seen.campaigns {
        examples.push(Example { named: format!("campaign {id}"), rendered: rendered.clone(), bytes: Vec::new() });
    }
    examples
}

/// Those for which it does not hold, by name, each once.
fn without(examples: &[Example], holds: impl Fn(&Example) -> bool) -> Vec<&str> {
    let mut names: Vec<&str> =
        examples.iter().filter(|example| !holds(example)).map(|example| &*example.named).collect();
    names.dedup();
    names
}

fn sender(settings: &Settings, senders: &[(String, Mailbox)], rules: &mut Rules) {
    let mail = &settings.mail;
    let envelope = mail.envelope.as_deref().and_then(|pattern| pattern.rsplit_once('@')).map(|(_, domain)| domain);
    let of = envelope.unwrap_or(mail.from.address.domain());
    rules.not_visible("SPF", format!("the TXT record v=spf1 of {of} names the servers that send its mail"));

    match &mail.dkim {
        None => rules.not_visible("DKIM signature", "[mail.dkim] is not set: the mail server must sign"),
        Some(signer) => {
            let others = senders.iter().filter(|(_, from)| !is_aligned(signer.domain(), from.address.domain()));
            let others: Vec<&str> = others.map(|(named, _)| named.as_str()).collect();
            match others.is_empty() {
                true => rules.met(
                    "DKIM signature",
                    format!("signed here; the TXT record {} must be published", signer.record_name()),
                ),
                false => rules.not_met(
                    "DKIM signature",
                    format!("{} does not count for the sender of {}", signer.domain(), others.join(", ")),
                    format!("send as an address of {}, or have the mail server sign for that domain", signer.domain()),
                ),
            }
        }
    }
    let domain = mail.from.address.domain();
    rules.not_visible("DMARC policy", format!("a TXT record _dmarc.{domain} is asked for: v=DMARC1; p=none is enough"));

    let free: Vec<&(String, Mailbox)> =
        senders.iter().filter(|(_, from)| is_free_mail(from.address.domain())).collect();
    match free.first() {
        None => rules.met("own domain", format!("{domain} is no provider of free mailboxes")),
        Some((named, from)) => rules.add(
            "own domain",
            Stands::NotMet,
            Some(Level::Fail),
            format!("{named} is of {}, whose mail only its own servers may send: it is refused", from.address.domain()),
            "send as an address of the shop's own domain; reply_to may stay as it is".into(),
        ),
    }

    let answered = |from: &Mailbox| !is_no_reply(mail.reply_to.as_ref().unwrap_or(from).address.local());
    match senders.iter().find(|(_, from)| !answered(from)) {
        None => rules.met("answers", "who answers reaches a mailbox"),
        Some((named, _)) => rules.not_met(
            "answers",
            format!("{named} says that nobody reads answers"),
            "write as a mailbox that is read, or set [mail] reply_to",
        ),
    }
}

fn is_no_reply(local: &str) -> bool {
    let plain: String = local.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    plain.starts_with("noreply") || plain.starts_with("donotreply")
}

fn unsubscribing(settings: &Settings, rules: &mut Rules) {
    const ONE_CLICK: &str = "one-click unsubscribe";
    const PAGE: &str = "set [mail] unsubscribe = \"https://your.domain/unsubscribe?t={unsubscribe}\"";
    let links = &settings.mail.unsubscribe;
    let mailbox = links.iter().find(|link| link.starts_with("mailto:"));
    let page = links.iter().find(|link| !link.starts_with("mailto:"));
    match page {
        None if links.is_empty() => rules.not_met(ONE_CLICK, "messages have no List-Unsubscribe", PAGE),
        None => rules.not_met(ONE_CLICK, "there is a mailbox, but no page", PAGE),
        Some(page) if !page.to_ascii_lowercase().starts_with("https://") => {
            rules.not_met(ONE_CLICK, "the page is not https, so List-Unsubscribe-Post is left out", PAGE);
        }
        Some(page) if page.contains("{email}") => rules.not_met(
            ONE_CLICK,
            "the link holds the address: whoever knows one can have it taken off, and logs keep it",
            "write {unsubscribe} in place of {email}",
        ),
        Some(page) if page.contains("{unsubscribe}") => {
            rules.met(ONE_CLICK, "an https page with a signed token, and List-Unsubscribe-Post");
        }
        Some(page) if page.contains("{token}") => rules.add(
            ONE_CLICK,
            Stands::Met,
            Some(Level::Warn),
            "an https page and List-Unsubscribe-Post; but {token} is not signed, and stands in each Message-ID".into(),
            "write {unsubscribe} in place of {token}".into(),
        ),
        Some(_) => rules.not_met(ONE_CLICK, "the link is the same for everyone, so a click says nothing", PAGE),
    }

    match mailbox {
        Some(_) => rules.met("unsubscribe by mail", "a mailbox stands beside it"),
        None => rules.not_met(
            "unsubscribe by mail",
            "no mailbox, and some mail programs know nothing else",
            "set [mail] unsubscribe_mailto = \"unsubscribe@your.domain\"",
        ),
    }

    let heard = "unsubscribes are heard";
    let ways = &settings.unsubscribe;
    match (&ways.spool, &ways.opt_outs, page) {
        (Some(spool), ..) if !spool.is_dir() => rules.not_met(
            heard,
            format!("there is no folder {}", spool.display()),
            "make it, for the page to write to and mailonce to read",
        ),
        (Some(spool), ..) => rules.met(heard, format!("each run reads {}", spool.display())),
        (None, Some(_), _) => rules.met(heard, "each run reads the shop's own list"),
        (None, None, Some(_)) => rules.not_met(
            heard,
            "nothing hears the clicks, unless the page calls `mailonce unsubscribe TOKEN`",
            "set [unsubscribe] spool, or source or file where the shop keeps a list",
        ),
        (None, None, None) if mailbox.is_some() && settings.bounces.maildir.is_some() => {
            rules.met(heard, "`mailonce bounces` reads what is written to [bounces] maildir");
        }
        (None, None, None) => rules.not_met(
            heard,
            "nothing reads wishes; a person must: `mailonce suppress add`",
            "set a page and [unsubscribe] spool, or have the mailbox read: [bounces] maildir",
        ),
    }
}

/// What a reader sees.
fn content(settings: &Settings, examples: &[Example], rules: &mut Rules) {
    let (visible, postal) = ("unsubscribe link in the message", "postal address");
    let begins: Vec<String> = settings
        .mail
        .unsubscribe
        .iter()
        .filter_map(|link| link.split('{').next())
        .flat_map(|begin| [begin.to_owned(), begin.replace('&', "&amp;")])
        .collect();
    if begins.is_empty() {
        rules.not_met(visible, "there is no link that could stand in it", "set [mail] unsubscribe, as above");
    } else if examples.is_empty() {
        rules.not_visible(visible, "no message can be written");
    } else {
        let has_link = |example: &Example| begins.iter().any(|begin| example.rendered.html.contains(begin.as_str()));
        match without(examples, has_link).as_slice() {
            [] => rules.met(visible, "readers see it, too"),
            names => rules.not_met(
                visible,
                format!("not in {}", names.join(", ")),
                "put <a href=\"{{ unsubscribe_url }}\"> into the template",
            ),
        }
    }

    let Some(address) = &settings.shop.address else {
        let remedy = "set [shop] address: the law of many countries asks for one in mail that advertises";
        return rules.not_met(postal, "messages name no postal address", remedy);
    };
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let has_address = |example: &Example| {
        let text = words(&example.rendered.text);
        address.lines().all(|line| text.contains(&words(line)))
    };
    match without(examples, has_address).as_slice() {
        _ if examples.is_empty() => rules.not_visible(postal, "no message can be written"),
        [] => rules.met(postal, "stands at the foot"),
        names => rules.not_met(
            postal,
            format!("[shop] address does not stand in {}", names.join(", ")),
            "put {{ shop.address }} into the template",
        ),
    }
}

/// What programs read.
fn header(settings: &Settings, examples: &[Example], rules: &mut Rules) {
    let form = "form of messages";
    let messages: Vec<&[u8]> =
        examples.iter().map(|example| &*example.bytes).filter(|bytes| !bytes.is_empty()).collect();
    if messages.is_empty() {
        rules.not_visible("List-Id", "no message can be written");
        rules.not_visible(form, "no message can be written");
    } else {
        let each_has = |name: &str| messages.iter().all(|bytes| Fields::read(bytes).0.all(name).count() == 1);
        match each_has("list-id") {
            true => rules.met("List-Id", "says what kind of mail it is"),
            false => rules.not_met("List-Id", "is missing", "report this: mailonce writes it"),
        }
        let lines = messages.iter().flat_map(|bytes| bytes.split(|byte| *byte == b'\n'));
        let is_short = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line).len()).max() <= Some(LONGEST_LINE);
        match is_short && ["from", "date", "message-id", "subject"].into_iter().all(each_has) {
            true => rules.met(form, "one From, Date, Message-ID and Subject, and no line beyond 998 octets"),
            false => rules.not_met(form, "is not as RFC 5322 has it", "report this, with the template"),
        }
    }
    match &settings.mail.feedback_sender {
        Some(sender) => rules.met("Feedback-ID", format!("Gmail counts complaints by kind of mail, under {sender}")),
        None => rules.not_met(
            "Feedback-ID",
            "optional: Gmail alone reads it, to count complaints by kind of mail",
            "set [mail] feedback_sender, 5 to 15 letters and digits",
        ),
    }
}

fn what_comes_back(settings: &Settings, seen: &Seen, rules: &mut Rules) {
    let heard = "bounces and complaints are heard";
    let returned = seen.returned.as_deref().unwrap_or_default();
    let reported = returned.iter().any(|row| row.hard + row.soft + row.blocked + row.complaints > 0);
    match (&settings.bounces.maildir, &settings.mail.envelope) {
        (Some(maildir), _) if !maildir.is_dir() => rules.not_met(
            heard,
            format!("there is no Maildir {}", maildir.display()),
            "name in [bounces] maildir the one that bounces come to",
        ),
        (None, _) if !reported => rules.not_met(
            heard,
            "nothing reads them",
            "set [bounces] maildir and have cron start `mailonce bounces`, or have the mail server pipe them into `mailonce bounces -`",
        ),
        (_, None) => rules.not_met(
            heard,
            "they are read, but without [mail] envelope one that returns no header belongs to no message",
            "set [mail] envelope = \"bounce+{id}-{token}@your.domain\"",
        ),
        (Some(maildir), _) => rules.met(heard, format!("`mailonce bounces` reads {}", maildir.display())),
        (None, _) => rules.met(heard, "reports came in within the last 30 days"),
    }

    let rate = "spam rate";
    let (sent, complaints) =
        returned.iter().fold((0, 0), |(sent, complaints), row| (sent + row.sent, complaints + row.complaints));
    let counted = format!("{} of {} in 30 days", count(complaints, "complaint"), count(sent, "message"));
    let share = (complaints * 10_000).checked_div(sent).unwrap_or(0);
    let others = "Gmail tells its own in Postmaster Tools alone";
    if seen.returned.is_none() {
        rules.not_visible(rate, format!("the ledger cannot be read; {others}"));
    } else if sent < settings.bounces.stop_at.after {
        rules.not_visible(rate, format!("{counted} say too little; {others}"));
    } else if share >= FEW_COMPLAINTS {
        let limit = if share >= TOO_MANY_COMPLAINTS { "from 0.3 % on mail is refused" } else { "0.1 % is the limit" };
        let remedy = "`mailonce rates` shows of what; write less often, and to those alone who asked for it";
        rules.not_met(rate, format!("{counted}; {limit}"), remedy);
    } else if !reported && settings.bounces.maildir.is_none() {
        rules.not_visible(rate, format!("no complaints are read here; {others}"));
    } else {
        rules.met(rate, format!("{counted}; {others}"));
    }
}

fn server(settings: &Settings, rules: &mut Rules) {
    match &settings.transport {
        TransportSettings::File { .. } => rules.not_visible("TLS", "mail goes to files"),
        TransportSettings::Smtp(smtp) => match smtp.tls {
            Tls::Starttls | Tls::Implicit => rules.met("TLS", format!("no mail goes to {} without it", smtp.host)),
            Tls::None if smtp.is_loopback() => {
                rules.not_visible("TLS", "the server is on this machine; it must use TLS from there on");
            }
            Tls::None => {
                rules.not_met(
                    "TLS",
                    format!("mail goes to {} in plain text", smtp.host),
                    "set [mail.smtp] tls = \"starttls\"",
                );
            }
        },
    }
    rules
        .not_visible("name of the sending server", "its address must have a name (PTR) that leads back to the address");
}

/// Prints the rules as a block of their own.
pub(super) fn print(output: Output, rules: &[Rule]) {
    output.print("bulk senders: what Gmail, Yahoo and Microsoft ask of them");
    for Rule { rule, stands, level, detail, remedy } in rules {
        let level = level.map_or("    ", Level::word);
        output.print(format!("{level}  {:<21}  {rule}: {detail}", stands.word()));
        if !remedy.is_empty() {
            output.print(format!("{:29}remedy: {remedy}", ""));
        }
    }
    output.print(
        "to see what is not visible from here: `mailonce detect --test-to you@example.com`, save that mail as it came, `mailonce doctor \
         --received FILE`",
    );
}
