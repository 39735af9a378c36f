//! Campaigns to whom a query on the shop's server finds.

use super::Shop;
use crate::support::{Engine, Plan, Server, World, definition};

const NINE: &str = "every = \"day\"\ntime = \"09:00\"";

/// A campaign to whom a query finds, due now.
fn campaign(world: World, sql: &str) -> (World, Server) {
    let server = Server::start(Plan::accepting());
    let definition = definition("query", NINE).replace("audience = \"audience.csv\"", &format!("sql = '''{sql}'''"));
    world.define(&definition);
    world.write(
        "letter.html",
        "<p>{{ name }}: {{ points + 1 }} points, {{ sum }}, {{ since }}{% if vip %}, dear{% endif %}</p>",
    );
    let world = world.smtp(&server).now("2026-03-01T08:00:00Z").init();
    world.ok(["run-campaigns"]);
    world.set_now("2026-03-01T09:00:00Z");
    (world, server)
}

#[test]
fn an_audience_by_sql_has_numbers_texts_and_bad_rows() {
    for (world, shop) in Shop::on_servers() {
        let (time, real) = match shop.database().server.engine {
            Engine::MariaDb => ("DATETIME", "DOUBLE"),
            Engine::Postgres => ("TIMESTAMP", "DOUBLE PRECISION"),
        };
        shop.run(
            &world,
            &format!(
                "CREATE TABLE people (mail VARCHAR(100), name VARCHAR(100), points INTEGER, sum DECIMAL(12,2), vip BOOLEAN,
                                      since {time}, x {real});
                 INSERT INTO people VALUES ('ada@example.com', 'Ada 🎉', 41, 19.90, true, '2026-02-01 10:00:00', 0.5),
                     ('bob@example.com', NULL, 0, 0, false, NULL, NULL), (NULL, 'Nobody', 1, 1, NULL, NULL, NULL),
                     ('no address', 'Eve', 1, 1, NULL, NULL, NULL)"
            ),
        );
        let sql = "SELECT mail AS email, name, points, sum, vip, since, x FROM people ORDER BY mail;";
        let (world, server) = campaign(world, sql);
        world.exits(1, ["run-campaigns"]).says("no recipient").says(": row ");
        assert_eq!(server.recipients(), ["ada@example.com", "bob@example.com"], "{shop:?}");
        let letters = server.accepted();
        let ada = letters.iter().find(|letter| letter.to == ["ada@example.com"]).unwrap();
        let text = String::from_utf8_lossy(&ada.bytes).replace("=\r\n", "");
        assert!(text.contains("42 points, 19.90, 2026-02-01 10:00:00, dear"), "{shop:?} {text}");
        world.ok(["run-campaigns"]);
        assert_eq!(server.accepted().len(), 2);
    }
}

#[test]
fn an_audience_that_cannot_be_had_starts_nothing_and_is_asked_for_again() {
    for (world, shop) in Shop::on_servers() {
        let (world, server) = campaign(world, "SELECT mail AS email, name FROM people");
        world.write("letter.html", "<p>Hello</p>");
        let said = world.exits(1, ["run-campaigns"]).output();
        assert!(said.contains("the query `sql` cannot be used"), "{said}");
        assert_eq!(server.accepted().len(), 0);
        shop.run(
            &world,
            "CREATE TABLE people (mail VARCHAR(100), name INTEGER); INSERT INTO people VALUES ('ada@example.com', 1)",
        );
        world.set_now("2026-03-01T09:05:00Z");
        world.ok(["run-campaigns"]);
        assert_eq!(server.recipients(), ["ada@example.com"], "{shop:?}");
    }
}
