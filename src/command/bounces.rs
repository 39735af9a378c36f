//! `bounces`: hears what came back. Reports and suppressions need no run lock; what settles a doubt waits for it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::Context;
use crate::bounces::{self, Heard, Item, Kind, Matcher, Place};
use crate::cli;
use crate::domain::address::Address;
use crate::domain::bounce::Class;
use crate::domain::instant::Instant;
use crate::domain::message_key;
use crate::domain::state::Origin;
use crate::domain::unsubscribe::Token;
use crate::failure::{Exit, Failure};
use crate::ledger::{DeadAddresses, Filed, Ledger, Notice, Report, Stopped};
use crate::output::count;
use crate::progress;
use crate::run;
use crate::run_lock::RunLock;
use crate::settings::Settings;
use crate::wishes;

/// So many mails are looked at together: one look through the ledger finds the messages of all of them.
const BATCH: usize = 10_000;
/// Or so many bytes of mails: what is kept of one is no longer than it was.
const BATCH_BYTES: usize = 256 * 1024 * 1024;
/// So many reports share a commit: a run beside waits no longer than for one.
const OF_A_COMMIT: usize = 500;
/// So many mails are read in one run.
const MOST_MAILS: usize = 200_000;
/// So many mails that cannot be read are kept of a pipe.
const MOST_UNREAD: usize = 200;

const HELD: &str = "dead addresses held";
const BLOCKED: &str = "mail turned away";

/// What one run heard, for people and as JSON.
#[derive(Debug, Default, Serialize)]
struct Told {
    read: u64,
    /// Counted before.
    known: u64,
    /// Of no message in this ledger.
    unmatched: u64,
    /// What a person must read: no report, and nothing that says whom to take off.
    unread: u64,
    by_class: BTreeMap<&'static str, u64>,
    /// Addresses that get no more mail.
    suppressed: u64,
    /// Messages in doubt that are sent, as is clear now.
    settled: u64,
    /// Dead addresses that a person must decide about.
    held: u64,
    stopped: Vec<String>,
}

/// One mail, and what it says.
struct Mail {
    item: Item,
    digest: [u8; 32],
    heard: Heard,
    /// Its message.
    message: Option<i64>,
}

impl Mail {
    /// What it means, unless it is a wish: what is no report a person must read.
    fn class(&self) -> Class {
        match self.heard.kind {
            Kind::Request | Kind::Unreadable => Class::Unread,
            _ => self.heard.class,
        }
    }
}

pub fn run(context: &Context<'_>, args: &cli::Bounces) -> Result<Exit> {
    if args.pipe.is_none() {
        return hear(context, args);
    }
    // Whatever is wrong here: any other code has a mail server throw the mail away, or send it back.
    let heard =
        bounces::one(std::io::stdin().lock()).map_err(Into::into).and_then(|item| hear_one(context, args, item));
    heard.map(|_| Exit::Done).map_err(|err| {
        let failure = err.downcast::<Failure>().unwrap_or_else(|err| Failure::internal(format!("{err:#}")));
        let kept = match failure.kept.as_str() {
            "" => "the mail is with whoever handed it over".to_owned(),
            kept => kept.to_owned(),
        };
        Failure { exit: Exit::AnotherRunHoldsTheLock, quiet: false, ..failure }.kept(kept).into()
    })
}

fn hear_one(context: &Context<'_>, args: &cli::Bounces, item: Item) -> Result<Exit> {
    let settings = context.settings_without_secrets()?;
    let mut hearing = Hearing::begin(context, &settings, args)?;
    hearing.hear(item)?;
    hearing.end()
}

fn hear(context: &Context<'_>, args: &cli::Bounces) -> Result<Exit> {
    let settings = context.settings_without_secrets()?;
    let maildir = args.maildir.as_deref().or(settings.bounces.maildir.as_deref());
    let items: Box<dyn Iterator<Item = Result<Item, Failure>>> = match (&args.mbox, maildir) {
        (Some(mbox), _) => Box::new(bounces::mbox(mbox)?),
        (None, Some(maildir)) => Box::new(bounces::maildir(maildir, args.again, MOST_MAILS)?),
        (None, None) if args.apply => Box::new(std::iter::empty()),
        (None, None) => {
            let next = "set [bounces] maildir, or name one with --maildir, an mbox with --mbox, or pipe a mail into \
                        `mailonce bounces -`";
            return Err(Failure::config("no mailbox is named where bounces come in", next).into());
        }
    };
    let mut hearing = Hearing::begin(context, &settings, args)?;
    let bar = progress::bar("reading", None, context.output.json);
    for item in items.take(MOST_MAILS) {
        match item {
            Ok(item) => hearing.hear(item)?,
            // One mail alone.
            Err(failure) => {
                hearing.trouble += 1;
                bar.suspend(|| context.output.failure(&failure));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    hearing.end()
}

struct Hearing<'a> {
    context: &'a Context<'a>,
    settings: &'a Settings,
    matcher: Matcher,
    ledger: Ledger,
    apply: bool,
    is_pipe: bool,
    now: Instant,
    told: Told,
    /// Read, and not in the ledger yet.
    unfiled: Vec<Mail>,
    unfiled_bytes: usize,
    /// Messages of which a complaint or a dead address came back.
    counted: Vec<i64>,
    trouble: u64,
}

impl<'a> Hearing<'a> {
    fn begin(context: &'a Context<'_>, settings: &'a Settings, args: &cli::Bounces) -> Result<Hearing<'a>, Failure> {
        let ledger = context.ledger(settings)?;
        context.heartbeat.begin();
        Ok(Hearing {
            context,
            settings,
            matcher: Matcher::new(settings.mail.envelope.as_deref()),
            ledger,
            apply: args.apply,
            is_pipe: args.pipe.is_some(),
            now: context.clock.now(),
            told: Told::default(),
            unfiled: Vec::new(),
            unfiled_bytes: 0,
            counted: Vec::new(),
            trouble: 0,
        })
    }

    /// Reads a mail, and keeps what it says until it is filed with others. The mail itself is not kept: it may be long.
    fn hear(&mut self, mut item: Item) -> Result<(), Failure> {
        self.told.read += 1;
        let digest = bounces::digest(&item.mail);
        if self.ledger.knows_report(&digest)? {
            self.told.known += 1;
            return item.done();
        }
        let heard = bounces::read(&item.mail, &self.matcher);
        if self.is_pipe && heard.kind == Kind::Unreadable {
            keep_unread(&self.settings.folder, &digest, &item.mail)?;
        }
        self.unfiled_bytes += std::mem::take(&mut item.mail).len();
        self.unfiled.push(Mail { item, digest, heard, message: None });
        if self.unfiled.len() == BATCH || self.unfiled_bytes >= BATCH_BYTES { self.file_all() } else { Ok(()) }
    }

    /// Takes what was read into the ledger, and marks the mails as read.
    fn file_all(&mut self) -> Result<(), Failure> {
        let mut mails = std::mem::take(&mut self.unfiled);
        self.unfiled_bytes = 0;
        self.find_messages(&mut mails)?;
        let is_hard = |mail: &&Mail| mail.message.is_some() && mail.heard.class == Class::Hard;
        let hard = mails.iter().filter(is_hard).count();
        let dead = match self.apply {
            true => DeadAddresses::Suppress,
            false => self.ledger.dead_of_late(self.now)?.with(hard as u64),
        };
        let mut mails = mails.into_iter().peekable();
        while mails.peek().is_some() {
            let some: Vec<Mail> = mails.by_ref().take(OF_A_COMMIT).collect();
            self.file(some, dead)?;
        }
        Ok(())
    }

    /// Finds the message that each mail is about: by the row beside its token, else by one look through all messages.
    fn find_messages(&self, mails: &mut [Mail]) -> Result<(), Failure> {
        let mut unknown = Vec::new();
        for mail in mails.iter_mut() {
            for found in &mail.heard.tokens {
                let row = found.id.as_deref().and_then(|id| i64::from_str_radix(id, 36).ok());
                match row {
                    Some(row) if self.ledger.is_row_of(row, &found.token)? => mail.message = mail.message.or(Some(row)),
                    _ => unknown.push(found.token.clone()),
                }
            }
        }
        let unknown: Vec<&str> = unknown.iter().map(String::as_str).collect();
        let rows = self.ledger.rows_of_tokens(&unknown)?;
        for mail in mails {
            let known = || mail.heard.tokens.iter().find_map(|found| rows.get(&found.token).copied());
            mail.message = mail.message.or_else(known);
        }
        Ok(())
    }

    fn file(&mut self, mails: Vec<Mail>, dead: DeadAddresses) -> Result<(), Failure> {
        let (mut reports, mut of) = (Vec::new(), Vec::new());
        for mail in &mails {
            // Recorded as well: read again, it is no new wish of someone who was taken back since.
            let is_wish = mail.heard.kind == Kind::Request && self.wish(&mail.heard)?;
            let class = if is_wish { Class::Unsubscribe } else { mail.class() };
            reports.push(Report { class, ..report(mail) });
            of.push((mail, is_wish));
        }
        let filed = self.ledger.reports().file(&reports, dead, self.now)?;
        for ((mail, is_wish), filed) in of.into_iter().zip(filed) {
            match filed {
                _ if is_wish => *self.told.by_class.entry(Class::Unsubscribe.word()).or_default() += 1,
                Filed::Known => self.told.known += 1,
                Filed::Unmatched if matches!(mail.heard.kind, Kind::Request | Kind::Unreadable) => {
                    self.told.unread += 1;
                    self.say(mail, "to be read by a person");
                }
                Filed::Unmatched => {
                    self.told.unmatched += 1;
                    self.say(mail, "of no message in this ledger");
                }
                Filed::Recorded { class, suppressed } => {
                    *self.told.by_class.entry(class.word()).or_default() += 1;
                    self.told.suppressed += u64::from(suppressed);
                    if matches!(class, Class::Complaint | Class::Hard) {
                        self.counted.extend(mail.message);
                    }
                    self.say(mail, if suppressed { "no more mail to its address" } else { "recorded" });
                }
            }
        }
        mails.into_iter().try_for_each(|mail| mail.item.done())
    }

    fn say(&self, mail: &Mail, what: &str) {
        let token = mail.heard.tokens.first().map_or("-", |found| message_key::short_id(&found.token));
        self.context.output.decision(format!("{} {token}: {} - {what}", mail.item.place, mail.heard.class));
    }

    /// Takes off the list who asks for it, if it is certain who that is.
    fn wish(&mut self, heard: &Heard) -> Result<bool, Failure> {
        let scope = self.settings.unsubscribe.scope;
        if !heard.signed_tokens.is_empty() {
            let Some(keys) = &self.settings.mail.keys else {
                let file = self.settings.unsubscribe.keys_file.display();
                return Err(Failure::config(
                    format!("a mail asks to be taken off, and {file} cannot be read"),
                    "let the user that reads the bounces read the keys",
                ));
            };
            let verified = heard.signed_tokens.iter().map(|token| keys.verify(token));
            let tokens: Vec<Token> = verified.flatten().collect();
            let taken = wishes::take(&mut self.ledger, &tokens, Origin::Mail, scope, self.now)?;
            self.told.suppressed += taken.iter().filter(|taken| taken.is_new()).count() as u64;
            return Ok(taken.iter().any(wishes::Taken::is_heard));
        }
        let Some(address) = self.authenticated_sender(heard) else { return Ok(false) };
        let reason = "asked for it by mail".to_owned();
        self.told.suppressed += self.ledger.suppressions().add(&[(address, reason)], Origin::Mail, self.now)?;
        Ok(true)
    }

    /// Who wrote to the mailbox for that, if our own mail server says that it was them (RFC 8601, RFC 7489).
    fn authenticated_sender(&self, heard: &Heard) -> Option<Address> {
        let trusted = self.settings.bounces.trusted_authserv.as_deref()?;
        let mailbox = self.settings.mail.unsubscribe.iter().find_map(|link| link.strip_prefix("mailto:"))?;
        let mailbox = mailbox.split('?').next().unwrap_or_default();
        if !heard.sent_to.iter().any(|to| to.eq_ignore_ascii_case(mailbox)) {
            return None;
        }
        let is_trusted = |results: &&String| {
            results.split([';', ' ']).next().is_some_and(|server| server.eq_ignore_ascii_case(trusted))
        };
        let results = heard.authentication_results.iter().find(is_trusted)?;
        let has_passed = |result: &str| {
            let result = result.trim().to_ascii_lowercase();
            result.strip_prefix("dmarc=pass").is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
        };
        let passed = results.split(';').skip(1).any(has_passed);
        heard.from.as_deref().filter(|_| passed).and_then(|from| Address::parse(from).ok())
    }

    fn end(mut self) -> Result<Exit> {
        self.file_all()?;
        if self.apply {
            self.told.suppressed += self.ledger.reports().apply_held(self.now)?;
        }
        self.settle()?;
        let stopped = self.ledger.reports().stop_campaigns(&self.counted, self.settings.bounces.stop_at, self.now)?;
        self.told.stopped = stopped.iter().map(|stopped| stopped.campaign_id.clone()).collect();
        self.told.held = self.ledger.count_held(self.now)?;
        let news = self.news(&stopped)?;
        let output = self.context.output;
        output.document("bounces", &self.told);
        output.tell(self.told.line());
        news.iter().for_each(|line| output.alarm(line));
        Ok(if news.is_empty() && self.trouble == 0 { Exit::Done } else { Exit::NeedsAPerson })
    }

    /// Under the run lock, if it is free: else the run that has it, or the next one, does this.
    fn settle(&mut self) -> Result<(), Failure> {
        match RunLock::take(&self.settings.ledger, "bounces", std::time::Duration::ZERO) {
            Ok(lock) => {
                let mut ledger = run::open_locked(self.settings, &lock)?;
                if ledger.check_clock(self.now).is_ok() {
                    self.told.settled = ledger.reports().settle_doubts(self.now)?;
                }
                Ok(())
            }
            Err(failure) if failure.exit == Exit::AnotherRunHoldsTheLock => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// What a person is told once. Of a pipe nobody hears: the next run tells it.
    fn news(&mut self, stopped: &[Stopped]) -> Result<Vec<String>, Failure> {
        let mut news: Vec<String> = Vec::new();
        if self.is_pipe {
            return Ok(news);
        }
        for Stopped { campaign_id, planned_at, why } in stopped {
            news.push(format!(
                "error: campaign {campaign_id} is paused: {why} of {planned_at} came back\n kept: what was not sent is still \
                 planned\n next: `mailonce rates` shows what came back; `mailonce campaign resume {campaign_id}` goes on, \
                 `mailonce campaign cancel {campaign_id}` ends it"
            ));
        }
        if !stopped.is_empty() {
            self.ledger.notices().mark_told(self.now)?;
        }
        let blocked = self.ledger.blocked_of_late()?;
        let blocked = (blocked.sent >= 20 && blocked.blocked * 20 > blocked.sent).then(|| Notice {
            key: BLOCKED.into(),
            line: format!(
                "of the last {}, {} came back because of who sends them: `mailonce doctor` looks at that; ask whoever runs the \
                 server",
                count(blocked.sent, "message"),
                blocked.blocked
            ),
        });
        news.extend(tell_of_held(&mut self.ledger, self.now)?);
        let standing: Vec<Notice> = blocked.into_iter().collect();
        news.extend(self.ledger.notices().note(BLOCKED, &standing, self.now)?.new);
        Ok(news)
    }
}

/// What a person is told once of dead addresses that are so many that they are held.
pub(super) fn tell_of_held(ledger: &mut Ledger, now: Instant) -> Result<Vec<String>, Failure> {
    let held = ledger.count_held(now)?;
    let standing = (held > 0).then(|| Notice {
        key: HELD.into(),
        line: format!(
            "{} came back as unknown within a day, too many to be only that: they are still written to, until `mailonce \
             bounces --apply` says that they are dead",
            count(held, "address")
        ),
    });
    let standing: Vec<Notice> = standing.into_iter().collect();
    Ok(ledger.notices().note(HELD, &standing, now)?.new)
}

impl Told {
    fn line(&self) -> String {
        let mut line = format!("{} read", count(self.read, "mail"));
        for (class, number) in &self.by_class {
            line.push_str(&format!(", {class} {number}"));
        }
        for (number, what) in
            [(self.known, "known"), (self.unmatched, "unmatched"), (self.unread, "to be read by a person")]
        {
            if number > 0 {
                line.push_str(&format!(", {what} {number}"));
            }
        }
        line.push_str(&format!("; {} taken off the list", count(self.suppressed, "address")));
        if self.settled > 0 {
            line.push_str(&format!("; {} no longer in doubt", count(self.settled, "message")));
        }
        line
    }
}

fn report(mail: &Mail) -> Report {
    let Heard { kind, class, recipients, diagnostic, reporter, from, .. } = &mail.heard;
    let recipient = recipients.iter().find(|recipient| recipient.class == *class).or(recipients.first());
    let is_text = mail.heard.tokens.first().is_some_and(|found| found.place == Place::Text);
    let asks = matches!(kind, Kind::Request | Kind::Unreadable);
    Report {
        digest: mail.digest,
        message: mail.message.filter(|_| !asks),
        class: mail.class(),
        about: recipients.iter().filter_map(|one| one.original.clone().or_else(|| one.final_.clone())).collect(),
        action: recipient.and_then(|one| one.action.clone()),
        status: recipient.and_then(|one| one.status.clone()),
        diagnostic: match from {
            Some(from) if asks => Some(format!("from {from}")),
            _ => diagnostic.clone(),
        },
        reporter: reporter.clone(),
        proves: !is_text && mail.heard.proves_acceptance(),
    }
}

/// Keeps a mail that a pipe brought and that cannot be read: nobody else does.
fn keep_unread(folder: &Path, digest: &[u8; 32], mail: &[u8]) -> Result<(), Failure> {
    let unread = folder.join("bounces").join("unread");
    let keep = || -> std::io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&unread)?;
        if fs::read_dir(&unread)?.take(MOST_UNREAD).count() >= MOST_UNREAD {
            return Ok(());
        }
        let path = unread.join(format!("{}.eml", message_key::hex(&digest[..16])));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        std::io::Write::write_all(&mut file, mail)?;
        file.sync_all()
    };
    keep().map_err(|err| {
        let what = format!("could not keep a mail in {}: {err}", unread.display());
        Failure::ledger(what, "make room, or let this user write there")
    })
}
