//! Which rows of an old log are duplicates of which: best first, one for each window.

use std::collections::BTreeMap;

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Kept,
    /// It is a duplicate of this kept row.
    DuplicateOf(i64),
}

/// The rows of one shopper and cart hash, taken best first: mailed before not mailed, then oldest, then lowest id.
///
/// Each row is kept unless a kept one was created less than a window before or after it; of two such, the better one
/// stands for it. Kept rows are at least a window apart, so a look costs the logarithm of their number.
#[derive(Debug)]
pub struct Group {
    window_in_seconds: i64,
    /// By creation: the place in the order, and the row.
    kept: BTreeMap<i64, (usize, i64)>,
}

impl Group {
    /// `window_in_seconds` is at least 1, so that no two kept rows were created in the same second.
    pub fn new(window_in_seconds: i64) -> Group {
        Group { window_in_seconds: window_in_seconds.max(1), kept: BTreeMap::new() }
    }

    /// Decides about the next row in the order.
    pub fn next(&mut self, created_at: i64, row: i64) -> Verdict {
        let reach = self.window_in_seconds - 1;
        let near = self.kept.range(created_at.saturating_sub(reach)..=created_at.saturating_add(reach));
        if let Some((_, (_, kept))) = near.min_by_key(|(_, (place, _))| *place) {
            return Verdict::DuplicateOf(*kept);
        }
        self.kept.insert(created_at, (self.kept.len(), row));
        Verdict::Kept
    }

    /// Forgets all rows: another group begins.
    pub fn clear(&mut self) {
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rule word for word: rows best first; each not yet moved is kept and moves every other within the window.
    fn word_for_word(rows: &[(bool, i64, i64)], window: i64) -> Vec<(i64, Verdict)> {
        let mut order = rows.to_vec();
        order.sort_by_key(|(sent, created_at, row)| (!sent, *created_at, *row));
        let mut verdicts: Vec<Option<Verdict>> = vec![None; order.len()];
        for at in 0..order.len() {
            if verdicts[at].is_some() {
                continue;
            }
            verdicts[at] = Some(Verdict::Kept);
            for other in 0..order.len() {
                if verdicts[other].is_none() && (order[other].1 - order[at].1).abs() < window {
                    verdicts[other] = Some(Verdict::DuplicateOf(order[at].2));
                }
            }
        }
        order.iter().zip(verdicts).map(|((_, _, row), verdict)| (*row, verdict.unwrap())).collect()
    }

    fn in_one_pass(rows: &[(bool, i64, i64)], window: i64) -> Vec<(i64, Verdict)> {
        let mut order = rows.to_vec();
        order.sort_by_key(|(sent, created_at, row)| (!sent, *created_at, *row));
        let mut group = Group::new(window);
        order.iter().map(|(_, created_at, row)| (*row, group.next(*created_at, *row))).collect()
    }

    proptest! {
        #[test]
        fn one_pass_decides_as_the_rule_word_for_word(
            rows in prop::collection::vec((any::<bool>(), -40_i64..200), 0..60),
            window in 1_i64..50,
        ) {
            let rows: Vec<_> = rows.iter().enumerate().map(|(row, (sent, at))| (*sent, *at, row as i64)).collect();
            prop_assert_eq!(in_one_pass(&rows, window), word_for_word(&rows, window));
        }

        #[test]
        fn what_was_kept_is_kept_again(
            rows in prop::collection::vec((any::<bool>(), 0_i64..200), 0..60),
            window in 1_i64..50,
        ) {
            let rows: Vec<_> = rows.iter().enumerate().map(|(row, (sent, at))| (*sent, *at, row as i64)).collect();
            let verdicts = in_one_pass(&rows, window);
            let left: Vec<_> =
                rows.iter().filter(|row| verdicts.contains(&(row.2, Verdict::Kept))).copied().collect();
            prop_assert!(in_one_pass(&left, window).iter().all(|(_, verdict)| *verdict == Verdict::Kept));
        }
    }

    #[test]
    fn exactly_a_window_apart_is_no_duplicate() {
        let mut group = Group::new(86_400);
        assert_eq!(group.next(0, 1), Verdict::Kept);
        assert_eq!(group.next(86_399, 2), Verdict::DuplicateOf(1));
        assert_eq!(group.next(86_400, 3), Verdict::Kept);
        assert_eq!(group.next(43_200, 4), Verdict::DuplicateOf(1));
        group.clear();
        assert_eq!(group.next(43_200, 5), Verdict::Kept);
    }
}
