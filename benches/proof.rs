//! The whole proof, every point of it: `cargo bench --bench proof`. It prints the tables of `docs/proof.md`.
//!
//! One part alone: `cargo bench --bench proof -- crash`. It ends with exit code 1 when the promise was broken anywhere.

#[path = "../tests/integration/proof/mod.rs"]
mod proof;
#[path = "../tests/integration/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::Instant;

use proof::scene::SCENES;
use proof::watch::Body;
use proof::{Extent, Tally, crash};

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|word| word == part);
    println!("{}", env!("CARGO_BIN_EXE_mailonce"));
    let began = Instant::now();
    let mut all = Tally::default();
    if is_wanted("crash") {
        crashes(&mut all);
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
    for scene in &SCENES {
        let matrix = crash::matrix(scene, Extent::All);
        println!("| {} | {} |", scene.name, matrix.whole);
        for (body, tally) in &matrix.by_body {
            by_body.entry(*body).or_default().add(tally);
        }
        all.add(&matrix.whole);
    }
    head("where the run stood (one connection in the clear, or files)");
    for (body, tally) in &by_body {
        println!("| {} | {} |", body.words(), tally);
    }
}
