//! A signature as it arrived: what it claims, and whether the body is the one that was signed. Whether its key is the
//! domain's only a look into the DNS tells.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest::{SHA256, digest};

use super::{canonical, tags};

/// What may change without breaking a signature (RFC 6376 §3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Nothing.
    Simple,
    /// Blanks, folds and the case of names.
    Relaxed,
}

/// A DKIM-Signature field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// `d=`, in lower case.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// `a=`, in lower case.
    pub algorithm: String,
    /// Of the header.
    pub header_form: Form,
    body_form: Form,
    /// `l=`: of the body, so many octets of its canonical form are signed; `None` is all of it.
    pub signed_octets: Option<usize>,
    /// `h=`, in lower case.
    names: Vec<String>,
    body_hash: Vec<u8>,
}

impl Signature {
    /// Reads the value of a field, folded or not.
    ///
    /// # Errors
    /// What keeps a verifier from taking it for a signature (RFC 6376 §6.1.1), to be read behind the field's name.
    pub fn read(value: &str) -> Result<Signature, String> {
        let tags = tags::parse(value).ok_or("is no list of tags")?;
        let bare = |name: &str| tags.get(name).map(|value| value.split_ascii_whitespace().collect::<String>());
        let needed = |name: &str| match bare(name) {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(format!("has no {name}=")),
        };
        if needed("v")? != "1" {
            return Err("is of another version than v=1".into());
        }
        needed("b")?;
        let names: Vec<String> = needed("h")?.split(':').map(str::to_ascii_lowercase).collect();
        if !names.iter().any(|name| name == "from") {
            return Err("does not list From in h=".into());
        }
        let forms = bare("c").unwrap_or_else(|| "simple".into()).to_ascii_lowercase();
        let (header, body) = forms.split_once('/').unwrap_or((&forms, "simple"));
        let form = |word: &str| match word {
            "simple" => Ok(Form::Simple),
            "relaxed" => Ok(Form::Relaxed),
            _ => Err("has a c= that is neither simple nor relaxed"),
        };
        let signed_octets = bare("l").map(|l| l.parse().map_err(|_| "has an l= that is no number")).transpose()?;
        Ok(Signature {
            domain: needed("d")?.to_ascii_lowercase(),
            selector: needed("s")?,
            algorithm: needed("a")?.to_ascii_lowercase(),
            header_form: form(header)?,
            body_form: form(body)?,
            signed_octets,
            names,
            body_hash: BASE64.decode(needed("bh")?).map_err(|_| "has a bh= that is no base64")?,
        })
    }

    /// How often it lists a header field; once more than that is there, and none can be added.
    pub fn lists(&self, name: &str) -> usize {
        self.names.iter().filter(|listed| listed.eq_ignore_ascii_case(name)).count()
    }

    /// Whether a body, with CRLF line ends, is the one that was signed; `None` of a hash that is not SHA-256.
    pub fn is_of_body(&self, body: &[u8]) -> Option<bool> {
        if !self.algorithm.ends_with("-sha256") {
            return None;
        }
        let canonical = match self.body_form {
            Form::Relaxed => canonical::body(body),
            Form::Simple => canonical::simple_body(body),
        };
        let signed = canonical.get(..self.signed_octets.unwrap_or(canonical.len()));
        Some(signed.is_some_and(|signed| digest(&SHA256, signed).as_ref() == self.body_hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With these tags in place of its own; an empty value takes a tag out.
    fn field(changes: &[(&str, &str)]) -> String {
        // The hash of "a b\r\n".
        let own = [
            ("v", "1"),
            ("a", "rsa-sha256"),
            ("c", "relaxed/relaxed"),
            ("d", "Shop.Example"),
            ("s", "m1"),
            ("h", "From : from:\r\n\tSubject"),
            ("bh", "SuEZjyiTjUp1XHpGpmLw9XKayjy3FMrk431guExO6cw="),
            ("b", "AA\r\n =="),
        ];
        let value = |name: &str, own: &str| {
            changes.iter().find(|(other, _)| *other == name).map_or(own.to_owned(), |(_, value)| (*value).to_owned())
        };
        let all = own.iter().map(|(name, own)| (*name, value(name, own)));
        let added = changes.iter().filter(|(name, _)| own.iter().all(|(other, _)| other != name));
        let all = all.chain(added.map(|(name, value)| (*name, (*value).to_owned())));
        all.filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name}={value}; ")).collect()
    }

    fn hash(body: &[u8]) -> String {
        BASE64.encode(digest(&SHA256, body))
    }

    #[test]
    fn what_a_signature_claims_is_read() {
        let signature = Signature::read(&field(&[])).unwrap();
        assert_eq!((signature.domain.as_str(), signature.selector.as_str()), ("shop.example", "m1"));
        assert_eq!((signature.lists("From"), signature.lists("SUBJECT"), signature.lists("To")), (2, 1, 0));
        assert_eq!((signature.header_form, signature.signed_octets), (Form::Relaxed, None));
        let simple = Signature::read(&field(&[("c", "")])).unwrap();
        assert_eq!((simple.header_form, simple.body_form), (Form::Simple, Form::Simple));
        let half = Signature::read(&field(&[("c", "relaxed"), ("l", "4")])).unwrap();
        assert_eq!((half.header_form, half.body_form, half.signed_octets), (Form::Relaxed, Form::Simple, Some(4)));
    }

    #[test]
    fn what_no_verifier_takes_is_none_and_says_why() {
        for (changes, why) in [
            (("v", "2"), "v=1"),
            (("v", ""), "has no v="),
            (("d", ""), "has no d="),
            (("s", ""), "has no s="),
            (("a", ""), "has no a="),
            (("b", ""), "has no b="),
            (("bh", ""), "has no bh="),
            (("bh", "?"), "no base64"),
            (("h", ""), "has no h="),
            (("h", "Subject"), "From"),
            (("c", "loose"), "c="),
            (("l", "x"), "l="),
        ] {
            let said = Signature::read(&field(&[changes])).unwrap_err();
            assert!(said.contains(why), "{changes:?}: {said}");
        }
        assert!(Signature::read("v=1; v=1").unwrap_err().contains("no list of tags"));
    }

    #[test]
    fn a_body_is_the_signed_one_in_the_form_it_was_signed_in() {
        let of = |changes: &[(&str, &str)], body: &str| {
            Signature::read(&field(changes)).unwrap().is_of_body(body.as_bytes())
        };
        let (relaxed, simple) = (hash(b"a b\r\n"), hash(b"a  b \r\n"));
        let signed_relaxed = [("bh", relaxed.as_str())];
        let signed_simple = [("bh", simple.as_str()), ("c", "relaxed/simple")];
        for (body, is_relaxed, is_simple) in [
            ("a  b \r\n", true, true),
            ("a b\r\n\r\n", true, false),
            ("a  b \r\n\r\n", true, true),
            ("a", false, false),
        ] {
            assert_eq!(of(&signed_relaxed, body), Some(is_relaxed), "{body:?}");
            assert_eq!(of(&signed_simple, body), Some(is_simple), "{body:?}");
        }
        // Of an empty body, one line is signed as it stands, and nothing where blanks do not count.
        assert_eq!(of(&[("bh", &hash(b"\r\n")), ("c", "simple")], ""), Some(true));
        assert_eq!(of(&[("bh", &hash(b""))], ""), Some(true));
        assert_eq!(of(&[("bh", &hash(b"a b")), ("l", "3")], "a b\r\nmore\r\n"), Some(true));
        assert_eq!(of(&[("bh", &hash(b"a b")), ("l", "300")], "a b\r\n"), Some(false));
        assert_eq!(of(&[("a", "rsa-sha1")], "a b\r\n"), None);
        assert_eq!(of(&[("bh", &hash(b"a b\r\n")), ("a", "ed25519-sha256")], "a b\r\n"), Some(true));
    }
}
