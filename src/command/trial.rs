//! A message on trial: rendered as a run would, shown, or sent to one address and counted nowhere.

use anyhow::Result;
use serde_json::json;

use super::Context;
use super::run_campaigns::opening::{Gathered, gather, letters_now};
use crate::domain::address::Address;
use crate::domain::campaign::Campaign;
use crate::domain::cart::Cart;
use crate::domain::fate::Fate;
use crate::domain::instant::{self, Instant};
use crate::domain::message_key;
use crate::domain::span;
use crate::failure::{Exit, Failure};
use crate::ledger::Records;
use crate::letters::Known;
use crate::letters::campaign::CampaignLetters;
use crate::letters::cart::{CartLetters, Occasion};
use crate::mail::Transport;
use crate::mail::session::{Opened, Outgoing, Session};
use crate::mail::template::{Rendered, example_cart};
use crate::run;
use crate::settings::Settings;
use crate::source::{self, Row, Touched};

/// A campaign as it would open now.
pub(super) struct Sample {
    pub gathered: Gathered,
    /// What it is written with.
    pub letters: CampaignLetters,
    /// The first recipient's; `None` when there is no recipient.
    pub rendered: Option<Rendered>,
}

/// Reads a campaign's audience and renders the first of its messages, as an opening would.
///
/// # Errors
/// What would keep it from opening.
pub(super) fn sample(
    settings: &Settings,
    ledger: &Records,
    campaign: &Campaign,
    planned_at: Instant,
    context: &Context<'_>,
) -> Result<Sample> {
    let (_, letters) = letters_now(settings, campaign, planned_at)?;
    let gathered = gather(settings, ledger, campaign, planned_at, context)?;
    let rendered = letters.try_on(&gathered.trial)?;
    Ok(Sample { gathered, letters, rendered })
}

/// `campaign test`: the first recipient's message, sent to another address.
pub(super) fn send_campaign(
    context: &Context<'_>,
    settings: &Settings,
    campaign: &Campaign,
    to: &Address,
) -> Result<Exit> {
    let ledger = Records::open(settings.place())?;
    let now = context.clock.now();
    let sample = sample(settings, &ledger, campaign, now, context)?;
    let values = sample.gathered.trial.into_iter().next().map(|row| row.values).unwrap_or_default();
    let from = campaign.from.as_ref().unwrap_or(&settings.mail.from);
    let message_id = fresh_message_id(from.address.domain(), now);
    let known = Known { row: None, message_id: &message_id, date: now };
    let outgoing = sample.letters.write_test(to, values, known).map_err(cannot_be_rendered)?;
    send(context, settings, &ledger, "campaign-test", &outgoing)
}

/// `detect --test-to`: the message about a cart of the shop, or about an example where it has none in reach, sent to another
/// address.
pub(super) fn send_cart(context: &Context<'_>, settings: &Settings, to: &Address, step: Option<&str>) -> Result<Exit> {
    let step = step.map(|name| known_step(settings, name)).transpose()?;
    let ledger = Records::open(settings.place())?;
    let now = context.clock.now();
    let letters = CartLetters::load_and_try(settings, now)?;
    let mut cart = match first_cart(settings, now)? {
        Some(cart) => cart,
        None => {
            context.output.print("the shop has no cart in reach: the test is about an example");
            example_cart(&settings.shop, now)
        }
    };
    cart.email = to.clone();
    let message_id = fresh_message_id(settings.mail.from.address.domain(), now);
    let coupon = letters.example_coupon(step);
    let occasion = Occasion { step, reads: cart.locale, coupon: coupon.as_ref(), ..Occasion::default() };
    let known = Known { row: None, message_id: &message_id, date: now };
    let outgoing = letters.write_test(&occasion, &cart, known).map_err(cannot_be_rendered)?;
    send(context, settings, &ledger, "detect-test", &outgoing)
}

/// The step of this name, if it is configured.
///
/// # Errors
/// Exit 64, naming those that are.
pub(super) fn known_step<'a>(settings: &'a Settings, name: &str) -> Result<&'a str, Failure> {
    let names: Vec<&str> = settings.detect.steps.iter().map(|step| step.step.name.as_str()).collect();
    let found = names.iter().copied().find(|known| *known == name);
    found.ok_or_else(|| {
        let next = match names.is_empty() {
            true => "the configuration has no [[detect.step]]: leave --step out".to_owned(),
            false => format!("write one of: {}", names.join(", ")),
        };
        Failure::usage(format!("there is no step {name:?}"), next)
    })
}

fn first_cart(settings: &Settings, now: Instant) -> Result<Option<Cart>> {
    let not_before = now - span::delta(settings.detect.max_age);
    let touched = Touched { not_before, idle_before: now, fresh_until: now };
    let mut first = None;
    source::open(&settings.source)?.read_carts(&touched, &mut |row| {
        if let Row::Cart(cart) = row
            && first.is_none()
            && !cart.lines.is_empty()
        {
            first = Some(*cart);
        }
        Ok(())
    })?;
    Ok(first)
}

/// Of no message key: it is in no ledger.
fn fresh_message_id(domain: &str, now: Instant) -> String {
    let key = format!("test {} {}", std::process::id(), now.timestamp_nanos_opt().unwrap_or_default());
    message_key::message_id(&message_key::token("test", &key), domain)
}

fn cannot_be_rendered(problem: String) -> Failure {
    Failure::config(format!("the test cannot be rendered: {problem}"), "correct the template").kept("nothing was sent")
}

/// Sends one message and says what the server answered. No limit counts it, and the ledger does not know of it.
fn send(
    context: &Context<'_>,
    settings: &Settings,
    ledger: &Records,
    document: &str,
    outgoing: &Outgoing,
) -> Result<Exit> {
    run::check_fit(settings, ledger, context.clock)?;
    let transport = Transport::open(&settings.transport);
    let mut session = transport.session()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let fate = runtime.block_on(async {
        let fate = match session.open(outgoing).await.opened {
            Ok(Opened::Ready) => session.finish(outgoing).await,
            Ok(Opened::Judged { fate, .. }) => fate,
            Err(unusable) => Fate::Deferred { reply: unusable.why },
        };
        let _ = session.close().await;
        fate
    });
    let to = outgoing.recipient.to_string();
    let (reply, past_tense) = (fate.reply(), transport.past_tense());
    context.output.document(
        document,
        &json!({ "to": to, "outcome": fate.word(), "reply": reply, "at": instant::text(context.clock.now()) }),
    );
    match &fate {
        Fate::Sent { .. } => {
            context.output.print(format!("{past_tense} a test to {to}, counted nowhere: {reply}"));
            Ok(Exit::Done)
        }
        _ => Err(Failure::new(
            Exit::NeedsAPerson,
            format!("the test to {to} was not {past_tense}: {reply}"),
            "`mailonce doctor` looks at the server",
        )
        .kept("the ledger does not know of it")
        .into()),
    }
}
