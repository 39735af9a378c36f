//! The scenes in which runs are broken: a command, a way of sending, and a few messages due.

use std::fs;
use std::sync::Arc;

use super::place::{Place, RECORD};
use super::watch::{Body, KillAt};
use crate::support::{Act, Cart, Database, Engine, Kind, Plan, Server, Stage, World, definition, people};

/// How a scene sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    File,
    /// In the clear to a server on loopback, over so many connections.
    Smtp(i64),
    /// STARTTLS and AUTH.
    Protected,
}

/// One scene.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    pub name: &'static str,
    pub command: &'static str,
    pub way: Way,
    pub shop: Kind,
    pub messages: usize,
    /// A run before this one was killed with a body out; the server had taken the message.
    pub after_a_kill: bool,
    /// The server defers the first message at RCPT, and refuses none.
    pub one_deferred: bool,
    /// The ledger is a copy made by `VACUUM INTO`, put back: it keeps a rollback journal, no write-ahead log.
    pub vacuumed: bool,
    /// The run is the one of the second of three steps, with a coupon code, under a cap; the first has gone.
    pub in_steps: bool,
}

const PLAIN: Scene = Scene {
    name: "detect, file",
    command: "detect",
    way: Way::File,
    shop: Kind::JsonLines,
    messages: 2,
    after_a_kill: false,
    one_deferred: false,
    vacuumed: false,
    in_steps: false,
};

/// All of them; the first of each kind of command and transport is the one that tests in a hurry use.
pub const SCENES: [Scene; 15] = [
    PLAIN,
    Scene { name: "detect, SMTP", way: Way::Smtp(1), ..PLAIN },
    Scene { name: "detect, SMTP, 3 connections", way: Way::Smtp(3), messages: 4, ..PLAIN },
    Scene { name: "detect, SMTP with STARTTLS and AUTH", way: Way::Protected, ..PLAIN },
    Scene {
        name: "detect, SMTP, SQLite shop, one deferred",
        way: Way::Smtp(1),
        shop: Kind::Sqlite,
        one_deferred: true,
        ..PLAIN
    },
    Scene { name: "detect, SMTP, after a killed run", way: Way::Smtp(1), after_a_kill: true, ..PLAIN },
    Scene { name: "detect, file, after a killed run", after_a_kill: true, ..PLAIN },
    Scene { name: "run-campaigns, file", command: "run-campaigns", ..PLAIN },
    Scene { name: "run-campaigns, SMTP", command: "run-campaigns", way: Way::Smtp(1), ..PLAIN },
    Scene {
        name: "run-campaigns, SMTP, 3 connections",
        command: "run-campaigns",
        way: Way::Smtp(3),
        messages: 4,
        ..PLAIN
    },
    Scene {
        name: "run-campaigns, SMTP, after a killed run",
        command: "run-campaigns",
        way: Way::Smtp(1),
        after_a_kill: true,
        ..PLAIN
    },
    Scene { name: "detect, SMTP, ledger put back by VACUUM INTO", way: Way::Smtp(1), vacuumed: true, ..PLAIN },
    Scene { name: "detect, SMTP, second of three steps", way: Way::Smtp(1), messages: 4, in_steps: true, ..PLAIN },
    Scene { name: "detect, SMTP, MariaDB shop", way: Way::Smtp(1), shop: Kind::Server(Engine::MariaDb), ..PLAIN },
    Scene { name: "detect, SMTP, PostgreSQL shop", way: Way::Smtp(1), shop: Kind::Server(Engine::Postgres), ..PLAIN },
];

impl Scene {
    pub fn named(name: &str) -> Scene {
        *SCENES.iter().find(|scene| scene.name == name).unwrap_or_else(|| panic!("no scene {name:?}"))
    }

    /// Whether the dialogue can be followed from outside: one connection, in the clear.
    pub fn is_legible(&self) -> bool {
        matches!(self.way, Way::File | Way::Smtp(1))
    }

    /// The server of this scene.
    pub fn plan(&self) -> Plan {
        let plan = Plan::accepting();
        let plan = match self.way {
            Way::Protected => plan.starttls().auth("hello", "a password"),
            _ => plan,
        };
        if self.one_deferred { plan.nth(Stage::Rcpt, 1, Act::Code(451)) } else { plan }
    }

    /// When the run that is to be broken starts. Later ones follow every two hours.
    pub fn starts_at(&self) -> &'static str {
        match self.command {
            // 23 hours after the first.
            "detect" if self.in_steps => "2026-03-02T11:00:00Z",
            "detect" => "2026-03-01T12:00:00Z",
            _ => "2026-03-02T09:00:00Z",
        }
    }

    /// Makes the scene once; every try then gets a copy of it.
    pub fn prepare(&self) -> Prepared {
        let taken = crate::support::folder();
        let server = Server::start(self.plan().record(taken.path().join(RECORD)));
        let carts = if self.in_steps { self.messages / 2 } else { self.messages };
        let world = match self.command {
            "detect" => World::new().source(self.shop).carts((1..=carts).map(|n| Cart::of(&format!("c{n}")))),
            _ => {
                let world = World::with_campaigns(&definition("spring", "every = \"day\"\ntime = \"09:00\""));
                world.audience("audience.csv", &people(self.messages));
                world
            }
        };
        world.write("cart.html", "<p>You left something behind.</p>\n");
        let world = match self.way {
            Way::File => world,
            Way::Smtp(connections) => world.set("mail.smtp.connections", connections).smtp(&server),
            Way::Protected => world
                .set("mail.smtp.username", "hello")
                .set("mail.smtp.password_env", "SMTP_PASSWORD")
                .env("SMTP_PASSWORD", "a password")
                .smtp(&server),
        };
        let world = if self.in_steps { in_steps(world) } else { world };
        let world = world.set("detect.template", "cart.html").init();
        if self.in_steps {
            world.write("codes.csv", "code\nA\nB\nC\nD\n");
            world.ok(["coupon", "import", "comeback", "codes.csv"]);
            world.ok(["detect"]);
            fs::copy(taken.path().join(RECORD), world.path(RECORD)).expect("what was taken so far");
        }
        if self.command == "run-campaigns" {
            // The ledger sees the campaign for the first time; nothing is due before the next morning.
            world.ok(["run-campaigns"]);
        }
        if self.vacuumed {
            let copy = world.path("copy.db");
            world.ledger().execute("VACUUM INTO ?1", [copy.display().to_string()]).expect("a copy");
            fs::rename(copy, world.ledger_file()).expect("the copy is put back");
        }
        let database = matches!(self.shop, Kind::Server(_)).then(|| world.database());
        let mut prepared = Prepared { scene: *self, files: Vec::new(), port: server.port(), ca_file: None, database };
        prepared.ca_file = server.ca_file().map(|path| path.display().to_string());
        prepared.read(world.path(""));
        if self.after_a_kill {
            let place = Place::of(&prepared);
            let mut until = KillAt::when(Body::WithTheServer);
            place.traced(self.starts_at(), &mut until);
            assert_eq!(place.count("state = 'armed'"), 1, "{}: the run before was killed with a body out", self.name);
            prepared.read(place.path(""));
            prepared.port = place.port().unwrap_or(prepared.port);
        }
        prepared
    }
}

/// Three steps, the second with a coupon code, and a cap that lets them through.
fn in_steps(world: World) -> World {
    let config = "[[step]]\nname = 'reminder'\nafter = '60m'\n[[step]]\nname = 'second'\nafter = '24h'\ncoupon = 'comeback'\n\
                  [[step]]\nname = 'last'\nafter = '72h'\n[[coupon]]\nname = 'comeback'\nwarn_below = 1\n";
    let config: toml::Table = config.parse().expect("a flow");
    let caps = toml::Value::Array(vec!["1 in 20h".into(), "5 in 7d".into()]);
    let world = world.set("detect.step", config["step"].clone()).set("coupon", config["coupon"].clone());
    world.set("detect.max_age", "5d").set("caps.per_person", caps)
}

/// The files of a scene.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub scene: Scene,
    /// By path below the folder; in the order to be written.
    pub files: Vec<(String, Vec<u8>)>,
    /// What the configuration names, to be replaced by those of the server that a try starts.
    pub port: u16,
    pub ca_file: Option<String>,
    /// Of a shop on a server. All tries read the same one, and none writes.
    pub database: Option<Arc<Database<'static>>>,
}

impl Prepared {
    pub fn read(&mut self, folder: impl AsRef<std::path::Path>) {
        self.files.clear();
        let folder = folder.as_ref();
        for sub in ["", "outbox/"] {
            let Ok(entries) = fs::read_dir(folder.join(sub)) else { continue };
            for entry in entries {
                let path = entry.expect("an entry").path();
                // The index of a write-ahead log is made anew when no one has it open.
                if path.is_file() && !path.to_string_lossy().ends_with("-shm") {
                    let name = format!("{sub}{}", path.file_name().unwrap_or_default().to_string_lossy());
                    self.files.push((name, fs::read(&path).expect("a file of the scene")));
                }
            }
        }
        self.files.sort();
    }
}
