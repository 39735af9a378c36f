//! Styles: the rules of a template's `<style>` become `style` attributes, once per template where that is safe.
//!
//! Mail clients drop `<style>` or parts of it, so every rule that can be is written into the elements it matches;
//! `@media` rules (dark mode, phones) stay where they are, and win over what was inlined. Doing that to each rendered
//! message costs more than all the rest of a message together. It is done to the template instead, its `{{ }}` and `{% %}` standing by as inert words,
//! whenever the result is provably the template with other `style` attributes and nothing else; see [`template`].

use std::borrow::Cow;

use css_inline::CSSInliner;

use super::conditional;
use super::markup::{self, Token};

/// One `{{ }}`, `{% %}` or `{# #}` of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JinjaTag<'a> {
    /// Where it begins, in bytes.
    pub at: usize,
    /// The tag with its delimiters.
    pub text: &'a str,
}

impl JinjaTag<'_> {
    /// The keyword of a `{% %}`, such as `for`; `None` for the others.
    pub fn keyword(&self) -> Option<&str> {
        let inner = self.text.strip_prefix("{%")?.trim_start_matches(['-', '+']).trim_start();
        inner.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()
    }
}

/// The Jinja tags of a template that compiles, in order, up to the first `{% raw %}`.
pub fn jinja_tags(source: &str) -> Vec<JinjaTag<'_>> {
    let mut tags = Vec::new();
    let mut at = 0;
    while let Some(found) = source[at..].find('{') {
        let begin = at + found;
        let rest = &source[begin..];
        let length = match rest.as_bytes().get(1) {
            Some(b'{') => expression_end(rest, "}}"),
            Some(b'%') => expression_end(rest, "%}"),
            Some(b'#') => rest.find("#}").map(|i| i + 2),
            _ => {
                at = begin + 1;
                continue;
            }
        };
        let length = length.unwrap_or(rest.len());
        tags.push(JinjaTag { at: begin, text: &rest[..length] });
        at = begin + length;
        if tags.last().and_then(JinjaTag::keyword) == Some("raw") {
            break;
        }
    }
    tags
}

/// Where an expression ends that begins with its opening delimiter; delimiters in string literals do not count.
fn expression_end(rest: &str, close: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if rest[i..].starts_with(close) => return Some(i + close.len()),
            None => {}
        }
    }
    None
}

/// Inlines the styles of a finished document; rules with a condition win over them. Nothing is fetched.
///
/// # Errors
/// css-inline's own words for a document it cannot treat.
pub fn document(html: &str) -> Result<String, String> {
    let inliner = CSSInliner::options()
        .load_remote_stylesheets(false)
        .keep_link_tags(true)
        .keep_at_rules(true)
        // What matches no element (`.ExternalClass`, hooks for one client) stays in the `<style>`.
        .remove_inlined_selectors(true)
        .build();
    inliner.inline(&with_winning_conditions(html)).map_err(|error| error.to_string())
}

/// The document with each `<style>` as [`conditional::winning`] makes it.
fn with_winning_conditions(html: &str) -> Cow<'_, str> {
    let mut changed = String::new();
    let mut copied = 0;
    let mut found = markup::tokens(html);
    let mut begin = 0;
    while let Some(token) = found.next() {
        if let Token::Raw { element, text } = token
            && element.eq_ignore_ascii_case("style")
            && let Cow::Owned(winning) = conditional::winning(text)
        {
            changed.push_str(&html[copied..begin]);
            changed.push_str(&winning);
            copied = found.offset();
        }
        begin = found.offset();
    }
    if copied == 0 {
        return html.into();
    }
    changed.push_str(&html[copied..]);
    changed.into()
}

/// Inlines the styles of a template ahead of rendering; `None` where only the rendered document tells which rules
/// match, or where the HTML parser would rearrange the markup around a `{% %}`.
pub fn template(source: &str) -> Option<String> {
    let tags = jinja_tags(source);
    // A body that is rendered elsewhere, or not as markup, is none of the places below.
    let plain = |tag: &JinjaTag| {
        tag.keyword().is_none_or(|word| {
            matches!(word, "for" | "else" | "elif" | "endfor" | "if" | "endif" | "set" | "with" | "endwith")
        })
    };
    let assigns = |tag: &JinjaTag| tag.keyword() != Some("set") || tag.text.contains('=');
    let word = marker_word(source);
    if !tags.iter().all(|tag| plain(tag) && assigns(tag)) {
        return None;
    }
    let completed = completed(source);
    let tags: Vec<JinjaTag> = jinja_tags(&completed).into_iter().filter(|tag| !tag.text.starts_with("{#")).collect();
    let protected = protect(&completed, &tags, &word)?;
    let inlined = document(&protected).ok()?;
    if outline(&protected, &word) != outline(&inlined, &word) {
        return None;
    }
    restore(&inlined, &tags, &word)
}

/// The template with the elements that an HTML parser puts around what has none (HTML §13.2.6.4): most letters are
/// written without a head, and some as paragraphs alone. Where this guesses wrong, the outlines differ.
fn completed(source: &str) -> Cow<'_, str> {
    let opens = |wanted: &[&str]| {
        markup::tokens(source).any(|token| matches!(token, Token::Open { name, .. } if markup::is_one_of(name, wanted)))
    };
    if opens(&["head", "style", "title", "meta", "link", "base"]) {
        return source.into();
    }
    let mut found = markup::tokens(source);
    let mut begin = 0;
    while let Some(token) = found.next() {
        match token {
            Token::Open { name, .. } if name.eq_ignore_ascii_case("body") => {
                let (before, body) = source.split_at(begin);
                return match opens(&["html"]) {
                    true => format!("{before}<head></head>{body}").into(),
                    false => format!("<html>{before}<head></head>{}</html>", body.trim_end()).into(),
                };
            }
            _ => begin = found.offset(),
        }
    }
    if opens(&["html"]) { source.into() } else { format!("<html><head></head><body>{source}</body></html>").into() }
}

/// A word that stands nowhere in the template.
fn marker_word(source: &str) -> String {
    let mut word = "jinjatag".to_owned();
    while source.contains(&word) {
        word.push('q');
    }
    word
}

/// The template with an inert marker for each tag: a comment between elements, where HTML allows nothing else that
/// leaves no trace (a word between `<table>` and `<tr>` would be moved out of the table), a bare word in attribute
/// values. `None` when a tag stands where it could change which rules match.
fn protect(source: &str, tags: &[JinjaTag], word: &str) -> Option<String> {
    let mut worded = String::with_capacity(source.len());
    let mut at = 0;
    let comments = jinja_tags(source);
    let mut index = 0;
    for tag in comments {
        worded.push_str(&source[at..tag.at]);
        at = tag.at + tag.text.len();
        if !tag.text.starts_with("{#") {
            worded.push_str(&marker(word, index));
            index += 1;
        }
    }
    worded.push_str(&source[at..]);
    debug_assert_eq!(index, tags.len());

    let mut protected = String::with_capacity(worded.len());
    let mut found = markup::tokens(&worded);
    let mut begin = 0;
    while let Some(token) = found.next() {
        let written = &worded[begin..found.offset()];
        begin = found.offset();
        match token {
            Token::Text(text) => push_with_comments(&mut protected, text, word),
            Token::Open { name, attributes } => {
                if name.contains(word) || markup::attributes(attributes).any(|a| is_out_of_reach(&a, word)) {
                    return None;
                }
                protected.push_str(written);
            }
            Token::Raw { element, text } => {
                let is_style = element.eq_ignore_ascii_case("style");
                if markup::is_one_of(element, &["style", "script"]) && text.contains(word) {
                    return None;
                }
                if is_style && !tags.is_empty() && matches_by_surroundings(text) {
                    return None;
                }
                protected.push_str(written);
            }
            Token::Close { .. } | Token::Comment(_) | Token::Declaration(_) => protected.push_str(written),
        }
    }
    Some(protected)
}

fn marker(word: &str, index: usize) -> String {
    format!("{word}{index}z")
}

/// Wraps every marker of a text into a comment.
fn push_with_comments(protected: &mut String, text: &str, word: &str) {
    let mut rest = text;
    while let Some(begin) = rest.find(word) {
        let end = rest[begin..].find('z').map_or(rest.len(), |i| begin + i + 1);
        protected.push_str(&rest[..begin]);
        protected.push_str("<!--");
        protected.push_str(&rest[begin..end]);
        protected.push_str("-->");
        rest = &rest[end..];
    }
    protected.push_str(rest);
}

/// Whether a marker stands in an attribute where it would be lost or could decide what a rule matches.
fn is_out_of_reach(attribute: &markup::Attribute, word: &str) -> bool {
    attribute.name.contains(word)
        || attribute.value.contains(word)
            && (!attribute.quoted || markup::is_one_of(attribute.name, &["style", "class", "id", "rel"]))
}

/// Whether rules look at siblings, positions or attribute values, which a loop or a condition changes.
fn matches_by_surroundings(css: &str) -> bool {
    css.contains(['+', '~', '['])
        || [":first", ":last", ":nth", ":only", ":empty", ":has", ":not", ":is", ":where"]
            .iter()
            .any(|p| css.contains(p))
}

/// What inlining must leave as it was: tags with their attributes, the markers in them, and where text stands.
fn outline(html: &str, word: &str) -> Vec<String> {
    let mut outline: Vec<String> = Vec::new();
    for token in markup::tokens(html) {
        let entry = match token {
            Token::Open { name, .. } | Token::Close { name } if name.eq_ignore_ascii_case("style") => continue,
            Token::Raw { element, .. } if element.eq_ignore_ascii_case("style") => continue,
            Token::Text(text) if text.trim().is_empty() => continue,
            Token::Text(_) | Token::Raw { .. } => "text".to_owned(),
            Token::Open { name, attributes } => {
                let told = |attribute: markup::Attribute| {
                    let value = if attribute.value.contains(word) { attribute.value } else { "" };
                    format!(" {}={value}", attribute.name.to_ascii_lowercase())
                };
                let mut told: Vec<String> = markup::attributes(attributes).map(told).collect();
                told.retain(|attribute| attribute != " style=");
                // css-inline writes some attributes in another order, which changes nothing.
                told.sort_unstable();
                format!("<{}{}", name.to_ascii_lowercase(), told.concat())
            }
            Token::Close { name } => format!("</{}", name.to_ascii_lowercase()),
            Token::Comment(text) => text.to_owned(),
            Token::Declaration(_) => "!".to_owned(),
        };
        // Where only a `<style>` stood between two texts, they are one afterwards.
        if entry != "text" || outline.last().is_none_or(|last| last != "text") {
            outline.push(entry);
        }
    }
    outline
}

/// Puts the tags back; `None` unless every marker is there exactly once.
fn restore(inlined: &str, tags: &[JinjaTag], word: &str) -> Option<String> {
    let mut restored = String::with_capacity(inlined.len());
    let mut met = vec![false; tags.len()];
    let mut rest = inlined;
    while let Some(begin) = rest.find(word) {
        let (before, after) = (&rest[..begin], &rest[begin + word.len()..]);
        let (index, after) = after.split_once('z')?;
        let index: usize = index.parse().ok()?;
        if std::mem::replace(met.get_mut(index)?, true) {
            return None;
        }
        let commented = before.strip_suffix("<!--").zip(after.strip_prefix("-->"));
        let (before, after) = commented.unwrap_or((before, after));
        restored.push_str(before);
        restored.push_str(tags[index].text);
        rest = after;
    }
    restored.push_str(rest);
    met.iter().all(|met| *met).then_some(restored)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "<html><head><style>td{color:red}.a{margin:0}</style></head><body>";
    const TAIL: &str = "</body></html>";

    fn inlined(body: &str) -> Option<String> {
        template(&format!("{HEAD}{body}{TAIL}"))
    }

    #[test]
    fn tags_between_rows_and_in_attributes_come_back_where_they_were() {
        let body = r#"<table><tbody>{% for i in items %}<tr><td title="{{ i ~ "}}" }}">{{ i }}{# note #}</td></tr>{% endfor %}</tbody></table>"#;
        let expected = r#"<table><tbody>{% for i in items %}<tr><td title="{{ i ~ "}}" }}" style="color: red;">{{ i }}</td></tr>{% endfor %}</tbody></table>"#;
        let found = inlined(body).expect("this template can be inlined ahead");
        assert!(found.contains(expected), "{found}");
    }

    #[test]
    fn what_only_the_rendered_document_can_tell_is_left_to_it() {
        for body in [
            r#"<p class="{{ c }}">x</p>"#,
            r#"<p style="color:{{ c }}">x</p>"#,
            r#"<p {% if a %}class="a"{% endif %}>x</p>"#,
            "<a href={{ u }}>x</a>",
            "{% macro m() %}<p>x</p>{% endmacro %}",
            "{% set x %}<p>x</p>{% endset %}",
            "{% raw %}{{ x }}{% endraw %}",
            "<style>p{color:{{ c }}}</style>",
            "<style>tr:nth-child(2){color:red}</style>{{ x }}",
            // The parser moves or invents tags around a condition.
            "{% if a %}<div>{% else %}<div class='a'>{% endif %}x</div>",
            "<table>{% for i in x %}<tr><td>1</td></tr>{% endfor %}</table>",
            "<table><tbody>{% if a %}text{% endif %}<tr><td>1</td></tr></tbody></table>",
        ] {
            assert_eq!(inlined(body), None, "{body}");
        }
        assert_eq!(
            template("{% if a %}<html>{% endif %}<p>x</p>"),
            None,
            "html, head and body would land inside the if"
        );
    }

    #[test]
    fn a_letter_without_a_head_or_of_paragraphs_alone_is_completed_ahead() {
        for (source, expected) in [
            ("<p>Dear {{ n }}</p>\n", "<html><head></head><body><p>Dear {{ n }}</p>\n</body></html>"),
            ("{% if a %}<p>x</p>{% endif %}", "<html><head></head><body>{% if a %}<p>x</p>{% endif %}</body></html>"),
            ("Dear {{ n }}", "<html><head></head><body>Dear {{ n }}</body></html>"),
            ("<html><body><p>{{ n }}</p></body></html>", "<html><head></head><body><p>{{ n }}</p></body></html>"),
            (
                "<!DOCTYPE html><html><body><p>{{ n }}</p></body></html>",
                "<!DOCTYPE html><html><head></head><body><p>{{ n }}</p></body></html>",
            ),
            ("<body class=a>{{ n }}</body>", "<html><head></head><body class=\"a\">{{ n }}</body></html>"),
        ] {
            let found = template(source);
            if let Some(found) = &found {
                let rendered =
                    |text: &str| text.replace("{{ n }}", "Ada").replace("{% if a %}", "").replace("{% endif %}", "");
                assert_eq!(rendered(found).trim(), document(&rendered(source)).unwrap().trim(), "{source}");
            }
            assert_eq!(found.as_deref().map(str::trim), Some(expected), "{source}");
        }
    }

    #[test]
    fn media_rules_stay_in_a_style_element_and_nothing_is_fetched() {
        let html = "<html><head><link rel=\"stylesheet\" href=\"http://127.0.0.1:1/x.css\"><style>p{color:red}\
                    @media (max-width:600px){p{color:blue!important}}</style></head><body><p>x</p></body></html>";
        let found = document(html).unwrap();
        assert!(found.contains("<p style=\"color: red;\">"), "{found}");
        assert!(found.contains("@media (max-width:600px){p{color:blue!important}}"), "{found}");
    }

    #[test]
    fn a_rule_with_a_condition_wins_over_what_was_inlined_in_whatever_way() {
        let head = "<!DOCTYPE html><html><head><style>p{color:#111}@media (prefers-color-scheme:dark){p{color:#eee}}\
                    </style></head><body>";
        for body in ["<p>{{ x }}</p>", "<p class=\"{{ x }}\">x</p>"] {
            let source = format!("{head}{body}</body></html>");
            let inlined = template(&source).unwrap_or_else(|| document(&source.replace("{{ x }}", "y")).unwrap());
            assert!(inlined.contains("style=\"color: #111;\""), "{inlined}");
            assert!(inlined.contains("{p{color:#eee !important}}"), "{inlined}");
        }
    }

    #[test]
    fn a_delimiter_in_a_string_ends_no_tag() {
        let tags = jinja_tags("a {{ '}}' }} b {%- if \"%}\" %} {# {{ #} { x } {{ y }}");
        let texts: Vec<&str> = tags.iter().map(|tag| tag.text).collect();
        assert_eq!(texts, ["{{ '}}' }}", "{%- if \"%}\" %}", "{# {{ #}", "{{ y }}"]);
        assert_eq!(tags[1].keyword(), Some("if"));
    }
}
