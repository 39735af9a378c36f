//! One mail address: the spelling it was given in, and the folded form that identifies it.
//!
//! Every way in (carts, orders, audiences, suppressions, older logs, filters on the command line) reads addresses here.

use std::borrow::Cow;
use std::fmt;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;

use super::absent::stands_for_nothing;

/// A syntactically sound address (RFC 5321 §4.1.2, without source routes and address literals).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// As spelled, in NFC; in quotes only where it needs them.
    local: String,
    domain: String,
    folded: String,
    former: Option<String>,
}

/// Why a text is not an address that mail can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressError {
    Empty,
    ControlCharacter,
    NoAt,
    Several,
    Pattern,
    Brackets,
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
            AddressError::Several => "there is more than one address; write each on a line of its own",
            AddressError::Pattern => "a pattern such as *@example.com stands for no address; write each address",
            AddressError::Brackets => "the address is not written as `Name <address>`",
            AddressError::BadLocalPart => "the part before the @ is not valid",
            AddressError::BadDomain => "the domain is not valid",
            AddressError::TooLong => "the address is longer than 254 characters (RFC 5321 §4.5.3.1)",
        })
    }
}

impl std::error::Error for AddressError {}

/// U+200C and U+200D tell domains apart (RFC 5892 appendix A), so only in front of the @ they are invisible.
const JOINERS: [char; 2] = ['\u{200c}', '\u{200d}'];

/// What a text says to a person's eye: composed (NFC, RFC 6532 §3.1), without characters that nobody sees.
fn visible(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let invisible = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let domain_at = text.rfind('@').unwrap_or(text.len());
    let seen = |&(at, c): &(usize, char)| !invisible.contains(c) || (JOINERS.contains(&c) && at > domain_at);
    let seen: String = text.char_indices().filter(seen).map(|(_, c)| c).collect();
    Cow::Owned(composed(&seen).into_owned())
}

fn composed(text: &str) -> Cow<'_, str> {
    ComposingNormalizerBorrowed::new_nfc().normalize(text)
}

impl Address {
    /// Parses one address, bare or as `Name <address>`; the spelling is kept, in NFC (RFC 6532 §3.1) and without
    /// characters that nobody sees, as they come from spreadsheets and web pages.
    ///
    /// A word that stands for nothing, such as `NULL`, is no address.
    ///
    /// # Errors
    /// The text is not one address that an envelope can hold (RFC 5321 §4.1.2, §4.5.3.1).
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        let shown = visible(text);
        let (_, bare) = split_name(shown.trim())?;
        let address = Address::parse_bare(bare)?;
        let former = former(text, &address.domain).filter(|former| *former != address.folded);
        Ok(Address { former, ..address })
    }

    fn parse_bare(text: &str) -> Result<Address, AddressError> {
        let text = text.trim();
        if text.is_empty() || stands_for_nothing(text) {
            return Err(AddressError::Empty);
        }
        if text.chars().any(char::is_control) {
            return Err(AddressError::ControlCharacter);
        }
        if outside_quotes(text).filter(|(_, c)| *c == '@').count() > 1 {
            return Err(AddressError::Several);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoAt)?;
        if local.contains('*') && (local == "*" || domain.contains('*')) {
            return Err(AddressError::Pattern);
        }
        let local = local_part(local).ok_or(AddressError::BadLocalPart)?;
        let ascii = idna::domain_to_ascii_strict(domain).map_err(|_| AddressError::BadDomain)?;
        if ascii.is_empty() || ascii.split('.').any(str::is_empty) {
            return Err(AddressError::BadDomain);
        }
        if local.len() + 1 + ascii.len() > 254 {
            return Err(AddressError::TooLong);
        }
        // Lower case of what is composed may have to be composed again.
        let folded = format!("{}@{ascii}", composed(&local.to_lowercase()));
        Ok(Address { local: local.into_owned(), domain: ascii, folded, former: None })
    }

    /// The folded address: NFC, lower case, the domain in ASCII form. Keys, windows and suppression use it.
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// What versions up to 0.1 folded the same text to, where that is another: they did not compose, and took invisible
    /// characters for a part of the mailbox. What such a version wrote about this spelling stands under this name.
    pub fn formerly_folded(&self) -> Option<&str> {
        self.former.as_deref()
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

/// The folding of older versions, of a text that they took for an address.
fn former(text: &str, domain: &str) -> Option<String> {
    let text = text.trim();
    let (local, _) = text.rsplit_once('@').filter(|_| !text.is_ascii() && !text.contains(['<', '"', ' ']))?;
    Some(format!("{}@{domain}", local.to_lowercase()))
}

/// The characters that stand in no quoted string, and where; the quotes themselves are left out.
fn outside_quotes(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().filter(move |(_, c)| {
        let was_quoted = quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        !was_quoted && !quoted
    })
}

/// Splits `Name <address>` into the name, as written, and the address; a text without brackets is all address.
fn split_name(text: &str) -> Result<(Option<&str>, &str), AddressError> {
    let brackets: Vec<(usize, char)> = outside_quotes(text).filter(|(_, c)| matches!(c, '<' | '>')).collect();
    match brackets.as_slice() {
        [] => Ok((None, text)),
        [(open, '<'), (close, '>')] if close + 1 == text.len() => {
            let name = text[..*open].trim();
            // `ada@example.com <ada@example.com>` is how some programs write one, `ada@…, Bob <bob@…>` is two.
            let marks = || outside_quotes(name).map(|(_, c)| c);
            if marks().any(|c| c == '@') && marks().any(|c| matches!(c, ',' | ';')) {
                return Err(AddressError::Several);
            }
            Ok((Some(name), &text[open + 1..*close]))
        }
        brackets if brackets.len() > 2 => Err(AddressError::Several),
        _ if outside_quotes(text).filter(|(_, c)| *c == '@').count() > 1 => Err(AddressError::Several),
        _ => Err(AddressError::Brackets),
    }
}

/// A local part as the envelope has it: atoms with dots between them, or a quoted string (RFC 5321 §4.1.2), which loses
/// quotes that it does not need: `"ada"` and `ada` are one mailbox. `None` when it is neither.
fn local_part(text: &str) -> Option<Cow<'_, str>> {
    let sound = |c: char| {
        let listed = if c.is_ascii() { "!#$%&'*+-/=?^_`{|}~.".contains(c) || c.is_ascii_alphanumeric() } else { true };
        listed && !c.is_whitespace() && c != char::REPLACEMENT_CHARACTER
    };
    let is_plain = |text: &str| text.split('.').all(|atom| !atom.is_empty()) && text.chars().all(sound);
    if text.len() > 64 {
        return None;
    }
    if is_plain(text) {
        return Some(Cow::Borrowed(text));
    }
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let (mut content, mut characters) = (String::with_capacity(inner.len()), inner.chars());
    while let Some(c) = characters.next() {
        match c {
            '\\' => content.push(characters.next()?),
            '"' => return None,
            c => content.push(c),
        }
    }
    if content.is_empty() || content.contains(char::REPLACEMENT_CHARACTER) {
        return None;
    }
    if is_plain(&content) {
        return Some(Cow::Owned(content));
    }
    Some(Cow::Owned(format!("\"{}\"", content.replace('\\', "\\\\").replace('"', "\\\""))))
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
        let (name, bare) = split_name(text.trim())?;
        let name = name.unwrap_or_default();
        let name = name.strip_prefix('"').and_then(|n| n.strip_suffix('"')).unwrap_or(name);
        if name.chars().any(char::is_control) {
            return Err(AddressError::ControlCharacter);
        }
        let name = (!name.is_empty()).then(|| name.replace("\\\"", "\"").replace("\\\\", "\\"));
        Ok(Mailbox { name, address: Address::parse(bare)? })
    }
}

impl fmt::Display for Mailbox {
    /// As [`Mailbox::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "\"{}\" <{}>", name.replace('\\', "\\\\").replace('"', "\\\""), self.address),
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
            let quoted = shown.strip_suffix('"').and_then(|inner| inner.rfind('"'));
            let begun_at = quoted.unwrap_or_else(|| shown.trim_end_matches(of_local).len());
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
            ("\"ada love\"@example.com", "\"…@example.com"),
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
            "ada\u{fffd}@example.com",
            "\"ada@example.com",
            "\"a\"b\"@example.com",
            "\"\"@example.com",
            "<ada@example.com",
            "ada@example.com>",
            "NULL",
            "\\N",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?} was taken for an address");
        }
        assert!(Address::parse(&format!("{}@example.com", "a".repeat(65))).is_err());
    }

    #[test]
    fn one_mailbox_has_one_folded_form() {
        for (spellings, folded) in [
            (&["jörg@example.com", "jo\u{308}rg@example.com", "JO\u{308}RG@Example.com "][..], "jörg@example.com"),
            (
                &[
                    "\u{feff}ada@example.com",
                    "a\u{200b}d\u{200d}a@exam\u{ad}ple.com\u{200e}",
                    "\u{2066}ada@example.com\u{2069}",
                ],
                "ada@example.com",
            ),
            (
                &["Ada <ada@example.com>", "<ada@example.com>", "\"Lovelace, Ada\" < ada@example.com >"],
                "ada@example.com",
            ),
            (&["ada@example.com <Ada@example.com>", "\"ada\"@example.com"], "ada@example.com"),
            (&["\"a..b\"@example.com", "\"A..\\b\"@example.com"], "\"a..b\"@example.com"),
            (&["\"a b@c\"@example.com"], "\"a b@c\"@example.com"),
        ] {
            for spelling in spellings {
                assert_eq!(Address::parse(spelling).map(|a| a.folded), Ok(folded.to_owned()), "{spelling:?}");
            }
        }
        // In a domain a joiner may tell one name from another.
        assert_eq!(Address::parse("ada@ex\u{200d}ample.com"), Err(AddressError::BadDomain));
    }

    #[test]
    fn what_older_versions_folded_to_is_known_where_it_was_another() {
        let former = |text| Address::parse(text).unwrap().former;
        assert_eq!(former("Jo\u{308}rg@example.com").as_deref(), Some("jo\u{308}rg@example.com"));
        assert_eq!(former("\u{200b}bob@Bücher.example").as_deref(), Some("\u{200b}bob@xn--bcher-kva.example"));
        assert_eq!((former("jörg@example.com"), former("Ada <ada@example.com>")), (None, None));
    }

    #[test]
    fn several_addresses_and_patterns_are_told_apart_from_one_that_is_wrong() {
        for text in [
            "ada@example.com, bob@example.com",
            "ada@example.com;bob@example.com",
            "ada@example.com bob@example.com",
            "Ada <ada@example.com>, Bob <bob@example.com>",
            "ada@example.com, Bob <bob@example.com>",
            "Bob <bob@example.com>, ada@example.com",
        ] {
            assert_eq!(Address::parse(text), Err(AddressError::Several), "{text}");
        }
        for text in ["*@example.com", "*@*.example.com"] {
            assert_eq!(Address::parse(text), Err(AddressError::Pattern), "{text}");
        }
    }

    #[test]
    fn a_mailbox_may_have_a_quoted_name_with_a_comma() {
        let mailbox = Mailbox::parse("\"Müller, Jörg\" <jm@example.com>").unwrap();
        assert_eq!(mailbox.name.as_deref(), Some("Müller, Jörg"));
        assert_eq!(mailbox.address.envelope(), "jm@example.com");
        for name in ["a\\", "a <b>", "\"x\" @y, z;"] {
            let mailbox = Mailbox { name: Some(name.into()), ..mailbox.clone() };
            assert_eq!(Mailbox::parse(&mailbox.to_string()), Ok(mailbox), "{name}");
        }
    }
}
