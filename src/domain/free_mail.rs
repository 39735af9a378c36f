//! Providers of free mailboxes. Their domains ask receivers to refuse what others send in their name (DMARC), and a relay is
//! another.

/// By their whole domain.
const DOMAINS: [&str; 36] = [
    "126.com",
    "163.com",
    "aol.com",
    "arcor.de",
    "bluewin.ch",
    "comcast.net",
    "email.it",
    "free.fr",
    "freenet.de",
    "gmail.com",
    "googlemail.com",
    "icloud.com",
    "interia.pl",
    "laposte.net",
    "libero.it",
    "live.com",
    "mac.com",
    "mail.com",
    "mail.ru",
    "me.com",
    "msn.com",
    "o2.pl",
    "onet.pl",
    "orange.fr",
    "proton.me",
    "protonmail.com",
    "qq.com",
    "rocketmail.com",
    "seznam.cz",
    "sfr.fr",
    "t-online.de",
    "wanadoo.fr",
    "web.de",
    "wp.pl",
    "ymail.com",
    "zohomail.com",
];

/// By the label before the country: `yahoo.co.uk`.
const NAMES: [&str; 5] = ["gmx", "hotmail", "outlook", "yahoo", "yandex"];

/// Whether mailboxes of this domain, in lower case, are a free provider's.
pub fn is_free_mail(domain: &str) -> bool {
    let of_a_country = |end: &str| {
        let country = end.strip_prefix("co.").or_else(|| end.strip_prefix("com.")).unwrap_or(end);
        (2..=3).contains(&country.len()) && !country.contains('.')
    };
    DOMAINS.contains(&domain)
        || domain.split_once('.').is_some_and(|(name, end)| NAMES.contains(&name) && of_a_country(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_mailboxes_are_told_from_shops() {
        for domain in
            ["gmail.com", "yahoo.com", "yahoo.co.uk", "yahoo.com.br", "hotmail.fr", "gmx.net", "gmx.de", "web.de"]
        {
            assert!(is_free_mail(domain), "{domain}");
        }
        for domain in
            ["shop.example", "yahoo.shop.example", "mygmail.com", "gmx.example", "mail.gmail.com", "yahoo", ""]
        {
            assert!(!is_free_mail(domain), "{domain}");
        }
    }
}
