//! Letters: from a cart, or a recipient of a campaign, to a message as it leaves.

pub mod campaign;
pub mod cart;

use crate::domain::address::{Address, Mailbox};
use crate::domain::instant::Instant;
use crate::domain::message_key;
use crate::mail::message::{self, Letter};
use crate::mail::session::Outgoing;
use crate::mail::template::Rendered;
use crate::settings::MailSettings;

/// What a message is known by; the same on every attempt.
#[derive(Debug, Clone, Copy)]
struct SentAs<'a> {
    from: &'a Mailbox,
    message_id: &'a str,
    date: Instant,
}

/// So that no one takes a test for the real thing.
fn marked_as_test(rendered: Rendered) -> Rendered {
    Rendered { subject: format!("[test] {}", rendered.subject), ..rendered }
}

/// Composes a rendered letter, with its envelope.
fn compose(
    mail: &MailSettings,
    sent_as: SentAs<'_>,
    to: &Address,
    to_name: Option<&str>,
    rendered: &Rendered,
) -> Result<Outgoing, String> {
    let SentAs { from, message_id, date } = sent_as;
    let token = message_key::token_of(message_id);
    let unsubscribe = message::expand_each(&mail.unsubscribe, to, token);
    let letter = Letter {
        from,
        reply_to: mail.reply_to.as_ref(),
        to,
        to_name,
        rendered,
        message_id,
        date,
        token,
        unsubscribe: &unsubscribe,
    };
    let mut bytes = message::compose(&letter).map_err(|err| err.to_string())?;
    if let Some(signer) = &mail.dkim {
        let signature = signer.sign(&bytes, date)?;
        bytes.splice(..0, signature.into_bytes());
    }
    let envelope_from = match &mail.envelope {
        Some(pattern) => pattern.replace("{token}", token),
        None => from.address.envelope(),
    };
    Ok(Outgoing { envelope_from, recipient: to.clone(), bytes, token: token.to_owned() })
}
