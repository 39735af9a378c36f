//! Kinds of database servers.

/// What kind of server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// MySQL or MariaDB.
    MySql,
    Postgres,
}

impl Engine {
    /// The name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Engine::MySql => "MySQL",
            Engine::Postgres => "PostgreSQL",
        }
    }

    /// The word in `source.kind`, which also begins its addresses.
    pub fn word(self) -> &'static str {
        match self {
            Engine::MySql => "mysql",
            Engine::Postgres => "postgres",
        }
    }

    pub fn port(self) -> u16 {
        match self {
            Engine::MySql => 3306,
            Engine::Postgres => 5432,
        }
    }
}
