//! A pooler between mailonce and the shop's server: each transaction may be in another session, or in one that others left.

use super::{CARTS, Shop, TOUCHED, with_planned};
use crate::support::{DatabaseServer, Engine};

#[test]
fn behind_a_pooler_nothing_is_left_in_a_session_or_expected_there() {
    let Some(server) = DatabaseServer::shared(Engine::Postgres) else { return };
    let (world, shop) = Shop::on(server);
    let Some(pooler) = server.pooled() else { return };
    // A type of the shop's own: a client that asks what it is under a name would find the name taken by the run before.
    shop.run(&world, "CREATE TYPE coin AS ENUM ('EUR'); ALTER TABLE basket ADD coin coin DEFAULT 'EUR'");
    world.configure("source.carts", format!("{} {TOUCHED}", CARTS.replace("'EUR'", "b.coin")));
    world.configure("source.url", shop.database().url().replace(&server.port.to_string(), &pooler.port.to_string()));
    let (world, server) = with_planned(&shop, world);
    world.ok(["detect"]).is_silent();
    assert_eq!(server.accepted().len(), 2);
    for _ in 0..2 {
        world.ok(["detect"]).is_silent();
        world.ok(["preview", "1"]);
    }
}
