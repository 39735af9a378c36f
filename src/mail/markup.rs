//! The tags of an HTML text, one after the other, without building a tree.
//!
//! It never decides what a reader sees: css-inline and html2text parse the document itself. It finds where tags,
//! attributes and raw text begin and end, the way the HTML standard's tokenizer does for markup that is written out.

/// One piece of an HTML text. The pieces, put together, are the whole text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// Text with character references, as written.
    Text(&'a str),
    /// What stands in a `<style>`, `<script>`, `<title>` or `<textarea>`: no tag begins in it.
    Raw { element: &'a str, text: &'a str },
    /// `<name attributes>`; `attributes` is everything between the name and the `>`.
    Open { name: &'a str, attributes: &'a str },
    /// `</name>`.
    Close { name: &'a str },
    /// A comment, with its delimiters.
    Comment(&'a str),
    /// `<!DOCTYPE …>` or `<?…>`, with its delimiters.
    Declaration(&'a str),
}

/// Splits an HTML text into tokens.
pub fn tokens(html: &str) -> Tokens<'_> {
    Tokens { html, at: 0, raw: None }
}

/// The iterator [`tokens`] returns.
pub struct Tokens<'a> {
    html: &'a str,
    at: usize,
    raw: Option<&'a str>,
}

impl Tokens<'_> {
    /// Where the next token begins, in bytes.
    pub fn offset(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let rest = &self.html[self.at..];
        if rest.is_empty() {
            return None;
        }
        if let Some(element) = self.raw.take() {
            let end = find_close(rest, element).unwrap_or(rest.len());
            if end > 0 {
                self.at += end;
                return Some(Token::Raw { element, text: &rest[..end] });
            }
        }
        // A `<` that opens no tag is text.
        let (token, length) = tag(rest).unwrap_or_else(|| {
            let begins = |&(i, _): &(usize, &str)| i > 0 && begins_tag(&rest.as_bytes()[i + 1..]);
            let end = rest.match_indices('<').find(begins).map_or(rest.len(), |(i, _)| i);
            (Token::Text(&rest[..end]), end)
        });
        if let Token::Open { name, .. } = token
            && is_one_of(name, &["style", "script", "title", "textarea"])
        {
            self.raw = Some(name);
        }
        self.at += length;
        Some(token)
    }
}

/// Whether what stands behind a `<` makes it the begin of a tag, comment or declaration.
fn begins_tag(behind: &[u8]) -> bool {
    match behind {
        [b'!' | b'?', ..] => true,
        [b'/', first, ..] | [first, ..] => first.is_ascii_alphabetic(),
        [] => false,
    }
}

/// The tag, comment or declaration that a text begins with, and its length in bytes.
fn tag(rest: &str) -> Option<(Token<'_>, usize)> {
    let inner = rest.strip_prefix('<').filter(|inner| begins_tag(inner.as_bytes()))?;
    if inner.starts_with("!--") {
        let end = rest.get(4..).and_then(|body| body.find("-->")).map_or(rest.len(), |i| i + 7);
        return Some((Token::Comment(&rest[..end]), end));
    }
    if inner.starts_with(['!', '?']) {
        let end = rest.find('>').map_or(rest.len(), |i| i + 1);
        return Some((Token::Declaration(&rest[..end]), end));
    }
    let (closing, inner) = inner.strip_prefix('/').map_or((false, inner), |inner| (true, inner));
    let name_end = inner.find(|c: char| c.is_ascii_whitespace() || c == '/' || c == '>').unwrap_or(inner.len());
    let (name, after) = inner.split_at(name_end);
    let end = tag_end(after).unwrap_or(after.len());
    let length = rest.len() - after.len() + (end + 1).min(after.len());
    let token = if closing { Token::Close { name } } else { Token::Open { name, attributes: &after[..end] } };
    Some((token, length))
}

/// Where the `>` stands that ends a tag; one inside a quoted attribute value does not.
fn tag_end(attributes: &str) -> Option<usize> {
    let bytes = attributes.as_bytes();
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|byte| matches!(byte, b'>' | b'"' | b'\'')) {
        let mark = at + found;
        if bytes[mark] == b'>' {
            return Some(mark);
        }
        at = mark + 1;
        // Only behind a `=` does a quote open a value.
        if bytes[..mark].trim_ascii_end().ends_with(b"=") {
            at += bytes[at..].iter().position(|byte| *byte == bytes[mark])? + 1;
        }
    }
    None
}

fn find_close(text: &str, element: &str) -> Option<usize> {
    text.match_indices("</").map(|(i, _)| i).find(|&i| {
        let name = text.as_bytes().get(i + 2..i + 2 + element.len());
        name.is_some_and(|name| name.eq_ignore_ascii_case(element.as_bytes()))
    })
}

/// Whether a tag or attribute name is one of some lower-case names.
pub fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// One attribute: its name, its value as written (character references and all), and whether it was quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    pub name: &'a str,
    pub value: &'a str,
    pub quoted: bool,
}

/// The attributes of a tag, in their order.
pub fn attributes(text: &str) -> impl Iterator<Item = Attribute<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if rest.is_empty() {
            return None;
        }
        // The first character belongs to the name whatever it is, so the iterator always moves on.
        let first = rest.chars().next().map_or(1, char::len_utf8);
        let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'=');
        let end = rest.as_bytes()[first..].iter().position(ends).map_or(rest.len(), |i| first + i);
        let (name, after) = rest.split_at(end);
        let Some(value) = after.trim_start().strip_prefix('=').map(str::trim_start) else {
            rest = after;
            return Some(Attribute { name, value: "", quoted: true });
        };
        let open = value.chars().next().filter(|c| *c == '"' || *c == '\'');
        let body = if open.is_some() { &value[1..] } else { value };
        let end = match open {
            Some(open) => body.find(open),
            None => body.find(|c: char| c.is_ascii_whitespace()),
        };
        let (value, after) = body.split_at(end.unwrap_or(body.len()));
        rest = after.strip_prefix(['"', '\'']).filter(|_| open.is_some()).unwrap_or(after);
        Some(Attribute { name, value, quoted: open.is_some() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bracket_in_a_quoted_value_ends_no_tag() {
        let found: Vec<_> = tokens("<a title='1 > 0' href=x>y</A>3 < 4").collect();
        assert_eq!(
            found,
            [
                Token::Open { name: "a", attributes: " title='1 > 0' href=x" },
                Token::Text("y"),
                Token::Close { name: "A" },
                Token::Text("3 < 4"),
            ]
        );
    }

    #[test]
    fn no_tag_begins_in_a_style_or_a_comment() {
        let found: Vec<_> = tokens("<!-- <b> --><style>a>b{}<i></style>x").collect();
        assert_eq!(
            found,
            [
                Token::Comment("<!-- <b> -->"),
                Token::Open { name: "style", attributes: "" },
                Token::Raw { element: "style", text: "a>b{}<i>" },
                Token::Close { name: "style" },
                Token::Text("x"),
            ]
        );
    }

    #[test]
    fn attributes_are_read_quoted_bare_and_empty() {
        let found: Vec<_> =
            attributes(" a=\"1 2\" b='3' hidden c = 4 /").map(|a| (a.name, a.value, a.quoted)).collect();
        assert_eq!(found, [("a", "1 2", true), ("b", "3", true), ("hidden", "", true), ("c", "4", false)]);
    }

    #[test]
    fn whatever_the_text_the_tokens_end() {
        for text in ["<", "<a", "<a b=\"", "<!--", "<!", "</", "<style>", "<a =>", "<é>", "<a é='", "<title></titl"] {
            for token in tokens(text) {
                if let Token::Open { attributes: text, .. } = token {
                    assert!(attributes(text).count() < 10);
                }
            }
        }
    }
}
