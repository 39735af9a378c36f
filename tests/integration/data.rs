//! Who is who: what shops write for ids, addresses, times and numbers, and what is made of it.

use rusqlite::Connection;

use crate::support::{Cart, Kind, Plan, Server, World, definition};

const NINE: &str = "every = \"day\"\ntime = \"09:00\"";
const KINDS: [Kind; 3] = [Kind::Sqlite, Kind::JsonLines, Kind::Csv];

/// The recipients of a campaign whose audience is this file.
fn written_to(audience: &[u8], code: i32) -> Vec<String> {
    let server = Server::start(Plan::accepting());
    let world = World::with_campaigns(&definition("daily", NINE)).smtp(&server).init();
    world.ok(["run-campaigns"]);
    std::fs::write(world.path("audience.csv"), audience).unwrap();
    world.touched_before("audience.csv", std::time::Duration::from_secs(60));
    world.campaigns_at("2026-03-02T09:00:00Z", code);
    let mut recipients = server.recipients();
    recipients.sort();
    recipients
}

#[test]
fn guests_who_share_a_word_for_no_user_are_each_written_to() {
    for kind in KINDS {
        let words = ["0", "-1", "NULL", "guest", "Anonymous", " "];
        let carts = words.iter().enumerate().map(|(n, word)| Cart::of(&format!("c{n}")).user(word));
        let world = World::new().source(kind).carts(carts).init();
        world.ok(["detect"]);
        world.has([("sent", words.len())]);
        assert_eq!(world.number("SELECT count(*) FROM cart_abandonment_log WHERE identity GLOB 'e:*'"), 6, "{kind:?}");
        world.set_now("2026-03-01T13:00:00Z");
        world.ok(["detect"]);
        world.has([("sent", words.len())]);
    }
}

#[test]
fn one_user_in_several_spellings_is_written_to_once() {
    for kind in KINDS {
        let carts = ["7", " 7", "7.0", "07"].iter().enumerate().map(|(n, id)| Cart::of(&format!("c{n}")).user(id));
        let world = World::new().source(kind).carts(carts).init();
        world.ok(["detect"]);
        let sent = "SELECT identity FROM message WHERE state = 'sent' ORDER BY identity";
        assert_eq!(world.list(sent), "u:07 u:7", "{kind:?}");
    }
}

#[test]
fn cleanup_and_import_tell_shoppers_apart_as_detect_does() {
    let rows = [
        "'7', NULL, 'x', 1, 1772000000",
        "'7.0', NULL, 'x', 1, 1772000001",
        "' 7', NULL, 'x', 1, 1772000002",
        "'07', NULL, 'x', 1, 1772000003",
        "'0', 'ada@example.com', 'x', 1, 1772000004",
        "'guest', 'Ada <ADA@example.com>', 'x', 1, 1772000005",
        "NULL, '\u{200b}ada@example.com', 'x', 1, 1772000006",
        "'-1', 'bob@example.com', 'x', 1, 1772000007",
        "'0', NULL, 'x', 1, 1772000008",
    ];
    let world = World::new().old_rows(&rows);
    world.ok(["cleanup-duplicates"]).says("4 duplicates moved").says("1 row with neither user nor address left alone");
    world.ok(["add-index", "--rehearsal"]);
    let identities = "SELECT identity FROM cart_abandonment_log ORDER BY id";
    assert_eq!(world.list(identities), "u:7 u:07 e:ada@example.com e:bob@example.com");
    let world = World::new().init();
    let head = "id,user_id,email,cart_hash,email_sent,created_at";
    let row = |(n, row): (usize, &&str)| format!("{n},{}", row.replace(", ", ",").replace('\'', ""));
    let dump = format!("{head}\n{}\n", rows.iter().enumerate().map(row).collect::<Vec<_>>().join("\n"));
    std::fs::write(world.path("dump"), dump).unwrap();
    // One was mailed, and nothing says to whom.
    world.exits(1, ["import", "log", "dump"]).says("8 added").says("1 bad row left out");
    world.ok(["cleanup-duplicates"]);
    assert_eq!(world.list(identities), "u:7 u:07 e:ada@example.com e:bob@example.com");
}

#[test]
fn max_per_cart_follows_a_guest_who_logs_in() {
    let server = Server::start(Plan::accepting());
    let world = World::new().smtp(&server).set("detect.max_age", "500h").cart(Cart::of("c1")).init();
    for day in 1..=3 {
        world.set_now(&format!("2026-03-0{day}T12:00:00Z"));
        world.ok(["detect"]);
    }
    assert_eq!(server.final_dots(), 3);
    world.change("c1", |cart| cart.user("5"));
    for day in 4..=6 {
        world.set_now(&format!("2026-03-0{day}T12:00:00Z"));
        world.ok(["-v", "detect"]).says("max_per_cart reached");
    }
    assert_eq!(server.final_dots(), 3, "logging in began a new count");
}

#[test]
fn what_a_dry_run_would_send_the_run_sends_whatever_the_spelling_of_the_time() {
    let spellings = [
        "2026-3-1 8:00:00",
        "2026-03-1 8:00",
        "2026-3-01T08:00:00Z",
        "Sun, 01 Mar 2026 08:00:00 +0000",
        " 2026-03-01 08:00",
        "1772352000",
        "1772352000123",
        "1772352000.25",
    ];
    let carts = || spellings.iter().enumerate().map(|(n, at)| Cart::of(&format!("c{n}")).updated(at));
    for with_query in [false, true] {
        let mut world = World::new().carts(carts());
        if with_query {
            let query = "SELECT c.*, NULL AS ordered_at, i.sku, i.name AS item_name, i.quantity, i.unit_price
                FROM carts c JOIN cart_items i USING (cart_id)
                WHERE CAST(c.updated_at AS REAL) > 3000 OR NOT c.updated_at GLOB '2*'
                   OR (c.updated_at >= :not_before AND c.updated_at <= :idle_before)";
            world = world.set("source.carts", query);
        }
        let world = world.init();
        let dry = world.ok(["detect", "--dry-run"]);
        dry.says(&format!("would send {}", spellings.len()));
        let ran = world.ok(["-v", "detect"]);
        let sent = world.list("SELECT cart_id FROM message WHERE state = 'sent' ORDER BY cart_id");
        assert_eq!(sent, "c0 c1 c2 c3 c4 c5 c6 c7", "{with_query}: {ran}");
    }
}

#[test]
fn a_mail_of_an_older_version_is_known_by_the_names_it_wrote() {
    let decomposed = "jo\u{308}rg@example.com";
    for (identity, email, cart) in [
        (format!("e:{decomposed}"), decomposed, Cart::of("c1").email(decomposed)),
        (
            "e:\u{200b}ada@example.com".into(),
            "\u{200b}ada@example.com",
            Cart::of("c1").email("\u{200b}ada@example.com"),
        ),
        ("u: 7".into(), "other@example.com", Cart::of("c1").user(" 7")),
        ("u:7.0".into(), "other@example.com", Cart::of("c1").user("7.0")),
        ("u:0".into(), "c1@example.com", Cart::of("c1").user("0")),
    ] {
        let world = World::new().cart(cart).init();
        world.by_hand(&format!(
            "INSERT INTO cart_abandonment_log (identity, email, cart_hash, created_at, email_sent, origin)
             VALUES ('{identity}', '{email}', 'md5', '2026-03-01T09:00:00Z', 1, 'import')"
        ));
        world.ok(["detect"]);
        assert_eq!(world.number("SELECT count(*) FROM message"), 0, "{identity} is written to again");
    }
}

#[test]
fn an_opt_out_that_an_older_version_listed_holds() {
    let decomposed = "jo\u{308}rg@example.com";
    let listed =
        format!("INSERT INTO suppression VALUES ('{decomposed}', 'asked', '2026-01-01T00:00:00Z', 'person', '')");
    let world = World::new().cart(Cart::of("c1").email(decomposed)).init();
    world.by_hand(&listed);
    world.ok(["detect"]);
    assert_eq!(world.number("SELECT count(*) FROM message"), 0);
    let server = Server::start(Plan::accepting());
    let world = World::with_campaigns(&definition("daily", NINE)).smtp(&server).init();
    world.by_hand(&listed);
    world.ok(["run-campaigns"]);
    world.audience("audience.csv", &format!("email,name\n{decomposed},J\nada@example.com,A\n"));
    world.campaigns_at("2026-03-02T09:00:00Z", 0);
    assert_eq!(server.recipients(), ["ada@example.com"]);
    world.ok(["suppress", "remove", decomposed]);
    assert_eq!(world.number("SELECT count(*) FROM suppression"), 0);
}

#[test]
fn an_audience_names_one_mailbox_once() {
    let text = "email,name\nj\u{f6}rg@example.com,A\njo\u{308}rg@example.com,B\n\u{feff}ada@example.com,C\n\
        Ada <ada@example.com>,D\n\"\"\"a..b\"\"@example.com\",E\nada\u{200b}@example.com,F\n\"\"\"ada\"\"@example.com\",G\n";
    assert_eq!(written_to(text.as_bytes(), 0), ["\"a..b\"@example.com", "ada@example.com", "j\u{f6}rg@example.com"]);
    let wrong =
        "email,name\nada@example.com,A\n\"bob@example.com, cid@example.com\",B\n*@example.com,C\na..b@example.com,D\n";
    assert_eq!(written_to(wrong.as_bytes(), 1), ["ada@example.com"]);
}

#[test]
fn a_stray_quote_costs_an_audience_one_row() {
    let mut rows: Vec<String> = (0..60).map(|n| format!("a{n}@example.com,A{n}")).collect();
    rows[3] = "a3@example.com,\"Ada".into();
    rows[50] = "a50@example.com,Bob \"the builder\" B".into();
    let recipients = written_to(format!("email,name\n{}\n", rows.join("\n")).as_bytes(), 1);
    assert_eq!(recipients.len(), 59);
    assert!(!recipients.contains(&"a3@example.com".to_owned()));
}

#[test]
fn carts_in_utf_16_with_tabs_are_read_and_looked_at_again() {
    let server = Server::start(Plan::accepting());
    let world =
        World::new().source(Kind::Csv).smtp(&server).carts([Cart::of("c1"), Cart::of("c2").name("Jörg")]).init();
    let text = std::fs::read_to_string(world.shop()).unwrap().replace(',', "\t").replace("email", "E-Mail");
    let utf16: Vec<u8> = [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    std::fs::write(world.shop(), utf16).unwrap();
    world.ok(["detect"]);
    assert_eq!(server.final_dots(), 2);
    world.has([("sent", 2)]);
}

#[test]
fn half_of_a_cart_is_not_taken_for_all_of_it() {
    let carts = [Cart::of("c1").item("A", "Lamp", 1, "1").item("B", "Vase", 1, "2"), Cart::of("c2"), Cart::of("c3")];
    let world = World::new().source(Kind::Csv).carts(carts).init();
    let text = std::fs::read_to_string(world.shop()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // The second row of c1 to the end.
    let moved = [lines[0], lines[1], lines[3], lines[4], lines[2]].join("\n");
    std::fs::write(world.shop(), moved + "\n").unwrap();
    world.exits(1, ["detect"]).says("carts.csv:5: duplicate cart_id: the rows of one cart have to stand together");
    world.has([("sent", 2)]);
    assert!(world.messages_of("c1").is_empty());
}

#[test]
fn quantities_and_prices_as_databases_keep_them() {
    for kind in KINDS {
        let world = World::new().source(kind).cart(Cart::of("c1").item("A", "Oil", 100, "0.495")).init();
        if kind == Kind::Sqlite {
            let shop = Connection::open(world.shop()).unwrap();
            let lines = "INSERT INTO cart_items (cart_id, sku, name, quantity, unit_price)
                VALUES ('c1', 'B', 'Tomatoes', '1.5', '4.2000'), ('c1', 'C', 'Bulb', 0, '2.00')";
            shop.execute(lines, []).unwrap();
        }
        world.ok(["detect"]);
        let value = if kind == Kind::Sqlite { "55.80" } else { "49.50" };
        assert_eq!(world.list("SELECT cart_value FROM cart_abandonment_log"), value, "{kind:?}");
    }
}

#[test]
fn names_that_a_shop_keeps_as_html_are_shown_as_they_read() {
    let cart =
        || Cart::of("c1").name("O&#39;Neil").item("A", "Salt &amp; Pepper &#8211; &lt;Set&gt; &amp;amp;", 1, "5");
    for (html_names, expected) in [(true, "1 × Salt & Pepper – <Set> &amp;"), (false, "1 × Salt &amp; Pepper &#8211;")]
    {
        let world = World::new().set("source.html_names", html_names).cart(cart()).init();
        world.ok(["preview", "c1", "--out", "shown"]);
        let text = std::fs::read_to_string(world.path("shown/message.txt")).unwrap();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_spreadsheet_runs_nothing_of_what_is_exported() {
    let server = Server::start(Plan::accepting());
    let world = World::with_campaigns(&definition("daily", NINE)).smtp(&server).init();
    world.ok(["run-campaigns"]);
    world.audience(
        "audience.csv",
        "email,name\n=cmd|'/Ccalc'!A0@example.com,A\n+1+1@example.com,B\n-1@example.com,C\nada@example.com,D\n",
    );
    world.campaigns_at("2026-03-02T09:00:00Z", 0);
    let csv = world.ok(["campaign", "show", "daily", "--csv"]).stdout;
    let mut first: Vec<char> = csv.lines().skip(1).filter_map(|line| line.chars().next()).collect();
    first.sort_unstable();
    assert_eq!(first, ['\'', '\'', '\'', 'a'], "{csv}");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = world.command(["campaign", "show", "daily", "--csv"]).stdout(full).output().unwrap();
    assert_eq!(ended.status.code(), Some(74), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn both_a_page_and_a_mailbox_may_take_an_unsubscription() {
    let links = vec!["https://shop.example/u?e={email}", "mailto:stop@shop.example"];
    let world = World::new().set("mail.unsubscribe", links).cart(Cart::of("c1")).init();
    world.ok(["detect"]);
    let mail = String::from_utf8(world.outbox().remove(0).1).unwrap().replace("\r\n ", " ");
    let header = "List-Unsubscribe: <https://shop.example/u?e=c1%40example.com>, <mailto:stop@shop.example>\r\n";
    assert!(mail.contains(header) && mail.contains("List-Unsubscribe-Post"), "{mail}");
    let two_pages = vec!["https://shop.example/u", "https://shop.example/v"];
    world.configure("mail.unsubscribe", two_pages);
    world.exits(78, ["status"]).says("more than one page");
}

#[test]
fn schedules_in_json_may_have_a_byte_order_mark_or_be_in_utf_16() {
    let json = "\u{feff}[{\"campaign_id\":\"a\",\"schedule_time\":\"2026-04-01T09:00:00\"}]";
    let utf16 = json.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for bytes in [json.as_bytes().to_vec(), utf16] {
        let world = World::new().init();
        std::fs::write(world.path("s.json"), bytes).unwrap();
        world.exits(1, ["import", "schedules", "s.json"]).says("1 campaign imported");
    }
}

#[test]
fn a_query_of_orders_that_compares_times_as_texts_misses_none() {
    for (order, zone, mails) in [
        ("2026-03-01 07:30:00", "UTC", 0),
        ("2026-03-01T07:30:00Z", "UTC", 0),
        ("2026-03-01 08:30:00", "Europe/Berlin", 0),
        ("2026-03-01T07:30:00Z", "Europe/Berlin", 0),
        ("2026-03-01 02:30:00", "America/New_York", 0),
        ("2026-02-28 07:30:00", "UTC", 1),
        ("2026-03-01 06:30:00", "UTC", 1),
    ] {
        let server = Server::start(Plan::accepting());
        let cart = Cart::of("c1").email("ada@example.com").created("2026-03-01T07:00:00Z");
        let world = World::new()
            .smtp(&server)
            .cart(cart)
            .set("source.timezone", zone)
            .set("source.ordered", "SELECT 1 FROM orders WHERE email = :email AND created_at >= :since")
            .init();
        let shop = Connection::open(world.shop()).unwrap();
        shop.execute(
            "INSERT INTO orders (cart_id, email, created_at) VALUES ('other', 'ada@example.com', ?1)",
            [order],
        )
        .unwrap();
        world.ok(["detect"]);
        assert_eq!(server.accepted().len(), mails, "{order} {zone}");
    }
}
