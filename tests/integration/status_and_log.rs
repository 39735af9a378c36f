//! `status`, `log` and `resolve`: what a person reads the next morning.

use std::process::Stdio;

use crate::support::{Act, Cart, Plan, Server, Stage, World};

/// Four messages in four states: c1 sent, c2 refused, c3 in doubt, c4 skipped.
fn world() -> World {
    let plan = Plan::accepting().for_recipient("c2@", Stage::Rcpt, Act::Reply("550 5.1.1 no such user")).for_recipient(
        "c3@",
        Stage::Taken,
        Act::Close,
    );
    let server = Server::start(plan);
    let cart = |id: &str, sku: &str| Cart::of(id).item(sku, "x", 1, "1");
    let carts = [cart("c1", "A").user("u1"), cart("c2", "B"), cart("c3", "C").email("c3@bücher.example")];
    let older = cart("c4", "D").email("c1@example.com").updated("2026-03-01T07:00:00Z");
    let world = World::new().smtp(&server).carts(carts).cart(older).init();
    world.exits(1, ["detect"]);
    world.has([("in_doubt", 1), ("refused", 1), ("sent", 1), ("skipped", 1)]);
    world
}

/// The cart ids that `log --json` lists with these filters: of the messages, and of the episodes.
#[track_caller]
fn listed(world: &World, filters: &[&str]) -> Vec<String> {
    let json = world.ok(["log", "--json"].iter().chain(filters)).json();
    let ids = |list: &str| {
        let mut ids: Vec<String> =
            json[list].as_array().unwrap().iter().map(|row| row["cart_id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids("messages"), ids("episodes"), "{filters:?}");
    ids("messages")
}

#[test]
fn log_narrows_by_every_filter() {
    let world = world();
    assert_eq!(listed(&world, &[]), ["c1", "c2", "c3", "c4"]);
    assert_eq!(listed(&world, &["--user", "u1"]), ["c1"]);
    assert_eq!(listed(&world, &["--cart", "c2"]), ["c2"]);
    assert_eq!(listed(&world, &["--address", "C1@Example.COM"]), ["c1", "c4"]);
    assert_eq!(listed(&world, &["--address", "c3@BÜCHER.example"]), ["c3"]);
    for (state, cart) in [("sent", "c1"), ("refused", "c2"), ("in_doubt", "c3"), ("skipped", "c4")] {
        assert_eq!(listed(&world, &["--state", state]), [cart]);
    }
    assert_eq!(listed(&world, &["--address", "c1@example.com", "--state", "sent"]), ["c1"]);
    assert_eq!(listed(&world, &["--since", "2026-03-01T12:00:00Z"]).len(), 4);
    assert_eq!(listed(&world, &["--since", "2026-03-01T12:00:01Z"]).len(), 0);
    assert_eq!(listed(&world, &["--limit", "2"]).len(), 2);
}

#[test]
fn log_as_a_table_shows_the_servers_words_and_says_when_nothing_matches() {
    let world = world();
    world.ok(["log"]).says("550 5.1.1 no such user").says("skipped: superseded").says("in doubt");
    world.ok(["log", "--limit", "2"]).says("the newest 2; --limit shows more");
    world.ok(["log", "--cart", "nowhere"]).says("no episode or message matches");
    for wrong in [
        ["--state", "lost"],
        ["--since", "yesterday"],
        ["--limit", "0"],
        ["--limit", "99999999999999"],
        ["--address", "x"],
    ] {
        world.exits(2, ["log"].iter().chain(&wrong));
    }
}

#[test]
fn status_counts_what_stands() {
    let world = world();
    let json = world.ok(["status", "--json"]).json();
    let states = serde_json::json!({ "planned": 0, "armed": 0, "sent": 1, "refused": 1, "skipped": 1, "in_doubt": 1 });
    assert_eq!(json["states"], states);
    assert_eq!((&json["kind"], &json["lock"]), (&"rehearsal".into(), &serde_json::Value::Null));
    assert_eq!(json["runs"][0]["in_doubt"], 1);
    world
        .ok(["status"])
        .says("skipped           1  (1 superseded)")
        .says("`mailonce resolve` lists them")
        .says("run 1 detect at 2026-03-01T12:00:00Z");
    world.set_now("2026-03-01T12:01:00Z");
    world.ok(["detect"]).is_silent();
    world.ok(["status"]).says("detect: 1 run with nothing to do, the latest run 2 at 2026-03-01T12:01:00Z");
}

/// Two steps, the second with a code of a pool.
fn in_steps() -> World {
    let table: toml::Table = "[[step]]\nname = 'reminder'\nafter = '60m'\n\
                              [[step]]\nname = 'second'\nafter = '24h'\ncoupon = 'comeback'\n"
        .parse()
        .unwrap();
    let pool: toml::Table = "[[coupon]]\nname = 'comeback'\nwarn_below = 2\nmin_validity = '1h'\n".parse().unwrap();
    let world = World::new().carts([Cart::of("c1"), Cart::of("c2")]).set("detect.max_age", "5d");
    world.set("detect.step", table["step"].clone()).set("coupon", pool["coupon"].clone())
}

#[test]
fn status_and_log_know_steps_and_pools() {
    let server = Server::start(Plan::accepting());
    let world = in_steps().smtp(&server).now("2026-03-01T09:00:00Z").init();
    world.write("codes.csv", "code\nA\nB\nC\nD\n");
    world.ok(["coupon", "import", "comeback", "codes.csv"]);
    world.ok(["detect"]);
    world.ok(["status"]).says("by step   sent in the last 7 days: reminder 2, second 0\n").says("comeback: 4 left\n");
    world.remove("c2");
    world.set_now("2026-03-02T09:00:00Z");
    world.run(["detect"]);
    world.ok(["status"]).says("reminder 2, second 1").says("coupons   comeback: 3 left\n");
    assert_eq!(listed(&world, &["--step", "second"]), ["c1"]);
    assert_eq!(listed(&world, &["--step", "reminder"]), ["c1", "c2"]);
    assert_eq!(listed(&world, &["--step", "lost"]), [] as [&str; 0]);
    world.configure("coupon", toml::Value::Array(vec!["name = 'comeback'".parse::<toml::Table>().unwrap().into()]));
    world.ok(["status"]).says("comeback: 3 left; below 100: `mailonce coupon import comeback FILE`");
    // A week after the first, only the second counts; and without steps nothing is said of them.
    world.set_now("2026-03-08T12:00:00Z");
    let json = world.ok(["status", "--json"]).json();
    let steps = serde_json::json!([{ "step": "reminder", "last_7_days": 0 }, { "step": "second", "last_7_days": 1 }]);
    assert_eq!(json["steps"], steps);
    assert_eq!(json["coupons"], serde_json::json!([{ "pool": "comeback", "free": 3, "warn_below": 100 }]));
    let world = world.unset("detect.step");
    assert!(!world.ok(["status"]).output().contains("by step"));
}

#[test]
fn status_names_the_run_under_way() {
    let server = Server::start(Plan::accepting().at(Stage::Dot, Act::Hang));
    let world = World::new().smtp(&server).cart(Cart::of("c1")).init();
    let run = world.spawn(["detect"]);
    server.wait_for_final_dot();
    let json = world.ok(["status", "--json"]).json();
    assert!(json["lock"].as_str().unwrap().contains("command=detect"), "{json:#}");
    assert_eq!(json["states"]["armed"], 1);
    world.ok(["status"]).says("running now: pid=");
    server.release();
    world.check(run.wait(), 0);
    world.ok(["status"]).says("no run under way");
}

#[test]
fn resolve_lists_what_is_in_doubt() {
    let world = world();
    world.ok(["resolve"]).says("c3@xn--bcher-kva.example").says("1 message in doubt");
    assert_eq!(world.ok(["resolve", "--json"]).json()["messages"][0]["cart_id"], "c3");
    world.ok(["resolve", "--restored"]).says("0 messages planned");
    world.exits(2, ["resolve", "--hold-back"]);
    world.exits(2, ["resolve", "--restored", "--hold-back"]).says("not older");
}

#[test]
fn what_is_asked_for_and_does_not_arrive_is_exit_74_but_a_reader_may_go_away() {
    let world = world();
    for command in [
        &["status"][..],
        &["status", "--json"],
        &["log"],
        &["log", "--json"],
        &["detect", "--dry-run"],
        &["resolve"],
        &["metrics"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ended = world.command(command).stdout(full).output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(74), "{command:?}: {stderr}");
        assert!(stderr.contains("could not write to stdout: No space left"), "{stderr}");
        assert!(stderr.contains(" next: make room, then start the same command again"), "{stderr}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = world.command(command).stdout(writer).output().unwrap();
        assert_eq!((ended.status.code(), ended.stderr.len()), (Some(0), 0), "{command:?}");
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = world.command(["add-index"]).stdout(full).output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(stderr.contains("the command itself is done"), "{stderr}");
    // What only tells is lost, also where it would have told that a person is needed.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = world.command(["report"]).stdout(full).output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(74), "{stderr}");
    assert!(stderr.contains(" next: make room, then start the same command again"), "{stderr}");
    // A run that has nothing to print is not disturbed.
    world.set_now("2026-03-01T12:01:00Z");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(world.command(["detect"]).stdout(full).stderr(Stdio::null()).status().unwrap().code(), Some(0));
}

#[test]
fn no_alarm_of_a_run_names_an_address_whatever_the_server_says() {
    for reply in ["550 5.7.1 <c1@example.com>: go away", "421 4.7.0 c1@example.com too many", "354 c1@example.com"] {
        for stage in [Stage::Banner, Stage::Ehlo, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Dot] {
            let server = Server::start(Plan::accepting().at(stage, Act::Reply(reply)));
            let world = World::new().smtp(&server).cart(Cart::of("c1")).init();
            let ran = world.run(["detect"]);
            assert!(!ran.stderr.contains("c1@example"), "{stage:?} {reply}\n{ran}");
        }
    }
}
