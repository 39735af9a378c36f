//! Campaigns of a world: definitions, audiences, and the books of every occurrence.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use super::world::{Ran, World};

/// A definition with subject `Hello {{ name }}`, `letter.html` and `audience.csv`; `schedule` is any more lines.
pub fn definition(id: &str, schedule: &str) -> String {
    format!(
        "[[campaign]]\nid = \"{id}\"\nsubject = \"Hello {{{{ name }}}}\"\ntemplate = \"letter.html\"\n\
         audience = \"audience.csv\"\n{schedule}\n\n"
    )
}

/// Rows `name,r1@example.com` and so on.
pub fn people(number: usize) -> String {
    let mut text = String::from("email,name\n");
    for n in 1..=number {
        text.push_str(&format!("r{n}@example.com,Name {n}\n"));
    }
    text
}

impl World {
    /// A world with these definitions, a letter and one recipient, `r1@example.com`; not initialised.
    pub fn with_campaigns(definitions: &str) -> World {
        let world = World::new();
        world.define(definitions);
        world.write("letter.html", "<p>Dear {{ name }}, here is {{ campaign_id }}.</p>");
        world.audience("audience.csv", &people(1));
        world
    }

    pub fn define(&self, definitions: &str) {
        self.write("campaigns.toml", definitions);
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file is written");
    }

    /// Writes an audience that nobody has touched for a minute: a newer one may be half uploaded.
    pub fn audience(&self, name: &str, text: &str) {
        self.write(name, text);
        self.touched_before(name, Duration::from_secs(60));
    }

    pub fn touched_before(&self, name: &str, age: Duration) {
        let file = File::options().append(true).open(self.path(name)).expect("an audience");
        file.set_modified(SystemTime::now() - age).expect("the time of a file can be set");
    }

    /// `run-campaigns` at an instant; the exit code must be this one.
    #[track_caller]
    pub fn campaigns_at(&self, at: &str, code: i32) -> Ran {
        self.set_now(at);
        self.exits(code, ["run-campaigns"])
    }

    /// A campaign's occurrences in order, `planned_at state`.
    pub fn occurrences(&self, id: &str) -> Vec<String> {
        let sql = format!(
            "SELECT planned_at || ' ' || state AS line FROM campaign_occurrence WHERE campaign_id = '{id}' ORDER BY planned_at"
        );
        self.rows(&sql).into_iter().filter_map(|mut row| row.remove("line").flatten()).collect()
    }

    /// A column of `scheduled_campaign`.
    pub fn campaign_column(&self, id: &str, column: &str) -> Option<String> {
        let sql = format!("SELECT {column} AS value FROM scheduled_campaign WHERE campaign_id = '{id}'");
        self.rows(&sql).pop().expect("the ledger knows the campaign").remove("value").flatten()
    }

    /// Asserts that each opened occurrence has as many messages as it had recipients, by table and by command.
    #[track_caller]
    pub fn books_balance(&self) {
        let wrong = self.rows(
            "SELECT o.campaign_id, o.planned_at, o.recipients, count(m.id) AS messages FROM campaign_occurrence AS o
             LEFT JOIN message AS m ON m.occurrence = o.id WHERE o.state = 'opened'
             GROUP BY o.id HAVING count(m.id) <> o.recipients",
        );
        assert_eq!(wrong, [], "the books do not balance");
        for row in self.rows("SELECT DISTINCT campaign_id FROM campaign_occurrence") {
            let id = row["campaign_id"].clone().unwrap_or_default();
            let shown = self.ok(["campaign", "show", &id, "--json"]).json();
            for occurrence in shown["occurrences"].as_array().expect("a list of occurrences") {
                let messages = occurrence["messages"].as_object().expect("messages by state");
                let sum: u64 = messages.values().filter_map(serde_json::Value::as_u64).sum();
                assert_eq!(occurrence["recipients"].as_u64().unwrap_or(0), sum, "{occurrence}");
            }
        }
    }
}
