//! The template of a cart message and what it is filled with.

use chrono::TimeDelta;
use minijinja::context;
use minijinja::value::Value;

use crate::domain::address::Address;
use crate::domain::cart::{Cart, CartLine};
use crate::domain::coupon::Coupon;
use crate::domain::instant::Instant;
use crate::domain::locale::Locale;
use crate::domain::money::{Currency, Price};
use crate::domain::web_address::is_web_address;
use crate::language::{self, ENGLISH, Filled, MoneyFormat, Words};
use crate::settings::ShopSettings;

use super::template::one_line;

/// The template of a cart message for shops that bring none of their own.
pub const BUILT_IN_CART: &str = include_str!("cart.html");

/// The same for a later step, and for the last one: with a heading of its own.
pub fn built_in_later() -> [(&'static str, String); 2] {
    let headed = |word: &str| BUILT_IN_CART.replace("{{ text.heading }}", &format!("{{{{ text.{word} }}}}"));
    [("second.html", headed("again")), ("last.html", headed("last"))]
}

/// What the template of a cart message, written in some language, can use; `cart.html` lists it.
///
/// Amounts are texts in the cart's own currency. An address of a page is `none` unless it is `http:` or `https:`, so no
/// other can become a link. `unsubscribe` is where its reader can ask to get no more.
pub fn cart_context(
    cart: &Cart,
    shop: &ShopSettings,
    locale: Locale,
    unsubscribe: Option<&str>,
    step: Option<&str>,
    coupon: Option<&Coupon>,
) -> Value {
    let words = Words::of(locale).unwrap_or(&ENGLISH);
    let money = MoneyFormat::new(locale, cart.currency);
    let items: Vec<Value> = cart.lines.iter().map(|line| item(line, locale, words, &money)).collect();
    let name = cart.name.as_deref().map(one_line).filter(|name| !name.is_empty());
    let total = cart.value().map(|value| money.money(value));
    let updated_at = language::instant(locale, &cart.updated_at.with_timezone(&shop.timezone));
    let email = cart.email.envelope();
    let first = cart.lines.first().map(|line| one_line(&line.name));
    let filled = Filled {
        shop: &shop.name,
        name: name.as_deref(),
        email: &email,
        item: first.as_deref(),
        more: cart.lines.len().saturating_sub(1) as u64,
        total: total.as_deref(),
        date: &updated_at,
    };
    let text = Value::from_pairs(words.filled(locale, &filled));
    context! {
        shop => shop_variables(shop),
        locale => locale.to_string(),
        dir => language::direction(locale),
        text => text,
        name => name,
        email => email,
        cart_id => &cart.cart_id,
        items => items,
        total => total,
        currency => cart.currency.code(),
        recovery_url => web_address(cart.recovery_url.as_deref()).or_else(|| web_address(Some(&shop.url))),
        updated_at => updated_at,
        step => step,
        coupon => coupon.map(|coupon| coupon_variables(coupon, shop, locale)),
        unsubscribe_url => unsubscribe,
    }
}

/// A coupon, as templates know it.
pub fn coupon_variables(coupon: &Coupon, shop: &ShopSettings, locale: Locale) -> Value {
    let ends = coupon.expires_at.map(|at| language::instant(locale, &at.with_timezone(&shop.timezone)));
    let words = Words::of(locale).unwrap_or(&ENGLISH);
    let valid_until = ends.as_deref().map(|ends| words.valid_until(ends));
    context! { code => &coupon.code, expires_at => ends, valid_until => valid_until }
}

/// What every template knows of the shop.
pub fn shop_variables(shop: &ShopSettings) -> Value {
    context! {
        name => &shop.name,
        url => &shop.url,
        logo => &shop.logo,
        address => &shop.address,
        locale => shop.locale.to_string(),
    }
}

/// A cart to look at before the shop has one, and to try a template on. It says all that a cart can say.
pub fn example_cart(shop: &ShopSettings, now: Instant) -> Cart {
    let currency = Currency::parse("EUR").unwrap_or_else(|| unreachable!("EUR is a code"));
    let line = |sku: &str, name: &str, quantity: u32, price: &str| CartLine {
        sku: sku.into(),
        name: name.into(),
        quantity: quantity.into(),
        unit_price: Price::parse(price, currency),
        image_url: None,
        category: None,
        url: None,
    };
    Cart {
        cart_id: "example".into(),
        user_id: Some("example".into()),
        email: Address::parse("ada@example.com").unwrap_or_else(|_| unreachable!("it is an address")),
        name: Some("Ada Lovelace".into()),
        currency,
        created_at: None,
        updated_at: now - TimeDelta::hours(2),
        recovery_url: Some(format!("{}/cart/example", shop.url.trim_end_matches('/'))),
        locale: None,
        odd_locale: None,
        odd_timezone: None,
        consent: Some(true),
        ordered_at: None,
        timezone: None,
        lines: vec![
            line("A-1", "Desk lamp, brass", 2, "19.90"),
            line("B-7", "Notebook, dotted, 160 pages", 1, "12.50"),
        ],
    }
}

fn item(line: &CartLine, locale: Locale, words: &Words, money: &MoneyFormat) -> Value {
    let unit_price = line.unit_price.map(|price| money.price(price));
    context! {
        sku => &line.sku,
        name => one_line(&line.name),
        quantity => line.quantity.whole().map_or_else(|| Value::from(line.quantity.approximate()), Value::from),
        pieces => language::number(locale, line.quantity),
        each => unit_price.as_deref().map(|price| words.each(price)),
        unit_price => unit_price,
        total => line.total().map(|total| money.money(total)),
        image_url => web_address(line.image_url.as_deref()),
        url => web_address(line.url.as_deref()),
    }
}

/// The address, when it is one of a page: templates are given none that would not be a link.
fn web_address(address: Option<&str>) -> Option<&str> {
    address.map(str::trim).filter(|address| is_web_address(address))
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use crate::domain::instant;
    use crate::mail::template::{AS_WRITTEN, Rendered, Template};
    use crate::mail::{inline, markup, markup::Token};

    fn shop() -> ShopSettings {
        ShopSettings {
            name: "Tom & Co".into(),
            url: "https://shop.example".into(),
            logo: None,
            address: None,
            locale: Locale::ENGLISH,
            timezone: chrono_tz::Europe::Berlin,
        }
    }

    fn cart(code: &str, lines: &[(&str, u32, &str)]) -> Cart {
        let currency = Currency::parse(code).unwrap();
        let line = |&(name, quantity, price): &(&str, u32, &str)| CartLine {
            sku: "A-1".into(),
            name: name.into(),
            quantity: quantity.into(),
            unit_price: Price::parse(price, currency),
            image_url: None,
            category: None,
            url: None,
        };
        Cart {
            cart_id: "c1".into(),
            user_id: None,
            email: Address::parse("ada@example.com").unwrap(),
            name: Some("Ada".into()),
            currency,
            created_at: None,
            updated_at: instant::from_text("2026-03-01T08:00:00Z").unwrap(),
            recovery_url: Some("https://shop.example/cart/c1?a=1&b=2".into()),
            locale: None,
            odd_locale: None,
            odd_timezone: None,
            consent: None,
            ordered_at: None,
            timezone: None,
            lines: lines.iter().map(line).collect(),
        }
    }

    fn built_in(cart: &Cart) -> Rendered {
        written_in(cart, "en")
    }

    fn written_in(cart: &Cart, tag: &str) -> Rendered {
        let locale = Locale::parse(tag).unwrap();
        let template = template();
        let unsubscribe = Some("mailto:stop@shop.example?subject=ada%40example.com");
        template.render(cart_context(cart, &shop(), locale, unsubscribe, None, None), Some(&locale)).unwrap()
    }

    fn template() -> &'static Template {
        static TEMPLATE: OnceLock<Template> = OnceLock::new();
        TEMPLATE.get_or_init(|| Template::compile("built in", BUILT_IN_CART, &"{{ text.subject }}".into()).unwrap())
    }

    #[test]
    fn the_text_part_of_the_built_in_template_reads_like_a_letter() {
        let text = built_in(&cart("EUR", &[("Lamp", 2, "19.90"), ("Oak table", 1, "1250")])).text;
        let expected = "Tom & Co

You left something behind

Hello Ada,

Your cart at Tom & Co is still as you left it on 1 March 2026, 09:00.
Pick up where you stopped whenever you like.

2 × Lamp   €39.80
€19.90 each
1 × Oak table   €1,250.00

Total   €1,289.80

Return to your cart:
https://shop.example/cart/c1?a=1&b=2

You are receiving this because you left items in your cart at Tom & Co
with the address ada@example.com.

Unsubscribe:
mailto:stop@shop.example?subject=ada%40example.com
";
        assert_eq!(text, expected);
    }

    #[test]
    fn each_currency_keeps_its_decimals_in_both_parts() {
        let yen = built_in(&cart("JPY", &[("ランプ", 2, "1980")]));
        assert!(yen.text.contains("2 × ランプ   ¥3,960\n¥1,980 each\n"), "{}", yen.text);
        let dinar = built_in(&cart("KWD", &[("Lamp", 1, "12.5")]));
        assert!(dinar.text.contains("1 × Lamp   KWD 12.500\n"), "{}", dinar.text);
        assert!(dinar.html.contains("KWD\u{a0}12.500") || dinar.html.contains("KWD&nbsp;12.500"), "{}", dinar.html);
    }

    #[test]
    fn goods_by_weight_and_fine_prices_are_shown_as_they_are() {
        let mut oil = cart("EUR", &[("Oil", 100, "0.495"), ("Tomatoes, kg", 1, "4.20")]);
        oil.lines[1].quantity = crate::domain::money::Quantity::parse("1.5000").unwrap();
        let text = built_in(&oil).text;
        assert!(text.contains("100 × Oil   €49.50\n€0.495 each\n"), "{text}");
        assert!(text.contains("1.5 × Tomatoes, kg   €6.30\n€4.20 each\n"), "{text}");
        assert!(text.contains("Total   €55.80\n"), "{text}");
    }

    #[test]
    fn a_line_without_a_price_shows_none_and_the_cart_no_total() {
        let mut cart = cart("EUR", &[("Lamp", 2, "19.90"), ("Curtain", 3, "1")]);
        cart.lines[1].unit_price = None;
        let Rendered { html, text, .. } = built_in(&cart);
        assert!(text.contains("2 × Lamp   €39.80\n€19.90 each\n3 × Curtain\n\nReturn to your cart"), "{text}");
        assert!(!text.contains("Total") && !html.contains(">none<"), "{html}");
    }

    #[test]
    fn what_a_shopper_types_is_inert() {
        let mut hostile = cart("EUR", &[("<script>alert(1)</script>", 1, "1"), ("{{ 7*7 }}\" onerror=\"x", 1, "1")]);
        hostile.name = Some("<b>Ada</b>\r\nBcc: x".into());
        hostile.lines[0].url = Some("javascript:alert(1)".into());
        hostile.lines[0].image_url = Some("https://shop.example/a.png\"onload=\"x".into());
        hostile.lines[1].url = Some("JaVaScRiPt:alert(1)//https://x".into());
        hostile.recovery_url = Some(" javascript:alert(1)".into());
        let Rendered { html, text, .. } = built_in(&hostile);
        assert!(!html.contains("<script") && !html.contains("<b>") && !html.contains("javascript:"), "{html}");
        assert!(!html.contains("\" onerror") && !html.contains("\"onload"), "{html}");
        assert!(html.contains("{{ 7*7 }}") && !html.contains(">49"), "{html}");
        assert!(html.contains("<a class=\"button-link\" href=\"https://shop.example\""), "{html}");
        assert!(text.contains("1 × <script>alert(1)</script>") && text.contains("Hello <b>Ada</b> Bcc: x,"), "{text}");
    }

    #[test]
    fn the_built_in_template_is_inlined_ahead_and_looks_as_if_it_were_inlined_afterwards() {
        let ahead = template();
        assert!(!ahead.inlines_each);
        let mut pictured = cart("EUR", &[("Lamp", 2, "19.90"), ("Ärmel & <Knopf>", 1, "1")]);
        pictured.lines[0].image_url = Some("https://shop.example/a.png?x=1&y=2".into());
        let mut nameless = cart("EUR", &[]);
        nameless.name = None;
        for cart in [pictured, cart("EUR", &[("Lamp", 1, "1")]), nameless] {
            let context = cart_context(&cart, &shop(), Locale::ENGLISH, Some("https://shop.example/u/t0"), None, None);
            // What was inlined ahead and once more is compared with the template as written, inlined once: a rule that
            // matched only after rendering, or only before, would show.
            let afterwards = inline::document(ahead.evaluate(AS_WRITTEN, &context).unwrap().trim()).unwrap();
            let both = inline::document(&built_in_html(&context)).unwrap();
            let tags = |html: &str| {
                let tag = |token: Token| match token {
                    Token::Open { name, attributes } => {
                        let attribute = |a: markup::Attribute| format!("{}={}", a.name, a.value);
                        let mut attributes: Vec<String> = markup::attributes(attributes).map(attribute).collect();
                        attributes.sort();
                        Some(format!("{name} {}", attributes.join(" ")))
                    }
                    Token::Text(text) => Some(text.trim().to_owned()),
                    _ => None,
                };
                let tags: Vec<String> = markup::tokens(html).filter_map(tag).filter(|tag| !tag.is_empty()).collect();
                tags
            };
            assert_eq!(tags(&both), tags(&afterwards));
            assert_eq!(both.matches("style=").count(), afterwards.matches("style=").count());
        }
    }

    fn built_in_html(context: &Value) -> String {
        template().render(context.clone(), None).unwrap().html
    }

    #[test]
    fn a_line_without_a_picture_shows_no_box_in_its_place() {
        let mut cart = cart("EUR", &[("Lamp", 1, "1"), ("Table", 1, "1")]);
        let styled = |html: &str| html.split("<body").nth(1).unwrap_or_default().matches("#f0eee9").count();
        let html = built_in(&cart).html;
        assert!(!html.contains("class=\"picture\"") && styled(&html) == 0, "{html}");
        cart.lines[0].image_url = Some("https://shop.example/a.png".into());
        let html = built_in(&cart).html;
        assert_eq!((html.matches("class=\"picture\"").count(), styled(&html)), (2, 1), "{html}");
    }

    #[test]
    fn dark_mode_and_phones_keep_their_rules_and_nothing_is_loaded_but_pictures() {
        let html = built_in(&cart("EUR", &[("Lamp", 1, "1")])).html;
        assert!(html.contains("@media (prefers-color-scheme: dark)"), "{html}");
        assert!(html.contains("@media only screen and (max-width: 620px)"), "{html}");
        assert!(html.contains("<html lang=\"en\"") && html.starts_with("<!DOCTYPE html>"), "{html}");
        for outside in ["<link", "url(", "@import", "<script", "<img"] {
            assert!(!html.contains(outside), "{outside} in {html}");
        }
    }

    #[test]
    fn a_cart_of_a_thousand_lines_is_rendered() {
        let text = built_in(&cart("EUR", &[("Lamp", 2, "19.90"); 1000])).text;
        assert_eq!(text.matches("2 × Lamp   €39.80").count(), 1000);
    }

    #[test]
    fn the_text_part_reads_like_a_letter_in_each_language() {
        let mut cart = cart("EUR", &[("Lampe", 2, "19.90"), ("Tisch", 1, "1250")]);
        cart.lines[0].quantity = crate::domain::money::Quantity::parse("1.5").unwrap();
        let expected = "Tom & Co

Sie haben noch etwas im Warenkorb

Guten Tag Ada,

Ihr Warenkorb bei Tom & Co ist noch so, wie Sie ihn am 1. März 2026 um
09:00 Uhr verlassen haben. Machen Sie einfach dort weiter, wo Sie
aufgehört haben.

1,5 × Lampe   29,85 €
19,90 € pro Stück
1 × Tisch   1.250,00 €

Summe   1.279,85 €

Zum Warenkorb:
https://shop.example/cart/c1?a=1&b=2

Sie erhalten diese E-Mail, weil Sie mit der Adresse ada@example.com noch
Artikel im Warenkorb bei Tom & Co haben.

Abmelden:
mailto:stop@shop.example?subject=ada%40example.com
";
        let german = written_in(&cart, "de-DE");
        assert_eq!((german.text.as_str(), german.subject.as_str()), (expected, "Sie haben noch etwas im Warenkorb"));
        for tag in ["fr", "es", "it", "nl", "pl", "pt", "pt-PT", "ja", "ar"] {
            let Rendered { subject, html, text } = written_in(&cart, tag);
            assert!(text.contains(&subject) && text.contains("Lampe") && !text.contains("cart at"), "{tag}: {text}");
            assert!(html.contains(&format!("<html lang=\"{tag}\" dir=\"")), "{tag}");
        }
    }

    #[test]
    fn a_language_from_right_to_left_is_mirrored() {
        let cart = cart("EUR", &[("Lamp", 2, "19.90")]);
        let (arabic, english) = (written_in(&cart, "ar").html, written_in(&cart, "en").html);
        for (html, dir, price) in [(arabic, "rtl", "left"), (english, "ltr", "right")] {
            assert!(html.contains(&format!("dir=\"{dir}\" xmlns")), "{html}");
            assert!(
                html.contains(&format!("class=\"page\" dir=\"{dir}\"")) || html.contains(&format!(" dir=\"{dir}\" ")),
                "{html}"
            );
            assert_eq!(html.matches(&format!("align=\"{price}\"")).count(), 2, "{html}");
            assert!(!html.contains("padding-right") && !html.contains("text-align: right"), "{html}");
        }
    }
}
