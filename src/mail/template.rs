//! Templates: what a shop writes once, rendered for each recipient into a subject, an HTML part and a text part.
//!
//! A template is HTML with Jinja tags. It is compiled, checked and its styles inlined when a command starts; rendering
//! touches no file, no clock and no network, and always ends.

use std::fmt;
use std::io;

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, ErrorKind, Output, State, UndefinedBehavior};

use crate::domain::locale::Locale;
use crate::domain::subject::Subject;
use crate::failure::Failure;

use super::inline;
use super::markup::{self, Token};
use super::plain_text;

pub use super::cart::{BUILT_IN_CART, built_in_later, cart_context, coupon_variables, example_cart, shop_variables};

/// Instructions that one part of one message may take: enough for a cart of thousands of items, while a loop in a loop in
/// a loop ends within a second.
const FUEL: u64 = 2_000_000;

/// The largest HTML part, in bytes. Servers refuse a message far smaller than this.
const LARGEST_PART: usize = 4 << 20;

const HTML: &str = "html";
/// Before the text of each of its subjects: what that one is known by.
const SUBJECT: &str = "subject ";
/// The HTML template as its author wrote it. Errors are told with its lines, not with those of the inlined one.
pub(super) const AS_WRITTEN: &str = "as written";

/// A template, compiled once and shared by all threads.
pub struct Template {
    name: String,
    subject: Subject,
    environment: Environment<'static>,
    /// The styles could not be inlined ahead, so they are inlined into each message.
    pub(super) inlines_each: bool,
}

/// What one recipient gets, before it becomes a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// One line, never empty, without control characters.
    pub subject: String,
    /// A whole document with its styles inlined.
    pub html: String,
    /// The same for readers of plain text; lines end in `\n` and hold at most 78 columns where words allow it.
    pub text: String,
}

/// Why a message could not be made for one recipient. It says nothing about the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderError {
    /// The template, the line and what is wrong there.
    pub problem: String,
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for RenderError {}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("name", &self.name).field("inlines_each", &self.inlines_each).finish()
    }
}

impl Template {
    /// Compiles a template and its subject, which is template text too (`Spring is here, {{ name }}`).
    ///
    /// `name` stands in error messages; a path is best.
    ///
    /// # Errors
    /// Exit 78, naming file and line: the template is no sound Jinja, asks for another file (`include`, `extends`,
    /// `import`), or takes its styles from elsewhere. Whether its variables exist shows only when it is rendered.
    pub fn compile(name: &str, html: &str, subject: &Subject) -> Result<Template, Failure> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        // Without it a release build does not say which variable is missing. It costs only where an error is made.
        environment.set_debug(true);
        environment.set_auto_escape_callback(|part| {
            if part.starts_with(SUBJECT) { AutoEscape::None } else { AutoEscape::Html }
        });
        environment.set_formatter(write_value);
        for text in subject.texts() {
            environment
                .add_template_owned(format!("{SUBJECT}{text}"), text.to_owned())
                .map_err(|error| compile_failure(&format!("subject of {name}"), &error))?;
        }
        environment.add_template_owned(AS_WRITTEN, html.to_owned()).map_err(|error| compile_failure(name, &error))?;
        refuse_other_files(name, html)?;

        let ahead = inline::template(html).map(|inlined| environment.add_template_owned(HTML, inlined));
        let inlines_each = !matches!(ahead, Some(Ok(())));
        if inlines_each {
            environment.add_template_owned(HTML, html.to_owned()).map_err(|error| compile_failure(name, &error))?;
        }
        Ok(Template { name: name.to_owned(), subject: subject.clone(), environment, inlines_each })
    }

    /// Whether it uses a variable by this name that is not its own.
    pub fn uses(&self, variable: &str) -> bool {
        self.environment
            .get_template(AS_WRITTEN)
            .is_ok_and(|template| template.undeclared_variables(false).contains(variable))
    }

    /// Renders one message, with the subject for readers of a language.
    ///
    /// # Errors
    /// A variable or filter that does not exist, a value that a filter cannot take, an empty subject, or a template that
    /// does not end (2,000,000 instructions, 4 MiB of HTML). The template and the line are named.
    pub fn render(&self, context: Value, locale: Option<&Locale>) -> Result<Rendered, RenderError> {
        let subject = one_line(&self.part(&format!("{SUBJECT}{}", self.subject.for_locale(locale)), &context)?);
        if subject.is_empty() {
            return Err(RenderError { problem: format!("subject of {}: it is empty for this recipient", self.name) });
        }
        let html = self.part(HTML, &context)?;
        let trimmed = html.trim();
        let html = if self.inlines_each {
            inline::document(trimmed).map_err(|error| self.problem(format!("styles could not be inlined: {error}")))?
        } else {
            trimmed.to_owned()
        };
        let text = plain_text::from_html(&html).map_err(|error| self.problem(format!("no text part: {error}")))?;
        Ok(Rendered { subject, html, text })
    }

    fn part(&self, part: &str, context: &Value) -> Result<String, RenderError> {
        self.evaluate(part, context).map_err(|error| {
            if part.starts_with(SUBJECT) {
                return RenderError { problem: describe(&format!("subject of {}", self.name), &error) };
            }
            // The inlined template has other lines than the file its author knows.
            let error = self.evaluate(AS_WRITTEN, context).err().unwrap_or(error);
            RenderError { problem: describe(&self.name, &error) }
        })
    }

    pub(super) fn evaluate(&self, part: &str, context: &Value) -> Result<String, minijinja::Error> {
        let mut written = Limited { bytes: Vec::with_capacity(16 << 10) };
        self.environment.get_template(part)?.render_captured_to(context.clone(), &mut written)?;
        String::from_utf8(written.bytes).map_err(|_| minijinja::Error::new(ErrorKind::WriteFailure, "not UTF-8"))
    }

    fn problem(&self, problem: String) -> RenderError {
        RenderError { problem: format!("{}: {problem}", self.name) }
    }
}

/// Takes what is rendered, up to [`LARGEST_PART`].
struct Limited {
    bytes: Vec<u8>,
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > LARGEST_PART {
            return Err(io::Error::other("the message would be larger than 4 MiB"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one value into the output.
///
/// `none` is nothing: "Hello none," must not reach anyone. Unlike minijinja's own, it leaves `/` alone: `https:&#x2f;`
/// is sound HTML, but mail filters that look for addresses in the raw text do not know it.
fn write_value(out: &mut Output, state: &mut State, value: &Value) -> Result<(), minijinja::Error> {
    if value.is_none() {
        return Ok(());
    }
    if value.is_safe() || *state.auto_escape() != AutoEscape::Html {
        return minijinja::escape_formatter(out, state, value);
    }
    let shown;
    let text = match value.as_str() {
        Some(text) => text,
        None => {
            shown = value.to_string();
            &shown
        }
    };
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
        out.write_str(&rest[..at])?;
        out.write_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            _ => "&#39;",
        })?;
        rest = &rest[at + 1..];
    }
    Ok(out.write_str(rest)?)
}

/// Joins a text into one line: every run of white space and control characters is one space.
pub fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace() && c != '\u{a0}');
    let mut line = String::with_capacity(text.len());
    for word in words.filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// Refuses what a template would have to read besides itself: other templates, style sheets.
fn refuse_other_files(name: &str, html: &str) -> Result<(), Failure> {
    let line_of = |at: usize| html[..at].matches('\n').count() + 1;
    let mut blanked = html.to_owned().into_bytes();
    for tag in inline::jinja_tags(html) {
        if let Some(word @ ("include" | "extends" | "import" | "from")) = tag.keyword() {
            return Err(Failure::config(
                format!(
                    "{name}:{}: `{word}` asks for another template, and a mail template stands alone",
                    line_of(tag.at)
                ),
                "put the text of the other template into this one",
            ));
        }
        // Blanked, not removed, so that what comes behind a tag keeps its place.
        for byte in &mut blanked[tag.at..tag.at + tag.text.len()] {
            *byte = if *byte == b'\n' { b'\n' } else { b'x' };
        }
    }
    let blanked = String::from_utf8(blanked).unwrap_or_default();
    let mut tokens = markup::tokens(&blanked);
    let mut begin = 0;
    while let Some(token) = tokens.next() {
        let remote = match token {
            Token::Open { name, attributes } if name.eq_ignore_ascii_case("link") => markup::attributes(attributes)
                .any(|a| a.name.eq_ignore_ascii_case("rel") && a.value.to_ascii_lowercase().contains("stylesheet"))
                .then_some("<link rel=\"stylesheet\">"),
            Token::Raw { element, text } if element.eq_ignore_ascii_case("style") => {
                text.contains("@import").then_some("@import")
            }
            _ => None,
        };
        if let Some(what) = remote {
            return Err(Failure::config(
                format!(
                    "{name}:{}: {what} asks for a style sheet from elsewhere, which mail clients do not load",
                    line_of(begin)
                ),
                "put its rules into a <style> element of the template; they are inlined for every client",
            ));
        }
        begin = tokens.offset();
    }
    Ok(())
}

fn compile_failure(name: &str, error: &minijinja::Error) -> Failure {
    let next = match error.kind() {
        ErrorKind::SyntaxError => {
            "close every `{{ … }}`, `{% if … %}` with `{% endif %}` and `{% for … %}` with `{% endfor %}`"
        }
        ErrorKind::BadEscape => "write \\\\ for a backslash in a string",
        _ => "correct that line; `mailonce preview` shows the result",
    };
    Failure::config(describe(name, error), next)
}

/// `templates/cart.html:12: no such variable or attribute: `item.colour``.
fn describe(name: &str, error: &minijinja::Error) -> String {
    let place = error.line().map_or_else(|| name.to_owned(), |line| format!("{name}:{line}"));
    let detail = error.detail().unwrap_or("");
    // minijinja names the variable: "`item.colour` is undefined".
    let detail = detail.strip_suffix(" is undefined").unwrap_or(detail);
    let what = match error.kind() {
        ErrorKind::UndefinedError if !detail.is_empty() => "no such variable or attribute".to_owned(),
        ErrorKind::UndefinedError => "a variable or attribute that does not exist".to_owned(),
        ErrorKind::OutOfFuel => "the template does not come to an end (2,000,000 instructions)".to_owned(),
        kind => kind.to_string(),
    };
    let mut problem = if detail.is_empty() { format!("{place}: {what}") } else { format!("{place}: {what}: {detail}") };
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        let text = deeper.to_string();
        if !problem.contains(&text) {
            problem.push_str(": ");
            problem.push_str(&text);
        }
        cause = deeper.source();
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;
    use minijinja::context;

    fn rendered(html: &str, context: Value) -> Result<Rendered, RenderError> {
        Template::compile("t.html", html, &"S".into()).unwrap().render(context, None)
    }

    #[test]
    fn values_stay_inert_in_a_template_that_is_inlined_per_message() {
        let html = "<html><head><style>p{color:red}</style></head><body><p class=\"{{ c }}\" title=\"{{ n }}\">{{ n }}</p></body></html>";
        let html = rendered(html, context! { c => "a", n => "\"><script>&<" }).unwrap().html;
        let opened = |token: Token| matches!(token, Token::Open { name, .. } if name == "script");
        assert!(!markup::tokens(&html).any(opened), "{html}");
    }

    #[test]
    fn a_template_that_cannot_be_inlined_ahead_is_inlined_per_message() {
        let html = "<html><head><style>.red{color:red}</style></head><body><p class=\"{{ c }}\">x</p></body></html>";
        let html = rendered(html, context! { c => "red" }).unwrap().html;
        assert!(html.contains("<p class=\"red\" style=\"color: red;\">"), "{html}");
    }

    #[test]
    fn errors_name_the_template_and_the_line_its_author_knows() {
        let html =
            "<html>\n<head><style>\np{color:red}\n</style></head>\n<body>\n<p>{{ item.colour }}</p></body></html>";
        let error = rendered(html, context! { item => context! { name => "x" } }).unwrap_err();
        assert!(error.problem == "t.html:6: no such variable or attribute: `item.colour`", "{}", error.problem);
        let error = rendered("\n{{ x | nonsense }}", context! { x => 1 }).unwrap_err();
        assert!(error.problem.starts_with("t.html:2: ") && error.problem.contains("nonsense"), "{}", error.problem);
        let template = Template::compile("t.html", "x", &"Dear {{ nam }}".into()).unwrap();
        let error = template.render(context! { name => "x" }, None).unwrap_err();
        assert!(error.problem.starts_with("subject of t.html:1: "), "{}", error.problem);
    }

    #[test]
    fn a_template_that_is_wrong_in_itself_does_not_compile() {
        for (html, place) in [
            ("a\n{% if x %}", "t.html:2: "),
            ("a\n\n{{ x", "t.html:3: "),
            ("a\n{% include 'b.html' %}", "t.html:2: `include`"),
            ("a\n{#\n#}\n<link rel=\"stylesheet\" href=\"https://x.example/y.css\">", "t.html:4: <link"),
            ("a\n<style>\n@import 'x.css';</style>", "t.html:2: @import"),
        ] {
            let failure = Template::compile("t.html", html, &"S".into()).unwrap_err();
            assert!(failure.what.starts_with(place), "{}", failure.what);
            assert!(failure.exit == Exit::Configuration && !failure.next.is_empty());
        }
    }

    #[test]
    fn the_subject_is_one_line_unescaped_and_never_empty() {
        let template = Template::compile("t.html", "x", &" For {{ name }} ".into()).unwrap();
        let subject = template.render(context! { name => "Tom & Co\r\nBcc: a@b.example\0" }, None).unwrap().subject;
        assert_eq!(subject, "For Tom & Co Bcc: a@b.example");
        let empty = Template::compile("t.html", "x", &"{{ name }}".into()).unwrap();
        assert!(empty.render(context! { name => " \r\n" }, None).is_err());
        assert!(empty.render(context! { name => () }, None).is_err());
    }

    #[test]
    fn rendering_always_ends() {
        let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}";
        let error = rendered(loops, context! {}).unwrap_err();
        assert!(error.problem.contains("does not come to an end"), "{}", error.problem);
        let large = "{% set x = 'x' * 100000 %}{% for a in range(100) %}{{ x }}{% endfor %}";
        let error = rendered(large, context! {}).unwrap_err();
        assert!(error.problem.contains("4 MiB"), "{}", error.problem);
    }

    #[test]
    fn threads_share_a_template() {
        fn shared<T: Send + Sync>() {}
        shared::<Template>();
    }
}
