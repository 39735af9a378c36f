//! `campaign`: look at campaigns and steer them.

use std::fs;

use crate::support::{Act, Plan, Running, Server, Stage, World, definition, people};

const NINE: &str = "every = \"day\"\ntime = \"09:00\"";
const LATER: &str = "451 4.3.0 try later";
const NO: &str = "550 5.7.1 not wanted here";

/// A run under way on five recipients of `daily`, the server silent at this stage of the second message.
fn hanging(stage: Stage) -> (World, Server, Running) {
    let server = Server::start(Plan::accepting().nth(stage, 2, Act::Hang));
    let world = World::with_campaigns(&definition("daily", NINE)).smtp(&server).init();
    world.ok(["run-campaigns"]);
    world.audience("audience.csv", &people(5));
    world.set_now("2026-03-02T09:00:00Z");
    let run = world.spawn(["run-campaigns"]);
    server.wait_for(stage, 2);
    (world, server, run)
}

#[test]
fn a_pause_stops_a_run_under_way_and_resume_goes_on() {
    for stage in [Stage::Rcpt, Stage::Data] {
        let (world, server, run) = hanging(stage);
        world.ok(["campaign", "pause", "daily"]);
        server.release();
        world.check(run.wait(), 0);
        world.has([("planned", 4), ("sent", 1)]);
        assert_eq!(server.final_dots(), 1, "{stage:?}");
        world.campaigns_at("2026-03-02T10:00:00Z", 0).is_silent();
        world.campaigns_at("2026-03-03T09:00:00Z", 0).is_silent();
        assert_eq!(server.final_dots(), 1, "{stage:?}");
        world.books_balance();
        world.ok(["campaign", "resume", "daily"]);
        world.campaigns_at("2026-03-03T09:01:00Z", 0);
        assert_eq!(server.accepted().len(), 10, "the rest, and the occurrence of the day, which is not late");
        world.has([("sent", 10)]);
        world.books_balance();
    }
}

#[test]
fn a_pause_at_the_dot_lets_that_message_be_settled() {
    let (world, server, run) = hanging(Stage::Dot);
    world.ok(["campaign", "pause", "daily"]);
    server.release();
    world.check(run.wait(), 0);
    world.has([("planned", 3), ("sent", 2)]);
    assert_eq!(server.final_dots(), 2);
}

#[test]
fn a_cancellation_stops_a_run_under_way_for_ever() {
    for stage in [Stage::Rcpt, Stage::Data] {
        let (world, server, run) = hanging(stage);
        world.ok(["campaign", "cancel", "daily"]).says("4 planned messages not sent");
        server.release();
        world.check(run.wait(), 0);
        world.has([("sent", 1), ("skipped", 4)]);
        assert_eq!(world.number("SELECT count(*) FROM message WHERE reason = 'cancelled'"), 4);
        world.books_balance();
        world.ok(["campaign", "resume", "daily"]);
        world.campaigns_at("2026-03-03T09:00:00Z", 0).is_silent();
        world.campaigns_at("2026-03-04T09:00:00Z", 0).is_silent();
        assert_eq!(server.final_dots(), 1);
        assert_eq!(world.campaign_column("daily", "status").as_deref(), Some("cancelled"));
        world.ok(["campaign", "retry", "daily", "--state", "cancelled"]).says("4 messages");
        world.campaigns_at("2026-03-04T09:01:00Z", 0);
        world.has([("sent", 5)]);
        world.campaigns_at("2026-03-05T09:00:00Z", 0);
        world.has([("sent", 5)]);
        world.books_balance();
    }
}

#[test]
fn a_campaign_paused_before_it_opened_opens_when_resumed_in_time() {
    let world = World::with_campaigns(&(definition("a", NINE) + &definition("b", NINE))).init();
    world.ok(["campaign", "pause", "a"]);
    world.ok(["campaign", "pause", "b"]);
    world.campaigns_at("2026-03-02T09:00:00Z", 0).is_silent();
    world.set_now("2026-03-02T10:00:00Z");
    world.ok(["campaign", "resume", "a"]);
    world.campaigns_at("2026-03-02T10:00:00Z", 0);
    assert_eq!(world.occurrences("a"), ["2026-03-02T09:00:00Z opened"]);
    world.set_now("2026-03-02T16:00:00Z");
    world.ok(["campaign", "resume", "b"]);
    world.campaigns_at("2026-03-02T16:00:00Z", 0);
    assert_eq!(world.occurrences("b"), ["2026-03-02T09:00:00Z not_in_time"]);
    world.has([("sent", 1)]);
}

#[test]
fn refused_and_expired_messages_can_be_tried_anew() {
    let server = Server::start(Plan::accepting().for_recipient("r1@", Stage::Rcpt, Act::Reply(NO)).for_recipient(
        "r2@",
        Stage::Rcpt,
        Act::Reply(LATER),
    ));
    let world = World::with_campaigns(&definition("once", "at = \"2026-03-01 12:00\"")).smtp(&server);
    world.audience("audience.csv", &people(3));
    let world = world.init();
    world.ok(["run-campaigns"]);
    world.has([("planned", 1), ("refused", 1), ("sent", 1)]);
    world.campaigns_at("2026-03-04T12:00:00Z", 1);
    world.has([("refused", 1), ("sent", 1), ("skipped", 1)]);
    assert_eq!(world.campaign_column("once", "status").as_deref(), Some("completed"));
    world.exits(2, ["campaign", "retry", "once", "--state", "sent"]);
    let willing = Server::start(Plan::accepting());
    world.send_to(&willing);
    world.ok(["campaign", "retry", "once", "--state", "refused", "--state", "expired"]).says("2 messages");
    world.books_balance();
    world.campaigns_at("2026-03-04T12:01:00Z", 0);
    world.has([("sent", 3)]);
    assert_eq!(willing.recipients(), ["r1@example.com", "r2@example.com"]);
    assert_eq!(world.campaign_column("once", "status").as_deref(), Some("completed"));
    world.ok(["campaign", "retry", "once", "--state", "refused"]).says("0 messages");
    world.books_balance();
}

#[test]
fn a_retry_does_not_end_a_pause() {
    let server = Server::start(Plan::accepting().for_recipient("r1@", Stage::Rcpt, Act::Reply(NO)).for_recipient(
        "r2@",
        Stage::Rcpt,
        Act::Reply(LATER),
    ));
    let world = World::with_campaigns(&definition("daily", NINE)).smtp(&server).init();
    world.ok(["run-campaigns"]);
    world.audience("audience.csv", &people(3));
    world.campaigns_at("2026-03-02T09:00:00Z", 0);
    world.ok(["campaign", "pause", "daily"]);
    world.ok(["campaign", "retry", "daily", "--state", "refused"]);
    assert_eq!(world.campaign_column("daily", "status").as_deref(), Some("paused"));
    world.campaigns_at("2026-03-02T10:00:00Z", 0);
    world.has([("planned", 2), ("sent", 1)]);
}

#[test]
fn the_list_and_one_campaign_are_shown() {
    let server = Server::start(Plan::accepting().for_recipient("r2@", Stage::Rcpt, Act::Reply(NO)));
    let world =
        World::with_campaigns(&(definition("daily", NINE) + &definition("unseen", "at = \"2027-01-01 00:00\"")))
            .smtp(&server);
    world.define(&definition("daily", &format!("{NINE}\ntimezone = \"Europe/Berlin\"")));
    let world = world.init();
    world.ok(["run-campaigns"]);
    world.define(
        &(definition("daily", &format!("{NINE}\ntimezone = \"Europe/Berlin\""))
            + &definition("unseen", "at = \"2027-01-01 00:00\"")),
    );
    world.audience("audience.csv", &people(3));
    world.campaigns_at("2026-03-02T08:00:00Z", 0);
    let list = world.ok(["campaign", "list", "--json"]).json();
    let daily = &list["campaigns"][0];
    assert_eq!(daily["zone"], "Europe/Berlin");
    assert_eq!(daily["next_run"], "2026-03-03T08:00:00Z");
    assert_eq!(daily["last_run"], "2026-03-02T08:00:00Z");
    assert_eq!(daily["total_runs"], 1);
    assert_eq!(daily["current"]["messages"], serde_json::json!({"refused": 1, "sent": 2}));
    world.ok(["campaign", "list"]).says("2026-03-03 09:00 Europe/Berlin").says("1 refused, 2 sent");
    let csv = world.ok(["campaign", "show", "daily", "--csv"]).stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 4, "{csv}");
    assert_eq!(lines[0], "recipient,state,reason,armed_at,settled_at,last_reply");
    assert!(
        lines[1..].iter().any(|line| line.starts_with("r2@example.com,refused,,") && line.contains("550 5.7.1")),
        "{csv}"
    );
    world.ok(["campaign", "show", "daily"]).says("opened with 3 recipients: 1 refused, 2 sent");
    world.exits(2, ["campaign", "show", "nobody"]).says("nobody");
    world.exits(2, ["campaign", "show", "daily", "--occurrence", "2026-03-01T08:00:00Z"]);
    world.books_balance();
}

#[test]
fn an_occurrence_is_found_however_many_came_after_it() {
    let server = Server::start(Plan::accepting().for_recipient("r2@", Stage::Rcpt, Act::Reply(NO)));
    let world = World::with_campaigns(&definition("daily", NINE)).smtp(&server).init();
    world.ok(["run-campaigns"]);
    world.audience("audience.csv", &people(3));
    world.campaigns_at("2026-03-02T09:00:00Z", 0);
    let daily = "WITH RECURSIVE day (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM day WHERE n < 300)
        INSERT INTO campaign_occurrence (campaign_id, planned_at, state, decided_at, schedule, subject, template, sender,
            expires_at, audience_rows, bad_rows, repeated, recipients)
        SELECT campaign_id, strftime('%Y-%m-%dT%H:%M:%SZ', planned_at, n || ' days'), state, decided_at, schedule, subject,
            template, sender, expires_at, 0, 0, 0, 0 FROM campaign_occurrence, day";
    assert_eq!(rusqlite::Connection::open(world.ledger_file()).unwrap().execute(daily, []).unwrap(), 300);
    world.ok(["campaign", "show", "daily"]).says("the newest 200; `--occurrence TIME` shows an older one");
    let first = ["--occurrence", "2026-03-02T09:00:00Z"];
    world.ok([["campaign", "show", "daily"].as_slice(), &first].concat()).says("r2@example.com");
    let list = world.ok(["campaign", "list", "--json"]).json();
    assert_eq!(list["campaigns"][0]["current"]["planned_at"], "2026-12-27T09:00:00Z");
    world.ok(["campaign", "retry", "daily", "--state", "refused"]).says("0 messages of 2026-12-27T09:00:00Z");
    world.ok([["campaign", "retry", "daily", "--state", "refused"].as_slice(), &first].concat()).says("1 message of");
    world.has([("planned", 1), ("sent", 2)]);
}

mod add {
    use super::*;

    fn added<'a>(id: &'a str, schedule: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec!["campaign", "add", id, "--subject", "Hi {{ name }}", "--template", "letter.html"];
        if !schedule.contains(&"--sql") {
            arguments.extend(["--audience", "audience.csv"]);
        }
        arguments.extend(schedule);
        arguments
    }

    #[test]
    fn every_kind_of_schedule() {
        let world = World::with_campaigns("# mine\n").init();
        for (id, schedule, first) in [
            ("at", &["--at", "2026-03-02 09:00"][..], "2026-03-02T09:00:00Z"),
            ("cron", &["--cron", "0 9 * * MON"], "2026-03-02T09:00:00Z"),
            ("day", &["--every", "day", "--time", "13:00"], "2026-03-01T13:00:00Z"),
            (
                "week",
                &["--every", "week", "--on", "tuesday", "--time", "09:00", "--timezone", "Europe/Berlin"],
                "2026-03-03T08:00:00Z",
            ),
            ("month", &["--every", "month", "--on", "last", "--time", "09:00"], "2026-03-31T09:00:00Z"),
            (
                "query",
                &["--sql", "SELECT email FROM carts", "--every", "month", "--on", "15", "--time", "09:00"],
                "2026-03-15T09:00:00Z",
            ),
        ] {
            world.ok(added(id, schedule)).says(first);
            assert_eq!(world.campaign_column(id, "next_run").as_deref(), Some(first), "{id}");
        }
        assert!(fs::read_to_string(world.path("campaigns.toml")).unwrap().starts_with("# mine\n"));
        world.ok(["run-campaigns"]).is_silent();
        assert_eq!(world.ok(["campaign", "list", "--json"]).json()["campaigns"].as_array().unwrap().len(), 6);
    }

    #[test]
    fn two_minutes_ahead_it_runs_then() {
        let world = World::with_campaigns("").init();
        world.ok(added("soon", &["--at", "2026-03-01 13:02", "--timezone", "Europe/Berlin"]));
        world.campaigns_at("2026-03-01T12:01:00Z", 0).is_silent();
        world.campaigns_at("2026-03-01T12:02:00Z", 0);
        world.has([("sent", 1)]);
    }

    #[test]
    fn it_counts_as_seen_when_added_even_if_no_run_came_before_it_was_due() {
        let world = World::with_campaigns("").init();
        world.ok(added("soon", &["--at", "2026-03-01 12:02"]));
        world.campaigns_at("2026-03-01T15:00:00Z", 0);
        world.has([("sent", 1)]);
    }

    #[test]
    fn what_is_wrong_writes_nothing() {
        let world = World::with_campaigns(&definition("daily", NINE)).init();
        world.ok(["run-campaigns"]);
        let file = fs::read(world.path("campaigns.toml")).unwrap();
        let before = world.report_of_ledger();
        let good = ["--at", "2026-03-02 09:00"];
        let wrong: Vec<Vec<&str>> = vec![
            added("past", &["--at", "2026-03-01 11:59"]),
            added("words", &["--at", "soon"]),
            added("none", &[]),
            added("two", &["--at", "2026-03-02 09:00", "--cron", "0 9 * * *"]),
            added("cron", &["--cron", "0 9 31 2 *"]),
            added("six", &["--cron", "0 0 9 * * MON"]),
            added("week", &["--every", "week", "--time", "09:00"]),
            added("time", &["--every", "day"]),
            added("zone", &["--at", "2026-03-02 09:00", "--timezone", "Berlin"]),
            added("spring sale", &good),
            added("daily", &good),
            {
                let mut arguments = added("template", &good);
                arguments[6] = "no-such.html";
                arguments
            },
            {
                let mut arguments = added("subject", &good);
                arguments[4] = "a\nBcc: x@example.com";
                arguments
            },
        ];
        for arguments in wrong {
            world.exits(2, arguments);
            assert_eq!(fs::read(world.path("campaigns.toml")).unwrap(), file);
            assert_eq!(world.report_of_ledger(), before);
            assert_eq!(world.number("SELECT count(*) FROM scheduled_campaign"), 1);
        }
    }

    #[test]
    fn an_id_that_the_ledger_knows_as_over_is_not_promised_a_run() {
        let world = World::with_campaigns(&definition("once", "at = \"2026-03-01 12:00\"")).init();
        world.ok(["run-campaigns"]);
        world.has([("sent", 1)]);
        world.define("");
        world.exits(2, added("once", &["--at", "2026-03-02 09:00"])).says("once");
        assert_eq!(fs::read_to_string(world.path("campaigns.toml")).unwrap(), "");
    }
}
