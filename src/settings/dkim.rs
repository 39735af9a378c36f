//! `[mail.dkim]`: the key that signs mail.

use serde::Deserialize;

use super::checker::Checker;
use crate::dkim::Signer;
use crate::domain::address::Address;
use crate::failure::Failure;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DkimTable {
    domain: String,
    selector: String,
    key_file: String,
}

impl Checker<'_> {
    /// The signer; none where its key is not for this user, and not needed.
    ///
    /// Mail counts as signed by its sender (DMARC, RFC 7489 §3.1.1) when the domain of `mail.from` is `domain` or lies
    /// below it. A campaign may have another sender, and is signed all the same.
    pub(super) fn dkim(&self, table: &DkimTable, from: &Address) -> Result<Option<Signer>, Failure> {
        let DkimTable { domain, selector, key_file } = table;
        let Some(domain) = host_name(domain) else {
            let next = format!("write the domain of mail.from: \"{}\"", from.domain());
            return Err(self.wrong("mail.dkim.domain", format!("{domain:?} is no domain"), &next));
        };
        let is_aligned =
            from.domain().strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if !is_aligned {
            let what = format!("{domain} does not vouch for mail from {}", from.envelope());
            let next = format!("sign as \"{}\", or write mail.from with an address of {domain}", from.domain());
            return Err(self.wrong("mail.dkim.domain", what, &next));
        }
        if !is_selector(selector) || selector.len() + "._domainkey.".len() + domain.len() > 253 {
            let next = "write letters, digits, hyphens and underscores, such as \"m1\"; dots may stand between";
            return Err(self.wrong("mail.dkim.selector", format!("{selector:?} is no selector"), next));
        }
        let next = "make one with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048`, mode 0600 \
                    (docs/configuration.md)";
        let key = "mail.dkim.key_file";
        let Some(pem) = self.secret(key, key_file, next)? else { return Ok(None) };
        let signer = Signer::new(&domain, selector, &pem);
        let at = self.at(key_file);
        signer.map(Some).map_err(|problem| self.wrong(key, format!("{} {problem}", at.display()), next))
    }
}

/// A domain that can have a DNS record of its own, in ASCII form (RFC 5891); `None` where it is none.
fn host_name(text: &str) -> Option<String> {
    let ascii = idna::domain_to_ascii_strict(text.trim()).ok()?;
    (ascii.contains('.') && !ascii.split('.').any(str::is_empty)).then_some(ascii)
}

/// Labels with dots between them (RFC 6376 §3.1), underscores as well.
fn is_selector(text: &str) -> bool {
    text.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_labels_with_dots_between_them() {
        for sound in ["m1", "M1", "2026", "a-b", "_x", "s1.2026_03"] {
            assert!(is_selector(sound), "{sound}");
        }
        for odd in ["", ".", "m1.", "a..b", "-a", "a-", "a b", "m1;", "é", "a\n", &"x".repeat(64)] {
            assert!(!is_selector(odd), "{odd:?}");
        }
    }

    #[test]
    fn a_domain_has_two_labels_at_least_and_is_taken_in_ascii() {
        assert_eq!(host_name("Bücher.Example ").as_deref(), Some("xn--bcher-kva.example"));
        for odd in
            ["", "example", "shop..example", ".example", "shop.example.", "a b.example", "a@shop.example", "*.example"]
        {
            assert_eq!(host_name(odd), None, "{odd:?}");
        }
    }
}
