//! The whole proof, every point of it: `cargo bench --bench proof`. It prints the tables of `docs/proof.md`.
//!
//! One part alone: `cargo bench --bench proof -- crash`. It ends with exit code 1 when the promise was broken anywhere.

#[path = "../tests/integration/proof/mod.rs"]
mod proof;
#[path = "../tests/integration/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use proof::machine::Failing;
use proof::meddle::Meddling;
use proof::power::Slip;
use proof::scene::{SCENES, Scene, Way};
use proof::watch::Body;
use proof::{Extent, Tally, crash, faults, machine, meddle, power, random, try_all};
use support::Kind;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|word| word == part);
    println!("{}", env!("CARGO_BIN_EXE_mailonce"));
    let began = Instant::now();
    let mut all = Tally::default();
    if is_wanted("crash") {
        crashes(&mut all);
    }
    if is_wanted("faults") {
        faulty(&mut all);
    }
    if is_wanted("machine") {
        machines(&mut all);
    }
    if is_wanted("power") {
        powers(&mut all);
    }
    if is_wanted("meddle") {
        meddlings(&mut all);
    }
    if is_wanted("random") {
        sequences(&mut all);
    }
    println!("\nin all: {} tries in {:.0} s, {} broken", all.tried, began.elapsed().as_secs_f64(), all.broken.len());
    for problem in all.broken.iter().take(50) {
        println!("BROKEN {problem}");
    }
    std::process::exit(i32::from(!all.broken.is_empty()));
}

fn head(first: &str) {
    println!("\n| {first} | tried | of these with a message in doubt | messages in doubt | promise broken |");
    println!("|---|---|---|---|---|");
}

fn crashes(all: &mut Tally) {
    let mut by_body: BTreeMap<Body, Tally> = BTreeMap::new();
    head("killed at every system call");
    for scene in SCENES.iter().filter(|scene| scene.shop.can_be_had()) {
        let matrix = crash::matrix(scene, Extent::All);
        println!("| {} | {} |", scene.name, matrix.whole);
        // After a killed run there is a message in doubt wherever this one is killed.
        for (body, tally) in matrix.by_body.iter().filter(|_| !scene.after_a_kill) {
            by_body.entry(*body).or_default().add(tally);
        }
        all.add(&matrix.whole);
    }
    head("where the run stood (one connection in the clear, or files)");
    for (body, tally) in &by_body {
        println!("| {} | {} |", body.words(), tally);
    }
}

fn machines(all: &mut Tally) {
    let mut by_failing: BTreeMap<Failing, (Tally, BTreeMap<i32, usize>)> = BTreeMap::new();
    for name in
        ["detect, file", "detect, SMTP", "run-campaigns, SMTP, 3 connections", "detect, SMTP, after a killed run"]
    {
        let prepared = Scene::named(name).prepare();
        for failing in Failing::ALL {
            let failures = machine::failures(&prepared, failing, Extent::All);
            let (tally, codes) = by_failing.entry(failing).or_default();
            tally.add(&failures.whole);
            for (code, ends) in failures.ends {
                *codes.entry(code).or_default() += ends.len();
            }
            all.add(&failures.whole);
        }
    }
    head("one system call after the other fails (exit codes of the failing runs)");
    for (failing, (tally, codes)) in &by_failing {
        let codes: Vec<String> = codes.iter().map(|(code, runs)| format!("{code}: {runs}")).collect();
        println!("| {} ({}) | {} |", failing.words(), codes.join(", "), tally);
    }
}

fn powers(all: &mut Tally) {
    println!(
        "\n| images after a power loss | images | of these run on to the end | with a message in doubt | promise broken |"
    );
    println!("|---|---|---|---|---|");
    // A shop on a server leaves nothing in the images that one in a file does not.
    let in_a_file = SCENES.iter().filter(|scene| !matches!(scene.shop, Kind::Server(_)));
    for scene in in_a_file.filter(|scene| scene.is_legible() || scene.way == Way::Smtp(3)) {
        let replay = power::replay(scene, Extent::All, Slip::None, 23);
        let broken = replay.whole.broken.len();
        println!(
            "| {} | {} | {} | {} | {broken} |",
            scene.name, replay.whole.tried, replay.runs.tried, replay.runs.with_doubt
        );
        all.add(&replay.whole);
    }
    let slip = power::replay(&Scene::named("detect, SMTP"), Extent::All, Slip::ArmingIsNotSynced, 0);
    let forgotten = slip.whole.broken.iter().filter(|problem| problem.contains("forgotten")).count();
    println!("with the fsync of arming left out: {forgotten} of {} images have forgotten a message", slip.whole.tried);
    assert!(forgotten > 0, "the replay is blind");
}

fn meddlings(all: &mut Tally) {
    head("someone meddles at every system call");
    for meddling in Meddling::ALL {
        let mut tally = Tally::default();
        for name in ["detect, SMTP", "run-campaigns, file"] {
            tally.add(&meddle::meddle(&Scene::named(name).prepare(), meddling, Extent::All));
        }
        println!("| {} | {} |", meddling.words(), tally);
        all.add(&tally);
    }
}

/// Some sequences that never change, and two new ones each time; `MAILONCE_SEED` plays one alone.
fn sequences(all: &mut Tally) {
    const STEPS: usize = 1000;
    let seed: Option<u64> = std::env::var("MAILONCE_SEED").ok().and_then(|seed| seed.parse().ok());
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seeds = seed.map_or_else(|| vec![1, 2, 3, 4, clock, clock + 1], |seed| vec![seed]);
    println!("\nsequences of {STEPS} steps, seeds {seeds:?}");
    head("by chance");
    let tally = try_all(&seeds, |seed| random::play(*seed, STEPS));
    println!("| steps of {} sequences | {} |", seeds.len(), tally);
    println!("messages sent {}, in doubt {}", tally.sent, tally.in_doubt);
    all.add(&tally);
}

fn faulty(all: &mut Tally) {
    head("one fault of the server, each at each stage");
    for name in ["detect, SMTP", "detect, SMTP with STARTTLS and AUTH", "run-campaigns, SMTP, 3 connections"] {
        let tally = faults::faults(&Scene::named(name).prepare(), |_, _| true);
        println!("| {name} | {tally} |");
        all.add(&tally);
    }
}
