//! What lines of a mail server's log prove about a message in doubt.
//!
//! | the log says about this message                                 | then it is                                      |
//! |------------------------------------------------------------------|-------------------------------------------------|
//! | accepted, after its body was begun                                | sent; nothing outweighs this                    |
//! | accepted, but before its body was begun, or in the future         | in doubt: an earlier try, or the wrong zone     |
//! | its connection was lost or timed out within the body              | not accepted: sent again                        |
//! | refused at its end, with 4yz                                      | not accepted: sent again                        |
//! | refused at its end, with 5yz                                      | refused                                         |
//! | one of these three, less than 15 minutes ago                      | in doubt until then                             |
//! | one of these three, under more than one queue id                  | in doubt: which one was this try?               |
//! | one of these three, in a file that begins after the body did      | in doubt: the acceptance may be in the one before |
//! | one of these three, and an earlier try ended just before this one | in doubt: which one was it about?               |
//! | its Message-ID alone                                              | in doubt: that is logged for what is dropped too |
//! | nothing                                                           | in doubt: a log may be another server's, or end |
//!
//! Acceptance is tied to the message by its token (128 bits, in the envelope or the Message-ID), not by a time: so it
//! may stand up to 5 minutes outside the span in which it can have happened, for clocks that differ. A failure is tied
//! to the try by the time too, so nothing is allowed there; and it must lie 15 minutes back, because what a dead
//! sender's socket still held may arrive later, and because a log may be written late.

use chrono::TimeDelta;

use super::instant::Instant;

/// How long after a body was begun it may still arrive: a killed sender's socket goes on without it.
pub const MAY_STILL_ARRIVE: TimeDelta = TimeDelta::minutes(15);
/// How far the clocks of this machine and of the log may differ.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::minutes(5);

/// The time of a line. A wall time that comes twice when the clocks go back is two instants; it may have been either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogTime {
    pub earliest: Instant,
    pub latest: Instant,
}

impl LogTime {
    pub fn exactly(at: Instant) -> LogTime {
        LogTime { earliest: at, latest: at }
    }
}

/// What a line says about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// The server has taken it over.
    Accepted,
    /// The connection ended or fell silent within the body.
    Lost,
    /// Refused after the body.
    Rejected { for_good: bool },
    /// Handed to this queue id of the same server, by way of a filter: that one's acceptance is no second one.
    PassedOn { to: String },
}

/// One thing that a log says about one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Of the message, in lower case.
    pub token: String,
    pub says: Says,
    pub at: LogTime,
    /// The server's name for it.
    pub queue_id: String,
    /// The lines that say so.
    pub lines: String,
    /// When the file that holds it begins.
    pub file_begins: LogTime,
}

/// The try that is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Try {
    pub armed_at: Instant,
    /// When the last of its earlier tries ended that got as far as the body.
    pub earlier_ended_at: Option<Instant>,
}

/// What the facts amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'a> {
    Accepted(&'a Fact),
    NotAccepted(&'a Fact),
    Refused(&'a Fact),
    /// Not yet: the failure is less than 15 minutes old.
    TooYoung,
    /// The facts do not fit; a person must look.
    Unclear(&'static str),
    Nothing,
}

/// Weighs all that was found about one message at the instant `now`.
pub fn weigh<'a>(this: Try, facts: &'a [Fact], now: Instant) -> Verdict<'a> {
    let accepted = || facts.iter().filter(|fact| fact.says == Says::Accepted);
    let possible = |at: LogTime| at.latest >= this.armed_at - CLOCKS_DIFFER && at.earliest <= now + CLOCKS_DIFFER;
    if let Some(fact) = accepted().find(|fact| possible(fact.at)) {
        return Verdict::Accepted(fact);
    }
    if accepted().any(|fact| fact.at.latest < this.armed_at) {
        return Verdict::Unclear(
            "the log has it accepted before this try began: an earlier try, or --timezone is wrong",
        );
    }
    if accepted().next().is_some() {
        return Verdict::Unclear("the log has it accepted in the future: --timezone or a clock is wrong");
    }
    let is_failure = |fact: &&Fact| matches!(fact.says, Says::Lost | Says::Rejected { .. });
    let failed: Vec<&Fact> = facts.iter().filter(is_failure).filter(|fact| fact.at.earliest >= this.armed_at).collect();
    let Some(fact) = failed.first() else { return Verdict::Nothing };
    if failed.iter().any(|other| other.at.latest > now - MAY_STILL_ARRIVE) {
        return Verdict::TooYoung;
    }
    if failed.iter().any(|other| (&other.queue_id, &other.says) != (&fact.queue_id, &fact.says)) {
        return Verdict::Unclear("the log has it failed under more than one queue id");
    }
    if fact.file_begins.latest > this.armed_at {
        return Verdict::Unclear("the log has it failed, but begins after its body did: an acceptance may be missing");
    }
    if this.earlier_ended_at.is_some_and(|ended| ended > this.armed_at - CLOCKS_DIFFER) {
        return Verdict::Unclear("the log has it failed, but an earlier try ended just before this one");
    }
    match fact.says {
        Says::Rejected { for_good: true } => Verdict::Refused(fact),
        _ => Verdict::NotAccepted(fact),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::instant::from_text;

    fn at(time: &str) -> Instant {
        from_text(&format!("2026-03-01T{time}Z")).unwrap()
    }

    fn fact(says: Says, time: &str) -> Fact {
        Fact {
            token: "0".repeat(32),
            says,
            at: LogTime::exactly(at(time)),
            queue_id: "4A".into(),
            lines: String::new(),
            file_begins: LogTime::exactly(at("06:25:00")),
        }
    }

    const NOW: &str = "13:00:00";

    fn verdict(facts: &[Fact]) -> &'static str {
        let this = Try { armed_at: at("12:00:00"), earlier_ended_at: None };
        word(weigh(this, facts, at(NOW)))
    }

    fn word(verdict: Verdict<'_>) -> &'static str {
        match verdict {
            Verdict::Accepted(_) => "accepted",
            Verdict::NotAccepted(_) => "not accepted",
            Verdict::Refused(_) => "refused",
            Verdict::TooYoung => "too young",
            Verdict::Unclear(_) => "unclear",
            Verdict::Nothing => "nothing",
        }
    }

    #[test]
    fn each_row_of_the_table() {
        use Says::*;
        let no = Rejected { for_good: true };
        let late = |mut fact: Fact| {
            fact.file_begins = LogTime::exactly(at("12:00:01"));
            fact
        };
        let other_queue_id = |mut fact: Fact| {
            fact.queue_id = "5B".into();
            fact
        };
        for (facts, expected) in [
            (vec![], "nothing"),
            (vec![fact(Accepted, "12:00:00")], "accepted"),
            (vec![fact(Accepted, "11:55:00")], "accepted"),
            (vec![fact(Accepted, "13:05:00")], "accepted"),
            (vec![late(fact(Accepted, "12:00:02"))], "accepted"),
            (vec![fact(Lost, "12:00:01"), fact(Accepted, "12:59:59")], "accepted"),
            (vec![fact(no.clone(), "12:00:01"), fact(Accepted, "12:00:00")], "accepted"),
            (vec![fact(Accepted, "11:54:59")], "unclear"),
            (vec![fact(Accepted, "13:05:01")], "unclear"),
            (vec![fact(Lost, "12:00:01"), fact(Accepted, "11:00:00")], "unclear"),
            (vec![fact(Lost, "12:00:00")], "not accepted"),
            (vec![fact(Rejected { for_good: false }, "12:00:01")], "not accepted"),
            (vec![fact(no, "12:00:01")], "refused"),
            (vec![fact(Lost, "11:59:59")], "nothing"),
            (vec![fact(Lost, "12:45:00")], "not accepted"),
            (vec![fact(Lost, "12:45:01")], "too young"),
            (vec![fact(Lost, "12:00:01"), other_queue_id(fact(Lost, "12:00:01"))], "unclear"),
            (vec![late(fact(Lost, "12:00:02"))], "unclear"),
        ] {
            assert_eq!(verdict(&facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn an_earlier_try_that_ended_just_before_takes_a_failure_its_force() {
        let facts = [fact(Says::Lost, "12:00:01")];
        let with = |ended| Try { armed_at: at("12:00:00"), earlier_ended_at: Some(at(ended)) };
        assert_eq!(word(weigh(with("11:55:01"), &facts, at(NOW))), "unclear");
        assert_eq!(word(weigh(with("11:55:00"), &facts, at(NOW))), "not accepted");
        let accepted = [fact(Says::Accepted, "12:00:01")];
        assert_eq!(word(weigh(with("11:55:01"), &accepted, at(NOW))), "accepted");
    }

    #[test]
    fn a_wall_time_that_comes_twice_proves_only_what_both_prove() {
        let twice = |says, time: &str| Fact {
            at: LogTime { earliest: at(time), latest: at(time) + TimeDelta::hours(1) },
            ..fact(says, time)
        };
        assert_eq!(verdict(&[twice(Says::Lost, "11:30:00")]), "nothing");
        assert_eq!(verdict(&[twice(Says::Lost, "12:00:01")]), "too young");
        assert_eq!(verdict(&[twice(Says::Accepted, "11:30:00")]), "accepted");
    }
}
