//! Addresses of pages.

/// Signed links are long; browsers and mail programs take about this much.
const LONGEST_URL_IN_CHARACTERS: usize = 2000;

/// Whether a text is an absolute http or https address with a host (RFC 3986 §3), fit for an `href`.
pub fn is_web_address(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
        && host.chars().any(char::is_alphanumeric)
        && text.chars().nth(LONGEST_URL_IN_CHARACTERS).is_none()
        && !text.chars().any(|c| c.is_control() || c.is_whitespace() || "\"<>\\^`{|}".contains(c))
}
