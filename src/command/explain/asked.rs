//! What a person asks about: a message, an address or a cart.

use anyhow::Result;

use crate::cli;
use crate::domain::address::Address;
use crate::domain::message_key;
use crate::domain::unsubscribe::{NotGenuine, is_token};
use crate::failure::Failure;
use crate::ledger::Records;
use crate::settings::Settings;

/// What the argument names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    Address(Address),
    Cart(String),
    /// A row of the ledger, and its Message-ID.
    Message {
        id: i64,
        message_id: String,
    },
    /// It is genuine, or looks so, and of no message that is known: why.
    NoMessage(String),
}

impl Asked {
    pub fn word(&self) -> &'static str {
        match self {
            Asked::Address(_) => "address",
            Asked::Cart(_) => "cart",
            Asked::Message { .. } | Asked::NoMessage(_) => "message",
        }
    }
}

/// What `what` names; and what else it could mean, for people.
///
/// A message comes first, by its Message-ID, its key or the first digits of its id; then an unsubscribe token, then an address,
/// and what is none of these is a cart. `--cart` and `--address` decide otherwise.
///
/// # Errors
/// Exit 2 where `--address` is given and it is none. Exit 74: the ledger cannot be read.
pub(super) fn recognise(settings: &Settings, ledger: &Records, args: &cli::Explain) -> Result<(Asked, Vec<String>)> {
    let what = args.what.trim();
    let cart = || Asked::Cart(args.what.clone());
    if args.cart {
        return Ok((cart(), Vec::new()));
    }
    if args.address {
        let address = Address::parse(what).map_err(|err| {
            let next =
                "a cart that has such an address is a bad row: `mailonce explain CART` names what is wrong with it";
            Failure::usage(format!("{what:?} is no address that mail can go to: {err}"), next)
        })?;
        return Ok((Asked::Address(address), Vec::new()));
    }
    if is_token(what) {
        return Ok((by_token(settings, ledger, what)?, Vec::new()));
    }
    let named = ledger.named(what)?;
    if let [first, others @ ..] = named.as_slice() {
        let mut also = Vec::new();
        if !others.is_empty() {
            also.push(format!("{} more begin like that: give more digits", others.len()));
        }
        if message_key::is_short_id(what) {
            also.push("taken for the id of a message; a cart with this id is told of with --cart".to_owned());
        }
        return Ok((Asked::Message { id: first.id, message_id: first.message_id.clone() }, also));
    }
    match Address::parse(what) {
        Ok(address) => Ok((Asked::Address(address), Vec::new())),
        Err(err) if what.contains('@') && !what.contains(char::is_whitespace) => Ok((
            cart(),
            vec![format!("it is no address that mail can go to ({err}), and is taken for the id of a cart")],
        )),
        Err(_) => Ok((cart(), Vec::new())),
    }
}

/// The message that an unsubscribe token is of. Only a key tells a genuine one, where the keys can be read.
fn by_token(settings: &Settings, ledger: &Records, text: &str) -> Result<Asked> {
    let token = match settings.mail.keys.as_ref().map(|keys| keys.verify(text)) {
        Some(Ok(token)) if token.is_of_a_test() => {
            return Ok(Asked::NoMessage(
                "the token is of a test or a preview: nobody got it from a campaign or a cart".into(),
            ));
        }
        Some(Ok(token)) => token.message,
        Some(Err(NotGenuine::UnknownKey)) => {
            return Ok(Asked::NoMessage("the token names a key that is not in unsubscribe.keys".into()));
        }
        Some(Err(_)) => {
            return Ok(Asked::NoMessage("no key of this shop signed the token: it is forged, or cut off".into()));
        }
        None => text[2..34].to_owned(),
    };
    Ok(match ledger.named(&token)?.first() {
        Some(named) => Asked::Message { id: named.id, message_id: named.message_id.clone() },
        None => Asked::NoMessage("the token is of no message that this ledger knows".into()),
    })
}
