//! Old logs: files that another system left.

use rusqlite::Connection;

use super::World;

/// The least that an old log has.
pub const PLAIN: &str =
    "CREATE TABLE cart_abandonment_log (id INTEGER PRIMARY KEY, user_id, email TEXT, cart_hash TEXT,
    email_sent, created_at);";

impl World {
    /// Puts an old log where the ledger belongs: this SQL makes it.
    pub fn old_log(self, sql: &str) -> World {
        self.by_hand(sql);
        self
    }

    /// A plain old log with these rows, as `(user_id, email, cart_hash, email_sent, created_at)` in SQL.
    pub fn old_rows(self, rows: &[&str]) -> World {
        self.by_hand(PLAIN);
        for row in rows {
            self.by_hand(&format!(
                "INSERT INTO cart_abandonment_log (user_id, email, cart_hash, email_sent, created_at) VALUES ({row})"
            ));
        }
        self
    }

    /// Runs SQL on the ledger's file, as no command would.
    pub fn by_hand(&self, sql: &str) {
        let file = Connection::open(self.ledger_file()).expect("the file opens");
        file.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        file.execute_batch(sql).unwrap_or_else(|err| panic!("{sql}: {err}"));
    }

    /// The values of one column of a query, NULL as `-`, joined by spaces.
    pub fn list(&self, sql: &str) -> String {
        let rows = self.rows(sql);
        let values: Vec<String> = rows
            .iter()
            .filter_map(|row| row.values().next().cloned())
            .map(|value| value.unwrap_or("-".into()))
            .collect();
        values.join(" ")
    }

    /// Everything in the file that a command may change: tables, rows and row ids.
    pub fn whole_file(&self) -> String {
        let ledger = self.ledger();
        let mut text = self.list("SELECT sql FROM sqlite_schema ORDER BY name");
        for table in self.list("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").split(' ') {
            let mut rows = ledger.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
            let columns = rows.column_count();
            let mut rows = rows.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                for at in 0..columns {
                    text.push_str(&format!("{:?}|", row.get_ref(at).unwrap()));
                }
                text.push('\n');
            }
        }
        text
    }
}
