//! `doctor`: looks at everything a run needs, changes nothing and sends nothing, and says the remedy.

mod flows;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;
use chrono::TimeDelta;
use serde::Serialize;

use super::{Context, detect, run_campaigns, trial};
use crate::cli;
use crate::domain::campaign::Audience;
use crate::domain::cart::Cart;
use crate::domain::instant::{self, Instant};
use crate::domain::span;
use crate::failure::{Exit, Failure};
use crate::ledger::{Kind, Records};
use crate::mail::smtp::SmtpServer;
use crate::output::count;
use crate::run_lock::{Found, NOT_KNOWN, RunLock};
use crate::settings::{Settings, TransportSettings};
use crate::source::{self, Advice, OrdersRead, Row, Source, Touched};
use crate::user::{self, Right};

/// Below this much room on the ledger's disk, nothing can be relied on.
const LEAST_ROOM: u64 = 32 << 20;
/// Below this much, it is time to look.
const LITTLE_ROOM: u64 = 512 << 20;
/// A run that holds the lock for longer is not expected.
const LONG_HELD: TimeDelta = TimeDelta::minutes(15);
const A_DAY: TimeDelta = TimeDelta::hours(24);
/// A campaign that runs as often as this is a mistake in its schedule, most likely.
const OFTEN: TimeDelta = TimeDelta::minutes(59);
/// Runs looked through for the last good one.
const RUNS: u32 = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Works, and could be better.
    Warn,
    /// Must be mended.
    Fail,
}

#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    check: &'static str,
    what: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { level, check, what: what.into(), remedy: remedy.into() });
    }

    fn ok(&mut self, check: &'static str, what: impl Into<String>) {
        self.add(Level::Ok, check, what, "");
    }

    fn warn(&mut self, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Level::Warn, check, what, remedy);
    }

    fn fail(&mut self, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Level::Fail, check, what, remedy);
    }

    /// `Ok` with these words, or the failure.
    fn take<T>(&mut self, check: &'static str, result: Result<T, Failure>, words: impl Into<String>) -> Option<T> {
        match result {
            Ok(value) => {
                self.ok(check, words);
                Some(value)
            }
            Err(failure) => {
                self.fail(check, failure.what, failure.next);
                None
            }
        }
    }
}

pub fn run(context: &Context<'_>, args: &cli::Doctor) -> Result<Exit> {
    let mut findings = Findings::default();
    let settings = context.settings();
    let with_secrets = findings.take("configuration", settings, "every key is known and within its bounds");
    // Whom the passwords are not for is still told of all the rest.
    let settings = with_secrets.clone().or_else(|| context.settings_without_secrets().ok());
    if let Some(settings) = settings {
        look_at_placeholders(&settings, &mut findings);
        look_at_mail(&settings, &mut findings);
        if with_secrets.is_some() {
            look_at_server(&settings, &mut findings);
            look_at_source(context, &settings, &mut findings);
        }
        look_at_rights(&settings, &mut findings);
        let checked = detect::check_template(&settings, context.clock.now());
        findings.take("template", checked, "the cart message can be rendered");
        // Read first: the file may lag behind the ledger, never the other way round.
        let record = RunLock::peek(&settings.ledger);
        let opened = Records::open(settings.place());
        let words = opened.as_ref().map_or_else(
            |_| String::new(),
            |ledger| format!("{} ledger {}, on a local disk", ledger.kind().word(), ledger.path().display()),
        );
        if let Some(ledger) = findings.take("ledger", opened, words) {
            findings.take(
                "ledger",
                crate::run::check_fit(&settings, &ledger, crate::clock::Clock::new(None)),
                "its kind fits where mail is sent to",
            );
            look_at_campaigns(context, &settings, &ledger, &mut findings);
            let now = context.clock.now();
            flows::look_at_pools(&settings, &ledger, now, &mut findings)?;
            if let Ok(definitions) = super::run_campaigns::definitions(&settings) {
                flows::look_at_caps(&settings, &definitions.campaigns, now, &mut findings);
            }
            look_at_permissions(&settings, &mut findings);
            look_at_room(&settings, &mut findings);
            look_at_lock(&settings, &ledger, record, &mut findings);
            look_at_history(context, &settings, &ledger, args, &mut findings)?;
        }
    }
    let findings = findings.0;
    let worst = |level| findings.iter().filter(|finding| finding.level == level).count() as u64;
    context.output.document(&serde_json::json!({
        "failed": worst(Level::Fail), "warned": worst(Level::Warn), "findings": findings,
    }));
    for finding in &findings {
        let level = match finding.level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        context.output.print(format!("{level}  {:<13}  {}", finding.check, finding.what));
        if !finding.remedy.is_empty() {
            context.output.print(format!("{:21}remedy: {}", "", finding.remedy));
        }
    }
    Ok(if worst(Level::Fail) > 0 { Exit::NeedsAPerson } else { Exit::Done })
}

/// What `mailonce init` wrote for a person to replace, and what it left out.
fn look_at_placeholders(settings: &Settings, findings: &mut Findings) {
    let host = match &settings.transport {
        TransportSettings::Smtp(smtp) => smtp.host.as_str(),
        TransportSettings::File { .. } => "",
    };
    let from = settings.mail.from.address.to_string();
    let unsubscribe = settings.mail.unsubscribe.first().map_or("", String::as_str);
    let untouched: Vec<&str> = [
        ("shop.name", settings.shop.name.as_str(), "Example Shop"),
        ("mail.from", &from, "hello@shop.example"),
        ("mail.unsubscribe", unsubscribe, "mailto:unsubscribe@shop.example?subject={unsubscribe}"),
        ("mail.smtp.host", host, "smtp.shop.example"),
    ]
    .into_iter()
    .filter_map(|(key, value, example)| (value == example).then_some(key))
    .collect();
    if !untouched.is_empty() {
        let what = format!("{} as `mailonce init` wrote: an example's, not yours", untouched.join(", "));
        findings.warn("configuration", what, "write your own before anyone gets a mail");
    }
    if settings.shop.address.is_none() {
        let remedy = "set [shop] address: the law of many countries asks for one in mail that advertises";
        findings.warn("configuration", "messages name no postal address", remedy);
    }
}

fn look_at_mail(settings: &Settings, findings: &mut Findings) {
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
    if settings.mail.unsubscribe.is_empty() {
        findings.warn(
            "mail",
            "messages have no List-Unsubscribe",
            "set [mail] unsubscribe to a mailto: or https: address; large providers ask for it",
        );
    }
    if settings.limits.per_second.is_none() && settings.limits.per_hour.is_none() {
        findings.warn("mail", "no limit is set", "ask the provider, and set [mail.limits] per_second or per_hour");
    }
}

fn probe(server: &SmtpServer) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|err| format!("could not look at the server: {err}"))?.block_on(server.probe())
}

fn look_at_server(settings: &Settings, findings: &mut Findings) {
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

fn look_at_source(context: &Context<'_>, settings: &Settings, findings: &mut Findings) {
    let described = settings.source.kind.described();
    let looked = source::open(&settings.source).and_then(|mut source| {
        let mut advice = source.advice()?;
        let (carts, sample) = CartsInReach::count(settings, source.as_mut(), context.clock.now())?;
        advice.extend(source.doubts(&sample[..sample.len().min(CartsInReach::MOST_DOUBTED)])?);
        Ok((advice, carts))
    });
    match looked {
        Ok((advice, carts)) => {
            if advice.is_empty() {
                findings.ok("source", format!("{described} has what carts are read from"));
            }
            for Advice { what, remedy } in advice {
                findings.warn("source", format!("{described} {what}"), remedy);
            }
            carts.judge(settings, findings);
            if let Some(window) = settings.attribution {
                look_at_orders(settings, context.clock.now() - span::delta(window), findings);
            }
        }
        Err(err) => match err.downcast_ref::<Failure>() {
            Some(failure) => findings.fail("source", failure.what.clone(), failure.next.clone()),
            None => findings.fail("source", format!("{err:#}"), "check [source]"),
        },
    }
}

/// Reads the orders once, as `detect` does after it has sent what is due.
fn look_at_orders(settings: &Settings, since: Instant, findings: &mut Findings) {
    let read = source::open(&settings.source).and_then(|mut source| source.orders(since, &mut |_| Ok(())));
    match read {
        Ok(OrdersRead { orders, without_total, unusable, first_unusable }) => {
            let mut said = format!("{} since {}", count(orders, "order"), instant::text(since));
            if let Some(first) = first_unusable {
                said.push_str(&format!(", {} that cannot be used, the first: {first}", count(unusable, "row")));
            }
            if orders > 0 && without_total == orders {
                let remedy = "what they come to is not known: have `total` and `currency` read (source.orders)";
                findings.warn("orders", format!("{said}; none has a total"), remedy);
            } else if orders == 0 {
                let remedy = "if the shop has some, a comparison of times is wrong, or source.timezone";
                findings.warn("orders", said, remedy);
            } else {
                findings.ok("orders", said);
            }
        }
        Err(err) => match err.downcast_ref::<Failure>() {
            Some(failure) => findings.fail("orders", failure.what.clone(), failure.next.clone()),
            None => findings.fail("orders", format!("{err:#}"), "check [source]"),
        },
    }
}

/// The carts touched within `max_age`, to tell a query that finds too little or too much.
#[derive(Default)]
struct CartsInReach {
    carts: u64,
    /// Whose consent is not known.
    without_consent: u64,
    bad: u64,
    /// What is wrong with the first bad row.
    first_bad: String,
    /// How many were looked for among the orders, and how many were there.
    looked_for: u64,
    ordered: u64,
}

impl CartsInReach {
    /// So many are looked for among the orders.
    const MOST_LOOKED_FOR: usize = 200;
    /// With so many, queries are tried with other parameters than theirs.
    const MOST_DOUBTED: usize = 20;
    /// From so many on, chance is no explanation.
    const TELLING: u64 = 20;

    /// Counts, and gives some of the carts too.
    fn count(settings: &Settings, source: &mut dyn Source, now: Instant) -> Result<(CartsInReach, Vec<Cart>)> {
        let not_before = now - span::delta(settings.detect.max_age);
        let touched = Touched { not_before, idle_before: now, fresh_until: now };
        let mut found = CartsInReach::default();
        let mut sample = Vec::new();
        source.read_carts(&touched, &mut |row| {
            match row {
                Row::Cart(cart) => {
                    found.carts += 1;
                    found.without_consent += u64::from(cart.consent.is_none());
                    if sample.len() < CartsInReach::MOST_LOOKED_FOR {
                        sample.push(*cart);
                    }
                }
                Row::Bad(bad) => {
                    found.bad += 1;
                    if found.bad == 1 {
                        found.first_bad = bad.problem;
                    }
                }
            }
            Ok(())
        })?;
        for cart in &sample {
            found.looked_for += 1;
            found.ordered += u64::from(source.ordered(cart)?);
        }
        Ok((found, sample))
    }

    fn judge(&self, settings: &Settings, findings: &mut Findings) {
        let CartsInReach { carts, without_consent, bad, looked_for, ordered, .. } = *self;
        let max_age = span::spoken(span::delta(settings.detect.max_age));
        let said = format!(
            "{} touched in the last {max_age}: {without_consent} without known consent, {ordered} of {looked_for} ordered, {}",
            count(carts, "cart"),
            count(bad, "bad row")
        );
        let shown = "`mailonce source carts --limit 3` shows what is read";
        if carts + bad == 0 {
            let remedy = "if the shop has some, a comparison of times is wrong, or source.timezone; `mailonce source carts \
                          ID`, with the id of a cart, shows how it is read";
            findings.warn("carts", format!("no cart was touched in the last {max_age}"), remedy);
        } else if carts == 0 {
            let what = format!("none can be used: {}, the first: {}", count(bad, "bad row"), self.first_bad);
            findings.warn("carts", what, format!("correct the shop, or the query that reads it; {shown}"));
        } else if carts >= CartsInReach::TELLING && without_consent == carts && !settings.detect.consent_assumed {
            let remedy =
                "no one gets a mail: have `consent` read, or set detect.consent = \"assumed\" where the law lets you";
            findings.warn("carts", format!("the consent of none is known: {said}"), remedy);
        } else if looked_for >= CartsInReach::TELLING && (ordered == 0 || ordered == looked_for) {
            let what = if ordered == 0 { "none was ordered" } else { "all were ordered" };
            let remedy = format!("is that so? Else `source.ordered` compares the wrong columns or types; {shown}");
            findings.warn("carts", format!("{what}: {said}"), remedy);
        } else {
            findings.ok("carts", said);
        }
    }
}

fn look_at_campaigns(context: &Context<'_>, settings: &Settings, ledger: &Records, findings: &mut Findings) {
    let Some(file) = &settings.campaigns.file else { return };
    let Some(definitions) =
        findings.take("campaigns", run_campaigns::definitions(settings), format!("{} is read", file.display()))
    else {
        return;
    };
    for broken in &definitions.broken {
        findings.fail("campaigns", broken.problem.clone(), "correct that definition");
    }
    let now = context.clock.now();
    for campaign in &definitions.campaigns {
        let id = &campaign.id;
        let opened = ledger.campaign(id).ok().flatten().is_some_and(|state| state.last_run.is_some());
        let next = campaign.schedule.next_after(now);
        let after = next.and_then(|next| campaign.schedule.next_after(next));
        match (next, after) {
            (None, _) if opened => continue,
            (None, _) => findings.warn(
                "campaigns",
                format!("{id} has never run and never will: its time has passed"),
                "set `at` to a time to come, or take it out",
            ),
            (Some(next), Some(after)) if after - next <= OFTEN => findings.warn(
                "campaigns",
                format!("{id} runs every {}", span::spoken(after - next)),
                "is that meant? In a cron expression the first field is the minute: `0 9 * * *` is every day at nine",
            ),
            _ => {}
        }
        // As an opening would, on the audience as it is now.
        if let Err(err) = trial::sample(settings, ledger, campaign, next.unwrap_or(now), context) {
            let remedy = "it must be so when the campaign falls due, for the user cron runs as";
            match err.downcast::<Failure>() {
                Ok(failure) if failure.exit == Exit::NeedsAPerson => {
                    findings.warn("campaigns", format!("{id}: {}", failure.what), remedy);
                }
                Ok(failure) => findings.fail("campaigns", format!("{id}: {}", failure.what), failure.next),
                Err(err) => findings.warn("campaigns", format!("{id}: {err:#}"), remedy),
            }
        }
    }
}

/// Whether the user who runs this may do what a run does with its files. What is not there, others look for.
fn look_at_rights(settings: &Settings, findings: &mut Findings) {
    let folder = folder_of(&settings.ledger);
    let mut needed = vec![
        (Right::Write, folder.canonicalize().unwrap_or_else(|_| folder.to_owned())),
        (Right::Read, settings.ledger.clone()),
        (Right::Write, settings.ledger.clone()),
        (Right::Read, RunLock::path_for(&settings.ledger)),
        (Right::Write, RunLock::path_for(&settings.ledger)),
    ];
    needed.extend(settings.detect.template.iter().map(|file| (Right::Read, file.clone())));
    needed.extend(settings.campaigns.file.iter().map(|file| (Right::Read, file.clone())));
    for campaign in run_campaigns::definitions(settings).map_or(Vec::new(), |definitions| definitions.campaigns) {
        needed.push((Right::Read, campaign.template));
        if let Audience::Csv(file) | Audience::JsonLines(file) = campaign.audience {
            needed.push((Right::Read, file));
        }
    }
    needed.retain(|(right, file)| is_there(file) && !user::may(*right, file));
    needed.dedup_by(|(_, file), (_, before)| file == before);
    let user = user::name_of(user::this());
    if needed.is_empty() {
        findings.ok("rights", format!("{user} may do all that a run does with its files"));
    }
    for (right, file) in needed {
        let what = format!("{user} may not {} {}: {}", right.word(), file.display(), user::owner_of(&file));
        findings.fail(
            "rights",
            what,
            "run doctor as the user that cron runs as; if this is that user, grant it the right",
        );
    }
}

/// Whether a file is there, as far as this user can see.
fn is_there(file: &Path) -> bool {
    std::fs::metadata(file).err().is_none_or(|err| err.kind() != std::io::ErrorKind::NotFound)
}

fn look_at_permissions(settings: &Settings, findings: &mut Findings) {
    let mut sound = true;
    let mut files = vec![settings.ledger.clone(), RunLock::path_for(&settings.ledger)];
    for end in ["-wal", "-shm"] {
        let mut name = settings.ledger.clone().into_os_string();
        name.push(end);
        files.push(name.into());
    }
    let user = user::this();
    let mut of_a_group = false;
    for file in files {
        let Ok(meta) = std::fs::metadata(&file) else { continue };
        let mode = meta.permissions().mode() & 0o777;
        // A group that may read was let in by a person; see docs/ledger.md.
        of_a_group |= mode & 0o040 != 0;
        if mode & 0o037 != 0 {
            sound = false;
            let what = format!("{} is open to others (mode {mode:04o}), and holds addresses", file.display());
            findings.fail("permissions", what, format!("chmod 600 {}", file.display()));
        }
        if meta.uid() != user {
            sound = false;
            let (owner, user) = (user::name_of(meta.uid()), user::name_of(user));
            let what = format!("{} belongs to {owner}, and this is {user}", file.display());
            findings.warn("permissions", what, "run every command that writes, and doctor, as the user cron runs as");
        }
    }
    if sound {
        let whose = if of_a_group { "this user only; their group may read" } else { "this user only" };
        findings.ok("permissions", format!("the ledger and what lies beside it are for {whose}"));
    }
}

fn look_at_room(settings: &Settings, findings: &mut Findings) {
    let Ok(room) = fs2::available_space(&settings.ledger) else { return };
    let said = format!("{} MB are free for the ledger", room >> 20);
    match room {
        ..LEAST_ROOM => findings.fail("disk", said, "make room: a full disk ends every run with exit 74"),
        LEAST_ROOM..LITTLE_ROOM => findings.warn("disk", said, "make room before it is full"),
        _ => findings.ok("disk", said),
    }
}

fn look_at_lock(settings: &Settings, ledger: &Records, record: Option<Found>, findings: &mut Findings) {
    match RunLock::current_holder(&settings.ledger) {
        None => findings.ok("lock", "no run is under way"),
        Some(holder) if holder == NOT_KNOWN => findings.warn(
            "lock",
            "whether a run is under way is not known: this user may not read the lock file",
            "run doctor as the user that cron runs as",
        ),
        Some(holder) => {
            let started = holder.split(' ').find_map(|word| word.strip_prefix("started=")).and_then(instant::from_text);
            let age = started.map(|started| Instant::from(SystemTime::now()) - started);
            match age.filter(|age| *age > LONG_HELD) {
                None => findings.ok("lock", format!("a run is under way: {holder}")),
                Some(age) => findings.warn(
                    "lock",
                    format!("held for {}: {holder}", count(age.num_minutes().unsigned_abs(), "minute")),
                    "look at that process; when it hangs, kill it: what it had begun becomes in doubt",
                ),
            }
        }
    }
    if let Err(failure) = ledger.look(&record.unwrap_or(Found::Empty)) {
        findings.fail("lock", failure.what, failure.next);
    }
}

fn look_at_history(
    context: &Context<'_>,
    settings: &Settings,
    ledger: &Records,
    args: &cli::Doctor,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let now = context.clock.now();
    findings.take(
        "clock",
        ledger.check_clock(now),
        format!("{}, not before what the ledger recorded", instant::text(now)),
    );
    let expected = span::delta(args.expect_every);
    let runs = ledger.newest_runs(RUNS)?;
    let idle = ledger.idle_runs()?;
    let with_campaigns = settings.campaigns.file.is_some();
    for command in ["detect", "run-campaigns"].into_iter().take(1 + usize::from(with_campaigns)) {
        // Good: it came to its end, and met nothing that needs a person.
        let good = runs.iter().filter(|run| run.command == command);
        let good = good.filter(|run| run.ending.is_some() && !run.needs_a_person());
        let ended = good.filter_map(|run| run.ended_at.as_deref());
        let ended =
            ended.chain(idle.iter().filter(|idle| idle.command == command).map(|idle| idle.latest_ended_at.as_str()));
        match ended.filter_map(instant::from_text).max() {
            None => findings.warn(
                "cron",
                format!("`mailonce {command}` has never come to a good end"),
                "add the lines of crontab.example: `crontab -e`; `mailonce status` shows the last runs",
            ),
            Some(at) if now - at > expected => {
                let what = format!(
                    "the last good run of `mailonce {command}` ended at {}, {} ago",
                    instant::text(at),
                    count((now - at).num_minutes().unsigned_abs(), "minute")
                );
                let remedy =
                    "is the crontab's line there, and cron running? `mailonce status` shows how the last runs ended";
                match ledger.kind() {
                    Kind::Live => findings.fail("cron", what, remedy),
                    Kind::Rehearsal => findings.warn("cron", what, remedy),
                }
            }
            Some(at) => {
                findings.ok("cron", format!("the last good run of `mailonce {command}` ended at {}", instant::text(at)))
            }
        }
    }
    match ledger.in_doubt()?.len() as u64 {
        0 => findings.ok("in doubt", "no message is in doubt"),
        in_doubt => findings.warn(
            "in doubt",
            format!("{} in doubt", count(in_doubt, "message")),
            "`mailonce resolve` lists them; settle them by the mail server's log or by hand",
        ),
    }
    match ledger.count_refused(now - A_DAY)? {
        0 => findings.ok("refused", "no message was refused in the last day"),
        refused => findings.warn(
            "refused",
            format!("{} refused in the last day", count(refused, "message")),
            "`mailonce log --state refused --since 24h` says why, and how to go on",
        ),
    }
    let standing = ledger.open_notices()?.len() as u64;
    match standing {
        0 => findings.ok("open issues", "no open issues"),
        _ => findings.warn("open issues", count(standing, "open issue"), "`mailonce status` lists them"),
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
