//! The configured queries: the same answers from every database, and a word about each that cannot be used.

use super::Shop;
use crate::support::{Plan, Server};

#[test]
fn configured_queries_give_the_same_messages_everywhere() {
    for (world, shop) in Shop::everywhere() {
        let server = Server::start(Plan::accepting());
        let world = world.smtp(&server).init();
        for (id, name, changed_at) in [
            (1, "due", "2026-03-01 11:00:00"),
            (2, "fresh", "2026-03-01 11:00:01"),
            (3, "old", "2026-02-26 12:00:00"),
            (4, "ordered", "2026-03-01 08:00:00"),
            (5, "ordered-elsewhere", "2026-03-01 08:00:00"),
            (6, "ordered-before", "2026-03-01 08:00:00"),
            (7, "emptied", "2026-03-01 08:00:00"),
            (8, "o''hara+\u{e9}", "2026-03-01 08:00:00"),
        ] {
            shop.basket(&world, id, &format!("{name}@example.com"), changed_at);
        }
        shop.run(
            &world,
            "INSERT INTO basket_line VALUES (1, 'B-2', 'Bücher 🎉', 2, 1.50); DELETE FROM basket_line WHERE basket = 7;
             INSERT INTO purchase VALUES (1, 4, NULL, NULL), (2, NULL, 'ordered-elsewhere@example.com', '2026-02-28 09:00:00'),
                 (3, NULL, 'ordered-before@example.com', '2026-02-28 07:00:00')",
        );
        world.ok(["detect"]).is_silent();
        let mut recipients = server.recipients();
        recipients.sort();
        let expected = ["due@example.com", "o'hara+é@example.com", "ordered-before@example.com"];
        assert_eq!(recipients, expected, "{shop:?}");
        assert_eq!(world.messages_of("1").len(), 1, "{shop:?}");
        let episode = world.episodes().into_iter().find(|episode| episode.cart_id.as_deref() == Some("1")).unwrap();
        assert_eq!((episode.cart_value.as_deref(), episode.user_id.as_deref()), (Some("22.90"), Some("1")), "{shop:?}");
        world.ok(["preview", "1"]);
        world.ok(["audit"]).is_silent();
    }
}

#[test]
fn a_shop_that_keeps_unix_seconds_is_asked_in_numbers() {
    for (world, shop) in Shop::everywhere() {
        let server = Server::start(Plan::accepting());
        let world = world.smtp(&server).init();
        let at = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp();
        shop.run(
            &world,
            &format!(
                "CREATE TABLE b (id INTEGER PRIMARY KEY, mail VARCHAR(99), touched BIGINT);
                 CREATE TABLE p (mail VARCHAR(99), placed BIGINT);
                 INSERT INTO b VALUES (1, 'due@example.com', {0}), (2, 'bought@example.com', {0}),
                     (3, 'fresh@example.com', {1}), (4, 'old@example.com', {2}), (5, 'bought-before@example.com', {0});
                 INSERT INTO p VALUES ('bought@example.com', {0}), ('bought-before@example.com', {2})",
                at("2026-03-01T10:00:00Z"),
                at("2026-03-01T11:30:00Z"),
                at("2026-02-20T10:00:00Z")
            ),
        );
        let carts = "SELECT id AS cart_id, NULL AS user_id, mail AS email, 'EUR' AS currency, NULL AS recovery_url, 1 AS consent,
                 touched AS updated_at, 'L' AS sku, 'Lamp' AS item_name, 1 AS quantity, 1.5 AS unit_price FROM b";
        world
            .configure("source.carts", format!("{carts} WHERE touched BETWEEN :not_before_unix AND :idle_before_unix"));
        world.configure("source.ordered", "SELECT 1 FROM p WHERE mail = :email AND placed >= :since_unix");
        world.ok(["detect"]).is_silent();
        let mut recipients = server.recipients();
        recipients.sort();
        assert_eq!(recipients, ["bought-before@example.com", "due@example.com"], "{shop:?}");
        world.ok(["preview", "1"]);
    }
}

#[test]
fn doctor_warns_of_a_comparison_that_is_never_true_or_always() {
    for (world, shop) in Shop::everywhere() {
        let world = world.init();
        for id in 1..=20 {
            shop.basket(&world, id, &format!("c{id}@example.com"), "2026-03-01 08:00:00");
        }
        let doctor = |query: &str, says: &str| {
            world.configure("source.ordered", query);
            world.run(["doctor"]).says(says);
        };
        doctor("SELECT 1 FROM purchase WHERE mail = :email", "none was ordered: 20 carts touched in the last 3d 0h");
        doctor("SELECT 1 FROM basket WHERE :email <> ''", "all were ordered: 20 carts");
        shop.run(&world, "INSERT INTO purchase VALUES (1, 3, NULL, NULL)");
        doctor(
            "SELECT 1 FROM purchase WHERE basket = :cart_id",
            "0 without known consent, 1 of 20 ordered, 0 bad rows",
        );
        shop.run(&world, "UPDATE customer SET newsletter = NULL");
        world.run(["doctor"]).says("the consent of none is known");
        shop.run(&world, "DELETE FROM basket");
        world.run(["doctor"]).says("no cart was touched in the last 3d 0h");
    }
}
