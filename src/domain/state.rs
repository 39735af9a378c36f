//! The words for what becomes of messages and campaigns, as the ledger and every output have them.

use std::fmt;

use serde::{Serialize, Serializer};

/// An enum whose values are known by one word each, everywhere.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$value_doc])* $value,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$value,)*];

            pub fn word(self) -> &'static str {
                match self { $($name::$value => $word,)* }
            }

            /// The value of this word; `None` for any other.
            pub fn of_word(word: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|value| value.word() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }
    };
}
pub(super) use words;

words! {
    /// What became of a message so far; `src/ledger/mod.rs` has the moves between them.
    State {
        Planned = "planned",
        Armed = "armed",
        Sent = "sent",
        Refused = "refused",
        Skipped = "skipped",
        InDoubt = "in_doubt",
    }
}

words! {
    /// Why a message was decided against.
    Reason {
        Ordered = "ordered",
        /// Other contents, touched since, another person, or no consent any more.
        Changed = "changed",
        /// Nothing is in the cart, or the shop has not shown it for an hour.
        Empty = "empty",
        Superseded = "superseded",
        Suppressed = "suppressed",
        Expired = "expired",
        Cancelled = "cancelled",
        /// An old copy of the ledger was put back: it may have gone out already.
        HeldBack = "held_back",
        /// Its address has got as many as a cap allows, until it would be too late.
        Capped = "capped",
        /// Held out, so that what comes without mail is known.
        Holdout = "holdout",
    }
}

words! {
    /// What became of an order.
    OrderStatus {
        Placed = "placed",
        Cancelled = "cancelled",
        Refunded = "refunded",
    }
}

words! {
    /// How an order is known to have followed a message.
    How {
        /// It is of the very cart that the message was about.
        Cart = "cart",
        /// It is of the same person.
        Person = "person",
    }
}

words! {
    /// Who had an address put on the suppression list.
    Origin {
        /// Someone who typed it.
        ByHand = "by hand",
        Import = "import",
        /// The link in a mail.
        OneClick = "one-click",
        /// A mail to the address for that.
        Mail = "mail",
        /// The shop's own list.
        Source = "source",
        Complaint = "complaint",
        Bounce = "bounce",
    }
}

impl Origin {
    /// Whether the person behind the address asked for it: only a word of theirs takes it back.
    pub fn is_a_wish(self) -> bool {
        matches!(self, Origin::OneClick | Origin::Mail | Origin::Source | Origin::Complaint)
    }
}

words! {
    /// What a campaign is at.
    CampaignStatus {
        Pending = "pending",
        /// It has messages to deliver.
        Running = "running",
        Completed = "completed",
        Paused = "paused",
        Cancelled = "cancelled",
    }
}

words! {
    /// Which messages of an opening a person plans anew.
    Retried {
        Refused = "refused",
        Expired = "expired",
        Cancelled = "cancelled",
    }
}

impl Retried {
    /// The state of these messages, and why.
    pub fn stand(self) -> (State, Option<Reason>) {
        match self {
            Retried::Refused => (State::Refused, None),
            Retried::Expired => (State::Skipped, Some(Reason::Expired)),
            Retried::Cancelled => (State::Skipped, Some(Reason::Cancelled)),
        }
    }
}

impl State {
    /// As people read it.
    pub fn spoken(self) -> &'static str {
        match self {
            State::InDoubt => "in doubt",
            other => other.word(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_knows_the_same_words() {
        let schema = include_str!("../ledger/sqlite/schema.sql");
        let listed = |after: &str| -> Vec<String> {
            let list = schema.split(after).nth(1).unwrap().split(')').next().unwrap();
            list.split('\'').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let states: Vec<&str> = State::ALL.iter().map(|state| state.word()).collect();
        assert_eq!(listed("CONSTRAINT message_state_known"), words(&states));
        let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(listed("OR reason IN"), words(&reasons));
        let statuses: Vec<&str> = CampaignStatus::ALL.iter().map(|status| status.word()).collect();
        assert_eq!(listed("CHECK (status IN"), words(&statuses));
        let hows: Vec<&str> = How::ALL.iter().map(|how| how.word()).collect();
        assert_eq!(listed("CONSTRAINT recovery_how"), words(&hows));
        let orders: Vec<&str> = OrderStatus::ALL.iter().map(|status| status.word()).collect();
        for constraint in ["recovery_status", "episode_order_status"] {
            assert_eq!(listed(&format!("CONSTRAINT {constraint}")), words(&orders));
        }
        assert_eq!(State::of_word("in_doubt"), Some(State::InDoubt));
        assert_eq!(State::of_word("in doubt"), None);
    }
}
