//! Exim's mainlog: one line says it all.
//!
//! | line                                                         | means                                              |
//! |--------------------------------------------------------------|----------------------------------------------------|
//! | `ID <= sender … id=…`                                        | accepted: written once the message is on the disk  |
//! | `… F=<sender> rejected after DATA…`                          | refused; with `temporarily` before it, for now     |
//! | `… SMTP data timeout (message abandoned) … F=<sender>`       | lost within the body                               |
//! | `SMTP connection from … lost while reading message data`     | the same, but of which message is not said: nothing |
//! | `ID => … C="250 … id=ID2"`                                   | handed on                                          |
//!
//! A failure names the envelope sender only: without a token in that, Exim's log can prove acceptances and nothing else.

use std::collections::HashMap;

use super::{Line, Sink, tokens_in};
use crate::domain::evidence::Says;

#[derive(Debug, Default)]
pub struct Exim {
    /// Tokens of what was accepted and is not completed.
    accepted: HashMap<String, Vec<String>>,
}

impl Exim {
    /// Takes one line, without its time.
    pub fn take(&mut self, line: &Line<'_>, text: &str, sink: &mut dyn Sink) {
        // With log_selector = +pid.
        let text = match text.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((pid, rest)) if pid.bytes().all(|b| b.is_ascii_digit()) => rest,
            _ => text,
        };
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        let id = is_message_id(first).then_some(first);
        if let (Some(id), Some(received)) = (id, rest.strip_prefix("<= ")) {
            let mut words = received.split(' ');
            let sender = words.next().unwrap_or_default();
            // What stands in quotes is the message's own text; its subject may hold anything.
            let own = received.split(" T=\"").next().unwrap_or_default();
            let header = own.split(' ').find_map(|word| word.strip_prefix("id=")).unwrap_or_default();
            let mut tokens: Vec<String> =
                tokens_in(sender).chain(tokens_in(header)).filter(|token| sink.wants(token)).collect();
            tokens.dedup();
            for token in &tokens {
                self.say(line, token, Says::Accepted, id, sink);
            }
            if !tokens.is_empty() {
                self.accepted.insert(id.to_owned(), tokens);
            }
            return;
        }
        if let Some(id) = id.filter(|id| self.accepted.contains_key(*id)) {
            if rest == "Completed" {
                self.accepted.remove(id);
            } else if rest.starts_with("=> ")
                && let Some((_, to)) = rest.rsplit_once(" id=")
            {
                let to = to.trim_end_matches('"').split(' ').next().unwrap_or_default().to_owned();
                for token in self.accepted.get(id).into_iter().flatten() {
                    self.say(line, token, Says::PassedOn { to: to.clone() }, id, sink);
                }
            }
            return;
        }
        let said = if id.is_some() { rest } else { text };
        let Some((before, after)) = said.split_once(" F=<") else { return };
        let Some((sender, after)) = after.split_once('>') else { return };
        let says = if after.starts_with(" rejected after DATA") {
            Says::Rejected { for_good: true }
        } else if after.starts_with(" temporarily rejected after DATA") {
            Says::Rejected { for_good: false }
        } else if before.starts_with("SMTP data timeout (message abandoned) on connection from ") {
            Says::Lost
        } else {
            return;
        };
        for token in tokens_in(sender).filter(|token| sink.wants(token)).collect::<Vec<_>>() {
            self.say(line, &token, says.clone(), id.unwrap_or("-"), sink);
        }
    }

    fn say(&self, line: &Line<'_>, token: &str, says: Says, id: &str, sink: &mut dyn Sink) {
        if let Some(at) = line.at() {
            sink.take(line.fact(token.to_owned(), says, at, id.to_owned(), line.text.to_owned()));
        }
    }
}

/// `1rAbCd-000ABC-1X`, or since Exim 4.97 `1rAbCd-000000001aB-2c3D`.
fn is_message_id(word: &str) -> bool {
    let parts: Vec<usize> = word.split('-').map(str::len).collect();
    matches!(parts[..], [6, 6, 2] | [6, 11, 4]) && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
