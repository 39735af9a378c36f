//! Lists of tags (RFC 6376 §3.2), as a DKIM-Signature header and a key's DNS record are written.

/// The tags of one list; no name is there twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags(Vec<(String, String)>);

impl Tags {
    /// The value of a tag, without the blanks around it. Names are in lower case, and matched so.
    ///
    /// A fold within it is as many blanks as it holds: where those mean nothing (`b`, `bh`, `h`, `p`) they are still there.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(tag, _)| tag == name).map(|(_, value)| value.as_str())
    }
}

/// Reads the value of a header, folded or not, or a DNS record.
///
/// `None` where it is no list of tags: a name is missing, odd or there twice, or a value holds what none can (a control
/// character). A verifier takes such a signature for none (RFC 6376 §3.2). UTF-8 is let through (RFC 8616 §4).
pub fn parse(text: &str) -> Option<Tags> {
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let text = trim(&text);
    let mut tags: Vec<(String, String)> = Vec::new();
    for tag in text.strip_suffix(';').unwrap_or(text).split(';') {
        let (name, value) = tag.split_once('=')?;
        let (name, value) = (trim(name), trim(value));
        let is_named = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_named || value.chars().any(|c| c.is_control() && c != '\t') || tags.iter().any(|(tag, _)| tag == name) {
            return None;
        }
        tags.push((name.to_owned(), value.to_owned()));
    }
    Some(Tags(tags))
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folded_header_is_read() {
        let tags = parse(
            " v=1; a=rsa-sha256;\r\n\td = shop.example ;s=m1;\r\n h=From : To:\r\n Subject; p=;b=AB+/\r\n c=\r\n",
        );
        let tags = tags.unwrap();
        for (name, value) in [
            ("v", "1"),
            ("a", "rsa-sha256"),
            ("d", "shop.example"),
            ("s", "m1"),
            ("h", "From : To: Subject"),
            ("p", ""),
            ("b", "AB+/ c="),
        ] {
            assert_eq!(tags.get(name), Some(value), "{name}");
        }
        assert_eq!((tags.get("bh"), tags.get("D")), (None, None));
    }

    #[test]
    fn a_record_may_end_with_a_semicolon_and_hold_utf_8() {
        let tags = parse("v=DKIM1; n=größer; x_1=a=b ;").unwrap();
        assert_eq!((tags.get("n"), tags.get("x_1")), (Some("größer"), Some("a=b")));
    }

    #[test]
    fn what_is_no_list_of_tags_is_none() {
        for text in ["", ";", "v", "v=1;;a=2", "=1", "1v=1", "v w=1", "v=1; v=2", "v=1; é=2", "v=\u{1}", "v=1; a=b;;"]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
