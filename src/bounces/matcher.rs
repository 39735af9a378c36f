//! Tokens in addresses: the envelope sender that a message left with, as its bounces come back to it.

use super::fields::Fields;

/// What an envelope pattern is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// In lower case.
    Literal(String),
    /// The message's number in the ledger: 1 to 13 digits of base 36.
    Id,
    /// 32 hexadecimal digits.
    Token,
}

/// Finds the tokens of a shop's envelope senders in addresses.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    patterns: Vec<Vec<Piece>>,
}

/// A token and, where the pattern has one, the number beside it; both in lower case.
pub type Matched = (String, Option<String>);

impl Matcher {
    /// For the pattern in `[mail] envelope`, such as `bounce+{id}-{token}@shop.example`; its domain in ASCII.
    ///
    /// Without a pattern nothing is ever found. With `{id}` in it, the same without that is found too, as older messages
    /// have it: `bounce+{token}@shop.example`.
    pub fn new(envelope_pattern: Option<&str>) -> Matcher {
        let pattern = envelope_pattern.unwrap_or_default().trim().to_ascii_lowercase();
        if !pattern.contains("{token}") {
            return Matcher::default();
        }
        let mut spellings = vec![pattern.clone()];
        for with_id in
            ["{id}-", "{id}.", "{id}_", "{id}+", "{id}=", "-{id}", ".{id}", "_{id}", "+{id}", "={id}", "{id}"]
        {
            if pattern.contains(with_id) {
                spellings.push(pattern.replacen(with_id, "", 1));
                break;
            }
        }
        Matcher { patterns: spellings.iter().map(|spelling| pieces(spelling)).collect() }
    }

    /// The token of one address, bare: `local@domain` in any case, also with a tag of BATV before it (`prvs=…=`) or as a
    /// forwarder rewrote it (`SRS0=…`, `SRS1=…`).
    pub fn token_of(&self, address: &str) -> Option<Matched> {
        let address = address.to_ascii_lowercase();
        if address.len() > 320 {
            return None;
        }
        let whole = |address: &str| {
            self.patterns.iter().find_map(|pattern| {
                let mut matched = (None, None);
                fits(pattern, address, &mut matched).then_some(())?;
                Some((matched.0?, matched.1))
            })
        };
        whole(&address).or_else(|| whole(without_batv(&address)?)).or_else(|| whole(&before_srs(&address)?))
    }

    /// The tokens of all addresses in the value of a field.
    pub fn tokens_in(&self, value: &str) -> Vec<Matched> {
        let apart = |c: char| c.is_whitespace() || c.is_control() || "<>,;:\"'()[]\\".contains(c);
        value.split(apart).filter(|word| word.contains('@')).filter_map(|word| self.token_of(word)).collect()
    }

    /// The tokens in these fields, in the order of the names.
    pub fn tokens_of(&self, fields: &Fields, names: &[&str]) -> Vec<Matched> {
        names.iter().flat_map(|name| fields.all(name)).flat_map(|value| self.tokens_in(value)).collect()
    }
}

fn pieces(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = pattern;
    while let Some(at) = rest.find("{id}").into_iter().chain(rest.find("{token}")).min() {
        if at > 0 {
            pieces.push(Piece::Literal(rest[..at].to_owned()));
        }
        let (piece, len) = if rest[at..].starts_with("{id}") { (Piece::Id, 4) } else { (Piece::Token, 7) };
        pieces.push(piece);
        rest = &rest[at + len..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    pieces
}

/// Whether a text is made of these pieces, and which token and number it has.
fn fits(pieces: &[Piece], text: &str, matched: &mut (Option<String>, Option<String>)) -> bool {
    match pieces {
        [] => text.is_empty(),
        [Piece::Literal(literal), rest @ ..] => {
            text.strip_prefix(literal.as_str()).is_some_and(|text| fits(rest, text, matched))
        }
        [Piece::Token, rest @ ..] => {
            let Some((token, text)) = text.split_at_checked(32).filter(|(token, _)| is_token(token)) else {
                return false;
            };
            matched.0 = Some(token.to_owned());
            fits(rest, text, matched)
        }
        [Piece::Id, rest @ ..] => (1..=text.len().min(13)).any(|len| {
            let Some((id, text)) = text.split_at_checked(len).filter(|(id, _)| is_base36(id)) else { return false };
            matched.1 = Some(id.to_owned());
            fits(rest, text, matched)
        }),
    }
}

/// `prvs=0123456789=ada@…` (draft-levine-smtp-batv) and `btv1==0123==ada@…` are `ada@…`.
fn without_batv(address: &str) -> Option<&str> {
    let tagged = address.strip_prefix("prvs=").or_else(|| address.strip_prefix("btv1=="))?;
    tagged.split_once('=').map(|(_, address)| address.trim_start_matches('='))
}

/// `SRS0=hash=day=domain=local@forwarder` and `SRS1=hash=forwarder==hash=day=domain=local@second` are `local@domain`.
fn before_srs(address: &str) -> Option<String> {
    let (local, _) = address.rsplit_once('@')?;
    let first =
        |local: &str| local.strip_prefix("srs0").and_then(|rest| rest.strip_prefix(['=', '+', '-'])).map(str::to_owned);
    let second = || {
        let rest = local.strip_prefix("srs1")?.strip_prefix(['=', '+', '-'])?;
        // What the first forwarder wrote follows its name, from its separator on.
        let (_hash, rest) = rest.split_once('=')?;
        let (_forwarder, rest) = rest.split_once('=')?;
        rest.strip_prefix(['=', '+', '-']).map(str::to_owned)
    };
    let rewritten = first(local).or_else(second)?;
    let mut parts = rewritten.splitn(4, '=');
    let (_hash, _day, domain, local) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some(format!("{local}@{domain}"))
}

/// Whether it is 32 hexadecimal digits, in lower case.
pub fn is_token(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_base36(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'z'))
}

/// The token of a `Message-ID`, which must be `<32 hexadecimal digits@anything>` and nothing else.
pub fn token_of_message_id(value: &str) -> Option<String> {
    let inner = value.trim().strip_prefix('<')?.strip_suffix('>')?.to_ascii_lowercase();
    let (token, domain) = inner.split_once('@')?;
    let is_domain = !domain.is_empty() && !domain.contains(|c: char| c.is_whitespace() || "<>@".contains(c));
    (is_token(token) && is_domain).then(|| token.to_owned())
}

/// A signed token: version, key, token, number, `.`, signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub whole: String,
    pub token: String,
    pub id: String,
}

/// The signed tokens in a text, in lower case: `1` and the key's id, 32 hexadecimal digits, 1 to 13 digits of base 36, a
/// dot, 20 hexadecimal digits; with no letter, digit or dot right before or after.
pub fn signed_in(text: &str) -> Vec<Signed> {
    let text = text.to_ascii_lowercase();
    let apart = |c: char| !c.is_ascii_alphanumeric() && c != '.';
    let runs = text.split(apart).map(|run| run.trim_matches('.'));
    runs.filter_map(|run| {
        let (before, mac) = run.split_once('.')?;
        let (head, id) = before.split_at_checked(34)?;
        let token = head.strip_prefix('1')?.get(1..)?;
        let is_mac = mac.len() == 20 && mac.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_sound = is_token(token) && is_base36(id) && (1..=13).contains(&id.len()) && is_mac;
        is_sound.then(|| Signed { whole: run.to_owned(), token: token.to_owned(), id: id.to_owned() })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn found(pattern: &str, address: &str) -> Option<(String, Option<String>)> {
        Matcher::new(Some(pattern)).token_of(&address.replace("TOKEN", TOKEN))
    }

    #[test]
    fn a_token_is_found_where_the_pattern_has_it() {
        let with_id = Some((TOKEN.to_owned(), Some("k7f2".to_owned())));
        let without = Some((TOKEN.to_owned(), None));
        let pattern = "Bounce+{id}-{token}@Shop.example";
        for address in [
            "bounce+k7f2-TOKEN@shop.example",
            "BOUNCE+K7F2-TOKEN@SHOP.EXAMPLE",
            "prvs=0123456789=bounce+k7f2-TOKEN@shop.example",
            "btv1==012abc==bounce+k7f2-TOKEN@shop.example",
            "SRS0=Ab1=QX=shop.example=bounce+k7f2-TOKEN@forwarder.example",
            "SRS0+Ab1=QX=shop.example=bounce+k7f2-TOKEN@forwarder.example",
            "SRS1=Xy=forwarder.example==Ab1=QX=shop.example=bounce+k7f2-TOKEN@second.example",
        ] {
            assert_eq!(found(pattern, address), with_id, "{address}");
        }
        assert_eq!(found(pattern, "bounce+TOKEN@shop.example"), without);
        assert_eq!(found("bounce+{token}@shop.example", "bounce+TOKEN@shop.example"), without);
        assert_eq!(found("{token}@b.shop.example", "TOKEN@b.shop.example"), without);
        assert_eq!(found("b@{token}.shop.example", "b@TOKEN.shop.example"), without);
        assert_eq!(found("b{id}{token}@shop.example", "bk7f2TOKEN@shop.example"), with_id);
        assert_eq!(found("{token}-{id}@shop.example", "TOKEN-k7f2@shop.example"), with_id);
    }

    #[test]
    fn nothing_else_is_a_token() {
        let pattern = "bounce+{id}-{token}@shop.example";
        for address in [
            "bounce+k7f2-TOKEN@shop.example.evil.example",
            "bounce+k7f2-TOKEN@other.example",
            "xbounce+k7f2-TOKEN@shop.example",
            "bounce+k7f2-TOKEN0@shop.example",
            "bounce+k7f2-0123456789abcdef0123456789abcde@shop.example",
            "bounce+k7f2-g123456789abcdef0123456789abcdef@shop.example",
            "bounce+-TOKEN@shop.example",
            "bounce+0123456789abcd-TOKEN@shop.example",
            "SRS0=Ab1=QX=other.example=bounce+k7f2-TOKEN@shop.example",
            "bounce+k7f2-ÄÖÜ456789abcdef0123456789abcdef@shop.example",
            "",
        ] {
            assert_eq!(found(pattern, address), None, "{address}");
        }
        assert_eq!(Matcher::new(None).token_of(&format!("bounce+{TOKEN}@shop.example")), None);
        assert_eq!(Matcher::new(Some("bounce@shop.example")).token_of("bounce@shop.example"), None);
    }

    #[test]
    fn each_address_of_a_field_is_looked_at() {
        let matcher = Matcher::new(Some("b+{token}@shop.example"));
        let value = format!("Ada <ada@example.com>, \"b\" <b+{TOKEN}@shop.example>, rfc822;b+{TOKEN}@shop.example");
        assert_eq!(matcher.tokens_in(&value).len(), 2);
    }

    #[test]
    fn a_message_id_is_a_token_and_a_domain() {
        let id = |text: &str| token_of_message_id(&text.replace("TOKEN", TOKEN));
        for text in ["<TOKEN@shop.example>", " <TOKEN@x> ", "<0123456789ABCDEF0123456789ABCDEF@shop.example>"] {
            assert_eq!(id(text).as_deref(), Some(TOKEN), "{text}");
        }
        for text in [
            "TOKEN@shop.example",
            "<TOKEN>",
            "<TOKEN@>",
            "<xTOKEN@x>",
            "<TOKEN0@x>",
            "<TOKEN@x> <TOKEN@x>",
            "<a.TOKEN@x>",
        ] {
            assert_eq!(id(text), None, "{text}");
        }
    }

    #[test]
    fn a_signed_token_stands_alone() {
        let signed = format!("1a{TOKEN}k7f2.0123456789abcdef0123");
        for text in
            ["SIGNED", "unsubscribe SIGNED", "<https://shop.example/u?t=SIGNED>", "u+SIGNED@shop.example", "SIGNED."]
        {
            let found = signed_in(&text.replace("SIGNED", &signed.to_uppercase()));
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!((&found[0].whole, &*found[0].token, &*found[0].id), (&signed, TOKEN, "k7f2"));
        }
        for text in ["xSIGNED", "SIGNEDx", "SIGNED0", "SIGNED.1", "a.SIGNED", "2SIGNED"] {
            assert_eq!(signed_in(&text.replace("SIGNED", &signed)), [], "{text}");
        }
        assert_eq!(signed_in(&format!("1a{TOKEN}.0123456789abcdef0123")), []);
        assert_eq!(signed_in(&format!("1a{TOKEN}0123456789abcd.0123456789abcdef0123")), []);
    }
}
