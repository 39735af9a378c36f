//! `report`: the page adds up, agrees with the other commands, names no one, and is written whole or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Act, Cart, Plan, Ran, Server, Stage, World, definition, people};

const STATES: [&str; 5] = ["sent", "refused", "skipped", "in_doubt", "to_come"];

fn in_two_steps(world: World) -> World {
    let steps = "[[step]]\nname = 'reminder'\nafter = '60m'\n[[step]]\nname = 'second'\nafter = '24h'\n";
    let table: toml::Table = steps.parse().expect("steps");
    world.set("detect.max_age", "5d").set("detect.step", table["step"].clone())
}

/// Two steps and a campaign: c1 and c6 get both steps and c1 orders, c2 is refused, c3 in doubt, c4 deferred and still to come,
/// c5 superseded by c6; of the campaign r2 is refused.
fn world(server: &Server) -> World {
    let definitions = definition("spring", "at = \"2026-03-01 09:30\"");
    let world = in_two_steps(World::with_campaigns(&definitions)).smtp(server).set("attribution.window", "5d");
    world.audience("audience.csv", &people(4));
    for id in ["c1", "c2", "c3", "c4", "c6"] {
        world.put(Cart::of(id).item(id, "x", 1, "10.00"));
    }
    world.put(Cart::of("c5").email("c6@example.com").updated("2026-03-01T07:00:00Z").item("c5", "x", 1, "1"));
    let world = world.now("2026-03-01T09:00:00Z").init();
    world.exits(1, ["detect"]);
    world.campaigns_at("2026-03-01T09:30:00Z", 0);
    world.set_now("2026-03-02T08:00:00Z");
    world.run(["detect"]);
    world.order("c1", "2026-03-02T09:00:00Z");
    world.set_now("2026-03-02T10:00:00Z");
    world.run(["detect"]);
    world
}

fn server() -> Server {
    let unknown = Act::Reply("550 5.1.1 <c2@example.com>: User c2 unknown; see https://x.example/?to=c2%40example.com");
    let plan = Plan::accepting()
        .for_recipient("c2@", Stage::Rcpt, unknown)
        .for_recipient("c3@", Stage::Taken, Act::Close)
        .for_recipient("c4@", Stage::Rcpt, Act::Reply("451 4.7.1 greylisted"))
        .for_recipient("r2@", Stage::Rcpt, Act::Reply("550 5.1.1 no such user"));
    Server::start(plan)
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {value:#}"))
}

fn sum(counts: &Value) -> u64 {
    STATES.iter().map(|state| number(counts, state)).sum()
}

/// The page as it is written to a file; exits with this code.
#[track_caller]
fn page(world: &World, code: i32, more: &[&str]) -> String {
    let arguments = [&["report", "--html", "page.html"], more].concat();
    world.exits(code, arguments);
    fs::read_to_string(world.path("page.html")).expect("the page")
}

#[track_caller]
fn document(world: &World, code: i32, more: &[&str]) -> Value {
    world.exits(code, [&["report", "--json"], more].concat()).json()
}

/// The page without its tags, each on a line: what is read.
fn read(html: &str) -> String {
    let body = html.split("<body>").nth(1).expect("a body");
    let mut text = String::new();
    for part in body.split('<').skip(1) {
        text.push_str(part.split_once('>').map_or("", |(_, text)| text));
        text.push('\n');
    }
    text
}

/// The cells of the first row that begins with this head, with their tags taken out.
fn row(html: &str, caption: &str, head: &str) -> Vec<String> {
    let table = html.split("<table>").find(|table| table.contains(caption)).expect("the table");
    let rows = table.split("<tr>").map(|row| {
        let cells = row.split("</td>").flat_map(|cell| cell.split("</th>"));
        let cells = cells.map(|cell| read(&format!("<body>{cell}")).split_whitespace().collect::<Vec<_>>().join(" "));
        cells.collect::<Vec<_>>()
    });
    let found = rows.into_iter().find(|cells| cells[0] == head);
    found.unwrap_or_else(|| panic!("no row {head:?} in {table}"))
}

#[test]
fn every_number_is_counted_once_and_agrees_with_the_other_commands() {
    let server = server();
    let world = world(&server);
    let report = document(&world, 1, &[]);
    // By day, by step and campaign, by domain: the same messages.
    let messages = world.ok(["log", "--json"]).json()["messages"].as_array().unwrap().clone();
    let total = &report["days"]["total"];
    assert_eq!(number(total, "messages"), messages.len() as u64);
    assert_eq!(sum(total), messages.len() as u64);
    let (carts, campaigns) = (&report["carts"]["total"], &report["campaigns"]["total"]);
    for key in STATES.into_iter().chain(["messages"]) {
        assert_eq!(number(total, key), number(carts, key) + number(campaigns, key), "{key}");
        let days = report["days"]["rows"].as_array().unwrap();
        assert_eq!(number(total, key), days.iter().map(|day| number(day, key)).sum::<u64>(), "{key}");
        let domains = report["health"]["domains"].as_array().unwrap();
        assert_eq!(number(total, key), domains.iter().map(|domain| number(domain, key)).sum::<u64>(), "{key}");
    }
    for step in report["carts"]["steps"].as_array().unwrap() {
        let of_it = |state: &str| {
            messages
                .iter()
                .filter(|row| row["step"] == step["step"] && (state.is_empty() || row["state"] == state))
                .count()
        };
        assert_eq!(number(step, "messages"), of_it("") as u64, "{step:#}");
        for state in ["sent", "refused", "skipped", "in_doubt"] {
            assert_eq!(number(step, state), of_it(state) as u64, "{state} {step:#}");
        }
        assert_eq!(sum(step), number(step, "messages"));
        assert_eq!(step["balances"], true);
    }
    let status = world.ok(["status", "--json"]).json();
    assert_eq!(report["now"]["states"], status["states"]);
    assert_eq!((&report["now"]["line"], &report["now"]["due"]), (&status["verdict"]["line"], &status["due"]));
    // What each cart came to, as the world says.
    let of_step = |name: &str| {
        report["carts"]["steps"].as_array().unwrap().iter().find(|step| step["step"] == name).cloned().unwrap()
    };
    let (reminder, second) = (of_step("reminder"), of_step("second"));
    assert_eq!(reminder["skipped_by"], json!({ "superseded": 1 }));
    assert_eq!(STATES.map(|state| number(&reminder, state)), [2, 1, 1, 1, 1], "{reminder:#}");
    assert_eq!(reminder["waited"], json!({ "messages": 3, "median_seconds": 3600, "percentile_95_seconds": 3600 }));
    // The order followed the second step: the last message before it.
    let recovered = world.ok(["recovered", "--json"]).json()["recovered"].clone();
    assert_eq!(number(&recovered, "orders"), 1);
    assert_eq!(number(&second["ordered"], "orders"), 1);
    assert_eq!(second["ordered"]["value"], recovered["by_step"]["second"]["value"]);
    for how in ["by_cart", "by_person"] {
        assert_eq!(second["ordered"][how], recovered[how], "{how}");
    }
    assert_eq!(number(&second["ordered"], "by_cart"), 1);
    assert_eq!(number(&reminder["ordered"], "orders"), 0);
    // The campaign's books, as `campaign show` has them.
    let shown = world.ok(["campaign", "show", "spring", "--json"]).json();
    let occurrence = &report["campaigns"]["occurrences"][0];
    assert_eq!(occurrence["recipients"], shown["occurrences"][0]["recipients"]);
    assert_eq!(
        (number(occurrence, "sent"), number(occurrence, "refused"), &occurrence["balances"]),
        (3, 1, &json!(true))
    );
    let listed = &world.ok(["campaign", "list", "--json"]).json()["campaigns"][0];
    let scheduled = &report["campaigns"]["scheduled"][0];
    for key in ["status", "next_run", "last_run", "total_runs"] {
        assert_eq!(scheduled[key], listed[key], "{key}");
    }
    // The page shows the same.
    let html = page(&world, 1, &[]);
    let cells = row(&html, "What became of the messages of each step", "reminder");
    assert_eq!(cells[1..8], ["6", "2", "1", "1", "1", "1", "✓ 6"]);
    let cells = row(&html, "Orders of the same cart or person", "second");
    assert_eq!(cells[3..6], ["1", "1", "0"]);
    world.exits(1, ["report"]).says("(1 of the very cart, 0 of the same person)");
    let cells = row(&html, "Occurrences decided about", "spring");
    assert_eq!(cells[2..10], ["0s", "4", "3", "1", "0", "0", "0", "✓ 4"]);
    let cells = row(&html, "Scheduled campaigns", "spring");
    assert_eq!([&cells[1], &cells[4]], ["completed", "1"]);
    assert!(!html.contains('✗'), "something does not add up");
}

#[test]
fn no_one_is_named_unless_it_is_asked_for() {
    let server = server();
    let world = world(&server);
    let kinds = [page(&world, 1, &[]), world.exits(1, ["report"]).output(), document(&world, 1, &[]).to_string()];
    for text in &kinds {
        for id in 1..=6 {
            for prefix in ["c", "r"] {
                assert!(!text.to_lowercase().contains(&format!("{prefix}{id}@")), "{prefix}{id} is named in {text}");
                assert!(!text.to_lowercase().contains(&format!("{prefix}{id}%40")), "{prefix}{id} is named in {text}");
            }
        }
        assert!(!text.contains("personal data"));
    }
    assert!(kinds[0].contains("c…@example.com") && kinds[0].contains("User … unknown; see …@…"));
    let html = page(&world, 1, &["--names"]);
    let text = read(&html);
    assert!(text.contains("c2@example.com"));
    assert!(html.contains("&lt;c2@example.com&gt;: User c2 unknown"));
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap();
    assert_eq!(first, "This page contains personal data");
    assert!(world.exits(1, ["report", "--names"]).stdout.starts_with("This text contains personal data."));
    assert_eq!(document(&world, 1, &["--names"])["has_personal_data"], true);
}

#[test]
fn long_cart_ids_and_domains_of_few_are_not_shown() {
    let world = World::new().cart(Cart::of("5f4dcc3b5aa765d61d8327deb882cf99")).init();
    world.ok(["detect"]);
    let html = page(&world, 0, &[]);
    assert!(html.contains("…82cf99") && !html.contains("b882cf99") && !html.contains("5f4d"));
    let domains = &document(&world, 0, &[])["health"]["domains"];
    assert_eq!(domains[0]["domain"], Value::Null, "{domains:#}");
    assert!(page(&world, 0, &["--names"]).contains("5f4dcc3b5aa765d61d8327deb882cf99"));
}

#[test]
fn a_domain_of_few_is_named_nowhere() {
    let plan = Plan::accepting()
        .for_recipient("secret.example", Stage::Rcpt, Act::Reply("550 5.1.1 no such user"))
        .for_recipient("doubt@", Stage::Taken, Act::Close);
    let server = Server::start(plan);
    let cart = |id: String, email: &str| Cart::of(&id).item(&id, "x", 1, "1").email(email);
    let crowd = (1..=5).map(|number| cart(format!("many{number}"), &format!("p{number}@many.example")));
    let few = [cart("one".into(), "ada@secret.example"), cart("two".into(), "doubt@hidden.example")];
    let world = World::new().smtp(&server).carts(crowd.chain(few)).init();
    world.exits(1, ["detect"]);
    for text in [page(&world, 1, &[]), world.exits(1, ["report"]).output(), document(&world, 1, &[]).to_string()] {
        assert!(!text.contains("secret.example") && !text.contains("hidden.example"), "{text}");
    }
    let html = page(&world, 1, &[]);
    assert!(html.contains("a…@…") && html.contains("d…@…") && html.contains("p…@many.example"));
    assert!(page(&world, 1, &["--names"]).contains("ada@secret.example"));
}

#[test]
fn each_cart_is_known_from_the_others_and_explained_by_its_message() {
    let ids =
        (1..=20).map(|number| format!("cart-bulk-{number:04}")).chain(["a7-bulk-0001", "b7-bulk-0001"].map(Into::into));
    let world =
        World::new().carts(ids.map(|id| Cart::of(&id).item(&id, "x", 1, "1").email(&format!("{id}@example.com"))));
    let world = world.init();
    world.ok(["detect"]);
    let carts = document(&world, 0, &[])["carts"]["abandonments"]["rows"].as_array().unwrap().clone();
    let called: BTreeSet<_> = carts.iter().map(|cart| cart["cart"].as_str().unwrap()).collect();
    assert_eq!(called.len(), 22, "{called:?}");
    assert!(called.contains("…k-0012") && called.contains("a…k-0001"), "{called:?}");
    let row = carts.iter().find(|cart| cart["cart"] == "…k-0012").unwrap();
    world.ok(["explain", row["message"].as_str().unwrap()]).says("cart-bulk-0012");
    assert!(page(&world, 0, &[]).contains(row["message"].as_str().unwrap()));
}

#[test]
fn what_waits_and_why_stands_on_the_page() {
    let greylisted = Act::Reply("451 4.7.1 lovelace is greylisted for now");
    let server = Server::start(Plan::accepting().at(Stage::Rcpt, greylisted));
    let world = World::new().smtp(&server).cart(Cart::of("c1").email("lovelace@example.com")).init();
    world.run(["detect"]);
    let report = document(&world, 0, &[]);
    let (now, status) = (&report["now"]["waiting"], &world.ok(["status", "--json"]).json()["waiting"]);
    assert_eq!((number(&now["cart"], "messages"), number(&now["campaign"], "messages")), (1, 0));
    assert_eq!(now["cart"]["next_at"], status["cart"]["next_at"]);
    assert_eq!(now["cart"]["last_reply"], "451 4.7.1 … is greylisted for now");
    let text = read(&page(&world, 0, &[]));
    assert!(text.contains("Waiting for the next try, of carts") && text.contains("… is greylisted"), "{text}");
    world.ok(["report"]).says("waiting 1 of carts, the next at ").says("because: 451 4.7.1 … is greylisted");
}

#[test]
fn what_is_hostile_stays_text() {
    let evil = "</title><script>alert(1)</script>";
    let server = Server::start(Plan::accepting().for_recipient(
        "c1@",
        Stage::Rcpt,
        Act::Reply("550 5.7.1 <img src=x onerror=alert(1)>\u{202e}drow"),
    ));
    let long = "x".repeat(10_000);
    let world = World::new().smtp(&server).set("shop.name", format!("{evil}\u{202e}{long}"));
    let world = world.carts([Cart::of("c1"), Cart::of("c2").item("B", "x", 1, "1")]).init();
    world.ok(["detect"]);
    world.by_hand(&format!("UPDATE message SET cart_id = '\"''>{evil}' WHERE cart_id = 'c1'"));
    let schedules = json!([{ "campaign_id": format!("{evil}{long}"), "schedule_time": "2026-04-01T00:00:00Z",
                             "status": "pending", "enabled": true }]);
    world.write("schedules.json", &schedules.to_string());
    let imported = world.run(["import", "schedules", "schedules.json"]);
    if imported.code != 0 {
        // The id is refused on that way; a ledger changed by hand holds it.
        world.by_hand(&format!(
            "INSERT INTO scheduled_campaign (campaign_id, status, enabled, first_seen_at, schedule)
             VALUES ('{evil}{long}', 'paused', 1, '2026-03-01T00:00:00Z', '<b onmouseover=alert(1)>')"
        ));
    }
    for more in [&[][..], &["--names"]] {
        let html = page(&world, 0, more);
        for word in ["<script", "<img", "<b ", "\u{202e}", "onerror=alert(1)>"] {
            assert!(!html.contains(word), "{word:?} is in the page");
        }
        assert!(html.contains("&lt;script&gt;"), "nothing hostile is shown at all");
        assert!(html.len() < 60_000, "{} bytes", html.len());
        assert_eq!(html.matches("</title>").count(), 1 + html.matches("<title id=").count());
    }
    // Nor does a terminal obey it.
    let text = world.ok(["report", "--names"]).stdout;
    assert!(!text.contains('\u{202e}') && !text.contains(&long), "{text}");
}

#[test]
fn the_page_asks_nothing_of_anyone() {
    let server = server();
    let world = world(&server);
    let html = page(&world, 1, &[]);
    assert!(html.contains("content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\""));
    for attribute in ["src=", "srcset=", "action=", "xlink:", "<link", "<script", "<iframe", "@import", "style=\""] {
        assert!(!html.contains(attribute), "{attribute} is in the page");
    }
    for target in html.split("href=\"").skip(1) {
        assert!(target.starts_with('#'), "{}", &target[..40]);
        let id = target[1..].split('"').next().unwrap();
        assert!(html.contains(&format!("id=\"{id}\"")), "nothing is called {id}");
    }
    for fill in html.split("url(").skip(1) {
        assert!(fill.starts_with("#h-"), "{}", &fill[..40]);
    }
    // One name for each thing, and each picture has its words.
    let ids: Vec<&str> = html.split(" id=\"").skip(1).map(|id| id.split('"').next().unwrap()).collect();
    for id in &ids {
        assert_eq!(ids.iter().filter(|other| *other == id).count(), 1, "{id} is there twice");
    }
    assert!(html.contains("<html lang=\"en\">"));
    let pictures = html.matches("role=\"img\"").count();
    assert!(pictures >= 8, "{pictures}");
    assert_eq!((html.matches("<desc id=").count(), html.matches("<title id=").count()), (pictures, pictures));
    for reference in html.split("aria-labelledby=\"").skip(1) {
        for id in reference.split('"').next().unwrap().split(' ') {
            assert!(ids.contains(&id), "nothing is called {id}");
        }
    }
    let levels: Vec<char> = html.split("<h").skip(1).filter_map(|tag| tag.chars().next()).collect();
    let levels: Vec<u32> = levels.into_iter().filter_map(|level| level.to_digit(10)).collect();
    assert!(levels.windows(2).all(|two| two[1] <= two[0] + 1) && levels[0] == 1, "{levels:?}");
}

#[test]
fn it_says_nothing_under_cron_unless_a_person_is_needed() {
    let server = Server::start(Plan::accepting().for_recipient("c2@", Stage::Taken, Act::Close));
    let world = World::new().smtp(&server).cart(Cart::of("c1")).init();
    world.ok(["detect"]);
    world.ok(["report", "--html", "page.html"]).is_silent();
    world.put(Cart::of("c2").item("B", "x", 1, "1"));
    world.set_now("2026-03-01T12:30:00Z");
    world.run(["detect"]);
    let ran = world.exits(1, ["report", "--html", "page.html"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 1), "{ran}");
    ran.says("You must decide: 1 message in doubt since 2026-03-01T12:30:00Z.").says("mailonce resolve");
    // What needs a person is shown, whatever time is asked for.
    let html = page(&world, 1, &["--until", "2026-02-01T00:00:00Z"]);
    assert!(html.contains("You must decide") && html.contains("No message was planned in this time."));
    assert_eq!(
        document(&world, 1, &["--until", "2026-02-01T00:00:00Z"])["in_doubt"]["rows"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn times_share_no_message_and_lose_none() {
    let server = server();
    let world = world(&server);
    let planned: Vec<String> = world
        .rows("SELECT DISTINCT planned_at FROM message ORDER BY planned_at")
        .into_iter()
        .filter_map(|mut row| row.remove("planned_at").flatten())
        .collect();
    assert!(planned.len() > 2, "{planned:?}");
    let all = number(&document(&world, 1, &[])["days"]["total"], "messages");
    let mut each = 0;
    for at in &planned {
        let report = document(&world, 1, &["--since", at, "--until", at]);
        each += number(&report["days"]["total"], "messages");
        assert_eq!(report["days"]["balances"], true);
    }
    assert_eq!(each, all);
    let today = document(&world, 1, &["--days", "1"]);
    assert_eq!(today["since"], "2026-03-02T00:00:00Z");
    assert_eq!(number(&today["days"]["total"], "messages") + 10, all, "10 were planned on the day before");
    // A date alone is the whole day, as far as it is over.
    let first_day = document(&world, 1, &["--until", "2026-03-01"]);
    assert_eq!(first_day["until"], "2026-03-01T23:59:59Z");
    assert_eq!(number(&first_day["days"]["total"], "messages"), 10);
    let to_come = document(&world, 1, &["--until", "2031-01-01", "--days", "2"]);
    assert_eq!(
        (&to_come["since"], &to_come["until"]),
        (&json!("2026-03-01T00:00:00Z"), &json!("2026-03-02T10:00:00Z"))
    );
    world.exits(2, ["report", "--since", "2026-03-02", "--until", "2026-03-01"]).says("is after --until");
    world.exits(2, ["report", "--since", "2027-03-02"]).says("is after now, 2026-03-02T10:00:00Z");
    world.exits(2, ["report", "--since", "1d", "--days", "3"]);
    world.exits(2, ["report", "--days", "0"]);
    assert!(document(&world, 1, &["--days", "36500"])["days"]["rows"].as_array().unwrap().len() < 130);
}

#[test]
fn one_campaign_is_shown_alone() {
    let server = server();
    let world = world(&server);
    let report = document(&world, 1, &["--campaign", "spring"]);
    assert_eq!((&report["carts"], number(&report["days"]["total"], "messages")), (&Value::Null, 4));
    assert_eq!(report["in_doubt"]["rows"], json!([]));
    assert_eq!(report["refused"]["rows"].as_array().unwrap().len(), 1);
    let html = page(&world, 1, &["--campaign", "spring"]);
    assert!(html.contains("campaign <bdi>spring</bdi>") && !html.contains("id=\"carts\""));
    world.exits(2, ["report", "--campaign", "lost"]).says("the ledger knows no campaign \"lost\"");
}

#[test]
fn each_cart_is_listed_once_however_often_it_was_left() {
    let world = World::new().set("detect.max_age", "30d").cart(Cart::of("c1").user("7")).init();
    world.ok(["detect"]);
    world.touch("c1", "2026-03-04T09:00:00Z");
    world.set_now("2026-03-04T12:00:00Z");
    world.ok(["detect"]);
    let csv = "email,cart_hash,email_sent,created_at,cart_id\n\
               old@example.com,h1,1,2026-02-01 08:00:00,c9\nold@example.com,h2,0,2026-02-03 08:00:00,c9\n";
    world.write("dump.csv", csv);
    world.ok(["import", "log", "dump.csv", "--timezone", "UTC"]);
    let carts = document(&world, 0, &[])["carts"]["abandonments"].clone();
    assert_eq!((number(&carts, "carts"), number(&carts, "episodes")), (2, 4), "{carts:#}");
    let rows = carts["rows"].as_array().unwrap();
    let shown: Vec<_> = rows
        .iter()
        .map(|cart| (cart["cart"].as_str().unwrap(), number(cart, "episodes"), number(cart, "sent")))
        .collect();
    assert_eq!(shown, [("c1", 2, 2), ("c9", 2, 1)]);
    assert_eq!((&rows[0]["abandoned_at"], &rows[0]["state"]), (&json!("2026-03-04T12:00:00Z"), &json!("sent")));
    assert_eq!((&rows[1]["is_of_older_system"], &rows[1]["state"]), (&json!(true), &json!("not sent")));
    // The rows of the older system are no messages: they are in no funnel.
    assert_eq!(number(&document(&world, 0, &[])["carts"]["total"], "messages"), 2);
}

#[test]
fn books_that_do_not_balance_are_an_alarm() {
    let server = Server::start(Plan::accepting());
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-01 13:00\"")).smtp(&server).init();
    world.campaigns_at("2026-03-01T12:30:00Z", 0);
    world.campaigns_at("2026-03-01T13:00:00Z", 0);
    world.ok(["report", "--html", "page.html"]);
    world.by_hand("UPDATE campaign_occurrence SET recipients = 2");
    world.exits(1, ["report", "--html", "page.html"]).says("The books do not balance").says("mailonce audit");
    let html = fs::read_to_string(world.path("page.html")).unwrap();
    assert_eq!(row(&html, "Occurrences decided about", "spring")[9], "✗ 1 of 2");
    world.exits(1, ["report"]).says("BOOKS DO NOT BALANCE");
}

#[test]
fn what_was_pruned_stays_in_the_books_of_its_campaign() {
    let server = Server::start(Plan::accepting());
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-01 13:00\"")).smtp(&server).init();
    world.campaigns_at("2026-03-01T12:30:00Z", 0);
    world.campaigns_at("2026-03-01T13:00:00Z", 0);
    world.set_now("2026-07-01T12:00:00Z");
    world.ok(["detect"]);
    let year = ["--days", "365"];
    let before = document(&world, 0, &year)["campaigns"]["occurrences"][0].clone();
    world.ok(["prune", "--older-than", "90d"]).says("1 message deleted");
    let report = document(&world, 0, &year);
    let after = &report["campaigns"]["occurrences"][0];
    for key in STATES.into_iter().chain(["recipients"]) {
        assert_eq!(after[key], before[key], "{key}");
    }
    assert_eq!((&after["balances"], &after["pruned"], &report["pruned"]), (&json!(true), &json!(1), &json!(1)));
    assert_eq!(number(&report["days"]["total"], "messages"), 0);
    let html = page(&world, 0, &year);
    assert!(html.contains("1 message settled long ago was pruned"));
    world.ok([&["report"], &year[..]].concat()).says("1 message settled long ago was pruned");
    // A row that goes without being counted is missed.
    world.by_hand("UPDATE message_tally SET pruned = 0");
    assert_eq!(document(&world, 1, &year)["campaigns"]["occurrences"][0]["balances"], false);
}

#[test]
fn too_few_are_not_made_into_a_rate_and_currencies_are_not_added_up() {
    let world = World::new().set("attribution.window", "5d").set("holdout.percent", 50).set("holdout.salt", "2026");
    for number in 1..=8 {
        world.put(Cart::of(&format!("c{number}")).item("A", "x", number, "10.00"));
    }
    world.put(Cart::of("swiss").currency("CHF").item("B", "x", 1, "7.00"));
    let world = world.init();
    world.ok(["detect"]);
    for cart in ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "swiss"] {
        world.order(cart, "2026-03-01T13:00:00Z");
    }
    world.set_now("2026-03-07T12:00:00Z");
    world.ok(["detect"]);
    world.by_hand("UPDATE recovery SET value = '7.50', currency = iif(rowid % 2, 'CHF', 'EUR')");
    let report = document(&world, 0, &[]);
    let held = &report["carts"]["holdout"];
    assert_eq!(number(&held["treated"], "people") + number(&held["held_out"], "people"), 9);
    assert_eq!(held["told"], Value::Null, "{held:#}");
    assert_eq!(report["health"]["returned"][0]["complaints_per_thousand"], Value::Null);
    let html = page(&world, 0, &[]);
    assert!(html.contains("Too few to tell.") && !html.contains(" % interval"));
    let value = report["carts"]["steps"][0]["ordered"]["value"].as_object().unwrap().clone();
    assert_eq!(json!(value), world.ok(["recovered", "--json"]).json()["recovered"]["value"]);
    assert_eq!(value.keys().collect::<Vec<_>>(), ["CHF", "EUR"], "{value:?}");
}

#[test]
fn an_empty_ledger_has_its_page() {
    let world = World::new().init();
    let html = page(&world, 0, &[]);
    for words in
        ["Nothing has run yet.", "No message was planned in this time.", "No campaign was ever seen.", "Rehearsal."]
    {
        assert!(html.contains(words), "{words:?} is not in the page");
    }
    assert!(!html.contains("NaN") && !html.contains("role=\"img\""));
    let report = document(&world, 0, &[]);
    assert_eq!(
        report["days"]["total"],
        json!({ "messages": 0, "sent": 0, "refused": 0, "skipped": 0, "in_doubt": 0, "to_come": 0 })
    );
    assert_eq!(report["carts"]["steps"], json!([]));
    world.ok(["report"]).says("0 messages");
    let no_ledger = World::new();
    no_ledger.exits(78, ["report", "--html", "page.html"]);
    assert!(!no_ledger.path("page.html").exists());
}

#[test]
fn a_run_under_way_is_no_killed_one_and_is_not_waited_for() {
    let server = Server::start(Plan::accepting().at(Stage::Dot, Act::Hang));
    let world = World::new().smtp(&server).cart(Cart::of("c1")).init();
    let run = world.spawn(["detect"]);
    server.wait_for_final_dot();
    let html = page(&world, 0, &[]);
    assert!(html.contains("under way") && !html.contains("killed"));
    assert_eq!(number(&document(&world, 0, &[])["days"]["total"], "to_come"), 1);
    run.kill();
    let html = page(&world, 1, &[]);
    assert!(html.contains("✗ killed"), "{html}");
}

/// Runs `report --html page.html` where no file may become longer than `kilobytes`, as on a full disk.
fn on_a_full_disk(world: &World, kilobytes: u32) -> Ran {
    let script = format!("trap '' XFSZ; ulimit -f {kilobytes}; exec \"$0\" \"$@\"");
    let mut command = std::process::Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_mailonce"), "report", "--html", "page.html"]);
    command.args(["--now", "2026-03-01T12:00:00Z"]).current_dir(world.path("")).stdin(Stdio::null());
    let ended = command.output().unwrap();
    Ran {
        command: script,
        code: ended.status.code().unwrap(),
        stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_file_is_private_and_there_whole_or_as_it_was() {
    let world = World::new().cart(Cart::of("c1")).init();
    world.ok(["detect"]);
    let old = page(&world, 0, &[]);
    assert_eq!(fs::metadata(world.path("page.html")).unwrap().permissions().mode() & 0o777, 0o640);
    // Who holds the ledger open has made what SQLite needs beside it.
    let reader = world.ledger();
    reader.query_row("SELECT count(*) FROM message", [], |_| Ok(())).unwrap();
    let before = names(&world.path(""));
    let ran = on_a_full_disk(&world, 8);
    assert_eq!(ran.code, 74, "{ran}");
    ran.says("error: could not write the page")
        .says(" kept: a page that was there is as it was")
        .says(" next: make room");
    assert_eq!(fs::read_to_string(world.path("page.html")).unwrap(), old);
    assert_eq!(names(&world.path("")), before, "something was left behind");
    assert!(!ran.stderr.contains(".mailonce-"), "{ran}");
    let ran = world.exits(74, ["report", "--html", "nowhere/page.html"]);
    ran.says("nowhere/page.html: No such file or directory (os error 2)\n").says(" next: ");
    for (link, leads_to) in [("dangling.html", "web/none.html"), ("circle.html", "circle.html")] {
        symlink(leads_to, world.path(link)).unwrap();
        world
            .exits(74, ["report", "--html", link])
            .says("it is a link that leads nowhere")
            .says(" next: make the file");
        assert_eq!(fs::read_link(world.path(link)).unwrap(), Path::new(leads_to));
        fs::remove_file(world.path(link)).unwrap();
    }
    // A link is followed, so that it still leads to the page.
    fs::create_dir(world.path("web")).unwrap();
    fs::rename(world.path("page.html"), world.path("web/real.html")).unwrap();
    symlink("web/real.html", world.path("page.html")).unwrap();
    world.set_now("2026-03-01T13:00:00Z");
    assert_ne!(page(&world, 0, &[]), old);
    assert!(fs::symlink_metadata(world.path("page.html")).unwrap().is_symlink());
    assert_eq!(names(&world.path("web")), ["real.html"]);
    let on_stdout = world.ok(["report", "--html", "-"]);
    assert!(on_stdout.stdout.starts_with("<!doctype html>\n"));
    world.exits(2, ["report", "--html", "-", "--text"]);
}

#[test]
fn nobody_reads_a_page_before_it_is_whole() {
    let world = World::new().cart(Cart::of("c1")).init();
    world.ok(["detect"]);
    // Who holds the ledger open has made what SQLite needs beside it.
    let reader = world.ledger();
    reader.query_row("SELECT count(*) FROM message", [], |_| Ok(())).unwrap();
    let before = names(&world.path(""));
    // Killed by the limit as it writes: what lies beside is as it was made.
    let script = "umask 0; ulimit -c 0; ulimit -f 8; exec \"$0\" report --html page.html --now 2026-03-01T12:00:00Z";
    let mut command = std::process::Command::new("bash");
    command.args(["-c", script, env!("CARGO_BIN_EXE_mailonce")]).current_dir(world.path("")).stdin(Stdio::null());
    let ended = command.output().unwrap();
    assert_eq!(ended.status.code(), None, "{ended:?}");
    let left: Vec<_> = names(&world.path("")).into_iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(fs::metadata(world.path(&left[0])).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn nothing_but_a_page_is_written_over() {
    let world = World::new().init();
    let ledger = fs::read(world.ledger_file()).unwrap();
    world.write("notes.html", "<!doctype html>\nmine");
    fs::create_dir(world.path("folder")).unwrap();
    for target in
        ["mailonce.db", "mailonce.db-wal", "mailonce.db.lock", "./mailonce.db-shm", "notes.html", "folder", "/dev/null"]
    {
        world.exits(2, ["report", "--html", target]).says(" kept: it was not touched");
    }
    assert_eq!(fs::read(world.ledger_file()).unwrap(), ledger);
    assert_eq!(fs::read_to_string(world.path("notes.html")).unwrap(), "<!doctype html>\nmine");
    assert!(!world.path("mailonce.db-wal").exists());
    world.write("empty.html", "");
    world.ok(["report", "--html", "empty.html"]);
}

#[test]
fn what_came_back_is_of_the_messages_that_went_out_or_were_refused_as_dead_and_counts_once() {
    let server = server();
    let world = world(&server);
    let report = |id: u32, message: &str, class: &str| {
        world.by_hand(&format!(
            "INSERT INTO report (digest, received_at, message, class)
             SELECT x'{id:04x}', '2026-03-02T09:00:00Z', id, '{class}' FROM message WHERE recipient = '{message}' AND state <> 'skipped' LIMIT 1"
        ));
    };
    for (id, message, class) in [
        (1, "r1@example.com", "hard"),
        (2, "r1@example.com", "hard"),
        (3, "c1@example.com", "complaint"),
        // To come: it never went out.
        (4, "c4@example.com", "hard"),
    ] {
        report(id, message, class);
    }
    let returned = document(&world, 1, &[])["health"]["returned"].clone();
    let of = |of: &str, class: &str| {
        let row = returned.as_array().unwrap().iter().find(|row| row["of"] == of).unwrap();
        number(row["classes"].as_array().unwrap().iter().find(|row| row["class"] == class).unwrap(), "messages")
    };
    // Two were refused at once: c2 and r2.
    assert_eq!([of("all", "hard"), of("campaigns", "hard"), of("carts", "hard")], [3, 2, 1]);
    assert_eq!([of("all", "complaint"), of("carts", "complaint")], [1, 1]);
    // The same as `rates` has, of the refused ones too.
    let rates = world.ok(["rates", "--since", "30d", "--json"]).json()["rates"].as_array().unwrap().clone();
    let sum = |key: &str| rates.iter().map(|row| number(row, key)).sum::<u64>();
    assert_eq!([number(&returned[0], "sent"), of("all", "hard")], [sum("sent"), sum("hard")]);
    let deferrals = number(&document(&world, 1, &[])["health"], "deferrals_total");
    assert_eq!(deferrals, world.number("SELECT count(*) FROM attempt WHERE outcome = 'deferred'") as u64);
    assert!(deferrals > 0);
}
