//! What the mail brought: who is held out of it, which orders came after it, and how the two compare.

use crate::support::{Act, Cart, Kind, Plan, Server, Stage, World, definition, people};

/// Everyone is held out, or this share of them.
fn held_out(world: World, percent: impl Into<toml::Value>) -> World {
    world.set("holdout.percent", percent).set("holdout.salt", "2026")
}

/// Two steps, 1 h (until 2 h) and 24 h after the last touch.
fn two_steps(world: World) -> World {
    let steps = "[[step]]\nname = 'reminder'\nafter = '60m'\nuntil = '2h'\n[[step]]\nname = 'second'\nafter = '24h'\n";
    let table: toml::Table = steps.parse().expect("steps");
    world.set("detect.max_age", "5d").set("detect.step", table["step"].clone())
}

/// Cart, step and state, with the reason where there is one, of every message, oldest first.
fn fates(world: &World) -> Vec<String> {
    let sql = "SELECT coalesce(cart_id, folded_address) || ' ' || coalesce(step, '-') || ' ' || state
                   || coalesce(': ' || reason, '') AS fate FROM message ORDER BY id";
    world.rows(sql).into_iter().filter_map(|mut row| row.remove("fate").flatten()).collect()
}

#[test]
fn the_held_out_get_nothing_and_are_no_trouble() {
    let server = Server::start(Plan::accepting());
    let world = held_out(two_steps(World::new().cart(Cart::of("c1")).smtp(&server)), 100);
    let world = world.now("2026-03-01T09:00:00Z").init();
    world.ok(["detect", "--dry-run"]).says("held out");
    world.ok(["detect", "-v"]).says("held out").says("nothing to send");
    assert_eq!(fates(&world), ["c1 reminder skipped: holdout"]);
    for at in ["2026-03-01T09:01:00Z", "2026-03-02T08:00:00Z", "2026-03-03T08:00:00Z"] {
        world.set_now(at);
        world.ok(["detect"]);
    }
    // It stays so for its flow, whatever the configuration becomes.
    world.configure("holdout.percent", 0);
    world.set_now("2026-03-04T08:00:00Z");
    world.ok(["detect"]);
    assert_eq!(fates(&world), ["c1 reminder skipped: holdout"]);
    assert_eq!(server.recipients(), [""; 0]);
    world.ok(["status"]).says("1 holdout");
    world.touch("c1", "2026-03-04T08:00:00Z");
    world.set_now("2026-03-04T09:00:00Z");
    world.ok(["detect"]);
    assert_eq!(server.recipients(), ["c1@example.com"]);
    world.ok(["audit"]);
}

#[test]
fn who_was_written_to_is_not_held_out_of_the_steps_that_follow() {
    let server = Server::start(Plan::accepting());
    let world = two_steps(World::new().cart(Cart::of("c1")).smtp(&server)).now("2026-03-01T09:00:00Z").init();
    world.ok(["detect"]);
    let world = held_out(world, 100).now("2026-03-02T08:00:00Z");
    world.ok(["detect"]);
    assert_eq!(fates(&world), ["c1 reminder sent", "c1 second sent"]);
    world.ok(["audit"]);
}

#[test]
fn a_first_step_that_comes_too_late_decides_nothing() {
    let server = Server::start(Plan::accepting());
    let world = held_out(two_steps(World::new().cart(Cart::of("c1")).smtp(&server)), 100);
    let world = world.now("2026-03-01T12:00:00Z").init();
    world.exits(1, ["detect"]).says("expired unsent");
    assert_eq!(fates(&world), ["c1 reminder skipped: expired"]);
    world.set_now("2026-03-02T08:00:00Z");
    world.ok(["detect"]);
    assert_eq!(fates(&world), ["c1 reminder skipped: expired", "c1 second skipped: holdout"]);
    assert_eq!(server.recipients(), [""; 0]);
    world.ok(["audit"]);
}

#[test]
fn without_steps_too_one_row_an_abandonment_and_the_later_cart_counts() {
    let server = Server::start(Plan::accepting());
    let older = Cart::of("older").item("A", "x", 1, "1").email("c1@example.com").updated("2026-03-01T07:00:00Z");
    let world = held_out(World::new().carts([Cart::of("c1"), older]).smtp(&server), 100).init();
    world.configure("detect.max_per_run", 1);
    for at in ["2026-03-01T12:00:00Z", "2026-03-01T12:01:00Z", "2026-03-02T11:59:00Z"] {
        world.set_now(at);
        world.ok(["detect"]);
    }
    assert_eq!(fates(&world), ["older - skipped: superseded", "c1 - skipped: holdout"]);
    world.set_now("2026-03-02T12:00:00Z");
    world.ok(["detect"]);
    assert_eq!(world.messages_of("c1").len(), 2, "as another message would be planned once the window has passed");
    assert_eq!(server.recipients(), [""; 0]);
    world.ok(["audit"]);
}

#[test]
fn the_share_is_by_address_and_does_not_count_against_max_per_run() {
    let server = Server::start(Plan::accepting());
    let carts = (0..200).map(|number| Cart::of(&format!("c{number}")));
    let world = held_out(World::new().carts(carts).smtp(&server), 50.0).init();
    world.configure("detect.max_per_run", 150);
    world.ok(["detect"]);
    let held = world.number("SELECT count(*) FROM message WHERE reason = 'holdout'");
    // Five standard deviations of 200 coins.
    assert!((65..=135).contains(&held), "{held} of 200");
    assert_eq!(server.recipients().len(), 200 - usize::try_from(held).unwrap());
    world.ok(["audit"]);
}

#[test]
fn of_a_campaign_too_where_it_says_so_and_its_books_balance() {
    let server = Server::start(Plan::accepting());
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-01 12:30\"")).smtp(&server);
    world.audience("audience.csv", &people(40));
    let world = held_out(world, 50).set("holdout.kinds", vec!["campaign"]).cart(Cart::of("c1")).init();
    world.ok(["run-campaigns"]);
    let ran = world.campaigns_at("2026-03-01T12:30:00Z", 0);
    let held = usize::try_from(world.number("SELECT count(*) FROM message WHERE reason = 'holdout'")).unwrap();
    assert!((1..40).contains(&held), "{held} of 40");
    assert_eq!(server.recipients().len(), 40 - held);
    ran.is_silent();
    world.ok(["campaign", "show", "spring"]).says("opened with 40 recipients").says(&format!("{held} skipped"));
    world.ok(["audit"]);
    world.ok(["detect"]);
    assert_eq!(world.messages_of("c1").len(), 1);
    assert!(server.recipients().contains(&"c1@example.com".to_owned()), "carts are not held out");
}

#[test]
fn a_campaign_that_holds_everyone_out_is_done() {
    let server = Server::start(Plan::accepting());
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-01 12:30\"")).smtp(&server);
    let world = held_out(world, 100).set("holdout.kinds", vec!["cart", "campaign"]).init();
    world.ok(["run-campaigns"]);
    world.campaigns_at("2026-03-01T12:30:00Z", 0);
    world.campaigns_at("2026-03-01T12:31:00Z", 0);
    assert_eq!(server.connections(), 0);
    assert_eq!(world.number("SELECT count(*) FROM scheduled_campaign WHERE status = 'completed'"), 1);
    world.ok(["campaign", "retry", "spring", "--state", "expired"]).says("0 messages");
    world.ok(["audit"]);
}

#[test]
fn what_cannot_be_held_out_is_said() {
    let world = held_out(World::new(), 5).init();
    for (key, value, named) in [
        ("holdout.percent", toml::Value::from(101), "holdout.percent: 101 is not from 0 to 100"),
        ("holdout.salt", " ".into(), "holdout.salt"),
        ("holdout.kinds", toml::Value::Array(vec![]), "holdout.kinds: is empty"),
        ("holdout.kinds", vec!["parcel"].into(), "parcel"),
    ] {
        let before = held_out(World::new(), 5);
        before.configure(key, value);
        before.exits(78, ["detect"]).says(named);
    }
    world.ok(["detect"]);
}

/// An order of the shop, beyond what its carts say.
struct Order {
    id: &'static str,
    cart: Option<&'static str>,
    email: &'static str,
    at: &'static str,
    total: Option<&'static str>,
    status: &'static str,
}

fn order(id: &'static str, email: &'static str, at: &'static str) -> Order {
    Order { id, cart: None, email, at, total: Some("19.90"), status: "complete" }
}

impl Order {
    fn of_cart(self, cart: &'static str) -> Order {
        Order { cart: Some(cart), ..self }
    }

    fn status(self, status: &'static str) -> Order {
        Order { status, ..self }
    }
}

/// The shop of a database with its orders as another table, which `source.orders` reads: carts are changed as ever.
fn attributing(world: World) -> World {
    let query =
        "SELECT order_id, cart_id, NULL AS user_id, email, created_at AS ordered_at, total, 'EUR' AS currency, status
                 FROM sales WHERE created_at >= :since";
    world.set("attribution.window", "5d").set("source.orders", query)
}

/// Runs a statement in the shop, whatever its database is.
fn in_shop(world: &World, sql: &str) {
    match rusqlite::Connection::open_with_flags(world.shop(), rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE) {
        Ok(shop) => shop.execute_batch(sql).expect("the shop changes"),
        Err(_) => world.run_in_shop(sql),
    }
}

fn sell(world: &World, orders: &[Order]) {
    let mut sql =
        "CREATE TABLE IF NOT EXISTS sales (order_id VARCHAR(20) PRIMARY KEY, cart_id VARCHAR(20), email VARCHAR(80),
                       created_at VARCHAR(30), total VARCHAR(20), status VARCHAR(20));"
            .to_owned();
    let or_null = |text: Option<&str>| text.map_or("NULL".to_owned(), |text| format!("'{text}'"));
    for Order { id, cart, email, at, total, status } in orders {
        let at = at.replace('T', " ");
        sql += &format!("DELETE FROM sales WHERE order_id = '{id}';");
        sql += &format!(
            "INSERT INTO sales VALUES ('{id}', {}, '{email}', '{}', {}, '{status}');",
            or_null(*cart),
            at.trim_end_matches('Z'),
            or_null(*total)
        );
    }
    in_shop(world, &sql);
}

/// `o1 cart 19.90 EUR placed`, and the step or campaign that it followed, by order id.
fn recovered(world: &World) -> Vec<String> {
    let sql =
        "SELECT r.order_id || ' ' || how || ' ' || coalesce(value || ' ' || currency, '-') || ' ' || status || ' '
                   || coalesce(m.step, m.kind) AS line
               FROM recovery AS r JOIN message AS m ON m.id = r.message ORDER BY r.order_id";
    world.rows(sql).into_iter().filter_map(|mut row| row.remove("line").flatten()).collect()
}

fn detect_at(world: &World, at: &str) {
    world.set_now(at);
    world.ok(["detect"]);
}

#[test]
fn an_order_counts_once_for_the_last_mail_before_it() {
    for kind in Kind::all().filter(|kind| matches!(kind, Kind::Sqlite | Kind::Server(_))) {
        let server = Server::start(Plan::accepting());
        let carts = ["c1", "c2"].map(Cart::of);
        let world = attributing(two_steps(World::new().source(kind).carts(carts).smtp(&server)));
        let world = world.now("2026-03-01T09:00:00Z").init();
        sell(&world, &[]);
        detect_at(&world, "2026-03-01T09:00:00Z");
        // The very instant of the mail is not after it.
        sell(&world, &[order("o0", "c1@example.com", "2026-03-01T09:00:00Z")]);
        detect_at(&world, "2026-03-02T08:00:00Z");
        assert_eq!(recovered(&world), [""; 0], "{kind:?}");
        sell(
            &world,
            &[
                order("o1", "C1@Example.com", "2026-03-02T08:00:01Z").of_cart("c1"),
                order("o2", "c1@example.com", "2026-03-02T08:00:02Z"),
                order("o3", "other@example.com", "2026-03-02T08:00:03Z").of_cart("c2"),
                order("o4", "nobody@example.com", "2026-03-02T08:00:03Z"),
            ],
        );
        let expected =
            ["o1 cart 19.90 EUR placed second", "o2 person 19.90 EUR placed second", "o3 cart 19.90 EUR placed second"];
        for at in ["2026-03-02T08:01:00Z", "2026-03-02T08:02:00Z", "2026-03-03T20:00:00Z"] {
            detect_at(&world, at);
            assert_eq!(recovered(&world), expected, "{kind:?} {at}");
        }
        world.ok(["audit"]);
        assert_eq!(server.violations(), [""; 0]);
    }
}

#[test]
fn the_window_holds_to_the_second() {
    let server = Server::start(Plan::accepting());
    let world = attributing(World::new().cart(Cart::of("c1")).smtp(&server)).now("2026-03-01T09:00:00Z").init();
    sell(
        &world,
        &[
            order("before", "c1@example.com", "2026-02-20T09:00:00Z"),
            order("last", "c1@example.com", "2026-03-06T09:00:00Z"),
            order("late", "c1@example.com", "2026-03-06T09:00:01Z"),
        ],
    );
    // Ordered in the future, as far as that run knows: the mail goes, for the order is not of this cart's time.
    in_shop(&world, "UPDATE sales SET status = 'complete'");
    world.ok(["detect"]);
    assert_eq!(server.recipients(), ["c1@example.com"]);
    detect_at(&world, "2026-03-06T10:00:00Z");
    assert_eq!(recovered(&world), ["last person 19.90 EUR placed cart"]);
    world.ok(["audit"]);
}

#[test]
fn an_order_that_is_cancelled_is_marked_and_counts_no_more() {
    let server = Server::start(Plan::accepting());
    let world = attributing(World::new().carts([Cart::of("c1"), Cart::of("c2")]).smtp(&server));
    let world = world.now("2026-03-01T09:00:00Z").init();
    sell(&world, &[]);
    world.ok(["status"]);
    world.exits(2, ["recovered"]).says("never read");
    detect_at(&world, "2026-03-01T09:00:00Z");
    let placed =
        [order("o1", "c1@example.com", "2026-03-01T10:00:00Z"), order("o2", "c2@example.com", "2026-03-01T10:00:00Z")];
    sell(&world, &placed);
    detect_at(&world, "2026-03-01T10:01:00Z");
    world.ok(["status"]).says("orders that followed a mail in the last 30 days: 2 orders, 39.80 EUR; 0 of the very cart, 2 of the same person");
    world.set_now("2026-03-02T10:00:00Z");
    sell(
        &world,
        &[
            order("o1", "c1@example.com", "2026-03-01T10:00:00Z").status("canceled"),
            order("o2", "c2@example.com", "2026-03-01T10:00:00Z").status("wc-refunded"),
        ],
    );
    world.ok(["detect"]);
    assert_eq!(recovered(&world), ["o1 person 19.90 EUR cancelled cart", "o2 person 19.90 EUR refunded cart"]);
    world.ok(["recovered"]).says("0 orders; 1 more cancelled since; 1 more refunded since");
    let json = world.ok(["status", "--json"]).json();
    assert_eq!((json["recovered"]["orders"].as_u64(), json["recovered"]["cancelled"].as_u64()), (Some(0), Some(1)));
    world.ok(["recovered", "--csv", "--since", "30d"]).says("o1,2026-03-01T10:00:00Z,19.90,EUR,cancelled,person,,,<");
    world.ok(["audit"]);
}

#[test]
fn what_is_in_doubt_counts_and_what_never_left_does_not() {
    let server = Server::start(Plan::accepting().nth(Stage::Dot, 1, Act::Close));
    let world = attributing(World::new().cart(Cart::of("c1")).smtp(&server)).now("2026-03-01T09:00:00Z").init();
    sell(&world, &[]);
    world.exits(1, ["detect"]);
    world.has([("in_doubt", 1)]);
    sell(&world, &[order("o1", "c1@example.com", "2026-03-01T10:00:00Z").of_cart("c1")]);
    detect_at(&world, "2026-03-01T10:01:00Z");
    assert_eq!(recovered(&world), ["o1 cart 19.90 EUR placed cart"]);
    world.ok(["recovered"]).says("1 order, 19.90 EUR; 1 of the very cart");
    world.set_now("2026-03-01T11:00:00Z");
    world.ok(["resolve", "--all", "--refused", "--reason", "the log says so"]);
    world.ok(["recovered"]).says("0 orders");
    world.ok(["audit"]);
}

#[test]
fn a_campaign_counts_too_and_the_later_mail_takes_the_order() {
    let server = Server::start(Plan::accepting());
    let definitions = definition("spring", "at = \"2026-03-01 12:30\"");
    let world = World::with_campaigns(&definitions).smtp(&server);
    world.audience("audience.csv", &people(2));
    let world = attributing(world.cart(Cart::of("c1").email("r1@example.com").updated("2026-03-01T11:00:00Z"))).init();
    sell(&world, &[]);
    world.ok(["run-campaigns"]);
    world.campaigns_at("2026-03-01T12:30:00Z", 0);
    detect_at(&world, "2026-03-01T12:40:00Z");
    sell(
        &world,
        &[
            order("o1", "r1@example.com", "2026-03-01T12:35:00Z"),
            order("o2", "r1@example.com", "2026-03-01T12:45:00Z"),
            order("o3", "r2@example.com", "2026-03-01T12:45:00Z"),
        ],
    );
    detect_at(&world, "2026-03-01T13:00:00Z");
    assert_eq!(
        recovered(&world),
        [
            "o1 person 19.90 EUR placed campaign",
            "o2 person 19.90 EUR placed cart",
            "o3 person 19.90 EUR placed campaign",
        ]
    );
    world.ok(["status"]).says("  carts: 1 order, 19.90 EUR\n  campaign spring: 2 orders, 39.80 EUR");
    world.ok(["audit"]);
}

#[test]
fn the_usual_tables_and_files_say_what_was_ordered() {
    for kind in Kind::all() {
        let server = Server::start(Plan::accepting());
        let world = World::new().source(kind).cart(Cart::of("c1").user("7")).smtp(&server);
        let world = world.set("attribution.window", "5d").now("2026-03-01T09:00:00Z").init();
        detect_at(&world, "2026-03-01T09:00:00Z");
        world.order("c1", "2026-03-01T10:00:00Z");
        detect_at(&world, "2026-03-01T10:01:00Z");
        detect_at(&world, "2026-03-01T10:02:00Z");
        let expected = match kind {
            // Files have no orders; a cart that was ordered is one, and worth what is in it.
            Kind::JsonLines | Kind::Csv => "c1 cart 19.90 EUR placed cart",
            Kind::Sqlite | Kind::Server(_) => "1 cart - placed cart",
        };
        assert_eq!(recovered(&world), [expected], "{kind:?}");
        let ran = world.run(["doctor"]);
        let is_file = matches!(kind, Kind::JsonLines | Kind::Csv);
        ran.says(if is_file { "ok    orders         1 order since" } else { "warn  orders         1 order since" });
        assert_eq!(ran.output().contains("none has a total"), !is_file, "{ran}");
    }
}

#[test]
fn the_usual_table_tells_more_where_it_has_the_columns() {
    let server = Server::start(Plan::accepting());
    let world = World::new().cart(Cart::of("c1").user("7")).smtp(&server).set("attribution.window", "5d");
    let world = world.now("2026-03-01T09:00:00Z").init();
    world.ok(["detect"]);
    in_shop(
        &world,
        "DROP TABLE orders;
         CREATE TABLE orders (id INTEGER PRIMARY KEY, cart_id TEXT, user_id INTEGER, email TEXT, created_at INTEGER, total REAL,
             currency TEXT, status TEXT);
         INSERT INTO orders VALUES (5, NULL, 7, 'elsewhere@example.com', 1772359200, 12.5, 'usd', 'Cancelled'),
             (6, NULL, 8, NULL, 1772359200, 12.5, 'usd', 'new'), (7, 'c1', NULL, NULL, 1772359200, 99, NULL, NULL)",
    );
    detect_at(&world, "2026-03-01T10:05:00Z");
    assert_eq!(recovered(&world), ["5 person 12.50 USD cancelled cart", "7 cart - placed cart"]);
}

#[test]
fn orders_that_cannot_be_read_change_nothing_that_is_sent_and_are_told_once() {
    let server = Server::start(Plan::accepting());
    let world = attributing(World::new().carts([Cart::of("c1")]).smtp(&server)).now("2026-03-01T09:00:00Z").init();
    let ran = world.exits(1, ["detect"]);
    ran.says("the shop's orders were not read").says("what was due was sent all the same");
    assert!(!ran.output().contains("nothing is sent"), "{ran}");
    assert_eq!(server.recipients(), ["c1@example.com"]);
    world.put(Cart::of("c2"));
    world.set_now("2026-03-01T09:01:00Z");
    world.ok(["detect"]).is_silent();
    assert_eq!(server.recipients().len(), 2);
    world.ok(["status"]).says("orders not read, since 2026-03-01T09:00:00Z");
    world.exits(1, ["doctor"]).says("FAIL  orders");
    sell(&world, &[order("o1", "c1@example.com", "2026-03-01T09:00:30Z")]);
    detect_at(&world, "2026-03-01T09:02:00Z");
    assert!(!world.ok(["status"]).output().contains("orders not read"));
    assert_eq!(recovered(&world), ["o1 person 19.90 EUR placed cart"]);
    // A query without what it must have.
    world.configure("source.orders", "SELECT 1 AS order_id");
    world.set_now("2026-03-01T09:03:00Z");
    world.exits(1, ["detect"]).says("lacks email, ordered_at");
    world.configure("source.orders", "DELETE FROM sales");
    world.exits(1, ["detect", "--json"]);
    assert_eq!(world.number("SELECT count(*) FROM message"), 2);
}

#[test]
fn the_held_out_are_compared_as_planned_by_their_first_abandonment() {
    let server = Server::start(Plan::accepting());
    let carts = (0..400).map(|number| Cart::of(&format!("c{number}")));
    let world = attributing(held_out(World::new().carts(carts).smtp(&server), 25)).now("2026-03-01T09:00:00Z").init();
    sell(&world, &[]);
    detect_at(&world, "2026-03-01T09:00:00Z");
    let held = world.number("SELECT count(*) FROM message WHERE reason = 'holdout'");
    // Every second of the treated orders, and every fifth of the held-out; each twice.
    let ordering = "SELECT folded_address FROM (SELECT folded_address, reason, row_number() OVER (PARTITION BY reason ORDER BY id) AS n
                    FROM message) WHERE n % CASE WHEN reason = 'holdout' THEN 5 ELSE 2 END = 0";
    let people = world.rows(ordering).into_iter().filter_map(|mut row| row.remove("folded_address").flatten());
    let insert = |id: &str, email: &str, status: &str| {
        format!("INSERT INTO sales VALUES ('{id}', NULL, '{email}', '2026-03-01 12:00:00', '5', '{status}');")
    };
    let orders: Vec<String> = people
        .enumerate()
        .map(|(n, email)| insert(&format!("a{n}"), &email, "new") + &insert(&format!("b{n}"), &email, "new"))
        .collect();
    in_shop(&world, &orders.concat());
    // One who ordered, and cancelled it.
    let first = "SELECT folded_address FROM message WHERE reason IS NULL ORDER BY id LIMIT 1";
    let first = world.rows(first)[0]["folded_address"].clone().unwrap();
    in_shop(&world, &insert("gone", &first, "cancelled"));
    detect_at(&world, "2026-03-01T13:00:00Z");
    // Their time is not over.
    let compared = |world: &World| world.ok(["status", "--json"]).json()["recovered"]["holdout"].clone();
    assert_eq!(compared(&world)["treated"]["people"], serde_json::Value::Null);
    detect_at(&world, "2026-03-06T08:59:59Z");
    assert_eq!(compared(&world), serde_json::Value::Null);
    detect_at(&world, "2026-03-06T09:15:00Z");
    let (treated, held) = ((400 - held) as u64, held as u64);
    let holdout = compared(&world);
    let arm = |people: u64, ordered: u64| serde_json::json!({"people": people, "ordered": ordered});
    assert_eq!(
        (&holdout["treated"], &holdout["held_out"]),
        (&arm(treated, treated / 2), &arm(held, held / 5)),
        "{holdout}"
    );
    assert!(holdout["difference"]["from"].as_f64().unwrap() > 0.0, "{holdout}");
    world.ok(["status"]).says("points, more than chance (95 % interval");
    world.ok(["audit"]);
}
