//! A holdout: a share of the people who would be written to are not, so that what the mail brings can be compared with what
//! comes without it. Who is in it follows from the address alone.

use sha2::{Digest, Sha256};

/// Who is held out, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdout {
    salt: String,
    /// Hashes below this one, of 2⁶⁴, are held out.
    below: u128,
    pub carts: bool,
    pub campaigns: bool,
}

impl Holdout {
    /// `percent` of all people, from 0 to 100; another salt chooses others.
    pub fn new(percent: f64, salt: String, carts: bool, campaigns: bool) -> Holdout {
        // Never negative, and exact enough: a double has 53 bits.
        let below = (percent / 100.0 * (1u128 << 64) as f64) as u128;
        Holdout { salt, below, carts, campaigns }
    }

    /// Whether nothing is sent to this folded address.
    ///
    /// By the first eight bytes, as one number, of the SHA-256 of `holdout`, the salt and the address, with a zero byte
    /// between them.
    pub fn holds(&self, folded_address: &str) -> bool {
        let mut digest = Sha256::new();
        for part in ["holdout", &self.salt] {
            digest.update(part.as_bytes());
            digest.update([0]);
        }
        digest.update(folded_address.as_bytes());
        let number = digest.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u128::from(*byte));
        number < self.below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(percent: f64, salt: &str) -> Vec<bool> {
        let holdout = Holdout::new(percent, salt.into(), true, false);
        (0..10_000).map(|number| holdout.holds(&format!("shopper{number}@example.com"))).collect()
    }

    fn share(held: &[bool]) -> usize {
        held.iter().filter(|held| **held).count()
    }

    #[test]
    fn the_share_is_what_was_asked_for() {
        assert_eq!((share(&held(0.0, "s")), share(&held(100.0, "s"))), (0, 10_000));
        // Five standard deviations: sqrt(10,000 * p * (1 - p)).
        for (percent, expected, far) in [(0.5, 50, 36), (5.0, 500, 109), (50.0, 5_000, 250)] {
            let found = share(&held(percent, "2026"));
            assert!(found.abs_diff(expected) <= far, "{percent} %: {found} of 10,000");
        }
    }

    #[test]
    fn it_stays_the_same_people_and_another_salt_takes_others() {
        let (five, ten, other) = (held(5.0, "a"), held(10.0, "a"), held(5.0, "b"));
        assert!(five.iter().zip(&ten).all(|(five, ten)| !five || *ten), "more are held out, and none of them returns");
        let both = five.iter().zip(&other).filter(|(one, other)| **one && **other).count();
        assert!(both < 80, "{both} of some 500 in both");
    }

    /// The bytes as `printf 'holdout\0salt\0a@example.com' | sha256sum` has them.
    #[test]
    fn the_hash_is_the_documented_one() {
        let below = |below| Holdout { salt: "salt".into(), below, carts: true, campaigns: true };
        let number = u128::from(HASH_OF_A);
        assert!(!below(number).holds("a@example.com"));
        assert!(below(number + 1).holds("a@example.com"));
    }

    const HASH_OF_A: u64 = 0x7ca8a58b512a8edf;
}
