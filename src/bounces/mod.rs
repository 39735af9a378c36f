//! Mails that come back: reports that a message could not be delivered, complaints, and wishes to be taken off.
//!
//! A mail becomes a [`Heard`]: what kind it is, what it says (see [`crate::domain::bounce`]), and by which tokens it is
//! tied to a message. Nothing here knows the ledger.
//!
//! | kind         | what tells it                                                                                   |
//! |--------------|-------------------------------------------------------------------------------------------------|
//! | dsn          | a `multipart/report` (RFC 6522) about delivery, or a part `message/delivery-status` in a machine's mail |
//! | feedback     | a part `message/feedback-report` (RFC 5965), or Microsoft's older form                          |
//! | plain-bounce | two signs of a mail server at least: null return path, `MAILER-DAEMON`, its subject, qmail's first line, … |
//! | auto-reply   | `Auto-Submitted`, `Precedence`, `List-Id` and the like; a null return path; a receipt            |
//! | request      | anything else: a person wrote it, or a mail program for one                                     |
//! | unreadable   | no field that a mail has, or no line feed                                                       |
//!
//! Who can write to the mailbox can write anything into it, so a report counts only with a token: 128 bits that are known
//! to those alone who have seen the message. Where a token stands says how far it is to be trusted ([`Place`]): the
//! references of an ordinary reply, and a text that quotes something, are no place at all. A human mail that was taken
//! for a bounce would silence a customer, so in doubt a mail is no bounce.
//!
//! Foreign input of any size and shape comes in here: what is read is bounded in bytes, parts, depth and fields, and cut
//! without a word, since all that matters stands at the beginning.

mod digest;
pub mod fields;
mod mailbox;
mod matcher;
mod parts;
mod read;
mod text;

#[cfg(test)]
mod tests;

use crate::domain::bounce::{Class, Recipient};
use crate::domain::instant::Instant;

pub use digest::digest;
pub use mailbox::{Item, maildir, mbox, one, out_of_mbox};
pub use matcher::Matcher;
pub use read::read;

/// So much of a mail is read, in bytes.
pub const MOST_OF_A_MAIL: usize = 10 * 1024 * 1024;

/// What a mail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Dsn,
    Feedback,
    PlainBounce,
    AutoReply,
    Request,
    Unreadable,
}

/// Where a token was found, the most trusted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the address that the mail was sent to.
    Envelope,
    /// In the header of the message that it returns: as the sender of its envelope, as its Message-ID, or in the link by
    /// which it can be unsubscribed from.
    ReturnedHeaders,
    /// In a line `Message-ID: <…>` of a plain bounce's text.
    Text,
}

/// A token, as it stands in a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// 32 hexadecimal digits, in lower case.
    pub token: String,
    /// The message's number in the ledger, base 36 in lower case, where it stands beside the token.
    pub id: Option<String>,
    pub place: Place,
    /// It stands in the header of the message that is returned, too.
    pub is_returned: bool,
}

/// What a mail says. Texts are bounded, and without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its `Date`, as whoever wrote it has it.
    pub received_hint: Option<Instant>,
    pub kind: Kind,
    /// What each recipient's part of a report says; of a complaint, whom it names.
    pub recipients: Vec<Recipient>,
    /// What it amounts to as a whole.
    pub class: Class,
    /// By which messages it is about, the most trusted first; each token once.
    pub tokens: Vec<Found>,
    /// Signed tokens of a request, from its Subject and the addresses it was sent to, in lower case. Not verified.
    pub signed_tokens: Vec<String>,
    /// Who sends a request, where its `From` names one address and no more.
    pub from: Option<String>,
    /// Which addresses a request was sent to, in lower case, as its fields have them.
    pub sent_to: Vec<String>,
    /// The fields `Authentication-Results`, unfolded, the topmost first: those of one's own server come first.
    pub authentication_results: Vec<String>,
    /// Who reports: the `Reporting-MTA`, or the domain of the report's `From`.
    pub reporter: Option<String>,
    /// At most 300 characters of what the server said.
    pub diagnostic: Option<String>,
    /// Whether it is a report by its structure, and not by its words.
    structured: bool,
}

impl Heard {
    /// Whether it proves that the server had taken over the message of its first token.
    ///
    /// Only a report by its structure does that returns the message's header: who knows the envelope alone may never have got
    /// the body. A text never does: Postfix sends its postmaster transcripts of sessions in which the message was refused, with
    /// the token in `MAIL FROM`.
    pub fn proves_acceptance(&self) -> bool {
        self.structured && self.tokens.first().is_some_and(|found| found.is_returned)
    }
}
