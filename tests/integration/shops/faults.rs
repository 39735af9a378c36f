//! Servers that cannot be reached, do not answer, or end in the middle: the run says so, nothing is sent that needed an
//! answer, and what waited stays planned.

use super::{CARTS, ORDERED, Shop, TOUCHED, asked, sends_nothing, with_planned};
use crate::support::{Act, Database, DatabaseServer, Engine, Plan, Server, Stage, World, wait_until};

/// Lets a run come to the first RCPT, does something, and lets it go on. The message at that RCPT goes out; the exit code is
/// that of the run.
fn in_the_middle(world: &World, something: impl FnOnce()) -> (crate::support::Ran, Server) {
    let server = Server::start(Plan::accepting().nth(Stage::Rcpt, 1, Act::Hang));
    world.send_to(&server);
    let run = world.spawn(["detect"]);
    server.wait_for(Stage::Rcpt, 1);
    something();
    server.release();
    (run.wait(), server)
}

/// Ends each connection of a run, on the server.
fn close_connections(database: &Database<'_>) {
    let close = match database.server.engine {
        Engine::MariaDb => {
            let ids = database.run(&format!(
                "SELECT CONCAT('KILL ', id, ';') FROM information_schema.processlist WHERE db = '{}' AND user <> 'root'",
                database.name
            ));
            assert!(ids.starts_with("KILL"), "{ids}");
            ids
        }
        Engine::Postgres => "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name = 'mailonce' AND datname = current_database()"
            .into(),
    };
    database.run(&close);
}

#[test]
fn a_server_that_is_away_is_found_again() {
    for engine in Engine::ALL {
        let Some(shop_server) = DatabaseServer::alone(engine, true) else { continue };
        let (world, shop) = Shop::on(shop_server);
        let (world, server) = with_planned(&shop, world);
        shop_server.stop();
        sends_nothing(&world, &server, 1, "could not reach the shop's database");
        shop_server.start_again();
        let (ran, server) = in_the_middle(&world, || shop_server.stop());
        // Its look was over; nothing else has one any more.
        assert_eq!((ran.code, server.accepted().len()), (1, 1), "{engine:?} {ran}");
        ran.says("the shop's database");
        world.has([("planned", 1), ("sent", 1)]);
        shop_server.start_again();
        world.ok(["detect"]);
        world.has([("sent", 2)]);
        world.ok(["audit"]).is_silent();
        shop_server.stop();
    }
}

#[test]
fn a_connection_that_was_closed_while_it_lay_idle_is_made_anew() {
    for (world, shop) in Shop::on_servers() {
        let (world, _) = with_planned(&shop, world);
        let (ran, server) = in_the_middle(&world, || close_connections(shop.database()));
        world.check(ran, 0).is_silent();
        assert_eq!(server.accepted().len(), 2, "{shop:?}");
    }
}

#[test]
fn a_server_that_dies_within_an_answer_gave_none_and_one_that_starts_again_under_way_is_asked_again() {
    for engine in Engine::ALL {
        let Some(shop_server) = DatabaseServer::alone(engine, true) else { continue };
        let (world, shop) = Shop::on(shop_server);
        let (world, server) = with_planned(&shop, world);
        let (slow, under_way) = match engine {
            Engine::MariaDb => (
                "SLEEP(5)",
                "SELECT count(*) FROM information_schema.processlist WHERE user = 'reader' AND state = 'User sleep'",
            ),
            Engine::Postgres => (
                "pg_sleep(5)",
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mailonce' AND wait_event = 'PgSleep'",
            ),
        };
        // The first basket is there at once, and the second would come later.
        let slow = format!("CASE b.id WHEN 2 THEN CONCAT(l.title, {slow}) ELSE l.title END");
        world.configure("source.carts", format!("{} {TOUCHED}", CARTS.replace("l.title", &slow)));
        let run = world.spawn(["detect"]);
        wait_until("the query to begin", || shop.database().run(under_way).trim() == "1");
        shop_server.stop();
        // Asked once more, it is away, or still on its way out.
        world.check(run.wait(), 1).says("the shop's database");
        assert_eq!(server.accepted().len(), 0, "{engine:?}");
        world.has([("planned", 2)]);
        shop_server.start_again();
        world.configure("source.carts", format!("{CARTS} {TOUCHED}"));
        let (ran, server) = in_the_middle(&world, || {
            shop_server.stop();
            shop_server.start_again();
        });
        world.check(ran, 0).is_silent();
        assert_eq!(server.accepted().len(), 2, "{engine:?}");
        world.has([("sent", 2)]);
        world.ok(["audit"]).is_silent();
        shop_server.stop();
    }
}

#[test]
fn a_server_that_hangs_does_not_hold_the_run() {
    for engine in Engine::ALL {
        let Some(shop_server) = DatabaseServer::alone(engine, true) else { continue };
        let (world, shop) = Shop::on(shop_server);
        let (world, _) = with_planned(&shop, world.set("source.timeout", "1s"));
        let mut stopped = Vec::new();
        let (ran, server) = in_the_middle(&world, || {
            stopped = match engine {
                Engine::MariaDb => vec![shop_server.id()],
                Engine::Postgres => {
                    let of_backend = "SELECT pid FROM pg_stat_activity WHERE application_name = 'mailonce'";
                    let ids = shop.database().run(of_backend);
                    ids.split_whitespace().map(|id| id.parse().unwrap()).collect()
                }
            };
            stopped.iter().for_each(|id| hold(*id));
        });
        stopped.iter().for_each(|id| signal(*id, libc::SIGCONT));
        assert_eq!((ran.code, server.accepted().len()), (1, 1), "{engine:?} {ran}");
        ran.says("does not answer");
        world.has([("planned", 1), ("sent", 1)]);
        // And one that hangs from the start.
        hold(shop_server.id());
        let server = Server::start(Plan::accepting());
        world.send_to(&server);
        let ran = world.exits(1, ["detect"]);
        shop_server.signal(libc::SIGCONT);
        ran.says("the shop's database");
        assert_eq!(server.accepted().len(), 0);
        world.ok(["detect"]);
        world.has([("sent", 2)]);
        shop_server.stop();
    }
}

/// Stops a process, and waits until every thread of it has.
fn hold(id: u32) {
    signal(id, libc::SIGSTOP);
    let stands = |task: std::fs::DirEntry| {
        // Behind the name, which is in brackets.
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T'))
    };
    wait_until("a server that stands still", || {
        std::fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten().all(stands)
    });
}

fn signal(id: u32, signal: i32) {
    // SAFETY: a process of a server that this test started.
    assert_eq!(unsafe { libc::kill(libc::pid_t::try_from(id).unwrap(), signal) }, 0);
}

#[test]
fn a_query_that_takes_too_long_is_no_answer() {
    for (world, shop) in Shop::on_servers() {
        let (world, server) = with_planned(&shop, world.set("source.timeout", "1s"));
        let slow = match shop.database().server.engine {
            Engine::MariaDb => "SLEEP(0.3)",
            Engine::Postgres => "pg_sleep(0.3) IS NULL",
        };
        // Rows come, and then no more: what came is not taken for all there is.
        shop.run(
            &world,
            &(0..10).map(|n| format!("INSERT INTO purchase VALUES ({n}, 99, NULL, NULL);")).collect::<String>(),
        );
        world.configure("source.ordered", format!("SELECT id, {slow} AS s FROM purchase WHERE basket <> :cart_id"));
        let ran = world.exits(1, ["detect"]);
        ran.says("took longer than 1s for the query `source.ordered`");
        assert_eq!(server.accepted().len(), 0);
        let slow_carts = CARTS.replace("l.title", &format!("CONCAT(l.title, {slow})"));
        world.configure("source.ordered", ORDERED);
        world.configure("source.carts", format!("{slow_carts}, purchase {TOUCHED}"));
        sends_nothing(&world, &server, 1, "took longer than 1s for the query `source.carts`");
    }
}

#[test]
fn who_is_not_let_in_is_told_why() {
    for (world, shop) in Shop::on_servers() {
        let (world, server) = with_planned(&shop, world);
        let database = shop.database();
        let url = database.url();
        let world = world.env("SHOP_PASSWORD", "another's");
        sends_nothing(&world, &server, 78, "does not let the user reader in");
        let world = world.env("SHOP_PASSWORD", crate::support::database::PASSWORD);
        world.configure("source.url", url.replace(&database.name, "nowhere"));
        sends_nothing(&world, &server, 78, "nowhere");
        let name = format!("limited_{}", database.name);
        let quoted = crate::support::database::PASSWORD.replace('\'', "''");
        match database.server.engine {
            Engine::MariaDb => database.run(&format!(
                "CREATE USER {name} IDENTIFIED BY '{quoted}' WITH MAX_QUERIES_PER_HOUR 1; GRANT SELECT ON {}.* TO {name}",
                database.name
            )),
            Engine::Postgres => {
                database.run(&format!("CREATE USER {name} PASSWORD '{quoted}' CONNECTION LIMIT 0"))
            }
        };
        world.configure("source.url", url.replace("reader@", &format!("{name}@")));
        sends_nothing(&world, &server, 1, "is busy");
        world.configure("source.url", url);
        world.ok(["detect"]);
        world.has([("sent", 2)]);
    }
}

#[test]
fn a_password_that_changes_stops_what_needs_an_answer_and_no_more() {
    for (world, shop) in Shop::on_servers() {
        let database = shop.database();
        let user = format!("changing_{}", database.name);
        let change_to = |password: &str| match database.server.engine {
            Engine::MariaDb => database.run(&format!("ALTER USER {user} IDENTIFIED BY '{password}'")),
            Engine::Postgres => database.run(&format!("ALTER USER {user} PASSWORD '{password}'")),
        };
        match database.server.engine {
            Engine::MariaDb => {
                database.run(&format!("CREATE USER {user}; GRANT SELECT ON {}.* TO {user}", database.name))
            }
            Engine::Postgres => database.run(&format!("CREATE USER {user} IN ROLE reader")),
        };
        change_to("first");
        world.configure("source.url", database.url().replace("reader@", &format!("{user}@")));
        let (world, server) = with_planned(&shop, world.env("SHOP_PASSWORD", "first"));
        change_to("second");
        sends_nothing(&world, &server, 78, &format!("does not let the user {user} in"));
        let world = world.env("SHOP_PASSWORD", "second");
        let (ran, server) = in_the_middle(&world, || {
            change_to("third");
            close_connections(database);
        });
        assert_eq!((ran.code, server.accepted().len()), (1, 1), "{shop:?} {ran}");
        ran.says("does not let the user").says("password");
        world.has([("planned", 1), ("sent", 1)]);
        let world = world.env("SHOP_PASSWORD", "third");
        // Who is in stays in.
        let (ran, server) = in_the_middle(&world, || drop(change_to("fourth")));
        world.check(ran, 0).is_silent();
        assert_eq!(server.accepted().len(), 1, "{shop:?}");
        world.has([("sent", 2)]);
    }
}

#[test]
fn ids_of_another_type_are_the_same_carts() {
    for (world, shop) in Shop::on_servers() {
        let (world, _) = with_planned(&shop, world);
        let change = |kind: &str| {
            let columns = [
                ("customer", "id"),
                ("basket", "id"),
                ("basket", "customer"),
                ("basket_line", "basket"),
                ("purchase", "basket"),
            ];
            let alter = |(table, column): (&str, &str)| match shop.database().server.engine {
                Engine::MariaDb => format!("ALTER TABLE {table} MODIFY {column} {kind};"),
                Engine::Postgres => format!("ALTER TABLE {table} ALTER {column} TYPE {kind};"),
            };
            shop.run(&world, &columns.map(alter).concat());
        };
        let (ran, under_way) = in_the_middle(&world, || change("VARCHAR(20)"));
        assert!(under_way.accepted().len() == 2 || ran.code == 1, "{shop:?} {ran}");
        let server = Server::start(Plan::accepting());
        world.send_to(&server);
        for (hour, kind) in [(14, "CHAR(20)"), (16, "VARCHAR(30)")] {
            change(kind);
            world.set_now(&format!("2026-03-01T{hour}:00:00Z"));
            world.ok(["detect"]);
        }
        assert_eq!(under_way.accepted().len() + server.accepted().len(), 2, "{shop:?}");
        world.has([("sent", 2)]);
        world.ok(["audit"]).is_silent();
    }
}

#[test]
fn a_table_that_changes_under_way_is_no_answer() {
    for (world, shop) in Shop::on_servers() {
        let (world, _) = with_planned(&shop, world);
        let (ran, server) = in_the_middle(&world, || shop.run(&world, "ALTER TABLE basket DROP COLUMN changed_at"));
        assert_eq!((ran.code, server.accepted().len()), (1, 1), "{shop:?} {ran}");
        ran.says("which it took before");
        world.has([("planned", 1), ("sent", 1)]);
        // From the start it is a query that does not fit.
        world.exits(78, ["detect"]).says("the query `source.carts` cannot be used");
        world.has([("planned", 1), ("sent", 1)]);
    }
}

#[test]
fn the_session_only_reads_in_utc_and_has_a_time_limit() {
    for (world, shop) in Shop::on_servers() {
        let (expression, expected) = match shop.database().server.engine {
            Engine::MariaDb => (
                "CONCAT('<<', @@time_zone, ' ', @@tx_read_only, ' ', @@max_statement_time, ' ', @@character_set_results, '>>')",
                "+00:00 ON 30.000000 utf8mb4",
            ),
            Engine::Postgres => (
                "CONCAT('<<', current_setting('TimeZone'), ' ', current_setting('transaction_read_only'), ' ',
                        current_setting('statement_timeout'), ' ', current_setting('DateStyle'), '>>')",
                "UTC on 30s ISO, DMY",
            ),
        };
        assert_eq!(asked(&world, &shop, expression), expected);
    }
}
