//! `doctor --received`: what a mail looks like where it arrived.
//!
//! Large providers ask for a signature that counts for the sender of `From` and covers the ways to unsubscribe, and only a copy
//! from a mailbox shows what the servers on the way have made of a message. Nothing is asked of the DNS or of any server.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Result;
use percent_encoding::percent_decode_str;

use super::{Findings, Level, report};
use crate::bounces::{MOST_OF_A_MAIL, out_of_mbox};
use crate::command::Context;
use crate::dkim::{Form, Signature};
use crate::domain::address::{Address, masked};
use crate::failure::{Exit, Failure};
use crate::received::{Received, Results, is_aligned, shown};

/// The longest line that may be sent, in octets without its CRLF (RFC 5322 §2.1.1).
const LONGEST_LINE: usize = 998;

/// Headers that a reader or a mail program goes by. The two by which one unsubscribes are looked at by themselves.
const WORTH_SIGNING: [&str; 9] =
    ["To", "Subject", "Date", "Message-ID", "Reply-To", "MIME-Version", "Content-Type", "List-Id", "Feedback-ID"];

const SIGN: &str = "have the mail server sign as the domain of From (a service for that: verify the domain in its console; one's own \
                    Postfix: OpenDKIM or rspamd beside it), or set [mail.dkim]";
const SAVE_IT: &str = "save the mail as it came, with all of its header: in Gmail \"Show original\", then \"Download original\"; or \
                       take the file from the Maildir";

pub(super) fn run(context: &Context<'_>, copy: &Path) -> Result<Exit> {
    let mut findings = Findings::default();
    let bytes = read(copy)?;
    let Some(mail) = Received::read(&bytes) else {
        return Err(Failure::data(format!("{} is no mail", copy.display()), SAVE_IT).into());
    };
    let trusted = match context.settings_without_secrets() {
        Ok(settings) => settings.bounces.trusted_authserv,
        Err(failure) => {
            findings.ok("configuration", format!("not read, and hardly needed: {}", failure.what));
            None
        }
    };
    let results = mail.results(trusted.as_deref());
    let from = look_at_from(&mail, &mut findings);
    look_at_signatures(&mail, from.as_deref(), results.as_ref(), &mut findings);
    look_at_results(from.as_deref(), results.as_ref(), &mut findings);
    look_at_unsubscribe(&mail, &mut findings);
    look_at_names(&mail, &mut findings);
    look_at_form(&mail, &mut findings);
    for finding in &mut findings.0 {
        finding.what = masked(&finding.what);
    }
    Ok(report(context, findings, None))
}

fn read(copy: &Path) -> Result<Vec<u8>, Failure> {
    let is_stdin = copy == Path::new("-");
    let read = |from: &mut dyn Read| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        from.take(MOST_OF_A_MAIL as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes =
        if is_stdin { read(&mut io::stdin().lock()) } else { File::open(copy).and_then(|mut file| read(&mut file)) };
    let bytes =
        bytes.map_err(|err| Failure::data(format!("could not read the mail {}: {err}", copy.display()), SAVE_IT))?;
    if bytes.len() > MOST_OF_A_MAIL {
        let what = format!("{} is larger than {} MB", copy.display(), MOST_OF_A_MAIL >> 20);
        return Err(Failure::data(what, "name the file of one mail that mailonce has sent"));
    }
    Ok(out_of_mbox(bytes))
}

/// Returns the domain of `From`.
fn look_at_from(mail: &Received, findings: &mut Findings) -> Option<String> {
    let domain = mail.sender_domain();
    match (mail.fields.all("from").count(), &domain) {
        (1, Some(domain)) => findings.ok("from", format!("one From, of {}", shown(domain))),
        (1, None) => findings.fail("from", "From names no domain", "write mail.from as Name <address@domain>"),
        (0, _) => findings.fail("from", "there is no From", "look at what takes it out on the way"),
        (several, _) => findings.fail(
            "from",
            format!("{several} fields From: large providers refuse such mail"),
            "look at what adds one on the way",
        ),
    }
    domain
}

/// What is to be said of one signature.
#[derive(Default)]
struct Judged {
    /// Whose it is.
    named: String,
    /// Whether it counts for the domain of `From`.
    is_aligned: bool,
    said: Vec<(Level, String, String)>,
}

impl Judged {
    fn add(&mut self, level: Level, what: impl Into<String>, remedy: impl Into<String>) {
        self.said.push((level, what.into(), remedy.into()));
    }

    fn is_good(&self) -> bool {
        self.is_aligned && self.said.iter().all(|(level, ..)| *level != Level::Fail)
    }
}

/// One that counts and has all is enough: what is wrong with others besides is no failure.
fn look_at_signatures(mail: &Received, from: Option<&str>, results: Option<&Results>, findings: &mut Findings) {
    let signatures = mail.signatures();
    if signatures.is_empty() {
        return findings.fail("signature", "there is no DKIM-Signature", SIGN);
    }
    let mut judged = Vec::new();
    for signature in &signatures {
        judged.push(match signature {
            Err(why) => {
                let mut judged = Judged::default();
                let what = format!("a DKIM-Signature {}: it counts for nothing", shown(why));
                judged.add(Level::Fail, what, "look at what writes it, and at whether this copy is whole");
                judged
            }
            Ok(signature) => {
                let was_verified = results.is_some_and(|results| {
                    results.of("dkim").any(|found| {
                        found.has_passed() && found.signer().is_some_and(|signer| signer == signature.domain)
                    })
                });
                judge(signature, mail, from, was_verified)
            }
        });
    }
    let one_is_good = judged.iter().any(Judged::is_good);
    let one_is_aligned = judged.iter().any(|judged| judged.is_aligned);
    for judged in judged {
        if one_is_aligned && !judged.is_aligned && !judged.named.is_empty() {
            findings.ok("signature", format!("{}: another's, besides", judged.named));
            continue;
        }
        for (level, what, remedy) in judged.said {
            let level = if one_is_good && level == Level::Fail { Level::Warn } else { level };
            findings.add(level, "signature", what, remedy);
        }
    }
}

fn judge(signature: &Signature, mail: &Received, from: Option<&str>, was_verified: bool) -> Judged {
    let Signature { domain, selector, algorithm, .. } = signature;
    let named = format!("d={}, s={}, a={}", shown(domain), shown(selector), shown(algorithm));
    let is_aligned = from.is_none_or(|from| is_aligned(domain, from));
    let mut judged = Judged { named: named.clone(), is_aligned, said: Vec::new() };
    match from.filter(|_| !is_aligned) {
        None => judged.add(Level::Ok, format!("{named}: counts for From"), ""),
        Some(from) => {
            let what = format!("{named}: counts for nothing, as From is of {}", shown(from));
            judged.add(Level::Fail, what, SIGN);
        }
    }
    match algorithm.as_str() {
        "rsa-sha256" => {}
        "ed25519-sha256" => {
            judged.add(Level::Warn, "few receivers verify Ed25519", "have it signed with an RSA key as well");
        }
        _ => judged.add(
            Level::Fail,
            format!("a={} counts for nothing (RFC 8301)", shown(algorithm)),
            "sign by rsa-sha256: SignatureAlgorithm in opendkim.conf",
        ),
    }
    if let Some(octets) = signature.signed_octets {
        judged.add(
            Level::Warn,
            format!("l={octets}: anyone can add to the body behind that"),
            "take l= out: BodyLengths in opendkim.conf",
        );
    }
    if signature.header_form == Form::Simple {
        judged.add(
            Level::Warn,
            "c=simple: a server that folds a header in another way breaks the signature",
            "write Canonicalization relaxed/relaxed in opendkim.conf",
        );
    }
    look_at_coverage(signature, mail, &mut judged);
    match mail.has_the_body_of(signature) {
        None => judged.add(Level::Ok, "whether the body is the one that was signed is not visible from here", ""),
        Some(true) => judged.add(Level::Ok, "the body arrived as it was signed", ""),
        Some(false) if was_verified => judged.add(
            Level::Warn,
            "the body is another than the signed one, and the receiver verified it: this copy was changed since",
            SAVE_IT,
        ),
        Some(false) => judged.add(
            Level::Fail,
            "the body is another than the signed one",
            "save the mail as it came; if it is, look for what adds a footer or rewrites links behind the signer, and sign there",
        ),
    }
    judged
}

/// Whether a signature covers what it must (RFC 8058 §4) and what it should.
fn look_at_coverage(signature: &Signature, mail: &Received, judged: &mut Judged) {
    let unsigned = |name: &&str| mail.fields.has(&name.to_ascii_lowercase()) && signature.lists(name) == 0;
    let to_sign = |names: &[&str]| {
        let added: Vec<String> = names.iter().map(|name| format!("+{name}")).collect();
        format!(
            "have the mail server sign them: in opendkim.conf `SignHeaders *,{}` and `OversignHeaders From,Subject`; or set \
             [mail.dkim]",
            added.join(",")
        )
    };
    let one_click = mail.fields.has("list-unsubscribe-post");
    let ways_out: Vec<&str> = ["List-Unsubscribe", "List-Unsubscribe-Post"].into_iter().filter(unsigned).collect();
    let others: Vec<&str> = WORTH_SIGNING.into_iter().filter(unsigned).collect();
    let missing = [&ways_out[..], &others].concat();
    if one_click && !ways_out.is_empty() {
        let what = format!("not signed: {}; so no mail program offers the one click (RFC 8058)", missing.join(", "));
        return judged.add(Level::Fail, what, to_sign(&missing));
    }
    if !missing.is_empty() {
        return judged.add(Level::Warn, format!("not signed: {}", missing.join(", ")), to_sign(&missing));
    }
    let can_be_added = |name: &&str| signature.lists(name) <= mail.fields.all(&name.to_ascii_lowercase()).count();
    let can_be_added: Vec<&str> = ["From", "Subject"].into_iter().filter(can_be_added).collect();
    let added = match can_be_added.as_slice() {
        [] => "and no second From or Subject can be added".to_owned(),
        names => format!("but a second {} could be added (OversignHeaders)", names.join(" or ")),
    };
    judged.add(Level::Ok, format!("every header that matters is signed, {added}"), "");
}

fn look_at_results(from: Option<&str>, results: Option<&Results>, findings: &mut Findings) {
    let Some(results) = results else {
        let what = "SPF, DKIM and DMARC are not visible from here: the copy has no Authentication-Results";
        return findings.ok("receiver", what);
    };
    let server = if results.server.is_empty() { "the receiver".into() } else { shown(&results.server) };
    for method in ["spf", "dkim", "dmarc"] {
        let Some(found) = results.of(method).next() else {
            findings.ok("receiver", format!("{method} is not visible from here: {server} says nothing of it"));
            continue;
        };
        let passed = |found: &&crate::received::Found| found.has_passed();
        let said = format!("{server} says {method}={}", shown(&found.result));
        if method == "dkim" {
            let counts = |signer: Option<String>| match (signer, from) {
                (Some(signer), Some(from)) => is_aligned(&signer, from),
                _ => true,
            };
            let signers: Vec<Option<String>> = results.of(method).filter(passed).map(|found| found.signer()).collect();
            if let Some(signer) = signers.iter().find(|signer| counts((*signer).clone())) {
                let of = signer.as_ref().map_or_else(String::new, |signer| format!(" of {}", shown(signer)));
                findings.ok("receiver", format!("{server} says dkim=pass{of}"));
                continue;
            }
            if let Some(Some(signer)) = signers.first() {
                let what = format!("{server} says dkim=pass of {} alone, which does not count for From", shown(signer));
                findings.fail("receiver", what, SIGN);
                continue;
            }
        }
        let remedy = match method {
            "spf" => {
                "name the servers that send your mail in the TXT record of the envelope sender's domain: v=spf1 …; the relay says \
                 which"
            }
            "dkim" => {
                "hold the TXT record <s>._domainkey.<d> against the key that signs; if it is right, something changes mail behind the \
                 signer"
            }
            _ => {
                "SPF or DKIM must pass for the domain of From, and it needs a TXT record at _dmarc: v=DMARC1; p=none is enough"
            }
        };
        match (found.result.as_str(), method) {
            ("pass", _) => findings.ok("receiver", said),
            ("fail" | "permerror", _) | ("none" | "neutral" | "policy", "dkim") => {
                findings.fail("receiver", said, remedy)
            }
            ("temperror", _) => findings.warn("receiver", said, "send another mail, and look at that"),
            _ => findings.warn("receiver", format!("{said}; large providers ask for a pass"), remedy),
        }
    }
}

fn look_at_unsubscribe(mail: &Received, findings: &mut Findings) {
    const CHECK: &str = "unsubscribe";
    const SET: &str = "set [mail] unsubscribe = \"https://…{unsubscribe}\" and unsubscribe_mailto";
    const ON_THE_WAY: &str = "mailonce writes both beside each other: look at what changes them on the way";
    let links = mail.unsubscribe();
    let begins = |scheme: &str| links.iter().any(|link| link.to_ascii_lowercase().starts_with(scheme));
    let (page, mailbox) = (begins("https://"), begins("mailto:"));
    let post: Vec<&str> = mail.fields.all("list-unsubscribe-post").collect();
    match mail.fields.all("list-unsubscribe").count() {
        0 => return findings.warn(CHECK, "there is no List-Unsubscribe", SET),
        1 => {}
        several => return findings.fail(CHECK, format!("{several} fields List-Unsubscribe"), ON_THE_WAY),
    }
    match post.as_slice() {
        [post]
            if page
                && post.split_whitespace().collect::<String>().eq_ignore_ascii_case("List-Unsubscribe=One-Click") =>
        {
            findings.ok(CHECK, "one click: a page by https, and List-Unsubscribe-Post beside it");
        }
        [] if page => findings.fail(CHECK, "a page by https, but no List-Unsubscribe-Post: no one click", ON_THE_WAY),
        [_, ..] if page => findings.fail(CHECK, "List-Unsubscribe-Post is not List-Unsubscribe=One-Click", ON_THE_WAY),
        _ => findings.warn(CHECK, "no page by https: large providers ask for the one click", SET),
    }
    match mailbox {
        true => findings.ok(CHECK, "a mailbox to write to"),
        false => findings.warn(
            CHECK,
            "no mailbox to write to, which some mail programs need",
            "set [mail] unsubscribe_mailto",
        ),
    }
    let to = mail.fields.get("to").and_then(|to| Address::parse(to).ok());
    let holds_it = |to: &Address| {
        let holds = |link: &String| {
            let link = percent_decode_str(link).decode_utf8_lossy().to_lowercase();
            link.contains(&to.envelope().to_lowercase())
        };
        links.iter().any(holds)
    };
    if to.is_some_and(|to| holds_it(&to)) {
        findings.warn(CHECK, "the link holds the recipient's address", "write {unsubscribe} in place of {email}");
    }
}

/// What mail programs and bounces tell messages and kinds of mail apart by.
fn look_at_names(mail: &Received, findings: &mut Findings) {
    match mail.has_our_message_id() {
        true => findings.ok("names", "Message-ID is the one that mailonce wrote"),
        false if mail.fields.has("message-id") => findings.warn(
            "names",
            "Message-ID is another than mailonce writes: the relay put its own there, as Amazon SES does",
            "bounces are matched by other ways then: set [mail] envelope = \"bounce+{id}-{token}@your.domain\"",
        ),
        // Said with the others that must be there.
        false => {}
    }
    let ids: Vec<&str> = mail.fields.all("feedback-id").collect();
    match ids.as_slice() {
        [] => findings.ok("names", "no Feedback-ID, which only Gmail reads"),
        [id] => {
            let parts: Vec<&str> = id.split(':').collect();
            let sender = parts.last().map_or(0, |sender| sender.trim().len());
            if parts.len() <= 4 && (5..=15).contains(&sender) {
                findings.ok("names", "Feedback-ID has a form that Gmail reads");
            } else {
                let what = format!(
                    "Gmail reads no Feedback-ID of this form (parts: {}; characters of the last: {sender})",
                    parts.len()
                );
                findings.warn(
                    "names",
                    what,
                    "up to 4 parts with colons between them are read, the last of 5 to 15 characters",
                );
            }
        }
        several => findings.warn(
            "names",
            format!("{} fields Feedback-ID: Gmail reads none of them", several.len()),
            "take [mail] feedback_sender out where the relay writes its own",
        ),
    }
    match mail.fields.all("list-id").count() {
        1 => findings.ok("names", "List-Id says what kind of mail it is"),
        number => findings.warn(
            "names",
            format!("{} List-Id", if number == 0 { "no".into() } else { number.to_string() }),
            "mailonce writes one: look at what changes it on the way",
        ),
    }
}

fn look_at_form(mail: &Received, findings: &mut Findings) {
    const ON_THE_WAY: &str = "mailonce writes one of each: look at what changes it on the way";
    let mut is_sound = true;
    for name in ["Date", "Message-ID", "To", "Subject", "MIME-Version", "Content-Type"] {
        match mail.fields.all(&name.to_ascii_lowercase()).count() {
            1 => continue,
            0 if ["Date", "Message-ID"].contains(&name) => {
                findings.fail("form", format!("there is no {name}"), ON_THE_WAY);
            }
            0 => continue,
            several => findings.fail("form", format!("{several} fields {name}"), ON_THE_WAY),
        }
        is_sound = false;
    }
    if mail.longest_line > LONGEST_LINE {
        is_sound = false;
        let what = format!("a line of {} octets, and {LONGEST_LINE} are allowed", mail.longest_line);
        findings.warn("form", what, "look at what joins lines on the way");
    }
    if is_sound {
        findings.ok("form", format!("each header once, and no line beyond {LONGEST_LINE} octets"));
    }
}
