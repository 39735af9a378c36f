//! Presets: each shop's tables as its makers publish them, filled with carts of every sort, read by a user who has only the
//! rights that `init --shop` prints.

use std::collections::BTreeSet;
use std::fs;

use crate::docs::{in_repository, page};
use crate::support::{Database, Engine, World};

const PASSWORD: &str = "s3cret 'word'";

/// A shop of one kind in a database, and the folder of someone who set mailonce up for it.
struct Set {
    name: &'static str,
    database: Database<'static>,
    world: World,
    /// What `init` printed last.
    grants: Vec<String>,
    user: String,
}

/// What a row of `expected.tsv` says.
struct Expected {
    cart_id: String,
    outcome: String,
    lines: BTreeSet<String>,
    why: String,
}

fn expected(name: &str) -> Vec<Expected> {
    let text = page(format!("tests/fixtures/shops/{name}/expected.tsv"));
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| {
        let [cart_id, outcome, lines, why] = row.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let lines = lines.split("; ").filter(|line| *line != "-").map(str::to_owned).collect();
        Expected { cart_id: cart_id.into(), outcome: outcome.into(), lines, why: why.into() }
    })
    .collect()
}

impl Set {
    /// Sets mailonce up as a person does; `edits` are made in the configuration that `init` wrote.
    fn up(name: &'static str, engine: Engine, fixture: &str, edits: &[(&str, &str)]) -> Option<Set> {
        Set::of(name, engine, &page(format!("tests/fixtures/shops/{name}/{fixture}")), edits)
    }

    fn of(name: &'static str, engine: Engine, tables: &str, edits: &[(&str, &str)]) -> Option<Set> {
        let database = Database::new(engine)?;
        database.run(tables);
        let world = World::new();
        for file in ["mailonce.toml", "shop.db"] {
            fs::remove_file(world.path(file)).unwrap();
        }
        world.ok(["init", "--rehearsal", "--shop", name]);
        // The server is shared, and users belong to all of it.
        let user = format!("m_{}", database.name);
        let mut set = Set { name, database, world, grants: Vec::new(), user };
        fs::write(set.world.path("shop.password"), format!("{PASSWORD}\n")).unwrap();
        let url = set.database.url().replace("reader@", &format!("{}@", set.user));
        set.edit_line("@127.0.0.1/", &format!("url = \"{url}\""));
        set.edit_line("# since = ", "since = \"2026-01-01T00:00:00Z\"");
        for (line, with) in edits {
            set.edit_line(line, with);
        }
        let printed = set.world.ok(["init", "--rehearsal", "--shop", name, "--json"]).json();
        set.grants = printed["grants"].as_array().unwrap().iter().map(|grant| grant.as_str().unwrap().into()).collect();
        let quoted = PASSWORD.replace('\'', "''");
        let grants = set.grants.join("\n").replace("CHOOSE-A-PASSWORD", &quoted).replace("@'localhost'", "@'%'");
        set.database.run(&grants);
        Some(set)
    }

    /// Writes another line in place of the first that holds this.
    fn edit_line(&self, holds: &str, with: &str) {
        let path = self.world.path("mailonce.toml");
        let text = fs::read_to_string(&path).unwrap();
        let line = text.lines().find(|line| line.contains(holds));
        let line = line.unwrap_or_else(|| panic!("no line holds {holds:?}:\n{text}"));
        fs::write(&path, text.replacen(line, with, 1)).unwrap();
    }

    fn carts(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let ran = self.world.ok([&["source", "carts", "--json"], arguments].concat());
        let masked = ran.stdout.split('@').rev().skip(1).all(|before| before.ends_with(['…', ' ']));
        assert!(masked, "an address is shown: {ran}");
        let shown = ran.json();
        let all = ["carts", "bad_rows"].map(|key| shown[key].as_array().unwrap().clone());
        all.concat()
    }

    /// Each cart by itself, and all together.
    fn check(&self) {
        let expected = expected(self.name);
        for Expected { cart_id, outcome, lines, why } in &expected {
            let found = self.carts(&[cart_id]);
            let place = format!("{} cart {cart_id} ({why}): {found:?}", self.name);
            let Some(cart) = found.first() else {
                assert!(["absent", "gone"].contains(&outcome.as_str()), "{place}");
                continue;
            };
            if cart.is_string() {
                // One that no look at all carts finds may be bad as well.
                assert!(["bad_row", "absent"].contains(&outcome.as_str()), "{place}");
                continue;
            }
            let said = match (cart["verdict"].as_str().unwrap(), cart["detail"].as_str().unwrap()) {
                ("write", _) => "send",
                ("no consent", "none recorded") => "ask",
                ("no consent", "refused") => "refused",
                ("ordered", _) => "ordered",
                ("not idle yet" | "older than max_age" | "empty", _) => "absent",
                other => panic!("{other:?}: {place}"),
            };
            // Where consent comes first: the mails tell the two apart.
            let asks = outcome == "ordered" && said == "ask";
            assert!(said == outcome || asks, "{place}");
            if outcome != "absent" {
                assert_eq!(lines_of(cart), *lines, "{place}");
            }
        }
        for none in ["", "0", "no such cart", "1' OR '1' = '1", "99999999999999999999999"] {
            assert_eq!(self.carts(&[none]), [serde_json::Value::Null; 0], "{} {none}", self.name);
        }
        let ids = |outcomes: &[&str]| -> BTreeSet<String> {
            let meant = expected.iter().filter(|row| outcomes.contains(&row.outcome.as_str()));
            meant.map(|row| row.cart_id.clone()).collect()
        };
        let all = self.carts(&["--limit", "1000"]);
        let read = all.iter().filter(|cart| cart["verdict"].as_str().is_some_and(|verdict| verdict != "empty"));
        let read: BTreeSet<String> = read.map(|cart| cart["cart_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(read, ids(&["send", "ask", "refused", "ordered"]), "{}", self.name);
        assert_eq!(all.iter().filter(|cart| cart.is_string()).count(), ids(&["bad_row"]).len(), "{}", self.name);
    }

    /// Who gets a mail, when consent must be recorded and when it is assumed.
    fn check_mails(&self) {
        let expected = expected(self.name);
        let count = |outcomes: &[&str]| expected.iter().filter(|row| outcomes.contains(&row.outcome.as_str())).count();
        let has_bad_rows = count(&["bad_row"]) > 0;
        let detect = |said: &[&str]| self.world.exits(if has_bad_rows { 1 } else { 0 }, said);
        detect(&["detect"]);
        assert_eq!(self.world.outbox().len(), count(&["send"]), "{}", self.name);
        self.edit_line("# consent = ", "consent = \"assumed\"");
        self.world.run(["detect"]);
        assert_eq!(self.world.outbox().len(), count(&["send", "ask"]), "{}", self.name);
        self.world.run(["detect"]);
        assert_eq!(self.world.outbox().len(), count(&["send", "ask"]), "{}: twice", self.name);
    }

    /// Without any one of the rights nothing is read.
    fn check_that_each_right_is_needed(&self) {
        for grant in self.grants.iter().filter(|grant| grant.starts_with("GRANT SELECT")) {
            let grant = grant.replace("@'localhost'", "@'%'");
            let (right, user) = grant.trim_end_matches(';').rsplit_once(" TO ").unwrap();
            self.database.run(&format!("{} FROM {user}", right.replacen("GRANT", "REVOKE", 1)));
            let ran = self.world.run(["source", "carts"]);
            assert_ne!(ran.code, 0, "{}: nothing needs {grant}\n{ran}", self.name);
            ran.says("does not let the user read what the query").says("prints every right it needs");
            self.database.run(&grant);
        }
        self.world.ok(["source", "carts"]);
    }

    /// Where the mail about the first cart leads.
    fn check_link(&self, link: &str) {
        let first = &expected(self.name)[0].cart_id;
        self.world.ok(["preview", first]);
        let text = fs::read_to_string(self.world.path("preview/message.txt")).unwrap();
        assert!(text.contains(&format!("\n{link}\n")), "{}: {text}", self.name);
    }

    fn check_all(&self, link: &str) {
        self.check();
        self.check_link(link);
        self.check_that_each_right_is_needed();
        self.check_mails();
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        // Its rights go with the database on MariaDB, and keep it there on PostgreSQL.
        match self.database.server.engine {
            Engine::MariaDb => self.database.run(&format!("DROP USER IF EXISTS '{}'@'%'", self.user)),
            Engine::Postgres => self.database.run(&format!("DROP OWNED BY \"{0}\"; DROP USER \"{0}\"", self.user)),
        };
    }
}

/// `LAMP 2 19.9`, as in `expected.tsv`.
fn lines_of(cart: &serde_json::Value) -> BTreeSet<String> {
    let line = |line: &serde_json::Value| {
        let price = line["unit_price"].as_str().map_or("-".to_owned(), |price| {
            let digits: String = price.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
            digits.parse::<f64>().unwrap().to_string()
        });
        format!("{} {} {price}", line["sku"].as_str().unwrap(), line["quantity"].as_str().unwrap())
    };
    cart["lines"].as_array().unwrap().iter().map(line).collect()
}

fn check(name: &'static str, engine: Engine, link: &str, edits: &[(&str, &str)]) {
    if let Some(set) = Set::up(name, engine, "shop.sql", edits) {
        set.check_all(link);
    }
}

#[test]
fn magento() {
    check("magento2", Engine::MariaDb, "https://shop.example/checkout/cart/", &[("# stores = ", "stores = [1, 2, 3]")]);
}

#[test]
fn woocommerce() {
    check(
        "woocommerce",
        Engine::MariaDb,
        "https://shop.example/checkout/order-pay/1/?pay_for_order=true&key=wc_order_key1",
        &[],
    );
}

#[test]
fn woocommerce_with_cartflows() {
    check(
        "woocommerce-cartflows",
        Engine::MariaDb,
        "https://shop.example/?page_id=9&wcf_ac_token=d2NmX3Nlc3Npb25faWQ9MDEyMGE0ZjkxOTZhNWY5ZWI5ZjUyM2YzMWY5MTRkYTc%3D",
        &[("the zone of the shop's clock", "timezone = \"Europe/Berlin\"")],
    );
}

#[test]
fn odoo() {
    check("odoo", Engine::Postgres, "https://shop.example/shop/cart?access_token=tok-1", &[]);
}

#[test]
fn solidus() {
    check("solidus", Engine::Postgres, "https://shop.example/cart", &[]);
}

#[test]
fn spree() {
    check("spree", Engine::Postgres, "https://shop.example/checkout/tok-1", &[("# language = ", "language = \"de\"")]);
}

#[test]
fn sylius_on_mariadb() {
    check("sylius", Engine::MariaDb, "https://shop.example/cart/", &[]);
}

#[test]
fn sylius_on_postgresql() {
    if let Some(set) = Set::up("sylius", Engine::Postgres, "postgres.sql", &[("kind = ", "kind = \"postgres\"")]) {
        set.check_all("https://shop.example/cart/");
    }
}

#[test]
fn opencart() {
    check(
        "opencart",
        Engine::MariaDb,
        "https://shop.example/index.php?route=checkout/cart",
        &[("the zone of the shop's clock", "timezone = \"Asia/Kolkata\"")],
    );
}

#[test]
fn saleor() {
    check(
        "saleor",
        Engine::Postgres,
        "https://front.example/checkout?checkout=Q2hlY2tvdXQ6YTU4NzM5ZGMtOWU0ZS01MDg3LTk4MWYtYzBlZGY2ZTc2ZjM4",
        &[("base_url = ", "base_url = \"https://front.example/\"")],
    );
}

#[test]
fn medusa() {
    check(
        "medusa2",
        Engine::Postgres,
        "https://front.example/cart/cart_1",
        &[("base_url = ", "base_url = \"https://front.example\"")],
    );
}

#[test]
fn prestashop() {
    check(
        "prestashop8",
        Engine::MariaDb,
        "https://shop.example/index.php?controller=cart&action=show",
        &[("the zone of the shop's clock", "timezone = \"Europe/Paris\"")],
    );
}

#[test]
fn shopware() {
    check("shopware6", Engine::MariaDb, "https://shop.example/checkout/cart", &[]);
}

#[test]
fn a_line_without_a_price_is_mailed_without_one_and_without_a_total() {
    let edits = [("the zone of the shop's clock", "timezone = \"Europe/Paris\"")];
    let Some(set) = Set::up("prestashop8", Engine::MariaDb, "shop.sql", &edits) else { return };
    set.world.ok(["preview", "26"]);
    let text = fs::read_to_string(set.world.path("preview/message.txt")).unwrap();
    assert!(text.contains("1 × Lamp   €19.90\n1 × On sale\n\nReturn to your cart"), "{text}");
    assert!(!text.contains("Total"), "{text}");
    set.world.ok(["preview", "15"]);
    let text = fs::read_to_string(set.world.path("preview/message.txt")).unwrap();
    assert!(text.contains("1 × Lampe d'été 💡   €21.60\n"), "{text}");
    set.world
        .ok(["source", "carts", "26"])
        .says("1 × On sale (SALE), no price\n    total not shown; would be written to");
}

#[test]
fn what_is_shown_of_a_cart_is_masked() {
    let Some(set) = Set::up("woocommerce", Engine::MariaDb, "shop.sql", &[]) else { return };
    let ran = set.world.ok(["source", "carts", "--limit", "2"]);
    ran.says("2 carts shown; nothing was written").says("cart 1  g…@example.com (guest), touched 2026-03-01T08:00:00Z");
    ran.says("    2 × Lamp (LAMP), €19.90, picture\n    total €39.80; left out: no consent (none recorded)\n");
    // The link has the order's key, which lets anyone pay it.
    assert!(!ran.output().contains("guest@") && !ran.output().contains("wc_order_key"), "{ran}");
    set.world.ok(["source", "carts", "3"]).says("left out: not idle yet (touched 30m ago)");
    set.world.ok(["source", "carts", "nobody"]).says("the shop has no cart \"nobody\"");
}

#[test]
fn the_queries_that_are_printed_can_stand_in_place_of_the_presets() {
    let edits = [("the zone of the shop's clock", "timezone = \"Europe/Berlin\"")];
    let shops: [(_, _, &[(&str, &str)]); 3] = [
        ("magento2", Engine::MariaDb, &[]),
        ("woocommerce-cartflows", Engine::MariaDb, &edits),
        ("odoo", Engine::Postgres, &[]),
    ];
    for (name, engine, edits) in shops {
        let Some(set) = Set::up(name, engine, "shop.sql", edits) else { continue };
        let before = set.carts(&["--limit", "1000"]);
        let printed = set.world.ok(["source", "queries"]).stdout;
        set.edit_line("# carts, cart, ordered", &printed);
        assert_eq!(set.carts(&["--limit", "1000"]), before, "{name}");
        assert_eq!(set.world.ok(["source", "queries"]).stdout, printed, "{name}");
        // A slip in one is named by its key.
        set.edit_line("cart = '''", "cart = '''\nSELECT nothing AS");
        set.world.exits(78, ["source", "carts"]).says("source.cart");
    }
    World::new().exits(78, ["source", "queries"]).says("no query is configured");
}

#[test]
fn other_table_names_stores_and_pages_are_followed() {
    let edits =
        [("# table_prefix = ", "table_prefix = \"shop7_\""), ("# base_url", "base_url = \"https://o'neill.example/\"")];
    let renamed = page("tests/fixtures/shops/woocommerce/shop.sql").replace(" wp_", " shop7_");
    if let Some(set) = Set::of("woocommerce", Engine::MariaDb, &renamed, &edits) {
        set.check();
        set.world.ok(["preview", "1"]);
        let text = fs::read_to_string(set.world.path("preview/message.txt")).unwrap();
        assert!(
            text.contains("https://o'neill.example/checkout/order-pay/1/?pay_for_order=true&key=wc_order_key1"),
            "{text}"
        );
    }
    let link = ("# recovery_url", "recovery_url = \"https://shop2.example/take-up?cart={cart_id}\"");
    if let Some(set) = Set::up("magento2", Engine::MariaDb, "shop.sql", &[("# stores = ", "stores = [2, 3]"), link]) {
        let found: Vec<_> = set.carts(&["--limit", "1000"]).iter().map(|cart| cart["cart_id"].clone()).collect();
        assert_eq!(found, ["14", "15"]);
        set.world.ok(["preview", "14"]);
        let html = fs::read_to_string(set.world.path("preview/message.html")).unwrap();
        assert!(html.contains("href=\"https://shop2.example/take-up?cart=14\""), "{html}");
    }
}

#[test]
fn the_doctor_names_a_link_that_leads_nowhere_and_a_clock_until_they_are_set() {
    if let Some(set) = Set::up("medusa2", Engine::Postgres, "shop.sql", &[]) {
        let ran = set.world.ok(["doctor"]);
        ran.says("is read with a placeholder as source.base_url").says("/cart/ID below source.base_url");
        set.edit_line("base_url = ", "base_url = \"https://front.example\"");
        set.edit_line("# recovery_url", "recovery_url = \"https://front.example/take-up/{cart_id}\"");
        let ran = set.world.ok(["doctor"]);
        assert!(!ran.output().contains("placeholder") && !ran.output().contains("below source.base_url"), "{ran}");
    }
    if let Some(set) = Set::up("opencart", Engine::MariaDb, "shop.sql", &[]) {
        set.world.ok(["doctor"]).says("is read as if the clock of OpenCart 3.0 and 4.1 went by UTC");
        set.edit_line("the zone of the shop's clock", "timezone = \"Asia/Kolkata\"");
        let ran = set.world.ok(["doctor"]);
        assert!(!ran.output().contains("went by UTC"), "{ran}");
        // Large, and without an index that serves.
        set.database.run(
            "INSERT INTO oc_order (order_id, store_url, firstname, email, order_status_id, currency_code, date_added, date_modified)
             SELECT seq, '', '', '', 5, 'EUR', '2026-01-01', '2026-01-01' FROM seq_1000_to_12000",
        );
        let ran = set.world.ok(["doctor"]);
        let index = "CREATE INDEX mailonce_order_status_id ON oc_order (order_status_id, date_modified)";
        ran.says("has no index by which oc_order is looked into by order_status_id").says(index);
        assert!(!ran.output().contains("oc_order (email)"), "there is one: {ran}");
        set.database.run(index);
        let ran = set.world.ok(["doctor"]);
        assert!(!ran.output().contains("has no index"), "{ran}");
    }
}

#[test]
fn init_for_a_shop_says_what_to_grant_and_what_comes_next() {
    let world = World::new().without_now();
    for file in ["mailonce.toml", "shop.db"] {
        fs::remove_file(world.path(file)).unwrap();
    }
    let ran = world.ok(["init", "--shop", "magento2"]);
    ran.says("made mailonce.toml").says("made shop.password").says("to be run on the shop's database");
    ran.says("CREATE USER 'mailonce'@'localhost' IDENTIFIED BY 'CHOOSE-A-PASSWORD';");
    ran.says("GRANT SELECT ON `magento`.quote_item TO 'mailonce'@'localhost';")
        .says("write the password into shop.password");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(world.path("shop.password")).unwrap().permissions().mode() & 0o777, 0o600);
    let config = fs::read_to_string(world.path("mailonce.toml")).unwrap();
    assert!(config.contains("\nshop = \"magento2\"") && config.contains("\n[mail]\nfrom = "), "{config}");
    assert!(!config.contains("sqlite") && !config.contains("language = "), "{config}");
    // Under the names that a person wrote.
    let url = "mysql://reader%40shop@db.example/my%60shop";
    fs::write(world.path("mailonce.toml"), config.replace("mysql://mailonce@127.0.0.1/magento", url)).unwrap();
    let ran = world.ok(["init", "--shop", "magento2"]);
    ran.says("nothing to do").says("GRANT SELECT ON `my``shop`.quote TO 'reader@shop'@'%';");
    let ran = world.exits(78, ["init", "--shop", "odoo"]);
    ran.says("is there already, and source.shop in it is not \"odoo\"");
    world.exits(2, ["init", "--shop", "magneto"]).says("magento2");
}

#[test]
fn every_shop_has_a_page_and_a_fixture() {
    let documented = page("docs/shops.md");
    let ran = World::new().run(["init", "--shop", "none"]);
    let names = ran.stderr.split("[possible values: ").nth(1).unwrap().split(']').next().unwrap().to_owned();
    let names: Vec<&str> = names.split(", ").collect();
    assert_eq!(names.len(), 12, "{ran}");
    for name in names {
        assert!(
            documented.contains(&format!("\n## {name}\n")) && documented.contains(&format!("\n| `{name}` |")),
            "{name}"
        );
        assert!(in_repository(format!("tests/fixtures/shops/{name}/expected.tsv")).is_file(), "{name}");
    }
}

/// What someone ordered after the mail about the first cart, and what is made of it.
struct Sale {
    name: &'static str,
    engine: Engine,
    edits: &'static [(&'static str, &'static str)],
    /// Orders of the last five days in the fixture that are found.
    found: u64,
    /// At 2026-03-01T12:30:00Z.
    ordered: &'static str,
    recovered: &'static str,
    cancelled: &'static str,
}

const ASSUMED: (&str, &str) = ("# consent = ", "consent = \"assumed\"");

const SALES: [Sale; 12] = [
    Sale {
        name: "magento2",
        engine: Engine::MariaDb,
        edits: &[("# stores = ", "stores = [1, 2, 3]"), ASSUMED],
        found: 5,
        ordered: "INSERT INTO sales_order (entity_id, state, store_id, customer_email, quote_id, grand_total, order_currency_code, created_at, updated_at)
                  VALUES (77, 'processing', 1, 'guest@example.com', 1, 71.5, 'EUR', '2026-03-01 12:30:00', '2026-03-01 12:30:00')",
        recovered: "cart 71.50 EUR",
        cancelled: "UPDATE sales_order SET state = 'canceled' WHERE entity_id = 77",
    },
    Sale {
        name: "woocommerce",
        engine: Engine::MariaDb,
        edits: &[ASSUMED],
        found: 5,
        ordered: "UPDATE wp_wc_orders SET status = 'wc-processing', total_amount = 71.5, date_updated_gmt = '2026-03-01 12:30:00' WHERE id = 1;
                  UPDATE wp_wc_order_operational_data SET date_paid_gmt = '2026-03-01 12:30:00' WHERE order_id = 1",
        recovered: "cart 71.50 EUR",
        cancelled: "UPDATE wp_wc_orders SET status = 'wc-cancelled' WHERE id = 1",
    },
    Sale {
        name: "woocommerce-cartflows",
        engine: Engine::MariaDb,
        edits: &[("the zone of the shop's clock", "timezone = \"Europe/Berlin\""), ASSUMED],
        found: 3,
        ordered: "INSERT INTO wp_wc_orders (id, status, currency, type, total_amount, billing_email, date_created_gmt, date_updated_gmt)
                  VALUES (77, 'wc-on-hold', 'EUR', 'shop_order', 71.5, 'guest@example.com', '2026-03-01 12:30:00', '2026-03-01 12:30:00')",
        recovered: "person 71.50 EUR",
        cancelled: "UPDATE wp_wc_orders SET status = 'wc-cancelled' WHERE id = 77",
    },
    Sale {
        name: "odoo",
        engine: Engine::Postgres,
        edits: &[ASSUMED],
        found: 4,
        ordered: "UPDATE sale_order SET state = 'sale', amount_total = 71.5, date_order = '2026-03-01 12:30' WHERE id = 1",
        recovered: "cart 71.50 EUR",
        cancelled: "UPDATE sale_order SET state = 'cancel' WHERE id = 1",
    },
    Sale {
        name: "solidus",
        engine: Engine::Postgres,
        edits: &[ASSUMED],
        found: 4,
        ordered: "UPDATE spree_orders SET state = 'complete', total = 71.5, completed_at = '2026-03-01 12:30', updated_at = '2026-03-01 12:30' WHERE id = 1",
        recovered: "cart 71.50 EUR",
        cancelled: "UPDATE spree_orders SET canceled_at = '2026-03-01 12:31' WHERE id = 1",
    },
    Sale {
        name: "spree",
        engine: Engine::Postgres,
        edits: &[ASSUMED],
        found: 4,
        ordered: "UPDATE spree_orders SET state = 'complete', total = 71.5, completed_at = '2026-03-01 12:30', updated_at = '2026-03-01 12:30' WHERE id = 1",
        recovered: "cart 71.50 EUR",
        cancelled: "UPDATE spree_orders SET canceled_at = '2026-03-01 12:31' WHERE id = 1",
    },
    Sale {
        name: "sylius",
        engine: Engine::MariaDb,
        edits: &[ASSUMED],
        found: 4,
        ordered: "UPDATE sylius_order SET state = 'new', total = 7150, checkout_completed_at = '2026-03-01 12:30:00', updated_at = '2026-03-01 12:30:00' WHERE id = 1",
        recovered: "cart 71.50 EUR",
        cancelled: "UPDATE sylius_order SET state = 'cancelled' WHERE id = 1",
    },
    Sale {
        name: "opencart",
        engine: Engine::MariaDb,
        edits: &[("the zone of the shop's clock", "timezone = \"Asia/Kolkata\""), ASSUMED],
        found: 4,
        ordered: "INSERT INTO oc_order (order_id, store_url, firstname, email, total, order_status_id, currency_code, currency_value, date_added, date_modified)
                  VALUES (77, '', '', 'guest@example.com', 35.75, 1, 'EUR', 2, '2026-03-01 18:00:00', '2026-03-01 18:00:00')",
        recovered: "person 71.50 EUR",
        cancelled: "UPDATE oc_order SET order_status_id = 7 WHERE order_id = 77",
    },
    Sale {
        name: "saleor",
        engine: Engine::Postgres,
        edits: &[("base_url = ", "base_url = \"https://front.example/\""), ASSUMED],
        found: 4,
        ordered: "INSERT INTO order_order (id, created_at, status, user_email, total_gross_amount, checkout_token)
                  VALUES ('00000000-0000-0000-0000-000000000077', '2026-03-01 12:30Z', 'unfulfilled', 'guest@example.com', 71.5, 'a58739dc-9e4e-5087-981f-c0edf6e76f38')",
        recovered: "cart 71.50 EUR",
        cancelled: "UPDATE order_order SET status = 'canceled' WHERE total_gross_amount = 71.5",
    },
    Sale {
        name: "medusa2",
        engine: Engine::Postgres,
        edits: &[("base_url = ", "base_url = \"https://front.example\""), ASSUMED],
        found: 4,
        ordered: "INSERT INTO \"order\" (id, email, created_at) VALUES ('order_77', 'guest@example.com', '2026-03-01 12:30Z');
                  INSERT INTO order_cart VALUES ('order_77', 'cart_1', 'ordercart_77', NULL)",
        recovered: "cart -",
        cancelled: "UPDATE \"order\" SET canceled_at = '2026-03-01 12:31Z' WHERE id = 'order_77'",
    },
    Sale {
        name: "prestashop8",
        engine: Engine::MariaDb,
        edits: &[("the zone of the shop's clock", "timezone = \"Europe/Paris\""), ASSUMED],
        found: 5,
        ordered: "INSERT INTO ps_orders (id_order, id_customer, id_cart, current_state, total_paid, date_add)
                  SELECT 77, id_customer, 1, 2, 71.5, '2026-03-01 13:30:00' FROM ps_cart WHERE id_cart = 1",
        recovered: "cart 71.50 EUR",
        cancelled: "UPDATE ps_orders SET current_state = 6 WHERE id_order = 77",
    },
    Sale {
        name: "shopware6",
        engine: Engine::MariaDb,
        edits: &[ASSUMED],
        found: 3,
        ordered: "SET @live = UNHEX('0FA91CE3E96A4BC2BE4BD9CE752C3425');
                  INSERT INTO `order` VALUES (UNHEX(MD5('77')), @live, UNHEX(MD5('open')), UNHEX(MD5('EUR')), 71.5, '2026-03-01 12:30:00');
                  INSERT INTO order_customer SELECT UNHEX(MD5('c77')), @live, u.id, UNHEX(MD5('77')), @live, u.email
                  FROM cart c JOIN sales_channel_api_context x ON x.token = c.token JOIN customer u ON u.id = x.customer_id WHERE u.email = 'guest@example.com'",
        recovered: "person 71.50 EUR",
        cancelled: "UPDATE `order` SET state_id = UNHEX(MD5('cancelled')) WHERE amount_total = 71.5",
    },
];

#[test]
fn the_orders_of_every_shop_are_held_against_the_mail() {
    for Sale { name, engine, edits, found, ordered, recovered, cancelled } in SALES {
        let Some(set) = Set::up(name, engine, "shop.sql", edits) else { continue };
        let config = set.world.path("mailonce.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text + "\n[attribution]\nwindow = \"5d\"\n").unwrap();
        let said = set.world.run(["doctor"]);
        assert!(said.output().contains(&format!(" {found} orders since 2026-02-24T12:00:00Z")), "{name}: {said}");
        assert_eq!(said.output().contains("none has a total"), recovered.ends_with('-'), "{name}: {said}");
        set.world.run(["detect"]);
        let now = |sql: &str, at: &str| {
            let utc = if matches!(engine, Engine::MariaDb) { "SET time_zone = '+00:00'; " } else { "" };
            set.database.run(&format!("{utc}{sql}"));
            set.world.set_now(at);
            set.world.run(["detect"]);
            let rows = set.world.rows(
                "SELECT how || ' ' || coalesce(value || ' ' || currency, '-') AS what, status FROM recovery
                 WHERE ordered_at = '2026-03-01T12:30:00Z'",
            );
            assert_eq!(rows.len(), 1, "{name}: {rows:?}\n{}", set.world.report());
            (rows[0]["what"].clone().unwrap(), rows[0]["status"].clone().unwrap())
        };
        assert_eq!(now(ordered, "2026-03-01T12:40:00Z"), (recovered.into(), "placed".into()), "{name}");
        assert_eq!(now(cancelled, "2026-03-01T12:50:00Z"), (recovered.into(), "cancelled".into()), "{name}");
        set.world.ok(["audit"]);
    }
}
