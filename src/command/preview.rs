//! `preview`: one message as files to look at, without touching the ledger.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::cli;
use crate::domain::message_key;
use crate::failure::{Exit, Failure};
use crate::mail::message::{self, Letter};
use crate::mail::template::{self, Template, example_cart};
use crate::source::{self, Look};

pub fn run(context: &Context<'_>, args: &cli::Preview) -> Result<Exit> {
    let settings = context.settings()?;
    let cart = match &args.cart_id {
        None => example_cart(&settings.shop, context.clock.now()),
        Some(cart_id) => match source::open(&settings.source)?.cart(cart_id)? {
            Look::Cart(cart) => *cart,
            Look::Gone => {
                return Err(Failure::data(
                    format!("the shop has no cart {cart_id:?}"),
                    "name one that `mailonce detect --dry-run` lists, or none for an example",
                )
                .into());
            }
            Look::Bad(bad) => {
                return Err(Failure::data(
                    format!("{}: {}", bad.place, bad.problem),
                    "mend it in the shop, then try again",
                )
                .into());
            }
        },
    };
    let template = Template::load(settings.detect.template.as_deref(), &settings.detect.subject)?;
    // Any token will do: nothing is sent.
    let token = message_key::token("preview", &cart.cart_id);
    let unsubscribe = message::expand_each(&settings.mail.unsubscribe, &cart.email, &token);
    let cannot = |problem: String| {
        Failure::config(
            format!("the message for cart {} cannot be rendered: {problem}", cart.cart_id),
            "correct the template, then try again",
        )
    };
    let rendered = template
        .render(template::cart_context(
            &cart,
            &settings.shop,
            settings.mail.unsubscribe.first().map(String::as_str),
            &token,
        ))
        .map_err(|err| cannot(err.to_string()))?;
    let letter = Letter {
        from: &settings.mail.from,
        reply_to: settings.mail.reply_to.as_ref(),
        to: &cart.email,
        to_name: cart.name.as_deref(),
        rendered: &rendered,
        message_id: &message_key::message_id(&token, settings.mail.from.address.domain()),
        date: context.clock.now(),
        token: &token,
        unsubscribe: &unsubscribe,
    };
    let bytes = message::compose(&letter).map_err(|err| cannot(err.to_string()))?;
    let files = [
        ("message.html", rendered.html.as_bytes()),
        ("message.txt", rendered.text.as_bytes()),
        ("message.eml", &bytes),
    ];
    let written: Vec<_> = files.iter().map(|(name, bytes)| write(&args.out, name, bytes)).collect::<Result<_, _>>()?;
    context.output.document(&json!({ "cart_id": cart.cart_id, "subject": rendered.subject, "files": written }));
    context.output.print(format!("Subject: {}", rendered.subject));
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
