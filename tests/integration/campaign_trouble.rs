//! What keeps a campaign from being sent: told once, listed until it is settled, and mended.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;

use crate::support::{Act, Plan, Ran, Server, Stage, World, definition, people};

const NINE: &str = "every = \"day\"\ntime = \"09:00\"";
const ONCE: &str = "at = \"2026-03-02 09:00\"";
const LATER: &str = "451 4.3.0 try later";

fn accepting() -> Server {
    Server::start(Plan::accepting())
}

/// A world whose campaigns a run has seen at noon of the first of March.
fn seen(definitions: &str) -> World {
    let world = World::with_campaigns(definitions).init();
    world.ok(["run-campaigns"]);
    world
}

fn seen_by(server: &Server, definitions: &str) -> World {
    let world = World::with_campaigns(definitions).smtp(server).init();
    world.ok(["run-campaigns"]);
    world
}

/// The keys of what stands, as `resolve` lists it.
fn standing(world: &World) -> Vec<String> {
    let list = world.ok(["resolve", "--json"]).json();
    let events = list["events"].as_array().expect("a list of events").clone();
    events.iter().filter_map(|event| event["key"].as_str().map(str::to_owned)).collect()
}

/// `campaign resume`, and what it says.
fn resumed(world: &World, at: &str, id: &str) -> Ran {
    world.set_now(at);
    world.ok(["campaign", "resume", id])
}

mod away {
    use super::*;

    fn two() -> String {
        definition("a", NINE) + &definition("b", NINE)
    }

    #[test]
    fn for_a_moment_it_goes_on_by_itself_and_opens_what_fell_due() {
        let world = seen(&two());
        world.define(&definition("a", NINE));
        let told = world.campaigns_at("2026-03-02T08:59:00Z", 1);
        told.says("campaign b is no longer defined; it is paused, and goes on by itself").says("campaign cancel b");
        world.campaigns_at("2026-03-02T09:00:00Z", 0).is_silent();
        assert_eq!(standing(&world), ["paused:b"]);
        world.ok(["status"]).says("paused, since 2026-03-02T08:59:00Z: campaign b is no longer defined");
        world.define(&two());
        world.campaigns_at("2026-03-02T14:59:00Z", 0).is_silent();
        assert_eq!(world.occurrences("b"), ["2026-03-02T09:00:00Z opened"]);
        assert_eq!(standing(&world), [""; 0]);
        assert_eq!(world.campaign_column("b", "status").as_deref(), Some("pending"));
        world.campaigns_at("2026-03-03T09:00:00Z", 0);
        world.has([("sent", 4)]);
        world.ok(["audit"]).is_silent();
    }

    #[test]
    fn for_longer_than_max_lateness_what_was_missed_says_why() {
        let world = seen(&two());
        world.define(&definition("a", NINE));
        world.campaigns_at("2026-03-02T08:59:00Z", 1);
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        world.define(&two());
        let told = world.campaigns_at("2026-03-02T15:00:01Z", 1);
        told.says("campaign b: the occurrence of 2026-03-02 09:00 UTC will never open")
            .says("not in the campaigns file");
        assert_eq!(standing(&world), ["missed:b"]);
    }

    #[test]
    fn half_sent_it_waits_and_the_rest_is_sent_when_it_is_back() {
        let server = Server::start(Plan::accepting().nth(Stage::Rcpt, 1, Act::Reply(LATER)));
        let world = seen_by(&server, &two());
        world.audience("audience.csv", &people(2));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        world.has([("planned", 1), ("sent", 3)]);
        let held = world.rows("SELECT campaign_id FROM campaign_occurrence AS o JOIN message AS m ON m.occurrence = o.id AND m.state = 'planned'");
        let held = held[0]["campaign_id"].clone().unwrap();
        let other = if held == "a" { "b" } else { "a" };
        world.define(&definition(other, NINE));
        world.campaigns_at("2026-03-02T09:05:00Z", 1);
        world.has([("planned", 1), ("sent", 3)]);
        world.define(&two());
        world.campaigns_at("2026-03-02T09:06:00Z", 0);
        world.has([("sent", 4)]);
        world.books_balance();
    }

    #[test]
    fn a_person_who_pauses_it_meanwhile_has_decided() {
        for paused_before in [true, false] {
            let world = seen(&two());
            if paused_before {
                world.ok(["campaign", "pause", "b"]);
            }
            world.define(&definition("a", NINE));
            world.campaigns_at("2026-03-01T13:00:00Z", i32::from(!paused_before));
            if !paused_before {
                world.ok(["campaign", "pause", "b"]).says("b is paused");
                assert_eq!(standing(&world), [""; 0]);
            }
            world.define(&two());
            let told = world.campaigns_at("2026-03-02T09:00:00Z", 1);
            told.says("campaign b is defined again and still paused").says("mailonce campaign resume b");
            world.campaigns_at("2026-03-02T09:01:00Z", 0).is_silent();
            assert_eq!(world.occurrences("b"), [""; 0]);
            assert_eq!(standing(&world), ["paused:b"]);
            resumed(&world, "2026-03-02T09:02:00Z", "b").says("the occurrence of 2026-03-02 09:00 UTC opens then");
            assert_eq!(standing(&world), [""; 0]);
            world.campaigns_at("2026-03-02T09:03:00Z", 0);
            assert_eq!(world.occurrences("b"), ["2026-03-02T09:00:00Z opened"]);
        }
    }

    #[test]
    fn resumed_or_cancelled_meanwhile_nothing_of_it_stands() {
        for command in ["resume", "cancel"] {
            let world = seen(&two());
            world.define(&definition("a", NINE));
            world.campaigns_at("2026-03-01T13:00:00Z", 1);
            let said = world.ok(["campaign", command, "b"]);
            if command == "resume" {
                said.says("not in the campaigns file");
            }
            assert_eq!(standing(&world), [""; 0]);
            world.campaigns_at("2026-03-01T14:00:00Z", 0).is_silent();
            world.define(&two());
            world.campaigns_at("2026-03-02T09:00:00Z", 0).is_silent();
            assert_eq!(world.occurrences("b").len(), usize::from(command == "resume"));
        }
    }

    #[test]
    fn one_that_nothing_was_to_come_of_is_taken_away_in_silence() {
        let world = seen(&(definition("a", NINE) + &definition("b", ONCE)));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        world.define(&definition("a", NINE));
        world.campaigns_at("2026-03-02T09:01:00Z", 0).is_silent();
        let missed =
            World::with_campaigns(&(definition("a", NINE) + &definition("b", "at = \"2026-03-01 11:00\""))).init();
        missed.exits(1, ["run-campaigns"]);
        missed.ok(["resolve", "--accept", "missed:b"]);
        missed.define(&definition("a", NINE));
        missed.campaigns_at("2026-03-01T12:01:00Z", 0).is_silent();
    }
}

mod missed {
    use super::*;

    #[test]
    fn a_one_off_stands_until_it_opens_after_all() {
        let world = seen(&definition("once", ONCE));
        let told = world.campaigns_at("2026-03-02T16:00:00Z", 1);
        told.says("campaign once: the occurrence of 2026-03-02 09:00 UTC will never open: no run got to it in time")
            .says("set `at` to a time to come")
            .says("mailonce resolve --accept missed:once");
        world.campaigns_at("2026-03-02T17:00:00Z", 0).is_silent();
        world.ok(["status"]).says("missed, since 2026-03-02T16:00:00Z: campaign once").says("`mailonce resolve` lists");
        world
            .ok(["resolve"])
            .says("0 messages in doubt")
            .says("  right as it is: mailonce resolve --accept missed:once");
        world.define(&definition("once", "at = \"2026-03-03 09:00\""));
        world.campaigns_at("2026-03-02T18:00:00Z", 0).is_silent();
        assert_eq!(standing(&world), ["missed:once"]);
        world.campaigns_at("2026-03-03T09:00:00Z", 0);
        world.has([("sent", 1)]);
        assert_eq!(standing(&world), [""; 0]);
    }

    #[test]
    fn edited_to_a_time_long_past_it_says_so() {
        let world = seen(&definition("weekly", "every = \"week\"\non = \"monday\"\ntime = \"09:00\""));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        world.define(&definition("weekly", "every = \"week\"\non = \"wednesday\"\ntime = \"09:00\""));
        world.campaigns_at("2026-03-05T12:00:00Z", 1).says("its schedule was edited more than max_lateness (6h) after");
    }

    #[test]
    fn broken_for_too_long_it_says_so() {
        let world = seen(&(definition("once", ONCE) + &definition("other", NINE)));
        world.define(&(definition("once", "at = \"tomorrow\"") + &definition("other", NINE)));
        world.campaigns_at("2026-03-02T09:00:00Z", 1).says("tomorrow");
        world.define(&(definition("once", ONCE) + &definition("other", NINE)));
        let told = world.campaigns_at("2026-03-02T15:00:01Z", 1);
        told.says("campaign once: ").says("its definition was broken while it was due");
        assert_eq!(standing(&world), ["missed:once"]);
    }

    #[test]
    fn what_a_killed_run_did_not_tell_is_told_with_the_next() {
        let world = seen(&definition("daily", NINE));
        world.campaigns_at("2026-03-02T16:00:00Z", 1);
        // As the run leaves it that is killed before it speaks.
        let ledger = rusqlite::Connection::open(world.ledger_file()).unwrap();
        ledger.execute("UPDATE notice SET reported_at = ''", []).unwrap();
        let told = world.campaigns_at("2026-03-03T16:00:00Z", 1);
        told.says("2026-03-02 09:00 UTC").says("2026-03-03 09:00 UTC");
        world.campaigns_at("2026-03-04T16:00:00Z", 1);
        world.ok(["resolve"]).says("2026-03-04 09:00 UTC");
        assert_eq!(standing(&world), ["missed:daily"]);
    }

    #[test]
    fn while_a_person_had_it_paused_it_is_said_by_resume_and_not_alarmed() {
        let server = Server::start(Plan::accepting().for_recipient("r2@", Stage::Rcpt, Act::Reply(LATER)));
        let world = seen_by(&server, &(definition("daily", NINE) + &definition("once", "at = \"2026-03-03 09:00\"")));
        world.audience("audience.csv", &people(2));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        world.has([("planned", 1), ("sent", 1)]);
        for id in ["daily", "once"] {
            world.ok(["campaign", "pause", id]);
        }
        for day in 3..=6 {
            world.campaigns_at(&format!("2026-03-{day:02}T16:00:00Z"), 0);
        }
        resumed(&world, "2026-03-06T16:00:00Z", "daily")
            .says("4 occurrences, the newest 2026-03-06 09:00 UTC will never open");
        resumed(&world, "2026-03-06T16:00:00Z", "once")
            .says("the occurrence of 2026-03-03 09:00 UTC will never open: set `at` to a time to come");
        assert_eq!(standing(&world).iter().filter(|key| key.starts_with("missed:")).count(), 0);
        // What expires is told by the run that expires it, too.
        world.campaigns_at("2026-03-06T16:01:00Z", 1).says("1 message expired unsent");
        assert_eq!(world.occurrences("daily").len(), 5);
        world.campaigns_at("2026-03-07T09:00:00Z", 0);
        assert_eq!(world.occurrences("daily").last().map(String::as_str), Some("2026-03-07T09:00:00Z opened"));
    }

    #[test]
    fn what_expires_meanwhile_is_said_by_resume_too() {
        let server = Server::start(Plan::accepting().for_recipient("r2@", Stage::Rcpt, Act::Reply(LATER)));
        let world = seen_by(&server, &definition("once", &format!("{ONCE}\nsend_until = \"8h\"")));
        world.audience("audience.csv", &people(2));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        world.ok(["campaign", "pause", "once"]);
        resumed(&world, "2026-03-02T10:00:00Z", "once").says("1 planned message sent then");
        world.ok(["campaign", "pause", "once"]);
        resumed(&world, "2026-03-02T17:00:00Z", "once").says("1 planned message not sent: too late by now");
    }

    #[test]
    fn while_it_was_disabled_it_is_no_event_and_enabled_in_time_it_opens() {
        let off = format!("{NINE}\nenabled = false");
        let world = seen(&definition("daily", &off));
        for at in ["2026-03-02T09:00:00Z", "2026-03-02T15:00:01Z", "2026-03-05T09:00:00Z"] {
            world.campaigns_at(at, 0).is_silent();
        }
        world.define(&definition("daily", NINE));
        world.campaigns_at("2026-03-05T10:00:00Z", 0);
        assert_eq!(
            world.occurrences("daily").last().map(String::as_str),
            Some("2026-03-05T09:00:00Z opened"),
            "{:?}",
            world.occurrences("daily")
        );
        assert_eq!(world.occurrences("daily").len(), 4);
        assert_eq!(standing(&world), [""; 0]);
    }

    #[test]
    fn a_cancelled_campaign_leaves_nothing_standing() {
        let world = seen(&definition("daily", NINE));
        world.campaigns_at("2026-03-02T16:00:00Z", 1);
        world.ok(["campaign", "cancel", "daily"]);
        assert_eq!(standing(&world), [""; 0]);
    }
}

mod accept {
    use super::*;

    fn three() -> World {
        let world = seen(&(definition("a", ONCE) + &definition("b", ONCE) + &definition("c", ONCE)));
        world.campaigns_at("2026-03-02T16:00:00Z", 1);
        assert_eq!(standing(&world), ["missed:a", "missed:b", "missed:c"]);
        world
    }

    #[test]
    fn takes_what_is_named_off_the_list() {
        let world = three();
        let ran = world.exits(2, ["resolve", "--accept", "missed:a", "missed:nobody"]);
        ran.says("missed:nobody").says("missed:a, missed:b, missed:c");
        assert_eq!(standing(&world).len(), 3, "nothing was accepted");
        world.ok(["resolve", "--accept", "missed:a", "missed:c"]).says("2 events accepted, 1 left");
        assert_eq!(standing(&world), ["missed:b"]);
        let all = world.ok(["resolve", "--accept", "all", "--json"]).json();
        assert_eq!(all["accepted"], serde_json::json!(["missed:b"]));
        assert_eq!(all["events"], Value::Array(Vec::new()));
        world.exits(2, ["resolve", "--accept", "missed:b"]).says("there is nothing to accept");
        world.ok(["resolve", "--accept", "all"]).says("0 events accepted");
        world.campaigns_at("2026-03-02T16:01:00Z", 0).is_silent();
        assert!(!world.ok(["status"]).output().contains("missed"));
        world.exits(2, ["resolve", "--accept", "all", "--restored"]);
    }

    #[test]
    fn takes_no_lock() {
        let server = Server::start(Plan::accepting().nth(Stage::Dot, 1, Act::Hang));
        let world = seen_by(&server, &(definition("a", ONCE) + &definition("b", "at = \"2026-03-03 09:00\"")));
        world.campaigns_at("2026-03-02T16:00:00Z", 1);
        world.set_now("2026-03-03T09:00:00Z");
        let run = world.spawn(["run-campaigns"]);
        server.wait_for(Stage::Dot, 1);
        world.ok(["resolve", "--accept", "all"]).says("1 event accepted");
        server.release();
        world.check(run.wait(), 0);
        world.has([("sent", 1)]);
    }
}

mod shrunk_audience {
    use super::*;

    /// A daily campaign that opened with ten on the second of March; since then its list has four.
    fn shrunk() -> World {
        let world = seen(&definition("daily", NINE));
        world.audience("audience.csv", &people(10));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        world.audience("audience.csv", &people(4));
        world
    }

    #[test]
    fn a_person_opens_it_with_a_flag() {
        let world = shrunk();
        let told = world.campaigns_at("2026-03-03T09:00:00Z", 1);
        told.says("its audience has 4 rows, fewer than half of the 10 of 2026-03-02T09:00:00Z")
            .says("`mailonce run-campaigns --campaign daily --accept-audience`");
        world
            .exits(1, ["run-campaigns", "--dry-run"])
            .says("would not open: its audience has 4 rows")
            .says("--accept-audience");
        world.exits(2, ["run-campaigns", "--accept-audience"]);
        assert_eq!(world.campaign_column("daily", "short_audience_rows").as_deref(), Some("4"));
        world.ok(["run-campaigns", "--dry-run", "--campaign", "daily", "--accept-audience"]).says("4 recipients");
        world.ok(["run-campaigns", "--campaign", "daily", "--accept-audience"]);
        world.has([("sent", 14)]);
        assert_eq!(world.campaign_column("daily", "short_audience_rows"), None);
        world.campaigns_at("2026-03-04T09:00:00Z", 0);
        world.has([("sent", 18)]);
        assert_eq!(standing(&world), [""; 0]);
    }

    #[test]
    fn opened_alone_it_leaves_what_stands_of_others() {
        let other = definition("other", NINE).replace("audience.csv", "missing.csv");
        let world = seen(&(definition("daily", NINE) + &other));
        world.audience("audience.csv", &people(10));
        world.audience("missing.csv", &people(1));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        world.audience("audience.csv", &people(4));
        fs::remove_file(world.path("missing.csv")).unwrap();
        world.campaigns_at("2026-03-03T09:00:00Z", 1);
        world.ok(["run-campaigns", "--campaign", "daily", "--accept-audience"]);
        world.ok(["status"]).says("campaign other 2026-03-03T09:00:00Z: could not read the audience");
        world.campaigns_at("2026-03-03T09:01:00Z", 0).is_silent();
    }

    #[test]
    fn short_for_a_whole_occurrence_it_is_taken_for_right_and_told() {
        let world = shrunk();
        world.campaigns_at("2026-03-03T09:00:00Z", 1);
        world.campaigns_at("2026-03-03T09:01:00Z", 0).is_silent();
        let missed = world.campaigns_at("2026-03-03T15:00:01Z", 1);
        missed.says("it was not ready within max_lateness (6h): its audience has 4 rows");
        assert_eq!(standing(&world), ["missed:daily"]);
        let told = world.campaigns_at("2026-03-04T09:00:00Z", 1);
        told.says("opened with 4 rows, fewer than half of the 10 of 2026-03-02T09:00:00Z")
            .says("as the list has been that short since 2026-03-03T09:00:00Z was missed over it (4 rows)");
        world.has([("sent", 14)]);
        assert_eq!(standing(&world), ["audience:daily", "missed:daily"]);
        world.campaigns_at("2026-03-04T09:01:00Z", 0).is_silent();
        world.campaigns_at("2026-03-05T09:00:00Z", 0).is_silent();
        world.has([("sent", 18)]);
        world.ok(["resolve", "--accept", "audience:daily", "missed:daily"]);
        world.ok(["audit"]).is_silent();
    }

    #[test]
    fn missed_for_another_reason_it_is_not() {
        let world = shrunk();
        world.campaigns_at("2026-03-03T15:00:01Z", 1).says("no run got to it in time");
        for minute in ["09:00", "09:01"] {
            let code = i32::from(minute == "09:00");
            world.campaigns_at(&format!("2026-03-04T{minute}:00Z"), code);
        }
        world.has([("sent", 10)]);
        // Shorter still, the next day.
        world.campaigns_at("2026-03-04T15:00:01Z", 1);
        world.audience("audience.csv", &people(1));
        world.campaigns_at("2026-03-05T09:00:00Z", 1).says("1 row, fewer than half of the 10");
        world.has([("sent", 10)]);
        world.audience("audience.csv", &people(2));
        world.campaigns_at("2026-03-05T09:05:00Z", 1).says("opened with 2 rows");
        world.has([("sent", 12)]);
    }

    #[test]
    fn gone_in_the_meantime_it_is_not_short() {
        let world = shrunk();
        world.campaigns_at("2026-03-03T09:00:00Z", 1);
        world.audience("audience.csv", &people(10));
        world.write("letter.html", "{{ nothing }}");
        world.campaigns_at("2026-03-03T09:01:00Z", 0);
        assert_eq!(world.campaign_column("daily", "short_audience_rows"), None);
        world.campaigns_at("2026-03-03T15:00:01Z", 1);
        world.write("letter.html", "Dear {{ name }}");
        world.audience("audience.csv", &people(4));
        world.campaigns_at("2026-03-04T09:00:00Z", 1).says("fewer than half");
        world.has([("sent", 10)]);
    }
}

mod trial {
    use super::*;

    #[test]
    fn a_template_with_a_misspelt_variable_opens_nothing_until_it_is_mended() {
        let server = accepting();
        let world = seen_by(&server, &definition("once", ONCE));
        world.audience("audience.csv", &people(30));
        world.write("letter.html", "<p>Dear {{ name }}</p>\n<p>{{ nmae }}</p>");
        let dry = world.exits(1, ["run-campaigns", "--dry-run"]);
        dry.says("would not open: the message to row 1 of its audience cannot be rendered")
            .says("letter.html:2")
            .says("nmae");
        let told = world.campaigns_at("2026-03-02T09:00:00Z", 1);
        told.says("campaign once 2026-03-02T09:00:00Z: the message to row 1 of its audience cannot be rendered")
            .says("letter.html:2: no such variable or attribute: `nmae`")
            .says("tried again until 2026-03-02T15:00:00Z");
        assert!(!told.output().contains("example.com"), "{told}");
        world.campaigns_at("2026-03-02T09:01:00Z", 0).is_silent();
        assert_eq!((world.messages(), server.connections()), (Vec::new(), 0));
        world.write("letter.html", "<p>Dear {{ name }}</p>");
        world.campaigns_at("2026-03-02T09:02:00Z", 0);
        world.has([("sent", 30)]);
    }

    #[test]
    fn never_mended_it_is_missed_and_that_says_why() {
        let world = seen(&definition("once", ONCE));
        world.define(&definition("once", ONCE).replace("Hello", "Hello {{ nmae }}"));
        world.campaigns_at("2026-03-02T09:00:00Z", 1);
        let told = world.campaigns_at("2026-03-02T15:00:01Z", 1);
        told.says("it was not ready within max_lateness (6h): the message to row 1").says("subject of").says("nmae");
        assert_eq!(world.messages(), []);
    }

    #[test]
    fn one_that_needs_a_column_that_may_be_empty_opens_nothing() {
        let world = seen(&definition("once", ONCE));
        world.write("letter.html", "<p>{{ name | first }}</p>");
        let told = world.campaigns_at("2026-03-02T09:00:00Z", 1);
        told.says("the message to a recipient whose columns are empty cannot be rendered: letter.html:1")
            .says("default('…', true)");
        for mended in
            ["<p>{% if name %}{{ name | first }}{% endif %}</p>", "<p>{{ name | default('you', true) | first }}</p>"]
        {
            world.write("letter.html", mended);
            world.ok(["run-campaigns", "--dry-run"]);
        }
        world.campaigns_at("2026-03-02T09:01:00Z", 0);
        world.has([("sent", 1)]);
    }

    #[test]
    fn the_row_that_does_not_fit_is_named_by_its_number() {
        let world = seen(&definition("once", ONCE));
        world.write(
            "letter.html",
            "<p>{% if name == 'Bad' %}{{ nothing }}{% endif %}{{ shop.name }}{{ email }}{{ unsubscribe_url }}</p>",
        );
        world.audience("audience.csv", "email,name\na@example.com,Ada\nno address,Bad\nb@example.com,Bad\n");
        world.campaigns_at("2026-03-02T09:00:00Z", 1).says("the message to row 3 of its audience");
        assert_eq!(world.messages(), []);
    }
}

mod corrected_template {
    use super::*;

    /// A hundred and one were sent, one that came after those that are tried was refused over the template.
    fn refused_over_the_template(server: &Server) -> World {
        let world = seen_by(server, &definition("once", ONCE));
        world.write("letter.html", "{% if name == 'Bad' %}{{ nothing }}{% endif %}<p>Dear {{ name }}</p>");
        world.audience("audience.csv", &(people(101) + "bad@example.com,Bad\n"));
        world.campaigns_at("2026-03-02T09:00:00Z", 1);
        assert_eq!(world.number("SELECT count(*) FROM message WHERE state = 'refused'"), 1);
        world
    }

    #[test]
    fn of_the_definition_it_is_what_a_retry_is_written_with() {
        let server = accepting();
        let world = refused_over_the_template(&server);
        // As long as nobody has mended it, it is refused again, and that is said.
        world
            .ok(["campaign", "retry", "once", "--state", "refused"])
            .says("1 message refused over the template, which is as the campaign opened with: correct ");
        world.campaigns_at("2026-03-02T09:01:00Z", 1);
        world.has([("refused", 1), ("sent", 101)]);
        world.write("letter.html", "<p>Mended for {{ name }}</p>");
        world.define(&definition("once", ONCE).replace("Hello", "Sorry"));
        let ran = world.ok(["campaign", "retry", "once", "--state", "refused"]);
        ran.says("2026-03-02T09:00:00Z is written with").says("letter.html from now on").says("1 message of");
        world.campaigns_at("2026-03-02T09:02:00Z", 0);
        world.has([("sent", 102)]);
        let last = server.accepted().pop().unwrap();
        assert_eq!(last.header("Subject").as_deref(), Some("Sorry Bad"));
        assert!(last.text().contains("Mended for Bad"), "{}", last.text());
        world.books_balance();
        world.ok(["audit"]).is_silent();
    }

    #[test]
    fn what_the_server_refused_is_written_as_it_opened_unless_that_is_asked_for() {
        let unwilling = Server::start(Plan::accepting().for_recipient("r7@", Stage::Rcpt, Act::Code(550)));
        let world = seen_by(&unwilling, &definition("once", ONCE));
        world.audience("audience.csv", &people(9));
        world.campaigns_at("2026-03-02T09:00:00Z", 0);
        world.has([("refused", 1), ("sent", 8)]);
        world.write("letter.html", "<p>Another for {{ name }}</p>");
        world.define(&definition("once", ONCE).replace("Hello", "Sorry"));
        let ran = world.ok(["campaign", "retry", "once", "--state", "refused"]);
        assert!(!ran.output().contains("template"), "{ran}");
        let willing = accepting();
        world.send_to(&willing);
        world.campaigns_at("2026-03-02T09:01:00Z", 0);
        assert_eq!(willing.accepted()[0].header("Subject").as_deref(), Some("Hello Name 7"));
    }

    #[test]
    fn from_a_file_it_keeps_the_subject_and_goes_for_what_is_still_planned() {
        let server = Server::start(Plan::accepting().for_recipient("r7@", Stage::Rcpt, Act::Reply(LATER)));
        let world = refused_over_the_template(&server);
        world.has([("planned", 1), ("refused", 1), ("sent", 100)]);
        world.write("mended.html", "<p>Mended for {{ name }}</p>");
        world.define("");
        world.exits(2, ["campaign", "retry", "once", "--state", "refused", "--template"]).says("--template FILE");
        let ran = world.ok(["campaign", "retry", "once", "--state", "refused", "--template", "mended.html"]);
        ran.says("written with mended.html from now on, also 1 planned message of it");
        let willing = accepting();
        world.send_to(&willing);
        world.campaigns_at("2026-03-02T09:10:00Z", 0);
        let mut subjects: Vec<_> = willing.accepted().iter().filter_map(|mail| mail.header("Subject")).collect();
        subjects.sort();
        assert_eq!(subjects, ["Hello Bad", "Hello Name 7"]);
        assert!(willing.accepted().iter().all(|mail| mail.text().contains("Mended for")));
    }

    #[test]
    fn that_does_not_fit_those_it_is_for_changes_nothing() {
        let server = accepting();
        let world = refused_over_the_template(&server);
        let occurrence = "SELECT subject, template, template_name FROM campaign_occurrence";
        let before = world.rows(occurrence);
        for (text, says) in [
            ("<p>{{ nmae }}</p>", "recipient 1 of those it is for"),
            ("<p>{{ name | first }}</p>", "columns are empty"),
            ("{% for", "mended.html:1"),
        ] {
            world.write("mended.html", text);
            let ran = world.exits(78, ["campaign", "retry", "once", "--state", "refused", "--template", "mended.html"]);
            ran.says(says);
            assert!(!ran.output().contains("bad@example.com"), "{ran}");
            assert_eq!(world.rows(occurrence), before);
            world.has([("refused", 1), ("sent", 101)]);
        }
        world.exits(78, ["campaign", "retry", "once", "--state", "refused", "--template", "no-such.html"]);
    }
}

mod cancelled {
    use super::*;

    /// Every way in which a cancelled campaign was once opened again.
    const WAYS: [&str; 5] = ["edit", "disable and enable", "take away and put back", "resume", "nothing"];

    #[test]
    fn it_stays_so_whatever_is_edited_or_sent_again() {
        for schedule in [NINE, ONCE] {
            for way in WAYS {
                let server = Server::start(Plan::accepting().for_recipient("r2@", Stage::Rcpt, Act::Reply(LATER)));
                let world = seen_by(&server, &(definition("x", schedule) + &definition("other", NINE)));
                world.audience("audience.csv", &people(2));
                world.campaigns_at("2026-03-02T09:00:00Z", 0);
                world.ok(["campaign", "cancel", "x"]).says("1 planned message not sent");
                let willing = accepting();
                world.send_to(&willing);
                world.ok(["campaign", "retry", "x", "--state", "cancelled"]).says("1 message of");
                let other = definition("other", NINE);
                let edited = definition("x", "every = \"day\"\ntime = \"10:00\"") + &other;
                match way {
                    "edit" => world.define(&edited),
                    "disable and enable" => {
                        world.define(&(definition("x", &format!("{schedule}\nenabled = false")) + &other));
                        world.campaigns_at("2026-03-02T09:20:00Z", 0);
                        world.define(&(definition("x", schedule) + &other));
                    }
                    "take away and put back" => {
                        world.define(&other);
                        world.set_now("2026-03-02T09:20:00Z");
                        world.run(["run-campaigns"]);
                        world.define(&edited);
                    }
                    "resume" => {
                        world.ok(["campaign", "pause", "x"]);
                        world.ok(["campaign", "resume", "x"]);
                    }
                    _ => {}
                }
                world.campaigns_at("2026-03-02T09:30:00Z", 0);
                assert!(willing.recipients().contains(&"r2@example.com".to_owned()), "{way}: what was retried is sent");
                assert_eq!(world.campaign_column("x", "status").as_deref(), Some("cancelled"), "{way}");
                for at in
                    ["2026-03-02T10:00:00Z", "2026-03-03T09:00:00Z", "2026-03-03T10:00:00Z", "2026-03-04T16:00:00Z"]
                {
                    world.set_now(at);
                    world.run(["run-campaigns"]);
                }
                assert_eq!(world.occurrences("x"), ["2026-03-02T09:00:00Z opened"], "{way}");
                let list = world.ok(["campaign", "list", "--json"]).json();
                let x =
                    list["campaigns"].as_array().unwrap().iter().find(|one| one["campaign_id"] == "x").unwrap().clone();
                assert_eq!((&x["status"], &x["next_run"]), (&"cancelled".into(), &Value::Null), "{way}");
                assert!(!standing(&world).contains(&"missed:x".to_owned()), "{way}");
                world.ok(["audit"]).is_silent();
                world.books_balance();
            }
        }
    }

    #[test]
    fn before_it_ever_opened_it_never_does() {
        let world = seen(&definition("x", ONCE));
        world.ok(["campaign", "cancel", "x"]);
        world.define(&definition("x", NINE));
        world.campaigns_at("2026-03-02T09:00:00Z", 0).is_silent();
        world.campaigns_at("2026-03-03T09:00:00Z", 0).is_silent();
        assert_eq!(world.occurrences("x"), [""; 0]);
    }

    #[test]
    fn imported_as_cancelled_it_is_cancelled() {
        let world = World::with_campaigns("").init();
        world.write(
            "old.json",
            "[{\"campaign_id\": \"x\", \"schedule_time\": \"2026-03-02T09:00:00\", \"status\": \"cancelled\", \"recurrence\": \"daily\",
               \"subject\": \"S\", \"template\": \"letter.html\", \"audience\": \"audience.csv\"}]",
        );
        world.ok(["import", "schedules", "old.json"]);
        let text = fs::read_to_string(world.path("campaigns.toml")).unwrap();
        world.define(&text.replace("09:00", "10:00"));
        world.campaigns_at("2026-03-02T10:00:00Z", 0);
        assert_eq!(world.messages(), []);
        assert!(world.campaign_column("x", "cancelled_at").is_some());
    }
}

#[test]
fn after_an_edit_of_the_zone_nothing_more_opens_on_that_day_in_either_zone() {
    let in_zone = |time: &str, zone: &str| {
        definition("daily", &format!("every = \"day\"\ntime = \"{time}\"\ntimezone = \"{zone}\""))
    };
    let world = World::with_campaigns(&in_zone("09:00", "Pacific/Auckland")).now("2026-03-02T00:00:00Z").init();
    world.ok(["run-campaigns"]);
    // Tuesday 09:00 in Auckland is Monday 12:00 in Los Angeles.
    world.campaigns_at("2026-03-02T20:00:00Z", 0);
    world.has([("sent", 1)]);
    world.define(&in_zone("02:00", "America/Los_Angeles"));
    // Tuesday 02:00 there is Tuesday 23:00 in Auckland.
    let told = world.campaigns_at("2026-03-03T10:00:00Z", 1);
    told.says("the occurrence of 2026-03-03 02:00 America/Los_Angeles will never open: the schedule was edited");
    world.has([("sent", 1)]);
    world.campaigns_at("2026-03-04T10:00:00Z", 0);
    world.has([("sent", 2)]);
}

#[test]
fn a_campaigns_file_that_is_a_link_stays_one_and_keeps_its_mode() {
    let world = World::with_campaigns("").init();
    let (link, real) = (world.path("campaigns.toml"), world.path("versioned/real.toml"));
    fs::create_dir(world.path("versioned")).unwrap();
    fs::rename(&link, &real).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("versioned/real.toml", &link).unwrap();
    let add = ["campaign", "add", "new", "--subject", "x", "--template", "letter.html", "--audience", "audience.csv"];
    let at = ["--at", "2027-01-01 09:00"];
    // Paths of a definition are relative to the file as it is named.
    world.ok([add.as_slice(), &at].concat());
    world.write("old.json", "[{\"campaign_id\": \"old\", \"schedule_time\": \"2026-03-02T09:00:00\", \"subject\": \"S\", \"template\": \"letter.html\", \"audience\": \"audience.csv\"}]");
    world.ok(["import", "schedules", "old.json"]);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let text = fs::read_to_string(&real).unwrap();
    assert!(text.contains("\"new\"") && text.contains("\"old\""), "{text}");
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(!world.path("versioned/real.toml.new").exists());
    // A link that leads nowhere yet.
    fs::remove_file(&real).unwrap();
    world.write("letter.html", "x");
    let other = [&["campaign", "add", "other"], &add[3..], &at].concat();
    world.ok(other);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && real.is_file());
}
