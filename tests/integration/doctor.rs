//! `doctor`: what is wrong with a set-up, each with its remedy; it sends nothing and changes nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use toml::Value;

use crate::dkim::signing;
use crate::support::{Act, Cart, Kind, Plan, Ran, Server, Stage, World, definition, header};

fn accepting() -> Server {
    Server::start(Plan::accepting())
}

fn sound(server: &Server) -> World {
    let world = World::new().cart(Cart::of("c1")).smtp(server).init();
    world.ok(["detect"]);
    world
}

/// The findings of `--json`: level and check of those that are not ok, and the texts.
fn findings(ran: &Ran) -> Vec<(String, String, String)> {
    let json = ran.json();
    let text = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let all = json["findings"].as_array().unwrap().iter();
    for finding in all.clone() {
        assert_eq!(text(finding, "level") == "ok", text(finding, "remedy").is_empty(), "{finding}");
    }
    all.filter(|finding| finding["level"] != "ok")
        .map(|finding| (text(finding, "level"), text(finding, "check"), text(finding, "what")))
        .collect()
}

#[track_caller]
fn finds(world: &World, level: &str, check: &str, what: &str) {
    let code = i32::from(level == "fail");
    let ran = world.exits(code, ["doctor", "--json"]);
    let found = findings(&ran);
    let is_there = found.iter().any(|finding| finding.0 == level && finding.1 == check && finding.2.contains(what));
    assert!(is_there, "{level} {check} {what:?} in {found:#?}");
    let prose = world.exits(code, ["doctor"]);
    prose.says("remedy: ").says(what);
}

#[test]
fn a_sound_set_up_fails_nothing_and_nothing_is_sent_or_written() {
    let server = Server::start(Plan::accepting().auth("shop", "open sesame").starttls());
    let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
    std::fs::write(world.path("password"), "open sesame\n").unwrap();
    std::fs::set_permissions(world.path("password"), PermissionsExt::from_mode(0o600)).unwrap();
    world.configure("mail.smtp.username", "shop");
    world.configure("mail.smtp.password_file", "password");
    world.configure("mail.smtp.host", "localhost");
    let world = meeting_the_rules(world);
    world.configure("mail.limits.per_second", 10);
    world.configure("shop.name", "Lamps");
    world.configure("mail.from", "Lamps <lamps@shop.example>");
    world.ok(["unsubscribe", "rotate"]);
    world.ok(["detect"]);
    let before = (world.report_of_ledger(), server.accepted().len(), server.reached(Stage::Mail));
    let ran = world.ok(["doctor"]);
    ran.says("TLS, AUTH accepted").says("nothing was sent").says("the cart message can be rendered");
    assert!(!ran.output().contains("warn") && !ran.output().contains("sesame"), "{ran}");
    assert_eq!((world.report_of_ledger(), server.accepted().len(), server.reached(Stage::Mail)), before);
}

#[test]
fn a_server_that_cannot_be_used_is_found() {
    for plan in [
        Plan::accepting().at(Stage::Banner, Act::Code(554)),
        Plan::accepting().at(Stage::Ehlo, Act::Code(550)),
        Plan::accepting().at(Stage::Connect, Act::Close),
    ] {
        let good = accepting();
        let world = sound(&good);
        let bad = Server::start(plan);
        world.send_to(&bad);
        finds(&world, "fail", "server", &format!("127.0.0.1:{}", bad.port()));
    }
    let server = Server::start(Plan::accepting().auth("shop", "right").starttls());
    let world = World::new().smtp(&server).env("PASSWORD", "wrong-password").init();
    world.configure("mail.smtp.host", "localhost");
    world.configure("mail.smtp.username", "shop");
    world.configure("mail.smtp.password_env", "PASSWORD");
    finds(&world, "fail", "server", "AUTH");
    assert!(!world.exits(1, ["doctor"]).output().contains("wrong-password"));
}

#[test]
fn the_indexes_that_a_large_shop_lacks_are_named_and_help() {
    let server = accepting();
    let world = sound(&server);
    let shop = rusqlite::Connection::open(world.shop()).unwrap();
    let number = |from: u32, to: u32| {
        format!("WITH RECURSIVE row (n) AS (SELECT {from} UNION ALL SELECT n + 1 FROM row WHERE n < {to})")
    };
    let missing = || {
        let json = world.ok(["doctor", "--json"]).json();
        let source = json["findings"].as_array().unwrap().iter().find(|found| found["check"] == "source").cloned();
        source.unwrap()["remedy"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(missing(), "", "a small shop needs none");
    shop.execute_batch(&format!(
        "{} INSERT INTO carts (cart_id, updated_at) SELECT 'old' || n, '2020-01-01T00:00:00Z' FROM row;
         {} INSERT INTO orders (order_id, created_at) SELECT n, '2020-01-01T00:00:00Z' FROM row;",
        number(1, 10_000),
        number(1, 9_999),
    ))
    .unwrap();
    assert_eq!(missing(), "let the shop run: CREATE INDEX carts_updated_at ON carts (updated_at)");
    shop.execute_batch(&format!("{} INSERT INTO orders (order_id) SELECT n FROM row", number(10_000, 10_001))).unwrap();
    let remedy = missing();
    assert_eq!(remedy.matches("CREATE INDEX").count(), 4, "{remedy}");
    // On the time only this order of texts serves.
    shop.execute_batch("CREATE INDEX other ON carts (updated_at COLLATE NOCASE)").unwrap();
    assert_eq!(missing(), remedy);
    shop.execute_batch(remedy.strip_prefix("let the shop run: ").unwrap()).unwrap();
    assert_eq!(missing(), "");
}

#[test]
fn each_hole_in_the_set_up_is_named_with_its_remedy() {
    let server = accepting();
    let world = sound(&server);
    finds(&world, "warn", "mail", "share one envelope sender");
    finds(&world, "warn", "mail", "no limit is set");

    std::fs::set_permissions(world.ledger_file(), PermissionsExt::from_mode(0o644)).unwrap();
    finds(&world, "fail", "permissions", "mode 0644");
    std::fs::set_permissions(world.ledger_file(), PermissionsExt::from_mode(0o600)).unwrap();

    std::fs::rename(world.shop(), world.path("gone")).unwrap();
    finds(&world, "fail", "source", "shop.db");
    std::fs::rename(world.path("gone"), world.shop()).unwrap();

    std::fs::write(world.path("cart.html"), "{{ no_such_thing }}").unwrap();
    world.configure("detect.template", "cart.html");
    finds(&world, "fail", "template", "no_such_thing");
    std::fs::write(world.path("cart.html"), "<p>x</p>").unwrap();

    let definition = "[[campaign]]\nid = \"spring\"\nsubject = \"x\"\ntemplate = \"cart.html\"\naudience = \"nobody.csv\"\nevery = \"day\"\ntime = \"09:00\"\n";
    std::fs::write(world.path("campaigns.toml"), definition).unwrap();
    finds(&world, "warn", "campaigns", "could not read the audience");
    finds(&world, "warn", "cron", "`mailonce run-campaigns` has never");
    std::fs::write(world.path("campaigns.toml"), definition.replace("every", "evry")).unwrap();
    finds(&world, "fail", "campaigns", "evry");
    std::fs::remove_file(world.path("campaigns.toml")).unwrap();

    world.set_now("2026-03-01T12:10:01Z");
    finds(&world, "warn", "cron", "10 minutes ago");
    world.ok(["doctor", "--expect-every", "1h", "--json"]);
    world.ok(["detect"]);
    let fresh = findings(&world.ok(["doctor", "--json"]));
    assert!(fresh.iter().all(|finding| finding.1 != "cron"), "an idle run is a good one: {fresh:?}");

    world.set_now("2026-03-01T10:00:00Z");
    finds(&world, "fail", "clock", "the clock says 2026-03-01T10:00:00Z");
    world.configure("detect.idle", "soon");
    finds(&world, "fail", "configuration", "idle");
}

#[test]
fn a_lost_ledger_and_an_old_copy_are_found() {
    let server = accepting();
    let world = sound(&server);
    let ledger = rusqlite::Connection::open(world.ledger_file()).unwrap();
    ledger.execute("UPDATE ledger SET epoch = 0", []).unwrap();
    drop(ledger);
    finds(&world, "fail", "lock", "older than its lock file remembers");
    std::fs::remove_file(world.ledger_file()).unwrap();
    finds(&world, "fail", "ledger", "there is no ledger");
}

#[test]
fn what_waits_for_a_person_is_brought_up() {
    let server = Server::start(Plan::accepting().at(Stage::Taken, Act::Close));
    let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
    world.exits(1, ["detect"]);
    world.set_now("2026-03-02T12:00:01Z");
    let good = accepting();
    world.send_to(&good);
    finds(&world, "warn", "in doubt", "1 message in doubt");
    world.put(Cart::of("bad").currency("EURO").updated("2026-03-02T10:00:00Z"));
    world.exits(1, ["detect"]);
    finds(&world, "warn", "open issues", "1 open issue");
}

#[test]
fn a_run_under_way_is_no_trouble_and_the_outbox_is_looked_at() {
    let server = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Hang));
    let world = World::new().cart(Cart::of("c1")).smtp(&server).init();
    let run = world.spawn(["detect"]);
    server.wait_for(Stage::Rcpt, 1);
    world.ok(["doctor"]).says(&format!("pid={}", run.id()));
    server.release();
    world.check(run.wait(), 0);
    let files = World::new().source(Kind::JsonLines).init();
    files.ok(["doctor"]).says("outbox can be written");
}

/// A shop with own tables, its times in columns of a type (`at TEXT`) or none (`at`): one basket, and one purchase of its
/// shopper an hour before it was touched.
fn own_tables(server: &Server, times: &str, at: &str, purchase: &str) -> World {
    let world = World::new().smtp(server);
    let shop = rusqlite::Connection::open(world.path("shop.db")).unwrap();
    let (touched, bought) = match times {
        "unix" => ("1772352000", "1772348400"),
        _ => ("'2026-03-01 08:00:00'", "'2026-03-01 07:00:00'"),
    };
    shop.execute_batch(&format!(
        "CREATE TABLE basket (id, mail, {at}); CREATE TABLE purchase (mail, {at});
         INSERT INTO basket VALUES (1, 'ada@example.com', {touched}); INSERT INTO purchase VALUES ('ada@example.com', {bought});"
    ))
    .unwrap();
    let end = if times == "unix" { "_unix" } else { "" };
    let carts = format!(
        "SELECT id AS cart_id, id AS user_id, mail AS email, 'EUR' AS currency, at AS updated_at, NULL AS recovery_url, 1 AS \
         consent, 'A' AS sku, 'Lamp' AS item_name, 1 AS quantity, '1.00' AS unit_price FROM basket \
         WHERE at >= :not_before{end} AND at <= :idle_before{end}"
    );
    world
        .set("source.carts", carts)
        .set("source.ordered", format!("SELECT 1 FROM purchase WHERE mail = :email AND {purchase}"))
        .init()
}

#[test]
fn a_query_that_compares_times_with_the_wrong_kind_of_parameter_is_found() {
    let server = accepting();
    let never = "has orders that `source.ordered` never finds";
    let always = "finds orders by `source.ordered` however old they are";
    for (times, at, purchase, what) in [
        ("unix", "at", "at >= :since", never),
        ("unix", "at INTEGER", "at >= :since", never),
        ("text", "at", "at >= :since_unix", always),
        ("text", "at TEXT", "at >= :since_unix", always),
    ] {
        finds(&own_tables(&server, times, at, purchase), "warn", "source", what);
    }
    for (times, purchase) in
        [("unix", "at >= :since_unix"), ("text", "at >= :since"), ("text", "datetime(at) >= datetime(:since)")]
    {
        let world = own_tables(&server, times, "at", purchase);
        world.ok(["doctor"]).says("SQLite shop.db has what carts are read from").says("1 of 1 ordered");
    }
    for (times, at, from, to) in [
        ("unix", "at", "_before_unix", "_before"),
        ("unix", "at INTEGER", "_before_unix", "_before"),
        ("text", "at", "_before", "_before_unix"),
        ("text", "at TEXT", "_before", "_before_unix"),
    ] {
        let world = own_tables(&server, times, at, "0");
        let text = std::fs::read_to_string(world.path("mailonce.toml")).unwrap();
        let wrong =
            text.replace(&format!("t{from} "), &format!("t{to} ")).replace(&format!("e{from}"), &format!("e{to}"));
        assert_ne!(text, wrong);
        world.write("mailonce.toml", &wrong);
        finds(&world, "warn", "source", "has carts that `source.carts` never finds");
        finds(&world, "warn", "carts", "no cart was touched");
    }
}

#[test]
fn a_shop_of_which_no_row_can_be_used_is_found_with_the_first() {
    let server = accepting();
    let world = own_tables(&server, "unix", "at", "at >= :since_unix");
    let text = std::fs::read_to_string(world.path("mailonce.toml")).unwrap();
    world.write("mailonce.toml", &text.replace("1 AS consent", "'ja' AS consent"));
    let what = "none can be used: 1 bad row, the first: the consent \"ja\" is neither true nor false (write 1 or 0)";
    finds(&world, "warn", "carts", what);
}

const PAGE: &str = "https://shop.example/u?a=1&t={unsubscribe}";
const MAILBOX: &str = "mailto:stop@shop.example?subject={unsubscribe}";

/// With all that large providers ask for, as far as a configuration has it.
fn meeting_the_rules(world: World) -> World {
    for folder in ["spool", "bounces"] {
        std::fs::create_dir(world.path(folder)).unwrap();
    }
    signing(world, "test_key.pem")
        .set("mail.unsubscribe", Value::from(vec![PAGE, MAILBOX]))
        .set("mail.envelope", "bounce+{id}-{token}@shop.example")
        .set("mail.feedback_sender", "shopexample")
        .set("unsubscribe.spool", "spool")
        .set("bounces.maildir", "bounces")
        .set("shop.address", "Lamps & Co\n1 Lamp Street\nLondon")
}

/// The rules for bulk senders: how each stands, at which level, and why.
fn rules(ran: &Ran) -> BTreeMap<String, (String, String, String)> {
    let json = ran.json();
    let text = |rule: &serde_json::Value, key: &str| rule[key].as_str().unwrap_or_default().to_owned();
    let rules = json["bulk_senders"].as_array().unwrap().iter();
    let rules = rules.map(|rule| {
        let stands = text(rule, "stands");
        assert!(["met", "not met", "not visible from here"].contains(&stands.as_str()), "{rule}");
        assert_eq!(["warn", "fail"].contains(&&*text(rule, "level")), !text(rule, "remedy").is_empty(), "{rule}");
        (text(rule, "rule"), (stands, text(rule, "level"), text(rule, "detail")))
    });
    rules.collect()
}

/// A rule stands so, in JSON and in prose.
#[track_caller]
fn stands(world: &World, rule: &str, stands: &str, level: &str, detail: &str) {
    let all = rules(&world.run(["doctor", "--json"]));
    let found = all.get(rule).unwrap_or_else(|| panic!("no {rule} in {all:#?}"));
    assert!(found.0 == stands && found.1 == level && found.2.contains(detail), "{rule}: {found:?}");
    let word = if level == "fail" { "FAIL" } else { level };
    world.run(["doctor"]).says(&format!("{word:<4}  {stands:<21}  {rule}: {}", found.2));
}

#[test]
fn what_large_providers_ask_for_stands_rule_by_rule() {
    let server = Server::start(Plan::accepting().starttls());
    let world = meeting_the_rules(World::new().smtp(&server)).set("mail.smtp.host", "localhost").init();
    let met = [
        "DKIM signature",
        "own domain",
        "answers",
        "one-click unsubscribe",
        "unsubscribe by mail",
        "unsubscribes are heard",
        "unsubscribe link in the message",
        "postal address",
        "List-Id",
        "form of messages",
        "Feedback-ID",
        "bounces and complaints are heard",
        "TLS",
    ];
    let found = rules(&world.ok(["doctor", "--json"]));
    for (rule, (stands, level, _)) in &found {
        let expected = if met.contains(&rule.as_str()) { ("met", "ok") } else { ("not visible from here", "") };
        assert_eq!((stands.as_str(), level.as_str()), expected, "{rule}");
    }
    let not_visible = [
        ("SPF", "of shop.example"),
        ("DMARC policy", "_dmarc.shop.example"),
        ("spam rate", "0 complaints of 0 messages"),
        ("name of the sending server", "PTR"),
    ];
    assert_eq!(found.len(), met.len() + not_visible.len(), "{found:#?}");
    for (rule, detail) in
        not_visible.into_iter().chain([("DKIM signature", "the TXT record m1._domainkey.shop.example")])
    {
        assert!(found[rule].2.contains(detail), "{rule}: {found:#?}");
    }
    let ran = world.ok(["doctor"]);
    ran.says("bulk senders: what Gmail").says("`mailonce doctor --received FILE`");
    let warned = |world: &World| world.ok(["doctor", "--json"]).json()["warned"].as_u64().unwrap();
    let before = warned(&world);

    for (links, stand, level, detail) in [
        (vec![], "not met", "warn", "no List-Unsubscribe"),
        (vec![MAILBOX], "not met", "warn", "but no page"),
        (vec!["http://shop.example/u?t={unsubscribe}"], "not met", "warn", "not https"),
        (vec!["https://shop.example/u?t={email}", MAILBOX], "not met", "warn", "holds the address"),
        (vec!["https://shop.example/u?t={token}", MAILBOX], "met", "warn", "not signed"),
        (vec!["https://shop.example/u", MAILBOX], "not met", "warn", "the same for everyone"),
    ] {
        world.configure("mail.unsubscribe", links.clone());
        stands(&world, "one-click unsubscribe", stand, level, detail);
        let by_mail = if links.contains(&MAILBOX) { ("met", "ok") } else { ("not met", "warn") };
        stands(&world, "unsubscribe by mail", by_mail.0, by_mail.1, "mailbox");
    }
    assert_eq!(warned(&world), before + 1);
    world.configure("mail.unsubscribe", Value::from(Vec::<String>::new()));
    stands(&world, "unsubscribe link in the message", "not met", "warn", "no link");

    let heard = "unsubscribes are heard";
    world.configure("mail.unsubscribe", vec![MAILBOX]);
    let world = world.unset("unsubscribe.spool");
    stands(&world, heard, "met", "ok", "mailonce bounces");
    let world = world.unset("bounces.maildir");
    stands(&world, heard, "not met", "warn", "a person must");
    stands(&world, "bounces and complaints are heard", "not met", "warn", "nothing reads them");
    world.configure("mail.unsubscribe", vec![PAGE, MAILBOX]);
    stands(&world, heard, "not met", "warn", "nothing hears the clicks");
    world.configure("unsubscribe.file", "opt-outs.csv");
    stands(&world, heard, "met", "ok", "the shop's own list");
    world.configure("unsubscribe.spool", "no-spool");
    stands(&world, heard, "not met", "warn", "there is no folder no-spool");
    world.configure("bounces.maildir", "no-maildir");
    stands(&world, "bounces and complaints are heard", "not met", "warn", "there is no Maildir no-maildir");
    world.configure("bounces.maildir", "bounces");
    let world = world.unset("mail.envelope");
    stands(&world, "bounces and complaints are heard", "not met", "warn", "without [mail] envelope");
}

#[test]
fn who_sends_and_what_is_seen_is_held_against_the_rules() {
    let partner = "at = \"2026-03-05 09:00\"\nfrom = \"Partner <no-reply@partner.example>\"";
    let world = meeting_the_rules(World::with_campaigns("")).init();
    let visible = "unsubscribe link in the message";
    stands(&world, visible, "met", "ok", "");
    world.write("plain.html", "<p>Hello</p><a href=\"{{ recovery_url }}\">cart</a>");
    world.configure("detect.template", "plain.html");
    stands(&world, visible, "not met", "warn", "not in the cart message");
    stands(&world, "postal address", "not met", "warn", "does not stand in the cart message");
    let link = "<p>{{ shop.address }}</p><a href=\"{{ unsubscribe_url }}\">Unsubscribe</a>";
    world.write("plain.html", link);
    stands(&world, visible, "met", "ok", "");
    stands(&world, "postal address", "met", "ok", "");
    world.write("plain.html", "{{ broken");
    for rule in [visible, "postal address", "List-Id", "form of messages"] {
        stands(&world, rule, "not visible from here", "", "no message can be written");
    }
    world.write("plain.html", link);
    let world = world.unset("shop.address");
    stands(&world, "postal address", "not met", "warn", "messages name no postal address");

    stands(&world, "TLS", "not visible from here", "", "files");
    stands(&world, "DKIM signature", "met", "ok", "signed here");
    stands(&world, "answers", "met", "ok", "");
    world.write("letter.html", "<p>Hello {{ email }}</p>");
    world.define(&definition("spring", partner));
    stands(&world, visible, "not met", "warn", "not in campaign spring");
    stands(
        &world,
        "DKIM signature",
        "not met",
        "warn",
        "shop.example does not count for the sender of campaign spring",
    );
    stands(&world, "answers", "not met", "warn", "campaign spring says that nobody reads answers");
    world.configure("mail.reply_to", "hello@shop.example");
    stands(&world, "answers", "met", "ok", "");
    world.define("");

    let world = world.unset("mail.dkim").unset("mail.feedback_sender");
    stands(&world, "DKIM signature", "not visible from here", "", "the mail server must sign");
    stands(&world, "Feedback-ID", "not met", "warn", "optional");
    world.ok(["doctor"]);
    for (domain, is_free) in [("gmail.com", true), ("yahoo.co.uk", true), ("gmx.de", true), ("mygmail.example", false)]
    {
        world.configure("mail.from", format!("Lamps <lamps@{domain}>"));
        match is_free {
            true => stands(&world, "own domain", "not met", "fail", domain),
            false => stands(&world, "own domain", "met", "ok", domain),
        }
        world.exits(i32::from(is_free), ["doctor"]);
    }
}

#[test]
fn complaints_count_against_the_rule_once_there_is_enough_mail() {
    let server = accepting();
    let world = meeting_the_rules(World::new().cart(Cart::of("c1")).smtp(&server)).init();
    world.ok(["detect"]);
    stands(&world, "spam rate", "not visible from here", "", "0 complaints of 1 message in 30 days say too little");
    stands(&world, "TLS", "not visible from here", "", "on this machine");
    world.configure("bounces.limits_after", 1);
    stands(&world, "spam rate", "met", "ok", "0 complaints of 1 message");
    let id = header(&server.accepted()[0].bytes, "Message-ID").unwrap();
    let complaint = format!(
        "From fbl@provider.example Sun Mar  1 12:00:00 2026\nFrom: fbl@provider.example\nTo: fbl@shop.example\nSubject: complaint\n\
         MIME-Version: 1.0\nContent-Type: multipart/report; report-type=feedback-report; boundary=x\n\n--x\n\nA complaint.\n--x\n\
         Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: x/1\nVersion: 1\n\n--x\n\
         Content-Type: text/rfc822-headers\n\nMessage-ID: {id}\n--x--\n"
    );
    world.write("complaints", &complaint);
    world.ok(["bounces", "--mbox", "complaints"]);
    stands(&world, "spam rate", "not met", "warn", "1 complaint of 1 message in 30 days; from 0.3 %");
    // Longer ago, it is over.
    world.set_now("2026-04-15T12:00:00Z");
    stands(&world, "spam rate", "not visible from here", "", "0 complaints of 0 messages");
}
