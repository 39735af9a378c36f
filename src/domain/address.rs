//! One mail address: the spelling it was given in, and the folded form that identifies it.

use std::fmt;

/// A syntactically sound address (RFC 5321 §4.1.2, without source routes, quoted strings and literals).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    local: String,
    domain: String,
    folded: String,
}

/// Why a text is not an address that mail can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressError {
    Empty,
    ControlCharacter,
    NoAt,
    BadLocalPart,
    BadDomain,
    TooLong,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressError::Empty => "no address",
            AddressError::ControlCharacter => "the address holds a line break or control character",
            AddressError::NoAt => "the address has no @",
            AddressError::BadLocalPart => "the part before the @ is not valid",
            AddressError::BadDomain => "the domain is not valid",
            AddressError::TooLong => "the address is longer than 254 characters (RFC 5321 §4.5.3.1)",
        })
    }
}

impl std::error::Error for AddressError {}

impl Address {
    /// Parses one bare address; surrounding white space is dropped, the spelling kept.
    ///
    /// # Errors
    /// The text is not one address that an envelope can hold (RFC 5321 §4.1.2, §4.5.3.1).
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.chars().any(char::is_control) {
            return Err(AddressError::ControlCharacter);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoAt)?;
        let sound = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
        let atoms = local.split('.').all(|atom| !atom.is_empty());
        if local.len() > 64 || !atoms || !local.chars().all(|c| sound(c) && !c.is_whitespace()) {
            return Err(AddressError::BadLocalPart);
        }
        let ascii = idna::domain_to_ascii_strict(domain).map_err(|_| AddressError::BadDomain)?;
        if ascii.is_empty() || ascii.split('.').any(str::is_empty) {
            return Err(AddressError::BadDomain);
        }
        if local.len() + 1 + ascii.len() > 254 {
            return Err(AddressError::TooLong);
        }
        let folded = format!("{}@{ascii}", local.to_lowercase());
        Ok(Address { local: local.to_owned(), domain: ascii, folded })
    }

    /// The folded address: lower case, the domain in ASCII form. Keys, windows and suppression use it.
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// The form that goes into the envelope: the local part as spelled, the domain in ASCII form.
    pub fn envelope(&self) -> String {
        format!("{}@{}", self.local, self.domain)
    }

    /// The local part, as spelled.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain, in ASCII form and lower case.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Whether the envelope needs SMTPUTF8 (RFC 6531): the local part is not ASCII.
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.is_ascii()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// A mailbox: an address with an optional display name (RFC 5322 §3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    pub name: Option<String>,
    pub address: Address,
}

impl Mailbox {
    /// Parses `Name <address>`, `"Name, quoted" <address>` or a bare address.
    ///
    /// # Errors
    /// The address is not sound, or the name holds a control character.
    pub fn parse(text: &str) -> Result<Mailbox, AddressError> {
        let text = text.trim();
        let Some(open) = text.rfind('<') else {
            return Ok(Mailbox { name: None, address: Address::parse(text)? });
        };
        let inner = text[open + 1..].strip_suffix('>').ok_or(AddressError::BadDomain)?;
        let name = text[..open].trim();
        let name = name.strip_prefix('"').and_then(|n| n.strip_suffix('"')).unwrap_or(name);
        if name.chars().any(char::is_control) {
            return Err(AddressError::ControlCharacter);
        }
        let name = (!name.is_empty()).then(|| name.replace("\\\"", "\""));
        Ok(Mailbox { name, address: Address::parse(inner)? })
    }
}

impl fmt::Display for Mailbox {
    /// As [`Mailbox::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "\"{}\" <{}>", name.replace('"', "\\\""), self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

/// A text whose addresses keep only their first letter and their domain, as `a…@example.com`: for what ends in logs.
pub fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '@' && rest.peek().is_some_and(|next| next.is_alphanumeric() || *next == '[') {
            let of_local = |c: char| c.is_alphanumeric() || "!#$%'*+-^_`{|}~.\"".contains(c);
            let begun_at = shown.trim_end_matches(of_local).len();
            if let Some(first) = shown[begun_at..].chars().next() {
                shown.truncate(begun_at + first.len_utf8());
                shown.push('…');
            }
        }
        shown.push(c);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_addresses_keep_one_letter_and_their_domain() {
        for (text, shown) in [
            (
                "550 <ada.lovelace+x@example.com>: no\n jörg@bücher.example",
                "550 <a…@example.com>: no\n j…@bücher.example",
            ),
            ("https://shop.example/c?e=ada@example.com&x=1", "https://shop.example/c?e=a…@example.com&x=1"),
            ("the part before the @ is not valid", "the part before the @ is not valid"),
            ("a@b, @c.example and d@", "a…@b, @c.example and d@"),
        ] {
            assert_eq!(masked(text), shown);
        }
    }

    #[test]
    fn folding_lowers_case_and_turns_the_domain_into_ascii() {
        let address = Address::parse("  Ada.Lovelace@Bücher.Example ").unwrap();
        assert_eq!(address.folded(), "ada.lovelace@xn--bcher-kva.example");
        assert_eq!(address.envelope(), "Ada.Lovelace@xn--bcher-kva.example");
    }

    #[test]
    fn what_an_envelope_cannot_hold_is_refused() {
        for text in [
            "",
            "   ",
            "ada",
            "@example.com",
            "ada@",
            "a b@example.com",
            "a@b@c d",
            "ada@exa mple.com",
            "ada@example.com\r\nBcc: x@example.com",
            "ada..x@example.com",
            "ada@-example.com",
            "<ada@example.com>",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?} was taken for an address");
        }
        assert!(Address::parse(&format!("{}@example.com", "a".repeat(65))).is_err());
    }

    #[test]
    fn a_mailbox_may_have_a_quoted_name_with_a_comma() {
        let mailbox = Mailbox::parse("\"Müller, Jörg\" <jm@example.com>").unwrap();
        assert_eq!(mailbox.name.as_deref(), Some("Müller, Jörg"));
        assert_eq!(mailbox.address.envelope(), "jm@example.com");
    }
}
