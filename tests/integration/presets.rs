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
        let database = Database::new(engine)?;
        database.run(&page(format!("tests/fixtures/shops/{name}/{fixture}")));
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
        assert!(!ran.stdout.contains("example.com\"") || !ran.stdout.contains("guest@"), "an address is shown: {ran}");
        let shown = ran.json();
        let all = ["carts", "bad_rows"].map(|key| shown[key].as_array().unwrap().clone());
        all.concat()
    }

    /// Each cart by itself, and all together.
    fn check(&self) {
        let expected = expected(self.name);
        for Expected { cart_id, outcome, lines, why } in &expected {
            let found = self.carts(&["--cart", cart_id]);
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
            self.database.run(&grant);
        }
        self.world.ok(["source", "carts"]);
    }

    fn check_all(&self) {
        self.check();
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

fn check(name: &'static str, engine: Engine, edits: &[(&str, &str)]) {
    if let Some(set) = Set::up(name, engine, "shop.sql", edits) {
        set.check_all();
    }
}

#[test]
fn magento() {
    check("magento2", Engine::MariaDb, &[("# stores = ", "stores = [1, 2, 3]")]);
}

#[test]
fn woocommerce() {
    check("woocommerce", Engine::MariaDb, &[]);
}

#[test]
fn woocommerce_with_cartflows() {
    check(
        "woocommerce-cartflows",
        Engine::MariaDb,
        &[("the zone of the shop's clock", "timezone = \"Europe/Berlin\"")],
    );
}

#[test]
fn odoo() {
    check("odoo", Engine::Postgres, &[]);
}

#[test]
fn solidus() {
    check("solidus", Engine::Postgres, &[]);
}

#[test]
fn spree() {
    check("spree", Engine::Postgres, &[("# language = ", "language = \"de\"")]);
}

#[test]
fn sylius_on_mariadb() {
    check("sylius", Engine::MariaDb, &[]);
}

#[test]
fn sylius_on_postgresql() {
    if let Some(set) = Set::up("sylius", Engine::Postgres, "postgres.sql", &[("kind = ", "kind = \"postgres\"")]) {
        set.check_all();
    }
}

#[test]
fn opencart() {
    check("opencart", Engine::MariaDb, &[("the zone of the shop's clock", "timezone = \"Asia/Kolkata\"")]);
}

#[test]
fn saleor() {
    check("saleor", Engine::Postgres, &[("base_url = ", "base_url = \"https://front.example/\"")]);
}

#[test]
fn medusa() {
    check("medusa2", Engine::Postgres, &[("base_url = ", "base_url = \"https://front.example\"")]);
}

#[test]
fn prestashop() {
    check("prestashop8", Engine::MariaDb, &[("the zone of the shop's clock", "timezone = \"Europe/Paris\"")]);
}

#[test]
fn shopware() {
    check("shopware6", Engine::MariaDb, &[]);
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
