//! Variants of a message: who gets which is decided by the address, so that a person always gets the same.

use sha2::{Digest, Sha256};

/// One variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    pub name: String,
    /// How often it is chosen, in proportion to the others'; from 1 on.
    pub weight: u32,
}

/// The variant of a step that this address gets; `None` where there are none.
///
/// SHA-256 of `variant`, the step's name and the folded address, a zero byte between them; its first eight bytes as a fraction of
/// all weights.
pub fn of<'a>(variants: &'a [Variant], step: &str, folded_address: &str) -> Option<&'a Variant> {
    let all: u64 = variants.iter().map(|variant| u64::from(variant.weight)).sum();
    let digest = Sha256::digest(["variant", step, folded_address].join("\0"));
    let first = u64::from_be_bytes(digest[..8].try_into().unwrap_or_default());
    let mut place = (u128::from(first) * u128::from(all)) >> 64;
    variants.iter().find(|variant| {
        let weight = u128::from(variant.weight);
        let is_here = place < weight;
        place = place.saturating_sub(weight);
        is_here
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_chosen_as_often_as_its_weight_has_it_and_a_person_always_gets_the_same() {
        let variants = [("a", 1), ("b", 3)].map(|(name, weight)| Variant { name: name.into(), weight });
        let of = |n: usize| of(&variants, "second", &format!("shopper{n}@example.com")).expect("one of them");
        let b = (0..10_000).filter(|n| of(*n).name == "b").count();
        assert!((7_300..7_700).contains(&b), "{b} of 10,000");
        assert!((0..100).all(|n| of(n) == of(n)));
        assert_eq!(super::of(&[], "second", "a@example.com"), None);
    }
}
