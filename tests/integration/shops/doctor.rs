//! What `doctor` says about a shop's server.

use super::Shop;
use crate::support::database::PASSWORD;
use crate::support::{Cart, DatabaseServer, Engine, Kind, World};

/// What it says about the source: level, what, remedy.
fn said(world: &World) -> Vec<(String, String)> {
    let ran = world.run(["doctor", "--json"]);
    let json = ran.json();
    let found = json["findings"].as_array().unwrap().iter().filter(|found| found["check"] == "source");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    found.map(|found| (text(&found["what"]), text(&found["remedy"]))).collect()
}

#[test]
fn a_sound_server_is_ok_and_one_that_is_away_fails() {
    for (world, shop) in Shop::on_servers() {
        let world = world.init();
        let [(what, remedy)] = &said(&world)[..] else { panic!("one finding: {:?}", said(&world)) };
        assert!(what.contains(&shop.database().name) && what.ends_with("has what carts are read from"), "{what}");
        assert_eq!(remedy, "");
        world.configure("source.url", shop.database().server.url("nowhere"));
        assert!(said(&world)[0].0.contains("does not let the user reader in"), "{:?}", said(&world));
    }
}

#[test]
fn rights_that_are_more_than_reading_are_named() {
    for (world, shop) in Shop::on_servers() {
        let world = world.init();
        let database = shop.database();
        let name = &database.name;
        let (grant, expected) = match database.server.engine {
            Engine::MariaDb => {
                let writer = format!("writer_{name}");
                world.configure("source.url", database.url().replace("reader@", &format!("{writer}@")));
                let quoted = PASSWORD.replace('\'', "''");
                let grant = format!(
                    "CREATE USER {writer} IDENTIFIED BY '{quoted}'; GRANT SELECT ON {name}.* TO {writer};
                    GRANT UPDATE, DROP ON {name}.basket TO {writer}"
                );
                (grant, format!("UPDATE, DROP on {name}.basket"))
            }
            Engine::Postgres => ("GRANT UPDATE ON basket TO reader".into(), "TRUNCATE on public.basket".into()),
        };
        database.run(&grant);
        let found = said(&world);
        assert!(found[0].0.contains(&expected), "{found:?}");
        assert!(found[0].1.contains("SELECT alone"), "{found:?}");
        if database.server.engine == Engine::Postgres {
            world.configure("source.url", database.url().replace("reader@", "postgres@"));
            world.configure("source.socket", database.server.socket().to_str().unwrap());
            assert!(said(&world)[0].0.contains("as a superuser"), "{:?}", said(&world));
        }
    }
}

#[test]
fn the_indexes_that_a_large_shop_lacks_are_named_and_help() {
    for engine in Engine::ALL {
        if DatabaseServer::shared(engine).is_none() {
            continue;
        }
        let world = World::new().source(Kind::Server(engine)).cart(Cart::of("c1")).init();
        assert!(said(&world)[0].0.ends_with("has what carts are read from"), "a small shop needs none");
        let rows = match engine {
            Engine::MariaDb => "SELECT seq FROM seq_1_to_10000",
            Engine::Postgres => "SELECT n FROM generate_series(1, 10000) AS s(n)",
        };
        world.run_in_shop(&format!("INSERT INTO orders (order_id) {rows}"));
        let found = said(&world);
        let remedy = found[0].1.strip_prefix("let the shop run: ").unwrap_or_else(|| panic!("{found:?}"));
        assert_eq!(
            remedy,
            "CREATE INDEX orders_cart_id ON orders (cart_id); CREATE INDEX orders_created_at ON orders (created_at)"
        );
        world.run_in_shop(remedy);
        assert!(said(&world)[0].0.ends_with("has what carts are read from"));
        // With it, a cart that was ordered is known with the carts.
        world.order("c1", "2026-03-01T09:00:00Z");
        world.ok(["detect"]);
        world.has([]);
    }
}

#[test]
fn a_clock_that_is_wrong_is_named() {
    let Some(server) = DatabaseServer::alone(Engine::MariaDb, true) else { return };
    let (world, _shop) = Shop::on(server);
    let world = world.init();
    server.run("", "SET GLOBAL init_connect = 'SET timestamp = UNIX_TIMESTAMP() - 600'");
    let found = said(&world);
    assert!(found[0].0.contains("behind this machine's") && found[0].1.contains("NTP"), "{found:?}");
    server.stop();
}
