//! Power loss: a run's writes recorded, then replayed so that at every step whatever was not fsynced may be missing. Every
//! image must be a whole ledger that has forgotten no armed message, and the next run on it must send none twice.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs;
use std::hash::{Hash as _, Hasher as _};

use rusqlite::Connection;

use super::disk::{self, Disk, Image};
use super::place::Place;
use super::record::{Recorder, Step, inode};
use super::scene::{Prepared, Scene, Way};
use super::{Chance, Extent, Tally, try_all};

/// What is changed in the recording before it is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slip {
    None,
    /// The fsync that arming made is left out, as `synchronous=NORMAL` would.
    ArmingIsNotSynced,
}

/// What the replay of one scene found.
#[derive(Debug, Default)]
pub struct Replay {
    /// Of the images.
    pub whole: Tally,
    /// Of those that the real command was then run on until nothing was left to try.
    pub runs: Tally,
}

/// One instant of a recording: how far the run had come, and what the disk holds then, certainly or perhaps.
struct Instant {
    step: usize,
    disk: Disk,
    bodies_out: BTreeSet<String>,
}

/// Replays the scene's run. The real command is run on one in `real` of the images.
pub fn replay(scene: &Scene, extent: Extent, slip: Slip, real: usize) -> Replay {
    let prepared = scene.prepare();
    let place = Place::of(&prepared);
    // What is on disk for certain, the server's address being right.
    let mut before = prepared.clone();
    before.read(place.path(""));
    let inodes = |name: &str| inode(place.path(name));
    let mut disk = Disk::holding(&before.files, inodes);
    let mut bodies_out = begun_before(&place);
    let mut recorder = Recorder::new(&place.path(""));
    place.traced(scene.starts_at(), &mut recorder);
    let mut steps = recorder.steps;
    let bodies = steps.iter().filter(|step| matches!(step, Step::BodyOut { .. })).count();
    // In steps, the first half has gone before.
    let due = if scene.in_steps { scene.messages / 2 } else { scene.messages };
    let expected = due - usize::from(scene.after_a_kill) - usize::from(scene.one_deferred);
    assert_eq!(bodies, expected, "{}: not every body was seen to leave", scene.name);
    if slip == Slip::ArmingIsNotSynced {
        let all = steps.len();
        steps = without_the_sync_of_arming(steps);
        assert!(steps.len() < all, "{}: no fsync was seen to arm", scene.name);
    }
    let mut instants = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        disk.take(step);
        if let Step::BodyOut { message_id } = step {
            bodies_out.insert(message_id.clone());
        }
        // The instant at which a body leaves is the one that matters the most.
        if extent.tries(n, matches!(step, Step::BodyOut { .. })) {
            instants.push(Instant { step: n, disk: disk.clone(), bodies_out: bodies_out.clone() });
        }
    }
    let runs = std::sync::Mutex::new(Tally::default());
    let whole = try_all(&instants, |instant| {
        let mut tally = Tally::default();
        let mut seen = HashSet::new();
        for (n, loss) in instant.disk.losses(&mut Chance::new(instant.step as u64)).iter().enumerate() {
            let image = &instant.disk.image(loss);
            if !seen.insert(hash(image)) {
                continue;
            }
            tally.tried += 1;
            let at = format!("step {} of {}, {}, lost {loss:?}", instant.step, steps.len(), what(&steps[instant.step]));
            for problem in look_at(image, instant, scene) {
                tally.broken.push(format!("{at}: {problem}"));
            }
            // By a rule that meets every kind of image at every kind of step.
            if real > 0 && (instant.step * 7 + n) % real == 0 {
                let mut one = run_on(image, instant, &prepared);
                one.broken.iter_mut().for_each(|problem| *problem = format!("{at}: {problem}"));
                runs.lock().unwrap().add(&one);
            }
        }
        tally
    });
    let mut replay = Replay { whole, runs: runs.into_inner().unwrap() };
    replay.whole.broken.extend(replay.runs.broken.iter().cloned());
    replay
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "power loss")
    }
}

fn hash(image: &Image) -> u64 {
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    hasher.finish()
}

fn what(step: &Step) -> String {
    match step {
        Step::Written { offset, bytes, .. } => format!("{} bytes written at {offset}", bytes.len()),
        step => format!("{step:?}"),
    }
}

/// The messages whose bodies an earlier run had begun.
fn begun_before(place: &Place) -> BTreeSet<String> {
    let ledger = place.ledger().expect("the ledger");
    let mut statement = ledger.prepare("SELECT message_id FROM message WHERE state <> 'planned'").expect("a query");
    let ids = statement.query_map([], |row| row.get(0)).expect("rows");
    ids.map(|id| id.expect("a row")).collect()
}

/// Leaves out every fsync of the write-ahead log between the request for a body and its first byte.
fn without_the_sync_of_arming(steps: Vec<Step>) -> Vec<Step> {
    let mut asked = false;
    let mut kept = Vec::new();
    for step in steps {
        match &step {
            Step::AskedFor => asked = true,
            Step::BodyOut { .. } => asked = false,
            Step::Synced { name, .. } if asked && name.ends_with("-wal") => continue,
            _ => {}
        }
        kept.push(step);
    }
    kept
}

/// What is wrong with an image as it stands.
fn look_at(image: &Image, instant: &Instant, scene: &Scene) -> Vec<String> {
    let folder = crate::support::folder();
    disk::write(image, folder.path());
    let look = || -> rusqlite::Result<Vec<String>> {
        let mut problems = Vec::new();
        let ledger = Connection::open(folder.path().join("mailonce.db"))?;
        let integrity: String = ledger.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        if integrity != "ok" {
            problems.push(format!("damaged: {integrity}"));
        }
        let mut statement = ledger.prepare("SELECT message_id, state FROM message")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        let mut forgotten = instant.bodies_out.clone();
        for row in rows {
            let (message_id, state) = row?;
            if state != "planned" {
                forgotten.remove(&message_id);
            }
            if state == "sent" && !instant.bodies_out.contains(&message_id) {
                problems.push(format!("{message_id} is sent, and its body had not left"));
            }
            let token = message_id.trim_start_matches('<').split('@').next().unwrap_or_default();
            if state == "sent" && scene.way == Way::File && !image.contains_key(&format!("outbox/{token}.eml")) {
                problems.push(format!("{message_id} is sent, and its file is lost"));
            }
        }
        problems.extend(forgotten.into_iter().map(|id| format!("forgotten: the body of {id} had left")));
        Ok(problems)
    };
    look().unwrap_or_else(|err| vec![format!("the ledger cannot be read: {err}")])
}

/// The real command on an image, until nothing is left to try. Every body that had left counts as accepted.
fn run_on(image: &Image, instant: &Instant, prepared: &Prepared) -> Tally {
    let mut after = prepared.clone();
    after.files = image.iter().map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
    // The configuration of the recording names its server; that of the scene is replaced by a new one's.
    let config = |files: &[(String, Vec<u8>)]| files.iter().position(|(name, _)| name == "mailonce.toml");
    if let (Some(now), Some(then)) = (config(&after.files), config(&prepared.files)) {
        after.files[now] = prepared.files[then].clone();
    }
    let place = Place::of(&after);
    if prepared.scene.way != Way::File {
        let lines: Vec<String> =
            instant.bodies_out.iter().map(|id| serde_json::json!({"message_id": id}).to_string() + "\n").collect();
        fs::write(place.path("accepted"), lines.concat()).expect("the record");
    }
    place.until_quiet()
}

#[test]
fn after_a_power_loss_at_any_step_no_armed_message_is_forgotten() {
    let mut whole = Tally::default();
    for (name, every) in
        [("detect, SMTP", 5), ("detect, file", 7), ("detect, SMTP, ledger put back by VACUUM INTO", 17)]
    {
        let replay = replay(&Scene::named(name), Extent::Every(every), Slip::None, 61);
        replay.whole.must_hold();
        replay.runs.must_hold();
        whole.add(&replay.whole);
    }
    println!("{} images", whole.tried);
}

#[test]
fn the_replay_notices_when_arming_is_not_synced() {
    let replay = replay(&Scene::named("detect, SMTP"), Extent::Every(1000), Slip::ArmingIsNotSynced, 0);
    let forgotten = replay.whole.broken.iter().filter(|problem| problem.contains("forgotten")).count();
    assert!(forgotten > 0, "{} images, and none had forgotten the armed message", replay.whole.tried);
}
