//! The time a command goes by: the machine's, or one frozen by `--now` for a rehearsal.

use crate::domain::instant::{self, Instant};

/// The instant of every record and due rule. Limits, budgets, timeouts and file ages use the real clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    frozen: Option<Instant>,
}

impl Clock {
    pub fn new(frozen: Option<Instant>) -> Clock {
        Clock { frozen }
    }

    /// Now, in whole seconds.
    pub fn now(&self) -> Instant {
        self.frozen.unwrap_or_else(|| instant::whole_seconds(chrono::Utc::now()))
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }
}

/// The second of the real clock, as Unix time.
pub fn real_second() -> i64 {
    chrono::Utc::now().timestamp()
}
