//! A campaign as its definition says it: what is written, to whom, and when.

use std::path::PathBuf;
use std::time::Duration;

use super::address::Mailbox;
use super::instant::Instant;
use super::recurrence::Schedule;
use super::send_window::SendWindow;
use super::subject::Subject;

/// One `[[campaign]]` of the campaigns file, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Campaign {
    /// 1 to 64 ASCII letters, digits, dots, underscores and hyphens; unique in its file.
    pub id: String,
    /// A template; its result is checked again before it becomes a header.
    pub subject: Subject,
    pub template: PathBuf,
    pub audience: Audience,
    pub schedule: Schedule,
    /// Two openings are at least this far apart (10m).
    pub min_gap: Duration,
    /// An occurrence is not opened later than this after its instant (6h).
    pub max_lateness: Duration,
    /// Messages expire this long after the occurrence's instant (72h).
    pub send_until: Duration,
    /// Which list its recipients are on, and can leave.
    pub list: String,
    /// The pool of coupon codes that each of its messages takes one from.
    pub coupon: Option<String>,
    /// Instead of the one of the configuration.
    pub send_window: Option<SendWindow>,
    /// Instead of `mail.from`.
    pub from: Option<Mailbox>,
    pub enabled: bool,
}

impl Campaign {
    /// An instant in the campaign's own zone: `2026-03-01 09:00 Europe/Berlin`.
    pub fn local(&self, at: Instant) -> String {
        let zone = self.schedule.zone;
        format!("{} {zone}", at.with_timezone(&zone).format("%Y-%m-%d %H:%M"))
    }
}

/// Where the recipients of a campaign are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    Csv(PathBuf),
    JsonLines(PathBuf),
    /// A query on the shop's database, when the source is one.
    Sql(String),
}

/// Longer ids are no names.
const LONGEST_ID: usize = 64;

/// Whether a text can be the id of a campaign.
pub fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::is_id;

    #[test]
    fn an_id_is_a_plain_name() {
        assert!(is_id("spring-2026_v1.2") && is_id(&"x".repeat(64)));
        for text in ["", "a b", "a/b", "frühling", "a\n", &"x".repeat(65)] {
            assert!(!is_id(text), "{text:?}");
        }
    }
}
