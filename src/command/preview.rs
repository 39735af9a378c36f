//! `preview`: one message as files to look at, without touching the ledger.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::cli;
use crate::domain::message_key;
use crate::failure::{Exit, Failure};
use crate::letters::cart::CartLetters;
use crate::mail::template::example_cart;
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
                    "fix it in the shop, then try again",
                )
                .into());
            }
        },
    };
    // Any token will do: nothing is sent.
    let token = message_key::token("preview", &cart.cart_id);
    let message_id = message_key::message_id(&token, settings.mail.from.address.domain());
    let letters = CartLetters::load(&settings)?;
    let (outgoing, rendered) = letters.write_and_show(&cart, &message_id, context.clock.now()).map_err(|problem| {
        Failure::config(
            format!("the message for cart {} cannot be rendered: {problem}", cart.cart_id),
            "correct the template, then try again",
        )
    })?;
    let files = [
        ("message.html", rendered.html.as_bytes()),
        ("message.txt", rendered.text.as_bytes()),
        ("message.eml", &outgoing.bytes),
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
