//! A row as bytes, by which SQLite sorts rows that it cannot understand.

use crate::domain::old_log::{Essence, StandIn};

/// A row as bytes that sort by shopper and cart hash, and within them best first: mailed, then oldest, then lowest id.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SortKey<'a> {
    /// The length of the identity, the identity, the cart hash.
    pub whose: &'a [u8],
    pub created_at: i64,
    pub mailed_at: Option<i64>,
    /// Whether that is only when the log was read, because the row's own time cannot be.
    pub mailed_now: bool,
}

/// Not mailed (1), created (8), id (8), mailed (8), mailed now (1).
const BYTES_AFTER_WHOSE: usize = 26;

impl SortKey<'_> {
    pub fn write(essence: &Essence, id: i64) -> Vec<u8> {
        let (identity, cart_hash) = (essence.identity.as_bytes(), essence.cart_hash.as_bytes());
        let mut key = Vec::with_capacity(4 + identity.len() + cart_hash.len() + BYTES_AFTER_WHOSE);
        // The length first, so that no identity can be mistaken for the beginning of a hash.
        key.extend_from_slice(&(identity.len() as u32).to_be_bytes());
        key.extend_from_slice(identity);
        key.extend_from_slice(cart_hash);
        key.push(u8::from(!essence.email_sent));
        key.extend_from_slice(&essence.created_at.timestamp().to_be_bytes());
        // The sign turned over, so that bytes sort as numbers do.
        key.extend_from_slice(&(id ^ i64::MIN).to_be_bytes());
        key.extend_from_slice(&essence.mailed_at().map_or(-1, |at| at.timestamp()).to_be_bytes());
        key.push(u8::from(essence.stand_in == Some(StandIn::MailedNow)));
        key
    }

    pub fn of(key: &[u8]) -> Option<SortKey<'_>> {
        let (whose, rest) = key.split_at_checked(key.len().checked_sub(BYTES_AFTER_WHOSE)?)?;
        let number = |at: usize| Some(i64::from_be_bytes(rest.get(at..at + 8)?.try_into().ok()?));
        let (mailed_at, mailed_now) = (number(17).filter(|at| *at >= 0), rest[25] == 1);
        Some(SortKey { whose, created_at: number(1)?, mailed_at, mailed_now })
    }
}

/// The identity and the cart hash.
pub(super) fn split(whose: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = whose.split_first_chunk::<4>() else { return (&[], &[]) };
    rest.split_at(rest.len().min(u32::from_be_bytes(*length) as usize))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;

    fn key(identity: &str, cart_hash: &str, email_sent: bool, created_at: i64, id: i64) -> Vec<u8> {
        let (identity, cart_hash) = (identity.to_owned(), cart_hash.to_owned());
        let created_at = DateTime::from_timestamp(created_at, 0).unwrap();
        SortKey::write(&Essence { identity, cart_hash, created_at, email_sent, last_sent_at: None, stand_in: None }, id)
    }

    proptest! {
        #[test]
        fn bytes_sort_best_first(one: (bool, u32, i64), other: (bool, u32, i64)) {
            let key = |(sent, at, id): (bool, u32, i64)| key("u:7", "x", sent, at.into(), id);
            let rank = |(sent, at, id): (bool, u32, i64)| (!sent, at, id);
            prop_assert_eq!(key(one).cmp(&key(other)), rank(one).cmp(&rank(other)));
        }

        #[test]
        fn it_says_whose_the_row_is(one in "[ab:]{0,3}", hash in "[ab:]{0,3}", sent: bool, at: u32, id: i64) {
            let bytes = key(&one, &hash, sent, at.into(), id);
            let key = SortKey::of(&bytes).unwrap();
            prop_assert_eq!(split(key.whose), (one.as_bytes(), hash.as_bytes()));
            prop_assert_eq!((key.created_at, key.mailed_at), (at.into(), sent.then_some(at.into())));
        }
    }
}
