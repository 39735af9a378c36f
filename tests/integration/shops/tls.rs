//! Who may listen on the way to a shop's server, and who is let in.

use super::{Shop, asked, sends_nothing, with_planned};
use crate::support::certificates::certified;
use crate::support::{DatabaseServer, Engine, World};

/// Whether the session is encrypted, in words of either server.
fn is_encrypted(world: &World, shop: &Shop) -> bool {
    let expression = match shop.database().server.engine {
        Engine::MariaDb => {
            "(SELECT CONCAT('<<', variable_value, '>>') FROM information_schema.session_status
              WHERE variable_name = 'Ssl_cipher')"
        }
        Engine::Postgres => "(SELECT CONCAT('<<', cipher, '>>') FROM pg_stat_ssl WHERE pid = pg_backend_pid())",
    };
    !asked(world, shop, expression).is_empty()
}

/// The address by the name that the certificate is for.
fn by_name(world: &World, shop: &Shop) {
    world.configure("source.url", shop.database().url().replace("127.0.0.1", "localhost"));
}

#[test]
fn on_this_machine_nothing_is_encrypted_unless_it_is_asked_for() {
    for (world, shop) in Shop::on_servers() {
        assert!(!is_encrypted(&world, &shop), "{shop:?}");
        world.configure("source.tls", "require");
        assert!(is_encrypted(&world, &shop), "{shop:?}");
    }
}

#[test]
fn the_certificate_must_be_of_a_trusted_authority_and_for_that_name() {
    for (world, shop) in Shop::on_servers() {
        let ca_file = shop.database().server.ca_file();
        by_name(&world, &shop);
        world.configure("source.ca_file", ca_file.to_str().unwrap());
        assert!(is_encrypted(&world, &shop), "{shop:?}: with a ca_file, it is checked");
        let (world, server) = with_planned(&shop, world.unset("source.cart"));
        world.configure("source.url", shop.database().url());
        sends_nothing(&world, &server, 1, "no TLS with the shop's database");
        by_name(&world, &shop);
        let stranger = certified(&["localhost".into()]).authority;
        std::fs::write(world.path("stranger.pem"), stranger).unwrap();
        world.configure("source.ca_file", "stranger.pem");
        sends_nothing(&world, &server, 1, "no TLS with the shop's database");
        std::fs::write(world.path("stranger.pem"), "no certificate").unwrap();
        sends_nothing(&world, &server, 78, "set source.ca_file to a PEM file");
        let world = world.unset("source.ca_file").set("source.tls", "verify");
        sends_nothing(&world, &server, 1, "set `source.ca_file`");
        world.configure("source.ca_file", ca_file.to_str().unwrap());
        world.ok(["detect"]);
        world.has([("sent", 2)]);
    }
}

#[test]
fn a_server_without_tls_is_not_spoken_to_in_plain_text_instead() {
    for engine in Engine::ALL {
        let Some(database_server) = DatabaseServer::alone(engine, false) else { continue };
        let (world, shop) = Shop::on(database_server);
        let (world, server) = with_planned(&shop, world);
        for tls in ["require", "verify"] {
            world.configure("source.tls", tls);
            sends_nothing(&world, &server, 1, "no TLS with the shop's database");
        }
        database_server.stop();
    }
}

#[test]
fn a_socket_needs_no_password_where_the_server_asks_for_none() {
    for (world, shop) in Shop::on_servers() {
        let database = shop.database();
        let socket = database.server.socket();
        let user = match database.server.engine {
            Engine::MariaDb => {
                let name = format!("local_{}", database.name);
                database.run(&format!(
                    "CREATE USER {name}@localhost; GRANT SELECT ON {}.* TO {name}@localhost",
                    database.name
                ));
                name
            }
            Engine::Postgres => "reader".into(),
        };
        let world = world.unset("source.password_env");
        let word = database.server.engine.word();
        let port = if word == "postgres" { format!(":{}", database.server.port) } else { String::new() };
        world.configure("source.url", format!("{word}://{user}@nowhere.invalid{port}/{}", database.name));
        world.configure("source.socket", socket.to_str().unwrap());
        assert!(!is_encrypted(&world, &shop), "{shop:?}");
    }
}

#[test]
fn an_account_of_mariadb_may_have_a_key_of_ed25519() {
    let Some(server) = DatabaseServer::shared(Engine::MariaDb) else { return };
    let (world, shop) = Shop::on(server);
    let name = format!("ed_{}", shop.database().name);
    let grant = format!("GRANT SELECT ON {}.* TO {name}", shop.database().name);
    shop.run(&world, &format!("CREATE USER {name} IDENTIFIED VIA ed25519 USING PASSWORD('a key'); {grant}"));
    world.configure("source.url", shop.database().url().replace("reader@", &format!("{name}@")));
    let world = world.env("SHOP_PASSWORD", "a key");
    assert!(!is_encrypted(&world, &shop));
}
