//! Authentication-Results (RFC 8601): what the server that took a mail in found about who sent it.

use super::{domain_in_ascii, without_comments};

/// What one server found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Results {
    /// The name it goes by, in lower case; empty where it gives none, as Microsoft's.
    pub server: String,
    /// Each method's result.
    pub found: Vec<Found>,
}

/// The result of one method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `spf`, `dkim`, `dmarc` and others, in lower case.
    pub method: String,
    /// `pass`, `fail`, `none` and others, in lower case.
    pub result: String,
    /// `header.d=shop.example` and the like, their names in lower case.
    properties: Vec<(String, String)>,
}

impl Results {
    /// Reads the value of a field; what is no result in it is passed over.
    pub fn read(value: &str) -> Results {
        let bare = without_comments(value);
        let mut parts = bare.split(';').map(str::trim).peekable();
        // A first part with a result in it is none that names a server.
        let server = match parts.next_if(|first| !first.contains('=')) {
            // A version may stand behind it.
            Some(first) => first.split_whitespace().next().unwrap_or_default().to_ascii_lowercase(),
            None => String::new(),
        };
        Results { server, found: parts.filter_map(found).collect() }
    }

    pub fn is_of(&self, server: &str) -> bool {
        !server.is_empty() && self.server.eq_ignore_ascii_case(server)
    }

    /// The results of a method, the topmost first.
    pub fn of<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a Found> {
        self.found.iter().filter(move |found| found.method == method)
    }
}

impl Found {
    pub fn has_passed(&self) -> bool {
        self.result == "pass"
    }

    /// Of DKIM, who signed: `header.d`, or the domain of `header.i`, in ASCII form.
    pub fn signer(&self) -> Option<String> {
        let property = |name: &str| self.properties.iter().find(|(other, _)| other == name).map(|(_, value)| value);
        let domain = property("header.d").or_else(|| property("header.i"))?;
        domain_in_ascii(domain.rsplit('@').next().unwrap_or_default())
    }
}

/// `method[/version]=result`, and properties.
fn found(part: &str) -> Option<Found> {
    let mut words: Vec<String> = Vec::new();
    for word in part.split_whitespace() {
        match words.last_mut() {
            // Blanks may stand around the first equals sign.
            Some(last) if word.starts_with('=') && !last.contains('=') => last.push_str(word),
            Some(last) if last.find('=').is_some_and(|at| at + 1 == last.len()) => last.push_str(word),
            _ => words.push(word.to_owned()),
        }
    }
    let mut pairs = words.iter().filter_map(|word| word.split_once('='));
    let (method, result) = pairs.next().filter(|(method, result)| !method.is_empty() && !result.is_empty())?;
    let method = method.split('/').next().unwrap_or_default().to_ascii_lowercase();
    let properties = pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Some(Found { method, result: result.to_ascii_lowercase(), properties })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(value: &str) -> (String, Vec<String>) {
        let Results { server, found } = Results::read(value);
        let one = |found: &Found| match found.signer() {
            Some(signer) => format!("{}={} {signer}", found.method, found.result),
            None => format!("{}={}", found.method, found.result),
        };
        (server, found.iter().map(one).collect())
    }

    #[test]
    fn what_servers_write_is_read() {
        for (value, server, results) in [
            (
                // Gmail.
                "mx.google.com; dkim=pass header.i=@shop.example header.s=m1 header.b=AbCd/+=9; spf=pass (google.com: domain of \
                 x@shop.example designates 192.0.2.1 as permitted; sender) smtp.mailfrom=\"x@shop.example\"; dmarc=pass (p=NONE \
                 sp=NONE dis=NONE) header.from=shop.example",
                "mx.google.com",
                vec!["dkim=pass shop.example", "spf=pass", "dmarc=pass"],
            ),
            (
                // Microsoft: no name.
                "spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=shop.example; dkim=pass (signature was verified) \
                 header.d=shop.example;dmarc=pass action=none header.from=shop.example;compauth=pass reason=100",
                "",
                vec!["spf=pass", "dkim=pass shop.example", "dmarc=pass", "compauth=pass"],
            ),
            ("MX.Shop.Example 1; none", "mx.shop.example", vec![]),
            ("mx.shop.example", "mx.shop.example", vec![]),
            (
                "mx.a.example (x; y); DKIM/1 = Fail reason=\"body; hash = wrong\" header.d = Shop.Example ; SPF= softfail",
                "mx.a.example",
                vec!["dkim=fail shop.example", "spf=softfail"],
            ),
            ("mx.a.example; ; =; x; dkim=", "mx.a.example", vec![]),
            ("", "", vec![]),
        ] {
            let (named, found) = said(value);
            assert_eq!((named.as_str(), found), (server, results.iter().map(|r| (*r).to_owned()).collect()), "{value}");
        }
        assert!(Results::read("A.example; none").is_of("a.example") && !Results::read("").is_of(""));
    }
}
