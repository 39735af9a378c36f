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
