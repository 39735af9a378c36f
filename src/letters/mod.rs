//! Letters: from a cart, or a recipient of a campaign, to a message as it leaves.

pub mod campaign;
pub mod cart;

use crate::domain::address::{Address, Mailbox};
use crate::domain::instant::Instant;
use crate::domain::list;
use crate::domain::message_key;
use crate::domain::unsubscribe::base36;
use crate::mail::message::{self, Letter, Placeholders};
use crate::mail::session::Outgoing;
use crate::mail::template::Rendered;
use crate::settings::MailSettings;

/// What a message is known by; the same on every attempt.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Its row in the ledger; `None` of a test or an example, which has none.
    pub row: Option<i64>,
    pub message_id: &'a str,
    pub date: Instant,
}

/// What kind of mail a letter is.
#[derive(Debug, Clone, Copy)]
struct Mailing<'a> {
    from: &'a Mailbox,
    list: &'a str,
    /// Which step, or which campaign.
    name: &'a str,
}

impl Known<'_> {
    fn token(&self) -> &str {
        message_key::token_of(self.message_id)
    }

    /// Where its reader can ask to get no more: the addresses of `[mail] unsubscribe`, for this one.
    fn unsubscribe(&self, mail: &MailSettings, to: &Address) -> Vec<String> {
        let token = self.token();
        let signed = mail.keys.as_ref().map(|keys| match self.row {
            Some(row) => keys.sign(token, row),
            None => keys.sign_test(token),
        });
        let by = Placeholders { to, token, unsubscribe: signed.as_deref().unwrap_or_default() };
        mail.unsubscribe.iter().map(|template| message::expand_unsubscribe(template, &by)).collect()
    }
}

/// `step:list::sender`; an identifier that would stand twice stands in the second field alone.
fn feedback_id(sender: &str, mailing: Mailing<'_>) -> String {
    let name = if mailing.name == mailing.list || mailing.name == sender { "" } else { mailing.name };
    format!("{name}:{}::{sender}", mailing.list)
}

/// So that no one takes a test for the real thing.
fn marked_as_test(rendered: Rendered) -> Rendered {
    Rendered { subject: format!("[test] {}", rendered.subject), ..rendered }
}

/// Composes a rendered letter, with its envelope.
fn compose(
    mail: &MailSettings,
    mailing: Mailing<'_>,
    known: Known<'_>,
    to: &Address,
    to_name: Option<&str>,
    rendered: &Rendered,
) -> Result<Outgoing, String> {
    let from = mailing.from;
    let token = known.token();
    let unsubscribe = known.unsubscribe(mail, to);
    let feedback_id = mail.feedback_sender.as_ref().map(|sender| feedback_id(sender, mailing));
    let letter = Letter {
        from,
        reply_to: mail.reply_to.as_ref(),
        to,
        to_name,
        rendered,
        message_id: known.message_id,
        date: known.date,
        token,
        unsubscribe: &unsubscribe,
        list_id: &list::id(mailing.list, &mail.list_domain),
        feedback_id: feedback_id.as_deref(),
    };
    let mut bytes = message::compose(&letter).map_err(|err| err.to_string())?;
    if let Some(signer) = &mail.dkim {
        let signature = signer.sign(&bytes, known.date)?;
        bytes.splice(..0, signature.into_bytes());
    }
    let envelope_from = match &mail.envelope {
        Some(pattern) => {
            let row = base36(known.row.unwrap_or(0));
            pattern.replace("{token}", token).replace("{id}", &row)
        }
        None => from.address.envelope(),
    };
    Ok(Outgoing { envelope_from, recipient: to.clone(), bytes, token: token.to_owned() })
}
