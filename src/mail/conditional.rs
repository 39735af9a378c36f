//! Rules with a condition: `@media (prefers-color-scheme: dark)`, `@media (max-width: 600px)` and the like.
//!
//! Once styles are inlined, what a `<style>` says about the same element counts for nothing: a `style` attribute is
//! stronger than any rule, unless the rule is `!important` (CSS Cascading and Inheritance §6.1). Who writes a rule with a
//! condition means it to win where the condition holds, so each of its declarations becomes important. Among themselves
//! they keep the order that they had.

use std::borrow::Cow;

use cssparser::{ParseError, Parser, Token};

/// The style sheet with every declaration under a condition `!important`.
pub fn winning(css: &str) -> Cow<'_, str> {
    if !css.contains('@') {
        return css.into();
    }
    let mut parser = Parser::new(css);
    let mut found = Ends::default();
    found.in_rules(&mut parser, false);
    if found.weak.is_empty() {
        return css.into();
    }
    let mut winning = String::with_capacity(css.len() + found.weak.len() * 11);
    let mut at = 0;
    for end in found.weak {
        winning.push_str(&css[at..end]);
        winning.push_str(" !important");
        at = end;
    }
    winning.push_str(&css[at..]);
    winning.into()
}

/// Finds where declarations under a condition end that are not important yet.
#[derive(Default)]
struct Ends {
    /// In bytes, in order.
    weak: Vec<usize>,
}

impl Ends {
    /// Goes through a list of rules; `conditional` where a condition stands around them.
    fn in_rules(&mut self, parser: &mut Parser<'_>, conditional: bool) {
        let mut name = None;
        let mut begins = true;
        while let Ok(token) = parser.next() {
            match token {
                Token::CDO | Token::CDC => continue,
                Token::AtKeyword(word) if begins => name = Some(word.to_ascii_lowercase()),
                Token::Semicolon if name.is_some() => {
                    name = None;
                    begins = true;
                    continue;
                }
                Token::CurlyBracketBlock => {
                    match (name.take().as_deref(), conditional) {
                        (Some("media" | "supports" | "container"), _) => {
                            inside(parser, |block| self.in_rules(block, true))
                        }
                        (None, true) => inside(parser, |block| self.in_declarations(block)),
                        // Keyframes, fonts and pages take no `!important`; what has no condition is inlined.
                        _ => {}
                    }
                    begins = true;
                    continue;
                }
                _ => {}
            }
            begins = false;
        }
    }

    fn in_declarations(&mut self, parser: &mut Parser<'_>) {
        let mut declaration = Declaration::default();
        while let Ok(token) = parser.next() {
            let opens = match token {
                Token::Semicolon => {
                    self.weak.extend(std::mem::take(&mut declaration).weak_end());
                    continue;
                }
                // A rule within a rule: its selector is no declaration.
                Token::CurlyBracketBlock if !declaration.is_custom => {
                    declaration = Declaration::default();
                    continue;
                }
                Token::Function(_) | Token::ParenthesisBlock | Token::SquareBracketBlock | Token::CurlyBracketBlock => {
                    true
                }
                _ => false,
            };
            declaration.take(token);
            if opens {
                inside(parser, |block| while block.next().is_ok() {});
            }
            declaration.end = parser.position().byte_index();
        }
        self.weak.extend(declaration.weak_end());
    }
}

fn inside(parser: &mut Parser<'_>, mut look: impl FnMut(&mut Parser<'_>)) {
    // What cannot be parsed is left as it is, as browsers do.
    let _: Result<(), ParseError<()>> = parser.parse_nested_block(|block| {
        look(block);
        Ok(())
    });
}

/// What of a declaration was read so far.
#[derive(Default)]
struct Declaration {
    tokens: usize,
    /// `--name`: its value may be anything, blocks as well.
    is_custom: bool,
    has_colon: bool,
    /// The value ends in `!`, or in `!important`.
    bang: bool,
    important: bool,
    /// Behind its last token, in bytes.
    end: usize,
}

impl Declaration {
    fn take(&mut self, token: &Token<'_>) {
        match (self.tokens, token) {
            (0, Token::Ident(name)) => self.is_custom = name.starts_with("--"),
            (1, Token::Colon) => self.has_colon = true,
            _ => {}
        }
        self.important = self.bang && matches!(token, Token::Ident(word) if word.eq_ignore_ascii_case("important"));
        self.bang = matches!(token, Token::Delim('!'));
        self.tokens += 1;
    }

    fn weak_end(self) -> Option<usize> {
        (self.has_colon && self.tokens > 2 && !self.important && !self.bang).then_some(self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::winning;

    #[test]
    fn declarations_under_a_condition_become_important_and_no_others() {
        for (css, expected) in [
            ("p{color:red}", "p{color:red}"),
            ("@media print{p{color:red;margin:0}}", "@media print{p{color:red !important;margin:0 !important}}"),
            ("@media print{p{ color : red ; }}", "@media print{p{ color : red !important ; }}"),
            ("@media print{p{color:red!important;top:0}}", "@media print{p{color:red!important;top:0 !important}}"),
            ("@media print{p{color:red ! IMPORTANT}}", "@media print{p{color:red ! IMPORTANT}}"),
            ("@MEDIA (a) and (b){a:hover,b{c:d}}e{f:g}", "@MEDIA (a) and (b){a:hover,b{c:d !important}}e{f:g}"),
            ("@media a{@supports (b:c){p{d:e}}}", "@media a{@supports (b:c){p{d:e !important}}}"),
            ("@media a{@keyframes x{from{top:0}}p{b:c}}", "@media a{@keyframes x{from{top:0}}p{b:c !important}}"),
            ("@media a{@font-face{src:url(x)}}", "@media a{@font-face{src:url(x)}}"),
            ("@charset \"x\";@media a{p{b:c}}", "@charset \"x\";@media a{p{b:c !important}}"),
            ("<!-- @media a{p{b:c}} -->", "<!-- @media a{p{b:c !important}} -->"),
            ("@media a{p{font:1px/2 \"a;b}\",c}}", "@media a{p{font:1px/2 \"a;b}\",c !important}}"),
            ("@media a{p{b:url(x;y)}}", "@media a{p{b:url(x;y) !important}}"),
            ("@media a{p{b:f(1;2) g}}", "@media a{p{b:f(1;2) g !important}}"),
            ("@media a{p{b:c/* ; } */}}", "@media a{p{b:c !important/* ; } */}}"),
            ("@media a{p{--x:{a:b};c:d}}", "@media a{p{--x:{a:b} !important;c:d !important}}"),
            ("@media a{p{b:c;d:hover{e:f};g:h}}", "@media a{p{b:c !important;d:hover{e:f};g:h !important}}"),
            ("@media a{p{b:;c;:d}}", "@media a{p{b:;c;:d}}"),
            ("@media a{p{b:c", "@media a{p{b:c !important"),
            ("@media a{p{b:\"ä€\"}}p{é:1}", "@media a{p{b:\"ä€\" !important}}p{é:1}"),
        ] {
            assert_eq!(winning(css), expected);
            assert_eq!(winning(&winning(css)), expected, "a second time changes nothing");
        }
    }
}
