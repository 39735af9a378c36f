//! `resolve`: messages in doubt, listed and settled, what happened and stands until a person accepts it, and what is due after a backup of the ledger was put back.

mod by_hand;
mod by_log;

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::cli;
use crate::domain::evidence::MAY_STILL_ARRIVE;
use crate::domain::instant;
use crate::domain::message_key;
use crate::domain::state::State;
use crate::failure::{Exit, Failure};
use crate::ledger::{Access, InDoubt, Ledger, LogFilter, Records};
use crate::output::count;
use crate::run_lock::{Found, RunLock};
use crate::settings::Settings;
use crate::user;

pub fn run(context: &Context<'_>, args: &cli::Resolve) -> Result<Exit> {
    let settings = context.settings_without_secrets()?;
    if !args.mail_log.is_empty() {
        return by_log::run(context, &settings, args);
    }
    if args.sent || args.resend || args.refused {
        return by_hand::run(context, &settings, args);
    }
    if !args.accept.is_empty() {
        return accept(context, &settings, &args.accept);
    }
    match (args.restored, args.hold_back) {
        (false, _) => list(context, &settings),
        (true, false) => {
            let remembered = RunLock::peek(&settings.ledger).unwrap_or(Found::Empty);
            list_planned(context, &Records::open(settings.place())?, &remembered)
        }
        (true, true) => {
            let lock = context.lock(&settings, "resolve")?;
            let ledger = context.may_write(Ledger::open(settings.place(), Access::Decided)?)?;
            hold_back(context, &lock, ledger)
        }
    }
}

/// The ledger for settling. What stops sending stops this too: in an old copy, or by a wrong clock, a
/// message would be planned again that has long gone out.
fn open_to_settle(context: &Context<'_>, settings: &Settings, lock: &RunLock) -> Result<Ledger, Failure> {
    let ledger = context.ledger_locked(settings, lock)?;
    ledger.check_clock(context.clock.now())?;
    Ok(ledger)
}

/// The user who decides: the name of the process's own, and who stands behind a sudo.
fn who() -> String {
    // SAFETY: getuid has no preconditions.
    let name = user::name_of(unsafe { libc::getuid() });
    match std::env::var("SUDO_USER") {
        Ok(behind) if !behind.is_empty() && !behind.chars().any(char::is_control) => format!("{name} (sudo: {behind})"),
        _ => name,
    }
}

fn list(context: &Context<'_>, settings: &Settings) -> Result<Exit> {
    let ledger = Records::open(settings.place())?;
    let (messages, events) = (ledger.in_doubt()?, ledger.events()?);
    let now = context.clock.now();
    let armed = match RunLock::current_holder(ledger.path()) {
        Some(_) => 0,
        None => ledger.count_by_state()?.iter().filter(|count| count.state == State::Armed).map(|it| it.messages).sum(),
    };
    context
        .output
        .document("resolve", &json!({ "messages": messages, "events": events, "begun_by_a_dead_run": armed }));
    for message in &messages {
        describe(context, message, now);
    }
    context.output.print(format!("{} in doubt", count(messages.len() as u64, "message")));
    if let Some(message) = messages.first() {
        let id = message_key::short_id(&message.message_id);
        context.output.print("  by the mail server's log: mailonce resolve --mail-log /var/log/mail.log");
        context.output.print(format!("  it arrived:               mailonce resolve {id} --sent --reason \"…\""));
        context.output.print(format!("  it did not, send again:   mailonce resolve {id} --resend --reason \"…\""));
        context.output.print(format!("  it did not, let it be:    mailonce resolve {id} --refused --reason \"…\""));
    }
    if armed > 0 {
        context.output.print(format!(
            "{} more begun by a run that was killed: in doubt from the next run on, `mailonce detect`",
            count(armed, "message")
        ));
    }
    for event in &events {
        context.output.print(format!("{}, since {}: {}", event.kind, event.since, event.line));
        context.output.print(format!("  right as it is: mailonce resolve --accept {}", event.key));
    }
    Ok(Exit::Done)
}

/// Takes off the list what a person finds right as it is. It takes no lock: no run reads that list.
fn accept(context: &Context<'_>, settings: &Settings, keys: &[String]) -> Result<Exit> {
    let mut ledger = context.ledger(settings)?;
    let all = keys.iter().any(|key| key == "all");
    let accepted = ledger.notices().accept((!all).then_some(keys))?;
    let left = ledger.events()?;
    context.output.document("resolve-accepted", &json!({ "accepted": accepted, "events": left }));
    for key in &accepted {
        context.output.print(format!("accepted {key}"));
    }
    context.output.print(format!("{} accepted, {} left", count(accepted.len() as u64, "event"), left.len()));
    Ok(Exit::Done)
}

fn describe(context: &Context<'_>, message: &InDoubt, now: instant::Instant) {
    let out = |line: String| context.output.print(line);
    out(format!("{}  {}  {}", message_key::short_id(&message.message_id), message.recipient, message.message_id));
    out(format!("  key       {}", message.message_key));
    match (&message.cart_id, &message.campaign_id) {
        (Some(cart_id), _) => out(format!("  cart      {cart_id}")),
        (None, Some(campaign_id)) => out(format!("  campaign  {campaign_id}")),
        (None, None) => {}
    }
    out(format!("  planned   {}, expires {}", message.planned_at, message.expires_at));
    out(format!("  body      begun {} by run {}", instant::text(message.armed_at), message.run));
    for attempt in &message.attempts {
        let body =
            attempt.armed_at.as_deref().map_or_else(|| "before the body".to_owned(), |at| format!("body begun {at}"));
        out(format!(
            "  try       run {}, {body}, {} {}: {}",
            attempt.run, attempt.outcome, attempt.ended_at, attempt.reply
        ));
    }
    for earlier in &message.resolutions {
        out(format!(
            "  settled   {} by {}, the try of {}: {}; {}",
            earlier.decided_at, earlier.who, earlier.armed_at, earlier.decision, earlier.reason
        ));
    }
    for report in &message.reports {
        let said = report.diagnostic.as_deref().map_or_else(String::new, |said| format!(": {said}"));
        let taken = if report.proves { "; the server had taken it over, in one of its tries" } else { "" };
        out(format!("  report    {} {}{said}{taken}", report.received_at, report.class));
    }
    let from = message.armed_at + MAY_STILL_ARRIVE;
    if from > now {
        out(format!("  resend    from {} on: until then it may still arrive", instant::text(from)));
    }
}

fn list_planned(context: &Context<'_>, ledger: &Records, remembered: &Found) -> Result<Exit> {
    let filter = LogFilter { state: Some(State::Planned), limit: u64::from(u32::MAX), ..LogFilter::default() };
    let messages = ledger.messages(&filter)?;
    context.output.document(
        "resolve-restored",
        &json!({ "messages": messages, "newest_at": instant::text(ledger.newest_at()?) }),
    );
    for message in &messages {
        let reply = message.last_reply.as_deref().unwrap_or("no reply");
        context
            .output
            .print(format!("{}  {}  {reply}  {}", message.recipient, message.message_id, message.message_key));
    }
    context.output.print(format!("{} planned", count(messages.len() as u64, "message")));
    if ledger.look(remembered).is_err() {
        say_what_is_lost(context, ledger.newest_at()?);
    }
    Ok(Exit::Done)
}

/// Goes on with an old copy of the ledger: nothing that was planned in it, and no cart touched before now, is written to.
fn hold_back(context: &Context<'_>, lock: &RunLock, mut ledger: Ledger) -> Result<Exit> {
    let found = lock.record()?;
    if ledger.look(&found).is_ok() {
        return Err(Failure::usage(
            "the ledger is not older than its lock file, and no run has lost its log",
            "nothing to do",
        )
        .into());
    }
    ledger.migrate()?;
    let newer_epoch = if let Found::Record(record) = found { record.epoch } else { 0 };
    let copy_of = ledger.newest_at()?;
    let now = context.clock.now();
    let held = ledger.runs().hold_back_planned(newer_epoch, now)?;
    let wishes = ledger.suppressions().replay()?;
    let record = ledger.record_of(ledger.epoch_and_armed()?.0, Some(now), 0);
    lock.write_record(&record, true)?;
    context.output.document(
        "resolve-held-back",
        &json!({ "held_back": held, "copy_of": instant::text(copy_of), "suppressions_changed": wishes }),
    );
    context.output.print(format!(
        "{} held back (skipped: held_back) for good; carts touched before now are left alone; runs go on from here",
        count(held, "planned message")
    ));
    context.output.print(format!("{} of the suppression list brought back", count(wishes, "change")));
    say_what_is_lost(context, copy_of);
    Ok(Exit::Done)
}

/// What a copy cannot know, and where it can be had from.
fn say_what_is_lost(context: &Context<'_>, copy_of: instant::Instant) {
    context.output.print(format!(
        "this copy was made at {} or later, as far as it tells; suppressions added or removed since come back from the file \
         .wishes beside it, if that is still there, and bounces with `mailonce bounces --again`; the shop's own opt-outs with \
         `mailonce import suppressions FILE`",
        instant::text(copy_of)
    ));
}
