//! How much mail one person bears.

use chrono::TimeDelta;

use super::span;

/// No more than so many messages to one address within so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap {
    /// From 1 on.
    pub messages: u32,
    pub within: TimeDelta,
}

impl Cap {
    /// Reads `3 in 7d`.
    pub fn parse(text: &str) -> Option<Cap> {
        let (messages, within) = text.split_once(" in ")?;
        let messages: u32 = messages.trim().parse().ok().filter(|messages| *messages > 0)?;
        let within = span::delta(span::parse(within.trim()).ok()?);
        (within > TimeDelta::zero()).then_some(Cap { messages, within })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_number_and_a_span() {
        assert_eq!(Cap::parse("3 in 7d"), Some(Cap { messages: 3, within: TimeDelta::days(7) }));
        for text in ["3", "0 in 7d", "3 in", "three in 7d", "3 in 0s", "-1 in 7d"] {
            assert_eq!(Cap::parse(text), None, "{text}");
        }
    }
}
