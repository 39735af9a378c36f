//! What the configuration leaves open.

use super::Findings;
use crate::settings::{Settings, TransportSettings};

/// What `mailonce init` wrote for a person to replace.
pub(super) fn look_at_placeholders(settings: &Settings, findings: &mut Findings) {
    let host = match &settings.transport {
        TransportSettings::Smtp(smtp) => smtp.host.as_str(),
        TransportSettings::File { .. } => "",
    };
    let from = settings.mail.from.address.to_string();
    let unsubscribe = settings.mail.unsubscribe.first().map_or("", String::as_str);
    let untouched: Vec<&str> = [
        ("shop.name", settings.shop.name.as_str(), "Example Shop"),
        ("mail.from", &from, "hello@shop.example"),
        ("mail.unsubscribe", unsubscribe, "mailto:unsubscribe@shop.example?subject={unsubscribe}"),
        ("mail.smtp.host", host, "smtp.shop.example"),
    ]
    .into_iter()
    .filter_map(|(key, value, example)| (value == example).then_some(key))
    .collect();
    if !untouched.is_empty() {
        let what = format!("{} as `mailonce init` wrote: an example's, not yours", untouched.join(", "));
        findings.warn("configuration", what, "write your own before anyone gets a mail");
    }
}
