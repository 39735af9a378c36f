//! The promise, shown: never twice, never lost. Each module here breaks runs in one way, at every point there is, lets
//! later runs go on until nothing is left to try, and compares what the receiving side recorded with the ledger.
//!
//! Parts of it run with the tests; all of it runs with `cargo bench --bench proof`, which prints the table in
//! `docs/proof.md`.

#![allow(dead_code, reason = "the tests use a part of it, the full run another")]

pub mod crash;
pub mod disk;
pub mod faults;
pub mod machine;
pub mod meddle;
pub mod place;
pub mod power;
pub mod random;
pub mod record;
pub mod scene;
pub mod watch;

use std::fmt::{self, Debug};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What a part of the proof tried, and how it ended.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Crash points, faults or images.
    pub tried: usize,
    /// Of these, the ones after which at least one message ended in doubt.
    pub with_doubt: usize,
    /// Messages by their last state.
    pub sent: usize,
    pub in_doubt: usize,
    /// What of the promise did not hold, and where.
    pub broken: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.tried += other.tried;
        self.with_doubt += other.with_doubt;
        self.sent += other.sent;
        self.in_doubt += other.in_doubt;
        self.broken.extend(other.broken.iter().cloned());
    }

    /// Fails when something did not hold, or when nothing was tried.
    #[track_caller]
    pub fn must_hold(&self) {
        assert!(self.tried > 0, "nothing was tried");
        let shown = self.broken.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        assert!(self.broken.is_empty(), "{} of {} tries broke the promise:\n{shown}", self.broken.len(), self.tried);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {} | {} | {}", self.tried, self.with_doubt, self.in_doubt, self.broken.len())
    }
}

/// How much of the whole is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Every point.
    All,
    /// Every k-th point, and all where the most can go wrong.
    Every(usize),
}

impl Extent {
    /// Whether the point of this number is tried; `crucial` ones always are.
    pub fn tries(self, number: usize, crucial: bool) -> bool {
        match self {
            Extent::All => true,
            Extent::Every(k) => crucial || number % k == k / 2,
        }
    }
}

/// Hands each item to as many threads as there are cores, and adds up what they found. An item that panics is broken.
pub fn try_all<T: Debug + Sync>(items: &[T], attempt: impl Fn(&T) -> Tally + Sync) -> Tally {
    let next = AtomicUsize::new(0);
    let whole = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut one = attempt(item);
                    one.broken.iter_mut().for_each(|problem| *problem = format!("{item:?}: {problem}"));
                    whole.lock().unwrap().add(&one);
                }
            });
        }
    });
    whole.into_inner().unwrap()
}

/// A small generator (xorshift64*): the same seed, the same sequence, on every machine.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // The first few of a small seed look alike.
        for _ in 0..4 {
            chance.next();
        }
        chance
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}
