//! The text part of a message, made from its HTML.
//!
//! html2text reads the document: character references, white space, lists, preformatted text. Before it the markup is
//! thinned out to what shapes a text: layout tables drawn as tables read badly, and every element left in costs more
//! than all other work on a message. After it lines are wrapped at 72 columns without ever breaking the address of
//! a page.

mod wrap;

use std::borrow::Cow;

use html2text::config;

use super::markup::{self, Token};
use wrap::wrap;

/// Wide enough that html2text never wraps: only [`wrap()`] knows what must stay whole.
const UNWRAPPED: usize = 1 << 20;

// Noncharacters (U+FDD0 and on) that no sound text holds carry what html2text has no notion of.
const CELL: char = '\u{fdd0}';
const LINK: char = '\u{fdd1}';
const TARGET: char = '\u{fdd2}';
const LINK_END: char = '\u{fdd3}';
const RULE: char = '\u{fdd4}';
const LINE: char = '\u{fdd5}';
const PARAGRAPH: char = '\u{fdd6}';

/// Turns an HTML document, its styles inlined, into text that reads well: lines end in `\n` and hold at most 72 columns
/// unless one word is longer.
///
/// What `display:none` hides is left out, and so is an element with `data-text="none"`. Cells of a row stand in one line,
/// three spaces apart. The address of a link follows its words, or stands in the next line when the link has a line
/// of its own; `data-text="plain"` on a link leaves the address out.
///
/// # Errors
/// html2text's own words for a document it cannot read.
pub fn from_html(html: &str) -> Result<String, String> {
    let thin = thin(html);
    let text = match without_markup(&thin) {
        Some(text) => text,
        None => read_html(&thin)?,
    };
    let mut finished = String::with_capacity(text.len() + 64);
    let mut paragraph_ends = false;
    // Blank lines are html2text's own (between lists, in preformatted text) or the end of a paragraph.
    for line in text.split('\n') {
        paragraph_ends |= line.trim().is_empty();
        for (i, block) in line.split(PARAGRAPH).enumerate() {
            paragraph_ends |= i > 0;
            for (j, line) in block.split(LINE).enumerate() {
                // Space at the begin of a line is the markup's; only html2text's own lines have an indent to keep.
                let line = if i + j > 0 { line.trim_start_matches(' ') } else { line };
                // Every mark is beyond ASCII.
                let written = if line.is_ascii() { line.into() } else { Cow::from(write_links(&join_cells(line))) };
                for line in written.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
                    if std::mem::take(&mut paragraph_ends) && !finished.is_empty() {
                        finished.push('\n');
                    }
                    wrap(line, &mut finished);
                }
            }
        }
    }
    if finished.is_empty() {
        finished.push('\n');
    }
    Ok(finished)
}

fn read_html(thin: &str) -> Result<String, String> {
    config::plain_no_decorate()
        .unicode_strikeout(false)
        .allow_width_overflow()
        .string_from_read(thin.as_bytes(), UNWRAPPED)
        .map_err(|error| error.to_string())
}

/// What [`read_html`] makes of a text in which no element is left: most messages, where it costs more than all other
/// work on the text part. `None` for anything out of the ordinary, which it shall read itself.
fn without_markup(thin: &str) -> Option<String> {
    const REFERENCES: [(&str, char); 6] =
        [("amp;", '&'), ("lt;", '<'), ("gt;", '>'), ("quot;", '"'), ("#39;", '\''), ("nbsp;", '\u{a0}')];
    let mut text = String::with_capacity(thin.len());
    let mut space = false;
    let mut rest = thin;
    while let Some(first) = rest.chars().next() {
        if matches!(first, ' ' | '\n' | '\t') {
            space = true;
            rest = &rest[1..];
            continue;
        }
        if std::mem::take(&mut space) && !text.is_empty() {
            text.push(' ');
        }
        let plain = plain_run(rest.as_bytes());
        if plain > 0 {
            text.push_str(&rest[..plain]);
            rest = &rest[plain..];
            continue;
        }
        rest = &rest[first.len_utf8()..];
        text.push(match first {
            '&' => {
                let (name, c) = REFERENCES.iter().find(|(name, _)| rest.starts_with(name))?;
                rest = &rest[name.len()..];
                *c
            }
            '\u{a0}' | '–' | '—' | '‘'..='”' | '…' | '€' | '£' | '×' | '·' => first,
            c if c.is_alphabetic() || is_reserved(c) => c,
            _ => return None,
        });
    }
    Some(text)
}

/// How many octets a text begins with that are read as they stand: words of ASCII, one space apart.
fn plain_run(text: &[u8]) -> usize {
    const IN_A_WORD: [bool; 256] = {
        let mut plain = [false; 256];
        let mut byte = b'!';
        while byte <= b'~' {
            plain[byte as usize] = byte != b'<' && byte != b'&';
            byte += 1;
        }
        plain
    };
    let in_a_word = |at: usize| text.get(at).is_some_and(|byte| IN_A_WORD[usize::from(*byte)]);
    let mut at = 0;
    while in_a_word(at) || at > 0 && text.get(at) == Some(&b' ') && in_a_word(at + 1) {
        at += 1;
    }
    at
}

/// The document with only what shapes its text.
///
/// Blocks outside of lists and the like become marks for the ends of lines and paragraphs; html2text takes what is left
/// as one text. Tags are closed properly, for what comes here was written out by an HTML serializer.
fn thin(html: &str) -> String {
    let mut thin = Thinner { text: String::with_capacity(html.len() / 3), ..Thinner::default() };
    for token in markup::tokens(html) {
        match token {
            Token::Open { name, attributes } => thin.open(name, attributes),
            Token::Close { name } => thin.close(name),
            Token::Text(text) => thin.push(text),
            Token::Raw { element, text } if element.eq_ignore_ascii_case("textarea") => thin.push(text),
            Token::Raw { .. } | Token::Comment(_) | Token::Declaration(_) => {}
        }
    }
    thin.text
}

#[derive(Default)]
struct Thinner<'a> {
    text: String,
    /// The element that is left out with all that is in it, and how many of its name are open.
    hidden: Option<(&'a str, usize)>,
    /// Where each open link leads, if that is to be shown.
    links: Vec<Option<&'a str>>,
    /// How many lists, quotations and preformatted texts are open: html2text sees the blocks in them.
    structures: usize,
    after_table: bool,
}

/// What an element means to a text.
enum Shape {
    Nothing,
    Inline,
    Picture,
    Rule,
    Cell,
    Link,
    Break,
    Line,
    Paragraph,
    Structure,
}

impl Shape {
    fn of(name: &str) -> Shape {
        let is = |names: &[&str]| markup::is_one_of(name, names);
        match name.len() {
            1 if is(&["a"]) => Shape::Link,
            1 if is(&["p"]) => Shape::Paragraph,
            2 if is(&["td", "th"]) => Shape::Cell,
            2 if is(&["tr"]) => Shape::Line,
            2 if is(&["br"]) => Shape::Break,
            2 if is(&["hr"]) => Shape::Rule,
            2 if is(&["h1", "h2", "h3", "h4", "h5", "h6"]) => Shape::Paragraph,
            2 if is(&["ul", "ol", "li", "dl", "dt", "dd"]) => Shape::Structure,
            3 if is(&["img"]) => Shape::Picture,
            3 if is(&["div"]) => Shape::Line,
            3 if is(&["pre"]) => Shape::Structure,
            4 if is(&["meta", "link", "area", "base"]) => Shape::Nothing,
            5 if is(&["table"]) => Shape::Line,
            _ if is(&["input", "wbr", "col", "source"]) => Shape::Nothing,
            _ if is(&["blockquote"]) => Shape::Structure,
            _ if is(&["center", "caption", "section", "header", "footer", "main", "article", "nav", "form"]) => {
                Shape::Line
            }
            _ => Shape::Inline,
        }
    }

    /// Whether nothing can stand in the element, so that it has no end tag.
    fn is_void(&self) -> bool {
        matches!(self, Shape::Nothing | Shape::Picture | Shape::Rule | Shape::Break)
    }
}

impl<'a> Thinner<'a> {
    fn open(&mut self, name: &'a str, attributes: &'a str) {
        if let Some((hidden, depth)) = &mut self.hidden {
            *depth += usize::from(hidden.eq_ignore_ascii_case(name));
            return;
        }
        let shape = Shape::of(name);
        let (mut hidden, mut plain) = (name.eq_ignore_ascii_case("head"), false);
        let (mut href, mut alt, mut start) = (None, "", None);
        for markup::Attribute { name, value, .. } in markup::attributes(attributes) {
            match name.len() {
                3 if name.eq_ignore_ascii_case("alt") => alt = value,
                4 if name.eq_ignore_ascii_case("href") => href = Some(value),
                5 if name.eq_ignore_ascii_case("style") => hidden |= hides(value),
                5 if name.eq_ignore_ascii_case("start") => start = Some(value),
                6 if name.eq_ignore_ascii_case("hidden") => hidden = true,
                9 if name.eq_ignore_ascii_case("data-text") => {
                    hidden |= value == "none";
                    plain |= value == "plain";
                }
                _ => {}
            }
        }
        if hidden {
            self.hidden = (!shape.is_void()).then_some((name, 1));
            return;
        }
        match shape {
            Shape::Nothing | Shape::Inline => {}
            Shape::Picture => self.push(alt),
            Shape::Cell => self.text.push(CELL),
            Shape::Rule => self.text.extend([PARAGRAPH, RULE, PARAGRAPH]),
            Shape::Link => {
                let shown = href.filter(|href| !plain && is_address(href));
                self.links.push(shown);
                if shown.is_some() {
                    self.text.push(LINK);
                }
            }
            // Two tables next to each other are two paragraphs, a table in a cell is not.
            Shape::Line if self.after_table && name.eq_ignore_ascii_case("table") => self.end(PARAGRAPH, "<p></p>"),
            Shape::Line => self.end(LINE, "<div>"),
            Shape::Paragraph => self.end(PARAGRAPH, "<p>"),
            Shape::Break => self.end(LINE, "<br>"),
            Shape::Structure => {
                self.structures += 1;
                self.text.push('<');
                self.text.push_str(name);
                if let Some(start) = start.filter(|start| start.bytes().all(|b| b.is_ascii_digit())) {
                    self.text.push_str(" start=");
                    self.text.push_str(start);
                }
                self.text.push('>');
            }
        }
        self.after_table = false;
    }

    fn close(&mut self, name: &str) {
        if let Some((hidden, depth)) = &mut self.hidden {
            *depth -= usize::from(hidden.eq_ignore_ascii_case(name));
            if *depth == 0 {
                self.hidden = None;
            }
            return;
        }
        self.after_table = name.eq_ignore_ascii_case("table");
        match Shape::of(name) {
            Shape::Line => self.end(LINE, "</div>"),
            Shape::Paragraph => self.end(PARAGRAPH, "</p>"),
            Shape::Link => {
                if let Some(target) = self.links.pop().flatten() {
                    self.text.push(TARGET);
                    self.text.extend(target.chars().filter(|c| !c.is_whitespace() && !is_reserved(*c)));
                    self.text.push(LINK_END);
                }
            }
            Shape::Structure => {
                self.structures = self.structures.saturating_sub(1);
                self.text.push_str("</");
                self.text.push_str(name);
                self.text.push('>');
            }
            Shape::Nothing | Shape::Inline | Shape::Picture | Shape::Rule | Shape::Cell | Shape::Break => {}
        }
    }

    /// Ends a line or paragraph; where html2text sees the blocks, it gets the tag.
    fn end(&mut self, mark: char, tag: &str) {
        if self.structures == 0 { self.text.push(mark) } else { self.text.push_str(tag) }
    }

    fn push(&mut self, text: &str) {
        if self.hidden.is_some() {
            return;
        }
        self.after_table &= text.trim().is_empty();
        if !text.is_ascii() && text.contains(is_reserved) {
            self.text.extend(text.chars().filter(|c| !is_reserved(*c)));
        } else {
            self.text.push_str(text);
        }
    }
}

fn is_reserved(c: char) -> bool {
    ('\u{fdd0}'..='\u{fdef}').contains(&c)
}

/// Whether a `style` attribute hides its element.
fn hides(style: &str) -> bool {
    style.split(';').any(|declaration| {
        let declaration = declaration.trim_ascii_start();
        let Some(rest) = declaration.get(7..).filter(|_| declaration[..7].eq_ignore_ascii_case("display")) else {
            return false;
        };
        let value = rest.trim_ascii_start().strip_prefix(':').unwrap_or_default().trim_ascii_start();
        value.get(..4).is_some_and(|value| value.eq_ignore_ascii_case("none"))
    })
}

/// Whether a reader of the text could follow it. An anchor in the page, or a script, is none.
fn is_address(href: &str) -> bool {
    let scheme = |scheme: &str| href.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    scheme("http:") || scheme("https:") || scheme("mailto:") || scheme("tel:")
}

/// Puts the cells of a row into one line, three spaces apart; empty ones leave no gap.
fn join_cells(line: &str) -> String {
    if !line.contains(CELL) {
        return line.to_owned();
    }
    let cells: Vec<&str> = line.split(CELL).map(str::trim).filter(|cell| !cell.is_empty()).collect();
    cells.join("   ")
}

/// Writes out where links lead: `words <address>`, or `words:` and the address below for a link with a line to itself.
fn write_links(line: &str) -> String {
    if line.trim() == RULE.encode_utf8(&mut [0; 4]) {
        return "-".repeat(40);
    }
    if !line.contains([LINK, TARGET, RULE]) {
        return line.to_owned();
    }
    let trimmed = line.trim();
    if let Some((words, target)) = trimmed
        .strip_prefix(LINK)
        .and_then(|inner| inner.strip_suffix(LINK_END))
        .filter(|inner| !inner.contains([LINK, LINK_END]))
        .and_then(|inner| inner.split_once(TARGET))
    {
        let words = words.trim();
        return match words {
            "" => String::new(),
            _ if is_same(words, target) => words.to_owned(),
            _ if words.ends_with(|c: char| c.is_alphanumeric()) => format!("{words}:\n{target}"),
            _ => format!("{words}\n{target}"),
        };
    }
    let mut written = String::with_capacity(line.len() + 8);
    let mut words_at = 0;
    let mut rest = line;
    while let Some(at) = rest.find([LINK, TARGET, LINK_END, RULE]) {
        written.push_str(&rest[..at]);
        let mark = rest[at..].chars().next().unwrap_or(LINK_END);
        rest = &rest[at + mark.len_utf8()..];
        match mark {
            LINK => words_at = written.len(),
            TARGET => {
                let (target, after) = rest.split_once(LINK_END).unwrap_or((rest, ""));
                rest = after;
                let words = written.get(words_at..).unwrap_or("").trim();
                if !words.is_empty() && !is_same(words, target) {
                    written.push_str(" <");
                    written.push_str(target);
                    written.push('>');
                }
            }
            _ => {}
        }
    }
    written.push_str(rest);
    written
}

fn is_same(words: &str, target: &str) -> bool {
    let bare = |text: &str| text.trim_start_matches("mailto:").trim_start_matches("tel:").replace('\u{a0}', " ");
    bare(words) == bare(target)
}

#[cfg(test)]
mod tests {
    use super::wrap::columns;
    use super::*;

    fn text(body: &str) -> String {
        from_html(&format!("<!DOCTYPE html><html><head><title>No</title></head><body>{body}</body></html>")).unwrap()
    }

    #[test]
    fn a_row_is_a_line_and_an_empty_cell_leaves_no_gap() {
        let table = "<table role=presentation><tbody>\
             <tr><td><img src=x alt=''></td><td>2 × <b>Lamp</b></td><td align=right>€39.80</td></tr>\
             <tr><td>Total</td><td>KWD&nbsp;12.500</td></tr></tbody></table>";
        assert_eq!(text(table), "2 × Lamp   €39.80\nTotal   KWD 12.500\n");
        let two = "<table><tr><td>a</td></tr></table> <table><tr><td>b</td></tr></table>";
        assert_eq!(text(two), "a\n\nb\n");
    }

    #[test]
    fn what_is_hidden_stays_hidden() {
        let body = "<div style='font-size:1px; Display : none'>preheader <p>more</p></div><p>Hello</p>\
             <p hidden>a</p><p data-text=\"none\">b <a href='https://x.example'>c</a></p><script>d</script><!-- e -->";
        assert_eq!(text(body), "Hello\n");
    }

    #[test]
    fn links_show_where_they_lead_and_never_break() {
        let long = format!("https://shop.example/cart/{}?a=1&amp;b=2", "x".repeat(90));
        let body = format!(
            "<p><a href='{long}'>Return to your cart</a></p><p>Do write to <a href='mailto:a@b.example'>a@b.example</a> or \
             <a href='https://b.example/help'>read the help</a>, <a href='javascript:x'>not this</a> \
             <a href='https://b.example/' data-text=\"plain\">nor that</a>.</p>"
        );
        let expected = format!(
            "Return to your cart:\nhttps://shop.example/cart/{}?a=1&b=2\n\n\
             Do write to a@b.example or read the help <https://b.example/help>, not\nthis nor that.\n",
            "x".repeat(90)
        );
        assert_eq!(text(&body), expected);
    }

    #[test]
    fn lines_wrap_at_72_columns_under_their_list_mark() {
        let words = "word ".repeat(40);
        let wrapped = text(&format!("<p>{words}</p><ul><li>{words}</li></ul><blockquote>{words}</blockquote>"));
        assert!(wrapped.lines().all(|line| line.len() <= 72), "{wrapped}");
        assert!(
            wrapped.contains("\n- word") && wrapped.contains("\n  word") && wrapped.contains("\n> word"),
            "{wrapped}"
        );
        let japanese = text(&format!("<p>{}</p>", "日本語の文章。".repeat(20)));
        assert!(japanese.lines().count() > 2 && japanese.lines().all(|line| columns(line) <= 72), "{japanese}");
        assert!(!japanese.lines().any(|line| line.starts_with('。')), "{japanese}");
    }

    #[test]
    fn blocks_are_a_blank_line_apart_at_most() {
        let body = "<h1>One</h1><div></div><p>Two<br>Three</p><p>&nbsp;</p><hr><pre>a  b\nc</pre>";
        let found = text(body);
        assert!(found.starts_with("One\n\nTwo\nThree\n\n---"), "{found}");
        assert!(found.contains("\na  b\nc\n") && !found.contains("\n\n\n"), "{found}");
    }

    #[test]
    fn how_the_markup_is_indented_does_not_show() {
        let body =
            "\n  <div>\n    One\n  </div>\n  <div>\n    Two <br>\n    Three\n  </div>\n  <p>\n    Four\n  </p>\n";
        assert_eq!(text(body), "One\nTwo\nThree\n\nFour\n");
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_without_html2text_reads_as_with_it(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    "a", "Zoë", " ", "  ", "\n", "\t", "&amp;", "&lt;b&gt;", "&quot;", "&#39;", "&nbsp;", "\u{a0}", "7.50",
                    "€", "日本", "…", "—", "\u{fdd0}", "\u{fdd1}", "\u{fdd2}", "\u{fdd3}", "\u{fdd5}", "\u{fdd6}", "x&amp;y",
                ]),
                0..40,
            )
        ) {
            let thin = pieces.concat();
            let finish = |text: String| text.trim_end_matches('\n').to_owned();
            let direct = without_markup(&thin).expect("nothing out of the ordinary");
            proptest::prop_assert_eq!(finish(direct), finish(read_html(&thin).unwrap()));
        }
    }

    #[test]
    fn anything_out_of_the_ordinary_is_left_to_html2text() {
        for thin in ["a<b>", "&eacute;", "&amp", "a\u{200b}b", "e\u{301}", "\r", "😀", "\u{ad}"] {
            assert_eq!(without_markup(thin), None, "{thin:?}");
        }
    }

    #[test]
    fn escaped_markup_is_only_text() {
        assert_eq!(text("<p>&lt;script&gt;x&lt;/script&gt; \u{fdd1}&amp;lt;</p>"), "<script>x</script> &lt;\n");
    }
}
