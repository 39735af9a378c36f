//! Shops in databases of their own shape: SQLite, MariaDB and PostgreSQL, asked by configured queries.

mod audiences;
mod doctor;
mod faults;
mod old_log;
mod pooler;
mod queries;
mod tls;
mod values;

use rusqlite::Connection;

use crate::support::{Act, Database, DatabaseServer, Engine, Plan, Server, Stage, World};

/// A database with tables of a shop's own.
pub enum Shop {
    Sqlite,
    On(Database<'static>),
}

/// Tables that all three know.
const SCHEMA: &str = "
    CREATE TABLE customer (id INTEGER PRIMARY KEY, mail VARCHAR(100), first_name VARCHAR(100), newsletter INTEGER);
    CREATE TABLE basket (id INTEGER PRIMARY KEY, customer INTEGER, opened_at TIMESTAMP_TYPE NULL, changed_at TIMESTAMP_TYPE NULL);
    CREATE TABLE basket_line (basket INTEGER, article VARCHAR(20), title VARCHAR(100), pieces INTEGER, price DECIMAL(12,2));
    CREATE TABLE purchase (id INTEGER PRIMARY KEY, basket INTEGER, mail VARCHAR(100), placed_at TIMESTAMP_TYPE NULL);
";

const CARTS: &str = "
    SELECT b.id AS cart_id, b.customer AS user_id, c.mail AS email, c.first_name AS name, 'EUR' AS currency,
           b.opened_at AS created_at, b.changed_at AS updated_at, c.newsletter AS consent, NULL AS recovery_url,
           l.article AS sku, l.title AS item_name, l.pieces AS quantity, l.price AS unit_price
    FROM basket b JOIN customer c ON c.id = b.customer LEFT JOIN basket_line l ON l.basket = b.id";
const TOUCHED: &str = "WHERE b.changed_at >= :not_before AND b.changed_at <= :idle_before -- the end; really";
const ORDERED: &str = "
    SELECT 1 FROM purchase WHERE basket = :cart_id OR (mail = :email AND placed_at >= :since);";

impl Shop {
    /// Where the tests can have a shop: always in SQLite, on a server where one is installed.
    pub fn everywhere() -> Vec<(World, Shop)> {
        let mut shops = vec![(World::new(), Shop::Sqlite)];
        for engine in Engine::ALL {
            if let Some(database) = Database::new(engine) {
                shops.push((World::new().on_server(&database), Shop::On(database)));
            }
        }
        for (world, shop) in &shops {
            shop.set_up(world);
        }
        shops
    }

    /// On both servers, those of this process.
    pub fn on_servers() -> impl Iterator<Item = (World, Shop)> {
        Engine::ALL.into_iter().filter_map(DatabaseServer::shared).map(Shop::on)
    }

    /// On one server.
    pub fn on(server: &'static DatabaseServer) -> (World, Shop) {
        let database = Database::on(server);
        let (world, shop) = (World::new().on_server(&database), Shop::On(database));
        shop.set_up(&world);
        (world, shop)
    }

    fn set_up(&self, world: &World) {
        if let Shop::Sqlite = self {
            std::fs::remove_file(world.shop()).unwrap();
        }
        self.run(world, &SCHEMA.replace("TIMESTAMP_TYPE", self.time_type()));
        world.configure("source.carts", format!("{CARTS} {TOUCHED}"));
        world.configure("source.ordered", ORDERED);
    }

    /// The database on a server.
    pub fn database(&self) -> &Database<'static> {
        let Shop::On(database) = self else { panic!("SQLite is on no server") };
        database
    }

    /// What a column of wall time is called.
    fn time_type(&self) -> &'static str {
        match self {
            Shop::Sqlite => "TEXT",
            Shop::On(database) if database.server.engine == Engine::MariaDb => "DATETIME",
            Shop::On(_) => "TIMESTAMP",
        }
    }

    pub fn run(&self, world: &World, sql: &str) {
        match self {
            Shop::Sqlite => Connection::open(world.shop()).unwrap().execute_batch(sql).unwrap(),
            Shop::On(database) => {
                database.run(sql);
            }
        }
    }

    /// A customer's basket with one lamp, last touched at this wall time.
    pub fn basket(&self, world: &World, id: u32, mail: &str, changed_at: &str) {
        self.run(
            world,
            &format!(
                "INSERT INTO customer VALUES ({id}, '{mail}', NULL, 1);
                 INSERT INTO basket VALUES ({id}, {id}, NULL, '{changed_at}');
                 INSERT INTO basket_line VALUES ({id}, 'L-1', 'Lamp', 1, 19.90)"
            ),
        );
    }
}

impl std::fmt::Debug for Shop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Shop::Sqlite => f.write_str("SQLite"),
            Shop::On(database) => write!(f, "{:?}", database.server.engine),
        }
    }
}

/// A world with a planned message for each of the baskets 1 and 2, and an SMTP server that would take it: at 12:05 both are
/// due.
fn with_planned(shop: &Shop, world: World) -> (World, Server) {
    let refusing = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply("451 4.3.0 try later")));
    let world = world.smtp(&refusing).init();
    shop.basket(&world, 1, "ada@example.com", "2026-03-01 08:00:00");
    shop.basket(&world, 2, "bob@example.com", "2026-03-01 08:00:00");
    world.ok(["detect"]);
    world.has([("planned", 2)]);
    let server = Server::start(Plan::accepting());
    world.send_to(&server);
    world.set_now("2026-03-01T12:05:00Z");
    (world, server)
}

/// A run that gets no answer: it says so, nothing is sent, and both messages stay planned.
#[track_caller]
fn sends_nothing(world: &World, server: &Server, code: i32, says: &str) {
    let ran = world.exits(code, ["detect"]);
    ran.says(says);
    assert!(!ran.output().contains(crate::support::database::PASSWORD), "{ran}");
    assert_eq!(server.accepted().len(), 0, "{ran}");
    world.has([("planned", 2)]);
}

/// What the session says of itself: the answer to an expression, which the shop gives as the name of its goods.
#[track_caller]
fn asked(world: &World, shop: &Shop, expression: &str) -> String {
    world.configure("source.cart", CARTS.replace("l.title", expression) + " WHERE b.id = :cart_id");
    shop.run(world, "DELETE FROM basket; DELETE FROM customer; DELETE FROM basket_line");
    shop.basket(world, 7, "ada@example.com", "2026-03-01 08:00:00");
    world.ok(["preview", "7"]);
    let text = std::fs::read_to_string(world.path("preview/message.txt")).unwrap();
    let (before, after) = ("<<", ">>");
    let said = text.split(before).nth(1).and_then(|rest| rest.split(after).next());
    said.unwrap_or_else(|| panic!("no answer in {text}")).to_owned()
}
