//! The words for no value.

/// What programs write into a field that has no value.
const NOTHING: [&str; 12] =
    ["null", "\\n", "(null)", "<null>", "none", "nil", "undefined", "nan", "n/a", "#n/a", "-", "--"];

/// Whether a text, without white space around it, is a word for no value. Case does not matter.
pub fn stands_for_nothing(text: &str) -> bool {
    NOTHING.iter().any(|word| word.eq_ignore_ascii_case(text))
}
