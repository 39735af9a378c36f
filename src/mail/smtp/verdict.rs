//! What the replies to MAIL, RCPT and DATA mean together. Pure: no network here.
//!
//! | reply                                             | means                                                  |
//! |---------------------------------------------------|--------------------------------------------------------|
//! | 250 to MAIL, 250/251/252 to RCPT, 354 to DATA     | ready                                                  |
//! | 4yz or 5yz to RCPT, or to DATA after it           | judges the message                                     |
//! | 552 or 553 to MAIL (RFC 5321 §4.2.2: size, name)  | judges the message                                     |
//! | 501, 504, 550 or 555 to MAIL with SMTPUTF8        | judges the message                                     |
//! | any other 4yz or 5yz to MAIL                      | turned away: says nothing about the message            |
//! | 421, or the connection's end, instead of MAIL's   | gone: says nothing about the message                   |
//! | the same, or what is no reply, instead of RCPT's or DATA's | gone, perhaps because of this recipient       |
//! | silence                                           | as the end of the connection                           |
//! | a reply that the command cannot have, half of one that MAIL cannot have, or something unasked | out of step: no reply on this connection can be trusted |

use crate::domain::fate::Fate;

use super::reply::{Reply, Trouble};

/// The commands of one transaction, in order.
pub(super) const COMMANDS: [&str; 3] = ["MAIL", "RCPT", "DATA"];

/// What came back for MAIL, RCPT and DATA, in order, and what ended the listening early.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// MAIL said SMTPUTF8 (RFC 6531 §3.5), which a server may offer and still refuse.
    smtputf8: bool,
    pub replies: Vec<Reply>,
    pub trouble: Option<Trouble>,
}

/// The meaning of what was heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ready,
    Judged {
        fate: Fate,
        after: After,
    },
    TurnedAway {
        why: String,
        after: After,
    },
    /// `at_mail`: nothing else had been answered, which on a connection used before is how servers end sessions.
    Gone {
        why: String,
        at_mail: bool,
    },
    Silent {
        why: String,
        at_mail: bool,
    },
    OutOfStep {
        why: String,
    },
}

/// In which state a refusal leaves the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Every command has its answer: QUIT may follow.
    Quit,
    /// The server waits for a body: nothing may be written any more, not even QUIT, and least of all a dot.
    AwaitsBody,
    /// The connection ended before every command had its answer.
    Gone,
}

impl Heard {
    pub fn of(smtputf8: bool) -> Heard {
        Heard { smtputf8, ..Heard::default() }
    }

    /// Takes one more answer, or what came in its place; says whether another can follow it.
    pub fn take(&mut self, answer: Result<Reply, Trouble>) -> bool {
        match answer {
            Err(trouble) => {
                self.trouble = Some(trouble);
                false
            }
            Ok(reply) => {
                let last = reply.code == 421;
                self.replies.push(reply);
                !last
            }
        }
    }

    /// Whether the first reply, which is the dot's own when replies are one late, says no.
    pub fn begins_with_a_refusal(&self) -> bool {
        self.replies.first().is_some_and(|reply| reply.is_negative() && reply.code != 421)
    }

    fn reply(&self, at: usize) -> Option<&Reply> {
        self.replies.get(at)
    }
}

/// Whether this reply lets the dialogue go on to the next command; `at` counts from MAIL = 0.
pub(super) fn goes_on(at: usize, reply: &Reply) -> bool {
    matches!((at, reply.code), (0, 250) | (1, 250..=252) | (2, 354))
}

/// Reads the replies together.
pub(super) fn verdict(heard: &Heard, server: &str) -> Verdict {
    for (at, command) in COMMANDS.into_iter().enumerate() {
        let Some(reply) = heard.reply(at) else {
            return unanswered(heard.trouble.as_ref().unwrap_or(&Trouble::Closed), server, command);
        };
        let answered = || format!("{server} answered {command} with {}", reply.text());
        if goes_on(at, reply) {
            continue;
        }
        if reply.code == 421 {
            return Verdict::Gone { why: answered(), at_mail: at == 0 };
        }
        if !reply.is_negative() {
            return Verdict::OutOfStep { why: format!("{}: its replies are out of step", answered()) };
        }
        return match after(heard, at, server) {
            Err(why) => Verdict::OutOfStep { why },
            Ok(after) if at > 0 || judges_at_mail(reply, heard.smtputf8) => {
                Verdict::Judged { fate: reply.judgement(), after }
            }
            Ok(after) => Verdict::TurnedAway { why: answered(), after },
        };
    }
    Verdict::Ready
}

/// Whether a no to MAIL is about this message: its size or name (RFC 5321 §4.2.2), or the SMTPUTF8 that it needs.
fn judges_at_mail(reply: &Reply, smtputf8: bool) -> bool {
    matches!(reply.code, 552 | 553) || (smtputf8 && matches!(reply.code, 501 | 504 | 550 | 555))
}

fn unanswered(trouble: &Trouble, server: &str, command: &str) -> Verdict {
    let (why, at_mail) = (trouble.at(server, command), command == COMMANDS[0]);
    match trouble {
        Trouble::Silent(_) => Verdict::Silent { why, at_mail },
        _ if trouble.is_mere_end("250") => Verdict::Gone { why, at_mail },
        // MAIL's own yes has come, so what was before it is sound, whatever this was to become.
        Trouble::Half { .. } | Trouble::Nonsense(_) if !at_mail => Verdict::Gone { why, at_mail },
        _ => Verdict::OutOfStep { why },
    }
}

/// What the answers to the commands after a refused one leave behind. They are there only when all were sent at once.
///
/// # Errors
/// One of them cannot be an answer to its command: 2yz, or a 354 although MAIL was refused.
fn after(heard: &Heard, refused_at: usize, server: &str) -> Result<After, String> {
    let mut after = After::Quit;
    for (at, command) in COMMANDS.into_iter().enumerate().skip(refused_at + 1) {
        match (heard.reply(at), &heard.trouble) {
            (Some(Reply { code: 421, .. }), _) => after = After::Gone,
            // RFC 2920 §3.1 lets a server answer DATA so although no recipient was accepted.
            (Some(Reply { code: 354, .. }), _) if (refused_at, at) == (1, 2) => after = After::AwaitsBody,
            (Some(reply), _) if reply.is_negative() => {}
            (Some(reply), _) => {
                let (refused, text) = (COMMANDS[refused_at], reply.text());
                return Err(format!("{server} refused {refused} but answered {command} with {text}: out of step"));
            }
            (None, Some(trouble @ (Trouble::Nonsense(_) | Trouble::Unasked(_)))) => {
                return Err(trouble.at(server, command));
            }
            (None, Some(_)) => return Ok(After::Gone),
            // Commands went one by one, and this one was never sent.
            (None, None) => return Ok(after),
        }
    }
    Ok(after)
}
