//! `preview`: a message as files to look at.

use crate::support::{Cart, World};

fn read(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.path(name)).unwrap_or_else(|err| panic!("{name}: {err}"))
}

#[test]
fn an_example_needs_neither_ledger_nor_shop() {
    let world = World::new();
    std::fs::remove_file(world.shop()).unwrap();
    let ran = world.ok(["preview"]);
    ran.says("Subject: You left something behind").says("preview/message.html");
    for (name, text) in [("html", "Desk lamp, brass"), ("txt", "€52.30"), ("eml", "Message-ID: <")] {
        assert!(read(&world, &format!("preview/message.{name}")).contains(text), "{name}");
    }
    assert!(!world.ledger_file().exists() && !world.path("outbox").exists(), "it leaves nothing else");
}

#[test]
fn a_cart_of_the_shop_is_rendered_with_its_own_contents() {
    let cart = Cart::of("c1").name("Ada & <b>Co</b>").item("X", "Lamp \"x\"", 3, "7.00");
    let world = World::new().cart(cart).set("detect.subject", "{{ name }}: {{ total }}");
    let json = world.ok(["preview", "c1", "--out", "a/b", "--json"]).json();
    assert_eq!(json["subject"], "Ada & <b>Co</b>: €21.00");
    assert_eq!(json["files"].as_array().unwrap().len(), 3);
    let html = read(&world, "a/b/message.html");
    assert!(html.contains("€21.00") && !html.contains("<b>Co</b>"), "{html}");
    world.exits(65, ["preview", "nowhere"]).says("the shop has no cart \"nowhere\"");
    world.put(Cart::of("bad").currency("EURO"));
    world.exits(65, ["preview", "bad"]).says("shop.db: cart bad: the currency");
}

#[test]
fn the_shops_logo_and_address_stand_in_both_parts_and_in_templates_of_ones_own() {
    let world = World::new().cart(Cart::of("c1")).init();
    world.ok(["preview"]);
    assert!(!read(&world, "preview/message.html").contains("<img"), "no logo, and no picture of any item");
    world.configure("shop.name", "Lamps & Co");
    world.configure("shop.logo", "https://shop.example/logo.png?a=1&b=2");
    world.configure("shop.address", "\n  Lamps & Co  \n\n1 Lamp Street\nLondon\n");
    world.configure("shop.locale", "en_gb");
    world.ok(["preview"]);
    let html = read(&world, "preview/message.html");
    let lines = "Lamps &amp; Co</span><br><span dir=\"auto\">1 Lamp Street</span><br>";
    let logo = "src=\"https://shop.example/logo.png?a=1&amp;b=2\" alt=\"Lamps &amp; Co\"";
    assert!(html.contains(logo) && html.contains(lines), "{html}");
    let text = read(&world, "preview/message.txt");
    assert!(text.starts_with("Lamps & Co\n\n") && text.ends_with("\nLamps & Co\n1 Lamp Street\nLondon\n"), "{text}");
    std::fs::write(world.path("t.html"), "{{ shop.logo }} {{ shop.address }} {{ shop.locale }}").unwrap();
    world.configure("detect.template", "t.html");
    world.ok(["preview"]);
    let text = read(&world, "preview/message.txt");
    assert_eq!(text, "https://shop.example/logo.png?a=1&b=2 Lamps & Co 1 Lamp Street London\nen-GB\n");
}

#[test]
fn the_dark_mode_of_ones_own_template_wins_over_what_was_inlined() {
    let world = World::new().init();
    let spring = crate::docs::page("examples/templates/spring.html");
    assert!(spring.contains("@media (prefers-color-scheme: dark)") && !spring.contains("!important"));
    // The campaign's words are none of a cart's.
    let template = spring.replace("{% if favourite %}", "{% if false %}");
    std::fs::write(world.path("spring.html"), template).unwrap();
    world.configure("detect.template", "spring.html");
    world.ok(["preview"]);
    let html = read(&world, "preview/message.html");
    assert!(html.contains("<div class=\"card\" style=\"") && html.contains("background: #ffffff;"), "{html}");
    assert!(html.contains(".card { background: #21201c !important; }"), "{html}");
    assert!(!html.contains("<img"), "{html}");
}

#[test]
fn a_wrong_template_is_named_with_its_line_and_stops_detect_before_it_plans() {
    let world = World::new().cart(Cart::of("c1")).set("detect.template", "t.html").init();
    let before = world.report_of_ledger();
    for (template, named) in [
        ("<p>\n{% if %}", "t.html:2: "),
        ("<p>\n{{ nmae }}", "t.html:2: no such variable or attribute: `nmae`"),
        ("{% include 'x' %}", "t.html:1: "),
    ] {
        std::fs::write(world.path("t.html"), template).unwrap();
        for command in [&["preview"][..], &["detect"], &["detect", "--dry-run"]] {
            let ran = world.exits(78, command);
            assert!(ran.stderr.contains(named) && ran.stderr.contains("\n next: "), "{ran}");
        }
    }
    std::fs::remove_file(world.path("t.html")).unwrap();
    world.exits(78, ["detect"]).says("could not read the template");
    world.configure("detect.template", "mailonce.db");
    world.exits(78, ["detect"]).says("save the template as UTF-8");
    std::fs::write(world.path("t.html"), "<p>{{ name }}</p>").unwrap();
    world.configure("detect.template", "t.html");
    world.configure("detect.subject", "{{ nmae }}");
    world.exits(78, ["detect"]).says("subject of");
    assert_eq!(world.messages(), [], "{before}");
    world.configure("detect.subject", "Hello {{ name }}");
    world.ok(["detect"]).is_silent();
    world.has([("sent", 1)]);
}

#[test]
fn a_message_that_alone_cannot_be_rendered_calls_a_person() {
    let carts = [Cart::of("c1"), Cart::of("c2").user("u2").name("Ada").item("B", "x", 1, "1")];
    let world =
        World::new().carts(carts).set("detect.subject", "{% if name == \"Ada\" %}{{ nmae }}{% else %}Hi{% endif %}");
    let world = world.init();
    let ran = world.exits(1, ["detect"]);
    assert!(ran.stderr.starts_with("1 message refused: cart u2_") && ran.stderr.contains("nmae"), "{ran}");
    assert!(!ran.output().contains('@'), "{ran}");
    world.has([("refused", 1), ("sent", 1)]);
    world.set_now("2026-03-01T12:01:00Z");
    world.ok(["detect"]).is_silent();
}
