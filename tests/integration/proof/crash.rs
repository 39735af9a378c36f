//! Killed at every system call: one run for each, then later runs until nothing is left to try.

use std::collections::BTreeMap;

use super::place::Place;
use super::scene::{Prepared, Scene};
use super::watch::{Body, KillAt, Survey};
use super::{Extent, Tally, try_all};

/// What became of the crash points of one scene.
#[derive(Debug, Default)]
pub struct Matrix {
    pub whole: Tally,
    /// By where the run stood; empty where that cannot be seen.
    pub by_body: BTreeMap<Body, Tally>,
}

/// Kills the scene's run at the points that `extent` names.
pub fn matrix(scene: &Scene, extent: Extent) -> Matrix {
    let prepared = scene.prepare();
    let bodies = survey(&prepared);
    let crucial = |n: usize| scene.is_legible() && bodies[n - 1].is_crucial();
    let points: Vec<usize> = (1..=bodies.len()).filter(|n| extent.tries(*n, crucial(*n))).collect();
    let mut matrix = Matrix::default();
    if extent == Extent::All {
        // With several connections a run may make more calls than the one surveyed: on until one is not reached.
        let mut next = bodies.len() + 1;
        while let Some((tally, body)) = kill_at(&prepared, next) {
            matrix.add(body, scene, &tally);
            next += 1;
        }
    }
    let by_body = std::sync::Mutex::new(Vec::new());
    let whole = try_all(&points, |n| match kill_at(&prepared, *n) {
        Some((tally, body)) => {
            by_body.lock().unwrap().push((body, tally.clone()));
            tally
        }
        None => Tally::default(),
    });
    for (body, tally) in by_body.into_inner().unwrap() {
        matrix.add(body, scene, &Tally { broken: Vec::new(), ..tally });
    }
    matrix.whole.broken.extend(whole.broken);
    matrix
}

impl Matrix {
    fn add(&mut self, body: Body, scene: &Scene, tally: &Tally) {
        self.whole.add(tally);
        if scene.is_legible() {
            self.by_body.entry(body).or_default().add(tally);
        }
    }
}

/// Where each call of an unbroken run stands. The run itself must keep the promise, with nothing in doubt.
fn survey(prepared: &Prepared) -> Vec<Body> {
    let place = Place::of(prepared);
    let mut survey = Survey::default();
    let code = place.traced(prepared.scene.starts_at(), &mut survey);
    // A run that finds what a killed one left calls a person.
    let expected = i32::from(prepared.scene.after_a_kill && prepared.scene.way != super::scene::Way::File);
    assert_eq!(code, expected, "{}: {}", prepared.scene.name, place.said());
    let tally = place.until_quiet();
    tally.must_hold();
    assert_eq!(tally.in_doubt, expected as usize, "{}: an unbroken run leaves no doubt", prepared.scene.name);
    assert!(survey.bodies.len() > 100, "{}: only {} calls were seen", prepared.scene.name, survey.bodies.len());
    if prepared.scene.is_legible() {
        for body in Body::ALL {
            assert!(survey.bodies.contains(&body), "{}: no call was seen at {body:?}", prepared.scene.name);
        }
    }
    survey.bodies
}

/// `None` when the run ended before its n-th call.
fn kill_at(prepared: &Prepared, n: usize) -> Option<(Tally, Body)> {
    let place = Place::of(prepared);
    let mut killer = KillAt::number(n);
    let code = place.traced(prepared.scene.starts_at(), &mut killer);
    let body = killer.killed?;
    let mut tally = place.until_quiet();
    if code != 128 + libc::SIGKILL {
        tally.broken.push(format!("killed, it ended with {code}"));
    }
    tally.broken.iter_mut().for_each(|problem| *problem = format!("killed at call {n} ({body:?}): {problem}"));
    Some((tally, body))
}

#[test]
fn killed_at_any_system_call_no_message_goes_twice_and_none_is_lost() {
    let mut tried = 0;
    for (name, every) in [
        ("detect, file", 61),
        ("detect, SMTP", 67),
        ("detect, SMTP, 3 connections", 83),
        ("detect, SMTP, after a killed run", 71),
        ("detect, SMTP, second of three steps", 97),
        ("run-campaigns, SMTP", 97),
        ("detect, SMTP, MariaDB shop", 97),
        ("detect, SMTP, PostgreSQL shop", 101),
    ] {
        let scene = Scene::named(name);
        if !scene.shop.can_be_had() {
            continue;
        }
        let matrix = matrix(&scene, Extent::Every(every));
        matrix.whole.must_hold();
        tried += matrix.whole.tried;
        for (body, tally) in &matrix.by_body {
            // Only where the body may have left can there be doubt.
            let doubt = matches!(body, Body::AskedFor | Body::WithTheServer | Body::Answered);
            assert!(doubt || tally.in_doubt == 0 || name.contains("after"), "{name}, {body:?}: {tally:?}");
        }
    }
    println!("{tried} crash points");
}
