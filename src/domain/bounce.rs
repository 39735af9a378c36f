//! What a report about a message means: that its address is dead, or full, or that something else is the matter.
//!
//! | class       | its signs                                                                             | what it is about |
//! |-------------|---------------------------------------------------------------------------------------|------------------|
//! | hard        | `Action: failed` and one of 5.1.1 5.1.2 5.1.3 5.1.6 5.1.10 5.2.1                        | a dead address   |
//! | soft        | `Action: failed` and 4.x.x but for 4.7.x, 5.2.2, 5.2.3, 5.3.4, 5.4.1 or 5.4.7; a bounce in plain text | a mailbox, for now |
//! | blocked     | `Action: failed` and 4.7.x, 5.6.x or 5.7.x; plain text that names 5.7.x alone                  | the sender       |
//! | other       | failed in any other way, or not clear how                                              | not known        |
//! | elsewhere   | failed at an address that the message was not sent to: a forwarder's, a member's of an alias | someone else |
//! | delayed     | `Action: delayed`; a warning in plain text                                             | nothing yet      |
//! | delivered   | `Action: delivered`, `relayed` or `expanded`                                           | nothing          |
//! | auto-reply  | a vacation notice, a receipt, any other mail that a machine wrote                      | nothing          |
//! | complaint   | `Feedback-Type: abuse`, `fraud` or `opt-out`                                           | the recipient's wish |
//! | not-spam    | `Feedback-Type: not-spam`                                                              | nothing          |
//! | feedback    | any other `Feedback-Type`: `auth-failure`, `virus`, `dmarc`, …                         | the sender       |
//! | unsubscribe | no report at all: a mail that asks to be taken off                                     | the recipient's wish |
//! | unread      | no mail at all                                                                         | a person must look |
//!
//! The code in `Diagnostic-Code` outweighs the one in `Status`, which many servers fill with 5.0.0. Only a code that stands
//! where servers put one counts: a version, an address or a date is none. Missing a dead address costs one more mail next
//! time; taking a live one for dead loses a customer. So the codes decide alone, and words such as "no such user" do not.

use std::fmt;

use serde::{Serialize, Serializer};

use super::state::words;

words! {
    /// What a report says of the message it is about.
    Class {
        Hard = "hard",
        Soft = "soft",
        Blocked = "blocked",
        Other = "other",
        /// At an address that the message was not sent to; it counts for nothing.
        Elsewhere = "elsewhere",
        Delayed = "delayed",
        Delivered = "delivered",
        AutoReply = "auto-reply",
        Complaint = "complaint",
        NotSpam = "not-spam",
        /// Feedback that is no complaint, such as about a signature; it never counts as a bounce.
        Feedback = "feedback",
        /// No report: a mail that asks to be taken off.
        Unsubscribe = "unsubscribe",
        /// What cannot be read as a mail.
        Unread = "unread",
    }
}

/// What came back of a campaign stops it from this share of its messages on, in hundredths of a per cent, once so many are out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopAt {
    pub complaints: u64,
    pub hard_bounces: u64,
    pub after: u64,
}

/// What a report says about one address that the message went to (RFC 3464 §2.3). Texts are without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recipient {
    /// The address that the message was sent to, where the report knows it: without its type (`rfc822;`).
    pub original: Option<String>,
    /// The address that it ended at, which may be another: an alias, a forwarder.
    #[serde(rename = "final")]
    pub final_: Option<String>,
    pub action: Option<String>,
    pub status: Option<String>,
    pub diagnostic: Option<String>,
    pub class: Class,
}

/// An enhanced status code (RFC 3463 §2), class 2, 4 or 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Code {
    class: u8,
    subject: u16,
    detail: u16,
}

impl Code {
    /// Whether it says that there is no such mailbox, or that it is closed.
    fn is_hard(self) -> bool {
        matches!((self.class, self.subject, self.detail), (5, 1, 1 | 2 | 3 | 6 | 10) | (5, 2, 1))
    }

    fn is_blocked(self) -> bool {
        matches!((self.class, self.subject), (4, 7) | (5, 6 | 7))
    }

    fn of_failure(self) -> Class {
        match (self.class, self.subject, self.detail) {
            _ if self.is_hard() => Class::Hard,
            _ if self.is_blocked() => Class::Blocked,
            (4, ..) | (5, 2, 2 | 3) | (5, 3, 4) | (5, 4, 1 | 7) => Class::Soft,
            _ => Class::Other,
        }
    }
}

/// What the fields of one recipient amount to (RFC 3464 §2.3.3, §2.3.4, §2.3.6).
///
/// Without an action that is known, the code says what happened, but never that an address is dead.
pub fn classify(action: Option<&str>, status: Option<&str>, diagnostic: Option<&str>) -> Class {
    let by_server = diagnostic.and_then(|text| codes_in(text).find(|code| code.class != 2));
    let code = by_server.or_else(|| status.and_then(|text| codes_in(&without_comments(text)).next()));
    let action = action.unwrap_or_default().trim_start().split(|c: char| !c.is_ascii_alphabetic()).next();
    match (action.unwrap_or_default().to_ascii_lowercase().as_str(), code) {
        ("failed", Some(code)) => code.of_failure(),
        ("failed", None) => Class::Other,
        ("delayed", _) => Class::Delayed,
        ("delivered" | "relayed" | "expanded", _) => Class::Delivered,
        (_, Some(code)) => match (code.class, code.of_failure()) {
            (2, _) => Class::Delivered,
            (4, _) => Class::Delayed,
            (_, Class::Hard) => Class::Other,
            (_, class) => class,
        },
        (_, None) => Class::Other,
    }
}

/// What several recipients of one message amount to: the mildest. `None` without any.
///
/// A message has one recipient as it leaves. Several in a report are what an alias became, and while one of them can be
/// reached, the alias is not dead.
pub fn together(recipients: &[Recipient]) -> Option<Class> {
    let severity = |class: &Class| match class {
        Class::Hard => 5,
        Class::Soft => 4,
        Class::Other => 3,
        Class::Blocked => 2,
        Class::Delayed => 1,
        _ => 0,
    };
    recipients.iter().map(|recipient| recipient.class).min_by_key(severity)
}

/// What a `Feedback-Type` means (RFC 5965 §7.3, RFC 6430, RFC 6591).
pub fn of_feedback(feedback_type: &str) -> Class {
    let word: String = feedback_type.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    match word.to_ascii_lowercase().as_str() {
        "abuse" | "fraud" | "opt-out" | "opt-out-list" => Class::Complaint,
        "not-spam" => Class::NotSpam,
        _ => Class::Feedback,
    }
}

/// What a bounce in plain text amounts to: never more than soft, since anything can stand in a text.
pub fn of_text(text: &str) -> Class {
    let mut codes = codes_in(text).filter(|code| code.class == 5).peekable();
    match codes.peek().is_some() && codes.all(|code| code.subject == 7) {
        true => Class::Blocked,
        false => Class::Soft,
    }
}

/// Whether a server's reply says for good that there is no such mailbox: `550 5.1.1 <ada@example.com>: no such user`.
///
/// The code must stand directly after the three digits, or after `550-`, and both must be of class 5.
pub fn is_hard_code(reply: &str) -> bool {
    let reply = reply.trim_start().as_bytes();
    let [b'5', b'0'..=b'9', b'0'..=b'9', b' ' | b'-', text @ ..] = reply else { return false };
    let text = text.trim_ascii_start();
    code_at(text.strip_prefix(b"#").unwrap_or(text)).is_some_and(|(code, _)| code.is_hard())
}

/// Whether some line of a text holds a code or a server's reply: what is worth showing of a bounce in plain text.
pub fn names_a_failure(line: &str) -> bool {
    let is_reply = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        matches!(word.as_bytes(), [b'4' | b'5', b'0'..=b'7', b'0'..=b'9'])
    };
    codes_in(line).any(|code| code.class != 2) || line.split([' ', '-', ';', ':', '(']).any(is_reply)
}

/// The enhanced codes of a text, in order, that stand where servers put them:
///
/// - at its beginning, and after the type of a `Diagnostic-Code`: `smtp; 5.1.1 …`, `smtp;5.1.1`;
/// - after the three digits of a reply of the same class: `550 5.1.1`, `550-5.1.1`;
/// - after a `#`, an opening parenthesis, or a colon and a blank: `(#5.1.1)`, `(5.1.1)`, `<ada@example.com>: 5.1.1 …`.
fn codes_in(text: &str) -> impl Iterator<Item = Code> + '_ {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let here = at;
            at += 1;
            if matches!(bytes[here], b'2' | b'4' | b'5')
                && let Some((code, len)) = code_at(&bytes[here..])
                && is_placed(&bytes[..here], code)
            {
                at = here + len;
                return Some(code);
            }
        }
        None
    })
}

/// Whether an enhanced code may stand after this text.
fn is_placed(before: &[u8], code: Code) -> bool {
    let bare = before.strip_suffix(b"#").unwrap_or(before);
    if bare.len() < before.len() {
        return !bare.last().is_some_and(u8::is_ascii_alphanumeric);
    }
    match before.last() {
        None | Some(b'(' | b';' | b'\n') => true,
        Some(b'-') => reply_class(&before[..before.len() - 1]) == Some(code.class),
        Some(b' ' | b'\t') => {
            let bare = before.trim_ascii_end();
            let begins_a_line = before[bare.len()..].contains(&b'\n');
            let replied = reply_class(bare).or_else(|| reply_class(bare.strip_suffix(b"-")?.trim_ascii_end()));
            begins_a_line || matches!(bare.last(), None | Some(b';' | b':')) || replied == Some(code.class)
        }
        _ => false,
    }
}

/// The class of the reply code (RFC 5321 §4.2.1) that a text ends with: 5 of `smtp; 550`.
fn reply_class(text: &[u8]) -> Option<u8> {
    let [before @ .., class @ (b'2' | b'4' | b'5'), b'0'..=b'9', b'0'..=b'9'] = text else { return None };
    let is_apart = !before.last().is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    is_apart.then_some(class - b'0')
}

/// The enhanced code that a text begins with, and its length. What follows must end it: `5.1.1.9` is an address, `5.1.1a` a
/// version. `5.1.1smtp;550` is what some servers write.
fn code_at(text: &[u8]) -> Option<(Code, usize)> {
    let [class @ (b'2' | b'4' | b'5'), b'.', rest @ ..] = text else { return None };
    let (subject, subject_len) = number(rest)?;
    let rest = rest[subject_len..].strip_prefix(b".")?;
    let (detail, detail_len) = number(rest)?;
    // RFC 3463 §3 knows the subjects 0 to 7.
    let code = (subject <= 7).then_some(Code { class: class - b'0', subject, detail })?;
    let ends = match &rest[detail_len..] {
        [b'.', next, ..] => !next.is_ascii_alphanumeric(),
        [b'-', next, ..] => !next.is_ascii_digit(),
        [b'_', ..] => false,
        [next, ..] if next.is_ascii_alphanumeric() => {
            rest[detail_len..].get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"smtp"))
        }
        _ => true,
    };
    ends.then_some((code, 2 + subject_len + 1 + detail_len))
}

/// One to three digits without a needless zero before them.
fn number(text: &[u8]) -> Option<(u16, usize)> {
    let len = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let is_number = (1..=3).contains(&len) && (len == 1 || text[0] != b'0');
    is_number.then(|| (text[..len].iter().fold(0, |n, b| n * 10 + u16::from(b - b'0')), len))
}

/// A field without its comments (RFC 5322 §3.2.2): ` 5.2.2 (mailbox full)` is `5.2.2`.
fn without_comments(text: &str) -> String {
    let mut depth = 0_u32;
    let mut bare = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 => bare.push(c),
            _ => {}
        }
    }
    bare.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_comes_back() {
        for class in Class::ALL {
            assert_eq!(Class::of_word(class.word()), Some(*class));
        }
        assert_eq!(Class::of_word("Hard"), None);
    }

    #[test]
    fn the_code_of_the_server_outweighs_the_status() {
        use Class::*;
        for (status, diagnostic, expected) in [
            ("5.1.1", "", Hard),
            ("5.1.10", "smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; not found", Hard),
            ("5.2.1", "", Hard),
            ("5.0.0", "smtp; 550 5.1.1 No such user", Hard),
            ("5.0.0", "smtp; 550-5.1.1 The account does not exist. 550-5.1.1 Look again.", Hard),
            ("5.0.0", "smtp; 550 #5.1.1 no such user", Hard),
            ("5.0.0", "smtp; user unknown (#5.1.1)", Hard),
            ("5.0.0", "smtp; user unknown (5.1.1)", Hard),
            ("5.0.0", "5.1.1smtp;550 5.1.1 unknown", Hard),
            ("5.0.0", "smtp;5.1.1 unknown", Hard),
            ("5.0.0", "smtp; 550 <ada@example.com>: 5.1.1 unknown", Hard),
            ("5.0.0", "smtp; 550\t5.1.1 unknown", Hard),
            ("5.0.0", "smtp; 550 - 5.1.1 unknown", Hard),
            ("5.1.1smtp;550", "", Hard),
            ("5.1.1 (no such user)", "", Hard),
            ("(5.7.1) 5.1.1", "", Hard),
            ("5.0.0 (5.1.1)", "", Other),
            ("5.1.1", "smtp; 550 5.7.1 blocked", Blocked),
            ("5.1.1", "smtp; 450 4.2.2 over quota", Soft),
            ("5.1.1", "smtp; 250 2.1.5 Ok", Hard),
            ("5.2.2 (mailbox full)", "", Soft),
            ("5.2.3", "", Soft),
            ("5.3.4", "", Soft),
            ("5.4.1", "", Soft),
            ("5.4.7", "", Soft),
            ("4.4.1", "", Soft),
            ("4.7.1", "", Blocked),
            ("5.7.520", "", Blocked),
            ("5.6.0", "", Blocked),
            ("5.1.4", "", Other),
            ("5.2.0", "", Other),
            ("5.4.4", "", Other),
            ("2.0.0", "", Other),
            ("", "", Other),
            ("5", "smtp; 550 no such user", Other),
        ] {
            let class = classify(Some("failed"), Some(status), Some(diagnostic));
            assert_eq!(class, expected, "{status:?} {diagnostic:?}");
        }
    }

    #[test]
    fn what_only_looks_like_a_code_is_none() {
        for diagnostic in [
            "smtp; 550 rejected by 5.1.1.9",
            "smtp; 550 host[5.1.1.9] said no",
            "smtp; 550 (5.1.1.9)",
            "smtp; 550 sendmail v5.1.1",
            "smtp; 550 Server 5.1.1 says no",
            "smtp; 550 mx-5.1.1 says no",
            "smtp; 450 5.1.1 of another class",
            "smtp; 1550 5.1.1",
            "smtp; 550 5.1.1a",
            "smtp; 550 5.1.1_2",
            "smtp; 550 5.1.1-2",
            "smtp; 550 5.1.01",
            "smtp; 550 5.1.1001",
            "smtp; 550 5.1",
            "smtp; 550 5..1",
            "smtp; 550 at 5.1.10 12:00",
            "x#5.1.1",
            "smtp; 550 15.1.1",
        ] {
            assert_eq!(classify(Some("failed"), Some("5.0.0"), Some(diagnostic)), Class::Other, "{diagnostic:?}");
            assert_eq!(classify(Some("failed"), Some("5.1.1"), Some(diagnostic)), Class::Hard, "{diagnostic:?}");
        }
    }

    #[test]
    fn only_what_failed_is_hard() {
        use Class::*;
        for (action, expected) in [
            (Some("failed"), Hard),
            (Some(" Failed (for good)"), Hard),
            (Some("delayed"), Delayed),
            (Some("delivered"), Delivered),
            (Some("relayed"), Delivered),
            (Some("expanded"), Delivered),
            (Some("failure"), Other),
            (Some(""), Other),
            (None, Other),
        ] {
            assert_eq!(classify(action, Some("5.1.1"), None), expected, "{action:?}");
        }
        assert_eq!(classify(None, Some("4.4.1"), None), Delayed);
        assert_eq!(classify(None, Some("2.0.0"), None), Delivered);
        assert_eq!(classify(None, Some("5.7.1"), None), Blocked);
        assert_eq!(classify(None, None, None), Other);
    }

    #[test]
    fn a_reply_is_hard_by_the_code_after_its_digits() {
        for reply in [
            "550 5.1.1 <ada@example.com>: no such user",
            "550-5.1.1 The account does not exist.",
            "550 #5.1.1 no",
            "553 5.1.3 bad address",
            "550 5.1.10",
            "554 5.2.1 closed",
        ] {
            assert!(is_hard_code(reply), "{reply:?}");
        }
        for reply in [
            "550 no such user",
            "550 no such user (5.1.1)",
            "450 4.1.1 not now",
            "450 5.1.1 of another class",
            "550 4.1.1 of another class",
            "550 5.7.1 blocked",
            "550 5.1.1.9 said no",
            "550 5.1.100",
            "5501 5.1.1",
            "5.1.1",
            "550",
            "",
        ] {
            assert!(!is_hard_code(reply), "{reply:?}");
        }
    }

    #[test]
    fn a_text_is_soft_or_blocked() {
        assert_eq!(of_text("<ada@example.com>:\nno such user (#5.1.1)"), Class::Soft);
        assert_eq!(of_text("550 5.7.1 blocked"), Class::Blocked);
        assert_eq!(of_text("550 5.7.1 blocked\n550 5.1.1 unknown"), Class::Soft);
        assert_eq!(of_text("no such user"), Class::Soft);
    }

    #[test]
    fn feedback_is_a_complaint_by_three_words() {
        for (word, expected) in [
            ("abuse", Class::Complaint),
            (" Fraud", Class::Complaint),
            ("opt-out", Class::Complaint),
            ("not-spam", Class::NotSpam),
            ("auth-failure", Class::Feedback),
            ("virus", Class::Feedback),
            ("dmarc", Class::Feedback),
            ("", Class::Feedback),
        ] {
            assert_eq!(of_feedback(word), expected, "{word}");
        }
    }

    #[test]
    fn while_one_of_several_can_be_reached_the_address_is_not_dead() {
        let of =
            |class| Recipient { original: None, final_: None, action: None, status: None, diagnostic: None, class };
        let all = |classes: &[Class]| together(&classes.iter().copied().map(of).collect::<Vec<_>>());
        assert_eq!(all(&[]), None);
        assert_eq!(all(&[Class::Hard]), Some(Class::Hard));
        assert_eq!(all(&[Class::Hard, Class::Hard]), Some(Class::Hard));
        assert_eq!(all(&[Class::Hard, Class::Soft]), Some(Class::Soft));
        assert_eq!(all(&[Class::Hard, Class::Delivered]), Some(Class::Delivered));
        assert_eq!(all(&[Class::Delayed, Class::Hard]), Some(Class::Delayed));
    }
}
