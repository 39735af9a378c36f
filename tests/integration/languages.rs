//! Languages: each shopper is written to in theirs, where the shop has a letter in it, else in the shop's.

use std::collections::BTreeMap;

use toml::Value;

use crate::support::{Cart, Kind, World, definition, header};

const TAGS: [(&str, &str); 4] = [("at", "de_AT"), ("jp", "ja"), ("se", "sv"), ("no", "")];

fn carts() -> Vec<Cart> {
    TAGS.iter().map(|(id, _)| Cart::of(id).item("A", "Lamp", 1, "1234.50")).collect()
}

/// Gives the carts of the shop a column of languages.
fn tag(world: &World, kind: Kind, tags: &[(&str, &str)]) {
    let tag_of = |id: &str| tags.iter().find(|(cart, _)| *cart == id).map_or("", |(_, tag)| tag);
    if kind == Kind::Sqlite {
        let shop = rusqlite::Connection::open(world.shop()).unwrap();
        let has = shop.prepare("SELECT locale FROM carts").is_ok();
        if !has {
            shop.execute_batch("ALTER TABLE carts ADD COLUMN locale TEXT").unwrap();
        }
        for (id, tag) in tags {
            shop.execute("UPDATE carts SET locale = ?2 WHERE cart_id = ?1", (id, tag)).unwrap();
        }
        return;
    }
    let text = std::fs::read_to_string(world.shop()).unwrap();
    let tagged: Vec<String> = match kind {
        Kind::JsonLines => text
            .lines()
            .map(|line| {
                let mut cart: serde_json::Value = serde_json::from_str(line).unwrap();
                cart["locale"] = tag_of(cart["cart_id"].as_str().unwrap()).into();
                cart.to_string()
            })
            .collect(),
        _ => text
            .lines()
            .enumerate()
            .map(|(at, line)| {
                let id = line.split(',').next().unwrap();
                format!("{line},{}", if at == 0 { "locale" } else { tag_of(id) })
            })
            .collect(),
    };
    std::fs::write(world.shop(), tagged.join("\n") + "\n").unwrap();
}

/// The HTML or text of each message by the local part of its recipient.
fn mails(world: &World) -> BTreeMap<String, String> {
    let outbox = world.outbox().into_iter();
    outbox
        .map(|(_, bytes)| {
            let to = header(&bytes, "To").unwrap();
            let id = to.rsplit('<').next().unwrap().split('@').next().unwrap().to_owned();
            (id, decoded(&bytes))
        })
        .collect()
}

/// A message with its quoted-printable undone.
fn decoded(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message).replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match (first, pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'=', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn every_source_says_the_language_and_each_shopper_is_written_to_in_it() {
    for kind in [Kind::Sqlite, Kind::JsonLines, Kind::Csv] {
        let world = World::new().source(kind).carts(carts()).set("shop.locale", "fr").init();
        tag(&world, kind, &TAGS);
        world.ok(["detect"]).is_silent();
        let mails = mails(&world);
        for (id, words) in [
            ("at", ["Zum Warenkorb", "€\u{a0}1\u{a0}234,50", "lang=\"de-AT\" dir=\"ltr\""]),
            ("jp", ["カートに戻る", "€1,234.50", "lang=\"ja\" dir=\"ltr\""]),
            ("se", ["Revenir à mon panier", "1\u{202f}234,50\u{a0}€", "lang=\"fr\" dir=\"ltr\""]),
            ("no", ["Revenir à mon panier", "1\u{202f}234,50\u{a0}€", "lang=\"fr\" dir=\"ltr\""]),
        ] {
            for word in words {
                assert!(mails[id].contains(word), "{kind:?} {id}: no {word:?} in\n{}", mails[id]);
            }
        }
    }
}

#[test]
fn a_language_that_cannot_be_read_is_told_once_and_the_shops_is_used() {
    let world = World::new().carts(carts()).set("shop.locale", "nl").init();
    tag(&world, Kind::Sqlite, &[("at", "german"), ("jp", "x@example.com")]);
    let told = world.exits(1, ["detect"]);
    told.says("the locale \"german\" is no language tag such as de or pt-BR; such carts are written to in the shop's");
    world.has([("sent", 4)]);
    assert!(mails(&world)["at"].contains("Terug naar je winkelwagen"));
    world.set_now("2026-03-01T12:01:00Z");
    world.ok(["detect"]).is_silent();
    world.ok(["status"]).says("unknown language");
}

#[test]
fn a_translation_beside_the_template_is_taken_and_tried_like_it() {
    let world = World::new().carts(carts()).set("detect.template", "t/cart.html").init();
    tag(&world, Kind::Sqlite, &TAGS);
    std::fs::create_dir_all(world.path("t")).unwrap();
    world.write("t/cart.html", "<p>Base {{ total }} {{ locale }} {{ dir }}</p>");
    world.write("t/cart.de.html", "<p>Deutsch {{ total }} {{ locale }}</p>");
    world.write("t/cart.ar.html", "<p dir=\"{{ dir }}\">{{ nonsense }}</p>");
    world.write("t/cart.old.html", "{{ an editor left this");
    let subject: toml::Table = "de = \"Noch da\"\nen = \"Still yours\"".parse().unwrap();
    world.configure("detect.subject", Value::Table(subject));
    for command in [&["detect"][..], &["detect", "--dry-run"]] {
        world.exits(78, command).says("t/cart.ar.html:1: no such variable or attribute: `nonsense`");
    }
    assert_eq!(world.messages(), []);
    world.write("t/cart.ar.html", "<p>{{ total }");
    world.exits(1, ["doctor"]).says("t/cart.ar.html");
    world.write("t/cart.ar.html", "<p lang=\"{{ locale }}\" dir=\"{{ dir }}\">{{ total }}</p>");
    let shown = world.ok(["preview", "--locale", "ar-EG"]);
    shown.says("Subject: Still yours");
    let html = std::fs::read_to_string(world.path("preview/message.html")).unwrap();
    assert!(html.contains("lang=\"ar-EG\" dir=\"rtl\"") && html.contains('٥'), "{html}");
    world.ok(["preview", "--locale", "sv"]).says("there is no message in sv: this one is in en");
    world.exits(2, ["preview", "--locale", "swedish"]).says("no language tag");
    world.ok(["detect"]);
    let mails = mails(&world);
    assert!(mails["at"].contains("Deutsch €\u{a0}1\u{a0}234,50 de-AT") && mails["at"].contains("Subject: Noch da"));
    for other in ["jp", "se", "no"] {
        assert!(mails[other].contains("Base €1,234.50 en ltr") && mails[other].contains("Subject: Still yours"));
    }
}

#[test]
fn the_file_that_init_writes_speaks_every_language_until_its_words_are_replaced() {
    let world = World::new().carts(carts());
    world.ok(["init", "--rehearsal"]);
    tag(&world, Kind::Sqlite, &TAGS);
    let built_in = crate::docs::page("src/mail/cart.html");
    world.configure("detect.template", "cart.html");
    world.write("cart.html", &built_in);
    world.ok(["preview", "--locale", "pl"]).says("Subject: Twój koszyk na Ciebie czeka");
    // All words are the shop's own now, and in one language.
    let mut own = built_in;
    for word in [
        "title",
        "preview",
        "heading",
        "greeting",
        "lead",
        "code",
        "total",
        "button",
        "no_button",
        "reason",
        "unsubscribe",
    ] {
        own = own.replace(&format!("{{{{ text.{word} }}}}"), "Mine");
    }
    world.write("cart.html", &own);
    world.ok(["preview", "--locale", "pl"]).says("there is no message in pl: this one is in en");
}

#[test]
fn a_campaign_opens_with_its_translations_and_keeps_them() {
    let daily = "every = \"day\"\ntime = \"09:00\"";
    let block = definition("a", daily).replace(
        "subject = \"Hello {{ name }}\"",
        "subject = { de = \"Hallo {{ name }}\", en = \"Hello {{ name }}\" }",
    );
    let world = World::with_campaigns(&block).set("shop.locale", "en").init();
    world.audience("audience.csv", "email,name,locale\nse@example.com,Sven,sv\n");
    world.write("letter.de.html", "<p>Liebe {{ name }}, {{ locale }}, {{ shop.locale }} {{ dir }} {{ nme }}</p>");
    world.ok(["run-campaigns"]);
    world.exits(1, ["run-campaigns", "--dry-run"]).says("letter.de.html:1: no such variable or attribute: `nme`");
    world.campaigns_at("2026-03-02T09:00:00Z", 1).says("letter.de.html").says("if it were in de");
    world.has([]);
    world.audience(
        "audience.csv",
        "email,name,locale\nse@example.com,Sven,sv\nat@example.com,Anna,de_AT\nxx@example.com,Xaver,german\nno@example.com,Noa,\n",
    );
    world.write("letter.de.html", "<p>Liebe {{ name }}, {{ locale }}, {{ shop.locale }} {{ dir }}</p>");
    world
        .ok(["run-campaigns", "--dry-run"])
        .says("1 row with a locale that is no language tag, the first \"german\" in row 3");
    world.ok(["preview", "campaign", "a"]).says("Subject: Hello Sven");
    world.ok(["preview", "campaign", "a", "--locale", "de"]).says("Subject: Hallo Sven");
    // Fixed at the opening: what is edited between planning and sending counts for the next.
    world.configure("mail.file.dir", "not/a/folder");
    std::fs::write(world.path("not"), "a file").unwrap();
    let told = world.campaigns_at("2026-03-02T09:01:00Z", 1);
    told.says("campaign a: 1 row with a locale that is no language tag");
    world.has([("planned", 4)]);
    world.configure("mail.file.dir", "outbox");
    world.write("letter.de.html", "<p>Later</p>");
    world.write("letter.html", "<p>Later</p>");
    world.set_now("2026-03-02T10:30:00Z");
    world.run(["run-campaigns", "--retry-now"]);
    world.has([("sent", 4)]);
    let mails = mails(&world);
    assert!(
        mails["at"].contains("Liebe Anna, de_AT, en ltr") && mails["at"].contains("Subject: Hallo Anna"),
        "{mails:?}"
    );
    assert!(mails["se"].contains("Dear Sven") && mails["se"].contains("Subject: Hello Sven"), "{mails:?}");
    assert!(mails["xx"].contains("Dear Xaver") && mails["no"].contains("Dear Noa"), "{mails:?}");
}
