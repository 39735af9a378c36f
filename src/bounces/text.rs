//! Bounces in plain text: what they say, and the header of the message that they return below a line that says so.

use super::fields::{Fields, next_line};
use super::matcher::token_of_message_id;

/// What stands in the line above the copy of a message, in lower case.
const ABOVE_A_COPY: [&str; 14] = [
    "below this line is a copy of the message",
    "this is a copy of the message",
    "this is a copy of your message",
    "copy of the original message",
    "original message follows",
    "original message header",
    "header of the original message",
    "message header follows",
    "message headers follow",
    "headers of the original message",
    "returned message follows",
    "unsent message follows",
    "undelivered message follows",
    "begin returned message",
];

/// So many lines that say so are followed.
const MOST_TRIED: usize = 20;

/// Fields that nearly every message has.
const KNOWN: [&str; 9] =
    ["received", "return-path", "from", "to", "subject", "date", "message-id", "mime-version", "x-mailer"];

/// What a warning says that is no bounce yet.
const WARNINGS: [&str; 8] = [
    "this is a warning message only",
    "you do not need to resend your message",
    "no action is required on your part",
    "will continue to be retried",
    "will continue to try",
    "will keep trying",
    "will retry for",
    "delivery attempts will continue",
];

/// Whether a text is a header and what follows it, as far as two known fields show.
pub fn begins_with_a_header(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let Some((first, _)) = next_line(text) else { return false };
    let is_field = super::fields::split(first).is_some() || first.starts_with(b"From ");
    let (fields, _) = Fields::read(text);
    is_field && KNOWN.iter().filter(|name| fields.has(name)).count() >= 2
}

/// The header below the line that says that a copy follows; and the text above that line.
pub fn returned_below(text: &str) -> (Option<Fields>, &str) {
    let mut rest = text.as_bytes();
    let mut tried = 0;
    while let Some((line, after)) = next_line(rest).filter(|_| tried < MOST_TRIED) {
        let at = text.len() - rest.len();
        rest = after;
        let line = String::from_utf8_lossy(line).to_ascii_lowercase();
        if !ABOVE_A_COPY.iter().any(|words| line.contains(words)) {
            continue;
        }
        tried += 1;
        // Such a line may go on in the next: "… including all the⏎ headers. ------".
        let mut below = rest;
        for _ in 0..5 {
            if begins_with_a_header(below) {
                return (Some(Fields::read(below.trim_ascii_start()).0), text.get(..at).unwrap_or(text));
            }
            let Some((_, next)) = next_line(below) else { break };
            below = next;
        }
    }
    (None, text)
}

/// The tokens in lines `Message-ID: <…>`.
pub fn message_ids(text: &str) -> Vec<String> {
    let ids = text.lines().filter_map(|line| {
        let line = line.trim_start_matches([' ', '\t', '>', '|']);
        let (name, value) = line.split_at_checked(11)?;
        token_of_message_id(value).filter(|_| name.eq_ignore_ascii_case("message-id:"))
    });
    ids.collect()
}

/// Whether the text says that delivery goes on.
pub fn is_a_warning(subject: &str, text: &str) -> bool {
    let (subject, text) = (subject.to_ascii_lowercase(), text.to_ascii_lowercase());
    subject.starts_with("warning:")
        || subject.contains("(delay)")
        || subject.contains("delayed")
        || WARNINGS.iter().any(|words| text.contains(words))
}

/// Whether it is qmail's: `Hi. This is the qmail-send program at …`, with any name of a program.
pub fn is_of_qmail(text: &str) -> bool {
    text.trim_start().starts_with("Hi. This is the ")
}
