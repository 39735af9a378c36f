//! Orders that come after mail: what is known of one, and how those who got mail compare with those who were held out.

use super::instant::Instant;
use super::money::Money;
use super::state::OrderStatus;

/// An order, as far as it is held against the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub order_id: String,
    pub cart_id: Option<String>,
    /// `u:` and the user id; `None` for a guest.
    pub identity: Option<String>,
    pub folded_address: Option<String>,
    pub ordered_at: Instant,
    /// `None` where the shop does not say.
    pub total: Option<Money>,
    pub status: OrderStatus,
}

impl OrderStatus {
    /// What a shop's own word means: `canceled`, `wc-refunded`. Any word that is not known stands for an order that was placed.
    pub fn of_shop(word: &str) -> OrderStatus {
        let word = word.trim().to_ascii_lowercase();
        match word.strip_prefix("wc-").unwrap_or(&word) {
            "cancelled" | "canceled" | "cancel" | "void" | "voided" | "failed" | "expired" => OrderStatus::Cancelled,
            "refunded" | "returned" => OrderStatus::Refunded,
            _ => OrderStatus::Placed,
        }
    }
}

/// How many people there are, and how many of them ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Arm {
    pub people: u64,
    pub ordered: u64,
}

impl Arm {
    /// The share of those who ordered, from 0 to 1; 0 where there is no one.
    pub fn rate(self) -> f64 {
        if self.people == 0 { 0.0 } else { self.ordered as f64 / self.people as f64 }
    }

    /// The 95 % interval of the rate by Wilson's score (E. B. Wilson, 1927).
    fn interval(self) -> (f64, f64) {
        let (n, p) = (self.people as f64, self.rate());
        let z2 = Z * Z;
        let half = Z * (z2 + 4.0 * n * p * (1.0 - p)).sqrt();
        let (middle, width) = (2.0 * n * p + z2, 2.0 * (n + z2));
        ((middle - half) / width, (middle + half) / width)
    }
}

/// The standard normal deviate of a two-sided 95 % interval.
const Z: f64 = 1.959_963_984_540_054;

/// Of each group so many must be expected to order, and so many not to, if the mail made no difference (W. G. Cochran, 1954).
const LEAST_EXPECTED: f64 = 5.0;

/// The difference of two rates, with its 95 % interval, as fractions.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Difference {
    pub difference: f64,
    pub from: f64,
    pub to: f64,
}

/// How many more of the treated ordered than of the held-out; `None`: too few to tell.
///
/// The interval is Newcombe's hybrid of two score intervals (R. G. Newcombe, Statistics in Medicine 17, 1998, 873–890, method
/// 10): it stays within -1 and 1, and is right also for small rates, where the usual one is not.
pub fn difference(treated: Arm, held_out: Arm) -> Option<Difference> {
    let people = treated.people + held_out.people;
    let expected = (treated.ordered + held_out.ordered) as f64 / people.max(1) as f64;
    let is_enough = |arm: Arm| arm.people as f64 * expected.min(1.0 - expected) >= LEAST_EXPECTED;
    (is_enough(treated) && is_enough(held_out)).then(|| newcombe(treated, held_out))
}

fn newcombe(one: Arm, other: Arm) -> Difference {
    let (p1, p2) = (one.rate(), other.rate());
    let ((l1, u1), (l2, u2)) = (one.interval(), other.interval());
    let difference = p1 - p2;
    Difference { difference, from: difference - (p1 - l1).hypot(u2 - p2), to: difference + (u1 - p1).hypot(p2 - l2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(ordered: u64, people: u64) -> Arm {
        Arm { people, ordered }
    }

    /// Method 10 in table II of the paper.
    #[test]
    fn the_interval_is_that_of_the_paper() {
        for (one, other, expected) in [
            (arm(56, 70), arm(48, 80), (0.2, 0.0524, 0.3339)),
            (arm(9, 10), arm(3, 10), (0.6, 0.1705, 0.8090)),
            (arm(6, 7), arm(2, 7), (0.5714, 0.0582, 0.8062)),
            (arm(5, 56), arm(0, 29), (0.0893, -0.0381, 0.1926)),
            (arm(0, 10), arm(0, 20), (0.0, -0.1611, 0.2775)),
            (arm(10, 10), arm(0, 10), (1.0, 0.6075, 1.0)),
        ] {
            let Difference { difference, from, to } = newcombe(one, other);
            for (found, expected) in [(difference, expected.0), (from, expected.1), (to, expected.2)] {
                assert!((found - expected).abs() < 0.000_06, "{one:?} {other:?}: {found} is not {expected}");
            }
        }
    }

    #[test]
    fn what_is_too_few_to_tell_is_not_told() {
        for (treated, held_out) in [
            (arm(0, 0), arm(0, 0)),
            (arm(100, 1000), arm(0, 0)),
            (arm(0, 1000), arm(0, 1000)),
            // 1,050 people and 21 orders: one of the 50 is expected.
            (arm(20, 1000), arm(1, 50)),
            (arm(49, 500), arm(0, 50)),
        ] {
            assert_eq!(difference(treated, held_out), None, "{treated:?} {held_out:?}");
        }
        assert!(difference(arm(95, 950), arm(5, 50)).is_some());
    }

    #[test]
    fn words_of_shops_are_understood() {
        for (word, status) in [
            ("wc-refunded", OrderStatus::Refunded),
            (" Canceled ", OrderStatus::Cancelled),
            ("cancelled", OrderStatus::Cancelled),
            ("wc-completed", OrderStatus::Placed),
            ("partially_refunded", OrderStatus::Placed),
            ("", OrderStatus::Placed),
        ] {
            assert_eq!(OrderStatus::of_shop(word), status, "{word}");
        }
    }
}
