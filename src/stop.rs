//! SIGTERM and SIGINT: finish the message in hand, settle it, stop. A second one ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant as Monotonic};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::failure::Failure;

/// Why no further message is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    Signal,
    TimeBudget,
}

/// Knows when to stop.
#[derive(Debug, Clone)]
pub struct Stop {
    signalled: Arc<AtomicBool>,
    begun: Monotonic,
    /// Milliseconds from `begun` on; the greatest number is no end.
    budget_in_ms: Arc<AtomicU64>,
}

impl Stop {
    /// Listens for the signals, and counts `time_budget` from now.
    pub fn listen(time_budget: Option<Duration>) -> Result<Stop, Failure> {
        let signalled = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // In this order: the first signal finds the flag unset and sets it, the second ends the process.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&signalled))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&signalled)))
                .map_err(|err| Failure::ledger(format!("could not listen for signals: {err}"), "start it again"))?;
        }
        let budget_in_ms = time_budget.map_or(u64::MAX, in_ms);
        Ok(Stop { signalled, begun: Monotonic::now(), budget_in_ms: Arc::new(AtomicU64::new(budget_in_ms)) })
    }

    /// Allows so much time from now on, where less than that is left.
    pub fn allow(&self, time: Duration) {
        self.budget_in_ms.fetch_max(in_ms(self.begun.elapsed() + time), Ordering::Relaxed);
    }

    /// Whether to stop now, and why.
    pub fn cause(&self) -> Option<StopCause> {
        if self.signalled.load(Ordering::Relaxed) {
            return Some(StopCause::Signal);
        }
        let budget = self.budget_in_ms.load(Ordering::Relaxed);
        (budget < u64::MAX && in_ms(self.begun.elapsed()) >= budget).then_some(StopCause::TimeBudget)
    }
}

fn in_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
