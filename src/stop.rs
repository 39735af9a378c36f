//! SIGTERM and SIGINT: finish the message in hand, settle it, stop. A second one ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    deadline: Option<Monotonic>,
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
        Ok(Stop { signalled, deadline: time_budget.map(|budget| Monotonic::now() + budget) })
    }

    /// Whether to stop now, and why.
    pub fn cause(&self) -> Option<StopCause> {
        if self.signalled.load(Ordering::Relaxed) {
            return Some(StopCause::Signal);
        }
        self.deadline.is_some_and(|deadline| Monotonic::now() >= deadline).then_some(StopCause::TimeBudget)
    }
}
