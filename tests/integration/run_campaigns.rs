//! `run-campaigns`: each occurrence opens once, and each address gets one message of it.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use crate::support::{Act, Cart, Plan, Server, Stage, World, definition, people};

const NINE: &str = "every = \"day\"\ntime = \"09:00\"";
const LATER: &str = "451 4.3.0 try later";

fn accepting() -> Server {
    Server::start(Plan::accepting())
}

/// A world whose campaigns were first seen at 2026-03-01T12:00:00Z; nothing was due.
fn seen(definitions: &str) -> World {
    let world = World::with_campaigns(definitions).init();
    world.ok(["run-campaigns"]);
    assert_eq!(world.messages(), []);
    world
}

/// The same, sending to a server.
fn seen_by(server: &Server, definitions: &str) -> World {
    let world = World::with_campaigns(definitions).smtp(server).init();
    world.ok(["run-campaigns"]);
    assert_eq!(server.connections(), 0);
    world
}

/// Every recipient was written to once.
#[track_caller]
fn one_each(server: &Server, number: usize) {
    let mut copies: BTreeMap<String, usize> = BTreeMap::new();
    for recipient in server.recipients() {
        *copies.entry(recipient).or_default() += 1;
    }
    assert_eq!(copies.len(), number, "{copies:?}");
    assert!(copies.values().all(|&n| n == 1), "{copies:?}");
    assert_eq!(server.violations(), [""; 0]);
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

fn text(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Steps through the wall clock, against an oracle that shares no code with mailonce.
mod instants {
    use super::*;

    fn oracle() -> Vec<serde_json::Value> {
        let text = include_str!("../fixtures/occurrences.json");
        let oracle: serde_json::Value = serde_json::from_str(text).expect("the fixture");
        oracle["cases"].as_array().expect("cases").clone()
    }

    /// The definitions of all rules whose case spans these instants, and when each must open.
    fn rules(zone: &str, from: DateTime<Utc>, until: DateTime<Utc>) -> (String, BTreeMap<String, Vec<String>>) {
        let (mut definitions, mut expected) = (String::new(), BTreeMap::new());
        for case in oracle() {
            let edge = |key: &str| time(case[key].as_str().expect("an edge"));
            if case["zone"] != zone || edge("after") >= from || edge("until") < until {
                continue;
            }
            let rule = case["rule"].as_object().expect("a rule");
            let mut keys = format!("timezone = \"{zone}\"\n");
            for (key, value) in rule {
                keys.push_str(&format!("{key} = {value}\n"));
            }
            let id = format!("rule-{}", expected.len() + 1);
            let instants = case["instants"].as_array().expect("instants").iter();
            let instants = instants.filter_map(|at| at.as_str()).filter(|at| (from..=until).contains(&time(at)));
            definitions.push_str(&definition(&id, &keys));
            expected.insert(id, instants.map(str::to_owned).collect());
        }
        (definitions, expected)
    }

    /// Asserts that exactly the expected instants opened, and that each has one message, sent.
    fn check(world: &World, expected: &BTreeMap<String, Vec<String>>) {
        let mut total = 0;
        for (id, instants) in expected {
            let opened: Vec<String> = instants.iter().map(|at| format!("{at} opened")).collect();
            assert_eq!(
                world.occurrences(id),
                opened,
                "{id} of\n{}",
                fs::read_to_string(world.path("campaigns.toml")).unwrap()
            );
            total += instants.len();
        }
        world.has([("sent", total)]);
        assert_eq!(world.outbox().len(), total);
    }

    #[test]
    fn minute_by_minute_through_the_clock_changes() {
        // The instant of the change; a one-off inside the gap or the repeated stretch, and when it opens, worked out
        // by hand: a skipped wall time at the first instant after the gap, a repeated one the first time.
        let changes = [
            ("Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-29 02:30", "2026-03-29T01:00:00Z"),
            ("Europe/Berlin", "2026-10-25T01:00:00Z", "2026-10-25 02:30", "2026-10-25T00:30:00Z"),
            ("America/New_York", "2026-03-08T07:00:00Z", "2026-03-08 02:30", "2026-03-08T07:00:00Z"),
            ("America/New_York", "2026-11-01T06:00:00Z", "2026-11-01 01:30", "2026-11-01T05:30:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T15:00:00Z", "2026-04-05 01:45", "2026-04-04T14:45:00Z"),
            ("Australia/Lord_Howe", "2026-10-03T15:30:00Z", "2026-10-04 02:15", "2026-10-03T15:30:00Z"),
        ];
        thread::scope(|threads| {
            for (zone, change, at, opens) in changes {
                threads.spawn(move || {
                    let change = time(change);
                    let (from, until) = (change - TimeDelta::hours(3), change + TimeDelta::hours(3));
                    let (mut definitions, mut expected) = rules(zone, from, until);
                    assert!(expected.len() >= 12, "{zone}: the fixture has too few rules");
                    definitions.push_str(&definition("once", &format!("at = \"{at}\"\ntimezone = \"{zone}\"")));
                    expected.insert("once".into(), vec![opens.to_owned()]);
                    let world =
                        World::with_campaigns(&definitions).set("campaigns.min_gap", "1m").now(&text(from)).init();
                    let mut now = from;
                    while now <= until {
                        world.campaigns_at(&text(now), 0);
                        let near = (now - change).abs() < TimeDelta::hours(2);
                        now += TimeDelta::minutes(if near { 1 } else { 5 });
                    }
                    check(&world, &expected);
                    let near = format!("abs(unixepoch(planned_at) - {}) < 7200", change.timestamp());
                    let late =
                        format!("SELECT count(*) FROM campaign_occurrence WHERE decided_at <> planned_at AND {near}");
                    assert_eq!(world.number(&late), 0, "each opens in its own minute");
                });
            }
        });
    }

    #[test]
    fn month_ends_of_a_leap_year() {
        let zone = "Europe/Berlin";
        let (from, until) = (time("2028-01-01T00:00:00Z"), time("2028-12-31T23:59:00Z"));
        let (definitions, expected) = rules(zone, from, until);
        assert!(expected.len() >= 20, "the fixture has too few rules");
        assert!(expected.values().flatten().any(|at| at.starts_with("2028-02-29")));
        let world = World::with_campaigns(&definitions).now(&text(from)).init();
        let mut steps: Vec<DateTime<Utc>> = expected.values().flatten().map(|at| time(at)).collect();
        let before: Vec<DateTime<Utc>> =
            steps.iter().filter(|at| at.format("%d").to_string().as_str() >= "28").copied().collect();
        steps.extend(before.into_iter().map(|at| at - TimeDelta::minutes(1)));
        steps.push(from);
        steps.sort();
        steps.dedup();
        for at in steps {
            world.campaigns_at(&text(at), 0);
        }
        check(&world, &expected);
    }
}

mod opens_once {
    use super::*;

    #[test]
    fn an_occurrence_becomes_one_message_per_recipient_and_its_rows() {
        let server = accepting();
        let world = seen_by(&server, &definition("spring", "at = \"2026-03-02 09:00\"\ntimezone = \"Europe/Berlin\""));
        world.audience("audience.csv", "email,name\nAda@Example.com,Ada\nbob@example.com,Bob\n");
        world.campaigns_at("2026-03-02T07:59:00Z", 0).is_silent();
        world.campaigns_at("2026-03-02T08:00:00Z", 0);
        world.has([("sent", 2)]);
        assert_eq!(server.recipients(), ["Ada@example.com", "bob@example.com"]);
        let first = &server.accepted()[0];
        assert_eq!(first.header("Subject").as_deref(), Some("Hello Ada"));
        assert!(first.text().contains("Dear Ada, here is spring."), "{}", first.text());
        let message = &world.messages()[0];
        assert_eq!(message.message_key, "campaign/spring/2026-03-02T08:00:00Z/ada@example.com");
        assert_eq!(message.expires_at.as_deref(), Some("2026-03-05T08:00:00Z"), "72 h after the instant");
        assert_eq!(world.occurrences("spring"), ["2026-03-02T08:00:00Z opened"]);
        for (column, value) in
            [("status", "completed"), ("enabled", "0"), ("total_runs", "1"), ("last_run", "2026-03-02T08:00:00Z")]
        {
            assert_eq!(world.campaign_column("spring", column).as_deref(), Some(value), "{column}");
        }
        assert_eq!(world.campaign_column("spring", "next_run"), None);
        world.campaigns_at("2026-03-02T08:01:00Z", 0).is_silent();
        one_each(&server, 2);
        world.books_balance();
    }

    #[test]
    fn the_ledger_itself_refuses_an_occurrence_twice() {
        let world = seen(&definition("daily", NINE));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        let ledger = rusqlite::Connection::open(world.ledger_file()).unwrap();
        let again = "INSERT INTO campaign_occurrence (campaign_id, planned_at, state, decided_at, schedule)
                     SELECT campaign_id, planned_at, 'not_in_time', decided_at, schedule FROM campaign_occurrence";
        let refused = ledger.execute(again, []).unwrap_err().to_string();
        assert!(refused.starts_with("occurrence_is_not_replaced"), "{refused}");
    }

    #[test]
    fn eight_runs_at_once() {
        let server = accepting();
        let world = seen_by(&server, &definition("daily", NINE));
        world.audience("audience.csv", &people(60));
        world.set_now("2026-03-02T09:00:00Z");
        let runs: Vec<_> = (0..8).map(|_| world.spawn(["run-campaigns"])).collect();
        let codes: Vec<i32> = runs.into_iter().map(|run| run.wait().code).collect();
        assert!(codes.iter().all(|code| [0, 75].contains(code)) && codes.contains(&0), "{codes:?}");
        world.has([("sent", 60)]);
        one_each(&server, 60);
        world.books_balance();
    }

    #[test]
    fn eight_runs_at_once_while_the_lock_is_deleted_all_the_time() {
        for _ in 0..3 {
            let world = seen(&definition("daily", NINE));
            world.audience("audience.csv", &people(200));
            world.set_now("2026-03-02T09:00:00Z");
            let mut runs: Vec<_> = (0..8).map(|_| world.spawn(["run-campaigns"])).collect();
            while runs.iter_mut().any(|run| run.is_running()) {
                let _ = fs::remove_file(world.path("mailonce.db.lock"));
                thread::sleep(Duration::from_millis(2));
            }
            for run in runs {
                run.wait();
            }
            world.set_now("2026-03-02T09:05:00Z");
            world.run(["run-campaigns", "--accept-clock"]);
            assert_eq!(world.occurrences("daily"), ["2026-03-02T09:00:00Z opened"]);
            assert_eq!(world.messages().len(), 200);
            let at_most_once = world.outbox().len();
            assert!(at_most_once <= 200, "{at_most_once}");
            assert_eq!(world.number("SELECT total_runs FROM scheduled_campaign"), 1);
            world.books_balance();
        }
    }

    #[test]
    fn a_lock_deleted_under_a_run_costs_no_second_copy() {
        let server = Server::start(Plan::accepting().nth(Stage::Dot, 2, Act::Hang));
        let world = seen_by(&server, &definition("daily", NINE));
        world.audience("audience.csv", &people(5));
        world.set_now("2026-03-02T09:00:00Z");
        let first = world.spawn(["run-campaigns"]);
        server.wait_for(Stage::Dot, 2);
        fs::remove_file(world.path("mailonce.db.lock")).unwrap();
        let second = world.run(["run-campaigns"]);
        assert!([0, 1, 74].contains(&second.code), "{second}");
        server.release();
        first.wait();
        world.set_now("2026-03-02T09:10:00Z");
        world.run(["run-campaigns", "--accept-clock"]);
        one_each(&server, 5);
        world.books_balance();
        assert!(!world.states().contains_key("planned"), "{:?}", world.states());
    }

    #[test]
    fn an_edit_of_the_schedule_opens_nothing_more_on_that_day() {
        for edit in [
            "every = \"day\"\ntime = \"11:00\"",
            "every = \"day\"\ntime = \"09:00\"\ntimezone = \"America/New_York\"",
            "cron = \"0 12,15 * * *\"",
            "at = \"2026-03-02 14:00\"",
        ] {
            let world = seen(&definition("daily", NINE));
            world.campaigns_at("2026-03-02T09:00:00Z", 0);
            world.has([("sent", 1)]);
            world.define(&definition("daily", edit));
            let mut told = 0;
            for hour in 9..=23 {
                let at = format!("2026-03-02T{hour:02}:30:00Z");
                world.set_now(&at);
                let ran = world.run(["run-campaigns"]);
                if ran.code != 0 {
                    assert_eq!(ran.code, 1, "{ran}");
                    ran.says("the schedule was edited").says("mailonce resolve --accept missed:daily");
                    told += 1;
                }
            }
            let instants = if edit.starts_with("cron") { 2 } else { usize::from(!edit.starts_with("at")) };
            assert_eq!(told, instants, "each that does not open on that day is told, once");
            world.has([("sent", 1)]);
            for hour in 0..=23 {
                world.campaigns_at(&format!("2026-03-03T{hour:02}:00:00Z"), 0);
            }
            let next_day = match edit {
                edit if edit.starts_with("cron") => 2,
                edit if edit.starts_with("at") => 0,
                _ => 1,
            };
            world.has([("sent", 1 + next_day)]);
            world.books_balance();
        }
    }

    #[test]
    fn an_edit_before_the_first_opening_counts_at_once() {
        let world = seen(&definition("daily", NINE));
        world.define(&definition("daily", "every = \"day\"\ntime = \"08:00\"\ntimezone = \"Europe/Berlin\""));
        world.campaigns_at("2026-03-02T07:00:00Z", 0);
        assert_eq!(world.occurrences("daily"), ["2026-03-02T07:00:00Z opened"]);
        world.campaigns_at("2026-03-02T09:00:00Z", 0).is_silent();
        world.has([("sent", 1)]);
    }

    #[test]
    fn a_one_off_that_has_opened_never_opens_again() {
        let world = seen(&definition("once", "at = \"2026-03-02 09:00\""));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        for at in ["2026-03-02 10:00", "2026-03-05 10:00", "2026-03-02 09:01", "2026-03-01 12:30"] {
            world.define(&definition("once", &format!("at = \"{at}\"")));
            for now in ["2026-03-02T10:00:00Z", "2026-03-05T10:00:00Z"] {
                world.set_now(now);
                let is_told = at == "2026-03-05 10:00" && now.starts_with("2026-03-02");
                world.exits(i32::from(is_told), ["run-campaigns", "--accept-clock"]);
            }
        }
        world.has([("sent", 1)]);
        assert_eq!(world.occurrences("once"), ["2026-03-02T09:00:00Z opened"]);
    }

    #[test]
    fn a_new_time_for_one_that_has_opened_is_told() {
        let at = |time: &str| definition("once", &format!("at = \"{time}\""));
        let world = seen(&at("2026-03-02 09:00"));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        // In the past there is nothing to wait for.
        world.define(&at("2026-03-01 09:00"));
        world.campaigns_at("2026-03-02T10:00:00Z", 0).is_silent();
        world.define(&at("2026-03-05 09:00"));
        world.campaigns_at("2026-03-02T11:00:00Z", 1).says("has opened already").says("an `id` of its own");
        world.campaigns_at("2026-03-05T09:00:00Z", 0).is_silent();
        assert_eq!(world.occurrences("once"), ["2026-03-02T09:00:00Z opened"]);
        world.ok(["resolve", "--accept", "missed:once"]);
    }

    #[test]
    fn a_one_off_that_missed_its_time_may_be_moved() {
        let world = seen(&definition("once", "at = \"2026-03-02 09:00\""));
        world.campaigns_at("2026-03-02T15:00:01Z", 1).says("set `at` to a time to come");
        assert_eq!(world.occurrences("once"), ["2026-03-02T09:00:00Z not_in_time"]);
        world.campaigns_at("2026-03-02T15:01:00Z", 0).is_silent();
        world.define(&definition("once", "at = \"2026-03-03 09:00\""));
        world.campaigns_at("2026-03-02T15:02:00Z", 0).is_silent();
        world.campaigns_at("2026-03-03T09:00:00Z", 0);
        world.has([("sent", 1)]);
        assert_eq!(world.occurrences("once"), ["2026-03-02T09:00:00Z not_in_time", "2026-03-03T09:00:00Z opened"]);
    }

    #[test]
    fn a_one_off_may_be_moved_before_it_opens() {
        let world = seen(&definition("once", "at = \"2026-03-02 09:00\""));
        world.define(&definition("once", "at = \"2026-03-02 08:00\""));
        world.campaigns_at("2026-03-02T08:00:00Z", 0);
        world.campaigns_at("2026-03-02T09:00:00Z", 0).is_silent();
        assert_eq!(world.occurrences("once"), ["2026-03-02T08:00:00Z opened"]);
    }

    #[test]
    fn a_clock_that_goes_back_a_little_opens_nothing_again() {
        let world = seen(&definition("daily", NINE));
        world.campaigns_at("2026-03-02T09:01:00Z", 0);
        for at in ["2026-03-02T08:58:00Z", "2026-03-02T08:59:59Z", "2026-03-02T09:00:00Z", "2026-03-02T09:01:00Z"] {
            world.campaigns_at(at, 0).is_silent();
        }
        world.campaigns_at("2026-03-02T08:50:00Z", 74);
        world.set_now("2026-03-01T13:00:00Z");
        world.ok(["run-campaigns", "--accept-clock"]);
        world.campaigns_at("2026-03-02T09:00:00Z", 0).is_silent();
        world.has([("sent", 1)]);
        assert_eq!(world.occurrences("daily"), ["2026-03-02T09:00:00Z opened"]);
    }

    #[test]
    fn edits_of_text_template_and_sender_touch_later_occurrences_only() {
        let server = Server::start(Plan::accepting().nth(Stage::Rcpt, 1, Act::Reply(LATER)));
        let world = seen_by(&server, &definition("daily", NINE));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        world.has([("planned", 1)]);
        world.write("letter.html", "<p>quite another letter</p>");
        world.define(&definition("daily", NINE).replace("Hello", "Goodbye"));
        world.configure("mail.from", "Someone Else <else@shop.example>");
        world.audience("audience.csv", "email,name\nr1@example.com,Renamed\n");
        world.campaigns_at("2026-03-02T09:10:00Z", 0);
        world.campaigns_at("2026-03-03T09:00:00Z", 0);
        let accepted = server.accepted();
        assert_eq!(accepted.len(), 2);
        assert_eq!(accepted[0].header("Subject").as_deref(), Some("Hello Name 1"));
        assert!(accepted[0].text().contains("Dear Name 1"));
        assert_eq!(accepted[0].from, "hello@shop.example");
        assert_eq!(accepted[1].header("Subject").as_deref(), Some("Goodbye Renamed"));
        assert!(accepted[1].text().contains("quite another letter"));
        assert_eq!(accepted[1].from, "else@shop.example");
    }
}

mod killed {
    use super::*;

    const MANY: usize = 100_000;

    /// Kills a run that opens many recipients: when the ledger's WAL has so many bytes, or after so long.
    fn kill_while_opening(world: &World, bytes: Option<u64>, after: Duration) {
        let mut run = world.spawn(["run-campaigns", "--time-budget", "1s"]);
        let begun = Instant::now();
        let wal = world.path("mailonce.db-wal");
        let size = || fs::metadata(&wal).map_or(0, |metadata| metadata.len());
        while run.is_running() && begun.elapsed() < after && bytes.is_none_or(|bytes| size() < bytes) {
            thread::sleep(Duration::from_millis(1));
        }
        run.kill();
        let planned = world.number("SELECT count(*) FROM message");
        assert!([0, MANY as i64].contains(&planned), "half an opening: {planned}");
        assert_eq!(world.number("SELECT count(*) FROM campaign_occurrence"), i64::from(planned > 0));
    }

    #[test]
    fn while_opening_100000_recipients_the_next_run_opens_them_whole() {
        let world = seen(&definition("daily", NINE));
        world.audience("audience.csv", &people(MANY));
        world.set_now("2026-03-02T09:00:00Z");
        for millis in [50, 1500] {
            kill_while_opening(&world, None, Duration::from_millis(millis));
        }
        for bytes in [200_000, 20_000_000] {
            kill_while_opening(&world, Some(bytes), Duration::from_secs(60));
        }
        world.run(["run-campaigns", "--time-budget", "1s"]);
        assert_eq!(world.messages().len(), MANY);
        assert_eq!(world.occurrences("daily"), ["2026-03-02T09:00:00Z opened"]);
        world.books_balance();
        assert_eq!(world.number("SELECT count(DISTINCT folded_address) FROM message"), MANY as i64);
        assert_eq!(world.number("SELECT total_runs FROM scheduled_campaign"), 1);
    }

    #[test]
    fn at_the_dot_that_one_is_in_doubt_and_the_rest_is_sent_once() {
        for stage in [Stage::Body, Stage::Dot, Stage::Taken] {
            let server = Server::start(Plan::accepting().nth(stage, 3, Act::Hang).body_after(1));
            let world = seen_by(&server, &definition("once", "at = \"2026-03-02 09:00\""));
            world.audience("audience.csv", &people(6));
            world.set_now("2026-03-02T09:00:00Z");
            let run = world.spawn(["run-campaigns"]);
            server.wait_for(stage, 3);
            run.kill();
            world.campaigns_at("2026-03-02T09:01:00Z", 1).says("in doubt");
            world.has([("in_doubt", 1), ("sent", 5)]);
            world.campaigns_at("2026-03-02T09:02:00Z", 0);
            world.campaigns_at("2026-03-05T12:02:00Z", 0);
            world.books_balance();
            let doubtful = world.rows("SELECT recipient FROM message WHERE state = 'in_doubt'").remove(0);
            let doubtful = doubtful["recipient"].clone().unwrap();
            let copies = server.recipients().iter().filter(|to| **to == doubtful).count();
            assert!(copies <= 1, "{stage:?}: {copies} copies");
            one_each(&server, 5 + copies);
        }
    }
}

mod late {
    use super::*;

    #[test]
    fn by_five_minutes_or_five_hours_it_opens() {
        for (at, expires) in [
            ("2026-03-02T09:05:00Z", "2026-03-05T09:00:00Z"),
            ("2026-03-02T14:00:00Z", "2026-03-05T09:00:00Z"),
            ("2026-03-02T15:00:00Z", "2026-03-05T09:00:00Z"),
        ] {
            let world = seen(&definition("daily", NINE));
            world.campaigns_at(at, 0);
            world.has([("sent", 1)]);
            assert_eq!(world.message().expires_at.as_deref(), Some(expires));
            assert_eq!(world.occurrences("daily"), ["2026-03-02T09:00:00Z opened"]);
        }
    }

    #[test]
    fn by_more_than_max_lateness_it_is_recorded_and_never_opens() {
        let world = seen(&definition("daily", NINE));
        world.campaigns_at("2026-03-02T15:00:01Z", 1).says("no run got to it in time");
        world.campaigns_at("2026-03-02T15:00:02Z", 0).is_silent();
        assert_eq!(world.messages(), []);
        assert_eq!(world.occurrences("daily"), ["2026-03-02T09:00:00Z not_in_time"]);
        world.campaigns_at("2026-03-03T09:00:00Z", 0);
        world.has([("sent", 1)]);
    }

    #[test]
    fn by_five_days_only_the_newest_opens_and_the_campaign_goes_on() {
        let world = seen(&definition("daily", NINE));
        let told = world.campaigns_at("2026-03-06T10:00:00Z", 1);
        told.says("4 occurrences, the newest 2026-03-05 09:00 UTC, will never open").says("only the newest opens");
        world.has([("sent", 1)]);
        let missed = |day| format!("2026-03-{day:02}T09:00:00Z not_in_time");
        let expected = [missed(2), missed(3), missed(4), missed(5), "2026-03-06T09:00:00Z opened".into()];
        assert_eq!(world.occurrences("daily"), expected);
        world.campaigns_at("2026-03-06T10:01:00Z", 0).is_silent();
        world.campaigns_at("2026-03-11T16:00:00Z", 1).says("5 occurrences, the newest 2026-03-11 09:00 UTC,");
        world.has([("sent", 1)]);
        assert_eq!(world.occurrences("daily").len(), 10);
        world.campaigns_at("2026-03-12T09:00:00Z", 0);
        world.has([("sent", 2)]);
        assert_eq!(world.campaign_column("daily", "next_run").as_deref(), Some("2026-03-13T09:00:00Z"));
    }

    #[test]
    fn of_thousands_missed_the_newest_hundred_are_kept() {
        let often = definition("often", "cron = \"*/15 * * * *\"\nmax_lateness = \"5m\"");
        let world = World::with_campaigns(&often).now("2026-03-01T12:01:00Z").init();
        world.ok(["run-campaigns"]);
        world.campaigns_at("2026-04-01T12:14:00Z", 1).says("1000 occurrences or more");
        let occurrences = world.occurrences("often");
        assert_eq!(occurrences.len(), 100);
        assert_eq!(occurrences[99], "2026-04-01T12:00:00Z not_in_time");
        world.campaigns_at("2026-04-01T12:16:00Z", 0);
        world.has([("sent", 1)]);
        assert_eq!(world.occurrences("often").len(), 101);
    }

    #[test]
    fn openings_keep_their_distance() {
        let often = definition("often", "cron = \"*/5 * * * *\"\nmin_gap = \"12m\"");
        let world = World::with_campaigns(&often).init();
        world.ok(["run-campaigns"]);
        world.has([("sent", 1)]);
        let mut opened = Vec::new();
        for minute in 1..60 {
            let at = format!("2026-03-01T12:{minute:02}:00Z");
            let sent = world.states().get("sent").copied().unwrap_or(0);
            world.campaigns_at(&at, 0);
            if world.states().get("sent").copied().unwrap_or(0) > sent {
                opened.push(minute);
            }
        }
        assert_eq!(opened, [12, 24, 36, 48], "it was first seen at 12:00 and opened at once");
    }

    #[test]
    fn max_lateness_is_each_campaigns_own() {
        let own = format!("{NINE}\nmax_lateness = \"30m\"");
        let world = seen(&(definition("strict", &own) + &definition("lenient", NINE)));
        world.campaigns_at("2026-03-02T09:31:00Z", 1).says("campaign strict: ").says("max_lateness is 30m");
        assert_eq!(world.occurrences("strict"), ["2026-03-02T09:00:00Z not_in_time"]);
        assert_eq!(world.occurrences("lenient"), ["2026-03-02T09:00:00Z opened"]);
    }

    #[test]
    fn what_fell_due_before_the_ledger_first_saw_it_never_opens() {
        let world =
            World::with_campaigns(&(definition("daily", NINE) + &definition("once", "at = \"2026-03-01 11:59\"")))
                .init();
        let told = world.exits(1, ["run-campaigns"]);
        told.says("campaign once: the occurrence of 2026-03-01 11:59 UTC will never open")
            .says("its time had passed when mailonce first saw it, at 2026-03-01T12:00:00Z");
        assert!(!told.output().contains("daily"), "what a new campaign never was to do was not missed: {told}");
        world.campaigns_at("2026-03-01T12:01:00Z", 0).is_silent();
        assert_eq!(world.messages(), []);
        assert_eq!(world.occurrences("daily"), [""; 0]);
        assert_eq!(world.occurrences("once"), ["2026-03-01T11:59:00Z not_in_time"]);
        let world = World::with_campaigns(&definition("once", "at = \"2026-03-01 12:00\"")).init();
        world.ok(["run-campaigns"]);
        world.has([("sent", 1)]);
    }
}

mod audience {
    use super::*;

    #[test]
    fn of_a_repeated_address_the_first_row_counts_and_bad_rows_are_named_and_left_out() {
        let server = accepting();
        let world = seen_by(&server, &definition("daily", NINE));
        let rows = "email,name\nAda@Example.com,First\n ada@EXAMPLE.COM ,Second\nno address,Bad\nbob@example.com,Bob\n";
        world.audience("audience.csv", rows);
        let ran = world.campaigns_at("2026-03-02T09:00:00Z", 1);
        ran.says("audience.csv:4").says("1 bad row");
        assert!(!ran.output().contains("Second"), "{ran}");
        world.has([("sent", 2)]);
        let accepted = server.accepted();
        assert!(accepted.iter().any(|mail| mail.header("Subject").as_deref() == Some("Hello First")));
        assert_eq!(world.number("SELECT repeated FROM campaign_occurrence"), 1);
        assert_eq!(world.number("SELECT bad_rows FROM campaign_occurrence"), 1);
        world.campaigns_at("2026-03-02T09:01:00Z", 0).is_silent();
        world.audience("audience.csv", "email,name\nada@example.com,A\nADA@example.com,B\n");
        let report = {
            world.set_now("2026-03-03T09:00:00Z");
            world.ok(["run-campaigns", "--json"]).json()
        };
        assert_eq!(report["opened"][0]["repeated"], 1, "repeated addresses alone are no alarm");
        assert_eq!(report["opened"][0]["recipients"], 1);
        world.books_balance();
    }

    /// Makes the audience unusable, expects one alarm, then one an hour, and an opening once it is whole again.
    fn not_ready(spoil: impl Fn(&World)) {
        let world =
            seen(&(definition("daily", NINE) + &definition("other", NINE).replace("audience.csv", "other.csv")));
        world.audience("other.csv", &people(1));
        world.audience("audience.csv", &people(10));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        world.has([("sent", 11)]);
        spoil(&world);
        world.campaigns_at("2026-03-03T09:00:00Z", 1).says("daily").says("tried again until 2026-03-03T15:00:00Z");
        world.has([("sent", 12)]);
        for minute in ["09:01", "09:30", "09:59"] {
            world.campaigns_at(&format!("2026-03-03T{minute}:00Z"), 0).is_silent();
        }
        world.campaigns_at("2026-03-03T10:00:00Z", 1);
        world.campaigns_at("2026-03-03T10:01:00Z", 0).is_silent();
        let _ = fs::remove_dir(world.path("audience.csv"));
        world.audience("audience.csv", &people(10));
        world.campaigns_at("2026-03-03T15:00:00Z", 0);
        world.has([("sent", 22)]);
        spoil(&world);
        world.campaigns_at("2026-03-04T09:00:00Z", 1);
        world
            .campaigns_at("2026-03-04T15:00:01Z", 1)
            .says("campaign daily: ")
            .says("it was not ready within max_lateness (6h)");
        assert_eq!(world.occurrences("daily").last().map(String::as_str), Some("2026-03-04T09:00:00Z not_in_time"));
        world.has([("sent", 23)]);
        world.books_balance();
    }

    #[test]
    fn empty_it_opens_nothing() {
        not_ready(|world| world.audience("audience.csv", "email,name\n"));
        not_ready(|world| world.audience("audience.csv", ""));
    }

    #[test]
    fn missing_it_opens_nothing() {
        not_ready(|world| fs::remove_file(world.path("audience.csv")).unwrap());
        not_ready(|world| {
            fs::remove_file(world.path("audience.csv")).unwrap();
            fs::create_dir(world.path("audience.csv")).unwrap();
        });
    }

    #[test]
    fn written_to_just_now_it_opens_nothing() {
        not_ready(|world| world.touched_before("audience.csv", Duration::ZERO));
    }

    #[test]
    fn half_of_last_time_it_opens_nothing() {
        not_ready(|world| world.audience("audience.csv", &people(4)));
        let world = seen(&definition("daily", NINE));
        world.audience("audience.csv", &people(10));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        world.audience("audience.csv", &people(5));
        world.campaigns_at("2026-03-03T09:00:00Z", 0);
        world.has([("sent", 15)]);
    }

    #[test]
    fn without_a_template_or_with_a_broken_one_it_opens_nothing() {
        for broken in [None, Some("{{ name"), Some("{% for %}")] {
            let world =
                seen(&(definition("broken", NINE).replace("letter.html", "own.html") + &definition("whole", NINE)));
            if let Some(text) = broken {
                world.write("own.html", text);
            }
            world.campaigns_at("2026-03-02T09:00:00Z", 1).says("broken").says("own.html");
            assert_eq!(world.occurrences("whole"), ["2026-03-02T09:00:00Z opened"]);
            assert_eq!(world.occurrences("broken"), [""; 0]);
            world.write("own.html", "well");
            world.campaigns_at("2026-03-02T09:01:00Z", 0);
            world.has([("sent", 2)]);
        }
    }

    #[test]
    fn a_message_that_cannot_be_rendered_is_refused_and_the_others_are_sent() {
        let server = accepting();
        let world = seen_by(&server, &definition("daily", NINE));
        world.write("letter.html", "{% if name == 'Bad' %}{{ nothing.at.all }}{% endif %}<p>Dear {{ name }}</p>");
        // Behind those that are tried before it opens.
        world.audience("audience.csv", &(people(100) + "b@example.com,Bad\nc@example.com,Cleo\n"));
        let ran = world.campaigns_at("2026-03-02T09:00:00Z", 1);
        ran.says("1 message refused: daily ").says("cannot be rendered: letter.html:1: ").says("--state refused");
        world.has([("refused", 1), ("sent", 101)]);
        assert!(!server.recipients().contains(&"b@example.com".to_owned()));
        // Told once.
        world.campaigns_at("2026-03-02T09:01:00Z", 0);
        let reply = world.rows("SELECT last_reply FROM message WHERE state = 'refused'").remove(0);
        assert!(reply["last_reply"].clone().unwrap().contains("cannot be rendered"), "{reply:?}");
        world.books_balance();
    }

    #[test]
    fn a_query_and_json_lines_work_like_a_table() {
        let server = accepting();
        let sql = definition("query", NINE).replace(
            "audience = \"audience.csv\"",
            "sql = \"SELECT DISTINCT email, upper(cart_id) AS name FROM carts ORDER BY email\"",
        );
        let lines = definition("lines", NINE).replace("audience.csv", "audience.jsonl");
        let world = seen_by(&server, &(sql + &lines));
        world.put(Cart::of("c1"));
        world.put(Cart::of("c2"));
        world.audience("audience.jsonl", "{\"email\":\"j@example.com\",\"name\":\"Jo\"}\n");
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        assert_eq!(server.recipients(), ["c1@example.com", "c2@example.com", "j@example.com"]);
        let mut subjects: Vec<_> = server.accepted().iter().filter_map(|mail| mail.header("Subject")).collect();
        subjects.sort();
        assert_eq!(subjects, ["Hello C1", "Hello C2", "Hello Jo"]);
        world.books_balance();
    }
}

mod definitions {
    use super::*;

    #[test]
    fn a_bad_one_stops_itself_and_is_told_once_an_hour() {
        let bad = definition("bad", "every = \"fortnight\"\ntime = \"09:00\"");
        let world = World::with_campaigns(&(bad + &definition("good", NINE))).init();
        world.exits(1, ["run-campaigns"]).says("campaigns.toml:1").says("fortnight");
        world.campaigns_at("2026-03-01T12:01:00Z", 0).is_silent();
        world.campaigns_at("2026-03-01T13:00:00Z", 1);
        world.campaigns_at("2026-03-02T09:00:00Z", 1);
        assert_eq!(world.occurrences("good"), ["2026-03-02T09:00:00Z opened"]);
    }

    #[test]
    fn two_of_one_id_stop_each_other_only() {
        let world =
            World::with_campaigns(&(definition("twin", NINE) + &definition("twin", NINE) + &definition("good", NINE)))
                .init();
        world.exits(1, ["run-campaigns"]).says("twin");
        world.campaigns_at("2026-03-02T09:00:00Z", 1);
        assert_eq!(world.messages().len(), 1);
        assert_eq!(world.occurrences("good"), ["2026-03-02T09:00:00Z opened"]);
    }

    #[test]
    fn one_that_vanished_is_paused_and_listed_and_one_that_broke_is_not() {
        let world = seen(&(definition("gone", NINE) + &definition("stays", NINE)));
        world.define(&(definition("gone", "every = \"never\"") + &definition("stays", NINE)));
        world.campaigns_at("2026-03-01T12:01:00Z", 1);
        assert_eq!(world.campaign_column("gone", "status").as_deref(), Some("pending"));
        world.define(&definition("stays", NINE));
        world.campaigns_at("2026-03-01T12:02:00Z", 1).says("gone is no longer defined; it is paused");
        world.campaigns_at("2026-03-01T12:03:00Z", 0).is_silent();
        let list = world.ok(["campaign", "list", "--json"]).json();
        assert_eq!(list["campaigns"][0]["campaign_id"], "gone");
        assert_eq!(
            (&list["campaigns"][0]["status"], &list["campaigns"][0]["defined"]),
            (&"paused".into(), &false.into())
        );
        world.define(&(definition("gone", NINE) + &definition("stays", NINE)));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        world.has([("sent", 2)]);
    }

    #[test]
    fn a_file_that_is_no_toml_is_a_wrong_configuration_and_changes_nothing() {
        let world = seen(&definition("daily", NINE));
        let before = world.report_of_ledger();
        for broken in ["[[campaign]\n", "[[campaigns]]\nid = \"x\"\n", "id = 'x"] {
            world.define(broken);
            world.campaigns_at("2026-03-02T09:00:00Z", 78).says("campaigns.toml");
            assert_eq!(world.report_of_ledger(), before);
        }
        world.define(&definition("daily", NINE));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        world.has([("sent", 1)]);
    }
}

mod delivery {
    use super::*;

    /// `run-campaigns` again and again, until nothing is planned.
    fn runs_until_sent(world: &World, arguments: &[&str]) -> usize {
        for run in 1..=40 {
            world.set_now(&format!("2026-03-02T09:{run:02}:00Z"));
            world.ok(arguments);
            world.books_balance();
            if !world.states().contains_key("planned") {
                return run;
            }
        }
        panic!("still planned after 40 runs");
    }

    /// By the machine's clock, which the other tests stop.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[test]
    fn what_a_run_opens_it_sends_also_when_it_took_a_second() {
        use crate::support::trace::{self, Call, Observer, Order};

        /// Holds the run up at each look at the audience until the clock shows another second.
        struct Dawdle;
        impl Observer for Dawdle {
            fn entry(&mut self, call: &Call) -> Order {
                let opens = call.is(&[libc::SYS_openat]) && call.path(1).ends_with("audience.csv");
                let now = || chrono::Utc::now().timestamp();
                let began = now();
                while opens && now() == began {
                    std::thread::yield_now();
                }
                Order::GoOn
            }
        }
        let server = accepting();
        let due = chrono::Utc::now() + chrono::TimeDelta::seconds(2);
        let at = due.format("at = \"%Y-%m-%dT%H:%M:%SZ\"").to_string();
        let world = World::with_campaigns(&(definition("spring", &at) + &definition("summer", &at)))
            .without_now()
            .smtp(&server)
            .init();
        // It is seen before it is due.
        world.ok(["run-campaigns"]);
        crate::support::wait_until("the campaign is due", || chrono::Utc::now() > due);
        let code = trace::run(world.command(["run-campaigns"]), &mut Dawdle).expect("a process may be traced here");
        assert_eq!((code, world.states()), (0, [("sent".to_owned(), 2)].into()));
    }

    #[test]
    fn a_time_budget_spreads_an_occurrence_over_runs() {
        let server = accepting();
        let world = seen_by(&server, &definition("daily", NINE)).set("mail.limits.per_second", 20);
        world.audience("audience.csv", &people(60));
        let runs = runs_until_sent(&world, &["run-campaigns", "--time-budget", "1s"]);
        assert!(runs >= 2, "{runs}");
        world.has([("sent", 60)]);
        one_each(&server, 60);
        assert_eq!(world.campaign_column("daily", "status").as_deref(), Some("pending"));
    }

    #[test]
    fn the_limit_of_an_hour_holds_over_runs() {
        let server = accepting();
        let world = seen_by(&server, &definition("daily", NINE)).set("mail.limits.per_hour", 5);
        world.audience("audience.csv", &people(12));
        for minute in 0..3 {
            world.campaigns_at(&format!("2026-03-02T09:{minute:02}:00Z"), 0);
            world.has([("planned", 7), ("sent", 5)]);
        }
        assert_eq!(world.campaign_column("daily", "status").as_deref(), Some("running"));
        one_each(&server, 5);
        world.books_balance();
    }

    #[test]
    fn a_domain_that_says_later_waits_and_the_others_do_not() {
        let server = Server::start(Plan::accepting().for_recipient("@slow.example", Stage::Rcpt, Act::Reply(LATER)));
        let world = seen_by(&server, &definition("daily", NINE));
        world.audience(
            "audience.csv",
            "email,name\na@slow.example,A\nb@example.com,B\nc@slow.example,C\nd@example.com,D\n",
        );
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        world.has([("planned", 2), ("sent", 2)]);
        world.campaigns_at("2026-03-02T09:01:00Z", 0);
        world.has([("planned", 2), ("sent", 2)]);
        world.books_balance();
        let willing = accepting();
        world.send_to(&willing);
        world.campaigns_at("2026-03-02T09:30:00Z", 0);
        world.has([("sent", 4)]);
        assert_eq!(willing.recipients(), ["a@slow.example", "c@slow.example"]);
        one_each(&server, 2);
    }

    #[test]
    fn a_suppression_counts_until_the_body_leaves() {
        let server = Server::start(Plan::accepting().nth(Stage::Data, 1, Act::Hang));
        let world = seen_by(&server, &definition("daily", NINE));
        world.audience("audience.csv", &people(3));
        world.ok(["suppress", "add", "R3@example.com"]);
        world.set_now("2026-03-02T09:00:00Z");
        let run = world.spawn(["run-campaigns"]);
        server.wait_for(Stage::Data, 1);
        let first = server.transcript().lines().find(|line| line.contains("RCPT TO")).unwrap().to_owned();
        let first = first.split(['<', '>']).nth(1).unwrap().to_owned();
        world.ok(["suppress", "add", &first]);
        server.release();
        world.check(run.wait(), 0);
        world.has([("sent", 1), ("skipped", 2)]);
        assert_eq!(world.number("SELECT count(*) FROM message WHERE reason = 'suppressed' AND armed_at IS NULL"), 2);
        assert_eq!(server.accepted().len(), 1);
        assert!(!server.transcript().contains("r3@example.com"), "a suppressed address is never named");
        world.books_balance();
    }

    #[test]
    fn what_was_not_sent_by_send_until_expires() {
        let server = Server::start(Plan::accepting().for_recipient("r2@", Stage::Rcpt, Act::Reply(LATER)));
        let world = seen_by(&server, &definition("once", "at = \"2026-03-02 09:00\"\nsend_until = \"8h\""));
        world.audience("audience.csv", &people(3));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        world.campaigns_at("2026-03-02T16:59:59Z", 0);
        world.has([("planned", 1), ("sent", 2)]);
        world.campaigns_at("2026-03-02T17:00:00Z", 1).says("1 message expired unsent");
        world.has([("sent", 2), ("skipped", 1)]);
        assert_eq!(world.number("SELECT count(*) FROM message WHERE reason = 'expired'"), 1);
        assert_eq!(world.campaign_column("once", "status").as_deref(), Some("completed"));
        world.books_balance();
    }

    #[test]
    fn an_address_in_the_servers_words_is_told_without_its_name() {
        let no = Act::Reply("550 5.7.1 <somebody.else@example.com>: not from here");
        let server = Server::start(Plan::accepting().at(Stage::Mail, no));
        let world = seen_by(&server, &definition("daily", NINE));
        let ran = world.campaigns_at("2026-03-02T09:00:00Z", 1);
        ran.says("<s…@example.com>: not from here").says("`mailonce run-campaigns --retry-now`");
        assert!(!format!("{ran}").contains("somebody.else"), "{ran}");
        world.has([("planned", 1)]);
    }

    #[test]
    fn each_command_delivers_its_own_kind_only() {
        let server =
            Server::start(Plan::accepting().fault(Stage::Rcpt, crate::support::smtp::On::First(2), Act::Reply(LATER)));
        let world = World::with_campaigns(&definition("once", "at = \"2026-03-01 12:00\""))
            .cart(Cart::of("c1"))
            .smtp(&server)
            .init();
        world.ok(["detect"]);
        world.ok(["run-campaigns"]);
        world.has([("planned", 2)]);
        world.set_now("2026-03-01T12:10:00Z");
        world.ok(["detect"]);
        assert_eq!(server.recipients(), ["c1@example.com"]);
        world.has([("planned", 1), ("sent", 1)]);
        world.set_now("2026-03-01T12:20:00Z");
        world.ok(["detect"]);
        world.has([("planned", 1), ("sent", 1)]);
        world.ok(["run-campaigns"]);
        one_each(&server, 2);
        world.has([("sent", 2)]);
    }

    #[test]
    fn both_commands_side_by_side_send_each_once() {
        let server = accepting();
        let world = World::with_campaigns(&definition("once", "at = \"2026-03-01 12:00\"")).smtp(&server).init();
        for n in 1..=20 {
            world.put(Cart::of(&format!("c{n}")));
        }
        world.audience("audience.csv", &people(20));
        let runs: Vec<_> = (0..3)
            .flat_map(|_| ["detect", "run-campaigns"])
            .map(|command| world.spawn([command, "--wait", "60s"]))
            .collect();
        for run in runs {
            world.check(run.wait(), 0);
        }
        one_each(&server, 40);
        world.has([("sent", 40)]);
        world.books_balance();
    }
}
