//! Whom a refusal (5yz) is about: the recipient, or the one who sends.

/// Whether a reply says that the fault lies with the sender, the relay or its limits, whoever the recipient is.
///
/// By its enhanced code (RFC 3463 §3): `X.3` the mail system, `X.4` the network and its limits, `X.7` security and policy;
/// without one, by the codes of RFC 4954 §6 about authentication. The first word of `reply` is the code; an enhanced code
/// of another class than the code's does not count.
pub fn is_about_the_sender(reply: &str) -> bool {
    let mut words = reply.split_whitespace();
    let code = words.next().unwrap_or_default();
    let enhanced = words.next().and_then(subject);
    match enhanced {
        Some((class, subject)) if code.starts_with(class) => matches!(subject, 3 | 4 | 7),
        _ => matches!(code, "530" | "534" | "535" | "538"),
    }
}

/// Class and subject of an enhanced code: `5` and 7 of `5.7.1`.
fn subject(word: &str) -> Option<(char, u16)> {
    let mut parts = word.split('.');
    let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
    let is_number = |part: &str| !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
    let class = class.chars().next().filter(|_| class.len() == 1)?;
    (parts.next().is_none() && is_number(subject) && is_number(detail)).then(|| Some((class, subject.parse().ok()?)))?
}

/// A reply without what differs from recipient to recipient: addresses and queue ids.
pub fn without_particulars(reply: &str) -> String {
    let kept = |(place, word): &(usize, &str)| {
        // The reply code and the enhanced status code come first and are what is compared.
        *place < 2 || !(word.contains('@') || word.chars().any(|c| c.is_ascii_digit()))
    };
    reply.split_whitespace().enumerate().filter(kept).map(|(_, word)| word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_limits_and_authentication_are_about_the_sender() {
        for reply in [
            "550 5.4.5 Daily user sending limit exceeded",
            "554 5.7.1 <ada@example.com>: Relay access denied",
            "550 5.3.0 not today",
            "530 Authentication required",
            "535 no",
            "550 5.7.511",
        ] {
            assert!(is_about_the_sender(reply), "{reply}");
        }
        for reply in [
            "550 5.1.1 no such user",
            "550 no such user",
            "550",
            "552 5.2.2 mailbox full",
            "550 4.7.1 of another class",
            "550 5.7 no enhanced code",
            "550 5.7.1.2 none either",
            "550 10.7.1.9",
            "",
        ] {
            assert!(!is_about_the_sender(reply), "{reply}");
        }
    }

    #[test]
    fn addresses_and_queue_ids_do_not_make_a_difference() {
        let plain = without_particulars("554 5.7.1 <ada7@example.com>: Relay access denied (4Xk2)");
        assert_eq!(plain, without_particulars("554 5.7.1 <bob@example.com>: Relay access denied (7Yz3)"));
        assert_ne!(plain, without_particulars("554 5.7.2 <bob@example.com>: Relay access denied"));
    }
}
