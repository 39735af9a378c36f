//! `import schedules`: the campaigns of an older system, from its JSON.

use std::fs;

use serde_json::{Value, json};

use crate::support::World;

/// A world without campaigns, at 2026-03-01T12:00:00Z.
fn world(list: &Value) -> World {
    let world = World::with_campaigns("").init();
    world.write("old.json", &list.to_string());
    world
}

fn old(id: &str, more: Value) -> Value {
    let mut entry =
        json!({"campaign_id": id, "subject": "Hello", "template": "letter.html", "audience": "audience.csv"});
    for (key, value) in more.as_object().expect("an object") {
        entry[key] = value.clone();
    }
    entry
}

/// The campaign as `campaign list --json` has it.
fn listed(world: &World, id: &str) -> Value {
    let list = world.ok(["campaign", "list", "--json"]).json();
    assert_eq!(list["broken"], json!([]), "{list}");
    let found = list["campaigns"].as_array().unwrap().iter().find(|campaign| campaign["campaign_id"] == id).cloned();
    found.unwrap_or_else(|| panic!("no {id} in {list}"))
}

#[test]
fn every_form_of_schedule() {
    let monday = "2026-02-23T09:00:00";
    let world = world(&json!([
        old("once", json!({"schedule_time": "2026-03-05T09:00:00", "recurrence": "once"})),
        old("bare", json!({"schedule_time": "2026-03-05 09:00:00"})),
        old("zoned", json!({"schedule_time": "2026-03-05T09:00:00+02:00"})),
        old("own-zone", json!({"schedule_time": "2026-03-05T09:00:00", "timezone": "America/New_York"})),
        old("daily", json!({"schedule_time": monday, "next_run": "2026-03-02T09:00:00", "recurrence": "daily"})),
        old("weekly", json!({"schedule_time": monday, "next_run": "2026-03-02T09:00:00", "recurrence": "Weekly"})),
        old(
            "monthly",
            json!({"schedule_time": "2026-01-31T09:00:00", "next_run": "2026-03-31T09:00:00", "frequency": "monthly"})
        ),
        old("cron", json!({"next_run": "2026-03-02T09:00:00", "recurrence": "0 9 * * MON"})),
    ]));
    world.ok(["import", "schedules", "old.json", "--timezone", "Europe/Berlin"]).says("8 campaigns imported");
    for (id, next) in [
        ("once", "2026-03-05T08:00:00Z"),
        ("bare", "2026-03-05T08:00:00Z"),
        ("zoned", "2026-03-05T07:00:00Z"),
        ("own-zone", "2026-03-05T14:00:00Z"),
        ("daily", "2026-03-02T08:00:00Z"),
        ("weekly", "2026-03-02T08:00:00Z"),
        ("monthly", "2026-03-31T07:00:00Z"),
        ("cron", "2026-03-02T08:00:00Z"),
    ] {
        assert_eq!(listed(&world, id)["next_run"], next, "{id}");
        assert_eq!(listed(&world, id)["status"], "pending", "{id}");
    }
    world.campaigns_at("2026-03-02T08:00:00Z", 0);
    world.has([("sent", 3)]);
    world.campaigns_at("2026-03-05T14:00:00Z", 1).says("campaign daily: 2 occurrences").says("campaign zoned");
    for id in ["once", "bare", "own-zone"] {
        assert_eq!(world.campaign_column(id, "status").as_deref(), Some("completed"), "{id}");
    }
}

#[test]
fn a_list_under_a_name_counts_too_and_what_is_not_known_is_kept_as_notes() {
    let entry = old(
        "x",
        json!({"schedule_time": "2026-03-05T09:00:00", "total_runs": 7, "last_run": "2026-02-26T09:00:00",
        "recurrence": "weekly", "owner": "Ada", "tags": ["a", "b"]}),
    );
    let world = world(&json!({"schedules": [entry]}));
    world.ok(["import", "schedules", "old.json"]);
    let campaign = listed(&world, "x");
    let notes: Value = serde_json::from_str(campaign["notes"].as_str().unwrap()).unwrap();
    assert_eq!(notes, json!({"owner": "Ada", "tags": ["a", "b"]}));
    assert_eq!((&campaign["total_runs"], &campaign["last_run"]), (&json!(7), &json!("2026-02-26T09:00:00Z")));
    world.campaigns_at("2026-03-05T09:00:00Z", 0);
    assert_eq!(world.campaign_column("x", "total_runs").as_deref(), Some("8"));
}

#[test]
fn a_damaged_file_is_refused_whole_with_the_place() {
    let whole = old("x", json!({"schedule_time": "2026-03-05T09:00:00"})).to_string();
    for (text, place) in [
        (format!("[\n{whole},\n{{\"campaign_id\": \"y\", \"sch"), "line 3"),
        (format!("[{whole}"), "line 1"),
        (String::new(), "line 1"),
        ("{}".into(), "no list"),
        (format!("[{whole}, 5]"), "entry 2"),
        (format!("[{whole}, {whole}]"), "there twice"),
        (format!("[{whole}, {{\"schedule_time\": \"2026-03-05T09:00:00\"}}]"), "campaign_id"),
        (format!("[{whole}, {{\"campaign_id\": \"y\"}}]"), "schedule_time"),
        (format!("[{whole}, {{\"campaign_id\": \"y\", \"schedule_time\": \"tomorrow\"}}]"), "tomorrow"),
        (format!("[{whole}, {}]", whole.replace("\"x\"", "\"a b\"")), "campaign_id"),
        (
            format!(
                "[{whole}, {}]",
                old("y", json!({"schedule_time": "2026-03-05T09:00:00", "recurrence": "fortnightly"}))
            ),
            "fortnightly",
        ),
        (
            format!(
                "[{whole}, {}]",
                old("y", json!({"schedule_time": "2026-03-05T09:00:00", "recurrence": "99 9 * * *"}))
            ),
            "cron",
        ),
        (
            format!("[{whole}, {}]", old("y", json!({"schedule_time": "2026-03-05T09:00:00", "timezone": "Berlin"}))),
            "Berlin",
        ),
        (
            format!("[{whole}, {}]", old("y", json!({"schedule_time": "2026-03-05T09:00:00", "enabled": "perhaps"}))),
            "enabled",
        ),
    ] {
        let world = world(&json!([]));
        world.write("old.json", &text);
        world.exits(65, ["import", "schedules", "old.json"]).says(place);
        assert_eq!(world.number("SELECT count(*) FROM scheduled_campaign"), 0, "{text}");
        assert_eq!(fs::read_to_string(world.path("campaigns.toml")).unwrap(), "", "{text}");
    }
}

#[test]
fn what_was_due_before_the_import_is_listed_and_never_fires() {
    let world = world(&json!([
        old("once", json!({"schedule_time": "2026-03-01T11:00:00"})),
        old(
            "daily",
            json!({"schedule_time": "2026-02-01T11:30:00", "next_run": "2026-03-01T11:30:00", "recurrence": "daily"})
        ),
        old(
            "ran",
            json!({"schedule_time": "2026-02-01T11:30:00", "last_run": "2026-02-01T11:30:05", "status": "completed"})
        ),
    ]));
    let ran = world.exits(1, ["import", "schedules", "old.json", "--json"]).json();
    let overdue: Vec<&str> =
        ran["overdue"].as_array().unwrap().iter().filter_map(|entry| entry["campaign_id"].as_str()).collect();
    assert_eq!(overdue, ["once", "daily"]);
    for minute in 0..10 {
        world.campaigns_at(&format!("2026-03-01T12:{minute:02}:00Z"), 0);
    }
    assert_eq!(world.messages(), []);
    world.campaigns_at("2026-03-02T11:30:00Z", 0);
    world.has([("sent", 1)]);
    assert_eq!(world.occurrences("daily"), ["2026-03-02T11:30:00Z opened"]);
}

#[test]
fn run_twice_it_adds_nothing_and_changes_nothing() {
    let world = world(&json!([
        old("a", json!({"schedule_time": "2026-03-05T09:00:00", "recurrence": "daily"})),
        old("b", json!({"schedule_time": "2026-03-05T09:00:00", "status": "paused"})),
    ]));
    world.ok(["import", "schedules", "old.json"]);
    let file = fs::read(world.path("campaigns.toml")).unwrap();
    let rows = world.rows("SELECT * FROM scheduled_campaign ORDER BY campaign_id");
    world.set_now("2026-03-01T12:10:00Z");
    let second = world.ok(["import", "schedules", "old.json", "--json"]).json();
    assert_eq!((&second["imported"], &second["already_defined"]), (&json!([]), &json!(["a", "b"])));
    assert_eq!(fs::read(world.path("campaigns.toml")).unwrap(), file);
    assert_eq!(world.rows("SELECT * FROM scheduled_campaign ORDER BY campaign_id"), rows);
}

#[test]
fn what_was_off_stays_off() {
    let future = "2026-03-01T13:00:00";
    let world = world(&json!([
        old("paused", json!({"schedule_time": future, "status": "paused"})),
        old("disabled", json!({"schedule_time": future, "enabled": false})),
        old("zero", json!({"schedule_time": future, "enabled": 0, "recurrence": "daily"})),
        old("cancelled", json!({"schedule_time": future, "status": "canceled", "recurrence": "daily"})),
        old("completed", json!({"schedule_time": future, "status": "completed"})),
        old("ran", json!({"schedule_time": future, "last_run": "2026-02-01T11:30:05"})),
        old(
            "done-and-off",
            json!({"schedule_time": future, "status": "completed", "enabled": false, "recurrence": "daily"})
        ),
    ]));
    world.ok(["import", "schedules", "old.json"]);
    for at in ["2026-03-01T13:00:00Z", "2026-03-01T14:00:00Z", "2026-03-02T13:00:00Z"] {
        world.campaigns_at(at, 0);
    }
    assert_eq!(world.rows("SELECT campaign_id FROM campaign_occurrence WHERE state = 'opened'"), []);
    let text = fs::read_to_string(world.path("campaigns.toml")).unwrap();
    world.define(&text.replace("2026-03-01 13:00", "2026-03-03 13:00"));
    world.campaigns_at("2026-03-03T13:00:00Z", 0);
    assert_eq!(world.messages(), []);
}

#[test]
fn one_that_lacks_something_is_disabled_until_it_is_added() {
    let world = world(&json!([{"campaign_id": "thin", "schedule_time": "2026-03-02T09:00:00", "recurrence": "daily"}]));
    world.exits(1, ["import", "schedules", "old.json"]).says("subject, template, audience");
    world.campaigns_at("2026-03-02T09:00:00Z", 0);
    assert_eq!(world.messages(), []);
}
