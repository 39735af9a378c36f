//! Postfix: several lines of several programs about one message, joined by its queue id.
//!
//! | line                                                | means                                                       |
//! |-----------------------------------------------------|-------------------------------------------------------------|
//! | `smtpd: QID: client=…`                              | a queue id begins, on this smtpd's session; short ones come again |
//! | `cleanup: QID: message-id=<…>`                      | whose it is; logged for what is dropped too, and even after that |
//! | `qmgr: QID: from=<…>, … (queue active)`             | accepted; comes again after a deferral or a restart          |
//! | `smtpd: lost connection after DATA (… bytes) from`  | names no queue id: this smtpd's session had one              |
//! | `smtpd: timeout after DATA (… bytes) from`          | the same                                                    |
//! | `cleanup: QID: milter-reject: END-OF-MESSAGE …`     | refused; 4yz or 5yz follows                                  |
//! | `cleanup: QID: reject: header …`                    | the same                                                    |
//! | `…: QID: to=<…> … status=sent (… queued as QID2)`   | handed on; QID2 is no second acceptance                      |
//! | `qmgr: QID: removed`                                | the queue id ends                                           |
//!
//! `(… bytes)` matters: without it, the connection was lost before the body or after its end. Lines of different hosts
//! and instances (`postfix/…`, `postfix-out/…`) are never joined.

use std::collections::{HashMap, VecDeque};

use super::{Line, Sink, tokens_in};
use crate::domain::evidence::{LogTime, Says};

/// So many queue ids that are no one's of ours are remembered, until their `message-id=` line can be expected no more.
const MOST_UNKNOWN: usize = 20_000;

/// What is known so far.
#[derive(Debug, Default)]
pub struct Postfix {
    /// Which queue id the session of an smtpd process has begun last.
    sessions: HashMap<String, String>,
    queue: HashMap<String, Entry>,
    /// Keys of `queue`, oldest first.
    order: VecDeque<String>,
}

#[derive(Debug, Default)]
struct Entry {
    tokens: Vec<String>,
    /// The lines so far, for the record.
    lines: Vec<String>,
    /// A failure whose Message-ID is not known yet.
    failed: Option<(Says, LogTime)>,
    active: Option<LogTime>,
}

impl Postfix {
    /// Takes one line; `program` as syslog has it: `postfix/smtpd`, `postfix/submission/smtpd`.
    pub fn take(&mut self, line: &Line<'_>, host: &str, program: &str, pid: &str, text: &str, sink: &mut dyn Sink) {
        let instance = program.split('/').next().unwrap_or_default();
        let daemon = program.rsplit('/').next().unwrap_or_default();
        let in_instance = |name: &str| format!("{host} {instance} {name}");
        if daemon == "smtpd" {
            let session = in_instance(pid);
            if text.starts_with("connect from ") || text.starts_with("disconnect from ") {
                self.sessions.remove(&session);
                return;
            }
            let lost =
                ["lost connection after DATA (", "timeout after DATA ("].iter().any(|start| text.starts_with(start));
            if lost {
                if let Some(key) = self.sessions.remove(&session) {
                    self.failed(line, &key, Says::Lost, sink);
                }
                return;
            }
        }
        let Some((queue_id, rest)) = text.split_once(": ").filter(|(id, _)| is_queue_id(id)) else { return };
        let key = in_instance(queue_id);
        match daemon {
            "smtpd" if rest.starts_with("client=") => {
                self.sessions.insert(in_instance(pid), key.clone());
                self.begin(key).lines.push(line.text.to_owned());
            }
            "pickup" if rest.starts_with("uid=") => {
                self.begin(key);
            }
            "cleanup" if rest.starts_with("message-id=") => self.named(line, &key, rest, sink),
            "cleanup" | "smtpd" => {
                if let Some(for_good) = rejected(rest) {
                    self.failed(line, &key, Says::Rejected { for_good }, sink);
                }
            }
            "qmgr" | "oqmgr" | "nqmgr" if rest.starts_with("from=<") && rest.ends_with("(queue active)") => {
                let sender = rest.split(">, size=").next().unwrap_or_default();
                self.active(line, &key, sender, sink);
            }
            "qmgr" | "oqmgr" | "nqmgr" | "postsuper" if rest == "removed" => {
                self.queue.remove(&key);
            }
            _ => self.handed_on(line, &key, rest, sink),
        }
    }

    /// A queue id begins, or begins anew.
    fn begin(&mut self, key: String) -> &mut Entry {
        self.queue.remove(&key);
        self.entry(key)
    }

    fn entry(&mut self, key: String) -> &mut Entry {
        if !self.queue.contains_key(&key) {
            self.order.push_back(key.clone());
        }
        if self.order.len() > MOST_UNKNOWN
            && let Some(oldest) = self.order.pop_front()
            && oldest != key
        {
            match self.queue.get(&oldest) {
                Some(entry) if !entry.tokens.is_empty() => self.order.push_back(oldest),
                _ => drop(self.queue.remove(&oldest)),
            }
        }
        self.queue.entry(key).or_default()
    }

    fn named(&mut self, line: &Line<'_>, key: &str, rest: &str, sink: &mut dyn Sink) {
        let tokens: Vec<String> = tokens_in(rest).filter(|token| sink.wants(token)).collect();
        if tokens.is_empty() {
            return;
        }
        let entry = self.entry(key.to_owned());
        entry.lines.push(line.text.to_owned());
        entry.tokens.extend(tokens);
        let (failed, active) = (entry.failed.take(), entry.active);
        if let Some((says, at)) = failed {
            self.emit(line, key, says, at, sink);
        }
        if let Some(at) = active {
            self.emit(line, key, Says::Accepted, at, sink);
        }
    }

    fn active(&mut self, line: &Line<'_>, key: &str, sender: &str, sink: &mut dyn Sink) {
        let Some(at) = line.at() else { return };
        let by_sender: Vec<String> = tokens_in(sender).filter(|token| sink.wants(token)).collect();
        let entry = self.entry(key.to_owned());
        if entry.active.is_none() {
            entry.lines.push(line.text.to_owned());
        }
        entry.active = Some(at);
        for token in by_sender {
            if !entry.tokens.contains(&token) {
                entry.tokens.push(token);
            }
        }
        self.emit(line, key, Says::Accepted, at, sink);
    }

    fn failed(&mut self, line: &Line<'_>, key: &str, says: Says, sink: &mut dyn Sink) {
        let Some(at) = line.at() else { return };
        let Some(entry) = self.queue.get_mut(key) else { return };
        entry.lines.push(line.text.to_owned());
        if entry.tokens.is_empty() {
            entry.failed = Some((says, at));
        } else {
            self.emit(line, key, says, at, sink);
        }
    }

    fn handed_on(&mut self, line: &Line<'_>, key: &str, rest: &str, sink: &mut dyn Sink) {
        let Some(entry) = self.queue.get(key).filter(|entry| !entry.tokens.is_empty()) else { return };
        let words = ["queued as ", "forwarded as "];
        let to = words.iter().find_map(|word| rest.split_once(word)).map(|(_, id)| {
            let end = id.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(id.len());
            id[..end].to_owned()
        });
        if let (Some(to), Some(at), false) = (to, line.at(), entry.tokens.is_empty()) {
            self.emit(line, key, Says::PassedOn { to }, at, sink);
        }
    }

    fn emit(&self, line: &Line<'_>, key: &str, says: Says, at: LogTime, sink: &mut dyn Sink) {
        let Some(entry) = self.queue.get(key) else { return };
        for token in &entry.tokens {
            let queue_id = key.rsplit(' ').next().unwrap_or_default().to_owned();
            sink.take(line.fact(token.clone(), says.clone(), at, queue_id, entry.lines.join("\n")));
        }
    }
}

/// Short ids are upper-case hexadecimal, long ones letters and digits.
fn is_queue_id(word: &str) -> bool {
    (5..=32).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Whether the line refuses the whole message after its body, and if so whether for good.
fn rejected(rest: &str) -> Option<bool> {
    let code = if let Some(milter) = rest.strip_prefix("milter-reject: END-OF-MESSAGE from ") {
        milter.split_once("]: ")?.1
    } else if let Some(smtpd) = rest.strip_prefix("reject: END-OF-MESSAGE from ") {
        smtpd.split_once("]: ")?.1
    } else if rest.starts_with("reject: header ") || rest.starts_with("reject: body ") {
        // What stands before is the message's own text.
        rest.rsplit_once(" helo=<")?.1.split_once(">: ")?.1
    } else {
        return None;
    };
    match code.as_bytes() {
        [b'5', b'.' | b'0'..=b'9', ..] => Some(true),
        [b'4', b'.' | b'0'..=b'9', ..] => Some(false),
        _ => None,
    }
}
