//! Long sequences by chance: shoppers, campaigns, faults of the server, kills, overlapping runs, failing calls, a clock that
//! moves, old copies put back. After every step the ledger is compared with what the server recorded.
//!
//! A sequence is its seed; `MAILONCE_SEED=7 cargo bench --bench proof -- random` tries one again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use chrono::{DateTime, TimeDelta, Utc};

use super::machine::{Failing, Fault};
use super::watch::{At, KillAt};
use super::{Chance, Tally};
use crate::support::trace::{self, Observer};
use crate::support::{Act, Cart, Kind, Plan, Server, Stage, World, definition, people};

const STAGES: [Stage; 11] = [
    Stage::Connect,
    Stage::Banner,
    Stage::Ehlo,
    Stage::Mail,
    Stage::Rcpt,
    Stage::Data,
    Stage::Body,
    Stage::Dot,
    Stage::Taken,
    Stage::AfterDot,
    Stage::Quit,
];
const ACTS: [Act; 11] = [
    Act::Code(451),
    Act::Code(550),
    Act::Code(421),
    Act::Close,
    Act::Reset,
    Act::Garbage,
    Act::StrayBefore("250 2.0.0 stray"),
    Act::StrayAfter("250 2.0.0 stray"),
    Act::StrayAfter("354 stray"),
    Act::StrayAfter("451 4.3.0 stray"),
    Act::SplitReply,
];
const WINDOW: TimeDelta = TimeDelta::hours(24);
/// In steps, no two leave sooner after each other.
const STEP_GAP: TimeDelta = TimeDelta::hours(1);
/// Every other sequence has reminders in steps, with codes and a cap.
const IN_STEPS: &str = "[[step]]\nname = 'reminder'\nafter = '60m'\n[[step]]\nname = 'second'\nafter = '3h'\nuntil = '20h'\n\
     coupon = 'comeback'\n[[step]]\nname = 'last'\nafter = '9h'\n[[coupon]]\nname = 'comeback'\nwarn_below = 1\n";

/// One sequence under way.
struct Sequence {
    world: World,
    chance: Chance,
    now: DateTime<Utc>,
    record: PathBuf,
    carts: usize,
    /// When each shopper's cart mail was accepted last.
    mailed: BTreeMap<String, DateTime<Utc>>,
    /// Lines of the record that have been looked at.
    read: usize,
    /// Accepted before an old copy was put back: the ledger no longer knows of them.
    forgotten: BTreeSet<String>,
    /// A copy to put back: the bytes of a whole ledger, and how many messages had been accepted by then.
    copy: Option<(Vec<u8>, usize)>,
    log: Vec<String>,
    tally: Tally,
    /// A cart that is mailed again sooner than this was mailed twice.
    apart: TimeDelta,
}

/// Plays a sequence of so many steps.
pub fn play(seed: u64, steps: usize) -> Tally {
    let mut sequence = Sequence::new(seed);
    for step in 1..=steps {
        sequence.step(step);
        if !sequence.tally.broken.is_empty() {
            break;
        }
    }
    sequence.end();
    if !sequence.tally.broken.is_empty() {
        let log = sequence.log.split_off(sequence.log.len().saturating_sub(12)).join("\n");
        sequence.tally.broken.push(format!("seed {seed}; the last steps:\n{log}"));
    }
    sequence.tally
}

impl Sequence {
    fn new(seed: u64) -> Sequence {
        let world =
            World::with_campaigns(&definition("daily", "every = \"day\"\ntime = \"09:00\"")).source(Kind::JsonLines);
        world.audience("audience.csv", &people(3));
        world.write("cart.html", "<p>You left something behind.</p>\n");
        let world = world.set("detect.template", "cart.html").set("mail.smtp.connections", 1 + (seed % 3) as i64);
        for key in ["connect_timeout", "timeout", "dot_timeout"] {
            world.configure(&format!("mail.smtp.{key}"), "20s");
        }
        let server = Server::start(Plan::accepting());
        world.send_to(&server);
        let in_steps = seed.is_multiple_of(2);
        let world = if in_steps { in_steps_of(world) } else { world };
        let world = world.init();
        world.ok(["run-campaigns"]);
        if in_steps {
            let codes: Vec<String> = (0..300).map(|n| format!("CODE-{n}\n")).collect();
            world.write("codes.csv", &format!("code\n{}", codes.concat()));
            world.ok(["coupon", "import", "comeback", "codes.csv"]);
        }
        Sequence {
            record: world.path("accepted"),
            world,
            chance: Chance::new(seed),
            now: "2026-03-01T12:00:00Z".parse().expect("an instant"),
            carts: 0,
            mailed: BTreeMap::new(),
            read: 0,
            forgotten: BTreeSet::new(),
            copy: None,
            log: Vec::new(),
            tally: Tally::default(),
            apart: if in_steps { STEP_GAP } else { WINDOW },
        }
    }

    fn text(&self) -> String {
        self.now.format("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn note(&mut self, step: usize, what: String) {
        self.log.push(format!("{step} at {}: {what}", self.text()));
    }

    /// A server that takes everything but for one fault, or none.
    fn server(&mut self, faulty: bool) -> (Server, String) {
        let mut plan = Plan::accepting().record(&self.record);
        if self.chance.one_in(3) {
            plan = plan.without_pipelining();
        }
        let mut what = "a good server".to_owned();
        if faulty {
            let (stage, act) = loop {
                let (stage, act) = (self.chance.pick(&STAGES), self.chance.pick(&ACTS));
                // A server that takes a message and says that it does not lies: no client can help it.
                let lie = stage == Stage::Taken && matches!(act, Act::Code(421 | 451 | 550));
                if !lie {
                    break (stage, act);
                }
            };
            let nth = 1 + self.chance.below(4);
            plan = plan.nth(stage, nth, act);
            what = format!("a server with {act:?} at {stage:?} number {nth}");
        }
        let server = Server::start(plan);
        self.world.send_to(&server);
        (server, what)
    }

    fn step(&mut self, step: usize) {
        self.tally.tried += 1;
        self.now += TimeDelta::minutes(1 + self.chance.below(50) as i64);
        self.world.set_now(&self.text());
        self.shop(step);
        let command = if self.chance.one_in(3) { "run-campaigns" } else { "detect" };
        let faulty = self.chance.one_in(2);
        let (server, whose) = self.server(faulty);
        let (what, code, expected): (String, i32, &[i32]) = match self.chance.below(40) {
            0..18 => (command.to_owned(), self.world.run([command]).code, &[0, 1]),
            18..28 => {
                let at = 1 + self.chance.below(800);
                let code = self.traced(command, &mut KillAt::number(at));
                (format!("{command}, killed at call {at}"), code, &[0, 1, 137])
            }
            28..32 => {
                let at = 1 + self.chance.below(600);
                let other = self.chance.pick(&["detect", "run-campaigns"]);
                let mut second = self.world.command([other]);
                second.stdout(Stdio::null()).stderr(Stdio::null());
                let mut meanwhile = None;
                let mut overlap = At::new(at, || meanwhile = second.status().ok().and_then(|status| status.code()));
                let code = self.traced(command, &mut overlap);
                drop(overlap);
                if ![None, Some(0), Some(1), Some(75)].contains(&meanwhile) {
                    self.tally.broken.push(format!("an overlapping {other} ended with {meanwhile:?}"));
                }
                (format!("{command}, and {other} at its call {at}: {meanwhile:?}"), code, &[0, 1])
            }
            32..36 => {
                let (failing, at) = (self.chance.pick(&Failing::ALL), 1 + self.chance.below(120));
                let mut fault = Fault::new(failing, at, &self.world.path(""));
                let code = self.traced(command, &mut fault);
                (format!("{command}, {failing:?} number {at}"), code, &[0, 1, 74, 78])
            }
            36 => {
                let before = self.lines();
                self.world.set_now(&(self.now - TimeDelta::days(1)).format("%Y-%m-%dT%H:%M:%SZ").to_string());
                let code = self.world.run([command]).code;
                if self.lines() != before {
                    self.tally.broken.push("something was sent a day in the past".into());
                }
                // 78: a campaign's schedule may be older than the ledger's birth then; nothing is sent either way.
                (format!("{command}, a day back"), code, &[0, 1, 74, 78])
            }
            37 => {
                self.now += TimeDelta::days(1);
                self.world.set_now(&self.text());
                (format!("{command}, a day on"), self.world.run([command]).code, &[0, 1])
            }
            _ => self.old_copy(command),
        };
        drop(server);
        self.note(step, format!("{what}; {whose}: {code}"));
        if !expected.contains(&code) {
            let said = self.world.report();
            let said: String = said.lines().rev().filter(|line| line.contains("error")).take(3).collect();
            self.tally.broken.push(format!("{what} ended with exit code {code}: {said}"));
        }
        self.compare();
    }

    /// Shoppers.
    fn shop(&mut self, step: usize) {
        let one = format!("c{}", 1 + self.chance.below(self.carts.max(1)));
        match self.chance.below(8) {
            0..3 => {
                self.carts += 1;
                let touched = (self.now - TimeDelta::minutes(61)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
                self.world.put(Cart::of(&format!("c{}", self.carts)).updated(&touched));
            }
            3 if self.carts > 0 => self.world.touch(&one, &self.text()),
            4 if self.carts > 0 && self.chance.one_in(4) => self.world.order(&one, &self.text()),
            5 if self.chance.one_in(4) => {
                let address = format!("{one}@example.com");
                let word = if self.chance.one_in(2) { "add" } else { "remove" };
                let code = self.world.run(["suppress", word, &address]).code;
                self.note(step, format!("suppress {word} {address}: {code}"));
            }
            _ => {}
        }
    }

    /// A copy of the ledger is made, or an older one put back.
    fn old_copy(&mut self, command: &str) -> (String, i32, &'static [i32]) {
        let Some((copy, accepted_by_then)) = self.copy.take() else {
            let to = self.world.path("copy.db");
            let _ = fs::remove_file(&to);
            let made = self.world.ledger().execute("VACUUM INTO ?1", [to.display().to_string()]);
            let accepted = self.lines().len();
            self.copy = made.ok().and_then(|_| fs::read(&to).ok()).map(|bytes| (bytes, accepted));
            return ("a copy of the ledger".into(), 0, &[0]);
        };
        for end in ["-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{end}", self.world.ledger_file().display()));
        }
        fs::write(self.world.ledger_file(), copy).expect("the old copy");
        let before = self.lines();
        let code = self.world.run([command]).code;
        // With nothing sent since it was made it is as good as the ledger; a run that did nothing else may be unknown to both.
        if code != 74 {
            if before.len() != accepted_by_then {
                self.tally.broken.push(format!("an old copy was not noticed: exit code {code}"));
            }
            return (format!("{command} on a copy that is not old"), code, &[0, 1]);
        }
        if self.lines() != before {
            self.tally.broken.push("something was sent from an old copy".into());
        }
        let held = self.world.run(["resolve", "--restored", "--hold-back"]).code;
        if held != 0 {
            self.tally.broken.push(format!("resolve --restored --hold-back ended with {held}"));
        }
        self.forgotten.extend(self.accepted().into_keys());
        self.mailed.clear();
        (format!("{command} on an old copy"), code, &[0, 1, 74])
    }

    fn traced(&mut self, command: &str, observer: &mut dyn Observer) -> i32 {
        let mut command = self.world.command([command]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        trace::run(command, observer).unwrap_or_else(|err| panic!("the proof needs ptrace(2): {err}"))
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(&self.record).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of the record")).collect()
    }

    fn accepted(&self) -> BTreeMap<String, usize> {
        let mut accepted = BTreeMap::new();
        for line in self.lines() {
            *accepted.entry(line["message_id"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        accepted
    }

    /// The ledger and the record, after each step.
    fn compare(&mut self) {
        for line in self.lines().into_iter().skip(self.read) {
            self.read += 1;
            let to = line["to"][0].as_str().unwrap_or_default().to_owned();
            if to.starts_with('c') {
                let before = self.mailed.insert(to.clone(), self.now);
                if before.is_some_and(|before| self.now - before < self.apart) {
                    self.tally.broken.push(format!("{to} was mailed at {before:?} and again at {}", self.now));
                }
            }
        }
        let mut accepted = self.accepted();
        for message in self.world.messages() {
            let id = message.message_id.unwrap_or_default();
            let copies = accepted.remove(&id).unwrap_or(0);
            let holds = match message.state.as_str() {
                "sent" => copies == 1,
                "in_doubt" | "armed" => copies <= 1,
                _ => copies == 0 || copies == 1 && self.forgotten.contains(&id),
            };
            if !holds {
                self.tally
                    .broken
                    .push(format!("{} is {} and was accepted {copies} times", message.recipient, message.state));
            }
        }
        for (id, copies) in accepted {
            if copies > 1 || !self.forgotten.contains(&id) {
                self.tally.broken.push(format!("{id} was accepted {copies} times, and the ledger does not know it"));
            }
        }
    }

    /// With a good server, until nothing is left to try.
    fn end(&mut self) {
        let (_server, _) = self.server(false);
        for _ in 0..6 {
            self.now += TimeDelta::minutes(70);
            self.world.set_now(&self.text());
            for command in ["detect", "run-campaigns"] {
                let code = self.world.run([command]).code;
                if ![0, 1].contains(&code) {
                    self.tally.broken.push(format!("at the end {command} ended with exit code {code}"));
                }
            }
        }
        self.compare();
        let states = self.world.states();
        let of = |state: &str| states.get(state).copied().unwrap_or(0);
        if of("planned") + of("armed") > 0 {
            self.tally.broken.push(format!("never quiet: {states:?}"));
        }
        (self.tally.sent, self.tally.in_doubt) = (of("sent"), of("in_doubt"));
        if self.forgotten.is_empty() && self.world.run(["audit"]).code != 0 {
            self.tally.broken.push(format!("audit: {}", self.world.report().lines().rev().take(6).collect::<String>()));
        }
        let integrity = self.world.rows("PRAGMA integrity_check");
        if integrity[0].values().next() != Some(&Some("ok".into())) {
            self.tally.broken.push(format!("the ledger is damaged: {integrity:?}"));
        }
    }
}

fn in_steps_of(world: World) -> World {
    let config: toml::Table = IN_STEPS.parse().expect("a flow");
    let caps = toml::Value::Array(vec!["9 in 20h".into()]);
    let world = world.set("detect.step", config["step"].clone()).set("coupon", config["coupon"].clone());
    world.set("detect.max_age", "40h").set("caps.per_person", caps)
}

#[test]
fn whatever_comes_together_no_message_goes_twice() {
    let tally = super::try_all(&[1, 2], |seed| play(*seed, 60));
    tally.must_hold();
    println!("{} steps, {} sent, {} in doubt", tally.tried, tally.sent, tally.in_doubt);
}
