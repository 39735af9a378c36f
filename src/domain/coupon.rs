//! Coupon codes: each is given to one message, and never to another once its body may have left.

use chrono::TimeDelta;

use super::instant::Instant;

/// A pool of codes, as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    pub name: String,
    /// A code that ends sooner than this after its message leaves is not given (48h).
    pub min_validity: TimeDelta,
    /// No second code of this pool to one person within so long; `None`: whenever it comes.
    pub per_person: Option<TimeDelta>,
    pub when_empty: WhenEmpty,
    /// A person is told when fewer are left.
    pub warn_below: u64,
}

/// What becomes of a message for which there is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenEmpty {
    /// It waits, and a person is told.
    #[default]
    Wait,
    /// It goes without one.
    Without,
}

/// A code that a message has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coupon {
    pub code: String,
    /// When it ends; `None`: never, as far as is known.
    pub expires_at: Option<Instant>,
}

/// How codes are compared: as people type them, without spaces around and in any case.
pub fn folded(code: &str) -> String {
    code.trim().to_ascii_lowercase()
}

/// Longer than any code that people type.
const LONGEST: usize = 100;

/// Whether a text can be a code.
pub fn is_code(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && text.len() <= LONGEST && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}
