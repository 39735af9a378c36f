//! The page as one file of HTML. What comes from outside is text: cleaned here, once, and escaped by the template.

use minijinja::{AutoEscape, Environment, UndefinedBehavior, context, syntax::SyntaxConfig, value::Serde};
use serde_json::Value;

use super::Page;
use super::chart::charts;
use super::mask::plain;
use crate::domain::span;
use crate::failure::Failure;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// No text on the page is longer.
const TEXT_SHOWN: usize = 400;
/// Nor is a name, which stands in a table or a heading.
pub(super) const NAME_SHOWN: usize = 80;

/// What a file must begin with to be taken for a page that may be written over.
pub const MARK: &str = "<!doctype html>\n<!-- mailonce report -->";

/// Writes the page.
///
/// # Errors
/// Exit 70: the template does not fit the values.
pub fn page(page: &Page) -> Result<String, Failure> {
    let environment = environment().map_err(fault)?;
    let mut value = serde_json::to_value(page).map_err(|err| Failure::internal(format!("the page: {err}")))?;
    clean(&mut value, "");
    let body = environment
        .get_template("page.html")
        .and_then(|template| {
            template.render(context! { page => Serde(value), charts => Serde(charts(page)), style => STYLE })
        })
        .map_err(fault)?;
    Ok(format!("{MARK}\n{body}"))
}

fn fault(err: minijinja::Error) -> Failure {
    Failure::internal(format!("the page could not be made: {err:#}"))
}

fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_filter("n", |number: u64| grouped(number));
    environment.add_filter("percent", |share: f64| format!("{:.1} %", share * 100.0));
    environment.add_filter("points", |share: f64| format!("{:+.1}", share * 100.0));
    environment.add_filter("rate", |rate: f64| format!("{rate:.2}"));
    environment.add_filter("px", |length: f64| format!("{length:.1}"));
    environment.add_filter("spoken", |seconds: i64| span::spoken(chrono::TimeDelta::seconds(seconds)));
    environment.add_filter("bytes", |number: u64| match number {
        0..10_000_000 => format!("{} kB", grouped(number / 1000)),
        _ => format!("{} MB", grouped(number / 1_000_000)),
    });
    // `2026-03-01T08:00:00Z` for people: the page says once that all times are UTC.
    environment.add_filter("at", |text: String| text.replacen('T', "\u{a0}", 1).trim_end_matches('Z').to_owned());
    environment.add_filter("words", |text: String| text.replace('_', " "));
    environment.add_template("page.html", TEMPLATE)?;
    Ok(environment)
}

/// `1 204 332`, in groups that do not break.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digits.len() > 4 {
            shown.push('\u{202f}');
        }
        shown.push(digit);
    }
    shown
}

/// Makes every text one that stays where it is put; those that are names are also short.
fn clean(value: &mut Value, key: &str) {
    match value {
        Value::String(text) => {
            let is_sentence = ["line", "reply", "last_reply", "ending", "lock", "schedule"].contains(&key);
            *text = plain(text, if is_sentence { TEXT_SHOWN } else { NAME_SHOWN });
        }
        Value::Array(values) => values.iter_mut().for_each(|value| clean(value, key)),
        Value::Object(values) => {
            let cleaned = std::mem::take(values).into_iter().map(|(key, mut value)| {
                clean(&mut value, &key);
                (plain(&key, NAME_SHOWN), value)
            });
            *values = cleaned.collect();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(9999), "9999");
        assert_eq!(grouped(1_204_332), "1\u{202f}204\u{202f}332");
    }

    #[test]
    fn the_style_loads_nothing() {
        for word in ["url(", "@import", "http", "</"] {
            assert!(!STYLE.contains(word), "{word}");
        }
    }
}
