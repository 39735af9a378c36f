//! `preview`: one message as files to look at, without touching the ledger.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::Context;
use super::detect::next_step;
use super::run_campaigns::definitions;
use super::trial::{known_step, sample};
use crate::cli;
use crate::domain::cart::Cart;
use crate::domain::locale::Locale;
use crate::domain::message_key;
use crate::failure::{Exit, Failure};
use crate::ledger::Records;
use crate::letters::Known;
use crate::letters::campaign::{ON_TRIAL, read_locale};
use crate::letters::cart::{CartLetters, Occasion};
use crate::mail::template::{Rendered, example_cart};
use crate::settings::Settings;
use crate::source::{self, Look};

pub fn run(context: &Context<'_>, args: &cli::Preview) -> Result<Exit> {
    let settings = context.settings()?;
    match args.what.as_slice() {
        [] => show_cart(context, &settings, args, example_cart(&settings.shop, context.clock.now())),
        [cart_id] => {
            let cart = in_the_shop(&settings, cart_id)?;
            show_cart(context, &settings, args, cart)
        }
        [what, id] if what == "campaign" => show_campaign(context, &settings, args, id),
        _ => Err(Failure::usage("one cart, or `campaign` and the id of one", "`mailonce preview campaign ID`").into()),
    }
}

fn in_the_shop(settings: &Settings, cart_id: &str) -> Result<Cart> {
    match source::open(&settings.source)?.cart(cart_id)? {
        Look::Cart(cart) => Ok(*cart),
        Look::Gone => Err(Failure::data(
            format!("the shop has no cart {cart_id:?}"),
            "name one that `mailonce detect --dry-run` lists, or none for an example",
        )
        .into()),
        Look::Bad(bad) => {
            Err(Failure::data(format!("{}: {}", bad.place, bad.problem), "fix it in the shop, then try again").into())
        }
    }
}

fn show_cart(context: &Context<'_>, settings: &Settings, args: &cli::Preview, cart: Cart) -> Result<Exit> {
    let token = message_key::token("preview", &cart.cart_id);
    let message_id = message_key::message_id(&token, settings.mail.from.address.domain());
    let now = context.clock.now();
    let letters = CartLetters::load(settings)?;
    let next = if args.what.is_empty() { None } else { next_step(settings, &cart, now)? };
    let step = match (&args.step, &next) {
        (Some(name), _) => Some(known_step(settings, name)?),
        (None, next) => next.as_ref().map(|next| next.step.as_str()),
    };
    if let Some(next) = &next {
        context.output.print(format!("next for cart {}: {}", cart.cart_id, next.spoken));
    } else if !args.what.is_empty() && args.step.is_none() && !settings.detect.steps.is_empty() {
        context.output.print(format!("no step comes next for cart {}: this is the first", cart.cart_id));
    }
    let reads = args.locale.or(cart.locale);
    let coupon = letters.example_coupon(step);
    let occasion = Occasion { step, reads, coupon: coupon.as_ref(), ..Occasion::default() };
    let known = Known { row: None, message_id: &message_id, date: now };
    let (outgoing, rendered) = letters.write_and_show(&occasion, &cart, known).map_err(|problem| {
        Failure::config(
            format!("the message for cart {} cannot be rendered: {problem}", cart.cart_id),
            "correct the template, then try again",
        )
    })?;
    let shown = Shown { of: ("cart_id", &cart.cart_id), rendered: &rendered, locale: letters.language(&occasion) };
    show(context, args, &shown, Some(&outgoing.bytes))
}

/// The message to the first of a campaign's audience.
fn show_campaign(context: &Context<'_>, settings: &Settings, args: &cli::Preview, id: &str) -> Result<Exit> {
    let definitions = definitions(settings)?;
    let Some(campaign) = definitions.campaigns.iter().find(|campaign| campaign.id == id) else {
        return Err(
            Failure::usage(format!("no campaign {id:?} is defined"), "`mailonce campaign list` names them").into()
        );
    };
    let ledger = Records::open(settings.place())?;
    let sample = sample(settings, &ledger, campaign, context.clock.now(), context)?;
    let Some(first) = sample.gathered.trial.into_iter().next() else {
        return Err(Failure::data(format!("the audience of {id} is empty"), "put someone into it").into());
    };
    let reads = args.locale.or_else(|| read_locale(&first.values));
    let rendered = sample
        .letters
        .render_for(&first.address, reads, first.values, ON_TRIAL, sample.letters.example_coupon())
        .map_err(|problem| {
            Failure::config(
                format!("the message cannot be rendered: {problem}"),
                "correct the template, then try again",
            )
        })?;
    let shown = Shown { of: ("campaign_id", id), rendered: &rendered, locale: sample.letters.language(reads) };
    show(context, args, &shown, None)
}

/// A message to look at.
struct Shown<'a> {
    /// What it is about: a key of JSON, and an id.
    of: (&'static str, &'a str),
    rendered: &'a Rendered,
    /// The language it is written in.
    locale: Locale,
}

fn show(context: &Context<'_>, args: &cli::Preview, shown: &Shown<'_>, message: Option<&[u8]>) -> Result<Exit> {
    let Shown { of: (of, id), rendered, locale } = *shown;
    let mut files = vec![("message.html", rendered.html.as_bytes()), ("message.txt", rendered.text.as_bytes())];
    files.extend(message.map(|bytes| ("message.eml", bytes)));
    let written: Vec<_> = files.iter().map(|(name, bytes)| write(&args.out, name, bytes)).collect::<Result<_, _>>()?;
    let locale = locale.to_string();
    let [cart_id, campaign_id] = ["cart_id", "campaign_id"].map(|key| (key == of).then_some(id));
    context
        .output
        .document("preview", &json!({ "cart_id": cart_id, "campaign_id": campaign_id, "subject": rendered.subject, "locale": locale, "files": written }));
    context.output.print(format!("Subject: {}", rendered.subject));
    if let Some(wanted) = args.locale.map(|wanted| wanted.to_string()).filter(|wanted| *wanted != locale) {
        context.output.print(format!("there is no message in {wanted}: this one is in {locale}"));
    }
    for file in &written {
        context.output.print(file.display().to_string());
    }
    Ok(Exit::Done)
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<std::path::PathBuf, Failure> {
    let path = folder.join(name);
    fs::create_dir_all(folder).and_then(|()| fs::write(&path, bytes)).map_err(|err| {
        Failure::ledger(format!("could not write {}: {err}", path.display()), "name another folder with --out")
    })?;
    Ok(path)
}
